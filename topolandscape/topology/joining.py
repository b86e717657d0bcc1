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
    """How stops are joined: leaves, and saddles as they enter."""

    leaf: NDArray[Any]  # (s,) the leaf of each stop; -1: its loss is +inf
    leaves: Integers  # the stops that are leaves
    saddles: Integers  # the names of the links that join two leaves
    saddle_values: Floats
    ended: NDArray[Any]  # the leaf whose component each saddle ends, by the elder rule
    eldest: NDArray[Any]  # the leaf of the component that it joins


def joined_stops(stop_values: Floats, links: Links, order: NDArray[Any], below: NDArray[Any]) -> Joined:
    """Join stops along links.

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
    zero = np.zeros(1, dtype=index_type(2 * len(stop_values)))
    kept, ended, eldest, swallowed_by, _ = _join(stop_values, *links, order, zero)
    leaf, leaves = _leaves(stop_values, swallowed_by, below)
    return Joined(leaf, leaves, links.name[kept].astype(np.int64), links.value[kept], leaf[ended], leaf[eldest])


def parents(joined: Joined) -> Integers:
    """Return the parents of the nodes of the tree, leaves and then saddles, (nodes,)."""
    return _parents(len(joined.leaves), joined.ended, joined.eldest)


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
def _join(stop_values, one, other, value, name, order, zero):  # type: ignore[no-untyped-def]
    """Join stops along links, taken in `order`, those of one name together.

    Stops are numbered by (value, row), so the elder has the lower number. The components that are joined together are
    swallowed by the eldest of them, the elder first. Of the type of `zero` are stops. Returns for each saddle its link,
    the stop whose component ends and that of the eldest, and for each stop that is swallowed at its own value the stop
    that swallows it.
    """
    stops = len(stop_values)
    component = np.arange(stops).astype(zero.dtype)
    swallowed_by = np.full(stops, -1, dtype=zero.dtype)
    saddle = np.empty(stops, dtype=np.int64)
    younger = np.empty(stops, dtype=zero.dtype)
    eldest = np.empty(stops, dtype=zero.dtype)
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
        eldest[before:saddles] = elder
    return saddle[:saddles].copy(), younger[:saddles].copy(), eldest[:saddles].copy(), swallowed_by, looked_at


@njit(cache=True)
def _parents(leaves, ended, eldest):  # type: ignore[no-untyped-def]
    parent = np.full(leaves + len(ended), -1)
    top = np.arange(leaves).astype(ended.dtype)  # of the component of each leaf
    for saddle in range(len(ended)):
        node = leaves + saddle
        parent[top[ended[saddle]]] = node
        parent[top[eldest[saddle]]] = node
        top[eldest[saddle]] = node
    return parent


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
