"""The fastest way to evaluate a kind of quantity, found by short trials, within the memory."""

from __future__ import annotations

import logging
import math
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from topolandscape.landscape.crew import Crew
from topolandscape.landscape.machine import bytes_allocated, out_of_memory
from topolandscape.landscape.plans import Plan
from topolandscape.landscape.quantities import Block, Blocks, Lift, Request, most_rows

# Vectors at once, of networks so small that the memory would hold more. Launching a step costs an accelerator as much
# as that step for half a million of them.
LARGEST_CHUNK, LARGEST_THERE = 2**16, 2**20
# Another form than the first is taken only when it is so many times as fast, and none is tried when the first takes no
# longer for a vector than so many seconds, of a processor: timings vary, and two runs on one machine should take the
# same form. The second number is for the compiled form: the calls of torch for a network and its loss take a loop as
# long.
MARGIN, SHORT, SHORT_COMPILED = 1.5, 2e-5, 1e-4
# As many vectors are worth the search for the fastest form and chunk.
WORTH_SEARCHING = 16
# Vectors of a trial for each worker, where a chunk is less: starting the workers should not count.
VECTORS_TRIED = 64
# Seconds that one trial of the search should take, and how many times as long a chunk may be that is doubled once more.
TRIAL, LONGEST = 0.03, 3
# How often the best of each form are timed again, if not slower than the fastest by more than this factor.
ROUNDS, FACTOR = 3, 4

_log = logging.getLogger(__name__)


def planned(
    crew: Crew,
    request: Request,
    blocks: Sequence[Block],
    rows: int,
    *,
    uncut: Blocks | None = None,
    chunk: int | None = None,
    form: str | None = None,
) -> Plan:
    """Return how to evaluate: as asked, as found out before, by search, or as the memory allows.

    Parameters
    ----------
    crew
        Who evaluates; what is found out is kept in its ways.
    request
        What is asked for.
    blocks, rows
        Of the data, and rows of the largest of them.
    uncut
        Gives the same data in blocks of more rows, which a loop may take.
    chunk, form
        As asked for.
    """
    ways, kind, workers = crew.ways, request.kind, len(crew.devices)
    if chunk is not None:
        return Plan(form or ways.form(kind), chunk, workers, rows)
    plan = ways.found(kind, rows)
    if form is not None:
        most = fitting(crew, request, blocks[0], form)
        return Plan(form, most if plan is None else min(most, plan.chunk), workers, rows)
    if plan is not None:
        return plan
    given = ways.given_plan(kind)
    if given is not None:
        most = rows if uncut is None else max(rows, given.rows)
        return ways.keep(kind, rows, replace(given, workers=workers, rows=most))
    if crew.spare is not None and ways.asked(kind, rows, request.rows) >= WORTH_SEARCHING:
        return ways.keep(kind, rows, fastest(crew, request, blocks[0], rows, uncut))
    most = fitting(crew, request, blocks[0], None)  # which may show that a form fails
    plan = Plan(ways.preferred(kind), most, workers, rows)
    return plan if crew.spare is not None else ways.keep(kind, rows, plan)


def fitting(crew: Crew, request: Request, block: Block, form: str | None, least: int = 1) -> int:
    """Return how many vectors fit the memory budget, by counting what one of them allocates; `least` or more."""
    lift = Lift(request.subspace, crew.dtype, crew.device)

    def one() -> None:
        with torch.inference_mode(False), torch.enable_grad():
            crew.attempt(0, request, lift, slice(0, 1), [block], form=form)

    try:
        needed = max(1, bytes_allocated(one))
    except Exception as error:
        if out_of_memory(error):
            crew.relieve(request.kind, Plan("", 1, 1, 0), 0, error)
        raise
    sharing = crew.devices.count(crew.device)
    largest = LARGEST_CHUNK if crew.device.type == "cpu" else LARGEST_THERE
    return min(largest, max(least, crew.memory // sharing // needed))


def fastest(crew: Crew, request: Request, block: Block, rows: int, uncut: Blocks | None) -> Plan:
    """Return the fastest form and chunk, by trials on one block of data of so many rows."""
    ways, kind = crew.ways, request.kind
    found: list[tuple[Plan, Block]] = []
    names = ways.candidates(kind)
    for name in names:
        try:
            most = fitting(crew, request, block, name)
        except Exception as error:
            if out_of_memory(error) or name == names[-1]:
                raise
            ways.failed(kind, name)
            _log.info("%s by %s failed (%s)", kind, name, textwrap.shorten(str(error), 100))
            continue
        least = min((plan.seconds for plan, _ in found), default=math.inf)
        best = _best_chunk(crew, request, block, Plan(name, most, len(crew.devices), rows), least)
        found.append((best, block))
        short = SHORT_COMPILED if name == "dense" else SHORT
        if len(found) == 1 and best.seconds <= short and crew.device.type == "cpu":
            break
    plan = found[-1][0]
    # With a form that the user chose, the rows are to be the same on all machines.
    if plan.form == "loop" and uncut is not None and not ways.chosen:
        whole = max(uncut(), key=lambda block: most_rows([block]))
        chunk = min(plan.chunk, fitting(crew, request, whole, "loop", least=0))
        if chunk:
            seconds, _ = _trial(crew, request, whole, "loop", chunk)
            # Before the same on fewer rows: all at once is what anybody's own loop does.
            found.insert(-1, (replace(plan, chunk=chunk, rows=most_rows([whole]), seconds=seconds), whole))
    return _first_of_the_fast(crew, request, found)


def _best_chunk(crew: Crew, request: Request, block: Block, most: Plan, least: float) -> Plan:
    """Return the fastest chunk of a form, up to that of a plan; `least`: seconds of the fastest form so far."""
    # A loop gains nothing from more vectors at once.
    chunk = min(most.chunk, 4 if most.form == "loop" else 1)
    best = replace(most, chunk=chunk, seconds=math.inf)
    worse, before = 0, math.nan
    while chunk <= most.chunk and worse < 2:
        seconds, trial = _trial(crew, request, block, most.form, chunk)
        if seconds < best.seconds:
            best = replace(most, chunk=chunk, seconds=seconds)
        worse = worse + 1 if seconds > 1.1 * best.seconds else 0
        # What each of the added vectors costs is what larger chunks come to; another form may be faster.
        if trial > LONGEST * TRIAL or most.form == "loop" or 2 * seconds - before > least:
            break
        before = seconds
        chunk *= 2
    return best


def _first_of_the_fast(crew: Crew, request: Request, found: Sequence[tuple[Plan, Block]]) -> Plan:
    """Return the first of some plans that is as fast as the fastest one, but for a margin."""
    limit = FACTOR * min(plan.seconds for plan, _ in found)
    near = [(plan, block) for plan, block in found if plan.seconds <= limit]
    spent = [plan.seconds for plan, _ in near]
    if len(near) > 1:
        # In turn, and only now compared: a slow moment of the machine should not decide.
        trials = [
            [_trial(crew, request, block, plan.form, plan.chunk)[0] for plan, block in near] for _ in range(ROUNDS)
        ]
        spent = [min(times) for times in zip(*trials, strict=True)]
    plan, seconds = next(
        (plan, seconds) for (plan, _), seconds in zip(near, spent, strict=True) if seconds <= MARGIN * min(spent)
    )
    _log.debug("%s: %s", request.kind, plan)
    return replace(plan, seconds=seconds)


def _trial(crew: Crew, request: Request, block: Block, form: str, chunk: int) -> tuple[float, float]:
    """Return seconds a vector, and seconds of one chunk for each worker, all workers being at work."""
    workers = len(crew.devices)
    plan = Plan(form, chunk, workers, 0)

    def seconds(chunks: int) -> float:
        probe = request.repeated(chunk * workers * chunks)
        start = time.perf_counter()
        crew.share_out(probe, plan, [block], form=form)
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
