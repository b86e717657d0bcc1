"""What the explorer computes while one looks: points, planes, paths, and the network at a point."""

import json

import numpy as np
import pytest
import torch
from explored_runs import minima_run, plane_run, rough_grid

import topolandscape as tl
from topolandscape.explore import figures, network_figures
from topolandscape.explore.connecting import connection
from topolandscape.explore.jobs import Stopped
from topolandscape.explore.landscape_figures import landscape
from topolandscape.explore.landscape_figures import surface as surface_figure
from topolandscape.explore.layers import chain, names_of
from topolandscape.explore.live import Live, along_weights, descent, live, plane, point, recipe_of, slice_of
from topolandscape.explore.looks import look
from topolandscape.explore.model import Explored, explored, way_of
from topolandscape.explore.page import points_and_directions
from topolandscape.landscape.curvature import hessians
from topolandscape.structures import Barcode, LossSamples
from topolandscape.study import Recipe
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
def network(minima):
    return live(recipe_of(minima), minima, explored(minima))


def silent(share):
    """Be told how much is done."""


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
