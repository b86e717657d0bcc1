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


class Written(nn.Module):
    """Convolutions as they are written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 2, padding=1), nn.Linear(5, 3)

    def forward(self, x):
        x = self.one(x.view(-1, 1, 5, 6)).tanh()
        x = torch.max_pool2d(x, (2, 1)).relu_()
        return self.out(self.two(x).mean(dim=(-1, 2)))


class Again(nn.Module):
    """The same convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.out = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(48, 2)

    def forward(self, x):
        x = torch.tanh(self.same(torch.tanh(self.same(x))))
        return self.out(x.reshape(x.size(0), -1))


torch.manual_seed(0)
# And the shape of a row of inputs.
CONVOLUTIONS = {
    "of the zoo": (tl.zoo.network("conv:1x4x5-3-9-2"), (20,)),
    "of the zoo, flattened": (tl.zoo.network("conv:2x3x3-4-3,tanh,nobias,flatten"), (18,)),
    "strides and dilation": (
        nn.Sequential(
            nn.Conv2d(2, 3, 3, stride=2, padding=(1, 0)),
            nn.Tanh(),
            nn.Conv2d(3, 11, 2, dilation=(1, 2), bias=False),
            nn.Sigmoid(),
            nn.Flatten(),
            nn.Linear(33, 4),
        ),
        (2, 7, 8),
    ),
    "one dimension": (
        nn.Sequential(nn.Conv1d(3, 5, 4, padding=2, bias=False), nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(50, 3)),
        (3, 9),
    ),
    "three dimensions": (
        nn.Sequential(
            nn.Conv3d(1, 2, 2), nn.Sigmoid(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 5), nn.Linear(5, 3)
        ),
        (1, 3, 4, 3),
    ),
    "largest entries": (
        nn.Sequential(
            nn.Conv2d(1, 5, 3, padding="same"),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, stride=1, dilation=(2, 1)),
            nn.Conv2d(5, 6, (1, 2), padding="valid"),
            nn.AdaptiveMaxPool2d((1, None)),
            nn.Flatten(),
            nn.Linear(12, 3),
        ),
        (1, 5, 7),
    ),
    "means": (
        nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=2),
            nn.AvgPool2d(3, 2, padding=1),
            nn.Tanh(),
            nn.AvgPool2d(2, 1, padding=1, ceil_mode=True, count_include_pad=False),
            nn.Conv2d(3, 4, 2),
            nn.AdaptiveAvgPool2d((1, 2)),
            nn.ReLU(),
            nn.AvgPool2d((1, 2), divisor_override=3),
            nn.Flatten(),
        ),
        (1, 4, 5),
    ),
    "a kernel as large as the image": (nn.Sequential(nn.Conv2d(2, 3, (3, 4)), nn.Flatten(1)), (2, 3, 4)),
    "written by hand": (Written(), (30,)),
    "a convolution used twice": (Again(), (3, 4, 4)),
}
MODULES |= {name: module for name, (module, _) in CONVOLUTIONS.items()}
SHAPES = {"flattened": (3, 4), **{name: shape for name, (_, shape) in CONVOLUTIONS.items()}}


def data_of(module, rows, *, loss):
    generator = torch.Generator().manual_seed(rows)
    name = next((name for name, other in MODULES.items() if other is module), "")
    shape = SHAPES.get(name) or (next(part for part in module.modules() if isinstance(part, nn.Linear)).in_features,)
    inputs = torch.randn(rows, *shape, generator=generator, dtype=torch.float64)
    outputs = module.double()(inputs).shape[1]
    if loss is F.cross_entropy:
        return inputs, torch.randint(outputs, (rows,), generator=generator)
    return inputs, torch.randn(rows, outputs, generator=generator, dtype=torch.float64)


def model_of(module):
    blocks = []
    start = 0
    for name, parameter in module.named_parameters():
        blocks.append(Block(name, slice(start, start + parameter.numel()), tuple(parameter.shape)))
        start += parameter.numel()
    return Model(module, tuple(blocks), frozenset())


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
    form = landscape.engine._crew.forms(0)["dense"]
    (layers,) = form._layers.values()
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


@pytest.mark.parametrize("name", ["relu", "largest entries", "means"])
def test_losses_that_are_not_finite_are_so_in_the_dense_form_too(name):
    landscape, points = landscape_of(MODULES[name], 30)
    points[1] *= 1e200
    expected = landscape.engine.values(points, form="loop")
    found = landscape.engine.values(points, form="dense")
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-12)


def test_of_equal_entries_of_a_window_the_first_counts():
    module = nn.Sequential(nn.Conv1d(1, 1, 2, bias=False), nn.MaxPool1d(3), nn.Flatten()).double()
    inputs = torch.tensor([[[0.0, 1.0, 0.0, 1.0]], [[1.0, 2.0, -1.0, 4.0]]], dtype=torch.float64)
    landscape = tl.Landscape.from_module(module, inputs, torch.zeros(2, 1), loss=F.mse_loss, dtype="float64")
    ones = np.ones((1, 2))
    # The largest sums of neighbours are 0 + 1 = 1 + 0, and 1 + 2 = -1 + 4.
    _, slopes = landscape.engine.gradients(ones, form="dense")
    np.testing.assert_allclose(slopes, [[3.0 * 1, 1.0 * 1 + 3.0 * 2]], rtol=1e-15)
    curved = landscape.engine.products(ones, np.array([[1.0, 0.0]]), form="dense")
    np.testing.assert_allclose(curved, [[1.0, 2.0]], rtol=1e-15)


def test_data_changed_in_place_or_of_another_type_are_read_anew():
    module, generator = chain(3, 4, 2), torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(20, 3, generator=generator), torch.randint(0, 2, (20,), generator=generator)
    point = nn.utils.parameters_to_vector(module.parameters()).detach()[None]
    form = Dense(model_of(module), F.cross_entropy)
    for data in ((inputs, targets), (inputs, targets, None), (inputs[::2], targets[::2])):
        for _ in range(3):
            loss = F.cross_entropy(module(data[0]), data[1]).item()
            assert form.values(point, data).item() == pytest.approx(loss, rel=1e-6)
            inputs += 1
    form.values(point, (inputs, targets))
    with pytest.raises(NotImplementedError):
        form.values(point.double(), (inputs, targets))


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


class Halved(nn.Module):
    """A mean over the lines of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 3, 1)

    def forward(self, x):
        return self.layer(x).mean(2).flatten(1)


def convolved(*layers):
    return nn.Sequential(*layers, nn.Flatten())


@pytest.mark.parametrize(
    ("module", "shape", "loss"),
    [
        (chain(3, 4, 2, activation=nn.GELU), (3,), F.cross_entropy),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)), (3,), F.cross_entropy),
        (Branched(), (3,), F.cross_entropy),
        (nn.Sequential(nn.Tanh(), nn.Linear(3, 2)), (3,), F.cross_entropy),
        (chain(3, 4, 2), (3,), F.l1_loss),
        (chain(3, 4, 2), (3,), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (chain(3, 4, 2), (5, 3), F.cross_entropy),
        (convolved(nn.Conv2d(2, 4, 2, groups=2)), (2, 2, 2), F.cross_entropy),
        (convolved(nn.Conv2d(2, 4, 2, padding="same")), (2, 1, 1), F.cross_entropy),
        (convolved(nn.Conv2d(2, 4, 2, padding=1, padding_mode="circular")), (2, 2, 2), F.cross_entropy),
        (convolved(nn.Conv2d(2, 4, 2)), (2, 3, 2), F.cross_entropy),
        (convolved(nn.AvgPool2d(2), nn.Conv2d(2, 4, 1)), (2, 2, 2), F.cross_entropy),
        (convolved(nn.Conv2d(2, 4, 1), nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 2, 2)), (2, 2, 2), F.cross_entropy),
        (convolved(nn.Conv1d(2, 4, 1), nn.MaxPool1d(2), nn.Tanh()), (2, 2), F.cross_entropy),
        (Halved(), (2, 3, 1), F.cross_entropy),
    ],
)
def test_what_is_not_dense_is_left_to_other_forms(module, shape, loss):
    point = torch.zeros(1, sum(parameter.numel() for parameter in module.parameters()))
    with pytest.raises(NotWide):
        Dense(model_of(module), loss).values(point, (torch.zeros(4, *shape), torch.zeros(4, dtype=torch.int64)))


def test_another_form_is_taken_where_the_dense_one_cannot():
    module = convolved(nn.Conv2d(2, 4, 2, groups=2), nn.Tanh()).double()
    inputs = torch.randn(20, 2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.arange(20) % 4
    landscape = tl.Landscape.from_module(copy.deepcopy(module), inputs, targets, loss=F.cross_entropy, dtype="float64")
    assert "dense" not in landscape.engine.forms()
    expected = float(F.cross_entropy(module(inputs).detach(), targets))
    assert landscape.values(landscape.point[None])[0] == pytest.approx(expected, rel=1e-12)


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
def multiply(a, b, c, lines, inner, taps, tile, transposed, place, tap, begin, rectified):
    # Entries of a: first those of each line to start from, then (lines, inner, taps), or (inner, lines, taps).
    a_at = (lines, taps, lines * taps, 1) if transposed else (lines, inner * taps, taps, 1)
    b_at, listed = (0, tile, inner * tile), (1, len(place))
    products.multiply(a, a_at, b, b_at, c, (0, tile), lines, inner, place, tap, listed, begin, rectified)


@njit
def correlate(a, b, c, lines, length, width, patches, start, registers):
    a_at, groups = (0, length, lines * length), (1, len(start) - 1)
    products.add_correlations(a, a_at, b, (0, length), c, (0, width), lines, patches, start, groups, registers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("begin", [0, products.NOTHING, products.KEPT])
@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(0, 20),
    st.integers(1, 3),
    st.integers(0, 4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
def test_products_are_those_of_numpy(begin, dtype, lines, inner, taps, listed, transposed, rectified, seed):
    rng = np.random.default_rng(seed)
    tile = products.TILE * REGISTER_BYTES // np.dtype(dtype).itemsize
    first = rng.integers(-8, 9, lines).astype(dtype)
    a = rng.integers(-8, 9, (inner, lines, taps) if transposed else (lines, inner, taps)).astype(dtype)
    b, c = (rng.integers(-8, 9, shape).astype(dtype) for shape in ((3, inner, tile), (lines, tile)))
    place, tap = rng.integers(0, 3, 1 + listed), rng.integers(0, taps, 1 + listed)  # the first is not of the list
    expected = {0: np.repeat(first[:, None], tile, 1), products.NOTHING: np.zeros_like(c), products.KEPT: c}[begin]
    for one, other in zip(place[1:], tap[1:], strict=True):
        own = a[..., other]
        expected = expected + (own.T if transposed else own) @ b[one]
    entries = np.concatenate([first, a.ravel()])
    multiply(entries, b.ravel(), c.ravel(), lines, inner, taps, tile, transposed, place, tap, begin, rectified)
    np.testing.assert_array_equal(c, np.maximum(expected, 0) if rectified else expected)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 5), st.integers(0, 9))
def test_correlations_are_those_of_numpy(dtype, lines, sizes, registers, seed):
    rng = np.random.default_rng(seed)
    high = -(-lines // products.ONES) * products.ONES
    length, width = registers * REGISTER_BYTES // np.dtype(dtype).itemsize, len(sizes) * products.OTHERS
    a = rng.integers(-8, 9, (3 * lines + high, length)).astype(dtype)  # three places
    b = rng.integers(-8, 9, (7, length)).astype(dtype)
    c = rng.integers(-8, 9, (high, width)).astype(dtype)
    start = np.cumsum([0, 1, *sizes])  # the first is none of the groups
    patches = np.column_stack([rng.integers(0, 3, start[-1]), rng.integers(0, 7, (start[-1], products.OTHERS))])
    expected = c.copy()
    for group in range(len(sizes)):
        for place, *met in patches[start[group + 1] : start[group + 2]]:
            own = slice(group * products.OTHERS, (group + 1) * products.OTHERS)
            expected[:, own] += a[place * lines : place * lines + high] @ b[met].T
    correlate(a.ravel(), b.ravel(), c.ravel(), lines, length, width, patches.ravel(), start, registers)
    np.testing.assert_array_equal(c[:lines], expected[:lines])


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
