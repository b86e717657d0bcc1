"""Barcodes: the engines, each behind one adapter.

Engines never see a loss. They are given ranks in the total order of `structures` and return pairs of ranks, so ties
and precision are decided once and every engine gives the same bars. The arrays that a foreign library gets are made
fresh here: C-ordered, finite, of its own type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from topolandscape.structures import (
    Barcode,
    FaceTable,
    FilteredComplex,
    Floats,
    GridComplex,
    Integers,
    MergeTree,
    MinimaNetwork,
    MorseComplex,
    SimplicialComplex,
    total_order,
)
from topolandscape.structures.graphs import components

Engine = Literal["auto", "merge", "morse", "gudhi", "ripser", "canonical"]
ENGINES: tuple[Engine, ...] = ("merge", "morse", "gudhi", "ripser", "canonical")

_FLOAT32_INTEGERS = 2**24  # ripser works in float32, which holds whole numbers up to here


def barcode(
    noun: FilteredComplex | MergeTree | MorseComplex | MinimaNetwork,
    *,
    max_dim: int = 0,
    engine: Engine = "auto",
    sizes: bool = True,
) -> Barcode:
    """Return the persistence barcode of a filtered complex, up to degree `max_dim`.

    Parameters
    ----------
    noun
        A filtered complex; its Morse complex; its merge tree, or a network of minima (degree 0 only). A network has a
        bar for each trained minimum, which dies where the lowest way known leads to a lower minimum, trained or not,
        and one that never ends for the lowest of all; bars of all minima are those of ``network.complex``. In its bars
        minima and passes are named by their rows, as `birth_vertex` and `death_simplex`; a minimum from which a path
        leads to a lower one without climbing has no bar. In those of a Morse complex of points, not of cells, the
        simplices are its rows.
    max_dim
        Highest degree of homology. 0: components, one bar for each minimum.
    engine
        ``"merge"``: our own merge sweep, degree 0; ``"morse"``: all degrees, by a discrete gradient field, up to 4
        dimensions on grids; ``"gudhi"``: all degrees, on explicit complexes by a simplex tree and on grids by cubical
        complexes; ``"ripser"``: flag complexes, up to 2^24 vertices and edges; ``"canonical"``: all degrees, by
        reduction of the whole boundary matrix in plain Python, small complexes. ``"auto"``: merge for degree 0; above
        morse, but gudhi on grids of more than 4 dimensions.
    sizes
        False: points are not counted, which takes up to half of the time of degree 0, and the sizes of bars are 0. They
        are counted by ``"merge"`` and ``"auto"`` only; a merge tree has them.

    Returns
    -------
    Barcode
        Bars of positive length over the field with two elements. Every engine gives the same births and deaths to
        the bit. Minima, saddles and the simplices of explicit complexes are the same as well, but for ripser in
        degrees above 0: it knows only the edge at which a class is born or ends, and the first simplex that enters
        with that edge is named.

    Notes
    -----
    Homology of sublevel sets: Edelsbrunner, Letscher and Zomorodian (2002); as the canonical form of a filtered
    complex, Barannikov (1994). The merge sweep is near linear; the matrix reduction behind degrees above 0 is cubic
    in the number of simplices at worst, and near linear as a rule. The discrete gradient leaves little to it: on grids
    nothing in degree 0 and in the highest (Guillou, Vidal and Tierny 2023).

    Examples
    --------
    >>> from topolandscape.topology.complexes import grid
    >>> code = barcode(grid([[0.0, 3.0, 1.0]] * 2))
    >>> code.birth.tolist(), code.death.tolist()
    ([0.0, 1.0], [inf, 3.0])
    """
    if engine not in ("auto", *ENGINES):
        raise ValueError(f"engine is {engine!r}; it must be one of auto, {', '.join(ENGINES)}.")
    if max_dim < 0:
        raise ValueError(f"max_dim is {max_dim}; degrees of homology begin at 0.")
    if isinstance(noun, MergeTree):
        if max_dim > 0 or engine not in ("auto", "merge"):
            raise ValueError("a merge tree holds components only: it gives bars of degree 0, by engine 'merge'.")
        return _merge_bars(noun, sizes)
    if isinstance(noun, MorseComplex):
        return _bars_of_morse(noun, max_dim, engine)
    if isinstance(noun, MinimaNetwork):
        return _of_trained(barcode(noun.complex, max_dim=max_dim, engine=engine, sizes=sizes), noun)
    if not isinstance(noun, (GridComplex, SimplicialComplex)):
        raise TypeError(
            f"got {type(noun).__name__}; a barcode is made of a filtered complex, a Morse complex or a merge tree."
        )
    if engine == "merge" and max_dim > 0:
        raise ValueError(f"engine 'merge' gives degree 0 only, and max_dim is {max_dim}; use engine='morse'.")
    _check_degree(noun, max_dim)
    if engine in ("auto", "merge"):
        lowest = _merge_bars(noun, sizes)
        if max_dim == 0:
            return lowest
        many_axes = isinstance(noun, GridComplex) and sum(side > 1 for side in noun.grid.shape) > 4
        return _joined(lowest, (_gudhi_bars if many_axes else _morse_bars)(noun, max_dim))
    return {"morse": _morse_bars, "gudhi": _gudhi_bars, "ripser": _ripser_bars, "canonical": _canonical_bars}[engine](
        noun, max_dim
    )


def _of_trained(bars: Barcode, network: MinimaNetwork) -> Barcode:
    """Return the bars of trained minima, and those that never end of what is joined to them."""
    trained = np.arange(len(network)) < network.trained
    labels = components(network.ends[np.isfinite(network.barriers)], len(network))
    joined = np.isin(labels, labels[trained])
    kept = np.where(bars.essential, joined[bars.birth_vertex], trained[bars.birth_vertex]) | (bars.dim > 0)
    return replace(bars, **{name: getattr(bars, name)[kept] for name in Barcode.columns})


def _check_degree(complex: FilteredComplex, max_dim: int) -> None:
    top = complex.dimension
    if max_dim > top:
        raise ValueError(f"max_dim is {max_dim}, but the complex has dimension {top}; take max_dim <= {top}.")
    if isinstance(complex, SimplicialComplex) and complex.flag and max_dim == top and max_dim > 0:
        raise ValueError(
            f"bars of degree {max_dim} need simplices of dimension {max_dim + 1}, which this flag complex of dimension "
            f"{top} leaves out. Build it with flag_complex(..., max_dim={max_dim + 1})."
        )


def _merge_bars(noun: FilteredComplex | MergeTree, sizes: bool) -> Barcode:
    from topolandscape.topology.merge import bars_alone, merge_bars, merge_tree

    if isinstance(noun, MergeTree):
        return merge_bars(noun)
    return merge_bars(merge_tree(noun)) if sizes else bars_alone(noun)


def _joined(components: Barcode, others: Barcode) -> Barcode:
    """Return the bars of degree 0 of one barcode and those of higher degrees of another."""
    above = others.dim > 0
    columns = {
        name: np.concatenate([getattr(components, name), getattr(others, name)[above]]) for name in Barcode.columns
    }
    return Barcode(**columns, provenance=components.provenance)


# --------------------------------------------------------------------------------------------------------------
# From pairs of ranks to bars
# --------------------------------------------------------------------------------------------------------------


def _grid_bars(complex: GridComplex, pairs: list[Floats]) -> Barcode:
    """Return the bars of a grid from pairs of ranks of vertices, one array (b, 2) a degree."""
    order = total_order(complex)
    degrees = np.repeat(np.arange(len(pairs)), [len(p) for p in pairs])
    ranks = np.concatenate(pairs)
    birth_vertex = order[ranks[:, 0].astype(np.int64)]
    death_vertex = np.full(len(ranks), -1)
    ends = np.isfinite(ranks[:, 1])
    death_vertex[ends] = order[ranks[ends, 1].astype(np.int64)]
    values = complex.vertex_values
    return _bars(
        degrees,
        values[birth_vertex],
        np.where(ends, values[death_vertex], np.inf),
        (birth_vertex, death_vertex),
        (birth_vertex, death_vertex),
        complex.provenance,
    )


def _simplicial_bars(complex: SimplicialComplex, pairs: list[tuple[Integers, Integers]]) -> Barcode:
    """Return the bars of an explicit complex from rows of simplices (birth, death or -1), one pair a degree."""
    parts: list[tuple[Any, ...]] = []
    for k, (born, dead) in enumerate(pairs):
        ends = dead >= 0
        death = np.full(len(dead), np.inf)
        death_vertex = np.full(len(dead), -1)
        if ends.any():
            death[ends] = complex.values[k + 1][dead[ends]]
            death_vertex[ends] = _last_vertex(complex, k + 1, dead[ends])
        parts.append((np.full(len(born), k), complex.values[k][born], death, born, dead))
        parts[-1] += (_last_vertex(complex, k, born), death_vertex)
    degrees, birth, death, born, dead, birth_vertex, death_vertex = map(np.concatenate, zip(*parts, strict=True))
    return _bars(degrees, birth, death, (born, dead), (birth_vertex, death_vertex), complex.provenance)


def _last_vertex(complex: SimplicialComplex, k: int, rows: Integers) -> Integers:
    """Return the last vertex, by (value, row), of k-simplices."""
    vertices = complex.simplices[k][rows]
    values = complex.vertex_values[vertices]
    return vertices[np.arange(len(rows)), k - np.argmax(values[:, ::-1], axis=1)]


def _bars(
    degrees: Integers,
    birth: Floats,
    death: Floats,
    simplices: tuple[Integers, Integers],
    vertices: tuple[Integers, Integers],
    provenance: Any,
) -> Barcode:
    """Return the bars of positive length; what would be born at +inf is not, and a death there never comes."""
    keep = (birth < death) & np.isfinite(birth)
    ends = np.isfinite(death)[keep]
    return Barcode(
        dim=degrees[keep],
        birth=birth[keep],
        death=death[keep],
        birth_simplex=simplices[0][keep],
        death_simplex=np.where(ends, simplices[1][keep], -1),
        birth_vertex=vertices[0][keep],
        death_vertex=np.where(ends, vertices[1][keep], -1),
        size=np.zeros(int(keep.sum()), dtype=np.int64),
        provenance=provenance,
    )


def _ranks(order: Integers) -> Floats:
    ranks = np.empty(len(order), dtype=np.float64)
    ranks[order] = np.arange(len(order))
    return ranks


def _truncated(complex: SimplicialComplex, dimension: int) -> SimplicialComplex:
    """Return the complex without the simplices above `dimension`."""
    kept = dimension + 1
    if kept > complex.dimension:
        return complex
    return SimplicialComplex(complex.simplices[:kept], complex.values[:kept], complex.flag, complex.provenance)


# --------------------------------------------------------------------------------------------------------------
# Critical cells, and canonical forms
# --------------------------------------------------------------------------------------------------------------


def last_known_degree(morse: MorseComplex) -> int:
    """Return the highest degree whose bars depend on no flow lines that were not looked for."""
    return min(morse.provenance.get("unknown", ()), default=len(morse) + 2) - 2


def _bars_of_morse(morse: MorseComplex, max_dim: int, engine: Engine) -> Barcode:
    from topolandscape.topology.canonical import canonical_form
    from topolandscape.topology.pairing import pairs_of_complex

    if engine not in ("auto", "morse", "canonical"):
        raise ValueError(f"engine is {engine!r}; the bars of a Morse complex come by engine 'morse' or 'canonical'.")
    if max_dim > max(morse.dimension, 0):
        raise ValueError(f"max_dim is {max_dim}, but the largest index is {morse.dimension}; take max_dim up to that.")
    if max_dim > (known := last_known_degree(morse)):
        raise ValueError(
            f"max_dim is {max_dim}, but flow lines from index {known + 2} to {known + 1} were not looked for, so that "
            f"only bars up to degree {known} are known; take max_dim={known}."
        )
    partner = _partners(len(morse), canonical_form(morse).pairs) if engine == "canonical" else pairs_of_complex(morse)
    if morse.shape is not None:
        names = morse.vertex
    else:
        names = morse.cell if (morse.cell >= 0).all() else np.arange(len(morse))
    columns = (morse.index, morse.value, names, morse.vertex)
    return _bars_of_rows(*columns, partner, max_dim, morse.provenance)


def _morse_bars(complex: FilteredComplex, max_dim: int) -> Barcode:
    from topolandscape.topology.critical import critical_of, names_of
    from topolandscape.topology.gradient import apparent_field, cells_of, lower_star_field
    from topolandscape.topology.pairing import pairs_of_field

    if isinstance(complex, GridComplex) and complex.connectivity != "axis":
        return _bars_by_cubes(complex, max_dim, _morse_bars)
    if isinstance(complex, SimplicialComplex):
        lower = _truncated(complex, max_dim + 1)
        cells = cells_of(lower)
        field = apparent_field(lower, cells)
    else:
        cells = cells_of(complex)
        field = lower_star_field(complex, cells)
    critical = critical_of(field, cells)
    names = critical.vertex if isinstance(complex, GridComplex) else names_of(field, critical)
    partner = pairs_of_field(field, critical, max_dim)
    columns = (critical.index, critical.value, names, critical.vertex)
    return _bars_of_rows(*columns, partner, max_dim, complex.provenance)


def _canonical_bars(complex: FilteredComplex, max_dim: int) -> Barcode:
    from topolandscape.topology.canonical import canonical_form, entering_cells
    from topolandscape.topology.critical import entries_of

    if isinstance(complex, GridComplex) and complex.connectivity != "axis":
        return _bars_by_cubes(complex, max_dim, _canonical_bars)
    lower = _truncated(complex, max_dim + 1) if isinstance(complex, SimplicialComplex) else complex
    cells = entering_cells(lower)
    index, vertex, value, names = entries_of(lower, cells)
    partner = _partners(len(cells), canonical_form(lower).pairs)
    names = vertex if isinstance(complex, GridComplex) else names
    return _bars_of_rows(index, value, names, vertex, partner, max_dim, complex.provenance)


def _partners(rows: int, pairs: Integers) -> Integers:
    partner = np.full(rows, -1)
    partner[pairs[:, 0]], partner[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return partner


def _bars_of_rows(
    index: Integers,
    value: Floats,
    names: Integers,
    vertex: Integers,
    partner: Integers,
    max_dim: int,
    provenance: Any,
) -> Barcode:
    """Return the bars of rows in their total order, of which each has a partner, or -1."""
    born = np.flatnonzero(((partner < 0) | (partner > np.arange(len(partner)))) & (index <= max_dim))
    dead = partner[born]
    ends = dead >= 0
    return _bars(
        index[born],
        value[born],
        np.where(ends, value[dead], np.inf),
        (names[born], np.where(ends, names[dead], -1)),
        (vertex[born], np.where(ends, vertex[dead], -1)),
        provenance,
    )


def _bars_by_cubes(complex: GridComplex, max_dim: int, engine: Callable[[FilteredComplex, int], Barcode]) -> Barcode:
    """Return the bars of a grid that is none of cubes, by an engine that knows cubes and simplices.

    The Freudenthal triangulation is listed. Closed voxels fill what the cubes between the other voxels leave: by
    Alexander duality their bars of degree k are those of degree d - 1 - k of the cubes, the highest voxels first, in a
    frame that is there before all (Bleile, Garin, Heiss, Maggs and Robins 2022).
    """
    order = total_order(complex)
    ranks = _ranks(order)
    if complex.connectivity == "freudenthal":
        from topolandscape.topology.complexes import freudenthal

        code = engine(_truncated(freudenthal(GridComplex(ranks.reshape(complex.grid.shape))), max_dim + 1), max_dim)
        bars = np.column_stack([code.birth, code.death])
        return _grid_bars(complex, [bars[code.dim == k] for k in range(max_dim + 1)])
    pairs = []
    shape = tuple(n for n in complex.grid.shape if n > 1)
    last = float(len(order))
    turned = np.where(np.isinf(complex.vertex_values), -last, -ranks)
    framed = np.pad(turned.reshape(shape), 1, constant_values=-last)
    code = engine(GridComplex(framed), len(shape) - 1)
    for k in range(max_dim + 1):
        chosen = code.dim == len(shape) - 1 - k
        birth, death = -code.death[chosen], -code.birth[chosen]
        ends = np.isfinite(birth)  # what is left of the dual complex is the frame, a component
        pairs.append(np.column_stack([birth, np.where(death == last, np.inf, death)])[ends])
    return _grid_bars(complex, pairs)


# --------------------------------------------------------------------------------------------------------------
# gudhi
# --------------------------------------------------------------------------------------------------------------


def _gudhi_bars(complex: FilteredComplex, max_dim: int) -> Barcode:
    if isinstance(complex, SimplicialComplex):
        lower = _truncated(complex, max_dim + 1)
        order = total_order(lower)
        return _simplicial_bars(lower, _rows_of_pairs(lower, order, _simplex_tree_pairs(lower, order, max_dim)))
    ranks = _ranks(total_order(complex)).reshape(complex.grid.shape)
    if complex.connectivity == "freudenthal":
        return _grid_bars(complex, _freudenthal_pairs(ranks, max_dim))
    return _grid_bars(complex, _cubical_pairs(ranks, complex.connectivity, max_dim))


def _simplex_tree_pairs(complex: SimplicialComplex, order: Integers, max_dim: int) -> list[Floats]:
    """Return pairs of ranks of simplices, one array (b, 2) a degree, by gudhi's simplex tree."""
    import gudhi

    if len(complex.vertex_values) >= 2**31:
        raise ValueError(f"gudhi numbers vertices up to 2^31, and there are {len(complex.vertex_values)}.")
    tree = gudhi.SimplexTree()
    ranks = np.split(_ranks(order), np.cumsum([len(s) for s in complex.simplices])[:-1])
    for simplices, entered in zip(complex.simplices, ranks, strict=True):
        # insert_batch misreads views of zero stride, such as those of a single simplex; hence copies.
        tree.insert_batch(np.array(simplices.T, dtype=np.int32, order="C", copy=True), entered.copy())
    for k in (0, complex.dimension):
        if len(ranks[k]) and tree.filtration(complex.simplices[k][-1].tolist()) != ranks[k][-1]:
            raise RuntimeError("gudhi did not take over the ranks it was given. Use engine='merge', and report this.")
    tree.compute_persistence(homology_coeff_field=2, min_persistence=0, persistence_dim_max=True)
    return [np.array(tree.persistence_intervals_in_dimension(k)).reshape(-1, 2) for k in range(max_dim + 1)]


def _rows_of_pairs(complex: SimplicialComplex, order: Integers, pairs: list[Floats]) -> list[tuple[Integers, Integers]]:
    """Return pairs of ranks as pairs of rows within the dimension of the simplex."""
    starts = np.cumsum([0, *(len(s) for s in complex.simplices)])
    result = []
    for k, ranks in enumerate(pairs):
        born = order[ranks[:, 0].astype(np.int64)] - starts[k]
        ends = np.isfinite(ranks[:, 1])
        dead = np.full(len(ranks), -1)
        dead[ends] = order[ranks[ends, 1].astype(np.int64)] - starts[k + 1 if ends.any() else k]
        result.append((born, dead))
    return result


def _cubical_pairs(ranks: Floats, connectivity: str, max_dim: int) -> list[Floats]:
    """Return pairs of ranks of vertices, by gudhi's cubical complex.

    Axis neighbours: vertices are given and a cube enters with the last of its vertices. All neighbours: voxels are
    given and a face enters with the first of its voxels.
    """
    from gudhi import CubicalComplex

    cells = np.array(np.squeeze(ranks), dtype=np.float64, order="C", copy=True)
    cubical = CubicalComplex(vertices=cells) if connectivity == "axis" else CubicalComplex(top_dimensional_cells=cells)
    cubical.compute_persistence(homology_coeff_field=2, min_persistence=0)
    return [np.array(cubical.persistence_intervals_in_dimension(k)).reshape(-1, 2) for k in range(max_dim + 1)]


def _freudenthal_pairs(ranks: Floats, max_dim: int) -> list[Floats]:
    """Return pairs of ranks of vertices, by gudhi's simplex tree on the listed triangulation."""
    from topolandscape.topology.complexes import freudenthal

    lower = _truncated(freudenthal(GridComplex(ranks)), max_dim + 1)
    order = total_order(lower)
    entered = np.concatenate(lower.values)[order]
    pairs = []
    for simplex_ranks in _simplex_tree_pairs(lower, order, max_dim):
        ends = np.isfinite(simplex_ranks)
        vertex_ranks = np.full(simplex_ranks.shape, np.inf)
        vertex_ranks[ends] = entered[simplex_ranks[ends].astype(np.int64)]
        pairs.append(vertex_ranks)
    return pairs


# --------------------------------------------------------------------------------------------------------------
# ripser
# --------------------------------------------------------------------------------------------------------------


def _ripser_bars(complex: FilteredComplex, max_dim: int) -> Barcode:
    if isinstance(complex, GridComplex):
        if complex.connectivity == "axis" and max_dim > 0:
            raise ValueError(
                "ripser knows flag complexes only, and cubes are none: above degree 0 use engine='gudhi', or "
                'connectivity="freudenthal" or "full".'
            )
        ranks = _ranks(total_order(complex))
        edges = grid_edges(complex)
        return _grid_bars(complex, _ripser_pairs(ranks, edges, ranks[edges].max(axis=1), max_dim))
    if max_dim > 0 and not complex.flag:
        raise ValueError(
            "ripser knows flag complexes only, and this complex may lack some: above degree 0 use engine='gudhi', or "
            "build it with flag_complex()."
        )
    graph = _truncated(complex, 1)
    order = total_order(graph)
    n = len(graph.vertex_values)
    ranks = _ranks(order)
    edges = graph.simplices[1] if graph.dimension else np.empty((0, 2), dtype=np.int64)
    pairs = _ripser_pairs(ranks[:n], edges, ranks[n:], max_dim)
    rows = _rows_of_pairs(graph, order, pairs[:1])
    table = FaceTable(graph.simplices)
    for k, pair in enumerate(pairs[1:], start=1):
        born, dead = (_first_with_edge(complex, table, ranks[n:], k + side, pair[:, side]) for side in (0, 1))
        rows.append((born, dead))
    return _simplicial_bars(complex, rows)


def grid_edges(complex: GridComplex) -> Integers:
    """Return the edges of a grid, shape (m, 2), each once."""
    from topolandscape.topology.merge import neighbour_offsets

    index = np.arange(complex.grid.size).reshape(complex.grid.shape)
    pairs = []
    for offset in neighbour_offsets(complex.grid.ndim, complex.connectivity):
        if tuple(offset) < (0,) * len(offset):
            continue
        here = index[tuple(slice(max(0, -step), min(0, -step) or None) for step in offset)]
        there = index[tuple(slice(max(0, step), min(0, step) or None) for step in offset)]
        pairs.append(np.column_stack([here.reshape(-1), there.reshape(-1)]))
    return np.concatenate(pairs)


def _ripser_pairs(vertex_ranks: Floats, edges: Integers, edge_ranks: Floats, max_dim: int) -> list[Floats]:
    """Return pairs of ranks by ripser on the sparse matrix that has vertices on its diagonal.

    Ranks are raised by one on the way, since a zero in a sparse matrix means that nothing is there.
    """
    from ripser import ripser
    from scipy.sparse import coo_matrix

    n, m = len(vertex_ranks), len(edges)
    if n + m > _FLOAT32_INTEGERS:
        raise ValueError(
            f"ripser works in float32, which tells {_FLOAT32_INTEGERS} simplices apart, and there are {n + m} vertices "
            "and edges. Use engine='merge' or engine='gudhi'."
        )
    rows = np.concatenate([np.arange(n), edges[:, 0], edges[:, 1]])
    columns = np.concatenate([np.arange(n), edges[:, 1], edges[:, 0]])
    entered = np.concatenate([vertex_ranks, edge_ranks, edge_ranks]) + 1
    ordered = np.lexsort((columns, rows))
    matrix = coo_matrix((entered[ordered].astype(np.float32), (rows[ordered], columns[ordered])), shape=(n, n))
    diagrams = ripser(matrix, distance_matrix=True, maxdim=max_dim, coeff=2)["dgms"]
    return [np.array(diagram, dtype=np.float64).reshape(-1, 2) - 1 for diagram in diagrams]


def _first_with_edge(
    complex: SimplicialComplex, table: FaceTable, edge_ranks: Floats, k: int, ranks: Floats
) -> Integers:
    """Return the first k-simplex whose last edge has each of `ranks`, counted over vertices and edges; -1 for inf."""
    simplices = complex.simplices[k]
    last = np.maximum.reduce(
        [edge_ranks[table.rows(simplices[:, [i, j]])] for i in range(k + 1) for j in range(i + 1, k + 1)]
    )
    order = np.argsort(last, kind="stable")
    result = np.full(len(ranks), -1)
    ends = np.isfinite(ranks)
    result[ends] = order[np.searchsorted(last[order], ranks[ends])]
    return result
