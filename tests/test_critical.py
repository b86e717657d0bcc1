"""Critical points of smooth functions and the flow between them, against functions whose Morse complex is known."""

import numpy as np
import pytest
import torch

from topolandscape.files import load, save
from topolandscape.landscape.arcs import around
from topolandscape.landscape.boundary import Places
from topolandscape.landscape.box import Box
from topolandscape.landscape.critical import critical_points
from topolandscape.landscape.flow import Flow, balls_around
from topolandscape.landscape.grids import sample_grid
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.stationary import stationary_points
from topolandscape.structures import Minima, MinimaNetwork, MorseComplex
from topolandscape.topology.completeness import completeness
from topolandscape.topology.complexes import grid
from topolandscape.topology.morse import morse_complex
from topolandscape.topology.persistence import barcode
from topolandscape.zoo import functions, separable_sum

pytestmark = pytest.mark.usefixtures("one_thread")


def egg_carton(x):
    return torch.cos(2 * torch.pi * x).sum(dim=1)


def rastrigin(x):
    return (10 + x**2 - 10 * torch.cos(2 * torch.pi * x)).sum(dim=1)


def coupled_wells(x):
    ahead = torch.roll(x, 1, dims=1)
    return (
        ((x**2 - 1) ** 2).sum(dim=1)
        + 0.2 * (x * ahead).sum(dim=1)
        + 0.1 * x @ torch.arange(1.0, x.shape[1] + 1).double()
    )


def of_zoo(name):
    known = functions[name]
    return known, Landscape.from_function(known.function, known.dimension)


def is_boundary(morse):
    return all((morse.boundary(k) @ morse.boundary(k + 1)).nnz == 0 for k in range(1, morse.dimension))


def bars(code, dim):
    rows = np.column_stack([code.birth, code.death])[code.dim == dim]
    return rows[np.lexsort((rows[:, 0].round(6), rows[:, 1].round(6)))]


def assert_bars(morse, known, tolerance=1e-8):
    top = min(len(known) - 1, morse.dimension)
    code = barcode(morse, max_dim=top)
    for dim, exact in known.items():
        expected = np.array(exact).reshape(-1, 2)
        expected = expected[np.lexsort((expected[:, 0].round(6), expected[:, 1].round(6)))]
        got = bars(code, dim)
        assert got.shape == expected.shape, f"degree {dim}"
        assert np.isinf(got).tolist() == np.isinf(expected).tolist()
        finite = np.isfinite(expected)
        assert np.abs(got[finite] - expected[finite]).max(initial=0.0) <= tolerance


# --------------------------------------------------------------------------------------------------------------
# Points
# --------------------------------------------------------------------------------------------------------------


def test_three_hump_camel_has_the_roots_of_its_polynomial():
    """Where 2 y = -x the slope along y vanishes, and that along x is a polynomial of x alone."""
    roots = np.roots([1, 0, -4.2, 0, 3.5, 0])
    x = np.sort(roots[np.abs(roots.imag) < 1e-9].real)
    _, landscape = of_zoo("three_hump_camel")
    morse = critical_points(landscape, low=-2, high=2, seed=0)
    assert morse.counts.tolist() == [3, 2]
    assert np.sort(morse.points[:, 0]) == pytest.approx(x, abs=1e-8)
    assert morse.points[:, 1] == pytest.approx(-morse.points[:, 0] / 2, abs=1e-8)
    assert morse.value == pytest.approx([0.0, 0.2986384422, 0.2986384422, 0.8773615578, 0.8773615578], abs=1e-9)


def test_six_hump_camel_has_the_roots_of_its_resultant():
    """The slope along x gives y as a polynomial of x; in the slope along y it leaves one of degree 15."""
    y = -np.poly1d([2, 0, -8.4, 0, 8, 0])
    roots = (np.poly1d([1, 0]) - 8 * y + 16 * y**3).roots
    x = roots[np.abs(roots.imag) < 1e-9].real
    x = x[np.abs(x) <= 2]
    exact = np.column_stack([x, y(x)])
    assert len(exact) == 15
    known, landscape = of_zoo("six_hump_camel")
    morse = critical_points(landscape, low=-2, high=2, seed=0)
    order, expected = np.lexsort(morse.points.round(6).T), np.lexsort(exact.round(6).T)
    assert morse.points[order] == pytest.approx(exact[expected], abs=1e-8)
    assert np.sort(morse.value) == pytest.approx(np.sort(known.function(exact)), abs=1e-10)
    assert morse.counts.tolist() == [6, 7, 2]
    hessian = np.array([[8 - 25.2 * x**2 + 10 * x**4, 0 * x + 1], [0 * x + 1, 48 * y(x) ** 2 - 8]]).transpose(2, 0, 1)
    index = (np.linalg.eigvalsh(hessian) < 0).sum(axis=1)
    assert morse.index[order].tolist() == index[expected].tolist()


@pytest.mark.parametrize(
    "name",
    [
        "three_hump_camel",
        "six_hump_camel",
        "himmelblau",
        "mueller_brown",
        "levy",
        "ackley",
        "rastrigin_2d",
        "scalar_linear",
    ],
)
def test_functions_of_the_zoo(name):
    """Points by 30 digits, bars of both degrees by hand or by Kuenneth."""
    known, landscape = of_zoo(name)
    morse = critical_points(landscape, low=known.low, high=known.high, seed=0)
    for k, exact in enumerate((known.minima, known.saddles)):
        points = morse.points[morse.rows(k)]
        assert len(points) == len(exact)
        assert np.linalg.norm(points[:, None] - exact, axis=2).min(axis=1).max() < 1e-7
    assert max(morse.provenance["gradient_norm"]) < 1e-6
    assert is_boundary(morse)
    assert completeness(morse).complete
    assert_bars(morse, known.bars)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_rastrigin_is_a_product(dimension):
    line = functions["rastrigin_1d"]
    known = separable_sum(*[line] * dimension)
    landscape = Landscape.from_function(rastrigin, dimension)
    morse = critical_points(landscape, low=-2.2, high=2.2, seed=0)
    # (5 + 4 t)^d, since a line has 5 minima and 4 maxima
    assert (
        morse.counts.tolist()
        == np.round(np.poly1d([4, 5]).coeffs if dimension == 1 else (np.poly1d([4, 5]) ** dimension).coeffs)[
            ::-1
        ].tolist()
    )
    exact = np.sort(np.concatenate([line.minima, line.saddles]).ravel())
    nearest = np.abs(morse.points[..., None] - exact).argmin(axis=2)
    assert np.abs(morse.points - exact[nearest]).max() < 1e-8
    assert len(np.unique(nearest, axis=0)) == 9**dimension
    assert is_boundary(morse)
    assert completeness(morse).complete
    assert_bars(morse, known.bars)


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_egg_carton_on_a_torus(dimension):
    morse = critical_points(Landscape.from_function(egg_carton, dimension), low=0, high=1, period=1, seed=0)
    binomials = np.round((np.poly1d([1, 1]) ** dimension).coeffs).astype(int).tolist()
    assert morse.counts.tolist() == binomials
    assert morse.value == pytest.approx(2.0 * morse.index - dimension, abs=1e-12)
    assert morse.arcs[:, 2].tolist() == [2] * len(morse.arcs)
    assert not morse.coefficient.any()  # each line has one of the other orientation
    assert len(morse.arcs) == dimension * 2 ** (dimension - 1)  # the edges of a cube
    assert completeness(morse).complete
    known = {k: [(2.0 * k - dimension, np.inf)] * binomials[k] for k in range(dimension + 1)}
    assert_bars(morse, known, 1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_random_waves_on_a_torus_are_complete(seed):
    """All that topology asks holds of functions of which nothing is known."""
    rng = np.random.default_rng(seed)
    waves = torch.tensor(rng.integers(-2, 3, (8, 2)).astype(float))
    heights, phases = torch.tensor(rng.normal(size=8)), torch.tensor(rng.uniform(0, 6, 8))

    def function(x):
        return torch.cos(2 * torch.pi * x @ waves.T + phases) @ heights + 0.3 * egg_carton(x)

    morse = critical_points(Landscape.from_function(function, 2), low=0, high=1, period=1, seed=0)
    found = completeness(morse)
    assert found.complete, str(found)
    assert found.betti.tolist() == [1, 2, 1]
    assert len(morse) > 4


@pytest.mark.parametrize("dimension", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_coupled_wells_agree_with_a_grid(dimension):
    landscape = Landscape.from_function(coupled_wells, dimension)
    morse = critical_points(landscape, low=-2, high=2, seed=0)
    assert morse.counts.tolist() == np.round((np.poly1d([1, 2]) ** dimension).coeffs)[::-1].tolist()
    shape = {2: 201, 3: 41, 4: 15}[dimension]
    samples = sample_grid(landscape, low=-2, high=2, shape=(shape,) * dimension)
    code = barcode(grid(samples), max_dim=dimension - 1)
    # Half a step h away from a critical point the value differs by at most 11 d h^2 / 8 where |f''| <= 11.
    found = completeness(morse, against=code, tolerance=11 * dimension * (4 / (shape - 1)) ** 2 / 2)
    assert found.complete, str(found)
    assert is_boundary(morse)


def test_lines_between_middle_indices_are_the_same_both_ways():
    """Shooting down from index 2 and up from index 1 find the same lines with the same orientations."""

    def function(x):
        turned = 0.3 * torch.sin(2 * torch.pi * (x[:, 0] + x[:, 1])) + 0.2 * torch.sin(
            2 * torch.pi * (x[:, 1] - x[:, 2])
        )
        return egg_carton(x) + turned

    for landscape, box in (
        (Landscape.from_function(function, 3), Box(np.zeros(3), np.ones(3), np.ones(3, dtype=bool))),
        (Landscape.from_function(coupled_wells, 3), Box(-2 * np.ones(3), 2 * np.ones(3), np.zeros(3, dtype=bool))),
    ):
        found = stationary_points(landscape, box, seed=0)
        flow = Flow(landscape, box, balls_around(Places.inside(found), box))
        down, up = around(flow, 2, up=False), around(flow, 2, up=True)
        assert sorted(down.joins.tolist()) == sorted(up.joins.tolist())
        assert len(down.joins) >= 12
        assert not down.unfinished
        assert not up.unfinished


def test_middle_lines_of_five_dimensions_are_said_to_be_unknown():
    def function(x):
        return ((x[:, :3] ** 2 - 1) ** 2).sum(dim=1) + (x[:, 3:] ** 2).sum(dim=1)

    morse = critical_points(Landscape.from_function(function, 5), low=-1.5, high=1.6, seed=0)
    assert morse.counts.tolist() == [8, 12, 6, 1]
    assert morse.provenance["unknown"] == [3]
    assert any("from index 3 to 2" in said for said in completeness(morse).unknown)


def test_a_smooth_complex_is_kept_in_a_file(tmp_path, six_hump):
    save(tmp_path / "morse.npz", six_hump)
    again = load(tmp_path / "morse.npz")
    assert again.points.tolist() == six_hump.points.tolist()
    assert again.provenance == six_hump.provenance
    assert completeness(again).complete


# --------------------------------------------------------------------------------------------------------------
# Proofs
# --------------------------------------------------------------------------------------------------------------


def test_a_bound_makes_a_proof():
    """The third derivative of Rastrigin's function is 10 (2 pi)^3 at most, along each coordinate."""
    bound = 10 * (2 * np.pi) ** 3
    landscape = Landscape.from_function(rastrigin, 2)
    proved = critical_points(landscape, low=-2.2, high=2.2, seed=0, lipschitz=bound)
    assert proved.provenance["proved"]
    assert len(proved) == 81
    apart = np.linalg.norm(proved.points[:, None] - proved.points, axis=2)
    np.fill_diagonal(apart, np.inf)
    isolation = np.array(proved.provenance["isolation"])
    assert (isolation > 0.1).all()
    assert (isolation < apart.min(axis=1)).all()
    assert not critical_points(landscape, low=-2.2, high=2.2, seed=0).provenance["proved"]
    with pytest.raises(ValueError, match="the Hessian changes faster"):
        critical_points(landscape, low=-2.2, high=2.2, seed=0, lipschitz=10.0)


def test_the_search_is_not_ended_unseen():
    landscape = Landscape.from_function(rastrigin, 2)
    morse = critical_points(landscape, low=-2.2, high=2.2, seed=0, max_evaluations=1300, starts=0)
    found = completeness(morse)
    assert morse.provenance["undecided"] > 0 or len(morse) == 81
    assert found.complete == (len(morse) == 81 and morse.provenance["undecided"] == 0)


# --------------------------------------------------------------------------------------------------------------
# What is missing
# --------------------------------------------------------------------------------------------------------------


def without(morse, rows):
    """Return a complex without some of its points."""
    kept = np.setdiff1d(np.arange(len(morse)), rows)
    place = np.full(len(morse), -1)
    place[kept] = np.arange(len(kept))
    arcs = (place[morse.arcs[:, :2]] >= 0).all(axis=1)
    return MorseComplex(
        index=morse.index[kept],
        value=morse.value[kept],
        vertex=morse.vertex[kept],
        cell=morse.cell[kept],
        arcs=np.column_stack([place[morse.arcs[arcs, :2]], morse.arcs[arcs, 2]]),
        coefficient=morse.coefficient[arcs],
        provenance=morse.provenance,
    )


@pytest.fixture(scope="module")
def six_hump():
    _, landscape = of_zoo("six_hump_camel")
    return critical_points(landscape, low=[-2, -1.1], high=[2, 1.1], seed=0)


def test_every_point_that_is_left_out_is_missed(six_hump):
    assert completeness(six_hump).complete
    for row in range(len(six_hump)):
        found = completeness(without(six_hump, [row]))
        parity = "odd" if six_hump.index[row] == 1 else "even"
        assert any(f"at least 1 point of {parity} index is missing" in said for said in found.missing)


def test_a_line_that_is_left_out_is_missed(six_hump):
    for arc in range(len(six_hump.arcs)):
        kept = np.arange(len(six_hump.arcs)) != arc
        fields = {name: getattr(six_hump, name) for name in ("index", "value", "vertex", "cell")}
        other = MorseComplex(
            **fields, arcs=six_hump.arcs[kept], coefficient=six_hump.coefficient[kept], provenance=six_hump.provenance
        )
        assert completeness(other).missing


def test_a_minimum_and_its_saddle_are_missed_by_bars_only(six_hump):
    """Both left out, nothing is wrong but the bars: only the four lines from maxima to that saddle are not there."""
    _, landscape = of_zoo("three_hump_camel")
    three = critical_points(landscape, low=-2, high=2, seed=0)
    saddle = int(three.rows(1)[0])
    (minimum,) = (row for row in three.arcs[three.arcs[:, 0] == saddle, 1] if three.value[row] > 0.1)
    other = without(three, [minimum, saddle])
    assert completeness(other).complete
    code = barcode(grid(sample_grid(landscape, low=-2, high=2, shape=(101, 101))))
    assert completeness(three, against=code, tolerance=0.02).complete
    assert "1 of 3 bars of degree 0 of the other barcode" in str(completeness(other, against=code, tolerance=0.02))


def test_a_box_that_cuts_sublevel_sets_is_said_to():
    _, landscape = of_zoo("rosenbrock")
    morse = critical_points(landscape, low=[-2, -1], high=[2, 3], seed=0, boundary=False)
    assert morse.counts.tolist() == [1]
    assert morse.provenance["falling"] > 0
    assert morse.provenance["betti"] is None
    assert "falls outward" in str(completeness(morse))
    morse = critical_points(Landscape.from_function(egg_carton, 2), low=0, high=1, seed=0, boundary=False)
    inside = np.flatnonzero((np.abs(morse.points - 0.5) < 0.1).all(axis=1))
    assert len(morse) == 9
    assert np.flatnonzero(~morse.on_boundary).tolist() == inside.tolist()


def test_the_gradient_on_the_boundary_says_what_is_missing(six_hump):
    """The indices of a box add up to the degree on its boundary, whatever it cuts (Morse 1929)."""
    for landscape, low, high in (
        (Landscape.from_function(coupled_wells, 2), [-0.5, -1.3], [2, 2]),
        (of_zoo("rosenbrock")[1], [-2, -1], [2, 3]),
        (of_zoo("himmelblau")[1], [-1, -3], [5, 3]),
        (Landscape.from_function(rastrigin, 1), [-1.8], [1.2]),
    ):
        morse = critical_points(landscape, low=low, high=high, seed=0, boundary=False)
        assert morse.provenance["falling"] > 0
        assert morse.provenance["degree"] == int(((-1) ** morse.index).sum())
        assert not any("the gradient turns" in said for said in completeness(morse).missing)
        for row in range(len(morse)):
            said = [one for one in completeness(without(morse, [row])).missing if "the gradient turns" in one]
            assert len(said) == 1
            assert f"of {'odd' if morse.index[row] % 2 else 'even'} index" in said[0]
    assert six_hump.provenance["degree"] == 1


def test_lines_that_leave_the_box_are_said_to():
    morse = critical_points(Landscape.from_function(coupled_wells, 2), low=-0.5, high=2, seed=0, boundary=False)
    assert morse.provenance["left"]
    assert "left the box" in str(completeness(morse))


# --------------------------------------------------------------------------------------------------------------
# Degenerate input
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 0 * x[:, 0] + 1,
        lambda x: torch.relu((x**2).sum(dim=1) - 0.25) ** 3,
        lambda x: x[:, 0] ** 3 - 3 * x[:, 0] * x[:, 1] ** 2,
        lambda x: (1 - x[:, 0] * x[:, 1]) ** 2,
    ],
    ids=["constant", "plateau", "monkey saddle", "valley"],
)
def test_points_that_are_not_isolated_are_refused(function):
    with pytest.raises(ValueError, match="degenerate"):
        critical_points(Landscape.from_function(function, 2), low=-1.5, high=1.5, seed=0, max_evaluations=50_000)


def test_a_slope_has_no_critical_points():
    landscape = Landscape.from_function(lambda x: x[:, 0] + 0.1 * x[:, 1], 2)
    morse = critical_points(landscape, low=-1, high=1, seed=0, boundary=False)
    assert len(morse) == 0
    assert completeness(morse, betti=[1, 0, 0]).missing
    assert completeness(morse, betti=[0, 0, 0]).complete


def test_losses_that_are_not_finite_are_refused():
    landscape = Landscape.from_function(lambda x: torch.log(x[:, 0]) + x[:, 1] ** 2, 2)
    with pytest.raises(ValueError, match=r"not finite at \[-0"):
        critical_points(landscape, low=-1, high=1, seed=0)


def test_boxes_that_make_no_sense_are_refused():
    landscape = Landscape.from_function(egg_carton, 2)
    with pytest.raises(ValueError, match="low must be below high"):
        critical_points(landscape, low=1, high=0, seed=0)
    with pytest.raises(ValueError, match="one period long: give high=1"):
        critical_points(landscape, low=0, high=2, period=1, seed=0)
    with pytest.raises(ValueError, match="not periodic in coordinate 0"):
        critical_points(Landscape.from_function(rastrigin, 2), low=0, high=1, period=1, seed=0)
    with pytest.raises(ValueError, match="one for each coordinate"):
        critical_points(landscape, low=[0, 0, 0], high=1, seed=0)
    with pytest.raises(ValueError, match="lipschitz"):
        critical_points(landscape, low=0, high=1, seed=0, lipschitz=-1)


# --------------------------------------------------------------------------------------------------------------
# Networks of minima
# --------------------------------------------------------------------------------------------------------------


def test_a_network_of_minima_has_the_bars_of_its_complex():
    """Minima (0, 3, 2), barriers 6, 10 and 5: by the elder rule the minimum at 3 dies at 5, that at 2 at 6."""
    points = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    minima = Minima(points, [0.0, 3.0, 2.0], np.zeros(3), np.ones((3, 1)), [0] * 3, ["minimum"] * 3)
    ends, barriers = [[0, 1], [0, 2], [1, 2]], [6.0, 10.0, 5.0]
    paths = [np.stack([points[a], (points[a] + points[b]) / 2, points[b]]) for a, b in ends]
    tops = [path[1] for path in paths]
    network = MinimaNetwork(minima, ends, barriers, ["verified saddle"] * 3, tops, paths)
    morse = morse_complex(network)
    assert morse.value.tolist() == [0.0, 2.0, 3.0, 5.0, 6.0, 10.0]
    assert morse.index.tolist() == [0, 0, 0, 1, 1, 1]
    code, expected = barcode(morse), barcode(network)
    for name in ("birth", "death", "birth_vertex", "death_vertex", "birth_simplex", "death_simplex"):
        assert getattr(code, name).tolist() == getattr(expected, name).tolist()
    assert code.death.tolist() == [np.inf, 6.0, 5.0]
    assert completeness(morse, betti=[1, 1]).complete  # a loop of three passes
    assert morse.points[morse.rows(1)].tolist() == [tops[2].tolist(), tops[0].tolist(), tops[1].tolist()]


def test_passes_that_are_no_saddles_are_left_out():
    minima = Minima([[0.0], [2.0]], [0.0, 1.0], np.zeros(2), np.ones((2, 1)), [0, 0], ["minimum"] * 2)
    network = MinimaNetwork(minima, [[0, 1]], [3.0], ["path maximum"], [[1.0]], [np.array([[0.0], [1.0], [2.0]])])
    assert morse_complex(network).counts.tolist() == [2]
    assert morse_complex(network).provenance["left_out"] == [0]
