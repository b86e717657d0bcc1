"""Who is whose neighbour: from samples to filtered complexes.

Every complex made here is lower-star: a simplex enters with the last of its vertices. `with_edge_values` raises
edges to values of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.structures import (
    Connectivity,
    FaceTable,
    Floats,
    GridComplex,
    Integers,
    LossSamples,
    SimplicialComplex,
    ascending,
)
from topolandscape.topology.neighbours import Search, neighbour_edges, unique_rows

Nonfinite = Literal["raise", "infinite"]


def grid(
    samples: LossSamples | ArrayLike, *, connectivity: Connectivity = "axis", nonfinite: Nonfinite = "raise"
) -> GridComplex:
    """Return the lower-star filtration of a full grid, whose cells are implied.

    Parameters
    ----------
    samples
        Samples of a grid (from ``sample_grid`` or ``sample_plane``), or an array of values in its grid shape.
    connectivity
        ``"axis"``: 2 d neighbours; ``"freudenthal"``: also the positive diagonals; ``"full"``: all 3^d - 1. In a
        narrow diagonal valley axis neighbours make false minima, the others do not.
    nonfinite
        ``"raise"``: refuse NaN and infinite losses; ``"infinite"``: such points never enter.

    Returns
    -------
    GridComplex

    Examples
    --------
    >>> grid([[0.0, 3.0, 1.0], [0.5, 2.0, 1.5]])
    GridComplex(2 x 3 vertices, axis)
    """
    if isinstance(samples, LossSamples):
        if samples.shape is None:
            raise ValueError(
                f"these {len(samples)} samples are no grid. Sample one with sample_grid(), or connect them with "
                "nearest_neighbours() or delaunay()."
            )
        values = samples.values.reshape(samples.shape)
        provenance = _provenance(samples, method="grid", connectivity=connectivity)
    else:
        values = np.asarray(samples, dtype=np.float64)
        provenance = {"complex": {"method": "grid", "connectivity": connectivity}}
    return GridComplex(entering(values, nonfinite), connectivity, provenance)


def freudenthal(complex: GridComplex) -> SimplicialComplex:
    """Return the Freudenthal triangulation of a grid as an explicit complex.

    Every cube is cut into d! simplices along its main diagonal (Freudenthal 1942; Kuhn 1960).

    Parameters
    ----------
    complex
        A grid; its own connectivity does not matter.

    Returns
    -------
    SimplicialComplex
        Vertices are numbered row-major. About 2^d edges and d! top simplices a vertex, so for small grids.

    Examples
    --------
    >>> freudenthal(GridComplex([[0.0, 3.0, 1.0], [0.5, 2.0, 1.5]]))
    SimplicialComplex(6 vertices, 9 edges, 4 triangles)
    """
    shape = complex.grid.shape
    index = np.arange(complex.grid.size).reshape(shape)
    corners = [np.array(step) for step in np.ndindex(*(2,) * len(shape))]
    simplices: list[Integers] = []
    for k in range(len(shape) + 1):
        rows = [
            np.stack([_shifted(index, corner, chain[-1]) for corner in chain], axis=-1).reshape(-1, k + 1)
            for chain in combinations(corners, k + 1)
            if not chain[0].any() and all((a <= b).all() for a, b in pairwise(chain))
        ]
        simplices.append(_in_order(np.concatenate(rows)))
    return _lower_star(simplices, complex.vertex_values, complex.provenance)


def nearest_neighbours(
    samples: LossSamples,
    *,
    k: int,
    connect: bool = False,
    search: Search = "auto",
    seed: int = 0,
    nonfinite: Nonfinite = "raise",
) -> SimplicialComplex:
    """Return the union graph of the `k` nearest neighbours.

    Two points are joined when either is among the `k` nearest of the other. Too small a `k` makes false minima and
    separate components; about 8 d is enough for uniform samples in d dimensions.

    Parameters
    ----------
    samples
        Points and losses.
    k
        Neighbours of each point, itself not counted.
    connect
        Join the components of the graph by the shortest links that are missing.
    search
        ``"tree"``: k-d tree, exact; ``"brute"``: all pairs, exact; ``"approximate"``: nearest-neighbour descent
        (Dong, Moses and Li 2011), whose recall on 1000 exact queries is kept in the provenance. ``"auto"``: tree up
        to 5 dimensions, brute up to 100,000 points, approximate beyond.
    seed
        For the approximate search.
    nonfinite
        ``"raise"``: refuse NaN and infinite losses; ``"infinite"``: such points never enter.

    Returns
    -------
    SimplicialComplex
        Vertices and edges. A graph of several components warns, since each gives an essential bar.

    Examples
    --------
    >>> samples = LossSamples(points=[[0.0], [1.0], [2.0], [3.0]], values=[0.0, 2.0, 1.0, 3.0])
    >>> nearest_neighbours(samples, k=1)
    SimplicialComplex(4 vertices, 3 edges)
    """
    edges, facts = neighbour_edges(samples.points, k=k, connect=connect, search=search, seed=seed)
    values = entering(samples.values, nonfinite)
    provenance = _provenance(samples, method="nearest_neighbours", k=k, **facts)
    return _lower_star([_vertices(len(values)), edges], values, provenance, flag=True)


def delaunay(samples: LossSamples, *, nonfinite: Nonfinite = "raise") -> SimplicialComplex:
    """Return the Delaunay triangulation of the samples, up to 4 dimensions.

    Parameters
    ----------
    samples
        Points (n, d) with d from 1 to 4, and losses.
    nonfinite
        ``"raise"``: refuse NaN and infinite losses; ``"infinite"``: such points never enter.

    Returns
    -------
    SimplicialComplex
        Of dimension d. Up to n^(d/2) simplices.

    Examples
    --------
    >>> corners = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]
    >>> delaunay(LossSamples(points=corners, values=[0.0, 1.0, 2.0, 3.0]))
    SimplicialComplex(4 vertices, 5 edges, 2 triangles)
    """
    n, d = samples.points.shape
    if d > 4:
        raise ValueError(f"the points have {d} dimensions; a triangulation is made up to 4. Use nearest_neighbours().")
    if n < d + 1:
        raise ValueError(f"got {n} point(s) in {d} dimensions; a triangulation needs at least {d + 1}.")
    points = samples.points - samples.points.mean(axis=0)
    if d == 1:
        order = np.argsort(points[:, 0], kind="stable")
        top = np.column_stack([order[:-1], order[1:]])
    else:
        from scipy.spatial import Delaunay, QhullError

        try:
            triangulation = Delaunay(points)
        except QhullError:
            raise ValueError(
                f"the {n} points lie in a subspace of fewer than {d} dimensions, so they have no triangulation there. "
                "Sample in that subspace, or use nearest_neighbours()."
            ) from None
        left_out = triangulation.coplanar[:, 0]
        if len(left_out):
            raise ValueError(
                f"points[{int(left_out[0])}] and {len(left_out) - 1} more lie on others to working precision, so the "
                "triangulation leaves them out. Drop them, or use nearest_neighbours()."
            )
        top = triangulation.simplices
    return lower_star(top, entering(samples.values, nonfinite), provenance=_provenance(samples, method="delaunay"))


def flag_complex(
    samples: LossSamples, *, k: int, max_dim: int, connect: bool = False, nonfinite: Nonfinite = "raise"
) -> SimplicialComplex:
    """Return the flag complex of the graph of the `k` nearest neighbours, up to dimension `max_dim`.

    Parameters
    ----------
    samples
        Points and losses.
    k
        Neighbours of each point, as in ``nearest_neighbours``.
    max_dim
        Largest dimension of a simplex, at least 1. Homology is known below it: for bars of degree 1 take 2.
    connect
        Join the components of the graph by the shortest links that are missing.
    nonfinite
        ``"raise"``: refuse NaN and infinite losses; ``"infinite"``: such points never enter.

    Returns
    -------
    SimplicialComplex
        A clique of the graph is a simplex. Their number grows like n k^max_dim.

    Examples
    --------
    >>> corners = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]
    >>> flag_complex(LossSamples(points=corners, values=[0.0, 1.0, 2.0, 3.0]), k=2, max_dim=2)
    SimplicialComplex(4 vertices, 5 edges, 2 triangles)
    """
    graph = nearest_neighbours(samples, k=k, connect=connect, nonfinite=nonfinite)
    return expand(graph, max_dim=max_dim)


def expand(complex: SimplicialComplex, *, max_dim: int) -> SimplicialComplex:
    """Return the flag complex of the graph of a complex, up to dimension `max_dim`.

    Parameters
    ----------
    complex
        Its vertices and edges are kept with their values; its other simplices do not matter.
    max_dim
        Largest dimension of a simplex, at least 1.

    Returns
    -------
    SimplicialComplex
        A clique enters with the last of its edges.

    Examples
    --------
    >>> graph = lower_star([[0, 1], [0, 2], [1, 2]], [0.0, 1.0, 2.0])
    >>> expand(graph, max_dim=2)
    SimplicialComplex(3 vertices, 3 edges, 1 triangles)
    """
    if max_dim < 1:
        raise ValueError(f"max_dim is {max_dim}; it must be at least 1, the dimension of edges.")
    if complex.dimension < 1:
        raise ValueError("the complex has no edges; build it with nearest_neighbours() or delaunay().")
    simplices, values = list(complex.simplices[:2]), list(complex.values[:2])
    edges = _in_order(simplices[1])
    table = FaceTable([simplices[0], edges])
    above = np.searchsorted(edges[:, 0], np.arange(len(simplices[0]) + 1))  # edges[above[v]:above[v + 1]] begin at v
    while len(simplices) <= max_dim:
        rows = simplices[-1]
        starts, ends = above[rows[:, -1]], above[rows[:, -1] + 1]
        parent = np.repeat(np.arange(len(rows)), ends - starts)
        offset = np.arange(len(parent)) - np.repeat(np.cumsum(ends - starts) - (ends - starts), ends - starts)
        tip = edges[starts[parent] + offset, 1]
        clique = np.ones(len(parent), dtype=bool)
        for column in range(rows.shape[1] - 1):
            clique[clique] = table.rows(np.column_stack([rows[parent[clique], column], tip[clique]])) >= 0
        simplices.append(np.column_stack([rows[parent[clique]], tip[clique]]))
        facets = FaceTable(simplices)
        values.append(
            np.maximum.reduce(
                [
                    values[-1][facets.rows(np.delete(simplices[-1], missing, axis=1))]
                    for missing in range(len(simplices))
                ]
            )
        )
    return SimplicialComplex(tuple(simplices), tuple(values), flag=True, provenance=complex.provenance)


def lower_star(
    simplices: ArrayLike | Sequence[ArrayLike], values: ArrayLike, *, provenance: Mapping[str, Any] | None = None
) -> SimplicialComplex:
    """Return the lower-star filtration of simplices and all their faces.

    Parameters
    ----------
    simplices
        Vertices of each simplex: one array (m, k + 1), or several for several dimensions. Vertices may stand in any
        order.
    values
        Value of each vertex, shape (n,).
    provenance
        How the complex was made.

    Returns
    -------
    SimplicialComplex
        A simplex enters with the last of its vertices. Rows are in lexicographic order.

    Examples
    --------
    >>> lower_star([[2, 1, 0]], [0.0, 1.0, 2.0])
    SimplicialComplex(3 vertices, 3 edges, 1 triangles)
    """
    given = list(simplices) if isinstance(simplices, (list, tuple)) and _is_ragged(simplices) else [simplices]
    losses = np.asarray(values, dtype=np.float64)
    if losses.ndim != 1:
        raise ValueError(f"values have shape {losses.shape}; give one for each vertex, shape (n,).")
    n = len(losses)
    by_dimension: dict[int, list[Integers]] = {0: [_vertices(n)]}
    for rows in given:
        try:
            array = np.asarray(rows)
        except ValueError:
            raise ValueError("simplices have rows of different lengths; give one array for each dimension.") from None
        if array.ndim != 2 or (array.size and not np.issubdtype(array.dtype, np.integer)):
            raise ValueError(
                f"simplices have shape {array.shape} and type {array.dtype}; give integers, one simplex a row."
            )
        if array.size and not (array.min() >= 0 and array.max() < n):
            row = int(np.argmax((array < 0).any(axis=1) | (array >= n).any(axis=1)))
            raise ValueError(f"simplex {row} is {array[row].tolist()}, but there are values for vertices 0 to {n - 1}.")
        ordered = np.sort(array.astype(np.int64), axis=1)
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            row = int(np.argmax((ordered[:, 1:] == ordered[:, :-1]).any(axis=1)))
            raise ValueError(f"simplex {row} is {array[row].tolist()}; a simplex names each vertex once.")
        by_dimension.setdefault(array.shape[1] - 1, []).append(ordered)
    closed: list[Integers] = []
    for k in range(max(by_dimension), 0, -1):
        rows_here = by_dimension.get(k, [])
        if closed:
            rows_here = [*rows_here, *(np.delete(closed[-1], missing, axis=1) for missing in range(k + 2))]
        closed.append(unique_rows(np.concatenate(rows_here), n))
    return _lower_star([_vertices(n), *reversed(closed)], losses, provenance or {})


def with_edge_values(complex: SimplicialComplex, edge_values: ArrayLike) -> SimplicialComplex:
    """Return the complex with its edges raised to values of their own.

    A lower-star edge enters with its later end, and so misses a ridge between two samples. Where the loss on the
    segment is known, its highest value is a better one.

    Parameters
    ----------
    complex
        An explicit complex.
    edge_values
        Highest loss on each edge, shape (n_1,), in the order of ``complex.simplices[1]``.

    Returns
    -------
    SimplicialComplex
        Edges enter no earlier than before, and higher simplices with the last of their edges. NaN and infinite values
        mean that an edge never enters.

    Examples
    --------
    >>> ridge = with_edge_values(lower_star([[0, 1]], [0.0, 1.0]), [5.0])
    >>> ridge.values[1]
    array([5.])
    """
    if complex.dimension < 1:
        raise ValueError("the complex has no edges; build it with nearest_neighbours() or delaunay().")
    given = np.asarray(edge_values, dtype=np.float64)
    if given.shape != complex.values[1].shape:
        raise ValueError(f"edge_values have shape {given.shape}; there are {len(complex.values[1])} edges.")
    values = [complex.values[0], np.maximum(complex.values[1], np.where(np.isfinite(given), given, np.inf))]
    table = FaceTable(complex.simplices)
    for k in range(2, complex.dimension + 1):
        rows = complex.simplices[k]
        facets = [values[k - 1][table.rows(np.delete(rows, missing, axis=1))] for missing in range(k + 1)]
        values.append(np.maximum.reduce([complex.values[k], *facets]))
    return SimplicialComplex(complex.simplices, tuple(values), complex.flag, complex.provenance)


def with_measured_edges(complex: SimplicialComplex, measure: Callable[[Integers], ArrayLike]) -> SimplicialComplex:
    """Return the graph of a complex with edges raised to measured values, asking only for edges that matter.

    The components of the sublevel sets, hence the bars of degree 0, depend on the edges of a minimum spanning tree
    alone. So the edges of the tree are measured, raised, and the tree is found anew, until all of its edges have been
    measured: the same bars as by `with_edge_values` of all edges, at the cost of one or two measurements a vertex where
    most edges rise no higher than their ends.

    Parameters
    ----------
    complex
        An explicit complex; only vertices and edges are used.
    measure
        Called with edges (m, 2); returns the highest loss on each, (m,). NaN and infinite: the edge never enters.

    Returns
    -------
    SimplicialComplex
        Vertices and edges. Edges that were not asked for keep their lower-star value, and change no bar of degree 0.

    Examples
    --------
    >>> graph = lower_star([[0, 1], [1, 2], [0, 2]], [0.0, 1.0, 2.0])
    >>> with_measured_edges(graph, lambda edges: [5.0] * len(edges)).values[1].tolist()
    [5.0, 5.0, 5.0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    if complex.dimension < 1:
        raise ValueError("the complex has no edges; build it with nearest_neighbours() or delaunay().")
    edges, values = complex.simplices[1], complex.values[1].copy()
    n = len(complex.vertex_values)
    measured = np.zeros(len(edges), dtype=bool)
    while True:
        order = ascending(values)
        order = order[np.isfinite(values[order])]
        ranks = np.arange(1.0, len(order) + 1)  # a weight of zero would mean that there is no edge
        graph = coo_array((ranks, (edges[order, 0], edges[order, 1])), shape=(n, n))
        tree = order[minimum_spanning_tree(graph.tocsr()).data.astype(np.int64) - 1]
        asked = np.sort(tree[~measured[tree]])
        if len(asked) == 0:
            break
        found = np.asarray(measure(edges[asked]), dtype=np.float64)
        if found.shape != asked.shape:
            raise ValueError(
                f"measure returned shape {found.shape} for {len(asked)} edges; it must return one value each."
            )
        values[asked] = np.maximum(values[asked], np.where(np.isfinite(found), found, np.inf))
        measured[asked] = True
    provenance = {**complex.provenance, "measured_edges": int(measured.sum())}
    return SimplicialComplex(complex.simplices[:2], (complex.vertex_values, values), True, provenance)


# --------------------------------------------------------------------------------------------------------------
# Values
# --------------------------------------------------------------------------------------------------------------


def entering(
    values: Floats, nonfinite: Nonfinite, *, names: Callable[[Integers], Integers] = lambda rows: rows
) -> Floats:
    """Return the values at which vertices enter; NaN and +inf are refused or never enter.

    `names` says what rows of a part are called in the whole.
    """
    if nonfinite not in ("raise", "infinite"):
        raise ValueError(f'nonfinite is {nonfinite!r}; it must be "raise" or "infinite".')
    wrong = ~np.isfinite(values)
    if not wrong.any():
        return values
    rows = np.flatnonzero(wrong.reshape(-1))
    if nonfinite == "raise":
        shown = ", ".join(map(str, names(rows[:5]))) + (", ..." if len(rows) > 5 else "")
        raise ValueError(
            f"{len(rows)} of {values.size} losses are NaN or infinite (rows {shown}). Drop these points, or pass "
            'nonfinite="infinite": they then never enter.'
        )
    if np.isneginf(values).any():
        row = int(names(np.flatnonzero(np.isneginf(values)))[0])
        raise ValueError(f"the loss of row {row} is -inf, which would be the lowest minimum. Drop the point.")
    return np.where(wrong, np.inf, values)


def _lower_star(
    simplices: Sequence[Integers], values: Floats, provenance: Mapping[str, Any], *, flag: bool = False
) -> SimplicialComplex:
    entered = [values, *(values[rows].max(axis=1) for rows in simplices[1:])]
    return SimplicialComplex(tuple(simplices), tuple(entered), flag, provenance)


def _provenance(samples: LossSamples, **complex: Any) -> dict[str, Any]:
    return {**samples.provenance, "noise": samples.noise, "complex": complex}


# --------------------------------------------------------------------------------------------------------------
# Rows of vertices
# --------------------------------------------------------------------------------------------------------------


def _vertices(n: int) -> Integers:
    return np.arange(n)[:, None]


def _is_ragged(simplices: Iterable[Any]) -> bool:
    """Tell several arrays of simplices from one array given as a list of rows."""
    return any(np.ndim(rows) == 2 for rows in simplices)


def _in_order(rows: Integers) -> Integers:
    """Return the rows in lexicographic order."""
    return rows[np.lexsort(rows.T[::-1])]


def _shifted(index: Integers, corner: Integers, last: Integers) -> Integers:
    """Return the vertices of `index` moved by `corner`, wherever moving by `last` stays inside."""
    window = tuple(slice(c, size - reach + c) for c, reach, size in zip(corner, last, index.shape, strict=True))
    return index[window]
