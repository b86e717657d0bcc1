"""Descents: the same steps as torch's optimizers, many at once, stopped and gone on with."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topolandscape.landscape.descent import Descent, Trajectories, descend, descending, initial_points
from topolandscape.landscape.loss import Landscape


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
    schedulers = {
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        "linear": lambda: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps),
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
    }
    scheduler = schedulers[schedule]()
    path = [at.detach().numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        ((1 - at[0]) ** 2 + 100 * (at[1] - at[0] ** 2) ** 2).backward()
        optimizer.step()
        scheduler.step()
        path.append(at.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"method": "adam", "learning_rate": 0.05}, lambda p: torch.optim.Adam(p, lr=0.05)),
        ({"method": "adam", "learning_rate": 0.05, "momentum": 0.5}, lambda p: torch.optim.Adam(p, 0.05, (0.5, 0.999))),
        ({"method": "sgd", "learning_rate": 1e-3}, lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9)),
        ({"method": "sgd", "learning_rate": 1e-3, "momentum": 0.0}, lambda p: torch.optim.SGD(p, 1e-3)),
        (
            {"method": "nesterov", "learning_rate": 1e-3},
            lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, nesterov=True),
        ),
    ],
)
def test_every_descent_takes_the_steps_of_torch(valley, settings, make, schedule):
    starts = np.array([[-1.0, 1.5], [0.5, -0.5], [0.0, 0.0]])
    descents = descend(valley, starts, steps=40, schedule=schedule, record_every=1, **settings)
    assert descents.points.shape == (3, 41, 2)
    for start, path in zip(starts, descents.points, strict=True):
        np.testing.assert_allclose(path, by_torch(start, 40, make, schedule), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(descents.values, valley.values(descents.points.reshape(-1, 2)).reshape(3, 41), rtol=1e-9)


def test_the_learning_rate_rises_before_it_falls():
    # The gradient is one, so that a step without momentum is the learning rate.
    slope = Landscape.from_function(lambda x: x.sum(1), 1)
    settings = {"learning_rate": 1.0, "method": "sgd", "momentum": 0.0, "record_every": 1}
    descents = descend(slope, [[0.0]], steps=8, warm_up=4, schedule="linear", **settings)
    np.testing.assert_allclose(-np.diff(descents.points[0, :, 0]), [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25])


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


# --------------------------------------------------------------------------------------------------------------
# Mini-batches
# --------------------------------------------------------------------------------------------------------------


def regression(*, form="loop", **settings):
    """Return the landscape of a linear network on ten rows, and the mean squared error on some of them."""
    rng = np.random.default_rng(1)
    inputs, targets = torch.tensor(rng.standard_normal((10, 2))), torch.tensor(rng.standard_normal((10, 1)))
    landscape = Landscape.from_module(
        nn.Linear(2, 1).double(), inputs, targets, loss=F.mse_loss, weight_decay=0.01, **settings
    )
    landscape.engine.only(form)  # one form throughout: others differ by rounding

    def loss(theta, rows):
        return ((inputs[rows] @ theta[:2] + theta[2] - targets[rows, 0]) ** 2).mean() + 0.01 * (theta**2).sum()

    return landscape, loss


@pytest.fixture
def drawn(monkeypatch):
    """Return a list to which the rows of every mini-batch are appended."""
    seen, of_rows = [], Landscape.of_rows

    def spy(self, rows):
        seen.append(np.array(rows))
        return of_rows(self, rows)

    monkeypatch.setattr(Landscape, "of_rows", spy)
    return seen


def test_descents_by_mini_batches_take_the_steps_of_torch(drawn):
    landscape, loss = regression()
    starts = np.random.default_rng(0).standard_normal((3, 3))
    settings = {"learning_rate": 0.1, "method": "nesterov", "schedule": "linear"}
    descents = descend(landscape, starts, steps=9, batch=4, seed=5, record_every=1, **settings)
    for start, path in zip(starts, descents.points, strict=True):
        at = torch.tensor(start, requires_grad=True)
        optimizer = torch.optim.SGD([at], 0.1, momentum=0.9, nesterov=True)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=9)
        for rows, there in zip(drawn, path[1:], strict=True):
            optimizer.zero_grad()
            loss(at, rows).backward()
            optimizer.step()
            scheduler.step()
            np.testing.assert_allclose(there, at.detach().numpy(), rtol=1e-10)
    # What is recorded is the whole loss.
    whole = landscape.gradients(descents.ends)
    np.testing.assert_array_equal(descents.gradient_norm, np.linalg.norm(whole[1], axis=1))
    np.testing.assert_allclose(descents.values, landscape.values(descents.points.reshape(-1, 3)).reshape(3, -1))


def test_every_epoch_has_all_rows_in_an_order_of_its_own(drawn):
    landscape, _ = regression()
    descend(landscape, np.zeros((2, 3)), steps=9, batch=4, seed=0)
    assert [len(rows) for rows in drawn] == [4, 4, 2] * 3
    epochs = [np.concatenate(drawn[i : i + 3]) for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_one_seed_gives_one_result():
    landscape, _ = regression()
    starts = np.random.default_rng(0).standard_normal((3, 3))
    settings = {"steps": 20, "batch": 3, "learning_rate": 0.1}
    first = descend(landscape, starts, seed=1, **settings)
    np.testing.assert_array_equal(first.points, descend(landscape, starts, seed=1, **settings).points)
    np.testing.assert_array_equal(
        first.points, descend(landscape, starts, seed=np.random.default_rng(1), **settings).points
    )
    assert (first.ends != descend(landscape, starts, seed=2, **settings).ends).any(axis=1).all()
    # Neither the other descents nor the sizes of chunks matter.
    small, _ = regression(memory=1, form="vmap")
    for ends in (
        descend(landscape, starts[1:], seed=1, **settings).ends,
        descend(small, starts, seed=1, **settings).ends,
    ):
        np.testing.assert_allclose(ends[-2:], first.ends[1:], rtol=1e-12)
    whole = descend(landscape, starts, steps=20, learning_rate=0.1)
    np.testing.assert_allclose(descend(landscape, starts, seed=1, **(settings | {"batch": 10})).ends, whole.ends)


def test_mini_batches_need_a_seed_and_rows():
    landscape, _ = regression()
    with pytest.raises(ValueError, match="batch is 4, so rows are drawn at random; give a seed"):
        descend(landscape, np.zeros((1, 3)), steps=1, batch=4)
    with pytest.raises(ValueError, match="batch is 0"):
        descend(landscape, np.zeros((1, 3)), steps=1, batch=0, seed=0)


# --------------------------------------------------------------------------------------------------------------
# Stopped and gone on with
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("method", ["adam", "sgd", "nesterov"])
def test_descents_that_are_interrupted_reach_the_same_bits(tmp_path, method, batch):
    _, landscape = network()
    landscape.engine.only("loop")  # one form throughout: others differ by rounding
    settings = {"steps": 14, "method": method, "batch": batch, "seed": 7, "warm_up": 2, "learning_rate": 0.05}
    starts = initial_points(landscape, 4, seed=0)
    whole = list(descending(landscape, starts, every=1, **settings))
    assert [state.step for state in whole] == list(range(15))
    assert whole[-1].values.max() < whole[0].values.min()
    for state in whole[::3]:
        # Through a file, as a run that was killed would go on.
        np.savez(tmp_path / "state.npz", **{name: part for name, part in vars(state).items() if part is not None})
        with np.load(tmp_path / "state.npz") as kept:
            again = Descent(**dict(kept))
        *_, end = descending(landscape, again, every=4, **settings)
        for name in ("points", "values", "gradients", "moments", "stopped"):
            np.testing.assert_array_equal(getattr(end, name), getattr(whole[-1], name))
    np.testing.assert_array_equal(descend(landscape, whole[5], **settings).ends, whole[-1].points)
    np.testing.assert_array_equal(descend(landscape, starts, **settings).ends, whole[-1].points)


def test_states_know_which_descents_have_ended(caplog):
    landscape = Landscape.from_function(lambda x: x[:, 0] ** 4 + torch.log(x[:, 0] + 3) * 0 + x[:, 0], 1)
    settings = {"steps": 10, "learning_rate": 0.1, "method": "sgd", "momentum": 0.0}
    states = list(descending(landscape, [[0.1], [-2.9]], every=5, **settings))
    assert states[1].stopped[0] == -1
    assert states[1].stopped[1] > 0
    with caplog.at_level(logging.WARNING):
        *_, end = descending(landscape, states[1], every=None, **settings)
    assert "1 of 2 descents" in caplog.text
    np.testing.assert_array_equal(end.points, states[-1].points)


def test_states_of_other_descents_are_refused(valley):
    state = next(descending(valley, [[0.0, 0.0]], every=None, steps=5))
    with pytest.raises(ValueError, match="has 2 running means, this method 1"):
        descend(valley, state, steps=5, method="sgd")
    with pytest.raises(ValueError, match="has taken 3 steps already, more than 2"):
        descend(valley, Descent(**(vars(state) | {"step": 3})), steps=2)
    with pytest.raises(ValueError, match="points of the state have shape"):
        descend(Landscape.from_function(lambda x: x.sum(1), 3), state, steps=5)
    with pytest.raises(ValueError, match="do not belong together"):
        Descent(**(vars(state) | {"values": np.zeros(2)}))
    with pytest.raises(ValueError, match="every is 0"):
        descending(valley, [[0.0, 0.0]], every=0, steps=5)
    landscape, _ = regression()
    with pytest.raises(ValueError, match="give a seed"):
        descend(
            landscape,
            Descent(
                **(
                    vars(state)
                    | {"points": np.zeros((1, 3)), "gradients": np.zeros((1, 3)), "moments": np.zeros((2, 1, 3))}
                )
            ),
            steps=5,
            batch=2,
            seed=1,
        )


# --------------------------------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------------------------------


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
        ({"schedule": "step"}, "schedule is 'step'"),
        ({"warm_up": 3}, "warm_up is 3 of 3 steps"),
        ({"warm_up": -1}, "warm_up is -1"),
        ({"batch": 4, "seed": 0}, "has no rows of data"),
        ({"record_every": 0}, "record_every is 0"),
        ({"starts": np.zeros((0, 2))}, "starts are empty"),
        ({"starts": np.zeros(2)}, r"points have shape \(2,\)"),
        ({"starts": np.zeros((1, 3))}, r"points have shape \(1, 3\)"),
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


def test_a_function_may_tell_where_to_stop(valley):
    asked = []

    def stops(step):
        asked.append(step)
        return step in (2, 5)

    states = list(descending(valley, np.ones((1, 2)), every=stops, steps=7))
    assert [state.step for state in states] == [0, 2, 5, 7]
    assert asked == [1, 2, 3, 4, 5, 6]


def test_descents_that_had_ended_are_named_once(caplog):
    steep = Landscape.from_function(lambda x: (x**4).sum(1), 1)
    *_, end = descending(steep, [[1.0], [1e60]], every=None, steps=3, learning_rate=1e-3, method="sgd")
    assert len(caplog.records) == 1
    caplog.clear()
    *_, later = descending(steep, end, every=None, steps=5, learning_rate=1e-3, method="sgd")
    assert not caplog.records
    assert later.stopped.tolist() == end.stopped.tolist()
