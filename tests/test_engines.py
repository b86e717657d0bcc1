"""Every engine gives the bars that the definition gives, to the bit."""

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topolandscape.structures import Barcode, GridComplex, LossSamples, SimplicialComplex
from topolandscape.topology.complexes import (
    expand,
    flag_complex,
    freudenthal,
    lower_star,
    nearest_neighbours,
    with_edge_values,
    with_measured_edges,
)
from topolandscape.topology.merge import merge_tree
from topolandscape.topology.persistence import ENGINES, barcode

LEVELS = {
    "ties": st.integers(-2, 2).map(float),
    "no ties": st.floats(-1e3, 1e3, allow_nan=False),
    "ties and never": st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.inf]),
}


@st.composite
def values(draw, count):
    return draw(st.lists(LEVELS[draw(st.sampled_from(sorted(LEVELS)))], min_size=count, max_size=count))


@st.composite
def complexes(draw):
    """Draw a complex up to dimension 3: lower-star, or with raised edges."""
    n = draw(st.integers(1, 8))
    size = draw(st.integers(2, min(4, n))) if n > 1 else 1
    rows = draw(st.lists(st.permutations(range(n)).map(lambda p: p[:size]), min_size=1, max_size=10))
    complex = lower_star(rows, draw(values(n)))
    if complex.dimension and draw(st.booleans()):
        complex = with_edge_values(complex, draw(values(len(complex.simplices[1]))))
    return complex


@st.composite
def flag_complexes(draw):
    n = draw(st.integers(2, 8))
    rows = draw(st.lists(st.permutations(range(n)).map(lambda p: p[:2]), min_size=1, max_size=20))
    graph = lower_star(rows, draw(values(n)))
    if draw(st.booleans()):
        graph = with_edge_values(graph, draw(values(len(graph.simplices[1]))))
    return expand(graph, max_dim=draw(st.integers(1, 4)))


@st.composite
def grids(draw):
    shape = draw(st.sampled_from([(2,), (9,), (1, 5), (4, 1, 3), (3, 4), (2, 2, 2), (3, 2, 3)]))
    connectivity = draw(st.sampled_from(["axis", "freudenthal", "full"]))
    return GridComplex(np.array(draw(values(int(np.prod(shape))))).reshape(shape), connectivity)


def same_but_sizes(complex):
    """Check that bars made without a tree are those of the tree."""
    alone, counted = barcode(complex, sizes=False), barcode(complex)
    for name in Barcode.columns:
        expected = np.zeros(len(counted), dtype=int) if name == "size" else getattr(counted, name)
        np.testing.assert_array_equal(getattr(alone, name), expected)


@pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
@pytest.mark.parametrize("shape", [(400,), (5, 200), (70, 66), (3, 4, 130)])
@pytest.mark.parametrize("kind", ["smooth", "noise", "ties", "walls"])
def test_grids_with_long_lines(shape, connectivity, kind):
    """The sweep looks at many columns of a line at once, and counts few basins otherwise than many."""
    rng = np.random.default_rng(0)
    grid = sum(np.cos(0.1 * (k + 1) * axis) for k, axis in enumerate(np.indices(shape)))
    if kind == "noise":
        grid = rng.random(shape)
    elif kind == "ties":
        grid = np.round(2 * grid)
    elif kind == "walls":
        grid = np.where(rng.random(shape) < 0.3, np.inf, grid)
    complex = GridComplex(grid, connectivity)
    assert oracles.listed(barcode(complex, engine="merge")) == oracles.listed(barcode(complex, engine="gudhi"))
    same_but_sizes(complex)
    tree = merge_tree(complex)
    total = tree.size[tree.parent < 0].sum()
    assert total == np.isfinite(grid).sum()
    for leaf in np.flatnonzero(tree.is_leaf)[:20]:
        above = np.inf if tree.parent[leaf] < 0 else tree.value[tree.parent[leaf]]
        below = np.isfinite(grid.reshape(-1)) & (tree.basin == leaf) & (grid.reshape(-1) < above)
        assert tree.size[leaf] == below.sum()


@given(complexes())
def test_explicit_complexes(complex):
    top = complex.dimension
    expected = oracles.simplicial_bars(complex, top)
    assert oracles.listed(barcode(complex, max_dim=top, engine="gudhi")) == expected
    assert oracles.listed(barcode(complex, max_dim=top)) == expected
    components = [bar for bar in expected if bar[0] == 0]
    for engine in ENGINES:
        assert oracles.listed(barcode(complex, engine=engine)) == components
    same_but_sizes(complex)


@given(flag_complexes())
def test_flag_complexes(complex):
    top = complex.dimension - 1
    expected = oracles.simplicial_bars(complex, top)
    code = barcode(complex, max_dim=top, engine="ripser")
    assert sorted(bar[:3] for bar in oracles.listed(code)) == [bar[:3] for bar in expected]
    for k, birth, death, born, dead in oracles.listed(code):
        assert complex.values[k][born] == birth
        assert dead == -1 if np.isinf(death) else complex.values[k + 1][dead] == death
    assert oracles.listed(barcode(complex, max_dim=top, engine="gudhi")) == expected


@given(grids())
def test_grids(complex):
    top = complex.grid.ndim - 1
    expected = oracles.grid_bars(complex, top)
    births_and_deaths = [bar[:3] for bar in expected]
    code = barcode(complex, max_dim=top, engine="gudhi")
    assert sorted(bar[:3] for bar in oracles.listed(code)) == births_and_deaths
    for bars in (code, barcode(complex)):
        ends = ~bars.essential
        assert np.array_equal(complex.vertex_values[bars.birth_vertex], bars.birth)
        assert np.array_equal(complex.vertex_values[bars.death_vertex[ends]], bars.death[ends])
        assert (bars.death_vertex[~ends] == -1).all()
    components = [bar for bar in expected if bar[0] == 0]
    for engine in ENGINES:
        assert oracles.listed(barcode(complex, engine=engine)) == components
    same_but_sizes(complex)
    if complex.connectivity != "axis":
        bars = barcode(complex, max_dim=top, engine="ripser")
        assert sorted(bar[:3] for bar in oracles.listed(bars)) == births_and_deaths


@given(grids())
def test_a_grid_and_its_list_of_cells_agree(complex):
    """The implied graph of a grid, listed, gives the same births, deaths and sizes."""
    from topolandscape.topology.persistence import grid_edges

    edges = grid_edges(complex)
    assert len(np.unique(edges, axis=0)) == len(edges)
    graph, implied = barcode(lower_star(edges, complex.vertex_values)), barcode(complex)
    for column in ("birth", "death", "size"):
        assert sorted(getattr(graph, column)) == sorted(getattr(implied, column))
    if complex.connectivity == "freudenthal":
        listed = barcode(freudenthal(complex), max_dim=complex.grid.ndim - 1)
        implied = barcode(complex, max_dim=complex.grid.ndim - 1)
        assert [bar[:3] for bar in oracles.listed(listed)] == [bar[:3] for bar in oracles.listed(implied)]


@given(complexes(), st.randoms(use_true_random=False))
def test_measuring_the_edges_that_matter_is_measuring_all(complex, random):
    """The bars of degree 0 are the same, whatever the losses between the vertices."""
    if complex.dimension == 0:
        return
    losses = {tuple(edge): random.choice([-2.0, 0.5, 1.5, 3.0, np.nan]) for edge in complex.simplices[1].tolist()}
    asked = []

    def measure(edges):
        asked.extend(map(tuple, edges.tolist()))
        return [losses[tuple(edge)] for edge in edges.tolist()]

    lazy = barcode(with_measured_edges(complex, measure))
    whole = barcode(with_edge_values(complex, list(losses.values())))
    for column in ("birth", "death", "size"):
        assert np.array_equal(getattr(lazy, column), getattr(whole, column))
    assert len(asked) == len(set(asked))


def test_few_edges_are_measured_on_a_smooth_landscape():
    def loss(points):
        return (points**4 - 2 * points**2 + 0.3 * points).sum(axis=-1)

    rng = np.random.default_rng(0)
    points = rng.uniform(-1.5, 1.5, (3000, 3))
    graph = nearest_neighbours(LossSamples(points, loss(points)), k=24)

    def measure(edges):
        start, end = points[edges[:, 0]], points[edges[:, 1]]
        return np.max([loss(start + t * (end - start)) for t in (0.25, 0.5, 0.75)], axis=0)

    lazy = with_measured_edges(graph, measure)
    whole = with_edge_values(graph, measure(graph.simplices[1]))
    assert np.array_equal(barcode(lazy).death, barcode(whole).death)
    assert lazy.provenance["measured_edges"] < 0.25 * len(graph.simplices[1])


@pytest.mark.parametrize("seed", range(3))
def test_nearest_neighbours(seed):
    rng = np.random.default_rng(seed)
    samples = LossSamples(rng.normal(size=(300, 3)), rng.normal(size=300))
    complex = flag_complex(samples, k=8, max_dim=3, connect=True)
    reference = barcode(complex, max_dim=2, engine="gudhi")
    assert len(reference.filter(dim=2))
    for engine in ("ripser", "auto"):
        code = barcode(complex, max_dim=2, engine=engine)
        for column in ("dim", "birth", "death"):
            assert np.array_equal(getattr(code, column), getattr(reference, column))


@pytest.mark.parametrize("shape", [(500,), (40, 31), (11, 9, 10), (6, 5, 4, 5)])
@pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
@pytest.mark.parametrize("levels", [0, 20])
def test_larger_grids(shape, connectivity, levels):
    rng = np.random.default_rng(7)
    losses = rng.integers(levels, size=shape).astype(float) if levels else rng.normal(size=shape)
    complex = GridComplex(losses, connectivity)
    codes = [barcode(complex, engine=engine) for engine in ENGINES if engine != "canonical"]  # which is for small ones
    for code in codes[1:]:
        for column in ("birth", "death", "birth_simplex", "death_simplex"):
            assert np.array_equal(getattr(code, column), getattr(codes[0], column))


def test_a_flat_basin_keeps_its_bars():
    """Losses that differ by 1e-8 are one number in float32; ranks keep them apart in every engine."""
    rng = np.random.default_rng(0)
    samples = LossSamples(rng.uniform(size=(400, 2)), 2.3 + 1e-8 * rng.normal(size=400))
    complex = flag_complex(samples, k=6, max_dim=1)
    assert len(np.unique(samples.values.astype(np.float32))) < 5
    counts = {engine: len(barcode(complex, engine=engine)) for engine in ENGINES}
    assert counts["merge"] > 20
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize("columns", [1, 2])
def test_one_simplex_reaches_gudhi_whole(columns):
    """A single row, of which a view may have a zero stride, is read right."""
    complex = lower_star(np.arange(columns)[None], np.arange(columns) + 1.0)
    code = barcode(complex, engine="gudhi")
    assert code.birth.tolist() == [1.0]


def test_errors_name_what_is_needed():
    triangle = lower_star([[0, 1, 2]], [0.0, 1.0, 2.0])
    graph = SimplicialComplex([[[0], [1]], [[0, 1]]], [[0.0, 1.0], [1.0]], flag=True)
    square = GridComplex([[0.0, 1.0], [2.0, 3.0]])
    with pytest.raises(ValueError, match="dimension 2; take max_dim <= 2"):
        barcode(triangle, max_dim=3)
    with pytest.raises(ValueError, match=r"flag_complex\(..., max_dim=2\)"):
        barcode(graph, max_dim=1)
    with pytest.raises(ValueError, match="engine 'merge' gives degree 0 only"):
        barcode(triangle, max_dim=1, engine="merge")
    with pytest.raises(ValueError, match="flag complexes only"):
        barcode(triangle, max_dim=1, engine="ripser")
    with pytest.raises(ValueError, match="cubes are none"):
        barcode(square, max_dim=1, engine="ripser")
    with pytest.raises(ValueError, match="one of auto, merge, morse, gudhi, ripser, canonical"):
        barcode(square, engine="dionysus")
    with pytest.raises(TypeError, match="got list"):
        barcode([1.0])
