"""Many descents at once: from random starts down to where the gradient vanishes."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from tqdm import tqdm

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.machine import randomness_kept
from topolandscape.structures import Floats, Integers

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Descents, recorded on their way; read-only arrays.

    Parameters
    ----------
    points
        Points recorded, the start first and the end last, shape (m, k, dimension).
    values
        Their losses, shape (m, k).
    steps
        Steps taken when each was recorded, shape (k,).
    gradient_norm
        Length of the gradient at the ends, shape (m,).
    """

    points: Floats
    values: Floats
    steps: Integers
    gradient_norm: Floats

    def __post_init__(self) -> None:
        """Freeze the arrays and check that their shapes agree."""
        for name, dtype in (("points", float), ("values", float), ("steps", np.int64), ("gradient_norm", float)):
            array = np.array(getattr(self, name), dtype=dtype)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        shapes = (self.points.shape[:2], self.values.shape, self.gradient_norm.shape + self.steps.shape)
        if self.points.ndim != 3 or len(set(shapes)) != 1:
            raise ValueError(
                f"points {self.points.shape}, values {self.values.shape}, steps {self.steps.shape} and gradient_norm "
                f"{self.gradient_norm.shape} do not belong together; they need shapes (m, k, p), (m, k), (k,), (m,)."
            )

    @property
    def ends(self) -> Floats:
        """The last points, shape (m, dimension)."""
        return self.points[:, -1]

    @property
    def end_values(self) -> Floats:
        """Losses at the last points, shape (m,)."""
        return self.values[:, -1]

    def __len__(self) -> int:
        """Return the number of descents."""
        return len(self.points)

    def __repr__(self) -> str:
        """Return one line: how many descents, how long, to which losses."""
        m, k, _ = self.points.shape
        low, high = self.end_values.min(), self.end_values.max()
        return (
            f"Trajectories({m} descent{'s' * (m != 1)} of {self.steps[-1]} steps, {k} points recorded, "
            f"losses at the ends {low:.6g} to {high:.6g})"
        )


def initial_points(landscape: Landscape, n: int, *, seed: int | np.random.Generator) -> Floats:
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
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"n is {n!r}; it needs to be a whole number, 1 or more.")
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
    starts: ArrayLike,
    *,
    steps: int,
    learning_rate: float = 0.01,
    method: Literal["adam", "sgd"] = "adam",
    momentum: float = 0.9,
    schedule: Literal["cosine", "constant"] = "cosine",
    record_every: int | None = None,
    progress: bool | None = None,
) -> Trajectories:
    """Descend from many starts at once, by gradients of the whole loss.

    Parameters
    ----------
    landscape
        Any.
    starts
        Shape (m, dimension).
    steps
        Number of steps.
    learning_rate
        Of the first step.
    method
        ``"adam"`` (Kingma and Ba 2015) or ``"sgd"``: gradient descent with Polyak's momentum, both as in torch.
    momentum
        Of the gradient; the first of Adam's two numbers, of which the second is 0.999.
    schedule
        ``"cosine"``: the learning rate falls to zero along half a cosine (Loshchilov and Hutter 2017);
        ``"constant"``.
    record_every
        Record a point every so many steps, besides the start and the end; None: these two only.
    progress
        None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    Trajectories
        The end is the final point, not the lowest one seen. A descent that meets a loss or a gradient that is not
        finite ends at its last point where both were, and a warning is logged; the others go on.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2 - 1).square().sum(1), 1)
    >>> descents = descend(landscape, [[-0.3], [2.0]], steps=200, learning_rate=0.1)
    >>> np.round(descents.ends, 3).tolist()
    [[-1.0], [1.0]]
    """
    if not isinstance(steps, (int, np.integer)) or steps < 0:
        raise ValueError(f"steps is {steps!r}; it needs to be a whole number, 0 or more.")
    if record_every is not None and record_every < 1:
        raise ValueError(f"record_every is {record_every}; it needs to be 1 or more.")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate is {learning_rate}; it needs to be a number above 0.")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; it needs to be 0 or more and below 1.")
    if method not in ("adam", "sgd"):
        raise ValueError(f"method is {method!r}; it needs to be adam or sgd.")
    if schedule not in ("cosine", "constant"):
        raise ValueError(f"schedule is {schedule!r}; it needs to be cosine or constant.")

    points = np.array(starts, dtype=np.float64)
    if points.ndim == 2 and len(points) == 0:
        raise ValueError("starts are empty; give at least one start.")
    values, gradients = landscape.gradients(points, progress=False)
    going = np.isfinite(values) & np.isfinite(gradients).all(axis=1)
    stopped = {int(row): 0 for row in np.flatnonzero(~going)}
    first, second = np.zeros_like(points), np.zeros_like(points)
    recorded = [(0, points.copy(), values.copy())]
    disable = None if progress is None else not progress
    for step in tqdm(range(1, steps + 1), desc="descending", unit="steps", delay=1, disable=disable):
        rows = np.flatnonzero(going)
        if len(rows):
            rate = learning_rate
            if schedule == "cosine":
                rate *= 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
            slope = gradients[rows]
            if method == "adam":
                first[rows] = momentum * first[rows] + (1 - momentum) * slope
                second[rows] = 0.999 * second[rows] + 0.001 * slope**2
                spread = np.sqrt(second[rows] / (1 - 0.999**step)) + 1e-8
                move = first[rows] / (1 - momentum**step) / spread
            else:
                first[rows] = momentum * first[rows] + slope
                move = first[rows]
            ahead = points[rows] - rate * move
            fine = np.isfinite(ahead).all(axis=1)
            new_values, new_gradients = np.full(len(rows), np.nan), np.zeros_like(ahead)
            new_values[fine], new_gradients[fine] = landscape.gradients(ahead[fine], progress=False)
            fine &= np.isfinite(new_values) & np.isfinite(new_gradients).all(axis=1)
            kept = rows[fine]
            points[kept], values[kept], gradients[kept] = ahead[fine], new_values[fine], new_gradients[fine]
            going[rows[~fine]] = False
            stopped |= {int(row): step for row in rows[~fine]}
        if step == steps or (record_every is not None and step % record_every == 0):
            recorded.append((step, points.copy(), values.copy()))
    if stopped:
        named = ", ".join(f"{row} at step {step}" for row, step in sorted(stopped.items())[:5])
        _log.warning(
            "%d of %d descents met a loss or gradient that is not finite (descent %s%s) and end before it; try a "
            "smaller learning rate",
            len(stopped),
            len(points),
            named,
            ", ..." if len(stopped) > 5 else "",
        )
    return Trajectories(
        points=np.stack([at for _, at, _ in recorded], axis=1),
        values=np.stack([losses for _, _, losses in recorded], axis=1),
        steps=np.array([step for step, _, _ in recorded]),
        gradient_norm=np.linalg.norm(gradients, axis=1),
    )
