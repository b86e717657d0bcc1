"""What the numbers of a study say: means with intervals, differences between groups, rank correlations."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Literal, NamedTuple, get_args

import numpy as np

from topolandscape.compare.groups import Interval, cliffs_delta, hodges_lehmann, holm, permutation_test
from topolandscape.structures import Floats
from topolandscape.study.comparison import StudyResult
from topolandscape.study.measures import bars_and_errors

Against = Literal["all", "first"]
CERTAIN = 0.05
"""A corrected p-value below this counts as a difference."""
_CONFIDENCE = 0.95


class Correlation(NamedTuple):
    """How two numbers rise and fall together, by their ranks.

    Attributes
    ----------
    name
        What is compared with the test error.
    over
        Over what: all runs, or the trained minima of a group.
    n
        How many of these.
    spearman, spearman_p, kendall, kendall_p
        Coefficients, and p-values of no relation (two-sided, not corrected for the number of correlations).
    """

    name: str
    over: str
    n: int
    spearman: float
    spearman_p: float
    kendall: float
    kendall_p: float


def interval(values: Floats) -> Interval:
    """Return the mean of some numbers, and the interval of Student's distribution that holds it with 95 %.

    A bootstrap interval would be too short for the few seeds of a study. Of one number nothing is known but itself, of
    none nothing.

    Examples
    --------
    >>> [round(number, 4) for number in interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.4841, 4.4841, 0.95]
    """
    n = len(values)
    mean = float(values.mean()) if n else np.nan
    if n < 2:
        return Interval(mean, -np.inf, np.inf, _CONFIDENCE)
    from scipy.stats import t as student

    half = float(student.ppf((1 + _CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - half, mean + half, _CONFIDENCE)


def intervals(result: StudyResult, name: str) -> Mapping[str, Interval]:
    """Return a number's mean and interval for each group, in the order of the groups."""
    return {group: interval(result.of_group(group, name)) for group in dict.fromkeys(result.groups)}


def correlations(result: StudyResult) -> list[Correlation]:
    """Return how every number goes with the test error over all runs, and bars with those of their own minima.

    Where there are no classes, with the test loss. Numbers that are the same for all, and those of fewer than three
    runs or minima, are left out.
    """
    target = "test_error" if "test_error" in result.numbers else "test_loss"
    if target not in result.numbers:
        return []
    errors = np.array([row[target] for row in result.rows])
    numbers = {name: np.array([row[name] for row in result.rows]) for name in result.numbers if name != target}
    found = [_correlation(name, "runs", values, errors) for name, values in numbers.items()]
    for group in dict.fromkeys(result.groups):
        runs = [run for own, run in zip(result.groups, result.runs, strict=True) if own == group and "network" in run]
        if runs:
            lengths, own_errors = (np.concatenate(parts) for parts in zip(*map(bars_and_errors, runs), strict=True))
            found.append(_correlation("bar of a minimum", f"minima of {group}", lengths, own_errors))
    return [one for one in found if one is not None]


def _correlation(name: str, over: str, values: Floats, errors: Floats) -> Correlation | None:
    from scipy.stats import kendalltau, rankdata

    known = np.isfinite(values) & np.isfinite(errors)
    values, errors = values[known], errors[known]
    if len(values) < 3 or np.ptp(values) == 0 or np.ptp(errors) == 0:
        return None
    tau = kendalltau(values, errors)
    numbers = (*_spearman(rankdata(values), rankdata(errors)), tau.statistic, tau.pvalue)
    return Correlation(name, over, len(values), *map(float, numbers))


def _spearman(one: Floats, other: Floats) -> tuple[float, float]:
    """Return the correlation of ranks and its p-value by permutation; scipy's own is far off for few of them."""
    from scipy.stats import permutation_test as permuted

    other = (other - other.mean()) / (np.linalg.norm(one - one.mean()) * np.linalg.norm(other - other.mean()))
    found = permuted(
        (one,),
        lambda ranks, axis: (ranks * other).sum(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        random_state=np.random.default_rng(0),
    )
    return found.statistic, found.pvalue


class Difference(NamedTuple):
    """How two groups differ in a number.

    Attributes
    ----------
    one, other
        Their names.
    shift
        By how much the one exceeds the other, as `hodges_lehmann` has it, with its interval.
    p
        Of no difference of the means, by `permutation_test`.
    corrected
        The same, corrected for the number of differences that were looked at, by `holm`.
    effect
        `cliffs_delta`: how often a run of the one has a higher number than one of the other, less how often a lower
        one, between -1 and 1.
    """

    one: str
    other: str
    shift: Interval
    p: float
    corrected: float
    effect: float


def differences(result: StudyResult, name: str, *, against: Against = "all") -> list[Difference]:
    """Return how groups differ in a number: each two of them, or each from the first.

    Groups of fewer than two runs of which the number is known are left out.
    """
    if against not in get_args(Against):
        raise ValueError(f"against is {against!r}; it needs to be one of {', '.join(get_args(Against))}.")
    values = {group: result.of_group(group, name).tolist() for group in dict.fromkeys(result.groups)}
    values = {group: some for group, some in values.items() if len(some) > 1}
    first = next(iter(values), None)
    pairs = [(one, other) for one, other in combinations(values, 2) if against == "all" or one == first]
    if not pairs:
        return []
    ps = [permutation_test(values[one], values[other], seed=0).p_value for one, other in pairs]
    return [
        Difference(
            *(one, other, hodges_lehmann(values[one], values[other])),
            *(p, float(corrected), cliffs_delta(values[one], values[other])),
        )
        for (one, other), p, corrected in zip(pairs, ps, holm(ps), strict=True)
    ]
