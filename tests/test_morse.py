"""Discrete gradient fields and Morse complexes, against the definitions."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_complexes import assert_is_gradient, bars, complexes, counted_paths, numbers

from topolandscape.structures import MANY, GradientField, GridComplex, MorseComplex, SimplicialComplex
from topolandscape.topology.branching import count_paths
from topolandscape.topology.complexes import freudenthal, grid
from topolandscape.topology.gradient import Cells
from topolandscape.topology.morse import basins, gradient_field, morse_complex, separatrices, v_path
from topolandscape.topology.pairing import pairs_of_complex
from topolandscape.topology.persistence import barcode

# --------------------------------------------------------------------------------------------------------------
# The field and its V-paths, from the definitions
# --------------------------------------------------------------------------------------------------------------


@given(complexes)
def test_fields_are_gradients(complex):
    assert_is_gradient(gradient_field(complex))


@given(complexes, st.sampled_from([0.5, 1.0, 3.0, 100.0]))
def test_fields_stay_gradients_when_pairs_are_cancelled(complex, persistence):
    assert_is_gradient(gradient_field(complex, persistence=persistence), together=False)


@given(complexes, st.sampled_from([0.0, 1.0, 100.0]))
def test_v_paths_are_counted_right(complex, persistence):
    field = gradient_field(complex, persistence=persistence)
    morse = morse_complex(field)
    name = numbers(morse, complex)
    counted = {
        (int(name[higher]), int(name[lower])): (number, signed)
        for (higher, lower, number), signed in zip(morse.arcs.tolist(), morse.coefficient.tolist(), strict=True)
    }
    assert counted == counted_paths(field)


@pytest.mark.parametrize("shape", [(40, 30), (9, 8, 10), (5, 4, 6, 5)])
@pytest.mark.parametrize("levels", [0, 8])
def test_boundaries_of_larger_grids(shape, levels):
    rng = np.random.default_rng(3)
    complex = grid(rng.integers(levels, size=shape) if levels else rng.normal(size=shape))
    morse = morse_complex(complex)
    for k in range(2, len(shape) + 1):
        assert abs(morse.boundary(k - 1) @ morse.boundary(k)).sum() == 0
    assert morse.euler_characteristic == 1
    assert bars(barcode(morse, max_dim=len(shape) - 1)) == bars(
        barcode(complex, max_dim=len(shape) - 1, engine="gudhi")
    )
    if len(shape) < 4 and not levels:
        paired = pairs_of_complex(morse)
        both = np.flatnonzero(paired >= 0)
        assert (morse.vertex[both] != morse.vertex[paired[both]]).all(), "a critical cell that changes no homology"


def test_threads_do_not_matter():
    complex = grid(np.random.default_rng(0).normal(size=(30, 30, 30)))
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = morse_complex(complex)
        numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
        two = morse_complex(complex)
    finally:
        numba.set_num_threads(threads)
    for name in ("index", "value", "vertex", "cell", "arcs", "coefficient"):
        assert np.array_equal(getattr(one, name), getattr(two, name))


def ladder(rungs, sign):
    """Return cells of which each of the two on a rung leads to both on the next, and the field that does so."""
    facets, signs, partner = [], [], []
    for _ in range(rungs):
        facets += [[], []]  # smaller cells 2 i and 2 i + 1, whose partners are 2 rungs + 2 i + ...
        signs += [[], []]
    for rung in range(rungs - 1):
        for side in (0, 1):
            facets.append([2 * rung + side, 2 * rung + 2, 2 * rung + 3])
            signs.append([-1, 1, sign])
    facets.append([0, 1])
    signs.append([1, 1])
    partner = [2 * rungs + i for i in range(2 * rungs - 2)] + [2 * rungs - 2, 2 * rungs - 1]
    partner += [*range(2 * rungs - 2), len(facets) - 1]
    starts = np.cumsum([0, *map(len, facets)])
    none = np.zeros(0, dtype=np.int64)
    cells = Cells(none, none, starts, np.concatenate(facets).astype(np.int64), np.concatenate(signs).astype(np.int8), 3)
    return cells, np.array(partner), len(facets) - 1


@pytest.mark.parametrize(("rungs", "number"), [(62, 2**61), (64, MANY), (80, MANY)])
def test_numbers_of_v_paths_stop_where_they_would_overflow(rungs, number):
    cells, partner, top = ladder(rungs, 1)
    count, ends, numbers_, signed = count_paths(0, 1, np.array([top]), cells, partner)
    assert count.tolist() == [2]
    assert sorted(ends.tolist()) == [2 * rungs - 2, 2 * rungs - 1]
    assert numbers_.tolist() == [number] * 2
    if number < MANY:
        assert signed.tolist() == [number] * 2
    cells, partner, top = ladder(rungs, -1)
    signed = count_paths(0, 1, np.array([top]), cells, partner)[3]
    assert np.abs(signed).max() <= 2**rungs // 2, "with orientation, paths cancel and nothing overflows"


# --------------------------------------------------------------------------------------------------------------
# Degenerate and wrong input
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1), (7,), (4, 5), (3, 4, 3), (3, 2, 2, 3)])
def test_a_constant_has_one_critical_cell(shape):
    morse = morse_complex(grid(np.zeros(shape)))
    assert (len(morse), morse.index[0], morse.vertex[0]) == (1, 0, 0)
    assert morse_complex(freudenthal(grid(np.zeros(shape)))).counts.tolist() == [1]


def test_a_plateau_between_two_basins_has_one_saddle():
    losses = np.full((5, 7), 1.0)
    losses[2, 1] = losses[2, 5] = 0.0
    for complex in (grid(losses), freudenthal(grid(losses))):
        morse = morse_complex(complex, persistence=1e-9)
        assert morse.counts.tolist() == [2, 1]
        assert morse.value.tolist() == [0.0, 0.0, 1.0]


def test_two_points():
    apart = SimplicialComplex([[[0], [1]]], [[1.0, 0.0]])
    assert morse_complex(apart).vertex.tolist() == [1, 0]
    assert morse_complex(grid([1.0, 0.0])).vertex.tolist() == [1]


def test_what_never_enters_has_no_part():
    nothing = morse_complex(GridComplex(np.full((3, 3), np.inf)))
    assert (len(nothing), nothing.dimension, nothing.euler_characteristic) == (0, -1, 0)
    assert repr(nothing) == "MorseComplex(nothing critical; 0 arcs)"
    assert len(barcode(nothing)) == 0
    assert basins(gradient_field(GridComplex([np.inf, 1.0, 0.0]))).tolist() == [-1, 0, 0]


def test_the_graph_of_a_morse_complex():
    morse = morse_complex(grid([0.0, 3.0, 1.0]))
    graph = morse.to_networkx()
    assert dict(graph.nodes[2]) == {"index": 1, "value": 3.0, "vertex": 1, "cell": 3}
    assert sorted(graph.edges(data="number")) == [(2, 0, 1), (2, 1, 1)]


def test_errors_name_what_is_needed():
    losses = np.arange(6.0).reshape(2, 3)
    with pytest.raises(ValueError, match="such values"):
        morse_complex(GridComplex([0.0, np.nan]))
    with pytest.raises(ValueError, match=r"such as freudenthal\(grid\)"):
        morse_complex(GridComplex(losses, "full"))
    with pytest.raises(ValueError, match="made up to 4"):
        barcode(GridComplex(np.zeros((2,) * 5)), engine="morse")
    with pytest.raises(TypeError, match="on a filtered complex"):
        gradient_field(losses)
    with pytest.raises(ValueError, match="persistence is -1"):
        gradient_field(grid(losses), persistence=-1)
    field = gradient_field(grid([0.0, 3.0, 1.0]))
    with pytest.raises(ValueError, match="row 3 does not exist"):
        v_path(field, 3, 0)
    with pytest.raises(ValueError, match="index less by one"):
        v_path(field, 1, 0)
    with pytest.raises(ValueError, match="minima or maxima"):
        basins(field, of="saddles")
    listed = gradient_field(freudenthal(grid(losses)))
    with pytest.raises(ValueError, match="give their coordinates, points="):
        separatrices(listed)
    with pytest.raises(ValueError, match="points has 2 entries"):
        separatrices(listed, points=[[0.0], [1.0]])
    morse = morse_complex(field)
    with pytest.raises(ValueError, match="largest index is 1"):
        barcode(morse, max_dim=2)
    with pytest.raises(ValueError, match="by engine 'morse' or 'canonical'"):
        barcode(morse, engine="gudhi")
    with pytest.raises(ValueError, match="pairs go both ways"):
        GradientField(SimplicialComplex([[[0], [1]]], [[0.0, 1.0]]), [1, 1])
    with pytest.raises(ValueError, match="connectivity is"):
        GradientField(GridComplex(losses, "full"), np.zeros(15, np.uint8))


MADE = {"index": [0, 0, 1], "value": [0, 1, 3], "vertex": [0, 2, 1], "cell": [0, 2, 1]}
MADE |= {"arcs": [[2, 0, 1], [2, 1, 1]], "coefficient": [-1, 1]}


@pytest.mark.parametrize(
    ("field", "wrong", "words"),
    [
        ("index", [0, 0], "index has 2 entries"),
        ("value", [0.0, np.inf, 3.0], "finite values"),
        ("value", [1, 0, 3], "sort the rows"),
        ("index", [0, 1, 1], "an arc leads to an earlier row"),
        ("arcs", [[2, 0], [2, 1]], "give higher row, lower row and number"),
        ("arcs", [[2, 0, 1], [3, 1, 1]], "rows are 0 to 2"),
        ("arcs", [[2, 0, 0], [2, 1, 1]], "at least 1"),
        ("arcs", [[2, 0, 2], [2, 1, 1]], "a sum of as many terms"),
        ("arcs", [[2, 1, 1], [2, 1, 1]], "there twice"),
    ],
)
def test_invariants_are_checked(field, wrong, words):
    assert len(MorseComplex(**MADE)) == 3
    with pytest.raises(ValueError, match=words):
        MorseComplex(**MADE | {field: wrong})
