"""A CUDA device gives the numbers of the processor, along the whole way from a network to its barcode."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest
import torch
from networks import NETWORKS, network
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from typer.testing import CliRunner

import topolandscape as tl
from topolandscape.cli import app
from topolandscape.landscape.symmetry.matching import align_by_activations

DEVICE = "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
ROWS = 200


def digits():
    data = tl.zoo.dataset("digits")
    return torch.from_numpy(data.inputs[:ROWS]).double(), torch.from_numpy(data.targets[:ROWS])


def both(module, **options):
    """Return the landscape of a module on digits in float64, on the processor and on the device."""
    module = module.double()
    places = [
        tl.Landscape.from_module(module, *digits(), loss=cross_entropy, device=device, **options)
        for device in ("cpu", DEVICE)
    ]
    assert places[1].description["device"].startswith(DEVICE)
    return places


def mlp():
    return tl.zoo.network("mlp:64-16-10,tanh", seed=0)


def near(point, n=5, scale=0.1):
    return point + scale * np.random.default_rng(3).normal(size=(n, len(point)))


class Product(nn.Module):
    """v w x, of which the squared error at x = y = 1 has two valleys that meet at the origin."""

    def __init__(self):
        super().__init__()
        self.v = nn.Parameter(torch.tensor(1.0))
        self.w = nn.Parameter(torch.tensor(1.0))

    def forward(self, inputs):
        return inputs * self.v * self.w


@pytest.mark.parametrize("name", NETWORKS)
def test_losses_and_derivatives_of_networks(name):
    here, there = both(network(name))
    points = near(here.point)
    np.testing.assert_allclose(there.values(points), here.values(points), rtol=1e-10)
    values, gradients = there.gradients(points)
    np.testing.assert_allclose(values, here.values(points), rtol=1e-10)
    np.testing.assert_allclose(gradients, here.gradients(points)[1], rtol=1e-6, atol=1e-10)
    directions = near(np.zeros(len(here.point)), 2)
    np.testing.assert_allclose(
        there.hessian_products(here.point, directions),
        here.hessian_products(here.point, directions),
        rtol=1e-5,
        atol=1e-8,
    )


def test_float32_is_not_rounded_further_unless_asked():
    module = network("mlp:64-128-128-10")
    inputs, targets = digits()
    exact = both(copy.deepcopy(module))[0]
    points = near(exact.point)
    expected = exact.values(points)

    def error(**options):
        landscape = tl.Landscape.from_module(
            module.float(), inputs.float(), targets, loss=cross_entropy, device=DEVICE, **options
        )
        return np.abs(landscape.values(points) / expected - 1).max()

    assert error() < 1e-6
    assert error() < error(dtype="tf32") < 1e-2


def test_random_numbers_are_left_alone():
    before = torch.cuda.get_rng_state()
    there = both(mlp())[1]
    there.gradients(near(there.point))
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_more_vectors_than_fit_the_memory(caplog):
    """The first chunk takes more than a terabyte: smaller ones follow, with the same numbers."""
    module = nn.Sequential(nn.Linear(8, 8192), nn.Tanh(), nn.Linear(8192, 2)).eval()
    inputs = torch.randn(4096, 8, generator=torch.Generator().manual_seed(0))
    landscape = tl.Landscape.from_module(module, inputs, torch.zeros(4096).long(), loss=cross_entropy, device=DEVICE)
    points = np.repeat(near(landscape.point, 8), 1024, axis=0)
    with caplog.at_level(logging.INFO):
        crowded = landscape.engine.values(points, chunk=len(points))
    assert "memory ran out" in caplog.text
    np.testing.assert_allclose(crowded, landscape.values(points), rtol=1e-5)


def test_two_workers_share_the_points():
    here, _ = both(mlp())
    points = near(here.point, 300)
    for devices in ([DEVICE, DEVICE], [DEVICE, "cpu"]):
        there = tl.Landscape.from_module(mlp().double(), *digits(), loss=cross_entropy, device=devices)
        np.testing.assert_allclose(there.values(points), here.values(points), rtol=1e-10)


def test_data_that_are_read_anew():
    here, _ = both(mlp())
    loader = DataLoader(TensorDataset(*digits()), batch_size=64)
    there = tl.Landscape.from_loader(mlp().double(), loader, loss=cross_entropy, device=DEVICE)
    points = near(here.point)
    np.testing.assert_allclose(there.gradients(points)[1], here.gradients(points)[1], rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("batch", [None, 50])
def test_descents_go_the_same_way(batch):
    here, there = both(mlp())
    starts = tl.initial_points(here, 3, seed=0)
    np.testing.assert_array_equal(starts, tl.initial_points(there, 3, seed=0))
    ends = [
        tl.descend(landscape, starts, steps=30, batch=batch, seed=1, progress=False).ends for landscape in (here, there)
    ]
    np.testing.assert_allclose(*ends, atol=1e-7)


def test_the_same_seed_gives_the_same_samples_whatever_the_memory():
    places = [
        tl.Landscape.from_module(mlp().double(), *digits(), loss=cross_entropy, device=DEVICE, memory=memory)
        for memory in (None, 2**24)
    ]
    samples = [tl.sample_ball(place, center=place.point, radius=1.0, n=500, seed=0) for place in places]
    np.testing.assert_array_equal(samples[0].points, samples[1].points)
    np.testing.assert_allclose(samples[0].values, samples[1].values, rtol=1e-10)


def test_curvatures():
    here, there = both(mlp(), weight_decay=1e-3)
    points = near(here.point, 2)
    for measure in (tl.lowest_curvatures, tl.highest_curvatures):
        one, other = (measure(landscape, points, 3, seed=0).values for landscape in (here, there))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    traces = [tl.hessian_trace(landscape, points, seed=0)[0] for landscape in (here, there)]
    np.testing.assert_allclose(*traces, rtol=1e-6)


def test_similarity_and_symmetry():
    here, there = both(mlp())
    points = near(here.point, 2, scale=0.3)
    inputs, _ = digits()
    outputs = [tl.network_outputs(landscape, points, inputs) for landscape in (here, there)]
    np.testing.assert_allclose(*outputs, rtol=1e-8, atol=1e-10)
    symmetries = [tl.symmetry_of(landscape) for landscape in (here, there)]
    aligned = [
        align_by_activations(landscape, symmetry, points[0], points[1], inputs)
        for landscape, symmetry in zip((here, there), symmetries, strict=True)
    ]
    np.testing.assert_allclose(*aligned, rtol=1e-12)
    near_copies = [tl.align(symmetry, points[0], points[1], seed=0) for symmetry in symmetries]
    np.testing.assert_allclose(*near_copies, rtol=1e-12)
    connected = [
        tl.mode_connectivity(landscape, tl.straight_paths(points[:1], points[1:]).reshape(1, -1, here.dimension))
        for landscape in (here, there)
    ]
    np.testing.assert_allclose(*connected, rtol=1e-8)


def test_a_network_of_minima_with_known_bars():
    row = torch.ones(1, 1, dtype=torch.float64)
    landscape = tl.Landscape.from_module(
        Product().double(), row, row, loss=nn.functional.mse_loss, weight_decay=0.1, device=DEVICE
    )
    found = tl.minima(landscape, [[1.0, 0.5], [-1.0, -0.6]], seed=0, progress=False)
    code = tl.barcode(tl.minima_network(landscape, found, progress=False))
    known = tl.zoo.scalar_linear(2, a=1.0, c=1.0, gamma=0.1)
    bars = np.sort(code.to_persim()[0], axis=0)
    np.testing.assert_allclose(bars, np.sort(known.bars[0], axis=0), atol=1e-8)


def test_the_command_line(tmp_path):
    options = ["--region", "plane", "--resolution", "11", "--steps", "50", "--device", DEVICE, "--out", str(tmp_path)]
    said = CliRunner().invoke(app, ["barcode", "mlp:64-16-10", "digits", *options])
    assert said.exit_code == 0, said.output
    assert len(tl.load(tmp_path / "barcode.npz")) >= 1
