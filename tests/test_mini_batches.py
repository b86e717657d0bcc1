"""Paths bent on mini-batches: reproducible, and judged on all data."""

import numpy as np
import pytest
import torch.nn.functional as F

import topolandscape as tl
from topolandscape import Landscape

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    """Return a small network on a few hundred digits, and paths between trained points."""
    data = tl.zoo.dataset("digits")
    landscape = Landscape.from_module(
        tl.zoo.network("mlp:64-4-10", seed=0),
        data.inputs[:300],
        data.targets[:300],
        loss=F.cross_entropy,
        weight_decay=1e-3,
    ).planned({kind: {"form": "dense", "chunk": 8, "rows": 300} for kind in ("values", "gradients")})
    starts = tl.initial_points(landscape, 3, seed=0)
    ends = tl.descend(landscape, starts, steps=200, learning_rate=0.03, progress=False).ends
    return landscape, tl.straight_paths(ends[[0, 0]], ends[[1, 2]])


def fine(landscape, paths, cuts=30):
    """Return the highest losses on all data, evaluated at many places."""
    shares = np.arange(cuts + 1)[:, None] / cuts
    places = paths[:, :-1, None] * (1 - shares) + paths[:, 1:, None] * shares
    return landscape.values(places.reshape(-1, landscape.dimension)).reshape(len(paths), -1).max(axis=1)


def test_mini_batches_bend_paths_by_the_seed_and_are_judged_on_all_data(digits):
    landscape, straight = digits
    options = {"points": (9,), "steps": 60, "batch": 100, "progress": False}
    one, same, other = (tl.lower_paths(landscape, straight, seed=seed, **options) for seed in (0, 0, 1))
    assert np.array_equal(one.points, same.points)
    assert np.array_equal(one.highest, same.highest)
    assert not np.array_equal(one.points, other.points)
    for found in (one, other):
        seen, before = fine(landscape, found.points), fine(landscape, straight)
        assert (found.highest >= seen * (1 - 1e-4)).all()
        assert (seen < 0.7 * before).all()
        np.testing.assert_allclose(found.values, landscape.values(found.points.reshape(-1, 310)).reshape(2, 9))


def test_every_cycle_has_rows_of_its_own(digits, monkeypatch):
    """In the first one paths are bent as always, if its rows are all there are."""
    landscape, straight = digits
    drawn = []

    def subset(self, rows, *, seed):
        drawn.append((rows, seed))
        return self

    monkeypatch.setattr(Landscape, "subset", subset)
    batches = tl.lower_paths(landscape, straight, points=(9,), steps=20, batch=300, seed=0, progress=False)
    assert np.array_equal(
        batches.points, tl.lower_paths(landscape, straight, points=(9,), steps=20, progress=False).points
    )
    tl.lower_paths(landscape, straight, points=(9,), steps=60, tolerance=0.0, batch=7, seed=0, progress=False)
    assert [rows for rows, _ in drawn] == [300, 7, 7, 7]
    assert len({seed for _, seed in drawn[1:]}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 10}, "batch is 10 and seed is None; which rows are drawn needs a seed"),
        ({"batch": 301, "seed": 0}, "rows is 301; it needs to be a whole number from 1 to 300"),
        ({"batch": 0, "seed": 0}, "rows is 0; it needs"),
    ],
)
def test_bad_batches_are_refused(digits, options, message):
    landscape, straight = digits
    with pytest.raises(ValueError, match=message):
        tl.lower_paths(landscape, straight, progress=False, **options)


def test_a_function_has_no_rows():
    landscape = Landscape.from_function(lambda x: (x**2).sum(1), 2)
    with pytest.raises(ValueError, match="has no rows to choose from"):
        tl.lower_paths(landscape, [[[0.0, 1.0], [1.0, 0.0]]], batch=1, seed=0, progress=False)
