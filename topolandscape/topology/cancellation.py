"""Critical cells taken away in pairs, and shallow minima filled up.

Where exactly one V-path joins the two cells of a pair, it can be turned round: the pair is critical no longer
(Forman 1998). This is done only where the two are the last facet and the first cofacet of each other among the
critical cells that V-paths join: then no V-path comes to lead up in the filtration, and the pairs that are left do not
change. With the shortest pairs first every pair comes to stand so, but for those that several V-paths join, and those
around them: these stay. In degree 0, and in the highest of a grid, there are none.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numba import njit

from topolandscape.structures import (
    FilteredComplex,
    GradientField,
    GridComplex,
    Integers,
    SimplicialComplex,
)
from topolandscape.topology.critical import Critical, critical_of
from topolandscape.topology.flow import across, arcs_down, ends_below, path_between
from topolandscape.topology.gradient import Cells, above, facets_into, is_critical, join, step
from topolandscape.topology.merge import merge_bars, merge_tree
from topolandscape.topology.pairing import pairs_of_field


def cancelled(field: GradientField, longest: float, cells: Cells) -> GradientField:
    """Return a field without the pairs of critical cells that live at most `longest`, where one V-path joins them."""
    critical = critical_of(field, cells)
    paired = pairs_of_field(field, critical, int(critical.index.max(initial=0)))
    born = np.flatnonzero(paired > np.arange(len(paired)))
    dead = paired[born]
    length = critical.value[dead] - critical.value[born]
    short = length <= longest
    born, dead, length = born[short], dead[short], length[short]
    order = np.lexsort((dead - born, length))
    born, dead = born[order], dead[order]
    partner = field.partner.copy()
    for k in np.unique(critical.index[born]).tolist():
        chosen = critical.index[born] == k
        minima, saddles = critical.cell[born[chosen]], critical.cell[dead[chosen]]
        if k == 0:
            _turn_down(cells, partner, saddles, minima)
        elif isinstance(field.complex, GridComplex) and k == len(cells.shape) - 1:
            _turn_up(cells, partner, minima, saddles)
        else:
            _turn_between(field, critical, partner, born[chosen], dead[chosen], longest)
    return GradientField(field.complex, partner, field.provenance)


def _turn_between(
    field: GradientField, critical: Critical, partner: Integers, born: Integers, dead: Integers, longest: float
) -> None:
    """Turn the V-paths of pairs in degrees in which they branch, pairs in the order given.

    Who reaches a cell is kept as sets that may hold too many: V-paths that meet can be lost when one is turned. Only
    arcs no longer than the longest pair can stand between the cells of a pair.
    """
    k = int(critical.index[dead[0]])
    value = critical.value
    smaller = np.flatnonzero(critical.index == k - 1)
    row_of = dict(zip(critical.cell[smaller].tolist(), smaller.tolist(), strict=True))
    seen = partner.view()
    seen.flags.writeable = False  # as a field has it, for which the kernels are compiled already

    def ends(row: int) -> dict[int, int]:
        found, number = ends_below(critical.cells, seen, int(critical.cell[row]))
        return {row_of[cell]: count for cell, count in zip(found.tolist(), number.tolist(), strict=True)}

    arcs = arcs_down(field, critical, k)
    kept = value[arcs.higher] - value[arcs.lower] <= longest
    cofacets: dict[int, set[int]] = defaultdict(set)
    for higher, lower in zip(arcs.higher[kept].tolist(), arcs.lower[kept].tolist(), strict=True):
        cofacets[lower].add(higher)
    for low, high in zip(born.tolist(), dead.tolist(), strict=True):
        below = ends(high)
        if below.get(low) != 1 or max(below) != low:
            continue
        if any(row < high and low in ends(row) for row in cofacets[low]):
            continue
        path = path_between(critical.cells, seen, int(critical.cell[high]), int(critical.cell[low]))
        for one, other in zip(path[1::2], path[::2], strict=True):
            join(critical.cells, partner, one, other)
        beside = cofacets.pop(low) - {high}
        for row in below:
            if row != low:
                cofacets[row].discard(high)
                cofacets[row].update(other for other in beside if value[other] - value[row] <= longest)


def flooded(complex: FilteredComplex, *, persistence: float) -> FilteredComplex:
    """Fill up the basins of minima whose bars are shorter than `persistence`.

    Parameters
    ----------
    complex
        A grid, or an explicit complex.
    persistence
        Minima of shorter bars are filled up to the height at which their basin meets that of a minimum that stays.

    Returns
    -------
    FilteredComplex
        The same complex with the lowest values, none lower than before, whose bars of degree 0 are those bars of the
        complex that are at least so long: the same births and deaths to the bit. Bars of higher degrees move by no
        more than the values do, which is less than `persistence`; maxima and loops are not simplified.

    Notes
    -----
    Linear after the merge tree. The simplified function of Edelsbrunner, Morozov and Pascucci (2006) in degree 0;
    the reconstruction by erosion of image processing.

    Examples
    --------
    >>> flooded(GridComplex([0.0, 3.0, 2.5, 4.0, 1.0]), persistence=1.0).vertex_values.tolist()
    [0.0, 3.0, 3.0, 4.0, 1.0]
    """
    check_persistence(persistence)
    tree = merge_tree(complex)
    code = merge_bars(tree)
    leaves = int(tree.is_leaf.sum())
    stays = np.zeros(len(tree), dtype=bool)
    kept = code.birth_simplex[code.persistence >= persistence]
    stays[:leaves] = np.isin(tree.simplex[:leaves], kept)
    height = _flood_heights(tree.parent, tree.value, stays)[:leaves]
    values = complex.vertex_values.copy()
    entered = tree.basin >= 0
    values[entered] = np.maximum(values[entered], height[tree.basin[entered]])
    provenance = {**complex.provenance, "flooded": float(persistence)}
    if isinstance(complex, GridComplex):
        return GridComplex(values.reshape(complex.grid.shape), complex.connectivity, provenance)
    raised = [
        np.maximum(entered, values[simplices].max(axis=1, initial=-np.inf))
        for simplices, entered in zip(complex.simplices, complex.values, strict=True)
    ]
    return SimplicialComplex(complex.simplices, tuple(raised), complex.flag, provenance)


def check_persistence(persistence: float) -> None:
    """Raise when a persistence is negative or no number."""
    if not persistence >= 0:
        raise ValueError(f"persistence is {persistence}; it needs to be at least 0.")


# --------------------------------------------------------------------------------------------------------------
# Compiled
# --------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def _flood_heights(parent, value, stays):  # type: ignore[no-untyped-def]
    """Return for each node the value of the first node at or above it that has a leaf that stays; -inf at such leaves.

    Children come before their parents.
    """
    nodes = len(parent)
    holds = stays.copy()
    for node in range(nodes):
        if holds[node] and parent[node] >= 0:
            holds[parent[node]] = True
    height = np.full(nodes, -np.inf)
    for node in range(nodes - 1, -1, -1):
        above_it = parent[node]
        if not holds[node] and above_it >= 0:
            height[node] = value[above_it] if holds[above_it] else height[above_it]
    return height


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
