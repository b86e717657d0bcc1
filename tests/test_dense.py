"""The dense form against a plain loop in float64, and its compiled parts against numpy and mpmath."""

from __future__ import annotations

import copy
import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from torch import nn
from torch.nn import functional as F

import topolandscape as tl
from topolandscape.landscape.dense import Dense
from topolandscape.landscape.kernels import dense, functions, products
from topolandscape.landscape.kernels.registers import REGISTER_BYTES
from topolandscape.landscape.pure import Block, Model
from topolandscape.landscape.stacked import NotWide

DTYPES = (np.float32, np.float64)


def chain(*widths, activation=nn.Tanh, bias=True, last=False):
    torch.manual_seed(len(widths))
    layers = []
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Linear(inner, outer, bias=bias), activation()]
    return nn.Sequential(*(layers if last else layers[:-1]))


class Tied(nn.Module):
    """The same square layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.same, self.out = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.out(torch.tanh(self.same(torch.tanh(self.same(x)))))


class Doubled(nn.Module):
    """Two layers of one weight, with a bias for one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(F.relu(self.one(x)))


MODULES = {
    "one layer": chain(5, 3),
    "relu": chain(64, 16, 10, activation=nn.ReLU),
    "tanh": chain(7, 33, 9, 4),
    "sigmoid": chain(6, 5, 2, activation=nn.Sigmoid),
    "no bias": chain(6, 17, 3, activation=nn.ReLU, bias=False),
    "linear": chain(4, 8, 8, 3, activation=nn.Identity),
    "an activation at the end": chain(4, 6, 3, activation=nn.Sigmoid, last=True),
    "flattened": nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2)),
    "a layer used twice": Tied(),
    "two layers of one weight": Doubled(),
    "one unit": chain(1, 1, 1),
    "wide": chain(10, 200, 150, 3),
}


def data_of(module, rows, *, loss):
    generator = torch.Generator().manual_seed(rows)
    first = next(part for part in module.modules() if isinstance(part, nn.Linear))
    inputs = torch.randn(rows, first.in_features, generator=generator, dtype=torch.float64)
    if module is MODULES["flattened"]:
        inputs = inputs.unflatten(1, (3, 4))
    outputs = module.double()(inputs).shape[1]
    if loss is F.cross_entropy:
        return inputs, torch.randint(outputs, (rows,), generator=generator)
    return inputs, torch.randn(rows, outputs, generator=generator, dtype=torch.float64)


def landscape_of(module, rows, *, loss=F.cross_entropy, dtype="float64", **options):
    inputs, targets = data_of(module, rows, loss=loss)
    landscape = tl.Landscape.from_module(copy.deepcopy(module), inputs, targets, loss=loss, dtype=dtype, **options)
    near = 0.3 * np.random.default_rng(0).standard_normal((5, landscape.dimension))
    return landscape, landscape.point + near


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("rows", [1, 23, 300])
@pytest.mark.parametrize("name", MODULES)
def test_the_dense_form_is_a_loop_to_rounding(name, rows, loss):
    landscape, points = landscape_of(MODULES[name], rows, loss=loss, weight_decay=1e-3)
    directions = np.random.default_rng(1).standard_normal(points.shape)
    engine = landscape.engine
    assert engine.form() == "dense"
    values, slopes = engine.gradients(points, form="loop")
    found, found_slopes = engine.gradients(points, form="dense")
    np.testing.assert_allclose(engine.values(points, form="dense"), values, rtol=1e-12)
    np.testing.assert_allclose(found, values, rtol=1e-12)
    np.testing.assert_allclose(found_slopes, slopes, atol=1e-12 * (1 + np.abs(slopes).max()))
    expected = engine.products(points, directions, form="loop")
    curved = engine.products(points, directions, form="dense")
    np.testing.assert_allclose(curved, expected, atol=1e-12 * (1 + np.abs(expected).max()))


def test_rows_that_do_not_fit_the_cache_are_treated_in_pieces():
    module = chain(9, 300, 300, 4, activation=nn.ReLU)
    landscape, points = landscape_of(module, 1000)
    layers = landscape.engine._forms[0]["dense"]._layers
    assert dense._space(layers, 1000, points, 1).piece < 500
    expected, slopes = landscape.engine.gradients(points, form="loop")
    found, found_slopes = landscape.engine.gradients(points, form="dense")
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(found_slopes, slopes, atol=1e-12 * np.abs(slopes).max())


def test_float32_is_right_to_its_rounding():
    module = chain(64, 32, 32, 10)
    exact, points = landscape_of(module, 500)
    landscape, _ = landscape_of(module, 500, dtype="float32")
    values, slopes = exact.gradients(points)
    found, found_slopes = landscape.gradients(points)
    assert landscape.engine.form("gradients") == "dense"
    np.testing.assert_allclose(found, values, rtol=1e-6)
    np.testing.assert_allclose(found_slopes, slopes, atol=1e-5 * np.abs(slopes).max())


def test_accuracies_and_weights_of_rows():
    module = MODULES["tanh"].double()
    inputs, targets = data_of(module, 80, loss=F.cross_entropy)
    weights = torch.rand(80, generator=torch.Generator().manual_seed(0))
    landscape = tl.Landscape.from_module(
        copy.deepcopy(module), inputs, targets, loss=F.cross_entropy, weights=weights, dtype="float64"
    )
    points = landscape.point + 0.3 * np.random.default_rng(0).standard_normal((4, landscape.dimension))
    landscape.engine.only("dense")
    values, right = landscape.accuracies(points)
    for point, value, share in zip(points, values, right, strict=True):
        outputs = landscape.module_at(point)(inputs).detach()
        each = F.cross_entropy(outputs, targets, reduction="none")
        assert value == pytest.approx(float((each * weights).sum() / weights.sum()), rel=1e-7)
        won = (outputs.argmax(1) == targets).double()
        assert share == pytest.approx(float((won * weights).sum() / weights.sum()), rel=1e-7)


def test_losses_that_are_not_finite_are_so_in_the_dense_form_too():
    landscape, points = landscape_of(MODULES["relu"], 30)
    points[1] *= 1e200
    expected = landscape.engine.values(points, form="loop")
    found = landscape.engine.values(points, form="dense")
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-12)


def test_results_do_not_depend_on_how_many_vectors_go_at_once():
    landscape, points = landscape_of(MODULES["tanh"], 50, dtype="float32")
    landscape.engine.only("dense")
    together, slopes = landscape.gradients(points)
    one, slope = landscape.gradients(points[3:4])
    np.testing.assert_array_equal(together[3:4], one)
    np.testing.assert_array_equal(slopes[3:4], slope)


class Branched(nn.Module):
    """A residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.layer(x)


@pytest.mark.parametrize(
    ("module", "loss"),
    [
        (chain(3, 4, 2, activation=nn.GELU), F.cross_entropy),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), F.cross_entropy),
        (Branched(), F.cross_entropy),
        (nn.Sequential(nn.Tanh(), nn.Linear(3, 2)), F.cross_entropy),
        (chain(3, 4, 2), F.l1_loss),
        (chain(3, 4, 2), nn.CrossEntropyLoss(label_smoothing=0.1)),
    ],
)
def test_what_is_not_dense_is_left_to_other_forms(module, loss):
    blocks = []
    start = 0
    for name, parameter in module.named_parameters():
        blocks.append(Block(name, slice(start, start + parameter.numel()), tuple(parameter.shape)))
        start += parameter.numel()
    with pytest.raises(NotWide):
        Dense(Model(module, tuple(blocks), frozenset()), loss)


def test_a_fixed_parameter_is_left_to_other_forms():
    inputs, targets = data_of(MODULES["tanh"], 20, loss=F.cross_entropy)
    landscape = tl.Landscape.from_module(
        copy.deepcopy(MODULES["tanh"]), inputs, targets, loss=F.cross_entropy, parameters=["0.weight"]
    )
    assert "dense" not in landscape.engine.forms()


def test_targets_that_torch_leaves_out_are_left_to_other_forms():
    inputs, targets = data_of(MODULES["tanh"], 20, loss=F.cross_entropy)
    targets[3] = -100
    module = MODULES["tanh"].double()
    landscape = tl.Landscape.from_module(copy.deepcopy(module), inputs, targets, loss=F.cross_entropy, dtype="float64")
    expected = float(F.cross_entropy(module(inputs).detach(), targets))
    assert landscape.values(landscape.point[None])[0] == pytest.approx(expected, rel=1e-12)


# --------------------------------------------------------------------------------------------------------------
# Compiled parts
# --------------------------------------------------------------------------------------------------------------


@njit
def multiply(a, b, c, lines, inner, tile, transposed):
    a_at = (0, 1, lines) if transposed else (0, inner, 1)
    products.add_product(a, a_at, b, (0, tile), c, (0, tile), lines, inner)


@njit
def correlate(a, b, c, lines, others, length, width, registers):
    products.add_correlations(a, (0, length), b, (0, length), c, (0, width), lines, others, registers)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(0, 30), st.booleans(), st.integers(0, 9))
def test_products_are_those_of_numpy(dtype, lines, inner, transposed, seed):
    rng = np.random.default_rng(seed)
    tile = products.TILE * REGISTER_BYTES // np.dtype(dtype).itemsize
    a = rng.integers(-8, 9, (inner, lines) if transposed else (lines, inner)).astype(dtype)
    b, c = (rng.integers(-8, 9, (count, tile)).astype(dtype) for count in (inner, lines))
    expected = c + (a.T if transposed else a) @ b
    multiply(a.ravel(), b.ravel(), c.ravel(), lines, inner, tile, transposed)
    np.testing.assert_array_equal(c, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), st.integers(0, 5), st.integers(0, 9))
def test_correlations_are_those_of_numpy(dtype, lines, others, registers, seed):
    rng = np.random.default_rng(seed)
    high, width = (-(-count // products.ONES) * products.ONES for count in (lines, others))
    length = registers * REGISTER_BYTES // np.dtype(dtype).itemsize
    a, b = (rng.integers(-8, 9, (count, length)).astype(dtype) for count in (high, width))
    c = rng.integers(-8, 9, (high, width)).astype(dtype)
    expected = (c + a @ b.T)[:lines, :others]
    correlate(a.ravel(), b.ravel(), c.ravel(), lines, others, length, width, registers)
    np.testing.assert_array_equal(c[:lines, :others], expected)


@njit(error_model="numpy")
def evaluate(name, x, result):
    for i in range(len(x)):
        if name == 0:
            result[i] = functions.exp(x[i])
        elif name == 1:
            result[i] = functions.tanh(x[i])
        else:
            result[i] = functions.sigmoid(x[i])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_functions_are_right_to_a_few_last_digits(name, dtype):
    exact = {"exp": mpmath.exp, "tanh": mpmath.tanh, "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x))}[name]
    sizes = np.concatenate([np.logspace(-20, 1.9, 300), np.linspace(0, 80, 300)])
    x = np.concatenate([-sizes, sizes if name != "exp" else []]).astype(dtype)
    result = np.empty_like(x)
    evaluate(["exp", "tanh", "sigmoid"].index(name), x, result)
    with mpmath.workdps(40):
        expected = np.array([float(exact(mpmath.mpf(float(number)))) for number in x])
    np.testing.assert_allclose(result, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_at_the_ends(dtype):
    x = np.array([0.0, -0.0, np.nan, -np.inf, -1e30, np.inf], dtype=dtype)
    result = np.empty_like(x)
    evaluate(1, x, result)
    np.testing.assert_array_equal(result, np.tanh(x))
    np.testing.assert_array_equal(np.signbit(result[:2]), [False, True])
    evaluate(2, x, result)
    np.testing.assert_array_equal(result, [0.5, 0.5, np.nan, 0.0, 0.0, 1.0])
    evaluate(0, x[:5], result[:5])
    np.testing.assert_array_equal(result[:5], [1.0, 1.0, np.nan, 0.0, 0.0])


def test_log1p_keeps_the_digits_of_small_numbers():
    for x in (0.0, 1e-300, 1e-20, 1e-3, 0.5, 1.0, 1e10, 1e300):
        assert functions.log1p(x) == pytest.approx(math.log1p(x), rel=4e-16, abs=0)
