"""Complexes against their definitions: who is whose neighbour, which simplices there are, when they enter."""

from itertools import combinations
from math import factorial, prod

import networkx as nx
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from topolandscape.structures import GridComplex, LossSamples, SimplicialComplex, Subspace
from topolandscape.topology.complexes import (
    delaunay,
    expand,
    flag_complex,
    freudenthal,
    grid,
    lower_star,
    nearest_neighbours,
    with_edge_values,
)
from topolandscape.topology.merge import merge_tree
from topolandscape.topology.neighbours import unique_rows
from topolandscape.topology.persistence import barcode


def samples_of(points, seed=0, **options):
    return LossSamples(points, np.random.default_rng(seed).normal(size=len(points)), **options)


def dyadic(rng, shape):
    """Draw numbers in [-1, 1] to which whole numbers can be added without rounding."""
    return rng.integers(-(2**20), 2**20, size=shape) / 2**20


def edge_set(complex):
    return {tuple(edge) for edge in complex.simplices[1].tolist()}


def assert_lower_star(complex, values):
    for rows, entered in zip(complex.simplices, complex.values, strict=True):
        assert np.array_equal(entered, np.asarray(values)[rows].max(axis=1))
        assert rows.tolist() == sorted(rows.tolist())


def listed(complex):
    return {tuple(simplex) for rows in complex.simplices for simplex in rows.tolist()}


def facts(complex):
    return complex.provenance["complex"]


# --------------------------------------------------------------------------------------------------------------
# Grids
# --------------------------------------------------------------------------------------------------------------


def test_a_grid_of_samples_is_that_of_its_values():
    points = np.array(list(np.ndindex(2, 3)), dtype=float)
    samples = LossSamples(points, np.arange(6.0), noise=0.5, shape=(2, 3), provenance={"seed": 3})
    complex = grid(samples, connectivity="full")
    assert complex.grid.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert complex.connectivity == "full"
    assert dict(complex.provenance) == {
        "seed": 3,
        "noise": 0.5,
        "complex": {"method": "grid", "connectivity": "full"},
    }
    assert facts(grid([0, 1])) == {"method": "grid", "connectivity": "axis"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid([[1.0]]), "has 1 point.*at least two"),
        (lambda: grid(LossSamples([[0.0]], [0.0], shape=(1,))), "has 1 point.*at least two"),
        (lambda: grid(LossSamples([[0.0], [1.0]], [0.0, 1.0])), r"2 samples are no grid.*sample_grid\(\)"),
        (lambda: grid([0.0, 1.0], connectivity="hex"), "one of axis, freudenthal, full"),
        (lambda: grid([0.0, 1.0], nonfinite="drop"), "nonfinite is 'drop'"),
    ],
)
def test_what_is_no_grid(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("shape", [(5,), (2, 3), (4, 1, 3), (2, 2, 2), (3, 2, 2), (2, 2, 2, 2)])
def test_freudenthal_lists_the_simplices_of_its_definition(shape):
    losses = np.random.default_rng(0).normal(size=shape)
    complex = freudenthal(GridComplex(losses))
    listed = {frozenset(simplex) for rows in complex.simplices for simplex in rows.tolist()}
    assert listed == set(oracles.kuhn_simplices(shape))
    assert sum(map(len, complex.simplices)) == len(listed)
    assert_lower_star(complex, losses.reshape(-1))


@pytest.mark.parametrize("shape", [(9,), (7, 4), (3, 5, 4), (3, 4, 2, 3)])
def test_freudenthal_counts(shape):
    complex = freudenthal(GridComplex(np.zeros(shape)))
    d = len(shape)
    edges = sum(
        prod(n - 1 if axis in moved else n for axis, n in enumerate(shape))
        for size in range(1, d + 1)
        for moved in combinations(range(d), size)
    )
    assert len(complex.simplices[1]) == edges
    assert len(complex.simplices[d]) == factorial(d) * prod(n - 1 for n in shape)
    assert sum((-1) ** k * len(rows) for k, rows in enumerate(complex.simplices)) == 1


# --------------------------------------------------------------------------------------------------------------
# Nearest neighbours
# --------------------------------------------------------------------------------------------------------------


def assert_is_a_union_graph(complex, points, k):
    """Every point is joined to k nearest others, and to no others but those of which it is one (ties: any of them)."""
    n = len(points)
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    reach = np.sort(distances, axis=1)[:, k - 1]
    joined = np.zeros((n, n), dtype=bool)
    one, other = complex.simplices[1].T
    joined[one, other] = joined[other, one] = True
    assert joined[distances < reach[:, None] - 1e-9].all()
    assert (distances[joined] <= np.maximum(reach[:, None], reach)[joined] + 1e-9).all()
    assert (joined.sum(axis=1) >= k).all()
    assert len(one) <= n * k


@pytest.mark.filterwarnings("ignore:the graph has")
@pytest.mark.parametrize("search", ["auto", "tree", "brute"])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 3), (3, 7), (8, 5)])
def test_union_graph_by_its_definition(search, d, k):
    points = np.random.default_rng(d).normal(size=(120, d))
    samples = samples_of(points)
    complex = nearest_neighbours(samples, k=k, search=search)
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    expected = {tuple(sorted((i, int(j)))) for i, row in enumerate(distances) for j in np.argsort(row)[:k]}
    assert edge_set(complex) == expected
    assert complex.flag
    assert_lower_star(complex, samples.values)
    assert facts(complex)["k"] == k
    assert facts(complex)["search"] == {"auto": "tree" if d <= 5 else "brute"}.get(search, search)


@pytest.mark.filterwarnings("ignore:the graph has")
@pytest.mark.parametrize("search", ["tree", "brute"])
@pytest.mark.parametrize("k", [1, 2, 3, 8])
def test_copies_of_points_are_neighbours_but_not_of_themselves(search, k):
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(12, 2)), [1, 1, 2, 3, 4, 5, 6, 1, 1, 1, 2, 12], axis=0)
    points = points[rng.permutation(len(points))]
    complex = nearest_neighbours(samples_of(points), k=k, search=search)
    assert_is_a_union_graph(complex, points, k)
    everywhere = np.zeros((9, 2))
    assert_is_a_union_graph(nearest_neighbours(samples_of(everywhere), k=k, search=search), everywhere, k)


@pytest.mark.parametrize(("d", "search"), [(2, "tree"), (2, "brute"), (8, "brute")])
def test_neighbours_far_from_the_origin_are_the_same(d, search):
    points = dyadic(np.random.default_rng(1), (300, d))
    near, far = (nearest_neighbours(samples_of(points + offset), k=8, search=search) for offset in (0.0, 1e6))
    assert edge_set(near) == edge_set(far)


@pytest.mark.parametrize("k", [-1, 0, 5, 6])
def test_k_is_one_to_all_others(k):
    samples = samples_of(np.arange(5.0)[:, None])
    with pytest.raises(
        ValueError, match=rf"k is {k}, but each of 5 points has 4 others; k must be a whole number from 1 to 4"
    ):
        nearest_neighbours(samples, k=k)
    with pytest.raises(ValueError, match=rf"k is {k}"):
        flag_complex(samples, k=k, max_dim=2)
    assert len(nearest_neighbours(samples, k=4).simplices[1]) == 10


def test_one_point_has_no_neighbours():
    with pytest.raises(ValueError, match="each of 1 points has 0 others"):
        nearest_neighbours(LossSamples([[0.0]], [0.0]), k=1)


def test_unknown_search_is_named():
    with pytest.raises(ValueError, match="search is 'fast'; it must be"):
        nearest_neighbours(samples_of(np.arange(5.0)[:, None]), k=1, search="fast")


CLUSTERS = [(0.0, 0.0), (9.0, 1.0), (4.0, 12.0), (30.0, 5.0), (14.0, 15.0), (3.0, 40.0)]


def clusters(d, seed=0):
    """Draw clusters of different sizes, in random order, far apart."""
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.normal(size=(6 + 3 * i, 2)) + centre for i, centre in enumerate(CLUSTERS)])
    points = np.column_stack([points, 0.1 * rng.normal(size=(len(points), d - 2))])
    return points[rng.permutation(len(points))]


def test_several_components_warn_and_give_an_essential_bar_each():
    samples = samples_of(clusters(2))
    with pytest.warns(UserWarning, match=r"the graph has 6 components \(the largest holds 21 of 81 points\)"):
        complex = nearest_neighbours(samples, k=4)
    assert facts(complex)["components"] == 6
    assert facts(complex)["added_links"] == 0
    assert barcode(complex).essential.sum() == 6


@pytest.mark.parametrize(("d", "search"), [(2, "tree"), (2, "brute"), (7, "brute")])
@pytest.mark.parametrize("seed", range(4))
def test_connect_adds_the_shortest_links_that_join_all(d, search, seed):
    points = clusters(d, seed)
    samples = samples_of(points)
    k = 3 + seed % 2
    with pytest.warns(UserWarning, match="components"):
        apart = nearest_neighbours(samples, k=k, search=search)
    joined = nearest_neighbours(samples, k=k, search=search, connect=True)

    graph = nx.Graph(edge_set(apart))
    components = [sorted(nodes) for nodes in nx.connected_components(graph)]
    between = nx.Graph()
    for a, b in combinations(range(len(components)), 2):
        distances = cdist(points[components[a]], points[components[b]])
        i, j = np.unravel_index(np.argmin(distances), distances.shape)
        link = tuple(sorted((components[a][i], components[b][j])))
        between.add_edge(a, b, weight=distances.min(), link=link)
    tree = nx.minimum_spanning_edges(between, data=True)
    assert edge_set(joined) - edge_set(apart) == {data["link"] for _, _, data in tree}
    assert edge_set(apart) <= edge_set(joined)
    assert len(components) >= 6
    assert barcode(joined).essential.sum() == 1
    assert_lower_star(joined, samples.values)


@pytest.mark.parametrize("search", ["tree", "brute"])
def test_the_shortest_link_may_start_deep_inside_a_component(search):
    """The lone point at (-3, 0) sees the other component early; the shortest link starts elsewhere."""
    dense = [(0.1 * i, 0.0) for i in range(10)]
    wall = [(2.0, -0.1 * i) for i in range(31)] + [(2.0 - 0.1 * i, -3.15) for i in range(51)]
    points = np.array([*dense, (-3.0, 0.0), *wall])
    with pytest.warns(UserWarning, match="the graph has 2 components"):
        apart = nearest_neighbours(samples_of(points), k=2, search=search)
    joined = nearest_neighbours(samples_of(points), k=2, search=search, connect=True)
    assert edge_set(joined) - edge_set(apart) == {(9, 11)}


@pytest.mark.parametrize("seed", range(5))
def test_connect_adds_no_link_too_many_where_distances_are_equal(seed):
    """Pairs of points on a lattice: one link fewer than there are components joins them, whatever the ties."""
    centres = np.array([(i, j) for i in range(4) for j in range(4)], dtype=float)
    points = np.repeat(10 * centres, 2, axis=0)[np.random.default_rng(seed).permutation(32)]
    points = np.concatenate([points, [[300.0, 0.0], [300.5, 0.0], [301.0, 0.0]]])
    joined = nearest_neighbours(samples_of(points), k=1, connect=True)
    assert barcode(joined).essential.sum() == 1
    assert len(joined.simplices[1]) == 16 + 2 + 16


def test_components_and_links_are_counted():
    """The components before joining, and each link once, though both its ends may have asked for it."""
    complex = nearest_neighbours(samples_of(clusters(2)), k=4, connect=True)
    assert facts(complex)["added_links"] == 5
    assert facts(complex)["components"] == 6


def test_nothing_is_added_to_what_hangs_together():
    samples = samples_of(np.random.default_rng(0).uniform(size=(200, 2)))
    complex = nearest_neighbours(samples, k=8, connect=True)
    assert edge_set(complex) == edge_set(nearest_neighbours(samples, k=8))
    assert (facts(complex)["components"], facts(complex)["added_links"]) == (1, 0)


@pytest.mark.slow
def test_approximate_search_keeps_its_recall():
    """The share of true neighbours that the graph holds is what the recall says, or more: edges go both ways."""
    rng = np.random.default_rng(0)
    easy = rng.normal(size=(900, 3)) @ rng.normal(size=(3, 40)) + 1e3
    hard = rng.normal(size=(900, 400))
    k = 6
    for points, low, high in ((easy, 0.98, 1.0), (hard, 0.0, 0.9)):
        if high == 1.0:
            complex = nearest_neighbours(samples_of(points), k=k, search="approximate", seed=5)
            again = nearest_neighbours(samples_of(points), k=k, search="approximate", seed=5)
            assert edge_set(again) == edge_set(complex)
        else:
            with pytest.warns(UserWarning, match=r"the approximate search found \d+% of the nearest neighbours of 900"):
                complex = nearest_neighbours(samples_of(points), k=k, search="approximate", seed=5, connect=True)
        recall = facts(complex)["recall"]
        assert low <= recall <= high
        assert facts(complex)["search"] == "approximate"
        assert facts(complex)["seed"] == 5
        edges = edge_set(complex)
        distances = cdist(points, points)
        np.fill_diagonal(distances, np.inf)
        true = [(i, int(j)) for i, row in enumerate(distances) for j in np.argsort(row)[:k]]
        found = sum(tuple(sorted(pair)) in edges for pair in true)
        assert found >= recall * len(points) * (k + 1) - len(points) - 0.5  # recall counts each point itself
        assert all(len(set(edge)) == 2 for edge in edges)


# --------------------------------------------------------------------------------------------------------------
# Delaunay
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_delaunay_fills_the_convex_hull_with_empty_spheres(d):
    points = np.random.default_rng(d).normal(size=(40, d)) + 1e3
    samples = samples_of(points)
    complex = delaunay(samples)
    assert complex.dimension == d
    assert_lower_star(complex, samples.values)
    assert sum((-1) ** k * len(rows) for k, rows in enumerate(complex.simplices)) == 1
    volume = 0.0
    for simplex in complex.simplices[d]:
        corners = points[simplex]
        spans = corners[1:] - corners[0]
        volume += abs(np.linalg.det(spans)) / factorial(d)
        centre = corners[0] + np.linalg.solve(2 * spans, (spans**2).sum(axis=1))
        radius = np.linalg.norm(corners[0] - centre)
        assert (np.linalg.norm(points - centre, axis=1) > radius * (1 - 1e-7)).all()
    assert volume == pytest.approx(np.ptp(points) if d == 1 else ConvexHull(points).volume, rel=1e-9)
    assert facts(complex) == {"method": "delaunay"}


@pytest.mark.parametrize("d", [1, 2, 3])
def test_delaunay_far_from_the_origin_is_the_same(d):
    points = dyadic(np.random.default_rng(d), (500, d))
    near, far = (delaunay(samples_of(points + offset)) for offset in (0.0, 1e6))
    assert listed(near) == listed(far)


def test_delaunay_of_a_line_is_a_path():
    complex = delaunay(LossSamples([[3.0], [0.0], [7.0], [-2.0]], [0.0, 1.0, 2.0, 3.0]))
    assert edge_set(complex) == {(1, 3), (0, 1), (0, 2)}


@pytest.mark.parametrize(("d", "side"), [(2, 6), (3, 4), (4, 3)])
def test_delaunay_of_a_lattice_is_contractible(d, side):
    """Many points on one sphere: the triangulation is not unique, and its barcode has one essential bar."""
    points = np.array(list(np.ndindex((side,) * d)), dtype=float)
    complex = delaunay(samples_of(points))
    assert sum((-1) ** k * len(rows) for k, rows in enumerate(complex.simplices)) == 1
    assert barcode(complex, max_dim=d - 1).essential.sum() == 1


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((10, 5)), "the points have 5 dimensions; a triangulation is made up to 4.*nearest_neighbours"),
        (np.zeros((2, 2)), r"got 2 point\(s\) in 2 dimensions; a triangulation needs at least 3"),
        ([[0.0]], r"got 1 point\(s\) in 1 dimensions"),
        (np.arange(5.0)[:, None] * [1.0, 2.0], "the 5 points lie in a subspace of fewer than 2 dimensions"),
        (np.zeros((5, 3)), "fewer than 3 dimensions"),
        ([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], r"points\[\d\] and 0 more lie on others.*leaves them out"),
    ],
)
def test_what_has_no_triangulation(points, message):
    with pytest.raises(ValueError, match=message):
        delaunay(samples_of(np.array(points)))


# --------------------------------------------------------------------------------------------------------------
# Flag complexes
# --------------------------------------------------------------------------------------------------------------


def cliques(edges, n, max_dim):
    graph = nx.Graph(edges)
    graph.add_nodes_from(range(n))
    return {tuple(sorted(clique)) for clique in nx.enumerate_all_cliques(graph) if len(clique) <= max_dim + 1}


@pytest.mark.parametrize("max_dim", [1, 2, 4])
def test_flag_complex_lists_the_cliques_of_its_graph(max_dim):
    samples = samples_of(np.random.default_rng(2).normal(size=(60, 3)))
    complex = flag_complex(samples, k=7, max_dim=max_dim, connect=True)
    graph = nearest_neighbours(samples, k=7, connect=True)
    assert listed(complex) == cliques(edge_set(graph), 60, max_dim)
    assert complex.dimension == max_dim
    assert complex.flag
    assert_lower_star(complex, samples.values)
    assert facts(complex) == facts(graph)


@st.composite
def graphs(draw):
    n = draw(st.integers(2, 9))
    everything = list(combinations(range(n), 2))
    edges = draw(st.lists(st.sampled_from(everything), min_size=1, unique=True))
    losses = draw(st.lists(st.integers(-3, 3).map(float), min_size=n, max_size=n))
    raised = draw(st.lists(st.sampled_from([-5.0, 0.0, 2.0, 9.0, np.inf]), min_size=len(edges), max_size=len(edges)))
    return n, edges, losses, raised


@given(graphs(), st.integers(1, 5))
def test_a_clique_enters_with_the_last_of_its_edges(graph, max_dim):
    n, edges, losses, raised = graph
    complex = expand(with_edge_values(lower_star(edges, losses), raised), max_dim=max_dim)
    assert listed(complex) == cliques(edges, n, max_dim)
    entered = dict(zip(map(tuple, complex.simplices[1].tolist()), complex.values[1].tolist(), strict=True))
    for rows, values in zip(complex.simplices[2:], complex.values[2:], strict=True):
        assert values.tolist() == [max(entered[e] for e in combinations(row, 2)) for row in rows.tolist()]
    assert complex.dimension == max_dim


def test_edges_in_any_order_are_expanded():

    edges = [[1, 2], [0, 2], [2, 3], [0, 1], [1, 3]]
    graph = SimplicialComplex([[[0], [1], [2], [3]], edges], [[0.0] * 4, [1.0, 2.0, 3.0, 4.0, 5.0]])
    complex = expand(graph, max_dim=2)
    assert complex.simplices[1].tolist() == edges
    triangles = zip(map(tuple, complex.simplices[2].tolist()), complex.values[2].tolist(), strict=True)
    assert dict(triangles) == {(0, 1, 2): 4.0, (1, 2, 3): 5.0}


@pytest.mark.parametrize("max_dim", [0, -1])
def test_a_flag_complex_has_edges(max_dim):
    with pytest.raises(ValueError, match=f"max_dim is {max_dim}; it must be at least 1"):
        flag_complex(samples_of(np.arange(5.0)[:, None]), k=1, max_dim=max_dim)
    with pytest.raises(ValueError, match=f"max_dim is {max_dim}; it must be at least 1"):
        expand(lower_star([[0, 1]], [0.0, 1.0]), max_dim=max_dim)


def test_expanding_vertices_alone_says_that_edges_are_missing():
    with pytest.raises(ValueError, match="no edges"):
        expand(lower_star([[0], [1]], [0.0, 1.0]), max_dim=1)


# --------------------------------------------------------------------------------------------------------------
# Lower stars and edges with values of their own
# --------------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True), min_size=1, max_size=6),
    st.permutations(range(7)),
)
def test_lower_star_adds_all_faces_once(simplices, losses):
    by_size = [np.array([s for s in simplices if len(s) == size]) for size in {len(s) for s in simplices}]
    complex = lower_star(by_size, losses)
    faces = {tuple(sorted(f)) for s in simplices for size in range(1, len(s) + 1) for f in combinations(s, size)}
    assert listed(complex) == faces | {(v,) for v in range(7)}
    assert sum(map(len, complex.simplices)) == len(listed(complex))
    assert_lower_star(complex, np.array(losses, dtype=float))
    assert not complex.flag


def test_lower_star_takes_lists_and_arrays():
    expected = {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}
    for simplices in ([[2, 0, 1]], ((0, 1, 2), (1, 0, 2)), np.array([[2, 1, 0]], dtype=np.int32), [[[2, 0, 1]]]):
        complex = lower_star(simplices, [0, 1, 2], provenance={"from": "here"})
        assert listed(complex) == expected
        assert complex.provenance == {"from": "here"}
    assert lower_star(np.empty((0, 2), dtype=int), [0.0, 1.0]).simplices[1].shape == (0, 2)


def test_unique_rows_of_large_numbers():
    rows = np.array([[3, 2**40], [1, 5], [3, 2**40], [1, 4]])
    assert unique_rows(rows, 2**41).tolist() == [[1, 4], [1, 5], [3, 2**40]]
    assert unique_rows(np.array([[2, 1], [0, 2], [2, 1]]), 3).tolist() == [[0, 2], [2, 1]]


@pytest.mark.parametrize(
    ("simplices", "values", "message"),
    [
        ([0, 1], [0.0, 1.0], r"simplices have shape \(2,\).*one simplex a row"),
        ([[0.0, 1.0]], [0.0, 1.0], "type float64; give integers"),
        ([[0, 2]], [0.0, 1.0], r"simplex 0 is \[0, 2\], but there are values for vertices 0 to 1"),
        ([[0, 1], [-1, 0]], [0.0, 1.0], r"simplex 1 is \[-1, 0\]"),
        ([[0, 1], [1, 1]], [0.0, 1.0], r"simplex 1 is \[1, 1\]; a simplex names each vertex once"),
        ([[0, 1]], [0.0, np.nan], r"values\[0\]\[1\] is nan"),
        ([[0, 1]], [-np.inf, 0.0], r"values\[0\]\[0\] is -inf"),
        (np.empty((0, 2), dtype=int), [], "needs at least one vertex"),
    ],
)
def test_what_is_no_lower_star(simplices, values, message):
    with pytest.raises(ValueError, match=message):
        lower_star(simplices, values)


@given(st.lists(st.sampled_from([-9.0, 0.0, 0.5, 3.0, np.nan, np.inf, -np.inf]), min_size=10, max_size=10))
def test_higher_simplices_are_raised_with_their_edges(given_values):
    losses = [0.0, 1.0, -1.0, 2.0, 0.25]
    plain = lower_star([[0, 1, 2, 3], [1, 2, 3, 4]], losses)
    raised = with_edge_values(plain, given_values[: len(plain.simplices[1])])
    entered = {
        edge: max(*(losses[v] for v in edge), value if np.isfinite(value) else np.inf)
        for edge, value in zip(map(tuple, plain.simplices[1].tolist()), given_values, strict=False)
    }
    assert raised.values[0].tolist() == losses
    for rows, values in zip(raised.simplices[1:], raised.values[1:], strict=True):
        assert values.tolist() == [max(entered[e] for e in combinations(row, 2)) for row in rows.tolist()]
    assert listed(raised) == listed(plain)
    assert raised.provenance == plain.provenance


def test_an_edge_that_is_nan_never_enters():
    path = lower_star([[0, 1], [1, 2]], [0.0, 1.0, 0.5])
    complex = with_edge_values(path, [np.nan, 4.0])
    assert complex.values[1].tolist() == [np.inf, 4.0]
    code = barcode(complex)
    assert code.birth.tolist() == [0.0, 0.5, 1.0]
    assert code.death.tolist() == [np.inf, np.inf, 4.0]


def test_raised_edges_need_edges():
    with pytest.raises(ValueError, match="the complex has no edges"):
        with_edge_values(lower_star([[0], [1]], [0.0, 1.0]), [])
    with pytest.raises(ValueError, match=r"edge_values have shape \(2,\); there are 1 edges"):
        with_edge_values(lower_star([[0, 1]], [0.0, 1.0]), [1.0, 2.0])


# --------------------------------------------------------------------------------------------------------------
# Losses that are not finite
# --------------------------------------------------------------------------------------------------------------

LINE = np.arange(9.0)
BUILDERS = {
    "grid": lambda samples, **options: grid(samples, **options),
    "neighbours": lambda samples, **options: nearest_neighbours(samples, k=2, **options),
    "delaunay": lambda samples, **options: delaunay(samples, **options),
    "flag": lambda samples, **options: flag_complex(samples, k=2, max_dim=2, **options),
}


@pytest.mark.parametrize("builder", BUILDERS)
def test_losses_that_are_not_finite_are_refused_or_never_enter(builder):
    build = BUILDERS[builder]
    losses = [1.0, 0.0, 2.0, np.nan, np.inf, np.nan, 5.0, 3.0, 4.0]
    samples = LossSamples(LINE[:, None], losses, shape=(9,), subspace=Subspace(np.zeros(2), np.ones((1, 2))))
    with pytest.raises(ValueError, match=r"3 of 9 losses are NaN or infinite \(rows 3, 4, 5\).*they then never enter"):
        build(samples)
    with pytest.raises(ValueError, match='must be "raise" or "infinite"'):
        build(samples, nonfinite="drop")
    complex = build(samples, nonfinite="infinite")
    assert complex.vertex_values.tolist() == [1.0, 0.0, 2.0, np.inf, np.inf, np.inf, 5.0, 3.0, 4.0]
    for engine in ("merge", "gudhi", "ripser"):
        code = barcode(complex, engine=engine)
        assert code.birth.tolist() == [0.0, 3.0]
        assert code.essential.all()
    tree = merge_tree(complex)
    assert tree.basin.tolist() == [0, 0, 0, -1, -1, -1, 1, 1, 1]
    assert tree.size.tolist() == [3, 3]


@pytest.mark.parametrize("builder", BUILDERS)
def test_minus_infinity_is_always_refused(builder):
    samples = LossSamples(LINE[:, None], [0.0, 1.0, -np.inf, *LINE[3:]], shape=(9,))
    with pytest.raises(ValueError, match=r"1 of 9 losses are NaN or infinite \(rows 2\)"):
        BUILDERS[builder](samples)
    with pytest.raises(ValueError, match="the loss of row 2 is -inf, which would be the lowest minimum"):
        BUILDERS[builder](samples, nonfinite="infinite")


def test_many_rows_are_named_by_the_first_five():
    with pytest.raises(ValueError, match=r"7 of 9 losses.*rows 0, 1, 2, 3, 4, \.\.\.\)"):
        grid([np.nan] * 7 + [0.0, 1.0])


def test_where_nothing_enters_there_are_no_bars():
    complex = grid([np.nan, np.inf, np.nan], nonfinite="infinite")
    assert [len(barcode(complex, engine=engine)) for engine in ("merge", "gudhi", "ripser")] == [0, 0, 0]
    assert merge_tree(complex).basin.tolist() == [-1, -1, -1]
