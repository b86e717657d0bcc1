"""Cuts: what is reached below the highest link of a bar, and what would shorten the bar if it were joined to that."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from topolandscape.landscape.links import Link
from topolandscape.structures import Floats, Integers
from topolandscape.structures.graphs import components

Pair = tuple[int, int]
# Of a trained minimum: how long it is, the highest link on the lowest way to a lower minimum, and that way.
Bar = tuple[float, Pair, list[int]]
Offer = TypeVar("Offer", int, Pair)


def reached_below(links: Mapping[Pair, Link], link: Pair, m: int) -> Integers:
    """Return to which component each of m minima belongs below the barrier of a link."""
    barrier = links[link].barrier
    return components([pair for pair, known in links.items() if known.barrier < barrier], m)


def leads_lower(values: Floats, labels: Integers, minimum: int) -> NDArray[np.bool_]:
    """Return which minima are in components other than that of a minimum that have a lower one.

    `values` are their losses, infinite where they end no bars.
    """
    lowest = np.full(len(values), math.inf)
    np.minimum.at(lowest, labels, values)
    return np.asarray((labels != labels[minimum]) & (lowest[labels] < values[minimum]))


def across_cuts(
    points: Floats,
    values: Floats,
    links: Mapping[Pair, Link],
    tried: Collection[Pair],
    bars: Sequence[Bar],
    candidates: int,
) -> list[list[Pair]]:
    """Return for each bar the nearest pairs, so many at most, that might shorten it and were not tried yet.

    One is a minimum that is reached below the death, the other is not, and is lower or leads to a lower one there.
    """
    distances = squared_distances(points)
    for a, b in [*tried, *links]:
        distances[a, b] = distances[b, a] = math.inf
    result = []
    for _, link, way in bars:
        labels = reached_below(links, link, len(points))
        inside = np.flatnonzero(labels == labels[way[0]])
        outside = np.flatnonzero(leads_lower(values, labels, way[0]))
        across = distances[np.ix_(inside, outside)]
        places = np.argpartition(across, min(candidates, across.size) - 1, axis=None)[:candidates]
        rows, columns = np.unravel_index(places[np.isfinite(across.ravel()[places])], across.shape)
        result.append(
            [(min(a, b), max(a, b)) for a, b in zip(inside[rows].tolist(), outside[columns].tolist(), strict=True)]
        )
    return result


def squared_distances(points: Floats) -> Floats:
    """Return the squared distances between points, but for rounding."""
    products = points @ points.T
    squares = np.diag(products)
    return np.asarray(squares[:, None] + squares - 2 * products)


def in_turns(
    bars: Sequence[Bar], offers: Sequence[Sequence[Offer]], most: int, *, but: Collection[Offer] = ()
) -> dict[Offer, int]:
    """Choose from what is offered for each bar, so many at most: in order, and the more often the longer the bar.

    Return what is chosen, each once and none of `but`, and for which bar (D'Hondt's method).
    """
    chosen: dict[Offer, int] = {}
    waiting = [(-bar[0], row, 0) for row, bar in enumerate(bars)]
    heapify(waiting)
    while waiting and len(chosen) < most:
        _, row, place = heappop(waiting)
        left = (k for k in range(place, len(offers[row])) if offers[row][k] not in chosen and offers[row][k] not in but)
        if (place := next(left, -1)) >= 0:
            chosen[offers[row][place]] = row
            turns = sum(bar == row for bar in chosen.values())
            heappush(waiting, (-bars[row][0] / (turns + 1), row, place + 1))
    return chosen
