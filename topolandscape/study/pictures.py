"""Pictures of what a run holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from topolandscape.files import Run
from topolandscape.structures import Barcode, LossSamples, MergeTree
from topolandscape.study.minima_route import networks_of, profiles_of
from topolandscape.study.sample_route import samples_of

_Drawings = dict[str, Callable[[Any], Any]]


def pictures(
    run: Run, *, folder: str | Path | None = None, format: str = "png", min_persistence: float | None = None
) -> list[Path]:
    """Draw what a run holds: bars, merge tree, and what belongs to its route.

    Parameters
    ----------
    run
        A finished run.
    folder
        Where the pictures go; None: to the run itself.
    format
        ``png``, ``pdf`` or ``svg``.
    min_persistence
        Draw bars at least this long; None: all bars of minima, and those of samples that are longer than twice the
        noise of the losses.

    Returns
    -------
    list of Path
        The files, the main one first. Route ``minima``: bars, merge tree, and the loss along the paths of the tree.
        Route ``sample``: the contour or profile of a plane or segment, bars, merge tree, diagram.
    """
    from matplotlib.figure import Figure

    if format not in ("png", "pdf", "svg"):
        raise ValueError(f"format is {format!r}; it must be png, pdf or svg.")
    drawings = _of_minima(run, min_persistence) if "network" in run else _of_samples(run, min_persistence)
    written = []
    for stem, draw in drawings.items():
        figure = Figure(figsize=(5.5, 4.2), layout="constrained")
        draw(figure.subplots())
        save = partial(figure.savefig, format=format, dpi=200)
        written.append(run.picture(f"{stem}.{format}", save, folder=folder))
    return written


def _of_minima(run: Run, min_persistence: float | None) -> _Drawings:
    from topolandscape import plot

    _, network = networks_of(run)
    tree, code = run.load("tree", MergeTree), run.load("barcode", Barcode)
    profiles = profiles_of(run, network)
    shortest = 0.0 if min_persistence is None else min_persistence
    drawings: _Drawings = {
        "bars": lambda ax: plot.bars(
            {name_of(run): code}, ax=ax, passes={name_of(run): network.passes}, min_persistence=shortest
        ),
        "tree": lambda ax: plot.merge_tree(tree, ax=ax, passes=network.passes, min_persistence=shortest),
    }
    return drawings | ({"paths": lambda ax: plot.paths(profiles, ax=ax)} if profiles else {})


def _of_samples(run: Run, min_persistence: float | None) -> _Drawings:
    from topolandscape import plot

    tree, code = run.load("tree", MergeTree), run.load("barcode", Barcode)
    samples, known = samples_of(run, code)
    shortest = 2 * known["noise"] if min_persistence is None else min_persistence
    drawings: _Drawings = {
        "bars": lambda ax: plot.bars({name_of(run): code}, ax=ax, min_persistence=shortest),
        "tree": lambda ax: plot.merge_tree(tree, ax=ax, min_persistence=shortest),
        "diagram": lambda ax: plot.diagram(code, ax=ax),
    }
    if samples is None:  # a grid that was never in memory
        return drawings

    def contour(ax: Any) -> None:
        region = run.settings.get("region")
        points = {f"trained {i + 1}": corner for i, corner in enumerate(samples.provenance.get("corners", []))}
        if region in ("random", "pca"):
            points = {"trained": (0.0, 0.0)}
        plot.contour(samples, ax=ax, barcode=code, min_persistence=shortest, points=points)
        if region == "pca" and samples.subspace is not None:
            way = run.load("trained", LossSamples).points - samples.subspace.origin
            ax.plot(*(way @ samples.subspace.directions.T).T, color="white", linewidth=1.2)

    if samples.shape is not None and len(samples.shape) == 2:
        drawings = {"contour": contour, **drawings}
    elif samples.points.shape[1] == 1:
        drawings = {
            "profile": lambda ax: plot.profile(samples, ax=ax, barcode=code, min_persistence=shortest),
            **drawings,
        }
    return drawings


def name_of(run: Run) -> str:
    """Return what a run is called in pictures: its model, or the surface that it is of."""
    if "surface" in run.settings:
        return Path(run.settings["surface"]).stem
    return str(run.settings.get("model", "barcode"))
