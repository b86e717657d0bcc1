"""V-paths that branch and meet: how many there are from one cell to another, and a shortest one.

They are counted by a sweep over the cells that can be reached, each after all from which it is reached.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from topolandscape.structures import MANY
from topolandscape.topology.gradient import above, facets_into, is_critical

_MANY = int(MANY)


@njit(cache=True, nogil=True)
def _slot(keys, stamps, stamp, wanted):  # type: ignore[no-untyped-def]
    """Return where a cell stands in a table, or the free place for it; its length is a power of two.

    What has another stamp is left from earlier and counts as free.
    """
    mask = len(keys) - 1
    slot = (wanted * 0x9E3779B1 >> 7) & mask
    while stamps[slot] == stamp and keys[slot] != wanted:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def _reach(source, stamp, cells, partner, keys, stamps, nodes, reached, ways, came_from):  # type: ignore[no-untyped-def]
    """Find the cells that V-paths from a cell reach, in the order of their distance, and how many ways lead into each.

    Returns how many there are, and the arrays, which grow where they must.
    """
    found = np.empty(cells.widest, dtype=np.int64)
    signs = np.empty(cells.widest, dtype=np.int64)
    met = 0
    at = -1
    while at < met:
        larger = source if at < 0 else above(cells, partner, reached[at])
        if larger >= 0:
            for i in range(facets_into(cells, larger, found, signs)):
                cell = found[i]
                if at >= 0 and cell == reached[at]:
                    continue
                if not is_critical(cells, partner, cell) and above(cells, partner, cell) < 0:
                    continue
                slot = _slot(keys, stamps, stamp, cell)
                if stamps[slot] != stamp:
                    if met == len(reached):
                        reached = np.concatenate((reached, reached))
                        ways = np.concatenate((ways, ways))
                        came_from = np.concatenate((came_from, came_from))
                        keys = np.empty(4 * met, dtype=np.int64)
                        stamps = np.full(4 * met, -1, dtype=np.int64)
                        nodes = np.empty(4 * met, dtype=np.int64)
                        for node in range(met):
                            slot = _slot(keys, stamps, stamp, reached[node])
                            keys[slot], stamps[slot], nodes[slot] = reached[node], stamp, node
                        slot = _slot(keys, stamps, stamp, cell)
                    keys[slot], stamps[slot], nodes[slot] = cell, stamp, met
                    reached[met], ways[met], came_from[met] = cell, 0, at
                    met += 1
                ways[nodes[slot]] += 1
        at += 1
    return met, keys, stamps, nodes, reached, ways, came_from


@njit(cache=True, nogil=True)
def _tables(size):  # type: ignore[no-untyped-def]
    """Return the empty arrays of `_reach`."""
    keys, nodes = np.empty(2 * size, dtype=np.int64), np.empty(2 * size, dtype=np.int64)
    stamps = np.full(2 * size, -1, dtype=np.int64)
    reached, ways, came_from = (
        np.empty(size, dtype=np.int64),
        np.empty(size, dtype=np.int64),
        np.empty(size, dtype=np.int64),
    )
    return keys, stamps, nodes, reached, ways, came_from


@njit(cache=True, nogil=True)
def count_paths(first, last, columns, cells, partner):  # type: ignore[no-untyped-def]
    """Count the V-paths from each of columns[first:last] to critical cells.

    Returns how many ends each has; and of every end the cell, the number of paths, and their sum with orientation.
    """
    keys, stamps, nodes, reached, ways, came_from = _tables(32)
    number, signed, ready = _tables(32)[3:]
    found = np.empty(cells.widest, dtype=np.int64)
    signs = np.empty(cells.widest, dtype=np.int64)
    ends, room = 0, 1024
    end_cell, end_number, end_signed = (
        np.empty(room, dtype=np.int64),
        np.empty(room, dtype=np.int64),
        np.empty(room, dtype=np.int64),
    )
    counts = np.zeros(last - first, dtype=np.int64)
    for column in range(first, last):
        met, keys, stamps, nodes, reached, ways, came_from = _reach(
            columns[column], column, cells, partner, keys, stamps, nodes, reached, ways, came_from
        )
        if len(number) < met:
            number, signed, ready = _tables(len(reached))[3:]
        number[:met] = 0
        signed[:met] = 0
        queued = 0
        at = -1
        while at < queued:  # each cell after all from which it is reached
            own = -1 if at < 0 else reached[ready[at]]
            larger = columns[column] if at < 0 else above(cells, partner, own)
            if larger >= 0:
                count = facets_into(cells, larger, found, signs)
                many, oriented = 1, 1
                if at >= 0:
                    many, oriented = number[ready[at]], signed[ready[at]]
                    for i in range(count):
                        if found[i] == own:
                            oriented *= -signs[i]
                for i in range(count):
                    if found[i] == own:
                        continue
                    slot = _slot(keys, stamps, column, found[i])
                    if stamps[slot] != column:
                        continue
                    node = nodes[slot]
                    number[node] = number[node] + many if number[node] <= _MANY - many else _MANY
                    signed[node] += oriented * signs[i]
                    ways[node] -= 1
                    if ways[node] == 0:
                        ready[queued] = node
                        queued += 1
            elif at >= 0:
                if ends == room:
                    end_cell = np.concatenate((end_cell, end_cell))
                    end_number = np.concatenate((end_number, end_number))
                    end_signed = np.concatenate((end_signed, end_signed))
                    room *= 2
                node = ready[at]
                end_cell[ends], end_number[ends], end_signed[ends] = own, number[node], signed[node]
                ends += 1
                counts[column - first] += 1
            at += 1
    return counts, end_cell[:ends].copy(), end_number[:ends].copy(), end_signed[:ends].copy()


@njit(cache=True, nogil=True)
def path_between(cells, partner, higher, lower):  # type: ignore[no-untyped-def]
    """Return the cells of a shortest V-path between two cells, these at its ends; nothing where there is none."""
    keys, stamps, nodes, reached, ways, came_from = _tables(32)
    _, keys, stamps, nodes, reached, ways, came_from = _reach(
        higher, np.int64(0), cells, partner, keys, stamps, nodes, reached, ways, came_from
    )
    slot = _slot(keys, stamps, np.int64(0), lower)
    if stamps[slot] != 0:
        return np.empty(0, dtype=np.int64)
    length = 1
    node = nodes[slot]
    while node >= 0:
        node = came_from[node]
        length += 2
    path = np.empty(length - 1, dtype=np.int64)
    node = nodes[slot]
    at = length - 2
    while node >= 0:
        path[at] = reached[node]
        node = came_from[node]
        path[at - 1] = higher if node < 0 else above(cells, partner, reached[node])
        at -= 2
    return path
