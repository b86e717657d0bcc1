"""Which units of a network can be exchanged, read from its trace and tried out on its loss."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.noise import rounding
from topolandscape.landscape.symmetry import rules
from topolandscape.landscape.symmetry.elements import CONVOLUTIONS, TRANSPOSED, Symmetry, apply, random_element
from topolandscape.landscape.symmetry.ties import Ties
from topolandscape.landscape.symmetry.units import FIXED, SIZE, Fixed, NotUnderstood, Parameter, Size, Use, Value

_WITH_WEIGHT = {
    *(nn.Linear, nn.Embedding, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.PReLU),
    *CONVOLUTIONS,
    *rules.BATCH_NORMS,
}
# Other names of the same functions.
_ALIASES = {
    **{"iadd": "add", "isub": "sub", "imul": "mul", "itruediv": "truediv", "subtract": "sub"},
    **{"multiply": "mul", "div": "truediv", "divide": "truediv", "concat": "cat", "mm": "matmul"},
}
# What makes sizes of sizes.
_OF_SIZES = frozenset(["getitem", "add", "sub", "mul", "floordiv", "truediv"])


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
    >>> import torch
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
    ties = _Reading(module).ties
    varying = [block.name for block in landscape.blocks]
    groups = ties.groups(varying, weight_decay=landscape.description["weight_decay"] > 0)
    symmetry = Symmetry(landscape.dimension, landscape.blocks, groups, tuple(dict.fromkeys(ties.left_out)))
    return _tried_out(landscape, symmetry)


class _Reading:
    """A traced module, read step by step: what ties its units.

    Parameters
    ----------
    module
        The network, traced here.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        first = {id(parameter): name for name, parameter in module.named_parameters()}
        self._names = {name: first[id(p)] for name, p in module.named_parameters(remove_duplicate=False)}
        self.ties = Ties({name: tuple(parameter.shape) for name, parameter in module.named_parameters()})
        self._follow()

    def _follow(self) -> None:
        """Go through the traced module."""
        if _hooked(self._module):
            self.ties.left_out.append("the module has hooks, which are not understood.")
            return
        try:
            graph = fx.Tracer().trace(self._module)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            self.ties.left_out.append(f"the module cannot be traced: {reason}")
            return
        known: dict[fx.Node, Any] = {}
        for node in graph.nodes:
            arguments = fx.map_arg(node.args, lambda n: known[n])
            options = fx.map_arg(node.kwargs, lambda n: known[n])
            try:
                known[node] = self._step(node, arguments, options)
            except NotUnderstood as reason:
                known[node] = self._lost(node, (arguments, options), str(reason))

    def _step(self, node: fx.Node, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Return what a node of the graph gives."""
        if node.op == "placeholder":
            return FIXED
        if node.op == "get_attr":
            name = self._names.get(str(node.target))
            return FIXED if name is None else Parameter(name, tuple(range(len(self.ties.shapes[name]))))
        if node.op == "output":
            self.ties.freeze(*(value.parts for value in _among((arguments, options), Value)))
            return None
        if node.op == "call_module":
            if len(arguments) != 1 or options:
                raise NotUnderstood("called with several arguments")
            return self._layer(str(node.target), arguments[0])
        if node.op == "call_function" and not str(getattr(node.target, "__module__", "")).startswith(
            ("torch", "_operator", "builtins")
        ):
            raise NotUnderstood("not a function of torch")
        return self._function(node, arguments, options)

    def _lost(self, node: fx.Node, arguments: Any, reason: str) -> Fixed:
        """Freeze whatever goes into a node that is not understood."""
        values = list(_among(arguments, Value))
        names = {parameter.name for parameter in _among(arguments, Parameter)}
        what = str(node.target) if node.op != "call_function" else getattr(node.target, "__name__", str(node.target))
        if node.op == "call_module":
            layer = self._module.get_submodule(what)
            what = f"{what} ({type(layer).__name__})"
            names |= {name for alias, name in self._names.items() if alias.startswith(f"{node.target}.")}
        self.ties.freeze(*(value.parts for value in values))
        for name in names:
            self.ties.use(name, {})
        if values or names:
            why = f" ({reason})" if reason else ""
            self.ties.left_out.append(f"{what} is not understood{why}: the units that it reads stay as they are.")
        return FIXED

    def _layer(self, target: str, x: Any) -> Any:
        """Return what a module gives."""
        layer: Any = self._module.get_submodule(target)
        kind = type(layer)
        if _hooked(layer):
            raise NotUnderstood("it has hooks")

        def parameter(name: str) -> Parameter | None:
            if getattr(layer, name, None) is None:
                return None
            own = self._names.get(f"{target}.{name}")
            if own is None:
                raise NotUnderstood(f"its {name} is not a parameter")
            return Parameter(own, tuple(range(len(self.ties.shapes[own]))))

        weight = parameter("weight") if kind in _WITH_WEIGHT else None
        bias = parameter("bias") if kind in _WITH_WEIGHT and hasattr(layer, "bias") else None
        if kind is nn.Linear:
            return rules.linear(self.ties, x, weight, bias, trailing=0)
        if kind in CONVOLUTIONS:
            return rules.convolution(
                self.ties,
                x,
                weight,
                bias,
                trailing=CONVOLUTIONS[kind],
                parts=layer.groups,
                transposed=kind in TRANSPOSED,
            )
        if kind is nn.Embedding and layer.max_norm is None and weight is not None:
            made = self.ties.made(layer.embedding_dim)
            self.ties.use(weight.name, {1: Use(made, made)})
            return Value(made, 0)
        if not isinstance(x, Value):
            if weight is None:
                raise NotUnderstood("")
            # The inputs, normalised.
            for name in [own.name for own in (weight, bias) if own is not None]:
                self.ties.use(name, {})
            return FIXED
        if kind in rules.BATCH_NORMS:
            return rules.batch_norm(self.ties, target, layer, x, weight, bias)
        if kind in (nn.LayerNorm, nn.RMSNorm):
            shape = layer.normalized_shape
            if len(shape) != x.trailing + 1:
                raise NotUnderstood("it normalises over other dimensions than the units'")
            return rules.normalised(self.ties, x, int(shape[0]), weight, bias)
        if kind is nn.GroupNorm and layer.num_groups == 1:
            return rules.normalised(self.ties, x, layer.num_channels, weight, bias)
        if kind is nn.PReLU and weight is not None:
            self.ties.keep_signs(x.parts)
            if layer.num_parameters > 1:
                self.ties.use(weight.name, {0: Use(self.ties.fitting(x, layer.num_parameters))})
            return x
        if kind is nn.Flatten:
            return rules.flattened(x, layer.start_dim, layer.end_dim)
        if kind is not getattr(nn, kind.__name__, None) or getattr(layer, "return_indices", False):
            raise NotUnderstood("")
        own = copy.deepcopy(layer)
        return rules.plain(self.ties, kind.__name__.lower(), x, own, inplace=False)

    def _function(self, node: fx.Node, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Return what a function or a method gives."""
        target: Any = node.target
        raw = target if isinstance(target, str) else getattr(target, "__name__", "")
        name = raw.replace("_", "").lower()
        name = _ALIASES.get(name, name)
        inplace = raw.endswith("_") or raw in ("iadd", "isub", "imul", "itruediv") or options.get("inplace", False)
        inplace = inplace and isinstance(node.args[0], fx.Node) and len(node.args[0].users) > 1
        x = arguments[0] if arguments else None
        tensors = list(_among((arguments, options), (Value, Parameter, Fixed)))

        if name in ("size", "dim") or (name == "getattr" and arguments[1] in ("shape", "ndim", "dtype", "device")):
            return SIZE
        if not tensors:
            if name in _OF_SIZES and isinstance(node.target, type(operator.add)):
                return SIZE
            raise NotUnderstood("")
        if isinstance(x, Parameter) and len(x.axes) == 2 and not options:
            turned = (name == "getattr" and arguments[1] in ("T", "mT")) or name == "t"
            if turned or (name == "transpose" and sorted(arguments[1:]) in ([0, 1], [-1, 0], [-2, 1], [-2, -1])):
                return x._replace(axes=x.axes[::-1])
        if name in ("linear", "matmul", "conv1d", "conv2d", "conv3d") and len(arguments) >= 2:
            return rules.product(self.ties, name, arguments, options)
        if not isinstance(x, Value):
            swapped = name in ("add", "mul", "sub") and len(arguments) == 2 and isinstance(arguments[1], Value)
            if swapped and isinstance(x, Parameter) and not options:
                return rules.with_parameter(self.ties, name, arguments[1], x, inplace=inplace)
        if name == "cat":
            return rules.concatenated(arguments, options)
        values = [tensor for tensor in tensors if isinstance(tensor, Value)]
        if len(tensors) == 2 and len(arguments) == 2 and isinstance(x, Value) and not options:
            if len(values) == 2 and name in ("add", "sub", "mul", "truediv"):
                return rules.combined(self.ties, name, *values)
            if isinstance(arguments[1], Parameter) and name in ("add", "sub", "mul"):
                return rules.with_parameter(self.ties, name, x, arguments[1], inplace=inplace)
        if len(tensors) != 1 or len(values) != 1:
            raise NotUnderstood("")
        if x is values[0]:
            if name == "flatten":
                return rules.flattened(x, *rules.bound(("startdim", "enddim"), (0, -1), arguments[1:], options))
            if name in ("view", "reshape"):
                return rules.reshaped(self.ties, x, arguments[1:])
            if name in ("mean", "sum", "amax", "amin"):
                return rules.reduced(self.ties, name, x, arguments[1:], options)
        if options.get("return_indices", False):
            raise NotUnderstood("it returns indices")

        def function(tensor: Tensor) -> Tensor:
            given, chosen = (
                _with(part, lambda a: tensor if isinstance(a, Value) else 3.0 if isinstance(a, Size) else a)
                for part in (arguments, options)
            )
            return (
                getattr(given[0], target)(*given[1:], **chosen) if isinstance(target, str) else target(*given, **chosen)
            )

        return rules.plain(self.ties, name, values[0], function, inplace=bool(inplace))


def _hooked(module: nn.Module) -> bool:
    """Return whether a module does more than its forward method says."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _among(arguments: Any, kinds: type | tuple[type, ...]) -> Iterator[Any]:
    """Give what is of certain kinds, in nested arguments."""
    if isinstance(arguments, kinds):
        yield arguments
    elif isinstance(arguments, dict):
        yield from _among(tuple(arguments.values()), kinds)
    elif isinstance(arguments, (tuple, list)) and not isinstance(arguments, (Value, Parameter)):
        for argument in arguments:
            yield from _among(argument, kinds)


def _with(arguments: Any, function: Callable[[Any], Any]) -> Any:
    """Return arguments, one level deep, each replaced."""
    if isinstance(arguments, dict):
        return {key: function(value) for key, value in arguments.items()}
    return tuple(function(argument) for argument in arguments)


def _tried_out(landscape: Landscape, symmetry: Symmetry) -> Symmetry:
    """Return a symmetry without the groups that change the loss."""
    assert landscape.point is not None
    rng = np.random.default_rng(0)
    size = float(np.sqrt(np.mean(landscape.point**2))) or 0.1
    at = landscape.point + 0.3 * size * rng.standard_normal(landscape.dimension)
    single = [replace(symmetry, groups=(group,)) for group in symmetry.groups]
    copies = [apply(own, at, random_element(own, rng)) for own in single]
    losses = landscape.values(np.stack([at, *copies]), progress=False)
    precision = rounding(landscape.description)
    good = np.isclose(losses[1:], losses[0], rtol=math.sqrt(precision), atol=math.sqrt(precision), equal_nan=True)
    changing = [group.name for group, fine in zip(symmetry.groups, good, strict=True) if not fine]
    return replace(
        symmetry,
        groups=tuple(group for group, fine in zip(symmetry.groups, good, strict=True) if fine),
        left_out=(*symmetry.left_out, *(f"permuting or scaling {name} changes the loss." for name in changing)),
    )
