"""The search for passes: links between minima, and the rounds in which they are made better known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np

from topolandscape.landscape.cuts import Bar, Pair, across_cuts, in_turns, leads_lower, reached_below, squared_distances
from topolandscape.landscape.links import (
    AS_HIGH,
    VERIFIED,
    Dip,
    Link,
    Starts,
    beside,
    climbs,
    crossings,
    descents,
    dips,
    joined,
    strings,
    together,
    tops,
    within,
)
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import merge_equal
from topolandscape.landscape.strings import resampled
from topolandscape.structures import Floats, Minima, MinimaNetwork
from topolandscape.structures.graphs import escapes

# Two minima that are to be joined, and a path between them from which to begin.
Gap = tuple[int, int, Floats]

# What can be done with a link that is no verified saddle: take it apart at its dips, look for the saddle near its top,
# bend it with twice the points. Long links are taken apart first.
_APART, _SADDLE, _FINER = "apart", "saddle", "finer"
_LONG, _SHORT = [_APART, _SADDLE, _FINER], [_SADDLE, _APART, _FINER]
# Links of each way that may be worked on in a round.
_OF_EACH_WAY = 2
# How many times as far as the highest link of a bar one beside it may rise that is worth a look.
_PROMISING = 2.0
# New pairs across each cut that are looked at, and points on the segment between them.
_CANDIDATES, _ON_SEGMENT = 24, 5
# New pairs are not tried, nor links beside a saddle refined, when the second half of all evaluations has lowered the
# sum of the bars by no more than this share of it.
_LITTLE = 0.01
# Longest step of a descent from a dip, in segments of the link.
_SHARE = 0.5
# Trained minima at which, and between which, the rounding of losses is measured.
_MEASURED = 16
# Points of new strings, most points of any; how far they are bent, and how many steps are remembered in doing so.
_FEW, _MANY = 9, 33
_ROUGH, _ROUGH_STEPS, _ROUGH_MEMORY = 0.1, 60, 8


class Search:
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
        self.trained = start.trained if isinstance(start, MinimaNetwork) else len(start)
        self._noise = _noise(landscape, known.points[: min(self.trained, _MEASURED)])
        self._links: dict[Pair, Link] = {}
        self._left: dict[Pair, list[str]] = {}  # what can still be done with each link
        self._pairs_tried: set[Pair] = set()
        self._climbed: set[int] = set()
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
            self._climbed = set(state.get("climbed", []))
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
                "climbed": sorted(self._climbed),
                "curve": self._curve,
            },
        )

    def note(self, begun: float) -> None:
        """Add a row to the curve."""
        bars = self._bars()
        total = sum(length for length, _, _ in bars)
        verified = sum(self._links[pair].word == VERIFIED for _, pair, _ in bars)
        self._curve.append([time.monotonic() - begun, float(total), float(verified), float(self.evaluations)])

    def _standing(self) -> Floats:
        """Return the losses of the minima that end bars, infinite ones for the others."""
        values = self._minima.values
        ending = np.arange(len(values)) < (self.trained if self._settings["lower"] == "trained" else len(values))
        return np.where(ending, values, math.inf)

    def _bars(self) -> list[Bar]:
        """Return the bars of the trained minima, the longest first: length, highest link, and the way over it."""
        pairs = sorted(self._links)
        barriers, values = np.array([self._links[pair].barrier for pair in pairs]), self._standing()
        found = escapes(np.array(pairs).reshape(-1, 2), barriers, values, self.trained)
        bars = [(float(barriers[row] - values[way[0]]), pairs[row], way) for row, way in found]
        return sorted(bars, key=lambda bar: -bar[0])

    # ---------------------------------------------------------------------------------------------- what is added

    def _add(self, a: int, b: int, link: Link, left: Sequence[str] = _SHORT) -> None:
        """Keep a link between two minima, and what can be done with it, if none as low is known."""
        if a == b:
            return
        points = self._minima.points
        path = joined(joined(points[a][None], link.points), points[b][None])
        if a > b:
            a, b, path = b, a, path[::-1]
        # The highest point of a path is one of many that are equal but for rounding, and a saddle is one point.
        barrier = max(link.barrier + self._noise * (link.word != VERIFIED), *self._minima.values[[a, b]])
        known = self._links.get((a, b))
        # How exactly the highest loss of a path is known decides nothing against a saddle.
        margin = AS_HIGH * max(barrier - self._minima.values[[a, b]].max(), 0.0) + 1e-7 * abs(barrier)
        better = (link.word == VERIFIED) - (known is not None and known.word == VERIFIED)
        if known is None or barrier < known.barrier + better * margin:
            self._links[a, b] = Link(path, float(barrier), link.top, link.word)
            self._left[a, b] = [] if link.word == VERIFIED else list(left)

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

    def join(
        self, pairs: Sequence[Pair], start: Callable[[Floats, Floats], Floats], max_evaluations: int | None = None
    ) -> None:
        """Join pairs of minima by strings, bent as far as the settings, and so many gradients of all, allow."""
        self._pairs_tried |= set(pairs)
        rows = np.array(pairs)
        found = strings(
            self._landscape,
            start(self._minima.points[rows[:, 0]], self._minima.points[rows[:, 1]]),
            points=self._settings["points"],
            steps=self._settings["steps"],
            tolerance=self._settings["tolerance"],
            memory=20,
            progress=self._progress,
            max_evaluations=None if max_evaluations is None else max_evaluations // len(pairs),
        )
        for (a, b), link in zip(pairs, found, strict=True):
            self._add(a, b, link, _LONG)

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
        bars = self._bars()
        ranks: list[list[Pair]] = [[] for _ in range(_OF_EACH_WAY)]
        for _, highest, way in bars:
            links = sorted(
                ((min(step), max(step)) for step in pairwise(way)), key=lambda pair: -self._links[pair].barrier
            )
            # Where nothing can be done with the highest, what is below it does not matter.
            if self._left[highest]:
                for rank, pair in zip(ranks, links, strict=False):
                    rank.append(pair)
        chosen = [pair for pair in dict.fromkeys(chain(*ranks)) if self._left[pair]][:most]
        settled = [] if self._is_futile() else [bar for bar in bars if not self._left[bar[1]]]
        others = [self._others(link, way[0]) for _, link, way in settled]
        chosen += in_turns(settled, others, most - len(chosen), but=chosen)
        doing: dict[str, list[Pair]] = {_APART: [], _SADDLE: [], _FINER: []}
        for pair in chosen:
            doing[self._left[pair].pop(0)].append(pair)
        cut = dips(self._landscape, [self._links[pair] for pair in doing[_APART]])
        apart = [(pair, own) for pair, own in zip(doing[_APART], cut, strict=True) if own]
        for pair, own in zip(doing[_APART], cut, strict=True):
            if not own and self._left[pair]:
                doing[self._left[pair].pop(0)].append(pair)
        self._close(self._taken_apart(apart, doing[_SADDLE]))
        self._make_finer(doing[_FINER])
        return bool(chosen)

    def _others(self, link: Pair, minimum: int) -> list[Pair]:
        """Return the links, the lowest first, that would end the bar of a minimum if they were lower than its highest.

        They are those of which something can be done, and that rise at most `_PROMISING` times as far.
        """
        labels = reached_below(self._links, link, len(self._minima))
        birth = self._minima.values[minimum]
        highest = birth + _PROMISING * (self._links[link].barrier - birth)
        lower = leads_lower(self._standing(), labels, minimum)
        mine = labels == labels[minimum]
        return sorted(
            (
                pair
                for pair, known in self._links.items()
                if self._left[pair]
                and known.barrier <= highest
                and ((mine[pair[0]] and lower[pair[1]]) or (mine[pair[1]] and lower[pair[0]]))
            ),
            key=lambda pair: (self._links[pair].barrier, pair),
        )

    def _close(self, gaps: list[Gap]) -> None:
        """Join minima, along the paths given, that are not joined as low as can be."""
        gaps = [gap for gap in gaps if not self._is_low(gap[0], gap[1])]
        found = self._roughly([path for _, _, path in gaps], _FEW)
        for (a, b, _), link in zip(gaps, found, strict=True):
            self._add(a, b, link)

    def _is_futile(self) -> bool:
        """Return whether the second half of all evaluations has hardly shortened the bars."""
        before = [total for _, total, _, evaluations in self._curve if 2 * evaluations <= self.evaluations]
        return bool(before) and before[-1] - self._curve[-1][1] <= _LITTLE * self._curve[-1][1]

    def _is_low(self, a: int, b: int) -> bool:
        """Return whether two minima are one, or have a link already that is a verified saddle."""
        link = self._links.get((min(a, b), max(a, b)))
        return a == b or (link is not None and link.word == VERIFIED)

    def _taken_apart(self, apart: list[tuple[Pair, list[Dip]]], over: list[Pair]) -> list[Gap]:
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
        ways, norms = self._descents(starts)
        ended = iter(self._met(np.array([way[-1] for way in ways]), norms))
        gaps = []
        trails = iter(ways)
        for (pair, own), link in zip(apart, cut, strict=True):
            gaps += _between_dips(pair, link, own, [(next(ended), next(trails)) for _ in own])
        if found:
            for pair, link in zip(before, crossings(self._landscape, found, list(trails)), strict=True):
                gaps += self._over(pair, before[pair], link, next(ended), next(ended))
        return gaps

    def _over(self, pair: Pair, old: Link, link: Link, c: int, d: int) -> list[Gap]:
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
        if self._explored >= self._settings["explore"] or self._is_futile():
            return False
        self._explored += 1
        bars = self._bars()
        near = across_cuts(self._minima.points, self._standing(), self._links, self._pairs_tried, bars, _CANDIDATES)
        # The straight segment tells roughly which of the near pairs is worth a string.
        heights = self._straight_heights([pair for some in near for pair in some])
        lowest = [sorted(some, key=heights.__getitem__) for some in near]
        chosen = list(in_turns(bars, lowest, most))
        self._pairs_tried |= set(chosen)
        paths = [self._minima.points[list(pair)] for pair in chosen]
        for (a, b), link in zip(chosen, self._roughly(paths, _FEW), strict=True):
            self._add(a, b, link, _LONG)
        return bool(chosen)

    def climb(self, most: int) -> bool:
        """Climb, from so many minima at most, to saddles below the deaths of bars of which the passes are settled.

        Return whether there were any from which it had not been tried.
        """
        bars = [bar for bar in self._bars() if not self._left[bar[1]]]
        labels = [reached_below(self._links, link, len(self._minima)) for _, link, _ in bars]
        own = [np.flatnonzero(label == label[way[0]]) for label, (_, _, way) in zip(labels, bars, strict=True)]
        waiting = [[row for row in rows.tolist() if row not in self._climbed] for rows in own]
        chosen = in_turns(bars, waiting, most)
        if not chosen:
            return False
        rows, ceilings = list(chosen), [self._links[bars[bar][1]].barrier for bar in chosen.values()]
        self._climbed |= set(rows)
        distances = squared_distances(self._minima.points)[rows]
        distances[np.arange(len(rows)), rows] = math.inf
        found = climbs(
            self._landscape,
            self._minima.points[rows],
            self._minima.values[rows],
            np.array(ceilings),
            np.sqrt(np.maximum(distances.min(axis=1), 0.0)) / 2,
            gradient_tolerance=self._settings["gradient_tolerance"],
            noise=self._noise,
        )
        if not found:
            return True
        reached = [top for _, top in found]
        ways, norms = self._descents(beside(reached))
        ended = iter(self._met(np.array([way[-1] for way in ways]), norms))
        gaps = []
        for (place, _), link in zip(found, crossings(self._landscape, reached, ways), strict=True):
            c, d = next(ended), next(ended)
            self._add(c, d, link, [_APART, _FINER])
            gaps.append((rows[place], c, self._minima.points[[rows[place], c]]))
        self._close(gaps)
        return True

    def _descents(self, starts: Starts) -> tuple[list[Floats], Floats]:
        """Go down to minima, as the settings say."""
        return descents(
            self._landscape,
            starts,
            gradient_tolerance=self._settings["gradient_tolerance"],
            max_evaluations=self._settings["max_evaluations"],
            noise=self._noise,
        )

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


def _noise(landscape: Landscape, minima: Floats) -> float:
    """Return by how much losses differ by rounding at some minima and half way between them, where they are high.

    Measured once, since that takes a dozen evaluations in forms that are slow.
    """
    noise = landscape.noise_at(np.concatenate([minima, (minima[1:] + minima[:-1]) / 2]))
    return float(noise[np.isfinite(noise)].max(initial=0.0))


def _between_dips(pair: Pair, link: Link, own: Sequence[Dip], ended: Sequence[tuple[int, Floats]]) -> list[Gap]:
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
