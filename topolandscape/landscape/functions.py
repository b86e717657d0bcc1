"""Rules for torch's functions that have no parameters: what each does to tensors of many parameter vectors.

See `topolandscape.landscape.stacked` for how these are stored. `RULES` has the rules by all spellings of a function.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from topolandscape.landscape.stacked import NotWide, Rule, Stacked, fit


def spellings(name: str) -> list[Any]:
    """Return what a function is in a traced graph: its name as a method, or itself from wherever it is taken."""
    return [name, *(getattr(space, name) for space in (torch, F, operator) if hasattr(space, name))]


def spelled(name: str, rule: Rule) -> dict[Any, Rule]:
    """Return a rule by all spellings of a function."""
    return dict.fromkeys(spellings(name), rule)


# --------------------------------------------------------------------------------------------------------------
# Element by element
# --------------------------------------------------------------------------------------------------------------

_POINTWISE = """
    abs absolute acos acosh add addcdiv addcmul and_ asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or
    bool ceil celu clamp clamp_max clamp_min clip copysign cos cosh deg2rad digamma div divide double elu eq erf
    erfc erfinv exp exp2 expm1 float floor floor_divide floordiv fmax fmin fmod frac full_like ge gelu greater
    greater_equal gt half hardshrink hardsigmoid hardswish hardtanh heaviside hypot int invert isfinite isinf isnan
    le leaky_relu lerp less less_equal lgamma log log10 log1p log2 logaddexp logical_and logical_not logical_or
    logical_xor logit logsigmoid long lt masked_fill maximum minimum mish mod mul multiply nan_to_num ne neg
    negative not_equal ones_like or_ pos positive pow rad2deg reciprocal relu relu6 remainder round rsqrt rsub selu
    sgn sigmoid sign silu sin sinc sinh softplus softshrink softsign sqrt square sub subtract tan tanh tanhshrink
    threshold true_divide truediv trunc where xlogy xor zeros_like
"""
_POINTWISE_IN_PLACE = """
    abs add addcdiv addcmul celu ceil clamp clamp_max clamp_min clip cos div divide elu erf exp floor hardtanh
    leaky_relu lerp log masked_fill mul multiply neg pow reciprocal relu round rsqrt selu sigmoid sign sin sqrt
    square sub subtract tanh threshold true_divide
"""


def pointwise(function: Callable[..., Tensor]) -> Rule:
    """Return the rule of a function that acts on each element for itself."""

    def rule(*arguments: Any, inplace: bool = False, **options: Any) -> Stacked:
        fitted, rows = fit([*arguments, *options.values()])
        named = dict(zip(options, fitted[len(arguments) :], strict=True))
        return Stacked(function(*fitted[: len(arguments)], **named), rows)

    return rule


def _pointwise_rules() -> dict[Any, Rule]:
    rules: dict[Any, Rule] = {getattr(F, "_threshold"): pointwise(F.threshold)}  # noqa: B009
    for name in _POINTWISE.split():
        for target in spellings(name):
            function = getattr(Tensor, target, None) if isinstance(target, str) else target
            if callable(function):
                rules[target] = pointwise(function)
    return rules


def _in_place_rules() -> dict[Any, Rule]:
    """Return the rules of functions that change their first argument; here they give a new tensor."""
    rules = {getattr(operator, f"i{name}"): pointwise(getattr(operator, name)) for name in ("add", "sub", "mul", "pow")}
    rules[operator.itruediv] = pointwise(operator.truediv)
    for name in _POINTWISE_IN_PLACE.split():
        rules |= spelled(f"{name}_", pointwise(getattr(Tensor if hasattr(Tensor, name) else F, name)))
    return rules


def prelu(x: Stacked, weight: Stacked) -> Stacked:
    """Return x where it is positive, else x times the weight of its channel."""
    by_channel = (weight.tensor.shape[0], -1, *[1] * (x.tensor.ndim - 2))
    return x.but(torch.where(x.tensor > 0, x.tensor, x.tensor * weight.tensor.reshape(by_channel)))


def rrelu(x: Stacked, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False) -> Any:
    """Return a leaky ReLU of the mean slope: in eval mode nothing is random."""
    if training:
        raise NotWide("RReLU in train mode")
    return x.but(F.leaky_relu(x.tensor, (lower + upper) / 2))


def dropout(x: Stacked, p: float = 0.5, training: bool = True, inplace: bool = False, *, train: Any = None) -> Stacked:
    """Return the tensor: in eval mode nothing is left out."""
    if p and (training if train is None else train):
        raise NotWide("dropout in train mode")
    return x


def to(x: Stacked, *arguments: Any, **options: Any) -> Stacked:
    """Return another type, or the type of another tensor."""
    parts: list[Any] = [part.tensor if isinstance(part, Stacked) else part for part in arguments]
    return x.but(x.tensor.to(*parts, **options))


# --------------------------------------------------------------------------------------------------------------
# Along dimensions
# --------------------------------------------------------------------------------------------------------------

# By function: which argument, after the tensor, is the dimension, and its default.
_ALONG: dict[str, tuple[int, Any]] = {
    **dict.fromkeys(
        ["all", "amax", "amin", "any", "argmax", "argmin", "logsumexp", "mean", "nansum", "prod"], (0, None)
    ),
    **dict.fromkeys(["std", "std_mean", "sum", "var", "var_mean"], (0, None)),
    **dict.fromkeys(["cumprod", "cumsum", "index_select", "logcumsumexp", "narrow", "select", "unflatten"], (0, None)),
    **dict.fromkeys(["chunk", "split", "tensor_split"], (1, 0)),
    "diff": (1, -1),
    "glu": (0, -1),
    "norm": (1, None),
    "normalize": (1, 1),
    "unbind": (0, 0),
}


def along(function: Callable[..., Any], position: int, default: Any) -> Rule:
    """Return the rule of a function of which one argument is a dimension, or several of them."""

    def rule(x: Stacked, *arguments: Any, **options: Any) -> Any:
        given = [_constant(part) if isinstance(part, Stacked) else part for part in arguments]
        if len(given) > position:
            given[position] = x.axes(given[position])
        else:
            key = "axis" if "axis" in options else "dim"
            options[key] = x.axes(options.get(key, default))
        result = function(x.tensor, *given, **options)
        return x.but(result) if isinstance(result, Tensor) else tuple(x.but(part) for part in result)

    return rule


def _along_rules() -> dict[Any, Rule]:
    rules: dict[Any, Rule] = {torch.linalg.vector_norm: along(torch.linalg.vector_norm, 1, None)}
    for name, (position, default) in _ALONG.items():
        space = next(space for space in (torch, F, Tensor) if hasattr(space, name))
        rules |= spelled(name, along(getattr(space, name), position, default))
    return rules


class Found(NamedTuple):
    """Extreme values and where they are."""

    values: Stacked
    indices: Stacked


def extreme(along_one: Callable[..., Any], of_two: Callable[..., Tensor], of_all: Callable[..., Tensor]) -> Rule:
    """Return the rule of the largest or smallest: of two tensors, along a dimension, or of all entries."""

    def rule(x: Stacked, other: Any = None, keepdim: bool = False, *, dim: Any = None) -> Any:
        if isinstance(other, Stacked):
            return pointwise(of_two)(x, other)
        dim = other if dim is None else dim
        if dim is None:
            return x.but(of_all(x.tensor, x.axes(None)))
        return Found(*map(x.but, along_one(x.tensor, x.axis(dim), keepdim)))

    return rule


def softmax(function: Callable[..., Tensor]) -> Rule:
    """Return the rule of softmax or its logarithm."""

    def rule(x: Stacked, dim: Any = None, _stacklevel: int = 3, dtype: Any = None) -> Stacked:
        axis = x.axis(dim)
        if not x.rows or x.tensor.stride(-1) == 1:
            return x.but(function(x.tensor, axis, dtype=dtype))
        # Products of matrices that differ from row to row leave the rows in front in memory; torch would copy.
        return x.but(function(x.tensor.movedim(-1, 1), axis + 1, dtype=dtype).movedim(1, -1))

    return rule


def flip(x: Stacked, *dims: Any, **named: Any) -> Stacked:
    """Return the entries in reversed order."""
    return x.but(x.tensor.flip(x.axes(_sizes(dims, named))))


def roll(x: Stacked, shifts: Any, dims: Any = None) -> Stacked:
    """Return the entries moved on, the last ones becoming the first."""
    if dims is None:
        raise NotWide("a roll over all dimensions")
    return x.but(x.tensor.roll(shifts, x.axes(dims)))


# --------------------------------------------------------------------------------------------------------------
# Shapes
# --------------------------------------------------------------------------------------------------------------


def _sizes(sizes: tuple[Any, ...], named: dict[str, Any]) -> list[int]:
    """Return the whole numbers of a call such as view(2, 3), view((2, 3)) or view(size=(2, 3))."""
    sizes = sizes or tuple(named.values())
    flat = list(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else list(sizes)
    if not all(isinstance(size, int) for size in flat):
        raise NotWide(f"a shape {flat}")
    return flat


def size(x: Stacked, dim: int | None = None) -> Any:
    """Return the shape that torch has, or one size of it."""
    return x.shape if dim is None else x.shape[dim]


def attribute(x: Any, name: str) -> Any:
    """Return an attribute of a tensor that is not a tensor, or a transpose of it."""
    if not isinstance(x, Stacked):
        return getattr(x, name)
    if name in ("shape", "ndim"):
        return getattr(x, name)
    if name in ("dtype", "device", "is_cuda"):
        return getattr(x.tensor, name)
    if name == "mT" or (name == "T" and x.ndim == 2):
        return transpose(x, -2, -1)
    raise NotWide(f"the attribute {name}")


def reshape(x: Stacked, *sizes: Any, **named: Any) -> Stacked:
    """Return the same entries in another shape; the rows stay."""
    shape = _sizes(sizes, named)
    if -1 in shape:
        shape[shape.index(-1)] = math.prod(x.shape) // max(1, -math.prod(shape))
    if not x.rows:
        return x.but(x.tensor.reshape(x.tensor.shape[0], *shape))
    if not shape or shape[0] != x.shape[0]:
        raise NotWide(f"a reshape of {tuple(x.shape)} to {tuple(shape)}, which takes rows apart")
    return x.but(x.tensor.reshape(x.tensor.shape[0], *shape[1:], shape[0]))


def flatten(x: Stacked, start_dim: int = 0, end_dim: int = -1) -> Stacked:
    """Return some dimensions joined to one."""
    return x.but(x.tensor.flatten(x.axis(start_dim), x.axis(end_dim)))


def permute(x: Stacked, *dims: Any, **named: Any) -> Stacked:
    """Return the dimensions in another order; the rows stay in front."""
    order = [dim % x.ndim for dim in _sizes(dims, named)]
    if not x.rows:
        return x.but(x.tensor.permute(0, *(dim + 1 for dim in order)))
    if order[0] != 0:
        raise NotWide("a permutation that moves the rows")
    return x.but(x.tensor.permute(0, *order[1:], x.ndim))


def transpose(x: Stacked, dim0: int, dim1: int) -> Stacked:
    """Return two dimensions exchanged."""
    return x.but(x.tensor.transpose(x.axis(dim0), x.axis(dim1)))


def movedim(x: Stacked, source: Any, destination: Any) -> Stacked:
    """Return some dimensions moved to other places."""
    return x.but(x.tensor.movedim(x.axes(source), x.axes(destination)))


def unsqueeze(x: Stacked, dim: int) -> Stacked:
    """Return a dimension more, of size 1."""
    return x.but(x.tensor.unsqueeze(x.axis(dim, more=1)))


def squeeze(x: Stacked, dim: Any = None) -> Stacked:
    """Return dimensions of size 1 left out."""
    if dim is not None:
        return x.but(x.tensor.squeeze(x.axes(dim)))
    ones = tuple(x.axis(d) for d, size in enumerate(x.shape) if size == 1)  # torch leaves out a single row: refused
    return x.but(x.tensor.squeeze(ones))


def expand(x: Stacked, *sizes: Any, **named: Any) -> Stacked:
    """Return dimensions of size 1 repeated; what has no rows may get a leading dimension of as many."""
    shape = _sizes(sizes, named)
    if not x.rows:
        return x.but(x.fitted(len(shape), None).expand(-1, *shape))
    if len(shape) != x.ndim or shape[0] not in (-1, x.shape[0]):
        raise NotWide("a repetition of rows")
    return x.but(x.tensor.expand(-1, *shape[1:], -1))


def repeat(x: Stacked, *sizes: Any, **named: Any) -> Stacked:
    """Return copies side by side."""
    times = _sizes(sizes, named)
    if not x.rows:
        return x.but(x.fitted(len(times), None).repeat(1, *times))
    if len(times) != x.ndim or times[0] != 1:
        raise NotWide("a repetition of rows")
    return x.but(x.tensor.repeat(1, *times[1:], 1))


def cat(tensors: Sequence[Stacked], dim: int = 0) -> Stacked:
    """Return tensors side by side."""
    fitted, rows = fit(tensors)
    axis = Stacked(fitted[0], rows).axis(dim)
    shape = torch.broadcast_shapes(*((*t.shape[:axis], 1, *t.shape[axis + 1 :]) for t in fitted))
    return Stacked(torch.cat([t.expand(*shape[:axis], -1, *shape[axis + 1 :]) for t in fitted], axis), rows)


def stack(tensors: Sequence[Stacked], dim: int = 0) -> Stacked:
    """Return tensors along a new dimension."""
    return cat([unsqueeze(x, dim) for x in tensors], dim)


def getitem(x: Any, index: Any) -> Any:
    """Return entries by whole numbers, slices, None, an ellipsis or a constant tensor; of all rows."""
    if not isinstance(x, Stacked):
        return x[index]
    entries = [_constant(part) for part in (index if isinstance(index, tuple) else (index,))]
    chosen = [part for part in entries if not (part is None or part is Ellipsis or isinstance(part, slice))]
    if len(chosen) > 1 and not all(isinstance(part, int) for part in chosen):
        raise NotWide("several indices of which one is a tensor")
    if x.rows:
        if not any(part is Ellipsis for part in entries):
            entries.append(Ellipsis)
        place = next(i for i, part in enumerate(entries) if part is Ellipsis)
        left = x.ndim + 1 - sum(part is not None for part in entries)
        entries[place : place + 1] = [slice(None)] * left
        if not (isinstance(entries[0], slice) and entries[0] == slice(None)):
            raise NotWide("a choice of rows")
        entries = entries[1:]
    return x.but(x.tensor[(slice(None), *entries)])


def _constant(part: Any) -> Any:
    """Return an index that is the same for all vectors and rows."""
    if isinstance(part, Stacked):
        if part.rows or part.tensor.shape[0] != 1:
            raise NotWide("an index that depends on the data")
        return part.tensor[0]
    return part


def row_by_row(function: Callable[..., Tensor]) -> Rule:
    """Return the rule of any function that treats each row for itself, by joining vectors and rows to torch's rows."""

    def rule(x: Stacked, *arguments: Any, **options: Any) -> Stacked:
        front = x.tensor.movedim(-1, 1) if x.rows else x.tensor
        result = function(front.flatten(0, 1), *arguments, **options).unflatten(0, front.shape[:2])
        return x.but(result.movedim(1, -1) if x.rows else result)

    return rule


def pad(x: Stacked, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Stacked:
    """Return a tensor with something around its last dimensions."""
    if mode != "constant":
        return row_by_row(F.pad)(x, pad, mode, value)
    if len(pad) // 2 >= x.ndim + (not x.rows):
        raise NotWide("rows are added")
    return x.but(F.pad(x.tensor, (0, 0, *pad) if x.rows else tuple(pad), mode, value))


# --------------------------------------------------------------------------------------------------------------
# All of them
# --------------------------------------------------------------------------------------------------------------

_ROW_BY_ROW = """
    channel_shuffle fold interpolate local_response_norm lp_pool1d lp_pool2d lp_pool3d pixel_shuffle pixel_unshuffle
    unfold upsample
"""

_SHAPES: dict[str, Rule] = {
    **dict.fromkeys(["clone", "contiguous"], lambda x, **_: x),
    **dict.fromkeys(["dim", "ndimension"], lambda x: x.ndim),
    **dict.fromkeys(["cat", "concat", "concatenate"], cat),
    **dict.fromkeys(["transpose", "swapaxes", "swapdims"], transpose),
    **dict.fromkeys(["movedim", "moveaxis"], movedim),
    **dict.fromkeys(["reshape", "view"], reshape),
    **dict.fromkeys(["reshape_as", "view_as"], lambda x, other: reshape(x, other.shape)),
    "detach": lambda x: x.but(x.tensor.detach()),
    "expand": expand,
    "expand_as": lambda x, other: expand(x, other.shape),
    "flatten": flatten,
    "flip": flip,
    "getitem": getitem,
    "numel": lambda x: math.prod(x.shape),
    "permute": permute,
    "repeat": repeat,
    "roll": roll,
    "size": size,
    "squeeze": squeeze,
    "stack": stack,
    "t": lambda x: transpose(x, 0, x.ndim - 1),
    "to": to,
    "type_as": to,
    "unsqueeze": unsqueeze,
    **{
        name: lambda x, *arguments, name=name, **options: Stacked(
            getattr(x.tensor, name)(*arguments, **options)[None], rows=False
        )
        for name in ("new_zeros", "new_ones", "new_full", "new_tensor")
    },
}
_DROPOUT = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"]

# What changes its first argument in place, if not told by inplace=True.
IN_PLACE = _in_place_rules()
RULES: dict[Any, Rule] = {
    **_pointwise_rules(),
    **IN_PLACE,
    **_along_rules(),
    **{target: rule for name, rule in _SHAPES.items() for target, rule in spelled(name, rule).items()},
    **{target: dropout for name in _DROPOUT for target in spellings(name)},
    **{
        target: row_by_row(target)
        for name in _ROW_BY_ROW.split()
        for target in spellings(name)
        if not isinstance(target, str)
    },
    **spelled("max", extreme(torch.max, torch.maximum, torch.amax)),
    **spelled("min", extreme(torch.min, torch.minimum, torch.amin)),
    **spelled("softmax", softmax(torch.softmax)),
    **spelled("log_softmax", softmax(torch.log_softmax)),
    **spelled("prelu", prelu),
    **spelled("rrelu", rrelu),
    F.softmin: lambda x, *arguments, **options: RULES[F.softmax](x.but(-x.tensor), *arguments, **options),
    F.pad: pad,
    getattr: attribute,
}
_SHARING = """
    chunk contiguous detach double expand expand_as flatten float getitem half moveaxis movedim narrow permute pos
    positive reshape reshape_as select split squeeze swapaxes swapdims t tensor_split to transpose type_as unbind
    unflatten unsqueeze view view_as
"""
# What may give memory of its first argument, so that what changes one of them changes the other.
SHARING = frozenset(target for name in (*_SHARING.split(), *_DROPOUT) for target in spellings(name)) | {getattr}
