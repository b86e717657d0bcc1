"""A landscape of which the answers are kept, so that what asks it goes on where it was stopped, to the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, get_type_hints

import numpy as np
from numpy.typing import ArrayLike, NDArray

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.tasks import Asked, Tasks
from topolandscape.structures import Floats, Subspace
from topolandscape.structures.journal import Arrays, Halfway, Journal

_Given = ParamSpec("_Given")
_Record = TypeVar("_Record")
_EVALUATIONS = "evaluations made"


def kept(landscape: Landscape, journal: Journal) -> Landscape:
    """Return a landscape with its answers in a journal, and the results of loops that are `resumable`.

    Parameters
    ----------
    landscape
        Any; parts of it and restrictions keep nothing.
    journal
        Of this landscape alone.

    Examples
    --------
    >>> from topolandscape.structures.journal import InMemory
    >>> journal = Journal(InMemory())
    >>> kept(Landscape.from_function(lambda x: (x**2).sum(1), 1), journal).values([[3.0]])
    array([9.])
    >>> journal.write()
    """
    result = _Kept.__new__(_Kept)
    vars(result).update(vars(landscape))
    result.journal = journal
    if landscape.tasks is not None:
        result.tasks = _KeptTasks(landscape.tasks, result)
    return result


class _Kept(Landscape):
    """A landscape of which the answers are kept."""

    journal: Journal

    def once(self, asked: list[Any], find: Callable[[Halfway], Arrays]) -> Arrays:
        """Return the answer that is known to what is asked, or find it; the evaluations it took are counted anyway."""
        before = self.engine.evaluations

        def counted() -> Arrays:
            return {_EVALUATIONS: np.array(self.engine.evaluations - before)}

        def found(halfway: Halfway) -> Arrays:
            self.engine.evaluations += int(halfway.known.get(_EVALUATIONS, 0))
            own = Halfway(halfway.known, lambda state: halfway.offer(lambda: {**state(), **counted()}))
            return {**find(own), **counted()}

        answer = self.journal.answer(asked, found)
        self.engine.evaluations = before + int(answer[_EVALUATIONS])
        return answer

    def values(self, points: ArrayLike, *, progress: bool | None = None) -> Floats:
        at, one = np.asarray(points, dtype=np.float64), super().values
        return self.once(["values", at], lambda _: {"values": one(at, progress=progress)})["values"]

    def gradients(self, points: ArrayLike, *, progress: bool | None = None) -> tuple[Floats, Floats]:
        at, both = np.asarray(points, dtype=np.float64), super().gradients
        names = ("values", "gradients")
        found = self.once(["gradients", at], lambda _: dict(zip(names, both(at, progress=progress), strict=True)))
        return found["values"], found["gradients"]

    def accuracies(self, points: ArrayLike, *, progress: bool | None = None) -> tuple[Floats, Floats]:
        at, both = np.asarray(points, dtype=np.float64), super().accuracies
        names = ("values", "shares")
        found = self.once(["accuracies", at], lambda _: dict(zip(names, both(at, progress=progress), strict=True)))
        return found["values"], found["shares"]

    def hessian_products(self, point: ArrayLike, vectors: ArrayLike, *, progress: bool | None = None) -> Floats:
        at, rows, one = np.asarray(point, dtype=np.float64), np.asarray(vectors), super().hessian_products
        found = self.once(["products", at, rows], lambda _: {"products": one(at, rows, progress=progress)})
        return found["products"]

    def noise_at(self, points: ArrayLike) -> Floats:
        at, one = np.asarray(points, dtype=np.float64), super().noise_at
        return self.once(["noise", at], lambda _: {"noise": one(at)})["noise"]


class _KeptTasks:
    """Tasks of which the results are kept as they arrive."""

    def __init__(self, tasks: Tasks, landscape: _Kept) -> None:
        self._tasks, self._landscape = tasks, landscape

    def done(
        self,
        function: Callable[..., Any],
        arguments: Asked,
        *,
        subspace: Subspace | None = None,
        what: str,
        progress: bool | None,
    ) -> Iterator[tuple[int, Any]]:
        kind, journal, engine = get_type_hints(function)["return"], self._landscape.journal, self._landscape.engine
        asked = [_asked(function, *given) for given in arguments]
        missing = []
        for number in range(len(asked)):
            if known := journal.known(asked[number]):
                engine.evaluations += int(known[_EVALUATIONS])
                yield number, _record(kind, known)
            else:
                missing.append(number)
        left = [arguments[number] for number in missing]
        before = engine.evaluations
        for place, found in self._tasks.done(function, left, subspace=subspace, what=what, progress=progress):
            spent, before = np.array(engine.evaluations - before), engine.evaluations
            journal.add(asked[missing[place]], {**_parts(found), _EVALUATIONS: spent})
            yield missing[place], found


def resumable(
    kind: type[_Record],
) -> Callable[
    [Callable[Concatenate[Landscape, Halfway, _Given], _Record]], Callable[Concatenate[Landscape, _Given], _Record]
]:
    """Let a loop on a landscape go on where it was stopped.

    Parameters
    ----------
    kind
        The record that it returns, of arrays, texts, and tuples of these.

    Returns
    -------
    Callable
        Decorates a function of a landscape, of where the loop had come, and of all else that decides its result. It
        begins with the state ``halfway.known``, or anew where that is empty, and offers states with ``halfway.offer``.
        ``progress`` decides nothing.
    """

    def decorated(
        loop: Callable[Concatenate[Landscape, Halfway, _Given], _Record],
    ) -> Callable[Concatenate[Landscape, _Given], _Record]:
        @wraps(loop)
        def resumed(landscape: Landscape, *given: _Given.args, **options: _Given.kwargs) -> _Record:
            if not isinstance(landscape, _Kept):
                return loop(landscape, Halfway(), *given, **options)
            asked = _asked(loop, given, options)
            found = landscape.once(asked, lambda halfway: _parts(loop(landscape, halfway, *given, **options)))
            return _record(kind, found)

        return resumed  # type: ignore[return-value]  # of a wrapper, mypy knows the first argument by its name

    return decorated


def _asked(function: Callable[..., Any], given: tuple[Any, ...], options: Mapping[str, Any]) -> list[Any]:
    """Return all that the result of a function of a landscape depends on."""
    return [function.__qualname__, given, {name: options[name] for name in sorted(options) if name != "progress"}]


def _record(kind: type[_Record], arrays: Arrays) -> _Record:
    """Return the record of which `_parts` are these arrays."""
    return kind(**{name: _whole(name, arrays) for name in _names(kind)})


def _names(kind: type) -> list[str]:
    """Return the fields of a dataclass or a named tuple."""
    return [field.name for field in fields(kind)] if is_dataclass(kind) else list(kind._fields)  # type: ignore[attr-defined]


def _parts(record: Any) -> dict[str, NDArray[Any]]:
    """Return the arrays of a record, with dots in the names of those in tuples."""
    return dict(_listed({name: getattr(record, name) for name in _names(type(record))}))


def _listed(values: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, value in values.items():
        if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            yield from ((f"{name}.{place}", entry) for place, entry in enumerate(value))
        elif isinstance(value, tuple):
            yield name, np.array(value, dtype=np.str_)
        else:
            yield name, np.asarray(value)


def _whole(name: str, arrays: Arrays) -> Any:
    """Return the field of a record from its arrays."""
    if name not in arrays:
        return tuple(arrays[f"{name}.{place}"] for place in range(sum(key.startswith(f"{name}.") for key in arrays)))
    if arrays[name].ndim == 0:
        return arrays[name].item()
    return tuple(arrays[name].tolist()) if arrays[name].dtype.kind == "U" else arrays[name]
