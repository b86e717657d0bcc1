"""Registers of the processor: several numbers of one row after the other, treated at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic, models, register_model
from torch import Tensor


def _register_bytes() -> int:
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


REGISTER_BYTES = _register_bytes()


def lanes(number: Any) -> int:
    """Return how many numbers of a numba type a register holds."""
    return 8 * REGISTER_BYTES // int(number.bitwidth)


class _Register(types.Type):
    """The numba type of a full register."""

    def __init__(self, number: Any) -> None:
        self.number = number
        self.length = lanes(number)
        super().__init__(f"Register({number}, {self.length})")


@register_model(_Register)
class _RegisterModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: _Register) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.number).get_value_type(), kind.length))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Return the address of a number, counted from the first of the array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


@intrinsic
def zeros(typing: Any, array: Any) -> Any:
    """Return a register of zeros, of the dtype of `array`."""
    register = _Register(array.dtype)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(register), None)

    return register(array), build


def emit_load(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Emit a register of the numbers of an array of numba type `kind` from `index` on."""
    vector = ir.VectorType(context.get_value_type(kind.dtype), lanes(kind.dtype))
    pointer = builder.bitcast(_pointer(context, builder, kind, array, index), vector.as_pointer())
    return builder.load(pointer, align=kind.dtype.bitwidth // 8)


def emit_store(context: Any, builder: Any, kind: Any, register: Any, array: Any, index: Any) -> None:
    """Emit the writing of a register into an array of numba type `kind` from `index` on."""
    pointer = builder.bitcast(_pointer(context, builder, kind, array, index), register.type.as_pointer())
    builder.store(register, pointer, align=kind.dtype.bitwidth // 8)


def emit_number(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Emit one number of an array of numba type `kind`."""
    return builder.load(_pointer(context, builder, kind, array, index))


def emit_repeat(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Emit a register that repeats one number of an array of numba type `kind`."""
    number = emit_number(context, builder, kind, array, index)
    nothing = ir.Constant(ir.VectorType(number.type, lanes(kind.dtype)), ir.Undefined)
    first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, nothing, places([0] * lanes(kind.dtype)))


def emit_fused(builder: Any, one: Any, other: Any, added: Any) -> Any:
    """Emit one * other + added."""
    return builder.fadd(builder.fmul(one, other, flags=("contract",)), added, flags=("contract",))


def emit_add(context: Any, builder: Any, kind: Any, number: Any, array: Any, index: Any) -> None:
    """Emit the adding of a number to one of an array of numba type `kind`."""
    pointer = _pointer(context, builder, kind, array, index)
    builder.store(builder.fadd(builder.load(pointer), number), pointer)


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the numbers of `array` from `index` on."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit_load(context, builder, signature.args[0], *arguments)

    return _Register(array.dtype)(array, types.intp), build


@intrinsic
def store(typing: Any, register: Any, array: Any, index: Any) -> Any:
    """Write the numbers of a register into `array` from `index` on."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit_store(context, builder, signature.args[1], *arguments)
        return context.get_dummy_value()

    return types.void(register, array, types.intp), build


@intrinsic
def repeat(typing: Any, array: Any, index: Any) -> Any:
    """Return a register that repeats one number of `array`."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit_repeat(context, builder, signature.args[0], *arguments)

    return _Register(array.dtype)(array, types.intp), build


@intrinsic
def fused(typing: Any, one: Any, other: Any, added: Any) -> Any:
    """Return one * other + added."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit_fused(builder, *arguments)

    return one(one, other, added), build


@intrinsic
def total(typing: Any, register: Any) -> Any:
    """Return the sum of the numbers of a register."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (sums,) = arguments
        length = register.length
        while length > 1:
            length //= 2
            halves = (builder.shuffle_vector(sums, sums, places(range(at, at + length))) for at in (0, length))
            sums = builder.fadd(*halves)
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return register.number(register), build


def places(numbers: Any) -> Any:
    """Return the constant that tells a shuffle which numbers to take."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), list(numbers))


def is_compiled(tensor: Tensor) -> bool:
    """Return whether the compiled loops take a tensor: float32 or float64 on the processor."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def as_array(tensor: Tensor) -> np.ndarray:
    """Return the contiguous numbers of a tensor, without its history."""
    return tensor.detach().contiguous().numpy()
