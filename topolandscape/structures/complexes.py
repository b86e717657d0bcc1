"""Filtered complexes, explicit or a grid, and the total order of their simplices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, read_only, refuse_nan, settle

Connectivity = Literal["axis", "freudenthal", "full"]
CONNECTIVITIES: tuple[Connectivity, ...] = ("axis", "freudenthal", "full")


@dataclass(frozen=True, eq=False)
class SimplicialComplex:
    """Simplices that enter when the loss reaches their value.

    Parameters
    ----------
    simplices
        One array a dimension: ``simplices[k]`` has shape (n_k, k + 1) and names the vertices of each k-simplex in
        increasing order. ``simplices[0]`` is ``[[0], [1], ...]``.
    values
        ``values[k]`` has shape (n_k,): when each k-simplex enters, never before one of its facets. +inf: never.
    flag
        True when the complex is the part up to its dimension of the flag complex of its graph. Simplices of higher
        dimension are left out, so homology in its highest degree is not known.
    provenance
        How the complex was made.

    Examples
    --------
    A path of three vertices, the middle one high:

    >>> SimplicialComplex([[[0], [1], [2]], [[0, 1], [1, 2]]], [[0.0, 3.0, 1.0], [3.0, 3.0]])
    SimplicialComplex(3 vertices, 2 edges)
    """

    simplices: tuple[Integers, ...]
    values: tuple[Floats, ...]
    flag: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays; check that every face is there and enters in time."""
        if len(self.simplices) == 0 or len(self.simplices) != len(self.values):
            raise ValueError(
                f"got simplices of {len(self.simplices)} dimensions and values of {len(self.values)}; "
                "give one array of each for every dimension, vertices first."
            )
        simplices = tuple(frozen(s, np.int64, f"simplices[{k}]", 2) for k, s in enumerate(self.simplices))
        values = tuple(frozen(v, np.float64, f"values[{k}]", 1) for k, v in enumerate(self.values))
        n = len(simplices[0])
        if n == 0:
            raise ValueError("simplices[0] is empty; a complex needs at least one vertex.")
        for k, (rows, entered) in enumerate(zip(simplices, values, strict=True)):
            if rows.shape[1] != k + 1:
                raise ValueError(f"simplices[{k}] has shape {rows.shape}; it needs {k + 1} columns.")
            check_length(entered, len(rows), f"values[{k}]", f"simplices of dimension {k}")
            refuse_nan(entered, f"values[{k}]")
        if not np.array_equal(simplices[0][:, 0], np.arange(n)):
            raise ValueError("simplices[0] must be [[0], [1], ...]: every vertex once, in order.")
        settle(self, simplices=simplices, values=values, provenance=read_only(self.provenance))
        _check_faces(simplices, values)

    @property
    def dimension(self) -> int:
        """Largest dimension of which there are arrays."""
        return len(self.simplices) - 1

    @property
    def vertex_values(self) -> Floats:
        """Values of the vertices, shape (n,)."""
        return self.values[0]

    def __repr__(self) -> str:
        """Return one line: how many simplices of each dimension."""
        names = ("vertices", "edges", "triangles", "tetrahedra")
        counts = [f"{len(s)} {names[k] if k < 4 else f'{k}-simplices'}" for k, s in enumerate(self.simplices)]
        return f"SimplicialComplex({', '.join(counts)})"


@dataclass(frozen=True, eq=False)
class GridComplex:
    """The lower-star filtration of a full grid; its cells are implied, never listed.

    Parameters
    ----------
    grid
        Values of the vertices in their grid shape, any number of dimensions. +inf: never enters.
    connectivity
        Which vertices are neighbours. ``"axis"``: along the axes (2 d neighbours), the complex of cubes.
        ``"freudenthal"``: also along the positive diagonals, the Freudenthal (Kuhn) triangulation.
        ``"full"``: all 3^d - 1 of the surrounding block; cells of the complex are the closed voxels.
    provenance
        How the grid was made.

    Notes
    -----
    Cells have no rows of their own: a cell is named by the vertex at which it enters, the last of its vertices
    in the total order.

    Examples
    --------
    >>> GridComplex([[0.0, 3.0, 1.0]] * 2)
    GridComplex(2 x 3 vertices, axis)
    """

    grid: Floats
    connectivity: Connectivity = "axis"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the values and check them."""
        grid = frozen(self.grid, np.float64, "grid")
        if grid.ndim == 0 or grid.size < 2:
            raise ValueError(f"a grid of shape {grid.shape} has {grid.size} point(s); it needs at least two.")
        if self.connectivity not in CONNECTIVITIES:
            raise ValueError(f"connectivity is {self.connectivity!r}; it must be one of {', '.join(CONNECTIVITIES)}.")
        refuse_nan(grid, "grid")
        settle(self, grid=grid, provenance=read_only(self.provenance))

    @property
    def dimension(self) -> int:
        """Number of axes along which the grid extends, which is the dimension of its cells."""
        return self.grid.ndim

    @property
    def vertex_values(self) -> Floats:
        """Values of the vertices in row-major order, shape (n,)."""
        return self.grid.reshape(-1)

    def __repr__(self) -> str:
        """Return one line: the shape and who is whose neighbour."""
        return f"GridComplex({' x '.join(map(str, self.grid.shape))} vertices, {self.connectivity})"


FilteredComplex = SimplicialComplex | GridComplex


def _check_faces(simplices: Sequence[Integers], values: Sequence[Floats]) -> None:
    n = len(simplices[0])
    table = FaceTable(simplices)
    for k in range(1, len(simplices)):
        rows = simplices[k]
        if rows.size == 0:
            continue
        unordered = (rows[:, 1:] <= rows[:, :-1]).any(axis=1)
        outside = (rows[:, 0] < 0) | (rows[:, -1] >= n)
        for wrong, rule in ((unordered, "name vertices in increasing order"), (outside, f"vertices are 0 to {n - 1}")):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise ValueError(f"simplices[{k}][{row}] is {rows[row].tolist()}; {rule}.")
        repeated = table.repeated(k)
        if repeated is not None:
            raise ValueError(f"simplices[{k}][{repeated}] is {rows[repeated].tolist()}, which is there already.")
        for missing in range(k + 1):
            facet = np.delete(rows, missing, axis=1) if k > 1 else rows[:, 1 - missing : 2 - missing]
            found = table.rows(facet)
            if (found < 0).any():
                row = int(np.argmax(found < 0))
                raise ValueError(
                    f"simplex {rows[row].tolist()} is there without its facet {facet[row].tolist()}. Add it, or "
                    "build the complex with lower_star(), which adds all faces."
                )
            early = values[k] < values[k - 1][found]
            if early.any():
                row = int(np.argmax(early))
                raise ValueError(
                    f"simplex {rows[row].tolist()} enters at {values[k][row]}, before its facet "
                    f"{facet[row].tolist()} (at {values[k - 1][found[row]]}). Raise its value, or build the complex "
                    "with lower_star(), which takes the maximum."
                )


class FaceTable:
    """Rows of simplices by their vertices, by binary search on one integer code a simplex."""

    def __init__(self, simplices: Sequence[Integers]) -> None:
        self._n = len(simplices[0])
        self._codes: list[Integers] = [np.arange(self._n)]
        self._order: list[Integers | None] = [None]  # None: the codes are in increasing order as they stand
        for vertices in simplices[1:]:
            codes = self.rows(vertices[:, :-1]) * self._n + vertices[:, -1]
            if (codes[1:] > codes[:-1]).all():
                self._order.append(None)
            else:
                order = np.argsort(codes, kind="stable")
                codes = codes[order]
                self._order.append(order)
            self._codes.append(codes)

    def rows(self, vertices: Integers) -> Integers:
        """Return the row of each simplex (given by its vertices, in increasing order); -1 where there is none."""
        row = vertices[:, 0]
        for k in range(1, vertices.shape[1]):
            codes, order = self._codes[k], self._order[k]
            if len(codes) == 0:
                return np.full(len(vertices), -1)
            wanted = row * self._n + vertices[:, k]
            place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
            found = place if order is None else order[place]
            row = np.where((codes[place] == wanted) & (row >= 0), found, -1)
        return row

    def repeated(self, k: int) -> int | None:
        """Return the row of a k-simplex that stands there twice, or None."""
        codes, order = self._codes[k], self._order[k]
        if order is None:
            return None
        twice = np.flatnonzero(codes[1:] == codes[:-1])
        return int(order[twice[0] + 1]) if len(twice) else None


def total_order(complex: FilteredComplex) -> Integers:
    """Return the cells of a complex in the order in which they enter: by (value, dimension, row).

    This is the only place where ties are decided. Engines are given ranks in this order and return pairs of
    ranks, so every engine gives the same bars.

    Parameters
    ----------
    complex
        An explicit complex, or a grid.

    Returns
    -------
    Integers
        A permutation. For an explicit complex it runs over all simplices, those of dimension 0 first, then of
        dimension 1, and so on, each in the order of its rows. For a grid it runs over the vertices, since a cell
        enters with the last of its vertices.

    Examples
    --------
    >>> total_order(SimplicialComplex([[[0], [1]], [[0, 1]]], [[2.0, 1.0], [2.0]]))
    array([1, 0, 2])
    """
    values = complex.vertex_values if isinstance(complex, GridComplex) else np.concatenate(complex.values)
    return ascending(values)


def ascending(values: Floats) -> Integers:
    """Return the rows of `values` by (value, row).

    A stable sort, by way of numpy's faster unstable one where no two values are equal.
    """
    order = np.argsort(values)
    ordered = values[order]
    return np.argsort(values, kind="stable") if (ordered[1:] == ordered[:-1]).any() else order
