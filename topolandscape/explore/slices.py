"""Slices of a landscape, and descents in it, computed while one looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from topolandscape.explore.jobs import Report
from topolandscape.explore.live import Live, Plane
from topolandscape.explore.model import bars_of, ways_down
from topolandscape.explore.places import plane, point
from topolandscape.structures import Barcode, Floats, LossSamples

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

LARGEST_SIDE = 201
"""Most points of a slice along each axis."""
LARGEST_STEPS = 5000
"""Most steps of a descent."""
_PARTS = 40  # of a slice, between which it can be stopped


class Slice(NamedTuple):
    """A slice, and what is critical on it.

    Parameters
    ----------
    plane
        Where it lies.
    samples
        The losses on its grid.
    code
        Their bars.
    lines
        Ways from saddles of the slice down to its minima, coordinates (q, 2) each.
    """

    plane: Plane
    samples: LossSamples
    code: Barcode
    lines: list[Floats]


def slice_of(at: Live, said: Mapping[str, Any], side: int, report: Report) -> Slice:
    """Return the losses on a grid of a plane, and what is critical there.

    Parameters
    ----------
    at
        The network.
    said
        The plane.
    side
        Points along each axis.
    report
        Told after every part how much is done.

    Returns
    -------
    Slice
    """
    from topolandscape.landscape.grids import sample_grid

    if not 2 <= side <= LARGEST_SIDE:
        raise ValueError(f"a slice has {side} points along an axis; it needs 2 to {LARGEST_SIDE}.")
    found = plane(at, said)
    report(0.0)

    def evaluate(landscape: Landscape, points: Floats) -> Floats:
        values = np.empty(len(points))
        for rows in np.array_split(np.arange(len(points)), min(_PARTS, len(points))):
            with at.lock:
                values[rows] = landscape.values(points[rows], progress=False)
            report((int(rows[-1]) + 1) / len(points))
        return values

    restricted = at.landscape.restricted_to(found.subspace.origin, found.subspace.directions)
    samples = sample_grid(restricted, low=found.low, high=found.high, shape=side, evaluate=evaluate)
    return Slice(found, samples, bars_of(samples), ways_down(samples))


class Way(NamedTuple):
    """Where a descent led.

    Parameters
    ----------
    points
        Parameter vectors on the way, (q, p).
    losses
        There, (q,).
    """

    points: Floats
    losses: Floats


def descent(at: Live, said: Mapping[str, Any], steps: int, learning_rate: float, report: Report) -> Way:
    """Return the way of Adam from a point down, on the whole data.

    Parameters
    ----------
    at
        The network.
    said
        Where it begins.
    steps, learning_rate
        As for `topolandscape.descend`.
    report
        Told on the way how much is done.

    Returns
    -------
    Way
    """
    from topolandscape.landscape.descent import descending

    if not 1 <= steps <= LARGEST_STEPS:
        raise ValueError(f"a descent has {steps} steps; it needs 1 to {LARGEST_STEPS}.")
    start = point(at, said)
    points: list[Floats] = []
    losses: list[float] = []
    states = descending(
        at.landscape,
        start[None],
        every=max(1, steps // 100),
        steps=steps,
        learning_rate=learning_rate,
        progress=False,
    )
    while True:
        with at.lock:
            state = next(states, None)
        if state is None:
            return Way(np.array(points), np.array(losses))
        points.append(state.points[0])
        losses.append(float(state.values[0]))
        report(state.step / steps)
