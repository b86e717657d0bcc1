"""What the live page does: by itself, in JavaScript, and where the network is needed by asking here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from topolandscape.explore.connecting import Connection, connection
from topolandscape.explore.explorer import Explorer
from topolandscape.explore.figures import Figure, between
from topolandscape.explore.jobs import Jobs
from topolandscape.explore.landscape_figures import landscape, surface
from topolandscape.explore.layers import names_of
from topolandscape.explore.live import Slice, Way, descent, point, slice_of
from topolandscape.explore.looks import look
from topolandscape.explore.page import points_and_directions
from topolandscape.explore.views import views

# What wrong values, or the user's model, may raise.
_WRONG = (ValueError, TypeError, KeyError, RuntimeError, OSError, ImportError)
_RATE = 0.01  # of descents


def register(app: Any, explorer: Explorer) -> None:
    """Register what an application answers, and what its page does by itself."""
    from dash import ClientsideFunction, Input, Output, State, no_update

    def client(name: str, *parts: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("live", name), *parts, **options)

    drawn = ("bars", "tree", "diagram", "histogram", "landscape", "path")
    client(
        "draw",
        *(Output(f"{name}-graph", "figure") for name in drawn),
        Output("said-shortest", "children"),
        Output("said-place", "children"),
        Output("about", "children"),
        Output("place", "disabled"),
        Input("views", "data"),
        Input("bar", "data"),
        Input("shortest", "value"),
        Input("place", "value"),
    )
    clicks = [Input(f"{name}-graph", "clickData") for name in ("bars", "tree", "diagram", "landscape")]
    client("clicked", Output("bar", "data"), *clicks, prevent_initial_call=True)
    client(
        "opened",
        Output("bar", "data", allow_duplicate=True),
        Input("views", "data"),
        prevent_initial_call="initial_duplicate",
    )
    client(
        "base",
        Output("base", "data"),
        Input("bar", "data"),
        Input("place", "value"),
        Input("slice-graph", "clickData"),
        State("views", "data"),
        State("sliced", "data"),
        State("base", "data"),
    )
    client(
        "picked",
        Output("picked", "data"),
        Input("network-graph", "clickData"),
        Input("weights-graph", "clickData"),
        prevent_initial_call=True,
    )
    client(
        "moved",
        Output("moved", "data"),
        Input("weight", "value"),
        Input("base", "data"),
        Input("unmove", "n_clicks"),
        State("weight-at", "data"),
        State("moved", "data"),
    )
    client("saidWeight", Output("said-weight", "children"), Input("weight-at", "data"), Input("moved", "data"))
    client(
        "slice",
        Output("slice-graph", "figure"),
        Input("slice-figure", "data"),
        Input("shortest", "value"),
        State("views", "data"),
    )
    client(
        "ofBar",
        *(Output(name, "value", allow_duplicate=True) for name in ("first", "second", "third")),
        Input("of-bar", "n_clicks"),
        State("bar", "data"),
        State("views", "data"),
        State("second", "options"),
        prevent_initial_call=True,
    )
    client(
        "address",
        Output("address", "data"),
        Input("run", "value"),
        Input("bar", "data"),
        *(Input(name, "value") for name in ("shortest", "place")),
        Input("base", "data"),
        Input("moved", "data"),
        *(Input(name, "value") for name in ("first", "second", "third", "reach", "side", "mode")),
        Input("sliced", "data"),
        Input("status", "data"),
    )

    @app.callback(
        Output("views", "data"),
        *(Output(name, "options") for name in ("first", "second", "third")),
        Output("status", "data", allow_duplicate=True),
        Output("loading", "disabled", allow_duplicate=True),
        Output("sliced", "data", allow_duplicate=True),
        Output("descent", "data", allow_duplicate=True),
        Output("connected", "data", allow_duplicate=True),
        Input("run", "value"),
        prevent_initial_call="initial_duplicate",
    )
    def open_run(number: int) -> Any:
        if not explorer.runs:
            points, others = points_and_directions([])
            return None, points, others, others, {"state": "loading"}, False, None, None, None
        run = explorer.runs[_number(number, 0, len(explorer.runs) - 1, "run")]
        shown = views(run)
        rows = [entry["bar"] for entry in shown["table"]["rows"] if run.code.dim[entry["bar"]] == 0]
        known = [
            {"bar": row, "minimum": int(run.code.birth_vertex[row]), "ends": not run.code.essential[row]}
            for row in rows
        ]
        points, others = points_and_directions(known)
        return shown, points, others, others, {"state": "loading"}, False, None, None, None

    @app.callback(
        Output("status", "data"),
        Output("loading", "disabled"),
        Output("said-status", "children"),
        Output("live", "className"),
        Output("compute", "disabled"),
        Output("descend", "disabled"),
        Output("connect", "disabled"),
        Input("loading", "n_intervals"),
        State("run", "value"),
        prevent_initial_call=True,
    )
    def tell_status(_: int, number: int) -> Any:
        # Not before the first tick: what is there already is drawn before the network is loaded.
        job = explorer.load(_number(number, 0, max(len(explorer.runs) - 1, 0), "run"))
        if not job.over:
            return no_update, False, "the model is loading ...", no_update, True, True, True
        if job.state == "done":
            said = repr(job.result.landscape)
            return {"state": "ready"}, True, said, "views", False, False, False
        said = f"nothing new can be computed: {job.message}"
        return {"state": "missing"}, True, said, "views hidden", True, True, True

    @app.callback(
        Output("prediction-graph", "figure"),
        Output("network-graph", "figure"),
        Output("weights-graph", "figure"),
        Output("said-here", "children"),
        Output("network-view", "className"),
        Output("weights-view", "className"),
        Output("wrong", "children"),
        Input("base", "data"),
        Input("moved", "data"),
        Input("picked", "data"),
        Input("weight-reach", "value"),
        Input("status", "data"),
        State("run", "value"),
    )
    def look_here(base: Any, moved: Any, picked: Any, reach: Any, status: Any, number: int) -> Any:
        if base is None or (status or {}).get("state") != "ready":
            return (no_update,) * 7
        try:
            chosen = None if picked is None else _number(picked, 0, 10**9, "weight")
            reach = _real(reach, "by how much weights are moved")
            seen = look(explorer.live(number), {**base, "moved": moved}, picked=chosen, reach=reach)
        except _WRONG as error:
            return *(no_update,) * 6, _said(error)
        empty: Figure = {"data": [], "layout": {}}
        drawn = (seen.prediction, seen.network or empty, seen.weights or empty)
        classes = ("view tall wide" if seen.network else "hidden", "view tall" if seen.weights else "hidden")
        return *drawn, seen.said, *classes, ""

    @app.callback(
        Output("weight", "value"),
        Output("weight", "min"),
        Output("weight", "max"),
        Output("weight", "disabled"),
        Output("unmove", "disabled"),
        Output("weight-at", "data"),
        Input("picked", "data"),
        Input("base", "data"),
        Input("unmove", "n_clicks"),
        State("moved", "data"),
        State("run", "value"),
        prevent_initial_call=True,
    )
    def pick(picked: Any, base: Any, _: Any, moved: Any, number: int) -> Any:
        from dash import ctx

        if picked is None or base is None:
            return (no_update,) * 6
        try:
            at = explorer.live(number)
            kept = (moved or {}) if ctx.triggered_id == "picked" else {}
            where = point(at, {**base, "moved": kept})
            name = names_of(at.landscape)[_number(picked, 0, len(where) - 1, "weight")]
        except _WRONG:
            return (no_update,) * 6
        value = float(where[picked])
        reach = 3 * max(1.0, abs(value))
        return value, value - reach, value + reach, False, False, {"number": picked, "name": name, "value": value}

    @app.callback(
        Output("job", "data"),
        Output("working", "disabled"),
        Output("wrong", "children", allow_duplicate=True),
        Input("compute", "n_clicks"),
        Input("descend", "n_clicks"),
        Input("connect", "n_clicks"),
        State("first", "value"),
        State("second", "value"),
        State("third", "value"),
        State("reach", "value"),
        State("side", "value"),
        State("steps", "value"),
        State("base", "data"),
        State("moved", "data"),
        State("job", "data"),
        State("run", "value"),
        prevent_initial_call=True,
    )
    def begin(
        _: Any,
        __: Any,
        ___: Any,
        first: str,
        second: str,
        third: str,
        reach: Any,
        side: Any,
        steps: Any,
        base: Any,
        moved: Any,
        before: Any,
        number: int,
    ) -> Any:
        from dash import ctx

        try:
            at = explorer.live(number)
            here = {**base, "moved": moved} if moved else dict(base)
            if before is not None:
                explorer.jobs.stop(before["number"])
            if ctx.triggered_id == "descend":
                count = _number(steps, 1, 10**6, "steps")
                job = explorer.jobs.start(lambda report: descent(at, here, count, _RATE, report))
                return {"kind": "descent", "number": job}, False, ""
            said = [json.loads(text) for text in (first, second, third)]
            through = [here if part == "here" else part for part in said]
            if ctx.triggered_id == "connect":
                job = explorer.jobs.start(lambda report: connection(at, through[0], through[1], report))
                return {"kind": "path", "number": job}, False, ""
            plane = {"through": through, "reach": _real(reach, "reach")}
            size = _number(side, 2, 10**6, "points")
            job = explorer.jobs.start(lambda report: slice_of(at, plane, size, report))
        except _WRONG as error:
            return no_update, True, _said(error)
        return {"kind": "slice", "number": job, "plane": plane}, False, ""

    @app.callback(Input("stop", "n_clicks"), State("job", "data"), prevent_initial_call=True)
    def stop(_: Any, job: Any) -> None:
        # What is said of it is for `tell_progress` alone, whose last answer may come before this one.
        if job is not None:
            explorer.jobs.stop(job["number"])

    @app.callback(
        Output("progress", "value"),
        Output("said-job", "children"),
        Output("stop", "disabled"),
        Output("working", "disabled", allow_duplicate=True),
        Output("sliced", "data"),
        Output("descent", "data"),
        Output("connected", "data"),
        Output("wrong", "children", allow_duplicate=True),
        Input("working", "n_intervals"),
        State("job", "data"),
        prevent_initial_call=True,
    )
    def tell_progress(_: Any, said: Any) -> Any:
        job = None if said is None else explorer.jobs.job(said["number"])
        as_before = (no_update,) * 3
        if job is None:
            return "0", "", True, True, *as_before, no_update
        if not job.over:
            words = "stopping ..." if job.stop.is_set() else f"{100 * job.share:.0f}%"
            return str(job.share), words, False, False, *as_before, no_update
        told = str(1.0 if job.state == "done" else 0.0)
        if job.result is None:
            return told, job.state, True, True, *as_before, job.message
        new = {"job": said["number"]}
        if said["kind"] == "slice":
            return told, job.state, True, True, {**new, "plane": said["plane"]}, None, no_update, ""
        found = (no_update, new, no_update) if said["kind"] == "descent" else (no_update, no_update, new)
        return told, job.state, True, True, *found, ""

    @app.callback(
        Output("slice-figure", "data"),
        Output("said-descent", "children"),
        Input("sliced", "data"),
        Input("descent", "data"),
        Input("connected", "data"),
        Input("base", "data"),
        Input("mode", "value"),
    )
    def draw_slice(said: Any, way_said: Any, path_said: Any, base: Any, mode: str) -> Any:
        found = _result(explorer.jobs, said, Slice)
        if found is None:
            return None, ""
        way = _result(explorer.jobs, way_said, Way)
        path = _result(explorer.jobs, path_said, Connection)
        subspace = found.plane.subspace
        known = {"descent": way, "path": path}
        tracks = {
            name: (track.points - subspace.origin) @ subspace.directions.T
            for name, track in known.items()
            if track is not None
        }
        words = ""
        if way is not None:
            words = f"down from {way.losses[0]:.5g} to {way.losses[-1]:.5g}; its shadow on the slice is drawn"
        points = dict(found.plane.points)
        if isinstance(base, dict) and base.get("plane") == said["plane"]:
            points["here"] = np.array(base["xy"], dtype=np.float64)
        if mode == "surface":
            return surface(found.samples, points=points, tracks=tracks), words
        drawn = landscape(found.samples, found.code, points=points, tracks=tracks, lines=found.lines, meta="own")
        return drawn, words

    @app.callback(
        Output("between-graph", "figure"),
        Output("said-between", "children"),
        Output("between-view", "className"),
        Input("connected", "data"),
    )
    def draw_path(said: Any) -> Any:
        found = _result(explorer.jobs, said, Connection)
        if found is None:
            return no_update, "", "hidden"
        drawn = between(found.path, found.straight, ends=found.ends, converged=found.converged)
        low, high = found.barriers
        words = f"at most {low:.5g} above the higher end, an upper bound of the lowest pass; straight {high:.5g}"
        return drawn, words, "view whole"


def _number(value: Any, low: int, high: int, name: str) -> int:
    """Return a whole number that the page sent, within bounds."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it needs to be a whole number from {low} to {high}.")
    return value


def _real(value: Any, name: str) -> float:
    """Return a number above 0 that the page sent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"{name} is {value!r}; it needs to be a number above 0.")
    return float(value)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _result(jobs: Jobs, said: Mapping[str, Any] | None, kind: type[Any]) -> Any:
    """Return the result of a job by its number, None where it is not kept or is something else."""
    job = None if said is None else jobs.job(said["job"])
    return job.result if job is not None and isinstance(job.result, kind) else None
