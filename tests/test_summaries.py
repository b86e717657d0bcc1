"""Summaries of barcodes and merge trees, against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import topolandscape as tl
from topolandscape import Barcode

INF = math.inf
EIGHTHS = st.integers(-400, 400).map(lambda k: k / 8)
BARS = st.lists(st.tuples(EIGHTHS, st.integers(1, 80).map(lambda k: k / 8)), max_size=10).map(
    lambda bars: [(birth, birth + length) for birth, length in bars]
)


def code(pairs, endless=()):
    return Barcode.from_pairs([*pairs, *((birth, INF) for birth in endless)])


@given(BARS)
def test_total_persistence_is_the_sum_of_powers(bars):
    found = code(bars, endless=[-60.0])
    assert tl.total_persistence(found) == sum(d - b for b, d in bars)
    assert tl.total_persistence(found, p=2) == sum((d - b) ** 2 for b, d in bars)
    none = code([], endless=[-60.0])
    # Half of it is the 1-Wasserstein distance to a barcode without bars that end.
    assert tl.total_persistence(found) == pytest.approx(2 * tl.wasserstein(found, none))


def test_entropy_of_equal_bars_is_the_logarithm_of_their_number():
    for b in (1, 2, 7):
        assert tl.persistent_entropy(code([(k, k + 0.5) for k in range(b)], [0.0])) == pytest.approx(math.log(b))
    assert tl.persistent_entropy(code([])) == tl.persistent_entropy(code([], [0.0])) == 0.0
    assert tl.persistent_entropy(code([(0, 1), (0, 3)])) == pytest.approx(
        -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    )


@given(BARS.filter(len), st.sampled_from([0.25, 3.0]))
def test_entropy_does_not_know_the_scale_and_is_largest_for_equal_bars(bars, factor):
    entropy = tl.persistent_entropy(code(bars))
    assert entropy == pytest.approx(tl.persistent_entropy(code([(factor * b, factor * d) for b, d in bars])))
    assert 0.0 <= entropy <= math.log(len(bars)) + 1e-12


@given(st.integers(0, 2**32 - 1))
def test_betti_curve_counts_components_of_sublevel_sets(seed):
    from scipy import ndimage

    losses = np.random.default_rng(seed).integers(0, 6, (5, 7)).astype(float)
    levels = [-1.0, 0.0, 1.5, 3.0, 4.0, 5.0, 9.0]
    curve = tl.betti_curve(tl.barcode(tl.grid(losses, connectivity="axis")), levels)
    assert curve.tolist() == [ndimage.label(losses <= level)[1] for level in levels]


@given(BARS)
def test_landscapes_are_the_highest_tents(bars):
    losses = np.linspace(-60.0, 70.0, 53)
    found = tl.persistence_landscapes(code(bars, [0.0]), losses, n=3)
    tents = np.array([[max(0.0, min(x - b, d - x)) for b, d in bars] + [0.0] * 3 for x in losses])
    assert np.allclose(found, np.sort(tents, axis=1)[:, :-4:-1].T, atol=1e-9)


def test_an_image_is_a_sum_of_gaussians():
    births, lengths = np.linspace(-1, 3, 9), np.linspace(0, 4, 5)
    bars = [(0.5, 2.5), (1.0, 1.5)]
    found = tl.persistence_image(code(bars, [0.0]), births, lengths, bandwidth=0.7)
    expected = np.zeros((5, 9))
    for b, d in bars:
        square = (births - b) ** 2 + (lengths[:, None] - (d - b)) ** 2
        expected += (d - b) * np.exp(-square / (2 * 0.49)) / (2 * math.pi * 0.49)
    assert np.allclose(found, expected)
    assert not tl.persistence_image(code([], [0.0]), births, lengths, bandwidth=0.7).any()


def test_what_landscapes_and_images_refuse():
    bars = code([(0, 1)])
    with pytest.raises(ValueError, match="losses are not at equal distances"):
        tl.persistence_landscapes(bars, [0.0, 1.0, 3.0])
    with pytest.raises(ValueError, match=r"losses have shape \(1,\); two or more"):
        tl.persistence_landscapes(bars, [0.0])
    with pytest.raises(ValueError, match="bandwidth is 0"):
        tl.persistence_image(bars, [0, 1], [0, 1], bandwidth=0)
    with pytest.raises(ValueError, match="p is 0; a power above 0"):
        tl.total_persistence(bars, p=0)


def test_smad_of_three_hump_camel():
    # Minima 0 and twice 0.2986384422, saddles twice 0.8773615578: each side basin meets the middle one.
    tree = tl.merge_tree(tl.grid(tl.zoo.functions["three_hump_camel"].on_grid((801, 801)), connectivity="full"))
    gaps = [0.8773615578, 0.8773615578 - 0.2986384422, 0.8773615578 - 0.2986384422]
    assert tl.smad(tree) == pytest.approx(np.mean(gaps), abs=1e-3)


def test_smad_of_one_minimum_is_zero_and_climbs_are_no_longer_than_bars():
    assert tl.smad(tl.merge_tree(tl.grid([3.0, 1.0, 2.0]))) == 0.0
    losses = np.random.default_rng(1).normal(size=40)
    tree = tl.merge_tree(tl.grid(losses))
    walls = {}  # of a line: each minimum climbs to the lower of the maxima beside it
    minima = [i for i in range(40) if all(losses[i] < losses[j] for j in (i - 1, i + 1) if 0 <= j < 40)]
    for i in minima:
        left = [losses[a : i + 1].max() for a in minima if a < i][-1:]
        right = [losses[i : a + 1].max() for a in minima if a > i][:1]
        walls[i] = min(left + right) - losses[i]
    assert tl.smad(tree) == pytest.approx(np.mean(list(walls.values())))
    ending = tl.barcode(tree).persistence[1:]
    assert ending.sum() >= sum(sorted(walls.values())[:-1]) - 1e-12


def test_summary_holds_what_each_function_gives():
    losses = np.random.default_rng(2).normal(size=(9, 9))
    tree = tl.merge_tree(tl.grid(losses))
    found = tl.barcode(tree)
    row = tl.summary(found, tree=tree, min_persistence=0.2)
    long = found.filter(min_persistence=0.2)
    assert row == {
        "bars": len(long),
        "endless_bars": 1,
        "lowest_birth": losses.min(),
        "longest_bar": long.persistence[1:].max(),
        "total_persistence": tl.total_persistence(long),
        "persistent_entropy": tl.persistent_entropy(long),
        "to_score": tl.to_score(long),
        "smad": tl.smad(tree),
    }
    assert 1 < row["bars"] < len(found)
    assert math.isnan(tl.summary(code([(0, 1)], [0.0, 1.0]))["to_score"])
    assert math.isnan(tl.summary(code([]))["lowest_birth"])
