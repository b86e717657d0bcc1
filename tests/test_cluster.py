"""Workers: the same results whoever does the tasks, in any order, and whoever dies."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from same_runs import PLANS, Shuffled, assert_same_run, same
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape import cluster
from topolandscape.cli import app
from topolandscape.landscape.polishing import polish
from topolandscape.landscape.tasks import parts_of, points_of_task
from topolandscape.study import Recipe, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def landscape():
    data = tl.zoo.dataset("teacher_student")
    made = tl.Landscape.from_module(
        tl.zoo.network("mlp:2-2-1,tanh", seed=0), data.inputs, data.targets, loss=mse_loss, weight_decay=1e-3
    )
    return made.planned(PLANS)


def small_tasks(monkeypatch, size=50):
    monkeypatch.setattr("topolandscape.landscape.batching.points_of_task", lambda *of: size)


# --------------------------------------------------------------------------------------------------------------
# The same results
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_samples_and_their_barcode_do_not_depend_on_the_order_of_arrival(landscape, monkeypatch, seed):
    small_tasks(monkeypatch)
    asked = {"low": -2, "high": 2, "n": 333, "seed": 0, "progress": False}
    alone = tl.sample_box(landscape, **asked)
    executor = Shuffled(seed)
    with tl.on_workers(landscape, executor) as shared:
        samples = tl.sample_box(shared, **asked)
        plane = shared.restricted_to(np.zeros(9), np.eye(9)[:2])
        on_plane = tl.sample_grid(plane, low=-1, high=1, shape=(11, 11), progress=False)
    assert executor.done == 7 + 3  # of 50 points each
    same(samples, alone, "points", "values")
    two = landscape.restricted_to(np.zeros(9), np.eye(9)[:2])
    same(on_plane, tl.sample_grid(two, low=-1, high=1, shape=(11, 11), progress=False), "points", "values")
    code, whole = (tl.barcode(tl.nearest_neighbours(some, k=6)) for some in (samples, alone))
    same(code, whole, *tl.Barcode.columns)


@pytest.mark.usefixtures("a_task_each")
def test_minima_and_passes_are_those_without_workers(landscape):
    starts = tl.initial_points(landscape, 3, seed=0)
    asked = {"seed": 0, "steps": 30, "max_evaluations": 100, "progress": False}
    before = landscape.engine.evaluations
    minima = tl.minima(landscape, starts, **asked)
    network = tl.minima_network(landscape, minima, evaluations=600, progress=False)
    spent = landscape.engine.evaluations - before
    with tl.on_workers(landscape, Shuffled(0)) as shared:
        before = shared.engine.evaluations
        found = tl.minima(shared, starts, **asked)
        joined = tl.minima_network(shared, found, evaluations=600, progress=False)
        assert shared.engine.evaluations - before == spent
    same(found, minima, "points", "values", "gradient_norm", "curvature", "index", "accuracy", "found")
    assert found.stationary == minima.stationary
    assert found.provenance["rows"] == minima.provenance["rows"]
    same(joined, network, "ends", "barriers", "tops")
    same(tl.barcode(joined), tl.barcode(network), *tl.Barcode.columns)


@pytest.mark.usefixtures("a_task_each")
def test_descents_and_paths_are_those_without_workers(landscape):
    starts = tl.initial_points(landscape, 3, seed=0)
    asked = {"steps": 12, "batch": 64, "seed": 5, "record_every": 5, "progress": False}
    paths = np.stack([starts[[0, 1]], starts[[1, 2]]])
    bent = {"points": (5,), "steps": 25, "progress": False}
    with tl.on_workers(landscape, Shuffled(0)) as shared:
        descents, strings = tl.descend(shared, starts, **asked), tl.lower_paths(shared, paths, **bent)
        polished = polish(shared, starts, max_evaluations=20, trails=True, progress=False)
    same(descents, tl.descend(landscape, starts, **asked), "points", "values", "steps", "gradient_norm")
    alone = tl.lower_paths(landscape, paths, **bent)
    same(strings, alone, "points", "values", "highest", "tops", "converged")
    # One path may have ended before the other; at the beginning and the end both are there.
    np.testing.assert_allclose(strings.curve[[0, -1], 1], alone.curve[[0, -1], 1], rtol=1e-14)
    expected = polish(landscape, starts, max_evaluations=20, trails=True, progress=False)
    same(polished, expected, "points", "values", "gradient_norm", "evaluations")
    assert all(map(np.array_equal, polished.trails, expected.trails))


def test_work_is_cut_by_what_it_is_alone():
    assert points_of_task({"parameters": 10**6, "rows": 10**5}, "values", 2) == 1
    assert points_of_task({"parameters": 1000, "rows": 1000, "device": "cuda"}, "values", 2) == 2**18
    assert points_of_task({"parameters": 10**4, "rows": 10**3}, "gradients", 5) == 666
    assert points_of_task({"parameters": 10**4, "rows": 10**3}, "gradients", 10**4) == 104
    resnet, small = {"parameters": 10**6, "rows": 10**4}, {"parameters": 10, "rows": 100}
    assert parts_of(resnet, 3) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert parts_of(small, 3) == [slice(0, 3)]
    assert [len(parts_of(resnet, count)) for count in (256, 257, 1000)] == [256, 129, 250]
    assert parts_of({"parameters": 1000, "rows": 100}, 5, points=11) == [slice(0, 3), slice(3, 5)]


# --------------------------------------------------------------------------------------------------------------
# Landscapes on their way
# --------------------------------------------------------------------------------------------------------------


def sent(landscape):
    return cloudpickle.loads(cloudpickle.dumps(landscape))


def test_a_landscape_arrives_as_it_was_sent():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
        inputs, targets = torch.randn(20, 3), torch.randint(2, (20,))
    weights = torch.rand(20)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=7)
    layer = {"parameters": "2.*", "dtype": "float64", "form": "wide"}
    for made in (
        tl.Landscape.from_module(module, inputs, targets, loss=cross_entropy, weights=weights, weight_decay=0.1),
        tl.Landscape.from_module(module, [inputs, inputs], [targets, targets], loss=cross_entropy, **layer),
        tl.Landscape.from_loader(module, loader, loss=cross_entropy),
        tl.Landscape.from_function(lambda x: np.cos(x).sum(1), 2),
    ):
        other = sent(made)
        points = np.random.default_rng(0).standard_normal((5, made.dimension))
        assert np.array_equal(other.values(points), made.values(points))
        assert dict(other.description) == dict(made.description)
        assert repr(other) == repr(made)
        assert made.point is None or np.array_equal(other.point, made.point)


@pytest.mark.parametrize(
    "part", [lambda whole: whole.of_rows([0, 1]), lambda whole: whole.restricted_to([0] * 9, [[1] * 9])]
)
def test_a_part_of_a_landscape_is_not_sent(landscape, part):
    with pytest.raises(TypeError, match="only a whole one can be sent"):
        cloudpickle.dumps(part(landscape))


# --------------------------------------------------------------------------------------------------------------
# What goes wrong
# --------------------------------------------------------------------------------------------------------------


def test_an_error_of_the_loss_is_raised_as_it_is_with_the_task_and_not_tried_again(monkeypatch, tmp_path):
    small_tasks(monkeypatch, size=1)
    calls = str(tmp_path / "calls")

    def loss(x):
        if (x[:, 0] > 5).any():
            with open(calls, "a") as stream:
                stream.write("once ")
            raise ZeroDivisionError("above five")
        return x.sum(1)

    made = tl.Landscape.from_function(loss, 1)
    with (
        tl.on_workers(made, Shuffled(0)) as shared,
        pytest.raises(ZeroDivisionError, match="above five") as raised,
    ):
        shared.values([[1.0], [2.0], [6.0], [3.0]], progress=False)
    assert raised.value.__notes__ == ["in task 2 of 4 (points), counted from 0"]
    assert Path(calls).read_text() == "once "


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        (0, "executor is 0; it needs to be 1 process or more"),
        ("host", "executor is 'host'; give a number of processes, or the address of a dask scheduler"),
        (2.5, "executor is a float; give a number of processes"),
        (True, "executor is a bool"),
    ],
)
def test_what_is_no_executor(landscape, executor, words):
    with pytest.raises((ValueError, TypeError), match=words), tl.on_workers(landscape, executor):
        pass


@pytest.mark.slow
def test_processes_that_die_are_replaced_until_one_task_is_to_blame(tmp_path):
    def work(number, deadly):
        import os
        import pathlib
        import signal

        if number == 3 and len(list(pathlib.Path(deadly).iterdir())) < int(pathlib.Path(deadly).name):
            (pathlib.Path(deadly) / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number**2

    for deaths in (1, 2):
        (tmp_path / str(deaths)).mkdir()
        asked = [((number, str(tmp_path / str(deaths))), {}) for number in range(7)]
        with cluster.workers(2) as team:
            assert dict(team.done(work, asked, progress=False)) == {number: number**2 for number in range(7)}
        assert len(list((tmp_path / str(deaths)).iterdir())) == deaths
    (tmp_path / "9").mkdir()
    asked = [((number, str(tmp_path / "9")), {}) for number in range(7)]
    with cluster.workers(2) as team, pytest.raises(RuntimeError, match=r"the workers of task 3 of 7 .* died 3 times"):
        list(team.done(work, asked, progress=False))
    assert len(list((tmp_path / "9").iterdir())) == 3


@pytest.mark.usefixtures("a_task_each")
@pytest.mark.slow
def test_processes_give_what_this_one_gives(landscape):
    starts = tl.initial_points(landscape, 3, seed=0)
    asked = {"seed": 0, "steps": 30, "max_evaluations": 100, "progress": False}
    with tl.on_workers(landscape, 2) as shared:
        found = tl.minima(shared, starts, **asked)
    same(found, tl.minima(landscape, starts, **asked), "points", "values", "gradient_norm", "curvature", "index")


# --------------------------------------------------------------------------------------------------------------
# dask
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dask_cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as made:
        yield made


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_dask_worker_killed_in_the_middle_changes_nothing(landscape, dask_cluster):
    from distributed import Client

    asked = {"low": -2, "high": 2, "n": 600, "seed": 0}
    with Client(dask_cluster) as client:
        pids = client.run(os.getpid)
        assert len(set(pids.values())) == 2
        killed = []

        def evaluate(shared, points):
            values = np.empty(len(points))
            for place, found in shared.values_of(np.array_split(points, 20)):
                values[np.array_split(np.arange(len(points)), 20)[place]] = found
                if not killed:
                    killed.append(next(iter(pids.values())))
                    os.kill(killed[0], signal.SIGKILL)
            return values

        with tl.on_workers(landscape, client) as shared:
            samples = tl.sample_box(shared, evaluate=evaluate, **asked)
            starts = tl.initial_points(landscape, 2, seed=0)
            found = tl.minima(shared, starts, seed=0, steps=20, max_evaluations=50, progress=False)
    assert len(killed) == 1
    alone = tl.sample_box(landscape, progress=False, **asked)
    same(samples, alone, "points", "values")
    one, other = (tl.barcode(tl.nearest_neighbours(some, k=8)) for some in (samples, alone))
    same(one, other, *tl.Barcode.columns)
    same(found, tl.minima(landscape, starts, seed=0, steps=20, max_evaluations=50, progress=False), "points", "values")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_study_and_a_run_over_dask_by_its_address(dask_cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    address = dask_cluster.scheduler_address
    network = {"model": "mlp:2-1-1,tanh", "data": "teacher_student", "weight_decay": 1e-3}
    network |= {"route": "sample", "region": "box", "points": 50}
    result = tl.run_study(tl.Study({**network, "seed": [0, 1]}), "study", jobs=address, progress=False)
    assert (len(result), dict(result.failures)) == (2, {})
    plans = result.runs[0].known("plans")
    other = run(Recipe(**network), "over", plans=plans, executor=address, progress=False)
    assert_same_run(result.runs[0], other)


def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "_PATIENCE", 0.2)
    asked = ["barcode", "mlp:2-1-1,tanh", "teacher_student", "--region", "box", "--points", "20"]
    said = CliRunner().invoke(app, [*asked, "--executor", "tcp://127.0.0.1:9"])
    assert (said.exit_code, len(said.stderr.strip().splitlines())) == (1, 1)
    assert "127.0.0.1:9" in said.stderr


# --------------------------------------------------------------------------------------------------------------
# Devices
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "count"), [(8, 4), (3, 8), (5, 2), (1, 1)])
def test_workers_of_a_machine_share_its_devices_evenly(workers, count):
    taken = np.bincount([cluster.device_of(worker, count) for worker in range(workers)], minlength=count)
    assert taken.sum() == workers
    assert taken.max() - taken.min() <= 1


@pytest.mark.parametrize("count", [1, 2, 8])
def test_workers_of_several_machines_take_devices_of_their_own(tmp_path, monkeypatch, count):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # which the machines share
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count))))
    taken = {"one": [], "other": []}
    processes = []
    for machine in 8 * ("one", "other"):
        monkeypatch.setattr("socket.gethostname", lambda machine=machine: machine)
        monkeypatch.setattr("torch.cuda.set_device", taken[machine].append)
        monkeypatch.setattr(cluster, "_numbers", {})  # those of a process
        processes.append(cluster._numbers)
        for _ in range(2):  # tasks
            cluster._take_device()
    for numbers in processes:
        for _, stream in numbers.values():
            stream.close()
    alone = [] if count == 1 else [number % count for number in range(8) for _ in range(2)]
    assert taken == {"one": alone, "other": alone}


def test_each_worker_of_a_machine_has_a_number_until_it_ends(tmp_path, monkeypatch):
    code = "import sys, pathlib; from topolandscape.cluster import worker_number\n"
    code += "print(worker_number(pathlib.Path(sys.argv[1])), flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "0\n"
    numbers = []
    for _ in range(2):
        monkeypatch.setattr(cluster, "_numbers", {})
        numbers.append(cluster.worker_number(tmp_path))
        assert cluster.worker_number(tmp_path) == numbers[-1]
        cluster._numbers[tmp_path][1].close()
        other.kill()
        other.communicate()
    assert numbers == [1, 0]
