"""Descents on their way, and where they went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, settle


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
        settle(
            self,
            points=frozen(self.points, np.float64, "points"),
            values=frozen(self.values, np.float64, "values"),
            steps=frozen(self.steps, np.int64, "steps"),
            gradient_norm=frozen(self.gradient_norm, np.float64, "gradient_norm"),
        )
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


@dataclass(frozen=True, eq=False)
class Descent:
    """Descents between two steps: all that is needed to go on with them to the same bits.

    Plain numbers and arrays, so that it can be written to a file and read back.

    Parameters
    ----------
    step
        Steps taken.
    points
        Where the descents are, shape (m, p).
    values
        Losses there, of the whole data, shape (m,).
    gradients
        Gradients with which the next step goes, shape (m, p): of the next mini-batch, or of the whole data when there
        are none, and at the end.
    moments
        Running means of the method, shape (1, m, p), of gradients; for Adam (2, m, p), also of their squares.
    stopped
        For each descent the step at which loss or gradient would not have been finite, or -1, shape (m,).
    seed
        Of the mini-batches; None without them.
    """

    step: int
    points: Floats
    values: Floats
    gradients: Floats
    moments: Floats
    stopped: Integers
    seed: int | None = None

    def __post_init__(self) -> None:
        """Freeze the arrays and check that their shapes agree."""
        points = frozen(self.points, np.float64, "points", 2)
        values = frozen(self.values, np.float64, "values", 1)
        gradients = frozen(self.gradients, np.float64, "gradients", 2)
        moments = frozen(self.moments, np.float64, "moments", 3)
        stopped = frozen(self.stopped, np.int64, "stopped", 1)
        if not (
            points.shape == gradients.shape == moments.shape[1:] and values.shape == stopped.shape == points.shape[:1]
        ):
            raise ValueError(
                f"points {points.shape}, values {values.shape}, gradients {gradients.shape}, moments {moments.shape} "
                f"and stopped {stopped.shape} do not belong together; they need shapes (m, p), (m,), (m, p), (1 or 2, "
                "m, p), (m,)."
            )
        settle(
            self,
            step=int(self.step),
            points=points,
            values=values,
            gradients=gradients,
            moments=moments,
            stopped=stopped,
            seed=None if self.seed is None else int(self.seed),
        )

    def rows(self, rows: slice) -> Descent:
        """Return some of the descents."""
        points, values, gradients = self.points[rows], self.values[rows], self.gradients[rows]
        return Descent(self.step, points, values, gradients, self.moments[:, rows], self.stopped[rows], self.seed)


@dataclass(frozen=True, eq=False)
class Polishing:
    """Points on their way to where the gradient vanishes: all that is needed to go on with them to the same bits.

    Parameters
    ----------
    points
        Where they are, shape (m, p).
    values, noise
        Losses there, and by how much these differ by rounding, shape (m,).
    gradients
        Shape (m, p).
    evaluations
        Gradients that each point took, shape (m,).
    ended
        For each point why it ended, empty where it goes on.
    method
        ``"quasi-newton"`` or ``"newton"``.
    memory
        Arrays of that method, one entry for each point along the first or the last axis.
    """

    points: Floats
    values: Floats
    noise: Floats
    gradients: Floats
    evaluations: Integers
    ended: tuple[str, ...]
    method: str
    memory: tuple[NDArray[Any], ...]

    def __post_init__(self) -> None:
        """Freeze the arrays and check that their shapes agree."""
        points = frozen(self.points, np.float64, "points", 2)
        gradients = frozen(self.gradients, np.float64, "gradients", 2)
        columns = {name: frozen(getattr(self, name), np.float64, name, 1) for name in ("values", "noise")}
        evaluations = frozen(self.evaluations, np.int64, "evaluations", 1)
        for name, column in (columns | {"evaluations": evaluations}).items():
            check_length(column, len(points), name, "points")
        if gradients.shape != points.shape or len(self.ended) != len(points):
            raise ValueError(
                f"points {points.shape}, gradients {gradients.shape} and ended ({len(self.ended)},) do not belong "
                "together; they need shapes (m, p), (m, p), (m,)."
            )
        if self.method not in ("quasi-newton", "newton"):
            raise ValueError(f"method is {self.method!r}; it needs to be quasi-newton or newton.")
        memory = tuple(frozen(array, array.dtype.type, "memory") for array in map(np.asarray, self.memory))
        settle(
            self,
            points=points,
            gradients=gradients,
            evaluations=evaluations,
            ended=tuple(self.ended),
            memory=memory,
            **columns,
        )
