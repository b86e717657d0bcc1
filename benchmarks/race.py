"""Race topolandscape against other programs on the same work, and write down what came out.

    python benchmarks/peers/install.py      # once: the environments of the peers, in build/peers
    python benchmarks/race.py [--only ROW ...] [--repeat 3]

Every entrant is a process of its own; all are prepared, run once to warm up, and then run in turn. Answers are checked.
Prints one table and keeps it in benchmarks/results/race.md; numbers and environment go to race.json beside it. Then the
tables of truths: see benchmarks/correctness.py.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import correctness
import numpy as np
from contest import contest, whole
from environment import environment, keep
from peers.install import BUILD, ENVIRONMENTS
from rows import Row, bars_of_search, rows, verdicts

from topolandscape.zoo import functions

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("topolandscape", "torch", "numpy", "numba")


def main() -> None:
    parser = argparse.ArgumentParser(description="Race topolandscape against other programs on the same work.")
    parser.add_argument("--only", nargs="*", help="rows: " + ", ".join(row.key for row in rows()) + ", correctness")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each in turn, of which the fastest counts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for race.json and race.md")
    arguments = parser.parse_args()
    chosen = [row for row in rows() if arguments.only is None or row.key in arguments.only]

    start = time.perf_counter()
    record: dict[str, Any] = {"environment": {**environment(*PACKAGES), "peers": versions()}, "rows": []}
    for row in chosen:
        record["rows"] += race(row, arguments.repeat)
        record["seconds"] = time.perf_counter() - start
        keep(arguments.output, "race", record, markdown(record))
    print(markdown(record))
    if arguments.only is None or "correctness" in arguments.only:
        correctness.write(arguments.output, record["rows"])


def versions() -> dict[str, Any]:
    """Return the versions of the peers, and what did not install with its error."""
    found: dict[str, Any] = {}
    for name, packages in ENVIRONMENTS.items():
        folders = [str(folder) for folder in (BUILD / name).glob("lib/python*/site-packages")]
        known = {package.name.lower(): package.version for package in distributions(path=folders)}
        found |= {package: known[package] for package in packages if package in known}
    failed = BUILD / "failed.json"
    return found | {"failed": json.loads(failed.read_text()) if failed.exists() else {}}


def race(row: Row, repeat: int) -> list[dict[str, Any]]:
    """Return one line an entrant, ours first."""
    work = row.work()
    if row.whole:
        outcomes = {
            entrant.name: whole(entrant, work, repeat=min(repeat, 2), patience=row.patience) for entrant in row.entrants
        }
    else:
        outcomes = contest(row.entrants, work, repeat=repeat, patience=row.patience)
    words = verdicts(row, work, outcomes)
    ours = next(iter(outcomes.values())).best
    lines = []
    for name, outcome in outcomes.items():
        best = outcome.best
        answer = outcome.answer or {}
        lines.append(
            {
                "row": row.key,
                "work": row.title,
                "who": name,
                "seconds": best,
                "all_seconds": outcome.seconds,
                "ratio": None if best is None or ours is None else best / ours,
                "peak": outcome.peak,
                "calls": int(answer["calls"]) if "calls" in answer else None,
                "bars": bars_of_function(row, answer),
                "answer": words[name],
            }
        )
        print(f"{row.key}, {name}: {lines[-1]['seconds']} s, {lines[-1]['answer']}", flush=True)
    return lines


def bars_of_function(row: Row, answer: dict[str, Any]) -> str | None:
    """Return how right the bars of a search for minima and saddles are, for the tables of truths."""
    if "calls" not in answer:
        return None
    known = functions[row.key.removeprefix("function-")]
    return correctness.judged({"bars": bars_of_search(answer, known)}, {"bars": np.array(known.bars[0])})


def markdown(record: dict[str, Any]) -> str:
    """Return the rows as a table."""
    table = [
        "| work | who | seconds | times ours | peak memory (MB) | answer |",
        "|---|---|--:|--:|--:|---|",
    ]
    before = None
    for line in record["rows"]:
        work = "" if line["row"] == before else line["work"]
        before = line["row"]
        seconds = "-" if line["seconds"] is None else f"{line['seconds']:.3g}"
        ratio = "-" if line["ratio"] is None else f"{line['ratio']:.2g}"
        peak = f"{line['peak'] / 1e6:,.0f}" if line["peak"] else "-"
        answer = line["answer"].replace("|", "\\|")
        table.append(f"| {work} | {line['who']} | {seconds} | {ratio} | {peak} | {answer} |")
    return "\n".join(table) + "\n"


if __name__ == "__main__":
    main()
