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

from topolandscape.landscape.kernels.functions import exp, log1p
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
    shares = shares_of(rows, weights, outputs.device)
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
    shares = shares_of(outputs.shape[-1], weights, outputs.device) / math.prod(outputs.shape[1:-1])
    targets = targets.detach().movedim(0, -1).to(outputs.dtype).contiguous()
    if is_compiled(outputs):
        if outputs.requires_grad and torch.is_grad_enabled():
            return _SquaredError.apply(outputs, targets, shares)
        return _squares(outputs, targets, shares)
    return ((outputs - targets).double().square() * shares).flatten(1).sum(1)


def shares_of(rows: int, weights: Tensor | None, device: torch.device) -> Tensor:
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
    _mean_cross_entropy(as_array(outputs), as_array(targets), as_array(shares), values.numpy(), slopes.numpy(), sloped)
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


@njit(fastmath={"contract", "reassoc", "nsz"})
def _dot(one, other, count):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(count):
        total += one[i] * other[i]
    return total


@njit(error_model="numpy", fastmath={"contract", "nsz"})
def cross_entropy_of_one(outputs, targets, shares, slopes, sloped):  # type: ignore[no-untyped-def]
    """Return the mean loss of outputs (classes, rows); where `sloped`, write softmax less one at the right class."""
    classes = len(outputs)
    rows = len(targets)
    largest = np.empty(_TILE, outputs.dtype)
    winner = np.empty(_TILE, np.int32)
    others = np.empty(_TILE)
    losses = np.empty(_TILE)
    value = 0.0
    for start in range(0, rows, _TILE):
        tile = slice(start, min(start + _TILE, rows))
        n = tile.stop - start
        output = outputs[0, tile]
        for r in range(n):
            largest[r] = output[r]
            winner[r] = 0
        for k in range(1, classes):
            output = outputs[k, tile]
            for r in range(n):
                x, top, holder = output[r], largest[r], winner[r]
                largest[r] = x if x > top else top
                winner[r] = np.int32(k) if x > top else holder
        for r in range(n):
            others[r] = largest[r] - largest[r]  # 0, or NaN where the largest output is not finite
        for k in range(classes):
            output = outputs[k, tile]
            if sloped:
                slope = slopes[k, tile]
                for r in range(n):
                    e = exp(np.float64(output[r]) - np.float64(largest[r]))
                    slope[r] = e
                    others[r] += 0.0 if winner[r] == k else e
            else:
                for r in range(n):
                    e = exp(np.float64(output[r]) - np.float64(largest[r]))
                    others[r] += 0.0 if winner[r] == k else e
        for r in range(n):
            losses[r] = np.float64(largest[r]) - outputs[targets[start + r], start + r]
        for r in range(n):
            losses[r] += log1p(others[r])
        value += _dot(losses, shares[tile], n)
        if sloped:
            shrink = losses
            for r in range(n):
                shrink[r] = 1.0 / (1.0 + others[r])
            for k in range(classes):
                slope = slopes[k, tile]
                for r in range(n):
                    slope[r] *= shrink[r]
            for r in range(n):
                k = targets[start + r]
                if k == winner[r]:
                    slopes[k, start + r] = -others[r] * shrink[r]
                else:
                    slopes[k, start + r] -= 1.0
    return value


@njit(nogil=True, cache=True, error_model="numpy")
def _mean_cross_entropy(outputs, targets, shares, values, slopes, sloped):  # type: ignore[no-untyped-def]
    """Write the mean loss of each vector and, where `sloped`, softmax less one at the right class."""
    for vector in range(len(outputs)):
        slope = slopes[vector] if sloped else slopes[:0, 0]
        values[vector] = cross_entropy_of_one(outputs[vector], targets, shares, slope, sloped)


@njit(error_model="numpy", fastmath={"contract"})
def move_softmax(moves, targets, slopes, result):  # type: ignore[no-untyped-def]
    """Write how the slopes (classes, rows) of cross-entropy change when the outputs do by moves (classes, rows).

    That is softmax times (move less its mean under softmax). The move of the right class is taken out first: where
    softmax is nearly 1, the usual form would lose its digits.
    """
    classes = len(moves)
    along = np.empty(_TILE, moves.dtype)
    right = np.empty(_TILE, moves.dtype)
    for start in range(0, len(targets), _TILE):
        tile = slice(start, min(start + _TILE, len(targets)))
        n = tile.stop - start
        along[:] = 0
        for r in range(n):
            right[r] = moves[targets[start + r], start + r]
        for k in range(classes):
            move, slope = moves[k, tile], slopes[k, tile]
            for r in range(n):
                along[r] += slope[r] * move[r]
        for k in range(classes):
            move, slope, changed = moves[k, tile], slopes[k, tile], result[k, tile]
            for r in range(n):
                changed[r] = slope[r] * (move[r] - right[r] - along[r])
        for r in range(n):
            result[targets[start + r], start + r] -= along[r]


@njit(fastmath={"contract", "reassoc", "nsz"})
def squared_error_of_one(outputs, targets, shares, slopes, sloped):  # type: ignore[no-untyped-def]
    """Return the sum of shares of the squared differences (entries, rows); where `sloped`, write their slopes."""
    entries, rows = targets.shape
    total = 0.0
    for k in range(entries):
        output, target = outputs[k], targets[k]
        for r in range(rows):
            square = np.float64(output[r] - target[r])
            total += shares[r] * square * square
        if sloped:
            slope = slopes[k]
            for r in range(rows):
                difference = output[r] - target[r]
                slope[r] = difference + difference
    return total


@njit(nogil=True, cache=True)
def _sum_squares(outputs, targets, shares, values):  # type: ignore[no-untyped-def]
    """Write the sum of shares of the squared differences for each vector."""
    for vector in range(len(outputs)):
        values[vector] = squared_error_of_one(outputs[vector], targets, shares, outputs[vector], False)
