"""What of a box of a grid can still matter, what is known of the whole, and both kept on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from topolandscape.structures import Floats, Integers
from topolandscape.structures.journal import Arrays, Pace, Store
from topolandscape.topology.joining import Links, concatenated

Box = tuple[slice, ...]


class Face(NamedTuple):
    """The outermost layer of a box: values, and the node to which each vertex descends."""

    values: Floats
    node: NDArray[np.int32]


class Reduced(NamedTuple):
    """What of a box can still matter."""

    box: Box
    stops: Integers  # (nodes,) the number of each node's stop
    links: Links  # between nodes, a forest
    faces: Mapping[tuple[int, int], Face]  # by axis and side (0: low), those that touch other boxes


class Found:
    """What is known of the whole: stops, numbered as they are found, and links that join for certain.

    Parameters
    ----------
    store
        Where it is kept when it is time: of stops and links what is not there yet, and the boxes that wait for others.
        None: nowhere.
    key
        Of what; what is there of another grid, or another way to cut it, is forgotten, and so is all where a part of it
        was removed.
    """

    def __init__(self, store: Store | None, key: str) -> None:
        self.vertices: list[Integers] = []
        self.values: list[Floats] = []
        self.settled: list[Links] = []
        self._waiting: dict[str, Reduced] = {}
        self._store, self._pace = store, Pace()
        self._key = np.array(hashlib.sha256(key.encode()).hexdigest())
        self._parts: list[str] = []  # of stops and links, that are in the store
        self._boxes: list[str] = []
        self._seen = 0, 0  # how many of the stops and links are in the store
        if store is None:
            return
        state = store.get("state")
        needed = {*state["parts"].tolist(), *state["boxes"].tolist()} if state is not None else set()
        if state is None or state["key"] != self._key or not needed <= {*store.names()}:
            store.clear()  # or parts of another way to cut it could be taken for those that its state names
            return
        self._parts, self._boxes = state["parts"].tolist(), state["boxes"].tolist()
        for name in self._parts:
            arrays = store.get(name) or {}
            self.vertices.append(arrays["vertices"])
            self.values.append(arrays["values"])
            self.settled.append(_links(arrays))
        for name in self._boxes:
            reduced = _unpacked(store.get(name) or {})
            self._waiting[_name(reduced.box)] = reduced
        self._seen = len(self.vertices), len(self.settled)

    def taken(self, box: Box) -> Reduced | None:
        """Return a box that was reduced before."""
        return self._waiting.get(_name(box))

    def add(self, reduced: Reduced, halves: Sequence[Reduced] = ()) -> Reduced:
        """Let a reduced box wait, instead of its halves."""
        for half in halves:
            del self._waiting[_name(half.box)]
        self._waiting[_name(reduced.box)] = reduced
        if self._store is not None and self._pace.is_due():
            self._pace.keep(self.write)
        return reduced

    def write(self) -> None:
        """Keep what is known, if there is a place for it."""
        if self._store is None or not self._waiting.keys() - {*self._boxes}:
            return
        vertices, settled = self._seen
        self._parts.append(f"part-{len(self._parts):06d}")
        none = np.empty(0, dtype=np.int64)
        arrays = {
            "vertices": np.concatenate([none, *self.vertices[vertices:]]),
            "values": np.concatenate([np.empty(0), *self.values[vertices:]]),
            **concatenated([Links(none, none, np.empty(0), none), *self.settled[settled:]])._asdict(),
        }
        self._store.put(self._parts[-1], arrays)
        for name, reduced in self._waiting.items():
            if name not in self._boxes:
                self._store.put(name, _packed(reduced))
        self._boxes = list(self._waiting)
        state = {"key": self._key, "parts": np.array(self._parts), "boxes": np.array(self._boxes)}
        self._store.put("state", state)
        self._store.clear(but=["state", "sizes", *self._parts, *self._boxes])
        self._seen = len(self.vertices), len(self.settled)

    def counted(self, points: Integers) -> tuple[int, int]:
        """Add the points of nodes that were counted before; return of how many boxes they are, and their stops."""
        known = self._store.get("sizes") if self._store is not None else None
        if known is None or known["key"] != self._key:
            return 0, 0
        points += known["points"]
        return int(known["boxes"]), int(known["first"])

    def count(self, points: Integers, boxes: int, first: int) -> None:
        """Keep the points of nodes as they were counted in so many boxes, with so many stops, when it is time."""
        if self._store is not None and self._pace.is_due():
            store = self._store
            arrays = {"key": self._key, "points": points, "boxes": np.array(boxes), "first": np.array(first)}
            self._pace.keep(lambda: store.put("sizes", arrays))


def _name(box: Box) -> str:
    return "box-" + "-".join(f"{side.start}_{side.stop}" for side in box)


def _links(arrays: Arrays) -> Links:
    return Links(*(arrays[field] for field in Links._fields))


def _packed(reduced: Reduced) -> Arrays:
    """Return a reduced box as arrays."""
    faces = {
        f"{field} {axis} {side}": array
        for (axis, side), face in reduced.faces.items()
        for field, array in face._asdict().items()
    }
    box = np.array([[side.start, side.stop] for side in reduced.box])
    return {"box": box, "stops": reduced.stops, **reduced.links._asdict(), **faces}


def _unpacked(arrays: Arrays) -> Reduced:
    """Return the box that `_packed` made arrays of."""
    ends = [name.split()[1:] for name in arrays if name.startswith("node ")]
    faces = {
        (int(axis), int(side)): Face(arrays[f"values {axis} {side}"], arrays[f"node {axis} {side}"])
        for axis, side in ends
    }
    return Reduced(tuple(slice(int(a), int(b)) for a, b in arrays["box"]), arrays["stops"], _links(arrays), faces)
