"""One process at a time in a folder."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from topolandscape.files.whole import said_plainly

LOCK = ".lock"
# A process that ends with the one that began it is given these seconds.
_PATIENCE = 2.0


@contextmanager
def locked(folder: str | os.PathLike[str], *, patience: float = _PATIENCE) -> Iterator[None]:
    """Keep other processes from computing in a folder for as long as this lasts.

    The operating system holds the lock and lets it go with the process, so that one that was killed blocks nobody.

    Parameters
    ----------
    folder
        Made if it is not there; a file named ``.lock`` stays in it.
    patience
        Seconds to wait for another process.

    Raises
    ------
    BlockingIOError
        Another process computes in it.
    OSError
        It cannot be written to, or files cannot be locked there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, locked(folder):
    ...     pass
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise ValueError(f"{place} is a file; a folder is needed. Choose another name.")
    with said_plainly(place):
        place.mkdir(parents=True, exist_ok=True)
        stream = (place / LOCK).open("a")
    with stream:
        deadline = time.monotonic() + patience
        while not _taken(stream.fileno()):
            if time.monotonic() > deadline:
                raise BlockingIOError(
                    f"another process computes in {place}; wait until it is done, or choose another folder."
                )
            time.sleep(0.05)
        yield


def _taken(file: int) -> bool:
    """Lock an open file, and tell whether that was possible; it is let go when the file is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise OSError(
                f"the folder cannot be kept for one process ({error.strerror}); choose one on a disk of this machine."
            ) from error
        return False
    return True
