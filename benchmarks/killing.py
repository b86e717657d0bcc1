"""What is done to be killed, and processes that are, at any of their operations on files.

Between two operations the disk does not change, so that whenever a process is killed, it leaves what one of these kills
leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import topolandscape.files.runs as runs
import topolandscape.study.measures as measures
import topolandscape.study.runs as study_runs
import topolandscape.study.sample_route as sample_route
from topolandscape import cli
from topolandscape.files.checked import array_in, arrays_in
from topolandscape.structures import journal
from topolandscape.study import Recipe, Study, run, run_study, run_surface, write_report

NETWORK = {"model": "mlp:2-2-1,tanh", "data": "teacher_student"}
MINIMA = Recipe(
    **NETWORK,
    weight_decay=1e-3,
    minima=3,
    steps=12,
    record_every=5,
    max_evaluations=60,
    evaluations=800,
    dtype="float64",
)
HULL = Recipe(**NETWORK, route="sample", region="hull", starts=3, steps=8, points=150, neighbours=8)
STUDY = Study(
    {
        **NETWORK,
        "seed": [0, 1],
        "minima": 3,
        "steps": 3,
        "weight_decay": 1e-3,
        "max_evaluations": 20,
        "evaluations": 100,
    },
    measures=("distance", "hessian_top", "mode_connectivity"),
)
# Hessians that are not there as matrices, and rounds of a hundred calls of the loss engine.
LARGER = Recipe(
    model="mlp:64-5-10,tanh",
    data="digits",
    weight_decay=1e-3,
    minima=3,
    steps=4,
    max_evaluations=12,
    evaluations=300,
    dtype="float64",
)
# 78,125 points, of which 16,384 are in memory at a time.
GRID = Recipe(model="mlp:1-2-1,tanh", data="sine_regression", route="sample", region="grid", resolution=5, memory=8e-3)
GRAPH = Recipe(**NETWORK, route="sample", region="box", points=1500, neighbours=6, memory=1e-4)
OFTEN = 4  # chances to keep what was done that are let go by
COMMAND = [
    *("barcode", NETWORK["model"], NETWORK["data"], "--weight-decay", "1e-3", "--minima", "3", "--steps", "12"),
    *("--max-evaluations", "30", "--evaluations", "500", "--dtype", "float64", "--json", "--out"),
]


class _EverySoOften:
    """A pace that counts how often it is asked, and so is the same each time."""

    def __init__(self) -> None:
        self._asked = 0

    def is_due(self, ahead: float = 0.0) -> bool:
        self._asked += 1
        return self._asked > OFTEN

    def keep(self, save: Callable[[], None]) -> None:
        save()
        self._asked = 0


def prepare(tasks: list[Callable[[Path], Any]]) -> None:
    """Let runs keep everything they do, in small parts, and evaluate in the same way each time; do all once."""
    for name in ("__init__", "is_due", "keep"):
        setattr(journal.Pace, name, getattr(_EverySoOften, name))
    sample_route._PAIRS, sample_route._FEWEST = 1, 200
    runs._SHARD_WORK = 2e5
    measures._PART = 1e6
    cli.pictures = lambda *_, **__: []  # which take longer than all else
    with tempfile.TemporaryDirectory() as folder:
        for number, task in enumerate(tasks):
            task(Path(folder) / str(number))
    kinds = ("values", "gradients", "products")
    study_runs._plans = lambda landscape, route: {
        kind: {"form": "wide", "chunk": 16, "rows": landscape.rows} for kind in kinds
    }


def study(folder: Path) -> None:
    write_report(run_study(STUDY, folder, progress=False), folder)


def merging(folder: Path) -> None:
    x = np.linspace(-3, 3, 60)
    surface = folder.parent / "surface.npy"
    np.save(surface, np.cos(5 * x)[:, None] + np.cos(4 * x) + 0.1 * x**2)
    run_surface(surface, folder, max_dim=1)


TASKS: dict[str, Callable[[Path], Any]] = {
    "descents, polishing, passes": lambda folder: run(MINIMA, folder, progress=False),
    "a grid beyond memory: losses, blocks": lambda folder: run(GRID, folder, progress=False),
    "a larger network: curvatures, a round of passes": lambda folder: run(LARGER, folder, progress=False),
    "a graph beyond memory: losses, neighbours": lambda folder: run(GRAPH, folder, progress=False),
    "a sampled hull: descents, losses, edges": lambda folder: run(HULL, folder, progress=False),
    "a study with trained curves, its report": study,
    "merging a surface": merging,
}


# --------------------------------------------------------------------------------------------------------------
# Processes
# --------------------------------------------------------------------------------------------------------------


class Ended(NamedTuple):
    """How a process ended: its code, below 0 for a signal; what it wrote on stderr; its operations on files."""

    code: int
    stderr: str
    operations: int

    @property
    def is_one_line(self) -> bool:
        """Whether it ended as commands end that cannot go on."""
        return self.code == 1 and self.stderr.startswith("topolandscape: ") and self.stderr.count("\n") == 1


def begun(do: Callable[[], Any], folder: Path, *, at: int = 0, by: int = signal.SIGKILL) -> tuple[int, Path]:
    """Do something in another process, to which a signal comes before its `at`-th operation on files in a folder.

    Between two operations the disk does not change: whenever a process is killed, it leaves what one of these kills
    leaves. Returns the process, and where it says what.
    """
    said = Path(tempfile.mkdtemp())
    child = os.fork()
    if child:
        return child, said
    code: Any = 70
    try:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), descriptor)
        operations = count_operations(folder, at, by)
        try:
            do()
            code = 0
        except SystemExit as end:
            code = end.code
        (said / "operations").write_text(str(next(operations) - 1))
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def ended(child: int, said: Path) -> Ended:
    """Wait until a process ends."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    operations = said / "operations"
    result = Ended(code, (said / "stderr").read_text(), int(operations.read_text()) if operations.exists() else 0)
    shutil.rmtree(said)
    return result


def count_operations(folder: Path, at: int, by: int) -> Iterator[int]:
    """Count this process's operations on files in a folder, by the events that Python tells of, and flushes."""
    numbers, flush = count(1), os.fsync

    def operation() -> None:
        if next(numbers) == at:
            os.kill(os.getpid(), by)

    def told(event: str, given: tuple[Any, ...]) -> None:
        written = event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (written or event in ("os.rename", "os.remove", "os.mkdir")) and str(given[0]).startswith(str(folder)):
            operation()

    def flushed(descriptor: int) -> None:
        operation()
        flush(descriptor)

    os.fsync = flushed
    sys.addaudithook(told)
    return numbers


def command(*words: str | Path) -> Callable[[], None]:
    """Return what runs a command."""

    def call() -> None:
        sys.argv = ["topolandscape", *map(str, words)]
        cli.main()

    return call


def contents(folder: Path) -> dict[str, Any]:
    """Return what the runs in a folder hold, but for times: checksums of arrays, and what they found out."""
    assert not list(folder.rglob("*.partial")), "a file that was being written is left"
    found: dict[str, Any] = {}
    for manifest in sorted(folder.rglob("manifest.json")):
        told, place = json.loads(manifest.read_text()), manifest.parent.relative_to(folder)
        found[f"{place}"] = {name: value for name, value in told.get("found", {}).items() if name != "seconds"}
        for name, listed in told["files"].items():
            data = (manifest.parent / name).read_bytes()
            checksums = {listed["sha256"], *listed.get("or", [])}
            assert hashlib.sha256(data).hexdigest() in checksums, f"{manifest.parent / name} is damaged"
            arrays = {"": array_in(data)} if name.endswith(".npy") else arrays_in(data)
            digest = hashlib.sha256()
            for part in sorted(arrays.keys() - {"header"}):  # in the header are times
                digest.update(part.encode() + np.ascontiguousarray(arrays[part]).tobytes())
            found[f"{place / name}"] = digest.hexdigest()
    assert found, "there is no run"
    return found


def assert_same(folder: Path, wanted: dict[str, Any], when: str) -> None:
    found = contents(folder)
    differing = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    assert not differing, f"{when}: {', '.join(differing)} differ from a run that was left alone"
