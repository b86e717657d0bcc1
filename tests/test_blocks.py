"""Merge trees block by block are those of the whole, to the bit."""

from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topolandscape.structures import CONNECTIVITIES, LossSamples, SimplicialComplex, journal
from topolandscape.structures.journal import InMemory
from topolandscape.topology.blocks import (
    Cut,
    _boxes,
    _Grid,
    _reduced,
    block_within,
    halved,
    merge_tree_in_blocks,
    merge_tree_of_cut,
)
from topolandscape.topology.complexes import grid, nearest_neighbours
from topolandscape.topology.graph_blocks import graph_merge_tree_in_blocks
from topolandscape.topology.merge import graph_merge_tree, merge_tree
from topolandscape.topology.reduced import Found

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

    # Nothing is settled too early: each link joins two components, and with none to spare.
    found = Found(None, "")
    _reduced(parts, cut, found)
    stops = int(np.isfinite(np.concatenate(found.values)).sum())
    assert sum(len(links.one) for links in found.settled) == stops - int((whole.parent < 0).sum())


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(500,), (40, 31), (11, 9, 10), (6, 5, 4, 5)])
@pytest.mark.parametrize("levels", [0, 20])
def test_larger_grids(shape, connectivity, levels):
    rng = np.random.default_rng(3)
    losses = rng.integers(levels, size=shape).astype(float) if levels else rng.normal(size=shape)
    whole = merge_tree(grid(losses, connectivity=connectivity))
    for block in (1, 7, 100):
        assert_same_tree(merge_tree_in_blocks(losses, connectivity=connectivity, block=block), whole)


@st.composite
def graphs(draw):
    """Draw a graph, and places at which its list of edges is cut; edges enter with their later end, or after it."""
    n = draw(st.integers(2, 12))
    level = LEVELS[draw(st.sampled_from(["ties", "no ties"]))]
    values = np.array(draw(st.lists(level, min_size=n, max_size=n)))
    pairs = [(i, j) for j in range(n) for i in range(j)]
    edges = np.array(sorted(draw(st.sets(st.sampled_from(pairs), min_size=1))))
    entered = values[edges].max(axis=1)
    if draw(st.booleans()):
        entered = entered + np.array(
            draw(st.lists(st.sampled_from([0.0, 1.0, np.inf]), min_size=len(edges), max_size=len(edges)))
        )
    places = sorted(draw(st.sets(st.integers(0, len(edges)))))
    blocks = list(zip(np.split(edges, places), np.split(entered, places), strict=True))
    return SimplicialComplex([np.arange(n)[:, None], edges], [values, entered]), blocks


@given(graphs())
def test_edges_in_any_blocks_give_the_tree_of_the_whole(graph):
    complex, blocks = graph
    tree, whole = graph_merge_tree(complex.vertex_values, blocks, {}), merge_tree(complex)
    assert_same_tree(tree, whole)
    assert np.array_equal(tree.basin, whole.basin)


@pytest.mark.parametrize(("d", "k"), [(2, 6), (3, 12), (6, 20)])
@pytest.mark.parametrize("block", [60, 250, 1000])
def test_neighbours_found_block_by_block(d, k, block, tmp_path):
    rng = np.random.default_rng(d)
    points = rng.normal(size=(700, d)) + 100
    values = np.cos(3 * points).sum(axis=1)
    whole = merge_tree(nearest_neighbours(LossSamples(points, values), k=k))
    np.save(tmp_path / "points.npy", points)
    on_disk = np.load(tmp_path / "points.npy", mmap_mode="r")
    table = np.lib.format.open_memmap(tmp_path / "table.npy", "w+", "int32", (700, k))
    assert_same_tree(graph_merge_tree_in_blocks(on_disk, values, k=k, block=block, table=table), whole)


def test_copies_of_a_point_are_neighbours_of_one_another():
    points = np.repeat([[0.0], [1.0]], 4, axis=0)
    with pytest.warns(UserWarning, match="2 components"):
        tree = graph_merge_tree_in_blocks(points, np.arange(8.0), k=3, block=3)
    assert tree.value.tolist() == [0.0, 4.0]


def test_a_grid_on_the_disk_is_read_in_boxes(tmp_path):
    """Neither the file nor a slice of it is ever taken as a whole."""
    losses = np.random.default_rng(0).normal(size=(9, 8, 10))
    np.save(tmp_path / "losses.npy", losses)
    taken = []

    class Watched:
        shape = losses.shape

        def __getitem__(self, box):
            part = np.load(tmp_path / "losses.npy", mmap_mode="r")[box]
            taken.append(part.size)
            return part

    tree = merge_tree_in_blocks(Watched(), block=100)
    assert_same_tree(tree, merge_tree(grid(losses)))
    assert max(taken) <= 100
    assert sum(taken) == 2 * losses.size


def test_losses_that_are_no_numbers_are_named_by_their_row():
    losses = np.zeros((4, 5))
    losses[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"1 of \d+ losses are NaN or infinite \(rows 13\)"):
        merge_tree_in_blocks(losses, block=4)
    losses[2, 3] = -np.inf
    with pytest.raises(ValueError, match="loss of row 13 is -inf"):
        merge_tree_in_blocks(losses, block=4, nonfinite="infinite")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: merge_tree_in_blocks(np.zeros((1, 1))), "1 point"),
        (lambda: merge_tree_in_blocks(np.zeros((2, 2)), connectivity="diagonal"), "one of axis"),
        (lambda: merge_tree_in_blocks(np.zeros((2, 2)), block=0), "block is 0"),
        (lambda: block_within((100,) * 7, 2**30), "GiB for its blocks"),
        (lambda: graph_merge_tree_in_blocks(np.zeros((3, 1)), [0.0, 1.0], k=1), "there are 3 points"),
        (lambda: graph_merge_tree_in_blocks(np.zeros((3, 1)), np.zeros(3), k=3), "k is 3"),
        (lambda: graph_merge_tree_in_blocks(np.zeros((3, 1)), np.zeros(3), k=1, block=0), "block is 0"),
        (
            lambda: graph_merge_tree_in_blocks(np.zeros((3, 1)), np.zeros(3), k=1, table=np.empty((3, 2), int)),
            "table holds int64",
        ),
    ],
)
def test_errors_say_what_is_needed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_everything_infinite_has_no_bars():
    tree = merge_tree_in_blocks(np.full((4, 4), np.inf), block=3, nonfinite="infinite")
    assert len(tree) == 0


def test_smaller_memory_takes_smaller_blocks():
    shape = (400, 500, 600)
    assert block_within(shape, 2**30) > block_within(shape, 2**28) > block_within(shape, 2**26)


class Stopped(Exception):
    """Somebody ends the computation."""


@pytest.mark.parametrize("often", [1, 3])
@pytest.mark.parametrize(
    ("shape", "connectivity"), [((12, 9, 5), "full"), ((211,), "axis"), ((9, 8, 4), "freudenthal")]
)
def test_a_merge_that_is_stopped_goes_on_to_the_same_bits(shape, connectivity, often, monkeypatch):
    """Stopped whenever so many blocks were read, and kept at every or at every third chance."""
    values, asked, reads = np.random.default_rng(0).integers(0, 30, shape).astype(float), count(1), []
    monkeypatch.setattr(journal.Pace, "is_due", lambda self, ahead=0.0: next(asked) % often == 0)
    store, allowed = InMemory(), 4

    class Read:
        shape = values.shape

        def __getitem__(self, box):
            if len(reads) == allowed:
                raise Stopped
            reads.append(box)
            return values[box]

    stops = total = 0
    while True:
        reads.clear()
        try:
            tree = merge_tree_in_blocks(Read(), connectivity=connectivity, block=17, store=store)
            break
        except Stopped:
            stops, total = stops + 1, total + len(reads)
    assert stops >= 3
    assert_same_tree(tree, merge_tree_in_blocks(values, connectivity=connectivity, block=17))
    if often == 1:
        assert (
            total + len(reads)
            <= 2 * sum(1 for _ in _boxes(halved(tuple(map(slice, [0] * len(shape), shape)), 17))) + 2 * stops
        )


def test_what_another_grid_left_is_forgotten(monkeypatch):
    monkeypatch.setattr(journal, "_KEEP_AFTER", 0.0)
    store, values = InMemory(), np.random.default_rng(0).integers(0, 9, (8, 8)).astype(float)
    for block, part in ((8, values), (16, values), (16, values[:4])):
        assert_same_tree(merge_tree_in_blocks(part, block=block, store=store), merge_tree_in_blocks(part, block=block))


def test_what_another_cut_left_half_written_is_not_taken_for_ones_own(monkeypatch):
    """Stopped with one block size, then with another before its state is kept, then gone on with as at first."""
    monkeypatch.setattr(journal, "_KEEP_AFTER", 0.0)
    values = np.random.default_rng(0).integers(0, 9, (16, 16)).astype(float)

    class Stopping(InMemory):
        left = 1

        def put(self, name, arrays):
            if name == "state" and self.left == 0:
                raise Stopped
            super().put(name, arrays)
            self.left -= name == "state"

    store = Stopping()
    with pytest.raises(Stopped):
        merge_tree_in_blocks(values, block=16, store=store)
    with pytest.raises(Stopped):
        merge_tree_in_blocks(values, block=8, store=store)
    store.left = 10**6
    assert_same_tree(merge_tree_in_blocks(values, block=16, store=store), merge_tree_in_blocks(values, block=16))


def test_a_merge_goes_on_where_a_damaged_part_was_removed(monkeypatch):
    monkeypatch.setattr(journal, "_KEEP_AFTER", 0.0)
    values = np.random.default_rng(0).integers(0, 9, (16, 16)).astype(float)
    store = InMemory()
    merge_tree_in_blocks(values, block=16, store=store)
    for gone in sorted(store.names()):
        store.clear(but=[name for name in store.names() if name != gone])
        assert_same_tree(merge_tree_in_blocks(values, block=16, store=store), merge_tree_in_blocks(values, block=16))
