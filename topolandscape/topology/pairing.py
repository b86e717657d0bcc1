"""Which critical cell ends the class that another begins: pairs of a Morse complex over the field of two elements.

Degree 0 needs no matrix: a critical edge joins the components of the two minima below it, and union-find with the
elder rule pairs it. So does the highest degree of a grid, where a critical cell of dimension d - 1 separates the two
top cells above it, read from the top down. What is left for the reduction of a matrix are the degrees between, and
there only the cells that are not paired yet (Guillou, Vidal and Tierny 2023; clearing: Chen and Kerber 2011). With the
field at hand the matrix is never made: a boundary is pushed down along the field, its last cell first, until that cell
is critical.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from topolandscape.structures import GradientField, GridComplex, Integers, MorseComplex
from topolandscape.topology.critical import Critical, entry
from topolandscape.topology.flow import ends_down, ends_up
from topolandscape.topology.gradient import above, facets_into, is_critical
from topolandscape.topology.joining import root


def pairs_of_complex(morse: MorseComplex) -> Integers:
    """Return for each row of a Morse complex the row with which it is paired, (c,); -1: essential.

    The earlier row of a pair begins a class, the later one ends it.
    """
    odd = morse.coefficient % 2 != 0
    arcs = morse.arcs[odd, :2]
    arcs = arcs[np.lexsort((arcs[:, 1], arcs[:, 0]))]
    partner = np.full(len(morse), -1)
    between = []
    for k in range(1, morse.dimension + 1):
        higher, lower = arcs[morse.index[arcs[:, 0]] == k].T
        for one, other, join in ((higher, lower, join_from_below), (lower, higher, join_from_above)):
            if np.bincount(one).max(initial=0) <= 2:
                _join(partner, *_two_ends(one, other), join)
                break
        else:
            between.append(k)
    for k in reversed(between):
        chosen = morse.index[arcs[:, 0]] == k
        chosen &= partner[arcs[:, 0]] < 0
        _reduce_between(partner, morse.index, k, *arcs[chosen].T)
    return partner


def pairs_of_field(field: GradientField, critical: Critical, max_dim: int) -> Integers:
    """Return the pairs of a gradient field in degrees up to `max_dim`, as `pairs_of_complex` does.

    V-paths are followed no further than to the cell that is paired. Rows of index above `max_dim` that end nothing are
    -1.
    """
    partner = np.full(len(critical.cell), -1)
    _join(partner, *ends_down(field, critical), join_from_below)
    top = int(critical.index.max(initial=0))
    if isinstance(field.complex, GridComplex):
        dimension = len(critical.cells.shape)
        if dimension > 1 and max_dim >= dimension - 2:
            _join(partner, *ends_up(field, critical)[:2], join_from_above)
            top = dimension - 1
    complex = field.complex
    values = complex.vertex_values if isinstance(complex, GridComplex) else np.concatenate(complex.values)
    for k in range(min(top, max_dim + 1), 1, -1):
        columns = np.flatnonzero((critical.index == k) & (partner < 0))
        rows = np.flatnonzero((critical.index == k - 1) & (partner < 0))
        rows = rows[np.argsort(critical.cell[rows])]
        found = _reduce_cells(critical.cell[columns], critical.cell[rows], critical.cells, field.partner, values)
        begun = np.flatnonzero(found >= 0)
        partner[rows[begun]] = columns[found[begun]]
        partner[columns[found[begun]]] = rows[begun]
    return partner


def _two_ends(one: Integers, other: Integers) -> tuple[Integers, Integers]:
    """Return the rows that occur in `one`, and for each its up to two others, -1 to fill up."""
    order = np.argsort(one, kind="stable")
    rows, first, count = np.unique(one[order], return_index=True, return_counts=True)
    ends = np.full((len(rows), 2), -1)
    ends[:, 0] = other[order][first]
    ends[count == 2, 1] = other[order][first[count == 2] + 1]
    return rows, ends


def _join(partner: Integers, rows: Integers, ends: Integers, join: Callable[..., Integers]) -> None:
    paired = join(len(partner), rows, ends)
    both = paired >= 0
    partner[rows[both]] = paired[both]
    partner[paired[both]] = rows[both]


def _reduce_between(partner: Integers, index: Integers, k: int, higher: Integers, lower: Integers) -> None:
    """Pair rows of index `k` - 1 and `k`, given the odd arcs of the columns that matter, by (higher, lower)."""
    kept = partner[lower] < 0  # what ends a class begins none
    higher, lower = higher[kept], lower[kept]
    columns, starts = np.unique(higher, return_index=True)
    rows = np.flatnonzero((index == k - 1) & (partner < 0))
    found = reduce(np.append(starts, len(higher)), np.searchsorted(rows, lower), len(rows))
    begun = np.flatnonzero(found >= 0)
    partner[rows[begun]] = columns[found[begun]]
    partner[columns[found[begun]]] = rows[begun]


# --------------------------------------------------------------------------------------------------------------
# Compiled
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def join_from_below(count, rows, ends):  # type: ignore[no-untyped-def]
    """Pair each of `rows`, upwards, with the later of the two components that it joins; -1 is before all."""
    parent = np.arange(count + 1)  # numbers are raised by one
    paired = np.full(len(rows), -1, dtype=np.int64)
    for i in range(len(rows)):
        elder, younger = root(parent, ends[i, 0] + 1), root(parent, ends[i, 1] + 1)
        if elder != younger:
            elder, younger = min(elder, younger), max(elder, younger)
            parent[younger] = elder
            paired[i] = younger - 1
    return paired


@njit(cache=True)
def join_from_above(count, rows, ends):  # type: ignore[no-untyped-def]
    """Pair each of `rows`, downwards, with the earlier of the two components that it separates; -1 is after all."""
    parent = np.arange(count + 1)
    paired = np.full(len(rows), -1, dtype=np.int64)
    for i in range(len(rows) - 1, -1, -1):
        one, other = ends[i, 0], ends[i, 1]
        elder, younger = root(parent, one if one >= 0 else count), root(parent, other if other >= 0 else count)
        if elder != younger:
            elder, younger = max(elder, younger), min(elder, younger)
            parent[younger] = elder
            paired[i] = younger
    return paired


@njit(cache=True, inline="always")
def _last_bit(word):  # type: ignore[no-untyped-def]
    place = 0
    for width in (32, 16, 8, 4, 2, 1):
        if word >> np.uint64(width):
            word >>= np.uint64(width)
            place += width
    return place


@njit(cache=True)
def _toggle(bits, offsets, row):  # type: ignore[no-untyped-def]
    """Add a row to a column, or take it out; each bit of a level says whether a word of the level below is not 0."""
    for level in range(len(offsets)):
        word = offsets[level] + (row >> 6)
        before = bits[word]
        bits[word] ^= np.uint64(1) << np.uint64(row & 63)
        if (before == 0) == (bits[word] == 0):
            break
        row >>= 6


@njit(cache=True)
def _last(bits, offsets):  # type: ignore[no-untyped-def]
    """Return the last row of a column, -1 for none."""
    row = 0
    for level in range(len(offsets) - 1, -1, -1):
        word = bits[offsets[level] + row]
        if word == 0:
            return -1
        row = (row << 6) + _last_bit(word)
    return row


@njit(cache=True)
def reduce(starts, entries, count):  # type: ignore[no-untyped-def]
    """Reduce a matrix over the field of two elements by its columns.

    ``entries[starts[j]:starts[j + 1]]`` are the rows of column j. Returns for each of `count` rows the column of
    which it becomes the last row, -1 for none. The column at work is a tree of bits (Bauer, Kerber, Reininghaus and
    Wagner 2017).
    """
    levels = 1
    size = (count >> 6) + 1
    total = size
    while size > 1:
        size = (size >> 6) + 1
        total += size
        levels += 1
    offsets = np.zeros(levels, dtype=np.int64)
    size = (count >> 6) + 1
    for level in range(1, levels):
        offsets[level] = offsets[level - 1] + size
        size = (size >> 6) + 1
    bits = np.zeros(total, dtype=np.uint64)
    owner = np.full(count, -1, dtype=np.int64)  # the column that is kept with this last row
    first = np.zeros(count, dtype=np.int64)
    after = np.zeros(count, dtype=np.int64)
    kept = np.empty(len(entries) + 64, dtype=np.int64)
    used = 0
    for column in range(len(starts) - 1):
        begin, end = starts[column], starts[column + 1]
        if begin == end:
            continue
        last = entries[begin]
        for i in range(begin + 1, end):
            last = max(last, entries[i])
        for i in range(begin, end):
            _toggle(bits, offsets, entries[i])
        while last >= 0 and owner[last] >= 0:
            for i in range(first[last], after[last]):
                _toggle(bits, offsets, kept[i])
            last = _last(bits, offsets)
        if last < 0:
            continue
        owner[last] = column
        first[last] = used
        row = last
        while row >= 0:
            if used == len(kept):
                kept = np.concatenate((kept, np.empty(used, dtype=np.int64)))
            kept[used] = row
            used += 1
            _toggle(bits, offsets, row)
            row = _last(bits, offsets)
        after[last] = used
    return owner


@njit(cache=True)
def _sink(value, code, cell, at, size):  # type: ignore[no-untyped-def]
    """Put the entry at a place of a heap, the last first, where it belongs below."""
    while True:
        largest = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < size and _before(value, code, cell, largest, child):
                largest = child
        if largest == at:
            return
        _swap(value, code, cell, at, largest)
        at = largest


@njit(cache=True)
def _rise(value, code, cell, at):  # type: ignore[no-untyped-def]
    while at > 0 and _before(value, code, cell, (at - 1) // 2, at):
        _swap(value, code, cell, at, (at - 1) // 2)
        at = (at - 1) // 2


@njit(cache=True, inline="always")
def _before(value, code, cell, one, other):  # type: ignore[no-untyped-def]
    if value[one] != value[other]:
        return value[one] < value[other]
    if code[one] != code[other]:
        return code[one] < code[other]
    return cell[one] < cell[other]


@njit(cache=True, inline="always")
def _swap(value, code, cell, one, other):  # type: ignore[no-untyped-def]
    value[one], value[other] = value[other], value[one]
    code[one], code[other] = code[other], code[one]
    cell[one], cell[other] = cell[other], cell[one]


@njit(cache=True)
def _reduce_cells(columns, rows, cells, partner, values):  # type: ignore[no-untyped-def]
    """Pair critical cells of one dimension with those above, `columns` in their order, by their boundaries.

    The chain at work is a heap of cells, the last first; a cell that stands there twice is gone. A cell that is paired
    with a larger one is replaced by the rest of that one's boundary, which lies below, but for other cells of one
    vertex's star: of these the critical ones are looked at last. Returns for each of `rows`, by increasing number, the
    place in `columns` of the cell that ends its class, -1 for none.
    """
    owner = np.full(len(rows), -1, dtype=np.int64)
    first = np.zeros(len(rows), dtype=np.int64)
    after = np.zeros(len(rows), dtype=np.int64)
    kept, kept_code = np.empty(1024, dtype=np.int64), np.empty(1024, dtype=np.int64)
    used = 0
    value, code, cell = np.empty(64), np.empty(64, dtype=np.int64), np.empty(64, dtype=np.int64)
    found = np.empty(cells.widest, dtype=np.int64)
    signs = np.empty(cells.widest, dtype=np.int64)
    steps = np.empty(cells.shape.size, dtype=np.int64)
    grid = cells.starts.size == 0
    for column in range(len(columns)):
        size = 0
        larger, last, row = columns[column], np.int64(-1), np.int64(-1)
        while True:
            # Add the boundary of `larger` without `last`, or where there is none the chain that is kept for `row`.
            adding = facets_into(cells, larger, found, signs) if larger >= 0 else after[row] - first[row]
            if size + adding > len(cell):
                room = 2 * (size + adding)
                value = np.concatenate((value[:size], np.empty(room - size)))
                code = np.concatenate((code[:size], np.empty(room - size, dtype=np.int64)))
                cell = np.concatenate((cell[:size], np.empty(room - size, dtype=np.int64)))
            for i in range(adding):
                if larger < 0:
                    cell[size], code[size] = kept[first[row] + i], kept_code[first[row] + i]
                else:
                    critical = is_critical(cells, partner, found[i])
                    if found[i] == last or not (critical or above(cells, partner, found[i]) >= 0):
                        continue
                    cell[size], code[size] = found[i], 0
                    if grid:
                        code[size] = 2 * entry(found[i], cells, values, steps)[1] + (not critical)
                value[size] = values[code[size] >> 1] if grid else values[cell[size]]
                _rise(value, code, cell, size)
                size += 1
            # The last cell that does not cancel, unless it begins no class.
            row = np.int64(-1)
            larger = np.int64(-1)
            while size and row < 0 and larger < 0:
                last = cell[0]
                odd = False
                while size and cell[0] == last:
                    odd = not odd
                    size -= 1
                    _swap(value, code, cell, 0, size)
                    _sink(value, code, cell, 0, size)
                if odd:
                    larger = above(cells, partner, last)
                    if larger < 0:
                        row = np.searchsorted(rows, last)
                        if row == len(rows) or rows[row] != last:
                            row = np.int64(-1)
            if row < 0 and larger < 0:
                break
            if row >= 0 and owner[row] < 0:
                owner[row] = column
                first[row] = used
                if used + size > len(kept):
                    kept = np.concatenate((kept, np.empty(used + size, dtype=np.int64)))
                    kept_code = np.concatenate((kept_code, np.empty(used + size, dtype=np.int64)))
                order = np.argsort(cell[:size])
                i = 0
                while i < size:
                    if i + 1 < size and cell[order[i]] == cell[order[i + 1]]:
                        i += 2
                        continue
                    kept[used], kept_code[used] = cell[order[i]], code[order[i]]
                    used += 1
                    i += 1
                after[row] = used
                break
    return owner
