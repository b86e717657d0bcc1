"""A function of one parameter vector, evaluated at many of them.

A `Form` is a way of sending a chunk of vectors through a function at once. An `Engine` sums a function over blocks of
data, cuts the vectors into chunks that fit the memory budget, and takes the first form that the function allows.
"""

from __future__ import annotations

import logging
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from topolandscape.landscape.forms import Form
from topolandscape.landscape.machine import bytes_allocated, memory_budget, out_of_memory, randomness_kept
from topolandscape.structures import Floats, Subspace

Blocks = Callable[[], Iterable[tuple[float, Any]]]
Kind = Literal["values", "gradients", "products"]

LARGEST_CHUNK = 2**16

_log = logging.getLogger(__name__)


class Engine:
    """A weighted sum of a function over blocks of data, evaluated at many vectors.

    The loss is ``sum_b weight_b * function(vector, data_b) + decay * |vector|^2``, summed in float64.

    Parameters
    ----------
    forms
        Ways of evaluating the function, the best first. One that raises gives way to the next, for good.
    blocks
        Called at each evaluation; gives (weight, data) pairs in an order that never changes.
    count
        Number of blocks.
    dtype, device
        Of the vectors given to the forms.
    decay
        Weight of the squared norm of the vector.
    memory
        Bytes that the evaluation of a chunk may take; None: 32 MiB on a processor, an eighth of the memory of an
        accelerator.

    Examples
    --------
    >>> from topolandscape.landscape.forms import Looped, Vmapped
    >>> function = lambda vector, data: ((vector - data) ** 2).sum()
    >>> engine = Engine([Vmapped(function), Looped(function)], lambda: [(0.5, 0.0), (0.5, 2.0)], count=2)
    >>> engine.values(np.array([[1.0], [2.0]]))
    array([1., 2.])
    """

    def __init__(
        self,
        forms: Sequence[Form],
        blocks: Blocks,
        *,
        count: int = 1,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        decay: float = 0.0,
        memory: int | None = None,
    ) -> None:
        self._forms = {kind: list(forms) for kind in ("values", "gradients", "products")}
        self._plainest = forms[-1].name
        self._chunks: dict[str, int] = {}
        self.blocks = blocks
        self.count = count
        self.dtype = dtype
        self.device = torch.device(device)
        self.decay = decay
        self.memory = memory_budget(self.device) if memory is None else int(memory)

    def form(self, kind: Kind = "values") -> str:
        """Return the name of the form in use: "wide", "vmap", "loop", "rows" or "numpy"."""
        return self._forms[kind][0].name

    def forms(self, kind: Kind = "values") -> list[str]:
        """Return the names of the forms that may be used, the one in use first."""
        return [form.name for form in self._forms[kind]]

    @property
    def plainest(self) -> str:
        """Name of the form that always works."""
        return self._plainest

    def values(
        self,
        points: Floats,
        *,
        subspace: Subspace | None = None,
        progress: bool | None = False,
        chunk: int | None = None,
        form: str | None = None,
    ) -> Floats:
        """Return the losses at many points.

        Parameters
        ----------
        points
            Vectors, or coordinates in `subspace`, shape (n, d).
        subspace
            Where the coordinates live; the vectors are made chunk by chunk.
        progress
            None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.
        chunk
            Points at once, instead of as many as fit the memory budget.
        form
            Use this form and no other.

        Returns
        -------
        float64 array
            Losses, shape (n,).
        """
        lift = _Lift(subspace, self.dtype, self.device)
        total = np.zeros(len(points))

        def compute(way: Form, rows: slice, weight: float, data: Any, decay: float) -> Tensor:
            exact, vectors = lift(points[rows])
            values = way.values(vectors, data).double() * weight
            return values + decay * exact.square().sum(dim=1) if decay else values

        def collect(rows: slice, values: Tensor) -> None:
            total[rows] += values.cpu().numpy()

        self._sweep("values", len(points), compute, collect, progress=progress, chunk=chunk, form=form)
        return total

    def gradients(
        self, points: Floats, *, subspace: Subspace | None = None, progress: bool | None = False
    ) -> tuple[Floats, Floats]:
        """Return the losses (n,) and their gradients (n, d) at many points; see `values`."""
        lift = _Lift(subspace, self.dtype, self.device)
        total, slopes = np.zeros(len(points)), np.zeros(points.shape)

        def compute(way: Form, rows: slice, weight: float, data: Any, decay: float) -> tuple[Tensor, Tensor]:
            exact, vectors = lift(points[rows])
            values, gradients = way.gradients(vectors, data)
            values, gradients = values.double() * weight, gradients.double() * weight
            if decay:
                values = values + decay * exact.square().sum(dim=1)
                gradients = gradients + 2 * decay * exact
            return values, lift.back(gradients)

        def collect(rows: slice, result: tuple[Tensor, Tensor]) -> None:
            total[rows] += result[0].cpu().numpy()
            slopes[rows] += result[1].cpu().numpy()

        self._sweep("gradients", len(points), compute, collect, progress=progress)
        return total, slopes

    def products(
        self,
        point: Floats,
        directions: Floats,
        *,
        subspace: Subspace | None = None,
        progress: bool | None = False,
    ) -> Floats:
        """Return the Hessian at `point` (d,) times each of `directions` (n, d), shape (n, d); see `values`."""
        lift = _Lift(subspace, self.dtype, self.device)
        total = np.zeros(directions.shape)

        def compute(way: Form, rows: slice, weight: float, data: Any, decay: float) -> Tensor:
            exact = lift.along(directions[rows])
            vector = lift(point[None])[1][0]
            products = way.products(vector, exact.to(self.dtype), data).double() * weight
            return lift.back(products + 2 * decay * exact if decay else products)

        def collect(rows: slice, products: Tensor) -> None:
            total[rows] += products.cpu().numpy()

        self._sweep("products", len(directions), compute, collect, progress=progress)
        return total

    def drop(self, form: str) -> None:
        """Never use the form of this name again."""
        self._forms = {kind: [f for f in forms if f.name != form] for kind, forms in self._forms.items()}

    def _sweep(
        self,
        kind: Kind,
        n: int,
        compute: Callable[[Form, slice, float, Any, float], Any],
        collect: Callable[[slice, Any], None],
        *,
        progress: bool | None,
        chunk: int | None = None,
        form: str | None = None,
    ) -> None:
        """Hand to `collect` what `compute` gives for each block of data and each chunk of rows."""
        if n == 0:
            return
        # The fused forms of attention have no second derivative.
        attention = sdpa_kernel(SDPBackend.MATH) if kind == "products" else nullcontext()
        with (
            attention,
            randomness_kept(self.device),
            torch.inference_mode(False),
            torch.enable_grad(),
            _bar(n, self.count, progress) as bar,
        ):
            for index, (weight, data) in enumerate(self.blocks()):
                term = (weight, data, self.decay if index == 0 else 0.0)
                start = 0
                while start < n:
                    rows = slice(start, start + 1)
                    try:
                        if chunk is None and kind not in self._chunks:
                            self._chunks[kind] = self._fitting(kind, compute, term)
                        rows = slice(start, min(start + (chunk or self._chunks[kind]), n))
                        result = self._attempt(kind, compute, rows, term, form)
                    except Exception as error:
                        if not out_of_memory(error):
                            raise
                        half = (rows.stop - rows.start) // 2
                        self._relieve(half, error)
                        if chunk is None:
                            self._chunks[kind] = half
                        else:
                            chunk = half
                        continue
                    collect(rows, result)
                    bar.update(rows.stop - rows.start)
                    start = rows.stop

    def _attempt(
        self,
        kind: Kind,
        compute: Callable[[Form, slice, float, Any, float], Any],
        rows: slice,
        term: tuple[float, Any, float],
        form: str | None = None,
    ) -> Any:
        """Compute by the first form that works; the ones before it are not tried again."""
        ways = [way for way in self._forms[kind] if form in (None, way.name)]
        failed: list[tuple[Form, Exception]] = []
        for way in ways:
            try:
                result = compute(way, rows, *term)
            except Exception as error:
                # Where every form fails, the fault is the caller's, and the plainest form has the plainest message.
                if out_of_memory(error) or way is ways[-1]:
                    raise
                failed.append((way, error))
                continue
            for other, reason in failed:
                said = textwrap.shorten(str(reason), 100)
                _log.info("%s by %s: %s failed (%s)", kind, way.name, other.name, said)
                self._forms[kind].remove(other)
            return result
        raise ValueError(f"there is no form {form!r}; there are {', '.join(way.name for way in self._forms[kind])}.")

    def _fitting(
        self,
        kind: Kind,
        compute: Callable[[Form, slice, float, Any, float], Any],
        term: tuple[float, Any, float],
    ) -> int:
        """Return how many vectors fit the memory budget, by counting what one of them allocates."""
        one = bytes_allocated(lambda: self._attempt(kind, compute, slice(0, 1), term))
        return min(LARGEST_CHUNK, max(1, self.memory // max(1, one)))

    def _relieve(self, half: int, error: Exception) -> None:
        """Prepare for another trial with fewer vectors, or say that there is none left."""
        if half == 0:
            raise MemoryError(
                f"memory ran out while evaluating one parameter vector ({str(error).splitlines()[0]}). Give the data "
                "in several batches, or use a device with more memory."
            ) from error
        _log.info("memory ran out; going on with %d parameter vectors at once", half)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class _Lift:
    """The way from coordinates to parameter vectors and back, as tensors."""

    def __init__(self, subspace: Subspace | None, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._origin = None if subspace is None else self._tensor(subspace.origin)
        self._directions = None if subspace is None else self._tensor(subspace.directions)

    def _tensor(self, array: Floats) -> Tensor:
        return torch.tensor(array, dtype=torch.float64, device=self._device)

    def __call__(self, coordinates: Floats) -> tuple[Tensor, Tensor]:
        """Return the vectors in float64 and in the dtype of the forms."""
        exact = self.along(coordinates)
        if self._origin is not None:
            exact = self._origin + exact
        return exact, exact.to(self._dtype)

    def along(self, coordinates: Floats) -> Tensor:
        """Return the differences of vectors that belong to differences of coordinates."""
        rows = self._tensor(coordinates)
        return rows if self._directions is None else rows @ self._directions

    def back(self, gradients: Tensor) -> Tensor:
        """Return gradients with respect to the coordinates."""
        return gradients if self._directions is None else gradients @ self._directions.T


def _bar(n: int, blocks: int, progress: bool | None) -> Any:
    disable = None if progress is None else not progress
    return tqdm(
        total=n * blocks, unit="points", unit_scale=1 / blocks if blocks > 1 else False, delay=1, disable=disable
    )


def spread(evaluations: Sequence[Floats]) -> Floats:
    """Return, for each point, the largest difference between evaluations of it; 0 where none is finite.

    Examples
    --------
    >>> spread([np.array([1.0, np.nan]), np.array([1.5, np.nan])])
    array([0.5, 0. ])
    """
    values = np.asarray(evaluations)
    finite = np.isfinite(values)
    high = np.where(finite, values, -math.inf).max(axis=0)
    low = np.where(finite, values, math.inf).min(axis=0)
    return np.where(finite.any(axis=0), high - low, 0.0)
