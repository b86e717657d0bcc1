"""Layers of the dense form as tables: which units each is made of, and where its parameters are.

Units are lines, position by position and in each of these channel by channel; along a line lie the rows of data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from topolandscape.landscape.kernels.convolution import Geometry, meetings
from topolandscape.landscape.kernels.products import OTHERS
from topolandscape.landscape.pooling import Windows
from topolandscape.structures import Floats, Integers

ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid")
PRODUCT, MEAN, LARGEST = range(3)


class Layer(NamedTuple):
    """One layer.

    Attributes
    ----------
    kind
        `PRODUCT`, `MEAN` or `LARGEST`.
    channels
        Of its units.
    places
        Where its units come from: of a product the positions and the kernel, which are one and the same where a linear
        layer takes all of them; else the windows.
    weight, bias
        First entry of the weight (out, in, taps) and of the bias (out,) in a vector, -1 for none.
    activation
        Row in `ACTIVATIONS` of what follows.
    """

    kind: int
    channels: int
    places: Geometry | Windows
    weight: int = -1
    bias: int = -1
    activation: int = 0


class Lists(NamedTuple):
    """A list of other positions for each position of each layer.

    Attributes
    ----------
    first
        Where the positions of each layer begin in `start`, (layers,).
    start
        First entry of each list, and the end of the last one of a layer.
    place, tap
        Entries: the other position, and the tap of the kernel between the two.
    """

    first: Integers
    start: Integers
    place: Integers
    tap: Integers


class Patches(NamedTuple):
    """What each entry of a weight, and at last the bias, meets: groups of `OTHERS` of them, tap by tap.

    Attributes
    ----------
    first
        First group of each layer, and the end.
    start
        First entry of each group, and the end.
    lines
        Entries (1 + `OTHERS`), flat: a position of the layer, and the lines before it that it meets there.
    """

    first: Integers
    start: Integers
    lines: Integers


class Layers(NamedTuple):
    """The layers of a network.

    Attributes
    ----------
    kinds, weights, biases, activations
        As in `Layer`, (layers,).
    channels, positions
        Of the inputs and of each layer, (layers + 1,).
    taps
        Of the kernels, (layers,).
    sources
        The positions before it of which each position is made.
    uses
        The positions that a product makes of each of the ones before it.
    shares
        Of the mean over each list of `sources`: one over the size of the window.
    patches
        For the gradient in the weights.
    """

    kinds: Integers
    weights: Integers
    biases: Integers
    activations: Integers
    channels: Integers
    positions: Integers
    taps: Integers
    sources: Lists
    uses: Lists
    shares: Floats
    patches: Patches


def layers_of(channels: int, positions: int, parts: Sequence[Layer]) -> Layers:
    """Return the tables of a network, given the channels and positions of its inputs."""
    all_channels, all_positions, taps = [channels], [positions], []
    sources, uses, patches, shares = [], [], [], []
    for part in parts:
        if isinstance(part.places, Geometry):
            found = meetings(part.places)
            sources.append(found.by_output)
            uses.append(found.by_input)
            patches.append(_patches(all_channels[-1], all_positions[-1], found.by_tap))
            shares.append(np.ones(len(found.by_output[0])))
            taps.append(len(found.by_tap))
            all_positions.append(len(found.by_output[0]) - 1)
        else:
            entries = part.places.entries
            inside = entries >= 0
            start = np.concatenate([[0], np.cumsum(inside.sum(1))])
            sources.append((start, entries[inside], np.zeros(start[-1], np.int64)))
            uses.append(_NONE)
            patches.append((np.zeros(1, np.int64), np.empty((0, 1 + OTHERS), np.int64)))
            shares.append(np.append(1 / part.places.sizes, 1.0))
            taps.append(0)
            all_positions.append(len(entries))
        all_channels.append(part.channels)
    return Layers(
        *(_integers([part[at] for part in parts]) for at in (0, 3, 4, 5)),
        _integers(all_channels),
        _integers(all_positions),
        _integers(taps),
        _joined(sources),
        _joined(uses),
        np.concatenate(shares),
        _all_patches(patches),
    )


def _integers(numbers: Any) -> Integers:
    return np.asarray(numbers, np.int64)


_NONE = (np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


def _joined(lists: Sequence[tuple[Integers, Integers, Integers]]) -> Lists:
    """Return the lists (start, place, tap) of all layers one after the other."""
    starts, places, taps = zip(*lists, strict=True)
    first = np.cumsum([0, *map(len, starts[:-1])])
    before = np.cumsum([0, *map(len, places[:-1])])
    start = [_integers(own) + shift for own, shift in zip(starts, before, strict=True)]
    return Lists(first, np.concatenate(start), np.concatenate(places), np.concatenate(taps))


def _patches(channels: int, positions: int, by_tap: Integers) -> tuple[Integers, Integers]:
    """Return the first entry of each group and the end, and the entries (any, 1 + OTHERS).

    The line behind the units is one of zeros, for the padding; then comes one of ones, which the bias meets.
    """
    nothing, one = channels * positions, channels * positions + 1
    met = np.where(by_tap < 0, nothing, by_tap * channels)[:, None] + np.arange(channels)[:, None]
    met = np.where(by_tap[:, None] < 0, nothing, met).reshape(-1, by_tap.shape[1])
    bias = np.full((1, met.shape[1]), one)
    rest = np.full((-(len(met) + 1) % OTHERS, met.shape[1]), nothing)
    groups = np.concatenate([met, bias, rest]).reshape(-1, OTHERS, met.shape[1]).transpose(0, 2, 1)
    group, place = np.nonzero((groups != nothing).any(2))
    start = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(groups)))])
    return start, np.column_stack([place, groups[group, place]])


def _all_patches(patches: Sequence[tuple[Integers, Integers]]) -> Patches:
    starts, lines = zip(*patches, strict=True)
    before = np.cumsum([0, *map(len, lines)])
    start = [own[:-1] + shift for own, shift in zip(starts, before[:-1], strict=True)]
    first = np.cumsum([0, *map(len, start)])
    return Patches(first, np.concatenate([*start, before[-1:]]), np.concatenate(lines).ravel())
