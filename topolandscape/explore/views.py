"""All that is shown of a run, ready for JSON: the same for a page that is served and for one that is kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from topolandscape.explore import figures
from topolandscape.explore.landscape_figures import landscape
from topolandscape.explore.model import Explored, branches, way_on_grid, ways_down
from topolandscape.plot.ink import count
from topolandscape.structures import Integers

# Bars along whose ways over a grid the loss is shown, the longest.
_WAYS = 50


def views(run: Explored, *, most: int = figures.MOST) -> dict[str, Any]:
    """Return the figures and the table of a run, and which bars belong together.

    Parameters
    ----------
    run
        What was read.
    most
        Most bars that are shown, the longest.

    Returns
    -------
    dict
        ``figures``: bars, tree, diagram, histogram, landscape where there is one of at most two coordinates; ``paths``:
        the figure along the path of a bar, by its row; ``table``: names of columns, and rows, each with the row of its
        bar and its length; ``lower``: for a bar, by its row, what names the branch that it meets; ``longest``: the
        longest bar that ends; ``about``: a line.
    """
    code, passes = run.code, run.passes
    found = branches(run.tree, code, most=most)
    lower = {int(found.bar[leaf]): int(found.bar[into]) for leaf, into in enumerate(found.into) if into >= 0}
    minimum_of = {int(bar): int(run.tree.vertex[leaf]) for leaf, bar in enumerate(found.bar)}
    drawn = {
        "bars": figures.bars({run.name: code}, passes=passes, most=most),
        "tree": figures.tree(run.tree, found, passes=passes),
        "diagram": figures.diagram(code, passes=passes, most=most),
    }
    shown = figures.longest(code, most)
    paths, ways = {}, {}
    if run.network is not None:
        drawn["histogram"] = figures.histogram({"minima": run.network.minima.values, "passes": run.network.barriers})
        for row in shown[~code.essential[shown]].tolist():
            ends = tuple(run.network.ends[code.death_simplex[row]].tolist())
            paths[row] = figures.path(run.profiles[ends])
    elif run.samples is not None:
        drawn["histogram"] = figures.histogram({"samples": run.samples.values})
        for row in shown[(code.dim[shown] == 0) & ~code.essential[shown]][:_WAYS].tolist():
            on_way = way_on_grid(run.samples, code, row, minimum_of[lower[row]])
            if len(on_way) > 1:
                ways[row] = on_way
                paths[row] = figures.way(run.samples, on_way)
        lines = ways_down(run.samples)
        if (plane := landscape(run.samples, code, ways=ways, lines=lines)) is not None:
            drawn["landscape"] = plane
    ending = code.persistence[~code.essential]
    return {
        "name": run.name,
        "figures": drawn,
        "paths": paths,
        "table": _table(run, shown, {row: minimum_of[lower[row]] for row in shown.tolist() if row in lower}),
        "lower": lower,
        "longest": float(ending.max(initial=0.0)),
        "about": _about(run, len(shown)),
    }


def _about(run: Explored, shown: int) -> str:
    """Return in a line what the run is and how much of it is shown."""
    what = repr(run.network if run.network is not None else run.samples)
    bars = count(len(run.code), "bar")
    return what + (f"; the {shown} longest of {bars} are shown" if shown < len(run.code) else f"; {bars}")


def _table(run: Explored, rows: Integers, lower: dict[int, int]) -> dict[str, Any]:
    """Return the table of bars and of their minima, the longest bars first."""
    code, minima = run.code, None if run.network is None else run.network.minima
    columns = ["bar", "minimum", "birth", "death", "length", "into", "degree"]
    columns += ["points"] if minima is None else ["highest pass", "accuracy", "test", "index", "gradient", "stationary"]
    lines = []
    for row in rows[np.argsort(-code.persistence[rows], kind="stable")].tolist():
        vertex, edge, essential = int(code.birth_vertex[row]), int(code.death_simplex[row]), bool(code.essential[row])
        cells = [
            str(row),
            str(vertex) if vertex >= 0 else "-",
            f"{code.birth[row]:.6g}",
            "-" if essential else f"{code.death[row]:.6g}",
            "∞" if essential else f"{code.persistence[row]:.4g}",
            str(lower[row]) if row in lower else "-",
            str(code.dim[row]),
        ]
        if minima is None:
            cells.append(str(code.size[row]) if code.dim[row] == 0 else "-")
        else:
            cells += [
                "-" if edge < 0 or run.passes is None else run.passes[edge],
                _share(minima.accuracy[vertex]),
                _share(minima.test_accuracy[vertex]),
                str(minima.index[vertex]) if minima.index[vertex] >= 0 else "-",
                f"{minima.gradient_norm[vertex]:.2g}",
                minima.stationary[vertex],
            ]
        length = None if essential else float(code.persistence[row])
        known = {"minimum": vertex if code.dim[row] == 0 else None, "lower": lower.get(row)}
        lines.append({"bar": row, "length": length, "cells": cells, **known})
    return {"columns": columns, "rows": lines}


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}%"
