"""Samplers: where the points lie, that a seed fixes them, and the way back to parameters."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topolandscape.landscape.directions import affine_span, principal_directions, random_directions
from topolandscape.landscape.grids import sample_grid, sample_plane
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.sampling import sample_ball, sample_box, sample_hull
from topolandscape.landscape.segments import sample_segment, segment_maxima
from topolandscape.structures import LossSamples

N = 4096


@pytest.fixture
def bowl():
    return Landscape.from_function(lambda x: (x**2).sum(1), 3)


@pytest.fixture
def plane():
    return Landscape.from_function(lambda x: (x**2).sum(1), 2)


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Unflatten(1, (1, 2, 3)),
            nn.Conv2d(1, 3, 2),
            nn.Flatten(),
            nn.Linear(6, 4),
            nn.LayerNorm(4),
            nn.Linear(4, 2),
        )
        inputs, targets = torch.randn(5, 6), torch.tensor([0, 1, 0, 1, 1])
    with torch.no_grad():
        module[3].weight[1] = 0.0
    return Landscape.from_module(module, inputs, targets, loss=F.cross_entropy)


def box(landscape, **changes):
    return sample_box(landscape, **({"low": [-1, 0, 2], "high": [1, 3, 2.5], "n": N, "seed": 0} | changes))


# --------------------------------------------------------------------------------------------------------------
# Box and ball
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sobol", "uniform", "latin"])
def test_box_is_filled_evenly(bowl, method):
    samples = box(bowl, method=method)
    low, high = np.array([-1, 0, 2.0]), np.array([1, 3, 2.5])
    unit = (samples.points - low) / (high - low)
    assert samples.points.shape == (N, 3)
    assert ((unit >= 0) & (unit <= 1)).all()
    # Mean and variance of the uniform distribution, 4.5 standard errors of independent points.
    np.testing.assert_allclose(unit.mean(axis=0), 0.5, atol=4.5 * (1 / 12 / N) ** 0.5)
    np.testing.assert_allclose(unit.var(axis=0), 1 / 12, atol=4.5 * (1 / 180 / N) ** 0.5)
    np.testing.assert_allclose(np.corrcoef(unit.T) - np.eye(3), 0, atol=4.5 / N**0.5)
    np.testing.assert_allclose(samples.values, (samples.points**2).sum(axis=1), rtol=1e-14)


def test_quasirandom_points_are_evener_than_independent_ones(bowl):
    strata = {m: np.floor(box(bowl, method=m).points[:, 0] * N / 2 + N / 2) for m in ("sobol", "latin", "uniform")}
    distinct = {method: len(np.unique(stratum)) for method, stratum in strata.items()}
    assert distinct["sobol"] == distinct["latin"] == N
    assert distinct["uniform"] < 0.7 * N  # 1 - 1 / e


@pytest.mark.parametrize("n", [1, 2, 3, 1000, 1024])
def test_any_number_of_sobol_points_is_the_beginning_of_the_same_sequence(bowl, n):
    np.testing.assert_array_equal(box(bowl, n=n).points, box(bowl, n=2048).points[:n])


@pytest.mark.parametrize("method", ["sobol", "uniform", "latin"])
def test_ball_is_filled_evenly(bowl, method):
    samples = sample_ball(bowl, center=[1, -2, 3], radius=2.0, n=N, seed=1, method=method)
    away = samples.points - [1, -2, 3]
    distance = np.linalg.norm(away, axis=1)
    assert distance.max() <= 2.0 + 1e-12
    # The volume within distance r is (r / R)^3: uniform in [0, 1]. Directions have mean zero, second moment 1/3.
    np.testing.assert_allclose(np.sort((distance / 2) ** 3), (np.arange(N) + 0.5) / N, atol=1.95 / N**0.5)
    unit = away / distance[:, None]
    np.testing.assert_allclose(unit.mean(axis=0), 0, atol=4.5 * (1 / 3 / N) ** 0.5)
    np.testing.assert_allclose(unit.T @ unit / N, np.eye(3) / 3, atol=4.5 * (4 / 45 / N) ** 0.5)


def test_ball_of_one_dimension_is_an_interval():
    line = Landscape.from_function(lambda x: x[:, 0], 1)
    points = sample_ball(line, center=[1.0], radius=2.0, n=N, seed=0).points[:, 0]
    np.testing.assert_allclose(np.sort(points), np.linspace(-1, 3, N), atol=0.15)


# --------------------------------------------------------------------------------------------------------------
# Seeds, thresholds, evaluators
# --------------------------------------------------------------------------------------------------------------

SAMPLERS = {
    "sobol": lambda landscape, seed, **more: box(landscape, seed=seed, n=100, **more),
    "uniform": lambda landscape, seed, **more: box(landscape, seed=seed, n=100, method="uniform", **more),
    "latin": lambda landscape, seed, **more: box(landscape, seed=seed, n=100, method="latin", **more),
    "ball": lambda landscape, seed, **more: sample_ball(
        landscape, center=[0, 0, 0], radius=1, n=100, seed=seed, **({"below": 0.5} | more)
    ),
    "hull": lambda landscape, seed, **more: sample_hull(landscape, np.eye(3), n=100, seed=seed, **more),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_seed_fixes_the_points_and_provenance_repeats_them(name, bowl):
    draw = SAMPLERS[name]
    first = draw(bowl, 3)
    np.testing.assert_array_equal(draw(bowl, 3).points, first.points)
    np.testing.assert_array_equal(draw(bowl, np.random.default_rng(3)).points, first.points)
    assert not np.isin(draw(bowl, 4).points, first.points).all()
    assert first.provenance["seed"] == 3
    said = json.loads(json.dumps(dict(first.provenance)))
    assert said["landscape"]["parameters"] == 3
    generator = np.random.default_rng(3)
    generator.random(5)
    later = draw(bowl, generator)
    state = json.loads(json.dumps(dict(later.provenance)))["seed"]
    again = np.random.default_rng(0)
    again.bit_generator.state = state
    np.testing.assert_array_equal(draw(bowl, again).points, later.points)


@pytest.mark.parametrize("name", SAMPLERS)
def test_points_do_not_depend_on_how_many_are_evaluated_at_once(name):
    drawn = []
    for memory in (1, 10**6):
        module = nn.Linear(1, 2)
        with torch.no_grad():
            module.weight.fill_(1.0)
            module.bias.zero_()
        landscape = Landscape.from_module(
            module, torch.ones(3, 1), torch.zeros(3, 2), loss=F.mse_loss, memory=memory, parameters="*", dtype="float64"
        ).restricted_to(np.zeros(4), np.eye(4)[:3])
        drawn.append(SAMPLERS[name](landscape, 7))
    np.testing.assert_array_equal(drawn[0].points, drawn[1].points)
    np.testing.assert_allclose(drawn[0].values, drawn[1].values, rtol=1e-12)


@pytest.mark.parametrize("method", ["sobol", "uniform", "latin"])
def test_threshold_keeps_the_first_points_below_it(bowl, method):
    samples = box(bowl, low=-1, high=1, n=1000, below=0.25, method=method)
    assert len(samples) == 1000
    assert samples.values.max() < 0.25
    # A ball of radius 1/2 takes pi / 48 of the box.
    share = 1000 / samples.provenance["drawn"]
    assert 0.9 * np.pi / 48 < share < 1.1 * np.pi / 48
    assert len(np.unique(samples.points, axis=0)) == 1000


def test_threshold_without_points_below_it_says_how_many_were_found(bowl):
    with pytest.raises(ValueError, match=r"only 0 of 50 points have a loss below -1 after 100 rounds \(6400 points"):
        box(bowl, n=50, below=-1)


def test_losses_that_are_not_finite_are_kept_or_counted():
    landscape = Landscape.from_function(lambda x: np.where(x[:, 0] < 0, np.nan, x[:, 0]), 1)
    samples = sample_box(landscape, low=-1, high=1, n=64, seed=0)
    assert len(samples.nonfinite) == 32
    below = sample_box(landscape, low=-1, high=1, n=32, seed=0, below=0.5)
    assert len(below.nonfinite) == 0
    assert below.provenance["drawn_nonfinite"] == below.provenance["drawn"] / 2


@pytest.mark.parametrize("name", [*SAMPLERS, "grid", "segment", "plane"])
def test_evaluator_of_the_caller_is_used(name, bowl):
    seen = []

    def evaluate(landscape, points):
        seen.append((landscape, len(points)))
        return np.arange(len(points)) * 1e-6

    samplers = SAMPLERS | {
        "grid": lambda landscape, seed, **more: sample_grid(landscape, low=0, high=1, shape=(2, 3, 4), **more),
        "segment": lambda landscape, seed, **more: sample_segment(landscape, [0, 0, 0], [1, 1, 1], n=9, **more),
        "plane": lambda landscape, seed, **more: sample_plane(landscape, np.eye(3), shape=(4, 5), **more),
    }
    samples = samplers[name](bowl, 0, evaluate=evaluate)
    np.testing.assert_array_equal(samples.values, np.arange(len(samples)) * 1e-6)
    assert len(seen) == 1
    assert seen[0][0].dimension == samples.points.shape[1]
    with pytest.raises(ValueError, match=r"evaluate returned shape \(3,\)"):
        samplers[name](bowl, 0, evaluate=lambda landscape, points: np.zeros(3))


def test_noise_is_measured_and_kept(network):
    samples = sample_segment(network, network.point, network.point + 10.0, n=20)
    assert samples.noise >= network.restricted_to(network.point, np.full((1, network.dimension), 10.0)).noise
    assert 0 < samples.noise < 1e-4


# --------------------------------------------------------------------------------------------------------------
# Grid, segment, plane
# --------------------------------------------------------------------------------------------------------------


def test_grid_is_row_major_with_exact_ends(bowl):
    samples = sample_grid(bowl, low=[-0.1, 0, 1], high=[0.3, 0.7, 1.1], shape=(3, 2, 5))
    assert samples.shape == (3, 2, 5)
    cube = samples.points.reshape(3, 2, 5, 3)
    assert (cube[0, :, :, 0] == -0.1).all()
    assert (cube[-1, :, :, 0] == 0.3).all()
    assert (cube[:, -1, :, 1] == 0.7).all()
    assert (cube[:, :, -1, 2] == 1.1).all()
    np.testing.assert_array_equal(cube[1, 1, :, 2], np.linspace(1, 1.1, 5))
    np.testing.assert_allclose(cube[1, :, :, 0], 0.1, rtol=1e-14)
    assert samples.provenance["shape"] == [3, 2, 5]


def test_segment_runs_from_end_to_end(network):
    other = network.point + 1.0
    samples = sample_segment(network, network.point, other, n=7, margin=0.25)
    np.testing.assert_allclose(samples.points[:, 0], np.linspace(-0.25, 1.25, 7))
    np.testing.assert_allclose(samples.parameters([3])[0], network.point + 0.5, rtol=1e-12)
    np.testing.assert_allclose(samples.values, network.values(samples.parameters()), atol=1e-6)
    assert samples.shape == (7,)
    assert samples.provenance["length"] == pytest.approx(network.dimension**0.5)


def test_plane_holds_the_three_points_at_their_true_distances(network):
    three = network.point + np.random.default_rng(0).normal(size=(3, network.dimension))
    samples = sample_plane(network, three, shape=(5, 9), margin=0.5)
    corners = np.array(samples.provenance["corners"])
    np.testing.assert_allclose(samples.subspace.parameters(corners), three, atol=1e-12)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(corners[i] - corners[j]) == pytest.approx(np.linalg.norm(three[i] - three[j]), rel=1e-12)
    assert corners[0].tolist() == [0, 0]
    assert corners[1, 1] == 0
    low, high = corners.min(axis=0), corners.max(axis=0)
    np.testing.assert_allclose(samples.points.min(axis=0), low - 0.5 * (high - low), rtol=1e-12)
    np.testing.assert_allclose(samples.points.max(axis=0), high + 0.5 * (high - low), rtol=1e-12)
    np.testing.assert_allclose(samples.values, network.values(samples.parameters()), atol=1e-6)
    assert samples.shape == (5, 9)


def test_center_of_an_odd_grid_has_the_loss_of_the_network(network):
    directions = random_directions(network, 2, seed=0)
    grid = sample_grid(network.restricted_to(network.point, directions), low=-1, high=1, shape=(5, 7))
    middle = grid.values.reshape(grid.shape)[2, 3]
    assert middle == pytest.approx(network.values(network.point[None])[0], abs=1e-6)
    np.testing.assert_array_equal(grid.parameters([5 * 7 // 2])[0], network.point)
    # The first direction is the first axis, and slowest.
    np.testing.assert_allclose(grid.parameters([4 * 7 + 3])[0] - network.point, directions[0], atol=1e-14)
    np.testing.assert_allclose(grid.parameters([2 * 7 + 6])[0] - network.point, directions[1], atol=1e-14)


def test_samples_of_nested_restrictions_lead_back(network):
    rng = np.random.default_rng(0)
    cube = network.restricted_to(network.point, rng.normal(size=(3, network.dimension)))
    samples = sample_plane(cube, np.eye(3), shape=3)
    np.testing.assert_allclose(samples.values, network.values(samples.parameters()), atol=1e-6)
    assert samples.parameters().shape == (9, network.dimension)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[0, 0, 0], [1, 1, 1], [2, 2, 2]], r"points\[2\] lies on one line"),
        ([[0, 0, 0], [0, 0, 0], [1, 2, 2]], r"points\[1\] is the same as the first"),
        ([[0, 0, 0], [1, 1, 1]], "there are 2 points; a plane needs three"),
        ([[0, 0], [1, 1], [0, 1]], r"points have shape \(3, 2\)"),
    ],
)
def test_planes_that_are_none_are_refused(bowl, points, message):
    with pytest.raises(ValueError, match=message):
        sample_plane(bowl, points)


# --------------------------------------------------------------------------------------------------------------
# Hull
# --------------------------------------------------------------------------------------------------------------


def in_polygon(points, corners):
    """Return which points lie in a convex polygon whose corners go round counterclockwise."""
    inside = np.ones(len(points), dtype=bool)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (b[0] - a[0]) * (points[:, 1] - a[1]) - (b[1] - a[1]) * (points[:, 0] - a[0]) >= -1e-12
    return inside


def test_hull_is_filled_evenly_and_enlarged_about_its_center(plane):
    # A trapezoid of a square around (1/2, 1/2) and a triangle of half its area around (4/3, 1/3).
    corners = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    area, center = 1.5, np.array([7 / 9, 4 / 9])
    minima = np.vstack([corners, [[0.5, 0.5], [1.0, 0.2]]])  # points inside change nothing
    samples = sample_hull(plane, minima, n=20_000, seed=0, enlarge=1.21, with_minima=False)
    assert samples.subspace is None
    grown = center + 1.1 * (corners - center)
    assert in_polygon(samples.points, grown).all()
    np.testing.assert_allclose(samples.points.mean(axis=0), center, atol=0.02)
    # Evenly: the share of the original hull is 1 / 1.21, of the square in it two thirds of that.
    assert in_polygon(samples.points, corners).mean() == pytest.approx(1 / 1.21, abs=0.012)
    square = ((samples.points >= 0) & (samples.points <= 1)).all(axis=1)
    assert square.mean() == pytest.approx(1 / (area * 1.21), abs=0.016)


def test_hull_of_few_minima_lies_in_their_span(network):
    minima = network.point + np.random.default_rng(0).normal(size=(4, network.dimension))
    samples = sample_hull(network, minima, n=5000, seed=0, enlarge=8.0, with_minima=False)
    assert samples.points.shape == (5000, 3)
    weights = np.linalg.lstsq(np.vstack([minima.T, np.ones(4)]), np.vstack([samples.parameters().T, np.ones(5000)]))[0]
    rebuilt = weights.T @ minima
    np.testing.assert_allclose(rebuilt, samples.parameters(), atol=1e-9)
    # Scaled by 8^(1/3) about the center: barycentric weights from 1/4 - 1/2 on, of mean 1/4 and variance 4 * 3/80.
    assert weights.min() >= -0.25 - 1e-9
    assert weights.min() < -0.2
    np.testing.assert_allclose(weights.mean(axis=1), 0.25, atol=0.025)
    np.testing.assert_allclose(weights.var(axis=1), 4 * 3 / 80, rtol=0.1)


def test_hull_of_points_on_a_line_is_a_segment(bowl):
    samples = sample_hull(bowl, [[0, 0, 0], [1, 1, 1], [4, 4, 4]], n=2000, seed=0, enlarge=1.5, with_minima=False)
    along = samples.parameters() @ np.ones(3) / 3
    np.testing.assert_allclose(samples.parameters(), along[:, None] * np.ones(3), atol=1e-12)
    assert along.min() == pytest.approx(-1, abs=0.02)
    assert along.max() == pytest.approx(5, abs=0.02)


@pytest.mark.parametrize("below", [None, 3.0])
def test_the_minima_come_first_in_their_hull(bowl, below):
    corners = np.array([[0.0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1], [2, 2, 2]])
    low = (corners**2).sum(axis=1) < 3.0 if below else np.ones(5, dtype=bool)
    samples = sample_hull(bowl, corners, n=50, seed=0, below=below)
    np.testing.assert_allclose(samples.parameters()[: low.sum()], corners[low], atol=1e-12)
    assert len(samples) == 55
    assert not (samples.points[low.sum() :, None] == corners).all(axis=2).any()


def test_hulls_that_are_none_are_refused(bowl):
    with pytest.raises(ValueError, match="2 minima are one and the same point"):
        sample_hull(bowl, np.ones((2, 3)), n=5, seed=0)
    with pytest.raises(ValueError, match="1 minima are one"):
        sample_hull(bowl, np.ones((1, 3)), n=5, seed=0)
    wide = Landscape.from_function(lambda x: (x**2).sum(1), 9)
    with pytest.raises(ValueError, match="the hull of 12 points has 9 dimensions"):
        sample_hull(wide, np.random.default_rng(0).normal(size=(12, 9)), n=5, seed=0)


# --------------------------------------------------------------------------------------------------------------
# Directions
# --------------------------------------------------------------------------------------------------------------


def parts(network, vector):
    return {block.name: vector[block.entries].reshape(block.shape) for block in network.blocks}


def test_filter_normalised_rows_have_the_norms_of_the_weights(network):
    (direction,) = random_directions(network, 1, seed=0)
    own, drawn = parts(network, network.point), parts(network, direction)
    for name in ("1.weight", "3.weight", "5.weight"):
        rows = len(own[name])
        norms = np.linalg.norm(own[name].reshape(rows, -1), axis=1)
        np.testing.assert_allclose(np.linalg.norm(drawn[name].reshape(rows, -1), axis=1), norms, rtol=1e-12)
    assert not drawn["3.weight"][1].any()  # zero filters stay zero
    for name in ("1.bias", "3.bias", "4.weight", "4.bias", "5.bias"):
        assert not drawn[name].any()


def test_layer_normalised_parameters_have_the_norms_of_the_weights(network):
    at = network.point + 1.0
    directions = random_directions(network, 3, seed=0, at=at, normalisation="layer", ignore_vectors=False)
    for direction in directions:
        own, drawn = parts(network, at), parts(network, direction)
        for name, weight in own.items():
            assert np.linalg.norm(drawn[name]) == pytest.approx(np.linalg.norm(weight), rel=1e-12)
    assert directions[:, network.blocks[2].entries].all()


def test_plain_directions_are_normal_and_seeded(network):
    directions = random_directions(network, 200, seed=0, normalisation="none")
    assert directions.std() == pytest.approx(1, abs=0.02)
    np.testing.assert_array_equal(directions, random_directions(network, 200, seed=0, normalisation="none"))
    # Scaling changes the length of a row only.
    scaled = random_directions(network, 200, seed=0)
    block = network.blocks[0]
    row = directions[0, block.entries][:4]
    np.testing.assert_allclose(
        scaled[0, block.entries][:4] / np.linalg.norm(scaled[0, block.entries][:4]), row / np.linalg.norm(row)
    )


def test_normalisation_without_weights_is_refused(bowl, network):
    for landscape in (bowl, network.restricted_to(network.point, np.eye(network.dimension)[:2])):
        with pytest.raises(ValueError, match='normalisation="filter" needs the parameters of a module'):
            random_directions(landscape, 1, seed=0)
        assert random_directions(landscape, 1, seed=0, normalisation="none").shape == (1, landscape.dimension)
    with pytest.raises(ValueError, match="normalisation is 'filters'"):
        random_directions(network, 1, seed=0, normalisation="filters")


def test_principal_directions_are_the_eigenvectors_of_the_moments():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(30, 4)) @ np.diag([5.0, 3.0, 1.0, 0.1]) @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for center, origin in (("last", points[-1]), ("mean", points.mean(axis=0))):
        moments = (points - origin).T @ (points - origin)
        eigenvalues, eigenvectors = np.linalg.eigh(moments)
        got_origin, directions, shares = principal_directions(points, 3, center=center)
        np.testing.assert_allclose(got_origin, origin)
        np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(np.abs(np.diag(directions @ eigenvectors[:, :0:-1])), 1, rtol=1e-9)
        np.testing.assert_allclose(shares, eigenvalues[:0:-1] / eigenvalues.sum(), rtol=1e-9)
        assert (directions[np.arange(3), np.abs(directions).argmax(axis=1)] > 0).all()


def test_more_principal_directions_than_the_points_have_are_refused():
    with pytest.raises(ValueError, match="2 directions were asked for, but the 3 points extend in 1"):
        principal_directions([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0]], 2)
    with pytest.raises(ValueError, match="the 2 points extend in 0"):
        principal_directions(np.ones((2, 2)), 1)


def test_affine_span_is_orthonormal_and_holds_the_points():
    points = np.random.default_rng(0).normal(size=(4, 50)) + 100
    origin, directions = affine_span(points)
    np.testing.assert_allclose(directions @ directions.T, np.eye(3), atol=1e-14)
    coordinates = (points - origin) @ directions.T
    np.testing.assert_allclose(origin + coordinates @ directions, points, rtol=1e-13)
    np.testing.assert_allclose(np.triu(coordinates[1:], 1), 0, atol=1e-12)
    with pytest.raises(ValueError, match=r"points\[3\] lies in the span"):
        affine_span(np.vstack([points[:3], points[:3].mean(axis=0)]))


# --------------------------------------------------------------------------------------------------------------
# Bad input
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: box(x, low=[0, 0, 0], high=[1, 0, 1]), "coordinate 1 goes from 0 to 0; low must be below high"),
        (lambda x: box(x, low=0, high=np.inf), "coordinate 0 goes from 0 to inf"),
        (lambda x: box(x, low=[0, 0]), r"low has shape \(2,\); give one number, or 3"),
        (lambda x: box(x, n=0), "n is 0; it needs to be a whole number, 1 or more"),
        (lambda x: box(x, n=2.5), "n is 2.5"),
        (lambda x: box(x, method="halton"), "method is 'halton'"),
        (lambda x: box(x, below=float("nan")), "below is NaN"),
        (lambda x: sample_ball(x, center=[0, 0], radius=1, n=5, seed=0), r"center has shape \(2,\)"),
        (lambda x: sample_ball(x, center=[0, 0, 0], radius=0, n=5, seed=0), "radius is 0"),
        (lambda x: sample_grid(x, low=0, high=1, shape=(3, 3)), r"shape \(3, 3\) has 2 axes, the landscape 3"),
        (lambda x: sample_grid(x, low=0, high=1, shape=(3, 1, 3)), "a side of the grid is 1; .* 2 or more"),
        (lambda x: sample_segment(x, [0, 0, 0], [0, 0, 0], n=3), "a and b are the same point"),
        (lambda x: sample_segment(x, [0, 0, 0], [0, np.nan, 0], n=3), r"b\[1\] is nan"),
        (lambda x: sample_segment(x, [0, 0, 0], [1, 0, 0], n=1), "n is 1"),
        (lambda x: sample_segment(x, [0, 0, 0], [1, 0, 0], n=3, margin=-1), "margin is -1"),
        (lambda x: sample_hull(x, [[0, 0, 0], [1, np.inf, 0]], n=3, seed=0), r"minima\[1, 1\] is inf"),
        (lambda x: sample_hull(x, np.eye(3), n=3, seed=0, enlarge=0), "enlarge is 0"),
    ],
)
def test_bad_input_is_refused(bowl, call, message):
    with pytest.raises(ValueError, match=message):
        call(bowl)


def test_too_many_dimensions_for_sobol_are_refused():
    wide = Landscape.from_function(lambda x: (x**2).sum(1), 21_202)
    with pytest.raises(ValueError, match='21202 coordinates, and Sobol points for 21201 at most; use method="uniform"'):
        sample_box(wide, low=0, high=1, n=1, seed=0)
    assert len(sample_box(wide, low=0, high=1, n=2, seed=0, method="uniform")) == 2


def test_seed_is_required(bowl):
    with pytest.raises(TypeError, match="seed"):
        sample_box(bowl, low=0, high=1, n=4)


def test_the_highest_loss_of_a_segment_sees_a_ridge():
    ridge = Landscape.from_function(lambda x: 1 - (x**2).sum(1), 2)
    samples = LossSamples([[-1.0, 0.0], [1.0, 0.0], [0.0, 2.0]], ridge.values([[-1.0, 0], [1, 0], [0, 2]]))
    highest = segment_maxima(ridge, samples, [[0, 1], [1, 2], [0, 2]], q=99)
    # On the way from (1, 0) to (0, 2) the point nearest to the origin is at distance 2 / sqrt(5).
    np.testing.assert_allclose(highest, [1.0, 1 - 4 / 5, 1 - 4 / 5], atol=1e-12)
    with pytest.raises(ValueError, match="edges name rows 0 to 3, and there are 3 samples"):
        segment_maxima(ridge, samples, [[0, 3]])
    with pytest.raises(ValueError, match="give two rows of samples"):
        segment_maxima(ridge, samples, [0, 1])
    with pytest.raises(ValueError, match="2 coordinates and the landscape 3"):
        segment_maxima(Landscape.from_function(lambda x: x.sum(1), 3), samples, [[0, 1]])
