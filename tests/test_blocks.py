"""Merge trees block by block are those of the whole, to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topolandscape.structures import CONNECTIVITIES
from topolandscape.topology.blocks import Cut, _Grid, halved, merge_tree_in_blocks, merge_tree_of_cut
from topolandscape.topology.complexes import grid
from topolandscape.topology.merge import merge_tree

LEVELS = {
    "ties": st.integers(-2, 2).map(float),
    "no ties": st.floats(-1e3, 1e3, allow_nan=False),
    "ties and never": st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.inf, np.nan]),
}
COLUMNS = ("simplex", "vertex", "value", "parent", "size")


def assert_same_tree(one, other):
    for column in COLUMNS:
        assert np.array_equal(getattr(one, column), getattr(other, column)), column


@st.composite
def grids(draw):
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4).filter(lambda s: 2 <= np.prod(s) <= 200))
    level = LEVELS[draw(st.sampled_from(sorted(LEVELS)))]
    size = int(np.prod(shape))
    values = draw(st.lists(level, min_size=size, max_size=size))
    return np.array(values).reshape(shape)


@st.composite
def cuts(draw, box):
    """Draw a way to cut a box: any axes, any places, in any order."""
    sides = [side.stop - side.start for side in box]
    axes = [axis for axis, side in enumerate(sides) if side > 1]
    if not axes or draw(st.integers(0, 3)) == 0:
        return box
    axis = draw(st.sampled_from(axes))
    middle = draw(st.integers(box[axis].start + 1, box[axis].stop - 1))
    halves = slice(box[axis].start, middle), slice(middle, box[axis].stop)
    return Cut(axis, *(draw(cuts((*box[:axis], half, *box[axis + 1 :]))) for half in halves))


@given(grids(), st.sampled_from(CONNECTIVITIES), st.data())
def test_any_cut_gives_the_tree_of_the_whole(values, connectivity, data):
    cut = data.draw(cuts(tuple(slice(0, side) for side in values.shape)))
    parts = _Grid(values, values.shape, connectivity, "infinite")
    whole = merge_tree(grid(values, connectivity=connectivity, nonfinite="infinite"))
    assert_same_tree(merge_tree_of_cut(parts, cut, {}), whole)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(500,), (40, 31), (11, 9, 10), (6, 5, 4, 5)])
@pytest.mark.parametrize("levels", [0, 20])
def test_larger_grids(shape, connectivity, levels):
    rng = np.random.default_rng(3)
    losses = rng.integers(levels, size=shape).astype(float) if levels else rng.normal(size=shape)
    whole = merge_tree(grid(losses, connectivity=connectivity))
    for block in (1, 7, 100):
        assert_same_tree(merge_tree_in_blocks(losses, connectivity=connectivity, block=block), whole)
