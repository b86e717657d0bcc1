"""Forms: how a chunk of parameter vectors goes through a function at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

from topolandscape.structures import Floats

Function = Callable[[Tensor, Any], Tensor]
Scored = Callable[[Tensor, Any], tuple[Tensor, Tensor]]


class Form(Protocol):
    """One way of evaluating a function of a flat vector at a chunk of them."""

    name: str

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at each of `vectors` (c, p) times the same row of `directions` (c, p)."""

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the shares of rows classified correctly (c,) at `vectors` (c, p)."""


class Vmapped:
    """All vectors of a chunk in one call, by ``torch.func.vmap``.

    Parameters
    ----------
    function
        Maps a vector (p,) and a block of data to a scalar.
    scored
        Maps them to the same scalar and the share of rows classified correctly.
    """

    name = "vmap"

    def __init__(self, function: Function, scored: Scored | None = None) -> None:
        self._function = function
        self._scored = scored

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return vmap(lambda vector: self._function(vector, data))(vectors)

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        gradients, values = vmap(grad_and_value(lambda vector: self._function(vector, data)))(vectors)
        return values, gradients

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vectors` (c, p) times `directions` (c, p), by reverse over reverse mode."""
        gradient = grad(lambda at: self._function(at, data))
        return vmap(lambda vector, direction: grad(lambda at: (gradient(at) * direction).sum())(vector))(
            vectors, directions
        )

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the shares of rows classified correctly (c,) at `vectors` (c, p)."""
        scored = _known(self._scored)
        return vmap(lambda vector: scored(vector, data))(vectors)


class Looped:
    """One vector after the other: for functions that vmap cannot do (control flow that depends on the data).

    Parameters
    ----------
    function
        Maps a vector (p,) and a block of data to a scalar.
    scored
        Maps them to the same scalar and the share of rows classified correctly.
    """

    name = "loop"

    def __init__(self, function: Function, scored: Scored | None = None) -> None:
        self._function = function
        self._scored = scored

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return torch.stack([self._function(vector, data).detach() for vector in vectors])

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        values, gradients = [], []
        for vector in vectors:
            leaf = vector.detach().clone().requires_grad_()
            value = self._function(leaf, data)
            values.append(value.detach())
            gradients.append(derivative(value, leaf))
        return torch.stack(values), torch.stack(gradients)

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vectors` (c, p) times `directions` (c, p)."""
        products = []
        for vector, direction in zip(vectors, directions, strict=True):
            leaf = vector.detach().clone().requires_grad_()
            gradient = derivative(self._function(leaf, data), leaf, create_graph=True)
            products.append(derivative((gradient * direction).sum(), leaf))
        return torch.stack(products)

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the shares of rows classified correctly (c,) at `vectors` (c, p)."""
        scored = _known(self._scored)
        values, right = zip(*(scored(vector, data) for vector in vectors), strict=True)
        return torch.stack(values).detach(), torch.stack(right)


class Rows:
    """A torch function that takes many vectors, (c, p) -> (c,), each row for itself; derivatives by autograd.

    Parameters
    ----------
    function
        Maps vectors (c, p) to values (c,).
    """

    name = "rows"

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return self._function(vectors).detach()

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        leaf = vectors.detach().clone().requires_grad_()
        values = self._function(leaf)
        return values.detach(), derivative(values.sum(), leaf)

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vectors` (c, p) times `directions` (c, p)."""
        leaf = vectors.detach().clone().requires_grad_()
        gradient = derivative(self._function(leaf).sum(), leaf, create_graph=True)
        return derivative((gradient * directions).sum(), leaf)

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Raise: a function classifies nothing."""
        raise NotImplementedError


class NumpyRows:
    """A numpy function that takes many vectors, (c, p) -> (c,); derivatives by central differences.

    Parameters
    ----------
    function
        Maps vectors (c, p), float64, to values (c,).

    Notes
    -----
    Steps are eps^(1/3) for first and eps^(1/4) for second derivatives (Dennis and Schnabel 1983, section 5.4), times
    the size of the coordinate: gradients are good to about 1e-10, Hessian products to about 1e-7, of the size of the
    function. 2 p evaluations a gradient, 4 p a Hessian product.
    """

    name = "numpy"

    def __init__(self, function: Callable[[Floats], Any]) -> None:
        self._function = function

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return torch.from_numpy(np.array(self._function(vectors.numpy().copy()), dtype=np.float64))

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        return self.values(vectors, data), self._differences(vectors, data, power=1 / 3)

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vectors` (c, p) times `directions` (c, p)."""
        length = directions.norm(dim=1, keepdim=True).clamp_min(1e-300)
        step = torch.finfo(torch.float64).eps ** (1 / 4) * vectors.abs().amax(dim=1, keepdim=True).clamp_min(1.0)
        ahead = self._differences(vectors + step * directions / length, data, power=1 / 4)
        behind = self._differences(vectors - step * directions / length, data, power=1 / 4)
        return (ahead - behind) / (2 * step) * length

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Raise: a function classifies nothing."""
        raise NotImplementedError

    def _differences(self, vectors: Tensor, data: Any, power: float) -> Tensor:
        steps = torch.finfo(torch.float64).eps ** power * vectors.abs().clamp_min(1.0)
        gradients = torch.empty_like(vectors)
        for i in range(vectors.shape[1]):
            ahead, behind = vectors.clone(), vectors.clone()
            ahead[:, i] += steps[:, i]
            behind[:, i] -= steps[:, i]
            # The step as rounded, not as meant: the difference that was really taken.
            gradients[:, i] = (self.values(ahead, data) - self.values(behind, data)) / (ahead[:, i] - behind[:, i])
        return gradients


def derivative(value: Tensor, leaf: Tensor, *, create_graph: bool = False, retain_graph: bool = False) -> Tensor:
    """Return the derivative of a scalar; zero where it does not depend on `leaf`."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    (derivative,) = torch.autograd.grad(
        value,
        leaf,
        create_graph=create_graph,
        retain_graph=create_graph or retain_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return derivative


def _known(scored: Scored | None) -> Scored:
    if scored is None:
        raise NotImplementedError
    return scored
