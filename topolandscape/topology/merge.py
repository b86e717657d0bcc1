"""Components of the sublevel sets as they meet: the merge sweep and the elder rule.

The sweep first lets every vertex descend to its lowest neighbour, which sorts the vertices into the basins of the
local minima without sorting a single value. Only edges between two basins can join components, and there are few
of them on a smooth landscape; they alone are sorted and handed to union-find (Kruskal 1956), where the elder rule
decides which minimum ends. On a grid a vertex takes one edge to each group of lower neighbours that were joined nearby
before it enters. Then every vertex climbs from its minimum to the node of the tree that it enters, to be counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from topolandscape.structures import (
    Barcode,
    Connectivity,
    FilteredComplex,
    Floats,
    GridComplex,
    Integers,
    MergeTree,
    MinimaNetwork,
    SimplicialComplex,
)
from topolandscape.topology.climbing import leaves_and_points, summed_up
from topolandscape.topology.joining import Joined, Links, concatenated, joined_stops, parents, spanning
from topolandscape.topology.sorting import ascending_rows, index_type
from topolandscape.topology.sweep import (
    descend_graph,
    descend_grid,
    elder,
    link_graph,
    link_grid,
    settle_down,
)
from topolandscape.topology.threads import shared_out


def merge_tree(complex: FilteredComplex | MinimaNetwork) -> MergeTree:
    """Track the components of the sublevel sets of a filtered complex.

    Leaves are the local minima; each inner node is a saddle, the edge at which two components meet. A vertex whose
    component is swallowed at the value at which it was born is no minimum: a plateau has one at most.

    Parameters
    ----------
    complex
        A grid, an explicit complex, or a network of minima; of a complex only vertices and edges are used. What enters
        at +inf is left out.

    Returns
    -------
    MergeTree
        One root for each component.

    Notes
    -----
    O(n + m) for n vertices and m edges, and O(c log c) for the c edges between two basins of steepest descent. Lines of
    a grid are shared out among threads (``numba.set_num_threads``), which give the same bits, however many they are.
    The elder rule: where two components meet, the one whose minimum is higher ends (Edelsbrunner, Letscher and
    Zomorodian 2002).

    Examples
    --------
    Two basins at 0 and 1, separated by a ridge at 3:

    >>> tree = merge_tree(GridComplex([[0.0, 3.0, 1.0]] * 2))
    >>> tree.value.tolist(), tree.parent.tolist()
    ([0.0, 1.0, 3.0], [2, 2, -1])
    """
    if isinstance(complex, MinimaNetwork):
        complex = complex.complex
    return _tree(complex.vertex_values, *_linked(complex), complex.provenance)


def bars_alone(complex: FilteredComplex) -> Barcode:
    """Return the bars of degree 0 of a filtered complex, of size 0: no vertex is counted, and no tree is made.

    Parameters
    ----------
    complex
        A grid, or an explicit complex.

    Returns
    -------
    Barcode
        Otherwise that of its merge tree.
    """
    basins, links, vertices = _linked(complex)
    joined = _joined(basins, links)
    minima = basins.stops[joined.leaves]
    death = np.full(len(minima), np.inf)
    death[joined.ended] = joined.saddle_values

    def ends(names: Integers) -> tuple[Integers, Integers]:
        end = np.full(len(minima), -1)
        end[joined.ended] = names
        return minima, end

    simplices = ends(joined.saddles)
    at = simplices if vertices is None else ends(vertices(joined.saddles))
    size = np.zeros(len(minima), dtype=np.int64)
    return _bars(basins.values[joined.leaves], death, simplices, at, size, complex.provenance)


def graph_merge_tree(
    values: Floats, blocks: Iterable[tuple[Integers, Floats]], provenance: Mapping[str, Any]
) -> MergeTree:
    """Return the merge tree of a graph whose edges come in blocks.

    Parameters
    ----------
    values
        Of the vertices, (n,).
    blocks
        Edges (m, 2) and their values (m,), in the order of their rows; gone through three times. Beyond a block there
        are some 60 bytes a vertex, and the links between basins.
    provenance
        How the graph was made.

    Returns
    -------
    MergeTree
    """
    return _tree(values, *graph_links(values, blocks), partial(_later_ends, values, blocks), provenance)


def _linked(complex: FilteredComplex) -> tuple[Basins, Links, Callable[[Integers], Integers] | None]:
    """Return basins, the links between them, and what says where links of some names enter; None: they say it."""
    if isinstance(complex, GridComplex):
        return *grid_links(complex.grid, complex.connectivity), None
    values, blocks = complex.vertex_values, [_edges(complex)]
    return *graph_links(values, blocks), partial(_later_ends, values, blocks)


def _later_ends(values: Floats, blocks: Iterable[tuple[Integers, Floats]], saddles: Integers) -> Integers:
    """Return the vertices at which edges, of which the rows are given, enter."""
    vertex, first = np.empty_like(saddles), 0
    for edges, _ in blocks:
        here = (saddles >= first) & (saddles < first + len(edges))
        ends = edges[saddles[here] - first]
        one, other = ends[:, 0], ends[:, 1]
        vertex[here] = np.where(values[one] > values[other], one, other)  # of equal ones the later row
        first += len(edges)
    return vertex


def _joined(basins: Basins, links: Links) -> Joined:
    return joined_stops(basins.values, links, ascending_rows(links.value), basins.below)


def _tree(
    values: Floats,
    basins: Basins,
    links: Links,
    vertices: Callable[[Integers], Integers] | None,
    provenance: Mapping[str, Any],
) -> MergeTree:
    """Return the merge tree of basins and links; `vertices` says where links of some names enter, None: there."""
    joined = _joined(basins, links)
    parent = parents(joined)
    basin, points = leaves_and_points(parent, joined.saddle_values, values, basins.stop_of, joined.leaf)
    minima = basins.stops[joined.leaves]
    simplex = np.concatenate([minima, joined.saddles])
    columns = {
        "simplex": simplex,
        "vertex": simplex if vertices is None else np.concatenate([minima, vertices(joined.saddles)]),
        "value": np.concatenate([basins.values[joined.leaves], joined.saddle_values]),
        "parent": parent,
        "size": summed_up(parent, points),
        "basin": basin,
    }
    return MergeTree(**_settled(columns), provenance=provenance)


def merge_bars(tree: MergeTree) -> Barcode:
    """Return the bars of degree 0 of a merge tree, by the elder rule.

    Parameters
    ----------
    tree
        A merge tree.

    Returns
    -------
    Barcode
        One bar a minimum; linear in the nodes.
    """
    birth, death, end, last = elder(tree.parent, tree.value, np.empty(0, dtype=index_type(len(tree))))
    vertices = _ends(tree.vertex, end)
    simplices = vertices if tree.simplex is tree.vertex else _ends(tree.simplex, end)
    return _bars(birth, death, simplices, vertices, tree.size[last], tree.provenance)


def _ends(names: Integers, end: Integers) -> tuple[Integers, Integers]:
    """Return the names of the leaves and of the nodes at which their bars end, -1 where they never do."""
    return names[: len(end)], np.where(end >= 0, names[end], -1)


def _bars(
    birth: Floats,
    death: Floats,
    simplices: tuple[Integers, Integers],
    vertices: tuple[Integers, Integers],
    size: Integers,
    provenance: Mapping[str, Any],
) -> Barcode:
    """Return bars, given in the order of births."""
    order = ascending_rows(birth - death)  # the longest first
    birth_vertex, death_vertex = vertices[0][order], vertices[1][order]
    columns = {
        "dim": np.zeros(len(order), dtype=np.int64),
        "birth": birth[order],
        "death": death[order],
        "birth_simplex": birth_vertex if simplices[0] is vertices[0] else simplices[0][order],
        "death_simplex": death_vertex if simplices[1] is vertices[1] else simplices[1][order],
        "birth_vertex": birth_vertex,
        "death_vertex": death_vertex,
        "size": size[order],
    }
    return Barcode(**_settled(columns), provenance=provenance)


def _settled(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Make arrays read-only, so that a noun shares them."""
    for column in columns.values():
        column.flags.writeable = False
    return columns


# --------------------------------------------------------------------------------------------------------------
# From a complex to its basins and the links between them
# --------------------------------------------------------------------------------------------------------------


class Basins(NamedTuple):
    """Where descent stops: at local minima and, in graphs, at every vertex of a plateau."""

    stops: NDArray[Any]  # integers, as the others: (s,) vertices, by (value, row)
    values: Floats  # (s,) theirs
    stop_of: NDArray[Any]  # (n,) the stop below each vertex
    below: NDArray[Any]  # (s,) the stop to which a plateau vertex descends further; itself at a local minimum


def grid_basins(grid: Floats, connectivity: Connectivity) -> Basins:
    """Return the basins of steepest descent of a grid."""
    values, descent = grid.reshape(-1), np.empty(grid.size, dtype=index_type(grid.size))
    parts = shared_out(descend_grid, grid.size, values, *_steps(grid.shape, connectivity), descent, few=2**17)
    stops, levels = _by_value(parts[0] if len(parts) == 1 else np.concatenate(parts), values)
    settle_down(descent, stops)
    return Basins(stops, levels, descent, np.arange(len(stops), dtype=descent.dtype))


def _by_value(stops: NDArray[Any], values: Floats) -> tuple[NDArray[Any], Floats]:
    """Return stops, given by row, by (value, row), and their values."""
    levels = values[stops]
    order = ascending_rows(levels)
    return stops[order], levels[order]


def grid_links(grid: Floats, connectivity: Connectivity) -> tuple[Basins, Links]:
    """Return the basins of steepest descent of a grid, and the links between them, named by vertices."""
    basins, values = grid_basins(grid, connectivity), grid.reshape(-1)
    around = (*_steps(grid.shape, connectivity), *_bridges(grid.shape, connectivity))
    parts = shared_out(link_grid, grid.size, values, *around, basins.stop_of, few=2**16)
    one, other, name = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    return basins, Links(one, other, values[name], name)


@lru_cache(maxsize=64)
def _steps(shape: tuple[int, ...], connectivity: Connectivity) -> tuple[Integers, Integers, Integers]:
    """Return the shape of a grid, and the steps to neighbours: along the axes, and in the row of its values."""
    offsets = neighbour_offsets(len(shape), connectivity)
    return np.array(shape), offsets, offsets @ np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))])


@lru_cache(maxsize=64)
def _bridges(shape: tuple[int, ...], connectivity: Connectivity) -> tuple[Integers, Integers]:
    """Return which neighbours of a vertex are joined nearby, as `link_grid` needs them.

    These are the squares that have the vertex and two neighbours for corners, in a grid of cubes, (m, 3), and who is
    beside whom, (neighbours, k, 2).
    """
    _, offsets, deltas = _steps(shape, connectivity)
    steps = dict(zip(map(tuple, offsets.tolist()), deltas.tolist(), strict=True))
    squares: list[tuple[int, int, int]] = []
    rows: list[list[tuple[int, int]]] = [[] for _ in steps]
    for (i, one), (j, other) in product(enumerate(steps), repeat=2):
        if j >= i:
            continue
        if tuple(b - a for a, b in zip(one, other, strict=True)) in steps:
            square = -1
        elif connectivity == "axis" and any(a + b for a, b in zip(one, other, strict=True)):
            square = len(squares)
            squares.append((i, j, steps[one] + steps[other]))
        else:
            continue
        rows[i].append((j, square))
        rows[j].append((i, square))
    beside = np.full((len(rows), max(1, *map(len, rows)), 2), -1)
    for number, row in enumerate(rows):
        beside[number, : len(row)] = np.array(row, dtype=np.int64).reshape(-1, 2)
    return np.array(squares, dtype=np.int64).reshape(-1, 3), beside


def graph_links(values: Floats, blocks: Iterable[tuple[Integers, Floats]]) -> tuple[Basins, Links]:
    """Return the basins of steepest descent of a graph, and the links between them, named by edges.

    The edges come in blocks of rows and values, twice; beyond these there are some 40 bytes a vertex.
    """
    n = len(values)
    descent, plateau = np.arange(n), np.zeros(n, dtype=np.bool_)
    for edges, edge_values in blocks:
        descend_graph(values, edges, edge_values, descent, plateau)
    stops, levels = _by_value(np.flatnonzero(plateau | (descent == np.arange(n))), values)
    further = descent[stops]
    settle_down(descent, stops)
    basins = Basins(stops, levels, descent, descent[further])
    number = np.where(plateau, basins.stop_of, -1)
    joined, linked = np.full(n, -1), np.full(n, -1)
    links, row = None, 0
    for edges, edge_values in blocks:
        one, other, name = link_graph(values, edges, edge_values, basins.stop_of, number, joined, linked)
        found = Links(one, other, edge_values[name], row + name)
        links = found if links is None else spanning(len(basins.stops), concatenated([links, found]))
        row += len(edges)
    assert links is not None
    return basins, links


def _edges(complex: SimplicialComplex) -> tuple[Integers, Floats]:
    if complex.dimension == 0:
        return np.empty((0, 2), np.int64), np.empty(0)
    return complex.simplices[1], complex.values[1]


def neighbour_offsets(dimension: int, connectivity: Connectivity) -> Integers:
    """Return the steps from a grid vertex to its neighbours, shape (m, dimension).

    Parameters
    ----------
    dimension
        Number of axes.
    connectivity
        As in GridComplex.

    Returns
    -------
    Integers
        2 d steps for ``"axis"``, 2 (2^d - 1) for ``"freudenthal"``, 3^d - 1 for ``"full"``.
    """
    steps = np.array(list(product((-1, 0, 1), repeat=dimension)), dtype=np.int64)
    nonzero = np.count_nonzero(steps, axis=1)
    if connectivity == "axis":
        return steps[nonzero == 1]
    if connectivity == "freudenthal":
        return steps[(np.abs(steps.sum(axis=1)) == nonzero) & (nonzero > 0)]
    return steps[nonzero > 0]
