"""Discrete gradient fields: lower stars of a grid, apparent pairs of an explicit complex.

A pair is a cell and one of its facets that enter at the same value, so passing to the critical cells changes no bar
of positive length. On a grid every vertex pairs the cells that enter with it among themselves (Robins, Wood and
Sheppard 2011), whatever the other vertices do; so threads share out the vertices. On an explicit complex, where
simplices need not enter with a vertex, a simplex and the last of its facets are paired where that facet's first
cofacet is the simplex again (apparent pairs, Bauer 2021).
"""

from __future__ import annotations

from itertools import combinations, product
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.structures import (
    CRITICAL,
    NEVER,
    FaceTable,
    FilteredComplex,
    GradientField,
    GridComplex,
    Integers,
    SimplicialComplex,
    total_order,
)
from topolandscape.topology.threads import shared_out

LARGEST_GRID = 4  # dimensions


class Cells(NamedTuple):
    """All cells of a complex, as compiled code needs them: those of a grid by its shape, others by their facets."""

    shape: Integers  # of the cells of a grid, axes of one vertex left out; empty: no grid
    strides: Integers
    starts: Integers  # facets[starts[c]:starts[c + 1]] are those of cell c; empty: a grid
    facets: Integers
    signs: NDArray[np.int8]  # incidence of each facet
    widest: int  # most facets of a cell


def cells_of(complex: FilteredComplex) -> Cells:
    """Return the cells of a complex, numbered as in GradientField."""
    none = np.zeros(0, dtype=np.int64)
    if isinstance(complex, GridComplex):
        shape = np.array([2 * n - 1 for n in complex.grid.shape if n > 1], dtype=np.int64)
        return Cells(shape, np.append(np.cumprod(shape[:0:-1])[::-1], 1), none, none, none.astype(np.int8), 8)
    table = FaceTable(complex.simplices)
    first = np.cumsum([0, *map(len, complex.simplices)])
    facets, signs = [none], [none.astype(np.int8)]
    for k in range(1, complex.dimension + 1):
        rows = complex.simplices[k]
        sides = [np.delete(rows, i, axis=1) for i in range(k + 1)]
        facets.append(first[k - 1] + np.column_stack([table.rows(side) for side in sides]).reshape(-1))
        signs.append(np.tile((-1) ** np.arange(k + 1), len(rows)).astype(np.int8))
    sizes = np.repeat([0, *range(2, complex.dimension + 2)], [len(s) for s in complex.simplices])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Cells(none, none, starts, np.concatenate(facets), np.concatenate(signs), complex.dimension + 1)


def lower_star_field(complex: GridComplex, cells: Cells) -> GradientField:
    """Return the field of a grid of cubes, every vertex for itself."""
    if complex.connectivity != "axis":
        raise ValueError(
            f'the connectivity is "{complex.connectivity}"; a gradient field is made on the cubes of a grid, '
            'connectivity="axis", or on an explicit complex, such as freudenthal(grid).'
        )
    if len(cells.shape) > LARGEST_GRID:
        raise ValueError(
            f"the grid extends along {len(cells.shape)} axes; a gradient field is made up to {LARGEST_GRID}. Use "
            "engine='gudhi'."
        )
    sides = (cells.shape + 1) // 2
    partner = np.full(int(np.prod(cells.shape)), NEVER, dtype=np.uint8)
    shared_out(_pair_lower_stars, complex.grid.size, complex.vertex_values, sides, cells, _star(cells, sides), partner)
    partner.flags.writeable = False
    return GradientField(complex, partner, complex.provenance)


def apparent_field(complex: SimplicialComplex, cells: Cells) -> GradientField:
    """Return the apparent pairs of an explicit complex that enter at one value: pairs of its total order."""
    values = np.concatenate(complex.values)
    order = total_order(complex)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    simplices = np.flatnonzero(np.diff(cells.starts))
    partner = np.where(np.isfinite(values), np.arange(len(values)), -1)
    if len(simplices):
        last = order[np.maximum.reduceat(rank[cells.facets], cells.starts[simplices])]
        owners = np.repeat(simplices, np.diff(cells.starts)[simplices])
        first = np.full(len(values), len(values))
        np.minimum.at(first, cells.facets, rank[owners])
        paired = (rank[simplices] == first[last]) & (values[simplices] == values[last]) & (partner[last] >= 0)
        larger, smaller = simplices[paired], last[paired]
        partner[larger], partner[smaller] = smaller, larger
    return GradientField(complex, partner, complex.provenance)


class _Star(NamedTuple):
    """The cells around a vertex but itself, by the offsets of their centres; edges first, then squares, and so on."""

    offsets: Integers  # (m, d)
    facets: Integers  # (m, d) those that contain the vertex, -1 to fill up; none for edges
    cofacets: Integers  # (m, 2 d)
    faces: Integers  # (m, 2^d) all faces that contain the vertex, itself among them
    sizes: Integers  # (m,) dimensions
    vertices: Integers  # (m,) how far the opposite corner is, in vertices
    cells: Integers  # (m,) how far the centre is, in cells


def _star(cells: Cells, sides: Integers) -> _Star:
    dimension = len(sides)
    listed = [o for o in product((-1, 0, 1), repeat=dimension) if any(o)]
    listed.sort(key=lambda o: sum(map(abs, o)))
    number = {o: i for i, o in enumerate(listed)}
    facets = np.full((len(listed), dimension), -1)
    cofacets = np.full((len(listed), 2 * dimension), -1)
    faces = np.full((len(listed), 2**dimension), -1)
    for i, o in enumerate(listed):
        axes = [axis for axis in range(dimension) if o[axis]]
        left_out = [left for size in range(len(axes)) for left in combinations(axes, size)]
        below = [tuple(0 if axis in left else o[axis] for axis in range(dimension)) for left in left_out]
        faces[i, : len(below)] = [number[face] for face in below]
        smaller = [face for face in below if sum(map(abs, face)) == len(axes) - 1]
        facets[i, : len(smaller)] = [number[face] for face in smaller]
        for facet in smaller:
            row = cofacets[number[facet]]
            row[np.argmin(row)] = i
    offsets = np.array(listed)
    between = np.append(np.cumprod(sides[:0:-1])[::-1], 1)
    sizes = np.abs(offsets).sum(axis=1)
    return _Star(offsets, facets, cofacets, faces, sizes, offsets @ between, offsets @ cells.strides)


# --------------------------------------------------------------------------------------------------------------
# Compiled: cells and partners
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True, inline="always")
def facets_into(cells, cell, found, signs):  # type: ignore[no-untyped-def]
    """Write the facets of a cell and their incidences, and return how many there are."""
    count = 0
    if cells.starts.size:
        for i in range(cells.starts[cell], cells.starts[cell + 1]):
            found[count] = cells.facets[i]
            signs[count] = cells.signs[i]
            count += 1
        return count
    rest = cell
    sign = 1
    for axis in range(cells.shape.size):
        stride = cells.strides[axis]
        position = rest // stride
        rest -= position * stride
        if position & 1:
            found[count], found[count + 1] = cell + stride, cell - stride
            signs[count], signs[count + 1] = sign, -sign
            sign = -sign
            count += 2
    return count


@njit(cache=True, inline="always")
def step(cells, code):  # type: ignore[no-untyped-def]
    """Return how far the partner is in a grid."""
    stride = cells.strides[(code >> 1) & 3]
    return stride if code & 1 else -stride


@njit(cache=True, inline="always")
def above(cells, partner, cell):  # type: ignore[no-untyped-def]
    """Return the partner of a cell where it is the larger one, else -1."""
    code = partner[cell]
    if cells.starts.size:
        # A cofacet has a larger number.
        return code if code > cell else -1
    if code >= CRITICAL or not code & 8:
        return -1
    return cell + step(cells, code)


@njit(cache=True, inline="always")
def is_critical(cells, partner, cell):  # type: ignore[no-untyped-def]
    """Return whether a cell is critical."""
    return partner[cell] == cell if cells.starts.size else partner[cell] == CRITICAL


@njit(cache=True)
def join(cells, partner, smaller, larger):  # type: ignore[no-untyped-def]
    """Make a cell and its facet partners."""
    if cells.starts.size:
        partner[smaller], partner[larger] = larger, smaller
        return
    gap = abs(larger - smaller)
    axis = 0
    while cells.strides[axis] != gap:
        axis += 1
    upwards = larger > smaller
    partner[smaller] = 8 + 2 * axis + upwards
    partner[larger] = 2 * axis + (not upwards)


# --------------------------------------------------------------------------------------------------------------
# Compiled: lower stars
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _pair_lower_stars(first, last, values, sides, cells, star, partner):  # type: ignore[no-untyped-def]
    """Pair the cells of the lower stars of vertices first to last among themselves.

    Cells of a star are taken in the order of their vertices, the highest first: the order of the bits of one number
    a cell, in which each neighbour's bit stands at its rank.
    """
    axes, m = sides.size, len(star.sizes)
    place = np.full(m, -1, dtype=np.int64)  # of a cell of the star in `order`; -1: not in the lower star
    member = np.empty(m, dtype=np.int64)
    order = np.empty(m, dtype=np.int64)
    rank = np.empty(m, dtype=np.int64)
    high = np.zeros(m, dtype=np.uint64)
    low = np.zeros(m, dtype=np.uint64)
    left = np.empty(m, dtype=np.int64)  # facets that are not settled
    settled = np.empty(m, dtype=np.bool_)
    position = np.empty(axes, dtype=np.int64)
    rest = first
    for axis in range(axes - 1, -1, -1):
        position[axis] = rest % sides[axis]
        rest //= sides[axis]
    for vertex in range(first, last):
        value = values[vertex]
        count = 0
        if value < np.inf:
            # Which cells enter with the vertex: an edge with its other end, another cell with its facets and corner.
            for cell in range(m):
                inside = True
                if cell < 2 * axes:
                    for axis in range(axes):
                        moved = position[axis] + star.offsets[cell, axis]
                        inside &= (moved >= 0) & (moved < sides[axis])
                else:
                    for i in range(star.sizes[cell]):
                        inside &= place[star.facets[cell, i]] >= 0
                if inside:
                    other = vertex + star.vertices[cell]
                    if values[other] < value or (values[other] == value and other < vertex):
                        place[cell] = count
                        member[count] = cell
                        count += 1
            base = np.int64(0)
            for axis in range(axes):
                base += 2 * position[axis] * cells.strides[axis]
            if count == 0:
                partner[base] = CRITICAL
            else:
                _order_star(vertex, count, values, star, member, order, rank, high, low)
                for i in range(count):
                    cell = order[i]
                    place[cell] = i
                    left[i] = star.sizes[cell] if star.sizes[cell] > 1 else 0
                    settled[i] = False
                _match(cells, partner, base, count, order, place, left, settled, star)
                for i in range(count):
                    place[order[i]] = -1
        for axis in range(axes - 1, -1, -1):
            position[axis] += 1
            if position[axis] < sides[axis]:
                break
            position[axis] = 0


@njit(cache=True, nogil=True)
def _order_star(vertex, count, values, star, member, order, rank, high, low):  # type: ignore[no-untyped-def]
    """Sort the members of a lower star by their vertices, the highest first."""
    one = np.uint64(1)
    for i in range(count):  # every member has a corner of its own: rank the corners
        cell = member[i]
        other = vertex + star.vertices[cell]
        j = i
        while j > 0:
            before = vertex + star.vertices[order[j - 1]]
            if values[before] < values[other] or (values[before] == values[other] and before < other):
                break
            order[j] = order[j - 1]
            j -= 1
        order[j] = cell
    for i in range(count):
        rank[order[i]] = i
    for i in range(count):
        cell = member[i]
        high[cell] = 0
        low[cell] = 0
        for face in star.faces[cell]:
            if face < 0:
                break
            bit = rank[face]
            if bit < 64:
                low[cell] |= one << np.uint64(bit)
            else:
                high[cell] |= one << np.uint64(bit - 64)
    for i in range(count):
        cell = member[i]
        j = i
        while j > 0:
            before = order[j - 1]
            if high[before] < high[cell] or (high[before] == high[cell] and low[before] < low[cell]):
                break
            order[j] = before
            j -= 1
        order[j] = cell


@njit(cache=True, nogil=True)
def _match(cells, partner, base, count, order, place, left, settled, star):  # type: ignore[no-untyped-def]
    """Pair the vertex with its steepest edge, then every cell that has one free facet with it, in order.

    Where no cell has just one, the first that has none is critical.
    """
    steepest = order[0]
    join(cells, partner, base, base + star.cells[steepest])
    _settle(0, order, place, left, settled, star)
    remaining = count - 1
    while remaining:
        chosen = -1
        free = -1
        for i in range(count):
            if not settled[i]:
                if left[i] == 1:
                    chosen = i
                    break
                if left[i] == 0 and free < 0:
                    free = i
        if chosen < 0:
            partner[base + star.cells[order[free]]] = CRITICAL
            _settle(free, order, place, left, settled, star)
            remaining -= 1
            continue
        cell = order[chosen]
        for i in range(star.sizes[cell]):
            facet = place[star.facets[cell, i]]
            if not settled[facet]:
                join(cells, partner, base + star.cells[order[facet]], base + star.cells[cell])
                _settle(facet, order, place, left, settled, star)
                break
        _settle(chosen, order, place, left, settled, star)
        remaining -= 2


@njit(cache=True, nogil=True)
def _settle(i, order, place, left, settled, star):  # type: ignore[no-untyped-def]
    settled[i] = True
    for cofacet in star.cofacets[order[i]]:
        if cofacet >= 0 and place[cofacet] >= 0:
            left[place[cofacet]] -= 1
