"""The wide form: a network rewritten so that its layers act on all parameter vectors of a chunk at once.

The module is traced once (`topolandscape.landscape.tracing`), down to torch's functions. Each is then evaluated for c
vectors together by its rule (`topolandscape.landscape.layers`): a first layer, whose inputs are the same for all
vectors, as one plain matrix product with the weights of all vectors on top of each other, the others as batched
products. Where torch has (rows, *shape) there is (c, *shape, rows). What the rewriting does not know raises `NotWide`,
and the engine takes another form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from topolandscape.landscape import kernels, pooling
from topolandscape.landscape.data import map_tensors
from topolandscape.landscape.forms import Function, derivative
from topolandscape.landscape.functions import spellings
from topolandscape.landscape.layers import RULES
from topolandscape.landscape.pure import Loss, Model
from topolandscape.landscape.stacked import NotWide, Stacked
from topolandscape.landscape.tracing import parameter_name, program

WideLoss = Callable[[Tensor, Any, Tensor | None], Tensor]

# Activations whose derivative is known from their result, so that this may take the memory of their argument.
_OVERWRITING: dict[Any, Callable[[Tensor], Tensor]] = {
    target: function
    for name, function in (("relu", torch.relu_), ("tanh", torch.tanh_), ("sigmoid", torch.sigmoid_))
    for target in (*spellings(name), *spellings(f"{name}_"))
}


class Wide:
    """All vectors of a chunk at once, layer by layer.

    Parameters
    ----------
    model
        The module and its varying parameters.
    loss
        The user's loss. Cross-entropy and squared error are computed on the wide layout.
    score
        The mean loss of outputs and targets, and weights where there are any, by which other losses are computed, with
        vmap.
    function
        The loss of one vector.

    Raises
    ------
    NotWide
        The module cannot be traced, or calls something for which there is no rule. What depends on shapes is found out
        by the first evaluation.

    Examples
    --------
    >>> module = nn.Linear(2, 1)
    >>> from topolandscape.landscape.pure import Block
    >>> blocks = (Block("weight", slice(0, 2), (1, 2)), Block("bias", slice(2, 3), (1,)))
    >>> wide = Wide(Model(module, blocks, frozenset()), F.mse_loss, F.mse_loss, None)
    >>> wide.values(torch.tensor([[0.0, 0.0, 0.0], [5.0, 5.0, 3.0]]), (torch.zeros(3, 2), torch.ones(3, 1)))
    tensor([1., 4.], dtype=torch.float64)
    """

    name = "wide"

    def __init__(
        self,
        model: Model,
        loss: Loss,
        score: Callable[..., Tensor],
        function: Function | None,
        *,
        additive: bool = True,
    ) -> None:
        traced = program(model.module, RULES, _OVERWRITING)
        self._steps = traced.steps
        self._loss = _wide_loss(loss, score)
        self._shapes = {block.name: block.shape for block in model.blocks}
        self._sizes = [block.entries.stop - block.entries.start for block in model.blocks]
        first = first_names(model.module)
        self._fixed: dict[str, Stacked] = {}
        self._varying: dict[str, str] = {}
        for step in traced.steps:
            if step.node.op != "get_attr":
                continue
            target = str(step.node.target)
            name = first.get(parameter_name(target))
            if name in self._shapes:
                self._varying[target] = name
            else:
                constant = traced.constants[target] if name is None else model.module.get_parameter(name).detach()
                self._fixed[target] = Stacked(constant[None], rows=False)

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        with torch.no_grad():
            return self._evaluate(vectors, data)

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        leaf = vectors.detach().requires_grad_()
        values = self._evaluate(leaf, data)
        return values.detach(), derivative(values.sum(), leaf)

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at each of `vectors` (c, p), or at one (p,), times the same row of `directions` (c, p)."""
        leaf = vectors.detach().expand_as(directions).requires_grad_()
        gradient = derivative(self._evaluate(leaf, data).sum(), leaf, create_graph=True)
        return derivative((gradient * directions).sum(), leaf)

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the shares of rows classified correctly (c,) at `vectors` (c, p)."""
        inputs, targets, weights = data if len(data) == 3 else (*data, None)
        with torch.no_grad():
            outputs = self._outputs(vectors, inputs)
            return self._loss(outputs, targets, weights), share_right(outputs, targets, weights)

    def _evaluate(self, vectors: Tensor, data: Any) -> Tensor:
        inputs, targets, weights = data if len(data) == 3 else (*data, None)
        return self._loss(self._outputs(vectors, inputs), targets, weights)

    def _outputs(self, vectors: Tensor, inputs: Any) -> Tensor:
        """Return the outputs (c, *shape, rows)."""
        # Parts of one split: their gradients are put together once, not added up as whole vectors.
        parts = dict(zip(self._shapes, torch.split(vectors, self._sizes, 1), strict=True))
        known: dict[fx.Node, Any] = {}

        for step in self._steps:
            node = step.node
            if node.op == "placeholder":
                known[node] = map_tensors(inputs, _shared)
            elif node.op == "get_attr":
                name = self._varying.get(str(node.target))
                if name is None:
                    known[node] = self._fixed[str(node.target)]
                else:
                    known[node] = Stacked(parts[name].view(len(vectors), *self._shapes[name]), rows=False)
            elif node.op == "output":
                outputs = fx.map_arg(node.args[0], lambda n: known[n])
                if not isinstance(outputs, Stacked) or not outputs.rows:
                    raise NotWide("the outputs are not one tensor, or do not depend on the inputs")
                return outputs.tensor.expand(len(vectors), *outputs.tensor.shape[1:])
            else:
                arguments = fx.map_arg(node.args, lambda n: known[n])
                options = fx.map_arg(node.kwargs, lambda n: known[n])
                known[node] = _result(node, arguments, options, overwrites=step.overwrites)
                if isinstance(known[node], Stacked):
                    known.update(dict.fromkeys(step.changed, known[node]))
            for other in step.last:
                del known[other]
        raise NotWide("the module returns nothing")


def first_names(module: nn.Module) -> dict[str, str]:
    """Return the first name of each parameter by all of its names."""
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    return {name: first[id(p)] for name, p in module.named_parameters(remove_duplicate=False)}


def _shared(tensor: Tensor) -> Any:
    """Return data (rows, *shape), which are the same for all vectors."""
    return Stacked(tensor.movedim(0, -1)[None], rows=True)


def _result(node: fx.Node, arguments: Any, options: Any, *, overwrites: bool) -> Any:
    """Return what a function or a method gives: by its rule, or as it is where no stacked tensor takes part."""
    if not _any_stacked((arguments, options)):
        if node.op == "call_method":
            return getattr(arguments[0], str(node.target))(*arguments[1:], **options)
        assert callable(node.target)
        result = node.target(*arguments, **options)
        return Stacked(result[None], rows=False) if isinstance(result, Tensor) else result
    if overwrites:
        (x,) = arguments
        # A change of a view costs autograd more than the memory that it saves.
        if not (x.tensor.requires_grad and x.tensor._is_view()):
            return x.but(_OVERWRITING[node.target](x.tensor))
    if node.target not in RULES:
        raise NotWide(f"the function {getattr(node.target, '__name__', node.target)} of tensors")
    return RULES[node.target](*arguments, **options)


def _any_stacked(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_any_stacked, value))
    if isinstance(value, dict):
        return any(map(_any_stacked, value.values()))
    return isinstance(value, Stacked)


# --------------------------------------------------------------------------------------------------------------
# Losses
# --------------------------------------------------------------------------------------------------------------


def _wide_loss(loss: Loss, score: Callable[..., Tensor]) -> WideLoss:
    """Return the mean loss (c,) in float64 of outputs (c, *shape, rows)."""

    def by_vector(outputs: Tensor, targets: Any, weights: Tensor | None) -> Tensor:
        more = () if weights is None else (weights,)
        return torch.func.vmap(lambda own: score(own, targets, *more))(outputs.movedim(-1, 1))

    def of_classes(outputs: Tensor, targets: Any, weights: Tensor | None) -> Tensor:
        if outputs.ndim != 3 or not isinstance(targets, Tensor) or targets.ndim != 1 or targets.is_floating_point():
            return by_vector(outputs, targets, weights)
        try:
            return kernels.cross_entropy(outputs, targets, weights)
        except NotImplementedError:  # rows that torch leaves out
            return by_vector(outputs, targets, weights)

    def of_numbers(outputs: Tensor, targets: Any, weights: Tensor | None) -> Tensor:
        if not isinstance(targets, Tensor) or targets.shape != (outputs.shape[-1], *outputs.shape[1:-1]):
            return by_vector(outputs, targets, weights)
        return kernels.squared_error(outputs, targets, weights)

    if is_plain(loss, F.cross_entropy, nn.CrossEntropyLoss):
        return of_classes
    return of_numbers if is_plain(loss, F.mse_loss, nn.MSELoss) else by_vector


def is_plain(loss: Any, function: Callable[..., Tensor], kind: Callable[[], nn.Module]) -> bool:
    """Return whether a loss is a function, or a module that calls it with its defaults, the mean being taken later."""
    if loss is function:
        return True
    if type(loss) is not kind:
        return False
    settings, usual = (
        {name: value for name, value in vars(module).items() if name != "training" and not name.startswith("_")}
        for module in (loss, kind())
    )
    if settings.get("reduction") == "none":
        settings["reduction"] = "mean"
    return settings == usual and next(iter(loss.buffers()), None) is None


def share_right(outputs: Tensor, targets: Any, weights: Tensor | None) -> Tensor:
    """Return the shares of rows (c,) whose largest output (c, classes, ..., rows) is that of the right class."""
    if not isinstance(targets, Tensor) or outputs.ndim < 3 or outputs.shape[1] < 2:
        raise ValueError("accuracy needs outputs of one score a class, (rows, classes); these are not.")
    if targets.shape == (outputs.shape[-1], *outputs.shape[1:-1]):
        targets = targets.argmax(1)
    elif targets.shape != (outputs.shape[-1], *outputs.shape[2:-1]) or targets.is_floating_point():
        raise ValueError("accuracy needs whole targets (rows,), one class a row; these are not.")
    right = (_winners(outputs) == targets.movedim(0, -1)).double()
    by_row = right.reshape(len(right), -1, right.shape[-1]).mean(1)
    return by_row.mean(1) if weights is None else by_row @ weights / weights.sum()


def _winners(outputs: Tensor) -> Tensor:
    """Return the class of the largest output, (c, ..., rows), much faster than torch does along this dimension."""
    if not pooling.is_compiled(outputs):
        return outputs.argmax(1)
    positions = tuple(outputs.shape[1:-1])
    ones = (1,) * len(positions)
    windows = pooling.moved(positions, (positions[0], *ones[1:]), ones, (0,) * len(positions), ones, ceil=False)
    return pooling.largest(outputs, windows)[1].squeeze(1) // math.prod(positions[1:])
