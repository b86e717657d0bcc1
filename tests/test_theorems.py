"""What must hold on every complex: stability, Euler characteristic, Betti numbers, the elder rule, basins and sizes."""

from itertools import combinations, pairwise

import gudhi
import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import ndimage

from topolandscape.structures import GridComplex, SimplicialComplex, total_order
from topolandscape.topology.complexes import lower_star, with_edge_values
from topolandscape.topology.merge import merge_tree
from topolandscape.topology.persistence import barcode, grid_edges

LEVELS = {
    "ties": st.integers(-2, 2).map(float),
    "no ties": st.floats(-1e3, 1e3, allow_nan=False),
    "ties and never": st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.inf]),
}


@st.composite
def losses(draw, count, kinds=tuple(LEVELS)):
    return draw(st.lists(LEVELS[draw(st.sampled_from(kinds))], min_size=count, max_size=count))


@st.composite
def complexes(draw, kinds=tuple(LEVELS), top=4, n_max=8):
    """Draw a complex up to dimension top - 1: lower-star, or with raised edges."""
    n = draw(st.integers(2, n_max))
    size = draw(st.integers(2, min(top, n)))
    rows = draw(st.lists(st.permutations(range(n)).map(lambda p: p[:size]), min_size=1, max_size=12))
    complex = lower_star(rows, draw(losses(n, kinds)))
    if draw(st.booleans()):
        complex = with_edge_values(complex, draw(losses(len(complex.simplices[1]), kinds)))
    return complex


@st.composite
def grids(draw, kinds=tuple(LEVELS)):
    shape = draw(st.sampled_from([(12,), (1, 5), (4, 1, 3), (4, 5), (3, 2, 3)]))
    connectivity = draw(st.sampled_from(["axis", "freudenthal", "full"]))
    return GridComplex(np.array(draw(losses(int(np.prod(shape)), kinds))).reshape(shape), connectivity)


def graph_of(complex):
    """Return the vertices and edges that ever enter, with their values, as a networkx graph."""
    if isinstance(complex, GridComplex):
        edges = grid_edges(complex)
        entered = complex.vertex_values[edges].max(axis=1)
    else:
        edges, entered = complex.simplices[1], complex.values[1]
    graph = nx.Graph()
    graph.add_nodes_from(
        (v, {"value": value}) for v, value in enumerate(complex.vertex_values.tolist()) if np.isfinite(value)
    )
    graph.add_edges_from(
        (one, other, {"value": value})
        for (one, other), value in zip(edges.tolist(), entered.tolist(), strict=True)
        if np.isfinite(value)
    )
    return graph


def sublevel(graph, level, *, strict=False):
    """Return the part of a graph that has entered at a level, or before it."""
    part = nx.Graph()
    part.add_nodes_from(v for v, value in graph.nodes(data="value") if value < level or (not strict and value == level))
    part.add_edges_from(
        (a, b) for a, b, value in graph.edges(data="value") if value < level or (not strict and value == level)
    )
    return part


def pairs(code, dim=0):
    kept = code.filter(dim=dim)
    return sorted(zip(kept.birth.tolist(), kept.death.tolist(), strict=True))


# --------------------------------------------------------------------------------------------------------------
# Stability
# --------------------------------------------------------------------------------------------------------------


def bottleneck(one, other):
    """Return the bottleneck distance by gudhi, essential bars matched among themselves, in order of birth."""
    essential = [np.sort(code.birth[code.essential]) for code in (one, other)]
    if len(essential[0]) != len(essential[1]):
        return np.inf
    finite = [np.column_stack([code.birth, code.death])[~code.essential] for code in (one, other)]
    return max(gudhi.bottleneck_distance(*finite), np.abs(essential[0] - essential[1]).max(initial=0.0))


@given(complexes(kinds=("ties", "no ties")), st.data())
def test_bars_move_no_more_than_the_losses(complex, data):
    """Cohen-Steiner, Edelsbrunner and Harer (2007), in every degree."""
    n = len(complex.vertex_values)
    moves = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=n, max_size=n)))
    plain = lower_star([s for s in complex.simplices[1:] if len(s)], complex.vertex_values)
    moved = lower_star([s for s in complex.simplices[1:] if len(s)], complex.vertex_values + moves)
    distance = np.abs(moved.vertex_values - plain.vertex_values).max()
    one, other = (barcode(c, max_dim=c.dimension) for c in (plain, moved))
    for dim in range(plain.dimension + 1):
        assert bottleneck(one.filter(dim=dim), other.filter(dim=dim)) <= distance * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
@pytest.mark.parametrize("size", [1e-6, 0.1, 3.0])
def test_bars_of_grids_move_no_more_than_the_losses(connectivity, size):
    rng = np.random.default_rng(0)
    before = rng.normal(size=(14, 15))
    moves = size * rng.uniform(-1, 1, size=before.shape)
    one, other = (barcode(GridComplex(values, connectivity), max_dim=1) for values in (before, before + moves))
    for dim in (0, 1):
        distance = bottleneck(one.filter(dim=dim), other.filter(dim=dim))
        assert 0 < distance <= np.abs(moves).max() * (1 + 1e-9)


@given(complexes(kinds=("ties", "no ties"), top=2), st.floats(0, 5))
def test_deaths_move_no_more_than_the_edges(complex, height):
    """Edges that are raised by at most `height` move bars of degree 0 by no more."""
    rng = np.random.default_rng(0)
    raised = with_edge_values(complex, complex.values[1] + height * rng.uniform(size=len(complex.values[1])))
    moved = np.abs(raised.values[1] - complex.values[1]).max()
    assert bottleneck(barcode(complex), barcode(raised)) <= moved * (1 + 1e-9) + 1e-12


# --------------------------------------------------------------------------------------------------------------
# Euler characteristic and Betti numbers
# --------------------------------------------------------------------------------------------------------------


@given(complexes())
def test_euler_characteristic_at_every_level(complex):
    """Simplices entered, counted with alternating signs, are the bars alive, counted with alternating signs."""
    code = barcode(complex, max_dim=complex.dimension)
    levels = np.unique(np.concatenate(complex.values))
    for level in levels[np.isfinite(levels)]:
        simplices = sum((-1) ** k * int((values <= level).sum()) for k, values in enumerate(complex.values))
        alive = (code.birth <= level) & (level < code.death)
        assert simplices == ((-1) ** code.dim[alive]).sum()


def rank_mod_2(matrix):
    """Return the rank of a matrix of zeros and ones over the field with two elements."""
    rows = [int("".join(map(str, row)), 2) for row in matrix.tolist()] if matrix.size else []
    rank = 0
    while rows:
        pivot = rows.pop()
        if pivot:
            rank += 1
            lowest = pivot & -pivot
            rows = [row ^ pivot if row & lowest else row for row in rows]
    return rank


def betti_numbers(complex, level):
    """Return the Betti numbers of a sublevel set from the ranks of its boundary matrices."""
    entered = [
        [tuple(row) for row in rows[values <= level].tolist()]
        for rows, values in zip(complex.simplices, complex.values, strict=True)
    ]
    ranks = [0]
    for facets, cells in pairwise(entered):
        place = {facet: i for i, facet in enumerate(facets)}
        matrix = np.zeros((len(facets), len(cells)), dtype=int)
        for j, cell in enumerate(cells):
            matrix[[place[facet] for facet in combinations(cell, len(cell) - 1)], j] = 1
        ranks.append(rank_mod_2(matrix))
    ranks.append(0)
    return [len(cells) - ranks[k] - ranks[k + 1] for k, cells in enumerate(entered)]


@given(complexes(n_max=7))
def test_betti_numbers_count_the_bars_alive(complex):
    code = barcode(complex, max_dim=complex.dimension)
    levels = np.unique(np.concatenate(complex.values))
    levels = levels[np.isfinite(levels)]
    for level in levels:
        alive = (code.birth <= level) & (level < code.death)
        assert np.bincount(code.dim[alive], minlength=complex.dimension + 1).tolist() == betti_numbers(complex, level)
    if len(levels):
        essential = np.bincount(code.dim[code.essential], minlength=complex.dimension + 1)
        assert essential.tolist() == betti_numbers(complex, levels[-1])


@pytest.mark.parametrize(
    ("surface", "betti"),
    [
        # a tetrahedron without its inside; the torus of seven vertices; the projective plane of six
        ([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]], [1, 0, 1]),
        ([[i, (i + a) % 7, (i + 3) % 7] for i in range(7) for a in (1, 2)], [1, 2, 1]),
        (
            [
                [0, 1, 4],
                [0, 1, 5],
                [0, 2, 3],
                [0, 2, 5],
                [0, 3, 4],
                [1, 2, 3],
                [1, 2, 4],
                [1, 3, 5],
                [2, 4, 5],
                [3, 4, 5],
            ],
            [1, 1, 1],  # over the field with two elements
        ),
    ],
)
def test_surfaces_have_their_betti_numbers(surface, betti):
    complex = lower_star(surface, np.arange(np.max(surface) + 1.0))
    code = barcode(complex, max_dim=2)
    assert [int(code.filter(dim=k).essential.sum()) for k in range(3)] == betti
    assert betti_numbers(complex, np.inf) == betti


# --------------------------------------------------------------------------------------------------------------
# The elder rule
# --------------------------------------------------------------------------------------------------------------


def bars_by_definition(graph):
    """Return (birth, death) of each vertex: the lowest level at which its component holds an elder one."""
    levels = sorted({value for _, value in graph.nodes(data="value")} | {v for *_, v in graph.edges(data="value")})
    components = {level: {v: c for c in nx.connected_components(sublevel(graph, level)) for v in c} for level in levels}
    value = dict(graph.nodes(data="value"))
    bars = []
    for v in graph:
        deaths = (
            level
            for level in levels
            if level >= value[v] and any((value[w], w) < (value[v], v) for w in components[level][v])
        )
        death = next(deaths, np.inf)
        if value[v] < death:
            bars.append((value[v], death, v))
    return sorted(bars)


@given(st.one_of(complexes(top=2, n_max=10), grids()))
def test_a_minimum_ends_where_its_component_first_holds_a_lower_one(complex):
    code = barcode(complex)
    found = zip(code.birth.tolist(), code.death.tolist(), code.birth_vertex.tolist(), strict=True)
    assert sorted(found) == bars_by_definition(graph_of(complex))


@pytest.mark.parametrize("levels", [0, 4, 30])
@pytest.mark.parametrize("seed", range(5))
def test_the_elder_rule_on_larger_graphs(seed, levels):
    rng = np.random.default_rng(seed)
    edges = np.array([pair for pair in combinations(range(60), 2) if rng.random() < 0.05])
    values = rng.integers(levels, size=60).astype(float) if levels else rng.normal(size=60)
    complex = lower_star(edges, values)
    if seed % 2:
        complex = with_edge_values(complex, complex.values[1] + rng.integers(3, size=len(edges)))
    code = barcode(complex)
    found = zip(code.birth.tolist(), code.death.tolist(), code.birth_vertex.tolist(), strict=True)
    assert sorted(found) == bars_by_definition(graph_of(complex))


# --------------------------------------------------------------------------------------------------------------
# Invariance
# --------------------------------------------------------------------------------------------------------------


@given(complexes(), st.data())
def test_names_of_vertices_do_not_matter(complex, data):
    n = len(complex.vertex_values)
    name = np.array(data.draw(st.permutations(range(n))))
    rows, values = [np.arange(n)[:, None]], [np.empty(n)]
    values[0][name] = complex.vertex_values
    for simplices, entered in zip(complex.simplices[1:], complex.values[1:], strict=True):
        order = data.draw(st.permutations(range(len(simplices))))
        rows.append(np.sort(name[simplices], axis=1)[list(order)])
        values.append(entered[list(order)])
    renamed = SimplicialComplex(rows, values)
    one, other = (barcode(c, max_dim=complex.dimension) for c in (complex, renamed))
    for dim in range(complex.dimension + 1):
        assert pairs(one, dim) == pairs(other, dim)


@given(grids(), st.data())
def test_turning_a_grid_over_does_not_matter(complex, data):
    """Mirror images of all axes at once, and axes in another order, keep all three connectivities."""
    turned = np.transpose(complex.grid, data.draw(st.permutations(range(complex.grid.ndim))))
    if data.draw(st.booleans()):
        turned = np.flip(turned)
    top = complex.grid.ndim - 1
    one, other = (barcode(c, max_dim=top) for c in (complex, GridComplex(turned, complex.connectivity)))
    for dim in range(top + 1):
        assert pairs(one, dim) == pairs(other, dim)


MAPS = {
    "shift": lambda x: x + 1024.0,
    "scale": lambda x: 0.5 * x,
    "cube": lambda x: x**3,
    "bend": lambda x: np.where(x < 0, x, 4 * x),
}


@given(st.one_of(complexes(kinds=("ties", "ties and never")), grids(kinds=("ties", "ties and never"))))
@pytest.mark.parametrize("name", MAPS)
def test_increasing_maps_of_the_losses_commute_with_the_barcode(name, complex):
    change = MAPS[name]
    if isinstance(complex, GridComplex):
        changed = GridComplex(change(complex.grid), complex.connectivity)
        top = complex.grid.ndim - 1
    else:
        changed = SimplicialComplex(complex.simplices, [change(values) for values in complex.values])
        top = complex.dimension
    assert np.array_equal(total_order(complex), total_order(changed))
    one, other = barcode(complex, max_dim=top), barcode(changed, max_dim=top)
    for dim in range(top + 1):
        assert sorted((change(np.float64(b)), change(np.float64(d))) for b, d in pairs(one, dim)) == pairs(other, dim)
    one, other = merge_tree(complex), merge_tree(changed)
    for column in ("simplex", "vertex", "parent", "size", "basin"):
        assert np.array_equal(getattr(one, column), getattr(other, column))


# --------------------------------------------------------------------------------------------------------------
# Merge trees: sizes and basins
# --------------------------------------------------------------------------------------------------------------


ANY = st.one_of(complexes(top=2, n_max=10), complexes(), grids())


@given(complexes(n_max=10))
def test_size_counts_what_lies_below_the_death(complex):
    """In the total order, just before the saddle: the points of the component strictly below the saddle's loss."""
    code = barcode(complex)
    n = len(complex.vertex_values)
    rank = np.argsort(total_order(complex))
    for bar in range(len(code)):
        graph = nx.Graph()
        end = rank[n + code.death_simplex[bar]] if code.death_simplex[bar] >= 0 else np.inf
        values, entered = complex.vertex_values, complex.values[1]
        graph.add_nodes_from(v for v in range(n) if rank[v] < end and np.isfinite(values[v]))
        graph.add_edges_from(
            edge
            for row, edge in enumerate(complex.simplices[1].tolist())
            if rank[n + row] < end and np.isfinite(entered[row])
        )
        component = nx.node_connected_component(graph, int(code.birth_vertex[bar]))
        assert code.size[bar] == sum(values[v] < code.death[bar] for v in component)


@given(grids())
def test_size_counts_what_lies_below_the_death_in_grids(complex):
    """Where a saddle joins several components at once their order is open; the sizes lie between the extremes."""
    graph = graph_of(complex)
    code = barcode(complex)
    for bar in range(len(code)):
        minimum, death = int(code.birth_vertex[bar]), code.death[bar]
        below = nx.node_connected_component(sublevel(graph, death, strict=True), minimum)
        upper = [
            v for v in nx.node_connected_component(sublevel(graph, death), minimum) if graph.nodes[v]["value"] < death
        ]
        meeting = {frozenset(c) for c in nx.connected_components(sublevel(graph, death, strict=True)) if c & set(upper)}
        assert len(below) <= code.size[bar] <= len(upper)
        if len(meeting) <= 2 or np.isinf(death):
            assert code.size[bar] == len(below)


@pytest.mark.parametrize("connectivity", ["axis", "full"])
@pytest.mark.parametrize("minima", [2, 40])
def test_size_counts_what_lies_below_the_death_in_large_grids(connectivity, minima):
    """Components of {loss < death} by an image library; the losses all differ, and few bars or many come out."""
    rng = np.random.default_rng(minima)
    x, y = np.meshgrid(np.linspace(0, 1, 90), np.linspace(0, 1, 70), indexing="ij")
    values = np.zeros(x.shape)
    for a, b, depth in rng.uniform(size=(minima, 3)):
        values -= (0.5 + depth) * np.exp(-((x - a) ** 2 + (y - b) ** 2) * 60)
    values = np.argsort(np.argsort(values, axis=None)).reshape(x.shape).astype(float)
    code = barcode(GridComplex(values, connectivity))
    assert len(code) >= 2
    neighbours = ndimage.generate_binary_structure(2, 1 if connectivity == "axis" else 2)
    for minimum, death, size in zip(code.birth_vertex, code.death, code.size, strict=True):
        label, _ = ndimage.label(values < death, neighbours)
        assert size == (label == label.reshape(-1)[minimum]).sum()


@given(ANY)
def test_tree_and_barcode_agree(complex):
    """The elder rule replayed on the tree, by hand, gives the bars; sizes add up to the points that enter."""
    tree = merge_tree(complex)
    leaves = int(tree.is_leaf.sum())
    eldest = {node: node for node in range(leaves)}
    bars = []
    for node in range(leaves, len(tree)):
        one, other = sorted(eldest[int(child)] for child in np.flatnonzero(tree.parent == node))
        bars.append((tree.value[other], tree.value[node], tree.vertex[other], tree.vertex[node], tree.simplex[node]))
        eldest[node] = one
    roots = np.flatnonzero(tree.parent < 0)
    bars += [(tree.value[eldest[int(r)]], np.inf, tree.vertex[eldest[int(r)]], -1, -1) for r in roots]
    for code in (barcode(tree), barcode(complex)):
        columns = (code.birth, code.death, code.birth_vertex, code.death_vertex, code.death_simplex)
        assert sorted(zip(*(column.tolist() for column in columns), strict=True)) == sorted(bars)
    assert tree.size[roots].sum() == np.isfinite(complex.vertex_values).sum()
    assert (tree.size >= 1).all()
    inner = np.flatnonzero(tree.parent >= 0)
    assert (tree.size[inner] <= tree.size[tree.parent[inner]]).all()
    assert np.isfinite(tree.value).all()


@given(ANY)
def test_saddles_join_the_components_of_their_children(complex):
    """Strictly below a saddle its two sides are apart; at its loss they are one."""
    graph, tree = graph_of(complex), merge_tree(complex)
    lowest = {node: int(tree.vertex[node]) for node in range(int(tree.is_leaf.sum()))}
    for node in range(len(lowest), len(tree)):
        one, other = (lowest[int(child)] for child in np.flatnonzero(tree.parent == node))
        level = tree.value[node]
        assert nx.has_path(sublevel(graph, level), one, other)
        assert not nx.has_path(sublevel(graph, level, strict=True), one, other)
        assert complex.vertex_values[tree.vertex[node]] <= level
        lowest[node] = one


@given(st.one_of(complexes(kinds=("no ties",), top=2, n_max=10), grids(kinds=("no ties",))))
def test_basins_are_where_steepest_descent_leads(complex):
    """On losses that all differ: from each vertex to its lowest neighbour over edges that enter with the vertex."""
    values = complex.vertex_values
    assume(len(np.unique(values)) == len(values))
    graph, tree = graph_of(complex), merge_tree(complex)
    for start in graph:
        end = start
        while True:
            reached = [w for w in graph[end] if values[w] < values[end] and graph[end][w]["value"] == values[end]]
            if not reached:
                break
            end = min(reached, key=lambda w: values[w])
        assert tree.vertex[tree.basin[start]] == end


@given(ANY)
def test_every_vertex_that_enters_belongs_to_a_minimum_of_its_component(complex):
    graph, tree = graph_of(complex), merge_tree(complex)
    leaves = int(tree.is_leaf.sum())
    finite = np.isfinite(complex.vertex_values)
    assert ((tree.basin >= 0) == finite).all()
    assert (tree.basin < leaves).all()
    for v in np.flatnonzero(finite).tolist():
        minimum = int(tree.vertex[tree.basin[v]])
        assert minimum in nx.node_connected_component(sublevel(graph, complex.vertex_values[v]), v)
    assert tree.basin[tree.vertex[:leaves]].tolist() == list(range(leaves))
