"""Polynomials fitted to samples, against functions that are polynomials and their derivatives."""

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree

from topolandscape import zoo
from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.fits import LocalFits
from topolandscape.landscape.grids import sample_grid
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.refinement import refine
from topolandscape.landscape.sampling import sample_box
from topolandscape.topology.complexes import grid, nearest_neighbours
from topolandscape.topology.persistence import barcode

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("d", [1, 2, 3, 6])
def test_polynomials_of_the_degree_of_the_fit_are_exact(d):
    """Of degree 4, where there are samples for so many coefficients; in six dimensions of degree 3."""
    rng = np.random.default_rng(d)
    degree = 4 if d < 6 else 3
    forms = torch.as_tensor(rng.normal(size=(d + 2, d)))
    landscape = Landscape.from_function(lambda x: ((x @ forms.T + 0.3) ** degree).sum(dim=1), d)
    points = rng.uniform(-1, 1, (400, d))
    fit = LocalFits(KDTree(points), landscape.values(points)).around(points[:20] / 2)
    values, gradients = landscape.gradients(points[:20] / 2)
    assert fit.known.all()
    assert fit.values == pytest.approx(values, rel=1e-7)
    assert fit.gradients == pytest.approx(gradients, rel=1e-7, abs=1e-7)
    assert fit.hessians == pytest.approx(hessians(landscape, points[:20] / 2), rel=1e-6, abs=1e-6)


def test_what_samples_do_not_show_is_not_known():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 20, (400, 2))
    noise = LocalFits(KDTree(points), rng.normal(size=400))
    assert not noise.around(points[:50]).known.any()
    on_line = LocalFits(KDTree(points * [1.0, 0.0]), points[:, 0] ** 2)
    assert not on_line.around(points[:50] * [1.0, 0.0]).known.any()
    few = LocalFits(KDTree(points[:11]), points[:11, 0] ** 2)
    assert not few.around(points[:1]).known.any()


@pytest.mark.parametrize("name", ["rosenbrock", "rastrigin_2d"])
@pytest.mark.parametrize("sample", [sample_grid, sample_box])
def test_refinement_takes_a_few_gradients_for_each_minimum_and_saddle(name, sample):
    """Rosenbrock's valley has up to 32 minima that are noise; Rastrigin's 25 minima have 24 passes."""
    known = zoo.functions[name]
    landscape = Landscape.from_function(known.function, 2)
    size = {"shape": (41, 41)} if sample is sample_grid else {"n": 20_000, "seed": 0}
    samples = sample(landscape, low=known.low, high=known.high, **size)
    complex = grid(samples) if sample is sample_grid else nearest_neighbours(samples, k=16)
    refined = refine(barcode(complex), samples, landscape)
    assert len(refined) == len(known.bars[0])
    assert refined.provenance["refined"]["evaluations"] <= (160 if name == "rosenbrock" else 550)


def test_minima_that_the_samples_show_are_not_smoothed_away():
    """Wells along a stiff valley, three samples wide and a hundredth as deep as the walls rise over one sample."""
    landscape = Landscape.from_function(
        lambda x: 50 * x[:, 1] ** 2 + 0.005 * (1 - torch.cos(2 * torch.pi * x[:, 0] / 0.3)), 2
    )
    samples = sample_grid(landscape, low=[-1.0, -1.0], high=[1.0, 1.0], shape=(21, 21))
    sampled = barcode(grid(samples))
    refined = refine(sampled, samples, landscape)
    assert len(refined) == len(sampled) == 7
    assert refined.birth == pytest.approx(np.zeros(7), abs=1e-8)
    assert refined.death[1:] == pytest.approx(np.full(6, 0.01), abs=1e-8)
