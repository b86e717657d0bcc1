"""The zoo against literature values, plain union-find, gudhi, and published losses."""

import math
import pickle
import subprocess
import sys

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import topolandscape as tl
from topolandscape import zoo

# --------------------------------------------------------------------------------------------------------------
# Oracles: union-find on a grid, derivatives by differences
# --------------------------------------------------------------------------------------------------------------


def component_bars(grid):
    """Return the bars of the components of the sublevel sets of a grid, axis neighbours, by the elder rule."""
    values = grid.ravel().tolist()
    strides = [math.prod(grid.shape[axis + 1 :]) for axis in range(grid.ndim)]
    parent, bars = {}, []

    def find(x):
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for x in np.argsort(grid.ravel(), kind="stable").tolist():
        parent[x] = x
        for stride, n in zip(strides, grid.shape, strict=True):
            place = x // stride % n
            for y in ([x - stride] if place > 0 else []) + ([x + stride] if place < n - 1 else []):
                if y in parent:
                    a, b = find(x), find(y)
                    if a != b:
                        older, younger = sorted((a, b), key=lambda root: (values[root], root))
                        parent[younger] = older
                        if values[younger] < values[x]:
                            bars.append((values[younger], values[x]))
    return sorted([*bars, (values[find(0)], math.inf)])


def all_bars(grid):
    complex = gudhi.CubicalComplex(vertices=grid)
    complex.compute_persistence()
    bars = {k: complex.persistence_intervals_in_dimension(k).tolist() for k in range(grid.ndim)}
    return {k: sorted((b, d) for b, d in bars[k] if b < d) for k in bars}


def gradient_and_hessian(function, point, step=1e-3):
    """Return derivatives by differences of fourth order."""
    d = len(point)
    weights = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
    eye = np.eye(d) * step

    def gradient(at):
        return sum(w * np.array([function((at + k * e)[None])[0] for e in eye]) for k, w in weights.items()) / step

    hessian = sum(w * np.array([gradient(point + k * e) for e in eye]) for k, w in weights.items()) / step
    return gradient(point), (hessian + hessian.T) / 2


def longer_than(bars, length):
    return [bar for bar in bars if bar[1] - bar[0] > length]


def assert_close(found, expected, tolerance):
    """Bars agree one by one, in an order that does not depend on rounding."""
    assert len(found) == len(expected)
    assert gudhi.bottleneck_distance(np.array(found), np.array(expected)) < tolerance


# --------------------------------------------------------------------------------------------------------------
# Functions
# --------------------------------------------------------------------------------------------------------------

SMOOTH = [known for name, known in zoo.functions.items() if name not in ("two_weights", "ackley")]


@pytest.mark.parametrize("known", SMOOTH, ids=lambda known: known.name)
def test_critical_points_have_no_gradient_and_the_right_index(known):
    for points, index in ((known.minima, 0), (known.saddles, 1)):
        for point in points:
            inside = (point > known.low) & (point < known.high)
            gradient, hessian = gradient_and_hessian(known.function, point)
            assert (np.linalg.eigvalsh(hessian[np.ix_(inside, inside)]) < 0).sum() == index
            step = np.linalg.solve(hessian[np.ix_(inside, inside)], gradient[inside])
            assert np.abs(step).max(initial=0) < 2e-9
            outwards = np.where(point >= known.high, 1, -1)
            assert (gradient[~inside] * outwards[~inside] < 0).all()  # lower still outside


def test_critical_points_of_ackley():
    known = zoo.functions["ackley"]
    for points, index in ((known.minima[1:], 0), (known.saddles, 1)):
        for point in points:
            gradient, hessian = gradient_and_hessian(known.function, point)
            assert np.abs(np.linalg.solve(hessian, gradient)).max() < 2e-9
            assert (np.linalg.eigvalsh(hessian) < 0).sum() == index
    ring = 1e-6 * np.array([[math.cos(t), math.sin(t)] for t in np.linspace(0, 2 * math.pi, 32)])
    assert (known.function(ring) > known.function(known.minima[:1])).all()  # a cone: no gradient at the centre


GRIDS = {1: (20_001,), 2: (401, 381)}
NAMES = sorted(zoo.functions)


@pytest.mark.parametrize("name", NAMES)
def test_bars_of_degree_0_agree_with_union_find_on_a_grid(name):
    known = zoo.functions[name]
    samples = known.on_grid(GRIDS[known.dimension])
    grid = samples.values.reshape(samples.shape)
    scale = grid.max() - grid.min()
    # A narrow valley that runs across the axes gives short false bars on a grid.
    noise = {"mueller_brown": 1.5e-3, "rosenbrock": 5e-5}.get(name, 3e-4) * scale
    expected = known.bars[0]
    found = longer_than(component_bars(grid), noise)
    assert min(death - birth for birth, death in expected) > noise
    assert_close(found, expected, noise)


@pytest.mark.parametrize("name", [name for name in NAMES if zoo.functions[name].dimension == 2])
def test_bars_of_degree_1_agree_with_gudhi_on_a_grid(name):
    known = zoo.functions[name]
    samples = known.on_grid((801, 761))
    noise = 2e-4 * np.ptp(samples.values)
    found = longer_than(all_bars(samples.values.reshape(samples.shape))[1], noise)
    expected = longer_than(known.bars[1], noise)
    assert len(expected) == len(known.bars[1])
    assert_close(found, expected, noise)


@pytest.mark.parametrize(
    ("name", "bars"),
    [
        ("three_hump_camel", [(0, math.inf), (0.2986384422, 0.8773615578), (0.2986384422, 0.8773615578)]),
        ("quartic", [(-0.3219193469, math.inf), (-0.1805869666, 0.0025063135)]),
        ("rastrigin_1d", [(0, math.inf), *[(0.99496, 20.25127)] * 2, *[(3.97983, 22.26146)] * 2]),
        (
            "schwefel_1d",
            [
                (0, math.inf),
                (118.43833, 719.52744),
                (217.13967, 620.8261),
                (238.39373, 837.96577),
                (296.10671, 541.85906),
                (355.34791, 482.61787),
                (394.89993, 443.06585),
                (415.03759, 422.92819),
            ],
        ),
        ("egg_carton", [(-2, 0), (-2, 0), (-2, 0), (-2, math.inf)]),
        ("two_weights", [(0, 1), (0, math.inf)]),
        ("scalar_linear", [(0.86, 1.5), (0.86, math.inf)]),
        # Losses at minima and saddles as the literature gives them.
        ("mueller_brown", [(-146.6995, math.inf), (-108.1667, -40.6648), (-80.7678, -72.2489)]),
        ("rosenbrock", [(0, math.inf)]),
    ],
)
def test_bars_are_the_published_ones(name, bars):
    decimals = 9.9e-5 if name == "mueller_brown" else 1e-5
    assert np.allclose(zoo.functions[name].bars[0], bars, rtol=0, atol=decimals)


@pytest.mark.parametrize(
    ("name", "minimum", "loss"),
    [
        ("six_hump_camel", (0.0898, -0.7126), -1.0316),
        ("himmelblau", (-3.779310, -3.283186), 0.0),
        ("schwefel_2d", (420.9687, 420.9687), 0.0),
        ("rastrigin_2d", (0, 0), 0.0),
        ("levy", (1, 1), 0.0),
        ("ackley", (0, 0), 0.0),
    ],
)
def test_minima_are_the_published_ones(name, minimum, loss):
    known = zoo.functions[name]
    assert np.abs(known.minima - minimum).max(axis=1).min() < 1e-4
    assert known.function(np.array([minimum], dtype=float))[0] == pytest.approx(loss, abs=1e-4)
    assert min(birth for birth, _ in known.bars[0]) == pytest.approx(loss, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bars_count_the_critical_points(name):
    known = zoo.functions[name]
    assert len(known.bars[0]) == len(known.minima)
    assert sorted(known.bars) == list(range(known.dimension))
    if known.dimension == 2:
        assert len(known.saddles) == len(known.minima) - 1 + len(known.bars[1])


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=6), min_size=2, max_size=3))
def test_kuenneth_holds_exactly_on_product_grids(lines):
    total = {0: all_bars(np.array(lines[0], dtype=float))[0]}
    grid = np.array(lines[0], dtype=float)
    for line in lines[1:]:
        total = zoo.kuenneth(total, {0: all_bars(np.array(line, dtype=float))[0]})
        grid = grid[..., None] + np.array(line, dtype=float)
    assert {k: list(bars) for k, bars in total.items()} == all_bars(grid)


@pytest.mark.parametrize(
    ("name", "shape"), [("rastrigin_1d", (41, 23, 31)), ("schwefel_1d", (47, 41, 29)), ("quartic", (9, 8, 7))]
)
def test_sum_of_three_lines_has_the_bars_of_its_grid_in_every_degree(name, shape):
    line = zoo.functions[name]
    cube = zoo.separable_sum(line, line, line)
    samples = cube.on_grid(shape)
    axes = [{0: component_bars(line.on_grid((n,)).values)} for n in shape]
    expected = zoo.kuenneth(zoo.kuenneth(axes[0], axes[1]), axes[2])
    assert all_bars(samples.values.reshape(shape)) == {k: list(bars) for k, bars in expected.items()}
    assert (len(cube.low), len(cube.minima)) == (3, len(line.minima) ** 3)


def test_kuenneth_does_not_know_what_depends_on_the_unknown():
    bars = zoo.kuenneth({0: ((0.0, math.inf),), 1: None}, {0: ((1.0, math.inf),)})
    assert bars == {0: ((1.0, math.inf),), 1: None, 2: None}


def test_two_weights_of_width_2_close_a_loop():
    known = zoo.two_weights(2)
    grid = known.on_grid((21, 21, 21, 21)).values.reshape((21,) * 4)
    bars = all_bars(grid)
    assert longer_than(bars[0], 0.3) == [(grid.min(), math.inf)]
    [(birth, death)] = longer_than(bars[1], 0.3)
    assert death == 1.0  # the origin is on the grid
    assert birth == pytest.approx(0, abs=0.01)
    assert not longer_than(bars[2] + bars[3], 0.3)
    assert known.bars == {0: ((0.0, math.inf),), 1: ((0.0, 1.0),), 2: (), 3: ()}
    assert known.function(known.minima) == pytest.approx(0)


@pytest.mark.parametrize(
    ("n", "a", "gamma", "bars"),
    [(2, 1.0, 0.5, 2), (2, -1.0, 0.5, 2), (2, 0.5, 0.7, 1), (3, 1.0, 0.1, 5), (3, -1.0, 0.2, 5), (3, 1.0, 0.9, 1)],
)
def test_scalar_linear_agrees_with_a_grid(n, a, gamma, bars):
    known = zoo.scalar_linear(n, a=a, c=1.5, gamma=gamma)
    shape = (401, 401) if n == 2 else (61, 61, 61)
    found = all_bars(known.on_grid(shape).values.reshape(shape))
    coarse = 4e-4 if n == 2 else 1e-2
    assert len(known.bars[0]) == len(known.minima) == bars
    assert_close(longer_than(found[0], coarse), longer_than(known.bars[0], coarse), coarse)
    assert not longer_than(found[1], coarse)
    for points, index in ((known.minima, 0), (known.saddles, 1)):
        for point in points:
            gradient, hessian = gradient_and_hessian(known.function, point)
            assert np.abs(gradient).max() < 1e-9
            assert (np.linalg.eigvalsh(hessian) < 0).sum() == index


@pytest.mark.parametrize("arguments", [(1, 1.0, 1.5, 0.1), (2, 1.0, 1.5, 0.0), (2, 2.0, 1.5, 0.1)])
def test_scalar_linear_refuses_what_is_no_network(arguments):
    with pytest.raises(ValueError, match="must be at least 2, gamma above 0, and c at least"):
        zoo.scalar_linear(*arguments)


def test_wrong_arguments_of_functions_are_named():
    with pytest.raises(ValueError, match="m is 0"):
        zoo.two_weights(0)
    with pytest.raises(ValueError, match=r"shape \(5,\) does not fit himmelblau; it needs 2"):
        zoo.functions["himmelblau"].on_grid((5,))
    with pytest.raises(ValueError, match="no function was given"):
        zoo.separable_sum()


def test_grid_runs_over_the_last_coordinate_first():
    samples = zoo.functions["mueller_brown"].on_grid((3, 2))
    assert samples.shape == (3, 2)
    assert samples.points[:3].tolist() == [[-1.5, -0.2], [-1.5, 2.0], [pytest.approx(-0.15), -0.2]]


# --------------------------------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------------------------------


def shapes(module):
    return [tuple(parameter.shape) for parameter in module.parameters()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp:64-16-10", [(16, 64), (16,), (10, 16), (10,)]),
        ("mlp:64-16-10,tanh,nobias", [(16, 64), (10, 16)]),
        ("mlp:3-2", [(2, 3), (2,)]),
        ("mlp:4-3-2,bn,nobias", [(3, 4), (3,), (3,), (2, 3)]),
        ("linear:64-8-10,nobias", [(8, 64), (10, 8)]),
        ("conv:1x8x8-4-6-10", [(4, 1, 3, 3), (4,), (6, 4, 3, 3), (6,), (10, 6), (10,)]),
        ("conv:2x4x5-3-10,flatten,nobias,gelu", [(3, 2, 3, 3), (10, 60)]),
    ],
)
def test_networks_have_the_sizes_of_their_names(name, expected):
    module = zoo.network(name, seed=0)
    assert shapes(module) == expected
    inputs = {"mlp:3-2": 3, "mlp:4-3-2,bn,nobias": 4, "conv:2x4x5-3-10,flatten,nobias,gelu": 40}.get(name, 64)
    assert module(torch.zeros(7, inputs)).shape == (7, 2 if name in ("mlp:3-2", "mlp:4-3-2,bn,nobias") else 10)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", torch.relu),
        ("tanh", torch.tanh),
        ("gelu", torch.nn.functional.gelu),
        ("linear", lambda x: x),
        ("quadratic", lambda x: x**2),
    ],
)
def test_activations_stand_between_the_layers_only(activation, expected):
    module = zoo.network(f"mlp:3-5-2,{activation}", seed=1)
    first, inner, second, outer = (parameter.detach() for parameter in module.parameters())
    x = torch.linspace(-2, 2, 12).reshape(4, 3)
    assert torch.allclose(module(x), expected(x @ first.T + inner) @ second.T + outer, atol=1e-6)


def test_relu_is_the_activation_unless_another_is_named():
    assert str(zoo.network("mlp:3-4-2", seed=0)) == str(zoo.network("mlp:3-4-2,relu", seed=0))
    assert any(isinstance(layer, torch.nn.ReLU) for layer in zoo.network("conv:1x8x8-4-10", seed=0))


def test_convolution_takes_flat_rows_and_images_alike():
    module = zoo.network("conv:1x8x8-4-10", seed=0)
    rows = torch.linspace(-1, 1, 128).reshape(2, 64)
    assert torch.equal(module(rows), module(rows.reshape(2, 1, 8, 8)))
    weights = dict(module.named_parameters())
    images = rows.reshape(2, 1, 8, 8)
    hidden = torch.relu(torch.nn.functional.conv2d(images, weights["conv1.weight"], weights["conv1.bias"], padding=1))
    expected = hidden.mean(dim=(2, 3)) @ weights["linear.weight"].T + weights["linear.bias"]
    assert torch.allclose(module(rows), expected, atol=1e-6)


def test_seed_decides_the_weights_and_leaves_torch_as_it_was():
    before = torch.get_rng_state()
    one, same, other = (zoo.network("mlp:8-4-2", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
    zoo.network("mlp:8-4-2")
    assert not torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(before)


def test_networks_can_be_pickled():
    module = zoo.network("mlp:3-2-1,quadratic,bn", seed=0).eval()
    again = pickle.loads(pickle.dumps(module))
    assert torch.equal(again(torch.ones(1, 3)), module(torch.ones(1, 3)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mpl:64-16-10", "there is no network 'mpl:64-16-10'. Did you mean mlp:64-16-10"),
        ("resnet18", r"there is no network 'resnet18'. A network is named as in\nmlp:"),
        ("mlp:64-x6-10", "size 2 of the network 'mlp:64-x6-10' is 'x6'; it needs to be a positive whole number"),
        ("mlp:64-0-10", "size 2 .* is '0'"),
        ("mlp:", "size 1 .* is ''"),
        ("mlp:64", "has 1 size"),
        ("mlp:64-10,", "has the option ''"),
        ("conv:64-8-10", "size 1 of the network .* is '64'; it needs to be channels x height x width"),
        ("conv:1x8x8-10", "needs at least 3"),
        ("mlp:64-10,rulu", "option 'rulu'.*did you mean relu"),
        ("linear:64-10,tanh", "option 'tanh'; those of linear are nobias"),
        ("mlp:64-10,tanh,relu", "activations tanh and relu; give one"),
    ],
)
def test_wrong_names_of_networks_say_which_part(name, message):
    with pytest.raises(ValueError, match=message):
        zoo.network(name)


# --------------------------------------------------------------------------------------------------------------
# Data sets
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", zoo.DATASETS)
def test_data_fit_a_network_and_its_loss(name):
    data = zoo.dataset(name)
    module = zoo.network(f"mlp:{data.n_inputs}-4-{data.n_outputs}", seed=0)
    loss = {"cross_entropy": torch.nn.functional.cross_entropy, "mse": torch.nn.functional.mse_loss}[data.loss]
    outputs = module(torch.from_numpy(data.inputs))
    assert torch.isfinite(loss(outputs, torch.from_numpy(data.targets)))
    assert data.inputs.dtype == data.test_inputs.dtype == np.float32
    assert data.targets.dtype == data.test_targets.dtype == (np.int64 if data.loss == "cross_entropy" else np.float32)
    assert len(data.inputs) == len(data.targets)
    assert len(data.test_inputs) == len(data.test_targets)


@pytest.mark.parametrize(
    ("name", "train", "test", "inputs", "outputs"),
    [
        ("digits", 1437, 360, 64, 10),
        ("iris", 120, 30, 4, 3),
        ("breast_cancer", 455, 114, 30, 2),
        ("two_moons", 400, 100, 2, 2),
        ("circles", 400, 100, 2, 2),
        ("teacher_student", 200, 50, 2, 1),
        ("sine_regression", 50, 0, 1, 1),
    ],
)
def test_sizes_of_data_sets(name, train, test, inputs, outputs):
    data = zoo.dataset(name)
    assert (len(data.inputs), len(data.test_inputs), data.n_inputs, data.n_outputs) == (train, test, inputs, outputs)


@pytest.mark.parametrize("name", ["digits", "iris", "breast_cancer", "two_moons", "circles"])
def test_classes_are_scaled_by_the_training_part_and_split_evenly(name):
    data = zoo.dataset(name)
    constant = np.ptp(data.inputs, axis=0) == 0
    assert np.allclose(data.inputs.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(data.inputs.std(axis=0)[~constant], 1, atol=1e-4)
    assert (data.inputs[:, constant] == 0).all()
    assert (data.test_inputs[:, constant] == 0).all()
    assert constant.sum() == (4 if name == "digits" else 0)
    parts = np.bincount(data.test_targets) / np.bincount(np.concatenate([data.targets, data.test_targets]))
    assert np.allclose(parts, 0.2, atol=0.02)


def test_every_digit_is_there_once():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = zoo.dataset("digits")
    assert (np.bincount(labels) == np.bincount(data.targets) + np.bincount(data.test_targets)).all()
    rows = np.concatenate([data.inputs, data.test_inputs]).round(3)
    assert len(np.unique(rows, axis=0)) == len(np.unique(images, axis=0))


@pytest.mark.parametrize("name", [name for name in zoo.DATASETS if name != "sine_regression"])
def test_seed_decides_the_data(name):
    one, same, other = (zoo.dataset(name, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.inputs, same.inputs)
    assert not np.array_equal(one.inputs, other.inputs)


def test_teacher_has_no_loss():
    data = zoo.dataset("teacher_student", seed=5)
    student = zoo.network("mlp:2-3-1,tanh", seed=0)
    torch.nn.utils.vector_to_parameters(torch.tensor(data.optimum, dtype=torch.float32), student.parameters())
    for inputs, targets in ((data.inputs, data.targets), (data.test_inputs, data.test_targets)):
        assert np.abs(student(torch.from_numpy(inputs)).detach().numpy() - targets).max() < 1e-5


def test_sine_regression_is_the_published_one():
    data = zoo.dataset("sine_regression", seed=3)
    x = np.linspace(-np.pi, np.pi, 50)
    y = -2.486780651627865 - 0.31178367 * (np.sin(x) + np.cos(x)) + 0.72900392 * (np.sin(2 * x) + np.cos(2 * x))
    assert np.allclose(data.inputs[:, 0], x, atol=1e-6)
    assert np.allclose(data.targets[:, 0], y, atol=1e-6)
    assert data.targets.astype(float).var() == pytest.approx(0.637314, abs=1e-6)


def test_one_two_one_network_has_the_published_losses():
    landscape = zoo.one_two_one_relu()
    births = {638914: 0.309139, 1447951: 0.328696, 801861: 0.342372, 568553: 0.312065, 639003: 0.310403}
    births |= {568464: 0.313676, 566734: 0.311138, 566823: 0.309267, 659773: 0.430413}
    deaths = {541402: 0.779223, 871980: 0.394553, 496642: 0.368086, 568901: 0.367645, 496452: 0.365604}
    deaths |= {568823: 0.365109, 568912: 0.364245, 515861: 0.445315}
    published = births | deaths
    axes = [np.linspace(*ends) for ends in zip(landscape.low, landscape.high, landscape.shape, strict=True)]
    places = np.unravel_index(list(published), landscape.shape)
    points = np.stack([axis[place] for axis, place in zip(axes, places, strict=True)], axis=1)
    losses = landscape.function(points)
    assert losses.dtype == torch.float32
    assert np.allclose(losses.numpy(), list(published.values()), rtol=0, atol=2e-6)
    assert torch.equal(landscape.function(torch.tensor(points)), losses)


def test_wrong_names_of_data_sets_name_the_near_ones():
    with pytest.raises(ValueError, match=r"there is no data set 'digit'; the data sets are digits, iris.*mean digits"):
        zoo.dataset("digit")


def test_the_functions_need_numpy_only():
    code = (
        "import sys, topolandscape as tl; tl.zoo.functions;"
        "print(sorted({'torch', 'sklearn', 'scipy', 'matplotlib', 'gudhi'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert tl.zoo.functions is zoo.functions
