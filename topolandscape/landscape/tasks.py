"""Work that is cut into tasks, which others may do.

A task is a function of a landscape and of some of the points (starts of descents, paths) that it is asked for. How work
is cut depends on the work alone, so that its results are the same whoever does the tasks, and in whatever order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from topolandscape.structures import Subspace

# Tasks into which points, descents or paths are cut at most, each on its way for long.
MOST_TASKS = 256
# Parameters times rows times points of a task of plain evaluations: seconds on one core. And of one step of descents or
# paths that go together, at least: a millisecond, so that what a step costs anyway does not count. An accelerator is a
# hundred times as fast.
_WORK, _STEP, _FASTER = 2e10, 1e7, 100
# What a gradient and a product with the Hessian cost, in losses.
_COSTS = {"values": 1, "accuracies": 1, "gradients": 3, "products": 6}
_MOST_POINTS = 2**18
# Numbers that are sent with a task at most: 8 MiB.
_MOST_NUMBERS = 2**20

_Result = TypeVar("_Result")

Asked = Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]
"""The arguments and the options of each task."""


class Tasks(Protocol):
    """Whoever does tasks; see `topolandscape.on_workers`."""

    def done(
        self,
        function: Callable[..., Any],
        arguments: Asked,
        *,
        subspace: Subspace | None = None,
        what: str,
        progress: bool | None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (number of the task, ``function(landscape, *arguments, **options)``), in the order of arrival.

        With a subspace the function gets the landscape restricted to it. It gets copies of the arguments.
        """


class OnWorkers(Protocol):
    """What is asked of a landscape here."""

    tasks: Tasks | None
    description: Mapping[str, Any]


def in_parts(
    landscape: OnWorkers,
    function: Callable[..., _Result],
    count: int,
    arguments: Callable[[slice], tuple[tuple[Any, ...], Mapping[str, Any]]],
    *,
    points: int = 1,
    what: str,
    progress: bool | None,
) -> list[_Result]:
    """Return what a function gives for parts of `count` rows, in their order.

    Parameters
    ----------
    landscape
        On workers.
    function
        Of a landscape and the arguments of a part.
    count
        Rows in all.
    arguments
        Gives the arguments, and the options, of a part.
    points
        At which the gradient is taken in a step of one row.
    what
        What the rows are, in the plural.
    progress
        As for `topolandscape.descend`.
    """
    assert landscape.tasks is not None
    parts = [arguments(rows) for rows in parts_of(landscape.description, count, points=points)]
    results: dict[int, _Result] = dict(landscape.tasks.done(function, parts, what=what, progress=progress))
    return [results[number] for number in range(len(parts))]


def parts_of(description: Mapping[str, Any], count: int, *, points: int = 1) -> list[slice]:
    """Return into which parts descents, or paths of some points, are cut on a landscape that is described.

    Examples
    --------
    >>> parts_of({"parameters": 1000, "rows": 1000}, 8)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 8, None)]
    """
    work = _work(description) * _COSTS["gradients"] * points
    size = max(math.ceil(count / MOST_TASKS), int(_STEP / work), 1)
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def joined(parts: Sequence[_Result], **others: Any) -> _Result:
    """Return frozen records as one: arrays and tuples one after the other, and some fields that are given.

    Examples
    --------
    >>> from topolandscape.structures import Descent
    >>> one = Descent(3, np.zeros((1, 2)), [0.0], np.zeros((1, 2)), np.zeros((1, 1, 2)), [-1])
    >>> joined([one, one], moments=np.zeros((1, 2, 2))).points.shape
    (2, 2)
    """
    first: Any = parts[0]
    columns: dict[str, Any] = {}
    for field in fields(first):
        own = [getattr(part, field.name) for part in parts]
        if field.name in others:
            columns[field.name] = others[field.name]
        elif isinstance(own[0], np.ndarray):
            columns[field.name] = np.concatenate(own)
        elif isinstance(own[0], tuple):
            columns[field.name] = tuple(entry for part in own for entry in part)
    return replace(first, **columns)


def points_of_task(description: Mapping[str, Any], kind: str, coordinates: int) -> int:
    """Return at how many points, of so many coordinates, a task evaluates a kind of quantity.

    Examples
    --------
    >>> points_of_task({"parameters": 1000, "rows": 1000}, "values", 2)
    20000
    """
    points = _WORK / (_work(description) * _COSTS[kind])
    return int(max(min(points, _MOST_POINTS, _MOST_NUMBERS / coordinates), 1))


def _work(description: Mapping[str, Any]) -> float:
    """Return parameters times rows, in those that a core goes through in the same time."""
    speed = _FASTER if str(description.get("device", "cpu")) != "cpu" else 1
    return float(description.get("parameters", 1)) * float(description.get("rows", 1)) / speed
