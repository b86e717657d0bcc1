"""Pictures of barcodes and merge trees: the topology without the landscape."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from topolandscape.plot import ink
from topolandscape.structures import Barcode, Floats, Integers, MergeTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def bars(
    barcodes: Barcode | Mapping[str, Barcode],
    *,
    ax: Axes | None = None,
    dim: int = 0,
    min_persistence: float = 0.0,
    max_bars: int | None = 50,
    ceiling: float | None = None,
    passes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    label: str | None = None,
    legend: bool = True,
) -> Axes:
    """Draw every bar as a vertical line from its birth to its death, in order of birth.

    Parameters
    ----------
    barcodes
        One barcode, or several by name, which are drawn side by side on one axis of losses.
    ax
        Where to draw; None: on a new figure.
    dim
        Degree of the bars.
    min_persistence
        Leave out shorter bars.
    max_bars
        Draw at most this many bars of each barcode, the longest; None: all. The picture says how many are missing.
    ceiling
        Loss up to which bars that never end are drawn, dashed and with an open arrow head; None: a little above all
        else.
    passes
        For bars of networks of minima: `network.passes`, or these by the names of the barcodes. Deaths at verified
        saddles are drawn as filled squares, at path maxima as open ones, at paths that were not converged as crosses;
        and below each bar stands the row of its minimum.
    label
        Name of the axis of losses. None: "loss", with what 0 and 1 stand for where the bars are `normalised`.
    legend
        Whether the marks are explained above the picture.

    Returns
    -------
    matplotlib.axes.Axes

    References
    ----------
    Barannikov, Korotin, Oganesyan, Emtsev and Burnaev (2019), "Barcodes as summary of loss function topology".

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> code = Barcode.from_pairs([(0.0, float("inf")), (0.3, 0.9), (0.3, 0.9)])
    >>> ax = bars({"narrow": code, "wide": code.filter(max_bars=1)})
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['narrow', 'wide']
    """
    groups = {"": barcodes} if isinstance(barcodes, Barcode) else dict(barcodes)
    if not groups:
        raise ValueError("no barcode was given; give one, or a mapping of names to barcodes.")
    words = _words(passes, groups)
    label = ink.loss_label(label, (code.provenance for code in groups.values()))
    ax = ink.axes(ax)
    whole = {name: code.filter(dim=dim) for name, code in groups.items()}
    drawn = {name: code.filter(min_persistence=min_persistence, max_bars=max_bars) for name, code in whole.items()}
    hidden = sum(map(len, whole.values())) - sum(map(len, drawn.values()))
    top = (
        ink.above(np.concatenate([[*code.birth, *code.death] for code in drawn.values()]))
        if ceiling is None
        else ceiling
    )
    sizes = np.array([len(code) for code in drawn.values()])
    slots = np.maximum(sizes, 0.5 * sizes.mean()) + 1  # a short barcode gets room for its name
    edges = np.concatenate([[0.0], np.cumsum(slots)])
    size, width = float(np.clip(250 / edges[-1], 1, 6)), float(np.clip(80 / edges[-1], 0.4, 1.8))
    places: list[float] = []
    rows: list[str] = []
    marks: dict[str, dict[str, Any]] = {}
    for i, (name, code) in enumerate(drawn.items()):
        order = np.lexsort((code.death, code.birth))
        birth, death, essential = code.birth[order], code.death[order], code.essential[order]
        x = (edges[i] + edges[i + 1] - len(code) + 1) / 2 + np.arange(len(code))
        colour = ink.COLOURS[i % len(ink.COLOURS)]
        ax.vlines(x[~essential], birth[~essential], death[~essential], colors=colour, linewidth=width)
        ax.vlines(x[essential], birth[essential], top, colors=colour, linewidth=width, linestyles="dashed")
        ax.plot(x, birth, color=colour, markersize=size, **ink.MINIMUM)
        for mark, held in ink.pass_marks(code.death_simplex[order][~essential], words[name]):
            ax.plot(x[~essential][held], death[~essential][held], color=colour, markersize=size * 0.85, **mark)
            marks[mark["label"]] = mark
        if passes is not None:
            places.extend(x)
            rows.extend(map(str, code.birth_vertex[order]))
        ax.plot(x[essential], np.full(essential.sum(), top), color=colour, markersize=size, **ink.ENDLESS)
        if i > 0:
            ax.axvline(edges[i], color="0.85", linewidth=0.8, zorder=0)

    ax.set_xlim(0, edges[-1])
    ax.set_xticks([])
    ax.tick_params(axis="x", which="both", length=0)
    ax.xaxis.remove_overlapping_locs = False  # the name of a group stands below the number of its middle bar
    if passes is not None:
        ink.name_places(ax, np.array(places), rows, minor=True)
    if not isinstance(barcodes, Barcode):
        crowded = sum(map(len, groups)) > 40
        ax.set_xticks(
            (edges[:-1] + edges[1:]) / 2,
            list(groups),
            rotation=30 if crowded else 0,
            ha="right" if crowded else "center",
            rotation_mode="anchor",
        )
        ax.tick_params(axis="x", pad=3.5 if passes is None else 18)
    note = f"{ink.count(hidden, 'shorter bar')} not drawn" if hidden else ""
    what = (
        ("bars in order of birth" if passes is None else "minima in order of their loss") if sizes.any() else "no bars"
    )
    ax.set_xlabel(f"{what} ({note})" if note else what, fontsize=ink.SMALL)
    ax.set_ylabel(label)
    if legend:
        birth_mark, death_mark = ("minimum", "saddle") if dim == 0 else ("birth", "death")
        shown = [ink.SADDLE | {"label": death_mark}] if passes is None else list(marks.values())
        endless = [ink.ENDLESS] if any(code.essential.any() for code in drawn.values()) else []
        bounds = None if passes is None else "deaths are upper bounds"
        ink.legend(ax, ink.handles(ink.MINIMUM | {"label": birth_mark}, *shown, *endless), bounds)
    return ax


def _words(
    passes: Sequence[str] | Mapping[str, Sequence[str]] | None, groups: Mapping[str, Barcode]
) -> Mapping[str, Sequence[str] | None]:
    """Return the passes of each barcode."""
    if passes is None:
        return dict.fromkeys(groups)
    by_name = passes if isinstance(passes, Mapping) else {"": passes}
    if not set(groups) <= set(by_name):
        missing = ", ".join(repr(name) for name in groups if name not in by_name)
        raise ValueError(f"there are no passes for {missing}; give a mapping of the names of all barcodes to passes.")
    return by_name


def diagram(
    barcode: Barcode,
    *,
    ax: Axes | None = None,
    radius: float | None = None,
    label: str | None = None,
    legend: bool = True,
) -> Axes:
    """Draw every bar as a point: birth to the right, death upwards.

    Parameters
    ----------
    barcode
        Bars of any degrees; each degree has a colour and a mark. When the provenance holds the ``noise`` of the
        losses, the band where bars are shorter than twice the noise, and so are no evidence, is shaded.
    ax
        Where to draw; None: on a new figure.
    radius
        That of a `bootstrap_band`: bars of at most twice this length, which need not be those of the landscape, lie in
        a shaded band. None: there is none.
    label
        What births and deaths are. None: "loss", with what 0 and 1 stand for where the bars are `normalised`.
    legend
        Whether the marks are explained above the picture.

    Returns
    -------
    matplotlib.axes.Axes
        Bars that never end lie on the dotted line marked with the sign of infinity.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> ax = diagram(Barcode.from_pairs([(0.0, float("inf")), (0.3, 0.9)]))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('loss at birth', 'loss at death')
    """
    label = ink.loss_label(label, [barcode.provenance])
    ax = ink.axes(ax)
    values = np.r_[barcode.birth, barcode.death]
    known = values[np.isfinite(values)]
    low, endless = float(known.min(initial=np.inf)) if len(known) else 0.0, ink.above(values)
    margin = 0.06 * (endless - low)
    low, high = low - margin, endless + margin
    noise = float(barcode.provenance.get("noise", 0.0))
    corners = np.array([low, high])
    if radius is not None:
        band: dict[str, Any] = {"color": ink.COLOURS[4], "alpha": 0.25, "linewidth": 0, "label": "not significant"}
        ax.fill_between(corners, corners, corners + 2 * min(radius, high - low), **band)
    if noise > 0:
        ax.fill_between(corners, corners, corners + 2 * noise, color="0.88", linewidth=0, label="within the noise")
    ax.plot(corners, corners, color=ink.GREY, linewidth=0.8)
    if barcode.essential.any():
        ax.axhline(endless, color=ink.GREY, linewidth=0.8, linestyle="dotted")
        ax.text(1.02, endless, "∞", transform=ax.get_yaxis_transform(), ha="left", va="center")
    for k in np.unique(barcode.dim):
        of_degree = barcode.dim == k
        death = np.where(barcode.essential, endless, barcode.death)[of_degree]
        ax.plot(
            barcode.birth[of_degree],
            death,
            color=ink.COLOURS[k % len(ink.COLOURS)],
            marker="o^sDvP*"[k % 7],
            linestyle="none",
            markersize=5,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=f"degree {k}",
            clip_on=False,
        )
    ax.set(xlim=(low, high), ylim=(low, high), xlabel=f"{label} at birth", ylabel=f"{label} at death")
    ax.set_aspect("equal")
    handles = ax.get_legend_handles_labels()[0]
    if legend and handles:
        ink.legend(ax, handles)
    return ax


# --------------------------------------------------------------------------------------------------------------
# Merge tree
# --------------------------------------------------------------------------------------------------------------


def merge_tree(
    tree: MergeTree,
    *,
    ax: Axes | None = None,
    min_persistence: float = 0.0,
    passes: Sequence[str] | None = None,
    label: str = "loss",
    legend: bool = True,
) -> Axes:
    """Draw a merge tree as a disconnectivity graph: minima hang from the saddles at which they meet.

    Parameters
    ----------
    tree
        The merge tree. Its components stand side by side.
    ax
        Where to draw; None: on a new figure.
    min_persistence
        Leave out branches that are shorter from their minimum to the saddle where they meet a lower one.
    passes
        For the tree of a network of minima: `network.passes`, whose words are drawn as by `bars`; below the tree stand
        the rows of the minima.
    label
        Name of the axis of losses.
    legend
        Whether the marks are explained above the picture.

    Returns
    -------
    matplotlib.axes.Axes
        Where two branches meet, the one with the lower minimum is on the left; so no lines cross.

    References
    ----------
    Becker and Karplus (1997), "The topology of multidimensional potential energy surfaces".

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> tree = MergeTree([0, 2, 1], [0, 2, 1], [0.0, 1.0, 3.0], [2, 2, -1], [1, 1, 3], [0, 0, 1])
    >>> ax = merge_tree(tree)
    >>> ax.get_xlabel()
    'minima'
    """
    ax = ink.axes(ax)
    layout = tree_layout(tree, min_persistence)
    x, value, parent = layout.x, tree.value, tree.parent
    shown = np.flatnonzero(~np.isnan(x))
    roots, inner = shown[parent[shown] < 0], shown[parent[shown] >= 0]
    joins = shown[layout.younger[shown] >= 0]
    leaves = shown[tree.is_leaf[shown]]
    top = ink.above(value[shown])
    size, width = float(np.clip(200 / max(len(leaves), 1), 1, 6)), float(np.clip(60 / max(len(leaves), 1), 0.4, 1.4))
    colour = ink.COLOURS[0]
    ax.vlines(x[inner], value[inner], value[parent[inner]], colors=colour, linewidth=width)
    ax.hlines(value[joins], x[layout.older[joins]], x[layout.younger[joins]], colors=colour, linewidth=width)
    ax.vlines(x[roots], value[roots], top, colors=colour, linewidth=width, linestyles="dashed")
    ax.plot(x[leaves], value[leaves], color=colour, markersize=size, **ink.MINIMUM)
    marks = list(ink.pass_marks(tree.simplex[joins], passes))
    for mark, held in marks:
        ax.plot(x[joins][held], value[joins][held], color=ink.COLOURS[1], markersize=size * 0.8, **mark)
    ax.plot(x[roots], np.full(len(roots), top), color=colour, markersize=size, **ink.ENDLESS)
    hidden = int(tree.is_leaf.sum()) - len(leaves)
    note = f" ({ink.count(hidden, 'shorter branch', 'shorter branches')} not drawn)" if hidden else ""
    ax.set_xticks([])
    if passes is not None:
        ax.set_xlim(-1, x[leaves].max(initial=0) + 1)
        ax.tick_params(axis="x", length=0)
        ink.name_places(ax, x[leaves], [str(row) for row in tree.simplex[leaves]])
    ax.set_xlabel(f"minima{note}", fontsize=ink.SMALL)
    ax.set_ylabel(label)
    if legend:
        bounds = None if passes is None else "passes are upper bounds"
        ink.legend(ax, ink.handles(ink.MINIMUM, *(mark for mark, _ in marks), ink.ENDLESS), bounds)
    return ax


class TreeLayout(NamedTuple):
    """Where the nodes of a merge tree are drawn.

    Parameters
    ----------
    x
        Places from left to right, NaN for nodes that are not drawn, (nodes,).
    older
        Of each saddle the child with the lower minimum, -1 for a leaf, (nodes,).
    younger
        The other child, -1 where it is not drawn, (nodes,).
    lowest
        The lowest minimum at or below each node, (nodes,).
    """

    x: Floats
    older: Integers
    younger: Integers
    lowest: Integers


def tree_layout(tree: MergeTree, min_persistence: float) -> TreeLayout:
    """Place the leaves one by one from the left, and every saddle midway above its branches."""
    n, value = len(tree), tree.value.tolist()
    x, older, younger, lowest = [math.nan] * n, [-1] * n, [-1] * n, list(range(n))
    roots = np.flatnonzero(tree.parent < 0)
    children = np.argsort(tree.parent, kind="stable")[len(roots) :].reshape(-1, 2)
    saddles = tree.parent[children[:, 0]]
    upwards = np.lexsort((saddles, tree.value[saddles]))
    for s, (a, b) in zip(saddles[upwards].tolist(), children[upwards].tolist(), strict=True):
        if (value[lowest[b]], lowest[b]) < (value[lowest[a]], lowest[a]):
            a, b = b, a
        older[s], lowest[s] = a, lowest[a]
        if value[s] - value[lowest[b]] >= min_persistence:
            younger[s] = b

    place = 0.0
    for root in sorted(roots.tolist(), key=lambda node: value[lowest[node]]):
        waiting, downwards = [root], []
        while waiting:
            node = waiting.pop()
            if older[node] < 0:
                x[node] = place
                place += 1
            else:
                downwards.append(node)
                waiting += [k for k in (younger[node], older[node]) if k >= 0]  # the last one is drawn next
        for node in reversed(downwards):
            x[node] = (x[older[node]] + x[younger[node] if younger[node] >= 0 else older[node]]) / 2
        place += 1  # a gap between components
    return TreeLayout(np.array(x), np.array(older), np.array(younger), np.array(lowest))


def landscape_profile(
    tree: MergeTree,
    *,
    ax: Axes | None = None,
    min_persistence: float = 0.0,
    label: str = "loss",
    legend: bool = True,
) -> Axes:
    """Draw a merge tree as a topological landscape profile: basins as columns, as wide as they have points.

    Parameters
    ----------
    tree
        The merge tree of samples. Its components stand side by side.
    ax
        Where to draw; None: on a new figure.
    min_persistence
        Leave out basins that are less deep, from their minimum to the saddle where they meet a lower one; their points
        count in those above them.
    label
        Name of the axis of losses.
    legend
        Whether the marks are explained above the picture.

    Returns
    -------
    matplotlib.axes.Axes
        A column reaches from a minimum up to the saddle where its basin meets another; on both stands the column of the
        basin they make together. Its width is the number of points that it holds at its upper end.

    References
    ----------
    Geniesse et al. (2024), "Visualizing loss functions as topological landscape profiles".

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> tree = MergeTree([0, 2, 1], [0, 2, 1], [0.0, 1.0, 3.0], [2, 2, -1], [1, 1, 3], [0, 0, 1])
    >>> [int(column.get_width()) for column in landscape_profile(tree).patches]
    [3, 1, 1]
    """
    from matplotlib.patches import Patch

    ax = ink.axes(ax)
    layout = tree_layout(tree, min_persistence)
    top, total = ink.above(tree.value), max(float(tree.size[tree.parent < 0].sum()), 1.0)
    roots = sorted(np.flatnonzero(tree.parent < 0).tolist(), key=lambda root: layout.x[root])
    left: dict[int, float] = {}
    edge = 0.0
    for root in roots:
        left[root], edge = edge, edge + float(tree.size[root]) + 0.05 * total
    leaves = tree.is_leaf
    waiting, drawn = roots[::-1], []
    while waiting:
        node = waiting.pop()
        drawn.append(node)
        children = [child for child in (layout.older[node], layout.younger[node]) if child >= 0]
        place = left[node] + float(tree.size[node] - tree.size[children].sum()) / 2
        for child in children:
            left[child], place = place, place + float(tree.size[child])
        waiting += children[::-1]
    rows = np.array(drawn, dtype=np.int64)
    middle = np.array([left[node] for node in drawn]) + tree.size[rows] / 2
    ends = np.where(tree.parent[rows] < 0, top, tree.value[tree.parent[rows]])
    colours = [ink.COLOURS[0] if leaves[node] else ink.COLOURS[4] for node in drawn]
    style: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.5}
    ax.bar(middle, ends - tree.value[rows], width=tree.size[rows], bottom=tree.value[rows], color=colours, **style)
    least = leaves[rows]
    size = float(np.clip(200 / max(int(least.sum()), 1), 1, 6))
    ax.plot(middle[least], tree.value[rows][least], color=ink.GREY, markersize=size, **ink.MINIMUM)
    hidden = int(leaves.sum() - least.sum())
    note = f" ({ink.count(hidden, 'shallower basin')} not drawn)" if hidden else ""
    low = float(tree.value.min(initial=top))
    ax.set(xlim=(-0.02 * total, edge - 0.03 * total), ylim=(low - 0.06 * (top - low), top))
    ax.set_xlabel(f"points{note}", fontsize=ink.SMALL)
    ax.set_ylabel(label)
    if legend:
        basins = [Patch(color=ink.COLOURS[0], label="basin"), Patch(color=ink.COLOURS[4], label="basins together")]
        ink.legend(ax, [*ink.handles(ink.MINIMUM), *basins[: 1 + int(not least.all())]])
    return ax
