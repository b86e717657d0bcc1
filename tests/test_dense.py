"""The dense form against a plain loop in float64."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import topolandscape as tl
from topolandscape.landscape.dense import Dense
from topolandscape.landscape.kernels import dense
from topolandscape.landscape.pure import Block, Model
from topolandscape.landscape.stacked import NotWide


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


def normed(module):
    """Return a module in eval mode whose batch norms have statistics and parameters of their own."""
    generator = torch.Generator().manual_seed(0)
    for norm in (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)):
        for values in (norm.running_mean, *norm.parameters()):
            values.data.copy_(torch.randn(values.shape, generator=generator))
        norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.1)
    return module.eval()


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
    "batch norm": normed(tl.zoo.network("mlp:7-9-5-3,tanh,bn")),
    "batch norm without parameters, at the end": normed(
        nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6, affine=False), nn.ReLU(), nn.Linear(6, 3)).append(
            nn.BatchNorm1d(3, eps=0.3)
        )
    ),
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
    "of the zoo, batch norm": (normed(tl.zoo.network("conv:1x4x5-3-9-2,bn")), (20,)),
    "batch norm in one dimension": (
        normed(
            nn.Sequential(
                nn.Conv1d(3, 5, 4, bias=False),
                nn.BatchNorm1d(5, eps=1e-2),
                nn.MaxPool1d(2),
                nn.Flatten(),
                nn.Linear(15, 3),
            )
        ),
        (3, 9),
    ),
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


@pytest.mark.parametrize("name", ["tanh", "batch norm"])
def test_accuracies_and_weights_of_rows(name):
    module = MODULES[name].double()
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


def test_products_at_one_vector_are_those_at_as_many_equal_ones():
    module = MODULES["of the zoo, batch norm"].double()
    data = data_of(module, 20, loss=F.cross_entropy)
    form = Dense(model_of(module), F.cross_entropy)
    point = nn.utils.parameters_to_vector(module.parameters()).detach()
    directions = torch.randn(3, len(point), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = form.products(point.repeat(3, 1), directions, data)
    np.testing.assert_allclose(form.products(point, directions, data), expected, rtol=1e-13, atol=1e-15)


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


@pytest.mark.parametrize("name", ["tanh", "batch norm", "of the zoo, batch norm"])
def test_results_do_not_depend_on_how_many_vectors_go_at_once(name):
    landscape, points = landscape_of(MODULES[name], 50, dtype="float32")
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
        # Channels are the second dimension, though there are as many features.
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Flatten()).eval(), (3, 3), F.cross_entropy),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5), nn.Flatten()).eval(), (5, 3), F.cross_entropy),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval(), (3,), F.cross_entropy),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), (3,), F.cross_entropy),
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
