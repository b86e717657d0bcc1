"""Make the pictures of docs/concepts.md, one for each word: python docs/concepts.py [NAME ...]."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.ndimage import label

import topolandscape as tl
from topolandscape.plot.ink import COLOURS
from topolandscape.study import Recipe, run

IMAGES = Path(__file__).parent / "images" / "concepts"


def digits(width: int = 16, **options) -> tl.Landscape:
    """Return the landscape of a network with so many hidden units on digits."""
    data = tl.zoo.dataset("digits")
    network = tl.zoo.network(f"mlp:64-{width}-10,tanh", seed=0)
    return tl.Landscape.from_module(
        network, data.inputs, data.targets, loss=torch.nn.functional.cross_entropy, **options
    )


def plane() -> tl.LossSamples:
    """Return the plane through three networks trained on digits that `make demo` draws."""
    done = run(Recipe(model="mlp:64-16-10", data="digits", route="sample"), Path("runs") / "demo")
    return done.load("samples", tl.LossSamples)


def row(panels: int, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many panels beside one another."""
    figure = Figure(figsize=(10, height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, panels)))


def finely(points: np.ndarray, n: int) -> np.ndarray:
    """Return so many points on each of the segments through some points."""
    return np.concatenate([*(np.linspace(a, b, n, endpoint=False) for a, b in pairwise(points)), points[-1:]])


def napkin() -> Figure:
    """Draw the way from samples to a barcode."""
    samples = plane()
    tree = tl.merge_tree(tl.grid(samples, connectivity="full"))
    figure, panels = row(3)
    tl.plot.contour(samples, ax=panels[0], barcode=tl.barcode(tree), colorbar=False).get_legend().remove()
    tl.plot.merge_tree(tree, ax=panels[1], legend=False)
    tl.plot.bars(tl.barcode(tree), ax=panels[2], legend=False)
    for ax, title in zip(panels, ("LossSamples of a Landscape", "MergeTree of their complex", "Barcode"), strict=True):
        ax.set_title(title)
    return figure


def sublevel() -> Figure:
    """Draw the sublevel sets of a plane at three losses, one colour for each component."""
    samples = plane()
    code = tl.barcode(tl.grid(samples, connectivity="full"))
    loss = samples.values.reshape(samples.shape)
    ends = np.sort(code.death[~code.essential])[-2:]
    x, y = (np.unique(samples.points[:, axis]) for axis in (0, 1))
    figure, panels = row(3)
    for ax, level in zip(panels, (ends[0] / 2, ends.mean(), 1.2 * ends[1]), strict=True):
        components, _ = label(loss <= level, structure=np.ones((3, 3)))
        shown = np.ma.masked_equal(np.where(components > 0, (components - 1) % 3, -1), -1)
        ax.pcolormesh(x, y, shown.T, cmap=ListedColormap(COLOURS[:3]), vmin=0, vmax=2)
        ax.set_title(f"loss at most {level:.2g}")
        ax.set_aspect("equal")
    return figure


def elder_rule() -> Figure:
    """Draw the loss along the segments through five trained networks, with bars, merge tree and barcode."""
    landscape = digits()
    trained = tl.descend(landscape, tl.initial_points(landscape, 5, seed=1), steps=300, progress=False).ends
    way = finely(trained, 60)
    steps = np.linalg.norm(np.diff(way, axis=0), axis=1)
    samples = tl.LossSamples(np.concatenate([[0.0], steps.cumsum()])[:, None], landscape.values(way))
    complex = tl.delaunay(samples)
    code = tl.barcode(complex).filter(min_persistence=0.05)
    figure, (left, middle, right) = row(3)
    left.plot(samples.points[:, 0], samples.values, color="0.3")
    for bar, colour in zip(range(len(code)), COLOURS, strict=False):
        ends = bool(np.isfinite(code.death[bar]))
        top = code.death[bar] if ends else samples.values.max()
        place = samples.points[code.birth_vertex[bar], 0]
        left.vlines(place, code.birth[bar], top, color=colour, linestyle="-" if ends else "--")
        if ends:
            left.hlines(top, place, samples.points[code.death_vertex[bar], 0], color=colour, linewidth=0.8)
    left.set(xlabel="way through five networks", ylabel="loss", title="each minimum, and where it ends")
    tl.plot.merge_tree(tl.merge_tree(complex), ax=middle, min_persistence=0.05, legend=False)
    middle.set_title("merge tree")
    tl.plot.bars(code, ax=right, legend=False)
    right.set_title("barcode")
    return figure


def mountain_pass() -> Figure:
    """Draw the loss along a straight segment between two minima, and along the lowest path that was found."""
    landscape = digits(weight_decay=1e-3)
    found = tl.minima(landscape, 2, seed=0, steps=500, progress=False)
    ends = found.points[None, :2]
    paths = {"straight": ends, "bent": tl.lower_paths(landscape, ends, progress=False).points}
    figure, (ax,) = row(1, 3.0)
    for (name, path), colour in zip(paths.items(), COLOURS, strict=False):
        fine = finely(path[0], 400 // len(path[0]))
        along = np.linspace(0, 1, len(fine))
        loss = landscape.values(fine)
        ax.plot(along, loss, color=colour, label=name)
        ax.plot(along[loss.argmax()], loss.max(), "s", color=colour)
    ax.set(xlabel="share of the path", ylabel="loss", yscale="log")
    ax.legend(frameon=False)
    return figure


def graphs() -> Figure:
    """Draw three ways of joining the samples of one landscape."""
    camel = tl.zoo.functions["three_hump_camel"]
    landscape = tl.Landscape.from_function(camel.function, 2)
    scattered = tl.sample_box(landscape, low=camel.low, high=camel.high, n=150, seed=0)
    lattice = tl.freudenthal(tl.grid(camel.on_grid((12, 12))))
    figure, panels = row(3)
    for ax, (title, samples, complex) in zip(
        panels,
        [
            ("grid, freudenthal", camel.on_grid((12, 12)), lattice),
            ("Delaunay", scattered, tl.delaunay(scattered)),
            ("four nearest neighbours", scattered, tl.nearest_neighbours(scattered, k=4)),
        ],
        strict=True,
    ):
        ends = samples.points[complex.simplices[1]]
        ax.plot(
            *np.concatenate([ends, np.full((len(ends), 1, 2), np.nan)], axis=1).reshape(-1, 2).T,
            color="0.7",
            linewidth=0.6,
        )
        ax.scatter(*samples.points.T, c=samples.values, s=12, cmap="viridis", norm="symlog")
        bars = len(tl.barcode(complex))
        ax.set_title(f"{title}: {bars} bars")
        ax.set_aspect("equal")
    return figure


def distance() -> Figure:
    """Draw the barcode of many samples beside that of few, and how far each bar may be moved."""
    schwefel = tl.zoo.functions["schwefel_1d"]
    codes = {f"{n} samples": tl.barcode(tl.grid(schwefel.on_grid((n,)))) for n in (1001, 25)}
    far = tl.bottleneck(*codes.values())
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    ax = figure.subplots()
    for (name, code), colour, mark in zip(codes.items(), COLOURS, ("o", "x"), strict=False):
        ending = ~code.essential
        ax.plot(code.birth[ending], code.death[ending], mark, color=colour, label=name)
        if mark == "o":
            for birth, death in zip(code.birth[ending], code.death[ending], strict=True):
                corner = (birth - far, death - far)
                ax.add_patch(Rectangle(corner, 2 * far, 2 * far, fill=False, edgecolor=colour, linewidth=0.6))
    ends = np.array([ax.get_xlim()[0], ax.get_ylim()[1]])
    ax.plot(ends, ends, color="0.5", linewidth=0.8)
    ax.set(xlabel="birth", ylabel="death", title=f"bottleneck distance {far:.3g}", aspect="equal")
    ax.legend(frameon=False, loc="lower right")
    return figure


def copies() -> Figure:
    """Draw the segments from a trained network to another one, to its aligned copy, and to a copy of itself."""
    landscape = digits(width=32)
    one, other = tl.descend(landscape, tl.initial_points(landscape, 2, seed=0), steps=500, progress=False).ends
    symmetry = tl.symmetry_of(landscape)
    blocks = {block.name: block.entries for block in landscape.blocks}
    self_copy = one.copy()
    order = np.random.default_rng(0).permutation(32)
    weight, bias, out = list(blocks)[:3]
    self_copy[blocks[weight]] = one[blocks[weight]].reshape(32, -1)[order].ravel()
    self_copy[blocks[bias]] = one[blocks[bias]][order]
    self_copy[blocks[out]] = one[blocks[out]].reshape(-1, 32)[:, order].ravel()
    figure, (ax,) = row(1, 3.0)
    ends = {
        "another network": other,
        "the same, aligned": tl.align(symmetry, other, one, seed=0),
        "a copy of itself": self_copy,
    }
    for (name, end), colour in zip(ends.items(), COLOURS, strict=False):
        segment = landscape.values(np.linspace(one, end, 101))
        ax.plot(np.linspace(0, 1, 101), segment, color=colour, label=name)
    ax.set(xlabel="share of the segment", ylabel="loss")
    ax.legend(frameon=False, title="straight from one network to")
    return figure


PICTURES = {
    picture.__name__: picture for picture in (napkin, sublevel, elder_rule, mountain_pass, graphs, distance, copies)
}

if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]().savefig(IMAGES / f"{name}.png", dpi=110)
