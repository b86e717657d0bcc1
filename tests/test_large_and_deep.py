"""Barcodes and merge trees of long lines, flat grids and deep triangulations."""

import gudhi
import numpy as np
import pytest

from topolandscape.structures import GridComplex
from topolandscape.topology.complexes import freudenthal, lower_star
from topolandscape.topology.merge import merge_tree
from topolandscape.topology.persistence import barcode


def pairs(code, dim=0):
    kept = code.filter(dim=dim)
    return sorted(zip(kept.birth.tolist(), kept.death.tolist(), strict=True))


DEPTH = 200_000


def lines():
    rng = np.random.default_rng(0)
    ramp = np.arange(DEPTH, dtype=float)
    return {
        "random": rng.permutation(DEPTH).astype(float),
        "increasing": ramp,
        "decreasing": ramp[::-1],
        "zigzag up": ramp + 3.0 * (np.arange(DEPTH) % 2),
        "zigzag down": ramp[::-1] + 3.0 * (np.arange(DEPTH) % 2),
        "spiral": np.where(np.arange(DEPTH) % 2, 2.0 * DEPTH, 0.0) + np.where(np.arange(DEPTH) % 2, -ramp, ramp),
    }


@pytest.mark.parametrize("name", list(lines()))
def test_long_lines(name):
    """A line and its path as a graph give the bars of gudhi, whatever the order of the losses."""
    values = lines()[name]
    complex = GridComplex(values)
    cubical = gudhi.CubicalComplex(vertices=values)
    cubical.compute_persistence(min_persistence=0)
    expected = sorted(map(tuple, cubical.persistence_intervals_in_dimension(0).tolist()))
    path = np.column_stack([np.arange(DEPTH - 1), np.arange(1, DEPTH)])
    for noun in (complex, lower_star(path, values)):
        tree = merge_tree(noun)
        code = barcode(tree)
        assert pairs(code) == expected
        assert code.size.max() == DEPTH
        assert tree.size[tree.parent < 0].tolist() == [DEPTH]


def test_a_constant_grid_has_one_bar():
    for connectivity in ("axis", "full"):
        tree = merge_tree(GridComplex(np.full((1000, 1000), 2.5), connectivity))
        code = barcode(tree)
        assert (len(code), code.birth[0], code.death[0]) == (1, 2.5, np.inf)
        assert code.birth_vertex[0] == 0
        assert code.size[0] == 1_000_000
        assert (tree.basin == 0).all()


def test_a_constant_graph_has_one_bar():
    star = np.column_stack([np.zeros(DEPTH - 1, dtype=int), np.arange(1, DEPTH)])
    path = np.column_stack([np.arange(DEPTH - 1), np.arange(1, DEPTH)])
    for edges in (star, path, DEPTH - 1 - path):
        code = barcode(lower_star(edges, np.zeros(DEPTH)))
        assert (len(code), code.birth_vertex[0], code.size[0]) == (1, 0, DEPTH)


def test_a_deep_triangulation_agrees_with_its_grid():
    values = np.random.default_rng(3).integers(50, size=(150, 140)).astype(float)
    complex = GridComplex(values, "freudenthal")
    assert pairs(barcode(complex)) == pairs(barcode(freudenthal(complex)))
