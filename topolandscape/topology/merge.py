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
    merges, swallowed_by = _kruskal(stop_values, links.one, links.other, links.value, _ascending(links.value))
    leaf_of_stop, leaves = _leaves(stop_values, swallowed_by, basins.below)

    saddles = links.name[merges[:, 0]]
    saddle_values = links.value[merges[:, 0]]
    basin = leaf_of_stop[basins.stop_of]
    basin[np.isinf(values)] = -1
    parent, size = _assemble(len(leaves), leaf_of_stop[merges[:, 1:]], basin, _count_at_or_below(saddle_values, values))
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
    number = _numbers(len(values), stops, descent.dtype.type(0))
    stop_of = _settle_down(descent, number)
    return _Basins(stops, stop_of, stop_of[descent[stops]])


def _grid_links(complex: GridComplex) -> tuple[_Basins, _Links]:
    grid = complex.grid
    shape = np.array(grid.shape)
    offsets = neighbour_offsets(grid.ndim, complex.connectivity)
    strides = np.array(grid.strides) // grid.itemsize
    values = complex.vertex_values
    index = np.int32 if grid.size < 2**31 else np.int64
    descent = _descend_grid(values, shape, offsets, offsets @ strides, index(0))
    basins = _number_stops(values, descent, descent == np.arange(len(values), dtype=index))
    one, other, name = _link_grid(values, shape, offsets, offsets @ strides, basins.stop_of)
    return basins, _Links(one, other, values[name], name)


def _graph_links(complex: SimplicialComplex) -> tuple[_Basins, _Links]:
    values = complex.vertex_values
    edges, edge_values = (
        (complex.simplices[1], complex.values[1])
        if complex.dimension > 0
        else (np.empty((0, 2), np.int64), np.empty(0))
    )
    descent, plateau = _descend_graph(values, edges, edge_values)
    basins = _number_stops(values, descent, plateau | (descent == np.arange(len(values))))
    number = np.where(plateau, basins.stop_of, -1)
    one, other, name = _link_graph(values, edges, edge_values, basins.stop_of, number)
    return basins, _Links(one, other, edge_values[name], name)


def _count_at_or_below(thresholds: Floats, values: Floats) -> Integers:
    """Return for each value how many of the (ascending) thresholds it reaches."""
    if 64 * len(thresholds) < len(values):
        return np.searchsorted(thresholds, values, side="right")
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
    _sort_runs(values, order)
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


# --------------------------------------------------------------------------------------------------------------
# Compiled kernels
# --------------------------------------------------------------------------------------------------------------

# Columns of a line that are looked at together for a basin beside theirs.
_COLUMNS = 64


@njit(cache=True)
def _descend_grid(values, shape, offsets, deltas, zero):  # type: ignore[no-untyped-def]
    """Return each vertex's lowest neighbour by (value, row), itself where none is lower.

    `zero` carries the integer type of the result.
    """
    n, width = len(values), shape[-1]
    axes, earlier = len(shape), len(offsets) // 2  # offsets ascend, and the first half leads to earlier rows
    descent = np.empty(n, dtype=np.dtype(type(zero)))
    lowest = np.empty(width)
    for line in range(n // width):
        start = line * width
        lowest[:] = values[start : start + width]
        descent[start : start + width] = np.arange(start, start + width)
        position = np.empty(axes, dtype=np.int64)
        rest = line
        for axis in range(axes - 2, -1, -1):
            position[axis] = rest % shape[axis]
            rest //= shape[axis]
        for turn in range(len(offsets)):
            # From the vertex to ever earlier ones, where of equal values the last counts, then to ever later ones.
            step = earlier - 1 - turn if turn < earlier else turn
            inside = True
            for axis in range(axes - 1):
                moved = position[axis] + offsets[step, axis]
                inside &= (moved >= 0) & (moved < shape[axis])
            if not inside:
                continue
            first = max(0, -offsets[step, axes - 1])
            last = width - max(0, offsets[step, axes - 1])
            there = start + deltas[step]
            # Slices of the line, and no branch, so that several columns are compared at once.
            others, best, row = values[there + first : there + last], lowest[first:last], descent[start + first :]
            if turn < earlier:
                for column in range(len(others)):
                    lower = others[column] <= best[column]
                    best[column] = others[column] if lower else best[column]
                    row[column] = there + first + column if lower else row[column]
            else:
                for column in range(len(others)):
                    lower = others[column] < best[column]
                    best[column] = others[column] if lower else best[column]
                    row[column] = there + first + column if lower else row[column]
    return descent


@njit(cache=True)
def _link_grid(values, shape, offsets, deltas, stop_of):  # type: ignore[no-untyped-def]
    """Return (stop, other stop, vertex) wherever a vertex has an earlier neighbour in another basin."""
    n, width = len(values), shape[-1]
    axes = len(shape)
    one = np.empty(1024, dtype=np.int64)
    other_stop = np.empty(1024, dtype=np.int64)
    name = np.empty(1024, dtype=np.int64)
    count = 0
    position = np.zeros(axes, dtype=np.int64)
    inside = np.empty(len(offsets), dtype=np.bool_)
    for start in range(0, n, width):
        for step in range(len(offsets)):
            fits = True
            for axis in range(axes - 1):
                moved = position[axis] + offsets[step, axis]
                fits &= (moved >= 0) & (moved < shape[axis])
            inside[step] = fits
        if count + width * len(offsets) > len(one):
            room = 2 * len(one) + width * len(offsets)
            one = np.concatenate((one[:count], np.empty(room - count, dtype=np.int64)))
            other_stop = np.concatenate((other_stop[:count], np.empty(room - count, dtype=np.int64)))
            name = np.concatenate((name[:count], np.empty(room - count, dtype=np.int64)))
        for left in range(0, width, _COLUMNS):
            right = min(left + _COLUMNS, width)
            if not _near_others(stop_of, offsets, deltas, inside, start, left, right, width):
                continue
            for vertex in range(start + left, start + right):
                value = values[vertex]
                if value == np.inf:
                    continue
                own = stop_of[vertex]
                before = count
                for step in range(len(offsets)):
                    moved = vertex - start + offsets[step, axes - 1]
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
    return one[:count].copy(), other_stop[:count].copy(), name[:count].copy()


@njit(cache=True)
def _near_others(stop_of, offsets, deltas, inside, start, left, right, width):  # type: ignore[no-untyped-def]
    """Tell whether a vertex of these columns of a line has a neighbour in another basin."""
    for step in range(len(offsets)):
        if not inside[step]:
            continue
        along = offsets[step, offsets.shape[1] - 1]
        first = start + max(left, -along)
        last = start + min(right, width - along)
        own, others = stop_of[first:last], stop_of[first + deltas[step] : last + deltas[step]]
        differ = 0
        for column in range(len(own)):
            differ |= own[column] ^ others[column]
        if differ != 0:
            return True
    return False


@njit(cache=True)
def _descend_graph(values, edges, edge_values):  # type: ignore[no-untyped-def]
    """Return each vertex's lowest neighbour over edges that enter with the vertex, and who lies on a plateau.

    On a plateau the order of the edges decides which of them joins what, so its vertices stay apart from their
    basins until union-find.
    """
    n = len(values)
    descent = np.arange(n)
    plateau = np.zeros(n, dtype=np.bool_)
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
    return descent, plateau


@njit(cache=True)
def _link_graph(values, edges, edge_values, stop_of, plateau):  # type: ignore[no-untyped-def]
    """Return (stop, other stop, edge) for every edge that can join two components or settle a plateau.

    A vertex off the plateaus joins the component of its first edge, and can only join others to that one.
    `plateau` holds the stop of each vertex on a plateau, -1 elsewhere.
    """
    joined = np.full(len(values), -1, dtype=np.int64)
    linked = np.full(len(values), -1, dtype=np.int64)  # to which stop last: a second link there joins nothing
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
def _numbers(n, stops, zero):  # type: ignore[no-untyped-def]
    """Return the number of each stop at its vertex, -1 elsewhere, in the integer type of `zero`."""
    number = np.full(n, -1, dtype=np.dtype(type(zero)))
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
def _sort_runs(values, order):  # type: ignore[no-untyped-def]
    """Put the rows of equal values, which stand together in `order`, into their own order."""
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        if end > start + 1:
            order[start:end] = np.sort(order[start:end])
        start = end


@njit(cache=True)
def root(parent, node):  # type: ignore[no-untyped-def]
    """Return the root of a node, and halve the way there."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True)
def _kruskal(stop_values, one, other, link_values, order):  # type: ignore[no-untyped-def]
    """Join stops along links in `order`; stops are numbered by (value, row), so the elder has the lower number.

    Returns the merges as rows (link, younger, elder), and for each stop that is swallowed at its own value the
    stop that swallows it.
    """
    stops = len(stop_values)
    parent = np.arange(stops)
    swallowed_by = np.full(stops, -1, dtype=np.int64)
    merges = np.empty((stops, 3), dtype=np.int64)
    count = 0
    for link in order:
        elder, younger = root(parent, one[link]), root(parent, other[link])
        if elder == younger:
            continue
        if elder > younger:
            elder, younger = younger, elder
        parent[younger] = elder
        if link_values[link] == stop_values[younger]:
            swallowed_by[younger] = elder
        else:
            merges[count, 0] = link
            merges[count, 1] = younger
            merges[count, 2] = elder
            count += 1
    return merges[:count].copy(), swallowed_by


@njit(cache=True)
def _leaves(stop_values, swallowed_by, below):  # type: ignore[no-untyped-def]
    """Return the leaf of each stop (-1: none, its loss is +inf) and the stops that are leaves."""
    stops = len(stop_values)
    leaf = np.full(stops, -1, dtype=np.int64)
    leaves = np.empty(stops, dtype=np.int64)
    count = 0
    for stop in range(stops):  # in order, so what lies below has its leaf already
        if stop_values[stop] == np.inf:
            continue
        if swallowed_by[stop] < 0:
            leaf[stop] = count
            leaves[count] = stop
            count += 1
        else:
            leaf[stop] = leaf[below[stop]] if below[stop] != stop else leaf[swallowed_by[stop]]
    return leaf, leaves[:count].copy()


@njit(cache=True)
def _assemble(leaves, merges, basin, enters):  # type: ignore[no-untyped-def]
    """Return parent and size of every node, replaying the merges (younger leaf, elder leaf) with all points.

    ``enters[v]`` is the number of saddles at or below the value of vertex v: the first merge that counts it.
    """
    saddles = len(merges)
    first = np.zeros(saddles + 2, dtype=np.int64)
    for event in enters:
        first[event + 1] += 1
    for event in range(saddles + 1):
        first[event + 1] += first[event]
    leaf_at = np.empty(len(enters), dtype=np.int64)
    place = first[:-1].copy()
    for vertex in range(len(enters)):
        leaf_at[place[enters[vertex]]] = basin[vertex]
        place[enters[vertex]] += 1

    parent = np.full(leaves + saddles, -1, dtype=np.int64)
    size = np.zeros(leaves + saddles, dtype=np.int64)
    component = np.arange(leaves)
    node = np.arange(leaves)
    points = np.zeros(leaves, dtype=np.int64)
    for event in range(saddles + 1):
        for i in range(first[event], first[event + 1]):
            if leaf_at[i] >= 0:
                points[root(component, leaf_at[i])] += 1
        if event < saddles:
            younger, elder = root(component, merges[event, 0]), root(component, merges[event, 1])
            for side in (younger, elder):
                parent[node[side]] = leaves + event
                size[node[side]] = points[side]
            component[younger] = elder
            points[elder] += points[younger]
            node[elder] = leaves + event
    for leaf in range(leaves):
        if component[leaf] == leaf:
            size[node[leaf]] = points[leaf]
    return parent, size


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
