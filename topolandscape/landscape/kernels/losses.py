"""Cross-entropy and squared error of wide outputs, fused and precise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from topolandscape.landscape.kernels.registers import as_array, is_compiled


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
    if is_compiled(outputs):
        if outputs.requires_grad and torch.is_grad_enabled():
            return _CrossEntropy.apply(outputs, targets, shares)
        return _values_and_slopes(outputs, targets, shares, sloped=False)[0]
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
        As torch has them: (rows, *shape). No gradient is taken in them. Their rows are moved to the end, at no cost if
        they are a view of what is stored so.
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
    if is_compiled(outputs):
        if outputs.requires_grad and torch.is_grad_enabled():
            return _SquaredError.apply(outputs, targets, shares)
        return _squares(outputs, targets, shares)
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


def _values_and_slopes(outputs: Tensor, targets: Tensor, shares: Tensor, *, sloped: bool) -> tuple[Tensor, Tensor]:
    """Return the mean losses and, where `sloped`, softmax less one at the right class; no slopes otherwise."""
    values = torch.empty(len(outputs), dtype=torch.float64)
    slopes = torch.empty(outputs.shape if sloped else (0, 0, 0), dtype=outputs.dtype)
    exp, log = _SERIES[outputs.dtype]
    _mean_cross_entropy(
        as_array(outputs), as_array(targets), as_array(shares), exp, log, values.numpy(), slopes.numpy(), sloped
    )
    return values, slopes


class _CrossEntropy(Function):
    """The mean loss; its gradient is found in the same pass."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        values, slopes = _values_and_slopes(outputs, targets, shares, sloped=True)
        ctx.save_for_backward(outputs, targets, shares, slopes)
        return values

    @staticmethod
    def backward(ctx: Any, values_bar: Tensor) -> Any:
        return _CrossEntropySlope.apply(values_bar, *ctx.saved_tensors), None, None


def _each_row(values_bar: Tensor, shares: Tensor, like: Tensor) -> Tensor:
    """Return how much a change of the loss of each row counts, to be multiplied with `like` (c, ..., rows)."""
    factor = values_bar[:, None] * shares
    return factor.view(len(factor), *[1] * (like.ndim - 2), len(shares)).to(like.dtype)


class _CrossEntropySlope(Function):
    """The gradient of the mean loss in the outputs, linear in `values_bar`."""

    @staticmethod
    def forward(
        ctx: Any, values_bar: Tensor, outputs: Tensor, targets: Tensor, shares: Tensor, slopes: Tensor
    ) -> Tensor:
        ctx.save_for_backward(values_bar, targets, shares, slopes)
        return _each_row(values_bar, shares, slopes) * slopes

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
            _each_row(values_bar, shares, slopes) * curved,
            *[None] * 3,
        )


def _squares(outputs: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
    """Return the sums of the squared differences, each row times its share."""
    values = torch.empty(len(outputs), dtype=torch.float64)
    entries, rows = targets.numel() // len(shares), len(shares)
    _sum_squares(
        as_array(outputs).reshape(-1, entries, rows),
        as_array(targets).reshape(entries, rows),
        as_array(shares),
        values.numpy(),
    )
    return values


class _SquaredError(Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor, targets: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(outputs, targets, shares)
        return _squares(outputs, targets, shares)

    @staticmethod
    def backward(ctx: Any, values_bar: Tensor) -> Any:
        outputs, targets, shares = ctx.saved_tensors
        return (outputs - targets) * _each_row(2 * values_bar, shares, outputs), None, None


# --------------------------------------------------------------------------------------------------------------
# Compiled
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
