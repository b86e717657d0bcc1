"""Balanced scales, and the normal form of a point among its copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.symmetry.elements import (
    Arrays,
    Group,
    Place,
    Symmetry,
    act_on,
    arrays_of,
    entries_of,
    first_of,
    points_of,
    rows_of,
)
from topolandscape.structures import Floats, Integers

BALANCING_SWEEPS = 10_000


def canonical(symmetry: Symmetry, points: ArrayLike) -> Floats:
    """Return a normal form of points: the same one, up to rounding, for all copies of a point.

    Parameters
    ----------
    symmetry
        Of the landscape of the points.
    points
        Shape (dimension,) or (n, dimension).

    Returns
    -------
    float64 array
        The normal forms, copies of the points, of their shape.

    Notes
    -----
    Scales: the copy of least norm, in which the weights into and out of every unit have equal norms (Stock, Graham,
    Gribonval and Jegou 2019); units with nothing in or nothing out, whose scale has no best value, are left.
    Then, from the inputs to the outputs: signs such that the largest of the entries into a unit is positive; units
    sorted by their first entry, then by the next. Only entries count that no sign or permutation still to be chosen
    can change: the weights from units that are done, the biases, the weights to outputs.

    Points have to be in general position: two units with the same entries, or a unit with two largest entries of
    opposite sign, are in the order and of the sign in which they came. So are units that are fed by nothing but
    each other (a weight with the same units on both axes). O(p log h), h being the units of a group, after a number
    of passes over the p parameters that grows with the depth, if there are scales.

    Examples
    --------
    >>> from topolandscape.landscape.pure import Block
    >>> from topolandscape.landscape.symmetry import Scaling
    >>> places = Place("in", 0, 0, 1), Place("out", 1, 0, 1)
    >>> group = Group("in", 2, True, places, (Scaling("sign", places[:1], places[1:]),))
    >>> blocks = Block("in", slice(0, 4), (2, 2)), Block("out", slice(4, 6), (1, 2))
    >>> canonical(Symmetry(6, blocks, (group,)), [1, 2, -3, 0, 5, 6]).tolist()
    [1.0, 2.0, 3.0, -0.0, 5.0, -6.0]
    """
    rows, shape = rows_of(symmetry, points, "points")
    arrays = arrays_of(symmetry, rows)
    balance(symmetry, arrays)
    pending = [
        choice
        for g, group in enumerate(symmetry.groups)
        for choice in (
            *(Choice(g, s) for s, scaling in enumerate(group.scalings) if scaling.signed),
            *([Choice(g, None)] if group.permuted else []),
        )
    ]
    while pending:
        settled = {choice: settled_places(symmetry, choice, pending) for choice in pending}
        choice = first_of(pending, settled, arrays)
        pending.remove(choice)
        group = symmetry.groups[choice.group]
        order = np.tile(np.arange(group.units), (len(rows), 1))
        factors = np.ones((len(rows), len(group.scalings), group.units))
        if settled[choice]:
            entries = np.concatenate([entries_of(arrays, place, group.units) for place in settled[choice]], axis=2)
            if choice.scaling is None:
                order = sorted_rows(entries)
            else:
                largest = np.abs(entries).argmax(axis=2)[:, :, None]
                negative = np.take_along_axis(entries, largest, axis=2)[:, :, 0] < 0
                factors[:, choice.scaling] = np.where(negative, -1.0, 1.0)
        act_on(arrays, group, order, factors)
    return points_of(symmetry, arrays).reshape(shape)


def balance(symmetry: Symmetry, arrays: Arrays) -> list[Floats]:
    """Bring points to the copies of least norm, in place; return the factors of each group, (n, scalings, units).

    Every step is exact along one scaling, or along half of it where a parameter has its units on both axes.
    """
    n = len(arrays[symmetry.blocks[0].name])
    done = [np.ones((n, len(group.scalings), group.units)) for group in symmetry.groups]
    scaled = [(g, s) for g, group in enumerate(symmetry.groups) for s, x in enumerate(group.scalings) if x.scaled]
    moving = np.ones(n, dtype=bool)
    for _ in range(BALANCING_SWEEPS if scaled else 0):
        furthest = np.zeros(n)
        for g, s in scaled:
            group = symmetry.groups[g]
            incoming, outgoing = (squares_of(arrays, places, group.units) for places in group.scalings[s][1:])
            known = (incoming > 0) & (outgoing > 0) & moving[:, None]
            ratio = np.divide(outgoing, incoming, out=np.ones_like(incoming), where=known)
            step = np.ones_like(done[g])
            step[:, s] = ratio ** (0.125 if is_coupled(group) else 0.25)
            act_on(arrays, group._replace(permuted=False), np.zeros(0, dtype=np.int64), step)
            done[g] *= step
            furthest = np.maximum(furthest, np.abs(step[:, s] - 1).max(axis=1))
        # Steps of the size of rounding come to no end.
        moving &= furthest > 1e-14
        if not moving.any():
            break
    return done


def unbalance(symmetry: Symmetry, arrays: Arrays, factors: Sequence[Floats]) -> None:
    """Divide by the factors of `balance`, in place."""
    for group, own in zip(symmetry.groups, factors, strict=True):
        act_on(arrays, group._replace(permuted=False), np.zeros(0, dtype=np.int64), 1 / own)


def squares_of(arrays: Arrays, places: Sequence[Place], units: int) -> Floats:
    """Return the sum of the squared entries of each unit, (n, units)."""
    return sum((np.square(entries_of(arrays, place, units)).sum(axis=2) for place in places), np.zeros(()))


def is_coupled(group: Group) -> bool:
    """Return whether a parameter has the units of a group on more than one axis."""
    return len({place.name for place in group.places}) < len({(place.name, place.axis) for place in group.places})


class Choice(NamedTuple):
    """What `canonical` has to choose: the signs of a scaling of a group, or (None) the order of its units."""

    group: int
    scaling: int | None


def settled_places(symmetry: Symmetry, choice: Choice, pending: Sequence[Choice]) -> list[Place]:
    """Return the places by which a choice can be made: no other pending one changes the rows of entries there.

    Along the axis of its own units it may itself, and may the order of the same units, which moves whole rows.
    """

    def changed_by(choice: Choice) -> tuple[Place, ...]:
        group = symmetry.groups[choice.group]
        if choice.scaling is None:
            return group.places
        return group.scalings[choice.scaling].incoming + group.scalings[choice.scaling].outgoing

    def safe(place: Place, other: Choice) -> bool:
        axes = {changed.axis for changed in changed_by(other) if changed.name == place.name}
        return axes <= ({place.axis} if other in (choice, Choice(choice.group, None)) else set())

    places = [place for place in changed_by(choice) if all(safe(place, other) for other in pending)]
    if choice.scaling is None:
        return places
    incoming = symmetry.groups[choice.group].scalings[choice.scaling].incoming
    return [place for place in places if place in incoming] or places


def sorted_rows(entries: Floats) -> Integers:
    """Return the orders (n, units) of rows (n, units, entries), by the first entry, then by the next ..."""
    scale = np.abs(entries).max(axis=(1, 2), keepdims=True)
    # Copies differ by rounding, which must not decide between entries that are equal.
    keys = np.round(entries / np.where(scale > 0, scale, 1.0), 9)
    return np.stack([np.lexsort(rows.T[::-1]) for rows in keys])
