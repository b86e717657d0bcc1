"""What is done to the units of dense networks one by one, or window by window: activations and largest entries.

A block is so many lines of one tile of a flat array; `at` or `to` is its first entry and the step from line to line.
Changes are gradients in the units, tangents derivatives along a direction.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from topolandscape.landscape.kernels.functions import sigmoid, tanh
from topolandscape.landscape.kernels.layers import IDENTITY, RELU, SIGMOID, TANH


@njit
def _line(block, at, i, tile):  # type: ignore[no-untyped-def]
    start = at[0] + i * at[1]
    return block[start : start + tile]


# --------------------------------------------------------------------------------------------------------------
# Activations
# --------------------------------------------------------------------------------------------------------------


@njit
def activate(kind, count, tile, nothing, units, at):  # type: ignore[no-untyped-def]
    """Write what the activation makes of units in their place."""
    for i in range(count if kind != IDENTITY else 0):
        unit = _line(units, at, i, tile)
        if kind == RELU:
            for r in range(tile):
                unit[r] = nothing if unit[r] < nothing else unit[r]
        elif kind == TANH:
            for r in range(tile):
                unit[r] = tanh(unit[r])
        elif kind == SIGMOID:
            for r in range(tile):
                unit[r] = sigmoid(unit[r])


@njit
def pull_back(kind, count, tile, nothing, units, at, changes, to):  # type: ignore[no-untyped-def]
    """Multiply changes with the derivative of the activation, which its result tells."""
    one = nothing + np.int8(1)
    for i in range(count if kind != IDENTITY else 0):
        unit, change = _line(units, at, i, tile), _line(changes, to, i, tile)
        if kind == RELU:
            for r in range(tile):
                change[r] = change[r] if unit[r] > nothing else nothing
        elif kind == TANH:
            for r in range(tile):
                change[r] *= (one - unit[r]) * (one + unit[r])
        elif kind == SIGMOID:
            for r in range(tile):
                change[r] *= unit[r] * (one - unit[r])


@njit
def pull_back_moved(kind, count, tile, nothing, units, tangents, at, changes, moved, to):  # type: ignore[no-untyped-def]
    """Do the same to changes, and to their derivatives along a direction."""
    one = nothing + np.int8(1)
    pull_back(kind, count, tile, nothing, units, at, moved, to)
    for i in range(count):
        unit, tangent = _line(units, at, i, tile), _line(tangents, at, i, tile)
        change, move = _line(changes, to, i, tile), _line(moved, to, i, tile)
        if kind == TANH:
            for r in range(tile):
                move[r] -= change[r] * tangent[r] * (unit[r] + unit[r])
        elif kind == SIGMOID:
            for r in range(tile):
                move[r] += change[r] * tangent[r] * (one - unit[r] - unit[r])
    pull_back(kind, count, tile, nothing, units, at, changes, to)


# --------------------------------------------------------------------------------------------------------------
# Windows
# --------------------------------------------------------------------------------------------------------------

# The units before the layer are `source`, its own `units`; each position has a list of those before it.


@njit
def _clear(count, tile, nothing, block, at):  # type: ignore[no-untyped-def]
    """Write zeros to a block."""
    for i in range(count):
        found = _line(block, at, i, tile)
        for r in range(tile):
            found[r] = nothing


@njit
def take_largest(layer, space, source, at, units, to):  # type: ignore[no-untyped-def]
    """Write the largest entry of each window; a NaN is larger than all."""
    channels, tile, start, place = layer.inner, space.tile, space.start, space.place
    for p in range(layer.after):
        own = layer.sources + p
        for c in range(channels):
            best = _line(units, to, p * channels + c, tile)
            best[:] = -np.inf
            for entry in range(start[own], start[own + 1]):
                found = _line(source, at, place[entry] * channels + c, tile)
                for r in range(tile):
                    best[r] = best[r] if found[r] <= best[r] or best[r] != best[r] else found[r]


@njit
def follow_largest(layer, space, units, at, to, tangents):  # type: ignore[no-untyped-def]
    """Write the tangents of the largest entries, of equal ones that of the first."""
    channels, tile, start, place = layer.inner, space.tile, space.start, space.place
    _clear(layer.after * channels, tile, space.nothing, tangents, to)
    for p in range(layer.after):
        own = layer.sources + p
        for c in range(channels):
            best, result = _line(units, to, p * channels + c, tile), _line(tangents, to, p * channels + c, tile)
            for entry in range(start[own + 1] - 1, start[own] - 1, -1):
                line = place[entry] * channels + c
                found, tangent = _line(units, at, line, tile), _line(tangents, at, line, tile)
                for r in range(tile):
                    result[r] = tangent[r] if found[r] == best[r] else result[r]


@njit
def return_largest(layer, space, units, at, own_at, changes, earlier, to):  # type: ignore[no-untyped-def]
    """Write the changes of the units before, of equal ones the first, from those of the largest, which are used up."""
    channels, tile, start, place, nothing = layer.inner, space.tile, space.start, space.place, space.nothing
    _clear(layer.before * channels, tile, nothing, earlier, to)
    for p in range(layer.after):
        own = layer.sources + p
        for c in range(channels):
            best, change = _line(units, own_at, p * channels + c, tile), _line(changes, to, p * channels + c, tile)
            for entry in range(start[own], start[own + 1]):
                line = place[entry] * channels + c
                found, result = _line(units, at, line, tile), _line(earlier, to, line, tile)
                for r in range(tile):
                    result[r] += change[r] if found[r] == best[r] else nothing
                    change[r] = nothing if found[r] == best[r] else change[r]
