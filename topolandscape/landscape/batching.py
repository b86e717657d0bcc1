"""A function of one parameter vector, evaluated at many of them.

A `Form` is a way of sending a chunk of vectors through a function at once. An `Engine` sums a function over blocks of
data, cuts the vectors into chunks that fit the memory budget, and takes the first form that the function allows.
"""

from __future__ import annotations

import logging
import math
import random
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from tqdm import tqdm

from topolandscape.structures import Floats, Subspace

Function = Callable[[Tensor, Any], Tensor]
Blocks = Callable[[], Iterable[tuple[float, Any]]]
Kind = Literal["values", "gradients", "products"]

# Activations of a chunk should stay near the processor's caches: larger chunks were measured to be slower.
PROCESSOR_MEMORY = 32 * 2**20
LARGEST_CHUNK = 2**16

_log = logging.getLogger(__name__)


# --------------------------------------------------------------------------------------------------------------
# Forms: how a chunk of vectors goes through a function at once
# --------------------------------------------------------------------------------------------------------------


class Form(Protocol):
    """One way of evaluating a function of a flat vector at a chunk of them."""

    name: str

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""

    def products(self, vector: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vector` (p,) times each of `directions` (c, p)."""


class Vmapped:
    """All vectors of a chunk in one call, by ``torch.func.vmap``.

    Parameters
    ----------
    function
        Maps a vector (p,) and a block of data to a scalar.
    """

    name = "vmap"

    def __init__(self, function: Function) -> None:
        self._function = function

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        with _without_vmap_warnings():
            return vmap(lambda vector: self._function(vector, data))(vectors)

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        with _without_vmap_warnings():
            gradients, values = vmap(grad_and_value(lambda vector: self._function(vector, data)))(vectors)
        return values, gradients

    def products(self, vector: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vector` (p,) times each of `directions` (c, p), by reverse over reverse mode."""
        gradient = grad(lambda at: self._function(at, data))
        with _without_vmap_warnings():
            return vmap(lambda direction: grad(lambda at: (gradient(at) * direction).sum())(vector))(directions)


class Looped:
    """One vector after the other: for functions that vmap cannot do (control flow that depends on the data).

    Parameters
    ----------
    function
        Maps a vector (p,) and a block of data to a scalar.
    """

    name = "loop"

    def __init__(self, function: Function) -> None:
        self._function = function

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return torch.stack([self._function(vector, data).detach() for vector in vectors])

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        values, gradients = [], []
        for vector in vectors:
            leaf = vector.detach().clone().requires_grad_()
            value = self._function(leaf, data)
            values.append(value.detach())
            gradients.append(_derivative(value, leaf))
        return torch.stack(values), torch.stack(gradients)

    def products(self, vector: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vector` (p,) times each of `directions` (c, p)."""
        leaf = vector.detach().clone().requires_grad_()
        gradient = _derivative(self._function(leaf, data), leaf, create_graph=True)
        return torch.stack([_derivative((gradient * row).sum(), leaf, retain_graph=True) for row in directions])


class Rows:
    """A torch function that takes many vectors, (c, p) -> (c,), each row for itself; derivatives by autograd.

    Parameters
    ----------
    function
        Maps vectors (c, p) to values (c,).
    """

    name = "rows"

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return self._function(vectors).detach()

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        leaf = vectors.detach().clone().requires_grad_()
        values = self._function(leaf)
        return values.detach(), _derivative(values.sum(), leaf)

    def products(self, vector: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vector` (p,) times each of `directions` (c, p)."""
        leaf = vector.expand_as(directions).clone().requires_grad_()
        gradient = _derivative(self._function(leaf).sum(), leaf, create_graph=True)
        return _derivative((gradient * directions).sum(), leaf)


class NumpyRows:
    """A numpy function that takes many vectors, (c, p) -> (c,); derivatives by central differences.

    Parameters
    ----------
    function
        Maps vectors (c, p), float64, to values (c,).

    Notes
    -----
    Steps are eps^(1/3) for first and eps^(1/4) for second derivatives (Dennis and Schnabel 1983, section 5.4), times
    the size of the coordinate: gradients are good to about 1e-10, Hessian products to about 1e-7, of the size of the
    function. 2 p evaluations a gradient, 4 p a Hessian product.
    """

    name = "numpy"

    def __init__(self, function: Callable[[Floats], Any]) -> None:
        self._function = function

    def values(self, vectors: Tensor, data: Any) -> Tensor:
        """Return the values (c,) at `vectors` (c, p)."""
        return torch.from_numpy(np.array(self._function(vectors.numpy().copy()), dtype=np.float64))

    def gradients(self, vectors: Tensor, data: Any) -> tuple[Tensor, Tensor]:
        """Return the values (c,) and the gradients (c, p) at `vectors` (c, p)."""
        return self.values(vectors, data), self._differences(vectors, data, power=1 / 3)

    def products(self, vector: Tensor, directions: Tensor, data: Any) -> Tensor:
        """Return the Hessian at `vector` (p,) times each of `directions` (c, p)."""
        length = directions.norm(dim=1, keepdim=True).clamp_min(1e-300)
        step = torch.finfo(torch.float64).eps ** (1 / 4) * vector.abs().max().clamp_min(1.0)
        ahead = self._differences(vector + step * directions / length, data, power=1 / 4)
        behind = self._differences(vector - step * directions / length, data, power=1 / 4)
        return (ahead - behind) / (2 * step) * length

    def _differences(self, vectors: Tensor, data: Any, power: float) -> Tensor:
        steps = torch.finfo(torch.float64).eps ** power * vectors.abs().clamp_min(1.0)
        gradients = torch.empty_like(vectors)
        for i in range(vectors.shape[1]):
            ahead, behind = vectors.clone(), vectors.clone()
            ahead[:, i] += steps[:, i]
            behind[:, i] -= steps[:, i]
            # The step as rounded, not as meant: the difference that was really taken.
            gradients[:, i] = (self.values(ahead, data) - self.values(behind, data)) / (ahead[:, i] - behind[:, i])
        return gradients


def _derivative(value: Tensor, leaf: Tensor, *, create_graph: bool = False, retain_graph: bool = False) -> Tensor:
    """Return the derivative of a scalar; zero where it does not depend on `leaf`."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    (derivative,) = torch.autograd.grad(
        value,
        leaf,
        create_graph=create_graph,
        retain_graph=create_graph or retain_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return derivative


@contextmanager
def _without_vmap_warnings() -> Iterator[None]:
    """Hide that vmap loops over an operation for which it has no batching rule: it is slow, not wrong."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*performance drop")
        yield


# --------------------------------------------------------------------------------------------------------------
# The engine
# --------------------------------------------------------------------------------------------------------------


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
        self._chunks: dict[str, int] = {}
        self.blocks = blocks
        self.count = count
        self.dtype = dtype
        self.device = torch.device(device)
        self.decay = decay
        self.memory = memory_budget(self.device) if memory is None else int(memory)

    def form(self, kind: Kind = "values") -> str:
        """Return the name of the form in use: "vmap", "loop", "rows" or "numpy"."""
        return self._forms[kind][0].name

    @property
    def plainest(self) -> str:
        """Name of the form that always works."""
        return self._forms["values"][-1].name

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


# --------------------------------------------------------------------------------------------------------------
# Memory, and the state of the machine
# --------------------------------------------------------------------------------------------------------------


def memory_budget(device: torch.device) -> int:
    """Return how many bytes the evaluation of a chunk may take on `device` when nobody said."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory // 8)
    return PROCESSOR_MEMORY


class _AllocationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of all new tensors."""

    total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # What shares its storage with an argument is a view of it, or was changed in place.
        old = {tensor.untyped_storage().data_ptr() for tensor in _tensors((args, list((kwargs or {}).values())))}
        self.total += sum(
            tensor.numel() * tensor.element_size()
            for tensor in _tensors(result)
            if tensor.untyped_storage().data_ptr() not in old
        )
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples and lists."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def bytes_allocated(function: Callable[[], Any]) -> int:
    """Return the bytes of all tensors that `function` makes: an upper bound of what it needs at one time.

    Examples
    --------
    >>> x = torch.ones(10, 4)
    >>> bytes_allocated(lambda: (x + 1).view(4, 10) * 2)
    320
    """
    with _AllocationCounter() as counter:  # type: ignore[no-untyped-call]
        function()
    return counter.total


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a processor or an accelerator.

    Examples
    --------
    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    True
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in said or "not enough memory" in said)


@contextmanager
def randomness_kept(device: torch.device, *, seed: int | None = None) -> Iterator[None]:
    """Give the global generators of random numbers (torch, numpy, Python) back as they were.

    Parameters
    ----------
    device
        Its generator is kept as well.
    seed
        Seeds all of them on entering.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if seed is not None:
                # Not torch.manual_seed, which also seeds devices that are not put back.
                torch.default_generator.manual_seed(seed)
                if device.type == "cuda":
                    with torch.cuda.device(device):
                        torch.cuda.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


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
