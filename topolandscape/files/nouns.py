"""One noun, one file: npz archives without pickles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np

from topolandscape.files.checked import arrays_in, json_in
from topolandscape.files.users import in_one_line
from topolandscape.files.whole import read, write
from topolandscape.structures import (
    BarBands,
    Barcode,
    CanonicalForm,
    Chain,
    ConfidenceBand,
    Descent,
    DistanceMatrix,
    GradientField,
    GridComplex,
    LossSamples,
    MergeTree,
    Minima,
    MinimaNetwork,
    MorseComplex,
    PathProfile,
    SimplicialComplex,
    Subspace,
    Trajectories,
)

Noun = (
    LossSamples
    | SimplicialComplex
    | GridComplex
    | MergeTree
    | GradientField
    | MorseComplex
    | CanonicalForm
    | Barcode
    | BarBands
    | ConfidenceBand
    | DistanceMatrix
    | Minima
    | MinimaNetwork
    | PathProfile
    | Descent
    | Trajectories
)

_KINDS: dict[str, type[Noun]] = {kind.__name__: kind for kind in get_args(Noun)}
# Fields that hold nouns; of a complex, which may be of two kinds, the kind is written down.
_WITHIN: dict[str, type[Any]] = {"subspace": Subspace, "minima": Minima, "barcode": Barcode}
_COMPLEXES = (SimplicialComplex, GridComplex)
SCHEMA = 1


def save(path: str | os.PathLike[str], noun: Noun) -> None:
    """Write a noun to an npz file.

    Parameters
    ----------
    path
        File to write, by custom ending in ``.npz``. It is replaced at once when all is written; an interruption leaves
        what was there.
    noun
        Samples, a filtered complex, a merge tree, a gradient field, a Morse complex, a canonical form, a barcode,
        minima, their network, descents or their trajectories, bands, a distance matrix.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = os.path.join(folder, "barcode.npz")
    ...     save(file, Barcode.from_pairs([(0.0, 1.0)]))
    ...     load(file)
    Barcode(1 bar: 1 in degree 0; 0 essential)
    """
    write(Path(path), packed(noun))


def load(path: str | os.PathLike[str]) -> Noun:
    """Read the noun that `save` wrote.

    Parameters
    ----------
    path
        An npz file.

    Returns
    -------
    Noun
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
    return unpacked(read(path), path)


def packed(noun: Noun) -> bytes:
    """Return the contents of the file of a noun."""
    kind = type(noun).__name__
    if kind not in _KINDS:
        raise TypeError(f"got {kind}; what can be saved is {', '.join(_KINDS)}.")
    arrays, plain = _parts(noun)
    header = {"kind": kind, "schema": SCHEMA, "plain": plain}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpacked(data: bytes, path: Path) -> Noun:
    """Return the noun whose file, at `path`, has these contents."""
    try:
        arrays = arrays_in(data)
        header = json_in(arrays.pop("header").tobytes())
        kind, schema, plain = _KINDS[header["kind"]], header["schema"], header["plain"]
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"{path} is damaged, or was not written by topolandscape.") from None
    if schema != SCHEMA:
        raise ValueError(f"{path} has format {schema}, and this version reads format {SCHEMA}; use the other version.")
    try:
        return _made(kind, arrays, plain)
    except Exception as error:  # parts that do not belong together, in ways that only the nouns know
        said = in_one_line(error)
        raise ValueError(f"{path} is damaged, or was not written by topolandscape ({said}).") from error


def _parts(noun: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays of a noun by name, with dots for what is within a field, and its plain values."""
    arrays: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for field in fields(noun):
        value = getattr(noun, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif isinstance(value, (*_WITHIN.values(), *_COMPLEXES)):
            inner, plain[field.name] = _parts(value)
            if isinstance(value, _COMPLEXES):
                plain[field.name]["kind"] = type(value).__name__
            arrays |= {f"{field.name}.{name}": part for name, part in inner.items()}
        elif field.name == "basis":
            arrays |= {f"basis.{name}": part for name, part in _listed(value).items()}
        elif isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            arrays |= {f"{field.name}.{k}": part for k, part in enumerate(value)}
        else:
            plain[field.name] = dict(value) if isinstance(value, Mapping) else value
    return arrays, plain


def _made(kind: Callable[..., Any], arrays: Mapping[str, Any], plain: Mapping[str, Any]) -> Any:
    """Return the noun of these parts."""
    given = dict(plain)
    within: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        field, _, rest = name.partition(".")
        if rest:
            within.setdefault(field, {})[rest] = array
        else:
            given[field] = array
    for field, parts in within.items():
        if field in _WITHIN:
            given[field] = _made(_WITHIN[field], parts, plain.get(field, {}))
        elif field == "complex":
            inner = dict(plain[field])
            kinds = {kind.__name__: kind for kind in _COMPLEXES}
            given[field] = _made(kinds[inner.pop("kind")], parts, inner)
        elif field == "basis":
            given[field] = _chains(parts, rational=plain["coefficients"] == 0)
        else:
            given[field] = tuple(parts[str(k)] for k in range(len(parts)))
    return kind(**given)


def _listed(chains: Sequence[Chain]) -> dict[str, Any]:
    """Return chains one after the other: where each ends, rows, and coefficients as text, which has room for all."""
    return {
        "ends": np.cumsum([len(chain) for chain in chains], dtype=np.int64),
        "rows": np.array([row for chain in chains for row in chain], dtype=np.int64),
        "coefficients": np.array([str(c) for chain in chains for c in chain.values()], dtype=np.str_),
    }


def _chains(parts: Mapping[str, Any], *, rational: bool) -> list[Chain]:
    """Return the chains that `_listed` wrote."""
    number = Fraction if rational else int
    coefficients = [number(text) for text in parts["coefficients"].tolist()]
    both = list(zip(parts["rows"].tolist(), coefficients, strict=True))
    ends = parts["ends"].tolist()
    return [dict(both[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
