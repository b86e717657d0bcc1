"""Symmetries: what is found, that it leaves the loss, and how many copies there are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from symmetric_networks import (
    ACTIVATIONS,
    ARCHITECTURES,
    BOTH,
    NETWORKS,
    SIGN,
    Applied,
    assert_leaves_the_loss,
    elements,
    known,
    landscape_of,
    mlp,
    shape_of,
    with_statistics,
)
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import descend
from topolandscape.landscape.symmetry import apply, canonical, distance, symmetry_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_tables_do_not_overlap():
    assert len(NETWORKS) == 2 * len(ACTIVATIONS) + len(ARCHITECTURES)


# ------------------------------------------------------------------------------------------------------------
# What is found
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_those_of_the_formula_and_leave_the_loss(name):
    landscape, symmetry = known(name)
    assert shape_of(symmetry) == NETWORKS[name][2]
    assert all(group.permuted == (group.units > 1) for group in symmetry.groups)
    assert not any("changes the loss" in reason for reason in symmetry.left_out)
    assert_leaves_the_loss(landscape, symmetry)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("tanh", [(4, SIGN)]),
        ("relu", [(4, [])]),
        ("identity", [(4, SIGN)]),
        ("batch norm by the batch", [(4, [])]),
        ("small ResNet, tanh", [(3, SIGN * 3), (3, SIGN * 2), (4, SIGN * 2), (4, SIGN * 3)]),
    ],
)
def test_weight_decay_leaves_no_scales(name, groups):
    make, shape, _ = NETWORKS[name]
    landscape = landscape_of(make, shape, weight_decay=0.1)
    symmetry = symmetry_of(landscape)
    assert shape_of(symmetry) == groups
    assert_leaves_the_loss(landscape, symmetry)


@pytest.mark.parametrize(
    ("mean", "variance", "permuted", "kinds"),
    [
        ([0.0] * 4, [1.0] * 4, True, [*BOTH, *SIGN]),
        ([0.0] * 4, [2.0] * 4, True, [*BOTH, *SIGN]),
        ([0.5] * 4, [2.0] * 4, True, SIGN),
        ([0.0] * 4, [1.0, 1.0, 2.0, 1.0], False, [*BOTH, *SIGN]),
        ([0.0, 0.0, 0.1, 0.0], [1.0] * 4, False, SIGN),
    ],
)
def test_units_with_other_statistics_stay_where_they_are(mean, variance, permuted, kinds):
    landscape = landscape_of(lambda: mlp(3, 4, 2, norm=with_statistics(mean, variance)), (3,))
    symmetry = symmetry_of(landscape)
    assert shape_of(symmetry) == [(4, kinds)]
    assert symmetry.groups[0].permuted == permuted
    assert any("other statistics" in reason for reason in symmetry.left_out) == (not permuted)
    assert_leaves_the_loss(landscape, symmetry)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = mlp(3, 4, 2)

    def forward(self, x):
        return self.layers(x) if x.sum() > 0 else self.layers(x) + 0.0


class Tied(nn.Module):
    """An autoencoder that reads by the weights by which it writes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)

    def forward(self, x):
        return F.linear(torch.tanh(self.first(x)), self.first.weight.T)


class Overwritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        x.square_()
        return self.second(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.layer, self.last = nn.Linear(3, 4), nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.last(self.layer(self.first(x))[0])


def between(*functions, units=4, read=4):
    """Return two layers with something in between."""
    return nn.Sequential(nn.Linear(3, units), *(Applied(f) for f in functions), nn.Linear(read, 2))


def hooked():
    module = mlp(3, 4, 2)
    module[0].register_forward_hook(lambda layer, inputs, outputs: outputs * torch.arange(4))
    return module


def buffered():
    module = mlp(3, 4, 2)
    weight = module[0].weight.detach()
    del module[0].weight
    module[0].register_buffer("weight", weight)
    return module


# Networks in which nothing, or not everything, can be understood; and what may be found nevertheless.
OTHERS = {
    "softmax": (lambda: mlp(3, 4, 5, 2, activation=lambda: nn.Softmax(1)), (3,), []),
    "softmax behind other layers": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)),
        (3,),
        [(4, SIGN)],
    ),
    "recurrent": (Recurrent, (6, 3), []),
    "a transformer's layer": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.TransformerEncoderLayer(4, 2, 5, batch_first=True)),
        (6, 3),
        [],
    ),
    "branching": (Branching, (3,), []),
    "tied": (Tied, (3,), []),
    "overwritten": (Overwritten, (3,), [(4, [])]),
    "a hook": (hooked, (3,), []),
    "a weight that is no parameter": (buffered, (3,), []),
    "weight norm": (lambda: nn.Sequential(weight_norm(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)), (3,), []),
    "a slice": (lambda: between(lambda x: x[:, :2], read=2), (3,), []),
    "a constant for each unit": (lambda: between(lambda x: x * torch.arange(4)), (3,), []),
    "a reversal": (lambda: between(lambda x: x.flip(1)), (3,), []),
    "sorted": (lambda: between(lambda x: x.sort(1).values), (3,), []),
    "a cumulative sum": (lambda: between(lambda x: x.cumsum(1)), (3,), []),
    "a mean over units": (lambda: between(lambda x: x.mean(1, keepdim=True), read=1), (3,), []),
    "pooling over units": (lambda: between(lambda x: F.max_pool1d(x, 2), read=2), (3,), []),
    "units as positions": (lambda: between(lambda x: x.view(-1, 2, 2).flatten(1)), (3,), []),
    "units as rows": (lambda: between(lambda x: x.view(-1, 8).tanh().view(-1, 4)), (3,), []),
    "positions mixed": (lambda: between(lambda x: x.transpose(1, 2), read=4), (4, 3), []),
    "flattened with positions in front": (lambda: between(lambda x: x.flatten(1), read=24), (6, 3), []),
    "normalised over positions": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)),
        (4, 3),
        # As many positions as units, so that only the loss can tell.
        [],
    ),
    "channels in parts": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 3), nn.Conv1d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(8, 2)),
        (1, 6),
        [],
    ),
    "normalised in parts": (
        lambda: nn.Sequential(nn.Conv1d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 2)),
        (1, 6),
        # What follows the normalisation can be scaled all the same.
        [],
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_understood_is_left_out(name):
    make, shape, groups = OTHERS[name]
    landscape = landscape_of(make, shape)
    symmetry = symmetry_of(landscape)
    assert shape_of(symmetry) == groups
    if not groups:
        assert symmetry.left_out
    # All but one are seen from the network alone.
    tried = any("changes the loss" in reason for reason in symmetry.left_out)
    assert tried == (name == "normalised over positions")
    assert_leaves_the_loss(landscape, symmetry)


@pytest.mark.parametrize(
    ("parameters", "groups"),
    [
        (None, [(4, SIGN), (5, SIGN)]),
        (["0.*", "2.*"], [(4, SIGN)]),
        (["2.*", "4.*"], [(5, SIGN)]),
        ("2.*", []),
        (["0.weight", "2.*", "4.*"], [(5, SIGN)]),
    ],
)
def test_groups_of_fixed_parameters_are_left_out(parameters, groups):
    landscape = landscape_of(lambda: mlp(3, 4, 5, 2), (3,), parameters=parameters)
    symmetry = symmetry_of(landscape)
    assert shape_of(symmetry) == groups
    assert bool(symmetry.left_out) == (parameters is not None)
    assert_leaves_the_loss(landscape, symmetry)


def test_functions_and_restrictions_have_no_units():
    landscape = landscape_of(lambda: mlp(3, 4, 2), (3,))
    for other in (
        Landscape.from_function(lambda x: x.sum(1), 2),
        landscape.restricted_to(landscape.point, np.eye(landscape.dimension)[:2]),
    ):
        with pytest.raises(ValueError, match=r"whole\s+module"):
            symmetry_of(other)


def test_float32_finds_the_same():
    make, shape, groups = ARCHITECTURES["residual, relu"]
    assert shape_of(symmetry_of(landscape_of(make, shape, dtype=torch.float32))) == groups


# ------------------------------------------------------------------------------------------------------------
# How many copies there are
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: mlp(1, 1, 1), 2),
        (lambda: mlp(1, 3, 1), 6 * 8),
        (lambda: mlp(1, 2, 2, 1), 8 * 8),
        (lambda: mlp(1, 2, 1, norm=nn.BatchNorm1d), 2 * 4 * 4),
        (lambda: mlp(1, 1, 1, 1, activation=None, bias=False), 4),
    ],
)
def test_count_is_the_number_of_different_copies(make, count):
    landscape = landscape_of(make, (1,), weight_decay=0.1)
    symmetry = symmetry_of(landscape)
    copies = np.stack([apply(symmetry, landscape.point, element) for element in elements(symmetry)])
    assert symmetry.count == len(np.unique(copies, axis=0)) == count
    losses = landscape.values(copies)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)


def test_counts_of_wide_layers_are_whole_numbers():
    assert known("64-16-10")[1].count == math.factorial(16) * 2**16
    assert known("residual, relu")[1].count == math.factorial(4) * math.factorial(5) ** 2
    assert known("one layer")[1].count == 1


def test_the_minima_of_a_scalar_linear_network_are_copies():
    """L = (w1 w2 w3 - 1)^2 + g |w|^2 has four minima: |w| all equal, an even number of signs negative."""
    module = mlp(1, 1, 1, 1, activation=None, bias=False).double()
    ones = torch.ones(2, 1, dtype=torch.float64)
    landscape = Landscape.from_module(module, ones, ones, loss=F.mse_loss, weight_decay=0.05)
    symmetry = symmetry_of(landscape)
    minimum = descend(landscape, [[0.9, 1.1, 1.0]], steps=400, learning_rate=0.02).ends[0]
    np.testing.assert_allclose(minimum, minimum[0], rtol=1e-6)
    copies = np.array([apply(symmetry, minimum, element) for element in elements(symmetry)])
    expected = [signs for signs in itertools.product([1, -1], repeat=3) if math.prod(signs) > 0]
    assert {tuple(np.sign(copy)) for copy in copies} == set(expected)
    assert symmetry.count == len(copies) == 4
    np.testing.assert_allclose(np.linalg.norm(landscape.gradients(copies)[1], axis=1), 0, atol=1e-6)
    for copy in copies:
        assert distance(symmetry, copy, minimum, seed=0) == 0
        np.testing.assert_array_equal(canonical(symmetry, copy), canonical(symmetry, minimum))
