"""Do width and depth lower the barcode? Fully connected and convolutional networks on digits.

    python docs/examples/width_and_depth.py

Barannikov et al. (2020, arXiv 2012.15834) claim that bars of trained minima become shorter as networks get wider and
deeper. Here one of the two is varied at a time, with five seeds of each network. All are searched within the same
limits, which are tight: deaths are upper bounds.
"""

import tempfile
from collections.abc import Mapping

from gallery import QUARTER_OF_DIGITS, Claim, Outcome, Row, compared, in_words, is_lower, main, with_intervals
from matplotlib.figure import Figure

import topolandscape as tl
from topolandscape.study import intervals

PAPER = "Barannikov et al. (2020, arXiv 2012.15834)"
FACTORS: Mapping[tuple[str, str], Mapping[int, str]] = {
    ("fully connected", "width"): {8: "mlp:64-8-10,tanh", 16: "mlp:64-16-10,tanh", 32: "mlp:64-32-10,tanh"},
    ("fully connected", "depth"): {1: "mlp:64-16-10,tanh", 2: "mlp:64-16-16-10,tanh", 3: "mlp:64-16-16-16-10,tanh"},
    ("convolutional", "width"): {
        2: "conv:1x8x8-2-10,tanh,flatten",
        4: "conv:1x8x8-4-10,tanh,flatten",
        8: "conv:1x8x8-8-10,tanh,flatten",
    },
    ("convolutional", "depth"): {1: "conv:1x8x8-4-10,tanh,flatten", 2: "conv:1x8x8-4-4-10,tanh,flatten"},
}
SETTINGS = {
    "data": QUARTER_OF_DIGITS,
    "weight_decay": 1e-3,  # without it the minima lie at infinity
    "minima": 4,
    "steps": 200,
    "max_evaluations": 600,  # of polishing each of them
    "evaluations": 3000,  # of the search for passes
    "seed": [0, 1, 2, 3, 4],
}
QUICK = {"steps": 10, "max_evaluations": 10, "evaluations": 200, "minima": 2, "seed": [0, 1]}


def example(quick: bool) -> Outcome:
    factors = {names: models for names, models in FACTORS.items() if not quick or names == ("fully connected", "width")}
    settings, jobs = (SETTINGS | QUICK, 1) if quick else (SETTINGS, 2)
    with tempfile.TemporaryDirectory() as folder:
        # Runs that two studies have in common are computed once.
        results = {
            names: tl.run_study(tl.Study(settings | {"model": list(models.values())}, measures=()), folder, jobs=jobs)
            for names, models in factors.items()
        }
        figure = picture(results)
    groups: dict[str, Row] = {}
    differences: list[Row] = []
    claims = []
    for (kind, factor), result in results.items():
        models = factors[kind, factor]
        groups |= {model: summary(result, model) for model in models.values()}
        scores = {value: result.of_group(model, "mean_bar") for value, model in models.items()}
        values = list(scores)
        pairs = [(one, other) for i, one in enumerate(values) for other in values[i + 1 :]]
        rows = compared({f"{kind}, {factor} {one} and {other}": (scores[one], scores[other]) for one, other in pairs})
        differences += rows
        ends = rows[len(values) - 2]  # the first value and the last
        words = f"Bars fall with the {factor} of {kind} networks."
        claims.append(Claim(words, PAPER, in_words(ends), is_lower(ends)))
    tables = {
        "Means over five seeds, with 95 % intervals": list(groups.values()),
        "Differences of mean bars; p-values are of permutations, corrected by Holm within each factor": differences,
    }
    return Outcome(claims, tables, figure)


def summary(result: tl.StudyResult, model: str) -> Row:
    numbers = with_intervals(result, model, ("mean_bar", "relative_bar", "lowest_loss", "test_error"))
    return {"network": model, "parameters": int(result.of_group(model, "parameters")[0])} | dict(numbers)


def hidden(model: str) -> str:
    """Return the widths of the hidden layers in the name of a network."""
    return "-".join(model.partition(",")[0].split("-")[1:-1])


def picture(results: Mapping[tuple[str, str], tl.StudyResult]) -> Figure:
    kinds = list(dict.fromkeys(kind for kind, _ in results))
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    panels = figure.subplots(2, 2, height_ratios=(1.2, 1))
    for ax, kind in zip(panels[0], kinds, strict=False):
        codes = {
            hidden(model): tl.bar_bands(result.barcodes(model))
            for (own, _), result in results.items()
            if own == kind
            for model in dict.fromkeys(result.groups)
        }
        tl.plot.bands(codes, ax=ax, legend=kind == kinds[0])
        ax.set_xlabel({"fully connected": "widths of hidden layers", "convolutional": "channels of convolutions"}[kind])
        ax.set_title(kind, loc="right")
    for ax, factor in zip(panels[1], dict.fromkeys(factor for _, factor in results), strict=False):
        curves, bars = {}, {}
        for kind in kinds:
            result, models = results[kind, factor], FACTORS[kind, factor]
            curves[kind] = {value: result.of_group(model, "mean_bar") for value, model in models.items()}
            found = intervals(result, "mean_bar")
            bars[kind] = {value: found[model][:3] for value, model in models.items()}
        scale = "log" if factor == "width" else "linear"
        tl.plot.scores(curves, intervals=bars, ax=ax, xscale=scale, factor=factor, label="mean bar")
    return figure


if __name__ == "__main__":
    main(example)
