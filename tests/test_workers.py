"""Who evaluates, and how: several workers, data read ahead, plans, memory."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from small_modules import FORMS, near, outputs_at
from torch import nn
from torch.nn import functional as F

from topolandscape import Landscape
from topolandscape.landscape.batching import Engine
from topolandscape.landscape.data import prefetched
from topolandscape.landscape.forms import Looped, Vmapped
from topolandscape.landscape.machine import matrix_product_speed, operations
from topolandscape.landscape.quantities import KINDS
from topolandscape.landscape.workers import Rows, run_together

ROWS = 60


# --------------------------------------------------------------------------------------------------------------
# Workers
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_numbers_do_not_depend_on_the_workers(workers, form, module, inputs, classes):
    one = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, device=["cpu"], form="loop")
    several = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, device=["cpu"] * workers, form=form)
    points = near(one.point, 23)
    for kind in KINDS:
        arguments = (points, np.ones_like(points)) if kind == "products" else (points,)
        ours, alone = (getattr(landscape.engine, kind)(*arguments) for landscape in (several, one))
        pairs = zip(ours, alone, strict=True) if isinstance(ours, tuple) else [(ours, alone)]
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert torch.get_num_threads() == before_threads()


def before_threads():
    """Return the number of threads that a new thread of torch starts with: it must not have changed."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", ["wide", "loop"])
def test_one_seed_has_one_result_whatever_the_batch(form, dtype, inputs, classes):
    """Training amplifies the last bit, so that it has to be the same in all sizes of chunks."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    many = inputs.repeat(30, 1) + 0.1 * torch.randn(30 * ROWS, 6, generator=torch.Generator().manual_seed(1))
    landscape = Landscape.from_module(
        module, many, classes.repeat(30), loss=F.cross_entropy, dtype=dtype, form=form, device=["cpu"] * 2
    )
    points = near(landscape.point, 40)
    whole = landscape.gradients(points)
    for n in (2, 7, 16):
        part = landscape.gradients(points[:n])
        assert np.array_equal(part[0], whole[0][:n])
        assert np.array_equal(part[1], whole[1][:n])


def test_an_error_in_one_worker_stops_the_others_and_is_raised():
    done = []
    rows = Rows(1000, 1)

    def work(index):
        while (part := rows.take()) is not None:
            if part.start == 3:
                raise LookupError("row 3")
            time.sleep(0.001)
            done.append(part.start)

    with pytest.raises(LookupError, match="row 3"):
        run_together(work, 3, rows)
    assert len(done) < 20
    assert torch.get_num_threads() == before_threads()


def test_all_rows_are_handed_out_once():
    rows = Rows(1000, 7)
    taken = []

    def work(index):
        while (part := rows.take()) is not None:
            taken.extend(range(part.start, part.stop))

    run_together(work, 4, rows)
    assert sorted(taken) == list(range(1000))


def test_modules_that_keep_state_are_not_shared_between_workers(inputs, classes):
    """A call exchanges the parameters of a module: two threads in one module would mix their vectors."""

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(6, 4), nn.Linear(4, 3)

        def forward(self, x):
            hidden = self.one(x)
            time.sleep(0.002)
            return self.two(hidden) if hidden.sum() < 1e9 else hidden[:, :3]

    landscape = Landscape.from_module(
        Slow(), inputs, classes, loss=F.cross_entropy, device=["cpu"] * 4, dtype="float64"
    )
    points = near(landscape.point, 16)
    expected = [F.cross_entropy(y, classes).item() for y in outputs_at(landscape, points, inputs)]
    np.testing.assert_allclose(landscape.values(points), expected, rtol=1e-12)


# --------------------------------------------------------------------------------------------------------------
# Streams
# --------------------------------------------------------------------------------------------------------------


def test_the_next_item_is_read_while_one_is_in_use():
    read = []

    def source():
        for item in range(4):
            read.append(item)
            yield item

    items = prefetched(source())
    assert next(items) == 0
    for _ in range(100):
        if read == [0, 1]:
            break
        time.sleep(0.01)
    assert read == [0, 1]
    assert list(items) == [1, 2, 3]


def test_an_error_in_the_loader_is_raised(module, inputs, classes):
    class Failing:
        failing = False

        def __iter__(self):
            yield inputs[:30], classes[:30]
            if self.failing:
                raise OSError("disk gone")
            yield inputs[30:], classes[30:]

    loader = Failing()
    landscape = Landscape.from_loader(module, loader, loss=F.cross_entropy)
    loader.failing = True
    with pytest.raises(OSError, match="disk gone"):
        landscape.values(landscape.point[None])


# --------------------------------------------------------------------------------------------------------------
# Plans
# --------------------------------------------------------------------------------------------------------------


def test_the_way_of_evaluation_is_found_out_kept_and_reported(module, inputs, classes):
    landscape = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, device=["cpu"] * 2)
    assert landscape.engine.plan() is None
    assert repr(landscape.engine) == "Engine(not used yet)"
    landscape.values(near(landscape.point, 200))
    plan = landscape.engine.plan()
    assert plan.form in FORMS
    assert (plan.workers, plan.rows) == (2, ROWS)
    assert plan.chunk >= 1
    assert plan.seconds > 0
    landscape.values(near(landscape.point, 50))
    assert (landscape.engine.plan().form, landscape.engine.plan().chunk) == (plan.form, plan.chunk)
    said = landscape.engine.report()["values"]
    work = 2 * ROWS * (6 * 5 + 5 * 3)
    speed = work / landscape.engine.plan().seconds / matrix_product_speed(torch.device("cpu"), torch.float64)
    assert said["peak"] == pytest.approx(speed, rel=1e-6)
    assert "values: " in repr(landscape.engine)


class Stepped(nn.Module):
    """Asks its numbers whether to take a step, which neither the wide form nor vmap can follow; takes one."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.outer = nn.Linear(6, 3)

    def forward(self, x):
        while x.abs().max() > 0.5:
            x = self.inner(x).tanh() / 2
        return self.outer(x)


def test_loop_is_the_same_on_all_rows_at_once_as_on_blocks_of_them():
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(1500, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (1500,), generator=generator)
    torch.manual_seed(6)
    landscape = Landscape.from_module(Stepped().double(), inputs, targets, loss=F.cross_entropy)
    assert landscape.engine.count == 2
    points = near(landscape.point, 40)
    values, gradients = landscape.gradients(points)
    assert landscape.engine.plan("gradients").form == "loop"
    for point, value, gradient in zip(points, values, gradients, strict=True):
        module = landscape.module_at(point)
        loss = F.cross_entropy(module(inputs), targets)
        loss.backward()
        assert value == pytest.approx(loss.item(), rel=1e-12)
        expected = torch.cat([parameter.grad.reshape(-1) for parameter in module.parameters()])
        np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(landscape.values(points), values, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_can_be_chosen_and_is_recorded(form, module, inputs, classes):
    landscape = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, form=form)
    landscape.gradients(near(landscape.point, 40))
    assert landscape.engine.form() == form
    assert landscape.engine.plan("gradients").form == form
    assert landscape.description["form"] == form


def test_an_unknown_form_is_refused(inputs, classes):
    with pytest.raises(ValueError, match="there is no form 'fast'; there are dense, wide, vmap, loop"):
        Landscape.from_module(nn.Linear(6, 3), inputs, classes, loss=F.cross_entropy, form="fast")
    recurrent = nn.RNN(6, 3)
    with pytest.raises(ValueError, match="there is no form 'wide'; there are vmap, loop"):
        Landscape.from_module(recurrent, inputs, classes, loss=lambda y, t: F.cross_entropy(y[0], t), form="wide")


def test_the_faster_form_wins():
    class Slow(Vmapped):
        def values(self, vectors, data):
            time.sleep(0.01)
            return super().values(vectors, data)

    def make(device=None):
        function = lambda vector, data: (vector * data).sum()  # noqa: E731
        return [Slow(function), Looped(function)]

    engine = Engine(make(), lambda: [(1.0, torch.tensor([1.0, 2.0]))], spare=make, memory=10**4)
    engine.values(np.ones((40, 2)))
    assert engine.form() == "loop"
    assert engine.forms() == ["vmap", "loop"]


def test_operations_are_those_of_the_products():
    a, b = torch.ones(4, 5), torch.ones(5, 6)
    assert operations(lambda: (a @ b).relu()) == 2 * 4 * 5 * 6


# --------------------------------------------------------------------------------------------------------------
# Memory
# --------------------------------------------------------------------------------------------------------------


PEAK = """
import resource, sys, torch
import numpy as np
from torch import nn
from topolandscape import Landscape

module = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
inputs, targets = torch.rand(20, 64), torch.randint(10, (20,))
budget = 64 * 2**20
landscape = Landscape.from_module(module, inputs, targets, loss=nn.functional.cross_entropy, memory=budget)
plane = landscape.restricted_to(landscape.point, np.eye(landscape.dimension)[:2])
points = np.random.default_rng(0).normal(size=(1_000_000, 2))
plane.values(points[:1000])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
values = plane.values(points)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
assert np.isfinite(values).all()
print((after - before - values.nbytes) / budget)
"""


@pytest.mark.slow
def test_a_million_points_stay_within_the_memory_budget():
    said = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(said.stdout) < 1
