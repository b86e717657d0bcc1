"""Bars of degree 0 of grids and graphs by gudhi, ripser, cripser, oineus and scipy, each in its fastest way.

Every function takes arrays, prepares its library's input (not timed) and returns what is timed, which gives births and
deaths. Of a grid neighbours along the axes count; edges of a graph enter with the later of their ends.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Run = Callable[[], dict[str, Array]]


def positive_bars(births_and_deaths: Array) -> Array:
    """Return the bars of positive length, in the order in which they come."""
    bars = np.asarray(births_and_deaths, dtype=np.float64).reshape(-1, 2)
    return bars[bars[:, 0] < bars[:, 1]]


def sorted_bars(births_and_deaths: Array) -> Array:
    """Return the bars of positive length by (birth, death), for what compares them."""
    bars = positive_bars(births_and_deaths)
    return bars[np.lexsort(bars.T[::-1])]


# --------------------------------------------------------------------------------------------------------------
# Grids
# --------------------------------------------------------------------------------------------------------------


def gudhi_fast_2d(grid: Array) -> Run:
    """Births and deaths only, on 2-D grids.

    The fast way takes the values of squares, which meet in corners too. Components of the sublevel sets of vertices
    that meet along axes are the holes of the superlevel sets of squares around them: so the losses change sign, a
    border at -inf is laid around them, and bars of degree 1 are read backwards.
    """
    from gudhi.sklearn import CubicalPersistence

    if grid.ndim != 2:
        raise ValueError("2-D only")
    engine = CubicalPersistence(homology_dimensions=1, min_persistence=0.0, n_jobs=1)

    def run() -> dict[str, Array]:
        holes = engine.fit_transform([np.pad(-grid, 1, constant_values=-np.inf)])[0]
        return {"bars": positive_bars(-np.asarray(holes).reshape(-1, 2)[:, ::-1])}

    return run


def gudhi_cubical(grid: Array) -> Run:
    """Vertices of a cubical complex. It computes bars of all degrees."""
    import gudhi

    def run() -> dict[str, Array]:
        cubical = gudhi.CubicalComplex(vertices=grid)
        cubical.compute_persistence(homology_coeff_field=2, min_persistence=0)
        return {"bars": positive_bars(cubical.persistence_intervals_in_dimension(0))}

    return run


def cripser_grid(grid: Array) -> Run:
    """Voxels as vertices, degree 0 only; births and deaths with their voxels."""
    import cripser

    def run() -> dict[str, Array]:
        table = cripser.computePH(grid, maxdim=0)
        deaths = np.where(table[:, 2] >= np.finfo(np.float64).max, np.inf, table[:, 2])
        return {"bars": positive_bars(np.column_stack([table[:, 1], deaths]))}

    return run


def oineus_grid(grid: Array) -> Run:
    """Cubes up to dimension one, with values on the vertices; two threads."""
    import oineus

    parameters = oineus.ReductionParams()
    parameters.n_threads = 2

    def run() -> dict[str, Array]:
        cubes = oineus.cube_filtration(grid, max_dim=1, values_on="vertices", n_threads=2)
        decomposition = oineus.Decomposition(cubes, False)
        decomposition.reduce(parameters)
        return {"bars": positive_bars(decomposition.diagram(cubes, include_inf_points=True).in_dimension(0))}

    return run


def grid_edges(grid: Array) -> Array:
    """Return the edges of a grid along its axes, (m, 2)."""
    index = np.arange(grid.size).reshape(grid.shape)
    pairs = []
    for axis in range(grid.ndim):
        rows = np.moveaxis(index, axis, 0)
        pairs.append(np.column_stack([rows[:-1].reshape(-1), rows[1:].reshape(-1)]))
    return np.concatenate(pairs)


def ripser_grid(grid: Array) -> Run:
    return ripser_graph(grid.reshape(-1), grid_edges(grid))


def scipy_grid(grid: Array) -> Run:
    return scipy_graph(grid.reshape(-1), grid_edges(grid))


# --------------------------------------------------------------------------------------------------------------
# Grids, all degrees
# --------------------------------------------------------------------------------------------------------------


def gudhi_degrees(grid: Array) -> Run:
    import gudhi

    def run() -> dict[str, Array]:
        cubical = gudhi.CubicalComplex(vertices=grid)
        cubical.compute_persistence(homology_coeff_field=2, min_persistence=0)
        return {f"bars_{k}": positive_bars(cubical.persistence_intervals_in_dimension(k)) for k in range(grid.ndim)}

    return run


def cripser_degrees(grid: Array) -> Run:
    import cripser

    def run() -> dict[str, Array]:
        table = cripser.computePH(grid, maxdim=grid.ndim - 1)
        deaths = np.where(table[:, 2] >= np.finfo(np.float64).max, np.inf, table[:, 2])
        bars = np.column_stack([table[:, 1], deaths])
        return {f"bars_{k}": positive_bars(bars[table[:, 0] == k]) for k in range(grid.ndim)}

    return run


def oineus_degrees(grid: Array) -> Run:
    import oineus

    def run() -> dict[str, Array]:
        cubes = oineus.cube_filtration(grid, values_on="vertices")
        decomposition = oineus.Decomposition(cubes, False)
        decomposition.reduce(oineus.ReductionParams())
        diagram = decomposition.diagram(cubes, include_inf_points=True)
        return {f"bars_{k}": positive_bars(diagram.in_dimension(k)) for k in range(grid.ndim)}

    return run


# --------------------------------------------------------------------------------------------------------------
# Graphs
# --------------------------------------------------------------------------------------------------------------


def gudhi_graph(values: Array, edges: Array) -> Run:
    """Insert vertices and edges into a simplex tree, in one batch each."""
    import gudhi

    vertices = np.arange(len(values), dtype=np.int32)[None].copy()
    ends, entered = edges.T.astype(np.int32, order="C"), values[edges].max(axis=1)

    def run() -> dict[str, Array]:
        tree = gudhi.SimplexTree()
        tree.insert_batch(vertices, values)
        tree.insert_batch(ends, entered)
        tree.compute_persistence(homology_coeff_field=2, min_persistence=0)
        return {"bars": positive_bars(tree.persistence_intervals_in_dimension(0))}

    return run


def ripser_graph(values: Array, edges: Array) -> Run:
    """Sparse matrix with the values of vertices on its diagonal. It works in float32."""
    from ripser import ripser
    from scipy.sparse import coo_matrix

    n, diagonal, entered = len(values), np.arange(len(values)), values[edges].max(axis=1)
    rows = np.concatenate([diagonal, edges[:, 0], edges[:, 1]])
    columns = np.concatenate([diagonal, edges[:, 1], edges[:, 0]])
    entered = np.concatenate([values, entered, entered])
    order = np.lexsort((columns, rows))
    matrix = coo_matrix((entered[order].astype(np.float32), (rows[order], columns[order])), shape=(n, n))

    def run() -> dict[str, Array]:
        return {"bars": positive_bars(ripser(matrix, distance_matrix=True, maxdim=0, coeff=2)["dgms"][0])}

    return run


def scipy_graph(values: Array, edges: Array) -> Run:
    """Minimum spanning forest of the ranks of the edges, then the elder rule over its edges in a Python loop."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    n, entered = len(values), values[edges].max(axis=1)

    def run() -> dict[str, Array]:
        order = np.argsort(entered, kind="stable")
        rank = np.empty(len(order))
        rank[order] = np.arange(1, len(order) + 1)  # a zero would be no edge
        matrix = csr_matrix((rank, (edges[:, 0], edges[:, 1])), shape=(n, n))
        rows = order[np.sort(minimum_spanning_tree(matrix).data).astype(np.int64) - 1]
        parent, birth, bars = list(range(n)), values.tolist(), []

        def find(x: int) -> int:
            while parent[x] != x:
                parent[x] = parent[parent[x]]
                x = parent[x]
            return x

        for (one, other), death in zip(edges[rows].tolist(), entered[rows].tolist(), strict=True):
            elder, younger = find(one), find(other)
            if birth[elder] > birth[younger]:
                elder, younger = younger, elder
            parent[younger] = elder
            if birth[younger] < death:
                bars.append((birth[younger], death))
        bars += [(birth[x], np.inf) for x in range(n) if parent[x] == x]
        return {"bars": positive_bars(np.array(bars))}

    return run
