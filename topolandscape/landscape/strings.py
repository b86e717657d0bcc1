"""Paths on their way down: the steps of the string method and of nudged elastic bands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.quasi_newton import History, add_step, multiply
from topolandscape.landscape.vectors import add_multiple, length_of, remove
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
        strung, emphasis = self._method == "string", float(self._emphasis)
        state = self.paths, self.values, self._last, self._radius
        least, remembered = self._history.least, self._history.arrays

        def work(part: slice) -> None:
            _move(rows[part], values[part], force[part], strung, emphasis, self._begun, state, least, remembered)

        by_threads(len(rows), work, numbers=2 * remembered[0].shape[1] * force.size)
        self._begun = True

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


def points_on(paths: Floats, positions: Floats) -> Floats:
    """Return the points at positions (b, m) on paths (b, k, p), counted in segments."""
    points = np.empty((*positions.shape, paths.shape[2]))
    _interpolate(paths, positions, points)
    return points


def resampled(path: Floats, k: int) -> Floats:
    """Return k points evenly spaced along a path (n, p), the ends as they are."""
    points = np.empty((k, path.shape[1]))
    _spread(np.ascontiguousarray(path), np.zeros(len(path)), 0.0, points)
    return points


@njit(cache=True, nogil=True)
def _interpolate(paths, positions, points):  # type: ignore[no-untyped-def]
    for row in range(len(paths)):
        for place in range(positions.shape[1]):
            _point_on(paths[row], positions[row, place], points[row, place])


@njit(cache=True, nogil=True)
def _point_on(path, position, point):  # type: ignore[no-untyped-def]
    segment = min(max(int(position), 0), len(path) - 2)
    share = position - segment
    before, after = path[segment], path[segment + 1]
    for i in range(len(point)):
        point[i] = before[i] * (1 - share) + after[i] * share


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _distance(one, other):  # type: ignore[no-untyped-def]
    square = 0.0
    for i in range(len(one)):
        square += (other[i] - one[i]) ** 2
    return math.sqrt(square)


@njit(cache=True, nogil=True)
def _spread(path, values, emphasis, points):  # type: ignore[no-untyped-def]
    """Write points along a path, with the same ends, closer to each other where the loss is high."""
    segments, k = len(path) - 1, len(points)
    low, high = np.inf, -np.inf
    for value in values:
        if np.isfinite(value):
            low, high = min(low, value), max(high, value)
    height = np.ones(segments + 1)
    for place in range(segments + 1):
        if np.isfinite(values[place]):
            height[place] = (values[place] - low) / (high - low) if high > low else 0.0
    reached = np.zeros(segments + 1)
    for place in range(segments):
        weight = 1 + emphasis * (height[place] + height[place + 1]) / 2
        reached[place + 1] = reached[place] + weight * _distance(path[place], path[place + 1])
    segment = 0
    points[0], points[-1] = path[0], path[-1]
    for place in range(1, k - 1):
        if reached[-1] > 0:
            aim = reached[-1] * place / (k - 1)
            while segment < segments - 1 and reached[segment + 1] < aim:
                segment += 1
            position = segment + (aim - reached[segment]) / (reached[segment + 1] - reached[segment])
        else:
            position = segments * place / (k - 1)
        _point_on(path, position, points[place])


@njit(cache=True, nogil=True, error_model="numpy")
def _move(rows, losses, forces, strung, emphasis, begun, state, least, remembered):  # type: ignore[no-untyped-def]
    """Move the inner points of some paths, given the losses and gradients there; the latter are changed."""
    paths, values, last, radius = state
    k, p = paths.shape[1:]
    tangents, steps, changes, move = np.empty((k - 2, p)), np.empty((k - 2, p)), np.empty((k - 2, p)), np.empty((k, p))
    along, lost = np.empty(k - 2), np.empty(k - 2, dtype=np.bool_)
    for i, row in enumerate(rows):
        path, level, force = paths[row], values[row], forces[i]
        _look(losses[i], force, level, lost)
        _make_normal(path, level, force, tangents, along)
        if not strung:
            _pull(path, force, tangents, along)
        _differences(path, force, last[0, row], last[1, row], steps, changes)
        if begun:
            add_step(row, steps.reshape(-1), changes.reshape(-1), least, remembered)
        moves = steps  # in its place, since it is remembered
        moves[:] = force
        multiply(row, remembered, moves.reshape(-1))
        if strung:
            remove(moves, tangents)
        # A first step is as long as the largest force makes it.
        largest, first = 1e-300, not (remembered[2][row] != 0).any()
        for place in range(k - 2):
            largest = max(largest, length_of(force[place]))
        size = 0.3 * radius[row] / largest if first else 1.0
        move[0], move[-1] = path[0], path[-1]
        for place in range(k - 2):
            if lost[place]:
                # Where the loss is not finite there is no slope; the neighbours pull such a point back.
                for j in range(p):
                    move[place + 1, j] = (path[place, j] + path[place + 2, j]) / 2
                continue
            share = min(size, radius[row] / max(length_of(moves[place]), 1e-300))
            for j in range(p):
                move[place + 1, j] = path[place + 1, j] - share * moves[place, j]
        if strung:
            _spread(move, level, emphasis, path)
        else:
            path[:] = move


@njit(cache=True, nogil=True)
def _look(losses, force, values, lost):  # type: ignore[no-untyped-def]
    """Write which inner points have a loss or a slope that is not finite, and the losses; no force acts there."""
    for place in range(len(force)):
        finite = np.isfinite(losses[place])
        for slope in force[place]:
            finite &= np.isfinite(slope)
        lost[place] = not finite
        values[place + 1] = losses[place] if finite else np.inf
        if not finite:
            force[place] = 0.0


@njit(cache=True, nogil=True)
def _weights(low, here, high):  # type: ignore[no-untyped-def]
    """Return how much the step from the point before, and that to the point after, count in a tangent.

    It is the step towards the higher neighbour (Henkelman and Jonsson 2000).
    """
    if high > here > low:
        return 0.0, 1.0
    if high < here < low:
        return 1.0, 0.0
    up, down = abs(high - here), abs(low - here)
    if not (np.isfinite(up) and np.isfinite(down)) or up + down == 0:
        return 1.0, 1.0
    return (min(up, down), max(up, down)) if high > low else (max(up, down), min(up, down))


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _make_normal(path, values, forces, tangents, along):  # type: ignore[no-untyped-def]
    """Find unit tangents at inner points, take what forces have along them, and write down how much that was."""
    for place in range(len(forces)):
        behind, ahead = _weights(values[place], values[place + 1], values[place + 2])
        before, here, after = path[place], path[place + 1], path[place + 2]
        tangent, force = tangents[place], forces[place]
        square = product = 0.0
        for j in range(len(here)):
            tangent[j] = ahead * (after[j] - here[j]) + behind * (here[j] - before[j])
            square += tangent[j] ** 2
            product += tangent[j] * force[j]
        length = max(math.sqrt(square), 1e-300)
        along[place] = product / length
        for j in range(len(here)):
            tangent[j] /= length
            force[j] -= along[place] * tangent[j]


@njit(cache=True, nogil=True)
def _pull(path, forces, tangents, along):  # type: ignore[no-untyped-def]
    """Let springs act along the tangents, as stiff as the largest slope there makes them."""
    mean = stiffness = 0.0
    for place in range(len(forces)):
        mean += _distance(path[place], path[place + 1]) / len(forces)
        stiffness = max(stiffness, abs(along[place]))
    stiffness = max(stiffness / max(mean, 1e-300), 1e-3)
    for place in range(len(forces)):
        stretched = _distance(path[place + 1], path[place + 2]) - _distance(path[place], path[place + 1])
        add_multiple(forces[place], -stiffness * stretched, tangents[place])


@njit(cache=True, nogil=True)
def _differences(path, forces, points, before, steps, changes):  # type: ignore[no-untyped-def]
    """Write down how far inner points and forces are from the last ones, which they then are."""
    for place in range(len(forces)):
        here, force, step, change = path[place + 1], forces[place], steps[place], changes[place]
        for j in range(len(here)):
            step[j], change[j] = here[j] - points[place, j], force[j] - before[place, j]
            points[place, j], before[place, j] = here[j], force[j]
