"""Many runs: one after the other, or several at once, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from topolandscape.cluster import workers
from topolandscape.files import Run, in_one_line, locked
from topolandscape.landscape.tasks import Asked
from topolandscape.study.measures import measure
from topolandscape.study.recipe import Recipe
from topolandscape.study.runs import run

# What the fastest way to evaluate a network depends on.
_EVALUATED = ("model", "data", "loss", "route", "device", "dtype")

_CHILD = "from topolandscape.study.jobs import child; child()"


class Job(NamedTuple):
    """One run that is to be computed, and measured.

    Attributes
    ----------
    recipe, folder
        What is computed, and where it is kept.
    measures
        Names of what is measured of it.
    group
        The runs from other seeds with which it is taken together.
    """

    recipe: Recipe
    folder: Path
    measures: tuple[str, ...]
    group: str


def done_jobs(jobs: Sequence[Job], at_once: int | str) -> Iterator[tuple[Job, float, str | None]]:
    """Do jobs, and yield each when it is done.

    Parameters
    ----------
    jobs
        In the order in which they begin.
    at_once
        How many at once. 1: in this process; else each in a process of its own, with its share of the cores, which
        ends when this one does. Or the address of a dask scheduler, whose workers share the folder.

    Yields
    ------
    tuple
        The job, the seconds it took, and what went wrong, or None.
    """
    if isinstance(at_once, str):
        asked: Asked = [((job._replace(folder=job.folder.resolve()),), {}) for job in jobs]
        with workers(at_once) as team:
            for number, (seconds, wrong) in team.done(_timed, asked, what="runs", progress=False):
                yield jobs[number], seconds, wrong
        return
    if at_once == 1:
        yield from ((job, *_timed(job)) for job in jobs)
        return
    children: set[subprocess.Popen[str]] = set()
    pool = ThreadPoolExecutor(at_once)
    try:
        share = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(max(1, cores() // at_once)))
        started = {pool.submit(_in_child, job, share, children): job for job in jobs}
        for future in as_completed(started):
            seconds, wrong = future.result()
            yield started[future], seconds, wrong
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(children):
            process.kill()  # what it computed is kept
        pool.shutdown()


def _do(job: Job) -> None:
    begun = time.monotonic()
    done = run(job.recipe, job.folder, plans=_known_plans(job), progress=False)
    with locked(done.path):
        measure(done, job.recipe, job.measures)
        done.once("seconds", lambda: time.monotonic() - begun)


def _timed(job: Job) -> tuple[float, str | None]:
    """Do a job; return how long it took and what went wrong."""
    begun = time.monotonic()
    wrong = _what_goes_wrong(job)
    return time.monotonic() - begun, wrong


def _known_plans(job: Job) -> Mapping[str, Mapping[str, Any]] | None:
    """Return how another run beside this one evaluates the same network, if there is one."""
    wanted = {name: getattr(job.recipe, name) for name in _EVALUATED}
    for folder in sorted(job.folder.parent.glob("*")):
        with suppress(FileNotFoundError, ValueError):  # no run, or a damaged one
            other = Run.open(folder)
            plans: Mapping[str, Mapping[str, Any]] | None = other.known("plans")
            if plans and all(other.settings.get(name) == value for name, value in wanted.items()):
                return plans
    return None


def _what_goes_wrong(job: Job) -> str | None:
    """Do a job; return what went wrong in one line, or None."""
    try:
        _do(job)
    except Exception as error:
        return in_one_line(error)
    return None


def _in_child(job: Job, share: Mapping[str, str], children: set[subprocess.Popen[str]]) -> tuple[float, str | None]:
    """Do a job in another process; return how long it took and what went wrong."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**share, **os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
        start_new_session=True,  # an interruption from the keyboard is for this process alone
    )
    assert process.stdin is not None
    assert process.stdout is not None
    children.add(process)
    told = {"recipe": asdict(job.recipe), "folder": str(job.folder), "measures": job.measures, "group": job.group}
    try:
        # The pipe stays open as long as this process lives: that is how the other knows.
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        said = process.stdout.read().splitlines()
    except BrokenPipeError:
        said = []
    code = process.wait()
    process.stdin.close()
    process.stdout.close()
    children.discard(process)
    if code == 0 and said:
        wrong: str | None = json.loads(said[-1])
    else:
        wrong = f"its process was ended by signal {-code}" if code < 0 else f"its process ended with code {code}"
    return time.monotonic() - begun, wrong


def child() -> None:
    """Do the job that is given on stdin, and print what went wrong; end at once when stdin ends."""
    told = json.loads(sys.stdin.readline())
    threading.Thread(target=_ends_with_stdin, daemon=True).start()
    recipe = Recipe(**told["recipe"] | {"checkpoints": tuple(told["recipe"]["checkpoints"])})
    job = Job(recipe, Path(told["folder"]), tuple(told["measures"]), told["group"])
    with redirect_stdout(sys.stderr):  # what the user's files print
        wrong = _what_goes_wrong(job)
    sys.stdout.write(json.dumps(wrong) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a thread is still reading


def _ends_with_stdin() -> None:
    sys.stdin.read()
    os._exit(1)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
