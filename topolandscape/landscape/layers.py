"""Layers of c parameter vectors at once: products, convolutions, norms, pooling, embedding and attention.

See `topolandscape.landscape.stacked` for how their inputs and parameters are stored.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from topolandscape.landscape import functions, pooling
from topolandscape.landscape.functions import row_by_row, spellings
from topolandscape.landscape.kernels import convolution
from topolandscape.landscape.stacked import NotWide, Rule, Stacked, fit

# --------------------------------------------------------------------------------------------------------------
# Products
# --------------------------------------------------------------------------------------------------------------


def linear(x: Stacked, weight: Stacked, bias: Stacked | None = None) -> Stacked:
    """Return the inputs (rows, ..., in) times the weight (out, in), plus the bias (out,)."""
    if weight.rows or weight.ndim != 2:
        raise NotWide("a product with something that is not a matrix of parameters")
    if not x.rows:
        leading = Stacked(x.tensor.movedim(1, -1), rows=True)
        return Stacked(linear(leading, weight, bias).tensor.movedim(-1, 1), rows=False)
    if x.ndim < 2:
        raise NotWide("a product of inputs without dimensions")
    between = x.tensor.shape[1:-2]
    columns = x.tensor.movedim(-2, 1).reshape(x.tensor.shape[0], x.tensor.shape[-2], -1) if between else x.tensor
    result = _product(weight.tensor, None if bias is None else bias.tensor, columns)
    if between:
        result = result.view(*result.shape[:2], *between, -1).movedim(1, -2)
    return Stacked(result, rows=True)


def _product(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Return weight (c, o, i) times x (c, i, n), plus bias (c, o): (c, o, n); where c is 1 it counts for all."""
    count = max(weight.shape[0], x.shape[0], 1 if bias is None else bias.shape[0])
    outputs, inputs = weight.shape[1:]
    if x.shape[0] == 1 and weight.shape[0] == count:  # the same inputs for all: one plain product
        flat = weight.reshape(count * outputs, inputs)
        column = None if bias is None else _for_all(bias, count).reshape(-1, 1)
        product = flat @ x[0] if column is None else torch.addmm(column, flat, x[0])
        # Not a view: what follows may write into it, and a change of a view costs autograd a copy.
        return torch.ops.aten._unsafe_view(product, (count, outputs, x.shape[-1]))
    weight, x = _for_all(weight, count), _for_all(x, count)
    return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias[:, :, None], weight, x)


def _for_all(tensor: Tensor, count: int) -> Tensor:
    """Return a tensor for each of so many vectors."""
    return tensor if tensor.shape[0] == count else tensor.expand(count, *tensor.shape[1:])


def matmul(a: Stacked, b: Stacked) -> Stacked:
    """Return the product of the last two dimensions, of each row for itself."""
    if a.rows and not b.rows and b.ndim <= 2:
        if b.ndim == 1:
            return functions.squeeze(linear(a, Stacked(b.tensor[:, None], rows=False)), -1)
        return linear(a, Stacked(b.tensor.mT, rows=False))
    if min(a.ndim, b.ndim) < 2 or any(x.rows and x.ndim == 2 for x in (a, b)):
        raise NotWide("a product over the rows")
    (one, other), rows = fit((a, b))
    if not rows:
        return Stacked(torch.matmul(one, other), rows)
    return Stacked(torch.matmul(one.movedim(-1, 1), other.movedim(-1, 1)).movedim(1, -1), rows)


def addmm(bias: Stacked, a: Stacked, b: Stacked, *, beta: float = 1, alpha: float = 1) -> Stacked:
    """Return a product plus something."""
    total, rows = fit((bias, matmul(a, b)))
    return Stacked(beta * total[0] + alpha * total[1], rows)


def einsum(equation: str, *operands: Any) -> Stacked:
    """Return a sum of products by its equation, in which the rows come first and stay."""
    values = list(operands[0] if isinstance(operands[0], (tuple, list)) else operands)
    terms, arrow, result = equation.replace(" ", "").partition("->")
    letters = terms.split(",")
    leading = {term[:1] for term, x in zip(letters, values, strict=True) if x.rows}
    vector = next(letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter not in equation)
    if not arrow or "." in equation or len(leading) > 1:
        raise NotWide(f"einsum of {equation}")
    row = "".join(leading)
    if row and (result[:1] != row or any(row in term[x.rows :] for term, x in zip(letters, values, strict=True))):
        raise NotWide(f"einsum of {equation}, which sums over the rows or moves them")
    written = [f"{vector}{term[1:]}{row}" if x.rows else vector + term for term, x in zip(letters, values, strict=True)]
    whole = f"{vector}{result[1:]}{row}" if row else vector + result
    return Stacked(torch.einsum(f"{','.join(written)}->{whole}", [x.tensor for x in values]), bool(row))


# --------------------------------------------------------------------------------------------------------------
# Convolutions
# --------------------------------------------------------------------------------------------------------------


def convolution_of(dimensions: int) -> Rule:
    """Return the rule of a convolution over some dimensions."""

    def rule(
        input: Stacked,
        weight: Stacked,
        bias: Stacked | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Stacked:
        if not input.rows or input.ndim != dimensions + 2 or weight.rows or weight.ndim != dimensions + 2:
            raise NotWide(f"a convolution of {input.ndim} dimensions by {weight.ndim}")
        kernel = weight.shape[2:]
        steps, gaps = for_each(stride, dimensions), for_each(dilation, dimensions)
        around, behind = padding_of(padding, kernel, gaps)
        x = input.tensor
        if any(behind):
            x = F.pad(x, (0, 0, *(side for more in reversed(behind) for side in (0, more))))
        if math.prod(kernel) == groups == 1 and not any(around):
            for axis, step in enumerate(steps, 2):
                x = x[(slice(None),) * axis + (slice(None, None, step),)]
            flat = x.reshape(x.shape[0], x.shape[1], -1)
            product = _product(weight.tensor.flatten(2), None if bias is None else bias.tensor, flat)
            return Stacked(product.view(*product.shape[:2], *x.shape[2:]), rows=True)
        count = max(x.shape[0], weight.tensor.shape[0], 1 if bias is None else bias.tensor.shape[0])
        result = convolution(
            x,
            _for_all(weight.tensor, count),
            None if bias is None else _for_all(bias.tensor, count),
            stride=steps,
            padding=around,
            dilation=gaps,
            groups=groups,
        )
        return Stacked(result, rows=True)

    return rule


def padding_of(
    padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return by torch's argument how many positions are added on either side, and how many more behind."""
    if padding == "same":
        missing = [gap * (size - 1) for gap, size in zip(dilation, kernel, strict=True)]
        return tuple(total // 2 for total in missing), tuple(total % 2 for total in missing)
    return for_each(0 if padding == "valid" else padding, len(kernel)), (0,) * len(kernel)


def for_each(value: Any, length: int) -> tuple[int, ...]:
    """Return numbers for so many dimensions, given as many, or one for all."""
    if isinstance(value, int):
        return (value,) * length
    return tuple(value) * length if len(value) == 1 else tuple(value)


# --------------------------------------------------------------------------------------------------------------
# Norms
# --------------------------------------------------------------------------------------------------------------


def batch_norm(
    input: Stacked,
    running_mean: Stacked | None,
    running_var: Stacked | None,
    weight: Stacked | None = None,
    bias: Stacked | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Stacked:
    """Return each channel scaled and shifted by its running statistics and its parameters."""
    if training or running_mean is None or running_var is None:
        raise NotWide("batch norm that follows the data")
    if not input.rows:
        raise NotWide("batch norm of parameters")
    scale = torch.rsqrt(running_var.tensor + eps)
    if weight is not None:
        scale = scale * weight.tensor
    shift = -running_mean.tensor * scale
    if bias is not None:
        shift = shift + bias.tensor
    return _scaled(input, scale, shift)


def layer_norm(
    input: Stacked,
    normalized_shape: Sequence[int],
    weight: Stacked | None = None,
    bias: Stacked | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Stacked:
    """Return the last dimensions of each row with mean 0 and variance 1, scaled and shifted."""
    axes = [input.axis(-1 - i) for i in range(len(normalized_shape))]
    return _affine(input.but(_standardised(input.tensor, axes, eps)), weight, bias)


def rms_norm(
    input: Stacked, normalized_shape: Sequence[int], weight: Stacked | None = None, eps: float | None = None
) -> Stacked:
    """Return the last dimensions of each row over the root of their mean square, scaled."""
    axes = [input.axis(-1 - i) for i in range(len(normalized_shape))]
    least = torch.finfo(input.tensor.dtype).eps if eps is None else eps
    root = torch.rsqrt(input.tensor.square().mean(axes, keepdim=True) + least)
    return _affine(input.but(input.tensor * root), weight, None)


def group_norm(
    input: Stacked,
    num_groups: int,
    weight: Stacked | None = None,
    bias: Stacked | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Stacked:
    """Return each group of channels of each row with mean 0 and variance 1; each channel scaled and shifted."""
    if not input.rows:
        raise NotWide("group norm of parameters")
    groups = input.tensor.unflatten(input.axis(1), (num_groups, -1))
    normal = _standardised(groups, list(range(2, groups.ndim - 1)), eps).flatten(1, 2)
    return _scaled(Stacked(normal, rows=True), *(None if part is None else part.tensor for part in (weight, bias)))


def instance_norm(
    input: Stacked,
    running_mean: Stacked | None = None,
    running_var: Stacked | None = None,
    weight: Stacked | None = None,
    bias: Stacked | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Stacked:
    """Return each channel of each row with mean 0 and variance 1, scaled and shifted."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    if running_mean is not None:
        raise NotWide("instance norm that follows the data")
    if not input.rows or input.ndim < 3:
        raise NotWide(f"instance norm of {input.ndim} dimensions")
    normal = Stacked(_standardised(input.tensor, list(range(2, input.ndim)), eps), rows=True)
    return _scaled(normal, *(None if part is None else part.tensor for part in (weight, bias)))


def _standardised(x: Tensor, axes: list[int], eps: float) -> Tensor:
    """Return x with mean 0 and variance 1; much faster along contiguous rows than torch's var_mean."""
    centered = x - x.mean(axes, keepdim=True)
    return centered * torch.rsqrt(centered.square().mean(axes, keepdim=True) + eps)


def _affine(x: Stacked, weight: Stacked | None, bias: Stacked | None) -> Stacked:
    """Return x scaled and shifted by parameters that are aligned with its last dimensions."""
    values = [part for part in (x, weight, bias) if part is not None]
    (tensor, *parts), rows = fit(values)
    if weight is None:
        return x if bias is None else Stacked(tensor + parts[0], rows)
    return Stacked(tensor * parts[0] if bias is None else torch.addcmul(parts[1], tensor, parts[0]), rows)


def _scaled(x: Stacked, scale: Tensor | None, shift: Tensor | None) -> Stacked:
    """Return x scaled and shifted channel by channel; scale and shift (c, channels)."""
    after = (None,) * (x.tensor.ndim - 1 - x.axis(1))
    if scale is None:
        return x if shift is None else Stacked(x.tensor + shift[(..., *after)], rows=True)
    factor = scale[(..., *after)]
    product = x.tensor * factor if shift is None else torch.addcmul(shift[(..., *after)], x.tensor, factor)
    return Stacked(product, rows=True)


# --------------------------------------------------------------------------------------------------------------
# Pooling
# --------------------------------------------------------------------------------------------------------------


def average_pool(dimensions: int) -> Rule:
    """Return the rule of average pooling."""
    other = row_by_row(getattr(F, f"avg_pool{dimensions}d"))

    def rule(input: Stacked, *arguments: Any, **options: Any) -> Stacked:
        if not _is_compiled(input):
            return other(input, *arguments, **options)
        return input.but(pooling.mean(input.tensor, average_windows(input.shape[-dimensions:], *arguments, **options)))

    return rule


def maximum_pool(dimensions: int) -> Rule:
    """Return the rule of maximum pooling."""
    other = row_by_row(getattr(F, f"max_pool{dimensions}d"))

    def rule(
        input: Stacked,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Stacked:
        if return_indices:
            raise NotWide("pooling that gives indices")
        if not _is_compiled(input):
            return other(input, kernel_size, stride, padding, dilation, ceil_mode)
        windows = moved_windows(input.shape[-dimensions:], kernel_size, stride, padding, dilation, ceil=ceil_mode)
        return input.but(pooling.largest(input.tensor, windows)[0])

    return rule


def adaptive_pool(kind: str, dimensions: int) -> Rule:
    """Return the rule of average ("avg") or maximum ("max") pooling to a given size."""
    other = row_by_row(getattr(F, f"adaptive_{kind}_pool{dimensions}d"))

    def rule(input: Stacked, output_size: Any, return_indices: bool = False) -> Stacked:
        if return_indices:
            raise NotWide("pooling that gives indices")
        if not _is_compiled(input):
            return other(input, output_size)
        windows = parted_windows(input.shape[-dimensions:], output_size)
        if kind == "avg":
            return input.but(pooling.mean(input.tensor, windows))
        return input.but(pooling.largest(input.tensor, windows)[0])

    return rule


def _is_compiled(x: Stacked) -> bool:
    return x.rows and pooling.is_compiled(x.tensor)


def moved_windows(
    positions: tuple[int, ...], kernel: Any, stride: Any, padding: Any, dilation: Any, *, ceil: bool
) -> pooling.Windows:
    """Return the windows of a kernel that moves over positions, by torch's arguments."""
    sizes, around, gaps = (for_each(value, len(positions)) for value in (kernel, padding, dilation))
    steps = for_each(stride, len(positions)) if stride else sizes
    return pooling.moved(positions, sizes, steps, around, gaps, ceil=ceil)


def average_windows(
    positions: tuple[int, ...],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> pooling.Windows:
    """Return the windows of average pooling, with what their sums are divided by as their sizes."""
    windows = moved_windows(positions, kernel_size, stride, padding, 1, ceil=ceil_mode)
    if divisor_override is not None:
        return windows._replace(sizes=np.full(len(windows.entries), float(divisor_override)))
    return windows if count_include_pad else windows._replace(sizes=(windows.entries >= 0).sum(1).astype(np.float64))


def parted_windows(positions: tuple[int, ...], output_size: Any) -> pooling.Windows:
    """Return the windows of adaptive pooling; None leaves a dimension as it is."""
    asked = zip(for_each(output_size, len(positions)), positions, strict=True)
    return pooling.parted(positions, tuple(whole if size is None else size for size, whole in asked))


# --------------------------------------------------------------------------------------------------------------
# Embedding and attention
# --------------------------------------------------------------------------------------------------------------


def embedding(
    input: Stacked,
    weight: Stacked,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Stacked:
    """Return the entries of a table (entries, features) by their numbers, which are the same for all vectors."""
    if input.tensor.shape[0] != 1 or max_norm is not None or scale_grad_by_freq:
        raise NotWide("an embedding of numbers that differ, or that changes its table")
    entries, features = weight.shape
    table = weight.tensor.transpose(0, 1).reshape(entries, -1)
    found = F.embedding(input.tensor[0], table, padding_idx).unflatten(-1, (-1, features))
    if not input.rows:
        return Stacked(found.movedim(-2, 0), rows=False)
    # (*shape, rows, c, features) -> (c, features, *shape, rows), the order in memory that products leave
    inner = found.movedim((-2, -1), (0, 1)).contiguous()
    return Stacked(inner.movedim(1, -2), rows=True)


def attention(
    query: Stacked,
    key: Stacked,
    value: Stacked,
    attn_mask: Stacked | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Stacked:
    """Return the values (rows, ..., s, d) weighted by how the queries (rows, ..., t, d) fit the keys (rows, ..., s, d).

    By products and softmax, since torch's fused form has no second derivative, and is slower on short sequences.
    """
    if dropout_p or enable_gqa:
        raise NotWide("attention with dropout or with groups of queries")
    count = max(query.ndim, key.ndim, value.ndim)
    (q, k, v), rows = fit((query, key, value))
    if not rows or count < 3:
        raise NotWide("attention of parameters alone")
    q, k, v = (part.movedim(-1, 1) for part in (q, k, v))
    weights = torch.matmul(q * (q.shape[-1] ** -0.5 if scale is None else scale), k.mT)
    if is_causal:
        future = torch.ones(weights.shape[-2:], dtype=torch.bool, device=weights.device).triu(1)
        weights = weights.masked_fill(future, -math.inf)
    if attn_mask is not None:
        mask = attn_mask.fitted(count, weights.shape[1]).movedim(-1, 1)
        weights = weights + mask if mask.is_floating_point() else weights.masked_fill(~mask, -math.inf)
    found = torch.matmul(weights.softmax(-1), v)
    # Heads and features next to each other in memory, as the product that follows wants them.
    return Stacked(found.movedim((1, -2), (-1, -2)).contiguous().transpose(-3, -2), rows=True)


def weight_norm(v: Stacked, g: Stacked, dim: int = 0) -> Stacked:
    """Return directions v with lengths g, one for each entry of a dimension."""
    axes = [axis for axis in range(1, v.tensor.ndim) if axis != v.axis(dim)]
    return v.but(v.tensor * (g.tensor / torch.linalg.vector_norm(v.tensor, dim=axes, keepdim=True)))


_OF_DIMENSIONS: dict[str, Callable[[int], Rule]] = {
    "conv{}d": convolution_of,
    "avg_pool{}d": average_pool,
    "max_pool{}d": maximum_pool,
    "adaptive_avg_pool{}d": functools.partial(adaptive_pool, "avg"),
    "adaptive_max_pool{}d": functools.partial(adaptive_pool, "max"),
}

RULES: dict[Any, Rule] = {
    **functions.RULES,
    **{
        target: rule(dimensions)
        for name, rule in _OF_DIMENSIONS.items()
        for dimensions in (1, 2, 3)
        for target in spellings(name.format(dimensions))
    },
    **{target: matmul for name in ("matmul", "bmm", "mm") for target in spellings(name)},
    **{target: addmm for name in ("addmm", "baddbmm") for target in spellings(name)},
    F.linear: linear,
    torch.einsum: einsum,
    torch._weight_norm: weight_norm,
    F.batch_norm: batch_norm,
    F.layer_norm: layer_norm,
    F.rms_norm: rms_norm,
    F.group_norm: group_norm,
    F.instance_norm: instance_norm,
    F.embedding: embedding,
    F.scaled_dot_product_attention: attention,
}
