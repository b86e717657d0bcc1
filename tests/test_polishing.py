"""Polishing: to the minima of hard functions, and an honest word where it ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize, rosen
from torch import nn

from topolandscape.landscape import polishing
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.polishing import polish

pytestmark = pytest.mark.usefixtures("one_thread")


def rosenbrock(p):
    return Landscape.from_function(lambda x: ((1 - x[:, :-1]) ** 2 + 100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2).sum(1), p)


def quadratic(spectrum, lowest=0.0):
    """Return a quadratic form, and its matrix."""
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((len(spectrum),) * 2))[0]
    matrix = axes @ np.diag(spectrum) @ axes.T
    exact = torch.tensor(matrix)
    return Landscape.from_function(lambda x: lowest + 0.5 * ((x @ exact) * x).sum(1), len(spectrum)), matrix


def network(dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        inputs, targets = torch.randn(40, 4), torch.arange(40) % 3
    return Landscape.from_module(module, inputs, targets, loss=F.cross_entropy, weight_decay=0.01, dtype=dtype)


@pytest.fixture
def newton_only(monkeypatch):
    """Leave out L-BFGS."""
    monkeypatch.setattr(polishing, "_quasi_newton", lambda task, allowed: task.end_converged())


@pytest.fixture
def quasi_newton_only(monkeypatch):
    """Leave out Newton's method."""
    monkeypatch.setattr(polishing, "_newton", lambda task: task.end("stalled", task.going))


def valley_starts():
    return np.random.default_rng(0).uniform(-1, 2, size=(6, 20))


def check_valley(polished):
    assert set(polished.ended) == {"converged"}
    assert polished.gradient_norm.max() <= 1e-8
    # The function has a second minimum near (-1, 1, ..., 1) from four dimensions on.
    other = minimize(rosen, np.array([-1.0] + [1.0] * 19), method="BFGS", options={"gtol": 1e-9}).x
    for point in polished.points:
        assert min(np.abs(point - 1).max(), np.abs(point - other).max()) < 1e-6


def test_the_valley_of_rosenbrock_in_twenty_dimensions():
    polished = polish(rosenbrock(20), valley_starts(), tolerance=1e-8)
    check_valley(polished)
    assert polished.evaluations.max() < 1000


def test_newton_alone_goes_through_the_valley(newton_only):
    check_valley(polish(rosenbrock(20), valley_starts(), tolerance=1e-8, max_evaluations=20000))


def test_quasi_newton_alone_goes_through_the_valley(quasi_newton_only):
    check_valley(polish(rosenbrock(20), valley_starts(), tolerance=1e-8))


def test_curvatures_over_four_orders_of_magnitude():
    landscape, _ = quadratic(np.logspace(-3, 1, 40))
    starts = np.random.default_rng(1).standard_normal((4, 40))
    polished = polish(landscape, starts, tolerance=1e-9)
    assert set(polished.ended) == {"converged"}
    assert np.linalg.norm(polished.points, axis=1).max() <= 1e-6


def test_truncated_newton_needs_one_step_for_a_quadratic_form(newton_only, monkeypatch):
    # With a wide trust region conjugate gradients solve the system in as many products as there are eigenvalues.
    landscape, _ = quadratic(np.repeat([1.0, 2.0, 5.0], 10))
    polished = polish(landscape, 0.01 * np.ones((2, 30)), tolerance=1e-12)
    assert polished.ended == ("converged", "converged")
    assert polished.evaluations.max() < 40


def test_newton_leaves_a_saddle_by_negative_curvature(newton_only):
    saddle = Landscape.from_function(lambda x: x[:, 0] ** 2 + (x[:, 1] ** 2 - 1) ** 2, 2)
    polished = polish(saddle, [[1e-3, 1e-8], [1.0, -1e-6]], tolerance=1e-9)
    np.testing.assert_allclose(polished.points, [[0, 1], [0, -1]], atol=1e-8)


def test_conjugate_gradients_stay_in_the_region_and_lower_the_model():
    rng = np.random.default_rng(0)
    for spectrum in (np.linspace(0.1, 3, 12), np.linspace(-1, 3, 12)):
        landscape, matrix = quadratic(spectrum)
        points = rng.standard_normal((40, 12))
        values, gradients = landscape.gradients(points)
        radius = np.logspace(-2, 2, 40)
        steps, promised = polishing.steihaug(
            lambda rows, directions, matrix=matrix: directions @ matrix,
            gradients,
            radius,
            np.full(40, 1e-12),
            np.full(40, 100),
        )
        newton = -np.linalg.solve(matrix, gradients.T).T
        length = np.linalg.norm(steps, axis=1)
        inside = length < 0.999 * radius
        assert inside.any() == (spectrum[0] > 0)
        np.testing.assert_allclose(steps[inside], newton[inside], rtol=1e-8)
        np.testing.assert_allclose(length[~inside], radius[~inside], rtol=1e-12)
        np.testing.assert_allclose(promised, values - landscape.values(points + steps), rtol=1e-8)
        # At least as low as the best point straight downhill.
        slope = np.linalg.norm(gradients, axis=1)
        bend = np.einsum("mp,pq,mq->m", gradients, matrix, gradients) / slope**2
        straight = np.where(bend > 0, np.minimum(slope / np.where(bend > 0, bend, 1), radius), radius)
        assert (promised >= slope * straight - 0.5 * bend * straight**2 - 1e-12).all()


def test_each_point_does_what_it_would_do_alone_but_all_share_the_calls(monkeypatch):
    landscape, calls, plain = rosenbrock(6), [], Landscape.gradients

    def counted(self, points, **options):
        calls.append(len(points))
        return plain(self, points, **options)

    monkeypatch.setattr(Landscape, "gradients", counted)
    starts = np.random.default_rng(2).uniform(-1, 2, size=(8, 6))
    together = polish(landscape, starts, tolerance=1e-9)
    assert sum(calls) == together.evaluations.sum()
    assert len(calls) == together.evaluations.max()
    for row in range(8):
        alone = polish(landscape, starts[row : row + 1], tolerance=1e-9)
        np.testing.assert_allclose(alone.points[0], together.points[row], atol=1e-9)
        assert alone.evaluations[0] == together.evaluations[row]


def test_products_with_the_hessian_count_as_two_gradients(newton_only, monkeypatch):
    counts = {"gradients": 0, "hessian_products": 0}
    for name in counts:
        plain = getattr(Landscape, name)

        def counted(self, *arguments, name=name, plain=plain, **options):
            counts[name] += len(arguments[-1])
            return plain(self, *arguments, **options)

        monkeypatch.setattr(Landscape, name, counted)
    polished = polish(rosenbrock(5), np.zeros((3, 5)), tolerance=1e-9)
    assert counts["hessian_products"] > 10
    assert polished.evaluations.sum() == counts["gradients"] + 2 * counts["hessian_products"]


def test_a_network_in_float32_ends_at_its_noise_and_says_so():
    starts = np.random.default_rng(0).standard_normal((5, network("float32").dimension))
    exact = polish(network("float64"), starts, tolerance=1e-10)
    assert set(exact.ended) == {"converged"}
    rough = polish(network("float32"), starts, tolerance=1e-5)
    assert set(rough.ended) == {"converged"}
    impossible = polish(network("float32"), starts, tolerance=1e-13)
    assert set(impossible.ended) == {"stalled"}
    assert impossible.gradient_norm.max() < 1e-6
    assert impossible.evaluations.max() < 4000
    np.testing.assert_allclose(network("float64").gradients(impossible.points)[1], 0, atol=1e-6)


@pytest.mark.parametrize("only", ["both", "newton_only", "quasi_newton_only"])
def test_gradients_lead_on_where_the_loss_is_lost_in_its_rounding(only, request):
    # Near the minimum a million hides all that is below 1e-10, but the gradient is exact.
    if only != "both":
        request.getfixturevalue(only)
    hidden, _ = quadratic(np.logspace(-1, 1, 20), lowest=1e6)
    starts = np.random.default_rng(0).standard_normal((6, 20))
    polished = polish(hidden, starts, tolerance=1e-9)
    assert set(polished.ended) == {"converged"}
    np.testing.assert_allclose(polished.points, 0, atol=1e-8)


def test_no_loss_is_higher_than_at_the_start():
    landscape = network("float64")
    starts = np.random.default_rng(3).standard_normal((5, landscape.dimension))
    for most in (1, 3, 10, 40, 200):
        polished = polish(landscape, starts, max_evaluations=most, tolerance=0.0)
        assert (polished.values <= landscape.values(starts)).all()
        np.testing.assert_allclose(polished.values, landscape.values(polished.points), rtol=1e-12)
        np.testing.assert_allclose(
            polished.gradient_norm, np.linalg.norm(landscape.gradients(polished.points)[1], axis=1), rtol=1e-9
        )
        assert set(polished.ended) == {"evaluations"}
        assert (polished.evaluations <= most + 3).all()


def test_points_that_are_not_finite_do_not_spoil_the_others():
    landscape = Landscape.from_function(lambda x: (torch.log(x) ** 2).sum(1), 1)
    polished = polish(landscape, [[3.0], [-1.0], [0.2]], tolerance=1e-9)
    assert polished.ended == ("converged", "not finite", "converged")
    assert polished.converged.tolist() == [True, False, True]
    np.testing.assert_allclose(polished.points, [[1], [-1], [1]], atol=1e-8)


def test_what_falls_without_end_stops_when_evaluations_run_out():
    for function in (lambda x: -x[:, 0], lambda x: -(x[:, 0] ** 3), lambda x: -torch.exp(x[:, 0])):
        polished = polish(Landscape.from_function(function, 1), [[1.0]], max_evaluations=300)
        assert polished.ended[0] in ("evaluations", "stalled")
        assert polished.points[0, 0] > 50
        assert np.isfinite(polished.values).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tolerance": -1.0}, "tolerance is -1"),
        ({"max_evaluations": 0}, "max_evaluations is 0"),
        ({"points": np.zeros((2, 3))}, r"points have shape \(2, 3\)"),
        ({"points": np.full((1, 2), np.nan)}, r"points\[0, 0\] is nan"),
    ],
)
def test_bad_input_is_refused(changes, message):
    settings = {"points": np.zeros((1, 2))} | changes
    with pytest.raises(ValueError, match=message):
        polish(rosenbrock(2), settings.pop("points"), **settings)


def test_tf32_on_a_processor_is_float32():
    starts = np.random.default_rng(0).standard_normal((2, network("tf32").dimension))
    rough, same = (polish(network(dtype), starts, tolerance=1e-4, noise=0.0) for dtype in ("tf32", "float32"))
    assert set(rough.ended) == {"converged"}
    np.testing.assert_allclose(rough.points, same.points, atol=1e-3)
