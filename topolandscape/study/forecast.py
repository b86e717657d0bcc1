"""How long a study will take: from a probe of its networks' speed before it starts, from its first runs afterwards."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from topolandscape.study.jobs import Job, cores
from topolandscape.study.problem import problem
from topolandscape.study.recipe import Recipe

# Gradients that polishing one point takes, at least; at most `max_evaluations`.
_POLISHING = 200
# Share of the allowed evaluations that the search for passes takes, and what one of them costs in gradients.
_SEARCHED, _PER_EVALUATION = (0.2, 1.0), (0.5, 2.0)
# Gradients that a measure takes at each minimum: a product with the Hessian costs two to three.
_OF_EACH: Mapping[str, tuple[int, int]] = {"hessian_top": (40, 600), "hessian_trace": (100, 150)}
# Vectors whose gradients are timed, twice: too few to begin a search for the fastest way.
_TRIED = 4
# Seconds that a run takes to load its network and to find out how it is evaluated fastest.
_BEGUN = (5.0, 30.0)
_CURVE = 550  # gradients of one trained curve


class Span(NamedTuple):
    """A number of seconds, not known better than between two bounds.

    Examples
    --------
    >>> str(Span(70.0, 700.0)), str(Span(5.0, math.inf))
    ('between 1 and 12 min', 'more than 5 s')
    """

    low: float
    high: float

    def __str__(self) -> str:
        """Return it in words, in the unit that fits."""
        size, unit = next((s, u) for s, u in ((3600, "h"), (60, "min"), (1, "s")) if self.low >= s or s == 1)
        if math.isinf(self.high):
            return f"more than {self.low / size:.0f} {unit}"
        low, high = f"{self.low / size:.0f}", f"{self.high / size:.0f}"
        return f"about {high} {unit}" if low == high else f"between {low} and {high} {unit}"


def forecast(jobs: Sequence[Job], took: Mapping[str, Sequence[float]], at_once: int) -> tuple[Span, str]:
    """Return how long jobs will take, and from what this is known.

    Parameters
    ----------
    jobs
        What is still to be done.
    took
        Seconds of runs that are done, by group; groups without any are probed: their network is made and the gradient
        of its loss timed.
    at_once
        How many jobs are done at once.

    Returns
    -------
    tuple
        A span, and words.
    """
    spans = {group: _of_done(seconds) for group, seconds in took.items() if seconds}
    probed = [group for group in dict.fromkeys(job.group for job in jobs) if group not in spans]
    for group in probed:
        job = next(job for job in jobs if job.group == group)
        spans[group] = _probed(job.recipe, job.measures, at_once)
    total = _together([spans[job.group] for job in jobs], at_once)
    runs = sum(len(seconds) for seconds in took.values())
    if math.isinf(total.high):
        how = "nothing but a hundred rounds ends the search for passes; give evaluations or seconds"
    elif not probed:
        how = f"from {runs} run{'s' * (runs != 1)} that {'are' if runs != 1 else 'is'} done"
    else:
        how = "from a probe of the networks' speed; how many steps minima and passes take is not known yet"
    return total, how


def remaining(jobs: Sequence[Job], took: Mapping[str, Sequence[float]], at_once: int) -> Span:
    """Return how long jobs will take that are like those that are done, group by group; others like all together."""
    everything = [seconds for some in took.values() for seconds in some]
    return _together([_of_done(took.get(job.group) or everything) for job in jobs], at_once)


def _together(spans: Sequence[Span], at_once: int) -> Span:
    """Return how long several jobs take, some of them at once, on as many cores as there are."""
    n = min(at_once, cores(), max(len(spans), 1))
    return Span(sum(span.low for span in spans) / n, sum(span.high for span in spans) / n)


def _of_done(seconds: Sequence[float]) -> Span:
    """Return how long one more run takes: the mean, give or take how much they differ, or half of one alone."""
    mean = statistics.fmean(seconds)
    spread = statistics.stdev(seconds) if len(seconds) > 1 else mean / 2
    return Span(max(mean - spread, 0.0), mean + spread)


def _probed(recipe: Recipe, measures: Sequence[str], at_once: int) -> Span:
    """Return how long one run takes on its share of the cores, by the time that a gradient of its loss takes."""
    import torch

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(max(1, threads // at_once))
        from topolandscape.landscape.descent import initial_points

        landscape = problem(recipe).landscape()
        points = initial_points(landscape, _TRIED, seed=recipe.seed)
        landscape.gradients(points, progress=False)  # compiles what is to be compiled
        begun = time.perf_counter()
        landscape.gradients(points, progress=False)
    except Exception:  # the run itself will say what is wrong
        return Span(0.0, 0.0)
    finally:
        torch.set_num_threads(threads)
    gradient = (time.perf_counter() - begun) / len(points)
    gradients = list(_gradients(recipe, measures, landscape.dimension, landscape.rows or 1))
    low, high = (gradient * sum(bounds) for bounds in zip(*gradients, strict=True))
    if recipe.route == "minima" and recipe.seconds is not None:
        high = min(high, gradient * sum(span.high for span in gradients[:-1]) + 1.2 * recipe.seconds)
    return Span(_BEGUN[0] + low, _BEGUN[1] + high)


def _gradients(recipe: Recipe, measures: Sequence[str], parameters: int, rows: int) -> Iterator[Span]:
    """Yield how many gradients each part of a run takes, or as long as so many; the search for passes last."""
    if recipe.route == "sample":
        points = float(recipe.points if recipe.region in ("box", "ball", "hull") else recipe.resolution**2)
        if recipe.region == "grid":
            points = math.prod(np.broadcast_to(recipe.sides()[2], parameters).astype(float).tolist())
        yield Span(points / 6, points)  # losses, which cost less
        yield Span(recipe.n_steps(), recipe.starts * recipe.n_steps())
        return
    m = recipe.n_starts()
    steps = m * recipe.n_steps() * (1.0 if recipe.batch is None else min(1.0, recipe.batch / rows))
    yield Span(steps, steps)
    yield Span(m * min(_POLISHING, recipe.max_evaluations), m * recipe.max_evaluations)
    for name in measures:
        low, high = _OF_EACH.get(name, (0, 0))
        yield Span(m * low, m * high)
    curves = m * (m - 1) / 2 * _CURVE * ("mode_connectivity" in measures)
    yield Span(curves, curves)
    if recipe.evaluations is None:
        yield Span(0.0, math.inf)
    else:
        yield Span(*(recipe.evaluations * share * cost for share, cost in zip(_SEARCHED, _PER_EVALUATION, strict=True)))
