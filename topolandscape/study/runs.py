"""One run: the folder, and the route through it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topolandscape.cluster import on_workers
from topolandscape.files import Run, bytes_in_file, read_surface
from topolandscape.structures import Barcode, Connectivity, Floats
from topolandscape.study.minima_route import by_minima
from topolandscape.study.parts import parts_of_minima
from topolandscape.study.problem import problem, trained_points
from topolandscape.study.recipe import Nonfinite, Recipe, Route
from topolandscape.study.sample_route import begin_samples, by_samples, sample_shard

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

# In the provenance of a barcode: what it was asked with that may be asked anew.
_ASKED: dict[Route, str] = {"minima": "limits", "sample": "topology"}


def run(
    recipe: Recipe,
    folder: str | Path,
    *,
    plans: Mapping[str, Mapping[str, Any]] | None = None,
    executor: Any = None,
    progress: bool | None = None,
) -> Run:
    """Compute what a recipe says, or what is still missing of it.

    Parameters
    ----------
    recipe
        What to compute.
    folder
        Where the run is kept; one that was stopped is gone on with, and ends as if it had not been.
    plans
        How the network is evaluated, as `Landscape.planned` has it. None: as is found to be fastest by trials, which
        take seconds. A run that was stopped keeps the ways of its beginning.
    executor
        Who does the tasks, as for `topolandscape.on_workers`; None: this process. What shards have computed
        (`run_shard`) is taken over, and what is missing computed.
    progress
        None: bars when stderr is a terminal; True: always; False: never.

    Returns
    -------
    Run
        Holding ``tree`` and ``barcode``. Route ``minima``: also ``descents``, where they ended; ``trajectories``, when
        asked for; ``minima``, one row a point; ``network``, with the trained minima in its first rows; and
        ``profiles/0000`` and so on, the loss along each path of the tree. The barcode and the tree are those of
        ``network.reduced()``; bars are born at the trained minima, and die where a lower one is reached, trained or met
        on the way. Route ``sample``: also ``samples``, and ``trained`` where points were trained.

    Raises
    ------
    ValueError
        The folder holds something else, or a run of other settings or data.
    BlockingIOError
        Another process computes in the folder.

    Examples
    --------
    >>> import tempfile
    >>> from topolandscape.structures import MinimaNetwork
    >>> recipe = Recipe(model="mlp:2-2-1,tanh", data="teacher_student", weight_decay=1e-3, minima=2, steps=50)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = run(recipe, folder, progress=False)
    ...     done.load("network", MinimaNetwork).trained <= 2
    True
    """
    landscape, held_out, starts, settings = _asked(recipe)
    with Run.alone(folder, settings) as result:
        _compute(result, recipe, landscape, held_out, starts, plans, executor, progress)
    return result


def run_shard(
    recipe: Recipe, folder: str | Path, shard: tuple[int, int], *, executor: Any = None, progress: bool | None = None
) -> Run:
    """Compute a part of what a recipe says: of the losses of samples, or of the descents to minima.

    Any number of processes may do so at once, on any machines that share the folder; `run` then takes over what is
    there, computes what is missing, and goes on to the barcode that it would have come to alone.

    Parameters
    ----------
    recipe, executor, progress
        As for `run`.
    folder
        Where the run is kept; the part is kept in a folder of its own below ``shards``.
    shard
        Number of the part, from 0, and how many there are.

    Returns
    -------
    Run
        The part. What all parts need (ways of evaluation, trained points of a region) is computed by the first of
        them, for which the others wait.

    Raises
    ------
    ValueError
        There is no such part, or the folder holds something else.
    BlockingIOError
        Another process computes the same part.

    Examples
    --------
    >>> import tempfile
    >>> asked = {"model": "mlp:2-1-1,tanh", "data": "teacher_student", "route": "sample", "region": "box", "points": 50}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     parts = [run_shard(Recipe(**asked), folder, (number, 2), progress=False) for number in range(2)]
    ...     run(Recipe(**asked), folder, progress=False).load("barcode", Barcode).essential.sum()
    np.int64(1)
    """
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"shard is {number}/{count}; it needs to be i/n, i from 0 to n - 1.")
    landscape, _, starts, settings = _asked(recipe)
    with Run.alone(folder, settings, patience=math.inf) as whole:
        landscape = landscape.planned(whole.once("plans", lambda: _plans(landscape, recipe.route)))
        if recipe.route == "sample" and "samples" not in whole:
            begin_samples(landscape, recipe, whole, progress)
    with whole.shard(number, count) as part, _on(landscape, executor) as shared:
        if recipe.route == "minima" and "minima" not in whole:
            parts_of_minima(shared, starts, recipe, part, progress, share=shard)
        elif recipe.route == "sample" and "samples" not in whole:
            sample_shard(shared, recipe, whole, part, progress, shard)
    return part


def _asked(recipe: Recipe) -> tuple[Landscape, Landscape | None, Floats | None, dict[str, Any]]:
    """Return the landscapes of the data and of those held out, the starts that are given, and the settings of a run."""
    given = problem(recipe)
    landscape, held_out = given.landscape(), given.landscape_held_out() if recipe.route == "minima" else None
    starts = trained_points(landscape, recipe) if recipe.checkpoints else None
    settings = recipe.settings() | {
        "sources": {**given.sources, **{file: _checksum(file) for file in recipe.checkpoints}},
        "landscape": dict(landscape.description),
    }
    if held_out is not None:
        settings["held_out"] = held_out.description["data"]
    return landscape, held_out, starts, settings


def _on(landscape: Landscape, executor: Any) -> AbstractContextManager[Landscape]:
    return nullcontext(landscape) if executor is None else on_workers(landscape, executor)


def _compute(
    result: Run,
    recipe: Recipe,
    landscape: Landscape,
    held_out: Landscape | None,
    starts: Floats | None,
    plans: Mapping[str, Mapping[str, Any]] | None,
    executor: Any,
    progress: bool | None,
) -> None:
    """Add to a run what is still missing of it."""
    asked, key = recipe.asked_anew(), _ASKED[recipe.route]
    if "barcode" in result and result.load("barcode", Barcode).provenance.get(key) == asked:
        result.store().clear()
        return
    # Ways of evaluation differ by rounding, which training amplifies: a run that goes on needs those of its beginning.
    plans = result.once("plans", lambda: plans or _plans(landscape, recipe.route))
    with _on(landscape.planned(plans), executor) as shared:
        if recipe.route == "minima":
            held_out = None if held_out is None else held_out.planned(plans)
            tree, code = by_minima(shared, held_out, starts, recipe, result, progress)
        else:
            tree, code = by_samples(shared, recipe, result, progress)
    result.save("tree", tree)
    result.save("barcode", replace(code, provenance={**code.provenance, key: asked}))
    result.store().clear()


def is_done(recipe: Recipe, folder: str | Path) -> bool:
    """Tell whether a folder holds what `run` would give for a recipe, without loading the network or its data."""
    try:
        done = Run.open(folder)
        sources = done.settings.get("sources", {})
        changed = any(_checksum(source.rpartition(":")[0] or source) != digest for source, digest in sources.items())
    except FileNotFoundError:
        return False
    wanted = json.loads(json.dumps(recipe.settings()))
    return (
        not changed
        and all(done.settings.get(name) == value for name, value in wanted.items())
        and "barcode" in done
        and done.load("barcode", Barcode).provenance.get(_ASKED[recipe.route]) == recipe.asked_anew()
    )


def run_surface(
    path: str | Path,
    folder: str | Path,
    *,
    connectivity: Connectivity = "full",
    nonfinite: Nonfinite = "raise",
    max_dim: int = 0,
) -> Run:
    """Take a loss surface that another program computed to its barcode.

    Parameters
    ----------
    path
        Its file, as for `read_surface`.
    folder
        Where the run is kept.
    connectivity, nonfinite, max_dim
        As in a `Recipe`; a run may be asked anew with others.

    Returns
    -------
    Run
        Holding ``samples``, ``tree`` and ``barcode``.

    Raises
    ------
    ValueError
        The file holds no surface, or the folder something else.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/surface.npy", [0.0, 2.0, 1.0])
    ...     run_surface(f"{folder}/surface.npy", f"{folder}/run").load("barcode", Barcode)
    Barcode(2 bars: 2 in degree 0; 1 essential)
    """
    from topolandscape.topology.complexes import grid
    from topolandscape.topology.merge import merge_tree
    from topolandscape.topology.persistence import barcode

    samples = read_surface(path)
    complex = grid(samples, connectivity=connectivity, nonfinite=nonfinite)
    tree = merge_tree(complex)
    code = barcode(complex, max_dim=max_dim) if max_dim else barcode(tree)
    settings = {"surface": str(path), "sources": {str(path): samples.provenance["source"]["sha256"]}}
    with Run.alone(folder, settings) as result:
        asked = {"connectivity": connectivity, "nonfinite": nonfinite, "max_dim": max_dim}
        result.save("samples", samples)
        result.save("tree", tree)
        result.save("barcode", replace(code, provenance={**code.provenance, _ASKED["sample"]: asked}))
    return result


def _plans(landscape: Landscape, route: Route) -> dict[str, dict[str, str | int]]:
    """Return how each kind of quantity that a route asks for is evaluated fastest."""
    return landscape.plans(("values", "gradients")) if route == "sample" else landscape.plans()


def _checksum(file: str) -> Any:
    return hashlib.sha256(bytes_in_file(file)).hexdigest()
