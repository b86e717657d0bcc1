"""What is measured of a finished run: scores of its barcode, and what the field measures of networks beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from topolandscape.compare import bar_lengths, constant_predictor_ceiling, summary
from topolandscape.files import Run
from topolandscape.structures import Barcode, Floats, MergeTree, Minima, MinimaNetwork
from topolandscape.study.problem import problem
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

# As Yang et al. have it: how evenly two inputs are mixed.
_MIXED = 16.0
# Gradients times parameters times rows: half a minute on two cores.
_PART = 1e11


@dataclass(frozen=True, eq=False)
class _Trained:
    """The trained minima of a run, and the network and the data to which they belong."""

    run: Run
    recipe: Recipe

    @cached_property
    def problem(self) -> Any:
        return problem(self.recipe)

    @cached_property
    def landscape(self) -> Landscape:
        landscape: Landscape = self.problem.landscape().planned(self.run.known("plans"))
        return landscape

    @cached_property
    def held_out(self) -> Landscape | None:
        found: Landscape | None = self.problem.landscape_held_out()
        return None if found is None else found.planned(self.run.known("plans"))

    @cached_property
    def points(self) -> Floats:
        return trained_minima(self.run).points

    @cached_property
    def pairs(self) -> tuple[Any, Any]:
        return np.triu_indices(len(self.points), 1)

    @property
    def has_classes(self) -> bool:
        return bool(np.isfinite(trained_minima(self.run).accuracy).any())

    def part_by_part(self, name: str, n: int, gradients: int, of: Callable[[slice], Floats]) -> list[float]:
        """Return n numbers, of which each takes so many gradients, and keep those of one slice after the other."""
        work = float(gradients * self.landscape.dimension * (self.landscape.rows or 1))
        size = max(1, int(_PART / work))

        def part(start: int) -> list[float]:
            return of(slice(start, start + size)).tolist()

        starts = range(0, n, size)
        parts = [self.run.once(f"{name} from {start}", partial(part, start)) for start in starts]
        return [number for numbers in parts for number in numbers]

    def outputs(self, inputs: Any) -> Floats:
        from topolandscape.landscape.similarity import network_outputs

        return network_outputs(self.landscape, self.points, inputs)


class Measure(NamedTuple):
    """One number of each trained minimum, or of each pair of them.

    Attributes
    ----------
    words
        What it is.
    of
        Takes the trained minima of a run; gives a number for each minimum or each pair.
    cheap
        Whether it takes no more than a few passes through the network.
    """

    words: str
    of: Callable[[_Trained], Any]
    cheap: bool


def _test_loss(trained: _Trained) -> Any:
    return [] if trained.held_out is None else trained.held_out.values(trained.points, progress=False)


def _distance(trained: _Trained) -> Any:
    from scipy.spatial.distance import pdist

    return pdist(trained.points)


def _cka(trained: _Trained) -> Any:
    import torch

    from topolandscape.landscape.similarity import linear_cka

    inputs, rng = torch.as_tensor(trained.problem.data[0]), np.random.default_rng(trained.recipe.seed)
    if inputs.is_floating_point():
        share = torch.tensor(rng.beta(_MIXED, _MIXED, len(inputs)), dtype=inputs.dtype, device=inputs.device)
        share = share.reshape(-1, *[1] * (inputs.ndim - 1))
        inputs = share * inputs + (1 - share) * inputs[torch.as_tensor(rng.permutation(len(inputs)))]
    outputs = trained.outputs(inputs)
    if trained.has_classes:
        outputs = torch.softmax(torch.as_tensor(outputs), dim=-1).numpy()
    return linear_cka(outputs)[trained.pairs]


def _disagreement(trained: _Trained) -> Any:
    from topolandscape.landscape.similarity import disagreement

    data = trained.problem.data if trained.problem.held_out is None else trained.problem.held_out
    return disagreement(trained.outputs(data[0]))[trained.pairs] if trained.has_classes else []


def _hessian_top(trained: _Trained) -> Any:
    from topolandscape.landscape.curvature import highest_curvatures

    def of(rows: slice) -> Floats:
        points = trained.points[rows]
        return highest_curvatures(trained.landscape, points, seed=trained.recipe.seed, tolerance=1e-3).values[:, 0]

    return trained.part_by_part("hessian_top", len(trained.points), 300, of)


def _hessian_trace(trained: _Trained) -> Any:
    from topolandscape.landscape.spectrum import hessian_trace

    def of(rows: slice) -> Floats:
        return hessian_trace(trained.landscape, trained.points[rows], seed=trained.recipe.seed)[0]

    return trained.part_by_part("hessian_trace", len(trained.points), 150, of)


def _mode_connectivity(trained: _Trained) -> Any:
    from topolandscape.landscape.similarity import bezier_paths, mode_connectivity

    starts, ends = (trained.points[rows] for rows in trained.pairs)

    def of(rows: slice) -> Floats:
        paths = bezier_paths(trained.landscape, starts[rows], ends[rows], seed=trained.recipe.seed, progress=False)
        return mode_connectivity(trained.landscape, paths, of="error" if trained.has_classes else "loss")

    return trained.part_by_part("mode_connectivity", len(starts), 550, of)


MEASURES: Mapping[str, Measure] = {
    "test_loss": Measure("mean loss on the data held out", _test_loss, True),
    "distance": Measure("distance of two minima in parameter space", _distance, True),
    "cka": Measure("linear CKA of the outputs (for classes their probabilities) on mixed training inputs", _cka, True),
    "disagreement": Measure("share of test rows to which two minima give different classes", _disagreement, True),
    "hessian_top": Measure("highest eigenvalue of the Hessian", _hessian_top, False),
    "hessian_trace": Measure("trace of the Hessian (Hutch++)", _hessian_trace, False),
    "mode_connectivity": Measure(
        "on trained Bezier curves, of the training error (of the loss where there are no classes); below 0: a barrier",
        _mode_connectivity,
        False,
    ),
}
"""What can be measured of the trained minima of a run, beside the scores of its barcode, by name."""

CHEAP: tuple[str, ...] = tuple(name for name, measure in MEASURES.items() if measure.cheap)
"""Those that take no more than a few passes through the network."""


def measure(run: Run, recipe: Recipe, names: tuple[str, ...]) -> None:
    """Measure the trained minima of a run, and keep the numbers in it; what was measured before is not again."""
    trained = _Trained(run, recipe)
    run.once("ceiling", lambda: _ceiling(trained))
    for name in names:
        run.once(f"measure {name}", partial(_measured, name, trained))


def _measured(name: str, trained: _Trained) -> list[float]:
    numbers: list[float] = np.asarray(MEASURES[name].of(trained), dtype=np.float64).tolist()
    return numbers


def is_measured(run: Run, names: tuple[str, ...]) -> bool:
    """Tell whether a run holds these measures."""
    return all(run.known(f"measure {name}") is not None for name in names)


def _ceiling(trained: _Trained) -> float | str:
    """Return the loss of the best constant prediction, or why it is not known."""
    try:
        return constant_predictor_ceiling(trained.problem.data[1], loss=trained.problem.loss)
    except ValueError as error:
        return str(error)


# --------------------------------------------------------------------------------------------------------------
# One row of a table
# --------------------------------------------------------------------------------------------------------------

SCORES: Mapping[str, str] = {
    "parameters": "parameters of the network",
    "minima": "trained minima",
    "mean_bar": "how far a trained minimum is climbed out of: mean length of the bars that end",
    "relative_bar": "the same, as a share of the range from the lowest loss to that of the best constant prediction",
    "to_score": "TO-score: mean length of the bars that end, without minima left without climbing",
    "longest_bar": "length of the longest bar that ends",
    "total_persistence": "sum of the lengths of the bars that end",
    "persistent_entropy": "persistent entropy of the bars that end: how evenly their lengths are spread",
    "smad": "SMAD: mean of saddle less minimum over the merge tree's edges that end in a minimum",
    "lowest_loss": "loss of the lowest minimum",
    "train_error": "share of training rows that are classified wrongly",
    "test_error": "share of test rows that are classified wrongly",
    "generalisation_gap": "test error less training error; of losses where there are no classes",
}
"""What every row of a study says of a run, by name."""


def trained_minima(run: Run) -> Minima:
    """Return the trained minima of a run on the route through minima."""
    network = run.load("network", MinimaNetwork)
    return network.minima.rows(range(network.trained))


def scores(run: Run) -> dict[str, float]:
    """Return the scores of the barcode of a run, its errors, and the means of what was measured; NaN: not known."""
    code = run.load("barcode", Barcode).filter(dim=0)
    ends = code.persistence[~code.essential]
    ceiling = run.known("ceiling")
    row = dict.fromkeys((*SCORES, *MEASURES), float("nan"))
    row["parameters"] = float(run.settings.get("landscape", {}).get("parameters", np.nan))
    row["lowest_loss"] = float(code.birth.min())
    if code.essential.sum() <= 1:  # else nothing is known of what it takes to leave some
        known = summary(code, tree=run.load("tree", MergeTree) if "tree" in run else None)
        row |= {name: known[name] for name in SCORES if name in known}
        n = len(ends)
        if "network" in run:  # a minimum left without climbing counts, with 0
            trained = len(trained_minima(run))
            n = trained - int((code.birth_vertex[code.essential] < trained).sum())
        row["mean_bar"] = float(ends.sum() / max(n, 1))
        if isinstance(ceiling, float) and ceiling > row["lowest_loss"]:
            row["relative_bar"] = row["mean_bar"] / (ceiling - row["lowest_loss"])
    for name in MEASURES:
        row[name] = _mean(run.known(f"measure {name}"))
    if "network" in run:
        minima = trained_minima(run)
        row["minima"] = float(len(minima))
        row["train_error"], row["test_error"] = 1 - _mean(minima.accuracy), 1 - _mean(minima.test_accuracy)
        row["generalisation_gap"] = row["test_error"] - row["train_error"]
        if np.isnan(minima.accuracy).all():
            row["generalisation_gap"] = row["test_loss"] - float(minima.values.mean())
    else:
        row["minima"] = float(len(code))
    return row


def bars_and_errors(run: Run) -> tuple[Floats, Floats]:
    """Return the lengths of the bars of the trained minima that end, and the test errors of these minima.

    Where there are no classes, test losses.
    """
    network = run.load("network", MinimaNetwork)
    lengths = bar_lengths(run.load("barcode", Barcode), len(network))[: network.trained]
    errors = 1 - network.minima.test_accuracy[: network.trained]
    if np.isnan(errors).all():
        losses = run.known("measure test_loss")
        errors = np.array(losses) if losses else errors
    known = np.isfinite(lengths) & np.isfinite(errors)
    return lengths[known], errors[known]


def _mean(values: Any) -> float:
    """Return the mean of some numbers, NaN where there are none."""
    array = np.asarray([] if values is None else values, dtype=np.float64)
    return float(array.mean()) if len(array) else float("nan")
