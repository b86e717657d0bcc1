"""The plain loop that the wide form is compared with, and what the tests of both are about: inputs, modules."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import topolandscape as tl
from topolandscape.landscape.pure import Block, Model
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


def _with_hook(module, hook):
    module.register_forward_hook(hook)
    return module


def settled(module, seed=0):
    """Return the module in eval mode and float64, with statistics of norms that are not those of the start."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if getattr(part, "running_mean", None) is not None:
            part.running_mean.normal_(generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
    return module.eval().double()


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


def loss_of_all(outputs, targets):
    """Return a loss in which every output counts in another way."""
    flat = outputs.reshape(len(outputs), -1)
    return (flat * torch.linspace(-1, 2, flat.shape[1], dtype=flat.dtype) - targets[:, None]).sin().mean()


def mlp(outputs=CLASSES):
    torch.manual_seed(0)
    return settled(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, outputs)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(4, 4, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


def landscape_of(module, inputs=ROW, *, loss=F.cross_entropy, targets=None, **options):
    return tl.Landscape.from_module(module, inputs, classes() if targets is None else targets, loss=loss, **options)
