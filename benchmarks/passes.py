"""Compare ways of finding passes between the minima of a network: the sum of the lengths of its bars against seconds.

    python benchmarks/passes.py                                             # all cases, about an hour
    python benchmarks/passes.py --model mlp:64-16-10,tanh --seconds 300     # one of them, or another network
    python benchmarks/passes.py --model mlp:64-16-10,tanh --seconds 60 --long 500    # and one search that takes longer

Every method joins the same minima. Writes a table to benchmarks/results/passes.md, all curves and the environment to
passes.json beside it, and a picture to docs/images/passes.png. Cases that are not run again stay as they are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from environment import environment, keep
from matplotlib.figure import Figure
from networks import landscape as landscape_of

import topolandscape as tl
from topolandscape.landscape.curvature import hessians
from topolandscape.landscape.directions import unit
from topolandscape.landscape.network import joining
from topolandscape.landscape.strings import resampled
from topolandscape.plot import ink
from topolandscape.structures import Floats, Integers

HERE = Path(__file__).parent
PACKAGES = ("topolandscape", "torch", "numpy", "numba", "scipy")
# How many descents, and how many gradients the polishing of each may take: convolutions take a hundred times as long.
CASES = {"mlp:64-16-10,tanh": (16, 5000), "conv:1x8x8-8-8-8-10,tanh": (8, 2000), "ResNet with batch norm": (8, 500)}
OTHERS = (8, 2000)
_WARM = 3.0  # seconds a method, before any is timed
WEIGHT_DECAY = 1e-3
SEARCH = "search over saddles"
LONG = f"{SEARCH}, for longer"
POINTS, STEP = 15, 0.05  # of the plain string method
FROZEN = (
    " Batch norm is frozen, for all minima alike, at mean and variance of the training rows in one network trained for "
    "100 steps."
)
LARGEST_HESSIAN, LOWEST = 2000, 32  # beyond so many parameters only so many of the lowest eigenvalues are computed


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways of finding passes between minima.")
    parser.add_argument("--model", help="one network, by its name in the zoo or in networks.py; else all cases")
    parser.add_argument("--data", default="digits", help="data set of the zoo, with classes")
    parser.add_argument("--minima", type=int, help="descents; 16 for the fully connected case, 8 for the others")
    parser.add_argument(
        "--seconds", type=float, default=300, help="of work, for each method that does not end by itself"
    )
    parser.add_argument("--long", type=float, help="seconds of one more search; none if it is not given")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder for passes.json and passes.md")
    parser.add_argument("--pictures", type=Path, default=HERE.parent / "docs" / "images", help="folder for passes.png")
    arguments = parser.parse_args()

    kept = arguments.output / "passes.json"
    cases = json.loads(kept.read_text())["cases"] if kept.exists() else {}
    compile_methods()
    for model in [arguments.model] if arguments.model else CASES:
        descents, evaluations = CASES.get(model, OTHERS)
        seconds = arguments.seconds, arguments.long
        cases[model] = compare(model, arguments.data, arguments.minima or descents, evaluations, *seconds)
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        keep(arguments.output, "passes", {"cases": cases}, markdown({"cases": cases}))
        draw(cases).savefig(arguments.pictures / "passes.png", dpi=150)
    print(markdown({"cases": cases}))


def compare(
    model: str, data: str, descents: int, evaluations: int, seconds: float, long: float | None
) -> dict[str, Any]:
    """Train minima, join them by every method, and return what came out."""
    landscape = landscape_of(model, data, weight_decay=WEIGHT_DECAY)
    start = time.perf_counter()
    trained = tl.minima(landscape, descents, seed=0, max_evaluations=evaluations, progress=False)
    training = time.perf_counter() - start
    trained = trained.rows([row for row, word in enumerate(trained.stationary) if word != "diverged"])
    print(f"{model}: {len(trained)} minima in {training:.0f} s", flush=True)
    warm_up(landscape, trained)
    rows = []
    works = [(name, method, seconds) for name, method in METHODS.items()]
    if long is not None:
        works.append((LONG, METHODS[SEARCH], long))
    for name, method, allowed in works:
        watch = Stopwatch(landscape)
        found = method(watch, trained, allowed)
        spent = watch.seconds
        order = np.argsort(found.lengths)
        shown = [int(order[len(order) // 2]), int(order[-1])] if len(order) else []
        rows.append(
            {
                "method": name,
                "sum": float(found.lengths.sum()),
                "mean": float(found.lengths.sum() / (len(trained) - 1)),
                "longest": float(found.lengths.max(initial=0.0)),
                "bars": len(found.lengths),
                "allowed": allowed,
                "seconds": spent,
                "in_the_engine": watch.in_the_engine / spent,
                "processors_in_the_engine": watch.processors_in_the_engine / watch.processors,
                "verified": found.verified,
                "negative_curvatures": negative_curvatures(landscape, found.tops[shown]),
                "curve": found.curve,
            }
        )
        print(f"{name}: {rows[-1]['sum']:.4f} after {spent:.1f} s", flush=True)
    return {
        "environment": environment(*PACKAGES),
        "settings": {"data": data, "descents": descents, "seconds": seconds, "weight_decay": WEIGHT_DECAY},
        "landscape": repr(landscape),
        "minima": len(trained),
        "curvatures": landscape.dimension if landscape.dimension <= LARGEST_HESSIAN else LOWEST,
        "training_seconds": training,
        "losses": [float(trained.values.min()), float(trained.values.max())],
        "stationary": {word: trained.stationary.count(word) for word in sorted(set(trained.stationary))},
        "rows": rows,
    }


def compile_methods() -> None:
    """Compile what is compiled on first use: let every method work on a network of few parameters."""
    small = landscape_of("mlp:64-5-10,tanh", "digits", weight_decay=WEIGHT_DECAY)
    few = tl.minima(small, 3, seed=0, max_evaluations=1000, progress=False)
    for method in METHODS.values():
        method(Stopwatch(small), few, _WARM)


def warm_up(landscape: tl.Landscape, minima: tl.Minima) -> None:
    """Compile what this landscape needs compiled, and let the loss engine find its plans."""
    points = minima.points[np.arange(32) % len(minima)]
    landscape.values(points, progress=False)
    landscape.gradients(points, progress=False)
    landscape.hessian_products(points, points, progress=False)
    bars(minima.values, star(minima), np.zeros(len(minima) - 1))


# --------------------------------------------------------------------------------------------------------------
# What a method is given, and what it finds
# --------------------------------------------------------------------------------------------------------------


class Stopwatch:
    """A landscape, the seconds of work on it, and those of them that its evaluations take.

    Seconds are those of the clock, in which whoever asks waits for the loss engine; seconds of processors are those of
    all threads of the process together, and do not depend on what else the machine does.
    """

    def __init__(self, landscape: tl.Landscape) -> None:
        # The engine is shared: its count of evaluations tells the search how much a round may take.
        self.landscape = object.__new__(type(landscape))
        vars(self.landscape).update(vars(landscape))
        for name in ("values", "gradients", "hessian_products", "noise_at"):
            setattr(self.landscape, name, self._timed(getattr(landscape, name), ticks=name == "gradients"))
        self.unwatched = landscape
        self.in_the_engine, self.processors_in_the_engine, self.gradients_at = 0.0, 0.0, list[float]()
        self._paused, self._begun = np.zeros(2), _now()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning, without the pauses."""
        return float((_now() - self._begun - self._paused)[0])

    @property
    def processors(self) -> float:
        """Seconds of processors since the beginning, without the pauses."""
        return float((_now() - self._begun - self._paused)[1])

    def pausing(self, evaluate: Callable[[], Any]) -> Any:
        """Return what `evaluate` returns, which does not count as work."""
        start = _now()
        result = evaluate()
        self._paused += _now() - start
        return result

    def _timed(self, method: Callable[..., Any], *, ticks: bool) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start, busy = time.perf_counter(), time.process_time()
            result = method(*arguments, **options)
            self.in_the_engine += time.perf_counter() - start
            self.processors_in_the_engine += time.process_time() - busy
            if ticks:
                self.gradients_at.append(self.seconds)
            return result

        return timed


def _now() -> Floats:
    return np.array([time.perf_counter(), time.process_time()])


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found.

    Attributes
    ----------
    lengths, tops
        Of every finite bar its length, and the highest point on the path that ends it.
    verified
        How many of these points are verified saddles; None where no saddles are looked for.
    curve
        Rows of seconds and the sum of lengths then; and how many were verified, for the search.
    """

    lengths: Floats
    tops: Floats
    verified: int | None
    curve: list[list[float]]


def bars(values: Floats, ends: Integers, highest: Floats) -> tuple[Floats, Integers]:
    """Return the lengths of all finite bars of minima joined by paths, by the elder rule, and which path ends each."""
    barriers = np.maximum(highest, values[ends].max(axis=1))
    code = tl.barcode(tl.SimplicialComplex((np.arange(len(values))[:, None], ends), (values, barriers)))
    return code.persistence[~code.essential], code.death_simplex[~code.essential]


def star(minima: tl.Minima) -> Integers:
    """Return the pairs of the lowest minimum with every other."""
    lowest = int(minima.values.argmin())
    return np.sort([[lowest, row] for row in range(len(minima)) if row != lowest], axis=1)


def negative_curvatures(landscape: tl.Landscape, points: Floats) -> list[int]:
    """Return how many eigenvalues of the Hessian are negative at each point, of the lowest ones if there are many."""
    if len(points) == 0:
        return []
    if landscape.dimension <= LARGEST_HESSIAN:
        curvatures = np.linalg.eigvalsh(hessians(landscape, points))
    else:
        curvatures = tl.lowest_curvatures(landscape, points, LOWEST, seed=0, tolerance=1e-3).values
    # Rounding of the network, in float32, makes eigenvalues that vanish as large as that.
    return (curvatures < -1e-5 * np.abs(curvatures).max(axis=1, keepdims=True)).sum(axis=1).tolist()


# --------------------------------------------------------------------------------------------------------------
# The methods
# --------------------------------------------------------------------------------------------------------------


def straight_segments(watch: Stopwatch, minima: tl.Minima, seconds: float) -> Found:
    """Join all pairs by straight segments."""
    ends = np.column_stack(np.triu_indices(len(minima), 1))
    paths = tl.straight_paths(minima.points[ends[:, 0]], minima.points[ends[:, 1]])
    highest, tops = tl.highest_on(watch.landscape, paths)
    lengths, rows = bars(minima.values, ends, highest)
    return Found(lengths, tops[rows], None, [[watch.seconds, float(lengths.sum())]])


def plain_string(watch: Stopwatch, minima: tl.Minima, seconds: float, *, momentum: float) -> Found:
    """Bend the paths of the star by steps down the normal part of the gradient, then space their points equally."""
    ends = star(minima)
    start = tl.straight_paths(minima.points[ends[:, 0]], minima.points[ends[:, 1]], POINTS)
    highest, tops = watch.pausing(lambda: tl.highest_on(watch.unwatched, start))
    due = iter(np.geomspace(seconds / 1000, seconds, 30))
    following, curve = next(due), []
    for paths in string_steps(watch.landscape, start, momentum):
        finite = bool(np.isfinite(paths).all())
        if watch.seconds < following and finite:
            continue
        if finite:
            measured, where = watch.pausing(partial(tl.highest_on, watch.unwatched, paths))
            tops = np.where((measured < highest)[:, None], where, tops)
            highest = np.minimum(highest, measured)  # a path may be taken as it was before
        curve.append([watch.seconds, float(bars(minima.values, ends, highest)[0].sum())])
        following = next((when for when in due if when > watch.seconds), None)
        if following is None or not finite:
            break
    lengths, rows = bars(minima.values, ends, highest)
    return Found(lengths, tops[rows], None, curve)


def string_steps(landscape: tl.Landscape, paths: Floats, momentum: float, step: float = STEP) -> Iterator[Floats]:
    """Yield paths (b, k, p) after each step of the string method (E, Ren and Vanden-Eijnden 2002) with momentum.

    The steps end where a path leaves all bounds.
    """
    b, k, p = paths.shape
    velocity = np.zeros((b, k - 2, p))
    while True:
        gradients = landscape.gradients(paths[:, 1:-1].reshape(-1, p), progress=False)[1].reshape(b, k - 2, p)
        tangents = unit((paths[:, 2:] - paths[:, :-2]).reshape(-1, p)).reshape(b, k - 2, p)
        normal = gradients - (gradients * tangents).sum(axis=2, keepdims=True) * tangents
        velocity = momentum * velocity - step * normal
        moved = np.concatenate([paths[:, :1], paths[:, 1:-1] + velocity, paths[:, -1:]], axis=1)
        if not np.isfinite(moved).all():
            yield moved
            return
        paths = np.stack([resampled(path, k) for path in moved])
        yield paths


def quasi_newton(watch: Stopwatch, minima: tl.Minima, seconds: float, *, method: str) -> Found:
    """Bend the paths of the star by `lower_paths`; what it evaluates to see whether they still fall counts as work."""
    ends = star(minima)
    first, last = minima.points[ends[:, 0]], minima.points[ends[:, 1]]
    levels = (9, 17, 33)
    steps = affordable_steps(watch, minima, levels, seconds)
    paths = tl.lower_paths(
        watch.landscape, np.stack([first, last], axis=1), points=levels, steps=steps, method=method, progress=False
    )
    lengths, rows = bars(minima.values, ends, paths.highest)
    # By the elder rule the bars of a star are what its paths rise above their higher ends.
    totals = len(ends) * paths.curve[1:, 1] - minima.values[ends].max(axis=1).sum()
    every = len(watch.gradients_at) // len(totals)
    curve = np.column_stack([watch.gradients_at[every - 1 :: every], totals])
    return Found(lengths, paths.tops[rows], None, curve.tolist())


def search(watch: Stopwatch, minima: tl.Minima, seconds: float, *, lower: Literal["any", "trained"]) -> Found:
    """Join them by the whole search, over saddles and the minima met on the way; half the time is for these."""
    steps = affordable_steps(watch, minima, (9, 17), seconds / 2)
    *_, network = joining(watch.landscape, minima, lower=lower, steps=steps, seconds=seconds, progress=False)
    network = network.reduced(lower=lower)
    code = tl.barcode(network)
    rows = code.death_simplex[~code.essential]
    verified = sum(network.passes[row] == "verified saddle" for row in rows)
    return Found(code.persistence[~code.essential], network.tops[rows], verified, network.provenance["curve"])


def affordable_steps(watch: Stopwatch, minima: tl.Minima, levels: Sequence[int], seconds: float) -> int:
    """Return how many steps with each number of points the paths of the star can take in some time, 400 at most."""
    ends = star(minima)
    paths = tl.straight_paths(minima.points[ends[:, 0]], minima.points[ends[:, 1]], levels[-1])[:, 1:-1]

    def spent() -> float:
        start = time.perf_counter()
        watch.unwatched.gradients(paths.reshape(-1, paths.shape[2]), progress=False)
        return time.perf_counter() - start

    one_of_each = watch.pausing(spent) * sum(k - 2 for k in levels) / (levels[-1] - 2)
    return int(np.clip(seconds / one_of_each // 20 * 20, 20, 400))


METHODS: dict[str, Callable[[Stopwatch, tl.Minima, float], Found]] = {
    "straight segments": straight_segments,
    "plain string, momentum 0.9": partial(plain_string, momentum=0.9),
    "plain string, momentum 0.98": partial(plain_string, momentum=0.98),
    "nudged elastic band, quasi-Newton": partial(quasi_newton, method="band"),
    "string, quasi-Newton": partial(quasi_newton, method="string"),
    SEARCH: partial(search, lower="any"),
    f"{SEARCH}, bars that end at trained minima": partial(search, lower="trained"),
}


# --------------------------------------------------------------------------------------------------------------
# Table and picture
# --------------------------------------------------------------------------------------------------------------


def markdown(record: dict[str, Any]) -> str:
    """Return for every case a table of the methods, and how the bars of the search fell."""
    lines = []
    for model, case in record["cases"].items():
        words = ", ".join(f"{count} {word}" for word, count in case["stationary"].items())
        lines += [
            f"## {model}, {case['settings']['data']}",
            "",
            f"{case['landscape']}. Ends of descents: {words}; losses {case['losses'][0]:.4g} to "
            f"{case['losses'][1]:.4g}; found in {case['training_seconds']:.0f} s."
            + (FROZEN if "batch norm" in model or ",bn" in model else ""),
            "",
            "| method | sum of bars | mean bar | longest | seconds | in the loss engine | of the processors' time | "
            "verified saddles | negative curvatures at the median and the highest top |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        ]
        for row in case["rows"]:
            lines += half_way(row, row.get("allowed", case["settings"]["seconds"]))
            counts = " and ".join(
                f"{count}{' or more' if count == case['curvatures'] else ''}" for count in row["negative_curvatures"]
            )
            processors = f"{row['processors_in_the_engine']:.0%}" if "processors_in_the_engine" in row else "-"
            verified = "-" if row["verified"] is None else f"{row['verified']} of {row['bars']}"
            lines.append(
                f"| {row['method']} | {row['sum']:.4g} | {row['mean']:.3g} | {row['longest']:.3g} | "
                f"{row['seconds']:.3g} | {row['in_the_engine']:.0%} | {processors} | {verified} | {counts or '-'} |"
            )
        lines += ["", *falling([row["curve"] for row in case["rows"] if row["method"] in (SEARCH, LONG)][-1])]
    return "\n".join(lines)


def falling(curve: list[list[float]]) -> list[str]:
    """Return a table of at most nine states of a search, or nothing where it has not more than one."""
    if len(curve) < 2:
        return []
    states = [curve[row] for row in np.unique(np.linspace(0, len(curve) - 1, 9).round().astype(int))]
    parts = {
        "seconds of search": [f"{seconds:.0f}" for seconds, *_ in states],
        "thousand evaluations": [f"{evaluations / 1000:.0f}" for *_, evaluations in states],
        "sum of bars": [f"{total:.3g}" for _, total, *_ in states],
        "verified saddles": [f"{verified:.0f}" for _, _, verified, _ in states],
    }
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in parts.items()]
    return [lines[0], "|---|" + "--:|" * len(states), *lines[1:], ""]


def half_way(row: dict[str, Any], allowed: float) -> list[str]:
    """Return the line of what the search had found after half of the seconds that it was allowed."""
    before = [state for state in row["curve"] if len(state) > 2 and state[0] <= allowed / 2]
    if not before:
        return []
    seconds, total, verified = before[-1][:3]
    return [
        f"| {row['method']}, half the time | {total:.4g} | {total / row['bars']:.3g} | | {seconds:.3g} | | | "
        f"{verified:.0f} of {row['bars']} | |"
    ]


def draw(cases: dict[str, Any]) -> Figure:
    """Return the picture: for every case the sum of bars against seconds, one curve a method, named at its end."""
    figure = Figure(figsize=(6.8, 3.8 * len(cases)), layout="constrained")
    for ax, (model, case) in zip(np.atleast_1d(figure.subplots(len(cases))), cases.items(), strict=True):
        curves = {}
        for row in case["rows"]:
            known = np.array([state[:2] for state in row["curve"] if min(state[:2]) > 0])
            if len(known):
                curves[row["method"]] = (known[:, 0], known[:, 1])
        if not curves:
            continue
        tl.plot.convergence(curves, ax=ax, xscale="log", yscale="log", legend=False)
        ax.set_title(f"{model}, {case['minima']} minima", fontsize="medium")
        ax.spines[["top", "right"]].set_visible(False)
        name_curves(ax, curves)
    return figure


def name_curves(ax: Any, curves: dict[str, tuple[Floats, Floats]]) -> None:
    """Write the names of curves right of their ends, apart from each other."""
    low, high = ax.get_ylim()
    heights = [np.log(totals[-1] / low) / np.log(high / low) for _, totals in curves.values()]
    below = -np.inf
    for row in np.argsort(heights):
        name, (seconds, totals) = list(curves.items())[row]
        below = max(heights[row], below + 0.05)
        ax.annotate(
            name,
            (seconds[-1], totals[-1]),
            xytext=(1.02, below),
            textcoords="axes fraction",
            va="center",
            fontsize=ink.SMALL,
            color=ink.COLOURS[row % len(ink.COLOURS)],
            arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )


if __name__ == "__main__":
    main()
