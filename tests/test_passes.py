"""Passes of landscapes that are known, from the paths to the bars of a network of minima."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import topolandscape as tl
from topolandscape import Landscape
from topolandscape.landscape.minima import minima
from topolandscape.landscape.network import joining, minima_network
from topolandscape.landscape.passes import (
    bent_paths,
    highest_on,
    lower_paths,
    straight_paths,
)
from topolandscape.landscape.saddles import _softest, saddles
from topolandscape.structures import Minima, MinimaNetwork


def camel(x):
    a, b = x[:, 0], x[:, 1]
    return (2 - 1.05 * a**2 + a**4 / 6) * a**2 + a * b + b**2


def mueller_brown(x):
    height, a, b = (-200, -100, -170, 15), (-1, -1, -6.5, 0.7), (0, 0, 11, 0.6)
    c, x0, y0 = (-10, -10, -6.5, 0.7), (1, 0, -0.5, -1), (0, 0.5, 1.5, 1)
    total = 0
    for i in range(4):
        dx, dy = x[:, 0] - x0[i], x[:, 1] - y0[i]
        total = total + height[i] * torch.exp(a[i] * dx**2 + b[i] * dx * dy + c[i] * dy**2)
    return total


def rastrigin(x):
    return (x**2 + 10 - 10 * torch.cos(2 * np.pi * x)).sum(1)


def egg_carton(x):
    return torch.cos(2 * np.pi * x).sum(1)


def ring(x):
    """Two minima on a circle: the segment between them leads over the hill in the middle."""
    return 10 * (x.norm(dim=1) - 1) ** 2 + 0.1 * (1 - x[:, 0] ** 2) + 0.02 * x[:, 1]


def scalar_linear(x, a=1.0, c=1.5, decay=0.2):
    product = x[:, 0] * x[:, 1]
    return product**2 - 2 * a * product + c + decay * (x**2).sum(1)


# Starts near the minima, and the barriers between the pairs that are neighbours.
KNOWN = {
    "three-hump camel": (
        camel,
        [[-1.7, 0.9], [0.1, 0.1], [1.7, -0.9]],
        {(0, 1): 0.8773615578, (1, 2): 0.8773615578},
    ),
    "Mueller-Brown": (
        mueller_brown,
        [[-0.5582, 1.4417], [-0.05, 0.4667], [0.6235, 0.028]],
        {(0, 1): -40.66484351, (1, 2): -72.24894011},
    ),
    "quartic": (
        lambda x: (x**4 - x**2 + 0.1 * x).sum(1),
        [[-0.7], [0.7]],
        {(0, 1): 0.0025063135},
    ),
    "Rastrigin": (rastrigin, [[0.0, 0.0], [0.99496, 0.0], [0.99496, 0.99496]], {(0, 1): 20.25127, (1, 2): 21.24623}),
    "egg carton": (egg_carton, [[0.5, 0.5], [0.5, 1.5]], {(0, 1): 0.0}),
    "scalar linear network": (scalar_linear, [[0.9, 0.9], [-0.9, -0.9]], {(0, 1): 1.5}),
}


@pytest.mark.parametrize("method", ["string", "band"])
@pytest.mark.parametrize("name", KNOWN)
def test_paths_reach_the_known_passes(name, method):
    function, starts, barriers = KNOWN[name]
    landscape = Landscape.from_function(function, len(starts[0]))
    ends = minima(landscape, starts, seed=0, steps=0, progress=False).points
    pairs = np.array(list(barriers))
    paths = bent_paths(ends[pairs[:, 0]], ends[pairs[:, 1]], by=0.2, seed=0)
    lowered = lower_paths(landscape, paths, method=method, progress=False)
    assert lowered.converged.all()
    exact = np.array(list(barriers.values()))
    base = landscape.values(ends)[pairs].max(1)
    np.testing.assert_allclose(lowered.highest, exact, atol=1e-4 * max(1.0, float((exact - base).max())))


@pytest.mark.parametrize("name", KNOWN)
def test_passes_are_verified_saddles_at_their_exact_value(name):
    function, starts, barriers = KNOWN[name]
    landscape = Landscape.from_function(function, len(starts[0]))
    found = minima(landscape, starts, seed=0, steps=0, progress=False)
    assert len(found) == len(starts)
    rows = [int(np.linalg.norm(found.points - start, axis=1).argmin()) for start in np.array(starts)]
    network = minima_network(
        landscape, found, pairs=[[rows[a], rows[b]] for a, b in barriers], gradient_tolerance=1e-7, progress=False
    ).reduced()
    assert set(network.passes) == {"verified saddle"}
    for (a, b), exact in barriers.items():
        edge = network.pass_between(rows[a], rows[b])
        assert network.barriers[edge] == pytest.approx(exact, abs=1e-4)
        gradient = landscape.gradients(network.tops[edge][None])[1]
        assert np.linalg.norm(gradient) < 1e-6


def test_a_valley_so_curved_that_the_segment_is_useless():
    landscape = Landscape.from_function(ring, 2)
    ends = minima(landscape, [[-1.0, -0.1], [1.0, -0.1]], seed=0, progress=False)
    straight = highest_on(landscape, straight_paths(ends.points[:1], ends.points[1:]))[0]

    def below(starts, ends):
        paths = straight_paths(starts, ends, 9)
        paths[:, 1:-1, 1] -= 0.6
        return paths

    network = minima_network(landscape, ends, start=below, progress=False)
    # On the axis x = 0 the loss is 10 (r - 1)^2 + 0.1 - 0.02 r at (0, -r): lowest at r = 1.001.
    exact = 10 * 0.001**2 + 0.1 - 0.02 * 1.001
    assert straight[0] > 5
    assert network.barriers[0] == pytest.approx(exact, abs=1e-6)
    assert network.passes == ("verified saddle",)


def test_a_path_downhill_has_no_barrier():
    landscape = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    lowered = lower_paths(landscape, straight_paths([[2.0, 1.0]], [[0.0, 0.0]]), progress=False)
    assert lowered.highest[0] == 5.0


def test_highest_losses_are_not_missed_between_points():
    landscape = Landscape.from_function(lambda x: torch.exp(-((x[:, 0] - 0.3137) ** 2) / 1e-2), 1)
    highest, tops = highest_on(landscape, straight_paths([[0.0]], [[1.0]], 9))
    assert highest[0] == pytest.approx(1.0, abs=1e-4)
    assert tops[0, 0] == pytest.approx(0.3137, abs=1e-2)


def test_the_highest_loss_of_a_path_is_never_below_the_pass():
    """Whatever was optimised, a barrier is an upper bound."""
    landscape = Landscape.from_function(camel, 2)
    ends = minima(landscape, [[-1.7, 0.9], [0.1, 0.1]], seed=0, progress=False).points
    for seed in range(5):
        for steps in (0, 5, 50):
            paths = bent_paths(ends[:1], ends[1:], by=0.4, seed=seed)
            lowered = lower_paths(landscape, paths, steps=steps, points=(9,), progress=False)
            assert lowered.highest[0] > 0.8773615578 - 1e-4 * 0.5787


def test_ends_stay_and_curves_fall():
    landscape = Landscape.from_function(mueller_brown, 2)
    ends = np.array([[-0.558224, 1.441726], [0.623499, 0.028038]])
    lowered = lower_paths(landscape, straight_paths(ends[:1], ends[1:]), progress=False)
    assert np.array_equal(lowered.points[0, [0, -1]], ends)
    assert (np.diff(lowered.curve[:, 1]) <= 0).all()
    assert lowered.curve[-1, 1] == lowered.highest.mean()


def test_a_path_is_bent_by_as_many_gradients_as_are_allowed(monkeypatch):
    landscape = Landscape.from_function(ring, 2)
    start = straight_paths([[-1.0, 0.0]], [[1.0, 0.0]], 9)
    straight, evaluate, asked = highest_on(landscape, start)[0], landscape.gradients, []

    def gradients(at, **options):
        asked.append(len(at))
        return evaluate(at, **options)

    monkeypatch.setattr(landscape, "gradients", gradients)
    for allowed, spent in ((0, 0), (6, 0), (7, 7), (100, 98), (10**6, None)):
        asked.clear()
        paths = lower_paths(landscape, start, points=(9, 17), max_evaluations=allowed, progress=False)
        assert paths.curve[-1, 0] == sum(asked)
        assert sum(asked) == spent or spent is None
        assert paths.points.shape == (1, 17, 2)
        assert (paths.highest <= straight).all()
    assert paths.converged.all()
    assert paths.highest == pytest.approx(0.08, abs=1e-3)


@pytest.mark.parametrize("start", [[0.1, 0.05, -0.1], [-0.2, 0.1, 0.3]])
def test_saddles_of_a_quadratic_form_are_found_in_one_place(start):
    form = torch.tensor([-1.0, 3.0, 100.0], dtype=torch.float64)
    landscape = Landscape.from_function(lambda x: 0.5 * (form.to(x) * x**2).sum(1), 3)
    found = saddles(landscape, [start], [[1.0, 0.0, 0.0]], radius=1.0)
    np.testing.assert_allclose(found.points, 0, atol=1e-6)
    np.testing.assert_allclose(found.curvature, [[-1.0, 3.0]], atol=1e-6)
    assert found.verified.all()


def test_a_maximum_is_no_verified_saddle():
    landscape = Landscape.from_function(lambda x: -(x**2).sum(1), 2)
    found = saddles(landscape, [[0.0, 0.0]], [[1.0, 0.0]], radius=0.1)
    assert not found.verified.any()
    np.testing.assert_allclose(found.curvature, [[-2.0, -2.0]], atol=1e-6)


# --------------------------------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------------------------------


def test_elder_rule_on_a_network_of_minima():
    """Straight from the definition: minima 0, 3, 2 and barriers 6, 10, 5."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = Minima(points, [0.0, 3.0, 2.0], [0.0] * 3, [[1.0]] * 3, [0] * 3, ["minimum"] * 3)
    ends = [(1, 0), (0, 2), (2, 1)]
    network = MinimaNetwork(
        found, ends, [6.0, 10.0, 5.0], ["path maximum"] * 3, np.zeros((3, 2)), [points[list(pair)] for pair in ends]
    )
    code = tl.barcode(network)
    assert code.birth.tolist() == [0.0, 2.0, 3.0]
    assert code.death.tolist() == [np.inf, 6.0, 5.0]
    assert code.birth_vertex.tolist() == [0, 2, 1]
    assert [network.ends[row].tolist() for row in code.death_simplex[1:]] == [[0, 1], [1, 2]]
    assert len(tl.merge_tree(network)) == 5


def test_the_tree_has_the_bars_of_all_pairs():
    landscape = Landscape.from_function(rastrigin, 2)
    places = (-0.99496, 0.0, 0.99496)
    starts = [[x, y] for x in places for y in places]
    found = minima(landscape, starts, seed=0, steps=0, progress=False)
    tree = minima_network(landscape, found, explore=3, progress=False)
    code = tl.barcode(tree.reduced())
    # Kuenneth: sums of the one-dimensional bars [0, inf), [0.99496, 20.25127) twice.
    births = sorted([0.0] + [0.9949591] * 4 + [1.9899181] * 4)
    np.testing.assert_allclose(sorted(code.birth), births, atol=1e-5)
    np.testing.assert_allclose(sorted(code.death)[:-1], [20.25127] * 4 + [21.24623] * 4, atol=1e-3)


@pytest.mark.slow
def test_routes_agree_on_a_network_of_four_parameters():
    """Two odd neurons without biases: each minimum has eight copies, joined in fours, and these through zero."""
    inputs = torch.linspace(-2, 2, 12).double()[:, None]
    targets = 1.2 * torch.tanh(3 * inputs) - 0.8 * torch.tanh(0.6 * inputs)

    class TwoNeurons(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = (torch.nn.Parameter(torch.zeros(2).double()) for _ in range(2))

        def forward(self, x):
            return (torch.tanh(x * self.inner) * self.outer).sum(1, keepdim=True)

    landscape = Landscape.from_module(TwoNeurons(), inputs, targets, loss=F.mse_loss, weight_decay=0.02)
    starts = np.random.default_rng(0).uniform(-2.5, 2.5, (60, 4))
    found = minima(landscape, starts, seed=0, progress=False)
    network = minima_network(landscape, found, progress=False)
    exact = tl.barcode(network.reduced())
    assert len(exact) == 8
    np.testing.assert_allclose(exact.birth, exact.birth[0], rtol=1e-6)
    assert network.reduced().passes.count("verified saddle") >= 7
    samples = tl.sample_grid(landscape, low=[-3, -3, -2.1, -2.1], high=[3, 3, 2.1, 2.1], shape=(41, 41, 29, 29))
    sampled = tl.barcode(tl.grid(samples)).filter(min_persistence=0.004)
    assert len(sampled) == 8
    # Half a diagonal of a cell is 0.15, and curvatures at the minima and passes are at most 2.2: the grid may be off by
    # 0.025, and is by less than a fifth of that.
    np.testing.assert_allclose(sampled.birth, exact.birth, atol=0.005)
    np.testing.assert_allclose(sampled.death[1:], exact.death[1:], atol=0.005)


def test_evaluations_that_are_allowed_bound_the_first_paths_too():
    landscape = Landscape.from_function(rastrigin, 2)
    found = minima(landscape, KNOWN["Rastrigin"][1], seed=0, steps=0, progress=False)
    whole, cut = (next(joining(landscape, found, evaluations=budget, progress=False)) for budget in (10**6, 500))
    assert whole.provenance["evaluations"] > 500
    assert cut.provenance["evaluations"] < whole.provenance["evaluations"]
    assert (cut.barriers >= whole.barriers - 1e-3).all()
    assert set(cut.passes) == {"not converged"}


def test_time_that_is_over_leaves_the_bounds_found_so_far():
    landscape = Landscape.from_function(rastrigin, 2)
    found = minima(landscape, KNOWN["Rastrigin"][1], seed=0, steps=0, progress=False)
    network = minima_network(landscape, found, seconds=0, progress=False)
    assert len(network.ends) == 2
    assert "verified saddle" not in network.passes
    assert (network.barriers >= 20.25 - 1e-3).all()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[0, 2]], "two different ones of the 2 minima"),
        ([[1, 1]], "two different ones"),
        ([0, 1], "rows of minima"),
        ("some", "pairs is 'some'"),
    ],
)
def test_bad_pairs_are_refused(pairs, message):
    landscape = Landscape.from_function(camel, 2)
    found = minima(landscape, [[-1.7, 0.9], [0.1, 0.1]], seed=0, progress=False)
    with pytest.raises(ValueError, match=message):
        minima_network(landscape, found, pairs=pairs, progress=False)


def test_one_minimum_is_no_network():
    landscape = Landscape.from_function(camel, 2)
    found = minima(landscape, [[0.1, 0.1]], seed=0, progress=False)
    with pytest.raises(ValueError, match="there is 1 minimum; a network needs at least two"):
        minima_network(landscape, found, progress=False)
    other = Landscape.from_function(lambda x: (x**2).sum(1), 3)
    two = minima(landscape, [[-1.7, 0.9], [0.1, 0.1]], seed=0, progress=False)
    with pytest.raises(ValueError, match="the minima have 2 coordinates, the landscape 3"):
        minima_network(other, two, progress=False)


def test_paths_that_do_not_fit_are_refused():
    landscape = Landscape.from_function(camel, 2)
    with pytest.raises(ValueError, match=r"paths have shape \(2, 3\)"):
        lower_paths(landscape, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"starts have shape \(1, 2\), ends \(1, 3\)"):
        straight_paths([[0.0, 0.0]], [[1.0, 1.0, 1.0]])
    broken = Landscape.from_function(lambda x: torch.log(x[:, 0]), 1)
    with pytest.raises(ValueError, match="the loss at the first point of path 0 is -inf"):
        lower_paths(broken, [[[0.0], [0.5], [1.0]]])


def test_a_path_around_a_place_without_loss():
    """Where the loss is not finite on the way, the neighbours pull the path to where it is."""
    landscape = Landscape.from_function(
        lambda x: torch.where(x.norm(dim=1) < 0.3, torch.nan, (x[:, 0] ** 2 - 1) ** 2 + 0.1 * (x[:, 1] - 1) ** 2), 2
    )
    lowered = lower_paths(landscape, straight_paths([[-1.0, 0.1]], [[1.0, 0.1]]), progress=False)
    assert np.isfinite(lowered.highest).all()
    assert lowered.highest[0] == pytest.approx(1.0, abs=1e-3)


def test_a_direction_that_is_soft_already_stays_whatever_the_others():
    """At the first point the direction is an eigenvector, at the second it has to be turned."""
    landscape = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + 2 * x[:, 1] ** 2 + 4 * x[:, 2] ** 2, 3)
    points, directions = np.array([[0.45, 0.3, 0.1], [0.2, 0.1, 0.3]]), np.array([[1.0, 0, 0], [0.6, 0.8, 0.5]])
    options = {"radius": 0.1, "tolerance": 1e-9}
    both = saddles(landscape, points, directions, **options)
    assert both.verified.all()
    for row in range(2):
        alone = saddles(landscape, points[[row]], directions[[row]], **options)
        np.testing.assert_allclose(both.points[row], alone.points[0], atol=1e-9)
    at, turned = np.array([[0.9, 0, 0], [0.2, 0.1, 0]]), np.array([[1.0, 0, 0], [0.6, 0.8, 0]])
    vectors, quotients = _softest(landscape, at, turned, 20)
    np.testing.assert_allclose(np.abs(vectors[:, 0]), 1.0, atol=1e-9)
    np.testing.assert_allclose(quotients, 12 * at[:, 0] ** 2 - 4, atol=1e-9)
