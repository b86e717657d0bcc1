"""Measure what tasks cost over workers, and what two workers gain, and write down what came out.

    python benchmarks/cluster.py [--tasks 500] [--seconds 5]

Prints a table and keeps it in benchmarks/results/cluster.md; numbers and environment go to cluster.json beside it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import environment, keep

import topolandscape as tl
from topolandscape.cluster import workers
from topolandscape.landscape.tasks import points_of_task

PACKAGES = ("topolandscape", "torch", "numpy", "distributed")
WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what tasks cost over workers, and what two workers gain.")
    parser.add_argument("--tasks", type=int, default=500, help="empty tasks")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long descents take")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()

    torch.set_num_threads(WORKERS)
    record: dict[str, Any] = {"environment": environment(*PACKAGES), "load": os.getloadavg()[0]}
    with dask_cluster() as address:
        executors = {"processes": WORKERS, "dask": address}
        record["overheads"] = [overhead(name, executor, arguments.tasks) for name, executor in executors.items()]
        record["efficiency"] = []
        for row in efficiency(executors, arguments.seconds):
            record["efficiency"].append(row)
            keep(arguments.output, "cluster", record, markdown(record))
            print(row, file=sys.stderr, flush=True)
    print(markdown(record))


@contextmanager
def dask_cluster() -> Iterator[str]:
    """Start a dask cluster of this machine, and give its address."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def overhead(name: str, executor: Any, tasks: int) -> dict[str, Any]:
    """Return how long it takes to reach the workers, and seconds for each of many tasks that do nothing."""
    start = time.perf_counter()
    with workers(executor) as team:
        list(team.done(abs, [((1,), {})] * WORKERS, progress=False))
        begun = time.perf_counter()
        list(team.done(abs, [((1,), {})] * tasks, progress=False))
        ended = time.perf_counter()
    return {"executor": name, "begin": begun - start, "tasks": tasks, "task": (ended - begun) / tasks}


def efficiency(executors: dict[str, Any], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield how long the same work takes with two threads of this process, and with two workers of each kind."""
    data = tl.zoo.dataset("digits")
    loss = torch.nn.functional.cross_entropy
    landscape = tl.Landscape.from_module(
        tl.zoo.network("mlp:64-16-10", seed=0), data.inputs, data.targets, loss=loss, weight_decay=1e-3
    )
    landscape = landscape.planned(landscape.plans())
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((landscape.dimension, 2)))[0].T
    points = np.random.default_rng(0).uniform(-1, 1, (4 * points_of_task(landscape.description, "values", 2), 2))
    starts = tl.initial_points(landscape, 16, seed=0)
    tl.descend(landscape, starts, steps=20)
    steps = max(10, round(20 * seconds / timed(lambda: tl.descend(landscape, starts, steps=20))))
    works: dict[str, Callable[[tl.Landscape], Any]] = {
        f"losses of {len(points):,} points of a plane": lambda where: where.restricted_to(landscape.point, axes).values(
            points, progress=False
        ),
        f"16 descents of {steps} steps": lambda where: tl.descend(where, starts, steps=steps, progress=False).ends,
    }
    for what, work in works.items():
        expected = work(landscape)
        alone = timed(lambda work=work: work(landscape))
        yield {"work": what, "where": f"{WORKERS} threads", "seconds": alone, "ratio": 1.0, "equal": True}
        for name, executor in executors.items():
            with tl.on_workers(landscape, executor) as shared:
                equal = bool(np.array_equal(work(shared), expected))  # each worker has the landscape now
                spent = timed(lambda work=work, shared=shared: work(shared))
            yield {
                "work": what,
                "where": f"{WORKERS} workers, {name}",
                "seconds": spent,
                "ratio": alone / spent,
                "equal": equal,
            }


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds of a run; there was one before."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def markdown(record: dict[str, Any]) -> str:
    """Return both tables, and how busy the machine was before."""
    lines = [f"Others kept the machine of {record['environment']['cores']} cores busy by {record['load']:.1f}.", ""]
    lines += ["| executor | to begin (s) | a task that does nothing (ms) |", "|---|--:|--:|"]
    lines += [f"| {row['executor']} | {row['begin']:.1f} | {1e3 * row['task']:.2g} |" for row in record["overheads"]]
    lines += ["", "| work | done by | seconds | speed | equal to the bit |", "|---|---|--:|--:|---|"]
    lines += [
        f"| {row['work']} | {row['where']} | {row['seconds']:.2f} | {row['ratio']:.2f} | "
        f"{'yes' if row['equal'] else '**no**'} |"
        for row in record["efficiency"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
