"""Where the gradient vanishes: all stationary points of a box, found by cutting it into cells that can be decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.directions import Seed, whole_number
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats, Integers
from topolandscape.structures.graphs import components

Mask = NDArray[np.bool_]

# Cells along each side of the box at first, by dimension; from five dimensions on the last.
_CELLS = (64, 16, 8, 4, 3)
# Times a cell may be halved.
_HALVINGS = 12
# Measured differences of Hessians are raised by this factor, since the largest lie between the places measured.
_SAFETY = 2.0
# In units of the box: how near Newton's method comes, how far apart two points are, how far outside is on the edge.
_EXACT, _SAME, _EDGE = 1e-8, 1e-6, 1e-9
# Longest step that is thought of, in units of the box.
_FAR = 1e9
# Steps of Newton's method, and how often one of them is halved.
_STEPS, _SHORTENED = 60, 12
# Distance, in units of the box, at which the change of the Hessian at a stationary point is measured.
_NEAR = 0.01


class Box(NamedTuple):
    """A box, some of whose sides may be glued together.

    Attributes
    ----------
    low, high
        Corners, (d,).
    periodic
        Which coordinates go round, (d,).
    """

    low: Floats
    high: Floats
    periodic: Mask

    @property
    def sides(self) -> Floats:
        """Lengths of the sides, (d,)."""
        return self.high - self.low

    def wrapped(self, points: Floats) -> Floats:
        """Return points with their periodic coordinates in the box."""
        turns = np.floor((points - self.low) / self.sides)
        return np.where(self.periodic, points - turns * self.sides, points)

    def holds(self, points: Floats, margin: float = 0.0) -> Mask:
        """Return which points lie in the box, by a margin in units of its sides."""
        far = margin * self.sides
        within = (points >= self.low - far) & (points <= self.high + far)
        return np.asarray((within | self.periodic).all(axis=1))

    def tree(self, points: Floats) -> KDTree:
        """Return a tree of points that knows which sides are glued, in units of the box."""
        return KDTree(self.units(points), boxsize=np.where(self.periodic, 1.0, 0.0))

    def units(self, points: Floats) -> Floats:
        """Return points in units of the box, from its corner, ready to be looked up in a tree."""
        units = (points - self.low) / self.sides
        # The remainder of a number just below zero rounds to one, which the tree does not take.
        return np.where(self.periodic, np.mod(units, 1.0) % 1.0, units)


@dataclass(frozen=True, eq=False)
class StationaryPoints:
    """Points of a box at which the gradient vanishes, by value.

    Attributes
    ----------
    points
        Shape (m, d).
    values
        Losses, shape (m,).
    gradient_norm
        Shape (m,).
    eigenvalues, eigenvectors
        Of the Hessian, ascending, shape (m, d); vectors of length one, one a row, shape (m, d, d).
    lipschitz
        Bound of the Lipschitz constant of the Hessian: the one that was given, or one that was measured near each
        point and doubled, shape (m,).
    isolation
        No other stationary point lies so near, as far as `lipschitz` is right; zero: Newton and Kantorovich's test
        does not hold, (m,).
    on_boundary
        Which lie on the boundary of the box, (m,).
    undecided
        Cells in which the search could not tell whether there is a stationary point.
    missed
        Points that were found by the random starts only.
    proved
        Whether a bound was given, so that completeness and isolation are proved, but for rounding.
    evaluations
        Gradients taken, a product with the Hessian counting as two.
    """

    points: Floats
    values: Floats
    gradient_norm: Floats
    eigenvalues: Floats
    eigenvectors: Floats
    lipschitz: Floats
    isolation: Floats
    on_boundary: Mask
    undecided: int
    missed: int
    proved: bool
    evaluations: int

    @property
    def index(self) -> Integers:
        """Morse index, the number of negative eigenvalues, (m,)."""
        return (self.eigenvalues < 0).sum(axis=1)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)


def stationary_points(
    landscape: Landscape,
    box: Box,
    *,
    seed: Seed,
    starts: int = 64,
    lipschitz: float | None = None,
    flatness: float = 1e-6,
    max_evaluations: int = 2_000_000,
) -> StationaryPoints:
    """Find all stationary points of a box, of any index.

    Parameters
    ----------
    landscape
        Of few dimensions, twice differentiable.
    box
        Where to look.
    seed
        Of the random starts: a whole number or a numpy Generator.
    starts
        Sobol points from which Newton's method begins once more when the search is over, to see whether it missed any.
    lipschitz
        A bound of the Lipschitz constant of the Hessian on the box, in the spectral norm, if one is known; None: it is
        measured, cell by cell.
    flatness
        An eigenvalue is zero when it is smaller than this share of the largest of the point.
    max_evaluations
        Gradients that the search may take, a product with the Hessian counting as two.

    Returns
    -------
    StationaryPoints
        Isolated ones.

    Raises
    ------
    ValueError
        A loss or a derivative is not finite, a stationary point is degenerate, or the bound is contradicted.

    Notes
    -----
    Each cell, with the gradient and the Hessian at its centre, is left when the Taylor polynomial and the bound leave
    no room for a zero; it is done when Newton and Kantorovich's theorem allows one at most in a ball that covers it
    (Ortega and Rheinboldt 1970, section 12.6); else it is cut into halves along each side. Newton's method, shortened
    until the gradient falls, begins at the centres of what is done or cannot be decided.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + x[:, 1] ** 2, 2)
    >>> box = Box(np.array([-2.0, -1.0]), np.array([2.0, 1.5]), np.array([False, False]))
    >>> found = stationary_points(landscape, box, seed=0)
    >>> found.points.round(6).tolist(), found.index.tolist()
    ([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [0, 0, 1])
    """
    whole_number(starts, "starts", least=0)
    if lipschitz is not None and not (np.isfinite(lipschitz) and lipschitz >= 0):
        raise ValueError(f"lipschitz is {lipschitz}; it needs to be a number, 0 or more, or None.")
    search = _Search(landscape, box, lipschitz, max_evaluations)
    decided, undecided = search.cells()
    found, lost = search.newton(decided, 4 * search.width)
    more, _ = search.newton(undecided[:, :-1], 4 * search.width)
    known = search.distinct(np.vstack([found, more]))
    extra, _ = search.newton(_sobol(starts, landscape.dimension, seed), 0.1)
    every = search.distinct(np.vstack([known, extra]))
    # A cell that is too small to be cut is decided by the point that Newton's method finds in it or next to it.
    if len(undecided) and len(every):
        near = search.unit.tree(every).query(search.unit.units(undecided[:, :-1]))[0]
        undecided = undecided[near > 4 * undecided[:, -1] * np.sqrt(landscape.dimension)]
    if len(every) == 0:
        return _nothing(landscape.dimension, search, len(undecided) + lost)
    return search.examined(every, flatness, len(undecided) + lost, len(every) - len(known))


class _Search:
    """The search, in units of the box."""

    def __init__(self, landscape: Landscape, box: Box, lipschitz: float | None, allowed: int) -> None:
        self.landscape, self.box, self.given, self.allowed = landscape, box, lipschitz, allowed
        self.bound = None if lipschitz is None else lipschitz * box.sides.max() ** 3
        self.spent = 0
        d = landscape.dimension
        self.unit = Box(np.zeros(d), np.ones(d), box.periodic)
        self.width = 0.5 / _CELLS[min(d, len(_CELLS)) - 1]

    def gradients(self, units: Floats) -> tuple[Floats, Floats]:
        self.spent += len(units)
        values, gradients = self.landscape.gradients(self.box.low + units * self.box.sides, progress=False)
        return values, gradients * self.box.sides

    def hessians(self, units: Floats) -> Floats:
        self.spent += 2 * units.size
        sides = self.box.sides
        return hessians(self.landscape, self.box.low + units * sides) * sides[:, None] * sides

    # ------------------------------------------------------------------------------------------ cells

    def cells(self) -> tuple[Floats, Floats]:
        """Return the centres of cells with one zero at most, and the other cells that are left, with their widths."""
        d, width = self.landscape.dimension, self.width
        side = np.arange(round(0.5 / width)) * 2 * width + width
        centres = np.stack(np.meshgrid(*[side] * d, indexing="ij"), axis=-1).reshape(-1, d)
        gradients, matrices = self._measured(centres)
        bounds = self._neighbouring(matrices, len(side))
        begun, left = [], np.empty((0, d + 1))
        for halving in range(_HALVINGS + 1):
            done, open_ = _decided(gradients, matrices, bounds, width)
            begun.append(centres[done])
            centres, matrices, bounds = centres[open_], matrices[open_], bounds[open_]
            if len(centres) == 0:
                break
            if halving == _HALVINGS or self.spent + len(centres) * 2**d * (2 * d + 1) > self.allowed:
                left = np.column_stack([centres, np.full(len(centres), width)])
                break
            width /= 2
            corners = np.stack(np.meshgrid(*[[-width, width]] * d, indexing="ij"), axis=-1).reshape(-1, d)
            children = (centres[:, None] + corners).reshape(-1, d)
            gradients, below = self._measured(children)
            bounds = np.repeat(self._changing(matrices, bounds, below.reshape(-1, 2**d, d, d), width), 2**d)
            centres, matrices = children, below
        return np.concatenate(begun), left

    def _measured(self, centres: Floats) -> tuple[Floats, Floats]:
        values, gradients = self.gradients(centres)
        matrices = self.hessians(centres)
        fine = np.isfinite(values) & np.isfinite(gradients).all(axis=1) & np.isfinite(matrices).all(axis=(1, 2))
        if not fine.all():
            place = (self.box.low + centres[np.argmin(fine)] * self.box.sides).tolist()
            raise ValueError(
                f"the loss or its derivatives are not finite at {place}, one of {int((~fine).sum())} such places of "
                f"{len(fine)}; all are needed to find critical points. Choose a box where they are."
            )
        return gradients, matrices

    def _neighbouring(self, matrices: Floats, n: int) -> Floats:
        """Return bounds for the cells of the first grid from the differences with their neighbours."""
        d = matrices.shape[-1]
        grid = matrices.reshape(*[n] * d, d, d)
        largest = np.zeros([n] * d)
        for axis in range(d):
            change = np.linalg.norm(np.diff(grid, axis=axis), ord=2, axis=(-2, -1)) / (2 * self.width)
            for part in (slice(0, -1), slice(1, None)):
                here = tuple(part if other == axis else slice(None) for other in range(d))
                largest[here] = np.maximum(largest[here], change)
        measured = largest.reshape(-1)
        if self.bound is None:
            return _SAFETY * np.sqrt(d) * measured
        self._check_bound(measured, matrices, self.width)
        return np.full(len(matrices), self.bound)

    def _changing(self, parents: Floats, bounds: Floats, children: Floats, width: float) -> Floats:
        """Return bounds for the children of cells, one a parent, from the differences with it and with each other."""
        d = parents.shape[-1]
        pairs = np.triu_indices(2**d, 1)
        signs = (np.arange(2**d)[:, None] >> np.arange(d)) & 1
        apart = 2 * width * np.linalg.norm(signs[pairs[0]] - signs[pairs[1]], axis=1)
        among = np.linalg.norm(children[:, pairs[0]] - children[:, pairs[1]], ord=2, axis=(-2, -1)) / apart
        above = np.linalg.norm(children - parents[:, None], ord=2, axis=(-2, -1)) / (width * np.sqrt(d))
        measured = np.maximum(among.max(axis=1), above.max(axis=1))
        if self.bound is None:
            return np.maximum(_SAFETY * measured, 0.5 * bounds)
        self._check_bound(measured, children, width)
        return bounds

    def _check_bound(self, measured: Floats, matrices: Floats, width: float) -> None:
        """Raise where Hessians change faster than the bound that was given allows."""
        rounding = 1e-6 * np.abs(matrices).max() / width
        if self.bound is not None and (measured > self.bound * (1 + 1e-6) + rounding).any():
            raise ValueError(
                f"lipschitz is {self.given:g}, but the Hessian changes faster: at least "
                f"{measured.max() / self.box.sides.max() ** 3:g} by unit length. Give a bound that holds, or None."
            )

    # ------------------------------------------------------------------------------------------ points

    def newton(self, units: Floats, longest: float) -> tuple[Floats, int]:
        """Return the stationary points in the box to which Newton's method leads, and from how many starts it fails."""
        if len(units) == 0:
            return units, 0
        _, gradients = self.gradients(units)
        units, share = units.copy(), np.ones(len(units))
        steps = self._steps(units, gradients, longest)
        reached = np.zeros(len(units), dtype=bool)
        going = np.arange(len(units))
        for _ in range(_STEPS):
            ahead = units[going] + share[going, None] * steps[going]
            values, new = self.gradients(ahead)
            better = np.isfinite(values) & (
                np.linalg.norm(new, axis=1) < (1 - 1e-4 * share[going]) * np.linalg.norm(gradients[going], axis=1)
            )
            there = going[better]
            units[there], gradients[there], share[there] = ahead[better], new[better], 1.0
            share[going[~better]] /= 2
            # Where rounding ends the descent of the gradient, the last step says how far the point may be off.
            reached[going] |= np.linalg.norm(steps[going], axis=1) <= _EXACT
            steps[there] = self._steps(units[there], gradients[there], longest)
            still = (
                (share[going] > 2.0**-_SHORTENED) & ~(reached[going] & ~better) & (gradients[going] != 0).any(axis=1)
            )
            reached[going] |= (gradients[going] == 0).all(axis=1)
            going = going[still & (np.abs(units[going] - 0.5) < 1.0).all(axis=1)]
            if len(going) == 0:
                break
        places = units[reached]
        return places[self.box.holds(self.box.low + places * self.box.sides, _EDGE)], int((~reached).sum())

    def _steps(self, units: Floats, gradients: Floats, longest: float) -> Floats:
        if len(units) == 0:
            return units
        eigenvalues, vectors = np.linalg.eigh(self.hessians(units))
        floor = 1e-12 * np.abs(eigenvalues).max(axis=1, keepdims=True) + 1e-300
        safe = np.where(np.abs(eigenvalues) > floor, eigenvalues, floor)
        along = np.clip(np.einsum("mji,mj->mi", vectors, gradients) / safe, -_FAR, _FAR)
        steps = -np.einsum("mij,mj->mi", vectors, along)
        return steps * np.minimum(1.0, longest / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-300))

    def distinct(self, units: Floats) -> Floats:
        """Return one of all points that are the same, the one with the smallest gradient."""
        if len(units) == 0:
            return units
        pairs = self.unit.tree(units).query_pairs(_SAME, output_type="ndarray")
        labels = components(pairs, len(units))
        norms = np.linalg.norm(self.gradients(units)[1], axis=1)
        order = np.lexsort((norms, labels))
        return units[order[np.unique(labels[order], return_index=True)[1]]]

    def examined(self, units: Floats, flatness: float, undecided: int, missed: int) -> StationaryPoints:
        """Return the points by value, with what is measured at them."""
        d, sides = self.landscape.dimension, self.box.sides
        units = self.unit.units(units)
        points = np.where(self.box.periodic, units, np.clip(units, 0.0, 1.0)) * sides + self.box.low
        values, gradients = self.landscape.gradients(points, progress=False)
        order = np.lexsort((*points.T[::-1], values))
        points, values, gradients, units = points[order], values[order], gradients[order], units[order]
        matrices = hessians(self.landscape, points)
        eigenvalues, vectors = np.linalg.eigh(matrices)
        sizes = np.abs(eigenvalues)
        flat = sizes.min(axis=1, initial=np.inf) <= flatness * sizes.max(axis=1, initial=0.0)
        if flat.any():
            row = int(np.argmax(flat))
            raise ValueError(
                f"the stationary point {points[row].tolist()} is degenerate: its Hessian has eigenvalues "
                f"{eigenvalues[row].tolist()}, and it is one of {int(flat.sum())} such points. Critical points need to "
                "be isolated: take away directions that change nothing, or add a weight decay."
            )
        if self.given is None:
            bounds = np.zeros(len(points))
            for axis in range(d):
                for sign in (-1.0, 1.0):
                    step = sign * _NEAR * sides[axis] * np.eye(d)[axis]
                    change = np.linalg.norm(hessians(self.landscape, points + step) - matrices, ord=2, axis=(1, 2))
                    bounds = np.maximum(bounds, _SAFETY * np.sqrt(d) * change / np.abs(step[axis]))
            self.spent += 4 * d * d * len(points)
        else:
            bounds = np.full(len(points), self.given)
        norms = np.linalg.norm(gradients, axis=1)
        edge = (np.abs(units - 0.5) > 0.5 - 2 * _EDGE) & ~self.box.periodic
        return StationaryPoints(
            points=points,
            values=values,
            gradient_norm=norms,
            eigenvalues=eigenvalues,
            eigenvectors=vectors.transpose(0, 2, 1),
            lipschitz=bounds,
            isolation=_isolation(norms, sizes.min(axis=1, initial=np.inf), bounds),
            on_boundary=np.asarray(edge.any(axis=1)),
            undecided=undecided,
            missed=missed,
            proved=self.given is not None and undecided == 0,
            evaluations=self.spent,
        )


def _nothing(d: int, search: _Search, undecided: int) -> StationaryPoints:
    """Return no points."""
    none = np.empty(0)
    return StationaryPoints(
        points=np.empty((0, d)),
        values=none,
        gradient_norm=none,
        eigenvalues=np.empty((0, d)),
        eigenvectors=np.empty((0, d, d)),
        lipschitz=none,
        isolation=none,
        on_boundary=none.astype(bool),
        undecided=undecided,
        missed=0,
        proved=search.given is not None and undecided == 0,
        evaluations=search.spent,
    )


def _decided(gradients: Floats, matrices: Floats, bounds: Floats, width: float) -> tuple[Mask, Mask]:
    """Return which cells hold one zero of the gradient at most, near their centre; and which need to be cut."""
    radius = width * np.sqrt(gradients.shape[1])
    remainder = 0.5 * bounds * radius**2
    empty = (np.abs(gradients) > np.abs(matrices).sum(axis=2) * width + remainder[:, None]).any(axis=1)
    eigenvalues, vectors = np.linalg.eigh(matrices)
    least = np.abs(eigenvalues).min(axis=1)
    inverse = 1 / np.maximum(least, 1e-300)
    along = np.einsum("mji,mj->mi", vectors, gradients) / np.where(eigenvalues == 0, 1e-300, eigenvalues)
    steps = np.einsum("mij,mj->mi", vectors, np.clip(along, -_FAR, _FAR))
    length = np.linalg.norm(steps, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        room = inverse * remainder
        empty |= (least > 0) & ((np.abs(steps) > width + room[:, None]).any(axis=1) | (length > radius + room))
        test = inverse * bounds * length
        unique = (1 + np.sqrt(np.maximum(1 - 2 * test, 0.0))) / np.maximum(inverse * bounds, 1e-300)
        done = ~empty & (least > 0) & (test <= 0.5) & (unique >= radius)
    return done, ~empty & ~done


def _isolation(norms: Floats, least: Floats, bounds: Floats) -> Floats:
    """Return radii within which Newton and Kantorovich's theorem allows no other stationary point."""
    test = bounds * norms / least**2
    root = np.sqrt(np.maximum(1 - 2 * test, 0.0))
    return np.where(test <= 0.5, (1 + root) * least / np.maximum(bounds, 1e-300), 0.0)


def _sobol(n: int, d: int, seed: Seed) -> Floats:
    from scipy.stats import qmc

    own = int(np.random.default_rng(seed).integers(2**63))
    drawn = qmc.Sobol(d, scramble=True, seed=own).random_base2(max(0, int(n - 1).bit_length()))
    return drawn[:n]
