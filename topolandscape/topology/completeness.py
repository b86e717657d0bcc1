"""Whether a Morse complex has all its critical points and flow lines, as far as topology can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from topolandscape.structures import Barcode, Integers, MorseComplex
from topolandscape.structures.arrays import frozen, settle


@dataclass(frozen=True, eq=False)
class Completeness:
    """What topology says of a Morse complex.

    Parameters
    ----------
    betti
        Betti numbers of the complex over the rational numbers, (dimension + 1,).
    expected
        Those of its domain; None: not known.
    missing
        What shows that something is missing, in words; empty where nothing does.
    unknown
        What could not be decided, in words.
    """

    betti: Integers
    expected: Integers | None
    missing: tuple[str, ...]
    unknown: tuple[str, ...]

    def __post_init__(self) -> None:
        """Freeze the arrays."""
        expected = None if self.expected is None else frozen(self.expected, np.int64, "expected", 1)
        settle(self, betti=frozen(self.betti, np.int64, "betti", 1), expected=expected)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing that these tests see, and nothing is undecided."""
        return not self.missing and not self.unknown

    def __str__(self) -> str:
        """Return all findings, one a line."""
        return "\n".join(
            [*(f"missing: {said}" for said in self.missing), *(f"unknown: {said}" for said in self.unknown)]
        )

    def __repr__(self) -> str:
        """Return one line: how many findings."""
        if self.complete:
            return "Completeness(nothing is missing)"
        return f"Completeness({len(self.missing)} missing, {len(self.unknown)} unknown)"


def completeness(
    morse: MorseComplex,
    *,
    betti: Integers | list[int] | None = None,
    against: Barcode | None = None,
    tolerance: float = 0.0,
) -> Completeness:
    """Say what is missing in a Morse complex.

    Parameters
    ----------
    morse
        Of `critical_points`, or any other.
    betti
        Betti numbers of the domain, from degree 0 on; None: those in the provenance, where they are known: of a box
        with what is critical on its boundary, or on whose boundary the loss rises outward, or of a torus.
    against
        A barcode of the same function on a sample; its degrees are compared, as far as those of `morse` are known.
    tolerance
        By how much births and deaths of that barcode may be wrong.

    Returns
    -------
    Completeness
        Its `missing` is empty where the Euler characteristic is that of the domain, or where it is not known the degree
        of the gradient on the boundary, Morse's inequalities hold, the boundary of a boundary is zero, each point of
        index 1 has its two lines down, the homology of the complex is that of the domain, and the bars match. All that
        is necessary; it is no proof that nothing is missing: a minimum and a saddle that are both missed leave no
        trace, but in `against`.

    Notes
    -----
    Bars match when those longer than twice the tolerance, on both sides, can be paired with different bars of the other
    side whose ends are no further away than the tolerance: when the bottleneck distance is no larger.

    Examples
    --------
    A saddle without its other minimum:

    >>> points = {"vertex": [-1, -1], "cell": [-1, -1]}
    >>> morse = MorseComplex(index=[0, 1], value=[0.0, 1.0], arcs=[[1, 0, 1]], coefficient=[1], **points)
    >>> print(completeness(morse, betti=[1, 0]))
    missing: the Euler characteristic is 0 and not 1, so that at least 1 point of even index is missing
    missing: row 1 of index 1 has 1 line down, not 2
    """
    said, missing, unknown = morse.provenance, [], []
    top = max(morse.dimension, 0)
    known = said.get("betti") if betti is None else betti
    expected = None if known is None else np.asarray(known, dtype=np.int64)
    counts, own = _betti(morse, top if expected is None else max(top, len(expected) - 1))
    if expected is None:
        unknown.append(
            "the topology of the domain"
            + (
                f": the loss falls outward at {said['falling']} of {said['places']} places"
                if said.get("falling")
                else ""
            )
        )
        missing += _against_degree(counts, said.get("degree"))
    else:
        expected = np.pad(expected, (0, len(own) - len(expected)))
        missing += _against_domain(counts, expected)
    open_ = _lines(morse)
    missing += open_
    if expected is not None and not open_ and not said.get("unknown"):  # else the homology is of nothing
        missing += [
            f"the complex has Betti number {own[k]} in degree {k}, its domain {expected[k]}"
            for k in np.flatnonzero(own != expected).tolist()
        ]
    if against is not None:
        missing += _against_bars(morse, against, tolerance)
    if said.get("missed"):
        unknown.append(f"only random starts found {said['missed']} of the points; there may be more")
    if said.get("undecided"):
        unknown.append(f"whether there is a point in {said['undecided']} of the cells of the search")
    unknown += _listed(said.get("left", []), "lines down left the box")
    unknown += _listed(said.get("unfinished", []), "lines could not be followed to their ends")
    unknown += [f"lines from index {k} to {k - 1} were not looked for" for k in said.get("unknown", [])]
    return Completeness(own, expected, tuple(missing), tuple(unknown))


def _betti(morse: MorseComplex, top: int) -> tuple[Integers, Integers]:
    """Return how many points there are of each index, and the Betti numbers of the complex."""
    counts = np.bincount(morse.index, minlength=top + 1)
    ranks = np.zeros(top + 2, dtype=np.int64)
    for k in range(1, top + 1):
        if counts[k - 1] and counts[k]:
            ranks[k] = np.linalg.matrix_rank(morse.boundary(k).toarray().astype(np.float64))
    return counts, counts - ranks[: top + 1] - ranks[1 : top + 2]


def _against_domain(counts: Integers, expected: Integers) -> list[str]:
    missing = []
    signs = (-1) ** np.arange(len(counts))
    excess = int(signs @ (counts - expected))
    if excess:
        parity = "odd" if excess > 0 else "even"
        missing.append(
            f"the Euler characteristic is {signs @ counts} and not {signs @ expected}, so that at least {abs(excess)} "
            f"point{'s' * (abs(excess) != 1)} of {parity} index {'is' if abs(excess) == 1 else 'are'} missing"
        )
    for k in range(len(counts)):
        alternating = int(signs[: k + 1] @ (counts - expected)[: k + 1]) * (-1) ** k
        if alternating < 0 and k < len(counts) - 1:
            missing.append(f"Morse's inequality of degree {k} does not hold: it lacks {-alternating}")
    return missing


def _against_degree(counts: Integers, degree: int | None) -> list[str]:
    """Compare with the degree of the gradient on the boundary, which is known where the topology is not."""
    total = int((-1) ** np.arange(len(counts)) @ counts)
    if degree is None or total == degree:
        return []
    return [
        f"the gradient turns {degree} times along the boundary, and the points make it turn {total} times, so that at "
        f"least {abs(total - degree)} of {'odd' if total > degree else 'even'} index must be missing"
    ]


def _lines(morse: MorseComplex) -> list[str]:
    """Say which lines are missing: two lead down from each point of index 1, and boundaries have none."""
    lines = np.bincount(morse.arcs[:, 0], weights=morse.arcs[:, 2], minlength=len(morse)).astype(np.int64).tolist()
    missing = [
        f"row {row} of index 1 has {lines[row]} line{'s' * (lines[row] != 1)} down, not 2"
        for row in morse.rows(1).tolist()
        if lines[row] != 2
    ]
    unknown = morse.provenance.get("unknown", ())
    for k in range(2, morse.dimension + 1):
        if k in unknown or k - 1 in unknown:
            continue
        twice = (morse.boundary(k - 1) @ morse.boundary(k)).tocsc()
        twice.eliminate_zeros()
        open_ = morse.rows(k)[np.flatnonzero(np.diff(twice.indptr))]
        if len(open_):
            missing.append(
                f"the boundary of the boundary of rows {open_.tolist()} of index {k} is not zero: lines are missing"
            )
    return missing


def _against_bars(morse: MorseComplex, against: Barcode, tolerance: float) -> list[str]:
    from topolandscape.topology.persistence import barcode, last_known_degree

    missing = []
    degrees = np.unique(against.dim)
    degrees = degrees[degrees <= last_known_degree(morse)]
    own = barcode(morse, max_dim=min(int(degrees.max(initial=0)), max(morse.dimension, 0)))
    for k in degrees.tolist():
        a, b = own.filter(dim=k), against.filter(dim=k)
        with np.errstate(invalid="ignore"):
            birth, death = np.abs(a.birth[:, None] - b.birth), np.abs(a.death[:, None] - b.death)
        close = (birth <= tolerance) & ((death <= tolerance) | (a.essential[:, None] & b.essential))
        for bars, pairs, of in ((a, close, "this complex"), (b, close.T, "the other barcode")):
            rows = np.flatnonzero(bars.persistence > 2 * tolerance)
            match = maximum_bipartite_matching(csr_array(pairs[rows].astype(np.int8)), perm_type="column")
            alone = int((match < 0).sum())
            if alone:
                missing.append(
                    f"{alone} of {len(rows)} bars of degree {k} of {of} that are longer than {2 * tolerance:g} "
                    f"{'has' if alone == 1 else 'have'} none beside {'it' if alone == 1 else 'them'}"
                )
    return missing


def _listed(rows: list[int], what: str) -> list[str]:
    return [f"{what}: from rows {sorted(set(rows))}"] if rows else []
