"""Links between minima and the search over them: bounds, known saddles, spanning trees, going on where it stopped."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import minimum_spanning_tree

import topolandscape as tl
from topolandscape import Landscape
from topolandscape.landscape.links import (
    Link,
    Starts,
    beside,
    climbs,
    crossings,
    descents,
    dips,
    joined,
    measured,
    together,
    tops,
    within,
)
from topolandscape.landscape.minima import minima
from topolandscape.landscape.network import joining, minima_network
from topolandscape.landscape.strings import resampled
from topolandscape.structures import Minima
from topolandscape.structures.graphs import escapes, spanning_tree

WAVES = Landscape.from_function(lambda x: torch.sin(3 * x[:, 0]) * torch.cos(2 * x[:, 1]) + 0.1 * x[:, 0], 2)
# Minima at (-1, 0) and (1, 0) with loss 0, a saddle at (0, 0) with loss 1.
TWO_WELLS = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + 2 * x[:, 1] ** 2, 2)


def fine(landscape, path, cuts=2000):
    """Return losses at many places along a path."""
    shares = np.arange(cuts + 1)[:, None] / cuts
    return landscape.values((path[:-1, None] * (1 - shares) + path[1:, None] * shares).reshape(-1, path.shape[1]))


pytestmark = pytest.mark.usefixtures("one_thread")


# --------------------------------------------------------------------------------------------------------------
# Links
# --------------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(counts=st.lists(st.integers(2, 7), min_size=1, max_size=5), seed=st.integers(0, 10**6))
def test_a_barrier_is_an_upper_bound_and_close(counts, seed):
    rng = np.random.default_rng(seed)
    paths = [np.cumsum(rng.normal(scale=0.3, size=(count, 2)), axis=0) for count in counts]
    links = measured(WAVES, paths)
    assert len(links) == len(paths)
    for path, link in zip(paths, links, strict=True):
        losses = fine(WAVES, path)
        height = losses.max() - WAVES.values(path[[0, -1]]).max()
        assert np.array_equal(link.points, path)
        assert losses.max() <= link.barrier <= losses.max() + 1e-5 * height
        assert WAVES.values(link.top[None])[0] == pytest.approx(losses.max(), abs=1e-5 * height + 1e-12)
        steps = np.diff(path, axis=0)
        shares = np.clip(((link.top - path[:-1]) * steps).sum(1) / (steps**2).sum(1), 0, 1)
        assert np.linalg.norm(path[:-1] + shares[:, None] * steps - link.top, axis=1).min() < 1e-12


def two_wells(*middle):
    (link,) = measured(TWO_WELLS, [np.array([[-1.0, 0.0], *middle, [1.0, 0.0]])])
    return link


def test_crossings_reach_the_saddle_and_both_minima():
    links = [two_wells((-0.2, 0.3), (0.3, 0.2)), two_wells((0.1, -0.2))]
    links.append(Link(links[0].points[::-1], links[0].barrier, links[0].top, links[0].word))
    found = tops(TWO_WELLS, links, gradient_tolerance=1e-8)
    assert all(top is not None for top in found)
    starts = together([beside(found[:1]), beside(found[1:])])
    ways, norms = descents(TWO_WELLS, starts, gradient_tolerance=1e-8, max_evaluations=1000)
    assert norms.max() <= 1e-8
    for link, side in zip(crossings(TWO_WELLS, found, ways), (-1.0, -1.0, 1.0), strict=True):
        assert link.word == "verified saddle"
        assert link.barrier == pytest.approx(1.0, abs=1e-9)
        np.testing.assert_allclose(link.top, [0.0, 0.0], atol=1e-6)
        np.testing.assert_allclose(link.points[[0, -1]], [[side, 0.0], [-side, 0.0]], atol=1e-6)
        assert fine(TWO_WELLS, link.points).max() <= link.barrier * (1 + 1e-9)


def test_a_saddle_below_the_rest_of_its_way_is_not_its_highest_point():
    (top,) = tops(TWO_WELLS, [two_wells((0.1, -0.2))], gradient_tolerance=1e-8)
    over = [np.array([[0.0, 0.1], [0.0, 1.0], [-1.0, 0.0]]), np.array([[0.1, 0.0], [1.0, 0.0]])]
    (link,) = crossings(TWO_WELLS, [top], over)
    assert link.word == "path maximum"
    assert link.barrier == pytest.approx(3.0, rel=1e-4)


def test_descents_from_dips_keep_to_their_steps_and_below_their_ceilings():
    waves = Landscape.from_function(lambda x: torch.cos(2 * np.pi * x[:, 0]) + x[:, 1] ** 2, 2)
    links = measured(waves, [np.array([[0.1, 1.0], [1.9, 0.5]]), np.array([[0.0, 0.0], [3.0, 0.0]])])
    own = dips(waves, links)
    starts = together([within(link, some, 0.05) for link, some in zip(links, own, strict=True)])
    assert [len(some) for some in own] == [2, 3]
    np.testing.assert_allclose(starts.longest, np.repeat([0.05 * np.hypot(1.8, 0.5), 0.15], [2, 3]))
    np.testing.assert_array_equal(starts.ceilings, np.repeat([link.barrier for link in links], [2, 3]))
    ways, norms = descents(waves, starts, gradient_tolerance=1e-8, max_evaluations=1000)
    assert norms.max() <= 1e-8
    for way, start, ceiling, where in zip(ways, starts.points, starts.ceilings, (0.5, 1.5, 0.5, 1.5, 2.5), strict=True):
        assert np.array_equal(way[0], start)
        np.testing.assert_allclose(way[-1], [where, 0.0], atol=1e-7)
        assert fine(waves, way).max() <= ceiling


def test_a_descent_that_comes_to_rest_at_a_saddle_goes_on_to_a_minimum():
    # On the line x = 0, which is an axis of symmetry, all gradients lead to the saddle.
    start = Starts(np.array([[0.0, 0.8], [-0.5, 0.1]]), np.full(2, 0.05), np.full(2, 3.0))
    ways, norms = descents(TWO_WELLS, start, gradient_tolerance=1e-8, max_evaluations=1000)
    assert norms.max() <= 1e-8
    np.testing.assert_allclose(np.abs([way[-1] for way in ways]), [[1.0, 0.0]] * 2, atol=1e-7)
    assert np.array_equal(ways[0][0], [0.0, 0.8])
    assert fine(TWO_WELLS, ways[0]).max() <= 3.0


def test_climbs_find_the_saddles_around_a_minimum_below_their_ceiling():
    """Three-hump camel: from the middle minimum at 0 to the saddles at (+-1.07, -+0.53), with loss 0.877."""
    camel = Landscape.from_function(tl.zoo.functions["three_hump_camel"].function, 2)
    middle = {"minima": np.zeros((1, 2)), "births": np.zeros(1), "reach": np.array([1.0])}
    found = climbs(camel, **middle, ceilings=np.array([1.0]), gradient_tolerance=1e-8, noise=0.0)
    assert [row for row, _ in found] == [0, 0]
    # The gradient vanishes where y = -x / 2 and x^4 - 4.2 x^2 + 3.5 = 0.
    x = np.sqrt(2.1 - np.sqrt(2.1**2 - 3.5))
    np.testing.assert_allclose(sorted(top.point[0] for _, top in found), [-x, x], atol=1e-7)
    np.testing.assert_allclose([top.point[1] for _, top in found], [-top.point[0] / 2 for _, top in found], atol=1e-7)
    for _, top in found:
        assert np.abs(camel.gradients(top.point[None])[1]).max() < 1e-7
        assert top.aside @ top.point > 0  # away from the minimum
    assert climbs(camel, **middle, ceilings=np.array([0.8]), gradient_tolerance=1e-8, noise=0.0) == []


def test_where_there_is_no_saddle_none_is_reached():
    bowl = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    links = measured(bowl, [np.array([[-1.0, 0.0], [0.0, 1.5], [1.0, 0.0]])])
    assert tops(bowl, links, gradient_tolerance=1e-8) == [None]
    assert tops(bowl, [], gradient_tolerance=1e-8) == []


def test_dips_are_the_minima_along_a_path():
    waves = Landscape.from_function(lambda x: torch.cos(2 * np.pi * x[:, 0]), 1)
    paths = measured(waves, [np.array([[0.0], [1.2], [3.1]]), np.array([[0.6], [1.4]]), np.array([[0.0], [0.5]])])
    first, second, third = dips(waves, paths, cuts=100)
    assert [number for number, _ in first] == [1, 2, 2]
    np.testing.assert_allclose([dip[0] for _, dip in first], [0.5, 1.5, 2.5], atol=0.02)
    (at_a_point,) = dips(waves, measured(waves, [np.array([[0.1], [0.4], [0.5], [0.9]])]))
    assert [(number, dip.tolist()) for number, dip in at_a_point] == [(2, [0.5])]
    # Ends are no dips, whatever lies beyond them.
    assert (second, third) == ([], [])


def test_a_dip_that_is_flat_is_one_dip():
    flat = Landscape.from_function(lambda x: torch.relu(x[:, 0].abs() - 0.5), 1)
    (own,) = dips(flat, measured(flat, [np.array([[-1.0], [1.0]])]))
    assert len(own) == 1


def test_joined_paths_share_their_corner():
    one, other = np.array([[0.0], [1.0]]), np.array([[1.0], [3.0]])
    assert joined(one, other).ravel().tolist() == [0.0, 1.0, 3.0]
    assert joined(one, other + 1).ravel().tolist() == [0.0, 1.0, 2.0, 4.0]


@given(count=st.integers(2, 8), k=st.integers(2, 20), seed=st.integers(0, 10**6))
def test_resampled_points_are_evenly_spaced_along_the_path(count, k, seed):
    path = np.cumsum(np.abs(np.random.default_rng(seed).normal(size=(count, 1))), axis=0)
    points = resampled(path, k)
    # On a line, in one direction, places along the path are coordinates.
    np.testing.assert_allclose(points[:, 0], np.linspace(path[0, 0], path[-1, 0], k), rtol=1e-12)
    assert np.array_equal(points[[0, -1]], path[[0, -1]])


def test_resampled_points_lie_on_the_path():
    corner = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 1.0]])
    assert resampled(corner, 5).tolist() == [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [3.0, 1.0]]


# --------------------------------------------------------------------------------------------------------------
# Spanning trees
# --------------------------------------------------------------------------------------------------------------


def lowest_ways(m, ends, barriers):
    """Return the lowest highest barrier on any way, between all pairs (Floyd and Warshall)."""
    lowest = np.full((m, m), np.inf)
    lowest[tuple(ends.T)] = barriers
    lowest = np.minimum(lowest, lowest.T)
    for k in range(m):
        lowest = np.minimum(lowest, np.maximum(lowest[:, k, None], lowest[None, k, :]))
    return lowest


@given(m=st.integers(2, 9), trained=st.integers(1, 9), share=st.floats(0.2, 1.0), seed=st.integers(0, 10**6))
def test_spanning_trees_are_those_of_scipy_and_their_ways_the_lowest(m, trained, share, seed):
    rng, trained = np.random.default_rng(seed), min(trained, m)
    pairs = np.array([(a, b) for a in range(m) for b in range(a + 1, m)])
    ends = pairs[rng.permutation(len(pairs))[: max(1, int(share * len(pairs)))]]
    barriers = 1.0 + rng.permutation(len(ends))
    kept = rng.permutation(m) < trained
    tree, ways = spanning_tree(ends, barriers, m, kept)
    graph = coo_array((barriers, ends.T), shape=(m, m))
    assert sorted(barriers[tree]) == sorted(minimum_spanning_tree(graph).data)
    assert (np.diff(barriers[tree]) > 0).all()

    lowest = lowest_ways(m, ends, barriers)
    links = {frozenset(ends[row].tolist()): barriers[row] for row in tree}
    for row, way in ways:
        assert row in tree
        assert kept[way].tolist() == [True, *[False] * (len(way) - 2), True]
        assert max(links[frozenset(step)] for step in pairwise(way)) == barriers[row] == lowest[way[0], way[-1]]
    within = lowest[np.ix_(kept, kept)]
    np.fill_diagonal(within, 0.0)
    components = len(np.unique(np.isfinite(within), axis=0))
    assert len(ways) == trained - components


def test_infinite_barriers_join_nothing():
    tree, ways = spanning_tree(np.array([[0, 1], [1, 2]]), np.array([np.inf, 1.0]), 3, np.ones(3, bool))
    assert (tree, ways) == ([1], [(1, [1, 2])])


@given(m=st.integers(2, 9), trained=st.integers(1, 9), share=st.floats(0.2, 1.0), seed=st.integers(0, 10**6))
def test_minima_are_left_over_the_lowest_pass_to_any_lower_one(m, trained, share, seed):
    rng, trained = np.random.default_rng(seed), min(trained, m)
    pairs = np.array([(a, b) for a in range(m) for b in range(a + 1, m)])
    ends = pairs[rng.permutation(len(pairs))[: max(1, int(share * len(pairs)))]]
    barriers = 5.0 + rng.permutation(len(ends))
    values = rng.integers(0, 4, size=m).astype(float)
    lowest = lowest_ways(m, ends, barriers)
    links = {frozenset(pair): row for row, pair in enumerate(ends.tolist())}
    found = escapes(ends, barriers, values, trained)
    left = {}
    for row, way in found:
        left[way[0]] = barriers[row]
        assert max((links[frozenset(step)] for step in pairwise(way)), key=barriers.__getitem__) == row
        below = [(values[minimum], minimum) < (values[way[0]], way[0]) for minimum in way]
        assert below == [False] * (len(way) - 1) + [True]
    # Straight from the definition: the lowest of the highest barriers on ways to what is lower.
    for minimum in range(trained):
        lower = [other for other in range(m) if (values[other], other) < (values[minimum], minimum)]
        assert left.get(minimum, np.inf) == min((lowest[minimum, other] for other in lower), default=np.inf)


# --------------------------------------------------------------------------------------------------------------
# Going on, and ending
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hollows():
    """Return a tilted egg carton in a bowl, and some of its minima."""

    def carton(x):
        return torch.cos(4 * x).sum(1) + 0.3 * (x**2).sum(1) + 0.2 * x[:, 0]

    landscape = Landscape.from_function(carton, 2)
    starts = [[-2.3, -0.8], [2.3, 0.8], [0.8, -2.3], [0.8, 0.8], [-0.8, 2.3]]
    found = minima(landscape, starts, seed=0, steps=0, progress=False)
    assert len(found) == 5
    return landscape, found


def assert_same(one, other):
    for name in ("ends", "barriers", "tops"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.passes == other.passes
    assert all(np.array_equal(a, b) for a, b in zip(one.paths, other.paths, strict=True))
    for name in ("points", "values", "gradient_norm", "found"):
        assert np.array_equal(getattr(one.minima, name), getattr(other.minima, name)), name
    for name in ("round", "evaluations", "explored", "left", "pairs_tried", "climbed"):
        assert one.provenance[name] == other.provenance[name], name
    # All of the curve but the seconds.
    curves = (np.array(network.provenance["curve"])[:, 1:] for network in (one, other))
    assert np.array_equal(*curves)


def test_a_search_goes_on_from_any_network_to_the_same_end(hollows):
    landscape, found = hollows
    networks = list(joining(landscape, found, progress=False))
    assert len(networks) >= 3
    for begun in networks[:: len(networks) // 3]:
        *_, end = joining(landscape, begun, progress=False)
        assert_same(end, networks[-1])


@pytest.mark.parametrize("lower", ["any", "trained"])
def test_the_curve_is_the_sum_of_the_bars_that_the_search_shortens(hollows, lower):
    landscape, found = hollows
    for network in joining(landscape, found, lower=lower, rounds=3, progress=False):
        code = tl.barcode(network.reduced(lower=lower))
        ending = ~code.essential
        verified = sum(
            network.reduced(lower=lower).passes[row] == "verified saddle" for row in code.death_simplex[ending]
        )
        # Among trained minima the way out may end at a pass that no bar has, where the bar has no length.
        _, total, counted, _ = network.provenance["curve"][-1]
        assert total == pytest.approx(code.persistence[ending].sum())
        assert counted >= verified
    with pytest.raises(ValueError, match="lower is 'all'; it needs to be one of any, trained"):
        next(joining(landscape, found, lower="all"))


def test_evaluations_end_the_search_wherever_it_was_stopped(hollows):
    landscape, found = hollows
    whole = list(joining(landscape, found, progress=False))
    counts = [network.provenance["evaluations"] for network in whole]
    assert (np.diff(counts) > 0).all()
    assert whole[1].provenance["explored"]
    for budget in (0, counts[0], counts[0] + 1, 2 * counts[0], 3 * counts[0]):
        networks = list(joining(landscape, found, evaluations=budget, progress=False))
        spent = [network.provenance["evaluations"] for network in networks]
        assert all(count < budget for count in spent[:-1])
        if spent[-1] < budget:
            *_, end = joining(landscape, networks[-1], explore=0, progress=False)
            assert_same(end, networks[-1])
        # New pairs are not tried near the end.
        late = next((row for row, count in enumerate(spent) if count >= 0.95 * budget), len(spent) - 1)
        assert networks[-1].provenance["explored"] == networks[late].provenance["explored"]
        assert bool(networks[-1].provenance["explored"]) == (0.85 * budget > spent[0])
        for begun in networks[:-1][::4]:
            # What others evaluate between two rounds is not counted.
            with_others = joining(landscape, begun, evaluations=budget, progress=False)
            assert_same(
                [(network, landscape.values(np.zeros((100, 2))))[0] for network in with_others][-1], networks[-1]
            )


def test_rounds_end_the_search_only_where_nothing_else_does(hollows, monkeypatch):
    landscape, found = hollows
    monkeypatch.setattr("topolandscape.landscape.network._MOST_ROUNDS", 1)
    assert len(list(joining(landscape, found, progress=False))) == 2
    assert len(list(joining(landscape, found, evaluations=10**6, progress=False))) > 2
    assert len(list(joining(landscape, found, rounds=1, evaluations=10**6, progress=False))) == 2


def test_evaluations_of_all_kinds_count_alike():
    landscape = Landscape.from_function(lambda x: (x**3).sum(1), 2)
    before = landscape.engine.evaluations
    landscape.values(np.zeros((5, 2)))
    landscape.gradients(np.zeros((3, 2)))
    landscape.hessian_products(np.zeros(2), np.eye(2))
    landscape.restricted_to(np.zeros(2), np.ones((1, 2))).values(np.zeros((4, 1)))
    assert landscape.engine.evaluations - before == 5 + 3 + 2 + 4


def test_minima_met_on_the_way_have_accuracies():
    inputs = np.random.default_rng(0).normal(size=(20, 2))
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2)).double()
    classes = (inputs[:, 0] * inputs[:, 1] > 0).astype(int)
    landscape = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, weight_decay=0.02, form="loop")
    found = minima(landscape, 3, seed=0, steps=60, curvatures=1, progress=False)
    network = minima_network(landscape, found, points=(9,), steps=20, rounds=1, progress=False)
    assert len(network) > network.trained
    np.testing.assert_allclose(network.minima.accuracy, landscape.accuracies(network.minima.points)[1])


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_minimum_without_a_loss_is_named_before_any_path_is_bent(loss):
    def never(x):
        raise AssertionError

    found = Minima(np.eye(2), [0.0, loss], [0.0, 0.0], [[1.0], [1.0]], [0, 0], ["minimum", "diverged"])
    landscape = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    landscape.engine.values = never
    with pytest.raises(ValueError, match=f"the loss of minimum 1 is {loss}; .* Leave such minima out"):
        minima_network(landscape, found, progress=False)


def test_ends_without_a_loss_are_named():
    broken = Landscape.from_function(lambda x: torch.log(x[:, 0]), 1)
    with pytest.raises(ValueError, match=r"at the last point of path 1 is -inf; a path needs .* Leave it out"):
        tl.lower_paths(broken, [[[1.0], [2.0]], [[1.0], [0.0]]], progress=False)
