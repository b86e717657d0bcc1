"""The route through samples: losses of a region of parameter space, joined to a filtered complex."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from topolandscape.files import Run
from topolandscape.structures import Barcode, FilteredComplex, Floats, Integers, LossSamples, MergeTree
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

_TRIANGULATED = 3  # dimensions up to which scattered samples are triangulated


def by_samples(landscape: Landscape, recipe: Recipe, run: Run, progress: bool | None) -> tuple[MergeTree, Barcode]:
    """Sample a region, or go on with it, and return the merge tree and the barcode of the samples."""
    if "samples" not in run:
        provenance = {"model": recipe.model, "data": recipe.data, "seed": recipe.seed}
        samples = _sampled(landscape, recipe, run, progress, run.values)
        run.save("samples", replace(samples, provenance={**provenance, **samples.provenance}))
    complex = complex_of(run.load("samples", LossSamples), recipe, landscape, progress)

    from topolandscape.topology.merge import merge_tree
    from topolandscape.topology.persistence import barcode

    tree = merge_tree(complex)
    return tree, barcode(complex, max_dim=recipe.max_dim) if recipe.max_dim else barcode(tree)


class Elsewhere(Exception):
    """Other processes have to compute what is needed to go on."""


def begin_samples(landscape: Landscape, recipe: Recipe, run: Run, progress: bool | None) -> None:
    """Train the points that a region is made of."""
    with suppress(Elsewhere):
        _sampled(landscape, recipe, run, progress, lambda *points, **options: None)


def sample_shard(
    landscape: Landscape, recipe: Recipe, run: Run, part: Run, progress: bool | None, share: tuple[int, int]
) -> None:
    """Compute those losses of a run that were begun with `begin_samples` which belong to a part of it."""
    with suppress(Elsewhere):
        _sampled(landscape, recipe, run, progress, partial(part.values, share=share))


def _sampled(
    landscape: Landscape, recipe: Recipe, run: Run, progress: bool | None, values: Callable[..., Floats | None]
) -> LossSamples:
    from topolandscape.landscape import directions, sampling

    def evaluate(landscape: Landscape, points: Floats) -> Floats:
        found = values(landscape, points, each=landscape.values_of, progress=progress)
        if found is None:
            raise Elsewhere
        return found

    def trained(n: int) -> Floats:
        return _trained(landscape, recipe, run, n, progress)

    scattered: dict[str, Any] = {"n": recipe.points, "seed": recipe.seed, "evaluate": evaluate}
    side, margin = recipe.resolution, recipe.margin
    match recipe.region:
        case "plane":
            return sampling.sample_plane(landscape, trained(3), shape=(side, side), margin=margin, evaluate=evaluate)
        case "segment":
            a, b = trained(2)
            return sampling.sample_segment(landscape, a, b, n=side, margin=margin, evaluate=evaluate)
        case "random":
            origin = trained(1)[0]
            axes = directions.random_directions(landscape, 2, seed=recipe.seed, at=origin)
            plane = landscape.restricted_to(origin, axes)
            return sampling.sample_grid(
                plane, low=-recipe.radius, high=recipe.radius, shape=(side, side), evaluate=evaluate
            )
        case "pca":
            way = _trained(landscape, recipe, run, 1, progress, record_every=max(1, recipe.n_steps() // 100))
            origin, axes, _ = directions.principal_directions(way, 2)
            seen = (way - origin) @ axes.T
            low, high = seen.min(axis=0), seen.max(axis=0)
            border = margin * (high - low)
            return sampling.sample_grid(
                landscape.restricted_to(origin, axes),
                low=low - border,
                high=high + border,
                shape=(side, side),
                evaluate=evaluate,
            )
        case "ball":
            center = trained(1)[0]
            return sampling.sample_ball(landscape, center=center, radius=recipe.radius, below=recipe.below, **scattered)
        case "hull":
            corners = trained(recipe.starts)
            return sampling.sample_hull(landscape, corners, enlarge=recipe.enlarge, below=recipe.below, **scattered)
        case "box":
            return sampling.sample_box(landscape, low=recipe.low, high=recipe.high, below=recipe.below, **scattered)


def _trained(
    landscape: Landscape, recipe: Recipe, run: Run, n: int, progress: bool | None, *, record_every: int | None = None
) -> Floats:
    """Return n trained points (n, p), or the recorded points of one descent; trained once and kept in the run."""
    if "trained" not in run:
        from topolandscape.landscape.minima import descend, initial_points

        found = descend(
            landscape,
            initial_points(landscape, n, seed=recipe.seed),
            steps=recipe.n_steps(),
            learning_rate=recipe.learning_rate,
            record_every=record_every,
            progress=progress,
        )
        points, values = (
            (found.points[0], found.values[0]) if record_every is not None else (found.ends, found.end_values)
        )
        provenance = {"seed": recipe.seed, "steps": recipe.n_steps(), "gradient_norm": found.gradient_norm}
        run.save("trained", LossSamples(points, values, landscape.noise, provenance=provenance))
    return run.load("trained", LossSamples).points


def complex_of(samples: LossSamples, recipe: Recipe, landscape: Landscape, progress: bool | None) -> FilteredComplex:
    """Return the filtered complex of samples, joined as a recipe says."""
    from topolandscape.landscape.sampling import segment_maxima
    from topolandscape.topology import complexes

    if samples.shape is not None:
        return complexes.grid(samples, connectivity=recipe.connectivity, nonfinite=recipe.nonfinite)
    n, d = samples.points.shape
    k = min(8 * d, n - 1) if recipe.neighbours is None else recipe.neighbours
    if recipe.neighbours is None and d <= _TRIANGULATED:
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
        return segment_maxima(sampled, samples, edges, q=q, progress=progress)

    if recipe.max_dim == 0:
        return complexes.with_measured_edges(complex, measure)
    return complexes.with_edge_values(complex, measure(complex.simplices[1]))
