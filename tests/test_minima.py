"""Descents: the same steps as torch's optimizers, many at once."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import Trajectories, descend, initial_points


@pytest.fixture
def valley():
    """Return the function of Rosenbrock."""
    return Landscape.from_function(lambda x: (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2, 2)


def network(**settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)).eval()
        inputs, targets = torch.randn(10, 3), torch.arange(10) % 2
    return module, Landscape.from_module(module, inputs, targets, loss=F.cross_entropy, **settings)


def by_torch(start, steps, make, schedule):
    at = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = make([at])
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if schedule == "cosine" else None
    path = [at.detach().numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        ((1 - at[0]) ** 2 + 100 * (at[1] - at[0] ** 2) ** 2).backward()
        optimizer.step()
        if cosine is not None:
            cosine.step()
        path.append(at.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"method": "adam", "learning_rate": 0.05}, lambda p: torch.optim.Adam(p, lr=0.05)),
        ({"method": "adam", "learning_rate": 0.05, "momentum": 0.5}, lambda p: torch.optim.Adam(p, 0.05, (0.5, 0.999))),
        ({"method": "sgd", "learning_rate": 1e-3}, lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9)),
        ({"method": "sgd", "learning_rate": 1e-3, "momentum": 0.0}, lambda p: torch.optim.SGD(p, 1e-3)),
    ],
)
def test_every_descent_takes_the_steps_of_torch(valley, settings, make, schedule):
    starts = np.array([[-1.0, 1.5], [0.5, -0.5], [0.0, 0.0]])
    descents = descend(valley, starts, steps=40, schedule=schedule, record_every=1, **settings)
    assert descents.points.shape == (3, 41, 2)
    for start, path in zip(starts, descents.points, strict=True):
        np.testing.assert_allclose(path, by_torch(start, 40, make, schedule), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(descents.values, valley.values(descents.points.reshape(-1, 2)).reshape(3, 41), rtol=1e-9)


def test_descents_reach_the_minima_and_say_how_stationary_they_are():
    # The three-hump camel: minima of loss 0 and, twice, 0.29864.
    camel = Landscape.from_function(
        lambda x: 2 * x[:, 0] ** 2 - 1.05 * x[:, 0] ** 4 + x[:, 0] ** 6 / 6 + x[:, 0] * x[:, 1] + x[:, 1] ** 2, 2
    )
    descents = descend(camel, [[0.4, 0.3], [-1.9, 1.0], [1.7, 0.0]], steps=300, learning_rate=0.1)
    np.testing.assert_allclose(descents.end_values, [0, 0.29864, 0.29864], atol=1e-5)
    _, gradients = camel.gradients(descents.ends)
    np.testing.assert_array_equal(descents.gradient_norm, np.linalg.norm(gradients, axis=1))
    assert descents.gradient_norm.max() < 1e-2


def test_points_are_recorded_from_start_to_end(valley):
    starts = np.array([[0.1, 0.2]])
    every = descend(valley, starts, steps=10, record_every=4)
    assert every.steps.tolist() == [0, 4, 8, 10]
    np.testing.assert_array_equal(every.points[:, 0], starts)
    np.testing.assert_array_equal(every.ends, every.points[:, -1])
    np.testing.assert_array_equal(every.end_values, valley.values(every.ends))
    two = descend(valley, starts, steps=10)
    assert two.steps.tolist() == [0, 10]
    np.testing.assert_array_equal(two.ends, every.ends)
    none = descend(valley, starts, steps=0)
    np.testing.assert_array_equal(none.ends, starts)
    assert none.points.shape == (1, 1, 2)


def test_descent_that_leaves_the_finite_is_frozen_and_named_while_others_go_on(caplog):
    landscape = Landscape.from_function(lambda x: x[:, 0] ** 4 + torch.log(x[:, 0] + 3) * 0 + x[:, 0], 1)
    starts = [[0.1], [-2.9], [-5.0]]
    with caplog.at_level(logging.WARNING):
        descents = descend(
            landscape,
            starts,
            steps=30,
            learning_rate=0.1,
            method="sgd",
            momentum=0,
            record_every=1,
            schedule="constant",
        )
    assert "2 of 3 descents" in caplog.text
    assert "2 at step 0" in caplog.text
    alone = descend(
        landscape,
        starts[:1],
        steps=30,
        learning_rate=0.1,
        method="sgd",
        momentum=0,
        record_every=1,
        schedule="constant",
    )
    np.testing.assert_array_equal(descents.points[0], alone.points[0])
    assert np.isfinite(descents.points).all()
    assert np.isfinite(descents.values[:2]).all()
    assert np.isnan(descents.values[2]).all()
    frozen = descents.points[1]
    last = int(np.flatnonzero(np.diff(frozen[:, 0]))[-1] + 1) if np.diff(frozen[:, 0]).any() else 0
    assert last < 30
    assert f"descent 1 at step {last + 1}" in caplog.text
    np.testing.assert_array_equal(descents.end_values[1], landscape.values(descents.ends)[1])


def test_networks_are_trained_together():
    _, landscape = network()
    descents = descend(landscape, initial_points(landscape, 4, seed=0), steps=150, learning_rate=0.05)
    assert (descents.end_values < descents.values[:, 0]).all()
    assert descents.end_values.max() < 0.5
    assert len(descents) == 4
    assert repr(descents).startswith("Trajectories(4 descents of 150 steps, 2 points recorded, losses at the ends")


def test_starts_are_those_of_the_module_and_leave_everything_as_it_was():
    module, landscape = network()
    before = torch.get_rng_state(), {name: tensor.clone() for name, tensor in module.state_dict().items()}
    starts = initial_points(landscape, 50, seed=3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in module.state_dict().items())
    np.testing.assert_array_equal(starts, initial_points(landscape, 50, seed=3))
    np.testing.assert_array_equal(starts, initial_points(landscape, 50, seed=np.random.default_rng(3)))
    assert len(np.unique(starts[:, 0])) == 50
    assert not np.isin(initial_points(landscape, 50, seed=4)[:, 0], starts[:, 0]).any()
    by_name = {block.name: starts[:, block.entries] for block in landscape.blocks}
    # torch draws the weights of a linear layer evenly from +-1 / sqrt(inputs).
    bound = 3**-0.5
    assert np.abs(by_name["0.weight"]).max() <= bound
    assert by_name["0.weight"].var() == pytest.approx(bound**2 / 3, rel=0.15)
    assert (by_name["1.weight"] == 1).all()
    assert (by_name["1.bias"] == 0).all()


def test_parameters_without_a_reset_stay():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([2.5]))
            self.layer = nn.Linear(2, 1)

        def forward(self, x):
            return self.scale * self.layer(x)

    landscape = Landscape.from_module(Scaled(), torch.ones(3, 2), torch.ones(3, 1), loss=F.mse_loss)
    starts = initial_points(landscape, 5, seed=0)
    assert (starts[:, 0] == 2.5).all()
    assert (starts.std(axis=0)[1:] > 0).all()


def test_only_varying_parameters_are_drawn():
    _, landscape = network(parameters="3.*")
    assert initial_points(landscape, 2, seed=0).shape == (2, 12)


def test_starts_without_a_module_are_refused(valley):
    with pytest.raises(ValueError, match="no module to draw starts from"):
        initial_points(valley, 3, seed=0)
    _, landscape = network()
    with pytest.raises(ValueError, match="no module to draw starts from"):
        initial_points(landscape.restricted_to(landscape.point, np.ones((1, landscape.dimension))), 3, seed=0)
    with pytest.raises(ValueError, match="n is 0"):
        initial_points(landscape, 0, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": -1}, "steps is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"momentum": 1.0}, "momentum is 1"),
        ({"method": "lbfgs"}, "method is 'lbfgs'"),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"record_every": 0}, "record_every is 0"),
        ({"starts": np.zeros((0, 2))}, "starts are empty"),
        ({"starts": np.zeros(2)}, r"points have shape \(2,\)"),
        ({"starts": np.zeros((1, 3))}, "points have 3 coordinates"),
    ],
)
def test_bad_input_is_refused(valley, changes, message):
    settings = {"starts": np.zeros((1, 2)), "steps": 3} | changes
    with pytest.raises(ValueError, match=message):
        descend(valley, settings.pop("starts"), **settings)


def test_trajectories_are_read_only_and_checked():
    arrays = {
        "points": np.zeros((2, 3, 4)),
        "values": np.zeros((2, 3)),
        "steps": np.arange(3),
        "gradient_norm": np.zeros(2),
    }
    kept = Trajectories(**arrays)
    arrays["points"][:] = 1
    assert not kept.points.any()
    with pytest.raises(ValueError, match="read-only"):
        kept.points[0] = 1
    with pytest.raises(ValueError, match="do not belong together"):
        Trajectories(**(arrays | {"values": np.zeros((2, 4))}))
