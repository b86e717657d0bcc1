"""What is read back equals what was written; what was stopped goes on; what is damaged is named."""

import json
from dataclasses import fields

import numpy as np
import pytest

from topolandscape.files import Run, load, manifest, save
from topolandscape.structures import (
    Barcode,
    CanonicalForm,
    Descent,
    GridComplex,
    LossSamples,
    Minima,
    MinimaNetwork,
    MorseComplex,
    PathProfile,
    SimplicialComplex,
    Subspace,
    Trajectories,
)
from topolandscape.topology.canonical import canonical_form
from topolandscape.topology.complexes import delaunay
from topolandscape.topology.merge import merge_tree
from topolandscape.topology.morse import gradient_field
from topolandscape.topology.persistence import barcode


class Bowl:
    """A landscape that counts what it evaluates and can be told to stop."""

    subspace = None

    def __init__(self, stop_after=None, parameters=2e8):
        self.description = {"kind": "bowl", "parameters": parameters, "rows": 1}
        self.evaluated = 0
        self.stop_after = stop_after

    def values(self, points, *, progress=None):
        if self.stop_after is not None and self.evaluated + len(points) > self.stop_after:
            raise KeyboardInterrupt
        self.evaluated += len(points)
        return (points**2).sum(axis=1)


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(950, 2))


def nouns():
    rng = np.random.default_rng(0)
    subspace = Subspace(rng.normal(size=5), rng.normal(size=(2, 5)))
    samples = LossSamples(
        rng.normal(size=(12, 2)),
        rng.normal(size=12),
        1e-6,
        subspace,
        (3, 4),
        {"seed": 0, "sizes": [1, 2], "a": {"0": 1}},
    )
    complex = delaunay(samples)
    points = rng.normal(size=(3, 4))
    minima = Minima(
        points,
        [0.0, 0.5, np.nan],
        np.ones(3),
        [[1.0, np.nan]] * 3,
        [0, -1, 1],
        ["minimum", "flat", "diverged"],
        provenance={"rows": [0, 1, 1, 2], "thresholds": [1e-9, np.nan]},
    )
    path = np.vstack([points[0], rng.normal(size=(2, 4)), points[1]])
    alone = {"ends": [], "barriers": [], "passes": [], "tops": [], "paths": []}
    return [
        samples,
        complex,
        GridComplex(np.array([[0.0, np.inf], [2.0, 1.0]]), "full"),
        merge_tree(complex),
        barcode(complex),
        MorseComplex([0, 0, 1], [0.0, 1.0, 3.0], [0, 2, 1], [0, 2, 1], [[2, 0, 1], [2, 1, 1]], [-1, 1], shape=(3,)),
        MorseComplex([0], [0.5], [-1], [-1], [], [], points=[[0.0, 1.0]], provenance={"starts": 7}),
        gradient_field(complex, persistence=0.5),
        gradient_field(GridComplex([[0.0, 2.0], [np.inf, 1.0]], provenance={"sampler": "none"})),
        canonical_form(complex),
        canonical_form(complex, field=0),
        CanonicalForm([[1, 2]], [0], [{0: 1}, {0: 2**70, 1: 1}, {2: 1}], coefficients=2**89 - 1),
        CanonicalForm([], [], [], coefficients=3),
        minima,
        MinimaNetwork(
            minima.rows([0, 1]), [[0, 1]], [2.0], ["path maximum"], [path[1]], [path], provenance={"seed": 3}
        ),
        ragged(),
        MinimaNetwork(minima.rows([1]), **alone),
        PathProfile((0, 3), [0.0, 0.5, 2.0], [0.1, 0.7, 0.2], 0.5, "path maximum"),
        Descent(7, points, [0.0, 1.0, np.nan], points + 1, rng.normal(size=(2, 3, 4)), [-1, -1, 5], 2**63 - 1),
        Descent(0, points, np.zeros(3), points, np.zeros((1, 3, 4)), [-1, -1, 5]),
        Trajectories(rng.normal(size=(2, 3, 4)), np.zeros((2, 3)), [0, 5, 7], np.ones(2)),
    ]


def ragged():
    """Return a network whose paths have different numbers of points."""
    points = np.arange(6.0).reshape(3, 2)
    minima = Minima(points, np.zeros(3), np.zeros(3), np.ones((3, 1)), np.zeros(3, int), ["minimum"] * 3)
    paths = [points[[0, 1]], points[[0, 1, 2]], np.vstack([points[1], np.ones((12, 2)), points[2]])]
    words = ["path maximum", "not converged", "verified saddle"]
    return MinimaNetwork(minima, [[0, 1], [0, 2], [1, 2]], [1.0, 2.0, 3.0], words, np.ones((3, 2)), paths, trained=2)


def assert_equal(one, other):
    assert type(one) is type(other)
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, (Subspace, Minima, GridComplex, SimplicialComplex)):
            assert_equal(a, b)
        elif isinstance(a, tuple) and a and isinstance(a[0], np.ndarray):
            assert len(a) == len(b)
            assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b, equal_nan=True), field.name
            assert not b.flags.writeable
        else:
            assert repr(a) == repr(b), field.name


@pytest.mark.parametrize("noun", nouns(), ids=lambda noun: type(noun).__name__)
def test_a_noun_is_read_back_equal(noun, tmp_path):
    save(tmp_path / "noun.npz", noun)
    assert_equal(load(tmp_path / "noun.npz"), noun)
    run = Run.create(tmp_path / "run", {})
    run.save("noun", noun)
    assert_equal(Run.open(tmp_path / "run").load("noun", type(noun)), noun)


def test_a_stopped_run_goes_on_where_it_was(tmp_path, points):
    whole = Run.create(tmp_path / "whole", {"seed": 0}).values(Bowl(), points)
    stopped = Bowl(stop_after=450)
    with pytest.raises(KeyboardInterrupt):
        Run.create(tmp_path / "run", {"seed": 0}).values(stopped, points)
    assert stopped.evaluated == 400
    assert not list(tmp_path.rglob("*.partial"))

    rest = Bowl()
    values = Run.create(tmp_path / "run", {"seed": 0}).values(rest, points)
    assert rest.evaluated == 550
    assert np.array_equal(values, whole)
    assert np.array_equal(values, (points**2).sum(axis=1))

    again = Bowl(stop_after=0)
    assert np.array_equal(Run.open(tmp_path / "run").values(again, points), whole)


def test_losses_belong_to_their_points_and_landscape(tmp_path, points):
    run = Run.create(tmp_path / "run", {})
    run.values(Bowl(), points)
    moved, other = Bowl(), Bowl(parameters=1e8)
    run.values(moved, points + 1)
    run.values(other, points)
    assert moved.evaluated == other.evaluated == len(points)


def test_a_shard_that_was_never_listed_does_not_count(tmp_path, points):
    """Power that fails between a shard and the manifest leaves a file that nobody vouches for."""
    run = Run.create(tmp_path / "run", {})
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    run.values(Bowl(), points)
    (tmp_path / "run" / "manifest.json").write_bytes(before)
    landscape = Bowl()
    Run.open(tmp_path / "run").values(landscape, points)
    assert landscape.evaluated == len(points)


def test_a_damaged_file_is_named(tmp_path, points):
    run = Run.create(tmp_path / "run", {})
    run.values(Bowl(), points)
    shard = sorted((tmp_path / "run").rglob("*.npy"))[3]
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"000003.npy is damaged: its checksum"):
        run.values(Bowl(), points)
    shard.unlink()
    rest = Bowl()
    assert np.array_equal(run.values(rest, points), (points**2).sum(axis=1))
    assert rest.evaluated == 100


def test_a_file_that_is_replaced_is_whole_whenever_the_process_is_killed(tmp_path, monkeypatch):
    """Between the file and the manifest that lists it there is a moment; either of the two nouns is good."""
    before, after = (Barcode.from_pairs([(0.0, death)]) for death in (1.0, 2.0))
    write, found = manifest.write, []
    for allowed in range(4):
        run = Run.create(tmp_path / str(allowed), {})
        run.save("barcode", before)
        left = iter(range(allowed))

        def killed(path, data, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            write(path, data)

        monkeypatch.setattr(manifest, "write", killed)
        try:
            run.save("barcode", after)
        except KeyboardInterrupt:
            found.append(Run.open(tmp_path / str(allowed)).load("barcode", Barcode).death[0])
        monkeypatch.setattr(manifest, "write", write)
        again = Run.create(tmp_path / str(allowed), {})
        again.save("barcode", before)
        again.save("barcode", after)
        assert Run.open(tmp_path / str(allowed)).load("barcode", Barcode).death[0] == 2.0
    assert found == [1.0, 1.0, 2.0]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".manifest.json.17.partial").write_text("{")
    run = Run.create(tmp_path / "run", {"seed": 0})
    (tmp_path / "run" / "losses").mkdir()
    (tmp_path / "run" / "losses" / ".000000.npy.17.partial").write_text("half")
    Run.create(tmp_path / "run", {"seed": 0})
    assert [path.name for path in run.path.rglob("*") if path.is_file()] == ["manifest.json"]


def test_what_was_found_out_once_holds_for_the_whole_run(tmp_path):
    run = Run.create(tmp_path, {})
    assert run.once("form", lambda: {"values": "wide"}) == {"values": "wide"}
    assert run.once("form", lambda: 1 / 0) == {"values": "wide"}
    assert Run.create(tmp_path, {}).once("form", lambda: 1 / 0) == {"values": "wide"}


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "barcode.npz"
    save(path, Barcode.from_pairs([(0.0, 1.0)]))
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, Barcode.from_pairs([(0.0, 2.0)]))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["barcode.npz"]


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, header=np.array([{"kind": "Barcode"}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"evil.npz is damaged, or was not written by topolandscape"):
        load(path)


def test_errors(tmp_path):
    save(tmp_path / "barcode.npz", Barcode.from_pairs([(0.0, 1.0)]))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*missing.npz"):
        load(tmp_path / "missing.npz")
    with pytest.raises(ValueError, match="is a folder"):
        load(tmp_path)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path / "text.npz")
    (tmp_path / "short.npz").write_bytes((tmp_path / "barcode.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        load(tmp_path / "short.npz")
    with pytest.raises(TypeError, match="got dict"):
        save(tmp_path / "x.npz", {})

    with pytest.raises(ValueError, match="holds files that are no run"):
        Run.create(tmp_path, {})
    with pytest.raises(ValueError, match="is a file; a run needs a folder"):
        Run.create(tmp_path / "barcode.npz", {})
    with pytest.raises(FileNotFoundError, match="no run at"):
        Run.open(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"has no manifest.json"):
        Run.open(tmp_path)

    run = Run.create(tmp_path / "run", {"seed": 0, "model": "mlp:2-3-1"})
    with pytest.raises(ValueError, match=r"holds another run: its seed is 0, not 1\. Choose another folder"):
        Run.create(tmp_path / "run", {"seed": 1, "model": "mlp:2-3-1"})
    Run.create(tmp_path / "nested", {"data": {"rows": 3, "hash": "a"}})
    with pytest.raises(ValueError, match=r"its data\.hash is 'a', not 'b'"):
        Run.create(tmp_path / "nested", {"data": {"rows": 3, "hash": "b"}})
    with pytest.raises(ValueError, match=r"and 1 more settings differ"):
        Run.create(tmp_path / "run", {"seed": 1})
    with pytest.raises(FileNotFoundError, match="the run is unfinished"):
        run.load("barcode", Barcode)
    run.save("barcode", Barcode.from_pairs([(0.0, 1.0)]))
    with pytest.raises(FileNotFoundError, match="it has barcode"):
        run.load("samples", LossSamples)
    with pytest.raises(ValueError, match="holds a Barcode, not a LossSamples"):
        run.load("barcode", LossSamples)

    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(ValueError, match="has format 99"):
        Run.open(tmp_path / "run")
    (tmp_path / "run" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        Run.open(tmp_path / "run")
