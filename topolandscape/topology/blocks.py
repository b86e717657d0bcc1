"""Merge trees of grids that do not fit in memory, block by block, exactly.

A box of the grid touches the others in its faces alone. Below a link between two of its components of which one does
not reach a face, nothing outside can matter: the link is settled. What remains of the box are the vertices on its
faces, each as the stop to which it descends within the box, and a spanning forest of these stops, of the links that may
yet turn out to close a cycle. Boxes are halves of boxes; where two meet again, the pairs of vertices on both sides of
the cut are links, and the same reduction leaves the faces of both. Links are compared by (value, row of the vertex at
which they enter) wherever they were found, so the settled ones, sorted, are those that join in the whole grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from topolandscape.structures import CONNECTIVITIES, Connectivity, Floats, Integers, MergeTree
from topolandscape.structures.journal import Store
from topolandscape.topology.climbing import leaves_and_points, summed_up
from topolandscape.topology.complexes import Nonfinite, entering
from topolandscape.topology.joining import Joined, Links, concatenated, joined_stops, parents, root
from topolandscape.topology.merge import grid_basins, grid_links, neighbour_offsets
from topolandscape.topology.reduced import Box, Face, Found, Reduced
from topolandscape.topology.sorting import ascending_rows

# Bytes of a vertex: in a block, on a face that waits, on a face that is being joined to another.
_BLOCK, _FACE, _ACROSS = 150, 12, 80


class Sliced(Protocol):
    """An array that gives boxes of itself: numpy's, also one on disk, h5py's and the like."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each axis."""

    def __getitem__(self, box: Box, /) -> ArrayLike:
        """Return the values of a box."""


class Cut(NamedTuple):
    """A box as two halves along an axis, which may be cut further."""

    axis: int
    low: Cut | Box
    high: Cut | Box


def merge_tree_in_blocks(
    grid: Sliced,
    *,
    connectivity: Connectivity = "axis",
    nonfinite: Nonfinite = "raise",
    block: int = 2**22,
    store: Store | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> MergeTree:
    """Track the components of the sublevel sets of a grid of which only a block is in memory at a time.

    Parameters
    ----------
    grid
        Values of the vertices: an array, ``numpy.load(file, mmap_mode="r")``, or whatever is sliced like one. It is
        read twice.
    connectivity
        Which vertices are neighbours, as in `GridComplex`.
    nonfinite
        ``"raise"``: refuse NaN and infinite losses; ``"infinite"``: such points never enter.
    block
        Largest number of vertices in memory at once. A block takes about 60 bytes for each; its faces, and those of
        the blocks that wait for their neighbours, 12 bytes a vertex: a few layers of the grid in all.
    store
        Where reduced blocks are kept on the way, as `Run.store` gives it, so that the same call goes on where one that
        was stopped had come; of this grid alone. None: nowhere.
    provenance
        How the grid was made.

    Returns
    -------
    MergeTree
        Equal to `merge_tree` of the whole, to the bit; but without `basin`, which is as large as the grid.

    Notes
    -----
    Linear in the vertices, but for the sorting of links between basins. Memory beyond the blocks grows with the tree,
    by some 200 bytes a minimum. Merge trees of blocks of which only the boundary is kept: Pascucci and Cole-McLaughlin
    (2003), Morozov and Weber (2013).

    Examples
    --------
    >>> losses = np.array([[0.0, 3.0, 1.0]] * 4)
    >>> tree = merge_tree_in_blocks(losses, block=3)
    >>> tree.value.tolist(), tree.parent.tolist(), tree.size.tolist()
    ([0.0, 1.0, 3.0], [2, 2, -1], [4, 4, 12])
    """
    shape = tuple(int(side) for side in grid.shape)
    if math.prod(shape) < 2:
        raise ValueError(f"a grid of shape {shape} has {math.prod(shape)} point(s); it needs at least two.")
    if connectivity not in CONNECTIVITIES:
        raise ValueError(f"connectivity is {connectivity!r}; it must be one of {', '.join(CONNECTIVITIES)}.")
    if block < 1:
        raise ValueError(f"block is {block}; it must be at least 1 vertex.")
    cut = halved(tuple(slice(0, side) for side in shape), block)
    return merge_tree_of_cut(_Grid(grid, shape, connectivity, nonfinite), cut, provenance or {}, store)


def halved(box: Box, most: int) -> Cut | Box:
    """Return a box cut into halves until each has at most so many vertices.

    The first axes are cut, unless they are already less than half as long as the longest: so a box is made of long
    runs of the whole, and yet has small faces.
    """
    sides = [side.stop - side.start for side in box]
    if math.prod(sides) <= most:
        return box
    axis = _longest(sides)
    middle = (box[axis].start + box[axis].stop) // 2
    low, high = slice(box[axis].start, middle), slice(middle, box[axis].stop)
    return Cut(axis, *(halved((*box[:axis], half, *box[axis + 1 :]), most) for half in (low, high)))


def _longest(sides: Sequence[int]) -> int:
    """Return the first axis that is at least half as long as the longest."""
    return next(axis for axis, side in enumerate(sides) if side > 1 and 2 * side >= max(sides))


def block_within(shape: tuple[int, ...], memory: float) -> int:
    """Return the largest block with which `merge_tree_in_blocks` takes at most `memory` bytes for blocks and faces.

    Parameters
    ----------
    shape
        Of the grid.
    memory
        Bytes.

    Returns
    -------
    int
        A power of two, 2^22 at most: larger blocks are no faster.

    Raises
    ------
    ValueError
        Faces of the grid take more, however small the blocks.

    Examples
    --------
    >>> block_within((1000, 1000, 1000), 2**30)
    4194304
    """
    whole = tuple(slice(0, side) for side in shape)
    # What the first cut takes alone, before all others are looked at, of which there may be too many.
    needed = (2 * _FACE + _ACROSS) * math.prod(map(float, shape)) / shape[_longest(shape)]
    if needed <= memory:
        for block in (2**power for power in range(22, 13, -2)):
            needed = _bytes(halved(whole, block), shape)[0]
            if needed <= memory:
                return block
    raise ValueError(
        f"a grid of shape {shape} takes at least {needed / 2**30:.3g} GiB for its blocks and their faces, and "
        f"{memory / 2**30:.3g} are allowed. Allow more, or take fewer points along the axes."
    )


def _bytes(cut: Cut | Box, shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the bytes that the reduction of a box takes at its height, and those of its faces that remain."""
    box = _box(cut)
    sides = [side.stop - side.start for side in box]
    volume = math.prod(sides)
    open_ends = ((side.start > 0) + (side.stop < n) for side, n in zip(box, shape, strict=True))
    faces = _FACE * sum(volume / side * ends for side, ends in zip(sides, open_ends, strict=True))
    if not isinstance(cut, Cut):
        return _BLOCK * volume + faces, faces
    (low_height, low), (high_height, high) = _bytes(cut.low, shape), _bytes(cut.high, shape)
    across = _ACROSS * volume / sides[cut.axis]
    return max(low_height, low + high_height, low + high + faces + across), faces


def _box(cut: Cut | Box) -> Box:
    """Return the box that is cut."""
    if not isinstance(cut, Cut):
        return cut
    low, high = _box(cut.low), _box(cut.high)
    return (*low[: cut.axis], slice(low[cut.axis].start, high[cut.axis].stop), *low[cut.axis + 1 :])


def merge_tree_of_cut(
    grid: _Grid, cut: Cut | Box, provenance: Mapping[str, Any], store: Store | None = None
) -> MergeTree:
    """Return the merge tree of a grid that is cut in some way."""
    found = Found(store, f"{grid.shape} {grid.connectivity} {grid.nonfinite} {list(_boxes(cut))}")
    _reduced(grid, cut, found)
    found.write()
    vertices, values = np.concatenate(found.vertices), np.concatenate(found.values)
    order = np.lexsort((vertices, values))
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    links = concatenated(found.settled)
    links = links._replace(one=number[links.one], other=number[links.other])
    joined = joined_stops(values[order], links, _by_value_and_name(links), np.arange(len(order)))

    parent = parents(joined)
    minima = vertices[order][joined.leaves]
    simplex = np.concatenate([minima, joined.saddles])
    return MergeTree(
        simplex=simplex,
        vertex=simplex,
        value=np.concatenate([values[order][joined.leaves], joined.saddle_values]),
        parent=parent,
        size=_sizes(grid, cut, joined, parent, number, found),
        basin=np.empty(0, dtype=np.int64),
        provenance=provenance,
    )


def _sizes(grid: _Grid, cut: Cut | Box, joined: Joined, parent: Integers, number: Integers, found: Found) -> Integers:
    """Return the size of every node: each block's vertices counted in turn."""
    points = np.zeros(len(parent), dtype=np.int64)
    done, first = found.counted(points)
    for place, box in enumerate(islice(_boxes(cut), done, None), done):
        found.count(points, place, first)
        values = grid.read(box)
        basins = grid_basins(values, grid.connectivity)
        leaf_of_stop = joined.leaf[number[first : first + len(basins.stops)]]
        first += len(basins.stops)
        points += leaves_and_points(parent, joined.saddle_values, values.reshape(-1), basins.stop_of, leaf_of_stop)[1]
    return summed_up(parent, points)


class _Grid(NamedTuple):
    """Where the values of a grid come from, and who is whose neighbour."""

    source: Sliced
    shape: tuple[int, ...]
    connectivity: Connectivity
    nonfinite: Nonfinite

    def read(self, box: Box) -> Floats:
        """Return the values of a box."""
        values = np.ascontiguousarray(self.source[box], dtype=np.float64)
        return entering(values, self.nonfinite, names=lambda rows: self.rows(box).reshape(-1)[rows])

    def rows(self, box: Box) -> Integers:
        """Return the rows of the vertices of a box, in its shape."""
        axes = (np.arange(side.start, side.stop) * stride for side, stride in zip(box, self.strides, strict=True))
        return sum(np.ix_(*axes), np.zeros((), dtype=np.int64))

    @property
    def strides(self) -> list[int]:
        """Rows from a vertex to the next along each axis."""
        return [math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape))]


# --------------------------------------------------------------------------------------------------------------
# Boxes reduced and joined
# --------------------------------------------------------------------------------------------------------------


def _reduced(grid: _Grid, cut: Cut | Box, found: Found) -> Reduced:
    """Reduce a box, its halves before it; what is certain goes to `found`."""
    if (known := found.taken(_box(cut))) is not None:
        return known
    if isinstance(cut, Cut):
        halves = _reduced(grid, cut.low, found), _reduced(grid, cut.high, found)
        return found.add(_rejoined(grid, cut.axis, *halves, found), halves)
    values = grid.read(cut)
    basins, links = grid_links(values, grid.connectivity)
    first = sum(map(len, found.vertices))
    rows = grid.rows(cut).reshape(-1)
    found.vertices.append(rows[basins.stops])
    found.values.append(basins.values)
    links = Links(links.one.astype(np.int64), links.other.astype(np.int64), links.value, rows[links.name])
    nodes = basins.stop_of.reshape(values.shape)
    faces = {}
    for axis, side in enumerate(cut):
        for end, outside in ((0, side.start == 0), (1, side.stop == grid.shape[axis])):
            if not outside:
                layer = (slice(None),) * axis + (slice(-1, None) if end else slice(1),)
                faces[axis, end] = Face(values[layer].copy(), nodes[layer].astype(np.int32))
    # Rows of a box are in the order of the whole, so those of links are, too.
    order = ascending_rows(links.value)
    return found.add(_contracted(cut, first + np.arange(len(basins.stops)), links, order, faces, found))


def _rejoined(grid: _Grid, axis: int, low: Reduced, high: Reduced, found: Found) -> Reduced:
    """Join two reduced boxes that were one before it was cut along an axis."""
    shift = len(low.stops)
    above = {key: face._replace(node=face.node + np.int32(shift)) for key, face in high.faces.items()}
    shifted = high.links._replace(one=high.links.one + shift, other=high.links.other + shift)
    across = _crossing(grid, axis, low.box, low.faces[axis, 1], above[axis, 0])
    links = concatenated([low.links, shifted, *across])
    faces = {
        key: Face(
            np.concatenate([face.values, above[key].values], axis=axis),
            np.concatenate([face.node, above[key].node], axis=axis),
        )
        for key, face in low.faces.items()
        if key[0] != axis
    }
    for end, half in ((0, low.faces), (1, above)):
        if (axis, end) in half:
            faces[axis, end] = half[axis, end]
    box = _box(Cut(axis, low.box, high.box))
    return _contracted(box, np.concatenate([low.stops, high.stops]), links, _by_value_and_name(links), faces, found)


def _contracted(
    box: Box,
    stops: Integers,
    links: Links,
    order: Integers,
    faces: Mapping[tuple[int, int], Face],
    found: Found,
) -> Reduced:
    """Keep the nodes that vertices on the faces descend to, and a forest of them; settle the other links that join."""
    kept = np.zeros(len(stops), dtype=np.bool_)
    for face in faces.values():
        kept[face.node] = True
    settled, waiting, one, other = _settle(kept, links.one, links.other, order)
    found.settled.append(
        Links(stops[links.one[settled]], stops[links.other[settled]], links.value[settled], links.name[settled])
    )
    number = np.cumsum(kept) - 1
    faces = {key: face._replace(node=number[face.node].astype(np.int32)) for key, face in faces.items()}
    return Reduced(
        box, stops[kept], Links(number[one], number[other], links.value[waiting], links.name[waiting]), faces
    )


def _crossing(grid: _Grid, axis: int, box: Box, low: Face, high: Face) -> Iterator[Links]:
    """Yield the links between two faces that touch, of runs between the same two nodes the first to enter."""
    strides = np.array(grid.strides)
    layer = (*box[:axis], slice(box[axis].stop - 1, box[axis].stop), *box[axis + 1 :])
    rows = grid.rows(layer)
    offsets = neighbour_offsets(len(box), grid.connectivity)
    for offset in offsets[offsets[:, axis] == 1]:
        sideways = np.where(np.arange(len(box)) == axis, 0, offset)
        here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(sideways, rows.shape, strict=True))
        there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(sideways, rows.shape, strict=True))
        parts = (low.values[here], low.node[here], high.values[there], high.node[there], rows[here])
        values, node, values_there, node_there, names = (np.ascontiguousarray(part).reshape(-1) for part in parts)
        yield Links(*_across(values, node, values_there, node_there, names, int(offset @ strides)))


def _by_value_and_name(links: Links) -> Integers:
    return np.lexsort((links.name, links.value))


def _boxes(cut: Cut | Box) -> Iterator[Box]:
    """Yield the boxes that are not cut further, in the order in which they are reduced."""
    if isinstance(cut, Cut):
        yield from _boxes(cut.low)
        yield from _boxes(cut.high)
    else:
        yield cut


# --------------------------------------------------------------------------------------------------------------
# Compiled kernels
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _settle(kept, one, other, order):  # type: ignore[no-untyped-def]
    """Take links in `order`; return those that join for certain, and those that join two components with kept nodes.

    Of the latter there are the links, and for each a kept node of either component.
    """
    parent = np.arange(len(kept))  # the root of a component with kept nodes is one of them
    settled = np.empty(len(order), dtype=np.int64)
    waiting = np.empty(len(order), dtype=np.int64)
    here_kept = np.empty(len(order), dtype=np.int64)
    there_kept = np.empty(len(order), dtype=np.int64)
    certain = uncertain = 0
    for link in order:
        here, there = root(parent, one[link]), root(parent, other[link])
        if here == there:
            continue
        if kept[here] and kept[there]:
            waiting[uncertain] = link
            here_kept[uncertain] = here
            there_kept[uncertain] = there
            uncertain += 1
        else:
            settled[certain] = link
            certain += 1
        if kept[here]:
            parent[there] = here
        else:
            parent[here] = there
    return (
        settled[:certain].copy(),
        waiting[:uncertain].copy(),
        here_kept[:uncertain].copy(),
        there_kept[:uncertain].copy(),
    )


@njit(cache=True)
def _across(values, nodes, values_there, nodes_there, rows, step):  # type: ignore[no-untyped-def]
    """Return (node, node there, value, row) of the links from vertices to those that are `step` rows further."""
    one = np.empty(len(values), dtype=np.int64)
    other = np.empty(len(values), dtype=np.int64)
    entered = np.empty(len(values), dtype=np.float64)
    name = np.empty(len(values), dtype=np.int64)
    count = 0
    for i in range(len(values)):
        later = values_there[i] > values[i] or (values_there[i] == values[i] and step > 0)
        value = values_there[i] if later else values[i]
        row = rows[i] + step if later else rows[i]
        if value == np.inf:
            continue
        if count > 0 and one[count - 1] == nodes[i] and other[count - 1] == nodes_there[i]:
            last = count - 1
            if value < entered[last] or (value == entered[last] and row < name[last]):
                entered[last] = value
                name[last] = row
            continue
        one[count] = nodes[i]
        other[count] = nodes_there[i]
        entered[count] = value
        name[count] = row
        count += 1
    return one[:count].copy(), other[:count].copy(), entered[:count].copy(), name[:count].copy()
