"""What all pictures share: new axes, colours that everyone can tell apart, and the marks of minima and saddles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from topolandscape.structures import Barcode, Floats, Integers, LossSamples

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008), "Color universal design"; the yellow is left out, since it is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
GREY = "0.45"
SMALL = "small"  # of the font size that is set
MINIMUM: dict[str, Any] = {"marker": "v", "linestyle": "none", "label": "minimum"}
SADDLE: dict[str, Any] = {"marker": "s", "linestyle": "none", "label": "saddle"}
ENDLESS: dict[str, Any] = {"marker": "^", "linestyle": "none", "label": "never ends", "markerfacecolor": "white"}


def axes(ax: Axes | None, *, projection: str | None = None) -> Axes:
    """Return `ax`, or the axes of a new figure about 110 mm wide."""
    if ax is not None:
        if projection == "3d" and not hasattr(ax, "zaxis"):
            raise ValueError('ax is flat; a surface needs three axes, made with subplot_kw={"projection": "3d"}.')
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(4.4, 3.4), layout="constrained", subplot_kw={"projection": projection})[1]


def legend(ax: Axes, handles: list[Any]) -> None:
    """Name the marks above the picture, where they hide nothing."""
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.12, 1.0),
        ncols=4,
        frameon=False,
        fontsize=SMALL,
        handlelength=1.4,
        handletextpad=0.4,
        columnspacing=1.0,
    )


def handles(*marks: dict[str, Any]) -> list[Any]:
    """Return what explains the marks in a legend, in a size of its own."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=GREY, markersize=5, **mark) for mark in marks]


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


def finite(values: Floats) -> Floats:
    """Return a copy in which losses that are not finite are NaN, which matplotlib leaves out."""
    return np.where(np.isfinite(values), values, np.nan)


def count(n: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n} {singular if n == 1 else plural or singular + 's'}"
