"""Weights that a module makes of its parameters before its inputs come: those of a layer with its batch norm, say.

They are entries of one flat vector, as the parameters are, and a smooth function of them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.func import vmap

from topolandscape.landscape.pure import Block
from topolandscape.landscape.stacked import NotWide

# By which weights may be made of parameters and constants, each entry by entry.
MAKING = frozenset({torch.rsqrt, operator.add, operator.sub, operator.mul, operator.neg, "reshape"})


class Weights:
    """The weights that layers take, of many parameter vectors at once.

    Parameters
    ----------
    blocks
        The varying parameters, by their nodes.
    constants
        Tensors, by their nodes.
    steps
        The nodes by which weights are made, in their order.
    wanted
        The nodes of the weights.

    Raises
    ------
    NotWide
        Weights are made in another way than by `MAKING`, or their parts do not fit each other.

    Attributes
    ----------
    blocks
        The entries of each weight in the vector of them.

    Examples
    --------
    >>> graph = fx.Graph()
    >>> scale, variance = graph.get_attr("scale"), graph.get_attr("variance")
    >>> product = graph.call_function(operator.mul, (scale, variance))
    >>> scales = {scale: Block("scale", slice(0, 2), (2,))}
    >>> weights = Weights(scales, {variance: torch.tensor([1.0, 4.0])}, [product], [product])
    >>> weights.of(torch.tensor([[1.0, 1.0], [2.0, 3.0]]))
    tensor([[ 1.,  4.],
            [ 2., 12.]])
    """

    def __init__(
        self,
        blocks: Mapping[fx.Node, Block],
        constants: Mapping[fx.Node, Tensor],
        steps: Sequence[fx.Node],
        wanted: Sequence[fx.Node],
    ) -> None:
        self._parameters, self._constants, self._steps = dict(blocks), dict(constants), tuple(steps)
        self._wanted = tuple(dict.fromkeys(wanted))
        self.blocks = {node: blocks[node] for node in self._wanted if node in blocks}
        self._plain = len(self.blocks) == len(self._wanted)
        if not self._plain:
            like = next(iter(constants.values()), torch.empty(0))
            try:
                found = self._made(like.new_zeros(max(block.entries.stop for block in blocks.values())))
            except RuntimeError:  # batch norm of another dimension than the features that a linear layer gives
                raise NotWide("weights that do not fit each other") from None
            start = 0
            for node in self._wanted:
                entries = slice(start, start + math.prod(found[node].shape))
                self.blocks[node], start = Block(str(node), entries, tuple(found[node].shape)), entries.stop

    def of(self, vectors: Tensor) -> Tensor:
        """Return the weights (c, q) of parameter vectors (c, p)."""
        return vectors if self._plain else vmap(self._flat)(vectors)

    def slopes(self, vectors: Tensor, of_weights: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and gradients (c, p) of a function of the weights at parameter vectors (c, p)."""
        if self._plain:
            return of_weights(vectors)
        leaf = vectors.detach().requires_grad_()
        made = self.of(leaf)
        values, slopes = of_weights(made.detach())
        return values, torch.autograd.grad(made, leaf, slopes)[0]

    def curved(
        self,
        vectors: Tensor,
        directions: Tensor,
        of_weights: Callable[[Tensor], tuple[Tensor, Tensor]],
        curved_of_weights: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return the Hessian at `vectors` (c, p), or at one (p,), times each of `directions` (c, p).

        With J the derivative of the weights and g and H those of the function of them, it is J^T H J plus the
        derivative of J^T g where g is held.

        Parameters
        ----------
        vectors, directions
            As said.
        of_weights, curved_of_weights
            Values and gradients of the function of the weights, and its Hessian at weights (c, q) or (q,) times
            directions (c, q).
        """
        if self._plain:
            return curved_of_weights(vectors, directions)
        rows = vectors.reshape(-1, vectors.shape[-1])
        slopes = of_weights(self.of(rows).detach())[1].expand(len(directions), -1)
        leaf, slopes = (part.detach().requires_grad_() for part in (vectors.expand_as(directions), slopes))
        made = self.of(leaf)
        (back,) = torch.autograd.grad(made, leaf, slopes, create_graph=True)
        bent, moved = torch.autograd.grad((back * directions).sum(), (leaf, slopes), retain_graph=True)
        at = made.detach() if vectors.ndim > 1 else made[0].detach()
        return torch.autograd.grad(made, leaf, curved_of_weights(at, moved))[0] + bent

    def _flat(self, vector: Tensor) -> Tensor:
        found = self._made(vector)
        return torch.cat([found[node].reshape(-1) for node in self._wanted])

    def _made(self, vector: Tensor) -> dict[Any, Any]:
        known: dict[Any, Any] = dict(self._constants)
        for node, block in self._parameters.items():
            known[node] = vector[block.entries].reshape(block.shape)
        for node in self._steps:
            if node.target not in MAKING or node.kwargs:
                raise NotWide(f"weights made by {getattr(node.target, '__name__', node.target)}")
            arguments: Any = fx.map_arg(node.args, known.__getitem__)
            function: Any = getattr(Tensor, node.target) if isinstance(node.target, str) else node.target
            known[node] = function(*arguments)
        return known
