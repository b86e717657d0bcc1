"""From minima to a network: the rounds of the search, as many as are allowed."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.cuts import Pair
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import with_accuracies
from topolandscape.landscape.passes import straight_paths
from topolandscape.landscape.pure import name_of
from topolandscape.landscape.search import Search
from topolandscape.structures import Floats, Lower, Minima, MinimaNetwork

Pairs = Literal["tree", "all"] | ArrayLike

# Rounds, where nothing else ends the search.
_MOST_ROUNDS = 100
# Most links that are worked on in a round, most minima that are climbed from, and most new pairs that are joined in it.
# Few: what is found in one round tells where the next should look.
_LINKS, _MINIMA, _NEW_PAIRS = 4, 4, 15
# Evaluations that such a round takes, roughly, and the share of what is allowed that it should not exceed.
_TAKES, _ROUND = 70_000, 0.1
# Share of the evaluations allowed that may be gradients on the first paths.
_JOINING = 0.5
# Shares of what is allowed after which no new pairs are tried: while there are links to refine, and else.
_EXPLORING, _IDLE = 0.85, 0.95


def minima_network(
    landscape: Landscape,
    minima: Minima,
    *,
    lower: Lower = "any",
    pairs: Pairs = "tree",
    start: Callable[[Floats, Floats], Floats] = straight_paths,
    points: tuple[int, ...] = (9, 17),
    steps: int = 400,
    tolerance: float = 0.01,
    explore: int = 1000,
    saddle: bool = True,
    gradient_tolerance: float = 1e-5,
    max_evaluations: int = 5000,
    rounds: int | None = None,
    seconds: float | None = None,
    evaluations: int | None = None,
    progress: bool | None = None,
) -> MinimaNetwork:
    """Join minima by paths over the lowest passes that can be found.

    Parameters
    ----------
    landscape
        Any.
    minima
        Two or more, as from `minima`.
    lower
        Which bars the search shortens, those that end at any lower minimum, or at trained ones alone; see
        `MinimaNetwork.reduced`.
    pairs
        ``"all"``; ``"tree"``: every minimum with the lowest one; or pairs of rows (e, 2). They are joined first.
    start
        Gives paths (b, k, p) from ends (b, p) and (b, p), for the first pairs: `straight_paths`,
        ``functools.partial(bent_paths, by=0.3, seed=0)``, or ``paths_over_constant(landscape)``.
    points, steps, tolerance
        As for `lower_paths`.
    explore
        In how many rounds new pairs across the cuts of the highest passes are tried, if `pairs` is ``"tree"``: as long
        as less than 85 % of `rounds`, `seconds` and `evaluations` is used up (95 % where there is nothing to refine),
        since what is found has to be refined, and the second half of all evaluations has lowered the sum of the bars by
        a hundredth.
    saddle
        Whether the highest passes are refined until they are saddles of index one, a few of them in each round.
    gradient_tolerance
        Gradient norm below which saddles, and minima met on the way, count as stationary.
    max_evaluations
        Of each descent from a saddle or a dip, as for `polish`.
    rounds
        Most rounds of refinement and new pairs; None: a hundred, or any number within `seconds` or `evaluations`.
    seconds
        Time after which nothing new is begun; what was found until then counts.
    evaluations
        Number of evaluations after which nothing new is begun: losses, gradients and Hessian products of one point
        count alike. Half of them at most are gradients on the first paths. A result with such an end is the same on
        every machine, but for rounding.
    progress
        None: bars after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    MinimaNetwork
        The given minima first, then those met on the way, with their accuracies where there are classes.

    Raises
    ------
    ValueError
        There are fewer than two minima, or one at no finite loss, or a pair does not exist.

    Notes
    -----
    A bar ends where the lowest way leads to a lower minimum (elder rule), so that only the highest link of that way is
    worth improving, and only a pair worth trying of which one is reached below it and the other leads lower (Draxler,
    Veschgini, Salmhofer and Hamprecht 2018, algorithm 3): of the nearest ones that between which a straight segment
    rises least. Between two minima there is in general no single saddle but a chain of them (Wales 2003; Carr,
    Trygubenko and Wales 2005): from the highest point of a link the search goes to a saddle and from there down to both
    sides; what it meets are new minima, and what is not joined yet are new links. Long links, and those where no saddle
    is reached, are taken apart at their dips, or bent with more points. Where a bar ends at a saddle, the links beside
    it are refined, and the minima that are reached below it are climbed from along their softest directions (Munro and
    Wales 1999).

    Examples
    --------
    >>> from topolandscape.landscape.minima import minima
    >>> landscape = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + 0.2 * x[:, 0] + x[:, 1] ** 2, 2)
    >>> both = minima(landscape, [[-1.0, 0.0], [1.0, 0.0]], seed=0, progress=False)
    >>> network = minima_network(landscape, both, progress=False)
    >>> network.passes, network.barriers.round(4).tolist()
    (('verified saddle',), [1.005])
    """
    *_, network = joining(
        landscape,
        minima,
        lower=lower,
        pairs=pairs,
        start=start,
        points=points,
        steps=steps,
        tolerance=tolerance,
        explore=explore,
        saddle=saddle,
        gradient_tolerance=gradient_tolerance,
        max_evaluations=max_evaluations,
        rounds=rounds,
        seconds=seconds,
        evaluations=evaluations,
        progress=progress,
    )
    return replace(network, minima=with_accuracies(landscape, network.minima))


def joining(
    landscape: Landscape,
    minima: Minima | MinimaNetwork,
    *,
    lower: Lower = "any",
    pairs: Pairs = "tree",
    start: Callable[[Floats, Floats], Floats] = straight_paths,
    points: tuple[int, ...] = (9, 17),
    steps: int = 400,
    tolerance: float = 0.01,
    explore: int = 1000,
    saddle: bool = True,
    gradient_tolerance: float = 1e-5,
    max_evaluations: int = 5000,
    rounds: int | None = None,
    seconds: float | None = None,
    evaluations: int | None = None,
    progress: bool | None = None,
) -> Iterator[MinimaNetwork]:
    """Yield the network of `minima_network` after each round, better and better.

    Parameters
    ----------
    landscape
        Any.
    minima
        Two or more; or a network yielded before under the same bounds, with which it then goes on to the same end.
    lower, pairs, start, points, steps, tolerance, explore, saddle, gradient_tolerance, max_evaluations, rounds
        As for `minima_network`.
    seconds, evaluations, progress
        As for `minima_network`; evaluations are counted from the minima on, the time from now on.

    Yields
    ------
    MinimaNetwork
        Complete, with barriers that are upper bounds. Its provenance has a row for each round ("curve"): seconds,
        sum of the lengths of the bars of the given minima, how many of these end at verified saddles, and evaluations.
    """
    if lower not in get_args(Lower):
        raise ValueError(f"lower is {lower!r}; it needs to be one of {', '.join(get_args(Lower))}.")
    begun = time.monotonic()
    if rounds is None:
        rounds = _MOST_ROUNDS if seconds is None and evaluations is None else sys.maxsize
    before_that = minima.provenance["curve"][-1][0] if isinstance(minima, MinimaNetwork) else 0.0
    settings: dict[str, Any] = {
        "lower": lower,
        "pairs": pairs if isinstance(pairs, str) else np.asarray(pairs),
        "start": name_of(start),
        "points": points,
        "steps": steps,
        "tolerance": tolerance,
        "explore": explore,
        "saddle": saddle,
        "gradient_tolerance": gradient_tolerance,
        "max_evaluations": max_evaluations,
        "rounds": rounds,
        "landscape": dict(landscape.description),
    }
    search = Search(landscape, minima, settings, progress)
    engine = landscape.engine
    at_first = engine.evaluations
    if isinstance(minima, Minima):
        search.join(_pairs(pairs, minima), start, None if evaluations is None else int(_JOINING * evaluations))
        search.evaluations += engine.evaluations - at_first
        search.note(begun - before_that)
        yield search.network()
    explored = isinstance(pairs, str) and pairs == "tree"

    def used() -> float:
        """Return which share of what is allowed is used up."""
        shares = [search.round / max(rounds, 1)]
        if seconds is not None:
            shares.append((time.monotonic() - begun) / max(seconds, 1e-9))
        if evaluations is not None:
            shares.append(search.evaluations / max(evaluations, 1))
        return max(shares)

    def size() -> float:
        """Return the size of the next round, in whole ones, so that it does not end long after what is allowed."""
        allowed = math.inf if evaluations is None else float(evaluations)
        if seconds is not None:
            pace = (engine.evaluations - at_first) / max(time.monotonic() - begun, 1e-9)
            allowed = min(allowed, seconds * pace)
        return min(1.0, _ROUND * allowed / _TAKES)

    while search.round < rounds and used() < 1:
        # Others may evaluate between two rounds.
        before, part = engine.evaluations, size()
        refined = saddle and search.refine(max(1, round(part * _LINKS)))
        climbed = saddle and search.climb(max(1, round(part * _MINIMA)))
        tried = explored and used() < (_EXPLORING if refined else _IDLE)
        tried = tried and search.explore(max(1, round(part * _NEW_PAIRS)))
        if not (refined or climbed or tried):
            break
        search.round += 1
        search.evaluations += engine.evaluations - before
        search.note(begun - before_that)
        yield search.network()
    if isinstance(minima, MinimaNetwork) and search.round == minima.provenance["round"]:
        yield minima


def _pairs(pairs: Pairs, minima: Minima) -> list[Pair]:
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
