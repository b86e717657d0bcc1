"""Components of the sublevel sets as they meet: the merge sweep and the elder rule.

The sweep first lets every vertex descend to its lowest neighbour, which sorts the vertices into the basins of the
local minima without sorting a single value. Only edges between two basins can join components, and there are few
of them on a smooth landscape; they alone are sorted and handed to union-find (Kruskal 1956), where the elder rule
decides which minimum ends. Grids and graphs differ in the first step only.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

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
from topolandscape.topology.sweep import (
    FEW,
    assemble,
    by_turn,
    descend_graph,
    descend_grid,
    elder,
    kruskal,
    leaves_below,
    leaves_of_stops,
    link_graph,
    link_grid,
    links_in_order,
    numbers_of_stops,
    settle_down,
    sort_runs,
    tabulated,
)


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
    O(n + m) for n vertices and m edges, and O(c log c) for the c edges between two basins of steepest descent.
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
    basins, links = _grid_links(complex) if isinstance(complex, GridComplex) else _graph_links(complex)
    values = complex.vertex_values

    stop_values = values[basins.stops]
    # Where a large part of the vertices has links, these are sorted through their vertices, once for all that follows.
    rough = isinstance(complex, GridComplex) and 4 * len(links.name) > len(values)
    order = _ascending(values) if rough else None
    turn = _ascending(links.value) if order is None else links_in_order(order, links.name)
    merges, swallowed_by = kruskal(stop_values, links.one, links.other, links.value, turn)
    leaf_of_stop, leaves = leaves_of_stops(stop_values, swallowed_by, basins.below)

    saddles = links.name[merges[:, 0]]
    saddle_values = links.value[merges[:, 0]]
    basin = leaves_below(values, basins.stop_of, leaf_of_stop)
    counts = _tally(values, order, basin, saddle_values, len(leaves))
    parent, size = assemble(len(leaves), leaf_of_stop[merges[:, 1:]], *counts)
    minima = basins.stops[leaves]
    return MergeTree(
        simplex=np.concatenate([minima, saddles]),
        vertex=np.concatenate([minima, _saddle_vertices(complex, saddles)]),
        value=np.concatenate([values[minima], saddle_values]),
        parent=parent,
        size=size,
        basin=basin,
        provenance=complex.provenance,
    )


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
    leaves = int(tree.is_leaf.sum())
    death_node, last_node = elder(tree.parent, leaves)
    ends = death_node >= 0
    return Barcode(
        dim=np.zeros(leaves, dtype=np.int64),
        birth=tree.value[:leaves],
        death=np.where(ends, tree.value[death_node], np.inf),
        birth_simplex=tree.simplex[:leaves],
        death_simplex=np.where(ends, tree.simplex[death_node], -1),
        birth_vertex=tree.vertex[:leaves],
        death_vertex=np.where(ends, tree.vertex[death_node], -1),
        size=tree.size[last_node],
        provenance=tree.provenance,
    )


# --------------------------------------------------------------------------------------------------------------
# From a complex to its basins and the links between them
# --------------------------------------------------------------------------------------------------------------


class _Basins(NamedTuple):
    """Where descent stops: at local minima and, in graphs, at every vertex of a plateau."""

    stops: Integers  # (s,) vertices, by (value, row)
    stop_of: Integers  # (n,) the stop below each vertex
    below: Integers  # (s,) the stop to which a plateau vertex descends further; itself at a local minimum


class _Links(NamedTuple):
    """Edges between two stops, in the order of their names."""

    one: Integers
    other: Integers
    value: Floats
    name: Integers


def _number_stops(values: Floats, descent: Integers, stop: np.ndarray) -> _Basins:
    stops = np.flatnonzero(stop)
    stops = stops[_ascending(values[stops])]
    number = numbers_of_stops(len(values), stops, descent.dtype.type(0))
    stop_of = settle_down(descent, number)
    return _Basins(stops, stop_of, stop_of[descent[stops]])


def _grid_links(complex: GridComplex) -> tuple[_Basins, _Links]:
    grid = complex.grid
    shape = np.array(grid.shape)
    offsets = neighbour_offsets(grid.ndim, complex.connectivity)
    strides = np.array(grid.strides) // grid.itemsize
    values = complex.vertex_values
    index = np.int32 if grid.size < 2**31 else np.int64
    descent = descend_grid(values, shape, offsets, offsets @ strides, index(0))
    basins = _number_stops(values, descent, descent == np.arange(len(values), dtype=index))
    one, other, name = link_grid(values, shape, offsets, offsets @ strides, basins.stop_of)
    return basins, _Links(one, other, values[name], name)


def _graph_links(complex: SimplicialComplex) -> tuple[_Basins, _Links]:
    values = complex.vertex_values
    edges, edge_values = (
        (complex.simplices[1], complex.values[1])
        if complex.dimension > 0
        else (np.empty((0, 2), np.int64), np.empty(0))
    )
    descent, plateau = descend_graph(values, edges, edge_values)
    basins = _number_stops(values, descent, plateau | (descent == np.arange(len(values))))
    number = np.where(plateau, basins.stop_of, -1)
    one, other, name = link_graph(values, edges, edge_values, basins.stop_of, number)
    return basins, _Links(one, other, edge_values[name], name)


def _tally(
    values: Floats, order: Integers | None, basin: Integers, saddle_values: Floats, leaves: int
) -> tuple[Integers, Integers, Integers]:
    """Count the points that enter before the first saddle, then before the second, and so on, by their leaves.

    Returns where the counts before each saddle begin, and of each count the leaf and the number of points. `order` is
    that of the values, where it is known.
    """
    turns = len(saddle_values) + 1
    if turns * leaves > FEW:
        first, leaf = by_turn(basin, _count_at_or_below(saddle_values, values, order), turns)
        return first, leaf, np.ones(len(leaf), dtype=np.int64)
    table = tabulated(values, basin, saddle_values, leaves)
    turn, leaf = np.nonzero(table)
    return np.searchsorted(turn, np.arange(turns + 1)), leaf, table[turn, leaf]


def _count_at_or_below(thresholds: Floats, values: Floats, order: Integers | None) -> Integers:
    """Return for each value how many of the (ascending) thresholds it reaches."""
    if order is None and 64 * len(thresholds) < len(values):
        return np.searchsorted(thresholds, values, side="right")
    if order is None:
        order = np.argsort(values)  # many thresholds leave the cache, unless they are asked for in order
    counts = np.empty(len(values), dtype=np.int64)
    counts[order] = np.searchsorted(thresholds, values[order], side="right")
    return counts


def _ascending(values: Floats) -> Integers:
    """Return the rows of `values` by (value, row), as `structures.ascending` does.

    Here nearly all values are equal to others (the edges of one vertex), and compiled code settles them faster than a
    second, stable sort.
    """
    order = np.argsort(values)
    sort_runs(values, order)
    return order


def _saddle_vertices(complex: FilteredComplex, saddles: Integers) -> Integers:
    """Return the vertex at which each saddle enters, the later end of its edge."""
    if isinstance(complex, GridComplex) or complex.dimension == 0:
        return saddles
    ends = complex.simplices[1][saddles]
    values = complex.vertex_values[ends]
    return np.where(values[:, 0] > values[:, 1], ends[:, 0], ends[:, 1])  # of equal ones the later row


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
