"""Workers: the same results whoever does the tasks, in any order, and whoever dies."""

import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape import cluster
from topolandscape.cli import app
from topolandscape.landscape.polishing import polish
from topolandscape.landscape.tasks import parts_of, points_of_task
from topolandscape.study import Recipe, run, run_shard

pytestmark = pytest.mark.usefixtures("one_thread")


# What is fastest may change from one time to the next, and with it the last bits.
PLANS = {kind: {"form": "dense", "chunk": 16, "rows": 200} for kind in ("values", "gradients", "products")}


class Shuffled:
    """An executor that does what waits in random order, in a thread, and can be asked what it did."""

    def __init__(self, seed):
        self.random, self.waiting, self.done = random.Random(seed), [], 0
        self.lock, self.pool = threading.Lock(), ThreadPoolExecutor(1)

    def submit(self, function, *arguments):
        future = Future()
        with self.lock:
            self.waiting.append((future, function, arguments))
        self.pool.submit(self._one)
        return future

    def _one(self):
        with self.lock:
            future, function, arguments = self.waiting.pop(self.random.randrange(len(self.waiting)))
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function(*arguments))
            self.done += 1
        except BaseException as error:
            future.set_exception(error)


@pytest.fixture(scope="module")
def landscape():
    data = tl.zoo.dataset("teacher_student")
    made = tl.Landscape.from_module(
        tl.zoo.network("mlp:2-2-1,tanh", seed=0), data.inputs, data.targets, loss=mse_loss, weight_decay=1e-3
    )
    return made.planned(PLANS)


def same(one, other, *columns):
    for column in columns:
        assert np.array_equal(getattr(one, column), getattr(other, column), equal_nan=True), column


@pytest.fixture
def _a_task_each(monkeypatch):
    """Let each descent, point and path be a task, however little work that is."""
    monkeypatch.setattr("topolandscape.landscape.tasks._STEP", 0)


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


@pytest.mark.usefixtures("_a_task_each")
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


@pytest.mark.usefixtures("_a_task_each")
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


@pytest.mark.usefixtures("_a_task_each")
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
# Shards
# --------------------------------------------------------------------------------------------------------------

NETWORK = ["mlp:2-2-1,tanh", "teacher_student", "--weight-decay", "1e-3"]
BOX = [*NETWORK, "--region", "box", "--points", "64"]
PLANE = [*NETWORK, "--region", "plane", "--resolution", "7", "--steps", "10"]
GRID = [*NETWORK, "--region", "grid", "--resolution", "2", "--memory", "1e-4"]
MINIMA = [*NETWORK, "--minima", "3", "--steps", "10", "--max-evaluations", "50", "--record-every", "4"]
MINIMA += ["--evaluations", "200"]


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("topolandscape.files.runs._shard_size", lambda landscape: 10)
    monkeypatch.setattr("topolandscape.study.runs._plans", lambda landscape, route: PLANS)
    return lambda *arguments: CliRunner().invoke(app, ["barcode", *arguments])


def assert_same_run(one, other, *names):
    for name, kind, columns in (
        ("samples", tl.LossSamples, ("points", "values")),
        ("minima", tl.Minima, ("points", "values", "gradient_norm", "curvature", "index", "found")),
        ("trajectories", tl.Trajectories, ("points", "values", "steps", "gradient_norm")),
        ("network", tl.MinimaNetwork, ("ends", "barriers", "tops")),
        ("barcode", tl.Barcode, tl.Barcode.columns),
    ):
        assert (name in one) == (name in other), name
        if name in one:
            same(one.load(name, kind), other.load(name, kind), *columns)


@pytest.mark.usefixtures("_a_task_each")
@pytest.mark.parametrize("asked", [BOX, PLANE, GRID, MINIMA], ids=["box", "plane", "grid", "minima"])
def test_shards_give_what_an_undivided_run_gives(invoke, asked):
    assert invoke(*asked, "--out", "whole").exit_code == 0
    for number in (1, 0):
        said = invoke(*asked, "--shard", f"{number}/2", "--out", "parts")
        assert (said.exit_code, said.stdout.splitlines()[0]) == (0, f"shard:   parts/shards/{number}-of-2"), said.output
    held = [set(tl.Run.open(f"parts/shards/{number}-of-2")._manifest["files"]) for number in (0, 1)]
    assert held[0]
    assert held[1]
    assert not held[0] & held[1]
    joined = invoke(*asked, "--out", "parts")
    assert joined.exit_code == 0, joined.output
    assert_same_run(tl.Run.open("whole"), tl.Run.open("parts"))
    own = {name for name in tl.Run.open("parts")._manifest["files"] if name.startswith(("losses", "parts"))}
    assert not own


@pytest.mark.usefixtures("_a_task_each")
@pytest.mark.parametrize("asked", [BOX, MINIMA], ids=["box", "minima"])
def test_a_part_that_is_missing_is_said_and_computed(invoke, asked, caplog):
    assert invoke(*asked, "--shard", "1/3", "--out", "parts").exit_code == 0
    assert not caplog.messages
    assert invoke(*asked, "--out", "parts").exit_code == 0
    (said,) = (message for message in caplog.messages if "missing" in message)
    assert said in (
        "5 of 7 tables of losses are missing and are computed",
        "2 of 3 parts of the descents are missing and are computed",
    )
    assert invoke(*asked, "--out", "whole").exit_code == 0
    assert_same_run(tl.Run.open("whole"), tl.Run.open("parts"))
    own = {name for name in tl.Run.open("parts")._manifest["files"] if name.startswith(("losses", "parts"))}
    assert own


def test_the_task_of_a_job_array_says_which_shard(invoke, monkeypatch):
    said = invoke(*BOX, "--shard", "slurm", "--out", "run")
    assert (said.exit_code, said.stderr) == (
        1,
        "topolandscape: SLURM_ARRAY_TASK_ID is not set; --shard slurm is for tasks of a job array "
        "(sbatch --array=0-7).\n",
    )

    def of_array(*values):
        for name, value in zip(("ID", "MIN", "MAX", "STEP", "COUNT"), values, strict=True):
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
        return invoke(*BOX, "--shard", "slurm", "--out", "run")

    # As Slurm 22.05 sets them for --array=4-6 and 0-12:4.
    assert "run/shards/1-of-3" in of_array(5, 4, 6, 1, 3).stdout
    assert "run/shards/3-of-4" in of_array(12, 0, 12, 4, 4).stdout
    said = of_array(3, 1, 3, 1, 2)  # --array=1,3
    assert (said.exit_code, len(said.stderr.splitlines())) == (1, 1)
    assert "the job array has gaps (2 tasks from 1 to 3)" in said.stderr


@pytest.mark.parametrize("shard", ["2/2", "3", "-1/2", "a/b", "1/0"])
def test_a_shard_that_is_none(invoke, shard):
    said = invoke(*BOX, "--shard", shard, "--out", "run")
    assert (said.exit_code, len(said.stderr.splitlines())) == (1, 1)
    assert "it needs to be i/n, i from 0 to n - 1" in said.stderr
    assert not Path("run").exists()


def test_a_shard_of_another_run(invoke):
    assert invoke(*BOX, "--shard", "0/2", "--out", "run").exit_code == 0
    said = invoke(*BOX, "--shard", "1/2", "--out", "run", "--seed", "1")
    assert (said.exit_code, len(said.stderr.splitlines())) == (1, 1)
    assert "run holds another run: its landscape" in said.stderr or "its seed is 0, not 1" in said.stderr


def test_what_another_shard_is_writing_is_left_alone(tmp_path):
    whole = tl.Run.create(tmp_path / "run", {"seed": 0})
    with whole.shard(0, 2) as part:
        writing = [folder / ".barcode.npz.123.partial" for folder in (part.path, whole.path)]
        for path in writing:
            path.touch()
        tl.Run.create(tmp_path / "run", {"seed": 0})
        assert [path.exists() for path in writing] == [True, False]
        with pytest.raises(BlockingIOError, match="another process computes in"), whole.shard(0, 2):
            pass
        with whole.shard(1, 2):
            pass
    with whole.shard(0, 2):
        assert not writing[0].exists()


# Of Slurm: runs the tasks of an array at once, and says the number of the job.
SBATCH = """#!/bin/bash
for argument in "$@"; do case $argument in --array=0-*) last=${argument#--array=0-};; esac; done
for task in $(seq 0 "${last:-0}"); do
    if [ -n "$last" ]; then
        export SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_COUNT=$((last + 1))
    fi
    bash -c "${@: -1}" >&2 &
done
wait
echo "$@" | sed "s/--wrap.*//" >> calls
echo "7;here"
"""


@pytest.mark.slow
def test_the_script_for_slurm_takes_a_network_to_the_barcode_of_an_undivided_run(invoke, tmp_path):
    code = f"""import topolandscape.study.runs as runs
runs._plans = lambda landscape, route: {PLANS}
runs.Run.values.__globals__["_shard_size"] = lambda landscape: 10
from topolandscape.cli import main; main()"""
    (tmp_path / "bin").mkdir()
    (tmp_path / "program.py").write_text(code)
    program = f'#!/bin/bash\nexec {sys.executable} {tmp_path}/program.py "$@"\n'
    programs = {"sbatch": SBATCH, "topolandscape": program}
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    script = Path(tl.__file__).parents[1] / "docs/examples/slurm/barcode.sh"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PARTS": "2"}
    subprocess.run(["bash", script, *BOX, "--out", "parts"], env=environment, check=True, timeout=200)
    array, last = (tmp_path / "calls").read_text().splitlines()
    assert "--array=0-1 --requeue" in array
    assert "--dependency=afterany:7 " in last
    assert invoke(*BOX, "--out", "whole").exit_code == 0
    parts = tl.Run.open("parts")
    assert_same_run(tl.Run.open("whole"), parts)
    assert not [name for name in parts._manifest["files"] if name.startswith("losses")]
    assert [len(tl.Run.open(folder)._manifest["files"]) for folder in sorted(Path("parts/shards").iterdir())] == [4, 3]


def test_a_run_over_workers_ends_as_one_without(invoke, tmp_path):
    for asked in ({"region": "box", "route": "sample", "points": 50}, {"minima": 2, "steps": 10, "evaluations": 100}):
        recipe = Recipe(model="mlp:2-2-1,tanh", data="teacher_student", weight_decay=1e-3, **asked)
        name = recipe.route
        one = run(recipe, f"{name}-alone", progress=False)
        other = run(recipe, f"{name}-over", executor=Shuffled(0), progress=False)
        assert_same_run(one, other)
    part = run_shard(recipe, "minima-alone", (0, 1), progress=False)
    assert list(part._manifest["files"]) == []  # the run has its minima already


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
