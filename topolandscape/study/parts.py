"""Minima found in parts, by other processes or one after the other: each part of the descents is kept when done."""

from __future__ import annotations

import copy
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from topolandscape.files import Run
from topolandscape.landscape.tasks import Asked, parts_of
from topolandscape.structures import Descent, Floats, Minima, Trajectories
from topolandscape.structures.journal import Journal
from topolandscape.study.descents import descents, settings_of_descents, trajectories_of
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

_log = logging.getLogger(__name__)


def parts_of_minima(
    landscape: Landscape,
    starts: Floats | None,
    recipe: Recipe,
    run: Run,
    progress: bool | None,
    *,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Descend and polish part by part: each a task, which is kept when it is done, or here and kept on the way.

    Parameters
    ----------
    landscape, starts, recipe, run, progress
        As for `by_minima`.
    share
        Number of this shard and how many there are: of the parts only every so many-th is done.
    """
    from topolandscape.landscape.descent import initial_points

    random = np.random.default_rng(recipe.seed)
    if starts is None:
        starts = initial_points(landscape, recipe.n_starts(), seed=random)
    names = part_names(landscape, recipe)
    parts = [starts[rows] for rows in parts_of(landscape.description, len(starts))]
    missing = [number for number, name in enumerate(names) if f"{name}/minima" not in run]
    own = [number for number in missing if number % share[1] == share[0]]
    if 0 < len(own) < len(parts) and share == (0, 1):
        _log.warning("%d of %d parts of the descents are missing and are computed", len(own), len(parts))
    if landscape.tasks is None:
        disable = None if progress is None else not progress
        for number in tqdm(own, desc="descents", unit="part", delay=1, disable=disable):
            _descended_here(landscape, parts[number], recipe, copy.deepcopy(random), run, names[number])
        return
    asked: Asked = [((parts[number], recipe, copy.deepcopy(random)), {}) for number in own]
    for place, nouns in landscape.tasks.done(_descended, asked, what="descents", progress=progress):
        # The minima last: what has them is complete.
        for name, noun in nouns.items():
            run.save(f"{names[own[place]]}/{name}", noun)


def shard_of(text: str) -> tuple[int, int]:
    """Return which part, and of how many, a text says, or the environment of a task of a Slurm job array."""
    if text == "slurm":
        names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT")]
        missing = [name for name in names if not os.environ.get(name, "").isdecimal()]
        if missing:
            raise ValueError(
                f"{missing[0]} is not set; --shard slurm is for tasks of a job array (sbatch --array=0-7)."
            )
        task, first, last, step, count = (int(os.environ[name]) for name in names)
        if (last - first) // step + 1 != count:
            raise ValueError(
                f"the job array has gaps ({count} tasks from {first} to {last}), so how many parts are there? "
                'Say it: --shard "$SLURM_ARRAY_TASK_ID/8".'
            )
        return (task - first) // step, count
    number, _, count_text = text.partition("/")
    if not (number.isdecimal() and count_text.isdecimal()):
        raise ValueError(f"shard is {text!r}; it needs to be i/n, i from 0 to n - 1, or slurm.")
    return int(number), int(count_text)


def settings_of_minima(recipe: Recipe) -> dict[str, Any]:
    """Return the settings of descents and polishing."""
    own = {name: getattr(recipe, name) for name in ("seed", "tolerance", "max_evaluations")}
    return own | settings_of_descents(recipe)


def part_names(landscape: Landscape, recipe: Recipe) -> list[str]:
    """Return under which names the parts of the descents are kept."""
    return [f"parts/{number:04d}" for number in range(len(parts_of(landscape.description, recipe.n_starts())))]


def _descended(
    landscape: Landscape, starts: Floats, recipe: Recipe, random: np.random.Generator
) -> dict[str, Descent | Trajectories | Minima]:
    """Return what becomes of some of the starts: a task."""
    from topolandscape.landscape.descent import descending
    from topolandscape.landscape.minima import minima

    every, settings = recipe.record_every, settings_of_descents(recipe)
    states = list(descending(landscape, starts, every=every, seed=random, progress=False, **settings))
    recorded = [(state.step, state.points, state.values) for state in states]
    return {
        "descents": states[-1],
        **({} if every is None else {"trajectories": trajectories_of(recorded, states[-1])}),
        "minima": minima(landscape, states[-1], merge=None, progress=False, **settings_of_minima(recipe)),
    }


def _descended_here(
    landscape: Landscape, starts: Floats, recipe: Recipe, random: np.random.Generator, run: Run, name: str
) -> None:
    """Do the task of `_descended` in this process, and keep it on the way."""
    from topolandscape.landscape.keeping import kept
    from topolandscape.landscape.minima import minima

    ends = descents(
        landscape, starts, recipe, run, False, record_every=recipe.record_every, random=random, within=f"{name}/"
    )
    journal = Journal(run.store())
    found = minima(kept(landscape, journal), ends, merge=None, progress=False, **settings_of_minima(recipe))
    run.save(f"{name}/minima", found)
    journal.clear()


def minima_of_parts(landscape: Landscape, held_out: Landscape | None, recipe: Recipe, run: Run) -> Minima:
    """Put together what was found in parts, and return the minima."""
    from topolandscape.landscape.minima import united, with_accuracies
    from topolandscape.landscape.tasks import joined

    names = part_names(landscape, recipe)
    ends = [run.load(f"{name}/descents", Descent) for name in names]
    run.save("descents", joined(ends, moments=np.concatenate([end.moments for end in ends], axis=1)))
    if recipe.record_every is not None:
        ways = [run.load(f"{name}/trajectories", Trajectories) for name in names]
        run.save("trajectories", joined(ways, steps=ways[0].steps))
    found = united(landscape, [run.load(f"{name}/minima", Minima) for name in names], merge=recipe.merge)
    return with_accuracies(landscape, found, test=held_out)
