"""Pictures of several barcodes: bands over seeds, scores against a factor, distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.plot import ink
from topolandscape.structures import BarBands, DistanceMatrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scale = Literal["linear", "log"]
_NAMED = 8  # names up to which a matrix has its numbers written in


def bands(
    groups: Mapping[str, BarBands],
    *,
    ax: Axes | None = None,
    min_persistence: float = 0.0,
    max_bars: int | None = 15,
    ceiling: float | None = None,
    label: str | None = None,
    legend: bool = True,
) -> Axes:
    """Draw the mean barcodes of several groups side by side on one axis of losses, with bands over their seeds.

    Parameters
    ----------
    groups
        Bands by the names of the groups, from `bar_bands`.
    ax
        Where to draw; None: on a new figure.
    min_persistence
        Leave out bars that are shorter on average.
    max_bars
        Draw at most this many bars of each group, the longest; None: all. The picture says how many are missing.
    ceiling
        A loss to mark by a line across, such as that of the constant predictor.
    label
        Name of the axis of losses. None: "loss", with what 0 and 1 stand for where the bars are `normalised`.
    legend
        Whether the marks are explained above the picture.

    Returns
    -------
    matplotlib.axes.Axes
        Lines reach from mean birth to mean death; boxes hold births and deaths of a share of the seeds. The fewer
        seeds have a bar, the paler it is. Bars that never end are dashed.

    Raises
    ------
    ValueError
        There is no group, or some are `normalised` and others not.

    References
    ----------
    Barannikov et al. (2019), "Barcodes as summary of loss function topology", whose figures hold one seed.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> two = BarBands([0.0, 1.0], [np.inf, 3.0], [0.0, 0.5], [0.1, 1.5], [np.inf, 2.0], [np.inf, 4.0], [5, 3], 5, 0.9)
    >>> ax = bands({"narrow": two, "wide": two})
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['narrow', 'wide']
    """
    if not groups:
        raise ValueError("no bands were given; give a mapping of names to the bands of bar_bands().")
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    label = ink.loss_label(label, (group.provenance for group in groups.values()))
    ax = ink.axes(ax)
    ax.use_sticky_edges = False  # boxes at the lower end would lie on the frame
    chosen = []
    for group in groups.values():
        length = group.death - group.birth
        longest = np.argsort(-length, kind="stable")[: len(length) if max_bars is None else max_bars]
        rows = longest[length[longest] >= min_persistence]
        chosen.append(rows[np.argsort(group.birth[rows], kind="stable")])
    hidden = sum(len(group) for group in groups.values()) - sum(map(len, chosen))
    losses: list[ArrayLike] = [[] if ceiling is None else [ceiling]]
    for group, rows in zip(groups.values(), chosen, strict=True):
        losses += [group.birth_low[rows], group.birth_high[rows], group.death_high[rows]]
    top = ink.above(np.concatenate(losses))
    sizes = np.array([len(rows) for rows in chosen])
    slots = np.maximum(np.maximum(sizes, 0.5 * sizes.mean()), 1) + 1  # a short barcode gets room for its name
    edges = np.concatenate([[0.0], np.cumsum(slots)])
    width = float(np.clip(80 / edges[-1], 0.6, 2.0))
    for i, (group, rows) in enumerate(zip(groups.values(), chosen, strict=True)):
        colour = ink.COLOURS[i % len(ink.COLOURS)]
        x = (edges[i] + edges[i + 1] - len(rows) + 1) / 2 + np.arange(len(rows))
        for place, row in zip(x, rows, strict=True):
            faint = 0.3 + 0.7 * group.count[row] / group.barcodes
            endless = bool(group.essential[row])
            end = top if endless else group.death[row]
            ax.vlines(place, group.birth[row], end, colour, ("solid", "dashed")[endless], linewidth=width, alpha=faint)
            boxes = [(group.birth_low[row], group.birth_high[row])]
            boxes += [] if endless else [(group.death_low[row], group.death_high[row])]
            for low, high in boxes:
                ax.bar(place, high - low, 0.62, low, color=colour, alpha=0.3 * faint, linewidth=0)
            ax.plot(place, group.birth[row], color=colour, alpha=faint, markersize=3 + width, **ink.MINIMUM)
            if endless:
                ax.plot(place, end, color=colour, markersize=3 + width, **ink.ENDLESS)
        if i > 0:
            ax.axvline(edges[i], color="0.85", linewidth=0.8, zorder=0)
    if ceiling is not None:
        ax.axhline(ceiling, color=ink.GREY, linewidth=0.8, linestyle="dotted", zorder=0)
    ax.set_xlim(0, edges[-1])
    ax.tick_params(axis="x", length=0)
    ink.name_places(ax, (edges[:-1] + edges[1:]) / 2, list(groups))
    note = f" ({ink.count(hidden, 'shorter bar')} not drawn)" if hidden else ""
    ax.set_xlabel(f"mean bars in order of birth{note}", fontsize=ink.SMALL)
    ax.set_ylabel(label)
    if legend:
        shares = {f"{100 * group.coverage:g} %" for group in groups.values()}
        seeds = {str(group.barcodes) for group in groups.values()}
        said = f"{' or '.join(sorted(shares))} of {' or '.join(sorted(seeds, key=int))} barcodes"
        marks: list[Any] = ink.handles(ink.MINIMUM | {"label": "birth"})
        if any(group.essential[rows].any() for group, rows in zip(groups.values(), chosen, strict=True)):
            marks += ink.handles(ink.ENDLESS)
        marks.append(Patch(color=ink.GREY, alpha=0.3, linewidth=0, label=said))
        if ceiling is not None:
            marks.append(Line2D([], [], color=ink.GREY, linewidth=0.8, linestyle="dotted", label="ceiling"))
        ink.legend(ax, marks)
    return ax


def scores(
    values: Mapping[str, Mapping[float, Sequence[float]]],
    *,
    intervals: Mapping[str, Mapping[float, Sequence[float]]] | None = None,
    ax: Axes | None = None,
    xscale: Scale = "linear",
    yscale: Scale = "linear",
    factor: str = "width",
    label: str = "TO-score",
    legend: bool = True,
) -> Axes:
    """Draw scores of runs against a number that was varied, such as width or depth.

    Parameters
    ----------
    values
        For each curve, by its name, the scores of all seeds at each value of the factor.
    intervals
        For each curve, at each value of the factor, (estimate, low, high), as `bootstrap_interval` gives them; the
        curve then runs through the estimates, with bars from low to high. None: it runs through the means.
    ax
        Where to draw; None: on a new figure.
    xscale, yscale
        ``"log"``: equal steps are equal ratios.
    factor
        What was varied.
    label
        What the scores are.
    legend
        Whether the curves are named above the picture.

    Returns
    -------
    matplotlib.axes.Axes
        Small points are single runs. Curves beside each other are moved apart a little where they have intervals.

    Raises
    ------
    ValueError
        There is no curve, or an interval is missing.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> ax = scores({"relu": {8: [0.3, 0.4], 16: [0.1, 0.2]}, "tanh": {8: [0.2, 0.2], 16: [0.1, 0.1]}})
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('width', 'TO-score')
    """
    if not values or not all(values.values()):
        raise ValueError("no scores were given; give a mapping of names to mappings of the factor to scores.")
    ax = ink.axes(ax)
    places = np.unique([place for curve in values.values() for place in curve]).astype(float)
    for i, (name, curve) in enumerate(values.items()):
        colour, x = ink.COLOURS[i % len(ink.COLOURS)], np.array(sorted(curve), dtype=np.float64)
        aside = _moved(x, places, i - (len(values) - 1) / 2, xscale)
        runs = [np.asarray(curve[place], dtype=np.float64) for place in x]
        if intervals is None:
            middle = np.array([run.mean() for run in runs])
        else:
            given = intervals.get(name, {})
            missing = [f"{place:g}" for place in x if place not in given]
            if missing:
                raise ValueError(f"the curve {name!r} has no interval at {', '.join(missing)}; give one for each.")
            middle, low, high = np.array([tuple(given[place])[:3] for place in x], dtype=np.float64).T
            ax.vlines(aside, low, high, colors=colour, linewidth=1.2)
            ax.plot(np.r_[aside, aside], np.r_[low, high], linestyle="none", marker="_", markersize=6, color=colour)
        ax.plot(
            aside,
            middle,
            color=colour,
            marker="o^sDvP*"[i % 7],
            markersize=4.5,
            linewidth=1.2,
            linestyle=("solid", "dashed", "dotted")[i // 7 % 3],
            label=name,
        )
        single = np.concatenate(runs)
        ax.plot(
            np.repeat(aside, [len(run) for run in runs]),
            single,
            linestyle="none",
            marker=".",
            markersize=4,
            color=colour,
            alpha=0.4,
            markeredgewidth=0,
        )
    ax.set(xscale=xscale, yscale=yscale, xlabel=factor, ylabel=label)
    if len(places) <= 10:
        ax.set_xticks(places, [f"{place:g}" for place in places])
        ax.set_xticks([], minor=True)
    if legend and len(values) > 1:
        ink.legend(ax, ax.get_legend_handles_labels()[0])
    return ax


def _moved(x: Any, places: Any, step: float, scale: Scale) -> Any:
    """Return places moved aside by a share of the least distance of two of them."""
    if len(places) < 2:
        return x
    if scale == "log":
        return x * (places[1:] / places[:-1]).min() ** (0.06 * step)
    return x + 0.06 * step * np.diff(places).min()


def distances(matrix: DistanceMatrix, *, ax: Axes | None = None, label: str | None = None) -> Axes:
    """Draw a distance matrix, with what is near put side by side by hierarchical clustering, and its dendrogram.

    Parameters
    ----------
    matrix
        Distances, for example between barcodes. Infinite ones are left white, and clustered as the farthest.
    ax
        Where to draw; None: on a new figure.
    label
        Name of the distances; None: that of the metric in the provenance.

    Returns
    -------
    matplotlib.axes.Axes
        Of the matrix; the dendrogram is above it, each join as high as the mean distance of the two sets it joins
        (average linkage: Sokal and Michener 1958). Up to 8 names, the numbers are written in.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> ax = distances(DistanceMatrix(["a", "b", "c"], [[0, 3, 1], [3, 0, 3], [1, 3, 0]]))
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['b', 'c', 'a']
    """
    from matplotlib.colors import Normalize
    from scipy.cluster.hierarchy import dendrogram, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    ax = ink.axes(ax)
    n, values = len(matrix), matrix.values
    known = values[np.isfinite(values)]
    high = float(known.max(initial=0.0)) or 1.0
    order = list(range(n))
    if n > 1:
        condensed = squareform(np.where(np.isfinite(values), values, 1.5 * high))
        links = optimal_leaf_ordering(linkage(condensed, method="average"), condensed)
        drawn = dendrogram(links, no_plot=True)
        order = list(drawn["leaves"])
        above = ax.inset_axes((0.0, 1.02, 1.0, 0.22))
        for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True):
            above.plot(np.array(x) / 10 - 0.5, y, color=ink.GREY, linewidth=1.0)
        above.set(xlim=(-0.5, n - 0.5), ylim=(0, None))
        above.axis("off")
    shown = values[np.ix_(order, order)]
    image = ax.imshow(ink.finite(shown), cmap="viridis", norm=Normalize(0, high))
    names = [matrix.names[k] for k in order]
    ax.set_yticks(range(n), names, fontsize=ink.SMALL)
    ax.tick_params(length=0)
    ink.name_places(ax, np.arange(n, dtype=np.float64), names)
    if n <= _NAMED:
        for i, j in np.ndindex(n, n):
            dark = np.isfinite(shown[i, j]) and shown[i, j] < 0.6 * high
            text = f"{shown[i, j]:.2g}" if np.isfinite(shown[i, j]) else "∞"
            ax.text(j, i, text, ha="center", va="center", fontsize="x-small", color="white" if dark else "black")
    if label is None:
        metric = matrix.provenance.get("metric", "")
        power = f"{matrix.provenance['p']:g}-" if "p" in matrix.provenance else ""
        label = f"{power}{metric.capitalize() if power else metric} distance".strip()
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8)
    bar.set_label(label)
    return ax
