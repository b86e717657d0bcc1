"""Saddles of index one: uphill along one direction, downhill along all others, many points at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from topolandscape.landscape.curvature import lowest_curvatures
from topolandscape.landscape.directions import unit
from topolandscape.landscape.keeping import resumable
from topolandscape.landscape.line_search import MEMORY
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.points import read_points
from topolandscape.landscape.polishing import noise_at, steihaug
from topolandscape.landscape.quasi_newton import History
from topolandscape.landscape.tasks import in_parts, joined
from topolandscape.landscape.vectors import add_multiple, are_finite, dot, inner_product, length_of, norm, remove
from topolandscape.structures import Floats, Integers
from topolandscape.structures.journal import Arrays, Halfway

# Products for each point with which its direction of least curvature is looked for, at first and after each step.
_AT_FIRST, _AFTER = 20, 4
# Steps of L-BFGS after which the direction is turned again.
_TURNS = 5
# Newton steps begin when the gradient has fallen to this share of what it was at first, and are at most so many.
_CLOSE, _NEWTON_STEPS = 3e-3, 30
# Of the gradient, where a step begins, how much may be left of Newton's equation.
_SOLVED = 0.1
# Share of a curvature that its residual may have for its sign to be known.
_SIGN = 0.1


@dataclass(frozen=True, eq=False)
class Saddles:
    """Stationary points reached by climbing along one direction and descending along all others.

    Attributes
    ----------
    points
        Shape (m, p).
    values
        Losses, shape (m,).
    gradient_norm
        Shape (m,).
    curvature
        Along the direction and, the least, across it, shape (m, 2): the two lowest eigenvalues of the Hessian, up to
        their residuals; the second is infinite in one dimension. NaN where the gradient does not vanish.
    residual
        ``|H v - curvature v|`` of both, shape (m, 2): how far from the curvatures eigenvalues may lie.
    direction
        Unit vector near the eigenvector of the lowest, shape (m, p).
    verified
        Whether the gradient norm is below the tolerance and exactly one curvature is negative, by more than its
        residual; shape (m,).
    """

    points: Floats
    values: Floats
    gradient_norm: Floats
    curvature: Floats
    residual: Floats
    direction: Floats
    verified: NDArray[np.bool_]


def saddles(
    landscape: Landscape,
    points: ArrayLike,
    directions: ArrayLike,
    *,
    tolerance: float = 1e-5,
    radius: float | ArrayLike,
    steps: int = 600,
    products: int = 100,
    ceiling: float | ArrayLike = math.inf,
    noise: float | None = None,
    seed: int | np.random.Generator = 0,
) -> Saddles:
    """Go from points near a pass to stationary points with one negative curvature.

    Parameters
    ----------
    landscape
        Twice differentiable.
    points
        For example the tops of converged paths, shape (m, p).
    directions
        Along which to climb at first, for example along the path, shape (m, p).
    tolerance
        Of the gradient norm.
    radius
        Longest step; one number, or one a point.
    steps
        Most steps of a point before Newton's method begins.
    products
        Most products of the Hessian with a vector, for each Newton step of a point.
    ceiling
        Loss above which a point is given up; one number, or one a point.
    noise
        As for `polish`.
    seed
        Of the search for the lowest curvatures at the end.

    Returns
    -------
    Saddles
        Those that were not reached as well, as they are: see `Saddles.verified`.

    Notes
    -----
    Hybrid eigenvector following (Munro and Wales 1999): the direction is turned to that of least curvature by
    conjugate gradients of the Rayleigh quotient (Knyazev 2001); along it the step is Newton's, uphill, and in its
    complement that of L-BFGS, downhill. Near the saddle the steps in the complement are those of truncated conjugate
    gradients in a trust region (Steihaug 1983), downhill also where there are more negative curvatures, and shortened
    until the gradient does not grow.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + 2 * x[:, 1] ** 2, 2)
    >>> found = saddles(landscape, [[0.2, 0.1]], [[1.0, 0.0]], radius=0.1)
    >>> np.abs(found.points.round(6)).tolist(), found.values.round(6).tolist(), bool(found.verified[0])
    ([[0.0, 0.0]], [1.0], True)
    """
    at = read_points(points, landscape.dimension, "points").copy()
    modes = unit(np.array(directions, dtype=np.float64))
    if modes.shape != at.shape:
        raise ValueError(f"directions have shape {modes.shape}, points {at.shape}; each point needs one direction.")
    longest = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(at),)).copy()
    highest = np.broadcast_to(np.asarray(ceiling, dtype=np.float64), (len(at),))
    if landscape.tasks is not None and len(at) > 1:
        settings = {"tolerance": tolerance, "steps": steps, "products": products, "noise": noise, "seed": seed}

        def part(rows: slice) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return (at[rows], modes[rows]), settings | {"radius": longest[rows], "ceiling": highest[rows]}

        return joined(in_parts(landscape, saddles, len(at), part, what="points", progress=False))
    reached = _climbed(landscape, at, modes, longest, highest, tolerance, steps, products, noise)
    return _examined(landscape, reached, tolerance, seed)


class _Reached(NamedTuple):
    """Points at which a climb has ended, with their losses and gradients, and the directions there."""

    points: Floats
    values: Floats
    gradients: Floats
    modes: Floats


@resumable(_Reached)
def _climbed(
    landscape: Landscape,
    halfway: Halfway,
    at: Floats,
    modes: Floats,
    radius: Floats,
    ceiling: Floats,
    tolerance: float,
    steps: int,
    products: int,
    noise: float | None,
) -> _Reached:
    """Climb from points, from where it had come."""
    climb = _Climb(landscape, halfway, at.copy(), modes.copy(), radius.copy(), ceiling, tolerance)
    if not halfway.known:
        climb.begin(noise)
    climb.approach(steps)
    climb.close_in(products)
    return _Reached(climb.points, climb.values, climb.gradients, climb.modes)


class _Climb:
    """Points on their way to saddles."""

    def __init__(
        self,
        landscape: Landscape,
        halfway: Halfway,
        points: Floats,
        modes: Floats,
        radius: Floats,
        ceiling: Floats,
        tolerance: float,
    ) -> None:
        self.landscape, self.ceiling, self.tolerance = landscape, ceiling, tolerance
        self.points, self.modes = points, modes
        self.radius, self.first_radius = radius, radius.copy()
        self.values, self.gradients = np.empty(len(points)), np.empty_like(points)
        self.curvatures, self.noise, self.close = np.zeros((3, len(points)))
        self.history = History(len(points), points.shape[1], MEMORY)
        self.step, self.is_near = 0, False  # of the approach, or of closing in
        self._halfway = halfway
        if state := halfway.known:
            for array, before in zip(self._arrays, (state[f"{place}"] for place in count()), strict=False):
                array[...] = before
            self.step, self.is_near = int(state["step"]), bool(state["is_near"])

    def begin(self, noise: float | None) -> None:
        """Find out what is known of the points before the first step."""
        self.values, self.gradients = self.landscape.gradients(self.points, progress=False)
        self.noise = noise_at(self.landscape, self.points, self.values, noise)
        self.close = np.maximum(_CLOSE * np.linalg.norm(self.gradients, axis=1), self.tolerance)

    @property
    def _arrays(self) -> list[NDArray[Any]]:
        known = [self.points, self.values, self.gradients, self.modes, self.radius, self.curvatures]
        return [*known, self.noise, self.close, *self.history.arrays]

    def _state(self) -> Arrays:
        arrays = {f"{place}": array for place, array in enumerate(self._arrays)}
        return arrays | {"step": np.array(self.step), "is_near": np.array(self.is_near)}

    def left(self, radius: Floats, close: Floats | float) -> Integers:
        """Return the points whose gradients are longer, which may go on, and are not above their ceiling."""
        norms = norm(self.gradients)
        moving = np.isfinite(norms) & (norms > close) & (radius > 1e-6 * self.first_radius)
        return np.flatnonzero(moving & (self.values <= self.ceiling))

    def turn(self, rows: Integers, products: int) -> None:
        """Turn the directions of some points towards the lowest curvature."""
        self.modes[rows], self.curvatures[rows] = _softest(
            self.landscape, self.points[rows], self.modes[rows], products
        )

    def ups(self, rows: Integers, radius: Floats) -> tuple[Floats, Floats]:
        """Return slopes along the directions, and uphill steps along them: Newton's, or in an upward curve as long."""
        slopes = dot(self.gradients[rows], self.modes[rows])
        steps = slopes / np.maximum(np.abs(self.curvatures[rows]), 1e-300)
        return slopes, np.clip(steps, -0.5 * radius, 0.5 * radius)

    def approach(self, steps: int) -> None:
        """Go downhill across the directions by L-BFGS without line search, and uphill along them."""
        history = self.history
        while self.step < steps and not self.is_near:
            going = self.left(self.radius, self.close)
            if len(going) == 0:
                break
            self._halfway.offer(self._state)
            if self.step % _TURNS == 0:
                self.turn(going, _AT_FIRST if self.step == 0 else _AFTER)
            self.step += 1
            modes, (slopes, ups) = self.modes[going], self.ups(going, self.radius[going])
            downhill = self.gradients[going]
            remove(downhill, modes)
            moves = history.times(going, downhill)
            remove(moves, modes)
            sizes = np.maximum(norm(moves), 1e-300)
            first = np.where(history.is_empty(going), 0.1 * self.radius[going] / sizes, 1.0)
            moves *= -np.minimum(first, self.radius[going] / sizes)[:, None]
            ahead = self.points[going] + moves + ups[:, None] * modes
            values, gradients = self.landscape.gradients(ahead, progress=False)
            # What the loss should gain by the way up; the way down must not lose it again.
            gain = slopes * ups + 0.5 * self.curvatures[going] * ups**2
            promised = -dot(moves, downhill)
            fine = values - self.values[going] <= np.maximum(gain, 0.0) + 0.1 * promised + self.noise[going]
            fine &= np.isfinite(values) & are_finite(gradients)
            there = going[fine]
            changes = gradients[fine] - self.gradients[there]
            remove(changes, modes[fine])
            history.add(there, moves[fine], changes)
            self.points[there], self.values[there], self.gradients[there] = ahead[fine], values[fine], gradients[fine]
            self.radius[there] = np.minimum(1.2 * self.radius[there], self.first_radius[there])
            taken = np.linalg.norm(moves[~fine], axis=1)
            self.radius[going[~fine]] = np.maximum(taken, np.abs(ups[~fine])) / 4
            history.forget(going[~fine])

    def close_in(self, products: int) -> None:
        """Go on by Newton steps, which are exact to the gradient's tolerance in the end."""
        if not self.is_near:
            self.step, self.is_near = 0, True
            self.radius = self.first_radius.copy()
        radius = self.radius
        while self.step < _NEWTON_STEPS:
            going = self.left(radius, self.tolerance)
            if len(going) == 0:
                break
            self._halfway.offer(self._state)
            self.step += 1
            self.turn(going, _AFTER)
            moves = self._newton(going, radius[going], products)
            ahead = self.points[going] + moves
            values, gradients = self.landscape.gradients(ahead, progress=False)
            # Climbing from afar makes the gradient grow before it falls.
            better = np.linalg.norm(gradients, axis=1) < 1.5 * np.linalg.norm(self.gradients[going], axis=1)
            there = going[better]
            self.points[there], self.values[there], self.gradients[there] = (
                ahead[better],
                values[better],
                gradients[better],
            )
            radius[there] *= 1.2
            radius[going[~better]] = np.linalg.norm(moves[~better], axis=1) / 4

    def _newton(self, rows: Integers, radius: Floats, products: int) -> Floats:
        """Return steps up along the directions and down across them, no longer than the radius."""
        at, modes, gradients = self.points[rows], self.modes[rows], self.gradients[rows]

        def across(which: Integers, directions: Floats) -> Floats:
            image = self.landscape.hessian_products(at[which], directions, progress=False).copy()
            remove(image, modes[which])
            return image

        slopes, ups = self.ups(rows, radius)
        downhill = gradients - slopes[:, None] * modes
        precision = np.maximum(_SOLVED * np.linalg.norm(gradients, axis=1), 0.3 * self.tolerance)
        moves, _ = steihaug(across, downhill, radius, precision, np.full(len(at), products))
        moves += ups[:, None] * modes
        return moves * np.minimum(1.0, radius / np.maximum(np.linalg.norm(moves, axis=1), 1e-300))[:, None]


def _examined(landscape: Landscape, reached: _Reached, tolerance: float, seed: Any) -> Saddles:
    """Return what the points are, with the lowest curvatures of those that are stationary."""
    at, values, gradients, modes = reached
    m, p = at.shape
    norms = np.linalg.norm(gradients, axis=1)
    still = np.flatnonzero(norms <= tolerance)
    curvature, residual, directions = np.full((m, 2), np.nan), np.full((m, 2), np.nan), modes.copy()
    settings = {"seed": seed, "tolerance": 1e-5, "max_products": 600}

    def one_negative() -> NDArray[np.bool_]:
        with np.errstate(invalid="ignore"):
            return (curvature[:, 0] < -residual[:, 0]) & (curvature[:, 1] > residual[:, 1])

    if len(still):
        curvature[still, 1], residual[still] = math.inf, 0.0
        # One direction downward and none across it: exactly one eigenvalue is negative, whatever the direction.
        directions[still] = _softest(landscape, at[still], modes[still], _AT_FIRST)[0]
        products = landscape.hessian_products(at[still], directions[still], progress=False)
        curvature[still, 0] = dot(directions[still], products)
        residual[still, 0] = np.linalg.norm(products - curvature[still, :1] * directions[still], axis=1)
        if p > 1:
            across = lowest_curvatures(landscape, at[still], across=directions[still], share=_SIGN, **settings)
            curvature[still, 1], residual[still, 1] = across.values[:, 0], across.residuals[:, 0]
        doubtful = still[~one_negative()[still]]
        if len(doubtful) and p > 1:
            lowest = lowest_curvatures(landscape, at[doubtful], 2, **settings)
            curvature[doubtful], residual[doubtful] = lowest.values, lowest.residuals
            directions[doubtful] = lowest.vectors[:, 0]
    return Saddles(at, values, norms, curvature, residual, directions, one_negative())


def _softest(landscape: Landscape, at: Floats, vectors: Floats, products: int) -> tuple[Floats, Floats]:
    """Turn unit vectors towards the lowest curvature at their points; return them and their Rayleigh quotients.

    Each turn takes the lowest Ritz vector of the vector, its residual and the last turn.
    """
    vectors, images = vectors.copy(), landscape.hessian_products(at, vectors, progress=False).copy()
    turns, turned = np.zeros_like(vectors), np.zeros_like(vectors)  # and the Hessian times them
    for _ in range(products - 1):
        rest = images.copy()
        quotient, size = remove(rest, vectors), norm(rest)
        still = size <= 1e-6 * np.maximum(np.abs(quotient), 1e-300)
        if still.all():
            break
        rest /= np.maximum(size, np.finfo(float).tiny)[:, None]
        curved = landscape.hessian_products(at, rest, progress=False)
        small = _in_basis(vectors, images, rest, curved, turns, turned)
        small[still] = np.diag([0.0, 1.0, 1.0])  # rounding gives no direction to turn to
        parts = np.linalg.eigh(small)[1][:, :, 0]
        _turn(parts * np.where(parts[:, :1] < 0, -1.0, 1.0), vectors, images, rest, curved, turns, turned)
    return unit(vectors), dot(vectors, images)


@njit(cache=True, nogil=True)
def _in_basis(vectors, images, rests, curved, turns, turned):  # type: ignore[no-untyped-def]
    """Make the last turns orthogonal to vectors and residuals; return the Hessians (m, 3, 3) in the basis of the three.

    Where nothing is left of a turn it is not used: it must not have the lowest quotient.
    """
    small = np.empty((len(vectors), 3, 3))
    for row in range(len(vectors)):
        turn, image = turns[row], turned[row]
        along = inner_product(turn, vectors[row])
        add_multiple(turn, -along, vectors[row])
        add_multiple(image, -along, images[row])
        along = inner_product(turn, rests[row])
        add_multiple(turn, -along, rests[row])
        add_multiple(image, -along, curved[row])
        length = length_of(turn)
        used = length > 1e-8
        for i in range(len(turn)):
            turn[i] = turn[i] / length if used else 0.0
            image[i] = image[i] / length if used else 0.0
        basis, products = (vectors[row], rests[row], turn), (images[row], curved[row], image)
        for one in range(3):
            for other in range(3):
                product = inner_product(basis[one], products[other]) + inner_product(basis[other], products[one])
                small[row, one, other] = product / 2
        if not used:
            small[row, 2, 2] = np.abs(small[row]).max() + 1
    return small


@njit(cache=True, nogil=True)
def _turn(parts, vectors, images, rests, curved, turns, turned):  # type: ignore[no-untyped-def]
    """Replace vectors by what has these parts (m, 3) in the basis of `_in_basis`, and turns by the way there."""
    for row in range(len(vectors)):
        old, across, last = parts[row]
        vector, image, turn, change = vectors[row], images[row], turns[row], turned[row]
        for i in range(len(vector)):
            turn[i] = across * rests[row, i] + last * turn[i]
            change[i] = across * curved[row, i] + last * change[i]
            vector[i] = old * vector[i] + turn[i]
            image[i] = old * image[i] + change[i]
