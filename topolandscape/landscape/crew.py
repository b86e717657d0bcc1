"""Workers that evaluate a request: which forms they try, and what they do when memory runs out."""

from __future__ import annotations

import copy
import logging
import math
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from topolandscape.landscape.data import map_tensors
from topolandscape.landscape.forms import Form
from topolandscape.landscape.machine import add_from_device, out_of_memory, stream_of_worker
from topolandscape.landscape.plans import Plan, Ways
from topolandscape.landscape.quantities import Block, Kind, Lift, Request, evaluate
from topolandscape.landscape.workers import Rows, run_together

_log = logging.getLogger(__name__)


class Crew:
    """The workers of an engine, each a thread with forms of its own on its device.

    Parameters
    ----------
    forms
        Of the first worker, the best first.
    devices
        One for each worker.
    dtype
        Of the vectors given to the forms.
    memory
        Bytes that the workers may take together on one device.
    spare
        Makes the forms of another worker, on its device; None: there is one worker.
    """

    def __init__(
        self,
        forms: Sequence[Form],
        devices: Sequence[torch.device],
        dtype: torch.dtype,
        memory: int,
        spare: Callable[[torch.device], Sequence[Form]] | None,
    ) -> None:
        self.devices = tuple(devices)
        self.dtype = dtype
        self.memory = memory
        self.ways = Ways([form.name for form in forms])
        self.spare = spare
        self._forms: dict[int, dict[str, Form]] = {0: {form.name: form for form in forms}}

    @property
    def device(self) -> torch.device:
        """Device of the first worker, on which the blocks of data are."""
        return self.devices[0]

    def planned(self, plans: Mapping[Kind, Plan]) -> Crew:
        """Return the same workers, who evaluate some kinds as planned."""
        crew = copy.copy(self)
        crew.ways = self.ways.given(plans)
        return crew

    def forms(self, worker: int) -> Mapping[str, Form]:
        """Return the forms of a worker by their names; they are made when first asked for."""
        if worker not in self._forms:
            assert self.spare is not None
            self._forms[worker] = {form.name: form for form in self.spare(self.devices[worker])}
        return self._forms[worker]

    def share_out(
        self,
        request: Request,
        plan: Plan,
        blocks: Sequence[Block],
        decay: float = 0.0,
        *,
        form: str | None = None,
        told: Callable[[int], object] | None = None,
    ) -> None:
        """Evaluate all points on some blocks, by as many workers as there are chunks for.

        Parameters
        ----------
        request
            What is asked for.
        plan
            How many vectors at once, by how many workers.
        blocks
            Of the data, on the device of the first worker.
        decay
            Weight of the squared norm of the vector.
        form
            Use this one and no other.
        told
            Called after each chunk with the number of its vectors, by one worker at a time.
        """
        # Two workers of one accelerator take turns with its bus: a chunk is not divided among them.
        apart = plan.workers if self.device.type == "cpu" else len({*self.devices})
        chunk = min(plan.chunk, math.ceil(request.rows / min(apart, request.rows)))
        workers = min(plan.workers, math.ceil(request.rows / chunk))
        dispenser = Rows(request.rows, chunk)
        lock = threading.Lock()

        def work(worker: int) -> None:
            with stream_of_worker(self.devices[worker], worker), torch.inference_mode(False), torch.enable_grad():
                take_chunks(worker)

        def take_chunks(worker: int) -> None:
            own = _moved(blocks, self.device, self.devices[worker])
            lift = Lift(request.subspace, self.dtype, self.devices[worker])

            def add(rows: slice) -> bool:
                """Add the results at some rows; False where they took too much memory: fewer are to be tried then."""
                try:
                    results = self.attempt(worker, request, lift, rows, own, decay, form)
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    half = (rows.stop - rows.start) // 2
                    self.relieve(request.kind, plan, half, error)
                    dispenser.chunk = min(dispenser.chunk, half)
                    return False
                for total, result in zip(request.outputs, results, strict=True):
                    add_from_device(torch.from_numpy(total[rows]), result)
                if told is not None:
                    with lock:
                        told(rows.stop - rows.start)
                return True

            while (rows := dispenser.take()) is not None:
                start = rows.start
                while start < rows.stop:
                    stop = min(start + dispenser.chunk, rows.stop)
                    if add(slice(start, stop)):
                        start = stop
                    elif self.device.type == "cuda":
                        torch.cuda.empty_cache()  # only now the error is gone, and with it all that its frames held

        for worker in range(workers):
            self.forms(worker)
        run_together(work, workers, dispenser)

    def attempt(
        self,
        worker: int,
        request: Request,
        lift: Lift,
        rows: slice,
        blocks: Sequence[Block],
        decay: float = 0.0,
        form: str | None = None,
    ) -> tuple[Tensor, ...]:
        """Return what was asked for at some rows, by the first form that works; those before it are not tried again."""
        names = self.ways.order(request.kind, form)
        failed: list[tuple[str, Exception]] = []
        for name in names:
            try:
                results = evaluate(self.forms(worker)[name], request, lift, rows, blocks, decay)
            except Exception as error:
                # Where every form fails, the fault is the caller's, and the plainest form has the plainest message.
                if out_of_memory(error) or name == names[-1]:
                    raise
                failed.append((name, error))
                continue
            for other, reason in failed:
                said = textwrap.shorten(str(reason), 100)
                _log.info("%s by %s: %s failed (%s)", request.kind, name, other, said)
                self.ways.failed(request.kind, other)
            return results
        raise ValueError(f"there is no form {form!r}; there are {', '.join(self.ways.forms(request.kind))}.")

    def relieve(self, kind: Kind, plan: Plan, half: int, error: Exception) -> None:
        """Prepare for another trial with fewer vectors, or say that there is none left."""
        if half == 0:
            raise MemoryError(
                f"memory ran out while evaluating one parameter vector ({str(error).splitlines()[0]}). Give the data "
                "in several batches, or use a device with more memory."
            ) from error
        _log.info("memory ran out; going on with %d parameter vectors at once", half)
        self.ways.halve(kind, plan, half)


def _moved(blocks: Sequence[Block], here: torch.device, device: torch.device) -> Sequence[Block]:
    """Return the blocks on the device of a worker."""
    if device == here:
        return blocks
    return [(weight, map_tensors(data, lambda tensor: tensor.to(device))) for weight, data in blocks]
