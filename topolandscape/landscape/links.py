"""Links: paths between minima with what is known of their highest point, and ways to know it better.

A link's barrier is the highest loss on its path, so whatever is done here, it is an upper bound of the lowest pass.
Each function takes many links, so that all their points share the calls of the loss engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from topolandscape.landscape.curvature import lowest_curvatures
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.passes import highest_on, lower_paths
from topolandscape.landscape.polishing import noise_at, polish
from topolandscape.landscape.saddles import saddles
from topolandscape.landscape.vectors import dot
from topolandscape.structures import Floats

VERIFIED = "verified saddle"
# Where the loss along a path is least between two rises: the number of points before it, and the point.
Dip = tuple[int, Floats]
# Points of a trail that are kept, if so few keep the path as low as it should be.
_KEPT = (3, 5, 9, 17, 33, 128)
# A saddle is the highest point of a path that rises above it by no more than this share of its height.
AS_HIGH = 1e-3
# How exactly the highest loss of a link is known, as a share of its height.
_CLOSELY = 1e-6
# How far from a saddle its descents begin, and how long their steps are, in lengths of the segments around the top.
_ASIDE, _STEP = 0.05, 0.5

# Directions in which a minimum is climbed from, both ways; what part of the way up a climb begins at, if the loss
# rises as its curvature says; and how near saddles are one, in first steps.
_CLIMBED, _FIRST_RISE, _SAME = 8, 0.003, 0.1
# How many saddles a descent leaves, and how closely the curvature is looked at that tells one from a minimum.
_SADDLES_LEFT = 3
_SOFTEST: dict[str, Any] = {"seed": 0, "tolerance": 3e-5, "max_products": 200, "share": 0.5}


@dataclass(frozen=True, eq=False)
class Link:
    """A path between two points.

    Attributes
    ----------
    points
        Joined by straight segments, (k, p).
    barrier
        Highest loss on it.
    top
        Where, (p,).
    word
        What the top is, as in `MinimaNetwork.passes`.
    """

    points: Floats
    barrier: float
    top: Floats
    word: str


def measured(landscape: Landscape, paths: Sequence[Floats], *, margin: float = _CLOSELY) -> list[Link]:
    """Return paths of any numbers of points as links.

    Their barriers are above what was seen by a margin, a share of the height: what a closer look might still find, so
    that they are upper bounds, and no saddle on them lies above. Where the highest point is known there is no need.
    """
    links: list[Link | None] = [None] * len(paths)
    for count in sorted({len(path) for path in paths}):
        rows = [row for row, path in enumerate(paths) if len(path) == count]
        some = np.stack([paths[row] for row in rows])
        highest, tops = highest_on(landscape, some, tolerance=_CLOSELY)
        ends = landscape.values(some[:, [0, -1]].reshape(-1, some.shape[2]), progress=False).reshape(-1, 2).max(axis=1)
        highest += margin * np.maximum(np.where(np.isfinite(highest), highest - ends, 0.0), 0.0)
        for place, row in enumerate(rows):
            links[row] = Link(paths[row], float(highest[place]), tops[place], "path maximum")
    return [link for link in links if link is not None]


def strings(
    landscape: Landscape,
    paths: Floats,
    *,
    points: Sequence[int],
    steps: int,
    tolerance: float,
    memory: int,
    progress: bool | None,
    max_evaluations: int | None = None,
) -> list[Link]:
    """Bend paths (b, k, p) until their highest losses are as low as they get, and return them as links."""
    found = lower_paths(
        landscape,
        paths,
        points=points,
        steps=steps,
        max_evaluations=max_evaluations,
        tolerance=tolerance,
        memory=memory,
        progress=progress,
    )
    words = ["path maximum" if converged else "not converged" for converged in found.converged]
    links = measured(landscape, list(found.points))
    return [replace(link, word=word) for link, word in zip(links, words, strict=True)]


@dataclass(frozen=True, eq=False)
class Top:
    """A saddle near the top of a link.

    Attributes
    ----------
    point
        Where, (p,).
    value
        Its loss.
    noise
        By how much losses differ there by rounding.
    aside
        A short step along its direction of negative curvature, towards the last point of the link, (p,).
    longest
        Longest step of the descents to both sides of it.
    """

    point: Floats
    value: float
    noise: float
    aside: Floats
    longest: float


@dataclass(frozen=True, eq=False)
class Starts:
    """Points from which to go down.

    Attributes
    ----------
    points
        Shape (m, p).
    longest
        Longest step from each, (m,).
    ceilings
        What the highest loss on each way down should not exceed, (m,).
    """

    points: Floats
    longest: Floats
    ceilings: Floats


def tops(
    landscape: Landscape, links: Sequence[Link], *, gradient_tolerance: float, noise: float | None = None
) -> list[Top | None]:
    """Go from the highest points of links to saddles; None where none is reached."""
    if not links:
        return []
    along = np.array([ahead - behind for behind, ahead in map(_around, links)])
    lengths = np.linalg.norm(along, axis=1)
    highest, barriers = np.array([link.top for link in links]), np.array([link.barrier for link in links])
    ends = landscape.values(np.concatenate([link.points[[0, -1]] for link in links]), progress=False).reshape(-1, 2)
    height = np.maximum(barriers - ends.max(axis=1), 0.0)
    spread = noise_at(landscape, highest, barriers, noise)
    found = saddles(
        landscape,
        highest,
        along,
        tolerance=gradient_tolerance,
        radius=0.3 * lengths,
        ceiling=barriers + 0.01 * height + spread,
        noise=noise,
    )
    reached = found.verified & (found.values <= barriers + AS_HIGH * height + spread)
    forward = np.sign((found.direction * along).sum(axis=1))[:, None]
    return [
        Top(found.points[row], float(found.values[row]), float(spread[row]), aside, _STEP * float(lengths[row]))
        if reached[row]
        else None
        for row, aside in enumerate(_ASIDE * lengths[:, None] * forward * found.direction)
    ]


def climbs(
    landscape: Landscape,
    minima: Floats,
    births: Floats,
    ceilings: Floats,
    reach: Floats,
    *,
    gradient_tolerance: float,
    noise: float,
) -> list[tuple[int, Top]]:
    """Climb from minima along their softest directions, both ways, to saddles below a ceiling.

    Parameters
    ----------
    landscape
        Any.
    minima, births
        Where, (m, p), and their losses, (m,).
    ceilings
        Losses above which a climb from each is given up, (m,).
    reach
        How far from each a climb may begin, (m,).
    gradient_tolerance, noise
        As for `tops`.

    Returns
    -------
    list
        The saddles, each once: the row of the minimum from which it was reached, and the saddle, its step aside leading
        away from there.
    """
    m, p = minima.shape
    k = min(_CLIMBED, p)
    lowest = lowest_curvatures(landscape, minima, k, seed=0, tolerance=1e-4, max_products=400)
    ways = np.concatenate([lowest.vectors, -lowest.vectors], axis=1).reshape(-1, p)
    curved = np.maximum(np.tile(lowest.values, 2), np.finfo(float).tiny)
    steps = np.minimum(np.sqrt(2 * _FIRST_RISE * (ceilings - births)[:, None] / curved), reach[:, None]).ravel()
    origin = np.repeat(np.arange(m), 2 * k)
    found = saddles(
        landscape,
        minima[origin] + steps[:, None] * ways,
        ways,
        tolerance=gradient_tolerance,
        radius=steps,
        ceiling=ceilings[origin],
        noise=noise,
    )
    result: list[tuple[int, Top]] = []
    for row in np.flatnonzero(found.verified & (found.values < ceilings[origin])):
        point = found.points[row]
        if any(np.linalg.norm(top.point - point) <= _SAME * steps[row] for _, top in result):
            continue
        away = point - minima[origin[row]]
        longest = _STEP * float(np.linalg.norm(away))
        aside = _ASIDE * longest * (-1.0 if found.direction[row] @ away < 0 else 1.0) * found.direction[row]
        result.append((int(origin[row]), Top(point, float(found.values[row]), noise, aside, longest)))
    return result


def beside(found: Sequence[Top]) -> Starts:
    """Return where to go down from saddles: of each, to the side of the first point of its link, then to the other."""
    return Starts(
        np.array([top.point + sign * top.aside for top in found for sign in (-1, 1)]),
        np.repeat([top.longest for top in found], 2),
        np.repeat([top.value + top.noise for top in found], 2),
    )


def within(link: Link, own: Sequence[Dip], share: float) -> Starts:
    """Return where to go down from the dips of a link, by steps of a share of its segments."""
    segment = float(np.linalg.norm(np.diff(link.points, axis=0), axis=1).mean())
    n = len(own)
    return Starts(np.array([dip for _, dip in own]), np.full(n, share * segment), np.full(n, link.barrier))


def together(parts: Sequence[Starts]) -> Starts:
    """Return all starts as one."""
    if not parts:
        return Starts(np.empty((0, 0)), np.empty(0), np.empty(0))
    return Starts(
        np.concatenate([part.points for part in parts]),
        np.concatenate([part.longest for part in parts]),
        np.concatenate([part.ceilings for part in parts]),
    )


def crossings(landscape: Landscape, found: Sequence[Top], ways: Sequence[Floats]) -> list[Link]:
    """Return the links over saddles, given two ways down from each, in the order of `beside`.

    Their word is "verified saddle" if the saddle is the highest point.
    """
    paths = [np.concatenate([ways[2 * row][::-1], top.point[None], ways[2 * row + 1]]) for row, top in enumerate(found)]
    result = []
    for top, link in zip(found, measured(landscape, paths, margin=0.0), strict=True):
        lower = landscape.values(link.points[[0, -1]], progress=False).max()
        if link.barrier <= top.value + max(AS_HIGH * (top.value - lower), top.noise):
            link = Link(link.points, max(link.barrier, top.value), top.point, VERIFIED)
        result.append(link)
    return result


def descents(
    landscape: Landscape,
    starts: Starts,
    *,
    gradient_tolerance: float,
    max_evaluations: int,
    noise: float | None = None,
) -> tuple[list[Floats], Floats]:
    """Go down to minima; return the ways (k, p) there and the gradient norms (m,) at their ends.

    A descent that comes to rest at a saddle goes on from there. Of each way as few points are kept as keep its highest
    loss below its ceiling.
    """
    trails: list[Floats] = [start[None] for start in starts.points]
    norms = np.full(len(trails), np.inf)
    going, points = list(range(len(trails))), starts.points
    for _ in range(_SADDLES_LEFT + 1):
        ended = polish(
            landscape,
            points,
            tolerance=gradient_tolerance,
            max_evaluations=max_evaluations,
            longest=starts.longest[going],
            trails=True,
            noise=noise,
            progress=False,
        )
        norms[going] = ended.gradient_norm
        for row, trail in zip(going, ended.trails, strict=True):
            trails[row] = joined(trails[row], trail)
        lowest = lowest_curvatures(landscape, ended.points, **_SOFTEST)
        down = (lowest.values[:, 0] < -lowest.residuals[:, 0]) & (ended.gradient_norm <= gradient_tolerance)
        if not down.any():
            break
        going, aside = [row for row, on in zip(going, down, strict=True) if on], lowest.vectors[down, 0]
        uphill = dot(aside, landscape.gradients(ended.points[down], progress=False)[1]) > 0
        aside *= np.where(uphill, -1.0, 1.0)[:, None]
        points = ended.points[down] + starts.longest[going, None] * aside
    ways = list(trails)
    left = list(range(len(ways)))
    for count in _KEPT:
        few = {row: trails[row][_spread(len(trails[row]), count)] for row in left}
        links = measured(landscape, list(few.values()))
        for (row, way), link in zip(few.items(), links, strict=True):
            ways[row] = way
            if link.barrier <= starts.ceilings[row]:
                left.remove(row)
        if not left:
            break
    return ways, norms


def dips(landscape: Landscape, links: Sequence[Link], *, cuts: int = 8) -> list[list[Dip]]:
    """Return where along each link the loss is least between two rises, from the first end to the last."""
    if not links:
        return []
    shares = np.arange(cuts)[:, None] / cuts
    fine = []
    for link in links:
        steps = np.diff(link.points, axis=0)
        inner = (link.points[:-1, None] + shares * steps[:, None]).reshape(-1, steps.shape[1])
        fine.append(np.concatenate([inner, link.points[-1:]]))
    values = np.split(
        landscape.values(np.concatenate(fine), progress=False), np.cumsum([len(part) for part in fine])[:-1]
    )
    found = []
    for points, along in zip(fine, values, strict=True):
        low = np.flatnonzero((along[1:-1] < along[:-2]) & (along[1:-1] <= along[2:])) + 1
        found.append([((int(place) - 1) // cuts + 1, points[place]) for place in low])
    return found


def joined(first: Floats, second: Floats) -> Floats:
    """Return two paths as one, the second beginning where the first ends."""
    return np.concatenate([first, second[1:] if np.array_equal(first[-1], second[0]) else second])


def _spread(length: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(np.int64))


def _around(link: Link) -> tuple[Floats, Floats]:
    """Return the points of a path before and after its top."""
    steps = np.diff(link.points, axis=0)
    squares = np.maximum((steps**2).sum(1), 1e-300)
    shares = np.clip(((link.top - link.points[:-1]) * steps).sum(1) / squares, 0.0, 1.0)
    nearest = int(np.linalg.norm(link.points[:-1] + shares[:, None] * steps - link.top, axis=1).argmin())
    before = nearest if shares[nearest] > 1e-9 else max(nearest - 1, 0)
    after = nearest + 1 if shares[nearest] < 1 - 1e-9 else min(nearest + 2, len(link.points) - 1)
    return link.points[before], link.points[after]
