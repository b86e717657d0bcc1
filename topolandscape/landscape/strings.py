"""Paths on their way down: the steps of the string method and of nudged elastic bands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.quasi_newton import History
from topolandscape.landscape.vectors import add_multiple, are_finite, norm, remove
from topolandscape.landscape.workers import by_threads
from topolandscape.structures import Floats, Integers
from topolandscape.structures.journal import Arrays

Booleans = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

# Numbers that the memory of the quasi-Newton steps may hold: 512 MiB.
_REMEMBERED = 2**27


class Strings:
    """Paths on their way down, each with the memory of its own quasi-Newton steps."""

    def __init__(
        self, landscape: Landscape, paths: Floats, method: str, emphasis: float, memory: int, state: Arrays
    ) -> None:
        self.paths = paths.copy()
        b, k, p = paths.shape
        self._landscape = landscape
        self._method, self._emphasis = method, emphasis
        self.values = np.full((b, k), math.inf)
        memory = max(3, min(memory, _REMEMBERED // max(1, 2 * paths.size)))
        self._history = History(b, (k - 2) * p, memory, least=1e-6, dtype=np.float32)
        self._last = np.zeros((2, b, k - 2, p))  # points and forces of the step before
        self._begun = False
        length = np.linalg.norm(np.diff(paths, axis=1), axis=2).sum(1)
        self._radius = np.maximum(0.25 * length / (k - 1), 1e-12)
        if state:
            for place, array in enumerate(self._arrays):
                array[...] = state[f"strings {place}"]
            self._begun = bool(state["begun"])
        else:
            self.values[:, [0, -1]] = values_at_ends(landscape, paths)

    @property
    def _arrays(self) -> tuple[NDArray[Any], ...]:
        """All that changes from step to step."""
        return self.paths, self.values, self._last, self._radius, *self._history.arrays

    def state(self) -> Arrays:
        """Return what is needed to go on."""
        arrays = {f"strings {place}": array for place, array in enumerate(self._arrays)}
        return arrays | {"begun": np.array(self._begun)}

    def on(self, landscape: Landscape) -> None:
        """Go on on another landscape, of which nothing is remembered."""
        self._landscape = landscape
        self.values[:, [0, -1]] = values_at_ends(landscape, self.paths)
        self._history.forget(np.arange(len(self.paths)))
        self._begun = False

    def step(self, rows: Integers) -> None:
        """Move the inner points of some paths."""
        inner = self.paths[rows, 1:-1]
        values, force = self._landscape.gradients(inner.reshape(-1, inner.shape[2]), progress=False)
        values, force = values.reshape(inner.shape[:2]), force.reshape(inner.shape)
        by_threads(len(rows), lambda part: self._move(rows[part], values[part], force[part]), numbers=force.size)
        self._begun = True

    def _move(self, rows: Integers, values: Floats, force: Floats) -> None:
        """Move the inner points of some paths, given the losses and gradients there."""
        # Where the loss is not finite there is no slope; the neighbours pull such a point back.
        lost = ~(np.isfinite(values) & are_finite(force))
        force[lost] = 0.0
        self.values[rows, 1:-1] = np.where(lost, math.inf, values)
        tangents = np.empty_like(force)
        along = np.empty(values.shape)
        _make_normal(self.paths, rows, *_weights(self.values[rows]), force, tangents, along)
        if self._method == "band":
            before, after = (np.linalg.norm(d, axis=2) for d in _steps(self.paths[rows]))
            stiffness = np.abs(along).max(1, initial=0.0) / np.maximum(before.mean(1), 1e-300)
            force -= (np.maximum(stiffness, 1e-3)[:, None] * (after - before))[:, :, None] * tangents
        steps, changes = np.empty_like(force), np.empty_like(force)
        _differences(self.paths, rows, force, self._last, steps, changes)
        if self._begun:
            self._history.add(rows, steps.reshape(len(rows), -1), changes.reshape(len(rows), -1))
        move = self._history.times(rows, force.reshape(len(rows), -1)).reshape(force.shape)
        if self._method == "string":
            remove(*(array.reshape(-1, array.shape[-1]) for array in (move, tangents)))
        # A first step is as long as the largest force makes it.
        largest = np.maximum(norm(force).max(1), 1e-300)
        radius = self._radius[rows]
        size = np.where(self._history.is_empty(rows), 0.3 * radius / largest, 1.0)[:, None]
        shares = -np.minimum(size, radius[:, None] / np.maximum(norm(move), 1e-300))
        if lost.any():
            before, after = _steps(self.paths[rows])
            move[lost], shares[lost] = ((after - before) / 2)[lost], 1.0
        _add_shares(self.paths, rows, shares, move)
        if self._method == "string":
            paths = self.paths[rows]
            self.paths[rows] = spread(paths, self.values[rows], paths.shape[1], self._emphasis)

    def calm(self, rows: Integers, paths: Floats) -> None:
        """Put some paths back where they were lowest, to go on in smaller steps without memory."""
        self.paths[rows] = paths[rows]
        self._radius[rows] /= 2
        self._history.forget(rows)
        self._last[0][rows] = paths[rows, 1:-1]


def values_at_ends(landscape: Landscape, paths: Floats) -> Floats:
    """Return the losses at the ends of paths, (b, 2); raise where one is not finite."""
    b, _, p = paths.shape
    ends = landscape.values(paths[:, [0, -1]].reshape(-1, p), progress=False).reshape(b, 2)
    if not np.isfinite(ends).all():
        row, end = np.argwhere(~np.isfinite(ends))[0]
        raise ValueError(
            f"the loss at the {('first', 'last')[end]} point of path {row} is {ends[row, end]}; a path needs ends of "
            "finite loss. Leave it out."
        )
    return ends


def _steps(paths: Floats) -> tuple[Floats, Floats]:
    """Return the differences from the point before and to the point after, for all inner points."""
    differences = np.diff(paths, axis=1)
    return differences[:, :-1], differences[:, 1:]


def _weights(values: Floats) -> tuple[Floats, Floats]:
    """Return how much the step from the point before, and that to the point after, count in tangents at inner points.

    A tangent is the step towards the higher neighbour (Henkelman and Jonsson 2000).
    """
    low, here, high = values[:, :-2], values[:, 1:-1], values[:, 2:]
    with np.errstate(invalid="ignore"):
        up, down = np.abs(high - here), np.abs(low - here)
        most, least = np.fmax(up, down), np.fmin(up, down)
        climbing, falling = (high > here) & (here > low), (high < here) & (here < low)
        ahead = np.where(climbing, 1.0, np.where(falling, 0.0, np.where(high > low, most, least)))
        behind = np.where(climbing, 0.0, np.where(falling, 1.0, np.where(high > low, least, most)))
    flat = ~(np.isfinite(ahead) & np.isfinite(behind)) | (ahead + behind == 0)
    return np.where(flat, 1.0, behind), np.where(flat, 1.0, ahead)


def points_on(paths: Floats, positions: Floats) -> Floats:
    """Return the points at positions (b, m) on paths (b, k, p), counted in segments."""
    points = np.empty((*positions.shape, paths.shape[2]))
    _interpolate(paths, positions, points)
    return points


def spread(paths: Floats, values: Floats | None, k: int, emphasis: float) -> Floats:
    """Return the paths through k points, closer to each other where the loss is high."""
    lengths = _segment_lengths(paths)
    if values is not None and emphasis:
        finite = np.where(np.isfinite(values), values, np.nan)
        with np.errstate(invalid="ignore"):
            low, high = np.nanmin(finite, axis=1, keepdims=True), np.nanmax(finite, axis=1, keepdims=True)
            height = np.nan_to_num((finite - low) / np.where(high > low, high - low, 1.0), nan=1.0)
        lengths = lengths * (1 + emphasis * (height[:, 1:] + height[:, :-1]) / 2)
    total = np.concatenate([np.zeros((len(paths), 1)), np.cumsum(lengths, axis=1)], axis=1)
    positions = np.stack(
        [
            np.interp(np.linspace(0, along[-1], k), along, np.arange(len(along)))
            if along[-1] > 0
            else np.linspace(0, len(along) - 1, k)
            for along in total
        ]
    )
    spread = points_on(paths, positions)
    spread[:, 0], spread[:, -1] = paths[:, 0], paths[:, -1]
    return spread


@njit(cache=True, nogil=True)
def _interpolate(paths, positions, points):  # type: ignore[no-untyped-def]
    for row in range(len(paths)):
        for place in range(positions.shape[1]):
            segment = min(max(int(positions[row, place]), 0), paths.shape[1] - 2)
            share = positions[row, place] - segment
            before, after, point = paths[row, segment], paths[row, segment + 1], points[row, place]
            for i in range(len(point)):
                point[i] = before[i] * (1 - share) + after[i] * share


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _segment_lengths(paths):  # type: ignore[no-untyped-def]
    lengths = np.empty((paths.shape[0], paths.shape[1] - 1))
    for row in range(lengths.shape[0]):
        for place in range(lengths.shape[1]):
            before, after = paths[row, place], paths[row, place + 1]
            square = 0.0
            for i in range(len(before)):
                square += (after[i] - before[i]) ** 2
            lengths[row, place] = math.sqrt(square)
    return lengths


@njit(cache=True, nogil=True)
def _add_shares(paths, rows, shares, moves):  # type: ignore[no-untyped-def]
    """Add shares of moves to the inner points of some paths."""
    for i, row in enumerate(rows):
        for place in range(shares.shape[1]):
            add_multiple(paths[row, place + 1], shares[i, place], moves[i, place])


@njit(cache=True, nogil=True)
def _differences(paths, rows, forces, last, steps, changes):  # type: ignore[no-untyped-def]
    """Write down how far inner points and forces are from the last ones, which they then are."""
    for i, row in enumerate(rows):
        for place in range(forces.shape[1]):
            here, force = paths[row, place + 1], forces[i, place]
            point, before = last[0, row, place], last[1, row, place]
            step, change = steps[i, place], changes[i, place]
            for j in range(len(here)):
                step[j], change[j] = here[j] - point[j], force[j] - before[j]
                point[j], before[j] = here[j], force[j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _make_normal(paths, rows, behind, ahead, forces, tangents, along):  # type: ignore[no-untyped-def]
    """Find unit tangents at inner points, take what forces have along them, and write down how much that was."""
    for i, row in enumerate(rows):
        for place in range(forces.shape[1]):
            before, here, after = paths[row, place], paths[row, place + 1], paths[row, place + 2]
            tangent, force = tangents[i, place], forces[i, place]
            square = product = 0.0
            for j in range(len(here)):
                tangent[j] = ahead[i, place] * (after[j] - here[j]) + behind[i, place] * (here[j] - before[j])
                square += tangent[j] ** 2
                product += tangent[j] * force[j]
            length = max(math.sqrt(square), 1e-300)
            along[i, place] = product / length
            for j in range(len(here)):
                tangent[j] /= length
                force[j] -= along[i, place] * tangent[j]
