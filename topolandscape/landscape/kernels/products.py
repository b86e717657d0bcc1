"""Products of small matrices with many columns, and inner products of lines: sums that are kept in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from topolandscape.landscape.kernels.registers import (
    REGISTER_BYTES,
    emit_add,
    emit_fused,
    emit_load,
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
ONES, OTHERS = (4, 4) if REGISTER_BYTES == 64 else (4, 2)


@njit
def add_product(a, a_at, b, b_at, c, c_at, lines, inner):  # type: ignore[no-untyped-def]
    """Add the product of a (lines, inner) and b (inner, one tile) to c (lines, one tile).

    All three are flat. a_at is the first entry, the step from line to line and the step along a line; b_at and c_at
    are the first entry and the step from line to line. Lines are shared out evenly among the passes over b.
    """
    passes = (lines + _HIGHEST - 1) // _HIGHEST
    first = 0
    for at in range(passes):
        last = lines * (at + 1) // passes
        a_now = (a_at[0] + first * a_at[1], a_at[1], a_at[2])
        c_now = (c_at[0] + first * c_at[1], c_at[1])
        height = last - first
        if height == 8:
            _add_block(8, a, a_now, b, b_at, c, c_now, inner)
        elif height == 7:
            _add_block(7, a, a_now, b, b_at, c, c_now, inner)
        elif height == 6:
            _add_block(6, a, a_now, b, b_at, c, c_now, inner)
        elif height == 5:
            _add_block(5, a, a_now, b, b_at, c, c_now, inner)
        elif height == 4:
            _add_block(4, a, a_now, b, b_at, c, c_now, inner)
        elif height == 3:
            _add_block(3, a, a_now, b, b_at, c, c_now, inner)
        elif height == 2:
            _add_block(2, a, a_now, b, b_at, c, c_now, inner)
        else:
            _add_block(1, a, a_now, b, b_at, c, c_now, inner)
        first = last


@njit
def add_correlations(a, a_at, b, b_at, c, c_at, lines, others, registers):  # type: ignore[no-untyped-def]
    """Add to c (lines, others) the inner products of lines of a with lines of b, over so many registers.

    All three are flat; a_at, b_at and c_at are the first entry and the step from line to line. Lines up to the next
    multiple of `ONES` in a and of `OTHERS` in b are read, and as many are written in c.
    """
    for i in range(0, lines, ONES):
        for j in range(0, others, OTHERS):
            _add_correlations(
                a,
                (a_at[0] + i * a_at[1], a_at[1]),
                b,
                (b_at[0] + j * b_at[1], b_at[1]),
                c,
                (c_at[0] + i * c_at[1] + j, c_at[1]),
                registers,
            )


# --------------------------------------------------------------------------------------------------------------
# What the compiler is given
# --------------------------------------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def _add_block(typing: Any, height: Any, a: Any, a_at: Any, b: Any, b_at: Any, c: Any, c_at: Any, inner: Any) -> Any:
    """Add a product of so many lines as in `add_product`, with all sums in registers."""
    if not isinstance(height, types.IntegerLiteral):
        return None
    lines = range(height.literal_value)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, a_kind, _, b_kind, _, c_kind, _, _ = signature.args
        _, a, a_at, b, b_at, c, c_at, inner = arguments
        length = lanes(a_kind.dtype)
        a_first, a_line, a_step = (builder.extract_value(a_at, i) for i in range(3))
        b_first, b_line = (builder.extract_value(b_at, i) for i in range(2))
        c_first, c_line = (builder.extract_value(c_at, i) for i in range(2))
        factors = [_ahead(builder, a_first, a_line, i) for i in lines]
        targets = [
            _ahead(builder, _ahead(builder, c_first, c_line, i), None, j * length) for i in lines for j in range(TILE)
        ]

        def body(k: Any, sums: list[Any]) -> list[Any]:
            line = builder.add(b_first, builder.mul(k, b_line))
            columns = [
                emit_load(context, builder, b_kind, b, _ahead(builder, line, None, j * length)) for j in range(TILE)
            ]
            along = builder.mul(k, a_step)
            result = []
            for i in lines:
                factor = emit_repeat(context, builder, a_kind, a, builder.add(factors[i], along))
                result += [emit_fused(builder, factor, columns[j], sums[i * TILE + j]) for j in range(TILE)]
            return result

        sums = [emit_load(context, builder, c_kind, c, at) for at in targets]
        for at, register in zip(targets, _emit_loop(builder, inner, sums, body), strict=True):
            emit_store(context, builder, c_kind, register, c, at)
        return context.get_dummy_value()

    three, two = types.UniTuple(types.intp, 3), types.UniTuple(types.intp, 2)
    return types.void(height, a, three, b, two, c, two, types.intp), build


@intrinsic
def _add_correlations(typing: Any, a: Any, a_at: Any, b: Any, b_at: Any, c: Any, c_at: Any, registers: Any) -> Any:
    """Add the inner products of `ONES` lines of a with `OTHERS` lines of b as in `add_correlations`."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a_kind, _, b_kind, _, c_kind, _, _ = signature.args
        a, a_at, b, b_at, c, c_at, registers = arguments
        length = lanes(a_kind.dtype)
        a_first, a_line = (builder.extract_value(a_at, i) for i in range(2))
        b_first, b_line = (builder.extract_value(b_at, i) for i in range(2))
        c_first, c_line = (builder.extract_value(c_at, i) for i in range(2))
        ones = [_ahead(builder, a_first, a_line, i) for i in range(ONES)]
        others = [_ahead(builder, b_first, b_line, j) for j in range(OTHERS)]

        def body(k: Any, sums: list[Any]) -> list[Any]:
            along = builder.mul(k, ir.Constant(k.type, length))
            left = [emit_load(context, builder, a_kind, a, builder.add(at, along)) for at in ones]
            right = [emit_load(context, builder, b_kind, b, builder.add(at, along)) for at in others]
            return [
                emit_fused(builder, left[i], right[j], sums[i * OTHERS + j]) for i in range(ONES) for j in range(OTHERS)
            ]

        nothing = ir.Constant(ir.VectorType(context.get_value_type(a_kind.dtype), length), None)
        sums = _emit_loop(builder, registers, [nothing] * (ONES * OTHERS), body)
        sums += [nothing] * (-len(sums) % length)
        totals = [_emit_totals(builder, sums[at : at + length]) for at in range(0, len(sums), length)]
        for i in range(ONES):
            for j in range(OTHERS):
                entry, lane = divmod(i * OTHERS + j, length)
                found = builder.extract_element(totals[entry], ir.Constant(ir.IntType(32), lane))
                at = _ahead(builder, _ahead(builder, c_first, c_line, i), None, j)
                emit_add(context, builder, c_kind, found, c, at)
        return context.get_dummy_value()

    two = types.UniTuple(types.intp, 2)
    return types.void(a, two, b, two, c, two, types.intp), build


def _ahead(builder: Any, at: Any, step: Any, times: int) -> Any:
    """Emit ``at + times * step``; the step is 1 if None."""
    if step is None:
        return builder.add(at, ir.Constant(at.type, times))
    return builder.add(at, builder.mul(step, ir.Constant(step.type, times)))


def _emit_loop(builder: Any, count: Any, start: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Emit a loop in which k counts from 0 and `body` makes new values of old ones; return the last values."""
    before = builder.basic_block
    head, inside, after = (builder.append_basic_block(name) for name in ("head", "inside", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(count.type)
    values = [builder.phi(value.type) for value in start]
    builder.cbranch(builder.icmp_signed("<", k, count), inside, after)
    builder.position_at_end(inside)
    changed = body(k, values)
    following = builder.add(k, ir.Constant(count.type, 1))
    end = builder.basic_block
    builder.branch(head)
    first = [ir.Constant(count.type, 0), *start]
    for phi, at_first, later in zip([k, *values], first, [following, *changed], strict=True):
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
