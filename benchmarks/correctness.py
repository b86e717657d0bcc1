"""Who is right, and to how many digits: every engine of ours and every peer on barcodes that are known.

    python benchmarks/race.py --only correctness

Prints the tables and keeps them in benchmarks/results/correctness.md; numbers go to correctness.json beside it. The run
of the whole race adds topsearch and pele, whose searches it has made already.

Bars of grids are known exactly: those of a sum of functions of one coordinate each follow from theirs by the rule of
Kuenneth, with the values on the vertices; others are counted by the elder rule over all edges in plain Python. Bars of
functions are those of the zoo. An entry is the largest difference of a birth or a death, or what is wrong.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from contest import OURS, Entrant, contest
from environment import environment, keep
from peers.homology import grid_edges, sorted_bars
from rows import bars_of_landscaper_tree, distance_of_bars, ours

from topolandscape.zoo import functions, kuenneth
from topolandscape.zoo.known import elder_rule

Array = np.ndarray

PUBLISHED = (  # Barannikov et al. (2019), section 3: bars of components of more than 100 points
    (0.309139, math.inf), (0.328696, 0.779223), (0.342372, 0.394553), (0.312065, 0.368086), (0.310403, 0.367645),
    (0.313676, 0.365604), (0.311138, 0.365109), (0.309267, 0.364245), (0.430413, 0.445315),
)  # fmt: skip

ENGINES = (
    *(
        Entrant(f"ours: {engine}", OURS, f"ours.{engine}")
        for engine in ("merge", "morse", "canonical", "gudhi", "ripser")
    ),
    *(
        Entrant(name, "homology", f"homology.{function}")
        for name, function in (
            ("gudhi", "gudhi_cubical"),
            ("gudhi 2-D", "gudhi_fast_2d"),
            ("cripser", "cripser_grid"),
            ("oineus", "oineus_grid"),
            ("ripser", "ripser_grid"),
            ("scipy", "scipy_grid"),
        )
    ),
)
DEGREES = (
    *(Entrant(f"ours: {engine}", OURS, f"ours.degrees_{engine}") for engine in ("morse", "canonical", "gudhi")),
    *(Entrant(name, "homology", f"homology.{name}_degrees") for name in ("gudhi", "cripser", "oineus")),
)
ROUTES = (
    ours("sampled_grid", "grid of 41 x 41"),
    ours("sampled_points", "20,000 points"),
    ours("refined", "refined grid"),
    ours("critical_points", "critical points"),
    ours("found_network", "network of minima"),
)


@dataclass(frozen=True, eq=False)
class Truth:
    """A grid, and its bars by degree."""

    title: str
    grid: Array
    bars: Mapping[int, Array]


def line_bars(values: Array) -> dict[int, tuple[tuple[float, float], ...]]:
    """Return the bars of a function on a line of points, by the elder rule over its edges."""
    return {0: elder_rule(values.tolist(), [(max(a, b), i, i + 1) for i, (a, b) in enumerate(pairwise(values))])}


def summed(title: str, *lines: Array) -> Truth:
    """Return the sum of functions of one coordinate each on their product grid."""
    bars = reduce(kuenneth, map(line_bars, lines))
    grid = reduce(lambda a, b: a[..., None] + b, lines)
    return Truth(title, grid, {k: sorted_bars(np.array(bars.get(k) or ()).reshape(-1, 2)) for k in range(grid.ndim)})


def counted(title: str, grid: Array) -> Truth:
    """Return a grid with the bars of degree 0 by the elder rule over its edges."""
    values = grid.reshape(-1)
    edges = grid_edges(grid)
    entered = values[edges].max(axis=1).tolist()
    passes = [(loss, i, j) for loss, (i, j) in zip(entered, edges.tolist(), strict=True) if loss < math.inf]
    bars = sorted_bars(np.array(elder_rule(values.tolist(), passes)))
    return Truth(title, grid, {0: bars[np.isfinite(bars[:, 0])]})


def truths() -> list[Truth]:
    """Return grids with known bars: smooth ones, and those that are hard on precision, ties and infinities."""
    quartic, rastrigin, schwefel = (functions[name] for name in ("quartic", "rastrigin_1d", "schwefel_1d"))
    rng = np.random.default_rng(0)
    # In whole numbers of 2^-20, so that sums are exact in whatever order they are taken.
    on_line = lambda known, n: np.round(known.on_grid((n,)).values * 2**20) / 2**20  # noqa: E731
    walled = rng.random((20, 20))
    walled[:, 10] = np.inf
    return [
        summed("quartic + quartic, 41 x 41", on_line(quartic, 41), on_line(quartic, 41)),
        summed("Rastrigin + Schwefel, 81 x 101", on_line(rastrigin, 81), on_line(schwefel, 101)),
        summed("quartic x 3, 9 x 9 x 9", *[on_line(quartic, 9)] * 3),
        counted("white noise, 30 x 30", rng.random((30, 30))),
        counted("ties: whole numbers 0 to 3, 30 x 30", rng.integers(4, size=(30, 30)).astype(float)),
        counted("flat to 1e-8 around 2.3, 30 x 30", 2.3 + 1e-8 * rng.random((30, 30))),
        counted("a wall of +inf, 20 x 20", walled),
    ]


def write(folder: Path, raced: Sequence[Mapping[str, Any]] = ()) -> None:
    """Compute the tables and write them down; `raced` are the lines of the race."""
    parts = [engines(), with_nan(), degrees(), routes(raced), networks()]
    record = {"environment": environment("topolandscape", "numpy"), "tables": parts}
    keep(folder, "correctness", record, markdown(record))
    print(markdown(record))


def engines() -> dict[str, Any]:
    """Return the table of all engines on grids, degree 0."""
    cases = truths()
    answers = answered(ENGINES, {truth.title: {"grid": truth.grid} for truth in cases})
    rows = {
        truth.title: {who: judged(answer.get(truth.title), {"bars": truth.bars[0]}) for who, answer in answers.items()}
        for truth in cases
    }
    return {"title": "Bars of degree 0 of grids", "who": [entrant.name for entrant in ENGINES], "rows": rows}


def with_nan() -> dict[str, Any]:
    """Return what engines say to a loss that is no number: the one right answer is to refuse it."""
    grid = np.random.default_rng(0).random((20, 20))
    grid[3, 4] = np.nan
    outcomes = contest(ENGINES, {"grid": grid}, repeat=0, patience=60)
    bars = {who: outcome.answer["bars"] for who, outcome in outcomes.items() if outcome.answer is not None}
    row = {
        who: f"**silent**, {len(bars[who])} bars" if who in bars else f"refused ({outcome.error.partition(':')[0]})"
        for who, outcome in outcomes.items()
    }
    return {"title": "A loss that is NaN", "who": list(row), "rows": {"one NaN, 20 x 20": row}}


def degrees() -> dict[str, Any]:
    """Return the table of engines that know all degrees."""
    cases = [truth for truth in truths() if len(truth.bars) > 1]
    answers = answered(DEGREES, {truth.title: {"grid": truth.grid} for truth in cases})
    rows = {
        truth.title: {
            who: judged(answer.get(truth.title), {f"bars_{k}": bars for k, bars in truth.bars.items()})
            for who, answer in answers.items()
        }
        for truth in cases
    }
    return {"title": "Bars of all degrees of grids", "who": [entrant.name for entrant in DEGREES], "rows": rows}


def routes(raced: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of routes to the bars of functions, with what the race found of topsearch and pele."""
    chosen = {name: known for name, known in functions.items() if known.dimension <= 2}
    answers = answered(ROUTES, {name: {"function": np.array(name)} for name in chosen})
    tree = Entrant("landscaper, 25 x 25", "landscapes", "planes.landscaper_tree")
    planes = {name: {"grid": known.on_grid((25, 25)).values.reshape(25, 25)} for name, known in chosen.items()
              if name in ("three_hump_camel", "himmelblau", "mueller_brown")}  # fmt: skip
    trees = answered([tree], planes)[tree.name]
    rows: dict[str, dict[str, str]] = {}
    for name, known in chosen.items():
        exact = {"bars": np.array(known.bars[0])}
        rows[name] = {who: judged(answer.get(name), exact) for who, answer in answers.items()}
        if name in trees:
            answer = trees[name]
            bars = answer if "error" in answer else {"bars": bars_of_landscaper_tree(answer)}
            rows[name][tree.name] = judged(bars, exact)
        for line in raced:
            if line["row"] == f"function-{name}" and line["who"] in ("topsearch", "pele"):
                rows[name][line["who"]] = line["bars"] or line["answer"]
    who = [*(entrant.name for entrant in ROUTES), tree.name, "topsearch", "pele"]
    return {"title": "Bars of degree 0 of functions", "who": who, "rows": rows}


def networks() -> dict[str, Any]:
    """Return the table of networks: a published one, and the elder rule on pairwise barriers."""
    elder = {"births": np.array([0.0, 3.0, 2.0]), "ends": np.array([[0, 1], [0, 2], [1, 2]])}
    elder["barriers"] = np.array([6.0, 10.0, 5.0])
    graph = [
        ours("tree_of_network", "topolandscape"),
        Entrant("topsearch", "searches", "searches.topsearch_network"),
        Entrant("pele", "searches", "searches.pele_network"),
    ]
    exact = {"bars": np.array([(0.0, math.inf), (3.0, 5.0), (2.0, 6.0)])}
    title = "three minima (0, 3, 2) with barriers 6, 10, 5"
    rows = {title: {who: judged(answer.get(title), exact) for who, answer in answered(graph, {title: elder}).items()}}
    title = "1-2-1 ReLU network, 2,160,000 points: the nine published bars"
    answer = answered([ours("published")], {title: {"size": np.array(101)}})["topolandscape"]
    rows[title] = {"topolandscape": judged(answer.get(title), {"bars": np.array(PUBLISHED)})}
    return {"title": "Networks", "who": [entrant.name for entrant in graph], "rows": rows}


def answered(entrants: Sequence[Entrant], pieces: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, Any]]:
    """Return the answers of each entrant to each piece of work; an error stands in place of an answer."""
    work = {f"{piece}/{name}": array for piece, arrays in pieces.items() for name, array in arrays.items()}
    found: dict[str, dict[str, Any]] = {}
    for who, outcome in contest(entrants, work, repeat=0, patience=300).items():
        found[who] = {piece: {"error": outcome.error} for piece in pieces} if outcome.answer is None else {}
        for name, array in (outcome.answer or {}).items():
            piece, _, part = name.rpartition("/")
            found[who].setdefault(piece, {})[part] = array
    return found


def judged(answer: Mapping[str, Any] | None, exact: Mapping[str, Array]) -> str:
    """Return in one word how right bars are, by degree: exact, a difference, or what is wrong."""
    if answer is None:
        return ""
    if "error" in answer:
        return textwrap.shorten(f"error: {answer['error']}", 70, placeholder=" ...")
    wrong = [f"{len(answer[name])} for {len(bars)}" for name, bars in exact.items() if len(answer[name]) != len(bars)]
    if wrong:
        return f"**no**: {', '.join(wrong)} bars"
    error = max(distance_of_bars(answer[name], bars) for name, bars in exact.items())
    return "exact" if error == 0 else f"{error:.0e}" if np.isfinite(error) else "**no**"


def markdown(record: Mapping[str, Any]) -> str:
    """Return all tables."""
    return "\n".join(table(part) for part in record["tables"])


def table(part: Mapping[str, Any]) -> str:
    """Return a table, one column for each of those who were asked."""
    who = part["who"]
    lines = [f"## {part['title']}", "", "| | " + " | ".join(who) + " |", "|---|" + "---|" * len(who)]
    lines += [
        f"| {title} | " + " | ".join(row.get(name, "") for name in who) + " |" for title, row in part["rows"].items()
    ]
    return "\n".join(lines) + "\n"
