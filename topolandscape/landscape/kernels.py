# mypy: disallow-untyped-decorators=False, disallow-untyped-calls=False, check-untyped-defs=False
"""Losses and convolutions of many parameter vectors at once.

Values are stored wide: (c, channels, *positions, rows), torch's shape without its leading rows, one for each of c
vectors, the rows of the data last. What is done to one row is done to its neighbours, so the compiled loops run along
contiguous rows and fill the registers of the processor, whatever the network. They use one thread and release the
interpreter: the engine evaluates several chunks in threads of its own.

Compiled are float32 and float64 on the processor; other devices and dtypes take plain torch operations. Everything can
be differentiated twice by ``torch.autograd``.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic, models, register_model
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from topolandscape.structures import Integers

# --------------------------------------------------------------------------------------------------------------
# Losses
# --------------------------------------------------------------------------------------------------------------


def cross_entropy(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of classes, for each of c vectors.

    The loss of a row is log(sum of exp(outputs)) less the output of its class. It is found as log1p(sum over the
    classes but the largest of exp(output - largest)) + (largest - output of its class), which keeps its digits where
    the loss is tiny: of outputs in float32 the result is right to about 1e-8 of itself, whatever its size.

    Parameters
    ----------
    outputs
        (c, classes, rows). A row with an output NaN or +inf, or with all of them -inf, has the loss NaN, as in torch.
    targets
        The class of each row: int64 (rows,). Rows cannot be ignored: torch's index -100 is refused.
    weights
        How much each row counts: (rows,); all the same if None. No gradient is taken in weights.

    Returns
    -------
    Tensor
        The weighted mean over rows: float64 (c,).

    Raises
    ------
    ValueError
        Shapes do not fit, there is no row, or a target is no class.
    NotImplementedError
        A target is -100.

    Examples
    --------
    Two vectors, three classes, one row; the second is all but sure, and right:

    >>> outputs = torch.tensor([[[0.0], [0.0], [0.0]], [[40.0], [0.0], [-1.0]]])
    >>> [f"{value:.4g}" for value in cross_entropy(outputs, torch.tensor([0])).tolist()]
    ['1.099', '5.811e-18']
    """
    if outputs.ndim != 3 or outputs.shape[1] == 0:
        raise ValueError(f"got outputs of shape {tuple(outputs.shape)}; cross-entropy needs (c, classes, rows)")
    _, classes, rows = outputs.shape
    if targets.shape != (rows,) or targets.dtype != torch.int64:
        raise ValueError(
            f"got targets {targets.dtype} of shape {tuple(targets.shape)} for {rows} rows of outputs; "
            "cross-entropy needs one class a row: int64 (rows,)"
        )
    shares = _shares(rows, weights, outputs.device)
    low, high = (int(bound) for bound in targets.aminmax())
    if low < 0 or high >= classes:
        row = int(((targets < 0) | (targets >= classes)).nonzero()[0])
        if targets[row] == -100:
            raise NotImplementedError(
                f"targets[{row}] is -100, the index torch ignores; rows cannot be ignored here: leave them out"
            )
        raise ValueError(f"targets[{row}] is {targets[row]}; with {classes} classes it must be 0 to {classes - 1}")
    if _is_compiled(outputs):
        sloped = outputs.requires_grad and torch.is_grad_enabled()
        return _CrossEntropy.apply(outputs, targets, shares, sloped)
    outputs = outputs.double()
    largest, winner = outputs.max(1, keepdim=True)
    others = (outputs - largest).exp().scatter(1, winner, 0.0).sum(1, keepdim=True)
    others = others + (largest - largest)  # NaN where the largest output is not finite
    gap = largest - outputs.gather(1, targets.expand(len(outputs), 1, -1))
    return (torch.log1p(others) + gap).squeeze(1) @ shares


def squared_error(outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean squared difference of outputs and targets, for each of c vectors.

    Differences are taken in the dtype of the outputs, and summed in float64.

    Parameters
    ----------
    outputs
        (c, *shape, rows).
    targets
        As torch has them: (rows, *shape). No gradient is taken in them.
    weights
        How much each row counts: (rows,); all the same if None. No gradient is taken in weights.

    Returns
    -------
    Tensor
        The mean over all entries, rows weighted: float64 (c,).

    Raises
    ------
    ValueError
        Shapes do not fit, or there is no row or no entry.

    Examples
    --------
    >>> outputs = torch.tensor([[[1.0, 2.0]], [[3.0, 3.0]]])
    >>> squared_error(outputs, torch.tensor([[1.0], [3.0]])).tolist()
    [0.5, 2.0]
    """
    if outputs.ndim < 2 or targets.shape != (outputs.shape[-1], *outputs.shape[1:-1]):
        raise ValueError(
            f"got outputs of shape {tuple(outputs.shape)} and targets of shape {tuple(targets.shape)}; "
            "squared error needs (c, *shape, rows) and (rows, *shape)"
        )
    if targets.numel() == 0:
        raise ValueError(f"got outputs of shape {tuple(outputs.shape)}; the mean needs one entry at least")
    shares = _shares(outputs.shape[-1], weights, outputs.device) / math.prod(outputs.shape[1:-1])
    targets = targets.detach().movedim(0, -1).to(outputs.dtype).contiguous()
    if _is_compiled(outputs):
        return _SquaredError.apply(outputs, targets, shares)
    return ((outputs - targets).double().square() * shares).flatten(1).sum(1)


def _shares(rows: int, weights: Tensor | None, device: torch.device) -> Tensor:
    """Return how much of the mean each row is: float64 (rows,), of sum 1."""
    if rows == 0:
        raise ValueError("got no rows; a mean loss needs one at least")
    if weights is None:
        return torch.full((rows,), 1 / rows, dtype=torch.float64, device=device)
    if weights.shape != (rows,):
        raise ValueError(f"got weights of shape {tuple(weights.shape)} for {rows} rows; they need one number a row")
    weights = weights.detach().double()
    return weights / weights.sum()


def _is_compiled(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


class _CrossEntropy(Function):
    """The mean loss, and softmax less one at the right class, in one pass."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, targets: Tensor, shares: Tensor, sloped: bool) -> Tensor:
        values = torch.empty(len(outputs), dtype=torch.float64)
        slopes = torch.empty(outputs.shape if sloped else (0, 0, 0), dtype=outputs.dtype)
        exp, log = _SERIES[outputs.dtype]
        _mean_cross_entropy(
            _array(outputs), _array(targets), _array(shares), exp, log, values.numpy(), slopes.numpy(), sloped
        )
        ctx.save_for_backward(outputs, targets, shares, slopes)
        return values

    @staticmethod
    def backward(ctx: Any, values_bar: Tensor) -> Any:
        return _CrossEntropySlope.apply(values_bar, *ctx.saved_tensors), None, None, None


class _CrossEntropySlope(Function):
    """The gradient of the mean loss in the outputs, linear in `values_bar`."""

    @staticmethod
    def forward(
        ctx: Any, values_bar: Tensor, outputs: Tensor, targets: Tensor, shares: Tensor, slopes: Tensor
    ) -> Tensor:
        ctx.save_for_backward(values_bar, targets, shares, slopes)
        return (values_bar[:, None] * shares)[:, None].to(slopes.dtype) * slopes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, change: Tensor) -> Any:
        values_bar, targets, shares, slopes = ctx.saved_tensors
        right = targets.expand(len(slopes), 1, -1)
        along = (slopes * change).sum(1, keepdim=True)
        softmax = slopes.scatter_add(1, right, torch.ones_like(slopes[:, :1]))
        # Softmax times (change less its mean under softmax), with the change of the right class taken out first: where
        # softmax is nearly 1, the usual form would lose its digits.
        curved = softmax * (change - change.gather(1, right) - along)
        return (
            along[:, 0].double() @ shares,
            (values_bar[:, None] * shares)[:, None].to(slopes.dtype) * curved,
            *[None] * 3,
        )


class _SquaredError(Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(outputs, targets, shares)
        values = torch.empty(len(outputs), dtype=torch.float64)
        rows = len(shares)
        _sum_squares(
            _array(outputs).reshape(len(outputs), targets.numel() // rows, rows),
            _array(targets).reshape(targets.numel() // rows, rows),
            _array(shares),
            values.numpy(),
        )
        return values

    @staticmethod
    def backward(ctx: Any, values_bar: Tensor) -> Any:
        outputs, targets, shares = ctx.saved_tensors
        scale = 2 * values_bar[:, None] * shares
        scale = scale.view(len(outputs), *[1] * (outputs.ndim - 2), len(shares))
        return (outputs - targets) * scale.to(outputs.dtype), None, None


# --------------------------------------------------------------------------------------------------------------
# Convolution
# --------------------------------------------------------------------------------------------------------------


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

    >>> x = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 4, 1)
    >>> weight = torch.tensor([[-1.0, 1.0], [1.0, 1.0]]).view(2, 1, 1, 2)
    >>> convolution(x, weight, stride=(1,), padding=(0,), dilation=(1,)).squeeze().tolist()
    [[1.0, 2.0, 4.0], [3.0, 6.0, 12.0]]
    """
    geometry = _geometry(x, weight, bias, stride, padding, dilation, groups)
    if _is_compiled(x):
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


class _Geometry(NamedTuple):
    positions: tuple[int, ...]  # of the inputs
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

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
) -> _Geometry:
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
    geometry = _Geometry(
        tuple(x.shape[2:-1]), tuple(weight.shape[3:]), tuple(stride), tuple(padding), tuple(dilation), groups
    )
    if min(*weight.shape[1:], *geometry.positions, *geometry.outputs) < 1:
        raise ValueError(
            f"got x of shape {tuple(x.shape)} with padding {padding} and weight of shape {tuple(weight.shape)} with "
            f"dilation {dilation}; no size may be 0, and the kernel must fit into the padded positions"
        )
    return geometry


class _Meetings(NamedTuple):
    """Where a position of the outputs meets one of the inputs through a tap of the kernel, listed in three ways."""

    by_output: tuple[Integers, Integers, Integers]  # first entry of each position and the end, input position, tap
    by_input: tuple[Integers, Integers, Integers]  # first entry of each position and the end, output position, tap
    by_tap: Integers  # (taps, output positions) the input position, -1 in the padding


@functools.lru_cache(maxsize=64)
def _meetings(geometry: _Geometry) -> _Meetings:
    outputs, taps = (np.indices(shape).reshape(len(shape), 1, -1).T for shape in (geometry.outputs, geometry.kernel))
    at = outputs * geometry.stride + taps.transpose(1, 0, 2) * geometry.dilation - np.array(geometry.padding)
    inside = ((at >= 0) & (at < geometry.positions)).all(2)
    steps = np.cumprod((1, *geometry.positions[:0:-1]))[::-1]
    source = np.where(inside, at @ steps, -1)
    output, tap = np.nonzero(inside)
    return _Meetings(
        _listed(output, source[inside], tap, len(source)),
        _listed(source[inside], output, tap, math.prod(geometry.positions)),
        np.ascontiguousarray(source.T),
    )


def _listed(position: Integers, other: Integers, tap: Integers, count: int) -> tuple[Integers, Integers, Integers]:
    order = np.argsort(position, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(position, minlength=count))])
    # Unsigned: the compiled loops need not ask whether an index counts from the end.
    return start.astype(np.uint64), other[order], tap[order]


class _Outputs(Function):
    """The convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        taps = math.prod(geometry.kernel)
        result = _combined(
            x,
            weight,
            weight.new_zeros(weight.shape[:2]) if bias is None else bias,
            (taps, weight.shape[2] * taps, taps),
            _meetings(geometry).by_output,
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
    def forward(ctx: Any, weight: Tensor, outputs_bar: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(weight, outputs_bar)
        ctx.geometry = geometry
        taps = math.prod(geometry.kernel)
        inputs = weight.shape[2] * geometry.groups
        result = _combined(
            outputs_bar,
            weight,
            weight.new_zeros(len(weight), inputs),
            (taps, taps, weight.shape[2] * taps),
            _meetings(geometry).by_input,
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
    def forward(ctx: Any, x: Tensor, outputs_bar: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, outputs_bar)
        ctx.geometry = geometry
        inputs = x.shape[1] // geometry.groups
        result = x.new_zeros(*outputs_bar.shape[:2], inputs * math.prod(geometry.kernel))
        by_tap = _meetings(geometry).by_tap
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
    lacking = 2 * _REGISTER // x.element_size() - x.shape[-1]
    if lacking > 0:
        x = F.pad(x.detach(), (0, lacking))
    return _array(x).reshape(*x.shape[:2], math.prod(x.shape[2:-1]), x.shape[-1])


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
    _combine(lines, _array(weight).ravel(), _array(bias), steps, *lists, groups, result.numpy())
    return result[..., : x.shape[-1]].contiguous()


# --------------------------------------------------------------------------------------------------------------
# Losses, compiled
# --------------------------------------------------------------------------------------------------------------

# The rows of a tile, and what is known of them, stay in the cache.
_TILE = 256
_LOG_2 = (float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33"))  # few digits, and the rest
_ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of the square root of 1/2


def _series(exp_degree: int, log_terms: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the coefficients of exp(r), and of 2 atanh(z) / z in powers of z squared; highest first."""
    exp = tuple(1 / math.factorial(n) for n in reversed(range(exp_degree + 1)))
    return exp, tuple(2 / (2 * n + 1) for n in reversed(range(log_terms)))


# Truncated at 5e-9 and 1e-18 of the result; float32 is computed in float64, where it has room.
_SERIES = {torch.float32: _series(7, 6), torch.float64: _series(13, 12)}


@njit(fastmath={"contract"})
def _exp(x, series):  # type: ignore[no-untyped-def]
    """Return exp of a number of at most 0, what is below 1e-304 as 0; NaN stays NaN."""
    shifted = x * (1 / math.log(2)) + 6755399441055744.0  # 3 * 2**51: the nearest integer stands in the lowest bits
    power = shifted - 6755399441055744.0
    rest = x - power * _LOG_2[0] - power * _LOG_2[1]
    result = series[0]
    for coefficient in series[1:]:
        result = result * rest + coefficient
    result *= np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return 0.0 if x < -700.0 else result


@njit(fastmath={"contract"})
def _log1p(x, series):  # type: ignore[no-untyped-def]
    """Return log(1 + x) of a number of at least 0 to its last digits; NaN stays NaN."""
    power = (np.float64(1.0 + x).view(np.int64) - np.int64(_ROOT_HALF)) >> 52
    scale = np.int64((1023 - power) << 52).view(np.float64)
    excess = (x + (1.0 - np.int64((1023 + power) << 52).view(np.float64))) * scale  # (1 + x) / 2**power - 1
    z = excess / (2.0 + excess)
    result = series[0]
    for coefficient in series[1:]:
        result = result * (z * z) + coefficient
    return power * math.log(2) + result * z


@njit(fastmath={"contract", "reassoc", "nsz"})
def _dot(one, other, count):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(count):
        total += one[i] * other[i]
    return total


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def _mean_cross_entropy(outputs, targets, shares, exp, log, values, slopes, sloped):  # type: ignore[no-untyped-def]
    """Write the mean loss of each vector and, where `sloped`, softmax less one at the right class."""
    count, classes, rows = outputs.shape
    largest = np.empty(_TILE, outputs.dtype)
    winner = np.empty(_TILE, np.int32)
    others = np.empty(_TILE)
    losses = np.empty(_TILE)
    for vector in range(count):
        values[vector] = 0.0
        for start in range(0, rows, _TILE):
            tile = slice(start, min(start + _TILE, rows))
            n = tile.stop - start
            output = outputs[vector, 0, tile]
            for r in range(n):
                largest[r] = output[r]
                winner[r] = 0
            for k in range(1, classes):
                output = outputs[vector, k, tile]
                for r in range(n):
                    x, top, holder = output[r], largest[r], winner[r]
                    largest[r] = x if x > top else top
                    winner[r] = np.int32(k) if x > top else holder
            for r in range(n):
                others[r] = largest[r] - largest[r]  # 0, or NaN where the largest output is not finite
            for k in range(classes):
                output = outputs[vector, k, tile]
                if sloped:
                    slope = slopes[vector, k, tile]
                    for r in range(n):
                        e = _exp(np.float64(output[r]) - largest[r], exp)
                        slope[r] = e
                        others[r] += 0.0 if winner[r] == k else e
                else:
                    for r in range(n):
                        e = _exp(np.float64(output[r]) - largest[r], exp)
                        others[r] += 0.0 if winner[r] == k else e
            for r in range(n):
                losses[r] = np.float64(largest[r]) - outputs[vector, targets[start + r], start + r]
            for r in range(n):
                losses[r] += _log1p(others[r], log)
            values[vector] += _dot(losses, shares[tile], n)
            if sloped:
                shrink = losses
                for r in range(n):
                    shrink[r] = 1.0 / (1.0 + others[r])
                for k in range(classes):
                    slope = slopes[vector, k, tile]
                    for r in range(n):
                        slope[r] *= shrink[r]
                for r in range(n):
                    k = targets[start + r]
                    if k == winner[r]:
                        slopes[vector, k, start + r] = -others[r] * shrink[r]
                    else:
                        slopes[vector, k, start + r] -= 1.0


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def _sum_squares(outputs, targets, shares, values):  # type: ignore[no-untyped-def]
    """Write the sum of shares of the squared differences for each vector."""
    count, entries, rows = outputs.shape
    for vector in range(count):
        total = 0.0
        for k in range(entries):
            output, target = outputs[vector, k], targets[k]
            for r in range(rows):
                difference = np.float64(output[r] - target[r])
                total += shares[r] * difference * difference
        values[vector] = total


# --------------------------------------------------------------------------------------------------------------
# Registers: several numbers of one row after the other, treated at once
# --------------------------------------------------------------------------------------------------------------


def _register_bytes() -> int:
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


_REGISTER = _register_bytes()


class _Register(types.Type):
    """The numba type of a full register."""

    def __init__(self, number: Any) -> None:
        self.number = number
        self.length = 8 * _REGISTER // number.bitwidth
        super().__init__(f"Register({number}, {self.length})")


@register_model(_Register)
class _RegisterModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Register) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.number).get_value_type(), kind.length))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Return the address of a number, counted from the first of the array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def _zeros(typing: Any, array: Any) -> Any:
    """Return a register of zeros, of the dtype of `array`."""
    register = _Register(array.dtype)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(register), None)

    return register(array), build


@intrinsic
def _load(typing: Any, array: Any, index: Any) -> Any:
    """Return the numbers of `array` from `index` on."""
    register = _Register(array.dtype)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        pointer = builder.bitcast(pointer, context.get_value_type(register).as_pointer())
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return register(array, types.intp), build


@intrinsic
def _store(typing: Any, register: Any, array: Any, index: Any) -> Any:
    """Write the numbers of a register into `array` from `index` on."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[1], *arguments[1:])
        pointer = builder.bitcast(pointer, context.get_value_type(register).as_pointer())
        builder.store(arguments[0], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(register, array, types.intp), build


@intrinsic
def _repeat(typing: Any, array: Any, index: Any) -> Any:
    """Return a register that repeats one number of `array`."""
    register = _Register(array.dtype)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        nothing = ir.Constant(context.get_value_type(register), ir.Undefined)
        first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, nothing, _places([0] * register.length))

    return register(array, types.intp), build


@intrinsic
def _fused(typing: Any, one: Any, other: Any, added: Any) -> Any:
    """Return one * other + added."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        product = builder.fmul(*arguments[:2], flags=("contract",))
        return builder.fadd(product, arguments[2], flags=("contract",))

    return one(one, other, added), build


@intrinsic
def _total(typing: Any, register: Any) -> Any:
    """Return the sum of the numbers of a register."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (sums,) = arguments
        length = register.length
        while length > 1:
            length //= 2
            halves = (builder.shuffle_vector(sums, sums, _places(range(at, at + length))) for at in (0, length))
            sums = builder.fadd(*halves)
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return register.number(register), build


def _places(numbers: Any) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), list(numbers))


# --------------------------------------------------------------------------------------------------------------
# Convolution, compiled
# --------------------------------------------------------------------------------------------------------------

# A tile is as many rows as two registers hold. A line is the rows of one channel at one position. Tiles are copied
# together first: lines that lie a power of two apart in memory would push one another out of the cache.


@njit
def _tiles_at_once(bytes_of_one):  # type: ignore[no-untyped-def]
    """Return how many tiles to copy in one go: longer pieces are copied faster, as long as the cache holds them."""
    return max(1, min(4, 2**20 // bytes_of_one))


@njit
def _store_two(first, second, array, at, length):  # type: ignore[no-untyped-def]
    _store(first, array, at)
    _store(second, array, at + length)


@njit
def _copy_tiles(values, offset, lines, rows, start, length, tiles, copy):  # type: ignore[no-untyped-def]
    """Copy tiles of all lines from row `start` on; the last one ends with the rows, if need be over the one before."""
    for line in range(lines):
        for tile in range(tiles):
            source = offset + line * rows + min(start + 2 * length * tile, rows - 2 * length)
            place = (tile * lines + line) * 2 * length
            _store_two(_load(values, source), _load(values, source + length), copy, place, length)


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
    weight = _repeat(weights, at)
    return _fused(weight, x0, sum0), _fused(weight, x1, sum1)


@njit
def _add_outer(values, at, x0, x1, x2, sum0, sum1, sum2):  # type: ignore[no-untyped-def]
    y = _load(values, at)
    return _fused(y, x0, sum0), _fused(y, x1, sum1), _fused(y, x2, sum2)


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
    length = _REGISTER // x.itemsize
    lines = channels * positions
    many = _tiles_at_once(lines * 2 * _REGISTER)
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
                            a0 = a1 = _repeat(bias, output)
                            b0 = b1 = _repeat(bias, min(output + 1, last))
                            c0 = c1 = _repeat(bias, min(output + 2, last))
                            d0 = d1 = _repeat(bias, last)
                            for i in range(inputs):
                                first_line = tile * lines + (group * inputs + i) * positions
                                first_tap = (o // 4 * inputs + i) * taps
                                for entry in range(start[place], start[place + 1]):
                                    at = (first_line + source[entry]) * 2 * length
                                    x0, x1 = _load(tiles, at), _load(tiles, at + length)
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
    length = _REGISTER // x.itemsize
    x_lines, y_lines = channels * positions, all_outputs * places
    many = _tiles_at_once((x_lines + y_lines) * 2 * _REGISTER)
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
                        a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = _zeros(x)
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
                                    x0, x1 = _load(x_tiles, at_0 + half), _load(x_tiles, at_1 + half)
                                    x2 = _load(x_tiles, at_2 + half)
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
    sums[at] += _total(one)
    if at + 1 < len(sums):
        sums[at + 1] += _total(two)
    if at + 2 < len(sums):
        sums[at + 2] += _total(three)
