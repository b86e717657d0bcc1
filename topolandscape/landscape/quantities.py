"""Kinds of quantities at many points: what is asked for, and its sum over blocks of data by one form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from topolandscape.landscape.data import count_rows, leaves
from topolandscape.landscape.forms import Form
from topolandscape.landscape.machine import to_device
from topolandscape.structures import Floats, Subspace

Block = tuple[float, Any]
Blocks = Callable[[], Iterable[Block]]
Kind = Literal["values", "accuracies", "gradients", "products"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Request:
    """A kind of quantity, at which points (and along which directions), and where to add the results."""

    kind: Kind
    inputs: tuple[Floats, ...]
    outputs: tuple[Floats, ...]
    subspace: Subspace | None

    @property
    def rows(self) -> int:
        """Number of points."""
        return len(self.inputs[0])

    def repeated(self, n: int) -> Request:
        """Return a request for n of the same points, for a trial."""
        rows = np.arange(n) % self.rows
        outputs = tuple(np.zeros((n, *output.shape[1:])) for output in self.outputs)
        return replace(self, inputs=tuple(array[rows] for array in self.inputs), outputs=outputs)


class Lift:
    """The way from coordinates to parameter vectors and back, as tensors.

    Parameters
    ----------
    subspace
        Where the coordinates live; None: the whole space.
    dtype, device
        Of the vectors.
    """

    def __init__(self, subspace: Subspace | None, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._origin = None if subspace is None else self._tensor(subspace.origin)
        self._directions = None if subspace is None else self._tensor(subspace.directions)

    def _tensor(self, array: Floats) -> Tensor:
        return to_device(array, self._device)

    def __call__(self, coordinates: Floats) -> tuple[Tensor, Tensor]:
        """Return the vectors in float64 and in the dtype of the forms."""
        exact = self.along(coordinates)
        if self._origin is not None:
            exact = self._origin + exact
        return exact, exact.to(self._dtype)

    def along(self, coordinates: Floats) -> Tensor:
        """Return the differences of vectors that belong to differences of coordinates."""
        rows = self._tensor(coordinates)
        return rows if self._directions is None else rows @ self._directions

    def back(self, gradients: Tensor) -> Tensor:
        """Return gradients with respect to the coordinates."""
        return gradients if self._directions is None else gradients @ self._directions.T


def evaluate(
    form: Form, request: Request, lift: Lift, rows: slice, blocks: Sequence[Block], decay: float
) -> tuple[Tensor, ...]:
    """Return what was asked for at some rows, summed over blocks of data, in float64."""
    kind = request.kind
    exact, vectors = lift(request.inputs[0][rows])
    arguments = [vectors]
    if kind == "products":
        directions = lift.along(request.inputs[1][rows])
        arguments.append(directions.to(vectors.dtype))
    sums: list[Tensor] = []
    for weight, data in blocks:
        results = getattr(form, kind)(*arguments, data)
        terms = [result.double() * weight for result in (results if isinstance(results, tuple) else (results,))]
        sums = [total.add_(term) for total, term in zip(sums, terms, strict=True)] if sums else terms
    if decay:
        if kind == "products":
            sums[0] += 2 * decay * directions
        else:
            sums[0] += decay * exact.square().sum(dim=1)
        if kind == "gradients":
            sums[1] += 2 * decay * exact
    if kind in ("gradients", "products"):
        sums[-1] = lift.back(sums[-1])
    return tuple(sums)


def most_rows(blocks: Sequence[Block]) -> int:
    """Return the rows of the largest block of data; functions have none and count as one."""
    return max(count_rows(data) if leaves(data) else 1 for _, data in blocks)
