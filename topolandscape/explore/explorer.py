"""What one page shows, and what is computed for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from topolandscape.explore.jobs import Job, Jobs
from topolandscape.explore.live import Live, live, recipe_of
from topolandscape.explore.model import Explored, explored
from topolandscape.files import Run
from topolandscape.study.recipe import Recipe


class Explorer:
    """What one page shows: runs that were read, or a model alone, and what is computed for it.

    Python files that runs name are run only where these are trusted.

    Attributes
    ----------
    runs
        What was read of each run; empty for a model alone.
    jobs
        What is computed in the background.
    """

    def __init__(self, runs: Sequence[Run] = (), recipe: Recipe | None = None, *, trusted: bool = False) -> None:
        self._folders = list(runs)
        self._trusted = trusted
        self._recipe = recipe
        self._loads: dict[int, Job] = {}
        self._lock = threading.Lock()
        self.runs: list[Explored] = [explored(run) for run in runs]
        self.jobs = Jobs()

    @property
    def names(self) -> list[str]:
        """What the runs are called, each by its folder where several are called alike."""
        if self._recipe is not None:
            return [f"{self._recipe.model} on {self._recipe.data}"]
        names = [run.name for run in self.runs]
        if len(set(names)) == len(names):
            return names
        return [folder.path.name for folder in self._folders]

    def load(self, number: int) -> Job:
        """Begin to load the network of a run, once; return how far that is."""
        with self._lock:
            if number not in self._loads:
                job = self.jobs.job(self.jobs.start(lambda report: self._live(number)))
                assert job is not None
                self._loads[number] = job
            return self._loads[number]

    def live(self, number: int) -> Live:
        """Return the network of a run.

        Raises
        ------
        ValueError
            It is not loaded yet, or cannot be.
        """
        job = self.load(number)
        if job.state != "done":
            raise ValueError(job.message or "the model is still loading.")
        return job.result

    def _live(self, number: int) -> Live:
        if self._recipe is not None:
            return live(self._recipe)
        folder = self._folders[number]
        return live(recipe_of(folder), folder, self.runs[number], trusted=self._trusted)
