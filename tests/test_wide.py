"""The wide form gives the numbers of a plain loop in float64, or says that it does not know."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import topolandscape as tl
from topolandscape.landscape import pooling
from topolandscape.landscape.layers import RULES
from topolandscape.landscape.pure import Block, Model
from topolandscape.landscape.stacked import NotWide, Stacked
from topolandscape.landscape.wide import Wide

ROWS = 7
CLASSES = 3


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ROW = draw(ROWS, 6)
SEQUENCE = draw(ROWS, 5, 4)
SIGNAL = draw(ROWS, 2, 12)
IMAGE = draw(ROWS, 2, 8, 8)
VOLUME = draw(ROWS, 2, 4, 4, 4)
WORDS = torch.randint(7, (ROWS, 5), generator=torch.Generator().manual_seed(1))

# --------------------------------------------------------------------------------------------------------------
# Modules
# --------------------------------------------------------------------------------------------------------------


class Written(nn.Module):
    """A module with parts that a function uses."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            if isinstance(part, nn.Parameter) or not isinstance(part, torch.Tensor):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x):
        return self.function(self, x)


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


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


def _with_hook(module, hook):
    module.register_forward_hook(hook)
    return module


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


def settled(module, seed=0):
    """Return the module in eval mode and float64, with statistics of norms that are not those of the start."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if getattr(part, "running_mean", None) is not None:
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
    return module.eval().double()


# --------------------------------------------------------------------------------------------------------------
# Plain loops, and the comparison with them
# --------------------------------------------------------------------------------------------------------------


class Plain:
    """A module's loss at one vector after the other."""

    def __init__(self, module, loss, names=None):
        self.module, self.loss = module, loss
        sizes = {n: p.numel() for n, p in module.named_parameters() if names is None or n in names}
        ends = list(itertools.accumulate(sizes.values(), initial=0))
        shapes = {n: tuple(p.shape) for n, p in module.named_parameters()}
        self.model = Model(
            module, tuple(Block(n, slice(*ends[i : i + 2]), shapes[n]) for i, n in enumerate(sizes)), frozenset()
        )
        self.own = torch.tensor(self.model.flat(module), dtype=next(module.parameters()).dtype)

    def near(self, count=3):
        return self.own + 0.3 * draw(count, len(self.own)).to(self.own)

    def at(self, vector, data):
        return self.loss(functional_call(self.module, self.model.named(vector), (data[0].clone(),)), *data[1:])

    def gradients(self, vectors, directions, data):
        """Return values, gradients, and Hessians times directions."""
        found = []
        for vector, direction in zip(vectors, directions, strict=True):
            leaf = vector.clone().requires_grad_()
            with sdpa_kernel(SDPBackend.MATH):
                value = self.at(leaf, data)
                (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
                product = torch.zeros_like(leaf)
                if slope.requires_grad:
                    (product,) = torch.autograd.grad((slope * direction).sum(), leaf, materialize_grads=True)
            found.append((value.detach(), slope.detach(), product))
        return [torch.stack(part) for part in zip(*found, strict=True)]


def close(actual, expected, tolerance=1e-11):
    scale = float(expected.abs().max())
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)


def compare(module, inputs, targets, loss, *, weights=(), score=None, names=None, twice=True):
    plain = Plain(module, loss, names)
    wide = Wide(plain.model, loss, score or loss, plain.at)
    data, before = (inputs, targets, *weights), inputs.clone()
    vectors = plain.near()
    directions = draw(*vectors.shape, seed=2)
    if twice:
        values, slopes, products = plain.gradients(vectors, directions, data)
        close(wide.products(vectors, directions, data), products)
        at_one = plain.gradients(vectors[:1].expand_as(vectors), directions, data)[2]
        close(wide.products(vectors[0], directions, data), at_one)
    else:
        values = torch.stack([plain.at(vector, data).detach() for vector in vectors])
        slopes = torch.stack([torch.func.grad(plain.at)(vector, data) for vector in vectors])
    close(wide.values(vectors, data), values)
    again, gradients = wide.gradients(vectors, data)
    assert wide.values(vectors, data).dtype == again.dtype == torch.float64
    assert gradients.dtype == vectors.dtype
    close(again, values)
    close(gradients, slopes)
    one, slope = wide.gradients(vectors[:1], data)
    close(one, values[:1])
    close(slope, slopes[:1])
    assert torch.equal(inputs, before)
    return plain, wide, vectors


def classes(rows=ROWS):
    return torch.randint(CLASSES, (rows,), generator=torch.Generator().manual_seed(3))


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


# --------------------------------------------------------------------------------------------------------------
# Functions and methods, by their spellings
# --------------------------------------------------------------------------------------------------------------

# Of h (rows, 4, 3), which differs from vector to vector, and parameters p (3,), q (4, 3), u (1, 4, 1), m (3, 2).
EXPRESSIONS = {
    "view": lambda s, h: h.view(h.size(0), -1),
    "view of given sizes": lambda s, h: h.view(-1, 2, 6),
    "reshape": lambda s, h: torch.reshape(h, h.shape[:1] + s.q.T.shape),
    "shape of the rest": lambda s, h: h.transpose(1, 2).reshape(h.shape[0], math.prod(h.shape[1:])),
    "view_as": lambda s, h: h.view_as(h.transpose(1, 2)),
    "flatten": lambda s, h: torch.flatten(h, 1),
    "flatten, unflatten": lambda s, h: h.flatten(1, -1).unflatten(-1, (3, -1)),
    "permute": lambda s, h: h.permute(0, 2, 1),
    "permute a tuple": lambda s, h: torch.permute(h, (0, -1, 1)),
    "transpose": lambda s, h: h.transpose(-1, 1) + torch.transpose(h, 2, 1) + h.swapaxes(1, -1) + h.mT,
    "movedim": lambda s, h: h.movedim(1, -1) + torch.movedim(h, (1, 2), (2, 1)),
    "unsqueeze": lambda s, h: h.unsqueeze(-1) + torch.unsqueeze(h, 1).movedim(1, -1) * h[:, :, :, None],
    "squeeze": lambda s, h: h[:, :1].squeeze(1) + h[:, 2:3].squeeze() + h[:, 3:, None].squeeze((1, 2)),
    "index": lambda s, h: h[:, 1] + h[:, -1] + h[..., 0, :] + h[:, 1:3].sum(1),
    "index by several": lambda s, h: h[:, 1:, ::2] + h[:, :-1, [0, 2]] + h[:, None, 0, None, :2].squeeze(1),
    "index by a buffer": lambda s, h: h[:, s.order] + h.index_select(1, s.order),
    "ellipsis and none": lambda s, h: h[..., None, :] + h[:, :, None],
    "slice by a size": lambda s, h: h[:, : h.size(2)] * s.q[: h.size(2)],
    "chunk": lambda s, h: h.chunk(2, 1)[0] * torch.chunk(h, 2, dim=1)[1],
    "split": lambda s, h: torch.split(h, [1, 3], 1)[0] + h.split(1, dim=2)[2],
    "unbind": lambda s, h: torch.stack(h.unbind(2)[::2], -1) + h.unbind(dim=1)[0][:, None, :2],
    "several results": lambda s, h: _sum_of_halves(h),
    "cat": lambda s, h: torch.cat((h, h.new_zeros(h.shape[0], 1, 3), s.u.expand(h.shape[0], 4, 3)), dim=1),
    "cat of constants": lambda s, h: torch.cat([h, torch.zeros_like(h), 2 * torch.ones_like(h[..., :1])], -1),
    "stack": lambda s, h: torch.stack([h, 2 * h], -1) + torch.stack([h, h * h], 1).permute(0, 2, 3, 1),
    "expand": lambda s, h: h[:, :, :1].expand(-1, -1, 5) + h[:, :1, :1].expand(h.size(0), 4, 5) + s.u.expand(-1, 4, 5),
    "expand_as": lambda s, h: s.p.expand_as(h) * h,
    "repeat": lambda s, h: h.repeat(1, 2, 1) + s.q.repeat(2, 1) + s.u.repeat(h.shape[0], 2, 1),
    "flip, roll": lambda s, h: h.flip(1, 2) + torch.flip(h, [-1]) + h.roll(1, 1) + torch.roll(h, (1, 2), (1, 2)),
    "narrow, select": lambda s, h: h.narrow(1, 1, 2) + h.select(-1, 0)[:, 2:, None],
    "sum, mean": lambda s, h: h.sum(1) + h.mean((1,)) + torch.sum(h, dim=1) + h.mean(dim=[1, 2])[:, None],
    "keepdim": lambda s, h: h - h.mean(-1, keepdim=True) + h.sum((1, 2), True) + torch.mean(h, 1, True),
    "amax, amin": lambda s, h: h.amax(1) - h.amin(dim=-1)[:, :3] + torch.amax(h, (1, 2), keepdim=True)[:, 0],
    "max along": lambda s, h: h.max(1)[0] + torch.max(h, dim=1).values + h.min(dim=-1, keepdim=True)[0][:, :3, 0],
    "max of two": lambda s, h: torch.max(h, s.q) + torch.maximum(h, 2 * h) + torch.min(h, -h),
    "variance": lambda s, h: h.var(1) + h.std(dim=1) + h.var(-1, unbiased=False)[:, :3] + torch.var(h, 1, correction=0),
    "norms": lambda s, h: h.norm(dim=1) + h.norm(2, -1)[:, :3] + torch.linalg.vector_norm(h, dim=1),
    "normalize": lambda s, h: F.normalize(h, dim=-1) + F.normalize(h),
    "logsumexp": lambda s, h: h.logsumexp(1) + torch.logsumexp(h, (1, 2))[:, None],
    "cumsum, prod": lambda s, h: (
        h.cumsum(1) + torch.cumsum(h, -1) + h.prod(1, keepdim=True) + h.diff(dim=1).sum(1)[:, None]
    ),
    "softmax": lambda s, h: h.softmax(1) + F.softmax(h, dim=-1) + torch.log_softmax(h, -1) + F.softmin(h, dim=1),
    "glu": lambda s, h: F.glu(h, dim=1),
    "parameter statistics": lambda s, h: h * s.q.mean() + s.q.sum(0) - s.p.max() + s.m.flatten()[0] + s.q.std(),
    "arithmetic": lambda s, h: (2 - h) * h / (3 + h.square()) + h**2 - -h + 1 / (2 + h * h),
    "with parameters": lambda s, h: (h + s.p) * s.q - s.u + s.p / (2 + s.q**2),
    "methods": lambda s, h: h.add(s.p).mul(s.q).sub(1, alpha=2).div(3).pow(2).neg().abs().clamp(min=0.1, max=4.0),
    "functions": lambda s, h: torch.add(h, s.p, alpha=2) + torch.mul(s.q, h) + torch.sub(h, 1) + torch.square(h),
    "elementwise": lambda s, h: h.exp().log1p() + torch.sin(h) * h.cos() + torch.sqrt(h * h + 1).rsqrt() + h.erf(),
    "where": lambda s, h: (
        torch.where(h > s.p, h, s.q) + h.where(h < 0, 0.1) + (h >= 0).double() + h.masked_fill(h != h, 1)
    ),
    "masked by a buffer": lambda s, h: h.masked_fill(s.order[:3] == 2, -1.0) + torch.lerp(h, s.q, 0.3),
    "sizes": lambda s, h: h * h.size(1) / h.ndim + h.dim() + h.shape[2] // 2 + h.numel() / h.shape[0],
    "matmul": lambda s, h: h @ s.m + torch.matmul(h, s.m) + h.matmul(s.q.T @ s.q @ s.m) + (s.q @ s.m),
    "matmul of a vector": lambda s, h: h @ s.p + torch.matmul(h, s.p),
    "matmul from the left": lambda s, h: s.q.t() @ h + s.q.mT @ h,
    "products of rows": lambda s, h: (
        h @ h.transpose(1, 2) + torch.bmm(h, h.mT) + torch.baddbmm(h @ h.mT, h, h.mT, beta=2)
    ),
    "addmm": lambda s, h: torch.addmm(s.p[:2], h[:, 0], s.m, alpha=2),
    "einsum": lambda s, h: torch.einsum("bij,bkj->bik", h, h) @ torch.einsum("bij,jk->bik", h, s.m),
    "einsum that sums": lambda s, h: torch.einsum("bij,bij,ij->b", h, h, s.q) + torch.einsum("ij->", s.q),
    "pad": lambda s, h: F.pad(h, (1, 2)) + F.pad(h, (1, 2), value=3.0) + F.pad(h, (1, 2), mode="reflect"),
    "pad two": lambda s, h: F.pad(h, (0, 1, 2, 0)),
    "pooling by one": lambda s, h: F.max_pool1d(h, 2) + F.avg_pool1d(h, 2) + F.adaptive_avg_pool1d(h, 1),
    "pooling that overlaps": lambda s, h: F.max_pool1d(h, 2, 1) + F.avg_pool1d(h, 2, 1) + F.adaptive_max_pool1d(h, 2),
    "pooling of images": lambda s, h: (
        F.avg_pool2d(h[:, None], 2) + F.max_pool2d(h[:, None], (2, 1), (2, 2), 0)[..., :1]
    ),
    "odd pooling": lambda s, h: F.avg_pool2d(h[:, None], 3, 2, 1, True, False) + F.lp_pool2d(h[:, None], 2.0, (4, 3)),
    "pooling of parameters": lambda s, h: h + F.interpolate(s.u.reshape(1, 2, 2), scale_factor=2)[0, 0, :, None],
    "adaptive pooling": lambda s, h: (
        F.adaptive_avg_pool2d(h[:, None], (2, None)) + F.adaptive_avg_pool2d(h[:, None], (3, 2))[:, :, :2, :1]
    ),
    "interpolate": lambda s, h: F.interpolate(h, size=5, mode="linear") + F.interpolate(h, scale_factor=2)[..., 1:],
    "shuffles": lambda s, h: F.pixel_shuffle(h[:, :, None], 2) + F.pixel_unshuffle(h[:, None, :, :2], 2)[:, :1, :1],
    "unfold": lambda s, h: F.unfold(h[:, None], 2) + F.fold(F.unfold(h[:, None], 2), (4, 3), 2).flatten(1)[:, :4, None],
    "local response": lambda s, h: F.local_response_norm(h, 2),
    "prelu": lambda s, h: F.prelu(h, s.q[:, 0]),
    "attention": lambda s, h: F.scaled_dot_product_attention(h, 2 * h, h * s.p, scale=0.3, is_causal=True),
    "attention of heads": lambda s, h: F.scaled_dot_product_attention(
        h[:, None], h[:, None], s.q.expand(h.size(0), 1, 4, 3), s.q @ s.q.T
    ),
    "conversions": lambda s, h: (
        h.to(torch.float64) + h.double() + h.type_as(h) + h.to(s.p) + h.detach() + h.clone().contiguous()
    ),
    "nothing but parameters": lambda s, h: F.linear(s.q, s.m.T).sum() + F.layer_norm(s.q, (3,)) + F.relu(s.q) + 0 * h,
    "math": lambda s, h: h / math.sqrt(h.size(-1)) + torch.arange(h.shape[2]) * math.pi,
    "in place": lambda s, h: _changed_in_place(h * 1),
    "in place under the old name": lambda s, h: _changed_and_forgotten(h * 1),
    "in place by an operator, under the old name": lambda s, h: _changed_by_operators(h * 1),
    "in place, then read again": lambda s, h: F.relu(h * 1 + s.p, inplace=True) + h,
}


def _sum_of_halves(h):
    one, two = h.split(2, dim=1)
    low, high = two.chunk(2, dim=1)
    return one + low * high


def _changed_in_place(h):
    h.add_(1).mul_(0.5)
    h += h.detach().cos()
    h *= 2
    h -= 1
    h /= 3
    return h.tanh_()


def _changed_by_operators(h):
    one, copied = h, h.clone()
    h += 1
    two = h
    h *= 2
    h /= copied.square() + 1
    return one * two + h * copied


def _changed_and_forgotten(h):
    h.mul_(3)
    other = h.exp()
    h.add_(2)
    return h + other


def loss_of_all(outputs, targets):
    """Return a loss in which every output counts in another way."""
    flat = outputs.reshape(len(outputs), -1)
    return (flat * torch.linspace(-1, 2, flat.shape[1], dtype=flat.dtype) - targets[:, None]).sin().mean()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_functions(name):
    torch.manual_seed(0)
    module = Written(
        lambda self, x: EXPRESSIONS[name](self, self.layer(x).view(x.size(0), 4, 3)),
        layer=nn.Linear(6, 12),
        p=parameter(3),
        q=parameter(4, 3),
        u=parameter(1, 4, 1),
        m=parameter(3, 2),
        order=torch.tensor([2, 0, 3, 1]),
    )
    compare(module.double(), ROW, draw(ROWS, seed=4), loss_of_all)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_pooling_of_any_geometry(dimensions, seed):
    """Entries are small whole numbers, so that many are equal: the gradient must go where torch sends it."""
    rng = np.random.default_rng([dimensions, seed])
    size = tuple(rng.integers(4, 8, dimensions).tolist())
    x = torch.tensor(rng.integers(-2, 3, (2, 3, *size, ROWS)), dtype=torch.float64).requires_grad_()
    kernel, stride = (tuple(rng.integers(1, 4, dimensions).tolist()) for _ in range(2))
    padding = tuple(int(rng.integers(0, taps // 2 + 1)) for taps in kernel)
    ceil, outputs = bool(rng.integers(2)), tuple(rng.integers(1, 4, dimensions).tolist())
    dilation = 1 if ceil else int(rng.integers(1, 3))
    if any(dilation * (taps - 1) >= whole for taps, whole in zip(kernel, size, strict=True)):
        dilation = 1
    divisor = {} if dimensions == 1 or seed % 2 else {"divisor_override": 3}
    calls = {
        "max_pool": {
            "kernel_size": kernel,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": ceil,
        },
        "avg_pool": {"kernel_size": kernel, "padding": padding, "ceil_mode": ceil, "count_include_pad": seed > 5}
        | divisor,
        "adaptive_max_pool": {"output_size": outputs},
        "adaptive_avg_pool": {"output_size": outputs},
    }
    for name, options in calls.items():
        function = getattr(F, f"{name}{dimensions}d")
        rows_first = x.movedim(-1, 1).flatten(0, 1)
        expected = function(rows_first, **options).unflatten(0, (2, ROWS)).movedim(1, -1)
        found = RULES[function](Stacked(x, rows=True), **options).tensor
        close(found.detach(), expected.detach())
        bar, along = draw(*found.shape, seed=seed).requires_grad_(), draw(*x.shape, seed=seed)
        slopes = [torch.autograd.grad(value, x, bar, create_graph=True)[0] for value in (found, expected)]
        close(slopes[0].detach(), slopes[1].detach())
        close(*(torch.autograd.grad(slope, bar, along)[0] for slope in slopes))
        assert torch.equal(RULES[function](Stacked(x.detach(), rows=True), **options).tensor, found.detach())


def test_weight_norm_against_differences():
    # Torch's own second derivative of its fused weight norm is wrong, so products are compared with differences.
    torch.manual_seed(0)
    module = settled(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 3)))
    _, wide, vectors = compare(module, ROW, classes(), F.cross_entropy, twice=False)
    directions, data = draw(*vectors.shape, seed=2), (ROW, classes())
    ahead, behind = (wide.gradients(vectors + step * directions, data)[1] for step in (1e-5, -1e-5))
    close(wide.products(vectors, directions, data), (ahead - behind) / 2e-5, 1e-7)


# --------------------------------------------------------------------------------------------------------------
# Losses, weights, fixed parameters, precision
# --------------------------------------------------------------------------------------------------------------


def mlp(outputs=CLASSES):
    torch.manual_seed(0)
    return settled(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, outputs)))


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


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("size", [2, (3, 4), (4, 1)])
def test_the_same_padding_of_even_kernels(size):
    module = nn.Sequential(nn.Conv2d(2, CLASSES, size, padding="same", dilation=(1, 3)), nn.Flatten())
    compare(module.double(), IMAGE, draw(ROWS, seed=6), loss_of_all)


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


def test_outputs_that_depend_on_no_varying_parameter():
    module = Written(lambda self, x: F.linear(x, self.weight), weight=torch.ones(3, 6), other=parameter(2))
    plain = Plain(module.double(), F.cross_entropy)
    wide = Wide(plain.model, F.cross_entropy, F.cross_entropy, plain.at)
    values, gradients = wide.gradients(plain.near(), (ROW, classes()))
    close(values, plain.at(plain.own, (ROW, classes())).expand(3))
    assert gradients.shape == (3, 2)
    assert not gradients.any()
    assert not wide.products(plain.near(), plain.near(), (ROW, classes())).any()


# --------------------------------------------------------------------------------------------------------------
# What is not known
# --------------------------------------------------------------------------------------------------------------


def control_flow(self, x):
    out = self.layer(x)
    return out if out.sum() > 0 else -out


def read_by_another_name(self, x):
    hidden = self.layer(x)
    part = hidden[:, :2]
    hidden.relu_()
    return part


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


# Refused when made: modules that cannot be traced, or call what has no rule.
REFUSED = {
    "control flow": (lambda: Written(control_flow, layer=nn.Linear(6, 3)), ROW),
    "RNN": (Recurrent, SEQUENCE),
    "batch norm in train mode": (lambda: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)).train(), ROW),
    "batch norm without statistics": (lambda: nn.BatchNorm1d(6, track_running_stats=False), ROW),
    "dropout in train mode": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout()).train(), ROW),
    "attention in train mode": (lambda: nn.TransformerEncoderLayer(4, 2, 4, batch_first=True).train(), SEQUENCE),
    "rows second": (lambda: nn.TransformerEncoderLayer(4, 2, 4), SEQUENCE),
    "hooks of what is not traced": (lambda: _with_hook(nn.BatchNorm1d(6), lambda *_: None), ROW),
    "changed under another name": (lambda: Written(read_by_another_name, layer=nn.Linear(6, 4)), ROW),
    "unknown function": (lambda: Written(lambda self, x: self.layer(x).sort(1)[0], layer=nn.Linear(6, 3)), ROW),
    "random": (lambda: Written(lambda self, x: self.layer(x) + torch.randn_like(x), layer=nn.Linear(6, 6)), ROW),
    "number of rows": (lambda: Written(lambda self, x: self.layer(x) * len(x), layer=nn.Linear(6, 6)), ROW),
}
# Refused at the first evaluation.
OVER_ROWS = {
    "sum over rows": lambda h: h - h.mean(0),
    "sum over all": lambda h: h * h.sum(),
    "largest of all": lambda h: h / h.max(),
    "softmax over rows": lambda h: h.softmax(0),
    "cumulative sum over rows": lambda h: h.cumsum(0),
    "flip of rows": lambda h: h.flip(0),
    "flip of all": lambda h: h.flip(1, 0),
    "roll of all": lambda h: h.roll(1),
    "first row": lambda h: h + h[0],
    "some rows": lambda h: h + h[:1],
    "indices apart": lambda h: h.view(-1, 2, 3, 1)[:, [0, 1], :, 0],
    "rows by a mask": lambda h: h[torch.arange(h.shape[0]) > 0],
    "products of rows": lambda h: h @ h.T,
    "products from the left": lambda h: torch.ones(1, ROWS).double() @ h,
    "einsum over rows": lambda h: torch.einsum("bi,bj->ij", h, h),
    "einsum that moves rows": lambda h: torch.einsum("bi->ib", h),
    "rows taken apart": lambda h: h.view(-1, 3),
    "rows joined": lambda h: h.flatten(),
    "rows moved": lambda h: h.transpose(0, 1),
    "rows permuted": lambda h: h.permute(1, 0),
    "rows repeated": lambda h: h.repeat(2, 1),
    "rows side by side": lambda h: torch.cat([h, h]),
    "rows split": lambda h: h.split(1)[0],
    "a dimension before the rows": lambda h: h.unsqueeze(0),
    "rows against columns": lambda h: h[:, :, None] + h,
    "rows padded": lambda h: F.pad(h, (0, 0, 0, 1)),
    "norm over rows": lambda h: F.normalize(h, dim=0),
    "layer norm over rows": lambda h: F.layer_norm(h, (ROWS, 6)),
    "batch norm": lambda h: F.batch_norm(h, None, None, training=True),
    "dropout": lambda h: F.dropout(h),
    "convolution along rows": lambda h: F.conv1d(h, torch.ones(6, 6, 1).double()),
    "instance norm without rows": lambda h: nn.InstanceNorm1d(7)(h),
    "instance norm of an image without rows": lambda h: nn.InstanceNorm2d(7)(h.view(-1, 2, 3)),
    "embedding of what differs": lambda h: F.embedding(h.argmax(1), torch.ones(6, 2).double()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_made(name):
    make, _ = REFUSED[name]
    module = make()
    if "train" not in name:
        module.eval()
    plain = Plain(module.double(), F.cross_entropy)
    with pytest.raises(NotWide):
        Wide(plain.model, F.cross_entropy, F.cross_entropy, plain.at)


@pytest.mark.parametrize("name", OVER_ROWS)
def test_refused_when_evaluated(name):
    module = Written(lambda self, x: OVER_ROWS[name](self.layer(x)), layer=nn.Linear(6, 6)).double()
    plain = Plain(module, loss_of_all)
    wide = Wide(plain.model, loss_of_all, loss_of_all, plain.at)
    with pytest.raises(NotWide):
        wide.values(plain.near(), (ROW, draw(ROWS)))


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


def landscape_of(module, inputs=ROW, *, loss=F.cross_entropy, targets=None, **options):
    return tl.Landscape.from_module(module, inputs, classes() if targets is None else targets, loss=loss, **options)


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


def test_a_landscape_takes_the_wide_form():
    torch.manual_seed(0)
    gelu = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3)).double()
    for module, inputs in ((gelu, ROW), (settled(NETWORKS["VGG"][0]()), IMAGE), (settled(Embedded()), WORDS)):
        landscape = landscape_of(module, inputs)
        assert landscape.engine.form() == "wide"
        points = landscape.point + 0.3 * np.random.default_rng(1).normal(size=(5, landscape.dimension))
        for form in ("vmap", "loop"):
            np.testing.assert_allclose(landscape.values(points), landscape.engine.values(points, form=form), rtol=1e-12)


def test_a_landscape_takes_another_form_where_this_is_not_known():
    torch.manual_seed(0)
    over_rows = Written(lambda self, x: self.layer(x) - self.layer(x).mean(0), layer=nn.Linear(6, 3)).double()
    for module, inputs in ((settled(Recurrent()), SEQUENCE), (over_rows, ROW)):
        landscape = landscape_of(module, inputs)
        assert landscape.engine.form() != "wide"
        points = landscape.point + 0.3 * np.random.default_rng(1).normal(size=(5, landscape.dimension))
        np.testing.assert_allclose(landscape.values(points), landscape.engine.values(points, form="loop"), rtol=1e-12)


def test_squared_error_and_weight_decay():
    landscape = landscape_of(mlp(2), loss=F.mse_loss, targets=draw(ROWS, 2), weight_decay=0.1)
    landscape.engine.only("wide")
    points = np.random.default_rng(0).normal(size=(6, landscape.dimension))
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(values, landscape.engine.values(points, form="loop"), rtol=1e-12)
    np.testing.assert_allclose(gradients, by_differences(landscape, points), rtol=1e-5, atol=1e-7)
