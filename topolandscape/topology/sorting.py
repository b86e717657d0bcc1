"""Rows in the order of their values: a radix sort of the leading bits, then what these leave undecided."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from topolandscape.structures import Floats

_FEW = 512  # values for which numpy is as fast
_SHORT_RUN = 32  # rows that are sorted one by one
_DIGIT, _DIGITS = 11, 3  # bits of a digit, digits of a key
_ROW = 64 - _DIGIT * _DIGITS  # bits that are left for the row


def index_type(count: int) -> type[np.signedinteger[Any]]:
    """Return the type of integers in which so many things are numbered."""
    return np.int32 if count < 2**31 else np.int64


def ascending_rows(values: Floats) -> NDArray[Any]:
    """Return the rows of `values` by (value, row), as `structures.ascending` does, as int32 where they fit.

    Linear in the values as a rule: they are sorted by digits (Knuth 1973), the row beside the key in one word. The key
    is the value as an integer of the same order, less that of the lowest, cut to its leading 33 bits: losses in float32
    are told apart by them. Values that are not stand together, and are sorted by comparison.
    """
    if len(values) <= _FEW or len(values) >= 1 << _ROW:
        return np.argsort(values, kind="stable").astype(index_type(len(values)))
    return _by_digits(np.ascontiguousarray(values))


@njit(cache=True, nogil=True)
def _key(value):  # type: ignore[no-untyped-def]
    """Return an integer of the same order as the value; zeros of both signs are one."""
    bits = np.float64(value + 0.0).view(np.int64)
    return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)


@njit(cache=True, nogil=True)
def _by_digits(values):  # type: ignore[no-untyped-def]
    n, digit = len(values), np.uint64(_DIGIT)
    mask = np.uint64((1 << _DIGIT) - 1)
    lowest = highest = _key(values[0])
    for value in values:
        key = _key(value)
        lowest, highest = min(lowest, key), max(highest, key)
    span, cut = np.uint64(highest - lowest), np.uint64(0)
    while span >> cut >> np.uint64(_DIGIT * _DIGITS) > 0:
        cut += np.uint64(1)

    words, sorted_words = np.empty(n, dtype=np.uint64), np.empty(n, dtype=np.uint64)
    place = np.zeros((_DIGITS, 1 << _DIGIT), dtype=np.int64)
    lost = np.uint64(0)
    for row in range(n):
        key = np.uint64(_key(values[row]) - lowest)
        lost |= key & ((np.uint64(1) << cut) - np.uint64(1))
        key >>= cut
        words[row] = (key << np.uint64(_ROW)) | np.uint64(row)
        for i in range(_DIGITS):
            place[i, key & mask] += 1
            key >>= digit
    for i in range(_DIGITS):
        shift = np.uint64(_ROW) + np.uint64(i) * digit
        if place[i].max() == n:  # all have the same digit
            continue
        before, here = 0, place[i]
        for j in range(len(here)):
            here[j], before = before, before + here[j]
        for word in words:
            j = (word >> shift) & mask  # type: ignore[assignment]
            sorted_words[here[j]] = word
            here[j] += 1
        words, sorted_words = sorted_words, words

    order = np.empty(n, dtype=np.int32)
    for i in range(n):
        order[i] = np.int32(words[i] & np.uint64((1 << _ROW) - 1))
    if lost != 0:
        _sort_runs(values, words, order)
    return order


@njit(cache=True, nogil=True)
def _sort_runs(values, words, order):  # type: ignore[no-untyped-def]
    """Sort the rows of equal keys, which stand together in their own order, by their values."""
    n, start = len(order), 0
    while start < n:
        end, ascending = start + 1, True
        while end < n and (words[end] ^ words[start]) >> np.uint64(_ROW) == 0:
            ascending &= values[order[end - 1]] <= values[order[end]]
            end += 1
        if not ascending and end > start + _SHORT_RUN:
            rows = order[start:end].copy()
            order[start:end] = rows[np.argsort(values[rows], kind="mergesort")]
        elif not ascending:
            for place in range(start + 1, end):
                row = order[place]
                while place > start and values[order[place - 1]] > values[row]:
                    order[place] = order[place - 1]
                    place -= 1
                order[place] = row
        start = end
