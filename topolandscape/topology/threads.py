"""Threads that share out the parts of a range."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numba import get_num_threads


def shared_out(kernel: Callable[..., Any], count: int, *arguments: Any, least: int = 1) -> list[Any]:
    """Return what a compiled kernel, which releases the interpreter, gives for consecutive parts of range(count).

    No part is shorter than `least`, as is needed where what a part gives, or takes, grows with something else.
    """
    threads = min(get_num_threads(), 1 + count // 4096) if count >= 4096 else 1
    parts = min(8 * threads, count // max(1, least))
    if threads == 1 or parts < 2:
        return [kernel(0, count, *arguments)]
    bounds = np.linspace(0, count, parts + 1).astype(np.int64)
    results: list[Any] = [None] * parts
    turns = iter(range(parts))

    def work() -> None:
        for part in turns:  # of all threads
            results[part] = kernel(bounds[part], bounds[part + 1], *arguments)

    others = [_helpers(threads - 1, os.getpid()).submit(work) for _ in range(min(threads, parts) - 1)]
    work()
    for other in others:
        if not other.cancel():  # it may never have come to its turn
            other.result()
    return results


@lru_cache
def _helpers(threads: int, process: int) -> ThreadPoolExecutor:
    """Return threads that stay for the next call; those of another process are not there after a fork."""
    return ThreadPoolExecutor(threads, "shared-out")
