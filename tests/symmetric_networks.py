"""Networks with symmetries that are known by hand."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.symmetry import Element, apply, random_element, symmetry_of

ROWS = 12


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


def with_statistics(mean, variance):
    def norm(units):
        layer = nn.BatchNorm1d(units)
        layer.running_mean[:] = torch.tensor(mean)
        layer.running_var[:] = torch.tensor(variance)
        return layer

    return norm


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


def drawn(landscape, seed, n=1):
    return np.random.default_rng(seed).normal(size=(n, landscape.dimension))
