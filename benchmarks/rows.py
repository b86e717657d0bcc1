"""The rows of the race: what is done, by whom, and how their answers are checked.

Answers are compared with what none of the entrants computed, or with an entrant that is not ours. A check says in words
what is right, for every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
import works
from contest import OURS, Entrant, Outcome
from peers.problems import trained
from scipy.optimize import linear_sum_assignment
from torch.func import functional_call, grad, jacrev
from torch.nn.functional import cross_entropy

from topolandscape.zoo import functions
from topolandscape.zoo.known import KnownFunction, elder_rule

Arrays = Mapping[str, np.ndarray]
Answers = Mapping[str, Arrays]
Check = Callable[[Arrays, Answers], dict[str, str]]

MLP, CNN = "mlp:64-32-10", "conv:1x8x8-8-16-10,bn"
NEAR = 1e-3  # points of a box are the same when they are this near, in units of the box


@dataclass(frozen=True)
class Row:
    """A piece of work, the entrants that do it (ours first), and the check of their answers.

    `patience` is in seconds; `whole` starts the clock before the process.
    """

    key: str
    title: str
    work: Callable[[], Arrays]
    entrants: tuple[Entrant, ...]
    check: Check
    patience: float = 60
    whole: bool = False


def ours(function: str, name: str = "topolandscape") -> Entrant:
    return Entrant(name, OURS, f"ours.{function}")


def error_in_words(error: float) -> str:
    """Return how right something is."""
    if not np.isfinite(error):
        return "**no**"
    if error == 0:
        return "to the bit"
    return f"to {error:.0e}"


# --------------------------------------------------------------------------------------------------------------
# Planes
# --------------------------------------------------------------------------------------------------------------

CHECKED = (0, 1, 19, 20, 39, 40)  # rows of a plane whose losses are computed once more, in float64


def losses_of_rows(work: Arrays, rows: tuple[int, ...] = CHECKED) -> np.ndarray:
    """Return the losses of some rows of a plane, by the module itself in float64."""
    given = ("network", "directions", "steps", "distance")
    module, inputs, targets = trained(
        work["network"], {name: array for name, array in work.items() if name not in given}
    )
    module.double()
    inputs, losses = inputs.double(), np.empty((len(rows), 41))
    point = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
    steps = torch.tensor(work["steps"])
    with torch.no_grad():
        for i, row in enumerate(rows):
            for j in range(41):
                vector = point + (row - 20) * steps[0] + (j - 20) * steps[1]
                torch.nn.utils.vector_to_parameters(vector, module.parameters())
                losses[i, j] = cross_entropy(module(inputs), targets).item()
    return losses


def check_plane(work: Arrays, answers: Answers) -> dict[str, str]:
    """Say at how many of the points that are computed once more the losses are right to 1e-4 of their size."""
    exact = losses_of_rows(work)
    words = {}
    for name, answer in answers.items():
        off = np.abs(answer["losses"][list(CHECKED)] / exact - 1)
        right = off <= 1e-4
        words[name] = f"to {off.max():.0e}" if right.all() else f"right at {right.mean():.1%} of the points"
        if not right.all() and right.mean() > 0.9:
            words[name] += f", else off by up to {off.max():.0e}"
    return words


# --------------------------------------------------------------------------------------------------------------
# Bars
# --------------------------------------------------------------------------------------------------------------


def distance_of_bars(bars: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest difference between bars as they are best matched; infinite where there are not as many."""
    bars, exact = np.asarray(bars).reshape(-1, 2), np.asarray(exact).reshape(-1, 2)
    if len(bars) != len(exact) or np.isfinite(bars).sum() != np.isfinite(exact).sum():
        return np.inf
    if np.array_equal(bars, exact):
        return 0.0
    if len(bars) > 2000:
        order, other = np.lexsort(bars.T), np.lexsort(exact.T)
        return _largest(bars[order], exact[other])
    with np.errstate(invalid="ignore"):
        apart = np.abs(bars[:, None] - exact[None])
    apart[np.isinf(bars[:, None]) & np.isinf(exact[None])] = 0
    apart = np.where(np.isfinite(apart), apart, 1e300).max(axis=2)
    rows, columns = linear_sum_assignment(apart)
    return float(apart[rows, columns].max())


def _largest(bars: np.ndarray, exact: np.ndarray) -> float:
    finite = np.isfinite(exact)
    return float(np.abs(bars[finite] - exact[finite]).max()) if (np.isfinite(bars) == finite).all() else np.inf


def check_bars(work: Arrays, answers: Answers) -> dict[str, str]:
    """Compare bars with those of gudhi's complexes, which are slow and right; else with those of scipy."""
    reference = next(answers[name]["bars"] for name in REFERENCES if name in answers)
    return {
        name: f"{len(answer['bars']):,} bars, {error_in_words(distance_of_bars(answer['bars'], reference))}"
        for name, answer in answers.items()
        if "bars" in answer
    } | {name: check_landscaper_tree(answer, reference) for name, answer in answers.items() if "node_edges" in answer}


REFERENCES = ("gudhi cubical", "gudhi simplex tree", "scipy spanning tree", "cripser", "topolandscape")


def bars_of_landscaper_tree(answer: Arrays) -> np.ndarray:
    """Return the bars of a tree whose edges enter with the later of their ends."""
    values, edges = answer["node_values"], answer["node_edges"].tolist()
    passes = [(max(values[i], values[j]), i, j) for i, j in edges]
    return np.array(elder_rule(values.tolist(), passes)).reshape(-1, 2)


def check_landscaper_tree(answer: Arrays, reference: np.ndarray) -> str:
    bars = bars_of_landscaper_tree(answer)
    return (
        f"{len(bars)} bars from its tree, {error_in_words(distance_of_bars(bars, reference))}; it shows "
        f"{len(answer['persistences'])} persistences without births"
    )


def check_whole(work: Arrays, answers: Answers) -> dict[str, str]:
    """Say whether the plane is right, and how many bars there are."""
    planes = check_plane(work, answers)
    for name, answer in answers.items():
        bars = bars_of_landscaper_tree(answer) if "node_edges" in answer else answer["bars"]
        planes[name] = f"losses {planes[name]}; {len(bars)} bars"
    return planes


def check_network(work: Arrays, answers: Answers) -> dict[str, str]:
    """Say how far deaths are from those by the elder rule; births are the losses of the minima."""
    births, ends, barriers = work["births"], work["ends"].tolist(), work["barriers"].tolist()
    exact = np.array(elder_rule(births.tolist(), [(b, i, j) for b, (i, j) in zip(barriers, ends, strict=True)]))
    words = {}
    for name, answer in answers.items():
        error = distance_of_bars(answer["bars"], exact)
        words[name] = error_in_words(error)
        if "spacing" in answer:
            words[name] += f" (levels {float(answer['spacing']):.0e} apart)"
    return words


# --------------------------------------------------------------------------------------------------------------
# Functions
# --------------------------------------------------------------------------------------------------------------


def found(points: np.ndarray, known: np.ndarray, box: KnownFunction) -> tuple[int, int]:
    """Return how many of the known points are among the points in the box, and how many others there are."""
    inside = points[((points >= box.low - 1e-9) & (points <= box.high + 1e-9)).all(axis=1)]
    side = box.high - box.low
    near = np.abs((inside[:, None] - known[None]) / side).max(axis=2) <= NEAR
    return int(near.any(axis=0).sum()), int((~near.any(axis=1)).sum())


def bars_of_search(answer: Arrays, known: KnownFunction) -> np.ndarray:
    """Return the bars of an answer: given, or by the elder rule from its minima and saddles."""
    if "bars" in answer:
        return answer["bars"]
    births, passes = known.function(answer["minima"]), known.function(answer["saddles"])
    joins = [(loss, i, j) for loss, (i, j) in zip(passes.tolist(), answer["ends"].tolist(), strict=True)]
    return np.array(elder_rule(births.tolist(), joins)).reshape(-1, 2)


def check_search(name: str, work: Arrays, answers: Answers) -> dict[str, str]:
    """Say how many of the known minima and saddles were found, with how many calls, and how right the bars are."""
    known = functions[name]
    words = {}
    first = int(next(iter(answers.values()))["calls"])
    for who, answer in answers.items():
        counts = []
        for kind, exact in (("minima", known.minima), ("saddles", known.saddles)):
            right, others = found(answer[kind], exact, known)
            counts.append(f"{right} of {len(exact)} {kind}" + (f" and {others} others" if others else ""))
        error = distance_of_bars(bars_of_search(answer, known), np.array(known.bars[0]))
        calls = f"{int(answer['calls']):,} calls ({int(answer['calls']) / first:.2g} times ours)"
        words[who] = f"{calls}; {', '.join(counts)}; bars {error_in_words(error)}"
    return words


# --------------------------------------------------------------------------------------------------------------
# Spectra
# --------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def hessian_of(network: str) -> np.ndarray:
    """Return the whole Hessian of a trained network in float64, by torch.func."""
    module, inputs, targets = trained(np.array(network), works.state(network))
    module.double()
    named = dict(module.named_parameters())
    sizes = [p.numel() for p in named.values()]

    def loss(vector: torch.Tensor) -> torch.Tensor:
        parts = zip(named.items(), vector.split(sizes), strict=True)
        return cross_entropy(
            functional_call(module, {name: part.view_as(p) for (name, p), part in parts}, (inputs.double(),)), targets
        )

    point = torch.cat([p.detach().reshape(-1) for p in named.values()])
    return jacrev(grad(loss), chunk_size=64)(point).numpy()


def check_spectrum(which: str, work: Arrays, answers: Answers) -> dict[str, str]:
    """Say how far the eigenvalues, or the trace, are from those of the whole Hessian."""
    hessian = hessian_of(str(work["network"]))
    k = int(work["k"])
    eigenvalues = np.linalg.eigvalsh(hessian)
    exact = {"highest": eigenvalues[::-1][:k], "lowest": eigenvalues[:k], "trace": np.array([np.trace(hessian)])}[which]
    scale = np.abs(exact).max() if which != "lowest" else np.abs(exact)
    return {
        name: f"{float(np.ravel(answer['values'])[0]):.6g} for {exact[0]:.6g}, off by "
        f"{(np.abs(answer['values'] - exact) / scale).max():.0e}"
        for name, answer in answers.items()
    }


# --------------------------------------------------------------------------------------------------------------
# The rows
# --------------------------------------------------------------------------------------------------------------

GUDHI_CUBICAL = Entrant("gudhi cubical", "homology", "homology.gudhi_cubical")
GUDHI_FAST = Entrant("gudhi 2-D fast path", "homology", "homology.gudhi_fast_2d")
CRIPSER = Entrant("cripser", "homology", "homology.cripser_grid")
OINEUS = Entrant("oineus", "homology", "homology.oineus_grid")
RIPSER = Entrant("ripser", "homology", "homology.ripser_grid")
SCIPY = Entrant("scipy spanning tree", "homology", "homology.scipy_grid")
WITH_TREE = "topolandscape, with sizes and tree"
GRID = (ours("bars_of_grid"), ours("tree_of_grid", WITH_TREE))
GRAPH = (
    ours("bars_of_graph"),
    ours("tree_of_graph", WITH_TREE),
    Entrant("gudhi simplex tree", "homology", "homology.gudhi_graph"),
    Entrant("ripser", "homology", "homology.ripser_graph"),
    Entrant("scipy spanning tree", "homology", "homology.scipy_graph"),
)


def _planes() -> list[Row]:
    takers = (
        ours("plane_in_use"),
        ours("plane", "new landscape"),
        Entrant("landscaper", "landscapes", "planes.landscaper"),
        Entrant("loss-landscapes", "landscapes", "planes.loss_landscapes"),
    )
    tree = Entrant("landscaper", "landscapes", "planes.landscaper_tree")
    both = (
        ours("plane_and_tree"),
        Entrant("landscaper", "landscapes", "planes.landscaper_plane_and_tree"),
    )
    sampled = partial(works.plane, MLP)
    bars = (
        ours("tree_of_grid"),
        ours("bars_of_grid", "topolandscape, bars alone"),
        tree,
        GUDHI_CUBICAL,
        GUDHI_FAST,
        CRIPSER,
        RIPSER,
    )
    return [
        Row("plane-mlp", f"41 x 41 losses, {MLP}", sampled, takers, check_plane),
        Row("plane-cnn", f"41 x 41 losses, {CNN}", partial(works.plane, CNN), takers, check_plane),
        Row("tree", f"merge tree and barcode of the plane, {MLP}", plane_losses, bars, check_bars, patience=120),
        Row("plane-and-tree", f"plane, merge tree and barcode, {MLP}", sampled, both, check_whole, patience=120),
        Row(
            "command", f"the same from the start of Python, {MLP}", sampled, both, check_whole, patience=120, whole=True
        ),
    ]


def plane_losses() -> Arrays:
    """Return the losses of the plane, in float32 as all losses here, by the module itself."""
    losses = losses_of_rows(works.plane(MLP), tuple(range(41)))
    return {"grid": losses.astype(np.float32).astype(np.float64)}


def _bars() -> list[Row]:
    rows = []
    for key, kind, shape, entrants in (
        ("grid-1001", "camel", (1001, 1001), (*GRID, GUDHI_FAST, GUDHI_CUBICAL, CRIPSER, OINEUS, RIPSER, SCIPY)),
        ("grid-1001-rough", "rough", (1001, 1001), (*GRID, GUDHI_FAST, GUDHI_CUBICAL, CRIPSER)),
        ("grid-3000", "camel", (3000, 2000), (*GRID, GUDHI_FAST, GUDHI_CUBICAL, CRIPSER)),
        ("grid-128", "smooth", (128, 128, 128), (*GRID, CRIPSER, GUDHI_CUBICAL)),
        ("grid-128-rough", "rough", (128, 128, 128), (*GRID, CRIPSER)),
    ):
        title = f"grid of {' x '.join(map(str, shape))}, {kind}"
        rows.append(Row(key, title, partial(works.grid, kind, shape), entrants, check_bars))
    for edges, points, dimension, k in (
        ("100,000", 11_800, 3, 15),
        ("476,000", 50_000, 10, 15),
        ("1,000,000", 117_500, 3, 15),
        ("10,000,000", 1_185_000, 3, 15),
    ):
        key = f"graph-{edges.replace(',', '')}"
        title = f"graph of {edges} edges, {points:,} points in {dimension}-D"
        entrants = GRAPH if points < 10**6 else tuple(entrant for entrant in GRAPH if entrant.name != "ripser")
        rows.append(Row(key, title, partial(works.graph, points, dimension, k), entrants, check_bars, patience=120))
    minima = (
        ours("tree_of_network"),
        Entrant("topsearch", "searches", "searches.topsearch_network"),
        Entrant("pele", "searches", "searches.pele_network"),
    )
    rows.append(Row("network", "200 minima, 800 passes", partial(works.network, 200, 800), minima, check_network))
    return rows


def _searches() -> list[Row]:
    entrants = (
        ours("critical_points", "critical_points"),
        ours("refined", "refine"),
        Entrant("topsearch", "searches", "searches.topsearch"),
        Entrant("pele", "searches", "searches.pele"),
    )
    return [
        Row(
            f"function-{name}",
            f"minima and saddles, {name}",
            lambda name=name: {"function": np.array(name)},
            entrants,
            partial(check_search, name),
            patience=60,
        )
        for name, known in functions.items()
        if known.dimension == 2 and name != "two_weights"  # its minima are not isolated
    ]


def _spectra() -> list[Row]:
    rows = []
    for which, k, title in (
        ("highest", 5, "5 highest eigenvalues"),
        ("lowest", 2, "2 lowest eigenvalues"),
        ("trace", 0, "trace"),
    ):
        peers = ["curvlinops", "landscaper", "pyhessian"] if which != "lowest" else ["curvlinops"]
        own = (ours(which), ours("highest_anew", "new landscape")) if which == "highest" else (ours(which),)
        entrants = (*own, *(Entrant(peer, "landscapes", f"spectra.{peer}_{which}") for peer in peers))
        title = f"Hessian of {MLP}, {title}"
        rows.append(Row(which, title, partial(works.spectrum, MLP, k), entrants, partial(check_spectrum, which)))
    return rows


def rows() -> list[Row]:
    """Return all rows, in the order of the data flow."""
    return [*_planes(), *_bars(), *_searches(), *_spectra()]


def verdicts(row: Row, work: Arrays, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Return what is said of each answer; errors stand for themselves."""
    answers = {name: outcome.answer for name, outcome in outcomes.items() if outcome.answer is not None}
    words = row.check(work, answers) if answers else {}
    return {name: outcome.error or words.get(name, "") for name, outcome in outcomes.items()}
