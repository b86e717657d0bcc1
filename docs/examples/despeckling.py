"""Over- and undercomplete convolutional networks that take speckle out of images: whose landscape is easier?

    python docs/examples/despeckling.py

Perera, Valanarasu and Patel (2022, arXiv 2205.15906) add to a network that narrows images inside, as is usual, a branch
that widens them, and report less error. Here the two stand against each other, with the same layers and as many
parameters: between convolutions one halves height and width of the digits and doubles them again, the other the other
way round. Speckle is drawn: each pixel is multiplied by a gamma variable of mean 1.
"""

import numpy as np
from gallery import Claim, Outcome, are_lower, bars_of_seeds, compared, in_words, main, mean_bar
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import topolandscape as tl

PAPER = "Perera, Valanarasu and Patel (2022, arXiv 2205.15906)"
KINDS = ("undercomplete", "overcomplete")
CHANNELS = (2, 4)
LOOKS = 4  # the shape of the gamma distribution; the variance of the speckle is 1 / LOOKS
IMAGES, HELD_OUT = 24, 400
SEEDS, MINIMA = 5, 4


def images(*, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return speckled and clean images, (n, 1, 8, 8), between 0 and 1 where they are clean."""
    rng = np.random.default_rng(seed)
    clean = rng.permutation(load_digits().images)[: IMAGES + HELD_OUT, None] / 16
    speckle = rng.gamma(LOOKS, 1 / LOOKS, clean.shape)
    return (clean * speckle).astype(np.float32), clean.astype(np.float32)


def network(kind: str, channels: int) -> nn.Sequential:
    """Return three convolutions, between which images shrink and grow again, or grow and shrink again."""
    smaller, larger = nn.AvgPool2d(2), nn.Upsample(scale_factor=2)
    first, second = (smaller, larger) if kind == "undercomplete" else (larger, smaller)
    return nn.Sequential(
        *(nn.Conv2d(1, channels, 3, padding=1), nn.Tanh(), first),
        *(nn.Conv2d(channels, channels, 3, padding=1), nn.Tanh(), second),
        nn.Conv2d(channels, 1, 3, padding=1),
    )


def example(quick: bool) -> Outcome:
    channels, seeds, steps, evaluations = (CHANNELS[:1], 2, 10, 50) if quick else (CHANNELS, SEEDS, 200, 500)
    speckled, clean = images()
    bars: dict[tuple[str, int], list[tl.Barcode]] = {}
    errors: dict[tuple[str, int], np.ndarray] = {}
    rows = []
    for width in channels:
        for kind in KINDS:
            module = network(kind, width)
            train, test = (
                tl.Landscape.from_module(
                    module, speckled[part], clean[part], loss=nn.functional.mse_loss, weight_decay=decay, form="wide"
                )
                for part, decay in ((slice(IMAGES), 1e-5), (slice(IMAGES, None), 0.0))
            )
            minima, bars[kind, width] = bars_of_seeds(
                train, seeds, MINIMA, steps=steps, path_steps=steps, evaluations=evaluations
            )
            errors[kind, width] = test.values(minima.points).reshape(seeds, MINIMA).mean(axis=1)
            rows.append(
                {
                    "network": kind,
                    "channels": width,
                    "parameters": train.dimension,
                    "mean loss": float(minima.values.mean()),
                    "test error": float(errors[kind, width].mean()),
                    "mean bar": float(np.mean([mean_bar(code, MINIMA) for code in bars[kind, width]])),
                }
            )
    scores = {key: [mean_bar(code, MINIMA) for code in codes] for key, codes in bars.items()}
    of_errors, of_bars = (
        compared(
            {
                f"{what}, {width} channels, {' and '.join(KINDS)}": tuple(values[kind, width] for kind in KINDS)
                for width in channels
            }
        )
        for what, values in (("errors", errors), ("bars", scores))
    )
    claims = [
        Claim(words, source, "; ".join(map(in_words, found)), are_lower(found))
        for words, source, found in (
            ("The overcomplete network takes out more speckle.", PAPER, of_errors),
            ("The overcomplete network has the shorter bars.", "a question of ours", of_bars),
        )
    ]
    speckle = float(((speckled[IMAGES:] - clean[IMAGES:]) ** 2).mean())
    tables = {
        f"Means over seeds; the speckle itself has the mean square {speckle:.3g}": rows,
        "Differences; p-values are of permutations, corrected by Holm": of_errors + of_bars,
    }
    return Outcome(claims, tables, picture(bars, speckled, clean))


def picture(bars: dict[tuple[str, int], list[tl.Barcode]], speckled: np.ndarray, clean: np.ndarray) -> Figure:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 1))
    names = {(kind, width): f"{kind}\n{width} channels" for kind, width in bars}
    tl.plot.bands({names[key]: tl.bar_bands(codes) for key, codes in bars.items()}, ax=left.subplots())
    for column, (words, shown) in zip(right.subplots(3, 2).T, (("clean", clean), ("speckled", speckled)), strict=True):
        column[0].set_title(words)
        for ax, image in zip(column, shown, strict=False):
            ax.imshow(image[0], cmap="gray", vmin=0, vmax=1.5)
            ax.set_axis_off()
    return figure


if __name__ == "__main__":
    main(example)
