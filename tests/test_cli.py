"""The command line as a user meets it: what it prints, writes and exits with."""

import json
import pickle
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape.cli import app

QUICK = ["--route", "sample", "--steps", "20", "--resolution", "9"]


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, list(arguments))


def test_from_a_model_to_a_barcode(invoke):
    result = invoke("barcode", "mlp:1-2-1", "sine_regression", *QUICK)
    assert result.exit_code == 0, result.output
    assert "LossSamples(81 points, 2 dimensions" in result.stdout
    assert "birth         death   persistence" in result.stdout
    folder = Path("runs/mlp-1-2-1_sine_regression_plane_seed0")
    for line in result.stdout.splitlines():
        if line.startswith("picture: "):
            assert Path(line.removeprefix("picture: ")).read_bytes()[:4] == b"\x89PNG"
    assert (folder / "barcode.npz").exists()

    again = invoke("barcode", "mlp:1-2-1", "sine_regression", *QUICK)
    assert again.stdout == result.stdout


MINIMA = ["mlp:2-2-1,tanh", "teacher_student", "--weight-decay", "1e-3", "--minima", "3", "--steps", "60"]


@pytest.fixture
def _same_plans(monkeypatch):
    """Leave out the search for the fastest way of evaluation."""
    plans = {kind: {"form": "wide", "chunk": 64, "rows": 1} for kind in ("values", "gradients", "products")}
    monkeypatch.setattr("topolandscape.study.runs._plans", lambda landscape, route: plans)


@pytest.mark.usefixtures("_same_plans")
def test_from_a_model_through_its_minima_to_a_barcode(invoke):
    result = invoke("barcode", *MINIMA)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mlp:2-2-1,tanh on teacher_student: MinimaNetwork(2 minima, ")
    assert " ".join(lines[1].split()) == (
        "minimum birth death length highest pass accuracy test index gradient stationary"
    )
    assert "3 descents ended in 2 different points" in lines
    assert "inf" in lines[2]
    assert any(line.startswith("their highest passes: ") for line in lines)
    assert "deaths are upper bounds: there may be lower passes that were not found" in lines
    folder = Path("runs/mlp-2-2-1-tanh_teacher_student_minima_seed0")
    assert [line for line in lines if line.startswith("picture: ")] == [
        f"picture: {folder / name}.png" for name in ("bars", "tree", "paths")
    ]
    assert lines[-1] == f"run:     {folder}"
    assert invoke("barcode", *MINIMA).stdout == result.stdout

    printed = json.loads(invoke("barcode", *MINIMA, "--json").stdout)
    assert printed["run"] == str(folder)
    assert len(printed["minima"]) == 2
    assert printed["minima"][0]["accuracy"] is None
    assert sum(printed["highest_passes"].values()) == len(printed["bars"]) - 1
    assert [bar["death"] for bar in printed["bars"]].count(None) == 1
    assert printed["bars"][0]["birth"] == min(minimum["loss"] for minimum in printed["minima"])
    again = json.loads(invoke("plot", str(folder), "--out", "drawn", "--format", "pdf", "--json").stdout)
    assert again["bars"] == printed["bars"]
    assert Path("drawn/paths.pdf").read_bytes()[:4] == b"%PDF"


@pytest.mark.usefixtures("_same_plans")
def test_from_the_constant_predictor_within_a_budget_and_on(invoke):
    asked = [*MINIMA, "--start", "constant", "--out", "run"]
    first = json.loads(invoke("barcode", *asked, "--evaluations", "0", "--json").stdout)
    begun = tl.Run.open("run").load("network", tl.MinimaNetwork)
    more = str(begun.provenance["evaluations"] + 1)
    then = json.loads(invoke("barcode", *asked, "--evaluations", more, "--json").stdout)
    network = tl.Run.open("run").load("network", tl.MinimaNetwork)
    assert then["settings"]["start"] == "constant"
    assert begun.provenance["start"] == network.provenance["start"] == "over_constant"
    assert (begun.provenance["round"], network.provenance["round"]) == (0, 1)
    assert 0 < begun.provenance["evaluations"] < network.provenance["evaluations"]
    assert then["modulo_symmetry"] is None
    for one, other in zip(first["bars"][1:], then["bars"][1:], strict=False):
        assert other["death"] <= one["death"]


@pytest.mark.usefixtures("_same_plans")
def test_copies_are_one_minimum_modulo_symmetry(invoke):
    """The student has as many units as the teacher: its minima are copies of one."""
    result = invoke("barcode", *MINIMA, "--modulo-symmetry", "--out", "run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mlp:2-2-1,tanh on teacher_student: MinimaNetwork(1 minimum, 0 passes)")
    assert "3 descents ended in 1 point" in lines
    assert "modulo symmetry, of 2 minima: 1 brought near by weights, 0 by activations, the others as they were" in lines
    printed = json.loads(invoke("barcode", *MINIMA, "--modulo-symmetry", "--out", "run", "--json").stdout)
    assert (printed["settings"]["modulo_symmetry"], len(printed["bars"])) == (True, 1)
    assert sorted(printed["modulo_symmetry"]["copies"]) == ["as it was", "weights"]
    assert printed["modulo_symmetry"]["symmetry"] == "Symmetry(2 units of linear1: permutations, signs)"


@pytest.mark.usefixtures("_same_plans")
def test_a_network_without_symmetries_says_so(invoke):
    network = ["mlp:2-1-1", "teacher_student", "--weight-decay", "1e-3", "--minima", "2", "--steps", "20"]
    result = invoke("barcode", *network, "--modulo-symmetry", "--start", "bent", "--evaluations", "0", "--merge", "0")
    assert result.exit_code == 0, result.output
    assert "no symmetries of the network were found: minima are joined as they are" in result.stdout.splitlines()
    (folder,) = Path("runs").iterdir()
    assert tl.Run.open(folder).load("network", tl.MinimaNetwork).provenance["start"] == "bent_paths"


@pytest.mark.usefixtures("_same_plans")
def test_a_last_layer_that_is_not_linear_is_refused_before_anything_is_computed(invoke):
    Path("own.py").write_text(
        "from torch.nn import Linear, Sequential, Tanh\ndef build(): return Sequential(Linear(2, 1), Tanh())\n"
    )
    result = invoke("barcode", "own.py:build", "teacher_student", "--start", "constant", "--out", "run")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "the last step of the module is 1 (Tanh); the way over the constant predictor needs" in result.stderr
    assert "descents" not in tl.Run.open("run")


@pytest.mark.usefixtures("_same_plans")
def test_minima_that_no_path_joins(invoke, monkeypatch):
    def nothing(landscape, start, recipe, progress):
        yield tl.MinimaNetwork(start, [], [], [], [], [])

    monkeypatch.setattr("topolandscape.study.minima_route._joining", nothing)
    result = invoke("barcode", *MINIMA)
    assert result.exit_code == 0, result.output
    assert "no path of finite loss was found between 2 groups of minima: 2 bars do not end" in result.stdout
    assert "paths.png" not in result.stdout


@pytest.mark.usefixtures("_same_plans")
def test_from_checkpoints(invoke):
    module = tl.zoo.network("mlp:2-2-1,tanh", seed=0)
    for k, factor in enumerate((1.0, 1e30, -1.0, -2.0)):
        torch.save({name: factor * part for name, part in module.state_dict().items()}, f"{k}.pt")
    network = ["mlp:2-2-1,tanh", "teacher_student", "--weight-decay", "1e-3", "--evaluations", "3000"]
    result = invoke("barcode", *network, "--checkpoints", "0.pt", "1.pt", "2.pt", "3.pt", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert "1 descent diverged and is left out: 1, counted from 0" in result.stdout
    (folder,) = Path("runs").iterdir()
    assert tl.Run.open(folder).settings["checkpoints"] == ["0.pt", "1.pt", "2.pt", "3.pt"]

    Path("1.pt").write_bytes(Path("0.pt").read_bytes())
    refused = invoke("barcode", *network, "--checkpoints", "0.pt", "1.pt", "2.pt", "3.pt", "--seed", "1")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
    assert "holds another run: its sources.1.pt is" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minima", "1"], "there is 1 descent; a network of minima needs at least two"),
        (["--checkpoints", "good.pt"], "there is 1 checkpoint; a network of minima needs at least two"),
        (["--checkpoints", "good.pt", "other.pt"], "other.pt"),
        (["--checkpoints", "good.pt", "list.pt"], "list.pt is no state of a module: it holds a list"),
        (["--checkpoints", "good.pt", "code.pt"], "code.pt"),
        (["--checkpoints", "good.pt", "missing.pt"], "there is no file missing.pt."),
        (["--route", "grid"], "route is 'grid'; it must be one of minima, sample"),
        (["--method", "newton"], "method is 'newton'; it must be one of adam, sgd, nesterov"),
    ],
)
def test_bad_input_on_the_way_through_minima(arguments, message, invoke):
    for name, network in {"good": "mlp:2-2-1,tanh", "other": "mlp:2-3-1,tanh"}.items():
        torch.save(tl.zoo.network(network, seed=0).state_dict(), f"{name}.pt")
    torch.save([1, 2], "list.pt")
    Path("code.pt").write_bytes(pickle.dumps(Fraction(1, 2)))
    result = invoke("barcode", "mlp:2-2-1,tanh", "teacher_student", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolution", "9"], "--resolution belongs to the route sample, and the route is minima"),
        (["--route", "minima", "--region", "box"], "--region belongs to the route sample"),
        (["--region", "box", "--warm-up", "0"], "--warm-up belongs to the route minima, and the route is sample"),
        (["--route", "sample", "--checkpoints", "a.pt"], "--checkpoints belongs to the route minima"),
        (["a.pt"], "there is no argument 'a.pt'; files of checkpoints come after --checkpoints"),
    ],
)
def test_an_option_of_the_other_route_is_wrong_usage(arguments, message, invoke):
    result = invoke("barcode", "mlp:2-2-1,tanh", "teacher_student", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_json_is_all_that_is_printed(invoke):
    result = invoke("barcode", "mlp:1-2-1", "sine_regression", *QUICK, "--out", "here", "--json")
    printed = json.loads(result.stdout)
    assert printed["run"] == "here"
    assert printed["points"] == 81
    assert printed["bars"][0]["death"] is None
    assert printed["settings"]["seed"] == 0
    assert len(printed["trained"]) == 3
    assert all(Path(picture).exists() for picture in printed["pictures"])

    plotted = json.loads(invoke("plot", "here", "--out", "drawn", "--format", "pdf", "--json").stdout)
    assert plotted["bars"] == printed["bars"]
    assert Path("drawn/contour.pdf").read_bytes()[:4] == b"%PDF"


def test_a_run_of_ones_own_is_drawn(invoke):
    """A run kept from Python has settings of its own, and no recipe."""
    own = tl.zoo.functions["himmelblau"].on_grid((41, 41))
    complex = tl.grid(own, connectivity="full")
    kept = tl.Run.create("own", {"what": "Himmelblau's function"})
    for name, noun in {"samples": own, "tree": tl.merge_tree(complex), "barcode": tl.barcode(complex)}.items():
        kept.save(name, noun)
    result = invoke("plot", "own")
    assert result.exit_code == 0, result.output
    assert "LossSamples(1681 points" in result.stdout
    assert Path("own/contour.png").exists()
    assert json.loads(invoke("plot", "own", "--json").stdout)["topology"] is None


def test_functions(invoke):
    listed = invoke("functions")
    assert "three_hump_camel" in listed.stdout
    assert "[0.298638, 0.877362)" in listed.stdout
    assert json.loads(invoke("functions", "--json").stdout)["three_hump_camel"][0] == [0.0, None]

    computed = json.loads(invoke("functions", "three_hump_camel", "--resolution", "201", "--json").stdout)
    assert [bar["death"] for bar in computed["bars"]] == pytest.approx([None, 0.8773615578, 0.8773615578], abs=5e-3)
    shown = invoke("functions", "quartic")
    assert "exact:" in shown.stdout
    assert "0.00250631" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["barcode", "mlp:1-2-1,tahn", "iris"], "tanh"),
        (["barcode", "mlp:1-2-1", "iriss"], "Did you mean iris"),
        (["barcode", "mlp:1-2-1", "iris"], "cannot take inputs of shape"),
        (["barcode", "missing.py:build", "iris"], "there is no file missing.py."),
        (["plot", "nowhere"], "there is no run at nowhere."),
        (["functions", "himmelblua"], "Did you mean himmelblau?"),
        (["functions", "himmelblau", "--resolution", "1"], "1"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(arguments, message, invoke):
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("topolandscape: ")
    assert message in line


def test_a_folder_that_holds_something_else(invoke):
    invoke("barcode", "mlp:1-2-1", "sine_regression", *QUICK, "--out", "here")
    other = invoke("barcode", "mlp:1-2-1", "sine_regression", *QUICK, "--seed", "1", "--out", "here")
    assert other.exit_code == 1
    assert "here holds another run" in other.stderr
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    result = invoke("barcode", "mlp:1-2-1", "sine_regression", *QUICK, "--out", "full")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert [path.name for path in Path("full").iterdir()] == ["notes.txt"]


def test_wrong_usage_is_exit_code_2(invoke):
    assert invoke("barcode").exit_code == 2
    assert invoke("barcode", "mlp:1-2-1", "iris", "--seed", "one").exit_code == 2
    assert invoke("barcodes").exit_code == 2


@pytest.mark.slow
def test_interrupted_from_the_keyboard_and_gone_on(tmp_path):
    """Ctrl-C in the middle of sampling: one line, exit code 130, no half file, and the same command finishes."""
    # Programs in the background of a shell begin with this signal ignored.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [
        *(sys.executable, "-c", f"{heeding}; from topolandscape.cli import main; main()"),
        *(
            "barcode",
            "mlp:64-64-64-10",
            "digits",
            "--region",
            "plane",
            "--steps",
            "2",
            "--resolution",
            "201",
            "--out",
            "run",
        ),
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if list((tmp_path / "run").rglob("*.npy")):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert err.splitlines()[-1].startswith("topolandscape: stopped; what was computed is kept")
    assert not list(tmp_path.rglob("*.partial"))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert kept

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "persistence" in done.stdout
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
