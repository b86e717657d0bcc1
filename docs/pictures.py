"""Make the pictures of the documentation: python docs/pictures.py."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

import topolandscape as tl
from topolandscape.study import Recipe, run

IMAGES = Path(__file__).parent / "images"


def digits() -> None:
    """Draw a plane through three trained networks, and its barcode."""
    done = run(Recipe(model="mlp:64-16-10", data="digits", route="sample"), Path("runs") / "demo")
    samples, code = done.load("samples", tl.LossSamples), done.load("barcode", tl.Barcode)
    corners = samples.provenance["corners"]
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    tl.plot.contour(
        samples, ax=left, barcode=code, points={f"network {i + 1}": tuple(corner) for i, corner in enumerate(corners)}
    )
    tl.plot.bars({"64-16-10": code}, ax=right, min_persistence=2 * samples.noise)
    figure.savefig(IMAGES / "digits.png", dpi=120)


def morse() -> None:
    """Draw the Morse complex of the six-hump camel, as sampled and simplified."""
    samples = tl.zoo.functions["six_hump_camel"].on_grid((161, 161))
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for ax, persistence in zip(figure.subplots(1, 2, sharey=True), (0.0, 0.5), strict=True):
        tl.plot.morse_complex(samples, ax=ax, persistence=persistence)
    figure.savefig(IMAGES / "morse.png", dpi=120)


def compare() -> None:
    """Draw barcodes of four widths over five seeds, their scores and their distances."""
    data = tl.zoo.dataset("two_moons")
    ceiling = tl.constant_predictor_ceiling(data.targets, loss="cross_entropy")
    codes: dict[int, list[tl.Barcode]] = {}
    for width in (2, 4, 8, 16):
        codes[width] = []
        for seed in range(5):
            network = tl.zoo.network(f"mlp:2-{width}-2,tanh", seed=seed)
            landscape = tl.Landscape.from_module(
                network, data.inputs, data.targets, loss=torch.nn.functional.cross_entropy
            )
            trained = tl.descend(landscape, tl.initial_points(landscape, 3, seed=seed), steps=150)
            samples = tl.sample_plane(landscape, trained.ends, shape=(41, 41))
            code = tl.barcode(tl.grid(samples, connectivity="full"))
            codes[width].append(tl.normalised(code, low=0.0, high=ceiling, high_name="constant predictor"))
    scores = {
        how: {width: [tl.to_score(code, aggregate=how) for code in seeds] for width, seeds in codes.items()}
        for how in ("mean", "max")
    }
    intervals = {
        how: {width: tl.bootstrap_interval(seeds, seed=0) for width, seeds in curve.items()}
        for how, curve in scores.items()
    }
    named = {f"{width}, {seed}": code for width, seeds in codes.items() for seed, code in enumerate(seeds)}
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    tl.plot.bands({f"2-{width}-2": tl.bar_bands(seeds) for width, seeds in codes.items()}, ax=left)
    tl.plot.scores(scores, intervals=intervals, ax=middle, xscale="log")
    tl.plot.distances(tl.distances(named), ax=right)
    figure.savefig(IMAGES / "compare.png", dpi=120)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    digits()
    morse()
    compare()
