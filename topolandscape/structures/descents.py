"""Descents on their way, and where they went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from topolandscape.structures.arrays import Floats, Integers, frozen, settle


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
