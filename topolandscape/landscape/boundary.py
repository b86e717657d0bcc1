"""Critical points on the boundary of a box: where sublevel sets change although the gradient does not vanish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product

import numpy as np

from topolandscape.landscape.box import Box, Mask
from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.directions import Seed
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.stationary import StationaryPoints, estimated_lipschitz, stationary_points
from topolandscape.landscape.tasks import joined
from topolandscape.structures import Floats, Integers

# In units of the box: a point at which the gradient vanishes lies on the boundary when it is so near.
_ON = 1e-7
# Slopes across the boundary, in parts of the Hessian: those that are steeper are not asked whether they vanish.
_STEEP = 1e-4
# Entries beside the diagonal of a matrix, relative to it, that are zero.
_NOTHING = 1e-6
_ELSE = "Choose another box, or give boundary=False, which asks for points at which the gradient vanishes alone."


@dataclass(frozen=True, eq=False)
class Places:
    """Critical points of a function on a box, those on the boundary included.

    Attributes
    ----------
    points, values, index
        Shape (m, d), (m,), (m,). The index is that of the restriction to the face on which a point lies.
    face
        That face: -1 at the low end of a coordinate, 1 at the high end, 0 between, (m, d).
    frames
        Eigenvectors of the Hessian of the restriction, by ascending eigenvalue, then the directions inwards, one a
        row, (m, d, d).
    reach
        How far from it the loss is as its gradient and Hessian say, (m,).
    gradient_norm, isolation
        Of the restriction, (m,).
    eigenvalues
        Of the restriction, ascending, then NaN for the directions inwards, (m, d).
    """

    points: Floats
    values: Floats
    index: Integers
    face: Integers
    frames: Floats
    reach: Floats
    gradient_norm: Floats
    isolation: Floats
    eigenvalues: Floats

    @classmethod
    def inside(cls, found: StationaryPoints) -> Places:
        """Return points at which the gradient vanishes."""
        least = np.abs(found.eigenvalues).min(axis=1, initial=np.inf)
        return cls(
            found.points,
            found.values,
            found.index,
            np.zeros(found.points.shape, dtype=np.int64),
            found.eigenvectors,
            least / np.maximum(found.lipschitz, 1e-300),
            found.gradient_norm,
            found.isolation,
            found.eigenvalues,
        )

    @staticmethod
    def joined(parts: Sequence[Places]) -> Places:
        """Return all points, by value and index."""
        whole = joined(parts)
        return whole[np.lexsort((*whole.points.T[::-1], whole.index, whole.values))]

    def __getitem__(self, rows: Integers | Mask) -> Places:
        """Return some of the points."""
        return Places(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)


@dataclass(frozen=True, eq=False)
class WithBoundary:
    """What is critical in a box with its boundary.

    Attributes
    ----------
    places
        All critical points.
    left_out
        Points on the boundary at which the gradient vanishes, and the sublevel sets do not change, (k, d).
    undecided, missed, proved, evaluations
        As of `StationaryPoints`, those of the inside included.
    """

    places: Places
    left_out: Floats
    undecided: int
    missed: int
    proved: bool
    evaluations: int


def with_boundary(
    landscape: Landscape,
    box: Box,
    inner: StationaryPoints,
    *,
    rises: Mask,
    seed: Seed,
    starts: int,
    lipschitz: float | None,
    flatness: float,
    max_evaluations: int,
) -> WithBoundary:
    """Add the points on the boundary of a box at which the sublevel sets of a function on the box change.

    Parameters
    ----------
    landscape, box
        The function, and where.
    inner
        Where its gradient vanishes.
    rises
        Whether the loss rises inwards anywhere on each side, as far as is known, low and high of each coordinate,
        (d, 2).
    seed, starts, lipschitz, flatness, max_evaluations
        As of `stationary_points`.

    Returns
    -------
    WithBoundary
        On each face, from the corners on, the critical points of the restriction at which the loss rises inwards, with
        the index of the restriction.

    Raises
    ------
    ValueError
        A point that may count is degenerate, or something is not finite.

    Notes
    -----
    Where there is an interpolant, its sides are searched, and only what may count is polished on the landscape. Else
    each face is searched as boxes are. Without a bound, those are passed over whose loss rises inwards nowhere. Where
    the gradient itself vanishes, a point counts if the loss rises inwards to second order: so the bars are those of a
    box that is a little larger, or smaller.

    References
    ----------
    Goresky and MacPherson (1988), "Stratified Morse theory"; Morse and Van Schaack (1934), "The critical point theory
    under general boundary conditions".
    """
    nowhere = np.empty((0, landscape.dimension))
    parts, settled, left_out = [], [nowhere], [nowhere]
    undecided, missed, spent, proved = inner.undecided, inner.missed, inner.evaluations, inner.proved
    # Corners first: a point of a side that lies on a corner is one of the corner.
    faces = product(*[(0,) if turns else (-1, 0, 1) for turns in box.periodic])
    for face in sorted(filter(any, faces), key=lambda face: face.count(0)):
        side = _Side(landscape, box, inner, np.array(face), flatness)
        if lipschitz is None and not side.may_count(rises):
            continue
        found = None
        if 0 in face:
            found = side.search(seed, starts, lipschitz, max(max_evaluations - spent, 1))
            undecided, missed = undecided + found.undecided, missed + found.missed
            spent, proved = spent + found.evaluations, proved and found.proved
        candidates = side.candidates(found)
        candidates = candidates[~_near(box, candidates.points, np.concatenate(settled))]
        counted, level = side.counted(candidates)
        parts.append(side.reached(candidates[counted], lipschitz))
        settled.append(candidates.points[level.any(axis=1)])
        left_out.append(candidates.points[level.all(axis=1) & ~counted])
        spent += side.spent
    alone = ~_near(box, inner.points, np.concatenate(settled))
    return WithBoundary(
        places=Places.joined([Places.inside(inner)[alone], *parts]),
        left_out=np.concatenate(left_out),
        # On the boundary and not found there: it is not known whether they count.
        undecided=undecided + int((inner.on_boundary & alone).sum()),
        missed=missed,
        proved=proved,
        evaluations=spent,
    )


class _Side:
    """A face of a box, of any dimension: the function there, and across it."""

    def __init__(
        self, landscape: Landscape, box: Box, inner: StationaryPoints, face: Integers, flatness: float
    ) -> None:
        self.whole, self.box, self.face, self.flatness = landscape, box, face, flatness
        self.model, self.interpolant = inner.model, inner.interpolant
        self.free, self.fixed = np.flatnonzero(face == 0), np.flatnonzero(face)
        self.spent = 0

    def __repr__(self) -> str:
        """Return which coordinates are where."""
        ends = np.where(self.face < 0, self.box.low, self.box.high)
        return " and ".join(f"coordinate {k} is {ends[k]:g}" for k in self.fixed.tolist())

    def may_count(self, rises: Mask) -> bool:
        """Return whether the loss rises inwards somewhere on all sides on which the face lies."""
        return bool(rises[self.fixed, (self.face[self.fixed] + 1) // 2].all())

    def search(self, seed: Seed, starts: int, lipschitz: float | None, allowed: int) -> StationaryPoints:
        """Return where the slope along the face vanishes."""
        d = self.whole.dimension
        own = Box(self.box.low[self.free], self.box.high[self.free], self.box.periodic[self.free])
        origin = np.where(self.face < 0, self.box.low, np.where(self.face > 0, self.box.high, 0.0))
        landscape = self.whole.restricted_to(origin, np.eye(d)[self.free])
        interpolant = None
        if self.interpolant is not None:
            axis = int(self.fixed[0])
            interpolant = self.interpolant.on_side(axis, int(self.face[axis] > 0), landscape, own, allowed)
        try:
            return stationary_points(
                landscape,
                own,
                seed=seed,
                starts=starts,
                lipschitz=lipschitz,
                flatness=self.flatness,
                max_evaluations=allowed,
                interpolant=interpolant,
                matters=self.matters,
            )
        except ValueError as error:
            raise ValueError(f"on the side of the box where {self}: {error} {_ELSE}") from error

    def points(self, units: Floats) -> Floats:
        """Return points of the face, in units of it, as points of the landscape, exactly on the boundary."""
        points = np.tile(np.where(self.face < 0, self.box.low, self.box.high), (len(units), 1))
        points[:, self.free] = self.box.low[self.free] + units * self.box.sides[self.free]
        return points

    def matters(self, units: Floats) -> Mask:
        """Return at which places of the face the loss may rise inwards."""
        points = self.points(units)
        slopes, matrices = self._inwards(self.model, points), self._hessians(self.model, points)
        wrong = 4 * _ON * np.linalg.norm(matrices, axis=(1, 2))[:, None]
        if self.interpolant is not None:
            wrong = wrong + self.interpolant.errors(self.box.units(points))[:, self.fixed]
        return np.asarray((slopes >= -wrong).all(axis=1))

    def _inwards(self, landscape: Landscape, points: Floats) -> Floats:
        """Return slopes inwards, in units of the box, (m, number of fixed coordinates)."""
        self.spent += len(points) if landscape is self.whole else 0
        gradients = landscape.gradients(points, progress=False)[1] if len(points) else np.empty(points.shape)
        fine = np.asarray(np.isfinite(gradients).all(axis=1))
        self.box.check_finite(self.box.units(points), fine, "derivatives of the loss are")
        return -(self.face * gradients * self.box.sides)[:, self.fixed]

    def _hessians(self, landscape: Landscape, points: Floats) -> Floats:
        """Return Hessians in units of the box."""
        self.spent += 2 * points.size if landscape is self.whole else 0
        sides = self.box.sides
        return (
            hessians(landscape, points) * sides[:, None] * sides if len(points) else np.empty((0, *(len(sides),) * 2))
        )

    def candidates(self, found: StationaryPoints | None) -> Places:
        """Return the points found on the face, or the corner, if they may count; their reach is not known yet."""
        if found is None:
            corner = self.points(np.empty((1, 0)))[self.matters(np.empty((1, 0)))]
            return self._places(corner, self.whole.values(corner, progress=False) if len(corner) else np.empty(0))
        points = self.points(np.empty((len(found), len(self.free))))
        points[:, self.free] = found.points
        return replace(
            self._places(points, found.values, found.eigenvectors, found.eigenvalues),
            index=found.index,
            gradient_norm=found.gradient_norm,
            isolation=found.isolation,
        )

    def _places(
        self, points: Floats, values: Floats, vectors: Floats | None = None, eigenvalues: Floats | None = None
    ) -> Places:
        m, d = points.shape
        j = len(self.free)
        frames, numbers = np.zeros((m, d, d)), np.full((m, d), np.nan)
        frames[:, np.arange(j, d), self.fixed] = -self.face[self.fixed]
        if vectors is not None:
            frames[:, :j, self.free] = vectors
            numbers[:, :j] = eigenvalues
        return Places(
            points=points,
            values=values,
            index=np.zeros(m, dtype=np.int64),
            face=np.tile(self.face, (m, 1)),
            frames=frames,
            reach=np.zeros(m),
            gradient_norm=np.zeros(m),
            isolation=np.full(m, np.inf),
            eigenvalues=numbers,
        )

    def counted(self, candidates: Places) -> tuple[Mask, Mask]:
        """Return at which points sublevel sets change, and which slopes inwards vanish, (m, number of fixed ones)."""
        slopes = self._inwards(self.whole, candidates.points)
        matrices = self._hessians(self.model, candidates.points)
        sizes = np.linalg.norm(matrices, axis=(1, 2))
        close = (np.abs(slopes) <= _STEEP * sizes[:, None]).any(axis=1)
        if self.model is not self.whole and close.any():
            matrices[close] = self._hessians(self.whole, candidates.points[close])
        counts, level = np.zeros(len(slopes), dtype=bool), np.zeros(slopes.shape, dtype=bool)
        for row in np.flatnonzero((slopes >= -_STEEP * sizes[:, None]).all(axis=1)).tolist():
            point = candidates.points[row]
            if candidates.isolation[row] == 0:
                raise ValueError(f"the point {point.tolist()} is degenerate on the side where {self}. {_ELSE}")
            across = _reduced(matrices[row], self.free, self.fixed)
            curved = np.abs(np.diag(across))
            level[row] = np.abs(slopes[row]) <= _ON * curved
            if not (slopes[row] > 0)[~level[row]].all():
                continue
            flat = (np.abs(slopes[row]) <= _ON * sizes[row]) & (curved <= self.flatness * sizes[row])
            answer = None if flat.any() else _rises(across[np.ix_(level[row], level[row])])
            if answer is None:
                raise ValueError(
                    f"at {point.tolist()}, where {self}, the slope inwards vanishes, and so does its change or it has "
                    f"both signs: it cannot be said whether sublevel sets change there. {_ELSE}"
                )
            counts[row] = answer
        return counts, level

    def reached(self, places: Places, lipschitz: float | None) -> Places:
        """Return the points with how far the loss near them is as their gradients and Hessians say."""
        if len(places) == 0:
            return places
        sides, j = self.box.sides, len(self.free)
        matrices = hessians(self.model, places.points)
        if lipschitz is None:
            bounds = estimated_lipschitz(self.model, places.points, matrices, sides, self.face)
        else:
            bounds = np.full(len(places), lipschitz)
        bounds = np.maximum(bounds, 1e-300)
        # Along the face as inside. Inwards, the slope outweighs what the Hessian adds to it; where there is none, the
        # Hessian is all there is.
        along = np.abs(places.eigenvalues[:, :j]).min(axis=1, initial=np.inf) / bounds
        along = np.minimum(along, sides.min())
        slopes = (self._inwards(self.model, places.points) / sides[self.fixed]).min(axis=1)
        size = np.linalg.norm(matrices, ord=2, axis=(1, 2))
        inwards = slopes / np.maximum(2 * (size + bounds * along), 1e-300)
        least = np.abs(np.linalg.eigvalsh(matrices)).min(axis=1)
        level = slopes <= _STEEP * size * sides.min()
        return replace(places, reach=np.minimum(along, np.where(level, least / bounds, inwards)))


def _reduced(matrix: Floats, free: Integers, fixed: Integers) -> Floats:
    """Return the Hessian across a face of what is left where the slope along it vanishes (a Schur complement)."""
    across = matrix[np.ix_(fixed, fixed)]
    if len(free) == 0:
        return across
    beside = matrix[np.ix_(free, fixed)]
    return np.asarray(across - beside.T @ np.linalg.solve(matrix[np.ix_(free, free)], beside))


def _rises(form: Floats) -> bool | None:
    """Return whether a quadratic form is positive where no coordinate is negative.

    False: it is not, and the directions along which it falls hang together, without a hole; None: neither.
    """
    own = np.diag(form)
    sizes = np.sqrt(np.abs(np.outer(own, own)))
    beside = (form - np.diag(own)) / np.maximum(sizes, 1e-300)
    if (own > 0).all():
        if (beside >= -_NOTHING).all() or np.linalg.eigvalsh(form)[0] > _NOTHING * own.min():
            return True
        return False if len(own) == 2 and beside.min() < -1 - _NOTHING else None
    alone = np.abs(beside).max() <= _NOTHING
    return False if alone or (len(own) == 2 and (own.max() > 0 or beside.max() < 1)) else None


def _near(box: Box, points: Floats, known: Floats) -> Mask:
    """Return which points are as good as one of those that are known."""
    if len(points) == 0 or len(known) == 0:
        return np.zeros(len(points), dtype=bool)
    return np.asarray(box.tree(known).query(box.units(points))[0] <= 4 * _ON)
