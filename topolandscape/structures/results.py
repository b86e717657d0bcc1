"""What is computed from a filtered complex: merge trees and barcodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, read_only, settle


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
        For each vertex the leaf to which steepest descent along edges leads, (n,); -1 where the loss is +inf. Empty
        where the vertices were never in memory together.
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
        value = frozen(self.value, np.float64, "value", 1)
        fields = {
            name: frozen(getattr(self, name), np.int64, name, 1)
            for name in ("simplex", "vertex", "parent", "size", "basin")
        }
        parent = fields["parent"]
        for name in ("simplex", "vertex", "parent", "size"):
            check_length(fields[name], len(value), name, "nodes")
        below = np.flatnonzero(parent >= 0)
        above = parent[below]
        if _any(above >= len(value)) or _any(value[above] < value[below]):
            raise ValueError("a node's parent must be a node that enters no earlier than the node itself.")
        children = np.bincount(above, minlength=len(value))
        wrong = (children & ~2) != 0
        if _any(wrong):
            node = int(np.argmax(wrong))
            raise ValueError(f"node {node} has {children[node]} children; a minimum has none and a saddle two.")
        leaves = len(value) - np.count_nonzero(children)
        births = value[:leaves]
        if _any(children[:leaves]) or _any(births[1:] < births[:-1]) or _any(above <= below):
            raise ValueError(
                "nodes must be numbered as they enter: minima first, by value, and children before parents."
            )
        settle(self, value=value, provenance=read_only(self.provenance), **fields)

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
            name: frozen(getattr(self, name), np.float64 if name in ("birth", "death") else np.int64, name, 1)
            for name in self.columns
        }
        bars = len(arrays["birth"])
        for name, array in arrays.items():
            check_length(array, bars, name, "bars")
        birth, death = arrays["birth"], arrays["death"]
        wrong = ~(np.isfinite(birth) & (death >= birth))
        if _any(wrong):
            bar = int(np.argmax(wrong))
            raise ValueError(f"bar {bar} is [{birth[bar]}, {death[bar]}); a birth is finite and no death comes before.")
        keys = (arrays["birth_simplex"], birth, birth - death, arrays["dim"])
        # In one degree the lengths tell nearly always, and at once.
        equal = _any(keys[2][1:] <= keys[2][:-1])
        if (equal or _any(arrays["dim"])) and not _in_order(keys):
            order = np.lexsort(keys)
            arrays = {name: frozen(array[order], array.dtype.type, name) for name, array in arrays.items()}
        settle(self, provenance=read_only(self.provenance), **arrays)

    columns: ClassVar[tuple[str, ...]] = (
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
        columns = {name: getattr(self, name)[keep] for name in self.columns}
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
        columns = {name: getattr(self, name) for name in self.columns}
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


def _any(array: NDArray[Any]) -> bool:
    """Tell whether an entry is not 0; on few entries faster than ``array.any()``."""
    return bool(np.count_nonzero(array) > 0)


def _in_order(keys: Iterable[NDArray[Any]]) -> bool:
    """Tell whether rows are in the order of their keys, of which the last counts first, as for `numpy.lexsort`."""
    ordered: Any = True
    for key in keys:
        ordered = (key[:-1] < key[1:]) | ((key[:-1] == key[1:]) & ordered)
    return bool(np.all(ordered))


def common_scale(provenances: Iterable[Mapping[str, Any]]) -> dict[str, str] | None:
    """Return what 0 and 1 stand for in barcodes that were normalised.

    Parameters
    ----------
    provenances
        Those of the barcodes that are to be compared.

    Returns
    -------
    dict or None
        The words at ``low_name`` and ``high_name``; "its own" where they differ. None: losses are as they were.

    Raises
    ------
    ValueError
        Some barcodes are normalised and others are not.
    """
    scales = [provenance.get("normalised") for provenance in provenances]
    known = [scale for scale in scales if scale is not None]
    if not known:
        return None
    if len(known) < len(scales):
        raise ValueError("some barcodes are normalised and others are not; bring all to one scale with normalised().")
    names = {key: {str(scale[key]) for scale in known} for key in ("low_name", "high_name")}
    return {key: words.pop() if len(words) == 1 else "its own" for key, words in names.items()}
