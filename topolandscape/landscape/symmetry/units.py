"""Units on their way through a network: what has to change together, and where parameters hold it."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """Units side by side, each with `repeats` entries; `order` and `scale` number what has to change together."""

    units: int
    repeats: int
    order: int
    scale: int


Parts = tuple[Part, ...]


class Value(NamedTuple):
    """Activations: `trailing` dimensions stand behind that of the units.

    `stretched`: behind a flattening, so that each entry of the parts stands for a number of them, not yet known.
    """

    parts: Parts
    trailing: int
    stretched: bool = False

    def resolved(self, length: int) -> Parts | None:
        """Return the parts of a dimension of known length, None when they do not fit."""
        own = sum(part.units * part.repeats for part in self.parts)
        if length % own or (length != own and not self.stretched):
            return None
        return tuple(part._replace(repeats=part.repeats * (length // own)) for part in self.parts)


class Parameter(NamedTuple):
    """A parameter, by its first name, and which of its axes is the k-th one."""

    name: str
    axes: tuple[int, ...]


class Fixed:
    """A tensor whose entries have to stay as they are: inputs, outputs, what is not understood."""


class Size:
    """A number that depends on nothing but shapes."""


class Use(NamedTuple):
    """What lies along an axis of a parameter, and by whose factors it is multiplied and divided."""

    units: Parts | None = None
    times: Parts | None = None
    over: Parts | None = None


class NotUnderstood(Exception):
    """The step, or this use of it, is not known."""


FIXED, SIZE = Fixed(), Size()


def alike(one: Parts, other: Parts) -> bool:
    """Return whether units lie in the same way."""
    return [part[:2] for part in one] == [part[:2] for part in other]
