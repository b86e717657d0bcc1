"""Networks of layers one after the other, from the inputs to the loss and back, one parameter vector after the other.

What one vector needs on its way stays in the cache, and nothing is returned to Python before all vectors are done.
Lines are units, along them lie the rows of data, so that a layer is a small matrix times a matrix of many columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from torch import Tensor

from topolandscape.landscape.kernels.layers import MEAN, PRODUCT
from topolandscape.landscape.kernels.losses import cross_entropy_of_one, move_softmax, squared_error_of_one
from topolandscape.landscape.kernels.products import KEPT, NOTHING, ONES, OTHERS, TILE, add_correlations, multiply
from topolandscape.landscape.kernels.registers import REGISTER_BYTES
from topolandscape.landscape.kernels.units import (
    activate,
    follow_largest,
    pull_back,
    pull_back_moved,
    return_largest,
    spread_means,
    take_largest,
    take_means,
)
from topolandscape.structures import Floats, Integers

# What the units of one vector may take, with their gradients, so that a core's second cache holds them.
_CACHE = 2**19


class _Space(NamedTuple):
    """How the rows are cut, and what lies where.

    Attributes
    ----------
    tile, piece, length
        Rows in a tile, rows treated at once, and the step from line to line.
    first
        First line of the units of the inputs (which are elsewhere: 0), of each layer, and the end.
    sums
        First entry of the sums of each layer, and the end.
    shares, nothing
        Those of the layers, and zero, in the type of the vectors.
    """

    tile: int
    piece: int
    length: int
    first: Integers
    sums: Integers
    shares: Floats
    nothing: float


class Targets(NamedTuple):
    """What the outputs should be, for cross-entropy or the squared error.

    Attributes
    ----------
    classes
        The class of each row, (rows,); none for the squared error.
    numbers
        The outputs wanted, (outputs, rows); none for cross-entropy.
    shares
        How much each row counts in the mean, (rows,); for the squared error, over all outputs: divided by their number.
    """

    classes: Integers
    numbers: Floats
    shares: Floats


def lines_of(inputs: Tensor) -> np.ndarray:
    """Return inputs (rows, channels, positions) as lines of whole tiles, and lines of zeros and ones."""
    rows, channels, positions = inputs.shape
    itemsize = inputs.element_size()
    tile = TILE * REGISTER_BYTES // itemsize
    lines = inputs.new_zeros(positions * channels + 2, _length(-(-rows // tile) * tile, itemsize))
    lines[:-2, :rows].view(positions, channels, rows).copy_(inputs.permute(2, 1, 0))
    lines[-1, :rows] = 1
    return lines.numpy()


# --------------------------------------------------------------------------------------------------------------
# Compiled
# --------------------------------------------------------------------------------------------------------------

# Behind the units of a layer come a line of zeros and one of ones, whose correlations are the gradient in the bias.
# Changes are gradients in the units, tangents derivatives along a direction. A block is so many lines of one tile of a
# flat array; `at` or `to` is its first entry and the step from line to line.


@njit
def _length(rows, itemsize):  # type: ignore[no-untyped-def]
    """Return a length of lines for which they do not push each other out of the cache: of odd many cache lines."""
    return rows if rows * itemsize // 64 % 2 else rows + 64 // itemsize


@njit
def _loss(outputs, data, rows, change, sloped):  # type: ignore[no-untyped-def]
    """Return the part of some rows in the mean loss; where `sloped`, write its slope for each row."""
    if len(data.numbers):
        return squared_error_of_one(outputs, data.numbers[:, rows], data.shares[rows], change, sloped)
    return cross_entropy_of_one(outputs, data.classes[rows], data.shares[rows], change, sloped)


@njit
def _move(tangent, data, rows, change, move):  # type: ignore[no-untyped-def]
    """Write how the slopes of the losses of some rows change as the outputs do."""
    if len(data.numbers):
        for k in range(len(data.numbers)):
            for r in range(rows.stop - rows.start):
                move[k, r] = tangent[k, r] + tangent[k, r]
    else:
        move_softmax(tangent, data.classes[rows], change, move)


@njit
def _space(layers, rows, vectors, copies):  # type: ignore[no-untyped-def]
    """Return how the rows are cut so that so many copies of the units and two of their changes stay in the cache."""
    tile = TILE * REGISTER_BYTES // vectors.itemsize
    first = np.zeros(len(layers.channels) + 1, np.int64)
    sums = np.zeros(len(layers.channels), np.int64)
    for layer in range(1, len(layers.channels)):
        first[layer + 1] = first[layer] + layers.positions[layer] * layers.channels[layer] + 2
        sums[layer] = sums[layer - 1] + _padded(layers.channels[layer]) * _others(layers, layer - 1)
    lines = copies * (first[-1] + 2 * _most(layers))
    tiles = (rows + tile - 1) // tile
    most = max(1, _CACHE // (lines * tile * vectors.itemsize))
    # As even as can be: a last piece of a few rows would cost as much as a tile.
    pieces = (tiles + most - 1) // most
    piece = (tiles + pieces - 1) // pieces * tile
    shares, nothing = layers.shares.astype(vectors.dtype), np.zeros(1, vectors.dtype)[0]
    return _Space(tile, piece, _length(piece, vectors.itemsize), first, sums, shares, nothing)


@njit
def _padded(channels):  # type: ignore[no-untyped-def]
    return (channels + ONES - 1) // ONES * ONES


@njit
def _others(layers, layer):  # type: ignore[no-untyped-def]
    """Return how many lines the changes of a layer are correlated with."""
    return (layers.patches.first[layer + 1] - layers.patches.first[layer]) * OTHERS


@njit
def _most(layers):  # type: ignore[no-untyped-def]
    """Return the lines that the changes of any layer take, with those that are read behind them."""
    return (layers.positions[1:] * layers.channels[1:]).max() + ONES


@njit
def _buffers(layers, space, vectors, one):  # type: ignore[no-untyped-def]
    """Return units of all layers, with so much in the lines that are to be ones, and changes of two layers."""
    units = np.zeros(space.first[-1] * space.length, vectors.dtype)
    for layer in range(1, len(layers.channels)):
        end = space.first[layer + 1] * space.length
        units[end - space.length : end] = one
    return units, np.zeros((2, _most(layers) * space.length), vectors.dtype)


@njit
def _products(a, a_at, b, b_at, inner, c, c_at, lines, lists, layer, positions, begin):  # type: ignore[no-untyped-def]
    """Write products, as `multiply` does, to the lines of each position."""
    for p in range(positions):
        own = lists.first[layer] + p
        listed = (lists.start[own], lists.start[own + 1])
        at, to = (b_at[0], b_at[1], inner * b_at[1]), (c_at[0] + p * lines * c_at[1], c_at[1])
        multiply(a, a_at, b, at, c, to, lines, inner, lists.place, lists.tap, listed, begin)


@njit
def _send(vector, layers, layer, source, at, units, to, begin):  # type: ignore[no-untyped-def]
    """Write products of the weight of a layer with units before it."""
    outer, inner, taps = layers.channels[layer + 1], layers.channels[layer], layers.taps[layer]
    weight, positions = (layers.weights[layer], inner * taps, taps, 1), layers.positions[layer + 1]
    _products(vector, weight, source, at, inner, units, to, outer, layers.sources, layer, positions, begin)


@njit
def _return(vector, layers, layer, change, earlier, to, begin):  # type: ignore[no-untyped-def]
    """Write products of the weight of a layer, transposed, with changes of its units."""
    outer, inner, taps = layers.channels[layer + 1], layers.channels[layer], layers.taps[layer]
    weight, positions = (layers.weights[layer], taps, inner * taps, 1), layers.positions[layer]
    _products(vector, weight, change, to, outer, earlier, to, inner, layers.uses, layer, positions, begin)


@njit
def _units(layers, layer):  # type: ignore[no-untyped-def]
    return layers.positions[layer] * layers.channels[layer]


@njit
def _forward(vector, layers, space, x, begin, used, units):  # type: ignore[no-untyped-def]
    """Write the units of all layers, for `used` rows from `begin` on."""
    inputs = x.reshape(-1)
    for start in range(0, used, space.tile):
        source, at = inputs, (begin + start, x.shape[1])
        for layer in range(len(layers.kinds)):
            to = (space.first[layer + 1] * space.length + start, space.length)
            if layers.kinds[layer] == PRODUCT:
                _send(vector, layers, layer, source, at, units, to, layers.biases[layer])
            elif layers.kinds[layer] == MEAN:
                take_means(layers, layer, space, source, at, units, to)
            else:
                take_largest(layers, layer, space, source, at, units, to)
            activate(layers.activations[layer], _units(layers, layer + 1), space.tile, space.nothing, units, to)
            source, at = units, to


@njit
def _forward_tangents(vector, direction, layers, space, x, begin, used, units, tangents):  # type: ignore[no-untyped-def]
    """Write the derivatives of the units of all layers along a direction."""
    inputs = x.reshape(-1)
    for start in range(0, used, space.tile):
        source, at = inputs, (begin + start, x.shape[1])
        for layer in range(len(layers.kinds)):
            to = (space.first[layer + 1] * space.length + start, space.length)
            if layers.kinds[layer] == PRODUCT:
                _send(direction, layers, layer, source, at, tangents, to, layers.biases[layer])
                if layer:
                    _send(vector, layers, layer, tangents, at, tangents, to, KEPT)
            elif layers.kinds[layer] == MEAN:
                take_means(layers, layer, space, tangents, at, tangents, to)
            else:
                follow_largest(layers, layer, space, units, at, to, tangents)
            kind, count = layers.activations[layer], _units(layers, layer + 1)
            pull_back(kind, count, space.tile, space.nothing, units, to, tangents, to)
            source, at = units, to


@njit
def _correlate(layers, layer, space, x, begin, used, change, units, sums):  # type: ignore[no-untyped-def]
    """Add the products of changes of a layer and units of the one before to the gradient in its parameters."""
    source = units if layer else x.reshape(-1)
    at = (space.first[layer] * space.length, space.length) if layer else (begin, x.shape[1])
    count, patches = layers.channels[layer + 1], layers.patches
    add_correlations(
        change,
        (0, space.length, count * space.length),
        source,
        at,
        sums,
        (space.sums[layer], _others(layers, layer)),
        count,
        patches.lines,
        patches.start,
        (patches.first[layer], patches.first[layer + 1]),
        used * units.itemsize // REGISTER_BYTES,
    )


@njit
def _unpool(layers, layer, space, start, units, change, earlier):  # type: ignore[no-untyped-def]
    """Write the changes of the units before a layer of windows from those of its own, which may be used up."""
    to = (start, space.length)
    if layers.kinds[layer] == MEAN:
        spread_means(layers, layer, space, change, earlier, to)
    else:
        at = (space.first[layer] * space.length + start, space.length)
        own = (space.first[layer + 1] * space.length + start, space.length)
        return_largest(layers, layer, space, units, at, own, change, earlier, to)


@njit
def _backward(vector, layers, space, x, begin, used, units, changes, sums):  # type: ignore[no-untyped-def]
    """Add the gradient in the parameters to `sums`, given that in the outputs in changes[last layer % 2]."""
    for layer in range(len(layers.kinds) - 1, -1, -1):
        change, earlier = changes[layer % 2], changes[(layer + 1) % 2]
        if layers.kinds[layer] == PRODUCT:
            _correlate(layers, layer, space, x, begin, used, change, units, sums)
        for start in range(0, used if layer else 0, space.tile):
            at, to = (space.first[layer] * space.length + start, space.length), (start, space.length)
            if layers.kinds[layer] == PRODUCT:
                _return(vector, layers, layer, change, earlier, to, NOTHING)
            else:
                _unpool(layers, layer, space, start, units, change, earlier)
            kind, count = layers.activations[layer - 1], _units(layers, layer)
            pull_back(kind, count, space.tile, space.nothing, units, at, earlier, to)


@njit
def _backward_tangents(vector, direction, layers, space, x, begin, used, units, tangents, changes, moved, sums):  # type: ignore[no-untyped-def]
    """Add the derivative of the gradient along a direction to `sums`, given the gradient in the outputs and its own."""
    for layer in range(len(layers.kinds) - 1, -1, -1):
        change, earlier = changes[layer % 2], changes[(layer + 1) % 2]
        move, earlier_move = moved[layer % 2], moved[(layer + 1) % 2]
        if layers.kinds[layer] == PRODUCT:
            _correlate(layers, layer, space, x, begin, used, move, units, sums)
            if layer:
                _correlate(layers, layer, space, x, begin, used, change, tangents, sums)
        for start in range(0, used if layer else 0, space.tile):
            at, to = (space.first[layer] * space.length + start, space.length), (start, space.length)
            if layers.kinds[layer] == PRODUCT:
                _return(vector, layers, layer, change, earlier, to, NOTHING)
                _return(vector, layers, layer, move, earlier_move, to, NOTHING)
                _return(direction, layers, layer, change, earlier_move, to, KEPT)
            else:
                _unpool(layers, layer, space, start, units, change, earlier)
                _unpool(layers, layer, space, start, units, move, earlier_move)
            kind, count = layers.activations[layer - 1], _units(layers, layer)
            pull_back_moved(kind, count, space.tile, space.nothing, units, tangents, at, earlier, earlier_move, to)


@njit
def _write_out(layers, space, sums, gradient):  # type: ignore[no-untyped-def]
    """Write sums, in which each layer has its bias behind its weight, to where the parameters are in a vector."""
    gradient[:] = 0
    for layer in range(len(layers.kinds)):
        inner, taps, bias = layers.channels[layer], layers.taps[layer], layers.biases[layer]
        for o in range(layers.channels[layer + 1] if layers.kinds[layer] == PRODUCT else 0):
            at, weight = space.sums[layer] + o * _others(layers, layer), layers.weights[layer] + o * inner * taps
            for tap in range(taps):
                for i in range(inner):
                    gradient[weight + i * taps + tap] += sums[at + tap * inner + i]
            if bias >= 0:
                gradient[bias + o] += sums[at + inner * taps]


@njit
def _weigh(change, shares, used, nothing):  # type: ignore[no-untyped-def]
    """Multiply changes of the outputs with the shares of the rows, and clear what is beyond."""
    for k in range(len(change)):
        line = change[k]
        for r in range(len(shares)):
            line[r] *= shares[r]
        for r in range(len(shares), used):
            line[r] = nothing


@njit
def _lines(block, first, count, length):  # type: ignore[no-untyped-def]
    return block[first * length : (first + count) * length].reshape(count, length)


@njit(nogil=True, cache=True, error_model="numpy")
def sum_losses(vectors, layers, x, data, values, gradients, outputs):  # type: ignore[no-untyped-def]
    """Write the mean loss of each vector, and its gradient and the outputs where there is room for them.

    vectors (c, p); x as from `lines_of`; data are `Targets`; values (c,), gradients (c, p) or (c, 0), outputs
    (c, outputs, rows) or (0, 0, 0).
    """
    last, width, rows = len(layers.kinds) - 1, layers.channels[-1], len(data.shares)
    kind, sloped = layers.activations[last], gradients.shape[1] > 0
    space = _space(layers, rows, vectors, 1)
    tile, length, nothing = space.tile, space.length, space.nothing
    units, changes = _buffers(layers, space, vectors, 1)
    at, to = (space.first[last + 1] * length, length), (0, length)
    result = _lines(units, space.first[last + 1], width, length)
    change = _lines(changes[last % 2], 0, width, length)
    sums = np.zeros(space.sums[-1] if sloped else 0, vectors.dtype)
    for v in range(len(vectors)):
        vector = vectors[v]
        sums[:] = 0
        values[v] = 0.0
        for begin in range(0, rows, space.piece):
            count = min(space.piece, rows - begin)
            used = (count + tile - 1) // tile * tile
            own = slice(begin, begin + count)
            _forward(vector, layers, space, x, begin, used, units)
            if len(outputs):
                outputs[v, :, own] = result[:, :count]
            values[v] += _loss(result, data, own, change, sloped)
            if sloped:
                _weigh(change, data.shares[own], used, nothing)
                pull_back(kind, width, used, nothing, units, at, changes[last % 2], to)
                _backward(vector, layers, space, x, begin, used, units, changes, sums)
        if sloped:
            _write_out(layers, space, sums, gradients[v])


@njit(nogil=True, cache=True, error_model="numpy")
def sum_products(vectors, directions, layers, x, data, products):  # type: ignore[no-untyped-def]
    """Write the Hessian of the mean loss at each vector times the same row of the directions (Pearlmutter 1994)."""
    last, width, rows = len(layers.kinds) - 1, layers.channels[-1], len(data.shares)
    kind = layers.activations[last]
    space = _space(layers, rows, vectors, 2)
    tile, length, nothing = space.tile, space.length, space.nothing
    units, changes = _buffers(layers, space, vectors, 1)
    tangents, moved = _buffers(layers, space, vectors, 0)
    at, to = (space.first[last + 1] * length, length), (0, length)
    result = _lines(units, space.first[last + 1], width, length)
    tangent = _lines(tangents, space.first[last + 1], width, length)
    change = _lines(changes[last % 2], 0, width, length)
    move = _lines(moved[last % 2], 0, width, length)
    sums = np.zeros(space.sums[-1], vectors.dtype)
    for v in range(len(vectors)):
        vector, direction = vectors[v], directions[v]
        sums[:] = 0
        for begin in range(0, rows, space.piece):
            count = min(space.piece, rows - begin)
            used = (count + tile - 1) // tile * tile
            own = slice(begin, begin + count)
            _forward(vector, layers, space, x, begin, used, units)
            _forward_tangents(vector, direction, layers, space, x, begin, used, units, tangents)
            _loss(result, data, own, change, True)
            _move(tangent, data, own, change, move)
            _weigh(change, data.shares[own], used, nothing)
            _weigh(move, data.shares[own], used, nothing)
            pull_back_moved(kind, width, used, nothing, units, tangents, at, changes[last % 2], moved[last % 2], to)
            _backward_tangents(vector, direction, layers, space, x, begin, used, units, tangents, changes, moved, sums)
        _write_out(layers, space, sums, products[v])
