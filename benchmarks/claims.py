"""Measure what Barannikov et al. (arXiv 1912.00043 and 2012.15834) claim of the bars of networks, on digits.

    python benchmarks/claims.py             # five seeds: about ten minutes on two cores
    python benchmarks/claims.py --quick     # two seeds, little training: a trial of two minutes, kept in runs

Writes tables to benchmarks/results/claims.md, all numbers to claims.json beside it and a picture to
docs/images/claims.png. What claims.json holds already is not computed again, unless it was with another budget.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment, keep
from matplotlib.figure import Figure
from networks import landscape as landscape_of
from scipy.stats import t as student

import topolandscape as tl
from topolandscape.landscape.network import joining
from topolandscape.landscape.polishing import polish
from topolandscape.plot import ink
from topolandscape.structures import Floats

HERE = Path(__file__).parent
PACKAGES = ("topolandscape", "torch", "numpy", "numba", "scipy")
WEIGHT_DECAY = 1e-3  # where minima are to be; without it they are at infinity
# In the paper the rates are 500 apart; here 50, so that the small one gets as far down in twenty times the epochs too.
LARGE, SMALL = 0.5, 0.01
EPOCHS, MANY_EPOCHS, BATCH = 100, 2000, 256  # as in the paper: annealed, constant, and rows of a mini-batch
POINTS = (9, 17)  # of the strings
CERTAIN = 0.05

Train = Callable[[tl.Landscape, Floats, int, float], Floats]


# --------------------------------------------------------------------------------------------------------------
# How networks are trained: starts (m, p), a seed, and the share of the full training that is wanted
# --------------------------------------------------------------------------------------------------------------


def adam(landscape: tl.Landscape, starts: Floats, seed: int, share: float) -> Floats:
    """Train by Adam on all rows; the seed is that of the starts alone."""
    return tl.descend(landscape, starts, steps=round(1000 * share), progress=False).ends


def annealed(landscape: tl.Landscape, starts: Floats, seed: int, share: float) -> Floats:
    """Train at the large rate for a tenth of the epochs, let it fall to zero until half, and end at the small one."""
    for part, rate, schedule in ((0.1, LARGE, "constant"), (0.4, LARGE, "linear"), (0.5, SMALL, "constant")):
        starts = momentum(landscape, starts, seed, part * share * EPOCHS, rate, schedule)
    return starts


def small(landscape: tl.Landscape, starts: Floats, seed: int, share: float) -> Floats:
    """Train at the small rate, twenty times as long."""
    return momentum(landscape, starts, seed, share * MANY_EPOCHS, SMALL, "constant")


def momentum(landscape: tl.Landscape, starts: Floats, seed: int, epochs: float, rate: float, schedule: Any) -> Floats:
    """Train by stochastic gradient descent with momentum 0.9."""
    steps = max(1, round(epochs * -(-landscape.rows // BATCH)))
    options = {"method": "sgd", "learning_rate": rate, "schedule": schedule, "batch": BATCH, "seed": seed}
    return tl.descend(landscape, starts, steps=steps, progress=False, **options).ends


# --------------------------------------------------------------------------------------------------------------
# What is measured
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A network, and how it is trained; with weight decay the ends are polished, without it they count as they are."""

    model: str
    weight_decay: float
    train: Train


@dataclass(frozen=True)
class Claim:
    """That mean bars fall from each setting to the next; `labels` name the settings in the picture."""

    words: str
    settings: tuple[str, ...]
    labels: tuple[str, ...]


SETTINGS = {
    "width 8": Setting("mlp:64-8-10,tanh", WEIGHT_DECAY, adam),
    "width 16": Setting("mlp:64-16-10,tanh", WEIGHT_DECAY, adam),
    "width 32": Setting("mlp:64-32-10,tanh", WEIGHT_DECAY, adam),
    "width 64": Setting("mlp:64-64-10,tanh", WEIGHT_DECAY, adam),
    "two hidden layers": Setting("mlp:64-16-16-10,tanh", WEIGHT_DECAY, adam),
    "three hidden layers": Setting("mlp:64-16-16-16-10,tanh", WEIGHT_DECAY, adam),
    "small rate": Setting("mlp:64-16-10,tanh", WEIGHT_DECAY, small),
    "annealed rate": Setting("mlp:64-16-10,tanh", WEIGHT_DECAY, annealed),
    "small rate, no decay": Setting("mlp:64-16-10,tanh", 0.0, small),
    "annealed rate, no decay": Setting("mlp:64-16-10,tanh", 0.0, annealed),
    "rectifier, no decay": Setting("mlp:64-16-10", 0.0, adam),
}
CLAIMS = (
    Claim("Bars fall with width.", ("width 8", "width 16", "width 32", "width 64"), ("8", "16", "32", "64")),
    Claim("Bars fall with depth.", ("width 16", "two hidden layers", "three hidden layers"), ("1", "2", "3")),
    Claim("The annealed rate gives lower bars.", ("small rate", "annealed rate"), ("small", "annealed")),
    Claim(
        "So it does without decay, at the ends of training, as in the paper.",
        ("small rate, no decay", "annealed rate, no decay"),
        ("small", "annealed"),
    ),
)
PANELS = dict(zip(("width of the hidden layer", "hidden layers", "learning rate"), CLAIMS, strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the seed papers claim.")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each setting, from seed 0 on")
    parser.add_argument("--minima", type=int, default=6, help="networks trained in each run")
    parser.add_argument("--explore", type=int, default=0, help="rounds in which other pairs are joined")
    parser.add_argument("--training", type=float, default=1.0, help="share of the full training")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 4 networks, a tenth of the training")
    parser.add_argument("--output", type=Path, help="folder for claims.json and claims.md")
    parser.add_argument("--pictures", type=Path, help="folder for claims.png")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds, arguments.minima, arguments.explore, arguments.training = 2, 4, 0, 0.1
    trial = HERE.parent / "runs" / "claims"
    output = arguments.output or (trial if arguments.quick else HERE / "results")
    pictures = arguments.pictures or (trial if arguments.quick else HERE.parent / "docs" / "images")
    for folder in (output, pictures):
        folder.mkdir(parents=True, exist_ok=True)

    budget = {name: getattr(arguments, name) for name in ("minima", "explore", "training")}
    kept = output / "claims.json"
    record = json.loads(kept.read_text()) if kept.exists() else {}
    if record.get("budget") != budget:
        record = {"environment": environment(*PACKAGES), "budget": budget, "results": {name: {} for name in SETTINGS}}
    for seed in range(arguments.seeds):
        for name, setting in SETTINGS.items():
            if str(seed) in record["results"][name]:
                continue
            found = measured(setting, seed, **budget)
            record["results"][name][str(seed)] = found
            kept.write_text(json.dumps(record, indent=2) + "\n")
            print(f"{name}, seed {seed}: mean bar {found['mean_bar']:.4g}, {found['seconds']:.0f} s", flush=True)
    keep(output, "claims", record, markdown(record))
    draw(record["results"]).savefig(pictures / "claims.png", dpi=150)
    print(markdown(record))


def measured(setting: Setting, seed: int, *, minima: int, explore: int, training: float) -> dict[str, Any]:
    """Train networks from one seed, join them, and return the numbers of their barcode."""
    begun = time.perf_counter()
    landscape = shared_landscape(setting.model, setting.weight_decay)
    starts = tl.initial_points(landscape, minima, seed=seed)
    points = setting.train(landscape, starts, seed, training)
    if setting.weight_decay:
        points = polish(landscape, points, max_evaluations=round(500 * training), progress=False).points
    ends = not_examined(landscape, points)
    trained = time.perf_counter()
    # Strings only: a setting whose saddles are found would not be comparable with one whose saddles are not.
    *_, network = joining(landscape, ends, points=POINTS, saddle=False, explore=explore, progress=False)
    network = network.reduced()
    code = tl.barcode(network)
    ceiling = tl.constant_predictor_ceiling(tl.zoo.dataset("digits").targets, loss="cross_entropy")
    bars = code.persistence[~code.essential]
    return {
        "mean_bar": float(bars.sum() / (minima - 1)),
        "to_score": tl.to_score(tl.normalised(code, high=ceiling)),
        "lowest_loss": float(ends.values.min()),
        "mean_loss": float(ends.values.mean()),
        "highest_death": float(network.barriers.max() / ceiling),
        "gradient_norm": float(ends.gradient_norm.max()),
        "training_seconds": trained - begun,
        "seconds": time.perf_counter() - begun,
    }


@functools.cache
def shared_landscape(model: str, weight_decay: float) -> tl.Landscape:
    """Return the landscape of a network; all seeds share it, and the plans that its loss engine has found."""
    return landscape_of(model, weight_decay=weight_decay)


def not_examined(landscape: tl.Landscape, points: Floats) -> tl.Minima:
    """Return points as minima, whether they are such or not."""
    values, gradients = landscape.gradients(points, progress=False)
    m = len(points)
    norms = np.linalg.norm(gradients, axis=1)
    return tl.Minima(points, values, norms, np.full((m, 1), np.nan), np.full(m, -1), ("not examined",) * m)


# --------------------------------------------------------------------------------------------------------------
# What it says
# --------------------------------------------------------------------------------------------------------------


def half_width(values: Floats) -> float:
    """Return half the width of the 95 % interval of a mean by Student's distribution; infinite for one value."""
    n = len(values)
    return float(student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")


def falling(groups: Sequence[Floats]) -> float:
    """Return the exact one-sided p value for values that fall from group to group (Jonckheere 1954).

    It counts the pairs of values from two groups of which the earlier is higher, equal ones half. If nothing but chance
    ordered the values, the number of their orders with each count would be a coefficient of the q-multinomial.
    """
    pairs = 0.0
    for one, other in combinations(groups, 2):
        pairs += (one[:, None] > other).sum() + 0.5 * (one[:, None] == other).sum()
    orders = [1]
    seen = 0
    for group in groups:
        for i in range(1, len(group) + 1):
            # Times (1 - q^(seen + i)), by (1 - q^i).
            factor = seen + i
            orders = [
                (orders[k] if k < len(orders) else 0) - (orders[k - factor] if k >= factor else 0)
                for k in range(len(orders) + factor)
            ]
            for k in range(i, len(orders)):
                orders[k] += orders[k - i]
            orders = orders[: len(orders) - i]
        seen += len(group)
    return sum(orders[int(pairs) :]) / sum(orders)


def verdict(groups: Sequence[Floats]) -> tuple[float, str]:
    """Return the p value for a fall, and a word."""
    if not any(group.any() for group in groups):
        return 1.0, "not decided: there are no bars"
    fall, rise = falling(groups), falling(groups[::-1])
    return fall, "holds" if fall < CERTAIN else "does not hold" if rise < CERTAIN else "not decided"


def column(results: dict[str, Any], name: str, number: str) -> Floats:
    """Return one number of all seeds of a setting."""
    return np.array([found[number] for found in results[name].values()], dtype=np.float64)


def under_ceiling(results: dict[str, Any]) -> tuple[float, str]:
    """Return the highest death of all settings without weight decay, as a share of the ceiling, and a word.

    Deaths found by bending paths are upper bounds, so that one above the ceiling would decide nothing.
    """
    without = [name for name, setting in SETTINGS.items() if setting.weight_decay == 0]
    highest = max(column(results, name, "highest_death").max() for name in without)
    return float(highest), "holds" if highest <= 1 else "not decided"


def markdown(record: dict[str, Any]) -> str:
    """Return the tables: what was measured in each setting, and what it says of each claim."""
    results, budget = record["results"], record["budget"]
    lines = [
        f"{budget['minima']} networks from each seed on the training rows of digits, joined by strings of {POINTS[0]}, "
        f"then {POINTS[1]} points until they get no lower, with {budget['explore']} rounds of other pairs. Means over "
        "seeds, with 95 % intervals (Student). The TO-score is the mean bar as a share of the range from the lowest "
        "loss to that of the constant predictor. Deaths are upper bounds.",
        "",
        f"Trained by *adam*: all rows, 1000 steps. *small*: momentum 0.9, mini-batches of {BATCH} rows, rate "
        f"{SMALL:g}, {MANY_EPOCHS} epochs. *annealed*: the same, {EPOCHS} epochs, rate {LARGE:g} for a tenth of them, "
        f"then falling to zero until half, then {SMALL:g}. With weight decay the ends are polished to minima; without "
        "it there are none, and the ends count as they are.",
        "",
        "| setting | network | weight decay | trained | seeds | mean bar | TO-score | lowest loss | mean loss "
        "| highest death / ceiling |",
        "|---|---|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, setting in SETTINGS.items():
        numbers = [
            f"{values.mean():.3g} ± {half_width(values):.2g}"
            for number in ("mean_bar", "to_score", "lowest_loss", "mean_loss")
            for values in [column(results, name, number)]
        ]
        deaths = column(results, name, "highest_death").max()
        lines.append(
            f"| {name} | {setting.model} | {setting.weight_decay:g} | {setting.train.__name__} | "
            f"{len(results[name])} | {' | '.join(numbers)} | {deaths:.3g} |"
        )
    lines += ["", "| claim | settings, in order | p (Jonckheere, exact) | |", "|---|---|--:|---|"]
    for claim in CLAIMS:
        p, word = verdict([column(results, name, "mean_bar") for name in claim.settings])
        lines.append(f"| {claim.words} | {'; '.join(claim.settings)} | {p:.2g} | **{word}** |")
    highest, word = under_ceiling(results)
    lines.append(
        "| Without weight decay all deaths are below the loss of the constant predictor. | all without weight decay | "
        f"highest: {highest:.3g} of it | **{word}** |"
    )
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any]) -> Figure:
    """Return the picture: mean bars of every seed, their mean and its interval, against width, depth and schedule."""
    figure = Figure(figsize=(9.2, 3.4), layout="constrained")
    for ax, (label, claim) in zip(np.atleast_1d(figure.subplots(1, len(PANELS))), PANELS.items(), strict=True):
        places = np.arange(len(claim.settings))
        groups = [column(results, name, "mean_bar") for name in claim.settings]
        for place, group in zip(places, groups, strict=True):
            ax.plot(np.full(len(group), place - 0.12), group, "o", color=ink.COLOURS[4], markersize=4, alpha=0.7)
        ax.errorbar(
            places + 0.12,
            [group.mean() for group in groups],
            [half_width(group) for group in groups],
            fmt="s",
            color=ink.COLOURS[0],
            markersize=5,
            capsize=3,
        )
        if all((group > 0).all() for group in groups):
            ax.set_yscale("log", nonpositive="clip")
        ax.set_xticks(places, claim.labels)
        ax.set_xlim(-0.5, len(places) - 0.5)
        ax.set_xlabel(label)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("mean bar length")
    return figure


if __name__ == "__main__":
    main()
