"""A smooth function of one or two coordinates as Chebyshev polynomials on pieces of a box, known from losses alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.polynomial import chebyshev
from scipy.fft import dct
from torch import Tensor

from topolandscape.landscape.batching import Engine
from topolandscape.landscape.box import Box
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.noise import rounding
from topolandscape.landscape.parts import Parts
from topolandscape.structures import Floats, Integers, grid_points

# Degrees along each coordinate at which the whole box begins, and a part of it; the highest that is tried.
_FIRST, _PART, _HIGHEST = 16, 8, 64
# Last coefficients, in parts of the span of the losses of a piece, below which it is known, and known well; of the
# largest loss, in units of its rounding, below which nothing is.
_KNOWN, _WELL, _ROUNDING = 1e-6, 1e-10, 100.0
# What losses elsewhere may differ by, in units of that.
_SLACK = 10.0
# Of the span: while the last coefficients are larger, they tell nothing about how fast they fall.
_LOUD = 0.01
# How far beside a place gradients are compared, how many times as much as they may be wrong they may differ, and of the
# span of the losses below what nothing is seen.
_BESIDE, _TWICE, _UNSEEN = 1e-9, 2.0, 1e-5
# Times a side of the box may be halved.
_DEEPEST = 6
# Points that are evaluated in one go.
_ROWS = 4096


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part of the box, in units of it: corner, widths, halvings, and Chebyshev coefficients.

    `values` are losses at Chebyshev points, `coefficients` those of the polynomial, of its slopes and of its second
    derivatives, (1 + d + d^2, n_1, ...), `error` by how much losses may be wrong, and `share` in parts of their span
    by how much they were allowed to be.
    """

    low: Floats
    width: Floats
    halvings: Integers
    values: Floats
    coefficients: Floats
    error: float
    share: float


class Interpolant:
    """A landscape of one or two coordinates on a box, as pieces of polynomials; a form of evaluation of its own.

    Parameters
    ----------
    landscape
        Smooth on the box, but for some lines or points.
    box
        Where.
    places
        In units of the box: where losses are compared, (n, d).
    allowed
        Losses that may be asked for.
    pieces
        Of the same landscape, known already; None: they are made.

    Raises
    ------
    ValueError
        A loss is not finite.

    Notes
    -----
    The box is a piece at first. Losses are taken at Chebyshev points (of the second kind, so that those of half the
    degree are among them), and the degree is doubled along the coordinates whose last coefficients are not small beside
    the span of the losses, or all where losses elsewhere differ (Trefethen 2013, "Approximation theory and
    approximation practice"). Where the coefficients fall too slowly for that, the piece is halved along these
    coordinates. What is no smaller in the end has a large `error`.
    """

    name = "pieces"

    def __init__(
        self, landscape: Landscape, box: Box, places: Floats, allowed: int, pieces: list[_Piece] | None = None
    ) -> None:
        self.of, self.box, self.allowed = landscape, box, allowed
        self.spent = self._kept = 0  # losses taken, and those kept for parts that are still to come
        d = landscape.dimension
        self.rounding = _ROUNDING * rounding(landscape.description)
        self.places, self.losses = places, self._losses(places) if len(places) else np.empty(0)
        self.pieces: list[_Piece] = [] if pieces is None else pieces
        if pieces is None:
            self._add(np.zeros(d), np.ones(d), np.zeros(d, dtype=np.int64), _KNOWN)
        self._table = self._tabulated()
        description = {**landscape.description, "kind": "interpolant", "dtype": "float64", "device": "cpu"}
        self.landscape = Landscape(Parts(Engine([self], lambda: [(1.0, None)]), d, description))

    def errors(self, units: Floats) -> Floats:
        """Return by how much the gradient may be wrong along each coordinate, in units of the box, (m, d)."""
        bounds = [
            piece.error * 2 * np.square(np.array(piece.coefficients.shape[1:], dtype=float)) / piece.width
            for piece in self.pieces
        ]
        return np.array(bounds)[self._which(units)]

    def on_side(self, axis: int, end: int, landscape: Landscape, box: Box, allowed: int) -> Interpolant:
        """Return the same pieces on a side of the box, low (`end` 0) or high (1) along an axis: no loss is taken.

        `landscape` and `box` are those of the side. Its Chebyshev points are among those of the pieces.
        """
        pieces: list[_Piece] = []
        for piece in self.pieces:
            if (piece.low[axis] + piece.width[axis] if end else piece.low[axis]) != end:
                continue
            low, width = np.delete(piece.low, axis), np.delete(piece.width, axis)
            halvings: Integers = np.delete(piece.halvings, axis)
            values = np.take(piece.values, 0 if end else -1, axis=axis)
            coefficients = _derived(_coefficients(values), width, 0.01 * piece.error)
            pieces.append(_Piece(low, width, halvings, values, coefficients, piece.error, piece.share))
        return Interpolant(landscape, box, np.empty((0, len(box.low))), allowed, pieces)

    def kinks(self) -> Floats:
        """Return places where pieces meet and their gradients differ by more than errors, in units of the box.

        Corners and middles of sides are looked at. There a minimum may hide that is none of any piece.
        """
        d = len(self.box.low)
        shares = grid_points([np.array([0.0, 0.5, 1.0])] * d)
        places = np.unique(np.concatenate([piece.low + shares * piece.width for piece in self.pieces]), axis=0)
        places = places[((places > 0) & (places < 1)).all(axis=1)]
        if len(places) == 0:
            return places
        around = places[:, None] + _BESIDE * np.array(list(product((-1.0, 1.0), repeat=d)))
        points = self.box.low + around.reshape(-1, d) * self.box.sides
        slopes = (self._jets(points)[1] * self.box.sides).reshape(around.shape)
        wrong = self.errors(around.reshape(-1, d)).reshape(around.shape).max(axis=1)
        least = _UNSEEN * max(float(np.ptp(piece.values)) for piece in self.pieces)
        return places[(np.ptp(slopes, axis=1) > _TWICE * wrong + least).any(axis=1)]

    # ------------------------------------------------------------------------------------------ making

    def _losses(self, units: Floats) -> Floats:
        self.spent += len(units)
        losses = self.of.values(self.box.low + units * self.box.sides, progress=False)
        self.box.check_finite(units, np.isfinite(losses), "the loss is")
        return losses

    def improve(self, units: Floats) -> bool:
        """Make the pieces that hold some points better known; return whether there were any to improve."""
        worse = [row for row in np.unique(self._which(units)).tolist() if self.pieces[row].share > _WELL]
        taken = [self.pieces.pop(row) for row in reversed(worse)]
        for piece in taken:
            self._add(piece.low, piece.width, piece.halvings, _WELL, piece.values)
        self._table = self._tabulated()
        return bool(taken)

    def _add(self, low: Floats, width: Floats, halvings: Integers, share: float, values: Floats | None = None) -> None:
        """Add a piece, of which some losses may be known, or its parts."""
        within = ((self.places >= low) & (self.places <= low + width)).all(axis=1)
        at, exact = 2 * (self.places[within] - low) / width - 1, self.losses[within]
        if values is None:
            self._kept -= (_PART + 1) ** len(low) if halvings.any() else 0
            values = self._grown(None, low, width, np.full(len(low), _PART if halvings.any() else _FIRST))
        before = None
        while True:
            degrees = np.array(values.shape) - 1
            table = _coefficients(values)
            tails = np.array([np.abs(np.take(table, [-2, -1], axis=axis)).max() for axis in range(len(low))])
            span, rounding = float(np.ptp(values)), self.rounding * float(np.abs(values).max())
            enough = max(share * span, rounding, 1e-300)
            wrong = float(np.abs(_evaluated(table[None], at)[:, 0] - exact).max(initial=0.0))
            open_ = tails > enough
            if not open_.any():
                open_ = np.full(len(low), wrong > _SLACK * enough)
            grown = np.where(open_, 2 * degrees, degrees)
            size = int(np.prod(grown + 1) - np.prod(degrees + 1))
            falling = before is None or _falls(before[open_], tails[open_], enough, _LOUD * span)
            if (
                not open_.any()
                or not falling
                or grown.max() > _HIGHEST
                or self.spent + self._kept + size > self.allowed
            ):
                break
            values, before = self._grown(values, low, width, grown), tails
        deeper = open_ & (halvings < _DEEPEST)
        parts = 2 ** int(deeper.sum()) * (_PART + 1) ** len(low)
        if deeper.any() and self.spent + self._kept + parts <= self.allowed:
            self._kept += parts
            part = np.where(deeper, width / 2, width)
            for corner in product(*[(0, 1) if cut else (0,) for cut in deeper]):
                self._add(low + part * np.array(corner), part, halvings + deeper, share)
            return
        error = max(float(tails.max()), wrong, rounding)
        coefficients = _derived(table, width, 0.01 * error)
        # What cannot be cut is as well known as it will be.
        self.pieces.append(_Piece(low, width, halvings, values, coefficients, error, 0.0 if open_.any() else share))

    def _grown(self, values: Floats | None, low: Floats, width: Floats, degrees: Integers) -> Floats:
        """Return losses at the Chebyshev points of these degrees, of which those of half of them may be known."""
        shape = tuple(degrees + 1)
        grown, known = np.empty(shape), np.zeros(shape, dtype=bool)
        if values is not None:
            old = tuple(slice(None, None, (n - 1) // (m - 1)) for n, m in zip(shape, values.shape, strict=True))
            grown[old], known[old] = values, True
        axes = [(1 + np.cos(np.pi * np.arange(n) / (n - 1))) / 2 for n in shape]
        grown[~known] = self._losses(low + grid_points(axes)[~known.reshape(-1)] * width)
        return grown

    # ------------------------------------------------------------------------------------------ evaluation

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, d)."""
        return torch.from_numpy(self._jets(vectors.numpy())[0])

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, d) at `vectors` (c, d)."""
        values, slopes, _ = self._jets(vectors.numpy())
        return torch.from_numpy(values), torch.from_numpy(slopes)

    def products(self, vectors: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at each of `vectors` (c, d) times the same row of `directions` (c, d)."""
        return torch.from_numpy(np.einsum("mij,mj->mi", self._jets(vectors.numpy())[2], directions.numpy()))

    def accuracies(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Raise: a function classifies nothing."""
        raise NotImplementedError

    def _tabulated(self) -> Integers:
        """Return the piece of each cell of a grid, as fine as the smallest of them."""
        shape = tuple(2 ** np.max([piece.halvings for piece in self.pieces], axis=0))
        table = np.zeros(shape, dtype=np.int64)
        for row, piece in enumerate(self.pieces):
            ends = [np.rint(side * shape).astype(int) for side in (piece.low, piece.low + piece.width)]
            table[tuple(slice(a, b) for a, b in zip(*ends, strict=True))] = row
        return table

    def _which(self, units: Floats) -> Integers:
        """Return the pieces in which points lie."""
        shape = self._table.shape
        places = np.clip((units * shape).astype(np.int64), 0, np.array(shape) - 1)
        return self._table[tuple(places.T)]

    def _jets(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Return values, gradients and Hessians; outside of the box by those on its boundary."""
        m, d = points.shape
        units = self.box.units(points)
        inside = np.clip(np.where(np.isfinite(units), units, 0.0), 0.0, 1.0)
        which = self._which(inside)
        jets = np.empty((m, 1 + d + d * d))
        for number in np.unique(which):
            piece, rows = self.pieces[number], np.flatnonzero(which == number)
            for start in range(0, len(rows), _ROWS):
                some = rows[start : start + _ROWS]
                jets[some] = _evaluated(piece.coefficients, 2 * (inside[some] - piece.low) / piece.width - 1)
        values, slopes, second = jets[:, 0], jets[:, 1 : 1 + d], jets[:, 1 + d :].reshape(m, d, d)
        beyond = units - inside
        turned = np.einsum("mij,mj->mi", second, beyond)
        values = values + np.einsum("mi,mi->m", beyond, slopes + turned / 2)
        sides = self.box.sides
        return values, (slopes + turned) / sides, second / sides[:, None] / sides


def _coefficients(values: Floats) -> Floats:
    """Return Chebyshev coefficients from values at the points cos(pi k / n), along all axes."""
    for axis in range(values.ndim):
        n = values.shape[axis] - 1
        values = np.moveaxis(dct(values, type=1, axis=axis) / n, axis, 0)
        values[[0, -1]] /= 2
        values = np.moveaxis(values, 0, axis)
    return values


def _derived(table: Floats, width: Floats, least: float) -> Floats:
    """Return the coefficients of a `_Piece`, without those at the end that are small."""
    d = table.ndim
    heard = np.nonzero(np.abs(table) > least)
    table = table[tuple(slice(0, int(rows.max(initial=0)) + 1) for rows in heard)]

    def slope(of: Floats, axis: int) -> Floats:
        if of.shape[axis] == 1:
            return np.zeros_like(of)
        ahead = [(0, int(other == axis)) for other in range(d)]
        return np.pad(chebyshev.chebder(of, scl=2 / width[axis], axis=axis), ahead)

    first = [slope(table, axis) for axis in range(d)]
    return np.array([table, *first, *(slope(of, axis) for of in first for axis in range(d))])


def _evaluated(coefficients: Floats, at: Floats) -> Floats:
    """Return polynomials (a, n_1, ...) at points (m, d) of the cube from -1 to 1, as (m, a)."""
    angles = np.arccos(np.clip(at, -1.0, 1.0))
    tables = [np.cos(angles[:, axis, None] * np.arange(n)) for axis, n in enumerate(coefficients.shape[1:])]
    result = np.tensordot(tables[0], coefficients, (1, 1))
    for table in tables[1:]:
        result = np.einsum("mak,mk->ma", result, table)
    return result


def _falls(before: Floats, tails: Floats, enough: float, loud: float) -> bool:
    """Return whether coefficients, if they go on falling geometrically, are small after the next doubling."""
    ahead = tails * (tails / np.maximum(before, 1e-300)) ** 2
    return bool(((ahead <= enough) | (tails > loud)).all())
