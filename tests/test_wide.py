"""The wide form gives the numbers of a plain loop in float64, or says that it does not know."""

import math

import numpy as np
import pytest
import torch
from plain_loop import (
    CLASSES,
    IMAGE,
    ROW,
    SEQUENCE,
    SIGNAL,
    VOLUME,
    WORDS,
    Plain,
    Written,
    _with_hook,
    classes,
    close,
    compare,
    landscape_of,
    parameter,
    settled,
)
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from topolandscape.landscape import pooling
from topolandscape.landscape.wide import Wide

pytestmark = pytest.mark.usefixtures("one_thread")

# --------------------------------------------------------------------------------------------------------------
# Modules
# --------------------------------------------------------------------------------------------------------------


class WithDefaults(nn.Module):
    """Arguments with defaults, and a tensor that is neither parameter nor buffer."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(6, CLASSES), torch.linspace(1, 2, CLASSES, dtype=torch.float64)

    def forward(self, x, shift=None, twice=True):
        out = self.layer(x) * self.scale
        if shift is not None:
            out = out + shift
        return 2 * out if twice else out


class Block2d(nn.Module):
    """A block of a ResNet: batch norm, a strided shortcut, sums and activations in place."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.one = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm_one, self.norm_two = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = self.relu(self.norm_one(self.one(x)))
        out = self.norm_two(self.two(out))
        out += self.shortcut(x)
        return self.relu(out)


class Attention(nn.Module):
    """Causal attention as people write it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.project, self.out = nn.Linear(4, 12), nn.Linear(4, 4), nn.Linear(4, CLASSES)
        self.register_buffer("mask", torch.tril(torch.ones(9, 9)).view(1, 1, 9, 9))

    def forward(self, x):
        batch, length, width = x.size()
        q, k, v = self.qkv(x).split(width, dim=2)
        q, k, v = (part.view(batch, length, 2, width // 2).transpose(1, 2) for part in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
        y = (F.softmax(scores, dim=-1) @ v).transpose(1, 2).contiguous().view(batch, length, width)
        return self.out((self.project(y) + x).mean(dim=1))


class Embedded(nn.Module):
    """Words, a class token, positions that are learned twice over."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(7, 4, padding_idx=0), nn.Embedding(9, 4)
        self.position, self.token = parameter(1, 5, 4), parameter(1, 1, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.out = nn.Linear(4, CLASSES)

    def forward(self, x):
        hidden = self.words(x) + self.position
        hidden = torch.cat([self.token.expand(x.shape[0], -1, -1), hidden], dim=1)
        hidden = hidden + self.places(torch.arange(hidden.size(1), device=x.device))
        return self.out(self.layer(hidden)[:, 0])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.out(torch.tanh(self.two(torch.tanh(self.one(x)))))


def images(*layers, width):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, CLASSES))


def encoder(norm_first):
    layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False)


CAUSAL = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)

NETWORKS = {
    "MLP": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, CLASSES)), ROW),
    "one layer": (lambda: nn.Linear(6, CLASSES), ROW),
    "without biases": (
        lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, CLASSES, bias=False)),
        ROW,
    ),
    "LayerNorm MLP": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.GELU(), nn.RMSNorm(5), nn.Linear(5, CLASSES)),
        ROW,
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(), nn.Linear(5, CLASSES)),
        ROW,
    ),
    "batch norm first": (lambda: nn.Sequential(nn.BatchNorm1d(6, affine=False), nn.Linear(6, CLASSES)), ROW),
    "tied weights": (Tied, ROW),
    "arguments with defaults": (WithDefaults, ROW),
    "nested": (lambda: nn.Sequential(nn.Sequential(WithDefaults()), nn.ModuleList([nn.Linear(3, 3)])[0]), ROW),
    "layer used twice": (
        lambda: Written(
            lambda self, x: self.out(torch.relu(self.one(torch.relu(self.one(x))))),
            one=nn.Linear(6, 6),
            out=nn.Linear(6, CLASSES),
        ),
        ROW,
    ),
    "residual": (
        lambda: Written(
            lambda self, x: self.out(x + 0.5 * self.two(torch.tanh(self.one(x))) - F.relu(x)),
            one=nn.Linear(6, 4),
            two=nn.Linear(4, 6),
            out=nn.Linear(6, CLASSES),
        ),
        ROW,
    ),
    "parameters and buffers in the graph": (
        lambda: Written(
            lambda self, x: (
                F.linear(x * self.scale - self.mean, self.weight * self.mask, self.bias) / self.scale.norm()
            ),
            scale=parameter(6),
            weight=parameter(CLASSES, 6),
            bias=parameter(CLASSES),
            mean=torch.linspace(-1, 1, 6),
            mask=torch.arange(18.0).reshape(CLASSES, 6) % 2,
        ),
        ROW,
    ),
    "linear on sequences": (
        lambda: nn.Sequential(
            nn.Linear(4, 5), nn.ReLU(), nn.LayerNorm((5, 5)), nn.Linear(5, 2), nn.Flatten(), nn.Linear(10, 3)
        ),
        SEQUENCE,
    ),
    "LeNet": (
        lambda: images(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 5, 3),
            nn.Sigmoid(),
            nn.AvgPool2d(2, 2),
            width=5,
        ),
        IMAGE,
    ),
    "VGG": (
        lambda: images(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(3, 4, 3, padding="same"),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 4, (3, 1), stride=(1, 2), dilation=(1, 1), padding=(1, 0), groups=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
            width=8,
        ),
        IMAGE,
    ),
    "ResNet": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            Block2d(3, 3, 1),
            Block2d(3, 4, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, CLASSES),
        ),
        IMAGE,
    ),
    "norm of what is read again": (
        lambda: Written(
            lambda self, x: self.out((F.relu(self.norm(_first_of_two(self, x))) * self.norm(self.one(x))).flatten(1)),
            one=nn.Conv2d(2, 4, 3),
            norm=nn.BatchNorm2d(4, affine=False),
            out=nn.Linear(144, CLASSES),
        ),
        IMAGE,
    ),
    "activations of what is read again": (
        lambda: Written(
            lambda self, x: _activated_and_read_again(self.one(x)),
            one=nn.Linear(6, CLASSES),
        ),
        ROW,
    ),
    "group norm": (
        lambda: images(
            nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
            nn.GroupNorm(2, 4),
            nn.SiLU(),
            nn.Conv2d(4, 4, 3, dilation=2, bias=False),
            nn.InstanceNorm2d(4, affine=True),
            nn.AdaptiveMaxPool2d(2),
            width=16,
        ),
        IMAGE,
    ),
    "one dimension": (
        lambda: images(
            nn.Conv1d(2, 4, 3, stride=2),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(4, 3, 1),
            nn.InstanceNorm1d(3, track_running_stats=True),
            width=6,
        ),
        SIGNAL,
    ),
    "three dimensions": (
        lambda: images(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2), width=32),
        VOLUME,
    ),
    "transformer": (
        lambda: Written(
            lambda self, x: self.out(self.encoder(self.inner(x)).mean(1)),
            inner=nn.Linear(4, 8),
            encoder=encoder(norm_first=False),
            out=nn.Linear(8, CLASSES),
        ),
        SEQUENCE,
    ),
    "transformer, norm first, masked": (
        lambda: Written(
            lambda self, x: self.out(self.encoder(self.inner(x), mask=self.mask, is_causal=True)[:, -1]),
            inner=nn.Linear(4, 8),
            encoder=encoder(norm_first=True),
            out=nn.Linear(8, CLASSES),
            mask=nn.Transformer.generate_square_subsequent_mask(5),
        ),
        SEQUENCE,
    ),
    "attention by hand": (Attention, SEQUENCE),
    "attention and its weights": (
        lambda: Written(
            lambda self, x: self.out(
                torch.cat([t.flatten(1) for t in self.heads(x, x, x, attn_mask=self.mask[:5, :5])], 1)
            ),
            heads=nn.MultiheadAttention(4, 2, batch_first=True),
            out=nn.Linear(45, CLASSES),
            mask=CAUSAL,
        ),
        SEQUENCE,
    ),
    "cross attention by learned queries": (
        lambda: Written(
            lambda self, x: self.out(self.heads(self.query.expand(x.size(0), -1, -1), x, x)[0].mean(1)),
            query=parameter(1, 2, 4),
            heads=nn.MultiheadAttention(4, 2, batch_first=True, bias=False),
            out=nn.Linear(4, CLASSES),
        ),
        SEQUENCE,
    ),
    "cross attention of other widths": (
        lambda: Written(
            lambda self, x: self.out(self.heads(self.inner(x), x, 2 * x, need_weights=False)[0].flatten(1)),
            inner=nn.Linear(4, 6),
            heads=nn.MultiheadAttention(6, 2, kdim=4, vdim=4, batch_first=True),
            out=nn.Linear(30, CLASSES),
        ),
        SEQUENCE,
    ),
    "embedding": (Embedded, WORDS),
    "hooks": (
        lambda: Written(
            lambda self, x: self.out(x),
            out=_with_hook(nn.Linear(6, CLASSES), lambda layer, inputs, outputs: 2 * outputs),
        ),
        ROW,
    ),
}


def _first_of_two(self, x):
    hidden = self.one(x)
    return self.norm(hidden) + hidden


def _activated_and_read_again(h):
    return F.relu(h) + torch.tanh(h) * torch.sigmoid(h) + h


OF_NN = """
    CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish PReLU RReLU ReLU ReLU6 SELU SiLU
    Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink
"""
IN_PLACE = "ReLU ReLU6 LeakyReLU ELU SELU CELU SiLU Mish Hardtanh Hardswish"
ACTIVATIONS = {
    **{name: (lambda name=name: getattr(nn, name)()) for name in OF_NN.split()},
    "tanh GELU": lambda: nn.GELU("tanh"),
    "PReLU by channel": lambda: nn.PReLU(5),
    "Threshold": lambda: nn.Threshold(0.1, 0.2),
    "Softmax": lambda: nn.Softmax(dim=1),
    "LogSoftmax": lambda: nn.LogSoftmax(dim=-1),
    "Softmin": lambda: nn.Softmin(dim=1),
    "Identity": nn.Identity,
    **{f"{name} in place": (lambda name=name: getattr(nn, name)(inplace=True)) for name in IN_PLACE.split()},
}


# --------------------------------------------------------------------------------------------------------------
# The same numbers as the plain loop
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    torch.manual_seed(0)
    make, inputs = NETWORKS[name]
    module = settled(make())
    plain, wide, vectors = compare(module, inputs, classes(), F.cross_entropy)
    values, shares = wide.accuracies(vectors, (inputs, classes()))
    close(values, wide.values(vectors, (inputs, classes())))
    with torch.no_grad():
        outputs = [functional_call(module, plain.model.named(vector), (inputs,)) for vector in vectors]
    np.testing.assert_allclose(shares, [(out.argmax(1) == classes()).double().mean() for out in outputs])


@pytest.mark.parametrize("name", ["LeNet", "VGG", "ResNet", "group norm", "one dimension", "three dimensions"])
def test_networks_where_pooling_is_not_compiled(name, monkeypatch):
    """Pooling as on an accelerator, by torch."""
    monkeypatch.setattr(pooling, "is_compiled", lambda x: False)
    test_networks(name)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    torch.manual_seed(0)
    module = settled(nn.Sequential(ACTIVATIONS[name](), nn.Linear(6, 5), ACTIVATIONS[name](), nn.Linear(5, CLASSES)))
    if name == "PReLU by channel":
        module = settled(nn.Sequential(nn.Linear(6, 5), nn.PReLU(5), nn.Linear(5, CLASSES)))
    # Torch has no second derivative of this one.
    compare(module, ROW, classes(), F.cross_entropy, twice=name != "Hardsigmoid")


def test_float32_within_its_noise():
    torch.manual_seed(0)
    for make, inputs in (NETWORKS["ResNet"], NETWORKS["transformer"], NETWORKS["MLP"]):
        exact = Plain(settled(make()), F.cross_entropy)
        module = settled(make()).float()
        module.load_state_dict(exact.module.state_dict())
        rough = Plain(module, F.cross_entropy)
        vectors = exact.near().float()
        values, slopes, _ = exact.gradients(vectors.double(), vectors.double(), (inputs, classes()))
        wide = Wide(rough.model, F.cross_entropy, F.cross_entropy, rough.at)
        found, gradients = wide.gradients(vectors, (inputs.float(), classes()))
        assert gradients.dtype == torch.float32
        close(found, values, 3e-6)
        close(gradients, slopes, 3e-5)


# --------------------------------------------------------------------------------------------------------------
# In use
# --------------------------------------------------------------------------------------------------------------


def test_a_landscape_takes_the_wide_form():
    torch.manual_seed(0)
    gelu = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3)).double()
    for module, inputs in ((gelu, ROW), (settled(NETWORKS["VGG"][0]()), IMAGE), (settled(Embedded()), WORDS)):
        landscape = landscape_of(module, inputs)
        assert landscape.engine.form() == "wide"
        points = landscape.point + 0.3 * np.random.default_rng(1).normal(size=(5, landscape.dimension))
        for form in ("vmap", "loop"):
            np.testing.assert_allclose(landscape.values(points), landscape.engine.values(points, form=form), rtol=1e-12)
