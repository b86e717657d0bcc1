"""Pictures of networks of minima: the loss along their paths, and how their bars shrink as the paths are bent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.plot import ink
from topolandscape.structures import Floats, PathProfile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scale = Literal["linear", "log"]


def paths(profiles: Sequence[PathProfile], *, ax: Axes | None = None, label: str = "loss", legend: bool = True) -> Axes:
    """Draw the loss along paths between minima, side by side over one axis of losses.

    Parameters
    ----------
    profiles
        The paths, for example those of the spanning tree of a network. They stand in order of their highest loss, each
        as wide as it is long, and below each the rows of its minima. The barrier, what lies above the higher of them,
        is shaded.
    ax
        Where to draw; None: on a new figure.
    label
        Name of the axis of losses.
    legend
        Whether the marks are explained above the picture.

    Returns
    -------
    matplotlib.axes.Axes
        The highest points are filled squares where they are verified saddles, open ones where they are the maxima of
        paths, and crosses where the paths were still falling. Marks of the lower axis count the distance from the
        beginning of each path.

    Raises
    ------
    ValueError
        There is no path.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> low = PathProfile((0, 2), [0.0, 1.0, 2.0], [0.0, 0.5, 0.2], 1.0, "verified saddle")
    >>> high = PathProfile((0, 1), [0.0, 1.0, 3.0], [0.0, 0.9, 0.1], 1.0, "path maximum")
    >>> ax = paths([high, low])
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['0–2', '0–1']
    """
    if len(profiles) == 0:
        raise ValueError("no path was given; a picture needs at least one.")
    ax = ink.axes(ax)
    drawn = sorted(profiles, key=lambda profile: (profile.highest, profile.ends))
    n = len(drawn)
    lengths = np.array([profile.length for profile in drawn])
    slots = np.maximum(lengths, 0.7 * lengths.mean()) + 0.3 * lengths.mean()  # a short path gets room for its name
    begins = np.concatenate([[0.0], np.cumsum(slots)[:-1]]) + (slots - lengths) / 2
    begins -= begins[0]
    edges = begins - (slots - lengths) / 2
    middles = begins + lengths / 2
    size, width = float(np.clip(100 / n, 3.3, 6)), float(np.clip(30 / n, 0.8, 1.4))
    for begin, edge, profile in zip(begins, edges, drawn, strict=True):
        x, loss = begin + profile.distances, profile.losses
        higher = max(loss[0], loss[-1])
        barrier = ax.fill_between(
            x,
            higher,
            loss,
            where=loss > higher,
            interpolate=True,
            color=ink.COLOURS[4],
            alpha=0.3,
            linewidth=0,
            label="barrier",
        )
        ax.plot(x, loss, color=ink.COLOURS[0], linewidth=width)
        ax.plot(x[[0, -1]], loss[[0, -1]], color=ink.COLOURS[0], markersize=size, **ink.MINIMUM)
        ax.plot(
            begin + profile.top, profile.highest, color=ink.COLOURS[1], markersize=size * 0.85, **ink.PASS[profile.word]
        )
        if edge > 0:
            ax.axvline(edge, color="0.85", linewidth=0.8, zorder=0)
    ax.set_xlim(edges[0], edges[-1] + slots[-1])
    ax.set_ylabel(label)
    if n == 1:
        ax.set_xlabel(
            "distance along the path from minimum {} to minimum {}".format(*drawn[0].ends), fontsize=ink.SMALL
        )
    else:
        step = _step(ax, lengths.max(), slots.sum())
        ticks = [begin + np.arange(0, length * (1 + 1e-9), step) for begin, length in zip(begins, lengths, strict=True)]
        ax.set_xticks(np.concatenate(ticks), minor=True)
        ax.tick_params(axis="x", which="major", length=0, pad=6)
        ink.name_places(ax, middles, ["{}–{}".format(*profile.ends) for profile in drawn])
        ax.set_xlabel(f"distance along each path between two minima (a mark every {step:g})", fontsize=ink.SMALL)
    if legend:
        words = {profile.word for profile in drawn}
        marks = [mark for word, mark in ink.PASS.items() if word in words]
        ink.legend(ax, [*ink.handles(ink.MINIMUM, *marks), barrier])
    return ax


def _step(ax: Axes, longest: float, whole: float) -> float:
    """Return a round distance of which some, but not too many, fit into the longest path."""
    from matplotlib.ticker import MaxNLocator

    room = ax.get_window_extent().width * 72 / ax.figure.dpi * longest / whole  # points
    marks = MaxNLocator(int(np.clip(room / 12, 1, 8)), steps=[1, 2, 5, 10]).tick_values(0, longest)
    return float(marks[1] - marks[0])


def convergence(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    ax: Axes | None = None,
    xscale: Scale = "linear",
    yscale: Scale = "linear",
    unit: str = "seconds",
    label: str = "sum of bar lengths",
    legend: bool = True,
) -> Axes:
    """Draw how the bars shrink as paths are bent, for several methods.

    Parameters
    ----------
    curves
        For each method, by its name, when (k,), in seconds or evaluations, and the sum of the lengths of the bars
        then (k,).
    ax
        Where to draw; None: on a new figure.
    xscale, yscale
        ``"log"``: equal steps are equal ratios.
    unit
        What is counted to the right.
    label
        What is counted upwards.
    legend
        Whether the methods are named above the picture.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        There is no curve, a curve has no points or not as many of one as of the other, or a value has no logarithm.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> ax = convergence({"string": ([1, 10], [5.0, 2.0]), "quasi-Newton": ([1, 3], [4.0, 1.5])}, xscale="log")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('seconds', 'sum of bar lengths')
    """
    if not curves:
        raise ValueError("no curve was given; give a mapping of names to (seconds, totals).")
    known = {name: _curve(name, *curve, xscale, yscale) for name, curve in curves.items()}
    ax = ink.axes(ax)
    for i, (name, (when, totals)) in enumerate(known.items()):
        ax.plot(
            when,
            ink.finite(totals),
            color=ink.COLOURS[i % len(ink.COLOURS)],
            marker="o^sDvP*"[i % 7],
            linestyle=("solid", "dashed", "dotted")[i // 7 % 3],
            linewidth=1.2,
            markersize=3.5,
            markevery=max(1, len(when) // 12),
            label=name,
        )
    ax.set(xscale=xscale, yscale=yscale, xlabel=unit, ylabel=label)
    if legend:
        ink.legend(ax, ax.get_legend_handles_labels()[0])
    return ax


def _curve(name: str, when: ArrayLike, totals: ArrayLike, xscale: Scale, yscale: Scale) -> tuple[Floats, Floats]:
    x, y = np.asarray(when, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) == 0:
        raise ValueError(f"the curve {name!r} has shapes {x.shape} and {y.shape}; both need to be (k,), k at least 1.")
    for values, scale in ((x, xscale), (y, yscale)):
        if scale == "log" and not (values > 0).all():
            raise ValueError(
                f"the curve {name!r} goes down to {values.min():g}, which has no logarithm; leave that out, or draw "
                "on a linear scale."
            )
    return x, y
