"""How groups of runs differ, such as the seeds of two architectures, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.compare.resampling import Seed
from topolandscape.structures import BarBands, Barcode, Floats, common_scale

Item = TypeVar("Item")


# --------------------------------------------------------------------------------------------------------------
# Tests
# --------------------------------------------------------------------------------------------------------------


class PermutationTest(NamedTuple):
    """What a permutation test found.

    Parameters
    ----------
    statistic
        How far the two groups are apart.
    p_value
        Share of the splits in which groups are as far apart, or further.
    splits
        How many splits were tried.
    exact
        Whether these were all.
    """

    statistic: float
    p_value: float
    splits: int
    exact: bool


def permutation_test(
    a: Sequence[Item],
    b: Sequence[Item],
    *,
    seed: Seed,
    statistic: Callable[[Sequence[Item], Sequence[Item]], float] | None = None,
    splits: int = 9999,
) -> PermutationTest:
    """Test whether two groups are alike: whether they are further apart than random splits of all their members.

    Parameters
    ----------
    a, b
        Members of the groups, two or more of each: scores of runs with different seeds, their barcodes, or rows of a
        distance matrix.
    seed
        A whole number or a numpy Generator, for the splits where not all are tried.
    statistic
        How far two groups are apart, the larger the further. None: the absolute difference of their means. With
        ``lambda a, b: matrix.values[np.ix_(a, b)].mean()`` and rows for members the test is that of barcodes by their
        distances (Robinson and Turner 2017).
    splits
        All splits are tried where they are at most so many, 252 for five and five members; else so many random ones.

    Returns
    -------
    PermutationTest
        Its p-value is exact: among groups that are alike at most a share p of all p-values is p or less, whatever the
        distribution. It cannot be less than one by the number of splits: three and three members prove nothing.

    Raises
    ------
    ValueError
        A group has less than two members.

    Notes
    -----
    Fisher (1935), "The design of experiments"; computed by scipy. Where splits are random, that of the groups
    themselves is counted among them (Phipson and Smyth 2010).

    Examples
    --------
    >>> permutation_test([1.0, 1.5, 2.5, 0.5, 2.0], [4.0, 4.5, 2.25, 5.0, 4.25], seed=0)
    PermutationTest(statistic=2.5, p_value=0.015873015873015872, splits=252, exact=True)
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"the groups have {len(a)} and {len(b)} members; a test needs two or more of each.")
    from scipy.stats import permutation_test as permuted

    members = [*a, *b]
    measure = _mean_difference if statistic is None else statistic

    def apart(one: ArrayLike, other: ArrayLike) -> float:
        return measure(*([members[i] for i in np.asarray(rows)] for rows in (one, other)))

    possible = math.comb(len(members), len(a))
    rows = np.arange(len(members))
    found = permuted(
        (rows[: len(a)], rows[len(a) :]),
        apart,
        vectorized=False,
        n_resamples=splits,
        alternative="greater",
        random_state=np.random.default_rng(seed),
    )
    return PermutationTest(float(found.statistic), float(found.pvalue), min(possible, splits), exact=possible <= splits)


def _mean_difference(a: Sequence[Item], b: Sequence[Item]) -> float:
    return abs(float(_scores(a, "a").mean() - _scores(b, "b").mean()))


def holm(p_values: ArrayLike) -> Floats:
    """Return p-values of several tests adjusted for their number.

    Parameters
    ----------
    p_values
        Between 0 and 1, shape (k,).

    Returns
    -------
    float64 array
        Where those of at most 0.05 are called different, the probability that any of these is not is at most 0.05,
        however the tests depend on each other, shape (k,). For a bound on the share of false ones among those, take
        ``scipy.stats.false_discovery_control``.

    Raises
    ------
    ValueError
        A p-value is not between 0 and 1.

    References
    ----------
    Holm (1979), "A simple sequentially rejective multiple test procedure".

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, dtype=np.float64)
    if given.ndim != 1 or not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"p-values are {given.tolist()}; they need to be numbers between 0 and 1, shape (k,).")
    order = np.argsort(given, kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)), 1.0)
    return adjusted


# --------------------------------------------------------------------------------------------------------------
# Sizes of effects
# --------------------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """An estimate, and where what is estimated lies.

    Parameters
    ----------
    estimate
        Best guess.
    low, high
        Ends of the interval.
    confidence
        Probability with which such an interval holds what is estimated.
    """

    estimate: float
    low: float
    high: float
    confidence: float


def hodges_lehmann(a: Sequence[float], b: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return by how much the scores of one group exceed those of another, with an exact interval.

    Parameters
    ----------
    a, b
        Scores of the groups, shapes (m,) and (n,).
    confidence
        Least probability with which the interval holds the shift.

    Returns
    -------
    Interval
        The median of all differences a - b, in units of the scores, and the interval of the rank test of Wilcoxon, Mann
        and Whitney with its own confidence, at least that asked for. Where there are too few scores for that, it is
        all numbers, with confidence 1: three and three reach 0.9.

    Raises
    ------
    ValueError
        A group is empty, or a score is not finite.

    Notes
    -----
    Hodges and Lehmann (1963), "Estimates of location based on rank tests"; the interval is that of Moses, in Hollander,
    Wolfe and Chicken (2014), "Nonparametric statistical methods", section 4.3. It is exact for scores of which two are
    equal with probability 0, where one group is distributed as the other but for a shift; it needs no normal
    distribution, and is not moved far by one odd seed.

    Examples
    --------
    >>> hodges_lehmann([3.0, 4.0, 5.0, 6.0, 7.5], [1.0, 2.0, 2.5, 3.5, 4.5])
    Interval(estimate=2.5, low=-0.5, high=5.0, confidence=0.9682539682539683)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it needs to lie between 0 and 1.")
    differences = np.sort(np.subtract.outer(_scores(a, "a"), _scores(b, "b")).reshape(-1))
    below = np.cumsum(_mann_whitney(len(a), len(b)))  # probability of at most so many differences below the shift
    k = int(np.searchsorted(2 * below, (1 - confidence) * (1 + 1e-9), side="right"))
    estimate = float(np.median(differences))
    if k == 0:
        return Interval(estimate, -math.inf, math.inf, 1.0)
    return Interval(estimate, float(differences[k - 1]), float(differences[-k]), float(1 - 2 * below[k - 1]))


def _mann_whitney(m: int, n: int) -> Floats:
    """Return the probabilities of 0 to m n differences below 0, of groups that are alike.

    Splits are counted by the Gaussian binomial coefficient, in whole numbers: a product of (1 - q^(n+i)) / (1 - q^i).
    """
    counts = np.zeros(m * n + 1, dtype=object)
    counts[0] = 1
    for i in range(1, m + 1):
        counts[n + i :] -= counts[: max(len(counts) - n - i, 0)].copy()
        for start in range(min(i, len(counts))):
            counts[start::i] = np.cumsum(counts[start::i])
    return (counts / math.comb(m + n, m)).astype(np.float64)


def cliffs_delta(a: Sequence[float], b: Sequence[float]) -> float:
    """Return how often scores of one group exceed those of another, less how often they fall below them.

    Parameters
    ----------
    a, b
        Scores of the groups.

    Returns
    -------
    float
        From -1, all of `a` are below all of `b`, to 1. Without a unit, so that effects on different measures can be
        compared; for how large an effect is in units of the loss, and how sure that is, see `hodges_lehmann`.

    Raises
    ------
    ValueError
        A group is empty, or a score is not finite.

    References
    ----------
    Cliff (1993), "Dominance statistics: ordinal analyses to answer ordinal questions".

    Examples
    --------
    >>> cliffs_delta([3.0, 4.0], [1.0, 3.0])
    0.75
    """
    return float(np.sign(np.subtract.outer(_scores(a, "a"), _scores(b, "b"))).mean())


def bootstrap_interval(
    values: Sequence[float],
    *,
    seed: Seed,
    statistic: Callable[..., float] = np.mean,
    confidence: float = 0.95,
    repetitions: int = 9999,
) -> Interval:
    """Return the mean of scores over seeds, or another statistic of them, with a bootstrap interval.

    Parameters
    ----------
    values
        Scores of runs with different seeds, shape (n,).
    seed
        A whole number or a numpy Generator.
    statistic
        Of an array of scores, taking ``axis``.
    confidence
        Between 0 and 1.
    repetitions
        How many times the scores are drawn anew, with replacement.

    Returns
    -------
    Interval
        With fewer than about ten scores it is too short, as all bootstrap intervals are: it knows no scores but these.

    Raises
    ------
    ValueError
        There are less than two scores, or one is not finite.

    Notes
    -----
    Bias-corrected and accelerated: Efron (1987), "Better bootstrap confidence intervals"; computed by scipy.

    Examples
    --------
    >>> interval = bootstrap_interval([0.11, 0.12, 0.15, 0.10, 0.13], seed=0)
    >>> round(interval.estimate, 3), interval.low < 0.122 < interval.high
    (0.122, True)
    """
    from scipy.stats import bootstrap

    scores = _scores(values, "values")
    if len(scores) < 2:
        raise ValueError("one score was given; an interval needs two or more.")
    estimate = float(statistic(scores))
    if np.ptp(scores) == 0:
        return Interval(estimate, estimate, estimate, confidence)
    found = bootstrap(
        (scores,),
        statistic,
        confidence_level=confidence,
        n_resamples=repetitions,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(estimate, float(found.low), float(found.high), confidence)


def _scores(values: Sequence[Item], name: str) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError(f"{name} holds {scores.tolist()}; it needs one or more finite scores, shape (n,).")
    return scores


# --------------------------------------------------------------------------------------------------------------
# Bars over seeds
# --------------------------------------------------------------------------------------------------------------


def bar_bands(barcodes: Sequence[Barcode], *, coverage: float = 0.9, dim: int = 0) -> BarBands:
    """Return the mean barcode of several, such as those of different seeds, and how much each bar varies.

    The longest bar of each is taken together, the second longest, and so on; bars that never end for themselves, by
    birth.

    Parameters
    ----------
    barcodes
        One or more.
    coverage
        Share of the barcodes that bands hold, around the median.
    dim
        Degree of the bars.

    Returns
    -------
    BarBands
        As many bars as the barcode with the most has, each with the number of barcodes that have it. Bars of the same
        rank need not belong to the same minima; what is averaged are their births and deaths.

    Raises
    ------
    ValueError
        There is no barcode, the share is not possible, or some barcodes are `normalised` and others not.

    Examples
    --------
    >>> seeds = [Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0)]), Barcode.from_pairs([(0.2, float("inf"))])]
    >>> bands = bar_bands(seeds)
    >>> bands.birth, bands.death, bands.count
    (array([0.1, 1. ]), array([inf,  3.]), array([2, 1]))
    """
    if not barcodes:
        raise ValueError("no barcode was given; give those of one or more seeds.")
    if not 0 <= coverage <= 1:
        raise ValueError(f"coverage is {coverage}; it needs to be a share between 0 and 1.")
    scale = common_scale(code.provenance for code in barcodes)
    ranks = [*_by_rank(barcodes, dim, endless=True), *_by_rank(barcodes, dim, endless=False)]
    births, deaths = (np.array([_spread(bars[:, k], coverage) for bars in ranks]).reshape(-1, 3) for k in (0, 1))
    return BarBands(
        *(births[:, 0], deaths[:, 0], births[:, 1], births[:, 2], deaths[:, 1], deaths[:, 2]),
        count=np.array([len(bars) for bars in ranks], dtype=np.int64),
        barcodes=len(barcodes),
        coverage=coverage,
        provenance={} if scale is None else {"normalised": scale},
    )


def _by_rank(barcodes: Sequence[Barcode], dim: int, *, endless: bool) -> list[Floats]:
    """Return the first bars of all barcodes, their second ones, and so on: births and deaths (c, 2) of each rank."""
    chosen = [code.filter(dim=dim) for code in barcodes]
    pairs = [np.column_stack([bars.birth, bars.death])[bars.essential == endless] for bars in chosen]
    return [np.array([bars[k] for bars in pairs if len(bars) > k]) for k in range(max(map(len, pairs)))]


def _spread(values: Floats, coverage: float) -> tuple[float, float, float]:
    """Return the mean, and between what a share of the values lies; infinite values are all infinite."""
    if np.isinf(values).any():
        return math.inf, math.inf, math.inf
    low, high = np.quantile(values, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(values.mean()), float(low), float(high)
