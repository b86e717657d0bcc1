"""Entrants that do the same work, each in a process of its own, in turn on the same machine."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from peers.install import BUILD, python_of

BENCHMARKS = Path(__file__).parent
OURS = "ours"  # the environment in which this runs
# Seconds: the first run is to warm up, whoever's it is, and does not count; one that takes longer than the first number
# does, since what a library does once (it imports, it compiles) hardly shows in it. After so many as the second number
# says, in runs that count, an entrant is not run again.
LONG, ENOUGH = 60.0, 5.0

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Entrant:
    """Who takes part: a name for the table, an environment, and module.function in benchmarks/peers."""

    name: str
    environment: str
    function: str


@dataclass
class Outcome:
    """What came out of one entrant: seconds of its runs, peak memory in bytes, its answer; or an error."""

    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    answer: dict[str, np.ndarray] | None = None
    error: str | None = None

    @property
    def best(self) -> float | None:
        """Seconds of the fastest run."""
        return min(self.seconds) if self.seconds and self.error is None else None


class _Process:
    """An entrant that has begun; every word of it is waited for until a time."""

    def __init__(self, entrant: Entrant, work: Path, folder: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))  # some peers write files where they stand
        self.answer = self.folder / "answer.npz"
        self.outcome = Outcome()
        self.log = (self.folder / "log").open("w+")
        self.process: subprocess.Popen[str] | None = None
        module, function = entrant.function.split(".")
        python = Path(sys.executable) if entrant.environment == OURS else python_of(entrant.environment)
        if missing := _missing(entrant, python):
            self.outcome.error = missing
            return
        self.process = subprocess.Popen(
            [python, BENCHMARKS / "peers" / "entrant.py", module, function, work, self.answer],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            bufsize=1,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{BENCHMARKS.parent}{os.pathsep}{BENCHMARKS}", "MPLBACKEND": "Agg"},
        )

    def hear(self, seconds: float) -> dict[str, Any]:
        """Return the next words; end the process where it says none in time, or an error."""
        assert self.process is not None
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            words: dict[str, Any] = {"error": f"not done in {seconds:.0f} s"}
        else:
            line = self.process.stdout.readline()
            words = json.loads(line) if line else {"error": f"ended by signal {-self.process.wait()}"}
        if "error" in words:
            self.outcome.error = words["error"]
            self.process.kill()
        return words

    def run(self, seconds: float) -> None:
        """Let it run once more, and note the time."""
        assert self.process is not None
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and what it said last is heard below
            self.process.stdin.write("run\n")
        words = self.hear(seconds)
        if "seconds" in words:
            self.outcome.seconds.append(words["seconds"])

    def end(self) -> Outcome:
        """Hear how much memory it took, read its answer, and close."""
        if self.process is not None:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            with suppress(BrokenPipeError):
                self.process.stdin.close()
            if self.outcome.error is None:
                self.outcome.peak = self.hear(60).get("peak", 0)
            self.process.wait()
            self.process.stdout.close()
        if self.outcome.error is None:
            with np.load(self.answer) as arrays:
                self.outcome.answer = {name: arrays[name] for name in arrays}
        self.log.close()
        return self.outcome


def _missing(entrant: Entrant, python: Path) -> str | None:
    if entrant.environment == OURS:
        return None
    if not python.exists():
        return "not installed: python benchmarks/peers/install.py"
    failed = json.loads((BUILD / "failed.json").read_text()) if (BUILD / "failed.json").exists() else {}
    package = entrant.name.split()[0]
    return next((f"does not install: {error}" for name, error in failed.items() if name.startswith(package)), None)


def contest(entrants: Sequence[Entrant], work: Arrays, *, repeat: int, patience: float) -> dict[str, Outcome]:
    """Return what came out of each entrant: prepared and warmed up all, then run in turn.

    Parameters
    ----------
    entrants
        In the order in which they run.
    work
        Arrays, the same for all.
    repeat
        Runs of each after the first, which is to warm up; but of one whose first run is long, no more. With 0 the first
        one counts.
    patience
        Seconds after which a run is given up.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "work.npz"
        np.savez(path, **work)
        processes = {entrant.name: _Process(entrant, path, Path(folder)) for entrant in entrants}
        going = {name: process for name, process in processes.items() if process.process is not None}
        for process in going.values():
            process.hear(patience)
        for process in going.values():
            if process.outcome.error is None:
                process.run(patience)
                if repeat and process.outcome.error is None and process.outcome.seconds[0] < LONG:
                    process.outcome.seconds.pop()
        for _ in range(repeat):
            for process in going.values():
                spent = process.outcome.seconds
                if process.outcome.error is None and sum(spent) < ENOUGH:
                    process.run(patience)
        return {name: process.end() for name, process in processes.items()}


def whole(entrant: Entrant, work: Arrays, *, repeat: int, patience: float) -> Outcome:
    """Return what came out of an entrant when the clock runs from the start of its process to its end."""
    outcome = Outcome()
    for _ in range(repeat):
        start = time.perf_counter()
        one = contest([entrant], work, repeat=0, patience=patience)[entrant.name]
        if one.error is not None:
            return one
        outcome.seconds.append(time.perf_counter() - start)
        outcome.peak, outcome.answer = max(outcome.peak, one.peak), one.answer
        if outcome.seconds[-1] > ENOUGH:
            break
    return outcome
