"""Arrays that lie on the disk in pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

from topolandscape.structures import Floats


class Shards:
    """The losses of a full grid, in files of so many rows each; sliced like an array, and never read as a whole.

    Attributes
    ----------
    shape
        Of the grid.

    Examples
    --------
    >>> shards = Shards((2, 3), 4, [np.array([0.0, 1.0, 2.0, 3.0]), np.array([4.0, 5.0])].__getitem__)
    >>> shards[0:2, 1:3]
    array([[1., 2.],
           [4., 5.]])
    """

    def __init__(self, shape: tuple[int, ...], size: int, read: Callable[[int], Floats]) -> None:
        self.shape = shape
        self._size = size
        self._read = read
        self._last: tuple[int, Floats] | None = None

    def __getitem__(self, box: tuple[slice, ...]) -> Floats:
        """Return the values of a box: one slice with a start and a stop for each axis."""
        sides = [side.stop - side.start for side in box]
        # What is cut along its first axes only is one run of rows for each place along these.
        cut = max((axis for axis, side in enumerate(sides) if side < self.shape[axis]), default=0)
        strides = [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]
        runs = np.empty((math.prod(sides[:cut]), sides[cut] * strides[cut]))
        before = product(*(range(side.start, side.stop) for side in box[:cut]))
        for run, place in zip(runs, before, strict=True):
            first = sum(k * stride for k, stride in zip((*place, box[cut].start), strides, strict=False))
            self._fill(run, first)
        return runs.reshape(sides)

    def __iter__(self) -> Iterator[Floats]:
        """Yield the values of one file after the other."""
        for piece in range(-(-math.prod(self.shape) // self._size)):
            yield self._read(piece)

    def _fill(self, run: Floats, first: int) -> None:
        """Fill a run of rows that begins with row `first`."""
        done = 0
        while done < len(run):
            piece, start = divmod(first + done, self._size)
            if self._last is None or self._last[0] != piece:
                self._last = piece, self._read(piece)
            part = self._last[1][start : start + len(run) - done]
            run[done : done + len(part)] = part
            done += len(part)
