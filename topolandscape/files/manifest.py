"""The manifest of a run: what it was started with, what was found out, and every file with its checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from topolandscape.files.checked import arrays_in, json_in
from topolandscape.files.nouns import SCHEMA
from topolandscape.files.whole import read, write
from topolandscape.structures.journal import Arrays

MANIFEST = "manifest.json"
_KEYS = {"format", "schema", "settings", "files", "found"}


class Listed:
    """Files in a folder, of which its manifest has the checksums; what it does not list does not count.

    Attributes
    ----------
    path
        The folder.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self._manifest = manifest
        self._shards: Sequence[Listed] = ()

    def _holds(self, name: str) -> bool:
        return self._holder(name) is not None

    def _holder(self, name: str) -> Listed | None:
        """Return the run that has a file: this one, or a part of it."""
        if name in self._manifest["files"] and self._place(name).exists():
            return self
        return next((shard for shard in self._shards if shard._holds(name)), None)

    def _place(self, name: str) -> Path:
        """Return where a file of the run lies, which is nowhere but in its folder."""
        place = self.path / name
        if not place.resolve().is_relative_to(self.path.resolve()):
            raise ValueError(f"{place} leads out of the folder of the run; remove it and run again.")
        return place

    def _add(self, name: str, data: bytes) -> None:
        files, checksum = self._manifest["files"], hashlib.sha256(data).hexdigest()
        if self._holder(name) is self:
            # Whoever is killed before the file is listed leaves the one before or the new one, both whole.
            files[name] = {**files[name], "or": [*files[name].get("or", []), checksum]}
            self._write_manifest()
        write(self._place(name), data)
        files[name] = {"sha256": checksum, "bytes": len(data)}
        self._write_manifest()

    def _checked(self, name: str) -> bytes:
        holder = self._holder(name)
        if holder is not None and holder is not self:
            return holder._checked(name)
        listed = self._manifest["files"][name]
        data = read(self._place(name), most=None if "or" in listed else listed["bytes"])
        if hashlib.sha256(data).hexdigest() not in (listed["sha256"], *listed.get("or", [])):
            raise ValueError(
                f"{self.path / name} is damaged: its checksum is not that of the manifest. Remove it and run again."
            )
        return data

    def _write_manifest(self) -> None:
        write(self.path / MANIFEST, sealed(self._manifest))


class Stored:
    """Arrays in a folder of a run, for as long as a computation is on its way; a `Store` of journals."""

    def __init__(self, files: Listed, folder: str) -> None:
        self._files, self._folder = files, folder

    def names(self) -> list[str]:
        """Return what is there."""
        files = (PurePosixPath(file) for file in self._files._manifest["files"])
        return [file.stem for file in files if file.parent.name == self._folder and self._files._holds(str(file))]

    def get(self, name: str) -> Arrays | None:
        """Return the arrays of a name, None where there are none."""
        file = f"{self._folder}/{name}.npz"
        if not self._files._holds(file):
            return None
        try:
            return arrays_in(self._files._checked(file))
        except ValueError as error:
            raise ValueError(str(error) if file in str(error) else f"{self._files.path / file} {error}.") from None

    def put(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under a name, in place of those that were there."""
        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        self._files._add(f"{self._folder}/{name}.npz", buffer.getvalue())

    def clear(self, *, but: Collection[str] = ()) -> None:
        """Remove everything but what has some names."""
        kept = {f"{self._folder}/{name}.npz" for name in but}
        files = self._files._manifest["files"]
        going = [file for file in files if file.startswith(f"{self._folder}/") and file not in kept]
        for file in going:
            del files[file]
        if going:
            self._files._write_manifest()
        # What is not listed is none of the run, so that it may be half gone when the process is killed.
        for path in self._files._place(self._folder).glob("*"):
            if f"{self._folder}/{path.name}" not in kept:
                path.unlink(missing_ok=True)


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """Return the contents of the file of a manifest, which end with their own checksum."""
    text = json.dumps(manifest, indent=1)
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return f'{text[:-2]},\n "sha256": "{checksum}"\n}}'.encode()


def manifest_in(data: bytes, path: Path) -> dict[str, Any]:
    """Return the manifest in a file, checked."""
    wrong = f"{path} is damaged, or was not written by topolandscape. Put back a copy of it, or choose another folder."
    try:
        manifest = json_in(data)
        known, schema = manifest["format"] == "topolandscape run", manifest["schema"]
        checksum = manifest.pop("sha256", None)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(wrong) from None
    if known and schema != SCHEMA:
        raise ValueError(f"{path.parent} has format {schema}, and this version reads format {SCHEMA}.")
    whole = checksum is None or hashlib.sha256(json.dumps(manifest, indent=1).encode()).hexdigest() == checksum
    types = {"settings": dict, "files": dict, "found": dict}
    if not (known and whole and manifest.keys() <= _KEYS and _are({"found": {}} | manifest, types)):
        raise ValueError(wrong)
    for name, listed in manifest["files"].items():
        others = listed.get("or", []) if isinstance(listed, dict) else None
        if not (isinstance(others, list) and _are(listed, {"sha256": str, "bytes": int})):
            raise ValueError(wrong)
        if ".." in PurePath(name).parts or any(kind(name).anchor for kind in (PurePosixPath, PureWindowsPath)):
            raise ValueError(f"{path} names {name!r}, which is not in the folder. Choose another folder.")
    return manifest


def _are(values: Mapping[str, Any], types: Mapping[str, type]) -> bool:
    """Tell whether values of some names are there and of these types."""
    return all(type(values.get(name)) is kind for name, kind in types.items())


def differences(one: Any, other: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings, by names with dots, that differ between two mappings, and both values."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        if one != other:
            yield name, one, other
        return
    for key in sorted({*one, *other}):
        yield from differences(one.get(key), other.get(key), f"{name}.{key}" if name else key)
