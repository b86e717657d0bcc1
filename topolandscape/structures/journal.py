"""What a computation has found out on its way, kept so that one that was stopped goes on and need not begin anew.

What is kept are answers, by what was asked: a computation that is done again asks the same, up to where it was stopped.
Long loops offer their state besides, which stands for all answers within the loop until then.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

# Seconds of work after which it is kept, and the largest share of the time that keeping it may take.
_KEEP_AFTER, _KEEP_SHARE = 15.0, 0.05
# Steps for which a state may have to stand, at most, where they suddenly take longer.
_AHEAD = 8
_STATE, _ANSWERS, _WITHIN = "state", "answers", "within"


class Store(Protocol):
    """Where named arrays are kept, whole or not at all; see `topolandscape.Run.store`."""

    def names(self) -> list[str]:
        """Return what is there."""

    def get(self, name: str) -> Arrays | None:
        """Return the arrays of a name, None where there are none."""

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under a name, in place of those that were there."""

    def clear(self, *, but: Collection[str] = ()) -> None:
        """Remove everything but what has some names."""


class Pace:
    """Tells when it is time to keep what was computed."""

    def __init__(self) -> None:
        self._last, self._least = time.monotonic(), 0.0

    def is_due(self, ahead: float = 0.0) -> bool:
        """Tell whether there is enough new work to be kept, or will be some seconds ahead."""
        passed = time.monotonic() - self._last
        return passed >= self._least and passed + ahead >= _KEEP_AFTER

    def keep(self, save: Callable[[], None]) -> None:
        """Keep it, and mind how long that takes."""
        start = time.monotonic()
        save()
        self._last = time.monotonic()
        self._least = (self._last - start) / _KEEP_SHARE


@dataclass
class Halfway:
    """Where a loop had come when it was stopped, and who keeps where it has come now.

    Attributes
    ----------
    known
        The state that was kept last; empty where the loop begins.
    offer
        Called between two steps with a function that returns the state.
    """

    known: Arrays = field(default_factory=dict)
    offer: Callable[[Callable[[], Arrays]], None] = lambda state: None


class Journal:
    """Answers that are kept, and given again to who asks the same.

    Parameters
    ----------
    store
        Where they are kept, and nothing else.

    Notes
    -----
    An answer must depend on what is asked alone. Answers within a loop are kept only where its steps are long; they
    go when the next state is kept.

    Examples
    --------
    >>> journal = Journal(InMemory())
    >>> journal.answer(["double", 2.0], lambda halfway: {"result": np.array(4.0)})["result"]
    array(4.)
    """

    def __init__(self, store: Store) -> None:
        self._store, self._pace = store, Pace()
        self._number = 0  # of parts that were written
        self._where: dict[str, str] = {}  # which part has an answer that was known at the beginning
        self._read: tuple[str, dict[str, dict[str, NDArray[Any]]]] = "", {}
        for name in store.names():
            self._number = max(self._number, int(name.partition("-")[2] or -1) + 1)
            self._where |= dict.fromkeys(self._part(name), name)
        self._found: dict[str, Arrays] = {}
        self._within: dict[str, Arrays] = {}
        self._loop = ""  # what is being answered
        # Whether all that was found out since the last state was kept, or the loop began, is in `_within`.
        self._is_fresh = False
        self._is_kept = False  # whether the state that is offered next is the one that is kept
        self._offered = 0.0

    def answer(self, asked: Iterable[Any], find: Callable[[Halfway], Arrays]) -> Arrays:
        """Return the answer to what is asked, as it is known, or find it.

        Parameters
        ----------
        asked
            All that the answer depends on: arrays, numbers, text, lists, mappings and records of these.
        find
            Gives the answer, from where it had come.
        """
        if self._loop and not (self._is_fresh or self._where):
            return find(Halfway())
        digest = _digest(asked)
        if self._where.get(digest, _STATE) != _STATE:
            return self._known(digest)
        if self._loop:
            return self._add(digest, find(Halfway()))
        known = self._known(digest)
        self._loop, self._is_fresh, self._offered = digest, True, time.monotonic()
        self._is_kept = bool(known)
        try:
            found = find(Halfway(known, self._offer))
        finally:
            self._loop = ""
            self._within.clear()
        return self._add(digest, found)

    def known(self, asked: Iterable[Any]) -> Arrays:
        """Return the answer to what is asked as it was kept, or nothing."""
        return self._known(_digest(asked))

    def add(self, asked: Iterable[Any], found: Arrays) -> None:
        """Keep an answer that others have found."""
        self._add(_digest(asked), found)

    def _known(self, digest: str) -> Arrays:
        if digest not in self._where:
            return {}
        return {key: array.copy() for key, array in self._part(self._where[digest])[digest].items()}

    def _add(self, digest: str, found: Arrays) -> Arrays:
        if not self._loop:
            self._found[digest] = found
        elif self._is_fresh:
            self._within[digest] = found
        if self._pace.is_due():
            self._pace.keep(self.write)
        return found

    def _offer(self, state: Callable[[], Arrays]) -> None:
        if self._is_kept:  # what was found out in this step before it was stopped is still needed
            self._is_kept = False
            return
        now = time.monotonic()
        step, self._offered = now - self._offered, now
        self._within.clear()
        self._is_fresh = self._pace.is_due(ahead=_AHEAD * step)
        if self._is_fresh:
            self._pace.keep(lambda: self._write_state(state()))

    def _write_state(self, state: Arrays) -> None:
        self.write()
        self._store.put(_STATE, _named({self._loop: state}))
        self._store.clear(but=[name for name in self._store.names() if not name.startswith(_WITHIN)])
        # The state that was there before is gone, too.
        self._where = {digest: name for digest, name in self._where.items() if name.startswith(_ANSWERS)}

    def write(self) -> None:
        """Keep all answers that were found."""
        for kind, answers in ((_ANSWERS, self._found), (_WITHIN, self._within)):
            if answers:
                self._store.put(f"{kind}-{self._number:06d}", _named(answers))
                self._number += 1
                answers.clear()

    def clear(self) -> None:
        """Forget all answers, since something else stands for them."""
        self._store.clear()
        self._where.clear()
        self._found.clear()

    def _part(self, name: str) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the answers of a part by what was asked, or none if it is not there."""
        if self._read[0] != name:
            answers: dict[str, dict[str, NDArray[Any]]] = {}
            for key, array in (self._store.get(name) or {}).items():
                digest, _, own = key.partition(".")
                answers.setdefault(digest, {})[own] = array
            self._read = name, answers
        return self._read[1]


class InMemory:
    """A store that ends with the process.

    Examples
    --------
    >>> store = InMemory()
    >>> store.put("state", {"step": np.array(3)})
    >>> store.names()
    ['state']
    """

    def __init__(self) -> None:
        self._kept: dict[str, Arrays] = {}

    def names(self) -> list[str]:
        """Return what is there."""
        return list(self._kept)

    def get(self, name: str) -> Arrays | None:
        """Return the arrays of a name, None where there are none."""
        return self._kept.get(name)

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep copies of arrays under a name, in place of those that were there."""
        self._kept[name] = {key: np.array(array) for key, array in arrays.items()}

    def clear(self, *, but: Collection[str] = ()) -> None:
        """Remove everything but what has some names."""
        self._kept = {name: arrays for name, arrays in self._kept.items() if name in but}


def _named(answers: Mapping[str, Arrays]) -> Arrays:
    return {f"{digest}.{name}": array for digest, own in answers.items() for name, array in own.items()}


def _digest(asked: Iterable[Any]) -> str:
    """Return a checksum of what is asked."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
        elif isinstance(part, Mapping):
            add([list(part), list(part.values())])
        elif isinstance(part, (list, tuple)):
            digest.update(f"[{len(part)}".encode())
            for entry in part:
                add(entry)
        elif is_dataclass(part):
            add([getattr(part, field.name) for field in fields(part)])
        elif part is None or isinstance(part, (bool, int, float, str, np.generic)):
            digest.update(f"{type(part).__name__} {part!r};".encode())
        else:
            raise TypeError(f"got {type(part).__name__}; an answer can depend on arrays, numbers and text alone.")

    add(list(asked))
    return digest.hexdigest()
