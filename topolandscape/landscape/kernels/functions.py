"""Functions of numbers that the compiler can evaluate for several rows at once, in the type of their argument."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

# Divisions by zero are as everywhere else: infinite, and no reason to stop.
_OPTIONS: Any = {"error_model": "numpy", "fastmath": {"contract"}}
_LOG_2 = {  # few digits, so that products with small whole numbers are exact, and the rest
    np.float32: (float.fromhex("0x1.63p-1"), float.fromhex("-0x1.bd0106p-13")),
    np.float64: (float.fromhex("0x1.62e42feep-1"), float.fromhex("0x1.a39ef35793c76p-33")),
}
_ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of the square root of 1/2


def _exponentials(number: Any, integer: Any, mantissa: int, degree: int, lowest: float) -> tuple[Any, Any]:
    """Return exp and expm1 of numbers of one type that are at most 0."""
    inverse, magic = number(1 / math.log(2)), number(1.5 * 2**mantissa)
    few, rest_of_log = (number(part) for part in _LOG_2[number])
    bias, shift = integer(2 ** (8 * number().itemsize - mantissa - 2) - 1), integer(mantissa)
    nothing, one, least = number(0), number(1), number(lowest)
    # All but the constant of the series of exp, highest first; as nested sums, since the compiler unrolls no loop over
    # numbers of this type that is not over a tuple.
    series = tuple(number(1 / math.factorial(n)) for n in range(degree, 0, -1))

    @njit(**_OPTIONS)
    def parts(x):  # type: ignore[no-untyped-def]
        """Return 2**n and exp(rest) - 1, where x = n log 2 + rest."""
        shifted = x * inverse + magic  # the nearest whole number stands in the lowest bits
        power = shifted - magic
        rest = x - power * few - power * rest_of_log
        result = series[0]
        for coefficient in series[1:]:
            result = result * rest + coefficient
        bits = integer(number(shifted).view(integer) + bias) << shift
        return integer(bits).view(number), result * rest

    @njit(**_OPTIONS)
    def exp(x):  # type: ignore[no-untyped-def]
        scale, more = parts(x)
        return nothing if x < least else scale * more + scale

    @njit(**_OPTIONS)
    def expm1(x):  # type: ignore[no-untyped-def]
        scale, more = parts(x)
        return -one if x < least else scale * more + (scale - one)

    return exp, expm1


# Truncated at 5e-9 and 1e-18 of the result.
_EXPONENTIALS = {
    types.float32: _exponentials(np.float32, np.int32, 23, 7, -87.0),
    types.float64: _exponentials(np.float64, np.int64, 52, 13, -700.0),
}
# Terms of 2 atanh(z) / z in powers of z squared; highest first. Truncated at 1e-18 of log1p.
_LOGARITHM = tuple(2 / (2 * n + 1) for n in reversed(range(12)))


def exp(x: Any) -> Any:
    """Return exp of a number of at most 0; what underflows as 0, and NaN for NaN."""


def tanh(x: Any) -> Any:
    """Return tanh of a number, to its last digits also near 0."""


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x))."""


@overload(exp, jit_options=_OPTIONS)
def _exp(x):  # type: ignore[no-untyped-def]
    of_type = _EXPONENTIALS[x][0]
    return lambda x: of_type(x)


@overload(tanh, jit_options=_OPTIONS)
def _tanh(x):  # type: ignore[no-untyped-def]
    expm1 = _EXPONENTIALS[x][1]
    number = np.float32 if x == types.float32 else np.float64
    minus_two, two = number(-2), number(2)

    def build(x):  # type: ignore[no-untyped-def]
        size = expm1(minus_two * abs(x))
        size = size / (two + size)
        return math.copysign(size, x)

    return build


@overload(sigmoid, jit_options=_OPTIONS)
def _sigmoid(x):  # type: ignore[no-untyped-def]
    exp_of = _EXPONENTIALS[x][0]
    one = (np.float32 if x == types.float32 else np.float64)(1)

    def build(x):  # type: ignore[no-untyped-def]
        small = exp_of(-abs(x))
        share = one / (one + small)
        return small * share if x < 0 else share

    return build


@njit(**_OPTIONS)
def log1p(x):  # type: ignore[no-untyped-def]
    """Return log(1 + x) of a float64 of at least 0 to its last digits; NaN stays NaN."""
    power = (np.float64(1.0 + x).view(np.int64) - np.int64(_ROOT_HALF)) >> 52
    scale = np.int64((1023 - power) << 52).view(np.float64)
    excess = (x + (1.0 - np.int64((1023 + power) << 52).view(np.float64))) * scale  # (1 + x) / 2**power - 1
    z = excess / (2.0 + excess)
    result = _LOGARITHM[0]
    for coefficient in _LOGARITHM[1:]:
        result = result * (z * z) + coefficient
    return power * math.log(2) + result * z
