"""Discrete gradient fields and Morse complexes of filtered complexes; V-paths, separatrices and basins."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.structures import (
    FilteredComplex,
    Floats,
    GradientField,
    GridComplex,
    Integers,
    MinimaNetwork,
    MorseComplex,
    SimplicialComplex,
)
from topolandscape.structures.arrays import check_length
from topolandscape.topology.branching import path_between
from topolandscape.topology.cancellation import cancelled, check_persistence, split_off
from topolandscape.topology.critical import Critical, critical_of, entries_of, names_of, places_of
from topolandscape.topology.flow import arcs_down, lines_down, lines_up, lower_ends, upper_ends
from topolandscape.topology.gradient import apparent_field, cells_of, lower_star_field
from topolandscape.topology.pairing import pairs_of_complex


def gradient_field(complex: FilteredComplex, *, persistence: float = 0.0) -> GradientField:
    """Pair the cells of a filtered complex with their facets, along the descent of the loss.

    Parameters
    ----------
    complex
        A grid with ``connectivity="axis"``, of up to 4 dimensions, or an explicit complex; any filtration. What
        enters at +inf has no part in it.
    persistence
        Pairs of critical cells whose bars are shorter are cancelled, the shortest first, where exactly one V-path
        joins them and no critical cell with a V-path to one of them stands between; those that come to stand so when
        others are gone as well. Bars that are at least so long stay as they are.

    Returns
    -------
    GradientField
        Paired cells enter at one value, unless a V-path was turned to cancel a pair. In a grid of up to 3 dimensions
        every critical cell changes the homology of the sublevel sets, vertices taken one after the other. In an
        explicit complex bars of length 0 have critical cells only where several V-paths join them.

    Notes
    -----
    Grids: Robins, Wood and Sheppard (2011), one vertex after the other in their total order, the vertices shared out
    among threads (``numba.set_num_threads``); a byte for each cell. Explicit complexes: apparent pairs (Bauer 2021),
    then cancellation of the bars of length 0.

    In degree 0, and in the highest of a grid, all pairs that are short enough are cancelled, so on lines and planes
    all there are (Bauer, Lange and Wardetzky 2012). In the degrees between, a pair that several V-paths join stays: to
    turn one of them round would close a loop with another. So may pairs around it. Whether some field of the complex
    has fewer critical cells is NP-hard to tell (Joswig and Pfetsch 2006). `morse_complex` cancels those pairs too, by
    changes of basis, which no field shows.

    Examples
    --------
    >>> field = gradient_field(GridComplex([[0.0, 3.0, 1.0], [0.5, 4.0, 2.0]]))
    >>> field
    GradientField(3 critical of 15 cells)
    >>> gradient_field(field.complex, persistence=2.5)
    GradientField(1 critical of 15 cells)
    """
    check_persistence(persistence)
    if isinstance(complex, GridComplex):
        cells = cells_of(complex)
        field = lower_star_field(complex, cells)
    elif isinstance(complex, SimplicialComplex):
        cells = cells_of(complex)
        field = cancelled(apparent_field(complex, cells), 0.0, cells)
    else:
        raise TypeError(f"got {type(complex).__name__}; a gradient field is made on a filtered complex.")
    if persistence == 0:
        return field
    left = cancelled(field, float(np.nextafter(persistence, -1.0)), cells)
    return GradientField(complex, left.partner, {**complex.provenance, "cancelled": float(persistence)})


def morse_complex(
    noun: FilteredComplex | GradientField | MorseComplex | MinimaNetwork, *, persistence: float = 0.0
) -> MorseComplex:
    """Return the critical cells of a filtered complex, and the V-paths between them.

    Parameters
    ----------
    noun
        A filtered complex, as in `gradient_field`; a gradient field, which is taken as it is; a Morse complex; or a
        network of minima, which gives its minima and verified saddles (`MinimaNetwork.morse_complex`).
    persistence
        Pairs of rows whose bars are shorter are cancelled, the shortest first: of a filtered complex by turning V-paths
        round, as in `gradient_field`; what that leaves, and those of other nouns, by changes of basis. An arc then
        counts also the lines that lead over cancelled pairs, up to the one and down from the other.

    Returns
    -------
    MorseComplex
        Its barcode is that of the complex without the bars shorter than `persistence`. The boundary of a boundary is
        zero over the integers.

    Notes
    -----
    V-paths from edges to minima, and in a grid from maxima to cells of dimension d - 1, take one sweep over the
    cells. Others are counted from every critical cell along all cells that they pass. A short bar stays where its pair
    has torsion, that is where lines between the two add up to an odd number other than 1 and -1: no change of basis
    over the integers splits those off.

    Examples
    --------
    >>> morse = morse_complex(GridComplex([[0.0, 3.0, 1.0], [0.5, 4.0, 2.0]]))
    >>> morse
    MorseComplex(2 of index 0, 1 of index 1; 2 arcs)
    >>> morse.value.tolist(), morse.vertex.tolist(), morse.arcs.tolist()
    ([0.0, 1.0, 3.0], [0, 2, 1], [[2, 0, 1], [2, 1, 1]])
    >>> morse_complex(morse, persistence=2.5)
    MorseComplex(1 of index 0; 0 arcs)
    """
    check_persistence(persistence)
    if isinstance(noun, MorseComplex):
        morse = noun
    elif isinstance(noun, MinimaNetwork):
        morse = noun.morse_complex
    else:
        morse = _of_field(noun if isinstance(noun, GradientField) else gradient_field(noun, persistence=persistence))
    if persistence == 0:
        return morse
    left = split_off(morse, float(np.nextafter(persistence, -1.0)))
    return replace(left, provenance={**morse.provenance, "cancelled": float(persistence)})


def _of_field(field: GradientField) -> MorseComplex:
    """Return the critical cells of a field and the V-paths between them."""
    critical = critical_of(field)
    parts = [arcs_down(field, critical, k) for k in range(1, int(critical.index.max(initial=0)) + 1)]
    higher, lower, number, signed = (
        np.concatenate([part[i] for part in parts]) if parts else np.zeros(0, dtype=np.int64) for i in range(4)
    )
    return MorseComplex(
        index=critical.index,
        value=critical.value,
        vertex=critical.vertex,
        cell=names_of(field, critical),
        arcs=np.column_stack([higher, lower, number]),
        coefficient=signed,
        shape=field.complex.grid.shape if isinstance(field.complex, GridComplex) else None,
        provenance=field.provenance,
    )


def betti_numbers(morse: MorseComplex) -> Integers:
    """Return the Betti numbers over the field of two elements, one for each index, (dimension + 1,).

    Parameters
    ----------
    morse
        A Morse complex.

    Returns
    -------
    Integers
        How many rows of each index are in no pair: never more than there are rows (weak Morse inequalities).

    Examples
    --------
    >>> betti_numbers(morse_complex(GridComplex([[0.0, 3.0, 1.0], [0.5, 4.0, 2.0]]))).tolist()
    [1, 0]
    """
    return np.bincount(morse.index[pairs_of_complex(morse) < 0], minlength=morse.dimension + 1)


def v_path(field: GradientField, higher: int, lower: int) -> Integers:
    """Return the vertices along a V-path between two critical cells.

    Parameters
    ----------
    field
        A gradient field.
    higher, lower
        Rows of its Morse complex.

    Returns
    -------
    Integers
        The vertex with which each cell of a shortest V-path enters, the higher row's first, each once, (q,); empty
        where no V-path joins them. Values never rise along it.

    Examples
    --------
    >>> field = gradient_field(GridComplex([0.0, 1.0, 4.0, 3.0, 2.0]))
    >>> v_path(field, 2, 0).tolist(), v_path(field, 2, 1).tolist()
    ([2, 1, 0], [2, 3, 4])
    """
    critical = critical_of(field)
    rows = len(critical.cell)
    for row in (higher, lower):
        if not 0 <= row < rows:
            raise ValueError(f"row {row} does not exist; the Morse complex has rows 0 to {rows - 1}.")
    if critical.index[higher] != critical.index[lower] + 1:
        raise ValueError(
            f"rows {higher} and {lower} have index {critical.index[higher]} and {critical.index[lower]}; a V-path "
            "leads to an index less by one."
        )
    path = path_between(critical.cells, field.partner, int(critical.cell[higher]), int(critical.cell[lower]))
    vertices = entries_of(field.complex, path)[1]
    if critical.index[lower] == 0 and len(path):
        vertices = np.append(vertices[:1], path[1::2] if not isinstance(field.complex, GridComplex) else vertices[1::2])
    return vertices[np.append(True, vertices[1:] != vertices[:-1])] if len(vertices) else vertices


def separatrices(field: GradientField, *, ascending: bool = False, points: ArrayLike | None = None) -> list[Floats]:
    """Return the lines from the saddles down to the minima, or up to the maxima.

    Parameters
    ----------
    field
        A gradient field.
    ascending
        False: both ways down from every critical edge. True: both ways up from every critical cell of dimension
        d - 1, as far as the boundary where there is no maximum; d is the dimension of the complex.
    points
        Coordinates of the vertices, (n, d); None: those of a grid in units of the grid.

    Returns
    -------
    list of Floats
        One line each way, from the saddle on, in the order of rows: centres of cells, (q, d).

    Raises
    ------
    ValueError
        The points of an explicit complex are not given; or ways up branch, since a simplex lies in more than two of
        the highest dimension.

    Examples
    --------
    >>> field = gradient_field(GridComplex([0.0, 1.0, 4.0, 3.0, 2.0]))
    >>> [line[:, 0].tolist() for line in separatrices(field)]
    [[2.5, 2.0, 1.5, 1.0, 0.5, 0.0], [2.5, 3.0, 3.5, 4.0]]
    """
    if points is not None:
        points = np.asarray(points, dtype=np.float64)
        check_length(points, len(field.complex.vertex_values), "points", "vertices")
    elif not isinstance(field.complex, GridComplex):
        raise ValueError("an explicit complex does not know where its vertices are; give their coordinates, points=.")
    critical = critical_of(field)
    if ascending:
        saddles = critical.cell[critical.index == _top(critical, field) - 1]
        lines = lines_up(field, critical.cells, saddles)
    else:
        lines = lines_down(critical.cells, field.partner, critical.cell[critical.index == 1])
    return [places_of(field, line, points) for line in lines]


def basins(field: GradientField, *, of: Literal["minima", "maxima"] = "minima") -> Integers:
    """Return to which minimum every vertex descends, or to which maximum every top cell ascends.

    Parameters
    ----------
    field
        A gradient field.
    of
        ``"minima"``, or ``"maxima"``: critical cells of the dimension d of the complex.

    Returns
    -------
    Integers
        Rows of the Morse complex. Of minima: one for each vertex, (n,), -1 where the loss is +inf. Of maxima: one
        for each cell of dimension d, those of a grid row-major by their lowest corner, (n_1 - 1, ..., n_d - 1), axes of
        one vertex left out, simplices by their rows, (n_d,); -1 where the way up leaves the complex, and for cells that
        never enter.

    Raises
    ------
    ValueError
        Ways up branch, since a simplex lies in more than two of the highest dimension.

    Examples
    --------
    >>> field = gradient_field(GridComplex([0.0, 1.0, 4.0, 3.0, 2.0]))
    >>> basins(field).tolist(), basins(field, of="maxima").tolist()
    ([0, 0, 0, 1, 1], [2, 2, 2, 2])
    """
    if of not in ("minima", "maxima"):
        raise ValueError(f"of is {of!r}; it must be minima or maxima.")
    critical = critical_of(field)
    ends, kind = (lower_ends(field), 0) if of == "minima" else (upper_ends(field), _top(critical, field))
    rows = np.flatnonzero(critical.index == kind)
    row = np.full(len(ends) + 1, -1)  # the last for those that end outside
    row[np.flatnonzero(ends == np.arange(len(ends)))] = rows[np.argsort(critical.cell[rows])]
    labels = row[ends]
    grid = isinstance(field.complex, GridComplex)
    return labels.reshape(critical.cells.shape // 2) if grid and of == "maxima" else labels


def _top(critical: Critical, field: GradientField) -> int:
    """Return the dimension of the top cells."""
    return len(critical.cells.shape) if isinstance(field.complex, GridComplex) else field.complex.dimension
