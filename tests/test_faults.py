"""Full disks, damaged files, files made to do harm: one line, and nothing that was there is lost."""

import errno
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from test_files import nouns
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape import cli, zoo
from topolandscape.explore.live import live, recipe_of
from topolandscape.files import Run, load, locked, read_surface, save
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Barcode, journal
from topolandscape.study import Recipe, measures, run
from topolandscape.study.problem import problem
from topolandscape.study.runs import is_done

BARS, OTHER = Barcode.from_pairs([(0.0, 1.0)]), Barcode.from_pairs([(0.0, 2.0)])
FAULTS = Path(__file__).parents[1] / "benchmarks" / "faults.py"
OWN = "import pathlib, torch\ndef build():\n    pathlib.Path('was_run').touch()\n    return torch.nn.Linear(2, 1)\n"


@pytest.fixture
def kept(tmp_path):
    """Return a run that holds a barcode and losses."""
    done = Run.create(tmp_path / "run", {"seed": 0})
    done.save("barcode", BARS)
    return done


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Return a finished run of which the model is a Python file."""
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text(OWN)
    recipe = Recipe(model="model.py:build", data="teacher_student", minima=2, steps=5, evaluations=100)
    done = run(recipe, "run", progress=False, plans={"values": {"form": "wide", "chunk": 16, "rows": 200}})
    Path("was_run").unlink()
    return done


def in_one_line(*words):
    """Give a command that fails, and return the line that it says."""
    said = CliRunner().invoke(cli.app, [str(word) for word in words])
    lines = [line for line in said.stderr.splitlines() if line]
    assert (said.exit_code, len(lines)) == (1, 1), said.stderr
    return lines[0]


def sealed(folder, **changes):
    """Write another manifest, with the checksum that belongs to it."""
    from topolandscape.files.manifest import sealed as sealing

    told = json.loads((folder / "manifest.json").read_text())
    told.pop("sha256")
    (folder / "manifest.json").write_bytes(sealing(told | changes))


# --------------------------------------------------------------------------------------------------------------
# Where nothing can be written
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, r"no room to write .*No space left on device.* before is whole\. Make room, and give the same"),
        (errno.EROFS, r"barcode\.npz cannot be written .*Read-only file system.*; choose another folder\."),
    ],
)
@pytest.mark.parametrize("at", ["os.fsync", "os.replace"])
def test_a_disk_that_is_full_or_read_only(kept, monkeypatch, code, words, at):
    before = {path: path.read_bytes() for path in kept.path.iterdir() if path.name != "manifest.json"}

    def fails(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(at, fails)
        with pytest.raises(OSError, match=words.replace("barcode", "(barcode|manifest)").replace("npz", "(npz|json)")):
            kept.save("barcode", OTHER)
    assert before.items() <= {path: path.read_bytes() for path in kept.path.iterdir()}.items()
    assert not list(kept.path.glob(".*.partial"))
    assert Run.open(kept.path).load("barcode", Barcode).death[0] == 1.0
    kept.save("barcode", OTHER)
    assert Run.open(kept.path).load("barcode", Barcode).death[0] == 2.0


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", fails)
    with pytest.raises(OSError, match=r"cannot be kept for one process \(No locks"), locked(tmp_path):
        pass


def test_memory_that_runs_out_is_one_line(tmp_path, monkeypatch):
    np.save(tmp_path / "surface.npy", [0.0, 1.0])

    def fails(*_, **__):
        raise MemoryError("Unable to allocate 7 PiB")

    monkeypatch.setattr(cli, "run_surface", fails)
    said = in_one_line("barcode", tmp_path / "surface.npy")
    assert said == "topolandscape: Unable to allocate 7 PiB: memory ran out. What was computed is kept; ask for less."


def test_an_error_that_nobody_foresaw_is_one_line(tmp_path, monkeypatch):
    np.save(tmp_path / "surface.npy", [0.0, 1.0])
    monkeypatch.setattr(cli, "run_surface", lambda *_, **__: {}["bars"])
    assert in_one_line("barcode", tmp_path / "surface.npy").startswith("topolandscape: KeyError: 'bars'")


def test_no_module_asks_what_time_it_is():
    """A clock that jumps changes nothing: durations are those of the monotonic clock, times of files are not read."""
    clocks = re.compile(r"\btime\.time\(|\bdatetime\b|\blocaltime\b|\bgetmtime\b|\bst_mtime\b")
    files = list(Path(tl.__file__).parent.rglob("*.py"))
    assert [path.name for path in files if clocks.search(path.read_text())] == []
    assert any("time.monotonic(" in path.read_text() for path in files)


# --------------------------------------------------------------------------------------------------------------
# What is kept on the way
# --------------------------------------------------------------------------------------------------------------


class Stopped(Exception):
    """Somebody ends the computation."""


def test_a_sampled_hull_keeps_its_descents_and_the_losses_on_its_edges(tmp_path, monkeypatch):
    recipe = Recipe(
        model="mlp:2-2-1,tanh", data="teacher_student", route="sample", region="hull", starts=2, steps=6, points=40
    )
    monkeypatch.setattr(journal, "_KEEP_AFTER", 0.0)
    monkeypatch.setattr(journal, "_KEEP_SHARE", np.inf)
    plans = {kind: {"form": "wide", "chunk": 16, "rows": 200} for kind in ("values", "gradients")}
    whole = run(recipe, tmp_path / "whole", plans=plans, progress=False).load("barcode", Barcode)
    asked, stops = [], 0
    gradients, values_of = Landscape.gradients, Landscape.values_of

    def ask(what):
        asked.append(what)
        if len(asked) > 2:
            raise Stopped

    def asked_gradients(self, points, **options):
        ask(points)
        return gradients(self, points, **options)

    def asked_values_of(self, parts):
        for place, losses in values_of(self, parts):
            ask(losses)
            yield place, losses

    monkeypatch.setattr(Landscape, "gradients", asked_gradients)
    monkeypatch.setattr(Landscape, "values_of", asked_values_of)
    while stops < 20:
        asked.clear()
        try:
            stopped = run(recipe, tmp_path / "stopped", plans=plans, progress=False)
            break
        except Stopped:
            stops += 1
    # Six steps, losses of the points, and of three points on each edge, two at a time.
    assert 4 <= stops < 20
    for column in Barcode.columns:
        assert np.array_equal(getattr(whole, column), getattr(stopped.load("barcode", Barcode), column))


def test_measures_of_many_gradients_are_kept_part_by_part(tmp_path, monkeypatch):
    recipe = Recipe(model="mlp:2-2-1,tanh", data="teacher_student", minima=4, steps=20, evaluations=100)
    done = run(recipe, tmp_path / "run", progress=False)
    monkeypatch.setattr(measures, "_PART", 1.0)
    of, seen = measures.MEASURES["hessian_trace"].of, []
    from topolandscape.landscape import spectrum

    trace = spectrum.hessian_trace

    def stops(landscape, points, **options):
        seen.append(len(points))
        if len(seen) == 3:
            raise Stopped
        return trace(landscape, points, **options)

    monkeypatch.setattr(spectrum, "hessian_trace", stops)
    with pytest.raises(Stopped):
        measures.measure(done, recipe, ("hessian_trace",))
    assert of is measures.MEASURES["hessian_trace"].of
    again = Run.open(done.path)
    measures.measure(again, recipe, ("hessian_trace",))
    minima = measures.trained_minima(again).points
    assert seen == [1] * (len(minima) + 1)
    alone = trace(problem(recipe).landscape().planned(again.known("plans")), minima, seed=0)[0]
    np.testing.assert_allclose(again.known("measure hessian_trace"), alone, rtol=1e-4)


# --------------------------------------------------------------------------------------------------------------
# Damaged files
# --------------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_of_a_manifest_is_believed(kept):
    kept.once("plans", lambda: {"values": {"chunk": 16}})
    file = kept.path / "manifest.json"
    data = file.read_bytes()
    for place in range(len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
        try:
            opened = Run.open(kept.path)
        except ValueError as error:
            said = str(error)
            assert str(kept.path) in said
            continue
        assert (opened.settings, opened.known("plans")) == (kept.settings, kept.known("plans"))
        assert opened.load("barcode", Barcode).death[0] == 1.0


@pytest.mark.parametrize("name", ["../barcode.npz", "/etc/passwd", "losses/../../x", "C:\\x.npz", "\\\\host\\x.npz"])
def test_a_manifest_that_names_a_file_elsewhere(kept, name):
    listed = json.loads((kept.path / "manifest.json").read_text())["files"]["barcode.npz"]
    sealed(kept.path, files={name: listed})
    with pytest.raises(ValueError, match=r"manifest\.json names .* which is not in the folder"):
        Run.open(kept.path)


def test_a_link_that_leads_out_of_a_run(kept, tmp_path):
    """Nothing is read or written through it."""
    (tmp_path / "elsewhere").mkdir()
    (kept.path / "losses").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "bars.npz").write_bytes((kept.path / "barcode.npz").read_bytes())
    (kept.path / "barcode.npz").unlink()
    (kept.path / "barcode.npz").symlink_to(tmp_path / "bars.npz")
    with pytest.raises(ValueError, match="leads out of the folder of the run"):
        kept.load("barcode", Barcode)
    landscape = Landscape.from_function(lambda x: (x**2).sum(1), 1)
    with pytest.raises(ValueError, match="leads out of the folder of the run"):
        kept.values(landscape, np.zeros((3, 1)))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_is_no_regular_file_is_not_waited_for(kept):
    (kept.path / "barcode.npz").unlink()
    os.mkfifo(kept.path / "barcode.npz")
    with pytest.raises(ValueError, match="is no regular file"):
        kept.load("barcode", Barcode)
    with pytest.raises(ValueError, match="is no regular file"):
        load("/dev/zero")


def test_files_that_are_too_large_are_not_read(kept, tmp_path):
    os.truncate(kept.path / "barcode.npz", 2**40)  # takes no room on the disk
    with pytest.raises(ValueError, match=r"barcode\.npz is damaged: it holds 1099511627776 bytes, and should hold"):
        kept.load("barcode", Barcode)
    with pytest.raises(MemoryError, match="more than half of the memory"):
        load(kept.path / "barcode.npz")
    os.truncate(kept.path / "manifest.json", 2**40)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged: it holds"):
        Run.open(kept.path)


@pytest.mark.parametrize("noun", nouns()[::3], ids=lambda noun: type(noun).__name__)
def test_parts_that_do_not_belong_together(noun, tmp_path):
    file = tmp_path / "noun.npz"
    save(file, noun)
    with np.load(file) as stored:
        arrays = dict(stored)
    for name in arrays.keys() - {"header"}:
        np.savez(file, **arrays | {name: np.zeros((2, 3, 4, 5))})
        with pytest.raises(ValueError, match=r"noun\.npz is damaged, or was not written by topolandscape"):
            load(file)
    np.savez(file, **arrays | {"nobody": np.zeros(3)})
    with pytest.raises(ValueError, match="damaged"):
        load(file)


# --------------------------------------------------------------------------------------------------------------
# Files made to fill memory
# --------------------------------------------------------------------------------------------------------------


def announcing(shape, dtype="<f8"):
    """Return an npy file that announces an array of a shape and holds eight numbers."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(64)


def bomb(name, megabytes=80):
    """Return an archive of which an entry unfolds to a thousand times its size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, bytes(megabytes * 2**20))
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(10**12,), (2**31, 2**31, 2**31), (9,), (-1, 8), (0, 10**30)])
def test_arrays_that_are_not_there_take_no_memory(tmp_path, shape):
    (tmp_path / "surface.npy").write_bytes(announcing(shape))
    with pytest.raises(ValueError, match=r"surface\.npy"):
        read_surface(tmp_path / "surface.npy")
    with zipfile.ZipFile(tmp_path / "noun.npz", "w") as archive:
        archive.writestr("header.npy", announcing(shape))
    with pytest.raises(ValueError, match=r"noun\.npz is damaged"):
        load(tmp_path / "noun.npz")


def test_archives_that_unfold_too_far(tmp_path):
    (tmp_path / "surface.npz").write_bytes(bomb("loss.npy"))
    with pytest.raises(ValueError, match=r"surface\.npz announces 83886080 bytes, and at most 67108864 are believed"):
        read_surface(tmp_path / "surface.npz")
    (tmp_path / "noun.npz").write_bytes(bomb("header.npy"))
    with pytest.raises(ValueError, match=r"noun\.npz is damaged"):
        load(tmp_path / "noun.npz")
    landscape = Landscape.from_module(
        torch.nn.Linear(1, 1), torch.zeros(2, 1), torch.zeros(2, 1), loss=torch.nn.functional.mse_loss
    )
    with pytest.raises(ValueError, match=r"model\.pt announces 83886080 bytes and holds .* torch\.save\(\) compresses"):
        tl.checkpoints(landscape, {"model.pt": bomb("archive/data.pkl")})


def test_an_entry_that_is_there_many_times(tmp_path):
    """Entries of the directory that all name the same bytes: each is small, all together are not."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("loss.npy", announcing((8,)) + bytes(10**6))
        first = archive.infolist()[0]
        for number in range(100):
            other = zipfile.ZipInfo(f"loss{number}.npy")
            for name in ("header_offset", "compress_size", "file_size", "CRC"):
                setattr(other, name, getattr(first, name))
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other
        archive._didModify = True
    (tmp_path / "surface.npz").write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match="and at most"):
        read_surface(tmp_path / "surface.npz", key="loss")


def test_surfaces_that_lead_elsewhere(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["losses"] = np.zeros(3)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["xcoordinates"] = np.zeros(3)
        file["train_loss"] = h5py.ExternalLink("secret.h5", "losses")
    with pytest.raises(ValueError, match="has no 'train_loss'"):
        read_surface(tmp_path / "links.h5")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["xcoordinates"] = np.zeros(3)
        file.create_dataset("train_loss", (3,), "f8", external=[(str(tmp_path / "secret.h5"), 0, 24)])
    with pytest.raises(ValueError, match="keeps train_loss in another file"):
        read_surface(tmp_path / "outside.h5")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file["xcoordinates"] = np.zeros(3)
        file.create_dataset("train_loss", (10**12,), "f8", chunks=(10**6,))
    with pytest.raises(ValueError, match="announces 8000000000024 bytes, and at most"):
        read_surface(tmp_path / "huge.h5")


def test_json_that_nobody_writes(kept):
    for text in ("[" * 10**5, '{"format": "topolandscape run", "format": "x"}', "1" * 5000, '"\\ud800', "null"):
        (kept.path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
            Run.open(kept.path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = " + "[" * 10**4, "is nested too deeply"),
        (f"seed = {'1' * 5000}", "cannot be read"),
        (f"learning_rate = {'1' * 400}", "learning_rate is too large a number"),
        (
            f'model = "mlp:2-2-1"\ndata = "iris"\nseed = {list(range(400))}\nsteps = {list(range(1, 401))}',
            "160000 runs",
        ),
        ('model = "mlp:100000-100000"\ndata = "iris"', "1e+10 parameters; at most 1e+09"),
        ('model = "conv:1x9x9-99999999999-9999999999-1"\ndata = "iris"', "parameters; at most"),
        ("model = 2024-01-01", "model is datetime.date"),
    ],
)
def test_studies_that_nobody_means(tmp_path, text, words):
    (tmp_path / "study.toml").write_text(text)
    said = in_one_line("compare", tmp_path / "study.toml", "--forecast")
    assert words in said
    assert "study.toml" in said


def test_networks_are_counted_before_they_are_made():
    with pytest.raises(ValueError, match="parameters; at most"):
        zoo.network("mlp:" + "9" * 30 + "-2")


# --------------------------------------------------------------------------------------------------------------
# Files made to be run
# --------------------------------------------------------------------------------------------------------------


def test_a_run_does_not_say_what_is_executed(small):
    """The Python file that it names is run only when the user vouches for it."""
    with pytest.raises(PermissionError, match=r"names model\.py:build, which would be run as a program"):
        tl.compare_runs([small.path], measures=["hessian_top"])
    with pytest.raises(PermissionError, match="would be run"):
        live(recipe_of(small), small)
    assert "--trust" in in_one_line("compare", small.path, "--measures", "hessian_top", "--out", "out")
    assert not Path("was_run").exists()
    assert tl.compare_runs([small.path], measures=["hessian_top"], trusted=True).rows[0]["hessian_top"] > 0
    assert Path("was_run").exists()


def test_a_run_whose_sources_are_elsewhere_is_not_done(small, tmp_path):
    sealed(small.path, settings=dict(small.settings) | {"sources": {str(tmp_path / "missing.py"): "0"}})
    assert not is_done(Recipe(model="model.py:build", data="teacher_student", minima=2, steps=5), small.path)


# --------------------------------------------------------------------------------------------------------------
# All of it
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are stopped and disks mounted as on Linux")
def test_runs_survive(tmp_path):
    """The short form of `make torture`."""
    words = ("--kills", "4", "--tasks", "2", "--damages", "60", "--times", "1", "--output", str(tmp_path))
    done = subprocess.run([sys.executable, FAULTS, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert sum(row["tried"] for row in rows if row["fault"].startswith("killed")) >= 4
    assert sum(row["one_line"] for row in rows) > 30
