"""Compiled steps of many vectors, against what numpy and LAPACK say of the same."""

import numpy as np
import pytest

from topolandscape.landscape.curvature import _outermost
from topolandscape.landscape.polishing import steihaug
from topolandscape.landscape.quasi_newton import History
from topolandscape.landscape.vectors import are_finite, norm, orthonormal


@pytest.fixture(scope="module")
def bases():
    """Return three orthonormal bases of 12 vectors in 40 dimensions, with room for more that is not looked at."""
    random = np.random.default_rng(0)
    own = np.stack([np.linalg.qr(random.standard_normal((40, 12)))[0].T for _ in range(3)])
    return np.concatenate([own, np.full((3, 5, 40), np.nan)], axis=1)


@pytest.mark.parametrize("kind", ["any", "dependent", "within the basis", "nothing"])
@pytest.mark.parametrize("b", [1, 4])
def test_blocks_are_orthonormal_and_span_what_vectors_span(bases, kind, b):
    random = np.random.default_rng(1)
    vectors = random.standard_normal((3, b, 40))
    if kind == "dependent":
        vectors[:] = vectors[:, :1] + 1e-14 * vectors
    elif kind == "within the basis":
        vectors = random.standard_normal((3, b, 12)) @ bases[:, :12]
    elif kind == "nothing":
        vectors[:] = 0.0
    within, block, outside = orthonormal(vectors, bases, 12)
    whole = np.concatenate([bases[:, :12], block], axis=1)
    np.testing.assert_allclose(whole @ whole.transpose(0, 2, 1), np.tile(np.eye(12 + b), (3, 1, 1)), atol=1e-14)
    np.testing.assert_allclose(within @ bases[:, :12] + outside @ block, vectors, atol=1e-13)
    assert (np.triu(outside, 1) == 0).all()


def test_what_is_known_to_be_far_is_still_left(bases):
    random = np.random.default_rng(5)
    vectors = random.standard_normal((3, 2, 40))
    vectors -= vectors @ bases[:, :8].transpose(0, 2, 1) @ bases[:, :8]
    vectors += 1e-12 * random.standard_normal((3, 2, 8)) @ bases[:, :8]
    within, block, outside = orthonormal(vectors, bases, 12, near=8)
    whole = np.concatenate([bases[:, :12], block], axis=1)
    np.testing.assert_allclose(whole @ whole.transpose(0, 2, 1), np.tile(np.eye(14), (3, 1, 1)), atol=1e-14)
    np.testing.assert_allclose(within @ bases[:, :12] + outside @ block, vectors, atol=1e-11)
    assert (within[:, :, :8] == 0).all()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("n", [4, 30])
def test_outermost_eigenvalues_of_bands_are_those_of_all(n, k):
    random = np.random.default_rng(2)
    whole = random.standard_normal((2, n, n))
    places = np.arange(n)
    matrices = (whole + whole.transpose(0, 2, 1)) * (np.abs(places - places[:, None]) <= k)
    matrices[1] = np.diag(places // 3)  # multiple eigenvalues
    values, vectors = _outermost(matrices, k)
    expected = np.linalg.eigvalsh(matrices)
    np.testing.assert_allclose(values, np.concatenate([expected[:, :k], expected[:, -1:]], axis=1), atol=1e-12)
    np.testing.assert_allclose(matrices @ vectors, vectors * values[:, None, :k], atol=1e-10)


def test_conjugate_gradients_solve_and_stop_at_the_radius():
    random = np.random.default_rng(3)
    roots = random.standard_normal((3, 6, 6))
    models = roots @ roots.transpose(0, 2, 1) + np.eye(6)
    models[2] -= 50 * np.eye(6)
    gradients = random.standard_normal((3, 6))
    newton = -np.linalg.solve(models[:2], gradients[:2, :, None])[..., 0]
    radius = np.array([2 * norm(newton[0]), 0.5 * norm(newton[1]), 1.0])
    steps, promised = steihaug(
        lambda rows, directions: np.einsum("mij,mj->mi", models[rows], directions),
        gradients,
        radius,
        np.full(3, 1e-10),
        np.full(3, 60),
    )
    np.testing.assert_allclose(steps[0], newton[0], atol=1e-9)
    np.testing.assert_allclose(norm(steps)[1:], radius[1:], rtol=1e-12)
    change = np.einsum("mi,mi->m", gradients, steps) + 0.5 * np.einsum("mi,mij,mj->m", steps, models, steps)
    np.testing.assert_allclose(promised, -change, atol=1e-10)


def test_vectors_are_finite_where_numpy_says_so():
    random = np.random.default_rng(4)
    vectors = random.choice(
        [0.0, 1.0, -1e60, np.nan, np.inf, -np.inf], (50, 4, 2), p=[0.4, 0.4, 0.05, 0.05, 0.05, 0.05]
    )
    np.testing.assert_array_equal(are_finite(vectors), np.isfinite(vectors).all(axis=2))
    np.testing.assert_array_equal(are_finite(vectors, 1e50), (np.abs(vectors) < 1e50).all(axis=2))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [1e-146, 1e-160, 1e-200, 1e-300])
def test_steps_too_small_for_their_products_are_left_out(size, dtype):
    history = History(1, 2, 3, dtype=dtype)
    history.add(np.array([0]), np.array([[0.5, 0.0]]), np.array([[2.0, 0.0]]))
    for step in (np.array([[size, size]]), np.array([[0.0, size]])):
        history.add(np.array([0]), step, 2 * step)
    there = history.times(np.array([0]), np.array([[4.0, 0.0]]))
    np.testing.assert_allclose(there, [[1.0, 0.0]], rtol=1e-6)
