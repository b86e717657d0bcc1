"""Minima of a landscape: where descents end, polished, examined and told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.checkpoints import checkpoints as checkpoints
from topolandscape.landscape.curvature import Curvatures, highest_curvatures, lowest_curvatures
from topolandscape.landscape.descent import Descent as Descent
from topolandscape.landscape.descent import Method, Schedule, Seed, descending, in_tasks
from topolandscape.landscape.descent import Trajectories as Trajectories
from topolandscape.landscape.descent import descend as descend
from topolandscape.landscape.descent import initial_points as initial_points
from topolandscape.landscape.directions import unit, whole_number
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.points import read_points
from topolandscape.landscape.polishing import Mask, Polished, noise_at, polish
from topolandscape.landscape.tasks import joined
from topolandscape.structures import Floats, Integers, Minima
from topolandscape.structures.graphs import components

# Points on a segment that is asked for a barrier, and on a ray that is asked where it leads.
_ON_SEGMENT, _ON_RAY = 9, 15
# Of the eigenvalue of largest size, which is a scale only.
_ROUGHLY = 1e-2
# Where Newton's step is longer than this share of the point, it may be on its way to somewhere else.
_LOOSE = 1e-3


def minima(
    landscape: Landscape,
    starts: int | ArrayLike | Descent,
    *,
    seed: Seed,
    steps: int = 1000,
    learning_rate: float = 0.01,
    method: Method = "adam",
    momentum: float = 0.9,
    schedule: Schedule = "cosine",
    warm_up: int = 0,
    batch: int | None = None,
    tolerance: float = 1e-6,
    max_evaluations: int = 5000,
    curvatures: int = 3,
    flatness: float = 1e-6,
    merge: float | None = 1e-2,
    test: Landscape | None = None,
    progress: bool | None = None,
) -> Minima:
    """Find minima: descend from many starts, polish, examine the ends, and merge those that are the same point.

    Parameters
    ----------
    landscape
        Any.
    starts
        How many to draw as the module itself would; or points, shape (n, dimension), trained checkpoints for example;
        or the state of descents that were interrupted, which then go on.
    seed
        Of all that is random: starts, mini-batches, first vectors for the curvatures. A whole number or a numpy
        Generator.
    steps, learning_rate, method, momentum, schedule, warm_up, batch
        Of the descents, as for `descend`. With no steps the starts themselves are polished.
    tolerance
        Gradient norm below which a point counts as stationary.
    max_evaluations
        Of `polish`, for each point.
    curvatures
        Number of lowest eigenvalues of the Hessian; at most `dimension` are there.
    flatness
        An eigenvalue is zero when it lies within this threshold of zero, relative to the eigenvalue of largest size;
        the residual of the eigenvalue is added to the threshold.
    merge
        Of `merge_equal`; None: keep a row for every start.
    test
        The landscape of the same network on other data, for the accuracy there.
    progress
        None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    Minima
        In the order of their starts; of points that are the same, the one with the smallest gradient. Also what is
        not a minimum is there, and `stationary` says what it is. The provenance has the row for each start
        ("rows"), how each polishing ended ("ended") and the threshold of flatness of each row ("thresholds").

    Examples
    --------
    >>> camel = Landscape.from_function(
    ...     lambda x: 2 * x[:, 0] ** 2 - 1.05 * x[:, 0] ** 4 + x[:, 0] ** 6 / 6 + x[:, 0] * x[:, 1] + x[:, 1] ** 2, 2
    ... )
    >>> found = minima(camel, [[0.5, 0.5], [1.5, -0.5], [0.1, -0.3]], seed=0, steps=50)
    >>> found.values.round(6).tolist(), found.stationary
    ([0.0, 0.298638], ('minimum', 'minimum'))
    >>> found.found.tolist(), found.index.tolist()
    ([2, 1], [0, 0])
    """
    whole_number(curvatures, "curvatures")
    if not flatness >= 0:
        raise ValueError(f"flatness is {flatness}; it needs to be 0 or more.")
    _check_merge(merge)
    if test is not None and test.dimension != landscape.dimension:
        raise ValueError(
            f"test is a landscape of {test.dimension} parameters, not of {landscape.dimension}; give the same network "
            "on other data."
        )
    rng = np.random.default_rng(seed)
    if isinstance(starts, (int, np.integer)):
        starts = initial_points(landscape, int(starts), seed=rng)
    settings: dict[str, Any] = {
        "steps": steps,
        "learning_rate": learning_rate,
        "method": method,
        "momentum": momentum,
        "schedule": schedule,
        "warm_up": warm_up,
        "batch": batch,
    }
    own_seed = None if isinstance(seed, np.random.Generator) else int(seed)
    if landscape.tasks is not None:
        settings |= {"tolerance": tolerance, "max_evaluations": max_evaluations, "curvatures": curvatures}
        settings |= {"flatness": flatness, "merge": None}
        parts = in_tasks(landscape, minima, starts, seed=rng, progress=progress, **settings)
        found = united(landscape, parts, merge=merge)
        found = replace(found, provenance={**found.provenance, "seed": own_seed})
        return found if test is None else replace(found, test_accuracy=_accuracies(test, found.points))
    *_, end = descending(landscape, starts, every=None, seed=rng, progress=progress, **settings)
    points, values, norms = end.points.copy(), end.values.copy(), np.linalg.norm(end.gradients, axis=1)
    k = min(curvatures, landscape.dimension)
    lowest, thresholds = np.full((len(points), k), np.nan), np.full(len(points), np.nan)
    index = np.full(len(points), -1)
    words, ended = np.full(len(points), "diverged", dtype=object), np.full(len(points), "not finite", dtype=object)

    going = np.flatnonzero(end.stopped < 0)
    if len(going):
        polished = polish(
            landscape, points[going], tolerance=tolerance, max_evaluations=max_evaluations, progress=progress
        )
        points[going], values[going], norms[going] = polished.points, polished.values, polished.gradient_norm
        ended[going] = polished.ended
        noise = noise_at(landscape, points[going], values[going])
        first = int(rng.integers(2**63))
        low = lowest_curvatures(landscape, points[going], k, seed=first)
        high = highest_curvatures(landscape, points[going], seed=first, tolerance=_ROUGHLY)
        sizes = np.maximum(np.abs(high.values[:, 0]), np.abs(low.values[:, 0]))
        lowest[going] = low.values
        thresholds[going] = flatness * sizes + low.residuals[:, 0]
        ways = polished.points - end.points[going]
        words[going] = _words(landscape, polished, ways, tolerance, noise, low, sizes, thresholds[going])
        known = going[np.isfinite(lowest[going]).all(axis=1)]
        index[known] = (lowest[known] < -thresholds[known, None]).sum(axis=1)

    every = Minima(
        points=points,
        values=values,
        gradient_norm=norms,
        curvature=lowest,
        index=index,
        stationary=tuple(words),
        accuracy=_accuracies(landscape, points),
        provenance={
            "landscape": dict(landscape.description),
            "seed": own_seed,
            "descent": settings,
            "tolerance": tolerance,
            "max_evaluations": max_evaluations,
            "flatness": flatness,
            "merge": merge,
            "rows": np.arange(len(points)),
            "ended": list(ended),
            "thresholds": thresholds,
        },
    )
    found = united(landscape, [every], merge=merge)
    return found if test is None else replace(found, test_accuracy=_accuracies(test, found.points))


def united(landscape: Landscape, parts: Sequence[Minima], *, merge: float | None) -> Minima:
    """Return as one what `minima` found for parts of the starts, with a row for every start.

    Parameters
    ----------
    landscape
        Any.
    parts
        In the order of the starts, each found with ``merge=None`` and the same other arguments.
    merge
        As for `minima`.

    Returns
    -------
    Minima
        What `minima` finds for all starts at once.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2, 1)
    >>> parts = [minima(landscape, [[start]], seed=0, steps=0, merge=None) for start in (0.9, -0.9, 0.8)]
    >>> both = united(landscape, parts, merge=1e-2)
    >>> both.points.round(6).ravel().tolist(), both.found.tolist(), both.provenance["rows"]
    ([1.0, -1.0], [2, 1], [0, 1, 0])
    """
    provenance = dict(parts[0].provenance) | {"merge": merge}
    for name in ("ended", "thresholds"):
        provenance[name] = [entry for part in parts for entry in part.provenance[name]]
    every = joined(parts, provenance=provenance)
    labels = np.arange(len(every))
    going = np.array([row for row, word in enumerate(every.stationary) if word != "diverged"], dtype=np.int64)
    if merge is not None and len(going):
        labels[going] = len(every) + _merged(landscape, every.points[going], every.values[going], merge)
    labels = _numbered(labels)
    rows = [_best(np.flatnonzero(labels == label), every.gradient_norm) for label in range(labels.max() + 1)]
    thresholds = [provenance["thresholds"][row] for row in rows]
    return replace(
        every.rows(rows),
        found=np.bincount(labels),
        provenance=provenance | {"rows": labels, "thresholds": thresholds},
    )


def merge_equal(
    landscape: Landscape,
    points: ArrayLike,
    values: ArrayLike,
    *,
    tolerance: float = 1e-2,
    known: int = 0,
    noise: float | None = None,
) -> Integers:
    """Tell which points are the same minimum.

    Two points are one when their distance is small and the loss has no barrier on the segment between them, that is,
    rises above the higher end by no more than its noise; and so are points that are joined by such pairs.

    Parameters
    ----------
    landscape
        Any.
    points
        Shape (m, dimension).
    values
        Their losses, shape (m,).
    tolerance
        Largest distance, relative to the larger norm of the two points (or to 1, if that is more). Points whose
        gradient vanishes up to g lie within g / curvature of their minimum: it should not be smaller than that.
    known
        So many of the first points are known to be different minima.
    noise
        As for `polish`.

    Returns
    -------
    int64 array
        A number for each point, shape (m,): the same for points that are the same, from 0, in order of appearance.

    Notes
    -----
    m (m - known) distances, and the loss at 9 points on the segment of each near pair.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2, 1)
    >>> points = np.array([[1.0], [-1.0], [0.9999]])
    >>> merge_equal(landscape, points, landscape.values(points))
    array([0, 1, 0])
    """
    at = read_points(points, landscape.dimension, "points")
    losses = np.asarray(values, dtype=np.float64)
    if losses.shape != (len(at),):
        raise ValueError(f"values have shape {losses.shape}; there are {len(at)} points, so they need ({len(at)},).")
    _check_merge(tolerance)
    return _merged(landscape, at, losses, tolerance, known, noise)


def merged(landscape: Landscape, minima: Minima, *, tolerance: float = 1e-2) -> Minima:
    """Return minima of which those that are the same point are one: the one with the smallest gradient.

    Parameters
    ----------
    landscape
        Any.
    minima
        Any; of `brought_together`, for example, which lays copies on each other.
    tolerance
        As for `merge_equal`.

    Returns
    -------
    Minima
        In order of appearance, with as many descents found as all the points had that each stands for.

    Examples
    --------
    >>> landscape = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2, 1)
    >>> points = [[1.0], [-1.0], [0.9999]]
    >>> three = Minima(points, landscape.values(points), [0.0, 0.0, 1e-3], [[8.0]] * 3, [0] * 3, ["minimum"] * 3)
    >>> two = merged(landscape, three)
    >>> two.points.ravel().tolist(), two.found.tolist()
    ([1.0, -1.0], [2, 1])
    """
    labels = merge_equal(landscape, minima.points, minima.values, tolerance=tolerance)
    rows = [_best(np.flatnonzero(labels == label), minima.gradient_norm) for label in range(labels.max() + 1)]
    return replace(minima.rows(rows), found=np.bincount(labels, weights=minima.found).astype(np.int64))


def with_accuracies(landscape: Landscape, minima: Minima, *, test: Landscape | None = None) -> Minima:
    """Return minima with the accuracies that are not known yet: of those met on the way between others.

    Parameters
    ----------
    landscape
        Of the data; its losses need not be of classes.
    minima
        Any.
    test
        The landscape of the same network on other data.

    Returns
    -------
    Minima
        Accuracies that were known are kept; where rows have no classes all stay unknown.

    Examples
    --------
    >>> import torch
    >>> inputs, targets = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 0])
    >>> module = torch.nn.Linear(1, 2)
    >>> landscape = Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.cross_entropy)
    >>> points = [[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    >>> two = Minima(points, landscape.values(points), [0.0] * 2, [[1.0]] * 2, [0, 0], ["not examined"] * 2)
    >>> with_accuracies(landscape, two).accuracy.tolist()
    [0.5, 1.0]
    """

    def filled(known: Floats, on: Landscape | None) -> Floats:
        result, rows = known.copy(), np.flatnonzero(np.isnan(known))
        if on is not None and len(rows):
            result[rows] = _accuracies(on, minima.points[rows])
        return result

    return replace(
        minima, accuracy=filled(minima.accuracy, landscape), test_accuracy=filled(minima.test_accuracy, test)
    )


# --------------------------------------------------------------------------------------------------------------
# What a point is
# --------------------------------------------------------------------------------------------------------------


def _words(
    landscape: Landscape,
    polished: Polished,
    ways: Floats,
    tolerance: float,
    noise: Floats,
    low: Curvatures,
    sizes: Floats,
    thresholds: Floats,
) -> list[str]:
    """Return the word of `Minima.stationary` for each point; `ways` led there in polishing."""
    points, values = polished.points, polished.values
    _, gradients = landscape.gradients(points, progress=False)
    lowest = low.values[:, 0]
    settled = polished.gradient_norm <= tolerance
    # How far Newton's step would go along the softest directions.
    along = np.einsum("mp,mkp->mk", gradients, np.nan_to_num(low.vectors))
    ahead = np.abs(along) / np.maximum(np.abs(np.nan_to_num(low.values)), 1e-150)
    loose = ~settled | (ahead.max(axis=1) > _LOOSE * np.maximum(1.0, np.linalg.norm(points, axis=1)))
    softest = -np.sign(along[:, :1]) * np.nan_to_num(low.vectors[:, 0])
    far, kink = np.zeros(len(points), dtype=bool), settled & np.isnan(lowest)
    for direction in (-gradients, softest, points, ways):
        far[loose] |= _falling(landscape, points[loose], values[loose], noise[loose], direction[loose])
    kink[~settled] = _jumping(landscape, points[~settled], gradients[~settled], sizes[~settled])
    level = settled & (np.abs(lowest) <= thresholds)
    kink[level] = _pointed(landscape, points[level], values[level], noise[level])
    tests = {
        "far": far,
        "kink": kink,
        "not converged": ~settled,
        "saddle": lowest < -thresholds,
        "flat": lowest <= thresholds,
        "minimum": np.ones(len(points), dtype=bool),
    }
    return [next(word for word, holds in tests.items() if holds[row]) for row in range(len(points))]


def _falling(landscape: Landscape, points: Floats, values: Floats, noise: Floats, directions: Floats) -> Mask:
    """Return where the loss falls all along a ray ten times as long as the point itself."""
    reach = np.logspace(-6, 1, _ON_RAY)[:, None] * np.maximum(1.0, np.linalg.norm(points, axis=1))[:, None, None]
    heights = _along(landscape, points, values, reach * unit(directions)[:, None])
    falls = heights[:, 1:] <= heights[:, :-1] + noise[:, None]
    return falls.all(axis=1) & (heights[:, -1] < values - 10 * noise)


def _jumping(landscape: Landscape, points: Floats, gradients: Floats, sizes: Floats) -> Mask:
    """Return where the slope downhill changes faster than curvatures of size (m,) can explain."""
    norms = np.linalg.norm(gradients, axis=1)
    within = 1e-3 * np.maximum(1.0, np.linalg.norm(points, axis=1))
    bent = sizes * within > 0.1 * norms
    reach = np.where(bent, 0.1 * norms / np.where(bent, sizes, 1.0), within)
    downhill = -unit(gradients)
    _, ahead = landscape.gradients(points + reach[:, None] * downhill, progress=False)
    return np.einsum("mp,mp->m", ahead, downhill) > -0.5 * norms


def _pointed(landscape: Landscape, points: Floats, values: Floats, noise: Floats) -> Mask:
    """Return where the loss rises in proportion to the distance, to both sides together."""
    direction = unit(np.random.default_rng(0).standard_normal((1, points.shape[1])))
    reach = (
        1e-4 * np.maximum(1.0, np.linalg.norm(points, axis=1))[:, None, None] * np.array([1, -1, 0.1, -0.1])[:, None]
    )
    heights = _along(landscape, points, values, reach * direction) - values[:, None]
    wide, near = heights[:, 1] + heights[:, 2], heights[:, 3] + heights[:, 4]
    # Ten times nearer a smooth function rises a hundred times less, a pointed one ten times.
    return (near > 10 * noise) & (wide < 30 * near)


def _along(landscape: Landscape, points: Floats, values: Floats, steps: Floats) -> Floats:
    """Return the losses at points (m, p), and after each of some steps from there (m, q, p): (m, 1 + q)."""
    ahead = points[:, None] + steps
    heights = landscape.values(ahead.reshape(-1, points.shape[1]), progress=False).reshape(ahead.shape[:2])
    return np.concatenate([values[:, None], heights], axis=1)


def _accuracies(landscape: Landscape, points: Floats) -> Floats:
    """Return shares of rows classified correctly, (m,); NaN where rows have no classes."""
    try:
        return landscape.accuracies(points, progress=False)[1]
    except ValueError:
        return np.full(len(points), np.nan)


# --------------------------------------------------------------------------------------------------------------
# Which points are the same
# --------------------------------------------------------------------------------------------------------------


def _merged(
    landscape: Landscape,
    points: Floats,
    values: Floats,
    tolerance: float,
    known: int = 0,
    rounding: float | None = None,
) -> Integers:
    """Return the labels of `merge_equal`."""
    from scipy.spatial.distance import cdist

    m, p = points.shape
    size = np.maximum(1.0, np.linalg.norm(points, axis=1))
    near = cdist(points[known:], points) <= tolerance * np.maximum(size[known:, None], size)
    other, one = np.nonzero(near)
    other += known
    one, other = one[one < other], other[one < other]
    near_some = np.union1d(one, other)
    noise = np.zeros(m)
    noise[near_some] = noise_at(landscape, points[near_some], values[near_some], rounding)
    same = np.zeros(len(one), dtype=bool)
    shares = np.arange(1, _ON_SEGMENT + 1)[:, None] / (_ON_SEGMENT + 1)
    # Few enough segments at once that their points do not fill the memory.
    for part in np.array_split(np.arange(len(one)), 1 + len(one) * p // 2**20):
        a, b = one[part], other[part]
        heights = _along(landscape, points[a], values[a], shares * (points[b] - points[a])[:, None])
        same[part] = heights.max(axis=1) <= np.maximum(values[a], values[b]) + np.maximum(noise[a], noise[b])
    return _numbered(components(np.column_stack([one[same], other[same]]), m))


def _numbered(labels: Integers) -> Integers:
    """Return labels from 0 in order of appearance."""
    _, first, number = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def _best(rows: Integers, norms: Floats) -> int:
    """Return the row of the smallest gradient; a norm that is not a number counts as infinite."""
    return int(rows[np.argmin(np.nan_to_num(norms[rows], nan=np.inf))])


def _check_merge(tolerance: float | None) -> None:
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"the tolerance of merging is {tolerance}; it needs to be 0 or more.")
