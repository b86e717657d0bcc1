"""Barcodes from the definition: every cell listed, its boundary matrix reduced column by column."""

from itertools import combinations, product

import numpy as np

from topolandscape.structures import GridComplex, SimplicialComplex, total_order

Bar = tuple[int, float, float, int, int]  # degree, birth, death, name of the birth, name of the death (-1: essential)


def reduce(boundaries: list[set[int]]) -> list[tuple[int, int]]:
    """Return (birth, death or -1) for cells in the order of filtration, each given by the rows of its facets."""
    columns: list[set[int]] = []
    killer: dict[int, int] = {}
    for j, boundary in enumerate(boundaries):
        column = set(boundary)
        while column and max(column) in killer:
            column ^= columns[killer[max(column)]]
        columns.append(column)
        if column:
            killer[max(column)] = j
    return [(i, killer.get(i, -1)) for i, column in enumerate(columns) if not column]


def simplicial_bars(complex: SimplicialComplex, max_dim: int) -> list[Bar]:
    """Return the bars of an explicit complex, simplices named by their rows."""
    cells = [(k, row) for k, simplices in enumerate(complex.simplices) for row in range(len(simplices))]
    order = [cells[i] for i in total_order(complex)]
    place = {tuple(complex.simplices[k][row]): i for i, (k, row) in enumerate(order)}
    boundaries = [
        {place[facet] for facet in combinations(map(int, complex.simplices[k][row]), k)} if k else set()
        for k, row in order
    ]
    values = [float(complex.values[k][row]) for k, row in order]
    bars = []
    for born, dead in reduce(boundaries):
        k, row = order[born]
        death = values[dead] if dead >= 0 else np.inf
        if k <= max_dim and values[born] < death:
            bars.append((k, values[born], death, row, order[dead][1] if np.isfinite(death) else -1))
    return sorted(bars)


def grid_bars(complex: GridComplex, max_dim: int) -> list[Bar]:
    """Return the bars of a grid, cells named by the vertex at which they enter."""
    cells = {"axis": cubes, "freudenthal": kuhn_simplices, "full": voxel_cliques}[complex.connectivity](
        complex.grid.shape
    )
    rank = np.argsort(total_order(complex))
    values = complex.vertex_values
    entered = sorted(
        ((max(rank[v] for v in cell), dim, sorted(cell)) for cell, dim in cells.items()), key=lambda e: e[:2]
    )
    place = {frozenset(cell): i for i, (_, _, cell) in enumerate(entered)}
    boundaries = [{place[facet] for facet in facets(frozenset(cell), dim, place)} for _, dim, cell in entered]
    vertex = total_order(complex)
    bars = []
    for born, dead in reduce(boundaries):
        birth = vertex[entered[born][0]]
        death = vertex[entered[dead][0]] if dead >= 0 else -1
        end = float(values[death]) if dead >= 0 else np.inf
        if entered[born][1] <= max_dim and values[birth] < end:
            bars.append(
                (entered[born][1], float(values[birth]), end, int(birth), int(death) if np.isfinite(end) else -1)
            )
    return sorted(bars)


def facets(cell: frozenset[int], dim: int, cells: dict[frozenset[int], int]) -> list[frozenset[int]]:
    """Return the facets of a cell (a simplex, or a cube of 2^dim vertices) among `cells`."""
    if dim == 0:
        return []
    size = len(cell) - 1 if len(cell) == dim + 1 else len(cell) // 2
    return [frozenset(part) for part in combinations(sorted(cell), size) if frozenset(part) in cells]


def cubes(shape: tuple[int, ...]) -> dict[frozenset[int], int]:
    """Return every cube of a grid, as a set of vertices, with its dimension."""
    index = np.arange(np.prod(shape)).reshape(shape)
    cells = {}
    for base in np.ndindex(*shape):
        for span in product((0, 1), repeat=len(shape)):
            if all(b + s < n for b, s, n in zip(base, span, shape, strict=True)):
                block = index[tuple(slice(b, b + s + 1) for b, s in zip(base, span, strict=True))]
                cells[frozenset(map(int, block.reshape(-1)))] = sum(span)
    return cells


def cliques(shape: tuple[int, ...], adjacent) -> dict[frozenset[int], int]:
    """Return every clique of a relation between the positions of a grid."""
    positions = list(np.ndindex(*shape))
    level = [frozenset([i]) for i in range(len(positions))]
    cells = {}
    while level:
        cells |= {cell: len(cell) - 1 for cell in level}
        level = list(
            {
                cell | {i}
                for cell in level
                for i in range(len(positions))
                if i not in cell and all(adjacent(np.subtract(positions[i], positions[j])) for j in cell)
            }
        )
    return cells


def kuhn_simplices(shape: tuple[int, ...]) -> dict[frozenset[int], int]:
    """Return the simplices of the Freudenthal triangulation: chains of steps of 0 and 1."""
    return cliques(shape, lambda step: set(step) <= {0, 1} or set(step) <= {0, -1})


def voxel_cliques(shape: tuple[int, ...]) -> dict[frozenset[int], int]:
    """Return the nerve of the closed voxels: sets of voxels that meet pairwise, hence all in a point."""
    return cliques(shape, lambda step: max(abs(step)) <= 1)


def listed(code) -> list[Bar]:
    """Return the bars of a Barcode in the form of the oracles."""
    columns = (code.dim, code.birth, code.death, code.birth_simplex, code.death_simplex)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))
