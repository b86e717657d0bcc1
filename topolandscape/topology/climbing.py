"""The points of the nodes of a merge tree: every vertex climbs from its leaf to the node that it enters.

The nodes are cut into paths, each from a leaf upwards: at a saddle the path from the side with more leaves goes on. So
to the root no node has more changes of path above it than the logarithm of their number (Sleator and Tarjan 1983), and
on a path, whose nodes stand together in the order of their values, a vertex finds its node by bisection.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.structures import Floats, Integers
from topolandscape.topology.sorting import index_type
from topolandscape.topology.threads import shared_out

_LONG = 64  # nodes of a path for which it is worth while to look up where a value belongs


class _Paths(NamedTuple):
    """Paths, known by their leaves, and the nodes by paths."""

    place: NDArray[Any]  # integers, as the others: (nodes,) of each node
    left_at: Floats  # (nodes,) the value at which the node at each place is left for its parent; inf: never
    turn: NDArray[Any]  # (leaves, 4) first and last place of a path; the path and the place to which it leads, or -1
    longest: int


def leaves_and_points(
    parent: Integers, saddle_values: Floats, values: Floats, stop_of: NDArray[Any], leaf_of_stop: NDArray[Any]
) -> tuple[Integers, Integers]:
    """Return the leaf below each vertex, and how many vertices enter while each node is the top of their component.

    Parameters
    ----------
    parent, saddle_values
        The tree: leaves, then saddles.
    values
        Of any vertices, (n,).
    stop_of
        The stop below each, (n,).
    leaf_of_stop
        The leaf of each stop, (s,).

    Returns
    -------
    tuple of Integers
        Leaves, -1 where the value is +inf, (n,), and points, (nodes,). From its leaf every vertex climbs to the highest
        node that enters no later.
    """
    basin = np.empty(len(values), dtype=np.int64)
    if len(parent) == 0:
        basin[:] = -1
        return basin, np.empty(0, dtype=np.int64)
    paths = _Paths(*_paths(parent, saddle_values, np.empty(0, dtype=index_type(len(parent)))))
    guide = _guide(paths.left_at, *paths.turn[paths.longest, :2])
    columns = (values, stop_of, leaf_of_stop, *paths[1:], *guide, basin)
    # A part counts by nodes, and where there are many, many parts would take more memory than the tree.
    points = sum(shared_out(_climb, len(values), *columns, least=len(parent), few=2**14))
    return basin, points[paths.place]


def summed_up(parent: Integers, points: Integers) -> Integers:
    """Return the points of every node with those of all nodes below it."""
    size = points.copy()
    _sum_up(parent, size)
    return size


@njit(cache=True)
def _sum_up(parent, size):  # type: ignore[no-untyped-def]
    for node in range(len(parent)):  # children come before their parents
        if parent[node] >= 0:
            size[parent[node]] += size[node]


@njit(cache=True)
def _paths(parent, saddle_values, numbers):  # type: ignore[no-untyped-def]
    """Return the fields of `_Paths`, nodes in the type of `numbers`."""
    nodes, integer = len(parent), numbers.dtype
    leaves = nodes - len(saddle_values)
    below = np.zeros((nodes, 2), dtype=integer)  # leaves, and of the child with most of them
    path = np.empty(nodes, dtype=integer)
    length = np.zeros(leaves, dtype=integer)
    for node in range(nodes):  # children come before their parents
        if node < leaves:
            below[node, 0] = 1
            path[node] = node
        length[path[node]] += 1
        above = parent[node]
        if above >= 0:
            below[above, 0] += below[node, 0]
            if below[node, 0] > below[above, 1]:
                below[above, 1] = below[node, 0]
                path[above] = path[node]
    turn = np.full((leaves, 4), -1, dtype=integer)
    count, longest = 0, 0
    for leaf in range(leaves):
        turn[leaf, 0] = count
        count += length[leaf]
        turn[leaf, 1] = count - 1
        if length[leaf] > length[longest]:
            longest = leaf
    place = np.empty(nodes, dtype=integer)
    left_at = np.empty(nodes)
    for node in range(nodes - 1, -1, -1):
        leaf, above = path[node], parent[node]
        length[leaf] -= 1
        here = turn[leaf, 0] + length[leaf]
        place[node] = here
        left_at[here] = saddle_values[above - leaves] if above >= 0 else np.inf
        if above >= 0 and path[above] != leaf:
            turn[leaf, 2] = path[above]
            turn[leaf, 3] = place[above]
    return place, left_at, turn, longest


@njit(cache=True)
def _guide(left_at, first, last):  # type: ignore[no-untyped-def]
    """Return where on a path to look for values: the places of steps of one length, their lowest value, their scale.

    The place of a value whose step is i is not before ``table[i]``, nor after ``table[i + 1]``.
    """
    integer = np.dtype(type(first))
    lowest, steps = left_at[first], 2 * (last - first)
    span = left_at[last - 1] - lowest if last > first else 0.0
    scale = steps / span if span > 0 else 0.0
    if last - first < _LONG or not 0 < scale < np.inf:
        return np.array([first, last], dtype=integer), 0.0, 0.0
    table = np.empty(steps + 1, dtype=integer)
    place = first
    for i in range(steps):
        while _step(left_at[place], lowest, scale, steps) < i:
            place += 1
        table[i] = place
    table[steps] = last
    return table, lowest, scale


@njit(cache=True, nogil=True, inline="always")
def _step(value, lowest, scale, steps):  # type: ignore[no-untyped-def]
    """Return to which of the steps a value belongs; it never falls as values rise."""
    return int(min(max((value - lowest) * scale, 0.0), steps - 1.0))


@njit(cache=True, nogil=True)
def _climb(first, last, values, stop_of, leaf_of_stop, left_at, turn, longest, table, lowest, scale, basin):  # type: ignore[no-untyped-def]
    """Write the leaf below each vertex, and return how many enter at the node of each place."""
    points = np.zeros(len(left_at), dtype=np.int64)
    stop, leaf, here, number, low, high = -1, -1, 0, 0, np.inf, -np.inf
    for vertex in range(first, last):
        value = values[vertex]
        if stop_of[vertex] != stop or not low <= value < high:  # rare, since vertices are like those before them
            if value == np.inf:
                basin[vertex] = -1
                continue
            points[here] += number
            stop, number = stop_of[vertex], 0
            leaf = leaf_of_stop[stop]
            path, here = leaf, turn[leaf, 0]
            end = turn[leaf, 1]
            while left_at[end] <= value:
                path, here = turn[path, 2], turn[path, 3]
                end = turn[path, 1]
            if path == longest:
                step = _step(value, lowest, scale, len(table) - 1)
                here, end = max(here, table[step]), min(end, table[step + 1])
            while here < end:
                middle = (here + end) // 2
                if left_at[middle] <= value:
                    here = middle + 1
                else:
                    end = middle
            low = left_at[here - 1] if here > turn[path, 0] else -np.inf
            high = left_at[here]
        basin[vertex] = leaf
        number += 1
    points[here] += number
    return points
