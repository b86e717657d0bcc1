"""Rows by their values, and trees of grids that do not depend on how many threads share them out."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topolandscape.structures import CONNECTIVITIES, GridComplex
from topolandscape.topology.merge import merge_tree
from topolandscape.topology.sorting import ascending_rows

KINDS = {
    "float32": lambda rng, n: rng.normal(size=n).astype(np.float32).astype(float),
    "float64": lambda rng, n: rng.normal(size=n),
    "ties and zeros of both signs": lambda rng, n: rng.integers(-2, 3, n) * -1.0,
    "never": lambda rng, n: np.where(rng.random(n) < 0.3, np.inf, rng.normal(size=n)),
    "close beside one far away": lambda rng, n: np.where(np.arange(n) == n // 2, 1e300, 1 + 1e-12 * rng.normal(size=n)),
    "close pairs": lambda rng, n: np.repeat(rng.normal(size=n), 2)[:n] + 1e-15 * rng.integers(0, 4, n),
    "tiny": lambda rng, n: 5e-324 * rng.integers(-9, 9, n),
    "one value": lambda rng, n: np.full(n, -7.0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 700, 20_000])
def test_rows_are_in_the_order_of_a_stable_sort(kind, n):
    values = KINDS[kind](np.random.default_rng(n), n)
    assert np.array_equal(ascending_rows(values), np.argsort(values, kind="stable"))


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_any_values_are_sorted(values, seed):
    drawn = np.random.default_rng(seed).choice(values, size=600)
    assert np.array_equal(ascending_rows(drawn), np.argsort(drawn, kind="stable"))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("levels", [0, 5])
@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("shape", [(700, 197), (61, 50, 45)])
def test_threads_do_not_matter_to_trees_of_grids(shape, connectivity, levels, smooth):
    losses = np.random.default_rng(1).normal(size=shape)
    if smooth:
        losses = sum(np.cos(0.1 * (k + 1) * axis) for k, axis in enumerate(np.indices(shape)))
    complex = GridComplex(np.round(levels * losses) if levels else losses, connectivity)
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = merge_tree(complex)
        numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
        two = merge_tree(complex)
    finally:
        numba.set_num_threads(threads)
    for column in ("simplex", "vertex", "value", "parent", "size", "basin"):
        assert np.array_equal(getattr(one, column), getattr(two, column)), column
