"""Functions without their short bars: minima filled up, maxima worn down, or both, along a gradient field.

In degree 0 a minimum is filled up to its saddle, with all of its basin (Edelsbrunner, Morozov and Pascucci 2006). In
the highest degree of a grid the same is done upside down: what a sublevel set leaves out has as many bounded components
as there are classes, and those are joined as the voxels or simplices of the dual complex are. For all degrees at once
values belong to cells. A gradient field whose short pairs are cancelled orders the cells; the values are brought into
that order, those of critical cells left as they were (Bauer, Lange and Wardetzky 2012, and Attali, Glisse, Hornus,
Lazarus and Morozov 2009 on surfaces).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import njit

from topolandscape.structures import (
    CRITICAL,
    NEVER,
    Connectivity,
    FilteredComplex,
    Floats,
    GradientField,
    GridComplex,
    SimplicialComplex,
)
from topolandscape.topology.cancellation import check_persistence
from topolandscape.topology.critical import entries_of
from topolandscape.topology.gradient import cells_of, facets_into, step
from topolandscape.topology.merge import merge_bars, merge_tree
from topolandscape.topology.morse import gradient_field

# Which vertices of a grid are joined in what its sublevel sets leave out.
_DUAL: dict[Connectivity, Connectivity] = {"axis": "full", "full": "axis", "freudenthal": "freudenthal"}


def simplified(
    complex: FilteredComplex, *, persistence: float, of: Literal["minima", "maxima", "all"] = "minima"
) -> FilteredComplex:
    """Return a function without the bars that are shorter than `persistence`, near the one that is given.

    Parameters
    ----------
    complex
        A grid, or an explicit complex.
    persistence
        Bars that are at least so long keep their births and deaths, to the bit. No value moves by as much.
    of
        ``"minima"``: bars of degree 0; values rise to where the basin of a minimum meets that of one that stays.
        ``"maxima"``: those of the highest degree of a grid; values fall. ``"all"``: those of all degrees, as far as
        `gradient_field` cancels their pairs: in one and two dimensions all of them.

    Returns
    -------
    FilteredComplex
        The complex with other values. With ``"minima"`` and ``"maxima"`` these are the lowest, or highest, for which it
        is true; bars of other degrees move by no more than the values do. With ``"all"`` every cell has a value of its
        own; so a grid of n_1 x ... x n_d vertices becomes one of (2 n_1 - 1) x ... x (2 n_d - 1), the cells of the
        first, whose vertices stand at even positions.

    Raises
    ------
    ValueError
        A flag complex, whose values follow from its edges, or a grid with other cells than cubes, is to be simplified
        in all degrees.

    Notes
    -----
    Linear after the merge tree, or the gradient field and its cancellation.

    Examples
    --------
    >>> simplified(GridComplex([0.0, 3.0, 2.5, 4.0, 1.0]), persistence=1.0).vertex_values.tolist()
    [0.0, 3.0, 3.0, 4.0, 1.0]
    >>> simplified(GridComplex([0.0, 3.0, 2.5, 4.0, 1.0]), persistence=1.0, of="maxima").vertex_values.tolist()
    [0.0, 2.5, 2.5, 4.0, 1.0]
    >>> simplified(GridComplex([0.0, 3.0, 2.5, 4.0, 1.0]), persistence=1.0, of="all").vertex_values.tolist()
    [0.0, 2.75, 2.75, 2.75, 2.75, 4.0, 4.0, 4.0, 1.0]
    """
    check_persistence(persistence)
    provenance = {**complex.provenance, "simplified": of, "persistence": float(persistence)}
    if of == "minima":
        values = complex.vertex_values
        values = np.where(np.isinf(values), np.inf, _raised(complex, persistence, -np.inf))
        if isinstance(complex, GridComplex):
            return GridComplex(values.reshape(complex.grid.shape), complex.connectivity, provenance)
        raised = [
            np.maximum(entered, values[simplices].max(axis=1, initial=-np.inf))
            for simplices, entered in zip(complex.simplices, complex.values, strict=True)
        ]
        return SimplicialComplex(complex.simplices, tuple(raised), complex.flag, provenance)
    if of == "maxima":
        if not isinstance(complex, GridComplex):
            raise TypeError(f"maxima are worn down in a grid, and this is a {complex!r}; take of='all'.")
        return GridComplex(_lowered(complex, persistence), complex.connectivity, provenance)
    if of != "all":
        raise ValueError(f"of is {of!r}; it must be minima, maxima or all.")
    if isinstance(complex, SimplicialComplex) and complex.flag and complex.dimension > 1:
        raise ValueError("the values of a flag complex follow from its edges; simplify its minima, of='minima'.")
    values = _in_order(gradient_field(complex, persistence=persistence))
    if isinstance(complex, GridComplex):
        return GridComplex(values.reshape([2 * n - 1 for n in complex.grid.shape]), "axis", provenance)
    parts = np.split(values, np.cumsum([len(rows) for rows in complex.simplices])[:-1])
    return SimplicialComplex(complex.simplices, tuple(parts), complex.flag, provenance)


def _raised(complex: FilteredComplex, persistence: float, always: float) -> Floats:
    """Return the values of the vertices with shallow basins filled up; minima as low as `always` stay."""
    tree = merge_tree(complex)
    code = merge_bars(tree)
    leaves = int(tree.is_leaf.sum())
    stays = np.zeros(len(tree), dtype=bool)
    kept = code.birth_simplex[(code.persistence >= persistence) | (code.birth <= always)]
    stays[:leaves] = np.isin(tree.simplex[:leaves], kept)
    height = _flood_heights(tree.parent, tree.value, stays)[:leaves]
    values = complex.vertex_values.copy()
    entered = tree.basin >= 0
    values[entered] = np.maximum(values[entered], height[tree.basin[entered]])
    return values


def _lowered(complex: GridComplex, persistence: float) -> Floats:
    """Return the values of a grid with low maxima worn down: its dual, upside down, in a frame that stays."""
    shape = tuple(n for n in complex.grid.shape if n > 1)
    finite = np.isfinite(complex.grid)
    if not finite.any():
        return complex.grid
    outside = -float(np.nextafter(complex.grid[finite].max(), np.inf))
    turned = np.where(finite, -complex.grid, outside).reshape(shape)
    framed = GridComplex(np.pad(turned, 1, constant_values=outside), _DUAL[complex.connectivity])
    raised = _raised(framed, persistence, outside).reshape(framed.grid.shape)
    inside = raised[(slice(1, -1),) * len(shape)].reshape(complex.grid.shape)
    return np.where(finite, -inside, np.inf)


def _in_order(field: GradientField) -> Floats:
    """Return values of the cells that are in the order of a field, those of critical cells as they were."""
    cells = cells_of(field.complex)
    _, _, entered, _ = entries_of(field.complex, np.arange(len(field.partner)))
    values = _ordered_values(cells, field.partner, entered)
    return np.where(np.isinf(entered), np.inf, values)


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
def _partner_of(cells, partner, cell):  # type: ignore[no-untyped-def]
    """Return the partner of a cell, itself where it is critical, -1 where it never enters."""
    if cells.starts.size:
        return partner[cell]
    if partner[cell] == NEVER:
        return np.int64(-1)
    return cell if partner[cell] == CRITICAL else cell + step(cells, partner[cell])


@njit(cache=True)
def _ordered_values(cells, partner, entered):  # type: ignore[no-untyped-def]
    """Return values that are equal for partners and no less than those of facets; critical cells keep theirs.

    Halfway between the highest value below a cell and the lowest above it, as far as the critical cells below and
    above allow.
    """
    count = len(entered)
    order = np.empty(count, dtype=np.int64)  # every pair, by its first cell, after all that lie below it
    state = np.zeros(count, dtype=np.int8)
    stack = np.empty(count + 1, dtype=np.int64)
    found = np.empty(cells.widest, dtype=np.int64)
    signs = np.empty(cells.widest, dtype=np.int64)
    below, above = entered.copy(), entered.copy()
    floor, ceiling = np.full(count, -np.inf), np.full(count, np.inf)
    settled = 0
    for start in range(count):
        other = _partner_of(cells, partner, start)
        if other < start or state[start]:
            continue
        size = 1
        stack[0] = start
        while size:
            cell = stack[size - 1]
            other = _partner_of(cells, partner, cell)
            if state[cell]:
                size -= 1
                if state[cell] == 1:
                    state[cell] = 2
                    order[settled] = cell
                    settled += 1
                continue
            state[cell] = 1
            for larger in (cell, other):
                for i in range(facets_into(cells, larger, found, signs)):
                    beyond = _partner_of(cells, partner, found[i])
                    first = min(found[i], beyond)
                    if first != cell and state[first] == 0:
                        if size == len(stack):
                            stack = np.concatenate((stack, stack))
                        stack[size] = first
                        size += 1
    for at in range(settled):
        cell = order[at]
        other = _partner_of(cells, partner, cell)
        if other == cell:
            floor[cell] = ceiling[cell] = entered[cell]
        below[cell] = max(entered[cell], entered[other])
        above[cell] = min(entered[cell], entered[other])
        for larger in (cell, other):
            for i in range(facets_into(cells, larger, found, signs)):
                first = min(found[i], _partner_of(cells, partner, found[i]))
                if first != cell:
                    below[cell] = max(below[cell], below[first])
                    floor[cell] = max(floor[cell], floor[first])
    values = np.full(count, np.inf)
    for at in range(settled - 1, -1, -1):
        cell = order[at]
        other = _partner_of(cells, partner, cell)
        for larger in (cell, other):
            for i in range(facets_into(cells, larger, found, signs)):
                first = min(found[i], _partner_of(cells, partner, found[i]))
                if first != cell:
                    above[first] = min(above[first], above[cell])
                    ceiling[first] = min(ceiling[first], ceiling[cell])
        middle = below[cell] / 2 + above[cell] / 2
        if below[cell] <= above[cell]:
            middle = entered[cell]
        values[cell] = values[other] = max(floor[cell], min(middle, ceiling[cell]))
    return values
