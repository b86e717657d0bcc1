"""Give every reader, and the command line, files and words that nobody meant to write.

    python benchmarks/fuzz.py [--inputs 12000] [--seed 0] [--engine atheris]

Real files are changed: bit by bit, and part by part with checksums that fit. A reader may raise what it says that it
raises, a command may end with code 0, 1 and one line, or 2; each within seconds, and in little memory. Inputs are
found by atheris where it is installed, guided by what code they reach, else by Hypothesis. Prints one table and keeps
it in benchmarks/results/fuzz.md; numbers and environment go to fuzz.json beside it. Not for Windows.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import inspect
import io
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
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from environment import environment, keep
from typer.testing import CliRunner

from topolandscape import cli
from topolandscape.files import Run, read_surface
from topolandscape.files.checked import arrays_in
from topolandscape.files.nouns import unpacked
from topolandscape.files.runs import _sealed
from topolandscape.landscape.checkpoints import checkpoints
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Barcode
from topolandscape.study import Recipe, read_study, run, run_surface
from topolandscape.topology.complexes import grid
from topolandscape.topology.merge import merge_tree
from topolandscape.zoo import dataset, network

RESULTS = Path(__file__).parent / "results"
SECONDS, MEMORY = 20, 2**31  # that one input may take
SMALL = Recipe(
    model="mlp:2-2-1,tanh",
    data="teacher_student",
    weight_decay=1e-3,
    minima=3,
    steps=20,
    record_every=10,
    evaluations=300,
    dtype="float64",
)
PLANS = {kind: {"form": "wide", "chunk": 16, "rows": 200} for kind in ("values", "gradients", "products")}
TOML = """model = ["mlp:2-2-1,tanh", "mlp:2-3-1"]
data = "teacher_student"
seed = [0, 1]
learning_rate = [0.01, 0.1]
measures = ["distance"]
load = "model"
"""
# Values that are not meant.
ODD = (
    *(None, True, False, -1, 0, 1, 2, 2**31, 2**70, -(2**63), 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "\0", "ü" * 50, "../../etc/passwd", "/etc/passwd", "minimum", "mlp:2-2-1", "file.py:build"),
    *([], {}, [[]], {"": {}}, [1, "2", None], list(range(50))),
)


# --------------------------------------------------------------------------------------------------------------
# Files that nobody meant to write
# --------------------------------------------------------------------------------------------------------------


def edited(data: bytes, draw: random.Random) -> bytes:
    """Return the contents of a file, changed in a few places."""
    for _ in range(draw.choice((0, 1, 1, 2, 4, 8))):
        place = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0 if place < len(data):
                data = data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
            case 1:
                data = data[:place]
            case 2:
                data = data[:place] + draw.randbytes(draw.choice((1, 4, 8))) + data[place:]
            case 3:
                data = data[:place] + b"\xff" * 8 + data[place + 8 :]
            case _:
                data = data[:place] + data[draw.randrange(len(data) + 1) :]
    return data


def twisted(value: Any, draw: random.Random) -> Any:
    """Return plain values, of which one is another one, left out, or given another name."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        name = draw.choice(list(value))
        match draw.randrange(8):
            case 0:
                return {key: part for key, part in value.items() if key != name}
            case 1:
                return value | {str(draw.choice(ODD)): value[name]}
            case _:
                return value | {name: twisted(value[name], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], twisted(value[place], draw), *value[place + 1 :]]
    return draw.choice(ODD)


def twisted_array(array: Any, draw: random.Random) -> Any:
    """Return an array of another type or shape, or with other numbers."""
    match draw.randrange(6):
        case 0:
            return array.astype(draw.choice(("float64", "int64", "uint8", "float16", "bool", "U3", "int8")))
        case 1:
            return array[: draw.randrange(len(array) + 1)] if array.ndim else array
        case 2:
            return array.reshape(draw.choice(((-1,), (1, *array.shape), (*array.shape, 1), (-1, 1))))
        case 3:
            return np.concatenate([array, array]) if array.ndim else array
        case _:
            other = array.copy().reshape(-1)
            numbers = (np.nan, np.inf, -np.inf, 1e308, 0.0) if array.dtype.kind == "f" else (-1, 0, 7, 2**31, -(2**60))
            if other.size and array.dtype.kind in "fiu":
                with np.errstate(all="ignore"):
                    other[draw.randrange(other.size)] = np.array(draw.choice(numbers)).astype(array.dtype)
            return other.reshape(array.shape)


def twisted_noun(data: bytes, draw: random.Random) -> bytes:
    """Return the file of a noun of which one part is another one, whole as a file."""
    arrays: dict[str, Any] = dict(arrays_in(data))
    header = json.loads(arrays.pop("header").tobytes())
    for _ in range(draw.choice((0, 1, 1, 2))):
        name = draw.choice(["", "", *arrays])
        if name:
            arrays[name] = twisted_array(arrays[name], draw)
        else:
            header = twisted(header, draw)
    if draw.random() < 0.1 and arrays:
        arrays.pop(draw.choice(list(arrays)))
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **{name or "_": array for name, array in arrays.items()})
    return stream.getvalue()


# --------------------------------------------------------------------------------------------------------------
# Who reads them
# --------------------------------------------------------------------------------------------------------------


class Target(NamedTuple):
    """A reader: real files for it (none: it draws what is changed), how an input is read, what it may raise."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], Any]
    allowed: tuple[type[Exception], ...] = (ValueError, OSError)
    share: float = 1.0


@cache
def real_runs() -> tuple[Run, ...]:
    """Return a run of each kind."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    np.save(folder / "surface.npy", np.add.outer(np.cos(np.arange(12.0)), np.sin(np.arange(9.0))))
    sample = Recipe(model="mlp:2-2-1,tanh", data="teacher_student", route="sample", steps=5, resolution=9)
    return (
        run(SMALL, folder / "minima", plans=PLANS, progress=False),
        run(sample, folder / "plane", plans=PLANS, progress=False),
        run_surface(folder / "surface.npy", folder / "surface", max_dim=1),
    )


def noun_files() -> list[bytes]:
    return [path.read_bytes() for done in real_runs() for path in sorted(done.path.rglob("*.npz"))]


def read_noun(data: bytes, folder: Path) -> None:
    unpacked(data, folder / "noun.npz")


def read_noun_of_parts(data: bytes, folder: Path) -> None:
    draw = random.Random(data)
    unpacked(twisted_noun(draw.choice(noun_files_once()), draw), folder / "noun.npz")


@cache
def noun_files_once() -> tuple[bytes, ...]:
    return tuple(noun_files())


def manifests() -> list[bytes]:
    return [(done.path / "manifest.json").read_bytes() for done in real_runs()]


def read_run(data: bytes, folder: Path) -> None:
    (folder / "manifest.json").write_bytes(data)
    opened = Run.open(folder)
    opened.known("plans")
    with suppress(FileNotFoundError):
        opened.load("barcode", Barcode)


def read_sealed_run(data: bytes, folder: Path) -> None:
    draw = random.Random(data)
    told = json.loads(draw.choice(manifests()))
    told.pop("sha256")
    read_run(_sealed(twisted(told, draw)), folder)


def surface_files(ending: str) -> Callable[[], list[bytes]]:
    def files() -> list[bytes]:
        losses, axis = np.add.outer(np.cos(np.arange(12.0)), np.arange(9.0)), np.arange(9.0)
        stream = io.BytesIO()
        if ending == ".npy":
            several = []
            for array in (losses, losses.astype(np.float32), np.asfortranarray(losses), losses[0], losses[None, None]):
                stream = io.BytesIO()
                np.save(stream, array)
                several.append(stream.getvalue())
            return several
        if ending == ".npz":
            np.savez_compressed(stream, loss=losses[:9], coordinates=np.stack([axis, axis]))
            other = io.BytesIO()
            np.savez(other, losses)
            return [stream.getvalue(), other.getvalue()]
        if ending == ".csv":
            np.savetxt(stream, losses, delimiter=",")
            return [stream.getvalue(), b"1,2\n3,nan\n", b"0x1p3,1e400\n-0,inf"]
        import h5py

        with h5py.File(stream, "w") as file:
            file["xcoordinates"], file["ycoordinates"], file["train_loss"] = np.arange(12.0), axis, losses
        return [stream.getvalue()]

    return files


def read_surface_file(ending: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        (folder / f"surface{ending}").write_bytes(data)
        samples = read_surface(folder / f"surface{ending}")
        if len(samples) < 5000:
            merge_tree(grid(samples, connectivity="full", nonfinite="infinite"))

    return read


@cache
def small_landscape() -> Landscape:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    return Landscape.from_module(module, torch.zeros(3, 2), torch.zeros(3, 1), loss=torch.nn.functional.mse_loss)


def checkpoint_files() -> list[bytes]:
    landscape = small_landscape()
    state = landscape.module_at(landscape.point).state_dict()
    files = []
    for source, zipped in ((state, True), ({"epoch": 3, "state_dict": state}, True), (state, False)):
        stream = io.BytesIO()
        torch.save(source, stream, _use_new_zipfile_serialization=zipped)
        files.append(stream.getvalue())
    return files


def read_checkpoint(data: bytes, folder: Path) -> None:
    checkpoints(small_landscape(), {"file.pt": data})


def read_toml(data: bytes, folder: Path) -> None:
    (folder / "study.toml").write_bytes(data)
    read_study(folder / "study.toml").recipes()


def read_names(data: bytes, folder: Path) -> None:
    draw, names = random.Random(data), data.decode(errors="replace").splitlines() or [""]
    with suppress(ValueError):
        network(names[0])
    with suppress(ValueError):
        dataset(names[-1])
    options = {name: draw.choice(ODD) for name in draw.sample(sorted(Recipe.__dataclass_fields__), 2)}
    Recipe(**{"model": names[0], "data": names[-1], **options}).settings()


def invoke(words: list[str], folder: Path) -> None:
    """Give a command, in a folder; refuse anything but success, one line, or what is said of wrong words."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(cli.app, words)
    finally:
        os.chdir(before)
    said = f"{words} ended with {result.exit_code}: {result.stderr}"
    assert result.exception is None or isinstance(result.exception, SystemExit), f"{said} {result.exception!r}"
    assert result.exit_code in (0, 1, 2), said
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.exit_code != 1 or (len(lines) == 1 and lines[0].startswith("topolandscape: ")), said
    assert "Traceback" not in result.stderr + result.stdout, said


def command_on_run(data: bytes, folder: Path) -> None:
    """Change one file of a run, with a checksum that fits, and give a command that reads it."""
    draw = random.Random(data)
    place = folder / "run"
    shutil.copytree(draw.choice(real_runs()).path, place)
    opened = Run.open(place)
    file = draw.choice([name for name in opened._manifest["files"] if name.endswith(".npz")])
    opened._add(file, twisted_noun((place / file).read_bytes(), draw))
    if draw.random() < 0.3:
        told = opened._manifest
        (place / "manifest.json").write_bytes(_sealed(told | {"settings": twisted(told["settings"], draw)}))
    words = draw.choice((["export", "run", "bars.csv"], ["export", "run", "page.html"], ["compare", "run", str(place)]))
    invoke(list(words), folder)


def command_line(data: bytes, folder: Path) -> None:
    """Give a command with words drawn at random, of those that are known and of others."""
    import typer

    draw = random.Random(data)
    np.save(folder / "surface.npy", np.cos(np.arange(9.0)))
    (folder / "study.toml").write_text(TOML)
    commands = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    name = draw.choice([*(key for key in commands if key != "explore"), "nothing"])
    words = [name]
    flags = [flag for option in commands[name].params for flag in option.opts] if name in commands else ["--seed"]
    given = [
        "surface.npy",
        "study.toml",
        "missing.npz",
        ".",
        "mlp:2-2-1",
        "teacher_student",
        "mlp:0",
        "three_hump_camel",
    ]
    for _ in range(draw.randrange(5)):
        match draw.randrange(3):
            case 0:
                words.append(draw.choice(given))
            case 1:
                words += [
                    draw.choice([flag for flag in flags if flag.startswith("-")] or ["-x"]),
                    str(draw.choice(ODD)),
                ]
            case _:
                words.append(str(draw.choice(ODD)))
    if name == "barcode":
        words += ["--steps", "1", "--minima", "2", "--evaluations", "10", "--max-evaluations", "5"]
    if name == "compare":
        words += ["--measures", "x"]  # which is refused before anything is computed
    if name == "functions":
        words += ["--resolution", "11"]
    invoke([word.replace("\0", "") for word in words], folder)


TARGETS: dict[str, Target] = {
    "nouns (.npz), by bytes": Target(noun_files, read_noun, (ValueError,), 3),
    "nouns, part by part": Target(list, read_noun_of_parts, (ValueError,), 3),
    "manifests, by bytes": Target(manifests, read_run, share=2),
    "manifests, part by part, checksums that fit": Target(list, read_sealed_run, share=2),
    **{
        f"surfaces ({ending})": Target(surface_files(ending), read_surface_file(ending), (ValueError,))
        for ending in (".npz", ".npy", ".csv", ".h5")
    },
    "checkpoints": Target(checkpoint_files, read_checkpoint, (ValueError, TypeError, ImportError)),
    "studies (.toml)": Target(lambda: [TOML.encode()], read_toml, (ValueError,), 2),
    "names and recipes": Target(
        lambda: [b"mlp:2-3-1,tanh\ndigits", b"conv:1x8x8-4-2\niris"], read_names, (ValueError, TypeError)
    ),
    "commands on runs, part by part": Target(list, command_on_run, (), 0.3),
    "command lines": Target(list, command_line, (), 0.3),
}


# --------------------------------------------------------------------------------------------------------------
# Engines
# --------------------------------------------------------------------------------------------------------------


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
