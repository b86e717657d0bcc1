"""Small modules of every kind, and losses to be taken of them."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROWS = 12
FORMS = ["dense", "wide", "vmap", "loop"]


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Buffered(nn.Module):
    """A buffer of floats and one of integers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.register_buffer("scale", torch.linspace(0.5, 2.0, 6))
        self.register_buffer("order", torch.tensor([5, 4, 3, 2, 1, 0]))

    def forward(self, x):
        return self.layer(x * self.scale)[:, self.order]


class Branching(nn.Module):
    """Control flow that depends on the parameters: nothing for vmap."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        y = self.layer(x)
        return y.sin() if y.sum() > 0 else y.cos()


class Recurrent(nn.Module):
    """An LSTM over two steps."""

    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(3, 4, batch_first=True)
        self.out = nn.Linear(4, 6)

    def forward(self, x):
        return self.out(self.cells(x.view(-1, 2, 3))[0][:, -1])


class Overwriting(nn.Module):
    """Changes its inputs in place."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        x.mul_(0.5)
        return self.layer(x).relu_()


class Attention(nn.Module):
    """One layer of a transformer on six numbers."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(1, 4)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.out = nn.Linear(4, 6)

    def forward(self, x):
        return self.out(self.layer(self.up(x[:, :, None])).mean(dim=1))


def convolutional():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 3, 2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6, 6),
    )


def normalised():
    module = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 6))
    module(torch.randn(20, 6))
    return module.eval()


MODULES = {
    "relu": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 6)), "dense"),
    "relu in place": (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, 6)), "dense"),
    "tanh": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 6)), "dense"),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 6)), "wide"),
    "convolutions": (convolutional, "dense"),
    "batch norm": (normalised, "dense"),
    "tied": (Tied, "dense"),
    "buffers": (Buffered, "wide"),
    "attention": (Attention, "wide"),
    "overwriting": (Overwriting, "wide"),
    "branching": (Branching, "loop"),
    "recurrent": (Recurrent, "loop"),
}
TASKS = {
    "classes": (F.cross_entropy, torch.tensor([0, 1, 2, 3, 4, 5] * 2)),
    "numbers": (nn.MSELoss(), torch.linspace(-1, 1, 6 * ROWS).reshape(ROWS, 6)),
}


def near(point, n=5, scale=0.3):
    return point + scale * np.random.default_rng(3).normal(size=(n, len(point)))


def outputs_at(landscape, points, inputs):
    return [landscape.module_at(point)(inputs).detach() for point in points]


def state(module):
    entries = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    flags = [(p.requires_grad, p.grad) for p in module.parameters()]
    modes = [part.training for part in module.modules()]
    return entries, flags, modes


def assert_same_state(module, before):
    entries, flags, modes = before
    assert module.state_dict().keys() == entries.keys()
    assert all(torch.equal(tensor, entries[name]) for name, tensor in module.state_dict().items())
    assert [(p.requires_grad, p.grad) for p in module.parameters()] == flags
    assert [part.training for part in module.modules()] == modes


def camel(x):
    return 2 * x[:, 0] ** 2 - 1.05 * x[:, 0] ** 4 + x[:, 0] ** 6 / 6 + x[:, 0] * x[:, 1] + x[:, 1] ** 2
