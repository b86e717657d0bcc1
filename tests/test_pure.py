"""The module is left as it was, and a loss that is not a function of the parameters is refused."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_modules import MODULES, ROWS, TASKS, assert_same_state, near, normalised, state
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from topolandscape.landscape.loss import Landscape

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.fixture
def inputs():
    return torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(1))


# --------------------------------------------------------------------------------------------------------------
# The module is left as it was
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def generators():
    """Fail when a test moves a global generator of random numbers."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    np.testing.assert_equal(np.random.get_state(), before[2])  # noqa: NPY002


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("training", [True, False])
def test_module_and_generators_are_left_as_they_were(name, training, inputs, request):
    loss, targets = TASKS["classes"]
    module = MODULES[name][0]()
    if name != "batch norm":
        module.train(training)
    next(module.parameters()).requires_grad_(False)
    before, data = state(module), inputs.clone()
    request.getfixturevalue("generators")
    landscape = Landscape.from_module(module, inputs, targets, loss=loss)
    landscape.values(near(landscape.point))
    landscape.gradients(near(landscape.point))
    landscape.hessian_products(landscape.point, near(landscape.point))
    landscape.module_at(landscape.point)
    assert landscape.noise >= 0
    with pytest.raises(ValueError, match="points have shape"):
        landscape.values(np.zeros((1, 1)))
    assert_same_state(module, before)
    assert torch.equal(inputs, data)


def test_module_is_left_as_it_was_after_an_exception(inputs, generators):
    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)
            self.calls = 0

        def forward(self, x):
            if self.layer.weight.abs().max() > 100:
                raise ArithmeticError("too large")
            return self.layer(x)

    with torch.random.fork_rng():
        module = Failing()
    before = state(module)
    landscape = Landscape.from_module(module, inputs, TASKS["classes"][1], loss=F.cross_entropy)
    with pytest.raises(ArithmeticError, match="too large"):
        landscape.values(np.full((2, landscape.dimension), 1000.0))
    assert_same_state(module, before)
    assert np.isfinite(landscape.values(landscape.point[None])).all()


def test_later_training_of_the_module_does_not_change_the_landscape(inputs):
    loss, targets = TASKS["classes"]
    module, data = MODULES["relu"][0](), inputs.clone()
    landscape = Landscape.from_module(module, data, targets, loss=loss, parameters="0.*")
    points = near(landscape.point)
    before = landscape.values(points)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        data.zero_()
    np.testing.assert_array_equal(landscape.values(points), before)


# --------------------------------------------------------------------------------------------------------------
# A loss that is not a function is refused
# --------------------------------------------------------------------------------------------------------------


def test_dropout_in_train_mode_is_refused_and_taken_in_eval_mode(inputs, generators):
    with torch.random.fork_rng():
        module = nn.Sequential(nn.Linear(6, 20), nn.Dropout(0.5), nn.Linear(20, 6))
    before = state(module)
    with pytest.raises(RuntimeError, match=r"two evaluations at one point gave [\d.]+ and [\d.]+\. Call module.eval"):
        Landscape.from_module(module, inputs, TASKS["classes"][1], loss=F.cross_entropy)
    assert_same_state(module, before)
    assert Landscape.from_module(module.eval(), inputs, TASKS["classes"][1], loss=F.cross_entropy).dimension == 266


def test_dropout_behind_a_layer_of_zeros_is_refused_as_well(inputs):
    module = nn.Sequential(nn.Linear(6, 20), nn.Dropout(0.5), nn.Linear(20, 6))
    nn.init.zeros_(module[2].weight)
    with pytest.raises(RuntimeError, match="not a function"):
        Landscape.from_module(module, inputs, TASKS["classes"][1], loss=F.cross_entropy)


def test_batch_norm_in_train_mode_is_refused(inputs):
    module = normalised().train()
    before = state(module)
    with pytest.raises(RuntimeError, match=r"buffers \(1.running_mean, 1.running_var, 1.num.*Call module.eval"):
        Landscape.from_module(module, inputs, TASKS["classes"][1], loss=F.cross_entropy)
    assert_same_state(module, before)


def test_norm_over_the_batch_is_never_cut_into_blocks():
    module = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 6)).double()
    inputs, targets = torch.randn(300, 6), torch.arange(300) % 6
    landscape = Landscape.from_module(module, inputs, targets, loss=F.cross_entropy, memory=1)
    assert landscape.engine.count == 1
    expected = F.cross_entropy(module(inputs.double()), targets).item()
    assert landscape.values(landscape.point[None])[0] == pytest.approx(expected, rel=1e-12)


def test_shuffling_loader_is_refused(inputs, generators):
    data = TensorDataset(inputs, TASKS["classes"][1])
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        module = MODULES["relu"][0]()
    for loader in (DataLoader(data, 4, shuffle=True), DataLoader(data, 4, shuffle=True, generator=generator)):
        with pytest.raises(RuntimeError, match=r"batch 0 of the loader changed.*shuffle=False"):
            Landscape.from_loader(module, loader, loss=F.cross_entropy)


def test_loader_whose_data_change_is_refused():
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return torch.randn(6) if index == 5 else torch.ones(6), index

    with pytest.raises(RuntimeError, match="batch 2 of the loader changed"):
        Landscape.from_loader(MODULES["relu"][0](), DataLoader(Noisy(), 2), loss=F.cross_entropy)


def test_loader_that_can_be_read_once_is_refused(inputs):
    batches = iter([(inputs, TASKS["classes"][1])])
    with pytest.raises(TypeError, match="can be gone through once"):
        Landscape.from_loader(MODULES["relu"][0](), batches, loss=F.cross_entropy)


def test_loader_that_gives_no_pairs_is_refused(inputs):
    with pytest.raises(TypeError, match="batch 0 of the loader is a list of 1; it needs to be a pair"):
        Landscape.from_loader(MODULES["relu"][0](), DataLoader(TensorDataset(inputs), 4), loss=F.cross_entropy)


def test_loader_that_shrinks_later_is_noticed(inputs):
    batches = [(inputs, TASKS["classes"][1]), (inputs, TASKS["classes"][1])]
    landscape = Landscape.from_loader(MODULES["relu"][0](), batches, loss=F.cross_entropy)
    batches.pop()
    with pytest.raises(RuntimeError, match="the loader gave 12 rows, but 24"):
        landscape.values(landscape.point[None])
