"""Work out on paper what a barcode of 1e12 evaluations takes on 1,000 devices, and what breaks first.

    python benchmarks/projection.py

From measured rates: losses-cuda.json (losses.json where there is none), merge.json and cluster.json in
benchmarks/results. Prints two tables and keeps them in projection.md there; numbers go to projection.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from environment import keep

from topolandscape.landscape.tasks import points_of_task

RESULTS = Path(__file__).parent / "results"
EVALUATIONS, DEVICES = 1e12, 1000
# A device with its share of the machine around it, or two cores of a processor: watts, reckoned.
WATTS = {"cuda": 1000.0, "cpu": 50.0}
# An edge of a spanning forest is two vertices and a loss; and what a parallel file system takes in a second, assumed.
EDGE_BYTES, LOSS_BYTES, STORE_SPEED = 24, 8, 100e9
DIMENSIONS = (2, 3, 5, 7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    own = RESULTS / "losses-cuda.json"
    device = "cuda" if own.exists() else "cpu"
    losses = json.loads((own if own.exists() else RESULTS / "losses.json").read_text())
    overhead = {row["executor"]: row["task"] for row in json.loads((RESULTS / "cluster.json").read_text())["overheads"]}
    rows = [evaluated(row, device, overhead["dask"]) for row in losses["rows"] if row["quantity"] == "values"]
    sweep = sweep_rates(json.loads((RESULTS / "merge.json").read_text())["rows"])
    forests = [merged(d, sweep) for d in DIMENSIONS]
    where = losses["environment"].get("accelerator", losses["environment"]["processor"])
    record = {
        "device": device,
        "measured_on": where,
        "task": overhead["dask"],
        "losses": rows,
        "sweep": sweep,
        "forests": forests,
    }
    print(markdown(record))
    keep(arguments.output, "projection", record, markdown(record))


def evaluated(row: dict[str, Any], device: str, overhead: float) -> dict[str, Any]:
    """Return what the losses of one network take: time, tasks, the time of one scheduler, energy."""
    seconds = EVALUATIONS * row["topolandscape"] / DEVICES
    size = points_of_task({"parameters": row["parameters"], "rows": row["rows_at_once"], "device": device}, "values", 2)
    tasks = EVALUATIONS / size
    return {
        "network": row["network"],
        "one": row["topolandscape"],
        "days": seconds / 86400,
        "task_points": size,
        "task_seconds": size * row["topolandscape"],
        "tasks": tasks,
        "scheduler_days": tasks * overhead / 86400,
        "devices_at_most": size * row["topolandscape"] / overhead,
        "megawatt_hours": seconds * DEVICES * WATTS[device] / 3.6e9,
    }


def sweep_rates(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return vertices a second and core of the merge sweep, on the largest smooth and rough grids."""
    rates = {}
    for kind in ("smooth", "rough"):
        own = [row for row in rows if row["engine"] == "topolandscape" and row["case"] == f"grid3d {kind}"]
        largest = max(own, key=lambda row: row["n"])
        rates[kind] = largest["n"] / largest["seconds"]
    return rates


def merged(d: int, sweep: dict[str, float]) -> dict[str, Any]:
    """Return what merging takes on a grid of d dimensions that is cut into one cube a device.

    A forest keeps the vertices on the border of its cube, which may still be joined with others, and no more.
    """
    side = (EVALUATIONS / DEVICES) ** (1 / d)
    border = 1 - max(0.0, 1 - 2 / side) ** d
    kept = EVALUATIONS * border
    return {
        "dimensions": d,
        "side": side,
        "border": border,
        "block_seconds": EVALUATIONS / DEVICES / sweep["rough"],
        "forest_bytes": kept * EDGE_BYTES,
        "forest_seconds": kept / sweep["rough"],
    }


def markdown(record: dict[str, Any]) -> str:
    """Return both tables and what is the same for all rows."""
    device, sweep = record["device"], record["sweep"]
    unit = "GPUs" if device == "cuda" else "pairs of cores"
    lines = [
        f"Losses at 1e12 points on {DEVICES:,} {unit}, from one of them ({record['measured_on']}); the scheduler of "
        f"dask takes {1e3 * record['task']:.2g} ms a task, {WATTS[device]:.0f} W are reckoned for each of the {unit}:",
        "",
        "| network | one loss (us) | days | points a task | a task (s) | tasks | one scheduler (days) "
        f"| {unit} that it keeps busy | energy (MWh) |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['network']} | {1e6 * row['one']:.3g} | {row['days']:.3g} | {row['task_points']:,} | "
        f"{row['task_seconds']:.2g} | {row['tasks']:.2g} | {row['scheduler_days']:.2g} | "
        f"{row['devices_at_most']:,.0f} | {row['megawatt_hours']:.3g} |"
        for row in record["losses"]
    ]
    lines += [
        "",
        f"Losses alone are {EVALUATIONS * LOSS_BYTES / 1e12:.0f} TB: {EVALUATIONS * LOSS_BYTES / STORE_SPEED:.0f} s at "
        f"{STORE_SPEED / 1e9:.0f} GB/s, as assumed. Merging, on a grid cut into {DEVICES:,} cubes, white noise at "
        f"{sweep['rough'] / 1e6:.2g} million vertices a second and core (smooth: {sweep['smooth'] / 1e6:.2g}):",
        "",
        "| dimensions | side of a cube | vertices on its border | its sweep (min) | all forests (TB) "
        "| joined by one core (days) |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['dimensions']} | {row['side']:,.0f} | {row['border']:.2%} | {row['block_seconds'] / 60:.1f} | "
        f"{row['forest_bytes'] / 1e12:.2g} | {row['forest_seconds'] / 86400:.2g} |"
        for row in record["forests"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
