"""Functions without their short bars: the bars that are left, and how far values move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_complexes import complexes, cubes, unknown_top

from topolandscape import zoo
from topolandscape.structures import GridComplex, SimplicialComplex
from topolandscape.topology.complexes import flag_complex, freudenthal, grid
from topolandscape.topology.persistence import barcode, grid_edges
from topolandscape.topology.simplification import simplified

PERSISTENCES = st.sampled_from([0.0, 0.5, 1.0, 2.0, 100.0, np.inf])


def bars(code, dim):
    """Return births and deaths of one degree, in order."""
    chosen = code.dim == dim
    return sorted(zip(code.birth[chosen].tolist(), code.death[chosen].tolist(), strict=True))


def assert_moved_less(values, before, persistence):
    entered = np.isfinite(before)
    assert (np.isfinite(values) == entered).all()
    moved = np.abs(values[entered] - before[entered])
    assert (moved < persistence).all() if persistence else (moved == 0).all()


def of_cells(complex):
    """Return when each cell of a grid enters: with the last of its vertices."""
    values = np.empty([2 * n - 1 for n in complex.grid.shape])
    for cell in np.ndindex(*values.shape):
        values[cell] = complex.grid[tuple(slice(c // 2, (c + 1) // 2 + 1) for c in cell)].max()
    return values


# --------------------------------------------------------------------------------------------------------------
# Minima filled up
# --------------------------------------------------------------------------------------------------------------


def water_levels(complex, stay):
    """Return for each vertex the lowest height over which it can be reached from vertices that stay."""
    if isinstance(complex, GridComplex):
        edges = grid_edges(complex)
        entered = complex.vertex_values[edges].max(axis=1)
    else:
        edges = complex.simplices[1] if complex.dimension else np.zeros((0, 2), int)
        entered = complex.values[1] if complex.dimension else np.zeros(0)
    level = np.full(len(complex.vertex_values), np.inf)
    level[stay] = complex.vertex_values[stay]
    for _ in level:
        for (a, b), height in zip(edges.tolist(), entered.tolist(), strict=True):
            level[a] = min(level[a], max(level[b], height))
            level[b] = min(level[b], max(level[a], height))
    return level


@given(complexes, st.sampled_from([0.0, 0.5, 1.0, 2.0, 100.0]))
def test_minima_are_filled_up_no_higher_than_they_must(complex, persistence):
    kept = barcode(complex).filter(min_persistence=persistence)
    filled = simplified(complex, persistence=persistence)
    code = barcode(filled)
    for name in ("birth", "death", "birth_vertex"):
        assert sorted(getattr(code, name)) == sorted(getattr(kept, name))
    entered = complex.vertex_values
    expected = np.maximum(entered, water_levels(complex, kept.birth_vertex))
    assert np.array_equal(filled.vertex_values, np.where(np.isinf(entered), np.inf, expected))
    rise = filled.vertex_values[np.isfinite(entered)] - entered[np.isfinite(entered)]
    assert (rise >= 0).all()
    assert persistence == 0 or (rise < persistence).all()
    if persistence == 0:
        assert np.array_equal(filled.vertex_values, entered)


@given(cubes(), st.sampled_from(["axis", "freudenthal", "full"]), PERSISTENCES)
def test_maxima_are_worn_down(cube, connectivity, persistence):
    """No bar of the highest degree is left that is shorter; where none is, nothing moves."""
    complex = GridComplex(cube.grid, connectivity)
    axes = sum(n > 1 for n in complex.grid.shape)
    if axes > 3:
        return
    lower = simplified(complex, persistence=persistence, of="maxima")
    code, left = (barcode(c, max_dim=axes - 1, engine="gudhi") for c in (complex, lower))
    assert bars(left, axes - 1) == bars(code.filter(min_persistence=persistence), axes - 1)
    assert (lower.grid <= complex.grid).all()
    assert_moved_less(lower.grid, complex.grid, persistence)
    again = simplified(lower, persistence=persistence, of="maxima")
    assert np.array_equal(again.grid, lower.grid)


def test_on_a_line_maxima_and_minima_have_the_same_bars():
    complex = grid(np.random.default_rng(0).normal(size=200))
    upside_down = GridComplex(np.pad(-complex.grid, 1, constant_values=-10.0))
    filled = simplified(upside_down, persistence=1.0)
    assert np.array_equal(simplified(complex, persistence=1.0, of="maxima").grid, -filled.grid[1:-1])


@given(complexes, PERSISTENCES)
def test_all_degrees_at_once(complex, persistence):
    """The bars that are left, in one and two dimensions no others; the cells move by less than the persistence."""
    if unknown_top(complex):
        return
    left = simplified(complex, persistence=persistence, of="all")
    code = barcode(complex, max_dim=complex.dimension, engine="gudhi")
    after = barcode(left, max_dim=complex.dimension, engine="gudhi")
    kept = code.filter(min_persistence=persistence)
    axes = sum(n > 1 for n in complex.grid.shape) if isinstance(complex, GridComplex) else 0
    for k in range(complex.dimension + 1):
        longer = after.filter(dim=k, min_persistence=persistence)
        assert bars(longer, k) == bars(kept, k)
        if k == 0 or axes in (1, 2) or k == axes - 1:
            assert bars(after, k) == bars(kept, k)
    if isinstance(complex, GridComplex):
        assert_moved_less(left.grid, of_cells(complex), persistence)
    else:
        assert_moved_less(np.concatenate(left.values), np.concatenate(complex.values), persistence)


@pytest.mark.parametrize("persistence", [0.3, 1.0, 2.5])
def test_all_degrees_of_a_plane(persistence):
    complex = grid(np.random.default_rng(1).normal(size=(30, 25)))
    for before in (complex, freudenthal(complex)):
        kept = barcode(before, max_dim=1).filter(min_persistence=persistence)
        left = simplified(before, persistence=persistence, of="all")
        after = barcode(left, max_dim=1)
        assert len(after) < len(barcode(before, max_dim=1))
        for k in (0, 1):
            assert bars(after, k) == bars(kept, k)
    assert isinstance(left, SimplicialComplex)


def test_a_moat_around_a_peak():
    """To fill the moat up would shorten the long bar of the peak; in all degrees at once it gets a way out instead."""
    losses = np.zeros((7, 7))
    losses[1:6, 1:6] = 2.0  # the wall
    losses[2:5, 2:5] = 1.0  # the moat, which the wall's lowest vertex leaves at 1.8
    losses[1, 3], losses[2, 2], losses[3, 3] = 1.8, 1.5, 9.0
    losses[3, 6] = 2.0  # no way around the wall
    complex = grid(losses)
    assert bars(barcode(complex, max_dim=1), 0) == [(0.0, np.inf), (1.0, 1.8)]
    assert (1.5, 9.0) in bars(barcode(complex, max_dim=1), 1)
    filled = barcode(simplified(complex, persistence=1.5), max_dim=1)
    assert (1.8, 9.0) in bars(filled, 1)
    assert (1.5, 9.0) not in bars(filled, 1)
    left = barcode(simplified(complex, persistence=1.5, of="all"), max_dim=1)
    assert bars(left, 0) == [(0.0, np.inf)]
    assert bars(left, 1) == [(1.5, 9.0)]


def test_noise_is_taken_from_a_landscape():
    """Himmelblau's function has four minima, of bars of at least 13.1, and one maximum, of a bar of 3.2."""
    known = zoo.functions["himmelblau"]
    losses = known.on_grid((61, 61)).values.reshape(61, 61) + 0.5 * np.random.default_rng(0).normal(size=(61, 61))
    assert len(barcode(grid(losses))) > 4
    assert len(barcode(simplified(grid(losses), persistence=6.0, of="all"), max_dim=1)) == 4


def test_what_never_enters_stays_so():
    nothing = GridComplex([np.inf, np.inf])
    for of in ("minima", "maxima", "all"):
        assert np.isinf(simplified(nothing, persistence=1.0, of=of).grid).all()


def test_errors_name_what_is_needed():
    line = grid([0.0, 1.0])
    with pytest.raises(ValueError, match="persistence is nan"):
        simplified(line, persistence=float("nan"))
    with pytest.raises(ValueError, match="minima, maxima or all"):
        simplified(line, persistence=1.0, of="saddles")
    with pytest.raises(TypeError, match="take of='all'"):
        simplified(freudenthal(line), persistence=1.0, of="maxima")
    flag = flag_complex(zoo.functions["himmelblau"].on_grid((5, 5)), k=4, max_dim=2)
    with pytest.raises(ValueError, match="simplify its minima"):
        simplified(flag, persistence=1.0, of="all")
    with pytest.raises(ValueError, match="such as freudenthal"):
        simplified(GridComplex([[0.0, 1.0]], "full"), persistence=1.0, of="all")
