"""The Morse complex of a smooth function of few coordinates: its critical points, and the flow lines between them."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.arcs import arcs_of_index
from topolandscape.landscape.boundary import Places, WithBoundary, with_boundary
from topolandscape.landscape.box import Box, Mask
from topolandscape.landscape.directions import Seed
from topolandscape.landscape.flow import Flow, balls_around
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.stationary import StationaryPoints, stationary_points
from topolandscape.structures import Floats, Integers, MorseComplex, grid_points

# Places on each side of the box at which the gradient is asked whether it points out.
_ON_SIDE = 1024
# Of the largest gradient there: what is smaller is zero; by how much it may turn from place to place, and how often
# places are put between.
_ZERO, _TURNED, _BETWEEN = 1e-7, np.pi / 2, 20


def critical_points(
    landscape: Landscape,
    *,
    low: ArrayLike,
    high: ArrayLike,
    seed: Seed,
    period: ArrayLike | None = None,
    lipschitz: float | None = None,
    starts: int = 64,
    flatness: float = 1e-6,
    max_evaluations: int = 2_000_000,
    boundary: bool = True,
) -> MorseComplex:
    """Return the Morse complex of a smooth function on a box: all critical points and the flow lines between them.

    Sublevel sets in the box also change on its boundary: at the critical points of the restriction to a side, an edge
    or a corner from which the loss rises inwards. They belong to the complex, with the index of the restriction.

    Parameters
    ----------
    landscape
        Of few dimensions (up to four in practice), twice differentiable.
    low, high
        Corners of the box: numbers, or one for each coordinate.
    seed
        Of the random starts: a whole number or a numpy Generator.
    period
        Of periodic coordinates the period, a number or one for each coordinate, 0 where there is none. The side of the
        box is then one period, and its ends are the same.
    lipschitz
        A bound of the Lipschitz constant of the Hessian on the box in the spectral norm, where one is known. The search
        is then a proof, but for rounding, that no critical point is missing. None: the constant is measured.
    starts
        Random points at which the interpolant is compared with the loss, and from which Newton's method is begun once
        more when the search is over.
    flatness
        A critical point is degenerate when an eigenvalue of its Hessian is smaller than this share of the largest.
    max_evaluations
        Losses and gradients that the search for the points may take, a product with the Hessian counting as two.
    boundary
        Whether sublevel sets end at the boundary of the box, as those of a grid do. False: only points at which the
        gradient vanishes are looked for, and flow lines may leave the box; its bars are those of the function
        on the box only where the loss rises outward all along the boundary.

    Returns
    -------
    MorseComplex
        With coordinates, and `on_boundary`. `topolandscape.completeness` says whether all is there. The provenance has,
        row for row, ``"gradient_norm"``, ``"eigenvalues"`` and ``"isolation"`` (the radius within which there is no
        other critical point), on the boundary those of the restriction; ``"face"``, for each coordinate -1 at its low
        end, 1 at its high end, else 0; and:

        - ``"proved"``: whether `lipschitz` was given and all cells were decided; else isolation and completeness are
          estimated;
        - ``"undecided"``, ``"missed"``: cells that could not be decided, and points that only random starts found;
        - ``"left_out"``: points on the boundary at which the gradient vanishes, and sublevel sets do not change;
        - ``"falling"``: at how many of ``"places"`` on the boundary the loss falls outward, so that the box cuts
          sublevel sets;
        - ``"degree"``: in one or two coordinates that do not go round, how often the gradient turns along the boundary,
          which is the number of points of even index inside less that of the others; None where it cannot be told;
        - ``"betti"``: Betti numbers of the domain; without `boundary` None where the loss falls outward;
        - ``"left"``, ``"unfinished"``: rows from which flow lines left the box, or could not be followed;
        - ``"unknown"``: indices from which no flow lines were looked for.

    Raises
    ------
    ValueError
        The function is not periodic, or not finite, or a critical point is degenerate, or `lipschitz` is contradicted.
        On the boundary a point is degenerate, too, where neither the slope inwards nor its change is of a sign.

    Notes
    -----
    Points: see `stationary_points`. In one and two coordinates, where no `lipschitz` is given, an interpolant of the
    losses is searched, and the landscape is asked about what was found: some hundred losses for a polynomial, a
    thousand for a few waves. What is too narrow for any of these losses to show it is not found; more `starts` ask at
    more places. Flow lines are those of the interpolant then. They lead from points of index 1 both ways down and to
    those of the highest index from the points below both ways up; in three dimensions from index 2 to index 1, and in
    four from index 3 to 2, they are found by shooting around a circle. In five and more dimensions those between middle
    indices are not looked for; nor are they from three on where the loss may rise inwards from the boundary, along
    which lines flow together: `topolandscape.barcode` gives degree 0 there, and refuses others. A ball is the end of a
    line when the Hessian stays positive in it, as far as its Lipschitz constant is right.

    References
    ----------
    Milnor (1965), "Lectures on the h-cobordism theorem"; Ortega and Rheinboldt (1970), "Iterative solution of nonlinear
    equations in several variables"; Goresky and MacPherson (1988), "Stratified Morse theory"; Laudenbach (2011), "A
    Morse complex on manifolds with boundary".

    Examples
    --------
    >>> import torch
    >>> carton = Landscape.from_function(lambda x: torch.cos(2 * torch.pi * x).sum(dim=1), 2)
    >>> torus = critical_points(carton, low=0, high=1, period=1, seed=0)
    >>> torus
    MorseComplex(1 of index 0, 2 of index 1, 1 of index 2; 4 arcs)
    >>> torus.value.round(6).tolist(), torus.boundary(1).nnz
    ([-2.0, 0.0, 0.0, 2.0], 0)
    """
    box = _box(landscape, low, high, period)
    found = stationary_points(
        landscape,
        box,
        seed=seed,
        starts=starts,
        lipschitz=lipschitz,
        flatness=flatness,
        max_evaluations=max_evaluations,
    )
    falling, places, rises, degree = _on_boundary(found, box)
    if boundary:
        whole = with_boundary(
            landscape,
            box,
            found,
            rises=rises,
            seed=seed,
            starts=starts,
            lipschitz=lipschitz,
            flatness=flatness,
            max_evaluations=max_evaluations,
        )
    else:
        inside = Places.joined([Places.inside(found)])
        nowhere = np.empty((0, landscape.dimension))
        whole = WithBoundary(inside, nowhere, found.undecided, found.missed, found.proved, found.evaluations)
    critical = whole.places
    flow = (
        Flow(found.model, box, balls_around(critical, box), bounded=boundary and bool(rises.any()))
        if len(critical)
        else None
    )
    joins = [np.empty((0, 3), np.int64)]
    left: list[int] = []
    unfinished: list[int] = []
    unknown: list[int] = []
    for k in range(1, landscape.dimension + 1):
        if flow is None or not (critical.index == k).any():
            continue
        arcs = arcs_of_index(flow, k)
        if arcs is None:
            unknown.append(k)
            continue
        joins.append(arcs.joins)
        left += arcs.left if k == 1 else ()  # uphill a line may well leave
        unfinished += arcs.unfinished
    arcs_, coefficient = _summed(np.concatenate(joins))
    circles = int(box.periodic.sum())
    provenance: dict[str, Any] = {
        "made": "critical_points",
        "low": box.low,
        "high": box.high,
        "periodic": box.periodic,
        "seed": seed if isinstance(seed, (int, np.integer)) else "a generator",
        "lipschitz": lipschitz,
        "landscape": dict(landscape.description),
        "gradient_norm": critical.gradient_norm,
        "eigenvalues": [row[np.isfinite(row)].tolist() for row in critical.eigenvalues],
        "isolation": critical.isolation,
        "face": critical.face,
        "proved": whole.proved,
        "undecided": whole.undecided,
        "missed": whole.missed,
        "left_out": whole.left_out,
        "falling": falling,
        "places": places,
        "degree": degree,
        "betti": None if falling and not boundary else [comb(circles, k) for k in range(landscape.dimension + 1)],
        "left": left,
        "unfinished": unfinished,
        "unknown": unknown,
        "evaluations": whole.evaluations + (flow.spent if flow is not None and found.model is landscape else 0),
    }
    no_cell = np.full(len(critical), -1)
    return MorseComplex(
        index=critical.index,
        value=critical.values,
        vertex=no_cell,
        cell=no_cell,
        arcs=arcs_,
        coefficient=coefficient,
        points=critical.points,
        on_boundary=box.bounds(critical.points),
        provenance=provenance,
    )


def _box(landscape: Landscape, low: ArrayLike, high: ArrayLike, period: ArrayLike | None) -> Box:
    d = landscape.dimension
    sides = {}
    for name, given in (("low", low), ("high", high), ("period", 0.0 if period is None else period)):
        array = np.asarray(given, dtype=np.float64)
        if array.shape not in ((), (d,)) or not np.isfinite(array).all():
            raise ValueError(f"{name} is {given}; give a number, or {d}, one for each coordinate.")
        sides[name] = np.broadcast_to(array, d).copy()
    bottom, top, turn = sides["low"], sides["high"], sides["period"]
    if not (bottom < top).all():
        k = int(np.argmin(bottom < top))
        raise ValueError(f"coordinate {k} goes from {bottom[k]:g} to {top[k]:g}; low must be below high.")
    periodic = turn != 0
    wrong = periodic & ~np.isclose(top - bottom, turn)
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ValueError(
            f"coordinate {k} goes from {bottom[k]:g} to {top[k]:g}, and its period is {turn[k]:g}; the box needs to be "
            f"one period long: give high={bottom[k] + turn[k]:g}."
        )
    box = Box(bottom, top, periodic)
    if periodic.any():
        points = bottom + np.random.default_rng(0).random((16, d)) * box.sides
        here = landscape.values(points, progress=False)
        for k in np.flatnonzero(periodic).tolist():
            there = landscape.values(points + box.sides * (np.arange(d) == k), progress=False)
            if not np.allclose(here, there, rtol=1e-6, atol=1e-6 * np.abs(here).max()):
                raise ValueError(
                    f"the loss is not periodic in coordinate {k}: one period of {turn[k]:g} further it differs by up "
                    f"to {np.abs(here - there).max():g}. Give its period, or 0 where it has none."
                )
    return box


def _on_boundary(found: StationaryPoints, box: Box) -> tuple[int, int, Mask, int | None]:
    """Return at how many places on the boundary the loss falls outward, how many were asked, and the gradient's degree.

    And before the last, whether it may do so on each side at all, low and high of each coordinate, (d, 2). The degree
    is that of the gradient as a map from the boundary to directions (Morse 1929).
    """
    landscape, d = found.model, len(box.low)
    n = 1 if d == 1 else max(2, round(_ON_SIDE ** (1 / (d - 1))))
    falling = places = 0
    least = np.full((d, 2), np.inf)  # slope outwards, in units of the box, as far as is known
    along: list[Floats] = []  # gradients in units of the box, side by side
    for k in np.flatnonzero(~box.periodic).tolist():
        axes = [np.linspace(0, 1, n) if axis != k else np.zeros(1) for axis in range(d)]
        face = grid_points(axes)
        for side, sign in ((0.0, -1.0), (1.0, 1.0)):
            face[:, k] = side
            _, gradients = landscape.gradients(box.low + face * box.sides, progress=False)
            outward = sign * gradients[:, k] * box.sides[k]
            falling += int((~(outward > 0)).sum())
            wrong = 0.0 if found.interpolant is None else found.interpolant.errors(face)[:, k]
            # On a line the places are so near that what changes between them is seen.
            between = np.abs(np.diff(outward)).max() if d == 2 else 0.0
            least[k, int(side)] = (outward - wrong).min() - between
            places += len(face)
            along.append(gradients * box.sides)
    largest = max((np.abs(slopes).max() for slopes in along), default=0.0)
    rises = least <= _ZERO * largest
    return falling, places, rises, None if d > 2 or box.periodic.any() else _degree(landscape, box, along)


def _degree(landscape: Landscape, box: Box, along: list[Floats]) -> int | None:
    """Return the degree of gradients from those on the sides of a box, low and high of each coordinate; None: unknown.

    Where they turn much from one place to the next, places between are asked.
    """
    if landscape.dimension == 1:
        low, high = np.sign(along[0][0, 0]), np.sign(along[1][0, 0])
        return None if low * high == 0 else int(high - low) // 2
    left, right, bottom, top = (side[:, 0] + 1j * side[:, 1] for side in along)
    turned = np.concatenate([bottom, right, top[::-1], left[::-1], bottom[:1]])
    shares = np.linspace(0, 1, len(bottom))
    times = np.concatenate([shares, 1 + shares, 2 + shares, 3 + shares, [4.0]])
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    for _ in range(_BETWEEN):
        if np.abs(turned).min() <= _ZERO * np.abs(turned).max():
            return None
        steps = np.angle(turned[1:] / turned[:-1])
        far = np.flatnonzero(np.abs(steps) > _TURNED)
        if len(far) == 0:
            return round(steps.sum() / (2 * np.pi))
        middle = (times[far] + times[far + 1]) / 2
        side = np.minimum(middle.astype(np.int64), 3)
        units = corners[side] + (middle - side)[:, None] * (corners[side + 1] - corners[side])
        slopes = landscape.gradients(box.low + units * box.sides, progress=False)[1] * box.sides
        times = np.insert(times, far + 1, middle)
        turned = np.insert(turned, far + 1, slopes[:, 0] + 1j * slopes[:, 1])
    return None


def _summed(joins: Integers) -> tuple[Integers, Integers]:
    """Return arcs with the numbers of their lines, and the sums of their signs."""
    pairs, which = np.unique(joins[:, :2], axis=0, return_inverse=True)
    which = which.reshape(-1)
    numbers = np.bincount(which, minlength=len(pairs))
    signs = np.bincount(which, weights=joins[:, 2], minlength=len(pairs)).astype(np.int64)
    return np.column_stack([pairs, numbers]).astype(np.int64), signs
