"""Compare bars refined from samples with basin hopping and eigenvector following from random starts.

    python benchmarks/refine.py [--seeds 3] [--most 200000]

Every function of the zoo. Prints one table and keeps it in benchmarks/results/refine.md; numbers and environment go to
refine.json beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment
from scipy.optimize import Bounds, basinhopping

from topolandscape.landscape.following import ASIDE, FLAT, Follower, largest_size
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.refinement import refine
from topolandscape.landscape.sampling import sample_box, sample_grid
from topolandscape.structures import Barcode, LossSamples
from topolandscape.topology.complexes import grid, nearest_neighbours
from topolandscape.topology.persistence import barcode
from topolandscape.zoo import functions
from topolandscape.zoo.known import KnownFunction, elder_rule

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("topolandscape", "numpy", "scipy", "torch")
# Bars count as found when they are right to this, and points as the same when they are this near, in units of the box.
RIGHT, SAME = 1e-6, 1e-4
# Random starts at once: those after the last that was needed are not counted.
STARTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare refinement with searches from random starts.")
    parser.add_argument("--functions", nargs="*", default=list(functions), help="names of the zoo")
    parser.add_argument("--seeds", type=int, default=3, help="runs of the searches, of which the median counts")
    parser.add_argument("--most", type=int, default=200_000, help="evaluations after which a search is given up")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for refine.json and refine.md")
    arguments = parser.parse_args()

    record: dict[str, Any] = {
        "environment": environment(*PACKAGES),
        "settings": {"seeds": arguments.seeds, "most": arguments.most},
        "rows": [],
    }
    for name in arguments.functions:
        row = compare(functions[name], arguments.seeds, arguments.most)
        record["rows"].append(row)
        print(json.dumps(row), flush=True)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "refine.json").write_text(json.dumps(record, indent=2) + "\n")
    (arguments.output / "refine.md").write_text(markdown(record["rows"]))
    print(markdown(record["rows"]))


def compare(known: KnownFunction, seeds: int, most: int) -> dict[str, Any]:
    """Return what refinement of two samples takes, and what searches from random starts take."""
    landscape = Landscape.from_function(known.function, known.dimension)
    row: dict[str, Any] = {"function": known.name, "bars": len(known.bars[0] or ())}
    shape = (41, 41) if known.dimension == 2 else (401,)
    on_grid = sample_grid(landscape, low=known.low, high=known.high, shape=shape)
    random = sample_box(landscape, low=known.low, high=known.high, n=20_000, seed=0)
    row["grid"] = refined(landscape, on_grid, barcode(grid(on_grid)), known)
    row["random"] = refined(landscape, random, barcode(nearest_neighbours(random, k=8 * known.dimension)), known)
    found = [searched(known, landscape, seed, most) for seed in range(seeds)]
    row["search"] = {
        "hopping": [hopping for hopping, _ in found],
        "following": [following for _, following in found],
        "evaluations": float(np.median([hopping + following for hopping, following in found])),
        "given_up": sum(hopping >= most or following >= most for hopping, following in found),
    }
    return row


def refined(landscape: Landscape, samples: LossSamples, code: Barcode, known: KnownFunction) -> dict[str, Any]:
    """Return what refinement took, and how far its bars are from the exact ones."""
    refine(code, samples, landscape)
    start = time.perf_counter()
    result = refine(code, samples, landscape)
    seconds = time.perf_counter() - start
    return {
        "samples": len(samples),
        "sampled_bars": len(code),
        "bars": len(result),
        "error": distance(result, known),
        "evaluations": int(result.provenance["refined"]["evaluations"]),
        "seconds": seconds,
    }


def distance(code: Barcode, known: KnownFunction) -> float:
    """Return the largest difference between bars in order; infinite where there are not as many."""
    return difference(list(zip(code.birth.tolist(), code.death.tolist(), strict=True)), known)


def difference(bars: list[tuple[float, float]], known: KnownFunction) -> float:
    ours, exact = (
        np.array(sorted(part, key=lambda bar: (round(bar[1], 5), round(bar[0], 5)))) for part in (bars, known.bars[0])
    )
    if ours.shape != exact.shape or (np.isfinite(ours) != np.isfinite(exact)).any():
        return float("inf")
    finite = np.isfinite(exact)
    return float(np.abs(ours[finite] - exact[finite]).max())


# --------------------------------------------------------------------------------------------------------------
# Searches from random starts, which end when the exact bars are found
# --------------------------------------------------------------------------------------------------------------


def searched(known: KnownFunction, landscape: Landscape, seed: int, most: int) -> tuple[int, int]:
    """Return the gradients that basin hopping takes to all births, and eigenvector following to all bars."""
    rng = np.random.default_rng(seed)
    births = [birth for birth, _ in known.bars[0] or ()]
    minima, hopping = hop(known, landscape, rng, births, most)
    following = follow(known, landscape, rng, minima, most) if len(births) > 1 else 0
    return hopping, following


def hop(
    known: KnownFunction, landscape: Landscape, rng: np.random.Generator, births: list[float], most: int
) -> tuple[np.ndarray, int]:
    """Hop until there are minima for all births: steps of a tenth of the box, L-BFGS-B, gradients as for refinement."""
    spent = 0
    kept: list[np.ndarray] = []

    def value(point: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal spent
        spent += 1
        values, gradients = landscape.gradients(point[None], progress=False)
        return float(values[0]), gradients[0]

    def note(point: np.ndarray, loss: float, accepted: bool) -> bool:
        far = [np.linalg.norm((point - other) / (known.high - known.low)) for other in kept]
        if not far or min(far) > SAME:
            kept.append(point.copy())
        return spent >= most or complete(known, np.array(kept), births)

    while spent < most and not (kept and complete(known, np.array(kept), births)):
        basinhopping(
            value,
            rng.uniform(known.low, known.high),
            niter=20,
            stepsize=0.1 * float((known.high - known.low).min()),
            minimizer_kwargs={"method": "L-BFGS-B", "jac": True, "bounds": Bounds(known.low, known.high)},
            callback=note,
            rng=rng,
        )
    return np.array(kept), spent


def complete(known: KnownFunction, minima: np.ndarray, births: list[float]) -> bool:
    """Return whether there is a minimum for each birth."""
    values = np.sort(known.function(minima))
    return all((np.abs(values - birth) <= RIGHT).sum() >= births.count(birth) for birth in set(births))


def follow(known: KnownFunction, landscape: Landscape, rng: np.random.Generator, minima: np.ndarray, most: int) -> int:
    """Follow eigenvectors from random starts, and descend from each new saddle, until the bars are the exact ones."""
    unit = (known.high - known.low) / 40
    low, high = known.low / unit, known.high / unit
    follower = Follower(landscape, unit, low, high, bounded=True, noise=1e-13, scale=1e-12)
    places = list(minima / unit)
    saddles: list[np.ndarray] = []
    passes: list[tuple[float, int, int]] = []
    while follower.spent < most:
        starts = rng.uniform(low, high, (1, known.dimension))
        top = follower.follow(starts, uphill=True)
        if not top.still[0]:
            continue
        _, gradients = follower.evaluated(top.units)
        top.eigenvalues, top.vectors, *_ = follower.moves(top.units, gradients, follower.hessians(top.units), None)
        below = -FLAT * largest_size(top.eigenvalues)
        if not (top.eigenvalues[0, 0] < below[0] and (top.eigenvalues[0, 1:] > -below[0]).all()):
            continue
        if saddles and np.linalg.norm(np.array(saddles) - top.units[0], axis=1).min() < 40 * SAME:
            continue
        saddles.append(top.units[0])
        aside = ASIDE * top.vectors[:, 0]
        ends = follower.follow(
            np.clip(np.concatenate([top.units + aside, top.units - aside]), low, high), known=np.array(places)
        )
        sides = []
        for end in ends.units:
            near = np.linalg.norm(np.array(places) - end, axis=1)
            if near.min() > 40 * SAME:
                places.append(end)
            sides.append(int(near.argmin()) if near.min() <= 40 * SAME else len(places) - 1)
        passes.append((float(top.values[0]), sides[0], sides[1]))
        bars = elder_rule(known.function(np.array(places) * unit).tolist(), passes)
        if difference(list(bars), known) <= RIGHT:
            break
    return follower.spent


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    lines = [
        "| function | bars | sample | sampled bars | error | seconds | evaluations | search | ratio |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        search = row["search"]
        number = f"{search['evaluations']:,.0f}" + ("+" if search["given_up"] else "")
        for kind in ("grid", "random"):
            part = row[kind]
            lines.append(
                f"| {row['function']} | {row['bars']} | {kind} {part['samples']:,} | {part['sampled_bars']} | "
                f"{part['error']:.1e} | {part['seconds']:.2f} | {part['evaluations']:,} | {number} | "
                f"{search['evaluations'] / part['evaluations']:.1f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
