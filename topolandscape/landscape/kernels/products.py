"""Products of small matrices with many columns, and inner products of lines: sums that are kept in registers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from topolandscape.landscape.kernels.registers import (
    REGISTER_BYTES,
    emit_add,
    emit_fused,
    emit_load,
    emit_number,
    emit_repeat,
    emit_store,
    lanes,
    places,
)

# A tile is as many columns as three registers hold; of so many lines its sums fit the registers, of which there are
# 32 where they are widest and else 16.
TILE = 3
_HIGHEST = 8 if REGISTER_BYTES == 64 else 4
# Inner products kept at once: of so many lines with so many others.
ONES, OTHERS = (4, 6) if REGISTER_BYTES == 64 else (4, 2)
# What sums may start from that are no entries of a.
NOTHING, KEPT = -1, -2


@njit
def multiply(a, a_at, b, b_at, c, c_at, lines, inner, place, tap, listed, begin, rectified):  # type: ignore[no-untyped-def]
    """Write the products of a (lines, inner, taps) and b (places, inner, one tile) to c (lines, one tile).

    Summed are those of the listed taps and places, entries listed[0] to listed[1] of `tap` and `place`. All three are
    flat. a_at is the first entry and the steps from line to line, along a line, and from tap to tap; b_at the first
    entry and the steps from line to line and from place to place; c_at the first entry and the step from line to line.
    The sums start from entries of a from `begin` on, one for each line, from `NOTHING`, or from what is `KEPT` in c;
    where `rectified`, results below 0 are written as 0.

    Lines are shared out evenly among the passes over b.
    """
    passes = (lines + _HIGHEST - 1) // _HIGHEST
    first = 0
    for at in range(passes):
        last = lines * (at + 1) // passes
        a_now = (a_at[0] + first * a_at[1], a_at[1], a_at[2], a_at[3])
        c_now = (c_at[0] + first * c_at[1], c_at[1])
        start = begin if begin < 0 else begin + first
        height = last - first
        if height == 8:
            _multiply(8, a, a_now, b, b_at, c, c_now, inner, place, tap, listed, start, rectified)
        elif height == 7:
            _multiply(7, a, a_now, b, b_at, c, c_now, inner, place, tap, listed, start, rectified)
        elif height == 6:
            _multiply(6, a, a_now, b, b_at, c, c_now, inner, place, tap, listed, start, rectified)
        elif height == 5:
            _multiply(5, a, a_now, b, b_at, c, c_now, inner, place, tap, listed, start, rectified)
        elif height == 4:
            _multiply(4, a, a_now, b, b_at, c, c_now, inner, place, tap, listed, start, rectified)
        elif height == 3:
            _multiply(3, a, a_now, b, b_at, c, c_now, inner, place, tap, listed, start, rectified)
        elif height == 2:
            _multiply(2, a, a_now, b, b_at, c, c_now, inner, place, tap, listed, start, rectified)
        else:
            _multiply(1, a, a_now, b, b_at, c, c_now, inner, place, tap, listed, start, rectified)
        first = last


@njit
def add_correlations(a, a_at, b, b_at, c, c_at, lines, patches, start, groups, registers):  # type: ignore[no-untyped-def]
    """Add to c (lines, others) the inner products of lines of a with others of b, over places and so many registers.

    All three are flat. a_at is the first entry and the steps from line to line and from place to place; b_at and c_at
    are the first entry and the step from line to line. The others come in `groups`, from the first to before the last,
    of `OTHERS` each: rows start[group] to start[group + 1] of `patches`, which is flat, are a place in a and the lines
    of b that it meets there. Lines up to the next multiple of `ONES` are read in a and written in c.
    """
    for i in range(0, lines, ONES):
        for group in range(groups[0], groups[1]):
            _add_correlations(
                a,
                (a_at[0] + i * a_at[1], a_at[1], a_at[2]),
                b,
                b_at,
                c,
                (c_at[0] + i * c_at[1] + (group - groups[0]) * OTHERS, c_at[1]),
                patches,
                (start[group], start[group + 1]),
                registers,
            )


# --------------------------------------------------------------------------------------------------------------
# What the compiler is given
# --------------------------------------------------------------------------------------------------------------

_TWO, _THREE, _FOUR = (types.UniTuple(types.intp, count) for count in (2, 3, 4))


@intrinsic(prefer_literal=True)
def _multiply(
    typing: Any,
    height: Any,
    a: Any,
    a_at: Any,
    b: Any,
    b_at: Any,
    c: Any,
    c_at: Any,
    inner: Any,
    place: Any,
    tap: Any,
    listed: Any,
    begin: Any,
    rectified: Any,
) -> Any:
    """Write so many lines as in `multiply`, with all sums in registers."""
    if not isinstance(height, types.IntegerLiteral):
        return None
    lines = range(height.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, a_kind, _, b_kind, _, c_kind, _, _, place_kind, tap_kind, *_ = signature.args
        _, a, a_at, b, b_at, c, c_at, inner, place, tap, listed, begin, rectified = arguments
        length = lanes(a_kind.dtype)
        a_first, a_line, a_step, a_tap = cgutils.unpack_tuple(builder, a_at)
        b_first, b_line, b_place = cgutils.unpack_tuple(builder, b_at)
        c_first, c_line = cgutils.unpack_tuple(builder, c_at)
        first, last = cgutils.unpack_tuple(builder, listed)
        targets = [
            _ahead(builder, _ahead(builder, c_first, c_line, i), None, j * length) for i in lines for j in range(TILE)
        ]

        def along_list(entry: Any, sums: list[Any]) -> list[Any]:
            place_now = emit_number(context, builder, place_kind, place, entry)
            tap_now = emit_number(context, builder, tap_kind, tap, entry)
            b_now = builder.add(b_first, builder.mul(place_now, b_place))
            a_now = builder.add(a_first, builder.mul(tap_now, a_tap))
            factors = [_ahead(builder, a_now, a_line, i) for i in lines]

            def along_line(k: Any, sums: list[Any]) -> list[Any]:
                line = builder.add(b_now, builder.mul(k, b_line))
                columns = [
                    emit_load(context, builder, b_kind, b, _ahead(builder, line, None, j * length)) for j in range(TILE)
                ]
                along = builder.mul(k, a_step)
                result = []
                for i in lines:
                    factor = emit_repeat(context, builder, a_kind, a, builder.add(factors[i], along))
                    result += [emit_fused(builder, factor, columns[j], sums[i * TILE + j]) for j in range(TILE)]
                return result

            return _emit_loop(builder, ir.Constant(inner.type, 0), inner, sums, along_line)

        sums = _emit_start(context, builder, (a_kind, a), (c_kind, c), targets, begin)
        sums = _emit_loop(builder, first, last, sums, along_list)
        nothing = ir.Constant(sums[0].type, None)
        least = builder.select(rectified, nothing, ir.Constant(sums[0].type, [-math.inf] * length))
        for at, register in zip(targets, sums, strict=True):
            result = builder.select(builder.fcmp_ordered(">", least, register), least, register)
            emit_store(context, builder, c_kind, result, c, at)
        return context.get_dummy_value()

    return types.void(
        height, a, _FOUR, b, _THREE, c, _TWO, types.intp, place, tap, _TWO, types.intp, types.boolean
    ), build


def _emit_start(
    context: Any, builder: Any, a: tuple[Any, Any], c: tuple[Any, Any], targets: list[Any], begin: Any
) -> list[Any]:
    """Emit what the sums of `multiply` start from."""
    kept, fresh, after = (builder.append_basic_block(name) for name in ("kept", "fresh", "after"))
    builder.cbranch(builder.icmp_signed("==", begin, ir.Constant(begin.type, KEPT)), kept, fresh)
    builder.position_at_end(kept)
    old = [emit_load(context, builder, *c, at) for at in targets]
    builder.branch(after)
    builder.position_at_end(fresh)
    is_nothing = builder.icmp_signed("==", begin, ir.Constant(begin.type, NOTHING))
    entry = builder.select(is_nothing, ir.Constant(begin.type, 0), begin)
    new = []
    for i in range(len(targets) // TILE):
        at = builder.select(is_nothing, entry, _ahead(builder, entry, None, i))
        number = emit_repeat(context, builder, *a, at)
        new += [builder.select(is_nothing, ir.Constant(number.type, None), number)] * TILE
    builder.branch(after)
    builder.position_at_end(after)
    sums = [builder.phi(register.type) for register in old]
    for phi, one, other in zip(sums, old, new, strict=True):
        phi.add_incoming(one, kept)
        phi.add_incoming(other, fresh)
    return sums


@intrinsic
def _add_correlations(
    typing: Any,
    a: Any,
    a_at: Any,
    b: Any,
    b_at: Any,
    c: Any,
    c_at: Any,
    patches: Any,
    listed: Any,
    registers: Any,
) -> Any:
    """Add the inner products of `ONES` lines of a with `OTHERS` lines of b as in `add_correlations`."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_kind, _, b_kind, _, c_kind, _, patches_kind, _, _ = signature.args
        a, a_at, b, b_at, c, c_at, patches, listed, registers = arguments
        length = lanes(a_kind.dtype)
        a_first, a_line, a_place = cgutils.unpack_tuple(builder, a_at)
        b_first, b_line = cgutils.unpack_tuple(builder, b_at)
        c_first, c_line = cgutils.unpack_tuple(builder, c_at)
        first, last = cgutils.unpack_tuple(builder, listed)

        def along_list(entry: Any, sums: list[Any]) -> list[Any]:
            row = builder.mul(entry, ir.Constant(entry.type, 1 + OTHERS))
            place, *met = (
                emit_number(context, builder, patches_kind, patches, _ahead(builder, row, None, i))
                for i in range(1 + OTHERS)
            )
            a_now = builder.add(a_first, builder.mul(place, a_place))
            ones = [_ahead(builder, a_now, a_line, i) for i in range(ONES)]
            others = [builder.add(b_first, builder.mul(line, b_line)) for line in met]

            def along_lines(k: Any, sums: list[Any]) -> list[Any]:
                along = builder.mul(k, ir.Constant(k.type, length))
                left = [emit_load(context, builder, a_kind, a, builder.add(at, along)) for at in ones]
                right = [emit_load(context, builder, b_kind, b, builder.add(at, along)) for at in others]
                return [
                    emit_fused(builder, left[i], right[j], sums[i * OTHERS + j])
                    for i in range(ONES)
                    for j in range(OTHERS)
                ]

            return _emit_loop(builder, ir.Constant(registers.type, 0), registers, sums, along_lines)

        nothing = ir.Constant(ir.VectorType(context.get_value_type(a_kind.dtype), length), None)
        sums = _emit_loop(builder, first, last, [nothing] * (ONES * OTHERS), along_list)
        sums += [nothing] * (-len(sums) % length)
        totals = [_emit_totals(builder, sums[at : at + length]) for at in range(0, len(sums), length)]
        for i in range(ONES):
            for j in range(OTHERS):
                entry, lane = divmod(i * OTHERS + j, length)
                found = builder.extract_element(totals[entry], ir.Constant(ir.IntType(32), lane))
                at = _ahead(builder, _ahead(builder, c_first, c_line, i), None, j)
                emit_add(context, builder, c_kind, found, c, at)
        return context.get_dummy_value()

    return types.void(a, _THREE, b, _TWO, c, _TWO, patches, _TWO, types.intp), build


def _ahead(builder: Any, at: Any, step: Any, times: int) -> Any:
    """Emit ``at + times * step``; the step is 1 if None."""
    if step is None:
        return builder.add(at, ir.Constant(at.type, times))
    return builder.add(at, builder.mul(step, ir.Constant(step.type, times)))


def _emit_loop(
    builder: Any, first: Any, last: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Emit a loop in which k goes from `first` to `last` and `body` makes new values of old; return the last values."""
    before = builder.basic_block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(first.type)
    values = [builder.phi(value.type) for value in start]
    builder.cbranch(builder.icmp_signed("<", k, last), inside, after)
    builder.position_at_end(inside)
    changed = body(k, values)
    following = builder.add(k, ir.Constant(first.type, 1))
    end = builder.basic_block
    builder.branch(head)
    for phi, at_first, later in zip([k, *values], [first, *start], [following, *changed], strict=True):
        phi.add_incoming(at_first, before)
        phi.add_incoming(later, end)
    builder.position_at_end(after)
    return values


def _emit_totals(builder: Any, sums: list[Any]) -> Any:
    """Emit the totals of as many registers as each has numbers, side by side in one register.

    Of two registers at a time one is made that has half as many partial sums of each, until one is left.
    """
    length = len(sums)
    while len(sums) > 1:
        half = len(sums) // 2
        # In each stretch of 2 * half numbers: first half those of one register, then those of the other.
        front = [at % (2 * half) < half for at in range(length)]
        low = places([at if ahead else length + at - half for at, ahead in enumerate(front)])
        high = places([at + half if ahead else length + at for at, ahead in enumerate(front)])
        sums = [
            builder.fadd(builder.shuffle_vector(one, other, low), builder.shuffle_vector(one, other, high))
            for one, other in zip(sums[:half], sums[half:], strict=True)
        ]
    return sums[0]
