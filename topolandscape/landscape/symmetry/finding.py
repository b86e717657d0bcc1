"""Which units of a network can be exchanged, read from its trace and tried out on its loss."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.pure import Block
from topolandscape.landscape.symmetry.elements import (
    CONVOLUTIONS,
    TRANSPOSED,
    Group,
    Kind,
    Place,
    Scaling,
    Symmetry,
    apply,
    random_element,
)


def symmetry_of(landscape: Landscape) -> Symmetry:
    """Return the symmetries of a landscape's network.

    Parameters
    ----------
    landscape
        Of a whole module. A module that cannot be traced by torch.fx has no groups.

    Returns
    -------
    Symmetry
        Its groups are symmetries of the loss, but it need not hold all there are: what the network does to a group
        has to be understood all the way, all parameters that belong to it have to vary, and each to be used in one
        way. Its `left_out` says what was not.

    Raises
    ------
    ValueError
        The landscape is of a function or a restriction.

    Notes
    -----
    Understood are fully connected layers and convolutions, also depthwise ones, embeddings, elementwise activations,
    normalisations, pooling, means over positions, flattening, sums, products and concatenation, as modules or as
    functions. Sums of layers (residual connections) tie their units into one group. Activations are tried out on
    numbers: odd ones keep signs, positively homogeneous ones scales.

    Batch norm in eval mode keeps its statistics, which are not parameters. Units whose statistics differ cannot be
    permuted; and those whose means are not zero, not scaled in front of it. With weight decay only scales of 1 and
    -1 are left. Signs that an even activation swallows are also found.

    Rounding aside, no symmetry is reported that changes the loss: each group is tried out once, at the cost of as
    many evaluations of the loss as there are groups.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> landscape = Landscape.from_module(
    ...     module, torch.ones(4, 2), torch.ones(4, 1), loss=torch.nn.functional.mse_loss
    ... )
    >>> symmetry = symmetry_of(landscape)
    >>> symmetry
    Symmetry(3 units of 0: permutations, signs)
    >>> symmetry.count == 6 * 2**3
    True
    """
    if landscape.point is None:
        raise ValueError(
            "this landscape is of a function or of a few directions, which have no units; give the landscape of a "
            "whole module, made with Landscape.from_module()."
        )
    module = landscape.module_at(landscape.point)
    found = _Found(module, landscape.blocks, weight_decay=landscape.description["weight_decay"] > 0)
    symmetry = Symmetry(landscape.dimension, landscape.blocks, found.groups(), tuple(dict.fromkeys(found.left_out)))
    return _tried_out(landscape, symmetry)


class _Part(NamedTuple):
    """Units side by side, each with `repeats` entries; `order` and `scale` number what has to change together."""

    units: int
    repeats: int
    order: int
    scale: int


_Parts = tuple[_Part, ...]


class _Value(NamedTuple):
    """Activations: `trailing` dimensions stand behind that of the units.

    `stretched`: behind a flattening, so that each entry of the parts stands for a number of them, not yet known.
    """

    parts: _Parts
    trailing: int
    stretched: bool = False

    def resolved(self, length: int) -> _Parts | None:
        """Return the parts of a dimension of known length, None when they do not fit."""
        own = sum(part.units * part.repeats for part in self.parts)
        if length % own or (length != own and not self.stretched):
            return None
        return tuple(part._replace(repeats=part.repeats * (length // own)) for part in self.parts)


class _Parameter(NamedTuple):
    """A parameter, by its first name, and which of its axes is the k-th one."""

    name: str
    axes: tuple[int, ...]


class _Fixed:
    """A tensor whose entries have to stay as they are: inputs, outputs, what is not understood."""


class _Size:
    """A number that depends on nothing but shapes."""


class _Use(NamedTuple):
    """What lies along an axis of a parameter, and by whose factors it is multiplied and divided."""

    units: _Parts | None = None
    times: _Parts | None = None
    over: _Parts | None = None


class _NotUnderstood(Exception):
    """The step, or this use of it, is not known."""


_FIXED, _SIZE = _Fixed(), _Size()


_BATCH_NORMS: dict[type, tuple[int, ...]] = {nn.BatchNorm1d: (0, 1), nn.BatchNorm2d: (2,), nn.BatchNorm3d: (3,)}


_WITH_WEIGHT = {
    *(nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.PReLU),
    *CONVOLUTIONS,
    *_BATCH_NORMS,
}


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


_ALIASES = {
    **{"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "truediv", "subtract": "sub"},
    **{"multiply": "mul", "div": "truediv", "divide": "truediv", "concat": "cat", "mm": "matmul"},
}


_OF_SIZES = frozenset(["getitem", "add", "sub", "mul", "floordiv", "truediv"])


class _Found:
    """Units and what ties them, collected step by step along the traced module.

    Parameters
    ----------
    module
        The network, traced here.
    blocks
        The parameters that vary.
    weight_decay
        Whether scales change the loss.
    """

    def __init__(self, module: nn.Module, blocks: Sequence[Block], *, weight_decay: bool) -> None:
        self.left_out: list[str] = []
        self._module = module
        self._varying = {block.name for block in blocks}
        self._weight_decay = weight_decay
        first = {id(parameter): name for name, parameter in module.named_parameters()}
        self._names = {name: first[id(p)] for name, p in module.named_parameters(remove_duplicate=False)}
        self._shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
        # Numbers of orders and scales; those of each link are the same.
        self._numbers = 0
        self._links: list[tuple[int, int]] = []
        self._still: set[int] = set()
        self._unscaled: set[int] = set()
        self._unsigned: set[int] = set()
        self._uses: dict[tuple[str, int], _Use] = {}
        self._follow()

    # ------------------------------------------------------------------------------------------ what it comes to

    def groups(self) -> tuple[Group, ...]:
        """Return the groups that may be permuted or scaled."""
        for (name, _), use in self._uses.items():
            if name not in self._varying and use.units is not None:
                self._freeze(use.units, use.times, use.over)
                self.left_out.append(f"the parameter {name} is fixed.")
        find = _classes(self._numbers, self._links)
        still, unscaled, unsigned = (
            {find[i] for i in numbers} for numbers in (self._still, self._unscaled, self._unsigned)
        )
        orders: dict[int, tuple[int, dict[Place, None]]] = {}
        scales: dict[int, dict[int, tuple[dict[Place, None], dict[Place, None]]]] = {}
        for (name, axis), use in self._uses.items():
            for role, parts in enumerate(use):
                start = 0
                for part in parts or ():
                    order, place = find[part.order], Place(name, axis, start, part.repeats)
                    start += part.units * part.repeats
                    if role == 0:
                        orders.setdefault(order, (part.units, {}))[1][place] = None
                    else:
                        sides = scales.setdefault(order, {}).setdefault(find[part.scale], ({}, {}))
                        sides[role - 1][place] = None
        groups = []
        for order, (units, places) in sorted(orders.items()):
            scalings = []
            for scale, (times, over) in sorted(scales.get(order, {}).items()):
                # What is multiplied and divided by the same factors stays as it is.
                incoming, outgoing = (tuple(p for p in a if p not in b) for a, b in ((times, over), (over, times)))
                signs = scale not in unsigned and bool(incoming)
                free = scale not in unscaled and not self._weight_decay and bool(incoming) and bool(outgoing)
                if signs or free:
                    kind: Kind = "both" if signs and free else "sign" if signs else "scale"
                    scalings.append(Scaling(kind, incoming, outgoing))
            permuted = order not in still and units > 1
            if permuted or scalings:
                name = next(iter(places)).name
                groups.append(Group(name.rpartition(".")[0] or name, units, permuted, tuple(places), tuple(scalings)))
        return tuple(groups)

    # ------------------------------------------------------------------------------------------ following

    def _follow(self) -> None:
        """Go through the traced module."""
        if _hooked(self._module):
            self.left_out.append("the module has hooks, which are not understood.")
            return
        try:
            graph = fx.Tracer().trace(self._module)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            self.left_out.append(f"the module cannot be traced: {reason}")
            return
        known: dict[fx.Node, Any] = {}
        for node in graph.nodes:
            arguments = fx.map_arg(node.args, lambda n: known[n])
            options = fx.map_arg(node.kwargs, lambda n: known[n])
            try:
                known[node] = self._step(node, arguments, options)
            except _NotUnderstood as reason:
                known[node] = self._lost(node, (arguments, options), str(reason))

    def _step(self, node: fx.Node, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Return what a node of the graph gives."""
        if node.op == "placeholder":
            return _FIXED
        if node.op == "get_attr":
            name = self._names.get(str(node.target))
            return _FIXED if name is None else _Parameter(name, tuple(range(len(self._shapes[name]))))
        if node.op == "output":
            self._freeze(*(value.parts for value in _among((arguments, options), _Value)))
            return None
        if node.op == "call_module":
            if len(arguments) != 1 or options:
                raise _NotUnderstood("called with several arguments")
            return self._layer(str(node.target), arguments[0])
        if node.op == "call_function" and not str(getattr(node.target, "__module__", "")).startswith(
            ("torch", "_operator", "builtins")
        ):
            raise _NotUnderstood("not a function of torch")
        return self._function(node, arguments, options)

    def _lost(self, node: fx.Node, arguments: Any, reason: str) -> _Fixed:
        """Freeze whatever goes into a node that is not understood."""
        values = list(_among(arguments, _Value))
        names = {parameter.name for parameter in _among(arguments, _Parameter)}
        what = str(node.target) if node.op != "call_function" else getattr(node.target, "__name__", str(node.target))
        if node.op == "call_module":
            layer = self._module.get_submodule(what)
            what = f"{what} ({type(layer).__name__})"
            names |= {name for alias, name in self._names.items() if alias.startswith(f"{node.target}.")}
        self._freeze(*(value.parts for value in values))
        for name in names:
            self._use(name, {})
        if values or names:
            why = f" ({reason})" if reason else ""
            self.left_out.append(f"{what} is not understood{why}: the units that it reads stay as they are.")
        return _FIXED

    # ------------------------------------------------------------------------------------------ layers

    def _layer(self, target: str, x: Any) -> Any:
        """Return what a module gives."""
        layer: Any = self._module.get_submodule(target)
        kind = type(layer)
        if _hooked(layer):
            raise _NotUnderstood("it has hooks")

        def parameter(name: str) -> _Parameter | None:
            if getattr(layer, name, None) is None:
                return None
            own = self._names.get(f"{target}.{name}")
            if own is None:
                raise _NotUnderstood(f"its {name} is not a parameter")
            return _Parameter(own, tuple(range(len(self._shapes[own]))))

        weight = parameter("weight") if kind in _WITH_WEIGHT else None
        bias = parameter("bias") if kind in _WITH_WEIGHT and hasattr(layer, "bias") else None
        if kind is nn.Linear:
            return self._linear(x, weight, bias, trailing=0)
        if kind in CONVOLUTIONS:
            return self._convolution(
                x, weight, bias, trailing=CONVOLUTIONS[kind], parts=layer.groups, transposed=kind in TRANSPOSED
            )
        if kind is nn.Embedding and layer.max_norm is None and weight is not None:
            made = self._made(layer.embedding_dim)
            self._use(weight.name, {1: _Use(made, made)})
            return _Value(made, 0)
        if not isinstance(x, _Value):
            if weight is None:
                raise _NotUnderstood("")
            # The inputs, normalised.
            for name in [own.name for own in (weight, bias) if own is not None]:
                self._use(name, {})
            return _FIXED
        if kind in _BATCH_NORMS:
            return self._batch_norm(target, layer, x, weight, bias)
        if kind in (nn.LayerNorm, nn.RMSNorm):
            shape = layer.normalized_shape
            if len(shape) != x.trailing + 1:
                raise _NotUnderstood("it normalises over other dimensions than the units'")
            return self._normalised(x, int(shape[0]), weight, bias)
        if kind is nn.GroupNorm and layer.num_groups == 1:
            return self._normalised(x, layer.num_channels, weight, bias)
        if kind is nn.PReLU and weight is not None:
            self._unsigned |= {part.scale for part in x.parts}
            if layer.num_parameters > 1:
                self._use(weight.name, {0: _Use(self._fitting(x, layer.num_parameters))})
            return x
        if kind is nn.Flatten:
            return self._flat(x, layer.start_dim, layer.end_dim)
        if kind is not getattr(nn, kind.__name__, None) or getattr(layer, "return_indices", False):
            raise _NotUnderstood("")
        own = copy.deepcopy(layer)
        return self._plain(kind.__name__.lower(), x, own, inplace=False)

    def _linear(
        self, x: Any, weight: _Parameter | None, bias: Any, *, trailing: int, axes: tuple[int, int] = (0, 1)
    ) -> _Value:
        """Return new units that read `x`; axes of the weight: those of the new units and of the old ones."""
        if weight is None or not (bias is None or isinstance(bias, _Parameter)) or isinstance(x, (_Parameter, _Size)):
            raise _NotUnderstood("")
        shape = self._shapes[weight.name]
        out, into = (weight.axes[axis] for axis in axes)
        read = None
        if isinstance(x, _Value):
            if x.trailing != trailing:
                raise _NotUnderstood("it acts on another dimension than the units'")
            read = self._fitting(x, shape[into])
        made = self._made(shape[out])
        self._use(weight.name, {out: _Use(made, made), into: _Use(read, None, read)})
        if bias is not None:
            self._use(bias.name, {0: _Use(made, made)})
        return _Value(made, trailing)

    def _convolution(
        self,
        x: Any,
        weight: _Parameter | None,
        bias: Any,
        *,
        trailing: int,
        parts: int,
        transposed: bool = False,
    ) -> _Value:
        if parts == 1:
            return self._linear(x, weight, bias, trailing=trailing, axes=(1, 0) if transposed else (0, 1))
        if (
            weight is None
            or not (bias is None or isinstance(bias, _Parameter))
            or not isinstance(x, _Value)
            or x.trailing != trailing
            or not self._shapes[weight.name][:2] == (parts, 1)
        ):
            raise _NotUnderstood("its channels are in parts")
        old = self._fitting(x, parts)
        new = self._scaled_anew(old)
        self._use(weight.name, {0: _Use(new, new, old)})
        if bias is not None:
            self._use(bias.name, {0: _Use(new, new)})
        return _Value(new, trailing)

    def _batch_norm(
        self, target: str, layer: Any, x: _Value, weight: _Parameter | None, bias: _Parameter | None
    ) -> _Value:
        """Statistics that are kept are the same whatever the parameters; those of the data follow them."""
        if x.trailing not in _BATCH_NORMS[type(layer)]:
            raise _NotUnderstood("it acts on another dimension than the units'")
        old = self._fitting(x, layer.num_features)
        if layer.running_mean is None or layer.training:
            return self._normalised(x, layer.num_features, weight, bias)
        start, centered = 0, bool((layer.running_mean == 0).all())
        for part in old:
            entries = slice(start, start + part.units * part.repeats)
            start = entries.stop
            for statistics in (layer.running_mean, layer.running_var):
                rows = statistics[entries].reshape(part.units, part.repeats)
                if not bool((rows == rows[0]).all()):
                    self._still.add(part.order)
                    self.left_out.append(f"{target} ({type(layer).__name__}) has other statistics for each unit.")
        if not centered:
            self._rigid(old)
        if weight is None and bias is None:
            return _Value(old, x.trailing)
        new = self._scaled_anew(old)
        self._gained(new, old, weight, bias)
        return _Value(new, x.trailing)

    def _normalised(self, x: _Value, length: int, weight: _Parameter | None, bias: _Parameter | None) -> _Value:
        """Normalisation by the data: units change places, but their scales are lost."""
        old = self._fitting(x, length)
        self._rigid(old)
        new = self._scaled_anew(old)
        self._gained(new, None, weight, bias)
        if weight is None:
            self._rigid(new)
        return _Value(new, x.trailing)

    def _gained(self, new: _Parts, old: _Parts | None, weight: _Parameter | None, bias: _Parameter | None) -> None:
        """Use a factor and a summand of each unit."""
        if weight is not None:
            self._use(weight.name, {0: _Use(new, new, old)})
        if bias is not None:
            self._use(bias.name, {0: _Use(new, new)})

    # ------------------------------------------------------------------------------------------ functions

    def _function(self, node: fx.Node, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Return what a function or a method gives."""
        target: Any = node.target
        raw = target if isinstance(target, str) else getattr(target, "__name__", "")
        name = raw.replace("_", "").lower()
        name = _ALIASES.get(name, name)
        inplace = raw.endswith("_") or raw in ("iadd", "isub", "imul", "itruediv") or options.get("inplace", False)
        inplace = inplace and isinstance(node.args[0], fx.Node) and len(node.args[0].users) > 1
        x = arguments[0] if arguments else None
        tensors = list(_among((arguments, options), (_Value, _Parameter, _Fixed)))

        if name in ("size", "dim") or (name == "getattr" and arguments[1] in ("shape", "ndim", "dtype", "device")):
            return _SIZE
        if not tensors:
            if name in _OF_SIZES and isinstance(node.target, type(operator.add)):
                return _SIZE
            raise _NotUnderstood("")
        if isinstance(x, _Parameter) and len(x.axes) == 2 and not options:
            turned = (name == "getattr" and arguments[1] in ("T", "mT")) or name == "t"
            if turned or (name == "transpose" and sorted(arguments[1:]) in ([0, 1], [-1, 0], [-2, 1], [-2, -1])):
                return x._replace(axes=x.axes[::-1])
        if name in ("linear", "matmul", "conv1d", "conv2d", "conv3d") and len(arguments) >= 2:
            return self._product(name, arguments, options)
        if not isinstance(x, _Value):
            swapped = name in ("add", "mul", "sub") and len(arguments) == 2 and isinstance(arguments[1], _Value)
            if swapped and isinstance(x, _Parameter) and not options:
                return self._with_parameter(name, arguments[1], x, inplace=inplace)
        if name == "cat":
            return self._concatenated(arguments, options)
        values = [tensor for tensor in tensors if isinstance(tensor, _Value)]
        if len(tensors) == 2 and len(arguments) == 2 and isinstance(x, _Value) and not options:
            if len(values) == 2 and name in ("add", "sub", "mul", "truediv"):
                return self._combined(name, *values)
            if isinstance(arguments[1], _Parameter) and name in ("add", "sub", "mul"):
                return self._with_parameter(name, x, arguments[1], inplace=inplace)
        if len(tensors) != 1 or len(values) != 1:
            raise _NotUnderstood("")
        if x is values[0]:
            if name == "flatten":
                return self._flat(x, *_bound(("startdim", "enddim"), (0, -1), arguments[1:], options))
            if name in ("view", "reshape"):
                return self._reshaped(x, arguments[1:])
            if name in ("mean", "sum", "amax", "amin"):
                return self._reduced(name, x, arguments[1:], options)
        if options.get("return_indices", False):
            raise _NotUnderstood("it returns indices")

        def function(tensor: Tensor) -> Tensor:
            given, chosen = (
                _with(part, lambda a: tensor if isinstance(a, _Value) else 3.0 if isinstance(a, _Size) else a)
                for part in (arguments, options)
            )
            return (
                getattr(given[0], target)(*given[1:], **chosen) if isinstance(target, str) else target(*given, **chosen)
            )

        return self._plain(name, values[0], function, inplace=bool(inplace))

    def _product(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> _Value:
        """Return what a layer written as a function gives."""
        x, weight = arguments[:2]
        if not isinstance(weight, _Parameter):
            raise _NotUnderstood("")
        if name == "matmul":
            if len(weight.axes) != 2 or len(arguments) > 2 or options:
                raise _NotUnderstood("")
            return self._linear(x, weight, None, trailing=0, axes=(1, 0))
        bias = arguments[2] if len(arguments) > 2 else options.get("bias")
        if name == "linear":
            return self._linear(x, weight, bias, trailing=0)
        parts = options.get("groups", arguments[6] if len(arguments) > 6 else 1)
        if weight.axes != tuple(range(len(weight.axes))):
            raise _NotUnderstood("")
        return self._convolution(x, weight, bias, trailing=int(name[4]), parts=parts)

    def _plain(self, name: str, x: _Value, function: Callable[[Tensor], Tensor], *, inplace: bool) -> _Value:
        """Return what a function of one value, unit by unit, gives."""
        if name in _PASSING.split():
            return x
        pooled = _AVERAGES.get(name, _MAXIMA.get(name))
        if pooled is not None:
            if x.trailing != pooled:
                raise _NotUnderstood("it acts on another dimension than the positions'")
            if name in _MAXIMA:
                self._unsigned |= {part.scale for part in x.parts}
            return x
        if name not in _ELEMENTWISE.split():
            raise _NotUnderstood("")
        odd, even, homogeneous = _tried(function)
        scales = {part.scale for part in x.parts}
        if not homogeneous or even:
            self._unscaled |= scales
        if even and not inplace:
            new = self._scaled_anew(x.parts)
            self._rigid(new)
            return x._replace(parts=new)
        if not odd:
            self._unsigned |= scales
        return x

    def _combined(self, name: str, one: _Value, other: _Value) -> _Value:
        """Return a sum or a product of two values, which ties their units."""
        if (one.trailing, one.stretched) != (other.trailing, other.stretched) or not _alike(one.parts, other.parts):
            raise _NotUnderstood("its arguments have other units")
        self._link(one.parts, other.parts, scales=name in ("add", "sub"))
        if name in ("add", "sub"):
            return one
        for value in (one, other):
            self._rigid(value.parts)
        return one

    def _with_parameter(self, name: str, x: _Value, parameter: _Parameter, *, inplace: bool) -> _Value:
        """Return a sum or a product of a value and a parameter that is not one of a layer."""
        shape = [self._shapes[parameter.name][axis] for axis in parameter.axes]
        at = len(shape) - x.trailing - 1
        if inplace or at < 0 or shape[at] == 1:
            raise _NotUnderstood("")
        old = self._fitting(x, shape[at])
        if name in ("add", "sub"):
            self._use(parameter.name, {parameter.axes[at]: _Use(old, old)})
            return _Value(old, x.trailing)
        new = self._scaled_anew(old)
        self._use(parameter.name, {parameter.axes[at]: _Use(new, new, old)})
        return _Value(new, x.trailing)

    def _concatenated(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> _Value:
        tensors, dim = _bound(("tensors", "dim"), ((), 0), arguments, options)
        values = [value for value in tensors if isinstance(value, _Value) and not value.stretched]
        trailing = {value.trailing for value in values}
        if len(values) != len(tensors) or len(trailing) != 1 or dim not in (1, -1 - min(trailing)):
            raise _NotUnderstood("")
        return _Value(tuple(part for value in values for part in value.parts), min(trailing))

    def _flat(self, x: _Value, start: int, end: int) -> _Value:
        """Join dimensions; rows come first, then units."""
        last = x.trailing + 1
        if end not in (-1, last) or start not in (1, 2):
            raise _NotUnderstood("it joins other dimensions than those behind the rows")
        if x.trailing == 0 or start == 2:
            return x._replace(trailing=min(x.trailing, 1))
        return _Value(x.parts, 0, stretched=True)

    def _reshaped(self, x: _Value, sizes: tuple[Any, ...]) -> _Value:
        """Flattening is the only reshaping that is understood."""
        if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
            sizes = tuple(sizes[0])
        if len(sizes) != 2 or not (isinstance(sizes[0], _Size) or sizes[0] == -1):
            raise _NotUnderstood("")
        if isinstance(sizes[1], int) and sizes[1] > 0:
            flat = self._flat(x, 1, -1)
            return _Value(self._fitting(flat, sizes[1]), 0)
        if sizes[1] != -1 or sizes[0] == -1:
            raise _NotUnderstood("")
        return self._flat(x, 1, -1)

    def _reduced(self, name: str, x: _Value, arguments: tuple[Any, ...], options: dict[str, Any]) -> _Value:
        """Return a mean or the like over positions."""
        dims, kept = _bound(("dim", "keepdim"), (None, False), arguments, options)
        dims = dims if isinstance(dims, (tuple, list)) else (dims,)
        if not all(isinstance(dim, int) and (2 <= dim < 2 + x.trailing or -x.trailing <= dim < 0) for dim in dims):
            raise _NotUnderstood("it does not act on positions only")
        if name in ("amax", "amin"):
            self._unsigned |= {part.scale for part in x.parts}
        return x if kept else x._replace(trailing=x.trailing - len(dims))

    # ------------------------------------------------------------------------------------------ keeping the books

    def _made(self, units: int) -> _Parts:
        """Return new units."""
        self._numbers += 2
        return (_Part(units, 1, self._numbers - 2, self._numbers - 1),)

    def _scaled_anew(self, parts: _Parts) -> _Parts:
        """Return the same units, with scales of their own."""
        first = self._numbers
        self._numbers += len(parts)
        return tuple(part._replace(scale=first + i) for i, part in enumerate(parts))

    def _fitting(self, x: _Value, length: int) -> _Parts:
        parts = x.resolved(length)
        if parts is None:
            raise _NotUnderstood(f"it takes {length} entries, which the units before do not make up")
        return parts

    def _rigid(self, parts: _Parts) -> None:
        """Let units keep scales and signs."""
        self._unscaled |= {part.scale for part in parts}
        self._unsigned |= {part.scale for part in parts}

    def _freeze(self, *several: _Parts | None) -> None:
        """Let units keep places, scales and signs."""
        for parts in several:
            self._still |= {part.order for part in parts or ()}
            self._rigid(parts or ())

    def _link(self, one: _Parts, other: _Parts, *, scales: bool) -> None:
        for a, b in zip(one, other, strict=True):
            self._links.append((a.order, b.order))
            if scales:
                self._links.append((a.scale, b.scale))

    def _use(self, name: str, uses: dict[int, _Use]) -> None:
        """Note what lies along each axis of a parameter; tie it to what is known from another use of it."""
        for axis in range(len(self._shapes[name])):
            use = uses.get(axis, _Use())
            known = self._uses.setdefault((name, axis), use)
            pairs = list(zip(known, use, strict=True))
            if all((a is None) == (b is None) and _alike(a or (), b or ()) for a, b in pairs):
                for role, (a, b) in enumerate(pairs):
                    self._link(a or (), b or (), scales=role > 0)
            else:
                self._freeze(*known, *use)
                self.left_out.append(f"the parameter {name} is used in several ways.")


def _alike(one: _Parts, other: _Parts) -> bool:
    """Return whether units lie in the same way."""
    return [part[:2] for part in one] == [part[:2] for part in other]


def _classes(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each number the least one that it is linked to."""
    least = list(range(count))

    def root(i: int) -> int:
        while least[i] != i:
            i = least[i]
        return i

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        least[high] = low
    return [root(i) for i in range(count)]


def _hooked(module: nn.Module) -> bool:
    """Return whether a module does more than its forward method says."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _among(arguments: Any, kinds: type | tuple[type, ...]) -> Iterator[Any]:
    """Give what is of certain kinds, in nested arguments."""
    if isinstance(arguments, kinds):
        yield arguments
    elif isinstance(arguments, dict):
        yield from _among(tuple(arguments.values()), kinds)
    elif isinstance(arguments, (tuple, list)) and not isinstance(arguments, (_Value, _Parameter)):
        for argument in arguments:
            yield from _among(argument, kinds)


def _with(arguments: Any, function: Callable[[Any], Any]) -> Any:
    """Return arguments, one level deep, each replaced."""
    if isinstance(arguments, dict):
        return {key: function(value) for key, value in arguments.items()}
    return tuple(function(argument) for argument in arguments)


def _bound(
    names: Sequence[str], defaults: Sequence[Any], arguments: Sequence[Any], options: dict[str, Any]
) -> tuple[Any, ...]:
    """Return arguments by position or by name."""
    given = dict(zip(names, arguments, strict=False)) | {key.replace("_", ""): x for key, x in options.items()}
    if len(arguments) > len(names) or not set(given) <= set(names):
        raise _NotUnderstood("")
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
        raise _NotUnderstood("it cannot be tried out on numbers") from error
    if y.shape != x.shape:
        raise _NotUnderstood("it does not act on each entry for itself")
    return equal(mirrored, -y), equal(mirrored, y), scaled


def _tried_out(landscape: Landscape, symmetry: Symmetry) -> Symmetry:
    """Return a symmetry without the groups that change the loss."""
    assert landscape.point is not None
    rng = np.random.default_rng(0)
    size = float(np.sqrt(np.mean(landscape.point**2))) or 0.1
    at = landscape.point + 0.3 * size * rng.standard_normal(landscape.dimension)
    single = [replace(symmetry, groups=(group,)) for group in symmetry.groups]
    copies = [apply(own, at, random_element(own, rng)) for own in single]
    losses = landscape.values(np.stack([at, *copies]), progress=False)
    precision = torch.finfo(getattr(torch, landscape.description["dtype"])).eps
    good = np.isclose(losses[1:], losses[0], rtol=math.sqrt(precision), atol=math.sqrt(precision), equal_nan=True)
    changing = [group.name for group, fine in zip(symmetry.groups, good, strict=True) if not fine]
    return replace(
        symmetry,
        groups=tuple(group for group, fine in zip(symmetry.groups, good, strict=True) if fine),
        left_out=(*symmetry.left_out, *(f"permuting or scaling {name} changes the loss." for name in changing)),
    )
