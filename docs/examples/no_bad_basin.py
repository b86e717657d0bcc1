"""Wide networks have one bar, and no bad basin; where the loss falls towards infinity, minima lie on the box.

    python docs/examples/no_bad_basin.py

Nguyen (2019, arXiv 1901.07417): with a layer of as many units as samples there is no bad valley, from which nothing
leads down without climbing, and with twice as many every sublevel set is connected: one bar. Sun et al. (2020, arXiv
2007.01429) review bad basins, and the paths along which the loss falls for ever: a box cuts these, and makes a minimum
on its boundary.
"""

import numpy as np
import torch
from gallery import Claim, Outcome, Row, main
from matplotlib.figure import Figure

import topolandscape as tl

NGUYEN = "Nguyen (2019, arXiv 1901.07417)"
SUN = "Sun, Li, Liang, Ding and Srikant (2020, arXiv 2007.01429)"
OPTIONS = {"loss": torch.nn.functional.mse_loss, "dtype": "float64", "form": "wide"}
N = 3  # samples, so that no valley is bad from three units on, and there is one bar from six on
SHORT = 0.02  # of the loss of the best constant: bars that searched paths have left over
SIDES = {1: 41, 2: 11}  # of grids, by the width of the networks of one sample


def one_sample() -> list[Row]:
    """Return the bars of (1 - sum of v_i w_i)^2 on a grid, beside the known ones: twice as many units as samples do."""
    rows = []
    for width, side in SIDES.items():
        known = tl.zoo.two_weights(width)
        samples = known.on_grid((side,) * known.dimension)
        landscape = tl.Landscape.from_function(known.function, known.dimension)
        code = tl.refine(tl.barcode(tl.grid(samples, connectivity="full")), samples, landscape)
        truth = tl.Barcode.from_pairs(known.bars[0])
        rows.append({"width": width, "bars": len(code), "known": len(truth), "distance": tl.bottleneck(code, truth)})
    return rows


def trained(width: int, seed: int, minima: int) -> tl.Barcode:
    """Return the bars of networks trained on three samples with random targets, in units of the best constant."""
    inputs, targets = np.linspace(-1, 1, N)[:, None], np.random.default_rng(seed).normal(size=(N, 1))
    targets = (targets - targets.mean()) / targets.std()
    landscape = tl.Landscape.from_module(tl.zoo.network(f"mlp:1-{width}-1", seed=seed), inputs, targets, **OPTIONS)
    found = tl.minima(landscape, minima, seed=seed, merge=None, steps=500, max_evaluations=500, progress=False)
    network = tl.minima_network(
        landscape,
        found,
        start=tl.paths_over_constant(landscape),
        saddle=False,  # there are kinks, where saddles are not to be found
        evaluations=20_000,
        progress=False,
    )
    return tl.barcode(network)


def by_width(widths: tuple[int, ...], seeds: int, minima: int) -> list[Row]:
    rows = []
    for width in widths:
        codes = [trained(width, seed, minima) for seed in range(seeds)]
        longest = [float(code.persistence[~code.essential].max(initial=0.0)) for code in codes]
        bad = [
            float(code.persistence[~code.essential & (code.birth > code.birth.min() + 1e-6)].max(initial=0.0))
            for code in codes
        ]
        rows.append(
            {
                "width": width,
                "networks": seeds * minima,
                "lowest losses": ", ".join(f"{code.birth.min():.2g}" for code in codes),
                "longest bars": ", ".join(f"{length:.2g}" for length in longest),
                "of these not at the lowest loss": ", ".join(f"{length:.2g}" for length in bad),
                "longest": max(longest),
                "longest of bad basins": max(bad),
            }
        )
    return rows


def boxes(sides: tuple[float, ...]) -> list[Row]:
    """Return the bars of v tanh(w x) on two samples of target 1, in ever larger boxes: it is fitted at infinity only.

    The best v for a given w leaves (t - s)^2 / (t^2 + s^2) / 2 with t = tanh(w), s = tanh(2 w), which falls with w.
    """
    landscape = tl.Landscape.from_module(
        tl.zoo.network("mlp:1-1-1,tanh,nobias", seed=0), np.array([[1.0], [2.0]]), np.ones((2, 1)), **OPTIONS
    )
    rows = []
    for side in sides:
        samples = tl.sample_grid(landscape, low=-side, high=side, shape=81)
        code = tl.refine(tl.barcode(tl.grid(samples, connectivity="full")), samples, landscape)
        t, s = np.tanh(side), np.tanh(2 * side)
        rows.append(
            {
                "half the side": side,
                "bars": len(code),
                "of these born on the boundary": code.provenance["refined"]["birth"].count("boundary"),
                "births": float(code.birth.max()),
                "worked out": float((t - s) ** 2 / (t**2 + s**2) / 2),
                "death": float(code.death.min()),
            }
        )
    return rows


def example(quick: bool) -> Outcome:
    small = one_sample()
    rows = by_width((1, N, 2 * N) if quick else (1, 2, N, 4, 2 * N), seeds=1 if quick else 5, minima=4 if quick else 8)
    cut = boxes((1.5, 3.0) if quick else (1.5, 2.0, 3.0, 4.0))
    tables = {
        "One sample: (1 - sum of v_i w_i)^2 on [-2, 2]^(2 width)": small,
        f"Networks 1-width-1 with rectifiers on {N} samples; losses in units of that of the best constant": rows,
        "v tanh(w x) on two samples of target 1": cut,
    }
    return Outcome(claims(small, rows, cut), tables, picture(rows, cut))


def claims(small: list[Row], rows: list[Row], cut: list[Row]) -> list[Claim]:
    exact = max(row["distance"] for row in small)
    wide = [row for row in rows if row["width"] >= N]
    widest = [row for row in rows if row["width"] >= 2 * N]
    bad = max(row["longest of bad basins"] for row in wide)
    on_boundary = sum(row["of these born on the boundary"] for row in cut)
    born = sum(row["bars"] for row in cut)
    off = max(abs(row["births"] / row["worked out"] - 1) for row in cut)
    return [
        Claim(
            "With two units for one sample there is one bar, with one there are two.",
            NGUYEN,
            f"{' and '.join(str(row['bars']) for row in small)} bars, at most {exact:.1e} from the known ones",
            exact < 1e-9,
            proved=True,
        ),
        Claim(
            "With as many units as samples there is no bad basin.",
            f"{NGUYEN}; {SUN}",
            f"the longest bar of a basin above the lowest loss is {bad:.2g} with {N} units or more (a bound) and "
            f"{rows[0]['longest of bad basins']:.2g} with one",
            bad < SHORT,
            proved=True,
        ),
        Claim(
            "With twice as many there is one bar.",
            NGUYEN,
            f"the longest other bar is {max(row['longest'] for row in widest):.2g}, an upper bound",
            max(row["longest"] for row in widest) < SHORT,
            proved=True,
        ),
        Claim(
            "Where the loss falls towards infinity, a box has its minima on its boundary.",
            SUN,
            f"{on_boundary} of {born} births are there, and fall from {cut[0]['births']:.2g} "
            f"to {cut[-1]['births']:.2g} as the box grows, but for {off:.1e} of their size as worked out",
            on_boundary == born and off < 1e-6,
            proved=True,
        ),
    ]


def picture(rows: list[Row], cut: list[Row]) -> Figure:
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, marker in (("longest", "o"), ("longest of bad basins", "s")):
        values = [max(row[name], 1e-6) for row in rows]
        left.semilogy([row["width"] for row in rows], values, f"{marker}-", label=name)
    for width, label in ((N, "samples"), (2 * N, "twice as many")):
        left.axvline(width, color="0.6", linestyle=":" if width == N else "--", label=label)
    left.set(xlabel="units", ylabel="longest finite bar of five seeds")
    left.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(-0.05, 1.0), fontsize="small")
    sides = [row["half the side"] for row in cut]
    right.semilogy(sides, [row["births"] for row in cut], "o", label="births on the boundary")
    right.semilogy(sides, [row["worked out"] for row in cut], "-", label="worked out")
    right.semilogy(sides, [row["death"] for row in cut], "s", label="death")
    right.set(xlabel="half the side of the box", ylabel="loss")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(example)
