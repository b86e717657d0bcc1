"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".*.partial"
"""Names of files that are being written."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def read(path: Path, *, most: int | None = None) -> bytes:
    """Return the contents of a file.

    Parameters
    ----------
    path
        A regular file: pipes and devices, which may never end, are refused.
    most
        Bytes that it holds, or fewer. None: half of the memory of this machine.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no regular file, or holds more.
    """
    try:
        # A pipe would be waited for already when it is opened.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}.") from None
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no regular file; give one.")
        if most is not None and status.st_size > most:
            raise ValueError(f"{path} is damaged: it holds {status.st_size} bytes, and should hold {most} at most.")
        if status.st_size > _memory() / 2:
            raise MemoryError(f"{path} holds {status.st_size} bytes, more than half of the memory of this machine.")
        return stream.read()


def _memory() -> float:
    """Return the bytes of memory of this machine, where the system tells them."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; once written, it stays when the power fails.

    Raises
    ------
    OSError
        The disk is full, or the folder cannot be written to. What was there is left as it was.
    """
    with said_plainly(path):
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


@contextmanager
def said_plainly(path: Path) -> Iterator[None]:
    """Let errors of a full disk, or of a folder that must not be written to, say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OSError(
                f"there is no room to write {path} ({error.strerror}); what was written before is whole. Make room, "
                "and give the same command again."
            ) from error
        if error.errno in _REFUSED:
            raise PermissionError(f"{path} cannot be written ({error.strerror}); choose another folder.") from error
        raise


def remove_partial(folder: Path, *, but: str) -> None:
    """Remove what is left of files that were being written when the process was killed, but for one folder in it."""
    for partial in folder.rglob(PARTIAL):
        if partial.relative_to(folder).parts[0] != but:
            partial.unlink(missing_ok=True)
