"""A path between two points, bent while one looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from topolandscape.explore.figures import Profile
from topolandscape.explore.jobs import Report, Stopped
from topolandscape.explore.live import Live
from topolandscape.explore.places import direction_of, name_of, point
from topolandscape.structures import Floats

# Points of the path in each part, and steps of a part, between which it can be stopped: 200 at most. Shorter parts
# stall, since each begins anew with long steps, which are halved after 20 where they led up.
_POINTS = (9, 9, 17, 17, 17)
_STEPS = 40


class Connection(NamedTuple):
    """A path between two points, and the loss along it.

    Parameters
    ----------
    ends
        What the points are called.
    points
        The path, (k, p).
    path, straight
        The losses along it, and along the segment between its ends.
    converged
        Whether the highest loss had stopped falling; False where the work was stopped before.
    """

    ends: tuple[str, str]
    points: Floats
    path: Profile
    straight: Profile
    converged: bool

    @property
    def barriers(self) -> tuple[float, float]:
        """Highest losses on the path and on the segment, above the higher end."""
        base = max(self.path[1][[0, -1]])
        return float(self.path[1].max() - base), float(self.straight[1].max() - base)


def connection(at: Live, first: Mapping[str, Any], second: Mapping[str, Any], report: Report) -> Connection:
    """Return a path between two points whose highest loss is as low as at most 200 steps make it.

    Parameters
    ----------
    at
        The network.
    first, second
        The points.
    report
        Told on the way how much is done. Where it raises `Stopped` the path is returned as far as it was bent.

    Returns
    -------
    Connection

    Raises
    ------
    ValueError
        One of them is no point, or they are the same; the loss at one is not finite.
    """
    from topolandscape.landscape.passes import highest_on, lower_paths, straight_paths
    from topolandscape.study.minima_route import losses_along

    for said in (first, second):
        if isinstance(said, Mapping) and (name := direction_of(said)) is not None:
            raise ValueError(
                f"a path leads from the first point to the second, but {name} is a direction; choose points."
            )
    start, end = point(at, first), point(at, second)
    if np.array_equal(start, end):
        raise ValueError("the first point and the second are the same; a path needs two.")
    paths = straight_paths(start[None], end[None], _POINTS[0])
    with at.lock:
        straight = losses_along(at.landscape, paths[0], highest_on(at.landscape, paths)[1][0])
    profile, converged, before = straight, False, 0
    try:
        for part, k in enumerate(_POINTS):
            if converged and k == before:
                continue
            report(part / len(_POINTS))
            with at.lock:
                bent = lower_paths(at.landscape, paths, points=(k,), steps=_STEPS, progress=False)
                profile = losses_along(at.landscape, bent.points[0], bent.tops[0])
            paths, converged, before = bent.points, bool(bent.converged[0]), k
    except Stopped:
        converged = False
    return Connection((name_of(first), name_of(second)), paths[0], profile, straight, converged)
