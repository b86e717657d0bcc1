"""Cases of the benchmarks, generated from a seed, and the engines that are compared on them.

Losses are rounded to float32 and kept in float64, so that ripser, which works in float32, can give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import gudhi
import numpy as np
from gudhi.sklearn import CubicalPersistence
from ripser import ripser
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

from topolandscape.structures import FilteredComplex, GridComplex, LossSamples
from topolandscape.topology.complexes import nearest_neighbours
from topolandscape.topology.persistence import barcode, grid_edges

Pairs = np.ndarray  # births and deaths, (b, 2), sorted

DEFAULT_MAX_SIZE = 1e6
SIZES = (10**4, 10**5, 10**6, 10**7)
LARGEST_GRAPH = 10**6  # beyond, the other programs take many minutes on a graph
KINDS = ("grid2d", "grid3d", "knn")
LANDSCAPES = ("smooth", "rough")


@dataclass(frozen=True, eq=False)
class Case:
    """A filtered complex, and its graph as arrays for the engines that need one."""

    name: str
    complex: FilteredComplex

    @property
    def n(self) -> int:
        """Number of vertices."""
        return len(self.complex.vertex_values)

    @cached_property
    def edges(self) -> np.ndarray:
        """Edges of the graph, (m, 2)."""
        return grid_edges(self.complex) if isinstance(self.complex, GridComplex) else self.complex.simplices[1]

    @cached_property
    def edge_values(self) -> np.ndarray:
        """When each edge enters, (m,)."""
        return self.complex.vertex_values[self.edges].max(axis=1)

    @cached_property
    def reference(self) -> Pairs:
        """Bars by an engine that is not ours."""
        if isinstance(self.complex, GridComplex):
            return gudhi_cubical(self)()
        return (gudhi_simplex_tree if self.n <= LARGEST["gudhi SimplexTree"] else scipy_spanning_tree)(self)()


def three_hump_camel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (2 - 1.05 * x**2 + x**4 / 6) * x**2 + x * y + y**2


def losses_at(points: np.ndarray, landscape: str, seed: int) -> np.ndarray:
    """Return losses with few minima, or with as many as noise makes."""
    losses = sum(np.cos((3 + axis) * x) + 0.3 * x**2 for axis, x in enumerate(points.T))
    if landscape == "rough":
        losses = losses + np.random.default_rng(seed).normal(size=len(points))
    return losses.astype(np.float32).astype(np.float64)


def make(kind: str, landscape: str, size: int) -> Case:
    """Return a case of about `size` vertices."""
    name = f"{kind} {landscape}"
    if kind == "knn":
        points = np.random.default_rng(size).uniform(-3, 3, size=(size, 3))
        samples = LossSamples(points, losses_at(points, landscape, seed=1))
        return Case(name, nearest_neighbours(samples, k=8, connect=True))
    d = {"grid2d": 2, "grid3d": 3}[kind]
    side = round(size ** (1 / d))
    axes = np.meshgrid(*[np.linspace(-3, 3, side)] * d, indexing="ij")
    points = np.column_stack([axis.reshape(-1) for axis in axes])
    return Case(name, GridComplex(losses_at(points, landscape, seed=1).reshape((side,) * d)))


def camel() -> Case:
    """Return the three-hump camel on 3000 x 2000 points."""
    losses = three_hump_camel(np.linspace(-2, 2, 3000)[:, None], np.linspace(-2, 2, 2000))
    return Case("camel 3000x2000", GridComplex(losses.astype(np.float32).astype(np.float64)))


def names(max_size: float) -> list[tuple[str, str, int]]:
    """Return (kind, landscape, size) of every case up to `max_size` vertices."""
    grids_and_graphs = [
        (kind, landscape, n) for n in SIZES if n <= max_size for kind in KINDS for landscape in LANDSCAPES
    ]
    listed = [(kind, landscape, n) for kind, landscape, n in grids_and_graphs if kind != "knn" or n <= LARGEST_GRAPH]
    return listed + ([("camel", "smooth", 6_000_000)] if max_size >= 6_000_000 else [])


@lru_cache(maxsize=1)
def case(kind: str, landscape: str, size: int) -> Case:
    return camel() if kind == "camel" else make(kind, landscape, size)


# --------------------------------------------------------------------------------------------------------------
# Engines: each takes a case, prepares its input (not timed), and returns the function that is timed
# --------------------------------------------------------------------------------------------------------------


def sorted_pairs(births_and_deaths: np.ndarray) -> Pairs:
    """Return the bars of positive length by (birth, death)."""
    pairs = np.asarray(births_and_deaths, dtype=np.float64).reshape(-1, 2)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    return pairs[np.lexsort(pairs.T[::-1])]


def merge_sweep(case: Case) -> Callable[[], Pairs]:
    """Our merge sweep: bars with minima, saddles, sizes, and the merge tree with its basins."""

    def run() -> Pairs:
        code = barcode(case.complex)
        return sorted_pairs(np.column_stack([code.birth, code.death]))

    return run


def gudhi_simplex_tree(case: Case) -> Callable[[], Pairs]:
    vertices = np.arange(case.n, dtype=np.int32)[None].copy()
    edges = case.edges.T.astype(np.int32, order="C")
    values, edge_values = case.complex.vertex_values.copy(), case.edge_values.copy()

    def run() -> Pairs:
        tree = gudhi.SimplexTree()
        tree.insert_batch(vertices, values)
        tree.insert_batch(edges, edge_values)
        tree.compute_persistence(homology_coeff_field=2, min_persistence=0)
        return sorted_pairs(tree.persistence_intervals_in_dimension(0))

    return run


def gudhi_cubical(case: Case) -> Callable[[], Pairs]:
    """Vertices of a cubical complex. It computes bars of all degrees."""
    grid = np.array(case.complex.grid)

    def run() -> Pairs:
        cubical = gudhi.CubicalComplex(vertices=grid)
        cubical.compute_persistence(homology_coeff_field=2, min_persistence=0)
        return sorted_pairs(cubical.persistence_intervals_in_dimension(0))

    return run


def gudhi_fast_2d(case: Case) -> Callable[[], Pairs]:
    """Births and deaths only, on 2-D grids.

    The fast way takes the values of squares, which meet in corners too. Components of the sublevel sets of vertices
    that meet along axes are the holes of the superlevel sets of squares around them: so the losses change sign, a
    border at -inf is laid around them, and bars of degree 1 are read backwards. The lowest minimum is added.
    """
    grid = np.array(case.complex.grid)
    engine = CubicalPersistence(homology_dimensions=1, min_persistence=0.0, n_jobs=1)

    def run() -> Pairs:
        holes = engine.fit_transform([np.pad(-grid, 1, constant_values=-np.inf)])[0]
        finite = -np.asarray(holes).reshape(-1, 2)[:, ::-1]
        return sorted_pairs(np.concatenate([finite[np.isfinite(finite).all(axis=1)], [[grid.min(), np.inf]]]))

    return run


def ripser_sparse(case: Case) -> Callable[[], Pairs]:
    """Sparse matrix with the values of vertices on its diagonal. It works in float32."""
    diagonal, edges = np.arange(case.n), case.edges
    rows = np.concatenate([diagonal, edges[:, 0], edges[:, 1]])
    columns = np.concatenate([diagonal, edges[:, 1], edges[:, 0]])
    entered = np.concatenate([case.complex.vertex_values, case.edge_values, case.edge_values])
    order = np.lexsort((columns, rows))
    matrix = coo_matrix((entered[order].astype(np.float32), (rows[order], columns[order])), shape=(case.n, case.n))

    def run() -> Pairs:
        return sorted_pairs(ripser(matrix, distance_matrix=True, maxdim=0, coeff=2)["dgms"][0])

    return run


def scipy_spanning_tree(case: Case) -> Callable[[], Pairs]:
    """Minimum spanning forest of the ranks of the edges, then the elder rule over its edges in a Python loop."""
    values, edges, edge_values = case.complex.vertex_values, case.edges, case.edge_values

    def run() -> Pairs:
        order = np.argsort(edge_values, kind="stable")
        rank = np.empty(len(order))
        rank[order] = np.arange(1, len(order) + 1)  # a zero would be no edge
        matrix = csr_matrix((rank, (edges[:, 0], edges[:, 1])), shape=(case.n, case.n))
        kept = np.sort(minimum_spanning_tree(matrix).data).astype(np.int64) - 1
        rows = order[kept]
        parent = list(range(case.n))
        birth = values.tolist()
        bars = []

        def find(x: int) -> int:
            while parent[x] != x:
                parent[x] = parent[parent[x]]
                x = parent[x]
            return x

        for (one, other), death in zip(edges[rows].tolist(), edge_values[rows].tolist(), strict=True):
            elder, younger = find(one), find(other)
            if birth[elder] > birth[younger]:
                elder, younger = younger, elder
            parent[younger] = elder
            if birth[younger] < death:
                bars.append((birth[younger], death))
        bars += [(birth[x], np.inf) for x in range(case.n) if parent[x] == x]
        return sorted_pairs(np.array(bars))

    return run


ENGINES: dict[str, Callable[[Case], Callable[[], Pairs]]] = {
    "topolandscape": merge_sweep,
    "gudhi SimplexTree": gudhi_simplex_tree,
    "gudhi CubicalComplex": gudhi_cubical,
    "gudhi CubicalPersistence 2-D": gudhi_fast_2d,
    "ripser": ripser_sparse,
    "scipy spanning tree": scipy_spanning_tree,
}
LARGEST = {"gudhi SimplexTree": 10**6, "ripser": 10**6, "scipy spanning tree": 10**6}  # beyond, memory or patience


def applies(engine: str, kind: str, size: int) -> bool:
    """Tell whether an engine can, and should, take a case."""
    if size > LARGEST.get(engine, np.inf):
        return False
    if engine == "gudhi CubicalPersistence 2-D":
        return kind in ("grid2d", "camel")
    return kind != "knn" or engine != "gudhi CubicalComplex"


def warm_up() -> None:
    """Compile what is compiled on first use, for grids of every dimension and for graphs."""
    for kind in KINDS:
        for engine in ENGINES:
            if applies(engine, kind, 1000):
                ENGINES[engine](make(kind, "rough", 1000))()
