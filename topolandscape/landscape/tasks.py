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
# Parameters times rows times points of a task of plain evaluations: seconds on one core, on an accelerator, which is a
# hundred times as fast, too.
_WORK, _FASTER = 2e10, 100
# What a gradient and a product with the Hessian cost, in losses.
_COSTS = {"values": 1, "accuracies": 1, "gradients": 3, "products": 6}
_MOST_POINTS = 2**18

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

        With a subspace the function gets the landscape restricted to it.
        """


def in_parts(
    tasks: Tasks,
    function: Callable[..., _Result],
    count: int,
    arguments: Callable[[slice], tuple[tuple[Any, ...], Mapping[str, Any]]],
    *,
    what: str,
    progress: bool | None,
) -> list[_Result]:
    """Return what a function gives for parts of `count` rows, in their order.

    Parameters
    ----------
    tasks
        Whoever does them.
    function
        Of a landscape and the arguments of a part.
    count
        Rows in all.
    arguments
        Gives the arguments, and the options, of a part.
    what
        What the rows are, in the plural.
    progress
        As for `topolandscape.descend`.
    """
    size = math.ceil(count / MOST_TASKS)
    parts = [arguments(slice(start, min(start + size, count))) for start in range(0, count, size)]
    results: dict[int, _Result] = dict(tasks.done(function, parts, what=what, progress=progress))
    return [results[number] for number in range(len(parts))]


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


def points_of_task(description: Mapping[str, Any], kind: str) -> int:
    """Return at how many points a task evaluates a kind of quantity.

    Examples
    --------
    >>> points_of_task({"parameters": 1000, "rows": 1000}, "values")
    20000
    """
    speed = _FASTER if str(description.get("device", "cpu")) != "cpu" else 1
    work = float(description.get("parameters", 1)) * float(description.get("rows", 1)) * _COSTS[kind]
    return int(min(max(speed * _WORK / work, 1), _MOST_POINTS))
