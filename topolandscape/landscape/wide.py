"""The wide form: a network rewritten so that its layers act on all parameter vectors of a chunk at once.

The module is traced once (torch.fx). Each layer is then evaluated for c vectors together: the first one, whose inputs
are the same for all, as one plain matrix product with the weights of all vectors stacked; the others as batched
products. Known are fully connected layers, batch norm in eval mode, activations, sums and flattening. What the
rewriting does not know (convolutions among it) raises `NotWide`, and the engine takes another form.

Wide values, which differ from vector to vector, are stored as (c, channels, rows, *rest) where torch has (rows,
channels, *rest): rows stand behind the channels, so that products, biases and activations run along contiguous rows.
"""

from __future__ import annotations

import copy
import itertools
import math
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from topolandscape.landscape.data import count_rows, map_tensors
from topolandscape.landscape.forms import Function, Vmapped, derivative
from topolandscape.landscape.pure import Loss, Model

# Activations of a few dozen vectors should stay in the caches; fewer rows were measured to be slower again.
ROWS_AT_ONCE = 1024


class NotWide(Exception):
    """The rewriting does not know this."""


class Wide:
    """All vectors of a chunk at once, layer by layer.

    Parameters
    ----------
    model
        The module and its varying parameters.
    loss
        The user's loss. Cross-entropy and squared error are computed on the wide layout.
    score
        The mean loss of outputs and targets, by which other losses are computed, with vmap.
    function
        The loss of one vector, for Hessian products.
    additive
        Whether the loss is a mean over rows, so that it may be summed over pieces of the data.

    Raises
    ------
    NotWide
        The module cannot be traced.
    """

    name = "wide"

    def __init__(self, model: Model, loss: Loss, score: Loss, function: Function, *, additive: bool) -> None:
        self._model = model
        self._steps = _traced(model.module)
        self._names = _first_names(model.module)
        self._loss = _wide_loss(loss, score)
        self._vmapped = Vmapped(function)
        self._additive = additive

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        total = torch.zeros(len(vectors), dtype=torch.float64, device=vectors.device)
        with torch.no_grad():
            for share, piece in self._pieces(data):
                total += share * self._evaluate(vectors, piece)
        return total

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        leaf = vectors.detach().clone().requires_grad_()
        total = torch.zeros(len(vectors), dtype=torch.float64, device=vectors.device)
        slopes = torch.zeros_like(vectors, dtype=torch.float64)
        for share, piece in self._pieces(data):
            values = share * self._evaluate(leaf, piece)
            total += values.detach()
            slopes += derivative(values.sum(), leaf)
        return total, slopes

    def products(self, vector: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vector` (p,) times each of `directions` (c, p), by vmap."""
        return self._vmapped.products(vector, directions, data)

    def _pieces(self, data: Any) -> Iterator[tuple[float, Any]]:
        whole = count_rows(data)
        number = math.ceil(whole / ROWS_AT_ONCE) if self._additive else 1
        bounds = [round(i * whole / number) for i in range(number + 1)]
        for start, end in itertools.pairwise(bounds):
            part = data if number == 1 else map_tensors(data, operator.itemgetter(slice(start, end)))
            yield (end - start) / whole, part

    def _evaluate(self, vectors: Tensor, data: Any) -> Tensor:
        inputs, targets = data
        if not isinstance(inputs, Tensor):
            raise NotWide(f"inputs are a {type(inputs).__name__}")
        layers = _Layers(self._model, self._names, vectors)
        known: dict[fx.Node, Any] = {}

        for node in self._steps:
            arguments = fx.map_arg(node.args, lambda n: known[n])
            options = fx.map_arg(node.kwargs, lambda n: known[n])
            if node.op == "placeholder":
                if known:
                    raise NotWide("the module takes several arguments")
                known[node] = _Shared(inputs)
            elif node.op == "call_module":
                name = "" if node.target == _ITSELF else f"{node.target}."
                known[node] = layers.call(name, *arguments, **options)
            elif node.op in ("call_function", "call_method"):
                known[node] = _function(node.target, arguments, options)
            elif node.op == "output":
                outputs = arguments[0]
                if not isinstance(outputs, _Spread):
                    raise NotWide("the outputs do not depend on the varying parameters, or are not one tensor")
                return self._loss(outputs.tensor, targets)
            else:
                raise NotWide(f"{node.op} {node.target}")
        raise NotWide("the module returns nothing")


# --------------------------------------------------------------------------------------------------------------
# Values on their way through the network
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shared:
    """The same for all vectors, as torch has it: (rows, channels, *rest)."""

    tensor: Tensor


@dataclass(frozen=True)
class _Spread:
    """One for each vector: (c, channels, rows, *rest)."""

    tensor: Tensor


_ITSELF = "itself"


def _traced(module: nn.Module) -> list[fx.Node]:
    try:
        if fx.Tracer().is_leaf_module(module, ""):  # a single layer of torch's own, which would be traced into
            graph = fx.symbolic_trace(nn.Sequential(OrderedDict([(_ITSELF, module)]))).graph
        else:
            graph = fx.symbolic_trace(module).graph
    except Exception as error:
        raise NotWide(f"the module cannot be traced: {str(error).splitlines()[0] if str(error) else error!r}") from None
    return list(graph.nodes)


def _first_names(module: nn.Module) -> dict[str, str]:
    """Return the first name of each parameter by all of its names."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    return {name: first[id(p)] for name, p in module.named_parameters(remove_duplicate=False)}


# --------------------------------------------------------------------------------------------------------------
# Layers
# --------------------------------------------------------------------------------------------------------------


class _Layers:
    """The layers of a module with the parameters of c vectors."""

    def __init__(self, model: Model, names: dict[str, str], vectors: Tensor) -> None:
        self._module = model.module
        self._names = names
        self._blocks = {block.name: block for block in model.blocks}
        self._vectors = vectors
        self._count = len(vectors)

    def call(self, name: str, x: Any, *more: Any, **options: Any) -> Any:
        """Return what a layer makes of `x`; its name is empty (the module itself) or ends in a dot."""
        layer = self._module.get_submodule(name.removesuffix("."))
        if more or options:
            raise NotWide(f"{name} takes more than one argument")
        if layer.training and isinstance(layer, (nn.Dropout, nn.modules.batchnorm._BatchNorm)):
            raise NotWide(f"{name} is in train mode")
        if isinstance(layer, (nn.Identity, nn.Dropout)):
            return x
        if isinstance(layer, nn.Linear):
            return self._linear(name, layer, x)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            return self._batch_norm(name, layer, x)
        if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            return _flat(x)
        if type(layer) in _ELEMENTWISE:
            return _elementwise(_out_of_place(layer), x)
        raise NotWide(f"a layer {type(layer).__name__}")

    def _parameter(self, name: str) -> Tensor:
        """Return a parameter as (c, *shape); one that does not vary is repeated."""
        first = self._names[name]
        block = self._blocks.get(first)
        if block is not None:
            return self._vectors[:, block.entries].reshape(self._count, *block.shape)
        fixed = self._module.get_parameter(name).detach()
        return fixed.expand(self._count, *fixed.shape)

    def _linear(self, name: str, layer: nn.Linear, x: Any) -> _Spread:
        weight = self._parameter(f"{name}weight")
        bias = None if layer.bias is None else self._parameter(f"{name}bias")
        if x.tensor.ndim != (2 if isinstance(x, _Shared) else 3):
            raise NotWide(f"{name} acts on inputs of {x.tensor.ndim} dimensions")
        return _Spread(_product(weight, bias, x.tensor.T if isinstance(x, _Shared) else x.tensor))

    def _batch_norm(self, name: str, layer: Any, x: Any) -> Any:
        if layer.running_mean is None:
            raise NotWide(f"{name} follows the data")
        scale = torch.rsqrt(layer.running_var + layer.eps).expand(self._count, -1)
        shift = -layer.running_mean * scale
        if layer.affine:
            weight, bias = self._parameter(f"{name}weight"), self._parameter(f"{name}bias")
            scale, shift = scale * weight, shift * weight + bias
        tensor = x.tensor.transpose(0, 1) if isinstance(x, _Shared) else x.tensor
        shape = (self._count, -1, *(1,) * (tensor.ndim - (1 if isinstance(x, _Shared) else 2)))
        return _Spread(tensor * scale.view(shape) + shift.view(shape))


def _product(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Return weight (c, o, i) times x, (i, n) or (c, i, n), plus bias (c, o): (c, o, n)."""
    count, outputs, inputs = weight.shape
    if x.ndim == 2:
        flat = weight.reshape(count * outputs, inputs)
        result = flat @ x if bias is None else torch.addmm(bias.reshape(-1, 1), flat, x)
        return result.view(count, outputs, -1)
    return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias[:, :, None], weight, x)


# --------------------------------------------------------------------------------------------------------------
# Operations without parameters
# --------------------------------------------------------------------------------------------------------------

_ELEMENTWISE = {
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Hardtanh,
    nn.LogSigmoid,
}
_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    **{f: f for f in (F.relu, F.leaky_relu, F.elu, F.gelu, F.silu, F.softplus, F.sigmoid, F.tanh)},
    **{f: f for f in (torch.relu, torch.tanh, torch.sigmoid, torch.sin, torch.cos, torch.exp, torch.abs, torch.square)},
    **{name: getattr(Tensor, name) for name in ("relu", "tanh", "sigmoid", "sin", "cos", "exp", "abs", "square")},
    operator.neg: operator.neg,
}
_ARITHMETIC: dict[Any, Callable[[Any, Any], Any]] = {
    **{f: f for f in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow)},
    operator.iadd: operator.add,
    torch.add: operator.add,
    torch.sub: operator.sub,
    torch.mul: operator.mul,
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "pow")},
}


def _function(target: Any, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
    """Return what a function or a method of a tensor gives."""
    if target in _FUNCTIONS and isinstance(arguments[0], (_Shared, _Spread)):
        options = {key: option for key, option in options.items() if key != "inplace"}
        return _elementwise(lambda tensor: _FUNCTIONS[target](tensor, *arguments[1:], **options), arguments[0])
    if target in _ARITHMETIC and len(arguments) == 2 and not options:
        return _arithmetic(_ARITHMETIC[target], *arguments)
    if target == "size" and tuple(arguments[1:]) == (0,):
        return _count_rows(arguments[0])
    flattens = target in ("view", "reshape") and len(arguments) == 3 and arguments[2] == -1
    if flattens and arguments[1] in (-1, _count_rows(arguments[0])):
        return _flat(arguments[0])
    if target in (torch.flatten, "flatten") and tuple(arguments[1:]) == (1,) and not options:
        return _flat(arguments[0])
    raise NotWide(f"a function {getattr(target, '__name__', target)}")


def _out_of_place(layer: nn.Module) -> nn.Module:
    """Return an activation that leaves its argument, which may be the data, as it is."""
    if not getattr(layer, "inplace", False):
        return layer
    own = copy.copy(layer)
    vars(own)["inplace"] = False
    return own


def _elementwise(function: Callable[[Tensor], Tensor], x: Any) -> Any:
    return type(x)(function(x.tensor))


def _count_rows(x: Any) -> int:
    return len(x.tensor) if isinstance(x, _Shared) else x.tensor.shape[2]


def _flat(x: Any) -> Any:
    """Join all dimensions but the rows, channels outermost."""
    if isinstance(x, _Shared):
        return _Shared(x.tensor.flatten(1))
    if x.tensor.ndim == 3:
        return x
    return _Spread(x.tensor.movedim(2, -1).flatten(1, -2))


def _arithmetic(function: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    """Return a sum, product ... of two values of one shape, or of a value and a number."""
    values = [x for x in (one, other) if isinstance(x, (_Shared, _Spread))]
    if not all(isinstance(x, (_Shared, _Spread, int, float)) for x in (one, other)) or not values:
        raise NotWide("arithmetic with something that is neither a value nor a number")
    if len(values) == 2 and one.tensor.ndim - isinstance(one, _Spread) != other.tensor.ndim - isinstance(
        other, _Spread
    ):
        raise NotWide("arithmetic of values of different shapes")
    kind: type[_Shared | _Spread] = _Spread if any(isinstance(x, _Spread) for x in values) else _Shared

    def stored(x: Any) -> Any:
        if not isinstance(x, (_Shared, _Spread)):
            return x
        return x.tensor.transpose(0, 1) if kind is _Spread and isinstance(x, _Shared) else x.tensor

    return kind(function(stored(one), stored(other)))


# --------------------------------------------------------------------------------------------------------------
# Losses
# --------------------------------------------------------------------------------------------------------------


def _wide_loss(loss: Loss, score: Loss) -> Callable[[Tensor, Any], Tensor]:
    """Return the mean loss (c,) in float64 of outputs stored wide."""
    if _is_plain(loss, F.cross_entropy, nn.CrossEntropyLoss):
        return _cross_entropy
    if _is_plain(loss, F.mse_loss, nn.MSELoss):
        return _squared_error

    def by_vector(outputs: Tensor, targets: Any) -> Tensor:
        return torch.func.vmap(lambda own: score(own, targets))(outputs.movedim(1, 2))

    return by_vector


def _is_plain(loss: Any, function: Callable[..., Tensor], kind: Callable[[], nn.Module]) -> bool:
    """Return whether a loss is a function, or a module that calls it with nothing but its defaults."""
    if loss is function:
        return True
    if type(loss) is not kind:
        return False
    settings, usual = (
        {name: value for name, value in vars(module).items() if name != "training" and not name.startswith("_")}
        for module in (loss, kind())
    )
    return settings == usual and next(iter(loss.buffers()), None) is None


def _cross_entropy(outputs: Tensor, targets: Any) -> Tensor:
    """Return the mean of log sum exp less the output of the right class; outputs (c, classes, rows)."""
    if outputs.ndim != 3 or not isinstance(targets, Tensor) or targets.ndim != 1 or targets.dtype != torch.int64:
        raise NotWide("cross-entropy of other things than one class a row")
    outputs = outputs.double()
    right = outputs.gather(1, targets.expand(len(outputs), 1, -1)).squeeze(1)
    return (outputs.logsumexp(1) - right).mean(1)


def _squared_error(outputs: Tensor, targets: Any) -> Tensor:
    """Return the mean squared difference; outputs (c, channels, rows, *rest)."""
    if not isinstance(targets, Tensor) or targets.ndim != outputs.ndim - 1:
        raise NotWide("squared error of values of different shapes")
    difference = outputs.double() - targets.double().transpose(0, 1)
    if difference.shape != outputs.shape:
        raise NotWide("squared error of values of different shapes")
    return difference.square().flatten(1).mean(1)
