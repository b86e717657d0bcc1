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


class _Register(types.Type):
    """The numba type of a full register."""

    def __init__(self, number: Any) -> None:
        self.number = number
        self.length = 8 * REGISTER_BYTES // number.bitwidth
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


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """Return the numbers of `array` from `index` on."""
    register = _Register(array.dtype)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *arguments)
        pointer = builder.bitcast(pointer, context.get_value_type(register).as_pointer())
        return builder.load(pointer, align=array.dtype.bitwidth // 8)

    return register(array, types.intp), build


@intrinsic
def store(typing: Any, register: Any, array: Any, index: Any) -> Any:
    """Write the numbers of a register into `array` from `index` on."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[1], *arguments[1:])
        pointer = builder.bitcast(pointer, context.get_value_type(register).as_pointer())
        builder.store(arguments[0], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(register, array, types.intp), build


@intrinsic
def repeat(typing: Any, array: Any, index: Any) -> Any:
    """Return a register that repeats one number of `array`."""
    register = _Register(array.dtype)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        nothing = ir.Constant(context.get_value_type(register), ir.Undefined)
        first = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, nothing, _places([0] * register.length))

    return register(array, types.intp), build


@intrinsic
def fused(typing: Any, one: Any, other: Any, added: Any) -> Any:
    """Return one * other + added."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        product = builder.fmul(*arguments[:2], flags=("contract",))
        return builder.fadd(product, arguments[2], flags=("contract",))

    return one(one, other, added), build


@intrinsic
def total(typing: Any, register: Any) -> Any:
    """Return the sum of the numbers of a register."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (sums,) = arguments
        length = register.length
        while length > 1:
            length //= 2
            halves = (builder.shuffle_vector(sums, sums, _places(range(at, at + length))) for at in (0, length))
            sums = builder.fadd(*halves)
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return register.number(register), build


def _places(numbers: Any) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), list(numbers))


def is_compiled(tensor: Tensor) -> bool:
    """Return whether the compiled loops take a tensor: float32 or float64 on the processor."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def as_array(tensor: Tensor) -> np.ndarray:
    """Return the contiguous numbers of a tensor, without its history."""
    return tensor.detach().contiguous().numpy()
