"""Basins joined along the links between them: union-find and the elder rule, the tree of it, and its points.

A basin is known by its stop, the vertex at which descent in it ends. Stops are numbered by (value, row), so of two the
elder has the lower number. Links are taken in the order of (value, name); where a link is named by the vertex at which
it enters, those of one name enter together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from topolandscape.structures import Floats, Integers

_SHORT_RUN = 32  # rows that are sorted one by one
_FEW = 4096  # entries of a table of saddles and leaves that stays in the cache


class Links(NamedTuple):
    """Links between two stops."""

    one: Integers
    other: Integers
    value: Floats
    name: Integers


class Joined(NamedTuple):
    """The tree in which stops are joined: leaves, then saddles as they enter."""

    leaf: Integers  # (s,) the leaf of each stop; -1: its loss is +inf
    leaves: Integers  # the stops that are leaves
    saddles: Integers  # the names of the links that join two leaves
    saddle_values: Floats
    parent: Integers  # (nodes,)


def joined_stops(stop_values: Floats, links: Links, order: Integers, below: Integers) -> Joined:
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
    merges, swallowed_by = _kruskal(stop_values, links.one, links.other, links.value, order)
    saddles = links.name[merges[:, 0]]
    _by_age(merges, saddles)
    leaf, leaves = _leaves(stop_values, swallowed_by, below)
    parent = _parents(len(leaves), leaf[merges[:, 1:]])
    return Joined(leaf, leaves, saddles, links.value[merges[:, 0]], parent)


def concatenated(parts: Sequence[Links]) -> Links:
    """Return the links of all parts, one part after the other."""
    return Links(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def spanning(stops: int, links: Links) -> Links:
    """Return those links, given in the order of their names, that join two components: a minimum spanning forest."""
    kept = _spanning(stops, links.one, links.other, ascending_runs(links.value))
    return Links(*(field[kept] for field in links))


def ascending_runs(values: Floats) -> Integers:
    """Return the rows of `values` by (value, row), as `structures.ascending` does.

    Here nearly all values are equal to others (the edges of one vertex), and compiled code settles them faster than a
    second, stable sort.
    """
    order = np.argsort(values)
    _sort_runs(values, order)
    return order


def points_of_nodes(joined: Joined, values: Floats, basin: Integers, *, order: Integers | None = None) -> Integers:
    """Return how many vertices enter while each node is the top of their component.

    Parameters
    ----------
    joined
        The tree.
    values
        Of any vertices, (n,).
    basin
        The leaf of each, -1 where it never enters, (n,).
    order
        The rows of the values in ascending order, where it is known.
    """
    turns, leaves = len(joined.saddles) + 1, len(joined.leaves)
    if turns * leaves > _FEW:
        first, leaf = _by_turn(basin, _count_at_or_below(joined.saddle_values, values, order), turns)
        number = np.ones(len(leaf), dtype=np.int64)
    else:
        table = _tabulated(values, basin, joined.saddle_values, leaves)
        turn, leaf = np.nonzero(table)
        first, number = np.searchsorted(turn, np.arange(turns + 1)), table[turn, leaf]
    return _points_of_nodes(joined.parent, first, leaf, number)


def _count_at_or_below(thresholds: Floats, values: Floats, order: Integers | None) -> Integers:
    """Return for each value how many of the (ascending) thresholds it reaches."""
    if order is None and 64 * len(thresholds) < len(values):
        return np.searchsorted(thresholds, values, side="right")
    if order is None:
        order = np.argsort(values)  # many thresholds leave the cache, unless they are asked for in order
    counts = np.empty(len(values), dtype=np.int64)
    counts[order] = np.searchsorted(thresholds, values[order], side="right")
    return counts


# --------------------------------------------------------------------------------------------------------------
# Compiled kernels
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _sort_runs(values, order):  # type: ignore[no-untyped-def]
    """Put the rows of equal values, which stand together in `order`, into their own order."""
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in range(start + 1, min(end, start + _SHORT_RUN)):
            row = order[place]
            while place > start and order[place - 1] > row:
                order[place] = order[place - 1]
                place -= 1
            order[place] = row
        if end > start + _SHORT_RUN:
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
def _by_age(merges, saddles):  # type: ignore[no-untyped-def]
    """Let the components that one vertex joins be swallowed by the eldest of them, the elder first."""
    start = 0
    while start < len(merges):
        end = start + 1
        while end < len(merges) and saddles[end] == saddles[start]:
            end += 1
        if end > start + 1:
            merges[start:end, 1] = np.sort(merges[start:end, 1])
            merges[start:end, 2] = merges[start:end, 2].min()
        start = end


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
def _parents(leaves, merges):  # type: ignore[no-untyped-def]
    """Return the parent of every node, replaying the merges (younger leaf, elder leaf)."""
    parent = np.full(leaves + len(merges), -1, dtype=np.int64)
    component = np.arange(leaves)
    node = np.arange(leaves)
    for event in range(len(merges)):
        younger, elder = root(component, merges[event, 0]), root(component, merges[event, 1])
        parent[node[younger]] = leaves + event
        parent[node[elder]] = leaves + event
        component[younger] = elder
        node[elder] = leaves + event
    return parent


@njit(cache=True)
def _tabulated(values, basin, saddle_values, leaves):  # type: ignore[no-untyped-def]
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
def _by_turn(basin, enters, turns):  # type: ignore[no-untyped-def]
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
def _points_of_nodes(parent, first, leaf_of, number):  # type: ignore[no-untyped-def]
    """Return the points of every node, replaying the merges.

    Before merge i enter those from ``first[i]`` to ``first[i + 1]``: `number` points of leaf `leaf_of`.
    """
    nodes = len(parent)
    children = np.full((nodes, 2), -1, dtype=np.int64)
    for node in range(nodes):
        above = parent[node]
        if above >= 0:
            children[above, 1 if children[above, 0] >= 0 else 0] = node
    leaves = nodes - (len(first) - 2)
    top = np.arange(nodes)
    points = np.zeros(nodes, dtype=np.int64)
    for event in range(len(first) - 1):
        for i in range(first[event], first[event + 1]):
            points[root(top, leaf_of[i])] += number[i]
        if leaves + event < nodes:
            top[children[leaves + event, 0]] = leaves + event
            top[children[leaves + event, 1]] = leaves + event
    return points


@njit(cache=True)
def summed_up(parent, points):  # type: ignore[no-untyped-def]
    """Return the points of every node with those of all nodes below it."""
    size = points.copy()
    for node in range(len(parent)):  # children come before their parents
        if parent[node] >= 0:
            size[parent[node]] += size[node]
    return size
