"""Fully connected networks from the inputs to the loss and back, one parameter vector after the other.

What one vector needs on its way stays in the cache, and nothing is returned to Python before all vectors are done.
Lines are units, along them lie the rows of data, so that a layer is a small matrix times a matrix of many columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from torch import Tensor

from topolandscape.landscape.kernels.functions import sigmoid, tanh
from topolandscape.landscape.kernels.losses import cross_entropy_of_one, move_softmax, squared_error_of_one
from topolandscape.landscape.kernels.products import ONES, TILE, add_correlations, add_product
from topolandscape.landscape.kernels.registers import REGISTER_BYTES
from topolandscape.structures import Floats, Integers

ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid")
_IDENTITY, _RELU, _TANH, _SIGMOID = range(4)
# What the units of one vector may take, with their gradients, so that a core's second cache holds them.
_CACHE = 2**19


class Layers(NamedTuple):
    """The layers of a network: sizes, and where their parameters are in a vector.

    Attributes
    ----------
    widths
        Units of the inputs and of each layer, (layers + 1,).
    weights, biases
        First entry of the weight (out, in) and of the bias (out,) of each layer, -1 for no bias, (layers,).
    activations
        Row in `ACTIVATIONS` of what follows each layer, (layers,).
    """

    widths: Integers
    weights: Integers
    biases: Integers
    activations: Integers


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
    nothing
        Zero, in the type of the vectors.
    """

    tile: int
    piece: int
    length: int
    first: Integers
    sums: Integers
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
    """Return inputs (rows, inputs) as lines of whole tiles, a line of ones, and lines up to a multiple."""
    rows, count = inputs.shape
    itemsize = inputs.element_size()
    tile = TILE * REGISTER_BYTES // itemsize
    lines = inputs.new_zeros(_even(count + 1), _length(-(-rows // tile) * tile, itemsize))
    lines[:count, :rows] = inputs.T
    lines[count, :rows] = 1
    return lines.numpy()


# --------------------------------------------------------------------------------------------------------------
# Compiled
# --------------------------------------------------------------------------------------------------------------

# Units of a layer, flat, in lines: its own, then a line of ones, whose correlations are the gradient in the bias, then
# lines up to a multiple of `ONES`. Changes are gradients in the units, tangents derivatives along a direction.


@njit
def _even(count):  # type: ignore[no-untyped-def]
    return (count + ONES - 1) // ONES * ONES


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
    first = np.zeros(len(layers.widths) + 1, np.int64)
    sums = np.zeros(len(layers.widths), np.int64)
    for layer in range(1, len(layers.widths)):
        first[layer + 1] = first[layer] + _even(layers.widths[layer] + 1)
        sums[layer] = sums[layer - 1] + _even(layers.widths[layer]) * _even(layers.widths[layer - 1] + 1)
    lines = copies * (first[-1] + 2 * _even(layers.widths[1:].max()))
    tiles = (rows + tile - 1) // tile
    most = max(1, _CACHE // (lines * tile * vectors.itemsize))
    # As even as can be: a last piece of a few rows would cost as much as a tile.
    pieces = (tiles + most - 1) // most
    piece = (tiles + pieces - 1) // pieces * tile
    return _Space(tile, piece, _length(piece, vectors.itemsize), first, sums, np.zeros(1, vectors.dtype)[0])


@njit
def _buffers(layers, space, vectors, one):  # type: ignore[no-untyped-def]
    """Return units of all layers, with so much in the line that is to be ones, and changes of two layers."""
    units = np.zeros(space.first[-1] * space.length, vectors.dtype)
    for layer in range(1, len(layers.widths)):
        ones = (space.first[layer] + layers.widths[layer]) * space.length
        units[ones : ones + space.length] = one
    return units, np.zeros((2, _even(layers.widths[1:].max()) * space.length), vectors.dtype)


# A block is so many lines of one tile of a flat array; `at` is its first entry and the step from line to line.


@njit
def _activate(kind, count, tile, nothing, units, at):  # type: ignore[no-untyped-def]
    for i in range(count if kind != _IDENTITY else 0):
        unit = _line(units, at, i, tile)
        if kind == _RELU:
            for r in range(tile):
                unit[r] = nothing if unit[r] < nothing else unit[r]
        elif kind == _TANH:
            for r in range(tile):
                unit[r] = tanh(unit[r])
        elif kind == _SIGMOID:
            for r in range(tile):
                unit[r] = sigmoid(unit[r])


@njit
def _line(block, at, i, tile):  # type: ignore[no-untyped-def]
    start = at[0] + i * at[1]
    return block[start : start + tile]


@njit
def _pull_back(kind, count, tile, nothing, units, at, changes, to):  # type: ignore[no-untyped-def]
    """Multiply changes with the derivative of the activation, which its result tells."""
    one = nothing + np.int8(1)
    for i in range(count if kind != _IDENTITY else 0):
        unit, change = _line(units, at, i, tile), _line(changes, to, i, tile)
        if kind == _RELU:
            for r in range(tile):
                change[r] = change[r] if unit[r] > nothing else nothing
        elif kind == _TANH:
            for r in range(tile):
                change[r] *= (one - unit[r]) * (one + unit[r])
        elif kind == _SIGMOID:
            for r in range(tile):
                change[r] *= unit[r] * (one - unit[r])


@njit
def _pull_back_moved(kind, count, tile, nothing, units, tangents, at, changes, moved, to):  # type: ignore[no-untyped-def]
    """Do the same to changes, and to their derivatives along a direction."""
    one = nothing + np.int8(1)
    _pull_back(kind, count, tile, nothing, units, at, moved, to)
    for i in range(count):
        unit, tangent = _line(units, at, i, tile), _line(tangents, at, i, tile)
        change, move = _line(changes, to, i, tile), _line(moved, to, i, tile)
        if kind == _TANH:
            for r in range(tile):
                move[r] -= change[r] * tangent[r] * (unit[r] + unit[r])
        elif kind == _SIGMOID:
            for r in range(tile):
                move[r] += change[r] * tangent[r] * (one - unit[r] - unit[r])
    _pull_back(kind, count, tile, nothing, units, at, changes, to)


@njit
def _fill(count, tile, nothing, vector, bias, units, at):  # type: ignore[no-untyped-def]
    """Write the bias, the entries of a vector from there on, or zeros where it is -1, to a block."""
    for i in range(count):
        number = nothing if bias < 0 else vector[bias + i]
        unit = _line(units, at, i, tile)
        for r in range(tile):
            unit[r] = number


@njit
def _forward(vector, layers, space, x, begin, used, units):  # type: ignore[no-untyped-def]
    """Write the units of all layers, for `used` rows from `begin` on."""
    tile, nothing, inputs = space.tile, space.nothing, x.reshape(-1)
    for start in range(0, used, tile):
        source, at = inputs, (begin + start, x.shape[1])
        for layer in range(len(layers.weights)):
            count, inner = layers.widths[layer + 1], layers.widths[layer]
            to = (space.first[layer + 1] * space.length + start, space.length)
            _fill(count, tile, nothing, vector, layers.biases[layer], units, to)
            add_product(vector, (layers.weights[layer], inner, 1), source, at, units, to, count, inner)
            _activate(layers.activations[layer], count, tile, nothing, units, to)
            source, at = units, to


@njit
def _forward_tangents(vector, direction, layers, space, x, begin, used, units, tangents):  # type: ignore[no-untyped-def]
    """Write the derivatives of the units of all layers along a direction."""
    tile, nothing, inputs = space.tile, space.nothing, x.reshape(-1)
    for start in range(0, used, tile):
        source, at = inputs, (begin + start, x.shape[1])
        for layer in range(len(layers.weights)):
            count, inner = layers.widths[layer + 1], layers.widths[layer]
            to = (space.first[layer + 1] * space.length + start, space.length)
            step = (layers.weights[layer], inner, 1)
            _fill(count, tile, nothing, direction, layers.biases[layer], tangents, to)
            add_product(direction, step, source, at, tangents, to, count, inner)
            if layer:
                add_product(vector, step, tangents, at, tangents, to, count, inner)
            _pull_back(layers.activations[layer], count, tile, nothing, units, to, tangents, to)
            source, at = units, to


@njit
def _correlate(layers, layer, space, x, begin, used, change, units, sums):  # type: ignore[no-untyped-def]
    """Add the products of changes of a layer and units of the one before to the gradient in its parameters."""
    source = units if layer else x.reshape(-1)
    at = (space.first[layer] * space.length, space.length) if layer else (begin, x.shape[1])
    count, inner = layers.widths[layer + 1], layers.widths[layer] + 1
    registers = used * units.itemsize // REGISTER_BYTES
    to = (space.sums[layer], _even(inner))
    add_correlations(change, (0, space.length), source, at, sums, to, count, inner, registers)


@njit
def _backward(vector, layers, space, x, begin, used, units, changes, sums):  # type: ignore[no-untyped-def]
    """Add the gradient in the parameters to `sums`, given that in the outputs in changes[last layer % 2]."""
    tile, nothing = space.tile, space.nothing
    for layer in range(len(layers.weights) - 1, -1, -1):
        count, inner, weight = layers.widths[layer + 1], layers.widths[layer], layers.weights[layer]
        change, earlier = changes[layer % 2], changes[(layer + 1) % 2]
        _correlate(layers, layer, space, x, begin, used, change, units, sums)
        for start in range(0, used if layer else 0, tile):
            at, to = (space.first[layer] * space.length + start, space.length), (start, space.length)
            _fill(inner, tile, nothing, vector, -1, earlier, to)
            add_product(vector, (weight, 1, inner), change, to, earlier, to, inner, count)
            _pull_back(layers.activations[layer - 1], inner, tile, nothing, units, at, earlier, to)


@njit
def _backward_tangents(vector, direction, layers, space, x, begin, used, units, tangents, changes, moved, sums):  # type: ignore[no-untyped-def]
    """Add the derivative of the gradient along a direction to `sums`, given the gradient in the outputs and its own."""
    tile, nothing = space.tile, space.nothing
    for layer in range(len(layers.weights) - 1, -1, -1):
        count, inner, weight = layers.widths[layer + 1], layers.widths[layer], layers.weights[layer]
        change, earlier = changes[layer % 2], changes[(layer + 1) % 2]
        move, earlier_move = moved[layer % 2], moved[(layer + 1) % 2]
        _correlate(layers, layer, space, x, begin, used, move, units, sums)
        if layer:
            _correlate(layers, layer, space, x, begin, used, change, tangents, sums)
        for start in range(0, used if layer else 0, tile):
            at, to = (space.first[layer] * space.length + start, space.length), (start, space.length)
            _fill(inner, tile, nothing, vector, -1, earlier, to)
            _fill(inner, tile, nothing, vector, -1, earlier_move, to)
            add_product(vector, (weight, 1, inner), change, to, earlier, to, inner, count)
            add_product(vector, (weight, 1, inner), move, to, earlier_move, to, inner, count)
            add_product(direction, (weight, 1, inner), change, to, earlier_move, to, inner, count)
            kind = layers.activations[layer - 1]
            _pull_back_moved(kind, inner, tile, nothing, units, tangents, at, earlier, earlier_move, to)


@njit
def _write_out(layers, space, sums, gradient):  # type: ignore[no-untyped-def]
    """Write sums, in which each layer has its bias beside its weight, to where the parameters are in a vector."""
    gradient[:] = 0
    for layer in range(len(layers.weights)):
        inner = layers.widths[layer]
        for o in range(layers.widths[layer + 1]):
            at = space.sums[layer] + o * _even(inner + 1)
            for i in range(inner):
                gradient[layers.weights[layer] + o * inner + i] += sums[at + i]
            if layers.biases[layer] >= 0:
                gradient[layers.biases[layer] + o] += sums[at + inner]


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
    last, width, rows = len(layers.weights) - 1, layers.widths[-1], len(data.shares)
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
                _pull_back(kind, width, used, nothing, units, at, changes[last % 2], to)
                _backward(vector, layers, space, x, begin, used, units, changes, sums)
        if sloped:
            _write_out(layers, space, sums, gradients[v])


@njit(nogil=True, cache=True, error_model="numpy")
def sum_products(vectors, directions, layers, x, data, products):  # type: ignore[no-untyped-def]
    """Write the Hessian of the mean loss at each vector times the same row of the directions (Pearlmutter 1994)."""
    last, width, rows = len(layers.weights) - 1, layers.widths[-1], len(data.shares)
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
            _pull_back_moved(kind, width, used, nothing, units, tangents, at, changes[last % 2], moved[last % 2], to)
            _backward_tangents(vector, direction, layers, space, x, begin, used, units, tangents, changes, moved, sums)
        _write_out(layers, space, sums, products[v])
