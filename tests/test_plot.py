"""Pictures of barcodes and trees, by what their artists hold: positions and words, never pixels."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from artists import code, legend, line, segments

from topolandscape import MergeTree, plot

INF = np.inf

pytestmark = pytest.mark.usefixtures("pictures_drawn")


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


def test_many_bars_are_few_artists():
    rng = np.random.default_rng(0)
    birth = rng.random(30_000)
    many = code(np.column_stack([birth, birth + rng.random(30_000)]))
    ax = plot.bars(many, max_bars=None)
    ax.figure.canvas.draw()
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
    ax = plot.merge_tree(tree(values, parents))
    assert len(line(ax, "minimum")) == n
    assert len(segments(ax, dashed=False)) == 2 * n - 2 + n - 1
    plt.close(ax.figure)


def test_importing_the_pictures_loads_no_matplotlib():
    program = (
        "import sys; from topolandscape import plot; plot.bars, plot.contour;"
        "print(sorted({'matplotlib', 'torch', 'gudhi'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
