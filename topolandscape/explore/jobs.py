"""Work in the background: how far it is, how it is stopped, what came of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from topolandscape.files import in_one_line

Report = Callable[[float], None]
"""Called by work with the share that is done; raises `Stopped` where nobody waits for the rest any more."""

_KEPT = 32  # finished jobs whose results are kept


class Stopped(Exception):
    """Work was stopped on request."""


@dataclass
class Job:
    """Work that was begun.

    Attributes
    ----------
    share
        How much of it is done, 0 to 1.
    state
        ``"waiting"``, ``"running"``, ``"done"``, ``"stopped"`` or ``"failed"``.
    result
        What it returned; of work that was stopped what it had by then, None where that is nothing.
    message
        Why it failed, in a line.
    """

    share: float = 0.0
    state: str = "waiting"
    result: Any = None
    message: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "stopped", "failed")


class Jobs:
    """Jobs one after the other, in a thread of their own.

    Examples
    --------
    >>> jobs = Jobs()
    >>> number = jobs.start(lambda report: 6 * 7)
    >>> jobs.wait(number).result
    42
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="explore")
        self._jobs: OrderedDict[int, tuple[Job, Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._started = 0

    def start(self, work: Callable[[Report], Any]) -> int:
        """Begin work once what was begun before is over; return its number."""
        job = Job()
        with self._lock:
            self._started += 1
            number = self._started
            self._jobs[number] = (job, self._thread.submit(_run, job, work))
            for old in list(self._jobs)[:-_KEPT]:
                if self._jobs[old][0].over:
                    del self._jobs[old]
        return number

    def job(self, number: int) -> Job | None:
        """Return a job by its number; None where there is none, or its result is not kept any more."""
        with self._lock:
            return self._jobs[number][0] if number in self._jobs else None

    def wait(self, number: int) -> Job:
        """Return a job once it is over."""
        with self._lock:
            job, future = self._jobs[number]
        future.result()
        return job

    def stop(self, number: int) -> None:
        """Stop a job at its next report; one that is over stays as it is."""
        if (job := self.job(number)) is not None:
            job.stop.set()


def _run(job: Job, work: Callable[[Report], Any]) -> None:
    def report(share: float) -> None:
        job.share = share
        if job.stop.is_set():
            raise Stopped

    try:
        report(0.0)
        job.state = "running"
        job.result = work(report)
        job.state = "stopped" if job.stop.is_set() else "done"
    except Stopped:
        job.state = "stopped"
    except Exception as error:  # whatever the user's model raises is said on the page
        job.message = in_one_line(error)
        job.state = "failed"
