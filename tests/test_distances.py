"""Distances between barcodes, against other programs, a brute-force matching, the axioms and the stability theorem."""

import math
import warnings

import gudhi
import numpy as np
import persim
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import topolandscape as tl
from topolandscape import Barcode, DistanceMatrix

INF = math.inf

# Multiples of 1/4, so that many are equal; and any others.
LOSSES = st.one_of(st.integers(-8, 8).map(lambda k: k / 4), st.floats(-100, 100, width=32))
PAIRS = st.lists(st.tuples(LOSSES, LOSSES).map(sorted), max_size=8)
GROUNDS = st.sampled_from([1.0, 1.5, 2.0, INF])
POWERS = st.sampled_from([1.0, 2.0, 3.5])


def code(pairs, endless=()):
    return Barcode.from_pairs([*pairs, *((birth, INF) for birth in endless)])


def brute_force(a, b, p, ground):
    """Return the p-th root of the lowest cost of a matching, the diagonal included, by the Hungarian algorithm."""
    one, other = (np.array(pairs, dtype=float).reshape(-1, 2) for pairs in (a, b))
    moved = np.linalg.norm((one[:, None] - other[None]).reshape(-1, 2), ord=ground, axis=1)
    cost = np.zeros((len(one) + len(other),) * 2)
    cost[: len(one), : len(other)] = moved.reshape(len(one), len(other)) ** p
    for pairs, place in ((one, np.s_[: len(one), len(other) :]), (other, np.s_[len(one) :, : len(other)])):
        middle = pairs.mean(axis=1, keepdims=True)
        removed = np.linalg.norm(pairs - middle, ord=ground, axis=1) ** p
        cost[place] = removed[:, None] if pairs is one else removed
    rows, columns = linear_sum_assignment(cost)
    return cost[rows, columns].sum() ** (1 / p)


# --------------------------------------------------------------------------------------------------------------
# Against others
# --------------------------------------------------------------------------------------------------------------


@given(PAIRS, PAIRS)
def test_bottleneck_is_that_of_gudhi_and_persim(a, b):
    ours = tl.bottleneck(code(a), code(b))
    assert ours == pytest.approx(gudhi.bottleneck_distance(a, b), rel=1e-12, abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # persim warns of empty barcodes
        assert ours == pytest.approx(persim.bottleneck(np.reshape(a, (-1, 2)), np.reshape(b, (-1, 2))), abs=1e-9)


@given(PAIRS, PAIRS, POWERS, GROUNDS)
def test_wasserstein_is_that_of_a_brute_force_matching(a, b, p, ground):
    ours = tl.wasserstein(code(a), code(b), p=p, ground=ground)
    assert ours == pytest.approx(brute_force(a, b, p, ground), rel=1e-9, abs=1e-12)


@given(PAIRS.filter(len), PAIRS.filter(len))
def test_wasserstein_with_the_euclidean_norm_is_that_of_persim(a, b):
    ours = tl.wasserstein(code(a), code(b), ground=2.0)
    assert ours == pytest.approx(persim.wasserstein(np.array(a), np.array(b)), rel=1e-8, abs=1e-6)


@given(PAIRS, PAIRS)
def test_wasserstein_tends_to_the_bottleneck_distance(a, b):
    most = len(a) + len(b)
    distance = tl.bottleneck(code(a), code(b))
    high = tl.wasserstein(code(a), code(b), p=20.0)
    assert distance * (1 - 1e-6) <= high <= distance * most ** (1 / 20) * (1 + 1e-6) + 1e-12


@given(st.lists(LOSSES, max_size=6), st.lists(LOSSES, max_size=6), POWERS)
def test_endless_bars_are_matched_among_themselves(a, b, p):
    one, other = code([(0.0, 1.0)], a), code([(0.0, 1.0)], b)
    if len(a) != len(b):
        assert tl.bottleneck(one, other) == tl.wasserstein(one, other, p=p) == INF
        return
    cost = np.abs(np.subtract.outer(a, b)).reshape(len(a), len(b))
    rows, columns = linear_sum_assignment(cost**p)
    assert tl.wasserstein(one, other, p=p) == pytest.approx((cost[rows, columns] ** p).sum() ** (1 / p), rel=1e-9)
    # The largest change is least where a matching with no larger ones is there: tried for each candidate.
    enough = [c for c in {0.0, *cost.flat} if not len(a) or _matches(cost <= c)]
    assert tl.bottleneck(one, other) == min(enough)


def _matches(allowed):
    rows, columns = linear_sum_assignment(~allowed)
    return allowed[rows, columns].all()


def test_closed_forms():
    one, none = code([(0.0, 4.0)], [0.0]), code([], [0.0])
    assert tl.bottleneck(one, none) == 2.0
    assert [tl.wasserstein(one, none, ground=q) for q in (1, 2, INF)] == pytest.approx([4.0, math.sqrt(8), 2.0])
    moved = code([(1.0, 4.5)], [0.5])
    assert tl.bottleneck(one, moved) == 1.0
    assert tl.wasserstein(one, moved, p=2.0) == pytest.approx(math.sqrt(1.0 + 0.25))
    assert tl.bottleneck(code([]), code([])) == tl.wasserstein(code([]), code([])) == 0.0


def test_bars_of_no_length_and_of_other_degrees_do_not_count():
    one = code([(0.0, 4.0), (1.0, 1.0), (-50.0, -50.0)])
    assert tl.bottleneck(one, code([(0.0, 4.0)])) == 0.0
    loops = Barcode.from_pairs([(0.0, 7.0)], dim=1)
    both = Barcode(**{name: np.concatenate([getattr(one, name), getattr(loops, name)]) for name in Barcode.columns})
    assert tl.wasserstein(both, one) == 0.0
    assert tl.bottleneck(both, one, dim=1) == 3.5


# --------------------------------------------------------------------------------------------------------------
# Theorems
# --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.tuples(PAIRS, st.lists(LOSSES, min_size=1, max_size=2)), min_size=3, max_size=3), POWERS, GROUNDS)
def test_axioms_of_a_metric(bars, p, ground):
    a, b, c = (code(*each) for each in bars)
    for distance in (tl.bottleneck, lambda x, y: tl.wasserstein(x, y, p=p, ground=ground)):
        ab, bc, ac = distance(a, b), distance(b, c), distance(a, c)
        assert distance(a, a) == pytest.approx(0.0, abs=1e-12)
        assert ab == pytest.approx(distance(b, a), rel=1e-8)
        assert ab >= 0
        assert ac <= (ab + bc) * (1 + 1e-8) + 1e-12


@given(st.lists(st.floats(-10, 10, width=32), min_size=24, max_size=24), st.floats(0, 3), st.integers(0, 2**32 - 1))
def test_bars_move_no_further_than_losses(values, reach, seed):
    losses = np.reshape(values, (4, 6))
    moved = losses + np.random.default_rng(seed).uniform(-reach, reach, losses.shape)
    far = np.abs(moved - losses).max()
    one, other = (tl.barcode(tl.grid(array), max_dim=1) for array in (losses, moved))
    for dim in (0, 1):
        assert tl.bottleneck(one, other, dim=dim) <= far * (1 + 1e-12)


@given(PAIRS, st.sampled_from([0.5, 2.0, 8.0]), st.integers(-8, 8).map(lambda k: k / 4))
def test_a_shift_moves_every_bar_and_a_factor_scales_distances(a, factor, shift):
    one, moved = code(a, [0.0]), code([(b + shift, d + shift) for b, d in a], [shift])
    assert tl.bottleneck(one, moved) <= abs(shift) + 1e-5  # floats of 32 bits are shifted with rounding
    scaled = code([(factor * b, factor * d) for b, d in a], [0.0])
    empty = code([], [0.0])
    assert tl.bottleneck(scaled, empty) == factor * tl.bottleneck(one, empty)


# --------------------------------------------------------------------------------------------------------------
# Matrices, and what is refused
# --------------------------------------------------------------------------------------------------------------


def test_a_matrix_keeps_names_and_says_what_it_holds():
    codes = {"wide": code([], [0.0]), "narrow": code([(0.0, 4.0)], [0.0]), "apart": code([], [0.0, 1.0])}
    found = tl.distances(codes, metric="wasserstein", p=2, ground=2)
    assert found.names == ("wide", "narrow", "apart")
    assert found.values.tolist() == [
        [0, pytest.approx(math.sqrt(8)), INF],
        [pytest.approx(math.sqrt(8)), 0, INF],
        [INF, INF, 0],
    ]
    assert dict(found.provenance) == {"metric": "wasserstein", "p": 2, "ground": 2, "dim": 0}
    assert tl.distances(codes).values[0, 1] == tl.bottleneck(codes["wide"], codes["narrow"]) == 2.0
    assert dict(tl.distances(codes).provenance) == {"metric": "bottleneck", "dim": 0}
    assert str(found).splitlines()[1].split() == ["wide", "0", "2.828", "inf"]
    assert repr(found) == "DistanceMatrix(3 names, distances 2.828 to inf)"


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        (["a"], [[0.0, 1.0]], r"values have shape \(1, 2\), but there are 1 names; they must be \(1, 1\)"),
        (["a", "a"], [[0.0, 1.0], [1.0, 0.0]], "two names are the same"),
        (["a", "b"], [[0.0, 1.0], [2.0, 0.0]], "the same both ways"),
        (["a", "b"], [[0.0, -1.0], [-1.0, 0.0]], "0 or more"),
        (["a", "b"], [[0.0, math.nan], [math.nan, 0.0]], "0 or more"),
        (["a"], [[1.0]], "0 on the diagonal"),
    ],
)
def test_what_is_no_distance_matrix(names, values, message):
    with pytest.raises(ValueError, match=message):
        DistanceMatrix(names, values)


def test_what_is_refused():
    one = code([(0.0, 1.0)], [0.0])
    with pytest.raises(ValueError, match=r"p is 0.5; it needs to be 1 or more"):
        tl.wasserstein(one, one, p=0.5)
    with pytest.raises(ValueError, match=r"p is inf.*bottleneck\(\)"):
        tl.wasserstein(one, one, p=INF)
    with pytest.raises(ValueError, match=r"ground is 0.5"):
        tl.wasserstein(one, one, ground=0.5)
    with pytest.raises(ValueError, match="metric is 'l2'; it needs to be one of bottleneck, wasserstein"):
        tl.distances({"one": one}, metric="l2")
    with pytest.raises(ValueError, match="no barcode was given"):
        tl.distances({})
    with pytest.raises(ValueError, match="some barcodes are normalised and others are not"):
        tl.bottleneck(one, tl.normalised(one, high=2.0))


def test_other_neighbours_are_not_compared_silently():
    losses = np.random.default_rng(0).normal(size=(8, 8))
    axis, full = (tl.barcode(tl.grid(losses, connectivity=kind)) for kind in ("axis", "full"))
    with pytest.warns(UserWarning, match="grids with axis and full neighbours"):
        assert tl.bottleneck(axis, full) > 0
    assert tl.bottleneck(axis, axis) == 0.0
