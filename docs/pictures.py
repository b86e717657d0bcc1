"""Make the pictures of the documentation: python docs/pictures.py."""

from pathlib import Path

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


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    digits()
    morse()
