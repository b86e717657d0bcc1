"""A function of one parameter vector, evaluated at many of them.

A `Form` is a way of sending a chunk of vectors through a function at once. An `Engine` sums a function over blocks of
data, cuts the vectors into chunks that fit the caches and the memory budget, shares these out among threads or devices,
and takes the form that is fastest.
"""

from __future__ import annotations

import copy
import logging
import math
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from topolandscape.landscape.data import count_rows, leaves, map_tensors, prefetched
from topolandscape.landscape.forms import Form
from topolandscape.landscape.machine import (
    add_from_device,
    bytes_allocated,
    cudnn_allowed,
    float32_products,
    matrix_product_speed,
    memory_budget,
    operations,
    out_of_memory,
    randomness_kept,
    stream_of_worker,
    to_device,
)
from topolandscape.landscape.tasks import Asked, Tasks, points_of_task
from topolandscape.landscape.workers import Rows, run_together
from topolandscape.structures import Floats, Subspace

Block = tuple[float, Any]
Blocks = Callable[[], Iterable[Block]]
Kind = Literal["values", "accuracies", "gradients", "products"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Vectors at once, of networks so small that the memory would hold more. Launching a step costs an accelerator as much
# as that step for half a million of them.
LARGEST_CHUNK, LARGEST_THERE = 2**16, 2**20
# Another form than the first is taken only when it is so many times as fast, and none is tried when the first takes no
# longer for a vector than so many seconds, of a processor: timings vary, and two runs on one machine should take the
# same form.
MARGIN, SHORT = 1.5, 2e-5
# As many vectors are worth the search for the fastest form and chunk.
WORTH_SEARCHING = 16
# Vectors of a trial for each worker, where a chunk is less: starting the workers should not count.
VECTORS_TRIED = 64
# Seconds that one trial of the search should not exceed.
TRIAL = 0.1
# How often the best of each form are timed again, if not slower than the fastest by more than this factor.
ROUNDS, FACTOR = 3, 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How one kind of quantity is evaluated.

    Attributes
    ----------
    form
        "wide", "vmap", "loop", "rows" or "numpy".
    chunk
        Vectors that one worker evaluates at once.
    workers
        Threads, or devices.
    rows
        Rows of data in the largest block.
    seconds
        For one vector over all data, as last achieved; NaN before.
    """

    form: str
    chunk: int
    workers: int
    rows: int
    seconds: float = math.nan


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
        self._names: dict[Kind, list[str]] = {kind: [form.name for form in forms] for kind in KINDS}
        self._forms: dict[int, dict[str, Form]] = {0: {form.name: form for form in forms}}
        self._spare = spare
        self._dimension = dimension
        self._streamed = streamed
        self._tf32 = tf32
        self.cudnn = cudnn
        self._uncut = uncut
        self._only: str | None = None
        self._plans: dict[tuple[Kind, int], Plan] = {}
        self._kept: dict[Kind, Plan] = {}
        self._asked: dict[tuple[Kind, int], int] = {}
        self._shared: tuple[Tasks, Mapping[str, Any]] | None = None  # who evaluates instead, and of what landscape
        self._whole: tuple[list[Block], int] | None = None  # all blocks and the rows of the largest, if not streamed
        self.evaluations = 0

    @property
    def device(self) -> torch.device:
        """Device of the first worker, on which the blocks of data are."""
        return self.devices[0]

    # ---------------------------------------------------------------------------------------------- how

    def form(self, kind: Kind = "values") -> str:
        """Return the name of the form in use: "wide", "vmap", "loop", "rows" or "numpy"."""
        plan = self.plan(kind)
        return (self._only or self._names[kind][0]) if plan is None else plan.form

    def forms(self, kind: Kind = "values") -> list[str]:
        """Return the names of the forms that may be used, the preferred one first."""
        return list(self._names[kind])

    def plan(self, kind: Kind = "values") -> Plan | None:
        """Return how a kind of quantity is evaluated on the largest blocks; None before its first use."""
        plans = [plan for (planned, _), plan in self._plans.items() if planned == kind]
        return max(plans, key=lambda plan: plan.rows, default=self._kept.get(kind))

    def drop(self, form: str) -> None:
        """Never use the form of this name again."""
        self._names = {kind: [name for name in names if name != form] for kind, names in self._names.items()}
        if form == self._only:
            self.only(form)

    def only(self, form: str) -> None:
        """Use the form of this name, and others only where they are asked for by name."""
        if form not in self.forms():
            raise ValueError(f"there is no form {form!r}; there are {', '.join(self.forms())}.")
        self._only = form

    def planned(self, plans: Mapping[Kind, Plan]) -> Engine:
        """Return an engine that evaluates some kinds as planned, on blocks of any size, and searches for nothing.

        Parameters
        ----------
        plans
            As `plan` gives them; of these the form and the chunk hold, and the rows where blocks need not be cut.
        """
        for kind, plan in plans.items():
            if kind not in KINDS or plan.form not in self._names[kind]:
                raise ValueError(f"there is no form {plan.form!r} of {kind}; there are {', '.join(self.forms())}.")
        engine = copy.copy(self)
        engine._kept, engine._plans, engine._asked = dict(plans), {}, {}
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
        self._sweep(_Request("values", (points,), (total,), subspace), progress, chunk=chunk, form=form)
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
        self._sweep(_Request("accuracies", (points,), (total, right), subspace), progress)
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
        self._sweep(_Request("gradients", (points,), (total, slopes), subspace), progress, form=form)
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
        self._sweep(_Request("products", (points, directions), (total,), subspace), progress, form=form)
        return total

    # ---------------------------------------------------------------------------------------------- sweeping

    def _sweep(
        self, request: _Request, progress: bool | None, *, chunk: int | None = None, form: str | None = None
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
        with self._prepared(request.kind), _bar(n, self.count, progress) as bar:
            decay = self.decay
            for blocks, rows in self._groups():
                start = time.perf_counter()
                key = (request.kind, rows)
                plan = self._planned(request, blocks, rows, chunk, form)
                searched = time.perf_counter()
                if self._uncut is not None and plan.rows > rows:
                    blocks = list(self._uncut())
                self._share_out(request, plan, blocks, decay, bar, form)
                spent = time.perf_counter() - searched
                decay = 0.0
                if form is None and chunk is None and n >= plan.chunk * plan.workers and key in self._plans:
                    share = sum(weight for weight, _ in blocks)
                    self._plans[key] = replace(self._plans[key], seconds=spent / n / share)
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
                yield [block], _most_rows([block])
            return
        if self._whole is None:
            blocks = list(self.blocks())
            self._whole = blocks, _most_rows(blocks)
        yield self._whole

    def _share_out(
        self,
        request: _Request,
        plan: Plan,
        blocks: Sequence[Block],
        decay: float,
        bar: Any,
        form: str | None,
    ) -> None:
        """Evaluate all points on some blocks, by as many workers as there are chunks for."""
        # Two workers of one accelerator take turns with its bus: a chunk is not divided among them.
        apart = plan.workers if self.device.type == "cpu" else len({*self.devices})
        chunk = min(plan.chunk, math.ceil(request.rows / min(apart, request.rows)))
        workers = min(plan.workers, math.ceil(request.rows / chunk))
        dispenser = Rows(request.rows, chunk)
        lock = threading.Lock()
        steps = 1 if self._streamed else self.count

        def work(index: int) -> None:
            with stream_of_worker(self.devices[index], index), torch.inference_mode(False), torch.enable_grad():
                take_chunks(index)

        def take_chunks(index: int) -> None:
            own = self._moved(blocks, self.devices[index])
            lift = _Lift(request.subspace, self.dtype, self.devices[index])

            def add(rows: slice) -> bool:
                """Add the results at some rows; False where they took too much memory: fewer are to be tried then."""
                try:
                    results = self._attempt(index, request, lift, rows, own, decay, form)
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    half = (rows.stop - rows.start) // 2
                    self._relieve(request.kind, plan, half, error)
                    dispenser.chunk = min(dispenser.chunk, half)
                    return False
                for total, result in zip(request.outputs, results, strict=True):
                    add_from_device(torch.from_numpy(total[rows]), result)
                with lock:
                    bar.update((rows.stop - rows.start) * steps)
                return True

            while (rows := dispenser.take()) is not None:
                start = rows.start
                while start < rows.stop:
                    stop = min(start + dispenser.chunk, rows.stop)
                    if add(slice(start, stop)):
                        start = stop
                    elif self.device.type == "cuda":
                        torch.cuda.empty_cache()  # only now the error is gone, and with it all that its frames held

        for index in range(workers):
            self._worker(index)
        run_together(work, workers, dispenser)

    def _worker(self, index: int) -> Mapping[str, Form]:
        if index not in self._forms:
            assert self._spare is not None
            self._forms[index] = {form.name: form for form in self._spare(self.devices[index])}
        return self._forms[index]

    def _moved(self, blocks: Sequence[Block], device: torch.device) -> Sequence[Block]:
        """Return the blocks on the device of a worker."""
        if device == self.device:
            return blocks
        return [(weight, map_tensors(data, lambda tensor: tensor.to(device))) for weight, data in blocks]

    def _attempt(
        self,
        index: int,
        request: _Request,
        lift: _Lift,
        rows: slice,
        blocks: Sequence[Block],
        decay: float,
        form: str | None = None,
    ) -> tuple[Tensor, ...]:
        """Evaluate by the first form that works; the ones before it are not tried again."""
        names = self._order(request.kind, form)
        failed: list[tuple[str, Exception]] = []
        for name in names:
            try:
                results = _evaluate(self._worker(index)[name], request, lift, rows, blocks, decay)
            except Exception as error:
                # Where every form fails, the fault is the caller's, and the plainest form has the plainest message.
                if out_of_memory(error) or name == names[-1]:
                    raise
                failed.append((name, error))
                continue
            for other, reason in failed:
                said = textwrap.shorten(str(reason), 100)
                _log.info("%s by %s: %s failed (%s)", request.kind, name, other, said)
                self._names[request.kind] = [kept for kept in self._names[request.kind] if kept != other]
                self._plans = {
                    key: plan for key, plan in self._plans.items() if (key[0], plan.form) != (request.kind, other)
                }
            return results
        raise ValueError(f"there is no form {form!r}; there are {', '.join(self._names[request.kind])}.")

    def _order(self, kind: Kind, form: str | None) -> list[str]:
        """Return the forms to try, in turn: the one asked for, or the fastest and then the others."""
        names = self._names[kind]
        only = self._kept[kind].form if kind in self._kept else self._only
        if form is not None or only is not None:
            return [name for name in names if name == (form or only)]
        best = self.form(kind)
        return sorted(names, key=lambda name: name != best)

    def _relieve(self, kind: Kind, plan: Plan, half: int, error: Exception) -> None:
        """Prepare for another trial with fewer vectors, or say that there is none left."""
        if half == 0:
            raise MemoryError(
                f"memory ran out while evaluating one parameter vector ({str(error).splitlines()[0]}). Give the data "
                "in several batches, or use a device with more memory."
            ) from error
        _log.info("memory ran out; going on with %d parameter vectors at once", half)
        known = [key for key, kept in self._plans.items() if key[0] == kind and kept.rows == plan.rows]
        self._plans |= dict.fromkeys(known or [(kind, plan.rows)], replace(plan, chunk=half))

    # ---------------------------------------------------------------------------------------------- planning

    def _planned(
        self, request: _Request, blocks: Sequence[Block], rows: int, chunk: int | None, form: str | None
    ) -> Plan:
        """Return how to evaluate: as asked, as found out before, by search, or as the memory allows."""
        key = (request.kind, rows)
        workers = len(self.devices)
        if chunk is not None:
            return Plan(form or self.form(request.kind), chunk, workers, rows)
        if form is not None:
            plan = self._plans.get(key)
            most = self._fitting(request, blocks[0], form)
            return Plan(form, most if plan is None else min(most, plan.chunk), workers, rows)
        if request.kind in self._kept and key not in self._plans:
            kept = self._kept[request.kind]
            most = rows if self._uncut is None else max(rows, kept.rows)
            self._plans[key] = replace(kept, workers=workers, rows=most)
        if key not in self._plans:
            self._asked[key] = self._asked.get(key, 0) + request.rows
            if self._spare is None or self._asked[key] < WORTH_SEARCHING:
                most = self._fitting(request, blocks[0], None)
                plan = Plan(self._only or self._names[request.kind][0], most, workers, rows)
                if self._spare is not None:
                    return plan
                self._plans[key] = plan
            else:
                self._plans[key] = self._search(request, blocks[0], rows)
        return self._plans[key]

    def _fitting(self, request: _Request, block: Block, form: str | None, least: int = 1) -> int:
        """Return how many vectors fit the memory budget, by counting what one of them allocates; `least` or more."""
        lift = _Lift(request.subspace, self.dtype, self.device)

        def one() -> None:
            with torch.inference_mode(False), torch.enable_grad():
                self._attempt(0, request, lift, slice(0, 1), [block], 0.0, form)

        try:
            needed = max(1, bytes_allocated(one))
        except Exception as error:
            if out_of_memory(error):
                self._relieve(request.kind, Plan("", 1, 1, 0), 0, error)
            raise
        sharing = self.devices.count(self.device)
        largest = LARGEST_CHUNK if self.device.type == "cpu" else LARGEST_THERE
        return min(largest, max(least, self.memory // sharing // needed))

    def _search(self, request: _Request, block: Block, rows: int) -> Plan:
        """Return the fastest form and chunk, by trials on one block of data."""
        found: list[tuple[Plan, Block]] = []
        names = self.forms(request.kind) if self._only is None else [self._only]
        for name in names:
            try:
                most = self._fitting(request, block, name)
            except Exception as error:
                if out_of_memory(error) or name == names[-1]:
                    raise
                self._names[request.kind].remove(name)
                _log.info("%s by %s failed (%s)", request.kind, name, textwrap.shorten(str(error), 100))
                continue
            # A loop gains nothing from more vectors at once.
            chunk = min(most, 4 if name == "loop" else 1)
            best: Plan | None = None
            worse, before = 0, math.nan
            least = min((plan.seconds for plan, _ in found), default=math.inf)
            while chunk <= most and worse < 2:
                seconds, trial = self._trial(request, block, name, chunk)
                if best is None or seconds < best.seconds:
                    best = Plan(name, chunk, len(self.devices), rows, seconds)
                worse = worse + 1 if seconds > 1.1 * best.seconds else 0
                # What each of the added vectors costs is what larger chunks come to; another form may be faster.
                if trial > TRIAL or name == "loop" or 2 * seconds - before > least:
                    break
                before = seconds
                chunk *= 2
            assert best is not None
            found.append((best, block))
            if len(found) == 1 and best.seconds <= SHORT and self.device.type == "cpu":
                break
        plan = found[-1][0]
        # With a form that the user chose, the rows are to be the same on all machines.
        if plan.form == "loop" and self._uncut is not None and self._only is None:
            whole = max(self._uncut(), key=lambda block: _most_rows([block]))
            chunk = min(plan.chunk, self._fitting(request, whole, "loop", least=0))
            if chunk:
                seconds, _ = self._trial(request, whole, "loop", chunk)
                # Before the same on fewer rows: all at once is what anybody's own loop does.
                found.insert(-1, (replace(plan, chunk=chunk, rows=_most_rows([whole]), seconds=seconds), whole))
        return self._fastest(request, found)

    def _fastest(self, request: _Request, found: Sequence[tuple[Plan, Block]]) -> Plan:
        """Return the first of some plans that is as fast as the fastest one, but for a margin."""
        limit = FACTOR * min(plan.seconds for plan, _ in found)
        near = [(plan, block) for plan, block in found if plan.seconds <= limit]
        spent = [plan.seconds for plan, _ in near]
        if len(near) > 1:
            # In turn, and only now compared: a slow moment of the machine should not decide.
            trials = [
                [self._trial(request, block, plan.form, plan.chunk)[0] for plan, block in near] for _ in range(ROUNDS)
            ]
            spent = [min(times) for times in zip(*trials, strict=True)]
        plan, seconds = next(
            (plan, seconds) for (plan, _), seconds in zip(near, spent, strict=True) if seconds <= MARGIN * min(spent)
        )
        _log.debug("%s: %s", request.kind, plan)
        return replace(plan, seconds=seconds)

    def _trial(self, request: _Request, block: Block, form: str, chunk: int) -> tuple[float, float]:
        """Return seconds a vector, and seconds of one chunk for each worker, all workers being at work."""
        workers = len(self.devices)
        plan = Plan(form, chunk, workers, 0)

        def seconds(chunks: int) -> float:
            probe = request.repeated(chunk * workers * chunks)
            start = time.perf_counter()
            self._share_out(probe, plan, [block], 0.0, _SILENT, form)
            return time.perf_counter() - start

        once = seconds(1)
        if once < TRIAL:  # that was to warm up
            once = seconds(1)
        # Several chunks, so that starting the workers does not count, and several times, for the rest of the time.
        chunks = max(1, min(VECTORS_TRIED // chunk, int(TRIAL / 3 / once)))
        spent = [once / chunk] if chunks == 1 else []
        start = time.perf_counter()
        while len(spent) < 3 and time.perf_counter() - start < TRIAL / 2:
            spent.append(seconds(chunks) / (chunk * chunks))
        return min(spent) / workers / block[0], once

    def _operations(self, kind: Kind) -> float:
        """Return the operations of matrix products and convolutions for one vector and all data, by the plain form."""
        if self._dimension is None:
            return 0.0
        vector = torch.zeros(1, self._dimension, dtype=self.dtype, device=self.device)
        arguments = (vector, vector) if kind == "products" else (vector,)
        weight, data = next(iter(self.blocks()))
        form = self._worker(0)[self.plainest]
        with torch.inference_mode(False), torch.enable_grad():
            return operations(lambda: getattr(form, kind)(*arguments, data)) / weight


# --------------------------------------------------------------------------------------------------------------
# What is asked for
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Request:
    """A kind of quantity, at which points (and along which directions), and where to add the results."""

    kind: Kind
    inputs: tuple[Floats, ...]
    outputs: tuple[Floats, ...]
    subspace: Subspace | None

    @property
    def rows(self) -> int:
        return len(self.inputs[0])

    def repeated(self, n: int) -> _Request:
        """Return a request for n of the same points, for a trial."""
        rows = np.arange(n) % self.rows
        outputs = tuple(np.zeros((n, *output.shape[1:])) for output in self.outputs)
        return replace(self, inputs=tuple(array[rows] for array in self.inputs), outputs=outputs)


class _Lift:
    """The way from coordinates to parameter vectors and back, as tensors."""

    def __init__(self, subspace: Subspace | None, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._origin = None if subspace is None else self._tensor(subspace.origin)
        self._directions = None if subspace is None else self._tensor(subspace.directions)

    def _tensor(self, array: Floats) -> Tensor:
        return to_device(array, self._device)

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


def _evaluate(
    form: Form, request: _Request, lift: _Lift, rows: slice, blocks: Sequence[Block], decay: float
) -> tuple[Tensor, ...]:
    """Return what was asked for at some rows, summed over blocks of data, in float64."""
    kind = request.kind
    exact, vectors = lift(request.inputs[0][rows])
    arguments = [vectors]
    if kind == "products":
        directions = lift.along(request.inputs[1][rows])
        arguments.append(directions.to(vectors.dtype))
    sums: list[Tensor] = []
    for weight, data in blocks:
        results = getattr(form, kind)(*arguments, data)
        terms = [result.double() * weight for result in (results if isinstance(results, tuple) else (results,))]
        sums = [total.add_(term) for total, term in zip(sums, terms, strict=True)] if sums else terms
    if decay:
        if kind == "products":
            sums[0] += 2 * decay * directions
        else:
            sums[0] += decay * exact.square().sum(dim=1)
        if kind == "gradients":
            sums[1] += 2 * decay * exact
    if kind in ("gradients", "products"):
        sums[-1] = lift.back(sums[-1])
    return tuple(sums)


def _let_evaluate(tasks: Tasks, request: _Request, size: int, progress: bool | None) -> None:
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


def _most_rows(blocks: Sequence[Block]) -> int:
    """Return the rows of the largest block of data; functions have none and count as one."""
    return max(count_rows(data) if leaves(data) else 1 for _, data in blocks)


class _Silent:
    def update(self, n: int) -> None:
        """Show nothing."""


_SILENT = _Silent()


def _bar(n: int, blocks: int, progress: bool | None) -> AbstractContextManager[Any]:
    if progress is False:  # tqdm takes longer to do nothing than a small network to be evaluated
        return nullcontext(_SILENT)
    return tqdm(
        total=n * blocks,
        unit="points",
        unit_scale=1 / blocks if blocks > 1 else False,
        delay=1,
        disable=None if progress is None else False,
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
