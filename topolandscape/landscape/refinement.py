"""From the barcode of samples to the bars of the landscape itself: births moved to minima, deaths to saddles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import KDTree

from topolandscape.landscape.curvature import DENSE
from topolandscape.landscape.fits import LocalFits
from topolandscape.landscape.following import ASIDE, FLAT, LONGEST, SAME, Followed, Follower, largest_size
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Barcode, Floats, Integers, LossSamples
from topolandscape.structures.graphs import components

Mask = NDArray[np.bool_]

# All lengths here are in units of the distance between samples. Of the largest eigenvalue: what is smaller may vanish.
_VALLEY = 1e-3
# How far from a saddle samples are asked for the basins on its sides, and how many samples wide the hill between is.
_ACROSS, _WIDE = 2.0, 8.0
# Times as many minima as bars lead to, at which climbing out of others ends.
_MOST = 4
# Of the span of the bars: so much may samples be wrong about passes at least.
_UNSURE = 0.01
# Points of a chain between two points of a valley, and how far apart they may be, in parts of its length.
_CHAIN, _APART = 4, 2.0


def refine(barcode: Barcode, samples: LossSamples, landscape: Landscape, *, tolerance: float = 1e-9) -> Barcode:
    """Return the bars of the landscape to which the bars of degree 0 of some samples lead.

    Each birth is moved to the minimum below it, each death to the saddle beside it. Bars of which the births come to
    the same minimum are one: all but the lowest were noise of the sampling, and are dropped.

    Parameters
    ----------
    barcode
        Of a complex on the samples; bars of other degrees are left out.
    samples
        Points and losses; their subspace says where they live. The region, on whose boundary there may be minima and
        saddles, is the box of a full grid or of `sample_box`.
    landscape
        Twice differentiable: the one that was sampled, or the one of all parameters where the samples have a subspace.
    tolerance
        To which losses should be right, relative to the largest finite length of a bar.

    Returns
    -------
    Barcode
        With vertices, simplices and sizes of the sampled bars. Its provenance has ``"refined"``, a mapping with, for
        each bar in turn:

        - ``"row"``, the row of `barcode`, or -1 for a minimum that lies beside a saddle and was not seen before;
        - ``"birth"`` and ``"death"``, one of the words ``"moved"``; ``"boundary"``: moved along the boundary of the
          region; ``"as sampled"``: the descent left the samples, or no saddle was reached; ``"never"``;
        - ``"minimum"`` and ``"saddle"``, their coordinates; None where it was not reached.

        And ``"dropped"``: the rows of `barcode` that were noise; ``"evaluations"``: gradients taken, a product with
        the Hessian counting as two.

    Raises
    ------
    ValueError
        The landscape is not the one that was sampled, or the barcode is not of these samples.

    Notes
    -----
    Minima by Newton steps on the absolute values of the eigenvalues, in a trust region; saddles by eigenvector
    following (Cerjan and Miller 1981): the same step, but uphill along one eigenvector. Both begin on polynomials that
    are fitted to the samples, which cost no evaluation and give the first Hessian; where these are not right the
    Hessian is taken, and so it is at the end where an eigenvalue is small beside the largest. Which minima a saddle
    joins is
    read off the samples where the hill between is several of them wide, else descents on both sides say it; deaths
    follow by the elder rule. Climbs begin at the deaths, then where basins of the samples meet lower, but for their
    error, than the lowest way that is known, and last from minima that were only met beside saddles. A death remains an
    upper bound, as a sampled one is: a lower pass may have been missed. Coordinates at the boundary are held while the
    loss falls outward. A descent that comes down beside a lower sample of another, lower bar has shown its birth to be
    noise. Minima that are not isolated are one when points between them, polished, make a chain.

    Examples
    --------
    >>> from topolandscape.landscape.grids import sample_grid
    >>> well = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2 + 0.3 * x[:, 0], 1)
    >>> samples = sample_grid(well, low=-2, high=2, shape=(9,))
    >>> samples.values[[2, 4, 6]].round(6).tolist()
    [-0.3, 1.0, 0.3]
    >>> unknown = {"birth_simplex": [2, 6], "death_simplex": [-1, 4], "size": [9, 2]}
    >>> sampled = Barcode([0, 0], [-0.3, 0.3], [np.inf, 1.0], birth_vertex=[2, 6], death_vertex=[-1, 4], **unknown)
    >>> refined = refine(sampled, samples, well)
    >>> refined.birth.round(6).tolist(), refined.death.round(6).tolist()
    ([-0.305428, 0.294146], [inf, 1.011282])
    """
    code = barcode.filter(dim=0)
    rows = np.flatnonzero(barcode.dim == 0)
    if len(code) == 0:
        return Barcode(**{name: getattr(code, name) for name in Barcode.columns}, provenance=barcode.provenance)
    task = _Refinement(code, samples, _restricted(landscape, samples), tolerance)
    task.find_minima()
    task.find_saddles()
    return task.result(rows, barcode.provenance)


def _restricted(landscape: Landscape, samples: LossSamples) -> Landscape:
    """Return the landscape in the coordinates of the samples."""
    subspace, d = samples.subspace, samples.points.shape[1]
    if subspace is not None and landscape.subspace is None:
        landscape = landscape.restricted_to(subspace.origin, subspace.directions)
    if landscape.dimension != d:
        raise ValueError(
            f"the samples have {d} coordinates, the landscape {landscape.dimension}; give the landscape that was "
            "sampled."
        )
    if d > DENSE:
        raise ValueError(f"the samples have {d} coordinates; refinement takes full Hessians, of {DENSE} at most.")
    return landscape


class _Basins:
    """Basins of samples: steepest descent from each to the lowest of its 8 d nearest neighbours."""

    def __init__(self, samples: LossSamples, unit: Floats) -> None:
        self.samples, d = samples, samples.points.shape[1]
        self.rows = np.flatnonzero(np.isfinite(samples.values))
        points, values = samples.points[self.rows] / unit, samples.values[self.rows]
        self.tree = KDTree(points)
        near = self.tree.query(points, k=min(len(points), 8 * d + 1))[1]
        self.neighbours = near.reshape(len(points), -1)
        own = np.arange(len(points))
        below = self.neighbours[own, values[self.neighbours].argmin(axis=1)]
        below = np.where(values[below] < values, below, own)  # equal ones would lead round in circles
        while not np.array_equal(below[below], below):
            below = below[below]
        self.below = below
        self.lowest = np.full(len(samples), -1)
        self.lowest[self.rows] = self.rows[below]

    def nearest(self, units: Floats) -> tuple[Floats, Integers]:
        """Return distances to and rows of the nearest samples of finite loss."""
        apart, near = self.tree.query(units)
        return apart, self.rows[near]

    def passes(self) -> tuple[Floats, Integers, Integers]:
        """Return where basins meet: losses (e,), the lowest samples of both (e, 2), the higher sample (e,)."""
        a = np.repeat(np.arange(len(self.rows)), self.neighbours.shape[1])
        b = self.neighbours.reshape(-1)
        meet = self.below[a] != self.below[b]
        a, b = self.rows[a[meet]], self.rows[b[meet]]
        values = self.samples.values
        top = np.where(values[a] >= values[b], a, b)
        return values[top], np.column_stack([self.lowest[a], self.lowest[b]]), top


class _Refinement:
    """Minima and saddles beside the births and deaths of bars."""

    def __init__(self, code: Barcode, samples: LossSamples, landscape: Landscape, tolerance: float) -> None:
        n, d = samples.points.shape
        vertices = np.concatenate([code.birth_vertex, code.death_vertex])
        if code.birth_vertex.min() < 0 or vertices.max() >= n:
            raise ValueError(f"the bars name vertices up to {vertices.max()}, and there are {n} samples; give theirs.")
        self.code, self.samples = code, samples
        low, high = samples.points.min(axis=0), samples.points.max(axis=0)
        steps = np.array(samples.shape if samples.shape is not None else [n ** (1 / d)] * d) - 1
        unit = np.maximum(high - low, np.finfo(float).tiny) / np.maximum(steps, 1)
        box = _region(samples)
        noise = max(samples.noise, float(4 * np.finfo(float).eps * np.abs(code.birth).max()))
        first = int(code.birth_vertex[0])
        loss, said = float(landscape.values(samples.points[[first]], progress=False)[0]), float(samples.values[first])
        if not abs(loss - said) <= 10 * noise + 1e-6 * abs(said):
            raise ValueError(
                f"the loss at sample {first} is {loss:g}, but {said:g} in the samples; give the landscape that was "
                "sampled."
            )
        ends = code.death[np.isfinite(code.death)]
        span = float(ends.max() - code.birth.min() if len(ends) else np.ptp(code.birth))
        # Where the region is not known, what leaves the samples is not held back, but given up.
        low, high = (low, high) if box is None else box
        self.basins = _Basins(samples, unit)
        self.by = Follower(
            landscape,
            unit,
            low / unit,
            high / unit,
            bounded=box is not None,
            noise=noise,
            scale=max(tolerance * span, noise),
            fits=LocalFits(self.basins.tree, samples.values[self.basins.rows]),
        )

    # ------------------------------------------------------------------------------------------ minima

    def find_minima(self) -> None:
        """Move births down; number the minima; of the bars of each keep the lowest."""
        code = self.code
        units = self.samples.points[code.birth_vertex] / self.by.unit
        bar_of = np.full(len(self.samples), -1)
        bar_of[code.birth_vertex] = np.arange(len(code))
        under: list[tuple[int, int]] = []

        def below_another(rows: Integers, at: Floats) -> Mask:
            """Return which descents came down beside a sample, lower than their birth, of another, lower bar."""
            apart, nearest = self.basins.nearest(at)
            other = bar_of[self.basins.lowest[nearest]]
            lower = (other >= 0) & (apart <= LONGEST) & (self.samples.values[nearest] < code.birth[rows])
            lower &= code.birth[other] < code.birth[rows]
            under.extend(zip(rows[lower].tolist(), other[lower].tolist(), strict=True))
            return lower

        every = self.by.follow(units, given_up=below_another)
        # Of what came under another bar nothing is known but which.
        joined = np.array(under, dtype=np.int64).reshape(-1, 2)
        own = np.setdiff1d(np.arange(len(code)), joined[:, 0])
        ends = every.rows(own)
        kept = self.by.outside(ends.units)
        ends.units[kept], ends.values[kept] = units[own[kept]], code.birth[own[kept]]
        same = self._labels(ends)
        heads = own[np.unique(same, return_index=True)[1]]
        labels = components(np.vstack([np.column_stack([own, heads[same]]), joined]), len(code))
        # The lowest of the bars of a minimum did not end at another of them.
        order = np.lexsort((-code.persistence, code.birth, labels))
        self.bars = order[np.unique(labels[order], return_index=True)[1]]  # of each minimum
        # Of the points that stand for a minimum the lowest; where it is as sampled, the one that was.
        order = np.lexsort((ends.values, labels[own]))
        lowest = order[np.unique(labels[own[order]], return_index=True)[1]]
        self.minima, self.sampled, self.labels = ends.rows(lowest), kept[lowest], labels
        self.place = np.full(len(self.samples), -1)  # the minimum of each sample that is a birth
        self.place[code.birth_vertex] = labels

    def _labels(self, ends: Followed) -> Integers:
        """Return numbers of points, equal for those that are the same or in one valley."""
        pairs = KDTree(ends.units).query_pairs(SAME, output_type="ndarray")
        labels = components(pairs, len(ends.units))
        flat = np.flatnonzero(ends.still & (ends.eigenvalues[:, 0] <= _VALLEY * largest_size(ends.eigenvalues)))
        if len(flat) < 2:
            return labels
        # All points of a valley are joined by its own part of the shortest tree.
        a, b = flat[_shortest_tree(ends.units[flat])].T
        apart = labels[a] != labels[b]
        apart &= np.abs(ends.values[a] - ends.values[b]) <= 10 * (self.by.noise + self.by.scale)
        a, b = a[apart], b[apart]
        joined = self._valley(ends.units[a], ends.units[b], ends.values[a])
        more = np.column_stack([labels[a[joined]], labels[b[joined]]])
        return components(more, labels.max() + 1)[labels]

    def _valley(self, a: Floats, b: Floats, values: Floats) -> Mask:
        """Return which pairs of points lie in one valley: points between them, polished, are a chain as low."""
        if len(a) == 0:
            return np.empty(0, dtype=bool)
        shares = np.arange(1, _CHAIN)[:, None] / _CHAIN
        between = a[:, None] + shares * (b - a)[:, None]
        ends = self.by.follow(between.reshape(-1, a.shape[1]))
        chain = np.concatenate([a[:, None], ends.units.reshape(between.shape), b[:, None]], axis=1)
        gaps = np.linalg.norm(np.diff(chain, axis=1), axis=2).max(axis=1)
        level = ends.values.reshape(between.shape[:2]).max(axis=1) <= values + 10 * (self.by.noise + self.by.scale)
        # Both ends of a gap may have been led aside.
        return level & (gaps <= np.linalg.norm(b - a, axis=1) * _APART / _CHAIN + 2 * ASIDE)

    # ------------------------------------------------------------------------------------------ saddles

    def find_saddles(self) -> None:
        """Find the lowest saddles between the minima, and which of them each joins."""
        self.links: list[tuple[float, int, int, int]] = []  # value, the two minima, row of the saddle
        self.saddles: list[Floats] = []
        self.tops: list[float] = []  # their losses
        self.of_bar: dict[int, int] = {}  # saddle reached from the death of a bar
        finite = np.isfinite(self.code.death)
        if len(self.minima.units) < 2 or not finite.any():
            return
        # By how much samples may be wrong about passes: at least so much as was seen.
        self.error = _UNSURE * float(self.code.death[finite].max() - self.minima.values.min())
        mine = np.isin(np.arange(len(self.code)), self.bars)
        for chosen in (mine & finite, ~mine & finite):
            if chosen.any() and not self._joined():
                bars = np.flatnonzero(chosen)
                self._climb(self.samples.points[self.code.death_vertex[bars]] / self.by.unit, bars=bars)
        self._between_basins()
        done = len(self.bars)
        while done < len(self.minima.units) and done < _MOST * len(self.bars):
            new, done = self.minima.rows(slice(done, None)), len(self.minima.units)
            self._leave(new)

    def _joined(self) -> bool:
        """Return whether each minimum is joined to one of a bar that never ends."""
        component = components([link[1:3] for link in self.links], len(self.minima.units))
        return bool(np.isin(component, component[self.labels[np.isinf(self.code.death)]]).all())

    def _between_basins(self) -> None:
        """Climb from where basins of the samples meet lower, but for the error of sampling, than is known."""
        passes, ends, tops = self.basins.passes()
        ends = np.sort(self.place[ends], axis=1)
        order = np.lexsort((passes, *ends.T))
        order = order[np.unique(ends[order], axis=0, return_index=True)[1]]
        order = order[(ends[order, 0] >= 0) & (ends[order, 0] != ends[order, 1])]
        passes, ends, tops = passes[order], ends[order], tops[order]

        def lower(error: float) -> Integers:
            highest = _lowest_ways(self.links, len(self.minima.units))[*ends.T]
            known = {link[1:3] for link in self.links}
            new = np.array([pair not in known for pair in map(tuple, ends.tolist())], dtype=bool)
            return np.flatnonzero(new & (passes - error < highest))

        rows = lower(self.error)
        if len(rows) == 0:
            return
        across = np.diff(self.minima.units[ends[rows]], axis=1)[:, 0]
        self._climb(self.samples.points[tops[rows]] / self.by.unit, across=across)
        # Where basins are as narrow as the samples are far apart, the climb may end elsewhere. A way through the
        # samples that is lower than all that are known shows that it did.
        if len(rows := lower(-self.by.noise - self.by.scale)):
            self._leave(self.minima.rows(np.unique(ends[rows])))

    def _leave(self, minima: Followed) -> None:
        """Climb out of minima, both ways along each of their modes."""
        d = minima.units.shape[1]
        modes = np.concatenate([minima.vectors, -minima.vectors], axis=1)
        starts = minima.units[:, None] + ASIDE * modes
        free = np.isfinite(np.concatenate([minima.eigenvalues] * 2, axis=1)).reshape(-1)
        self._climb(np.clip(starts.reshape(-1, d)[free], *self.by.limits()), modes=modes.reshape(-1, d)[free])

    def _climb(
        self,
        units: Floats,
        *,
        modes: Floats | None = None,
        across: Floats | None = None,
        bars: Integers | None = None,
    ) -> None:
        """Climb to saddles, and find out which minima those join that are new."""
        tops = self.by.follow(units, uphill=True, modes=modes, across=across)
        reached = np.flatnonzero(tops.still & ~self.by.outside(tops.units))
        tops = tops.rows(reached)
        below = -FLAT * largest_size(tops.eigenvalues)[:, None]
        fine = np.flatnonzero(
            ((tops.eigenvalues < below).sum(axis=1) == 1) & (np.abs(tops.eigenvalues) > -below).all(axis=1)
        )
        bars = None if bars is None else bars[reached]
        known = len(self.saddles)
        new: list[int] = []
        for row in fine:
            places = np.array([*self.saddles, *(tops.units[other] for other in new)]).reshape(-1, units.shape[1])
            near = np.flatnonzero(np.linalg.norm(places - tops.units[row], axis=1) <= SAME)
            if bars is not None:
                self.of_bar[int(bars[row])] = int(near[0]) if len(near) else known + len(new)
            if len(near) == 0:
                new.append(int(row))
        if bars is not None and len(fine):
            wrong = np.abs(self.code.death[bars[fine]] - tops.values[fine])
            self.error = max(self.error, 2 * float(np.median(wrong)))
        if not new:
            return
        found = tops.rows(new)
        self.saddles += list(found.units)
        self.tops += found.values.tolist()
        left, right = self._seen_from(found)
        unseen = np.flatnonzero(left < 0)
        if len(unseen):
            some = found.rows(unseen)
            aside = ASIDE * some.vectors[:, 0]
            sides = np.clip(np.concatenate([some.units + aside, some.units - aside]), *self.by.limits())
            ends = self.by.follow(sides, known=self.minima.units)
            left[unseen], right[unseen] = self._named(ends).reshape(2, -1)
        for top, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True), start=known):
            if a != b and min(a, b) >= 0:
                self.links.append((self.tops[top], min(a, b), max(a, b), top))

    def _seen_from(self, found: Followed) -> Integers:
        """Return the minima on both sides of saddles, (2, m), where the samples show them; else -1.

        The samples on both sides lie in basins of two bars, and the hill between these is several samples wide: the
        loss falls further on both sides than a parabola does over one of them.
        """
        steps = _ACROSS * np.stack([found.vectors[:, 0], -found.vectors[:, 0]])
        apart, nearest = self.basins.nearest(found.units + steps)
        place = self.place[self.basins.lowest[nearest]]
        sides = np.where((apart <= _ACROSS / 2) & (self.samples.values[nearest] < found.values), place, -1)
        fall = found.values - self.minima.values[sides]
        wide = fall >= 0.5 * _WIDE * np.abs(found.eigenvalues[:, 0])
        seen = (sides >= 0).all(axis=0) & (sides[0] != sides[1]) & wide.all(axis=0)
        return np.where(seen, sides, -1)

    def _named(self, ends: Followed) -> Integers:
        """Return rows of minima for points, new ones for those that were not known; -1 for those that left."""
        known, m = self.minima, len(self.minima.units)
        outside = self.by.outside(ends.units)
        both = known.with_others(ends)
        labels = self._labels(both)
        names = np.full(labels.max() + 1, -1)
        names[labels[:m]] = np.arange(m)
        result = names[labels[m:]]
        new: list[int] = []
        for row in np.flatnonzero((result < 0) & ~outside & (ends.still | (ends.eigenvalues[:, 0] > 0))):
            if names[labels[m + row]] < 0:
                names[labels[m + row]] = m + len(new)
                new.append(int(row))
            result[row] = names[labels[m + row]]
        if new:
            self.minima = both.rows([*range(m), *(m + row for row in new)])
            self.sampled = np.concatenate([self.sampled, np.zeros(len(new), dtype=bool)])
        return result

    # ------------------------------------------------------------------------------------------ bars

    def result(self, rows: Integers, provenance: Any) -> Barcode:
        """Return the bars by the elder rule; `rows` are those of the bars in the barcode that was given."""
        values, seen = self.minima.values, len(self.bars)
        component, death, saddle = np.arange(len(values)), np.full(len(values), np.inf), np.full(len(values), -1)
        for loss, a, b, top in sorted(self.links):
            elder, younger = sorted((int(component[a]), int(component[b])), key=lambda k: (values[k], k))
            if elder != younger:
                death[younger], saddle[younger] = loss, top
                component[component == younger] = elder
        reported = np.ones(len(values), dtype=bool)
        lasting = np.unique(component[self.labels[np.isinf(self.code.death)]])
        loose = np.setdiff1d(component, lasting)
        for root in loose:
            # What is joined to nothing that never ends dies at its own saddle, or where its samples say. Of minima that
            # were only met beside a saddle nothing is known then.
            reported[seen:] &= component[seen:] != root
            members = np.flatnonzero(component[:seen] == root)
            if len(members):
                row = int(members[np.argmin(values[members])])
                bar = int(self.bars[row])
                saddle[row] = self.of_bar.get(bar, -1)
                if saddle[row] >= 0 and self.tops[saddle[row]] <= values[row]:
                    saddle[row] = -1
                death[row] = self.tops[saddle[row]] if saddle[row] >= 0 else max(self.code.death[bar], values[row])
        kept = np.flatnonzero(reported & (death > values + self.by.noise + self.by.scale))
        source = np.where(kept < seen, self.bars[np.minimum(kept, seen - 1)], -1)
        columns = {name: np.where(source >= 0, getattr(self.code, name)[source], -1) for name in Barcode.columns}
        columns |= {"dim": np.zeros(len(kept), np.int64), "birth": values[kept], "death": death[kept]}
        columns["size"] = np.where(source >= 0, columns["size"], 0)
        for name in ("death_simplex", "death_vertex"):
            columns[name] = np.where(np.isinf(columns["death"]), -1, columns[name])
        order = np.lexsort((columns["birth_simplex"], columns["birth"], columns["birth"] - columns["death"]))
        kept, source = kept[order], source[order]
        told: dict[str, Any] = {
            "row": np.where(source >= 0, rows[source], -1),
            "birth": [self._word(bool(self.sampled[k]), self.minima.units[k]) for k in kept],
            "death": [
                "never"
                if np.isinf(death[k])
                else self._word(saddle[k] < 0, None if saddle[k] < 0 else self.saddles[saddle[k]])
                for k in kept
            ],
            "minimum": self.minima.units[kept] * self.by.unit,
            "saddle": [None if saddle[k] < 0 else self.saddles[saddle[k]] * self.by.unit for k in kept],
            "dropped": np.setdiff1d(rows, rows[source[source >= 0]]),
            "evaluations": self.by.spent,
        }
        return Barcode(
            **{name: column[order] for name, column in columns.items()}, provenance={**provenance, "refined": told}
        )

    def _word(self, sampled: bool, units: Floats | None) -> str:
        if sampled or units is None:
            return "as sampled"
        return "boundary" if self.by.on_edge(units[None])[0] else "moved"


def _region(samples: LossSamples) -> tuple[Floats, Floats] | None:
    """Return the corners of the box that was sampled, where it is known."""
    if samples.shape is not None:
        return samples.points.min(axis=0), samples.points.max(axis=0)
    said, d = samples.provenance, samples.points.shape[1]
    if said.get("sampler") != "sample_box":
        return None
    return np.broadcast_to(said["low"], d).astype(np.float64), np.broadcast_to(said["high"], d).astype(np.float64)


def _lowest_ways(links: list[tuple[float, int, int, int]], m: int) -> Floats:
    """Return the highest loss on the lowest way between each two of m minima, (m, m); infinite where there is none."""
    ways, component = np.full((m, m), np.inf), np.arange(m)
    np.fill_diagonal(ways, -np.inf)
    for loss, a, b, _ in sorted(links):
        if component[a] != component[b]:
            one, other = component == component[a], component == component[b]
            ways[np.ix_(one, other)] = ways[np.ix_(other, one)] = loss
            component[other] = component[a]
    return ways


def _shortest_tree(units: Floats) -> Integers:
    """Return the pairs of points that a shortest spanning tree joins, (m - 1, 2)."""
    apart = np.linalg.norm(units[:, None] - units, axis=2)
    # A distance of zero is no edge to scipy.
    return np.column_stack(minimum_spanning_tree(apart + 1e-300).nonzero())
