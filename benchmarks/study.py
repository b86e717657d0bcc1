"""Run the study of docs/studies.md, and write down what came out.

    python benchmarks/study.py              # four networks, five seeds each: ten minutes on two cores

The runs of `make study`, all anew and in a folder that is removed. Prints tables and keeps them in
benchmarks/results/study.md; all numbers and the environment go to study.json beside it, the picture to
docs/images/study.png.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from shutil import copyfile
from typing import Any

from environment import environment, keep

import topolandscape as tl
from topolandscape.study import json_of

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
PACKAGES = ("topolandscape", "torch", "numpy", "numba", "scipy")
SHOWN = ("mean_bar", "longest_bar", "test_error")
JOBS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--pictures", type=Path, default=DOCS / "images", help="folder for study.png")
    arguments = parser.parse_args()

    study = tl.read_study(DOCS / "examples" / "studies" / "digits.toml")
    record: dict[str, Any] = {"environment": environment(*PACKAGES), "jobs": JOBS}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = tl.run_study(study, folder, jobs=JOBS)
        record |= {"seconds": time.perf_counter() - start, **json_of(result)}
        tl.write_report(result, folder)
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        copyfile(Path(folder, "picture.png"), arguments.pictures / "study.png")
    keep(arguments.output, "study", record, markdown(record))
    print(markdown(record))


def markdown(record: dict[str, Any]) -> str:
    """Return how long it took, the groups with intervals over seeds, what tells them apart, and the verdict."""
    words = [name.replace("_", " ") for name in SHOWN]
    lines = [
        f"{len(record['runs'])} runs, {record['jobs']} at once, took {record['seconds'] / 60:.0f} minutes.",
        "",
        f"| network | runs | {' | '.join(words)} |",
        f"|---|--:|{'--:|' * len(words)}",
    ]
    lines += [
        f"| {name} | {group['runs']} | {' | '.join(with_interval(group[score]) for score in SHOWN)} |"
        for name, group in record["groups"].items()
    ]
    lines += ["", f"| difference in {words[0]} | shift | p | corrected | Cliff's delta |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {row['one']} - {row['other']} | {row['shift']['estimate']:.3g} | {row['p']:.2g} | "
        f"{row['corrected']:.2g} | {row['effect']:.2f} |"
        for row in record["differences"]
    ]
    verdict = record["verdict"]
    return "\n".join([*lines, "", f"{verdict[0].upper()}{verdict[1:]}."]) + "\n"


def with_interval(known: dict[str, float]) -> str:
    """Return a mean and half the width of its interval, to a digit of what is certain."""
    half = (known["high"] - known["low"]) / 2
    return f"{known['estimate']:.3g} ± {half:.2g}"


if __name__ == "__main__":
    main()
