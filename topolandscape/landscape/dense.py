"""The dense form: layers one after the other, compiled from the inputs to the loss and back.

For modules that are nothing but linear layers and convolutions, each with batch norm of fixed statistics where there is
one, with windows of pooling, and with activations whose derivative is known from their result, in between, under
cross-entropy or the squared error, on the processor. All else raises `NotWide`, or at the data `NotImplementedError`,
and the engine takes another form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from topolandscape.landscape import layers
from topolandscape.landscape.functions import spellings
from topolandscape.landscape.kernels import dense
from topolandscape.landscape.kernels.convolution import Geometry
from topolandscape.landscape.kernels.layers import ACTIVATIONS, LARGEST, MEAN, PRODUCT, Layer, Layers, layers_of
from topolandscape.landscape.kernels.losses import shares_of
from topolandscape.landscape.kernels.registers import as_array, is_compiled
from topolandscape.landscape.pooling import Windows
from topolandscape.landscape.pure import Block, Loss, Model
from topolandscape.landscape.stacked import NotWide
from topolandscape.landscape.tracing import parameter_name, program
from topolandscape.landscape.weights import MAKING, Weights
from topolandscape.landscape.wide import first_names, is_plain, share_right

# Entries of weights times positions that they meet, beyond which the tables of a convolution are too long.
_MOST_MEETINGS = 2**22

_Block = tuple[Layers, np.ndarray, dense.Targets]
# What blocks of data may take that are kept as the compiled loops take them.
_KEPT_BYTES = 2**26


class Dense:
    """One vector after the other, without a return to Python.

    Parameters
    ----------
    model
        The module and its varying parameters.
    loss
        The user's loss.

    Raises
    ------
    NotWide
        The module is not fully connected, some of its parameters are fixed, or the loss is another one.

    Examples
    --------
    >>> module = nn.Linear(2, 1)
    >>> from topolandscape.landscape.pure import Block
    >>> blocks = (Block("weight", slice(0, 2), (1, 2)), Block("bias", slice(2, 3), (1,)))
    >>> form = Dense(Model(module, blocks, frozenset()), F.mse_loss)
    >>> form.values(torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 3.0]]), (torch.zeros(3, 2), torch.ones(3, 1)))
    tensor([1., 4.], dtype=torch.float64)
    """

    name = "dense"

    def __init__(self, model: Model, loss: Loss) -> None:
        self._of_classes = is_plain(loss, F.cross_entropy, nn.CrossEntropyLoss)
        if not self._of_classes and not is_plain(loss, F.mse_loss, nn.MSELoss):
            raise NotWide("a loss that is not compiled")
        self._steps, self._weights = _steps(model)
        self._layers: dict[torch.Size, Layers] = {}
        self._blocks: dict[Any, tuple[Any, _Block]] = {}

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return self._summed(self._weights.of(vectors), data)[0]

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        return self._weights.slopes(vectors, lambda weights: self._summed(weights, data, sloped=True)[:2])

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at each of `vectors` (c, p), or at one (p,), times the same row of `directions` (c, p)."""
        return self._weights.curved(
            vectors,
            directions,
            lambda weights: self._summed(weights, data, sloped=True)[:2],
            lambda weights, along: self._curved(weights, along, data),
        )

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the shares of rows classified correctly (c,) at `vectors` (c, p)."""
        values, _, outputs = self._summed(self._weights.of(vectors), data, kept=True)
        return values, share_right(outputs, data[1], data[2] if len(data) == 3 else None)

    def _summed(
        self, weights: Tensor, data: Any, *, sloped: bool = False, kept: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the values (c,), where `sloped` the gradients (c, q), and where `kept` the outputs (c, out, rows)."""
        network, lines, targets = self._read(weights, data)
        count = len(weights)
        values = torch.empty(count, dtype=torch.float64)
        gradients = weights.new_empty(weights.shape if sloped else (count, 0))
        shape = (count, int(network.table["outer"][-1]), len(targets.shares)) if kept else (0, 0, 0)
        outputs = weights.new_empty(shape)
        dense.sum_losses(as_array(weights), network, lines, targets, values.numpy(), gradients.numpy(), outputs.numpy())
        return values, gradients, outputs

    def _curved(self, weights: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian in the weights at each of them, (c, q) or (q,), times the same row of `directions`."""
        network, lines, targets = self._read(weights, data)
        products = torch.empty_like(directions, memory_format=torch.contiguous_format)
        at = as_array(weights.expand_as(directions))
        dense.sum_products(at, as_array(directions), network, lines, targets, products.numpy())
        return products

    def _read(self, vectors: Tensor, data: Any) -> _Block:
        """Return the layers and a block of data as the compiled loops take them; the last blocks are kept so."""
        parts = [part for part in data if part is not None]
        if any(not isinstance(part, Tensor) or part.is_inference() for part in parts):
            return self._made(vectors, data)
        places = ((part.data_ptr(), part._version, part.dtype, part.shape, part.stride()) for part in parts)
        key = (vectors.dtype, *places)
        found = self._blocks.get(key)
        if found is None:
            # With the tensors beside it no others can come to lie in their place.
            found = self._blocks[key] = (data, self._made(vectors, data))
            if sum(block[1].nbytes for _, block in list(self._blocks.values())) > _KEPT_BYTES:
                self._blocks = {}
        return found[1]

    def _made(self, vectors: Tensor, data: Any) -> _Block:
        inputs, targets, weights = data if len(data) == 3 else (*data, None)
        rows = len(targets)
        if (
            not isinstance(inputs, Tensor)
            or inputs.shape[:1] != (rows,)
            or inputs.dtype != vectors.dtype
            or not is_compiled(vectors)
        ):
            raise NotImplementedError("inputs that are not numbers of each row")
        shape = inputs.shape[1:]
        if shape not in self._layers:
            self._layers[shape] = _layers(self._steps, shape)
        network = self._layers[shape]
        outputs = int(network.table["outer"][-1])
        shares = shares_of(rows, weights, inputs.device)
        classes, numbers = np.empty(0, np.int64), np.empty((0, 0), as_array(inputs[:0]).dtype)
        if self._of_classes:
            if targets.shape != (rows,) or targets.dtype != torch.int64:
                raise NotImplementedError("targets that are not one class a row")
            low, high = (int(bound) for bound in targets.aminmax())
            if low < 0 or high >= outputs:
                raise NotImplementedError("targets that are no classes")
            classes = as_array(targets)
        else:
            if targets.shape != (rows, outputs):
                raise NotImplementedError("targets that are not as many numbers as outputs")
            numbers = as_array(targets.T.to(inputs.dtype))
            shares = shares / outputs
        lines = dense.lines_of(inputs.reshape(rows, int(network.table["inner"][0]), int(network.table["before"][0])))
        return network, lines, dense.Targets(classes, numbers, as_array(shares))


# --------------------------------------------------------------------------------------------------------------
# From a module to layers
# --------------------------------------------------------------------------------------------------------------


class _Units(NamedTuple):
    """What is known of the units on their way.

    Attributes
    ----------
    shape
        Torch's, without the rows.
    channels, positions
        Those of the last layer, flattened or not.
    layers
        So far.
    """

    shape: tuple[int, ...]
    channels: int = 0
    positions: tuple[int, ...] = ()
    layers: tuple[Layer, ...] = ()

    def after(self, layer: Layer, positions: tuple[int, ...], shape: tuple[int, ...] | None = None) -> _Units:
        """Return the units of a layer that follows."""
        return _Units(
            (layer.channels, *positions) if shape is None else shape, layer.channels, positions, (*self.layers, layer)
        )


_Rule = Callable[..., _Units]


def _linear(before: _Units, weight: Block, bias: Block | None = None) -> _Units:
    """Take all positions, as a convolution does whose kernel is as large as they are."""
    if len(before.shape) != 1 or len(weight.shape) != 2 or weight.shape[1] != before.shape[0]:
        raise NotWide("a linear layer that does not fit")
    positions = before.positions or (1,)
    ones, zeros = (1,) * len(positions), (0,) * len(positions)
    places = Geometry(positions, positions, ones, zeros, ones)
    layer = Layer(PRODUCT, weight.shape[0], places, weight.entries.start, _start(bias))
    return before.after(layer, ones, (layer.channels,))


def _convolution(dimensions: int) -> _Rule:
    def rule(
        before: _Units,
        weight: Block,
        bias: Block | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> _Units:
        positions = _positions(before, dimensions)
        kernel = weight.shape[2:]
        if len(kernel) != dimensions or weight.shape[1] != before.shape[0]:
            raise NotWide("a convolution in groups, or that does not fit")
        steps, gaps = (layers.for_each(value, dimensions) for value in (stride, dilation))
        around, behind = layers.padding_of(padding, kernel, gaps)
        if any(behind):
            raise NotWide("padding on one side")
        places = Geometry(positions, kernel, steps, around, gaps)
        if min(places.outputs) < 1 or math.prod(places.outputs) * math.prod(weight.shape[1:]) > _MOST_MEETINGS:
            raise NotWide("a convolution of too few or too many positions")
        return before.after(Layer(PRODUCT, weight.shape[0], places, weight.entries.start, _start(bias)), places.outputs)

    return rule


def _average_pool(dimensions: int) -> _Rule:
    def rule(before: _Units, *arguments: Any, **options: Any) -> _Units:
        return _pooled(before, MEAN, layers.average_windows(_positions(before, dimensions), *arguments, **options))

    return rule


def _maximum_pool(dimensions: int) -> _Rule:
    def rule(
        before: _Units,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> _Units:
        if return_indices:
            raise NotWide("pooling that gives indices")
        positions = _positions(before, dimensions)
        windows = layers.moved_windows(positions, kernel_size, stride, padding, dilation, ceil=ceil_mode)
        return _pooled(before, LARGEST, windows)

    return rule


def _adaptive_pool(kind: int, dimensions: int) -> _Rule:
    def rule(before: _Units, output_size: Any, return_indices: bool = False) -> _Units:
        if return_indices:
            raise NotWide("pooling that gives indices")
        return _pooled(before, kind, layers.parted_windows(_positions(before, dimensions), output_size))

    return rule


def _mean(before: _Units, dim: Any = None, keepdim: bool = False) -> _Units:
    """Take the mean over all positions."""
    positions = _positions(before, len(before.shape) - 1)
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    if sorted(at % (len(positions) + 2) for at in dims) != list(range(2, len(positions) + 2)):
        raise NotWide("a mean that is not over all positions")
    after = _pooled(before, MEAN, layers.parted_windows(positions, 1))
    return after if keepdim else after._replace(shape=(after.channels,))


def _activation(kind: int) -> _Rule:
    def rule(before: _Units, inplace: bool = False) -> _Units:
        if not before.layers or before.layers[-1].activation:
            raise NotWide("an activation that does not follow a layer")
        if before.layers[-1].kind == LARGEST and ACTIVATIONS[kind] != "relu":
            # On the way back the largest entry is known by being equal, as what a rectifier lets pass still is.
            raise NotWide("another activation of largest entries than a rectifier")
        return before._replace(layers=(*before.layers[:-1], before.layers[-1]._replace(activation=kind)))

    return rule


def _reshape(target: Any) -> _Rule:
    def rule(before: _Units, *arguments: Any, **options: Any) -> _Units:
        empty = torch.empty(_ROWS, *before.shape, device="meta")
        function = getattr(torch.Tensor, target) if isinstance(target, str) else target
        rows, *shape = function(empty, *arguments, **options).shape
        if rows != _ROWS or (before.layers and tuple(shape) != (math.prod(before.shape),)):
            raise NotWide("a shape that is not that of the inputs or flat")
        return before._replace(shape=tuple(shape))

    return rule


# So many rows are no size of anything else.
_ROWS = 2**31 - 1


def _positions(before: _Units, dimensions: int) -> tuple[int, ...]:
    """Return the positions of units in so many dimensions."""
    if len(before.shape) != dimensions + 1 or dimensions == 0:
        raise NotWide(f"{dimensions} dimensions of units of {len(before.shape) - 1}")
    return before.shape[1:]


def _pooled(before: _Units, kind: int, windows: Windows) -> _Units:
    if not before.layers:
        raise NotWide("pooling that does not follow a layer")
    return before.after(Layer(kind, before.channels, windows), windows.shape)


def _start(block: Block | None) -> int:
    return -1 if block is None else block.entries.start


_OF_DIMENSIONS: dict[str, Callable[[int], _Rule]] = {
    "conv{}d": _convolution,
    "avg_pool{}d": _average_pool,
    "max_pool{}d": _maximum_pool,
    "adaptive_avg_pool{}d": lambda dimensions: _adaptive_pool(MEAN, dimensions),
    "adaptive_max_pool{}d": lambda dimensions: _adaptive_pool(LARGEST, dimensions),
}
_RULES: dict[Any, _Rule] = {
    F.linear: _linear,
    **dict.fromkeys(spellings("mean"), _mean),
    **{
        target: _activation(row)
        for row, name in enumerate(ACTIVATIONS)
        if row
        for target in (*spellings(name), *spellings(f"{name}_"))
    },
    **{
        target: rule(dimensions)
        for name, rule in _OF_DIMENSIONS.items()
        for dimensions in (1, 2, 3)
        for target in spellings(name.format(dimensions))
    },
    **{target: _reshape(target) for name in ("flatten", "unflatten", "view", "reshape") for target in spellings(name)},
}


_Step = tuple[_Rule, tuple[Any, ...], dict[str, Any]]


def _steps(model: Model) -> tuple[list[_Step], Weights]:
    """Return what a module does to its inputs, rules and their arguments, and the weights that these take."""
    first = first_names(model.module)
    named = {block.name: block for block in model.blocks}
    blocks: dict[fx.Node, Block] = {}
    constants: dict[fx.Node, Tensor] = {}
    sizes: dict[fx.Node, int] = {}
    made: list[fx.Node] = []
    taken: list[fx.Node] = []
    before: fx.Node | None = None
    traced = program(model.module, {*_RULES, *MAKING, "size"}, (), linear=True)
    for step in traced.steps:
        node = step.node
        if node.op == "get_attr":
            name = first.get(parameter_name(node.target))
            if name is None:
                constants[node] = traced.constants[str(node.target)]
            elif name in named:
                blocks[node] = named[name]
            else:
                raise NotWide("a parameter that does not vary")
        elif node.op == "placeholder":
            before = node
        elif node.op == "output":
            if node.args != (before,):
                raise NotWide("outputs that are not those of the last layer")
        elif node.target == "size" and node.args[1:] == (0,):
            sizes[node] = _ROWS
        elif node.target in MAKING and all(
            other in blocks or other in constants or other in made for other in node.all_input_nodes
        ):
            made.append(node)
        elif node.target not in _RULES or not node.args or node.args[0] is not before:
            raise NotWide("a branch")
        else:
            taken.append(node)
            before = node
    others = [[other for other in node.all_input_nodes if other is not node.args[0]] for node in taken]
    weights = Weights(blocks, constants, made, [other for rest in others for other in rest if other not in sizes])
    known: dict[Any, Any] = {**weights.blocks, **sizes}
    if any(other not in known for rest in others for other in rest):
        raise NotWide("a branch")
    return [
        (_RULES[node.target], *fx.map_arg((node.args[1:], node.kwargs), known.__getitem__)) for node in taken
    ], weights


def _layers(steps: list[_Step], shape: tuple[int, ...]) -> Layers:
    """Return the layers for inputs of a shape."""
    units = _Units(tuple(shape))
    for rule, arguments, options in steps:
        units = rule(units, *arguments, **options)
    if not units.layers or len(units.shape) != 1 or math.prod(units.positions) != 1:
        raise NotWide("outputs that are not those of a layer")
    places = units.layers[0].places
    assert isinstance(places, Geometry)  # windows do not come first
    positions = math.prod(places.positions)
    return layers_of(math.prod(shape) // positions, positions, units.layers)
