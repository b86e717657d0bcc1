"""Chebyshev polynomials on pieces of a box, against the functions they stand for."""

import numpy as np
import pytest
import torch

from topolandscape.landscape.box import Box
from topolandscape.landscape.critical import critical_points
from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.interpolation import Interpolant
from topolandscape.landscape.loss import Landscape
from topolandscape.zoo import functions

pytestmark = pytest.mark.usefixtures("one_thread")

UNIT = Box(np.array([-1.0, -0.5]), np.array([2.0, 1.5]), np.zeros(2, dtype=bool))


class Counted:
    """A function of arrays alone, and at how many points it was evaluated."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, points):
        if not isinstance(points, np.ndarray):
            raise TypeError
        self.calls += len(points)
        return self.function(points)


def interpolant(function, box=UNIT, allowed=100_000):
    places = np.random.default_rng(0).random((64, len(box.low)))
    return Interpolant(Landscape.from_function(function, len(box.low)), box, places, allowed)


def places_in(box, n=500):
    return np.random.default_rng(1).uniform(box.low, box.high, (n, len(box.low)))


def test_polynomials_are_exact_with_their_derivatives():
    def cubic(x):
        return x[:, 0] ** 3 * x[:, 1] - 2 * x[:, 1] ** 2 + x[:, 0]

    found = interpolant(cubic)
    points = places_in(UNIT)
    x, y = points.T
    values, gradients = found.landscape.gradients(points)
    assert values == pytest.approx(cubic(points), abs=1e-12)
    assert gradients == pytest.approx(np.column_stack([3 * x**2 * y + 1, x**3 - 4 * y]), abs=1e-11)
    exact = np.array([[6 * x * y, 3 * x**2], [3 * x**2, 0 * x - 4]]).transpose(2, 0, 1)
    assert hessians(found.landscape, points) == pytest.approx(exact, abs=1e-9)
    assert len(found.pieces) == 1
    # 64 places, and 17 x 17 for polynomials of a degree below 16.
    assert found.spent == 64 + 17**2


def test_outside_of_the_box_the_boundary_goes_on():
    """A quadratic function goes on as itself."""

    def quadratic(x):
        return x[:, 0] ** 2 - 3 * x[:, 0] * x[:, 1] + x[:, 1]

    found = interpolant(quadratic)
    points = np.array([[-1.4, 0.2], [2.5, 1.9], [0.0, -0.7]])
    values, gradients = found.landscape.gradients(points)
    x, y = points.T
    assert values == pytest.approx(quadratic(points), abs=1e-11)
    assert gradients == pytest.approx(np.column_stack([2 * x - 3 * y, 1 - 3 * x]), abs=1e-10)


@pytest.mark.parametrize("name", ["rastrigin_2d", "mueller_brown", "levy", "schwefel_1d"])
def test_functions_of_the_zoo_are_within_their_errors(name):
    known = functions[name]
    box = Box(known.low, known.high, np.zeros(known.dimension, dtype=bool))
    found = interpolant(known.function, box)
    points = places_in(box)
    losses = known.function(points)
    assert np.abs(found.landscape.values(points) - losses).max() <= 1e-5 * np.ptp(losses)
    exact = Landscape.from_function(known.function, known.dimension).gradients(points)[1] * box.sides
    wrong = np.abs(found.landscape.gradients(points)[1] * box.sides - exact)
    # Differences are as good as their steps are short.
    assert (wrong <= 2 * found.errors((points - box.low) / box.sides) + 1e-7 * np.abs(losses).max()).mean() > 0.99


def test_a_kink_is_cut_down_to():
    """Beside the line pieces are small, and the error is only there; where four cones meet the kink is seen."""

    def cone(x):
        return ((x**2).sum(dim=1) + 1e-300).sqrt() + 0.3 * torch.cos(3 * x[:, 0])

    box = Box(-np.ones(2), np.ones(2), np.zeros(2, dtype=bool))
    found = interpolant(cone, box)
    assert [0.5, 0.5] in found.kinks().tolist()
    points = places_in(box)
    far = np.linalg.norm(points, axis=1) > 0.2
    exact = np.linalg.norm(points, axis=1) + 0.3 * np.cos(3 * points[:, 0])
    assert np.abs(found.landscape.values(points) - exact)[far].max() < 1e-4
    smooth = interpolant(lambda x: torch.cos(20 * x).sum(dim=1) + torch.sin(25 * x[:, 0] * x[:, 1]), box)
    assert len(smooth.kinks()) == 0


def test_what_is_allowed_is_kept():
    found = interpolant(lambda x: torch.cos(40 * x).sum(dim=1), allowed=1000)
    assert found.spent <= 1000
    assert max(piece.error for piece in found.pieces) > 0.01


def test_pieces_are_improved_where_asked():
    found = interpolant(
        functions["mueller_brown"].function,
        Box(*(functions["mueller_brown"].low, functions["mueller_brown"].high), np.zeros(2, dtype=bool)),
    )
    before, spent = found.pieces[0].error, found.spent
    assert found.improve(np.array([[0.5, 0.5]]))
    assert max(piece.error for piece in found.pieces) < 0.01 * before
    assert found.spent > spent
    assert not found.improve(np.array([[0.5, 0.5]]))


def test_losses_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="the loss is not finite at"):
        interpolant(lambda x: torch.log(x[:, 0] + 0 * x[:, 1]))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("three_hump_camel", 2304),
        ("six_hump_camel", 23_061),
        ("himmelblau", 7704),
        ("mueller_brown", 4742),
        ("rosenbrock", 2055),
        ("ackley", 37_697),
        ("rastrigin_2d", 38_443),
        ("levy", 49_833),
        ("scalar_linear", 672),
    ],
)
def test_critical_points_take_a_tenth_of_the_calls_of_topsearch(name, most, seed):
    """All known minima and saddles, and no others; calls of topsearch from benchmarks/results/race.md."""
    known = functions[name]
    counted = Counted(known.function)
    landscape = Landscape.from_function(counted, known.dimension)
    morse = critical_points(landscape, low=known.low, high=known.high, seed=seed)
    assert counted.calls <= most
    for k, exact in enumerate((known.minima, known.saddles)):
        points = morse.points[morse.rows(k)]
        assert len(points) == len(exact)
        if len(exact):
            assert np.abs(points[:, None] - exact).max(axis=2).min(axis=0).max() < 1e-6
    assert morse.provenance["undecided"] == 0
