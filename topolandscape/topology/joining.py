"""Basins joined along the links between them: union-find and the elder rule, the tree of it, and its points.

A basin is known by its stop, the vertex at which descent in it ends. Stops are numbered by (value, row), so of two the
elder has the lower number. Links are taken in the order of (value, name); where a link is named by the vertex at which
it enters, those of one name enter together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.structures import Floats, Integers
from topolandscape.topology.sorting import ascending_rows, index_type
from topolandscape.topology.threads import shared_out

_AHEAD = 64  # entries that are looked at together, before their turn


class Links(NamedTuple):
    """Links between two stops."""

    one: NDArray[Any]  # integers, as `other` and `name`
    other: NDArray[Any]
    value: Floats
    name: NDArray[Any]


class Joined(NamedTuple):
    """The tree in which stops are joined: leaves, then saddles as they enter."""

    leaf: NDArray[Any]  # (s,) the leaf of each stop; -1: its loss is +inf
    leaves: Integers  # the stops that are leaves
    saddles: Integers  # the names of the links that join two leaves
    saddle_values: Floats
    parent: Integers  # (nodes,)


def joined_stops(stop_values: Floats, links: Links, order: NDArray[Any], below: NDArray[Any]) -> Joined:
    """Return the tree in which stops are joined along links.

    Parameters
    ----------
    stop_values
        By (value, row), (s,).
    links
        Between stops.
    order
        Their rows by (value, name).
    below
        The stop to which descent leads further, from a stop on a plateau; itself elsewhere, (s,).

    Returns
    -------
    Joined
        Where a vertex names several links that join, the components they join are taken by age: so the tree does not
        depend on which of the links that would do are there.
    """
    integer = index_type(max(2 * len(stop_values), len(order)))  # of stops, of nodes, and of links
    name = links.name[order]
    first = np.flatnonzero(np.append(True, name[1:] != name[:-1])[: len(name)])
    ends = np.append(first, len(name)).astype(integer)
    one, other = links.one[order].astype(integer), links.other[order].astype(integer)
    entries = np.arange(len(first), dtype=integer)
    values, uncounted = links.value[order[first]], np.empty(0, dtype=integer)
    joined, _ = _joined(stop_values, below.astype(integer), values, entries, ends, one, other, uncounted)
    return joined._replace(saddles=name[first[joined.saddles]].astype(np.int64))


def swept(
    values: Floats, order: NDArray[Any], stops: NDArray[Any], stop_of: NDArray[Any], links: Links
) -> tuple[Joined, Integers]:
    """Return the tree in which stops of a grid are joined, and the points of its nodes, in one sweep over the vertices.

    Parameters
    ----------
    values
        Of the vertices, (n,).
    order
        Vertices by (value, row), (n,).
    stops, stop_of
        The vertices at which descent stops, by (value, row), and which of them is below each vertex.
    links
        Named by vertices, in their order, all integers of the type of `order`.

    Returns
    -------
    Joined
        As of `joined_stops`.
    Integers
        How many vertices enter while each node is the top of their component, as of `leaves_and_points`.
    """
    starts = _starts(links.name, len(values), order[0])
    below = np.arange(len(stops), dtype=order.dtype)
    return _joined(values[stops], below, values, order, starts, links.one, links.other, stop_of)


def _joined(stop_values: Floats, below: NDArray[Any], *entries: NDArray[Any]) -> tuple[Joined, Integers]:
    saddles, nodes, swallowed_by, _ = _join(stop_values, *entries)
    leaf, leaves = _leaves(stop_values, swallowed_by, below)
    # Until here every stop had a number, whether it is a leaf or not.
    kept = np.concatenate([leaves, np.arange(len(stop_values), len(nodes))])
    parent, points = nodes[kept].astype(np.int64).T.copy()
    parent[parent >= 0] -= len(stop_values) - len(leaves)
    return Joined(leaf, leaves, saddles, entries[0][saddles], parent.copy()), points


def concatenated(parts: Sequence[Links]) -> Links:
    """Return the links of all parts, one part after the other."""
    return Links(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def spanning(stops: int, links: Links) -> Links:
    """Return those links, given in the order of their names, that join two components: a minimum spanning forest."""
    kept = _spanning(stops, links.one, links.other, ascending_rows(links.value))
    return Links(*(field[kept] for field in links))


def leaves_and_points(
    joined: Joined, values: Floats, stop_of: NDArray[Any], leaf_of_stop: NDArray[Any]
) -> tuple[Integers, Integers]:
    """Return the leaf below each vertex, and how many vertices enter while each node is the top of their component.

    Parameters
    ----------
    joined
        The tree.
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
        node that enters no later, by steps that double (Myers 1983).
    """
    basin = np.empty(len(values), dtype=np.int64)
    shortcut = _shortcuts(joined.parent)
    columns = (values, stop_of, leaf_of_stop, joined.parent, shortcut, joined.saddle_values)
    # A part counts by nodes, and where there are many, many parts would take more memory than the tree.
    return basin, sum(shared_out(_climb, len(values), *columns, basin, least=len(joined.parent)))


# --------------------------------------------------------------------------------------------------------------
# Compiled kernels
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _starts(name, n, zero):  # type: ignore[no-untyped-def]
    """Return where the links of each vertex begin, which stand in the order of the vertices."""
    starts = np.empty(n + 1, dtype=np.dtype(type(zero)))
    link = 0
    for vertex in range(n):
        starts[vertex] = link
        while link < len(name) and name[link] == vertex:
            link += 1
    starts[n] = link
    return starts


@njit(cache=True)
def root(parent, node):  # type: ignore[no-untyped-def]
    """Return the root of a node, and halve the way there."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@njit(cache=True)
def _spanning(stops, one, other, order):  # type: ignore[no-untyped-def]
    """Return which links, taken in `order`, join two components."""
    parent = np.arange(stops)
    kept = np.zeros(len(order), dtype=np.bool_)
    for link in order:
        here, there = root(parent, one[link]), root(parent, other[link])
        if here != there:
            parent[here] = there
            kept[link] = True
    return kept


@njit(cache=True)
def _join(stop_values, values, order, starts, one, other, stop_of):  # type: ignore[no-untyped-def]
    """Let entries come in `order`, by value; entry e has the links from ``starts[e]`` to ``starts[e + 1]``.

    Stops are numbered by (value, row), so the elder has the lower number. The components that one entry joins are
    swallowed by the eldest of them, the elder first. Nodes are all stops, then the saddles. Returns for each saddle its
    entry, for each node its parent and how many entries at a stop of `stop_of` (none where it is empty) come while it
    is the top of their component, and for each stop that is swallowed at its own value the stop that swallows it.
    """
    stops, integer = len(stop_values), one.dtype
    component = np.arange(stops).astype(integer)
    swallowed_by = np.full(stops, -1, dtype=integer)
    # What is needed at once stands side by side.
    top = np.zeros((stops, 2), dtype=integer)  # of each component, and the entries since it came
    top[:, 0] = np.arange(stops)
    nodes = np.zeros((2 * stops, 2), dtype=integer)  # parent and entries
    nodes[:, 0] = -1
    saddle = np.empty(stops, dtype=np.int64)
    younger = np.empty(stops, dtype=integer)
    entries = len(order) if len(stop_of) else 0  # to be counted
    level, saddles, counted, ahead, looked_at = -np.inf, 0, 0, 0, 0
    deeper = 0  # stops below the level
    for place in range(len(order)):
        if place == ahead:
            # What is far apart in memory is fetched for many entries at once, none of which waits for another.
            ahead = min(place + _AHEAD, len(order))
            for entry in order[place:ahead]:
                looked_at += starts[entry] + (values[entry] < 0)
                if entries:
                    looked_at += stop_of[entry]
        entry = order[place]
        if values[entry] > level:
            # Only now, since entries of one value are counted after all that they join.
            while counted < min(place, entries):
                top[root(component, stop_of[order[counted]]), 1] += 1
                counted += 1
            level = values[entry]
            if level == np.inf:
                break
            while deeper < stops and stop_values[deeper] < level:
                deeper += 1
        begin, end = starts[entry], starts[entry + 1]
        if begin == end:
            continue
        before, known = saddles, one[begin]
        elder = root(component, known)
        for link in range(begin, end):
            if one[link] != known:
                known = one[link]
                elder = root(component, known)
            late = root(component, other[link])
            if elder == late:
                continue
            if elder > late:
                elder, late = late, elder
            component[late] = elder
            if late >= deeper:
                swallowed_by[late] = elder
                continue
            event = saddles
            while event > before and younger[event - 1] > late:
                younger[event] = younger[event - 1]
                event -= 1
            younger[event] = late
            saddle[saddles] = entry
            saddles += 1
        for event in range(before, saddles):
            for stop in (younger[event], elder):
                node = top[stop, 0]
                nodes[node, 0] = stops + event
                nodes[node, 1] += top[stop, 1]
                top[stop, 1] = 0
            top[elder, 0] = stops + event
    while counted < entries and values[order[counted]] < np.inf:
        top[root(component, stop_of[order[counted]]), 1] += 1
        counted += 1
    for stop in range(stops):
        nodes[top[stop, 0], 1] += top[stop, 1]
    return saddle[:saddles].copy(), nodes[: stops + saddles], swallowed_by, looked_at


@njit(cache=True)
def _leaves(stop_values, swallowed_by, below):  # type: ignore[no-untyped-def]
    """Return the leaf of each stop (-1: none, its loss is +inf) and the stops that are leaves."""
    stops = len(stop_values)
    leaf = np.full(stops, -1, dtype=swallowed_by.dtype)
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
def _shortcuts(parent):  # type: ignore[no-untyped-def]
    """Return for each node one above it, so that few steps to it or to the parent lead anywhere (Myers 1983)."""
    shortcut = np.arange(len(parent))
    depth = np.zeros(len(parent), dtype=np.int64)
    for node in range(len(parent) - 1, -1, -1):  # parents come after their children
        above = parent[node]
        if above >= 0:
            far = shortcut[above]
            depth[node] = depth[above] + 1
            even = depth[above] - depth[far] == depth[far] - depth[shortcut[far]]
            shortcut[node] = shortcut[far] if even else above
    return shortcut


@njit(cache=True, nogil=True)
def _climb(first, last, values, stop_of, leaf_of_stop, parent, shortcut, saddle_values, basin):  # type: ignore[no-untyped-def]
    """Write the leaf below each vertex, and return how many enter while each node is the top of their component."""
    points = np.zeros(len(parent), dtype=np.int64)
    leaves = len(parent) - len(saddle_values)
    enters = np.full(len(parent), np.inf)  # the parent of each
    root = np.arange(len(parent))
    for node in range(len(parent) - 1, -1, -1):
        if parent[node] >= 0:
            enters[node] = saddle_values[parent[node] - leaves]
            root[node] = root[parent[node]]
    stop, leaf, node, number, low, high = -1, -1, 0, 0, np.inf, -np.inf
    for vertex in range(first, last):
        value = values[vertex]
        if stop_of[vertex] != stop or not low <= value < high:  # rare, since vertices are like those before them
            if value == np.inf:
                basin[vertex] = -1
                continue
            points[node] += number
            stop, number = stop_of[vertex], 0
            leaf = leaf_of_stop[stop]
            node = leaf
            if enters[node] <= value:
                above = root[node]
                if saddle_values[above - leaves] <= value:  # as of most on a bowl
                    node = above
            while enters[node] <= value:
                far = shortcut[node]
                node = far if saddle_values[far - leaves] <= value else parent[node]
            low, high = saddle_values[node - leaves] if node >= leaves else -np.inf, enters[node]
        basin[vertex] = leaf
        number += 1
    if number > 0:  # where nothing enters there may be no node
        points[node] += number
    return points


@njit(cache=True)
def summed_up(parent, points):  # type: ignore[no-untyped-def]
    """Return the points of every node with those of all nodes below it."""
    size = points.copy()
    for node in range(len(parent)):  # children come before their parents
        if parent[node] >= 0:
            size[parent[node]] += size[node]
    return size
