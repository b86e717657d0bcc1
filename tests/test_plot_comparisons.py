"""Pictures of several barcodes, by what their artists hold: positions and words, never pixels."""

from itertools import pairwise

import numpy as np
import pytest

import topolandscape as tl
from topolandscape import Barcode, DistanceMatrix, plot

INF = np.inf

pytestmark = pytest.mark.usefixtures("pictures_drawn")


def code(pairs, endless=(0.0,)):
    return Barcode.from_pairs([*pairs, *((birth, INF) for birth in endless)])


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def boxes(ax):
    return [(p.get_y(), p.get_y() + p.get_height()) for p in ax.patches]


# --------------------------------------------------------------------------------------------------------------
# Bands
# --------------------------------------------------------------------------------------------------------------


def test_bands_show_means_and_what_most_seeds_have():
    seeds = [code([(1.0, 3.0)]), code([(2.0, 5.0), (2.5, 2.75)], endless=[0.5])]
    ax = plot.bands({"wide": tl.bar_bands(seeds, coverage=1.0)})
    assert sorted(boxes(ax)) == [(0.0, 0.5), (1.0, 2.0), (2.5, 2.5), (2.75, 2.75), (3.0, 5.0)]
    births = [float(line.get_ydata()[0]) for line in ax.lines if line.get_label() == "minimum"]
    assert births == [0.25, 1.5, 2.5]
    faint = [line.get_alpha() for line in ax.lines if line.get_label() == "minimum"]
    assert faint[0] == faint[1] == 1.0 > faint[2]  # only one of two seeds has the last bar
    assert legend(ax) == ["birth", "never ends", "100 % of 2 barcodes"]
    assert ax.get_xlabel() == "mean bars in order of birth"


def test_bands_of_several_groups_share_an_axis_that_names_its_scale():
    groups = {
        name: tl.bar_bands([tl.normalised(code([(1.0, death)]), high=high, high_name="constant predictor")])
        for name, death, high in (("narrow", 3.0, 4.0), ("wide", 2.0, 5.0))
    }
    ax = plot.bands(groups, ceiling=1.0)
    assert ax.get_ylabel() == "loss (0: lowest birth, 1: constant predictor)"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["narrow", "wide"]
    assert "ceiling" in legend(ax)
    with pytest.raises(ValueError, match="some barcodes are normalised and others are not"):
        plot.bands(groups | {"raw": tl.bar_bands([code([(1.0, 2.0)])])})
    with pytest.raises(ValueError, match="no bands were given"):
        plot.bands({})


def test_bands_leave_out_the_shortest_and_say_so():
    many = tl.bar_bands([code([(0.0, 1.0 + k / 10) for k in range(30)])])
    ax = plot.bands({"many": many}, max_bars=4)
    assert ax.get_xlabel() == "mean bars in order of birth (27 shorter bars not drawn)"
    assert len([line for line in ax.lines if line.get_label() == "minimum"]) == 4
    assert plot.bands({"none": tl.bar_bands([code([], endless=[])])}).get_xlabel() == "mean bars in order of birth"


def test_endless_bars_reach_above_all_others_also_where_losses_are_negative():
    ax = plot.bands({"low": tl.bar_bands([code([(-5.0, -3.0)], endless=[-6.0])])})
    [top] = [float(line.get_ydata()[0]) for line in ax.lines if line.get_label() == "never ends"]
    assert -3.0 < top < -2.0


def test_axes_of_bars_and_diagrams_name_the_scale():
    bars = code([(1.0, 2.0)])
    share = tl.normalised(bars, low=0.0, high=4.0)
    assert plot.bars(share).get_ylabel() == "loss, as a share of 4"
    assert plot.diagram(share).get_ylabel() == "loss, as a share of 4 at death"
    assert plot.bars(bars).get_ylabel() == "loss"
    assert (
        plot.bars({"a": share, "b": tl.normalised(bars, low=0.0, high=5.0)}).get_ylabel().endswith("share of its own")
    )
    assert plot.bars(share, label="risk").get_ylabel() == "risk"
    with pytest.raises(ValueError, match="some barcodes are normalised and others are not"):
        plot.bars({"a": share, "b": bars})


def test_a_diagram_shades_what_is_not_significant():
    ax = plot.diagram(code([(1.0, 2.0)]), radius=0.1)
    [band] = ax.collections
    vertices = band.get_paths()[0].vertices
    assert np.ptp((vertices[:, 1] - vertices[:, 0]).round(9)) == pytest.approx(0.2)
    assert "not significant" in legend(ax)
    plot.diagram(code([(1.0, 2.0)]), radius=INF)


# --------------------------------------------------------------------------------------------------------------
# Scores
# --------------------------------------------------------------------------------------------------------------


def test_scores_run_through_the_estimates():
    values = {"relu": {16: [1.0, 2.0, 3.0], 8: [4.0, 5.0]}}
    ax = plot.scores(values)
    curve, single = ax.lines
    assert (curve.get_xdata().tolist(), curve.get_ydata().tolist()) == ([8.0, 16.0], [4.5, 2.0])
    assert sorted(zip(single.get_xdata(), single.get_ydata(), strict=True)) == [
        (8, 4),
        (8, 5),
        (16, 1),
        (16, 2),
        (16, 3),
    ]
    assert ax.get_legend() is None

    intervals = {"relu": {8: tl.bootstrap_interval([4.0, 5.0], seed=0), 16: (2.0, 1.5, 2.5)}}
    ax = plot.scores(values, intervals=intervals, xscale="log", factor="depth")
    low_high = [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()]
    assert low_high == [list(intervals["relu"][8][1:3]), [1.5, 2.5]]
    assert ax.get_xlabel() == "depth"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["8", "16"]


def test_what_scores_refuse():
    with pytest.raises(ValueError, match="no scores were given"):
        plot.scores({})
    with pytest.raises(ValueError, match="the curve 'relu' has no interval at 8; give one for each"):
        plot.scores({"relu": {8: [1.0], 16: [1.0]}}, intervals={"relu": {16: (1, 1, 1)}})


# --------------------------------------------------------------------------------------------------------------
# Distances
# --------------------------------------------------------------------------------------------------------------


def test_near_things_stand_side_by_side():
    places = np.array([0.0, 10.0, 0.5, 11.0, 0.2])
    matrix = DistanceMatrix("abcde", np.abs(np.subtract.outer(places, places)), {"metric": "wasserstein", "p": 2.0})
    ax = plot.distances(matrix)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert {"".join(sorted(names[:k])) for k in (2, 3)} & {"bd", "ace"}
    shown = ax.images[0].get_array()
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            assert shown[i, j] == abs(places["abcde".index(one)] - places["abcde".index(other)])
    [above] = ax.child_axes
    assert len(above.lines) == 4
    assert ax.figure.axes[-1].get_ylabel() == "2-Wasserstein distance"
    assert len(ax.texts) == 25


def test_infinite_distances_are_left_white():
    ax = plot.distances(DistanceMatrix(["a", "b"], [[0.0, INF], [INF, 0.0]], {"metric": "bottleneck"}))
    assert np.isnan(ax.images[0].get_array().filled(np.nan)[0, 1])
    assert sorted(text.get_text() for text in ax.texts) == ["0", "0", "∞", "∞"]
    assert ax.figure.axes[-1].get_ylabel() == "bottleneck distance"
    plot.distances(DistanceMatrix(["a"], [[0.0]]))


# --------------------------------------------------------------------------------------------------------------
# Landscape profiles
# --------------------------------------------------------------------------------------------------------------


def test_columns_are_as_wide_as_basins_and_as_deep_as_their_climbs():
    losses = np.array([3.0, 0.0, 2.0, 1.0, 5.0, 4.0, 4.5])
    tree = tl.merge_tree(tl.grid(losses))
    ax = plot.landscape_profile(tree)
    columns = {(p.get_y(), p.get_y() + p.get_height()): p.get_width() for p in ax.patches}
    # Minima 0 and 1 meet at 2, and with 4 at 5; below 2 lie one point each, below 5 four and two.
    assert columns[0.0, 2.0] == columns[1.0, 2.0] == 1
    assert columns[2.0, 5.0] == 4
    assert columns[4.0, 5.0] == 2
    [whole] = [width for (low, _), width in columns.items() if low == 5.0]
    assert whole == 7
    assert legend(ax) == ["minimum", "basin", "basins together"]


def test_columns_lie_within_those_they_stand_below():
    losses = np.random.default_rng(0).normal(size=(12, 12))
    tree = tl.merge_tree(tl.grid(losses))
    for shortest, basins in ((0.0, int(tree.is_leaf.sum())), (0.8, len(tl.barcode(tree).filter(min_persistence=0.8)))):
        ax = plot.landscape_profile(tree, min_persistence=shortest)
        spans = [(p.get_x(), p.get_x() + p.get_width(), p.get_y(), p.get_y() + p.get_height()) for p in ax.patches]
        for left, right, _, high in spans[1:]:
            assert any(a - 1e-9 <= left and right <= b + 1e-9 and abs(low - high) < 1e-9 for a, b, low, _ in spans)
        for level in np.linspace(losses.min(), losses.max(), 7):
            across = sorted((left, right) for left, right, low, high in spans if low <= level < high)
            assert all(one[1] <= other[0] + 1e-9 for one, other in pairwise(across))
        [minima] = [line for line in ax.lines if line.get_label() == "minimum"]
        assert len(minima.get_xdata()) == basins
    assert "shallower basins not drawn" in ax.get_xlabel()


def test_a_phase_plot_says_its_numbers_where_they_are():
    ax = plot.phase([[1.0, 2.0, np.nan], [4.0, 5.0, 6.0]], loads=[8, 16, 32], temperatures=[0.1, 0.3], label="bars")
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places == {"1": (0.5, 0.5), "2": (1.5, 0.5), "4": (0.5, 1.5), "5": (1.5, 1.5), "6": (2.5, 1.5)}
    assert [text.get_text() for text in ax.get_xticklabels()] == ["8", "16", "32"]
    with pytest.raises(ValueError, match=r"values have shape \(1, 2\); 2 temperatures and 2 loads need \(2, 2\)"):
        plot.phase([[1.0, 2.0]], loads=[1, 2], temperatures=[1, 2])
