"""Scores, barriers and common scales, against closed forms and what must hold of any barcode."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from torch.nn import functional as F

import topolandscape as tl
from topolandscape import Barcode, Minima, MinimaNetwork, SimplicialComplex

INF = np.inf


def network(values, passes):
    """Return minima at these losses, joined by straight paths over passes (a, b, loss)."""
    m = len(values)
    places = np.arange(m, dtype=float)[:, None]
    minima = Minima(places, values, np.zeros(m), np.ones((m, 1)), np.zeros(m, int), ["minimum"] * m)
    ends = np.array([(a, b) for a, b, _ in passes], dtype=int).reshape(-1, 2)
    tops = places[ends].mean(axis=1)
    paths = [np.array([places[a], top, places[b]]) for (a, b), top in zip(ends, tops, strict=True)]
    return MinimaNetwork(minima, ends, [loss for *_, loss in passes], ["path maximum"] * len(ends), tops, paths)


# The elder rule on three minima: 1 leads over 2 to 0, and 2 over 1, lower than straight to 0.
ELDER = network([0.0, 3.0, 2.0], [(0, 1, 6.0), (0, 2, 10.0), (1, 2, 5.0)])

# Losses that are multiples of 1/8, so that sums and differences are exact.
EIGHTHS = st.integers(-4000, 4000).map(lambda k: k / 8)
BARS = st.lists(st.tuples(EIGHTHS, st.integers(1, 400).map(lambda k: k / 8)), min_size=1, max_size=12)


def code(bars, endless=()):
    return Barcode.from_pairs([(b, b + length) for b, length in bars] + [(b, INF) for b in endless])


# --------------------------------------------------------------------------------------------------------------
# Scores
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("aggregate", "score"), [("mean", 3.0), ("sum", 6.0), ("max", 4.0)])
def test_score_of_the_elder_rule(aggregate, score):
    assert tl.to_score(tl.barcode(ELDER), aggregate=aggregate) == score


def test_mean_is_the_default_and_other_degrees_do_not_count():
    mixed = Barcode.from_pairs([(0, INF), (0, 1), (0, 3)])
    above = Barcode.from_pairs([(0, 100), (1, INF)], dim=1)
    both = Barcode(
        **{name: np.concatenate([getattr(mixed, name), getattr(above, name)]) for name in Barcode.columns},
    )
    assert tl.to_score(both) == tl.to_score(mixed) == 2.0
    with pytest.raises(ValueError, match="no bar of degree 0"):
        tl.to_score(above)


def test_score_of_one_minimum_is_zero_and_of_none_an_error():
    for aggregate in ("mean", "sum", "max"):
        assert tl.to_score(code([], endless=[0.3]), aggregate=aggregate) == 0.0
    with pytest.raises(ValueError, match="no bar of degree 0"):
        tl.to_score(code([]))


def test_minima_that_were_not_joined_have_no_score():
    apart = tl.barcode(network([0.0, 1.0, 2.0, 0.5], [(0, 1, 3.0)]))
    with pytest.raises(ValueError, match=r"3 bars never end.*join the components"):
        tl.to_score(apart)


def test_an_unknown_aggregate_is_an_error():
    with pytest.raises(ValueError, match="aggregate is 'median'; it needs to be one of mean, sum, max"):
        tl.to_score(tl.barcode(ELDER), aggregate="median")


@given(BARS, st.sampled_from([0.25, 2.0, 8.0]), EIGHTHS)
def test_scores_scale_with_the_loss_and_do_not_move_with_it(bars, factor, shift):
    one = code(bars, endless=[-600.0])
    other = code([(factor * b + shift, factor * length) for b, length in bars], endless=[-600.0 * factor + shift])
    for aggregate in ("mean", "sum", "max"):
        assert tl.to_score(other, aggregate=aggregate) == pytest.approx(factor * tl.to_score(one, aggregate=aggregate))


@given(BARS, st.randoms(use_true_random=False))
def test_aggregates_of_the_same_bars_agree_in_any_order(bars, random):
    shuffled = random.sample(bars, len(bars))
    mean, total, longest = (tl.to_score(code(bars), aggregate=name) for name in ("mean", "sum", "max"))
    assert total == sum(length for _, length in bars)
    assert mean == pytest.approx(total / len(bars))
    assert mean <= longest * (1 + 1e-12)
    assert longest <= total
    assert [tl.to_score(code(shuffled), aggregate=name) for name in ("mean", "sum", "max")] == [mean, total, longest]


# --------------------------------------------------------------------------------------------------------------
# Bars of each minimum
# --------------------------------------------------------------------------------------------------------------


def test_lengths_stand_in_the_rows_of_their_minima():
    assert tl.bar_lengths(tl.barcode(ELDER), 3).tolist() == [INF, 2.0, 4.0]
    level = network([1.0, 0.0, 2.0], [(0, 1, 1.0), (1, 2, 2.5)])  # minimum 0 is left without climbing
    assert tl.bar_lengths(tl.barcode(level), 3).tolist() == [0.0, INF, 0.5]
    apart = network([0.0, 1.0, 2.0], [(0, 2, 3.0)])
    assert tl.bar_lengths(tl.barcode(apart), 3).tolist() == [INF, INF, 1.0]


@st.composite
def graphs(draw):
    """Draw values of distinct minima and passes between all of them, above their ends."""
    m = draw(st.integers(2, 6))
    values = draw(st.lists(EIGHTHS, min_size=m, max_size=m, unique=True))
    pairs = [(a, b) for a in range(m) for b in range(a + 1, m)]
    heights = draw(st.lists(st.integers(0, 80).map(lambda k: k / 8), min_size=len(pairs), max_size=len(pairs)))
    return values, [(a, b, max(values[a], values[b]) + height) for (a, b), height in zip(pairs, heights, strict=True)]


def lowest_climbs(values, passes):
    """Return how far each minimum must climb to a lower one: highest losses on the best of all ways (Floyd 1962)."""
    m = len(values)
    lowest = np.full((m, m), INF)
    for a, b, loss in passes:
        lowest[a, b] = lowest[b, a] = loss
    for k in range(m):
        lowest = np.minimum(lowest, np.maximum(lowest[:, k, None], lowest[None, k, :]))
    return [min((lowest[a, b] for b in range(m) if values[b] < values[a]), default=INF) - values[a] for a in range(m)]


@given(graphs())
def test_lengths_are_the_lowest_climbs_to_a_lower_minimum(graph):
    values, passes = graph
    assert tl.bar_lengths(tl.barcode(network(values, passes)), len(values)).tolist() == lowest_climbs(values, passes)


@given(graphs(), st.randoms(use_true_random=False))
def test_lengths_follow_their_minima_when_these_are_renumbered(graph, random):
    values, passes = graph
    m = len(values)
    to = random.sample(range(m), m)
    moved = np.empty(m)
    moved[to] = values
    renumbered = network(moved, [(to[a], to[b], loss) for a, b, loss in passes])
    lengths = tl.bar_lengths(tl.barcode(network(values, passes)), m)
    assert tl.bar_lengths(tl.barcode(renumbered), m)[to].tolist() == lengths.tolist()


def test_lengths_of_other_minima_are_an_error():
    with pytest.raises(ValueError, match="does not say at which minima"):
        tl.bar_lengths(code([(0, 1)]), 1)
    with pytest.raises(ValueError, match="born at minimum 2, but there are 2"):
        tl.bar_lengths(tl.barcode(ELDER), 2)
    assert tl.bar_lengths(code([]), 2).tolist() == [0.0, 0.0]


# --------------------------------------------------------------------------------------------------------------
# Barriers
# --------------------------------------------------------------------------------------------------------------


def test_barriers_above_the_higher_end_and_above_the_mean():
    assert ELDER.ends.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert tl.barriers_above_higher(ELDER).tolist() == [3.0, 8.0, 2.0]
    assert tl.barriers_above_mean(ELDER).tolist() == [4.5, 9.0, 2.5]
    none = network([0.0, 1.0], [])
    assert tl.barriers_above_higher(none).shape == tl.barriers_above_mean(none).shape == (0,)


@given(graphs())
def test_barriers_differ_by_half_the_difference_of_the_ends(graph):
    found = network(*graph)
    ends = found.minima.values[found.ends]
    higher, mean = tl.barriers_above_higher(found), tl.barriers_above_mean(found)
    assert (higher >= 0).all()
    assert (mean - higher).tolist() == (np.abs(ends[:, 0] - ends[:, 1]) / 2).tolist()


def test_the_barrier_between_two_minima_is_the_bar_of_the_higher_one():
    two = network([0.5, 0.25], [(0, 1, 2.0)])
    assert tl.barriers_above_higher(two).tolist() == [tl.to_score(tl.barcode(two))]


# --------------------------------------------------------------------------------------------------------------
# Common scales
# --------------------------------------------------------------------------------------------------------------


def test_normalised_maps_the_lowest_minimum_to_0_and_the_ceiling_to_1():
    bars = tl.barcode(ELDER)
    by_range = tl.normalised(bars, high=8.0)
    assert (by_range.birth.min(), by_range.death.tolist()) == (0.0, [INF, 0.75, 0.625])
    assert by_range.birth_vertex.tolist() == bars.birth_vertex.tolist()
    names = {"low_name": "lowest birth", "high_name": "8"}
    assert dict(by_range.provenance["normalised"]) == {"low": 0.0, "high": 8.0, **names}
    named = tl.normalised(bars, low=0.5, high=8.0, high_name="constant predictor").provenance["normalised"]
    assert (named["low_name"], named["high_name"]) == ("0.5", "constant predictor")
    raised = tl.barcode(network([2.0, 3.0], [(0, 1, 4.0)]))
    assert tl.to_score(tl.normalised(raised, high=6.0)) == 0.25
    assert tl.to_score(tl.normalised(raised, low=0.0, high=8.0)) == 0.125


@given(BARS, st.sampled_from([0.25, 2.0, 8.0]), EIGHTHS)
def test_normalised_bars_do_not_know_the_units_of_the_loss(bars, factor, shift):
    one = tl.normalised(code(bars, endless=[-600.0]), high=700.0)
    moved = code([(factor * b + shift, factor * length) for b, length in bars], endless=[-600.0 * factor + shift])
    other = tl.normalised(moved, high=700.0 * factor + shift)
    assert np.allclose(one.birth, other.birth)
    assert np.allclose(one.persistence[1:], other.persistence[1:])


def test_noise_is_normalised_with_the_losses():
    samples = tl.LossSamples([[0.0], [1.0], [2.0]], [0.0, 3.0, 1.0], noise=0.5, shape=(3,))
    bars = tl.normalised(tl.barcode(tl.grid(samples)), high=4.0)
    assert bars.provenance["noise"] == 0.125


def test_scales_that_are_none_are_errors():
    with pytest.raises(ValueError, match="low is 1 and high is 1"):
        tl.normalised(code([(0, 1)]), low=1.0, high=1.0)
    with pytest.raises(ValueError, match="high is inf"):
        tl.normalised(code([(0, 1)]), high=INF)
    with pytest.raises(ValueError, match="no lowest birth; give low"):
        tl.normalised(code([]), high=1.0)
    assert len(tl.normalised(code([]), low=0.0, high=1.0)) == 0


# --------------------------------------------------------------------------------------------------------------
# The ceiling
# --------------------------------------------------------------------------------------------------------------


def test_ceiling_of_classes_is_their_entropy():
    assert tl.constant_predictor_ceiling(np.repeat(np.arange(10), 7), loss="cross_entropy") == pytest.approx(np.log(10))
    assert tl.constant_predictor_ceiling([5, 5, 5], loss="cross_entropy") == 0.0
    quarter = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    assert tl.constant_predictor_ceiling([0, 3, 3, 3], loss=F.cross_entropy) == pytest.approx(quarter)
    assert tl.constant_predictor_ceiling(torch.tensor([0, 1, 1, 1]), loss=F.cross_entropy) == pytest.approx(quarter)


def test_ceiling_of_numbers_is_their_variance():
    y = np.array([1.0, 2.0, 6.0])
    assert tl.constant_predictor_ceiling(y, loss="mse") == pytest.approx(y.var())
    assert tl.constant_predictor_ceiling(y[:, None], loss=F.mse_loss) == pytest.approx(y.var())
    two = np.array([[0.0, 1.0], [2.0, 1.0]])
    assert tl.constant_predictor_ceiling(two, loss="mse") == 0.5
    assert tl.constant_predictor_ceiling(two[:, :, None], loss="mse") == 0.5


def test_ceiling_of_the_published_network():
    """Var(y) of the target of Barannikov et al.'s 1-2-1 network."""
    data = tl.zoo.dataset("sine_regression")
    assert tl.constant_predictor_ceiling(data.targets, loss="mse") == pytest.approx(0.637314, abs=1e-6)


CASES = {
    "classes": (F.cross_entropy, lambda rng: torch.from_numpy(rng.integers(0, 4, 12)), 4),
    "probabilities": (F.cross_entropy, lambda rng: torch.from_numpy(rng.dirichlet(np.ones(3), 12)), 3),
    "numbers": (F.mse_loss, lambda rng: torch.from_numpy(rng.normal(size=(12, 3))), 3),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_ceiling_is_what_a_search_for_the_best_constant_finds(case, weighted):
    """Minimise torch's own loss of the same outputs in every row."""
    loss, draw, width = CASES[case]
    rng = np.random.default_rng(7)
    targets = draw(rng)
    weights = torch.from_numpy(rng.integers(0, 4, 12)) if weighted else None
    # A row that counts k times is a row that is there k times.
    repeated = targets if weights is None else targets.repeat_interleave(weights, dim=0)

    def mean_loss(constant):
        return loss(torch.from_numpy(constant).expand(len(repeated), -1), repeated).item()

    found = optimize.minimize(mean_loss, np.zeros(width), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    assert tl.constant_predictor_ceiling(targets, loss=loss, weights=weights) == pytest.approx(found.fun, abs=1e-6)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_ceiling_knows_neither_order_nor_names(labels, random):
    renamed = random.sample([7, 1, 30, 4], 4)
    other = [renamed[label] for label in random.sample(labels, len(labels))]
    here, there = (tl.constant_predictor_ceiling(rows, loss="cross_entropy") for rows in (labels, other))
    assert here == pytest.approx(there)
    assert 0 <= here <= np.log(len(set(labels))) + 1e-12


def test_a_flipped_neuron_dies_at_the_ceiling():
    """A single tanh neuron and its copy with both weights flipped: the way between them leads over zero weights."""
    x = np.linspace(-2, 2, 9)
    y = np.tanh(x)
    w, v = (axis.ravel() for axis in np.meshgrid(np.linspace(-2, 2, 81), np.linspace(-2, 2, 81), indexing="ij"))
    losses = ((v[:, None] * np.tanh(w[:, None] * x) - y) ** 2).mean(axis=1).reshape(81, 81)
    bars = tl.barcode(tl.grid(losses, connectivity="full"))
    ceiling = tl.constant_predictor_ceiling(y, loss="mse")
    assert (bars.birth[:2].tolist(), bars.death[:2].tolist()) == ([0.0, 0.0], [INF, pytest.approx(ceiling)])
    assert (bars.death[2:] < ceiling).all()  # of the steps of the grid along the curved valleys
    assert tl.to_score(tl.normalised(bars, high=ceiling), aggregate="max") == pytest.approx(1.0)


def test_other_losses_and_targets_are_errors():
    def cross_entropy(outputs, targets):
        return (outputs - targets).sum()

    for unknown in ("hinge", F.l1_loss, torch.nn.CrossEntropyLoss(label_smoothing=0.1), cross_entropy):
        with pytest.raises(ValueError, match="known are cross_entropy and mse"):
            tl.constant_predictor_ceiling([0, 1], loss=unknown)
    with pytest.raises(ValueError, match="lowest target is -100"):
        tl.constant_predictor_ceiling([0, -100], loss="cross_entropy")
    with pytest.raises(ValueError, match=r"float64 of shape \(2,\); cross-entropy needs classes"):
        tl.constant_predictor_ceiling([0.0, 1.0], loss="cross_entropy")
    with pytest.raises(ValueError, match=r"shape \(0,\)"):
        tl.constant_predictor_ceiling([], loss="mse")
    with pytest.raises(ValueError, match="not all finite"):
        tl.constant_predictor_ceiling([0.0, np.nan], loss="mse")
    with pytest.raises(ValueError, match=r"need to be \(2,\)"):
        tl.constant_predictor_ceiling([0.0, 1.0], loss="mse", weights=[1.0])
    for wrong in ([0.0, 0.0], [1.0, -1.0], [1.0, INF]):
        with pytest.raises(ValueError, match="weights need to be finite, 0 or more, and not all 0"):
            tl.constant_predictor_ceiling([0.0, 1.0], loss="mse", weights=wrong)


def test_scores_of_samples_are_scores_too():
    path = SimplicialComplex(([[0], [1], [2]], [[0, 1], [1, 2]]), ([0.0, 3.0, 1.0], [3.0, 3.0]))
    assert tl.to_score(tl.barcode(path)) == 2.0
    assert tl.bar_lengths(tl.barcode(path), 3).tolist() == [INF, 0.0, 2.0]
