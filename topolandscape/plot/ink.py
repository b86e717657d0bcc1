"""What all pictures share: new axes, colours that everyone can tell apart, and the marks of minima and saddles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from topolandscape.structures import PASSES, Barcode, Floats, Integers, LossSamples, common_scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008), "Color universal design"; the yellow is left out, since it is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GREY = "0.45"
SMALL = "small"  # of the font size that is set
MINIMUM: dict[str, Any] = {"marker": "v", "linestyle": "none", "label": "minimum"}
SADDLE: dict[str, Any] = {"marker": "s", "linestyle": "none", "label": "saddle"}
MAXIMUM: dict[str, Any] = {"marker": "^", "linestyle": "none", "label": "maximum"}
ENDLESS: dict[str, Any] = {"marker": "^", "linestyle": "none", "label": "never ends", "markerfacecolor": "white"}
# Filled where a saddle is known, open where only a path is.
PASS: dict[str, dict[str, Any]] = {
    "verified saddle": {"marker": "s", "linestyle": "none", "label": "verified saddle"},
    "path maximum": {"marker": "s", "linestyle": "none", "label": "path maximum", "markerfacecolor": "white"},
    "not converged": {"marker": "x", "linestyle": "none", "label": "not converged"},
}


def axes(ax: Axes | None, *, projection: str | None = None) -> Axes:
    """Return `ax`, or the axes of a new figure about 110 mm wide."""
    if ax is not None:
        if projection == "3d" and not hasattr(ax, "zaxis"):
            raise ValueError('ax is flat; a surface needs three axes, made with subplot_kw={"projection": "3d"}.')
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(4.4, 3.4), layout="constrained", subplot_kw={"projection": projection})[1]


def legend(ax: Axes, handles: list[Any], title: str | None = None) -> None:
    """Name the marks above the picture, where they hide nothing, in as many columns as there is room for."""
    room = ax.figure.get_figure(root=True).get_figwidth() * 72
    widths = [30 + 4.6 * len(str(handle.get_label())) for handle in handles]  # points, of small letters
    columns = 4
    while columns > 1 and sum(max(part) for part in _columns(widths, columns)) > room:
        columns -= 1
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.12, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=SMALL,
        handlelength=1.4,
        handletextpad=0.4,
        columnspacing=1.0,
        title=title,
        title_fontproperties={"size": SMALL},
        alignment="left",
    )


def _columns(entries: list[float], columns: int) -> list[list[float]]:
    """Return the entries of each column, as matplotlib fills them."""
    return [part.tolist() for part in np.array_split(entries, columns) if len(part)]


def handles(*marks: dict[str, Any]) -> list[Any]:
    """Return what explains the marks in a legend, in a size of its own."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=GREY, markersize=5, **mark) for mark in marks]


def pass_marks(rows: Integers, passes: Sequence[str] | None) -> Iterator[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """Yield each mark that occurs among some passes, given by their rows, and which of them have it."""
    if passes is None:
        yield SADDLE, np.ones(len(rows), dtype=bool)
        return
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(passes):
        raise ValueError(
            f"a bar or branch ends at pass {rows.max()}, but {len(passes)} passes are given; give those of the network "
            "to which the picture belongs."
        )
    for word in passes:
        if word not in PASSES:
            raise ValueError(f"a pass is {word!r}; it needs to be one of {', '.join(PASSES)}.")
    words = np.array([passes[row] for row in rows], dtype=object)
    for word, mark in PASS.items():
        if (words == word).any():
            yield mark, words == word


def name_places(ax: Axes, x: Floats, names: Sequence[str], *, minor: bool = False) -> None:
    """Write names below places of the x axis, upright where they are crowded; not at all where too many are."""
    low, high = ax.get_xlim()
    width = ax.get_window_extent().width * 72 / ax.figure.dpi
    gap = float(np.diff(np.sort(x)).min(initial=high - low)) / (high - low) * width  # points
    longest = max((len(line) for name in names for line in name.splitlines()), default=0)
    if gap < 5.5:
        x, names = x[:0], []
    crowded = gap < 4.6 * longest + 3
    ax.set_xticks(x, names, minor=minor, rotation=90 if crowded else 0, fontsize="x-small" if gap < 10 else SMALL)


def critical_rows(samples: LossSamples, barcode: Barcode | None, min_persistence: float) -> tuple[Integers, Integers]:
    """Return the rows of samples that are minima, and those that are saddles, of the bars of degree 0."""
    if barcode is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    bars = barcode.filter(dim=0, min_persistence=min_persistence)
    minima, saddles = (np.unique(rows[rows >= 0]) for rows in (bars.birth_vertex, bars.death_vertex))
    top = max(minima.max(initial=-1), saddles.max(initial=-1))
    if top >= len(samples):
        raise ValueError(
            f"the barcode names sample {top}, but there are {len(samples)} samples; give the samples of which it is "
            "the barcode."
        )
    return minima, saddles


def loss_label(label: str | None, provenances: Iterable[Mapping[str, Any]]) -> str:
    """Return the name of an axis of losses; None: ``loss``, with what 0 and 1 stand for where bars are normalised."""
    scale = common_scale(provenances)
    if label is not None:
        return label
    if scale is None:
        return "loss"
    low, high = scale["low_name"], scale["high_name"]
    return f"loss, as a share of {high}" if low == "0" else f"loss (0: {low}, 1: {high})"


def above(values: Floats) -> float:
    """Return a loss a little above all finite ones."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return 1.0
    spread = float(np.ptp(known))
    return float(known.max()) + 0.12 * (spread if spread > 0 else max(abs(float(known.max())), 1.0))


def finite(values: Floats) -> Floats:
    """Return a copy in which losses that are not finite are NaN, which matplotlib leaves out."""
    return np.where(np.isfinite(values), values, np.nan)


def count(n: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n} {singular if n == 1 else plural or singular + 's'}"
