"""What is explored: a run read into its nouns, and which of them belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from topolandscape.files import Run
from topolandscape.plot.barcodes import TreeLayout, tree_layout
from topolandscape.structures import (
    Barcode,
    Floats,
    Integers,
    LossSamples,
    MergeTree,
    MinimaNetwork,
    PathProfile,
)
from topolandscape.study.minima_route import networks_of, profiles_of
from topolandscape.study.pictures import name_of

# Grids on which the ways between minima are looked for: a search over all points below a saddle, for each bar.
_LARGEST_GRID = 200_000
_SHORTEST = 1e-3  # separatrices of bars shorter than this share of all losses are left out


@dataclass(frozen=True, eq=False)
class Explored:
    """A finished run, read.

    Parameters
    ----------
    name
        What it is called.
    code, tree
        Its bars, and the merge tree of which they are.
    network, profiles
        Of a run through trained minima: the network that was reduced, and the loss along each of its paths by the
        minima that it joins.
    samples
        Of a run of samples.
    """

    name: str
    code: Barcode
    tree: MergeTree
    network: MinimaNetwork | None
    profiles: Mapping[tuple[int, int], PathProfile]
    samples: LossSamples | None

    @property
    def passes(self) -> tuple[str, ...] | None:
        """What the highest points of the paths are; None where there are no paths."""
        return None if self.network is None else self.network.passes


def explored(run: Run) -> Explored:
    """Read what a finished run holds.

    Parameters
    ----------
    run
        Of any route.

    Returns
    -------
    Explored

    Raises
    ------
    FileNotFoundError
        The run is not finished.
    ValueError
        A file of the run is damaged.
    """
    network = samples = None
    profiles: dict[tuple[int, int], PathProfile] = {}
    if "network" in run:
        _, network = networks_of(run)
        profiles = {profile.ends: profile for profile in profiles_of(run, network)}
    else:
        samples = run.load("samples", LossSamples)
    return Explored(name_of(run), run.load("barcode", Barcode), run.load("tree", MergeTree), network, profiles, samples)


class Branches(NamedTuple):
    """The merge tree as branches: from each minimum up to the saddle where it meets a lower one.

    Parameters
    ----------
    layout
        Where the nodes are drawn.
    length
        Of the branch of each minimum, +inf where it meets no lower one, (leaves,).
    into
        The lower minimum that it meets, a leaf, -1 where there is none, (leaves,).
    bar
        What names the branch on the page: the row of its bar; for a minimum that has none -2 - leaf, (leaves,).
    """

    layout: TreeLayout
    length: Floats
    into: Integers
    bar: Integers


def branches(tree: MergeTree, code: Barcode, *, most: int) -> Branches:
    """Return the branches of a merge tree, the longest of which are drawn.

    Parameters
    ----------
    tree
        Any.
    code
        Its barcode; of a network the minima that were only met on the way have no bars.
    most
        Draw at most about this many branches: equally long ones are all drawn, or none.

    Returns
    -------
    Branches

    Examples
    --------
    >>> tree = MergeTree([0, 2, 1], [0, 2, 1], [0.0, 1.0, 3.0], [2, 2, -1], [1, 1, 3], [0, 0, 1])
    >>> found = branches(tree, Barcode.from_pairs([]), most=10)
    >>> found.length.tolist(), found.into.tolist(), found.bar.tolist()
    ([inf, 2.0], [-1, 0], [-2, -3])
    """
    whole = tree_layout(tree, 0.0)
    leaves = int(tree.is_leaf.sum())
    length, into = np.full(leaves, np.inf), np.full(leaves, -1)
    joins = np.flatnonzero(whole.younger >= 0)
    ending = whole.lowest[whole.younger[joins]]
    length[ending] = tree.value[joins] - tree.value[ending]
    into[ending] = whole.lowest[whole.older[joins]]
    bar = -2 - np.arange(leaves)
    row_of = {int(vertex): row for row, vertex in enumerate(code.birth_vertex) if code.dim[row] == 0 and vertex >= 0}
    for leaf, vertex in enumerate(tree.vertex[:leaves].tolist()):
        bar[leaf] = row_of.get(vertex, bar[leaf])
    layout = whole
    if leaves > most:
        layout = tree_layout(tree, float(np.nextafter(np.sort(length)[-most - 1], np.inf)))
    return Branches(layout, length, into, bar)


def way_on_grid(samples: LossSamples, code: Barcode, bar: int, lower: int) -> Integers:
    """Return the samples along the way from the minimum of a bar to a lower one, none of them above the bar's death.

    Parameters
    ----------
    samples
        A grid.
    code
        Its barcode.
    bar
        A row of degree 0 that ends.
    lower
        The sample that is the lower minimum.

    Returns
    -------
    Integers
        Rows of samples, the minimum first: of all ways that rise no higher than the saddle a shortest one over it,
        in steps of the grid. Empty on grids of more than 200,000 points.

    Examples
    --------
    >>> from topolandscape.topology.complexes import grid
    >>> from topolandscape.topology.persistence import barcode
    >>> samples = LossSamples([[0.0], [1.0], [2.0], [3.0]], [0.0, 3.0, 1.0, 2.0], shape=(4,))
    >>> way_on_grid(samples, barcode(grid(samples)), 1, 0).tolist()
    [2, 1, 0]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    from topolandscape.topology.merge import neighbour_offsets

    shape, n = samples.shape, len(samples)
    if shape is None or n > _LARGEST_GRID or code.dim[bar] or code.essential[bar]:
        return np.zeros(0, dtype=np.int64)
    rows = np.arange(n).reshape(shape)
    below = (samples.values <= code.death[bar]).reshape(shape)
    connectivity = code.provenance.get("complex", {}).get("connectivity", "axis")
    starts, ends, lengths = [], [], []
    for offset in neighbour_offsets(len(shape), connectivity):
        here = tuple(slice(max(0, -step), side - max(0, step)) for step, side in zip(offset, shape, strict=True))
        there = tuple(slice(max(0, step), side - max(0, -step)) for step, side in zip(offset, shape, strict=True))
        joined = below[here] & below[there]
        starts.append(rows[here][joined])
        ends.append(rows[there][joined])
        lengths.append(np.full(joined.sum(), np.linalg.norm(offset)))
    edges = (np.concatenate(lengths), (np.concatenate(starts), np.concatenate(ends)))
    saddle = int(code.death_vertex[bar])
    steps = coo_array(edges, shape=(n, n)).tocsr()
    _, before = dijkstra(steps, directed=False, indices=saddle, return_predecessors=True)
    halves = []
    for row in (int(code.birth_vertex[bar]), lower):
        way = [row]
        while before[way[-1]] >= 0:
            way.append(int(before[way[-1]]))
        halves.append(way)
    return np.array(halves[0] + halves[1][-2::-1])


def way_of(run: Explored, bar: int) -> Integers:
    """Return the samples along the way from the minimum of a bar to the lower one that it meets; empty: not known."""
    found = branches(run.tree, run.code, most=len(run.tree))
    leaves = np.flatnonzero(found.bar == bar)
    if run.samples is None or len(leaves) == 0 or found.into[leaves[0]] < 0:
        return np.zeros(0, dtype=np.int64)
    return way_on_grid(run.samples, run.code, bar, int(run.tree.vertex[found.into[leaves[0]]]))


def bars_of(samples: LossSamples) -> Barcode:
    """Return the bars of degree 0 of a grid."""
    from topolandscape.topology.complexes import grid
    from topolandscape.topology.persistence import barcode

    return barcode(grid(samples, connectivity="full", nonfinite="infinite"))


def ways_down(samples: LossSamples) -> list[Floats]:
    """Return the separatrices from the saddles of a grid of two coordinates down to its minima.

    Parameters
    ----------
    samples
        Any.

    Returns
    -------
    list of Floats
        Coordinates along each, (q, 2), of saddles whose bars are no shorter than a thousandth of the range of all
        losses. None for other samples, and for grids of more than 200,000 points.

    Examples
    --------
    >>> samples = LossSamples(np.argwhere(np.ones((5, 2))), np.repeat([1.0, 0.0, 2.0, 1.0, 3.0], 2), shape=(5, 2))
    >>> [line[-1].tolist() for line in ways_down(samples)]
    [[1.0, 0.0], [3.0, 0.0]]
    """
    from topolandscape.topology.complexes import grid
    from topolandscape.topology.morse import gradient_field, separatrices

    known = samples.values[np.isfinite(samples.values)]
    if samples.shape is None or len(samples.shape) != 2 or len(samples) > _LARGEST_GRID or len(known) == 0:
        return []
    # Those of the squares, whose corners are neighbours along the axes.
    squares = grid(samples, connectivity="axis", nonfinite="infinite")
    return separatrices(gradient_field(squares, persistence=_SHORTEST * float(np.ptp(known))), points=samples.points)
