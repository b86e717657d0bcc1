"""kill -9 at random moments: the run goes on, and ends with the same bits as one that was left alone."""

import json
import subprocess
import sys

import numpy as np
import pytest

from topolandscape.files import Run
from topolandscape.structures import Barcode, Minima, MinimaNetwork

# A process that forks runs and kills them, so that the imports are paid for once.
DRIVER = """
import json, os, random, signal, sys, time, traceback
import numba, torch
import topolandscape.landscape.minima, topolandscape.landscape.network
import topolandscape.study.minima_route as minima_route
import topolandscape.study.runs as runs
import topolandscape.topology.merge, topolandscape.topology.persistence
from topolandscape.study import Recipe, run

recipe, kills = Recipe(**json.loads(sys.argv[1])), int(sys.argv[2])
minima_route._KEEP_AFTER = 0.0
# What is fastest may change from one run to the next, and with it the last bits.
kinds = ("values", "gradients", "products") + (("accuracies",) if recipe.data == "digits" else ())
runs._plans = lambda landscape, route: {kind: {"form": "wide", "chunk": 16, "rows": 1} for kind in kinds}

def begun(folder):
    child = os.fork()
    if child == 0:
        try:
            run(recipe, folder, progress=False)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

start = time.monotonic()
assert ended(begun("whole")) == 0
whole = time.monotonic() - start
draw, moments, folders = random.Random(0), [], ["killed-0"]
while len(moments) < kills:
    child, moment = begun(folders[-1]), draw.uniform(0, whole)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    code = ended(child)
    assert code in (0, -signal.SIGKILL), code
    if code == 0:  # it was quicker than the killer
        folders.append(f"killed-{len(folders)}")
    else:
        moments.append(moment)
for folder in folders:
    assert ended(begun(folder)) == 0
print(json.dumps({"folders": folders, "moments": moments, "whole": whole}))
"""


def assert_survives(recipe, kills, folder):
    command = [sys.executable, "-c", DRIVER, json.dumps(recipe), str(kills)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert len(printed["moments"]) == kills
    whole = Run.open(folder / "whole")
    for name in printed["folders"]:
        killed = Run.open(folder / name)
        for noun, kind, columns in (
            ("minima", Minima, ("points", "values", "gradient_norm", "curvature", "index", "accuracy")),
            ("network", MinimaNetwork, ("ends", "barriers", "tops")),
            ("barcode", Barcode, Barcode.columns),
        ):
            one, other = whole.load(noun, kind), killed.load(noun, kind)
            for column in columns:
                assert np.array_equal(getattr(one, column), getattr(other, column), equal_nan=True), (name, column)
        assert not list((folder / name).rglob("*.partial"))


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_been_left_alone(tmp_path):
    recipe = {"model": "mlp:2-2-1,tanh", "data": "teacher_student", "weight_decay": 1e-3, "minima": 3, "steps": 40}
    assert_survives(recipe | {"evaluations": 3000}, 3, tmp_path)


@pytest.mark.slow
def test_ten_times_killed(tmp_path):
    recipe = {"model": "mlp:64-3-10,tanh", "data": "digits", "weight_decay": 1e-2, "minima": 3, "steps": 60}
    assert_survives(recipe | {"batch": 300, "record_every": 20, "evaluations": 20_000}, 10, tmp_path)
