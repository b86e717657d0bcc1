"""What is written and printed of a study: tables, a picture, and a report in one file."""

from __future__ import annotations

import base64
import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from topolandscape.compare.groups import Interval
from topolandscape.files.whole import write
from topolandscape.study.comparison import StudyResult
from topolandscape.study.measures import MEASURES, SCORES
from topolandscape.study.report_pictures import name_of, phases, picture, png
from topolandscape.study.statistics import (
    CERTAIN,
    Against,
    Difference,
    correlations,
    differences,
    intervals,
)

# Of what the command prints of each group, besides the score; what is not known is left out.
_PRINTED = ("relative_bar", "longest_bar", "train_error", "test_error", "test_loss")
_WORDS = {**SCORES, **{name: measure.words for name, measure in MEASURES.items()}}


def write_report(
    result: StudyResult, folder: str | os.PathLike[str], *, score: str = "mean_bar", against: Against = "all"
) -> list[Path]:
    """Write the table of a study, its picture, and a report that holds both.

    Parameters
    ----------
    result
        Of `run_study` or `compare_runs`.
    folder
        Where the files go.
    score
        The number by which groups are compared: one of `result.numbers`.
    against
        ``"all"``: compare each two groups; ``"first"``: each with the first one.

    Returns
    -------
    list of Path
        ``report.html``, which needs no other file and no network; ``table.csv``, one row a run; ``table.tex``, one row
        a group; ``picture.png``; and ``phases.png`` where a load and a temperature were varied.

    Raises
    ------
    ValueError
        The score is not known of any run.

    Examples
    --------
    >>> import tempfile
    >>> from topolandscape.files import Run
    >>> from topolandscape.structures import Barcode
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = Run.create(Path(folder, "run"), {"model": "mlp:2-2-1", "seed": 0})
    ...     run.save("barcode", Barcode.from_pairs([(0.0, math.inf), (1.0, 3.0)]))
    ...     written = write_report(StudyResult(("mlp:2-2-1",), (run,)), folder)
    ...     [path.name for path in written]
    ['report.html', 'table.csv', 'table.tex', 'picture.png']
    """
    _check_score(result, score)
    pictures = {"picture.png": png(picture(result, score))}
    if (figure := phases(result, score)) is not None:
        pictures["phases.png"] = png(figure)
    texts = {
        "report.html": _html(result, pictures, score, against),
        "table.csv": table_csv(result),
        "table.tex": table_latex(result),
    }
    files = {name: text.encode() for name, text in texts.items()} | pictures
    for name, data in files.items():
        write(Path(folder) / name, data)
    return [Path(folder) / name for name in files]


def _check_score(result: StudyResult, score: str) -> None:
    if score not in result.numbers:
        raise ValueError(f"{score} is not known of any run; known are {', '.join(result.numbers)}.")


# --------------------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------------------


def table_csv(result: StudyResult) -> str:
    """Return the table of a study as CSV, one row a run; numbers are written to the last digit."""
    columns = result.columns()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if value is None or _is_nan(value) else value for value in row])
    return text.getvalue()


def table_latex(result: StudyResult) -> str:
    """Return the table of a study as a LaTeX tabular, one row a group: means over seeds and their 95 % intervals."""
    names = result.numbers
    lines = [
        rf"\begin{{tabular}}{{lr{'r' * len(names)}}}",
        r"\hline",
        " & ".join(_tex(word) for word in ("group", "runs", *names)) + r" \\",
        r"\hline",
    ]
    for group, runs, *cells in _group_rows(result, names):
        lines.append(" & ".join([_tex(group), runs, *(f"${_tex_number(cell)}$" for cell in cells)]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def _tex(word: str) -> str:
    for sign in "\\&%$#_{}":
        word = word.replace(sign, rf"\{sign}" if sign != "\\" else "/")
    return word


def _tex_number(cell: str) -> str:
    """Return a number with its interval as it is set in formulas."""
    return re.sub(r"e([+-])0*(\d+)", lambda found: rf" \cdot 10^{{{found[1].strip('+')}{found[2]}}}", cell).replace(
        "±", r"\pm"
    )


def _said(known: Interval) -> str:
    """Return a mean with half the width of its interval, in words."""
    if math.isnan(known.estimate):
        return "-"
    half = (known.high - known.low) / 2
    return f"{known.estimate:.4g}" + (f" ± {half:.2g}" if half > 0 and math.isfinite(half) else "")


def _span(known: Interval) -> str:
    """Return an estimate with its interval, which need not lie evenly around it."""
    return f"{known.estimate:.3g} ({known.low:.2g} to {known.high:.2g})"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


# --------------------------------------------------------------------------------------------------------------
# What is printed
# --------------------------------------------------------------------------------------------------------------


def lines_of(result: StudyResult, *, score: str = "mean_bar", against: Against = "all") -> Iterator[str]:
    """Yield what the command prints: a short table with intervals over seeds, differences, and what they say."""
    _check_score(result, score)
    names = [score, *(name for name in _PRINTED if name in result.numbers and name != score)]
    yield from _aligned([["group", "runs", *map(name_of, names)], *_group_rows(result, names)])
    if found := differences(result, score, against=against):
        yield ""
        yield from _aligned([_difference_head(score), *_difference_rows(found)])
    yield ""
    yield verdict(result, score=score, against=against)


def _group_rows(result: StudyResult, names: Sequence[str]) -> list[list[str]]:
    """Return for each group the cells of a table: its name, how many runs, and numbers with their intervals."""
    every = {name: intervals(result, name) for name in names}
    groups = dict.fromkeys(result.groups)
    return [
        [group, str(result.groups.count(group)), *(_said(every[name][group]) for name in names)] for group in groups
    ]


def _difference_head(score: str) -> list[str]:
    return [f"difference in {name_of(score)}", "shift", "p", "corrected", "Cliff's delta"]


def _difference_rows(found: Sequence[Difference]) -> list[list[str]]:
    return [
        [f"{d.one} - {d.other}", _span(d.shift), f"{d.p:.2g}", f"{d.corrected:.2g}", f"{d.effect:.2f}"] for d in found
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of cells as lines, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        yield "  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))])


def verdict(result: StudyResult, *, score: str = "mean_bar", against: Against = "all") -> str:
    """Return in a sentence which group has the lowest score, and from which others this tells it apart."""
    means = {
        group: known.estimate for group, known in intervals(result, score).items() if not math.isnan(known.estimate)
    }
    if len(means) < 2:
        return f"there is one group with a known {name_of(score)}: nothing to compare"
    best = min(means, key=lambda group: means[group])
    found = {
        (d.other if d.one == best else d.one): d.corrected < CERTAIN
        for d in differences(result, score, against=against)
        if best in (d.one, d.other)
    }
    others = [group for group in means if group != best]
    parts = {
        f"lower than that of {{}} (p < {CERTAIN:g} after correction)": [g for g in others if found.get(g)],
        "not told apart from that of {}": [g for g in others if g in found and not found[g]],
        "not compared with that of {}": [g for g in others if g not in found],
    }
    said = [words.format("; ".join(some)) for words, some in parts.items() if some]
    return f"lowest {name_of(score)}: {best}, " + ", ".join(said)


def json_of(result: StudyResult, *, score: str = "mean_bar", against: Against = "all") -> dict[str, Any]:
    """Return everything that is known, as plain values; what is not known is None."""
    _check_score(result, score)
    return _plain(
        {
            "runs": [dict(row) for row in result.rows],
            "groups": {
                group: {"runs": result.groups.count(group)}
                | {name: intervals(result, name)[group]._asdict() for name in result.numbers}
                for group in dict.fromkeys(result.groups)
            },
            "score": score,
            "differences": [
                found._asdict() | {"shift": found.shift._asdict()}
                for found in differences(result, score, against=against)
            ],
            "correlations": [found._asdict() for found in correlations(result)],
            "verdict": verdict(result, score=score, against=against),
            "failures": dict(result.failures),
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --------------------------------------------------------------------------------------------------------------
# The report
# --------------------------------------------------------------------------------------------------------------

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 60rem; margin: 0 auto;
  padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2rem; }
img { max-width: 100%; min-width: 34rem; height: auto; display: block; margin: 1rem auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
.verdict { font-size: 1.1rem; border-left: 4px solid #0072B2; padding: .25rem 0 .25rem .8rem; }
.wrong { border-left: 4px solid #D55E00; padding-left: .8rem; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 1rem; }
footer { color: #666; font-size: .85rem; margin-top: 2rem; }
"""

_CAUTIONS = (
    "A bar says how far one must climb from a minimum to reach a lower one. Deaths found by bending paths are upper "
    "bounds: with a longer search bars can only become shorter. Groups are comparable when all were searched within "
    "the same limits.",
    "Intervals are those of the mean over seeds, by Student's distribution with 95 % confidence. They speak of other "
    "seeds, not of other data.",
    "A p-value above the level says that the runs do not tell two groups apart, not that the groups are the same. "
    "Losses of different data or loss functions are on different scales: compare their relative bars.",
    "Correlations are over few runs, mostly of different architectures, and are not corrected for their number: they "
    "are hints.",
)


def _html(result: StudyResult, pictures: Mapping[str, bytes], score: str, against: Against) -> str:
    from topolandscape import __version__

    groups = list(dict.fromkeys(result.groups))
    title = f"{len(groups)} group{'s' * (len(groups) != 1)}, {len(result)} runs"
    parts = [f"<h1>Loss landscapes compared: {title}</h1>"]
    said = verdict(result, score=score, against=against)
    parts.append(f'<p class="verdict">{escape(said[0].upper() + said[1:])}.</p>')
    parts += [
        f'<p class="wrong">The run {escape(name)} failed: {escape(wrong)}</p>'
        for name, wrong in result.failures.items()
    ]
    parts += _image(
        pictures, "picture.png", f"Mean barcodes with bands over seeds, and below them {name_of(score)} of every run."
    )
    names = result.numbers
    head = ["group", "runs", *map(name_of, names)]
    parts += _section("Groups: means over seeds, with 95 % intervals", head, _group_rows(result, names))
    if found := differences(result, score, against=against):
        parts += _section("Differences", _difference_head(score), _difference_rows(found))
    parts += _image(pictures, "phases.png", "Means over seeds for each load (across) and temperature (upwards).")
    if related := correlations(result):
        error = "test error" if "test_error" in names else "test loss"
        head = ["number", "over", "n", "Spearman", "p", "Kendall", "p"]
        rows = [
            [
                *(name_of(c.name), c.over, str(c.n)),
                *(f"{c.spearman:.2f}", f"{c.spearman_p:.2g}", f"{c.kendall:.2f}", f"{c.kendall_p:.2g}"),
            ]
            for c in related
        ]
        parts += _section(f"Rank correlation with the {error}", head, rows)
    columns = result.columns()
    rows = [[_cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
    parts += _section("Runs", [name_of(name) for name in columns], rows)
    parts.append("<h2>What the numbers are</h2><dl>")
    parts += [f"<dt>{escape(name_of(name))}</dt><dd>{escape(_WORDS[name])}</dd>" for name in names]
    parts.append("</dl><h2>What they do not say</h2><ul>")
    parts += [f"<li>{escape(words)}</li>" for words in _CAUTIONS]
    shared = {name: value for name, value in _shared(result).items() if name not in ("group", "seed", *result.varied)}
    parts.append("</ul><h2>Settings that all runs share</h2><p>")
    parts.append(escape(", ".join(f"{name_of(name)}: {value}" for name, value in shared.items()) or "none"))
    parts.append(f"</p><footer>Written by topolandscape {escape(__version__)}.</footer>")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _image(pictures: Mapping[str, bytes], name: str, caption: str) -> list[str]:
    """Return a picture, if there is one, with its caption; it holds its own data."""
    if name not in pictures:
        return []
    coded = base64.b64encode(pictures[name]).decode()
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{coded}">'
    return [f'<div class="wide">{image}</div>', f"<p>{escape(caption)}</p>"]


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a heading and a table that can be moved sideways where there is little room."""
    lines = [f"<h2>{escape(title)}</h2>", '<div class="wide"><table>']
    lines.append("<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>")
    lines += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return [*lines, "</table></div>"]


def _cell(value: Any) -> str:
    if value is None or _is_nan(value):
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _shared(result: StudyResult) -> dict[str, Any]:
    """Return the plain settings that all runs have alike."""
    first = result.runs[0].settings
    return {
        name: value
        for name, value in first.items()
        if not isinstance(value, (dict, list)) and all(run.settings.get(name) == value for run in result.runs)
    }
