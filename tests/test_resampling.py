"""Bands and convergence of sampled barcodes, against landscapes whose barcode is known."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

import topolandscape as tl
from topolandscape import LossSamples


def sampled(name, n, seed, noise=0.0):
    known = tl.zoo.functions[name]
    points = np.random.default_rng(seed).uniform(known.low, known.high, (n, known.dimension))
    return LossSamples(points, known.function(points), noise)


def truth(name):
    return tl.Barcode.from_pairs(tl.zoo.functions[name].bars[0])


def coverage(name, n, landscapes, repetitions):
    """Return how many bands hold the barcode of the landscape, and their radii."""
    bands = [
        tl.bootstrap_band(sampled(name, n, seed), tl.delaunay, seed=seed, repetitions=repetitions)
        for seed in range(landscapes)
    ]
    held = sum(tl.bottleneck(band.barcode, truth(name)) <= band.radius for band in bands)
    return held, np.array([band.radius for band in bands])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), [("quartic", 60), ("rastrigin_1d", 120)])
def test_bands_hold_the_true_barcode_as_often_as_they_say(name, n):
    held, radii = coverage(name, n, landscapes=200, repetitions=40)
    assert held >= stats.binom.ppf(1e-3, 200, 0.95)
    assert np.median(radii) < truth(name).persistence[1] / 4  # narrow enough to tell the longest bar that ends


def test_a_band_of_many_samples_is_narrow_and_holds_the_truth():
    wide, narrow = (tl.bootstrap_band(sampled("three_hump_camel", n, 0), tl.delaunay, seed=0) for n in (300, 3000))
    assert narrow.radius < wide.radius / 4  # ten times the samples: a tenth of the error, in two dimensions
    for band in (wide, narrow):
        assert tl.bottleneck(band.barcode, truth("three_hump_camel")) <= band.radius
    assert len(narrow.significant) == 3
    assert repr(narrow).endswith("bars are longer than twice as much)")


def test_bars_within_twice_the_radius_are_not_significant():
    samples = sampled("quartic", 200, 1, noise=0.05)
    band = tl.bootstrap_band(samples, tl.delaunay, seed=0, repetitions=20)
    exact = tl.bootstrap_band(sampled("quartic", 200, 1), tl.delaunay, seed=0, repetitions=20)
    assert band.radius == exact.radius + 0.05
    assert len(exact.significant) == 2
    loud = tl.bootstrap_band(sampled("quartic", 200, 1, noise=0.2), tl.delaunay, seed=0, repetitions=20)
    assert len(loud.significant) == 1  # the side basin is 0.18 deep
    assert (band.distances <= band.radius).mean() >= band.confidence


def test_the_same_seed_gives_the_same_band():
    samples = sampled("quartic", 100, 0)
    one, same, other = (tl.bootstrap_band(samples, tl.delaunay, seed=seed, repetitions=10) for seed in (4, 4, 5))
    assert one.distances.tolist() == same.distances.tolist() != other.distances.tolist()
    assert dict(one.provenance) == {"method": "subsamples", "size": 71, "repetitions": 10, "dim": 0}


@pytest.mark.filterwarnings("ignore:the graph has")
def test_subsamples_that_fall_apart_are_no_evidence():
    samples = sampled("three_hump_camel", 60, 0)
    band = tl.bootstrap_band(samples, partial(tl.nearest_neighbours, k=2), seed=0, repetitions=10)
    assert math.isinf(band.radius)
    assert len(band.significant) == 0


def test_more_samples_bring_the_bars_nearer():
    samples = sampled("three_hump_camel", 2000, 0)
    found = tl.convergence(samples, tl.delaunay, sizes=[20, 200, 2000], seed=0, min_persistence=0.3)
    assert found.bars.shape == found.distances.shape == (3, 5)
    assert found.bars[-1].tolist() == [3] * 5
    assert found.distances[-1].tolist() == [0.0] * 5
    assert (found.distances[0] > found.distances[1]).all()
    assert (found.distances[1] > 0).all()


def test_what_is_refused():
    samples = sampled("quartic", 50, 0)
    grid = tl.zoo.functions["quartic"].on_grid((50,))
    for find in (partial(tl.bootstrap_band), partial(tl.convergence, sizes=[10])):
        with pytest.raises(ValueError, match="the samples are a grid, whose points are not independent"):
            find(grid, tl.grid, seed=0)
    with pytest.raises(ValueError, match="subsamples of 50 points were asked for; of 50 samples take 2 to 49"):
        tl.bootstrap_band(samples, tl.delaunay, seed=0, size=50)
    with pytest.raises(ValueError, match="confidence 95"):
        tl.bootstrap_band(samples, tl.delaunay, seed=0, confidence=95)
    with pytest.raises(ValueError, match=r"sizes are \[10, 51\]; give numbers of points from 2 to 50"):
        tl.convergence(samples, tl.delaunay, sizes=[10, 51], seed=0)


# --------------------------------------------------------------------------------------------------------------
# Subsets of the data
# --------------------------------------------------------------------------------------------------------------

LINE = np.linspace(-1.5, 1.5, 61)


def tilted(slope):
    """Return two wells, one lower: the loss of a row is (x^2 - 1)^2 + y x, with y its number."""
    return LossSamples(LINE[:, None], (LINE**2 - 1) ** 2 + slope * LINE, shape=(len(LINE),))


def test_half_samples_hold_the_barcode_of_the_expected_loss_as_often_as_they_say():
    rng, expected, rows, held = np.random.default_rng(0), tl.barcode(tl.grid(tilted(0.3))), 100, 0
    for _ in range(100):
        data = rng.normal(0.3, 1.0, rows)
        halves = [data[rng.permutation(rows)[: rows // 2]].mean() for _ in range(20)]
        band = tl.data_band(tilted(data.mean()), [tilted(slope).values for slope in halves], tl.grid)
        held += tl.bottleneck(band.barcode, expected) <= band.radius
    assert stats.binom.ppf(1e-3, 100, 0.95) <= held < 100


def test_bars_move_by_no_more_than_losses():
    samples, values = tilted(0.1), np.array([tilted(slope).values for slope in (-0.2, 0.0, 0.4)])
    band = tl.data_band(samples, values, tl.grid)
    assert (band.distances <= np.abs(values - samples.values).max(axis=1) + 1e-12).all()
    assert band.radius == band.distances.max() > 0.2


def test_losses_on_subsets_spread_as_means_without_replacement_do():
    targets = np.random.default_rng(0).normal(size=(30, 1))
    module = torch.nn.Linear(1, 1, bias=False)
    landscape = tl.Landscape.from_module(
        module, np.ones((30, 1)), targets, loss=torch.nn.functional.mse_loss, dtype="float64", form="wide"
    )
    samples = tl.sample_grid(landscape, low=-1, high=1, shape=3)
    values = tl.values_on_subsets(landscape, samples, seed=0, rows=12, repetitions=300)
    by_row = (samples.points - targets.T) ** 2
    np.testing.assert_allclose(samples.values, by_row.mean(axis=1))
    variance = by_row.var(axis=1, ddof=1) / 12 * (1 - 12 / 30)
    assert ((np.abs(values.mean(axis=0) - samples.values)) < 4 * np.sqrt(variance / 300)).all()
    low, high = stats.chi2.ppf([1e-4, 1 - 1e-4], 299) / 299
    assert ((low < values.var(axis=0, ddof=1) / variance) & (values.var(axis=0, ddof=1) / variance < high)).all()
    everything = tl.values_on_subsets(landscape, samples, seed=0, rows=30, repetitions=1)
    np.testing.assert_allclose(everything[0], samples.values)


def test_subsets_of_samples_in_a_subspace_are_those_of_the_same_parameters():
    data = tl.zoo.dataset("two_moons")
    landscape = tl.Landscape.from_module(
        tl.zoo.network("mlp:2-2-2,tanh", seed=0),
        data.inputs,
        data.targets,
        loss=torch.nn.functional.cross_entropy,
        form="wide",
    )
    plane = tl.sample_plane(landscape, tl.initial_points(landscape, 3, seed=0), shape=(4, 4))
    values = tl.values_on_subsets(landscape, plane, seed=0, repetitions=1)
    same = tl.values_on_subsets(landscape, LossSamples(plane.parameters(), plane.values), seed=0, repetitions=1)
    np.testing.assert_allclose(values, same, rtol=1e-6)


def test_subsets_that_are_not_possible_are_refused():
    with pytest.raises(ValueError, match=r"values have shape \(3,\); give losses of the 61 samples"):
        tl.data_band(tilted(0.1), np.zeros(3), tl.grid)
    with pytest.raises(ValueError, match="confidence is 1"):
        tl.data_band(tilted(0.1), np.zeros((2, 61)), tl.grid, confidence=1)
    function = tl.Landscape.from_function(lambda x: (x**2).sum(1), 1)
    with pytest.raises(ValueError, match="has no rows to choose from"):
        tl.values_on_subsets(function, tilted(0.1), seed=0)
