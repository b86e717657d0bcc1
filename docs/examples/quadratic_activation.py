"""Networks with quadratic activation: spurious minima vanish with width, and a width of 2n/d fits n samples.

    python docs/examples/quadratic_activation.py

Such a network is a quadratic form x^T B x, whose matrix has the rank of its width at most. Of one unit on the unit
circle, minima and bars can be worked out. Kazemipour, Larsen and Druckmann (2020, arXiv 2001.00098) show that spurious
minima can be left when there are as many units as inputs and the norm of the sample is one more of them; Zhang et al.
(2022, arXiv 2210.12001) that 2n/d units with a smooth activation fit n samples of d inputs.
"""

import numpy as np
import torch
from gallery import Claim, Outcome, Row, main
from matplotlib.figure import Figure

import topolandscape as tl

NORM = "Kazemipour, Larsen and Druckmann (2020, arXiv 2001.00098)"
FITS = "Zhang, Liu, Wang, Chen and Luo (2022, arXiv 2210.12001)"
OPTIONS = {"loss": torch.nn.functional.mse_loss, "dtype": "float64", "form": "wide"}
EIGENVALUES = (1.0, -0.8)
INPUTS, SAMPLES = 3, 30  # of the quadratic forms
FITTED, FITTED_INPUTS = 8, 4  # samples with random targets
WIDTHS = (1, 2, 3, 4, 6)
ZERO = 1e-8


class SquaredUnits(torch.nn.Module):
    """A sum of squares of linear units, plus, on request, a multiple of the squared norm of the sample."""

    def __init__(self, inputs: int, width: int, *, norm: bool) -> None:
        super().__init__()
        self.units = torch.nn.Linear(inputs, width, bias=False)
        self.norm = torch.nn.Linear(1, 1, bias=False) if norm else None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = (self.units(inputs) ** 2).sum(dim=1, keepdim=True)
        return outputs if self.norm is None else outputs + self.norm((inputs**2).sum(dim=1, keepdim=True))


NETWORKS = {
    "squares": lambda width: SquaredUnits(INPUTS, width, norm=False),
    "squares and norm": lambda width: SquaredUnits(INPUTS, width, norm=True),
    "weighted squares": lambda width: tl.zoo.network(f"mlp:{INPUTS}-{width}-1,quadratic,nobias"),
}


def one_unit() -> tuple[tl.Barcode, tl.Barcode]:
    """Return the bars of v (w . x)^2 on the unit circle, computed and worked out.

    Of the form x^T A x with eigenvalues a, b the loss is (t - s)^2 / 4 + (d^2 - 2 d s cos 2p + s^2) / 8 with t = a + b,
    d = a - b, s = v |w|^2, and p the angle between w and the first eigenvector. There is a minimum for each of the two,
    twice, since w and -w are the same; between any two of them s is 0.
    """
    angles = np.pi * np.arange(8) / 4
    inputs = np.column_stack([np.cos(angles), np.sin(angles)])
    targets = (inputs**2 @ EIGENVALUES)[:, None]
    landscape = tl.Landscape.from_module(tl.zoo.network("mlp:2-1-1,quadratic,nobias"), inputs, targets, **OPTIONS)
    samples = tl.sample_grid(landscape, low=-1.5, high=1.5, shape=31)
    code = tl.refine(tl.barcode(tl.grid(samples, connectivity="full")), samples, landscape)
    t, d = sum(EIGENVALUES), EIGENVALUES[0] - EIGENVALUES[1]
    top = t**2 / 4 + d**2 / 8
    low, high = (top - (2 * t + sign * d) ** 2 / 24 for sign in (1, -1))
    return code, tl.Barcode.from_pairs([(low, np.inf), (low, top), (high, top), (high, top)])


def forms(widths: tuple[int, ...], seeds: int, starts: int) -> tuple[list[Row], dict[str, list[np.ndarray]]]:
    """Return where descents end that fit quadratic forms, and the shares at loss 0 of each seed, width by width."""
    rows, shares = [], {name: [] for name in NETWORKS}
    for name, network in NETWORKS.items():
        for width in widths:
            at_zero, above = np.zeros(seeds, dtype=int), 0
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                inputs, matrix = rng.normal(size=(SAMPLES, INPUTS)), rng.normal(size=(INPUTS, INPUTS))
                targets = np.einsum("ni,ij,nj->n", inputs, matrix, inputs)[:, None]
                landscape = tl.Landscape.from_module(network(width), inputs, targets / targets.std(), **OPTIONS)
                found = tl.minima(landscape, starts, seed=seed, merge=None, progress=False)
                minima = np.isin(found.stationary, ("minimum", "flat"))
                at_zero[seed] = (found.values < ZERO).sum()
                above += int((minima & (found.values >= ZERO)).sum())
            shares[name].append(at_zero / starts)
            rows.append(
                {
                    "network": name,
                    "width": width,
                    "descents": seeds * starts,
                    "end at loss 0": int(at_zero.sum()),
                    "end at other minima": above,
                }
            )
    return rows, shares


def fits(widths: tuple[int, ...], seeds: int, starts: int) -> list[Row]:
    """Return the lowest losses that descents reach on random targets, the highest of all seeds, width by width."""
    rows = []
    for width in widths:
        row = {"width": width, "n, d": f"{FITTED}, {FITTED_INPUTS}"}
        for activation in ("tanh", "quadratic"):
            lowest = []
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                inputs, targets = rng.normal(size=(FITTED, FITTED_INPUTS)), rng.normal(size=(FITTED, 1))
                network = tl.zoo.network(f"mlp:{FITTED_INPUTS}-{width}-1,{activation}", seed=seed)
                landscape = tl.Landscape.from_module(network, inputs, targets / targets.std(), **OPTIONS)
                found = tl.minima(landscape, starts, seed=seed, max_evaluations=1000, progress=False)
                lowest.append(found.values.min())
            row[activation] = float(max(lowest))
        rows.append(row)
    return rows


def example(quick: bool) -> Outcome:
    code, truth = one_unit()
    rows, shares = forms((3,) if quick else WIDTHS, seeds=1 if quick else 5, starts=5 if quick else 20)
    fitted = fits((4,) if quick else (1, 2, 3, 4, 5), seeds=1 if quick else 5, starts=5)
    tables = {
        "Bars of one unit": [
            {"": name, "births": _losses(bars.birth), "deaths": _losses(bars.death)}
            for name, bars in (("computed", code), ("worked out", truth))
        ],
        f"Quadratic forms of {INPUTS} inputs, {SAMPLES} samples": rows,
        "Lowest loss that is reached on random targets, the highest of all seeds": fitted,
    }
    return Outcome(claims(code, truth, rows, shares, fitted), tables, picture(code, truth, shares, fitted))


def _losses(values: np.ndarray) -> str:
    return ", ".join(f"{value:.6f}" for value in np.sort(values))


def claims(
    code: tl.Barcode, truth: tl.Barcode, rows: list[Row], shares: dict[str, list[np.ndarray]], fitted: list[Row]
) -> list[Claim]:
    apart = tl.bottleneck(code, truth)
    helped = [row for row in rows if row["network"] == "squares and norm" and row["width"] >= INPUTS]
    left, all_of_them = (sum(row[name] for row in helped) for name in ("end at loss 0", "descents"))
    wide = [row for row in fitted if row["width"] >= 2 * FITTED / FITTED_INPUTS]
    worst = max(row["tanh"] for row in wide)
    weighted = dict(zip((row["width"] for row in rows), shares["weighted squares"], strict=False))
    least, most = weighted[INPUTS], weighted[max(weighted)]
    p = tl.permutation_test(least, most, seed=0).p_value if len(least) > 1 and max(weighted) > INPUTS else 1.0
    return [
        Claim(
            "There are spurious minima.",
            NORM,
            f"of one unit two of four minima, of loss {code.birth.max():.4f} beside {code.birth.min():.4f}; the bars "
            f"are at most {apart:.1e} from those worked out",
            apart < 1e-8,
            proved=True,
        ),
        Claim(
            "With as many units as inputs, and the norm of the sample as one more, they can be left.",
            NORM,
            f"{left} of {all_of_them} descents end at loss 0",
            left == all_of_them,
            proved=True,
        ),
        Claim(
            "Without the norm they become rarer with width.",
            NORM,
            f"at loss 0 end {least.mean():.0%} of the descents with {INPUTS} units and {most.mean():.0%} with "
            f"{max(weighted)}; p = {p:.2g} (permutations of {len(least)} and {len(most)} seeds)",
            most.mean() > least.mean() if p < 0.05 else None,
        ),
        Claim(
            "A width of 2n/d fits n samples of d inputs.",
            FITS,
            f"with {wide[0]['width']} units or more and tanh all losses are below {worst:.1e}; so they are with "
            f"{min(row['width'] for row in fitted if row['tanh'] < ZERO)}",
            worst < ZERO,
            proved=True,
        ),
    ]


def picture(code: tl.Barcode, truth: tl.Barcode, shares: dict[str, list[np.ndarray]], fitted: list[Row]) -> Figure:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    tl.plot.bars({"computed": code, "worked out": truth}, ax=left)
    left.set_xlabel("one unit")
    for (name, by_width), marker in zip(shares.items(), "osv", strict=True):
        middle.plot(WIDTHS[: len(by_width)], [share.mean() for share in by_width], f"{marker}-", label=name)
    middle.set(xlabel=f"units, for {INPUTS} inputs", ylabel="share of descents that end at loss 0", ylim=(-0.05, 1.05))
    middle.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.08))
    for activation, marker in zip(("tanh", "quadratic"), "os", strict=True):
        values = [max(row[activation], 1e-32) for row in fitted]
        right.semilogy([row["width"] for row in fitted], values, f"{marker}-", label=activation)
    right.axvline(2 * FITTED / FITTED_INPUTS, color="0.6", linestyle=":", label="2n/d")
    right.set(xlabel=f"units, for {FITTED} samples of {FITTED_INPUTS} inputs", ylabel="lowest loss")
    right.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main(example)
