"""The machine under an evaluation: its memory, and the state that is given back as it was."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Activations of a chunk should stay near the processor's caches: larger chunks were measured to be slower.
PROCESSOR_MEMORY = 32 * 2**20


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
    """Yield the tensors in nested tuples and lists."""
    if isinstance(value, Tensor):
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
