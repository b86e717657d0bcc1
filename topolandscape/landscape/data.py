"""What a loss is summed over: batches and loaders, checked once and read again at each evaluation."""

from __future__ import annotations

import hashlib
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from topolandscape.landscape.forms import Function
from topolandscape.landscape.machine import bytes_allocated

# (inputs, targets, weights of the rows or None)
Batch = tuple[Any, Any, Any]
Batches = Callable[[], Iterable[Batch]]
Blocks = Callable[[], Iterable[tuple[float, Batch]]]

# Rows on which a loss is tried out; fewer than a large data set has, so that trying cannot exhaust the memory.
ROWS_TRIED = 64
# Rows at once on a processor: activations of a few vectors should fit the caches of a core. With fewer rows the cost of
# calling torch shows.
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Data:
    """Blocks of (inputs, targets, weights) with their share of the whole, read again at each evaluation.

    A share is that of the rows, or of the sum of their weights. `batches` are the blocks before they were cut, `uncut`
    those before they were cut for the caches, where they were; `additive`: whether the loss is a mean over rows.
    """

    blocks: Blocks
    batches: Blocks
    count: int
    rows: int
    digest: str
    first: Batch
    streamed: bool
    additive: bool = True
    uncut: Blocks | None = None


def read(batches: Batches, *, streamed: bool, device: torch.device, dtype: torch.dtype) -> Data:
    """Go through the data: check them, count the rows, and see that a second pass gives the same."""

    def converted(batch: Batch) -> Batch:
        def moved(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
            if streamed and device.type == "cuda" and tensor.device.type == "cpu":
                return tensor.pin_memory().to(device, dtype, non_blocking=True)
            return tensor.to(device, dtype)

        def as_input(tensor: Tensor) -> Tensor:
            return moved(tensor, dtype if tensor.is_floating_point() else None)

        def as_target(tensor: Tensor) -> Tensor:
            whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
            return moved(tensor, torch.int64 if whole else None)

        inputs, targets, weights = map_tensors(
            batch, lambda tensor: tensor.detach() if streamed else tensor.detach().clone()
        )
        weights = None if weights is None else moved(weights, torch.float64)
        return map_tensors(inputs, as_input), map_tensors(targets, as_target), weights

    digests, sums, kept = [], [], []
    rows = 0
    for index, batch in enumerate(batches()):
        rows += _checked_rows(batch, index if streamed else None)
        digests.append(digest(batch))
        sums.append(_weight(batch))
        if not streamed or index == 0:
            kept.append(converted(batch))
    if rows == 0:
        raise ValueError("the data are empty; a loss needs at least one row of inputs and targets.")
    if not all(sums):
        where = f"batch {sums.index(0)}: " if len(sums) > 1 else ""
        raise ValueError(f"{where}the weights of all rows are 0; at least one row needs a weight above 0.")
    total = sum(sums)
    whole = hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()
    if not streamed:
        blocks = [(part / total, batch) for part, batch in zip(sums, kept, strict=True)]
        return Data(lambda: blocks, lambda: blocks, len(blocks), rows, whole, kept[0], streamed)

    again = [digest(batch) for batch in batches()]
    if again != digests:
        index = next(
            (i for i, (a, b) in enumerate(zip(digests, again, strict=False)) if a != b), min(len(again), len(sums))
        )
        raise RuntimeError(
            f"the loss is not a function of the parameters: batch {index} of the loader changed from one pass to the "
            f"next ({len(digests)} and {len(again)} batches). Use shuffle=False, and no random augmentation."
        )

    def stream() -> Iterator[tuple[float, Batch]]:
        seen = 0
        for batch in batches():
            seen += count_rows(batch)
            yield _weight(batch) / total, converted(batch)
        if seen != rows:
            raise RuntimeError(f"the loader gave {seen} rows, but {rows} when the landscape was made; make it anew.")

    return Data(stream, stream, len(sums), rows, whole, kept[0], streamed)


def _weight(batch: Batch) -> float:
    """Return what a batch counts: its rows, or the sum of their weights."""
    return float(count_rows(batch)) if batch[2] is None else float(batch[2].double().sum())


def cut(data: Data, function: Function, vector: Tensor, memory: int) -> Data:
    """Cut data in memory into blocks of rows that fit the memory budget, and on a processor the caches."""
    if data.streamed:
        return data
    few = map_tensors(data.first, lambda tensor: tensor[:ROWS_TRIED])
    row = bytes_allocated(lambda: function(vector, few)) / count_rows(few)
    largest = max(1, int(memory / max(1.0, row)))

    def pieces(largest: int) -> list[tuple[float, Batch]]:
        return [
            (share * _weight(part) / _weight(batch), part)
            for share, batch in data.blocks()
            for part in _parts(batch, largest)
            if _weight(part) > 0
        ]

    uncut = pieces(largest)
    if vector.device.type != "cpu" or max(count_rows(part) for _, part in uncut) <= ROWS_AT_ONCE:
        return replace(data, blocks=lambda: uncut, count=len(uncut))
    small = pieces(ROWS_AT_ONCE)
    return replace(data, blocks=lambda: small, count=len(small), uncut=lambda: uncut)


def _parts(batch: Batch, largest: int) -> Iterator[Batch]:
    """Yield parts of nearly equal numbers of rows."""
    rows = count_rows(batch)
    if rows <= largest:
        yield batch
        return
    bounds = np.linspace(0, rows, math.ceil(rows / largest) + 1).astype(int).tolist()
    for start, end in itertools.pairwise(bounds):
        yield map_tensors(batch, operator.itemgetter(slice(start, end)))


def selected(data: Data, rows: np.ndarray[Any, np.dtype[np.int64]], largest: int | None) -> list[tuple[float, Batch]]:
    """Return some rows of the data as blocks in memory, of at most `largest` rows where that is given."""
    parts, start = [], 0
    for _, batch in data.batches():
        stop = start + count_rows(batch)
        inside = rows[(rows >= start) & (rows < stop)] - start
        if len(inside):
            index = torch.from_numpy(inside).to(leaves(batch)[0].device)
            parts.append(map_tensors(batch, partial(torch.index_select, dim=0, index=index)))
        start = stop
    whole = parts[0] if len(parts) == 1 else _joined(parts)
    pieces = [whole] if largest is None else list(_parts(whole, largest))
    total = sum(_weight(piece) for piece in pieces)
    if not total > 0:
        raise ValueError("the weights of these rows are all 0; at least one row needs a weight above 0.")
    return [(_weight(piece) / total, piece) for piece in pieces if _weight(piece) > 0]


def _joined(batches: list[Batch]) -> Batch:
    """Return the rows of several batches as one."""
    columns = [iter(leaves(batch)) for batch in batches]
    return map_tensors(batches[0], lambda _: torch.cat([next(column) for column in columns]))


def prefetched(items: Iterable[Any]) -> Iterator[Any]:
    """Yield the items, reading the next one in a thread while one is in use.

    Examples
    --------
    >>> list(prefetched(range(3)))
    [0, 1, 2]
    """
    end = object()
    source = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, source, end)
            yield item


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


def _checked_rows(parts: Batch, batch: int | None) -> int:
    where = "" if batch is None else f"batch {batch}: "
    counts = []
    for name, part in zip(("inputs", "targets"), parts[:2], strict=True):
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
    if parts[2] is not None:
        _check_weights(parts[2], counts[0], where)
    return counts[0]


def _check_weights(weights: Any, rows: int, where: str) -> None:
    if not isinstance(weights, Tensor) or tuple(weights.shape) != (rows,):
        got = f"shape {tuple(weights.shape)}" if isinstance(weights, Tensor) else f"a {type(weights).__name__}"
        raise ValueError(f"{where}weights are {got}; they need to be a tensor of shape ({rows},), one for each row.")
    wrong = ~(torch.isfinite(weights) & (weights >= 0))
    if wrong.any():
        index = int(wrong.nonzero()[0])
        raise ValueError(f"{where}weights[{index}] is {weights[index].item()}; weights need to be finite, 0 or more.")


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
