"""Which points are nearest: exact and approximate search, and the graph of the union of neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from topolandscape.structures import Floats, Integers
from topolandscape.structures.graphs import components

Search = Literal["auto", "tree", "brute", "approximate"]

TREE_DIMENSIONS = 5  # above, a k-d tree visits most of its points
_BRUTE_POINTS = 100_000  # above, comparing all pairs takes minutes
_RECALL_QUERIES = 1000


def neighbour_edges(
    points: Floats, *, k: int, connect: bool, search: Search, seed: int
) -> tuple[Integers, dict[str, Any]]:
    """Return the edges of the union graph of nearest neighbours, and how they were found.

    Parameters
    ----------
    points
        Coordinates, shape (n, d).
    k, connect, search, seed
        As in ``nearest_neighbours``.

    Returns
    -------
    tuple
        Edges (m, 2), each once, in lexicographic order; a mapping with the search, its recall where it is approximate,
        the number of components before joining, and the number of links added to join them.
    """
    n, d = points.shape
    check_neighbours(k, n)
    if search == "auto":
        search = "tree" if d <= TREE_DIMENSIONS else "brute" if n <= _BRUTE_POINTS else "approximate"
    centred = points - points.mean(axis=0)  # far from the origin, differences of squares lose their digits
    facts: dict[str, Any] = {"search": search}
    if search == "approximate":
        neighbours, recall = _approximate(centred, k, seed)
        facts |= {"seed": seed, "recall": recall}
    else:
        neighbours = searcher(centred, search)(centred, k + 1)[1]
    edges, count, links = _joined(centred, _union(neighbours, k), connect)
    return edges, facts | {"components": count, "added_links": links}


def check_neighbours(k: int, n: int) -> None:
    """Raise when n points do not have k neighbours each."""
    if not isinstance(k, (int, np.integer)) or not 1 <= k < n:
        raise ValueError(
            f"k is {k}, but each of {n} points has {n - 1} others; k must be a whole number from 1 to {n - 1}."
        )


def searcher(points: Floats, search: Search) -> Callable[[Floats, int], tuple[Floats, Integers]]:
    """Return a function that gives the distances and rows of the k points nearest to each query, exactly."""
    if search == "tree":
        from scipy.spatial import cKDTree

        tree = cKDTree(points)

        def query(queries: Floats, k: int) -> tuple[Floats, Integers]:
            distances, rows = tree.query(queries, np.arange(1, k + 1), workers=-1)
            return distances, rows

        return query
    if search == "brute":
        from sklearn.neighbors import NearestNeighbors

        return NearestNeighbors(algorithm="brute").fit(points).kneighbors
    raise ValueError(f'search is {search!r}; it must be "auto", "tree", "brute" or "approximate".')


def _approximate(points: Floats, k: int, seed: int) -> tuple[Integers, float]:
    """Return the rows of about the k + 1 nearest points of each, and the share of the true ones among them."""
    from pynndescent import NNDescent

    found = NNDescent(points, n_neighbors=k + 1, random_state=seed, n_jobs=1).neighbor_graph[0].astype(np.int64)
    asked = np.random.default_rng(seed).choice(len(points), size=min(_RECALL_QUERIES, len(points)), replace=False)
    true = searcher(points, "brute")(points[asked], k + 1)[1]
    hits = [np.isin(true[i], found[row]).sum() for i, row in enumerate(asked)]
    recall = float(np.sum(hits) / true.size)
    if recall < 0.9:
        warnings.warn(
            f"the approximate search found {recall:.0%} of the nearest neighbours of {len(asked)} points. Sample fewer "
            'points and use search="brute", or sample a subspace.',
            stacklevel=3,
        )
    return found, recall


def _union(neighbours: Integers, k: int) -> Integers:
    """Return the edges from each row to its `k` nearest others, each edge once."""
    n = len(neighbours)
    itself = neighbours == np.arange(n)[:, None]
    itself[~itself.any(axis=1), -1] = True  # a copy of the point stood before it: drop the farthest instead
    others = neighbours[~itself].reshape(n, -1)[:, :k]
    one = np.repeat(np.arange(n), others.shape[1])
    edges = np.sort(np.column_stack([one, others.reshape(-1)]), axis=1)
    return unique_rows(edges[edges[:, 0] >= 0], n)


def _joined(points: Floats, edges: Integers, connect: bool) -> tuple[Integers, int, int]:
    """Return the edges, joined into one component if asked; how many components there were, how many links came.

    Shortest links between components, round by round (Boruvka 1926).
    """
    n, before = len(points), len(edges)
    label = components(edges, n)
    first = count = int(label.max()) + 1
    while connect and count > 1:
        edges = np.concatenate([edges, _shortest_links(points, label, count)])
        label = components(edges, n)
        count = int(label.max()) + 1
    if count > 1:
        largest = int(np.bincount(label).max())
        warnings.warn(
            f"the graph has {count} components (the largest holds {largest} of {n} points); each gives an "
            "essential bar. Use a larger k, or connect=True.",
            stacklevel=4,
        )
    return unique_rows(edges, n), first, len(edges) - before


def _shortest_links(points: Floats, label: Integers, count: int) -> Integers:
    """Return the shortest link of each component but the largest to any other, without those that close a cycle."""
    nearest = searcher(points, "tree" if points.shape[1] <= TREE_DIMENSIONS else "brute")
    members = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label))[:-1])
    largest = int(np.argmax([len(rows) for rows in members]))
    links: list[tuple[float, int, int]] = []
    for component in range(count):
        if component == largest:
            continue
        rows = members[component]
        reach = 2
        while True:  # the nearest outsider is among the nearest len(rows) + 1 points at the latest
            reach = min(2 * reach, len(rows) + 1)
            distances, found = nearest(points[rows], reach)
            outside = label[found] != component
            bound = np.where(outside, distances, np.inf).min()
            if reach == len(rows) + 1 or bound <= distances[~outside.any(axis=1), -1].min(initial=np.inf):
                break
        row, column = np.unravel_index(np.argmin(np.where(outside, distances, np.inf)), distances.shape)
        one, other = sorted((int(rows[row]), int(found[row, column])))
        links.append((float(distances[row, column]), one, other))

    # Components at equal distances may choose links in a circle, so union-find has the last word.
    joined = np.arange(count)
    kept = []
    for _, one, other in sorted(links):
        here, there = joined[label[one]], joined[label[other]]
        if here != there:
            joined[joined == there] = here
            kept.append((one, other))
    return np.array(kept, dtype=np.int64)


def unique_rows(rows: Integers, n: int) -> Integers:
    """Return the different rows of non-negative integers, in lexicographic order; `n` bounds the entries."""
    if float(n) ** rows.shape[1] >= 2**63:
        return np.unique(rows, axis=0)
    place = n ** np.arange(rows.shape[1] - 1, -1, -1)
    codes = np.unique(rows @ place)
    return codes[:, None] // place % n
