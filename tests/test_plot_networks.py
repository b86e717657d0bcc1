"""Pictures of networks of minima, of paths and of searches, by what their artists hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from artists import legend, line, marks

import topolandscape as tl
from topolandscape import Minima, MinimaNetwork, PathProfile, plot, zoo

pytestmark = pytest.mark.usefixtures("pictures_drawn")


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


def test_the_middle_bar_has_its_number_above_the_name_of_its_group():
    three = network([0.0, 1.0, 2.0], [(0, 1, 3.0, "path maximum"), (1, 2, 4.0, "path maximum")])
    ax = plot.bars({"three": tl.barcode(three)}, passes={"three": three.passes})
    assert [name for _, name in sorted(names(ax, minor=True).items())] == ["0", "1", "2"]
    assert list(names(ax).values()) == ["three"]


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
