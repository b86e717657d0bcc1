"""One run: every region gives samples, a tree and a barcode, and a stopped run goes on."""

import numpy as np
import pytest
import torch

import topolandscape.study.runs as runs
from topolandscape.files import Run
from topolandscape.structures import Barcode, LossSamples, MergeTree
from topolandscape.study import REGIONS, Recipe, pictures, run
from topolandscape.study.problem import problem
from topolandscape.study.sample_route import complex_of

SMALL = {
    "route": "sample",
    "model": "mlp:1-2-1,tanh",
    "data": "sine_regression",
    "steps": 30,
    "resolution": 9,
    "points": 120,
}


@pytest.mark.parametrize("region", REGIONS)
def test_every_region(region, tmp_path):
    sides = {"resolution": 3} if region == "grid" else {}  # 3^7 points
    done = run(Recipe(**SMALL | sides, region=region, starts=4), tmp_path, progress=False)
    samples, tree, code = done.load("samples", LossSamples), done.load("tree", MergeTree), done.load("barcode", Barcode)
    assert len(samples) == {"plane": 81, "random": 81, "pca": 81, "segment": 9, "hull": 124, "grid": 2187}.get(
        region, 120
    )
    assert len(code) == tree.is_leaf.sum()
    assert code.birth[0] == samples.values.min()

    network = problem(Recipe(**SMALL)).landscape()
    rows = code.birth_vertex
    assert np.allclose(network.values(samples.parameters(rows)), code.birth, rtol=1e-6, atol=samples.noise)
    assert samples.provenance["model"] == "mlp:1-2-1,tanh"
    assert samples.provenance["seed"] == 0


def test_a_plane_passes_through_what_was_trained(tmp_path):
    done = run(Recipe(**SMALL), tmp_path, progress=False)
    samples, trained = done.load("samples", LossSamples), done.load("trained", LossSamples)
    corners = np.array(samples.provenance["corners"])
    assert np.allclose(samples.subspace.parameters(corners), trained.points)
    assert len(trained) == 3
    network = problem(Recipe(**SMALL)).landscape()
    assert np.allclose(network.values(trained.points), trained.values, rtol=1e-6)


def test_the_same_recipe_gives_the_same_run(tmp_path):
    recipe = Recipe(**SMALL, region="ball", seed=3)
    one = run(recipe, tmp_path / "one", progress=False).load("samples", LossSamples)
    other = run(recipe, tmp_path / "other", progress=False).load("samples", LossSamples)
    assert np.array_equal(one.points, other.points)
    # Which form is the fastest is found out by each run for itself.
    np.testing.assert_allclose(one.values, other.values, rtol=1e-6)
    different = run(Recipe(**SMALL, region="ball", seed=4), tmp_path / "seed", progress=False)
    assert not np.array_equal(different.load("samples", LossSamples).points, one.points)


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    """Stopped after training and in the middle of sampling, it trains no more and gives the same barcode."""
    recipe = Recipe(**SMALL)
    whole = run(recipe, tmp_path / "whole", progress=False)

    monkeypatch.setattr("topolandscape.files.runs._SHARD_WORK", 50.0 * 7 * 10)  # ten points a shard
    values, calls = Run.values, []

    def stopping(self, landscape, points, *, each, **options):
        def counted(parts):
            for place, losses in each(parts):
                calls.append(len(losses))
                if len(calls) == 5:
                    raise KeyboardInterrupt
                yield place, losses

        return values(self, landscape, points, each=counted, **options)

    monkeypatch.setattr(Run, "values", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "run", progress=False)
    assert calls == [10] * 5
    assert len(list((tmp_path / "run" / "losses").rglob("*.npy"))) == 4

    monkeypatch.setattr("topolandscape.landscape.minima.descend", None)
    calls += [0] * 10
    done = run(recipe, tmp_path / "run", progress=False)
    assert sum(calls[15:]) == 41
    for name, kind in (("samples", LossSamples), ("barcode", Barcode)):
        one, other = whole.load(name, kind), done.load(name, kind)
        births = ("values",) if kind is LossSamples else ("birth", "death")
        for field in births:
            assert np.allclose(getattr(one, field), getattr(other, field), atol=1e-6)


def test_a_finished_run_is_not_computed_again(tmp_path, monkeypatch):
    run(Recipe(**SMALL), tmp_path, progress=False)
    monkeypatch.setattr(runs, "by_samples", None)
    assert "barcode" in run(Recipe(**SMALL), tmp_path, progress=False)


@pytest.mark.slow
def test_a_hull_sees_the_ridges_between_its_minima(tmp_path):
    """Neighbours in a hull may be two minima; their edge enters with the highest loss seen on it."""
    recipe = {**SMALL, "steps": 300, "region": "hull", "starts": 3, "points": 40}
    blind = run(Recipe(**recipe, edge_points=0), tmp_path / "blind", progress=False).load("barcode", Barcode)
    seen = run(Recipe(**recipe), tmp_path / "seen", progress=False).load("barcode", Barcode)
    fine = run(Recipe(**recipe, edge_points=50), tmp_path / "fine", progress=False).load("barcode", Barcode)
    gaps = [code.death[~code.essential].sum() - code.birth[~code.essential].sum() for code in (blind, seen, fine)]
    assert gaps[0] < gaps[1] <= gaps[2] * 1.001
    assert "measured_edges" in seen.provenance


@pytest.mark.usefixtures("user")
def test_losses_that_are_not_finite(tmp_path):
    """They are refused, with their number, until one asks for them; the losses are not computed again."""
    recipe = {"route": "sample", "model": "mine.py:logarithm", "data": "mine.py:load", "region": "box", "points": 200}
    with pytest.raises(ValueError, match=r"100 of 200 losses are NaN or infinite \(rows .*nonfinite=\"infinite\""):
        run(Recipe(**recipe), "run", progress=False)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.np?")}
    done = run(Recipe(**recipe, nonfinite="infinite"), "run", progress=False)
    assert len(done.load("samples", LossSamples).nonfinite) == 100
    assert done.load("barcode", Barcode).size[0] == 100
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


@pytest.mark.parametrize(("shape", "neighbours"), [((3, 2), None), (None, None), (None, 2)])
def test_every_complex_asks_before_it_takes_a_loss_that_is_not_finite(shape, neighbours):
    points = np.stack(np.meshgrid(np.arange(3.0), np.arange(2.0), indexing="ij"), axis=-1).reshape(-1, 2)
    samples = LossSamples(points, [0.0, 1.0, np.nan, 2.0, 3.0, 4.0], shape=shape)
    asked = Recipe(**SMALL, neighbours=neighbours, nonfinite="infinite")
    assert np.isinf(complex_of(samples, asked, None).vertex_values[2])
    with pytest.raises(ValueError, match=r"1 of 6 losses are NaN or infinite \(rows 2\)"):
        complex_of(samples, Recipe(**SMALL, neighbours=neighbours), None)


@pytest.mark.filterwarnings("ignore:the graph has")
def test_components_are_joined_when_asked(tmp_path):
    recipe = {**SMALL, "region": "box", "neighbours": 1}
    apart = run(Recipe(**recipe), tmp_path, progress=False).load("barcode", Barcode)
    joined = run(Recipe(**recipe, connect=True), tmp_path, progress=False).load("barcode", Barcode)
    assert apart.essential.sum() > 1
    assert joined.essential.sum() == 1


def test_other_topology_of_the_same_samples(tmp_path):
    one = run(Recipe(**SMALL, connectivity="axis"), tmp_path, progress=False).load("barcode", Barcode)
    before = (tmp_path / "samples.npz").stat().st_mtime_ns
    other = run(Recipe(**SMALL, connectivity="full", max_dim=1), tmp_path, progress=False).load("barcode", Barcode)
    assert one.provenance["complex"]["connectivity"] == "axis"
    assert other.provenance["complex"]["connectivity"] == "full"
    assert (tmp_path / "samples.npz").stat().st_mtime_ns == before


def test_higher_degrees(tmp_path):
    plane = run(Recipe(**SMALL, max_dim=1, connectivity="axis"), tmp_path / "plane", progress=False)
    assert plane.load("barcode", Barcode).dim.min() == 0
    scattered = Recipe(**SMALL, region="box", neighbours=10, max_dim=1)
    assert 1 in run(scattered, tmp_path / "box", progress=False).load("barcode", Barcode).dim


@pytest.mark.parametrize("region", ["plane", "segment", "box"])
def test_pictures(region, tmp_path):
    done = run(Recipe(**SMALL, region=region), tmp_path / "run", progress=False)
    written = pictures(done, folder=tmp_path / "out", format="svg")
    first = {"plane": ["contour.svg"], "segment": ["profile.svg"], "box": []}[region]
    assert [path.name for path in written] == [*first, "bars.svg", "tree.svg", "diagram.svg"]
    assert all(b"<svg" in path.read_bytes() for path in written)
    with pytest.raises(ValueError, match="png, pdf or svg"):
        pictures(done, format="bmp")


@pytest.fixture
def user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from sizes import WIDTH\n"
        "from torch.nn import Linear, Sequential, Tanh\n"
        "def build(): return Sequential(Linear(2, WIDTH), Tanh(), Linear(WIDTH, 1))\n"
        "def load(): return torch.arange(8.).reshape(4, 2), torch.ones(4, 1)\n"
        "def error(outputs, targets): return (outputs - targets).abs().mean()\n"
        "class Logarithm(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.w = torch.nn.Parameter(torch.ones(2))\n"
        "    def forward(self, inputs): return torch.log(self.w[0]) + self.w[1] * inputs[:, :1]\n"
        "def logarithm(): return Logarithm()\n"
        "def wrong(): return 3\n"
        "def broken(): return {}['missing']\n"
    )
    (tmp_path / "sizes.py").write_text("WIDTH = 2\n")


@pytest.mark.usefixtures("user")
def test_a_users_own_model_data_and_loss(tmp_path):
    recipe = Recipe(
        route="sample", model="mine.py:build", data="mine.py:load", loss="mine.py:error", steps=5, resolution=5
    )
    done = run(recipe, "run", progress=False)
    trained = done.load("trained", LossSamples)
    inputs, targets = torch.arange(8.0).reshape(4, 2), torch.ones(4, 1)
    weights = torch.tensor(trained.points[0], dtype=torch.float32)
    hidden = torch.tanh(inputs @ weights[:4].reshape(2, 2).T + weights[4:6])
    outputs = hidden @ weights[6:8].reshape(1, 2).T + weights[8:]
    assert trained.values[0] == pytest.approx(float((outputs - targets).abs().mean()), rel=1e-5)
    assert len(done.settings["sources"]["mine.py:build"]) == 64

    (tmp_path / "sizes.py").write_text("WIDTH = 3\n")
    import sys

    sys.modules.pop("sizes")
    with pytest.raises(ValueError, match="holds another run"):
        run(recipe, "run", progress=False)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "mine.py:wrong"}, "mine.py:wrong returned a int; it must return a torch.nn.Module"),
        ({"model": "mine.py:missing"}, r"mine.py has no function 'missing'; it has build, load"),
        ({"model": "mine.py:broken"}, r"mine.py, line 14: KeyError: 'missing'"),
        ({"model": "nowhere.py:build"}, r"there is no file nowhere.py"),
        ({"model": "mpl:1-2-1"}, "mlp"),
        ({"data": "mine.py:wrong"}, "must return a pair"),
        ({"data": "digit"}, "Did you mean digits"),
        ({"loss": "hinge"}, "there is no loss 'hinge'"),
        ({"region": "cube"}, "one of plane, random"),
        ({"connectivity": "diagonal"}, "one of axis, freudenthal, full"),
        ({"nonfinite": "drop"}, "one of raise, infinite"),
        ({"route": "grid"}, "route is 'grid'; it must be one of minima, sample"),
        ({"route": "minima"}, "resolution belongs to the route sample, and the route is minima"),
        ({"batch": 10}, "batch belongs to the route minima, and the route is sample"),
        ({"resolution": 1}, "resolution is 1; it must be at least 2"),
        ({"region": "box", "neighbours": 120}, "k is 120, but each of 120 points has 119 others"),
        ({"region": "box", "low": 1.0, "high": -1.0}, "low must be below high"),
        ({"data": "iris"}, "cannot take inputs of shape"),
        ({"device": "gpu"}, "gpu"),
    ],
)
def test_bad_recipes(change, message, tmp_path):
    with pytest.raises((ValueError, TypeError, RuntimeError, FileNotFoundError), match=message):
        run(Recipe(**{**SMALL, **change}), tmp_path / "bad", progress=False)
