"""Curvature: the ends of the Hessian's spectrum, at many points at once, from products with vectors only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg.lapack import dgbtrf, dgbtrs, dsbevx, dstebz, dstein

from topolandscape.landscape.directions import whole_number
from topolandscape.landscape.keeping import resumable
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.points import read_point, read_points
from topolandscape.landscape.vectors import are_finite, orthonormal
from topolandscape.structures import Floats
from topolandscape.structures.journal import Arrays, Halfway

Seed = int | np.random.Generator

# Up to so many dimensions all eigenvalues are as cheap as a few of them.
DENSE = 300
# Numbers in the basis of the Krylov spaces of all points: 512 MiB.
_BASIS = 2**26
# Vectors for which there is room at once.
_ROOM = 30
# Rows of the small matrices that know the highest eigenvalue well enough.
_FIRST = 64
# Products asked for in one call.
_ROWS = 1024

# Maps vectors (c, b, p), b at each of the points in rows (c,), to their products with the Hessians there.
Multiply = Callable[[Any, Floats], Floats]


class Curvatures(NamedTuple):
    """Some eigenvalues of the Hessian at m points.

    Parameters
    ----------
    values
        Eigenvalues, shape (m, k).
    vectors
        Their eigenvectors, of length one, shape (m, k, p).
    residuals
        ``|H v - value v|``, measured, shape (m, k): some eigenvalue lies within this distance of the value.
    """

    values: Floats
    vectors: Floats
    residuals: Floats


def lowest_curvatures(
    landscape: Landscape,
    points: ArrayLike,
    k: int = 1,
    *,
    seed: Seed,
    tolerance: float = 1e-5,
    max_products: int = 1000,
    exact: bool | None = None,
    across: ArrayLike | None = None,
    share: float = 0.0,
) -> Curvatures:
    """Return the lowest eigenvalues of the Hessian at each of many points.

    Parameters
    ----------
    landscape
        Any.
    points
        Shape (m, dimension).
    k
        Number of eigenvalues, at most `dimension`.
    seed
        Of the first vectors: a whole number or a numpy Generator. They are the same at all points.
    tolerance
        A point is done when its residuals are below this, relative to its eigenvalue of largest size.
    max_products
        Products of the Hessian with a vector, at each point; what has not converged then has larger residuals.
    exact
        True: all eigenvalues from the full matrix (dimension products and dimension^3 operations a point); None: so
        up to 300 dimensions; False: never.
    across
        For each point a unit direction (m, dimension): curvatures are those of the loss on the plane across it, of
        one dimension less. The j-th is no less than the j-th and no more than the (j + 1)-th of the whole (Cauchy).
    share
        A point is done also when each residual is below this share of its eigenvalue: a half tells the sign.

    Returns
    -------
    Curvatures
        In ascending order. NaN where the Hessian is not finite. ``landscape.restricted_to(points[0], vectors[0])`` is
        the landscape along the eigenvectors at the first point, which can be sampled.

    Notes
    -----
    Block Lanczos with full reorthogonalisation and blocks of k vectors, so that multiple eigenvalues are found;
    restarted with the best half of the basis when it fills its memory (Wu and Simon 2000, "Thick-restart Lanczos";
    Stewart 2001, "A Krylov-Schur algorithm"). All points that are not done share each call for products. A Ritz value
    is never below the true eigenvalue, but for rounding.

    Examples
    --------
    >>> saddle = Landscape.from_function(lambda x: (x**2).sum(1) - 3 * x[:, 0] ** 2, 4)
    >>> curvatures = lowest_curvatures(saddle, [[0.0, 0.0, 0.0, 0.0]], 2, seed=0)
    >>> curvatures.values.round(6).tolist()
    [[-4.0, 2.0]]
    """
    return _ends(landscape, points, k, 1.0, seed, tolerance, max_products, exact, across, share)


def highest_curvatures(
    landscape: Landscape,
    points: ArrayLike,
    k: int = 1,
    *,
    seed: Seed,
    tolerance: float = 1e-5,
    max_products: int = 1000,
    exact: bool | None = None,
) -> Curvatures:
    """Return the highest eigenvalues of the Hessian at each of many points.

    Parameters
    ----------
    landscape, points, k, seed, tolerance, max_products, exact
        As for `lowest_curvatures`.

    Returns
    -------
    Curvatures
        In descending order.

    Examples
    --------
    >>> bowl = Landscape.from_function(lambda x: x[:, 0] ** 2 + 5 * x[:, 1] ** 2, 2)
    >>> highest_curvatures(bowl, [[0.0, 0.0]], seed=0).values.round(6).tolist()
    [[10.0]]
    """
    return _ends(landscape, points, k, -1.0, seed, tolerance, max_products, exact)


def hessians(landscape: Landscape, points: ArrayLike) -> Floats:
    """Return the full Hessian at each of many points, by products with all unit vectors.

    Parameters
    ----------
    landscape
        Any.
    points
        Shape (m, dimension).

    Returns
    -------
    float64 array
        Symmetric matrices, shape (m, dimension, dimension).

    Examples
    --------
    >>> hessians(Landscape.from_function(lambda x: x[:, 0] * x[:, 1], 2), [[3.0, 4.0]]).tolist()
    [[[0.0, 1.0], [1.0, 0.0]]]
    """
    rows = read_points(points, landscape.dimension, empty=True)
    m, p = rows.shape
    matrices = np.empty((m * p, p))
    for start in range(0, m * p, _ROWS):
        which = np.arange(start, min(start + _ROWS, m * p))
        vectors = np.zeros((len(which), p))
        vectors[np.arange(len(which)), which % p] = 1.0
        matrices[which] = landscape.hessian_products(rows[which // p], vectors, progress=False)
    whole = matrices.reshape(m, p, p)
    return (whole + whole.transpose(0, 2, 1)) / 2


def hessian_operator(landscape: Landscape, point: ArrayLike) -> Any:
    """Return the Hessian at a point for the solvers of scipy, which need its products only.

    Parameters
    ----------
    landscape
        Any.
    point
        Shape (dimension,).

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        Symmetric, float64, shape (dimension, dimension).

    Examples
    --------
    >>> from scipy.sparse.linalg import eigsh
    >>> landscape = Landscape.from_function(lambda x: (x**4).sum(1), 3)
    >>> operator = hessian_operator(landscape, [1.0, 2.0, 3.0])
    >>> eigsh(operator, k=1, which="LA", return_eigenvectors=False).round(6).tolist()
    [108.0]
    """
    from scipy.sparse.linalg import LinearOperator

    at = read_point(point, landscape.dimension, "point").copy()

    def columns(matrix: Floats) -> Floats:
        return landscape.hessian_products(at, matrix.T, progress=False).T

    return LinearOperator(
        shape=(landscape.dimension, landscape.dimension),
        dtype=np.float64,
        matvec=lambda vector: columns(np.reshape(vector, (-1, 1)))[:, 0],
        rmatvec=lambda vector: columns(np.reshape(vector, (-1, 1)))[:, 0],
        matmat=columns,
        rmatmat=columns,
    )


# --------------------------------------------------------------------------------------------------------------
# Either end of the spectrum
# --------------------------------------------------------------------------------------------------------------


def _ends(
    landscape: Landscape,
    points: ArrayLike,
    k: int,
    sign: float,
    seed: Seed,
    tolerance: float,
    max_products: int,
    exact: bool | None,
    across: ArrayLike | None = None,
    share: float = 0.0,
) -> Curvatures:
    """Return the lowest eigenvalues of `sign` times the Hessians, times `sign`."""
    rows = read_points(points, landscape.dimension, "points")
    p = landscape.dimension
    normals = np.empty((len(rows), 0, p)) if across is None else read_points(across, p, "across")[:, None]
    if len(normals) != len(rows):
        raise ValueError(f"across has {len(normals)} directions, points {len(rows)}; each point needs one.")
    free = p - normals.shape[1]
    if whole_number(k, "k") > free:
        raise ValueError(f"k is {k}; there are {free} dimensions, with as many curvatures at a point. Ask for fewer.")
    if not tolerance > 0:
        raise ValueError(f"tolerance is {tolerance}; it needs to be above 0.")
    whole_number(max_products, "max_products")
    multiply = _across(landscape, rows, normals, 1.0)
    if exact or (exact is None and p <= DENSE):
        vectors = np.full((len(rows), k, p), np.nan)
        together = max(1, _BASIS // p**2)
        for start in range(0, len(rows), together):
            matrices = sign * hessians(landscape, rows[start : start + together])
            finite = np.isfinite(matrices).all(axis=(1, 2))
            known = _lowest_of(matrices[finite], normals[start : start + together][finite], k)
            vectors[start : start + together][finite] = known
    else:
        block = np.random.default_rng(seed).standard_normal((k, p))
        first = projected(np.broadcast_to(block, (len(rows), k, p)), normals)
        vectors = _block_lanczos(landscape, rows, normals, sign, first, tolerance, max_products, share).vectors
    known = np.isfinite(vectors).all(axis=(1, 2))
    products = np.full(vectors.shape, np.nan)
    products[known] = multiply(known, vectors[known])
    values = np.einsum("mkp,mkp->mk", vectors, products)
    residuals = np.linalg.norm(products - values[:, :, None] * vectors, axis=2)
    order = np.argsort(sign * values, axis=1, kind="stable")
    return Curvatures(
        np.take_along_axis(values, order, 1),
        np.take_along_axis(vectors, order[:, :, None], 1),
        np.take_along_axis(residuals, order, 1),
    )


def _lowest_of(matrices: Floats, normals: Floats, k: int) -> Floats:
    """Return the k lowest eigenvectors (m, k, p) of symmetric matrices, restricted to what is across the normals."""
    if normals.shape[1]:
        # The normals become eigenvectors of the highest eigenvalue.
        matrices = projected(projected(matrices, normals).transpose(0, 2, 1), normals)
        beyond = np.linalg.norm(matrices, axis=(1, 2))[:, None, None] + 1
        matrices = matrices + beyond * normals.transpose(0, 2, 1) * normals
    return np.linalg.eigh(matrices)[1].transpose(0, 2, 1)[:, :k]


def multiplier(landscape: Landscape, points: Floats) -> Multiply:
    """Return the products of b vectors at each point with the Hessian there, asked for in one call."""

    def multiply(at: Any, blocks: Floats) -> Floats:
        b, p = blocks.shape[1:]
        rows = points[at] if b == 1 else np.repeat(points[at], b, axis=0)
        return landscape.hessian_products(rows, blocks.reshape(-1, p), progress=False).reshape(blocks.shape)

    return multiply


def _across(landscape: Landscape, points: Floats, normals: Floats, sign: float) -> Multiply:
    """Return the products with `sign` times the Hessians, restricted to what is across the normals."""
    whole = multiplier(landscape, points)
    if sign == 1 and normals.shape[1] == 0:
        return whole
    return lambda at, blocks: sign * projected(whole(at, blocks), normals[at])


class _Found(NamedTuple):
    """Orthonormal vectors (m, k, p)."""

    vectors: Floats


@resumable(_Found)
def _block_lanczos(
    landscape: Landscape,
    halfway: Halfway,
    points: Floats,
    normals: Floats,
    sign: float,
    first: Floats,
    tolerance: float,
    max_products: int,
    share: float,
) -> _Found:
    """Return vectors near the k lowest eigenvectors of `sign` times the Hessians, from first blocks (m, k, p).

    The blocks, and what is made of them, are across the normals (m, j, p).
    """
    multiply = _across(landscape, points, normals, sign)
    m, k, p = first.shape
    free = p - normals.shape[1]
    capacity = min(free, max(max_products, 4 * k), max(_BASIS // (m * p), 4 * k))
    # Both grow, since few points need it all: the basis, and the lower triangle of the Hessian in it.
    basis = np.linalg.qr(first.transpose(0, 2, 1))[0].transpose(0, 2, 1).copy()
    small = np.zeros((m, 0, 0))
    found = np.full((m, k, p), np.nan)
    going = np.arange(m)
    # The Hessian takes the newest block, from `start`, to itself, the one before it, from `near`, and what is ahead.
    near, start, size, spent, checked, restarted = 0, 0, k, 0, 0, False
    if state := halfway.known:
        going, found = state["going"], state["found"]
        near, start, size, spent, checked = (int(number) for number in state["numbers"])
        restarted = bool(state["restarted"])
        basis, small = np.array(state["basis"]), np.array(state["small"])

    def now() -> Arrays:
        return {
            "going": going,
            "found": found,
            "numbers": np.array([near, start, size, spent, checked]),
            "restarted": np.array(restarted),
            "basis": basis[:, :size],
            "small": small[:, :size, :size],
        }

    while len(going):
        halfway.offer(now)
        products = multiply(going, basis[:, start:size])
        spent += size - start
        finite = are_finite(products).all(axis=1)
        if not finite.all():
            going, products, basis, small = going[finite], products[finite], basis[finite], small[finite]
            if len(going) == 0:
                break
        within, ahead, coupling = orthonormal(products, basis, size, near)
        if size > small.shape[1]:
            more = min(capacity, 2 * size) - small.shape[1]
            small = np.pad(small, ((0, 0), (0, more), (0, more)))
        small[:, start:size, :size] = within
        last = spent >= max_products or size == free
        full = not last and capacity < free and size + k > capacity
        banded = size > k and not (full or restarted)
        # Eigenvalues of the small matrices cost little, if they are not asked for at every size.
        if last or full or size >= (1.1 if k == 1 else 1.2) * checked + k:
            checked = size
            square = small[:, :size, :size]
            values, parts = _outermost(square, k) if banded else np.linalg.eigh(square, "L")
            residuals = np.linalg.norm(np.matmul(coupling.transpose(0, 2, 1), parts[:, start:size, :k]), axis=1)
            small_enough = np.maximum(
                tolerance * np.abs(values).max(axis=1, keepdims=True), share * np.abs(values[:, :k])
            )
            done = last | (residuals <= small_enough).all(axis=1)
            # One by one, since products of stacks would copy the bases first.
            for row in np.flatnonzero(done).tolist():
                found[going[row]] = parts[row, :, :k].T @ basis[row, :size]
            left = np.flatnonzero(~done)
            if full and len(left):
                kept = k + (size - k) // 2
                for place, row in enumerate(left.tolist()):
                    basis[place, :kept] = parts[row, :, :kept].T @ basis[row, :size]
                small = values[left, :kept, None] * np.eye(kept)
                size, checked, restarted = kept, 0, True
            else:
                # The last points take the places of those that are done: to copy all would cost more than the products.
                holes, fillers = np.flatnonzero(done[: len(left)]), left[left >= len(left)]
                left = np.arange(len(left))
                left[holes] = fillers
                for place, row in zip(holes.tolist(), fillers.tolist(), strict=True):
                    basis[place, :size], small[place, :size, :size] = basis[row, :size], small[row, :size, :size]
            going, ahead = going[left], ahead[left]
            basis, small = basis[: len(left)], small[: len(left)]
        # What was kept at a restart is coupled to the block that follows it.
        near, start, size = (0 if full and len(left) else start), size, min(size + k, capacity)
        if size > basis.shape[1]:
            wider = np.empty((len(going), min(capacity, 2 * size + _ROOM), p))
            wider[:, :start] = basis[:, :start]
            basis = wider
        basis[:, start:size] = ahead[:, : size - start]
    return _Found(found)


def _outermost(matrices: Floats, k: int) -> tuple[Floats, Floats]:
    """Return the k lowest and the highest eigenvalue (c, k + 1) of matrices with k diagonals on either side, ascending.

    Diagonals above the main one are not read. And the lowest eigenvectors (c, n, k). A tenth of the time of all of
    them, at a size of 200, and on one core. The highest eigenvalue is that of the first rows: Krylov spaces soon know
    it, and no more than its size is asked for.
    """
    c, n = matrices.shape[:2]
    values, vectors = np.empty((c, k + 1)), np.empty((c, n, k))
    first = min(n, _FIRST)
    for row, matrix in enumerate(matrices):
        if k == 1:
            # What scipy.linalg.eigh_tridiagonal calls, which itself takes longer.
            diagonal, beside = np.diagonal(matrix), np.diagonal(matrix, -1)
            _, lowest, block, split, _ = dstebz(diagonal, beside, 2, 0.0, 1.0, 1, 1, 0.0, "B")
            values[row, :1], vectors[row] = lowest[:1], dstein(diagonal, beside, lowest[:1], block, split)[0]
            values[row, 1] = dstebz(diagonal[:first], beside[: first - 1], 2, 0.0, 1.0, first, first, 0.0, "B")[1][0]
        else:
            bands = np.zeros((k + 1, n))
            for j in range(k + 1):
                bands[j, : n - j] = np.diagonal(matrix, -j)
            values[row, k:] = _values_of_bands(bands[:, :first], first, first)
            values[row, :k] = _values_of_bands(bands, 1, k)
            vectors[row] = _eigenvectors_of_bands(bands, values[row, :k], np.abs(values[row]).max())
    return values, vectors


def _values_of_bands(bands: Floats, lowest: int, highest: int) -> Floats:
    """Return the eigenvalues from the `lowest` to the `highest`, counted from 1: what `eigvals_banded` calls."""
    found = dsbevx(bands, 0.0, 1.0, lowest, highest, compute_v=0, range=2, lower=1)[0]
    return found[: highest - lowest + 1]


def _eigenvectors_of_bands(bands: Floats, values: Floats, scale: float) -> Floats:
    """Return orthonormal vectors (n, k) that belong to eigenvalues of a matrix, of which the lower diagonals are given.

    By inverse iteration, twice for each: LAPACK's own reduction to three diagonals would take most of the time, since
    it keeps the n x n rotations.
    """
    k, n = len(bands) - 1, bands.shape[1]
    whole = np.zeros((3 * k + 1, n))  # as LAPACK wants it: with room for pivots above the 2 k + 1 diagonals
    for j in range(k + 1):
        whole[2 * k + j, : n - j] = bands[j, : n - j]
        whole[2 * k - j, j:] = bands[j, : n - j]
    vectors = np.cos(np.arange(1, n + 1)[:, None] * np.arange(1, len(values) + 1))  # any that are independent
    for place, value in enumerate(values):
        shifted = whole.copy()
        shifted[2 * k] -= value - 1e-15 * scale  # never singular
        factors, pivots, _ = dgbtrf(shifted, k, k, overwrite_ab=True)
        for _ in range(2):
            vectors[:, place] = dgbtrs(factors, k, k, vectors[:, place], pivots)[0]
            vectors[:, place] /= np.linalg.norm(vectors[:, place])
    return np.linalg.qr(vectors)[0]


def projected(vectors: Floats, basis: Floats) -> Floats:
    """Return vectors (..., b, p) less their parts along orthonormal bases (..., j, p)."""
    if basis.shape[-2] == 0:
        return vectors
    return vectors - np.matmul(np.matmul(vectors, basis.swapaxes(-1, -2)), basis)
