"""Arrays at the boundary: copied when a noun is made, read-only afterwards, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def frozen(array: ArrayLike, dtype: type, name: str, ndim: int | None = None) -> NDArray[Any]:
    """Return a read-only C-ordered copy of `array`; one that is already such a copy is shared."""
    result = array if _is_own(array, dtype) else _copied(array, dtype, name)
    if ndim is not None and result.ndim != ndim:
        raise ValueError(f"{name} has shape {result.shape}; it needs {ndim} dimension(s).")
    return result


def _is_own(array: ArrayLike, dtype: type) -> TypeGuard[NDArray[Any]]:
    """Tell whether an array is as `frozen` returns it."""
    if type(array) is not np.ndarray or array.dtype.type is not dtype or not array.dtype.isnative:
        return False
    flags = array.flags
    return flags.c_contiguous and flags.owndata and not flags.writeable


def _copied(array: ArrayLike, dtype: type, name: str) -> NDArray[Any]:
    try:
        result = np.asarray(array)
    except ValueError:
        raise ValueError(f"{name} {_ragged(array, name)}.") from None
    if dtype is np.int64 and result.size and not np.issubdtype(result.dtype, np.integer):
        raise TypeError(f"{name} holds {result.dtype}; it needs integers. Convert it with .astype(int).")
    try:
        result = np.array(result, dtype=dtype, order="C", copy=True)
    except (ValueError, TypeError):
        raise TypeError(f"{name} holds {result.dtype}, which cannot be read as {dtype.__name__}.") from None
    result.flags.writeable = False
    return result


def _ragged(array: Any, name: str) -> str:
    """Return what is wrong with nested lists that are no array."""
    try:
        lengths = [len(row) for row in array]
    except TypeError:
        return "mixes numbers and lists; it needs to be an array"
    other = next((row for row, length in enumerate(lengths) if length != lengths[0]), None)
    if other is None:
        return "holds lists of different lengths; it needs to be an array"
    entries = f"{lengths[other]} entr{'y' if lengths[other] == 1 else 'ies'}"
    return f"has rows of different sizes: {name}[{other}] has {entries}, {name}[0] {lengths[0]}; all need as many"


def check_length(array: NDArray[Any], length: int, name: str, of: str) -> None:
    """Raise when `array` has not one entry for each of something."""
    if len(array) != length:
        raise ValueError(f"{name} has {len(array)} entries, but there are {length} {of}; they must agree.")


def refuse_nan(values: Floats, name: str) -> None:
    """Raise when `values` holds NaN or -inf, naming the first of them."""
    if values.size and not values.min() > -np.inf:
        wrong = np.isnan(values) | np.isneginf(values)
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}{list(index)} is {values[index]}, one of {int(wrong.sum())} such values; a filtration needs "
            "numbers, or +inf for what never enters. Drop it, or set it to +inf."
        )


def settle(instance: object, **fields: Any) -> None:
    """Set fields of a frozen record while it is being made."""
    for name, value in fields.items():
        object.__setattr__(instance, name, value)


def read_only(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a copy that cannot be changed, of plain values only, so that it is the same after a way through JSON."""
    return MappingProxyType(_plain(provenance, "provenance"))


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part, f"{name}[{str(key)!r}]") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, f"{name}[{i}]") for i, part in enumerate(value)]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}; give text, numbers, lists or mappings of them.")
