"""The wide form gives the numbers of the plain loop, exactly comparable in float64, or says that it does not know."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import topolandscape as tl

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}


class Residual(nn.Module):
    """Two layers beside an identity, with functions instead of modules."""

    def __init__(self, width):
        super().__init__()
        self.one, self.two = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, inputs):
        return inputs + 0.5 * self.two(torch.tanh(self.one(inputs))) - F.relu(inputs)


class Block(nn.Module):
    """A residual block of a small ResNet."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, inputs):
        return torch.relu(inputs + self.layers(inputs))


class Functions(nn.Module):
    """A small CNN written with functions."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.Linear(12, 3)

    def forward(self, inputs):
        hidden = F.relu(self.one(inputs), inplace=True)
        hidden = F.avg_pool2d(torch.tanh(self.two(hidden)) + hidden, 2)
        return self.out(hidden.view(hidden.size(0), -1))


class AddsInPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, inputs):
        hidden = self.one(inputs)
        hidden += inputs
        return self.two(torch.relu(hidden))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.two.weight = self.one.weight

    def forward(self, inputs):
        return self.out(torch.tanh(self.two(torch.tanh(self.one(inputs)))))


class Quadratic(nn.Module):
    def forward(self, inputs):
        return inputs**2


def images(*layers):
    return nn.Sequential(nn.Unflatten(1, (1, 4, 4)), *layers)


WIDE = {
    **{name: (lambda a=a: nn.Sequential(nn.Linear(6, 5), a(), nn.Linear(5, 3))) for name, a in ACTIVATIONS.items()},
    "no bias": lambda: nn.Sequential(nn.Linear(6, 5, bias=False), Quadratic(), nn.Linear(5, 3, bias=False)),
    "one layer": lambda: nn.Linear(6, 3),
    "activation first": lambda: nn.Sequential(nn.Tanh(), nn.Linear(6, 3)),
    "residual": lambda: nn.Sequential(nn.Linear(6, 4), Residual(4), nn.Linear(4, 3)),
    "residual on inputs": lambda: nn.Sequential(Residual(6), nn.Linear(6, 3)),
    "shared weights": Tied,
    "adds in place": AddsInPlace,
    "overwrites its inputs": lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 3)),
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)),
    "batch norm first": lambda: nn.Sequential(nn.BatchNorm1d(6, affine=False), nn.Linear(6, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout(), nn.Linear(5, 3)),
}


class Control(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(6, 3)

    def forward(self, inputs):
        out = self.one(inputs)
        return out if out.sum() > 0 else -out


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.RNN(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.out(self.rnn(inputs.reshape(-1, 3, 2))[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.into, self.out = nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, inputs):
        return self.out(self.layer(self.into(inputs.reshape(-1, 3, 2))).mean(1))


OTHERS = {
    "control flow": Control,
    "RNN": Recurrent,
    "transformer": Attention,
    "LeNet": lambda: images(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    ),
    "VGG": lambda: images(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, (2, 1), stride=(1, 2), dilation=1, padding=(1, 0)),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(15, 3),
    ),
    "dilated": lambda: images(nn.Conv2d(1, 2, 2, dilation=2, stride=1), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)),
    "functions": lambda: images(Functions()),
    "ResNet": lambda: images(
        nn.Conv2d(1, 3, 3, padding=1), Block(3), Block(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)
    ),
}
LOSSES = {
    "cross_entropy": F.cross_entropy,
    "CrossEntropyLoss": nn.CrossEntropyLoss(),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "weighted": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 0.5])),
    "per row": lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none"),
}


def settled(module, seed=0):
    """Return the module in eval mode, with statistics of batch norm that are not those of the start."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
    return module.eval()


def landscape_of(module, *, loss=F.cross_entropy, dtype=torch.float64, **options):
    inputs = 16 if isinstance(module[0] if isinstance(module, nn.Sequential) else None, nn.Unflatten) else 6
    rng = np.random.default_rng(0)
    return tl.Landscape.from_module(
        module.double() if dtype == torch.float64 else module,
        rng.normal(size=(11, inputs)),
        rng.integers(3, size=11),
        loss=loss,
        dtype=dtype,
        **options,
    )


def by_loop(landscape, points):
    """Return losses and gradients by calling a copy of the module at one point after the other."""
    values = landscape.engine.values(points, form="loop")
    gradients = []
    for point in points:
        ahead = point + 1e-6 * np.eye(landscape.dimension)
        behind = point - 1e-6 * np.eye(landscape.dimension)
        difference = landscape.engine.values(ahead, form="loop") - landscape.engine.values(behind, form="loop")
        gradients.append(difference / 2e-6)
    return values, np.array(gradients)


@pytest.mark.parametrize("name", WIDE)
def test_the_table_of_modules(name):
    landscape = landscape_of(settled(WIDE[name]()))
    assert landscape.engine.form() == "wide"
    points = landscape.point + 0.3 * np.random.default_rng(1).normal(size=(7, landscape.dimension))
    loss, slope = by_loop(landscape, points)
    np.testing.assert_allclose(landscape.values(points), loss, rtol=1e-12)
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(values, loss, rtol=1e-12)
    np.testing.assert_allclose(landscape.engine.values(points, form="vmap"), loss, rtol=1e-12)
    kinks = np.isclose(gradients, slope, rtol=1e-5, atol=1e-6)
    assert kinks.mean() > 0.995, name
    assert landscape.engine.form("gradients") == "wide"


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_wide_takes_another_form(name):
    landscape = landscape_of(settled(OTHERS[name]()))
    points = landscape.point + 0.3 * np.random.default_rng(1).normal(size=(5, landscape.dimension))
    np.testing.assert_allclose(landscape.values(points), landscape.engine.values(points, form="loop"), rtol=1e-12)
    assert landscape.engine.form() == ("loop" if name in ("control flow", "RNN") else "vmap")


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    landscape = landscape_of(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), loss=LOSSES[name])
    points = landscape.point + np.random.default_rng(1).normal(size=(7, landscape.dimension))
    assert landscape.engine.form() == "wide"
    np.testing.assert_allclose(landscape.values(points), landscape.engine.values(points, form="loop"), rtol=1e-12)


@pytest.mark.parametrize("pattern", ["0.*", "2.*", "*.bias"])
def test_some_parameters_stay_fixed(pattern):
    module = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    landscape = landscape_of(module, parameters=pattern)
    points = landscape.point + np.random.default_rng(1).normal(size=(7, landscape.dimension))
    assert landscape.engine.form() == "wide"
    loss, slope = by_loop(landscape, points)
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(values, loss, rtol=1e-12)
    np.testing.assert_allclose(gradients, slope, rtol=1e-5, atol=1e-7)


def test_squared_error_and_weight_decay():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    rng = np.random.default_rng(0)
    landscape = tl.Landscape.from_module(
        module, rng.normal(size=(9, 3)), rng.normal(size=(9, 2)), loss=F.mse_loss, weight_decay=0.1
    )
    assert landscape.engine.form() == "wide"
    points = rng.normal(size=(6, landscape.dimension))
    loss, slope = by_loop(landscape, points)
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(values, loss, rtol=1e-12)
    np.testing.assert_allclose(gradients, slope, rtol=1e-5, atol=1e-7)


def test_float32_within_its_noise():
    landscape = landscape_of(nn.Sequential(nn.Linear(6, 50), nn.ReLU(), nn.Linear(50, 3)), dtype=torch.float32)
    points = landscape.point + np.random.default_rng(1).normal(size=(300, landscape.dimension))
    assert landscape.engine.form() == "wide"
    exact = landscape._exact.values(points)
    np.testing.assert_allclose(landscape.values(points), exact, rtol=3e-6)
