"""Minima and the lowest passes found between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, read_only, settle
from topolandscape.structures.complexes import SimplicialComplex
from topolandscape.structures.minima import Minima

PASSES = ("verified saddle", "path maximum", "not converged")


@dataclass(frozen=True, eq=False)
class MinimaNetwork:
    """Minima, and between some of them the lowest passes found, each with a path as its witness.

    Every barrier is the highest loss on a path that is known, so an upper bound of the lowest pass between its ends.

    Parameters
    ----------
    minima
        The vertices.
    ends
        Pairs of rows of `minima` that a path joins, shape (e, 2); kept in ascending order, with the paths turned
        accordingly.
    barriers
        Highest loss on each path, at least that of its ends, shape (e,).
    passes
        What the highest point of each path is, one of these words:

        ``"verified saddle"``
            A stationary point with exactly one negative curvature.
        ``"path maximum"``
            The highest loss had stopped falling as the path was bent; no saddle was reached from there.
        ``"not converged"``
            It was still falling.
    tops
        The highest points, shape (e, p).
    paths
        For each pair the points of its path, joined by straight segments, shape (k, p), first and last the two minima.
    provenance
        How it was made: settings, seed.

    Examples
    --------
    >>> minima = Minima([[0.0], [2.0]], [0.0, 1.0], [0.0, 0.0], [[1.0], [1.0]], [0, 0], ["minimum", "minimum"])
    >>> path = np.array([[0.0], [1.0], [2.0]])
    >>> network = MinimaNetwork(minima, [[0, 1]], [3.0], ["verified saddle"], [[1.0]], [path])
    >>> network
    MinimaNetwork(2 minima, 1 pass: 1 verified saddle)
    """

    minima: Minima
    ends: Integers
    barriers: Floats
    passes: tuple[str, ...]
    tops: Floats
    paths: tuple[Floats, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays; check that paths join the minima that they are said to join."""
        m, p = self.minima.points.shape
        given = np.asarray(self.ends)
        ends = frozen(given if given.size else np.empty((0, 2), np.int64), np.int64, "ends", 2)
        e = len(ends)
        barriers = frozen(self.barriers, np.float64, "barriers", 1)
        tops = frozen(self.tops if e else np.empty((0, p)), np.float64, "tops", 2)
        passes, paths = tuple(self.passes), tuple(self.paths)
        check_length(barriers, e, "barriers", "pairs")
        check_length(tops, e, "tops", "pairs")
        if len(passes) != e or len(paths) != e:
            raise ValueError(f"there are {len(passes)} passes and {len(paths)} paths for {e} pairs; they must agree.")
        if e and (ends.shape[1] != 2 or ends.min() < 0 or ends.max() >= m or (ends[:, 0] == ends[:, 1]).any()):
            raise ValueError(f"ends must be pairs of different rows of the {m} minima.")
        order = np.lexsort(np.sort(ends, axis=1).T[::-1])
        paths = tuple(
            frozen(np.asarray(paths[row])[:: 1 if ends[row, 0] < ends[row, 1] else -1], np.float64, f"paths[{row}]", 2)
            for row in order
        )
        passes = tuple(passes[row] for row in order)
        ends, barriers, tops = (
            frozen(array, array.dtype.type, name)
            for array, name in (
                (np.sort(ends, axis=1)[order], "ends"),
                (barriers[order], "barriers"),
                (tops[order], "tops"),
            )
        )
        if (np.diff(ends, axis=0) == 0).all(axis=1).any():
            raise ValueError("a pair of minima occurs twice in ends; keep the lower of its passes.")
        for row, (a, b) in enumerate(ends.tolist()):
            if passes[row] not in PASSES:
                raise ValueError(f"passes[{row}] is {passes[row]!r}; it needs to be one of {', '.join(PASSES)}.")
            if not np.array_equal(paths[row][[0, -1]], self.minima.points[[a, b]]):
                raise ValueError(f"the path between the minima {a} and {b} does not lead from one to the other.")
            highest = self.minima.values[[a, b]].max()
            if not barriers[row] >= highest:
                raise ValueError(
                    f"the barrier between the minima {a} and {b} is {barriers[row]:g}, below the higher of them at "
                    f"{highest:g}."
                )
        settle(
            self,
            ends=ends,
            barriers=barriers,
            passes=passes,
            tops=tops,
            paths=paths,
            provenance=read_only(self.provenance),
        )

    @property
    def complex(self) -> SimplicialComplex:
        """The filtered graph: each minimum enters with its loss, each pass, an edge, with its barrier."""
        return SimplicialComplex(
            simplices=(np.arange(len(self))[:, None], self.ends),
            values=(self.minima.values, self.barriers),
            provenance={"network": dict(self.provenance)},
        )

    def pass_between(self, a: int, b: int) -> int:
        """Return the row of the pass that joins two minima directly; raise where there is none."""
        rows = np.flatnonzero((np.sort(self.ends, axis=1) == sorted((a, b))).all(axis=1))
        if len(rows) == 0:
            raise ValueError(f"no path was found between the minima {a} and {b}; there are {len(self.ends)} passes.")
        return int(rows[0])

    def __len__(self) -> int:
        """Return the number of minima."""
        return len(self.minima)

    def __repr__(self) -> str:
        """Return one line: minima, and what the passes are."""
        counts = ", ".join(f"{self.passes.count(word)} {word}" for word in PASSES if word in self.passes)
        e = len(self.ends)
        return f"MinimaNetwork({len(self)} minima, {e} pass{'es' * (e != 1)}{': ' if counts else ''}{counts})"


@dataclass(frozen=True, eq=False)
class PathProfile:
    """The loss along the path between two minima.

    Parameters
    ----------
    ends
        Rows of the minima from which and to which it leads.
    distances
        Length of the path up to each of q places, not decreasing from 0, shape (q,).
    losses
        Losses there, finite, shape (q,).
    top
        Distance of the highest point, best one of `distances`.
    word
        What the highest point is: ``"verified saddle"``, ``"path maximum"`` or ``"not converged"``, as in
        `MinimaNetwork.passes`.

    Examples
    --------
    >>> profile = PathProfile((0, 3), [0.0, 0.5, 2.0], [0.1, 0.7, 0.2], 0.5, "path maximum")
    >>> profile
    PathProfile(minima 0 and 3, length 2, up to 0.7: path maximum)
    """

    ends: tuple[int, int]
    distances: Floats
    losses: Floats
    top: float
    word: str

    def __post_init__(self) -> None:
        """Freeze the arrays and check that the highest point is on the path."""
        ends = tuple(int(row) for row in self.ends)
        if len(ends) != 2 or min(ends) < 0 or ends[0] == ends[1]:
            raise ValueError(f"ends are {ends}; they need to be two different rows of minima, counted from 0.")
        distances = frozen(self.distances, np.float64, "distances", 1)
        losses = frozen(self.losses, np.float64, "losses", 1)
        check_length(losses, len(distances), "losses", "distances")
        if len(distances) < 2 or distances[0] != 0 or not (np.diff(distances) >= 0).all() or not distances[-1] > 0:
            raise ValueError("distances need to begin with 0, never to decrease, and to end above 0.")
        if not np.isfinite([distances, losses]).all():
            raise ValueError("distances or losses are not finite; a path is worth drawing where its losses are known.")
        if not 0 <= self.top <= distances[-1]:
            raise ValueError(f"top is at {self.top:g}, but the path is {distances[-1]:g} long; it needs to be on it.")
        if self.word not in PASSES:
            raise ValueError(f"word is {self.word!r}; it needs to be one of {', '.join(PASSES)}.")
        settle(self, ends=ends, distances=distances, losses=losses, top=float(self.top))

    @property
    def length(self) -> float:
        """Length of the path."""
        return float(self.distances[-1])

    @property
    def highest(self) -> float:
        """Loss at the highest point."""
        return float(np.interp(self.top, self.distances, self.losses))

    def __repr__(self) -> str:
        """Return one line: the minima, the length, the highest loss and what it is."""
        a, b = self.ends
        return f"PathProfile(minima {a} and {b}, length {self.length:g}, up to {self.highest:g}: {self.word})"
