"""The nouns of the package, their invariants, and the total order of simplices.

Every noun is a frozen record of numpy arrays: copied when made, read-only afterwards, checked once. Functions
elsewhere take one noun and return another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Connectivity = Literal["axis", "freudenthal", "full"]
CONNECTIVITIES: tuple[Connectivity, ...] = ("axis", "freudenthal", "full")


# --------------------------------------------------------------------------------------------------------------
# Arrays at the boundary
# --------------------------------------------------------------------------------------------------------------


def _frozen(array: ArrayLike, dtype: type, name: str, ndim: int | None = None) -> NDArray[Any]:
    """Return a read-only C-ordered copy of `array`; one that is already such a copy is shared."""
    try:
        result = np.asarray(array)
        if dtype is np.int64 and result.size and not np.issubdtype(result.dtype, np.integer):
            raise TypeError(f"{name} must hold integers, got {result.dtype}. Convert it with .astype(int).")
        shareable = result.dtype == dtype and result.flags.c_contiguous and result.flags.owndata
        if not shareable or result.flags.writeable:
            result = np.array(result, dtype=dtype, order="C", copy=True)
            result.flags.writeable = False
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name} cannot be read as an array of {dtype.__name__}: {error}") from None
    if ndim is not None and result.ndim != ndim:
        raise ValueError(f"{name} has shape {result.shape}; it needs {ndim} dimension(s).")
    return result


def _check_length(array: NDArray[Any], length: int, name: str, of: str) -> None:
    if len(array) != length:
        raise ValueError(f"{name} has {len(array)} entries, but there are {length} {of}; they must agree.")


def _refuse_nan(values: Floats, name: str) -> None:
    """Raise when `values` holds NaN or -inf, naming the first of them."""
    wrong = np.isnan(values) | np.isneginf(values)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}{list(index)} is {values[index]}, one of {int(wrong.sum())} such values; a filtration needs "
            "numbers (or +inf for what never enters). Drop the points, or build the complex with "
            'nonfinite="infinite".'
        )


def _settle(instance: object, **fields: Any) -> None:
    """Set fields of a frozen record while it is being made."""
    for name, value in fields.items():
        object.__setattr__(instance, name, value)


def _read_only(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(provenance))


# --------------------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Subspace:
    """An affine subspace of the space of parameter vectors: ``origin + coordinates @ directions``.

    Parameters
    ----------
    origin
        Parameter vector, shape (p,).
    directions
        One direction a row, shape (d, p).
    """

    origin: Floats
    directions: Floats

    def __post_init__(self) -> None:
        """Freeze the arrays and check that their shapes agree."""
        origin = _frozen(self.origin, np.float64, "origin", 1)
        directions = _frozen(self.directions, np.float64, "directions", 2)
        if directions.shape[1] != len(origin):
            raise ValueError(
                f"directions have {directions.shape[1]} parameters each and the origin {len(origin)}; "
                "give one direction a row, of the origin's length."
            )
        _settle(self, origin=origin, directions=directions)

    def parameters(self, coordinates: ArrayLike) -> Floats:
        """Return the parameter vectors (n, p) at `coordinates` (n, d)."""
        return self.origin + np.asarray(coordinates, dtype=np.float64) @ self.directions


@dataclass(frozen=True, eq=False)
class LossSamples:
    """Points of a landscape and their losses.

    Parameters
    ----------
    points
        Coordinates in the sampled subspace, shape (n, d).
    values
        Losses as they were measured, shape (n,). NaN and infinite losses are kept; see `nonfinite`.
    noise
        Largest spread of repeated evaluation at one point. Bars shorter than twice the noise are no evidence.
    subspace
        Where the coordinates live; None: they are the parameter vectors themselves.
    shape
        Grid shape (row-major) when the points are a full grid, else None.
    provenance
        Model, data, seed, settings: enough to draw the samples again.

    Examples
    --------
    >>> samples = LossSamples(points=[[0.0], [1.0]], values=[0.5, float("nan")])
    >>> samples
    LossSamples(2 points, 1 dimension, losses 0.5 to 0.5, 1 not finite)
    >>> samples.nonfinite
    array([1])
    """

    points: Floats
    values: Floats
    noise: float = 0.0
    subspace: Subspace | None = None
    shape: tuple[int, ...] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays and check that they belong together."""
        points = _frozen(self.points, np.float64, "points", 2)
        values = _frozen(self.values, np.float64, "values", 1)
        if len(points) == 0:
            raise ValueError("no points were given; samples need at least one.")
        _check_length(values, len(points), "values", "points")
        if not np.isfinite(points).all():
            row = int(np.argmin(np.isfinite(points).all(axis=1)))
            raise ValueError(f"points[{row}] is {points[row]}; coordinates must be finite.")
        if self.subspace is not None and len(self.subspace.directions) != points.shape[1]:
            raise ValueError(
                f"points have {points.shape[1]} coordinates, but the subspace has {len(self.subspace.directions)} "
                "directions; they must agree."
            )
        shape = None if self.shape is None else tuple(int(s) for s in self.shape)
        if shape is not None and (int(np.prod(shape)) != len(points) or len(shape) != points.shape[1]):
            raise ValueError(
                f"a grid of shape {shape} has {int(np.prod(shape))} points in {len(shape)} dimensions, "
                f"got {len(points)} in {points.shape[1]}."
            )
        _settle(
            self,
            points=points,
            values=values,
            noise=float(self.noise),
            shape=shape,
            provenance=_read_only(self.provenance),
        )

    @property
    def nonfinite(self) -> Integers:
        """Rows whose loss is NaN or infinite."""
        return np.flatnonzero(~np.isfinite(self.values))

    def parameters(self, rows: Integers | list[int] | slice = slice(None)) -> Floats:
        """Return the parameter vectors of the points in `rows`, shape (len(rows), p)."""
        coordinates = self.points[rows]
        return coordinates if self.subspace is None else self.subspace.parameters(coordinates)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    def __repr__(self) -> str:
        """Return one line: how many points, of how many dimensions, which losses."""
        n, d = self.points.shape
        finite = self.values[np.isfinite(self.values)]
        losses = f"losses {finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no finite loss"
        missing = f", {len(self.nonfinite)} not finite" if len(self.nonfinite) else ""
        return f"LossSamples({n} points, {d} dimension{'s' * (d != 1)}, {losses}{missing})"


# --------------------------------------------------------------------------------------------------------------
# Filtered complexes: explicit or a grid
# --------------------------------------------------------------------------------------------------------------


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
    skeleton
        True when the complex is the lower part of a flag complex: simplices of higher dimension are left out, so
        homology of the highest degree here is not that of the whole.
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
    skeleton: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays; check that every face is there and enters in time."""
        if len(self.simplices) == 0 or len(self.simplices) != len(self.values):
            raise ValueError(
                f"got simplices of {len(self.simplices)} dimensions and values of {len(self.values)}; "
                "give one array of each for every dimension, vertices first."
            )
        simplices = tuple(_frozen(s, np.int64, f"simplices[{k}]", 2) for k, s in enumerate(self.simplices))
        values = tuple(_frozen(v, np.float64, f"values[{k}]", 1) for k, v in enumerate(self.values))
        n = len(simplices[0])
        if n == 0:
            raise ValueError("simplices[0] is empty; a complex needs at least one vertex.")
        for k, (rows, entered) in enumerate(zip(simplices, values, strict=True)):
            if rows.shape[1] != k + 1:
                raise ValueError(f"simplices[{k}] has shape {rows.shape}; it needs {k + 1} columns.")
            _check_length(entered, len(rows), f"values[{k}]", f"simplices of dimension {k}")
            _refuse_nan(entered, f"values[{k}]")
        if not np.array_equal(simplices[0][:, 0], np.arange(n)):
            raise ValueError("simplices[0] must be [[0], [1], ...]: every vertex once, in order.")
        _settle(self, simplices=simplices, values=values, provenance=_read_only(self.provenance))
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
        grid = _frozen(self.grid, np.float64, "grid")
        if grid.ndim == 0 or grid.size < 2:
            raise ValueError(f"a grid of shape {grid.shape} has {grid.size} point(s); it needs at least two.")
        if self.connectivity not in CONNECTIVITIES:
            raise ValueError(f"connectivity is {self.connectivity!r}; it must be one of {', '.join(CONNECTIVITIES)}.")
        _refuse_nan(grid, "grid")
        _settle(self, grid=grid, provenance=_read_only(self.provenance))

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


# --------------------------------------------------------------------------------------------------------------
# The total order
# --------------------------------------------------------------------------------------------------------------


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
    return np.argsort(values, kind="stable")


# --------------------------------------------------------------------------------------------------------------
# Results
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MergeTree:
    """Components of the sublevel sets as they meet.

    Leaves are minima, inner nodes the saddles at which two components meet (so each has exactly two children).
    Nodes are numbered as they enter: leaves first, by (value, row), then saddles.

    Parameters
    ----------
    simplex
        The minimum (a vertex) or the saddle (an edge, by its row; in a grid the vertex at which it enters), (nodes,).
    vertex
        The same as a vertex: the minimum, or the vertex at which the saddle's edge enters, (nodes,).
    value
        Loss at which the node enters, (nodes,).
    parent
        The node in which this one ends; -1 above a root, (nodes,).
    size
        Points strictly below the parent's value in this node's component when it ends there; above a root, all
        points of the component, (nodes,).
    basin
        For each vertex the leaf to which steepest descent along edges leads, (n,); -1 where the loss is +inf.
    provenance
        How the tree was made.
    """

    simplex: Integers
    vertex: Integers
    value: Floats
    parent: Integers
    size: Integers
    basin: Integers
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays; check that parents lie above their children and that saddles have two."""
        value = _frozen(self.value, np.float64, "value", 1)
        fields = {
            name: _frozen(getattr(self, name), np.int64, name, 1)
            for name in ("simplex", "vertex", "parent", "size", "basin")
        }
        parent = fields["parent"]
        for name in ("simplex", "vertex", "parent", "size"):
            _check_length(fields[name], len(value), name, "nodes")
        inner = parent[parent >= 0]
        if (parent >= len(value)).any() or (value[inner] < value[parent >= 0]).any():
            raise ValueError("a node's parent must be a node that enters no earlier than the node itself.")
        children = np.bincount(inner, minlength=len(value))
        if not np.isin(children, (0, 2)).all():
            node = int(np.argmin(np.isin(children, (0, 2))))
            raise ValueError(f"node {node} has {children[node]} children; a minimum has none and a saddle two.")
        _settle(self, value=value, provenance=_read_only(self.provenance), **fields)

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Which nodes are minima, (nodes,)."""
        children = np.bincount(self.parent[self.parent >= 0], minlength=len(self.value))
        return children == 0

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.value)

    def __repr__(self) -> str:
        """Return one line: minima, saddles and components."""
        leaves = int(self.is_leaf.sum())
        roots = int((self.parent < 0).sum())
        return f"MergeTree({leaves} minima, {len(self) - leaves} saddles, {roots} component{'s' * (roots != 1)})"


@dataclass(frozen=True, eq=False)
class Barcode:
    """Births and deaths of homology classes of the sublevel sets.

    Bars are kept by degree, the longest first; equal ones by birth, then by row.

    Parameters
    ----------
    dim
        Degree of homology; 0: components, one bar for each minimum, (b,).
    birth, death
        Losses at which the class appears and ends; death = +inf: essential class, (b,).
    birth_simplex, death_simplex
        The simplices that create and end the class, as rows of the complex (of dimension `dim` and `dim` + 1), -1
        if essential. In a grid, whose cells have no rows, they are vertices, as below, (b,).
    birth_vertex, death_vertex
        The samples at which these simplices enter: in degree 0 the minimum and the saddle; -1 if essential, (b,).
    size
        Degree 0: points strictly below the death in the component when it ends; 0 otherwise, (b,).
    provenance
        How the barcode was made.

    Examples
    --------
    >>> code = Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0)])
    >>> code
    Barcode(2 bars: 2 in degree 0; 1 essential)
    >>> code.persistence
    array([inf,  2.])
    """

    dim: Integers
    birth: Floats
    death: Floats
    birth_simplex: Integers
    death_simplex: Integers
    birth_vertex: Integers
    death_vertex: Integers
    size: Integers
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays, check them and put the bars in their order."""
        arrays = {
            name: _frozen(getattr(self, name), np.float64 if name in ("birth", "death") else np.int64, name, 1)
            for name in self._COLUMNS
        }
        bars = len(arrays["birth"])
        for name, array in arrays.items():
            _check_length(array, bars, name, "bars")
        birth, death = arrays["birth"], arrays["death"]
        wrong = ~(np.isfinite(birth) & (death >= birth))
        if wrong.any():
            bar = int(np.argmax(wrong))
            raise ValueError(f"bar {bar} is [{birth[bar]}, {death[bar]}); a birth is finite and no death comes before.")
        order = np.lexsort((arrays["birth_simplex"], birth, -(death - birth), arrays["dim"]))
        arrays = {name: _frozen(array[order], array.dtype.type, name) for name, array in arrays.items()}
        _settle(self, provenance=_read_only(self.provenance), **arrays)

    _COLUMNS: ClassVar = (
        "dim",
        "birth",
        "death",
        "birth_simplex",
        "death_simplex",
        "birth_vertex",
        "death_vertex",
        "size",
    )

    @classmethod
    def from_pairs(cls, pairs: ArrayLike, *, dim: int = 0) -> Barcode:
        """Return a barcode of which only births and deaths are known (from a paper, or another program).

        Parameters
        ----------
        pairs
            Births and deaths, shape (b, 2).
        dim
            Their degree.

        Returns
        -------
        Barcode
            Minima and saddles are -1, sizes 0.
        """
        bars = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        unknown = np.full(len(bars), -1)
        return cls(
            dim=np.full(len(bars), dim),
            birth=bars[:, 0],
            death=bars[:, 1],
            birth_simplex=unknown,
            death_simplex=unknown,
            birth_vertex=unknown,
            death_vertex=unknown,
            size=np.zeros(len(bars), dtype=np.int64),
        )

    @property
    def persistence(self) -> Floats:
        """Length of each bar, death - birth, (b,)."""
        return self.death - self.birth

    @property
    def essential(self) -> NDArray[np.bool_]:
        """Which bars never end, (b,)."""
        return np.isinf(self.death)

    def filter(
        self, *, dim: int | None = None, min_persistence: float = 0.0, min_size: int = 0, max_bars: int | None = None
    ) -> Barcode:
        """Return the bars that pass every condition.

        Parameters
        ----------
        dim
            Keep this degree only.
        min_persistence
            Keep bars at least this long (in units of the loss).
        min_size
            Keep components of at least this many points (bars of other degrees than 0 have no size and stay).
        max_bars
            Keep at most this many bars, the longest ones.

        Returns
        -------
        Barcode
            With the same provenance.

        Examples
        --------
        >>> code = Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0), (1.5, 1.6)])
        >>> code.filter(min_persistence=0.5)
        Barcode(2 bars: 2 in degree 0; 1 essential)
        """
        keep = (self.persistence >= min_persistence) & ((self.size >= min_size) | (self.dim > 0))
        if dim is not None:
            keep &= self.dim == dim
        if max_bars is not None:
            longest = np.argsort(np.where(keep, -self.persistence, np.inf), kind="stable")[:max_bars]
            keep &= np.isin(np.arange(len(self)), longest)
        columns = {name: getattr(self, name)[keep] for name in self._COLUMNS}
        return Barcode(**columns, provenance=self.provenance)

    def to_gudhi(self) -> list[tuple[int, tuple[float, float]]]:
        """Return the bars as gudhi's ``persistence()`` does: (degree, (birth, death)), higher degrees first."""
        order = np.argsort(-self.dim, kind="stable")
        return [(int(self.dim[i]), (float(self.birth[i]), float(self.death[i]))) for i in order]

    def to_persim(self) -> list[Floats]:
        """Return the bars as ripser's ``dgms``: one array (b, 2) of births and deaths for each degree."""
        top = int(self.dim.max()) if len(self) else 0
        bars = np.column_stack([self.birth, self.death])
        return [bars[self.dim == k] for k in range(top + 1)]

    def to_dataframe(self) -> Any:
        """Return the bars as a pandas DataFrame, one row a bar (needs pandas)."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_dataframe() needs pandas, which is not installed; run: pip install pandas") from None
        columns = {name: getattr(self, name) for name in self._COLUMNS}
        return pandas.DataFrame(columns | {"persistence": self.persistence})

    def table(self, *, max_rows: int = 20) -> str:
        """Return the bars as text, the longest first, and a last line that says how many were left out."""
        lines = [f"{'dim':>3}  {'birth':>12}  {'death':>12}  {'persistence':>12}  {'minimum':>9}  {'saddle':>9}  size"]
        for i in range(min(len(self), max_rows)):
            saddle = "-" if self.death_vertex[i] < 0 else str(self.death_vertex[i])
            minimum = "-" if self.birth_vertex[i] < 0 else str(self.birth_vertex[i])
            size = str(self.size[i]) if self.dim[i] == 0 else "-"
            lines.append(
                f"{self.dim[i]:>3}  {self.birth[i]:>12.6g}  {self.death[i]:>12.6g}  {self.persistence[i]:>12.6g}  "
                f"{minimum:>9}  {saddle:>9}  {size}"
            )
        if len(self) > max_rows:
            longest = self.persistence[max_rows:].max()
            lines.append(f"... and {len(self) - max_rows} more bars, none longer than {longest:.6g}")
        return "\n".join(lines)

    def __len__(self) -> int:
        """Return the number of bars."""
        return len(self.birth)

    def __str__(self) -> str:
        """Return the table of bars."""
        return self.table()

    def __repr__(self) -> str:
        """Return one line: how many bars of each degree, how many of them essential."""
        degrees = ", ".join(f"{int((self.dim == k).sum())} in degree {k}" for k in np.unique(self.dim))
        essential = int(self.essential.sum())
        return f"Barcode({len(self)} bar{'s' * (len(self) != 1)}: {degrees or 'none'}; {essential} essential)"
