"""Measure how far the barcode of samples is from the known one, by graph and by number of points.

    python benchmarks/graphs.py [--seeds 3]

The landscape is a sum of double wells, one a coordinate, whose barcode is known in any dimension. Distances are
bottleneck distances, as a share of the height of the pass between two wells: 1 is as wrong as no answer. Prints a table
and keeps it in benchmarks/results/graphs.md; numbers and environment go to graphs.json beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from calibration import table
from environment import environment, keep

import topolandscape as tl

RESULTS = Path(__file__).parent / "results"
WELL = tl.zoo.functions["quartic"]
PASS = min(death - birth for birth, death in WELL.bars[0])  # above the well: the unit of the errors
POINTS = (1_000, 10_000, 100_000)
MOST_TRIANGULATED = 3  # dimensions


def measured(samples: tl.LossSamples, landscape: tl.Landscape, k: int) -> tl.FilteredComplex:
    """Join nearest neighbours, with the highest of three losses on each edge."""
    joined = tl.nearest_neighbours(samples, k=k, connect=True)
    return tl.with_measured_edges(
        joined, lambda edges: tl.segment_maxima(landscape, samples, edges, q=3, progress=False)
    )


def graphs(d: int, landscape: tl.Landscape) -> dict[str, Callable[[tl.LossSamples], tl.FilteredComplex]]:
    """Return the graphs of scattered points that are compared in d dimensions."""
    ways: dict[str, Callable[[tl.LossSamples], tl.FilteredComplex]] = {
        f"nearest neighbours, k = {m} d": partial(tl.nearest_neighbours, k=m * d, connect=True) for m in (2, 4, 8)
    }
    ways["k = 8 d, edges measured"] = partial(measured, landscape=landscape, k=8 * d)
    return ({"Delaunay": tl.delaunay} if d <= MOST_TRIANGULATED else {}) | ways


def rows(d: int, seeds: int) -> list[dict[str, Any]]:
    """Return one row for each graph in d dimensions, a grid of about as many points first."""
    known = tl.zoo.separable_sum(*[WELL] * d)
    truth = tl.Barcode.from_pairs(known.bars[0])
    landscape = tl.Landscape.from_function(known.function, d)

    def error(complex: tl.FilteredComplex) -> float:
        return tl.bottleneck(tl.barcode(complex), truth) / PASS

    found: dict[str, dict[int, float]] = {"grid, axis": {}, "grid, full": {}}
    for n in POINTS:
        side = round(n ** (1 / d))
        for connectivity in ("axis", "full"):
            grid = tl.grid(known.on_grid((side,) * d), connectivity=connectivity)
            found[f"grid, {connectivity}"][n] = error(grid)
        samples = [
            tl.sample_box(landscape, low=known.low, high=known.high, n=n, seed=seed, method="uniform", progress=False)
            for seed in range(seeds)
        ]
        for name, way in graphs(d, landscape).items():
            found.setdefault(name, {})[n] = float(np.median([error(way(sample)) for sample in samples]))
    return [
        {"dimensions": d, "minima": len(truth), "graph": name, **{f"{n:,} points": curve[n] for n in POINTS}}
        for name, curve in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="draws of the points, of which the median is taken")
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 3, 4, 6], help="of the boxes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    arguments = parser.parse_args()
    found = [row for d in arguments.dimensions for row in rows(d, arguments.seeds)]
    record = {
        "environment": environment("topolandscape", "numpy", "scipy", "pynndescent", "gudhi"),
        "seeds": arguments.seeds,
        "rows": found,
    }
    print(markdown(record))
    keep(arguments.results, "graphs", record, markdown(record))


def markdown(record: dict[str, Any]) -> str:
    """Return the table, and what its numbers are."""
    return (
        "Sum of double wells on a box. Bottleneck distance from the known barcode in heights of the pass between two "
        f"wells; medians over {record['seeds']} draws of uniform points, and grids of about as many.\n\n"
        f"{table(record['rows'])}\n"
    )


if __name__ == "__main__":
    main()
