"""The route through trained minima: what a run keeps, how it goes on, and what it says of bad input."""

import hashlib
import pickle
from dataclasses import fields
from fractions import Fraction
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

import topolandscape as tl
import topolandscape.study.minima_route as minima_route
import topolandscape.study.runs as runs
from topolandscape.files import Run
from topolandscape.files.manifest import Stored
from topolandscape.structures import (
    Barcode,
    Descent,
    MergeTree,
    Minima,
    MinimaNetwork,
    PathProfile,
    Trajectories,
    journal,
)
from topolandscape.study import Recipe, pictures, run
from topolandscape.study.problem import problem

SMALL = {"model": "mlp:2-2-1,tanh", "data": "teacher_student", "weight_decay": 1e-3, "minima": 3, "steps": 60}
PLANS = {kind: {"form": "wide", "chunk": 64, "rows": 1} for kind in ("values", "gradients", "products")}
original_plans = runs._plans


@pytest.fixture(scope="module", autouse=True)
def _same_plans():
    with pytest.MonkeyPatch.context() as patch:
        # What is fastest may change from one run to the next, and with it the last bits.
        patch.setattr(runs, "_plans", lambda landscape, route: PLANS)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(Recipe(**SMALL), tmp_path_factory.mktemp("runs") / "whole", progress=False)


def assert_same(one, other, *names):
    """Compare bit by bit."""
    for field in fields(one):
        if not names or field.name in names:
            a, b = getattr(one, field.name), getattr(other, field.name)
            if isinstance(a, np.ndarray):
                assert np.array_equal(a, b, equal_nan=True), field.name


def assert_same_result(one, other):
    assert_same(one.load("descents", Descent), other.load("descents", Descent))
    assert_same(one.load("minima", Minima), other.load("minima", Minima))
    assert_same(one.load("network", MinimaNetwork), other.load("network", MinimaNetwork))
    assert_same(one.load("barcode", Barcode), other.load("barcode", Barcode))


# --------------------------------------------------------------------------------------------------------------
# What a run holds
# --------------------------------------------------------------------------------------------------------------


def test_a_run_holds_what_the_functions_give(whole):
    landscape = problem(Recipe(**SMALL)).landscape().planned(PLANS)
    found = tl.minima(landscape, 3, seed=0, steps=60, tolerance=1e-5, progress=False)
    kept = whole.load("minima", Minima)
    assert_same(kept, found, "points", "values", "gradient_norm", "index", "found")
    assert kept.stationary == found.stationary
    reduced = whole.load("network", MinimaNetwork).reduced()
    code = whole.load("barcode", Barcode)
    assert_same(code, tl.barcode(reduced))
    assert_same(whole.load("tree", MergeTree), tl.merge_tree(reduced))
    assert code.birth[0] == kept.values.min()
    assert np.abs(reduced.check(landscape)).max() < 1e-6


def test_profiles_are_the_losses_along_the_paths(whole):
    reduced = whole.load("network", MinimaNetwork).reduced()
    landscape = problem(Recipe(**SMALL)).landscape()
    rows = np.argsort(reduced.barriers, kind="stable")
    assert len(rows) > 0
    for number, row in enumerate(rows):
        profile, path = whole.load(f"profiles/{number:04d}", PathProfile), reduced.paths[row]
        assert profile.ends == tuple(reduced.ends[row])
        assert profile.word == reduced.passes[row]
        assert profile.length == pytest.approx(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        assert profile.highest == pytest.approx(reduced.barriers[row], rel=1e-5)
        assert profile.losses.max() <= reduced.barriers[row] + 1e-6
        assert profile.losses[[0, -1]] == pytest.approx(reduced.minima.values[reduced.ends[row]], rel=1e-5)
        # Every point of the path is among the places.
        corners = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))
        where = np.abs(profile.distances[:, None] - corners).argmin(axis=0)
        assert profile.distances[where] == pytest.approx(corners)
        assert profile.losses[where] == pytest.approx(landscape.values(path), rel=1e-5)


def test_accuracies_are_those_of_both_parts_of_the_data(tmp_path):
    recipe = Recipe(model="linear:4-3", data="iris", weight_decay=1e-2, minima=2, steps=100)
    kept = run(recipe, tmp_path, progress=False).load("minima", Minima)
    data, module = tl.zoo.dataset("iris"), tl.zoo.network("linear:4-3", seed=0)
    torch.nn.utils.vector_to_parameters(torch.tensor(kept.points[0], dtype=torch.float32), module.parameters())
    for inputs, targets, share in (
        (data.inputs, data.targets, kept.accuracy[0]),
        (data.test_inputs, data.test_targets, kept.test_accuracy[0]),
    ):
        right = module(torch.tensor(inputs)).argmax(1) == torch.tensor(targets)
        assert share == pytest.approx(float(right.double().mean()))


def test_numbers_have_no_accuracy(whole):
    assert np.isnan(whole.load("minima", Minima).accuracy).all()


def test_one_minimum_has_one_bar(tmp_path):
    """The loss of a linear network is convex with weight decay: all descents end in the same point."""
    recipe = Recipe(model="linear:4-3", data="iris", weight_decay=1e-2, minima=3, steps=300)
    done = run(recipe, tmp_path, progress=False)
    kept, code = done.load("minima", Minima), done.load("barcode", Barcode)
    assert kept.found.tolist() == [3]
    assert (code.birth.tolist(), code.death.tolist()) == (kept.values.tolist(), [np.inf])
    assert [path.name for path in pictures(done)] == ["bars.png", "tree.png"]


def test_pictures(whole, tmp_path):
    written = pictures(whole, folder=tmp_path, format="svg")
    assert [path.name for path in written] == ["bars.svg", "tree.svg", "paths.svg"]
    assert all(b"<svg" in path.read_bytes() for path in written)


# --------------------------------------------------------------------------------------------------------------
# Going on
# --------------------------------------------------------------------------------------------------------------


class Stop(Exception):
    """The process ends here."""


def stopping(monkeypatch, name, times):
    """Let a run be stopped after it has kept something of this name so many times."""
    save, left = Run.save, iter(range(times - 1))

    def stop(self, key, noun):
        save(self, key, noun)
        if key == name and next(left, None) is None:
            raise Stop

    monkeypatch.setattr(Run, "save", stop)
    put = Stored.put

    def stop_halfway(self, key, arrays):
        put(self, key, arrays)
        if name in ("polishing", "passes") and next(left, None) is None:
            raise Stop

    monkeypatch.setattr(Stored, "put", stop_halfway)


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("descents", 3),
        ("polishing", 2),
        ("passes", 12),
        pytest.param("minima", 1, marks=pytest.mark.slow),
        ("network", 1),
    ],
)
def test_a_stopped_run_ends_as_if_it_had_not_been(name, times, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        if name in ("polishing", "passes"):
            asked = count(1)
            patch.setattr(journal.Pace, "is_due", lambda self, ahead=0.0: next(asked) % 30 == 0)
        else:
            patch.setattr(journal, "_KEEP_AFTER", 0.0)
            patch.setattr(journal, "_KEEP_SHARE", np.inf)
        stopping(patch, name, times)
        with pytest.raises(Stop):
            run(Recipe(**SMALL), tmp_path, progress=False)
    begun = Run.open(tmp_path)
    if name == "descents":
        assert begun.load("descents", Descent).step == times - 1
        assert "minima" not in begun
    elif name in ("polishing", "passes"):
        assert begun.store().names()
        assert ("minima" in begun) == (name == "passes")
    else:
        monkeypatch.setattr("topolandscape.landscape.descent.descending", None)
    assert_same_result(run(Recipe(**SMALL), tmp_path, progress=False), whole)


@pytest.mark.slow
def test_mini_batches_and_trajectories_go_on(tmp_path, monkeypatch):
    recipe = Recipe(**SMALL | {"batch": 50, "method": "sgd", "record_every": 7})
    undisturbed = run(recipe, tmp_path / "undisturbed", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(journal, "_KEEP_AFTER", 0.0)
        patch.setattr(journal, "_KEEP_SHARE", np.inf)
        # Between the two files that belong to one step.
        stopping(patch, "trajectories", 16)
        with pytest.raises(Stop):
            run(recipe, tmp_path / "run", progress=False)
    stopped = Run.open(tmp_path / "run")
    assert stopped.load("trajectories", Trajectories).steps.tolist() == [0, 7, 14]
    assert stopped.load("descents", Descent).step == 14
    done = run(recipe, tmp_path / "run", progress=False)
    assert_same_result(done, undisturbed)
    way = done.load("trajectories", Trajectories)
    assert_same(way, undisturbed.load("trajectories", Trajectories))
    assert way.steps.tolist() == [*range(0, 60, 7), 60]
    assert np.array_equal(way.ends, done.load("descents", Descent).points)


def test_a_finished_run_is_not_computed_again_and_goes_on_when_asked_for_more(whole, monkeypatch):
    monkeypatch.setattr(runs, "by_minima", None)
    assert run(Recipe(**SMALL), whole.path, progress=False).path == whole.path
    with pytest.raises(TypeError, match="not callable"):
        run(Recipe(**SMALL, seconds=10.0), whole.path, progress=False)


def test_a_run_that_a_budget_ended_goes_on_to_the_same_passes(whole, tmp_path):
    ended = run(Recipe(**SMALL, evaluations=0), tmp_path, progress=False)
    assert ended.load("network", MinimaNetwork).provenance["round"] == 0
    after = run(Recipe(**SMALL), tmp_path, progress=False)
    assert_same(after.load("minima", Minima), whole.load("minima", Minima))
    one, other = (found.load("network", MinimaNetwork) for found in (after, whole))
    assert one.passes == other.passes
    # The first paths were straight, so the rounds began elsewhere.
    np.testing.assert_allclose(one.barriers, other.barriers, rtol=1e-6)


def test_a_network_that_is_there_is_gone_on_with(tmp_path, monkeypatch, whole):
    """What the search for passes yields is kept, and it begins from that."""
    first, last = whole.load("network", MinimaNetwork), whole.load("network", MinimaNetwork)
    begun = []

    def joining(landscape, start, recipe, progress):
        begun.append(type(start))
        yield first
        if len(begun) == 1:
            raise Stop
        yield last

    monkeypatch.setattr(minima_route, "_joining", joining)
    monkeypatch.setattr(journal, "_KEEP_AFTER", 0.0)
    with pytest.raises(Stop):
        run(Recipe(**SMALL), tmp_path, progress=False)
    assert_same(Run.open(tmp_path).load("network", MinimaNetwork), first)
    run(Recipe(**SMALL), tmp_path, progress=False)
    assert begun == [Minima, MinimaNetwork]


def test_a_run_goes_on_in_the_way_in_which_it_began(tmp_path, monkeypatch):
    recipe, plans = Recipe(**SMALL | {"steps": 5}), {**PLANS, "values": {"form": "vmap", "chunk": 7, "rows": 1}}
    monkeypatch.setattr(runs, "_plans", lambda landscape, route: plans)
    with monkeypatch.context() as patch:
        stopping(patch, "descents", 1)
        with pytest.raises(Stop):
            run(recipe, tmp_path, progress=False)
    monkeypatch.setattr(runs, "_plans", None)
    done = run(recipe, tmp_path, progress=False)
    assert done.load("minima", Minima).provenance["landscape"]["plans"] == plans


def test_plans_are_found_for_all_that_is_asked(monkeypatch):
    monkeypatch.setattr("topolandscape.landscape.trials.TRIAL", 1e-3)
    numbers, classes = Recipe(**SMALL), Recipe(model="linear:4-3", data="iris")
    kinds = {"values", "gradients", "products"}
    assert set(original_plans(problem(numbers).landscape(), "minima")) == kinds
    assert set(original_plans(problem(classes).landscape(), "minima")) == kinds | {"accuracies"}
    assert set(original_plans(problem(classes).landscape(), "sample")) == {"values", "gradients"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "its landscape.state|its seed is 0, not 1"),
        ({"steps": 61}, "its steps is 60, not 61"),
        ({"minima": 4}, "its minima is 3, not 4"),
        ({"weight_decay": 2e-3}, "weight_decay is 0.001, not 0.002"),
        ({"dtype": "float64"}, "its dtype is None, not 'float64'"),
    ],
)
def test_a_run_refuses_other_settings(change, message, whole):
    with pytest.raises(ValueError, match=message):
        run(Recipe(**SMALL | change), whole.path, progress=False)


# --------------------------------------------------------------------------------------------------------------
# The user's own models, data and checkpoints
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def user(tmp_path, monkeypatch):
    """Write a model, data with a test part, and three checkpoints."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from torch.nn import Linear, Sequential, Tanh\n"
        "def build(): return Sequential(Linear(2, 2), Tanh(), Linear(2, 2))\n"
        "def load():\n"
        "    inputs = torch.linspace(-1, 1, 24).reshape(12, 2) ** 3\n"
        "    return inputs, (inputs.sum(1) > 0).long(), -inputs, (inputs.sum(1) > 0).long()\n"
        "def three(): return load()[:3]\n"
    )
    for k in range(3):
        torch.manual_seed(k)
        module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2))
        torch.save({"state_dict": module.state_dict()}, f"{k}.pt")


OWN = {"model": "mine.py:build", "data": "mine.py:load", "weight_decay": 1e-2}


@pytest.mark.usefixtures("user")
def test_from_checkpoints(tmp_path):
    recipe = Recipe(**OWN, checkpoints=("0.pt", "1.pt", "2.pt"), merge=0.0)
    done = run(recipe, "run", progress=False)
    kept, ends = done.load("minima", Minima), done.load("descents", Descent)
    states = [torch.load(f"{k}.pt", weights_only=True)["state_dict"] for k in range(3)]
    vectors = [np.concatenate([part.numpy().ravel() for part in state.values()]) for state in states]
    assert ends.step == 0
    assert np.array_equal(ends.points, np.array(vectors, dtype=float))
    assert kept.gradient_norm.max() < 1e-5
    assert kept.accuracy.min() > 0.9
    assert kept.test_accuracy.max() < 0.1  # the test part is the other way round
    assert done.settings["sources"]["1.pt"] == hashlib.sha256((tmp_path / "1.pt").read_bytes()).hexdigest()

    (tmp_path / "1.pt").write_bytes((tmp_path / "0.pt").read_bytes())
    with pytest.raises(ValueError, match=r"holds another run: its sources\.1\.pt is"):
        run(recipe, "run", progress=False)


@pytest.mark.usefixtures("user")
def test_other_data_are_refused(tmp_path):
    recipe = Recipe(**OWN, minima=2, steps=5)
    run(recipe, "run", progress=False)
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(text.replace("-inputs, ", "-2 * inputs, "))
    with pytest.raises(ValueError, match=r"its held_out is .* \(and 2 more settings differ\)"):
        run(recipe, "run", progress=False)
    (tmp_path / "mine.py").write_text(text.replace("** 3", "** 5"))
    with pytest.raises(ValueError, match=r"its held_out|its landscape\.data"):
        run(recipe, "run", progress=False)


@pytest.mark.usefixtures("user")
def test_a_network_drawn_at_random_is_the_same_when_the_run_goes_on():
    before = torch.random.get_rng_state()
    one, other = (problem(Recipe(**OWN, seed=seed)).landscape().point for seed in (3, 4))
    torch.manual_seed(9)
    assert np.array_equal(problem(Recipe(**OWN, seed=3)).landscape().point, one)
    assert not np.array_equal(one, other)
    torch.random.set_rng_state(before)
    problem(Recipe(**OWN))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minima": 1}, "there is 1 descent; a network of minima needs at least two"),
        ({"checkpoints": ("0.pt",)}, "there is 1 checkpoint; a network of minima needs at least two"),
        ({"checkpoints": {"0.pt": 0}}, "there is 1 checkpoint; a network of minima needs at least two"),
        ({"checkpoints": ("0.pt", "1.pt"), "minima": 2}, "minima and checkpoints are both given"),
        ({"checkpoints": ("0.pt", "1.pt", "1.pt")}, "the checkpoint 1.pt is given 2 times; give it once"),
        ({"checkpoints": ("0.pt", "missing.pt")}, "there is no file missing.pt"),
        ({"checkpoints": ("0.pt", "other.pt")}, "other.pt has no '2.weight'.*Give checkpoints of the architecture"),
        ({"checkpoints": ("0.pt", "code.pt")}, "code.pt holds more than tensors and plain values"),
        ({"checkpoints": ("0.pt", "list.pt")}, "list.pt is no state of a module"),
        ({"checkpoints": ("0.pt", "text.pt")}, "text.pt is not a checkpoint, or is damaged|text.pt holds more than"),
        ({"data": "mine.py:three"}, "returned a tuple of 3; it must return a pair"),
        ({"method": "newton"}, "method is 'newton'; it must be one of adam, sgd, nesterov"),
        ({"schedule": "steps"}, "schedule is 'steps'; it must be one of cosine"),
        ({"pairs": "star"}, "pairs is 'star'; it must be one of tree, all"),
        ({"start": "zigzag"}, "start is 'zigzag'; it must be one of straight, bent, constant"),
        ({"evaluations": -1}, "evaluations is -1; it must be at least 0"),
        ({"tolerance": -1.0}, "tolerance is -1.0; it must be at least 0"),
        ({"tolerance": float("nan")}, "tolerance is nan; it must be at least 0"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"region": "box"}, "region belongs to the route sample, and the route is minima"),
    ],
)
def test_bad_recipes(change, message, tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 3)).state_dict(), "other.pt")
    torch.save([1, 2, 3], "list.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Fraction(1, 2)))
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        run(Recipe(**OWN | change), "run", progress=False)


@pytest.mark.usefixtures("user")
def test_a_bad_checkpoint_leaves_nothing_that_is_in_the_way(tmp_path):
    """Once the file is mended, the same command goes through."""
    good = (tmp_path / "1.pt").read_bytes()
    (tmp_path / "1.pt").write_bytes(good[:100])
    recipe = Recipe(**OWN, checkpoints=("0.pt", "1.pt"))
    with pytest.raises(ValueError, match=r"1\.pt"):
        run(recipe, "run", progress=False)
    (tmp_path / "1.pt").write_bytes(good)
    assert "barcode" in run(recipe, "run", progress=False)


@pytest.mark.usefixtures("user")
def test_a_descent_that_diverges_is_named_and_the_others_are_kept(caplog):
    recipe = {**SMALL, "steps": 20, "minima": None, "evaluations": 3000}
    module = tl.zoo.network(SMALL["model"], seed=0)
    for k, factor in enumerate((1.0, 1e30, -1.0)):
        torch.save({name: factor * part for name, part in module.state_dict().items()}, f"{k}.pt")
    files = ("0.pt", "1.pt", "2.pt")
    done = run(Recipe(**recipe, checkpoints=files), "run", progress=False)
    assert [record.message for record in caplog.records if "not finite" in record.message] == [
        "1 of 3 descents met a loss or gradient that is not finite (descent 1 at step 0) and end before it; try a "
        "smaller learning rate"
    ]
    kept, network = done.load("minima", Minima), done.load("network", MinimaNetwork)
    assert kept.stationary.count("diverged") == 1
    assert "diverged" not in network.minima.stationary
    assert network.trained == len(kept) - 1 == 2

    Path("2.pt").write_bytes(Path("1.pt").read_bytes())
    with pytest.raises(ValueError, match="all 2 descents diverged"):
        run(Recipe(**recipe, checkpoints=("1.pt", "2.pt")), "none", progress=False)
    assert "descents" in Run.open("none")


def test_minima_of_different_sizes():
    with pytest.raises(ValueError, match=r"rows of different sizes: points\[1\] has 1 entry, points\[0\] 2;"):
        Minima([[0.0, 1.0], [2.0]], [0.0, 0.0], [0.0, 0.0], [[1.0], [1.0]], [0, 0], ["minimum"] * 2)


def test_bars_may_be_asked_to_end_at_trained_minima_alone(tmp_path):
    recipe = Recipe(**SMALL | {"lower": "trained", "evaluations": 2000})
    done = run(recipe, tmp_path / "trained", progress=False)
    reduced = done.load("network", MinimaNetwork).reduced(lower="trained")
    assert len(reduced) == reduced.trained
    assert_same(done.load("barcode", Barcode), tl.barcode(reduced))
    with pytest.raises(ValueError, match="lower is 'all'; it must be one of any, trained"):
        Recipe(**SMALL | {"lower": "all"})
