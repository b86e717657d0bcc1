"""Flow lines of the gradient among critical points, many at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from topolandscape.landscape.boundary import Places
from topolandscape.landscape.box import Box, Mask
from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats, Integers

# Of the distance to the next critical point, how far the ball around one reaches at most.
_SHARE = 0.45
# Where a line ends that ends in no critical point.
LEFT, UNFINISHED = -1, -2

# Longest step, and what a step may be wrong by, in units of the shortest side of the box.
_LONGEST, _WRONG = 0.05, 1e-5
# Parts of a step at which it is asked whether it is in the box.
_WITHIN = np.arange(1, 17) / 16
# In that unit: the longest step on which a line leaves the boundary.
_LEAVING = 3e-3
_STEPS = 2000
# Logarithm of the longest time of a step, in units of that of a straight one, and how often it is halved.
_TIMES, _BISECTIONS = 12.0, 14
# Steps after which, and places of the segment at which, a line is asked whether it falls to its end without turning.
_ASKED, _ALONG = 10, np.array([0.0, 0.25, 0.5, 0.75])
# How far from its critical point a line begins, in parts of the radius of that point.
_BEGIN = 0.1


@dataclass(frozen=True, eq=False)
class Balls:
    """Critical points with balls around them in which the flow is known.

    Attributes
    ----------
    points, index, vectors
        Shape (m, d), (m,), and eigenvectors of the Hessian by ascending eigenvalue, one a row, (m, d, d); on the
        boundary of the box those of the face, then the directions inwards.
    radius
        Within which no eigenvalue of the Hessian changes its sign, nor the slope inwards, (m,).
    edge
        Which lie on the boundary, and are critical there, (m,).
    """

    points: Floats
    index: Integers
    vectors: Floats
    radius: Floats
    edge: Mask


def balls_around(places: Places, box: Box) -> Balls:
    """Return critical points with balls as large as their eigenvalues and the change of the Hessian allow."""
    side = float(box.sides.min())
    radius = places.reach
    if len(places) > 1:
        near = box.tree(places.points).query(box.units(places.points), k=2)[0][:, 1]
        radius = np.minimum(radius, _SHARE * near * side)
    edge = (places.face != 0).any(axis=1)
    return Balls(places.points, places.index, places.frames, np.minimum(radius, _SHARE * side), edge)


@dataclass(eq=False)
class Lines:
    """Lines of the flow, one a row.

    Attributes
    ----------
    ends
        Rows of the points where they end, or one of `LEFT`: they left the box, and `UNFINISHED`.
    turns
        How often they went round each periodic coordinate, (n, d).
    visits
        For each line the balls of the points in `watched` that it passed: row, turns, and whether it left on the side
        of the watched direction (1) or on the other (-1).
    levels
        Where it was at each level, NaN where it never was, (n, k, d).
    """

    ends: Integers
    turns: Integers
    visits: list[tuple[Any, ...]]
    levels: Floats


class Flow:
    """The flow down, or up, the gradient among critical points of a box.

    Where it is `bounded`, lines down that reach the boundary of the box go on along it, while the loss falls outwards;
    lines up end there.
    """

    def __init__(self, landscape: Landscape, box: Box, balls: Balls, *, bounded: bool = False) -> None:
        self.landscape, self.box, self.balls, self.bounded = landscape, box, balls, bounded
        self.spent = 0
        self._tree = box.tree(balls.points)
        apart = box.periodic | (not bounded)
        self._low, self._high = np.where(apart, -np.inf, box.low), np.where(apart, np.inf, box.high)
        # Lines up come nearer to a maximum within its ball, and must not leave the box on their way.
        self._depth = np.minimum(balls.points - self._low, self._high - balls.points).min(axis=1)
        tops = balls.index == balls.points.shape[1]
        self.balls = replace(balls, radius=np.where(tops, np.minimum(balls.radius, self._depth), balls.radius))
        # Inside, the Hessian of a minimum is positive.
        self._convex = ~balls.edge
        if balls.edge.any():
            self.spent += 2 * balls.points[balls.edge].size
            self._convex[balls.edge] = np.linalg.eigvalsh(hessians(landscape, balls.points[balls.edge]))[:, 0] > 0

    def lines(self, starts: Floats, *, up: bool, watched: Floats | None = None, levels: Floats | None = None) -> Lines:
        """Follow lines from points to where no other direction leads on.

        Parameters
        ----------
        starts
            Shape (n, d).
        up
            Whether the lines go uphill.
        watched
            A direction at each critical point, (m, d), NaN where visits are not of interest.
        levels
            Losses at which the places are recorded, for each line, (n, k), in the order in which they are met.

        Returns
        -------
        Lines
            By steps along the exact flow of the quadratic loss that has the gradient and the Hessian of the place (Page
            and McIver 1988), of a length of its own for each line: so narrow valleys take no more of them. A line ends
            in the ball of a critical point; or, since in narrow valleys it takes long to arrive, when the Hessian is
            definite along the segment that leads there. Steps end on the boundary where they meet it, and coordinates
            along which the loss falls outwards there are held.
        """
        n, d = starts.shape
        sign = 1.0 if up else -1.0
        unit = float(self.box.sides.min())
        sinks = self.balls.index == (d if up else 0)
        at = starts.copy()
        values, slopes = self._field(at, sign)
        held = np.zeros((n, d), dtype=bool) if up else self._held(at, slopes)
        curves = self._curves(at, sign, held)
        steps = np.full(n, 1e-3 * unit)
        ends, inside = np.full(n, UNFINISHED), np.full(n, -1)
        visits: list[list[Any]] = [[] for _ in range(n)]
        places = np.full((n, 0 if levels is None else levels.shape[1], d), np.nan)
        going = np.arange(n)
        for step in range(1, _STEPS + 1):
            free = np.where(held[going], 0.0, slopes[going])
            moves, expected, weights = _quadratic(free, curves[0][going], curves[1][going], steps[going])
            ahead = at[going] + moves
            ahead = ahead if up else np.clip(ahead, self._low, self._high)
            new, there_slopes = self._field(ahead, sign)
            on = np.where(held[going], 0.0, there_slopes)
            rest = on - expected
            wrong = np.linalg.norm(np.einsum("mji,mj->mi", curves[1][going], rest) * weights, axis=1) / 3
            outside = self._outside(at[going], moves, free, on)
            holds, shares = held[going], np.ones(len(going))
            if not up:
                holds = self._held(ahead, there_slopes)
                shares = self._leaving(held[going] & ~holds, slopes[going], there_slopes, moves, unit)
                shares = np.minimum(shares, self._meeting(outside, unit))
            fine = (wrong <= _WRONG * unit) & (sign * (new - values[going]) > 0) & (shares == 1)
            with np.errstate(divide="ignore", over="ignore"):
                change = np.clip(0.9 * np.cbrt(_WRONG * unit / np.maximum(wrong, 1e-300)), 0.2, 2.0)
            steps[going[shares < 1]] = np.linalg.norm(moves[shares < 1], axis=1)
            change = np.where(shares < 1, np.clip(shares, 0.05, 0.9), np.where(fine, change, np.minimum(0.5, change)))
            there = going[fine]
            held[there] = holds[fine]
            if levels is not None and len(there):
                _record(places, there, levels[there], values[there], new[fine], at[there], ahead[fine])
            at[there], values[there], slopes[there] = ahead[fine], new[fine], there_slopes[fine]
            steps[going] *= change
            steps[going] = np.minimum(steps[going], _LONGEST * unit)
            self._arrive(there, at, ends, inside, visits, sinks, watched)
            ends[there[~self.box.holds(at[there]) | (up & (outside[fine] > 0).any(axis=1))]] = LEFT
            if step % _ASKED == 0:
                slow = going[ends[going] == UNFINISHED]
                ends[slow] = self._straight(at[slow], up)
            there = there[ends[there] == UNFINISHED]
            for part, made in zip(curves, self._curves(at[there], sign, held[there]), strict=True):
                part[there] = made
            going = going[(ends[going] == UNFINISHED) & (steps[going] > 1e-14 * unit)]
            if len(going) == 0:
                break
        return Lines(ends, self._turns(at, ends), [tuple(visit) for visit in visits], places)

    def begun(self, rows: Integers, directions: Floats) -> Floats:
        """Return places beside critical points from which lines begin, within their balls and the box."""
        points = self.balls.points[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(directions > 0, self._high - points, points - self._low) / np.abs(directions)
        room = np.where(directions != 0, room, np.inf).min(axis=1)
        lengths = np.minimum(_BEGIN * self.balls.radius[rows], _SHARE * room)
        return points + lengths[:, None] * directions

    def _field(self, points: Floats, sign: float) -> tuple[Floats, Floats]:
        """Return losses, and where the flow leads: gradients up, or down."""
        self.spent += len(points)
        values, gradients = self.landscape.gradients(points, progress=False)
        return values, sign * gradients

    def _held(self, points: Floats, slopes: Floats) -> Mask:
        """Return which coordinates are on the boundary of the box, and lead out of it."""
        return np.asarray(((points <= self._low) & (slopes <= 0)) | ((points >= self._high) & (slopes >= 0)))

    def _outside(self, start: Floats, moves: Floats, before: Floats, after: Floats) -> Floats:
        """Return how far outside of the box steps are on their way, as cubic curves with the slopes at their ends."""
        sums = before + after
        times = 2 * (moves * sums).sum(axis=1) / np.maximum((sums**2).sum(axis=1), 1e-300)
        s = _WITHIN[:, None]
        begin, end = (times[:, None, None] * slopes[:, None] for slopes in (before, after))
        places = s * (1 - s) ** 2 * begin - s**2 * (1 - s) * end + s**2 * (3 - 2 * s) * moves[:, None] + start[:, None]
        return np.asarray(np.maximum(self._low - places, places - self._high).max(axis=2))

    @staticmethod
    def _meeting(outside: Floats, unit: float) -> Floats:
        """Return what part of a step leads to the boundary of the box; 1 where it does not lead beyond."""
        beyond = outside > _WRONG * unit
        first = np.argmax(beyond, axis=1)
        rows = np.arange(len(outside))
        last = np.where(first > 0, outside[rows, first - 1], 0.0)
        # Between the last place inside and the first outside, as on a straight line.
        share = _WITHIN[first] - _WITHIN[0] * outside[rows, first] / np.maximum(outside[rows, first] - last, 1e-300)
        return np.where(beyond.any(axis=1), np.clip(share, 0.0, 1.0), 1.0)

    @staticmethod
    def _leaving(freed: Mask, before: Floats, after: Floats, moves: Floats, unit: float) -> Floats:
        """Return what part of a step along the boundary leads to where the line leaves it; 1 for short steps."""
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = np.where(freed, before / (before - after), 1.0)
        short = np.linalg.norm(moves, axis=1) <= _LEAVING * unit
        return np.where(short, 1.0, np.clip(parts, 0.0, 1.0).min(axis=1))

    def _curves(self, points: Floats, sign: float, held: Mask) -> tuple[Floats, Floats]:
        """Return the eigenvalues and eigenvectors, in columns, of the derivative of that, held coordinates apart."""
        if len(points) == 0:
            d = points.shape[1]
            return np.empty((0, d)), np.empty((0, d, d))
        self.spent += 2 * points.size
        matrices = sign * hessians(self.landscape, points)
        eigenvalues, vectors = np.linalg.eigh(np.where(held[:, :, None] | held[:, None], 0.0, matrices))
        return eigenvalues, vectors

    def _arrive(
        self,
        rows: Integers,
        at: Floats,
        ends: Integers,
        inside: Integers,
        visits: list[list[Any]],
        sinks: Any,
        watched: Floats | None,
    ) -> None:
        """End the lines that are in the ball of a sink; note which left the ball of a watched point, and where."""
        if len(rows) == 0:
            return
        nearest = self._tree.query(self.box.units(at[rows]))[1]
        offsets = self._offsets(at[rows], nearest)
        within = np.linalg.norm(offsets, axis=1) <= self.balls.radius[nearest]
        ends[rows[within & sinks[nearest]]] = nearest[within & sinks[nearest]]
        if watched is None:
            return
        now = np.where(within, nearest, -1)
        for row in np.flatnonzero((inside[rows] >= 0) & (now != inside[rows])):
            line, point = int(rows[row]), int(inside[rows[row]])
            if np.isfinite(watched[point]).all():
                offset = self._offsets(at[line][None], np.array([point]))[0]
                turns = np.round((at[line] - offset - self.balls.points[point]) / self.box.sides).astype(int)
                visits[line].append((point, tuple(turns.tolist()), 1 if offset @ watched[point] > 0 else -1))
        inside[rows] = now

    def _straight(self, points: Floats, up: bool) -> Integers:
        """Return the sinks to which segments lead along which the loss is convex (going up: concave), or UNFINISHED."""
        n, d = points.shape
        sinks = np.flatnonzero((self.balls.index == (d if up else 0)) & self._convex)
        ends = np.full(n, UNFINISHED)
        if n and len(sinks):
            nearest = sinks[self.box.tree(self.balls.points[sinks]).query(self.box.units(points))[1]]
            places = points[:, None] - _ALONG[:, None] * self._offsets(points, nearest)[:, None]
            self.spent += 2 * places.size
            matrices = hessians(self.landscape, places.reshape(-1, d)) * (-1.0 if up else 1.0)
            definite = (np.linalg.eigvalsh(matrices)[:, 0] > 0).reshape(n, len(_ALONG)).all(axis=1)
            if up:  # nearer to it than the boundary is
                definite &= np.linalg.norm(self._offsets(points, nearest), axis=1) < self._depth[nearest]
            ends[definite] = nearest[definite]
        return ends

    def _offsets(self, points: Floats, rows: Integers) -> Floats:
        """Return the shortest ways from critical points to points."""
        offsets = points - self.balls.points[rows]
        turns = np.where(self.box.periodic, np.round(offsets / self.box.sides), 0.0)
        return offsets - turns * self.box.sides

    def _turns(self, at: Floats, ends: Integers) -> Integers:
        turns = np.round((at - self.balls.points[np.maximum(ends, 0)]) / self.box.sides)
        return np.where(self.box.periodic & (ends >= 0)[:, None], turns, 0).astype(np.int64)


def _quadratic(slopes: Floats, eigenvalues: Floats, vectors: Floats, lengths: Floats) -> tuple[Floats, Floats, Floats]:
    """Return steps of some lengths at most along the flow of a quadratic loss, and the slopes to which it leads.

    And, along each eigenvector, for how long a force at the end of the step would have acted.
    """
    parts = np.einsum("mji,mj->mi", vectors, slopes)
    scale = lengths / np.maximum(np.linalg.norm(slopes, axis=1), 1e-300)
    low, high = np.full(len(slopes), -_TIMES), np.full(len(slopes), _TIMES)

    def acted(times: Floats) -> tuple[Floats, Floats]:
        powers = np.clip(eigenvalues * (scale * np.exp(times))[:, None], -50.0, 50.0)
        safe = np.where(np.abs(powers) < 1e-8, 1.0, powers)
        return powers, np.where(safe == powers, np.expm1(powers) / safe, 1.0) * (scale * np.exp(times))[:, None]

    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        short = np.linalg.norm(parts * acted(middle)[1], axis=1) <= lengths
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    powers, weights = acted(low)
    moves, ends = parts * weights, parts * np.exp(powers)
    return np.einsum("mij,mj->mi", vectors, moves), np.einsum("mij,mj->mi", vectors, ends), weights


def _record(
    places: Floats, rows: Integers, levels: Floats, before: Floats, after: Floats, start: Floats, end: Floats
) -> None:
    """Write down where lines crossed levels on a step."""
    low, high = np.minimum(before, after)[:, None], np.maximum(before, after)[:, None]
    line, level = np.nonzero((levels > low) & (levels <= high))
    share = (levels[line, level] - before[line]) / (after - before)[line]
    places[rows[line], level] = start[line] + share[:, None] * (end - start)[line]
