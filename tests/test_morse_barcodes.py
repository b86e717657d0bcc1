"""Barcodes from discrete gradient fields, against the filtration and against closed forms."""

import numpy as np
import oracles
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_complexes import bars, complexes, euler_characteristic, unknown_top, values

import topolandscape as tl
from topolandscape import zoo
from topolandscape.structures import GridComplex
from topolandscape.topology.complexes import grid
from topolandscape.topology.morse import betti_numbers, morse_complex
from topolandscape.topology.pairing import reduce
from topolandscape.topology.persistence import barcode


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
