"""The network beside the run: points and planes of parameter space, and what the network does there.

A point or a plane is said in plain values, which is what the page sends and what stands in its address; whatever is
no such value is refused. Nothing of it is run, and no file is named.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from topolandscape.explore.jobs import Report
from topolandscape.explore.model import Explored, bars_of, way_of, ways_down
from topolandscape.files import Run
from topolandscape.structures import Barcode, Floats, Integers, LossSamples, Subspace
from topolandscape.study.problem import Problem, problem, trusted_recipe
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

LARGEST_SIDE = 201
"""Most points of a slice along each axis."""
LARGEST_STEPS = 5000
"""Most steps of a descent."""
SMALL = 400
"""Most parameters of a network whose weights are drawn one by one."""
_FIRST = 16  # vectors at which the engine looks for the fastest way
_PARTS = 40  # of a slice, between which it can be stopped
_MARGIN = 0.25  # how far a slice through points reaches beyond them, as a share of their extent
_DEEPEST = 16  # points on planes through points on planes ...
_PRODUCTS = 200  # with the Hessian, for its ends
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
    losses_at(found, np.tile(point(found, {"start": 0}), (_FIRST, 1)))
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


# --------------------------------------------------------------------------------------------------------------
# Points and planes
# --------------------------------------------------------------------------------------------------------------


def point(at: Live, said: Mapping[str, Any], *, depth: int = 0) -> Floats:
    """Return the parameter vector of a point.

    Parameters
    ----------
    at
        The network.
    said
        One of ``{"start": 0}``: the network as it was made; ``{"minimum": row}``: of the table of bars;
        ``{"pass": bar}``: the highest point on the path of a bar; ``{"path": [bar, share]}``: a share of the length of
        that path from its beginning; ``{"plane": plane, "xy": [x, y]}``: a point of a plane. Besides, ``"moved"``:
        values of single parameters, by their numbers as text.
    depth
        How many planes lead here.

    Returns
    -------
    Floats
        Shape (p,).

    Raises
    ------
    ValueError
        There is no such point.
    """
    if not isinstance(said, Mapping) or depth > _DEEPEST:
        raise ValueError(f"{said!r} is no point; choose one on the page.")
    try:
        found = np.array(_point(at, said, depth), dtype=np.float64)
        moved = {int(number): float(value) for number, value in dict(said.get("moved") or {}).items()}
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{dict(said)!r} is no point of this run.") from error
    for number, value in moved.items():
        if not 0 <= number < len(found) or not np.isfinite(value):
            raise ValueError(f"parameter {number} cannot be {value}; there are {len(found)}, from 0.")
        found[number] = value
    return found


def _point(at: Live, said: Mapping[str, Any], depth: int) -> Floats:
    run = at.run
    if "start" in said:
        assert at.landscape.point is not None
        return at.landscape.point
    if "plane" in said:
        x, y = (float(value) for value in said["xy"])
        if not (np.isfinite(x) and np.isfinite(y)):
            raise ValueError(f"the place {x}, {y} is not finite.")
        return plane(at, said["plane"], depth=depth + 1).subspace.parameters([[x, y]])[0]
    if run is None:
        raise KeyError("run")
    if "minimum" in said:
        row = _row(said["minimum"])
        return run.network.minima.points[row] if run.network is not None else _sample(run, row)
    bar, share = (said["pass"], None) if "pass" in said else said["path"]
    bar = _row(bar)
    if run.network is not None:
        edge = _row(int(run.code.death_simplex[bar]))
        return run.network.tops[edge] if share is None else _along(run.network.paths[edge], float(share))
    if share is None:
        return _sample(run, _row(int(run.code.death_vertex[bar])))
    assert run.samples is not None
    if bar not in at.ways:
        at.ways[bar] = way_of(run, bar)
    rows = at.ways[bar]
    if len(rows) < 2:
        raise ValueError(f"there is no path of bar {bar}.")
    # Lengths are those of the coordinates, as in the figure.
    place = _along(run.samples.points[rows], float(share))
    return place if run.samples.subspace is None else run.samples.subspace.parameters(place[None])[0]


def _row(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"{number!r} is no row; rows are counted from 0.")
    return number


def _sample(run: Explored, row: int) -> Floats:
    assert run.samples is not None
    return run.samples.parameters([row])[0]


def _along(path: Floats, share: float) -> Floats:
    """Return the point at a share of the length of a path."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of a path is {share}; it needs to be from 0 to 1.")
    lengths = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))
    where = float(np.interp(share * lengths[-1], lengths, np.arange(len(path))))
    before = min(int(where), len(path) - 2)
    return path[before] + (where - before) * (path[before + 1] - path[before])


def plane(at: Live, said: Mapping[str, Any], *, depth: int = 0) -> Plane:
    """Return a plane through a point and along two others or two directions.

    Parameters
    ----------
    at
        The network.
    said
        ``{"through": [first, second, third], "reach": r}``. The first is a point; the others are points, or directions
        from the first: ``{"random": seed}``, scaled like the weights (Li et al. 2018); ``{"gradient": 0}``;
        ``{"lowest": k}`` and ``{"highest": k}``: the Hessian's k-th eigenvector from below or above, counted from 0.
        Along directions one looks r times as far as the first point is from 0, both ways.
    depth
        How many planes lead here.

    Returns
    -------
    Plane

    Raises
    ------
    ValueError
        There is no such plane, or the points lie on a line.
    """
    from topolandscape.landscape.directions import affine_span

    key = json.dumps(said, sort_keys=True)
    if key in at.planes:
        return at.planes[key]
    through = said.get("through") if isinstance(said, Mapping) else None
    if not isinstance(through, Sequence) or len(through) != 3:
        raise ValueError(f"{said!r} is no plane; it needs three points or directions.")
    reach = float(said.get("reach", 0.5))
    if not 0 < reach <= 100:
        raise ValueError(f"the reach is {reach:g}; it needs to be above 0 and at most 100.")
    origin = point(at, through[0], depth=depth)
    length = float(np.linalg.norm(origin)) or 1.0
    corners, seen = [origin], [origin]
    for part in through[1:]:
        way = _direction(at, origin, part)
        if way is None:
            other = point(at, part, depth=depth)
            corners.append(other)
            seen.append(other)
        else:
            step = reach * length * way / max(float(np.linalg.norm(way)), np.finfo(float).tiny)
            corners.append(origin + step)
            seen += [origin - step, origin + step]
    first, directions = affine_span(np.array(corners))
    places = (np.array(seen) - first) @ directions.T
    low, high = places.min(axis=0), places.max(axis=0)
    border = _MARGIN * (high - low)
    named = {
        name_of(part): (other - first) @ directions.T
        for part, other in zip(through, corners, strict=True)
        if direction_of(part) is None
    }
    at.planes[key] = Plane(Subspace(first, directions), low - border, high + border, named)
    return at.planes[key]


def direction_of(said: Mapping[str, Any]) -> str | None:
    """Return which direction is said, None where it is a point."""
    return next((name for name in ("random", "gradient", "lowest", "highest") if name in said), None)


def _direction(at: Live, origin: Floats, said: Mapping[str, Any]) -> Floats | None:
    """Return the direction that is said, None where it is a point."""
    from topolandscape.landscape.curvature import highest_curvatures, lowest_curvatures
    from topolandscape.landscape.directions import random_directions

    name = direction_of(said) if isinstance(said, Mapping) else None
    if name is None:
        return None
    number = _row(said[name])
    with at.lock:
        if name == "random":
            return random_directions(at.landscape, 1, seed=number, at=origin)[0]
        if name == "gradient":
            return at.landscape.gradients(origin[None], progress=False)[1][0]
        ends = lowest_curvatures if name == "lowest" else highest_curvatures
        if number >= min(4, at.landscape.dimension):
            raise ValueError(f"direction {number} of the Hessian is not looked for; the first four are.")
        found = ends(at.landscape, origin[None], number + 1, seed=0, tolerance=1e-3, max_products=_PRODUCTS)
        return found.vectors[0, number]


def name_of(said: Mapping[str, Any]) -> str:
    """Return what a point is called in a figure."""
    if said.get("moved") or "plane" in said or "path" in said:
        return "here"
    if "minimum" in said:
        return f"minimum {said['minimum']}"
    return f"pass of bar {said['pass']}" if "pass" in said else "start"


# --------------------------------------------------------------------------------------------------------------
# What is computed there
# --------------------------------------------------------------------------------------------------------------


def slice_of(at: Live, said: Mapping[str, Any], side: int, report: Report) -> Slice:
    """Return the losses on a grid of a plane, and what is critical there.

    Parameters
    ----------
    at
        The network.
    said
        The plane.
    side
        Points along each axis.
    report
        Told after every part how much is done.

    Returns
    -------
    Slice
    """
    from topolandscape.landscape.grids import sample_grid

    if not 2 <= side <= LARGEST_SIDE:
        raise ValueError(f"a slice has {side} points along an axis; it needs 2 to {LARGEST_SIDE}.")
    found = plane(at, said)
    report(0.0)

    def evaluate(landscape: Landscape, points: Floats) -> Floats:
        values = np.empty(len(points))
        for rows in np.array_split(np.arange(len(points)), min(_PARTS, len(points))):
            with at.lock:
                values[rows] = landscape.values(points[rows], progress=False)
            report((int(rows[-1]) + 1) / len(points))
        return values

    restricted = at.landscape.restricted_to(found.subspace.origin, found.subspace.directions)
    samples = sample_grid(restricted, low=found.low, high=found.high, shape=side, evaluate=evaluate)
    return Slice(found, samples, bars_of(samples), ways_down(samples))


class Way(NamedTuple):
    """Where a descent led.

    Parameters
    ----------
    points
        Parameter vectors on the way, (q, p).
    losses
        There, (q,).
    """

    points: Floats
    losses: Floats


def descent(at: Live, said: Mapping[str, Any], steps: int, learning_rate: float, report: Report) -> Way:
    """Return the way of Adam from a point down, on the whole data.

    Parameters
    ----------
    at
        The network.
    said
        Where it begins.
    steps, learning_rate
        As for `topolandscape.descend`.
    report
        Told on the way how much is done.

    Returns
    -------
    Way
    """
    from topolandscape.landscape.descent import descending

    if not 1 <= steps <= LARGEST_STEPS:
        raise ValueError(f"a descent has {steps} steps; it needs 1 to {LARGEST_STEPS}.")
    start = point(at, said)
    points: list[Floats] = []
    losses: list[float] = []
    states = descending(
        at.landscape,
        start[None],
        every=max(1, steps // 100),
        steps=steps,
        learning_rate=learning_rate,
        progress=False,
    )
    while True:
        with at.lock:
            state = next(states, None)
        if state is None:
            return Way(np.array(points), np.array(losses))
        points.append(state.points[0])
        losses.append(float(state.values[0]))
        report(state.step / steps)


class Slice(NamedTuple):
    """A slice, and what is critical on it.

    Parameters
    ----------
    plane
        Where it lies.
    samples
        The losses on its grid.
    code
        Their bars.
    lines
        Ways from saddles of the slice down to its minima, coordinates (q, 2) each.
    """

    plane: Plane
    samples: LossSamples
    code: Barcode
    lines: list[Floats]


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
