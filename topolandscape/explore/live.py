"""The network beside the run: its loss, and what it does with data, evaluated anew."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from topolandscape.explore.model import Explored, bars_of, ways_down
from topolandscape.files import Run
from topolandscape.structures import Floats, Integers, LossSamples, Subspace
from topolandscape.study.problem import Problem, problem, trusted_recipe
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

SMALL = 400
"""Most parameters of a network whose weights are drawn one by one."""
_FIRST = 16  # vectors at which the engine looks for the fastest way
_ALONG = 31  # points along each weight


@dataclass(frozen=True, eq=False)
class Live:
    """A network whose loss can be evaluated anew.

    Parameters
    ----------
    landscape
        Its loss.
    given
        The network and its data.
    run
        The run to which it belongs, whose minima and passes are points by name; None: there is none.
    lock
        Held while the landscape is evaluated.
    planes
        Those that were found, by what says them.
    ways
        Those that were found of a run of samples, by their bars.
    """

    landscape: Landscape
    given: Problem
    run: Explored | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    planes: dict[str, Plane] = field(default_factory=dict)
    ways: dict[int, Integers] = field(default_factory=dict)


class Plane(NamedTuple):
    """A plane of parameter space, and how far one looks in it.

    Parameters
    ----------
    subspace
        Its first point and two orthonormal directions.
    low, high
        Corners of what is seen, (2,).
    points
        Coordinates of the points through which it was laid, by name, (2,).
    """

    subspace: Subspace
    low: Floats
    high: Floats
    points: Mapping[str, Floats]


def live(recipe: Recipe, run: Run | None = None, read: Explored | None = None, *, trusted: bool = False) -> Live:
    """Return the network that a recipe names, ready to be evaluated.

    Parameters
    ----------
    recipe
        Model, data and loss.
    run, read
        The run to which it belongs, and what was read of it.
    trusted
        Whether Python files that the run names may be run.

    Returns
    -------
    Live

    Raises
    ------
    PermissionError
        The run names a Python file, and is not trusted.
    FileNotFoundError, TypeError, ValueError
        The model or the data are not there, or are not those of the run any more.
    """
    given = problem(trusted_recipe(recipe, trusted=trusted or run is None))
    landscape = given.landscape()
    if run is not None:
        if json.loads(json.dumps(dict(landscape.description))) != run.settings.get("landscape"):
            raise ValueError("the model or the data have changed since the run.")
        if plans := run.known("plans"):
            landscape = landscape.planned(plans)
    found = Live(landscape, given, read)
    # What is searched or loaded at the first evaluation is so before anybody waits for it.
    samples = LossSamples(np.argwhere(np.ones((3, 3))).astype(np.float64), np.arange(9.0) % 4, shape=(3, 3))
    bars_of(samples), ways_down(samples)
    assert landscape.point is not None
    losses_at(found, np.tile(landscape.point, (_FIRST, 1)))
    return found


def recipe_of(run: Run) -> Recipe:
    """Return the recipe of the network of a run, without what decides how it was searched.

    Raises
    ------
    ValueError
        The run is of a surface, which no network gave.
    """
    settings = run.settings
    if "model" not in settings:
        raise ValueError("the losses were computed by another program; there is no model.")
    names = ("model", "data", "loss", "weight_decay", "seed", "device", "dtype")
    return Recipe(**{name: settings[name] for name in names if name in settings})


def losses_at(at: Live, points: Floats) -> Floats:
    """Return the losses at some points."""
    with at.lock:
        return at.landscape.values(points, progress=False)


def accuracy_at(at: Live, where: Floats) -> float | None:
    """Return the share of rows classified correctly at a point, None where there are no classes."""
    try:
        with at.lock:
            return float(at.landscape.accuracies(where[None], progress=False)[1][0])
    except ValueError:
        return None


def outputs_at(at: Live, where: Floats, inputs: Any) -> Floats:
    """Return what the network makes of inputs at a point, (rows, outputs)."""
    from topolandscape.landscape.similarity import network_outputs

    with at.lock:
        found = network_outputs(at.landscape, where[None], inputs)[0]
    return found.reshape(len(found), -1)


def along_weights(at: Live, where: Floats, reach: float) -> tuple[Floats, Floats]:
    """Return the loss along every single weight.

    Parameters
    ----------
    at
        The network, of at most 400 parameters.
    where
        The point around which, (p,).
    reach
        How far each weight is moved, both ways.

    Returns
    -------
    tuple of Floats
        By how much it is moved, (q,), and the losses, (p, q).
    """
    steps = np.linspace(-reach, reach, _ALONG)
    p = len(where)
    points = np.repeat(where[None], p * _ALONG, axis=0)
    points[np.arange(p * _ALONG), np.repeat(np.arange(p), _ALONG)] += np.tile(steps, p)
    return steps, losses_at(at, points).reshape(p, _ALONG)
