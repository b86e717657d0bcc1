"""The explorer without a browser: what its views say, where its points lie, who may ask, and what it refuses."""

import json
import socket
import threading

import numpy as np
import pytest
import torch
from explored_runs import minima_run, plane_run, surface_run
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape.cli import app
from topolandscape.explore import figures, network_figures, write_page
from topolandscape.explore.connecting import connection
from topolandscape.explore.jobs import Jobs, Stopped
from topolandscape.explore.landscape_figures import landscape
from topolandscape.explore.landscape_figures import surface as surface_figure
from topolandscape.explore.layers import chain, names_of
from topolandscape.explore.live import Live, along_weights, live, recipe_of
from topolandscape.explore.looks import look
from topolandscape.explore.model import Explored, branches, explored, way_of, way_on_grid
from topolandscape.explore.page import points_and_directions
from topolandscape.explore.places import plane, point
from topolandscape.explore.server import Explorer, application, is_own
from topolandscape.explore.slices import descent, slice_of
from topolandscape.explore.views import views
from topolandscape.files import Run
from topolandscape.landscape.curvature import hessians
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


@pytest.fixture(scope="module")
def network(minima):
    return live(recipe_of(minima), minima, explored(minima))


def silent(share):
    """Be told how much is done."""


# ------------------------------------------------------------------------------------------------- what is shown


def rough_grid(seed, shape=(12, 15)):
    values = np.random.default_rng(seed).normal(size=shape)
    return LossSamples(np.argwhere(np.ones(shape)), values.ravel(), shape=shape)


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


# ------------------------------------------------------------------------------------------------- points, planes


def test_a_place_on_a_path_has_the_loss_of_its_profile(network):
    run = network.run
    for bar in np.flatnonzero(~run.code.essential).tolist():
        edge = run.code.death_simplex[bar]
        profile = run.profiles[tuple(run.network.ends[edge].tolist())]
        shares = (profile.distances / profile.length)[:: len(profile.distances) // 7]
        points = np.array([point(network, {"path": [bar, float(share)]}) for share in shares])
        there = network.landscape.values(points)
        np.testing.assert_allclose(there, profile.losses[:: len(profile.distances) // 7], rtol=1e-9)
        top = point(network, {"pass": bar})
        assert network.landscape.values([top])[0] == pytest.approx(run.code.death[bar], rel=1e-5)


def test_a_minimum_has_the_loss_at_which_its_bar_is_born(network):
    code = network.run.code
    points = np.array([point(network, {"minimum": int(row)}) for row in code.birth_vertex])
    np.testing.assert_allclose(network.landscape.values(points), code.birth, rtol=1e-9)


def test_a_place_on_a_way_over_samples_is_between_them(sampled):
    at = live(recipe_of(sampled), sampled, explored(sampled))
    samples, code = at.run.samples, at.run.code
    (bar,) = np.flatnonzero(~code.essential)[:1].tolist()
    rows = way_of(at.run, bar)
    ends = np.array([point(at, {"path": [bar, share]}) for share in (0, 1)])
    np.testing.assert_allclose(ends, samples.parameters(rows[[0, -1]]))
    np.testing.assert_allclose(at.landscape.values(ends), samples.values[rows[[0, -1]]], rtol=1e-4)


def test_a_moved_weight_is_the_only_one_that_changes(network):
    before, after = point(network, {"minimum": 0}), point(network, {"minimum": 0, "moved": {"3": 1.25}})
    assert np.flatnonzero(before != after).tolist() == [3]
    assert after[3] == 1.25


def test_a_plane_goes_through_its_points(network):
    through = [{"minimum": 0}, {"minimum": 1}, {"start": 0}]
    found = plane(network, {"through": through})
    names = ["minimum 0", "minimum 1", "start"]
    assert list(found.points) == names
    back = found.subspace.parameters([found.points[name] for name in names])
    np.testing.assert_allclose(back, [point(network, said) for said in through], atol=1e-12)
    np.testing.assert_allclose(found.subspace.directions @ found.subspace.directions.T, np.eye(2), atol=1e-12)
    assert all((found.low < place).all() and (place < found.high).all() for place in found.points.values())
    place = point(network, {"plane": {"through": through}, "xy": [0.3, -0.2]})
    np.testing.assert_allclose(place, found.subspace.parameters([[0.3, -0.2]])[0])


def test_directions_of_the_hessian_are_its_eigenvectors(network):
    said = {"through": [{"minimum": 0}, {"highest": 0}, {"lowest": 0}], "reach": 0.1}
    found = plane(network, said)
    values, vectors = np.linalg.eigh(hessians(network.landscape, point(network, {"minimum": 0})[None])[0])
    assert abs(found.subspace.directions[0] @ vectors[:, -1]) == pytest.approx(1, abs=1e-3)
    assert abs(found.subspace.directions[1] @ vectors[:, 0]) == pytest.approx(1, abs=1e-2)
    assert values[0] < values[-1]


def test_a_slice_holds_the_losses_of_its_points(network):
    said = {"through": [{"minimum": 0}, {"gradient": 0}, {"random": 1}], "reach": 0.3}
    told = []
    found = slice_of(network, said, 9, told.append)
    np.testing.assert_allclose(found.samples.values, network.landscape.values(found.samples.parameters()), rtol=1e-9)
    np.testing.assert_array_equal(barcode(merge_tree(grid(found.samples, connectivity="full"))).birth, found.code.birth)
    assert told[-1] == 1.0
    assert told == sorted(told)
    go.Figure(landscape(found.samples, found.code, points=found.plane.points, lines=found.lines, meta="own"))
    go.Figure(surface_figure(found.samples, points=found.plane.points, tracks={"path": found.samples.points[:4]}))


def test_a_descent_goes_down(network):
    way = descent(network, {"start": 0}, 40, 0.02, silent)
    np.testing.assert_array_equal(way.points[0], point(network, {"start": 0}))
    np.testing.assert_allclose(way.losses, network.landscape.values(way.points), rtol=1e-9)
    assert way.losses[-1] < way.losses[0]


def test_a_path_is_bent_below_the_segment_and_keeps_its_ends(network):
    first, second = {"minimum": 0}, {"minimum": 2}
    found = connection(network, first, second, silent)
    np.testing.assert_array_equal(found.points[[0, -1]], [point(network, first), point(network, second)])
    segment = tl.landscape.passes.straight_paths(found.points[:1], found.points[-1:], 401)[0]
    barrier, straight = found.barriers
    base = network.landscape.values(found.points[[0, -1]]).max()
    assert straight == pytest.approx(network.landscape.values(segment).max() - base, rel=1e-3)
    assert 0 < barrier < straight / 10
    between = tl.landscape.passes.refined(found.points[None], 801)[0]
    assert network.landscape.values(between).max() - base == pytest.approx(barrier, rel=1e-2)
    distances, losses, top = found.path
    assert losses[distances == top] == pytest.approx(base + barrier, rel=1e-3)
    assert found.ends == ("minimum 0", "minimum 2")
    drawn = figures.between(found.path, found.straight, ends=found.ends, converged=found.converged)
    assert [trace["name"] for trace in go.Figure(drawn).data[1:]] == ["end", "path maximum", "straight"]


def test_a_path_finds_the_way_around_a_hill():
    # Along the unit circle the loss rises to 0.1, on the segment over the hill to 10.
    landscape = tl.Landscape.from_function(lambda x: 10 * (x.norm(dim=1) - 1) ** 2 + 0.1 * (1 - x[:, 0] ** 2), 2)
    samples = LossSamples([[-1.0, 0.0], [0.96, 0.28]], [0.0, 0.1 * 0.28**2])
    code = Barcode.from_pairs([(0.0, np.inf)])
    at = Live(landscape, None, Explored("circle", code, merge_tree(grid(rough_grid(0))), None, {}, samples))
    found = connection(at, {"minimum": 0}, {"minimum": 1}, silent)
    assert found.barriers[0] == pytest.approx(0.1 * 0.96**2, rel=1e-2)
    assert found.barriers[1] > 7
    np.testing.assert_allclose(np.linalg.norm(found.points, axis=1), 1, atol=0.05)


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_a_path_that_is_stopped_is_kept_as_far_as_it_was_bent(network, parts):
    told = []

    def report(share):
        if len(told) == parts:
            raise Stopped
        told.append(share)

    first, second = {"minimum": 0}, {"minimum": 2}
    found = connection(network, first, second, report)
    barrier, straight = found.barriers
    assert not found.converged
    assert barrier == straight if parts == 0 else barrier < straight
    assert barrier >= connection(network, first, second, silent).barriers[0]
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("second", "message"),
    [({"random": 1}, "random is a direction; choose points"), ({"minimum": 0}, "are the same"), (None, "no point")],
)
def test_what_is_no_end_of_a_path_is_refused(network, second, message):
    with pytest.raises(ValueError, match=message):
        connection(network, {"minimum": 0}, second, silent)


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        "minimum 0",
        {},
        {"minimum": 10**6},
        {"minimum": -1},
        {"minimum": True},
        {"minimum": "0"},
        {"minimum": "__import__('os')"},
        {"path": [1, 2.0]},
        {"path": [1]},
        {"path": 3},
        {"pass": 0},
        {"file": "/etc/passwd"},
        {"start": 0, "moved": {"99": 1.0}},
        {"start": 0, "moved": {"0": float("nan")}},
        {"start": 0, "moved": {"zero": 1.0}},
        {"plane": {"through": [{"start": 0}]}, "xy": [0, 0]},
        {"plane": {"through": [{"start": 0}, {"random": 1}, {"random": 2}], "reach": -1}, "xy": [0, 0]},
        {"plane": {"through": [{"start": 0}, {"random": 1}, {"random": 1}]}, "xy": [0, 0]},
        {"plane": {"through": [{"start": 0}, {"random": 1}, {"random": 2}]}, "xy": [0, float("inf")]},
        {"plane": {"through": [{"start": 0}, {"highest": 50}, {"random": 2}]}, "xy": [0, 0]},
    ],
)
def test_what_is_no_point_is_refused(network, said):
    with pytest.raises(ValueError, match=r"."):
        point(network, said)


def test_points_on_planes_through_points_on_planes_end(network):
    said = {"start": 0}
    for seed in range(40):
        said = {"plane": {"through": [said, {"random": seed}, {"random": seed + 1}]}, "xy": [0.1, 0.1]}
    with pytest.raises(ValueError, match="no point"):
        point(network, said)


def test_options_of_slices_are_points_and_planes(network):
    code = network.run.code
    rows = [{"bar": row, "minimum": int(code.birth_vertex[row]), "ends": not code.essential[row]} for row in (0, 1)]
    points, others = points_and_directions(rows)
    for option in points[1:]:
        assert len(point(network, json.loads(option["value"]))) == network.landscape.dimension
    for option in others:
        second = json.loads(option["value"])
        if second not in ("here", {"random": 9}):
            try:
                plane(network, {"through": [{"minimum": 1}, second, {"random": 9}]})
            except ValueError as error:  # the point itself, and a gradient that vanishes there
                assert "points[1]" in str(error)  # noqa: PT017


# ------------------------------------------------------------------------------------------------- the network


def test_the_loss_along_a_weight_is_that_of_the_moved_weight(network):
    where = point(network, {"minimum": 0})
    steps, losses = along_weights(network, where, 0.5)
    assert losses.shape == (len(where), len(steps))
    moved = where.copy()
    moved[4] += steps[7]
    assert losses[4, 7] == pytest.approx(network.landscape.values(moved[None])[0], rel=1e-9)
    np.testing.assert_allclose(losses[:, len(steps) // 2], network.landscape.values(where[None])[0], rtol=1e-9)


def test_a_chain_of_layers_is_known_by_its_parameters(network):
    first, second = chain(network.landscape)
    assert first.weights.shape == (2, 2)
    assert second.weights.shape == (1, 2)
    numbers = np.concatenate([first.weights.ravel(), first.biases, second.weights.ravel(), second.biases])
    assert numbers.tolist() == list(range(network.landscape.dimension))
    names = names_of(network.landscape)
    weight = network.landscape.module_at(np.arange(9.0)).linear1.weight.detach()
    assert weight[1, 0] == first.weights[1, 0]
    assert names[first.weights[1, 0]] == "linear1.weight[1, 0]"


def test_a_network_with_convolutions_is_no_chain():
    inputs, targets = torch.zeros(3, 64), torch.zeros(3, dtype=torch.int64)
    module = tl.zoo.network("conv:1x8x8-2-10", seed=0)
    landscape = tl.Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.cross_entropy)
    assert chain(landscape) is None


@pytest.mark.parametrize(
    ("model", "data", "first"),
    [
        ("mlp:1-2-1", "sine_regression", "scatter"),
        ("mlp:2-2-2", "two_moons", "heatmap"),
        ("mlp:2-2-1", "teacher_student", "heatmap"),
        ("mlp:4-3-3", "iris", "heatmap"),
    ],
)
def test_a_look_shows_the_prediction_that_fits_the_data(model, data, first):
    at = live(Recipe(model=model, data=data))
    seen = look(at, {"start": 0}, picked=1)
    assert seen.prediction["data"][0]["type"] == first
    for figure in (seen.prediction, seen.network, seen.weights):
        go.Figure(figure)
        json.dumps(figure, allow_nan=False)
    loss = at.landscape.values(at.landscape.point[None])[0]
    assert seen.said.startswith(f"loss {loss:.6g}")
    if data == "iris":
        table = np.array(seen.prediction["data"][0]["z"])
        accuracy = at.landscape.accuracies(at.landscape.point[None])[1][0]
        assert np.trace(table) / table.sum() == pytest.approx(accuracy)


def test_an_edge_is_as_thick_as_its_weight_is_large(network):
    where = np.array([0.1, -2.0, 0.5, 1.0, 0.0, 0.0, 0.2, -0.1, 0.0])
    traces = network_figures.network(chain(network.landscape), where, names_of(network.landscape))["data"]
    widths = {}
    for trace in traces:
        if trace["mode"] == "lines":
            for k in range(0, len(trace["x"]), 3):
                widths[(trace["x"][k], trace["y"][k], trace["y"][k + 1])] = trace["line"]["width"]
    assert len(widths) == 6
    assert max(widths.values()) == widths[(0, 0.25, -0.25)] == 5.4  # from the second input to the first neuron


# ------------------------------------------------------------------------------------------------- jobs


def test_a_job_is_stopped_and_the_next_one_runs():
    jobs, begun = Jobs(), threading.Event()

    def endless(report):
        while True:
            begun.set()
            report(0.5)

    first = jobs.start(endless)
    second = jobs.start(lambda report: "done")
    assert begun.wait(10)
    assert jobs.job(first).state == "running"
    assert jobs.job(second).state == "waiting"
    jobs.stop(first)
    assert jobs.wait(first).state == "stopped"
    assert jobs.wait(second).result == "done"
    assert jobs.job(99) is None


def test_what_a_stopped_job_had_is_kept():
    jobs, begun = Jobs(), threading.Event()

    def counting(report):
        count = 0
        try:
            while True:
                report(0.5)
                count += 1
                begun.set()
        except Stopped:
            return count

    number = jobs.start(counting)
    assert begun.wait(10)
    jobs.stop(number)
    job = jobs.wait(number)
    assert job.state == "stopped"
    assert job.result > 0


def test_a_job_that_fails_says_why():
    jobs = Jobs()

    def failing(report):
        raise ValueError("two\nlines")

    job = jobs.wait(jobs.start(failing))
    assert (job.state, job.message) == ("failed", "two lines")


# ------------------------------------------------------------------------------------------------- who may ask


@pytest.mark.parametrize(
    ("host", "origin", "method", "own"),
    [
        ("127.0.0.1:8050", None, "GET", True),
        ("localhost:1", "http://localhost:1", "POST", True),
        ("[::1]:8050", "http://[::1]:8050", "POST", True),
        ("127.0.0.1:8050", None, "POST", False),
        ("127.0.0.1:8050", "null", "POST", False),
        ("127.0.0.1:8050", "http://localhost:8050", "POST", False),
        ("127.0.0.1:8050", "http://127.0.0.1:3000", "POST", False),
        ("127.0.0.1:8050", "https://evil.example", "GET", False),
        ("evil.example", None, "GET", False),
        ("evil.example:8050", "http://evil.example:8050", "POST", False),
        ("127.0.0.1.evil.example:8050", None, "GET", False),
        ("evil.example@127.0.0.1", "http://evil.example@127.0.0.1", "POST", False),
        ("[", None, "GET", False),
        ("", None, "GET", False),
        (None, None, "GET", False),
    ],
)
def test_only_the_page_itself_may_ask(host, origin, method, own):
    assert is_own(host, origin, method) is own


@pytest.fixture(scope="module")
def client(surface):
    pytest.importorskip("dash", reason="Dash is not installed")
    return application(Explorer([surface])).server.test_client()


def test_requests_of_others_are_refused(client):
    own = {"Host": "127.0.0.1:8050"}
    assert client.get("/", headers=own).status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
    body = {"json": {"output": "x.data", "inputs": []}}
    assert client.post("/_dash-update-component", headers=own, **body).status_code == 403
    other = own | {"Origin": "https://evil.example"}
    assert client.post("/_dash-update-component", headers=other, **body).status_code == 403
    policy = client.get("/", headers=own).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/manifest.json",
        "/assets/../server.py",
        "/assets/%2e%2e/server.py",
        "/assets/../../../pyproject.toml",
        "/_dash-component-suites/dash/../../../../etc/passwd",
        "/_dash-component-suites/topolandscape/cli.py",
        "/camel.npy",
    ],
)
def test_no_file_is_served_but_those_of_the_page(client, path):
    answer = client.get(path, headers={"Host": "127.0.0.1:8050"})
    # Dash answers any other address with the page itself.
    assert answer.status_code >= 400 or b"_dash-config" in answer.data


def test_the_page_asks_no_other_host(client):
    text = client.get("/", headers={"Host": "127.0.0.1:8050"}).get_data(as_text=True)
    assert "https://" not in text
    assert 'src="http' not in text


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
