"""Networks of minima modulo symmetry: copies are one minimum, and segments between what is left are no higher."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import topolandscape as tl
from topolandscape import Landscape
from topolandscape.landscape.curvature import lowest_curvatures
from topolandscape.landscape.minima import descend, initial_points, merged
from topolandscape.landscape.passes import highest_on, straight_paths
from topolandscape.landscape.symmetry import apply, random_element, symmetry_of
from topolandscape.structures import Minima

pytestmark = pytest.mark.usefixtures("one_thread")


def landscape_of(activation, *, hidden=8, weight_decay=1e-3, inputs=2):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = np.tanh(x[:, :1] - x[:, 1:]) + 0.5 * np.tanh(2 * x[:, :1] * x[:, 1:])
    module = nn.Sequential(nn.Linear(2, hidden), activation(), nn.Linear(hidden, 1)).double()
    return Landscape.from_module(module, x, y, loss=F.mse_loss, weight_decay=weight_decay)


def minima_at(landscape, points):
    """Return points with what is measured there, whatever they are."""
    values, gradients = landscape.gradients(points)
    curvature = lowest_curvatures(landscape, points, 2, seed=0).values
    m = len(points)
    return Minima(points, values, np.linalg.norm(gradients, axis=1), curvature, [0] * m, ["minimum"] * m)


@pytest.fixture(scope="module")
def trained():
    landscape = landscape_of(nn.Tanh)
    ends = descend(landscape, initial_points(landscape, 5, seed=0), steps=300, learning_rate=0.03, progress=False).ends
    return landscape, minima_at(landscape, ends)


def on_segments(landscape, points, lowest):
    return highest_on(landscape, straight_paths(np.tile(points[lowest], (len(points), 1)), points))[0]


def test_copies_are_one_minimum_without_a_barrier(trained):
    landscape, found = trained
    symmetry = symmetry_of(landscape)
    copies = np.stack([apply(symmetry, found.points[0], random_element(symmetry, seed)) for seed in range(5)])
    before = minima_at(landscape, copies)
    lowest = int(before.values.argmin())
    assert np.delete(on_segments(landscape, copies, lowest), lowest).min() > 2 * before.values.max()
    assert len(merged(landscape, before)) == 5
    after = tl.brought_together(landscape, before, seed=0)
    np.testing.assert_allclose(after.points, np.tile(copies[lowest], (5, 1)), atol=1e-14)
    np.testing.assert_allclose(after.values, before.values, rtol=1e-12)
    np.testing.assert_allclose(on_segments(landscape, after.points, lowest), before.values, rtol=1e-12)
    one = merged(landscape, after)
    assert (len(one), one.found.tolist()) == (1, [5])


def test_copies_of_minima_are_no_further_up_and_of_equal_loss(trained):
    landscape, before = trained
    after = tl.brought_together(landscape, before, seed=0)
    lowest = int(before.values.argmin())
    np.testing.assert_allclose(after.values, before.values, rtol=1e-12)
    np.testing.assert_allclose(after.values, landscape.values(after.points), rtol=1e-12)
    np.testing.assert_allclose(after.gradient_norm, before.gradient_norm, rtol=1e-6)
    assert np.array_equal(after.points[lowest], before.points[lowest])
    one, other = (on_segments(landscape, found.points, lowest) for found in (after, before))
    assert (one <= other + 1e-12).all()
    climbs = np.delete(one - after.values.max(), lowest), np.delete(other - after.values.max(), lowest)
    assert climbs[0].mean() < 0.7 * climbs[1].mean()
    # What counts for each is the lowest of the three ways.
    symmetry, reference = symmetry_of(landscape), before.points[lowest]
    inputs = np.random.default_rng(0).normal(size=(60, 2))
    ways = {
        "weights": tl.align(symmetry, before.points, reference, seed=0),
        "activations": tl.landscape.symmetry.align_by_activations(
            landscape, symmetry, before.points, reference, inputs
        ),
        "as it was": before.points,
    }
    heights = np.array([on_segments(landscape, points, lowest) for points in ways.values()])
    np.testing.assert_allclose(one, heights.min(axis=0), rtol=1e-3)
    assert [list(ways)[way] for way in heights.argmin(axis=0)] != ["as it was"] * 5
    heights[-1, lowest] = -np.inf
    assert [list(ways)[way] for way in heights.argmin(axis=0)] == after.provenance["modulo_symmetry"]["copies"]


def test_bars_modulo_symmetry_are_never_above_the_segments(trained):
    landscape, before = trained
    after = tl.brought_together(landscape, before, seed=0)
    network = tl.minima_network(landscape, after, steps=20, points=(9,), rounds=0, progress=False)
    lowest = int(before.values.argmin())
    plain = np.delete(on_segments(landscape, before.points, lowest), lowest)
    assert (network.barriers <= plain * (1 + 1e-6)).all()
    assert tl.barcode(network).death[1:].max() <= np.delete(on_segments(landscape, after.points, lowest), lowest).max()


def test_scales_change_curvatures_which_are_measured_anew():
    landscape = landscape_of(nn.ReLU, hidden=3, weight_decay=0.0)
    symmetry = symmetry_of(landscape)
    point = np.random.default_rng(0).normal(size=landscape.dimension)
    copy = apply(symmetry, point, random_element(symmetry, 1))
    before = minima_at(landscape, np.stack([point, copy]))
    after = tl.brought_together(landscape, before, seed=0)
    (moved,) = np.flatnonzero((after.points != before.points).any(axis=1))
    there = minima_at(landscape, after.points)
    assert abs(before.gradient_norm[moved] / there.gradient_norm[moved] - 1) > 0.01
    np.testing.assert_allclose(after.gradient_norm, there.gradient_norm, rtol=1e-9)
    np.testing.assert_allclose(after.curvature, there.curvature, rtol=1e-4, atol=1e-6)


class Softmax(nn.Module):
    """Units that know each other's place."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 1)
        self.register_buffer("gains", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x):
        return self.last(torch.sigmoid(self.gains * self.first(x)))


def test_without_symmetries_nothing_is_moved():
    landscape = Landscape.from_module(
        Softmax().double(), torch.ones(4, 2).double(), torch.ones(4, 1).double(), loss=F.mse_loss
    )
    before = minima_at(landscape, np.random.default_rng(0).normal(size=(3, landscape.dimension)))
    after = tl.brought_together(landscape, before, seed=0)
    for name in ("points", "values", "gradient_norm", "curvature"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert after.provenance["modulo_symmetry"]["symmetry"] == "Symmetry(none found)"


def test_functions_have_no_copies():
    landscape = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    with pytest.raises(ValueError, match="have no units; give the landscape of a whole module"):
        tl.brought_together(landscape, minima_at(landscape, np.eye(2)), seed=0)
