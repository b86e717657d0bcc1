"""What stands in files, checked before it is believed: plain values in JSON, arrays in npy and npz.

Files may come from anybody. Nothing in them is run, and no more memory is taken than their own size allows.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

# How many bytes compressed arrays may take: so many for each one of their file, and so many in any case.
_EACH, _ANYWAY = 100, 2**26
# Booleans, numbers and text; objects would be pickles.
_KINDS = "biufU"


def json_in(data: bytes) -> Any:
    """Return the plain values that JSON text holds.

    Raises
    ------
    ValueError
        It is no JSON, is nested too deeply, or gives a name twice.

    Examples
    --------
    >>> json_in(b'{"seed": 0}')
    {'seed': 0}
    >>> json_in(b'{"seed": 0, "seed": 1}')
    Traceback (most recent call last):
    ValueError: is damaged: 'seed' is given twice
    """
    try:
        return json.loads(data, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("is damaged: it is nested too deeply") from None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"is damaged: {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


def array_in(data: bytes) -> NDArray[Any]:
    """Return the array of an npy file with these contents; it cannot be written to.

    Raises
    ------
    ValueError
        It is damaged, shorter than the array that it announces, or holds Python objects; the message begins with a
        verb, for the name of the file before it.

    Examples
    --------
    >>> stream = BytesIO()
    >>> np.save(stream, [1.0, 2.0])
    >>> array_in(stream.getvalue())
    array([1., 2.])
    >>> array_in(stream.getvalue()[:-1])
    Traceback (most recent call last):
    ValueError: is damaged: it announces 16 bytes of numbers and holds 15
    """
    stream = BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(stream)
    except Exception:  # whatever numpy and the parser of Python make of damaged headers
        raise ValueError("is damaged") from None
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are never unpickled")
    if dtype.kind not in _KINDS or dtype.itemsize == 0 or dtype.subdtype or min(shape, default=0) < 0:
        raise ValueError(f"is damaged: it announces an array of {dtype}, shape {shape}")
    size, start = math.prod(shape) * dtype.itemsize, stream.tell()
    if size > len(data) - start:
        raise ValueError(f"is damaged: it announces {size} bytes of numbers and holds {len(data) - start}")
    numbers = np.frombuffer(data, dtype, math.prod(shape), start) if size else np.empty(0, dtype)
    array = numbers.reshape(shape, order="F" if by_columns else "C").copy()
    array.flags.writeable = False
    return array


def arrays_in(data: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file with these contents, by name.

    Raises
    ------
    ValueError
        As for `array_in`; or it would unfold to more than a hundred times its size.

    Examples
    --------
    >>> stream = BytesIO()
    >>> np.savez(stream, losses=[1.0, 2.0])
    >>> arrays_in(stream.getvalue())
    {'losses': array([1., 2.])}
    """
    try:
        archive = zipfile.ZipFile(BytesIO(data))
    except Exception:  # whatever zipfile makes of damaged archives
        raise ValueError("is damaged") from None
    with archive:
        entries = archive.infolist()
        check_unfolding(entries, len(data))
        if len(archive.NameToInfo) < len(entries):
            raise ValueError("is damaged: it gives a name twice")
        arrays: dict[str, NDArray[Any]] = {}
        for entry in entries:
            try:
                content = archive.read(entry)
            except Exception:
                raise ValueError("is damaged") from None
            arrays[entry.filename.removesuffix(".npy")] = array_in(content)
    return arrays


def check_unfolding(entries: Iterable[zipfile.ZipInfo], size: int) -> None:
    """Raise where the entries of an archive of some size announce more than it can reasonably hold."""
    entries = list(entries)
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise ValueError("is damaged: it is compressed in an unknown way")
    stored = sum(entry.file_size for entry in entries if entry.compress_type == zipfile.ZIP_STORED)
    check_size(stored + sum(entry.compress_size for entry in entries), 2 * size)
    check_size(sum(entry.file_size for entry in entries), unfolded(size))


def unfolded(size: int) -> int:
    """Return how many bytes the contents of a compressed file of some size may take.

    Examples
    --------
    >>> unfolded(10**9)
    100000000000
    """
    return max(_EACH * size, _ANYWAY)


def check_size(announced: int, most: int) -> None:
    """Raise where a file announces more bytes than it may."""
    if announced > most:
        raise ValueError(
            f"announces {announced} bytes, and at most {most} are believed; it is damaged, or made to fill memory"
        )
