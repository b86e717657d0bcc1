# mypy: disallow-untyped-decorators=False
"""Largest entries and means of windows, for many parameter vectors at once.

Positions are stored as in `topolandscape.landscape.kernels`: (..., *positions, rows), the rows of the data last. The
compiled loops run along contiguous rows, use one thread, and release the interpreter. Everything can be differentiated
twice by ``torch.autograd``.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from topolandscape.structures import Floats, Integers


class Windows(NamedTuple):
    """Windows over positions.

    Attributes
    ----------
    entries
        The positions in each window, in row-major order, then -1 for none: int64 (windows, longest).
    sizes
        How many there are, counting those in the padding: float64 (windows,).
    shape
        How many windows there are in each dimension.
    """

    entries: Integers
    sizes: Floats
    shape: tuple[int, ...]


@functools.lru_cache(maxsize=64)
def moved(
    positions: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    *,
    ceil: bool,
) -> Windows:
    """Return the windows of a kernel that moves over positions.

    Parameters
    ----------
    positions, kernel, stride, padding, dilation
        One number for each dimension.
    ceil
        Whether windows may end behind the positions and their padding, as long as they do not start there.

    Examples
    --------
    >>> moved((4,), (2,), (1,), (0,), (1,), ceil=False)
    Windows(entries=array([[0, 1],
           [1, 2],
           [2, 3]]), sizes=array([2., 2., 2.]), shape=(3,))
    """
    parts = []
    for size, taps, step, around, apart in zip(positions, kernel, stride, padding, dilation, strict=True):
        reach = size + 2 * around - apart * (taps - 1) - 1
        number = (-(-reach // step) if ceil else reach // step) + 1
        if ceil and (number - 1) * step >= size + around:
            number -= 1
        starts = [i * step - around for i in range(number)]
        parts.append([[i for i in range(at, at + apart * taps, apart) if i < size + around] for at in starts])
    return _windows(positions, parts)


@functools.lru_cache(maxsize=64)
def parted(positions: tuple[int, ...], shape: tuple[int, ...]) -> Windows:
    """Return windows that part positions into so many, of nearly equal size.

    Examples
    --------
    >>> parted((4,), (3,)).entries
    array([[0, 1],
           [1, 2],
           [2, 3]])
    """
    parts = [
        [list(range(i * size // number, -(-(i + 1) * size // number))) for i in range(number)]
        for size, number in zip(positions, shape, strict=True)
    ]
    return _windows(positions, parts)


def _windows(positions: tuple[int, ...], parts: list[list[list[int]]]) -> Windows:
    """Return the products of windows in each dimension; positions outside are left out."""
    steps = [math.prod(positions[i + 1 :]) for i in range(len(positions))]
    found, sizes = [], []
    for window in itertools.product(*parts):
        inside = [[i for i in part if 0 <= i < size] for part, size in zip(window, positions, strict=True)]
        found.append([sum(map(int.__mul__, place, steps)) for place in itertools.product(*inside)])
        sizes.append(math.prod(map(len, window)))
    longest = max(map(len, found), default=0)
    entries = np.array([window + [-1] * (longest - len(window)) for window in found], dtype=np.int64)
    return Windows(entries, np.array(sizes, dtype=np.float64), tuple(map(len, parts)))


def is_compiled(x: Tensor) -> bool:
    """Return whether the loops are there for a tensor: float32 and float64 on the processor."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def largest(x: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
    """Return the largest entry of each window, and its position.

    Of equal entries the first one counts, and gets the gradient, as in torch; a NaN is larger than all.

    Parameters
    ----------
    x
        (..., *positions, rows), float32 or float64 on the processor.
    windows
        Over the positions.

    Returns
    -------
    tuple of Tensor
        Entries and positions, (..., *windows.shape, rows).

    Examples
    --------
    >>> x = torch.tensor([[3.0, -1.0], [1.0, 0.0], [2.0, 5.0], [4.0, 4.0]])
    >>> largest(x, parted((4,), (2,)))
    (tensor([[3., 0.],
            [4., 5.]]), tensor([[0, 1],
            [3, 2]], dtype=torch.int32))
    """
    lines, shape = _lines(x, windows)
    values = lines.new_empty(len(lines), len(windows.entries), lines.shape[-1])
    # As wide as the entries, so that both fill the same registers.
    places = torch.empty(values.shape, dtype=torch.int32 if x.dtype == torch.float32 else torch.int64)
    _find_largest(_array(lines), windows.entries, values.numpy(), places.numpy())
    if lines.requires_grad and torch.is_grad_enabled():
        values = _Picked.apply(lines, places, windows.entries, values)
    return values.view(shape), places.view(shape)


def mean(x: Tensor, windows: Windows) -> Tensor:
    """Return the sum of each window over its size.

    Parameters
    ----------
    x, windows
        As for `largest`.

    Examples
    --------
    >>> mean(torch.tensor([[3.0, -1.0], [1.0, 0.0], [2.0, 5.0], [4.0, 4.0]]), parted((4,), (2,)))
    tensor([[ 2.0000, -0.5000],
            [ 3.0000,  4.5000]])
    """
    lines, shape = _lines(x, windows)
    return _Summed.apply(lines, windows.entries, 1 / windows.sizes).view(shape)


def _lines(x: Tensor, windows: Windows) -> tuple[Tensor, tuple[int, ...]]:
    """Return values as (any, positions, rows), and the shape of the results."""
    dimensions = len(windows.shape)
    front, positions = x.shape[: -1 - dimensions], x.shape[-1 - dimensions : -1]
    return x.reshape(-1, math.prod(positions), x.shape[-1]), (*front, *windows.shape, x.shape[-1])


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().contiguous().numpy()


class _Picked(Function):
    """Entries at given places, one in each window."""

    @staticmethod
    def forward(ctx: Any, lines: Tensor, places: Tensor, entries: Integers, values: Tensor | None) -> Tensor:
        ctx.save_for_backward(places)
        ctx.entries, ctx.positions = entries, lines.shape[1]
        if values is None:
            values = lines.new_empty(places.shape)
            _pick(_array(lines), places.numpy(), entries, values.numpy())
        return values

    @staticmethod
    def backward(ctx: Any, values_bar: Tensor) -> Any:
        return _Put.apply(values_bar, *ctx.saved_tensors, ctx.entries, ctx.positions), None, None, None


class _Put(Function):
    """Values added up at given places, one in each window."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor, entries: Integers, positions: int) -> Tensor:
        ctx.save_for_backward(places)
        ctx.entries = entries
        lines = values.new_empty(len(values), positions, values.shape[-1])
        _put(_array(values), places.numpy(), entries, lines.numpy())
        return lines

    @staticmethod
    def backward(ctx: Any, lines_bar: Tensor) -> Any:
        return _Picked.apply(lines_bar, *ctx.saved_tensors, ctx.entries, None), None, None, None


class _Summed(Function):
    """Sums of windows, each with a factor."""

    @staticmethod
    def forward(ctx: Any, lines: Tensor, entries: Integers, factors: Floats) -> Tensor:
        ctx.entries, ctx.factors, ctx.positions = entries, factors, lines.shape[1]
        sums = lines.new_empty(len(lines), len(entries), lines.shape[-1])
        _sum(_array(lines), entries, factors, sums.numpy())
        return sums

    @staticmethod
    def backward(ctx: Any, sums_bar: Tensor) -> Any:
        return _Shared.apply(sums_bar, ctx.entries, ctx.factors, ctx.positions), None, None


class _Shared(Function):
    """Values, each with a factor, added to all entries of its window."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, entries: Integers, factors: Floats, positions: int) -> Tensor:
        ctx.entries, ctx.factors = entries, factors
        lines = sums.new_empty(len(sums), positions, sums.shape[-1])
        _share(_array(sums), entries, factors, lines.numpy())
        return lines

    @staticmethod
    def backward(ctx: Any, lines_bar: Tensor) -> Any:
        return _Summed.apply(lines_bar, ctx.entries, ctx.factors), None, None, None


@njit(nogil=True, cache=True)
def _find_largest(lines, entries, values, places):  # type: ignore[no-untyped-def]
    for i in range(len(lines)):
        for window in range(len(entries)):
            best, place = values[i, window], places[i, window]
            for tap in range(entries.shape[1]):
                position = entries[window, tap]
                if position < 0:
                    break
                line = lines[i, position]
                if tap == 0:
                    best[:] = line
                    place[:] = position
                else:
                    for row in range(len(line)):
                        larger = (line[row] > best[row]) | ((line[row] != line[row]) & (best[row] == best[row]))
                        best[row] = line[row] if larger else best[row]
                        place[row] = position if larger else place[row]


@njit(nogil=True, cache=True)
def _pick(lines, places, entries, values):  # type: ignore[no-untyped-def]
    for i in range(len(lines)):
        for window in range(len(entries)):
            value, place = values[i, window], places[i, window]
            for position in entries[window]:
                if position < 0:
                    break
                line = lines[i, position]
                for row in range(len(line)):
                    value[row] = line[row] if place[row] == position else value[row]


@njit(nogil=True, cache=True)
def _put(values, places, entries, lines):  # type: ignore[no-untyped-def]
    for i in range(len(lines)):
        lines[i] = 0
        for window in range(len(entries)):
            value, place = values[i, window], places[i, window]
            for position in entries[window]:
                if position < 0:
                    break
                line = lines[i, position]
                for row in range(len(line)):
                    line[row] += value[row] if place[row] == position else value.dtype.type(0)


@njit(nogil=True, cache=True)
def _sum(lines, entries, factors, sums):  # type: ignore[no-untyped-def]
    for i in range(len(lines)):
        for window in range(len(entries)):
            total = sums[i, window]
            total[:] = 0
            for position in entries[window]:
                if position < 0:
                    break
                line = lines[i, position]
                for row in range(len(line)):
                    total[row] += line[row]
            total *= total.dtype.type(factors[window])


@njit(nogil=True, cache=True)
def _share(sums, entries, factors, lines):  # type: ignore[no-untyped-def]
    for i in range(len(lines)):
        lines[i] = 0
        for window in range(len(entries)):
            value, factor = sums[i, window], sums.dtype.type(factors[window])
            for position in entries[window]:
                if position < 0:
                    break
                line = lines[i, position]
                for row in range(len(line)):
                    line[row] += factor * value[row]
