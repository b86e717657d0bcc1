"""Give every reader, and the command line, files and words that nobody meant to write.

    python benchmarks/fuzz.py [--inputs 12000] [--seed 0] [--engine atheris]

Real files are changed: bit by bit, and part by part with checksums that fit. A reader may raise what it says that it
raises, a command may end with code 0, 1 and one line, or 2; each within seconds, and in little memory. Inputs are
found by atheris where it is installed, guided by what code they reach, else by Hypothesis. Prints one table and keeps
it in benchmarks/results/fuzz.md; numbers and environment go to fuzz.json beside it. Not for Windows.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from environment import environment, keep
from fuzz_targets import TARGETS, edited, real_runs, small_landscape

RESULTS = Path(__file__).parent / "results"
SECONDS, MEMORY = 20, 2**31  # that one input may take


class Slow(BaseException):
    """An input that takes too long; nothing that catches exceptions catches it."""


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise Slow(f"an input takes more than {seconds} s")

    # Of the processor's time: others at work on the machine do not count.
    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def tried(name: str, data: bytes) -> bool:
    """Let a target read an input; tell whether it refused it."""
    target = TARGETS[name]
    folder = Path(tempfile.mkdtemp(prefix="fuzz"))
    try:
        with in_time(SECONDS):
            target.read(data, folder)
    except target.allowed:
        return True
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return False


def inputs(name: str) -> Any:
    """Return the inputs of a target as a strategy of Hypothesis."""
    from hypothesis import strategies as st

    seeds = TARGETS[name].seeds()
    if not seeds:
        return st.binary(min_size=4, max_size=12)
    changed = st.builds(
        lambda data, number: edited(data, random.Random(number)), st.sampled_from(seeds), st.integers(0, 2**32)
    )
    return changed | changed | st.binary(max_size=100)


def by_hypothesis(name: str, number: int, seed: int, count: Callable[[bytes], None]) -> None:
    import hypothesis

    @hypothesis.settings(
        max_examples=number, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.seed(seed)
    @hypothesis.given(inputs(name))
    def each(data: bytes) -> None:
        count(data)

    each()


_GUIDING = (
    *("topolandscape.files", "topolandscape.structures", "topolandscape.study.studies", "topolandscape.study.recipe"),
    *("topolandscape.landscape.checkpoints", "torch._weights_only_unpickler", "tomllib"),
)


def by_atheris(name: str, number: int, seed: int, count: Callable[[bytes], None]) -> None:
    """Give inputs to a target, guided by the code of readers and nouns; the process ends with them."""
    import atheris

    for module in [module for key, module in sys.modules.items() if key.startswith(_GUIDING)]:
        own = [part for part in vars(module).values() if getattr(part, "__module__", "") == module.__name__]
        methods = [part for kind in own if inspect.isclass(kind) for part in vars(kind).values()]
        for function in filter(inspect.isfunction, own + methods):
            atheris.instrument_func(function)
    corpus = Path(tempfile.mkdtemp(prefix="corpus"))
    for place, data in enumerate(TARGETS[name].seeds()):
        (corpus / str(place)).write_bytes(data)
    options = [f"-runs={number}", f"-seed={seed + 1}", "-max_len=100000", f"-artifact_prefix={corpus}/", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], count)
    atheris.Fuzz()


def fuzz(name: str, number: int, seed: int, engine: str, counts: Path) -> None:
    """Give so many inputs to one target, and write down what became of them."""
    for ready in (TARGETS[name].seeds, real_runs, small_landscape):  # before memory is bounded
        ready()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    before, begin, told = peak(), time.monotonic(), {"inputs": 0, "refused": 0}

    def count(data: bytes) -> None:
        told["refused"] += tried(name, data)
        told["inputs"] += 1
        if told["inputs"] % 20 == 0:
            rest = {"seconds": time.monotonic() - begin, "megabytes": (peak() - before) / 2**20}
            counts.write_text(json.dumps(told | rest))

    (by_atheris if engine == "atheris" else by_hypothesis)(name, number, seed, count)


def peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description="Give every reader what nobody meant to write.")
    parser.add_argument("--inputs", type=int, default=12_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    default = "atheris" if importlib.util.find_spec("atheris") else "hypothesis"
    parser.add_argument("--engine", choices=("atheris", "hypothesis"), default=default)
    parser.add_argument("--target", choices=list(TARGETS), help="one alone, in this process")
    parser.add_argument("--counts", type=Path, default=Path(os.devnull), help="file for the counts of one target")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for fuzz.json and fuzz.md")
    arguments = parser.parse_args()
    if arguments.target is not None:
        fuzz(arguments.target, arguments.inputs, arguments.seed, arguments.engine, arguments.counts)
        return
    shares, rows = sum(target.share for target in TARGETS.values()), []
    with tempfile.TemporaryDirectory() as folder:
        for name, target in TARGETS.items():
            number, counts = math.ceil(arguments.inputs * target.share / shares / 20) * 20, Path(folder) / "counts"
            words = ["--target", name, "--inputs", str(number), "--seed", str(arguments.seed)]
            words += ["--engine", arguments.engine, "--counts", str(counts)]
            done = subprocess.run(
                [sys.executable, __file__, *words],
                env=os.environ | {"TMPDIR": folder},
                capture_output=True,
                text=True,
                errors="replace",
            )
            if done.returncode != 0:
                raise SystemExit(f"{name}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}")
            rows.append({"target": name} | json.loads(counts.read_text()))
            print(rows[-1], file=sys.stderr, flush=True)
            counts.unlink()
    report(rows, arguments)


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print the table, and keep it."""
    record = {"environment": environment("topolandscape", "hypothesis"), "rows": rows}
    record["settings"] = {"inputs": arguments.inputs, "seed": arguments.seed, "engine": arguments.engine}
    keep(arguments.output, "fuzz", record, markdown(record))
    print(markdown(record))


def markdown(record: dict[str, Any]) -> str:
    """Return the rows as a table, and their sums."""
    rows = record["rows"]
    lines = ["| reader | inputs | refused | seconds | more memory, MB |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {row['target']} | {row['inputs']} | {row['refused']} | {row['seconds']:.0f} | {row['megabytes']:.0f} |"
        for row in rows
    ]
    lines.append(
        f"| all, by {record['settings']['engine']} | {sum(row['inputs'] for row in rows)} | "
        f"{sum(row['refused'] for row in rows)} | {sum(row['seconds'] for row in rows):.0f} | |"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
