"""Samples on full grids: of a box, and of a plane through three points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.directions import affine_span, whole_number
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.points import read_points
from topolandscape.landscape.samples import Evaluate, evaluated
from topolandscape.structures import Floats, LossSamples, grid_points


def sample_grid(
    landscape: Landscape,
    *,
    low: ArrayLike,
    high: ArrayLike,
    shape: int | Sequence[int],
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> LossSamples:
    """Sample a full grid.

    Parameters
    ----------
    landscape
        Of few dimensions.
    low, high
        First and last value of each coordinate, both on the grid exactly: numbers, or one for each coordinate.
    shape
        Number of values of each coordinate, two or more; one number stands for all.
    evaluate, progress
        As for `sample_box`.

    Returns
    -------
    LossSamples
        The points in row-major order (the last coordinate runs fastest), with the shape of the grid.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: x[:, 0] * 10 + x[:, 1], 2)
    >>> samples = sample_grid(landscape, low=0, high=[1, 2], shape=(2, 3))
    >>> samples.values.reshape(samples.shape)
    array([[ 0.,  1.,  2.],
           [10., 11., 12.]])
    """
    axes = grid_axes(landscape.dimension, low, high, shape)
    counts = tuple(map(len, axes))
    return evaluated(landscape, grid_points(axes), "sample_grid", grid_settings(axes), evaluate, progress, shape=counts)


def grid_axes(dimension: int, low: ArrayLike, high: ArrayLike, shape: int | Sequence[int]) -> list[Floats]:
    """Return the values of each coordinate on a grid, as `sample_grid` takes its sides and shape."""
    bottom, top = box_sides(low, high, dimension)
    counts = (shape,) * dimension if isinstance(shape, (int, np.integer)) else tuple(shape)
    if len(counts) != dimension:
        raise ValueError(
            f"shape {counts} has {len(counts)} axes, the landscape {dimension} dimensions; give one number each."
        )
    counts = tuple(whole_number(side, "a side of the grid", least=2) for side in counts)
    return [np.linspace(a, b, side) for a, b, side in zip(bottom, top, counts, strict=True)]


def grid_settings(axes: Sequence[Floats]) -> dict[str, Any]:
    """Return what the provenance of a grid says of its axes."""
    return {"low": [axis[0] for axis in axes], "high": [axis[-1] for axis in axes], "shape": list(map(len, axes))}


def sample_plane(
    landscape: Landscape,
    points: ArrayLike,
    *,
    shape: int | tuple[int, int] = (101, 101),
    margin: float = 0.25,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> LossSamples:
    """Sample the plane through three points on a grid.

    Parameters
    ----------
    landscape
        Of two dimensions or more.
    points
        Three points that do not lie on a line, shape (3, dimension).
    shape
        Number of grid points along the two axes.
    margin
        How far the grid goes on beyond the three points on each side, as a share of their extent along that axis.
    evaluate, progress
        As for `sample_box`.

    Returns
    -------
    LossSamples
        Coordinates are orthonormal: distances in the plane are distances between parameter vectors. The first point
        is (0, 0), the second lies on the first axis (Garipov et al. 2018). ``provenance["corners"]`` holds the
        coordinates of the three.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2).sum(1), 3)
    >>> samples = sample_plane(landscape, np.eye(3), shape=(5, 5))
    >>> np.round(samples.provenance["corners"], 3).tolist()
    [[0.0, 0.0], [1.414, 0.0], [0.707, 1.225]]
    """
    three = read_points(points, landscape.dimension, "points")
    if len(three) != 3:
        raise ValueError(f"there are {len(three)} points; a plane needs three.")
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin is {margin}; it needs to be a number, 0 or more.")
    origin, directions = affine_span(three)
    corners = (three - origin) @ directions.T
    corners[0], corners[1, 1] = 0.0, 0.0
    low, high = corners.min(axis=0), corners.max(axis=0)
    border = margin * (high - low)
    plane = landscape.restricted_to(origin, directions)
    samples = sample_grid(
        plane, low=low - border, high=high + border, shape=shape, evaluate=evaluate, progress=progress
    )
    settings = {"margin": float(margin), "corners": corners.tolist()}
    return replace(samples, provenance={**samples.provenance, "sampler": "sample_plane", **settings})


def box_sides(low: ArrayLike, high: ArrayLike, d: int) -> tuple[Floats, Floats]:
    """Return the sides of a box of d dimensions, (d,) each; raise where it is empty."""
    sides = []
    for name, side in (("low", low), ("high", high)):
        array = np.asarray(side, dtype=np.float64)
        if array.shape not in ((), (d,)):
            raise ValueError(f"{name} has shape {array.shape}; give one number, or {d}, one for each coordinate.")
        sides.append(np.broadcast_to(array, d).copy())
    wrong = ~(np.isfinite(sides[0]) & np.isfinite(sides[1]) & (sides[0] < sides[1]))
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ValueError(f"coordinate {k} goes from {sides[0][k]:g} to {sides[1][k]:g}; low must be below high.")
    return sides[0], sides[1]
