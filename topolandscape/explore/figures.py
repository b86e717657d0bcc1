"""Figures of barcodes, merge trees and paths, as plotly's JavaScript takes them: mappings and lists, ready for JSON.

Marks that belong to a bar name it: a trace whose ``meta`` is ``"bars"`` has in ``customdata``, for each point, the row
of the bar and its length (None: it never ends). On the page shorter ones are hidden and the chosen one is drawn over
the others; of a trace whose ``meta`` is ``"ways"`` only the chosen one is drawn. ``"own"``: hidden alike, never chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topolandscape.explore.model import Branches
from topolandscape.plot.ink import COLOURS, above, count, loss_label
from topolandscape.structures import PASSES, Barcode, Floats, Integers, LossSamples, MergeTree, PathProfile

Figure = dict[str, Any]
Profile = tuple[Floats, Floats, float]
"""Distances along a path, (q,), losses there, (q,), and the distance of the highest point, one of them."""

MOST = 500
"""Most bars that are drawn."""
_GREY = "#737373"
# As in the static pictures: filled where a saddle is known, open where only a path is.
_MARKS = {"verified saddle": "square", "path maximum": "square-open", "not converged": "x-thin-open"}


def layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    """Return the layout of a figure whose axes have these names."""
    axis = {"showgrid": True, "gridcolor": "#ebebeb", "zeroline": False, "linecolor": "#404040", "ticks": "outside"}
    return {
        "xaxis": {**axis, "title": {"text": x}, **more.pop("xaxis", {})},
        "yaxis": {**axis, "title": {"text": y}, **more.pop("yaxis", {})},
        "margin": {"l": 58, "r": 12, "t": 26, "b": 40},
        "font": {"family": "system-ui, sans-serif", "size": 11, "color": "#202020"},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hovermode": "closest",
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "x": -0.1,
            "y": 1.0,
            "yanchor": "bottom",
            "font": {"size": 10},
            "entrywidth": 72,
        },
        **more,
    }


def thinned(n: int, most: int) -> Integers:
    """Return which of n rows are drawn, all or every so-manieth, so many at most."""
    return np.arange(n)[:: max(1, -(-n // most))]


def numbers(values: Any) -> list[Any]:
    """Return an array as lists, None where it is not finite, which JSON has no number for."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, None).tolist()  # type: ignore[call-overload]


def bars(codes: Mapping[str, Barcode], *, passes: Sequence[str] | None = None, most: int = MOST) -> Figure:
    """Draw every bar as a vertical line from its birth to its death, in order of birth.

    Parameters
    ----------
    codes
        One barcode, whose degrees stand side by side; or several by name, which stand side by side on one axis of
        losses.
    passes
        Of one network of minima: what its passes are.
    most
        Draw at most this many bars of each, the longest.

    Returns
    -------
    dict

    Examples
    --------
    >>> figure = bars({"": Barcode.from_pairs([(0.0, float("inf")), (0.3, 0.9)])})
    >>> figure["data"][0]["y"][:3]
    [0.3, 0.6, 0.9]
    """
    several = len(codes) > 1
    groups = [(name, int(k), code) for name, code in codes.items() for k in np.unique(code.dim)]
    kept = {name: longest(code, most) for name, code in codes.items()}
    hidden = sum(len(code) - len(kept[name]) for name, code in codes.items())
    losses = [values[kept[name]] for name, code in codes.items() for values in (code.birth, code.death)]
    top = above(np.concatenate(losses))
    place, traces, middles = 0.0, [], []
    for name, k, code in groups:
        rows = kept[name][code.dim[kept[name]] == k]
        rows = rows[np.lexsort((code.death[rows], code.birth[rows]))]
        x = place + np.arange(len(rows), dtype=np.float64)
        middles.append(float(x.mean()) if len(x) else place)
        place += len(rows) + max(1.0, 0.05 * len(rows))
        colour = COLOURS[(list(codes).index(name) if several else k) % len(COLOURS)]
        birth, essential = code.birth[rows], code.essential[rows]
        death = np.where(essential, top, code.death[rows])
        label = f"{name}, degree {k}" if several else f"degree {k}"
        style = {"type": "scatter", "hoverinfo": "text"} | ({"legendgroup": label} if len(groups) > 1 else {})

        def of(chosen: Integers, times: int, code: Barcode = code) -> dict[str, Any]:
            text = [said_of(code, row, passes) for row in chosen.tolist() for _ in range(times)]
            links = {} if several else linked(keys_of(chosen, code.persistence[chosen]), times)
            return {"text": text, **links}

        for held, dash in ((~essential, "solid"), (essential, "dash")):
            if not held.any() and dash == "dash":
                continue
            middle = (birth + death) / 2
            traces.append(
                {
                    **style,
                    "mode": "lines",
                    "name": label,
                    "showlegend": dash == "solid" and len(groups) > 1 and not several,
                    "line": {"color": colour, "width": float(np.clip(240 / max(place, 1), 1, 2.5)), "dash": dash},
                    **_lines(x[held], np.column_stack([birth, middle, death])[held]),
                    **of(rows[held], 4),
                }
            )
        marks: dict[str, Any] = {"color": colour, "size": float(np.clip(300 / max(place, 1), 3, 8))}
        for held, y, symbol, mark in _marks(code, rows, birth, death, passes):
            traces.append(
                {
                    **style,
                    "mode": "markers",
                    "name": mark,
                    "showlegend": len(groups) == 1,
                    "x": x[held].tolist(),
                    "y": y[held].tolist(),
                    "marker": marks | {"symbol": symbol},
                    **of(rows[held], 1),
                }
            )
    words = [f"{name} (H{k})" if several and k else name for name, k, _ in groups]
    ticks = {"tickvals": middles, "ticktext": words} if several else {"showticklabels": False, "ticks": ""}
    title = "bars in order of birth" + (f" ({count(hidden, 'shorter one')} not drawn)" if hidden else "")
    label = loss_label(None, (code.provenance for code in codes.values()))
    return {"data": traces, "layout": layout(title, label, xaxis={"showgrid": False, **ticks})}


def tree(merge: MergeTree, found: Branches, *, passes: Sequence[str] | None = None) -> Figure:
    """Draw a merge tree as a disconnectivity graph: minima hang from the saddles at which they meet.

    Parameters
    ----------
    merge
        The tree.
    found
        Its branches.
    passes
        Of a network of minima: what its passes are.

    Returns
    -------
    dict
    """
    x, _, younger, lowest = found.layout
    leaves = len(found.length)
    # Where a branch that is not drawn would meet another, nothing is.
    is_drawn = ~np.isnan(x) & ((np.arange(len(x)) < leaves) | (younger >= 0) | (merge.parent < 0))
    shown = np.flatnonzero(is_drawn)
    inner, roots = shown[merge.parent[shown] >= 0], shown[merge.parent[shown] < 0]
    joins = shown[younger[shown] >= 0]
    hanging = shown[shown < leaves]
    top = above(merge.value[shown])
    branch = lowest[inner]
    above_inner = _drawn_above(merge.parent, is_drawn)[inner]
    upright = _lines(x[inner], np.column_stack([merge.value[inner], merge.value[above_inner]]))
    ending = lowest[younger[joins]]
    across = _lines(merge.value[joins], np.column_stack([x[found.layout.older[joins]], x[younger[joins]]]))
    style = {"type": "scatter", "hoverinfo": "text"}
    line = {"color": COLOURS[0], "width": float(np.clip(120 / max(len(hanging), 1), 0.8, 1.6))}
    keys = {"upright": (branch, 3), "across": (ending, 3), "hanging": (hanging, 1)}
    links = {
        name: linked(keys_of(found.bar[which], found.length[which]), times) for name, (which, times) in keys.items()
    }
    names = [f"minimum {merge.vertex[leaf]}, {merge.value[leaf]:.6g}" for leaf in range(leaves)]
    marks: dict[str, Any] = {"size": float(np.clip(300 / max(len(hanging), 1), 3, 8))}
    words = np.array(["saddle"] * len(joins) if passes is None else [passes[row] for row in merge.simplex[joins]])
    traces = [
        {
            **style,
            **upright,
            **links["upright"],
            "mode": "lines",
            "line": line,
            "showlegend": False,
            "text": [names[leaf] for leaf in branch for _ in range(3)],
        },
        {
            **style,
            "x": across["y"],
            "y": across["x"],
            **links["across"],
            "mode": "lines",
            "line": line,
            "showlegend": False,
            "text": [names[leaf] for leaf in ending for _ in range(3)],
        },
        {
            **style,
            **_lines(x[roots], np.column_stack([merge.value[roots], np.full(len(roots), top)])),
            "mode": "lines",
            "line": line | {"dash": "dash"},
            "showlegend": False,
        },
        {
            **style,
            "x": x[hanging].tolist(),
            "y": merge.value[hanging].tolist(),
            **links["hanging"],
            "mode": "markers",
            "name": "minimum",
            "marker": marks | {"symbol": "triangle-down", "color": COLOURS[0]},
            "text": [names[leaf] for leaf in hanging],
        },
    ]
    for word in dict.fromkeys(words.tolist()):
        held = words == word
        traces.append(
            {
                **style,
                "x": x[joins[held]].tolist(),
                "y": merge.value[joins[held]].tolist(),
                **linked(keys_of(found.bar[ending[held]], found.length[ending[held]]), 1),
                "mode": "markers",
                "name": word,
                "marker": marks | {"symbol": _MARKS.get(word, "square"), "color": COLOURS[1]},
                "text": [f"{word}, {value:.6g}" for value in merge.value[joins[held]]],
            }
        )
    hidden = leaves - len(hanging)
    title = "minima" + (f" ({count(hidden, 'shorter branch', 'shorter branches')} not drawn)" if hidden else "")
    ticks = {"showticklabels": False, "ticks": "", "showgrid": False}
    if passes is not None and len(hanging) <= 40:
        rows = [str(row) for row in merge.vertex[hanging]]
        ticks = {"tickvals": x[hanging].tolist(), "ticktext": rows, "showgrid": False, "tickfont": {"size": 9}}
    return {"data": traces, "layout": layout(title, "loss", xaxis=ticks)}


def _drawn_above(parent: Integers, is_drawn: NDArray[np.bool_]) -> Integers:
    """Return for each node the nearest one above it that is drawn; roots are, and have none (-1)."""
    found = parent.copy()
    while (passing := (found >= 0) & ~is_drawn[found]).any():
        found[passing] = found[found[passing]]
    return found


def diagram(code: Barcode, *, passes: Sequence[str] | None = None, most: int = MOST) -> Figure:
    """Draw every bar as a point: birth to the right, death upwards.

    Parameters
    ----------
    code
        Bars of any degrees.
    passes
        Of a network of minima: what its passes are.
    most
        Draw at most this many bars, the longest.

    Returns
    -------
    dict
    """
    rows = longest(code, most)
    values = np.concatenate([code.birth[rows], code.death[rows]])
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), above(known)) if len(known) else (0.0, 1.0)
    line = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False}
    traces: list[dict[str, Any]] = [
        {**line, "x": [low, high], "y": [low, high], "line": {"color": _GREY, "width": 1}},
    ]
    if code.essential[rows].any():
        traces.append({**line, "x": [low, high], "y": [high] * 2, "line": {"color": _GREY, "width": 1, "dash": "dot"}})
    for k in np.unique(code.dim[rows]).tolist():
        held = rows[code.dim[rows] == k]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"degree {k}",
                "x": code.birth[held].tolist(),
                "y": np.where(code.essential[held], high, code.death[held]).tolist(),
                "marker": {
                    "color": COLOURS[k % len(COLOURS)],
                    "symbol": ("circle", "triangle-up", "square", "diamond")[k % 4],
                    "size": 7,
                    "line": {"color": "white", "width": 0.5},
                },
                **linked(keys_of(held, code.persistence[held]), 1),
                "hoverinfo": "text",
                "text": [said_of(code, row, passes) for row in held.tolist()],
            }
        )
    hidden = len(code) - len(rows)
    label = loss_label(None, [code.provenance])
    title = f"{label} at birth" + (f" ({count(hidden, 'shorter bar')} not drawn)" if hidden else "")
    endless = {"tickmode": "auto"}
    return {"data": traces, "layout": layout(title, f"{label} at death (dotted: never)", yaxis=endless)}


def longest(code: Barcode, most: int) -> Integers:
    """Return the rows of the longest bars, at most so many, in ascending order."""
    return np.sort(np.argsort(-code.persistence, kind="stable")[:most])


def histogram(losses: Mapping[str, Floats], *, bins: int = 60) -> Figure:
    """Draw how often losses occur.

    Parameters
    ----------
    losses
        By name; those that are not finite are left out.
    bins
        Number of bins, the same for all.

    Returns
    -------
    dict
        Counted here, so that the figure is small however many losses there are.

    Examples
    --------
    >>> histogram({"samples": np.array([0.0, 1.0, 1.0])}, bins=2)["data"][0]["y"]
    [1, 2]
    """
    finite = {name: values[np.isfinite(values)] for name, values in losses.items()}
    everything = np.concatenate(list(finite.values()))
    edges = np.histogram_bin_edges(everything, bins=bins)
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": ((edges[1:] + edges[:-1]) / 2).tolist(),
            "y": np.histogram(values, bins=edges)[0].tolist(),
            "width": np.diff(edges).tolist(),
            "marker": {"color": COLOURS[i]},
            "hovertemplate": "loss %{x:.5g}: %{y}",
        }
        for i, (name, values) in enumerate(finite.items())
    ]
    title = f"loss ({', '.join(f'{len(values)} {name}' for name, values in finite.items())})"
    return {"data": traces, "layout": layout(title, "how many", barmode="stack", showlegend=len(traces) > 1)}


def path(profile: PathProfile) -> Figure:
    """Draw the loss along the path between two minima; the first trace is the curve that the slider walks.

    Parameters
    ----------
    profile
        The losses along it.

    Returns
    -------
    dict
    """
    return _along(
        profile.distances,
        profile.losses,
        profile.top,
        profile.highest,
        profile.word,
        f"distance from minimum {profile.ends[0]} to minimum {profile.ends[1]}",
    )


def way(samples: LossSamples, rows: Integers) -> Figure:
    """Draw the loss along a way over samples; the first trace is the curve that the slider walks.

    Parameters
    ----------
    samples
        Any.
    rows
        Those on the way, two at least.

    Returns
    -------
    dict
    """
    steps = np.linalg.norm(np.diff(samples.points[rows], axis=0), axis=1)
    distances, losses = np.append(0.0, np.cumsum(steps)), samples.values[rows]
    top = int(losses.argmax())
    title = f"distance from sample {rows[0]} to sample {rows[-1]}"
    return _along(distances, losses, float(distances[top]), float(losses[top]), "saddle", title)


def between(path: Profile, straight: Profile, *, ends: tuple[str, str], converged: bool) -> Figure:
    """Draw the loss along a bent path between two points, and along the segment between them.

    Parameters
    ----------
    path, straight
        The losses along each.
    ends
        What the points are called.
    converged
        Whether the path's highest loss had stopped falling.

    Returns
    -------
    dict
        Over shares of either length.
    """
    distances, losses, top = path
    highest = float(losses[np.searchsorted(distances, top)])
    word = "path maximum" if converged else "not converged"
    title = f"share of the way from {ends[0]} to {ends[1]}"
    length = distances[-1]
    figure = _along(distances / length, losses, top / length, highest, word, title, end="end")
    segment = {"type": "scatter", "mode": "lines", "name": "straight", "line": {"color": _GREY, "dash": "dash"}}
    figure["data"].append({**segment, "x": (straight[0] / straight[0][-1]).tolist(), "y": numbers(straight[1])})
    return figure


def _along(
    distances: Floats, losses: Floats, top: float, highest: float, word: str, title: str, *, end: str = "minimum"
) -> Figure:
    style = {"type": "scatter", "hovertemplate": "loss %{y:.6g} at %{x:.4g}"}
    curve = {"mode": "lines", "x": distances.tolist(), "y": numbers(losses), "line": {"color": COLOURS[0], "width": 2}}
    ends = {"mode": "markers", "name": end, "x": distances[[0, -1]].tolist(), "y": numbers(losses[[0, -1]])}
    peak = {"mode": "markers", "name": word, "x": [top], "y": [highest]}
    return {
        "data": [
            {**style, **curve, "showlegend": False},
            {**style, **ends, "marker": {"color": COLOURS[0], "symbol": "triangle-down", "size": 9}},
            {**style, **peak, "marker": {"color": COLOURS[1], "symbol": _MARKS.get(word, "square"), "size": 8}},
        ],
        "layout": layout(title, "loss"),
    }


# --------------------------------------------------------------------------------------------------------------
# Marks and what they say
# --------------------------------------------------------------------------------------------------------------


def _lines(x: Floats, y: Floats) -> dict[str, Any]:
    """Return upright lines, one at each x through its row of y, as one trace that is broken between them."""
    ends = np.column_stack([y, np.full(len(y), np.nan)])
    return {"x": np.repeat(x, ends.shape[1]).tolist(), "y": numbers(ends.reshape(-1))}


def keys_of(rows: Integers, lengths: Floats) -> list[tuple[int, float | None]]:
    """Return what names bars on the page: their rows and lengths, None for those that never end."""
    return list(zip(rows.tolist(), numbers(lengths), strict=True))


def linked(keys: list[tuple[int, float | None]], times: int) -> dict[str, Any]:
    """Return what links the points of a trace to bars, each key for so many points."""
    return {"meta": "bars", "customdata": [key for key in keys for _ in range(times)]}


def _marks(
    code: Barcode, rows: Integers, birth: Floats, death: Floats, passes: Sequence[str] | None
) -> list[tuple[Any, Floats, str, str]]:
    """Return which of some bars have a mark, where on the axis of losses, its symbol and its name."""
    essential = code.essential[rows]
    marks = [(np.ones(len(rows), dtype=bool), birth, "triangle-down", "birth")]
    if passes is None:
        marks.append((~essential, death, "square", "death"))
    else:
        words = np.array([passes[row] if row >= 0 else "" for row in code.death_simplex[rows]])
        marks += [(words == word, death, _MARKS[word], word) for word in PASSES]
    marks.append((essential, death, "triangle-up-open", "never ends"))
    return [mark for mark in marks if mark[0].any()]


def said_of(code: Barcode, row: int, passes: Sequence[str] | None) -> str:
    """Return what a mark of a bar says when the mouse is over it."""
    ends = "never ends" if code.essential[row] else f"to {code.death[row]:.6g}, length {code.persistence[row]:.4g}"
    edge = int(code.death_simplex[row])
    word = f"<br>{passes[edge]}" if passes is not None and edge >= 0 else ""
    what = f"minimum {code.birth_vertex[row]}" if code.dim[row] == 0 else f"degree {code.dim[row]}"
    return f"bar {row}: {what}<br>from {code.birth[row]:.6g} {ends}{word}"
