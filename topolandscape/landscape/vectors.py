"""Vectors of many points at once: what steps need of them, compiled, without copies of the rows that are meant."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.landscape.workers import by_threads
from topolandscape.structures import Floats

# Rounds in which a vector is made orthogonal to others, at most.
_ROUNDS = 5


def dot(one: Floats, other: Floats) -> Floats:
    """Return the inner products of vectors (..., p)."""
    return np.einsum("...p,...p->...", one, other)


def norm(vectors: Floats) -> Floats:
    """Return the lengths of vectors (..., p), without room for their squares.

    Examples
    --------
    >>> norm(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [5.0, 0.0]
    """
    return np.sqrt(dot(vectors, vectors))


def are_finite(vectors: Floats, largest: float = math.inf) -> NDArray[np.bool_]:
    """Return which of vectors (..., p) have entries below a size only, that are numbers.

    Examples
    --------
    >>> are_finite(np.array([[1.0, 2.0], [np.nan, 0.0], [-np.inf, np.inf]])).tolist()
    [True, False, False]
    """
    finite = np.empty(vectors.shape[:-1], dtype=np.bool_)
    _are_finite(np.ascontiguousarray(vectors).reshape(-1, vectors.shape[-1]), largest, finite.reshape(-1))
    return finite


def orthonormal(vectors: Floats, basis: Floats, size: int, near: int = 0) -> tuple[Floats, Floats, Floats]:
    """Return orthonormal blocks that are orthogonal to bases and, with these, span what vectors span.

    Parameters
    ----------
    vectors
        Shape (c, b, p).
    basis
        Orthonormal in the first `size` places, shape (c, size or more, p), contiguous.
    size
        Vectors of each basis.
    near
        Place of the basis before which the vectors are known to have coordinates of the size of rounding only.

    Returns
    -------
    tuple of float64 arrays
        The vectors' coordinates in the basis (c, b, size), zero before `near`; the blocks (c, b, p); and the
        coordinates in these of what of the vectors is outside of the basis (c, b, b). Where the vectors span less than
        b dimensions, rounding completes the block; where no dimension is left at all, zeros may.

    Notes
    -----
    Gram and Schmidt's method done twice, which is enough (Kahan; Parlett 1980), and again where next to nothing is left
    of a vector. The first time it is done with what is near only, the second time with all of the basis.

    Examples
    --------
    >>> within, block, outside = orthonormal(np.array([[[3.0, 4.0]]]), np.array([[[1.0, 0.0]]]), 1)
    >>> within.tolist(), block.tolist(), outside.tolist()
    ([[[3.0]]], [[[0.0, 1.0]]], [[[4.0]]])
    """
    c, b, p = vectors.shape
    block = np.array(vectors, dtype=np.float64, order="C")
    within, outside = np.zeros((c, b, size)), np.zeros((c, b, b))

    def work(part: slice) -> None:
        _orthonormal(block[part], basis[part], size, near, within[part], outside[part])

    by_threads(c, work, numbers=c * b * size * p)
    return within, block, outside


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def inner_product(one, other):  # type: ignore[no-untyped-def]
    """Return the inner product of two vectors, in compiled loops."""
    total = 0.0
    for i in range(len(one)):
        total += one[i] * other[i]
    return total


@njit(cache=True, nogil=True)
def length_of(vector):  # type: ignore[no-untyped-def]
    """Return the length of a vector, in compiled loops."""
    return math.sqrt(inner_product(vector, vector))


@njit(cache=True, nogil=True, fastmath={"contract"})
def add_multiple(vector, factor, other):  # type: ignore[no-untyped-def]
    """Add a multiple of another vector to a vector, without room for the multiple."""
    for i in range(len(vector)):
        vector[i] += factor * other[i]


@njit(cache=True, nogil=True)
def remove(vectors, units):  # type: ignore[no-untyped-def]
    """Take from vectors (m, p) what they have along unit vectors, and return how much that was."""
    along = np.empty(len(vectors))
    for row in range(len(vectors)):
        along[row] = inner_product(vectors[row], units[row])
        add_multiple(vectors[row], -along[row], units[row])
    return along


@njit(cache=True, nogil=True)
def _are_finite(vectors, largest, finite):  # type: ignore[no-untyped-def]
    for row in range(len(vectors)):
        within = True
        for i in range(vectors.shape[1]):
            within &= abs(vectors[row, i]) < largest
        finite[row] = within


@njit(cache=True, nogil=True)
def _remove_all(block, basis, size, within):  # type: ignore[no-untyped-def]
    """Take from a block of vectors what they have along a basis, and write down how much that was.

    Four vectors of the basis at a time, which stay in the cache until all of the block has been rid of them.
    """
    for first in range(0, size - 3, 4):
        for row in range(len(block)):
            _remove_four(block[row], basis[first : first + 4], within[row, first : first + 4])
    for place in range(size - size % 4, size):
        for row in range(len(block)):
            within[row, place] = inner_product(block[row], basis[place])
            add_multiple(block[row], -within[row, place], basis[place])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _remove_four(vector, units, along):  # type: ignore[no-untyped-def]
    one, two, three, four = units[0], units[1], units[2], units[3]
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for i in range(len(vector)):
        a += vector[i] * one[i]
        b += vector[i] * two[i]
        c += vector[i] * three[i]
        d += vector[i] * four[i]
    for i in range(len(vector)):
        vector[i] -= a * one[i] + b * two[i] + c * three[i] + d * four[i]
    along[0], along[1], along[2], along[3] = a, b, c, d


@njit(cache=True, nogil=True)
def _orthonormal(blocks, bases, size, near, within, outside):  # type: ignore[no-untyped-def]
    b, p = blocks.shape[1:]
    rounding = np.empty((b, max(size, b)))
    lengths = np.empty(b)
    for point in range(len(blocks)):
        block, basis = blocks[point], bases[point]
        _remove_all(block, basis[near:], size - near, within[point, :, near:])
        for row in range(b):
            lengths[row] = length_of(block[row])
        _remove_all(block, basis, size, rounding)
        for row in range(b):
            vector = block[row]
            for _ in range(2):
                _remove_all(block[row : row + 1], block, row, rounding)
                for before in range(row):
                    outside[point, row, before] += rounding[0, before]
            length = length_of(vector)
            outside[point, row, row] = length
            left = length / lengths[row] if lengths[row] > 0 else 0.0
            # What is nearly dependent loses its direction as it is made longer.
            for _ in range(_ROUNDS):
                if left > 0.5:
                    break
                if length > 0:
                    for i in range(p):
                        vector[i] /= length
                else:
                    for i in range(p):
                        vector[i] = math.cos(1.0 + (row + 1) * i)
                long = length_of(vector)
                _remove_all(block[row : row + 1], basis, size, rounding)
                _remove_all(block[row : row + 1], block, row, rounding)
                length = length_of(vector)
                left = length / long
            if length > 0:
                for i in range(p):
                    vector[i] /= length
