"""Symmetries: what is found, that it leaves the loss, and that copies are brought together."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import descend, initial_points
from topolandscape.landscape.symmetry import (
    Element,
    align,
    align_by_activations,
    apply,
    canonical,
    distance,
    random_element,
    symmetry_of,
)

ROWS = 12


pytestmark = pytest.mark.usefixtures("one_thread")


def mlp(*widths, activation=nn.Tanh, bias=True, norm=None):
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=1):
        layers.append(nn.Linear(inputs, outputs, bias=bias))
        if i < len(widths) - 1:
            layers += ([norm(outputs)] if norm else []) + ([activation()] if activation else [])
    return nn.Sequential(*layers)


class Functional(nn.Module):
    """The network of LeCun et al. (1998), written as PyTorch's first tutorials write it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.full1, self.full2 = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = torch.relu_(F.max_pool2d(self.conv2(x), 2))
        x = x.view(x.size(0), -1)
        x = F.dropout(self.full1(x).relu(), 0.5, training=self.training)
        return F.log_softmax(self.full2(x), dim=1)


class Residual(nn.Module):
    """Blocks x + W2 f(W1 x)."""

    def __init__(self, width, hidden, activation, blocks=2):
        super().__init__()
        self.stem, self.head = nn.Linear(3, width), nn.Linear(width, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), activation(), nn.Linear(hidden, width)) for _ in range(blocks)
        )
        self.activation = activation()

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = self.activation(x + block(x))
        return self.head(x)


class Narrow(nn.Module):
    """One layer, x + f(W x): a weight with the same units on both axes."""

    def __init__(self, activation, width=4):
        super().__init__()
        self.stem, self.middle, self.head = nn.Linear(3, width), nn.Linear(width, width), nn.Linear(width, 2)
        self.activation = activation()

    def forward(self, x):
        x = self.stem(x)
        x = x + self.activation(self.middle(x))
        return self.head(x)


class Block(nn.Module):
    """Of a ResNet (He et al. 2016)."""

    def __init__(self, inputs, outputs, stride, activation):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.activation = activation()

    def forward(self, x):
        out = self.activation(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        out += self.shortcut(x)
        return self.activation(out)


def resnet(activation):
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        activation(),
        Block(3, 3, 1, activation),
        Block(3, 4, 2, activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


class Joined(nn.Module):
    """Layers side by side, behind one another (Huang et al. 2017)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 3, padding=1)
        self.third = nn.Conv2d(5, 2, 3, padding=1)
        self.head = nn.Linear(7 * 16, 2)

    def forward(self, x):
        one = self.first(x).tanh()
        two = torch.cat([one, torch.tanh(self.second(one))], 1)
        three = torch.cat((torch.tanh(self.third(two)), two), dim=1)
        return self.head(F.avg_pool2d(three, 2).flatten(1))


class Shared(nn.Module):
    """One layer, twice."""

    def __init__(self):
        super().__init__()
        self.stem, self.middle, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.middle(torch.tanh(self.middle(torch.tanh(self.stem(x)))))))


class ByHand(nn.Module):
    """No layers at all."""

    def __init__(self):
        super().__init__()
        self.first, self.shift = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4))
        self.gain, self.second = nn.Parameter(torch.randn(1, 4)), nn.Parameter(torch.randn(2, 4))

    def forward(self, x):
        x = torch.tanh(x @ self.first + self.shift)
        return F.linear(2 * (x * self.gain), self.second) - 1


class Gained(nn.Module):
    """W2 f(x + g x), x being W1 of the inputs: the factors g have no sign and no scale."""

    def __init__(self, width):
        super().__init__()
        self.first, self.gain, self.second = nn.Linear(2, width), nn.Parameter(torch.ones(width)), nn.Linear(width, 2)

    def forward(self, x):
        x = self.first(x)
        return self.second(torch.tanh(x + self.gain * x))


class Even(nn.Module):
    """Absolute values and squares, with or without what they are taken of."""

    def __init__(self, combine, read=4):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(read, 2)
        self.combine = combine

    def forward(self, x):
        return self.head(self.combine(self.first(x), self.second(x)))


class Transformed(nn.Module):
    """Blocks with layer norm in front (as in a transformer without attention)."""

    def __init__(self, norm):
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(4, 2)
        self.norm, self.up, self.down = norm(4), nn.Linear(4, 5), nn.Linear(5, 4)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.down(F.gelu(self.up(self.norm(x)))))


class Applied(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


SIGN, SCALE, BOTH = ["sign"], ["scale"], ["both"]

# What each activation leaves, from its formula: odd and even ones signs, positively homogeneous ones scales.
ACTIVATIONS = {
    "tanh": (nn.Tanh, SIGN),
    "softsign": (nn.Softsign, SIGN),
    "softshrink": (nn.Softshrink, SIGN),
    "hardshrink": (nn.Hardshrink, SIGN),
    "tanhshrink": (nn.Tanhshrink, SIGN),
    "hardtanh": (nn.Hardtanh, SIGN),
    "hardtanh from -1 to 2": (lambda: nn.Hardtanh(-1.0, 2.0), []),
    "sin": (lambda: Applied(torch.sin), SIGN),
    "erf": (lambda: Applied(torch.erf), SIGN),
    "x^3": (lambda: Applied(lambda x: x**3), SIGN),
    "clamp": (lambda: Applied(lambda x: x.clamp(-0.5, 0.5)), SIGN),
    "atan, scaled": (lambda: Applied(lambda x: -2 * torch.atan(x / 3)), SIGN),
    "x^2": (lambda: Applied(lambda x: x**2), SIGN),
    "cos": (lambda: Applied(torch.cos), SIGN),
    "abs": (lambda: Applied(torch.abs), SIGN),
    "relu": (nn.ReLU, SCALE),
    "relu in place": (lambda: nn.ReLU(inplace=True), SCALE),
    "leaky relu": (nn.LeakyReLU, SCALE),
    "prelu": (nn.PReLU, SCALE),
    "prelu for each unit": (lambda: nn.PReLU(4), SCALE),
    "rrelu": (nn.RReLU, SCALE),
    "max(0, x)": (lambda: Applied(lambda x: torch.clamp(x, min=0)), SCALE),
    "identity": (nn.Identity, BOTH),
    "dropout": (nn.Dropout, BOTH),
    "gelu": (nn.GELU, []),
    "elu": (nn.ELU, []),
    "sigmoid": (nn.Sigmoid, []),
    "softplus": (nn.Softplus, []),
    "relu6": (nn.ReLU6, []),
    "tanh(x) + 1": (lambda: Applied(lambda x: torch.tanh(x) + 1), []),
    "relu(x + 1)": (lambda: Applied(lambda x: F.relu(1 + x)), []),
    "swish": (lambda: Applied(lambda x: x * torch.sigmoid(x)), []),
    "1 / (1 + x^2)": (lambda: Applied(lambda x: 1 / (1 + x.pow(2))), SIGN),
}

# Networks, the shape of one row, and their groups: units and the kinds of scalings, derived by hand.
ARCHITECTURES = {
    "three layers of tanh": (lambda: mlp(3, 5, 4, 3, 2), (3,), [(5, SIGN), (4, SIGN), (3, SIGN)]),
    "two layers of relu": (lambda: mlp(3, 4, 5, 2, activation=nn.ReLU), (3,), [(4, SCALE), (5, SCALE)]),
    "no activation": (lambda: mlp(3, 4, 5, 2, activation=None), (3,), [(4, BOTH), (5, BOTH)]),
    "64-16-10": (lambda: mlp(64, 16, 10), (64,), [(16, SIGN)]),
    "one layer": (lambda: nn.Linear(3, 2), (3,), []),
    "convolutions and flattening": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(3, 4, 2), nn.Tanh()),
            *(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)),
        ),
        (1, 6, 6),
        [(3, SIGN), (4, SIGN), (5, SIGN)],
    ),
    "flattening of several positions": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.ReLU(), nn.Linear(48, 2)),
        (1, 6, 6),
        [(3, SCALE)],
    ),
    "batch norm after flattening": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 2)),
        (1, 6, 6),
        [(3, [*BOTH, *SCALE])],
    ),
    "max pooling breaks signs": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2)),
        (1, 6, 6),
        [(3, [])],
    ),
    "max pooling keeps scales": (
        lambda: nn.Sequential(nn.Conv1d(1, 3, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(6, 2)),
        (1, 6),
        [(3, SCALE)],
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(1, 3, 2), nn.Tanh(), nn.ConvTranspose2d(3, 2, 2), nn.Flatten()),
        (1, 3, 3),
        [(3, SIGN)],
    ),
    "depthwise": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3, groups=3), nn.Tanh()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
        ),
        (1, 6, 6),
        [(3, [*SCALE, *SIGN])],
    ),
    "written with functions": (Functional, (1, 6, 6), [(3, SCALE), (4, SCALE), (5, SCALE)]),
    "mean over positions": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), Applied(lambda x: x.mean((2, 3))), nn.Linear(3, 2)),
        (1, 6, 6),
        [(3, SIGN)],
    ),
    "written by hand": (ByHand, (3,), [(4, [*SIGN, *BOTH])]),
    "residual, tanh": (lambda: Residual(4, 5, nn.Tanh), (3,), [(4, SIGN), (5, SIGN), (5, SIGN)]),
    "residual, relu": (lambda: Residual(4, 5, nn.ReLU), (3,), [(4, SCALE), (5, SCALE), (5, SCALE)]),
    "a weight with the same units on both axes": (lambda: Narrow(nn.Tanh), (3,), [(4, SIGN)]),
    "the same with scales": (lambda: Narrow(nn.ReLU), (3,), [(4, SCALE)]),
    "small ResNet, tanh": (
        lambda: resnet(nn.Tanh),
        (1, 4, 4),
        # Batch norm with zero means is linear: a scaling in front of each, and the activations' behind.
        [(3, [*BOTH, *SIGN, *BOTH]), (3, [*BOTH, *SIGN]), (4, [*BOTH, *SIGN]), (4, [*BOTH, *SIGN, *BOTH])],
    ),
    "small ResNet, relu": (
        lambda: resnet(nn.ReLU),
        (1, 4, 4),
        [(3, [*BOTH, *SCALE, *BOTH]), (3, [*BOTH, *SCALE]), (4, [*BOTH, *SCALE]), (4, [*BOTH, *SCALE, *BOTH])],
    ),
    "concatenation": (Joined, (1, 8, 8), [(2, SIGN), (3, SIGN), (2, SIGN)]),
    "absolute values and values": (
        lambda: Even(lambda x, y: torch.cat([x.abs(), x, y], 1), read=12),
        (3,),
        [(4, SIGN), (4, BOTH)],
    ),
    "values and multiples of them": (lambda: Gained(4), (2,), [(4, SIGN)]),
    "squares and other values": (lambda: Even(lambda x, y: x.square() + y), (3,), [(4, SIGN)]),
    "one layer twice": (Shared, (3,), [(4, SIGN)]),
    "layer norm": (lambda: Transformed(nn.LayerNorm), (3,), [(4, BOTH), (5, [])]),
    "RMS norm": (lambda: Transformed(nn.RMSNorm), (3,), [(4, BOTH), (5, [])]),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(1, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)),
        (1, 6, 6),
        [(4, SCALE)],
    ),
    "batch norm without weights": (
        lambda: mlp(3, 4, 2, norm=lambda n: nn.BatchNorm1d(n, affine=False)),
        (3,),
        [(4, SIGN)],
    ),
    "batch norm by the batch": (
        lambda: mlp(3, 4, 2, activation=nn.ReLU, norm=lambda n: nn.BatchNorm1d(n, track_running_stats=False)),
        (3,),
        [(4, SCALE)],
    ),
    "one unit": (lambda: mlp(1, 1, 1, activation=None, bias=False), (1,), [(1, BOTH)]),
}
NETWORKS = {
    **{
        f"{name}{'' if bias else ' without biases'}": (
            lambda make=make, bias=bias: mlp(3, 4, 2, activation=make, bias=bias),
            (3,),
            [(4, kinds)],
        )
        for name, (make, kinds) in ACTIVATIONS.items()
        for bias in (True, False)
    },
    **ARCHITECTURES,
}


def landscape_of(make, shape, **options):
    """Return the landscape of a network, all of its parameters drawn from a normal distribution."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().double().eval()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.7)
        inputs = torch.randn(ROWS, *shape, dtype=torch.float64)
        targets = torch.randn_like(module(inputs).flatten(1))
    return Landscape.from_module(module, inputs, targets, loss=squared_error, **options)


def squared_error(outputs, targets):
    return F.mse_loss(outputs.flatten(1), targets)


@functools.cache
def known(name):
    """Return a network's landscape and its symmetry."""
    make, shape, _ = NETWORKS[name]
    landscape = landscape_of(make, shape)
    return landscape, symmetry_of(landscape)


def shape_of(symmetry):
    return [(group.units, [scaling.kind for scaling in group.scalings]) for group in symmetry.groups]


def assert_leaves_the_loss(landscape, symmetry):
    point = landscape.point + 0.1
    copies = np.stack([point, *(apply(symmetry, point, random_element(symmetry, seed)) for seed in range(5))])
    losses = landscape.values(copies)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)
    if symmetry.groups:
        assert np.abs(copies - point).max() > 0.1


def test_the_tables_do_not_overlap():
    assert len(NETWORKS) == 2 * len(ACTIVATIONS) + len(ARCHITECTURES)


# ------------------------------------------------------------------------------------------------------------
# What is found
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_those_of_the_formula_and_leave_the_loss(name):
    landscape, symmetry = known(name)
    assert shape_of(symmetry) == NETWORKS[name][2]
    assert all(group.permuted == (group.units > 1) for group in symmetry.groups)
    assert not any("changes the loss" in reason for reason in symmetry.left_out)
    assert_leaves_the_loss(landscape, symmetry)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("tanh", [(4, SIGN)]),
        ("relu", [(4, [])]),
        ("identity", [(4, SIGN)]),
        ("batch norm by the batch", [(4, [])]),
        ("small ResNet, tanh", [(3, SIGN * 3), (3, SIGN * 2), (4, SIGN * 2), (4, SIGN * 3)]),
    ],
)
def test_weight_decay_leaves_no_scales(name, groups):
    make, shape, _ = NETWORKS[name]
    landscape = landscape_of(make, shape, weight_decay=0.1)
    symmetry = symmetry_of(landscape)
    assert shape_of(symmetry) == groups
    assert_leaves_the_loss(landscape, symmetry)


def with_statistics(mean, variance):
    def norm(units):
        layer = nn.BatchNorm1d(units)
        layer.running_mean[:] = torch.tensor(mean)
        layer.running_var[:] = torch.tensor(variance)
        return layer

    return norm


@pytest.mark.parametrize(
    ("mean", "variance", "permuted", "kinds"),
    [
        ([0.0] * 4, [1.0] * 4, True, [*BOTH, *SIGN]),
        ([0.0] * 4, [2.0] * 4, True, [*BOTH, *SIGN]),
        ([0.5] * 4, [2.0] * 4, True, SIGN),
        ([0.0] * 4, [1.0, 1.0, 2.0, 1.0], False, [*BOTH, *SIGN]),
        ([0.0, 0.0, 0.1, 0.0], [1.0] * 4, False, SIGN),
    ],
)
def test_units_with_other_statistics_stay_where_they_are(mean, variance, permuted, kinds):
    landscape = landscape_of(lambda: mlp(3, 4, 2, norm=with_statistics(mean, variance)), (3,))
    symmetry = symmetry_of(landscape)
    assert shape_of(symmetry) == [(4, kinds)]
    assert symmetry.groups[0].permuted == permuted
    assert any("other statistics" in reason for reason in symmetry.left_out) == (not permuted)
    assert_leaves_the_loss(landscape, symmetry)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = mlp(3, 4, 2)

    def forward(self, x):
        return self.layers(x) if x.sum() > 0 else self.layers(x) + 0.0


class Tied(nn.Module):
    """An autoencoder that reads by the weights by which it writes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)

    def forward(self, x):
        return F.linear(torch.tanh(self.first(x)), self.first.weight.T)


class Overwritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        x.square_()
        return self.second(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.layer, self.last = nn.Linear(3, 4), nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.last(self.layer(self.first(x))[0])


def between(*functions, units=4, read=4):
    """Return two layers with something in between."""
    return nn.Sequential(nn.Linear(3, units), *(Applied(f) for f in functions), nn.Linear(read, 2))


def hooked():
    module = mlp(3, 4, 2)
    module[0].register_forward_hook(lambda layer, inputs, outputs: outputs * torch.arange(4))
    return module


def buffered():
    module = mlp(3, 4, 2)
    weight = module[0].weight.detach()
    del module[0].weight
    module[0].register_buffer("weight", weight)
    return module


# Networks in which nothing, or not everything, can be understood; and what may be found nevertheless.
OTHERS = {
    "softmax": (lambda: mlp(3, 4, 5, 2, activation=lambda: nn.Softmax(1)), (3,), []),
    "softmax behind other layers": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)),
        (3,),
        [(4, SIGN)],
    ),
    "recurrent": (Recurrent, (6, 3), []),
    "a transformer's layer": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)),
        (6, 3),
        [],
    ),
    "branching": (Branching, (3,), []),
    "tied": (Tied, (3,), []),
    "overwritten": (Overwritten, (3,), [(4, [])]),
    "a hook": (hooked, (3,), []),
    "a weight that is no parameter": (buffered, (3,), []),
    "weight norm": (lambda: nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)), (3,), []),
    "a slice": (lambda: between(lambda x: x[:, :2], read=2), (3,), []),
    "a constant for each unit": (lambda: between(lambda x: x * torch.arange(4)), (3,), []),
    "a reversal": (lambda: between(lambda x: x.flip(1)), (3,), []),
    "sorted": (lambda: between(lambda x: x.sort(1).values), (3,), []),
    "a cumulative sum": (lambda: between(lambda x: x.cumsum(1)), (3,), []),
    "a mean over units": (lambda: between(lambda x: x.mean(1, keepdim=True), read=1), (3,), []),
    "pooling over units": (lambda: between(lambda x: F.max_pool1d(x, 2), read=2), (3,), []),
    "units as positions": (lambda: between(lambda x: x.view(-1, 2, 2).flatten(1)), (3,), []),
    "units as rows": (lambda: between(lambda x: x.view(-1, 8).tanh().view(-1, 4)), (3,), []),
    "positions mixed": (lambda: between(lambda x: x.transpose(1, 2), read=4), (4, 3), []),
    "flattened with positions in front": (lambda: between(lambda x: x.flatten(1), read=24), (6, 3), []),
    "normalised over positions": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)),
        (4, 3),
        # As many positions as units, so that only the loss can tell.
        [],
    ),
    "channels in parts": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(8, 2)),
        (1, 6),
        [],
    ),
    "normalised in parts": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 2)),
        (1, 6),
        # What follows the normalisation can be scaled all the same.
        [],
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_understood_is_left_out(name):
    make, shape, groups = OTHERS[name]
    landscape = landscape_of(make, shape)
    symmetry = symmetry_of(landscape)
    assert shape_of(symmetry) == groups
    if not groups:
        assert symmetry.left_out
    # All but one are seen from the network alone.
    tried = any("changes the loss" in reason for reason in symmetry.left_out)
    assert tried == (name == "normalised over positions")
    assert_leaves_the_loss(landscape, symmetry)


@pytest.mark.parametrize(
    ("parameters", "groups"),
    [
        (None, [(4, SIGN), (5, SIGN)]),
        (["0.*", "2.*"], [(4, SIGN)]),
        (["2.*", "4.*"], [(5, SIGN)]),
        ("2.*", []),
        (["0.weight", "2.*", "4.*"], [(5, SIGN)]),
    ],
)
def test_groups_of_fixed_parameters_are_left_out(parameters, groups):
    landscape = landscape_of(lambda: mlp(3, 4, 5, 2), (3,), parameters=parameters)
    symmetry = symmetry_of(landscape)
    assert shape_of(symmetry) == groups
    assert bool(symmetry.left_out) == (parameters is not None)
    assert_leaves_the_loss(landscape, symmetry)


def test_functions_and_restrictions_have_no_units():
    landscape = landscape_of(lambda: mlp(3, 4, 2), (3,))
    for other in (
        Landscape.from_function(lambda x: x.sum(1), 2),
        landscape.restricted_to(landscape.point, np.eye(landscape.dimension)[:2]),
    ):
        with pytest.raises(ValueError, match=r"whole\s+module"):
            symmetry_of(other)


def test_float32_finds_the_same():
    make, shape, groups = ARCHITECTURES["residual, relu"]
    assert shape_of(symmetry_of(landscape_of(make, shape, dtype=torch.float32))) == groups


# ------------------------------------------------------------------------------------------------------------
# How many copies there are
# ------------------------------------------------------------------------------------------------------------


def elements(symmetry):
    """Give all elements without scales."""
    choices = [
        itertools.product(
            itertools.permutations(range(group.units)) if group.permuted else [range(group.units)],
            itertools.product([1.0, -1.0], repeat=group.units * len(group.scalings)),
        )
        for group in symmetry.groups
    ]
    for chosen in itertools.product(*choices):
        permutations = tuple(np.array(permutation) for permutation, _ in chosen)
        factors = tuple(
            np.array(signs).reshape(len(group.scalings), group.units)
            for group, (_, signs) in zip(symmetry.groups, chosen, strict=True)
        )
        yield Element(permutations, factors)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: mlp(1, 1, 1), 2),
        (lambda: mlp(1, 3, 1), 6 * 8),
        (lambda: mlp(1, 2, 2, 1), 8 * 8),
        (lambda: mlp(1, 2, 1, norm=nn.BatchNorm1d), 2 * 4 * 4),
        (lambda: mlp(1, 1, 1, 1, activation=None, bias=False), 4),
    ],
)
def test_count_is_the_number_of_different_copies(make, count):
    landscape = landscape_of(make, (1,), weight_decay=0.1)
    symmetry = symmetry_of(landscape)
    copies = np.stack([apply(symmetry, landscape.point, element) for element in elements(symmetry)])
    assert symmetry.count == len(np.unique(copies, axis=0)) == count
    losses = landscape.values(copies)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)


def test_counts_of_wide_layers_are_whole_numbers():
    assert known("64-16-10")[1].count == math.factorial(16) * 2**16
    assert known("residual, relu")[1].count == math.factorial(4) * math.factorial(5) ** 2
    assert known("one layer")[1].count == 1


def test_the_minima_of_a_scalar_linear_network_are_copies():
    """L = (w1 w2 w3 - 1)^2 + g |w|^2 has four minima: |w| all equal, an even number of signs negative."""
    module = mlp(1, 1, 1, 1, activation=None, bias=False).double()
    ones = torch.ones(2, 1, dtype=torch.float64)
    landscape = Landscape.from_module(module, ones, ones, loss=F.mse_loss, weight_decay=0.05)
    symmetry = symmetry_of(landscape)
    minimum = descend(landscape, [[0.9, 1.1, 1.0]], steps=400, learning_rate=0.02).ends[0]
    np.testing.assert_allclose(minimum, minimum[0], rtol=1e-6)
    copies = np.array([apply(symmetry, minimum, element) for element in elements(symmetry)])
    expected = [signs for signs in itertools.product([1, -1], repeat=3) if math.prod(signs) > 0]
    assert {tuple(np.sign(copy)) for copy in copies} == set(expected)
    assert symmetry.count == len(copies) == 4
    np.testing.assert_allclose(np.linalg.norm(landscape.gradients(copies)[1], axis=1), 0, atol=1e-6)
    for copy in copies:
        assert distance(symmetry, copy, minimum, seed=0) == 0
        np.testing.assert_array_equal(canonical(symmetry, copy), canonical(symmetry, minimum))


# ------------------------------------------------------------------------------------------------------------
# Copies brought together
# ------------------------------------------------------------------------------------------------------------

SHALLOW = ["tanh", "tanh without biases", "relu", "relu without biases", "identity", "sigmoid", "64-16-10", "x^2"]
DEEP = [
    *("three layers of tanh", "two layers of relu", "no activation", "convolutions and flattening", "depthwise"),
    *("residual, tanh", "residual, relu", "a weight with the same units on both axes", "the same with scales"),
    *("small ResNet, tanh", "small ResNet, relu", "concatenation", "layer norm", "written by hand"),
    *("written with functions", "one layer twice", "batch norm by the batch"),
]


def drawn(landscape, seed, n=1):
    return np.random.default_rng(seed).normal(size=(n, landscape.dimension))


@given(name=st.sampled_from(SHALLOW + DEEP), seed=st.integers(0, 10**6))
def test_copies_have_one_normal_form(name, seed):
    _, symmetry = known(name)
    (point,) = drawn(known(name)[0], seed)
    copy = apply(symmetry, point, random_element(symmetry, seed))
    form, other = canonical(symmetry, np.stack([point, copy]))
    np.testing.assert_allclose(other, form, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SHALLOW + DEEP)
def test_the_normal_form_is_a_copy_of_which_nothing_is_left_to_change(name):
    landscape, symmetry = known(name)
    points = 0.7 * drawn(landscape, 1, 3)
    forms = canonical(symmetry, points)
    np.testing.assert_allclose(landscape.values(forms), landscape.values(points), rtol=1e-11)
    np.testing.assert_allclose(canonical(symmetry, forms), forms, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(canonical(symmetry, points[1]), forms[1], rtol=1e-12)


def test_the_normal_form_of_a_small_network():
    """Unit 0 turns its sign, since -3 is the largest of (2, -3, 1); then (-2, 3, -1) comes before (1, 0, 4)."""
    _, symmetry = known("one unit")
    landscape = landscape_of(lambda: mlp(2, 2, 1), (2,))
    symmetry = symmetry_of(landscape)
    point = [2.0, -3.0, 1.0, 0.0, 1.0, 4.0, 5.0, 6.0, 7.0]
    np.testing.assert_array_equal(canonical(symmetry, point), [-2.0, 3.0, 1.0, 0.0, -1.0, 4.0, -5.0, 6.0, 7.0])


@pytest.mark.parametrize("name", ["two layers of relu", "no activation", "the same with scales", "depthwise"])
def test_the_balanced_form_has_the_least_norm_of_all_scales(name):
    """Its norm agrees with that found by a general optimiser, and no unit has more coming in than going out."""
    landscape, symmetry = known(name)
    (point,) = drawn(landscape, 2)

    def squared_norm(logs):
        parts = np.split(np.exp(logs), np.cumsum([g.units * len(g.scalings) for g in symmetry.groups])[:-1])
        factors = [
            np.where([[s.kind != "sign"] for s in group.scalings], part.reshape(len(group.scalings), -1), 1.0)
            for group, part in zip(symmetry.groups, parts, strict=True)
        ]
        element = Element(tuple(np.arange(group.units) for group in symmetry.groups), tuple(factors))
        return float(np.sum(apply(symmetry, point, element) ** 2))

    size = sum(group.units * len(group.scalings) for group in symmetry.groups)
    best = minimize(squared_norm, np.zeros(size), tol=1e-12)
    assert np.sum(canonical(symmetry, point) ** 2) == pytest.approx(best.fun, rel=1e-8)
    assert best.fun < 0.95 * np.sum(point**2)


def test_units_that_feed_each_other_are_balanced():
    """In x + relu(W x) with large W = (0, a; b, 0) both scales changed at once by the rule for one turn in circles."""
    landscape = landscape_of(lambda: Narrow(nn.ReLU, width=2), (3,))
    symmetry = symmetry_of(landscape)
    point = 1e-6 * drawn(landscape, 0)[0]
    weight = next(block.entries for block in landscape.blocks if block.name == "middle.weight")
    point[weight] = 0.0, 100.0, 1.0, 0.0
    form = canonical(symmetry, point)
    np.testing.assert_allclose(np.sort(form[weight]), [0, 0, 10, 10], rtol=1e-6)


@pytest.mark.parametrize("name", SHALLOW + DEEP)
def test_a_copy_is_brought_back(name):
    """With one hidden layer always; in deeper networks, where the optimum is a local one, at these points."""
    landscape, symmetry = known(name)
    points = drawn(landscape, 3, 4)
    copies = np.stack([apply(symmetry, point, random_element(symmetry, i)) for i, point in enumerate(points)])
    back = align(symmetry, copies, points, seed=0)
    if any(scaling.scaled for group in symmetry.groups for scaling in group.scalings):
        np.testing.assert_allclose(back, points, rtol=1e-9, atol=1e-10)
    else:
        np.testing.assert_array_equal(back, points)
    np.testing.assert_allclose(distance(symmetry, copies, points, seed=0), 0, atol=1e-9)


@given(name=st.sampled_from(["tanh", "relu", "identity", "64-16-10"]), seed=st.integers(0, 10**6))
def test_with_one_hidden_layer_a_copy_is_always_brought_back(name, seed):
    landscape, symmetry = known(name)
    (point,) = drawn(landscape, seed)
    copy = apply(symmetry, point, random_element(symmetry, seed))
    np.testing.assert_allclose(align(symmetry, copy, point, seed=seed), point, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("make", [lambda: mlp(2, 3, 2), lambda: mlp(2, 2, 2, norm=nn.BatchNorm1d), lambda: Gained(3)])
@pytest.mark.parametrize("seed", range(5))
def test_with_one_hidden_layer_no_copy_is_nearer(make, seed):
    """All 48 copies of three tanh units; all 32 of two with batch norm, which have two signs each."""
    landscape = landscape_of(make, (2,), weight_decay=0.1)
    symmetry = symmetry_of(landscape)
    point, reference = drawn(landscape, seed, 2)
    copies = np.stack([apply(symmetry, point, element) for element in elements(symmetry)])
    nearest = copies[np.linalg.norm(copies - reference, axis=1).argmin()]
    np.testing.assert_array_equal(align(symmetry, point, reference, seed=0), nearest)
    assert distance(symmetry, point, reference, seed=0) == pytest.approx(np.linalg.norm(nearest - reference), rel=1e-12)


def test_the_distance_of_one_hidden_layer_is_a_metric_of_copies():
    for name in ("tanh", "relu"):
        landscape, symmetry = known(name)
        points = drawn(landscape, 4, 6)
        copies = np.stack([apply(symmetry, point, random_element(symmetry, i)) for i, point in enumerate(points)])
        table = np.array([distance(symmetry, points, point, seed=0) for point in points])
        np.testing.assert_allclose(table, table.T, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            table, np.array([distance(symmetry, points, copy, seed=1) for copy in copies]), rtol=1e-9, atol=1e-9
        )
        assert (table[:, None] <= table[:, :, None] + table[None] + 1e-9).all()
        assert table[~np.eye(6, dtype=bool)].min() > 0.1


@pytest.mark.parametrize("name", ["three layers of tanh", "residual, tanh"])
def test_no_single_change_brings_an_aligned_copy_nearer(name):
    """None of all exchanges of two units and of all changes of one sign."""
    landscape, symmetry = known(name)
    points, references = drawn(landscape, 9, 20), drawn(landscape, 10, 20)
    aligned = align(symmetry, points, references, seed=0)
    reached = np.linalg.norm(aligned - references, axis=1)
    for g, group in enumerate(symmetry.groups):
        for i, j in itertools.combinations_with_replacement(range(group.units), 2):
            element = random_element(symmetry, 0)
            permutations = [np.arange(h.units) for h in symmetry.groups]
            factors = [np.ones_like(own) for own in element.factors]
            permutations[g][[i, j]] = j, i
            factors[g][:, i] = -1 if i == j else 1
            other = apply(symmetry, aligned, Element(tuple(permutations), tuple(factors)))
            assert (np.linalg.norm(other - references, axis=1) >= reached - 1e-9).all()


@pytest.mark.parametrize("name", DEEP)
def test_an_aligned_copy_is_a_copy_and_never_further_away(name):
    landscape, symmetry = known(name)
    points, references = 0.7 * drawn(landscape, 5, 20), 0.7 * drawn(landscape, 6, 20)
    aligned = align(symmetry, points, references, seed=0)
    np.testing.assert_allclose(landscape.values(aligned), landscape.values(points), rtol=1e-10)
    if not any(scaling.scaled for group in symmetry.groups for scaling in group.scalings):
        after = np.linalg.norm(aligned - references, axis=1)
        np.testing.assert_allclose(distance(symmetry, points, references, seed=0), after)
        assert (after <= np.linalg.norm(points - references, axis=1)).all()


def test_pairs_do_not_depend_on_one_another(monkeypatch):
    landscape, symmetry = known("three layers of tanh")
    points, references = drawn(landscape, 7, 5), drawn(landscape, 8, 5)
    together = align(symmetry, points, references, seed=3)
    monkeypatch.setattr("topolandscape.landscape.symmetry.elements.NUMBERS_AT_ONCE", 2 * landscape.dimension)
    np.testing.assert_array_equal(align(symmetry, points, references, seed=3), together)
    for point, reference, one in zip(points, references, together, strict=True):
        np.testing.assert_array_equal(align(symmetry, point, reference, seed=3), one)
    np.testing.assert_array_equal(align(symmetry, points, references[0], seed=3)[0], together[0])
    np.testing.assert_array_equal(align(symmetry, points[0], references, seed=3)[0], together[0])
    assert align(symmetry, points[:1], references[0], seed=3).shape == (1, landscape.dimension)


@pytest.mark.parametrize(
    "name", [*(name for name in SHALLOW if name != "x^2"), *(name for name in DEEP if name not in ("written by hand",))]
)
def test_a_copy_is_brought_back_by_its_activations(name):
    """Whatever the depth, if no two units are dead."""
    landscape, symmetry = known(name)
    point = landscape.point
    copy = apply(symmetry, point, random_element(symmetry, 0))
    inputs = 5 * np.random.default_rng(0).normal(size=(60, *NETWORKS[name][1]))
    back = align_by_activations(landscape, symmetry, copy, point, inputs)
    np.testing.assert_allclose(back, point, rtol=1e-9, atol=1e-10)


def test_activations_match_units_that_do_the_same():
    """Two relu units that agree on positive inputs are told apart only by their weights, and the other way round."""
    module = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    inputs = torch.tensor([[-2.0], [-1.0], [1.0], [3.0]], dtype=torch.float64)
    landscape = Landscape.from_module(module, inputs, inputs, loss=F.mse_loss, weight_decay=0.1)
    symmetry = symmetry_of(landscape)
    # Unit 0 of the reference reads positive inputs. By the weights out of it, it is unit 0 of the point.
    reference, point = [0.1, -0.1, 5.0, -5.0], [-0.1, 0.1, 5.0, -5.0]
    assert align(symmetry, point, reference, seed=0).tolist() == point
    swapped = align_by_activations(landscape, symmetry, point, reference, inputs)
    assert swapped.tolist() == [0.1, -0.1, -5.0, 5.0]


def test_activations_choose_signs():
    """By the weights out of it, the sign of a tanh unit agrees; by what it does, it does not."""
    module = mlp(1, 1, 1, bias=False).double()
    inputs = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    landscape = Landscape.from_module(module, inputs, inputs, loss=F.mse_loss)
    symmetry = symmetry_of(landscape)
    assert align(symmetry, [-0.1, 5.0], [0.1, 5.0], seed=0).tolist() == [-0.1, 5.0]
    assert align_by_activations(landscape, symmetry, [-0.1, 5.0], [0.1, 5.0], inputs).tolist() == [0.1, -5.0]


def test_activations_are_compared_without_their_means():
    """Unit 0 of the reference follows the first input, far from zero; unit 1 of the point does, near zero."""
    module = mlp(2, 2, 1, activation=None).double()
    inputs = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    landscape = Landscape.from_module(module, inputs, inputs[:, :1], loss=F.mse_loss, weight_decay=0.1)
    reference = [1.0, 0.0, 0.0, 1.0, 10.0, 0.1, 1.0, 1.0, 0.0]
    point = [0.0, 1.0, 1.0, 0.0, 10.0, 0.1, 1.0, 1.0, 0.0]
    aligned = align_by_activations(landscape, symmetry_of(landscape), point, reference, inputs)
    assert aligned.tolist() == [1.0, 0.0, 0.0, 1.0, 0.1, 10.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("method", ["weights", "activations"])
def test_the_segment_to_an_aligned_copy_is_lower(method):
    """Trained networks: on average over pairs, and against the plain segment."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 2))
    targets = np.tanh(inputs[:, :1] - inputs[:, 1:]) + 0.5 * np.tanh(2 * inputs[:, :1] * inputs[:, 1:])
    module = mlp(2, 8, 1).double()
    landscape = Landscape.from_module(module, inputs, targets, loss=F.mse_loss, weight_decay=1e-3)
    symmetry = symmetry_of(landscape)
    ends = descend(landscape, initial_points(landscape, 5, seed=0), steps=300, learning_rate=0.03).ends
    pairs = np.array(list(itertools.combinations(range(5), 2)))
    points, references = ends[pairs[:, 0]], ends[pairs[:, 1]]
    if method == "weights":
        aligned = align(symmetry, points, references, seed=0)
    else:
        aligned = align_by_activations(landscape, symmetry, points, references, inputs)
    np.testing.assert_allclose(landscape.values(aligned), landscape.values(points), rtol=1e-12)

    def barriers(starts):
        at = np.linspace(0, 1, 11)[:, None, None]
        losses = landscape.values((starts + at * (references - starts)).reshape(-1, landscape.dimension)).reshape(
            11, -1
        )
        return losses.max(axis=0) - losses[[0, -1]].max(axis=0)

    assert barriers(aligned).mean() < 0.7 * barriers(points).mean()


# ------------------------------------------------------------------------------------------------------------
# What does not fit
# ------------------------------------------------------------------------------------------------------------


def test_elements_of_other_symmetries_are_refused():
    landscape, symmetry = known("tanh")
    _, other = known("relu")
    units, ones = np.arange(4), np.ones((1, 4))
    for element, problem in [
        (Element((), ()), "0 permutations"),
        (Element((np.zeros(4, dtype=int),), (ones,)), "each one once"),
        (Element((np.arange(3),), (ones,)), "4 units"),
        (Element((units,), (np.ones(4),)), r"shape \(4,\)"),
        (Element((units,), (2 * ones,)), "1 or -1"),
        (Element((units,), (np.nan * ones,)), "1 or -1"),
    ]:
        with pytest.raises(ValueError, match=problem):
            apply(symmetry, landscape.point, element)
    for factors, problem in [(-ones, "positive"), (0 * ones, "positive"), (np.inf * ones, "positive")]:
        with pytest.raises(ValueError, match=problem):
            apply(other, landscape.point, Element((units,), (factors,)))
    still = symmetry_of(landscape_of(lambda: mlp(3, 4, 2, norm=with_statistics([0.0] * 4, [1.0, 2.0, 3.0, 4.0])), (3,)))
    with pytest.raises(ValueError, match="stay where they are"):
        apply(still, drawn(landscape, 0)[0][:1].repeat(still.dimension), Element((units[::-1],), (np.ones((2, 4)),)))


def test_points_that_do_not_fit_are_refused():
    landscape, symmetry = known("tanh")
    point = landscape.point
    with pytest.raises(ValueError, match="points have shape"):
        canonical(symmetry, point[:-1])
    with pytest.raises(ValueError, match="references have shape"):
        align(symmetry, point, point[:-1], seed=0)
    with pytest.raises(ValueError, match="b have shape"):
        distance(symmetry, point, point[:-1], seed=0)
    with pytest.raises(ValueError, match="not finite"):
        align(symmetry, point * np.nan, point, seed=0)
    with pytest.raises(ValueError, match="3 points and 2 references"):
        align(symmetry, drawn(landscape, 0, 3), drawn(landscape, 0, 2), seed=0)


def test_activations_that_cannot_be_seen_are_refused():
    landscape, symmetry = known("written by hand")
    with pytest.raises(ValueError, match="Use align"):
        align_by_activations(landscape, symmetry, landscape.point, landscape.point, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="another landscape"):
        align_by_activations(landscape, known("tanh")[1], np.zeros(26), np.zeros(26), np.zeros((2, 3)))


def test_units_without_weights_are_left_as_they_are():
    """Nothing goes into unit 0, nothing out of unit 1: their scales have no best value."""
    landscape = landscape_of(lambda: mlp(1, 2, 1, activation=nn.ReLU, bias=False), (1,))
    symmetry = symmetry_of(landscape)
    point = [0.0, 2.0, 3.0, 0.0]
    np.testing.assert_array_equal(canonical(symmetry, point), point)
    np.testing.assert_array_equal(align(symmetry, [2.0, 0.0, 0.0, 3.0], point, seed=0), point)
    with torch.random.fork_rng():
        assert distance(symmetry, np.zeros(4), np.zeros(4), seed=0) == 0


def test_a_symmetry_says_what_it_holds():
    assert repr(known("two layers of relu")[1]) == (
        "Symmetry(4 units of 0: permutations, scales; 5 units of 2: permutations, scales)"
    )
    assert repr(known("one layer")[1]) == "Symmetry(none found)"
