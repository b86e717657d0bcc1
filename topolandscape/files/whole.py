"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

PARTIAL = ".*.partial"
"""Names of files that are being written."""


def read(path: Path) -> bytes:
    """Return the contents of a file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}.") from None


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; once written, it stays when the power fails."""
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
    if os.name == "posix":  # elsewhere folders cannot be flushed
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_partial(folder: Path, *, but: str) -> None:
    """Remove what is left of files that were being written when the process was killed, but for one folder in it."""
    for partial in folder.rglob(PARTIAL):
        if partial.relative_to(folder).parts[0] != but:
            partial.unlink(missing_ok=True)
