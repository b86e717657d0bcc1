"""Networks of minima: reduced they keep every lowest way and their bars, and their witnesses can be checked."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import topolandscape as tl
from topolandscape.structures import PASSES, Minima, MinimaNetwork


def minima_at(points, values=None):
    m = len(points)
    values = np.zeros(m) if values is None else values
    return Minima(points, values, np.zeros(m), np.ones((m, 1)), np.zeros(m, np.int64), ["minimum"] * m)


@st.composite
def networks(draw):
    """Random graphs with few different barriers, so that many are equal, and paths of several lengths."""
    m = draw(st.integers(1, 9))
    trained = draw(st.integers(1, m))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    points = rng.normal(size=(m, 2))
    values = rng.integers(0, 5, size=m).astype(float)
    pairs = [(a, b) for a in range(m) for b in range(a + 1, m)]
    kept = [pairs[k] for k in rng.permutation(len(pairs))[: draw(st.integers(0, len(pairs)))]]
    paths = [np.vstack([points[a], rng.normal(size=(rng.integers(1, 4), 2)), points[b]]) for a, b in kept]
    return MinimaNetwork(
        minima_at(points, values),
        np.array(kept).reshape(-1, 2),
        [max(values[a], values[b]) + rng.integers(0, 4) for a, b in kept],
        [PASSES[k] for k in rng.integers(0, 3, size=len(kept))],
        [path[1] for path in paths] if paths else np.empty((0, 2)),
        paths,
        trained=trained,
    )


def lowest_ways(network):
    """Straight from the definition: the lowest highest barrier on any way, between all pairs (Floyd and Warshall)."""
    ways = np.full((len(network), len(network)), np.inf)
    for (a, b), barrier in zip(network.ends, network.barriers, strict=True):
        ways[a, b] = ways[b, a] = barrier
    for k in range(len(network)):
        ways = np.minimum(ways, np.maximum(ways[:, k, None], ways[None, k, :]))
    np.fill_diagonal(ways, network.minima.values)
    return ways


@given(networks(), st.sampled_from(["any", "trained"]))
def test_the_lowest_ways_between_what_is_kept_stay(network, lower):
    reduced, t = network.reduced(lower=lower), network.trained
    assert reduced.trained == t
    assert len(reduced) == t or lower == "any"
    assert np.array_equal(reduced.minima.points[:t], network.minima.points[:t])
    places = {tuple(point): row for row, point in enumerate(network.minima.points)}
    kept = [places[tuple(point)] for point in reduced.minima.points]
    assert kept == sorted(set(kept))
    ways = lowest_ways(network)[np.ix_(kept, kept)]
    assert np.array_equal(lowest_ways(reduced), ways)
    roots = len(np.unique(np.isfinite(ways), axis=0))
    assert len(reduced.ends) == len(kept) - roots  # a spanning forest


def test_which_minima_end_bars_is_any_or_trained():
    with pytest.raises(ValueError, match="lower is 'all'; it needs to be one of any, trained"):
        across(1.0).reduced(lower="all")


@given(networks())
def test_bars_are_those_of_trained_minima_and_end_at_any_lower_one(network):
    """Straight from the definition: the lowest highest barrier on a way to what is lower, of equal ones the first."""
    code, values, ways = tl.barcode(network), network.minima.values, lowest_ways(network)
    expected = []
    for minimum in range(network.trained):
        lower = [k for k in range(len(network)) if (values[k], k) < (values[minimum], minimum)]
        expected.append((values[minimum], min((ways[minimum, k] for k in lower), default=np.inf)))
    # Where no trained minimum is the lowest of what is joined to it, the bar that does not end belongs to another.
    for reached in np.unique(np.isfinite(ways[: network.trained]), axis=0):
        lowest = min(np.flatnonzero(reached), key=lambda k: (values[k], k))
        if lowest >= network.trained:
            expected.append((values[lowest], np.inf))
    expected = sorted((birth, death) for birth, death in expected if death > birth)
    assert sorted(zip(code.birth, code.death, strict=True)) == expected
    reduced = tl.barcode(network.reduced())
    assert np.array_equal(reduced.birth, code.birth)
    assert np.array_equal(reduced.death, code.death)


@given(networks())
def test_a_reduced_pass_is_witnessed_by_the_paths_on_its_way(network):
    reduced = network.reduced()
    known = {(a, b): row for row, (a, b) in enumerate(network.ends.tolist())}
    places = {tuple(point): row for row, point in enumerate(network.minima.points)}
    for row, path in enumerate(reduced.paths):
        way = [places[tuple(point)] for point in path if tuple(point) in places]
        assert np.array_equal(network.minima.points[[way[0], way[-1]]], reduced.minima.points[reduced.ends[row]])
        passed = [known[min(a, b), max(a, b)] for a, b in pairwise(way)]
        assert len(path) == 1 + sum(len(network.paths[k]) - 1 for k in passed)
        assert reduced.barriers[row] == network.barriers[passed].max()
        highest = [k for k in passed if np.array_equal(network.tops[k], reduced.tops[row])]
        assert len(highest) == 1
        assert network.barriers[highest[0]] == reduced.barriers[row]
        assert network.passes[highest[0]] == reduced.passes[row]
        assert any(np.array_equal(point, reduced.tops[row]) for point in path)


@given(networks())
def test_a_reduced_network_is_the_same_each_time_and_reduces_no_further(network):
    once, twice = network.reduced(), network.reduced().reduced()
    for other in (network.reduced(), twice):
        assert np.array_equal(once.ends, other.ends)
        assert np.array_equal(once.barriers, other.barriers)
        assert once.passes == other.passes
        assert all(np.array_equal(a, b) for a, b in zip(once.paths, other.paths, strict=True))


def test_trained_minima_are_counted():
    points = np.arange(6.0).reshape(3, 2)
    nothing = {"ends": [], "barriers": [], "passes": [], "tops": [], "paths": []}
    assert MinimaNetwork(minima_at(points), **nothing).trained == 3
    some = MinimaNetwork(minima_at(points), **nothing, trained=2)
    assert repr(some) == "MinimaNetwork(3 minima, 2 of them trained, 0 passes)"
    for wrong in (0, 4, -2):
        with pytest.raises(ValueError, match=f"trained is {wrong} of 3 minima"):
            MinimaNetwork(minima_at(points), **nothing, trained=wrong)


# --------------------------------------------------------------------------------------------------------------
# Witnesses
# --------------------------------------------------------------------------------------------------------------


class Hill:
    """A narrow hill of height 1 in the plane, at the origin."""

    def __init__(self, width=0.1):
        self.width, self.evaluated = width, []

    def values(self, points):
        self.evaluated.append(points)
        return np.exp(-((points / self.width) ** 2).sum(axis=1))


def across(barrier, top=(0.0, 0.0), path=((-1.0, 0.0), (0.3, 0.0), (1.0, 0.0))):
    path = np.array(path)
    return MinimaNetwork(minima_at(path[[0, -1]]), [[0, 1]], [barrier], ["path maximum"], [top], [path])


def test_a_true_witness_is_confirmed():
    hill = Hill()
    assert across(1.0).check(hill) == pytest.approx([0.0], abs=1e-15)
    assert max(len(points) for points in hill.evaluated) == 42


def test_a_top_that_the_cuts_miss_is_evaluated_too():
    assert across(1.0).check(Hill(0.001), cuts=3) == pytest.approx([0.0], abs=1e-15)


@pytest.mark.parametrize(
    ("network", "difference"),
    [
        (across(0.25), 0.75),
        (across(1.5), -0.5),
        # A top beside the path is no witness.
        (across(1.0, top=(0.0, 0.0), path=((-1.0, 1.0), (0.0, 1.0), (1.0, 1.0))), -1.0),
    ],
)
def test_a_false_witness_is_found_out(network, difference):
    assert network.check(Hill()) == pytest.approx([difference], abs=1e-3)


def test_losses_that_are_not_numbers_are_infinite():
    class Hole:
        def values(self, points):
            return np.where(np.abs(points[:, 0]) < 0.1, np.nan, 0.0)

    assert across(1.0).check(Hole()) == [np.inf]


def test_many_parameters_are_checked_in_parts(monkeypatch):
    monkeypatch.setattr("topolandscape.structures.network._AT_ONCE", 50)
    hill = Hill()
    assert across(0.25).check(hill) == pytest.approx([0.75], abs=1e-15)
    assert max(len(points) for points in hill.evaluated) <= 26


def test_cuts_are_checked():
    with pytest.raises(ValueError, match="cuts is 0"):
        across(1.0).check(Hill(), cuts=0)


def test_the_witnesses_of_a_real_network():
    camel = tl.Landscape.from_function(tl.zoo.functions["three_hump_camel"].function, 2)
    found = tl.minima(camel, [[0.5, 0.5], [1.5, -0.5], [-1.5, 0.5]], seed=0, steps=50, progress=False)
    network = tl.minima_network(camel, found, progress=False)
    assert np.abs(network.check(camel)).max() < 1e-6
    assert np.abs(network.reduced().check(camel)).max() < 1e-6
    higher = tl.Landscape.from_function(lambda x: tl.zoo.functions["three_hump_camel"].function(x) + 0.5, 2)
    assert network.check(higher) == pytest.approx(np.full(len(network.ends), 0.5), abs=1e-6)


def test_a_table_says_what_is_known_of_each_bar():
    points = np.array([[0.0], [1.0], [2.0]])
    found = Minima(
        points,
        [0.0, 0.5, 0.7],
        [1e-7, 2e-6, 3e-3],
        [[1.0], [1e-9], [np.nan]],
        [0, 0, -1],
        ["minimum", "flat", "not converged"],
        accuracy=[0.995, 0.5, np.nan],
        test_accuracy=[0.9, np.nan, np.nan],
    )
    paths = [points[[0, 1]], points[[1, 2]]]
    network = MinimaNetwork(
        found, [[0, 1], [1, 2]], [2.0, 1.0], ["verified saddle", "path maximum"], points[[1, 2]], paths
    )
    lines = network.table(tl.barcode(network)).splitlines()
    assert lines[1].split() == ["0", "0", "inf", "inf", "-", "99.5%", "90.0%", "0", "1e-07", "minimum"]
    assert lines[2].split() == ["1", "0.5", "2", "1.5", "verified", "saddle", "50.0%", "-", "0", "2e-06", "flat"]
    assert lines[3].split() == (["2", "0.7", "1", "0.3", "path", "maximum", "-", "-", "-", "0.003", "not", "converged"])
    assert (
        network.table(tl.barcode(network), max_rows=1).splitlines()[-1] == "... and 2 more bars, none longer than 1.5"
    )
