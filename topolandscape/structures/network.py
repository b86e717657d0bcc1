"""Minima and the lowest passes found between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args

import numpy as np

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, read_only, settle
from topolandscape.structures.complexes import SimplicialComplex
from topolandscape.structures.graphs import components, escapes, spanning_tree
from topolandscape.structures.minima import Minima
from topolandscape.structures.morse import MorseComplex
from topolandscape.structures.results import Barcode

# Which minima end the bars of others: any that is lower, or the trained ones alone.
Lower = Literal["any", "trained"]
PASSES = ("verified saddle", "path maximum", "not converged")
# How far a point may lie from a path and be on it, as a share of the path's length.
_ON_PATH = 1e-6
# Numbers that the points of one evaluation may hold: 128 MiB.
_AT_ONCE = 2**24


class Evaluated(Protocol):
    """What a network needs to know of its landscape."""

    def values(self, points: Floats, /) -> Floats:
        """Return the losses at points."""


@dataclass(frozen=True, eq=False)
class MinimaNetwork:
    """Minima, and between some of them the lowest passes found, each with a path as its witness.

    Every barrier is the highest loss on a path that is known, so an upper bound of the lowest pass between its ends.
    Its bars are those of the trained minima: each dies where the lowest way known leads to a lower minimum, be that a
    trained one or one of those met on the way.

    Parameters
    ----------
    minima
        The vertices: first the trained minima, then others, mostly shallow, that were met on the way between them.
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
    trained
        How many of the first rows of `minima` are those from which the search began. Not given: all.
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
    trained: int = -1
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
        trained = m if self.trained == -1 else int(self.trained)
        if not 1 <= trained <= m:
            raise ValueError(f"trained is {trained} of {m} minima; at least one is, and not more than there are.")
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
            trained=trained,
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

    @property
    def morse_complex(self) -> MorseComplex:
        """The part of index 0 and 1 of the Morse complex: the minima, and those passes that are verified saddles.

        From each saddle one line leads to either end of its path. Cells are named as in `complex`; passes that are no
        verified saddles are left out, and the provenance has their rows (``"left_out"``).
        """
        minima, m = self.minima, len(self)
        saddles = np.flatnonzero([word == "verified saddle" for word in self.passes])
        ends = self.ends[saddles]
        # A pass enters with the later of its ends; that of equal losses is the one with the larger row.
        later = np.where(minima.values[ends[:, 0]] > minima.values[ends[:, 1]], ends[:, 0], ends[:, 1])
        index = np.repeat([0, 1], [m, len(saddles)])
        cell = np.concatenate([np.arange(m), saddles])
        value = np.concatenate([minima.values, self.barriers[saddles]])
        order = np.lexsort((cell, index, value))
        place = np.argsort(order)
        arcs = np.column_stack([np.repeat(place[m:], 2), place[ends].reshape(-1), np.ones(2 * len(saddles), np.int64)])
        return MorseComplex(
            index=index[order],
            value=value[order],
            vertex=np.concatenate([np.arange(m), later])[order],
            cell=cell[order],
            arcs=arcs,
            coefficient=np.tile([-1, 1], len(saddles)),
            points=np.concatenate([minima.points, self.tops[saddles]])[order],
            provenance={
                "network": dict(self.provenance),
                "left_out": np.setdiff1d(np.arange(len(self.ends)), saddles),
            },
        )

    def pass_between(self, a: int, b: int) -> int:
        """Return the row of the pass that joins two minima directly; raise where there is none."""
        rows = np.flatnonzero((np.sort(self.ends, axis=1) == sorted((a, b))).all(axis=1))
        if len(rows) == 0:
            raise ValueError(f"no path was found between the minima {a} and {b}; there are {len(self.ends)} passes.")
        return int(rows[0])

    def reduced(self, *, lower: Lower = "any") -> MinimaNetwork:
        """Return the network of the trained minima and those at which their bars end, joined along the lowest ways.

        Parameters
        ----------
        lower
            Which minima end bars: ``"any"`` that is lower, as a bar is defined; or ``"trained"``: the trained ones
            alone, so that bars say how high one must climb from one of them to the next.

        Returns
        -------
        MinimaNetwork
            A spanning tree, or a forest where no path is known between some minima. Its first rows are the trained
            minima; then come, if any lower one ends bars, of those met on the way the ones to which the lowest ways
            from a trained minimum to a lower one lead, and the lowest of all. Each of its passes stands for a way
            through the whole network: its barrier, word and top are those of the highest pass on the way, its path is
            the paths on the way, one after the other. Between any two of its minima the highest barrier on the way
            through the tree is the lowest that the whole network has. If any lower one ends bars, its barcode is that
            of the whole network.

        Notes
        -----
        The passes are taken up from the lowest on, equal ones by their ends (Kruskal 1956). One that joins two
        components with minima of the result in each gives a pass of it, between those that are fewest passes away
        from it, on either side, or the first of them.

        Examples
        --------
        >>> points, values = [[0.0], [2.0], [1.0]], [0.0, 0.5, 0.9]
        >>> minima = Minima(points, values, np.zeros(3), np.ones((3, 1)), [0] * 3, ["minimum"] * 3)
        >>> paths = [np.array([[0.0], [0.6], [1.0]]), np.array([[2.0], [1.4], [1.0]])]
        >>> words, tops = ["path maximum", "verified saddle"], [[0.6], [1.4]]
        >>> network = MinimaNetwork(minima, [[0, 2], [1, 2]], [1.0, 1.5], words, tops, paths, trained=2)
        >>> network.reduced()
        MinimaNetwork(2 minima, 1 pass: 1 verified saddle)
        >>> network.reduced().paths[0].ravel().tolist()
        [0.0, 0.6, 1.0, 1.4, 2.0]
        """
        if lower not in get_args(Lower):
            raise ValueError(f"lower is {lower!r}; it needs to be one of {', '.join(get_args(Lower))}.")
        kept = np.arange(len(self)) < self.trained
        if lower == "any":
            kept[self._ends_of_bars()] = True
        _, chosen = spanning_tree(self.ends, self.barriers, len(self), kept)
        rows, place = [row for row, _ in chosen], np.cumsum(kept) - 1
        return MinimaNetwork(
            self.minima.rows(np.flatnonzero(kept)),
            place[np.array([[way[0], way[-1]] for _, way in chosen], dtype=np.int64).reshape(-1, 2)],
            self.barriers[rows],
            tuple(self.passes[row] for row in rows),
            self.tops[rows],
            tuple(self._path_along(way) for _, way in chosen),
            trained=self.trained,
            provenance=self.provenance,
        )

    def _ends_of_bars(self) -> list[int]:
        """Return the first lower minima on the lowest ways from trained ones, and the lowest of all that is joined."""
        values = self.minima.values
        labels = components(self.ends[np.isfinite(self.barriers)], len(self))
        groups = (np.flatnonzero(labels == label) for label in np.unique(labels[: self.trained]))
        lowest = [int(rows[values[rows].argmin()]) for rows in groups]
        return lowest + [way[-1] for _, way in escapes(self.ends, self.barriers, values, self.trained)]

    def check(self, landscape: Evaluated, *, cuts: int = 20) -> Floats:
        """Evaluate every path again, and return by how much it differs from what the network says.

        Parameters
        ----------
        landscape
            On which the passes were found; or one of which is asked how high these paths are there.
        cuts
            Parts into which each segment of a path is cut. The top is evaluated as well, where it lies on its path.

        Returns
        -------
        float64 array
            For each pass the highest loss found on its path minus its barrier, (e,). Zero but for rounding, if the
            network is right; above zero the path is higher somewhere than was known, below zero it is lower
            everywhere. NaN losses count as infinite.

        Examples
        --------
        >>> class Parabola:
        ...     def values(self, points):
        ...         return 1 - points[:, 0] ** 2
        >>> minima = Minima([[-1.0], [1.0]], [0.0, 0.0], [0.0, 0.0], [[1.0], [1.0]], [0, 0], ["minimum", "minimum"])
        >>> path = np.array([[-1.0], [1.0]])
        >>> MinimaNetwork(minima, [[0, 1]], [0.75], ["path maximum"], [[0.5]], [path]).check(Parabola())
        array([0.25])
        """
        if cuts < 1:
            raise ValueError(f"cuts is {cuts}; a segment has at least one part.")
        shares = np.arange(cuts)[:, None] / cuts
        result = np.empty(len(self.ends))
        for row, path in enumerate(self.paths):
            length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
            on_path = _distance(path, self.tops[row]) <= _ON_PATH * length
            more = np.vstack([path[-1:], self.tops[[row] if on_path else []]])
            highest = -np.inf
            for part in np.array_split(np.arange(len(path) - 1), 1 + len(path) * cuts * path.shape[1] // _AT_ONCE):
                starts, steps = path[part, None], path[part + 1, None] - path[part, None]
                values = landscape.values(np.vstack([(starts + shares * steps).reshape(-1, path.shape[1]), more]))
                highest = max(highest, float(np.where(np.isnan(values), np.inf, values).max()))
            result[row] = highest - self.barriers[row]
        return result

    def table(self, barcode: Barcode, *, max_rows: int = 50) -> str:
        """Return the bars of this network as text, the longest first, with what is known of their minima and passes.

        Parameters
        ----------
        barcode
            Of this network.
        max_rows
            Most bars shown; a last line says how many were left out.

        Returns
        -------
        str
            One line a bar: the row of its minimum; birth, death and length; what the highest pass is; and of the
            minimum the accuracy on the data and on data held out, the Morse index, the norm of the gradient, its word.

        Examples
        --------
        >>> minima = Minima([[0.0], [2.0]], [0.0, 1.0], [0.0, 0.0], [[1.0], [1.0]], [0, 0], ["minimum", "flat"])
        >>> path = np.array([[0.0], [1.0], [2.0]])
        >>> network = MinimaNetwork(minima, [[0, 1]], [3.0], ["verified saddle"], [[1.0]], [path])
        >>> bars = {"dim": [0, 0], "birth": [0.0, 1.0], "death": [np.inf, 3.0], "size": [2, 1]}
        >>> rows = {"birth_simplex": [0, 1], "death_simplex": [-1, 0], "birth_vertex": [0, 1], "death_vertex": [-1, 1]}
        >>> print(network.table(Barcode(**bars, **rows)))
        minimum        birth        death       length  highest pass     accuracy    test  index  gradient  stationary
              0            0          inf          inf  -                       -       -      0         0  minimum
              1            1            3            2  verified saddle         -       -      0         0  flat
        """
        lines = [
            f"{'minimum':>7}  {'birth':>11}  {'death':>11}  {'length':>11}  {'highest pass':<15}  {'accuracy':>8}  "
            f"{'test':>6}  {'index':>5}  {'gradient':>8}  stationary"
        ]
        known = self.minima
        for bar in range(min(len(barcode), max_rows)):
            row, edge = int(barcode.birth_vertex[bar]), int(barcode.death_simplex[bar])
            shares = (
                "-" if np.isnan(part[row]) else f"{100 * part[row]:.1f}%"
                for part in (known.accuracy, known.test_accuracy)
            )
            lines.append(
                f"{row:>7}  {barcode.birth[bar]:>11.6g}  {barcode.death[bar]:>11.6g}  "
                f"{barcode.persistence[bar]:>11.6g}  {'-' if edge < 0 else self.passes[edge]:<15}  "
                f"{next(shares):>8}  {next(shares):>6}  {'-' if known.index[row] < 0 else known.index[row]:>5}  "
                f"{known.gradient_norm[row]:>8.2g}  {known.stationary[row]}"
            )
        if len(barcode) > max_rows:
            longest = barcode.persistence[max_rows:].max()
            lines.append(f"... and {len(barcode) - max_rows} more bars, none longer than {longest:.6g}")
        return "\n".join(lines)

    def _path_along(self, way: list[int]) -> Floats:
        """Return the paths from one minimum of a way to the next as one."""
        parts = [self.minima.points[way[:1]]]
        for a, b in pairwise(way):
            path = self.paths[self.pass_between(a, b)]
            parts.append(path[1:] if a < b else path[-2::-1])
        return np.concatenate(parts)

    def __len__(self) -> int:
        """Return the number of minima."""
        return len(self.minima)

    def __repr__(self) -> str:
        """Return one line: minima, and what the passes are."""
        counts = ", ".join(f"{self.passes.count(word)} {word}" for word in PASSES if word in self.passes)
        e, trained = len(self.ends), f", {self.trained} of them trained" if self.trained < len(self) else ""
        said = f"{e} pass{'es' * (e != 1)}{': ' if counts else ''}{counts}"
        return f"MinimaNetwork({len(self)} minim{'a' if len(self) != 1 else 'um'}{trained}, {said})"


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


def _distance(path: Floats, point: Floats) -> float:
    """Return the distance of a point from a path."""
    steps = np.diff(path, axis=0)
    squares = np.maximum((steps**2).sum(1), np.finfo(float).tiny)
    shares = np.clip(((point - path[:-1]) * steps).sum(1) / squares, 0.0, 1.0)
    return float(np.linalg.norm(path[:-1] + shares[:, None] * steps - point, axis=1).min())
