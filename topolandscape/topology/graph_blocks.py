"""Merge trees of graphs of nearest neighbours whose edges do not fit in memory.

The neighbours of each block of points are looked for in every block. Edges are made again from their table, block by
block, whenever they are needed; of the links between basins only a spanning forest is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topolandscape.structures import Floats, Integers, MergeTree
from topolandscape.structures.journal import Store
from topolandscape.topology.blocks import Sliced
from topolandscape.topology.complexes import Nonfinite, entering
from topolandscape.topology.merge import graph_merge_tree
from topolandscape.topology.neighbours import TREE_DIMENSIONS, Search, check_neighbours, searcher, unique_rows
from topolandscape.topology.sorting import index_type


def graph_merge_tree_in_blocks(
    points: Sliced,
    values: ArrayLike,
    *,
    k: int,
    nonfinite: Nonfinite = "raise",
    block: int = 2**17,
    table: NDArray[Any] | None = None,
    store: Store | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> MergeTree:
    """Track the components of the sublevel sets of a graph of nearest neighbours whose edges are never all in memory.

    Parameters
    ----------
    points
        Coordinates (n, d): an array, ``numpy.load(file, mmap_mode="r")``, or whatever is sliced like one.
    values
        Losses, shape (n,).
    k
        Neighbours of each point, itself not counted.
    nonfinite
        ``"raise"``: refuse NaN and infinite losses; ``"infinite"``: such points never enter.
    block
        Points whose neighbours are looked for at once, in as many others.
    table
        Where the rows of the neighbours are written, an array of integers (n, k), such as
        ``numpy.lib.format.open_memmap(file, "w+", "int32", (n, k))``. None: in memory, 8 k bytes a point.
    store
        Where they are kept instead, block by block, as `Run.store` gives it, so that the same call goes on where one
        that was stopped had come; of these points alone.
    provenance
        How the points were made.

    Returns
    -------
    MergeTree
        Equal to `merge_tree` of `nearest_neighbours`, to the bit, where the k-th and the next neighbour of no point are
        at the same distance. A graph of several components warns.

    Notes
    -----
    The search is exact and compares each block with every block. There are some 100 bytes a point beside the table and
    two blocks; edges in memory take 12 k and more.

    Examples
    --------
    >>> points = np.array([[0.0], [1.0], [2.1], [3.3]])
    >>> graph_merge_tree_in_blocks(points, [0.0, 2.0, 1.0, 3.0], k=1, block=2)
    MergeTree(2 minima, 1 saddles, 1 component)
    """
    losses = entering(np.asarray(values, dtype=np.float64), nonfinite)
    n, d = points.shape
    if losses.shape != (n,):
        raise ValueError(f"values have shape {losses.shape}; there are {n} points, so they need ({n},).")
    check_neighbours(k, n)
    if block < 1:
        raise ValueError(f"block is {block}; it must be at least 1 point.")
    if table is not None and store is not None:
        raise ValueError("table and store are both given; the neighbours are written to one of them.")
    rows: _Table
    if store is not None:
        rows = _StoredRows(store, n, k)
    elif table is None:
        rows = np.empty((n, k), dtype=np.int64)
    elif table.shape != (n, k) or not np.issubdtype(table.dtype, np.integer) or np.iinfo(table.dtype).max < n:
        raise ValueError(
            f"table holds {table.dtype} of shape {table.shape}; it needs integers up to {n}, of shape ({n}, {k})."
        )
    else:
        rows = table
    blocks = [slice(first, min(first + block, n)) for first in range(0, n, block)]
    search: Search = "tree" if d <= TREE_DIMENSIONS else "brute"
    _write_neighbours(points, blocks, k, search, rows)
    complex = {"method": "nearest_neighbours", "k": k, "search": search}
    tree = graph_merge_tree(losses, _Edges(losses, blocks, rows), {**(provenance or {}), "complex": complex})
    count = int((tree.parent < 0).sum())
    if count > 1:
        warnings.warn(
            f"the graph has {count} components; each gives an essential bar. Use a larger k.",
            stacklevel=2,
        )
    return tree


class _StoredRows:
    """The rows of the neighbours of n points, block by block in a store."""

    def __init__(self, store: Store, n: int, k: int) -> None:
        self._store, self._k = store, k
        self._dtype = index_type(n)
        self._there = set(store.names())

    def _name(self, rows: slice) -> str:
        return f"neighbours-{self._k}-{rows.start}-{rows.stop}"

    def __contains__(self, rows: slice) -> bool:
        """Tell whether a block is there."""
        return self._name(rows) in self._there

    def __getitem__(self, rows: slice) -> Integers:
        """Return the rows of a block, (m, k)."""
        return (self._store.get(self._name(rows)) or {})["nearest"]

    def __setitem__(self, rows: slice, nearest: Integers) -> None:
        """Keep the rows of a block."""
        self._store.put(self._name(rows), {"nearest": nearest.astype(self._dtype)})
        self._there.add(self._name(rows))


_Table = NDArray[Any] | _StoredRows


def _write_neighbours(points: Sliced, blocks: list[slice], k: int, search: Search, table: _Table) -> None:
    """Write the rows of the k nearest neighbours of every point."""
    n, d = points.shape
    # Far from the origin, differences of squares lose their digits.
    centre = sum((_read(points, rows).sum(axis=0) for rows in blocks), np.zeros(d)) / n
    for rows in blocks:
        if isinstance(table, _StoredRows) and rows in table:
            continue
        queries = _read(points, rows) - centre
        themselves = np.arange(rows.start, rows.stop)[:, None]
        distances: Floats = np.empty((len(queries), 0))
        nearest: Integers = np.empty((len(queries), 0), dtype=np.int64)
        for others in blocks:
            reach = min(k + 1, others.stop - others.start)
            found_distances, found = searcher(_read(points, others) - centre, search)(queries, reach)
            found = found + others.start
            distances = np.column_stack([distances, np.where(found == themselves, np.inf, found_distances)])
            nearest = np.column_stack([nearest, found])
            if nearest.shape[1] > k:
                best = np.argpartition(distances, k - 1, axis=1)[:, :k]
                distances = np.take_along_axis(distances, best, axis=1)
                nearest = np.take_along_axis(nearest, best, axis=1)
        table[rows] = nearest


def _read(points: Sliced, rows: slice) -> Floats:
    return np.asarray(points[(rows,)], dtype=np.float64)


class _Edges:
    """The edges of a union graph, read off the table of neighbours as often as one likes.

    Those of which the lower end is in one block come after the other, each once, in lexicographic order over all.
    """

    def __init__(self, values: Floats, blocks: list[slice], table: _Table) -> None:
        self._values, self._blocks, self._table = values, blocks, table

    def __iter__(self) -> Iterator[tuple[Integers, Floats]]:
        """Yield edges (m, 2) and their lower-star values (m,)."""
        for number, rows in enumerate(self._blocks):
            nearest = np.asarray(self._table[rows], dtype=np.int64)
            one, column = np.nonzero(nearest >= rows.stop)
            parts = [np.column_stack([one + rows.start, nearest[one, column]])]
            for later in self._blocks[number:]:  # whose points may have neighbours here that do not have them
                nearest = np.asarray(self._table[later], dtype=np.int64)
                one, column = np.nonzero((nearest >= rows.start) & (nearest < rows.stop))
                parts.append(np.sort(np.column_stack([one + later.start, nearest[one, column]]), axis=1))
            edges = unique_rows(np.concatenate(parts), len(self._values))
            yield edges, self._values[edges].max(axis=1)
