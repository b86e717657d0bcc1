"""Passes between minima: paths bent until their highest loss is as low as it gets.

All points of all paths are evaluated in the same calls of the loss engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from topolandscape.landscape.keeping import resumable
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.polishing import dot
from topolandscape.landscape.quasi_newton import History, inner_product
from topolandscape.landscape.tasks import in_parts, joined
from topolandscape.landscape.workers import by_threads
from topolandscape.structures import Floats, Integers
from topolandscape.structures.journal import Arrays, Halfway

Booleans = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

# Steps after which it is asked whether the highest loss still falls.
_CYCLE = 20
# Shares of a segment: steps that are always tried, and the smallest.
_STEP, _SMALLEST_STEP = 0.02, 1e-4
# Times that it did not fall after which a path has converged.
_IDLE = 2
# Numbers that the memory of the quasi-Newton steps may hold: 1 GiB.
_REMEMBERED = 2**27


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of k points each, joined by straight segments, and the highest loss on each.

    Attributes
    ----------
    points
        The first and the last are the ends; shape (b, k, p).
    values
        Losses at the points, shape (b, k).
    highest
        Highest loss found on the segments, by `highest_on`; an upper bound of the lowest pass, shape (b,).
    tops
        Where, shape (b, p).
    converged
        Whether the highest loss had stopped falling, shape (b,).
    curve
        Rows of (gradients evaluated for one path, mean of `highest` over the paths), as the paths were bent.
    """

    points: Floats
    values: Floats
    highest: Floats
    tops: Floats
    converged: Booleans
    curve: Floats = field(default_factory=lambda: np.empty((0, 2)))

    def __len__(self) -> int:
        """Return the number of paths."""
        return len(self.points)

    def __repr__(self) -> str:
        """Return one line: number, points, highest losses."""
        b, k, _ = self.points.shape
        span = f"{self.highest.min():.6g} to {self.highest.max():.6g}" if b else "none"
        return f"Paths({b} of {k} points, highest losses {span}, {int(self.converged.sum())} converged)"


def straight_paths(starts: ArrayLike, ends: ArrayLike, k: int = 9) -> Floats:
    """Return k points, equally spaced, on the segments from `starts` (b, p) to `ends` (b, p).

    Parameters
    ----------
    starts, ends
        Shape (b, p).
    k
        Points a path, with the ends; 3 or more.

    Returns
    -------
    float64 array
        Shape (b, k, p).

    Examples
    --------
    >>> straight_paths([[0.0, 0.0]], [[2.0, 4.0]], 3).tolist()
    [[[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]]
    """
    first, last = np.asarray(starts, dtype=np.float64), np.asarray(ends, dtype=np.float64)
    if first.ndim != 2 or first.shape != last.shape:
        raise ValueError(f"starts have shape {first.shape}, ends {last.shape}; both need to be (b, p).")
    if k < 3:
        raise ValueError(f"k is {k}; a path needs 3 points or more.")
    place = np.linspace(0.0, 1.0, k)[None, :, None]
    return np.asarray(first[:, None] * (1 - place) + last[:, None] * place)


def bent_paths(starts: ArrayLike, ends: ArrayLike, k: int = 9, *, by: float, seed: int | np.random.Generator) -> Floats:
    """Return k points on parabolas (Bezier curves of degree two) that leave the segments in random directions.

    Parameters
    ----------
    starts, ends, k
        As for `straight_paths`.
    by
        How far the middle lies from the middle of the segment, in lengths of the segment.
    seed
        Of the directions: a whole number or a numpy Generator.

    Returns
    -------
    float64 array
        Shape (b, k, p).

    Examples
    --------
    >>> path = bent_paths([[0.0, 0.0]], [[2.0, 0.0]], 3, by=0.5, seed=0)
    >>> float(np.linalg.norm(path[0, 1] - [1.0, 0.0]))
    1.0
    """
    paths = straight_paths(starts, ends, k)
    along = paths[:, -1] - paths[:, 0]
    length = np.linalg.norm(along, axis=1, keepdims=True)
    aside = np.random.default_rng(seed).standard_normal(along.shape)
    if along.shape[1] > 1:
        unit = along / np.maximum(length, np.finfo(float).tiny)
        aside -= (aside * unit).sum(1, keepdims=True) * unit
    aside *= by * length / np.linalg.norm(aside, axis=1, keepdims=True)
    place = np.linspace(0.0, 1.0, k)[None, :, None]
    return paths + 4 * place * (1 - place) * aside[:, None]


def refined(paths: Floats, k: int) -> Floats:
    """Return the same paths (b, k', p) through k points, k' or more: the new ones halve, third, ... long segments."""
    lengths = np.linalg.norm(np.diff(paths, axis=1), axis=2)
    cuts = np.ones(lengths.shape, dtype=np.int64)
    for _ in range(k - paths.shape[1]):
        cuts[np.arange(len(cuts)), (lengths / cuts).argmax(axis=1)] += 1
    positions = [np.concatenate([i + np.arange(n) / n for i, n in enumerate(own)]) for own in cuts]
    ends = np.full((len(paths), 1), paths.shape[1] - 1.0)
    return _on(paths, np.concatenate([np.reshape(positions, (len(paths), k - 1)), ends], axis=1))


def highest_on(
    landscape: Landscape, paths: ArrayLike, *, tolerance: float = 1e-4, first: int = 4
) -> tuple[Floats, Floats]:
    """Return the highest loss on each path, and where it is, evaluated ever more finely near the highest points.

    Parameters
    ----------
    landscape
        On the full data, whatever the paths were optimised on.
    paths
        Points joined by segments, shape (b, k, p).
    tolerance
        Ends when smaller steps around the highest point, as a parabola tells, change the highest loss by less than
        this share of its height above the higher end, or by no more than rounding.
    first
        Steps in which each segment is cut to begin with.

    Returns
    -------
    tuple of float64 arrays
        Highest losses (b,), infinite where a loss on the path is not finite, and points (b, p).

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: 1 - x[:, 0] ** 2, 1)
    >>> highest, tops = highest_on(landscape, [[[-1.0], [0.3], [1.0]]])
    >>> bool(abs(highest[0] - 1) < 1e-3)
    True
    """
    points = np.asarray(paths, dtype=np.float64)
    b, k, p = points.shape
    highest, tops = np.full(b, -math.inf), points[:, 0].copy()
    base = np.full(b, -math.inf)
    # Positions count segments: position 2.5 is the middle of the third.
    positions = np.tile(np.linspace(0, k - 1, (k - 1) * first + 1), (b, 1))
    step = 1.0 / first
    going = np.arange(b)
    while len(going):
        at = _on(points[going], positions)
        values = landscape.values(at.reshape(-1, p), progress=False).reshape(positions.shape)
        values = np.where(np.isfinite(values), values, math.inf)
        if step == 1.0 / first:
            base = values[:, [0, -1]].max(1)
        rows, best = np.arange(len(going)), values.argmax(1)
        found = values[rows, best]
        finite = np.isfinite(found)
        gain = np.where(finite, found, 0.0) - np.where(finite, highest[going], 0.0)
        higher = found > highest[going]
        tops[going[higher]] = at[rows[higher], best[higher]]
        highest[going] = np.maximum(highest[going], found)
        floor = np.where(finite, base[going], 0.0)
        height = np.where(finite, highest[going], 0.0) - floor
        left = finite & ((gain > np.maximum(tolerance * height, 1e-9 * np.abs(floor))) | (step > _STEP))
        centre = positions[rows, best] + step * _vertices(values, best)
        step /= 4
        if step < _SMALLEST_STEP:
            break
        positions = np.clip(centre[left, None] + step * np.arange(-4, 5), 0, k - 1)
        going = going[left]
    return highest, tops


def _vertices(values: Floats, best: Integers) -> Floats:
    """Return how far from the highest of values (b, m) parabolas through it and its neighbours are highest."""
    inner = np.clip(best, 1, values.shape[1] - 2)
    before, here, after = (values[np.arange(len(values)), inner + place] for place in (-1, 0, 1))
    with np.errstate(invalid="ignore"):
        slope, bend = (after - before) / 2, 2 * here - before - after
    known = (inner == best) & (bend > 0) & np.isfinite(bend)
    return np.where(known, slope, 0.0) / np.where(known, bend, 1.0)


def lower_paths(
    landscape: Landscape,
    paths: ArrayLike,
    *,
    points: Sequence[int] = (9, 17, 33),
    steps: int = 400,
    tolerance: float = 0.01,
    method: Literal["string", "band"] = "string",
    emphasis: float = 2.0,
    memory: int = 20,
    batch: int | None = None,
    seed: int | np.random.Generator | None = None,
    judged_on: Landscape | None = None,
    progress: bool | None = None,
) -> Paths:
    """Bend paths until their highest losses are as low as they get.

    Parameters
    ----------
    landscape
        Any; or that of some rows of the data only.
    paths
        Where to start: shape (b, k, p) or the ends only, (b, 2, p). The ends stay.
    points
        Points a path: first few, then more.
    steps
        Most steps with each number of points.
    tolerance
        A path has converged when its highest loss has fallen, twice in 20 steps, by less than this share of its height
        above the higher end.
    method
        ``"string"``: the points are redistributed along the path after each step (E, Ren and Vanden-Eijnden 2007);
        ``"band"``: springs hold them apart (nudged elastic band; Henkelman and Jonsson 2000).
    emphasis
        How much closer the points of a string stand where the loss is high; 0: everywhere equally (points are
        inserted where the loss is highest and thinned where nothing happens).
    memory
        Number of differences from which the quasi-Newton steps are made.
    batch
        Rows of a mini-batch: paths are bent on the loss of so many rows of the data, on others every 20 steps. Highest
        losses are taken on all. None: all rows.
    seed
        Of the mini-batches: a whole number or a numpy Generator.
    judged_on
        Landscape of the full data, where `landscape` has fewer rows: highest losses are taken there.
    progress
        None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    Paths
        With the lowest highest loss that was seen, and the last number of points. The cost is one gradient a point
        and step, of a mini-batch where there are some, and about four losses a point each 20 steps.

    Raises
    ------
    ValueError
        A path starts or ends where the loss is not finite; mini-batches are asked for without a seed, or of a
        landscape that has no rows.

    Notes
    -----
    The part of the gradient that is normal to the path drives the points; the tangent is that towards the neighbour
    with the higher loss. All points of a path move by one quasi-Newton step together (L-BFGS without line search, as
    Sheppard, Terrell and Henkelman 2008 found to be fastest), no point farther than a trust radius that shrinks where
    the highest loss rises. Since curvatures along a valley and across it differ by orders of magnitude, this takes
    tens of steps where the plain string method takes thousands.

    Examples
    --------
    Two minima, joined by a valley along the unit circle:

    >>> landscape = Landscape.from_function(
    ...     lambda x: 10 * (x.norm(dim=1) - 1) ** 2 + 0.1 * (1 - x[:, 0] ** 2), 2
    ... )
    >>> start = [[[-1.0, 0.0], [0.0, 0.5], [1.0, 0.0]]]
    >>> lower_paths(landscape, start, progress=False).highest.round(3).tolist()
    [0.1]
    """
    own = np.array(paths, dtype=np.float64)
    if own.ndim != 3 or own.shape[1] < 2 or own.shape[2] != landscape.dimension:
        raise ValueError(
            f"paths have shape {own.shape}; they need to be (b, k, {landscape.dimension}) with k of 2 or more."
        )
    if method not in ("string", "band"):
        raise ValueError(f"method is {method!r}; it needs to be string or band.")
    if not points or min(points) < 3:
        raise ValueError(f"points are {tuple(points)}; a path needs 3 points or more.")
    if batch is not None and seed is None:
        raise ValueError(f"batch is {batch} and seed is None; which rows are drawn needs a seed.")
    if landscape.tasks is not None and judged_on is None and len(own) > 1:
        settings: dict[str, Any] = {"points": points, "steps": steps, "tolerance": tolerance, "method": method}
        settings |= {"emphasis": emphasis, "memory": memory, "batch": batch, "seed": seed, "progress": False}
        parts = in_parts(
            landscape,
            lower_paths,
            len(own),
            lambda rows: ((own[rows],), settings),
            points=points[0],
            what="paths",
            progress=progress,
        )
        return joined(parts, curve=_mean_curve(parts))
    return _bent(
        landscape,
        own,
        tuple(points),
        steps,
        tolerance,
        method,
        emphasis,
        memory,
        batch=batch,
        seed=seed,
        judged_on=judged_on,
        progress=progress,
    )


@resumable(Paths)
def _bent(
    landscape: Landscape,
    halfway: Halfway,
    own: Floats,
    points: tuple[int, ...],
    steps: int,
    tolerance: float,
    method: str,
    emphasis: float,
    memory: int,
    *,
    batch: int | None,
    seed: int | np.random.Generator | None,
    judged_on: Landscape | None,
    progress: bool | None,
) -> Paths:
    """Do what `lower_paths` does, from where it had come."""
    judge = landscape if judged_on is None else judged_on
    random = np.random.default_rng(seed)
    curve: list[tuple[float, float]] = []
    converged = np.zeros(len(own), dtype=bool)
    spent = 0
    best, top = np.full(len(own), math.inf), own[:, 0].copy()
    kept = own
    state = halfway.known
    ends = state["ends"] if state else _values_at_ends(judge, own)

    def reached() -> Arrays:
        known = {"ends": ends, "kept": kept, "best": best, "top": top, "idle": idle, "curve": np.array(curve)}
        return {**known, "numbers": np.array([level, step, spent]), **strings.state()}

    disable = None if progress is None else not progress
    with tqdm(total=len(points) * steps, desc="bending paths", unit="steps", delay=1, disable=disable) as bar:
        for level, k in enumerate(points):
            if state and level < state["numbers"][0]:
                continue
            if state:
                _, first, spent = state["numbers"].tolist()
                kept, best, top, idle = (state[name] for name in ("kept", "best", "top", "idle"))
                curve = [(row[0], row[1]) for row in state["curve"].tolist()]
                strings = _Strings(landscape, kept, method, emphasis, memory, state)
                state = {}
            else:
                # Where points are added all others stay, so that no path is higher than it was.
                own = refined(kept, k) if kept.shape[1] <= k else _spread(kept, None, k, emphasis)
                kept = own.copy()
                best, top = highest_on(judge, own)
                if not curve:
                    curve.append((0.0, float(np.mean(best))))
                first, strings = 0, _Strings(landscape, own, method, emphasis, memory, {})
                idle = np.zeros(len(own), dtype=np.int64)
            converged = idle >= _IDLE
            for step in range(first, steps):
                going = np.flatnonzero(~converged)
                if len(going) == 0:
                    break
                if batch is None:
                    halfway.offer(reached)
                elif step % _CYCLE == 0:
                    strings.on(landscape.subset(batch, seed=int(random.integers(2**63))))
                strings.step(going)
                spent += k - 2
                bar.update()
                if step % _CYCLE == _CYCLE - 1 or step == steps - 1:
                    found, where = highest_on(judge, strings.paths[going])
                    base = np.maximum(*ends[going].T)
                    # From an infinite loss to a finite one is a gain without measure.
                    gain = np.where(np.isfinite(best[going]), best[going], np.finfo(float).max) - found
                    lower = gain > 0
                    now = going[lower]
                    kept[now], best[now], top[now] = strings.paths[now], found[lower], where[lower]
                    with np.errstate(invalid="ignore"):
                        scale = np.maximum(best[going] - base, 1e-6 * np.abs(best[going]))
                    idle[going] = np.where(gain < tolerance * scale, idle[going] + 1, 0)
                    converged = idle >= _IDLE
                    strings.calm(going[~lower], kept)
                    curve.append((float(spent), float(np.mean(best))))
            bar.update((level + 1) * steps - bar.n)
    values = judge.values(kept.reshape(-1, own.shape[2]), progress=False).reshape(kept.shape[:2])
    return Paths(kept, values, best, top, converged, np.array(curve))


def _mean_curve(parts: Sequence[Paths]) -> Floats:
    """Return the curve of paths that were bent in parts; one that ended before others stays where it is."""
    spent = np.unique(np.concatenate([part.curve[:, 0] for part in parts]))
    heights = [part.curve[np.searchsorted(part.curve[:, 0], spent, side="right") - 1, 1] for part in parts]
    return np.column_stack([spent, np.average(heights, axis=0, weights=[len(part) for part in parts])])


class _Strings:
    """Paths on their way down, each with the memory of its own quasi-Newton steps."""

    def __init__(
        self, landscape: Landscape, paths: Floats, method: str, emphasis: float, memory: int, state: Arrays
    ) -> None:
        self.paths = paths.copy()
        b, k, p = paths.shape
        self._landscape = landscape
        self._method, self._emphasis = method, emphasis
        self.values = np.full((b, k), math.inf)
        memory = max(3, min(memory, _REMEMBERED // max(1, 2 * paths.size)))
        self._history = History(b, (k - 2) * p, memory, least=1e-6)
        self._last = np.zeros((2, b, k - 2, p))  # points and forces of the step before
        self._begun = False
        length = np.linalg.norm(np.diff(paths, axis=1), axis=2).sum(1)
        self._radius = np.maximum(0.25 * length / (k - 1), 1e-12)
        if state:
            for place, array in enumerate(self._arrays):
                array[...] = state[f"strings {place}"]
            self._begun = bool(state["begun"])
        else:
            self.values[:, [0, -1]] = _values_at_ends(landscape, paths)

    @property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        """All that changes from step to step."""
        return self.paths, self.values, self._last, self._radius, *self._history.arrays

    def state(self) -> Arrays:
        """Return what is needed to go on."""
        arrays = {f"strings {place}": array for place, array in enumerate(self._arrays)}
        return arrays | {"begun": np.array(self._begun)}

    def on(self, landscape: Landscape) -> None:
        """Go on on another landscape, of which nothing is remembered."""
        self._landscape = landscape
        self.values[:, [0, -1]] = _values_at_ends(landscape, self.paths)
        self._history.forget(np.arange(len(self.paths)))
        self._begun = False

    def step(self, rows: Integers) -> None:
        """Move the inner points of some paths."""
        inner = self.paths[rows, 1:-1]
        values, force = self._landscape.gradients(inner.reshape(-1, inner.shape[2]), progress=False)
        values, force = values.reshape(inner.shape[:2]), force.reshape(inner.shape)
        by_threads(len(rows), lambda part: self._move(rows[part], values[part], force[part]), numbers=force.size)
        self._begun = True

    def _move(self, rows: Integers, values: Floats, force: Floats) -> None:
        """Move the inner points of some paths, given the losses and gradients there."""
        paths = self.paths[rows]
        here = paths[:, 1:-1].copy()
        # Where the loss is not finite there is no slope; the neighbours pull such a point back.
        lost = ~(np.isfinite(values) & np.isfinite(force).all(2))
        force[lost] = 0.0
        self.values[rows, 1:-1] = np.where(lost, math.inf, values)
        tangents = _tangents(paths, self.values[rows])
        along = _remove(force, tangents)
        if self._method == "band":
            before, after = (np.linalg.norm(d, axis=2) for d in _steps(paths))
            stiffness = np.abs(along).max(1, initial=0.0) / np.maximum(before.mean(1), 1e-300)
            force -= (np.maximum(stiffness, 1e-3)[:, None] * (after - before))[:, :, None] * tangents
        if self._begun:
            steps, changes = here - self._last[0][rows], force - self._last[1][rows]
            self._history.add(rows, steps.reshape(len(rows), -1), changes.reshape(len(rows), -1))
        self._last[0][rows], self._last[1][rows] = here, force
        move = self._history.times(rows, force.reshape(len(rows), -1)).reshape(force.shape)
        if self._method == "string":
            _remove(move, tangents)
        # A first step is as long as the largest force makes it.
        largest = np.maximum(_lengths(force).max(1), 1e-300)
        radius = self._radius[rows]
        size = np.where(self._history.is_empty(rows), 0.3 * radius / largest, 1.0)[:, None]
        move *= -np.minimum(size, radius[:, None] / np.maximum(_lengths(move), 1e-300))[:, :, None]
        if lost.any():
            before, after = _steps(paths)
            move[lost] = ((after - before) / 2)[lost]
        paths[:, 1:-1] += move
        k = paths.shape[1]
        self.paths[rows] = _spread(paths, self.values[rows], k, self._emphasis) if self._method == "string" else paths

    def calm(self, rows: Integers, paths: Floats) -> None:
        """Put some paths back where they were lowest, to go on in smaller steps without memory."""
        self.paths[rows] = paths[rows]
        self._radius[rows] /= 2
        self._history.forget(rows)
        self._last[0][rows] = paths[rows, 1:-1]


def _values_at_ends(landscape: Landscape, paths: Floats) -> Floats:
    """Return the losses at the ends of paths, (b, 2); raise where one is not finite."""
    b, _, p = paths.shape
    ends = landscape.values(paths[:, [0, -1]].reshape(-1, p), progress=False).reshape(b, 2)
    if not np.isfinite(ends).all():
        row, end = np.argwhere(~np.isfinite(ends))[0]
        raise ValueError(
            f"the loss at the {('first', 'last')[end]} point of path {row} is {ends[row, end]}; a path needs ends of "
            "finite loss. Leave it out."
        )
    return ends


def _lengths(vectors: Floats) -> Floats:
    return np.sqrt(dot(vectors, vectors))


def _steps(paths: Floats) -> tuple[Floats, Floats]:
    """Return the differences from the point before and to the point after, for all inner points."""
    differences = np.diff(paths, axis=1)
    return differences[:, :-1], differences[:, 1:]


def _tangents(paths: Floats, values: Floats) -> Floats:
    """Return unit tangents at the inner points, towards the higher neighbour (Henkelman and Jonsson 2000)."""
    low, here, high = values[:, :-2], values[:, 1:-1], values[:, 2:]
    with np.errstate(invalid="ignore"):
        up, down = np.abs(high - here), np.abs(low - here)
        most, least = np.fmax(up, down), np.fmin(up, down)
        climbing, falling = (high > here) & (here > low), (high < here) & (here < low)
        ahead = np.where(climbing, 1.0, np.where(falling, 0.0, np.where(high > low, most, least)))
        behind = np.where(climbing, 0.0, np.where(falling, 1.0, np.where(high > low, least, most)))
    flat = ~(np.isfinite(ahead) & np.isfinite(behind)) | (ahead + behind == 0)
    ahead, behind = np.where(flat, 1.0, ahead), np.where(flat, 1.0, behind)
    return _along(paths, behind, ahead)


def _on(paths: Floats, positions: Floats) -> Floats:
    """Return the points at positions (b, m) on paths (b, k, p), counted in segments."""
    points = np.empty((*positions.shape, paths.shape[2]))
    _interpolate(paths, positions, points)
    return points


def _spread(paths: Floats, values: Floats | None, k: int, emphasis: float) -> Floats:
    """Return the paths through k points, closer to each other where the loss is high."""
    lengths = np.linalg.norm(np.diff(paths, axis=1), axis=2)
    if values is not None and emphasis:
        finite = np.where(np.isfinite(values), values, np.nan)
        with np.errstate(invalid="ignore"):
            low, high = np.nanmin(finite, axis=1, keepdims=True), np.nanmax(finite, axis=1, keepdims=True)
            height = np.nan_to_num((finite - low) / np.where(high > low, high - low, 1.0), nan=1.0)
        lengths = lengths * (1 + emphasis * (height[:, 1:] + height[:, :-1]) / 2)
    total = np.concatenate([np.zeros((len(paths), 1)), np.cumsum(lengths, axis=1)], axis=1)
    positions = np.stack(
        [
            np.interp(np.linspace(0, along[-1], k), along, np.arange(len(along)))
            if along[-1] > 0
            else np.linspace(0, len(along) - 1, k)
            for along in total
        ]
    )
    spread = _on(paths, positions)
    spread[:, 0], spread[:, -1] = paths[:, 0], paths[:, -1]
    return spread


@njit(cache=True, nogil=True)
def _interpolate(paths, positions, points):  # type: ignore[no-untyped-def]
    for row in range(len(paths)):
        for place in range(positions.shape[1]):
            segment = min(max(int(positions[row, place]), 0), paths.shape[1] - 2)
            share = positions[row, place] - segment
            points[row, place] = paths[row, segment] * (1 - share) + paths[row, segment + 1] * share


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _remove(vectors, units):  # type: ignore[no-untyped-def]
    """Take from vectors what they have along unit vectors, and return how much that was."""
    along = np.empty(vectors.shape[:2])
    for row in range(along.shape[0]):
        for place in range(along.shape[1]):
            vector, unit = vectors[row, place], units[row, place]
            along[row, place] = inner_product(vector, unit)
            vector -= along[row, place] * unit
    return along


@njit(cache=True, nogil=True, error_model="numpy")
def _along(paths, behind, ahead):  # type: ignore[no-untyped-def]
    """Return unit vectors along sums of the steps to the neighbours of inner points."""
    b, k, p = paths.shape
    tangents = np.empty((b, k - 2, p))
    for row in range(b):
        for place in range(k - 2):
            tangent = tangents[row, place]
            square = 0.0
            for i in range(p):
                here = paths[row, place + 1, i]
                tangent[i] = ahead[row, place] * (paths[row, place + 2, i] - here) + behind[row, place] * (
                    here - paths[row, place, i]
                )
                square += tangent[i] ** 2
            tangent /= max(math.sqrt(square), 1e-300)
    return tangents
