"""The box in which critical points are looked for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from topolandscape.structures import Floats

Mask = NDArray[np.bool_]
# In units of the box: how far from its boundary, on either side, is on it.
EDGE = 1e-9


class Box(NamedTuple):
    """A box, some of whose sides may be glued together.

    Attributes
    ----------
    low, high
        Corners, (d,).
    periodic
        Which coordinates go round, (d,).
    """

    low: Floats
    high: Floats
    periodic: Mask

    @property
    def sides(self) -> Floats:
        """Lengths of the sides, (d,)."""
        return self.high - self.low

    def wrapped(self, points: Floats) -> Floats:
        """Return points with their periodic coordinates in the box."""
        turns = np.floor((points - self.low) / self.sides)
        return np.where(self.periodic, points - turns * self.sides, points)

    def holds(self, points: Floats, margin: float = 0.0) -> Mask:
        """Return which points lie in the box, by a margin in units of its sides."""
        far = margin * self.sides
        within = (points >= self.low - far) & (points <= self.high + far)
        return np.asarray((within | self.periodic).all(axis=1))

    def bounds(self, points: Floats) -> Mask:
        """Return which points lie on the boundary, but for rounding."""
        apart = np.minimum(np.abs(points - self.low), np.abs(points - self.high)) / self.sides
        return np.asarray(((apart <= EDGE) & ~self.periodic).any(axis=1))

    def check_finite(self, units: Floats, fine: Mask, what: str) -> None:
        """Raise where something is not finite at a place, given in units of the box, at which it is needed."""
        if not fine.all():
            place = (self.low + units[np.argmin(fine)] * self.sides).tolist()
            raise ValueError(
                f"{what} not finite at {place}, one of {int((~fine).sum())} such places of {len(fine)}; all are needed "
                "to find critical points. Choose a box where they are."
            )

    def tree(self, points: Floats) -> KDTree:
        """Return a tree of points that knows which sides are glued, in units of the box."""
        return KDTree(self.units(points), boxsize=np.where(self.periodic, 1.0, 0.0))

    def units(self, points: Floats) -> Floats:
        """Return points in units of the box, from its corner, ready to be looked up in a tree."""
        units = (points - self.low) / self.sides
        # The remainder of a number just below zero rounds to one, which the tree does not take.
        return np.where(self.periodic, np.mod(units, 1.0) % 1.0, units)
