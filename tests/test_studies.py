"""Studies: what they compute, what is wrong with a file, that they go on, and what they write."""

import csv
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import psutil
import pytest
from scipy.stats import kendalltau, spearmanr
from typer.testing import CliRunner

import topolandscape as tl
import topolandscape.study.comparison as comparison
import topolandscape.study.jobs as jobs
from topolandscape.cli import app
from topolandscape.files import Run
from topolandscape.structures import Minima, MinimaNetwork
from topolandscape.study import MEASURES
from topolandscape.study.forecast import Span, forecast, remaining
from topolandscape.study.measures import scores
from topolandscape.study.report import table_csv
from topolandscape.study.report_pictures import _factor, phases, picture
from topolandscape.study.statistics import correlations, differences, interval
from topolandscape.study.studies import folder_name

INF = float("inf")
SMALL = {
    "model": ["mlp:2-1-1,tanh", "mlp:2-2-1,tanh"],
    "data": "teacher_student",
    "weight_decay": 1e-3,
    "minima": 2,
    "steps": 20,
    "evaluations": 100,
    "max_evaluations": 50,
    "seed": [0, 1],
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def _same_plans(monkeypatch):
    """Leave out the search for the fastest way of evaluation."""
    plans = {kind: {"form": "wide", "chunk": 64, "rows": 1} for kind in ("values", "gradients", "products")}
    monkeypatch.setattr("topolandscape.study.runs._plans", lambda landscape, route: plans)


def finished(folder, bars, *, model="a", seed=0, errors=None, trained=-1, **settings):
    """Return a run as if it had been computed: a network of minima, all joined to the lowest, with these bars."""
    births, deaths = np.array(bars, dtype=float).T
    run = Run.create(folder, {"model": model, "data": "digits", "seed": seed, "route": "minima"} | settings)
    m = len(births)
    points = np.arange(m, dtype=float)[:, None]
    accuracy = np.full(m, np.nan) if errors is None else 1 - np.array(errors)
    minima = Minima(
        points, births, [0.0] * m, [[1.0]] * m, [0] * m, ["minimum"] * m, accuracy=accuracy, test_accuracy=accuracy
    )
    lowest, others = births.argmin(), np.flatnonzero(births > births.min())
    ends = [[lowest, row] for row in others]
    paths = [points[pair] for pair in ends]
    words = ["path maximum"] * (m - 1)
    network = MinimaNetwork(minima, ends, deaths[others], words, points[others], paths, trained=trained)
    run.save("network", network)
    run.save("barcode", tl.barcode(network.reduced()))
    return run


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


# --------------------------------------------------------------------------------------------------------------
# What is measured
# --------------------------------------------------------------------------------------------------------------


def test_scores_of_a_run(tmp_path):
    run = finished(tmp_path, [(0.0, INF), (1.0, 3.0), (1.5, 2.0), (2.0, 2.0)], errors=[0.1, 0.2, 0.3, 0.4])
    row = scores(run)
    assert row["minima"] == 4
    assert row["mean_bar"] == pytest.approx((2 + 0.5 + 0) / 3)
    assert row["longest_bar"] == 2
    assert row["total_persistence"] == pytest.approx(2.5)
    assert row["lowest_loss"] == 0
    assert row["test_error"] == pytest.approx(0.25)
    assert row["generalisation_gap"] == pytest.approx(0)
    assert np.isnan(row["relative_bar"])
    run.once("ceiling", lambda: 4.0)
    assert scores(run)["relative_bar"] == pytest.approx(row["mean_bar"] / 4)


def test_a_minimum_met_on_the_way_ends_bars_and_has_none_of_its_own(tmp_path):
    bars = [(1.0, 3.0), (1.5, 2.0), (2.0, 2.0), (1.9, 5.0), (0.5, INF)]
    row = scores(finished(tmp_path, bars, trained=3))
    assert row["minima"] == 3
    assert row["mean_bar"] == pytest.approx((2 + 0.5 + 0) / 3)
    assert row["to_score"] == pytest.approx((2 + 0.5) / 2)


def test_measures_are_those_of_the_trained_minima(tmp_path, monkeypatch):
    """Against the functions themselves, at the minima that the run holds."""
    plans = {k: {"form": "wide", "chunk": 16, "rows": 1} for k in ("values", "gradients", "products", "accuracies")}
    monkeypatch.setattr("topolandscape.study.runs._plans", lambda landscape, route: plans)
    settings = SMALL | {"model": "mlp:2-3-2,tanh", "data": "two_moons", "minima": 3, "seed": 0, "weight_decay": 1e-2}
    result = tl.run_study(tl.Study(settings, measures=tuple(MEASURES)), tmp_path, progress=False)
    (row,), (run,) = result.rows, result.runs
    network = run.load("network", MinimaNetwork)
    points = network.minima.points[: network.trained]
    data = tl.zoo.dataset("two_moons")
    import torch

    def landscape(inputs, targets):
        module = tl.zoo.network("mlp:2-3-2,tanh", seed=0)
        return tl.Landscape.from_module(
            module, inputs, targets, loss=torch.nn.functional.cross_entropy, weight_decay=1e-2
        )

    train, test = landscape(data.inputs, data.targets), landscape(data.test_inputs, data.test_targets)
    apart = [np.linalg.norm(points[i] - points[j]) for i in range(len(points)) for j in range(i)]
    assert row["distance"] == pytest.approx(np.mean(apart))
    assert row["test_loss"] == pytest.approx(test.values(points).mean(), rel=1e-5)
    assert row["train_error"] == pytest.approx(1 - train.accuracies(points)[1].mean())
    assert row["test_error"] == pytest.approx(1 - test.accuracies(points)[1].mean())
    assert row["generalisation_gap"] == pytest.approx(row["test_error"] - row["train_error"])
    hessians = [np.linalg.eigvalsh(h) for h in tl.landscape.curvature.hessians(train, points)]
    assert row["hessian_top"] == pytest.approx(np.mean([h[-1] for h in hessians]), rel=1e-3)
    assert row["hessian_trace"] == pytest.approx(np.mean([h.sum() for h in hessians]), rel=0.1)
    classes = tl.network_outputs(test, points, data.test_inputs).argmax(2)
    different = [(classes[i] != classes[j]).mean() for i in range(len(points)) for j in range(i)]
    assert row["disagreement"] == pytest.approx(np.mean(different))
    assert 0 < row["cka"] <= 1
    assert -1 <= row["mode_connectivity"] <= 1


def test_unfinished_and_unknown_runs(tmp_path):
    Run.create(tmp_path / "begun", {"seed": 0})
    with pytest.raises(FileNotFoundError, match="has no barcode: the run is unfinished"):
        tl.compare_runs([tmp_path / "begun"])
    with pytest.raises(FileNotFoundError, match="there is no run at"):
        tl.compare_runs([tmp_path / "nothing"])
    finished(tmp_path / "one", [(0.0, INF), (1.0, 3.0)])
    with pytest.raises(ValueError, match="is given twice; give it once"):
        tl.compare_runs([tmp_path / "one", tmp_path / "begun" / ".." / "one"])


# --------------------------------------------------------------------------------------------------------------
# What it says
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_groups(tmp_path):
    """Make groups a and b alike, c with far longer bars, and bars that rise with the error of their minimum."""
    folders = []
    rng = np.random.default_rng(0)
    for model, length in (("a", 1.0), ("b", 1.0), ("c", 5.0)):
        for seed in range(5):
            births = np.array([0.0, 0.5, 0.6])
            lengths = length * (1 + 0.1 * rng.random(2))
            bars = list(zip(births, np.r_[INF, births[1:] + lengths], strict=True))
            errors = np.r_[0.01, lengths / 10]
            folders.append(tmp_path / f"{model}{seed}")
            finished(folders[-1], bars, model=model, seed=seed, errors=errors)
    return folders


def test_groups_are_told_apart_where_they_differ(three_groups):
    result = tl.compare_runs(three_groups)
    assert result.groups == ("a",) * 5 + ("b",) * 5 + ("c",) * 5
    found = {(d.one, d.other): d for d in differences(result, "mean_bar")}
    # Of the 252 ways to divide ten runs two are as extreme.
    assert found["a", "c"].p == pytest.approx(2 / 252)
    assert found["a", "c"].corrected == pytest.approx(3 * 2 / 252)
    assert found["a", "c"].effect == -1
    assert -5 < found["a", "c"].shift.low < -4 < found["a", "c"].shift.high < -3.5
    assert found["a", "b"].corrected > 0.05
    assert [(d.one, d.other) for d in differences(result, "mean_bar", against="first")] == [("a", "b"), ("a", "c")]
    said = tl.study.report.verdict(result)
    means = {group: result.of_group(group, "mean_bar").mean() for group in "ab"}
    best, other = sorted(means, key=means.get)
    assert said == (
        f"lowest mean bar: {best}, lower than that of c (p < 0.05 after correction), "
        f"not told apart from that of {other}"
    )
    alone = tl.study.report.verdict(tl.compare_runs(three_groups[4:6]))
    assert re.fullmatch(r"lowest mean bar: (a|b), not compared with that of (a|b)", alone)


def test_correlations_are_those_of_scipy(three_groups):
    result = tl.compare_runs(three_groups)
    found = {(c.name, c.over): c for c in correlations(result)}
    bars, errors = ([row[name] for row in result.rows] for name in ("mean_bar", "test_error"))
    one = found["mean_bar", "runs"]
    assert (one.n, one.spearman, one.kendall) == pytest.approx(
        (15, spearmanr(bars, errors).statistic, kendalltau(bars, errors).statistic)
    )
    # Each bar is in proportion to the error of its minimum; the one that never ends does not count.
    own = found["bar of a minimum", "minima of a"]
    assert (own.n, own.spearman, own.kendall) == pytest.approx((10, 1, 1))
    assert ("lowest_loss", "runs") not in found  # the same for all


def test_four_runs_in_order_prove_little(tmp_path):
    """One of the 24 orders, and its reverse."""
    for seed in range(4):
        finished(tmp_path / f"{seed}", [(0.0, INF), (1.0, 2.0 + seed)], seed=seed, errors=[0.1, 0.1 + seed / 100])
    (one,) = (c for c in correlations(tl.compare_runs(sorted(tmp_path.iterdir()))) if c.name == "mean_bar")
    assert (one.spearman, one.spearman_p, one.kendall_p) == pytest.approx((1, 2 / 24, 2 / 24))


def test_an_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(1, 2, 5)) for _ in range(2000)]
    covered = [one.low <= 1.0 <= one.high for one in found]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


class Tags(HTMLParser):
    """All tags of a page, and what they refer to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]


def test_the_report_needs_nothing_else(three_groups, tmp_path):
    run = finished(tmp_path / "bad", [(0.0, INF), (1.0, 9.0)], model="<script>alert(1)</script>")
    result = tl.compare_runs([*three_groups, run.path])
    written = tl.write_report(result, tmp_path / "out")
    assert [path.name for path in written] == ["report.html", "table.csv", "table.tex", "picture.png"]
    text = written[0].read_text()
    page = Tags(text)
    assert "script" not in page.tags
    assert [source[:22] for source in page.sources] == ["data:image/png;base64,"]
    assert not re.search(r"https?://|url\(|@import", text)
    assert 'name="viewport"' in text
    assert "lowest mean bar: " in text.lower()
    rows = list(csv.DictReader(written[1].read_text().splitlines()))
    assert len(rows) == 16
    assert float(rows[0]["mean_bar"]) == result.rows[0]["mean_bar"]
    table = written[2].read_text()
    assert table.count(r"\\") == 5
    assert re.search(r"^a & 5 & .*\$1\.0\d+ \\pm 0\.0\d+\$", table, re.MULTILINE)
    assert tl.study.report._tex_number("4.2e-05 ± 1e+06") == r"4.2 \cdot 10^{-5} \pm 1 \cdot 10^{6}"
    assert written[3].read_bytes()[:4] == b"\x89PNG"
    frame = result.table()
    assert frame["mean_bar"].tolist() == [row["mean_bar"] for row in result.rows]
    assert list(frame.columns) == list(result.columns())


def test_phases_are_means_over_seeds(tmp_path):
    folders = []
    for model in ("a", "b"):
        for batch in (10, 20):
            for seed in (0, 1):
                length = batch + seed + (100 if model == "b" else 0)
                folders.append(tmp_path / f"{model}{batch}{seed}")
                finished(folders[-1], [(0.0, INF), (1.0, 1.0 + length)], model=model, seed=seed, batch=batch)
    result = tl.compare_runs(folders)
    assert set(result.varied) == {"model", "batch"}
    assert phases(result, "mean_bar") is None  # only a study says which axis is which
    known = comparison.StudyResult(result.groups, result.runs, result.varied, load="model", temperature="batch")
    (ax,) = phases(known, "mean_bar").axes[:1]
    assert [text.get_text() for text in ax.texts] == ["10.5", "110", "20.5", "120"]
    assert "phases.png" in [path.name for path in tl.write_report(known, tmp_path / "out")]


def test_the_command_compares_runs(three_groups, tmp_path):
    invoke = CliRunner().invoke
    folders = [str(folder) for folder in three_groups]
    result = invoke(app, ["compare", *folders, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert re.split(r"  +", lines[0]) == ["group", "runs", "mean bar", "longest bar", "train error", "test error"]
    assert all(re.search(r"^[abc] +5 +\d\.\d+ ± ", line) for line in lines[1:4])
    assert any(line.startswith("a - c ") and "0.0079" in line and "-1.00" in line for line in lines)
    printed = json.loads(invoke(app, ["compare", *folders, "--out", str(tmp_path / "out"), "--json"]).stdout)
    assert printed["groups"]["a"]["runs"] == 5
    assert len(printed["differences"]) == 3
    assert printed["runs"][0]["hessian_top"] is None
    wrong = invoke(app, ["compare", *folders, "--score", "cka"])
    assert (wrong.exit_code, wrong.stderr.splitlines()[-1][:42]) == (1, "topolandscape: cka is not known of any run")
    assert invoke(app, ["compare", "study.toml", folders[0]]).exit_code == 2
    assert invoke(app, ["compare", folders[0], "--forecast"]).exit_code == 2


@pytest.mark.parametrize(
    ("models", "factor", "values"),
    [
        (["mlp:64-8-10,tanh", "mlp:64-32-10,tanh"], "width", [8, 32]),
        (["conv:1x8x8-4-10", "conv:1x8x8-4-4-4-10"], "depth", [1, 3]),
        (["mlp:64-8-8-10", "mlp:64-16-16-10", "mlp:64-32-32-10"], "width", [8, 16, 32]),
        (["mlp:64-8-10,tanh", "mlp:64-32-10"], None, None),
        (["mlp:64-8-10", "mlp:64-16-16-10"], None, None),
        (["mlp:64-16-8-10", "mlp:64-16-16-10"], None, None),
        (["linear:64-8-10", "mlp:64-16-10"], None, None),
        (["net.py:wide", "net.py:narrow"], None, None),
    ],
)
def test_what_is_varied_as_a_number(models, factor, values, tmp_path):
    runs = tuple(finished(tmp_path / str(i), [(0.0, INF), (1.0, 2.0)], model=name) for i, name in enumerate(models))
    found = _factor(tl.StudyResult(tuple(models), runs, ("model",)))
    assert found == (None if factor is None else (factor, dict(zip(models, values, strict=True))))


def test_a_number_that_is_varied_is_an_axis(tmp_path):
    runs, groups = [], []
    for decay in (1e-3, 1e-2, 1e-1):
        for seed in range(3):
            bars = [(0.0, INF), (1.0, 2.0 + seed - np.log10(decay))]
            runs.append(finished(tmp_path / f"{decay} {seed}", bars, seed=seed, weight_decay=decay))
            groups.append(f"weight_decay {decay}")
    result = tl.StudyResult(tuple(groups), tuple(runs), ("weight_decay",))
    _, lower = picture(result, "mean_bar").axes
    assert (lower.get_xlabel(), lower.get_xscale()) == ("weight decay", "log")
    (curve,) = (line for line in lower.lines if line.get_label() == "mean bar")
    np.testing.assert_allclose(curve.get_xdata(), [1e-3, 1e-2, 1e-1])
    np.testing.assert_allclose(curve.get_ydata(), [5.0, 4.0, 3.0])  # 1 + mean seed - log10(decay)
