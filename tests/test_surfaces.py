"""Surfaces that others computed and barcodes for others, in their own formats and read by their own programs."""

import struct
import subprocess
import sys

import gudhi
import numpy as np
import pandas as pd
import persim
import pytest
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape import BarBands, Barcode, ConfidenceBand, DistanceMatrix
from topolandscape.cli import app

INF = np.inf


def loss(x, y):
    return 3.0 + x**2 + 2 * y**2 + 0.5 * x * y


@pytest.fixture
def surface(tmp_path):
    """Return a file as loss-landscape writes them."""
    h5py = pytest.importorskip("h5py")
    x, y = np.linspace(-1, 1, 5), np.linspace(-2, 2, 7)
    # Its scheduler numbers the points of numpy.meshgrid(x, y), and fills an array of shape (x, y) in that order.
    across, up = np.meshgrid(x, y)
    losses = np.full((5, 7), -1.0)
    losses.reshape(-1)[:] = loss(across.reshape(-1), up.reshape(-1))
    with h5py.File(tmp_path / "surface.h5", "w") as file:
        file["dir_file"] = "directions.h5"
        file["xcoordinates"], file["ycoordinates"], file["train_loss"] = x, y, losses
        file["train_acc"] = np.zeros_like(losses)
    return tmp_path / "surface.h5"


# --------------------------------------------------------------------------------------------------------------
# Surfaces
# --------------------------------------------------------------------------------------------------------------


def test_every_loss_of_a_surface_of_loss_landscape_stands_at_its_point(surface):
    samples = tl.read_surface(surface)
    assert samples.shape == (5, 7)
    assert np.allclose(samples.values, loss(*samples.points.T))
    assert samples.points[[0, -1]].tolist() == [[-1.0, -2.0], [1.0, 2.0]]
    source = samples.provenance["source"]
    assert (source["file"], source["format"], source["missing"]) == ("surface.h5", "loss-landscape", 0)
    assert len(tl.read_surface(surface, key="train_acc").nonfinite) == 0


def test_what_loss_landscape_did_not_compute_is_missing(surface):
    import h5py

    with h5py.File(surface, "r+") as file:
        file["train_loss"][1, 2] = -1.0
    samples = tl.read_surface(surface)
    assert len(samples.nonfinite) == samples.provenance["source"]["missing"] == 1
    with pytest.raises(ValueError, match="1 of 35 losses are NaN or infinite"):
        tl.grid(samples)
    assert len(tl.barcode(tl.grid(samples, nonfinite="infinite"))) >= 1


def test_a_line_of_loss_landscape(tmp_path):
    h5py = pytest.importorskip("h5py")
    x = np.linspace(-1.5, 1.5, 301)
    with h5py.File(tmp_path / "line.h5", "w") as file:
        file["xcoordinates"], file["train_loss"] = x, x**4 - x**2 + 0.1 * x
    samples = tl.read_surface(tmp_path / "line.h5")
    assert (samples.shape, samples.points[:, 0].tolist()) == ((301,), x.tolist())
    assert tl.barcode(tl.grid(samples)).birth == pytest.approx([-0.3219193469, -0.1805869666], abs=1e-4)


def test_a_surface_of_landscaper(tmp_path):
    ranges = [np.linspace(-0.01, 0.01, 6), np.linspace(-0.02, 0.02, 6), np.linspace(0, 1, 6)]
    a, b, c = np.meshgrid(*ranges, indexing="ij")
    np.savez(tmp_path / "landscape.npz", loss=a + 2 * b + 3 * c, coordinates=ranges)
    samples = tl.read_surface(tmp_path / "landscape.npz")
    assert samples.shape == (6, 6, 6)
    assert np.allclose(samples.values, samples.points @ [1, 2, 3])
    assert samples.provenance["source"]["format"] == "landscaper"


@pytest.mark.parametrize("ending", [".npy", ".npz", ".csv"])
def test_plain_arrays_have_their_indices_for_coordinates(tmp_path, ending):
    losses = np.array([[0.5, 2.0, 1.0], [3.0, 4.0, -1.0]])
    path = tmp_path / f"losses{ending}"
    if ending == ".npy":
        np.save(path, losses.astype(np.float32))
    elif ending == ".npz":
        np.savez(path, anything=losses)
    else:
        np.savetxt(path, losses, delimiter=",")
    samples = tl.read_surface(path)
    assert samples.values.reshape(samples.shape).tolist() == losses.tolist()  # -1 is a loss here
    assert samples.points.tolist() == [[i, j] for i in range(2) for j in range(3)]


def test_one_of_several_arrays_is_named(tmp_path):
    np.savez(tmp_path / "two.npz", train=[0.0, 1.0], test=[2.0, 3.0])
    with pytest.raises(ValueError, match="several arrays, test, train; give key, the name of the losses"):
        tl.read_surface(tmp_path / "two.npz")
    assert tl.read_surface(tmp_path / "two.npz", key="test").values.tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match="has no 'loss'; give key, the name of the losses, one of test, train"):
        tl.read_surface(tmp_path / "two.npz", key="loss")


def test_what_is_no_surface(tmp_path):
    def refused(name, match, write):
        write(tmp_path / name)
        with pytest.raises(ValueError, match=match):
            tl.read_surface(tmp_path / name)

    objects = np.array([{}, None], dtype=object)
    refused(
        "a.npy", "holds Python objects, which are never unpickled", lambda p: np.save(p, objects, allow_pickle=True)
    )
    refused("b.npz", "holds Python objects", lambda p: np.savez(p, loss=objects))
    refused("c.npy", "is damaged", lambda p: p.write_bytes(b"\x93NUMPY nothing"))
    refused("d.npz", "is damaged", lambda p: p.write_bytes(b"PK\x03\x04nothing"))
    refused("e.npy", "holds bool where losses", lambda p: np.save(p, [True]))
    refused("f.npy", r"losses of shape \(0, 3\)", lambda p: np.save(p, np.zeros((0, 3))))
    refused("g.csv", "is no table of numbers", lambda p: p.write_text("x,y\n1,2\n"))
    refused("h.npz", r"losses of shape \(2, 2\), but coordinates for \(3, 3\)",
            lambda p: np.savez(p, loss=np.eye(2), coordinates=[[0, 1, 2]] * 2))  # fmt: skip
    refused("i.txt", "ends in '.txt'; surfaces are read from .h5, .npz, .npy, .csv", lambda p: p.write_text("1"))
    with pytest.raises(FileNotFoundError, match="there is no file"):
        tl.read_surface(tmp_path / "missing.npy")
    with pytest.raises(ValueError, match="holds one array without a name"):
        tl.read_surface(tmp_path / "a.npy", key="loss")


def test_what_is_no_file_of_loss_landscape(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="is damaged, or no HDF5 file"):
        tl.read_surface(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["loss"] = [0.0]
    with pytest.raises(ValueError, match="has no xcoordinates, as files of loss-landscape do; it has loss"):
        tl.read_surface(tmp_path / "other.h5")


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "surface.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="needs h5py, which is not installed; run: pip install h5py"):
        tl.read_surface(tmp_path / "surface.h5")
    result = CliRunner().invoke(app, ["barcode", str(tmp_path / "surface.h5"), "--out", str(tmp_path / "run")])
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)


# --------------------------------------------------------------------------------------------------------------
# The command line
# --------------------------------------------------------------------------------------------------------------


def test_a_surface_is_taken_to_its_barcode_and_pictures(surface, tmp_path):
    result = CliRunner().invoke(app, ["barcode", str(surface), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    code = tl.Run.open(tmp_path / "run").load("barcode", Barcode)
    assert code.birth.tolist() == [3.0]
    assert str(code) in result.output
    assert "surface.h5: LossSamples(35 points" in result.output
    assert (tmp_path / "run" / "contour.png").stat().st_size > 1000
    again = CliRunner().invoke(
        app,
        ["barcode", str(surface), "--out", str(tmp_path / "run"), "--connectivity", "axis", "--max-dim", "1", "--json"],
    )
    assert '"connectivity": "axis"' in again.output
    assert CliRunner().invoke(app, ["plot", str(tmp_path / "run")]).exit_code == 0


def test_a_surface_with_holes_leaves_nothing_behind_until_it_is_said_what_they_are(tmp_path):
    np.save(tmp_path / "holes.npy", [1.0, np.nan, 2.0])
    arguments = ["barcode", str(tmp_path / "holes.npy"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "1 of 3 losses are NaN or infinite" in result.stderr
    assert not (tmp_path / "run").exists()
    assert CliRunner().invoke(app, [*arguments, "--nonfinite", "infinite"]).exit_code == 0
    assert len(tl.Run.open(tmp_path / "run").load("barcode", Barcode)) == 2


def test_what_cannot_be_asked_of_a_surface(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("surface.npy", [0.0, 1.0])
    for arguments, said in (
        (["mlp:2-2-1"], "DATA is missing"),
        (["surface.npy", "--seed", "3"], "--seed says nothing of a surface"),
        (["other.npy"], "there is no file other.npy"),
    ):
        result = CliRunner().invoke(app, ["barcode", *arguments])
        assert result.exit_code != 0
        assert said in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


# --------------------------------------------------------------------------------------------------------------
# Exports
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bars():
    losses = np.random.default_rng(0).normal(size=(9, 11))
    return tl.barcode(tl.grid(losses), max_dim=1)


def same(code, pairs, dim):
    of = code.filter(dim=dim)
    return sorted(zip(of.birth.tolist(), of.death.tolist(), strict=True)) == sorted(
        map(tuple, np.array(pairs).tolist())
    )


def test_gudhi_reads_what_it_is_given(bars, tmp_path):
    tl.export(tmp_path / "bars.pers", bars)
    read = gudhi.read_persistence_intervals_grouped_by_dimension(persistence_file=str(tmp_path / "bars.pers"))
    assert sorted(read) == [0, 1]
    assert all(same(bars, pairs, dim) for dim, pairs in read.items())
    listed = bars.to_gudhi()
    assert all(same(bars, [pair for k, pair in listed if k == dim], dim) for dim in (0, 1))


def test_persim_measures_what_it_is_given(bars):
    loops = bars.to_persim()[1]
    other = tl.barcode(tl.grid(np.random.default_rng(1).normal(size=(9, 11))), max_dim=1)
    assert persim.bottleneck(loops, other.to_persim()[1]) == pytest.approx(tl.bottleneck(bars, other, dim=1))


def test_a_table_keeps_every_digit(bars, tmp_path):
    tl.export(tmp_path / "bars.csv", bars)
    table = pd.read_csv(tmp_path / "bars.csv", dtype=str).astype(bars.to_dataframe().dtypes)
    pd.testing.assert_frame_equal(table, bars.to_dataframe(), check_exact=True)


def test_a_file_of_dipha(bars, tmp_path):
    tl.export(tmp_path / "bars.dipha", bars)
    data = (tmp_path / "bars.dipha").read_bytes()
    magic, kind, count = struct.unpack_from("<qqq", data)
    assert (magic, kind, count, len(data)) == (8067171840, 2, len(bars), 24 + 24 * len(bars))
    read = [struct.unpack_from("<qdd", data, 24 + 24 * k) for k in range(count)]
    assert same(bars.filter(dim=1), [pair for dim, *pair in read if dim == 1], 1)
    ending = [tuple(pair) for dim, *pair in read if dim == 0]
    assert sorted(ending) == sorted(pair for k, pair in bars.to_gudhi() if k == 0 and np.isfinite(pair[1]))
    endless = [(birth, death) for dim, birth, death in read if dim == -1]
    assert endless == [(bars.birth[0], max(bars.death[np.isfinite(bars.death)].max(), bars.birth.max()))]
    tl.export(tmp_path / "none.dipha", Barcode.from_pairs([]))
    assert len((tmp_path / "none.dipha").read_bytes()) == 24


def test_other_endings_are_refused(bars, tmp_path):
    with pytest.raises(ValueError, match=r"ends in '.json'; barcodes are exported to .csv, .pers, .dipha"):
        tl.export(tmp_path / "bars.json", bars)
    assert list(tmp_path.iterdir()) == []


def test_what_is_computed_from_several_barcodes_is_saved_and_read(bars, tmp_path):
    matrix = DistanceMatrix(["a", "b"], [[0, INF], [INF, 0]], {"metric": "wasserstein", "p": 1.0, "ground": INF})
    band = ConfidenceBand(bars, INF, 0.9, [0.5, INF], {"size": 3})
    for noun in (matrix, band, tl.bar_bands([bars, bars])):
        tl.save(tmp_path / "noun.npz", noun)
        read = tl.load(tmp_path / "noun.npz")
        assert type(read) is type(noun)
        assert repr(read) == repr(noun)
        assert dict(read.provenance) == dict(noun.provenance)
    assert isinstance(read, BarBands)
    assert read.death.tolist() == tl.bar_bands([bars, bars]).death.tolist()


def test_reading_loads_neither_torch_nor_matplotlib():
    code = "import sys, topolandscape as tl; tl.read_surface, tl.export; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "matplotlib", "h5py"} & set(loaded)
