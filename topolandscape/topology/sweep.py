"""The compiled steps of the merge sweep: descent to the lowest neighbour, links between basins, the elder rule."""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of a line that are looked at together for a basin beside theirs.
_COLUMNS = 128
_LINKS = 2**16  # stops or links for which there is room at first


@njit(cache=True, nogil=True)
def descend_grid(first, last, values, shape, offsets, deltas, descent):  # type: ignore[no-untyped-def]
    """Write each vertex's lowest neighbour by (value, row), itself where none is lower; return these, the stops.

    A line belongs to the part of the vertices, from `first` to `last`, in which it begins.
    """
    width = shape[-1]
    axes, earlier = len(shape), len(offsets) // 2  # offsets ascend, and the first half leads to earlier rows
    lowest = np.empty(width)
    position = np.empty(axes, dtype=np.int64)
    stops = np.empty(min(_LINKS, last - first) + width, dtype=descent.dtype)
    count = 0
    for line in range(-(-first // width), -(-last // width)):
        start = line * width
        lowest[:] = values[start : start + width]
        descent[start : start + width] = np.arange(start, start + width)
        rest = line
        for axis in range(axes - 2, -1, -1):
            position[axis] = rest % shape[axis]
            rest //= shape[axis]
        for turn in range(len(offsets)):
            # From the vertex to ever earlier ones, where of equal values the last counts, then to ever later ones.
            step = earlier - 1 - turn if turn < earlier else turn
            if not _inside(position, shape, offsets[step]):
                continue
            left = max(0, -offsets[step, axes - 1])
            right = width - max(0, offsets[step, axes - 1])
            there = start + deltas[step]
            # Slices of the line, and no branch, so that several columns are compared at once.
            others, best, row = values[there + left : there + right], lowest[left:right], descent[start + left :]
            if turn < earlier:
                for column in range(len(others)):
                    lower = others[column] <= best[column]
                    best[column] = others[column] if lower else best[column]
                    row[column] = there + left + column if lower else row[column]
            else:
                for column in range(len(others)):
                    lower = others[column] < best[column]
                    best[column] = others[column] if lower else best[column]
                    row[column] = there + left + column if lower else row[column]
        if count + width > len(stops):
            stops = np.concatenate((stops, np.empty(len(stops) + width, dtype=stops.dtype)))
        for left in range(start, start + width, _COLUMNS):
            right = min(left + _COLUMNS, start + width)
            some = False
            for vertex in range(left, right):
                some |= descent[vertex] == vertex
            if some:
                for vertex in range(left, right):
                    stops[count] = vertex
                    count += descent[vertex] == vertex
    return stops[:count].copy()


@njit(cache=True, nogil=True)
def _inside(position, shape, offset):  # type: ignore[no-untyped-def]
    """Tell whether a step from a line leads to a line of the grid."""
    inside = True
    for axis in range(len(shape) - 1):
        moved = position[axis] + offset[axis]
        inside &= (moved >= 0) & (moved < shape[axis])
    return inside


@njit(cache=True, nogil=True)
def link_grid(first, last, values, shape, offsets, deltas, squares, beside, stop_of):  # type: ignore[no-untyped-def]
    """Return (stop, other stop, vertex) where a vertex joins its basin to others.

    Earlier neighbours that were joined before the vertex came are one group, and there is one link to each group that
    has no vertex of its own basin. Links of a vertex stand together. Lines are shared out as in `descend_grid`.
    `squares` has rows of two neighbours, the later first, and the step to a vertex beside both; `beside[step]` rows of
    another neighbour and the square across which they may be joined, -1 where they are neighbours themselves, filled
    up by -1.
    """
    width, axes, steps = shape[-1], len(shape), len(offsets)
    most = width * steps + 1
    room = min(_LINKS, last - first) + most
    one = np.empty(room, dtype=stop_of.dtype)
    other = np.empty(room, dtype=stop_of.dtype)
    name = np.empty(room, dtype=stop_of.dtype)
    count = 0
    position = np.empty(axes, dtype=np.int64)
    inside = np.empty(steps, dtype=np.bool_)
    early = np.empty((steps, _COLUMNS), dtype=np.uint8)
    bridged = np.empty((len(squares), _COLUMNS), dtype=np.uint8)
    groups = np.full(_COLUMNS, 2, dtype=np.uint8)
    waits, stack = np.empty(steps, dtype=np.uint8), np.empty(steps, dtype=np.int64)
    for line in range(-(-first // width), -(-last // width)):
        start, rest = line * width, line
        for axis in range(axes - 2, -1, -1):
            position[axis] = rest % shape[axis]
            rest //= shape[axis]
        for step in range(steps):
            inside[step] = _inside(position, shape, offsets[step])
        if count + most > len(one):
            more = np.empty(len(one), dtype=one.dtype)
            one = np.concatenate((one, more))
            other = np.concatenate((other, more))
            name = np.concatenate((name, more))
        for left in range(0, width, _COLUMNS):
            right = min(left + _COLUMNS, width)
            if not _near_others(stop_of, offsets, deltas, inside, start, left, right, width):
                continue
            _look_around(values, offsets, deltas, inside, start, left, right, width, early)
            if len(squares):
                _look_across(values, offsets, squares, inside, start, left, right, width, early, bridged, groups)
            for column in range(right - left):
                vertex = start + left + column
                if groups[column] < 2 or values[vertex] == np.inf:
                    continue
                own, waiting, differ = stop_of[vertex], 0, 0
                for step in range(steps):
                    waits[step] = early[step, column]
                    waiting += waits[step]
                    differ |= own ^ stop_of[vertex + deltas[step] * waits[step]]  # without a branch
                if differ == 0:
                    continue
                every = waiting
                for step in range(steps):
                    if not waits[step]:
                        continue
                    found, size, in_own = every == waiting, 1, False
                    waits[step], stack[0] = 0, step
                    waiting -= 1
                    while size > 0 and not (found and waiting == 0):  # else there is one group
                        size -= 1
                        here = stack[size]
                        in_own |= stop_of[vertex + deltas[here]] == own
                        for i in range(beside.shape[1]):
                            there, square = beside[here, i, 0], beside[here, i, 1]
                            if there < 0:
                                break
                            if waits[there] and (square < 0 or bridged[square, column]):
                                waits[there], stack[size] = 0, there
                                size += 1
                                waiting -= 1
                    if size == 0 and not in_own:
                        one[count] = own
                        other[count] = stop_of[vertex + deltas[step]]
                        name[count] = vertex
                        count += 1
    return one[:count].copy(), other[:count].copy(), name[:count].copy()


@njit(cache=True, nogil=True)
def _look_around(values, offsets, deltas, inside, start, left, right, width, early):  # type: ignore[no-untyped-def]
    """Write for these columns of a line which of their neighbours come before them."""
    steps, last = len(offsets), offsets.shape[1] - 1
    early[:] = 0
    for step in range(steps):
        if inside[step]:
            low, high = max(left, -offsets[step, last]), min(right, width - offsets[step, last])
            _earlier(values, start + low, start + high, deltas[step], early[step, low - left :])


@njit(cache=True, nogil=True)
def _look_across(values, offsets, squares, inside, start, left, right, width, early, bridged, groups):  # type: ignore[no-untyped-def]
    """Write which two earlier neighbours are joined across a square, and how many are not joined to one before them.

    These are at least as many as there are groups.
    """
    last, square = offsets.shape[1] - 1, 0
    joined = np.empty(_COLUMNS, dtype=np.uint8)
    groups[:] = 0
    for step in range(len(offsets)):
        joined[:] = 0
        while square < len(squares) and squares[square, 0] == step:
            before, here = squares[square, 1], bridged[square]
            here[:] = 0
            if inside[step] and inside[before]:
                low = max(left, -offsets[step, last], -offsets[before, last])
                high = min(right, width - offsets[step, last], width - offsets[before, last])
                _earlier(values, start + low, start + high, squares[square, 2], here[low - left :])
            for column in range(_COLUMNS):
                here[column] &= early[step, column] & early[before, column]
                joined[column] |= here[column]
            square += 1
        for column in range(_COLUMNS):
            groups[column] += early[step, column] & ~joined[column]


@njit(cache=True, nogil=True, inline="always")
def _earlier(values, first, last, delta, early):  # type: ignore[no-untyped-def]
    """Write of which vertices in a row the one at `delta` comes before them, of equal ones the earlier row."""
    here, there = values[first:last], values[first + delta : last + delta]
    if delta < 0:
        for column in range(len(here)):
            early[column] = there[column] <= here[column]
    else:
        for column in range(len(here)):
            early[column] = there[column] < here[column]


@njit(cache=True, nogil=True)
def _near_others(stop_of, offsets, deltas, inside, start, left, right, width):  # type: ignore[no-untyped-def]
    """Tell whether any of these columns of a line has a neighbour in another basin."""
    differ = 0
    for step in range(len(offsets)):
        if not inside[step]:
            continue
        along = offsets[step, offsets.shape[1] - 1]
        first = max(left, -along)
        last = min(right, width - along)
        own = stop_of[start + first : start + last]
        others = stop_of[start + first + deltas[step] : start + last + deltas[step]]
        for column in range(len(own)):
            differ |= own[column] ^ others[column]
    return differ != 0


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
def settle_down(descent, stops):  # type: ignore[no-untyped-def]
    """Replace in `descent` the next vertex on the way down by the number of the first of the stops on that way."""
    n = len(descent)
    for number in range(len(stops)):
        descent[stops[number]] = ~number
    # Backwards every vertex learns which of the earlier ones comes first after later ones, or at which stop these end.
    for vertex in range(n - 1, -1, -1):
        below = descent[vertex]
        if below > vertex:
            further = descent[below]
            while further > vertex:
                descent[below] = descent[further]  # halves the way
                below = further
                further = descent[below]
            descent[vertex] = further
    for vertex in range(n):
        below = descent[vertex]
        descent[vertex] = descent[below] if below >= 0 else ~below


@njit(cache=True)
def elder(parent, value, numbers):  # type: ignore[no-untyped-def]
    """Return birth, death, the saddle at which it ends (-1: never) and the last node of the bar of each leaf.

    Nodes are numbered in the type of `numbers`.
    """
    roots, integer = 0, numbers.dtype
    for above in parent:
        roots += above < 0
    leaves = (len(parent) + roots) // 2  # saddles have two children
    oldest = np.full(len(parent), -1, dtype=integer)  # the leaf of the first child that comes, until the node comes
    birth, death = value[:leaves], np.full(leaves, np.inf)
    end = np.full(leaves, -1, dtype=np.int64)
    last = np.empty(leaves, dtype=np.int64)
    waiting = np.full(len(parent), -1, dtype=integer)
    for node in range(len(parent)):  # children come before their parents
        leaf = node if node < leaves else oldest[node]
        above = parent[node]
        if above < 0:
            last[leaf] = node
        elif waiting[above] < 0:
            waiting[above] = node
            oldest[above] = leaf
        else:
            sibling = waiting[above]
            elder, younger, top = oldest[above], leaf, node
            if elder > younger:
                elder, younger, top = younger, elder, sibling
            oldest[above] = elder
            end[younger], death[younger], last[younger] = above, value[above], top
    return birth, death, end, last
