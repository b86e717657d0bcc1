"""From minima to a network: which pairs are worth joining, and which links worth knowing better."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise, zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.links import (
    AS_HIGH,
    VERIFIED,
    Dip,
    Link,
    beside,
    crossings,
    descents,
    dips,
    joined,
    resampled,
    strings,
    together,
    tops,
    within,
)
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import merge_equal, with_accuracies
from topolandscape.landscape.passes import straight_paths
from topolandscape.landscape.pure import name_of
from topolandscape.structures import Floats, Minima, MinimaNetwork
from topolandscape.structures.network import spanning_tree

Pair = tuple[int, int]
Pairs = Literal["tree", "all"] | ArrayLike

# What can be done with a link that is no verified saddle: take it apart at its dips, look for the saddle near its top,
# bend it with twice the points. Long links are taken apart first.
_APART, _SADDLE, _FINER = "apart", "saddle", "finer"
_LONG, _SHORT = [_APART, _SADDLE, _FINER], [_SADDLE, _APART, _FINER]
# Links of each way that may be worked on in a round; most links that are, and most new pairs that are joined. Few: what
# is found in one round tells where the next should look.
_OF_EACH_WAY, _LINKS, _NEW_PAIRS = 2, 4, 15
# Evaluations that such a round takes, roughly, and the share of what is allowed that it should not exceed.
_TAKES, _ROUND = 70_000, 0.1
# New pairs across each cut that are looked at, and points on the segment between them.
_CANDIDATES, _ON_SEGMENT = 24, 5
# New pairs are not tried when in so many rounds the sum of the bars has fallen by no more than this share of it.
_FUTILE, _LITTLE = 3, 1e-3
# Shares of what is allowed after which no new pairs are tried: while there are links to refine, and else.
_EXPLORING, _IDLE = 0.7, 0.9
# Longest step of a descent from a dip, in segments of the link.
_SHARE = 0.5
# Minima at which the rounding of losses is measured.
_MEASURED = 16
# Points of new strings, most points of any; how far they are bent, and how many steps are remembered in doing so.
_FEW, _MANY = 9, 33
_ROUGH, _ROUGH_STEPS, _ROUGH_MEMORY = 0.1, 60, 8


def minima_network(
    landscape: Landscape,
    minima: Minima,
    *,
    pairs: Pairs = "tree",
    start: Callable[[Floats, Floats], Floats] = straight_paths,
    points: tuple[int, ...] = (9, 17),
    steps: int = 400,
    tolerance: float = 0.01,
    explore: int = 100,
    saddle: bool = True,
    gradient_tolerance: float = 1e-5,
    max_evaluations: int = 5000,
    rounds: int = 100,
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
    pairs
        ``"all"``; ``"tree"``: every minimum with the lowest one; or pairs of rows (e, 2). They are joined first.
    start
        Gives paths (b, k, p) from ends (b, p) and (b, p), for the first pairs: `straight_paths`,
        ``functools.partial(bent_paths, by=0.3, seed=0)``, or ``paths_over_constant(landscape)``.
    points, steps, tolerance
        As for `lower_paths`.
    explore
        In how many rounds new pairs across the cuts of the highest passes are tried, if `pairs` is ``"tree"``: as long
        as less than 70 % of `rounds`, `seconds` and `evaluations` is used up (90 % where there is nothing to refine),
        since what is found has to be refined, and the sum of the bars has fallen by a thousandth in the last three
        rounds.
    saddle
        Whether the highest passes are refined until they are saddles of index one, a few of them in each round.
    gradient_tolerance
        Gradient norm below which saddles, and minima met on the way, count as stationary.
    max_evaluations
        Of each descent from a saddle or a dip, as for `polish`.
    rounds
        Most rounds of refinement and new pairs.
    seconds
        Time after which nothing new is begun; what was found until then counts.
    evaluations
        Number of evaluations after which nothing new is begun: losses, gradients and Hessian products of one point
        count alike. A result with such an end is the same on every machine, but for rounding.
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
    The lowest barriers between all pairs are those along the minimum spanning tree (elder rule), so that only the
    highest link of each way through the tree is worth improving, and only a pair across its cut worth trying (Draxler,
    Veschgini, Salmhofer and Hamprecht 2018, algorithm 3): of the nearest ones that between which a straight segment
    rises least. Between two minima there is in general no single saddle but
    a chain of them (Wales 2003; Carr, Trygubenko and Wales 2005): from the highest point of a link the search goes to a
    saddle and from there down to both sides; what it meets are new minima, and what is not joined yet are new links.
    Long links, and those where no saddle is reached, are taken apart at their dips, or bent with more points.

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
    pairs: Pairs = "tree",
    start: Callable[[Floats, Floats], Floats] = straight_paths,
    points: tuple[int, ...] = (9, 17),
    steps: int = 400,
    tolerance: float = 0.01,
    explore: int = 100,
    saddle: bool = True,
    gradient_tolerance: float = 1e-5,
    max_evaluations: int = 5000,
    rounds: int = 100,
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
        Two or more; or a network yielded before, with which it then goes on to the same end.
    pairs, start, points, steps, tolerance, explore, saddle, gradient_tolerance, max_evaluations, rounds
        As for `minima_network`.
    seconds, evaluations, progress
        As for `minima_network`; evaluations are counted from the minima on, the time from now on.

    Yields
    ------
    MinimaNetwork
        Complete, with barriers that are upper bounds. Its provenance has a row for each round ("curve"): seconds,
        sum of the lengths of the bars of the given minima, how many of these end at verified saddles, and evaluations.
    """
    begun = time.monotonic()
    before_that = minima.provenance["curve"][-1][0] if isinstance(minima, MinimaNetwork) else 0.0
    settings: dict[str, Any] = {
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
    search = _Search(landscape, minima, settings, progress)
    engine = landscape.engine
    at_first = engine.evaluations
    if isinstance(minima, Minima):
        search.join(_pairs(pairs, minima), start)
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
        tried = explored and used() < (_EXPLORING if refined else _IDLE)
        tried = tried and search.explore(max(1, round(part * _NEW_PAIRS)))
        if not (refined or tried):
            break
        search.round += 1
        search.evaluations += engine.evaluations - before
        search.note(begun - before_that)
        yield search.network()
    if isinstance(minima, MinimaNetwork) and search.round == minima.provenance["round"]:
        yield minima


class _Search:
    """A network that grows."""

    def __init__(
        self,
        landscape: Landscape,
        start: Minima | MinimaNetwork,
        settings: Mapping[str, Any],
        progress: bool | None,
    ) -> None:
        self._landscape, self._settings, self._progress = landscape, settings, progress
        known = start.minima if isinstance(start, MinimaNetwork) else start
        if known.points.shape[1] != landscape.dimension:
            raise ValueError(
                f"the minima have {known.points.shape[1]} coordinates, the landscape {landscape.dimension}; give the "
                "landscape on which they were found."
            )
        if len(known) < 2:
            raise ValueError(
                f"there is {len(known)} minimum; a network needs at least two. Start more descents, or other ones."
            )
        if not (finite := np.isfinite(known.values)).all():
            row = int(finite.argmin())
            raise ValueError(
                f"the loss of minimum {row} is {known.values[row]}; paths need ends of finite loss. Leave such minima "
                "out, by minima.rows(np.isfinite(minima.values))."
            )
        self._minima = known
        # Measured once, since that takes a dozen evaluations in forms that are slow.
        some = slice(0, _MEASURED)
        sizes = np.maximum(np.abs(known.values[some]), np.finfo(float).tiny)
        self._noise = float((landscape.noise_at(known.points[some]) / sizes).max())
        self.trained = start.trained if isinstance(start, MinimaNetwork) else len(start)
        self._links: dict[Pair, Link] = {}
        self._left: dict[Pair, list[str]] = {}  # what can still be done with each link
        self._pairs_tried: set[Pair] = set()
        self.round, self._explored, self.evaluations = 0, 0, 0
        self._curve: list[list[float]] = []
        if isinstance(start, MinimaNetwork):
            state = start.provenance
            for row, ends in enumerate(start.ends.tolist()):
                pair = (ends[0], ends[1])
                self._links[pair] = Link(
                    start.paths[row], float(start.barriers[row]), start.tops[row], start.passes[row]
                )
                self._left[pair] = list(state["left"][row])
            self._pairs_tried = {(a, b) for a, b in state["pairs_tried"]}
            self.round, self._explored = state["round"], state["explored"]
            self.evaluations = state["evaluations"]
            self._curve = [list(row) for row in state["curve"]]

    # ---------------------------------------------------------------------------------------------- what is known

    def network(self) -> MinimaNetwork:
        """Return what is known now."""
        order = sorted(pair for pair, link in self._links.items() if np.isfinite(link.barrier))
        links = [self._links[pair] for pair in order]
        return MinimaNetwork(
            self._minima,
            np.array(order, dtype=np.int64).reshape(-1, 2),
            np.array([link.barrier for link in links]),
            tuple(link.word for link in links),
            np.array([link.top for link in links]),
            tuple(link.points for link in links),
            trained=self.trained,
            provenance={
                **self._settings,
                "round": self.round,
                "evaluations": self.evaluations,
                "explored": self._explored,
                "left": [self._left[pair] for pair in order],
                "pairs_tried": sorted(self._pairs_tried),
                "curve": self._curve,
            },
        )

    def note(self, begun: float) -> None:
        """Add a row to the curve."""
        lowest = self._minima.values[: self.trained].copy()
        component = np.arange(self.trained)
        total, verified = 0.0, 0
        for pair, way in self._spanning()[1]:
            # Elder rule: the component whose lowest minimum is higher ends here.
            a, b = component[way[0]], component[way[-1]]
            total += self._links[pair].barrier - max(lowest[a], lowest[b])
            verified += self._links[pair].word == VERIFIED
            lowest[a] = min(lowest[a], lowest[b])
            component[component == b] = a
        self._curve.append([time.monotonic() - begun, float(total), float(verified), float(self.evaluations)])

    def _spanning(self) -> tuple[list[Pair], list[tuple[Pair, list[int]]]]:
        """Return the spanning tree, and for each bar of the given minima its highest link and the way over it."""
        pairs = sorted(self._links)
        barriers = np.array([self._links[pair].barrier for pair in pairs])
        tree, ways = spanning_tree(np.array(pairs).reshape(-1, 2), barriers, len(self._minima), self.trained)
        return [pairs[row] for row in tree], [(pairs[row], way) for row, way in ways]

    # ---------------------------------------------------------------------------------------------- what is added

    def _add(self, a: int, b: int, link: Link, left: Sequence[str] = _SHORT) -> Pair | None:
        """Keep a link between two minima, and what can be done with it, if none as low is known; return the pair."""
        if a == b:
            return None
        points = self._minima.points
        path = joined(joined(points[a][None], link.points), points[b][None])
        if a > b:
            a, b, path = b, a, path[::-1]
        barrier = max(link.barrier, *self._minima.values[[a, b]])
        known = self._links.get((a, b))
        # How exactly the highest loss of a path is known decides nothing against a saddle.
        margin = AS_HIGH * max(barrier - self._minima.values[[a, b]].max(), 0.0) + 1e-7 * abs(barrier)
        better = (link.word == VERIFIED) - (known is not None and known.word == VERIFIED)
        if known is None or barrier < known.barrier + better * margin:
            self._links[a, b] = Link(path, float(barrier), link.top, link.word)
            self._left[a, b] = [] if link.word == VERIFIED else list(left)
        return a, b

    def _met(self, points: Floats, norms: Floats) -> list[int]:
        """Return the rows of minima, of which those that are not known yet are added."""
        if len(points) == 0:
            return []
        m = len(self._minima)
        values = self._landscape.values(points, progress=False)
        labels = merge_equal(
            self._landscape,
            np.concatenate([self._minima.points, points]),
            np.concatenate([self._minima.values, values]),
            known=m,
            noise=self._noise,
        )
        first = {int(label): row for row, label in reversed(list(enumerate(labels[:m])))}
        rows: list[int] = []
        added: list[int] = []
        for row, label in enumerate(labels[m:].tolist()):
            if label not in first:
                first[label] = m + len(added)
                added.append(row)
            rows.append(first[label])
        if added:
            self._minima = _with_more(self._minima, points[added], values[added], norms[added])
        return rows

    def join(self, pairs: Sequence[Pair], start: Callable[[Floats, Floats], Floats] = straight_paths) -> list[Pair]:
        """Join pairs of minima by strings."""
        if not pairs:
            return []
        self._pairs_tried |= set(pairs)
        rows = np.array(pairs)
        found = self._strings(start(self._minima.points[rows[:, 0]], self._minima.points[rows[:, 1]]))
        added = [self._add(a, b, link, _LONG) for (a, b), link in zip(pairs, found, strict=True)]
        return [pair for pair in added if pair is not None]

    def _strings(self, paths: Floats) -> list[Link]:
        return strings(
            self._landscape,
            paths,
            points=self._settings["points"],
            steps=self._settings["steps"],
            tolerance=self._settings["tolerance"],
            memory=20,
            progress=self._progress,
        )

    def _roughly(self, paths: Sequence[Floats], number: int) -> list[Link]:
        """Bend paths, with so many points, as far as it takes to see where their tops are."""
        if not paths:
            return []
        return strings(
            self._landscape,
            np.stack([resampled(path, number) for path in paths]),
            points=(number,),
            steps=min(_ROUGH_STEPS, self._settings["steps"]),
            tolerance=max(_ROUGH, self._settings["tolerance"]),
            memory=_ROUGH_MEMORY,
            progress=self._progress,
        )

    # ---------------------------------------------------------------------------------------------- rounds

    def refine(self, most: int) -> bool:
        """Work on the highest links of some ways, so many at most; return whether there was anything to do."""
        ranks: list[list[Pair]] = [[] for _ in range(_OF_EACH_WAY)]
        for _, way in reversed(self._spanning()[1]):
            links = sorted(
                ((min(step), max(step)) for step in pairwise(way)), key=lambda pair: -self._links[pair].barrier
            )
            # Where nothing can be done with the highest, what is below it does not matter.
            if self._left[links[0]]:
                for rank, pair in zip(ranks, links, strict=False):
                    rank.append(pair)
        chosen = [pair for pair in dict.fromkeys(chain(*ranks)) if self._left[pair]][:most]
        doing: dict[str, list[Pair]] = {_APART: [], _SADDLE: [], _FINER: []}
        for pair in chosen:
            doing[self._left[pair].pop(0)].append(pair)
        cut = dips(self._landscape, [self._links[pair] for pair in doing[_APART]])
        apart = [(pair, own) for pair, own in zip(doing[_APART], cut, strict=True) if own]
        for pair, own in zip(doing[_APART], cut, strict=True):
            if not own and self._left[pair]:
                doing[self._left[pair].pop(0)].append(pair)
        gaps = [gap for gap in self._taken_apart(apart, doing[_SADDLE]) if not self._is_low(gap[0], gap[1])]
        found = self._roughly([path for _, _, path in gaps], _FEW)
        for (a, b, _), link in zip(gaps, found, strict=True):
            self._add(a, b, link)
        self._make_finer(doing[_FINER])
        return bool(chosen)

    def _is_low(self, a: int, b: int) -> bool:
        """Return whether two minima are one, or have a link already that is a verified saddle."""
        link = self._links.get((min(a, b), max(a, b)))
        return a == b or (link is not None and link.word == VERIFIED)

    def _taken_apart(self, apart: list[tuple[Pair, list[Dip]]], over: list[Pair]) -> list[tuple[int, int, Floats]]:
        """Go down from the dips of links and from saddles near the tops of others; return what is to be joined then."""
        cut = [self._links[pair] for pair, _ in apart]
        reached = tops(
            self._landscape,
            [self._links[pair] for pair in over],
            gradient_tolerance=self._settings["gradient_tolerance"],
            noise=self._noise,
        )
        found = [top for top in reached if top is not None]
        before = {pair: self._links[pair] for pair, top in zip(over, reached, strict=True) if top is not None}
        parts = [within(link, own, _SHARE) for link, (_, own) in zip(cut, apart, strict=True)]
        starts = together([*parts, *(beside([top]) for top in found)])
        if not len(starts.points):
            return []
        ways, norms = descents(
            self._landscape,
            starts,
            gradient_tolerance=self._settings["gradient_tolerance"],
            max_evaluations=self._settings["max_evaluations"],
            noise=self._noise,
        )
        ended = iter(self._met(np.array([way[-1] for way in ways]), norms))
        gaps = []
        trails = iter(ways)
        for (pair, own), link in zip(apart, cut, strict=True):
            gaps += _between_dips(pair, link, own, [(next(ended), next(trails)) for _ in own])
        if found:
            for pair, link in zip(before, crossings(self._landscape, found, list(trails)), strict=True):
                gaps += self._over(pair, before[pair], link, next(ended), next(ended))
        return gaps

    def _over(self, pair: Pair, old: Link, link: Link, c: int, d: int) -> list[tuple[int, int, Floats]]:
        """Add the link over a saddle near the top of an old one; return what is left to be joined of that."""
        points = self._minima.points
        self._add(c, d, link, [_APART, _FINER])
        top = int(np.linalg.norm(old.points - old.top, axis=1).argmin())
        before, after = old.points[: max(1, top)], old.points[min(top + 1, len(old.points) - 1) :]
        return [(pair[0], c, joined(before, points[c][None])), (d, pair[1], joined(points[d][None], after))]

    def _make_finer(self, pairs: list[Pair]) -> None:
        """Bend links with twice the points."""
        by_number: dict[int, list[Pair]] = {}
        for pair in pairs:
            number = min(_MANY, max(_FEW, 2 * len(self._links[pair].points) - 1))
            by_number.setdefault(number, []).append(pair)
        for number, some in by_number.items():
            found = self._roughly([self._links[pair].points for pair in some], number)
            for pair, link in zip(some, found, strict=True):
                self._add(*pair, link)

    def explore(self, most: int) -> bool:
        """Join new pairs across the cuts of the highest links, so many at most; return whether there were any."""
        totals = [row[1] for row in self._curve[-_FUTILE - 1 :]]
        futile = len(totals) > _FUTILE and totals[0] - totals[-1] <= _LITTLE * totals[-1]
        if self._explored >= self._settings["explore"] or futile:
            return False
        self._explored += 1
        near = self._across_cuts()
        # The straight segment tells roughly which of the near pairs is worth a string.
        heights = self._straight_heights([pair for some in near for pair in some])
        lowest = [sorted(some, key=heights.__getitem__) for some in near]
        chosen = list(dict.fromkeys(pair for rank in zip_longest(*lowest) for pair in rank if pair is not None))
        chosen = chosen[:most]
        self._pairs_tried |= set(chosen)
        paths = [self._minima.points[list(pair)] for pair in chosen]
        for (a, b), link in zip(chosen, self._roughly(paths, _FEW), strict=True):
            self._add(a, b, link, _LONG)
        return bool(chosen)

    def _across_cuts(self) -> list[list[Pair]]:
        """Return for each highest link, the highest first, the nearest pairs across its cut that were not tried yet."""
        tree, ways = self._spanning()
        points = self._minima.points
        products = points @ points.T
        squares = np.diag(products)
        distances = squares[:, None] + squares - 2 * products  # squared
        for a, b in [*self._pairs_tried, *self._links]:
            distances[a, b] = distances[b, a] = math.inf
        result = []
        for link, _ in reversed(ways):
            component = _component(link[0], [pair for pair in tree if pair != link], len(points))
            inside, outside = np.flatnonzero(component), np.flatnonzero(~component)
            across = distances[np.ix_(inside, outside)]
            places = np.argpartition(across, min(_CANDIDATES, across.size) - 1, axis=None)[:_CANDIDATES]
            rows, columns = np.unravel_index(places[np.isfinite(across.ravel()[places])], across.shape)
            result.append(
                [(min(a, b), max(a, b)) for a, b in zip(inside[rows].tolist(), outside[columns].tolist(), strict=True)]
            )
        return result

    def _straight_heights(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        """Return how high the loss is at a few points on the segments between pairs."""
        pairs = list(dict.fromkeys(pairs))
        if not pairs:
            return {}
        ends = self._minima.points[np.array(pairs)]
        shares = np.arange(1, _ON_SEGMENT + 1)[:, None] / (_ON_SEGMENT + 1)
        inner = ends[:, :1] * (1 - shares) + ends[:, 1:] * shares
        losses = self._landscape.values(inner.reshape(-1, ends.shape[2]), progress=False)
        highest = np.nan_to_num(losses, nan=math.inf).reshape(len(pairs), -1).max(axis=1)
        return dict(zip(pairs, highest.tolist(), strict=True))


def _between_dips(
    pair: Pair, link: Link, own: Sequence[Dip], ended: Sequence[tuple[int, Floats]]
) -> list[tuple[int, int, Floats]]:
    """Return the parts of a link between its dips, each from one minimum below a dip to the next.

    `ended` has for each dip the minimum below it, and the way there.
    """
    gaps = []
    last, first, before = pair[0], 0, link.points[:1]
    for (number, _), (row, trail) in zip(own, ended, strict=True):
        between = link.points[first:number]
        gaps.append((last, row, joined(joined(before, between), trail) if len(between) else joined(before, trail)))
        last, first, before = row, number, trail[::-1]
    gaps.append((last, pair[1], joined(before, link.points[first:])))
    return gaps


def _with_more(minima: Minima, points: Floats, values: Floats, norms: Floats) -> Minima:
    """Return minima with others met on the way, of which the curvature is not known."""
    m, k = len(points), minima.curvature.shape[1]
    return Minima(
        points=np.concatenate([minima.points, points]),
        values=np.concatenate([minima.values, values]),
        gradient_norm=np.concatenate([minima.gradient_norm, norms]),
        curvature=np.concatenate([minima.curvature, np.full((m, k), np.nan)]),
        index=np.concatenate([minima.index, np.full(m, -1)]),
        stationary=minima.stationary + ("not examined",) * m,
        accuracy=np.concatenate([minima.accuracy, np.full(m, np.nan)]),
        test_accuracy=np.concatenate([minima.test_accuracy, np.full(m, np.nan)]),
        found=np.concatenate([minima.found, np.zeros(m, np.int64)]),
        provenance=minima.provenance,
    )


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


def _component(root: int, edges: Sequence[Pair], m: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(m, m))
    labels = connected_components(graph, directed=False)[1]
    return np.asarray(labels == labels[root])
