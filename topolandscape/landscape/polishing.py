"""Polishing: from where a descent ended to where the gradient vanishes, many points at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from topolandscape.landscape.directions import whole_number
from topolandscape.landscape.keeping import resumable
from topolandscape.landscape.line_search import LineSearch
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.noise import rounding
from topolandscape.landscape.points import read_points
from topolandscape.landscape.tasks import in_parts, joined
from topolandscape.landscape.vectors import add_multiple, are_finite, dot, inner_product, norm
from topolandscape.structures import Floats, Integers
from topolandscape.structures.arrays import frozen, settle
from topolandscape.structures.journal import Arrays, Halfway

Mask = NDArray[np.bool_]

# Share of what its model promises that a step of Newton's method needs to lower the loss by.
_DECREASE = 1e-4
# Coordinates and slopes beyond this count as not finite, so that products of their squares are.
_LARGEST = 1e50
# Places of a trail that are kept.
_TRAIL = 127
# What a product with the Hessian costs, in gradients.
_PRODUCT = 2


@dataclass(frozen=True, eq=False)
class Polished:
    """Points after polishing.

    Parameters
    ----------
    points
        Shape (m, p).
    values
        Losses, shape (m,).
    gradient_norm
        Lengths of the gradients, shape (m,).
    ended
        For each point why polishing ended: ``"converged"``: the gradient norm is below the tolerance; ``"stalled"``:
        no step lowers the loss or the gradient any more, for rounding or since the gradient jumps; ``"evaluations"``:
        as many were made as were allowed; ``"not finite"``: the loss or the gradient was not finite at the start.
    evaluations
        Gradients that each point took, a product with the Hessian counting as two, shape (m,).
    trails
        For each point the places it went through, the start first and the end last, (k, p), k at most 128; none
        where they were not asked for.
    """

    points: Floats
    values: Floats
    gradient_norm: Floats
    ended: tuple[str, ...]
    evaluations: Integers
    trails: tuple[Floats, ...] = ()

    def __post_init__(self) -> None:
        """Freeze the arrays."""
        settle(
            self,
            points=frozen(self.points, np.float64, "points", 2),
            values=frozen(self.values, np.float64, "values", 1),
            gradient_norm=frozen(self.gradient_norm, np.float64, "gradient_norm", 1),
            ended=tuple(self.ended),
            evaluations=frozen(self.evaluations, np.int64, "evaluations", 1),
            trails=tuple(frozen(trail, np.float64, "trails", 2) for trail in self.trails),
        )

    @property
    def converged(self) -> Mask:
        """Whether each gradient norm is below the tolerance, shape (m,)."""
        return np.array([why == "converged" for why in self.ended])


def polish(
    landscape: Landscape,
    points: ArrayLike,
    *,
    tolerance: float = 1e-6,
    max_evaluations: int = 5000,
    longest: float | ArrayLike = math.inf,
    trails: bool = False,
    noise: float | None = None,
    progress: bool | None = None,
) -> Polished:
    """Go on from points near minima until their gradients vanish.

    Parameters
    ----------
    landscape
        Any; twice differentiable for the second part.
    points
        Shape (m, dimension).
    tolerance
        Gradient norm to be reached.
    max_evaluations
        Gradients for each point, a product with the Hessian counting as two.
    longest
        Longest step; one number, or one a point. Short steps stay in the basin in which they begin.
    trails
        Whether to return the places that each point went through.
    noise
        By how much losses differ by rounding; None: it is measured at each point, which takes several evaluations in
        forms that are slow.
    progress
        None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    Polished
        No loss is higher than at the start, but for its noise. In float32 the gradient seldom falls below 1e-6 of the
        size of its terms; a point where it cannot fall further is ``"stalled"``.

    Notes
    -----
    First L-BFGS (Liu and Nocedal 1989) with the line search of Lewis and Overton (2013), which brackets by bisection a
    step that fulfils the weak conditions of Wolfe; where decrease is lost in the noise of the loss, the approximate
    condition of Hager and Zhang (2005) on slopes stands in for it. A point that stalls, or has used half of its
    evaluations, goes on with a truncated Newton method: conjugate gradients in a trust region (Steihaug 1983). All
    points are evaluated together, but each has its own steps and does what it would do alone. L-BFGS keeps 20 vectors
    a point.

    Examples
    --------
    The function of Rosenbrock in four dimensions:

    >>> def valley(x):
    ...     return ((1 - x[:, :-1]) ** 2 + 100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2).sum(1)
    >>> polished = polish(Landscape.from_function(valley, 4), [[0.5, 0.5, 0.5, 0.5]], tolerance=1e-9)
    >>> polished.ended, polished.points.round(6).tolist()
    (('converged',), [[1.0, 1.0, 1.0, 1.0]])
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}; it needs to be 0 or more.")
    whole_number(max_evaluations, "max_evaluations")
    at = read_points(points, landscape.dimension, "points")
    most = np.broadcast_to(np.asarray(longest, dtype=np.float64), (len(at),))
    if landscape.tasks is not None and len(at) > 1:
        settings = {"tolerance": tolerance, "max_evaluations": max_evaluations, "trails": trails, "noise": noise}
        return joined(
            in_parts(
                landscape,
                polish,
                len(at),
                lambda rows: ((at[rows],), settings | {"longest": most[rows], "progress": False}),
                what="points",
                progress=progress,
            )
        )
    return _polished(landscape, at, tolerance, max_evaluations, most, trails, noise, progress=progress)


@resumable(Polished)
def _polished(
    landscape: Landscape,
    halfway: Halfway,
    at: Floats,
    tolerance: float,
    max_evaluations: int,
    most: Floats,
    trails: bool,
    noise: float | None,
    *,
    progress: bool | None,
) -> Polished:
    """Do what `polish` does, from where it had come."""
    disable = None if progress is None else not progress
    with tqdm(total=len(at), desc="polishing", unit="points", delay=1, disable=disable) as bar:
        task = _Task(landscape, at.copy(), tolerance, max_evaluations, most, trails, halfway, bar)
        if halfway.known:
            task.go_on(halfway.known)
        else:
            task.begin(noise)
        if task.method == "quasi-newton":
            _quasi_newton(task, (max_evaluations + 1) // 2)
            task.method, task.memory = "newton", ()
        _newton(task)
    return Polished(
        points=task.points,
        values=task.values,
        gradient_norm=np.linalg.norm(task.gradients, axis=1),
        ended=tuple(task.ended),
        evaluations=task.spent,
        trails=tuple(np.stack([*trail.kept, task.points[row]]) for row, trail in enumerate(task.trails)),
    )


def noise_at(landscape: Landscape, points: Floats, values: Floats, known: float | None = None) -> Floats:
    """Return by how much losses (m,) at points (m, p) may differ by rounding, measured or known, with a margin."""
    # Measured at one point the rounding can be small by chance, hence the second term.
    measured = landscape.noise_at(points) if known is None else known
    return np.maximum(4 * measured, 4 * rounding(landscape.description) * np.abs(values))


class _Task:
    """Points on their way, and what each of them has used up."""

    def __init__(
        self,
        landscape: Landscape,
        points: Floats,
        tolerance: float,
        allowed: int,
        longest: Floats,
        trails: bool,
        halfway: Halfway,
        bar: tqdm,
    ) -> None:
        self.landscape = landscape
        self.points, self.values, self.gradients = points, np.empty(len(points)), np.empty_like(points)
        self.tolerance, self.allowed, self.longest = tolerance, allowed, longest
        self.trails = [_Trail(point) for point in points] if trails else []
        self.noise = np.zeros(len(points))
        self.spent = np.ones(len(points), dtype=np.int64)
        self.ended = [""] * len(points)
        self.going = np.ones(len(points), dtype=bool)
        # What a method remembers, in arrays that it changes.
        self.method: str = "quasi-newton"
        self.memory: tuple[NDArray[Any], ...] = ()
        self._halfway, self._bar = halfway, bar

    def begin(self, noise: float | None) -> None:
        """Find out what is known of the points before the first step."""
        self.values, self.gradients = self.landscape.gradients(self.points, progress=False)
        self.noise = noise_at(self.landscape, self.points, self.values, noise)
        self.end("not finite", ~_finite(self.values, self.gradients))

    def go_on(self, state: Arrays) -> None:
        """Take over a state."""
        self.points, self.values, self.gradients = state["points"], state["values"], state["gradients"]
        self.noise, self.spent = state["noise"], state["spent"]
        for why in np.unique(state["ended"][state["ended"] != ""]):
            self.end(str(why), state["ended"] == why)
        self.method = str(state["method"])
        count = sum(name.startswith("memory") for name in state)
        self.memory = tuple(state[f"memory {place}"] for place in range(count))
        for row, trail in enumerate(self.trails):
            trail.kept, trail.counts = list(state[f"trail {row}"]), state["counts"][row]

    def remember(self, *first: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Return what the method remembers, or at its beginning arrays that hold it from now on."""
        for array, before in zip(first, self.memory, strict=False):
            array[...] = before
        self.memory = first
        return first

    def pause(self) -> None:
        """Offer the state."""
        self._halfway.offer(self._state)

    def _state(self) -> Arrays:
        return {
            "points": self.points,
            "values": self.values,
            "gradients": self.gradients,
            "noise": self.noise,
            "spent": self.spent,
            "ended": np.array(self.ended),
            "method": np.array(self.method),
            "counts": np.array([trail.counts for trail in self.trails]),
            **{f"memory {place}": array for place, array in enumerate(self.memory)},
            **{f"trail {row}": np.array(trail.kept) for row, trail in enumerate(self.trails)},
        }

    def end(self, why: str, which: Mask) -> None:
        """End the points of a mask that have not ended yet."""
        for row in np.flatnonzero(which & self.going):
            self.ended[row] = why
            self.going[row] = False
            self._bar.update()

    def end_converged(self) -> None:
        self.end("converged", norm(self.gradients) <= self.tolerance)

    def evaluate(self, rows: Integers, ahead: Floats) -> tuple[Floats, Floats, Mask]:
        """Return losses and gradients at points ahead of some rows, and where they are finite."""
        fine = are_finite(ahead, _LARGEST)
        if fine.all():
            values, gradients = self.landscape.gradients(ahead, progress=False)
        else:
            values, gradients = np.full(len(rows), np.nan), np.zeros(ahead.shape)
            if fine.any():
                values[fine], gradients[fine] = self.landscape.gradients(ahead[fine], progress=False)
        self.spent[rows] += 1
        fine &= _finite(values, gradients)
        return values, gradients if fine.all() else np.where(fine[:, None], gradients, 0.0), fine

    def multiply(self, rows: Integers, which: Integers, directions: Floats) -> Floats:
        """Return the Hessians at some of the rows times directions."""
        self.spent[rows[which]] += _PRODUCT
        return self.landscape.hessian_products(self.points[rows[which]], directions, progress=False)

    def go_to(self, rows: Integers, points: Floats, values: Floats, gradients: Floats) -> None:
        self.points[rows], self.values[rows], self.gradients[rows] = points, values, gradients
        self.note(rows)

    def note(self, rows: Integers) -> None:
        """Add where some points have come to their trails."""
        for row in rows if self.trails else ():
            self.trails[row].add(self.points[row])


class _Trail:
    """Some of the places that a point went through, evenly spaced in number of steps."""

    def __init__(self, start: Floats) -> None:
        self.kept = [start.copy()]
        self.counts: Sequence[int] = (1, 0)  # steps from one that is kept to the next, and since the last

    def add(self, point: Floats) -> None:
        every, missed = self.counts
        missed += 1
        if missed == every:
            self.kept.append(point.copy())
            missed = 0
        if len(self.kept) >= _TRAIL:
            self.kept, every = self.kept[::2], 2 * every
        self.counts = every, missed


def _finite(values: Floats, gradients: Floats) -> Mask:
    return np.isfinite(values) & are_finite(gradients, _LARGEST)


# --------------------------------------------------------------------------------------------------------------
# L-BFGS
# --------------------------------------------------------------------------------------------------------------


def _quasi_newton(task: _Task, allowed: int) -> None:
    """Go on by L-BFGS until each point has converged, stalled, or used what is allowed."""
    search = LineSearch(task.points, task.values, task.gradients, task.noise, task.longest)
    task.remember(*search.arrays)
    task.end_converged()
    while len(rows := np.flatnonzero(task.going & ~search.stalled & (task.spent < allowed))):
        task.pause()
        ahead = search.ahead(rows)
        good = search.take(rows, ahead, *task.evaluate(rows, ahead))
        task.note(rows[good])
        task.end_converged()


# --------------------------------------------------------------------------------------------------------------
# Newton
# --------------------------------------------------------------------------------------------------------------


def _newton(task: _Task) -> None:
    """Go on by truncated Newton steps in a trust region until each point has ended."""
    norms = np.linalg.norm(task.gradients, axis=1)
    radius = np.minimum(0.1 * np.maximum(1.0, np.linalg.norm(task.points, axis=1)), task.longest)
    (numbers,) = task.remember(np.stack([norms, norms, radius, np.zeros(len(norms))]))
    norms, first, radius, lost = numbers
    while True:
        task.end("evaluations", task.spent >= task.allowed)
        rows = np.flatnonzero(task.going)
        if len(rows) == 0:
            return
        task.pause()
        precision = np.clip(np.sqrt(norms[rows] / first[rows]), 0.01, 0.3) * norms[rows]
        left = np.maximum(1, (task.allowed - task.spent[rows] + _PRODUCT - 1) // _PRODUCT)
        steps, promised = steihaug(
            partial(task.multiply, rows),
            task.gradients[rows],
            radius[rows],
            np.maximum(precision, 0.5 * task.tolerance),
            np.minimum(left, 2 * task.points.shape[1] + 10),
        )
        length = np.linalg.norm(steps, axis=1)
        values, gradients, fine = task.evaluate(rows, task.points[rows] + steps)
        fine &= np.isfinite(promised)
        ratio = np.where(fine, (task.values[rows] - values) / np.maximum(promised, 1e-300), -1.0)
        # Where the decrease is lost in the noise of the loss, the gradient has to fall instead.
        level = fine & (promised < 10 * task.noise[rows]) & (values <= task.values[rows] + task.noise[rows])
        falling = np.linalg.norm(gradients, axis=1) < 0.9 * norms[rows]
        ratio = np.where(level, np.where(falling, 1.0, -1.0), ratio)
        lost[rows] = np.where(level & ~falling, lost[rows] + 1, 0)
        edge = length > 0.99 * radius[rows]
        radius[rows] = np.where(
            ratio < 0.25, length / 4, np.where((ratio > 0.75) & edge, 2 * radius[rows], radius[rows])
        )
        radius[rows] = np.minimum(radius[rows], task.longest[rows])
        better = ratio > _DECREASE
        task.go_to(rows[better], task.points[rows[better]] + steps[better], values[better], gradients[better])
        norms[rows] = np.linalg.norm(task.gradients[rows], axis=1)
        task.end_converged()
        smallest = 4 * np.finfo(np.float64).eps * np.maximum(1.0, np.abs(task.points).max(axis=1))
        task.end("stalled", (lost >= 3) | (radius < smallest))


def steihaug(
    products: Callable[[Integers, Floats], Floats],
    gradients: Floats,
    radius: Floats,
    precision: Floats,
    limit: Integers,
) -> tuple[Floats, Floats]:
    """Minimise quadratic models within a radius by conjugate gradients (Steihaug 1983).

    Parameters
    ----------
    products
        Takes rows of models and directions, one for each; returns the Hessians times the directions.
    gradients
        Of the models at no step, shape (m, p).
    radius
        Longest step of each, (m,).
    precision
        Gradient norm of each model at which it ends, (m,).
    limit
        Most products for each, (m,).

    Returns
    -------
    tuple of float64 arrays
        Steps (m, p), on the radius where the curvature is negative, and the decreases that the models promise (m,).
    """
    steps, curved_steps = np.zeros_like(gradients), np.zeros_like(gradients)  # and the Hessian times the steps
    rest, direction = gradients.copy(), -gradients
    squares = dot(rest, rest)
    going = np.flatnonzero(squares > precision**2)
    spent = 0
    everything = len(going) == len(gradients)
    while len(going):
        curved = products(going, direction if everything else direction[going])
        beyond = _conjugate_steps(going, curved, direction, steps, curved_steps, rest, squares, radius)
        spent += 1
        left = ~(beyond | (np.sqrt(squares[going]) <= precision[going]) | (spent >= limit[going]))
        going, everything = going[left], everything and bool(left.all())
    return steps, -dot(gradients, steps) - 0.5 * dot(steps, curved_steps)


@njit(cache=True, nogil=True, error_model="numpy")
def _conjugate_steps(  # type: ignore[no-untyped-def]
    going, curved, directions, steps, curved_steps, rests, squares, radius
):
    """Go along the directions of some models as far as they fall, or to the radius, and turn; return which reach it."""
    beyond = np.empty(len(going), dtype=np.bool_)
    for place, row in enumerate(going):
        ahead, image, step, rest = directions[row], curved[place], steps[row], rests[row]
        bend = inner_product(ahead, image)
        # Out to the radius: the positive root of |step + edge direction| = radius.
        a, b = inner_product(ahead, ahead), inner_product(step, ahead)
        c = max(radius[row] ** 2 - inner_product(step, step), 0.0)
        edge = (math.sqrt(b**2 + a * c) - b) / a
        beyond[place] = not squares[row] < edge * bend
        share = edge if beyond[place] else squares[row] / bend
        add_multiple(step, share, ahead)
        add_multiple(curved_steps[row], share, image)
        add_multiple(rest, share, image)
        new = inner_product(rest, rest)
        turn = new / squares[row]
        for i in range(len(ahead)):
            ahead[i] = turn * ahead[i] - rest[i]
        squares[row] = new
    return beyond
