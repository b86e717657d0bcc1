"""Components of the sublevel sets as they meet: the merge sweep and the elder rule.

The sweep first lets every vertex descend to its lowest neighbour, which sorts the vertices into the basins of the
local minima without sorting a single value. Only edges between two basins can join components, and there are few
of them on a smooth landscape; they alone are sorted and handed to union-find (Kruskal 1956), where the elder rule
decides which minimum ends. Grids and graphs differ in the first step only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numba import njit

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
from topolandscape.topology.joining import (
    Links,
    ascending_runs,
    concatenated,
    count_at_or_below,
    joined_stops,
    points_of_nodes,
    spanning,
    summed_up,
)

_LINKS = 2**16  # links for which there is room at first


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
    if isinstance(complex, GridComplex):
        basins, links = grid_links(complex.grid, complex.connectivity)
        return _tree(complex.vertex_values, basins, links, lambda saddles: saddles, complex.provenance)
    return graph_merge_tree(complex.vertex_values, [_edges(complex)], complex.provenance)


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

    def later_ends(saddles: Integers) -> Integers:
        vertex, first = np.empty_like(saddles), 0
        for edges, _ in blocks:
            here = (saddles >= first) & (saddles < first + len(edges))
            ends = edges[saddles[here] - first]
            one, other = ends[:, 0], ends[:, 1]
            vertex[here] = np.where(values[one] > values[other], one, other)  # of equal ones the later row
            first += len(edges)
        return vertex

    return _tree(values, *graph_links(values, blocks), later_ends, provenance)


def _tree(
    values: Floats,
    basins: Basins,
    links: Links,
    vertices: Callable[[Integers], Integers],
    provenance: Mapping[str, Any],
) -> MergeTree:
    """Return the merge tree of basins and links; `vertices` says at which vertex links of some names enter."""
    joined = joined_stops(values[basins.stops], links, ascending_runs(links.value), basins.below)
    basin = joined.leaf[basins.stop_of]
    basin[np.isinf(values)] = -1
    points = points_of_nodes(joined.parent, basin, count_at_or_below(joined.saddle_values, values))
    minima = basins.stops[joined.leaves]
    return MergeTree(
        simplex=np.concatenate([minima, joined.saddles]),
        vertex=np.concatenate([minima, vertices(joined.saddles)]),
        value=np.concatenate([values[minima], joined.saddle_values]),
        parent=joined.parent,
        size=summed_up(joined.parent, points),
        basin=basin,
        provenance=provenance,
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
    death_node, last_node = _elder(tree.parent, leaves)
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


class Basins(NamedTuple):
    """Where descent stops: at local minima and, in graphs, at every vertex of a plateau."""

    stops: Integers  # (s,) vertices, by (value, row)
    stop_of: Integers  # (n,) the stop below each vertex
    below: Integers  # (s,) the stop to which a plateau vertex descends further; itself at a local minimum


def _number_stops(values: Floats, descent: Integers, stop: np.ndarray) -> Basins:
    stops = np.flatnonzero(stop)
    stops = stops[ascending_runs(values[stops])]
    number = _numbers(len(values), stops)
    stop_of = _settle_down(descent, number)
    return Basins(stops, stop_of, stop_of[descent[stops]])


def grid_basins(grid: Floats, connectivity: Connectivity) -> Basins:
    """Return the basins of steepest descent of a grid."""
    values, shape, offsets, deltas = _steps(grid, connectivity)
    index = np.int32 if grid.size < 2**31 else np.int64
    descent = _descend_grid(values, shape, offsets, deltas, index(0))
    return _number_stops(values, descent, descent == np.arange(len(values), dtype=index))


def grid_links(grid: Floats, connectivity: Connectivity) -> tuple[Basins, Links]:
    """Return the basins of steepest descent of a grid, and the links between them, named by vertices."""
    basins = grid_basins(grid, connectivity)
    values, shape, offsets, deltas = _steps(grid, connectivity)
    one, other, name = _link_grid(values, shape, offsets, deltas, basins.stop_of)
    return basins, Links(one, other, values[name], name)


def _steps(grid: Floats, connectivity: Connectivity) -> tuple[Floats, Integers, Integers, Integers]:
    """Return the values of a grid in a row, its shape, and the steps to neighbours: along the axes, and in the row."""
    offsets = neighbour_offsets(grid.ndim, connectivity)
    return grid.reshape(-1), np.array(grid.shape), offsets, offsets @ (np.array(grid.strides) // grid.itemsize)


def graph_links(values: Floats, blocks: Iterable[tuple[Integers, Floats]]) -> tuple[Basins, Links]:
    """Return the basins of steepest descent of a graph, and the links between them, named by edges.

    The edges come in blocks of rows and values, twice; beyond these there are some 40 bytes a vertex.
    """
    n = len(values)
    descent, plateau = np.arange(n), np.zeros(n, dtype=np.bool_)
    for edges, edge_values in blocks:
        _descend_graph(values, edges, edge_values, descent, plateau)
    basins = _number_stops(values, descent, plateau | (descent == np.arange(n)))
    number = np.where(plateau, basins.stop_of, -1)
    joined, linked = np.full(n, -1), np.full(n, -1)
    links, row = None, 0
    for edges, edge_values in blocks:
        one, other, name = _link_graph(values, edges, edge_values, basins.stop_of, number, joined, linked)
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


# --------------------------------------------------------------------------------------------------------------
# Compiled kernels
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _descend_grid(values, shape, offsets, deltas, zero):  # type: ignore[no-untyped-def]
    """Return each vertex's lowest neighbour by (value, row), itself where none is lower.

    `zero` carries the integer type of the result.
    """
    n, width = len(values), shape[-1]
    axes = len(shape)
    descent = np.empty(n, dtype=np.dtype(type(zero)))
    for line in range(n // width):
        start = line * width
        descent[start : start + width] = np.arange(start, start + width)
        position = np.empty(axes, dtype=np.int64)
        rest = line
        for axis in range(axes - 2, -1, -1):
            position[axis] = rest % shape[axis]
            rest //= shape[axis]
        for step in range(len(offsets)):
            inside = True
            for axis in range(axes - 1):
                moved = position[axis] + offsets[step, axis]
                inside &= (moved >= 0) & (moved < shape[axis])
            if not inside:
                continue
            delta = deltas[step]
            first = start + max(0, -offsets[step, axes - 1])
            last = start + width - max(0, offsets[step, axes - 1])
            for vertex in range(first, last):
                best = descent[vertex]
                other = vertex + delta
                if values[other] < values[best] or (values[other] == values[best] and other < best):
                    descent[vertex] = other
    return descent


@njit(cache=True)
def _link_grid(values, shape, offsets, deltas, stop_of):  # type: ignore[no-untyped-def]
    """Return (stop, other stop, vertex) wherever a vertex has an earlier neighbour in another basin.

    Of the links between the same two stops only the first to enter matters, so the others are dropped when room is
    needed, unless there turned out to be few.
    """
    n, width = len(values), shape[-1]
    axes = len(shape)
    one = np.empty(_LINKS, dtype=np.int64)
    other_stop = np.empty(_LINKS, dtype=np.int64)
    name = np.empty(_LINKS, dtype=np.int64)
    count = 0
    repeated = True
    position = np.zeros(axes, dtype=np.int64)
    inside = np.empty(len(offsets), dtype=np.bool_)
    for start in range(0, n, width):
        for step in range(len(offsets)):
            fits = True
            for axis in range(axes - 1):
                moved = position[axis] + offsets[step, axis]
                fits &= (moved >= 0) & (moved < shape[axis])
            inside[step] = fits
        full = count + width * len(offsets) > len(one)
        if full and repeated:
            kept = _first_of_pairs(values, one, other_stop, name, count)
            repeated = 8 * kept < 7 * count
            count = kept
        if full and 2 * count + width * len(offsets) > len(one):
            room = 2 * len(one) + width * len(offsets)
            one = np.concatenate((one[:count], np.empty(room - count, dtype=np.int64)))
            other_stop = np.concatenate((other_stop[:count], np.empty(room - count, dtype=np.int64)))
            name = np.concatenate((name[:count], np.empty(room - count, dtype=np.int64)))
        for column in range(width):
            vertex = start + column
            value = values[vertex]
            if value == np.inf:
                continue
            own = stop_of[vertex]
            before = count
            for step in range(len(offsets)):
                moved = column + offsets[step, axes - 1]
                if not (inside[step] and 0 <= moved < width):
                    continue
                neighbour = vertex + deltas[step]
                there = stop_of[neighbour]
                if there == own or (count > before and other_stop[count - 1] == there):
                    continue
                if values[neighbour] < value or (values[neighbour] == value and neighbour < vertex):
                    one[count] = own
                    other_stop[count] = there
                    name[count] = vertex
                    count += 1
        for axis in range(axes - 2, -1, -1):
            position[axis] += 1
            if position[axis] < shape[axis]:
                break
            position[axis] = 0
    if repeated:
        count = _first_of_pairs(values, one, other_stop, name, count)
    return one[:count].copy(), other_stop[:count].copy(), name[:count].copy()


@njit(cache=True)
def _first_of_pairs(values, one, other, name, count):  # type: ignore[no-untyped-def]
    """Keep of the links between the same two stops the first to enter, in their order; return how many are left."""
    bits = 10
    while 1 << bits < 2 * count:
        bits += 1
    slots = np.full(1 << bits, -1, dtype=np.int64)
    kept = np.zeros(count, dtype=np.bool_)
    for link in range(count):
        low, high = min(one[link], other[link]), max(one[link], other[link])
        # Multiplicative hashing (Knuth 1973), by 2^64 over the golden ratio.
        mixed = (np.uint64(low) << np.uint64(32)) + np.uint64(high)
        place = np.int64((mixed * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))
        while slots[place] >= 0:
            known = slots[place]
            if min(one[known], other[known]) == low and max(one[known], other[known]) == high:
                break
            place = (place + 1) & ((1 << bits) - 1)
        known = slots[place]
        if known >= 0:
            if values[name[link]] >= values[name[known]]:
                continue
            kept[known] = False
        slots[place] = link
        kept[link] = True
    left = 0
    for link in range(count):
        if kept[link]:
            one[left] = one[link]
            other[left] = other[link]
            name[left] = name[link]
            left += 1
    return left


@njit(cache=True)
def _descend_graph(values, edges, edge_values, descent, plateau):  # type: ignore[no-untyped-def]
    """Find each vertex's lowest neighbour over edges that enter with the vertex, and who lies on a plateau.

    On a plateau the order of the edges decides which of them joins what, so its vertices stay apart from their
    basins until union-find.
    """
    for row in range(len(edges)):
        low, high = edges[row, 0], edges[row, 1]
        if values[low] > values[high]:
            low, high = high, low
        if edge_values[row] > values[high]:
            continue
        if values[low] == values[high]:
            plateau[low] = True
            plateau[high] = True
        best = descent[high]
        if values[low] < values[best] or (values[low] == values[best] and low < best):
            descent[high] = low


@njit(cache=True)
def _link_graph(values, edges, edge_values, stop_of, plateau, joined, linked):  # type: ignore[no-untyped-def]
    """Return (stop, other stop, edge) for every edge that can join two components or settle a plateau.

    A vertex off the plateaus joins the component of its first edge, which is kept in `joined`, and can only join others
    to that one; to which stop last, of which a second link joins nothing, is kept in `linked`. `plateau` holds the stop
    of each vertex on a plateau, -1 elsewhere.
    """
    room = len(edges)
    one = np.empty(room, dtype=np.int64)
    other = np.empty(room, dtype=np.int64)
    name = np.empty(room, dtype=np.int64)
    count = 0
    for row in range(len(edges)):
        value = edge_values[row]
        if value == np.inf:
            continue
        low, high = edges[row, 0], edges[row, 1]
        if values[low] > values[high]:
            low, high = high, low
        here, there = stop_of[high], stop_of[low]
        if value == values[high] and plateau[high] < 0:
            if joined[high] < 0:
                joined[high] = there
                continue
            if linked[high] == there:
                continue
            here = joined[high]
            linked[high] = there
        if here != there:
            one[count] = here
            other[count] = there
            name[count] = row
            count += 1
    return one[:count].copy(), other[:count].copy(), name[:count].copy()


@njit(cache=True)
def _numbers(n, stops):  # type: ignore[no-untyped-def]
    """Return the number of each stop at its vertex, -1 elsewhere."""
    number = np.full(n, -1, dtype=np.int64)
    for i in range(len(stops)):
        number[stops[i]] = i
    return number


@njit(cache=True)
def _settle_down(descent, number):  # type: ignore[no-untyped-def]
    """Follow descent from every vertex to the first stop, whose number replaces the -1 in `number`."""
    for vertex in range(len(descent)):
        end = vertex
        while number[end] < 0:
            end = descent[end]
        stop = number[end]
        end = vertex
        while number[end] < 0:
            number[end] = stop
            end = descent[end]
    return number


@njit(cache=True)
def _elder(parent, leaves):  # type: ignore[no-untyped-def]
    """Return, for each leaf, the saddle at which its bar ends (-1: never) and the last node of its bar."""
    oldest = np.full(len(parent), -1, dtype=np.int64)
    oldest[:leaves] = np.arange(leaves)
    waiting = np.full(len(parent), -1, dtype=np.int64)
    death_node = np.full(leaves, -1, dtype=np.int64)
    last_node = np.arange(leaves)
    for node in range(len(parent)):  # children come before their parents
        leaf = oldest[node]
        above = parent[node]
        if above < 0:
            last_node[leaf] = node
        elif waiting[above] < 0:
            waiting[above] = node
            oldest[above] = leaf
        else:
            sibling = waiting[above]
            elder, younger, last = oldest[sibling], leaf, node
            if elder > younger:
                elder, younger, last = younger, elder, sibling
            oldest[above] = elder
            death_node[younger] = above
            last_node[younger] = last
    return death_node, last_node
