"""Critical cells taken away in pairs, by turning V-paths round or by a change of basis.

Where exactly one V-path joins the two cells of a pair, it can be turned round: the pair is critical no longer
(Forman 1998). This is done only where the two are the last facet and the first cofacet of each other among the
critical cells that V-paths join: then no V-path comes to lead up in the filtration, and the pairs that are left do not
change. With the shortest pairs first every pair comes to stand so, but for those that several V-paths join, and those
around them: these stay. In degree 0, and in the highest of a grid, there are none. A field without the others need not
exist, and to find the one with the fewest critical cells is NP-hard (Joswig and Pfetsch 2006); in two dimensions every
pair can go (Bauer, Lange and Wardetzky 2012).

The boundaries of a Morse complex know no such limit: over a field the two rows of a pair can always be split off by a
change of basis (Barannikov 1994). Nothing is turned round then.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit

from topolandscape.structures import MANY, Floats, GradientField, GridComplex, Integers, MorseComplex
from topolandscape.topology.branching import count_paths, path_between
from topolandscape.topology.critical import Critical, critical_of
from topolandscape.topology.flow import across, arcs_down
from topolandscape.topology.gradient import Cells, above, facets_into, is_critical, join, step
from topolandscape.topology.pairing import pairs_of_complex, pairs_of_field


def cancelled(field: GradientField, longest: float, cells: Cells) -> GradientField:
    """Return a field without the pairs of critical cells that live at most `longest`, where one V-path joins them."""
    critical = critical_of(field, cells)
    paired = pairs_of_field(field, critical, int(critical.index.max(initial=0)))
    born, dead = _shortest_first(critical.value, paired, longest)
    partner = field.partner.copy()
    top = len(cells.shape) - 1 if isinstance(field.complex, GridComplex) else -1
    between = []
    for k in np.unique(critical.index[born]).tolist():
        low, high = born[critical.index[born] == k], dead[critical.index[born] == k]
        if k == 0:
            _turn_down(cells, partner, critical.cell[high], critical.cell[low])
        elif k == top:
            _turn_up(cells, partner, critical.cell[low], critical.cell[high])
        else:
            between.append((low, high))
    # What is cancelled in one degree may have stood in the way of a pair in another.
    while sum(_turn_between(field, critical, partner, low, high, longest) for low, high in between) and between[1:]:
        pass
    return GradientField(field.complex, partner, field.provenance)


def _turn_between(
    field: GradientField, critical: Critical, partner: Integers, born: Integers, dead: Integers, longest: float
) -> int:
    """Turn the V-paths of pairs in a degree in which they branch, and return how many.

    Only arcs no longer than the longest pair can stand between the cells of a pair.
    """
    seen = partner.view()
    seen.flags.writeable = False  # as a field has it, for which the kernels are compiled already
    arcs = arcs_down(GradientField(field.complex, partner), critical, int(critical.index[dead[0]]))
    kept = critical.value[arcs.higher] - critical.value[arcs.lower] <= longest
    lower, higher = arcs.lower[kept], arcs.higher[kept]
    return _turn_pairs(critical.cells, partner, seen, born, dead, lower, higher, critical.cell, critical.value, longest)


def split_off(morse: MorseComplex, longest: float) -> MorseComplex:
    """Return a Morse complex without the pairs of rows that live at most `longest`, by changes of basis.

    Rows above the first of a pair get the second added, as often as takes the first out of their boundary: lines that
    lead over both. The shortest pairs come first, so that the two are the last facet and the first cofacet of each
    other. What stays are pairs with torsion, whose lines add up to an odd number that is not 1 or -1: those have no
    change of basis over the integers.
    """
    partner = pairs_of_complex(morse)
    born, dead = _shortest_first(morse.value, partner, longest)
    faces: list[dict[int, int]] = [{} for _ in range(len(morse))]
    cofaces: list[set[int]] = [set() for _ in range(len(morse))]
    number = {}
    for (higher, lower, count), coefficient in zip(morse.arcs.tolist(), morse.coefficient.tolist(), strict=True):
        number[higher, lower] = count
        if coefficient:
            faces[higher][lower] = coefficient
            cofaces[lower].add(higher)
    kept = np.ones(len(morse), dtype=bool)
    for low, high in zip(born.tolist(), dead.tolist(), strict=True):
        pivot = faces[high].get(low, 0)
        below = {row: c for row, c in faces[high].items() if row != low}
        above = cofaces[low] - {high}
        last = max((row for row, c in below.items() if c % 2), default=-1)
        first = min((row for row in above if faces[row][low] % 2), default=len(morse))
        # Rows with even coefficients, which the pairs do not see, must not come to lead up either.
        if abs(pivot) != 1 or last > low or first < high or max(below, default=-1) > min(above, default=len(morse)):
            continue
        for row in above:
            factor = -pivot * faces[row].pop(low)
            for end, c in below.items():
                number[row, end] = min(number.get((row, end), 0) + abs(factor * c), int(MANY))
                faces[row][end] = faces[row].get(end, 0) + factor * c
                cofaces[end].add(row)
                if faces[row][end] == 0:
                    del faces[row][end]
                    cofaces[end].remove(row)
        for row in below:
            cofaces[row].remove(high)
        for row in cofaces[high]:
            del faces[row][high]
        for row in faces[low]:
            cofaces[row].remove(low)
        kept[[low, high]] = False
        faces[low], faces[high], cofaces[low], cofaces[high] = {}, {}, set(), set()
    arcs = np.array([(*ends, count) for ends, count in number.items()], dtype=np.int64).reshape(-1, 3)
    coefficient = np.array([faces[higher].get(lower, 0) for higher, lower, _ in arcs.tolist()], dtype=object)
    # As numpy's whole numbers go, where there are so many lines.
    coefficient = ((coefficient + 2**63) % 2**64 - 2**63).astype(np.int64)
    stays = kept[arcs[:, :2]].all(axis=1)
    arcs, coefficient = arcs[stays], coefficient[stays]
    order = np.lexsort((arcs[:, 1], arcs[:, 0]))
    arcs, coefficient = arcs[order], coefficient[order]
    arcs[:, :2] = (np.cumsum(kept) - 1)[arcs[:, :2]]
    rows = np.flatnonzero(kept)
    columns = {name: getattr(morse, name)[rows] for name in ("index", "value", "vertex", "cell")}
    for name in ("points", "on_boundary"):
        column = getattr(morse, name)
        columns[name] = None if column is None else column[rows]
    return replace(morse, **columns, arcs=arcs, coefficient=coefficient)


def _shortest_first(value: Floats, partner: Integers, longest: float) -> tuple[Integers, Integers]:
    """Return the rows that begin and end the classes that live at most `longest`; those within others come before."""
    born = np.flatnonzero(partner > np.arange(len(partner)))
    dead = partner[born]
    length = value[dead] - value[born]
    short = length <= longest
    born, dead, length = born[short], dead[short], length[short]
    order = np.lexsort((dead - born, length))
    return born[order], dead[order]


def check_persistence(persistence: float) -> None:
    """Raise when a persistence is negative or no number."""
    if not persistence >= 0:
        raise ValueError(f"persistence is {persistence}; it needs to be at least 0.")


# --------------------------------------------------------------------------------------------------------------
# Compiled
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _other_facet(cells, larger, one, found, signs):  # type: ignore[no-untyped-def]
    """Return the other end of an edge."""
    facets_into(cells, larger, found, signs)
    return found[1] if found[0] == one else found[0]


@njit(cache=True)
def _turn_down(cells, partner, saddles, minima):  # type: ignore[no-untyped-def]
    """Turn the V-path from each edge to its vertex."""
    found = np.empty(cells.widest, dtype=np.int64)
    signs = np.empty(cells.widest, dtype=np.int64)
    for i in range(len(saddles)):
        facets_into(cells, saddles[i], found, signs)
        start = found[0]
        end = start
        while not is_critical(cells, partner, end):
            end = _other_facet(cells, above(cells, partner, end), end, found, signs)
        if end != minima[i]:
            start = _other_facet(cells, saddles[i], start, found, signs)
        here, edge = start, saddles[i]
        while True:
            last = is_critical(cells, partner, here)
            following = above(cells, partner, here)
            join(cells, partner, here, edge)
            if last:
                break
            edge = following
            here = _other_facet(cells, edge, here, found, signs)


@njit(cache=True)
def _turn_up(cells, partner, saddles, maxima):  # type: ignore[no-untyped-def]
    """Turn the V-path from each top cell of a grid to its cell of dimension d - 1."""
    for i in range(len(saddles)):
        for side in (-1, 1):
            top = across(cells, partner, saddles[i], side)
            while top >= 0 and not is_critical(cells, partner, top):
                way = step(cells, partner[top])
                top = across(cells, partner, top + way, 1 if way > 0 else -1)
            if top == maxima[i]:
                break
        smaller, top = saddles[i], across(cells, partner, saddles[i], side)
        while True:
            last = is_critical(cells, partner, top)
            way = 0 if last else step(cells, partner[top])
            join(cells, partner, smaller, top)
            if last:
                break
            smaller = top + way
            top = across(cells, partner, smaller, 1 if way > 0 else -1)


@njit(cache=True)
def _turn_pairs(cells, partner, seen, born, dead, lower, higher, cell, value, longest):  # type: ignore[no-untyped-def]
    """Turn the V-paths of pairs born[i], dead[i] of rows, over and over until none is left that can be turned.

    `seen` is `partner`, to be read; `lower` and `higher` are arcs. Which rows reach a row is kept as lists that may
    hold too many: V-paths that meet can be lost when one is turned. Returns how many were turned.
    """
    rows = len(cell)
    row_of = np.argsort(cell)
    ordered = cell[row_of]
    head = np.full(rows, -1, dtype=np.int64)  # of the list of rows that reach a row
    after, item = np.full(len(lower) + 64, -1, dtype=np.int64), np.empty(len(lower) + 64, dtype=np.int64)
    used = len(lower)
    for arc in range(used):
        item[arc], after[arc], head[lower[arc]] = higher[arc], head[lower[arc]], arc
    met = np.full(rows, -1, dtype=np.int64)
    turned, before = 0, -1
    while turned > before:
        before = turned
        for pair in range(len(born)):
            low, high = born[pair], dead[pair]
            if not is_critical(cells, seen, cell[high]):
                continue
            _, ends, number, _ = count_paths(0, 1, cell[high : high + 1], cells, seen)
            below = row_of[np.searchsorted(ordered, ends)]
            alone = False
            for i in range(len(below)):
                if below[i] == low:
                    alone = number[i] == 1
            if not alone or below.max() != low:
                continue
            first = True
            place = head[low]
            while place >= 0 and first:
                row = item[place]
                if row < high and is_critical(cells, seen, cell[row]):
                    first = len(path_between(cells, seen, cell[row], cell[low])) == 0
                place = after[place]
            if not first:
                continue
            path = path_between(cells, seen, cell[high], cell[low])
            for i in range(0, len(path), 2):
                join(cells, partner, path[i + 1], path[i])
            turned += 1
            for row in below:
                if row == low:
                    continue
                place = head[row]
                while place >= 0:
                    met[item[place]] = row
                    place = after[place]
                place = head[low]
                while place >= 0:
                    other = item[place]
                    place = after[place]
                    if met[other] == row or value[other] - value[row] > longest:
                        continue
                    met[other] = row
                    if used == len(item):
                        item, after = np.concatenate((item, item)), np.concatenate((after, after))
                    item[used], after[used], head[row] = other, head[row], used
                    used += 1
    return turned
