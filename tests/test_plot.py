"""Pictures, by what their artists hold: positions and words, never pixels."""

import subprocess
import sys
import time

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection

from topolandscape import Barcode, LossSamples, MergeTree, plot, zoo

INF = np.inf


@pytest.fixture(autouse=True)
def _every_picture_can_be_drawn():
    """Draw what a test leaves open, then close it."""
    before = mpl.rcParams.copy()
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")
    assert mpl.rcParams == before


def code(pairs, minima=None, saddles=None, dim=0, **provenance):
    pairs = np.array(pairs, dtype=float).reshape(-1, 2)
    minima = np.full(len(pairs), -1) if minima is None else minima
    saddles = np.full(len(pairs), -1) if saddles is None else saddles
    dims = np.broadcast_to(dim, len(pairs)).astype(int)
    sizes = np.zeros(len(pairs), dtype=int)
    return Barcode(dims, pairs[:, 0], pairs[:, 1], minima, saddles, minima, saddles, sizes, provenance)


def line(ax, label):
    """Return the points of the marks with this name, (n, 2)."""
    found = [np.array(artist.get_data(), dtype=float).T for artist in ax.lines if artist.get_label() == label]
    return np.concatenate(found) if found else np.zeros((0, 2))


def segments(ax, dashed=None):
    """Return the straight lines of a picture as (x, y) (x, y)."""
    found = [
        segment.tolist()
        for artist in ax.collections
        if isinstance(artist, LineCollection)
        and (dashed is None or dashed == (artist.get_linestyle()[0][1] is not None))
        for segment in artist.get_segments()
    ]
    return sorted(found)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# --------------------------------------------------------------------------------------------------------------
# Bars
# --------------------------------------------------------------------------------------------------------------


def test_bars_stand_in_order_of_birth_from_birth_to_death():
    ax = plot.bars(code([(0.5, 0.75), (0.0, INF), (0.25, 2.0)]))
    (x0, y0), (x1, y1), (x2, y2) = line(ax, "minimum")
    assert x0 < x1 < x2
    assert [y0, y1, y2] == [0.0, 0.25, 0.5]
    assert line(ax, "saddle").tolist() == [[x1, 2.0], [x2, 0.75]]
    assert segments(ax, dashed=False) == [[[x1, 0.25], [x1, 2.0]], [[x2, 0.5], [x2, 0.75]]]
    [[foot, head]] = segments(ax, dashed=True)
    assert foot == [x0, 0.0]
    assert head[0] == x0
    assert 2.0 < head[1] < 2.5
    assert line(ax, "never ends").tolist() == [head]
    assert legend(ax) == ["minimum", "saddle", "never ends"]
    assert {artist.get_label(): artist.get_marker() for artist in ax.lines} == {
        "minimum": "v",
        "saddle": "s",
        "never ends": "^",
    }
    assert (ax.get_xlabel(), ax.get_ylabel(), len(ax.get_xticks())) == ("bars in order of birth", "loss", 0)


def test_barcodes_stand_side_by_side_under_their_names():
    ax = plot.bars({"small": code([(0, INF), (1, 2)]), "none": code([]), "large": code([(0, INF)] * 3)})
    assert [text.get_text() for text in ax.get_xticklabels()] == ["small", "none", "large"]
    x = line(ax, "minimum")[:, 0]
    left, middle, right = ax.get_xticks()
    walls = [artist.get_xdata()[0] for artist in ax.lines if artist.get_label().startswith("_child")]
    assert x[:2].mean() == pytest.approx(left)
    assert x[2:].mean() == pytest.approx(right)
    assert x[1] < walls[0] < middle < walls[1] < x[2]
    heads = line(ax, "never ends")
    assert len(heads) == 4
    assert len(set(heads[:, 1])) == 1  # one loss for all
    colours = {artist.get_color() for artist in ax.lines if artist.get_label() == "minimum"}
    assert len(colours) == 3


def test_bars_say_how_many_are_missing():
    many = code([(0.0, 1.0 + k) for k in range(12)])
    assert plot.bars(many, max_bars=3).get_xlabel() == "bars in order of birth (9 shorter bars not drawn)"
    ax = plot.bars({"a": many, "b": many}, min_persistence=2.0)
    assert ax.get_xlabel() == "bars in order of birth (2 shorter bars not drawn)"
    assert plot.bars(many, min_persistence=1.5).get_xlabel().endswith("(1 shorter bar not drawn)")
    assert sorted(line(plot.bars(many, max_bars=3), "saddle")[:, 1]) == [10.0, 11.0, 12.0]


def test_bars_of_another_degree():
    mixed = code([(0, INF), (1, 3), (2, 4)], dim=[0, 1, 1])
    ax = plot.bars(mixed, dim=1, label="energy")
    assert line(ax, "minimum")[:, 1].tolist() == [1.0, 2.0]
    assert legend(ax) == ["birth", "death"]
    assert ax.get_ylabel() == "energy"


def test_equal_births_stand_in_order_of_death():
    ax = plot.bars(code([(0, 3), (0, 1), (0, 2)]))
    assert line(ax, "saddle")[:, 1].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("pairs", [[], [(1.0, INF)], [(1.0, INF), (1.0, INF)], [(0.0, 0.0)], [(-3.0, -2.0)]])
def test_few_bars_make_a_picture(pairs):
    ax = plot.bars(code(pairs))
    assert len(line(ax, "minimum")) == len(pairs)
    low, high = ax.get_ylim()
    assert low < high
    assert (line(ax, "never ends")[:, 1] > 1.0).all()
    assert ax.get_xlabel() == ("bars in order of birth" if pairs else "no bars")
    diagram = plot.diagram(code(pairs))
    assert len(line(diagram, "degree 0")) == len(pairs)


def test_ceiling_decides_how_far_endless_bars_go():
    ax = plot.bars(code([(0, INF), (1, 2)]), ceiling=7.0)
    assert line(ax, "never ends")[:, 1].tolist() == [7.0]


def test_pictures_use_the_axes_they_are_given():
    _, given = plt.subplots()
    assert plot.bars(code([(0, 1)]), ax=given) is given
    assert plot.diagram(code([(0, 1)]), ax=given, legend=False) is given
    assert len(plt.get_fignums()) == 1


def test_no_barcode_is_an_error():
    with pytest.raises(ValueError, match="no barcode was given"):
        plot.bars({})


def test_many_bars_are_few_artists_and_fast():
    rng = np.random.default_rng(0)
    birth = rng.random(30_000)
    many = code(np.column_stack([birth, birth + rng.random(30_000)]))
    start = time.perf_counter()
    ax = plot.bars(many, max_bars=None)
    ax.figure.canvas.draw()
    assert time.perf_counter() - start < 5
    assert len(line(ax, "minimum")) == 30_000
    assert len(ax.lines) + len(ax.collections) < 10


# --------------------------------------------------------------------------------------------------------------
# Diagram
# --------------------------------------------------------------------------------------------------------------


def test_diagram_has_a_point_for_each_bar_by_degree():
    ax = plot.diagram(code([(0, INF), (1, 2), (1, 3), (2, 2.5)], dim=[0, 0, 0, 1]))
    points = line(ax, "degree 0").tolist()
    endless = max(y for _, y in points)
    assert sorted(points) == [[0.0, endless], [1.0, 2.0], [1.0, 3.0]]
    assert endless > 3.0
    assert line(ax, "degree 1").tolist() == [[2.0, 2.5]]
    [sign] = ax.texts
    assert (sign.get_text(), sign.get_position()[1]) == ("∞", endless)
    assert legend(ax) == ["degree 0", "degree 1"]
    marks = [artist.get_marker() for artist in ax.lines if artist.get_label().startswith("degree")]
    assert len(set(marks)) == 2
    assert any(np.array_equal(*artist.get_data()) for artist in ax.lines)  # the diagonal


def test_diagram_shades_twice_the_noise():
    ax = plot.diagram(code([(0, 1), (0, 4)], noise=0.25))
    [band] = ax.collections
    vertices = band.get_paths()[0].vertices
    assert np.ptp(vertices[vertices[:, 0] == vertices[:, 0].min(), 1]) == pytest.approx(0.5)
    assert "within the noise" in legend(ax)
    assert not plot.diagram(code([(0, 1), (0, 4)], noise=0.0)).collections


# --------------------------------------------------------------------------------------------------------------
# Merge tree
# --------------------------------------------------------------------------------------------------------------


def tree(values, parents):
    rows = np.arange(len(values))
    return MergeTree(rows, rows, values, parents, np.ones(len(values), dtype=int), np.zeros(1, dtype=int))


# Minima 0, 1, 2, 3; 1 and 3 meet at 4, then 0 and 2 at 5, then all at 6.
FOUR = tree([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [5, 4, 5, 4, 6, 6, -1])


def test_merge_tree_hangs_minima_from_their_saddles():
    ax = plot.merge_tree(FOUR)
    leaves = line(ax, "minimum")
    assert leaves[np.argsort(leaves[:, 0]), 1].tolist() == [0.0, 2.0, 1.0, 3.0]
    places = {value: x for x, value in [*leaves.tolist(), *line(ax, "saddle").tolist()]}
    assert places[5.0] == (places[0.0] + places[2.0]) / 2
    assert places[4.0] == (places[1.0] + places[3.0]) / 2
    assert places[6.0] == (places[4.0] + places[5.0]) / 2
    solid = segments(ax, dashed=False)
    for child, above in ((0, 5), (2, 5), (1, 4), (3, 4), (4, 6), (5, 6)):
        assert [[places[child], child], [places[child], above]] in solid
    for left, right, saddle in ((0, 2, 5), (1, 3, 4), (5, 4, 6)):
        assert [[places[left], saddle], [places[right], saddle]] in solid
    assert len(solid) == 9
    [[foot, _]] = segments(ax, dashed=True)
    assert foot == [places[6.0], 6.0]
    assert ax.get_xlabel() == "minima"


def test_merge_tree_leaves_out_short_branches():
    ax = plot.merge_tree(FOUR, min_persistence=2.5)  # branches: 3 - 4 is 1 long, 2 - 5 is 3, 1 - 6 is 5
    leaves = line(ax, "minimum")
    assert leaves[np.argsort(leaves[:, 0]), 1].tolist() == [0.0, 2.0, 1.0]
    assert sorted(line(ax, "saddle")[:, 1]) == [5.0, 6.0]
    assert ax.get_xlabel() == "minima (1 shorter branch not drawn)"
    only = plot.merge_tree(FOUR, min_persistence=100.0)
    assert line(only, "minimum")[:, 1].tolist() == [0.0]
    assert only.get_xlabel() == "minima (3 shorter branches not drawn)"


def test_components_stand_apart():
    ax = plot.merge_tree(tree([0.0, 1.0, 2.0, 3.0], [3, -1, 3, -1]))
    places = {value: x for x, value in line(ax, "minimum").tolist()}
    assert places == {0.0: 0.0, 2.0: 1.0, 1.0: 3.0}
    assert len(line(ax, "never ends")) == 2


def random_tree(n, seed):
    """Join n minima at random until one is left: every two components may meet."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([np.sort(rng.random(n)), 1 + np.sort(rng.random(n - 1))])
    parents, roots = np.full(2 * n - 1, -1), list(range(n))
    for saddle in range(n, 2 * n - 1):
        for _ in range(2):
            k = rng.integers(len(roots))
            roots[k], roots[-1] = roots[-1], roots[k]
            parents[roots.pop()] = saddle
        roots.append(saddle)
    return tree(values, parents)


@pytest.mark.parametrize("seed", range(5))
def test_branches_do_not_cross(seed):
    ax = plot.merge_tree(random_tree(40, seed))
    solid = np.array(segments(ax, dashed=False))
    upright = solid[solid[:, 0, 0] == solid[:, 1, 0]]
    level = solid[solid[:, 0, 1] == solid[:, 1, 1]]
    x, low, high = upright[:, 0, 0], upright[:, 0, 1], upright[:, 1, 1]
    left, right, y = level[:, :, 0].min(axis=1), level[:, :, 0].max(axis=1), level[:, 0, 1]
    crossings = (
        (left[:, None] < x) & (x < right[:, None]) & (low < y[:, None]) & (y[:, None] < high)
    )  # in the inside of both
    assert len(upright) == 78
    assert len(level) == 39
    assert not crossings.any()


@pytest.mark.slow
def test_a_deep_tree_of_many_nodes():
    n = 50_000
    values = np.arange(2 * n - 1, dtype=float)
    parents = np.full(2 * n - 1, -1)
    parents[:2] = n
    parents[2:n] = np.arange(n + 1, 2 * n - 1)
    parents[n:-1] = np.arange(n + 1, 2 * n - 1)
    start = time.perf_counter()
    ax = plot.merge_tree(tree(values, parents))
    assert time.perf_counter() - start < 5
    assert len(line(ax, "minimum")) == n
    assert len(segments(ax, dashed=False)) == 2 * n - 2 + n - 1
    plt.close(ax.figure)


# --------------------------------------------------------------------------------------------------------------
# Landscapes
# --------------------------------------------------------------------------------------------------------------


def test_profile_runs_from_left_to_right_and_breaks_where_losses_are_missing():
    samples = LossSamples([[3.0], [0.0], [2.0], [1.0]], [0.5, 0.0, np.nan, 2.0])
    ax = plot.profile(samples, barcode=code([(0, INF), (0.5, 2)], minima=[1, 0], saddles=[-1, 3]))
    x, loss = ax.lines[0].get_data()
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert np.array_equal(loss, [0.0, 2.0, np.nan, 0.5], equal_nan=True)
    assert sorted(line(ax, "minimum").tolist()) == [[0.0, 0.0], [3.0, 0.5]]
    assert line(ax, "saddle").tolist() == [[1.0, 2.0]]
    assert legend(ax) == ["minimum", "saddle", "1 not finite"]


# A plane that is no square and no symmetric function: loss = 10 x + y on x = 0, 1, 2 and y = 0, 5.
PLANE = LossSamples(
    [[x, y] for x in (0.0, 1.0, 2.0) for y in (0.0, 5.0)],
    [10 * x + y for x in (0.0, 1.0, 2.0) for y in (0.0, 5.0)],
    shape=(3, 2),
)


def level_lines(ax):
    """Return the vertices and the level of each contour line."""
    lines = next(artist for artist in ax.collections if hasattr(artist, "levels") and not artist.filled)
    return [
        (level, path.vertices)
        for level, path in zip(lines.levels, lines.get_paths(), strict=True)
        if len(path.vertices)
    ]


@pytest.mark.parametrize("scattered", [False, True])
def test_first_coordinate_runs_to_the_right(scattered):
    samples = LossSamples(PLANE.points, PLANE.values) if scattered else PLANE
    ax = plot.contour(samples, barcode=code([(0, INF), (5, 10)], minima=[0, 3], saddles=[-1, 4]))
    assert ax.get_xlim() == (0.0, 2.0)
    assert ax.get_ylim() == (0.0, 5.0)
    lines = level_lines(ax)
    assert len(lines) > 5
    for level, vertices in lines:
        assert np.allclose(10 * vertices[:, 0] + vertices[:, 1], level)
    assert line(ax, "minimum").tolist() == [[0.0, 0.0], [1.0, 5.0]]
    assert line(ax, "saddle").tolist() == [[2.0, 0.0]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("first coordinate", "second coordinate")


def test_contour_of_a_known_function_marks_its_minima():
    known = zoo.functions["three_hump_camel"]
    samples = known.on_grid((41, 31))
    rows = [int(np.abs(samples.points - point).sum(axis=1).argmin()) for point in known.minima]
    saddles = [int(np.abs(samples.points - point).sum(axis=1).argmin()) for point in known.saddles]
    bars = code([(0, INF), (0.3, 0.88), (0.3, 0.88)], minima=rows, saddles=[-1, *saddles])
    ax = plot.contour(samples, barcode=bars)
    assert np.allclose(np.sort(line(ax, "minimum")[:, 0]), [-1.7, 0.0, 1.7], atol=0.1)
    assert len(line(plot.contour(samples, barcode=bars, min_persistence=1.0), "minimum")) == 1


def levels(ax):
    return next(artist for artist in ax.collections if hasattr(artist, "levels")).levels


def test_levels_are_at_equal_ratios_for_positive_losses_of_many_sizes():
    positive = LossSamples(PLANE.points, np.geomspace(1e-3, 10, 6), shape=(3, 2))
    found = levels(plot.contour(positive))
    assert np.allclose(found[1:] / found[:-1], found[1] / found[0])
    assert (found[0], found[-1]) == (pytest.approx(1e-3), pytest.approx(10))
    for samples in (PLANE, LossSamples(PLANE.points, np.linspace(1, 99, 6), shape=(3, 2))):
        assert np.allclose(np.diff(levels(plot.contour(samples)), 2), 0)
    assert np.allclose(np.diff(levels(plot.contour(positive, log=False)), 2), 0)
    with pytest.raises(ValueError, match=r"the lowest loss is 0.0, which has no logarithm"):
        plot.contour(PLANE, log=True)


def test_ceiling_cuts_off_high_losses():
    ax = plot.contour(PLANE, ceiling=5.0)
    assert (levels(ax).min(), levels(ax).max()) == (0.0, 5.0)
    with pytest.raises(ValueError, match=r"ceiling is -1.0, but the lowest loss is 0.0"):
        plot.contour(PLANE, ceiling=-1.0)


@pytest.mark.parametrize("value", [2.0, 0.0, -1.0])
@pytest.mark.parametrize("shape", [(3, 2), None])
def test_constant_losses_make_a_picture(value, shape):
    flat = LossSamples(PLANE.points, np.full(6, value), shape=shape)
    found = levels(plot.contour(flat))
    assert found.min() < value < found.max()
    assert plot.surface(flat).get_zlim()[0] < value


@pytest.mark.parametrize("shape", [(5, 4), None])
def test_losses_that_are_not_finite_are_hatched_and_counted(shape):
    points = np.array([[x, y] for x in range(5) for y in range(4)], dtype=float)
    values = points.sum(axis=1)
    values[[0, 7]] = [np.nan, INF]
    samples = LossSamples(points, values, shape=shape)
    ax = plot.contour(samples)
    assert legend(ax) == ["2 not finite"]
    assert ax.patch.get_hatch()
    assert max(level for level, _ in level_lines(ax)) <= 7.0
    assert legend(plot.surface(samples)) == ["2 not finite"]
    assert plot.contour(PLANE).patch.get_hatch() is None


def test_points_are_marked_by_name():
    ax = plot.contour(PLANE, points={"seed 0": (0.5, 4.0), "seed 1": (1.5, 1.0)}, colorbar=False)
    assert {text.get_text(): text.xy for text in ax.texts} == {"seed 0": (0.5, 4.0), "seed 1": (1.5, 1.0)}
    assert [artist.get_xydata().tolist() for artist in ax.lines[-2:]] == [[[0.5, 4.0]], [[1.5, 1.0]]]
    assert len(ax.figure.axes) == 1
    assert len(plot.contour(PLANE).figure.axes) == 2


def test_surface_lies_over_its_points():
    ax = plot.surface(PLANE, barcode=code([(0, INF), (5, 10)], minima=[0, 3], saddles=[-1, 4]))
    marks = {artist.get_label(): np.array(artist.get_data_3d()).T.tolist() for artist in ax.lines}
    assert marks == {"minimum": [[0, 0, 0], [1, 5, 15]], "saddle": [[2, 0, 20]]}
    assert ax.get_zlabel() == "loss"
    assert (ax.get_xlim()[1] > 1.9, ax.get_ylim()[1] > 4.9) == (True, True)
    tall = LossSamples(PLANE.points, np.geomspace(1e-3, 10, 6), shape=(3, 2))
    raised = plot.surface(tall, barcode=code([(0.001, INF)], minima=[0]))
    assert raised.get_zlabel() == "log10 of the loss"
    assert raised.lines[0].get_data_3d()[2] == pytest.approx([-3.0])
    low = plot.surface(PLANE, ceiling=15.0, barcode=code([(0, INF)], minima=[5]))
    assert low.lines[0].get_data_3d()[2] == pytest.approx([15.0])


def test_wrong_samples_are_named():
    line_samples = LossSamples([[0.0], [1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match=r"1 coordinate.*a contour needs 2"):
        plot.contour(line_samples)
    with pytest.raises(ValueError, match=r"2 coordinate.*a profile needs 1"):
        plot.profile(PLANE)
    with pytest.raises(ValueError, match="none of the 6 losses is finite"):
        plot.surface(LossSamples(PLANE.points, np.full(6, np.nan), shape=(3, 2)))
    with pytest.raises(ValueError, match="the barcode names sample 9, but there are 6"):
        plot.contour(PLANE, barcode=code([(0, INF)], minima=[9]))
    with pytest.raises(ValueError, match="the 3 points lie on a line"):
        plot.contour(LossSamples([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], [0.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match="ax is flat; a surface needs three axes"):
        plot.surface(PLANE, ax=plt.subplots()[1])


def test_importing_the_pictures_loads_no_matplotlib():
    program = (
        "import sys; from topolandscape import plot; plot.bars, plot.contour;"
        "print(sorted({'matplotlib', 'torch', 'gudhi'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
