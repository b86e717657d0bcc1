"""What topolandscape does in the race and in the table of truths: each function prepares, and returns what is timed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from homology import positive_bars
from problems import Counted, trained

import topolandscape as tl
from topolandscape.structures import GridComplex, Minima, MinimaNetwork, SimplicialComplex

Array = np.ndarray
Run = Callable[[], dict[str, Array]]


def bars_of(code: tl.Barcode) -> Array:
    """Return births and deaths."""
    return positive_bars(np.column_stack([code.birth, code.death]))


# --------------------------------------------------------------------------------------------------------------
# Loss planes
# --------------------------------------------------------------------------------------------------------------


def _landscape(network: Array, state: dict[str, Array]) -> Callable[[], tl.Landscape]:
    from torch.nn.functional import cross_entropy

    module, inputs, targets = trained(network, state)
    return lambda: tl.Landscape.from_module(module, inputs, targets, loss=cross_entropy)


def _samples(landscape: tl.Landscape, steps: Array) -> tl.LossSamples:
    half = 20
    plane = landscape.restricted_to(landscape.point, steps)
    return tl.sample_grid(plane, low=-half, high=half, shape=2 * half + 1, progress=False)


def plane(network: Array, directions: Array, steps: Array, distance: Array, **state: Array) -> Run:
    """Make a landscape and sample the plane, the trials included by which the fastest way to evaluate is found."""
    make = _landscape(network, state)
    return lambda: {"losses": _samples(make(), steps).values.reshape(41, 41)}


def plane_in_use(network: Array, directions: Array, steps: Array, distance: Array, **state: Array) -> Run:
    """Sample the plane of a landscape that was used before, so that its way to evaluate is chosen."""
    landscape = _landscape(network, state)()
    return lambda: {"losses": _samples(landscape, steps).values.reshape(41, 41)}


def plane_and_tree(network: Array, directions: Array, steps: Array, distance: Array, **state: Array) -> Run:
    """Sample the plane as in `plane`, and give merge tree and barcode."""
    make = _landscape(network, state)

    def run() -> dict[str, Array]:
        samples = _samples(make(), steps)
        tree = tl.merge_tree(tl.grid(samples))
        return {"losses": samples.values.reshape(41, 41), "bars": bars_of(tl.barcode(tree))}

    return run


# --------------------------------------------------------------------------------------------------------------
# Bars
# --------------------------------------------------------------------------------------------------------------


def bars_of_grid(grid: Array) -> Run:
    """Bars with minima and saddles."""
    return lambda: {"bars": bars_of(tl.barcode(GridComplex(grid), sizes=False))}


def tree_of_grid(grid: Array) -> Run:
    """Merge tree with basins, and bars with minima, saddles and sizes."""
    return lambda: {"bars": bars_of(tl.barcode(tl.merge_tree(GridComplex(grid))))}


def bars_of_graph(values: Array, edges: Array) -> Run:
    """Bars with minima and saddles."""
    complex = SimplicialComplex([np.arange(len(values))[:, None], edges], [values, values[edges].max(axis=1)])
    return lambda: {"bars": bars_of(tl.barcode(complex, sizes=False))}


def tree_of_graph(values: Array, edges: Array) -> Run:
    """Merge tree with basins, and bars with minima, saddles and sizes."""
    complex = SimplicialComplex([np.arange(len(values))[:, None], edges], [values, values[edges].max(axis=1)])
    return lambda: {"bars": bars_of(tl.barcode(tl.merge_tree(complex)))}


def tree_of_network(births: Array, ends: Array, barriers: Array) -> Run:
    """Bars of minima and the passes between them, with who ended whom."""
    m = len(births)
    points = np.arange(m)[:, None].astype(float)
    minima = Minima(points, births, np.zeros(m), np.ones((m, 1)), np.zeros(m, int), ("minimum",) * m)
    paths = [points[pair] for pair in np.sort(ends, axis=1)]
    words = ("verified saddle",) * len(ends)
    network = MinimaNetwork(minima, ends, barriers, words, points[ends[:, 0]], paths)
    return lambda: {"bars": bars_of(tl.barcode(network))}


def _by_engine(engine: Any, grid: Array) -> Run:
    complex = GridComplex(grid)
    return lambda: {"bars": bars_of(tl.barcode(complex, engine=engine))}


def _degrees(engine: Any, grid: Array) -> Run:
    complex = GridComplex(grid)

    def run() -> dict[str, Array]:
        code = tl.barcode(complex, max_dim=grid.ndim - 1, engine=engine)
        return {f"bars_{k}": bars_of(code.filter(dim=k)) for k in range(grid.ndim)}

    return run


merge, morse, canonical = (partial(_by_engine, engine) for engine in ("merge", "morse", "canonical"))
gudhi, ripser = (partial(_by_engine, engine) for engine in ("gudhi", "ripser"))
degrees_morse, degrees_canonical, degrees_gudhi = (
    partial(_degrees, engine) for engine in ("morse", "canonical", "gudhi")
)


# --------------------------------------------------------------------------------------------------------------
# Minima and saddles of functions
# --------------------------------------------------------------------------------------------------------------


def critical_points(function: Array) -> Run:
    """All critical points of the box, and the flow lines between them."""

    def run() -> dict[str, Array]:
        counted = Counted(function)
        known = counted.known
        landscape = tl.Landscape.from_function(counted, known.dimension)
        morse = tl.critical_points(landscape, low=known.low, high=known.high, seed=0)
        return {
            "minima": morse.points[morse.index == 0],
            "saddles": morse.points[morse.index == 1],
            "bars": bars_of(tl.barcode(morse)),
            "calls": np.array(counted.calls),
        }

    return run


def refined(function: Array) -> Run:
    """Bars of a grid of 41 points an axis (401 on a line), refined; with the losses of the grid counted."""

    def run() -> dict[str, Array]:
        counted = Counted(function)
        known = counted.known
        landscape = tl.Landscape.from_function(counted, known.dimension)
        side = 401 if known.dimension == 1 else 41
        samples = tl.sample_grid(landscape, low=known.low, high=known.high, shape=side, progress=False)
        code = tl.refine(tl.barcode(tl.grid(samples)), samples, landscape)
        record = code.provenance["refined"]
        return {
            "minima": _places(record["minimum"], known.dimension),
            "saddles": _places(record["saddle"], known.dimension),
            "bars": bars_of(code),
            "calls": np.array(counted.calls),
        }

    return run


def sampled_grid(function: Array) -> Run:
    """Bars of the losses on a grid of 41 points an axis (401 on a line), as they stand."""

    def run() -> dict[str, Array]:
        known = Counted(function).known
        return {"bars": bars_of(tl.barcode(tl.grid(known.on_grid((401,) if known.dimension == 1 else (41, 41)))))}

    return run


def sampled_points(function: Array) -> Run:
    """Bars of the losses at 20,000 points, joined to their nearest neighbours."""

    def run() -> dict[str, Array]:
        known = Counted(function).known
        landscape = tl.Landscape.from_function(known.function, known.dimension)
        samples = tl.sample_box(landscape, low=known.low, high=known.high, n=20_000, seed=0, progress=False)
        code = tl.barcode(tl.nearest_neighbours(samples, k=8 * known.dimension))
        return {"bars": bars_of(code.filter(min_size=25))}

    return run


def found_network(function: Array) -> Run:
    """Minima of the box below random points of it, and the passes found between them."""

    def run() -> dict[str, Array]:
        known = Counted(function).known
        landscape = tl.Landscape.from_function(known.function, known.dimension)
        starts = np.random.default_rng(0).uniform(known.low, known.high, (10 * len(known.minima), known.dimension))
        minima = tl.minima(landscape, starts, seed=0, steps=0, progress=False)
        inside = ((minima.points >= known.low) & (minima.points <= known.high)).all(axis=1)
        kept = minima.rows(np.flatnonzero(inside & (np.array(minima.stationary) == "minimum")))
        network = tl.minima_network(landscape, kept, evaluations=20_000, progress=False)
        return {"bars": bars_of(tl.barcode(network))}

    return run


def _places(points: Any, dimension: int) -> Array:
    return np.array([point for point in points if point is not None]).reshape(-1, dimension)


def published(size: Array) -> Run:
    """Bars of the seed paper's network on its grid, of components of at least so many points."""

    def run() -> dict[str, Array]:
        known = tl.zoo.one_two_one_relu()
        landscape = tl.Landscape.from_function(known.function, 5)
        samples = tl.sample_grid(landscape, low=known.low, high=known.high, shape=known.shape, progress=False)
        code = tl.barcode(tl.grid(samples))
        return {"bars": bars_of(code.filter(min_size=int(size))), "all": np.array(len(code))}

    return run


# --------------------------------------------------------------------------------------------------------------
# Spectra
# --------------------------------------------------------------------------------------------------------------


def highest(network: Array, k: Array, **state: Array) -> Run:
    return _curvatures(tl.highest_curvatures, _landscape(network, state)(), k)


def lowest(network: Array, k: Array, **state: Array) -> Run:
    return _curvatures(tl.lowest_curvatures, _landscape(network, state)(), k)


def highest_anew(network: Array, k: Array, **state: Array) -> Run:
    """Make a landscape first, with the trials by which the fastest way to evaluate is found."""
    make = _landscape(network, state)
    return lambda: _curvatures(tl.highest_curvatures, make(), k)()


def _curvatures(ends: Any, landscape: tl.Landscape, k: Array) -> Run:
    return lambda: {"values": ends(landscape, landscape.point[None], int(k), seed=0).values[0]}


def trace(network: Array, k: Array, **state: Array) -> Run:
    landscape = _landscape(network, state)()
    return lambda: {"values": tl.hessian_trace(landscape, landscape.point[None], seed=0)[0]}
