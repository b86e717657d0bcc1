"""Landscapes whose barcode is known by hand: sampled on grids and at random, and multiplied with each other."""

from itertools import combinations_with_replacement

import numpy as np
import pytest

from topolandscape.structures import GridComplex, LossSamples
from topolandscape.topology.complexes import delaunay, lower_star, nearest_neighbours, with_edge_values
from topolandscape.topology.merge import merge_tree
from topolandscape.topology.persistence import ENGINES, barcode

NEVER = np.inf


def three_hump_camel(x, y):
    return (2 - 1.05 * x**2 + x**4 / 6) * x**2 + x * y + y**2


CAMEL_MINIMUM, CAMEL_SADDLE = 0.2986384422, 0.8773615578

# name: function, low, high, bars by decreasing length
LINES = {
    "quartic": (
        lambda t: t**4 - t**2 + 0.1 * t,
        -1.5,
        1.5,
        [(-0.3219193469, NEVER), (-0.1805869666, 0.0025063135)],
    ),
    "rastrigin": (
        lambda x: 10 + x**2 - 10 * np.cos(2 * np.pi * x),
        -2.2,
        2.2,
        [(0.0, NEVER), (0.99496, 20.25127), (0.99496, 20.25127), (3.97983, 22.26146), (3.97983, 22.26146)],
    ),
    "schwefel": (
        lambda x: 418.982887 - x * np.sin(np.sqrt(np.abs(x))),
        -500.0,
        500.0,
        [
            (0.0, NEVER),
            (118.43833, 719.52744),
            (238.39373, 837.96577),  # its minimum is on the boundary
            (217.13967, 620.8261),
            (296.10671, 541.85906),
            (355.34791, 482.61787),
            (394.89993, 443.06585),
            (415.03759, 422.92819),
        ],
    ),
    "egg carton": (
        lambda x: np.cos(2 * np.pi * x),
        0.0,
        3.0,
        [(-1.0, NEVER), (-1.0, 1.0), (-1.0, 1.0)],
    ),
}


def on_line(name, n):
    function, low, high, _ = LINES[name]
    return function(np.linspace(low, high, n))


def bars_of(code, dim=0):
    """Return sorted (birth, death) of one degree."""
    kept = code.filter(dim=dim)
    return sorted(zip(kept.birth.tolist(), kept.death.tolist(), strict=True))


# --------------------------------------------------------------------------------------------------------------
# Test functions on grids
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_hump_camel_on_six_million_points():
    x, y = np.linspace(-2, 2, 3000), np.linspace(-2, 2, 2000)
    losses = three_hump_camel(x[:, None], y)
    for connectivity in ("axis", "freudenthal", "full"):
        tree = merge_tree(GridComplex(losses, connectivity))
        code = barcode(tree).filter(min_persistence=1e-3)
        assert len(code) == 3
        assert code.birth == pytest.approx([0.0, CAMEL_MINIMUM, CAMEL_MINIMUM], abs=1e-5)
        assert code.death == pytest.approx([np.inf, CAMEL_SADDLE, CAMEL_SADDLE], abs=1e-5)
        assert code.size.tolist() == [6_000_000, 347355, 347355]
        row, column = np.divmod(code.birth_vertex, 2000)
        assert x[row] == pytest.approx([0, *np.sign(x[row[1:]]) * 1.74755235], abs=2e-3)
        assert y[column] == pytest.approx([0, *np.sign(y[column[1:]]) * 0.87377617], abs=2e-3)
        assert sorted(np.sign(x[row[1:]])) == [-1, 1]
        row, column = np.divmod(code.death_vertex[1:], 2000)
        assert np.abs(x[row]) == pytest.approx(1.07054229, abs=0.01)
        assert np.abs(y[column]) == pytest.approx(0.53527115, abs=0.01)


@pytest.mark.parametrize("name", LINES)
def test_lines_within_the_error_of_the_grid(name):
    """A grid point lies within half a step h of every critical point, so values are off by max|f''| h^2 / 8 at most."""
    losses = on_line(name, 200_001)
    expected = np.sort(np.array(LINES[name][3]), axis=0)  # births and deaths apart: equal bars have no order
    error = np.abs(np.diff(losses, 2)).max() / 8 + 1e-5  # the table has five digits after the point
    for connectivity in ("axis", "freudenthal", "full"):
        code = barcode(GridComplex(losses, connectivity)).filter(min_persistence=1e-4)
        assert np.sort(code.birth) == pytest.approx(expected[:, 0], abs=error)
        assert np.sort(code.death) == pytest.approx(expected[:, 1], abs=error)
        lengths = sorted(death - birth for birth, death in LINES[name][3])
        assert np.sort(code.persistence) == pytest.approx(lengths, abs=2 * error)


def test_egg_carton_has_its_minima_saddles_and_maxima():
    x = np.linspace(0, 3, 61)
    losses = np.round(np.cos(2 * np.pi * x)[:, None] + np.cos(2 * np.pi * x), 12)
    code = barcode(GridComplex(losses), max_dim=1)
    assert bars_of(code) == [(-2.0, 0.0)] * 8 + [(-2.0, NEVER)]
    assert bars_of(code, 1) == [(0.0, 2.0)] * 4  # the four maxima inside


# --------------------------------------------------------------------------------------------------------------
# Kuenneth: sums of lines
# --------------------------------------------------------------------------------------------------------------


def kuenneth(g, h):
    """Return the bars of g(x) + h(y) by degree, from those of g and h."""
    result = [[] for _ in range(len(g) + len(h))]
    for p, g_bars in enumerate(g):
        for q, h_bars in enumerate(h):
            for a, b in g_bars:
                for c, e in h_bars:
                    result[p + q].append((a + c, min(b + c, a + e)))
                    result[p + q + 1].append((max(b + c, a + e), b + e))
    return [sorted(bar for bar in bars if bar[0] < bar[1]) for bars in result]


def coarse(name, n):
    """Return a line on a coarse grid, rounded so that its sums are exact in float64."""
    return np.round(on_line(name, n) * 2**20) / 2**20


def assert_kuenneth(lines):
    losses, predicted = lines[0], [bars_of(barcode(GridComplex(lines[0])))]
    for line in lines[1:]:
        losses = losses[..., None] + line
        predicted = kuenneth(predicted, [bars_of(barcode(GridComplex(line)))])
    assert len(predicted) == len(lines)
    code = barcode(GridComplex(losses), max_dim=len(lines) - 1)
    for degree in range(len(lines)):
        assert bars_of(code, degree) == predicted[degree]
    return [len(bars) for bars in predicted]


@pytest.mark.parametrize(("one", "other"), list(combinations_with_replacement(LINES, 2)))
def test_sums_of_two_lines_have_exactly_the_bars_of_kuenneth(one, other):
    components, loops = assert_kuenneth([coarse(one, 41), coarse(other, 37)])
    assert components >= 4
    assert loops >= 1


@pytest.mark.parametrize("name", LINES)
def test_sum_of_three_lines_has_exactly_the_bars_of_kuenneth(name):
    """Each line with itself and a second one, all three sampled differently, in degrees 0, 1 and 2."""
    counts = assert_kuenneth([coarse(name, 31), coarse(name, 29), coarse("egg carton", 17)])
    assert min(counts) > 1


# --------------------------------------------------------------------------------------------------------------
# Minima and barriers
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_elder_rule_on_pairwise_barriers(engine):
    """The way from minimum 2 to minimum 0 leads through minimum 1: over 6, not 10."""
    minima, barriers = [0.0, 3.0, 2.0], [6.0, 10.0, 5.0]  # of the pairs 0-1, 0-2, 1-2
    complex = with_edge_values(lower_star([[0, 1], [0, 2], [1, 2]], minima), barriers)
    assert complex.simplices[1].tolist() == [[0, 1], [0, 2], [1, 2]]
    code = barcode(complex, engine=engine)
    deaths = dict(zip(code.birth_vertex.tolist(), code.death.tolist(), strict=True))
    assert deaths == {0: np.inf, 1: 5.0, 2: 6.0}
    saddles = dict(zip(code.birth_vertex.tolist(), code.death_simplex.tolist(), strict=True))
    assert saddles == {0: -1, 1: 2, 2: 0}


# --------------------------------------------------------------------------------------------------------------
# Random samples
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scattered_camel():
    points = np.random.default_rng(0).uniform(-2, 2, size=(100_000, 2))
    return LossSamples(points, three_hump_camel(*points.T))


def assert_is_the_camel(code):
    assert len(code) == 3
    assert code.birth == pytest.approx([0.0, CAMEL_MINIMUM, CAMEL_MINIMUM], abs=0.002)
    assert code.death == pytest.approx([np.inf, CAMEL_SADDLE, CAMEL_SADDLE], abs=0.002)


@pytest.mark.slow
def test_few_neighbours_make_false_minima(scattered_camel):
    """The fewer neighbours, the more false bars, and the longer ones."""
    with pytest.warns(UserWarning, match=r"the graph has \d+ components"):
        codes = [barcode(nearest_neighbours(scattered_camel, k=4))]
    codes += [barcode(nearest_neighbours(scattered_camel, k=k)) for k in (8, 16, 24)]
    counts = [len(code) for code in codes]
    assert 2800 < counts[0] < 3200
    assert 90 < counts[1] < 180
    assert 3 <= counts[2] < 8
    assert counts[3] == 3
    essential = [int(code.essential.sum()) for code in codes]
    assert 5 <= essential[0] <= 20
    assert essential[1:] == [1, 1, 1]
    longest_false = [np.sort(code.persistence[~code.essential])[-3] for code in codes[:2]]
    assert 0.1 < longest_false[0] < 0.6
    assert 0.01 < longest_false[1] < 0.2
    assert_is_the_camel(codes[2].filter(min_persistence=0.02))
    assert_is_the_camel(codes[3])


@pytest.mark.slow
def test_delaunay_makes_no_false_minima(scattered_camel):
    assert_is_the_camel(barcode(delaunay(scattered_camel)).filter(min_persistence=0.002))
