"""Passes between minima: paths bent until their highest loss is as low as it gets.

All points of all paths are evaluated in the same calls of the loss engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from tqdm import tqdm

from topolandscape.landscape.keeping import resumable
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.strings import Booleans, Strings, points_on, resampled, values_at_ends
from topolandscape.landscape.tasks import in_parts, joined
from topolandscape.structures import Floats, Integers
from topolandscape.structures.journal import Arrays, Halfway

# Steps after which it is asked whether the highest loss still falls.
_CYCLE = 20
# Shares of a segment: steps that are always tried, and the smallest.
_STEP, _SMALLEST_STEP = 0.02, 1e-4
# Times that it did not fall after which a path has converged.
_IDLE = 2


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
    return points_on(paths, np.concatenate([np.reshape(positions, (len(paths), k - 1)), ends], axis=1))


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
        at = points_on(points[going], positions)
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
    max_evaluations: int | None = None,
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
    max_evaluations
        Gradients that each path may take in all; then it stays as it is. None: no limit.
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
        settings |= {"max_evaluations": max_evaluations}
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
        max_evaluations,
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
    max_evaluations: int | None,
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
    spent, allowed = 0, math.inf if max_evaluations is None else max_evaluations
    best, top = np.full(len(own), math.inf), own[:, 0].copy()
    kept = own
    state = halfway.known
    ends = state["ends"] if state else values_at_ends(judge, own)

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
                strings = Strings(landscape, kept, method, emphasis, memory, state)
                state = {}
            else:
                # Where points are added all others stay, so that no path is higher than it was.
                own = refined(kept, k) if kept.shape[1] <= k else np.stack([resampled(path, k) for path in kept])
                kept = own.copy()
                best, top = highest_on(judge, own)
                if not curve:
                    curve.append((0.0, float(np.mean(best))))
                first, strings = 0, Strings(landscape, own, method, emphasis, memory, {})
                idle = np.zeros(len(own), dtype=np.int64)
            converged = idle >= _IDLE
            for step in range(first, steps):
                going = np.flatnonzero(~converged)
                if len(going) == 0 or spent + k - 2 > allowed:
                    break
                if batch is None:
                    halfway.offer(reached)
                elif step % _CYCLE == 0:
                    strings.on(landscape.subset(batch, seed=int(random.integers(2**63))))
                strings.step(going)
                spent += k - 2
                bar.update()
                if step % _CYCLE == _CYCLE - 1 or step == steps - 1 or spent + k - 2 > allowed:
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
