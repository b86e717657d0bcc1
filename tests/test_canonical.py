"""The canonical form of filtered complexes."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_complexes import bars, complexes, unknown_top

from topolandscape.structures import CanonicalForm, GridComplex, MorseComplex, SimplicialComplex
from topolandscape.topology.canonical import canonical_form, entering_cells
from topolandscape.topology.complexes import grid, lower_star
from topolandscape.topology.morse import betti_numbers, morse_complex
from topolandscape.topology.persistence import barcode

# The projective plane with 6 vertices, and the Klein bottle as a 3 x 3 torus with one side turned round.
PROJECTIVE_PLANE = [
    [0, 1, 4], [0, 1, 5], [0, 2, 3], [0, 2, 5], [0, 3, 4],
    [1, 2, 3], [1, 2, 4], [1, 3, 5], [2, 4, 5], [3, 4, 5],
]  # fmt: skip


def klein_bottle():
    def vertex(i, j):
        return (i % 3) * 3 + (j % 3 if i < 3 else -j % 3)

    squares = [
        (vertex(i, j), vertex(i + 1, j), vertex(i, j + 1), vertex(i + 1, j + 1)) for i in range(3) for j in range(3)
    ]
    return [triangle for a, b, c, d in squares for triangle in ([a, b, d], [a, c, d])]


SURFACES = {"projective plane": PROJECTIVE_PLANE, "Klein bottle": klein_bottle()}


def boundary_matrix(noun):
    """Return the boundary over the integers of all rows, in their order."""
    if isinstance(noun, MorseComplex):
        matrix = np.zeros((len(noun),) * 2, dtype=object)
        matrix[noun.arcs[:, 1], noun.arcs[:, 0]] = noun.coefficient
        return matrix
    order = entering_cells(noun)
    if isinstance(noun, GridComplex):
        positions = np.array(list(np.ndindex(*[2 * n - 1 for n in noun.grid.shape])))[order]
        matrix = np.zeros((len(order),) * 2, dtype=object)
        for column, cell in enumerate(positions):
            sign = 1
            for axis in np.flatnonzero(cell % 2):
                for side in (1, -1):
                    facet = cell + side * (np.arange(len(cell)) == axis)
                    matrix[np.flatnonzero((positions == facet).all(axis=1))[0], column] = sign * side
                sign = -sign
        return matrix
    simplices = [tuple(s) for rows in noun.simplices for s in rows.tolist()]
    place = {simplices[cell]: i for i, cell in enumerate(order.tolist())}
    matrix = np.zeros((len(order),) * 2, dtype=object)
    for simplex, column in place.items():
        for i in range(len(simplex) if len(simplex) > 1 else 0):
            matrix[place[simplex[:i] + simplex[i + 1 :]], column] = (-1) ** i
    return matrix


@given(complexes, st.sampled_from([2, 3, 5, 0]), st.booleans())
def test_the_basis_brings_the_boundary_into_canonical_form(complex, field, reduced_first):
    noun = morse_complex(complex) if reduced_first else complex
    form = canonical_form(noun, field=field)
    boundary = boundary_matrix(noun)
    basis = np.zeros_like(boundary)
    for row, chain in enumerate(form.basis):
        assert max(chain) == row
        basis[list(chain), row] = list(chain.values())
    images = boundary @ basis
    expected = np.zeros_like(boundary)
    for begin, end in form.pairs.tolist():
        expected[:, end] = basis[:, begin]
    difference = images - expected
    assert not (difference % field if field else difference).any()


@given(complexes)
def test_without_torsion_all_fields_give_the_same_bars(complex):
    """Grids and complexes of so few vertices have none."""
    forms = [canonical_form(complex, field=field) for field in (2, 3, 0)]
    assert all(np.array_equal(forms[0].pairs, form.pairs) for form in forms)


@pytest.mark.parametrize(("name", "modulo_2", "rational"), [
    ("projective plane", [1, 1, 1], [1, 0, 0]),
    ("Klein bottle", [1, 2, 1], [1, 1, 0]),
])  # fmt: skip
@pytest.mark.parametrize("seed", range(4))
def test_surfaces_with_torsion(name, modulo_2, rational, seed):
    triangles = np.array(SURFACES[name])
    complex = lower_star(triangles, np.random.default_rng(seed).normal(size=triangles.max() + 1))
    morse = morse_complex(complex, persistence=1e9)
    for noun in (complex, morse):
        for field, betti in ((2, modulo_2), (3, rational), (5, rational), (0, rational)):
            form = canonical_form(noun, field=field)
            index = morse.index if noun is morse else np.repeat(
                np.arange(3), [len(s) for s in complex.simplices]
            )[entering_cells(complex)]  # fmt: skip
            assert np.bincount(index[form.essential], minlength=3).tolist() == betti
    assert betti_numbers(morse).tolist() == modulo_2
    assert morse.euler_characteristic == modulo_2[0] - modulo_2[1] + modulo_2[2]
    assert morse.counts.tolist() == modulo_2, "a perfect Morse function over the field of two elements"
    assert np.abs(morse.boundary(2).toarray()).max() == 2, "the top cell goes twice round the loop"
    assert abs(morse.boundary(1) @ morse.boundary(2)).sum() == 0


def test_cycles_represent_their_bars():
    """Round a hole that is filled at 5, the cycle is the ring."""
    losses = np.array([[0.0, 1.0, 2.0], [1.5, 5.0, 2.5], [3.0, 3.5, 4.0]])
    morse = morse_complex(grid(losses))
    form = canonical_form(morse)
    assert form.pairs.tolist() == [[1, 2]]
    assert form.cycle(1) == {1: 1}
    form = canonical_form(grid(losses), field=0)
    loop = next(begin for begin, end in form.pairs.tolist() if len(form.basis[begin]) == 8)
    assert set(form.cycle(loop).values()) == {Fraction(1), Fraction(-1)}
    with pytest.raises(ValueError, match="begins no class"):
        form.cycle(int(form.pairs[0, 1]))


def test_a_missed_flow_line_is_seen():
    cells = {"value": [0, 1, 2, 3, 4], "vertex": [-1] * 5, "cell": [-1] * 5, "index": [0, 0, 1, 1, 2]}
    arcs = [[2, 0, 1], [2, 1, 1], [3, 0, 1], [3, 1, 1], [4, 2, 1], [4, 3, 1]]
    whole = MorseComplex(**cells, arcs=arcs, coefficient=[-1, 1, -1, 1, 1, -1])
    assert canonical_form(whole).pairs.tolist() == [[1, 2], [3, 4]]
    code = barcode(whole, max_dim=2)
    assert code.birth_simplex.tolist() == [0, 1, 3]
    assert code.death_simplex.tolist() == [-1, 2, 4]
    part = MorseComplex(**cells, arcs=arcs[:5], coefficient=[-1, 1, -1, 1, 1])
    with pytest.raises(ValueError, match="boundary of row 4 is not zero"):
        canonical_form(part)


def test_errors_name_what_is_needed():
    for field in (1, 4, -3, 91):
        with pytest.raises(ValueError, match="needs to be a prime"):
            canonical_form(grid([0.0, 1.0]), field=field)
    with pytest.raises(ValueError, match=r"such as freudenthal\(grid\)"):
        canonical_form(GridComplex([0.0, 1.0], "full"))
    with pytest.raises(ValueError, match="every row is in one pair or essential"):
        CanonicalForm([[0, 1]], [1], [{0: 1}, {1: 1}, {2: 1}], 2)
    with pytest.raises(ValueError, match=r"basis\[1\] ends with another row"):
        CanonicalForm([[0, 1]], [], [{0: 1}, {0: 1}], 2)
    assert repr(canonical_form(grid([0.0, 1.0]))) == "CanonicalForm(1 pair, 1 essential, over the integers modulo 2)"


@given(complexes)
def test_explicit_complexes_keep_no_pairs_of_length_0(complex):
    """But those in the way of which several V-paths stand, of which complexes of two dimensions have none."""
    if isinstance(complex, GridComplex) or complex.dimension > 2 or unknown_top(complex):
        return
    morse = morse_complex(complex)
    paired = barcode(morse, max_dim=max(morse.dimension, 0))
    assert len(morse) <= 2 * len(paired)
    assert bars(paired) == bars(barcode(complex, max_dim=complex.dimension, engine="canonical"))


def test_simplices_that_never_enter_are_left_out():
    complex = SimplicialComplex([[[0], [1]], [[0, 1]]], [[0.0, 1.0], [np.inf]])
    assert entering_cells(complex).tolist() == [0, 1]
    assert canonical_form(complex).essential.tolist() == [0, 1]
