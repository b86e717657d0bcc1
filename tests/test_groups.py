"""Tests, effects and bands over seeds: against enumeration and scipy, and calibrated on groups that are alike."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import topolandscape as tl
from topolandscape import Barcode

INF = math.inf
SCORES = st.integers(-40, 40).map(lambda k: k / 8)
GROUPS = st.lists(SCORES, min_size=2, max_size=5)


def code(pairs, endless=(0.0,)):
    return Barcode.from_pairs([*pairs, *((birth, INF) for birth in endless)])


def is_at_most_uniform(p_values):
    """Tell whether p-values are spread as those of groups that are alike may be, with a chance of 1e-6 to be wrong.

    At most a share p of them is p or less, but for what chance adds (Dvoretzky, Kiefer and Wolfowitz 1956; Massart
    1990).
    """
    n = len(p_values)
    share = np.arange(1, n + 1) / n
    return (share - np.sort(p_values)).max() <= math.sqrt(math.log(1 / 1e-6) / (2 * n))


# --------------------------------------------------------------------------------------------------------------
# Permutation tests
# --------------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(GROUPS, GROUPS)
def test_exact_p_values_are_shares_of_all_splits(a, b):
    found = tl.permutation_test(a, b, seed=0)
    everything, n = [*a, *b], len(a)
    reached = 0
    for chosen in combinations(range(len(everything)), n):
        one = [everything[i] for i in chosen]
        other = [everything[i] for i in range(len(everything)) if i not in chosen]
        reached += abs(np.mean(one) - np.mean(other)) >= abs(np.mean(a) - np.mean(b)) - 1e-9
    assert found.exact
    assert found.splits == math.comb(len(everything), n)
    assert found.p_value == pytest.approx(reached / found.splits)


def test_five_and_five_seeds_that_are_apart():
    found = tl.permutation_test([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], seed=0)
    assert found == (5.0, 2 / 252, 252, True)


def test_random_splits_are_those_of_the_seed_and_near_the_exact_share():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=12), rng.normal(0.7, size=12)
    one, same, other = (tl.permutation_test(a, b, seed=seed, splits=2000) for seed in (1, 1, 2))
    assert one == same
    assert (one.exact, one.splits) == (False, 2000)
    assert one.p_value != other.p_value
    exact = tl.permutation_test(a[:8], b[:8], seed=0, splits=20_000)
    rough = tl.permutation_test(a[:8], b[:8], seed=0, splits=3000)
    assert exact.exact
    spread = math.sqrt(exact.p_value * (1 - exact.p_value) / 3000)
    assert abs(rough.p_value - exact.p_value) < 5 * spread


def test_p_values_of_groups_that_are_alike_are_uniform():
    rng = np.random.default_rng(7)
    found = np.array([tl.permutation_test(*rng.standard_cauchy((2, 5)), seed=0).p_value for _ in range(200)])
    assert is_at_most_uniform(found)
    assert is_at_most_uniform(1 + 2 / 252 - found)  # nor are they too large: all multiples of 1/126 are as likely
    apart = [tl.permutation_test(a, b + 3, seed=0).p_value for a, b in rng.normal(size=(30, 2, 5))]
    assert not is_at_most_uniform(apart)


def landscapes(rng, rough, n):
    """Return barcodes of n random fields on a grid, of which a rough one has more minima."""
    from scipy.ndimage import gaussian_filter

    fields = [gaussian_filter(rng.normal(size=(16, 16)), 1.0 if rough else 2.0, mode="wrap") for _ in range(n)]
    return [tl.barcode(tl.grid(field / field.std(), connectivity="full")) for field in fields]


def between(matrix):
    return lambda a, b: matrix.values[np.ix_(a, b)].mean()


def test_p_values_of_barcodes_of_the_same_landscapes_are_uniform():
    rng = np.random.default_rng(3)
    scores, metric = [], []
    for _ in range(200):
        codes = landscapes(rng, rough=True, n=8)
        totals = [tl.total_persistence(found) for found in codes]
        scores.append(tl.permutation_test(totals[:4], totals[4:], seed=0).p_value)
        matrix = tl.distances(dict(zip("abcdefgh", codes, strict=True)))
        metric.append(tl.permutation_test(range(4), range(4, 8), statistic=between(matrix), seed=0).p_value)
    for found in (scores, metric):
        assert is_at_most_uniform(np.array(found))
        assert is_at_most_uniform(1 + 2 / 70 - np.array(found))


def test_barcodes_of_other_landscapes_are_told_apart():
    rng = np.random.default_rng(4)
    codes = [*landscapes(rng, rough=True, n=5), *landscapes(rng, rough=False, n=5)]
    matrix = tl.distances(dict(zip("abcdefghij", codes, strict=True)), metric="wasserstein")
    found = tl.permutation_test(range(5), range(5, 10), statistic=between(matrix), seed=0)
    assert found.p_value < 0.02
    assert found.statistic == matrix.values[:5, 5:].mean()


# --------------------------------------------------------------------------------------------------------------
# Many comparisons
# --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_step_by_step(p_values):
    adjusted = tl.holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for step, i in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[i] * (len(p_values) - step) > level:
                break
            rejected.add(i)
        assert set(np.flatnonzero(adjusted <= level)) == rejected
    assert (adjusted <= np.minimum(1, len(p_values) * np.array(p_values)) + 1e-15).all()  # no weaker than Bonferroni


def test_holm_refuses_what_is_no_p_value():
    for wrong in ([0.1, math.nan], [1.5], [[0.1]]):
        with pytest.raises(ValueError, match="numbers between 0 and 1"):
            tl.holm(wrong)


# --------------------------------------------------------------------------------------------------------------
# Effects
# --------------------------------------------------------------------------------------------------------------


def test_an_interval_of_shifts_holds_what_the_rank_test_does_not_reject():
    rng = np.random.default_rng(0)
    for m, n in ((5, 5), (4, 7), (9, 3)):
        a, b = rng.normal(size=m), rng.normal(size=n)
        found = tl.hodges_lehmann(a, b)
        assert found.confidence >= 0.95
        assert found.estimate == np.median(np.subtract.outer(a, b))

        def p_value(shift, a=a, b=b):
            return stats.mannwhitneyu(a - shift, b, method="exact").pvalue

        width = found.high - found.low
        for shift in np.linspace(found.low, found.high, 9)[1:-1]:
            assert p_value(shift) > 1 - found.confidence
        for end, way in ((found.low, -1), (found.high, 1)):
            assert p_value(end + way * 1e-9 * width) == pytest.approx(1 - found.confidence)


def test_intervals_of_shifts_hold_the_true_one_as_often_as_they_say():
    rng = np.random.default_rng(1)
    found = [tl.hodges_lehmann(a + 1.5, b) for a, b in rng.standard_t(3, size=(400, 2, 5))]
    held = sum(interval.low <= 1.5 <= interval.high for interval in found)
    assert abs(held - 400 * found[0].confidence) <= 5 * math.sqrt(400 * found[0].confidence * (1 - found[0].confidence))


def test_three_and_three_seeds_are_too_few():
    assert tl.hodges_lehmann([1, 2, 3], [4, 5, 6]) == (-3.0, -INF, INF, 1.0)
    assert tl.hodges_lehmann([1, 2, 3], [4, 5, 6], confidence=0.9) == (-3.0, -5.0, -1.0, pytest.approx(0.9))


@given(GROUPS, GROUPS)
def test_cliffs_delta_is_that_of_the_rank_statistic(a, b):
    u = stats.mannwhitneyu(a, b).statistic  # ties count one half
    assert tl.cliffs_delta(a, b) == pytest.approx(2 * u / (len(a) * len(b)) - 1)
    assert tl.cliffs_delta(b, a) == -tl.cliffs_delta(a, b)


def test_bootstrap_intervals_hold_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(2)
    found = [tl.bootstrap_interval(rng.normal(size=30), seed=k, repetitions=300) for k in range(150)]
    held = sum(interval.low <= 0 <= interval.high for interval in found)
    assert stats.binom.ppf(1e-4, 150, 0.92) <= held  # a little short, as of 30 scores
    assert held < 150
    assert tl.bootstrap_interval([1.0, 2.0, 4.0], seed=0) == tl.bootstrap_interval([1.0, 2.0, 4.0], seed=0)
    assert tl.bootstrap_interval([2.0, 2.0], seed=0) == (2.0, 2.0, 2.0, 0.95)
    low, high = tl.bootstrap_interval([1.0, 2.0, 9.0, 4.0], seed=0, statistic=np.median)[1:3]
    assert 1.0 <= low <= 3.0 <= high <= 9.0


def test_what_effects_refuse():
    with pytest.raises(ValueError, match="the groups have 1 and 2 members"):
        tl.permutation_test([1.0], [1.0, 2.0], seed=0)
    with pytest.raises(ValueError, match=r"a holds .*inf.*finite scores"):
        tl.cliffs_delta([INF], [1.0])
    with pytest.raises(ValueError, match=r"confidence is 1\.5"):
        tl.hodges_lehmann([1.0], [1.0], confidence=1.5)
    with pytest.raises(ValueError, match="one score was given"):
        tl.bootstrap_interval([1.0], seed=0)


# --------------------------------------------------------------------------------------------------------------
# Bands
# --------------------------------------------------------------------------------------------------------------


def test_bands_of_the_same_barcode_are_that_barcode():
    one = code([(1.0, 4.0), (2.0, 3.0)], endless=[0.0, 0.5])
    bands = tl.bar_bands([one] * 4)
    assert (bands.birth.tolist(), bands.death.tolist()) == (one.birth.tolist(), one.death.tolist())
    assert bands.birth_low.tolist() == bands.birth_high.tolist() == one.birth.tolist()
    assert bands.death_low.tolist() == bands.death_high.tolist() == one.death.tolist()
    assert bands.count.tolist() == [4] * 4
    assert bands.essential.tolist() == [True, True, False, False]


def test_bands_are_means_and_quantiles_rank_by_rank():
    rng = np.random.default_rng(0)
    seeds = []
    for k in range(21):  # the k-th barcode has k % 3 + 1 bars that end
        births = rng.uniform(0, 1, k % 3 + 1)
        seeds.append(code(np.column_stack([births, births + rng.uniform(1, 2, len(births))]), endless=[-rng.random()]))
    bands = tl.bar_bands(seeds, coverage=0.5)
    assert bands.count.tolist() == [21, 21, 14, 7]
    seconds = [
        sorted(zip(found.birth[1:], found.death[1:], strict=True), key=lambda bar: bar[0] - bar[1]) for found in seeds
    ]
    second = np.array([bars[1] for bars in seconds if len(bars) > 1])
    assert bands.birth[2] == pytest.approx(second[:, 0].mean())
    assert [bands.death_low[2], bands.death_high[2]] == pytest.approx(np.quantile(second[:, 1], [0.25, 0.75]).tolist())
    assert repr(bands) == "BarBands(4 bars of 21 barcodes)"


def test_bands_of_barcodes_on_different_scales_are_refused():
    one = code([(1.0, 2.0)])
    with pytest.raises(ValueError, match="some barcodes are normalised and others are not"):
        tl.bar_bands([one, tl.normalised(one, high=2.0)])
    own = tl.bar_bands([tl.normalised(one, high=2.0), tl.normalised(one, high=3.0)])
    assert dict(own.provenance["normalised"]) == {"low_name": "lowest birth", "high_name": "its own"}
    with pytest.raises(ValueError, match="no barcode was given"):
        tl.bar_bands([])
    with pytest.raises(ValueError, match="coverage is 90"):
        tl.bar_bands([one], coverage=90)
    assert len(tl.bar_bands([code([], endless=[])])) == 0
