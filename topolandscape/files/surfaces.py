"""Loss surfaces that other programs computed, as samples of a grid."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topolandscape.files.checked import array_in, arrays_in, check_size, unfolded
from topolandscape.files.users import bytes_in_file
from topolandscape.structures import Floats, LossSamples, grid_points

_NPY, _NPZ = b"\x93NUMPY", b"PK"  # what files of numpy begin with
_NOT_COMPUTED = -1.0  # what loss-landscape writes until it has a loss


def read_surface(path: str | os.PathLike[str], *, key: str | None = None) -> LossSamples:
    """Read a loss surface that another program computed.

    Parameters
    ----------
    path
        ``.h5``: of loss-landscape (Li et al. 2018), with ``xcoordinates``, ``ycoordinates`` unless it is a line, and
        losses (needs h5py). ``.npz``: of Landscaper, with ``loss`` and ``coordinates``; or of numpy, with an array of
        losses. ``.npy`` and ``.csv`` (no header): an array of losses.
    key
        Name of the losses in ``.h5`` or ``.npz``. None: ``train_loss`` in ``.h5``; in ``.npz`` ``loss``, or the only
        array that is there.

    Returns
    -------
    LossSamples
        Samples of a grid, whose coordinates are those of the file; for a bare array they are its indices. Losses are
        as they were written, but for those of loss-landscape that are -1, which it did not compute: they are NaN. How
        many they are, the format and the checksum of the file are in the provenance. The noise is not known, and 0.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ImportError
        h5py is missing.
    ValueError
        The file is damaged or holds no losses, or the losses are not as many as the coordinates.

    Notes
    -----
    loss-landscape goes through its points along x first, and keeps them in an array of shape (x, y) all the same; they
    are put in order here. In plain arrays the first axis is the first coordinate. Nothing is unpickled, no other file
    is followed, and compressed losses may take at most a hundred times as much memory as their file.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(os.path.join(folder, "surface.npy"), [[0.0, 2.0, 1.0], [0.5, 3.0, 1.5]])
    ...     read_surface(os.path.join(folder, "surface.npy"))
    LossSamples(6 points, 2 dimensions, losses 0 to 3)
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"{path} ends in {path.suffix!r}; surfaces are read from {', '.join(SURFACES)}.")
    if key is not None and path.suffix.lower() in (".npy", ".csv"):
        raise ValueError(f"{path} holds one array without a name; leave out key={key!r}.")
    data = bytes_in_file(path)
    format, losses, axes = _READERS[path.suffix.lower()](data, path, key)
    if losses.ndim == 0 or losses.size == 0:
        raise ValueError(f"{path} holds losses of shape {losses.shape}; a surface needs one axis or more, none empty.")
    axes = [np.arange(side, dtype=np.float64) for side in losses.shape] if axes is None else axes
    if losses.shape != tuple(map(len, axes)):
        raise ValueError(f"{path} holds losses of shape {losses.shape}, but coordinates for {tuple(map(len, axes))}.")
    missing = int(np.isnan(losses).sum())
    source = {"file": path.name, "format": format, "sha256": hashlib.sha256(data).hexdigest(), "missing": missing}
    return LossSamples(grid_points(axes), losses.reshape(-1), shape=losses.shape, provenance={"source": source})


_Parts = tuple[str, Floats, Sequence[Floats] | None]


def _read_h5(data: bytes, path: Path, key: str | None) -> _Parts:
    try:
        import h5py
    except ImportError:
        raise ImportError(f"reading {path} needs h5py, which is not installed; run: pip install h5py") from None
    try:
        with h5py.File(BytesIO(data), "r") as file:
            own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
            found = {name: item for name in own if isinstance(item := file[name], h5py.Dataset)}
            wanted = {"xcoordinates", "ycoordinates", "train_loss" if key is None else key}
            for name in wanted & found.keys():
                if found[name].external or found[name].is_virtual:
                    raise ValueError(f"{path} keeps {name} in another file; save it with its numbers.")
            with _told_of(path):
                check_size(sum(found[name].nbytes for name in wanted & found.keys()), unfolded(len(data)))
            arrays = {name: np.asarray(item) if name in wanted else np.empty(0) for name, item in found.items()}
    except ValueError:
        raise
    except Exception:  # whatever HDF5 makes of damaged files
        raise ValueError(f"{path} is damaged, or no HDF5 file.") from None
    if "xcoordinates" not in arrays:
        raise ValueError(f"{path} has no xcoordinates, as files of loss-landscape do; it has {_names(arrays)}.")
    losses = _named(arrays, "train_loss" if key is None else key, path)
    axes = [_floats(arrays[name], path) for name in ("xcoordinates", "ycoordinates") if name in arrays]
    if len(axes) == 2:
        if losses.size != len(axes[0]) * len(axes[1]):
            raise ValueError(f"{path} holds {losses.size} losses, but {len(axes[0])} x {len(axes[1])} coordinates.")
        losses = losses.reshape(len(axes[1]), len(axes[0])).T
    return "loss-landscape", np.where(losses == _NOT_COMPUTED, np.nan, losses), axes


def _read_npz(data: bytes, path: Path, key: str | None) -> _Parts:
    if data.startswith(_NPY):
        raise ValueError(f"{path} holds a single array, as .npy files do; rename it.")
    with _told_of(path):
        arrays = arrays_in(data)
    if not arrays:
        raise ValueError(f"{path} holds no array; save the losses with numpy.savez.")
    if key is None and "loss" not in arrays and len(arrays) != 1:
        raise ValueError(f"{path} holds several arrays, {_names(arrays)}; give key, the name of the losses.")
    losses = _named(arrays, key or ("loss" if "loss" in arrays else next(iter(arrays))), path)
    if "coordinates" not in arrays:
        return "npz", losses, None
    return "landscaper", losses, [_floats(axis, path) for axis in np.atleast_2d(arrays["coordinates"])]


def _read_npy(data: bytes, path: Path, key: str | None) -> _Parts:
    if data.startswith(_NPZ):
        raise ValueError(f"{path} holds several arrays, as .npz files do; rename it.")
    with _told_of(path):
        stored = array_in(data)
    return "npy", _floats(stored, path), None


def _read_csv(data: bytes, path: Path, key: str | None) -> _Parts:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are no losses is said by others
            return "csv", np.loadtxt(data.decode().splitlines(), delimiter=",", ndmin=2), None
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no table of numbers ({error}); it needs a line for each row, commas between, and no header."
        ) from None


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Put the name of a file before what is wrong with it, and what to do behind."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} {error}; save the losses as numbers, with numpy.save or numpy.savez.") from None


def _named(arrays: Mapping[str, NDArray[Any]], name: str, path: Path) -> Floats:
    if name not in arrays:
        raise ValueError(f"{path} has no {name!r}; give key, the name of the losses, one of {_names(arrays)}.")
    return _floats(arrays[name], path)


def _floats(array: NDArray[Any], path: Path) -> Floats:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path} holds {array.dtype} where losses or coordinates, real numbers, are needed.")
    return array.astype(np.float64)


def _names(arrays: Mapping[str, Any]) -> str:
    return ", ".join(sorted(arrays)) or "nothing"


_READERS: Mapping[str, Callable[[bytes, Path, str | None], _Parts]] = {
    ".h5": _read_h5,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
}
SURFACES = tuple(_READERS)
"""Endings of the files that hold surfaces."""
