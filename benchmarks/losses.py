"""Compare ways of evaluating a network's loss at many parameter vectors, and write down what came out.

    python benchmarks/losses.py
    python benchmarks/losses.py --device cuda

Prints a table and keeps it in benchmarks/results/losses.md; numbers and environment go to losses.json beside it. Those
of another device are kept in losses-cuda.md and losses-cuda.json.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environment import environment, keep
from networks import NETWORKS, network
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import vector_to_parameters

import topolandscape as tl
from topolandscape.landscape.machine import float32_products, operations

PACKAGES = ("topolandscape", "torch", "numpy", "numba")
# The network of seven parameters of which grids can be sampled, on the seed paper's 50 points.
SMALL = "mlp:1-2-1,tanh"
# Vectors evaluated, and how many of them vmap takes at once, of fully connected networks and of others.
SIZES = {"cpu": {"mlp": (1024, 64), "other": (64, 64)}, "cuda": {"mlp": (8192, 1024), "other": (1024, 128)}}
SIZES_OF_SMALL = {"cpu": (65536, 4096), "cuda": (2**20, 65536)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare ways of evaluating losses at many parameter vectors.")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each, of which the fastest counts")
    parser.add_argument("--only", nargs="*", default=(*NETWORKS, SMALL), help="networks to compare")
    parser.add_argument("--device", default="cpu", choices=SIZES, help="where the networks are evaluated")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()

    with float32_products(torch.device(arguments.device), tf32=False):  # of all three ways alike
        rows = [row for name in arguments.only for row in compare(name, arguments.repeat, arguments.device)]
    published = published_network(arguments.repeat) if arguments.device == "cpu" else None
    record = {"environment": environment(*PACKAGES), "rows": rows} | (
        {"published_network": published} if published else {}
    )
    table = markdown(record)
    print(table)
    if tuple(arguments.only) != (*NETWORKS, SMALL):
        return
    if arguments.device == "cuda":
        record["environment"]["accelerator"] = torch.cuda.get_device_name()
    name = "losses" if arguments.device == "cpu" else f"losses-{arguments.device}"
    keep(arguments.output, name, record, table)


def fastest(runs: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """Return the seconds of the fastest of several runs of each, in turn, so that all see the same machine."""
    finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat + 1):  # the first is to warm up
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            finish()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(spent[1:]) for name, spent in seconds.items()}


def compare(name: str, repeat: int, device: str) -> list[dict[str, Any]]:
    """Return one row for values and one for gradients: seconds a parameter vector, three ways."""
    data = tl.zoo.dataset("sine_regression" if name == SMALL else "digits")
    parts = [(data.inputs, data.test_inputs), (data.targets, data.test_targets)]
    inputs, targets = (
        torch.from_numpy(np.concatenate([part for part in pair if part is not None])).to(device) for pair in parts
    )
    loss_of = mse_loss if name == SMALL else cross_entropy
    module = network(name).to(device)
    landscape = tl.Landscape.from_module(module, inputs, targets, loss=loss_of)
    own = copy.deepcopy(module)
    kind = "mlp" if name.startswith("mlp") else "other"
    n, chunk = SIZES_OF_SMALL[device] if name == SMALL else SIZES[device][kind]
    few = 32 if kind == "mlp" else 8
    points = landscape.point + 0.1 * np.random.default_rng(0).standard_normal((n, landscape.dimension))
    vectors = torch.tensor(points, dtype=torch.float32, device=device)
    one, other = torch.rand(2048, 2048, device=device), torch.rand(2048, 2048, device=device)

    def loss(vector: torch.Tensor) -> torch.Tensor:
        named = {block.name: vector[block.entries].view(block.shape) for block in landscape.blocks}
        return loss_of(functional_call(module, named, (inputs,)), targets)

    def loop() -> list[float]:
        values = []
        with torch.no_grad():
            for vector in vectors[:few]:
                vector_to_parameters(vector, own.parameters())
                values.append(loss_of(own(inputs), targets).item())
        return values

    def loop_gradients(own: torch.nn.Module = own, inputs: torch.Tensor = inputs) -> list[torch.Tensor]:
        gradients = []
        for part in own.modules():  # cuDNN knows derivatives of recurrent layers in train mode only
            part.train(isinstance(part, torch.nn.RNNBase))
        for vector in vectors[:few].to(inputs.dtype):
            vector_to_parameters(vector, own.parameters())
            own.zero_grad()
            loss_of(own(inputs), targets.to(inputs.dtype) if targets.is_floating_point() else targets).backward()
            gradients.append(torch.cat([p.grad.reshape(-1) for p in own.parameters()]).cpu())
        return gradients

    def batched() -> torch.Tensor:
        return vmap(loss, chunk_size=chunk, randomness="error")(vectors)

    def batched_gradients() -> Any:
        return vmap(grad_and_value(loss), chunk_size=chunk)(vectors)

    # Vectors on a plane are made where they are evaluated: only two numbers each have to go there.
    plane = landscape.restricted_to(landscape.point, points[:2] - landscape.point)
    coordinates = np.random.default_rng(1).uniform(-1, 1, (n, 2))

    ours = landscape.values(points)
    np.testing.assert_allclose(ours[:few], loop(), rtol=1e-5)
    slopes = landscape.gradients(points)[1]
    # In float32 a rectifier near its kink may fall to either side: the exact side is right as well.
    loops = (loop_gradients(), loop_gradients(copy.deepcopy(module).double(), inputs.double()))
    errors = [np.abs(slopes[:few] - torch.stack(loop).numpy()) for loop in loops]
    assert np.minimum(*errors).max() <= 1e-4 * np.abs(slopes).max()

    rows = []
    for quantity, looped, mapped, ours_run in (
        ("values", loop, batched, lambda: landscape.values(points)),
        ("gradients", loop_gradients, batched_gradients, lambda: landscape.gradients(points)),
    ):
        runs = {"loop": looped, "topolandscape": ours_run, "product": lambda: one @ other}
        if quantity == "values":
            runs["plane"] = lambda: plane.values(coordinates)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                mapped()
                runs["vmap"] = mapped
                spent = fastest(runs, repeat)
        except RuntimeError:  # vmap cannot do this network
            runs.pop("vmap", None)
            spent = fastest(runs, repeat)
        peak = 2 * 2048**3 / spent["product"]
        work = operations(looped) / few
        seconds = {
            "loop": spent["loop"] / few,
            "vmap": spent.get("vmap", np.nan) / n,
            "topolandscape": spent["topolandscape"] / n,
            "plane": spent.get("plane", np.nan) / n,
        }
        plan = landscape.engine.plan(quantity)
        rows.append(
            {
                "network": name,
                "quantity": quantity,
                "parameters": landscape.dimension,
                **{way: None if np.isnan(took) else took for way, took in seconds.items()},
                "matrix_product": peak,
                "peak": work / seconds["topolandscape"] / peak,
                "loop_peak": work / seconds["loop"] / peak,
                "form": plan.form,
                "chunk": plan.chunk,
                "rows_at_once": plan.rows,
            }
        )
        print(rows[-1], file=sys.stderr)
    return rows


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
        **fastest({"losses": sample, "barcode": lambda: tl.barcode(tl.grid(samples))}, repeat),
    }


def markdown(record: dict[str, Any]) -> str:
    """Return the rows as a table."""
    rows, published = record["rows"], record.get("published_network")
    speeds = [row["matrix_product"] / 1e9 for row in rows]
    lines = [
        f"Matrix product (2048 x 2048, float32), beside each row: {min(speeds):.0f} to {max(speeds):.0f} GFLOP/s.",
        "",
        "| network | parameters | | loop (ms) | vmap (ms) | topolandscape (ms) | on a plane (ms) | loop / ours "
        "| vmap / ours | peak | loop's peak | form, vectors x rows at once |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {row['network']} | {row['parameters']:,} | {row['quantity']} | {_milliseconds(row['loop'])} | "
        f"{_milliseconds(row['vmap'])} | {_milliseconds(row['topolandscape'])} | {_milliseconds(row['plane'])} | "
        f"{_ratio(row['loop'], row)} | "
        f"{_ratio(row['vmap'], row)} | {row['peak']:.0%} | {row['loop_peak']:.0%} | "
        f"{row['form']}, {row['chunk']} x {row['rows_at_once']} |"
        for row in rows
    ]
    lines += (
        []
        if published is None
        else [
            "",
            f"Published 1-2-1 ReLU network, {published['points']:,} points: losses {published['losses']:.2f} s, "
            f"merge sweep and bars {published['barcode']:.2f} s.",
        ]
    )
    return "\n".join(lines) + "\n"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.3g}"


def _ratio(seconds: float | None, row: dict[str, Any]) -> str:
    return "-" if seconds is None else f"{seconds / row['topolandscape']:.2g}"


if __name__ == "__main__":
    main()
