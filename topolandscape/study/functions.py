"""Functions whose barcode is known, and what the code finds of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from topolandscape import zoo
from topolandscape.structures import Barcode, Connectivity
from topolandscape.study.said import rows_of
from topolandscape.topology.complexes import grid
from topolandscape.topology.persistence import barcode

_SHOWN = 5  # known bars in a line of the list


class Beside(NamedTuple):
    """The barcode of a function on a grid, and the exact one, where it is known."""

    what: str
    shape: tuple[int, ...]
    connectivity: Connectivity
    code: Barcode
    exact: Barcode | None


def json_of_functions() -> dict[str, list[list[float | None]]]:
    """Return the known bars of every function; a bar that never ends has no death."""
    return {
        name: [[birth, None if np.isinf(death) else death] for birth, death in _bars(function)]
        for name, function in zoo.functions.items()
    }


def lines_of_functions() -> Iterator[str]:
    """Yield for every function where it is defined, and its first known bars."""
    for name, function in zoo.functions.items():
        bars = _bars(function)
        box = " x ".join(f"[{low:g}, {high:g}]" for low, high in zip(function.low, function.high, strict=True))
        yield f"{name}  on {box}  ({function.source})"
        more = f"  ... {len(bars)} bars in all" if len(bars) > _SHOWN else ""
        yield "  " + "  ".join(f"[{birth:.6g}, {death:.6g})" for birth, death in bars[:_SHOWN]) + more


def beside_truth(name: str, resolution: int, connectivity: Connectivity) -> Beside:
    """Return the barcode of a function on a grid of so many points along each axis, and the exact one."""
    if name not in zoo.functions:
        near = difflib.get_close_matches(name, zoo.functions, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else " `topolandscape functions` lists them."
        raise ValueError(f"there is no function {name!r}.{hint}")
    function = zoo.functions[name]
    samples = function.on_grid((resolution,) * function.dimension)
    bars = function.bars.get(0)
    exact = None if bars is None else Barcode.from_pairs(bars)
    code = barcode(grid(samples, connectivity=connectivity))
    return Beside(name, samples.shape or (), connectivity, code, exact)


def json_of(found: Beside) -> dict[str, Any]:
    """Return both barcodes as plain values."""
    exact = None if found.exact is None else rows_of(found.exact)
    return {"function": found.what, "bars": rows_of(found.code), "exact": exact}


def lines_of(found: Beside) -> Iterator[str]:
    """Yield both barcodes in lines."""
    yield f"{found.what} on a grid of {' x '.join(map(str, found.shape))}, {found.connectivity} neighbours"
    yield found.code.table()
    if found.exact is None:
        yield "no exact bars are known."
        return
    yield "exact:"
    for birth, death in zip(found.exact.birth, found.exact.death, strict=True):
        yield f"     {birth:>12.6g}  {death:>12.6g}  {death - birth:>12.6g}"


def _bars(function: Any) -> list[tuple[float, float]]:
    return [(float(birth), float(death)) for birth, death in function.bars.get(0) or ()]
