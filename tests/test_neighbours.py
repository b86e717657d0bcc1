"""Graphs of nearest neighbours, against their definition; components, and the links that join them."""

from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from facts_of_complexes import assert_lower_star, dyadic, edge_set, facts, samples_of
from scipy.spatial.distance import cdist

from topolandscape.structures import LossSamples
from topolandscape.topology.complexes import flag_complex, nearest_neighbours
from topolandscape.topology.persistence import barcode


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
