"""Figures of losses over one or two coordinates: grids, scattered samples, and what is marked on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from topolandscape.explore.figures import Figure, keys_of, layout, linked, longest, numbers, said_of, thinned
from topolandscape.plot.ink import COLOURS
from topolandscape.structures import Barcode, Floats, Integers, LossSamples

LARGEST = 101
"""Most points of a grid that are drawn along each axis."""
_SCALE = "Viridis"
_TRACKS = {"descent": COLOURS[1], "path": COLOURS[3]}
_MOST_POINTS = 5000  # of scattered samples
_MOST_MARKED = 100  # bars whose minima and saddles are marked


def landscape(
    samples: LossSamples,
    code: Barcode | None = None,
    *,
    ways: Mapping[int, Integers] | None = None,
    points: Mapping[str, Floats] | None = None,
    tracks: Mapping[str, Floats] | None = None,
    lines: Sequence[Floats] = (),
    meta: str = "bars",
) -> Figure | None:
    """Draw losses over one or two coordinates.

    Parameters
    ----------
    samples
        A grid of one or two coordinates, or scattered points of two.
    code
        Its barcode, whose minima and saddles are marked.
    ways
        Rows of samples along the way of some bars.
    points
        Coordinates of points with names, (d,).
    tracks
        Coordinates along a ``"descent"`` and a ``"path"``, (q, d).
    lines
        Separatrices: coordinates along each, (q, d).
    meta
        Of the marks of bars: ``"own"`` where they are no bars of the run, so that none is chosen with one of these.

    Returns
    -------
    dict or None
        Grids of more than 101 points along an axis are drawn by every so-manieth point, scattered samples by 5000 of
        them, and the title says so; of the bars the 100 longest are marked. None: there are more than two coordinates.
    """
    d = samples.points.shape[1]
    if d > 2:
        return None
    if d == 1:
        order = np.argsort(samples.points[:, 0], kind="stable")
        order = order[:: max(1, len(order) // _MOST_POINTS)]
        line = {"color": COLOURS[0], "width": 1.5}
        curve = {"x": samples.points[order, 0].tolist(), "y": numbers(samples.values[order]), "line": line}
        traces: list[dict[str, Any]] = [{"type": "scatter", "mode": "lines", "showlegend": False, **curve}]
        title, axis = f"coordinate ({len(order)} of {len(samples)} points drawn)", "loss"
    else:
        field, said = _field(samples)
        traces, title, axis = [field], f"first coordinate{said}", "second coordinate"
    if len(lines):
        broken = np.concatenate([np.vstack([line, np.full((1, 2), np.nan)]) for line in lines])
        traces.append(_track(broken, "separatrix", {"color": "rgba(255,255,255,0.75)", "width": 1}))
        traces[-1]["showlegend"] = False  # white on white

    def at(rows: Integers) -> dict[str, Any]:
        y = samples.values if d == 1 else samples.points[:, 1]
        return {"x": samples.points[rows, 0].tolist(), "y": numbers(y[rows])}

    if ways:
        keys = [(bar, None) for bar, rows in ways.items() for _ in range(len(rows) + 1)]
        places = [at(rows) for rows in ways.values()]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "meta": "ways",
                "customdata": keys,
                "showlegend": False,
                "hoverinfo": "skip",
                "x": [value for place in places for value in (*place["x"], None)],
                "y": [value for place in places for value in (*place["y"], None)],
                "line": {"color": "white", "width": 2},
            }
        )
    if code is not None:
        rows = longest(code, _MOST_MARKED)
        for vertices, symbol, name in (
            (code.birth_vertex, "triangle-down", "minimum"),
            (code.death_vertex, "square", "saddle"),
        ):
            held = rows[(vertices[rows] >= 0) & ((code.dim[rows] == 0) | (name == "saddle"))]
            marker = {"symbol": symbol, "size": 8, "color": "white", "line": {"color": "black", "width": 1}}
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    **at(vertices[held]),
                    "marker": marker,
                    **linked(keys_of(held, code.persistence[held]), 1),
                    "meta": meta,
                    "hoverinfo": "text",
                    "text": [said_of(code, row, None) for row in held.tolist()],
                }
            )
    if d == 2:
        traces += [_track(way, name, {"color": _TRACKS[name], "width": 2}) for name, way in (tracks or {}).items()]
    for name, point in (points or {}).items():
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": name,
                "text": [name],
                "textposition": "top center",
                "textfont": {"color": "white", "size": 11},
                "showlegend": False,
                "x": [float(point[0])],
                "y": [float(point[1]) if d == 2 else None],
                "marker": {"symbol": "circle-open", "size": 10, "color": "white", "line": {"width": 2}},
                "hoverinfo": "name",
            }
        )
    low, high = samples.points.min(axis=0), samples.points.max(axis=0)
    ranges = {name: {"range": [float(low[k]), float(high[k])]} for k, name in enumerate(("xaxis", "yaxis")) if d == 2}
    return {"data": traces, "layout": layout(title, axis, **ranges)}


def surface(
    samples: LossSamples, *, points: Mapping[str, Floats] | None = None, tracks: Mapping[str, Floats] | None = None
) -> Figure:
    """Draw the losses of a grid of two coordinates as a surface in space.

    Parameters
    ----------
    samples
        The grid.
    points, tracks
        As for `landscape`; they stand on the nearest sample.

    Returns
    -------
    dict
    """
    x, y, z, logarithmic = _grid(samples)
    heights = np.where(np.isfinite(z), np.log10(z) if logarithmic else z, np.nan)
    name = "log10 of the loss" if logarithmic else "loss"
    traces: list[dict[str, Any]] = [
        {
            "type": "surface",
            "x": x.tolist(),
            "y": y.tolist(),
            "z": numbers(heights.T),
            "colorscale": _SCALE,
            "colorbar": {"title": {"text": name, "side": "right"}, "thickness": 12},
            "contours": {"z": {"show": True, "color": "rgba(255,255,255,0.4)", "width": 1}},
        }
    ]

    def standing(places: Floats) -> dict[str, Any]:
        i = np.abs(x[:, None] - places[:, 0]).argmin(axis=0)
        j = np.abs(y[:, None] - places[:, 1]).argmin(axis=0)
        return {"x": places[:, 0].tolist(), "y": places[:, 1].tolist(), "z": numbers(heights[i, j])}

    style = {"type": "scatter3d", "showlegend": False}
    for name, way in (tracks or {}).items():
        line = {"color": _TRACKS[name], "width": 5}
        traces.append({**style, "mode": "lines", "name": name, "line": line, **standing(way)})
    if points:
        marker = {"color": COLOURS[1], "size": 4}
        where = standing(np.array(list(points.values())))
        traces.append({**style, "mode": "markers+text", "marker": marker, "text": list(points), **where})
    axes = {"xaxis": {"title": {"text": "first"}}, "yaxis": {"title": {"text": "second"}}}
    scene = {**axes, "zaxis": {"title": {"text": name}}, "aspectmode": "cube"}
    margin = {"l": 0, "r": 0, "t": 0, "b": 0}
    return {"data": traces, "layout": layout("", "", scene=scene, margin=margin, showlegend=False)}


def _grid(samples: LossSamples) -> tuple[Floats, Floats, Floats, bool]:
    """Return both axes of a grid, its losses, every so-manieth of each, and whether their logarithms are drawn."""
    assert samples.shape is not None
    step = max(-(-side // LARGEST) for side in samples.shape)
    z = samples.values.reshape(samples.shape)[::step, ::step]
    points = samples.points.reshape(*samples.shape, 2)
    known = z[np.isfinite(z)]
    logarithmic = len(known) > 0 and float(known.min()) > 0 and float(known.max()) > 100 * float(known.min())
    return points[::step, 0, 0], points[0, ::step, 1], z, logarithmic


def _field(samples: LossSamples) -> tuple[dict[str, Any], str]:
    """Return the trace that colours a plane by its losses, and how many of them are drawn where not all are."""
    bar: dict[str, Any] = {"thickness": 12, "title": {"text": "loss", "side": "right"}}
    if samples.shape is not None:
        x, y, z, logarithmic = _grid(samples)
        said = "" if z.size == len(samples) else f" ({z.size} of {len(samples)} points drawn)"
        if logarithmic:
            bar["title"] = {"text": "log10 of the loss", "side": "right"}
        heights = np.where(np.isfinite(z), np.log10(np.where(z > 0, z, 1.0)) if logarithmic else z, np.nan)
        # Of a grid that is thinned out level lines would be wrong, and slow.
        shown: dict[str, Any] = {"type": "heatmap"}
        if not said:
            lines = {"width": 0.4, "color": "#303030"}
            shown = {"type": "contour", "ncontours": 24, "contours": {"coloring": "heatmap"}, "line": lines}
        where = {"x": x.tolist(), "y": y.tolist(), "z": numbers(heights.T), "customdata": numbers(z.T)}
        hover = {"hovertemplate": "loss %{customdata:.6g}<extra></extra>"}
        return {"colorscale": _SCALE, "colorbar": bar, **shown, **where, **hover}, said
    rows = thinned(len(samples), _MOST_POINTS)
    said = "" if len(rows) == len(samples) else f" ({len(rows)} of {len(samples)} points drawn)"
    marker = {"color": numbers(samples.values[rows]), "colorscale": _SCALE, "size": 4, "colorbar": bar}
    where = {"x": samples.points[rows, 0].tolist(), "y": samples.points[rows, 1].tolist()}
    return {"type": "scatter", "mode": "markers", "showlegend": False, "marker": marker, **where}, said


def _track(points: Floats, name: str, line: Mapping[str, Any]) -> dict[str, Any]:
    where = {"x": numbers(points[:, 0]), "y": numbers(points[:, 1]), "line": dict(line)}
    return {"type": "scatter", "mode": "lines", "name": name, "hoverinfo": "skip", **where}
