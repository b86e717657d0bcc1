"""Files of the user: functions in Python files, trained checkpoints."""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from topolandscape.files.whole import read


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
    data = read(path)
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


def in_one_line(error: BaseException) -> str:
    r"""Return what an error says, in one line; its kind where it says nothing.

    Examples
    --------
    >>> in_one_line(ValueError("no such file:\n  model.py")), in_one_line(KeyError())
    ('no such file: model.py', 'KeyError')
    """
    return " ".join(str(error).split()) or type(error).__name__


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
    return read(path)
