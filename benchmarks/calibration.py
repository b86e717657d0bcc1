"""Measure whether what is said of uncertainty holds: bands of barcodes and p-values of permutation tests.

    python benchmarks/calibration.py [--repetitions 200]

Bands: how many of them hold the known barcode of a function, samples drawn anew for each; beside them bands by drawing
as many points with replacement. p-values: of five and five samples of the same network's landscape in a box, how many
are small, and how many are for two networks. Prints two tables and keeps them in benchmarks/results/calibration.md;
numbers and environment go to calibration.json beside it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import environment, keep

import topolandscape as tl

RESULTS = Path(__file__).parent / "results"
CASES = (("quartic", 60), ("quartic", 240), ("rastrigin_1d", 120), ("three_hump_camel", 200))
SUBSAMPLES = 40
NETWORKS = ("mlp:2-1-1,tanh", "mlp:2-2-1,tanh")


def sampled(name: str, n: int, seed: int) -> tl.LossSamples:
    known = tl.zoo.functions[name]
    points = np.random.default_rng(seed).uniform(known.low, known.high, (n, known.dimension))
    return tl.LossSamples(points, known.function(points))


def radius_with_replacement(samples: tl.LossSamples, code: tl.Barcode, seed: int) -> float:
    rng, found = np.random.default_rng(seed), []
    for _ in range(SUBSAMPLES):
        rows = np.unique(rng.integers(0, len(samples), len(samples)))
        part = replace(samples, points=samples.points[rows], values=samples.values[rows])
        found.append(tl.bottleneck(tl.barcode(tl.delaunay(part)), code))
    return float(np.quantile(found, 0.95, method="higher"))


def bands(name: str, n: int, repetitions: int) -> dict[str, Any]:
    truth = tl.Barcode.from_pairs(tl.zoo.functions[name].bars[0])
    errors, radii, others = [], [], []
    for seed in range(repetitions):
        samples = sampled(name, n, seed)
        band = tl.bootstrap_band(samples, tl.delaunay, seed=seed, repetitions=SUBSAMPLES)
        errors.append(tl.bottleneck(band.barcode, truth))
        radii.append(band.radius)
        others.append(radius_with_replacement(samples, band.barcode, seed))
    return {
        "function": name,
        "points": n,
        "error": float(np.median(errors)),
        "radius": float(np.median(radii)),
        "held": int(np.less_equal(errors, radii).sum()),
        "radius with replacement": float(np.median(others)),
        "held with replacement": int(np.less_equal(errors, others).sum()),
    }


def scores(model: str, seeds: range) -> list[float]:
    data = tl.zoo.dataset("teacher_student")
    landscape = tl.Landscape.from_module(
        tl.zoo.network(model, seed=0), data.inputs, data.targets, loss=torch.nn.functional.mse_loss
    )
    join = partial(tl.nearest_neighbours, k=40, connect=True)
    draws = (tl.sample_box(landscape, low=-3, high=3, n=500, seed=seed, progress=False) for seed in seeds)
    return [tl.total_persistence(tl.barcode(join(samples))) for samples in draws]


def p_values(repetitions: int) -> list[dict[str, Any]]:
    one, other = (scores(model, range(10 * repetitions)) for model in NETWORKS)
    groups = [slice(start, start + 5) for start in range(0, 10 * repetitions, 5)]
    rows = []
    for said, second in (("the same", one), ("two", other)):
        pairs = zip(groups[::2], groups[1::2], strict=True)
        found = np.array([tl.permutation_test(one[a], second[b], seed=0).p_value for a, b in pairs])
        rows.append({"networks": said, **{f"p <= {level}": int((found <= level).sum()) for level in (0.05, 0.1, 0.5)}})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    cells = [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200, help="bands of each function, and tests")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go")
    arguments = parser.parse_args()
    n = arguments.repetitions
    band_rows = [bands(name, points, n) for name, points in CASES]
    test_rows = p_values(n)
    numbers = {"repetitions": n, "bands": band_rows, "tests": test_rows}
    packages = ("topolandscape", "numpy", "scipy", "gudhi", "torch")
    whole = {"environment": environment(*packages), **numbers}
    print(markdown(whole))
    keep(arguments.results, "calibration", whole, markdown(whole))


def markdown(record: dict[str, Any]) -> str:
    n = record["repetitions"]
    return (
        f"Bands of 95 % from {SUBSAMPLES} subsamples, of {n} draws of the points: medians, and how many bands held the "
        f"known barcode.\n\n{table(record['bands'])}\n\nOf {n} permutation tests of five and five draws of 500 points "
        f"in a box of {NETWORKS[0]}, or of that and of {NETWORKS[1]}, by total persistence:\n\n"
        f"{table(record['tests'])}\n"
    )


if __name__ == "__main__":
    main()
