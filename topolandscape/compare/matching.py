"""Distances between barcodes, by matching their bars."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from topolandscape.structures import Barcode, DistanceMatrix, Floats, common_scale

Metric = Literal["bottleneck", "wasserstein"]


def bottleneck(a: Barcode, b: Barcode, *, dim: int = 0) -> float:
    """Return the bottleneck distance: the least loss by which bars must be moved to turn one barcode into the other.

    Bars are matched to bars, or to bars of no length; a bar is moved by the larger change of its birth and its death.
    Bars that never end are matched among themselves.

    Parameters
    ----------
    a, b
        Barcodes. Those of losses that differ by at most epsilon everywhere are at most epsilon apart (stability).
    dim
        Degree of the bars.

    Returns
    -------
    float
        Exact. Infinite where not as many bars of one never end as of the other.

    Raises
    ------
    ValueError
        One barcode is `normalised` and the other is not.

    Warns
    -----
    UserWarning
        The barcodes are of grids with different neighbours, which differ also where the losses do not.

    Notes
    -----
    Cohen-Steiner, Edelsbrunner and Harer (2007), "Stability of persistence diagrams". Computed by Hera (Kerber, Morozov
    and Nigmetov 2017), in time near b^1.5 log b.

    Examples
    --------
    >>> narrow = Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0)])
    >>> wide = Barcode.from_pairs([(0.1, float("inf"))])
    >>> bottleneck(narrow, wide)
    1.0
    >>> bottleneck(narrow, Barcode.from_pairs([(0.0, 1.0)]))
    inf
    """
    _check_comparable(a, b)
    endless, one, other = _parts(a, b, dim)
    if endless is None:
        return math.inf
    from gudhi.hera import bottleneck_distance

    return max(float(endless.max(initial=0.0)), float(bottleneck_distance(one, other, 0.0)))


def wasserstein(a: Barcode, b: Barcode, *, p: float = 1.0, ground: float = math.inf, dim: int = 0) -> float:
    """Return the p-Wasserstein distance: the p-th root of the least sum of p-th powers by which bars must be moved.

    Bars are matched as for the `bottleneck` distance, which is the limit of large p.

    Parameters
    ----------
    a, b
        Barcodes.
    p
        Power, 1 or more.
    ground
        Which norm says how far a bar is moved, 1 or more: ``inf``: the larger change of birth and death; 2: the
        Euclidean one, as in persim. Distances by different norms are not to be compared.
    dim
        Degree of the bars.

    Returns
    -------
    float
        Exact but for rounding. Infinite where not as many bars of one never end as of the other.

    Raises
    ------
    ValueError
        `p` or `ground` is not possible, or one barcode is `normalised` and the other is not.

    Warns
    -----
    UserWarning
        The barcodes are of grids with different neighbours, which differ also where the losses do not.

    Notes
    -----
    Cohen-Steiner, Edelsbrunner, Harer and Mileyko (2010), "Lipschitz functions have L_p-stable persistence". Matched by
    the Hungarian algorithm (Jonker and Volgenant 1987): memory b^2, time b^3 at worst.

    Examples
    --------
    >>> narrow = Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0)])
    >>> wide = Barcode.from_pairs([(0.5, float("inf"))])
    >>> wasserstein(narrow, wide), round(wasserstein(narrow, wide, ground=2), 6)
    (1.5, 1.914214)
    """
    if not 1 <= p < math.inf:
        raise ValueError(f"p is {p}; it needs to be 1 or more and finite. The limit of large p is bottleneck().")
    if not ground >= 1:
        raise ValueError(
            f"ground is {ground}; it needs to be 1 or more: 2 is the Euclidean norm, inf the largest change."
        )
    from scipy.optimize import linear_sum_assignment

    _check_comparable(a, b)
    endless, one, other = _parts(a, b, dim)
    if endless is None:
        return math.inf
    moved, gone, come = _costs(one, other, ground)
    unit = max(float(array.max(initial=0.0)) for array in (gone, come, endless)) or 1.0  # powers stay near 1
    # What moves further than both are long is not matched, however much further.
    moved, gone, come = np.minimum(moved / unit, 2.0) ** p, (gone / unit) ** p, (come / unit) ** p
    gain = np.minimum(moved - gone[:, None] - come, 0.0)  # of matching two bars, over leaving both unmatched
    rows, columns = linear_sum_assignment(gain)
    matched = gain[rows, columns] < 0
    rows, columns = rows[matched], columns[matched]
    total = moved[rows, columns].sum() + np.delete(gone, rows).sum() + np.delete(come, columns).sum()
    return float(unit * (total + ((endless / unit) ** p).sum()) ** (1 / p))


def distances(
    barcodes: Mapping[str, Barcode],
    *,
    metric: Metric = "bottleneck",
    p: float = 1.0,
    ground: float = math.inf,
    dim: int = 0,
) -> DistanceMatrix:
    """Return the distances between all of several barcodes.

    Parameters
    ----------
    barcodes
        Barcodes by their names.
    metric
        ``"bottleneck"`` or ``"wasserstein"``.
    p, ground
        For ``"wasserstein"``, as there.
    dim
        Degree of the bars.

    Returns
    -------
    DistanceMatrix
        In the order of the names; its provenance holds the metric, its p and its ground norm, and the degree. One
        distance for each of n (n - 1) / 2 pairs.

    Raises
    ------
    ValueError
        The metric is not known, there is no barcode, or the metric refuses two of them.

    Examples
    --------
    >>> pairs = {"a": [(0.0, 1.0)], "b": [(0.0, 3.0)], "none": []}
    >>> print(distances({name: Barcode.from_pairs(bars) for name, bars in pairs.items()}))
                         a           b        none
             a           0         1.5         0.5
             b         1.5           0         1.5
          none         0.5         1.5           0
    """
    if metric not in get_args(Metric):
        raise ValueError(f"metric is {metric!r}; it needs to be one of {', '.join(get_args(Metric))}.")
    if not barcodes:
        raise ValueError("no barcode was given; give a mapping of names to barcodes.")
    options: dict[str, Any] = {"dim": dim} if metric == "bottleneck" else {"p": p, "ground": ground, "dim": dim}
    measure: Callable[[Barcode, Barcode], float] = partial(
        {"bottleneck": bottleneck, "wasserstein": wasserstein}[metric], **options
    )
    codes = list(barcodes.values())
    values = np.zeros((len(codes), len(codes)))
    for i, one in enumerate(codes):
        for j in range(i):
            values[i, j] = values[j, i] = measure(one, codes[j])
    return DistanceMatrix(list(barcodes), values, {"metric": metric, **options})


def _parts(a: Barcode, b: Barcode, dim: int) -> tuple[Floats | None, Floats, Floats]:
    """Return how far endless bars are apart, matched in order of birth, and the bars that end, (b, 2).

    None: their numbers differ. On a line no matching is better than that in order, whatever the power.
    """
    births, ending = [], []
    for code in (a.filter(dim=dim), b.filter(dim=dim)):
        births.append(np.sort(code.birth[code.essential]))
        lasting = ~code.essential & (code.persistence > 0)  # Hera takes no bars of no length
        ending.append(np.column_stack([code.birth[lasting], code.death[lasting]]))
    endless = np.abs(births[0] - births[1]) if len(births[0]) == len(births[1]) else None
    return endless, ending[0], ending[1]


def _costs(one: Floats, other: Floats, ground: float) -> tuple[Floats, Floats, Floats]:
    """Return how far each bar is from each other one (a, b), and how far each is from a bar of no length (a,), (b,)."""
    moved = np.linalg.norm(one[:, None] - other, ord=ground, axis=2)
    half = 2.0 ** (1 / ground - 1)  # the nearest bar of no length lies midway
    return moved, half * (one[:, 1] - one[:, 0]), half * (other[:, 1] - other[:, 0])


def _check_comparable(a: Barcode, b: Barcode) -> None:
    common_scale([a.provenance, b.provenance])
    one, other = (code.provenance.get("complex", {}).get("connectivity") for code in (a, b))
    if one != other and one is not None and other is not None:
        warnings.warn(
            f"the barcodes are of grids with {one} and {other} neighbours; their distance comes from that as well.",
            stacklevel=3,
        )
