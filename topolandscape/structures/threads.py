"""Threads that are kept, and take turns with the calling one."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache


def take_turns(work: Callable[[int], None], parts: int, threads: int) -> None:
    """Call ``work(0)``, ..., ``work(parts - 1)``: the calling thread and its helpers each take the next one.

    The first part is begun at once, before a helper is awake; what one of them raises is raised when all have ended.

    Examples
    --------
    >>> squares = {}
    >>> take_turns(lambda part: squares.update({part: part**2}), 3, threads=2)
    >>> sorted(squares.items())
    [(0, 0), (1, 1), (2, 4)]
    """
    turns = iter(range(parts))

    def go() -> None:
        for part in turns:  # of all threads
            work(part)

    helpers = min(threads, parts) - 1
    others = [kept_threads(threads - 1).submit(go) for _ in range(helpers)]
    try:
        go()
    finally:
        for _ in turns:
            pass
        for other in others:
            if not other.cancel():  # it may never have come to its turn
                other.result()


def kept_threads(number: int) -> ThreadPoolExecutor:
    """Return threads that stay for the next call: new ones would ask the system anew for the memory of every array."""
    return _of_process(number, os.getpid())


@lru_cache
def _of_process(number: int, process: int) -> ThreadPoolExecutor:
    """Return threads of a process: those of another are not there after a fork."""
    return ThreadPoolExecutor(number, "topolandscape")
