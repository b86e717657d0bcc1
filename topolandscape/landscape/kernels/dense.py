"""Networks of layers one after the other, from the inputs to the loss and back, one parameter vector after the other.

What one vector needs on its way stays in the cache, and nothing is returned to Python before all vectors are done.
Lines are units, along them lie the rows of data, so that a layer is a small matrix times a matrix of many columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from torch import Tensor

from topolandscape.landscape.kernels.layers import MEAN, PRODUCT, RELU
from topolandscape.landscape.kernels.losses import cross_entropy_of_one, move_softmax, squared_error_of_one
from topolandscape.landscape.kernels.products import KEPT, NOTHING, OTHERS, TILE, add_correlations, multiply
from topolandscape.landscape.kernels.registers import REGISTER_BYTES
from topolandscape.landscape.kernels.units import (
    activate,
    follow_largest,
    pull_back,
    pull_back_moved,
    return_largest,
    take_largest,
)
from topolandscape.structures import Floats, Integers

# What the units of one vector may take, with their gradients, so that a core's second cache holds them.
_CACHE = 2**19


class _Space(NamedTuple):
    """How the rows are cut, and where the positions of layers come from.

    Attributes
    ----------
    tile, piece, length
        Rows in a tile, rows treated at once, and the step from line to line.
    start, place, tap, shares
        Those of the layers, the last in the type of the vectors.
    nothing
        Zero, in that type.
    """

    tile: int
    piece: int
    length: int
    start: Integers
    place: Integers
    tap: Integers
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
    lines = copies * (layers.lines + 2 * layers.most)
    tiles = (rows + tile - 1) // tile
    most = max(1, _CACHE // (lines * tile * vectors.itemsize))
    # As even as can be: a last piece of a few rows would cost as much as a tile.
    pieces = (tiles + most - 1) // most
    piece = (tiles + pieces - 1) // pieces * tile
    shares, nothing = layers.shares.astype(vectors.dtype), np.zeros(1, vectors.dtype)[0]
    length = _length(piece, vectors.itemsize)
    return _Space(tile, piece, length, layers.start, layers.place, layers.tap, shares, nothing)


@njit
def _buffers(layers, space, vectors, one):  # type: ignore[no-untyped-def]
    """Return units of all layers, with so much in the lines that are to be ones, and changes of two layers."""
    units = np.zeros(layers.lines * space.length, vectors.dtype)
    for layer in layers.table:
        ones = (layer.units + layer.after * layer.outer + 1) * space.length
        units[ones : ones + space.length] = one
    return units, np.zeros((2, layers.most * space.length), vectors.dtype)


@njit
def _send(vector, layer, space, source, at, units, to, begin, rectified):  # type: ignore[no-untyped-def]
    """Write products of the weight of a layer with units before it."""
    inner, outer, start, place, tap = layer.inner, layer.outer, space.start, space.place, space.tap
    weight, b_at = (layer.weight, inner * layer.taps, layer.taps, 1), (at[0], at[1], inner * at[1])
    for p in range(layer.after):
        listed = (start[layer.sources + p], start[layer.sources + p + 1])
        c_at = (to[0] + p * outer * to[1], to[1])
        multiply(vector, weight, source, b_at, units, c_at, outer, inner, place, tap, listed, begin, rectified)


@njit
def _return(vector, layer, space, change, earlier, to, begin):  # type: ignore[no-untyped-def]
    """Write products of the weight of a layer, transposed, with changes of its units."""
    inner, outer, start, place, tap = layer.inner, layer.outer, space.start, space.place, space.tap
    weight, b_at = (layer.weight, layer.taps, inner * layer.taps, 1), (to[0], to[1], outer * to[1])
    for p in range(layer.before):
        listed = (start[layer.uses + p], start[layer.uses + p + 1])
        c_at = (to[0] + p * inner * to[1], to[1])
        multiply(vector, weight, change, b_at, earlier, c_at, inner, outer, place, tap, listed, begin, False)


@njit
def _average(layer, space, first, count, b, b_at, c, c_at):  # type: ignore[no-untyped-def]
    """Write sums over lists from the first on, one for each position, of what counts as its window tells."""
    channels, step, start, place, tap, shares = layer.inner, b_at[1], space.start, space.place, space.tap, space.shares
    weight = (layer.sources, 0, 0, 1)
    for p in range(count):
        listed = (start[first + p], start[first + p + 1])
        for i in range(channels):
            from_line, to_line = (
                (b_at[0] + i * step, step, channels * step),
                (c_at[0] + (p * channels + i) * c_at[1], c_at[1]),
            )
            multiply(shares, weight, b, from_line, c, to_line, 1, 1, place, tap, listed, NOTHING, False)


@njit
def _forward(vector, table, space, x, begin, used, units):  # type: ignore[no-untyped-def]
    """Write the units of all layers, for `used` rows from `begin` on."""
    inputs = x.reshape(-1)
    for start in range(0, used, space.tile):
        source, at = inputs, (begin + start, x.shape[1])
        for i in range(len(table)):
            layer = table[i]
            to = (layer.units * space.length + start, space.length)
            rectified = layer.kind == PRODUCT and layer.activation == RELU
            if layer.kind == PRODUCT:
                _send(vector, layer, space, source, at, units, to, layer.bias, rectified)
            elif layer.kind == MEAN:
                _average(layer, space, layer.sources, layer.after, source, at, units, to)
            else:
                take_largest(layer, space, source, at, units, to)
            if not rectified:
                activate(layer.activation, layer.after * layer.outer, space.tile, space.nothing, units, to)
            source, at = units, to


@njit
def _forward_tangents(vector, direction, table, space, x, begin, used, units, tangents):  # type: ignore[no-untyped-def]
    """Write the derivatives of the units of all layers along a direction."""
    inputs = x.reshape(-1)
    for start in range(0, used, space.tile):
        source, at = inputs, (begin + start, x.shape[1])
        for i in range(len(table)):
            layer = table[i]
            to = (layer.units * space.length + start, space.length)
            if layer.kind == PRODUCT:
                _send(direction, layer, space, source, at, tangents, to, layer.bias, False)
                if i:
                    _send(vector, layer, space, tangents, at, tangents, to, KEPT, False)
            elif layer.kind == MEAN:
                _average(layer, space, layer.sources, layer.after, tangents, at, tangents, to)
            else:
                follow_largest(layer, space, units, at, to, tangents)
            pull_back(layer.activation, layer.after * layer.outer, space.tile, space.nothing, units, to, tangents, to)
            source, at = units, to


@njit
def _correlate(layers, i, space, x, begin, used, change, units, sums):  # type: ignore[no-untyped-def]
    """Add the products of changes of a layer and units of the one before to the gradient in its parameters."""
    layer = layers.table[i]
    source = units if i else x.reshape(-1)
    at = (layer.source * space.length, space.length) if i else (begin, x.shape[1])
    changes, to = (0, space.length, layer.outer * space.length), (layer.sums, layer.others)
    groups = (layer.groups, layer.groups + layer.others // OTHERS)
    registers = used * units.itemsize // REGISTER_BYTES
    add_correlations(
        change, changes, source, at, sums, to, layer.outer, layers.patches, layers.groups, groups, registers
    )


@njit
def _unpool(layer, space, start, units, change, earlier):  # type: ignore[no-untyped-def]
    """Write the changes of the units before a layer of windows from those of its own, which may be used up."""
    to = (start, space.length)
    if layer.kind == MEAN:
        _average(layer, space, layer.uses, layer.before, change, to, earlier, to)
    else:
        at = (layer.source * space.length + start, space.length)
        own_at = (layer.units * space.length + start, space.length)
        return_largest(layer, space, units, at, own_at, change, earlier, to)


@njit
def _backward(vector, layers, space, x, begin, used, units, changes, sums):  # type: ignore[no-untyped-def]
    """Add the gradient in the parameters to `sums`, given that in the outputs in changes[last layer % 2]."""
    for i in range(len(layers.table) - 1, -1, -1):
        layer, change, earlier = layers.table[i], changes[i % 2], changes[(i + 1) % 2]
        if layer.kind == PRODUCT:
            _correlate(layers, i, space, x, begin, used, change, units, sums)
        for start in range(0, used if i else 0, space.tile):
            at, to = (layer.source * space.length + start, space.length), (start, space.length)
            if layer.kind == PRODUCT:
                _return(vector, layer, space, change, earlier, to, NOTHING)
            else:
                _unpool(layer, space, start, units, change, earlier)
            kind, count = layers.table[i - 1].activation, layer.before * layer.inner
            pull_back(kind, count, space.tile, space.nothing, units, at, earlier, to)


@njit
def _backward_tangents(vector, direction, layers, space, x, begin, used, units, tangents, changes, moved, sums):  # type: ignore[no-untyped-def]
    """Add the derivative of the gradient along a direction to `sums`, given the gradient in the outputs and its own."""
    for i in range(len(layers.table) - 1, -1, -1):
        layer, change, earlier = layers.table[i], changes[i % 2], changes[(i + 1) % 2]
        move, earlier_move = moved[i % 2], moved[(i + 1) % 2]
        if layer.kind == PRODUCT:
            _correlate(layers, i, space, x, begin, used, move, units, sums)
            if i:
                _correlate(layers, i, space, x, begin, used, change, tangents, sums)
        for start in range(0, used if i else 0, space.tile):
            at, to = (layer.source * space.length + start, space.length), (start, space.length)
            if layer.kind == PRODUCT:
                _return(vector, layer, space, change, earlier, to, NOTHING)
                _return(vector, layer, space, move, earlier_move, to, NOTHING)
                _return(direction, layer, space, change, earlier_move, to, KEPT)
            else:
                _unpool(layer, space, start, units, change, earlier)
                _unpool(layer, space, start, units, move, earlier_move)
            kind, count = layers.table[i - 1].activation, layer.before * layer.inner
            pull_back_moved(kind, count, space.tile, space.nothing, units, tangents, at, earlier, earlier_move, to)


@njit
def _write_out(table, sums, gradient):  # type: ignore[no-untyped-def]
    """Write sums, in which each layer has its bias behind its weight, to where the parameters are in a vector."""
    gradient[:] = 0
    for layer in table:
        inner, taps = layer.inner, layer.taps
        for o in range(layer.outer if layer.kind == PRODUCT else 0):
            at, weight = layer.sums + o * layer.others, layer.weight + o * inner * taps
            for tap in range(taps):
                for i in range(inner):
                    gradient[weight + i * taps + tap] += sums[at + tap * inner + i]
            if layer.bias >= 0:
                gradient[layer.bias + o] += sums[at + inner * taps]


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
    last, rows, sloped = len(layers.table) - 1, len(data.shares), gradients.shape[1] > 0
    first, kind, width = layers.table[last].units, layers.table[last].activation, layers.table[last].outer
    space = _space(layers, rows, vectors, 1)
    tile, length, nothing = space.tile, space.length, space.nothing
    units, changes = _buffers(layers, space, vectors, 1)
    at, to = (first * length, length), (0, length)
    result = _lines(units, first, width, length)
    change = _lines(changes[last % 2], 0, width, length)
    sums = np.zeros(layers.sums if sloped else 0, vectors.dtype)
    for v in range(len(vectors)):
        vector = vectors[v]
        sums[:] = 0
        values[v] = 0.0
        for begin in range(0, rows, space.piece):
            count = min(space.piece, rows - begin)
            used = (count + tile - 1) // tile * tile
            own = slice(begin, begin + count)
            _forward(vector, layers.table, space, x, begin, used, units)
            if len(outputs):
                outputs[v, :, own] = result[:, :count]
            values[v] += _loss(result, data, own, change, sloped)
            if sloped:
                _weigh(change, data.shares[own], used, nothing)
                pull_back(kind, width, used, nothing, units, at, changes[last % 2], to)
                _backward(vector, layers, space, x, begin, used, units, changes, sums)
        if sloped:
            _write_out(layers.table, sums, gradients[v])


@njit(nogil=True, cache=True, error_model="numpy")
def sum_products(vectors, directions, layers, x, data, products):  # type: ignore[no-untyped-def]
    """Write the Hessian of the mean loss at each vector times the same row of the directions (Pearlmutter 1994)."""
    last, rows = len(layers.table) - 1, len(data.shares)
    first, kind, width = layers.table[last].units, layers.table[last].activation, layers.table[last].outer
    space = _space(layers, rows, vectors, 2)
    tile, length, nothing = space.tile, space.length, space.nothing
    units, changes = _buffers(layers, space, vectors, 1)
    tangents, moved = _buffers(layers, space, vectors, 0)
    at, to = (first * length, length), (0, length)
    result = _lines(units, first, width, length)
    tangent = _lines(tangents, first, width, length)
    change = _lines(changes[last % 2], 0, width, length)
    move = _lines(moved[last % 2], 0, width, length)
    sums = np.zeros(layers.sums, vectors.dtype)
    for v in range(len(vectors)):
        vector, direction = vectors[v], directions[v]
        sums[:] = 0
        for begin in range(0, rows, space.piece):
            count = min(space.piece, rows - begin)
            used = (count + tile - 1) // tile * tile
            own = slice(begin, begin + count)
            _forward(vector, layers.table, space, x, begin, used, units)
            _forward_tangents(vector, direction, layers.table, space, x, begin, used, units, tangents)
            _loss(result, data, own, change, True)
            _move(tangent, data, own, change, move)
            _weigh(change, data.shares[own], used, nothing)
            _weigh(move, data.shares[own], used, nothing)
            pull_back_moved(kind, width, used, nothing, units, tangents, at, changes[last % 2], moved[last % 2], to)
            _backward_tangents(vector, direction, layers, space, x, begin, used, units, tangents, changes, moved, sums)
        _write_out(layers.table, sums, products[v])
