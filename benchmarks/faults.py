"""Put runs through what can happen to them: killed processes, full disks, damaged files, two processes at once.

    python benchmarks/faults.py [--kills 50] [--damages 400] [--seed 0]

After each fault the run ends with the same bits as one that was left alone, or a command ends with one line and code 1,
and with the same bits once the cause is gone. Prints one table and keeps it in benchmarks/results/faults.md; numbers
and environment go to faults.json beside it. Needs Linux; disks are filled where the user may mount them.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    # Processes are forked after everything was compiled or loaded, which threads would not survive.
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "workqueue"}

from environment import environment, keep
from killing import COMMAND, TASKS, Ended, assert_same, begun, command, contents, ended, prepare, study_runs

from topolandscape.files import Run, load

RESULTS = Path(__file__).parent / "results"

# --------------------------------------------------------------------------------------------------------------
# Faults
# --------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """How often a fault was tried, and how often a run went on at once, or after one line."""

    fault: str
    tried: int
    went_on: int
    one_line: int


def kills(folder: Path, name: str, times: int, draw: random.Random) -> Iterator[Row]:
    """Kill a task before operations drawn at random, now once and now twice on its way, and go on."""
    task = TASKS[name]

    def ending(place: Path, at: int = 0) -> Ended:
        return ended(*begun(lambda: task(place), place, at=at))

    whole = ending(folder / "left alone")
    assert whole.code == 0, whole.stderr
    wanted = contents(folder / "left alone")
    killed = 0
    while killed < times:
        place = folder / f"killed {killed}"
        for _ in range(1 + killed % 2):
            at = draw.randint(1, whole.operations)
            end = ending(place, at)
            assert end.code in (0, -signal.SIGKILL), end.stderr
            if end.code == 0:  # what was left to do took fewer operations
                break
            killed += 1
        end = ending(place)
        assert end.code == 0, end.stderr
        assert_same(place, wanted, f"{name}, killed before operation {at}")
        shutil.rmtree(place)
    shutil.rmtree(folder / "left alone")
    yield Row(f"killed, at one of {whole.operations} operations on files: {name}", killed, killed, 0)


@contextmanager
def disk(place: Path, size: int) -> Iterator[bool]:
    """Let a folder be a disk of so many bytes, where that is allowed; tell whether it is."""
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", place], check=True)
        shutil.rmtree(place)


def mounted_again(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def full_disks(folder: Path, wanted: dict[str, Any], size: int, times: int, draw: random.Random) -> Iterator[Row]:
    """Let the disk be full at some point; make room, and give the command again."""
    lines = went_on = 0
    way = "a disk of its own"
    for _ in range(times):
        room = int(size * draw.uniform(0.05, 1.0))
        with disk(folder / "full", room) as is_disk:
            place = folder / "full" / "run"

            def limited(place: Path = place, room: int = room) -> None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (room // 20, room // 20))
                command(*COMMAND, place)()

            do = command(*COMMAND, place) if is_disk else limited
            way = way if is_disk else "a largest size of files"
            end = ended(*begun(do, place))
            assert end.code == 0 or (end.is_one_line and "no room" in end.stderr), end.stderr
            assert not list(place.rglob("*.partial"))
            lines, went_on = lines + end.code, went_on + 1 - end.code
            if is_disk:
                mounted_again(folder / "full", f"size={100 * size}")
            end = ended(*begun(command(*COMMAND, place), place))
            assert end.code == 0, end.stderr
            assert_same(place, wanted, "after a full disk")
    yield Row(f"the disk is full ({way})", times, went_on, lines)


def read_only(folder: Path, whole: Path, wanted: dict[str, Any], operations: int) -> Iterator[Row]:
    """Forbid to write into folders of runs, one finished and one not."""
    lines = 0
    with disk(folder / "fixed", 2**26) as is_disk:
        place = folder / "fixed" / "run"
        assert ended(*begun(command(*COMMAND, place), place, at=operations // 2)).code == -signal.SIGKILL
        shutil.copytree(whole, folder / "fixed" / "whole")
        if is_disk:
            mounted_again(folder / "fixed", "ro")
        elif os.geteuid() == 0:  # to whom modes mean nothing
            return
        else:
            for part in [folder / "fixed", *(folder / "fixed").rglob("*")]:
                part.chmod(0o555 if part.is_dir() else 0o444)
        bars = ["export", folder / "fixed" / "whole"]
        for words in ([*COMMAND, place], [*bars, folder / "fixed" / "bars.csv"], [*COMMAND, folder / "fixed" / "new"]):
            end = ended(*begun(command(*words), folder))
            assert end.is_one_line, end.stderr
            assert "cannot be written" in end.stderr, end.stderr
            lines += 1
        end = ended(*begun(command(*bars, folder / "bars.csv"), folder))
        assert end.code == 0, end.stderr
        if is_disk:
            mounted_again(folder / "fixed", "rw")
        else:
            for part in [folder / "fixed", *(folder / "fixed").rglob("*")]:
                part.chmod(0o755 if part.is_dir() else 0o644)
        assert ended(*begun(command(*COMMAND, place), place)).code == 0
        assert_same(place, wanted, "after a read-only folder")
    yield Row("the folder is read-only", lines + 1, 1, lines)


def two_at_once(
    folder: Path, wanted: dict[str, Any], operations: int, times: int, draw: random.Random
) -> Iterator[Row]:
    """Stop a process in the middle, begin another in the same folder, and let the first one go on."""
    lines = 0
    for number in range(times):
        place = folder / f"two {number}"
        at = draw.randint(operations // 10, operations - 1)
        first = begun(command(*COMMAND, place), place, at=at, by=signal.SIGSTOP)
        os.waitid(os.P_PID, first[0], os.WSTOPPED)
        second = ended(*begun(command(*COMMAND, place), place))
        os.kill(first[0], signal.SIGCONT)
        end = ended(*first)
        assert end.code == 0, end.stderr
        assert second.is_one_line, second.stderr
        assert "another process computes in" in second.stderr, second.stderr
        assert_same(place, wanted, "two at once")
        lines += 1
    yield Row("two processes at one run", times, times, lines)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Return the contents of a file with a bit flipped, cut off, partly zero, or with something behind."""
    place = draw.randrange(len(data))
    match draw.randrange(4):
        case 0:
            return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
        case 1:
            return data[:place]
        case 2:
            return data[:place] + bytes(min(512, len(data) - place)) + data[place + 512 :]
        case _:
            return data + draw.randbytes(20)


def damages(whole: Path, wanted: dict[str, Any], times: int, draw: random.Random) -> Iterator[Row]:
    """Damage one file after the other; read everything."""
    files = sorted(
        path for path in whole.rglob("*") if path.is_file() and path.name != ".lock" and path.suffix != ".png"
    )
    named = same = 0
    for number in range(times):
        file = files[number % len(files)]
        data = file.read_bytes()
        file.write_bytes(damaged(data, draw))
        try:
            opened = Run.open(whole)
            for name in opened._manifest["files"]:
                opened._checked(name)
        except ValueError as error:
            said = str(error)
            named += 1
        else:
            said = str(file)
            same += 1
            assert_same(whole, wanted, f"with damage to {file.name}")
        assert str(file) in said, f"{said} does not name {file}"
        if file.suffix == ".npz":  # also without the checksum
            with suppress(ValueError):
                load(file)
        file.write_bytes(data)
    yield Row(f"a file of a run is damaged (each of {len(files)})", times, same, named)


def damages_by_command(whole: Path, wanted: dict[str, Any], draw: random.Random) -> Iterator[Row]:
    """Damage a file of each kind; run the command, remove the file that it names, and run it again."""
    lines = went_on = 0
    for name in ("manifest.json", "descents.npz", "minima.npz", "network.npz", "barcode.npz", "profiles/0000.npz"):
        place = whole.with_name("damaged")
        shutil.copytree(whole, place)
        (place / "barcode.npz").unlink()  # so that something is left to do
        if name == "barcode.npz":
            (place / name).write_bytes(damaged((whole / name).read_bytes(), draw))
        else:
            (place / name).write_bytes(damaged((place / name).read_bytes(), draw))
        broken = (place / name).read_bytes()
        before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path != place / name}
        end = ended(*begun(command(*COMMAND, place), place))
        assert end.code == 0 or end.is_one_line, end.stderr
        if end.code == 1:
            assert str(place / name) in end.stderr, end.stderr
            assert all(path.read_bytes() == data for path, data in before.items())
            lines += 1
            if name == "manifest.json":
                (place / name).write_bytes((whole / name).read_bytes())
            else:
                (place / name).unlink()
            end = ended(*begun(command(*COMMAND, place), place))
            assert end.code == 0, end.stderr
        else:
            went_on += 1
            if (place / name).read_bytes() == broken:  # nobody needed it
                (place / name).write_bytes((whole / name).read_bytes())
        assert_same(place, wanted, f"after damage to {name}")
        shutil.rmtree(place)
    yield Row("a file is damaged; the command, and again without that file", lines + went_on, went_on, lines)


def little_memory(folder: Path, times: int, draw: random.Random) -> Iterator[Row]:
    """Let memory run out where half a gigabyte of it is asked for, when a run begins to compute."""
    lines = went_on = 0
    words = ("barcode", "mlp:64-256-10", "digits", "--region", "random", "--resolution", "24", "--steps", "1", "--out")
    planned = study_runs._plans

    def many(*given: Any) -> dict[str, Any]:
        return {kind: plan | {"chunk": 512, "rows": 1024} for kind, plan in planned(*given).items()}

    for number in range(times):
        place, more = folder / f"little {number}", int(2 ** draw.uniform(20, 30))

        def limited(*given: Any, more: int = more) -> dict[str, Any]:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + more
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            return many(*given)

        study_runs._plans = limited
        end = ended(*begun(command(*words, place), place))
        # Before the line there may be warnings, of threads for which there was no memory.
        said = end.stderr.strip().splitlines()
        assert end.code == 0 or (end.code == 1 and "memory" in said[-1] and "Traceback" not in end.stderr), end.stderr
        lines, went_on = lines + (end.code == 1), went_on + (end.code == 0)
        study_runs._plans = many
        end = ended(*begun(command(*words, place), place))
        assert end.code == 0, end.stderr
        shutil.rmtree(place)
    study_runs._plans = planned
    yield Row("memory runs out", times, went_on, lines)


def jumping_clock(folder: Path, wanted: dict[str, Any], operations: int, draw: random.Random) -> Iterator[Row]:
    """Let the clock jump by years and give files the times of others, while a run is stopped and goes on."""
    place = folder / "clock"

    def jumping() -> None:
        time.time = lambda: draw.uniform(-1e9, 4e9)
        command(*COMMAND, place)()

    assert ended(*begun(jumping, place, at=operations // 2)).code == -signal.SIGKILL
    for path in place.rglob("*"):
        os.utime(path, (draw.uniform(0, 4e9),) * 2)
    end = ended(*begun(jumping, place))
    assert end.code == 0, end.stderr
    assert_same(place, wanted, "with a clock that jumps")
    yield Row("the clock jumps, files have other times", 1, 1, 0)


# --------------------------------------------------------------------------------------------------------------
# The table
# --------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Put runs through what can happen to them.")
    parser.add_argument("--kills", type=int, default=50, help="processes that are killed")
    parser.add_argument("--damages", type=int, default=400, help="files that are damaged and read")
    parser.add_argument("--times", type=int, default=5, help="of full disks, little memory, two processes each")
    parser.add_argument("--tasks", type=int, default=len(TASKS), help="how many of the tasks are killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for faults.json and faults.md")
    arguments = parser.parse_args()
    tasks = list(TASKS)[: arguments.tasks]
    prepare([TASKS[name] for name in tasks])
    begin, draw, rows = time.monotonic(), random.Random(arguments.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        whole = folder / "whole"
        end = ended(*begun(command(*COMMAND, whole), whole, at=0))
        assert end.code == 0, end.stderr
        wanted, operations = contents(whole), end.operations
        size = sum(path.stat().st_size for path in whole.rglob("*"))
        faults = (
            *(kills(folder, name, -(-arguments.kills // len(tasks)), draw) for name in tasks),
            full_disks(folder, wanted, size, arguments.times, draw),
            read_only(folder, whole, wanted, operations),
            two_at_once(folder, wanted, operations, arguments.times, draw),
            damages(whole, wanted, arguments.damages, draw),
            damages_by_command(whole, wanted, draw),
            little_memory(folder, arguments.times, draw),
            jumping_clock(folder, wanted, operations, draw),
        )
        for fault in faults:
            for row in fault:
                rows.append(row)
                print(f"{time.monotonic() - begin:6.0f} s  {row.fault}: {row.tried}", file=sys.stderr, flush=True)
    report(rows, arguments)


def report(rows: list[Row], arguments: argparse.Namespace) -> None:
    """Print the table, and keep it."""
    settings = {name: getattr(arguments, name) for name in ("kills", "damages", "times", "seed")}
    record = {
        "environment": environment("topolandscape"),
        "settings": settings,
        "rows": [row._asdict() for row in rows],
    }
    keep(arguments.output, "faults", record, markdown(record))
    print(markdown(record))


def markdown(record: dict[str, Any]) -> str:
    """Return the rows as a table."""
    lines = ["| fault | times | went on by itself | went on after one line |", "|---|---:|---:|---:|"]
    lines += [f"| {row['fault']} | {row['tried']} | {row['went_on']} | {row['one_line']} |" for row in record["rows"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
