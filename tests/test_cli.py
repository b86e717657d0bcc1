"""The command line as a user meets it: what it prints, writes and exits with."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
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
    command = [
        *(sys.executable, "-c", "from topolandscape.cli import main; main()"),
        *(
            "barcode",
            "mlp:64-64-64-10",
            "digits",
            "--region",
            "plane",
            "--steps",
            "2",
            "--resolution",
            "31",
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
