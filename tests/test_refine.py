"""Bars of samples, refined to minima and saddles, against functions whose bars are known."""

import numpy as np
import pytest
import torch

from topolandscape.landscape.grids import sample_grid, sample_plane
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.refinement import refine
from topolandscape.landscape.sampling import sample_ball, sample_box
from topolandscape.structures import Barcode, LossSamples, Subspace
from topolandscape.topology.complexes import delaunay, grid, nearest_neighbours
from topolandscape.topology.persistence import barcode
from topolandscape.zoo import functions, separable_sum

pytestmark = pytest.mark.usefixtures("one_thread")


def of_zoo(name):
    known = functions[name]
    return known, Landscape.from_function(known.function, known.dimension)


def told(code):
    return code.provenance["refined"]


def assert_bars(code, exact, tolerance=1e-6):
    got, expected = np.column_stack([code.birth, code.death]), np.array(exact)
    got, expected = (rows[np.lexsort((rows[:, 0].round(5), rows[:, 1].round(5)))] for rows in (got, expected))
    assert got.shape == expected.shape
    finite = np.isfinite(expected)
    assert np.isfinite(got).tolist() == finite.tolist()
    assert np.abs(got[finite] - expected[finite]).max() <= tolerance


# --------------------------------------------------------------------------------------------------------------
# Functions whose bars are known
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", functions)
def test_functions_of_the_zoo_on_a_coarse_grid(name):
    known, landscape = of_zoo(name)
    shape = (41, 41) if known.dimension == 2 else (401,)
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=shape)
    refined = refine(barcode(grid(samples)), samples, landscape)
    assert_bars(refined, known.bars[0])


@pytest.mark.parametrize("name", functions)
def test_functions_of_the_zoo_at_random_points(name):
    known, landscape = of_zoo(name)
    samples = sample_box(landscape, low=known.low, high=known.high, n=20_000, seed=0)
    refined = refine(barcode(nearest_neighbours(samples, k=8 * known.dimension)), samples, landscape)
    assert_bars(refined, known.bars[0])


@pytest.mark.parametrize("seed", range(5))
def test_other_draws_and_other_neighbours(seed):
    known, landscape = of_zoo("himmelblau")
    samples = sample_box(landscape, low=known.low, high=known.high, n=400, seed=seed, method="uniform")
    for complex in (delaunay(samples), nearest_neighbours(samples, k=16)):
        assert_bars(refine(barcode(complex), samples, landscape), known.bars[0])


def test_three_dimensions():
    line = functions["rastrigin_1d"]
    known = separable_sum(line, line, functions["quartic"])
    landscape = Landscape.from_function(known.function, 3)
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(31, 31, 13))
    assert_bars(refine(barcode(grid(samples)), samples, landscape), known.bars[0])


def test_bars_say_where_their_minima_and_saddles_are():
    known, landscape = of_zoo("mueller_brown")
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(41, 41))
    sampled = barcode(grid(samples))
    assert len(sampled) == 5  # two of them noise
    refined = refine(sampled, samples, landscape)
    said = told(refined)
    minima = np.array(said["minimum"])
    assert np.linalg.norm(minima[:, None] - known.minima, axis=2).min(axis=1).max() < 1e-6
    saddles = np.array([saddle for saddle in said["saddle"] if saddle is not None])
    assert np.linalg.norm(saddles[:, None] - known.saddles, axis=2).min(axis=1).max() < 1e-6
    assert landscape.values(minima) == pytest.approx(refined.birth, abs=1e-9)
    assert said["death"] == ["never", "moved", "moved"]
    assert sorted([*said["row"], *said["dropped"]]) == list(range(5))
    for row, vertex in zip(said["row"], refined.birth_vertex, strict=True):
        assert sampled.birth_vertex[row] == vertex
    assert refined.size.tolist() == sampled.size[said["row"]].tolist()


def test_noise_in_a_valley_is_dropped():
    """Rosenbrock's valley lies across the axes of the grid, which so has 28 minima that are none."""
    known, landscape = of_zoo("rosenbrock")
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(41, 41))
    sampled = barcode(grid(samples))
    refined = refine(sampled, samples, landscape)
    assert len(sampled) == 29
    assert len(refined) == 1
    assert len(told(refined)["dropped"]) == 28


def test_the_lower_of_two_saddles_is_found_when_samples_take_the_other():
    """Two passes of the six-hump camel differ by 1.1e-4, and the grid has them in the wrong order."""
    known, landscape = of_zoo("six_hump_camel")
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(41, 41))
    sampled = barcode(grid(samples))
    beside = samples.points[sampled.death_vertex[sampled.birth > 1]]
    lower, higher = known.saddles[3], known.saddles[5]
    assert known.function(higher[None]) - known.function(lower[None]) == pytest.approx(1.136e-4, rel=1e-3)
    assert (np.linalg.norm(np.abs(beside) - np.abs(higher), axis=1) < 0.1).all()
    refined = refine(sampled, samples, landscape)
    at = np.array([told(refined)["saddle"][bar] for bar in np.flatnonzero(refined.birth > 1)])
    assert np.abs(at) == pytest.approx(np.abs([lower, lower]), abs=1e-6)


def test_minima_that_were_not_seen_are_found_beside_saddles():
    """Schwefel's narrowest basin is 31 wide, and the grid's points are 25 apart."""
    known, landscape = of_zoo("schwefel_2d")
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(41, 41))
    sampled = barcode(grid(samples))
    refined = refine(sampled, samples, landscape)
    assert len(sampled) < len(refined) == 64
    assert told(refined)["row"].count(-1) == 64 - len(sampled) + len(told(refined)["dropped"])


# --------------------------------------------------------------------------------------------------------------
# The boundary of the region
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [sample_grid, sample_box])
def test_minima_on_the_boundary_are_moved_along_it(sample):
    """With -x added a double well times a well is lowest on the side at 2, and has its saddle there as well."""

    def function(points):
        x, y = points[:, 0], points[:, 1]
        return (y**2 - 1) ** 2 + 0.1 * y - x

    landscape = Landscape.from_function(function, 2)
    size = {"shape": (30, 30)} if sample is sample_grid else {"n": 2000, "seed": 0}
    samples = sample(landscape, low=[0, -2], high=[2, 2], **size)
    refined = refine(
        barcode(grid(samples) if sample is sample_grid else nearest_neighbours(samples, k=16)), samples, landscape
    )
    y = np.sort(np.roots([4, 0, -4, 0.1]).real)
    low, top, high = (y**2 - 1) ** 2 + 0.1 * y - 2
    assert_bars(refined, [(low, np.inf), (high, top)])
    assert told(refined)["birth"] == ["boundary", "boundary"]
    assert told(refined)["death"] == ["never", "boundary"]
    assert np.array(told(refined)["minimum"]) == pytest.approx(np.array([[2, y[0]], [2, y[2]]]), abs=1e-6)


def test_what_leaves_the_samples_stays_as_it_was():
    landscape = Landscape.from_function(lambda x: x[:, 0] + (x**2).sum(1), 2)
    samples = sample_ball(landscape, center=[1, 0], radius=1, n=500, seed=0)
    sampled = barcode(delaunay(samples)).filter(max_bars=1)
    refined = refine(sampled, samples, landscape)
    assert told(refined)["birth"] == ["as sampled"]
    assert refined.birth.tolist() == sampled.birth.tolist()


# --------------------------------------------------------------------------------------------------------------
# Networks and subspaces
# --------------------------------------------------------------------------------------------------------------


def test_samples_of_a_subspace_are_refined_in_it():
    known, _ = of_zoo("three_hump_camel")
    rng = np.random.default_rng(0)
    directions, origin = np.linalg.qr(rng.normal(size=(5, 2)))[0].T, rng.normal(size=5)
    whole = Landscape.from_function(lambda x: known.function((x - origin) @ directions.T) + (x**2).sum(axis=1) * 0, 5)
    plane = whole.restricted_to(origin, directions)
    samples = sample_grid(plane, low=[-2, -2], high=[2, 2], shape=(41, 41))
    assert isinstance(samples.subspace, Subspace)
    for landscape in (whole, plane):
        assert_bars(refine(barcode(grid(samples)), samples, landscape), known.bars[0])


def test_a_plane_through_trained_networks():
    torch.manual_seed(0)
    inputs = torch.randn(64, 2, dtype=torch.float64)
    targets = torch.tanh(inputs @ torch.tensor([[1.0], [-2.0]], dtype=torch.float64))
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1)).double()
    landscape = Landscape.from_module(
        module, inputs, targets, loss=torch.nn.functional.mse_loss, weight_decay=1e-3, form="vmap"
    )
    corners = np.random.default_rng(0).normal(size=(3, landscape.dimension))
    samples = sample_plane(landscape, corners, shape=(31, 31))
    fine = sample_plane(landscape, corners, shape=(151, 151))
    refined = refine(barcode(grid(samples)), samples, landscape)
    exact = barcode(grid(fine)).filter(min_persistence=1e-3)
    assert len(refined.filter(min_persistence=1e-3)) == len(exact)
    assert (refined.birth[: len(exact)] <= exact.birth + 1e-9).all()
    assert refined.birth[: len(exact)] == pytest.approx(exact.birth, abs=1e-3)
    assert refined.death[: len(exact)] == pytest.approx(exact.death, abs=1e-3)


def test_bars_that_were_left_out_are_not_needed():
    """Without the bars between the outer minima and the deepest there is no way from saddle to saddle."""
    known, landscape = of_zoo("rastrigin_1d")
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(101,))
    sampled = barcode(grid(samples))
    few = sampled.filter(max_bars=1)
    assert_bars(refine(few, samples, landscape), [(0.0, np.inf)])
    outer = Barcode(**{name: getattr(sampled, name)[np.array([0, 3, 4])] for name in Barcode.columns})
    refined = refine(outer, samples, landscape)
    births, exact = np.sort(sampled.birth[[0, 3, 4]]), np.sort(refined.birth)
    assert np.abs(births - exact[np.searchsorted(exact, births - 0.1)]).max() < 0.1
    assert np.isinf(refined.death).sum() == 1


# --------------------------------------------------------------------------------------------------------------
# Degenerate input
# --------------------------------------------------------------------------------------------------------------


def test_a_constant_function_keeps_its_bar():
    landscape = Landscape.from_function(lambda x: 0 * x[:, 0] + 3, 2)
    samples = sample_grid(landscape, low=0, high=1, shape=(9, 9))
    refined = refine(barcode(grid(samples)), samples, landscape)
    assert_bars(refined, [(3.0, np.inf)], 0.0)


def test_a_plateau_is_one_minimum():
    landscape = Landscape.from_function(lambda x: torch.relu((x**2).sum(dim=1) - 0.25) ** 3, 2)
    samples = sample_box(landscape, low=-1, high=1, n=500, seed=0)
    refined = refine(barcode(nearest_neighbours(samples, k=8, connect=True)), samples, landscape)
    assert_bars(refined, [(0.0, np.inf)], 1e-12)


def test_samples_that_are_there_several_times_make_no_difference():
    known, landscape = of_zoo("himmelblau")
    samples = sample_box(landscape, low=-5, high=5, n=1000, seed=0)
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(1000), 3))
    again = LossSamples(samples.points[rows], samples.values[rows], samples.noise, provenance=samples.provenance)
    assert_bars(refine(barcode(nearest_neighbours(again, k=40)), again, landscape), known.bars[0])


def test_losses_that_are_not_finite_are_gone_around():
    def function(x):
        return torch.where(
            (x[:, 0] > 1.2) & (x[:, 1] > 0.5), torch.nan, (x[:, 0] ** 2 - 1) ** 2 + x[:, 1] ** 2 + 0.1 * x[:, 0]
        )

    landscape = Landscape.from_function(function, 2)
    samples = sample_grid(landscape, low=[-2, -1], high=[2, 1], shape=(33, 17))
    code = barcode(grid(samples, nonfinite="infinite"))
    x = np.sort(np.roots([4, 0, -4, 0.1]).real)
    low, top, high = (x**2 - 1) ** 2 + 0.1 * x
    assert_bars(refine(code, samples, landscape), [(low, np.inf), (high, top)])


def test_nothing_gives_nothing():
    known, landscape = of_zoo("quartic")
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(21,))
    empty = barcode(grid(samples)).filter(min_persistence=np.inf, max_bars=0)
    assert len(refine(empty, samples, landscape)) == 0


def test_other_degrees_are_left_out():
    known, landscape = of_zoo("himmelblau")
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(41, 41))
    code = barcode(grid(samples), max_dim=1)
    assert (code.dim == 1).any()
    assert_bars(refine(code, samples, landscape), known.bars[0])


def test_another_landscape_is_refused():
    known, landscape = of_zoo("himmelblau")
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(41, 41))
    code = barcode(grid(samples))
    with pytest.raises(ValueError, match="give the landscape that was sampled"):
        refine(code, samples, of_zoo("ackley")[1])
    with pytest.raises(ValueError, match="2 coordinates, the landscape 1"):
        refine(code, samples, of_zoo("quartic")[1])
    few = LossSamples(samples.points[:9], samples.values[:9])
    with pytest.raises(ValueError, match="there are 9 samples"):
        refine(code, few, landscape)
    with pytest.raises(ValueError, match="vertices"):
        refine(Barcode.from_pairs(known.bars[0]), samples, landscape)


def test_evaluations_are_counted():
    calls = 0
    known = functions["six_hump_camel"]

    def function(points):
        nonlocal calls
        calls += len(points)
        return known.function(points)

    landscape = Landscape.from_function(function, 2)
    samples = sample_grid(landscape, low=known.low, high=known.high, shape=(41, 41))
    code, calls = barcode(grid(samples)), 0
    refined = refine(code, samples, landscape)
    # Gradients and products are one call each by automatic differentiation, and a product counts as two.
    assert told(refined)["evaluations"] / 2 < calls < told(refined)["evaluations"]
