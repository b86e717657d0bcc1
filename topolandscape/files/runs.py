"""Run folders, in which a computation can be stopped and gone on with."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from topolandscape.files.checked import array_in
from topolandscape.files.lock import LOCK, PATIENCE, locked
from topolandscape.files.manifest import MANIFEST, Listed, Stored, differences, manifest_in
from topolandscape.files.nouns import SCHEMA, Noun, packed, unpacked
from topolandscape.files.shards import Shards
from topolandscape.files.whole import PARTIAL, read, remove_partial, write
from topolandscape.structures import Floats, Subspace, grid_points

_SHARDS = "shards"  # parts of the run, which other processes may be computing
_SHARD_WORK = 2e10  # parameters times rows times points: a few seconds on two cores
_LARGEST_SHARD = 2**18
_AT_ONCE = 16  # shards of which the points are in memory at a time
_LARGEST_MANIFEST = 2**26  # bytes

Each = Callable[[Sequence[Floats]], Iterator[tuple[int, Floats]]]

_NounType = TypeVar("_NounType", bound=Noun)

_log = logging.getLogger(__name__)


class Evaluated(Protocol):
    """What a run needs to know of a landscape."""

    description: Mapping[str, Any]
    subspace: Subspace | None

    def values(self, points: Floats, *, progress: bool | None = None) -> Floats:
        """Return the losses at points."""


class Run(Listed):
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
        if (path / MANIFEST).exists():
            run = cls.open(path)
            differing = list(differences(run.settings, plain))
            if differing:
                key, there, here = differing[0]
                raise ValueError(
                    f"{path} holds another run: its {key} is {there!r}, not {here!r}"
                    f"{f' (and {len(differing) - 1} more settings differ)' if len(differing) > 1 else ''}. "
                    "Choose another folder, or remove that one."
                )
            remove_partial(path, but=_SHARDS)
            run._shards = tuple(cls.open(found.parent) for found in sorted(path.glob(f"{_SHARDS}/*/{MANIFEST}")))
            return run
        cls._refuse_others(path)
        path.mkdir(parents=True, exist_ok=True)
        remove_partial(path, but=_SHARDS)
        run = cls(path, {"format": "topolandscape run", "schema": SCHEMA, "settings": plain, "files": {}})
        run._write_manifest()
        return run

    @classmethod
    @contextmanager
    def alone(
        cls, path: str | os.PathLike[str], settings: Mapping[str, Any], *, patience: float = PATIENCE
    ) -> Iterator[Run]:
        """Begin a run or go on with it, as `create` does, and keep other processes out of it for as long as this lasts.

        Where a run cannot be, everything is left as it is.

        Parameters
        ----------
        path, settings
            As for `create`.
        patience
            Seconds to wait for another process.

        Raises
        ------
        BlockingIOError
            Another process computes in the folder.
        """
        cls._refuse_others(Path(path))
        with locked(path, patience=patience):
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
        if not path.exists() or (path / MANIFEST).exists():
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
            Its manifest is damaged, or names files outside of the folder.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"there is no run at {path}.")
        if not (path / MANIFEST).exists():
            raise FileNotFoundError(f"{path} holds no run: it has no {MANIFEST}.")
        return cls(path, manifest_in(read(path / MANIFEST, most=_LARGEST_MANIFEST), path / MANIFEST))

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

    def remove(self, name: str) -> None:
        """Remove a noun that is not needed any more, if it is there."""
        if f"{name}.npz" in self._manifest["files"]:
            self._place(f"{name}.npz").unlink(missing_ok=True)
            del self._manifest["files"][f"{name}.npz"]
            self._write_manifest()

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
        each: Each | None = None,
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
        losses = self._losses(landscape, [points], len(points), lambda rows: points[rows], progress, share, each)
        if losses is None:
            return None
        return np.concatenate([losses(piece) for piece in range(-(-len(points) // _shard_size(landscape)))])

    def grid_values(
        self,
        landscape: Evaluated,
        axes: Sequence[Floats],
        *,
        share: tuple[int, int] = (0, 1),
        each: Each | None = None,
        progress: bool | None = None,
    ) -> Shards | None:
        """Return the losses of a full grid on the disk, computing only those that the run does not hold yet.

        Points and losses of a few shards are in memory at a time.

        Parameters
        ----------
        landscape
            What is evaluated.
        axes
            The values of each coordinate, one array each.
        share, each, progress
            As for `values`.

        Returns
        -------
        Shards or None
            To be sliced like an array of the grid's shape; None where some losses are left to other parts.

        Raises
        ------
        OSError
            There is no room for the losses on the disk, 8 bytes each.
        """
        shape = tuple(map(len, axes))
        needed = 8 * math.prod(map(float, shape))
        free = shutil.disk_usage(self.path).free
        if needed > free + sum(listed["bytes"] for listed in self._manifest["files"].values()):
            raise OSError(
                f"the losses of a grid of {needed / 8:.3g} points take {needed / 2**30:.3g} GiB, and {self.path} has "
                f"room for {free / 2**30:.3g}. Take fewer points along the axes, or a region of fewer coordinates."
            )
        parts = [*axes, np.array(shape, dtype=np.float64)]
        n = math.prod(shape)
        losses = self._losses(landscape, parts, n, lambda rows: grid_points(axes, rows), progress, share, each)
        return None if losses is None else Shards(shape, _shard_size(landscape), losses)

    def _losses(
        self,
        landscape: Evaluated,
        parts: Sequence[Floats],
        n: int,
        points: Callable[[slice], Floats],
        progress: bool | None,
        share: tuple[int, int],
        each: Each | None,
    ) -> Callable[[int], Floats] | None:
        """Return what reads a shard of the losses at n points, which `parts` tell from others, when all are there."""
        digest = hashlib.sha256(json.dumps(dict(landscape.description), sort_keys=True).encode())
        where = landscape.subspace
        for part in [*parts, *([] if where is None else [where.origin, where.directions])]:
            digest.update(np.ascontiguousarray(part).data)
        size, pieces = _shard_size(landscape), range(-(-n // _shard_size(landscape)))
        folder = f"losses/{digest.hexdigest()[:16]}"

        def name(piece: int) -> str:
            return f"{folder}/{piece:06d}.npy"

        def read_shard(piece: int) -> Floats:
            data = self._checked(name(piece))
            return _array(data, self.path / name(piece), min(size, n - piece * size))

        def one_by_one(tables: Sequence[Floats]) -> Iterator[tuple[int, Floats]]:
            yield from ((place, landscape.values(table, progress=False)) for place, table in enumerate(tables))

        missing = [piece for piece in pieces if not self._holds(name(piece))]
        own = [piece for piece in missing if piece % share[1] == share[0]]
        if self._shards and own:
            _log.warning("%d of %d tables of losses are missing and are computed", len(own), len(pieces))
        with tqdm(
            total=len(pieces),
            initial=len(pieces) - len(missing),
            desc="losses",
            unit="shard",
            delay=1,
            disable=None if progress is None else not progress,
        ) as bar:
            for start in range(0, len(own), _AT_ONCE):
                some = own[start : start + _AT_ONCE]
                tables = [points(slice(piece * size, min((piece + 1) * size, n))) for piece in some]
                for place, found in (each or one_by_one)(tables):
                    buffer = BytesIO()
                    np.save(buffer, found)
                    self._add(name(some[place]), buffer.getvalue())
                    bar.update()
        return read_shard if len(own) == len(missing) else None

    def store(self) -> Stored:
        """Return a place for arrays that are needed for as long as a computation is on its way.

        Returns
        -------
        Store
            The folder ``halfway``, empty when the run is done; named arrays are put there, got, and cleared.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Run.create(folder, {"seed": 0}).store().put("state", {"step": np.array(3)})
        ...     Run.open(folder).store().get("state")
        {'step': array(3)}
        """
        return Stored(self, "halfway")

    def picture(self, name: str, draw: Callable[[Any], None], *, folder: str | os.PathLike[str] | None = None) -> Path:
        """Write a file that `draw` puts into the binary stream it is given, here or in `folder`; return its path."""
        buffer = BytesIO()
        draw(buffer)
        path = (self.path if folder is None else Path(folder)) / name
        write(path, buffer.getvalue())
        return path


def _shard_size(landscape: Evaluated) -> int:
    work = float(landscape.description.get("parameters", 1)) * float(landscape.description.get("rows", 1))
    return int(min(max(_SHARD_WORK / work, 1), _LARGEST_SHARD))


def _array(data: bytes, path: Path, length: int) -> Floats:
    try:
        array = array_in(data)
    except ValueError as error:
        raise ValueError(f"{path} {error}.") from None
    if array.shape != (length,) or array.dtype != np.float64:
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}, not {length} losses.")
    return array
