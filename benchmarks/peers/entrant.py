"""One entrant of the race, in a process of its own, which runs when it is told to.

    python entrant.py MODULE FUNCTION WORK.npz ANSWER.npz

The function takes the arrays of the work by their names, prepares what it needs and returns what is timed: a function
that returns a mapping of arrays. For each line on standard input it is called once, and the seconds are said on
standard output; the first answer is kept. When there are no more lines, the largest memory that the process ever had is
said. What the libraries print goes to standard error.

Several pieces of work may lie in one file, their arrays named PIECE/ARRAY: then one run does all of them, and an error
in one is its answer.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[], dict[str, np.ndarray]]


def main() -> None:
    sys.stdout.flush()
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**words: Any) -> None:
        said.write(json.dumps(words) + "\n")
        said.flush()

    module, function, work, answer = sys.argv[1:]
    try:
        with np.load(work) as arrays:
            run = prepared(getattr(importlib.import_module(module), function), {name: arrays[name] for name in arrays})
        say(ready=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            result = run()
            seconds = time.perf_counter() - start
            if not Path(answer).exists():
                np.savez(answer, **result)
            say(seconds=seconds)
    except Exception as error:  # whatever a library raises belongs into the table
        traceback.print_exc()
        say(error=in_one_line(error))
        return
    say(peak=peak_memory())


def prepared(function: Callable[..., Run], arrays: dict[str, np.ndarray]) -> Run:
    """Return what is timed: the one run of the function, or those of all pieces."""
    if not any("/" in name for name in arrays):
        return function(**arrays)
    pieces: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        piece, _, argument = name.partition("/")
        pieces.setdefault(piece, {})[argument] = array

    def run() -> dict[str, np.ndarray]:
        answers = {}
        for piece, arguments in pieces.items():
            try:
                answer = function(**arguments)()
            except Exception as error:
                answer = {"error": np.array(in_one_line(error))}
            answers |= {f"{piece}/{name}": array for name, array in answer.items()}
        return answers

    return run


def peak_memory() -> int:
    """Return the largest memory of this process in bytes.

    The system's account of a process begins with what its parent held, so Linux is asked for this program alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def in_one_line(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


if __name__ == "__main__":
    main()
