"""The loss along straight segments: between two points, and on the edges of a complex."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.directions import whole_number
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.points import read_point
from topolandscape.landscape.samples import Evaluate, evaluated, losses_at
from topolandscape.structures import Floats, LossSamples


def sample_segment(
    landscape: Landscape,
    a: ArrayLike,
    b: ArrayLike,
    *,
    n: int,
    margin: float = 0.0,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> LossSamples:
    """Sample the straight line between two points, at equal distances.

    Parameters
    ----------
    landscape
        Of any dimension.
    a, b
        Ends, shape (dimension,): coordinate 0 and coordinate 1.
    n
        Number of points, two or more.
    margin
        How far the line goes on beyond each end, as a share of its length.
    evaluate, progress
        As for `sample_box`.

    Returns
    -------
    LossSamples
        n points of one coordinate from -margin to 1 + margin (linear interpolation, Goodfellow et al. 2015).

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    >>> sample_segment(landscape, [0, 0], [2, 0], n=3).values
    array([0., 1., 4.])
    """
    start, end = read_point(a, landscape.dimension, "a"), read_point(b, landscape.dimension, "b")
    if np.array_equal(start, end):
        raise ValueError("a and b are the same point; a segment needs two.")
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin is {margin}; it needs to be a number, 0 or more.")
    n = whole_number(n, "n", least=2)
    line = landscape.restricted_to(start, (end - start)[None])
    points = np.linspace(-margin, 1 + margin, n)[:, None]
    settings = {"n": n, "margin": float(margin), "length": float(np.linalg.norm(end - start))}
    return evaluated(line, points, "sample_segment", settings, evaluate, progress, shape=(n,))


def segment_maxima(
    landscape: Landscape,
    samples: LossSamples,
    edges: ArrayLike,
    *,
    q: int = 3,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> Floats:
    """Return the highest loss on the segment between the two ends of each edge.

    A lower-star filtration lets an edge enter with its higher end and so misses a ridge between two samples; give
    these values to `with_edge_values`.

    Parameters
    ----------
    landscape
        The one that was sampled.
    samples
        Their points and losses.
    edges
        Rows of the ends, shape (m, 2), as in ``complex.simplices[1]``.
    q
        Points between the ends, evenly spaced: m q evaluations.
    evaluate, progress
        As for `sample_box`.

    Returns
    -------
    float64 array
        Shape (m,), at least the losses of both ends. NaN where a loss on the way is.

    Examples
    --------
    >>> from topolandscape.landscape.grids import sample_grid
    >>> landscape = Landscape.from_function(lambda x: 1 - (x**2).sum(1), 1)
    >>> samples = sample_grid(landscape, low=-1, high=1, shape=2)
    >>> segment_maxima(landscape, samples, [[0, 1]], q=3)
    array([1.])
    """
    rows = np.asarray(edges)
    if rows.ndim != 2 or rows.shape[1] != 2 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"edges have shape {rows.shape} and type {rows.dtype}; give two rows of samples for each.")
    if rows.size and not (rows.min() >= 0 and rows.max() < len(samples)):
        raise ValueError(f"edges name rows {rows.min()} to {rows.max()}, and there are {len(samples)} samples.")
    if samples.points.shape[1] != landscape.dimension:
        raise ValueError(
            f"the samples have {samples.points.shape[1]} coordinates and the landscape {landscape.dimension}; give the "
            "landscape (or restriction) that was sampled."
        )
    start, end = samples.points[rows[:, 0]], samples.points[rows[:, 1]]
    highest = samples.values[rows].max(axis=1, initial=-np.inf)
    for t in np.arange(1, whole_number(q, "q") + 1) / (q + 1):
        highest = np.maximum(highest, losses_at(landscape, start + t * (end - start), evaluate, progress))
    return highest
