"""The canonical form of a filtered complex, by changes of basis that keep the filtration.

Written to be read, not to be fast: chains are dictionaries, and each is reduced by those before it. It shares no code
with the other engines, and so is a check on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np

from topolandscape.structures import (
    CanonicalForm,
    Chain,
    FilteredComplex,
    GridComplex,
    Integers,
    MorseComplex,
    SimplicialComplex,
    total_order,
)


def canonical_form(noun: FilteredComplex | MorseComplex, *, field: int = 2) -> CanonicalForm:
    """Reduce a filtered complex to its canonical form.

    Parameters
    ----------
    noun
        A Morse complex; or an explicit complex or a grid with ``connectivity="axis"``, small ones.
    field
        A prime p: the integers modulo p; 0: the rationals.

    Returns
    -------
    CanonicalForm
        Of a Morse complex its rows are those of the complex. Of another complex they are its cells as they enter,
        which `entering_cells` names.

    Raises
    ------
    ValueError
        The boundary of a boundary is not zero: flow lines or critical points are missing.

    Notes
    -----
    Barannikov (1994). The pairs are the bars: pieces of two dimensions are classes that end, those of one dimension
    essential. Over the rationals, and modulo p, bars may differ where there is torsion. Cubic in the number of rows at
    worst.

    Examples
    --------
    >>> from topolandscape.topology.morse import morse_complex
    >>> form = canonical_form(morse_complex(GridComplex([0.0, 3.0, 1.0])), field=0)
    >>> form
    CanonicalForm(1 pair, 1 essential, over the rationals)
    >>> form.pairs.tolist(), dict(form.cycle(1))
    ([[1, 2]], {0: Fraction(-1, 1), 1: Fraction(1, 1)})
    """
    if field != 0 and (field < 2 or any(field % divisor == 0 for divisor in range(2, int(field**0.5) + 1))):
        raise ValueError(f"field is {field}; it needs to be a prime p, for the integers modulo p, or 0: the rationals.")
    boundaries = _of_morse(noun) if isinstance(noun, MorseComplex) else [chain for _, chain in _entering(noun)]
    boundaries = [_in_field(chain, field) for chain in boundaries]
    for row, chain in enumerate(boundaries):
        if _combined({}, [(coefficient, boundaries[below]) for below, coefficient in chain.items()], field):
            raise ValueError(
                f"the boundary of the boundary of row {row} is not zero, so this is no complex: a flow line or a "
                "critical point was missed."
            )
    pairs, essential, basis = _reduced(boundaries, field)
    return CanonicalForm(pairs, essential, basis, field, noun.provenance)


def entering_cells(complex: FilteredComplex) -> Integers:
    """Return the cells of a complex as they enter, what never enters left out.

    Parameters
    ----------
    complex
        An explicit complex, or a grid with ``connectivity="axis"``.

    Returns
    -------
    Integers
        Numbers as in ``GradientField``.

    Examples
    --------
    >>> entering_cells(GridComplex([0.0, 3.0, 1.0])).tolist()
    [0, 4, 2, 1, 3]
    """
    return np.array([cell for cell, _ in _entering(complex)], dtype=np.int64)


def _of_morse(morse: MorseComplex) -> list[Chain]:
    boundaries: list[dict[int, int | Fraction]] = [{} for _ in range(len(morse))]
    for (higher, lower, _), coefficient in zip(morse.arcs.tolist(), morse.coefficient.tolist(), strict=True):
        boundaries[higher][lower] = coefficient
    return list(boundaries)


def _entering(complex: FilteredComplex) -> list[tuple[int, Chain]]:
    """Return the cells as they enter, each with its boundary by places among them."""
    if isinstance(complex, SimplicialComplex):
        return _entering_simplices(complex)
    if complex.connectivity != "axis":
        raise ValueError(
            f'the connectivity is "{complex.connectivity}"; the canonical form is that of a grid of cubes, '
            'connectivity="axis", or of an explicit complex, such as freudenthal(grid).'
        )
    return _entering_cubes(complex)


def _entering_simplices(complex: SimplicialComplex) -> list[tuple[int, Chain]]:
    order = total_order(complex)
    values = np.concatenate(complex.values)
    simplices = [tuple(simplex) for rows in complex.simplices for simplex in rows.tolist()]
    place: dict[tuple[int, ...], int] = {}
    result: list[tuple[int, Chain]] = []
    for cell in order[np.isfinite(values[order])].tolist():
        simplex = simplices[cell]
        facets = [simplex[:i] + simplex[i + 1 :] for i in range(len(simplex))] if len(simplex) > 1 else []
        result.append((cell, {place[facet]: (-1) ** i for i, facet in enumerate(facets)}))
        place[simplex] = len(place)
    return result


def _entering_cubes(complex: GridComplex) -> list[tuple[int, Chain]]:
    values = complex.vertex_values
    order = total_order(complex)
    rank = np.argsort(order).reshape(complex.grid.shape)
    shape = tuple(2 * n - 1 for n in complex.grid.shape)
    cubes = []
    for position in product(*map(range, shape)):
        corners = tuple(slice(p // 2, (p + 1) // 2 + 1) for p in position)
        entered = int(rank[corners].max())
        if np.isfinite(values[order[entered]]):
            cubes.append((entered, sum(p % 2 for p in position), position))
    cubes.sort()
    place = {position: i for i, (_, _, position) in enumerate(cubes)}
    result: list[tuple[int, Chain]] = []
    for _, _, position in cubes:
        chain: dict[int, int | Fraction] = {}
        sign = 1
        for axis, p in enumerate(position):
            if p % 2:
                for side in (1, -1):
                    chain[place[(*position[:axis], p + side, *position[axis + 1 :])]] = sign * side
                sign = -sign
        result.append((int(np.ravel_multi_index(position, shape)), chain))
    return result


# --------------------------------------------------------------------------------------------------------------
# Changes of basis
# --------------------------------------------------------------------------------------------------------------


def _reduced(boundaries: Sequence[Chain], field: int) -> tuple[Integers, Integers, list[Chain]]:
    """Return pairs, essential rows and the basis."""
    basis: list[Chain] = []
    ended_by: dict[int, int] = {}
    for row, chain in enumerate(boundaries):
        element: Chain = {row: _one(field)}
        last = max(chain, default=-1)
        while last in ended_by:
            # The boundary of the element that ended `last` is basis[last], in which `last` has coefficient 1.
            factor = -chain[last]
            element = _combined(element, [(factor, basis[ended_by[last]])], field)
            chain = _combined(chain, [(factor, basis[last])], field)
            last = max(chain, default=-1)
        if chain:
            inverse = _inverse(chain[last], field)
            element = _combined({}, [(inverse, element)], field)
            basis[last] = _combined({}, [(inverse, chain)], field)
            ended_by[last] = row
        basis.append(element)
    pairs = np.array(sorted(ended_by.items()), dtype=np.int64).reshape(-1, 2)
    essential = np.setdiff1d(np.arange(len(boundaries)), pairs)
    return pairs, essential, basis


def _one(field: int) -> int | Fraction:
    return 1 if field else Fraction(1)


def _inverse(coefficient: int | Fraction, field: int) -> int | Fraction:
    return pow(int(coefficient), -1, field) if field else 1 / Fraction(coefficient)


def _in_field(chain: Chain, field: int) -> Chain:
    """Return a chain of integers with coefficients in the field, zeros left out."""
    inside = {row: c % field if field else Fraction(c) for row, c in chain.items()}
    return {row: c for row, c in inside.items() if c}


def _combined(chain: Chain, others: Sequence[tuple[int | Fraction, Chain]], field: int) -> Chain:
    """Return a chain plus multiples of others."""
    result = dict(chain)
    for factor, other in others:
        for row, coefficient in other.items():
            total = result.get(row, 0) + factor * coefficient
            result[row] = total % field if field else total
    return {row: c for row, c in result.items() if c}
