"""Complexes against their definitions: who is whose neighbour, which simplices there are, when they enter."""

from itertools import combinations
from math import factorial, prod

import networkx as nx
import numpy as np
import oracles
import pytest
from facts_of_complexes import assert_lower_star, dyadic, edge_set, facts, listed, samples_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

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
