"""Random samples of a region: a box, a ball, the hull of some points.

Everything is drawn from a seed and does not depend on how many points are evaluated at once. A hull of few dimensions
is sampled in coordinates of its own; the samples keep the way back to parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.directions import Seed, signed, whole_number
from topolandscape.landscape.grids import box_sides
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.points import read_point, read_points
from topolandscape.landscape.samples import Evaluate, as_samples, evaluated, losses_at
from topolandscape.structures import Floats, LossSamples

Method = Literal["sobol", "uniform", "latin"]

# Rounds of drawing after which a threshold counts as too low.
MOST_ROUNDS = 100


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
    bottom, top = box_sides(low, high, d)
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
    middle = read_point(center, d, "center")
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
    corners = read_points(minima, landscape.dimension, "minima")
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
        return evaluated(landscape, next(draws)[:n], sampler, settings, evaluate, progress)
    if math.isnan(below):
        raise ValueError("below is NaN; it needs to be a number.")
    kept_points, kept_values = [], []
    found = drawn = nonfinite = 0
    for _ in range(MOST_ROUNDS):
        points = next(draws)
        values = losses_at(landscape, points, evaluate, progress)
        low = np.flatnonzero(values < below)[: n - found]
        kept_points.append(points[low])
        kept_values.append(values[low])
        found += len(low)
        drawn += len(points)
        nonfinite += int((~np.isfinite(values)).sum())
        if found == n:
            settings = {**settings, "below": float(below), "drawn": drawn, "drawn_nonfinite": nonfinite}
            points, values = np.concatenate(kept_points), np.concatenate(kept_values)
            return as_samples(landscape, points, values, sampler, settings, None)
    raise ValueError(
        f"only {found} of {n} points have a loss below {below:g} after {MOST_ROUNDS} rounds ({drawn} points drawn, "
        f"{nonfinite} without a finite loss). Raise `below`, lower n, or choose a smaller region."
    )


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
