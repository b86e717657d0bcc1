"""Curvature: against closed forms, full matrices by torch, and the solvers of scipy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import eigsh, lobpcg
from torch import nn

from topolandscape.landscape import curvature
from topolandscape.landscape.curvature import (
    hessian_operator,
    hessians,
    highest_curvatures,
    lowest_curvatures,
)
from topolandscape.landscape.loss import Landscape


def rotation(p, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((p, p)))[0]


def quadratic(spectrum):
    """Return a quadratic form whose Hessian has the spectrum, and its eigenvectors as rows."""
    axes = rotation(len(spectrum)).T
    matrix = torch.tensor(axes.T @ np.diag(spectrum) @ axes)
    return Landscape.from_function(lambda x: 0.5 * ((x @ matrix) * x).sum(1), len(spectrum)), axes


def quartic(p):
    """Return a function whose Hessian at x has the eigenvalues y^2 - 1, y being x in rotated coordinates."""
    axes = torch.tensor(rotation(p, seed=1))
    return Landscape.from_function(lambda x: ((x @ axes) ** 4 / 12 - (x @ axes) ** 2 / 2).sum(1), p), axes.numpy()


@pytest.fixture(scope="module")
def network():
    """Return the landscape of a small tanh network in float64, points, and their Hessians by torch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        inputs, targets = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3
    landscape = Landscape.from_module(module, inputs, targets, loss=F.cross_entropy, weight_decay=0.01)

    def loss(theta):
        weight, bias, out, shift = torch.split(theta, [24, 6, 18, 3])
        outputs = torch.tanh(inputs @ weight.view(6, 4).T + bias) @ out.view(3, 6).T + shift
        return F.cross_entropy(outputs, targets) + 0.01 * (theta**2).sum()

    points = np.random.default_rng(0).standard_normal((5, 51))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, on first use
        truth = [torch.func.hessian(loss)(torch.tensor(point)).numpy() for point in points]
    return landscape, points, np.stack(truth)


def counted(monkeypatch):
    """Return a list to which every call for products appends its number of vectors."""
    calls, plain = [], Landscape.hessian_products

    def products(self, point, vectors, **options):
        calls.append(len(vectors))
        return plain(self, point, vectors, **options)

    monkeypatch.setattr(Landscape, "hessian_products", products)
    return calls


def test_hessians_are_those_of_torch(network):
    landscape, points, truth = network
    np.testing.assert_allclose(hessians(landscape, points), truth, atol=1e-12)


@pytest.mark.parametrize("exact", [True, False, None])
def test_ends_of_the_spectrum_of_a_network(network, exact):
    landscape, points, truth = network
    spectra, bases = np.linalg.eigh(truth)
    low = lowest_curvatures(landscape, points, 3, seed=0, tolerance=1e-8, exact=exact)
    high = highest_curvatures(landscape, points, 2, seed=0, tolerance=1e-8, exact=exact)
    assert (spectra[:, 0] < 0).all()
    np.testing.assert_allclose(low.values, spectra[:, :3], atol=1e-9)
    np.testing.assert_allclose(high.values, spectra[:, :-3:-1], atol=1e-9)
    overlap = np.abs(np.einsum("mkp,mpk->mk", low.vectors, bases[:, :, :3]))
    np.testing.assert_allclose(overlap, 1, atol=1e-6)
    assert low.residuals.max() < 1e-7


def test_operator_feeds_the_solvers_of_scipy(network):
    landscape, points, truth = network
    operator = hessian_operator(landscape, points[0])
    spectrum = np.linalg.eigvalsh(truth[0])
    start = np.random.default_rng(0).standard_normal((51, 3))
    np.testing.assert_allclose(operator @ start, truth[0] @ start, atol=1e-12)
    np.testing.assert_allclose(operator @ start[:, 0], truth[0] @ start[:, 0], atol=1e-12)
    np.testing.assert_allclose(operator.T @ start, truth[0] @ start, atol=1e-12)
    found = eigsh(operator, k=2, which="SA", v0=start[:, 0], return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(found), spectrum[:2], atol=1e-8)
    largest, _ = lobpcg(operator, start, largest=True, maxiter=200, tol=1e-6)
    np.testing.assert_allclose(np.sort(largest), spectrum[-3:], atol=1e-6)


def test_spectrum_over_four_orders_of_magnitude():
    spectrum = np.concatenate([[-1e-3, 2e-4], np.logspace(-3.5, 1, 118)])
    landscape, axes = quadratic(spectrum)
    points = np.random.default_rng(2).standard_normal((2, 120))
    low = lowest_curvatures(landscape, points, 2, seed=0, tolerance=1e-7, exact=False)
    np.testing.assert_allclose(low.values, [[-1e-3, 2e-4]] * 2, atol=1e-6)
    assert (np.abs(low.vectors[:, 0] @ axes[0]) > 1 - 1e-6).all()
    np.testing.assert_allclose(highest_curvatures(landscape, points, seed=0, exact=False).values, 10, rtol=1e-6)


def test_every_point_has_its_own_spectrum_whatever_the_others(monkeypatch):
    landscape, axes = quartic(90)
    points = np.random.default_rng(3).standard_normal((6, 90)) * np.linspace(0.5, 2, 6)[:, None]
    calls = counted(monkeypatch)
    together = lowest_curvatures(landscape, points, 2, seed=0, exact=False)
    shared = len(calls)
    truth = np.sort((points @ axes) ** 2 - 1, axis=1)
    np.testing.assert_allclose(together.values, truth[:, :2], atol=1e-4)
    for row in (0, 5):
        calls.clear()
        alone = lowest_curvatures(landscape, points[row : row + 1], 2, seed=0, exact=False)
        np.testing.assert_allclose(alone.values[0], together.values[row], atol=1e-9)
        assert len(calls) <= shared
    # All points share their calls: there are as many as the slowest point needs.
    assert shared <= 46
    high = highest_curvatures(landscape, points, seed=0, exact=False)
    np.testing.assert_allclose(high.values[:, 0], truth[:, -1], rtol=1e-6)


def test_multiple_eigenvalues_are_found():
    landscape, axes = quadratic(np.concatenate([[-2.0, -2.0, -1.0], np.linspace(1, 50, 80)]))
    low = lowest_curvatures(landscape, np.zeros((1, 83)), 3, seed=0, exact=False)
    np.testing.assert_allclose(low.values, [[-2, -2, -1]], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(low.vectors[0, :2] @ axes[:2].T), np.sqrt(2), atol=1e-5)
    bowl = Landscape.from_function(lambda x: (x**2).sum(1), 40)
    same = lowest_curvatures(bowl, np.ones((2, 40)), 3, seed=0, exact=False)
    np.testing.assert_allclose(same.values, 2)
    np.testing.assert_allclose(same.vectors[0] @ same.vectors[0].T, np.eye(3), atol=1e-10)


@pytest.mark.parametrize("k", [1, 2])
def test_small_memory_means_restarts(k, monkeypatch):
    landscape, _ = quadratic(np.concatenate([[-1.0, -0.5], np.linspace(0, 20, 98)]))
    monkeypatch.setattr(curvature, "_BASIS", 3 * 16 * 100)
    calls = counted(monkeypatch)
    points = np.random.default_rng(0).standard_normal((3, 100))
    low = lowest_curvatures(landscape, points, k, seed=0, tolerance=1e-6, exact=False)
    assert len(calls) > 16
    np.testing.assert_allclose(low.values, [[-1, -0.5][:k]] * 3, atol=1e-9)


def test_a_sign_needs_fewer_products(monkeypatch):
    calls = counted(monkeypatch)
    needed = []
    for least in (-1e-3, 1e-3):
        landscape, _ = quadratic(np.concatenate([[least], np.logspace(-2.5, 1, 149)]))
        for share in (0.0, 0.5):
            calls.clear()
            low = lowest_curvatures(landscape, np.zeros((1, 150)), seed=0, tolerance=1e-9, exact=False, share=share)
            needed.append(sum(calls))
            assert np.sign(low.values[0, 0]) == np.sign(least)
            assert abs(low.values[0, 0] - least) <= low.residuals[0, 0] + 1e-12
    assert needed[1] < 0.9 * needed[0]
    assert needed[3] < 0.9 * needed[2]


def test_few_dimensions_are_done_by_full_matrices(monkeypatch):
    landscape, _ = quartic(5)
    calls = counted(monkeypatch)
    low = lowest_curvatures(landscape, np.random.default_rng(0).standard_normal((300, 5)), seed=0)
    assert calls == [1024, 476, 300]
    assert low.residuals.max() < 1e-12
    monkeypatch.setattr(curvature, "DENSE", 4)
    iterated = lowest_curvatures(landscape, np.random.default_rng(0).standard_normal((300, 5)), seed=0)
    np.testing.assert_allclose(iterated.values, low.values, atol=1e-4)


def test_residuals_are_measured():
    spectrum = np.linspace(0, 1, 110)
    landscape, _ = quadratic(spectrum)
    at = np.zeros((1, 110))
    rough = lowest_curvatures(landscape, at, 2, seed=0, max_products=20, exact=False)
    products = landscape.hessian_products(at[0], rough.vectors[0])
    np.testing.assert_allclose(
        rough.residuals[0], np.linalg.norm(products - rough.values[0][:, None] * rough.vectors[0], axis=1), atol=1e-12
    )
    assert (rough.residuals > 1e-3).all()
    assert (np.abs(rough.values[0][:, None] - spectrum).min(axis=1) <= rough.residuals[0]).all()
    assert rough.values[0, 0] >= -1e-12


@pytest.mark.parametrize("p", [1, 2])
def test_few_dimensions_can_be_done_by_products(p):
    landscape = Landscape.from_function(lambda x: (x**2).sum(1), p)
    found = lowest_curvatures(landscape, np.zeros((2, p)), seed=0, exact=False)
    np.testing.assert_allclose(found.values, 2.0, atol=1e-12)
    np.testing.assert_allclose(found.residuals, 0.0, atol=1e-12)


def test_all_dimensions_can_be_asked_for():
    landscape, _ = quadratic(np.array([1.0, -3.0, 2.0]))
    for exact in (True, False):
        np.testing.assert_allclose(
            lowest_curvatures(landscape, np.zeros((2, 3)), 3, seed=0, exact=exact).values, [[-3, 1, 2]] * 2, atol=1e-12
        )


@pytest.mark.parametrize("exact", [True, False])
def test_points_without_a_finite_hessian_are_unknown(exact):
    landscape = Landscape.from_function(lambda x: (x**1.5).sum(1) + x[:, 0] ** 2, 2)
    low = lowest_curvatures(landscape, [[0.0, 1.0], [1.0, 4.0]], seed=0, exact=exact)
    assert np.isnan(low.values[0]).all()
    assert np.isnan(low.residuals[0]).all()
    np.testing.assert_allclose(low.values[1], 0.375, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda at: lowest_curvatures(at, np.zeros((1, 3)), 4, seed=0), "k is 4"),
        (lambda at: lowest_curvatures(at, np.zeros((1, 3)), 0, seed=0), "k is 0"),
        (lambda at: lowest_curvatures(at, np.zeros((1, 3)), seed=0, tolerance=0.0), "tolerance is 0"),
        (lambda at: lowest_curvatures(at, np.zeros((1, 3)), seed=0, max_products=0), "max_products is 0"),
        (lambda at: highest_curvatures(at, np.zeros((1, 4)), seed=0), r"points have shape \(1, 4\)"),
        (lambda at: hessians(at, np.zeros(3)), r"points have shape \(3,\)"),
        (lambda at: hessian_operator(at, np.zeros((2, 3))), r"point has shape \(2, 3\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    landscape, _ = quadratic(np.array([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=message):
        call(landscape)


@pytest.mark.parametrize("exact", [True, False])
def test_across_a_direction_curvatures_are_those_of_the_plane(exact: bool) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((9, 9))
    matrix = matrix + matrix.T
    landscape = Landscape.from_function(lambda x: 0.5 * ((x @ torch.as_tensor(matrix)) * x).sum(1), 9)
    normals = rng.standard_normal((4, 9))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    low = lowest_curvatures(landscape, np.zeros((4, 9)), 2, seed=0, tolerance=1e-9, exact=exact, across=normals)
    for row, normal in enumerate(normals):
        plane = np.linalg.svd(normal[None])[2][1:]
        np.testing.assert_allclose(low.values[row], np.linalg.eigvalsh(plane @ matrix @ plane.T)[:2], atol=1e-6)
        np.testing.assert_allclose(low.vectors[row] @ normal, 0.0, atol=1e-7)
    with pytest.raises(ValueError, match="across has 1 directions, points 4; each point needs one"):
        lowest_curvatures(landscape, np.zeros((4, 9)), seed=0, across=normals[:1])
    with pytest.raises(ValueError, match="k is 9; there are 8 dimensions"):
        lowest_curvatures(landscape, np.zeros((4, 9)), 9, seed=0, across=normals)
