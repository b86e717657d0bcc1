"""The pictures of a study: barcodes and scores of its groups, and phase plots."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from topolandscape.compare.groups import bar_bands
from topolandscape.study.comparison import StudyResult
from topolandscape.study.measures import MEASURES
from topolandscape.study.statistics import intervals

_DPI = 150
_RATIO = 8.0  # numbers that lie so far apart are drawn on a scale of ratios


def name_of(number: str) -> str:
    """Return the name of a number or a setting as it is shown."""
    return number.replace("_", " ")


def picture(result: StudyResult, score: str) -> Any:
    """Return the figure of a study: the barcodes of the groups side by side, and their scores below."""
    from matplotlib.figure import Figure

    from topolandscape import plot

    names = {group: group.replace(", ", "\n") for group in dict.fromkeys(result.groups)}
    figure = Figure(figsize=(max(5.5, 1.7 * len(names) + 1.5), 7.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(1.3, 1))
    plot.bands({name: bar_bands(result.barcodes(group)) for group, name in names.items()}, ax=upper)
    if (varied := _factor(result)) is None:
        _draw_scores(lower, {name: result.of_group(group, score) for group, name in names.items()}, name_of(score))
    else:
        factor, values = varied
        known = {values[group]: found for group, found in intervals(result, score).items()}
        bounded = all(map(math.isfinite, (bound for found in known.values() for bound in found[:3])))
        plot.scores(
            {name_of(score): {values[group]: result.of_group(group, score).tolist() for group in names}},
            intervals={name_of(score): known} if bounded else None,
            ax=lower,
            xscale="log" if min(known) > 0 and max(known) >= _RATIO * min(known) else "linear",
            factor=name_of(factor),
            label=name_of(score),
        )
    return figure


def _factor(result: StudyResult) -> tuple[str, Mapping[str, float]] | None:
    """Return the only thing by which groups differ, and its value for each, where it is a number; else None.

    Of named architectures it may be the width or the number of their hidden layers.
    """
    if len(result.varied) != 1 or len(set(result.groups)) < 2:
        return None
    (name,) = result.varied
    values = {row["group"]: row[name] for row in result.rows}
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values.values()):
        return name, values
    known = [_hidden(str(model)) for model in values.values()] if name == "model" else []
    if not known or None in known or len({found[:2] for found in known if found}) > 1:
        return None
    widths = [found.widths for found in known if found]
    if any(len(set(hidden)) > 1 for hidden in widths):
        return None
    if len(set(map(len, widths))) == 1:
        return "width", dict(zip(values, (hidden[0] for hidden in widths), strict=True))
    if len({hidden[0] for hidden in widths}) == 1:
        return "depth", dict(zip(values, map(len, widths), strict=True))
    return None


class _Hidden(NamedTuple):
    """The hidden layers of a named architecture, and what else is in its name."""

    kind: str
    others: tuple[str, ...]
    widths: tuple[int, ...]


def _hidden(model: str) -> _Hidden | None:
    """Read the name of an architecture as the zoo has it; None: it is no such name, or has no hidden layer."""
    kind, _, rest = model.partition(":")
    sizes, *options = rest.split(",")
    first, *hidden, last = sizes.split("-") if "-" in sizes else ("", "")
    if not hidden or not all(width.isdecimal() for width in hidden):
        return None
    return _Hidden(kind, (first, last, *sorted(options)), tuple(map(int, hidden)))


def _draw_scores(ax: Any, values: Mapping[str, Any], label: str) -> None:
    """Draw the score of every run, and each group's mean with its interval."""
    from topolandscape.plot import ink
    from topolandscape.study.statistics import interval

    for place, some in enumerate(values.values()):
        colour = ink.COLOURS[place % len(ink.COLOURS)]
        ax.plot(np.full(len(some), place - 0.1), some, "o", color=colour, alpha=0.6, markersize=4)
        known = interval(some)
        if len(some) > 1:
            half = known.high - known.estimate
            ax.errorbar(place + 0.1, known.estimate, half, fmt="s", color=colour, markersize=5, capsize=3)
    ax.set_xlim(-0.5, len(values) - 0.5)
    ink.name_places(ax, np.arange(len(values), dtype=np.float64), list(values))
    ax.set_ylabel(label)
    ax.set_xlabel("every run, and the mean over seeds with its 95 % interval", fontsize=ink.SMALL)
    ax.spines[["top", "right"]].set_visible(False)


def phases(result: StudyResult, score: str) -> Any:
    """Return the figure of phase plots, or None where no load and no temperature were varied."""
    if result.load is None or result.temperature is None:
        return None
    from matplotlib.figure import Figure

    from topolandscape import plot

    loads = list(dict.fromkeys(row[result.load] for row in result.rows))
    temperatures = list(dict.fromkeys(row[result.temperature] for row in result.rows))
    shown = [score, *(n for n in ("test_error", "test_loss", *MEASURES) if n in result.numbers and n != score)]
    shown = list(dict.fromkeys(shown))
    columns = min(3, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, name in zip(panels, shown, strict=False):
        cells = np.full((len(temperatures), len(loads)), np.nan)
        for i, temperature in enumerate(temperatures):
            for j, load in enumerate(loads):
                here = [
                    row[name]
                    for row in result.rows
                    if (row[result.load], row[result.temperature]) == (load, temperature) and not math.isnan(row[name])
                ]
                cells[i, j] = np.mean(here) if here else np.nan
        names = (name_of(result.load), name_of(result.temperature))
        plot.phase(cells, loads=loads, temperatures=temperatures, ax=ax, names=names, label=name_of(name))
    for ax in panels[len(shown) :]:
        ax.set_axis_off()
    return figure


def png(figure: Any) -> bytes:
    """Return a figure as the contents of a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
