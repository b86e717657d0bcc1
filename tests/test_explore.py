"""The explorer without a browser: what its views say, the files it writes, and what it refuses."""

import json
import socket

import numpy as np
import pytest
from explored_runs import minima_run, plane_run, rough_grid, surface_run
from typer.testing import CliRunner

from topolandscape.cli import app
from topolandscape.explore import figures, write_page
from topolandscape.explore.explorer import Explorer
from topolandscape.explore.landscape_figures import landscape
from topolandscape.explore.model import branches, explored, way_on_grid
from topolandscape.explore.views import views
from topolandscape.files import Run
from topolandscape.structures import Barcode, LossSamples
from topolandscape.study import Recipe, run
from topolandscape.topology.complexes import grid
from topolandscape.topology.merge import merge_tree
from topolandscape.topology.persistence import barcode

go = pytest.importorskip("plotly.graph_objects", reason="plotly is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def minima(tmp_path_factory):
    return minima_run(tmp_path_factory.mktemp("runs") / "minima")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    return plane_run(tmp_path_factory.mktemp("runs") / "plane")


@pytest.fixture(scope="module")
def surface(tmp_path_factory):
    return surface_run(tmp_path_factory.mktemp("surface"))


# ------------------------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
def test_a_branch_is_as_long_as_its_bar_and_meets_a_lower_minimum(seed, connectivity):
    complex = grid(rough_grid(seed), connectivity=connectivity)
    tree, code = merge_tree(complex), barcode(complex, engine="gudhi")
    found = branches(tree, code, most=len(tree))
    named = code.birth_vertex[found.bar]
    np.testing.assert_array_equal(named, tree.vertex[: len(named)])
    np.testing.assert_array_equal(found.length, code.persistence[found.bar])
    ending = found.into >= 0
    assert ending.sum() == len(ending) - 1
    assert (tree.value[found.into[ending]] < tree.value[: len(ending)][ending]).all()


@pytest.mark.parametrize("connectivity", ["axis", "freudenthal", "full"])
def test_a_way_over_a_grid_is_as_high_as_the_death_of_its_bar(connectivity):
    samples = rough_grid(7)
    complex = grid(samples, connectivity=connectivity)
    tree, code = merge_tree(complex), barcode(complex)
    found = branches(tree, code, most=len(tree))
    for leaf, bar in enumerate(found.bar):
        if found.into[leaf] < 0:
            continue
        lower = tree.vertex[found.into[leaf]]
        way = way_on_grid(samples, code, int(bar), int(lower))
        assert (way[0], way[-1]) == (code.birth_vertex[bar], lower)
        assert samples.values[way].max() == code.death[bar]
        steps = np.abs(np.diff(samples.points[way], axis=0))
        assert steps.max() == 1
        assert connectivity != "axis" or (steps.sum(axis=1) == 1).all()


def test_only_the_longest_branches_are_drawn():
    tree = merge_tree(grid(rough_grid(1, (40, 40))))
    code = barcode(tree)
    found = branches(tree, code, most=10)
    drawn = ~np.isnan(found.layout.x[: len(found.length)])
    assert drawn.sum() == 10
    assert found.length[drawn].min() > found.length[~drawn].max()
    hanging = next(trace for trace in figures.tree(tree, found)["data"] if trace.get("name") == "minimum")
    assert len(hanging["x"]) == 10
    assert f"{len(found.length) - 10} shorter branches not drawn" in str(figures.tree(tree, found)["layout"])


def uprights(trace):
    """Return where the lines of a trace are, and both their ends."""
    y = np.array(trace["y"], dtype=float)
    ends = np.flatnonzero(np.isnan(y))
    begins = np.append(0, ends[:-1] + 1)
    return np.array(trace["x"])[begins], y[begins], y[ends - 1]


def test_no_branch_of_a_thinned_tree_hangs_in_the_air():
    tree = merge_tree(grid(rough_grid(3, (40, 40))))
    upright, across, roots = figures.tree(tree, branches(tree, barcode(tree), most=12))["data"][:3]
    x, bottom, top = uprights(upright)
    held = {(place, value) for place, value in zip(x, top, strict=True)}
    heights = np.array(across["y"])[::3]
    assert len(x) == 2 * len(heights) + (len(roots["x"]) // 3 - 1)
    level = set(heights) | set(np.array(roots["y"], dtype=float)[::3])
    assert {value for _, value in held} <= level
    assert (bottom < top).all()


@pytest.mark.parametrize("kind", ["minima", "sampled", "surface"])
def test_figures_are_those_of_plotly_and_plain_json(kind, request):
    run = explored(request.getfixturevalue(kind))
    shown = views(run)
    assert json.loads(json.dumps(shown, allow_nan=False))["name"] == run.name
    for figure in [*shown["figures"].values(), *shown["paths"].values()]:
        go.Figure(figure)
    finite = [row for row in range(len(run.code)) if not run.code.essential[row] and run.code.dim[row] == 0]
    assert sorted(shown["paths"]) == finite
    for row in finite:
        curve = np.array(shown["paths"][row]["data"][0]["y"])
        assert curve.max() == pytest.approx(run.code.death[row], rel=1e-5 if run.network is not None else 1e-12)
        assert run.code.birth[row] in (curve[0], curve[-1]) or run.network is not None


def test_every_mark_of_a_bar_names_it(surface):
    run = explored(surface)
    code = run.code
    assert set(code.dim) == {0, 1}
    for name in ("bars", "diagram"):
        seen = set()
        for trace in views(run)["figures"][name]["data"]:
            if trace.get("meta") != "bars":
                continue
            for (row, length), x, y in zip(trace["customdata"], trace["x"], trace["y"], strict=True):
                assert length == (None if code.essential[row] else code.persistence[row])
                if name == "diagram":
                    assert x == code.birth[row]
                    assert code.essential[row] or y == code.death[row]
                seen.add(row)
        assert seen == set(range(len(code)))


def test_many_bars_are_thinned_out_and_the_number_is_said():
    n = 3000
    rng = np.random.default_rng(0)
    birth = rng.random(n)
    code = Barcode.from_pairs(np.column_stack([birth, birth + rng.random(n)]))
    figure = figures.bars({"": code}, most=100)
    marks = next(trace for trace in figure["data"] if trace["name"] == "birth")
    assert {row for row, _ in marks["customdata"]} == set(range(100))
    assert "2900 shorter ones not drawn" in figure["layout"]["xaxis"]["title"]["text"]


def test_a_large_grid_is_thinned_out_and_the_number_is_said():
    samples = rough_grid(0, (350, 230))
    trace, *_ = landscape(samples)["data"]
    z = np.array(trace["z"])
    assert z.shape == (58, 88)
    np.testing.assert_array_equal(z.T, samples.values.reshape(350, 230)[::4, ::4])
    assert f"{z.size} of {len(samples)} points drawn" in landscape(samples)["layout"]["xaxis"]["title"]["text"]


def test_losses_that_are_not_finite_leave_gaps():
    samples = LossSamples([[0, 0], [0, 1], [1, 0], [1, 1]], [1.0, np.nan, np.inf, 2.0], shape=(2, 2))
    figure = landscape(samples)
    json.dumps(figure, allow_nan=False)
    assert figure["data"][0]["z"] == [[1.0, None], [None, 2.0]]
    assert sum(figures.histogram({"samples": samples.values})["data"][0]["y"]) == 2


def test_several_runs_stand_on_one_axis_and_none_is_chosen_for_another(minima, sampled):
    codes = {"one": explored(minima).code, "other": explored(sampled).code}
    figure = figures.bars(codes)
    go.Figure(figure)
    assert figure["layout"]["xaxis"]["ticktext"] == ["one", "other"]
    assert not any("meta" in trace for trace in figure["data"])


# ------------------------------------------------------------------------------------------------- pages, errors


def test_a_page_is_one_file_with_its_data(surface, tmp_path):
    page = write_page(surface, tmp_path / "page.html").read_text()
    data = page.split('id="views">', 1)[1].split("</script>", 1)[0]
    assert json.loads(data) == json.loads(json.dumps(views(explored(surface))))
    assert "<link" not in page.split("<script")[0]
    assert 'src="' not in page.split("plotly.js")[0]


def test_names_of_a_run_do_not_become_part_of_the_page(tmp_path):
    name = "a<b onload=x>&amp;"
    np.save(tmp_path / f"{name}.npy", [0.0, 2.0, 1.0])
    CliRunner().invoke(app, ["barcode", str(tmp_path / f"{name}.npy"), "--out", str(tmp_path / "run")])
    page = write_page(Run.open(tmp_path / "run"), tmp_path / "page.html").read_text()
    assert "<b onload=x>" not in page.split('id="views">', 1)[0]
    assert page.count("</script>") == 4


def invoke(*arguments):
    return CliRunner().invoke(app, [str(part) for part in arguments])


def test_a_run_is_exported_by_the_ending_of_the_file(surface, tmp_path):
    for name, begin in (("page.html", b"<!DOCTYPE html>"), ("bars.csv", b"dim,birth"), ("bars.pers", b"0 ")):
        result = invoke("export", surface.path, tmp_path / name)
        assert result.output == f"written: {tmp_path / name}\n"
        assert (tmp_path / name).read_bytes().startswith(begin)
    result = invoke("export", surface.path, tmp_path / "bars.xyz")
    assert result.exit_code == 1
    assert ".csv, .pers, .dipha" in result.output


def one_line(result):
    assert result.exit_code == 1
    (line,) = result.output.splitlines()
    return line


def test_a_damaged_run_is_one_line(surface, tmp_path):
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(surface.path, damaged)
    data = bytearray((damaged / "tree.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (damaged / "tree.npz").write_bytes(data)
    assert "tree.npz is damaged" in one_line(invoke("explore", damaged, "--no-browser"))
    assert "tree.npz is damaged" in one_line(invoke("export", damaged, tmp_path / "page.html"))
    (damaged / "manifest.json").write_text("{")
    assert "manifest.json is damaged" in one_line(invoke("explore", damaged, "--no-browser"))
    assert "there is no run" in one_line(invoke("explore", tmp_path / "nothing", "--no-browser"))
    told = json.loads((surface.path / "manifest.json").read_text()) | {"files": {}}
    del told["sha256"]
    (damaged / "manifest.json").write_text(json.dumps(told))
    assert "unfinished" in one_line(invoke("explore", damaged, "--no-browser"))


def test_a_port_in_use_is_one_line(surface):
    pytest.importorskip("dash", reason="Dash is not installed")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line = one_line(invoke("explore", surface.path, "--no-browser", "--port", port))
    assert f"port {port} is in use" in line
    assert "--port" in line


@pytest.mark.parametrize(("module", "command"), [("dash", "explore"), ("plotly.offline", "export")])
def test_a_missing_extra_is_named(surface, tmp_path, monkeypatch, module, command):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    rest = ["--no-browser"] if command == "explore" else [tmp_path / "page.html"]
    assert "topolandscape[explore]" in one_line(invoke(command, surface.path, *rest))


def test_a_model_that_is_gone_leaves_what_was_computed(tmp_path):
    model = tmp_path / "model.py"
    model.write_text("import torch\n\ndef build():\n    return torch.nn.Linear(1, 1)\n")
    recipe = Recipe(model=f"{model}:build", data="sine_regression", route="sample", steps=5, resolution=5)
    done = run(recipe, tmp_path / "run", progress=False)
    model.write_text("import torch\n\ndef build():\n    return torch.nn.Linear(1, 1, bias=False)\n")
    explorer = Explorer([done], trusted=True)
    explorer.load(0)
    with pytest.raises(ValueError, match="have changed since the run"):
        waited(explorer)
    model.unlink()
    explorer = Explorer([done], trusted=True)
    explorer.load(0)
    with pytest.raises(ValueError, match=r"model\.py"):
        waited(explorer)
    assert views(explorer.runs[0])["table"]["rows"]


def test_a_surface_has_no_model(surface):
    explorer = Explorer([surface])
    explorer.load(0)
    with pytest.raises(ValueError, match="there is no model"):
        waited(explorer)


def waited(explorer):
    """Return the network of an explorer once it is loaded."""
    while not explorer.load(0).over:
        pass
    return explorer.live(0)
