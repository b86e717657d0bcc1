"""Compare our merge sweep with other programs, and write down what came out.

    python benchmarks/merge.py [--max-size 1e6] [--repeat 3]

Prints one table and keeps it in benchmarks/results/merge.md; all times and the environment go to merge.json beside it.
"""

from __future__ import annotations

import argparse
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from cases import DEFAULT_MAX_SIZE, ENGINES, Case, applies, case, names, warm_up
from environment import environment, keep
from peers.homology import sorted_bars

RESULTS = Path(__file__).parent / "results"
LONG_ENOUGH = 15.0  # seconds after which a slow engine is not run again
PACKAGES = ("topolandscape", "numpy", "numba", "gudhi", "ripser", "scipy")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare our merge sweep with other programs.")
    parser.add_argument("--max-size", type=float, default=DEFAULT_MAX_SIZE, help="largest number of vertices")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the fastest counts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for merge.json and merge.md")
    arguments = parser.parse_args()

    warm_up()
    record: dict[str, Any] = {
        "environment": environment(*PACKAGES),
        "settings": {"max_size": arguments.max_size, "repeat": arguments.repeat},
        "rows": [],
    }
    for kind, landscape, size in names(arguments.max_size):
        drawn = case(kind, landscape, size)
        engines = [engine for engine in ENGINES if applies(engine, kind, size)]
        record["rows"] += compare(drawn, engines, arguments.repeat)
        keep(arguments.output, "merge", record, markdown(record))
    print(markdown(record))


def compare(drawn: Case, engines: list[str], repeat: int) -> list[dict[str, Any]]:
    """Return one row an engine, ours first; answers are compared with the reference and with ours."""
    rows = []
    for engine in engines:
        run = ENGINES[engine](drawn)
        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            answer = run()
            seconds.append(time.perf_counter() - start)
            if sum(seconds) > LONG_ENOUGH:
                break
        rows.append(
            {
                "case": drawn.name,
                "n": drawn.n,
                "edges": len(drawn.edges),
                "engine": engine,
                "seconds": min(seconds),
                "all_seconds": seconds,
                "bars": len(answer),
                "equal": bool(np.array_equal(sorted_bars(answer), drawn.reference)),
            }
        )
        rows[-1]["ratio"] = rows[-1]["seconds"] / rows[0]["seconds"]
        print(f"{drawn.name}, {drawn.n} vertices, {engine}: {min(seconds):.3g} s", flush=True)
    return rows


def markdown(record: dict[str, Any]) -> str:
    """Return a table of the fastest runs, a line a case: our seconds, and how many times as long the others take."""
    ours, *others = ENGINES
    lines = [f"| case | vertices | bars | {ours} | {' | '.join(others)} | bars equal |"]
    lines += ["|---|" + "--:|" * (2 + len(ENGINES)) + "---|"]
    for _, group in groupby(record["rows"], key=lambda row: (row["case"], row["n"])):
        rows = {row["engine"]: row for row in group}
        first = rows[ours]
        ratios = [f"{rows[name]['ratio']:.2g}x" if name in rows else "" for name in others]
        wrong = ", ".join(name for name, row in rows.items() if not row["equal"])
        lines.append(
            f"| {first['case']} | {first['n']:,} | {first['bars']:,} | {first['seconds']:.3g} s "
            f"| {' | '.join(ratios)} | {f'**not of {wrong}**' if wrong else 'yes'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
