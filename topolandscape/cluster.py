"""More than one process, more than one machine: work in tasks, done by workers.

How work is cut into tasks depends on the work alone, every task is evaluated in ways that were found once, by one
thread or on one device, and what comes of it is put in order: so results do not depend on how many workers there are,
which of them does what, and whether one dies.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from tqdm import tqdm

from topolandscape.structures import Subspace

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape
    from topolandscape.landscape.tasks import Asked

Executor = Any
"""A number of processes, the address of a dask scheduler, or what can `submit` as concurrent.futures do."""

# How often a task is begun whose worker dies, before it counts as its fault.
_TRIES = 3
# Tasks that are with an executor at a time, where the number of its workers is not known; and bytes sent with them.
_AHEAD, _AHEAD_BYTES = 1000, 2**30
# Landscapes and parts of them that a worker keeps.
_KEPT = 4
# Of a worker's libraries: it has one core.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# Seconds in which a scheduler has to answer.
_PATIENCE = 20


@contextmanager
def on_workers(landscape: Landscape, executor: Executor) -> Iterator[Landscape]:
    """Return a landscape whose work is done by workers.

    Samplers, `descend`, `minima`, `lower_paths`, `minima_network` and whatever else takes a landscape take this one:
    large tables of points, descents, polishing, climbs and paths are cut into tasks; what is worth less than a task is
    done here. It can be restricted to directions; other data, and some of the rows, are evaluated here.

    Parameters
    ----------
    landscape
        A whole one, of a module or a function. It is sent to each worker once.
    executor
        A number of processes on this machine, which end with this one; the address of a dask scheduler
        (``"tcp://host:8786"``; extra ``cluster``), or a ``distributed.Client``; or any object with ``submit``, as the
        executors of ``concurrent.futures`` have it. Executors that are given stay open; what runs on other machines
        needs a temporary folder that these share (``TMPDIR``), but for dask.

    Yields
    ------
    Landscape
        For as long as this lasts. How it is evaluated is found out by trials, unless it was `planned`.

    Raises
    ------
    RuntimeError
        The workers that did a task died, three times; the message names it. A task whose worker dies is done again;
        an exception of the loss is raised as it is, with a note that names the task.

    Notes
    -----
    A worker computes with one thread, or on one device: of n devices that are visible (``CUDA_VISIBLE_DEVICES``) the
    i-th worker of a machine takes the one of number i modulo n. So there should be as many workers as cores or devices.

    The forms dense and loop take one vector after the other: results are those without workers, to the bit. Those of
    the forms wide and vmap depend in the last bit on how many vectors go together, which is the same for any workers.

    Where processes are started, a script needs ``if __name__ == "__main__":`` around what it does, as for
    ``multiprocessing``, since they are spawned (CUDA allows nothing else).

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import numpy as np
    >>> import topolandscape as tl
    >>> landscape = tl.Landscape.from_function(lambda x: (x**2 - 1).square().sum(1), 1)
    >>> with ThreadPoolExecutor(2) as pool, tl.on_workers(landscape, pool) as shared:
    ...     ends = tl.descend(shared, [[-0.3], [2.0]], steps=200, learning_rate=0.1).ends
    >>> np.round(ends, 3).tolist()
    [[-1.0], [1.0]]
    """
    if "plans" not in landscape.description:
        landscape = landscape.planned(landscape.plans())
    with workers(executor) as team:
        shared = copy.copy(landscape)
        tasks = _OfLandscape(team, cloudpickle.dumps(landscape))
        shared.engine = tasks.engine = landscape.engine.shared_by(tasks, landscape.description)
        shared.tasks = tasks
        yield shared


class _OfLandscape:
    """Tasks that are functions of one landscape; see `topolandscape.landscape.tasks.Tasks`."""

    engine: Any

    def __init__(self, team: Workers, landscape: bytes) -> None:
        self._team = team
        self._landscape = landscape

    def done(
        self,
        function: Callable[..., Any],
        arguments: Asked,
        *,
        subspace: Subspace | None = None,
        what: str,
        progress: bool | None,
    ) -> Iterator[tuple[int, Any]]:
        sent = [self._landscape] if subspace is None else [self._landscape, cloudpickle.dumps(subspace)]
        asked = [((function, *own), options) for own, options in arguments]
        for number, (result, evaluations) in self._team.done(
            _at_landscape, asked, sent=sent, what=what, progress=progress
        ):
            self.engine.evaluations += evaluations
            yield number, result


# --------------------------------------------------------------------------------------------------------------
# On the side of who asks
# --------------------------------------------------------------------------------------------------------------


class Workers:
    """Whoever does tasks for this process; made by `workers`."""

    def __init__(
        self,
        submit: Callable[..., Future[bytes]],
        send: Callable[[bytes], Any],
        *,
        ahead: int = _AHEAD,
        lost: tuple[type[BaseException], ...] = (BrokenExecutor,),
        renew: Callable[[], None] | None = None,
    ) -> None:
        self._submit, self._send, self._renew = submit, send, renew
        self._ahead, self._lost = ahead, lost
        self._sent: dict[str, Any] = {}

    def done(
        self,
        function: Callable[..., Any],
        arguments: Asked,
        *,
        sent: Sequence[bytes] = (),
        what: str = "tasks",
        progress: bool | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (number of the task, its result) in the order of arrival.

        Parameters
        ----------
        function
            Of the module level of a module.
        arguments
            Positional ones and options of each task.
        sent
            What all tasks need, pickled: sent to each worker once. The function gets their names, and where they are,
            before its other arguments.
        what
            What the tasks are, for messages.
        progress
            As for `topolandscape.descend`.
        """
        names = [hashlib.sha256(data).hexdigest() for data in sent]
        for name, data in zip(names, sent, strict=True):
            if name not in self._sent:
                self._sent[name] = self._send(data)
        sources = [self._sent[name] for name in names]
        waiting, running = deque(range(len(arguments))), dict[Future[bytes], int]()
        deaths: Counter[int] = Counter()
        sizes, on_the_way = dict[int, int](), 0
        disable = None if progress is None else not progress
        try:
            with tqdm(total=len(arguments), desc=what, unit="task", delay=1, disable=disable) as bar:
                while waiting or running:
                    # Of tasks that were on their way when a worker died, the one at fault is found alone.
                    most = 1 if any(deaths[number] > 1 for number in waiting) else self._ahead
                    died: list[int] = []
                    while waiting and len(running) < most and not died and on_the_way < _AHEAD_BYTES:
                        number = waiting.popleft()
                        task = cloudpickle.dumps((function, *arguments[number]))
                        sizes[number] = len(task)
                        on_the_way += len(task)
                        try:
                            running[self._submit(_do, names, sources, task)] = number
                        except self._lost:
                            died.append(number)
                    finished = wait(running, return_when=FIRST_COMPLETED).done if not died else wait(running).done
                    for future in finished:
                        number = running.pop(future)
                        on_the_way -= sizes[number]
                        try:
                            data = future.result()
                        except self._lost:
                            died.append(number)
                            continue
                        except Exception as error:
                            error.add_note(f"in task {number} of {len(arguments)} ({what}), counted from 0")
                            raise
                        bar.update()
                        yield number, cloudpickle.loads(data)
                    if died:
                        if self._renew is not None:
                            # A pool that has lost one of its processes loses all of its tasks.
                            died += running.values()
                            running.clear()
                            on_the_way = 0
                        self._begin_again(died, deaths, len(arguments), what)
                        waiting.extendleft(sorted(died, reverse=True))
        finally:
            for future in running:
                future.cancel()

    def _begin_again(self, died: Sequence[int], deaths: Counter[int], count: int, what: str) -> None:
        """Make new workers for tasks whose workers died; raise when that is of no use."""
        deaths.update(died)
        worst = max(died, key=lambda number: deaths[number])
        if self._renew is None or deaths[worst] >= _TRIES:
            tries = f"{deaths[worst]} times " if self._renew else ""
            raise RuntimeError(
                f"the workers of task {worst} of {count} ({what}), counted from 0, died {tries}(killed, or out of "
                "memory). What was kept is not lost; give workers more memory, or less to do at once."
            )
        self._renew()


@contextmanager
def workers(executor: Executor) -> Iterator[Workers]:
    """Return workers, started or reached for as long as this lasts; see `on_workers`."""
    folder: list[str] = []

    def to_file(data: bytes) -> str:
        if not folder:
            folder.append(tempfile.mkdtemp(prefix="topolandscape-"))
        path = Path(folder[0]) / str(len(list(Path(folder[0]).iterdir())))
        path.write_bytes(data)
        return str(path)

    try:
        if isinstance(executor, int) and not isinstance(executor, bool):
            with _Processes(executor) as pool:
                yield Workers(pool.submit, to_file, ahead=2 * executor, renew=pool.renew)
        elif isinstance(executor, str):
            client = _client(executor)
            try:
                yield _of_client(client)
            finally:
                client.close()
        elif callable(getattr(executor, "get_executor", None)):
            yield _of_client(executor)
        elif callable(getattr(executor, "submit", None)):
            yield Workers(executor.submit, to_file)
        else:
            raise TypeError(
                f"executor is a {type(executor).__name__}; give a number of processes, the address of a dask scheduler "
                "(tcp://host:8786), a dask Client, or an executor of concurrent.futures."
            )
    finally:
        for path in folder:
            shutil.rmtree(path, ignore_errors=True)


class _Processes:
    """Processes of this machine, each with one thread; those of which one died are replaced together."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"executor is {count}; it needs to be 1 process or more.")
        self._count = count
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, *task: Any) -> Future[Any]:
        if self._pool is not None:
            return self._pool.submit(*task)
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self._count, spawn, _begin_worker)
        known = {name: os.environ.get(name) for name in _THREADS}
        os.environ.update(dict.fromkeys(_THREADS, "1"))  # which the processes inherit, all of which start now
        try:
            return self._pool.submit(*task)
        finally:
            for name, value in known.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    def renew(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            # They hold nothing, and a task that was given up need not end.
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(cancel_futures=True)


def _client(address: str) -> Any:
    """Return a client of the dask scheduler at an address."""
    if "://" not in address:
        raise ValueError(
            f"executor is {address!r}; give a number of processes, or the address of a dask scheduler, such as "
            "tcp://host:8786."
        )
    try:
        from distributed import Client
    except ImportError:
        raise ImportError(
            "a dask scheduler needs the extra cluster; run pip install 'topolandscape[cluster]', here and on the "
            "workers."
        ) from None
    return Client(address, timeout=_PATIENCE)  # type: ignore[no-untyped-call]


def _of_client(client: Any) -> Workers:
    """Return the workers of a dask cluster, which does again by itself what workers that died had to do."""
    import dask
    from distributed.scheduler import KilledWorker

    executor = client.get_executor(pure=False, retries=0)
    # What is sent is meant to be as large as it is.
    settings = {"distributed.admin.large-graph-warning-threshold": "1 TB"}

    def submit(*task: Any) -> Future[bytes]:
        with dask.config.set(settings):
            return executor.submit(*task)

    def send(data: bytes) -> Any:
        # As a task, which the scheduler keeps, so that it is not lost with a worker.
        with dask.config.set(settings):
            return client.submit(_same, data, pure=False)

    return Workers(submit, send, lost=(KilledWorker, CancelledError))


# --------------------------------------------------------------------------------------------------------------
# On the side of a worker
# --------------------------------------------------------------------------------------------------------------

# Landscapes that were sent, whole or restricted, and the number of this worker by the folder that it is from. Threads
# of one process take turns: tracing modules, and torch's random numbers, belong to the process.
_landscapes: dict[tuple[str, ...], Landscape] = {}
_numbers: dict[Path, tuple[int, Any]] = {}
_turn = threading.Lock()


def _same(data: bytes) -> bytes:
    return data


def _begin_worker() -> None:
    """Leave Ctrl-C to the process that asks, end in order when told to, and end with that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _do(names: Sequence[str], sources: Sequence[str | bytes], task: bytes) -> bytes:
    """Do a task: a function of what was sent, by name, and of its own arguments."""
    function, arguments, options = cloudpickle.loads(task)
    with _turn:
        sent = (names, sources) if names else ()
        return cloudpickle.dumps(function(*sent, *arguments, **options))


def _at_landscape(
    names: Sequence[str],
    sources: Sequence[str | bytes],
    function: Callable[..., Any],
    *arguments: Any,
    **options: Any,
) -> tuple[Any, int]:
    """Return a function of a landscape that was sent, and how many evaluations that took."""
    import torch

    # What a thread sets for itself is also what threads made later start with: it is set back.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _take_device()
        landscape = _made(tuple(names), sources)
        before = landscape.engine.evaluations
        return function(landscape, *arguments, **options), landscape.engine.evaluations - before
    finally:
        torch.set_num_threads(threads)


def _made(names: tuple[str, ...], sources: Sequence[str | bytes]) -> Landscape:
    """Return the landscape that was sent as the first source, restricted to the subspace that is the second, if any."""
    if names not in _landscapes:
        data = sources[len(names) - 1]
        sent = cloudpickle.loads(data if isinstance(data, bytes) else Path(data).read_bytes())
        if len(names) == 1:
            made: Landscape = sent
        else:
            made = _made(names[:-1], sources).restricted_to(sent.origin, sent.directions)
        while len(_landscapes) >= _KEPT:
            _landscapes.pop(next(other for other in _landscapes if other != names[:-1]))
        _landscapes[names] = made
    return _landscapes[names]


def device_of(worker: int, count: int) -> int:
    """Return which of `count` visible devices the worker of this number on its machine takes.

    Examples
    --------
    >>> [device_of(worker, 4) for worker in range(6)]
    [0, 1, 2, 3, 0, 1]
    """
    return worker % count


def _take_device() -> None:
    """Let this worker compute on a device of its own, if there are several."""
    import torch

    count = torch.cuda.device_count()
    if count > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all").replace(os.sep, "-")
        # The temporary folder may be one that machines share.
        name = f"topolandscape-{os.environ.get('USER', 'user')}-{socket.gethostname()}-devices-{visible}"
        folder = Path(tempfile.gettempdir()) / name
        torch.cuda.set_device(device_of(worker_number(folder), count))


def worker_number(folder: Path) -> int:
    """Return the least number that no other worker of this machine has; it is free again when the process ends.

    Parameters
    ----------
    folder
        Where the numbers are taken from, as locks that the operating system holds.
    """
    if folder not in _numbers:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in itertools.count():
            stream = (folder / str(number)).open("a")
            if _locked(stream.fileno()):
                _numbers[folder] = number, stream
                break
            stream.close()
    return _numbers[folder][0]


def _locked(file: int) -> bool:
    try:
        import fcntl
    except ImportError:  # elsewhere than on POSIX every worker is the first
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
