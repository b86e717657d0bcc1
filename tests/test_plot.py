"""Pictures, by what their artists hold: positions and words, never pixels."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.collections import LineCollection

import topolandscape as tl
from topolandscape import Barcode, LossSamples, MergeTree, Minima, MinimaNetwork, PathProfile, plot, zoo

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


# --------------------------------------------------------------------------------------------------------------
# Networks of minima
# --------------------------------------------------------------------------------------------------------------


def network(values, passes):
    """Return minima at these losses, joined by straight paths over passes (a, b, loss, word)."""
    m = len(values)
    places = np.arange(m, dtype=float)[:, None]
    minima = Minima(places, values, np.zeros(m), np.ones((m, 1)), np.zeros(m, int), ["minimum"] * m)
    ends = np.array([(a, b) for a, b, *_ in passes])
    tops = places[ends].mean(axis=1)
    paths = [np.array([places[a], top, places[b]]) for (a, b), top in zip(ends, tops, strict=True)]
    losses, words = [loss for _, _, loss, _ in passes], [word for *_, word in passes]
    return MinimaNetwork(minima, ends, losses, words, tops, paths)


# Minimum 3 is the lowest; 0, 2 and 1 end at 4, 5 and 7; the pass at 9 ends nothing.
WELLS = network(
    [1.0, 3.0, 2.0, 0.0],
    [
        (0, 1, 9.0, "verified saddle"),
        (0, 3, 4.0, "verified saddle"),
        (1, 2, 7.0, "not converged"),
        (2, 3, 5.0, "path maximum"),
    ],
)


def marks(ax):
    """Return where the marks of passes are, by their words."""
    found = {word: line(ax, word).tolist() for word in ("verified saddle", "path maximum", "not converged", "saddle")}
    return {word: places for word, places in found.items() if places}


def names(ax, minor=False):
    """Return what stands below the x axis, by its place."""
    places, labels = ax.get_xticks(minor=minor), ax.get_xticklabels(minor=minor)
    return {place: text.get_text() for place, text in zip(places, labels, strict=True) if text.get_text()}


def test_bars_of_a_network_say_what_they_hang_on():
    ax = plot.bars(tl.barcode(WELLS), passes=WELLS.passes)
    x = line(ax, "minimum")[:, 0].tolist()
    assert [names(ax, minor=True)[place] for place in x] == ["3", "0", "2", "1"]
    assert marks(ax) == {
        "verified saddle": [[x[1], 4.0]],
        "path maximum": [[x[2], 5.0]],
        "not converged": [[x[3], 7.0]],
    }
    assert legend(ax) == ["minimum", "verified saddle", "path maximum", "not converged", "never ends"]
    assert ax.get_legend().get_title().get_text() == "deaths are upper bounds"
    looks = {artist.get_label(): (artist.get_marker(), artist.get_markerfacecolor()) for artist in ax.lines}
    assert looks["verified saddle"] == ("s", plot.ink.COLOURS[0])
    assert looks["path maximum"] == ("s", "white")
    assert looks["not converged"][0] == "x"


def test_bars_that_are_left_out_take_their_words_along():
    ax = plot.bars(tl.barcode(WELLS), passes=WELLS.passes, max_bars=2)
    assert {word: places[0][1] for word, places in marks(ax).items()} == {"not converged": 7.0}
    assert sorted(names(ax, minor=True).values()) == ["1", "3"]


def test_bars_of_networks_stand_side_by_side():
    other = network([0.0, 1.0], [(0, 1, 2.0, "path maximum")])
    codes = {"wells": tl.barcode(WELLS), "two": tl.barcode(other)}
    ax = plot.bars(codes, passes={"two": other.passes, "wells": WELLS.passes})
    assert list(names(ax).values()) == ["wells", "two"]
    assert [name for _, name in sorted(names(ax, minor=True).items())] == ["3", "0", "2", "1", "0", "1"]
    assert sorted(y for _, y in marks(ax)["path maximum"]) == [2.0, 5.0]
    with pytest.raises(ValueError, match="no passes for 'two'"):
        plot.bars(codes, passes={"wells": WELLS.passes})
    with pytest.raises(ValueError, match="no passes for 'wells', 'two'"):
        plot.bars(codes, passes=WELLS.passes)


def test_passes_of_another_network_are_errors():
    with pytest.raises(ValueError, match="ends at pass 3, but 2 passes are given"):
        plot.bars(tl.barcode(WELLS), passes=WELLS.passes[:2])
    with pytest.raises(ValueError, match="a pass is 'saddle'; it needs to be one of verified saddle"):
        plot.merge_tree(tl.merge_tree(WELLS), passes=["saddle"] * 4)


def test_merge_tree_of_a_network_names_minima_and_passes():
    ax = plot.merge_tree(tl.merge_tree(WELLS), passes=WELLS.passes)
    leaves = dict(line(ax, "minimum").tolist())
    assert {name: leaves[place] for place, name in names(ax).items()} == {"0": 1.0, "1": 3.0, "2": 2.0, "3": 0.0}
    heights = {word: [y for _, y in places] for word, places in marks(ax).items()}
    assert heights == {"verified saddle": [4.0], "path maximum": [5.0], "not converged": [7.0]}
    assert ax.get_legend().get_title().get_text() == "passes are upper bounds"
    plain = plot.merge_tree(tl.merge_tree(WELLS))
    assert sorted(y for _, y in marks(plain)["saddle"]) == [4.0, 5.0, 7.0]
    assert names(plain) == {}


def test_too_many_minima_have_no_names():
    many = network([0.0, *np.ones(299)], [(0, k, 2.0, "path maximum") for k in range(1, 300)])
    assert names(plot.bars(tl.barcode(many), passes=many.passes, max_bars=None), minor=True) == {}
    assert names(plot.merge_tree(tl.merge_tree(many), passes=many.passes)) == {}


def overlapping(texts):
    """Return whether any two of some texts lie on each other, when drawn."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])


@pytest.mark.parametrize("m", [2, 9, 16, 32])
def test_names_and_marks_do_not_cover_each_other(m):
    words = ("verified saddle", "path maximum", "not converged")
    star = network(np.arange(m) / m, [(0, k, 2.0 + k / 8, words[k % 3]) for k in range(1, m)])
    hills = [
        PathProfile((0, k), [0.0, 1.0, 2.0 + k % 5], [0, 2 + k / 8, k / m], 1.0, words[k % 3]) for k in range(1, m)
    ]
    for draw in (
        lambda ax: plot.bars(tl.barcode(star), ax=ax, passes=star.passes),
        lambda ax: plot.bars({"a": tl.barcode(star)}, ax=ax, passes={"a": star.passes}),
        lambda ax: plot.merge_tree(tl.merge_tree(star), ax=ax, passes=star.passes),
        lambda ax: plot.paths(hills, ax=ax),
    ):
        figure, ax = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
        draw(ax)
        figure.canvas.draw()
        below = [*ax.get_xticklabels(minor=True), *ax.get_xticklabels(), ax.xaxis.label]
        assert len([text for text in below if text.get_text()]) >= m
        assert not overlapping(below)
        assert not overlapping(ax.get_legend().get_texts())
        box = ax.get_legend().get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_paths_stand_side_by_side_in_order_of_their_highest_loss():
    high = PathProfile((0, 2), [0.0, 1.0, 2.0], [0.0, 9.0, 3.0], 1.0, "path maximum")
    low = PathProfile((1, 0), [0.0, 1.0, 3.0, 4.0], [1.0, 2.0, 6.0, 0.0], 3.0, "verified saddle")
    ax = plot.paths([high, low])
    curves = [artist.get_xydata() for artist in ax.lines if len(artist.get_xydata()) > 2]
    assert [curve[:, 1].tolist() for curve in curves] == [[1.0, 2.0, 6.0, 0.0], [0.0, 9.0, 3.0]]
    assert [np.ptp(curve[:, 0]) for curve in curves] == [4.0, 2.0]  # as wide as they are long
    [wall] = [
        artist.get_xdata()[0]
        for artist in ax.lines
        if artist.get_label().startswith("_child") and artist.get_xdata()[0] == artist.get_xdata()[-1]
    ]
    assert curves[0][-1, 0] < wall < curves[1][0, 0]
    assert [name for _, name in sorted(names(ax).items())] == ["1–0", "0–2"]
    [saddle], [maximum] = marks(ax)["verified saddle"], marks(ax)["path maximum"]
    assert saddle == curves[0][2].tolist()
    assert maximum == curves[1][1].tolist()
    assert line(ax, "minimum")[:, 1].tolist() == [1.0, 0.0, 0.0, 3.0]
    assert legend(ax) == ["minimum", "verified saddle", "path maximum", "barrier"]


def test_marks_below_the_paths_count_distances_from_their_beginnings():
    one = PathProfile((0, 1), [0.0, 2.0, 5.0], [0.0, 1.0, 0.5], 2.0, "path maximum")
    two = PathProfile((1, 2), [0.0, 1.0, 3.0], [0.5, 2.0, 0.0], 1.0, "path maximum")
    ax = plot.paths([one, two])
    step = float(ax.get_xlabel().split("every ")[1].rstrip(")"))
    begins = [artist.get_xdata()[0] for artist in ax.lines if len(artist.get_xydata()) == 3]
    expected = [begin + k * step for begin, n in zip(begins, (5, 3), strict=True) for k in range(int(n / step) + 1)]
    assert ax.get_xticks(minor=True).tolist() == pytest.approx(expected)
    assert ax.get_xlabel() == f"distance along each path between two minima (a mark every {step:g})"


def test_barriers_are_shaded_above_the_higher_end():
    ax = plot.paths([PathProfile((0, 1), [0.0, 1.0, 2.0], [0.0, 4.0, 2.0], 1.0, "path maximum")])
    [shade] = ax.collections
    corners = {tuple(vertex) for vertex in shade.get_paths()[0].vertices.round(9).tolist()}
    assert corners == {(0.5, 2.0), (1.0, 4.0), (1.0, 2.0), (2.0, 2.0)}


def test_one_path_has_an_axis_of_distances():
    ax = plot.paths([PathProfile((3, 1), [0.0, 10.0], [1.0, 0.0], 0.0, "path maximum")], label="energy")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("distance along the path from minimum 3 to minimum 1", "energy")
    assert {0.0, 10.0} <= set(ax.get_xticks())
    assert marks(ax) == {"path maximum": [[0.0, 1.0]]}
    with pytest.raises(ValueError, match="no path was given"):
        plot.paths([])


def test_paths_of_a_known_landscape_peak_at_its_saddles():
    known = zoo.functions["himmelblau"]
    landscape = tl.Landscape.from_function(
        lambda x: (x[:, 0] ** 2 + x[:, 1] - 11) ** 2 + (x[:, 0] + x[:, 1] ** 2 - 7) ** 2, 2
    )
    minima = tl.minima(landscape, known.minima, seed=0, steps=0, progress=False)
    found = tl.minima_network(landscape, minima, pairs="all", progress=False).reduced()
    profiles = []
    for row in tl.barcode(found).death_simplex:
        if row >= 0:
            path = found.paths[row]
            distances = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
            losses = landscape.values(path)
            top = distances[losses.argmax()]
            profiles.append(PathProfile(tuple(found.ends[row]), distances, losses, top, found.passes[row]))
    ax = plot.paths(profiles)
    exact = sorted(death for _, death in known.bars[0] if np.isfinite(death))
    assert sorted(y for _, y in marks(ax)["verified saddle"]) == pytest.approx(exact, rel=1e-4)
    assert line(ax, "minimum")[:, 1] == pytest.approx(0.0, abs=1e-6)


def test_convergence_draws_a_curve_for_each_method():
    ax = plot.convergence(
        {"string": ([1, 10, 100], [3.0, 2.0, 1.0]), "band": ([2], [4.0])}, xscale="log", unit="gradients"
    )
    assert line(ax, "string").tolist() == [[1.0, 3.0], [10.0, 2.0], [100.0, 1.0]]
    assert line(ax, "band").tolist() == [[2.0, 4.0]]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == (
        "log",
        "linear",
        "gradients",
        "sum of bar lengths",
    )
    assert legend(ax) == ["string", "band"]
    assert len({(artist.get_color(), artist.get_marker()) for artist in ax.lines}) == 2


def test_many_methods_can_be_told_apart_and_their_names_have_room():
    figure, ax = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
    plot.convergence({f"a method with a long name {k}": ([1, 2], [2, 1]) for k in range(12)}, ax=ax)
    figure.canvas.draw()
    looks = {(artist.get_color(), artist.get_marker(), artist.get_linestyle()) for artist in ax.lines}
    assert len(looks) == 12
    assert not overlapping(ax.get_legend().get_texts())
    assert ax.get_legend().get_window_extent().x1 <= figure.bbox.x1


def test_curves_that_cannot_be_drawn_are_errors():
    with pytest.raises(ValueError, match="no curve was given"):
        plot.convergence({})
    with pytest.raises(ValueError, match=r"'a' has shapes \(2,\) and \(1,\)"):
        plot.convergence({"a": ([1, 2], [1])})
    with pytest.raises(ValueError, match=r"'a' has shapes \(0,\) and \(0,\)"):
        plot.convergence({"a": ([], [])})
    with pytest.raises(ValueError, match="'a' goes down to 0, which has no logarithm"):
        plot.convergence({"a": ([0, 1], [1, 1])}, xscale="log")
    assert plot.convergence({"a": ([0, 1], [1, 0])}).get_xscale() == "linear"


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


def test_a_morse_complex_is_drawn_over_its_plane():
    known = zoo.functions["three_hump_camel"]
    samples = known.on_grid((41, 31))
    ax = plot.morse_complex(samples, persistence=0.1)
    inside = [place for place in line(ax, "minimum").tolist() if np.abs(place).max() < 1.9]
    assert np.allclose(sorted(inside), sorted(map(list, known.minima)), atol=0.15)
    assert legend(ax) == ["minimum", "saddle", "way down", "way up"]
    minima = line(ax, "minimum").tolist()
    saddles = line(ax, "saddle").tolist()
    down = [np.array(artist.get_data()).T.tolist() for artist in ax.lines if artist.get_label() == "way down"]
    assert sorted({tuple(way[0]) for way in down}) == sorted(map(tuple, saddles))
    assert all(way[-1] in minima for way in down)
    assert len(down) == 2 * len(saddles)


def basin_colours(ax):
    """Return the numbers of the colours of the basins; masked where there is none."""
    from matplotlib.collections import QuadMesh

    return next(artist for artist in ax.collections if isinstance(artist, QuadMesh)).get_array()


def test_neighbouring_basins_have_different_colours():
    x, y = np.meshgrid(np.linspace(0, 4 * np.pi, 33), np.linspace(0, 4 * np.pi, 33), indexing="ij")
    points = np.column_stack([x.reshape(-1), y.reshape(-1)])
    losses = np.cos(points).sum(axis=1)
    ax = plot.morse_complex(LossSamples(points, losses, shape=(33, 33)), persistence=0.1)
    assert len(line(ax, "minimum")) == 4
    assert len(line(ax, "maximum")) == 1
    colours = basin_colours(ax).reshape(33, 33)
    centres = colours[8::16, 8::16]
    assert (centres[0] != centres[1]).all()
    assert (centres[:, 0] != centres[:, 1]).all()
    losses[:33] = np.nan
    ax = plot.morse_complex(LossSamples(points, losses, shape=(33, 33)))
    assert basin_colours(ax).reshape(33, 33).mask.sum() == 33
    ax = plot.morse_complex(LossSamples(points, -losses, shape=(33, 33)), of="maxima", persistence=0.1)
    assert basin_colours(ax).reshape(32, 32).mask[:1].all()
    assert len(np.unique(basin_colours(ax).compressed())) > 1


def test_a_morse_complex_is_drawn_over_grids_of_two_coordinates_only():
    with pytest.raises(ValueError, match="picture of a Morse complex needs 2"):
        plot.morse_complex(LossSamples([[0.0], [1.0]], [0.0, 1.0], shape=(2,)))
    with pytest.raises(ValueError, match="are no grid"):
        plot.morse_complex(LossSamples([[0.0, 0.0], [1.0, 0.5], [0.5, 2.0]], [0.0, 1.0, 2.0]))


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
