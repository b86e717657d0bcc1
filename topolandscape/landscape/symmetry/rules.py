"""What operations do to units: which new ones they make, and what they tie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from topolandscape.landscape.symmetry.ties import Ties
from topolandscape.landscape.symmetry.units import NotUnderstood, Parameter, Parts, Size, Use, Value, alike

BATCH_NORMS: dict[type, tuple[int, ...]] = {nn.BatchNorm1d: (0, 1), nn.BatchNorm2d: (2,), nn.BatchNorm3d: (3,)}

# Names of modules, functions and methods of torch, in lower case and without underscores.
_ELEMENTWISE = """
    relu leakyrelu rrelu relu6 elu selu celu gelu silu mish softplus sigmoid logsigmoid hardsigmoid hardswish hardtanh
    tanh tanhshrink softsign softshrink hardshrink threshold identity erf sin cos tan asin arcsin atan arctan sinh cosh
    asinh arcsinh exp expm1 log log1p sqrt rsqrt reciprocal square abs neg negative pow clamp clip sign
    add sub mul truediv
"""
_PASSING = "dropout dropout1d dropout2d dropout3d alphadropout featuredropout featurealphadropout contiguous clone"
_AVERAGES = {f"{kind}avgpool{d}d": d for kind in ("", "adaptive") for d in (1, 2, 3)}
_MAXIMA = {f"{kind}maxpool{d}d": d for kind in ("", "adaptive") for d in (1, 2, 3)}


def linear(
    ties: Ties, x: Any, weight: Parameter | None, bias: Any, *, trailing: int, axes: tuple[int, int] = (0, 1)
) -> Value:
    """Return new units that read `x`; axes of the weight: those of the new units and of the old ones."""
    if weight is None or not (bias is None or isinstance(bias, Parameter)) or isinstance(x, (Parameter, Size)):
        raise NotUnderstood("")
    shape = ties.shapes[weight.name]
    out, into = (weight.axes[axis] for axis in axes)
    read = None
    if isinstance(x, Value):
        if x.trailing != trailing:
            raise NotUnderstood("it acts on another dimension than the units'")
        read = ties.fitting(x, shape[into])
    made = ties.made(shape[out])
    ties.use(weight.name, {out: Use(made, made), into: Use(read, None, read)})
    if bias is not None:
        ties.use(bias.name, {0: Use(made, made)})
    return Value(made, trailing)


def convolution(
    ties: Ties,
    x: Any,
    weight: Parameter | None,
    bias: Any,
    *,
    trailing: int,
    parts: int,
    transposed: bool = False,
) -> Value:
    """Return new channels that read `x`; those of a depthwise convolution are the old ones, scaled anew."""
    if parts == 1:
        return linear(ties, x, weight, bias, trailing=trailing, axes=(1, 0) if transposed else (0, 1))
    if (
        weight is None
        or not (bias is None or isinstance(bias, Parameter))
        or not isinstance(x, Value)
        or x.trailing != trailing
        or not ties.shapes[weight.name][:2] == (parts, 1)
    ):
        raise NotUnderstood("its channels are in parts")
    old = ties.fitting(x, parts)
    new = ties.scaled_anew(old)
    ties.use(weight.name, {0: Use(new, new, old)})
    if bias is not None:
        ties.use(bias.name, {0: Use(new, new)})
    return Value(new, trailing)


def product(ties: Ties, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Value:
    """Return what a layer written as a function gives."""
    x, weight = arguments[:2]
    if not isinstance(weight, Parameter):
        raise NotUnderstood("")
    if name == "matmul":
        if len(weight.axes) != 2 or len(arguments) > 2 or options:
            raise NotUnderstood("")
        return linear(ties, x, weight, None, trailing=0, axes=(1, 0))
    bias = arguments[2] if len(arguments) > 2 else options.get("bias")
    if name == "linear":
        return linear(ties, x, weight, bias, trailing=0)
    parts = options.get("groups", arguments[6] if len(arguments) > 6 else 1)
    if weight.axes != tuple(range(len(weight.axes))):
        raise NotUnderstood("")
    return convolution(ties, x, weight, bias, trailing=int(name[4]), parts=parts)


def batch_norm(
    ties: Ties, target: str, layer: Any, x: Value, weight: Parameter | None, bias: Parameter | None
) -> Value:
    """Statistics that are kept are the same whatever the parameters; those of the data follow them."""
    if x.trailing not in BATCH_NORMS[type(layer)]:
        raise NotUnderstood("it acts on another dimension than the units'")
    old = ties.fitting(x, layer.num_features)
    if layer.running_mean is None or layer.training:
        return normalised(ties, x, layer.num_features, weight, bias)
    start, centered = 0, bool((layer.running_mean == 0).all())
    for part in old:
        entries = slice(start, start + part.units * part.repeats)
        start = entries.stop
        for statistics in (layer.running_mean, layer.running_var):
            rows = statistics[entries].reshape(part.units, part.repeats)
            if not bool((rows == rows[0]).all()):
                ties.keep_places((part,))
                ties.left_out.append(f"{target} ({type(layer).__name__}) has other statistics for each unit.")
    if not centered:
        ties.rigid(old)
    if weight is None and bias is None:
        return Value(old, x.trailing)
    new = ties.scaled_anew(old)
    gained(ties, new, old, weight, bias)
    return Value(new, x.trailing)


def normalised(ties: Ties, x: Value, length: int, weight: Parameter | None, bias: Parameter | None) -> Value:
    """Normalisation by the data: units change places, but their scales are lost."""
    old = ties.fitting(x, length)
    ties.rigid(old)
    new = ties.scaled_anew(old)
    gained(ties, new, None, weight, bias)
    if weight is None:
        ties.rigid(new)
    return Value(new, x.trailing)


def gained(ties: Ties, new: Parts, old: Parts | None, weight: Parameter | None, bias: Parameter | None) -> None:
    """Use a factor and a summand of each unit."""
    if weight is not None:
        ties.use(weight.name, {0: Use(new, new, old)})
    if bias is not None:
        ties.use(bias.name, {0: Use(new, new)})


def plain(ties: Ties, name: str, x: Value, function: Callable[[Tensor], Tensor], *, inplace: bool) -> Value:
    """Return what a function of one value, unit by unit, gives."""
    if name in _PASSING.split():
        return x
    pooled = _AVERAGES.get(name, _MAXIMA.get(name))
    if pooled is not None:
        if x.trailing != pooled:
            raise NotUnderstood("it acts on another dimension than the positions'")
        if name in _MAXIMA:
            ties.keep_signs(x.parts)
        return x
    if name not in _ELEMENTWISE.split():
        raise NotUnderstood("")
    odd, even, homogeneous = _tried(function)
    if not homogeneous or even:
        ties.keep_scales(x.parts)
    if even and not inplace:
        new = ties.scaled_anew(x.parts)
        ties.rigid(new)
        return x._replace(parts=new)
    if not odd:
        ties.keep_signs(x.parts)
    return x


def combined(ties: Ties, name: str, one: Value, other: Value) -> Value:
    """Return a sum or a product of two values, which ties their units."""
    if (one.trailing, one.stretched) != (other.trailing, other.stretched) or not alike(one.parts, other.parts):
        raise NotUnderstood("its arguments have other units")
    ties.link(one.parts, other.parts, scales=name in ("add", "sub"))
    if name in ("add", "sub"):
        return one
    for value in (one, other):
        ties.rigid(value.parts)
    return one


def with_parameter(ties: Ties, name: str, x: Value, parameter: Parameter, *, inplace: bool) -> Value:
    """Return a sum or a product of a value and a parameter that is not one of a layer."""
    shape = [ties.shapes[parameter.name][axis] for axis in parameter.axes]
    at = len(shape) - x.trailing - 1
    if inplace or at < 0 or shape[at] == 1:
        raise NotUnderstood("")
    old = ties.fitting(x, shape[at])
    if name in ("add", "sub"):
        ties.use(parameter.name, {parameter.axes[at]: Use(old, old)})
        return Value(old, x.trailing)
    new = ties.scaled_anew(old)
    ties.use(parameter.name, {parameter.axes[at]: Use(new, new, old)})
    return Value(new, x.trailing)


def concatenated(arguments: tuple[Any, ...], options: dict[str, Any]) -> Value:
    """Return units of several values side by side."""
    tensors, dim = bound(("tensors", "dim"), ((), 0), arguments, options)
    values = [value for value in tensors if isinstance(value, Value) and not value.stretched]
    trailing = {value.trailing for value in values}
    if len(values) != len(tensors) or len(trailing) != 1 or dim not in (1, -1 - min(trailing)):
        raise NotUnderstood("")
    return Value(tuple(part for value in values for part in value.parts), min(trailing))


def flattened(x: Value, start: int, end: int) -> Value:
    """Join dimensions; rows come first, then units."""
    last = x.trailing + 1
    if end not in (-1, last) or start not in (1, 2):
        raise NotUnderstood("it joins other dimensions than those behind the rows")
    if x.trailing == 0 or start == 2:
        return x._replace(trailing=min(x.trailing, 1))
    return Value(x.parts, 0, stretched=True)


def reshaped(ties: Ties, x: Value, sizes: tuple[Any, ...]) -> Value:
    """Flattening is the only reshaping that is understood."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    if len(sizes) != 2 or not (isinstance(sizes[0], Size) or sizes[0] == -1):
        raise NotUnderstood("")
    if isinstance(sizes[1], int) and sizes[1] > 0:
        flat = flattened(x, 1, -1)
        return Value(ties.fitting(flat, sizes[1]), 0)
    if sizes[1] != -1 or sizes[0] == -1:
        raise NotUnderstood("")
    return flattened(x, 1, -1)


def reduced(ties: Ties, name: str, x: Value, arguments: tuple[Any, ...], options: dict[str, Any]) -> Value:
    """Return a mean or the like over positions."""
    dims, kept = bound(("dim", "keepdim"), (None, False), arguments, options)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    if not all(isinstance(dim, int) and (2 <= dim < 2 + x.trailing or -x.trailing <= dim < 0) for dim in dims):
        raise NotUnderstood("it does not act on positions only")
    if name in ("amax", "amin"):
        ties.keep_signs(x.parts)
    return x if kept else x._replace(trailing=x.trailing - len(dims))


def bound(
    names: Sequence[str], defaults: Sequence[Any], arguments: Sequence[Any], options: dict[str, Any]
) -> tuple[Any, ...]:
    """Return arguments by position or by name."""
    given = dict(zip(names, arguments, strict=False)) | {key.replace("_", ""): x for key, x in options.items()}
    if len(arguments) > len(names) or not set(given) <= set(names):
        raise NotUnderstood("")
    return tuple(given.get(name, default) for name, default in zip(names, defaults, strict=True))


def _tried(function: Callable[[Tensor], Tensor]) -> tuple[bool, bool, bool]:
    """Return whether a function of numbers is odd, even, and positively homogeneous."""
    half = torch.logspace(-3, 6, 64, dtype=torch.float64)
    x = torch.cat([-half, half])

    def equal(one: Tensor, other: Tensor) -> bool:
        return torch.allclose(one, other, rtol=1e-9, atol=0.0, equal_nan=True)

    try:
        with torch.no_grad():
            y, mirrored = function(x.clone()), function(-x)
            scaled = all(equal(function(c * x), c * y) for c in (0.37, 2.9))
    except Exception as error:
        raise NotUnderstood("it cannot be tried out on numbers") from error
    if y.shape != x.shape:
        raise NotUnderstood("it does not act on each entry for itself")
    return equal(mirrored, -y), equal(mirrored, y), scaled
