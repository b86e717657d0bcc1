"""Many descents at once: from random starts downhill, by the whole data or by mini-batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm import tqdm

from topolandscape.landscape.directions import whole_number
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.machine import randomness_kept
from topolandscape.landscape.points import read_points
from topolandscape.landscape.tasks import in_parts, joined
from topolandscape.structures import Descent as Descent
from topolandscape.structures import Floats, Integers
from topolandscape.structures import Trajectories as Trajectories

Method = Literal["adam", "sgd", "nesterov"]
Schedule = Literal["cosine", "linear", "constant"]
Seed = int | np.random.Generator
Result = TypeVar("Result")

_SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,
}

_log = logging.getLogger(__name__)


def initial_points(landscape: Landscape, n: int, *, seed: Seed) -> Floats:
    """Draw starts as the module itself would: every layer's own ``reset_parameters()``.

    Parameters
    ----------
    landscape
        Of a whole module.
    n
        Number of starts.
    seed
        A whole number or a numpy Generator.

    Returns
    -------
    float64 array
        One parameter vector a row, shape (n, dimension). Parameters of layers that cannot be reset are as in the
        landscape's module. The generator of torch is left as it was.

    Examples
    --------
    >>> landscape = Landscape.from_module(
    ...     torch.nn.Linear(4, 1), torch.zeros(2, 4), torch.zeros(2, 1), loss=torch.nn.functional.mse_loss
    ... )
    >>> starts = initial_points(landscape, 3, seed=0)
    >>> starts.shape, bool(np.abs(starts).max() <= 0.5)
    ((3, 5), True)
    """
    if landscape.point is None:
        raise ValueError(
            "this landscape is of a function or of a few directions, so there is no module to draw starts from; give "
            "starts of your own, for example by sample_box()."
        )
    whole_number(n, "n")
    # On the processor whatever the landscape's device, so that a seed means the same everywhere.
    module = landscape.module_at(landscape.point).cpu()
    points = np.empty((n, landscape.dimension))
    for row, drawn in enumerate(np.random.default_rng(seed).integers(2**63, size=n)):
        with randomness_kept(torch.device("cpu"), seed=int(drawn)), torch.no_grad():
            for part in module.modules():
                for name in ("reset_parameters", "_reset_parameters"):
                    reset = getattr(part, name, None)
                    if callable(reset):
                        reset()
        points[row] = landscape.point_of(module)
    return points


def descend(
    landscape: Landscape,
    starts: ArrayLike | Descent,
    *,
    steps: int,
    learning_rate: float = 0.01,
    method: Method = "adam",
    momentum: float = 0.9,
    schedule: Schedule = "cosine",
    warm_up: int = 0,
    batch: int | None = None,
    seed: Seed | None = None,
    record_every: int | None = None,
    progress: bool | None = None,
) -> Trajectories:
    """Descend from many starts at once, by gradients of the whole loss or of mini-batches.

    Parameters
    ----------
    landscape
        Any; for mini-batches one of a module on data.
    starts
        Shape (m, dimension); or where earlier descents were interrupted, as `descending` gave it.
    steps
        Number of steps; of all of them, also when the descents were interrupted.
    learning_rate
        The largest one.
    method
        ``"adam"`` (Kingma and Ba 2015), ``"sgd"``: gradient descent with Polyak's momentum, or ``"nesterov"``: with
        Nesterov's; all as in torch.
    momentum
        Of the gradient; the first of Adam's two numbers, of which the second is 0.999.
    schedule
        How the learning rate falls to zero: ``"cosine"``, along half a cosine (Loshchilov and Hutter 2017), or
        ``"linear"``; or ``"constant"``.
    warm_up
        Over so many first steps the learning rate rises in equal parts, and the schedule begins after them.
    batch
        Rows of data in a mini-batch, the same rows for all descents; None: all rows. Every epoch goes through all
        rows once, in a new random order; its last batch holds what is left.
    seed
        Of the mini-batches: a whole number or a numpy Generator.
    record_every
        Record a point every so many steps, besides the start and the end; None: these two only.
    progress
        None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    Trajectories
        The end is the final point, not the lowest one seen; losses and gradients recorded are those of the whole
        data. A descent that meets a loss or a gradient that is not finite ends at its last point where both were, and
        a warning is logged; the others go on.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2 - 1).square().sum(1), 1)
    >>> descents = descend(landscape, [[-0.3], [2.0]], steps=200, learning_rate=0.1)
    >>> np.round(descents.ends, 3).tolist()
    [[-1.0], [1.0]]
    """
    if record_every is not None and record_every < 1:
        raise ValueError(f"record_every is {record_every}; it needs to be 1 or more.")
    settings: dict[str, Any] = {
        "steps": steps,
        "learning_rate": learning_rate,
        "method": method,
        "momentum": momentum,
        "schedule": schedule,
        "warm_up": warm_up,
        "batch": batch,
        "seed": seed,
    }
    if landscape.tasks is not None:
        parts = in_tasks(landscape, descend, starts, progress=progress, record_every=record_every, **settings)
        return joined(parts, steps=parts[0].steps)
    recorded = list(descending(landscape, starts, every=record_every, progress=progress, **settings))
    end = recorded[-1]
    return Trajectories(
        points=np.stack([state.points for state in recorded], axis=1),
        values=np.stack([state.values for state in recorded], axis=1),
        steps=np.array([state.step for state in recorded]),
        gradient_norm=np.linalg.norm(end.gradients, axis=1),
    )


def in_tasks(
    landscape: Landscape,
    function: Callable[..., Result],
    starts: ArrayLike | Descent,
    *,
    progress: bool | None,
    **settings: Any,
) -> list[Result]:
    """Return what a function of a landscape and starts gives for parts of the starts, each of them a task.

    Parameters
    ----------
    landscape
        On workers.
    function
        For example `descend`: what it gives for a start does not depend on the others.
    starts, progress
        As for `descend`.
    settings
        Its other arguments, the same for all parts: a generator is sent as it is, so that all parts draw the same.
    """
    whole = starts if isinstance(starts, Descent) else read_points(starts, landscape.dimension, "starts")
    count = len(whole.points) if isinstance(whole, Descent) else len(whole)

    def part(rows: slice) -> tuple[tuple[Any, ...], dict[str, Any]]:
        some = whole.rows(rows) if isinstance(whole, Descent) else whole[rows]
        return (some,), settings | {"progress": False}

    return in_parts(landscape, function, count, part, what="descents", progress=progress)


def descending(
    landscape: Landscape,
    starts: ArrayLike | Descent,
    *,
    every: int | Callable[[int], bool] | None,
    steps: int,
    learning_rate: float = 0.01,
    method: Method = "adam",
    momentum: float = 0.9,
    schedule: Schedule = "cosine",
    warm_up: int = 0,
    batch: int | None = None,
    seed: Seed | None = None,
    progress: bool | None = None,
) -> Iterator[Descent]:
    """Descend, and stop on the way, so that the state can be kept: descents that are interrupted can go on from it.

    Parameters
    ----------
    landscape, steps, learning_rate, method, momentum, schedule, warm_up, batch, seed, progress
        As for `descend`. The seed of descents that go on is in their state.
    starts
        Shape (m, dimension); or a state that was given before, with the same other arguments: then the descents reach
        the same points, bit by bit, as without the interruption.
    every
        Steps from one stop to the next; or a function that tells, of the number of steps taken, whether to stop there;
        None: stop at the end only.

    Yields
    ------
    Descent
        The state at the start, at every stop, and at the end.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2 - 1).square().sum(1), 1)
    >>> halfway = next(state for state in descending(landscape, [[3.0]], every=10, steps=20) if state.step == 10)
    >>> descend(landscape, halfway, steps=20).ends == descend(landscape, [[3.0]], steps=20).ends
    array([[ True]])
    """
    whole_number(steps, "steps", least=0)
    whole_number(warm_up, "warm_up", least=0)
    if every is not None and not callable(every):
        whole_number(every, "every")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate is {learning_rate}; it needs to be a number above 0.")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; it needs to be 0 or more and below 1.")
    if method not in ("adam", "sgd", "nesterov"):
        raise ValueError(f"method is {method!r}; it needs to be adam, sgd or nesterov.")
    if schedule not in _SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; it needs to be one of {', '.join(_SCHEDULES)}.")
    if warm_up and warm_up >= steps:
        raise ValueError(f"warm_up is {warm_up} of {steps} steps; it needs to be fewer than there are.")

    moments = 2 if method == "adam" else 1
    if isinstance(starts, Descent):
        batches = _mini_batches(landscape, batch, starts.seed)
        state = _fitting(starts, landscape, steps, moments)
    else:
        drawn = None if batch is None or seed is None else int(np.random.default_rng(seed).integers(2**63))
        batches = _mini_batches(landscape, batch, drawn) if steps else None
        state = _started(landscape, starts, batches, moments, drawn)

    def rate(step: int) -> float:
        if step <= warm_up:
            return learning_rate * step / warm_up
        return learning_rate * _SCHEDULES[schedule]((step - 1 - warm_up) / (steps - warm_up))

    def move(step: int, gradients: Floats, moments: Floats) -> Floats:
        if method == "adam":
            moments[0] = momentum * moments[0] + (1 - momentum) * gradients
            moments[1] = 0.999 * moments[1] + 0.001 * gradients**2
            spread = np.sqrt(moments[1] / (1 - 0.999**step)) + 1e-8
            return moments[0] / (1 - momentum**step) / spread
        moments[0] = momentum * moments[0] + gradients
        return gradients + momentum * moments[0] if method == "nesterov" else moments[0]

    def stops(step: int) -> bool:
        return every(step) if callable(every) else every is not None and step % every == 0

    return _steps(landscape, batches, state, steps, stops, rate, move, progress)


_Batches = Callable[[int], Landscape] | None


def _steps(
    landscape: Landscape,
    batches: _Batches,
    state: Descent,
    steps: int,
    stops: Callable[[int], bool],
    rate: Callable[[int], float],
    move: Callable[[int, Floats, Floats], Floats],
    progress: bool | None,
) -> Iterator[Descent]:
    points, values, gradients = state.points.copy(), state.values.copy(), state.gradients.copy()
    moments, stopped = state.moments.copy(), state.stopped.copy()
    yield state
    disable = None if progress is None else not progress
    bar = tqdm(total=steps, initial=state.step, desc="descending", unit="steps", delay=1, disable=disable)
    for step in range(state.step + 1, steps + 1):
        last = step == steps
        rows = np.flatnonzero(stopped < 0)
        part = moments[:, rows]
        ahead = points[rows] - rate(step) * move(step, gradients[rows], part)
        moments[:, rows] = part
        seen = landscape if last or batches is None else batches(step + 1)
        new_values, new_gradients = _gradients(seen, ahead)
        fine = np.isfinite(new_values) & np.isfinite(new_gradients).all(axis=1)
        kept = rows[fine]
        points[kept], gradients[kept] = ahead[fine], new_gradients[fine]
        stopped[rows[~fine]] = step
        if batches is None or last:
            values[kept] = new_values[fine]
        if last and batches is not None:
            ended = np.flatnonzero(stopped >= 0)
            values[ended], gradients[ended] = _gradients(landscape, points[ended])
        bar.update()
        if last or stops(step):
            if batches is not None and not last:
                values = landscape.values(points, progress=False)
            yield Descent(step, points, values, gradients, moments, stopped, state.seed)
    bar.close()
    # Of descents that go on, those that had ended were named when they did.
    if (stopped >= 0).any() and (state.step == 0 or (stopped > state.step).any()):
        named = ", ".join(f"{row} at step {stopped[row]}" for row in np.flatnonzero(stopped >= 0)[:5])
        _log.warning(
            "%d of %d descents met a loss or gradient that is not finite (descent %s%s) and end before it; try a "
            "smaller learning rate",
            (stopped >= 0).sum(),
            len(points),
            named,
            ", ..." if (stopped >= 0).sum() > 5 else "",
        )


def _gradients(landscape: Landscape, points: Floats) -> tuple[Floats, Floats]:
    """Return losses and gradients; NaN where a coordinate is not finite."""
    values, gradients = np.full(len(points), np.nan), np.full(points.shape, np.nan)
    fine = np.isfinite(points).all(axis=1)
    if fine.any():
        values[fine], gradients[fine] = landscape.gradients(points[fine], progress=False)
    return values, gradients


def _started(landscape: Landscape, starts: ArrayLike, batches: _Batches, moments: int, seed: int | None) -> Descent:
    """Return the state before the first step."""
    points = np.array(starts, dtype=np.float64)
    if points.ndim == 2 and len(points) == 0:
        raise ValueError("starts are empty; give at least one start.")
    values, gradients = landscape.gradients(points, progress=False)
    fine = np.isfinite(values) & np.isfinite(gradients).all(axis=1)
    if batches is not None:
        of_batch, gradients = batches(1).gradients(points, progress=False)
        fine &= np.isfinite(of_batch) & np.isfinite(gradients).all(axis=1)
    return Descent(0, points, values, gradients, np.zeros((moments, *points.shape)), np.where(fine, -1, 0), seed)


def _fitting(state: Descent, landscape: Landscape, steps: int, moments: int) -> Descent:
    """Return a state; raise when it is of other descents."""
    read_points(state.points, landscape.dimension, "points of the state")
    if len(state.moments) != moments:
        raise ValueError(
            f"the state has {len(state.moments)} running means, this method {moments}; go on with the method with "
            "which the descents began."
        )
    if state.step > steps:
        raise ValueError(f"the state has taken {state.step} steps already, more than {steps}; ask for more steps.")
    return state


def _mini_batches(landscape: Landscape, batch: int | None, seed: int | None) -> _Batches:
    """Return the landscape of the mini-batch of each step, counted from 1; None when all rows are one batch."""
    if batch is None:
        return None
    whole_number(batch, "batch")
    if landscape.rows is None:
        raise ValueError("this landscape is of a function, which has no rows of data; leave out batch.")
    if seed is None:
        raise ValueError(f"batch is {batch}, so rows are drawn at random; give a seed.")
    rows = landscape.rows
    count = math.ceil(rows / batch)
    epochs: dict[int, Integers] = {}

    def at(step: int) -> Landscape:
        epoch, place = divmod(step - 1, count)
        if epoch not in epochs:
            epochs.clear()
            # By the number of the epoch, so that descents can go on from any step.
            epochs[epoch] = np.random.default_rng([seed, epoch]).permutation(rows)
        return landscape.of_rows(epochs[epoch][place * batch : (place + 1) * batch])

    return at
