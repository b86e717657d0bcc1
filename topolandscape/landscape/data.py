"""What a loss is summed over: batches and loaders, checked once and read again at each evaluation."""

from __future__ import annotations

import hashlib
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from topolandscape.landscape.forms import Function
from topolandscape.landscape.machine import bytes_allocated

Pairs = Callable[[], Iterable[tuple[Any, Any]]]

# Rows on which a loss is tried out; fewer than a large data set has, so that trying cannot exhaust the memory.
ROWS_TRIED = 64


@dataclass(frozen=True)
class Data:
    """Blocks of (inputs, targets) with their share of the rows, read again at each evaluation."""

    blocks: Callable[[], Iterable[tuple[float, Any]]]
    count: int
    rows: int
    digest: str
    first: tuple[Any, Any]


def read(pairs: Pairs, *, streamed: bool, device: torch.device, dtype: torch.dtype) -> Data:
    """Go through the data: check them, count the rows, and see that a second pass gives the same."""

    def converted(pair: tuple[Any, Any]) -> tuple[Any, Any]:
        def as_input(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        def as_target(tensor: Tensor) -> Tensor:
            whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
            return tensor.to(device, torch.int64 if whole else None)

        inputs, targets = map_tensors(pair, lambda tensor: tensor.detach() if streamed else tensor.detach().clone())
        return map_tensors(inputs, as_input), map_tensors(targets, as_target)

    digests, rows, kept = [], [], []
    for index, pair in enumerate(pairs()):
        length = _checked_rows(pair, index if streamed else None)
        digests.append(digest(pair))
        rows.append(length)
        if not streamed or index == 0:
            kept.append(converted(pair))
    total = sum(rows)
    if total == 0:
        raise ValueError("the data are empty; a loss needs at least one row of inputs and targets.")
    whole = hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()
    if not streamed:
        blocks = [(length / total, pair) for length, pair in zip(rows, kept, strict=True)]
        return Data(lambda: blocks, len(blocks), total, whole, kept[0])

    again = [digest(pair) for pair in pairs()]
    if again != digests:
        index = next(
            (i for i, (a, b) in enumerate(zip(digests, again, strict=False)) if a != b), min(len(again), len(rows))
        )
        raise RuntimeError(
            f"the loss is not a function of the parameters: batch {index} of the loader changed from one pass to the "
            f"next ({len(digests)} and {len(again)} batches). Use shuffle=False, and no random augmentation."
        )

    def stream() -> Iterator[tuple[float, Any]]:
        seen = 0
        for pair in pairs():
            block = converted(pair)
            seen += count_rows(block)
            yield count_rows(block) / total, block
        if seen != total:
            raise RuntimeError(f"the loader gave {seen} rows, but {total} when the landscape was made; make it anew.")

    return Data(stream, len(rows), total, whole, kept[0])


def cut(data: Data, function: Function, vector: Tensor, memory: int) -> Data:
    """Cut data in memory into blocks of rows, so that one evaluation on a block fits the memory budget."""
    few = map_tensors(data.first, lambda tensor: tensor[:ROWS_TRIED])
    row = bytes_allocated(lambda: function(vector, few)) / count_rows(few)
    largest = max(1, int(memory / max(1.0, row)))
    blocks = data.blocks()
    if not isinstance(blocks, list) or all(count_rows(pair) <= largest for _, pair in blocks):
        return data
    pieces = []
    for _, pair in blocks:
        number = math.ceil(count_rows(pair) / largest)
        bounds = np.linspace(0, count_rows(pair), number + 1).astype(int).tolist()
        for start, end in itertools.pairwise(bounds):
            part = map_tensors(pair, operator.itemgetter(slice(start, end)))
            pieces.append(((end - start) / data.rows, part))
    return Data(lambda: pieces, len(pieces), data.rows, data.digest, data.first)


def batches(data: Any) -> list[Tensor]:
    """Return the batches of an argument: its entries when it is a list of tensors or arrays, else itself."""
    if isinstance(data, (list, tuple)) and data and all(isinstance(part, (Tensor, np.ndarray)) for part in data):
        return [part if isinstance(part, Tensor) else torch.tensor(part) for part in data]
    if isinstance(data, Tensor):
        return [data]
    try:
        return [torch.tensor(np.asarray(data))]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"the data are a {type(data).__name__}; give tensors, arrays or lists of them ({error})."
        ) from error


def _checked_rows(pair: tuple[Any, Any], batch: int | None) -> int:
    where = "" if batch is None else f"batch {batch}: "
    counts = []
    for name, part in zip(("inputs", "targets"), pair, strict=True):
        tensors = leaves(part)
        if not tensors:
            raise TypeError(f"{where}{name} are a {type(part).__name__}; they need to be a tensor.")
        if tensors[0].ndim == 0:
            raise ValueError(f"{where}{name} have no dimensions; they need one entry a row.")
        counts.append(len(tensors[0]))
    if counts[0] != counts[1]:
        raise ValueError(
            f"{where}inputs have {counts[0]} rows and targets {counts[1]}; give one target for each input."
        )
    return counts[0]


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested tuples, lists and mappings with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(part, change) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(part, change) for part in value))
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(part, change) for part in value)
    return value


def leaves(value: Any) -> list[Tensor]:
    """Return the tensors in nested containers."""
    found: list[Tensor] = []
    map_tensors(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def count_rows(value: Any) -> int:
    """Return the number of rows of the first tensor in nested containers."""
    return len(leaves(value)[0])


def shapes(value: Any) -> str:
    """Return the shapes and types of what goes in or comes out, for messages."""
    return (
        " and ".join(f"{tuple(tensor.shape)} ({str(tensor.dtype).removeprefix('torch.')})" for tensor in leaves(value))
        or type(value).__name__
    )


def digest(value: Any) -> str:
    """Return a fingerprint of the tensors in nested containers: shapes, types and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in leaves(value):
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if len(flat) else b"")
    return digest.hexdigest()
