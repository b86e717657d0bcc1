"""Discrete gradient fields and Morse complexes, against the definitions."""

from collections import Counter
from functools import cache
from itertools import combinations

import networkx as nx
import numba
import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import topolandscape as tl
from topolandscape import zoo
from topolandscape.structures import (
    MANY,
    GradientField,
    GridComplex,
    LossSamples,
    MorseComplex,
    SimplicialComplex,
)
from topolandscape.topology.branching import count_paths
from topolandscape.topology.cancellation import cancelled
from topolandscape.topology.complexes import delaunay, expand, freudenthal, grid, lower_star, with_edge_values
from topolandscape.topology.critical import places_of
from topolandscape.topology.gradient import Cells, cells_of
from topolandscape.topology.morse import basins, betti_numbers, gradient_field, morse_complex, separatrices, v_path
from topolandscape.topology.pairing import pairs_of_complex, reduce
from topolandscape.topology.persistence import barcode

LEVELS = {
    "ties": st.integers(-2, 2).map(float),
    "no ties": st.floats(-1e3, 1e3, allow_nan=False),
    "ties and never": st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.inf]),
}
SHAPES = [(2,), (9,), (1, 5), (4, 1, 3), (3, 4), (2, 2, 2), (3, 2, 3), (2, 2, 2, 2), (2, 3, 1, 2, 2)]


@st.composite
def values(draw, count):
    return draw(st.lists(LEVELS[draw(st.sampled_from(sorted(LEVELS)))], min_size=count, max_size=count))


@st.composite
def cubes(draw):
    shape = draw(st.sampled_from(SHAPES))
    return GridComplex(np.array(draw(values(int(np.prod(shape))))).reshape(shape))


@st.composite
def simplices(draw):
    """Draw a lower-star complex, one with raised edges, a flag complex, or one in which any simplex comes late."""
    n = draw(st.integers(1, 7))
    size = draw(st.integers(2, min(4, n))) if n > 1 else 1
    rows = draw(st.lists(st.permutations(range(n)).map(lambda p: p[:size]), min_size=1, max_size=9))
    complex = lower_star(rows, draw(values(n)))
    if complex.dimension == 0:
        return complex
    kind = draw(st.sampled_from(["lower star", "raised edges", "flag", "late"]))
    if kind in ("raised edges", "flag"):
        complex = with_edge_values(complex, draw(values(len(complex.simplices[1]))))
    if kind == "flag":
        complex = expand(complex, max_dim=draw(st.integers(1, 3)))
    return late(complex, draw(st.randoms(use_true_random=False))) if kind == "late" else complex


def late(complex, random):
    """Return a complex whose simplices enter some time after their facets."""
    entered = {(v,): value for v, value in enumerate(complex.vertex_values.tolist())}
    for rows in complex.simplices[1:]:
        for simplex in map(tuple, rows.tolist()):
            facets = combinations(simplex, len(simplex) - 1)
            entered[simplex] = max(entered[f] for f in facets) + random.choice([0.0, 0.0, 0.5, np.inf])
    return SimplicialComplex(
        complex.simplices, [[entered[tuple(s)] for s in rows.tolist()] for rows in complex.simplices]
    )


def freudenthal_of(complex):
    return freudenthal(complex) if complex.grid.ndim < 4 else complex


complexes = st.one_of(cubes(), simplices())


def cells_with_facets(complex):
    """Return value, and facets with incidence, of every cell by its number."""
    if isinstance(complex, SimplicialComplex):
        listed = [tuple(s) for rows in complex.simplices for s in rows.tolist()]
        number = {s: i for i, s in enumerate(listed)}
        entered = np.concatenate(complex.values).tolist()
        facets = [{number[s[:i] + s[i + 1 :]]: (-1) ** i for i in range(len(s))} if len(s) > 1 else {} for s in listed]
        return entered, facets, [len(s) - 1 for s in listed]
    shape = tuple(2 * n - 1 for n in complex.grid.shape)
    entered, facets, dimension = [], [], []
    for cell in np.ndindex(*shape):
        corners = tuple(slice(c // 2, (c + 1) // 2 + 1) for c in cell)
        entered.append(float(complex.grid[corners].max()))
        odd = [axis for axis, c in enumerate(cell) if c % 2]
        sides = {}
        for place, axis in enumerate(odd):
            for side in (-1, 1):
                facet = list(cell)
                facet[axis] += side
                sides[int(np.ravel_multi_index(facet, shape))] = side * (-1) ** place
        facets.append(sides)
        dimension.append(len(odd))
    return entered, facets, dimension


def partners(field):
    """Return the number of the partner of every cell, its own where it is critical, -1 for never."""
    if isinstance(field.complex, SimplicialComplex):
        return field.partner.tolist()
    shape = [2 * n - 1 for n in field.complex.grid.shape if n > 1]
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    result = []
    for cell, code in enumerate(field.partner.tolist()):
        step = strides[code // 2 % 4] if code < 16 else 0
        result.append(-1 if code == 255 else cell + (step if code % 2 else -step))
    return result


def assert_is_gradient(field, *, together=True):
    """Pairs are of a cell and its facet, enter together unless turned, and V-paths never close (Forman 1998)."""
    entered, facets, dimension = cells_with_facets(field.complex)
    partner = partners(field)
    graph = nx.DiGraph()
    for cell, other in enumerate(partner):
        assert (other == -1) == np.isinf(entered[cell])
        if other in (-1, cell):
            continue
        assert partner[other] == cell
        assert entered[other] == entered[cell] or not together
        if other > cell and dimension[other] > dimension[cell]:
            assert cell in facets[other]
        if dimension[other] > dimension[cell]:
            graph.add_edge(cell, other)
            graph.add_edges_from((other, facet) for facet in facets[other] if facet != cell)
        else:
            assert other in facets[cell]
    assert nx.is_directed_acyclic_graph(graph)


def counted_paths(field):
    """Return {(higher, lower): (number, signed sum)} of critical cells by their numbers, from the definition."""
    _, facets, dimension = cells_with_facets(field.complex)
    partner = partners(field)

    @cache
    def below(cell):
        """Return the ends of V-paths that go down from a cell."""
        ends = {}
        for facet, sign in facets[cell].items():
            if partner[facet] == cell:
                continue
            if partner[facet] == facet:
                further, sign = {facet: (1, 1)}, sign
            elif dimension[partner[facet]] > dimension[facet]:
                larger = partner[facet]
                further = below(larger)
                sign *= -facets[larger][facet]
            else:
                continue
            for end, (number, signed) in further.items():
                before = ends.get(end, (0, 0))
                ends[end] = (before[0] + number, before[1] + sign * signed)
        return ends

    return {(cell, end): count for cell in field.critical.tolist() for end, count in below(cell).items()}


def numbers(morse, complex):
    """Return the numbers of the rows of a Morse complex, as in GradientField."""
    if isinstance(complex, GridComplex):
        return morse.cell
    return morse.cell + np.cumsum([0, *map(len, complex.simplices)])[morse.index]


def euler_characteristic(complex):
    entered, _, dimension = cells_with_facets(complex)
    return sum((-1) ** k for k, value in zip(dimension, entered, strict=True) if np.isfinite(value))


def bars(code):
    """Return every column of a barcode, in one order."""
    columns = [getattr(code, name).tolist() for name in code.columns if name != "size"]
    return sorted(zip(*columns, strict=True))


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
# Barcodes
# --------------------------------------------------------------------------------------------------------------


@given(complexes)
def test_bars_are_those_of_the_filtration(complex):
    top = complex.dimension
    expected = bars(barcode(complex, max_dim=top, engine="gudhi")) if not unknown_top(complex) else None
    for max_dim in range(top + 1):
        if max_dim == top and unknown_top(complex):
            continue
        wanted = bars(barcode(complex, max_dim=max_dim, engine="gudhi"))
        for engine in ("morse", "canonical", "auto"):
            assert bars(barcode(complex, max_dim=max_dim, engine=engine)) == wanted
    if expected is not None:
        morse = morse_complex(complex)
        for engine in ("auto", "canonical"):
            assert bars(barcode(morse, max_dim=max(morse.dimension, 0), engine=engine)) == expected


def test_engines_agree_on_sampled_networks():
    data = zoo.dataset("teacher_student")
    landscape = tl.Landscape.from_module(
        zoo.network("mlp:2-1-1,tanh", seed=0), data.inputs, data.targets, loss=torch.nn.functional.mse_loss
    )
    scattered = tl.sample_box(landscape, low=-3, high=3, n=120, seed=0)
    regular = tl.sample_plane(landscape, scattered.points[:3], shape=21, margin=1.0)
    for complex in (tl.flag_complex(scattered, k=8, max_dim=3), tl.grid(regular), tl.freudenthal(tl.grid(regular))):
        top = min(2, complex.dimension)
        wanted = bars(barcode(complex, max_dim=top, engine="gudhi"))
        assert len(wanted) > 1
        for engine in ("auto", "morse", "canonical"):
            assert bars(barcode(complex, max_dim=top, engine=engine)) == wanted
        morse = morse_complex(complex)
        assert bars(barcode(morse, max_dim=min(top, morse.dimension))) == wanted


def test_grids_of_five_dimensions_are_left_to_gudhi():
    losses = np.random.default_rng(0).normal(size=(3, 2, 2, 3, 2))
    code = barcode(grid(losses), max_dim=4)
    assert oracles.listed(code) == oracles.listed(barcode(grid(losses), max_dim=4, engine="gudhi"))
    assert np.array_equal(code.filter(dim=0).size, barcode(grid(losses)).size)
    flat = grid(losses.reshape(3, 1, 2, 2, 1, 6))  # which extends along four axes
    assert oracles.listed(barcode(flat, max_dim=4)) == oracles.listed(barcode(flat, max_dim=4, engine="canonical"))


def unknown_top(complex):
    return isinstance(complex, SimplicialComplex) and complex.flag and complex.dimension > 0


@given(st.sampled_from([(5,), (2, 5), (3, 4), (3, 2, 3)]), st.data())
def test_bars_of_the_other_grids(shape, data):
    losses = np.array(data.draw(values(int(np.prod(shape))))).reshape(shape)
    for connectivity in ("freudenthal", "full"):
        complex = GridComplex(losses, connectivity)
        expected = [bar[:3] for bar in oracles.grid_bars(complex, len(shape) - 1)]
        for engine in ("morse", "canonical"):
            code = barcode(complex, max_dim=len(shape) - 1, engine=engine)
            assert [bar[:3] for bar in oracles.listed(code)] == expected
            ends = ~code.essential
            assert np.array_equal(complex.vertex_values[code.birth_vertex], code.birth)
            assert np.array_equal(complex.vertex_values[code.death_vertex[ends]], code.death[ends])


@given(st.lists(st.lists(st.integers(-3, 3), min_size=2, max_size=6), min_size=2, max_size=4), st.data())
def test_sums_of_lines_have_the_bars_of_kuenneth(lines, data):
    if len(lines) == 4:
        lines = [line[:4] for line in lines]
    predicted, total = None, 0
    for axis, line in enumerate(lines):
        code = barcode(grid(np.array(line, dtype=float)), engine="merge")
        one = {0: tuple(zip(code.birth.tolist(), code.death.tolist(), strict=True))}
        predicted = one if predicted is None else zoo.kuenneth(predicted, one)
        total = total + np.array(line, dtype=float).reshape([-1 if i == axis else 1 for i in range(len(lines))])
    code = barcode(grid(total), max_dim=len(lines) - 1, engine="morse")
    for k in range(len(lines)):
        found = code.filter(dim=k)
        assert sorted(zip(found.birth.tolist(), found.death.tolist(), strict=True)) == sorted(predicted.get(k, ()))


@given(complexes)
def test_euler_characteristic_and_morse_inequalities(complex):
    morse = morse_complex(complex)
    assert morse.euler_characteristic == euler_characteristic(complex)
    betti = betti_numbers(morse)
    if not unknown_top(complex):
        code = barcode(complex, max_dim=complex.dimension, engine="gudhi")
        essential = np.bincount(code.dim[code.essential], minlength=len(betti))
        assert essential[: len(betti)].tolist() == betti.tolist()
    excess = 0
    for count, number in zip(morse.counts.tolist(), betti.tolist(), strict=True):
        excess = count - number - excess
        assert excess >= 0  # the strong inequalities; the weak ones follow
    assert excess == 0
    for k in range(2, morse.dimension + 1):
        assert abs(morse.boundary(k - 1) @ morse.boundary(k)).sum() == 0


@given(st.lists(st.sets(st.integers(0, 9)), min_size=1, max_size=12))
def test_matrices_are_reduced_right(columns):
    entries = np.array([row for column in columns for row in sorted(column)], dtype=np.int64)
    found = reduce(np.cumsum([0, *map(len, columns)]), entries, 10)
    shifted = [set() for _ in range(10)] + [set(column) for column in columns]
    expected = dict(oracles.reduce(shifted)[: 10 + len(columns)])
    assert found.tolist() == [expected.get(row, -1) - 10 if expected.get(row, -1) >= 0 else -1 for row in range(10)]


def test_a_wide_matrix_is_reduced_right():
    """With so many rows the tree of bits has three levels."""
    rng = np.random.default_rng(0)
    columns = [set(rng.integers(5000, size=3).tolist()) for _ in range(3000)]
    entries = np.array([row for column in columns for row in column], dtype=np.int64)
    found = reduce(np.cumsum([0, *map(len, columns)]), entries, 5000)
    expected = np.full(5000, -1)
    for born, dead in oracles.reduce([set() for _ in range(5000)] + columns):
        if born < 5000 and dead >= 0:
            expected[born] = dead - 5000
    assert np.array_equal(found, expected)


# --------------------------------------------------------------------------------------------------------------
# Cancellation
# --------------------------------------------------------------------------------------------------------------


@given(complexes, st.sampled_from([0.5, 1.0, 2.0, 3.0, 100.0]))
def test_cancellation_keeps_the_longer_bars(complex, persistence):
    if unknown_top(complex):
        return
    code = barcode(complex, max_dim=complex.dimension, engine="gudhi")
    longer = code.filter(min_persistence=persistence)
    morse = morse_complex(gradient_field(complex, persistence=persistence))
    left = barcode(morse, max_dim=max(morse.dimension, 0))
    assert bars(left.filter(min_persistence=persistence)) == bars(longer)
    assert (left.filter(dim=0).persistence >= persistence).all(), "in degree 0 every pair can be cancelled"
    axes = sum(n > 1 for n in complex.grid.shape) if isinstance(complex, GridComplex) else 0
    if axes:
        assert (left.filter(dim=axes - 1).persistence >= persistence).all()
    if axes in (1, 2):
        assert len(morse) == 2 * len(left) - left.essential.sum(), "what is left is in a bar"
    for exact in (morse_complex(complex, persistence=persistence), morse_complex(morse, persistence=persistence)):
        assert bars(barcode(exact, max_dim=max(exact.dimension, 0))) == bars(longer)
        assert len(exact) == 2 * len(longer) - longer.essential.sum()
        for k in range(2, exact.dimension + 1):
            assert abs(exact.boundary(k - 1) @ exact.boundary(k)).sum() == 0


@pytest.mark.parametrize("persistence", [0.2, 1.0, 2.0, 10.0])
def test_cancellation_in_three_dimensions(persistence):
    """White noise, in which many pairs are joined by several V-paths; the Morse complex checks that arcs lead down."""
    complex = grid(np.random.default_rng(1).normal(size=(16, 15, 17)))
    field = gradient_field(complex, persistence=persistence)
    code = barcode(complex, max_dim=2).filter(min_persistence=persistence)
    morse = morse_complex(field)
    left = barcode(morse, max_dim=2)
    assert bars(left.filter(min_persistence=persistence)) == bars(code)
    extra = len(left) - len(code)
    assert extra < 0.15 * len(barcode(complex, max_dim=2)), "some pairs of degree 1 stay, but not most"
    assert extra == len(left.filter(dim=1)) - len(code.filter(dim=1))
    assert abs(morse.boundary(1) @ morse.boundary(2)).sum() == abs(morse.boundary(2) @ morse.boundary(3)).sum() == 0
    assert_is_gradient(field, together=False)
    again = cancelled(field, np.nextafter(persistence, 0), cells_of(complex))
    assert len(again.critical) == len(field.critical), "what could be cancelled when others were gone is gone"
    exact = morse_complex(complex, persistence=persistence)
    assert bars(barcode(exact, max_dim=max(exact.dimension, 0))) == bars(code)
    assert len(exact) == 2 * len(code) - 1
    for k in range(2, exact.dimension + 1):
        assert abs(exact.boundary(k - 1) @ exact.boundary(k)).sum() == 0


@pytest.mark.parametrize(("lines", "left"), [(1, 1), (3, 3), (-3, 3)])
def test_pairs_with_torsion_stay(lines, left):
    """Three lines that add up to 1 are one, after a change of basis; to 3 they are none over the integers."""
    rows = {"index": [0, 1, 2], "value": [0, 1, 2], "vertex": [0, 1, 2], "cell": [0, 1, 2]}
    morse = MorseComplex(**rows, arcs=[[1, 0, 2], [2, 1, 3]], coefficient=[0, lines])
    assert len(barcode(morse, max_dim=2)) == 2
    assert len(morse_complex(morse, persistence=5.0)) == left


def test_arcs_count_the_lines_over_cancelled_pairs():
    """Two lines from row 5 to row 2, three from row 3 to row 2, of which one counts, and four from there to row 1."""
    rows = {"index": [0, 1, 1, 2, 2], "value": [0, 1, 2, 2.5, 4], "vertex": np.arange(5), "cell": np.arange(5)}
    arcs = [[3, 1, 4], [3, 2, 3], [4, 1, 5], [4, 2, 2]]
    morse = morse_complex(MorseComplex(**rows, arcs=arcs, coefficient=[4, -1, 1, 2]), persistence=1.0)
    assert morse.value.tolist() == [0, 1, 4]
    assert morse.arcs.tolist() == [[2, 1, 5 + 2 * 4]]
    assert morse.coefficient.tolist() == [1 + 2 * 4]


def test_pairs_of_a_smooth_complex_and_of_a_network_are_cancelled():
    """The three-hump camel: minima at 0 and twice 0.2986, saddles at 0.8774 twice, so two bars of length 0.5788."""
    known = zoo.functions["three_hump_camel"]
    landscape = tl.Landscape.from_function(known.function, 2)
    points = tl.critical_points(landscape, low=known.low, high=known.high, seed=0)
    assert morse_complex(points, persistence=0.57).counts.tolist() == points.counts.tolist() == [3, 2]
    left = morse_complex(points, persistence=0.58)
    assert left.counts.tolist() == [1]
    assert left.points == pytest.approx(np.zeros((1, 2)), abs=1e-8)
    assert left.provenance["cancelled"] == 0.58


def test_bars_as_long_as_the_persistence_stay():
    complex = grid([0.0, 3.0, 1.0])
    assert len(morse_complex(complex, persistence=2.0)) == 3
    assert morse_complex(complex, persistence=2.0).provenance["cancelled"] == 2.0
    assert len(morse_complex(complex, persistence=np.nextafter(2.0, 3.0))) == 1


# --------------------------------------------------------------------------------------------------------------
# Lines and basins
# --------------------------------------------------------------------------------------------------------------


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
