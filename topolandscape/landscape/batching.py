"""A function of one parameter vector, evaluated at many of them.

A `Form` is a way of sending a chunk of vectors through a function at once. An `Engine` sums a function over blocks of
data, cuts the vectors into chunks that fit the caches and the memory budget, shares these out among threads or devices,
and takes the form that is fastest.
"""

from __future__ import annotations

import copy
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from topolandscape.landscape.crew import Crew
from topolandscape.landscape.data import prefetched
from topolandscape.landscape.forms import Form
from topolandscape.landscape.machine import (
    cudnn_allowed,
    float32_products,
    matrix_product_speed,
    memory_budget,
    operations,
    randomness_kept,
)
from topolandscape.landscape.plans import Plan
from topolandscape.landscape.quantities import KINDS, Block, Blocks, Kind, Request, most_rows
from topolandscape.landscape.tasks import Asked, Tasks, points_of_task
from topolandscape.landscape.trials import planned
from topolandscape.structures import Floats, Subspace

_log = logging.getLogger(__name__)


class Engine:
    """A weighted sum of a function over blocks of data, evaluated at many vectors.

    The loss is ``sum_b weight_b * function(vector, data_b) + decay * |vector|^2``, summed in float64. Results do not
    depend on how many vectors are evaluated at once, except by rounding.

    Parameters
    ----------
    forms
        Ways of evaluating the function, the best first. One that raises gives way to the next, for good.
    blocks
        Gives (weight, data) pairs, always the same in the same order; called once, or if streamed at each evaluation.
    count
        Number of blocks.
    dtype, devices
        Of the vectors given to the forms; a device for each worker.
    decay
        Weight of the squared norm of the vector.
    memory
        Bytes that the workers may take together on one device; None: 128 MiB on a processor, an eighth of the memory
        of an accelerator.
    spare
        Makes the forms of another worker, on its device. With it the form and the chunk are searched for by short
        trials, at the first use of each kind with many vectors, and kept.
    dimension
        Of the vectors; needed by `report` only.
    streamed
        Whether `blocks` reads the data anew, one block at a time; the next one is then read while one is in use.
    tf32
        Whether matrix products on an accelerator may round their factors to 10 bits.
    cudnn
        Whether an accelerator may use cuDNN, whose recurrent layers have first derivatives in train mode only, and no
        second ones.
    uncut
        As `blocks`, the same data in blocks of more rows: a loop tries these too, since to it the caches count less
        and the calls of torch more.

    Attributes
    ----------
    evaluations
        How many vectors were evaluated so far: values, accuracies, gradients and Hessian products count alike, trials
        not.

    Examples
    --------
    >>> from topolandscape.landscape.forms import Looped, Vmapped
    >>> function = lambda vector, data: ((vector - data) ** 2).sum()
    >>> engine = Engine([Vmapped(function), Looped(function)], lambda: [(0.5, 0.0), (0.5, 2.0)], count=2)
    >>> engine.values(np.array([[1.0], [2.0]]))
    array([1., 2.])
    >>> engine.evaluations
    2
    """

    def __init__(
        self,
        forms: Sequence[Form],
        blocks: Blocks,
        *,
        count: int = 1,
        dtype: torch.dtype = torch.float64,
        devices: Sequence[torch.device] = (torch.device("cpu"),),
        decay: float = 0.0,
        memory: int | None = None,
        spare: Callable[[torch.device], Sequence[Form]] | None = None,
        dimension: int | None = None,
        streamed: bool = False,
        tf32: bool = False,
        cudnn: bool = True,
        uncut: Blocks | None = None,
    ) -> None:
        self.blocks = blocks
        self.count = count
        self.dtype = dtype
        self.devices = tuple(devices) if spare is not None else tuple(devices[:1])
        self.decay = decay
        self.memory = memory_budget(self.device) if memory is None else int(memory)
        self.plainest = forms[-1].name
        self.cudnn = cudnn
        self.evaluations = 0
        self._crew = Crew(forms, self.devices, dtype, self.memory, spare)
        self._dimension = dimension
        self._streamed = streamed
        self._tf32 = tf32
        self._uncut = uncut
        self._shared: tuple[Tasks, Mapping[str, Any]] | None = None  # who evaluates instead, and of what landscape
        self._whole: tuple[list[Block], int] | None = None  # all blocks and the rows of the largest, if not streamed

    @property
    def device(self) -> torch.device:
        """Device of the first worker, on which the blocks of data are."""
        return self.devices[0]

    # ---------------------------------------------------------------------------------------------- how

    def form(self, kind: Kind = "values") -> str:
        """Return the name of the form in use: "dense", "wide", "vmap", "loop", "rows" or "numpy"."""
        return self._crew.ways.form(kind)

    def forms(self, kind: Kind = "values") -> list[str]:
        """Return the names of the forms that may be used, the preferred one first."""
        return self._crew.ways.forms(kind)

    def plan(self, kind: Kind = "values") -> Plan | None:
        """Return how a kind of quantity is evaluated on the largest blocks; None before its first use."""
        return self._crew.ways.plan(kind)

    def drop(self, form: str) -> None:
        """Never use the form of this name again."""
        self._crew.ways.drop(form)

    def only(self, form: str) -> None:
        """Use the form of this name, and others only where they are asked for by name."""
        self._crew.ways.only(form)

    def planned(self, plans: Mapping[Kind, Plan]) -> Engine:
        """Return an engine that evaluates some kinds as planned, on blocks of any size, and searches for nothing.

        Parameters
        ----------
        plans
            As `plan` gives them; of these the form and the chunk hold, and the rows where blocks need not be cut.
        """
        engine = copy.copy(self)
        engine._crew = self._crew.planned(plans)
        return engine

    def report(self) -> dict[Kind, dict[str, Any]]:
        """Return how each kind was evaluated so far, and how near to the limit of the machine.

        Returns
        -------
        dict
            For each kind in use: the fields of its ``Plan``, and ``peak``, the share of the speed of a large matrix
            product (measured at the first call: a second) that the layers' own products reached; NaN where torch
            counts no products.

        Examples
        --------
        >>> from topolandscape.landscape.forms import Rows
        >>> engine = Engine([Rows(lambda vectors: vectors.sum(1))], lambda: [(1.0, None)])
        >>> _ = engine.values(np.zeros((3, 2)))
        >>> engine.report()["values"]["form"], engine.report()["values"]["workers"]
        ('rows', 1)
        """
        said: dict[Kind, dict[str, Any]] = {}
        for kind in KINDS:
            plan = self.plan(kind)
            if plan is not None:
                work = self._operations(kind)
                peak = matrix_product_speed(self.device, self.dtype) * len({*self.devices}) if work else math.nan
                said[kind] = {**vars(plan), "peak": work / plan.seconds / peak if work else math.nan}
        return said

    def __repr__(self) -> str:
        """Return one line a kind in use: form, vectors and rows at once, speed."""
        kinds = [
            f"{kind}: {plan.form}, {plan.chunk} vectors x {plan.rows} rows on {plan.workers} "
            f"worker{'s' * (plan.workers != 1)}, {1e6 * plan.seconds:.3g} us a vector"
            for kind in KINDS
            if (plan := self.plan(kind)) is not None
        ]
        return f"Engine({'; '.join(kinds) or 'not used yet'})"

    def on(self, blocks: Blocks, count: int) -> Engine:
        """Return an engine of the same forms on other data in memory.

        Parameters
        ----------
        blocks, count
            As for the class. What was found out for blocks of as many rows is shared.
        """
        engine = copy.copy(self)
        engine.blocks, engine.count, engine._streamed, engine._uncut = blocks, count, False, None
        engine._whole, engine._shared = None, None
        return engine

    def shared_by(self, tasks: Tasks, description: Mapping[str, Any]) -> Engine:
        """Return an engine that lets others evaluate whatever is worth more than one task.

        Parameters
        ----------
        tasks
            Whoever does them.
        description
            Of the landscape.
        """
        engine = copy.copy(self)
        engine._shared = tasks, description
        return engine

    # ---------------------------------------------------------------------------------------------- what

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
            Points at once, instead of as many as were found to be best.
        form
            Use this form and no other.

        Returns
        -------
        float64 array
            Losses, shape (n,).
        """
        total = np.zeros(len(points))
        self._sweep(Request("values", (points,), (total,), subspace), progress, chunk=chunk, form=form)
        return total

    def values_of(self, parts: Sequence[Floats], *, subspace: Subspace | None = None) -> Iterator[tuple[int, Floats]]:
        """Yield the number of each part of some points and its losses; see `topolandscape.Landscape.values_of`."""
        if self._shared is None:
            yield from ((number, self.values(part, subspace=subspace)) for number, part in enumerate(parts))
            return
        asked: Asked = [(("values", part), {}) for part in parts]
        for number, (found,) in self._shared[0].done(
            _evaluated, asked, subspace=subspace, what="points", progress=False
        ):
            yield number, found

    def accuracies(
        self, points: Floats, *, subspace: Subspace | None = None, progress: bool | None = False
    ) -> tuple[Floats, Floats]:
        """Return the losses (n,) and the shares of rows classified correctly (n,) at many points; see `values`."""
        total, right = np.zeros(len(points)), np.zeros(len(points))
        self._sweep(Request("accuracies", (points,), (total, right), subspace), progress)
        return total, right

    def gradients(
        self,
        points: Floats,
        *,
        subspace: Subspace | None = None,
        progress: bool | None = False,
        form: str | None = None,
    ) -> tuple[Floats, Floats]:
        """Return the losses (n,) and their gradients (n, d) at many points; see `values`."""
        total, slopes = np.zeros(len(points)), np.zeros(points.shape)
        self._sweep(Request("gradients", (points,), (total, slopes), subspace), progress, form=form)
        return total, slopes

    def products(
        self,
        points: Floats,
        directions: Floats,
        *,
        subspace: Subspace | None = None,
        progress: bool | None = False,
        form: str | None = None,
    ) -> Floats:
        """Return the Hessian at `points` (d,) or (n, d) times each row of `directions` (n, d); see `values`."""
        points = np.broadcast_to(points, directions.shape)
        total = np.zeros(directions.shape)
        self._sweep(Request("products", (points, directions), (total,), subspace), progress, form=form)
        return total

    # ---------------------------------------------------------------------------------------------- sweeping

    def _sweep(
        self, request: Request, progress: bool | None, *, chunk: int | None = None, form: str | None = None
    ) -> None:
        """Add what was asked for over all data."""
        n = request.rows
        if n == 0:
            return
        if self._shared is not None and chunk is None and form is None:
            tasks, description = self._shared
            size = points_of_task(description, request.kind, request.inputs[0].shape[1])
            if n > size:
                _let_evaluate(tasks, request, size, progress)
                return
        self.evaluations += n
        crew = self._crew
        with self._prepared(request.kind), _bar(n, self.count, progress) as bar:
            steps = 1 if self._streamed else self.count
            told = None if bar is None else lambda vectors: bar.update(vectors * steps)
            decay = self.decay
            for blocks, rows in self._groups():
                start = time.perf_counter()
                plan = planned(crew, request, blocks, rows, uncut=self._uncut, chunk=chunk, form=form)
                searched = time.perf_counter()
                if self._uncut is not None and plan.rows > rows:
                    blocks = list(self._uncut())
                crew.share_out(request, plan, blocks, decay, form=form, told=told)
                spent = time.perf_counter() - searched
                decay = 0.0
                if form is None and chunk is None and n >= plan.chunk * plan.workers:
                    crew.ways.took(request.kind, rows, spent / n / sum(weight for weight, _ in blocks))
                if searched - start > 1:
                    _log.debug("%s: searched %.1f s for the fastest way", request.kind, searched - start)

    @contextmanager
    def _prepared(self, kind: Kind) -> Iterator[None]:
        """Set what threads share; what they do not share is set in each."""
        # The fused forms of attention have no second derivative.
        attention = sdpa_kernel(SDPBackend.MATH) if kind == "products" else nullcontext()
        with (
            warnings.catch_warnings(),
            attention,
            float32_products(self.device, tf32=self._tf32),
            cudnn_allowed(self.device, allowed=self.cudnn or kind in ("values", "accuracies")),
            randomness_kept(self.device),
        ):
            # That vmap loops over an operation for which it has no batching rule is slow, not wrong.
            warnings.filterwarnings("ignore", message=".*performance drop")
            if any(device.type == "cuda" for device in self.devices):
                # Points come from arrays that cannot be written, and weights of recurrent layers from those of many.
                warnings.filterwarnings("ignore", message=".*not writable")
                warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")
            yield

    def _groups(self) -> Iterator[tuple[list[Block], int]]:
        """Yield the blocks that are in memory at the same time, and the rows of the largest of them."""
        if self._streamed:
            for block in prefetched(self.blocks()):
                yield [block], most_rows([block])
            return
        if self._whole is None:
            blocks = list(self.blocks())
            self._whole = blocks, most_rows(blocks)
        yield self._whole

    def _operations(self, kind: Kind) -> float:
        """Return the operations of matrix products and convolutions for one vector and all data, by the plain form."""
        if self._dimension is None:
            return 0.0
        vector = torch.zeros(1, self._dimension, dtype=self.dtype, device=self.device)
        arguments = (vector, vector) if kind == "products" else (vector,)
        weight, data = next(iter(self.blocks()))
        form = self._crew.forms(0)[self.plainest]
        with torch.inference_mode(False), torch.enable_grad():
            return operations(lambda: getattr(form, kind)(*arguments, data)) / weight


def _let_evaluate(tasks: Tasks, request: Request, size: int, progress: bool | None) -> None:
    """Put in what was asked for, evaluated by others, so many points a task."""
    parts = [slice(start, start + size) for start in range(0, request.rows, size)]
    asked: Asked = [((request.kind, *(array[rows] for array in request.inputs)), {}) for rows in parts]
    for number, found in tasks.done(_evaluated, asked, subspace=request.subspace, what="points", progress=progress):
        for total, part in zip(request.outputs, found, strict=True):
            total[parts[number]] = part


def _evaluated(landscape: Any, kind: Kind, *inputs: Floats) -> tuple[Floats, ...]:
    """Return a kind of quantity of a landscape at some points: a task."""
    found = getattr(landscape.engine, kind)(*inputs, subspace=landscape.subspace)
    return found if isinstance(found, tuple) else (found,)


def _bar(n: int, blocks: int, progress: bool | None) -> AbstractContextManager[Any]:
    """Return a progress bar, None where there is none."""
    if progress is False:  # tqdm takes longer to do nothing than a small network to be evaluated
        return nullcontext()
    return tqdm(
        total=n * blocks,
        unit="points",
        unit_scale=1 / blocks if blocks > 1 else False,
        delay=1,
        disable=None if progress is None else False,
    )
