"""Compiled kernels, shared out among threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import get_num_threads

from topolandscape.structures.threads import take_turns


def shared_out(kernel: Callable[..., Any], count: int, *arguments: Any, least: int = 1, few: int = 2**12) -> list[Any]:
    """Return what a compiled kernel, which releases the interpreter, gives for consecutive parts of range(count).

    No part is shorter than `least`, as is needed where what a part gives, or takes, grows with something else. Up to
    `few`, one thread is done before another is awake.
    """
    threads = min(get_num_threads(), 1 + count // few) if count >= few else 1
    parts = min(8 * threads, count // max(1, least))
    if threads == 1 or parts < 2:
        return [kernel(0, count, *arguments)]
    bounds = np.linspace(0, count, parts + 1).astype(np.int64)
    results: list[Any] = [None] * parts

    def work(part: int) -> None:
        results[part] = kernel(bounds[part], bounds[part + 1], *arguments)

    take_turns(work, parts, threads)
    return results
