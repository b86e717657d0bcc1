"""Figures of a network at a point: its weights, its prediction, the loss along each weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topolandscape.explore.figures import Figure, layout, numbers, thinned
from topolandscape.explore.layers import Layer
from topolandscape.plot.ink import COLOURS
from topolandscape.structures import Floats

_WIDTHS = 5  # classes of how thick an edge is drawn
_MOST_ROWS = 1500  # of the data that are drawn
_POSITIVE, _NEGATIVE, _PICKED = COLOURS[0], COLOURS[5], COLOURS[1]
_BETWEEN = [[0.0, COLOURS[5]], [0.5, "#f7f7f7"], [1.0, COLOURS[0]]]


def network(layers: Sequence[Layer], where: Floats, names: Sequence[str], *, picked: int | None = None) -> Figure:
    """Draw a chain of linear layers: neurons as circles, weights as edges that are as thick as they are large.

    Parameters
    ----------
    layers
        Its layers.
    where
        The parameters, (p,).
    names
        What they are called.
    picked
        Number of the parameter that is marked.

    Returns
    -------
    dict
        The ``customdata`` of a mark on an edge, and of a neuron that has a bias, is the number of its parameter.
    """
    sizes = [layers[0].weights.shape[1], *(len(layer.weights) for layer in layers)]
    heights = [(np.arange(size) - (size - 1) / 2) / max(size, 2) for size in sizes]
    largest = float(np.abs(where).max()) or 1.0
    numbers_of = np.concatenate([layer.weights.ravel() for layer in layers])
    ends = np.concatenate(
        [
            [(k, heights[k][j], k + 1.0, heights[k + 1][i]) for i in range(sizes[k + 1]) for j in range(sizes[k])]
            for k in range(len(layers))
        ]
    )
    sizes_of = np.ceil(_WIDTHS * np.abs(where[numbers_of]) / largest).astype(np.int64)
    traces: list[dict[str, Any]] = []
    for sign, colour, name in ((1, _POSITIVE, "positive"), (-1, _NEGATIVE, "negative")):
        signed = (where[numbers_of] < 0) == (sign < 0)
        for width in np.unique(sizes_of[signed])[::-1].tolist():
            line = {"color": colour, "width": 0.4 + width, "dash": "solid" if sign > 0 else "dot"}
            legend = {"name": name, "legendgroup": name, "showlegend": width == int(sizes_of[signed].max())}
            traces.append(_edges(ends[signed & (sizes_of == width)], line) | legend)
    if picked is not None and (held := numbers_of == picked).any():
        traces.append(_edges(ends[held], {"color": _PICKED, "width": 7}) | {"showlegend": False, "name": "picked"})
    middle = ends[:, :2] + 0.35 * (ends[:, 2:] - ends[:, :2])
    style = {"type": "scatter", "mode": "markers", "showlegend": False, "hoverinfo": "text"}
    traces.append(
        {
            **style,
            "x": middle[:, 0].tolist(),
            "y": middle[:, 1].tolist(),
            "customdata": numbers_of.tolist(),
            "text": [f"{names[number]} = {where[number]:.4g}" for number in numbers_of],
            "marker": {"size": 9, "color": "rgba(120,120,120,0.25)"},
        }
    )
    for k, size in enumerate(sizes):
        biases = layers[k - 1].biases if k > 0 else np.empty(0, np.int64)
        known = len(biases) > 0
        colours = [_PICKED if number == picked else "white" for number in biases] if known else "white"
        neuron = {"size": 18, "color": colours, "line": {"width": 1.5, "color": "#404040"}}
        said = [f"{names[number]} = {where[number]:.4g}" for number in biases] if known else ["input"] * size
        place = {"x": [k] * size, "y": heights[k].tolist(), "customdata": biases.tolist() if known else [None] * size}
        traces.append({**style, **place, "text": said, "marker": neuron})
    words = ["inputs", *(f"layer {k}" for k in range(1, len(sizes) - 1)), "outputs"]
    ticks = {"tickvals": list(range(len(sizes))), "ticktext": words, "showgrid": False}
    return {"data": traces, "layout": layout("", "", xaxis=ticks, yaxis={"visible": False}, margin=_TIGHT)}


_TIGHT = {"l": 16, "r": 16, "t": 26, "b": 24}


def _edges(ends: Floats, line: dict[str, Any]) -> dict[str, Any]:
    ends = ends.reshape(-1, 4)
    x = np.column_stack([ends[:, 0], ends[:, 2], np.full(len(ends), np.nan)])
    y = np.column_stack([ends[:, 1], ends[:, 3], np.full(len(ends), np.nan)])
    where = {"x": numbers(x.ravel()), "y": numbers(y.ravel())}
    return {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": line, **where}


def along_weights(
    steps: Floats, losses: Floats, where: Floats, names: Sequence[str], *, picked: int | None = None
) -> Figure:
    """Draw the loss along every single weight, as small multiples on one scale.

    Parameters
    ----------
    steps
        By how much each weight is moved, (q,).
    losses
        The losses, (p, q).
    where
        The parameters around which, (p,).
    names
        What they are called.
    picked
        Number of the parameter that is marked.

    Returns
    -------
    dict
        The ``customdata`` of a curve is the number of its parameter.

    References
    ----------
    Doknic and Moeller (2022), "FuNNscope: visual microscope for interactively exploring the loss landscape of fully
    connected neural networks".
    """
    p, q = losses.shape
    columns = int(np.ceil(np.sqrt(1.6 * p)))
    known = losses[np.isfinite(losses)]
    low, high = (float(known.min()), float(np.quantile(known, 0.98))) if len(known) else (0.0, 1.0)
    height = np.clip((losses - low) / ((high - low) or 1.0), 0.0, 1.0) * 0.68
    column, row = np.arange(p) % columns, -(np.arange(p) // columns)
    x = column[:, None] + np.append(np.linspace(0.06, 0.94, q), np.nan)
    y = np.column_stack([row[:, None] + height, np.full(p, np.nan)])
    style = {"type": "scatter", "hoverinfo": "text", "showlegend": False}
    traces = []
    for held, colour, width in (
        (np.arange(p) != picked, COLOURS[0], 1.3),
        (np.arange(p) == picked, _PICKED, 2.5),
    ):
        rows = np.flatnonzero(held)
        traces.append(
            {
                **style,
                "mode": "lines",
                "line": {"color": colour, "width": width},
                "x": numbers(x[rows].ravel()),
                "y": numbers(y[rows].ravel()),
                "customdata": np.repeat(rows, q + 1).tolist(),
                "text": [
                    f"{names[k]} = {where[k] + step:.4g}<br>loss {loss:.5g}"
                    for k in rows.tolist()
                    for step, loss in zip((*steps, np.nan), (*losses[k], np.nan), strict=True)
                ],
            }
        )
    middle = height[:, q // 2]
    dots = {"x": (column + 0.5).tolist(), "y": (row + middle).tolist(), "customdata": list(range(p))}
    said = [f"{name} = {value:.4g}" for name, value in zip(names, where, strict=True)]
    traces.append({**style, **dots, "mode": "markers", "text": said, "marker": {"color": "black", "size": 4}})
    notes = []
    if p <= 60:
        notes = [
            {"x": float(c) + 0.06, "y": float(r) + 0.92, "text": _short(name), "showarrow": False, "xanchor": "left"}
            | {"font": {"size": 9, "color": _PICKED if k == picked else "#505050"}}
            for k, (c, r, name) in enumerate(zip(column, row, names, strict=True))
        ]
    title = f"each weight moved by {steps[0]:.3g} to {steps[-1]:.3g}; loss from {low:.3g} to {high:.3g}"
    hidden = {"showticklabels": False, "ticks": "", "showgrid": False, "showline": False}
    grid = {"xaxis": hidden | {"range": [-0.05, columns + 0.05]}, "yaxis": hidden}
    return {"data": traces, "layout": layout(title, "", annotations=notes, margin=_TIGHT | {"t": 6, "b": 34}, **grid)}


def _short(name: str) -> str:
    """Return the name of a parameter in few letters: linear1.weight[0, 2] as 1 w[0, 2]."""
    return name.replace("linear", "").replace(".weight", " w").replace(".bias", " b")


def curve(inputs: Floats, targets: Floats, places: Floats, outputs: Floats) -> Figure:
    """Draw the outputs of a network of one input over it, with the data.

    Parameters
    ----------
    inputs, targets
        The data, (n,) and (n, outputs).
    places, outputs
        Where the network was evaluated, ascending, (q,), and what it gave, (q, outputs).

    Returns
    -------
    dict
    """
    rows = thinned(len(inputs), _MOST_ROWS)
    traces = []
    for k in range(outputs.shape[1]):
        name = f" {k}" if outputs.shape[1] > 1 else ""
        line = {"color": COLOURS[k % 2 + 1], "width": 2.5}
        drawn = {"x": places.tolist(), "y": numbers(outputs[:, k]), "line": line, "name": f"prediction{name}"}
        traces.append({"type": "scatter", "mode": "lines", **drawn})
    for k in range(targets.shape[1]):
        marker = {"color": COLOURS[0], "size": 5, "symbol": "circle-open"}
        data = {"x": inputs[rows].tolist(), "y": numbers(targets[rows, k]), "marker": marker}
        traces.append({"type": "scatter", "mode": "markers", "name": "data", "showlegend": k == 0, **data})
    return {"data": traces, "layout": layout("input", "output")}


def field(inputs: Floats, targets: NDArray[Any], x: Floats, y: Floats, outputs: Floats, *, of_classes: bool) -> Figure:
    """Draw the prediction of a network of two inputs over their plane, with the data.

    Parameters
    ----------
    inputs, targets
        The data, (n, 2), and classes (n,) or numbers (n,).
    x, y
        Axes of the grid where the network was evaluated.
    outputs
        What it gave, (len(y) * len(x), outputs), x running fastest.
    of_classes
        Whether outputs are scores of classes: of two the probability of the second is drawn, of more the likeliest.

    Returns
    -------
    dict
    """
    rows = thinned(len(inputs), _MOST_ROWS)
    z: Floats
    scale: Any
    bounds: dict[str, float]
    if of_classes and outputs.shape[1] == 2:
        z, scale, name = 1 / (1 + np.exp(np.clip(outputs[:, 0] - outputs[:, 1], -500, 500))), _BETWEEN, "of class 1"
        bounds = {"zmin": 0, "zmax": 1}
    elif of_classes:
        z, scale, name = outputs.argmax(axis=1).astype(np.float64), "Viridis", "class"
        bounds = {"zmin": 0, "zmax": outputs.shape[1] - 1}
    else:
        z, scale, name = outputs[:, 0], "Viridis", "output"
        values = np.concatenate([z, targets[rows]])
        bounds = {"zmin": float(np.nanmin(values)), "zmax": float(np.nanmax(values))}
    marker = {
        "color": numbers(targets[rows]),
        "colorscale": scale,
        "cmin": bounds["zmin"],
        "cmax": bounds["zmax"],
        "size": 6,
        "line": {"color": "black", "width": 0.8},
        "symbol": ["circle" if value == 0 else "square" for value in targets[rows]] if of_classes else "circle",
    }
    bar = {"thickness": 12, "title": {"text": name, "side": "right"}}
    grid = {"x": x.tolist(), "y": y.tolist(), "z": numbers(z.reshape(len(y), len(x)))}
    data = {"x": inputs[rows, 0].tolist(), "y": inputs[rows, 1].tolist(), "marker": marker}
    traces = [
        {"type": "heatmap", "colorscale": scale, "colorbar": bar, "zsmooth": "best", "name": "prediction"}
        | grid
        | bounds,
        {"type": "scatter", "mode": "markers", "name": "data", "hoverinfo": "x+y", **data},
    ]
    return {"data": traces, "layout": layout("first input", "second input")}


def confusion(targets: NDArray[Any], outputs: Floats) -> Figure:
    """Draw how often each class is taken for each.

    Parameters
    ----------
    targets
        Classes, (n,).
    outputs
        Scores, (n, classes).

    Returns
    -------
    dict

    Examples
    --------
    >>> confusion(np.array([0, 0, 1]), np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]]))["data"][0]["z"]
    [[1, 1], [0, 1]]
    """
    k = outputs.shape[1]
    table = np.zeros((k, k), dtype=np.int64)
    np.add.at(table, (targets, outputs.argmax(axis=1)), 1)
    trace = {
        "type": "heatmap",
        "z": table.tolist(),
        "x": list(range(k)),
        "y": list(range(k)),
        "colorscale": [[0.0, "white"], [1.0, COLOURS[0]]],
        "showscale": False,
        "text": table.tolist(),
        "texttemplate": "%{text}" if k <= 20 else "",
        "hovertemplate": "class %{y} taken for %{x}: %{z}<extra></extra>",
    }
    ticks = {"dtick": 1 if k <= 20 else 10, "showgrid": False}
    axes = {"xaxis": ticks, "yaxis": ticks | {"autorange": "reversed"}}
    return {"data": [trace], "layout": layout("predicted class", "class", showlegend=False, **axes)}


def against_targets(targets: Floats, outputs: Floats) -> Figure:
    """Draw predictions over the numbers that they should be, (n, outputs) both."""
    rows = thinned(len(targets), _MOST_ROWS)
    low, high = float(targets[rows].min()), float(targets[rows].max())
    line = {"x": [low, high], "y": [low, high], "line": {"color": "#737373", "width": 1}, "showlegend": False}
    traces: list[dict[str, Any]] = [{"type": "scatter", "mode": "lines", "hoverinfo": "skip", **line}]
    for k in range(targets.shape[1]):
        marker = {"color": COLOURS[k % len(COLOURS)], "size": 5, "opacity": 0.7}
        data = {"x": numbers(targets[rows, k]), "y": numbers(outputs[rows, k]), "marker": marker}
        traces.append({"type": "scatter", "mode": "markers", "name": f"output {k}", **data})
    return {"data": traces, "layout": layout("target", "prediction", showlegend=targets.shape[1] > 1)}
