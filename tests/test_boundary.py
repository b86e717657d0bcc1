"""Critical points on the boundary of a box, against known bars, fine grids and the topology of a box."""

import numpy as np
import pytest
import torch
from problems import Counted

from topolandscape.compare import bottleneck
from topolandscape.files import load, save
from topolandscape.landscape.critical import critical_points
from topolandscape.landscape.grids import sample_grid
from topolandscape.landscape.loss import Landscape
from topolandscape.topology.completeness import completeness
from topolandscape.topology.complexes import grid
from topolandscape.topology.morse import morse_complex
from topolandscape.topology.persistence import barcode
from topolandscape.zoo import functions, kuenneth
from topolandscape.zoo.known import elder_rule

pytestmark = pytest.mark.usefixtures("one_thread")


def bars(morse, dim):
    """Return births and deaths of a degree, sorted, +inf as a large number."""
    code = barcode(morse, max_dim=dim)
    rows = np.column_stack([code.birth, code.death])[code.dim == dim]
    return ordered(rows)


def ordered(rows):
    rows = np.nan_to_num(np.array(rows, dtype=float).reshape(-1, 2), posinf=1e9)
    return rows[np.lexsort((rows[:, 0].round(6), rows[:, 1].round(6)))]


def on_box(function, low, high, dimension=2, **options):
    landscape = Landscape.from_function(function, dimension)
    return critical_points(landscape, low=low, high=high, seed=0, **options)


def waves(seed, dimension=2, periodic=False):
    """Return six waves of random directions; if periodic, of period 2 along the first coordinate."""
    rng = np.random.default_rng(seed)
    along = rng.normal(0, 4, (6, dimension))
    if periodic:
        along[:, 0] = np.pi * rng.integers(-2, 3, 6)
    along, heights, phases = (torch.tensor(part) for part in (along, rng.normal(size=6), rng.uniform(0, 6.28, 6)))
    return lambda x: torch.cos(x @ along.T + phases) @ heights


def bumps(seed, dimension=2):
    rng = np.random.default_rng(seed)
    centres, heights = torch.tensor(rng.uniform(-1.3, 1.3, (8, dimension))), torch.tensor(rng.normal(size=8))
    widths, slope = torch.tensor(rng.uniform(0.3, 0.8, 8)), torch.tensor(0.2 * rng.normal(size=dimension))
    return lambda x: torch.exp(-((x[:, None] - centres) ** 2).sum(2) / (2 * widths**2)) @ heights + x @ slope


def agrees_with_a_grid(function, morse, n, dimension=2):
    """Compare with the bars of a grid: the loss is off by the change of slopes on half a cell, on each coordinate."""
    samples = sample_grid(Landscape.from_function(function, dimension), low=-1, high=1, shape=n, progress=False)
    values = samples.values.reshape((n,) * dimension)
    change = max(np.abs(np.diff(values, 2, axis=axis)).max() for axis in range(dimension))
    code = barcode(grid(samples), max_dim=dimension - 1)
    return completeness(morse, against=code, tolerance=3 * dimension * change)


# --------------------------------------------------------------------------------------------------------------
# Known bars
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "most"),
    [("cosine_1d", 400), ("schwefel_1d", 1000), ("egg_carton", 37_119), ("schwefel_2d", 85_005)],
)
def test_functions_of_the_zoo_that_are_cut(name, most):
    """Bars by Kuenneth, in at most a tenth of the calls of topsearch where it has a row in the race."""
    known = functions[name]
    counted = Counted(np.array(name))
    morse = critical_points(Landscape.from_function(counted, known.dimension), low=known.low, high=known.high, seed=0)
    assert counted.calls <= most
    assert completeness(morse).complete
    for k, exact in enumerate((known.minima, known.saddles)):
        points = morse.points[morse.rows(k)]
        if known.dimension == 2 or k == 0:
            assert len(points) == len(exact)
            assert np.abs(points[:, None] - exact).max(axis=2).min(axis=0).max() < 1e-6
    for dim in range(known.dimension):
        assert bars(morse, dim) == pytest.approx(ordered(known.bars[dim]), abs=1e-8)
    edge = ((morse.points == known.low) | (morse.points == known.high)).any(axis=1)
    assert morse.on_boundary.tolist() == edge.tolist()
    assert edge.sum() == {"schwefel_1d": 1, "schwefel_2d": 29}.get(name, 0)


def test_a_bowl_whose_bottom_lies_outside_has_its_minimum_where_it_is_nearest():
    for centre, nearest in (([2.0, 0.25], [1.0, 0.25]), ([2.0, -3.0], [1.0, -1.0]), ([0.5, 0.25], [0.5, 0.25])):
        middle = torch.tensor(centre)
        morse = on_box(lambda x: ((x - middle) ** 2).sum(dim=1), -1, 1)  # noqa: B023
        assert morse.counts.tolist() == [1]
        assert morse.points[0] == pytest.approx(nearest, abs=1e-9)
        assert morse.value[0] == pytest.approx(np.sum((np.array(centre) - nearest) ** 2), abs=1e-12)
        assert morse.on_boundary.tolist() == [centre != nearest]


def test_a_saddle_on_a_side_has_the_lines_along_it():
    """Along the low side x^4 - x^2 + 0.1 x, and rising from there: two minima and the pass between, on the side."""
    morse = on_box(lambda x: x[:, 0] ** 4 - x[:, 0] ** 2 + 0.1 * x[:, 0] + (x[:, 1] + 1), [-1.5, -1], [1.5, 1])
    assert morse.counts.tolist() == [2, 1]
    assert (morse.points[:, 1] == -1).all()
    assert morse.provenance["face"] == [[0, -1]] * 3
    assert bars(morse, 0) == pytest.approx(ordered(functions["quartic"].bars[0]), abs=1e-8)
    assert "3 on the boundary" in repr(morse)
    assert [len(row) for row in morse.provenance["eigenvalues"]] == [1, 1, 1]


# --------------------------------------------------------------------------------------------------------------
# Theorems, and grids
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [waves, bumps])
@pytest.mark.parametrize("seed", [0, 9, 13, 41])
def test_random_functions_on_a_box(make, seed):
    """Euler characteristic 1, all lines, and the bars of a grid. In 9, 13 and 41 lines graze the boundary."""
    function = make(seed)
    morse = on_box(function, -1, 1)
    assert morse.on_boundary.any()
    assert morse.euler_characteristic == 1
    found = agrees_with_a_grid(function, morse, 201)
    assert found.complete, str(found)
    assert found.betti[0] == 1
    assert not found.betti[1:].any()


@pytest.mark.parametrize("seed", range(3))
def test_random_functions_on_a_line(seed):
    function = waves(seed, 1)
    morse = on_box(function, -1, 1, 1)
    found = agrees_with_a_grid(function, morse, 2001, 1)
    assert found.complete, str(found)


def test_a_cylinder_has_two_sides():
    morse = on_box(waves(3, periodic=True), -1, 1, period=[2, 0])
    found = completeness(morse)
    assert found.complete, str(found)
    assert found.betti.tolist() == [1, 1, 0]
    assert set(np.abs(morse.points[morse.on_boundary, 1])) == {1.0}


def test_a_point_that_is_left_out_is_missed():
    morse = on_box(waves(0), -1, 1)
    row = int(np.flatnonzero(morse.on_boundary & (morse.index == 0))[0])
    at_corner = morse.euler_characteristic - 1
    assert at_corner == 0
    arcs = (morse.arcs[:, :2] != row).all(axis=1)
    kept = np.arange(len(morse)) != row
    columns = {name: getattr(morse, name)[kept] for name in ("index", "value", "vertex", "cell")}
    below = morse.arcs[arcs]
    below[:, :2] -= below[:, :2] > row
    said = completeness(
        type(morse)(**columns, arcs=below, coefficient=morse.coefficient[arcs], provenance=morse.provenance)
    )
    assert any("1 point of even index is missing" in one for one in said.missing)


def test_a_bound_makes_a_proof_on_the_boundary_too():
    """The third derivative of Rastrigin's function is 10 (2 pi)^3 at most; the box cuts its outer minima."""

    def rastrigin(x):
        return (10 + x**2 - 10 * torch.cos(2 * torch.pi * x)).sum(dim=1)

    proved = on_box(rastrigin, -0.8, 0.7, lipschitz=10 * (2 * np.pi) ** 3)
    assert proved.provenance["proved"]
    morse = on_box(rastrigin, -0.8, 0.7)
    assert proved.counts.tolist() == morse.counts.tolist() == [9, 12, 4]
    assert proved.points == pytest.approx(morse.points, abs=1e-7)
    assert completeness(proved).complete


@pytest.mark.slow
def test_a_cube_has_its_faces():
    """(2 + t)^3: on a line two minima, of which one is its end, and a maximum."""

    def quartic(x):
        return (x**4 - x**2 + 0.1 * x).sum(dim=1)

    morse = on_box(quartic, -1.5, 0.3, 3)
    assert morse.counts.tolist() == [8, 12, 6, 1]
    roots = np.sort(np.roots([4, 0, -2, 0.1]).real)
    ends = [float(x**4 - x**2 + 0.1 * x) for x in (roots[0], 0.3)]
    line = {0: elder_rule(ends, [(float(roots[1] ** 4 - roots[1] ** 2 + 0.1 * roots[1]), 0, 1)])}
    assert bars(morse, 0) == pytest.approx(ordered(kuenneth(kuenneth(line, line), line)[0]), abs=1e-8)
    # Three of the minima have one coordinate at its end, three have two, one has three; so for the others.
    assert morse.on_boundary[morse.rows(0)].sum() == 7
    found = completeness(morse)
    assert not found.missing
    assert found.unknown == ("lines from index 2 to 1 were not looked for",)
    with pytest.raises(ValueError, match="take max_dim=0"):
        barcode(morse, max_dim=1)


# --------------------------------------------------------------------------------------------------------------
# Where the gradient vanishes on the boundary
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "counts", "left_out"),
    [
        (lambda x, y: x**2 + y**2 + x * y, [1], 0),  # a minimum
        (lambda x, y: x**2 + (y - 1) ** 2, [1], 0),
        (lambda x, y: (x + x**2) ** 2 - (y - 1) ** 2 + (y - 1) ** 4, [2, 1], 0),  # the saddle is that of the side
        (lambda x, y: (y - 1) ** 2 - x**2, [1], 1),  # a saddle that the side cuts through: another is lower
        (lambda x, y: x**2 + y**2 + 5 * x * y, [1], 0),  # a saddle that falls outside only
        (lambda x, y: x**2 + y**2 - 5 * x * y, [1], 1),
        (lambda x, y: -(x**2) - y**2, [1, 0, 0], 1),
    ],
    ids=["corner", "side", "saddle", "cut saddle", "saddle outside", "saddle inside", "maximum"],
)
def test_points_without_a_gradient_on_the_boundary(function, counts, left_out):
    """They count as what is left of them when the box grows or shrinks by a little: the bars are the same."""

    def of_rows(x):
        return function(x[:, 0], x[:, 1]) + 0.01 * (x[:, 0] - 2.0) * (x[:, 0] ** 2) * x[:, 1] ** 2

    morse = on_box(of_rows, 0, 2)
    for shift in (-1e-3, 1e-3):
        other = on_box(of_rows, shift, 2)
        assert bottleneck(barcode(morse), barcode(other)) < 1e-5
        assert completeness(other).complete
    assert morse.counts.tolist() == counts[: len(morse.counts)]
    assert len(morse.provenance["left_out"]) == left_out
    assert completeness(morse).complete


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: (x + 1) * (2 + y),
        lambda x, y: x**3 + y,
        lambda x, y: x**4 + y,
        lambda x, y: 5 * (x + 1) * (y + 1) - (x + 1) ** 2 - (y + 1) ** 2,
        lambda x, y: (x + 1) * (y + 1),
    ],
    ids=["constant side", "inflection", "flat minimum", "two ways down", "two constant sides"],
)
def test_what_is_degenerate_on_the_boundary_is_refused(function):
    with pytest.raises(ValueError, match="give boundary=False"):
        on_box(lambda x: function(x[:, 0], x[:, 1]), -1, 1)


def test_what_is_degenerate_where_the_loss_falls_inwards_does_not_matter():
    morse = on_box(lambda x: -(x[:, 0] + 1) * (2 + x[:, 1]), -1, 1)  # constant on the low side, falling from there
    assert morse.points.tolist() == [[1.0, 1.0]]
    assert completeness(morse).complete


# --------------------------------------------------------------------------------------------------------------
# The column
# --------------------------------------------------------------------------------------------------------------


def test_the_column_is_kept(tmp_path):
    morse = on_box(bumps(0), -1, 1)
    save(tmp_path / "morse.npz", morse)
    assert load(tmp_path / "morse.npz").on_boundary.tolist() == morse.on_boundary.tolist()
    with np.load(tmp_path / "morse.npz") as file:
        older = {name: file[name] for name in file.files if name != "on_boundary"}
    np.savez(tmp_path / "older.npz", **older)
    assert load(tmp_path / "older.npz").on_boundary is None
    longest = 0.5 * float(np.ptp(morse.value))
    left = morse_complex(morse, persistence=longest)
    assert len(left) < len(morse)
    rows = [morse.points.tolist().index(point) for point in left.points.tolist()]
    assert left.on_boundary.tolist() == morse.on_boundary[rows].tolist()
    assert [data["on_boundary"] for _, data in left.to_networkx().nodes(data=True)] == left.on_boundary.tolist()
