"""Networks beside one another: closed forms, invariances, and curves against another optimiser."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.stats import ortho_group

import topolandscape as tl

pytestmark = pytest.mark.usefixtures("one_thread")


def small_landscape(rows=40):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))
    inputs, targets = torch.randn(rows, 3), torch.arange(rows) % 4
    return tl.Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.cross_entropy), inputs, targets


def test_outputs_are_those_of_the_modules():
    landscape, inputs, _ = small_landscape(rows=1500)
    points = tl.initial_points(landscape, 3, seed=0)
    found = tl.network_outputs(landscape, points, inputs)
    assert found.shape == (3, 1500, 4)
    for point, outputs in zip(points, found, strict=True):
        np.testing.assert_allclose(outputs, landscape.module_at(point)(inputs).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_module_that_changes_its_inputs_leaves_them_to_the_others():
    module = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(2, 1, bias=False))
    inputs = torch.tensor([[-1.0, 2.0]])
    landscape = tl.Landscape.from_module(module, inputs, torch.zeros(1, 1), loss=torch.nn.functional.mse_loss)
    assert tl.network_outputs(landscape, [[5.0, 1.0], [5.0, 2.0]], inputs).ravel().tolist() == [2.0, 4.0]
    assert inputs.tolist() == [[-1.0, 2.0]]


@given(seed=st.integers(0, 2**31), width=st.integers(2, 6), factor=st.floats(0.1, 10))
def test_alignment_does_not_see_rotations_factors_and_shifts(seed, width, factor):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(20, width)), rng.normal(size=(20, 3))
    turned = factor * one @ ortho_group.rvs(width, random_state=seed) + rng.normal(size=width)
    found = tl.linear_cka([one, turned, other])
    assert found[0, 1] == pytest.approx(1.0)
    assert found[0, 2] == pytest.approx(found[1, 2])
    assert np.array_equal(found, found.T)
    assert np.diag(found) == pytest.approx(1.0)
    assert (found >= 0).all()
    assert (found <= 1 + 1e-9).all()


def test_alignment_is_that_of_the_kernels():
    """By the definition: centred kernel matrices of the rows, compared as vectors."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(12, 5)), rng.normal(size=(12, 2))
    centre = np.eye(12) - 1 / 12
    k, m = centre @ one @ one.T @ centre, centre @ other @ other.T @ centre
    expected = (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())
    assert tl.linear_cka([one, other])[0, 1] == pytest.approx(expected)


def test_orthogonal_features_are_not_aligned_and_constant_ones_unknown():
    found = tl.linear_cka([[[1.0], [-1.0], [1.0], [-1.0]], [[1.0], [1.0], [-1.0], [-1.0]], [[2.0]] * 4])
    assert found[0, 1] == pytest.approx(0.0)
    assert np.isnan(found[2]).all()


def test_features_that_cannot_be_compared():
    with pytest.raises(ValueError, match=r"features\[1\] has 3 rows, features\[0\] 2; give the same rows"):
        tl.linear_cka([np.zeros((2, 2)), np.zeros((3, 2))])
    with pytest.raises(ValueError, match=r"features\[0\] is not finite everywhere; leave out"):
        tl.linear_cka([[[np.inf], [1.0]]])
    with pytest.raises(ValueError, match=r"outputs have shape \(1, 2, 1\); they need to be \(networks, rows, two"):
        tl.disagreement(np.zeros((1, 2, 1)))


def test_disagreement_counts_rows_of_different_classes():
    classes = np.array([[0, 1, 2, 2], [0, 2, 2, 1], [1, 1, 2, 2]])
    found = tl.disagreement(np.eye(3)[classes])
    assert found.tolist() == [[0, 0.5, 0.25], [0.5, 0, 0.75], [0.25, 0.75, 0]]


def test_disagreement_with_the_truth_is_the_error():
    landscape, inputs, targets = small_landscape()
    points = tl.initial_points(landscape, 2, seed=1)
    outputs = tl.network_outputs(landscape, points, inputs)
    truth = np.eye(4)[targets.numpy()][None]
    accuracies = landscape.accuracies(points)[1]
    assert tl.disagreement(np.concatenate([outputs, truth]))[2, :2] == pytest.approx(1 - accuracies)


def test_a_trained_curve_is_the_best_one():
    """Against a quadrature of the mean loss and an optimiser of scipy."""
    ring = tl.Landscape.from_function(lambda x: ((x**2).sum(1) - 1) ** 2, 2)
    start, end = np.array([1.0, 0.0]), np.array([-0.6, 0.8])

    def on_curve(middle, u):
        return (1 - u) ** 2 * start + 2 * u * (1 - u) * middle + u**2 * end

    def mean(middle):
        return quad(lambda u: ((on_curve(middle, u) ** 2).sum() - 1) ** 2, 0, 1)[0]

    best = minimize(mean, (start + end) / 2, tol=1e-10).x
    (path,) = tl.bezier_paths(ring, [start], [end], 21, steps=2000, learning_rate=0.05, seed=0, progress=False)
    assert np.array_equal(path[[0, -1]], [start, end])
    middle = 2 * path[10] - (start + end) / 2
    assert mean(middle) == pytest.approx(mean(best), rel=0.02)
    expected = max(((on_curve(best, u) ** 2).sum() - 1) ** 2 for u in np.linspace(0, 1, 21))
    assert tl.mode_connectivity(ring, [path])[0] == pytest.approx(-expected, rel=0.1)
    straight = tl.straight_paths([start], [end], 21)
    assert tl.mode_connectivity(ring, straight)[0] < -0.6


def test_curves_from_mini_batches():
    """Of a constant fitted to 0, ..., 7 the best curve from 0 to 0 has its middle control at 5/2 of the mean."""
    inputs, targets = torch.zeros(8, 1), torch.arange(8.0)[:, None]
    landscape = tl.Landscape.from_module(
        torch.nn.Linear(1, 1), inputs, targets, loss=torch.nn.functional.mse_loss, form="wide"
    )
    seen = []
    landscape.subset = lambda rows, *, seed: (
        seen.append((rows, seed)) or tl.Landscape.subset(landscape, rows, seed=seed)
    )
    ends = np.zeros((1, 2))
    options = {"steps": 800, "learning_rate": 0.1, "progress": False}
    (path,) = tl.bezier_paths(landscape, ends, ends, 3, batch=2, seed=0, **options)
    assert path[1, 1] == pytest.approx(2.5 * 3.5 / 2, rel=0.1)
    assert {rows for rows, _ in seen} == {2}
    assert len({seed for _, seed in seen}) > 700
    with pytest.raises(ValueError, match="from 1 to 8"):
        tl.bezier_paths(landscape, ends, ends, batch=9, seed=0, **options)
    ring = tl.Landscape.from_function(lambda x: ((x**2).sum(1) - 1) ** 2, 2)
    with pytest.raises(ValueError, match="of a function"):
        tl.bezier_paths(ring, ends, ends, batch=2, seed=0, **options)


def test_minima_of_one_valley_are_connected():
    """The minima of a quadratic are a line: no barrier between them, and none from one to itself."""
    valley = tl.Landscape.from_function(lambda x: (x[:, 0] - x[:, 1]) ** 2, 2)
    starts, ends = np.array([[0.0, 0.0], [3.0, 3.0]]), np.array([[2.0, 2.0], [3.0, 3.0]])
    paths = tl.bezier_paths(valley, starts, ends, steps=20, seed=0, progress=False)
    assert tl.mode_connectivity(valley, paths) == pytest.approx(0, abs=1e-12)


def test_signs_of_mode_connectivity():
    """As published: a barrier is below 0, ends that could be lower are above 0."""
    line = tl.straight_paths([[-1.0]], [[1.0]], 21)
    assert tl.mode_connectivity(tl.Landscape.from_function(lambda x: 1 - x[:, 0] ** 2, 1), line) == pytest.approx(-1)
    assert tl.mode_connectivity(tl.Landscape.from_function(lambda x: x[:, 0] ** 2, 1), line) == pytest.approx(1)
    # Ends of different height: what counts is the distance from their mean.
    assert tl.mode_connectivity(tl.Landscape.from_function(lambda x: x[:, 0], 1), line) == pytest.approx(1)


def test_connectivity_of_errors_is_that_of_the_shares_classified_wrongly():
    landscape, inputs, targets = small_landscape()
    paths = tl.straight_paths(*tl.initial_points(landscape, 2, seed=0)[:, None], 5)
    wrong = [(landscape.module_at(point)(inputs).argmax(1) != targets).double().mean().item() for point in paths[0]]
    below = np.mean([wrong[0], wrong[-1]]) - np.array(wrong)
    assert tl.mode_connectivity(landscape, paths, of="error")[0] == pytest.approx(below[np.abs(below).argmax()])


def test_paths_that_connect_nothing():
    landscape = tl.Landscape.from_function(lambda x: np.where(np.abs(x[:, 0]) < 0.5, np.nan, 0.0), 1)
    assert np.isnan(tl.mode_connectivity(landscape, tl.straight_paths([[-1.0]], [[1.0]])))
    with pytest.raises(ValueError, match=r"paths have shape \(2, 1\); they need to be \(b, k, dimension\), k at"):
        tl.mode_connectivity(landscape, [[0.0], [1.0]])
    with pytest.raises(ValueError, match="of is 'accuracy'; it needs to be one of loss, error"):
        tl.mode_connectivity(landscape, tl.straight_paths([[-1.0]], [[1.0]]), of="accuracy")
