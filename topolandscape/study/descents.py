"""Descents that are kept on the way."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from topolandscape.files import Run
from topolandscape.structures import Descent, Floats, Trajectories
from topolandscape.structures.journal import Pace
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

_Recorded = list[tuple[int, Floats, Floats]]


def settings_of_descents(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of the descents."""
    names = ("learning_rate", "method", "momentum", "schedule", "warm_up", "batch")
    return {"steps": recipe.n_steps()} | {name: getattr(recipe, name) for name in names}


def descents(
    landscape: Landscape,
    starts: Floats | None,
    recipe: Recipe,
    run: Run,
    progress: bool | None,
    *,
    record_every: int | None,
    n: int | None = None,
    random: np.random.Generator | None = None,
    within: str = "",
) -> Descent:
    """Return where descents end, or go on with them; a run has them as ``descents`` and ``trajectories``.

    Parameters
    ----------
    landscape, recipe, run, progress
        As for `topolandscape.study.minima_route.by_minima`.
    starts
        Points to start from, (m, p); None: to be drawn.
    record_every
        Steps from one point that is recorded to the next; None: none is.
    n
        How many starts are drawn; None: as the recipe says.
    random
        Of starts and mini-batches; None: as the recipe says.
    within
        Folder of the run, with a slash, in which they are kept.
    """
    from topolandscape.landscape.descent import descending, initial_points

    random = np.random.default_rng(recipe.seed) if random is None else random
    if starts is None:
        starts = initial_points(landscape, recipe.n_starts() if n is None else n, seed=random)
    start = run.load(f"{within}descents", Descent) if f"{within}descents" in run else starts
    recorded = _recorded(run, within, start.step) if isinstance(start, Descent) else []
    pace = Pace()

    def is_recorded(step: int) -> bool:
        return record_every is not None and (step % record_every == 0 or step == recipe.n_steps())

    states = descending(
        landscape,
        start,
        every=lambda step: is_recorded(step) or pace.is_due(),
        seed=random,
        progress=progress,
        **settings_of_descents(recipe),
    )
    for state in states:
        if is_recorded(state.step) and state.step not in (step for step, _, _ in recorded[-1:]):
            recorded.append((state.step, state.points, state.values))
        if pace.is_due() or state.step == recipe.n_steps():
            pace.keep(partial(_keep, run, within, state, recorded))
    return state


def _keep(run: Run, within: str, state: Descent, recorded: _Recorded) -> None:
    # The state last: what was recorded after the state that is there will be recorded again.
    if recorded:
        run.save(f"{within}trajectories", trajectories_of(recorded, state))
    run.save(f"{within}descents", state)


def trajectories_of(recorded: _Recorded, state: Descent) -> Trajectories:
    """Return what was recorded of descents on their way to a state, of which the gradients are those at the ends."""
    steps, points, values = zip(*recorded, strict=True)
    norms = np.linalg.norm(state.gradients, axis=1)
    return Trajectories(np.stack(points, 1), np.stack(values, 1), np.array(steps), norms)


def _recorded(run: Run, within: str, until: int) -> _Recorded:
    """Return what was recorded of the descents up to a step."""
    if f"{within}trajectories" not in run:
        return []
    known = run.load(f"{within}trajectories", Trajectories)
    return [
        (int(step), known.points[:, column], known.values[:, column])
        for column, step in enumerate(known.steps)
        if step <= until
    ]
