"""Curvature from the last steps: the limited-memory quasi-Newton step of many points at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from topolandscape.landscape.vectors import inner_product
from topolandscape.landscape.workers import by_threads
from topolandscape.structures import Floats, Integers

_SMALL = 1e-290  # of products whose inverse is still a float


class History:
    """The last steps of every point and how they changed its gradient: an inverse Hessian of low rank.

    Parameters
    ----------
    m, p
        Number of points, and of their coordinates.
    memory
        Steps of a point that are remembered.
    least
        Cosine of the angle between a step and its change of the gradient below which the step is left out, since its
        curvature is not positive or lost in rounding; so are steps whose products are too small for floats.
    dtype
        In what they are kept: float32 takes half of the room and of the time, which is that of reading all.

    Notes
    -----
    The recursion of two loops (Nocedal 1980). Each point has its own steps, and is what it would be alone.

    Examples
    --------
    Of a bowl with curvatures 1 and 4 two steps tell all:

    >>> history = History(1, 2, 5)
    >>> for step in ([1.0, 0.0], [0.0, 1.0]):
    ...     history.add(np.array([0]), np.array([step]), np.array([step]) * [1.0, 4.0])
    >>> history.times(np.array([0]), np.array([[1.0, 4.0]])).round(6).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, m: int, p: int, memory: int, *, least: float = 1e-10, dtype: DTypeLike = np.float64) -> None:
        self._steps, self._changes = np.zeros((m, memory, p), dtype), np.zeros((m, memory, p), dtype)
        self._weight = np.zeros((m, memory))  # 1 / (step . change); 0 where there is none yet
        self._scale = np.ones(m)
        self._next = np.zeros(m, dtype=np.int64)
        self.least = least

    def add(self, rows: Integers, steps: Floats, changes: Floats) -> None:
        """Remember steps (n, p) of some points and the changes (n, p) of their gradients."""
        _add(rows, np.ascontiguousarray(steps), np.ascontiguousarray(changes), self.least, self.arrays)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All that is remembered: arrays that change as steps are added."""
        return self._steps, self._changes, self._weight, self._scale, self._next

    def forget(self, rows: Integers) -> None:
        """Start anew with some points."""
        self._weight[rows], self._scale[rows] = 0.0, 1.0

    def is_empty(self, rows: Integers) -> NDArray[np.bool_]:
        """Return for which of some points nothing is remembered."""
        return ~(self._weight[rows] != 0).any(axis=1)

    def times(self, rows: Integers, gradients: Floats) -> Floats:
        """Return the inverse Hessians of some points times gradients (n, p)."""
        result = gradients.copy()

        def work(part: slice) -> None:
            _multiply(rows[part], self.arrays, result[part])

        by_threads(len(rows), work, numbers=2 * self._steps.shape[1] * result.size)
        return result


@njit(cache=True, nogil=True)
def _add(rows, steps, changes, least, remembered):  # type: ignore[no-untyped-def]
    for i, row in enumerate(rows):
        add_step(row, steps[i], changes[i], least, remembered)


@njit(cache=True, nogil=True)
def _multiply(rows, remembered, result):  # type: ignore[no-untyped-def]
    for i, row in enumerate(rows):
        multiply(row, remembered, result[i])


@njit(cache=True, nogil=True, error_model="numpy")
def add_step(row, step, change, least, remembered):  # type: ignore[no-untyped-def]
    """Remember a step of a point and the change of its gradient, as `History.add`, in compiled loops."""
    kept_steps, kept_changes, weight, scale, following = remembered
    product, square = inner_product(step, change), inner_product(change, change)
    if min(product, square) > _SMALL and product > least * np.sqrt(square * inner_product(step, step)):
        place = following[row]
        kept_steps[row, place], kept_changes[row, place] = step, change
        weight[row, place], scale[row] = 1 / product, product / square
        following[row] = (place + 1) % weight.shape[1]


@njit(cache=True, nogil=True)
def multiply(row, remembered, vector):  # type: ignore[no-untyped-def]
    """Replace a gradient by the inverse Hessian of a point times it, as `History.times`, in compiled loops."""
    steps, changes, weight, scale, following = remembered
    memory = weight.shape[1]
    known = [place for place in (following[row] + np.arange(memory)) % memory if weight[row, place] != 0]
    n = len(known)
    if n == 0:
        vector *= scale[row]
        return
    shares = np.empty(n)
    product = inner_product(steps[row, known[-1]], vector)
    for i in range(n - 1, -1, -1):  # from the newest to the oldest
        shares[i] = weight[row, known[i]] * product
        product = _added(vector, -shares[i], changes[row, known[i]], steps[row, known[max(i - 1, 0)]])
    vector *= scale[row]
    product = inner_product(changes[row, known[0]], vector)
    for i in range(n):
        share = shares[i] - weight[row, known[i]] * product
        product = _added(vector, share, steps[row, known[i]], changes[row, known[min(i + 1, n - 1)]])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _added(vector, factor, other, following):  # type: ignore[no-untyped-def]
    """Add a multiple of another vector, and return the inner product with the one that follows, in one pass."""
    product = 0.0
    for i in range(len(vector)):
        vector[i] += factor * other[i]
        product += vector[i] * following[i]
    return product
