"""The compiled steps of the merge sweep: descent to the lowest neighbour, links between basins, union-find."""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of a line that are looked at together for a basin beside theirs.
_COLUMNS = 64
# Entries of a table of saddles and leaves that stays in the cache.
FEW = 4096


@njit(cache=True)
def descend_grid(values, shape, offsets, deltas, zero):  # type: ignore[no-untyped-def]
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
def link_grid(values, shape, offsets, deltas, stop_of):  # type: ignore[no-untyped-def]
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
def descend_graph(values, edges, edge_values):  # type: ignore[no-untyped-def]
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
def link_graph(values, edges, edge_values, stop_of, plateau):  # type: ignore[no-untyped-def]
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
def numbers_of_stops(n, stops, zero):  # type: ignore[no-untyped-def]
    """Return the number of each stop at its vertex, -1 elsewhere, in the integer type of `zero`."""
    number = np.full(n, -1, dtype=np.dtype(type(zero)))
    for i in range(len(stops)):
        number[stops[i]] = i
    return number


@njit(cache=True)
def settle_down(descent, number):  # type: ignore[no-untyped-def]
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
def sort_runs(values, order):  # type: ignore[no-untyped-def]
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
def links_in_order(order, name):  # type: ignore[no-untyped-def]
    """Return the rows of links, of which those of a vertex stand together, in the order of their vertices."""
    first = np.zeros(len(order) + 1, dtype=np.int64)
    for vertex in name:
        first[vertex + 1] += 1
    for vertex in range(len(order)):
        first[vertex + 1] += first[vertex]
    rows = np.empty(len(name), dtype=np.int64)
    count = 0
    for vertex in order:
        for row in range(first[vertex], first[vertex + 1]):
            rows[count] = row
            count += 1
    return rows


@njit(cache=True)
def root(parent, node):  # type: ignore[no-untyped-def]
    """Return the root of a node, and halve the way there."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True)
def kruskal(stop_values, one, other, link_values, order):  # type: ignore[no-untyped-def]
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
def leaves_of_stops(stop_values, swallowed_by, below):  # type: ignore[no-untyped-def]
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
def leaves_below(values, stop_of, leaf_of_stop):  # type: ignore[no-untyped-def]
    """Return the leaf below each vertex, -1 where its value is +inf."""
    basin = np.empty(len(values), dtype=np.int64)
    for vertex in range(len(values)):
        basin[vertex] = leaf_of_stop[stop_of[vertex]] if values[vertex] < np.inf else -1
    return basin


@njit(cache=True)
def tabulated(values, basin, saddle_values, leaves):  # type: ignore[no-untyped-def]
    """Return a table of the points that enter at or after so many saddles, leaf by leaf."""
    table = np.zeros((len(saddle_values) + 1, leaves), dtype=np.int64)
    for vertex in range(len(values)):
        if basin[vertex] < 0:
            continue
        low, high = 0, len(saddle_values)
        while low < high:
            middle = (low + high) // 2
            if saddle_values[middle] <= values[vertex]:
                low = middle + 1
            else:
                high = middle
        table[low, basin[vertex]] += 1
    return table


@njit(cache=True)
def by_turn(basin, enters, turns):  # type: ignore[no-untyped-def]
    """Return where the vertices of each turn begin, and their leaves in that order.

    ``enters[v]`` is the number of saddles at or below the value of vertex v: the first merge that counts it.
    """
    first = np.zeros(turns + 1, dtype=np.int64)
    for vertex in range(len(enters)):
        if basin[vertex] >= 0:
            first[enters[vertex] + 1] += 1
    for turn in range(turns):
        first[turn + 1] += first[turn]
    leaf = np.empty(first[turns], dtype=np.int64)
    place = first[:-1].copy()
    for vertex in range(len(enters)):
        if basin[vertex] >= 0:
            leaf[place[enters[vertex]]] = basin[vertex]
            place[enters[vertex]] += 1
    return first, leaf


@njit(cache=True)
def assemble(leaves, merges, first, leaf_of, number):  # type: ignore[no-untyped-def]
    """Return parent and size of every node, replaying the merges (younger leaf, elder leaf) with the counts between.

    Before merge i count those from ``first[i]`` to ``first[i + 1]``: `number` points of leaf `leaf_of`.
    """
    saddles = len(merges)
    parent = np.full(leaves + saddles, -1, dtype=np.int64)
    size = np.zeros(leaves + saddles, dtype=np.int64)
    component = np.arange(leaves)
    node = np.arange(leaves)
    points = np.zeros(leaves, dtype=np.int64)
    for event in range(saddles + 1):
        for i in range(first[event], first[event + 1]):
            points[root(component, leaf_of[i])] += number[i]
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
def elder(parent, leaves):  # type: ignore[no-untyped-def]
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
