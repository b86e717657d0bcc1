"""Local and global structure of loss landscapes: over the width of a network and the mini-batches of its training.

    python docs/examples/local_and_global.py

Yang et al. (2021, arXiv 2107.11228) vary a load (here the width) and a temperature (here the mini-batch: the smaller,
the hotter), and find that sharpness, which is local, and connectivity and similarity, which are global, tell different
things. Networks are measured as training at a constant rate left them. The barcode is that of the minima to which they
are polished: ends of a hot training are left without climbing.
"""

import tempfile
from typing import Any

import numpy as np
from gallery import CERTAIN, QUARTER_OF_DIGITS, Claim, Outcome, Row, main
from matplotlib.figure import Figure
from scipy.stats import kendalltau, rankdata

import topolandscape as tl

PAPER = "Yang et al. (2021, arXiv 2107.11228)"
WIDTHS, BATCHES = (4, 8, 16), (15, 60, 360)
SETTINGS = {
    "model": [f"mlp:64-{width}-10,tanh" for width in WIDTHS],
    "data": QUARTER_OF_DIGITS,
    "weight_decay": 1e-3,
    "method": "sgd",
    "schedule": "constant",
    "learning_rate": 0.1,
    "batch": list(BATCHES),
    "steps": 600,
    "minima": 3,
    "seed": [0, 1, 2],
}
AS_TRAINED = {"max_evaluations": 1, "evaluations": 0}
POLISHED = {"max_evaluations": 600, "evaluations": 2000}
QUICK = {"model": SETTINGS["model"][:2], "batch": [15, 360], "steps": 30, "minima": 2, "seed": [0]}
MEASURES = ("hessian_top", "hessian_trace", "mode_connectivity", "cka", "distance")
SHOWN = {
    "hessian_top": "highest eigenvalue of the Hessian",
    "mode_connectivity": "mode connectivity, below 0: a barrier",
    "cka": "CKA of the outputs",
    "hessian_trace": "trace of the Hessian",
    "relative_bar": "relative bar of polished minima",
    "test_error": "test error",
}


def example(quick: bool) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        trained, polished = (
            tl.run_study(
                tl.Study(SETTINGS | limits | (QUICK if quick else {}), measures=measures),
                folder,
                jobs=1 if quick else 2,
            )
            for limits, measures in ((AS_TRAINED, MEASURES), (POLISHED, ()))
        )
    numbers = {name: np.array([row[name] for row in trained.rows]) for name in (*MEASURES, "test_error")}
    numbers["relative_bar"] = np.array([row["relative_bar"] for row in polished.rows])  # in the same order
    axes = {
        "width": np.array([int(row["model"].split("-")[1]) for row in trained.rows]),
        "mini-batch": np.array([row["batch"] for row in trained.rows]),
    }
    cells = [
        {name: int(axis[rows[0]]) for name, axis in axes.items()}
        | {name.replace("_", " "): float(values[rows].mean()) for name, values in numbers.items()}
        for rows in same(axes)
    ]
    related = [
        {"measure": name.replace("_", " ")}
        | {f"with the {axis}": float(with_axis(values, axis, axes).statistic) for axis in axes}
        | {"with the test error": float(kendalltau(values, numbers["test_error"]).statistic)}
        for name, values in numbers.items()
    ]
    tables = {
        "Means over seeds": cells,
        "Rank correlations (Kendall); with a setting where the other is the same, with errors over all runs": related,
    }
    return Outcome(claims(numbers, axes), tables, picture(cells))


def same(axes: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the rows of the runs that differ in their seed alone."""
    points = np.stack(list(axes.values()), axis=1)
    return [np.flatnonzero((points == point).all(axis=1)) for point in np.unique(points, axis=0)]


def within(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return ranks among the runs that have the other setting alike, so that what it does is left out."""
    ranks = np.empty(len(values))
    for value in np.unique(other):
        ranks[other == value] = rankdata(values[other == value])
    return ranks


def with_axis(values: np.ndarray, axis: str, axes: dict[str, np.ndarray]) -> Any:
    """Return the rank correlation with one setting where the other is the same."""
    (other,) = (name for name in axes if name != axis)
    return kendalltau(within(values, axes[other]), axes[axis])


def claims(numbers: dict[str, np.ndarray], axes: dict[str, np.ndarray]) -> list[Claim]:
    expected = {
        "The larger the mini-batch, the sharper the minima.": ("hessian_top", "mini-batch"),
        "The wider the network, the better its minima are connected.": ("mode_connectivity", "width"),
        "The wider the network, the more alike its minima are.": ("cka", "width"),
    }
    found = [with_axis(numbers[name], axis, axes) for name, axis in expected.values()]
    corrected = tl.holm([one.pvalue for one in found])
    first = [
        Claim(
            words,
            PAPER,
            f"Kendall {one.statistic:.2f} of {name.replace('_', ' ')} with the {axis}, where the other setting is the "
            f"same; p {p:.2g} (Holm)",
            one.statistic > 0 if p < CERTAIN else None,
        )
        for (words, (name, axis)), one, p in zip(expected.items(), found, corrected, strict=True)
    ]
    return [*first, of_errors(numbers)]


def of_errors(numbers: dict[str, np.ndarray]) -> Claim:
    """Return the claim that sharpness tells less of the test error, with bootstrap intervals over the runs."""
    rng, errors = np.random.default_rng(0), numbers["test_error"]

    def closeness(name: str, rows: np.ndarray) -> float:
        return abs(kendalltau(numbers[name][rows], errors[rows]).statistic)

    every = np.arange(len(errors))
    draws = [rng.integers(len(errors), size=len(errors)) for _ in range(500)]
    said, ahead = [f"|Kendall| of the sharpness {closeness('hessian_top', every):.2f}"], []
    for name in ("mode_connectivity", "cka"):
        gains = [closeness(name, rows) - closeness("hessian_top", rows) for rows in draws]
        low, high = np.nanpercentile(gains, (2.5, 97.5))
        said.append(f"of {name.replace('_', ' ')} {closeness(name, every):.2f} (more by {low:.2f} to {high:.2f})")
        ahead.append(True if low > 0 else False if high < 0 else None)
    holds = ahead[0] if len(set(ahead)) == 1 else None
    return Claim(
        "The test error goes with connectivity and similarity more than with sharpness.", PAPER, ", ".join(said), holds
    )


def picture(cells: list[Row]) -> Figure:
    figure = Figure(figsize=(11, 6), layout="constrained")
    loads, temperatures = (sorted({row[name] for row in cells}) for name in ("width", "mini-batch"))
    for ax, (name, words) in zip(figure.subplots(2, 3).ravel(), SHOWN.items(), strict=True):
        known = {(row["width"], row["mini-batch"]): row[name.replace("_", " ")] for row in cells}
        values = [[known[load, temperature] for load in loads] for temperature in temperatures]
        tl.plot.phase(values, loads=loads, temperatures=temperatures, ax=ax, names=("width", "mini-batch"), label=words)
    return figure


if __name__ == "__main__":
    main(example)
