"""One run from a model and its data to a barcode: what to compute, the folder it goes to, its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from topolandscape.files import Run, function_in_file, telling_where
from topolandscape.structures import (
    CONNECTIVITIES,
    Barcode,
    Connectivity,
    FilteredComplex,
    Floats,
    Integers,
    LossSamples,
    MergeTree,
)

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

Region = Literal["plane", "random", "pca", "segment", "box", "ball", "hull"]
REGIONS: tuple[Region, ...] = get_args(Region)
Nonfinite = Literal["raise", "infinite"]
# What a run may be asked anew with other values of: its samples stay as they are.
_TOPOLOGY = ("neighbours", "connect", "edge_points", "connectivity", "nonfinite", "max_dim")
_LOSSES = {"cross_entropy": "cross_entropy", "mse": "mse_loss"}
_TRIANGULATED = 3  # dimensions up to which scattered samples are triangulated


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one run computes.

    Parameters
    ----------
    model
        A name of the zoo (``mlp:64-16-10``), or ``file.py:function`` returning a torch module.
    data
        A data set of the zoo (``digits``), or ``file.py:function`` returning (inputs, targets).
    loss
        ``cross_entropy``, ``mse``, or ``file.py:function`` taking (outputs, targets). None: what fits the data.
    weight_decay
        Factor of the squared norm of the parameters, added to the loss.
    route
        ``sample``: losses of a region of parameter space.
    region
        ``plane`` through three trained points; ``random``: plane along two random filter-normalised directions
        through a trained point; ``pca``: plane of the principal directions of a training trajectory; ``segment``
        between two trained points; ``box`` of all parameters; ``ball`` around a trained point; ``hull`` of trained
        points.
    resolution
        Points along each axis of a plane or segment.
    margin
        How far a plane or segment reaches beyond its points, as a share of their extent.
    points
        Number of points of a box, ball or hull.
    low, high
        Sides of a box.
    radius
        Half-width of a random plane (in units of the weights' own length), or radius of a ball.
    enlarge
        Factor by which the volume of a hull grows.
    below
        Keep only points of a box, ball or hull whose loss is below this.
    starts
        Descents for a hull; other regions take as many as they need (1 to 3).
    steps, learning_rate
        Of the descents (Adam on the whole training data).
    neighbours
        Join each scattered point to this many nearest ones. None: triangulate up to 3 dimensions, 8 d neighbours
        above.
    connect
        Join the components of a graph of neighbours by the shortest links that are missing.
    edge_points
        Points between two neighbours, scattered ones, at which the loss is evaluated to see a ridge there. 0: an edge
        enters with its higher end. None: 3 for a hull, whose first points are the minima themselves, else 0.
    connectivity
        Which points of a plane are neighbours.
    nonfinite
        ``raise``: refuse NaN and infinite losses; ``infinite``: such points never enter the filtration.
    max_dim
        Highest degree of homology.
    seed
        Of everything that is drawn.
    device
        Where the network is evaluated. None: on the processor.
    """

    model: str
    data: str
    loss: str | None = None
    weight_decay: float = 0.0
    route: Literal["sample"] = "sample"
    region: Region = "plane"
    resolution: int = 101
    margin: float = 0.25
    points: int = 20_000
    low: float = -1.0
    high: float = 1.0
    radius: float = 1.0
    enlarge: float = 1.1
    below: float | None = None
    starts: int = 5
    steps: int = 1000
    learning_rate: float = 0.01
    neighbours: int | None = None
    connect: bool = False
    edge_points: int | None = None
    connectivity: Connectivity = "full"
    nonfinite: Nonfinite = "raise"
    max_dim: int = 0
    seed: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be computed before anything is."""
        if self.route != "sample":
            raise ValueError(f"route is {self.route!r}; it must be sample.")
        choices: dict[str, tuple[str, ...]] = {
            "region": REGIONS,
            "connectivity": CONNECTIVITIES,
            "nonfinite": get_args(Nonfinite),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}.")
        least = {"resolution": 2, "points": 2, "starts": 2, "steps": 1, "neighbours": 1, "edge_points": 0, "max_dim": 0}
        for name, bound in least.items():
            if getattr(self, name) is not None and getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {bound}.")

    def points_on_edges(self) -> int:
        """Return how many points of each edge between scattered samples are evaluated."""
        if self.edge_points is None:
            return 3 if self.region == "hull" else 0
        return self.edge_points

    def folder_name(self) -> str:
        """Return a folder name that tells runs of different models, data, regions and seeds apart."""
        words = "_".join((self.model, self.data, self.region, f"seed{self.seed}"))
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in words)


def run(recipe: Recipe, folder: str | Path, *, progress: bool | None = None) -> Run:
    """Compute what a recipe says, or what is still missing of it.

    Parameters
    ----------
    recipe
        What to compute.
    folder
        Where the run is kept; one that was stopped is gone on with.
    progress
        None: bars when stderr is a terminal; True: always; False: never.

    Returns
    -------
    Run
        Holding ``samples``, ``tree`` and ``barcode``, and ``trained`` where points were trained.

    Examples
    --------
    >>> import tempfile
    >>> recipe = Recipe(model="mlp:1-2-1", data="sine_regression", resolution=11, steps=20)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     done = run(recipe, folder, progress=False)
    ...     done.load("samples", LossSamples).shape
    (11, 11)
    """
    landscape, sources = _landscape(recipe)
    settings = {name: value for name, value in asdict(recipe).items() if value is not None}
    topology = {name: settings.pop(name) for name in _TOPOLOGY if name in settings}
    result = Run.create(folder, settings | {"sources": sources, "landscape": dict(landscape.description)})
    if "barcode" in result and result.load("barcode", Barcode).provenance.get("topology") == topology:
        return result
    if "samples" not in result:
        provenance = {"model": recipe.model, "data": recipe.data, "seed": recipe.seed}
        samples = _sampled(landscape, recipe, result, progress)
        result.save("samples", replace(samples, provenance={**provenance, **samples.provenance}))
    complex = _complex(result.load("samples", LossSamples), recipe, landscape, progress)

    from topolandscape.topology.merge import merge_tree
    from topolandscape.topology.persistence import barcode

    tree = merge_tree(complex)
    code = barcode(complex, max_dim=recipe.max_dim) if recipe.max_dim else barcode(tree)
    result.save("tree", tree)
    result.save("barcode", replace(code, provenance={**code.provenance, "topology": topology}))
    return result


# --------------------------------------------------------------------------------------------------------------
# From names to a landscape
# --------------------------------------------------------------------------------------------------------------


def _landscape(recipe: Recipe) -> tuple[Landscape, Mapping[str, str]]:
    """Return the landscape of a recipe, and checksums of the user's files it came from."""
    import torch

    from topolandscape import zoo
    from topolandscape.landscape.loss import Landscape

    sources: dict[str, str] = {}

    def user_function(text: str) -> Callable[..., Any]:
        function, sources[text] = function_in_file(text)
        return function

    def made_by(text: str) -> Any:
        return telling_where(text.rpartition(":")[0], user_function(text))

    if _is_file(recipe.model):
        module = made_by(recipe.model)
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"{recipe.model} returned a {type(module).__name__}; it must return a torch.nn.Module.")
    else:
        module = zoo.network(recipe.model, seed=recipe.seed)
    if _is_file(recipe.data):
        pair = made_by(recipe.data)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"{recipe.data} returned a {type(pair).__name__}; it must return a pair (inputs, targets).")
        inputs, targets = (part if isinstance(part, torch.Tensor) else np.asarray(part) for part in pair)
        whole = not torch.as_tensor(targets).is_floating_point()
        fitting = "cross_entropy" if whole else "mse"
    else:
        data = zoo.dataset(recipe.data)
        inputs, targets, fitting = data.inputs, data.targets, data.loss
    name = recipe.loss or fitting
    if _is_file(name):
        loss = user_function(name)
    elif name in _LOSSES:
        loss = getattr(torch.nn.functional, _LOSSES[name])
    else:
        raise ValueError(f"there is no loss {name!r}; give {', '.join(_LOSSES)}, or file.py:function.")
    landscape = Landscape.from_module(
        module.eval(), inputs, targets, loss=loss, weight_decay=recipe.weight_decay, device=recipe.device
    )
    return landscape, sources


def _is_file(name: str) -> bool:
    return ".py:" in name


# --------------------------------------------------------------------------------------------------------------
# From a landscape to samples and a complex
# --------------------------------------------------------------------------------------------------------------


def _sampled(landscape: Landscape, recipe: Recipe, run: Run, progress: bool | None) -> LossSamples:
    from topolandscape.landscape import directions, sampling

    def evaluate(landscape: Landscape, points: Floats) -> Floats:
        return run.values(landscape, points, progress=progress)

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
            way = _trained(landscape, recipe, run, 1, progress, record_every=max(1, recipe.steps // 100))
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
            steps=recipe.steps,
            learning_rate=recipe.learning_rate,
            record_every=record_every,
            progress=progress,
        )
        points, values = (
            (found.points[0], found.values[0]) if record_every is not None else (found.ends, found.end_values)
        )
        provenance = {"seed": recipe.seed, "steps": recipe.steps, "gradient_norm": found.gradient_norm}
        run.save("trained", LossSamples(points, values, landscape.noise, provenance=provenance))
    return run.load("trained", LossSamples).points


def _complex(samples: LossSamples, recipe: Recipe, landscape: Landscape, progress: bool | None) -> FilteredComplex:
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


# --------------------------------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------------------------------


def pictures(
    run: Run, *, folder: str | Path | None = None, format: str = "png", min_persistence: float | None = None
) -> list[Path]:
    """Draw what a run holds: bars, merge tree, diagram, and the contour or profile of a plane or segment.

    Parameters
    ----------
    run
        A finished run.
    folder
        Where the pictures go; None: to the run itself.
    format
        ``png``, ``pdf`` or ``svg``.
    min_persistence
        Draw bars at least this long; None: longer than twice the noise of the losses.

    Returns
    -------
    list of Path
        The files, the main one first.
    """
    from matplotlib.figure import Figure

    from topolandscape import plot

    if format not in ("png", "pdf", "svg"):
        raise ValueError(f"format is {format!r}; it must be png, pdf or svg.")
    samples, tree, code = run.load("samples", LossSamples), run.load("tree", MergeTree), run.load("barcode", Barcode)
    shortest = 2 * samples.noise if min_persistence is None else min_persistence
    name = str(run.settings.get("model", "barcode"))

    def contour(ax: Any) -> None:
        region = run.settings.get("region")
        points = {f"trained {i + 1}": corner for i, corner in enumerate(samples.provenance.get("corners", []))}
        if region in ("random", "pca"):
            points = {"trained": (0.0, 0.0)}
        plot.contour(samples, ax=ax, barcode=code, min_persistence=shortest, points=points)
        if region == "pca" and samples.subspace is not None:
            way = run.load("trained", LossSamples).points - samples.subspace.origin
            ax.plot(*(way @ samples.subspace.directions.T).T, color="white", linewidth=1.2)

    drawings: dict[str, Callable[[Any], Any]] = {
        "bars": lambda ax: plot.bars({name: code}, ax=ax, min_persistence=shortest),
        "tree": lambda ax: plot.merge_tree(tree, ax=ax, min_persistence=shortest),
        "diagram": lambda ax: plot.diagram(code, ax=ax),
    }
    if samples.shape is not None and len(samples.shape) == 2:
        drawings = {"contour": contour, **drawings}
    elif samples.points.shape[1] == 1:
        drawings = {
            "profile": lambda ax: plot.profile(samples, ax=ax, barcode=code, min_persistence=shortest),
            **drawings,
        }
    written = []
    for stem, draw in drawings.items():
        figure = Figure(figsize=(5.5, 4.2), layout="constrained")
        draw(figure.subplots())
        save = partial(figure.savefig, format=format, dpi=200)
        written.append(run.picture(f"{stem}.{format}", save, folder=folder))
    return written
