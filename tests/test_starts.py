"""Paths over the constant predictor: never higher than their corners, and so witnesses of the ceiling."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import nn

import topolandscape as tl
from topolandscape import Landscape
from topolandscape.landscape.passes import highest_on, lower_paths, refined
from topolandscape.landscape.starts import last_layer

ROWS = 30


pytestmark = pytest.mark.usefixtures("one_thread")


def mlp(*widths, activation=nn.Tanh, bias=True):
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths), start=2):
        layers += [nn.Linear(inputs, outputs, bias=bias or i < len(widths)), activation()]
    return nn.Sequential(*layers[:-1])


class Head(nn.Module):
    """Two hidden layers, and a last one written as a function."""

    def __init__(self, after=None):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 4)
        self.weight, self.bias = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3))
        self.after = after

    def forward(self, x):
        x = F.linear(torch.relu(self.second(torch.relu(self.first(x)))), self.weight, self.bias)
        return x if self.after is None else self.after(x)


class Tied(nn.Module):
    """The last layer is also the one before."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(torch.relu(self.last(self.first(x))))


class Branching(nn.Module):
    """What it does depends on its inputs."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(2, 3)

    def forward(self, x):
        return self.last(x) if x.sum() > 0 else -self.last(x)


def landscape_of(module, kind, *, weight_decay=0.0, **options):
    rng = np.random.default_rng(0)
    inputs = torch.tensor(rng.normal(size=(ROWS, 2)))
    targets = torch.tensor(rng.integers(0, 3, ROWS) if kind == "cross_entropy" else rng.normal(1.0, 2.0, (ROWS, 3)))
    loss = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss, "nll": F.nll_loss}[kind]
    landscape = Landscape.from_module(
        module.double(), inputs, targets, loss=loss, weight_decay=weight_decay, form="vmap", **options
    )
    return landscape, targets.numpy()


# --------------------------------------------------------------------------------------------------------------
# The theorem
# --------------------------------------------------------------------------------------------------------------


NETWORKS = {
    "classes, one hidden layer of tanh": ("cross_entropy", mlp(2, 3, 3)),
    "classes, three of rectifiers, no bias": ("cross_entropy", mlp(2, 3, 3, 3, 3, activation=nn.ReLU, bias=False)),
    "numbers, two of rectifiers": ("mse", mlp(2, 4, 3, 3, activation=nn.ReLU)),
    "numbers, one of tanh, no bias": ("mse", mlp(2, 4, 3, bias=False)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_point_of_the_way_is_above_its_ends_and_the_ceiling(name):
    kind, module = NETWORKS[name]
    landscape, targets = landscape_of(module, kind)
    # Without a bias the constant is zero, of which the losses are the logarithm of the classes and the mean square.
    zero = np.log(3) if kind == "cross_entropy" else (targets**2).mean()
    ceiling = zero if "no bias" in name else tl.constant_predictor_ceiling(targets, loss=kind)
    paths_over_constant = tl.paths_over_constant(landscape)

    @settings(max_examples=15)
    @given(k=st.integers(4, 12), size=st.sampled_from([0.3, 1.0, 3.0]), seed=st.integers(0, 10**6))
    def holds(k, size, seed):
        ends = size * np.random.default_rng(seed).normal(size=(2, landscape.dimension))
        (path,) = paths_over_constant(ends[:1], ends[1:], k)
        assert path.shape == (k, landscape.dimension)
        assert np.array_equal(path[[0, -1]], ends)
        shares = np.linspace(0, 1, 8, endpoint=False)[:, None]
        fine = (path[:-1, None] * (1 - shares) + path[1:, None] * shares).reshape(-1, landscape.dimension)
        losses = landscape.values(fine)
        assert losses.max() <= max(*landscape.values(ends), ceiling) * (1 + 1e-9)
        # The way does lead over the constant.
        assert np.abs(losses - ceiling).min() <= 1e-9 * ceiling

    holds()


@pytest.mark.parametrize("kind", ["cross_entropy", "mse"])
def test_with_weight_decay_it_is_highest_at_a_corner(kind):
    landscape, _ = landscape_of(mlp(2, 4, 3), kind, weight_decay=0.05)
    a, b = np.random.default_rng(0).normal(size=(2, 5, landscape.dimension))
    paths = tl.paths_over_constant(landscape)(a, b, 4)
    corners = landscape.values(paths.reshape(-1, landscape.dimension)).reshape(5, 4).max(axis=1)
    np.testing.assert_allclose(highest_on(landscape, paths, first=20)[0], corners, rtol=1e-12)


def test_all_deaths_of_a_network_are_below_the_ceiling():
    landscape, targets = landscape_of(mlp(2, 3, 3), "cross_entropy")
    found = tl.minima(landscape, 3, seed=0, steps=30, max_evaluations=1, merge=None, progress=False)
    network = tl.minima_network(
        landscape, found, start=tl.paths_over_constant(landscape), steps=20, rounds=0, progress=False
    )
    ceiling = tl.constant_predictor_ceiling(targets, loss="cross_entropy")
    assert (network.barriers <= max(ceiling, found.values.max()) * (1 + 1e-6)).all()
    assert network.provenance["start"] == "over_constant"
    assert np.abs(network.check(landscape)).max() < 1e-5


# --------------------------------------------------------------------------------------------------------------
# The last layer
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "weight", "bias"),
    [
        (mlp(2, 4, 3), slice(12, 24), slice(24, 27)),
        (nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3, bias=False)), slice(9, 18), None),
        (nn.Sequential(mlp(2, 4, 3), nn.Dropout().eval(), nn.Flatten()), slice(12, 24), slice(24, 27)),
        (Head(), slice(0, 12), slice(12, 15)),
        (Head(lambda x: F.log_softmax(x, dim=1).view(-1, 3)), slice(0, 12), slice(12, 15)),
    ],
)
def test_the_last_layer_is_found(module, weight, bias):
    landscape, _ = landscape_of(module, "mse")
    assert last_layer(landscape) == (weight, bias)
    # Without it the outputs are the same whatever goes in.
    point = np.random.default_rng(0).normal(size=landscape.dimension)
    point[weight] = 0.0
    outputs = landscape.module_at(point)(torch.randn(5, 2, dtype=torch.float64))
    assert torch.equal(outputs, outputs[:1].expand(5, 3))


def test_a_fixed_bias_stays():
    landscape, _ = landscape_of(mlp(2, 4, 3), "mse", parameters=["0.*", "2.weight"])
    assert last_layer(landscape).bias is None
    paths = tl.paths_over_constant(landscape)(np.ones((1, 24)), np.zeros((1, 24)), 4)
    assert paths[0, 1].tolist() == [1.0] * 12 + [0.0] * 12


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (mlp(2, 4, 3).append(nn.ReLU()), {}, r"the last step of the module is 3 \(ReLU\); .* needs a last layer"),
        (Head(torch.sigmoid), {}, "the last step of the module is sigmoid"),
        (nn.Sequential(nn.Linear(2, 2), nn.Unflatten(1, (1, 2)), nn.Conv1d(1, 3, 2), nn.Flatten()), {}, "Conv1d"),
        (mlp(2, 4, 3), {"parameters": "0.*"}, "the weights of the last layer do not vary"),
        (Tied(), {}, "the parameters of the last layer are used 2 times"),
        (Branching(), {}, "the module cannot be traced, so that its last layer is not known"),
    ],
)
def test_modules_without_a_linear_last_layer_are_refused(module, options, message):
    landscape, _ = landscape_of(module, "mse", **options)
    with pytest.raises(ValueError, match=message):
        tl.paths_over_constant(landscape)


def test_what_does_not_fit_is_refused():
    function = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    with pytest.raises(ValueError, match="this landscape is of a function or of a few directions"):
        tl.paths_over_constant(function)
    landscape, _ = landscape_of(mlp(2, 4, 3), "mse")
    with pytest.raises(ValueError, match="k is 3; a path over the constant predictor needs 4 points or more"):
        tl.paths_over_constant(landscape)(np.ones((1, 27)), np.zeros((1, 27)), 3)


# --------------------------------------------------------------------------------------------------------------
# More points on the same paths
# --------------------------------------------------------------------------------------------------------------


@given(b=st.integers(1, 4), k=st.integers(2, 7), more=st.integers(0, 9), seed=st.integers(0, 10**6))
def test_refined_paths_keep_their_points_and_their_places(b, k, more, seed):
    rng = np.random.default_rng(seed)
    paths = rng.normal(size=(b, k, 3)) * rng.choice([0.0, 1.0], size=(b, 1, 1), p=[0.2, 0.8])
    finer = refined(paths, k + more)
    assert finer.shape == (b, k + more, 3)
    for own, new in zip(paths, finer, strict=True):
        kept = [int(np.flatnonzero((new == point).all(axis=1))[0]) for point in own]
        assert kept == sorted(kept)
        length = np.linalg.norm(np.diff(own, axis=0), axis=1).sum()
        # Between points of a polygon its length stays only if they lie on it.
        assert np.linalg.norm(np.diff(new, axis=0), axis=1).sum() == pytest.approx(length, rel=1e-12)
        # A segment that was cut into n parts would with one part less have the longest of all.
        longest = np.linalg.norm(np.diff(new, axis=0), axis=1).max()
        for segment, parts in zip(np.linalg.norm(np.diff(own, axis=0), axis=1), np.diff(kept), strict=True):
            assert parts == 1 or segment / (parts - 1) >= longest * (1 - 1e-12)


@pytest.mark.parametrize("points", [(9,), (9, 17), (4, 9)])
def test_a_path_is_never_higher_with_more_points(points):
    """Around a hill by corners that even spacing would cut."""
    hill = Landscape.from_function(lambda x: torch.relu(0.3 - x[:, 0].abs()) * torch.relu(3 - x[:, 1]), 2)
    around = np.array([[[-0.3, 0.0], [-0.3, 3.0], [0.3, 3.0], [0.3, 0.0]]])
    lowered = lower_paths(hill, around, points=points, steps=1, progress=False)
    assert lowered.points.shape == (1, points[-1], 2)
    assert lowered.highest[0] < 1e-12


def test_paths_of_many_points_are_bent_with_fewer():
    hill = Landscape.from_function(lambda x: torch.exp(-2 * x[:, 1] - 4 * x[:, 0] ** 2) + 0.1 * x[:, 1] ** 2, 2)
    start = tl.bent_paths([[-1.0, 0.0]], [[1.0, 0.0]], 40, by=0.5, seed=0)
    lowered = lower_paths(hill, start, points=(9, 17), progress=False)
    assert lowered.points.shape == (1, 17, 2)
    assert np.array_equal(lowered.points[:, [0, -1]], start[:, [0, -1]])
    # On the axis of symmetry the loss exp(-2 y) + 0.1 y^2 is lowest where y exp(2 y) = 10.
    y = minimize_scalar(lambda y: np.exp(-2 * y) + 0.1 * y**2, bounds=(0, 3), method="bounded").x
    assert lowered.highest[0] == pytest.approx(np.exp(-2 * y) + 0.1 * y**2, rel=1e-3)
