"""Discrete gradient fields, and Morse complexes: critical cells or points and the flow between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, read_only, settle
from topolandscape.structures.complexes import FilteredComplex, GridComplex

CRITICAL, NEVER = 16, 255  # what stands in the field of a grid besides steps
MANY = np.iinfo(np.int64).max  # where the number of flow lines stops


@dataclass(frozen=True, eq=False)
class GradientField:
    """A discrete gradient field: cells in pairs of a cell and its facet that enter together, others critical.

    Parameters
    ----------
    complex
        An explicit complex, or a grid with ``connectivity="axis"``.
    partner
        Of an explicit complex: the partner of every simplex, simplices numbered as in ``total_order``; its own number
        where it is critical, -1 where it never enters; int64. Of a grid: the step to the partner of every cell, cells
        numbered as in ``MorseComplex.cell``; uint8: 2 axis + (1 upwards along the axis), plus 8 where the partner is
        the larger cell; 16: critical, 255: never enters.
    provenance
        How the field was made.

    Examples
    --------
    An edge whose higher end is paired with it:

    >>> from topolandscape.structures import SimplicialComplex
    >>> edge = SimplicialComplex([[[0], [1]], [[0, 1]]], [[0.0, 1.0], [1.0]])
    >>> GradientField(edge, [0, 2, 1])
    GradientField(1 critical of 3 cells)
    """

    complex: FilteredComplex
    partner: NDArray[Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the partners; check that each is the partner of its partner."""
        if isinstance(self.complex, GridComplex):
            partner = frozen(self.partner, np.uint8, "partner", 1)
            cells = int(np.prod([2 * n - 1 for n in self.complex.grid.shape]))
            if self.complex.connectivity != "axis":
                raise ValueError(f'the cells of a grid are cubes: its connectivity is "axis", not {self.complex!r}.')
        else:
            partner = frozen(self.partner, np.int64, "partner", 1)
            cells = sum(map(len, self.complex.values))
        check_length(partner, cells, "partner", "cells")
        if partner.dtype == np.int64:
            own = np.arange(cells)
            inside = (partner >= -1) & (partner < cells)
            wrong = ~inside | (partner[np.where(inside & (partner >= 0), partner, own)] != own) & (partner >= 0)
            if wrong.any():
                cell = int(np.argmax(wrong))
                raise ValueError(f"partner[{cell}] is {partner[cell]}, whose partner is another; pairs go both ways.")
        settle(self, partner=partner, provenance=read_only(self.provenance))

    @property
    def critical(self) -> Integers:
        """Numbers of the critical cells, in increasing order."""
        if self.partner.dtype == np.uint8:
            return np.flatnonzero(self.partner == CRITICAL)
        return np.flatnonzero(self.partner == np.arange(len(self.partner)))

    def __repr__(self) -> str:
        """Return one line: how many cells are critical."""
        return f"GradientField({len(self.critical)} critical of {len(self.partner)} cells)"


@dataclass(frozen=True, eq=False)
class MorseComplex:
    """Critical cells of a filtered complex, or critical points of a function, and the flow lines between them.

    Rows are in their total order: as they enter, those that enter together by their faces first.

    Parameters
    ----------
    index
        Morse index: the dimension of a critical cell, the number of descending directions of a point, (c,).
    value
        Loss at which each enters, (c,).
    vertex
        The sample at which each enters; -1 for a point that is no sample, (c,).
    cell
        Name of each critical cell: its row among the simplices of its dimension, or in a grid of n_1 x ... x n_d
        vertices its place, row-major, among the (2 n_1 - 1) x ... x (2 n_d - 1) cells, whose vertices stand at even
        positions; -1 for a point, (c,).
    arcs
        Higher row, lower row (of an index less by one), and the number of flow lines (V-paths) from the one to the
        other, (a, 3). Numbers stop at 2^63 - 1.
    coefficient
        The same flow lines, counted with their orientation: the entries of the boundary over the integers, (a,).
        Exact where the number is; modulo 2^64 where the number stopped.
    points
        Coordinates, (c, d); None: not known.
    on_boundary
        Which points lie on the boundary of the box in which they are critical, and may have a gradient there, (c,);
        None: there is no box.
    shape
        Shape of the grid whose cells are named; None: no grid.
    provenance
        How the complex was made.

    Examples
    --------
    Two minima, at 0 and 1, and the saddle at 3 from which one flow line leads to each:

    >>> morse = MorseComplex(
    ...     index=[0, 0, 1],
    ...     value=[0.0, 1.0, 3.0],
    ...     vertex=[0, 2, 1],
    ...     cell=[0, 2, 1],
    ...     arcs=[[2, 0, 1], [2, 1, 1]],
    ...     coefficient=[-1, 1],
    ... )
    >>> morse
    MorseComplex(2 of index 0, 1 of index 1; 2 arcs)
    >>> morse.boundary(1).toarray().tolist(), morse.euler_characteristic
    ([[-1], [1]], 1)
    """

    index: Integers
    value: Floats
    vertex: Integers
    cell: Integers
    arcs: Integers
    coefficient: Integers
    points: Floats | None = None
    on_boundary: NDArray[np.bool_] | None = None
    shape: tuple[int, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays; check their order, and that arcs lead one index down."""
        value = frozen(self.value, np.float64, "value", 1)
        index, vertex, cell, coefficient = (
            frozen(getattr(self, name), np.int64, name, 1) for name in ("index", "vertex", "cell", "coefficient")
        )
        arcs = frozen(np.reshape(self.arcs, (-1, 3)) if np.size(self.arcs) == 0 else self.arcs, np.int64, "arcs", 2)
        points = None if self.points is None else frozen(self.points, np.float64, "points", 2)
        on_boundary = None if self.on_boundary is None else frozen(self.on_boundary, np.bool_, "on_boundary", 1)
        columns = {"index": index, "vertex": vertex, "cell": cell, "points": points, "on_boundary": on_boundary}
        for name, array in columns.items():
            if array is not None:
                check_length(array, len(value), name, "critical cells")
        if arcs.shape[1] != 3:
            raise ValueError(f"arcs have shape {arcs.shape}; give higher row, lower row and number, shape (a, 3).")
        check_length(coefficient, len(arcs), "coefficient", "arcs")
        wrong = ~np.isfinite(value) | (index < 0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"row {row} has value {value[row]} and index {index[row]}; give finite values, index >= 0."
            )
        if (value[1:] < value[:-1]).any():
            row = int(np.argmax(value[1:] < value[:-1])) + 1
            raise ValueError(
                f"row {row} enters at {value[row]}, before row {row - 1}; sort the rows by value and index."
            )
        _check_arcs(index, arcs, coefficient)
        settle(
            self,
            index=index,
            value=value,
            vertex=vertex,
            cell=cell,
            arcs=arcs,
            coefficient=coefficient,
            points=points,
            on_boundary=on_boundary,
            shape=None if self.shape is None else tuple(int(s) for s in self.shape),
            provenance=read_only(self.provenance),
        )

    @property
    def dimension(self) -> int:
        """Largest index; -1 where nothing is critical."""
        return int(self.index.max(initial=-1))

    @property
    def counts(self) -> Integers:
        """How many there are of each index, (dimension + 1,)."""
        return np.bincount(self.index, minlength=self.dimension + 1)

    @property
    def euler_characteristic(self) -> int:
        """How many there are of even index, less those of odd index."""
        return int(np.sum(1 - 2 * (self.index % 2)))

    def rows(self, k: int) -> Integers:
        """Return the rows of index `k`, in their order."""
        return np.flatnonzero(self.index == k)

    def boundary(self, k: int) -> Any:
        """Return the boundary from index `k` to `k` - 1 over the integers.

        Parameters
        ----------
        k
            An index.

        Returns
        -------
        scipy.sparse.csc_array
            Of int64, shape (n_{k-1}, n_k) for n_k rows of index k. Two boundaries after one another are zero, unless
            a flow line or a critical point was missed.
        """
        from scipy.sparse import csc_array

        place = np.empty(len(self), dtype=np.int64)
        for j in (k - 1, k):
            rows = self.rows(j)
            place[rows] = np.arange(len(rows))
        chosen = self.index[self.arcs[:, 0]] == k
        higher, lower = place[self.arcs[chosen, 0]], place[self.arcs[chosen, 1]]
        shape = (int((self.index == k - 1).sum()), int((self.index == k).sum()))
        matrix = csc_array((self.coefficient[chosen], (lower, higher)), shape=shape)
        matrix.eliminate_zeros()
        return matrix

    def to_networkx(self) -> Any:
        """Return the flow as a networkx.DiGraph: nodes are rows, edges lead down."""
        import networkx

        graph = networkx.DiGraph()
        for row in range(len(self)):
            graph.add_node(
                row,
                index=int(self.index[row]),
                value=float(self.value[row]),
                vertex=int(self.vertex[row]),
                cell=int(self.cell[row]),
                **({} if self.on_boundary is None else {"on_boundary": bool(self.on_boundary[row])}),
            )
        for (higher, lower, number), coefficient in zip(self.arcs.tolist(), self.coefficient.tolist(), strict=True):
            graph.add_edge(higher, lower, number=number, coefficient=coefficient)
        return graph

    def __len__(self) -> int:
        """Return the number of critical cells."""
        return len(self.value)

    def __repr__(self) -> str:
        """Return one line: how many of each index, and how many arcs."""
        counts = ", ".join(f"{count} of index {k}" for k, count in enumerate(self.counts.tolist()))
        if self.on_boundary is not None and self.on_boundary.any():
            counts += f"; {int(self.on_boundary.sum())} on the boundary"
        return f"MorseComplex({counts or 'nothing critical'}; {len(self.arcs)} arc{'s' * (len(self.arcs) != 1)})"


def _check_arcs(index: Integers, arcs: Integers, coefficient: Integers) -> None:
    higher, lower, number = arcs.T
    outside = (arcs[:, :2] < 0) | (arcs[:, :2] >= len(index))
    if outside.any():
        arc = int(np.argmax(outside.any(axis=1)))
        raise ValueError(f"arcs[{arc}] is {arcs[arc].tolist()}, but rows are 0 to {len(index) - 1}.")
    wrong = (index[higher] != index[lower] + 1) | (higher <= lower)
    if wrong.any():
        arc = int(np.argmax(wrong))
        raise ValueError(
            f"arcs[{arc}] leads from row {higher[arc]} of index {index[higher[arc]]} to row {lower[arc]} of index "
            f"{index[lower[arc]]}; an arc leads to an earlier row, of an index less by one."
        )
    known = number < MANY
    wrong = (number < 1) | (known & ((np.abs(coefficient) > number) | ((number - coefficient) % 2 != 0)))
    if wrong.any():
        arc = int(np.argmax(wrong))
        raise ValueError(
            f"arcs[{arc}] counts {number[arc]} flow lines and {coefficient[arc]} with orientation; the first is at "
            "least 1, and the second a sum of as many terms 1 and -1."
        )
    order = np.lexsort((lower, higher))
    twice = (higher[order][1:] == higher[order][:-1]) & (lower[order][1:] == lower[order][:-1])
    if twice.any():
        arc = int(order[np.argmax(twice) + 1])
        raise ValueError(f"arcs[{arc}] is there twice; give one arc with the number of its flow lines.")
