"""Convolution of wide values, as one trilinear form and its partial derivatives."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from topolandscape.landscape.kernels.registers import (
    REGISTER_BYTES,
    as_array,
    fused,
    is_compiled,
    load,
    repeat,
    store,
    total,
    zeros,
)
from topolandscape.structures import Integers


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
) -> Tensor:
    """Return what a convolution makes of the values of c vectors, each with weights of its own.

    Parameters
    ----------
    x
        (c, inputs, *positions, rows), or (1, inputs, *positions, rows) where all vectors see the same.
    weight
        (c, outputs, inputs / groups, *kernel).
    bias
        (c, outputs), or None.
    stride, padding, dilation
        One number for each of the 1, 2 or 3 dimensions of the positions; padded with zeros.
    groups
        Outputs and inputs in this many parts, each part of the outputs made of its part of the inputs.

    Returns
    -------
    Tensor
        (c, outputs, *positions, rows), in the dtype of `x`.

    Raises
    ------
    ValueError
        Shapes do not fit.
    TypeError
        Dtypes or devices differ.

    Notes
    -----
    The indirect convolution (Dukhan 2019): each output position has a list of the input positions it is made of, so
    nothing is copied into patches and padding costs nothing. Outputs, gradient in `x` and gradient in `weight` are the
    partial derivatives of one trilinear form, and each is differentiated by means of the other two.

    Examples
    --------
    Differences of neighbours, and sums of them, of four positions in one row of data:

    >>> import torch
    >>> x = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 4, 1)
    >>> weight = torch.tensor([[-1.0, 1.0], [1.0, 1.0]]).view(2, 1, 1, 2)
    >>> convolution(x, weight, stride=(1,), padding=(0,), dilation=(1,)).squeeze().tolist()
    [[1.0, 2.0, 4.0], [3.0, 6.0, 12.0]]
    """
    geometry = _geometry(x, weight, bias, stride, padding, dilation, groups)
    if is_compiled(x):
        return _Outputs.apply(x, weight, bias, geometry)
    if groups > 1:
        x = x.expand(len(weight), *x.shape[1:])
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(stride) - 1]
    stacked = convolve(
        x.movedim(-1, 0).flatten(1, 2),
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups * len(x),
    )
    return stacked.unflatten(1, (len(weight), -1)).movedim(0, -1)


class Geometry(NamedTuple):
    """How a kernel moves over positions: one number for each dimension; and into how many groups the channels part."""

    positions: tuple[int, ...]  # of the inputs
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def outputs(self) -> tuple[int, ...]:
        """How many positions the outputs have, in each dimension."""
        return tuple(
            (size + 2 * around - apart * (taps - 1) - 1) // step + 1
            for size, taps, step, around, apart in zip(
                self.positions, self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )


def _geometry(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Geometry:
    dimensions = len(stride)
    if not (1 <= dimensions <= 3 and len(padding) == len(dilation) == dimensions):
        raise ValueError(
            f"got stride {stride}, padding {padding}, dilation {dilation}; each needs one number for each of 1 to 3 "
            "dimensions"
        )
    if min(stride) < 1 or min(dilation) < 1 or min(padding) < 0 or groups < 1:
        raise ValueError(
            f"got stride {stride}, padding {padding}, dilation {dilation}, groups {groups}; padding must be 0 or more, "
            "the others 1 or more"
        )
    if x.ndim != dimensions + 3 or weight.ndim != dimensions + 3 or len(x) not in (1, len(weight)):
        raise ValueError(
            f"got x of shape {tuple(x.shape)} and weight of shape {tuple(weight.shape)}; a convolution in {dimensions} "
            "dimensions needs (c or 1, inputs, *positions, rows) and (c, outputs, inputs / groups, *kernel)"
        )
    if x.shape[1] != weight.shape[2] * groups or weight.shape[1] % groups:
        raise ValueError(
            f"got {x.shape[1]} inputs and weight of shape {tuple(weight.shape)}; in {groups} groups the weight needs "
            "(c, outputs, inputs / groups, *kernel), outputs a multiple of the groups"
        )
    if bias is not None and bias.shape != weight.shape[:2]:
        raise ValueError(f"got bias of shape {tuple(bias.shape)}; it needs (c, outputs): {tuple(weight.shape[:2])}")
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and (other.dtype, other.device) != (x.dtype, x.device):
            raise TypeError(f"got x in {x.dtype} on {x.device}, {name} in {other.dtype} on {other.device}; convert one")
    geometry = Geometry(
        tuple(x.shape[2:-1]), tuple(weight.shape[3:]), tuple(stride), tuple(padding), tuple(dilation), groups
    )
    if min(*weight.shape[1:], *geometry.positions, *geometry.outputs) < 1:
        raise ValueError(
            f"got x of shape {tuple(x.shape)} with padding {padding} and weight of shape {tuple(weight.shape)} with "
            f"dilation {dilation}; no size may be 0, and the kernel must fit into the padded positions"
        )
    return geometry


class Meetings(NamedTuple):
    """Where a position of the outputs meets one of the inputs through a tap of the kernel, listed in three ways."""

    by_output: tuple[Integers, Integers, Integers]  # first entry of each position and the end, input position, tap
    by_input: tuple[Integers, Integers, Integers]  # first entry of each position and the end, output position, tap
    by_tap: Integers  # (taps, output positions) the input position, -1 in the padding


@functools.lru_cache(maxsize=64)
def meetings(geometry: Geometry) -> Meetings:
    """Return where the positions of inputs and outputs meet.

    Examples
    --------
    >>> meetings(Geometry((3,), (2,), (1,), (0,), (1,))).by_tap
    array([[0, 1],
           [1, 2]])
    """
    outputs, taps = (np.indices(shape).reshape(len(shape), 1, -1).T for shape in (geometry.outputs, geometry.kernel))
    at = outputs * geometry.stride + taps.transpose(1, 0, 2) * geometry.dilation - np.array(geometry.padding)
    inside = ((at >= 0) & (at < geometry.positions)).all(2)
    steps = np.cumprod((1, *geometry.positions[:0:-1]))[::-1]
    source = np.where(inside, at @ steps, -1)
    output, tap = np.nonzero(inside)
    return Meetings(
        listed(output, source[inside], tap, len(source)),
        listed(source[inside], output, tap, math.prod(geometry.positions)),
        np.ascontiguousarray(source.T),
    )


def listed(position: Integers, other: Integers, tap: Integers, count: int) -> tuple[Integers, Integers, Integers]:
    """Return the first entry of each of so many positions and the end, and the others and taps in that order."""
    order = np.argsort(position, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(position, minlength=count))])
    # Unsigned: the compiled loops need not ask whether an index counts from the end.
    return start.astype(np.uint64), other[order], tap[order]


class _Outputs(Function):
    """The convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        taps = math.prod(geometry.kernel)
        result = _combined(
            x,
            weight,
            weight.new_zeros(weight.shape[:2]) if bias is None else bias,
            (taps, weight.shape[2] * taps, taps),
            meetings(geometry).by_output,
            geometry.groups,
        )
        return result.view(*weight.shape[:2], *geometry.outputs, x.shape[-1])

    @staticmethod
    def backward(ctx: Any, outputs_bar: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        return (
            _InputGradient.apply(weight, outputs_bar, ctx.geometry).sum_to_size(x.shape) if needs_x else None,
            _WeightGradient.apply(x, outputs_bar, ctx.geometry) if needs_weight else None,
            outputs_bar.flatten(2).sum(2) if needs_bias else None,
            None,
        )


class _InputGradient(Function):
    """The gradient in `x`, for each vector."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, outputs_bar: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(weight, outputs_bar)
        ctx.geometry = geometry
        taps = math.prod(geometry.kernel)
        inputs = weight.shape[2] * geometry.groups
        result = _combined(
            outputs_bar,
            weight,
            weight.new_zeros(len(weight), inputs),
            (taps, taps, weight.shape[2] * taps),
            meetings(geometry).by_input,
            geometry.groups,
        )
        return result.view(len(weight), inputs, *geometry.positions, outputs_bar.shape[-1])

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> Any:
        weight, outputs_bar = ctx.saved_tensors
        needs_weight, needs_outputs, _ = ctx.needs_input_grad
        return (
            _WeightGradient.apply(x, outputs_bar, ctx.geometry) if needs_weight else None,
            _Outputs.apply(x, weight, None, ctx.geometry) if needs_outputs else None,
            None,
        )


class _WeightGradient(Function):
    """The gradient in `weight`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, outputs_bar: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, outputs_bar)
        ctx.geometry = geometry
        inputs = x.shape[1] // geometry.groups
        result = x.new_zeros(*outputs_bar.shape[:2], inputs * math.prod(geometry.kernel))
        by_tap = meetings(geometry).by_tap
        _correlate(_lines(x), _lines(outputs_bar), by_tap, geometry.groups, result.numpy())
        return result.view(*outputs_bar.shape[:2], inputs, *geometry.kernel)

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Any:
        x, outputs_bar = ctx.saved_tensors
        needs_x, needs_outputs, _ = ctx.needs_input_grad
        return (
            _InputGradient.apply(weight, outputs_bar, ctx.geometry).sum_to_size(x.shape) if needs_x else None,
            _Outputs.apply(x, weight, None, ctx.geometry) if needs_outputs else None,
            None,
        )


def _lines(x: Tensor) -> np.ndarray:
    """Return values as (c, channels, positions, rows), with rows of zeros added where a tile has more."""
    lacking = 2 * REGISTER_BYTES // x.element_size() - x.shape[-1]
    if lacking > 0:
        x = F.pad(x.detach(), (0, lacking))
    return as_array(x).reshape(*x.shape[:2], math.prod(x.shape[2:-1]), x.shape[-1])


def _combined(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    steps: tuple[int, int, int],
    lists: tuple[Integers, Integers, Integers],
    groups: int,
) -> Tensor:
    """Return sums of weights times listed positions of `x`: (c, outputs, positions, rows)."""
    lines = _lines(x)
    result = x.new_empty(*bias.shape, len(lists[0]) - 1, lines.shape[-1])
    _combine(lines, as_array(weight).ravel(), as_array(bias), steps, *lists, groups, result.numpy())
    return result[..., : x.shape[-1]].contiguous()


# --------------------------------------------------------------------------------------------------------------
# Compiled
# --------------------------------------------------------------------------------------------------------------

# A tile is as many rows as two registers hold. A line is the rows of one channel at one position. Tiles are copied
# together first: lines that lie a power of two apart in memory would push one another out of the cache.


@njit
def _tiles_at_once(bytes_of_one):  # type: ignore[no-untyped-def]
    """Return how many tiles to copy in one go: longer pieces are copied faster, as long as the cache holds them."""
    return max(1, min(4, 2**20 // bytes_of_one))


@njit
def _store_two(first, second, array, at, length):  # type: ignore[no-untyped-def]
    store(first, array, at)
    store(second, array, at + length)


@njit
def _copy_tiles(values, offset, lines, rows, start, length, tiles, copy):  # type: ignore[no-untyped-def]
    """Copy tiles of all lines from row `start` on; the last one ends with the rows, if need be over the one before."""
    for line in range(lines):
        for tile in range(tiles):
            source = offset + line * rows + min(start + 2 * length * tile, rows - 2 * length)
            place = (tile * lines + line) * 2 * length
            _store_two(load(values, source), load(values, source + length), copy, place, length)


@njit
def _copy_weights(weight, first, outputs, inputs, steps, copy):  # type: ignore[no-untyped-def]
    """Copy the weights of a group, those of four outputs side by side."""
    taps, output_step, input_step = steps
    place = 0
    for output in range(0, outputs, 4):
        for i in range(inputs):
            for tap in range(taps):
                for o in range(output, output + 4):
                    copy[place] = weight[first + min(o, outputs - 1) * output_step + i * input_step + tap]
                    place += 1


@njit
def _add_products(weights, at, x0, x1, sum0, sum1):  # type: ignore[no-untyped-def]
    weight = repeat(weights, at)
    return fused(weight, x0, sum0), fused(weight, x1, sum1)


@njit
def _add_outer(values, at, x0, x1, x2, sum0, sum1, sum2):  # type: ignore[no-untyped-def]
    y = load(values, at)
    return fused(y, x0, sum0), fused(y, x1, sum1), fused(y, x2, sum2)


@njit(nogil=True, cache=True)
def _combine(x, weight, bias, steps, start, source, tap, groups, result):  # type: ignore[no-untyped-def]
    """Write the bias plus, for each position of the result, the weights times the positions of x that it lists.

    x (c or 1, channels, positions, rows), weight flat, bias (c, outputs); steps are the number of taps and how far
    apart in the weight two outputs and two inputs are; entries start[p] to start[p + 1] of source and tap are the list
    of position p. Sums of four outputs over one tile are kept in registers.
    """
    shared = len(x) == 1
    _, channels, positions, rows = x.shape
    count, all_outputs, places, _ = result.shape
    outputs, inputs, taps = all_outputs // groups, channels // groups, steps[0]
    length = REGISTER_BYTES // x.itemsize
    lines = channels * positions
    many = _tiles_at_once(lines * 2 * REGISTER_BYTES)
    tiles = np.empty(many * lines * 2 * length, x.dtype)
    weights = np.empty((outputs + 3) // 4 * 4 * inputs * taps, x.dtype)
    for vector in range(count):
        for begin in range(0, rows, many * 2 * length):
            used = min(many, (rows - begin + 2 * length - 1) // (2 * length))
            _copy_tiles(x, 0 if shared else vector * lines * rows, lines, rows, begin, length, used, tiles)
            for group in range(groups):
                first_weight = (vector * groups + group) * (len(weight) // (count * groups))
                _copy_weights(weight, first_weight, outputs, inputs, steps, weights)
                for place in range(places):
                    for o in range(0, outputs, 4):
                        output = vector * all_outputs + group * outputs + o
                        last = output + min(3, outputs - 1 - o)
                        for tile in range(used):
                            a0 = a1 = repeat(bias, output)
                            b0 = b1 = repeat(bias, min(output + 1, last))
                            c0 = c1 = repeat(bias, min(output + 2, last))
                            d0 = d1 = repeat(bias, last)
                            for i in range(inputs):
                                first_line = tile * lines + (group * inputs + i) * positions
                                first_tap = (o // 4 * inputs + i) * taps
                                for entry in range(start[place], start[place + 1]):
                                    at = (first_line + source[entry]) * 2 * length
                                    x0, x1 = load(tiles, at), load(tiles, at + length)
                                    at = (first_tap + tap[entry]) * 4
                                    a0, a1 = _add_products(weights, at, x0, x1, a0, a1)
                                    b0, b1 = _add_products(weights, at + 1, x0, x1, b0, b1)
                                    c0, c1 = _add_products(weights, at + 2, x0, x1, c0, c1)
                                    d0, d1 = _add_products(weights, at + 3, x0, x1, d0, d1)
                            at = (output * places + place) * rows + min(begin + 2 * length * tile, rows - 2 * length)
                            _store_two(a0, a1, result, at, length)
                            if output + 1 <= last:
                                _store_two(b0, b1, result, at + places * rows, length)
                            if output + 2 <= last:
                                _store_two(c0, c1, result, at + 2 * places * rows, length)
                            if output + 3 <= last:
                                _store_two(d0, d1, result, at + 3 * places * rows, length)


@njit(nogil=True, cache=True)
def _correlate(x, y, by_tap, groups, result):  # type: ignore[no-untyped-def]
    """Add to result (c, outputs, inputs * taps) the sums over positions and rows of y times x behind the tap.

    x (c or 1, channels, positions, rows), y (c, outputs, places, rows); by_tap (taps, places) is the position of x, -1
    in the padding. Sums of four outputs by three inputs and taps are kept in registers.
    """
    shared = len(x) == 1
    _, channels, positions, rows = x.shape
    count, all_outputs, places, _ = y.shape
    outputs, inputs, taps = all_outputs // groups, channels // groups, len(by_tap)
    entries = inputs * taps
    length = REGISTER_BYTES // x.itemsize
    x_lines, y_lines = channels * positions, all_outputs * places
    many = _tiles_at_once((x_lines + y_lines) * 2 * REGISTER_BYTES)
    padding = many * x_lines * 2 * length
    x_tiles = np.empty(padding + 2 * length, x.dtype)
    x_tiles[padding:] = 0
    y_tiles = np.empty(many * y_lines * 2 * length, x.dtype)
    for vector in range(count):
        for begin in range(0, rows, many * 2 * length):
            used = min(many, (rows - begin + 2 * length - 1) // (2 * length))
            _copy_tiles(x, 0 if shared else vector * x_lines * rows, x_lines, rows, begin, length, used, x_tiles)
            _copy_tiles(y, vector * y_lines * rows, y_lines, rows, begin, length, used, y_tiles)
            twice = begin + used * 2 * length - rows  # rows that the last tile shares with the one before
            if twice > 0:
                for line in range((used - 1) * y_lines, used * y_lines):
                    y_tiles[line * 2 * length : line * 2 * length + twice] = 0
            for group in range(groups):
                for o in range(0, outputs, 4):
                    output = group * outputs + o
                    last = output + min(3, outputs - 1 - o)
                    step = places * 2 * length
                    to_b, to_c, to_d = (
                        min(1, last - output) * step,
                        min(2, last - output) * step,
                        (last - output) * step,
                    )
                    for entry in range(0, entries, 3):
                        one, two = min(entry + 1, entries - 1), min(entry + 2, entries - 1)
                        tap_0, tap_1, tap_2 = entry % taps, one % taps, two % taps
                        line_0 = (group * inputs + entry // taps) * positions
                        line_1 = (group * inputs + one // taps) * positions
                        line_2 = (group * inputs + two // taps) * positions
                        a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = zeros(x)
                        for tile in range(used):
                            for place in range(places):
                                source_0, source_1 = by_tap[tap_0, place], by_tap[tap_1, place]
                                source_2 = by_tap[tap_2, place]
                                if source_0 < 0 and source_1 < 0 and source_2 < 0:
                                    continue
                                at_0 = (tile * x_lines + line_0 + source_0) * 2 * length if source_0 >= 0 else padding
                                at_1 = (tile * x_lines + line_1 + source_1) * 2 * length if source_1 >= 0 else padding
                                at_2 = (tile * x_lines + line_2 + source_2) * 2 * length if source_2 >= 0 else padding
                                at = (tile * y_lines + output * places + place) * 2 * length
                                for half in (0, length):
                                    x0, x1 = load(x_tiles, at_0 + half), load(x_tiles, at_1 + half)
                                    x2 = load(x_tiles, at_2 + half)
                                    a0, a1, a2 = _add_outer(y_tiles, at + half, x0, x1, x2, a0, a1, a2)
                                    b0, b1, b2 = _add_outer(y_tiles, at + to_b + half, x0, x1, x2, b0, b1, b2)
                                    c0, c1, c2 = _add_outer(y_tiles, at + to_c + half, x0, x1, x2, c0, c1, c2)
                                    d0, d1, d2 = _add_outer(y_tiles, at + to_d + half, x0, x1, x2, d0, d1, d2)
                        _add_totals(a0, a1, a2, result[vector, output], entry)
                        if output + 1 <= last:
                            _add_totals(b0, b1, b2, result[vector, output + 1], entry)
                        if output + 2 <= last:
                            _add_totals(c0, c1, c2, result[vector, output + 2], entry)
                        if output + 3 <= last:
                            _add_totals(d0, d1, d2, result[vector, output + 3], entry)


@njit
def _add_totals(one, two, three, sums, at):  # type: ignore[no-untyped-def]
    sums[at] += total(one)
    if at + 1 < len(sums):
        sums[at + 1] += total(two)
    if at + 2 < len(sums):
        sums[at + 2] += total(three)
