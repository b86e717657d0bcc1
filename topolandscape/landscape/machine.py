"""The machine under an evaluation: its memory, and the state that is given back as it was."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from topolandscape.structures import Floats

# Of all threads together. Far more than the caches hold: how many vectors are best at once is found by trial.
PROCESSOR_MEMORY = 128 * 2**20
# Numbers on their way to an accelerator or back at a time: 16 MiB.
_PINNED = 2**21


def memory_budget(device: torch.device) -> int:
    """Return how many bytes the evaluation of a chunk may take on `device` when nobody said."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // 8)
    return PROCESSOR_MEMORY


class _AllocationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of all new tensors."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # What shares its storage with an argument is a view of it, or was changed in place.
        old = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, list((kwargs or {}).values())))}
        self.total += sum(
            tensor.numel() * tensor.element_size()
            for tensor in _tensors(result)
            if tensor.untyped_storage().data_ptr() not in old
        )
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples and lists that hold memory: tangents known to be zero hold none."""
    if isinstance(value, Tensor):
        if not value._is_zerotensor():
            yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def bytes_allocated(function: Callable[[], Any]) -> int:
    """Return the bytes of all tensors that `function` makes: an upper bound of what it needs at one time.

    Examples
    --------
    >>> x = torch.ones(10, 4)
    >>> bytes_allocated(lambda: (x + 1).view(4, 10) * 2)
    320
    """
    with _AllocationCounter() as counter:  # type: ignore[no-untyped-call]
        function()
    return counter.total


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a processor or an accelerator.

    Examples
    --------
    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in said or "not enough memory" in said)


@contextmanager
def randomness_kept(device: torch.device, *, seed: int | None = None) -> Iterator[None]:
    """Give the global generators of random numbers (torch, numpy, Python) back as they were.

    Parameters
    ----------
    device
        Its generator is kept as well.
    seed
        Seeds all of them on entering.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if seed is not None:
                # Not torch.manual_seed, which also seeds devices that are not put back.
                torch.default_generator.manual_seed(seed)
                if device.type == "cuda":
                    with torch.cuda.device(device):
                        torch.cuda.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def float32_products(device: torch.device, *, tf32: bool) -> Iterator[None]:
    """Let products of float32 numbers on an accelerator be exact, or TF32; give torch's settings back."""
    if device.type != "cuda":
        yield
        return
    name: str
    value: str | bool
    if hasattr(torch.backends.cudnn, "conv"):  # torch 2.9
        name, value = "fp32_precision", "tf32" if tf32 else "ieee"
        places: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]
    else:
        name, value, places = "allow_tf32", tf32, [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [getattr(place, name) for place in places]
    try:
        for place in places:
            setattr(place, name, value)
        yield
    finally:
        for place, setting in zip(places, before, strict=True):
            setattr(place, name, setting)


@contextmanager
def cudnn_allowed(device: torch.device, *, allowed: bool) -> Iterator[None]:
    """Let operations on an accelerator be done by cuDNN, or by torch alone; give torch's setting back."""
    if device.type != "cuda" or allowed:
        yield
        return
    before = torch.backends.cudnn.enabled
    try:
        torch.backends.cudnn.enabled = False
        yield
    finally:
        torch.backends.cudnn.enabled = before


@functools.cache
def _stream(device: torch.device, index: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def stream_of_worker(device: torch.device, index: int) -> Iterator[None]:
    """Let what a worker does on an accelerator go on beside what the others do there; it sees all that was before."""
    if device.type != "cuda":
        yield
        return
    stream = _stream(device, index)
    stream.wait_stream(torch.cuda.default_stream(device))
    with torch.cuda.stream(stream):
        yield


def to_device(array: Floats, device: torch.device) -> Tensor:
    """Return a copy of numbers on a device; on its way to an accelerator nobody waits for it."""
    if device.type != "cuda":
        return torch.tensor(array, dtype=torch.float64, device=device)
    numbers = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64))
    there = torch.empty(numbers.shape, dtype=torch.float64, device=device)
    for part, place in zip(_pieces(numbers), _pieces(there), strict=True):
        place.copy_(part.pin_memory(), non_blocking=True)
    return there


def add_from_device(total: Tensor, tensor: Tensor) -> None:
    """Add numbers on a device to a sum on the processor."""
    if tensor.device.type != "cuda":
        total.add_(tensor)
        return
    for part, place in zip(_pieces(tensor), _pieces(total), strict=True):
        copied = torch.empty(part.shape, dtype=part.dtype, pin_memory=True).copy_(part, non_blocking=True)
        torch.cuda.current_stream(tensor.device).synchronize()
        place.add_(copied)


def _pieces(tensor: Tensor) -> Sequence[Tensor]:
    """Return a tensor as rows of numbers that fit the memory pinned at a time.

    An accelerator reads and writes memory that the system cannot move several times as fast, but such memory is dear.
    """
    return torch.split(tensor.contiguous().view(-1), _PINNED)


def operations(function: Callable[[], Any]) -> float:
    """Return the floating point operations of the matrix products, convolutions and attentions of `function`.

    Examples
    --------
    >>> operations(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
    60.0
    """
    with FlopCounterMode(display=False) as counter:
        function()
    return float(counter.get_total_flops())


@functools.cache
def matrix_product_speed(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """Return the operations a second of the product of two large square matrices, measured once."""
    one, other = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))

    def seconds() -> float:
        start = time.perf_counter()
        (one @ other)[0, 0].item()  # waits for the device
        return time.perf_counter() - start

    seconds()
    return 2 * size**3 / min(seconds() for _ in range(8))
