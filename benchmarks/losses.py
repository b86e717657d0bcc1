"""Compare ways of evaluating a network's loss at many parameter vectors, and write down what came out.

    python benchmarks/losses.py

Prints a table and keeps it in benchmarks/results/losses.md; numbers and environment go to losses.json beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import environment
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters

import topolandscape as tl

NETWORKS = ("mlp:64-16-10", "mlp:64-32-32-10", "mlp:64-128-128-10", "conv:1x8x8-8-8-8-10")
PACKAGES = ("topolandscape", "torch", "numpy", "numba")
CHUNK = 64


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways of evaluating losses at many parameter vectors.")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each, of which the fastest counts")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()

    peak = matrix_product_speed()
    rows = [row for name in NETWORKS for row in compare(name, peak, arguments.repeat)]
    published = published_network(arguments.repeat)
    table = markdown(rows, peak, published)
    record = {"environment": environment(*PACKAGES), "peak": peak, "rows": rows, "published_network": published}
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "losses.json").write_text(json.dumps(record, indent=2) + "\n")
    (arguments.output / "losses.md").write_text(table)
    print(table)


def matrix_product_speed() -> float:
    """Return the float32 operations a second of a 2048 x 2048 matrix product."""
    one, other = torch.rand(2048, 2048), torch.rand(2048, 2048)
    return 2 * 2048**3 / fastest(lambda: one @ other, 10)


def fastest(run: Callable[[], Any], repeat: int) -> float:
    seconds = []
    for _ in range(repeat + 1):  # the first is to warm up
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def compare(name: str, peak: float, repeat: int) -> list[dict[str, Any]]:
    """Return one row for values and one for gradients: seconds a parameter vector, three ways."""
    data = tl.zoo.dataset("digits")
    inputs, targets = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
    module = tl.zoo.network(name, seed=0)
    landscape = tl.Landscape.from_module(module, inputs, targets, loss=cross_entropy)
    n = 256
    points = landscape.point + 0.1 * np.random.default_rng(0).standard_normal((n, landscape.dimension))
    vectors = torch.tensor(points, dtype=torch.float32)
    blocks = landscape.blocks

    def loss(vector: torch.Tensor) -> torch.Tensor:
        named = {block.name: vector[block.entries].view(block.shape) for block in blocks}
        return cross_entropy(functional_call(module, named, (inputs,)), targets)

    def loop(count: int) -> list[float]:
        values = []
        with torch.no_grad():
            for vector in vectors[:count]:
                vector_to_parameters(vector, module.parameters())
                values.append(cross_entropy(module(inputs), targets).item())
        return values

    def loop_gradients(count: int) -> list[torch.Tensor]:
        gradients = []
        for vector in vectors[:count]:
            vector_to_parameters(vector, module.parameters())
            module.zero_grad()
            cross_entropy(module(inputs), targets).backward()
            gradients.append(torch.cat([p.grad.reshape(-1) for p in module.parameters()]))
        return gradients

    few = 32
    ways = {
        "values": (
            (lambda: loop(few), few),
            (lambda: vmap(loss, chunk_size=CHUNK)(vectors), n),
            (lambda: landscape.values(points), n),
        ),
        "gradients": (
            (lambda: loop_gradients(few), few),
            (lambda: vmap(grad_and_value(loss), chunk_size=CHUNK)(vectors), n),
            (lambda: landscape.gradients(points), n),
        ),
    }
    ours = landscape.values(points)
    np.testing.assert_allclose(ours[:few], loop(few), rtol=1e-5)
    np.testing.assert_allclose(ours, vmap(loss, chunk_size=CHUNK)(vectors).numpy(), rtol=1e-5)
    slopes = landscape.gradients(points)[1]
    np.testing.assert_allclose(slopes[:few], torch.stack(loop_gradients(few)).numpy(), atol=1e-4)

    work = multiplications(module, inputs) * 2
    rows = []
    for quantity, runs in ways.items():
        seconds = [fastest(run, repeat) / count for run, count in runs]
        operations = work * (3 if quantity == "gradients" else 1)
        rows.append(
            {
                "network": name,
                "quantity": quantity,
                "parameters": landscape.dimension,
                "loop": seconds[0],
                "vmap": seconds[1],
                "topolandscape": seconds[2],
                "peak": operations / seconds[2] / peak,
            }
        )
    return rows


def multiplications(module: torch.nn.Module, inputs: torch.Tensor) -> int:
    """Return the multiplications of linear and convolutional layers for all inputs."""
    total = 0

    def count(layer: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    layers = [layer for layer in module.modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        module(inputs)
    for handle in handles:
        handle.remove()
    return total


def published_network(repeat: int) -> dict[str, float]:
    """Return the seconds for the losses and the barcode of the seed paper's network of 2,160,000 points."""
    known = tl.zoo.one_two_one_relu()
    landscape = tl.Landscape.from_function(known.function, 5)
    samples = tl.sample_grid(landscape, low=known.low, high=known.high, shape=known.shape)
    code = tl.barcode(tl.grid(samples))
    assert (len(code), len(code.filter(min_size=101))) == (1156, 9)

    def sample() -> None:
        tl.sample_grid(landscape, low=known.low, high=known.high, shape=known.shape)

    return {
        "points": len(samples),
        "losses": fastest(sample, repeat),
        "barcode": fastest(lambda: tl.barcode(tl.grid(samples)), repeat),
    }


def markdown(rows: list[dict[str, Any]], peak: float, published: dict[str, float]) -> str:
    """Return the rows as a table."""
    lines = [
        f"Matrix product: {peak / 1e9:.0f} GFLOP/s.",
        "",
        "| network | parameters | | loop (ms) | vmap (ms) | topolandscape (ms) | loop / ours | vmap / ours | peak |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['network']} | {row['parameters']:,} | {row['quantity']} | {1e3 * row['loop']:.3g} | "
        f"{1e3 * row['vmap']:.3g} | {1e3 * row['topolandscape']:.3g} | {row['loop'] / row['topolandscape']:.2g} | "
        f"{row['vmap'] / row['topolandscape']:.2g} | {row['peak']:.0%} |"
        for row in rows
    ]
    lines += [
        "",
        f"Published 1-2-1 ReLU network, {published['points']:,} points: losses {published['losses']:.2f} s, "
        f"merge sweep and bars {published['barcode']:.2f} s.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
