"""Deeper or wider, when derivatives are fitted as well as values? Networks under Sobolev losses.

    python docs/examples/sobolev.py

Yang and He (2024, arXiv 2402.00152) compare deep and wide networks of as many parameters by their error in Sobolev
norms: the more derivatives count, the more depth is to help. Here a function of one variable is fitted up to its first
or second derivative by two networks of about fifty parameters; their bars stand beside their errors. The paper says
nothing of bars.
"""

from collections.abc import Sequence

import numpy as np
import torch
from gallery import Claim, Outcome, are_lower, bars_of_seeds, compared, in_words, is_lower, main, mean_bar
from matplotlib.figure import Figure
from torch import Tensor, nn

import topolandscape as tl

PAPER = "Yang and He (2024, arXiv 2402.00152)"
NETWORKS = {"wide": "mlp:1-16-1,tanh", "deep": "mlp:1-5-5-1,tanh"}
ORDERS = (0, 1, 2)  # of the derivatives that count
WEIGHT_DECAY = 1e-3
SEEDS, MINIMA = 5, 4


class Derivatives(nn.Module):
    """What a tanh network of one input gives, and its derivatives by this input up to an order, one a column.

    The chain rule is written out, so that layers act on all parameter vectors at once; with `torch.func.jvp` instead,
    products with the Hessian are many times as slow.
    """

    def __init__(self, network: nn.Sequential, order: int) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, inputs: Tensor) -> Tensor:
        value, slope, bend = inputs, torch.ones_like(inputs), torch.zeros_like(inputs)
        for layer in self.network:
            if isinstance(layer, nn.Linear):
                value = layer(value)
                slope, bend = (nn.functional.linear(part, layer.weight) for part in (slope, bend))
            else:
                value = torch.tanh(value)
                steep = 1 - value**2
                bend = steep * bend - 2 * value * steep * slope**2
                slope = steep * slope
        return torch.cat([value, slope, bend][: self.order + 1], dim=1)


def target(x: np.ndarray, order: int) -> np.ndarray:
    """Return sin 2x + cos(3x) / 2 and its derivatives up to an order, one a column."""
    waves = ((1.0, 2.0, -np.pi / 2), (0.5, 3.0, 0.0))
    return np.stack(
        [sum(a * w**k * np.cos(w * x + shift + k * np.pi / 2) for a, w, shift in waves) for k in range(order + 1)], 1
    )


def sobolev(name: str, order: int, x: np.ndarray, *, weight_decay: float = 0.0) -> tl.Landscape:
    """Return the mean squared error of values and derivatives, each in units of the target's own variance."""
    targets = target(x, order)
    scale = torch.tensor(targets.std(axis=0))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (((outputs - targets) / scale) ** 2).mean()

    module = Derivatives(tl.zoo.network(name, seed=0), order)
    # The form is given: trials of others take longer than so small networks.
    return tl.Landscape.from_module(
        module, x[:, None], targets, loss=loss, weight_decay=weight_decay, dtype="float64", form="wide"
    )


def example(quick: bool) -> Outcome:
    orders, seeds, steps, evaluations = ((0, 1), 2, 30, 100) if quick else (ORDERS, SEEDS, 500, 1000)
    x = np.linspace(-2, 2, 24)
    between = (x[1:] + x[:-1]) / 2
    bars: dict[tuple[str, int], list[tl.Barcode]] = {}
    errors: dict[tuple[str, int], np.ndarray] = {}
    rows = []
    for order in orders:
        for kind, name in NETWORKS.items():
            landscape = sobolev(name, order, x, weight_decay=WEIGHT_DECAY)
            minima, bars[kind, order] = bars_of_seeds(landscape, seeds, MINIMA, steps=steps, evaluations=evaluations)
            held_out = sobolev(name, order, between).values(minima.points).reshape(seeds, MINIMA)
            errors[kind, order] = held_out.mean(axis=1)
            rows.append(
                {
                    "network": name,
                    "parameters": landscape.dimension,
                    "derivatives": order,
                    "lowest loss": float(minima.values.min()),
                    "test error": float(held_out.mean()),
                    "mean bar": float(np.mean([mean_bar(code, MINIMA) for code in bars[kind, order]])),
                }
            )
    scores = {key: [mean_bar(code, MINIMA) for code in codes] for key, codes in bars.items()}
    of_bars = compared({f"bars, {order} derivatives, wide and deep": pair(scores, order) for order in orders})
    of_errors = compared({f"errors, {order} derivatives, wide and deep": pair(errors, order) for order in orders})
    shares = {order: errors["deep", order] / errors["wide", order] for order in orders}
    names = f"error of the deep over that of the wide, {orders[0]} and {orders[-1]} derivatives"
    of_shares = compared({names: (shares[orders[0]], shares[orders[-1]])})
    claims = [
        Claim(
            "Under a loss of derivatives the deep network has the lower error.",
            PAPER,
            in_words(of_errors[-1]),
            is_lower(of_errors[-1]),
        ),
        Claim(
            "The more derivatives count, the more depth helps.",
            PAPER,
            in_words(of_shares[0]),
            is_lower(of_shares[0]),
        ),
        Claim(
            "The deep network has the shorter bars.",
            "Barannikov et al. (2020, arXiv 2012.15834), of other losses",
            "; ".join(map(in_words, of_bars)),
            are_lower(of_bars),
        ),
    ]
    tables = {
        "Means over seeds; 1 is the loss of the best constant prediction": rows,
        "Differences; p-values are of permutations, corrected by Holm": of_errors + of_bars,
    }
    return Outcome(claims, tables, picture(bars, errors))


def pair(values: dict[tuple[str, int], Sequence[float]], order: int) -> tuple[Sequence[float], Sequence[float]]:
    return values["wide", order], values["deep", order]


def picture(bars: dict[tuple[str, int], list[tl.Barcode]], errors: dict[tuple[str, int], np.ndarray]) -> Figure:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    tl.plot.bands({f"{kind}\n{order}": tl.bar_bands(codes) for (kind, order), codes in bars.items()}, ax=left)
    left.set_xlabel("network and derivatives in the loss")
    curves: dict[str, dict[float, Sequence[float]]] = {}
    for (kind, order), found in errors.items():
        curves.setdefault(kind, {})[order] = found.tolist()
    tl.plot.scores(curves, ax=right, yscale="log", factor="derivatives in the loss", label="test error")
    return figure


if __name__ == "__main__":
    main(example)
