"""The dense form: fully connected networks, compiled from the inputs to the loss and back.

For modules that are nothing but linear layers, with activations whose derivative is known from their result in between,
under cross-entropy or the squared error, on the processor. All else raises `NotWide`, or at the data
`NotImplementedError`, and the engine takes another form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from topolandscape.landscape.kernels import dense
from topolandscape.landscape.kernels.losses import shares_of
from topolandscape.landscape.kernels.registers import as_array, is_compiled
from topolandscape.landscape.pure import Loss, Model
from topolandscape.landscape.stacked import NotWide, spellings
from topolandscape.landscape.tracing import parameter_name, program
from topolandscape.landscape.wide import first_names, is_plain, share_right

_LINEAR = F.linear
_FLATTEN = frozenset(spellings("flatten"))
_ACTIVATIONS: dict[Any, int] = {
    target: row for row, name in enumerate(dense.ACTIVATIONS) if row for target in spellings(name)
}


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
        self._layers, self._flattens = _layers(model)

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return self._summed(vectors, data)[0]

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        return self._summed(vectors, data, sloped=True)[:2]

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at each of `vectors` (c, p), or at one (p,), times the same row of `directions` (c, p)."""
        lines, targets = self._read(vectors, data)
        products = torch.empty_like(directions, memory_format=torch.contiguous_format)
        at = as_array(vectors.expand_as(directions))
        dense.sum_products(at, as_array(directions), self._layers, lines, targets, products.numpy())
        return products

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the shares of rows classified correctly (c,) at `vectors` (c, p)."""
        values, _, outputs = self._summed(vectors, data, kept=True)
        return values, share_right(outputs, data[1], data[2] if len(data) == 3 else None)

    def _summed(
        self, vectors: Tensor, data: Any, *, sloped: bool = False, kept: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the values (c,), where `sloped` the gradients (c, p), and where `kept` the outputs (c, out, rows)."""
        lines, targets = self._read(vectors, data)
        count = len(vectors)
        values = torch.empty(count, dtype=torch.float64)
        gradients = vectors.new_empty(vectors.shape if sloped else (count, 0))
        shape = (count, int(self._layers.widths[-1]), len(targets.shares)) if kept else (0, 0, 0)
        outputs = vectors.new_empty(shape)
        dense.sum_losses(
            as_array(vectors), self._layers, lines, targets, values.numpy(), gradients.numpy(), outputs.numpy()
        )
        return values, gradients, outputs

    def _read(self, vectors: Tensor, data: Any) -> tuple[np.ndarray, dense.Targets]:
        """Return a block of data as the compiled loops take it."""
        inputs, targets, weights = data if len(data) == 3 else (*data, None)
        rows, outputs = len(targets), int(self._layers.widths[-1])
        if self._flattens and isinstance(inputs, Tensor):
            inputs = inputs.flatten(1)
        if (
            not isinstance(inputs, Tensor)
            or inputs.shape != (rows, int(self._layers.widths[0]))
            or inputs.dtype != vectors.dtype
            or not is_compiled(vectors)
        ):
            raise NotImplementedError("inputs that are not one line a row")
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
        return dense.lines_of(inputs), dense.Targets(classes, numbers, as_array(shares))


def _layers(model: Model) -> tuple[dense.Layers, bool]:
    """Return the layers of a module, and whether it flattens its inputs first."""
    traced = program(model.module, {_LINEAR, *_ACTIVATIONS, *_FLATTEN}, ())
    first = first_names(model.module)
    blocks = {block.name: block for block in model.blocks}
    names: dict[Any, str] = {}
    before: fx.Node | None = None
    widths: list[int] = []
    weights: list[int] = []
    biases: list[int] = []
    activations: list[int] = []
    flattens = False
    for step in traced.steps:
        node = step.node
        if node.op == "get_attr":
            names[node] = first.get(parameter_name(node.target), "")
            if names[node] not in blocks:
                raise NotWide("a parameter that does not vary")
            continue
        if node.op == "placeholder":
            before = node
            continue
        if node.op == "output":
            if node.args != (before,) or not weights:
                raise NotWide("outputs that are not those of the last layer")
            break
        if not node.args or node.args[0] is not before:
            raise NotWide("a branch")
        if node.target in _FLATTEN:
            given = {"start_dim": 0, "end_dim": -1, **dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False))}
            if weights or flattens or given | dict(node.kwargs) != {"start_dim": 1, "end_dim": -1}:
                raise NotWide("something flattened that is not the inputs")
            flattens = True
        elif node.target is _LINEAR:
            given = dict(zip(("weight", "bias"), node.args[1:], strict=False)) | dict(node.kwargs)
            weight = blocks[names[given["weight"]]]
            bias = given.get("bias")
            widths = widths or [weight.shape[1]]
            if widths[-1] != weight.shape[1]:
                raise NotWide("layers that do not fit")
            widths.append(weight.shape[0])
            weights.append(weight.entries.start)
            biases.append(-1 if bias is None else blocks[names[bias]].entries.start)
            activations.append(0)
        else:
            if not weights or activations[-1] or node.kwargs.get("inplace"):
                raise NotWide("an activation that does not follow a layer")
            activations[-1] = _ACTIVATIONS[node.target]
        before = node
    return dense.Layers(*(np.array(column, np.int64) for column in (widths, weights, biases, activations))), flattens
