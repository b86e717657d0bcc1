"""Points of a landscape, as they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from topolandscape.structures import Floats


def read_points(points: Any, dimension: int | None, name: str = "points", *, empty: bool = False) -> Floats:
    """Return points, (n, dimension), as float64; raise when they are something else, or none where `empty` is False.

    A dimension of None: whatever they have.
    """
    array = as_float64(points, name)
    if array.ndim != 2:
        wanted = "p" if dimension is None else dimension
        raise ValueError(
            f"{name} have shape {array.shape}; they need shape (n, {wanted}). For a single one write point[None]."
        )
    if dimension is not None and array.shape[1] != dimension:
        raise ValueError(
            f"{name} have shape {array.shape}; they need shape (n, {dimension}), as the landscape has. "
            "For a few directions use landscape.restricted_to()."
        )
    if len(array) == 0 and not empty:
        raise ValueError(f"{name} are empty; give one or more.")
    if place := _not_finite(array):
        raise ValueError(f"{name}{list(place)} is {array[place]}; coordinates must be finite. Drop that row.")
    return array


def read_point(point: ArrayLike, dimension: int, name: str = "point") -> Floats:
    """Return one point, (dimension,), as float64; raise when it is something else."""
    array = as_float64(point, name)
    if array.shape != (dimension,):
        raise ValueError(f"{name} has shape {array.shape}; it needs shape ({dimension},), as the landscape has.")
    if place := _not_finite(array):
        raise ValueError(f"{name}{list(place)} is {array[place]}; coordinates must be finite.")
    return array


def _not_finite(array: Floats) -> tuple[int, ...]:
    """Return the place of the first number that is not finite; empty if there is none."""
    finite = np.isfinite(array)
    return () if finite.all() else tuple(np.argwhere(~finite)[0].tolist())


def as_float64(value: Any, name: str) -> Floats:
    """Return an array or a tensor as float64; raise when it is neither."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} cannot be read as an array of float64: {error}") from None
