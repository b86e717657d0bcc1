"""Whether a loss is a function of its point, and how much its evaluations at one point differ."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from topolandscape.landscape.batching import Engine
from topolandscape.landscape.machine import out_of_memory, randomness_kept
from topolandscape.landscape.parts import Parts
from topolandscape.landscape.pure import agree
from topolandscape.structures import Floats


def check_repeatable(engine: Engine, center: Floats, *, cure: str) -> None:
    """Raise when the loss is not a function near a point; drop the forms that disagree with the plainest one."""
    points = probes(center, 3)
    plain = engine.plainest
    evaluations = []
    for seed in range(3):
        # Seeded differently each time: what draws random numbers cannot draw the same ones again.
        with randomness_kept(engine.device, seed=seed):
            evaluations.append(engine.values(points, form=plain, chunk=1))
    first = evaluations[0]
    for other in evaluations[1:]:
        if not agree(first, other, engine.dtype).all():
            index = int(np.argmin(agree(first, other, engine.dtype)))
            raise RuntimeError(
                f"the loss is not a function of the parameters: two evaluations at one point gave {first[index]:g} "
                f"and {other[index]:g}. {cure}"
            )
    for form in engine.forms():
        try:
            together = engine.values(points, form=form)
        except Exception as error:
            if form == plain or out_of_memory(error):
                raise
            engine.drop(form)
            continue
        same = agree(first, together, engine.dtype)
        if same.all():
            continue
        if form == plain:
            index = int(np.argmin(same))
            raise RuntimeError(
                f"the loss is not a function of the parameters: one point alone gave {first[index]:g}, among "
                f"others {together[index]:g}. Give a function that treats each row for itself."
            )
        engine.drop(form)


def differences(parts: Parts, points: Floats) -> Floats:
    """Return how much repeated evaluations differ at each of some points; see `topolandscape.Landscape.noise_at`."""
    together = functools.partial(parts.engine.values, points, subspace=parts.subspace)
    ways = [together(), together(chunk=2), together(chunk=1), together(form=parts.engine.plainest)]
    if parts.exact is not None:
        # Repeated float32 evaluations can agree to the last bit and still be off by their rounding.
        ways.append(parts.exact.values(points, subspace=parts.subspace))
    if parts.whole is not None:
        ways.append(parts.whole.engine.values(points, subspace=parts.whole.subspace))
    return spread(ways)


def spread(evaluations: Sequence[Floats]) -> Floats:
    """Return, for each point, the largest difference between evaluations of it; 0 where none is finite.

    Examples
    --------
    >>> spread([np.array([1.0, np.nan]), np.array([1.5, np.nan])])
    array([0.5, 0. ])
    """
    values = np.asarray(evaluations)
    finite = np.isfinite(values)
    high = np.where(finite, values, -math.inf).max(axis=0)
    low = np.where(finite, values, math.inf).min(axis=0)
    return np.where(finite.any(axis=0), high - low, 0.0)


def rounding(description: Mapping[str, Any]) -> float:
    """Return how far the numbers of a landscape that is described are apart, as a share of their size.

    Examples
    --------
    >>> rounding({"dtype": "tf32", "device": "cuda"}), rounding({"dtype": "float64", "device": "cpu"})
    (0.0009765625, 2.220446049250313e-16)
    """
    if description["dtype"] == "tf32":  # of the factors of products, and on a processor of none
        return 2.0**-10 if description["device"] != "cpu" else torch.finfo(torch.float32).eps
    return torch.finfo(getattr(torch, description["dtype"])).eps


def probes(center: Floats, count: int) -> Floats:
    """Return points to try out: the center, and others near it."""
    points = np.tile(center, (count, 1))
    points[1:] += 0.1 * np.random.default_rng(0).standard_normal(points[1:].shape)
    return points
