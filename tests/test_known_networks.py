"""Networks whose barcode is known: from torch modules, through samples and complexes, to the bars."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import topolandscape as tl

INF = math.inf


class ProductSum(nn.Module):
    """sum_i v_i w_i, on one sample."""

    def __init__(self, m):
        super().__init__()
        self.v = nn.Parameter(torch.ones(m))
        self.w = nn.Parameter(torch.ones(m))

    def forward(self, inputs):
        return inputs * (self.v * self.w).sum()


def mean_squared_error(module, inputs, targets, **options):
    inputs, targets = (torch.as_tensor(part, dtype=torch.float64)[:, None] for part in (inputs, targets))
    return tl.Landscape.from_module(
        module, inputs, targets, loss=nn.functional.mse_loss, dtype=torch.float64, **options
    )


def bars(code, dim=0):
    return [(round(birth, 9), round(death, 9)) for birth, death in code.to_persim()[dim].tolist()] if len(code) else []


def test_two_weights_have_two_valleys():
    """L = (1 - v w)^2: the branches of v w = 1 meet at the origin, at loss 1."""
    landscape = mean_squared_error(ProductSum(1), [1.0], [1.0])
    code = tl.barcode(
        tl.grid(tl.sample_grid(landscape, low=-2, high=2, shape=(81, 81)), connectivity="full"), max_dim=1
    )
    assert bars(code.filter(min_persistence=0.1)) == [(0.0, INF), (0.0, 1.0)]
    assert len(code.filter(dim=1, min_persistence=0.1)) == 0


def test_four_weights_have_one_valley_around_the_origin():
    """L = (1 - v1 w1 - v2 w2)^2: the minima are one component with a loop, which the origin fills at loss 1."""
    landscape = mean_squared_error(ProductSum(2), [1.0], [1.0])
    samples = tl.sample_grid(landscape, low=-1.5, high=1.5, shape=(13,) * 4)
    code = tl.barcode(tl.grid(samples, connectivity="freudenthal"), max_dim=1).filter(min_persistence=0.3)
    assert bars(code) == [(0.0, INF)]
    ((birth, death),) = bars(code, dim=1)
    assert birth < 0.2
    assert death == 1.0


@pytest.mark.parametrize("gamma", [0.2, 0.5])
def test_scalar_linear_network_with_weight_decay(gamma):
    """With a = 1, E[x^2] = 1, c = 1.5: minima at c - (a - gamma)^2, which meet at the origin, at c."""
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    inputs, targets = np.array([1.0, -1.0]), np.array([1 + math.sqrt(0.5), -1 + math.sqrt(0.5)])
    landscape = mean_squared_error(module, inputs, targets, weight_decay=gamma)
    b = math.sqrt(1 - gamma)
    axis = np.linspace(-2 * b, 2 * b, 81)
    samples = tl.sample_grid(landscape, low=-2 * b, high=2 * b, shape=(81, 81))
    assert np.allclose(samples.points[:81, 1], axis)
    lowest = 1.5 - (1 - gamma) ** 2
    code = tl.barcode(tl.grid(samples, connectivity="full"))
    assert bars(code.filter(min_persistence=1e-6)) == [(round(lowest, 9), INF), (round(lowest, 9), 1.5)]


def test_strong_weight_decay_leaves_one_minimum():
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    inputs, targets = np.array([1.0, -1.0]), np.array([1 + math.sqrt(0.5), -1 + math.sqrt(0.5)])
    landscape = mean_squared_error(module, inputs, targets, weight_decay=1.2)
    samples = tl.sample_grid(landscape, low=-2, high=2, shape=(81, 81))
    assert bars(tl.barcode(tl.grid(samples, connectivity="full"))) == [(1.5, INF)]


class Neuron(nn.Module):
    """v tanh(w x) + c."""

    def __init__(self):
        super().__init__()
        self.w, self.v, self.c = (nn.Parameter(torch.ones(1)) for _ in range(3))

    def forward(self, inputs):
        return self.v * torch.tanh(self.w * inputs) + self.c


@pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
def test_no_bar_above_the_loss_of_the_best_constant(connectivity):
    """Var(y) bounds births and deaths; the two signs of a tanh neuron part at it exactly."""
    inputs = np.linspace(-2, 2, 9)
    targets = np.tanh(inputs)
    landscape = mean_squared_error(Neuron(), inputs, targets)
    samples = tl.sample_grid(landscape, low=[-2, -2, -1], high=[2, 2, 1], shape=(41, 41, 21))
    code = tl.barcode(tl.grid(samples, connectivity=connectivity))
    ceiling = targets.var()
    assert (code.birth <= ceiling).all()
    assert (code.death[~code.essential] <= ceiling + 1e-12).all()
    flipped = code.filter(min_persistence=0.1)
    assert bars(flipped)[0] == (0.0, INF)
    assert flipped.death[1] == pytest.approx(ceiling, abs=1e-12)
    assert len(flipped) == 2
    first, second = samples.parameters(flipped.birth_vertex)
    assert np.allclose(first * [-1, -1, 1], second)


def test_symmetries_leave_the_loss():
    """Two weight layers, tanh, no biases: theta and -theta, permuted and flipped neurons have one loss."""
    rng = np.random.default_rng(0)
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False))
    inputs, targets = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    landscape = tl.Landscape.from_module(module, inputs, targets, loss=nn.functional.mse_loss, dtype=torch.float64)
    theta = rng.normal(size=(5, landscape.dimension))
    first, second = theta[:, :12].reshape(5, 4, 3), theta[:, 12:].reshape(5, 2, 4)
    order, signs = rng.permutation(4), np.array([1, -1, -1, 1])
    permuted = np.concatenate([first[:, order].reshape(5, -1), second[:, :, order].reshape(5, -1)], axis=1)
    flipped = np.concatenate([(first * signs[:, None]).reshape(5, -1), (second * signs).reshape(5, -1)], axis=1)
    losses = landscape.values(theta)
    for copy in (-theta, permuted, flipped):
        assert np.allclose(landscape.values(copy), losses, rtol=1e-12)
    assert not np.allclose(landscape.values(theta * 1.01), losses, rtol=1e-6)


# Barannikov et al. (2019): minimum, birth, death, saddle, points.
PUBLISHED = [
    (638914, 0.309139, INF, -1, 2160000),
    (1447951, 0.328696, 0.779223, 541402, 51153),
    (801861, 0.342372, 0.394553, 871980, 2141),
    (568553, 0.312065, 0.368086, 496642, 353),
    (639003, 0.310403, 0.367645, 568901, 105),
    (568464, 0.313676, 0.365604, 496452, 226),
    (566734, 0.311138, 0.365109, 568823, 188),
    (566823, 0.309267, 0.364245, 568912, 108),
    (659773, 0.430413, 0.445315, 515861, 188),
]


def test_the_published_network_of_two_million_points():
    """The 1-2-1 ReLU network: 1156 bars, of which nine have more than 100 points."""
    known = tl.zoo.one_two_one_relu()
    landscape = tl.Landscape.from_function(known.function, 5)
    samples = tl.sample_grid(landscape, low=known.low, high=known.high, shape=known.shape)
    code = tl.barcode(tl.grid(samples))
    assert len(samples) == 2_160_000
    assert len(code) == 1156
    large = code.filter(min_size=101)
    order = np.lexsort((large.birth, large.size))
    assert len(large) == len(PUBLISHED)
    for i, (minimum, birth, death, saddle, size) in zip(
        order, sorted(PUBLISHED, key=lambda b: (b[4], b[1])), strict=True
    ):
        assert large.size[i] == size
        assert large.birth[i] == pytest.approx(birth, abs=2e-6)
        assert large.death[i] == pytest.approx(death, abs=2e-6)
        assert large.death_vertex[i] == saddle
        # Of minima that differ by the rounding of float32 only, another one may be the lowest.
        assert samples.values[minimum] == pytest.approx(large.birth[i], abs=2e-6)
