"""Phase plots: one number of trained networks over two settings of their training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.plot import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def phase(
    values: ArrayLike,
    *,
    loads: Sequence[object],
    temperatures: Sequence[object],
    ax: Axes | None = None,
    names: tuple[str, str] = ("load", "temperature"),
    label: str = "",
) -> Axes:
    """Draw one number over a load-like and a temperature-like setting, a cell for each pair of their values.

    Parameters
    ----------
    values
        Shape (temperatures, loads); NaN where it is not known.
    loads, temperatures
        Values of the settings, in the order of the columns, from left to right, and of the rows, from below.
    ax
        Where to draw; None: on a new figure.
    names
        Of the two settings: what stands for a load (width, amount of data, noise of the labels), and what for a
        temperature (learning rate, 1 / mini-batch, weight decay).
    label
        What the number is; it stands above the picture.

    Returns
    -------
    matplotlib.axes.Axes
        Each cell says its number; unknown ones are hatched. The colours go from the lowest number to the highest.

    Raises
    ------
    ValueError
        There are not as many rows and columns as values of the settings.

    References
    ----------
    Yang, Hodgkinson, Theisen, Zou, Gonzalez, Ramchandran and Mahoney (2021), "Taxonomizing local versus global
    structure in neural network loss landscapes".

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> ax = phase([[1.0, 0.5], [0.25, float("nan")]], loads=[8, 16], temperatures=[0.01, 0.1], label="mean bar")
    >>> [text.get_text() for text in ax.texts]
    ['1', '0.5', '0.25']
    """
    table = np.asarray(values, dtype=np.float64)
    if table.shape != (len(temperatures), len(loads)) or table.size == 0:
        raise ValueError(
            f"values have shape {table.shape}; {len(temperatures)} temperatures and {len(loads)} loads need "
            f"({len(temperatures)}, {len(loads)}), at least one of each."
        )
    ax = ink.axes(ax)
    known = np.isfinite(table)
    ax.pcolormesh(np.ma.masked_invalid(table), cmap="cividis", edgecolors="white", linewidth=1.5)
    ax.patch.set(hatch="///", edgecolor="0.75", facecolor="white")
    for (row, column), value in np.ndenumerate(table):
        if known[row, column]:
            light = value > (table[known].min() + table[known].max()) / 2
            place = (column + 0.5, row + 0.5)
            colour = "black" if light else "white"
            ax.text(*place, f"{value:.3g}", ha="center", va="center", color=colour, fontsize=ink.SMALL)
    crowded = sum(len(str(value)) for value in loads) > 40
    ax.set_xticks(
        np.arange(len(loads)) + 0.5,
        [str(value) for value in loads],
        rotation=30 if crowded else 0,
        ha="right" if crowded else "center",
        rotation_mode="anchor",
    )
    ax.set_yticks(np.arange(len(temperatures)) + 0.5, [str(value) for value in temperatures])
    ax.tick_params(length=0)
    ax.set_xlabel(names[0])
    ax.set_ylabel(names[1])
    ax.set_title(label, fontsize=ink.SMALL, loc="left")
    ax.spines[:].set_visible(False)
    return ax
