"""Critical cells: their total order, the vertices with which they enter, their names and places."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numba import njit

from topolandscape.structures import FilteredComplex, Floats, GradientField, GridComplex, Integers
from topolandscape.topology.gradient import Cells, cells_of


@dataclass(frozen=True, eq=False)
class Critical:
    """Critical cells in their total order, and the cells of the field to which they belong."""

    cell: Integers  # numbers, as in GradientField
    index: Integers
    vertex: Integers
    value: Floats
    cells: Cells

    def rows(self, index: int, cells: Integers) -> Integers:
        """Return the rows of cells, all of one index."""
        rows = np.flatnonzero(self.index == index)
        order = np.argsort(self.cell[rows])
        return rows[order][np.searchsorted(self.cell[rows][order], cells)]


def critical_of(field: GradientField, cells: Cells | None = None) -> Critical:
    """Return the critical cells of a field in their total order.

    Of a grid by (value, vertex, dimension, cell), so that cells stay with the vertex with which they enter; of an
    explicit complex by (value, dimension, row). `cells` are those of the complex, where they are there already.
    """
    critical = field.critical
    index, vertex, value, _ = entries_of(field.complex, critical)
    if isinstance(field.complex, GridComplex):
        order = np.argsort(vertex * 8 + index, kind="stable")
        order = order[np.argsort(value[order], kind="stable")]
    else:
        order = np.argsort(value, kind="stable")
    cells = cells_of(field.complex) if cells is None else cells
    return Critical(critical[order], index[order], vertex[order], value[order], cells)


def entries_of(complex: FilteredComplex, cells: Integers) -> tuple[Integers, Integers, Floats, Integers]:
    """Return of cells, numbered as in GradientField, dimension, vertex and value with which they enter, and name."""
    values = complex.vertex_values
    if isinstance(complex, GridComplex):
        index, vertex = _entries(cells, cells_of(complex), values)
        return index, vertex, values[vertex], cells
    first = np.cumsum([0, *map(len, complex.simplices)])
    index = np.searchsorted(first, cells, side="right") - 1
    vertex = np.empty_like(cells)
    for k, simplices in enumerate(complex.simplices):
        chosen = index == k
        vertices = simplices[cells[chosen] - first[k]]
        last = k - np.argmax(values[vertices][:, ::-1], axis=1)  # of equal ones the later row
        vertex[chosen] = vertices[np.arange(len(vertices)), last]
    return index, vertex, np.concatenate(complex.values)[cells], cells - first[index]


def names_of(field: GradientField, critical: Critical) -> Integers:
    """Return the names of critical cells as in ``MorseComplex.cell``."""
    if isinstance(field.complex, GridComplex):
        return critical.cell
    first = np.cumsum([0, *map(len, field.complex.simplices)])
    return critical.cell - first[critical.index]


def places_of(field: GradientField, cells: Integers, points: Floats | None = None) -> Floats:
    """Return the centres of cells among the points of the vertices (n, d); None: in units of the grid."""
    complex = field.complex
    if isinstance(complex, GridComplex):
        places = np.stack(np.unravel_index(cells, tuple(2 * n - 1 for n in complex.grid.shape)), axis=-1) / 2
        if points is None:
            return places
        sides = np.stack([np.floor(places), np.ceil(places)]).astype(np.int64)
        corners = [
            np.ravel_multi_index(tuple(sides[side, :, axis] for axis, side in enumerate(corner)), complex.grid.shape)
            for corner in product((0, 1), repeat=complex.grid.ndim)
        ]
        return points[np.array(corners)].mean(axis=0)
    assert points is not None
    places = np.empty((len(cells), points.shape[1]))
    first = np.cumsum([0, *map(len, complex.simplices)])
    for k, simplices in enumerate(complex.simplices):
        chosen = (cells >= first[k]) & (cells < first[k + 1])
        places[chosen] = points[simplices[cells[chosen] - first[k]]].mean(axis=1)
    return places


# --------------------------------------------------------------------------------------------------------------
# Compiled
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def entry(name, cells, values, steps):  # type: ignore[no-untyped-def]
    """Return the dimension of a cell of a grid, and the vertex with which it enters; `steps` is scratch."""
    base = np.int64(0)
    dimension = 0
    for axis in range(cells.shape.size):
        position = name // cells.strides[axis]
        name -= position * cells.strides[axis]
        side = (cells.shape[axis] + 1) // 2
        base = base * side + position // 2
        for k in range(dimension):
            steps[k] *= side
        if position & 1:
            steps[dimension] = 1
            dimension += 1
    last = base
    for corner in range(1, 1 << dimension):
        other = base
        for k in range(dimension):
            if corner >> k & 1:
                other += steps[k]
        if values[other] > values[last] or (values[other] == values[last] and other > last):
            last = other
    return dimension, last


@njit(cache=True, nogil=True)
def _entries(names, cells, values):  # type: ignore[no-untyped-def]
    """Return the dimension of cells of a grid, and the vertex with which each enters."""
    index = np.empty(len(names), dtype=np.int64)
    vertex = np.empty(len(names), dtype=np.int64)
    steps = np.empty(cells.shape.size, dtype=np.int64)
    for i in range(len(names)):
        index[i], vertex[i] = entry(names[i], cells, values, steps)
    return index, vertex
