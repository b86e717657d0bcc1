"""Cells of a box that can be decided: whether the gradient vanishes in them, and only once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from topolandscape.landscape.box import Box, Mask
from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats, grid_points

# Cells along each side of the box at first, by dimension, from five dimensions on the last; of an interpolant, which
# costs time alone, more.
_CELLS, _FINER = (64, 16, 8, 4, 3), 2
# Times a cell may be halved.
_HALVINGS = 12
# Measured differences of Hessians are raised by this factor, since the largest lie between the places measured.
SAFETY = 2.0
# Longest step that is thought of, in units of the box.
FAR = 1e9


class Cells:
    """Cells of a box, cut until each is empty or holds one zero of the gradient at most, in units of the box.

    Parameters
    ----------
    landscape, box
        What is searched, and where.
    lipschitz
        A bound of the Lipschitz constant of the Hessian; None: it is measured.
    allowed
        Gradients that may be taken, a product with the Hessian counting as two.
    errors
        Of an interpolant: by how much its gradient may be wrong at places, (n, d) -> (n, d).
    """

    def __init__(
        self,
        landscape: Landscape,
        box: Box,
        lipschitz: float | None,
        allowed: int,
        *,
        errors: Callable[[Floats], Floats] | None = None,
    ) -> None:
        self.landscape, self.box, self.given, self.allowed = landscape, box, lipschitz, allowed
        self.bound = None if lipschitz is None else lipschitz * box.sides.max() ** 3
        self.is_exact = errors is None
        self.errors = np.zeros_like if errors is None else errors
        self.spent = 0
        d = landscape.dimension
        self.unit = Box(np.zeros(d), np.ones(d), box.periodic)
        self.width = 0.5 / _CELLS[min(d, len(_CELLS)) - 1] / (1 if errors is None else _FINER)

    def gradients(self, units: Floats) -> tuple[Floats, Floats]:
        """Return losses and gradients."""
        self.spent += len(units)
        values, gradients = self.landscape.gradients(self.box.low + units * self.box.sides, progress=False)
        return values, gradients * self.box.sides

    def hessians(self, units: Floats) -> Floats:
        """Return Hessians."""
        self.spent += 2 * units.size
        sides = self.box.sides
        return hessians(self.landscape, self.box.low + units * sides) * sides[:, None] * sides

    def cells(self, within: Floats | None = None) -> tuple[Floats, Floats]:
        """Return the centres of cells with one zero at most, and the other cells that are left, with their widths.

        They are cut from the box; or from some cells, whose halvings begin anew.
        """
        d = self.landscape.dimension
        done, left = [np.empty((0, d))], [np.empty((0, d + 1))]
        if within is None:
            side = np.arange(round(0.5 / self.width), dtype=np.float64) * 2 * self.width + self.width
            centres = grid_points([side] * d)
            gradients, matrices = self._measured(centres)
            self._cut(centres, gradients, matrices, self._neighbouring(matrices, len(side)), self.width, done, left)
        else:
            for width in np.unique(within[:, -1]).tolist():
                centres = within[within[:, -1] == width, :-1]
                _, matrices = self._measured(centres)
                self._cut(*self._halved(centres, matrices, np.zeros(len(centres)), width), done, left)
        return np.concatenate(done), np.concatenate(left)

    def _cut(
        self,
        centres: Floats,
        gradients: Floats,
        matrices: Floats,
        bounds: Floats,
        width: float,
        done: list[Floats],
        left: list[Floats],
    ) -> None:
        """Cut cells until they are empty, `done` or `left`."""
        d = self.landscape.dimension
        for halving in range(_HALVINGS + 1):
            decided, open_, vain = _decided(gradients, matrices, bounds, width, self.errors(centres))
            done.append(centres[decided])
            last = halving == _HALVINGS or self.spent + int(open_.sum()) * 2**d * (2 * d + 1) > self.allowed
            rest = centres[open_ | vain if last else vain]
            left.append(np.column_stack([rest, np.full(len(rest), width)]))
            if last or not open_.any():
                break
            centres, gradients, matrices, bounds, width = self._halved(
                centres[open_], matrices[open_], bounds[open_], width
            )

    def _halved(
        self, centres: Floats, matrices: Floats, bounds: Floats, width: float
    ) -> tuple[Floats, Floats, Floats, Floats, float]:
        """Return the halves of cells along each side: centres, gradients, Hessians, bounds, and their width."""
        d, width = self.landscape.dimension, width / 2
        corners = grid_points([np.array([-width, width])] * d)
        children = (centres[:, None] + corners).reshape(-1, d)
        gradients, below = self._measured(children)
        changing = self._changing(matrices, bounds, below.reshape(-1, 2**d, d, d), width)
        return children, gradients, below, np.repeat(changing, 2**d), width

    def _measured(self, centres: Floats) -> tuple[Floats, Floats]:
        values, gradients = self.gradients(centres)
        matrices = self.hessians(centres)
        fine = np.isfinite(values) & np.isfinite(gradients).all(axis=1) & np.isfinite(matrices).all(axis=(1, 2))
        self.box.check_finite(centres, fine, "the loss or its derivatives are")
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
            return SAFETY * np.sqrt(d) * measured
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
            return np.maximum(SAFETY * measured, 0.5 * bounds)
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


def _decided(
    gradients: Floats, matrices: Floats, bounds: Floats, width: float, errors: Floats
) -> tuple[Mask, Mask, Mask]:
    """Return which cells hold one zero of the gradient at most, near their centre; which need to be cut; which in vain.

    `errors` is by how much the gradients may be wrong: where they are no larger in the whole cell, it tells nothing.
    """
    radius = width * np.sqrt(gradients.shape[1])
    remainder = 0.5 * bounds * radius**2
    within = np.abs(matrices).sum(axis=2) * width + remainder[:, None]
    empty = (np.abs(gradients) > within + errors).any(axis=1)
    vain = (np.abs(gradients) + within <= 2 * errors).all(axis=1)
    remainder += np.linalg.norm(errors, axis=1)
    eigenvalues, vectors = np.linalg.eigh(matrices)
    least = np.abs(eigenvalues).min(axis=1)
    inverse = 1 / np.maximum(least, 1e-300)
    along = np.einsum("mji,mj->mi", vectors, gradients) / np.where(eigenvalues == 0, 1e-300, eigenvalues)
    steps = np.einsum("mij,mj->mi", vectors, np.clip(along, -FAR, FAR))
    length = np.linalg.norm(steps, axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        room = inverse * remainder
        empty |= (least > 0) & ((np.abs(steps) > width + room[:, None]).any(axis=1) | (length > radius + room))
        test = inverse * bounds * length
        unique = (1 + np.sqrt(np.maximum(1 - 2 * test, 0.0))) / np.maximum(inverse * bounds, 1e-300)
        done = ~empty & (least > 0) & (test <= 0.5) & (unique >= radius)
    return done, ~empty & ~done & ~vain, ~empty & ~done & vain
