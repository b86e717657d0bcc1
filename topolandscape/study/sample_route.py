"""The route through samples: losses of a region of parameter space, joined to a filtered complex."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from topolandscape.files import Run, Shards
from topolandscape.structures import (
    Barcode,
    FilteredComplex,
    Floats,
    Integers,
    LossSamples,
    MergeTree,
    Trajectories,
    grid_points,
)
from topolandscape.study.descents import descents
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

_Evaluate = Callable[["Landscape", Floats], Floats]
_Found = TypeVar("_Found")
_TRIANGULATED = 3  # dimensions up to which scattered samples are triangulated
_MEMORY = 4.0  # GiB that a grid or the edges of a graph may take
# Of a point of a grid that is in memory as a whole: coordinates while they are written, and the rest.
_BYTES_OF_A_COORDINATE, _BYTES = 32, 150
# Of each neighbour of a point, while the graph is made and sorted.
_BYTES_OF_A_NEIGHBOUR = 80
# Pairs of points that are compared for a block of a graph, in seconds; and points of a block, at least and at most.
_PAIRS, _FEWEST, _MOST = 2**35, 2**10, 2**17


def by_samples(landscape: Landscape, recipe: Recipe, run: Run, progress: bool | None) -> tuple[MergeTree, Barcode]:
    """Sample a region, or go on with it, and return the merge tree and the barcode of the samples."""
    losses = _Losses(run, progress)
    provenance = {"model": recipe.model, "data": recipe.data, "seed": recipe.seed}
    if "samples" not in run:
        if recipe.region == "grid" and not _fits(landscape.dimension, recipe):
            return _by_blocks(landscape, recipe, provenance, losses)
        samples = _sampled(landscape, recipe, run, losses, progress)
        run.save("samples", replace(samples, provenance={**provenance, **samples.provenance}))
    samples = run.load("samples", LossSamples)
    if _is_beyond_memory(samples, recipe):
        return _graph_by_blocks(samples, recipe, run)
    complex = complex_of(samples, recipe, landscape, losses)

    from topolandscape.topology.merge import merge_tree
    from topolandscape.topology.persistence import barcode

    tree = merge_tree(complex)
    return tree, barcode(complex, max_dim=recipe.max_dim) if recipe.max_dim else barcode(tree)


def samples_of(run: Run, code: Barcode) -> tuple[LossSamples | None, Mapping[str, Any]]:
    """Return the samples of a run with a barcode, and how many points and losses that are not finite, and what noise.

    Of a grid that was joined block by block there are no samples, and its barcode says the rest.
    """
    if "samples" not in run:
        return None, {name: code.provenance[name] for name in ("points", "not_finite", "noise")}
    samples = run.load("samples", LossSamples)
    return samples, {"points": len(samples), "not_finite": len(samples.nonfinite), "noise": samples.noise}


class Elsewhere(Exception):
    """Other processes have to compute what is needed to go on."""


@dataclass(frozen=True)
class _Losses:
    """Where losses are kept, and which part of them is computed here; with no run at all none are."""

    run: Run | None
    progress: bool | None
    share: tuple[int, int] = (0, 1)

    def __call__(self, landscape: Landscape, points: Floats) -> Floats:
        """Return the losses at points."""
        if self.run is None:
            raise Elsewhere
        return _there(
            self.run.values(landscape, points, share=self.share, each=landscape.values_of, progress=self.progress)
        )

    def of_grid(self, landscape: Landscape, recipe: Recipe) -> tuple[list[Floats], Shards]:
        """Return the coordinates along the axes of a grid, and its losses on the disk."""
        from topolandscape.landscape.grids import grid_axes

        if self.run is None:
            raise Elsewhere
        axes = grid_axes(landscape.dimension, *recipe.sides())
        return axes, _there(
            self.run.grid_values(landscape, axes, share=self.share, each=landscape.values_of, progress=self.progress)
        )


def _there(losses: _Found | None) -> _Found:
    if losses is None:
        raise Elsewhere
    return losses


def begin_samples(landscape: Landscape, recipe: Recipe, run: Run, progress: bool | None) -> None:
    """Train the points that a region is made of; a grid is made of none."""
    with suppress(Elsewhere):
        if recipe.region != "grid":
            _sampled(landscape, recipe, run, _Losses(None, progress), progress)


def sample_shard(
    landscape: Landscape, recipe: Recipe, run: Run, part: Run, progress: bool | None, share: tuple[int, int]
) -> None:
    """Compute those losses of a run that were begun with `begin_samples` which belong to a part of it."""
    losses = _Losses(part, progress, share)
    with suppress(Elsewhere):
        if recipe.region == "grid":
            losses.of_grid(landscape, recipe)
        else:
            _sampled(landscape, recipe, run, losses, progress)


def _fits(d: int, recipe: Recipe) -> bool:
    """Tell whether a grid over d parameters may be in memory as a whole, with all of its points."""
    points = math.prod(np.broadcast_to(recipe.sides()[2], d).astype(float).tolist())
    return points * (_BYTES + _BYTES_OF_A_COORDINATE * d) <= _memory(recipe)


def _memory(recipe: Recipe) -> float:
    return (_MEMORY if recipe.memory is None else recipe.memory) * 2**30


def _is_beyond_memory(samples: LossSamples, recipe: Recipe) -> bool:
    """Tell whether the edges of the graph of scattered samples are never to be in memory together."""
    n, d = samples.points.shape
    k = _neighbours(n, d, recipe)
    if samples.shape is not None or k is None or n * k * _BYTES_OF_A_NEIGHBOUR <= _memory(recipe):
        return False
    asked = {"max_dim": recipe.max_dim, "connect": recipe.connect, "edge_points": recipe.points_on_edges()}
    needed = {name: value for name, value in asked.items() if value}
    if needed and recipe.memory is not None:
        name, value = next(iter(needed.items()))
        raise ValueError(
            f"{name} is {value}, and needs all edges of the graph in memory, which take "
            f"{n * k * _BYTES_OF_A_NEIGHBOUR / 2**30:.3g} GiB. Allow more memory, or leave {name} out."
        )
    return not needed


def _graph_by_blocks(samples: LossSamples, recipe: Recipe, run: Run) -> tuple[MergeTree, Barcode]:
    """Return the merge tree and the barcode of a graph of which only some edges are in memory at a time."""
    from topolandscape.topology.graph_blocks import graph_merge_tree_in_blocks
    from topolandscape.topology.persistence import barcode

    n, d = samples.points.shape
    k = _neighbours(n, d, recipe)
    assert k is not None
    tree = graph_merge_tree_in_blocks(
        samples.points,
        samples.values,
        k=k,
        nonfinite=recipe.nonfinite,
        block=int(np.clip(_PAIRS // n, _FEWEST, _MOST)),
        store=run.store(),
        provenance={**samples.provenance, "noise": samples.noise},
    )
    return tree, barcode(tree)


def _neighbours(n: int, d: int, recipe: Recipe) -> int | None:
    """Return with how many neighbours each of n scattered points is joined, None where they are triangulated."""
    if recipe.neighbours is None:
        return None if d <= _TRIANGULATED else min(8 * d, n - 1)
    return recipe.neighbours


def _by_blocks(
    landscape: Landscape, recipe: Recipe, provenance: Mapping[str, Any], kept: _Losses
) -> tuple[MergeTree, Barcode]:
    """Return the merge tree and the barcode of a grid that is never in memory as a whole."""
    from topolandscape.landscape.grids import grid_settings
    from topolandscape.landscape.samples import noise_among, provenance_of
    from topolandscape.topology.blocks import block_within, merge_tree_in_blocks
    from topolandscape.topology.persistence import barcode

    if recipe.max_dim:
        raise ValueError(
            f"max_dim is {recipe.max_dim}, and bars of degrees above 0 need the whole grid in memory. Allow more, "
            "or take fewer points along the axes."
        )
    axes, losses = kept.of_grid(landscape, recipe)
    block = block_within(losses.shape, _memory(recipe))
    connectivity = recipe.neighbours_of(len(axes))
    lowest, highest, not_finite = _extremes(losses)
    few = np.concatenate([grid_points(axes, slice(row, row + 1)) for row in (lowest, highest)])
    tree = merge_tree_in_blocks(
        losses,
        connectivity=connectivity,
        nonfinite=recipe.nonfinite,
        block=block,
        store=None if kept.run is None else kept.run.store(),
        provenance={
            **provenance,
            **provenance_of(landscape, "sample_grid", grid_settings(axes)),
            "noise": noise_among(landscape, few),
            "complex": {"method": "grid", "connectivity": connectivity},
            "points": math.prod(losses.shape),
            "not_finite": not_finite,
        },
    )
    return tree, barcode(tree)


def _extremes(losses: Shards) -> tuple[int, int, int]:
    """Return the rows of the lowest and the highest finite loss, the first of equal ones, and how many are not."""
    low, high, lowest, highest = np.inf, -np.inf, 0, 0
    first = not_finite = 0
    for values in losses:
        finite = np.flatnonzero(np.isfinite(values))
        not_finite += len(values) - len(finite)
        if len(finite):
            least, most = finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]
            if values[least] < low:
                low, lowest = values[least], first + int(least)
            if values[most] > high:
                high, highest = values[most], first + int(most)
        first += len(values)
    return lowest, highest, not_finite


def _sampled(landscape: Landscape, recipe: Recipe, run: Run, losses: _Losses, progress: bool | None) -> LossSamples:
    from topolandscape.landscape import directions, sampling
    from topolandscape.landscape.grids import sample_grid, sample_plane
    from topolandscape.landscape.segments import sample_segment

    def trained(n: int) -> Floats:
        return _trained(landscape, recipe, run, n, progress)

    scattered: dict[str, Any] = {"n": recipe.points, "seed": recipe.seed, "evaluate": losses}
    side, margin = recipe.resolution, recipe.margin
    match recipe.region:
        case "plane":
            return sample_plane(landscape, trained(3), shape=(side, side), margin=margin, evaluate=losses)
        case "segment":
            a, b = trained(2)
            return sample_segment(landscape, a, b, n=side, margin=margin, evaluate=losses)
        case "random":
            origin = trained(1)[0]
            axes = directions.random_directions(landscape, 2, seed=recipe.seed, at=origin)
            plane = landscape.restricted_to(origin, axes)
            return sample_grid(plane, low=-recipe.radius, high=recipe.radius, shape=(side, side), evaluate=losses)
        case "pca":
            way = _trained(landscape, recipe, run, 1, progress, record_every=max(1, recipe.n_steps() // 100))
            origin, axes, _ = directions.principal_directions(way, 2)
            seen = (way - origin) @ axes.T
            low, high = seen.min(axis=0), seen.max(axis=0)
            border = margin * (high - low)
            return sample_grid(
                landscape.restricted_to(origin, axes),
                low=low - border,
                high=high + border,
                shape=(side, side),
                evaluate=losses,
            )
        case "ball":
            center = trained(1)[0]
            return sampling.sample_ball(landscape, center=center, radius=recipe.radius, below=recipe.below, **scattered)
        case "hull":
            corners = trained(recipe.starts)
            return sampling.sample_hull(landscape, corners, enlarge=recipe.enlarge, below=recipe.below, **scattered)
        case "box":
            return sampling.sample_box(landscape, low=recipe.low, high=recipe.high, below=recipe.below, **scattered)
        case "grid":
            low, high, shape = recipe.sides()

            def looked_up(landscape: Landscape, points: Floats) -> Floats:
                found = losses.of_grid(landscape, recipe)[1]
                return found[tuple(slice(0, side) for side in found.shape)].reshape(-1)

            return sample_grid(landscape, low=low, high=high, shape=shape, evaluate=looked_up)


def _trained(
    landscape: Landscape, recipe: Recipe, run: Run, n: int, progress: bool | None, *, record_every: int | None = None
) -> Floats:
    """Return n trained points (n, p), or the recorded points of one descent; trained once and kept in the run."""
    if "trained" not in run:
        end = descents(landscape, None, recipe, run, progress, record_every=record_every, n=n)
        points, values = end.points, end.values
        if record_every is not None:
            way = run.load("trajectories", Trajectories)
            points, values = way.points[0], way.values[0]
        norms = np.linalg.norm(end.gradients, axis=1)
        provenance = {"seed": recipe.seed, "steps": recipe.n_steps(), "gradient_norm": norms}
        run.save("trained", LossSamples(points, values, landscape.noise, provenance=provenance))
    return run.load("trained", LossSamples).points


def complex_of(
    samples: LossSamples,
    recipe: Recipe,
    landscape: Landscape,
    evaluate: _Evaluate | None = None,
) -> FilteredComplex:
    """Return the filtered complex of samples, joined as a recipe says."""
    from topolandscape.landscape.segments import segment_maxima
    from topolandscape.topology import complexes

    if samples.shape is not None:
        return complexes.grid(
            samples, connectivity=recipe.neighbours_of(len(samples.shape)), nonfinite=recipe.nonfinite
        )
    n, d = samples.points.shape
    k = _neighbours(n, d, recipe)
    if k is None:
        complex = complexes.delaunay(samples, nonfinite=recipe.nonfinite)
    elif recipe.max_dim:
        complex = complexes.flag_complex(
            samples, k=k, max_dim=recipe.max_dim + 1, connect=recipe.connect, nonfinite=recipe.nonfinite
        )
    else:
        complex = complexes.nearest_neighbours(samples, k=k, connect=recipe.connect, nonfinite=recipe.nonfinite)
    q = recipe.points_on_edges()
    if q == 0:
        return complex
    sampled = landscape
    if samples.subspace is not None:
        sampled = landscape.restricted_to(samples.subspace.origin, samples.subspace.directions)

    def measure(edges: Integers) -> Floats:
        return segment_maxima(sampled, samples, edges, q=q, evaluate=evaluate)

    if recipe.max_dim == 0:
        return complexes.with_measured_edges(complex, measure)
    return complexes.with_edge_values(complex, measure(complex.simplices[1]))
