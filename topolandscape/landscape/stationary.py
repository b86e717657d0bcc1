"""Where the gradient vanishes: all stationary points of a box, found by cutting it into cells that can be decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from topolandscape.landscape.box import EDGE, Box, Mask
from topolandscape.landscape.cells import FAR, SAFETY, Cells
from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.directions import Seed, whole_number
from topolandscape.landscape.interpolation import Interpolant
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats, Integers, grid_points
from topolandscape.structures.graphs import components

# Which of some places, in units of a box, are of interest.
Matters = Callable[[Floats], Mask]

# Coordinates up to which a landscape is interpolated: in three, a product of polynomials needs more losses than cells.
_INTERPOLATED = 2
# Gradients that an interpolant, which costs time alone, may be asked for.
_FREE = 500_000
# Cells that could not be decided from which Newton's method begins at most.
_BEGUN = 256
# In units of the box: how near Newton's method comes, and on an interpolant, how far apart two points are, and those of
# an interpolant.
_EXACT, _ROUGHLY, _SAME, _ALIKE = 1e-8, 1e-5, 1e-6, 1e-4
# Steps of Newton's method, and how often one of them is halved.
_STEPS, _SHORTENED = 60, 12
# Distance, in units of the box, at which the change of the Hessian at a stationary point is measured.
_NEAR = 0.01


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
        Losses and gradients taken, a product with the Hessian counting as two.
    interpolant
        What was searched in place of the landscape, or None.
    model
        What was searched: the interpolant as a landscape, or the landscape itself.
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
    interpolant: Interpolant | None
    model: Landscape

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
    interpolant: Interpolant | None = None,
    matters: Matters | None = None,
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
        Sobol points at which an interpolant is compared with the loss, and from which Newton's method begins once more
        when the search is over, to see whether it missed any.
    lipschitz
        A bound of the Lipschitz constant of the Hessian on the box, in the spectral norm, if one is known; None: it is
        measured, cell by cell.
    flatness
        An eigenvalue is zero when it is smaller than this share of the largest of the point.
    max_evaluations
        Losses and gradients that the search may take, a product with the Hessian counting as two.
    interpolant
        Of the landscape on the box, known already; None: one is made where one is searched.
    matters
        Which places are of interest, in units of the box, (n, d) -> (n,); None: all. Elsewhere points may be left out,
        and may be degenerate.

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

    In one and two coordinates, and without a bound, this is done to an interpolant, whose errors count
    as well. Newton's method then goes on from its points on the landscape, with its Hessians; and what it leaves
    undecided is searched on the landscape.

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
    d = landscape.dimension
    places = _sobol(starts, d, seed)
    search = _Search(landscape, box, lipschitz, max_evaluations, matters=matters)
    if lipschitz is None and d <= _INTERPOLATED:
        interpolant = interpolant or Interpolant(landscape, box, places, max_evaluations)
        return _by_interpolant(search, interpolant, places, flatness)
    decided, undecided = search.cells()
    undecided = search.mattering(undecided)
    found, lost = search.newton(decided, 4 * search.width)
    more, _ = search.newton(undecided[:, :-1], 4 * search.width)
    known = search.distinct(np.vstack([found, more]))
    extra, _ = search.newton(places, 0.1)
    every = search.distinct(np.vstack([known, extra]))
    open_ = len(search.open_cells(undecided, every)) + len(lost)
    return search.examined(every, flatness, open_, len(every) - len(known), None)


def _by_interpolant(search: _Search, interpolant: Interpolant, places: Floats, flatness: float) -> StationaryPoints:
    """Find the points of an interpolant, and from these those of the landscape."""
    model = interpolant.landscape
    free = _Search(model, search.box, None, _FREE, errors=interpolant.errors, matters=search.matters)
    decided, undecided = free.cells()
    undecided = search.mattering(undecided)
    if len(undecided) and interpolant.improve(undecided[:, :-1]):
        decided, undecided = free.cells()
        undecided = search.mattering(undecided)
    search.spent += interpolant.spent
    kinks = interpolant.kinks()
    undecided = np.vstack([undecided, np.column_stack([kinks, np.full(len(kinks), free.width)])])
    found, lost = free.newton(decided, 4 * free.width)
    known, more = search.newton(free.distinct(found), 4 * free.width, free.hessians)
    # Where pieces meet the interpolant has kinks, at which Newton's method may fail.
    more, lost = search.newton(np.vstack([more, lost]), 4 * free.width)
    known = search.distinct(np.vstack([known, more]))
    if len(undecided := search.open_cells(undecided, known)):
        known, undecided = _looked_at(search, undecided, known, flatness)
    extra = free.distinct(free.newton(places, 0.1)[0])
    extra, _ = search.newton(extra[search.apart(extra, known) > _ALIKE], 4 * free.width, free.hessians)
    every = search.distinct(np.vstack([known, extra]))
    return search.examined(every, flatness, len(undecided) + len(lost), len(every) - len(known), interpolant)


def _looked_at(search: _Search, cells: Floats, known: Floats, flatness: float) -> tuple[Floats, Floats]:
    """Return the points with those of cells that an interpolant does not decide, and what is still undecided."""
    d = search.landscape.dimension
    rows = np.unique(np.linspace(0, len(cells) - 1, _BEGUN).astype(int))
    more = search.distinct(search.newton(cells[rows, :-1], 4 * search.width)[0])
    # Where points are not isolated it would go on without end.
    _check_isolated(search.box.low + more * search.box.sides, search.eigenvalues(more), flatness)
    known = search.distinct(np.vstack([known, more]))
    cells = search.open_cells(cells, known)
    if 0 < len(cells) * (2**d + 1) * (2 * d + 1) <= search.allowed - search.spent:
        decided, cells = search.cells(cells)
        cells = search.mattering(cells)
        places = np.vstack([decided, cells[:, :-1]])
        known = search.distinct(np.vstack([known, search.newton(places, 4 * search.width)[0]]))
        cells = search.open_cells(cells, known)
    return known, cells


class _Search(Cells):
    """What is done with the cells: Newton's method, and what is measured at the points found."""

    def __init__(self, *arguments: Any, matters: Matters | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.matters = matters

    def mattering(self, cells: Floats) -> Floats:
        """Return the cells, with their widths, that are of interest: at their centre or one of their corners."""
        if self.matters is None or len(cells) == 0:
            return cells
        around = grid_points([np.array([-1.0, 0.0, 1.0])] * self.landscape.dimension)
        places = np.clip(cells[:, None, :-1] + cells[:, None, -1:] * around, 0.0, 1.0)
        chosen = self.matters(places.reshape(-1, places.shape[2])).reshape(len(cells), -1)
        return np.asarray(cells[chosen.any(axis=1)])

    @property
    def exact(self) -> float:
        """How near Newton's method comes."""
        return _EXACT if self.is_exact else _ROUGHLY

    @property
    def same(self) -> float:
        """How far apart the same point may be found twice."""
        return _SAME if self.is_exact else _ALIKE

    def eigenvalues(self, units: Floats) -> Floats:
        """Return the eigenvalues of Hessians in the units of the landscape."""
        sides = self.box.sides
        return np.asarray(np.linalg.eigvalsh(self.hessians(units) / sides[:, None] / sides), dtype=np.float64)

    def newton(
        self, units: Floats, longest: float, matrices: Callable[[Floats], Floats] | None = None
    ) -> tuple[Floats, Floats]:
        """Return the stationary points in the box to which Newton's method leads, and the starts from which it fails.

        `matrices` gives Hessians that are nearly right; None: they are taken.
        """
        matrices = self.hessians if matrices is None else matrices
        if len(units) == 0:
            return units, units
        starts = units
        _, gradients = self.gradients(units)
        units, share = units.copy(), np.ones(len(units))
        steps = _steps(matrices(units), gradients, longest)
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
            reached[going] |= np.linalg.norm(steps[going], axis=1) <= self.exact
            steps[there] = _steps(matrices(units[there]), gradients[there], longest)
            still = (
                (share[going] > 2.0**-_SHORTENED) & ~(reached[going] & ~better) & (gradients[going] != 0).any(axis=1)
            )
            reached[going] |= (gradients[going] == 0).all(axis=1)
            going = going[still & (np.abs(units[going] - 0.5) < 1.0).all(axis=1)]
            if len(going) == 0:
                break
        places = units[reached]
        places, lost = places[self.box.holds(self.box.low + places * self.box.sides, EDGE)], starts[~reached]
        if self.matters is not None:
            places, lost = (rows[self.matters(rows)] if len(rows) else rows for rows in (places, lost))
        return places, lost

    def distinct(self, units: Floats) -> Floats:
        """Return one of all points that are the same, the one with the smallest gradient."""
        if len(units) == 0:
            return units
        pairs = self.unit.tree(self.unit.units(units)).query_pairs(self.same, output_type="ndarray")
        if len(pairs) == 0:
            return units
        labels = components(pairs, len(units))
        norms = np.linalg.norm(self.gradients(units)[1], axis=1)
        order = np.lexsort((norms, labels))
        return units[order[np.unique(labels[order], return_index=True)[1]]]

    def apart(self, units: Floats, known: Floats) -> Floats:
        """Return how far points are from the nearest of those that are known."""
        if len(units) == 0 or len(known) == 0:
            return np.full(len(units), np.inf)
        return np.asarray(self.unit.tree(known).query(self.unit.units(units))[0])

    def open_cells(self, undecided: Floats, known: Floats) -> Floats:
        """Return the cells, with their widths, that are not decided by a point in them or next to them."""
        reach = 4 * undecided[:, -1] * np.sqrt(self.landscape.dimension)
        return undecided[self.apart(undecided[:, :-1], known) > reach]

    def examined(
        self, units: Floats, flatness: float, undecided: int, missed: int, interpolant: Interpolant | None
    ) -> StationaryPoints:
        """Return the points by value, with what is measured at them; how fast the Hessian changes, on the model."""
        model = self.landscape if interpolant is None else interpolant.landscape
        d, sides = self.landscape.dimension, self.box.sides
        units = self.unit.units(units)
        points = np.where(self.box.periodic, units, np.clip(units, 0.0, 1.0)) * sides + self.box.low
        values, gradients = self.landscape.gradients(points, progress=False)
        order = np.lexsort((*points.T[::-1], values))
        points, values, gradients, units = points[order], values[order], gradients[order], units[order]
        matrices = hessians(self.landscape, points)
        eigenvalues, vectors = np.linalg.eigh(matrices)
        _check_isolated(points, eigenvalues, flatness)
        if self.given is None:
            bounds = estimated_lipschitz(model, points, matrices, sides, np.zeros(d, dtype=np.int64))
            self.spent += 4 * d * d * len(points) if model is self.landscape else 0
        else:
            bounds = np.full(len(points), self.given)
        norms = np.linalg.norm(gradients, axis=1)
        return StationaryPoints(
            points=points,
            values=values,
            gradient_norm=norms,
            eigenvalues=eigenvalues,
            eigenvectors=vectors.transpose(0, 2, 1),
            lipschitz=bounds,
            isolation=_isolation(norms, np.abs(eigenvalues).min(axis=1, initial=np.inf), bounds),
            on_boundary=self.box.bounds(points),
            undecided=undecided,
            missed=missed,
            proved=self.given is not None and undecided == 0,
            evaluations=self.spent,
            interpolant=interpolant,
            model=model,
        )


def estimated_lipschitz(
    landscape: Landscape, points: Floats, matrices: Floats, sides: Floats, face: Integers
) -> Floats:
    """Return how fast the Hessian changes near points, (m,), with a margin.

    It is `matrices` at the points, and is asked for at a short step along each axis of the box, both ways; where a
    coordinate is at the low end (`face` -1) or the high one (1), inwards alone.
    """
    d, bounds = len(sides), np.zeros(len(points))
    for axis, end in enumerate(face.tolist()):
        for sign in (-1.0, 1.0) if end == 0 else (-float(end),):
            step = sign * _NEAR * sides[axis] * np.eye(d)[axis]
            change = np.linalg.norm(hessians(landscape, points + step) - matrices, ord=2, axis=(1, 2))
            bounds = np.maximum(bounds, SAFETY * np.sqrt(d) * change / np.abs(step[axis]))
    return bounds


def _steps(matrices: Floats, gradients: Floats, longest: float) -> Floats:
    """Return Newton's steps, shortened."""
    if len(matrices) == 0:
        return gradients
    eigenvalues, vectors = np.linalg.eigh(matrices)
    floor = 1e-12 * np.abs(eigenvalues).max(axis=1, keepdims=True) + 1e-300
    safe = np.where(np.abs(eigenvalues) > floor, eigenvalues, floor)
    along = np.clip(np.einsum("mji,mj->mi", vectors, gradients) / safe, -FAR, FAR)
    steps = -np.einsum("mij,mj->mi", vectors, along)
    return steps * np.minimum(1.0, longest / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), 1e-300))


def _check_isolated(points: Floats, eigenvalues: Floats, flatness: float) -> None:
    """Raise where an eigenvalue of a stationary point is zero beside the largest."""
    sizes = np.abs(eigenvalues)
    flat = sizes.min(axis=1, initial=np.inf) <= flatness * sizes.max(axis=1, initial=0.0)
    if flat.any():
        row = int(np.argmax(flat))
        raise ValueError(
            f"the stationary point {points[row].tolist()} is degenerate: its Hessian has eigenvalues "
            f"{eigenvalues[row].tolist()}, and it is one of {int(flat.sum())} such points. Critical points need to "
            "be isolated: take away directions that change nothing, or add a weight decay."
        )


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
