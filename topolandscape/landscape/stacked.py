"""Tensors of c parameter vectors at once.

Where torch has (rows, *shape) for one vector, all c vectors together have (c, *shape, rows): torch's dimension d >= 1
is dimension d here, and the rows are last, so that products, biases and activations run along contiguous rows. What is
the same for all vectors has c = 1. A parameter has no rows: (c, *shape).

A rule does to such tensors what a function of torch does to the tensor of one vector. What would mix rows, or is not
known, raises `NotWide`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Rule = Callable[..., Any]


class NotWide(Exception):
    """The rewriting does not know this."""


@dataclass(frozen=True, eq=False)
class Stacked:
    """A tensor for each of c vectors: (c, *shape, rows), or (c, *shape) without rows; c = 1: the same for all.

    Examples
    --------
    >>> x = Stacked(torch.zeros(5, 3, 4, 100), rows=True)
    >>> x.shape, x.axis(1), x.axis(-1)
    (torch.Size([100, 3, 4]), 1, 2)
    """

    tensor: Tensor
    rows: bool

    @property
    def ndim(self) -> int:
        """Number of dimensions that torch has."""
        return self.tensor.ndim - 1

    @property
    def shape(self) -> torch.Size:
        """Shape that torch has."""
        shape = self.tensor.shape
        return torch.Size((shape[-1], *shape[1:-1])) if self.rows else shape[1:]

    def axis(self, dim: int, more: int = 0) -> int:
        """Return the dimension here of torch's, when there are `more` than now; raise for that of the rows."""
        if isinstance(dim, bool) or not isinstance(dim, int):
            raise NotWide(f"a dimension {dim!r}")
        ndim = self.ndim + more
        if not -ndim <= dim < ndim:
            raise NotWide(f"dimension {dim} of a tensor of {ndim} dimensions")
        if not self.rows:
            return dim % ndim + 1
        if dim % ndim == 0:
            raise NotWide("an operation over the rows")
        return dim % ndim

    def axes(self, dims: Any) -> Any:
        """Return the dimensions here of torch's, one or several; None stands for all."""
        if isinstance(dims, int):
            return self.axis(dims)
        if not dims and not self.ndim:
            raise NotWide("a reduction of a single number")
        return [self.axis(dim) for dim in (dims or range(self.ndim))]

    def but(self, tensor: Tensor) -> Stacked:
        """Return another tensor that has rows where this has them."""
        return Stacked(tensor, self.rows)

    def fitted(self, ndim: int, rows: int | None) -> Tensor:
        """Return the tensor as it meets others of `ndim` dimensions, which have rows or none; torch aligns the last."""
        missing = ndim - self.ndim
        if self.rows:
            if missing:
                raise NotWide("the rows meet another dimension")
            return self.tensor
        if rows is None:
            return self.tensor[(slice(None), *[None] * missing)]
        if missing:
            return self.tensor[(slice(None), *[None] * (missing - 1), ..., None)]
        return self.tensor.movedim(1, -1)


def fit(values: Iterable[Any]) -> tuple[list[Any], bool]:
    """Return tensors that broadcast against each other as torch's would, other values as they are; and if with rows."""
    values = list(values)
    stacked = [x for x in values if isinstance(x, Stacked)]
    ndim = max(x.ndim for x in stacked)
    rows = next((x.tensor.shape[-1] for x in stacked if x.rows), None)
    return [x.fitted(ndim, rows) if isinstance(x, Stacked) else x for x in values], rows is not None
