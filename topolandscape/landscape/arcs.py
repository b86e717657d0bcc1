"""Flow lines from critical points to those of an index less by one: all of them, with their orientations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from topolandscape.landscape.flow import LEFT, UNFINISHED, Balls, Flow
from topolandscape.structures import Floats, Integers

# Lines that leave a point of two unstable directions at first; smallest angle between two of them.
_FIRST, _LEAST = 24, 1e-12
# Levels at which neighbouring lines are compared, and how far apart they may be, in units of the box's diagonal.
_LEVELS, _APART = 24, 0.1


class Arcs(NamedTuple):
    """Flow lines from critical points to those of an index less by one.

    Attributes
    ----------
    joins
        Higher row, lower row, and the sign of each line, (a, 3).
    left, unfinished
        Rows from which a line left the box, or did not end, once for each line.
    """

    joins: Integers
    left: tuple[int, ...]
    unfinished: tuple[int, ...]


def arcs_of_index(flow: Flow, k: int) -> Arcs | None:
    """Return all flow lines from the points of index k to those of index k - 1.

    Parameters
    ----------
    flow
        With all critical points.
    k
        From 1 to the dimension.

    Returns
    -------
    Arcs or None
        None: neither the points of index k have one or two unstable directions, nor those of index k - 1 one or two
        stable ones; or there are two, and lines may go along the boundary, where they flow together.

    Notes
    -----
    A line's sign compares orientations: at the lower point the orientation of the higher one's unstable manifold, which
    is that of its eigenvectors in ascending order, with the direction of the flow followed by the lower one's unstable
    eigenvectors (Milnor 1965). With two directions, lines leave along a circle, and the angle between two of them is
    halved until they pass the same point on both of its sides.
    """
    d = flow.balls.points.shape[1]
    if k == 1:
        return _both_ways(flow, k, up=False)
    if k == d:
        return _both_ways(flow, k, up=True)
    if flow.bounded:
        return None
    if k == 2:
        return around(flow, k, up=False)
    if k == d - 1:
        return around(flow, k, up=True)
    return None


def _both_ways(flow: Flow, k: int, *, up: bool) -> Arcs:
    """Follow lines both ways: down from points of index 1, or up from those of index d - 1."""
    balls, d = flow.balls, flow.balls.points.shape[1]
    begun = np.flatnonzero(balls.index == (k - 1 if up else k))
    if len(begun) == 0:
        return Arcs(np.empty((0, 3), np.int64), (), ())
    directions = balls.vectors[begun, -1 if up else 0]
    rows, sides = np.tile(begun, 2), np.repeat([1, -1], len(begun))
    directions = sides[:, None] * np.tile(directions, (2, 1))
    if up:  # from the boundary there is one way in
        within = (sides > 0) | ~balls.edge[rows]
        rows, sides, directions = rows[within], sides[within], directions[within]
    lines = flow.lines(flow.begun(rows, directions), up=up)
    met = lines.ends >= 0
    signs = sides[met]
    if up:
        higher = balls.vectors[lines.ends[met]]
        frames = balls.vectors[rows[met]].copy()  # unstable eigenvectors, then the stable one
        frames = np.concatenate([-sides[met, None, None] * frames[:, -1:], frames[:, :-1]], axis=1)
        signs = np.sign(np.linalg.det(higher) * np.linalg.det(frames)).astype(np.int64)
    pair = (lines.ends[met], rows[met]) if up else (rows[met], lines.ends[met])
    assert d == k or not up
    return Arcs(
        np.column_stack([*pair, signs]).astype(np.int64),
        tuple(rows[lines.ends == LEFT].tolist()),
        tuple(rows[lines.ends == UNFINISHED].tolist()),
    )


def around(flow: Flow, k: int, *, up: bool) -> Arcs:
    """Follow lines all around: down from points of index 2, or up from those with two stable directions.

    Parameters
    ----------
    flow
        With all critical points.
    k
        Index of the higher points: 2, or the dimension less one when `up`.
    up
        Which way.

    Returns
    -------
    Arcs
        Of `left` and `unfinished`, the points around which lines could not be told apart.
    """
    balls, d = flow.balls, flow.balls.points.shape[1]
    begun = np.flatnonzero(balls.index == (k - 1 if up else k))
    watched = np.full(balls.points.shape, np.nan)
    goal = balls.index == (k if up else k - 1)
    watched[goal] = balls.vectors[goal, -1 if up else 0]
    values = flow.landscape.values(balls.points, progress=False)
    last = values.max() if up else values.min()
    joins: list[tuple[int, int, int]] = []
    unfinished: list[int] = []

    def shot(rows: Integers, angles: Floats) -> list[tuple[Any, Any, Floats]]:
        plane = balls.vectors[rows][:, d - 2 :] if up else balls.vectors[rows][:, :2]
        aside = np.cos(angles)[:, None] * plane[:, 0] + np.sin(angles)[:, None] * plane[:, 1]
        starts = flow.begun(rows, aside)
        shares = (np.arange(_LEVELS) + 0.5) / _LEVELS
        levels = values[rows, None] + shares * (last - values[rows])[:, None]
        lines = flow.lines(starts, up=up, watched=watched, levels=levels)
        ends = [(end, *turns) for end, turns in zip(lines.ends.tolist(), lines.turns.tolist(), strict=True)]
        return list(zip(ends, lines.visits, lines.levels, strict=True))

    # The first angle is no simple part of the circle, since lines along axes of symmetry may end in saddles.
    first = 0.1234 + 2 * np.pi * np.arange(_FIRST + 1) / _FIRST
    shots = shot(np.repeat(begun, _FIRST), np.tile(first[:-1], len(begun))) if len(begun) else []
    apart = _APART * float(np.linalg.norm(flow.box.sides))
    open_ = []
    for number, row in enumerate(begun.tolist()):
        own = shots[number * _FIRST : (number + 1) * _FIRST]
        open_ += [(row, first[i], first[i + 1], own[i], own[(i + 1) % _FIRST]) for i in range(_FIRST)]
    while open_:
        halved = []
        for row, low, high, one, other in open_:
            crossed = _crossed(one[1], other[1])
            if crossed is not None:
                goal_row, side = crossed
                angle = (low + high) / 2
                sign = side if not up else side * _orientation(balls, row, goal_row, angle)
                joins.append((goal_row, row, sign) if up else (row, goal_row, sign))
                continue
            with np.errstate(invalid="ignore"):
                gap = np.linalg.norm(one[2] - other[2], axis=1)
            near = not np.isfinite(gap).any() or np.nanmax(gap) <= apart
            if one[0] == other[0] and one[0][0] != UNFINISHED and near:
                continue
            if high - low < _LEAST:
                unfinished.append(row)
                continue
            halved.append((row, low, high, one, other))
        middle = (
            shot(
                np.array([part[0] for part in halved], dtype=np.int64),
                np.array([(part[1] + part[2]) / 2 for part in halved]),
            )
            if halved
            else []
        )
        open_ = []
        for (row, low, high, one, other), new in zip(halved, middle, strict=True):
            open_ += [(row, low, (low + high) / 2, one, new), (row, (low + high) / 2, high, new, other)]
    return Arcs(np.array(joins, dtype=np.int64).reshape(-1, 3), (), tuple(unfinished))


def _crossed(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[int, int] | None:
    """Return the point that two lines pass on different sides, and the side of the second; None where there is none."""
    sides = {visit[:2]: visit[2] for visit in other}
    for mine in one:
        if sides.get(mine[:2], mine[2]) != mine[2]:
            return mine[0], sides[mine[:2]]
    return None


def _orientation(balls: Balls, lower: int, higher: int, angle: float) -> int:
    """Return the sign of a line that goes up from a circle around `lower` to the positive side of `higher`."""
    d = balls.points.shape[1]
    plane = balls.vectors[lower, d - 2 :]
    out = np.cos(angle) * plane[0] + np.sin(angle) * plane[1]
    on = -np.sin(angle) * plane[0] + np.cos(angle) * plane[1]
    frame = np.vstack([-out, balls.vectors[lower, : d - 2], on])
    return int(np.sign(np.linalg.det(balls.vectors[higher]) * np.linalg.det(frame)))
