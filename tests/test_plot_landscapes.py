"""Pictures of profiles, planes and surfaces, by what their artists hold."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from artists import code, legend, line

from topolandscape import LossSamples, plot, zoo

INF = np.inf

pytestmark = pytest.mark.usefixtures("pictures_drawn")


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
