"""How far the barcode of samples can be trusted: bands and convergence, by subsamples of the samples or of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.compare.matching import bottleneck
from topolandscape.structures import Barcode, ConfidenceBand, FilteredComplex, Floats, Integers, LossSamples

Seed = int | np.random.Generator
ComplexOf = Callable[[LossSamples], FilteredComplex]


def bootstrap_band(
    samples: LossSamples,
    complex_of: ComplexOf,
    *,
    seed: Seed,
    size: int | None = None,
    repetitions: int = 100,
    confidence: float = 0.95,
    dim: int = 0,
) -> ConfidenceBand:
    """Return how far the barcode of samples may be from that of the sampled region, from barcodes of subsamples.

    Parameters
    ----------
    samples
        Points drawn independently. A grid has no such points: compare it with a coarser or a shifted one.
    complex_of
        Joins samples, anew for each subsample: `delaunay`, or ``partial(nearest_neighbours, k=24)``.
    seed
        A whole number or a numpy Generator.
    size
        Points of a subsample. None: n / 2^(d/2), of which see the notes.
    repetitions
        How many subsamples.
    confidence
        Probability with which the barcode of the region lies within the radius.
    dim
        Degree of the bars.

    Returns
    -------
    ConfidenceBand
        Its radius is a quantile of the bottleneck distances between the barcodes of subsamples and that of all, plus
        the noise of the losses. Infinite where that many subsamples fall apart into other numbers of components.

    Raises
    ------
    ValueError
        The samples are a grid, or a number is not possible.

    Notes
    -----
    The bottleneck bootstrap of Fasy et al. (2014) and Chazal et al. (2018), but with subsamples without replacement
    (Politis and Romano 1994): losses are known at the points, the error comes from where the points lie, and births are
    extremes, for which drawing with replacement is not consistent (Bickel and Freedman 1981). Around minima and saddles
    where the loss is smooth, the error falls like n^(-2/d); a subsample of n / 2^(d/2) points has twice the error, so
    that its distance from all samples is as large as theirs from the landscape.

    Assumed is that points are independent with a density above 0 in the whole region, that the loss is smooth near its
    critical points, and that n is so large that this rate holds. Where the loss has kinks the error falls like
    n^(-1/d); then give the size n / 2^d. What lies outside the region, or is so narrow that no point fell into it, is
    not accounted for.

    References
    ----------
    Fasy, Lecci, Rinaldo, Wasserman, Balakrishnan and Singh (2014), "Confidence sets for persistence diagrams".

    Examples
    --------
    >>> from topolandscape.topology.complexes import delaunay
    >>> x = np.random.default_rng(0).uniform(-1.5, 1.5, (300, 1))
    >>> band = bootstrap_band(LossSamples(x, (x**4 - x**2 + 0.1 * x)[:, 0]), delaunay, seed=0)
    >>> band.significant
    Barcode(2 bars: 2 in degree 0; 1 essential)
    """
    n, d = samples.points.shape
    _check_scattered(samples)
    size = max(2, round(n / 2 ** (d / 2))) if size is None else size
    if not 2 <= size < n:
        raise ValueError(f"subsamples of {size} points were asked for; of {n} samples take 2 to {n - 1}.")
    if repetitions < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"repetitions is {repetitions} and confidence {confidence}; at least one subsample is needed, and a "
            "confidence between 0 and 1."
        )
    rng = np.random.default_rng(seed)
    whole = _barcode(samples, complex_of, dim)
    parts = (rng.choice(n, size, replace=False) for _ in range(repetitions))
    found = np.array([bottleneck(_barcode(_rows_of(samples, rows), complex_of, dim), whole, dim=dim) for rows in parts])
    radius = float(np.quantile(found, confidence, method="higher")) + samples.noise
    provenance = {"method": "subsamples", "size": size, "repetitions": repetitions, "dim": dim}
    return ConfidenceBand(whole, radius, confidence, found, provenance)


def data_band(
    samples: LossSamples,
    values: ArrayLike,
    complex_of: ComplexOf,
    *,
    confidence: float = 0.95,
    dim: int = 0,
) -> ConfidenceBand:
    """Return how far the barcode of samples may be from that of the expected loss, from losses on subsets of the data.

    Parameters
    ----------
    samples
        Points, with their losses on all data. A grid will do.
    values
        Losses of the same points on subsets of the data, shape (r, n), as from `values_on_subsets`.
    complex_of
        Joins samples, anew for each subset: `grid`, `delaunay`, or ``partial(nearest_neighbours, k=24)``.
    confidence
        Probability with which the barcode of the expected loss lies within the radius.
    dim
        Degree of the bars.

    Returns
    -------
    ConfidenceBand
        Its radius is a quantile of the bottleneck distances between the barcodes of the subsets and that of all data,
        plus the noise of the losses.

    Raises
    ------
    ValueError
        There are not as many losses as samples, or the confidence is not possible.

    Notes
    -----
    The points stay where they are: what is said of the barcode is said at these samples, and `bootstrap_band` is about
    the rest. A band of half of the rows is one of the data as independent draws; other sizes m of N rows have the
    spread of N m / (N - m) draws. No distance is larger than the largest change of a loss (stability, Cohen-Steiner,
    Edelsbrunner and Harer 2007).

    Examples
    --------
    >>> from topolandscape.topology.complexes import grid
    >>> x = np.linspace(-1.5, 1.5, 31)
    >>> well = x**4 - x**2
    >>> samples = LossSamples(x[:, None], well + 0.1 * x, shape=(31,))
    >>> data_band(samples, [well + slope * x for slope in (0.05, 0.1, 0.15)], grid)
    ConfidenceBand(radius 0.035 with confidence 0.95; 2 of 2 bars are longer than twice as much)
    """
    losses = np.asarray(values, dtype=np.float64)
    if losses.ndim != 2 or losses.shape[1] != len(samples) or len(losses) == 0:
        raise ValueError(
            f"values have shape {losses.shape}; give losses of the {len(samples)} samples on one subset or more, shape "
            f"(r, {len(samples)})."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it needs to lie between 0 and 1.")
    whole = _barcode(samples, complex_of, dim)
    parts = (replace(samples, values=row) for row in losses)
    found = np.array([bottleneck(_barcode(part, complex_of, dim), whole, dim=dim) for part in parts])
    radius = float(np.quantile(found, confidence, method="higher")) + samples.noise
    return ConfidenceBand(whole, radius, confidence, found, {"method": "data", "subsets": len(found), "dim": dim})


class Convergence(NamedTuple):
    """How the barcode changes as there are more samples.

    Parameters
    ----------
    sizes
        Numbers of points, (s,).
    bars
        How many bars there are then, in each of r orders of the samples, (s, r).
    distances
        Bottleneck distances to the bars of all samples, (s, r).
    """

    sizes: Integers
    bars: Integers
    distances: Floats


def convergence(
    samples: LossSamples,
    complex_of: ComplexOf,
    *,
    sizes: Sequence[int],
    seed: Seed,
    repetitions: int = 5,
    min_persistence: float = 0.0,
    dim: int = 0,
) -> Convergence:
    """Return how the barcode changes as there are more samples: bars against the number of points.

    Parameters
    ----------
    samples
        Points drawn independently.
    complex_of
        Joins samples, anew for each number of them, as for `bootstrap_band`.
    sizes
        Numbers of points, at least 2 and at most all.
    seed
        A whole number or a numpy Generator.
    repetitions
        In how many orders the samples are taken, one after the other.
    min_persistence
        Count bars at least this long.
    dim
        Degree of the bars.

    Returns
    -------
    Convergence
        ``plot.convergence({"bars": (sizes, bars.mean(axis=1))}, unit="points", label="bars")`` draws it. A curve that
        is level is no proof: what no sample met is not missed.

    Raises
    ------
    ValueError
        The samples are a grid, or there are not so many.

    Examples
    --------
    >>> from topolandscape.topology.complexes import delaunay
    >>> x = np.random.default_rng(0).uniform(-1.5, 1.5, (400, 1))
    >>> samples = LossSamples(x, (x**4 - x**2 + 0.1 * x)[:, 0])
    >>> convergence(samples, delaunay, sizes=[5, 400], seed=0, repetitions=2).bars.tolist()[1]
    [2, 2]
    """
    n = len(samples)
    _check_scattered(samples)
    if len(sizes) == 0 or min(sizes) < 2 or max(sizes) > n:
        raise ValueError(
            f"sizes are {list(sizes)}; give numbers of points from 2 to {n}, as many as there are samples."
        )
    rng = np.random.default_rng(seed)
    whole = _barcode(samples, complex_of, dim)
    bars = np.empty((len(sizes), repetitions), dtype=np.int64)
    apart = np.empty((len(sizes), repetitions))
    for r in range(repetitions):
        order = rng.permutation(n)
        for s, size in enumerate(sizes):
            code = _barcode(_rows_of(samples, order[:size]), complex_of, dim)
            bars[s, r] = len(code.filter(dim=dim, min_persistence=min_persistence))
            apart[s, r] = bottleneck(code, whole, dim=dim)
    return Convergence(np.array(sizes, dtype=np.int64), bars, apart)


def _check_scattered(samples: LossSamples) -> None:
    if samples.shape is not None:
        raise ValueError(
            "the samples are a grid, whose points are not independent; draw them with sample_box() or sample_ball(), "
            "or compare grids of different resolutions."
        )


def _rows_of(samples: LossSamples, rows: Integers) -> LossSamples:
    return replace(samples, points=samples.points[rows], values=samples.values[rows])


def _barcode(samples: LossSamples, complex_of: ComplexOf, dim: int) -> Barcode:
    from topolandscape.topology.persistence import barcode

    return barcode(complex_of(samples), max_dim=dim, sizes=False)
