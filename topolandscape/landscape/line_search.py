"""L-BFGS with a line search, many points at once: each goes on along a direction of its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.landscape.quasi_newton import History, add_step, multiply
from topolandscape.landscape.vectors import dot, inner_product, length_of
from topolandscape.landscape.workers import by_threads
from topolandscape.structures import Floats, Integers

Mask = NDArray[np.bool_]

# Pairs of steps and changes of the gradient that are remembered.
MEMORY = 10
# Armijo's condition, the weak one of Wolfe, and the approximate one of Hager and Zhang.
_DECREASE, _SLOPE, _APPROXIMATE = 1e-4, 0.9, 0.1
# A point is stalled when so many trials have lowered neither the gradient norm by a tenth nor the loss by this share
# of it and a hundred times its noise.
_PATIENCE, _LITTLE = 100, 1e-8
# Trials along one direction.
_TRIALS = 40


class LineSearch:
    """The next steps of points, (m, p), that are on their way down.

    Parameters
    ----------
    points, values, gradients
        Where, the losses and the gradients there; changed as steps are taken.
    noise
        By how much losses differ by rounding, (m,).
    longest
        Longest step of each, (m,).

    Attributes
    ----------
    stalled
        Points of which no step lowers the loss or the gradient any more, (m,).

    Notes
    -----
    A step that fulfils the weak conditions of Wolfe is bracketed by bisection (Lewis and Overton 2013); where decrease
    is lost in the noise of the loss, the approximate condition of Hager and Zhang (2005) on slopes stands in for it.
    Each point does what it would do alone.
    """

    def __init__(self, points: Floats, values: Floats, gradients: Floats, noise: Floats, longest: Floats) -> None:
        m, p = points.shape
        self._at = points, values, gradients
        self._noise, self._longest = noise, np.ascontiguousarray(longest)
        self._history = History(m, p, MEMORY)
        self._directions = -gradients
        slopes = dot(self._directions, gradients)
        most = longest / np.maximum(np.linalg.norm(gradients, axis=1), np.finfo(float).tiny)
        known = np.isfinite(slopes)
        step = np.minimum(1 / np.maximum(1.0, np.sqrt(-slopes, where=known, out=np.ones(m))), most)
        never = np.full(m, math.inf)
        # Of the directions the slopes, and the longest steps along them; the next steps; the longest that was good and
        # the shortest that was not; trials; the trials since the point was last waited for, and the gradient norm and
        # the loss then.
        self._numbers = np.stack([slopes, most, step, np.zeros(m), never, np.zeros(m), np.zeros(m), never, never])
        self.stalled = np.zeros(m, dtype=bool)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All that is remembered: arrays that change as steps are taken."""
        return self._directions, self._numbers, self.stalled, *self._history.arrays

    def ahead(self, rows: Integers) -> Floats:
        """Return where some points are to be tried next."""
        return _ahead(rows, self._at[0], self._directions, self._numbers[2])

    def take(self, rows: Integers, ahead: Floats, values: Floats, gradients: Floats, fine: Mask) -> Mask:
        """Go to points ahead of some rows where they are good enough, and return which are.

        `fine` tells where the losses and gradients there are finite; the others do not count.
        """
        good = np.empty(len(rows), dtype=np.bool_)

        def work(part: slice) -> None:
            found = ahead[part], values[part], gradients[part], fine[part]
            memory = self._directions, self._numbers, self.stalled, self._noise, self._longest
            _take(rows[part], found, self._at, memory, self._history.least, self._history.arrays, good[part])

        by_threads(len(rows), work, numbers=2 * MEMORY * ahead.size)
        return good


@njit(cache=True, nogil=True)
def _ahead(rows, points, directions, steps):  # type: ignore[no-untyped-def]
    ahead = np.empty((len(rows), points.shape[1]))
    for i, row in enumerate(rows):
        for j in range(points.shape[1]):
            ahead[i, j] = points[row, j] + steps[row] * directions[row, j]
    return ahead


@njit(cache=True, nogil=True, error_model="numpy")
def _take(rows, found, at, memory, least_cosine, remembered, good):  # type: ignore[no-untyped-def]
    ahead, values, gradients, fine = found
    points, losses, slopes_there = at
    directions, numbers, stalled, noise, longest = memory
    slopes, most, steps, low, high, trials, waited, least, lowest = numbers
    step, change = np.empty(points.shape[1]), np.empty(points.shape[1])
    for i, row in enumerate(rows):
        direction, point, gradient = directions[row], points[row], slopes_there[row]
        rise = inner_product(gradients[i], direction)
        lower = values[i] <= losses[row] + _DECREASE * steps[row] * slopes[row]
        level = values[i] <= losses[row] + noise[row] and rise <= (2 * _APPROXIMATE - 1) * slopes[row]
        enough = fine[i] and (lower or level)
        trials[row] += 1
        waited[row] += 1
        last = trials[row] >= _TRIALS
        good[i] = enough and (rise >= _SLOPE * slopes[row] or last or steps[row] >= most[row])
        if not good[i]:
            if enough:
                low[row] = steps[row]
            else:
                high[row] = steps[row]
            further = (low[row] + high[row]) / 2 if high[row] < np.inf else 2 * low[row]
            steps[row] = min(further, most[row])
            stalled[row] = last
            continue
        for j in range(len(point)):
            step[j], change[j] = ahead[i, j] - point[j], gradients[i, j] - gradient[j]
            point[j], gradient[j] = ahead[i, j], gradients[i, j]
        losses[row] = values[i]
        add_step(row, step, change, least_cosine, remembered)
        direction[:] = gradient
        multiply(row, remembered, direction)
        for j in range(len(direction)):
            direction[j] = -direction[j]
        slopes[row] = inner_product(direction, gradient)
        most[row] = longest[row] / max(length_of(direction), 1e-300)
        steps[row], low[row], high[row], trials[row] = min(1.0, most[row]), 0.0, np.inf, 0
        norm = length_of(gradient)
        little = max(_LITTLE * abs(losses[row]), 100 * noise[row])
        if norm < 0.9 * least[row] or losses[row] < lowest[row] - little:
            least[row], lowest[row], waited[row] = min(norm, least[row]), losses[row], 0
        stalled[row] = waited[row] > _PATIENCE or not slopes[row] < 0
