"""Trace, spectral density and Morse index against dense Hessians and spectra that are known."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import topolandscape as tl
from topolandscape import Landscape
from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.spectrum import hessian_density, hessian_trace, morse_index

pytestmark = pytest.mark.usefixtures("one_thread")


def quadratic(spectrum):
    """Return a quadratic form whose Hessian has the spectrum."""
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((len(spectrum),) * 2))[0]
    matrix = torch.tensor(axes @ np.diag(spectrum) @ axes.T)
    return Landscape.from_function(lambda x: 0.5 * ((x @ matrix) * x).sum(1), len(spectrum))


@pytest.fixture(scope="module")
def network():
    """Return the landscape of a small tanh network in float64, points, and the eigenvalues of its Hessians there."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        inputs, targets = torch.randn(40, 4).double(), torch.randint(3, (40,))
    landscape = Landscape.from_module(module, inputs, targets, loss=F.cross_entropy, form="loop")
    points = landscape.point + 0.3 * np.random.default_rng(0).standard_normal((3, landscape.dimension))
    return landscape, points, np.linalg.eigvalsh(hessians(landscape, points))


def test_the_trace_is_exact_where_the_rank_is_low():
    spectrum = np.zeros(50)
    spectrum[:5] = [3.0, -2.0, 1.0, 0.5, 7.0]
    trace, error = hessian_trace(quadratic(spectrum), np.zeros((2, 50)), probes=6, seed=0)
    np.testing.assert_allclose(trace, 9.5, rtol=1e-9)
    assert (error < 1e-9).all()


def test_the_trace_lies_within_its_error_and_hits_better_than_hutchinsons(network):
    landscape, points, truth = network
    exact = truth.sum(axis=1)
    found = [hessian_trace(landscape, points, probes=12, seed=seed) for seed in range(40)]
    apart = np.array([trace - exact for trace, _ in found])
    errors = np.array([error for _, error in found])
    assert (np.abs(apart) < 6 * errors).all()
    # The errors say how far the estimates are spread, and no bias is left in their mean.
    np.testing.assert_allclose(apart.std(axis=0), np.sqrt((errors**2).mean(axis=0)), rtol=0.4)
    assert (np.abs(apart.mean(axis=0)) < 4 * apart.std(axis=0) / np.sqrt(40)).all()
    # As many products spent on vectors of signs alone would have this standard deviation.
    matrices = hessians(landscape, points)
    off = (matrices**2).sum((1, 2)) - (np.diagonal(matrices, axis1=1, axis2=2) ** 2).sum(1)
    assert (apart.std(axis=0) < 0.8 * np.sqrt(2 * off / 36)).all()


def test_a_density_has_the_moments_of_the_spectrum(network):
    landscape, points, truth = network
    density = hessian_density(landscape, points, probes=400, steps=12, seed=1)
    assert density.nodes.shape == (3, 400, 12)
    np.testing.assert_allclose(density.weights.sum(axis=(1, 2)), 1.0, rtol=1e-9)
    for power in (1, 2, 3):
        each = (density.weights * density.nodes**power).sum(axis=2) * 400
        expected = (truth**power).mean(axis=1)
        error = each.std(axis=1) / np.sqrt(400)
        assert (np.abs(each.mean(axis=1) - expected) < 4 * error).all(), power


def test_with_all_steps_the_nodes_are_the_eigenvalues(network):
    landscape, points, truth = network
    density = hessian_density(landscape, points, probes=2, steps=10**6, seed=0)
    for probe in range(2):
        np.testing.assert_allclose(density.nodes[:, probe], truth, atol=1e-8)


def test_a_density_of_few_eigenvalues_is_exhausted_and_smooth():
    density = hessian_density(quadratic(np.repeat([1.0, 5.0, -2.0], [20, 15, 5])), np.zeros((1, 40)), seed=0, steps=9)
    nodes, weights = density.nodes.ravel(), density.weights.ravel()
    near = np.abs(nodes[:, None] - [1.0, 5.0, -2.0]) < 1e-6
    assert weights[~near.any(axis=1)].sum() < 1e-12
    np.testing.assert_allclose(weights @ near, [0.5, 0.375, 0.125], atol=0.12)
    places = np.linspace(-4, 7, 2001)
    area = np.trapezoid(density.smoothed(places, 0.2)[0], places)
    np.testing.assert_allclose(area, 1.0, rtol=1e-6)


@pytest.mark.parametrize("dimension", [12, 320])
def test_the_index_counts_negative_and_flat_directions(dimension):
    spectrum = np.linspace(1.0, 2.0, dimension)
    spectrum[:7] = [-1.0, -0.5, -0.5, -0.01, 0.0, 1e-9, 1e-3]
    index = morse_index(quadratic(spectrum), np.zeros((2, dimension)), seed=0)
    assert index.negative.tolist() == [4, 4]
    assert index.flat.tolist() == [2, 2]
    assert index.known.all()
    few = morse_index(quadratic(spectrum), np.zeros((1, dimension)), seed=0, most=3)
    assert (few.negative.tolist(), few.known.tolist()) == ([3], [False])


def test_the_index_of_a_network_is_that_of_its_dense_hessian(network):
    landscape, points, truth = network
    index = morse_index(landscape, points, seed=0, flatness=1e-9)
    largest = np.abs(truth).max(axis=1, keepdims=True)
    assert index.negative.tolist() == (truth < -1e-9 * largest).sum(axis=1).tolist()


def test_trained_minima_have_index_zero():
    data = tl.zoo.dataset("teacher_student")
    module = tl.zoo.network("mlp:2-2-1,tanh", seed=0)
    landscape = Landscape.from_module(
        module, data.inputs, data.targets, loss=F.mse_loss, weight_decay=1e-3, dtype="float64"
    )
    found = tl.minima(landscape, 3, seed=0, progress=False)
    network = tl.minima_network(landscape, found, rounds=3, progress=False)
    rows = [row for row, word in enumerate(network.minima.stationary[: network.trained]) if word == "minimum"]
    assert not morse_index(landscape, network.minima.points[rows], seed=0).negative.any()
    over = [row for row, word in enumerate(network.passes) if word == "verified saddle"]
    assert over
    assert morse_index(landscape, network.tops[over], seed=0).negative.tolist() == [1] * len(over)


def test_where_the_hessian_is_not_finite_nothing_is_known():
    root = Landscape.from_function(lambda x: torch.sqrt(x[:, 0]) + x[:, 1] ** 2, 2)
    points = [[1.0, 0.0], [0.0, 0.0]]
    trace, error = hessian_trace(root, points, seed=0)
    assert np.isfinite(trace[0])
    assert np.isnan([trace[1], error[1]]).all()
    density = hessian_density(root, points, seed=0)
    assert np.isfinite(density.nodes[0]).all()
    assert np.isnan(density.nodes[1]).all()
    assert morse_index(root, points, seed=0).known.tolist() == [True, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda at: hessian_trace(at, np.zeros((1, 3)), probes=1, seed=0), "probes is 1"),
        (lambda at: hessian_density(at, np.zeros((1, 3)), steps=0, seed=0), "steps is 0"),
        (lambda at: hessian_density(at, np.zeros((1, 2)), seed=0), r"points have shape \(1, 2\)"),
        (lambda at: hessian_density(at, np.zeros((1, 3)), seed=0).smoothed([0.0], 0.0), "width is 0"),
        (lambda at: morse_index(at, np.zeros((1, 3)), seed=0, most=0), "most is 0"),
        (lambda at: morse_index(at, np.zeros((1, 3)), seed=0, flatness=-1.0), "flatness is -1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(quadratic(np.array([1.0, 2.0, 3.0])))
