"""What ties the units of a network, collected step by step; and the groups that are left to permute and scale."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from topolandscape.landscape.symmetry.elements import Group, Kind, Place, Scaling
from topolandscape.landscape.symmetry.units import NotUnderstood, Part, Parts, Use, Value, alike


class Ties:
    """Units, which of them have to change together, and what they have to keep.

    Parameters
    ----------
    shapes
        Of the parameters, by their first names.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.left_out: list[str] = []
        # Numbers of orders and scales; those of each link are the same.
        self._numbers = 0
        self._links: list[tuple[int, int]] = []
        self._still: set[int] = set()
        self._unscaled: set[int] = set()
        self._unsigned: set[int] = set()
        self._uses: dict[tuple[str, int], Use] = {}

    def made(self, units: int) -> Parts:
        """Return new units."""
        self._numbers += 2
        return (Part(units, 1, self._numbers - 2, self._numbers - 1),)

    def scaled_anew(self, parts: Parts) -> Parts:
        """Return the same units, with scales of their own."""
        first = self._numbers
        self._numbers += len(parts)
        return tuple(part._replace(scale=first + i) for i, part in enumerate(parts))

    def fitting(self, x: Value, length: int) -> Parts:
        """Return the parts of a dimension of known length; raise where they do not make it up."""
        parts = x.resolved(length)
        if parts is None:
            raise NotUnderstood(f"it takes {length} entries, which the units before do not make up")
        return parts

    def keep_places(self, parts: Parts) -> None:
        """Let units stay where they are."""
        self._still |= {part.order for part in parts}

    def keep_scales(self, parts: Parts) -> None:
        """Let units keep their scales, but for signs."""
        self._unscaled |= {part.scale for part in parts}

    def keep_signs(self, parts: Parts) -> None:
        """Let units keep their signs."""
        self._unsigned |= {part.scale for part in parts}

    def rigid(self, parts: Parts) -> None:
        """Let units keep scales and signs."""
        self.keep_scales(parts)
        self.keep_signs(parts)

    def freeze(self, *several: Parts | None) -> None:
        """Let units keep places, scales and signs."""
        for parts in several:
            self.keep_places(parts or ())
            self.rigid(parts or ())

    def link(self, one: Parts, other: Parts, *, scales: bool) -> None:
        """Tie units to others: they change places together and, on request, scales."""
        for a, b in zip(one, other, strict=True):
            self._links.append((a.order, b.order))
            if scales:
                self._links.append((a.scale, b.scale))

    def use(self, name: str, uses: dict[int, Use]) -> None:
        """Note what lies along each axis of a parameter; tie it to what is known from another use of it."""
        for axis in range(len(self.shapes[name])):
            use = uses.get(axis, Use())
            known = self._uses.setdefault((name, axis), use)
            pairs = list(zip(known, use, strict=True))
            if all((a is None) == (b is None) and alike(a or (), b or ()) for a, b in pairs):
                for role, (a, b) in enumerate(pairs):
                    self.link(a or (), b or (), scales=role > 0)
            else:
                self.freeze(*known, *use)
                self.left_out.append(f"the parameter {name} is used in several ways.")

    def groups(self, varying: Collection[str], *, weight_decay: bool) -> tuple[Group, ...]:
        """Return the groups that may be permuted or scaled.

        Parameters
        ----------
        varying
            Names of the parameters that vary.
        weight_decay
            Whether scales change the loss.
        """
        for (name, _), use in self._uses.items():
            if name not in varying and use.units is not None:
                self.freeze(use.units, use.times, use.over)
                self.left_out.append(f"the parameter {name} is fixed.")
        find = _classes(self._numbers, self._links)
        still, unscaled, unsigned = (
            {find[i] for i in numbers} for numbers in (self._still, self._unscaled, self._unsigned)
        )
        orders: dict[int, tuple[int, dict[Place, None]]] = {}
        scales: dict[int, dict[int, tuple[dict[Place, None], dict[Place, None]]]] = {}
        for (name, axis), use in self._uses.items():
            for role, parts in enumerate(use):
                start = 0
                for part in parts or ():
                    order, place = find[part.order], Place(name, axis, start, part.repeats)
                    start += part.units * part.repeats
                    if role == 0:
                        orders.setdefault(order, (part.units, {}))[1][place] = None
                    else:
                        sides = scales.setdefault(order, {}).setdefault(find[part.scale], ({}, {}))
                        sides[role - 1][place] = None
        groups = []
        for order, (units, places) in sorted(orders.items()):
            scalings = []
            for scale, (times, over) in sorted(scales.get(order, {}).items()):
                # What is multiplied and divided by the same factors stays as it is.
                incoming, outgoing = (tuple(p for p in a if p not in b) for a, b in ((times, over), (over, times)))
                signs = scale not in unsigned and bool(incoming)
                free = scale not in unscaled and not weight_decay and bool(incoming) and bool(outgoing)
                if signs or free:
                    kind: Kind = "both" if signs and free else "sign" if signs else "scale"
                    scalings.append(Scaling(kind, incoming, outgoing))
            permuted = order not in still and units > 1
            if permuted or scalings:
                name = next(iter(places)).name
                groups.append(Group(name.rpartition(".")[0] or name, units, permuted, tuple(places), tuple(scalings)))
        return tuple(groups)


def _classes(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each number the least one that it is linked to."""
    least = list(range(count))

    def root(i: int) -> int:
        while least[i] != i:
            i = least[i]
        return i

    for one, other in links:
        low, high = sorted((root(one), root(other)))
        least[high] = low
    return [root(i) for i in range(count)]
