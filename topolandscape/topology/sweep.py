"""The compiled steps of the merge sweep: descent to the lowest neighbour, links between basins, the elder rule."""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of a line that are looked at together for a basin beside theirs.
_COLUMNS = 64
_LINKS = 2**16  # links for which there is room at first


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
def descend_graph(values, edges, edge_values, descent, plateau):  # type: ignore[no-untyped-def]
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
def link_graph(values, edges, edge_values, stop_of, plateau, joined, linked):  # type: ignore[no-untyped-def]
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
def leaves_below(values, stop_of, leaf_of_stop):  # type: ignore[no-untyped-def]
    """Return the leaf below each vertex, -1 where its value is +inf."""
    basin = np.empty(len(values), dtype=np.int64)
    for vertex in range(len(values)):
        basin[vertex] = leaf_of_stop[stop_of[vertex]] if values[vertex] < np.inf else -1
    return basin


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
