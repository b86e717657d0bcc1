"""V-paths of a discrete gradient field: where they lead, how many there are, and what they pass.

A V-path goes from a cell to one of its facets, up to that facet's partner, down to another facet, and so on (Forman
1998). From edges down to vertices, and from cells of dimension d - 1 up to those of dimension d where no more than two
of these meet, as in a grid, a path never branches: then one sweep says for all cells where they end. Elsewhere paths
branch and meet, and are counted from every critical cell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.structures import CRITICAL, NEVER, GradientField, GridComplex, Integers, SimplicialComplex
from topolandscape.topology.branching import count_paths
from topolandscape.topology.critical import Critical
from topolandscape.topology.gradient import Cells, above, cells_of, facets_into, is_critical, step
from topolandscape.topology.threads import shared_out

_NEVER = int(NEVER)


class Arcs(NamedTuple):
    """Rows higher and lower, the number of V-paths, and their sum with orientation, by (higher, lower)."""

    higher: Integers
    lower: Integers
    number: Integers
    signed: Integers


def lower_ends(field: GradientField) -> Integers:
    """Return for each vertex the critical vertex at which its V-path ends, (n,); -1 where the loss is +inf."""
    partner, complex = field.partner, field.complex
    if isinstance(complex, GridComplex):
        cells = cells_of(complex)
        sides = (cells.shape + 1) // 2
        ends = np.empty(complex.grid.size, dtype=_integer(complex.grid.size))
        shared_out(_below_vertices, complex.grid.size, partner, sides, 2 * cells.strides, _strides(sides), ends)
    else:
        n = len(complex.vertex_values)
        ends = np.minimum(partner[:n], np.arange(n))
        paired = np.flatnonzero(partner[:n] >= n)
        if len(paired):
            edges = complex.simplices[1][partner[paired] - n]
            ends[paired] = edges.sum(axis=1) - paired
    _follow(ends)
    return ends


def upper_ends(field: GradientField) -> Integers:
    """Return for each top cell the critical one at which its path up ends, -1 where that is outside.

    A top cell of a grid is numbered by its lowest corner, row-major among the corners; -1 also for cells that never
    enter.
    """
    if isinstance(field.complex, SimplicialComplex):
        return _listed_upper_ends(field, field.complex)
    cells = cells_of(field.complex)
    sides = cells.shape // 2
    ends = np.empty(int(np.prod(sides)), dtype=_integer(int(np.prod(sides))))
    origin = int(cells.strides.sum())
    shared_out(_above_tops, len(ends), field.partner, sides, 2 * cells.strides, _strides(sides), origin, ends)
    _follow(ends)
    return ends


def ends_down(field: GradientField, critical: Critical) -> tuple[Integers, Integers]:
    """Return the critical edges, by rows, and the rows of the two minima below each: (s,), (s, 2).

    The first lies below the edge's lower end in the numbering, which has incidence -1.
    """
    edges = np.flatnonzero(critical.index == 1)
    ends = lower_ends(field)
    if isinstance(field.complex, GridComplex):
        vertices = _edge_vertices(critical.cell[edges], critical.cells)
    else:
        n = len(field.complex.vertex_values)
        vertices = field.complex.simplices[1][critical.cell[edges] - n] if len(edges) else np.zeros((0, 2), np.int64)
    row = np.full(len(ends), -1)
    minima = np.flatnonzero(critical.index == 0)
    row[critical.vertex[minima]] = minima
    return edges, row[ends[vertices]]


def ends_up(field: GradientField, critical: Critical) -> tuple[Integers, Integers, Integers]:
    """Return the critical cells of dimension d - 1 of a grid, by rows, and the rows of the two top cells above each.

    Returns
    -------
    rows, tops, signs
        (s,), (s, 2) with -1 for outside, (s, 2): the incidence of the cell with the cofacet on that side.
    """
    cells = critical.cells
    top = len(cells.shape)
    rows = np.flatnonzero(critical.index == top - 1)
    ends = upper_ends(field)
    sides, signs = _cofacets_of(critical.cell[rows], cells)
    maxima = np.flatnonzero(critical.index == top)
    numbers = _numbers_of_tops(critical.cell[maxima], cells)
    row = np.full(len(ends) + 1, -1)
    row[numbers] = maxima
    above_each = np.where(sides >= 0, ends[np.maximum(sides, 0)], -1)  # -1 stands at the end of `row`
    return rows, row[above_each], signs


def arcs_down(field: GradientField, critical: Critical, k: int) -> Arcs:
    """Return the V-paths from critical cells of index `k` to those of index `k` - 1."""
    if k == 1:
        edges, ends = ends_down(field, critical)
        return _from_two_ends(edges, ends, np.tile([-1, 1], (len(edges), 1)), higher_first=True)
    if isinstance(field.complex, GridComplex) and k == len(critical.cells.shape):
        return _from_two_ends(*ends_up(field, critical), higher_first=False)
    rows = np.flatnonzero(critical.index == k)
    parts = shared_out(count_paths, len(rows), critical.cell[rows], critical.cells, field.partner)
    counts, found, number, signed = (np.concatenate([part[i] for part in parts]) for i in range(4))
    higher = np.repeat(rows, counts)
    lower = critical.rows(k - 1, found) if len(found) else found
    order = np.lexsort((lower, higher))
    return Arcs(higher[order], lower[order], number[order], signed[order])


def lines_down(cells: Cells, partner: NDArray[Any], edges: Integers) -> list[Integers]:
    """Return the cells on both V-paths from each edge to a minimum, the edge first, in the order of its ends."""
    return [_descent(cells, partner, edge, side) for edge in edges for side in (0, 1)]


def lines_up(field: GradientField, cells: Cells, saddles: Integers) -> list[Integers]:
    """Return the cells on both ways up from each cell of dimension d - 1, as far as a maximum or outside."""
    if isinstance(field.complex, GridComplex):
        return [_ascent(cells, field.partner, saddle, side) for saddle in saddles for side in (-1, 1)]
    beside, smaller, larger = _beside(field.complex, cells)
    return [
        _listed_ascent(field.partner, beside, smaller, larger, saddle, side) for saddle in saddles for side in (0, 1)
    ]


def _listed_upper_ends(field: GradientField, complex: SimplicialComplex) -> Integers:
    tops = np.arange(len(complex.values[-1]))
    partner = field.partner[len(field.partner) - len(tops) :]
    critical = partner == np.arange(len(field.partner))[len(field.partner) - len(tops) :]
    ends = np.where(critical, tops, -1)
    paired = np.flatnonzero((partner >= 0) & ~critical)
    if len(paired):
        beside, smaller, _ = _beside(complex, cells_of(complex))
        ends[paired] = beside[partner[paired] - smaller].sum(axis=1) - paired  # the other, or -1
    _follow(ends)
    return ends


def _beside(complex: SimplicialComplex, cells: Cells) -> tuple[Integers, int, int]:
    """Return the two top simplices beside each simplex of dimension d - 1, -1 for none, by row.

    And the numbers of the first simplices of both dimensions.
    """
    d = complex.dimension
    sizes = [len(rows) for rows in complex.simplices]
    smaller, larger = sum(sizes[: d - 1]), sum(sizes[:d])
    facets = cells.facets[cells.starts[larger] :] - smaller
    order = np.argsort(facets, kind="stable")
    facets, owners = facets[order], order // (d + 1)
    place = np.arange(len(facets)) - np.searchsorted(facets, facets)
    if (place > 1).any():
        row = int(facets[np.argmax(place > 1)])
        raise ValueError(
            f"simplex {complex.simplices[d - 1][row].tolist()} lies in more than two of dimension {d}, so that ways up "
            "branch; take a complex in which none does, such as a triangulation."
        )
    beside = np.full((sizes[d - 1], 2), -1)
    beside[facets, place] = owners
    return beside, smaller, larger


def _from_two_ends(rows: Integers, ends: Integers, signs: Integers, *, higher_first: bool) -> Arcs:
    """Return the arcs of cells with two ends each, -1 for no end; two that meet are one arc."""
    one, other = ends[:, 0], ends[:, 1]
    same = (one == other) & (one >= 0)
    first, second = one >= 0, (other >= 0) & ~same
    saddle = np.concatenate([rows[first], rows[second]])
    end = np.concatenate([one[first], other[second]])
    number = np.concatenate([1 + same[first], np.ones(int(second.sum()), dtype=np.int64)])
    signed = np.concatenate([signs[first, 0] + np.where(same, signs[:, 1], 0)[first], signs[second, 1]])
    higher, lower = (saddle, end) if higher_first else (end, saddle)
    order = np.lexsort((lower, higher))
    return Arcs(higher[order], lower[order], number[order], signed[order])


def _strides(sides: Integers) -> Integers:
    return np.append(np.cumprod(sides[:0:-1])[::-1], 1)


def _integer(count: int) -> type[np.signedinteger]:
    return np.int32 if count < 2**31 else np.int64


# --------------------------------------------------------------------------------------------------------------
# Compiled: paths that do not branch
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _below_vertices(first, last, partner, sides, cell_strides, vertex_strides, below):  # type: ignore[no-untyped-def]
    """Write for each vertex of a grid the other end of its partner, itself where it is critical, -1 for never."""
    axes = sides.size
    width = sides[axes - 1]
    vertex = first
    while vertex < last:
        base = np.int64(0)
        rest = vertex
        for axis in range(axes):
            position = rest // vertex_strides[axis]
            rest -= position * vertex_strides[axis]
            base += position * cell_strides[axis]
        end = min(last, vertex + width - vertex % width)
        while vertex < end:
            code = partner[base]
            if code < CRITICAL:
                stride = vertex_strides[(code >> 1) & 3]
                below[vertex] = vertex + stride if code & 1 else vertex - stride
            else:
                below[vertex] = vertex if code == CRITICAL else -1
            vertex += 1
            base += cell_strides[axes - 1]


@njit(cache=True, nogil=True)
def _above_tops(first, last, partner, sides, cell_strides, top_strides, origin, following):  # type: ignore[no-untyped-def]
    """Write for each top cell the one across its partner, itself where it is critical, -1 for outside and never."""
    axes = sides.size
    for top in range(first, last):
        cell = origin
        rest = top
        for axis in range(axes):
            position = rest // top_strides[axis]
            rest -= position * top_strides[axis]
            cell += position * cell_strides[axis]
        code = partner[cell]
        if code >= CRITICAL:
            following[top] = top if code == CRITICAL else -1
            continue
        axis = (code >> 1) & 3
        position = (top // top_strides[axis]) % sides[axis]
        if code & 1:
            following[top] = top + top_strides[axis] if position + 1 < sides[axis] else -1
        else:
            following[top] = top - top_strides[axis] if position > 0 else -1


@njit(cache=True, nogil=True)
def _follow(ends):  # type: ignore[no-untyped-def]
    """Replace where each cell goes next by where it ends."""
    for start in range(len(ends)):
        end = start
        while end >= 0 and ends[end] != end:
            end = ends[end]
        here = start
        while here >= 0 and ends[here] != here and ends[here] != end:
            following = ends[here]
            ends[here] = end
            here = following


@njit(cache=True)
def _descent(cells, partner, edge, side):  # type: ignore[no-untyped-def]
    found = np.empty(cells.widest, dtype=np.int64)
    signs = np.empty(cells.widest, dtype=np.int64)
    line = np.empty(16, dtype=np.int64)
    count = facets_into(cells, edge, found, signs)
    line[0], line[1] = edge, (min(found[0], found[1]) if side == 0 else max(found[0], found[1]))
    length = count
    while not is_critical(cells, partner, line[length - 1]):
        if length + 2 > len(line):
            line = np.concatenate((line, line))
        line[length] = above(cells, partner, line[length - 1])
        facets_into(cells, line[length], found, signs)
        line[length + 1] = found[1] if found[0] == line[length - 1] else found[0]
        length += 2
    return line[:length].copy()


@njit(cache=True)
def across(cells, partner, smaller, side):  # type: ignore[no-untyped-def]
    """Return the top cell on one side (1 or -1) of a cell of dimension d - 1 of a grid; -1: outside, or never."""
    rest = smaller
    for axis in range(cells.shape.size):
        position = rest // cells.strides[axis]
        rest -= position * cells.strides[axis]
        if not position & 1:
            inside = 0 <= position + side < cells.shape[axis]
            top = smaller + side * cells.strides[axis]
            return top if inside and partner[top] != _NEVER else np.int64(-1)
    return np.int64(-1)


@njit(cache=True)
def _ascent(cells, partner, saddle, side):  # type: ignore[no-untyped-def]
    line = np.empty(16, dtype=np.int64)
    line[0] = saddle
    length = 1
    top = across(cells, partner, saddle, side)
    while top >= 0:
        if length + 2 > len(line):
            line = np.concatenate((line, line))
        line[length] = top
        length += 1
        if is_critical(cells, partner, top):
            break
        way = step(cells, partner[top])
        line[length] = top + way
        length += 1
        top = across(cells, partner, top + way, 1 if way > 0 else -1)
    return line[:length].copy()


@njit(cache=True)
def _listed_ascent(partner, beside, smaller, larger, saddle, side):  # type: ignore[no-untyped-def]
    line = np.empty(16, dtype=np.int64)
    line[0] = saddle
    length = 1
    top = beside[saddle - smaller, side]
    while top >= 0 and partner[larger + top] >= 0:
        if length + 2 > len(line):
            line = np.concatenate((line, line))
        line[length] = larger + top
        length += 1
        if partner[larger + top] == larger + top:
            break
        line[length] = partner[larger + top]
        length += 1
        top = beside[partner[larger + top] - smaller].sum() - top
    return line[:length].copy()


@njit(cache=True, nogil=True)
def _edge_vertices(names, cells):  # type: ignore[no-untyped-def]
    """Return the ends of edges of a grid, the lower number first."""
    result = np.empty((len(names), 2), dtype=np.int64)
    for i in range(len(names)):
        rest = names[i]
        base = np.int64(0)
        across = np.int64(0)
        for axis in range(cells.shape.size):
            position = rest // cells.strides[axis]
            rest -= position * cells.strides[axis]
            side = (cells.shape[axis] + 1) // 2
            base = base * side + position // 2
            across = across * side + (position & 1)
        result[i, 0] = base
        result[i, 1] = base + across
    return result


@njit(cache=True, nogil=True)
def _cofacets_of(names, cells):  # type: ignore[no-untyped-def]
    """Return the top cells on both sides of cells of dimension d - 1, -1 for outside, and their incidences."""
    axes = cells.shape.size
    tops = np.full((len(names), 2), -1, dtype=np.int64)
    signs = np.zeros((len(names), 2), dtype=np.int64)
    for i in range(len(names)):
        flat, sign = 0, 1
        for axis in range(axes):
            position = names[i] // cells.strides[axis] % cells.shape[axis]
            if not position & 1:
                flat = axis
                sign = -1 if axis & 1 else 1
        for side in range(2):
            top = np.int64(0)
            inside = True
            for axis in range(axes):
                position = names[i] // cells.strides[axis] % cells.shape[axis]
                if axis == flat:
                    position += 1 if side else -1
                    inside = 0 <= position < cells.shape[axis]
                top = top * (cells.shape[axis] // 2) + position // 2
            tops[i, side] = top if inside else -1
            signs[i, side] = -sign if side else sign
    return tops, signs


@njit(cache=True, nogil=True)
def _numbers_of_tops(names, cells):  # type: ignore[no-untyped-def]
    result = np.zeros(len(names), dtype=np.int64)
    for i in range(len(names)):
        for axis in range(cells.shape.size):
            position = names[i] // cells.strides[axis] % cells.shape[axis]
            result[i] = result[i] * (cells.shape[axis] // 2) + position // 2
    return result
