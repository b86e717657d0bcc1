"""Minima barcodes of small networks on the seed paper's regression: do bars lie low, and fall with more neurons?

    python docs/examples/minima_barcodes.py

Barannikov et al. (2019, arXiv 1912.00043) sample the loss of networks 1-2-1, 1-3-1 and deeper ones, join the samples
with their nearest neighbours, and read off the bars of minima. First the bars of a 1-2-1 network with rectifiers on a
grid, which the authors have published; then, as they do, the hull of trained minima, of four for every architecture, so
that all are sampled equally well, in three dimensions.
"""

from functools import partial

import numpy as np
import torch
from gallery import Claim, Outcome, main
from matplotlib.figure import Figure

import topolandscape as tl

PAPER = "Barannikov et al. (2019, arXiv 1912.00043)"
# Births and deaths of components of more than 100 points, as the authors' own program gives them.
PUBLISHED = tl.Barcode.from_pairs(
    [
        (0.309139, np.inf),
        (0.328696, 0.779223),
        (0.342372, 0.394553),
        (0.312065, 0.368086),
        (0.310403, 0.367645),
        (0.313676, 0.365604),
        (0.311138, 0.365109),
        (0.309267, 0.364245),
        (0.430413, 0.445315),
    ]
)
NETWORKS = ("1-2-1", "1-3-1", "1-4-1", "1-2-2-1")
MINIMA = 4
LOW = 0.1  # a bar lies low when it ends in this part of the range of the losses
joined = partial(tl.nearest_neighbours, k=24)


def published_grid() -> tuple[tl.Barcode, tl.LossSamples]:
    """Return the bars of the 1-2-1 network with rectifiers on the grid of the authors, and the samples."""
    known = tl.zoo.one_two_one_relu()
    landscape = tl.Landscape.from_function(lambda points: known.function(points).double(), len(known.shape))
    samples = tl.sample_grid(landscape, low=known.low, high=known.high, shape=known.shape)
    return tl.barcode(tl.grid(samples)).filter(min_size=101), samples


def hull_of_minima(architecture: str, seed: int, n: int) -> tuple[tl.Barcode, tl.LossSamples]:
    """Return the bars of the hull of four trained minima, moved to minima and saddles, and the samples."""
    data = tl.zoo.dataset("sine_regression")
    landscape = tl.Landscape.from_module(
        tl.zoo.network(f"mlp:{architecture},tanh", seed=seed),
        data.inputs,
        (data.targets - data.targets.mean()) / data.targets.std(),
        loss=torch.nn.functional.mse_loss,
        weight_decay=5e-4,
        dtype="float64",
        form="wide",
    )
    starts = tl.initial_points(landscape, MINIMA, seed=seed)
    trained = tl.descend(landscape, starts, steps=1000, progress=False)
    samples = tl.sample_hull(landscape, trained.ends, n=n, seed=seed, progress=False)
    return tl.refine(tl.barcode(joined(samples)), samples, landscape), samples


def measured(code: tl.Barcode, samples: tl.LossSamples) -> dict[str, float]:
    ends = code.death[~code.essential]
    low, high = samples.values.min(), samples.values.max()
    return {
        "lowest birth": float(code.birth.min()),
        "bars": len(code),
        "mean bar": tl.to_score(code),
        "highest death": float(ends.max(initial=low)),
        "its place in the range": float((ends.max(initial=low) - low) / (high - low)),
    }


def example(quick: bool) -> Outcome:
    networks, seeds, n = (NETWORKS[:1], 2, 1000) if quick else (NETWORKS, 5, 5000)
    drawn, numbers, rows = {}, {}, []
    for architecture in networks:
        runs = [hull_of_minima(architecture, seed, n) for seed in range(seeds)]
        drawn[architecture] = runs[0][0]
        numbers[architecture] = [measured(*run) for run in runs]
        band = tl.bootstrap_band(runs[0][1], joined, seed=0, repetitions=20)
        row = {"network": architecture}
        for name in numbers[architecture][0]:
            row[name] = float(np.mean([run[name] for run in numbers[architecture]]))
        rows.append(
            {
                **row,
                "sampled bars of seed 0": len(band.barcode),
                "radius": band.radius,
                "of these longer than twice as much": len(band.significant),
            }
        )
    tables = {
        f"Hulls of {MINIMA} trained minima, {n} samples, bars refined; means of {seeds} seeds. The radius is that of a "
        "band of 95 % of the sampled bars": rows
    }
    results = claims(numbers)
    if not quick:
        code, samples = published_grid()
        apart, part = tl.bottleneck(code, PUBLISHED), measured(code, samples)["its place in the range"]
        tables["The published grid, components of more than 100 points"] = [
            {"bars": len(code), "distance to the published ones": apart, "its place in the range": part}
        ]
        drawn = {"1-2-1, rectifiers": code, **drawn}
        results = [*claims_of_grid(len(code), apart, part), *results]
    return Outcome(results, tables, picture(drawn, numbers))


def claims_of_grid(bars: int, apart: float, part: float) -> list[Claim]:
    return [
        Claim(
            "A 1-2-1 network on a grid of 2,160,000 points has nine bars of more than 100 points.",
            f"{PAPER}, their program",
            f"{bars} bars, at most {apart:.1e} from theirs",
            bars == len(PUBLISHED) and apart < 2e-6,
        ),
        Claim(
            f"Bars lie low: they end in the lowest {LOW:.0%} of the range of the losses. On this grid",
            PAPER,
            f"the highest death lies at {part:.2%} of the range",
            part < LOW,
        ),
    ]


def claims(numbers: dict[str, list[dict[str, float]]]) -> list[Claim]:
    parts = [run["its place in the range"] for runs in numbers.values() for run in runs]
    interval = tl.bootstrap_interval(parts, seed=0)
    found = [
        Claim(
            f"On hulls of {MINIMA} trained minima they do, too.",
            PAPER,
            f"the highest death lies at {interval.estimate:.0%} of the range of the sampled losses on the mean "
            f"(95 %: {interval.low:.0%} to {interval.high:.0%}), and at {max(parts):.0%} in the worst of {len(parts)}",
            True if interval.high < LOW else False if interval.low > LOW else None,
        )
    ]
    pairs = {
        "Bars fall with width.": ("1-2-1", "1-4-1"),
        "Bars fall with depth.": ("1-2-1", "1-2-2-1"),
    }
    if not all(name in numbers for pair in pairs.values() for name in pair):
        return found
    means = {name: [run["mean bar"] for run in runs] for name, runs in numbers.items()}
    tests = [tl.permutation_test(means[one], means[other], seed=0) for one, other in pairs.values()]
    for (says, (one, other)), p in zip(pairs.items(), tl.holm([test.p_value for test in tests]), strict=True):
        before, after = np.mean(means[one]), np.mean(means[other])
        found.append(
            Claim(
                says,
                PAPER,
                f"mean bars are {before:.3g} in {one} and {after:.3g} in {other}; p = {p:.2g} (permutations of "
                f"{len(means[one])} and {len(means[other])} seeds, corrected for {len(pairs)})",
                bool(after < before) if p < 0.05 else None,
            )
        )
    return found


def picture(drawn: dict[str, tl.Barcode], numbers: dict[str, list[dict[str, float]]]) -> Figure:
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    tl.plot.bars(drawn, ax=left)
    means = {name: [run["mean bar"] for run in runs] for name, runs in numbers.items()}
    for place, runs in enumerate(means.values()):
        right.plot(np.full(len(runs), place), runs, "o", color="C0", alpha=0.6)
        right.plot([place - 0.2, place + 0.2], [np.mean(runs)] * 2, color="C1")
    right.set_xticks(range(len(means)), list(means))
    right.set(ylabel="mean bar, each seed and their mean", xlim=(-0.5, len(means) - 0.5))
    return figure


if __name__ == "__main__":
    main(example)
