"""Compare our merge sweep with other programs, and write down what came out.

    python benchmarks/merge.py [--max-size 1e6] [--repeat 3]

Prints one table and keeps it in benchmarks/results/merge.md; numbers and environment go to merge.json beside it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from cases import DEFAULT_MAX_SIZE, ENGINES, Case, applies, case, names, warm_up
from environment import environment, keep

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
        keep(arguments.output, "merge", record, markdown(record["rows"]))
    print(markdown(record["rows"]))


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
                "equal": bool(np.array_equal(answer, drawn.reference)),
            }
        )
        rows[-1]["ratio"] = rows[-1]["seconds"] / rows[0]["seconds"]
        print(f"{drawn.name}, {drawn.n} vertices, {engine}: {min(seconds):.3g} s", flush=True)
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    lines = [
        "| case | n | edges | engine | seconds | ratio to ours | bars | bars equal |",
        "|---|--:|--:|---|--:|--:|--:|---|",
    ]
    lines += [
        f"| {row['case']} | {row['n']:,} | {row['edges']:,} | {row['engine']} | {row['seconds']:.3g} | "
        f"{row['ratio']:.2g} | {row['bars']:,} | {'yes' if row['equal'] else '**no**'} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
