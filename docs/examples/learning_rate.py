"""Does an annealed learning rate lead to minima that are more easily left than those of a small one?

    python docs/examples/learning_rate.py

Barannikov et al. (2020, arXiv 2012.15834) train networks at a small rate throughout, and at a large one that is
annealed, and find lower bars in the second case; and that bars go with the test error of their minima. Here a small
network is trained in both ways from six seeds. In the paper the rates are 500 apart, and there is no weight decay; here
they are 100 apart, weight decay keeps the minima from infinity, and the ends of training are polished to minima.
"""

import tempfile
from collections.abc import Mapping

from gallery import CERTAIN, QUARTER_OF_DIGITS, Claim, Outcome, Row, compared, in_words, is_lower, main, with_intervals
from matplotlib.figure import Figure

import topolandscape as tl
from topolandscape.plot import ink
from topolandscape.study import correlations

PAPER = "Barannikov et al. (2020, arXiv 2012.15834)"
MODEL = "mlp:64-8-10,tanh"
SETTINGS = {
    "model": MODEL,
    "data": QUARTER_OF_DIGITS,
    "weight_decay": 1e-3,
    "method": "sgd",  # with momentum 0.9
    "batch": 60,  # six steps are an epoch
    "minima": 4,
    "max_evaluations": 600,  # of polishing each of them
    "evaluations": 4000,  # of the search for passes
    "seed": [0, 1, 2, 3, 4, 5],
}
RATES = {
    "small": {"learning_rate": 0.005, "schedule": "constant", "steps": 6000},
    "annealed": {"learning_rate": 0.5, "schedule": "linear", "steps": 600},
}
QUICK = {"steps": 30, "max_evaluations": 20, "evaluations": 200, "minima": 3, "seed": [0, 1]}
NUMBERS = ("mean_bar", "longest_bar", "lowest_loss", "test_error", "distance")


def example(quick: bool) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        results = {
            name: tl.run_study(
                tl.Study(SETTINGS | rate | (QUICK if quick else {}), measures=("distance",)),
                folder,
                jobs=1 if quick else 2,
            )
            for name, rate in RATES.items()
        }
        bars = [
            {"rate": name, "minima": found.n, "Spearman": found.spearman, "p": found.spearman_p}
            for name, result in results.items()
            for found in correlations(result)
            if found.name == "bar of a minimum"
        ]
        figure = picture(results)
    means = [{"rate": name} | dict(with_intervals(result, MODEL, NUMBERS)) for name, result in results.items()]
    scores = [result.of_group(MODEL, "mean_bar").tolist() for result in results.values()]
    differences = compared({"small and annealed rate": (scores[0], scores[1])})
    tables = {
        "Means over seeds, with 95 % intervals": means,
        "Difference of the mean bars": differences,
        "Rank correlation of the bar of a minimum with its test error": bars,
    }
    claims = [
        Claim("The annealed rate gives lower bars.", PAPER, in_words(differences[0]), is_lower(differences[0])),
        Claim("Minima with longer bars have a higher test error.", PAPER, *of_errors(bars)),
    ]
    return Outcome(claims, tables, figure)


def of_errors(bars: list[Row]) -> tuple[str, bool | None]:
    """Return in words how bars go with test errors, and whether they do; None: not decided."""
    corrected = tl.holm([row["p"] for row in bars]) if bars else []
    said = [
        f"{row['rate']} rate: Spearman {row['Spearman']:.2f}, p {p:.2g}" for row, p in zip(bars, corrected, strict=True)
    ]
    signs = {row["Spearman"] > 0 for row, p in zip(bars, corrected, strict=True) if p < CERTAIN}
    return "; ".join(said), signs.pop() if len(signs) == 1 else None


def picture(results: Mapping[str, tl.StudyResult]) -> Figure:
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    tl.plot.bands({f"{name} rate": tl.bar_bands(result.barcodes(MODEL)) for name, result in results.items()}, ax=left)
    for place, (name, result) in enumerate(results.items()):
        errors, bars = (result.of_group(MODEL, number) for number in ("test_error", "mean_bar"))
        right.plot(errors, bars, "os"[place], color=ink.COLOURS[place], label=f"{name} rate")
    right.set(xlabel="test error", ylabel="mean bar", ylim=(0, None))
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(example)
