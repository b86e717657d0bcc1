"""Code of users under mypy --strict: what is right passes, what is wrong is found."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RIGHT = """
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

import topolandscape as tl


def landscape_of(module: torch.nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> tl.Landscape:
    return tl.Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.cross_entropy, dtype="float64")


def of_minima(landscape: tl.Landscape) -> tuple[tl.Minima, tl.MinimaNetwork, tl.Barcode]:
    found = tl.minima(landscape, 4, seed=0)
    network = tl.minima_network(landscape, found, evaluations=100)
    return found, network, tl.barcode(network)


def of_samples(
    landscape: tl.Landscape, corners: NDArray[np.float64]
) -> tuple[tl.MergeTree, tl.Barcode, tl.MorseComplex]:
    samples: tl.LossSamples = tl.sample_plane(landscape, corners, shape=(21, 21))
    complex: tl.FilteredComplex = tl.grid(samples, connectivity="full")
    return tl.merge_tree(complex), tl.barcode(complex, engine="morse", max_dim=1), tl.morse_complex(tl.grid(samples))


def scores(codes: Mapping[str, tl.Barcode]) -> dict[str, float]:
    matrix: tl.DistanceMatrix = tl.distances(codes, metric="wasserstein", p=2)
    band: tl.BarBands = tl.bar_bands(list(codes.values()))
    p: float = tl.permutation_test([0.0, 1.0], [2.0, 3.0], seed=0).p_value
    print(matrix.values.mean(), band.birth.sum(), p)
    return {name: tl.to_score(code, aggregate="max") for name, code in codes.items()}


def picture(code: tl.Barcode, samples: tl.LossSamples) -> Axes:
    tl.plot.contour(samples, barcode=code)
    return tl.plot.bars({"mine": code})


def known() -> tl.LossSamples:
    function: tl.zoo.KnownFunction = tl.zoo.functions["himmelblau"]
    data: tl.zoo.Dataset = tl.zoo.dataset("digits")
    network: torch.nn.Module = tl.zoo.network("mlp:64-16-10", seed=0)
    print(data.inputs.shape, network)
    return function.on_grid((11, 11))


def study() -> tl.StudyResult:
    return tl.run_study(tl.Study({"model": "mlp:2-2-1", "data": "teacher_student", "seed": [0, 1]}), "runs/mine")
"""

WRONG = """
import topolandscape as tl

tl.barcode(tl.grid([[0.0, 1.0]]), engine="fast")
tl.minima("mlp:64-16-10", 4, seed=0)
name: str = tl.bottleneck(tl.Barcode.from_pairs([]), tl.Barcode.from_pairs([]))
tl.nothing
tl.plot.nothing
"""


@pytest.mark.slow
def test_code_of_users_is_checked(tmp_path):
    """One run for both, with the cache of `make check`: torch's types take a minute to read."""
    for name, code in {"right": RIGHT, "wrong": WRONG}.items():
        (tmp_path / f"{name}.py").write_text(code)
    files = [str(tmp_path / f"{name}.py") for name in ("right", "wrong")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert [line for line in found if "right.py" in line] == []
    assert sorted({int(line.split(":")[1]) for line in found}) == [4, 5, 6, 7, 8], checked.stdout + checked.stderr
