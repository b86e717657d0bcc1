"""Pictures of sampled landscapes of one and two dimensions, with their minima and saddles, or all that is critical."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from topolandscape.plot import ink
from topolandscape.structures import Barcode, Floats, Integers, LossSamples
from topolandscape.topology.complexes import grid
from topolandscape.topology.critical import critical_of, places_of
from topolandscape.topology.morse import basins, gradient_field, separatrices

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Log = bool | Literal["auto"]


def profile(
    samples: LossSamples,
    *,
    ax: Axes | None = None,
    barcode: Barcode | None = None,
    min_persistence: float = 0.0,
    label: str = "loss",
) -> Axes:
    """Draw the loss along a line.

    Parameters
    ----------
    samples
        Samples of one coordinate, in any order. The curve is broken where losses are not finite.
    ax
        Where to draw; None: on a new figure.
    barcode
        Its minima and saddles are marked, where they are known.
    min_persistence
        Mark those of bars at least this long.
    label
        Name of the axis of losses.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> ax = profile(LossSamples([[0.0], [2.0], [1.0]], [0.0, 1.0, 3.0]))
    >>> ax.lines[0].get_xdata().tolist()
    [0.0, 1.0, 2.0]
    """
    _check_dimension(samples, 1, "profile")
    minima, saddles = ink.critical_rows(samples, barcode, min_persistence)
    ax = ink.axes(ax)
    order = np.argsort(samples.points[:, 0], kind="stable")
    x, loss = samples.points[:, 0], ink.finite(samples.values)
    ax.plot(x[order], loss[order], color="black", linewidth=1.2)
    ax.plot(x[minima], loss[minima], color=ink.COLOURS[0], markersize=7, **ink.MINIMUM)
    ax.plot(x[saddles], loss[saddles], color=ink.COLOURS[1], markersize=6, **ink.SADDLE)
    ax.set(xlabel="coordinate", ylabel=label)
    _name_marks(ax, samples, minima, saddles)
    return ax


def contour(
    samples: LossSamples,
    *,
    ax: Axes | None = None,
    barcode: Barcode | None = None,
    min_persistence: float = 0.0,
    log: Log = "auto",
    points: Mapping[str, tuple[float, float]] | None = None,
    ceiling: float | None = None,
    label: str = "loss",
    colorbar: bool = True,
) -> Axes:
    """Draw the levels of the loss over two coordinates.

    Parameters
    ----------
    samples
        Samples of two coordinates: a grid (``samples.shape``), or scattered, which are joined to triangles. The first
        coordinate runs to the right. Where losses are not finite nothing is drawn but hatching, and the legend says
        how many they are.
    ax
        Where to draw; None: on a new figure.
    barcode
        Its minima and saddles are marked, where they are known.
    min_persistence
        Mark those of bars at least this long.
    log
        Levels at equal ratios instead of equal distances. ``"auto"``: when all losses are positive and the largest
        is more than 100 times the smallest.
    points
        Coordinates by name, to be marked and named.
    ceiling
        Draw all losses above in one colour; None: up to the largest. It brings out low basins between high walls.
    label
        Name of the scale of losses.
    colorbar
        Whether the scale of losses is drawn.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> samples = LossSamples([[0, 0], [0, 1], [2, 0], [2, 1]], [0.0, 1.0, 2.0, 3.0], shape=(2, 2))
    >>> ax = contour(samples)
    >>> ax.get_xlim(), ax.get_ylim()
    ((np.float64(0.0), np.float64(2.0)), (np.float64(0.0), np.float64(1.0)))
    """
    _check_dimension(samples, 2, "contour")
    minima, saddles = ink.critical_rows(samples, barcode, min_persistence)
    x, y, loss = samples.points[:, 0], samples.points[:, 1], ink.finite(samples.values)
    low, high = _range(loss, ceiling)
    logarithmic = _is_log(log, low, float(np.nanmax(loss)))
    levels = np.geomspace(low, high, 21) if logarithmic else np.linspace(low, high, 21)
    ax = ink.axes(ax)

    from matplotlib.colors import LogNorm, Normalize

    norm = LogNorm(low, high) if logarithmic else Normalize(low, high)
    options: dict[str, Any] = {"levels": levels, "norm": norm, "extend": "neither" if ceiling is None else "max"}
    if samples.shape is not None:
        grids = [np.ma.masked_invalid(a.reshape(samples.shape)) for a in (x, y, loss)]
        filled: Any = ax.contourf(*grids, cmap="viridis", **options)
        ax.contour(*grids, colors="black", linewidths=0.3, alpha=0.5, **options)
    else:
        triangles = _triangles(x, y, loss)
        known = np.nan_to_num(loss, nan=low)  # those of masked triangles are not looked at
        filled = ax.tricontourf(triangles, known, cmap="viridis", **options)
        ax.tricontour(triangles, known, colors="black", linewidths=0.3, alpha=0.5, **options)
    if len(samples.nonfinite):
        ax.patch.set(facecolor="white", edgecolor=ink.GREY, hatch="////", linewidth=0)
    if colorbar:
        _scale(ax, filled, levels, logarithmic, label)
    mark: dict[str, Any] = {
        "color": "white",
        "markeredgecolor": "black",
        "markeredgewidth": 0.8,
        "clip_on": False,
        "zorder": 3,
    }
    ax.plot(x[minima], y[minima], markersize=7, **mark, **ink.MINIMUM)
    ax.plot(x[saddles], y[saddles], markersize=6, **mark, **ink.SADDLE)
    for name, (px, py) in (points or {}).items():
        ax.plot(px, py, marker="o", markersize=6, color=ink.COLOURS[1], markeredgecolor="white", zorder=4)
        ax.annotate(
            name,
            (px, py),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=ink.SMALL,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
            zorder=5,
        )
    ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()), xlabel="first coordinate", ylabel="second coordinate")
    ax.locator_params(nbins=6)
    _name_marks(ax, samples, minima, saddles)
    return ax


def surface(
    samples: LossSamples,
    *,
    ax: Axes | None = None,
    barcode: Barcode | None = None,
    min_persistence: float = 0.0,
    log: Log = "auto",
    ceiling: float | None = None,
    label: str = "loss",
) -> Axes:
    """Draw the loss over two coordinates as a surface in space.

    Parameters
    ----------
    samples
        Samples of two coordinates: a grid, or scattered. Where losses are not finite the surface has holes.
    ax
        Where to draw, made with ``subplot_kw={"projection": "3d"}``; None: on a new figure.
    barcode
        Its minima and saddles are marked, where they are known; they show through the surface.
    min_persistence
        Mark those of bars at least this long.
    log
        Draw the decimal logarithm of the loss. ``"auto"``: as in `contour`.
    ceiling
        Cut the surface off at this loss; None: draw it whole.
    label
        Name of the axis of losses.

    Returns
    -------
    mpl_toolkits.mplot3d.axes3d.Axes3D

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> samples = LossSamples([[0, 0], [0, 1], [2, 0], [2, 1]], [0.0, 1.0, 2.0, 3.0], shape=(2, 2))
    >>> surface(samples).get_zlabel()
    'loss'
    """
    _check_dimension(samples, 2, "surface")
    minima, saddles = ink.critical_rows(samples, barcode, min_persistence)
    x, y, loss = samples.points[:, 0], samples.points[:, 1], ink.finite(samples.values)
    low, high = _range(loss, ceiling)
    logarithmic = _is_log(log, low, float(np.nanmax(loss)))
    space: Any = ink.axes(ax, projection="3d")
    height = np.minimum(loss, high)
    if logarithmic:
        height, low, high = np.log10(height), float(np.log10(low)), float(np.log10(high))
    options: dict[str, Any] = {"cmap": "viridis", "vmin": low, "vmax": high, "linewidth": 0, "antialiased": False}
    if samples.shape is not None:
        grids = [a.reshape(samples.shape) for a in (x, y, height)]
        space.plot_surface(*grids, rcount=100, ccount=100, **options)
    else:
        triangles = _triangles(x, y, height)
        space.plot_trisurf(triangles, np.nan_to_num(height, nan=low), **options)
    space.computed_zorder = False  # else marks on the surface are hidden by it
    mark = {"markeredgecolor": "black", "zorder": 5}
    space.plot(x[minima], y[minima], height[minima], color="white", markersize=6, **mark, **ink.MINIMUM)
    space.plot(x[saddles], y[saddles], height[saddles], color=ink.COLOURS[1], markersize=5, **mark, **ink.SADDLE)
    space.set(xlabel="first coordinate", ylabel="second coordinate", zlim=(low, high))
    space.set_box_aspect(None, zoom=0.85)  # room for the labels
    space.set_zlabel(f"log10 of the {label}" if logarithmic else label)
    _name_marks(space, samples, minima, saddles)
    return space


def morse_complex(
    samples: LossSamples,
    *,
    ax: Axes | None = None,
    persistence: float = 0.0,
    of: Literal["minima", "maxima"] = "minima",
    log: Log = "auto",
) -> Axes:
    """Draw the Morse complex of a grid of two coordinates: what is critical, separatrices, basins.

    Parameters
    ----------
    samples
        Samples of a grid of two coordinates. Points whose losses are not finite never enter; they are left white.
    ax
        Where to draw; None: on a new figure.
    persistence
        Pairs of critical cells whose bars are shorter are cancelled, as in `topology.morse.gradient_field`.
    of
        Which basins are coloured: the points that descend to one minimum, or the squares that ascend to one maximum.
        Neighbours have different colours.
    log
        Level lines at equal ratios, as in `contour`.

    Returns
    -------
    matplotlib.axes.Axes
        Critical cells are marked at their centres, less than a step of the grid from the sample at which they enter.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> x, y = np.meshgrid(np.linspace(-2, 2, 21), np.linspace(-1, 1, 11), indexing="ij")
    >>> points = np.column_stack([x.reshape(-1), y.reshape(-1)])
    >>> samples = LossSamples(points, (points[:, 0] ** 2 - 1) ** 2 + points[:, 1] ** 2, shape=(21, 11))
    >>> ax = morse_complex(samples)
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['minimum', 'saddle', 'way down', 'way up']
    """
    _check_dimension(samples, 2, "picture of a Morse complex")
    if samples.shape is None:
        raise ValueError("the samples are no grid; sample one with sample_grid() or sample_plane().")
    field = gradient_field(grid(samples, nonfinite="infinite"), persistence=persistence)
    critical = critical_of(field)
    places = places_of(field, critical.cell, samples.points)
    x, y, loss = (a.reshape(samples.shape) for a in (*samples.points.T, ink.finite(samples.values)))
    low, high = _range(loss, None)
    levels = np.geomspace(low, high, 21) if _is_log(log, low, high) else np.linspace(low, high, 21)
    ax = ink.axes(ax)

    labels = basins(field, of=of)
    _colour_basins(ax, x, y, labels.reshape(samples.shape) if of == "minima" else labels)
    ax.contour(x, y, np.ma.masked_invalid(loss), levels=levels, colors="black", linewidths=0.3, alpha=0.4)
    ways = {"way down": (False, ink.COLOURS[0], "-"), "way up": (True, ink.COLOURS[1], "--")}
    drawn: list[Any] = []
    for label, (ascending, colour, style) in ways.items():
        lines = separatrices(field, ascending=ascending, points=samples.points)
        curves = [ax.plot(*line.T, color=colour, linestyle=style, linewidth=1.0, label=label)[0] for line in lines]
        drawn += curves[:1]
    mark: dict[str, Any] = {"color": "white", "markeredgecolor": "black", "clip_on": False, "zorder": 3}
    marks: list[Any] = []
    for index, (kind, size) in enumerate(((ink.MINIMUM, 6), (ink.SADDLE, 4.5), (ink.MAXIMUM, 6))):
        chosen = places[critical.index == index]
        if len(chosen):
            marks += ax.plot(*chosen.T, markersize=size, markeredgewidth=0.7, **mark, **kind)
    ax.set(xlim=(x.min(), x.max()), ylim=(y.min(), y.max()), xlabel="first coordinate", ylabel="second coordinate")
    ax.locator_params(nbins=6)
    ink.legend(ax, marks + drawn)
    return ax


def _colour_basins(ax: Axes, x: Floats, y: Floats, labels: Integers) -> None:
    """Fill basins, given by vertices or by squares, with pale colours, two that touch with different ones."""
    from matplotlib.colors import ListedColormap, to_rgb
    from networkx import Graph, greedy_color

    touching = Graph()
    touching.add_nodes_from(np.unique(labels).tolist())
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        pairs = np.unique(np.column_stack([one.reshape(-1), other.reshape(-1)]), axis=0)
        touching.add_edges_from((a, b) for a, b in pairs.tolist() if a != b)
    number = greedy_color(touching, strategy="largest_first")
    colours = np.array([to_rgb(colour) for colour in ink.COLOURS[:6]])
    pale = ListedColormap(1 - 0.3 * (1 - colours))
    shown = np.array([number[row] % len(colours) for row in labels.reshape(-1).tolist()]).reshape(labels.shape)
    cells = np.ma.masked_where(labels < 0, shown)
    ax.pcolormesh(x, y, cells, cmap=pale, vmin=-0.5, vmax=len(colours) - 0.5, shading="auto", rasterized=True)


def _check_dimension(samples: LossSamples, needed: int, picture: str) -> None:
    if samples.points.shape[1] != needed:
        raise ValueError(
            f"the samples have {samples.points.shape[1]} coordinate(s); a {picture} needs {needed}. Sample a "
            f"{'segment' if needed == 1 else 'plane'} of the landscape."
        )
    if len(samples.nonfinite) == len(samples):
        raise ValueError(f"none of the {len(samples)} losses is finite; there is nothing to draw.")


def _range(loss: Floats, ceiling: float | None) -> tuple[float, float]:
    """Return the lowest and the highest loss to draw, which differ."""
    low, high = float(np.nanmin(loss)), float(np.nanmax(loss))
    if ceiling is not None:
        if ceiling <= low:
            raise ValueError(f"ceiling is {ceiling}, but the lowest loss is {low}; it must lie above.")
        high = ceiling
    return (low, high) if high > low else (low - 0.5 * max(abs(low), 1e-12), low + 0.5 * max(abs(low), 1e-12))


def _is_log(log: Log, low: float, high: float) -> bool:
    if log == "auto":
        return low > 0 and high > 100 * low
    if log and low <= 0:
        raise ValueError(f'the lowest loss is {low}, which has no logarithm; use log="auto" or log=False.')
    return bool(log)


def _triangles(x: Floats, y: Floats, loss: Floats) -> Any:
    """Return the Delaunay triangles of the points, those with a loss that is not finite masked."""
    from matplotlib.tri import Triangulation

    if len(x) < 3 or np.linalg.matrix_rank(np.column_stack([x - x[0], y - y[0]])) < 2:
        raise ValueError(f"the {len(x)} points lie on a line; scattered samples need three that do not.")
    triangles = Triangulation(x, y)
    triangles.set_mask(np.isnan(loss[triangles.triangles]).any(axis=1))
    return triangles


def _scale(ax: Axes, filled: Any, levels: Floats, logarithmic: bool, label: str) -> None:
    from matplotlib.ticker import LogFormatter, LogLocator, MaxNLocator, NullLocator

    bar: Any = ax.figure.colorbar(filled, ax=ax, label=label, spacing="proportional", ticks=MaxNLocator(7))
    if logarithmic:
        decades = np.log10(levels[-1] / levels[0])
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(np.inf, np.inf)))
        bar.ax.yaxis.set_minor_locator(NullLocator())


def _name_marks(ax: Axes, samples: LossSamples, minima: Any, saddles: Any) -> None:
    """Explain the marks that were drawn above the picture, and say how many losses are not finite."""
    from matplotlib.patches import Patch

    rows = {"minimum": minima, "saddle": saddles}
    handles: list[Any] = [line for line in ax.lines if len(rows.get(str(line.get_label()), ()))]
    if len(samples.nonfinite):
        missing = f"{len(samples.nonfinite)} not finite"
        hatch = ax.patch.get_hatch()
        handles.append(Patch(facecolor="white", edgecolor=ink.GREY, hatch=hatch, linewidth=0, label=missing))
    if handles:
        ink.legend(ax, handles)
