"""Paths to begin with: over the constant predictor."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import fx, nn
from torch.nn import functional as F

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.passes import refined, straight_paths
from topolandscape.structures import Floats

# Behind the last layer these leave a loss convex that was: shapes, and what cross-entropy is made of.
_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.LogSoftmax)
_FUNCTIONS = {"flatten", "view", "reshape", "squeeze", "unsqueeze", "log_softmax"}
_INSTEAD = "Begin with straight_paths or bent_paths."


def paths_over_constant(landscape: Landscape) -> Callable[..., Floats]:
    """Return what makes paths that lead over networks whose prediction is the same for all rows.

    Parameters
    ----------
    landscape
        Of a whole module whose last layer is linear.

    Returns
    -------
    callable
        Of starts (b, p), ends (b, p) and optionally k, the number of points, 4 or more: paths (b, k, p), as
        `straight_paths` gives them. From the start the weights of the last layer shrink to zero, while its bias, if
        there is one that varies, moves to the best constant; then all other parameters go to those of the end; then
        the last layer does.

    Raises
    ------
    ValueError
        The last layer is not found, or not linear, or its weights are fixed.

    Notes
    -----
    Where the loss is convex in what the last layer gives, such a path is highest at one of its four corners: on the
    outer parts only the last layer moves, and the loss is convex along it; on the middle part the prediction stands
    still, and weight decay is convex. Without weight decay both inner corners have the loss of the best constant
    (`topolandscape.compare.constant_predictor_ceiling`), so that the path is a witness that no bar dies above it.

    The best constant is found once, by a few dozen gradients (BFGS; Broyden, Fletcher, Goldfarb and Shanno 1970).

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1))
    >>> inputs, targets = torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0], [5.0]])
    >>> landscape = Landscape.from_module(module, inputs, targets, loss=F.mse_loss)
    >>> path = paths_over_constant(landscape)(np.ones((1, 7)), np.full((1, 7), 2.0), 4)[0]
    >>> path.round(4).tolist()[1:3]
    [[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 3.0], [2.0, 2.0, 2.0, 2.0, 0.0, 0.0, 3.0]]
    """
    layer = last_layer(landscape)
    constant = _best_constant(landscape, layer)

    def over_constant(starts: ArrayLike, ends: ArrayLike, k: int = 9) -> Floats:
        """Return k points on paths that lead over the constant predictor, the corners among them."""
        if k < 4:
            raise ValueError(f"k is {k}; a path over the constant predictor needs 4 points or more.")
        corners = straight_paths(starts, ends, 3)[:, [0, 0, 2, 2]]
        corners[:, 1:3, layer.weight] = 0.0
        if layer.bias is not None:
            corners[:, 1:3, layer.bias] = constant
        return refined(corners, k)

    return over_constant


class LastLayer(NamedTuple):
    """Where the parameters of the last layer stand in a flat vector.

    Attributes
    ----------
    weight
        Its weights.
    bias
        Its bias; None where there is none, or a fixed one.
    """

    weight: slice
    bias: slice | None


def last_layer(landscape: Landscape) -> LastLayer:
    """Return where the parameters of the last layer of a landscape's module stand; raise if it is not linear."""
    if landscape.point is None:
        raise ValueError(
            "this landscape is of a function or of a few directions, which have no last layer; give the landscape of "
            "a whole module, made with Landscape.from_module()."
        )
    module = landscape.module_at(landscape.point)
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise ValueError(
            f"the module cannot be traced, so that its last layer is not known: {reason}. {_INSTEAD}"
        ) from None
    last = next(node for node in graph.nodes if node.op == "output").args[0]
    while isinstance(last, fx.Node) and _is_passed_through(module, last):
        last = last.args[0]
    weight, bias = _linear(module, last)
    if weight is None:
        raise ValueError(
            f"the last step of the module is {_described(module, last)}; the way over the constant predictor needs a "
            f"last layer that is linear. {_INSTEAD}"
        )
    for parameter in (weight, bias):
        uses = sum(any(part is parameter for part in _read_by(module, node)) for node in graph.nodes)
        if parameter is not None and uses > 1:
            raise ValueError(f"the parameters of the last layer are used {uses} times; they need to be its own.")
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    entries = {block.name: block.entries for block in landscape.blocks}
    if names.get(id(weight)) not in entries:
        raise ValueError(f"the weights of the last layer do not vary; let them, or begin elsewhere. {_INSTEAD}")
    return LastLayer(entries[names[id(weight)]], None if bias is None else entries.get(names[id(bias)]))


def _is_passed_through(module: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        return type(layer) in _MODULES or (isinstance(layer, nn.modules.dropout._DropoutNd) and not layer.training)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and name in _FUNCTIONS


def _linear(module: nn.Module, node: Any) -> tuple[Any, Any]:
    """Return the weight and the bias of a linear layer, None for what is not there."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        return (layer.weight, layer.bias) if type(layer) is nn.Linear else (None, None)
    if isinstance(node, fx.Node) and node.target is F.linear:
        given: dict[str, Any] = {**dict(zip(("input", "weight", "bias"), node.args, strict=False)), **node.kwargs}
        parts = [given["weight"], given.get("bias")]
        if all(part is None or (isinstance(part, fx.Node) and part.op == "get_attr") for part in parts):
            weight, bias = (part and operator.attrgetter(str(part.target))(module) for part in parts)
            return weight, bias
    return None, None


def _read_by(module: nn.Module, node: fx.Node) -> Iterator[Any]:
    """Give the parameters that a step reads."""
    if node.op == "call_module":
        yield from module.get_submodule(str(node.target)).parameters()
    if node.op == "get_attr":
        yield operator.attrgetter(str(node.target))(module)


def _described(module: nn.Module, node: Any) -> str:
    if not isinstance(node, fx.Node):
        return f"a {type(node).__name__}"
    if node.op == "call_module":
        return f"{node.target} ({type(module.get_submodule(str(node.target))).__name__})"
    return str(getattr(node.target, "__name__", node.target))


def _best_constant(landscape: Landscape, layer: LastLayer) -> Floats:
    """Return the bias of the last layer that is best where its weights are zero."""
    from scipy.optimize import minimize

    if layer.bias is None:
        return np.empty(0)
    at = np.array(landscape.point)
    at[layer.weight] = 0.0

    def loss(constant: Floats) -> tuple[float, Floats]:
        at[layer.bias] = constant
        values, gradients = landscape.gradients(at[None], progress=False)
        return float(values[0]), gradients[0, layer.bias]

    return minimize(loss, np.zeros(len(at[layer.bias])), jac=True, method="BFGS", options={"gtol": 1e-7}).x
