"""Layers of the dense form as tables: which units each is made of, and where its parameters are.

Units are lines, position by position and in each of these channel by channel; along a line lie the rows of data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from topolandscape.landscape.kernels.convolution import Geometry, listed, meetings
from topolandscape.landscape.kernels.products import ONES, OTHERS
from topolandscape.landscape.pooling import Windows
from topolandscape.structures import Floats, Integers

ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid")
IDENTITY, RELU, TANH, SIGMOID = range(len(ACTIVATIONS))
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


class Layers(NamedTuple):
    """The layers of a network.

    Attributes
    ----------
    table
        A record for each layer, (layers,): kind, activation, weight and bias as in `Layer`; inner and outer, the
        channels before it and its own; before and after, the positions before it and its own; taps of its kernel;
        sources, its first list of those that tell of which positions each of its own is made; uses, the first of those
        that tell what is made of each position before it; groups, its first group of patches, and others, the
        lines in all of them; source and units, the first lines of the units before it and of its own; sums, the first
        entry of its correlations.
    start, place, tap
        Lists: the first entry of each, and the end; positions, and the taps of the kernel that lead there, or the
        windows in which they are.
    shares
        What an entry of each window of a layer counts in the mean; the first is that of the layer's first list.
    groups, patches
        Groups of `OTHERS` of what the entries of a weight, tap by tap, and at last the bias, meet: the first row of
        each, and the end; rows (1 + `OTHERS`), flat, of a position of the layer and of the lines before it.
    lines, most, sums
        Lines of all units, and of the most that one layer has; entries of all correlations.
    """

    table: Any
    start: Integers
    place: Integers
    tap: Integers
    shares: Floats
    groups: Integers
    patches: Integers
    lines: int
    most: int
    sums: int


def layers_of(channels: int, positions: int, parts: Sequence[Layer]) -> Layers:
    """Return the tables of a network, given the channels and positions of its inputs."""
    records: list[dict[str, int]] = []
    found: list[_Met] = []
    lists = groups = source = lines = sums = most = 0
    for part in parts:
        met = (
            _of_product(channels, part.places)
            if isinstance(part.places, Geometry)
            else _of_windows(positions, part.places)
        )
        after, others = len(met.sources.start) - 1, OTHERS * (len(met.groups) - 1)
        records.append(
            {
                "kind": part.kind,
                "activation": part.activation,
                "weight": part.weight,
                "bias": part.bias,
                "inner": channels,
                "outer": part.channels,
                "before": positions,
                "after": after,
                "taps": met.taps,
                "sources": lists,
                "uses": lists + len(met.sources.start),
                "groups": groups,
                "others": others,
                "source": source,
                "units": lines,
                "sums": sums,
            }
        )
        found.append(met)
        channels, positions, source = part.channels, after, lines
        lists += len(met.sources.start) + len(met.uses.start)
        groups += len(met.groups)
        lines += after * channels + 2  # one of zeros and one of ones
        sums += -(-channels // ONES) * ONES * others
        most = max(most, after * channels + ONES)
    both = [one for met in found for one in (met.sources, met.uses)]
    return Layers(
        np.array([tuple(record.values()) for record in records], [(name, np.int64) for name in records[0]]),
        _joined([one.start for one in both]),
        np.concatenate([one.place for one in both]),
        np.concatenate([one.tap for one in both]),
        np.concatenate([met.shares for met in found]),
        _joined([met.groups for met in found]),
        np.concatenate([met.patches for met in found]).ravel(),
        lines,
        most,
        sums,
    )


class _Lists(NamedTuple):
    start: Integers  # first entry of each, and the end
    place: Integers
    tap: Integers


class _Met(NamedTuple):
    sources: _Lists
    uses: _Lists
    shares: Floats
    groups: Integers  # first row of each, and the end
    patches: Integers
    taps: int


def _of_product(channels: int, geometry: Geometry) -> _Met:
    found = meetings(geometry)
    # The line behind the units is one of zeros, for the padding; then comes one of ones, which the bias meets.
    nothing, one = (channels * math.prod(geometry.positions) + i for i in range(2))
    by_tap = found.by_tap[:, None]
    met = np.where(by_tap < 0, nothing, by_tap * channels + np.arange(channels)[:, None]).reshape(-1, by_tap.shape[2])
    bias, rest = (
        np.full((count, met.shape[1]), line) for count, line in ((1, one), (-(len(met) + 1) % OTHERS, nothing))
    )
    lines = np.concatenate([met, bias, rest]).reshape(-1, OTHERS, met.shape[1]).transpose(0, 2, 1)
    group, place = np.nonzero((lines != nothing).any(2))
    return _Met(
        sources := _Lists(*found.by_output),
        uses := _Lists(*found.by_input),
        np.ones(len(sources.start) + len(uses.start)),
        np.searchsorted(group, np.arange(len(lines) + 1)),
        np.column_stack([place, lines[group, place]]),
        len(by_tap),
    )


def _of_windows(positions: int, windows: Windows) -> _Met:
    window, column = np.nonzero(windows.entries >= 0)
    place = windows.entries[window, column]
    return _Met(
        _Lists(*listed(window, place, window, len(windows.entries))),
        _Lists(*listed(place, window, window, positions)),
        np.concatenate([1 / windows.sizes, np.zeros(positions + 2)]),
        np.zeros(1, np.int64),
        np.empty((0, 1 + OTHERS), np.int64),
        0,
    )


def _joined(starts: Sequence[Integers]) -> Integers:
    """Return the first entries of lists that come one after the other."""
    before = np.cumsum([0, *(int(start[-1]) for start in starts)])
    return np.concatenate([start.astype(np.int64) + shift for start, shift in zip(starts, before, strict=False)])
