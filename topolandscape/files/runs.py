"""Run folders, in which a computation can be stopped and gone on with."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from topolandscape.files.lock import LOCK, locked
from topolandscape.files.nouns import SCHEMA, Noun, packed, unpacked
from topolandscape.files.whole import PARTIAL, read, remove_partial, write
from topolandscape.structures import Floats, Subspace

_MANIFEST = "manifest.json"
_SHARDS = "shards"  # parts of the run, which other processes may be computing
_SHARD_WORK = 2e10  # parameters times rows times points: a few seconds on two cores
_LARGEST_SHARD = 2**18

_NounType = TypeVar("_NounType", bound=Noun)

_log = logging.getLogger(__name__)


class Evaluated(Protocol):
    """What a run needs to know of a landscape."""

    description: Mapping[str, Any]
    subspace: Subspace | None

    def values(self, points: Floats, *, progress: bool | None = None) -> Floats:
        """Return the losses at points."""


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
    >>> from topolandscape.structures import Barcode
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = Run.create(folder, {"seed": 0})
    ...     run.save("barcode", Barcode.from_pairs([(0.0, 1.0)]))
    ...     Run.open(folder).load("barcode", Barcode)
    Barcode(1 bar: 1 in degree 0; 0 essential)
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self._manifest = manifest
        self._shards: tuple[Run, ...] = ()

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
            differing = list(_differences(run.settings, plain))
            if differing:
                key, there, here = differing[0]
                raise ValueError(
                    f"{path} holds another run: its {key} is {there!r}, not {here!r}"
                    f"{f' (and {len(differing) - 1} more settings differ)' if len(differing) > 1 else ''}. "
                    "Choose another folder, or remove that one."
                )
            remove_partial(path, but=_SHARDS)
            run._shards = tuple(cls.open(found.parent) for found in sorted(path.glob(f"{_SHARDS}/*/{_MANIFEST}")))
            return run
        cls._refuse_others(path)
        path.mkdir(parents=True, exist_ok=True)
        remove_partial(path, but=_SHARDS)
        run = cls(path, {"format": "topolandscape run", "schema": SCHEMA, "settings": plain, "files": {}})
        run._write_manifest()
        return run

    @classmethod
    @contextmanager
    def alone(cls, path: str | os.PathLike[str], settings: Mapping[str, Any], **patience: float) -> Iterator[Run]:
        """Begin a run or go on with it, as `create` does, and keep other processes out of it for as long as this lasts.

        Where a run cannot be, everything is left as it is. `patience` is as for `locked`.

        Raises
        ------
        BlockingIOError
            Another process computes in the folder.
        """
        cls._refuse_others(Path(path))
        with locked(path, **patience):
            yield cls.create(path, settings)

    @contextmanager
    def shard(self, number: int, count: int) -> Iterator[Run]:
        """Begin a part of this run, or go on with it, in a folder of its own, to which other processes do not go.

        Parameters
        ----------
        number, count
            Which part it is, from 0, of how many. What parts hold is found when the run is gone on with.
        """
        settings = {**self.settings, "shard": [number, count]}
        with Run.alone(self.path / _SHARDS / f"{number}-of-{count}", settings) as part:
            yield part

    @staticmethod
    def _refuse_others(path: Path) -> None:
        """Raise where there is a file of that name, or a folder with files that are no run."""
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file; a run needs a folder. Choose another name.")
        if not path.exists() or (path / _MANIFEST).exists():
            return
        if any(entry.name != LOCK and not entry.match(PARTIAL) for entry in path.iterdir()):
            raise ValueError(f"{path} holds files that are no run. Choose another folder.")

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
        if manifest["schema"] != SCHEMA:
            raise ValueError(f"{path} has format {manifest['schema']}, and this version reads format {SCHEMA}.")
        return cls(path, manifest)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was started with."""
        return dict(self._manifest["settings"])

    def once(self, name: str, find: Callable[[], Any]) -> Any:
        """Return what was found out once and holds for the whole run, also after it was stopped.

        Parameters
        ----------
        name
            Its name.
        find
            Finds it out, the first time: a plain value (text, numbers, lists, mappings).

        Returns
        -------
        Any
            What `find` gave then.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run.create(folder, {"seed": 0})
        ...     run.once("fastest", lambda: "wide"), Run.open(folder).once("fastest", lambda: "loop")
        ('wide', 'wide')
        """
        found = self._manifest.setdefault("found", {})
        if name not in found:
            found[name] = json.loads(json.dumps(find()))
            self._write_manifest()
        return found[name]

    def known(self, name: str) -> Any:
        """Return what `once` found out under a name, None where it was not asked yet."""
        return self._manifest.get("found", {}).get(name)

    def __contains__(self, name: str) -> bool:
        """Tell whether a noun of this name is there."""
        return self._holds(f"{name}.npz")

    def save(self, name: str, noun: Noun) -> None:
        """Write a noun under a name, in place of one that was there."""
        self._add(f"{name}.npz", packed(noun))

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
        noun = unpacked(self._checked(f"{name}.npz"), self.path / f"{name}.npz")
        if not isinstance(noun, kind):
            raise ValueError(f"{self.path / name}.npz holds a {type(noun).__name__}, not a {kind.__name__}.")
        return noun

    def values(
        self,
        landscape: Evaluated,
        points: Floats,
        *,
        share: tuple[int, int] = (0, 1),
        each: Callable[[Sequence[Floats]], Iterator[tuple[int, Floats]]] | None = None,
        progress: bool | None = None,
    ) -> Floats | None:
        """Return the losses at points, computing only those that the run does not hold yet.

        Losses are kept for these very points of this landscape; shards are cut the same way each time, so a run that
        was stopped gives what an uninterrupted one gives.

        Parameters
        ----------
        landscape
            What is evaluated.
        points
            Shape (n, d).
        share
            Number of this part of the run and how many there are: of the shards only every so many-th is computed.
        each
            Yields the number of each of many arrays of points, and its losses, in any order. None: one after the other.
        progress
            None: a bar when stderr is a terminal; True: always; False: never.

        Returns
        -------
        Floats or None
            Losses, shape (n,); None where some of them are left to other parts.
        """
        digest = hashlib.sha256(json.dumps(dict(landscape.description), sort_keys=True).encode())
        parts = (
            [points]
            if landscape.subspace is None
            else [points, landscape.subspace.origin, landscape.subspace.directions]
        )
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        size = _shard_size(landscape)
        shards = [slice(start, min(start + size, len(points))) for start in range(0, len(points), size)]
        names = [f"losses/{digest.hexdigest()[:16]}/{number:06d}.npy" for number in range(len(shards))]
        values = np.empty(len(points))
        missing = []
        for number, (name, rows) in enumerate(zip(names, shards, strict=True)):
            if self._holds(name):
                values[rows] = _array(self._checked(name), self.path / name, rows.stop - rows.start)
            else:
                missing.append(number)
        own = [number for number in missing if number % share[1] == share[0]]
        if self._shards and own:
            _log.warning("%d of %d tables of losses are missing and are computed", len(own), len(shards))

        def one_by_one(tables: Sequence[Floats]) -> Iterator[tuple[int, Floats]]:
            yield from ((place, landscape.values(table, progress=False)) for place, table in enumerate(tables))

        with tqdm(
            total=len(shards),
            initial=len(shards) - len(missing),
            desc="losses",
            unit="shard",
            delay=1,
            disable=None if progress is None else not progress,
        ) as bar:
            for place, found in (each or one_by_one)([points[shards[number]] for number in own]):
                values[shards[own[place]]] = found
                buffer = BytesIO()
                np.save(buffer, found)
                self._add(names[own[place]], buffer.getvalue())
                bar.update()
        return values if len(own) == len(missing) else None

    def picture(self, name: str, draw: Callable[[Any], None], *, folder: str | os.PathLike[str] | None = None) -> Path:
        """Write a file that `draw` puts into the binary stream it is given, here or in `folder`; return its path."""
        buffer = BytesIO()
        draw(buffer)
        path = (self.path if folder is None else Path(folder)) / name
        write(path, buffer.getvalue())
        return path

    def _holds(self, name: str) -> bool:
        return self._holder(name) is not None

    def _holder(self, name: str) -> Run | None:
        """Return the run that has a file: this one, or a part of it."""
        if name in self._manifest["files"] and (self.path / name).exists():
            return self
        return next((shard for shard in self._shards if shard._holds(name)), None)

    def _add(self, name: str, data: bytes) -> None:
        files, checksum = self._manifest["files"], hashlib.sha256(data).hexdigest()
        if self._holder(name) is self:
            # Whoever is killed before the file is listed leaves the one before or the new one, both whole.
            files[name] = {**files[name], "or": [*files[name].get("or", []), checksum]}
            self._write_manifest()
        write(self.path / name, data)
        files[name] = {"sha256": checksum, "bytes": len(data)}
        self._write_manifest()

    def _checked(self, name: str) -> bytes:
        holder = self._holder(name)
        if holder is not None and holder is not self:
            return holder._checked(name)
        data, listed = read(self.path / name), self._manifest["files"][name]
        if hashlib.sha256(data).hexdigest() not in (listed["sha256"], *listed.get("or", [])):
            raise ValueError(
                f"{self.path / name} is damaged: its checksum is not that of the manifest. Remove it and run again."
            )
        return data

    def _write_manifest(self) -> None:
        write(self.path / _MANIFEST, json.dumps(self._manifest, indent=1).encode())


def _differences(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings, by names with dots, that differ between two mappings, and both values."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        if one != other:
            yield name, one, other
        return
    for key in sorted({*one, *other}):
        yield from _differences(one.get(key), other.get(key), f"{name}.{key}" if name else key)


def _shard_size(landscape: Evaluated) -> int:
    work = float(landscape.description.get("parameters", 1)) * float(landscape.description.get("rows", 1))
    return int(min(max(_SHARD_WORK / work, 1), _LARGEST_SHARD))


def _array(data: bytes, path: Path, length: int) -> Floats:
    array = np.load(BytesIO(data), allow_pickle=False)
    if array.shape != (length,) or array.dtype != np.float64:
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}, not {length} losses.")
    return array
