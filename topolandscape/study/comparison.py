"""Runs beside one another: a study from its settings to a table, or runs that are already there."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from tqdm import tqdm

from topolandscape.files import Run, locked
from topolandscape.structures import Barcode, Floats
from topolandscape.structures.arrays import settle
from topolandscape.study.forecast import forecast, remaining
from topolandscape.study.jobs import Job, done_jobs
from topolandscape.study.measures import MEASURES, SCORES, is_measured, measure, scores
from topolandscape.study.problem import trusted_recipe
from topolandscape.study.recipe import Recipe
from topolandscape.study.runs import is_done
from topolandscape.study.studies import Study, folder_name, group_names

# Settings of a run that say how its settings were understood, not what was asked.
_UNDERSTOOD = ("sources", "landscape", "held_out")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Finished runs in groups, and one row of numbers for each.

    Parameters
    ----------
    groups
        Name of the group of each run: runs of a group differ in their seed.
    runs
        The runs.
    varied
        Names of the settings by which groups differ.
    failures
        For each run that failed, by the name of its folder, what went wrong.
    load, temperature
        Names of varied settings that are the axes of a phase plot, or None.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = Run.create(folder, {"model": "mlp:2-2-1", "seed": 0})
    ...     run.save("barcode", Barcode.from_pairs([(0.0, math.inf), (1.0, 3.0), (1.0, 5.0)]))
    ...     result = StudyResult(("mlp:2-2-1",), (run,))
    >>> result
    StudyResult(1 run in 1 group)
    >>> result.of_group("mlp:2-2-1", "mean_bar")
    array([3.])
    """

    groups: tuple[str, ...]
    runs: tuple[Run, ...]
    varied: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    load: str | None = None
    temperature: str | None = None
    rows: tuple[Mapping[str, Any], ...] = field(init=False)
    """For each run its group, what was varied, its seed, its scores and measures, its folder; NaN: not known."""

    def __post_init__(self) -> None:
        """Read the numbers of every run."""
        if len(self.groups) != len(self.runs) or not self.runs:
            raise ValueError(f"there are {len(self.groups)} names of groups for {len(self.runs)} runs; give one each.")
        rows = tuple(
            MappingProxyType(
                {"group": group}
                | {name: run.settings.get(name) for name in (*self.varied, "seed")}
                | scores(run)
                | {"run": run.path.name}
            )
            for group, run in zip(self.groups, self.runs, strict=True)
        )
        settle(self, failures=MappingProxyType(dict(self.failures)), rows=rows)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the scores and measures that are known of at least one run."""
        return tuple(name for name in (*SCORES, *MEASURES) if not all(math.isnan(row[name]) for row in self.rows))

    def of_group(self, group: str, name: str) -> Floats:
        """Return a score or measure of the runs of a group, (runs,), without those of which it is not known."""
        if name not in (*SCORES, *MEASURES):
            raise ValueError(f"there is no number {name!r}; known are {', '.join((*SCORES, *MEASURES))}.")
        values = np.array([row[name] for row in self.rows if row["group"] == group])
        return values[~np.isnan(values)]

    def barcodes(self, group: str) -> list[Barcode]:
        """Return the barcodes of the runs of a group."""
        return [run.load("barcode", Barcode) for own, run in zip(self.groups, self.runs, strict=True) if own == group]

    def columns(self) -> dict[str, list[Any]]:
        """Return the table by columns: group, what was varied, seed, the known numbers, folder of the run."""
        names = ("group", *(name for name in (*self.varied, "seed") if name != "group"), *self.numbers, "run")
        return {name: [row[name] for row in self.rows] for name in names}

    def table(self) -> Any:
        """Return one row for each run as a pandas DataFrame; pandas is not needed otherwise."""
        import pandas as pd

        return pd.DataFrame(self.columns())

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.runs)

    def __repr__(self) -> str:
        """Return one line: how many runs, in how many groups, how many failed."""
        n, k = len(self), len(set(self.groups))
        failed = f"; {len(self.failures)} failed" if self.failures else ""
        return f"StudyResult({n} run{'s' * (n != 1)} in {k} group{'s' * (k != 1)}{failed})"


def run_study(
    study: Study, folder: str | os.PathLike[str], *, jobs: int | str = 1, progress: bool | None = None
) -> StudyResult:
    """Compute the runs of a study, or those that are missing, and measure them.

    Parameters
    ----------
    study
        What is computed.
    folder
        Where it is kept, each run in a folder of its own below ``runs``. A study that was stopped goes on where it was;
        one that has got more values computes what is new.
    jobs
        How many runs at once: 1 in this process, more each in a process of its own with its share of the cores. Or the
        address of a dask scheduler (``"tcp://host:8786"``; extra ``cluster``) whose workers share the folder.
    progress
        None: a bar when stderr is a terminal; True: always; False: never. What the study will cost, and which runs are
        done, is logged.

    Returns
    -------
    StudyResult
        With the runs that succeeded; those that did not are named in `failures`, and begin where they stopped when the
        study is given again.

    Raises
    ------
    RuntimeError
        All runs failed.
    BlockingIOError
        Another process computes in the folder.

    Examples
    --------
    >>> import tempfile
    >>> study = Study(
    ...     {
    ...         "model": "mlp:2-1-1,tanh",
    ...         "data": "teacher_student",
    ...         "route": "sample",
    ...         "region": "box",
    ...         "points": 50,
    ...     }
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run_study(study, folder, progress=False)
    >>> result.of_group("mlp:2-1-1,tanh", "parameters")
    array([5.])
    """
    if isinstance(jobs, int) and jobs < 1:
        raise ValueError(f"jobs is {jobs}; it needs to be 1 or more.")
    every = study_jobs(study, folder)
    waiting = _waiting(every)
    took = _took(every)
    if waiting:
        _log.info("%s", _cost(every, waiting, took, jobs))
    else:
        _log.info("all %d runs are done", len(every))
    failures: dict[str, str] = {}
    left = {job.folder.name: job for job in waiting}
    disable = None if progress is None else not progress
    with (
        locked(folder),
        tqdm(total=len(every), initial=len(every) - len(waiting), desc="study", unit="run", disable=disable) as bar,
    ):
        for job, seconds, wrong in done_jobs(waiting, jobs):
            del left[job.folder.name]
            bar.update()
            if wrong is None:
                took.setdefault(job.group, []).append(seconds)
            else:
                failures[job.folder.name] = wrong
            said = f"{job.folder.name} took {seconds:.0f} s" if wrong is None else f"{job.folder.name} failed: {wrong}"
            more = (
                f"; {len(left)} to do, {remaining(list(left.values()), took, _at_once(jobs))}" if left and took else ""
            )
            _log.info("%s%s", said, more)
    done = [job for job in every if job.folder.name not in failures]
    if not done:
        name, wrong = next(iter(failures.items()))
        raise RuntimeError(f"all {len(every)} runs failed; {name}: {wrong}")
    return StudyResult(
        groups=tuple(job.group for job in done),
        runs=tuple(Run.open(job.folder) for job in done),
        varied=study.varied,
        failures=failures,
        load=study.load,
        temperature=study.temperature,
    )


def study_jobs(study: Study, folder: str | os.PathLike[str]) -> list[Job]:
    """Return the jobs of a study, done or not, group by group."""
    recipes = study.recipes()
    groups, _ = group_names([{name: getattr(recipe, name) for name in (*study.varied, "model")} for recipe in recipes])
    place, measures = Path(folder) / "runs", tuple(study.measures or ())
    return [
        Job(recipe, place / folder_name(recipe), measures, group) for recipe, group in zip(recipes, groups, strict=True)
    ]


def cost_of_study(study: Study, folder: str | os.PathLike[str], *, jobs: int | str = 1) -> str:
    """Return in words how many runs of a study are still to do, and how long they will take."""
    every = study_jobs(study, folder)
    waiting = _waiting(every)
    if not waiting:
        return f"all {len(every)} runs are done"
    return _cost(every, waiting, _took(every), jobs)


def _cost(every: Sequence[Job], waiting: Sequence[Job], took: Mapping[str, Sequence[float]], jobs: int | str) -> str:
    span, how = forecast(waiting, took, _at_once(jobs))
    where = f"{jobs} at once" if isinstance(jobs, int) else "on one worker"
    return f"{len(waiting)} of {len(every)} runs to do, {where}: {span}, {how}"


def _at_once(jobs: int | str) -> int:
    """Return how many runs a forecast counts at once; of a cluster, in which workers come and go, one."""
    return jobs if isinstance(jobs, int) else 1


def compare_runs(
    folders: Sequence[str | os.PathLike[str]], *, measures: Sequence[str] = (), trusted: bool = False
) -> StudyResult:
    """Compare finished runs, those that differ in their seed only as one group.

    Parameters
    ----------
    folders
        Of the runs.
    measures
        Of the trained minima: names of ``topolandscape.study.MEASURES``. What a run holds already is shown anyway.
    trusted
        Whether Python files that the runs name may be run to measure them: of runs that you made yourself.

    Returns
    -------
    StudyResult

    Raises
    ------
    PermissionError
        A run is to be measured, names a Python file, and is not trusted.
    FileNotFoundError
        A folder holds no run, or one that is not finished.

    Examples
    --------
    >>> compare_runs([])
    Traceback (most recent call last):
    ValueError: no run was given; give the folders of two or more.
    """
    if not folders:
        raise ValueError("no run was given; give the folders of two or more.")
    runs = tuple(Run.open(folder) for folder in folders)
    paths = [run.path.resolve() for run in runs]
    twice = [run.path for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1]
    if twice:
        raise ValueError(f"the run {twice[0]} is given twice; give it once.")
    for name in measures:
        if name not in MEASURES:
            raise ValueError(f"there is no measure {name!r}; allowed are {', '.join(MEASURES)}.")
    for run in runs:
        run.load("barcode", Barcode)
        if measures and not is_measured(run, tuple(measures)):
            recipe = trusted_recipe(_recipe_of(run), trusted=trusted)
            with locked(run.path):
                measure(Run.open(run.path), recipe, tuple(measures))
    runs = tuple(Run.open(folder) for folder in folders)
    asked = [{name: value for name, value in run.settings.items() if name not in _UNDERSTOOD} for run in runs]
    groups, varied = group_names(asked)
    return StudyResult(tuple(groups), runs, varied)


def _waiting(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that are not done, the first seed of every group before the second of any."""
    rank: dict[str, int] = {}
    waiting: list[tuple[int, int, Job]] = []
    for job in jobs:
        rank[job.group] = rank.get(job.group, -1) + 1
        if not (is_done(job.recipe, job.folder) and is_measured(Run.open(job.folder), job.measures)):
            waiting.append((rank[job.group], len(waiting), job))
    return [job for *_, job in sorted(waiting)]


def _took(jobs: Sequence[Job]) -> dict[str, list[float]]:
    """Return the seconds that the runs took which are done, by group."""
    took: dict[str, list[float]] = {}
    for job in jobs:
        if is_done(job.recipe, job.folder) and (seconds := Run.open(job.folder).known("seconds")) is not None:
            took.setdefault(job.group, []).append(seconds)
    return took


def _recipe_of(run: Run) -> Recipe:
    """Return the recipe of a run."""
    names = {own.name for own in fields(Recipe)}
    options = {name: value for name, value in run.settings.items() if name in names}
    if not {"model", "data"} <= set(options) or options.get("route") != "minima":
        raise ValueError(f"{run.path} is no run of `topolandscape barcode` on the route minima; leave out measures.")
    options["checkpoints"] = tuple(options.get("checkpoints", ()))
    if options["checkpoints"]:
        del options["minima"]
    return Recipe(**options)
