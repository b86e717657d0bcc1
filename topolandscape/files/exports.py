"""Barcodes in the formats of other programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from topolandscape.files.whole import write
from topolandscape.structures import Barcode

# DIPHA's own numbers: what its files begin with, and the kind of file that holds a persistence diagram.
_DIPHA, _DIAGRAM = 8067171840, 2


def export(path: str | os.PathLike[str], barcode: Barcode) -> None:
    """Write the bars of a barcode for another program.

    Parameters
    ----------
    path
        File to write. ``.csv``: a table with a header, minima, saddles and sizes included; ``.pers``: gudhi's text of
        degree, birth and death; ``.dipha``: the binary persistence diagram of DIPHA (Bauer, Kerber and Reininghaus
        2014). Lists for gudhi and persim in Python are `Barcode.to_gudhi` and `Barcode.to_persim`.
    barcode
        Any. Floats are written with all their digits, deaths of bars that never end as ``inf``. DIPHA has no such
        death: there they have the degree -1 - dim, and end at the highest finite loss of the barcode.

    Raises
    ------
    ValueError
        The ending is another one.

    See Also
    --------
    save : keeps a barcode whole, to be read with `load`.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "bars.pers")
    ...     export(file, Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0)]))
    ...     with open(file) as stream:
    ...         stream.read().split()
    ['0', '0.0', 'inf', '0', '1.0', '3.0']
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise ValueError(f"{path} ends in {path.suffix!r}; barcodes are exported to {', '.join(_WRITERS)}.")
    write(path, _WRITERS[path.suffix](barcode))


def _csv(barcode: Barcode) -> bytes:
    columns = {name: getattr(barcode, name) for name in Barcode.columns} | {"persistence": barcode.persistence}
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return "".join(",".join(map(str, row)) + "\n" for row in (tuple(columns), *rows)).encode()


def _pers(barcode: Barcode) -> bytes:
    columns = (barcode.dim.tolist(), barcode.birth.tolist(), barcode.death.tolist())
    return "".join(f"{dim} {birth} {death}\n" for dim, birth, death in zip(*columns, strict=True)).encode()


def _dipha(barcode: Barcode) -> bytes:
    bars = np.empty(len(barcode), dtype=[("dim", "<i8"), ("birth", "<f8"), ("death", "<f8")])
    losses = np.concatenate([barcode.birth, barcode.death])
    highest = losses[np.isfinite(losses)].max(initial=-np.inf)
    bars["dim"] = np.where(barcode.essential, -1 - barcode.dim, barcode.dim)
    bars["birth"], bars["death"] = barcode.birth, np.where(barcode.essential, highest, barcode.death)
    return np.array([_DIPHA, _DIAGRAM, len(bars)], dtype="<i8").tobytes() + bars.tobytes()


_WRITERS: Mapping[str, Callable[[Barcode], bytes]] = {".csv": _csv, ".pers": _pers, ".dipha": _dipha}
