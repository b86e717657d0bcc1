"""What can be said of the whole spectrum of the Hessian from products with vectors: trace, density, Morse index."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topolandscape.landscape.curvature import (
    Multiply,
    Seed,
    highest_curvatures,
    lowest_curvatures,
    multiplier,
    projected,
)
from topolandscape.landscape.directions import whole_number
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.points import read_points
from topolandscape.structures import Floats, Integers

# Eigenvalues asked for at first when negative ones are counted.
_FIRST = 4
# Of the size of its Hessian: what a step of Lanczos leaves when the Krylov space is exhausted.
_EXHAUSTED = 1e-10


def hessian_trace(landscape: Landscape, points: ArrayLike, *, probes: int = 16, seed: Seed) -> tuple[Floats, Floats]:
    """Estimate the trace of the Hessian at each of many points.

    Parameters
    ----------
    landscape
        Any.
    points
        Shape (m, dimension).
    probes
        Random vectors that find the range of the Hessian, and as many that estimate what it leaves: three products
        each at every point. At least 2.
    seed
        A whole number or a numpy Generator. The vectors are the same at all points.

    Returns
    -------
    tuple of float64 arrays
        Estimates (m,) and their standard errors (m,).

    Notes
    -----
    Hutch++ (Meyer, Musco, Musco and Woodruff 2021): the trace on a space of dimension `probes` near the range of the
    Hessian is exact, on its complement it is the mean of v H v over vectors of random signs (Hutchinson 1989). Exact
    where the rank is at most `probes`.

    Examples
    --------
    >>> bowl = Landscape.from_function(lambda x: x[:, 0] ** 2 + 5 * x[:, 1] ** 2, 2)
    >>> trace, error = hessian_trace(bowl, [[0.0, 0.0]], seed=0)
    >>> trace.round(9).tolist(), error.round(9).tolist()
    ([12.0], [0.0])
    """
    rows = read_points(points, landscape.dimension, "points")
    whole_number(probes, "probes", least=2)
    p, rng = landscape.dimension, np.random.default_rng(seed)
    multiply = multiplier(landscape, rows)
    signs = rng.choice([-1.0, 1.0], size=(2, probes, p))
    sketch = multiply(slice(None), np.broadcast_to(signs[0], (len(rows), probes, p)))
    finite = np.isfinite(sketch).all(axis=(1, 2))
    estimate, error = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    if not finite.any():
        return estimate, error
    basis = np.linalg.qr(sketch[finite].transpose(0, 2, 1))[0].transpose(0, 2, 1)
    within = np.einsum("mbp,mbp->m", basis, multiply(finite, basis))
    rest = projected(signs[1], basis)
    each = np.einsum("mbp,mbp->mb", rest, multiply(finite, rest))
    estimate[finite] = within + each.mean(axis=1)
    error[finite] = each.std(axis=1, ddof=1) / np.sqrt(probes)
    return estimate, error


class SpectralDensity(NamedTuple):
    """The spectrum of the Hessian at m points, as a measure on few numbers.

    Parameters
    ----------
    nodes
        Where it is, for each probe in increasing order, shape (m, probes, steps).
    weights
        Shares of the spectrum there, the same shape: their sum at a point is 1.
    """

    nodes: Floats
    weights: Floats

    def smoothed(self, at: ArrayLike, width: float) -> Floats:
        """Return the density with each node a Gaussian.

        Parameters
        ----------
        at
            Numbers, shape (q,).
        width
            Standard deviation.

        Returns
        -------
        float64 array
            Shape (m, q).

        Examples
        --------
        >>> density = SpectralDensity(np.array([[[0.0, 1.0]]]), np.array([[[0.5, 0.5]]]))
        >>> density.smoothed([0.0, 0.5, 1.0], 0.1).round(4).tolist()
        [[1.9947, 0.0, 1.9947]]
        """
        if not width > 0:
            raise ValueError(f"width is {width}; it needs to be above 0.")
        places = np.asarray(at, dtype=np.float64)
        apart = (places - self.nodes[..., None]) / width
        heights = np.exp(-0.5 * apart**2) / (np.sqrt(2 * np.pi) * width)
        return np.einsum("mbs,mbsq->mq", self.weights, heights)


def hessian_density(
    landscape: Landscape, points: ArrayLike, *, probes: int = 8, steps: int = 64, seed: Seed
) -> SpectralDensity:
    """Estimate how the eigenvalues of the Hessian are distributed, at each of many points.

    Parameters
    ----------
    landscape
        Any.
    points
        Shape (m, dimension).
    probes
        Random vectors, the same at all points.
    steps
        Products of the Hessian with vectors for each probe; no more than there are dimensions are made.
    seed
        A whole number or a numpy Generator.

    Returns
    -------
    SpectralDensity
        NaN where the Hessian is not finite.

    Notes
    -----
    Stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017), with full reorthogonalisation: for each probe the
    eigenvalues of a tridiagonal matrix, weighted by the squared first entries of its eigenvectors. The first 2 `steps`
    moments of what a probe sees are exact; with as many steps as dimensions the nodes are the eigenvalues.

    Examples
    --------
    >>> bowl = Landscape.from_function(lambda x: x[:, 0] ** 2 + 5 * x[:, 1] ** 2, 2)
    >>> density = hessian_density(bowl, [[0.0, 0.0]], seed=0)
    >>> density.nodes[0, 0].round(6).tolist(), density.weights[0].sum(axis=1).round(6).tolist()
    ([2.0, 10.0], [0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125])
    """
    rows = read_points(points, landscape.dimension, "points")
    whole_number(probes, "probes")
    steps = min(whole_number(steps, "steps"), landscape.dimension)
    first = np.random.default_rng(seed).standard_normal((probes, landscape.dimension))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    diagonal, beside = _tridiagonal(multiplier(landscape, rows), len(rows), first, steps)
    matrices = np.zeros((*diagonal.shape, steps))
    places = np.arange(steps)
    matrices[..., places, places] = diagonal
    matrices[..., places[1:], places[:-1]] = matrices[..., places[:-1], places[1:]] = beside
    nodes, weights = np.full(diagonal.shape, np.nan), np.full(diagonal.shape, np.nan)
    known = np.isfinite(matrices).all(axis=(1, 2, 3))
    values, vectors = np.linalg.eigh(matrices[known])
    nodes[known], weights[known] = values, vectors[:, :, 0] ** 2 / probes
    return SpectralDensity(nodes, weights)


def _tridiagonal(multiply: Multiply, m: int, first: Floats, steps: int) -> tuple[Floats, Floats]:
    """Return the diagonals (m, b, steps) and (m, b, steps - 1) that Lanczos finds from unit vectors (b, p)."""
    b, p = first.shape
    diagonal, beside = np.zeros((m, b, steps)), np.zeros((m, b, steps - 1))
    basis = np.empty((m, b, steps, p))
    basis[:, :, 0] = first
    size = np.zeros((m, b))
    for step in range(steps):
        here = basis[:, :, step]
        rest = multiply(slice(None), here)
        rest[~np.isfinite(rest).all(axis=2)] = np.nan
        size = np.maximum(size, np.linalg.norm(rest, axis=2))
        diagonal[:, :, step] = np.einsum("mbp,mbp->mb", here, rest)
        if step == steps - 1:
            break
        known = basis[:, :, : step + 1]
        for _ in range(2):  # twice is enough (Parlett 1980)
            rest = projected(rest[:, :, None], known)[:, :, 0]
        length = np.linalg.norm(rest, axis=2)
        # Where the Krylov space is exhausted what follows is zero and has no weight.
        on = length > _EXHAUSTED * size
        beside[:, :, step] = np.where(on, length, np.where(np.isnan(length), np.nan, 0.0))
        basis[:, :, step + 1] = np.where(on[:, :, None], rest / np.where(on, length, 1.0)[:, :, None], 0.0)
    return diagonal, beside


class MorseIndex(NamedTuple):
    """How many eigenvalues of the Hessian are below, and near, zero at m points.

    Parameters
    ----------
    negative
        Number of negative ones, shape (m,).
    flat
        Number of those that are zero as far as can be told, shape (m,).
    known
        False where there are more than were asked for: the numbers are then lower bounds. Shape (m,).
    """

    negative: Integers
    flat: Integers
    known: NDArray[np.bool_]


def morse_index(
    landscape: Landscape,
    points: ArrayLike,
    *,
    seed: Seed,
    flatness: float = 1e-6,
    most: int = 64,
    tolerance: float = 1e-7,
    max_products: int = 4000,
) -> MorseIndex:
    """Count the descending directions at stationary points, and those along which the loss is flat.

    Parameters
    ----------
    landscape
        Twice differentiable.
    points
        Where the gradient vanishes, shape (m, dimension).
    seed
        Of the first vectors: a whole number or a numpy Generator.
    flatness
        An eigenvalue is flat when its size is below this share of the largest, or below its own uncertainty.
    most
        Negative and flat directions that are looked for at most.
    tolerance, max_products
        As for `lowest_curvatures`.

    Returns
    -------
    MorseIndex
        Negative and flat directions, each counted once.

    Notes
    -----
    The lowest eigenvalues by block Lanczos, four, then twice as many, until the last is positive. NaN Hessians count as
    not known, with zero directions.

    Examples
    --------
    >>> saddle = Landscape.from_function(lambda x: x[:, 0] ** 2 - x[:, 1] ** 2 + x[:, 2] ** 4, 3)
    >>> index = morse_index(saddle, [[0.0, 0.0, 0.0]], seed=0)
    >>> index.negative.tolist(), index.flat.tolist(), index.known.tolist()
    ([1], [1], [True])
    """
    rows = read_points(points, landscape.dimension, "points")
    whole_number(most, "most")
    if not flatness >= 0:
        raise ValueError(f"flatness is {flatness}; it needs to be 0 or more.")
    p = landscape.dimension
    first = int(np.random.default_rng(seed).integers(2**63))
    negative, flat = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    known = np.zeros(len(rows), dtype=bool)
    largest = np.abs(highest_curvatures(landscape, rows, seed=first, tolerance=1e-2).values[:, 0])
    left = np.flatnonzero(np.isfinite(largest))
    k = min(_FIRST, most, p)
    while len(left):
        low = lowest_curvatures(landscape, rows[left], k, seed=first, tolerance=tolerance, max_products=max_products)
        size = np.maximum(largest[left], np.abs(low.values).max(axis=1))[:, None]
        threshold = np.maximum(flatness * size, low.residuals)
        negative[left] = (low.values < -threshold).sum(axis=1)
        flat[left] = (np.abs(low.values) <= threshold).sum(axis=1)
        known[left] = (low.values[:, -1] > threshold[:, -1]) | (k == p)
        left = left[~known[left]]
        if k >= min(most, p):
            break
        k = min(2 * k, most, p)
    return MorseIndex(negative, flat, known)
