"""Take grids of up to a hundred million points to their barcodes, and write down time and memory.

    python benchmarks/beyond_memory.py [--sides 5 7 10 14] [--memory 3]

The losses of a network of seven parameters on full grids, written to the disk and joined block by block; each grid in
a process of its own, whose largest memory is the system's count. Grids of up to ten million points are computed in
memory as well, and the bars are checked to be equal. Prints one table and keeps it in
benchmarks/results/beyond_memory.md, numbers and environment in beyond_memory.json, the picture in
docs/images/beyond_memory.png.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from environment import environment, keep

from topolandscape.files import Run, load, save
from topolandscape.structures import Barcode, Floats, grid_points
from topolandscape.study import Recipe

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "beyond_memory.png"
NETWORK = {"model": "mlp:1-2-1", "data": "sine_regression", "route": "sample", "region": "grid"}
PARAMETERS = 7
BOX = -3.0, 3.0
IN_MEMORY = 2e7  # points up to which the whole grid is also joined in memory


def main() -> None:
    parser = argparse.ArgumentParser(description="Take grids beyond memory to their barcodes.")
    parser.add_argument("--sides", nargs="+", type=int, default=(5, 7, 10, 14), help="points along each of 7 axes")
    parser.add_argument("--memory", type=float, default=3.0, help="GiB that blocks and their faces may take")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for beyond_memory.json and .md")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--child", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        way, folder = arguments.child
        print(json.dumps({"blocks": in_blocks, "memory": in_memory}[way](arguments.sides[0], arguments.memory, folder)))
        return

    record: dict[str, Any] = {
        "environment": environment("topolandscape", "numpy", "numba", "torch"),
        "settings": {"memory": arguments.memory, "box": BOX, **NETWORK},
        "rows": [],
    }
    for side in arguments.sides:
        with tempfile.TemporaryDirectory(dir=arguments.output) as folder:
            rows = [child("blocks", side, arguments.memory, folder)]
            if side**PARAMETERS <= IN_MEMORY:
                rows.append(child("memory", side, arguments.memory, folder))
                rows[0]["equal"] = same_bars(*(load(f"{folder}/{row['way']}.npz") for row in rows))
        record["rows"] += rows
        record["slopes"] = slopes(record["rows"])
        keep(arguments.output, "beyond_memory", record, markdown(record))
    picture(record, arguments.picture)
    print(markdown(record))


def child(way: str, side: int, memory: float, folder: str) -> dict[str, Any]:
    """Return what a process of its own says of a grid."""
    command = [sys.executable, __file__, "--sides", str(side), "--memory", str(memory), "--child", way, folder]
    load_before = os.getloadavg()[0]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row = json.loads(done.stdout.splitlines()[-1]) | {"way": way, "load": load_before}
    print(f"{way}: {row['n']:,} points, {row['losses']:.3g} s and {row['join']:.3g} s", flush=True)
    return row


def in_blocks(side: int, memory: float, folder: str) -> dict[str, Any]:
    """Take a grid to its barcode with its losses on the disk."""
    from topolandscape.topology.blocks import block_within, merge_tree_in_blocks
    from topolandscape.topology.persistence import barcode

    landscape, axes = prepared(side)
    merge_tree_in_blocks(np.zeros((3,) * PARAMETERS), block=9)  # compiled
    run = Run.create(f"{folder}/run{side}", {})
    start = time.perf_counter()
    losses = run.grid_values(landscape, axes, progress=False)
    evaluated = time.perf_counter()
    block = block_within(losses.shape, memory * 2**30)
    code = barcode(merge_tree_in_blocks(losses, connectivity="axis", block=block))
    return told(code, side, start, evaluated, f"{folder}/blocks.npz") | {"block": block}


def in_memory(side: int, memory: float, folder: str) -> dict[str, Any]:
    """Take a grid to its barcode with all points and losses in memory."""
    from topolandscape.topology.complexes import grid
    from topolandscape.topology.persistence import barcode

    landscape, axes = prepared(side)
    barcode(grid(np.zeros((3,) * PARAMETERS)))  # compiled
    start = time.perf_counter()
    values = landscape.values(grid_points(axes), progress=False)
    evaluated = time.perf_counter()
    code = barcode(grid(values.reshape((side,) * PARAMETERS)))
    return told(code, side, start, evaluated, f"{folder}/memory.npz")


def prepared(side: int) -> tuple[Any, list[Floats]]:
    """Return the landscape, evaluated once so that the fastest way is known, and the axes of the grid."""
    from topolandscape.landscape.grids import grid_axes
    from topolandscape.study.problem import problem

    landscape = problem(Recipe(**NETWORK)).landscape()
    landscape.values(np.zeros((2**14, PARAMETERS)), progress=False)
    return landscape, grid_axes(PARAMETERS, *BOX, side)


def told(code: Barcode, side: int, start: float, evaluated: float, file: str) -> dict[str, Any]:
    """Return the row of a grid, and keep its bars."""
    joined = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    save(file, code)
    times = {"losses": evaluated - start, "join": joined - evaluated}
    return {"n": side**PARAMETERS, "side": side, **times, "peak": peak, "bars": len(code)}


def same_bars(one: Any, other: Any) -> bool:
    """Tell whether two barcodes are the same to the bit, with minima, saddles and sizes; else stop."""
    for column in Barcode.columns:
        assert np.array_equal(getattr(one, column), getattr(other, column)), column
    return True


def slopes(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the powers of the number of points with which times in blocks grow (least squares of logarithms)."""
    known = [row for row in rows if row["way"] == "blocks"]
    if len(known) < 2:
        return {}
    n = np.log([row["n"] for row in known])
    return {name: float(np.polyfit(n, np.log([row[name] for row in known]), 1)[0]) for name in ("losses", "join")}


def markdown(record: dict[str, Any]) -> str:
    """Return the rows as a table."""
    lines = [
        "| points | way | losses | barcode | points a second | peak memory | bars | bars equal |",
        "|--:|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in record["rows"]:
        rate = row["n"] / (row["losses"] + row["join"])
        lines.append(
            f"| {row['n']:,} | {'in blocks' if row['way'] == 'blocks' else 'in memory'} | {row['losses']:.3g} s | "
            f"{row['join']:.3g} s | {rate:,.0f} | {row['peak'] / 2**30:.2f} GiB | {row['bars']:,} | "
            f"{'yes' if row.get('equal') else ''} |"
        )
    if record["slopes"]:
        powers = ", ".join(f"{name} {power:.2f}" for name, power in record["slopes"].items())
        lines += ["", f"Times grow with these powers of the number of points: {powers.replace('join', 'barcode')}."]
    return "\n".join(lines) + "\n"


def picture(record: dict[str, Any], path: Path) -> None:
    """Draw time and memory against the number of points."""
    from matplotlib.figure import Figure

    from topolandscape.plot.ink import COLOURS, SMALL

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for way, style in (("blocks", "o-"), ("memory", "s--")):
        rows = [row for row in record["rows"] if row["way"] == way]
        n, said = [row["n"] for row in rows], f"in {way}"
        for name, colour in (("losses", COLOURS[0]), ("join", COLOURS[1])):
            slope = f", slope {record['slopes'][name]:.2f}" if way == "blocks" and record["slopes"] else ""
            label = f"{'barcode' if name == 'join' else name} {said}{slope}"
            time_axes.loglog(n, [row[name] for row in rows], style, color=colour, label=label, markersize=4)
        memory_axes.loglog(
            n, [row["peak"] / 2**30 for row in rows], style, color=COLOURS[2], label=f"process, {said}", markersize=4
        )
    sizes = np.array(sorted({row["n"] for row in record["rows"]}))
    points = sizes * 8 * PARAMETERS / 2**30
    memory_axes.loglog(sizes, points, ":", color="0.45", label="the points alone")
    memory_axes.set_ylim(top=2 * points.max(), bottom=0.05)
    for ax, name in ((time_axes, "seconds"), (memory_axes, "GiB")):
        ax.set_xlabel("points of the grid")
        ax.set_ylabel(name)
        ax.legend(frameon=False, fontsize=SMALL)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    main()
