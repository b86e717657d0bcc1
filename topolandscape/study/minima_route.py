"""The route through trained minima: descents, polishing, and the lowest passes that are found between the minima.

Every stage is kept in the run when it is done; descents and passes also on the way.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from topolandscape.files import Run
from topolandscape.landscape.tasks import Asked, parts_of
from topolandscape.structures import (
    Barcode,
    Descent,
    Floats,
    MergeTree,
    Minima,
    MinimaNetwork,
    PathProfile,
    Trajectories,
)
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

# Seconds of work after which it is kept, and the largest share of the time that keeping it may take.
_KEEP_AFTER, _KEEP_SHARE = 15.0, 0.05
# Places on a path at which its profile is evaluated, at least.
_PLACES = 200
# How far the middle of a path that starts bent lies from the segment, in lengths of the segment.
_BENT = 1 / 3

_Recorded = list[tuple[int, Floats, Floats]]

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
    divided = any(f"{name}/minima" in run for name in _part_names(landscape, recipe))
    if "minima" not in run and (divided or (landscape.tasks is not None and "descents" not in run)):
        with _stage(1, f"{recipe.n_starts()} descents of {recipe.n_steps()} steps, and polishing, in parts"):
            parts_of_minima(landscape, starts, recipe, run, progress)
            run.save("minima", _minima_of_parts(landscape, held_out, recipe, run))
    elif "minima" not in run:
        with _stage(1, f"{recipe.n_starts()} descents of {recipe.n_steps()} steps"):
            ends = _descents(landscape, starts, recipe, run, progress)
        with _stage(2, "polishing their ends to minima"):
            run.save("minima", _minima(landscape, held_out, ends, recipe, progress, merge=recipe.merge))
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


class _Pace:
    """Tells when it is time to keep what was computed."""

    def __init__(self) -> None:
        self._last, self._wait = time.monotonic(), _KEEP_AFTER

    def is_due(self) -> bool:
        """Tell whether there is enough new work to be kept."""
        return time.monotonic() - self._last >= self._wait

    def keep(self, save: Callable[[], None]) -> None:
        """Keep it, and mind how long that takes."""
        start = time.monotonic()
        save()
        self._last = time.monotonic()
        self._wait = max(_KEEP_AFTER, (self._last - start) / _KEEP_SHARE)


# --------------------------------------------------------------------------------------------------------------
# Descents and minima
# --------------------------------------------------------------------------------------------------------------


def _of_descents(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of the descents."""
    names = ("learning_rate", "method", "momentum", "schedule", "warm_up", "batch")
    return {"steps": recipe.n_steps()} | {name: getattr(recipe, name) for name in names}


def _descents(landscape: Landscape, starts: Floats | None, recipe: Recipe, run: Run, progress: bool | None) -> Descent:
    """Return where the descents end."""
    from topolandscape.landscape.descent import descending, initial_points

    random = np.random.default_rng(recipe.seed)
    if starts is None:
        starts = initial_points(landscape, recipe.n_starts(), seed=random)
    start = run.load("descents", Descent) if "descents" in run else starts
    recorded = _recorded(run, start.step) if isinstance(start, Descent) else []
    pace = _Pace()

    def is_recorded(step: int) -> bool:
        every = recipe.record_every
        return every is not None and (step % every == 0 or step == recipe.n_steps())

    states = descending(
        landscape,
        start,
        every=lambda step: is_recorded(step) or pace.is_due(),
        seed=random,
        progress=progress,
        **_of_descents(recipe),
    )
    for state in states:
        if is_recorded(state.step) and state.step not in (step for step, _, _ in recorded[-1:]):
            recorded.append((state.step, state.points, state.values))
        if pace.is_due() or state.step == recipe.n_steps():
            pace.keep(partial(_keep, run, state, recorded))
    return state


def _keep(run: Run, state: Descent, recorded: _Recorded) -> None:
    # The state last: what was recorded after the state that is there will be recorded again.
    if recorded:
        run.save("trajectories", _trajectories(recorded, state))
    run.save("descents", state)


def _trajectories(recorded: _Recorded, state: Descent) -> Trajectories:
    steps, points, values = zip(*recorded, strict=True)
    norms = np.linalg.norm(state.gradients, axis=1)
    return Trajectories(np.stack(points, 1), np.stack(values, 1), np.array(steps), norms)


def _recorded(run: Run, until: int) -> _Recorded:
    """Return what was recorded of the descents up to a step."""
    if "trajectories" not in run:
        return []
    known = run.load("trajectories", Trajectories)
    return [
        (int(step), known.points[:, column], known.values[:, column])
        for column, step in enumerate(known.steps)
        if step <= until
    ]


def _minima(
    landscape: Landscape,
    held_out: Landscape | None,
    ends: Descent,
    recipe: Recipe,
    progress: bool | None,
    *,
    merge: float | None,
) -> Minima:
    from topolandscape.landscape.minima import minima

    return minima(
        landscape,
        ends,
        seed=recipe.seed,
        tolerance=recipe.tolerance,
        max_evaluations=recipe.max_evaluations,
        merge=merge,
        test=held_out,
        progress=progress,
        **_of_descents(recipe),
    )


# --------------------------------------------------------------------------------------------------------------
# Descents in parts
# --------------------------------------------------------------------------------------------------------------


def parts_of_minima(
    landscape: Landscape,
    starts: Floats | None,
    recipe: Recipe,
    run: Run,
    progress: bool | None,
    *,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Descend and polish part by part, each a task that is kept when it is done.

    Parameters
    ----------
    landscape, starts, recipe, run, progress
        As for `by_minima`.
    share
        Number of this shard and how many there are: of the parts only every so many-th is done.
    """
    from topolandscape.landscape.descent import initial_points

    random = np.random.default_rng(recipe.seed)
    if starts is None:
        starts = initial_points(landscape, recipe.n_starts(), seed=random)
    names = _part_names(landscape, recipe)
    parts = [starts[rows] for rows in parts_of(landscape.description, len(starts))]
    missing = [number for number, name in enumerate(names) if f"{name}/minima" not in run]
    own = [number for number in missing if number % share[1] == share[0]]
    if 0 < len(own) < len(parts) and share == (0, 1):
        _log.warning("%d of %d parts of the descents are missing and are computed", len(own), len(parts))
    asked: Asked = [((parts[number], recipe, copy.deepcopy(random)), {}) for number in own]
    if landscape.tasks is not None:
        done = landscape.tasks.done(_descended, asked, what="descents", progress=progress)
    else:
        bar = tqdm(asked, desc="descents", unit="part", delay=1, disable=None if progress is None else not progress)
        done = ((number, _descended(landscape, *part)) for number, (part, _) in enumerate(bar))
    for place, nouns in done:
        # The minima last: what has them is complete.
        for name, noun in nouns.items():
            run.save(f"{names[own[place]]}/{name}", noun)


def _part_names(landscape: Landscape, recipe: Recipe) -> list[str]:
    return [f"parts/{number:04d}" for number in range(len(parts_of(landscape.description, recipe.n_starts())))]


def _descended(
    landscape: Landscape, starts: Floats, recipe: Recipe, random: np.random.Generator
) -> dict[str, Descent | Trajectories | Minima]:
    """Return what becomes of some of the starts: a task."""
    from topolandscape.landscape.descent import descending

    every = recipe.record_every
    states = list(descending(landscape, starts, every=every, seed=random, progress=False, **_of_descents(recipe)))
    recorded = [(state.step, state.points, state.values) for state in states]
    return {
        "descents": states[-1],
        **({} if every is None else {"trajectories": _trajectories(recorded, states[-1])}),
        "minima": _minima(landscape, None, states[-1], recipe, False, merge=None),
    }


def _minima_of_parts(landscape: Landscape, held_out: Landscape | None, recipe: Recipe, run: Run) -> Minima:
    """Put together what was found in parts, and return the minima."""
    from topolandscape.landscape.minima import united, with_accuracies
    from topolandscape.landscape.tasks import joined

    names = _part_names(landscape, recipe)
    ends = [run.load(f"{name}/descents", Descent) for name in names]
    run.save("descents", joined(ends, moments=np.concatenate([end.moments for end in ends], axis=1)))
    if recipe.record_every is not None:
        ways = [run.load(f"{name}/trajectories", Trajectories) for name in names]
        run.save("trajectories", joined(ways, steps=ways[0].steps))
    found = united(landscape, [run.load(f"{name}/minima", Minima) for name in names], merge=recipe.merge)
    return with_accuracies(landscape, found, test=held_out)


# --------------------------------------------------------------------------------------------------------------
# Network
# --------------------------------------------------------------------------------------------------------------


def _network(
    landscape: Landscape, held_out: Landscape | None, found: Minima, recipe: Recipe, run: Run, progress: bool | None
) -> MinimaNetwork:
    """Return the network of minima, gone on with from where it was, or begun."""
    from topolandscape.landscape.minima import with_accuracies

    rows = [row for row, word in enumerate(found.stationary) if word != "diverged"]
    if not rows:
        raise ValueError(
            f"all {len(found)} descents diverged: their loss stopped being finite. Try a smaller learning rate in "
            "another folder."
        )
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
    pace = _Pace()
    for network in _joining(landscape, start, recipe, progress):
        if pace.is_due():
            pace.keep(partial(run.save, "network", network))
    network = replace(network, minima=with_accuracies(landscape, network.minima, test=held_out))
    run.save("network", network)
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
