"""Graphs of minima and passes: components, the minimum spanning tree, the ways out of minima."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topolandscape.structures.arrays import Floats, Integers


def components(pairs: Any, n: int) -> Integers:
    """Return to which component each of n vertices belongs, (n,), when pairs of them (e, 2) are joined."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.asarray(np.reshape(pairs, (-1, 2)), dtype=np.int64)
    graph = coo_array((np.ones(len(ends), dtype=bool), ends.T), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def spanning_tree(
    ends: Integers, barriers: Floats, m: int, kept: NDArray[np.bool_]
) -> tuple[list[int], list[tuple[int, list[int]]]]:
    """Return the minimum spanning tree of passes, and the ways between some minima through it.

    Parameters
    ----------
    ends, barriers
        Of the passes, (e, 2) and (e,). They are taken up from the lowest on, equal ones by their ends (Kruskal 1956);
        infinite ones are not.
    m
        Number of minima.
    kept
        Between which of them ways are asked for, (m,).

    Returns
    -------
    tuple of lists
        Rows of the passes of the tree, the lowest first. And for each of them that joins two components with kept
        minima in each, its row, and the minima on the way over it between the nearest of these.
    """
    tree: list[int] = []
    ways: list[tuple[int, list[int]]] = []
    for row, links, _ in _joins(ends, barriers, m):
        sides = [_way_to_first(links, end, kept) for end in ends[row].tolist()]
        if all(sides):
            ways.append((row, [*sides[0][::-1], *sides[1]]))
        tree.append(row)
    return tree, ways


def escapes(ends: Integers, barriers: Floats, values: Floats, trained: int) -> list[tuple[int, list[int]]]:
    """Return over which pass each trained minimum is left for a lower one, by the elder rule.

    Parameters
    ----------
    ends, barriers
        Of the passes, as for `spanning_tree`.
    values
        Losses of the minima, (m,); of equal ones the first counts as lower.
    trained
        How many of the first are trained.

    Returns
    -------
    list
        For each trained minimum from which a lower one can be reached, in the order in which they end, the row of the
        highest pass on the lowest way there, and the minima on it, from the trained one to the first lower one.
    """
    rank = np.argsort(np.argsort(values, kind="stable"))
    lowest = np.arange(len(values))  # of the component of each
    found = []
    for row, links, component in _joins(ends, barriers, len(values)):
        a, b = ends[row].tolist()
        first, second = lowest[component[a]], lowest[component[b]]
        ending = max(first, second, key=rank.__getitem__)
        lowest[component[a]] = min(first, second, key=rank.__getitem__)
        if ending < trained:
            mine, other = (a, b) if ending == first else (b, a)
            here = _way_to_first(links, mine, rank == rank[ending])
            beyond = _way_to_first(links, other, rank < rank[ending])
            found.append((row, [*here[::-1], *beyond]))
    return found


def _joins(ends: Integers, barriers: Floats, m: int) -> Iterator[tuple[int, list[list[int]], Integers]]:
    """Yield the passes at which two components meet, the lowest first, with all passes below and the components.

    The passes below are given as the neighbours of each minimum. The component of both ends is that of the first end
    afterwards.
    """
    component = np.arange(m)
    links: list[list[int]] = [[] for _ in range(m)]
    for row in np.lexsort((*ends.T[::-1], barriers)).tolist():
        a, b = ends[row].tolist()
        if component[a] == component[b] or not np.isfinite(barriers[row]):
            continue
        yield row, links, component
        links[a].append(b)
        links[b].append(a)
        component[component == component[b]] = component[a]


def _way_to_first(links: list[list[int]], start: int, sought: NDArray[np.bool_]) -> list[int]:
    """Return the minima on the way from one to the nearest that is sought, both included; empty where there is none."""
    before = {start: start}
    ring = [start]
    while ring:
        found = min((row for row in ring if sought[row]), default=None)
        if found is not None:
            way = [found]
            while way[-1] != start:
                way.append(before[way[-1]])
            return way[::-1]
        ahead = {other: row for row in ring for other in links[row] if other not in before}
        before |= ahead
        ring = list(ahead)
    return []
