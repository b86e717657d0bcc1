"""Pairs of critical cells cancelled: what is left, and what must stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_complexes import assert_is_gradient, bars, complexes, unknown_top

import topolandscape as tl
from topolandscape import zoo
from topolandscape.structures import GridComplex, MorseComplex
from topolandscape.topology.cancellation import cancelled
from topolandscape.topology.complexes import grid
from topolandscape.topology.gradient import cells_of
from topolandscape.topology.morse import gradient_field, morse_complex
from topolandscape.topology.persistence import barcode


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
