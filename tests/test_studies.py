"""Studies: which runs they have, what is wrong with a file, that they go on, and how long they take."""

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from finished_runs import SMALL
from typer.testing import CliRunner

import topolandscape as tl
import topolandscape.study.comparison as comparison
import topolandscape.study.jobs as jobs
from topolandscape.cli import app
from topolandscape.study.forecast import Span, forecast, remaining
from topolandscape.study.report import table_csv
from topolandscape.study.studies import folder_name

INF = float("inf")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def _same_plans(monkeypatch):
    """Leave out the search for the fastest way of evaluation."""
    plans = {kind: {"form": "wide", "chunk": 64, "rows": 1} for kind in ("values", "gradients", "products")}
    monkeypatch.setattr("topolandscape.study.runs._plans", lambda landscape, route: plans)


# --------------------------------------------------------------------------------------------------------------
# Which runs
# --------------------------------------------------------------------------------------------------------------


def test_a_study_is_every_combination():
    study = tl.Study(SMALL | {"batch": [10, 20, 30]})
    recipes = study.recipes()
    assert len({(r.model, r.batch, r.seed) for r in recipes}) == len(recipes) == 12
    assert study.varied == ("model", "batch")
    assert (study.load, study.temperature) == ("model", "batch")
    assert len({folder_name(recipe) for recipe in recipes}) == 12
    groups = [job.group for job in comparison.study_jobs(study, "somewhere")]
    assert groups[:3] == ["mlp:2-1-1,tanh, batch 10"] * 2 + ["mlp:2-1-1,tanh, batch 20"]


def test_each_network_is_tried_out_once(tmp_path, monkeypatch):
    """Runs of one network evaluate it in the same way, found by the first of them; those of another have their own."""
    tried = []

    def plans(landscape, route):
        tried.append(landscape.dimension)
        return {kind: {"form": "wide", "chunk": 60 + len(tried), "rows": 1} for kind in ("values", "gradients")}

    monkeypatch.setattr("topolandscape.study.runs._plans", plans)
    study = tl.Study(SMALL | {"weight_decay": [1e-3, 1e-2]}, measures=())
    result = tl.run_study(study, tmp_path, progress=False)
    assert sorted(tried) == [5, 9]
    chunks = {
        (row["model"], run.known("plans")["values"]["chunk"]) for row, run in zip(result.rows, result.runs, strict=True)
    }
    assert len(chunks) == 2
    assert len({chunk for _, chunk in chunks}) == 2


def test_what_can_be_asked_anew_needs_no_other_folder():
    one, other = (tl.Study(SMALL | {"evaluations": evaluations}) for evaluations in (100, 200))
    assert [folder_name(r) for r in one.recipes()] == [folder_name(r) for r in other.recipes()]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data": "digits"}, "there is no model; a study needs a model and data"),
        (SMALL | {"learnig_rate": 0.1}, "there is no setting 'learnig_rate'; did you mean learning_rate?"),
        (SMALL | {"qqq": 0.1}, "there is no setting 'qqq'; allowed are model, data, loss, "),
        (SMALL | {"minima": "six"}, "minima is 'six'; it needs to be a whole number, or a list of such"),
        (SMALL | {"minima": 2.5}, "minima is 2.5; it needs to be a whole number"),
        (SMALL | {"modulo_symmetry": 1}, "modulo_symmetry is 1; it needs to be true or false"),
        (SMALL | {"steps": [10, True]}, "steps is True; it needs to be a whole number"),
        (SMALL | {"method": "adm"}, "method is 'adm'; it must be one of adam, sgd, nesterov. Did you mean adam?"),
        (SMALL | {"minima": 1}, "a network of minima needs at least two"),
        (SMALL | {"seed": []}, "seed is an empty list; give at least one value"),
        (SMALL | {"seed": [1, 1]}, "two runs of the study are the same"),
        (SMALL | {"checkpoints": ["a.pt"]}, "checkpoints belong to one model"),
        (SMALL | {"model": "mpl:2-2-1"}, "there is no network 'mpl:2-2-1'. Did you mean mlp:2-2-1?"),
        (SMALL | {"data": ["digit"]}, "Did you mean digits?"),
    ],
)
def test_what_is_wrong_with_settings_is_said(settings, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        tl.Study(settings)


def test_what_is_wrong_with_measures_and_axes_is_said():
    with pytest.raises(ValueError, match="there is no measure 'hesian_top'; did you mean hessian_top"):
        tl.Study(SMALL, measures=("hesian_top",))
    with pytest.raises(ValueError, match="load is 'width'; it needs to be a setting that is varied, here model"):
        tl.Study(SMALL, load="width")
    sampled = {"model": "mlp:2-1-1", "data": "teacher_student", "route": "sample"}
    assert tl.Study(sampled).measures == ()
    with pytest.raises(ValueError, match="the route is sample; leave them out"):
        tl.Study(sampled, measures=("cka",))


FILE = """\
# widths
model = [
    "mlp:2-1-1,tanh",
    "mlp:2-2-1,tanh",
]
data = "teacher_student"
weight_decay = 1e-3
minima = 2
method = ["adam", "sgd"]
seed = [0, 1]
measures = ["cka", "distance"]
"""


def test_a_study_file(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(FILE)
    study = tl.read_study(file)
    assert len(study.recipes()) == 8
    assert study.measures == ("cka", "distance")
    assert study.recipes()[0].weight_decay == 1e-3


def test_the_study_files_of_the_repository_are_right(tmp_path):
    root = Path(__file__).parent.parent
    (block,) = re.findall(r"```toml\n(.*?)```", (root / "docs/studies.md").read_text(), re.DOTALL)
    file = tmp_path / "study.toml"
    file.write_text(block)
    assert len(tl.read_study(file).recipes()) == 6
    examples = list((root / "docs/examples/studies").glob("*.toml"))
    assert examples
    for example in examples:
        assert len(tl.read_study(example).recipes()) > 1


@pytest.mark.parametrize(
    ("was", "became", "line", "said"),
    [
        ("weight_decay", "weigth_decay", 7, "there is no setting 'weigth_decay'; did you mean weight_decay?"),
        ("mlp:2-2-1,tanh", "mlp:2-2-1,thanh", 4, "has the option 'thanh'; those of mlp are"),
        ('"sgd"', '"sdg"', 9, "method is 'sdg'; it must be one of adam, sgd, nesterov. Did you mean sgd?"),
        ("minima = 2", "minima = 1", 8, "there is 1 descent; a network of minima needs at least two."),
        ("[0, 1]", '[0, "1"]', 10, "seed is '1'; it needs to be a whole number, or a list of such."),
        ("cka", "ckaa", 11, "there is no measure 'ckaa'; did you mean cka?"),
        ('["cka", "distance"]', "3", 11, "measures holds 3; it needs to be a list of names."),
        ("minima = 2", "minima = ", 8, "this is not TOML: invalid value"),
        ("seed", "[seed]\nx", 10, "seed is {'x': [0, 1]"),
    ],
)
def test_a_wrong_study_file_says_which_line(was, became, line, said, tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(FILE.replace(was, became, 1))
    result = CliRunner().invoke(app, ["compare", str(file)])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert result.stderr.startswith(f"topolandscape: {file}, line {line}: ")
    assert said in result.stderr


# --------------------------------------------------------------------------------------------------------------
# Computing them
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_same_plans")
def test_a_study_goes_on_and_skips_what_is_done(tmp_path, monkeypatch, caplog):
    stops = []

    def stopping(recipe, folder, **options):
        if len(stops) == 3:
            raise KeyboardInterrupt
        stops.append(recipe)
        return run(recipe, folder, **options)

    run = jobs.run
    monkeypatch.setattr(jobs, "run", stopping)
    with pytest.raises(KeyboardInterrupt):
        tl.run_study(tl.Study(SMALL), tmp_path, progress=False)
    assert [(r.model, r.seed) for r in stops[:2]] == [("mlp:2-1-1,tanh", 0), ("mlp:2-2-1,tanh", 0)]

    calls = []
    monkeypatch.setattr(jobs, "run", lambda recipe, folder, **options: calls.append(folder) or run(recipe, folder))
    result = tl.run_study(tl.Study(SMALL), tmp_path, progress=False)
    assert len(calls) == 1
    assert len(result) == 4
    assert "1 of 4 runs to do, 1 at once: " in caplog.text
    # One more seed, and what is asked of all of them is one more measure.
    more = tl.Study(SMALL | {"seed": [0, 1, 2]}, measures=("distance", "hessian_top"))
    again = tl.run_study(more, tmp_path, progress=False)
    assert len(again) == 6
    assert np.isfinite([row["hessian_top"] for row in again.rows]).all()
    for one, other in zip(result.rows[:2], again.rows[:2], strict=True):
        assert one["mean_bar"] == other["mean_bar"]
    assert "disagreement" not in again.numbers  # a regression has no classes
    calls.clear()
    tl.run_study(more, tmp_path, progress=False)
    assert calls == []
    assert caplog.messages[-1] == "all 6 runs are done"


def test_a_user_file_that_changed_makes_its_runs_undone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("import torch\ndef build(): return torch.nn.Linear(2, 1)\n")
    study = tl.Study(
        {"model": "own.py:build", "data": "teacher_student", "route": "sample", "region": "box", "points": 20}
    )
    result = tl.run_study(study, "study", progress=False)
    (job,) = comparison.study_jobs(study, "study")
    assert comparison.is_done(job.recipe, job.folder)
    Path("own.py").write_text("import torch\ndef build(): return torch.nn.Linear(2, 1, bias=False)\n")
    assert not comparison.is_done(job.recipe, job.folder)
    with pytest.raises(RuntimeError, match=r"all 1 runs failed; .* holds another run: its landscape"):
        tl.run_study(study, "study", progress=False)
    assert len(result) == 1


@pytest.mark.usefixtures("_same_plans")
def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("import torch\ndef build():\n    raise RuntimeError('no\\nidea')\n")
    Path("s.toml").write_text(
        'model = ["own.py:build", "mlp:2-1-1,tanh"]\ndata = "teacher_student"\nroute = "sample"\nsteps = 5\n'
        'region = "box"\npoints = 20\nseed = [0, 1]\n'
    )
    result = CliRunner().invoke(app, ["compare", "s.toml", "--out", "out"])
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("topolandscape: the run own.py-build_teacher_student_box_seed0_")
    assert last.endswith("failed: own.py, line 3: RuntimeError: no idea (and 1 more)")
    assert len(list(csv.DictReader(Path("out/table.csv").read_text().splitlines()))) == 2
    assert "failed" in Path("out/report.html").read_text()


@pytest.mark.slow
def test_several_runs_at_once_and_a_killed_child(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "import os, signal, torch\n"
        "def build():\n"
        "    print('loud')\n"
        "    if torch.initial_seed() == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return torch.nn.Linear(2, 1)\n"
    )
    study = tl.Study(
        {"model": "own.py:build", "data": "teacher_student", "route": "sample", "region": "box", "points": 20}
        | {"seed": [0, 1]}
    )
    result = tl.run_study(study, "study", jobs=2, progress=False)
    assert [row["seed"] for row in result.rows] == [0]
    ((name, wrong),) = result.failures.items()
    assert "seed1" in name
    assert wrong == "its process was ended by signal 9"
    again = comparison.study_jobs(study, "study")
    assert [comparison.is_done(job.recipe, job.folder) for job in again] == [True, False]


# A process that forks studies and kills them, so that the imports are paid for once; the ways of evaluation are fixed,
# so that the bits are.
KILLER = """
import json, os, signal, sys, time, traceback
import torch
torch.set_num_threads(1)
import topolandscape.landscape.network, topolandscape.topology.merge, topolandscape.topology.persistence
import topolandscape.study.runs as runs
import topolandscape as tl
runs._plans = lambda landscape, route: {
    kind: {"form": "wide", "chunk": 16, "rows": 1} for kind in ("values", "gradients", "products")
}

def begun(folder):
    child = os.fork()
    if child == 0:
        try:
            tl.run_study(tl.Study(json.loads(sys.argv[1])), folder, progress=False)
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
for share in (0.2, 0.4, 0.3):
    child = begun("killed")
    time.sleep(share * whole)
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
assert ended(begun("killed")) == 0
"""


@pytest.mark.slow
def test_a_killed_study_ends_with_the_same_table(tmp_path):
    settings = SMALL | {"model": "mlp:2-2-1,tanh"}
    command = [sys.executable, "-c", KILLER, json.dumps(settings)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    study = tl.Study(settings)
    one, other = (table_csv(tl.run_study(study, tmp_path / name, progress=False)) for name in ("whole", "killed"))
    assert one == other
    assert len(one.splitlines()) == 3


@pytest.mark.slow
def test_children_end_with_the_process_that_began_them(tmp_path):
    slow = SMALL | {"model": "mlp:2-8-1,tanh", "steps": 10**6, "seed": [0, 1]}
    program = (
        "import json, sys, topolandscape as tl\n"
        "tl.run_study(tl.Study(json.loads(sys.argv[1])), sys.argv[2], jobs=2, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, json.dumps(slow), str(tmp_path)])

    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("manifest.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    children = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    assert len(children) == 2
    assert psutil.wait_procs(children, timeout=10)[1] == []


# --------------------------------------------------------------------------------------------------------------
# Forecast
# --------------------------------------------------------------------------------------------------------------


def test_a_span_in_words():
    assert str(Span(20, 100)) == "between 20 and 100 s"
    assert str(Span(119, 121)) == "about 2 min"
    assert str(Span(3600, 7200)) == "between 1 and 2 h"
    assert str(Span(600, INF)) == "more than 10 min"


def test_forecast_from_runs_that_are_done():
    study = tl.Study(SMALL | {"seed": list(range(6))})
    every = comparison.study_jobs(study, "nowhere")
    groups = list(dict.fromkeys(job.group for job in every))
    took = {groups[0]: [10.0, 14.0, 12.0], groups[1]: [100.0]}
    span, how = forecast(every[:6], took, 1)
    assert span == pytest.approx((6 * 10, 6 * 14))
    assert how == "from 4 runs that are done"
    assert remaining(every[6:8], took, 2) == pytest.approx((50, 150))
    assert remaining(every[6:8], {groups[0]: [12.0]}, 2) == pytest.approx((6, 18))  # of others nothing is known


@pytest.mark.usefixtures("_same_plans")
def test_forecast_before_the_first_run(tmp_path):
    study = tl.Study(SMALL | {"seed": 0})
    asked = comparison.cost_of_study(study, tmp_path, jobs=2)
    assert re.fullmatch(r"2 of 2 runs to do, 2 at once: between \d+ and \d+ (s|min), from a probe .*", asked)
    unlimited = {name: value for name, value in SMALL.items() if name != "evaluations"}
    assert "give evaluations or seconds" in comparison.cost_of_study(tl.Study(unlimited), tmp_path)
    assert list(tmp_path.iterdir()) == []
