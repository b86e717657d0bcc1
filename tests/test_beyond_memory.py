"""Runs over grids that are never in memory as a whole: equal to those that are, stopped and gone on with, bounded."""

import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from topolandscape.cli import app
from topolandscape.files import Run, Shards
from topolandscape.files.manifest import Stored
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Barcode, LossSamples, MergeTree, grid_points
from topolandscape.study import Recipe, pictures, run, sample_route

GRID = {"route": "sample", "region": "grid", "model": "mlp:1-2-1,tanh", "data": "sine_regression", "resolution": 4}
LITTLE = 3e-3  # GiB
# What is fastest may change from one run to the next, and with it the last bits.
PLANS = {kind: {"form": "wide", "chunk": 64, "rows": 1} for kind in ("values", "gradients")}
# A grid whose points alone would take more than its process may.
DRIVER = """
import resource
import sys

import numpy as np

from topolandscape.files import Run
from topolandscape.landscape.loss import Landscape
from topolandscape.topology.blocks import block_within, merge_tree_in_blocks
from topolandscape.topology.persistence import barcode

landscape = Landscape.from_function(lambda x: (x**2).sum(1) + (3 * x).sin().prod(1), 7)
axes = [np.linspace(-2, 2.1, n) for n in (9, 9, 9, 9, 9, 8, 8)]
merge_tree_in_blocks(np.zeros((3,) * 7), block=9)
landscape.values(np.zeros((2**14, 7)), progress=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
losses = Run.create(sys.argv[1], {}).grid_values(landscape, axes, progress=False)
code = barcode(merge_tree_in_blocks(losses, block=block_within(losses.shape, 60 * 2**20)))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(code), int(code.size[0]), (peak - before) / 2**10)
"""


@pytest.fixture
def _few_rows(monkeypatch):
    """Shards of 1000 losses."""
    monkeypatch.setattr("topolandscape.files.runs._LARGEST_SHARD", 1000)


@pytest.mark.usefixtures("_few_rows")
@pytest.mark.parametrize("more", [{}, {"axes": ",".join(["-1:2:5", *["-1:1:4"] * 5, "0:1:3"])}])
def test_in_blocks_is_as_in_memory(more, tmp_path):
    recipe = GRID | more
    whole = run(Recipe(**recipe), tmp_path / "whole", plans=PLANS, progress=False)
    parts = run(Recipe(**recipe, memory=LITTLE), tmp_path / "parts", plans=PLANS, progress=False)
    assert "samples" in whole
    assert "samples" not in parts
    for name, kind, columns in (
        ("barcode", Barcode, Barcode.columns),
        ("tree", MergeTree, ("vertex", "value", "parent", "size")),
    ):
        one, other = whole.load(name, kind), parts.load(name, kind)
        for column in columns:
            assert np.array_equal(getattr(one, column), getattr(other, column)), column
    one, other = (done.load("barcode", Barcode).provenance for done in (whole, parts))
    assert {name: other[name] for name in one} == dict(one)
    samples = whole.load("samples", LossSamples)
    assert other["points"] == len(samples)
    assert other["shape"] == list(samples.shape)


@pytest.mark.usefixtures("_few_rows")
def test_a_stopped_run_evaluates_only_the_rest(tmp_path, monkeypatch):
    recipe = Recipe(**GRID, memory=LITTLE)
    whole = run(recipe, tmp_path / "whole", plans=PLANS, progress=False).load("barcode", Barcode)
    evaluate, calls = Landscape.values_of, []

    def counted(self, parts):
        for place, losses in evaluate(self, parts):
            calls.append(len(losses))
            if len(calls) == 8:
                raise KeyboardInterrupt
            yield place, losses

    monkeypatch.setattr(Landscape, "values_of", counted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "stopped", plans=PLANS, progress=False)
    code = run(recipe, tmp_path / "stopped", progress=False).load("barcode", Barcode)
    assert sum(calls[:7]) + sum(calls[8:]) == 4**7
    for column in Barcode.columns:
        assert np.array_equal(getattr(code, column), getattr(whole, column)), column


def test_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["barcode", "mlp:1-2-1,tanh", "sine_regression", "--region", "grid", "--resolution", "4"]
    result = CliRunner().invoke(app, [*command, "--memory", str(LITTLE), "--out", "run"])
    assert result.exit_code == 0, result.output
    assert "a grid of 4 x 4 x 4 x 4 x 4 x 4 x 4, 16,384 points joined block by block" in result.stdout
    again = CliRunner().invoke(app, [*command, "--memory", str(LITTLE), "--out", "run", "--json"])
    printed = json.loads(again.stdout)
    assert printed["points"] == 4**7
    assert len(printed["bars"]) == len(Run.open("run").load("barcode", Barcode))
    assert [path.rpartition("/")[2] for path in printed["pictures"]] == ["bars.png", "tree.png", "diagram.png"]
    higher = CliRunner().invoke(app, [*command, "--memory", str(LITTLE), "--max-dim", "1", "--out", "higher"])
    assert higher.exit_code == 1
    assert "bars of degrees above 0 need the whole grid in memory" in higher.stderr


def test_pictures_of_a_grid_of_two_parameters_show_it(tmp_path):
    done = run(
        Recipe(**GRID | {"model": "mlp:1-1,tanh", "data": "sine_regression", "resolution": 9}), tmp_path, progress=False
    )
    assert pictures(done)[0].name == "contour.png"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": "0:1"}, "give low:high:points of each parameter"),
        ({"axes": "0:1:2,0:1:x"}, "give low:high:points of each parameter"),
        ({"axes": "0:1:2", "region": "box"}, "axes are those of a grid"),
        ({"memory": 0.0}, "memory is 0.0 GiB"),
    ],
)
def test_recipes_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**GRID | options)


def test_a_grid_that_is_too_large_for_the_disk_is_refused(tmp_path):
    recipe = Recipe(**GRID | {"model": "mlp:64-16-10", "data": "digits"})
    with pytest.raises(OSError, match=r"points take .* GiB, and .* has room for"):
        run(recipe, tmp_path, plans=PLANS, progress=False)


@pytest.mark.parametrize("shape", [(11,), (4, 5), (3, 4, 5)])
def test_shards_are_sliced_like_an_array(shape):
    rng = np.random.default_rng(0)
    values = rng.normal(size=shape)
    for size in (1, 4, 7, 100):
        pieces = [values.reshape(-1)[first : first + size] for first in range(0, values.size, size)]
        shards = Shards(shape, size, pieces.__getitem__)
        assert np.array_equal(np.concatenate(list(shards)), values.reshape(-1))
        for _ in range(20):
            ends = [sorted(rng.choice(side + 1, 2, replace=False)) for side in shape]
            box = tuple(slice(int(start), int(stop)) for start, stop in ends)
            assert np.array_equal(shards[box], values[box])


def test_points_of_a_grid_are_those_of_its_axes():
    axes = [np.array([0.0, 1.0]), np.array([5.0, 6.0, 7.0]), np.array([2.0, 4.0])]
    whole = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    assert np.array_equal(grid_points(axes), whole)
    assert np.array_equal(grid_points(axes, slice(3, 9)), whole[3:9])


@pytest.mark.slow
def test_memory_stays_within_its_bound(tmp_path):
    """3,779,136 points, which would take 212 MB, and their losses 30: with the blocks all takes less than 150."""
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    bars, size, megabytes = done.stdout.split()
    assert int(bars) > 10
    assert int(size) == 9**5 * 8**2
    assert float(megabytes) < 150


@pytest.mark.parametrize("options", [{"neighbours": 6}, {}])
def test_a_graph_in_blocks_is_as_in_memory(options, tmp_path, monkeypatch):
    """Also when it is stopped after each block of neighbours."""
    box = GRID | {"region": "box", "points": 1500} | options
    box.pop("resolution")
    monkeypatch.setattr(sample_route, "_FEWEST", 400)
    monkeypatch.setattr(sample_route, "_PAIRS", 1)
    whole = run(Recipe(**box), tmp_path / "whole", plans=PLANS, progress=False)
    put, found = Stored.put, []

    def stop(self, name, arrays):
        put(self, name, arrays)
        found.append(name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Stored, "put", stop)
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                run(Recipe(**box, memory=1e-4), tmp_path / "parts", plans=PLANS, progress=False)
    assert len(set(found)) == 4
    parts = run(Recipe(**box, memory=1e-4), tmp_path / "parts", plans=PLANS, progress=False)
    for name, kind, columns in (
        ("barcode", Barcode, Barcode.columns),
        ("tree", MergeTree, ("simplex", "vertex", "value", "parent", "size")),
    ):
        for column in columns:
            one, other = (getattr(done.load(name, kind), column) for done in (whole, parts))
            assert np.array_equal(one, other), column
    assert not (tmp_path / "parts" / "halfway").exists() or not list((tmp_path / "parts" / "halfway").iterdir())


@pytest.mark.parametrize("options", [{"connect": True}, {"max_dim": 1}, {"edge_points": 2}])
def test_graphs_whose_edges_are_needed_are_refused_beyond_memory(options, tmp_path):
    box = GRID | {"region": "box", "points": 200, "neighbours": 6} | options
    box.pop("resolution")
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*needs all edges of the graph in memory"):
        run(Recipe(**box, memory=1e-5), tmp_path, plans=PLANS, progress=False)
