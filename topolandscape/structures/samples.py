"""Points of a landscape and their losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, read_only, settle


@dataclass(frozen=True, eq=False)
class Subspace:
    """An affine subspace of the space of parameter vectors: ``origin + coordinates @ directions``.

    Parameters
    ----------
    origin
        Parameter vector, shape (p,).
    directions
        One direction a row, shape (d, p).
    """

    origin: Floats
    directions: Floats

    def __post_init__(self) -> None:
        """Freeze the arrays and check that their shapes agree."""
        origin = frozen(self.origin, np.float64, "origin", 1)
        directions = frozen(self.directions, np.float64, "directions", 2)
        if directions.shape[1] != len(origin):
            raise ValueError(
                f"directions have {directions.shape[1]} parameters each and the origin {len(origin)}; "
                "give one direction a row, of the origin's length."
            )
        settle(self, origin=origin, directions=directions)

    def parameters(self, coordinates: ArrayLike) -> Floats:
        """Return the parameter vectors (n, p) at `coordinates` (n, d)."""
        return self.origin + np.asarray(coordinates, dtype=np.float64) @ self.directions


@dataclass(frozen=True, eq=False)
class LossSamples:
    """Points of a landscape and their losses.

    Parameters
    ----------
    points
        Coordinates in the sampled subspace, shape (n, d).
    values
        Losses as they were measured, shape (n,). NaN and infinite losses are kept; see `nonfinite`.
    noise
        Largest spread of repeated evaluation at one point. Bars shorter than twice the noise are no evidence.
    subspace
        Where the coordinates live; None: they are the parameter vectors themselves.
    shape
        Grid shape (row-major) when the points are a full grid, else None.
    provenance
        Model, data, seed, settings: enough to draw the samples again.

    Examples
    --------
    >>> samples = LossSamples(points=[[0.0], [1.0]], values=[0.5, float("nan")])
    >>> samples
    LossSamples(2 points, 1 dimension, losses 0.5 to 0.5, 1 not finite)
    >>> samples.nonfinite
    array([1])
    """

    points: Floats
    values: Floats
    noise: float = 0.0
    subspace: Subspace | None = None
    shape: tuple[int, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays and check that they belong together."""
        points = frozen(self.points, np.float64, "points", 2)
        values = frozen(self.values, np.float64, "values", 1)
        if len(points) == 0:
            raise ValueError("no points were given; samples need at least one.")
        check_length(values, len(points), "values", "points")
        if not np.isfinite(points).all():
            row = int(np.argmin(np.isfinite(points).all(axis=1)))
            raise ValueError(f"points[{row}] is {points[row]}; coordinates must be finite.")
        if self.subspace is not None and len(self.subspace.directions) != points.shape[1]:
            raise ValueError(
                f"points have {points.shape[1]} coordinates, but the subspace has {len(self.subspace.directions)} "
                "directions; they must agree."
            )
        shape = None if self.shape is None else tuple(int(s) for s in self.shape)
        if shape is not None and (int(np.prod(shape)) != len(points) or len(shape) != points.shape[1]):
            raise ValueError(
                f"a grid of shape {shape} has {int(np.prod(shape))} points in {len(shape)} dimensions, "
                f"got {len(points)} in {points.shape[1]}."
            )
        settle(
            self,
            points=points,
            values=values,
            noise=float(self.noise),
            shape=shape,
            provenance=read_only(self.provenance),
        )

    @property
    def nonfinite(self) -> Integers:
        """Rows whose loss is NaN or infinite."""
        return np.flatnonzero(~np.isfinite(self.values))

    def parameters(self, rows: Integers | list[int] | slice = slice(None)) -> Floats:
        """Return the parameter vectors of the points in `rows`, shape (len(rows), p)."""
        coordinates = self.points[rows]
        return coordinates if self.subspace is None else self.subspace.parameters(coordinates)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    def __repr__(self) -> str:
        """Return one line: how many points, of how many dimensions, which losses."""
        n, d = self.points.shape
        finite = self.values[np.isfinite(self.values)]
        losses = f"losses {finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no finite loss"
        missing = f", {len(self.nonfinite)} not finite" if len(self.nonfinite) else ""
        return f"LossSamples({n} points, {d} dimension{'s' * (d != 1)}, {losses}{missing})"


def grid_points(axes: Sequence[Floats], rows: slice = slice(None)) -> Floats:
    """Return the points of a full grid in row-major order: the last coordinate runs fastest.

    Parameters
    ----------
    axes
        The values of each coordinate, d arrays.
    rows
        Which points; all by default.

    Returns
    -------
    float64 array
        Shape (n, d).

    Examples
    --------
    >>> grid_points([np.array([0.0, 1.0]), np.array([5.0, 6.0, 7.0])], slice(2, 4))
    array([[0., 7.],
           [1., 5.]])
    """
    shape = tuple(map(len, axes))
    first, last, _ = rows.indices(math.prod(shape))
    points = np.empty((last - first, len(shape)))
    left = np.arange(first, last)
    for k in range(len(shape) - 1, -1, -1):
        before = left // shape[k]  # several times as fast as divmod
        points[:, k] = axes[k][left - before * shape[k]]
        left = before
    return points
