"""What is computed from several barcodes: their distances, the bars they share, how far one of them can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topolandscape.structures.arrays import Floats, Integers, check_length, frozen, read_only, settle
from topolandscape.structures.results import Barcode


@dataclass(frozen=True, eq=False)
class DistanceMatrix:
    """Distances between several things, each to each.

    Parameters
    ----------
    names
        What they are called, (n,).
    values
        Distances, symmetric with a diagonal of zeros; infinite ones are kept, shape (n, n).
    provenance
        Which distance it is.

    Examples
    --------
    >>> DistanceMatrix(["narrow", "wide"], [[0.0, 1.5], [1.5, 0.0]])
    DistanceMatrix(2 names, distances 1.5 to 1.5)
    """

    names: Sequence[str]
    values: Floats
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the array and check that it holds distances."""
        names, values = tuple(map(str, self.names)), frozen(self.values, np.float64, "values", 2)
        n = len(names)
        if values.shape != (n, n):
            raise ValueError(f"values have shape {values.shape}, but there are {n} names; they must be ({n}, {n}).")
        if len(set(names)) != n:
            raise ValueError("two names are the same; give each row a name of its own.")
        if not ((values >= 0).all() and (values == values.T).all() and not np.diagonal(values).any()):
            raise ValueError("distances must be 0 or more, the same both ways, and 0 on the diagonal.")
        settle(self, names=names, values=values, provenance=read_only(self.provenance))

    def table(self) -> str:
        """Return the distances as text, a row and a column for each name."""
        width = max(10, *map(len, self.names))
        rows = [[name, *(f"{value:.4g}" for value in row)] for name, row in zip(self.names, self.values, strict=True)]
        return "\n".join("  ".join(f"{cell:>{width}}" for cell in row) for row in [["", *self.names], *rows])

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.names)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()

    def __repr__(self) -> str:
        """Return one line: how many names, which distances."""
        between = self.values[np.triu_indices(len(self), 1)]
        reach = f", distances {between.min():.4g} to {between.max():.4g}" if len(between) else ""
        return f"DistanceMatrix({len(self)} name{'s' * (len(self) != 1)}{reach})"


@dataclass(frozen=True, eq=False)
class BarBands:
    """The bars that several barcodes share, rank by rank: where they begin and end, and how much that varies.

    Bars that never end come first, by birth; then the others, the longest first.

    Parameters
    ----------
    birth, death
        Means over the barcodes that have such a bar, (k,); death = inf: bars that never end.
    birth_low, birth_high, death_low, death_high
        Between which losses births and deaths lie in a share `coverage` of these barcodes, (k,).
    count
        How many barcodes have such a bar, (k,).
    barcodes
        How many there are.
    coverage
        The share, between 0 and 1.
    provenance
        What 0 and 1 stand for, where the barcodes were normalised.

    Examples
    --------
    >>> BarBands([0.0], [np.inf], [0.0], [0.1], [np.inf], [np.inf], [5], barcodes=5, coverage=0.9)
    BarBands(1 bar of 5 barcodes)
    """

    birth: Floats
    death: Floats
    birth_low: Floats
    birth_high: Floats
    death_low: Floats
    death_high: Floats
    count: Integers
    barcodes: int
    coverage: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays and check that means lie where they can."""
        names = ("birth", "death", "birth_low", "birth_high", "death_low", "death_high")
        floats = {name: frozen(getattr(self, name), np.float64, name, 1) for name in names}
        count = frozen(self.count, np.int64, "count", 1)
        for name in names:
            check_length(floats[name], len(count), name, "bars")
        if not (np.isfinite(floats["birth"]).all() and (floats["death"] >= floats["birth"]).all()):
            raise ValueError("a mean birth is finite, and no mean death comes before it.")
        if ((count < 1) | (count > self.barcodes)).any():
            raise ValueError(f"each bar occurs in 1 to {self.barcodes} barcodes, got counts {count.tolist()}.")
        settle(self, count=count, provenance=read_only(self.provenance), **floats)

    @property
    def essential(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which bars never end, (k,)."""
        return np.isinf(self.death)

    def __len__(self) -> int:
        """Return the number of bars."""
        return len(self.count)

    def __repr__(self) -> str:
        """Return one line: how many bars of how many barcodes."""
        return f"BarBands({len(self)} bar{'s' * (len(self) != 1)} of {self.barcodes} barcodes)"


@dataclass(frozen=True, eq=False)
class ConfidenceBand:
    """A barcode of samples, and how far it may be from that of the landscape.

    Parameters
    ----------
    barcode
        Of all samples.
    radius
        Bottleneck distance within which the barcode of the landscape lies, with probability `confidence`.
    confidence
        Between 0 and 1.
    distances
        Bottleneck distances from which the radius was read: of the barcodes of subsamples, or of subsets of the data,
        to that of all, (r,).
    provenance
        What they are of.

    Examples
    --------
    >>> code = Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0), (1.0, 1.5)])
    >>> ConfidenceBand(code, 0.5, 0.95, [0.2, 0.5, 0.3])
    ConfidenceBand(radius 0.5 with confidence 0.95; 2 of 3 bars are longer than twice as much)
    """

    barcode: Barcode
    radius: float
    confidence: float
    distances: Floats
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the array and check the numbers."""
        if not (self.radius >= 0 and 0 < self.confidence < 1):
            raise ValueError(
                f"radius is {self.radius} and confidence {self.confidence}; a radius is 0 or more, and confidence "
                "lies between 0 and 1."
            )
        settle(
            self,
            distances=frozen(self.distances, np.float64, "distances", 1),
            provenance=read_only(self.provenance),
        )

    @property
    def significant(self) -> Barcode:
        """The bars longer than twice the radius: those that the landscape has as well. None when that is infinite."""
        if np.isinf(self.radius):
            return self.barcode.filter(max_bars=0)
        return self.barcode.filter(min_persistence=float(np.nextafter(2 * self.radius, np.inf)))

    def __repr__(self) -> str:
        """Return one line: the radius, and how many bars are longer than twice as much."""
        return (
            f"ConfidenceBand(radius {self.radius:.4g} with confidence {self.confidence:g}; {len(self.significant)} of "
            f"{len(self.barcode)} bars are longer than twice as much)"
        )
