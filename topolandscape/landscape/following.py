"""Following points to where the gradient vanishes, downhill or uphill along one mode, by Newton steps in a box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.fits import LocalFits
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats, Integers

Mask = NDArray[np.bool_]

# All lengths here are in units of the distance between samples. Longest step, and below which it counts as none.
LONGEST, _NOWHERE = 1.0, 1e-9
# Longest step that is thought of.
_FAR = 1e9
# Points that are nearer than this are one.
SAME = 1e-3
# How far from a stationary point, which leads nowhere, a way begins.
ASIDE = 0.25
# Newton's step within this distance of a minimum that is known leads to it.
_MET = 0.1
# Steps of a point downhill, and uphill.
_STEPS, _UPHILL = 200, 50
# Steps after which the Hessian is taken anew, and on the fitted samples, which cost nothing.
_RENEWED, _FITTED = 4, 10
# Of the largest eigenvalue: what is smaller may be much smaller when it is measured again.
_MAYBE = 0.1
# By how much the fitted samples may be wrong where a point is evaluated first, in parts of the largest eigenvalue.
_WRONG = 0.1
# Of the largest eigenvalue: what is smaller is none.
FLAT = 1e-6


@dataclass(eq=False)
class Followed:
    """Where points came to, in units of the distance between samples.

    Attributes
    ----------
    units, values, gradients
        Shape (m, d), (m,) and (m, d).
    eigenvalues, vectors
        Of the Hessian along the directions that are free, the lowest first, (m, d) and (m, d, d), one a row; those that
        are held by the boundary come last, and are infinite.
    still
        Whether Newton's step is below the tolerance, (m,). Eigenvalues of such points that are small beside the largest
        are those of a Hessian that was taken there.
    """

    units: Floats
    values: Floats
    gradients: Floats
    eigenvalues: Floats
    vectors: Floats
    still: Mask

    def rows(self, rows: Any) -> Followed:
        """Return some of the points."""
        return Followed(*(getattr(self, field.name)[rows] for field in fields(self)))

    def with_others(self, others: Followed) -> Followed:
        """Return these points and others after them."""
        return Followed(
            *(np.concatenate([getattr(self, field.name), getattr(others, field.name)]) for field in fields(self))
        )


class Follower:
    """What follows points of a landscape, in units of the distance between samples.

    Parameters
    ----------
    landscape
        Twice differentiable.
    unit
        Distance between samples along each coordinate, (d,).
    low, high
        Corners of the region in these units, (d,).
    bounded
        Whether points are held back at the boundary of the region; else they are followed until they leave it.
    noise, scale
        By how much losses differ by rounding, and how far off they may be in the end.
    fits
        The samples as a function: where they say enough, points are followed on them first, for one longest step, and
        have their Hessian from them.
    """

    def __init__(
        self,
        landscape: Landscape,
        unit: Floats,
        low: Floats,
        high: Floats,
        *,
        bounded: bool,
        noise: float,
        scale: float,
        fits: LocalFits | None = None,
    ) -> None:
        self.landscape, self.unit, self.low, self.high, self.bounded = landscape, unit, low, high, bounded
        self.noise, self.scale, self.fits = noise, scale, fits
        self.spent = 0

    def evaluated(self, units: Floats) -> tuple[Floats, Floats]:
        """Return losses and gradients."""
        self.spent += len(units)
        values, gradients = self.landscape.gradients(units * self.unit, progress=False)
        return values, gradients * self.unit

    def hessians(self, units: Floats) -> Floats:
        """Return Hessians, with zeros for what is not finite."""
        if len(units) == 0:
            return np.empty((0, units.shape[1], units.shape[1]))
        self.spent += 2 * units.size
        matrices = hessians(self.landscape, units * self.unit) * self.unit[:, None] * self.unit
        return np.where(np.isfinite(matrices), matrices, 0.0)

    def follow(
        self,
        units: Floats,
        *,
        uphill: bool = False,
        modes: Floats | None = None,
        across: Floats | None = None,
        longest: float = LONGEST,
        known: Floats | None = None,
        given_up: Callable[[Integers, Floats], Mask] | None = None,
    ) -> Followed:
        """Follow points to where the gradient vanishes: downhill, or uphill along one mode and downhill across it.

        Parameters
        ----------
        units
            Where to begin, (m, d).
        uphill
            Whether to go uphill along one mode.
        modes
            Which, (m, d); None: the lowest, or where no mode leads down the one most along `across`.
        across
            Directions, (m, d).
        longest
            Longest step.
        known
            Minima: a descent ends where Newton's step leads to one of them.
        given_up
            Called with rows and places of points that have made a longest step; which of them end there.

        Returns
        -------
        Followed
            Where they came to.

        Notes
        -----
        The Hessian is taken at the start, after every few steps and where a step fails; in between it is updated by the
        changes of the gradient (Bofill 1994).
        """
        m, d = units.shape
        at, values, gradients, matrices, fitted = self._begun(units, uphill, modes, across)
        age = fitted.astype(np.int64)
        eigenvalues, vectors = np.full((m, d), np.inf), np.tile(np.eye(d), (m, 1, 1))
        moves, slopes, allowed = np.zeros((m, d)), np.zeros(m), np.zeros(m)
        tree = None if known is None or len(known) == 0 else KDTree(known)
        radius, still = np.full(m, longest), np.zeros(m, dtype=bool)
        going = fresh = np.flatnonzero(np.isfinite(values) & np.isfinite(gradients).all(axis=1))
        renewed = going[~fitted[going]]
        chosen = np.zeros((m, d)) if modes is None else modes.copy()
        for step in range(_UPHILL if uphill else _STEPS):
            while True:
                matrices[renewed], age[renewed] = self.hessians(at[renewed]), 0
                if uphill and modes is None and step == 0:
                    aims = None if across is None else across[fresh]
                    chosen[fresh] = self._first_modes(at[fresh], gradients[fresh], matrices[fresh], aims)
                made = self.moves(at[fresh], gradients[fresh], matrices[fresh], chosen[fresh] if uphill else None)
                eigenvalues[fresh], vectors[fresh], moves[fresh], slopes[fresh], allowed[fresh], chosen[fresh] = made
                lengths = np.linalg.norm(moves[going], axis=1)
                # The loss is off by half of the slope; the last step makes it much less.
                last = (slopes[going] <= self.scale) & (lengths <= SAME)
                # What is small in a Hessian that was not taken here may be something else.
                small = np.abs(eigenvalues).min(axis=1) < _MAYBE * largest_size(eigenvalues)
                fresh = renewed = going[last & (age[going] > 0) & small[going]]
                if len(renewed) == 0:
                    break
            if tree is not None:
                apart, nearest = tree.query(at[going] + moves[going])
                met = (apart <= _MET) & (lengths <= LONGEST)
                at[going[met]], still[going[met]] = tree.data[nearest[met]], True
                going, lengths, last = going[~met], lengths[~met], last[~met]
            here = at[going]
            shares = np.minimum(1.0, radius[going] / np.maximum(lengths, 1e-300))
            ahead = np.clip(here + shares[:, None] * moves[going], *self.limits())
            new_values, new_gradients = self.evaluated(ahead)
            fine = np.isfinite(new_values) & np.isfinite(new_gradients).all(axis=1)
            if uphill:
                before, after = self.free_norms(here, gradients[going]), self.free_norms(ahead, new_gradients)
                fine &= after < allowed[going] * before + np.where(last, np.inf, 0.0)
            else:
                fine &= new_values <= values[going] + np.where(last, self.noise + self.scale, 0.0)
            # The last step is too short to tell of the Hessian.
            told = fine & ~last
            there = going[told]
            matrices[there] = _updated(matrices[there], (ahead - here)[told], new_gradients[told] - gradients[there])
            there = going[fine]
            stays = np.abs(ahead - here).max(axis=1, initial=0.0) == 0
            at[there], values[there], gradients[there] = ahead[fine], new_values[fine], new_gradients[fine]
            radius[going] = np.where(
                fine, np.minimum(2 * radius[going], longest), np.minimum(lengths, radius[going]) / 4
            )
            still[going] |= last
            done = going[fine & last]
            eigenvalues[done], vectors[done], *_ = self.moves(at[done], gradients[done], matrices[done], None)
            over = last | stays | (radius[going] <= _NOWHERE) | self.outside(at[going])
            if given_up is not None:
                far = fine & (lengths >= longest)
                over[far] |= given_up(going[far], at[going[far]])
            age[there] += 1
            renewed = going[~over & np.where(fine, age[going] >= _RENEWED, age[going] > 0)]
            fresh = np.union1d(going[~over & fine], renewed)
            going = going[~over]
            if len(going) == 0:
                break
        return Followed(at, values, gradients, eigenvalues, vectors, still)

    def _begun(
        self, units: Floats, uphill: bool, modes: Floats | None, across: Floats | None
    ) -> tuple[Floats, Floats, Floats, Floats, Mask]:
        """Return where points come to on the fitted samples, losses, gradients and Hessians there, and which did.

        Where the fit turns out to be wrong they begin where they are, without a Hessian.
        """
        m, d = units.shape
        at, matrices = units.copy(), np.zeros((m, d, d))
        if self.fits is None:
            return at, *self.evaluated(at), matrices, np.zeros(m, dtype=bool)
        chosen = np.zeros((m, d)) if modes is None else modes.copy()
        fit = self.fits.around(at)
        going = np.flatnonzero(fit.known)
        for step in range(_FITTED):
            here, gradients, hessians = at[going], fit.gradients[going], fit.hessians[going]
            if uphill and modes is None and step == 0:
                aims = None if across is None else across[going]
                chosen[going] = self._first_modes(here, gradients, hessians, aims)
            made = self.moves(here, gradients, hessians, chosen[going] if uphill else None, least=FLAT)
            ahead = here + made[2]
            chosen[going] = made[5]
            apart = ahead - units[going]
            far = np.linalg.norm(apart, axis=1)
            ahead = units[going] + apart * np.minimum(1.0, LONGEST / np.maximum(far, 1e-300))[:, None]
            ahead = np.clip(ahead, *self.limits())
            there = self.fits.around(ahead)
            going, ahead, far = going[there.known], ahead[there.known], far[there.known]
            moved = np.linalg.norm(ahead - at[going], axis=1)
            at[going] = ahead
            for part, new in zip(fit, there, strict=True):
                part[going] = new[there.known]
            going = going[(far < LONGEST) & (moved > SAME)]
            if len(going) == 0:
                break
        values, gradients = self.evaluated(at)
        largest = np.abs(np.linalg.eigvalsh(fit.hessians)).max(axis=1, initial=0.0)
        wrong = np.maximum(np.abs(values - fit.values), np.linalg.norm(gradients - fit.gradients, axis=1))
        known = fit.known & (wrong <= _WRONG * largest)
        back = np.flatnonzero(fit.known & ~known)
        at[back] = units[back]
        values[back], gradients[back] = self.evaluated(at[back])
        matrices[known] = fit.hessians[known]
        return at, values, gradients, matrices, known

    def _first_modes(self, units: Floats, gradients: Floats, matrices: Floats, across: Floats | None) -> Floats:
        """Return the lowest modes; but where none leads down those most along given directions."""
        eigenvalues, vectors, *_ = self.moves(units, gradients, matrices, None)
        if across is None or len(units) == 0:
            return vectors[:, 0]
        own = np.abs(np.einsum("mij,mj->mi", vectors, across)).argmax(axis=1)
        return np.where(eigenvalues[:, :1] < 0, vectors[:, 0], vectors[np.arange(len(own)), own])

    def free_norms(self, units: Floats, gradients: Floats) -> Floats:
        """Return lengths of gradients along the coordinates that are not held."""
        return np.linalg.norm(np.where(self.held(units, gradients), 0.0, gradients), axis=1)

    def limits(self) -> tuple[Floats | float, Floats | float]:
        """Return the corners between which points are held."""
        return (self.low, self.high) if self.bounded else (-np.inf, np.inf)

    def held(self, units: Floats, gradients: Floats) -> Mask:
        """Return which coordinates the boundary holds, since the loss falls outward, and not for its rounding."""
        if not self.bounded:
            return np.zeros(units.shape, dtype=bool)
        return ((units <= self.low) & (gradients > self.scale)) | ((units >= self.high) & (gradients < -self.scale))

    def outside(self, units: Floats) -> Mask:
        """Return which points are outside the region."""
        return np.asarray(((units < self.low) | (units > self.high)).any(axis=1))

    def moves(
        self, units: Floats, gradients: Floats, matrices: Floats, modes: Floats | None, *, least: float = 1e-12
    ) -> tuple[Floats, ...]:
        """Return what the next steps are made of; eigenvalues below a share of the largest count as that.

        Eigenvalues, eigenvectors, Newton's steps downhill or uphill along modes, twice by how much losses may be off,
        how far gradients may grow on the way, and the modes turned.
        """
        m, d = units.shape
        if m == 0:
            return np.empty((0, d)), np.empty((0, d, d)), np.empty((0, d)), np.empty(0), np.empty(0), np.empty((0, d))
        held = self.held(units, gradients)
        matrices = np.where(held[:, :, None] | held[:, None, :], 0.0, matrices)
        above = 1 + 2 * np.abs(matrices).sum(axis=(1, 2))
        matrices += np.where(held, above[:, None], 0.0)[:, :, None] * np.eye(d)
        eigenvalues, columns = np.linalg.eigh(matrices)
        vectors = columns.transpose(0, 2, 1)
        eigenvalues = np.where(np.arange(d) >= d - held.sum(axis=1, keepdims=True), np.inf, eigenvalues)
        parts = np.einsum("mij,mj->mi", vectors, np.where(held, 0.0, gradients))
        largest = largest_size(eigenvalues)
        along = np.clip(-parts / np.maximum(np.abs(eigenvalues), least * largest[:, None] + 1e-300), -_FAR, _FAR)
        slopes, allowed, turned, first = np.abs(parts * along).sum(axis=1), np.zeros(m), np.zeros((m, d)), np.arange(m)
        if modes is None:
            # Where the gradient vanishes at a saddle, or nearly so, it leads nowhere.
            stuck = (eigenvalues[:, 0] < -FLAT * largest) & (np.abs(along[:, 0]) < ASIDE)
            along[stuck, 0] = np.where(along[stuck, 0] < 0, -ASIDE, ASIDE)
            slopes[stuck] = np.inf
        else:
            overlaps = np.einsum("mij,mj->mi", vectors, modes)
            own = np.abs(overlaps).argmax(axis=1)
            along[first, own] *= -1
            turned = vectors[first, own] * np.where(overlaps[first, own] < 0, -1.0, 1.0)[:, None]
            # Out of a basin the gradient grows at first.
            allowed = np.where(eigenvalues[first, own] < 0, 1.5, 4.0)
        return eigenvalues, vectors, np.einsum("mi,mij->mj", along, vectors), slopes, allowed, turned

    def on_edge(self, units: Floats) -> Mask:
        """Return which points lie on the boundary of the region."""
        return np.asarray(((units <= self.low) | (units >= self.high)).any(axis=1) & self.bounded)


def largest_size(eigenvalues: Floats) -> Floats:
    """Return the largest size of the eigenvalues that are finite, (m,)."""
    return np.where(np.isfinite(eigenvalues), np.abs(eigenvalues), 0.0).max(axis=1)


def _updated(matrices: Floats, steps: Floats, changes: Floats) -> Floats:
    """Return Hessians (m, d, d) that explain how gradients changed on steps (m, d): Bofill's mean of two updates."""
    rest = changes - np.einsum("mij,mj->mi", matrices, steps)
    along, square, size = (np.einsum("mi,mi->m", a, b) for a, b in ((rest, steps), (steps, steps), (rest, rest)))
    known = (square > 0) & (size > 0)
    square, size = np.where(known, square, 1.0), np.where(known, size, 1.0)
    share = np.where(known, along**2 / (square * size), 0.0)[:, None, None]
    # Of the first, rest rest^T / (rest . step), its share times: no division by what may vanish.
    first = (along / (square * size))[:, None, None] * rest[:, :, None] * rest[:, None, :]
    mixed = rest[:, :, None] * steps[:, None, :]
    second = (mixed + mixed.transpose(0, 2, 1)) / square[:, None, None]
    second -= (along / square**2)[:, None, None] * steps[:, :, None] * steps[:, None, :]
    return matrices + np.where(known[:, None, None], first + (1 - share) * second, 0.0)
