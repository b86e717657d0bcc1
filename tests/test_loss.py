"""Landscape: the loss of a module is that of the plain loop, and the module is left alone."""

from __future__ import annotations

import copy
import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_modules import MODULES, ROWS, TASKS, Tied, camel, near, normalised
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, TensorDataset

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.pure import chosen_devices

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.fixture
def inputs():
    return torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(1))


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
# Bad input
# --------------------------------------------------------------------------------------------------------------


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


def test_a_device_of_which_there_are_several_has_a_number(monkeypatch):
    there = SimpleNamespace(device=torch.device("cuda", 3))
    monkeypatch.setattr("torch.empty", lambda *_, device: there)  # as where the third one is the current device
    parameter = SimpleNamespace(device=torch.device("cuda"))
    for asked in ("cuda", None):
        assert [device.index for device in chosen_devices(asked, parameter)] == [3, 3]


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
