"""Compare bars refined from samples with basin hopping and eigenvector following from random starts.

    python benchmarks/refine.py [--seeds 3] [--most 50000]

Every function of the zoo. Prints one table and keeps it in benchmarks/results/refine.md; numbers and environment go to
refine.json beside it.

Evaluations are gradients, a product with the Hessian counting as two. A search that is "told" ends when the exact bars
are found, which no search can know; one that is "sure" ends when it has them and 20 starts in a row find nothing new.
Of those after ">" some were given up. Where minima are not isolated a search for points does not end, and none is made.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment, keep
from scipy.optimize import Bounds, basinhopping

from topolandscape.landscape.curvature import hessians
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
# Starts in a row that find nothing new, after which a search is sure; and in how many parts the box is cut for steps.
IDLE, CELLS = 20, 40


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare refinement with searches from random starts.")
    parser.add_argument("--functions", nargs="*", default=list(functions), help="names of the zoo")
    parser.add_argument("--seeds", type=int, default=3, help="runs of the searches, of which the median counts")
    parser.add_argument("--most", type=int, default=50_000, help="evaluations after which a search is given up")
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
    keep(arguments.output, "refine", record, markdown(record))
    print(markdown(record))


def compare(known: KnownFunction, seeds: int, most: int) -> dict[str, Any]:
    """Return what refinement of two samples takes, and what searches from random starts take."""
    landscape = Landscape.from_function(known.function, known.dimension)
    row: dict[str, Any] = {"function": known.name, "bars": len(known.bars[0] or ())}
    shape = (41, 41) if known.dimension == 2 else (401,)
    on_grid = sample_grid(landscape, low=known.low, high=known.high, shape=shape)
    random = sample_box(landscape, low=known.low, high=known.high, n=20_000, seed=0)
    row["grid"] = refined(landscape, on_grid, barcode(grid(on_grid)), known)
    row["random"] = refined(landscape, random, barcode(nearest_neighbours(random, k=8 * known.dimension)), known)
    curvatures = np.linalg.eigvalsh(hessians(landscape, known.minima))
    isolated = (np.abs(curvatures).min(axis=1) > 1e-6 * np.abs(curvatures).max(axis=1)).all()
    found = [searched(known, landscape, seed, most) for seed in range(seeds)] if isolated else [(np.nan, np.nan)]
    row["search"] = {"told": [told for told, _ in found], "sure": [sure for _, sure in found]}
    row["search"]["given_up"] = sum(told >= most for told, _ in found)
    row["search"] |= {f"median_{kind}": float(np.median(row["search"][kind])) for kind in ("told", "sure")}
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


def difference(bars: Sequence[tuple[float, float]], known: KnownFunction) -> float:
    ours, exact = (
        np.array(sorted(part, key=lambda bar: (round(bar[1], 5), round(bar[0], 5)))) for part in (bars, known.bars[0])
    )
    if ours.shape != exact.shape or (np.isfinite(ours) != np.isfinite(exact)).any():
        return float("inf")
    finite = np.isfinite(exact)
    return float(np.abs(ours[finite] - exact[finite]).max())


# --------------------------------------------------------------------------------------------------------------
# Searches from random starts
# --------------------------------------------------------------------------------------------------------------


class Count:
    """Gradients that a search took until it had everything, and until it could be sure of it."""

    def __init__(self, most: int) -> None:
        self.most, self.spent, self.told, self.idle = most, 0, most, 0

    def note(self, new: bool, complete: bool) -> bool:
        """Note a start; return whether the search is over: complete, and nothing new in many starts, or too long."""
        if complete:
            self.told = min(self.told, self.spent)
        self.idle = 0 if new else self.idle + 1
        return self.spent >= self.most or (complete and self.idle >= IDLE)


def searched(known: KnownFunction, landscape: Landscape, seed: int, most: int) -> tuple[int, int]:
    """Return the gradients of basin hopping to all births and of eigenvector following to all bars, told and sure."""
    rng = np.random.default_rng(seed)
    hopping, following = Count(most), Count(most)
    minima = hop(known, landscape, rng, hopping)
    follow(known, landscape, rng, minima, following)
    return hopping.told + following.told, hopping.spent + following.spent


def hop(known: KnownFunction, landscape: Landscape, rng: np.random.Generator, count: Count) -> np.ndarray:
    """Hop until there are minima for all births: steps of a tenth of the box, L-BFGS-B, restarts after 20 hops."""
    births = [birth for birth, _ in known.bars[0] or ()]
    kept: list[np.ndarray] = []
    over = False

    def value(point: np.ndarray) -> tuple[float, np.ndarray]:
        count.spent += 1
        values, gradients = landscape.gradients(point[None], progress=False)
        return float(values[0]), gradients[0]

    def note(point: np.ndarray, loss: float, accepted: bool) -> bool:
        nonlocal over
        new = not any(np.linalg.norm((point - other) / (known.high - known.low)) <= SAME for other in kept)
        if new:
            kept.append(point.copy())
        over = count.note(new, complete(known, np.array(kept), births))
        return over

    while not over:
        basinhopping(
            value,
            rng.uniform(known.low, known.high),
            niter=20,
            stepsize=0.1 * float((known.high - known.low).min()),
            minimizer_kwargs={"method": "L-BFGS-B", "jac": True, "bounds": Bounds(known.low, known.high)},
            callback=note,
            seed=rng,
        )
    return np.array(kept)


def complete(known: KnownFunction, minima: np.ndarray, births: list[float]) -> bool:
    """Return whether there is a minimum for each birth."""
    values = np.sort(known.function(minima))
    return all((np.abs(values - birth) <= RIGHT).sum() >= births.count(birth) for birth in set(births))


def follow(
    known: KnownFunction, landscape: Landscape, rng: np.random.Generator, minima: np.ndarray, count: Count
) -> None:
    """Follow eigenvectors from random starts, and descend from each new saddle, until the bars are the exact ones."""
    unit = (known.high - known.low) / CELLS
    low, high = known.low / unit, known.high / unit
    follower = Follower(landscape, unit, low, high, bounded=True, noise=1e-13, scale=1e-12)
    places, saddles, passes = list(minima / unit), [], []
    over = count.note(True, difference(elder_rule(known.function(minima).tolist(), []), known) <= RIGHT)
    while not over:
        top = follower.follow(rng.uniform(low, high, (1, known.dimension)), uphill=True)
        if new := bool(top.still[0]):
            below = -FLAT * largest_size(top.eigenvalues)
            new = bool(top.eigenvalues[0, 0] < below[0] and (top.eigenvalues[0, 1:] > -below[0]).all())
            new &= not any(np.linalg.norm(other - top.units[0]) <= CELLS * SAME for other in saddles)
        if new:
            saddles.append(top.units[0])
            aside = ASIDE * top.vectors[:, 0]
            sides = np.clip(np.concatenate([top.units + aside, top.units - aside]), low, high)
            rows = []
            for end in follower.follow(sides, known=np.array(places)).units:
                near = np.linalg.norm(np.array(places) - end, axis=1)
                if near.min() > CELLS * SAME:
                    places.append(end)
                rows.append(int(near.argmin()) if near.min() <= CELLS * SAME else len(places) - 1)
            passes.append((float(top.values[0]), rows[0], rows[1]))
        count.spent = follower.spent
        bars = elder_rule(known.function(np.array(places) * unit).tolist(), passes)
        over = count.note(new, difference(bars, known) <= RIGHT)


def markdown(record: dict[str, Any]) -> str:
    """Return a table, a line a function: what refinement found and took from both samples, and what searches took."""
    lines = [
        "| function | bars | sampled bars, grid | random | largest error | seconds at most | evaluations, grid "
        "| random | search, told | sure |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in record["rows"]:
        grid, random, search = row["grid"], row["random"], row["search"]
        more = "> " if search["given_up"] else ""
        told, sure = (
            "-" if np.isnan(search[name]) else f"{more}{search[name]:,.0f}" for name in ("median_told", "median_sure")
        )
        lines.append(
            f"| {row['function']} | {row['bars']} | {grid['sampled_bars']} | {random['sampled_bars']} | "
            f"{max(grid['error'], random['error']):.1e} | {max(grid['seconds'], random['seconds']):.2f} | "
            f"{grid['evaluations']:,} | {random['evaluations']:,} | {told} | {sure} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
