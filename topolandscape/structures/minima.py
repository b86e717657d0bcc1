"""Minima of a landscape, and how far each of them is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, read_only, settle

STATIONARY = ("minimum", "saddle", "flat", "kink", "far", "not converged", "diverged", "not examined")


@dataclass(frozen=True, eq=False)
class Minima:
    """Points at which descents ended, one a row, and what each of them is.

    Parameters
    ----------
    points
        Parameter vectors, shape (m, p).
    values
        Losses, shape (m,); NaN only where a start was at no finite loss.
    gradient_norm
        Lengths of the gradients, shape (m,).
    curvature
        Lowest eigenvalues of the Hessian in ascending order, shape (m, k), k at least 1; NaN where unknown.
    index
        Morse index: how many of these eigenvalues lie below minus the threshold of flatness, shape (m,); where it is
        k, there may be more. -1: unknown.
    stationary
        For each row one of these words; the first test that holds decides.

        ``"diverged"``
            The loss or the gradient stopped being finite on the way; the point is the last where both were.
        ``"far"``
            The gradient is longer than the tolerance, or Newton's step along one of the lowest curvatures longer than
            a thousandth of the point; and the loss falls steadily, by more than its noise, along a straight ray ten
            times as long as the point itself (or than 1). No minimum here: the infimum lies at infinity, or far.
        ``"kink"``
            The gradient is longer than the tolerance and does not shrink: going downhill, the slope changes by more
            than half within a distance in which the largest curvature would explain a tenth. Or the lowest eigenvalue
            is flat or not finite, and the loss rises in proportion to the distance. The gradient jumps, as it does
            where rectifiers switch; the eigenvalues leave that out.
        ``"not converged"``
            The gradient is longer than the tolerance: evaluations or the precision of the loss ran out.
        ``"saddle"``
            An eigenvalue lies below minus the threshold of flatness.
        ``"flat"``
            The lowest eigenvalue is within the threshold of zero: a valley, or a degenerate point.
        ``"minimum"``
            The lowest eigenvalue lies above the threshold.
        ``"not examined"``
            A descent ended here, and nothing else is known: minima met on the way between others.
    accuracy
        Share of rows of the data that are classified correctly, shape (m,); NaN where unknown. Not given: unknown.
    test_accuracy
        The same for data that were held out.
    found
        How many descents ended in this point, shape (m,). Not given: one each.
    provenance
        How they were found: settings, thresholds, seed.

    Examples
    --------
    >>> minima = Minima(
    ...     points=[[0.0], [1.7]],
    ...     values=[0.0, 0.3],
    ...     gradient_norm=[1e-9, 2e-3],
    ...     curvature=[[4.0], [5.0]],
    ...     index=[0, 0],
    ...     stationary=["minimum", "not converged"],
    ... )
    >>> minima
    Minima(2 points, losses 0 to 0.3: 1 minimum, 1 not converged)
    >>> minima.rows([0]).values
    array([0.])
    """

    points: Floats
    values: Floats
    gradient_norm: Floats
    curvature: Floats
    index: Integers
    stationary: tuple[str, ...]
    accuracy: Floats = field(default_factory=lambda: np.empty(0))
    test_accuracy: Floats = field(default_factory=lambda: np.empty(0))
    found: Integers = field(default_factory=lambda: np.empty(0, np.int64))
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays and check that they belong together."""
        points = frozen(self.points, np.float64, "points", 2)
        m = len(points)
        if m == 0:
            raise ValueError("no points were given; minima need at least one.")
        if not np.isfinite(points).all():
            row = int(np.argmin(np.isfinite(points).all(axis=1)))
            raise ValueError(f"points[{row}] is not finite; coordinates must be finite.")
        words = tuple(self.stationary)
        for row, word in enumerate(words):
            if word not in STATIONARY:
                raise ValueError(f"stationary[{row}] is {word!r}; it needs to be one of {', '.join(STATIONARY)}.")
        columns = {
            "values": frozen(self.values, np.float64, "values", 1),
            "gradient_norm": frozen(self.gradient_norm, np.float64, "gradient_norm", 1),
            "curvature": frozen(self.curvature, np.float64, "curvature", 2),
            "index": frozen(self.index, np.int64, "index", 1),
            "accuracy": frozen(_given(self.accuracy, np.full(m, np.nan)), np.float64, "accuracy", 1),
            "test_accuracy": frozen(_given(self.test_accuracy, np.full(m, np.nan)), np.float64, "test_accuracy", 1),
            "found": frozen(_given(self.found, np.ones(m, np.int64)), np.int64, "found", 1),
        }
        for name, column in columns.items():
            check_length(column, m, name, "points")
        if len(words) != m:
            raise ValueError(f"stationary has {len(words)} entries, but there are {m} points; they must agree.")
        if columns["curvature"].shape[1] == 0:
            raise ValueError("curvature has no column; it needs at least the lowest eigenvalue, or NaN.")
        settle(self, points=points, stationary=words, provenance=read_only(self.provenance), **columns)

    def rows(self, rows: Integers | Sequence[int] | slice) -> Minima:
        """Return some of the points, in the order of `rows`; the provenance stays."""
        chosen = np.arange(len(self))[rows]
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        taken = {name: part[chosen] for name, part in parts.items() if isinstance(part, np.ndarray)}
        return Minima(**(parts | taken | {"stationary": tuple(self.stationary[row] for row in chosen)}))

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)

    def __repr__(self) -> str:
        """Return one line: how many points, at which losses, what they are."""
        m = len(self)
        finite = self.values[np.isfinite(self.values)]
        losses = f"losses {finite.min():.6g} to {finite.max():.6g}" if len(finite) else "no finite loss"
        counts = ((self.stationary.count(word), word) for word in STATIONARY)
        said = ", ".join(f"{count} {word}" for count, word in counts if count)
        return f"Minima({m} point{'s' * (m != 1)}, {losses}: {said})"


def _given(array: Any, otherwise: Any) -> Any:
    """Return an array, or what stands for one that was not given."""
    return array if len(array) else otherwise
