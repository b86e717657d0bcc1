"""What the examples share: claims with their verdicts, and the files in which an outcome is kept.

An example is a function that takes whether it is to be quick and returns an `Outcome`; its script ends with

    if __name__ == "__main__":
        main(example)
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import topolandscape as tl
from topolandscape.study import intervals

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gallery.md"
sys.path.append(str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

PACKAGES = ("topolandscape", "torch", "numpy", "numba", "scipy")
QUARTER_OF_DIGITS = f"{Path(__file__).parent / 'studies' / 'digits_part.py'}:quarter"  # data, as a study names them
_DELTA = "Cliff's delta"
CERTAIN = 0.05  # corrected p-values below this decide

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what was measured of it.

    Parameters
    ----------
    says
        The claim, in one sentence.
    source
        Where it is made: authors and year, with the arXiv number.
    measured
        What came out, in words and numbers.
    holds
        Whether it is so; None: what was measured does not decide.
    proved
        Whether the claim is a theorem, under the assumptions of the example. Then the package is on trial.
    """

    says: str
    source: str
    measured: str
    holds: bool | None
    proved: bool = False

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        return {True: "holds", False: "does not hold", None: "not decided"}[self.holds]


@dataclass(frozen=True)
class Outcome:
    """What came out of an example: claims, tables by their titles, and a picture."""

    claims: Sequence[Claim]
    tables: Mapping[str, Sequence[Row]]
    figure: Figure


def compared(pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> list[Row]:
    """Return how the scores of two groups of seeds differ, for each pair; p-values are corrected for all of them."""
    tests = [tl.permutation_test(one, other, seed=0) for one, other in pairs.values()]
    return [
        {
            "groups": name,
            "mean": float(np.mean(one)),
            "of the second": float(np.mean(other)),
            "shift": tl.hodges_lehmann(one, other).estimate,
            "p": test.p_value,
            "corrected": float(p),
            _DELTA: tl.cliffs_delta(one, other),
        }
        for (name, (one, other)), test, p in zip(
            pairs.items(), tests, tl.holm([test.p_value for test in tests]), strict=True
        )
    ]


def is_lower(row: Row) -> bool | None:
    """Tell from a row of `compared` whether the second group is lower than the first; None: not decided."""
    return row[_DELTA] > 0 if row["corrected"] < CERTAIN else None


def are_lower(rows: Sequence[Row]) -> bool | None:
    """Tell whether the second groups are lower in all rows of `compared`; False: in none; None: not decided."""
    verdicts = {is_lower(row) for row in rows}
    return verdicts.pop() if len(verdicts) == 1 else None


def in_words(row: Row) -> str:
    """Return a row of `compared` in words."""
    return (
        f"{row['groups']}: {row['mean']:.3g} and {row['of the second']:.3g}, p {row['corrected']:.2g}, "
        f"delta {row[_DELTA]:.2g}"
    )


def with_intervals(result: tl.StudyResult, group: str, names: Sequence[str]) -> Row:
    """Return numbers of a group of a study as means over seeds with 95 % intervals."""
    known = {name: intervals(result, name)[group] for name in names}
    return {
        name.replace("_", " "): f"{found.estimate:.3g} ± {found.high - found.estimate:.2g}"
        for name, found in known.items()
    }


def bars_of_seeds(
    landscape: tl.Landscape, seeds: int, minima: int, *, steps: int, evaluations: int, path_steps: int = 400
) -> tuple[tl.Minima, list[tl.Barcode]]:
    """Return so many minima of each seed, seed by seed, and the barcode of each seed.

    `steps` bound the training and the polishing, `path_steps` and `evaluations` the search for passes.
    """
    # All seeds at once: many points are evaluated faster together.
    starts = np.concatenate([tl.initial_points(landscape, minima, seed=seed) for seed in range(seeds)])
    found = tl.minima(landscape, starts, seed=0, steps=steps, max_evaluations=steps, merge=None)
    parts = [found.rows(range(minima * seed, minima * (seed + 1))) for seed in range(seeds)]
    networks = [tl.minima_network(landscape, part, steps=path_steps, evaluations=evaluations) for part in parts]
    return found, [tl.barcode(network.reduced()) for network in networks]


def mean_bar(code: tl.Barcode, minima: int) -> float:
    """Return how far a trained minimum is climbed out of, 0 for one that is left without climbing."""
    return float(code.persistence[~code.essential].sum() / (minima - 1))


def main(example: Callable[[bool], Outcome]) -> None:
    """Run an example from its command line, and write the outcome into files named after its script."""
    script = Path(inspect.getfile(example))
    parser = argparse.ArgumentParser(
        description=inspect.getdoc(inspect.getmodule(example)), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small form of a few seconds, kept in runs/examples")
    parser.add_argument("--output", type=Path, help="folder for all files of the outcome")
    arguments = parser.parse_args()
    output = arguments.output or (ROOT / "runs" / "examples" if arguments.quick else None)
    results = output or script.parent / "results"
    images = output or ROOT / "docs" / "images"
    for folder in (results, images):
        folder.mkdir(parents=True, exist_ok=True)

    begun = time.perf_counter()
    outcome = example(arguments.quick)
    seconds = time.perf_counter() - begun
    record = {
        "environment": environment(*PACKAGES),
        "quick": arguments.quick,
        "seconds": seconds,
        "claims": [{**vars(claim), "verdict": claim.verdict} for claim in outcome.claims],
        "tables": outcome.tables,
    }
    text = markdown(outcome)
    (results / f"{script.stem}.json").write_text(json.dumps(record, indent=2, default=_plain) + "\n")
    (results / f"{script.stem}.md").write_text(text)
    outcome.figure.savefig(images / f"{script.stem}.png", dpi=120)
    if output is None:
        PAGE.write_text(with_claims(PAGE.read_text(), script.stem, text.split("\n\n")[0]))
    print(f"{text}\n{seconds:.1f} s")


def with_claims(page: str, name: str, claims: str) -> str:
    """Return the gallery with the claims of an example in place of those that stand between command and picture."""
    command = f"    python docs/examples/{name}.py\n\n"
    before, found, after = page.partition(command)
    _, picture, rest = after.partition("\n\n![")
    return before + command + claims + picture + rest if found and picture else page


def markdown(outcome: Outcome) -> str:
    """Return claims and tables as a page."""
    claims = [
        {"claim": claim.says, "source": claim.source, "measured": claim.measured, "": f"**{claim.verdict}**"}
        for claim in outcome.claims
    ]
    parts = [_table(claims), *(f"{title}\n\n{_table(rows)}" for title, rows in outcome.tables.items())]
    return "\n\n".join(parts) + "\n"


def _table(rows: Sequence[Row]) -> str:
    """Return rows with the same keys as a table."""
    numbers = [all(isinstance(row[name], (int, float)) for row in rows) for name in rows[0]]
    lines = [list(rows[0]), ["--:" if right else "---" for right in numbers]]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _plain(value: Any) -> Any:
    """Return a number or an array of numpy as JSON has it."""
    return value.tolist()
