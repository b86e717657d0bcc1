"""Where to look at a landscape: points of a region, and their losses.

Everything is drawn from a seed and does not depend on how many points are evaluated at once. Regions of few dimensions
(a segment, a plane, a hull) are sampled in coordinates of their own; the samples keep the way back to parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.directions import Seed, affine_span, parameter_vector, point_rows, signed, whole_number
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats, LossSamples, grid_points

Method = Literal["sobol", "uniform", "latin"]
Evaluate = Callable[[Landscape, Floats], ArrayLike]

# Rounds of drawing after which a threshold counts as too low.
MOST_ROUNDS = 100


# --------------------------------------------------------------------------------------------------------------
# Random points of a region
# --------------------------------------------------------------------------------------------------------------


def sample_box(
    landscape: Landscape,
    *,
    low: ArrayLike,
    high: ArrayLike,
    n: int,
    seed: Seed,
    method: Method = "sobol",
    below: float | None = None,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> LossSamples:
    """Sample a box.

    Parameters
    ----------
    landscape
        Of any dimension (Sobol points: up to 21201).
    low, high
        Sides of the box: numbers, or one for each coordinate.
    n
        Number of points.
    seed
        A whole number or a numpy Generator.
    method
        ``"sobol"``: scrambled Sobol points (Owen 1998), the evenest; ``"latin"``: a Latin hypercube (McKay et al.
        1979); ``"uniform"``: independent.
    below
        Keep only points of which the loss is below this; more are drawn until there are n.
    evaluate
        Called with (landscape, points) instead of ``landscape.values(points)``.
    progress
        None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    LossSamples
        n points. With `below`, provenance says how many were drawn, and how many of these had no finite loss.

    Raises
    ------
    ValueError
        The box is empty, or fewer than n points below the threshold were found in 100 rounds.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    >>> sample_box(landscape, low=-1, high=[1, 2], n=64, seed=0)
    LossSamples(64 points, 2 dimensions, losses 0.0248591 to 4.62996)
    """
    d = landscape.dimension
    n = whole_number(n, "n")
    bottom, top = _box(low, high, d)
    settings = {"low": np.asarray(low, dtype=np.float64).tolist(), "high": np.asarray(high, dtype=np.float64).tolist()}
    settings |= {"n": n, "method": method, "seed": _seed_record(seed)}
    draws = (bottom + cube * (top - bottom) for cube in _cube(d, n, seed, method))
    return _sample(landscape, draws, n, below, "sample_box", settings, evaluate, progress)


def sample_ball(
    landscape: Landscape,
    *,
    center: ArrayLike,
    radius: float,
    n: int,
    seed: Seed,
    method: Method = "sobol",
    below: float | None = None,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> LossSamples:
    """Sample a ball, evenly by volume.

    Parameters
    ----------
    landscape
        Of any dimension (Sobol points: up to 21200).
    center
        Shape (dimension,).
    radius
        Of the ball.
    n, seed, method, below, evaluate, progress
        As for `sample_box`.

    Returns
    -------
    LossSamples
        n points.

    Notes
    -----
    A normal vector gives the direction (Muller 1959), a power of a uniform number the distance.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2).sum(1), 3)
    >>> samples = sample_ball(landscape, center=[0, 0, 0], radius=2, n=100, seed=0)
    >>> bool(samples.values.max() <= 4)
    True
    """
    from scipy.special import ndtri

    d = landscape.dimension
    n = whole_number(n, "n")
    middle = parameter_vector(center, d, "center")
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius is {radius}; it needs to be a number above 0.")

    def ball(cube: Floats) -> Floats:
        normal = ndtri(np.clip(cube[:, :d], 1e-15, 1 - 1e-15))
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        return middle + radius * cube[:, d:] ** (1 / d) * normal / np.where(length > 0, length, 1.0)

    settings = {"center": middle.tolist(), "radius": float(radius), "n": n, "method": method}
    settings |= {"seed": _seed_record(seed)}
    draws = map(ball, _cube(d + 1, n, seed, method))
    return _sample(landscape, draws, n, below, "sample_ball", settings, evaluate, progress)


def sample_hull(
    landscape: Landscape,
    minima: ArrayLike,
    *,
    n: int,
    seed: Seed,
    enlarge: float = 1.1,
    with_minima: bool = True,
    below: float | None = None,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> LossSamples:
    """Sample the convex hull of some points, evenly by volume, and somewhat beyond.

    Parameters
    ----------
    landscape
        Its dimension may be far above the number of minima: the hull is taken in the subspace that they span.
    minima
        Shape (m, dimension), at least two different ones.
    n
        Number of points.
    seed
        A whole number or a numpy Generator.
    enlarge
        Factor of the volume: the hull is scaled about its center of mass by ``enlarge ** (1 / r)`` for r dimensions.
    with_minima
        The minima themselves are the first samples.
    below, evaluate, progress
        As for `sample_box`.

    Returns
    -------
    LossSamples
        n points, after the minima. Where the minima span the whole space coordinates are those of the landscape, else
        orthonormal ones of their own.

    Notes
    -----
    After Barannikov et al. (2019), "Barcodes as summary of loss function topology", who multiply the volume of the
    hull so that minima at its corners are surrounded, and add the minima.
    The hull is cut into Delaunay simplices; one is drawn by its volume, a point in it by Dirichlet weights. Points
    that span as many dimensions as they can form a simplex at once, in any dimension; others in up to 8.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2).sum(1), 5)
    >>> samples = sample_hull(landscape, np.eye(5)[:3], n=100, seed=0)
    >>> samples.points.shape, samples.parameters().shape
    ((103, 2), (103, 5))
    """
    n = whole_number(n, "n")
    corners = point_rows(minima, landscape.dimension, "minima")
    if not (math.isfinite(enlarge) and enlarge > 0):
        raise ValueError(f"enlarge is {enlarge}; it needs to be a number above 0.")
    mean = corners.mean(axis=0)
    _, extent, axes = np.linalg.svd(corners - mean, full_matrices=False)
    size = float(np.abs(corners).max())
    rank = int((extent > 1e-9 * max(extent[0], 1e-6 * size)).sum()) if len(corners) > 1 else 0
    if rank == 0:
        raise ValueError(f"the {len(corners)} minima are one and the same point; a hull needs at least two.")
    if rank < landscape.dimension:
        directions = signed(axes[:rank])
        landscape = landscape.restricted_to(mean, directions)
        corners = (corners - mean) @ directions.T

    pieces = corners[_simplices(corners)]
    edges = pieces[:, 1:] - pieces[:, :1]
    volumes = np.abs(np.linalg.det(edges))
    shares = volumes / volumes.sum()
    center = shares @ pieces.mean(axis=1)
    factor = enlarge ** (1 / rank)
    settings = {"minima": corners.tolist(), "with_minima": with_minima, "enlarge": float(enlarge)}
    settings |= {"n": n, "seed": _seed_record(seed)}
    rng = np.random.default_rng(seed)

    def draws() -> Iterator[Floats]:
        first = corners if with_minima else corners[:0]
        while True:
            chosen = rng.choice(len(pieces), size=n, p=shares)
            weights = rng.dirichlet(np.ones(rank + 1), size=n)
            inside = np.einsum("nk,nkd->nd", weights, pieces[chosen])
            yield np.concatenate([first, center + factor * (inside - center)])
            first = corners[:0]

    total = n + len(corners) if with_minima else n
    return _sample(landscape, draws(), total, below, "sample_hull", settings, evaluate, progress)


# --------------------------------------------------------------------------------------------------------------
# Grids
# --------------------------------------------------------------------------------------------------------------


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
    return _evaluated(
        landscape, grid_points(axes), "sample_grid", grid_settings(axes), evaluate, progress, shape=counts
    )


def grid_axes(dimension: int, low: ArrayLike, high: ArrayLike, shape: int | Sequence[int]) -> list[Floats]:
    """Return the values of each coordinate on a grid, as `sample_grid` takes its sides and shape."""
    bottom, top = _box(low, high, dimension)
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


def sample_segment(
    landscape: Landscape,
    a: ArrayLike,
    b: ArrayLike,
    *,
    n: int,
    margin: float = 0.0,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> LossSamples:
    """Sample the straight line between two points, at equal distances.

    Parameters
    ----------
    landscape
        Of any dimension.
    a, b
        Ends, shape (dimension,): coordinate 0 and coordinate 1.
    n
        Number of points, two or more.
    margin
        How far the line goes on beyond each end, as a share of its length.
    evaluate, progress
        As for `sample_box`.

    Returns
    -------
    LossSamples
        n points of one coordinate from -margin to 1 + margin (linear interpolation, Goodfellow et al. 2015).

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    >>> sample_segment(landscape, [0, 0], [2, 0], n=3).values
    array([0., 1., 4.])
    """
    start, end = parameter_vector(a, landscape.dimension, "a"), parameter_vector(b, landscape.dimension, "b")
    if np.array_equal(start, end):
        raise ValueError("a and b are the same point; a segment needs two.")
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin is {margin}; it needs to be a number, 0 or more.")
    n = whole_number(n, "n", least=2)
    line = landscape.restricted_to(start, (end - start)[None])
    points = np.linspace(-margin, 1 + margin, n)[:, None]
    settings = {"n": n, "margin": float(margin), "length": float(np.linalg.norm(end - start))}
    return _evaluated(line, points, "sample_segment", settings, evaluate, progress, shape=(n,))


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
    three = point_rows(points, landscape.dimension, "points")
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


def segment_maxima(
    landscape: Landscape,
    samples: LossSamples,
    edges: ArrayLike,
    *,
    q: int = 3,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> Floats:
    """Return the highest loss on the segment between the two ends of each edge.

    A lower-star filtration lets an edge enter with its higher end and so misses a ridge between two samples; give
    these values to `with_edge_values`.

    Parameters
    ----------
    landscape
        The one that was sampled.
    samples
        Their points and losses.
    edges
        Rows of the ends, shape (m, 2), as in ``complex.simplices[1]``.
    q
        Points between the ends, evenly spaced: m q evaluations.
    evaluate
        As for `sample_box`.
    progress
        None: a bar when stderr is a terminal and it takes over a second; True: also elsewhere; False: never.

    Returns
    -------
    float64 array
        Shape (m,), at least the losses of both ends. NaN where a loss on the way is.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: 1 - (x**2).sum(1), 1)
    >>> samples = sample_grid(landscape, low=-1, high=1, shape=2)
    >>> segment_maxima(landscape, samples, [[0, 1]], q=3)
    array([1.])
    """
    rows = np.asarray(edges)
    if rows.ndim != 2 or rows.shape[1] != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"edges have shape {rows.shape} and type {rows.dtype}; give two rows of samples for each.")
    if rows.size and not (rows.min() >= 0 and rows.max() < len(samples)):
        raise ValueError(f"edges name rows {rows.min()} to {rows.max()}, and there are {len(samples)} samples.")
    if samples.points.shape[1] != landscape.dimension:
        raise ValueError(
            f"the samples have {samples.points.shape[1]} coordinates and the landscape {landscape.dimension}; give the "
            "landscape (or restriction) that was sampled."
        )
    start, end = samples.points[rows[:, 0]], samples.points[rows[:, 1]]
    highest = samples.values[rows].max(axis=1, initial=-np.inf)
    for t in np.arange(1, whole_number(q, "q") + 1) / (q + 1):
        highest = np.maximum(highest, _values(landscape, start + t * (end - start), evaluate, progress))
    return highest


# --------------------------------------------------------------------------------------------------------------
# Parts of the samplers
# --------------------------------------------------------------------------------------------------------------


def _sample(
    landscape: Landscape,
    draws: Iterator[Floats],
    n: int,
    below: float | None,
    sampler: str,
    settings: Mapping[str, Any],
    evaluate: Evaluate | None,
    progress: bool | None,
) -> LossSamples:
    """Evaluate the first n points drawn, or the first n with a loss below a threshold."""
    if below is None:
        return _evaluated(landscape, next(draws)[:n], sampler, settings, evaluate, progress)
    if math.isnan(below):
        raise ValueError("below is NaN; it needs to be a number.")
    kept_points, kept_values = [], []
    found = drawn = nonfinite = 0
    for _ in range(MOST_ROUNDS):
        points = next(draws)
        values = _values(landscape, points, evaluate, progress)
        low = np.flatnonzero(values < below)[: n - found]
        kept_points.append(points[low])
        kept_values.append(values[low])
        found += len(low)
        drawn += len(points)
        nonfinite += int((~np.isfinite(values)).sum())
        if found == n:
            settings = {**settings, "below": float(below), "drawn": drawn, "drawn_nonfinite": nonfinite}
            points, values = np.concatenate(kept_points), np.concatenate(kept_values)
            return _samples(landscape, points, values, sampler, settings, None)
    raise ValueError(
        f"only {found} of {n} points have a loss below {below:g} after {MOST_ROUNDS} rounds ({drawn} points drawn, "
        f"{nonfinite} without a finite loss). Raise `below`, lower n, or choose a smaller region."
    )


def _evaluated(
    landscape: Landscape,
    points: Floats,
    sampler: str,
    settings: Mapping[str, Any],
    evaluate: Evaluate | None,
    progress: bool | None,
    *,
    shape: tuple[int, ...] | None = None,
) -> LossSamples:
    values = _values(landscape, points, evaluate, progress)
    return _samples(landscape, points, values, sampler, settings, shape)


def _values(landscape: Landscape, points: Floats, evaluate: Evaluate | None, progress: bool | None) -> Floats:
    if evaluate is None:
        return landscape.values(points, progress=progress)
    values = np.asarray(evaluate(landscape, points), dtype=np.float64)
    if values.shape != (len(points),):
        raise ValueError(
            f"evaluate returned shape {values.shape} for {len(points)} points; it needs one value a point."
        )
    return values


def _samples(
    landscape: Landscape,
    points: Floats,
    values: Floats,
    sampler: str,
    settings: Mapping[str, Any],
    shape: tuple[int, ...] | None,
) -> LossSamples:
    finite = np.flatnonzero(np.isfinite(values))
    few = points[[finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]]] if len(finite) else points[:1]
    for array in (points, values):
        array.flags.writeable = False
    return LossSamples(
        points=points,
        values=values,
        noise=noise_among(landscape, few),
        subspace=landscape.subspace,
        shape=shape,
        provenance=provenance_of(landscape, sampler, settings),
    )


def noise_among(landscape: Landscape, points: Floats) -> float:
    """Return the noise of samples of which these are the lowest and the highest.

    Where losses are large their rounding is, too: the noise near the network's own point is not all of it.
    """
    return max(landscape.noise, float(landscape.noise_at(points).max()))


def provenance_of(landscape: Landscape, sampler: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what samples say of how they were made."""
    form = landscape.engine.form()
    return {"sampler": sampler, **settings, "landscape": dict(landscape.description), "form": form}


def _cube(d: int, n: int, seed: Seed, method: Method) -> Iterator[Floats]:
    """Yield rounds of at least n points of the unit cube, without end; Sobol rounds are whole powers of two."""
    from scipy.stats import qmc

    rng = np.random.default_rng(seed)
    # scipy would not draw from a generator that it is given, but spawn another, whatever the state of the first.
    own = int(rng.integers(2**63))
    draw: Callable[[], Floats]
    if method == "uniform":
        draw = lambda: rng.random((n, d))  # noqa: E731
    elif method == "latin":
        draw = partial(qmc.LatinHypercube(d, seed=own).random, n)
    elif method != "sobol":
        raise ValueError(f"method is {method!r}; it needs to be sobol, uniform or latin.")
    elif d > qmc.Sobol.MAXDIM:
        raise ValueError(
            f'there are {d} coordinates, and Sobol points for {qmc.Sobol.MAXDIM} at most; use method="uniform".'
        )
    else:
        draw = partial(qmc.Sobol(d, scramble=True, seed=own).random, 1 << (n - 1).bit_length())
    return (draw() for _ in count())


def _simplices(corners: Floats) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return simplices (s, d + 1), rows of corners, that fill the hull of the corners (m, d)."""
    m, d = corners.shape
    if m == d + 1:
        return np.arange(m)[None]
    if d == 1:
        return np.array([[corners[:, 0].argmin(), corners[:, 0].argmax()]])
    if d > 8:
        raise ValueError(
            f"the hull of {m} points has {d} dimensions; it can be cut into simplices in 8 at most, unless it is one "
            f"(of {d + 1} points). Give fewer points."
        )
    from scipy.spatial import Delaunay

    return Delaunay(corners).simplices.astype(np.int64)


def _seed_record(seed: Seed) -> Any:
    """Return what is needed to draw again: the seed itself, or the state of the generator before drawing."""
    if isinstance(seed, (int, np.integer)):
        return int(seed)
    state = np.random.default_rng(seed).bit_generator.state

    def plain(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {key: plain(value) for key, value in part.items()}
        return part.tolist() if isinstance(part, (np.ndarray, np.generic)) else part

    return plain(state)


def _box(low: ArrayLike, high: ArrayLike, d: int) -> tuple[Floats, Floats]:
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
