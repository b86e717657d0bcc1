"""Symmetries of a network as values: where units occur, what may be done to them, and doing it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from topolandscape.landscape.directions import Seed
from topolandscape.landscape.points import as_float64, read_points
from topolandscape.landscape.pure import Block
from topolandscape.structures import Floats, Integers

Kind = Literal["sign", "scale", "both"]

# Numbers in the arrays of the pairs that are matched at once.
NUMBERS_AT_ONCE = 2**23

# Layers by the number of their spatial dimensions.
TRANSPOSED: dict[type, int] = {nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3}
CONVOLUTIONS: dict[type, int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3, **TRANSPOSED}


class Place(NamedTuple):
    """Where the units of a group occur in one parameter.

    Attributes
    ----------
    name
        Of the parameter.
    axis
        Of the parameter, along which the units lie.
    start, repeats
        Entries ``start + i * repeats`` up to ``start + (i + 1) * repeats`` along the axis belong to unit i.
    """

    name: str
    axis: int
    start: int
    repeats: int


class Scaling(NamedTuple):
    """Factors, one a unit, that leave the loss when some entries are multiplied and others divided by them.

    Attributes
    ----------
    kind
        "sign": the factors are 1 and -1; "scale": positive numbers; "both": any but zero.
    incoming, outgoing
        What is multiplied, and what is divided.
    """

    kind: Kind
    incoming: tuple[Place, ...]
    outgoing: tuple[Place, ...]

    @property
    def signed(self) -> bool:
        """Whether factors may be negative."""
        return self.kind != "scale"

    @property
    def scaled(self) -> bool:
        """Whether factors may be other than 1 and -1."""
        return self.kind != "sign"


class Group(NamedTuple):
    """Hidden units (neurons or channels) that change places together.

    Attributes
    ----------
    name
        The first layer that makes them.
    units
        How many there are.
    permuted
        Whether they may be permuted; where not, they may be scaled.
    places
        All entries that belong to them.
    scalings
        None, or one, or several: batch norm, for example, undoes scales before it and brings in those behind it.
    """

    name: str
    units: int
    permuted: bool
    places: tuple[Place, ...]
    scalings: tuple[Scaling, ...]


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The symmetries of a landscape that its network shows; made by `symmetry_of`.

    Parameters
    ----------
    dimension
        Number of coordinates of a point.
    blocks
        (name, entries, shape) of every varying parameter, as in the landscape.
    groups
        Units that may be permuted or scaled, from the inputs to the outputs.
    left_out
        What was not understood, or stands in the way of a symmetry: one sentence each.
    """

    dimension: int
    blocks: tuple[Block, ...]
    groups: tuple[Group, ...]
    left_out: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many copies a point in general position has, itself included.

        The product of h! for every group of h permuted units, and of 2^h for every choice of h signs. Scales make
        whole manifolds of copies; these count once.
        """
        orders = math.prod(math.factorial(group.units) for group in self.groups if group.permuted)
        signs = sum(group.units for group in self.groups for scaling in group.scalings if scaling.signed)
        return orders * 2**signs

    def __repr__(self) -> str:
        """Return one line: the groups with what may be done to them."""
        return f"Symmetry({'; '.join(map(_described, self.groups)) or 'none found'})"


@dataclass(frozen=True, eq=False)
class Element:
    """One symmetry: what becomes of every unit.

    Parameters
    ----------
    permutations
        For each group, which of the old units becomes the i-th one, (units,).
    factors
        For each group, by what the i-th unit is then multiplied, (scalings, units).
    """

    permutations: tuple[Integers, ...]
    factors: tuple[Floats, ...]


def random_element(symmetry: Symmetry, seed: Seed) -> Element:
    """Draw a symmetry: uniform permutations and signs, scales between one half and two.

    Parameters
    ----------
    symmetry
        Of a landscape.
    seed
        A whole number or a numpy Generator.

    Returns
    -------
    Element
        To be used with `apply`.

    Examples
    --------
    >>> group = Group("0", 3, True, (Place("0.weight", 0, 0, 1),), ())
    >>> symmetry = Symmetry(3, (Block("0.weight", slice(0, 3), (3, 1)),), (group,))
    >>> sorted(random_element(symmetry, 0).permutations[0].tolist())
    [0, 1, 2]
    """
    rng = np.random.default_rng(seed)
    permutations, factors = [], []
    for group in symmetry.groups:
        permutations.append(rng.permutation(group.units) if group.permuted else np.arange(group.units))
        own = np.ones((len(group.scalings), group.units))
        for row, scaling in zip(own, group.scalings, strict=True):
            if scaling.scaled:
                row *= np.exp2(rng.uniform(-1, 1, group.units))
            if scaling.signed:
                row *= rng.choice([-1.0, 1.0], group.units)
        factors.append(own)
    return Element(tuple(permutations), tuple(factors))


def apply(symmetry: Symmetry, points: ArrayLike, element: Element) -> Floats:
    """Return copies of points, of the same loss.

    Parameters
    ----------
    symmetry
        Of the landscape of the points.
    points
        Shape (dimension,) or (n, dimension).
    element
        What is done to each of them.

    Returns
    -------
    float64 array
        The copies, of the shape of `points`.

    Raises
    ------
    ValueError
        The element is not one of this symmetry.

    Examples
    --------
    The rows (1, 2) and (3, 4) into two hidden units, and the row (5, 6) out of them:

    >>> places = Place("in", 0, 0, 1), Place("out", 1, 0, 1)
    >>> group = Group("in", 2, True, places, (Scaling("sign", places[:1], places[1:]),))
    >>> blocks = Block("in", slice(0, 4), (2, 2)), Block("out", slice(4, 6), (1, 2))
    >>> element = Element((np.array([1, 0]),), (np.array([[1.0, -1.0]]),))
    >>> apply(Symmetry(6, blocks, (group,)), [1, 2, 3, 4, 5, 6], element).tolist()
    [3.0, 4.0, -1.0, -2.0, 6.0, -5.0]
    """
    rows, shape = rows_of(symmetry, points, "points")
    check_element(symmetry, element)
    arrays = arrays_of(symmetry, rows)
    for group, permutation, factors in zip(symmetry.groups, element.permutations, element.factors, strict=True):
        act_on(arrays, group, np.tile(permutation, (len(rows), 1)), np.tile(factors, (len(rows), 1, 1)))
    return points_of(symmetry, arrays).reshape(shape)


# One array (n, *shape) for each parameter, of n points.
Arrays = dict[str, Floats]


def rows_of(symmetry: Symmetry, points: ArrayLike, name: str) -> tuple[Floats, tuple[int, ...]]:
    """Return points, (n, dimension), and the shape that they had."""
    array = as_float64(points, name)
    return read_points(array[None] if array.ndim == 1 else array, symmetry.dimension, name), array.shape


def pairs_of(
    symmetry: Symmetry, points: ArrayLike, references: ArrayLike, name: str
) -> tuple[Floats, Floats, tuple[int, ...]]:
    """Return points and references, (n, dimension) each, and the shape of the answer."""
    rows, one = rows_of(symmetry, points, "points" if name == "references" else "a")
    targets, other = rows_of(symmetry, references, name)
    if len(one) == len(other) == 2 and len(rows) != len(targets):
        raise ValueError(
            f"there are {len(rows)} points and {len(targets)} references; give one for each, or a single one for all."
        )
    n = max(len(rows), len(targets))
    shape = (n, symmetry.dimension) if len(one) == 2 or len(other) == 2 else (symmetry.dimension,)
    rows, targets = (np.broadcast_to(array, (n, symmetry.dimension)) for array in (rows, targets))
    return rows, targets, shape


def pieces_of(symmetry: Symmetry, rows: Floats, targets: Floats) -> Iterator[tuple[Arrays, Arrays]]:
    """Give the arrays of as many pairs at once as fit."""
    largest = max([symmetry.dimension, *(group.units**2 for group in symmetry.groups)])
    chunk = max(1, NUMBERS_AT_ONCE // largest)
    for start in range(0, len(rows), chunk):
        part = slice(start, start + chunk)
        yield arrays_of(symmetry, rows[part]), arrays_of(symmetry, targets[part])


def arrays_of(symmetry: Symmetry, rows: Floats) -> Arrays:
    """Return the parameters of points, as copies."""
    return {name: rows[:, entries].reshape(len(rows), *shape).copy() for name, entries, shape in symmetry.blocks}


def points_of(symmetry: Symmetry, arrays: Arrays) -> Floats:
    """Return the points whose parameters these are."""
    return np.concatenate(
        [arrays[block.name].reshape(len(arrays[block.name]), -1) for block in symmetry.blocks], axis=1
    )


def along_units(arrays: Arrays, place: Place, units: int) -> Floats:
    """Return a view of the entries at a place, (n, units * repeats, *rest)."""
    return np.moveaxis(arrays[place.name], place.axis + 1, 1)[:, place.start : place.start + units * place.repeats]


def entries_of(arrays: Arrays, place: Place, units: int) -> Floats:
    """Return the entries at a place, one row a unit: (n, units, entries)."""
    along = along_units(arrays, place, units)
    return along.reshape(len(along), units, -1)


def act_on(arrays: Arrays, group: Group, permutations: Integers, factors: Floats) -> None:
    """Let unit i become unit permutations[:, i] times factors[:, :, i], in place; (n, units), (n, scalings, units)."""
    for place in group.places:
        along = along_units(arrays, place, group.units)
        shape = (len(along), -1, *(1,) * (along.ndim - 2))
        if group.permuted:
            index = permutations[:, :, None] * place.repeats + np.arange(place.repeats)
            along[...] = np.take_along_axis(along, index.reshape(shape), axis=1)
        for s, scaling in enumerate(group.scalings):
            times = factors[:, s].repeat(place.repeats, axis=1).reshape(shape)
            if place in scaling.incoming:
                along *= times
            if place in scaling.outgoing:
                along /= times


def check_element(symmetry: Symmetry, element: Element) -> None:
    """Raise when an element is not one of a symmetry."""
    if not len(element.permutations) == len(element.factors) == len(symmetry.groups):
        raise ValueError(
            f"the element has {len(element.permutations)} permutations and {len(element.factors)} arrays of factors; "
            f"the symmetry has {len(symmetry.groups)} groups. Give one of each for every group."
        )
    for g, group in enumerate(symmetry.groups):
        permutation, factors = np.asarray(element.permutations[g]), np.asarray(element.factors[g])
        units = np.arange(group.units)
        if permutation.shape != units.shape or (np.sort(permutation) != units).any():
            raise ValueError(f"permutations[{g}] is no permutation of {group.units} units; it needs each one once.")
        if not group.permuted and (permutation != units).any():
            raise ValueError(f"permutations[{g}] moves the units of {group.name}, which have to stay where they are.")
        if factors.shape != (len(group.scalings), group.units):
            raise ValueError(
                f"factors[{g}] has shape {factors.shape}; it needs shape {(len(group.scalings), group.units)}, one row "
                "for each scaling."
            )
        for s, (scaling, row) in enumerate(zip(group.scalings, factors, strict=True)):
            good = np.isfinite(row) & (row != 0)
            good &= (row > 0) | scaling.signed
            good &= (np.abs(row) == 1) | scaling.scaled
            if not good.all():
                i = int(np.argmin(good))
                needed = {"sign": "1 or -1", "scale": "a positive number", "both": "a number other than zero"}
                raise ValueError(f"factors[{g}][{s}, {i}] is {row[i]}; it needs to be {needed[scaling.kind]}.")


def _described(group: Group) -> str:
    """Return what may be done to a group, in words."""
    words = ["permutations"] if group.permuted else []
    words += ["signs"] if any(scaling.signed for scaling in group.scalings) else []
    words += ["scales"] if any(scaling.scaled for scaling in group.scalings) else []
    return f"{group.units} unit{'s' * (group.units != 1)} of {group.name}: {', '.join(words)}"


def first_of(pending: Sequence[Any], settled: Mapping[Any, Sequence[Place]], arrays: Arrays) -> Any:
    """Return what to choose next: the first for which weights are settled, or else biases."""
    by_weights = (choice for choice in pending if any(arrays[place.name].ndim > 2 for place in settled[choice]))
    by_others = (choice for choice in pending if settled[choice])
    return next(itertools.chain(by_weights, by_others, pending))
