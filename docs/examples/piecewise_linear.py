"""Networks with piecewise linear activations: plateaus that are minima, and that no bar sees.

    python docs/examples/piecewise_linear.py

He, Wang and Tao (2020, arXiv 2003.12236): such networks have infinitely many spurious local minima, in cells within
which every unit stays on one side of its kink at every sample; with one hidden layer each is the lowest of its cell.
Of the network v relu(w x + b) + c on three samples, all cells can be gone through by hand.
"""

from itertools import pairwise

import numpy as np
import torch
from gallery import Claim, Outcome, Row, main
from matplotlib.figure import Figure

import topolandscape as tl

PAPER = "He, Wang and Tao (2020, arXiv 2003.12236)"
X, Y = np.array([[-1.0], [0.0], [1.0]]), np.array([[0.0], [0.0], [1.0]])
INPUTS = np.linspace(-1, 1, 8)[:, None]
TARGETS = np.random.default_rng(0).normal(size=(8, 1))
# Corners of paths (w, b, v, c) that lead from a minimum of each kind to a lower loss.
LOWEST = (1.0, 0.0, 1.0, 0.0)
WAYS = {
    "w > 0, no sample": [(1, -2, 1, 1 / 3), (1, -2, 0, 1 / 3), (1, 0, 0, 1 / 3), LOWEST],
    "w > 0, all samples": [(0.5, 1.5, 1, -7 / 6), (0.5, 0.5, 1, -1 / 6), LOWEST],
    "w < 0, one sample": [(-1, -0.5, -1, 1 / 2), (-0.5, 0, -1, 1 / 2), (-0.5, 0.5, -1, 5 / 6)],
    "w < 0, all samples": [(-0.5, 1, -1, 4 / 3), (0, 1, 0, 1 / 3), (1, 0, 0, 1 / 3), LOWEST],
}
GRIDS = ((9, 13, 13, 13), (17, 25, 25, 25))  # which hold the points where the known bars begin and end
KNOWN = tl.Barcode.from_pairs([(0.0, np.inf), (1 / 18, 2 / 9)])


def landscape_of(network: torch.nn.Module, inputs: np.ndarray, targets: np.ndarray) -> tl.Landscape:
    return tl.Landscape.from_module(
        network, inputs, targets, loss=torch.nn.functional.mse_loss, dtype="float64", form="wide"
    )


def least_squares(patterns: np.ndarray, inputs: np.ndarray, targets: np.ndarray) -> float:
    """Return the lowest loss of outputs that are linear where units are active, `patterns` (n, units)."""
    features = np.hstack([patterns * inputs, patterns, np.ones_like(inputs)])
    weights = np.linalg.lstsq(features, targets, rcond=None)[0]
    return float(((features @ weights - targets) ** 2).mean())


def lowest_around(landscape: tl.Landscape, point: np.ndarray, *, radius: float) -> float:
    return float(tl.sample_ball(landscape, center=point, radius=radius, n=20_000, seed=0).values.min())


def minima_by_hand(landscape: tl.Landscape) -> list[Row]:
    """Return the kinds of spurious minima of the network of one unit, whether they are such, and how to leave them."""
    rows = []
    for cell, way in WAYS.items():
        corners = np.array(way, dtype=float)
        loss = float(landscape.values(corners[:1])[0])
        w, b = corners[0, :2]
        rows.append(
            {
                "cell": cell,
                "loss": loss,
                "lowest of the cell": least_squares((w * X + b > 0).astype(float), X, Y),
                "lowest nearby": lowest_around(landscape, corners[0], radius=0.1),
                "climb on the way out": float(tl.highest_on(landscape, corners[None])[0][0]) - loss,
            }
        )
    return rows


def minima_of_many_units(starts: int) -> Row:
    """Return what is found of the minima that descents of a network of three units end at."""
    landscape = landscape_of(tl.zoo.network("mlp:1-3-1", seed=0), INPUTS, TARGETS)
    found = tl.minima(landscape, starts, seed=0, merge=None, progress=False)
    inside = [i for i, word in enumerate(found.stationary) if word in ("minimum", "flat")]
    errors, cells = [], set()
    for i in inside:
        weights, biases = found.points[i, :3], found.points[i, 3:6]
        active = INPUTS * weights + biases > 0
        cells.add(active.tobytes())
        errors.append(found.values[i] - least_squares(active.astype(float), INPUTS, TARGETS))
    return {
        "descents": starts,
        "end inside a cell": len(inside),
        "cells": len(cells),
        "spurious": int((found.values[inside] > found.values.min() + 1e-6).sum()),
        "furthest from the lowest of its cell": float(np.abs(errors).max()),
    }


def linear_valley(depth: int, activation: torch.nn.Module) -> Row:
    """Return a point at which all units of all layers are active, so that the outputs are the best linear ones."""
    torch.manual_seed(0)
    widths = [1, *[3] * depth]
    layers = [part for a, b in pairwise(widths) for part in (torch.nn.Linear(a, b), activation)]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(3, 1)).double()
    x, y = torch.tensor(INPUTS), torch.tensor(TARGETS)
    with torch.no_grad():
        for layer in layers[::2]:
            layer.weight.mul_(0.1)
            layer.bias.fill_(5.0)  # far above what the weights can take away
        features = torch.hstack([network[:-1](x), torch.ones_like(x)])
        weights = torch.linalg.lstsq(features, y, driver="gelsd").solution
        network[-1].weight.copy_(weights[:3].T)
        network[-1].bias.copy_(weights[3])
    landscape = landscape_of(network, INPUTS, TARGETS)
    loss = float(landscape.values(landscape.point[None])[0])
    trained = tl.descend(landscape, tl.initial_points(landscape, 20, seed=0), steps=500, progress=False)
    return {
        "hidden layers": depth,
        "activation": type(activation).__name__,
        "loss": loss,
        "of the best line": least_squares(np.ones_like(INPUTS), INPUTS, TARGETS),
        "lowest nearby": lowest_around(landscape, landscape.point, radius=0.05),
        "lowest of 20 descents": float(trained.values[:, -1].min()),
    }


def example(quick: bool) -> Outcome:
    landscape = landscape_of(tl.zoo.network("mlp:1-1-1", seed=0), X, Y)
    by_hand = minima_by_hand(landscape)
    grids = []
    for shape in GRIDS[:1] if quick else GRIDS:
        samples = tl.sample_grid(landscape, low=(-1, -1.5, -1.5, -0.5), high=(1, 1.5, 1.5, 1.5), shape=shape)
        code = tl.barcode(tl.grid(samples, connectivity="full"))
        others = code.persistence[2:].max(initial=0.0)
        bars = " ".join(f"[{bar[0]:.6f}, {bar[1]:.6f})" for bar in zip(code.birth[:2], code.death[:2], strict=True))
        grids.append(
            {"points": len(samples), "longest bars": bars, "longest of the others": float(others)}
            | {"distance to the known ones": tl.bottleneck(code, KNOWN)}
        )
    many = minima_of_many_units(20 if quick else 400)
    deep = [
        linear_valley(depth, activation)
        for depth in ((2,) if quick else (1, 2, 3))
        for activation in (torch.nn.ReLU(), torch.nn.LeakyReLU(0.1))
    ]
    tables = {
        "Spurious minima of v relu(w x + b) + c on three samples; the kink has samples on its active side": by_hand,
        "Its bars on grids; known are [0, inf) and [1/18, 2/9)": grids,
        "Descents of a network 1-3-1 on eight samples": [many],
        "A point at which all units are active, on the same samples": deep,
    }
    return Outcome(claims(by_hand, grids, many, deep), tables, picture(landscape, code))


def claims(by_hand: list[Row], grids: list[Row], many: Row, deep: list[Row]) -> list[Claim]:
    minima = [row for row in by_hand if row["lowest nearby"] >= row["loss"] - 1e-12 and row["loss"] > 0]
    spurious = [
        row for row in deep if row["lowest nearby"] >= row["loss"] - 1e-12 > row["lowest of 20 descents"] + 1e-6
    ]
    without = [row for row in by_hand if row["climb on the way out"] < 1e-12]
    return [
        Claim(
            "There are spurious minima at any depth, whatever the kink.",
            PAPER,
            f"{len(minima)} of {len(by_hand)} by hand; and in {len(spurious)} of {len(deep)} deeper networks the best "
            "line, below which 20,000 points nearby do not come, but descents do",
            len(minima) == len(by_hand) and len(spurious) == len(deep),
            proved=True,
        ),
        Claim(
            "With one hidden layer a minimum inside a cell is the lowest of the cell.",
            PAPER,
            f"{many['end inside a cell']} of {many['descents']} descents end inside {many['cells']} cells, "
            f"{many['spurious']} of them at a spurious minimum; furthest from the lowest of the cell: "
            f"{many['furthest from the lowest of its cell']:.1e}",
            many["furthest from the lowest of its cell"] < 1e-9,
            proved=True,
        ),
        Claim(
            "A spurious minimum that can be left without climbing has no bar.",
            "definition of a bar; bars worked out by hand",
            f"{len(without)} of {len(by_hand)} can be left so; the barcode is at most "
            f"{grids[-1]['distance to the known ones']:.2g} from that of the other, on a grid of "
            f"{grids[-1]['points']} points",
            len(without) == 3 and grids[-1]["distance to the known ones"] < 0.01,
            proved=True,
        ),
    ]


def picture(landscape: tl.Landscape, code: tl.Barcode) -> Figure:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for cell, way in WAYS.items():
        corners = np.array(way, dtype=float)
        steps = np.concatenate([np.linspace(a, b, 50) for a, b in pairwise(corners)])
        left.plot(np.linspace(0, 1, len(steps)), landscape.values(steps), label=cell)
    left.set(xlabel="along a way out of a spurious minimum", ylabel="loss")
    left.legend(
        frameon=False, loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=2, fontsize="small", columnspacing=1.0
    )
    tl.plot.bars(code, ax=right, min_persistence=0.02)
    for loss in (1 / 18, 1 / 6, 2 / 9):
        right.axhline(loss, color="0.6", linewidth=0.8, linestyle=":")
    return figure


if __name__ == "__main__":
    main(example)
