"""Minima: found where they are known to be, and what is none said to be none."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.descent import descending
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import descend, initial_points, merge_equal, minima
from topolandscape.structures import Minima
from topolandscape.zoo import functions


def known(name):
    """Return the landscape of a function of the zoo, and its minima."""
    function = functions[name]
    return Landscape.from_function(function.function, len(function.low)), function


def random_starts(function, n, seed=0):
    return np.random.default_rng(seed).uniform(function.low, function.high, size=(n, len(function.low)))


def rectified(x):
    """Return the absolute value, as two rectifiers make it."""
    return torch.relu(x) + torch.relu(-x)


def network(inputs=60, width=4, dtype="float64", **settings):
    rng = np.random.default_rng(0)
    rows = torch.tensor(rng.standard_normal((inputs, 3)))
    targets = (rows[:, 0] * rows[:, 1] > 0).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))
    return Landscape.from_module(
        module, rows, targets, loss=F.cross_entropy, weight_decay=1e-2, dtype=dtype, **settings
    )


# --------------------------------------------------------------------------------------------------------------
# Where they are known to be
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n"), [("three_hump_camel", 30), ("quartic", 8), ("rastrigin_2d", 150), ("mueller_brown", 30)]
)
def test_all_known_minima_are_found_from_random_starts(name, n):
    landscape, function = known(name)
    with np.errstate(over="ignore"):  # far outside its box the function of Mueller and Brown overflows
        found = minima(landscape, random_starts(function, n), seed=0, steps=0, tolerance=1e-5)
    inside = [
        row
        for row, point in enumerate(found.points)
        if (point >= function.low).all() and (point <= function.high).all()
    ]
    found = found.rows(inside)
    assert len(found) == len(function.minima)
    for minimum in function.minima:
        row = int(np.argmin(np.abs(found.points - minimum).max(axis=1)))
        np.testing.assert_allclose(found.points[row], minimum, atol=1e-6)
        assert found.values[row] == pytest.approx(function.function(minimum[None])[0], abs=1e-9)
        assert found.stationary[row] == "minimum"
    assert (found.index == 0).all()
    assert found.gradient_norm.max() <= 1e-5


def test_an_egg_carton_has_equal_minima_that_are_not_one():
    landscape = Landscape.from_function(lambda x: torch.cos(2 * torch.pi * x).sum(1), 2)
    starts = np.random.default_rng(0).uniform(0, 3, size=(60, 2))
    found = minima(landscape, starts, seed=0, steps=50, learning_rate=0.02)
    assert found.found.sum() == 60
    inside = found.rows(np.flatnonzero(((found.points > 0) & (found.points < 3)).all(axis=1)))
    assert sorted(map(tuple, inside.points.round(6))) == [(a + 0.5, b + 0.5) for a in range(3) for b in range(3)]
    np.testing.assert_allclose(found.values, -2)
    np.testing.assert_allclose(found.curvature, 4 * np.pi**2, rtol=1e-6)
    rows = np.array(found.provenance["rows"])
    assert np.bincount(rows).tolist() == found.found.tolist()
    assert np.linalg.norm(found.points[rows] - starts, axis=1).max() < 2


def test_the_scalar_linear_network():
    # L = P^2 - 2 a P + c + gamma (v^2 + w^2), P = v w: minima at v = w = +-sqrt(a - gamma), a saddle at the origin.
    a, c, gamma = 1.0, 1.5, 0.2
    landscape = Landscape.from_function(lambda x: x.prod(1) ** 2 - 2 * a * x.prod(1) + c + gamma * (x**2).sum(1), 2)
    found = minima(landscape, [[1.0, 0.5], [0.0, 0.0], [-0.3, -1.0], [0.2, 0.1]], seed=0, steps=20)
    np.testing.assert_allclose(found.points, np.sqrt(a - gamma) * np.array([[1, 1], [0, 0], [-1, -1]]), atol=1e-6)
    np.testing.assert_allclose(found.values, [0.86, 1.5, 0.86], atol=1e-12)
    assert found.stationary == ("minimum", "saddle", "minimum")
    assert found.index.tolist() == [0, 1, 0]
    np.testing.assert_allclose(found.curvature, [[0.8, 3.2], [-1.6, 2.4], [0.8, 3.2]], atol=1e-6)
    assert found.found.tolist() == [2, 1, 1]
    assert np.isnan(found.accuracy).all()


def test_minima_of_a_network():
    landscape, held_out = network(), network(inputs=40)
    found = minima(landscape, 6, seed=0, steps=200, learning_rate=0.05, test=held_out)
    assert set(found.stationary) == {"minimum"}
    assert found.found.sum() == 6
    _, gradients = landscape.gradients(found.points)
    np.testing.assert_allclose(found.gradient_norm, np.linalg.norm(gradients, axis=1), rtol=1e-6)
    assert found.gradient_norm.max() <= 1e-6
    spectra = np.linalg.eigvalsh(hessians(landscape, found.points))
    np.testing.assert_allclose(found.curvature, spectra[:, :3], atol=1e-9)
    assert (spectra > 0).all()
    for data, accuracy in ((landscape, found.accuracy), (held_out, found.test_accuracy)):
        np.testing.assert_array_equal(accuracy, data.accuracies(found.points)[1])
    assert found.accuracy.min() > 0.8
    again = minima(landscape, 6, seed=0, steps=200, learning_rate=0.05)
    np.testing.assert_allclose(again.points, found.points, atol=1e-4)
    np.testing.assert_allclose(again.values, found.values, atol=1e-9)


def test_a_network_in_float32_is_polished_as_well():
    found = minima(network(dtype="float32"), 4, seed=0, steps=200, learning_rate=0.05)
    assert set(found.stationary) == {"minimum"}
    exact = minima(network(), found.points, seed=0, steps=0)
    np.testing.assert_allclose(found.values, exact.values, atol=1e-7)
    np.testing.assert_allclose(found.points, exact.points, atol=1e-3)


def test_mini_batches_and_interrupted_descents():
    landscape = network()
    settings = {"steps": 40, "batch": 16, "learning_rate": 0.05}
    found = minima(landscape, 3, seed=4, **settings)
    assert found.provenance["descent"]["batch"] == 16
    assert set(found.stationary) == {"minimum"}
    state = next(
        state
        for state in descending(landscape, initial_points(landscape, 3, seed=4), every=10, seed=4, **settings)
        if state.step == 20
    )
    resumed = minima(landscape, state, seed=4, **settings)
    end = descend(landscape, state, **settings).ends
    assert np.linalg.norm(resumed.points - end, axis=1).max() < 10
    assert set(resumed.stationary) == {"minimum"}


# --------------------------------------------------------------------------------------------------------------
# What is none
# --------------------------------------------------------------------------------------------------------------


def test_a_valley_is_flat():
    landscape = Landscape.from_function(lambda x: (x[:, 0] * x[:, 1] - 1) ** 2, 2)
    found = minima(landscape, [[1.0, 0.5], [3.0, 0.2]], seed=0, steps=0)
    assert found.stationary == ("flat", "flat")
    np.testing.assert_allclose(found.points.prod(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.curvature[:, 0], 0, atol=1e-6)
    assert found.index.tolist() == [0, 0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.exp(-x[:, 0]) + x[:, 1] ** 2,
        lambda x: torch.nn.functional.softplus(-x[:, 0]) + (x[:, 1] - 1) ** 2,
        lambda x: -x[:, 0] + x[:, 1] ** 2,
        lambda x: 1 / (1 + x[:, 0] ** 2 + x[:, 1] ** 2),
    ],
)
def test_an_infimum_at_infinity_is_far(function):
    found = minima(Landscape.from_function(function, 2), [[1.0, 0.5]], seed=0, steps=10, max_evaluations=500)
    assert found.stationary == ("far",)


def test_separable_classes_without_weight_decay_have_their_minimum_at_infinity():
    inputs = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]], dtype=torch.float64)
    module = nn.Linear(1, 2).double()
    landscape = Landscape.from_module(module, inputs, torch.tensor([0, 0, 1, 1]), loss=F.cross_entropy)
    found = minima(landscape, [[-1.0, 1.0, 0.1, 0.0]], seed=0, steps=10, tolerance=1e-4)
    assert found.stationary == ("far",)
    assert found.accuracy.tolist() == [1.0]


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (lambda x: rectified(x[:, 0]) + x[:, 1] ** 2, 0.0),
        (lambda x: rectified(x[:, 0] - 1) + 2 * rectified(x[:, 1] + 1), 0.0),
        (lambda x: torch.maximum(-0.5 * x[:, 0], (x[:, 0] - 1) ** 2 - 1) + x[:, 1] ** 2, -0.75),
    ],
)
def test_where_the_gradient_jumps_is_a_kink(function, value):
    found = minima(Landscape.from_function(function, 2), [[1.7, 0.5], [-0.4, -2.0]], seed=0, steps=0)
    assert set(found.stationary) == {"kink"}
    np.testing.assert_allclose(found.values, value, atol=1e-3)


def test_a_relu_network_ends_in_kinks():
    inputs = torch.tensor(np.linspace(-2, 2, 25)[:, None])
    targets = torch.sin(2 * inputs)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1)).double()
    landscape = Landscape.from_module(module, inputs, targets, loss=F.mse_loss, weight_decay=1e-3)
    found = minima(landscape, 5, seed=0, steps=300, learning_rate=0.03)
    assert "kink" in found.stationary
    for word, norm in zip(found.stationary, found.gradient_norm, strict=True):
        assert word in ("minimum", "saddle", "flat") if norm <= 1e-6 else word == "kink"


def test_what_has_not_converged_says_so():
    landscape = network()
    found = minima(landscape, 3, seed=0, steps=5, max_evaluations=5)
    assert set(found.stationary) == {"not converged"}
    assert found.provenance["ended"] == ["evaluations"] * 3
    assert found.gradient_norm.min() > 1e-6


def test_descents_that_diverge_are_named_and_the_others_kept(caplog):
    landscape = Landscape.from_function(
        lambda x: x[:, 0] ** 4 - x[:, 0] ** 2 + x[:, 1] ** 2 + torch.log(x[:, 0] + 3) * 0, 2
    )
    settings = {"steps": 40, "method": "sgd", "learning_rate": 0.05}
    with caplog.at_level(logging.WARNING):
        found = minima(landscape, [[0.5, 0.1], [-2.9, 0.0], [-7.0, 0.0], [-0.5, 0.1]], seed=0, **settings)
    assert found.stationary == ("minimum", "diverged", "diverged", "minimum")
    assert "2 of 4 descents" in caplog.text
    np.testing.assert_allclose(found.points[[0, 3]], [[0.5**0.5, 0], [-(0.5**0.5), 0]], atol=1e-6)
    assert np.isnan(found.values[2])
    assert np.isnan(found.curvature[1:3]).all()
    assert found.index.tolist() == [0, -1, -1, 0]
    nothing = minima(landscape, [[-7.0, 0.0]], seed=0, **settings)
    assert nothing.stationary == ("diverged",)


# --------------------------------------------------------------------------------------------------------------
# Which are the same
# --------------------------------------------------------------------------------------------------------------


def test_points_are_one_when_they_are_near_and_nothing_rises_between():
    wells = Landscape.from_function(lambda x: torch.sin(50 * x[:, 0]) ** 2 + x[:, 1] ** 2, 2)
    side = np.pi / 50
    points = np.array([[0.0, 0.0], [side, 0.0], [1e-3, 1e-3], [2 * side, 0.0], [side, 1e-4], [0.0, 1.0]])
    assert merge_equal(wells, points, wells.values(points), tolerance=0.1).tolist() == [0, 1, 0, 2, 1, 3]
    assert merge_equal(wells, points, wells.values(points), tolerance=0.0).tolist() == [0, 1, 2, 3, 4, 5]
    same = np.repeat(points[:1], 3, axis=0)
    assert merge_equal(wells, same, wells.values(same), tolerance=0.0).tolist() == [0, 0, 0]


def test_distance_counts_against_the_size_of_the_points():
    bowl = Landscape.from_function(lambda x: 1e-9 * (x**2).sum(1), 2)
    points = np.array([[1000.0, 0.0], [1005.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    assert merge_equal(bowl, points, bowl.values(points)).tolist() == [0, 0, 1, 2]


def test_points_are_one_through_others():
    bowl = Landscape.from_function(lambda x: 0 * x.sum(1), 1)
    points = 0.008 * np.arange(5.0)[::-1, None]
    assert merge_equal(bowl, points, np.zeros(5)).tolist() == [0, 0, 0, 0, 0]
    assert merge_equal(bowl, points[::2], np.zeros(3)).tolist() == [0, 1, 2]


def test_all_segments_are_one_evaluation(monkeypatch):
    bowl = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    points = 1e-3 * np.random.default_rng(0).standard_normal((20, 2))
    values, calls, plain = bowl.values(points), [], Landscape.values

    def counted(self, points, **options):
        calls.append(len(points))
        return plain(self, points, **options)

    monkeypatch.setattr(Landscape, "values", counted)
    assert not merge_equal(bowl, points, values).any()
    assert calls == [190 * 9]


def test_rows_can_be_kept_for_every_start():
    landscape = Landscape.from_function(lambda x: ((x**2 - 1) ** 2).sum(1), 1)
    starts = [[2.0], [-2.0], [0.5]]
    apart = minima(landscape, starts, seed=0, steps=0, merge=None)
    np.testing.assert_allclose(apart.points, [[1], [-1], [1]], atol=1e-6)
    assert apart.found.tolist() == [1, 1, 1]
    together = minima(landscape, starts, seed=0, steps=0)
    assert together.provenance["rows"] == [0, 1, 0]
    best = np.argmin(apart.gradient_norm[[0, 2]])
    assert together.gradient_norm[0] == apart.gradient_norm[[0, 2]][best]


# --------------------------------------------------------------------------------------------------------------
# Bad input
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": 0}, "no module to draw starts from"),
        ({"starts": np.zeros((0, 2))}, "starts are empty"),
        ({"starts": np.zeros((1, 3))}, r"points have shape \(1, 3\)"),
        ({"curvatures": 0}, "curvatures is 0"),
        ({"flatness": -1.0}, "flatness is -1"),
        ({"merge": -1.0}, "tolerance of merging is -1"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"steps": -1}, "steps is -1"),
        ({"test": Landscape.from_function(lambda x: x.sum(1), 3)}, "test is a landscape of 3 parameters, not of 2"),
    ],
)
def test_bad_input_is_refused(changes, message):
    bowl = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    settings = {"starts": np.zeros((1, 2)), "seed": 0, "steps": 3} | changes
    with pytest.raises(ValueError, match=message):
        minima(bowl, settings.pop("starts"), **settings)


def test_merging_checks_its_input():
    bowl = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    with pytest.raises(ValueError, match=r"values have shape \(3,\); there are 2 points"):
        merge_equal(bowl, np.zeros((2, 2)), np.zeros(3))
    with pytest.raises(ValueError, match=r"points have shape \(2, 3\)"):
        merge_equal(bowl, np.zeros((2, 3)), np.zeros(2))


# --------------------------------------------------------------------------------------------------------------
# The record
# --------------------------------------------------------------------------------------------------------------


def record(**changes):
    return Minima(
        **{
            "points": np.arange(6.0).reshape(3, 2),
            "values": np.array([0.1, 0.2, np.nan]),
            "gradient_norm": np.zeros(3),
            "curvature": np.array([[1.0, 2.0], [-1.0, 0.5], [np.nan, np.nan]]),
            "index": np.array([0, 1, -1]),
            "stationary": ["minimum", "saddle", "diverged"],
        }
        | changes
    )


def test_minima_are_frozen_and_what_is_unknown_is_nan():
    points = np.zeros((1, 2))
    kept = Minima(points, np.zeros(1), np.zeros(1), np.ones((1, 1)), np.zeros(1, int), ("minimum",))
    points[:] = 1
    assert not kept.points.any()
    with pytest.raises(ValueError, match="read-only"):
        kept.values[0] = 1
    assert np.isnan(kept.accuracy).all()
    assert np.isnan(kept.test_accuracy).all()
    assert kept.found.tolist() == [1]
    assert len(kept) == 1
    assert repr(record()) == "Minima(3 points, losses 0.1 to 0.2: 1 minimum, 1 saddle, 1 diverged)"


def test_rows_are_taken_in_their_order():
    some = record(provenance={"seed": 3}, accuracy=[0.5, 0.6, 0.7]).rows([1, 0])
    assert some.stationary == ("saddle", "minimum")
    assert some.index.tolist() == [1, 0]
    assert some.accuracy.tolist() == [0.6, 0.5]
    np.testing.assert_array_equal(some.points, [[2, 3], [0, 1]])
    assert some.provenance["seed"] == 3
    assert len(record().rows(slice(0, 2))) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros(2)}, "values has 2 entries, but there are 3 points"),
        ({"accuracy": np.zeros(2)}, "accuracy has 2 entries"),
        ({"stationary": ["minimum"]}, "stationary has 1 entries"),
        ({"stationary": ["minimum", "minimum", "valley"]}, r"stationary\[2\] is 'valley'"),
        ({"points": np.full((3, 2), np.inf)}, r"points\[0\] is not finite"),
        ({"points": np.zeros((0, 2))}, "no points were given"),
        ({"curvature": np.zeros((3, 0))}, "curvature has no column"),
        ({"curvature": np.zeros(3)}, "curvature has shape"),
    ],
)
def test_records_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        record(**changes)
