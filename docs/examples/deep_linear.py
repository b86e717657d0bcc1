"""Deep linear networks with weight decay: from three factors on, the origin is a bad minimum.

    python docs/examples/deep_linear.py

Ziyin, Li and Meng (2022, arXiv 2202.04777) solve deep linear networks with weight decay. Of one weight a layer, the
loss is P^2 - 2 a P + c + gamma |w|^2 with P the product of the n weights, and its barcode can be worked out: here it
stands beside the one that is computed, and all critical points beside those that are known.
"""

import numpy as np
import torch
from gallery import Claim, Outcome, Row, main
from matplotlib.figure import Figure

import topolandscape as tl

PAPER = "Ziyin, Li and Meng (2022, arXiv 2202.04777)"
A, C = 1.0, 1.5  # E[x y] and E[y^2], where E[x^2] = 1
# The form of evaluation is given: trials of the fastest take longer than all that is asked of so small networks.
OPTIONS = {"loss": torch.nn.functional.mse_loss, "dtype": "float64", "form": "wide"}
GRIDS = {2: (81, 81), 3: (41, 41, 41), 4: (17, 17, 17, 17)}  # by the number of factors
DECAYS = (0.05, 0.1, 0.2, 0.4)
DRAWN = 0.2
WIDTH = 4


def network_of_factors(n: int, gamma: float) -> tl.Landscape:
    """Return the loss of n linear layers of one weight each."""
    spread = np.sqrt(C - A**2)
    inputs = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    targets = A * inputs + spread * np.array([[1.0], [-1.0], [1.0], [-1.0]])
    network = tl.zoo.network(f"linear:{'-'.join('1' * (n + 1))},nobias", seed=0)
    return tl.Landscape.from_module(network, inputs, targets, weight_decay=gamma, **OPTIONS)


def wider_network(depth: int, gamma: float, *, seed: int = 0) -> tuple[tl.Landscape, np.ndarray]:
    """Return the loss of a linear network with `depth` hidden layers, and the singular values of E[y x^T]."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(60, 3))
    targets = inputs @ rng.normal(size=(3, 3)) + 0.3 * rng.normal(size=(60, 3))
    hidden = "-".join([str(WIDTH)] * depth)
    network = tl.zoo.network(f"linear:3-{hidden}-3,nobias", seed=seed)
    landscape = tl.Landscape.from_module(network, inputs, targets, weight_decay=gamma, **OPTIONS)
    return landscape, np.linalg.svd(targets.T @ inputs / inputs.size, compute_uv=False)


def example(quick: bool) -> Outcome:
    rows, codes, profiles = [], {}, {}
    for n in (2, 3) if quick else (2, 3, 4):
        for gamma in (DRAWN,) if quick else DECAYS:
            known = tl.zoo.scalar_linear(n, a=A, c=C, gamma=gamma)
            truth = tl.Barcode.from_pairs(known.bars[0])
            landscape = network_of_factors(n, gamma)
            samples = tl.sample_grid(landscape, low=known.low, high=known.high, shape=GRIDS[n])
            code = tl.refine(tl.barcode(tl.grid(samples, connectivity="full")), samples, landscape)
            row = {
                "factors": n,
                "decay": gamma,
                "bars": len(code),
                "longest bar that ends": float(code.persistence[~code.essential].max(initial=0.0)),
                "loss of the origin above the lowest": C - float(code.birth.min()),
                "Morse index of the origin": int(tl.morse_index(landscape, np.zeros((1, n)), seed=0).negative[0]),
                "distance to the closed form": tl.bottleneck(code, truth),
                "the same of all critical points": "-",
            }
            if n < 4 or gamma == DRAWN:
                morse = tl.critical_points(landscape, low=known.low, high=known.high, seed=0)
                row["the same of all critical points"] = tl.bottleneck(tl.barcode(morse), truth)
            rows.append(row)
            if gamma == DRAWN:
                codes[f"{n}"], codes[f"{n}, exact"] = code, truth
                profiles[n] = tl.sample_segment(landscape, np.zeros(n), np.ones(n), n=201, margin=0.3)

    wide = []
    for depth in (1, 2) if quick else (1, 2, 3):
        for gamma in (DRAWN,) if quick else DECAYS:
            landscape, singular = wider_network(depth, gamma)
            index = tl.morse_index(landscape, np.zeros((1, landscape.dimension)), seed=0).negative[0]
            # With one hidden layer the Hessian has the eigenvalues 2 gamma +- 2 s at the origin, each `width` times.
            known_index = WIDTH * int((singular > gamma).sum()) if depth == 1 else 0
            wide.append(
                {"hidden layers": depth, "decay": gamma, "Morse index": int(index), "by the closed form": known_index}
            )
    tables = {
        f"One weight a layer, a = {A:g}, c = {C:g}": rows,
        f"The origin of networks 3-{WIDTH}-...-3": wide,
    }
    return Outcome(claims(rows, wide), tables, picture(codes, profiles))


def claims(rows: list[Row], wide: list[Row]) -> list[Claim]:
    shallow = [row for row in rows if row["factors"] == 2]
    deep = [row for row in rows if row["factors"] > 2]
    bad = [row for row in deep if row["loss of the origin above the lowest"] > 1e-9]
    saddles = sum(row["Morse index of the origin"] > 0 for row in shallow)
    minima = sum(row["Morse index of the origin"] == 0 for row in deep)
    furthest = max(value for row in rows for value in list(row.values())[-2:] if isinstance(value, float))
    right = sum(row["Morse index"] == row["by the closed form"] for row in wide)
    return [
        Claim(
            "With one hidden layer the origin is no bad minimum.",
            PAPER,
            f"the origin is a saddle in {saddles} of {len(shallow)} networks of two factors",
            saddles == len(shallow),
            proved=True,
        ),
        Claim(
            "With more hidden layers the origin is a minimum, a bad one where others are lower.",
            PAPER,
            f"the origin is a minimum in {minima} of {len(deep)} networks of three or four factors, and others are "
            f"lower in {len(bad)}",
            minima == len(deep),
            proved=True,
        ),
        Claim(
            "So it is in wider networks.",
            PAPER,
            f"the Morse index of the origin is that of the closed form in {right} of {len(wide)}",
            right == len(wide),
            proved=True,
        ),
        Claim(
            "The barcode follows from the roots of b^(2n - 2) - a b^(n - 2) + gamma.",
            "worked out (`zoo.scalar_linear`)",
            f"computed barcodes are at most {furthest:.1e} away",
            furthest < 1e-6,
            proved=True,
        ),
    ]


def picture(codes: dict[str, tl.Barcode], profiles: dict[int, tl.LossSamples]) -> Figure:
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    for n, samples in profiles.items():
        left.plot(samples.points[:, 0], samples.values, label=f"{n} factors")
    left.set(xlabel="t, all weights being t", ylabel="loss", ylim=(None, C + 0.6))
    left.legend(frameon=False)
    tl.plot.bars(codes, ax=right)
    right.set_xlabel(f"factors, decay {DRAWN:g}")
    return figure


if __name__ == "__main__":
    main(example)
