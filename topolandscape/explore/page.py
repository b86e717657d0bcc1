"""The live page: what stands on it. Built of Dash's components; what they do is in `callbacks`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from topolandscape.explore.export import TITLES
from topolandscape.explore.figures import Figure
from topolandscape.explore.slices import LARGEST_STEPS

LIVE_TITLES = {
    "slice": "Slice",
    "prediction": "The network here",
    "between": "Loss along the path from the first point to the second",
    "network": "Weights: click an edge or a neuron, then move it",
    "weights": "Loss along each weight",
}
SIDES = (21, 41, 81, 161)
_CONFIG: Any = {"displaylogo": False, "responsive": True}


def page(names: Sequence[str], *, compared: Figure | None) -> Any:
    """Return the page.

    Parameters
    ----------
    names
        Of the runs, one at least; or of the model alone.
    compared
        Bars of several runs on one axis of losses.

    Returns
    -------
    dash component
    """
    from dash import dcc, html

    empty = (
        "views",
        "bar",
        "base",
        "picked",
        "sliced",
        "descent",
        "connected",
        "slice-figure",
        "weight-at",
        "job",
        "address",
    )
    stores: dict[str, Any] = {"moved": {}, "status": {"state": "loading"}, **dict.fromkeys(empty)}
    runs = [{"label": name, "value": i} for i, name in enumerate(names)]
    header = html.Header(
        [
            html.H1("topolandscape"),
            html.Label(
                ["run", dcc.Dropdown(runs, 0, id="run", clearable=False, style={"minWidth": "190px"})],
                className="" if len(names) > 1 else "hidden",
            ),
            html.Label(["shortest bar", _range("shortest")], id="shortest-label"),
            html.Span(id="said-shortest", role="status"),
            html.Span(id="about", className="about"),
            html.Span("the model is loading ...", id="said-status", role="status"),
            html.Span(id="wrong", className="wrong", role="alert"),
        ]
    )
    kept = [_view(name, title, figure=name != "table") for name, title in TITLES.items()]
    children = [
        *(dcc.Store(id=name, data=data) for name, data in stores.items()),
        dcc.Interval(id="loading", interval=400),
        dcc.Interval(id="working", interval=150, disabled=True),
        header,
        html.Main(kept, id="kept", className="views"),
        html.Main(
            [
                _view("slice", LIVE_TITLES["slice"], controls=_slice_controls(), kind="view tall wide"),
                _view("prediction", LIVE_TITLES["prediction"], controls=[html.Span(id="said-here")], kind="view tall"),
                _view("between", LIVE_TITLES["between"], controls=[html.Span(id="said-between")], kind="hidden"),
                _view("network", LIVE_TITLES["network"], controls=_weight_controls(), kind="view tall wide"),
                _view(
                    "weights",
                    LIVE_TITLES["weights"],
                    controls=[html.Label(["by", _number("weight-reach", 1.0, 0.01)])],
                    kind="view tall",
                ),
            ],
            id="live",
            className="views hidden",
        ),
    ]
    if compared is not None:
        children.append(
            html.Main(
                [_view("compare", "Runs on one axis of losses", drawn=compared, kind="view whole")], className="views"
            )
        )
    return html.Div(children)


def points_and_directions(
    bars: Sequence[Mapping[str, Any]], *, most: int = 60
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return what a slice can be laid through, as options: points first, then points and directions.

    Parameters
    ----------
    bars
        Rows of the table of a run: the bar, its minimum, and whether it ends.
    most
        Most bars whose points are options.

    Returns
    -------
    tuple of lists
        Options, whose values are JSON of what `live.point` and `live.plane` take; ``"here"`` is the current point.
    """
    points = [_option("the point here", "here"), _option("start", {"start": 0})]
    points += [_option(f"minimum {bar['minimum']}", {"minimum": bar["minimum"]}) for bar in bars[:most]]
    points += [_option(f"pass of bar {bar['bar']}", {"pass": bar["bar"]}) for bar in bars[:most] if bar["ends"]]
    directions = [_option(f"random direction {seed}", {"random": seed}) for seed in range(1, 5)]
    directions.append(_option("gradient", {"gradient": 0}))
    for end in ("highest", "lowest"):
        directions += [_option(f"Hessian, {end} {k + 1}", {end: k}) for k in range(2)]
    return points, [*directions, *points]


def _option(label: str, value: Any) -> dict[str, str]:
    return {"label": label, "value": json.dumps(value)}


def _slice_controls() -> list[Any]:
    from dash import dcc, html

    points, others = points_and_directions([])
    choices = {"first": (points, "here"), "second": (others, {"random": 1}), "third": (others, {"random": 2})}
    modes = [{"label": "contour", "value": "contour"}, {"label": "3-D", "value": "surface"}]
    return [
        *(
            dcc.Dropdown(options, json.dumps(value), id=name, clearable=False, className="choice")
            for name, (options, value) in choices.items()
        ),
        html.Button("of the bar", id="of-bar", title="minimum and pass of the chosen bar, and the lower minimum"),
        html.Label(["reach", _number("reach", 0.5, 0.01)]),
        html.Label(["points", dcc.Dropdown(list(SIDES), 41, id="side", clearable=False, style={"width": "76px"})]),
        html.Button("compute", id="compute", disabled=True),
        html.Button("path", id="connect", disabled=True, title="a low path from the first point to the second"),
        html.Button("stop", id="stop", disabled=True),
        html.Progress(id="progress", value="0", max="1"),
        html.Span(id="said-job", role="status"),
        dcc.RadioItems(modes, "contour", id="mode", inline=True),
        html.Label(["steps", dcc.Input(id="steps", type="number", value=200, min=1, max=LARGEST_STEPS)]),
        html.Button("descend from here", id="descend", disabled=True),
        html.Span(id="said-descent", role="status"),
    ]


def _weight_controls() -> list[Any]:
    from dash import dcc, html

    return [
        html.Span("no weight is picked", id="said-weight"),
        dcc.Input(id="weight", type="range", min=-3, max=3, step="any", value=0, disabled=True),
        html.Button("as it was", id="unmove", disabled=True),
    ]


def _view(
    name: str,
    title: str,
    *,
    controls: Sequence[Any] = (),
    figure: bool = True,
    drawn: Figure | None = None,
    kind: str = "view",
) -> Any:
    from dash import dcc, html

    kinds = ("png", "svg", "csv", "json") if figure else ("csv", "json")
    options = [html.Option("save", value=""), *(html.Option(kind.upper(), value=kind) for kind in kinds)]
    of_menu: Any = {"data-view": name, "aria-label": f"save {title}"}
    of_view: Any = {"aria-label": title}
    menu = html.Select(options, className="save", **of_menu)
    if name == "path":
        controls = [html.Label(["place", _range("place")]), html.Span(id="said-place", role="status")]
    parts = [html.Div([html.H2(title), menu], className="head")]
    if controls:
        parts.append(html.Div(list(controls), className="controls"))
    if figure:
        graph = dcc.Graph(id=f"{name}-graph", figure=drawn, config=_CONFIG, className="plot", responsive=True)
        parts.append(html.Div(graph, id=name, className="figure"))
    else:
        parts.append(html.Div(id=name, className="table"))
    return html.Section(parts, className=kind, id=f"{name}-view", **of_view)


def _range(name: str) -> Any:
    from dash import dcc

    return dcc.Input(id=name, type="range", min=0, max=100, step=1, value=0)


def _number(name: str, value: float, least: float) -> Any:
    from dash import dcc

    return dcc.Input(id=name, type="number", value=value, min=least, step="any")
