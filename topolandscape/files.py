"""Runs on disk: nouns as npz files, and folders in which a computation can be stopped and gone on with.

Every file appears whole or not at all: it is written under another name, flushed to the disk and then renamed. The
manifest of a run lists each file with its checksum; what it does not list does not count, so nothing half-done is
ever taken for a result. No file is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from topolandscape.structures import (
    Barcode,
    Floats,
    GridComplex,
    LossSamples,
    MergeTree,
    SimplicialComplex,
    Subspace,
)

Noun = LossSamples | SimplicialComplex | GridComplex | MergeTree | Barcode

_KINDS: dict[str, type[Noun]] = {
    kind.__name__: kind for kind in (LossSamples, SimplicialComplex, GridComplex, MergeTree, Barcode)
}
_SCHEMA = 1
_MANIFEST = "manifest.json"
_SHARD_WORK = 2e10  # parameters times rows times points: a few seconds on two cores
_LARGEST_SHARD = 2**18


class Evaluated(Protocol):
    """What a run needs to know of a landscape."""

    description: Mapping[str, Any]
    subspace: Subspace | None

    def values(self, points: Floats, *, progress: bool | None = None) -> Floats:
        """Return the losses at points."""


# --------------------------------------------------------------------------------------------------------------
# One noun, one file
# --------------------------------------------------------------------------------------------------------------


def save(path: str | os.PathLike[str], noun: Noun) -> None:
    """Write a noun to an npz file.

    Parameters
    ----------
    path
        File to write, by custom ending in ``.npz``. It is replaced at once when all is written; an interruption leaves
        what was there.
    noun
        Samples, a filtered complex, a merge tree or a barcode.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "barcode.npz")
    ...     save(file, Barcode.from_pairs([(0.0, 1.0)]))
    ...     load(file)
    Barcode(1 bar: 1 in degree 0; 0 essential)
    """
    _write(Path(path), _packed(noun))


def load(path: str | os.PathLike[str]) -> Noun:
    """Read the noun that `save` wrote.

    Parameters
    ----------
    path
        An npz file.

    Returns
    -------
    LossSamples, SimplicialComplex, GridComplex, MergeTree or Barcode
        Equal to the one that was saved.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, or not one of ours.

    Examples
    --------
    >>> load("missing.npz")
    Traceback (most recent call last):
    FileNotFoundError: there is no file missing.npz.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; open it with Run.open(), or name a file in it.")
    return _unpacked(_read(path), path)


def _packed(noun: Noun) -> bytes:
    kind = type(noun).__name__
    if kind not in _KINDS:
        raise TypeError(f"got {kind}; what can be saved is {', '.join(_KINDS)}.")
    arrays: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for field in fields(noun):
        value = getattr(noun, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, Subspace):
            arrays |= {f"{field.name}.origin": value.origin, f"{field.name}.directions": value.directions}
        elif isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            arrays |= {f"{field.name}.{k}": part for k, part in enumerate(value)}
        else:
            plain[field.name] = dict(value) if isinstance(value, Mapping) else value
    header = {"kind": kind, "schema": _SCHEMA, "plain": plain}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _unpacked(data: bytes, path: Path) -> Noun:
    try:
        with np.load(BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header = json.loads(arrays.pop("header").tobytes())
        kind, schema, plain = _KINDS[header["kind"]], header["schema"], header["plain"]
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, OSError, EOFError):
        raise ValueError(f"{path} is damaged, or was not written by topolandscape.") from None
    if schema != _SCHEMA:
        raise ValueError(f"{path} has format {schema}, and this version reads format {_SCHEMA}; use the other version.")
    given: dict[str, Any] = dict(plain)
    for name, array in arrays.items():
        array.flags.writeable = False
        field, _, part = name.partition(".")
        if not part:
            given[field] = array
        else:
            given.setdefault(field, {})[part] = array
    for name, value in given.items():
        if isinstance(value, dict) and "origin" in value:
            given[name] = Subspace(**value)
        elif isinstance(value, dict) and "0" in value and name != "provenance":
            given[name] = tuple(value[str(k)] for k in range(len(value)))
    return kind(**given)


# --------------------------------------------------------------------------------------------------------------
# A run
# --------------------------------------------------------------------------------------------------------------

_NounType = TypeVar("_NounType", LossSamples, SimplicialComplex, GridComplex, MergeTree, Barcode)


class Run:
    """A folder that holds one computation: its settings, losses as they come in, results.

    Made by `create` or `open`. Give `run.values` to a sampler as its ``evaluate``: losses are then written shard by
    shard, and a computation that was stopped goes on where it was.

    Attributes
    ----------
    path
        The folder.
    settings
        What the run was started with, a read-only mapping.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = Run.create(folder, {"seed": 0})
    ...     run.save("barcode", Barcode.from_pairs([(0.0, 1.0)]))
    ...     Run.open(folder).load("barcode", Barcode)
    Barcode(1 bar: 1 in degree 0; 0 essential)
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self._manifest = manifest

    @classmethod
    def create(cls, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> Run:
        """Begin a run, or go on with the one that the folder holds.

        Parameters
        ----------
        path
            Folder; made if it is not there. One that holds something else is refused.
        settings
            Plain values (text, numbers, lists, mappings) that say what is computed. A run that was begun with other
            settings is refused.

        Returns
        -------
        Run
        """
        path = Path(path)
        plain = json.loads(json.dumps(dict(settings)))
        if (path / _MANIFEST).exists():
            run = cls.open(path)
            differing = sorted(
                key for key in {*run.settings, *plain} if run.settings.get(key, None) != plain.get(key, None)
            )
            if differing:
                key = differing[0]
                raise ValueError(
                    f"{path} holds another run: its {key} is {run.settings.get(key)!r}, not {plain.get(key)!r}"
                    f"{f' (and {len(differing) - 1} more settings differ)' if len(differing) > 1 else ''}. "
                    "Choose another folder, or remove that one."
                )
            return run
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file; a run needs a folder. Choose another name.")
        if path.exists() and any(path.iterdir()):
            raise ValueError(f"{path} holds files that are no run. Choose another folder.")
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, {"format": "topolandscape run", "schema": _SCHEMA, "settings": plain, "files": {}})
        run._write_manifest()
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Open the run that a folder holds.

        Raises
        ------
        FileNotFoundError
            There is no such folder, or it holds no run.
        ValueError
            Its manifest is damaged.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"there is no run at {path}.")
        if not (path / _MANIFEST).is_file():
            raise FileNotFoundError(f"{path} holds no run: it has no {_MANIFEST}.")
        try:
            manifest = json.loads((path / _MANIFEST).read_bytes())
            known = manifest["format"] == "topolandscape run"
            _ = manifest["settings"], manifest["files"]
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise ValueError(f"{path / _MANIFEST} is damaged, or was not written by topolandscape.")
        if manifest["schema"] != _SCHEMA:
            raise ValueError(f"{path} has format {manifest['schema']}, and this version reads format {_SCHEMA}.")
        return cls(path, manifest)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was started with."""
        return dict(self._manifest["settings"])

    def __contains__(self, name: str) -> bool:
        """Tell whether a noun of this name is there."""
        return self._holds(f"{name}.npz")

    def save(self, name: str, noun: Noun) -> None:
        """Write a noun under a name, in place of one that was there."""
        self._add(f"{name}.npz", _packed(noun))

    def load(self, name: str, kind: type[_NounType]) -> _NounType:
        """Read a noun that is of a kind.

        Parameters
        ----------
        name
            The name under which it was saved.
        kind
            Its class.

        Raises
        ------
        FileNotFoundError
            There is no noun of this name; the message lists those that are there.
        ValueError
            The file is damaged, or the noun of another kind.
        """
        if name not in self:
            there = [file.removesuffix(".npz") for file in self._manifest["files"] if file.endswith(".npz")]
            there = [noun for noun in there if noun in self]
            raise FileNotFoundError(
                f"{self.path} has no {name}"
                + (f"; it has {', '.join(there)}." if there else ": the run is unfinished.")
            )
        noun = _unpacked(self._checked(f"{name}.npz"), self.path / f"{name}.npz")
        if not isinstance(noun, kind):
            raise ValueError(f"{self.path / name}.npz holds a {type(noun).__name__}, not a {kind.__name__}.")
        return noun

    def values(self, landscape: Evaluated, points: Floats, *, progress: bool | None = None) -> Floats:
        """Return the losses at points, computing only those that the run does not hold yet.

        Losses are kept for these very points of this landscape; shards are cut the same way each time, so a run that
        was stopped gives what an uninterrupted one gives.

        Parameters
        ----------
        landscape
            What is evaluated.
        points
            Shape (n, d).
        progress
            None: a bar when stderr is a terminal; True: always; False: never.

        Returns
        -------
        Floats
            Losses, shape (n,).
        """
        digest = hashlib.sha256(json.dumps(dict(landscape.description), sort_keys=True).encode())
        parts = (
            [points]
            if landscape.subspace is None
            else [points, landscape.subspace.origin, landscape.subspace.directions]
        )
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        folder = f"losses/{digest.hexdigest()[:16]}"
        size = _shard_size(landscape)
        values = np.empty(len(points))
        starts = range(0, len(points), size)
        for start in tqdm(
            starts, desc="losses", unit="shard", delay=1, disable=None if progress is None else not progress
        ):
            rows = slice(start, min(start + size, len(points)))
            name = f"{folder}/{start // size:06d}.npy"
            if self._holds(name):
                values[rows] = _array(self._checked(name), self.path / name, rows.stop - rows.start)
            else:
                values[rows] = landscape.values(points[rows], progress=False)
                buffer = BytesIO()
                np.save(buffer, values[rows])
                self._add(name, buffer.getvalue())
        return values

    def picture(self, name: str, draw: Callable[[Any], None], *, folder: str | os.PathLike[str] | None = None) -> Path:
        """Write a file that `draw` puts into the binary stream it is given, here or in `folder`; return its path."""
        buffer = BytesIO()
        draw(buffer)
        path = (self.path if folder is None else Path(folder)) / name
        _write(path, buffer.getvalue())
        return path

    def _holds(self, name: str) -> bool:
        return name in self._manifest["files"] and (self.path / name).exists()

    def _add(self, name: str, data: bytes) -> None:
        _write(self.path / name, data)
        self._manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        self._write_manifest()

    def _checked(self, name: str) -> bytes:
        data = _read(self.path / name)
        if hashlib.sha256(data).hexdigest() != self._manifest["files"][name]["sha256"]:
            raise ValueError(
                f"{self.path / name} is damaged: its checksum is not that of the manifest. Remove it and run again."
            )
        return data

    def _write_manifest(self) -> None:
        _write(self.path / _MANIFEST, json.dumps(self._manifest, indent=1).encode())


def function_in_file(text: str) -> tuple[Callable[..., Any], str]:
    """Return the function that ``file.py:function`` names, and the checksum of the file. The file is run.

    Parameters
    ----------
    text
        Path of a Python file and the name of a function in it, with a colon between.

    Returns
    -------
    tuple
        The function, and the file's sha256.

    Raises
    ------
    RuntimeError
        The file cannot be run; the message says in which line.
    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    data = _read(path)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    sys.path.insert(0, str(path.resolve().parent))  # as if the file had been run: its neighbours can be imported
    try:
        telling_where(path, lambda: exec(compile(data, str(path), "exec"), module.__dict__))
    finally:
        sys.path.pop(0)
    function = getattr(module, name, None)
    if not callable(function):
        own = (key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
        there = [key for key in own if not key.startswith("_")]
        raise ValueError(f"{path} has no function {name!r}" + (f"; it has {', '.join(there)}." if there else "."))
    return function, hashlib.sha256(data).hexdigest()


def telling_where(path: str | os.PathLike[str], call: Callable[[], Any]) -> Any:
    """Return what `call` returns; an error in the file `path` is raised again with its line."""
    try:
        return call()
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else 0
        raise RuntimeError(f"{path}, line {line}: {type(error).__name__}: {error}") from error


def _shard_size(landscape: Evaluated) -> int:
    work = float(landscape.description.get("parameters", 1)) * float(landscape.description.get("rows", 1))
    return int(min(max(_SHARD_WORK / work, 1), _LARGEST_SHARD))


def _array(data: bytes, path: Path, length: int) -> Floats:
    array = np.load(BytesIO(data), allow_pickle=False)
    if array.shape != (length,) or array.dtype != np.float64:
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}, not {length} losses.")
    return array


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}.") from None


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def bytes_in_file(path: str | os.PathLike[str]) -> bytes:
    """Return the contents of a file: of a trained checkpoint, for example, which the landscape half takes apart.

    Parameters
    ----------
    path
        Any file.

    Raises
    ------
    FileNotFoundError
        There is no such file.

    Examples
    --------
    >>> bytes_in_file("missing.pt")
    Traceback (most recent call last):
    FileNotFoundError: there is no file missing.pt.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it.")
    return _read(path)
