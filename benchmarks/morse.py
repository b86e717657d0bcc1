"""Compare the barcode of a discrete gradient field with gudhi's cubical complex, in all degrees.

    python benchmarks/morse.py [--repeat 3] [--shapes 1000x1000 128x128x128]

Bars are checked to be equal first. Prints one table and keeps it in benchmarks/results/morse.md; numbers and
environment go to morse.json beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import gudhi
import numba
import numpy as np
from environment import environment, keep

from topolandscape.structures import GridComplex
from topolandscape.topology.morse import gradient_field, morse_complex
from topolandscape.topology.persistence import barcode

RESULTS = Path(__file__).parent / "results"
SHAPES = ("1000x1000", "128x128x128")
# Standard deviation of white noise beside the function, which has values of order 1; None: noise alone.
NOISES = {"smooth": 1e-3, "rough": 0.1, "noise": None}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare discrete gradient fields with gudhi's cubical complex.")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, help="grids, such as 128x128x128")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the fastest counts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for morse.json and morse.md")
    arguments = parser.parse_args()

    record: dict[str, Any] = {
        "environment": environment("topolandscape", "numpy", "numba", "gudhi"),
        "settings": {"repeat": arguments.repeat, "threads": numba.get_num_threads()},
        "rows": [],
    }
    for shape in arguments.shapes:
        sides = tuple(map(int, shape.split("x")))
        compare("warm up", losses(tuple(min(side, 12) for side in sides), 0.1), 1)
        for name, noise in NOISES.items():
            record["rows"] += compare(shape, losses(sides, noise), arguments.repeat, name)
            keep(arguments.output, "morse", record, markdown(record))
    print(markdown(record))


def losses(shape: tuple[int, ...], noise: float | None) -> np.ndarray:
    """Return cosines on a bowl over [-3, 3]^d with white noise, or noise alone."""
    white = np.random.default_rng(1).normal(size=shape)
    if noise is None:
        return white
    axes = np.meshgrid(*[np.linspace(-3, 3, side) for side in shape], indexing="ij")
    return sum(np.cos((3 + axis) * x) + 0.3 * x**2 for axis, x in enumerate(axes)) + noise * white


def compare(shape: str, values: np.ndarray, repeat: int, name: str = "") -> list[dict[str, Any]]:
    """Return one row for each way, ours first."""
    complex = GridComplex(values)
    reference = cubical_bars(values)
    code = barcode(complex, max_dim=values.ndim - 1, engine="morse")
    ours = [sorted_pairs(np.column_stack([code.birth, code.death])[code.dim == k]) for k in range(values.ndim)]
    equal = all(np.array_equal(one, other) for one, other in zip(ours, reference, strict=True))
    field = gradient_field(complex)
    ways: dict[str, Callable[[], object]] = {
        "topolandscape, bars": lambda: barcode(complex, max_dim=values.ndim - 1, engine="morse"),
        "gudhi CubicalComplex, bars": lambda: cubical_bars(values),
        "topolandscape, gradient field": lambda: gradient_field(complex),
        "topolandscape, Morse complex of the field": lambda: morse_complex(field),
    }
    rows = []
    for way, run in ways.items():
        seconds = []
        for _ in range(1 if way.startswith("gudhi") and values.size > 1.5e6 else repeat):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        rows.append(
            {
                "shape": shape,
                "losses": name,
                "critical": len(field.critical),
                "bars": len(code),
                "equal": equal,
                "way": way,
                "seconds": min(seconds),
                "all_seconds": seconds,
            }
        )
        print(f"{shape} {name}, {way}: {min(seconds):.3g} s", flush=True)
    return rows


def cubical_bars(values: np.ndarray) -> list[np.ndarray]:
    """Return the bars of every degree by gudhi."""
    cubical = gudhi.CubicalComplex(vertices=values)
    cubical.compute_persistence(homology_coeff_field=2, min_persistence=0)
    return [sorted_pairs(cubical.persistence_intervals_in_dimension(k)) for k in range(values.ndim)]


def sorted_pairs(pairs: np.ndarray) -> np.ndarray:
    """Return births and deaths of positive length, in order."""
    pairs = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    return pairs[np.lexsort(pairs.T[::-1])]


def markdown(record: dict[str, Any]) -> str:
    """Return a table of the fastest runs, a line a grid."""
    lines = [
        "| grid | losses | critical cells | bars | bars, topolandscape | bars, gudhi cubical | gradient field "
        "| Morse complex of it | bars equal |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for _, group in groupby(record["rows"], key=lambda row: (row["shape"], row["losses"])):
        ours, gudhis, field, complex = group
        lines.append(
            f"| {ours['shape']} | {ours['losses']} | {ours['critical']:,} | {ours['bars']:,} | {ours['seconds']:.3g} s "
            f"| {gudhis['seconds']:.3g} s ({gudhis['seconds'] / ours['seconds']:.2g}x) | {field['seconds']:.3g} s "
            f"| {complex['seconds']:.3g} s | {'yes' if ours['equal'] else '**no**'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
