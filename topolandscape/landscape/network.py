"""From minima to a network: which pairs are worth joining, and which of the passes are saddles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.passes import Paths, lower_paths, straight_paths
from topolandscape.landscape.saddles import saddles
from topolandscape.structures import Floats, Minima, MinimaNetwork


def minima_network(
    landscape: Landscape,
    minima: Minima,
    *,
    pairs: Literal["tree", "all"] | ArrayLike = "tree",
    start: Callable[[Floats, Floats], Floats] = straight_paths,
    points: tuple[int, ...] = (9, 17, 33),
    steps: int = 400,
    tolerance: float = 0.01,
    explore: int = 1,
    saddle: bool = True,
    gradient_tolerance: float = 1e-5,
    rounds: int = 4,
    seconds: float | None = None,
    progress: bool | None = None,
) -> MinimaNetwork:
    """Join minima by paths over the lowest passes that can be found.

    Parameters
    ----------
    landscape
        Any.
    minima
        Two or more, as from `minima`.
    pairs
        ``"all"``; ``"tree"``: first every minimum with the lowest one, then in each round of `explore` new pairs
        across the heaviest edges of the spanning tree, since no other pair can change a bar; or pairs of rows (e, 2).
    start
        Gives paths (b, k, p) from ends (b, p) and (b, p): `straight_paths`, or for example
        ``functools.partial(bent_paths, by=0.3, seed=0)``.
    points, steps, tolerance
        As for `lower_paths`.
    explore
        Rounds of new pairs.
    saddle
        Whether the highest points of the paths of the spanning tree are refined to saddles of index one, by `saddles`.
        The path then leads through the saddle; where its halves rise above it, their highest point is refined next.
    gradient_tolerance
        Gradient norm below which a saddle counts as stationary.
    rounds
        Most refinements of each path.
    seconds
        Time after which nothing new is begun; what was found until then counts.
    progress
        None: bars after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    MinimaNetwork
        One pass for each pair that was tried.

    Raises
    ------
    ValueError
        There are fewer than two minima, or a pair does not exist.

    Notes
    -----
    The lowest barriers between all pairs are those along the minimum spanning tree (elder rule), so only a pair
    across the cut that a heavy edge of the tree closes is worth trying (Draxler, Veschgini, Salmhofer and Hamprecht
    2018, algorithm 3).

    Examples
    --------
    >>> from topolandscape.landscape.minima import minima
    >>> landscape = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + 0.2 * x[:, 0] + x[:, 1] ** 2, 2)
    >>> both = minima(landscape, [[-1.0, 0.0], [1.0, 0.0]], seed=0, progress=False)
    >>> network = minima_network(landscape, both, progress=False)
    >>> network.passes, network.barriers.round(4).tolist()
    (('verified saddle',), [1.005])
    """
    m = len(minima)
    if m < 2:
        raise ValueError(f"there is {m} minimum; a network needs at least two. Start more descents, or other ones.")
    if minima.points.shape[1] != landscape.dimension:
        raise ValueError(
            f"the minima have {minima.points.shape[1]} coordinates, the landscape {landscape.dimension}; give the "
            "landscape on which they were found."
        )
    end = None if seconds is None else time.monotonic() + seconds
    known: dict[tuple[int, int], _Pass] = {}

    def try_pairs(chosen: list[tuple[int, int]]) -> None:
        rows = np.array(chosen)
        paths = start(minima.points[rows[:, 0]], minima.points[rows[:, 1]])
        found = lower_paths(landscape, paths, points=points, steps=steps, tolerance=tolerance, progress=progress)
        for row, pair in enumerate(chosen):
            known[pair] = _Pass.of(found, row)

    tree = isinstance(pairs, str) and pairs == "tree"
    try_pairs(_pairs(pairs, minima))
    for _ in range(explore if tree else 0):
        if _is_over(end):
            break
        new = list(_across_the_cuts(known, minima))
        if not new:
            break
        try_pairs(new)
    if saddle:
        tried: set[tuple[tuple[int, int], float]] = set()
        for _ in range(rounds):
            rows = [
                pair
                for pair in _spanning_tree(known, minima)
                if known[pair].passes != "verified saddle" and (pair, known[pair].barrier) not in tried
            ]
            if not rows or _is_over(end):
                break
            tried |= {(pair, known[pair].barrier) for pair in rows}
            refined = _through_saddles(
                landscape, [known[pair] for pair in rows], points[-1], steps, tolerance, gradient_tolerance, progress
            )
            known.update(zip(rows, refined, strict=True))
    order = sorted(known)
    finite = [pair for pair in order if np.isfinite(known[pair].barrier)]
    return MinimaNetwork(
        minima,
        np.array(finite, dtype=np.int64).reshape(-1, 2),
        np.array([max(known[pair].barrier, *minima.values[list(pair)]) for pair in finite]),
        tuple(known[pair].passes for pair in finite),
        np.array([known[pair].top for pair in finite]),
        tuple(known[pair].points for pair in finite),
        provenance={
            "pairs": pairs if isinstance(pairs, str) else np.asarray(pairs),
            "start": getattr(start, "__name__", repr(start)),
            "points": points,
            "steps": steps,
            "tolerance": tolerance,
            "gradient_tolerance": gradient_tolerance,
            "rounds": rounds,
            "landscape": dict(landscape.description),
        },
    )


class _Pass:
    """The best path known between two minima."""

    def __init__(self, points: Floats, barrier: float, top: Floats, passes: str, base: float) -> None:
        self.points, self.barrier, self.top, self.passes, self.base = points, barrier, top, passes, base

    @classmethod
    def of(cls, paths: Paths, row: int) -> _Pass:
        passes = "path maximum" if paths.converged[row] else "not converged"
        base = float(max(paths.values[row, 0], paths.values[row, -1]))
        return cls(paths.points[row], float(paths.highest[row]), paths.tops[row], passes, base)


def _rounding(one: _Pass) -> float:
    """Return what float32 losses of this size may be off by."""
    return 1e-7 * max(abs(one.barrier), abs(one.base))


def _pairs(pairs: str | ArrayLike, minima: Minima) -> list[tuple[int, int]]:
    m = len(minima)
    if isinstance(pairs, str):
        if pairs == "all":
            return [(a, b) for a in range(m) for b in range(a + 1, m)]
        if pairs == "tree":
            lowest = int(np.nanargmin(minima.values))
            return [(min(lowest, row), max(lowest, row)) for row in range(m) if row != lowest]
        raise ValueError(f"pairs is {pairs!r}; it needs to be tree, all, or pairs of rows.")
    rows = np.asarray(pairs)
    if rows.ndim != 2 or rows.shape[1] != 2 or not np.issubdtype(rows.dtype, np.integer) or len(rows) == 0:
        raise ValueError(f"pairs are {rows.dtype} of shape {rows.shape}; they need to be rows of minima, (e, 2).")
    if rows.min() < 0 or rows.max() >= m or (rows[:, 0] == rows[:, 1]).any():
        raise ValueError(f"pairs must name two different ones of the {m} minima, counted from 0.")
    return sorted({(int(min(pair)), int(max(pair))) for pair in rows})


def _is_over(end: float | None) -> bool:
    return end is not None and time.monotonic() > end


def _spanning_tree(known: dict[tuple[int, int], _Pass], minima: Minima) -> list[tuple[int, int]]:
    """Return the pairs of the minimum spanning tree of the barriers, the lowest first (Kruskal 1956)."""
    component = np.arange(len(minima))
    tree = []
    for pair in sorted(known, key=lambda pair: (known[pair].barrier, pair)):
        a, b = component[list(pair)]
        if a != b:
            component[component == b] = a
            tree.append(pair)
    return tree


def _across_the_cuts(known: dict[tuple[int, int], _Pass], minima: Minima) -> Iterator[tuple[int, int]]:
    """Yield, for each edge of the spanning tree, the nearest pair across its cut that was not tried."""
    tree = _spanning_tree(known, minima)
    chosen: set[tuple[int, int]] = set()
    for edge in reversed(tree):
        component = _component(edge[0], [pair for pair in tree if pair != edge], len(minima))
        inside, outside = np.flatnonzero(component), np.flatnonzero(~component)
        distances = np.linalg.norm(minima.points[inside, None] - minima.points[None, outside], axis=2)
        for place in np.argsort(distances, axis=None):
            a, b = inside[place // len(outside)], outside[place % len(outside)]
            pair = (int(min(a, b)), int(max(a, b)))
            if pair not in known and pair not in chosen:
                chosen.add(pair)
                yield pair
                break


def _component(root: int, edges: list[tuple[int, int]], m: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    inside = np.zeros(m, dtype=bool)
    inside[root] = True
    for _ in range(len(edges)):
        for a, b in edges:
            inside[[a, b]] = inside[a] | inside[b]
    return inside


def _through_saddles(
    landscape: Landscape,
    passes: list[_Pass],
    k: int,
    steps: int,
    tolerance: float,
    gradient_tolerance: float,
    progress: bool | None,
) -> list[_Pass]:
    """Refine the highest points of some paths to saddles, and lead the paths through them."""
    tops = np.array([one.top for one in passes])
    before, after = zip(*(_neighbours(one.points, one.top) for one in passes), strict=True)
    along = np.array([one.points[b] - one.points[a] for one, a, b in zip(passes, before, after, strict=True)])
    found = saddles(landscape, tops, along, tolerance=gradient_tolerance, radius=0.5 * np.linalg.norm(along, axis=1))
    # Whatever was reached, a path through it shows what it is worth; a saddle far above its path is another one.
    reached = [
        row
        for row, one in enumerate(passes)
        if found.verified[row] and found.values[row] <= one.barrier + 1e-2 * (one.barrier - one.base) + _rounding(one)
    ]
    result = list(passes)
    if not reached:
        return result
    halves: list[Floats] = []
    for row in reached:
        one = passes[row]
        halves.append(np.concatenate([one.points[: before[row] + 1], found.points[row][None]]))
        halves.append(np.concatenate([found.points[row][None], one.points[after[row] :]]))
    longest = max(max(len(half) for half in halves), 3)
    started = np.stack([_resampled(half, longest) for half in halves])
    lowered = lower_paths(landscape, started, points=(k,), steps=steps, tolerance=tolerance, progress=progress)
    for place, row in enumerate(reached):
        one = passes[row]
        highest = lowered.highest[2 * place : 2 * place + 2]
        value = float(found.values[row])
        path = np.concatenate([lowered.points[2 * place], lowered.points[2 * place + 1][1:]])
        base = one.base
        # The halves end in the saddle, so that their highest loss is at least its own.
        if highest.max() <= value + 1e-3 * max(value - base, 0.0) + _rounding(one):
            result[row] = _Pass(path, float(max(value, highest.max())), found.points[row], "verified saddle", one.base)
        elif highest.max() < one.barrier:
            top = lowered.tops[2 * place + int(highest.argmax())]
            result[row] = _Pass(path, float(highest.max()), top, "path maximum", one.base)
    return result


def _neighbours(points: Floats, top: Floats) -> tuple[int, int]:
    """Return the points of a path before and after its highest point."""
    steps = np.diff(points, axis=0)
    squares = np.maximum((steps**2).sum(1), 1e-300)
    shares = np.clip(((top - points[:-1]) * steps).sum(1) / squares, 0.0, 1.0)
    nearest = int(np.linalg.norm(points[:-1] + shares[:, None] * steps - top, axis=1).argmin())
    before = nearest if shares[nearest] > 1e-9 else max(nearest - 1, 0)
    after = nearest + 1 if shares[nearest] < 1 - 1e-9 else min(nearest + 2, len(points) - 1)
    return before, after


def _resampled(points: Floats, k: int) -> Floats:
    place = np.linspace(0, len(points) - 1, k)
    low = np.minimum(place.astype(np.int64), len(points) - 2)
    share = (place - low)[:, None]
    return np.asarray(points[low] * (1 - share) + points[low + 1] * share)
