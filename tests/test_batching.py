"""The engine: every form gives the same numbers, in chunks that fit memory."""

from __future__ import annotations

import logging
import time

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from topolandscape.landscape.batching import Engine
from topolandscape.landscape.forms import Looped, NumpyRows, Rows, Vmapped
from topolandscape.landscape.machine import (
    PROCESSOR_MEMORY,
    bytes_allocated,
    memory_budget,
    out_of_memory,
    randomness_kept,
)
from topolandscape.landscape.noise import spread
from topolandscape.landscape.plans import Plan
from topolandscape.structures import Subspace

DATA = [(0.25, torch.tensor([1.0, 2.0, 3.0])), (0.75, torch.tensor([-1.0, 0.5, 2.0]))]


def product(vector, data):
    """Return sum_i a_i x_i^3 + x_0 x_1 x_2, which has no symmetry."""
    return (data * vector**3).sum() + vector[0] * vector[1] * vector[2]


def closed_form(points):
    a = sum(weight * data.double().numpy() for weight, data in DATA)
    x = np.asarray(points)
    values = (a * x**3).sum(axis=1) + x.prod(axis=1)
    gradients = 3 * a * x**2 + np.stack([x[:, 1] * x[:, 2], x[:, 0] * x[:, 2], x[:, 0] * x[:, 1]], axis=1)
    return values, gradients


def hessian(point):
    a = sum(weight * data.double().numpy() for weight, data in DATA)
    x, y, z = point
    return np.diag(6 * a * np.asarray(point)) + np.array([[0, z, y], [z, 0, x], [y, x, 0]])


def whole(points):
    return sum(w * (d.to(points) * points**3).sum(dim=1) for w, d in DATA) + points.prod(dim=1)


FORMS = {
    "vmap": lambda: Engine([Vmapped(product)], lambda: DATA, count=2),
    "loop": lambda: Engine([Looped(product)], lambda: DATA, count=2),
    "rows": lambda: Engine([Rows(whole)], lambda: [(1.0, None)]),
    "numpy": lambda: Engine([NumpyRows(lambda x: closed_form(x)[0])], lambda: [(1.0, None)]),
}
POINTS = np.random.default_rng(0).normal(size=(23, 3))


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
@pytest.mark.parametrize("form", FORMS)
def test_values_are_those_of_the_closed_form_in_any_chunks(form, chunk):
    engine = FORMS[form]()
    assert engine.form() == form
    np.testing.assert_allclose(engine.values(POINTS, chunk=chunk), closed_form(POINTS)[0], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("memory", [1, 2000, 10**9])
@pytest.mark.parametrize("form", FORMS)
def test_derivatives_are_those_of_the_closed_form(form, memory):
    engine = FORMS[form]()
    engine.memory = memory
    first, second = (1e-9, 1e-5) if form == "numpy" else (1e-13, 1e-13)
    values, gradients = engine.gradients(POINTS)
    np.testing.assert_allclose(values, closed_form(POINTS)[0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(gradients, closed_form(POINTS)[1], rtol=first, atol=first)
    products = engine.products(POINTS[0], POINTS[1:])
    np.testing.assert_allclose(products, POINTS[1:] @ hessian(POINTS[0]), rtol=second, atol=second)


@pytest.mark.parametrize("form", FORMS)
def test_decay_and_subspace_follow_the_chain_rule(form):
    engine = FORMS[form]()
    engine.decay = 0.3
    rng = np.random.default_rng(1)
    subspace = Subspace(rng.normal(size=3), rng.normal(size=(2, 3)))
    coordinates = rng.normal(size=(5, 2))
    points = subspace.parameters(coordinates)
    expected, slopes = closed_form(points)
    expected = expected + 0.3 * (points**2).sum(axis=1)
    slopes = slopes + 0.6 * points
    values, gradients = engine.gradients(coordinates, subspace=subspace)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    np.testing.assert_allclose(engine.values(coordinates, subspace=subspace), expected, rtol=1e-12)
    np.testing.assert_allclose(gradients, slopes @ subspace.directions.T, rtol=1e-8, atol=1e-8)
    curvature = subspace.directions @ (hessian(points[0]) + 0.6 * np.eye(3)) @ subspace.directions.T
    products = engine.products(coordinates[0], np.eye(2), subspace=subspace)
    np.testing.assert_allclose(products, curvature, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", [Vmapped, Looped])
def test_what_does_not_depend_on_the_vector_has_no_slope(form):
    constant = Engine([form(lambda vector, data: torch.tensor(3.0))], lambda: [(1.0, None)])
    linear = Engine([form(lambda vector, data: vector.sum())], lambda: [(1.0, None)])
    assert constant.values(POINTS).tolist() == [3.0] * len(POINTS)
    assert not constant.gradients(POINTS)[1].any()
    assert not linear.products(POINTS[0], POINTS).any()


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode])
def test_derivatives_work_where_the_caller_has_switched_them_off(grad_mode):
    for form in FORMS:
        with grad_mode():
            gradients = FORMS[form]().gradients(POINTS)[1]
        np.testing.assert_allclose(gradients, closed_form(POINTS)[1], rtol=1e-8, atol=1e-8)


def test_noise_of_float32_is_seen_and_bounded():
    engine = Engine([Vmapped(product), Looped(product)], lambda: DATA, count=2, dtype=torch.float32)
    seen = spread([engine.values(POINTS), engine.values(POINTS, chunk=1), closed_form(POINTS)[0]])
    assert 1e-9 < seen.max() < 1e-4


# --------------------------------------------------------------------------------------------------------------
# Falling back
# --------------------------------------------------------------------------------------------------------------


def branching(vector, data):
    return (data * vector**3).sum() + vector[0] * vector[1] * vector[2] if vector[0] > -100 else vector[0]


def test_loop_takes_over_where_vmap_fails_and_only_there(caplog):
    engine = Engine([Vmapped(branching), Looped(branching)], lambda: DATA, count=2)
    with caplog.at_level(logging.INFO):
        np.testing.assert_allclose(engine.values(POINTS), closed_form(POINTS)[0], rtol=1e-12, atol=1e-13)
    assert "values by loop: vmap failed" in caplog.text
    assert (engine.form("values"), engine.form("gradients")) == ("loop", "vmap")
    np.testing.assert_allclose(engine.gradients(POINTS)[1], closed_form(POINTS)[1], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(engine.products(POINTS[0], POINTS), POINTS @ hessian(POINTS[0]), rtol=1e-11, atol=1e-12)


def test_mistake_in_the_function_raises_and_does_not_spend_the_fast_form():
    tables = {}

    def failing(vector, data):
        return tables["loss"] * vector.sum()

    engine = Engine([Vmapped(failing), Looped(failing)], lambda: [(1.0, None)])
    with pytest.raises(KeyError, match="loss"):
        engine.values(POINTS)
    tables["loss"] = 1.0
    assert engine.form() == "vmap"
    np.testing.assert_allclose(engine.values(POINTS), POINTS.sum(axis=1), rtol=1e-12, atol=1e-13)


def test_unknown_form_is_refused():
    with pytest.raises(ValueError, match="there is no form 'wide'; there are vmap"):
        FORMS["vmap"]().values(POINTS, form="wide")


# --------------------------------------------------------------------------------------------------------------
# Memory
# --------------------------------------------------------------------------------------------------------------


class SmallMemory(TorchDispatchMode):
    """Raises when a tensor of more than `most` rows is made; remembers the largest that was."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.largest = most, error, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim == 2:
            if len(result) > self.most:
                raise self.error
            self.largest = max(self.largest, len(result))
        return result


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_chunk_is_halved_until_it_fits(error, caplog):
    engine = Engine([Vmapped(product), Looped(product)], lambda: DATA, count=2)
    with caplog.at_level(logging.INFO), SmallMemory(6, error) as memory:
        values = engine.values(POINTS)
        gradients = engine.gradients(POINTS)[1]
        chosen = engine.values(POINTS, chunk=20)
    assert memory.largest == 5  # 23, 11, 5
    assert "going on with 5" in caplog.text
    assert engine.form() == "vmap"
    np.testing.assert_allclose(values, closed_form(POINTS)[0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(chosen, closed_form(POINTS)[0], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(gradients, closed_form(POINTS)[1], rtol=1e-13, atol=1e-13)
    before = len(caplog.records)
    engine.values(POINTS)
    assert len(caplog.records) == before  # what was learnt is kept


def test_real_allocator_is_understood():
    def greedy(vector, data):
        return (vector[0] * torch.ones(1)).expand(2**55).clone().sum()

    with pytest.raises(MemoryError, match=r"one parameter vector .*Give the data in several batches") as raised:
        Engine([Looped(greedy)], lambda: [(1.0, None)]).values(POINTS)
    assert out_of_memory(raised.value.__cause__)
    assert "\n" not in str(raised.value)


def test_other_errors_are_not_out_of_memory():
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("not enough memory"))


def test_chunk_follows_the_memory_budget():
    def wide(vector, data):
        return (vector.sum() * torch.ones(1000, dtype=torch.float64)).exp().sum()

    sizes = []
    for memory in (10**4, 10**5, 10**6):
        engine = Engine([Vmapped(wide)], lambda: [(1.0, None)], memory=memory)
        with SmallMemory(10**9, MemoryError()) as seen:
            engine.values(np.zeros((500, 3)))
        sizes.append(seen.largest)
    assert sizes[0] == 1
    assert 2 <= sizes[1] <= 12
    assert 20 <= sizes[2] <= 125


class Slow:
    """sum_i a_i x_i^3, the mean over rows a, in as many seconds as `seconds` says of the calls so far."""

    def __init__(self, name, seconds, calls=None):
        self.name = name
        self._seconds = seconds
        self._calls = [] if calls is None else calls

    def values(self, vectors, data):
        self._calls.append(self.name)
        time.sleep(self._seconds(self._calls))
        return (data.double().mean(0) * vectors**3).sum(dim=1)


def slow_engine(*forms, **options):
    """Return an engine of two blocks of one row each, which may also be had as one block of two."""
    rows = torch.stack([data for _, data in DATA])
    return Engine(
        forms,
        lambda: [(0.5, rows[:1]), (0.5, rows[1:])],
        count=2,
        spare=lambda device: forms,
        uncut=lambda: [(1.0, rows)],
        **options,
    )


def mean_cubes(points):
    return sum(data.double().numpy() / 2 * points**3 for _, data in DATA).sum(axis=1)


def test_loop_takes_all_rows_at_once_where_that_is_faster():
    engine = slow_engine(Slow("loop", lambda calls: 0.001))
    for _ in range(2):
        np.testing.assert_allclose(engine.values(POINTS), mean_cubes(POINTS), rtol=1e-12)
        assert engine.plan().rows == 2
    other = engine.on(engine.blocks, 2)
    np.testing.assert_allclose(other.values(POINTS), mean_cubes(POINTS), rtol=1e-12)


def test_rows_stay_cut_where_memory_ends_or_the_user_chose_the_form_or_it_is_no_loop():
    engines = {
        "memory": slow_engine(Slow("loop", lambda calls: 0.001), memory=1),
        "chosen": slow_engine(Slow("loop", lambda calls: 0.001)),
        "no loop": slow_engine(Slow("vmap", lambda calls: 0.001)),
    }
    engines["chosen"].only("loop")
    for engine in engines.values():
        np.testing.assert_allclose(engine.values(POINTS), mean_cubes(POINTS), rtol=1e-12)
    assert {name: engine.plan().rows for name, engine in engines.items()} == dict.fromkeys(engines, 1)


def test_slow_moment_of_the_machine_does_not_decide_which_form_is_taken():
    calls = []
    engine = slow_engine(
        # Slower than the other until that one is tried, as if the machine was busy just then.
        Slow("wide", lambda calls: 0.001 if "vmap" in calls else 0.003, calls),
        Slow("vmap", lambda calls: 0.002, calls),
    )
    engine.memory = 1  # one vector at once, so that the chunk does not hide what a call takes
    engine.values(POINTS)
    assert engine.form() == "wide"


def test_new_tensors_are_counted_and_views_are_not():
    x = torch.ones(8, 4)
    assert bytes_allocated(lambda: x.t()[:2].reshape(-1, 2)) == 64  # reshaping a transpose makes one copy
    assert bytes_allocated(lambda: (x @ x.t(), x.add_(1))) == 8 * 8 * 4
    assert bytes_allocated(lambda: x.view(4, 8)) == 0


def test_tangents_that_are_zero_hold_no_memory():
    """The second derivative of the absolute value is such a one."""
    engine = Engine([Rows(lambda x: x[:, 0].abs() + x.square().sum(1))], lambda: [(1.0, None)])
    products = engine.products(POINTS[0], np.eye(3))
    np.testing.assert_allclose(products, 2 * np.eye(3))


def test_budget_of_the_processor_is_fixed():
    assert memory_budget(torch.device("cpu")) == PROCESSOR_MEMORY


# --------------------------------------------------------------------------------------------------------------
# Randomness, progress, spread
# --------------------------------------------------------------------------------------------------------------


def test_generators_are_put_back_also_after_an_error():
    before = torch.get_rng_state()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    drawn = []

    def draw_and_fail():
        with randomness_kept(torch.device("cpu"), seed=5):
            drawn.append((torch.rand(1), np.random.random()))  # noqa: NPY002
            raise KeyError

    with pytest.raises(KeyError):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    with randomness_kept(torch.device("cpu"), seed=5):
        assert (torch.rand(1), np.random.random()) == drawn[0]  # noqa: NPY002


def test_progress_is_silent_unless_asked(capsys, monkeypatch):
    engine = FORMS["vmap"]()
    engine.values(POINTS, progress=None)
    engine.values(POINTS, progress=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("topolandscape.landscape.batching.tqdm", lambda **options: _Recorded(options))
    engine.values(POINTS, progress=True)
    assert _Recorded.last.options["delay"] == 1
    assert _Recorded.last.options["disable"] is False
    assert _Recorded.last.seen == _Recorded.last.options["total"] == 2 * len(POINTS)


def test_progress_is_complete_when_all_rows_are_taken_at_once(monkeypatch):
    engine = slow_engine(Slow("loop", lambda calls: 0.001))
    engine.values(POINTS)
    assert engine.plan().rows == 2
    monkeypatch.setattr("topolandscape.landscape.batching.tqdm", lambda **options: _Recorded(options))
    engine.values(POINTS, progress=True)
    assert _Recorded.last.seen == _Recorded.last.options["total"]


class _Recorded:
    last = None

    def __init__(self, options):
        self.options, self.seen = options, 0
        _Recorded.last = self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, n):
        self.seen += n


def test_spread_is_the_largest_difference_and_skips_what_is_not_finite():
    ways = [np.array([1.0, np.nan, np.inf, 2.0]), np.array([1.5, np.nan, np.inf, np.nan])]
    np.testing.assert_array_equal(spread(ways), [0.5, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("rows", [1, 2])
def test_what_was_planned_is_done_and_not_searched_for(rows):
    calls = []
    engine = slow_engine(Slow("vmap", lambda calls: 0.0, calls), Slow("loop", lambda calls: 0.0, calls))
    planned = engine.planned({"values": Plan("loop", 4, 1, rows)})
    for points in (POINTS[:2], POINTS):
        np.testing.assert_allclose(planned.values(points), mean_cubes(points), rtol=1e-12)
    # Chunks of four on as many blocks as there are.
    assert calls == ["loop"] * (7 * (2 // rows))
    assert (planned.form(), planned.plan().chunk, planned.plan().rows) == ("loop", 4, rows)
    assert planned.on(planned.blocks, 2).plan().chunk == 4
    assert engine.plan() is None


def test_plans_of_forms_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="there is no form 'fast' of values; there are vmap"):
        FORMS["vmap"]().planned({"values": Plan("fast", 4, 1, 2)})
    with pytest.raises(ValueError, match="of heights"):
        FORMS["vmap"]().planned({"heights": Plan("vmap", 4, 1, 2)})
