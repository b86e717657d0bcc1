"""Landscape: the loss of a module is that of the plain loop, and the module is left alone."""

from __future__ import annotations

import copy
import functools
import json
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, TensorDataset

from topolandscape.landscape.loss import Landscape

ROWS = 12


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Buffered(nn.Module):
    """A buffer of floats and one of integers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.register_buffer("scale", torch.linspace(0.5, 2.0, 6))
        self.register_buffer("order", torch.tensor([5, 4, 3, 2, 1, 0]))

    def forward(self, x):
        return self.layer(x * self.scale)[:, self.order]


class Branching(nn.Module):
    """Control flow that depends on the parameters: nothing for vmap."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        y = self.layer(x)
        return y.sin() if y.sum() > 0 else y.cos()


class Recurrent(nn.Module):
    """An LSTM over two steps."""

    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(3, 4, batch_first=True)
        self.out = nn.Linear(4, 6)

    def forward(self, x):
        return self.out(self.cells(x.view(-1, 2, 3))[0][:, -1])


class Overwriting(nn.Module):
    """Changes its inputs in place."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        x.mul_(0.5)
        return self.layer(x).relu_()


class Attention(nn.Module):
    """One layer of a transformer on six numbers."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(1, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.out = nn.Linear(4, 6)

    def forward(self, x):
        return self.out(self.layer(self.up(x[:, :, None])).mean(dim=1))


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 3, 2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6, 6),
    )


def normalised():
    module = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 6))
    module(torch.randn(20, 6))
    return module.eval()


MODULES = {
    "relu": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 6)), "dense"),
    "relu in place": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, 6)), "dense"),
    "tanh": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 6)), "dense"),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 6)), "wide"),
    "convolutions": (convolutional, "dense"),
    "batch norm": (normalised, "wide"),
    "tied": (Tied, "dense"),
    "buffers": (Buffered, "wide"),
    "attention": (Attention, "wide"),
    "overwriting": (Overwriting, "wide"),
    "branching": (Branching, "loop"),
    "recurrent": (Recurrent, "loop"),
}
TASKS = {
    "classes": (F.cross_entropy, torch.tensor([0, 1, 2, 3, 4, 5] * 2)),
    "numbers": (nn.MSELoss(), torch.linspace(-1, 1, 6 * ROWS).reshape(ROWS, 6)),
}


@pytest.fixture
def inputs():
    return torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def near(point, n=5, scale=0.3):
    return point + scale * np.random.default_rng(3).normal(size=(n, len(point)))


def plain_loss(module, inputs, targets, loss, point):
    """One network, one forward pass: what everything is compared with. Returns a float64 scalar with its graph."""
    copied = copy.deepcopy(module)
    dtype = next(copied.parameters()).dtype
    vector_to_parameters(torch.tensor(point, dtype=dtype), copied.parameters())
    outputs = copied(inputs.clone())
    targets = targets.double() if targets.is_floating_point() else targets
    return loss(outputs.double(), targets), copied


def flat_gradient(loss, module):
    return parameters_to_vector(torch.autograd.grad(loss, list(module.parameters()))).double().numpy()


def whole_hessian(module, inputs, targets, loss, point):
    names = [name for name, _ in module.named_parameters()]
    shapes = [p.shape for p in module.parameters()]

    def function(vector):
        parts = torch.split(vector, [shape.numel() for shape in shapes])
        named = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return loss(torch.func.functional_call(module, named, (inputs.clone(),)), targets)

    return torch.autograd.functional.hessian(function, torch.tensor(point)).numpy()


# --------------------------------------------------------------------------------------------------------------
# The same numbers as the plain loop
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", MODULES)
def test_values_and_gradients_are_those_of_the_plain_loop(name, task, inputs):
    make, form = MODULES[name]
    loss, targets = TASKS[task]
    module = make().double()
    landscape = Landscape.from_module(module, inputs, targets, loss=loss)
    assert landscape.engine.form() == form
    points = near(landscape.point)
    values, gradients = landscape.gradients(points)
    assert values.dtype == gradients.dtype == np.float64
    for point, value, gradient in zip(points, values, gradients, strict=True):
        expected, copied = plain_loss(module, inputs.double(), targets, loss, point)
        np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
        np.testing.assert_allclose(gradient, flat_gradient(expected, copied), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(landscape.values(points), values, rtol=1e-12)


@pytest.mark.parametrize("name", MODULES)
def test_float32_values_are_those_of_the_plain_loop_to_the_noise(name, inputs):
    loss, targets = TASKS["classes"]
    module = MODULES[name][0]()
    landscape = Landscape.from_module(module, inputs, targets, loss=loss)
    points = near(landscape.point)
    expected = [plain_loss(module, inputs, targets, loss, point)[0].item() for point in points]
    np.testing.assert_allclose(landscape.values(points), expected, rtol=2e-6)
    assert 0 <= landscape.noise < 1e-5


@pytest.mark.parametrize("name", ["tanh", "convolutions", "batch norm", "tied", "attention", "branching", "recurrent"])
def test_hessian_products_are_those_of_the_whole_hessian(name, inputs):
    loss, targets = TASKS["classes"]
    module = MODULES[name][0]().double()
    landscape = Landscape.from_module(module, inputs, targets, loss=loss)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        hessian = whole_hessian(module, inputs.double(), targets, loss, landscape.point)
    vectors = np.random.default_rng(0).normal(size=(4, landscape.dimension))
    products = landscape.hessian_products(landscape.point, vectors)
    np.testing.assert_allclose(products, vectors @ hessian, rtol=1e-8, atol=1e-10)


def test_own_point_has_the_loss_of_the_module(inputs):
    loss, targets = TASKS["classes"]
    module = MODULES["relu"][0]()
    landscape = Landscape.from_module(module, inputs, targets, loss=loss)
    assert landscape.dimension == sum(p.numel() for p in module.parameters())
    np.testing.assert_array_equal(landscape.point, parameters_to_vector(module.parameters()).detach().double().numpy())
    expected = loss(module(inputs).double(), targets).item()
    assert landscape.values(landscape.point[None])[0] == pytest.approx(expected, abs=1e-7)


def test_batches_are_weighted_by_their_rows(inputs):
    loss, targets = TASKS["numbers"]
    module = MODULES["tanh"][0]().double()
    whole = Landscape.from_module(module, inputs, targets, loss=loss)
    bounds = [(0, 1), (1, 4), (4, ROWS)]
    batches = [inputs[a:b] for a, b in bounds], [targets[a:b] for a, b in bounds]
    parts = Landscape.from_module(module, *batches, loss=loss)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=5)
    streamed = Landscape.from_loader(module, loader, loss=loss)
    points = near(whole.point)
    for other in (parts, streamed):
        np.testing.assert_allclose(other.values(points), whole.values(points), rtol=1e-12)
        np.testing.assert_allclose(other.gradients(points)[1], whole.gradients(points)[1], rtol=1e-9, atol=1e-14)
        vectors = near(whole.point, 2)
        np.testing.assert_allclose(
            other.hessian_products(points[0], vectors),
            whole.hessian_products(points[0], vectors),
            rtol=1e-8,
            atol=1e-13,
        )
    assert streamed.description["rows"] == ROWS
    assert streamed.engine.count == 3


def test_data_are_cut_to_fit_the_memory_without_changing_the_loss():
    inputs = torch.randn(1000, 6)
    targets = torch.arange(1000) % 6
    module = MODULES["relu"][0]().double()
    whole = Landscape.from_module(module, inputs, targets, loss=F.cross_entropy)
    cut = Landscape.from_module(module, inputs, targets, loss=F.cross_entropy, memory=50_000)
    assert whole.engine.count == 1
    assert cut.engine.count > 3
    points = near(whole.point)
    np.testing.assert_allclose(cut.values(points), whole.values(points), rtol=1e-12)
    np.testing.assert_allclose(cut.gradients(points)[1], whole.gradients(points)[1], rtol=1e-9, atol=1e-13)


def test_a_sum_over_rows_is_left_in_one_block_and_refused_in_several(inputs):
    total = functools.partial(F.mse_loss, reduction="sum")
    targets = TASKS["numbers"][1]
    module = MODULES["tanh"][0]().double()
    landscape = Landscape.from_module(module, inputs, targets, loss=total, memory=1)
    mean = Landscape.from_module(module, inputs, targets, loss=F.mse_loss)
    points = near(mean.point)
    np.testing.assert_allclose(landscape.values(points), mean.values(points) * targets.numel(), rtol=1e-12)
    with pytest.raises(ValueError, match="mse_loss is not a mean over rows, so 2 batches"):
        Landscape.from_module(module, [inputs[:5], inputs[5:]], [targets[:5], targets[5:]], loss=total)


def test_one_loss_a_row_is_averaged(inputs):
    targets = TASKS["classes"][1]
    module = MODULES["relu"][0]()
    rows = Landscape.from_module(module, inputs, targets, loss=nn.CrossEntropyLoss(reduction="none"))
    mean = Landscape.from_module(module, inputs, targets, loss=nn.CrossEntropyLoss())
    points = near(mean.point)
    np.testing.assert_allclose(rows.values(points), mean.values(points), rtol=1e-12)


def test_loss_that_takes_no_float64_is_computed_in_the_native_type(inputs):
    def single(outputs, targets):
        if outputs.dtype != torch.float32:
            raise TypeError("single precision only")
        return F.cross_entropy(outputs, targets)

    targets = TASKS["classes"][1]
    module = MODULES["relu"][0]()
    landscape = Landscape.from_module(module, inputs, targets, loss=single)
    expected = F.cross_entropy(module(inputs), targets).item()
    value = landscape.values(landscape.point[None])[0]
    assert value == pytest.approx(expected, rel=1e-6)
    assert value == np.float32(value)


def test_loss_sums_in_float64():
    # In float32 a mean of 2^24 + 1 over three rows is off by one third; outputs themselves are exact.
    module = nn.Linear(1, 1, bias=False)
    landscape = Landscape.from_module(
        module, torch.tensor([[2.0**24], [1.0], [0.0]]), torch.zeros(3, 1), loss=lambda y, t: (y - t).mean()
    )
    assert landscape.values([[1.0]])[0] == (2**24 + 1) / 3


def test_scalar_linear_network_with_weight_decay_has_its_closed_form():
    # truths.md, section 2: L = P^2 - 2 a P + c + gamma (w1^2 + w2^2), P = w1 w2; minima at c - (a - gamma)^2.
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    x = torch.tensor([[1.0], [-1.0]])
    y = torch.tensor([[1 + 0.5**0.5], [-1 + 0.5**0.5]], dtype=torch.float64)  # E[x y] = 1, E[x^2] = 1, E[y^2] = 1.5
    landscape = Landscape.from_module(module, x, y, loss=F.mse_loss, weight_decay=0.2)
    points = np.random.default_rng(0).normal(size=(20, 2))
    product = points.prod(axis=1)
    expected = product**2 - 2 * product + 1.5 + 0.2 * (points**2).sum(axis=1)
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(landscape.values(points), expected, rtol=1e-12)
    slope = 2 * (product - 1)[:, None] * points[:, ::-1] + 0.4 * points
    np.testing.assert_allclose(gradients, slope, rtol=1e-11, atol=1e-13)
    side = (1 - 0.2) ** 0.5
    assert landscape.values([[side, side]])[0] == pytest.approx(0.86, abs=1e-12)
    assert landscape.values([[0.0, 0.0]])[0] == pytest.approx(1.5, abs=1e-12)
    np.testing.assert_allclose(
        landscape.hessian_products([0.0, 0.0], np.eye(2)), [[0.4, -2.0], [-2.0, 0.4]], rtol=1e-12, atol=1e-13
    )


def test_nan_and_infinite_losses_are_returned_as_they_are():
    module = nn.Linear(1, 1, bias=False).double()
    landscape = Landscape.from_module(
        module, torch.ones(2, 1), torch.zeros(2, 1), loss=lambda y, t: torch.log(y).mean()
    )
    np.testing.assert_array_equal(landscape.values([[1.0], [-1.0], [0.0]]), [0.0, np.nan, -np.inf])


def test_noise_of_float32_covers_its_rounding(inputs):
    loss, targets = TASKS["classes"]
    module = MODULES["relu"][0]()
    landscape = Landscape.from_module(module, inputs, targets, loss=loss)
    points = near(landscape.point, 20, scale=2.0)
    exact = Landscape.from_module(module, inputs, targets, loss=loss, dtype="float64").values(points)
    error = np.abs(landscape.values(points) - exact)
    assert (landscape.noise_at(points) >= error - 1e-13).all()
    assert 1e-9 < error.max() < 1e-4
    directions = np.ones((1, landscape.dimension))
    assert landscape.restricted_to(points[0], directions).noise_at([[0.0]])[0] >= error[0] - 1e-13


def test_noise_of_a_module_of_one_precision_is_measured_without_float64(inputs):
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x):
            return self.layer(x.float()).double().float() @ torch.eye(6)

    landscape = Landscape.from_module(Single(), inputs, TASKS["classes"][1], loss=F.cross_entropy)
    assert 0 <= landscape.noise < 1e-6


# --------------------------------------------------------------------------------------------------------------
# Which parameters vary
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ("0.weight", ["0.weight"]),
        ("*.bias", ["0.bias", "2.bias"]),
        (["2.*", "0.bias"], ["0.bias", "2.weight", "2.bias"]),
        (None, ["0.weight", "0.bias", "2.weight", "2.bias"]),
    ],
)
def test_only_the_named_parameters_vary(parameters, names, inputs):
    loss, targets = TASKS["classes"]
    module = MODULES["relu"][0]()
    landscape = Landscape.from_module(module, inputs, targets, loss=loss, parameters=parameters, weight_decay=0.1)
    assert [block.name for block in landscape.blocks] == names
    point = near(landscape.point, 1)[0]
    moved = landscape.module_at(point)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, dict(moved.named_parameters())[name]) == (name not in names)
    expected = loss(moved(inputs).double(), targets).item() + 0.1 * (point**2).sum()
    assert landscape.values(point[None])[0] == pytest.approx(expected, rel=1e-6)
    for block in landscape.blocks:
        own = dict(module.named_parameters())[block.name].detach().numpy()
        np.testing.assert_array_equal(landscape.point[block.entries].reshape(block.shape), own)


def test_tied_weights_count_once_and_answer_to_both_names(inputs):
    loss, targets = TASKS["classes"]
    landscape = Landscape.from_module(Tied(), inputs, targets, loss=loss)
    assert landscape.dimension == 36 + 6 + 6
    alone = Landscape.from_module(Tied(), inputs, targets, loss=loss, parameters="second.weight")
    assert [block.name for block in alone.blocks] == ["first.weight"]
    module = alone.module_at(np.arange(36.0))
    assert module.second.weight is module.first.weight
    assert module.second.weight[0, 1].item() == 1.0


def test_frozen_parameters_vary_unless_left_out_and_stay_frozen_in_copies(inputs):
    loss, targets = TASKS["classes"]
    module = MODULES["relu"][0]()
    module[0].weight.requires_grad_(False)
    landscape = Landscape.from_module(module, inputs, targets, loss=loss)
    assert landscape.dimension == sum(p.numel() for p in module.parameters())
    copied = landscape.module_at(landscape.point)
    assert [p.requires_grad for p in copied.parameters()] == [False, True, True, True]


def test_module_at_and_point_of_are_inverse(inputs):
    loss, targets = TASKS["classes"]
    landscape = Landscape.from_module(normalised(), inputs, targets, loss=loss)
    point = near(landscape.point, 1)[0].astype(np.float32).astype(np.float64)
    module = landscape.module_at(point)
    np.testing.assert_array_equal(landscape.point_of(module), point)
    assert not module.training
    with pytest.raises(ValueError, match=r"parameter '0.weight' of the module has shape \(4, 6\)"):
        landscape.point_of(MODULES["relu"][0]())


# --------------------------------------------------------------------------------------------------------------
# The module is left as it was
# --------------------------------------------------------------------------------------------------------------


def state(module):
    entries = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in module.parameters()]
    modes = [part.training for part in module.modules()]
    return entries, flags, modes


def assert_same_state(module, before):
    entries, flags, modes = before
    assert module.state_dict().keys() == entries.keys()
    assert all(torch.equal(tensor, entries[name]) for name, tensor in module.state_dict().items())
    assert [(p.requires_grad, p.grad) for p in module.parameters()] == flags
    assert [part.training for part in module.modules()] == modes


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
    with pytest.raises(ValueError, match="coordinates"):
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


# --------------------------------------------------------------------------------------------------------------
# Functions
# --------------------------------------------------------------------------------------------------------------


def camel(x):
    return 2 * x[:, 0] ** 2 - 1.05 * x[:, 0] ** 4 + x[:, 0] ** 6 / 6 + x[:, 0] * x[:, 1] + x[:, 1] ** 2


def test_numpy_and_torch_functions_have_one_set_of_derivatives():
    by_numpy = Landscape.from_function(lambda x: np.cos(x[:, 0]) * np.exp(x[:, 1]) + x[:, 2] ** 3, 3)
    by_torch = Landscape.from_function(lambda x: torch.cos(x[:, 0]) * torch.exp(x[:, 1]) + x[:, 2] ** 3, 3)
    assert (by_numpy.description["takes"], by_torch.description["takes"]) == ("numpy", "torch")
    points = np.random.default_rng(0).uniform(-2, 2, (10, 3))
    x, y, z = points.T
    values = np.cos(x) * np.exp(y) + z**3
    gradients = np.stack([-np.sin(x) * np.exp(y), np.cos(x) * np.exp(y), 3 * z**2], axis=1)
    hessian = np.zeros((3, 3))
    hessian[:2, :2] = np.exp(y[0]) * np.array([[-np.cos(x[0]), -np.sin(x[0])], [-np.sin(x[0]), np.cos(x[0])]])
    hessian[2, 2] = 6 * z[0]
    vectors = np.array([[1.0, 0, 0], [1.0, -2.0, 3.0], [0.0, 0.0, 0.0]])
    for landscape, first, second in ((by_numpy, 1e-9, 1e-6), (by_torch, 1e-14, 1e-13)):
        np.testing.assert_allclose(landscape.values(points), values, rtol=1e-14)
        np.testing.assert_allclose(landscape.gradients(points)[1], gradients, rtol=first, atol=first)
        products = landscape.hessian_products(points[0], vectors)
        np.testing.assert_allclose(products, vectors @ hessian, rtol=second, atol=second)
        assert landscape.point is None
        assert landscape.noise <= 1e-14


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_function_of_both_is_taken_as_torch_unless_they_differ(dimension):
    assert Landscape.from_function(lambda x: (x**2).sum(1), dimension).description["takes"] == "torch"
    # std() has n - 1 in torch and n in numpy: the documented first choice holds.
    both = Landscape.from_function(lambda x: x.std(1) if x.shape[1] > 1 else np.abs(x[:, 0]), dimension)
    assert both.description["takes"] == "numpy"
    assert (
        Landscape.from_function(lambda x: torch.zeros(len(x)), dimension).gradients(np.ones((1, dimension)))[1].sum()
        == 0
    )
    assert Landscape.from_function(lambda x: np.zeros(len(x)), dimension).values(np.ones((2, dimension))).tolist() == [
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("function", "dimension", "error", "message"),
    [
        (
            lambda x: x,
            2,
            ValueError,
            r"returned shape \(3, 2\) for points of shape \(3, 2\); it needs to return shape \(3,\)",
        ),
        (lambda x: x[:1, 0], 3, ValueError, r"returned shape \(1,\)"),
        (lambda x: x.sum(), 2, ValueError, r"returned"),
        (lambda x: "loss", 2, ValueError, r"returned str"),
        (lambda x: x[:, 7], 2, ValueError, r"takes neither a numpy array of shape \(3, 2\) \(index 7"),
        (lambda x: np.random.random(len(x)), 2, RuntimeError, r"two evaluations at one point gave"),  # noqa: NPY002
        (lambda x: np.abs(x[:, 0]) + random.random(), 2, RuntimeError, r"two evaluations at one point gave"),
        (lambda x: x[:, 0] - x[:, 0].mean(), 2, RuntimeError, r"one point alone gave .* treats each row for itself"),
        (3, 2, TypeError, r"function is a int"),
        (camel, 0, ValueError, r"dimension is 0"),
        (camel, 2.5, ValueError, r"dimension is 2.5"),
    ],
)
def test_bad_functions_are_refused(function, dimension, error, message):
    with pytest.raises(error, match=message):
        Landscape.from_function(function, dimension)


# --------------------------------------------------------------------------------------------------------------
# Restrictions
# --------------------------------------------------------------------------------------------------------------


def test_restriction_is_the_landscape_on_a_subspace(inputs):
    loss, targets = TASKS["classes"]
    landscape = Landscape.from_module(MODULES["tanh"][0]().double(), inputs, targets, loss=loss, weight_decay=0.1)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(4, landscape.dimension))
    plane = landscape.restricted_to(landscape.point, directions)
    inner_origin, inner = rng.normal(size=4), rng.normal(size=(2, 4))
    nested = plane.restricted_to(inner_origin, inner)
    coordinates = rng.normal(size=(7, 2))
    points = landscape.point + (inner_origin + coordinates @ inner) @ directions
    assert (plane.dimension, nested.dimension) == (4, 2)
    np.testing.assert_allclose(nested.subspace.parameters(coordinates), points, rtol=1e-12)
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(nested.values(coordinates), values, rtol=1e-11)
    np.testing.assert_allclose(
        nested.gradients(coordinates)[1], gradients @ (inner @ directions).T, rtol=1e-9, atol=1e-11
    )
    vectors = rng.normal(size=(3, 2))
    lifted = landscape.hessian_products(points[0], vectors @ inner @ directions)
    np.testing.assert_allclose(
        nested.hessian_products(coordinates[0], vectors), lifted @ (inner @ directions).T, rtol=1e-8, atol=1e-9
    )
    np.testing.assert_array_equal(nested.module_at([0.5, 1.0])[0].weight.shape, (3, 6))
    assert nested.point is None
    assert nested.blocks == ()
    assert landscape.subspace is None


def test_restrictions_and_rows_are_evaluated_as_planned(inputs):
    loss, targets = TASKS["classes"]
    landscape = Landscape.from_module(MODULES["tanh"][0]().double(), inputs, targets, loss=loss)
    plan = {"form": "loop", "chunk": 2, "rows": ROWS}
    points = landscape.point + 0.1 * np.random.default_rng(0).normal(size=(5, landscape.dimension))
    for of in (lambda whole: whole.restricted_to(whole.point, points), lambda whole: whole.of_rows([0, 3, 4])):
        part = of(landscape)
        coordinates = points[:, : part.dimension]
        for planned in (part.planned({"values": plan}), of(landscape.planned({"values": plan}))):
            assert (planned.engine.plan().form, planned.engine.plan().chunk) == ("loop", 2)
            assert planned.description["plans"] == {"values": plan}
            np.testing.assert_allclose(planned.values(coordinates), part.values(coordinates), rtol=1e-12)


@pytest.mark.parametrize(
    ("origin", "directions", "message"),
    [
        ([0.0], [[1.0, 0.0]], "origin have 1 coordinates each"),
        ([0.0, 0.0], [1.0, 0.0], r"directions have shape \(2,\)"),
        ([0.0, 0.0], np.zeros((0, 2)), "directions are empty"),
        ([0.0, np.nan], [[1.0, 0.0]], r"origin\[0, 1\] is nan"),
    ],
)
def test_bad_restrictions_are_refused(origin, directions, message):
    with pytest.raises(ValueError, match=message):
        Landscape.from_function(camel, 2).restricted_to(origin, directions)


# --------------------------------------------------------------------------------------------------------------
# Bad input
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros(2), r"points have shape \(2,\); they need shape \(n, 2\). For a single one write point\[None\]"),
        (np.zeros((4, 3)), "points have 3 coordinates each, the landscape 2"),
        ([[0.0, 0.0], [0.0, np.nan]], r"points\[1, 1\] is nan"),
        ([[np.inf, 0.0]], r"points\[0, 0\] is inf"),
        ([["a", "b"]], "points cannot be read"),
    ],
)
def test_bad_points_are_refused(points, message):
    landscape = Landscape.from_function(camel, 2)
    with pytest.raises(ValueError, match=message):
        landscape.values(points)
    with pytest.raises(ValueError, match=message):
        landscape.gradients(points)


def test_no_points_have_no_losses():
    landscape = Landscape.from_function(camel, 2)
    assert landscape.values(np.zeros((0, 2))).shape == (0,)
    assert landscape.gradients(torch.zeros(0, 2))[1].shape == (0, 2)


def make(**changes):
    settings = {
        "module": nn.Linear(6, 6),
        "inputs": torch.zeros(4, 6),
        "targets": torch.zeros(4, dtype=torch.int64),
        "loss": F.cross_entropy,
    } | changes
    return Landscape.from_module(settings.pop("module"), settings.pop("inputs"), settings.pop("targets"), **settings)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"inputs": torch.zeros(0, 6), "targets": torch.zeros(0)}, ValueError, "the data are empty"),
        ({"inputs": [], "targets": []}, ValueError, "have 0 rows|data are empty"),
        ({"inputs": torch.zeros(5, 6)}, ValueError, "inputs have 5 rows and targets 4"),
        ({"inputs": [torch.zeros(4, 6)] * 2}, ValueError, "2 batches of inputs and 1 of targets"),
        ({"inputs": torch.tensor(1.0)}, ValueError, "inputs have no dimensions"),
        ({"inputs": torch.zeros(4, 5)}, ValueError, r"Linear cannot take inputs of shape \(4, 5\) \(float32\): mat1"),
        (
            {"targets": torch.zeros(4, 3)},
            ValueError,
            r"cross_entropy cannot take outputs of shape \(4, 6\) \(float32\) with targets of shape \(4, 3\)",
        ),
        ({"targets": torch.full((4,), 9)}, ValueError, r"cross_entropy cannot take .* 9 is out of bounds"),
        (
            {"module": nn.Linear(6, 1), "targets": torch.zeros(4), "loss": F.mse_loss},
            ValueError,
            r"mse_loss cannot take outputs of shape \(4, 1\) .* targets of shape \(4,\)",
        ),
        ({"loss": lambda y, t: y.mean(dim=0)}, ValueError, r"returned shape \(6,\); it needs to return a scalar, or 4"),
        ({"loss": lambda y, t: 1.0}, ValueError, "returned a float; it needs to return a tensor"),
        ({"loss": "mse"}, TypeError, "loss is a str"),
        ({"module": nn.Linear}, TypeError, "module is a type"),
        ({"module": nn.ReLU()}, ValueError, "ReLU has no parameters"),
        ({"parameters": "wieght"}, ValueError, "parameters='wieght' names none of the 2 .* there is 'weight'"),
        ({"parameters": []}, ValueError, "parameters is empty"),
        ({"module": nn.LazyLinear(3)}, ValueError, "'weight' has no shape yet"),
        ({"device": "gpu"}, ValueError, "device 'gpu' cannot be used .* there is cpu"),
        ({"dtype": "int64"}, ValueError, "dtype is 'int64'"),
        ({"dtype": "double precision"}, ValueError, "dtype is 'double precision'"),
        ({"weight_decay": float("nan")}, ValueError, "weight_decay is nan"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay is -1"),
    ],
)
def test_bad_input_is_refused(changes, error, message):
    with pytest.raises(error, match=message) as raised:
        make(**changes)
    assert "\n" not in str(raised.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device_is_named():
    with pytest.raises(ValueError, match="device 'cuda' cannot be used"):
        make(device="cuda")


def test_inner_error_is_kept():
    with pytest.raises(ValueError, match="cannot take inputs") as raised:
        make(inputs=torch.zeros(4, 5))
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_arrays_and_small_integers_are_taken():
    landscape = make(inputs=np.zeros((4, 6)), targets=np.array([0, 1, 2, 3], dtype=np.int32))
    assert landscape.values(np.zeros((1, landscape.dimension)))[0] == pytest.approx(np.log(6))


def test_functions_have_no_module():
    with pytest.raises(ValueError, match="has no module"):
        Landscape.from_function(camel, 2).module_at([0.0, 0.0])


# --------------------------------------------------------------------------------------------------------------
# Precision and description
# --------------------------------------------------------------------------------------------------------------


def test_precision_can_be_raised(inputs):
    loss, targets = TASKS["classes"]
    module = MODULES["relu"][0]()
    landscape = Landscape.from_module(module, inputs, targets, loss=loss, dtype="float64")
    points = near(landscape.point)
    exact = copy.deepcopy(module).double()
    expected = [plain_loss(exact, inputs.double(), targets, loss, point)[0].item() for point in points]
    np.testing.assert_allclose(landscape.values(points), expected, rtol=1e-13)
    assert landscape.noise < 1e-13
    assert module[0].weight.dtype == torch.float32


def test_description_is_json_without_addresses(inputs):
    loss, targets = TASKS["classes"]
    module = MODULES["relu"][0]()
    landscape = Landscape.from_module(module, inputs, targets, loss=functools.partial(loss, label_smoothing=0.1))
    said = json.loads(json.dumps(dict(landscape.description)))
    assert said["loss"] == "cross_entropy"
    assert said["rows"] == ROWS
    assert said["dtype"] == "float32"
    assert "0x" not in json.dumps(said)
    again = Landscape.from_module(copy.deepcopy(module), inputs.clone(), targets, loss=loss)
    assert again.description["state"] == said["state"]
    assert again.description["data"] == said["data"]
    other = Landscape.from_module(module, inputs + 1, targets, loss=loss)
    assert other.description["data"] != said["data"]
    assert json.dumps(dict(Landscape.from_function(camel, 2).description))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MODULES)
def test_cuda_gives_the_numbers_of_the_processor(name, inputs):
    loss, targets = TASKS["classes"]
    module = MODULES[name][0]().double()
    here = Landscape.from_module(module, inputs, targets, loss=loss)
    there = Landscape.from_module(module, inputs, targets, loss=loss, device="cuda")
    assert there.description["device"].startswith("cuda")
    before = torch.cuda.get_rng_state()
    points = near(here.point)
    np.testing.assert_allclose(there.values(points), here.values(points), rtol=1e-10)
    np.testing.assert_allclose(there.gradients(points)[1], here.gradients(points)[1], rtol=1e-7, atol=1e-11)
    vectors = near(here.point, 2)
    products = there.hessian_products(here.point, vectors)
    np.testing.assert_allclose(products, here.hessian_products(here.point, vectors), rtol=1e-6, atol=1e-9)
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert next(module.parameters()).device.type == "cpu"
