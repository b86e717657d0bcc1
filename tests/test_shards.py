"""Shards of a run, tasks of a job array and runs over workers give what an undivided run gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from same_runs import PLANS, Shuffled, assert_same_run
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape.cli import app
from topolandscape.study import Recipe, run, run_shard

pytestmark = pytest.mark.usefixtures("one_thread")

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


@pytest.mark.usefixtures("a_task_each")
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


@pytest.mark.usefixtures("a_task_each")
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
        export SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=$last
        export SLURM_ARRAY_TASK_STEP=1 SLURM_ARRAY_TASK_COUNT=$((last + 1))
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
