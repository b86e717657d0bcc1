"""Cases of the benchmarks, generated from a seed, and the engines that are compared on them.

Losses are rounded to float32 and kept in float64, so that ripser, which works in float32, can give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
from peers import homology

from topolandscape.structures import FilteredComplex, GridComplex, LossSamples
from topolandscape.topology.complexes import nearest_neighbours
from topolandscape.topology.persistence import barcode, grid_edges

Pairs = np.ndarray  # births and deaths, (b, 2)

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
    def reference(self) -> Pairs:
        """Bars by an engine that is not ours, sorted."""
        if isinstance(self.complex, GridComplex):
            engine = "gudhi CubicalComplex"
        else:
            engine = "gudhi SimplexTree" if self.n <= LARGEST["gudhi SimplexTree"] else "scipy spanning tree"
        return homology.sorted_bars(ENGINES[engine](self)())


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


def merge_sweep(case: Case) -> Callable[[], Pairs]:
    """Our merge sweep: bars with minima, saddles, sizes, and the merge tree with its basins."""
    return partial(_of_ours, case, sizes=True)


def bars_alone(case: Case) -> Callable[[], Pairs]:
    """Our merge sweep: bars with minima and saddles."""
    return partial(_of_ours, case, sizes=False)


def _of_ours(case: Case, *, sizes: bool) -> Pairs:
    code = barcode(case.complex, sizes=sizes)
    return homology.positive_bars(np.column_stack([code.birth, code.death]))


def on_grid(engine: Callable[[np.ndarray], homology.Run]) -> Callable[[Case], Callable[[], Pairs]]:
    """Return an engine that takes the grid of a case."""
    return lambda case: _bars(engine(np.array(case.complex.grid)))


def on_graph(engine: Callable[[np.ndarray, np.ndarray], homology.Run]) -> Callable[[Case], Callable[[], Pairs]]:
    """Return an engine that takes the vertices and edges of a case."""
    return lambda case: _bars(engine(case.complex.vertex_values.copy(), case.edges))


def _bars(run: homology.Run) -> Callable[[], Pairs]:
    return lambda: run()["bars"]


ENGINES: dict[str, Callable[[Case], Callable[[], Pairs]]] = {
    "topolandscape": merge_sweep,
    "bars alone": bars_alone,
    "gudhi SimplexTree": on_graph(homology.gudhi_graph),
    "gudhi CubicalComplex": on_grid(homology.gudhi_cubical),
    "gudhi CubicalPersistence 2-D": on_grid(homology.gudhi_fast_2d),
    "ripser": on_graph(homology.ripser_graph),
    "scipy spanning tree": on_graph(homology.scipy_graph),
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
