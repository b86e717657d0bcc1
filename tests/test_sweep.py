"""Merge trees of grids are those of plain union-find over the vertices, whichever way they took."""

from functools import lru_cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topolandscape.structures import CONNECTIVITIES, GridComplex
from topolandscape.topology.merge import merge_tree

# Up to 512 vertices, and more, which are sorted in other ways; lines longer and shorter than what is looked at at once.
SHAPES = [(2,), (65,), (700,), (1, 9), (9, 1), (23, 24), (5, 130), (3, 4, 5), (7, 9, 10), (2, 3, 100)]


def waves(rng, shape):
    """Return sums of waves that are longer than the grid or much shorter than a tenth of it, with random phases."""
    axes = np.indices(shape)
    return sum(np.cos(rng.uniform(0.02, 0.4) * axis + rng.uniform(0, 6)) for axis in (*axes, sum(axes)))


SMOOTH = {
    "waves": waves,
    "steps": lambda rng, shape: np.round(rng.integers(1, 5) * waves(rng, shape)),
    "walls": lambda rng, shape: np.where(rng.random(shape) < 0.02, np.inf, waves(rng, shape)),
    "one value": lambda rng, shape: np.full(shape, rng.choice([-1.0, 0.0, 7.0])),
    "never": lambda rng, shape: np.full(shape, np.inf),
    "zeros of both signs": lambda rng, shape: rng.choice([-0.0, 0.0], shape),
}
ROUGH = {
    "noise": lambda rng, shape: rng.normal(size=shape),
    "ties": lambda rng, shape: rng.integers(0, 30, shape).astype(float),
    "walls": lambda rng, shape: np.where(rng.random(shape) < 0.1, np.inf, rng.normal(size=shape)),
    "around zero": lambda rng, shape: np.round(3 * rng.normal(size=shape)) * -1.0,
    "tiny": lambda rng, shape: 5e-324 * rng.integers(-50, 50, shape),
    "huge beside close": lambda rng, shape: (
        (1 + 1e-13 * rng.normal(size=shape)) * rng.choice([-1e300, 1, 1e300], shape)
    ),
}


def pits(rise):
    """Return losses with a pit at every other place, of which each meets all before it at a wall higher than theirs."""

    def losses(rng, shape):
        places = np.arange(np.prod(shape)) - np.prod(shape) // 2
        walls = rise(places)
        return np.where(places % 2 == 0, walls, walls[0] - rng.random(len(places))).reshape(shape)

    return losses


DEEP = {
    "even walls": pits(lambda places: places / 8),
    "equal walls": pits(lambda places: places // 12 * 1.0),
    "walls of all sizes": pits(lambda places: np.sinh(places / 5.0)),
    "huge walls": pits(lambda places: 1e305 * places),
    "tiny walls": pits(lambda places: 5e-324 * places),
}


@lru_cache
def neighbours(shape, connectivity):
    """Return the neighbours of each vertex of a grid, by their rows."""
    allowed = {
        "axis": lambda step: sum(map(abs, step)) == 1,
        "freudenthal": lambda step: any(step) and (min(step) >= 0 or max(step) <= 0),
        "full": any,
    }[connectivity]
    steps = [step for step in product((-1, 0, 1), repeat=len(shape)) if allowed(step)]
    row = {place: number for number, place in enumerate(product(*map(range, shape)))}
    moved = ([tuple(map(sum, zip(place, step, strict=True))) for step in steps] for place in row)
    return [[row[other] for other in others if other in row] for others in moved]


def by_union_find(values, beside):
    """Return minima, saddles as (vertex, younger child, elder child) of nodes, sizes of nodes, and lowest neighbours.

    Vertices come by (value, row). Where several components meet, the elder ones are swallowed first; one that is as
    high as the vertex is none.
    """
    component, members, top = {}, {}, {}  # of vertices; of components, by their first vertex
    merges, born = [], []
    sizes, downhill = {}, {}

    def below(first, level):
        return sum(values[v] < level for v in members[first])

    for v in sorted((v for v in range(len(values)) if values[v] < np.inf), key=lambda v: (values[v], v)):
        earlier = [w for w in beside[v] if w in component]
        downhill[v] = min(earlier, key=lambda w: (values[w], w), default=v)
        if not earlier:
            component[v], members[v], top[v] = v, [v], ("minimum", v)
            born.append(v)
            continue
        eldest, *others = sorted({component[w] for w in earlier}, key=lambda first: (values[first], first))
        for first in others:
            if values[first] == values[v]:
                born.remove(first)
            else:
                saddle = ("saddle", len(merges))
                for ending in (first, eldest):
                    sizes[top[ending]] = below(ending, values[v])
                merges.append((v, top[first], top[eldest]))
                top[eldest] = saddle
            for w in members[first]:
                component[w] = eldest
            members[eldest] += members.pop(first)
        component[v] = eldest
        members[eldest].append(v)
    for first, whole in members.items():
        sizes[top[first]] = len(whole)
    return born, merges, sizes, downhill


def assert_is_by_union_find(complex):
    values = complex.vertex_values.tolist()
    born, merges, sizes, downhill = by_union_find(values, neighbours(complex.grid.shape, complex.connectivity))
    tree = merge_tree(complex)
    saddles = [v for v, *_ in merges]
    assert tree.vertex.tolist() == tree.simplex.tolist() == born + saddles
    assert tree.value.tolist() == [values[v] for v in born + saddles]
    node = {("minimum", v): place for place, v in enumerate(born)}
    node |= {("saddle", place): len(born) + place for place in range(len(merges))}
    parents = np.full(len(node), -1)
    for place, (_, *children) in enumerate(merges):
        parents[[node[child] for child in children]] = len(born) + place
    assert tree.parent.tolist() == parents.tolist()
    assert tree.size.tolist() == [sizes[key] for key in node]
    for v in range(len(values)):
        if v not in downhill:
            assert tree.basin[v] == -1
            continue
        end = v
        while downhill[end] != end:
            end = downhill[end]
        if ("minimum", end) in node:  # elsewhere on a plateau, and the descent goes on in one of several ways
            assert tree.basin[v] == node["minimum", end]
        assert 0 <= tree.basin[v] < len(born)


@pytest.mark.parametrize("kinds", [SMOOTH, ROUGH, DEEP], ids=["smooth", "rough", "deep"])
@given(
    data=st.data(),
    shape=st.sampled_from(SHAPES),
    connectivity=st.sampled_from(CONNECTIVITIES),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80)
def test_trees_are_those_of_union_find(kinds, data, shape, connectivity, seed):
    losses = kinds[data.draw(st.sampled_from(sorted(kinds)))](np.random.default_rng(seed), shape)
    assert_is_by_union_find(GridComplex(losses, connectivity))


@pytest.mark.parametrize("kind", DEEP)
def test_vertices_far_up_a_long_way_are_counted(kind):
    assert_is_by_union_find(GridComplex(DEEP[kind](np.random.default_rng(0), (3001,))))
