"""The compiled parts of the dense form against numpy and mpmath."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from topolandscape.landscape.kernels import functions, products
from topolandscape.landscape.kernels.registers import REGISTER_BYTES

DTYPES = (np.float32, np.float64)


@njit
def multiply(a, b, c, lines, inner, taps, tile, transposed, place, tap, begin, rectified):
    # Entries of a: first those of each line to start from, then (lines, inner, taps), or (inner, lines, taps).
    a_at = (lines, taps, lines * taps, 1) if transposed else (lines, inner * taps, taps, 1)
    b_at, listed = (0, tile, inner * tile), (1, len(place))
    products.multiply(a, a_at, b, b_at, c, (0, tile), lines, inner, place, tap, listed, begin, rectified)


@njit
def correlate(a, b, c, lines, length, width, patches, start, registers):
    a_at, groups = (0, length, lines * length), (1, len(start) - 1)
    products.add_correlations(a, a_at, b, (0, length), c, (0, width), lines, patches, start, groups, registers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("begin", [0, products.NOTHING, products.KEPT])
@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(0, 20),
    st.integers(1, 3),
    st.integers(0, 4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
def test_products_are_those_of_numpy(begin, dtype, lines, inner, taps, listed, transposed, rectified, seed):
    rng = np.random.default_rng(seed)
    tile = products.TILE * REGISTER_BYTES // np.dtype(dtype).itemsize
    first = rng.integers(-8, 9, lines).astype(dtype)
    a = rng.integers(-8, 9, (inner, lines, taps) if transposed else (lines, inner, taps)).astype(dtype)
    b, c = (rng.integers(-8, 9, shape).astype(dtype) for shape in ((3, inner, tile), (lines, tile)))
    place, tap = rng.integers(0, 3, 1 + listed), rng.integers(0, taps, 1 + listed)  # the first is not of the list
    expected = {0: np.repeat(first[:, None], tile, 1), products.NOTHING: np.zeros_like(c), products.KEPT: c}[begin]
    for one, other in zip(place[1:], tap[1:], strict=True):
        own = a[..., other]
        expected = expected + (own.T if transposed else own) @ b[one]
    entries = np.concatenate([first, a.ravel()])
    multiply(entries, b.ravel(), c.ravel(), lines, inner, taps, tile, transposed, place, tap, begin, rectified)
    np.testing.assert_array_equal(c, np.maximum(expected, 0) if rectified else expected)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 13), st.lists(st.integers(0, 4), max_size=3), st.integers(0, 5), st.integers(0, 9))
def test_correlations_are_those_of_numpy(dtype, lines, sizes, registers, seed):
    rng = np.random.default_rng(seed)
    high = -(-lines // products.ONES) * products.ONES
    length, width = registers * REGISTER_BYTES // np.dtype(dtype).itemsize, len(sizes) * products.OTHERS
    a = rng.integers(-8, 9, (3 * lines + high, length)).astype(dtype)  # three places
    b = rng.integers(-8, 9, (7, length)).astype(dtype)
    c = rng.integers(-8, 9, (high, width)).astype(dtype)
    start = np.cumsum([0, 1, *sizes])  # the first is none of the groups
    patches = np.column_stack([rng.integers(0, 3, start[-1]), rng.integers(0, 7, (start[-1], products.OTHERS))])
    expected = c.copy()
    for group in range(len(sizes)):
        for place, *met in patches[start[group + 1] : start[group + 2]]:
            own = slice(group * products.OTHERS, (group + 1) * products.OTHERS)
            expected[:, own] += a[place * lines : place * lines + high] @ b[met].T
    correlate(a.ravel(), b.ravel(), c.ravel(), lines, length, width, patches.ravel(), start, registers)
    np.testing.assert_array_equal(c[:lines], expected[:lines])


@njit(error_model="numpy")
def evaluate(name, x, result):
    for i in range(len(x)):
        if name == 0:
            result[i] = functions.exp(x[i])
        elif name == 1:
            result[i] = functions.tanh(x[i])
        else:
            result[i] = functions.sigmoid(x[i])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_functions_are_right_to_a_few_last_digits(name, dtype):
    exact = {"exp": mpmath.exp, "tanh": mpmath.tanh, "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x))}[name]
    sizes = np.concatenate([np.logspace(-20, 1.9, 300), np.linspace(0, 80, 300)])
    x = np.concatenate([-sizes, sizes if name != "exp" else []]).astype(dtype)
    result = np.empty_like(x)
    evaluate(["exp", "tanh", "sigmoid"].index(name), x, result)
    with mpmath.workdps(40):
        expected = np.array([float(exact(mpmath.mpf(float(number)))) for number in x])
    np.testing.assert_allclose(result, expected, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_at_the_ends(dtype):
    x = np.array([0.0, -0.0, np.nan, -np.inf, -1e30, np.inf], dtype=dtype)
    result = np.empty_like(x)
    evaluate(1, x, result)
    np.testing.assert_array_equal(result, np.tanh(x))
    np.testing.assert_array_equal(np.signbit(result[:2]), [False, True])
    evaluate(2, x, result)
    np.testing.assert_array_equal(result, [0.5, 0.5, np.nan, 0.0, 0.0, 1.0])
    evaluate(0, x[:5], result[:5])
    np.testing.assert_array_equal(result[:5], [1.0, 1.0, np.nan, 0.0, 0.0])


def test_log1p_keeps_the_digits_of_small_numbers():
    for x in (0.0, 1e-300, 1e-20, 1e-3, 0.5, 1.0, 1e10, 1e300):
        assert functions.log1p(x) == pytest.approx(math.log1p(x), rel=4e-16, abs=0)
