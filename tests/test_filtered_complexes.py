"""Complexes as nouns: what is none, their sizes, the order of their simplices, where a simplex stands."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topolandscape.structures import FaceTable, GridComplex, SimplicialComplex, ascending, total_order

TRIANGLE = ([[0], [1], [2]], [[0, 1], [0, 2], [1, 2]], [[0, 1, 2]])


# --------------------------------------------------------------------------------------------------------------
# Complexes
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("simplices", "values", "message"),
    [
        ([], [], "simplices of 0 dimensions and values of 0"),
        ([[[0]]], [[0.0], [1.0]], "simplices of 1 dimensions and values of 2"),
        ([np.zeros((0, 1), dtype=int)], [[]], r"simplices\[0\] is empty; a complex needs at least one vertex"),
        ([[0, 1]], [[0.0, 1.0]], r"simplices\[0\] has shape \(2,\); it needs 2 dimension"),
        ([[[0], [1]], [[0], [1]]], [[0.0, 1.0]] * 2, r"simplices\[1\] has shape \(2, 1\); it needs 2 columns"),
        ([[[0], [1]], [[0, 1]]], [[0.0, 1.0], [1.0, 1.0]], r"values\[1\] has 2 entries, but there are 1 simplices"),
        ([[[0], [1]]], [[0.0, np.nan]], r"values\[0\]\[1\] is nan, one of 1 such values"),
        ([[[0], [1]]], [[-np.inf, 0.0]], r"values\[0\]\[0\] is -inf"),
        ([[[0], [1]], [[0, 1]]], [[0.0, 1.0], [np.nan]], r"values\[1\]\[0\] is nan"),
        ([[[1], [0]]], [[0.0, 1.0]], r"must be \[\[0\], \[1\], ...\]: every vertex once, in order"),
        ([[[0], [0]]], [[0.0, 1.0]], r"must be \[\[0\], \[1\], ...\]"),
        ([[[0], [1]], [[1, 0]]], [[0.0, 1.0], [1.0]], r"simplices\[1\]\[0\] is \[1, 0\]; name vertices in increasing"),
        ([[[0], [1]], [[1, 1]]], [[0.0, 1.0], [1.0]], r"\[1, 1\]; name vertices in increasing order"),
        ([[[0], [1]], [[0, 2]]], [[0.0, 1.0], [1.0]], r"\[0, 2\]; vertices are 0 to 1"),
        ([[[0], [1]], [[-1, 1]]], [[0.0, 1.0], [1.0]], r"\[-1, 1\]; vertices are 0 to 1"),
        ([[[0], [1]], [[0, 1], [0, 1]]], [[0.0, 1.0], [1.0, 1.0]], r"simplices\[1\]\[1\] is \[0, 1\], which is there"),
        (
            [TRIANGLE[0], [[0, 1], [1, 2]], TRIANGLE[2]],
            [[0.0] * 3, [0.0] * 2, [0.0]],
            r"simplex \[0, 1, 2\] is there without its facet \[0, 2\].*lower_star",
        ),
        (
            [TRIANGLE[0], [], TRIANGLE[2]],
            [[0.0] * 3, [], [0.0]],
            r"simplices\[1\] has shape \(0,\); it needs 2 dimension",
        ),
        (
            [TRIANGLE[0], np.zeros((0, 2), dtype=int), TRIANGLE[2]],
            [[0.0] * 3, [], [0.0]],
            r"\[0, 1, 2\] is there without its facet \[1, 2\]",
        ),
        (
            [[[0], [1]], [[0, 1]]],
            [[0.0, 1.0], [0.5]],
            r"simplex \[0, 1\] enters at 0.5, before its facet \[1\] \(at 1.0\).*lower_star",
        ),
        (TRIANGLE, [[0.0] * 3, [0.0, 0.0, 3.0], [2.0]], r"\[0, 1, 2\] enters at 2.0, before its facet \[1, 2\] \(at 3"),
        ([[[0], [1]], [[0, 1]]], [[0.0, np.inf], [5.0]], r"before its facet \[1\] \(at inf\)"),
    ],
)
def test_what_is_no_filtered_complex(simplices, values, message):
    with pytest.raises(ValueError, match=message):
        SimplicialComplex(simplices, values)


def test_a_complex_knows_its_size():
    complex = SimplicialComplex(TRIANGLE, [[0.0, 1.0, np.inf], [1.0, np.inf, np.inf], [np.inf]])
    assert complex.dimension == 2
    assert complex.vertex_values.tolist() == [0.0, 1.0, np.inf]
    assert repr(complex) == "SimplicialComplex(3 vertices, 3 edges, 1 triangles)"
    assert not complex.flag
    assert repr(SimplicialComplex([[[0]]], [[0.0]])) == "SimplicialComplex(1 vertices)"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"grid": 1.0}, r"a grid of shape \(\) has 1 point"),
        ({"grid": [[1.0]]}, r"a grid of shape \(1, 1\) has 1 point\(s\); it needs at least two"),
        ({"grid": np.zeros((0, 3))}, r"shape \(0, 3\) has 0 point"),
        ({"grid": [[0.0, 1.0], [np.nan, np.nan]]}, r"grid\[1, 0\] is nan, one of 2 such values.*set it to \+inf"),
        ({"grid": [0.0, -np.inf]}, r"grid\[1\] is -inf"),
        ({"grid": [0.0, 1.0], "connectivity": "diagonal"}, "'diagonal'; it must be one of axis, freudenthal, full"),
    ],
)
def test_what_is_no_grid(fields, message):
    with pytest.raises(ValueError, match=message):
        GridComplex(**fields)


def test_a_grid_is_row_major():
    grid = GridComplex([[0.0, np.inf, 1.0], [3.0, 4.0, 5.0]], "full")
    assert grid.vertex_values.tolist() == [0.0, np.inf, 1.0, 3.0, 4.0, 5.0]
    assert grid.dimension == 2
    assert repr(grid) == "GridComplex(2 x 3 vertices, full)"


# --------------------------------------------------------------------------------------------------------------
# The total order, and rows by vertices
# --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1e-300, np.inf]), max_size=30))
def test_ascending_is_by_value_then_row(values):
    order = ascending(np.array(values))
    assert order.tolist() == sorted(range(len(values)), key=lambda row: (values[row], row))


def test_total_order_is_by_value_dimension_row():
    values = [[1.0, 0.0, 1.0], [1.0, 1.0, 2.0], [2.0]]
    complex = SimplicialComplex(TRIANGLE, values)
    cells = [(value, k, row) for k, entered in enumerate(values) for row, value in enumerate(entered)]
    expected = sorted(range(len(cells)), key=lambda i: cells[i])
    assert total_order(complex).tolist() == expected == [1, 0, 2, 3, 4, 5, 6]
    assert total_order(GridComplex([[2.0, 1.0], [1.0, np.inf]])).tolist() == [1, 2, 0, 3]


@st.composite
def lists_of_simplices(draw):
    """Draw all faces of random simplices, each dimension in random order."""
    n = draw(st.integers(4, 8))
    top = draw(st.lists(st.permutations(range(n)).map(lambda p: tuple(sorted(p[:4]))), min_size=1, max_size=6))
    faces = {face for simplex in top for size in (2, 3, 4) for face in combinations(simplex, size)}
    rows = [[(v,) for v in range(n)]]
    rows += [draw(st.permutations(sorted(face for face in faces if len(face) == size))) for size in (2, 3, 4)]
    return n, rows


@given(lists_of_simplices())
def test_face_table_finds_every_simplex_and_no_other(drawn):
    n, rows = drawn
    table = FaceTable([np.array(r) for r in rows])
    for k, simplices in enumerate(rows):
        everything = list(combinations(range(n), k + 1))
        expected = [simplices.index(simplex) if simplex in simplices else -1 for simplex in everything]
        assert table.rows(np.array(everything)).tolist() == expected
        assert table.repeated(k) is None


def test_face_table_names_a_repeated_row():
    table = FaceTable([np.array([[0], [1], [2]]), np.array([[1, 2], [0, 1], [0, 2], [1, 2]])])
    assert table.repeated(1) == 3
    assert table.repeated(0) is None
