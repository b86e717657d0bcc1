"""Points of a landscape, as they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from topolandscape.structures import Floats


def read_points(points: Any, dimension: int, name: str = "points") -> Floats:
    """Return points, (n, dimension), as float64; raise when they are something else."""
    array = as_float64(points, name)
    if array.ndim != 2:
        raise ValueError(
            f"{name} have shape {array.shape}; they need shape (n, {dimension}). For a single one write point[None]."
        )
    if array.shape[1] != dimension:
        raise ValueError(
            f"{name} have {array.shape[1]} coordinates each, the landscape {dimension}; give as many. "
            "For a few directions use landscape.restricted_to()."
        )
    finite = np.isfinite(array)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name}[{row}, {column}] is {array[row, column]}; coordinates must be finite. Drop that row.")
    return array


def read_point(point: ArrayLike, dimension: int, name: str = "point") -> Floats:
    """Return one point, (dimension,), as float64; raise when it is something else."""
    array = as_float64(point, name)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it needs one dimension.")
    return read_points(array[None], dimension, name)[0]


def as_float64(value: Any, name: str) -> Floats:
    """Return an array or a tensor as float64; raise when it is neither."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} cannot be read as an array of float64: {error}") from None
