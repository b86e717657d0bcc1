"""Threads that share out the chunks of an evaluation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import wait

import torch

from topolandscape.structures.threads import kept_threads, take_turns

# Products of numbers above which threads share them out: a helper takes 0.05 ms to wake.
_MANY = 2**19
_within = threading.local()


class Rows:
    """Slices of rows, handed out one after the other to whichever thread asks.

    Parameters
    ----------
    n
        Number of rows.
    chunk
        Rows at once, of all slices but the last.

    Examples
    --------
    >>> rows = Rows(5, 3)
    >>> rows.take(), rows.take(), rows.take()
    (slice(0, 3, None), slice(3, 5, None), None)
    """

    def __init__(self, n: int, chunk: int) -> None:
        self._n = n
        self._next = 0
        self._lock = threading.Lock()
        self.chunk = chunk

    def take(self) -> slice | None:
        """Return the next slice, None when there is none left."""
        with self._lock:
            if self._next >= self._n:
                return None
            rows = slice(self._next, min(self._next + self.chunk, self._n))
            self._next = rows.stop
            return rows

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._next = self._n


def run_together(work: Callable[[int], None], workers: int, rows: Rows) -> None:
    """Run ``work(0)``, ..., ``work(workers - 1)``, each in a thread with its share of torch's threads.

    Parameters
    ----------
    work
        Takes slices from `rows` until there is none left. Torch and compiled code release Python's lock, so that the
        threads run at the same time. Operations on data that fit the caches of one core gain more from this than from
        being shared out by torch, which synchronises after each.
    workers
        Number of threads; 1: the calling thread, with all of torch's threads. Within such a thread no others are begun.
    rows
        Stopped at the first exception, or at Ctrl-C, so that the other threads end after the slice in hand.

    Raises
    ------
    BaseException
        The first one raised by `work`.
    """
    if workers == 1 or getattr(_within, "worker", False):
        work(0)
        return
    threads = torch.get_num_threads()
    futures = []
    try:
        share = max(1, threads // workers)
        futures = [kept_threads(workers).submit(_until_failure, work, index, rows, share) for index in range(workers)]
        for future in futures:
            future.result()
    finally:
        rows.stop()
        wait(futures)
        # The number that a thread sets for itself is also what threads made later start with.
        torch.set_num_threads(threads)


def by_threads(n: int, work: Callable[[slice], None], *, numbers: int) -> None:
    """Call `work`, which is compiled and no part of torch, with slices that make up n rows, in threads where these pay.

    Examples
    --------
    >>> row = list("abc")
    >>> by_threads(3, lambda part: print(row[part]), numbers=3)
    ['a', 'b', 'c']
    """
    threads = 1 if numbers < _MANY or getattr(_within, "worker", False) else torch.get_num_threads()
    parts = min(n, 2 * threads)
    if threads == 1 or parts < 2:
        work(slice(0, n))
        return
    bounds = [n * part // parts for part in range(parts + 1)]
    take_turns(lambda part: work(slice(bounds[part], bounds[part + 1])), parts, threads)


def _until_failure(work: Callable[[int], None], index: int, rows: Rows, threads: int) -> None:
    # Each time: what another thread sets meanwhile reaches the libraries of this one.
    torch.set_num_threads(threads)
    _within.worker = True
    try:
        work(index)
    except BaseException:
        rows.stop()
        raise
