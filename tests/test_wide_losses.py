"""Losses, weights of rows, fixed parameters and accuracies in the wide form, against the plain loop in float64."""

import math

import numpy as np
import pytest
import torch
from plain_loop import (
    CLASSES,
    IMAGE,
    ROW,
    ROWS,
    SEQUENCE,
    Plain,
    Written,
    classes,
    close,
    compare,
    draw,
    landscape_of,
    loss_of_all,
    mlp,
    settled,
)
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from topolandscape.landscape.wide import Wide

pytestmark = pytest.mark.usefixtures("one_thread")

# --------------------------------------------------------------------------------------------------------------
# Losses, weights, fixed parameters
# --------------------------------------------------------------------------------------------------------------


WEIGHTS = torch.rand(ROWS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
LOSSES = {
    "cross_entropy": (F.cross_entropy, classes()),
    "CrossEntropyLoss": (nn.CrossEntropyLoss(), classes()),
    "one by one": (nn.CrossEntropyLoss(reduction="none"), classes()),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), classes()),
    "weighted classes": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)), classes()),
    "rows left out": (F.cross_entropy, classes().index_fill(0, torch.tensor([1, 4]), -100)),
    "probabilities": (F.cross_entropy, draw(ROWS, CLASSES).softmax(1)),
    "mse_loss": (F.mse_loss, draw(ROWS, CLASSES)),
    "MSELoss": (nn.MSELoss(), draw(ROWS, CLASSES)),
    "SmoothL1Loss": (nn.SmoothL1Loss(), draw(ROWS, CLASSES)),
    "own": (lambda outputs, targets: (outputs.sum(1) - targets).abs().pow(1.5), draw(ROWS)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    loss, targets = LOSSES[name]

    def mean(outputs, targets):
        return loss(outputs, targets).mean()

    module = mlp()
    plain = Plain(module, mean)
    wide = Wide(plain.model, loss, mean, plain.at)
    vectors, data = plain.near(), (ROW, targets)
    values, slopes, products = plain.gradients(vectors, vectors, data)
    close(wide.values(vectors, data), values)
    close(wide.values(vectors, (*data, None)), values)
    close(wide.gradients(vectors, data)[1], slopes)
    close(wide.products(vectors, vectors, data), products)


@pytest.mark.parametrize("outputs", [(), (2, 4)])
def test_squared_error_of_outputs_of_any_shape(outputs):
    module = nn.Sequential(mlp(math.prod(outputs)), nn.Unflatten(1, outputs) if outputs else nn.Flatten(0))
    if not outputs:
        module = Written(lambda self, x: self.layers(x).squeeze(1), layers=mlp(1))
    compare(module.double(), ROW, draw(ROWS, *outputs, seed=6), F.mse_loss)


def test_cross_entropy_of_every_place_of_an_image():
    module = settled(nn.Conv2d(2, CLASSES, 3))
    targets = torch.randint(CLASSES, (ROWS, 6, 6), generator=torch.Generator().manual_seed(1))
    _, wide, vectors = compare(module, IMAGE, targets, F.cross_entropy)
    outputs = torch.stack([functional_call(module, Plain(module, None).model.named(v), (IMAGE,)) for v in vectors])
    right = (outputs.argmax(2) == targets).double()
    close(wide.accuracies(vectors, (IMAGE, targets))[1], right.mean((1, 2, 3)))
    wide = Wide(Plain(module, None).model, loss_of_all, lambda outputs, targets, weights: weights.sum(), None)
    weighted = wide.accuracies(vectors, (IMAGE, targets, WEIGHTS))[1]
    close(weighted, right.mean((2, 3)) @ WEIGHTS / WEIGHTS.sum())


@pytest.mark.parametrize("name", ["cross_entropy", "MSELoss", "own"])
def test_weights_of_rows(name):
    loss, targets = LOSSES[name]

    def rows(outputs, targets):
        if name == "cross_entropy":
            return F.cross_entropy(outputs, targets, reduction="none")
        return (outputs - targets).square().mean(1) if name == "MSELoss" else loss(outputs, targets)

    def weighted(outputs, targets, weights):
        return (rows(outputs, targets) * weights).sum() / weights.sum()

    module = mlp()
    plain = Plain(module, weighted)
    wide = Wide(plain.model, loss, weighted, plain.at)
    vectors, data = plain.near(), (ROW, targets, WEIGHTS)
    values, slopes, products = plain.gradients(vectors, vectors, data)
    close(wide.values(vectors, data), values)
    close(wide.gradients(vectors, data)[1], slopes)
    close(wide.products(vectors, vectors, data), products)
    if name == "own":
        return
    outputs = torch.stack([functional_call(module, plain.model.named(v), (ROW,)) for v in vectors]).argmax(2)
    right = (outputs == (targets if name == "cross_entropy" else targets.argmax(1))).double()
    close(wide.accuracies(vectors, data)[1], right @ WEIGHTS / WEIGHTS.sum())


@pytest.mark.parametrize("varying", [["0.weight"], ["0.bias", "2.weight"], ["2.bias"], ["1.weight"]])
@pytest.mark.parametrize("kind", ["rows", "images"])
def test_some_parameters_stay_fixed(kind, varying):
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, CLASSES)]
    if kind == "images":
        layers = [
            nn.Conv2d(2, 3, 3),
            nn.BatchNorm2d(3),
            nn.Conv2d(3, CLASSES, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        ]
    compare(
        settled(nn.Sequential(*layers)), ROW if kind == "rows" else IMAGE, classes(), F.cross_entropy, names=varying
    )


def test_inputs_that_change_between_a_fixed_convolution_and_its_norm():
    def forward(self, x):
        hidden = self.one(x)
        x *= 2
        return self.out(self.norm(hidden).flatten(1)) + x.mean((1, 2, 3))[:, None]

    torch.manual_seed(0)
    parts = {"one": nn.Conv2d(2, 4, 3), "norm": nn.BatchNorm2d(4), "out": nn.Linear(144, CLASSES)}
    module = settled(Written(forward, **parts))
    compare(module, IMAGE, classes(), F.cross_entropy, names=["norm.weight", "norm.bias", "out.bias"])


def test_inputs_in_a_tuple_or_a_dictionary():
    def loss_at(wrap):
        module = Written(
            lambda self, x: self.one(x[wrap[0]]) * self.two(x[wrap[1]]), one=nn.Linear(6, 3), two=nn.Linear(4, 3)
        ).double()
        plain = Plain(module, F.cross_entropy)
        wide = Wide(plain.model, F.cross_entropy, F.cross_entropy, plain.at)
        parts = (ROW, SEQUENCE[:, 0])
        inputs = dict(zip(wrap, parts, strict=True)) if wrap[0] == "a" else parts
        expected = [
            F.cross_entropy(functional_call(module, plain.model.named(v), (inputs,)), classes()) for v in plain.near()
        ]
        close(wide.values(plain.near(), (inputs, classes())), torch.stack(expected).detach())

    loss_at((0, 1))
    loss_at(("a", "b"))


# --------------------------------------------------------------------------------------------------------------
# Accuracies
# --------------------------------------------------------------------------------------------------------------


def test_of_equal_outputs_the_first_is_the_winner():
    torch.manual_seed(0)
    inputs, targets = draw(200, 6), torch.randint(8, (200,), generator=torch.Generator().manual_seed(2))
    for activate in (torch.round, lambda h: h.round() / h.round()):  # the second gives ones and NaN
        module = Written(lambda self, x, activate=activate: activate(self.layer(x)), layer=nn.Linear(6, 8)).double()
        plain = Plain(module, loss_of_all)
        wide = Wide(plain.model, loss_of_all, loss_of_all, plain.at)
        vectors = plain.near()
        outputs = torch.stack([functional_call(module, plain.model.named(v), (inputs,)) for v in vectors])
        close(wide.accuracies(vectors, (inputs, targets))[1], (outputs.argmax(2) == targets).double().mean(1))


def test_accuracy_is_refused_where_there_are_no_classes():
    for module, targets in ((mlp(), draw(ROWS)), (Written(lambda s, x: s.mlp(x)[:, 0], mlp=mlp()), classes())):
        plain = Plain(module, loss_of_all)
        wide = Wide(plain.model, loss_of_all, loss_of_all, plain.at)
        with pytest.raises(ValueError, match="accuracy"):
            wide.accuracies(plain.near(), (ROW, targets))


# --------------------------------------------------------------------------------------------------------------
# In use
# --------------------------------------------------------------------------------------------------------------


def by_differences(landscape, points, step=1e-6):
    return np.array(
        [
            [
                np.subtract(*landscape.engine.values(np.stack([point + move, point - move]), form="loop")) / (2 * step)
                for move in step * np.eye(landscape.dimension)
            ]
            for point in points
        ]
    )


def test_squared_error_and_weight_decay():
    landscape = landscape_of(mlp(2), loss=F.mse_loss, targets=draw(ROWS, 2), weight_decay=0.1)
    landscape.engine.only("wide")
    points = np.random.default_rng(0).normal(size=(6, landscape.dimension))
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(values, landscape.engine.values(points, form="loop"), rtol=1e-12)
    np.testing.assert_allclose(gradients, by_differences(landscape, points), rtol=1e-5, atol=1e-7)
