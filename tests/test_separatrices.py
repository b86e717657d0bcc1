"""V-paths, separatrices and basins, against the definitions."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_complexes import cells_with_facets, complexes, cubes, freudenthal_of, numbers, partners

from topolandscape.structures import GridComplex, LossSamples
from topolandscape.topology.complexes import delaunay, grid
from topolandscape.topology.critical import places_of
from topolandscape.topology.morse import basins, betti_numbers, gradient_field, morse_complex, separatrices, v_path


@given(complexes, st.sampled_from([0.0, 1.0]))
def test_basins_are_where_v_paths_lead(complex, persistence):
    field = gradient_field(complex, persistence=persistence)
    morse = morse_complex(field)
    labels = basins(field)
    _, facets, _ = cells_with_facets(complex)
    partner = partners(field)
    name = numbers(morse, complex)
    vertices = np.arange(len(labels))
    if isinstance(complex, GridComplex):
        shape = complex.grid.shape
        places = np.unravel_index(vertices, shape)
        vertices = np.ravel_multi_index([2 * p for p in places], [2 * n - 1 for n in shape])
    for vertex, label in zip(vertices.tolist(), labels.tolist(), strict=True):
        if partner[vertex] == -1:
            assert label == -1
            continue
        end = vertex
        while partner[end] != end:
            (end,) = facets[partner[end]].keys() - {end}
        assert name[label] == end


def two_beside_each(complex):
    """Return whether no simplex of dimension d - 1 lies in more than two of dimension d."""
    if isinstance(complex, GridComplex):
        return True
    _, facets, dimension = cells_with_facets(complex)
    beside = Counter(f for cell, k in enumerate(dimension) if k == complex.dimension for f in facets[cell])
    return max(beside.values(), default=0) <= 2


@given(complexes | cubes().map(freudenthal_of), st.sampled_from([0.0, 1.0]))
def test_basins_and_lines_of_maxima_are_where_paths_up_lead(complex, persistence):
    field = gradient_field(complex, persistence=persistence)
    points = np.random.default_rng(0).normal(size=(len(complex.vertex_values), 2))
    if not two_beside_each(complex):
        with pytest.raises(ValueError, match="lies in more than two"):
            basins(field, of="maxima")
        return
    morse = morse_complex(field)
    name = numbers(morse, complex)
    _, facets, dimension = cells_with_facets(complex)
    partner = partners(field)
    top = sum(n > 1 for n in complex.grid.shape) if isinstance(complex, GridComplex) else complex.dimension
    cofacets = {}
    for cell, sides in enumerate(facets):
        for facet in sides:
            cofacets.setdefault(facet, set()).add(cell)

    def way_up(cell):
        """Return the top cells from one to a maximum, or to None: outside."""
        way = [cell]
        while way[-1] is not None and partner[way[-1]] not in (-1, way[-1]):
            way.append(next(iter(cofacets[partner[way[-1]]] - {way[-1]}), None))
        return way if way[-1] is not None and partner[way[-1]] >= 0 else [*way, None]

    labels = basins(field, of="maxima")
    if isinstance(complex, GridComplex):
        assert labels.shape == tuple(n - 1 for n in complex.grid.shape if n > 1)
    tops = [cell for cell, k in enumerate(dimension) if k == top]
    for cell, label in zip(tops, labels.reshape(-1).tolist(), strict=True):
        end = way_up(cell)[-1]
        assert label == -1 if end is None else name[label] == end
    if top == 0:
        return
    lines = separatrices(field, ascending=True, points=points)
    ends = []
    for saddle in name[morse.index == top - 1]:
        ways = [way_up(cell) for cell in cofacets.get(saddle, ())]
        ends += [{way[-1] for way in ways if way[-1] is not None}]
    assert len(lines) == 2 * len(ends)
    centre = {tuple(places_of(field, name[row : row + 1], points)[0]): int(name[row]) for row in range(len(name))}
    for saddle, reached in enumerate(ends):
        last = [centre.get(tuple(line[-1])) for line in lines[2 * saddle : 2 * saddle + 2] if len(line) > 1]
        assert reached <= set(last)


def test_lines_on_a_triangulation_are_those_on_the_grid():
    """The egg carton again, triangulated: four minima, four saddles and the maximum amid them."""
    x = np.linspace(0, 2 * np.pi, 41)
    points = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
    samples = LossSamples(points, np.cos(2 * points).sum(axis=1), shape=(41, 41))
    field = gradient_field(delaunay(samples), persistence=0.1)
    assert morse_complex(field).counts.tolist() == [4, 4, 1]
    down = separatrices(field, points=points)
    quarter = np.pi / 2
    assert {tuple(np.round(line[-1] / quarter).astype(int)) for line in down} == {(1, 1), (1, 3), (3, 1), (3, 3)}
    inside = [line for line in separatrices(field, ascending=True, points=points) if np.abs(line[-1] - np.pi).max() < 1]
    assert len(inside) == 4
    assert all(np.abs(line[-1] - np.pi).max() < 0.2 for line in inside)
    labels = basins(field, of="maxima")
    middle = points[delaunay(samples).simplices[2]].mean(axis=1)
    within = (np.abs(middle - np.pi) < 0.8 * quarter).all(axis=1)
    assert np.mean(labels[within] == 8) > 0.95
    assert np.mean(labels == 8) == pytest.approx(0.25, abs=0.05)


@given(complexes, st.sampled_from([0.0, 1.0]))
def test_v_paths_descend_from_one_end_to_the_other(complex, persistence):
    field = gradient_field(complex, persistence=persistence)
    morse = morse_complex(field)
    for higher, lower, _ in morse.arcs.tolist():
        path = v_path(field, higher, lower)
        losses = complex.vertex_values[path]
        assert len(set(path.tolist())) == len(path)
        if isinstance(complex, GridComplex):
            assert path[0] == morse.vertex[higher]
            assert path[-1] == morse.vertex[lower]
        if persistence == 0:
            if isinstance(complex, GridComplex):
                assert (np.diff(losses) <= 0).all()
            assert losses[-1] == losses.min()
    joined = {(higher, lower) for higher, lower, _ in morse.arcs.tolist()}
    for higher, lower in combinations(range(len(morse)), 2):
        if morse.index[lower] == morse.index[higher] + 1 and (lower, higher) not in joined:
            assert len(v_path(field, lower, higher)) == 0


def test_separatrices_of_an_egg_carton():
    x = np.linspace(0, 2 * np.pi, 41)
    complex = grid(np.cos(2 * x)[:, None] + np.cos(2 * x))
    field = gradient_field(complex, persistence=0.1)
    morse = morse_complex(field)
    assert morse.counts.tolist() == [4, 4, 1]
    labels = basins(field).reshape(41, 41)
    assert sorted(np.bincount(labels[labels >= 0]).tolist()) == pytest.approx([41 * 41 / 4] * 4, rel=0.1)
    down = separatrices(field)
    assert len(down) == 8
    ends = {tuple(line[-1]) for line in down}
    assert ends == {(a, b) for a in (10.0, 30.0) for b in (10.0, 30.0)}
    up = separatrices(field, ascending=True)
    inside = [line for line in up if line[-1].min() > 0.5 and line[-1].max() < 39.5]
    assert len(inside) == 4
    assert all(np.abs(line[-1] - 20).max() <= 1 for line in inside)
    for line in [*down, *up]:
        assert (np.abs(np.diff(line, axis=0)).sum(axis=1) == 0.5).all(), "from cell to cell"


def test_a_saddle_both_of_whose_branches_end_in_one_minimum():
    losses = np.array([[0.0, 1.0, 2.0], [1.0, np.inf, 3.0], [2.0, 3.0, 4.0]])
    morse = morse_complex(GridComplex(losses))
    assert morse.counts.tolist() == [1, 1]
    assert morse.arcs.tolist() == [[1, 0, 2]]
    assert morse.coefficient.tolist() == [0]
    assert betti_numbers(morse).tolist() == [1, 1]
