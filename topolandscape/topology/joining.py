"""Basins joined along the links between them: union-find and the elder rule, and the tree of it.

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

_AHEAD = 64  # links that are looked at together, before their turn


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
    ended: NDArray[Any]  # the leaf whose component each saddle ends, by the elder rule
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
    integer = index_type(2 * len(stop_values))
    parent = np.full(2 * len(stop_values), -1)
    kept, younger, swallowed_by, _ = _join(stop_values, *links, order, np.zeros(1, dtype=integer), parent)
    leaf, leaves = _leaves(stop_values, swallowed_by, below)
    # Until here every stop had a number, whether it is a leaf or not.
    swallowed = len(stop_values) - len(leaves)
    parent = np.concatenate([parent[leaves], parent[len(stop_values) : len(stop_values) + len(kept)]])
    if swallowed:
        parent[parent >= 0] -= swallowed
    return Joined(leaf, leaves, links.name[kept].astype(np.int64), links.value[kept], leaf[younger], parent)


def concatenated(parts: Sequence[Links]) -> Links:
    """Return the links of all parts, one part after the other."""
    return Links(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def spanning(stops: int, links: Links) -> Links:
    """Return those links, given in the order of their names, that join two components: a minimum spanning forest."""
    kept = _spanning(stops, links.one, links.other, ascending_rows(links.value))
    return Links(*(field[kept] for field in links))


# --------------------------------------------------------------------------------------------------------------
# Compiled kernels
# --------------------------------------------------------------------------------------------------------------


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
def _join(stop_values, one, other, value, name, order, zero, parent):  # type: ignore[no-untyped-def]
    """Join stops along links, taken in `order`, those of one name together.

    Stops are numbered by (value, row), so the elder has the lower number. The components that are joined together are
    swallowed by the eldest of them, the elder first. Nodes are all stops, then the saddles; of the type of `zero` are
    stops. Returns for each saddle its link and the stop whose component ends, and for each stop that is swallowed at
    its own value the stop that swallows it; the parents of nodes are written.
    """
    stops = len(stop_values)
    component = np.arange(stops).astype(zero.dtype)
    top = component.copy()  # of each component
    swallowed_by = np.full(stops, -1, dtype=zero.dtype)
    saddle = np.empty(stops, dtype=np.int64)
    younger = np.empty(stops, dtype=zero.dtype)
    saddles = place = ahead = looked_at = 0
    deeper = 0  # stops below the level
    while place < len(order):
        if place >= ahead:
            # What is far apart in memory is fetched for many links at once, none of which waits for another.
            ahead = min(place + _AHEAD, len(order))
            for link in order[place:ahead]:
                looked_at += component[one[link]] + component[other[link]] + name[link] + (value[link] < 0)
        first = order[place]
        level = value[first]
        if level == np.inf:
            break
        while deeper < stops and stop_values[deeper] < level:
            deeper += 1
        before, known = saddles, one[first]
        elder = root(component, known)
        while place < len(order) and name[order[place]] == name[first]:
            link = order[place]
            place += 1
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
            saddle[saddles] = link
            saddles += 1
        for event in range(before, saddles):
            parent[top[younger[event]]] = stops + event
            parent[top[elder]] = stops + event
            top[elder] = stops + event
    return saddle[:saddles].copy(), younger[:saddles].copy(), swallowed_by, looked_at


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
