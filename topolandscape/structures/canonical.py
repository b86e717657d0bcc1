"""The canonical form of a filtered complex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np

from topolandscape.structures.arrays import Integers, check_length, frozen, read_only, settle

Chain = Mapping[int, int | Fraction]  # coefficients by row


@dataclass(frozen=True, eq=False)
class CanonicalForm:
    """A filtered complex over a field, written as a sum of pieces of one and two dimensions (Barannikov 1994).

    Parameters
    ----------
    pairs
        Rows in pairs, the one that begins a class and the one that ends it, (b, 2).
    essential
        Rows that begin a class that never ends, (e,).
    basis
        For each row a chain, whose last row it is. The boundary of the second chain of a pair is the first; the
        boundaries of all other chains are zero.
    coefficients
        The field: a prime p for the integers modulo p, 0 for the rationals.
    provenance
        How it was made.

    Examples
    --------
    A saddle, row 2, at which the component of the minimum of row 1 meets that of row 0:

    >>> form = CanonicalForm([[1, 2]], [0], [{0: 1}, {0: -1, 1: 1}, {2: 1}], coefficients=0)
    >>> form
    CanonicalForm(1 pair, 1 essential, over the rationals)
    >>> dict(form.cycle(1))
    {0: -1, 1: 1}
    """

    pairs: Integers
    essential: Integers
    basis: Sequence[Chain]
    coefficients: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Freeze the arrays; check that every row has one part, and a chain of which it is the last."""
        pairs = frozen(np.reshape(self.pairs, (-1, 2)), np.int64, "pairs", 2)
        essential = frozen(self.essential, np.int64, "essential", 1)
        rows = np.sort(np.concatenate([pairs.reshape(-1), essential]))
        check_length(rows, len(self.basis), "pairs and essential", "chains")
        if not np.array_equal(rows, np.arange(len(rows))) or (pairs[:, 0] >= pairs[:, 1]).any():
            raise ValueError("every row is in one pair or essential, and a pair begins with its earlier row.")
        wrong = [
            row for row, chain in enumerate(self.basis) if max(chain, default=-1) != row or not all(chain.values())
        ]
        if wrong:
            raise ValueError(f"basis[{wrong[0]}] ends with another row, or has a coefficient that is zero.")
        basis = tuple(MappingProxyType(dict(chain)) for chain in self.basis)
        settle(self, pairs=pairs, essential=essential, basis=basis, provenance=read_only(self.provenance))

    def cycle(self, row: int) -> Chain:
        """Return the cycle that represents the class which `row` begins."""
        if row in self.pairs[:, 1] or not 0 <= row < len(self.basis):
            raise ValueError(f"row {row} begins no class; take one of pairs[:, 0] or of essential.")
        return self.basis[row]

    def __repr__(self) -> str:
        """Return one line: how many pieces of each kind, over which field."""
        name = f"integers modulo {self.coefficients}" if self.coefficients else "rationals"
        pairs = f"{len(self.pairs)} pair{'s' * (len(self.pairs) != 1)}"
        return f"CanonicalForm({pairs}, {len(self.essential)} essential, over the {name})"
