"""What a computation has found out on its way is kept: stopped anywhere, it goes on to the same bits."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from topolandscape.landscape.batching import Engine
from topolandscape.landscape.curvature import highest_curvatures, lowest_curvatures
from topolandscape.landscape.keeping import kept
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import minima
from topolandscape.landscape.network import minima_network
from topolandscape.landscape.passes import lower_paths, straight_paths
from topolandscape.landscape.polishing import polish
from topolandscape.landscape.saddles import saddles
from topolandscape.structures import journal as journals
from topolandscape.structures.journal import InMemory, Journal


class Stopped(Exception):
    """Somebody ends the computation."""


def wells(x):
    """Return a loss with a minimum at every corner of a cube, tilted, and with a valley around each."""
    return ((x**2 - 1) ** 2).sum(1) + 0.3 * x[:, 0] * x[:, 1] + 0.1 * (x * x.roll(1, 1)).sum(1) + 0.05 * x[:, 2]


RANDOM = np.random.default_rng(0)
CORNERS = np.array([[-1.0, -1, -1, 1], [1, 1, -1, 1], [1, -1, 1, -1]])
BEGINNING = RANDOM.uniform(-1.5, 1.5, (4, 4))
FAR = np.vstack([BEGINNING, np.full((1, 4), 1e20)])  # where the slope counts as not finite
LOOPS = {
    "polish": lambda landscape: polish(landscape, FAR, tolerance=1e-10, trails=True, longest=0.2, progress=False),
    "lowest_curvatures": lambda landscape: lowest_curvatures(landscape, BEGINNING, 2, seed=0, exact=False),
    "highest_curvatures": lambda landscape: highest_curvatures(landscape, BEGINNING, seed=0, exact=False),
    "saddles": lambda landscape: saddles(
        landscape, BEGINNING / 2, np.ones((4, 4)), tolerance=1e-9, radius=0.1, noise=None
    ),
    "lower_paths": lambda landscape: lower_paths(
        landscape, straight_paths(CORNERS[[0, 0]], CORNERS[[1, 2]], 5), points=(5, 9), steps=25, progress=False
    ),
    "lower_paths, band": lambda landscape: lower_paths(
        landscape, straight_paths(CORNERS[:1], CORNERS[1:2], 5), points=(5,), steps=30, method="band", progress=False
    ),
    "minima": lambda landscape: minima(landscape, BEGINNING, seed=0, steps=3, curvatures=2, progress=False),
}


def numbers_of(record):
    """Return the arrays and words of a record."""
    names = [field.name for field in fields(record)] if is_dataclass(record) else record._fields
    return {name: getattr(record, name) for name in names if name != "provenance"}


def assert_same(one, other):
    for name, value in numbers_of(one).items():
        also = numbers_of(other)[name]
        if isinstance(value, tuple):
            assert len(value) == len(also), name
            assert all(np.array_equal(a, b) for a, b in zip(value, also, strict=True)), name
        else:
            assert np.array_equal(value, also, equal_nan=True), name


def counting(monkeypatch, calls):
    """Let the loss engine stop after so many calls; return where it says how many there were."""
    made = []
    for name in ("values", "gradients", "products"):
        own = getattr(Engine, name)

        def called(self, *given, own=own, **options):
            if len(made) >= calls[0]:
                raise Stopped
            made.append(own.__name__)
            return own(self, *given, **options)

        monkeypatch.setattr(Engine, name, called)
    return made


@pytest.fixture(params=["always", "now and then"])
def often(request, monkeypatch):
    """Keep everything at once; or now and then, states at some steps and none of the answers between them."""
    if request.param == "always":
        monkeypatch.setattr(journals, "_KEEP_AFTER", 0.0)
        monkeypatch.setattr(journals, "_KEEP_SHARE", np.inf)
        return 2
    asked = []

    def is_due(self, ahead=0.0):
        asked.append(ahead)
        return len(asked) % 7 == 0

    monkeypatch.setattr(journals.Pace, "is_due", is_due)
    return 23


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_is_stopped_goes_on_to_the_same_bits(loop, often, monkeypatch):
    calls = [10**9]
    made = counting(monkeypatch, calls)
    alone = Landscape.from_function(wells, 4)
    before = alone.engine.evaluations
    whole = LOOPS[loop](alone)
    evaluations = alone.engine.evaluations - before
    needed = len(made)
    store, landscape = InMemory(), Landscape.from_function(wells, 4)
    stops, total = 0, 0
    while True:
        made.clear()
        calls[0] = often + stops // 2
        begun = landscape.engine.evaluations
        try:
            again = LOOPS[loop](kept(landscape, Journal(store)))
            break
        except Stopped:
            stops += 1
            total += len(made)
        assert stops < 20 + needed
    assert stops >= min(2, needed // (2 * often))
    assert_same(whole, again)
    assert landscape.engine.evaluations - begun == evaluations
    if often == 2:  # nothing was found out twice, but for noise, which takes four calls that are one answer
        assert total + len(made) <= needed + 3 * stops * (loop in ("polish", "saddles", "minima"))


def test_the_search_for_passes_goes_on_within_its_rounds(often, monkeypatch):
    calls = [10**9]
    made = counting(monkeypatch, calls)
    landscape = Landscape.from_function(wells, 4)
    known = minima(landscape, CORNERS, seed=0, steps=0, progress=False)
    options = {"evaluations": 5000, "progress": False}
    made.clear()
    whole = minima_network(landscape, known, **options)
    needed, store, stops = len(made), InMemory(), 0
    while True:
        made.clear()
        calls[0] = needed // 9 + 23 * stops
        try:
            again = minima_network(kept(landscape, Journal(store)), known, **options)
            break
        except Stopped:
            stops += 1
    assert stops >= 3
    for name in ("ends", "barriers", "tops", "passes", "paths"):
        assert_same(whole.minima, again.minima)
        assert all(np.array_equal(a, b) for a, b in zip(getattr(whole, name), getattr(again, name), strict=True)), name
    curves = [np.array(network.provenance["curve"])[:, 1:] for network in (whole, again)]
    assert np.array_equal(*curves)
    assert whole.provenance["evaluations"] == again.provenance["evaluations"]


def test_answers_are_those_to_what_was_asked(monkeypatch):
    monkeypatch.setattr(journals, "_KEEP_AFTER", 0.0)
    store, asked = InMemory(), []

    def find(value):
        def found(halfway):
            asked.append(value)
            return {"value": np.array(value)}

        return found

    for question in (
        ["a", 1],
        ["a", 1.0],
        ["a", [1]],
        ["a", np.array(1)],
        ["a", np.array([1])],
        ["a", "1"],
        ["a", None],
    ):
        Journal(store).answer(question, find(len(asked)))
        Journal(store).answer(question, find(-1))
    assert asked == list(range(7))
    with pytest.raises(TypeError, match="got Journal; an answer can depend on"):
        Journal(store).answer([Journal(store)], find(0))
    Journal(store).clear()
    assert store.names() == []


def test_short_steps_keep_no_answers_and_long_ones_all(monkeypatch):
    """A clock that is moved by hand: states every 15 seconds, answers between them only where steps are long."""
    clock = [0.0]
    monkeypatch.setattr(journals.time, "monotonic", lambda: clock[0])

    def work(seconds, steps, store):
        def loop(halfway):
            for step in range(int(halfway.known.get("step", 0)), steps):
                halfway.offer(lambda step=step: {"step": np.array(step)})
                for part in range(10):
                    journal.answer([step, part], lambda _: clock.__setitem__(0, clock[0] + seconds / 10) or {})
            raise Stopped

        journal = Journal(store)
        with pytest.raises(Stopped):
            journal.answer(["loop"], loop)
        return journal

    short, long = InMemory(), InMemory()
    work(0.1, 1000, short)
    assert set(short.names()) <= {"state"}
    assert int(next(iter(short.get("state").values()))) >= 1000 - 151
    work(100.0, 3, long)
    assert "state" in long.names()
    assert sum(name.startswith("within") for name in long.names()) >= 5


def test_what_is_asked_again_when_another_loop_has_taken_the_place_of_its_state(monkeypatch):
    monkeypatch.setattr(journals, "_KEEP_AFTER", 0.0)
    monkeypatch.setattr(journals, "_KEEP_SHARE", np.inf)
    store = InMemory()

    def loop(name, last):
        def found(halfway):
            for step in range(int(halfway.known.get("step", 0)), 4):
                halfway.offer(lambda step=step: {"step": np.array(step)})
                if step == last:
                    raise Stopped
            return {"name": np.array(name)}

        return found

    journal = Journal(store)
    journal.answer(["before"], loop("before", last=9))
    with pytest.raises(Stopped):
        journal.answer(["one"], loop("one", last=2))
    journal = Journal(store)
    for name in ("one", "other", "before", "one"):
        assert journal.answer([name], loop(name, last=9))["name"] == name
