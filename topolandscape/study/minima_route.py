"""The route through trained minima: descents, polishing, and the lowest passes that are found between the minima.

Every stage is kept in the run when it is done; descents, polishing and passes also on the way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from topolandscape.files import Run
from topolandscape.structures import (
    Barcode,
    Descent,
    Floats,
    MergeTree,
    Minima,
    MinimaNetwork,
    PathProfile,
)
from topolandscape.structures.journal import Journal, Pace
from topolandscape.study.descents import descents
from topolandscape.study.parts import minima_of_parts, part_names, parts_of_minima, settings_of_minima
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

# Places on a path at which its profile is evaluated, at least.
_PLACES = 200
# How far the middle of a path that starts bent lies from the segment, in lengths of the segment.
_BENT = 1 / 3

_log = logging.getLogger(__name__)


def by_minima(
    landscape: Landscape,
    held_out: Landscape | None,
    starts: Floats | None,
    recipe: Recipe,
    run: Run,
    progress: bool | None,
) -> tuple[MergeTree, Barcode]:
    """Find minima and join them, or go on with it, and return the merge tree and the barcode of the trained minima.

    Parameters
    ----------
    landscape, held_out
        Of the data; and of others, to test on.
    starts
        Points to start from, (m, p); None: to be drawn.
    recipe, run, progress
        As for `run`.
    """
    if recipe.start == "constant":
        from topolandscape.landscape.starts import last_layer

        last_layer(landscape)  # a module without a linear one is refused before anything is computed
    divided = any(f"{name}/minima" in run for name in part_names(landscape, recipe))
    if "minima" not in run and (divided or (landscape.tasks is not None and "descents" not in run)):
        with _stage(1, f"{recipe.n_starts()} descents of {recipe.n_steps()} steps, and polishing, in parts"):
            parts_of_minima(landscape, starts, recipe, run, progress)
            run.save("minima", minima_of_parts(landscape, held_out, recipe, run))
    elif "minima" not in run:
        with _stage(1, f"{recipe.n_starts()} descents of {recipe.n_steps()} steps"):
            ends = descents(landscape, starts, recipe, run, progress, record_every=recipe.record_every)
        with _stage(2, "polishing their ends to minima"):
            run.save("minima", _minima(landscape, held_out, ends, recipe, run, progress))
            run.store().clear()
    found = run.load("minima", Minima)
    with _stage(3, "paths over the lowest passes between them"):
        network = _network(landscape, held_out, found, recipe, run, progress).reduced(lower=recipe.lower)
        for number, profile in enumerate(profiles(landscape, network)):
            run.save(f"profiles/{number:04d}", profile)

    from topolandscape.topology.merge import merge_tree
    from topolandscape.topology.persistence import barcode

    return merge_tree(network), barcode(network)


@contextmanager
def _stage(number: int, what: str) -> Iterator[None]:
    """Say which stage begins, and how long it took."""
    _log.info("stage %d of 3: %s", number, what)
    start = time.monotonic()
    yield
    _log.info("stage %d of 3 took %.1f s", number, time.monotonic() - start)


def _minima(
    landscape: Landscape, held_out: Landscape | None, ends: Descent, recipe: Recipe, run: Run, progress: bool | None
) -> Minima:
    from topolandscape.landscape.keeping import kept
    from topolandscape.landscape.minima import minima

    return minima(
        kept(landscape, Journal(run.store())),
        ends,
        merge=recipe.merge,
        test=held_out,
        progress=progress,
        **settings_of_minima(recipe),
    )


def _network(
    landscape: Landscape, held_out: Landscape | None, found: Minima, recipe: Recipe, run: Run, progress: bool | None
) -> MinimaNetwork:
    """Return the network of minima, gone on with from where it was, or begun."""
    from topolandscape.landscape.keeping import kept
    from topolandscape.landscape.minima import with_accuracies

    rows = [row for row, word in enumerate(found.stationary) if word != "diverged"]
    if not rows:
        raise ValueError(
            f"all {len(found)} descents diverged: their loss stopped being finite. Try a smaller learning rate in "
            "another folder."
        )
    journal = Journal(run.store())
    landscape = kept(landscape, journal)
    if "network" in run:
        start: Minima | MinimaNetwork = run.load("network", MinimaNetwork)
    else:
        start = found.rows(rows)
        if recipe.modulo_symmetry:
            start = _modulo_symmetry(landscape, start, recipe)
    if len(start) == 1:
        network = start if isinstance(start, MinimaNetwork) else _alone(start)
        run.save("network", network)
        return network
    pace = Pace()
    for network in _joining(landscape, start, recipe, progress):
        if pace.is_due():
            pace.keep(partial(run.save, "network", network))
            journal.clear()
    network = replace(network, minima=with_accuracies(landscape, network.minima, test=held_out))
    run.save("network", network)
    journal.clear()
    return network


def _modulo_symmetry(landscape: Landscape, minima: Minima, recipe: Recipe) -> Minima:
    from topolandscape.landscape.minima import merged
    from topolandscape.landscape.symmetry import brought_together

    return merged(landscape, brought_together(landscape, minima, seed=recipe.seed), tolerance=recipe.merge)


def _joining(
    landscape: Landscape, start: Minima | MinimaNetwork, recipe: Recipe, progress: bool | None
) -> Iterator[MinimaNetwork]:
    """Yield ever better networks, and say how good they are."""
    from topolandscape.landscape.network import joining

    settings = {name: getattr(recipe, name) for name in ("lower", "pairs", "explore", "seconds", "evaluations")}
    for network in joining(landscape, start, start=_first_paths(landscape, recipe), progress=progress, **settings):
        _, total, verified, _ = network.provenance["curve"][-1]
        _log.info(
            "round %d: bars of %.4g in all, %d of %d end at verified saddles; %d minima known",
            network.provenance["round"],
            total,
            verified,
            network.trained - 1,
            len(network),
        )
        yield network


def _first_paths(landscape: Landscape, recipe: Recipe) -> Callable[..., Floats]:
    """Return what makes the paths that are bent."""
    from topolandscape.landscape.passes import bent_paths, straight_paths
    from topolandscape.landscape.starts import paths_over_constant

    if recipe.start == "constant":
        return paths_over_constant(landscape)
    return straight_paths if recipe.start == "straight" else partial(bent_paths, by=_BENT, seed=recipe.seed)


def _alone(minimum: Minima) -> MinimaNetwork:
    """Return the network of one minimum, from which there is nowhere to go."""
    return MinimaNetwork(minimum, np.empty((0, 2), np.int64), np.empty(0), (), np.empty((0, 0)), ())


def profiles(landscape: Landscape, network: MinimaNetwork) -> Iterator[PathProfile]:
    """Yield the loss along each path of a network, that over the lowest pass first."""
    for row in np.argsort(network.barriers, kind="stable"):
        distances, losses, top = losses_along(landscape, network.paths[row], network.tops[row])
        yield PathProfile(tuple(network.ends[row].tolist()), distances, losses, top, network.passes[row])


def networks_of(run: Run) -> tuple[MinimaNetwork, MinimaNetwork]:
    """Return the network that a run found, and the reduced one, of which its bars and profiles are."""
    network = run.load("network", MinimaNetwork)
    return network, network.reduced(lower=run.settings.get("lower", "any"))


def profiles_of(run: Run, reduced: MinimaNetwork) -> list[PathProfile]:
    """Return the loss along each path of the reduced network of a run, as it was kept."""
    return [run.load(f"profiles/{number:04d}", PathProfile) for number in range(len(reduced.ends))]


def losses_along(landscape: Landscape, path: Floats, top: Floats) -> tuple[Floats, Floats, float]:
    """Return distances along a path (k, p), the losses there, and which distance is that of its highest point (p,)."""
    steps = np.diff(path, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    # Places count segments: 2.5 is the middle of the third.
    shares = np.clip(((top - path[:-1]) * steps).sum(1) / np.maximum(lengths**2, np.finfo(float).tiny), 0.0, 1.0)
    nearest = int(np.linalg.norm(path[:-1] + shares[:, None] * steps - top, axis=1).argmin())
    highest = nearest + shares[nearest]
    cuts = -(-_PLACES // len(steps))
    places = np.unique(np.append(np.linspace(0, len(steps), len(steps) * cuts + 1), highest))
    before = np.minimum(places.astype(np.int64), len(steps) - 1)
    beyond = places - before
    distances = np.append(0.0, np.cumsum(lengths))[before] + beyond * lengths[before]
    losses = landscape.values(path[before] + beyond[:, None] * steps[before], progress=False)
    return distances, losses, float(distances[np.searchsorted(places, highest)])
