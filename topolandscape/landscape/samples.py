"""Points and their losses as samples: what evaluates them, how noisy they are, how they were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats, LossSamples

Evaluate = Callable[[Landscape, Floats], ArrayLike]


def evaluated(
    landscape: Landscape,
    points: Floats,
    sampler: str,
    settings: Mapping[str, Any],
    evaluate: Evaluate | None,
    progress: bool | None,
    *,
    shape: tuple[int, ...] | None = None,
) -> LossSamples:
    """Return points with their losses as samples; `settings` say how the sampler was called."""
    values = losses_at(landscape, points, evaluate, progress)
    return as_samples(landscape, points, values, sampler, settings, shape)


def losses_at(landscape: Landscape, points: Floats, evaluate: Evaluate | None, progress: bool | None) -> Floats:
    """Return the losses at points, by the user's function where there is one."""
    if evaluate is None:
        return landscape.values(points, progress=progress)
    values = np.asarray(evaluate(landscape, points), dtype=np.float64)
    if values.shape != (len(points),):
        raise ValueError(
            f"evaluate returned shape {values.shape} for {len(points)} points; it needs one value a point."
        )
    return values


def as_samples(
    landscape: Landscape,
    points: Floats,
    values: Floats,
    sampler: str,
    settings: Mapping[str, Any],
    shape: tuple[int, ...] | None,
) -> LossSamples:
    """Return points and their losses, which are not copied, as samples."""
    finite = np.flatnonzero(np.isfinite(values))
    few = points[[finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]]] if len(finite) else points[:1]
    for array in (points, values):
        array.flags.writeable = False
    return LossSamples(
        points=points,
        values=values,
        noise=noise_among(landscape, few),
        subspace=landscape.subspace,
        shape=shape,
        provenance=provenance_of(landscape, sampler, settings),
    )


def noise_among(landscape: Landscape, points: Floats) -> float:
    """Return the noise of samples of which these are the lowest and the highest.

    Where losses are large their rounding is, too: the noise near the network's own point is not all of it.
    """
    return max(landscape.noise, float(landscape.noise_at(points).max()))


def provenance_of(landscape: Landscape, sampler: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what samples say of how they were made."""
    form = landscape.engine.form()
    return {"sampler": sampler, **settings, "landscape": dict(landscape.description), "form": form}
