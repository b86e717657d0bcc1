"""What is raced on: arrays, made from seeds, that every entrant of a row is given."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from cases import losses_at, three_hump_camel
from peers.problems import trained
from torch.nn.functional import cross_entropy

from topolandscape import nearest_neighbours, zoo
from topolandscape.structures import LossSamples

Arrays = dict[str, np.ndarray]

SIDE, DISTANCE = 41, 0.5


@lru_cache
def state(network: str) -> Arrays:
    """Return a network of the zoo after some steps of Adam on the training rows of digits."""
    module = zoo.network(network, seed=0)
    data = zoo.dataset("digits")
    inputs, targets = torch.tensor(data.inputs), torch.tensor(data.targets)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def plane(network: str) -> Arrays:
    """Return a plane around a trained network.

    Its steps are those that landscaper takes for these directions, of which every tensor has a norm of its own choice
    already: so all entrants visit the same points.
    """
    arrays = state(network)
    module = trained(np.array(network), arrays)[0]
    rng = np.random.default_rng(0)
    directions = []
    for _ in range(2):
        parts = [rng.standard_normal(p.numel()) for p in module.parameters()]
        directions.append(np.concatenate([np.sqrt(len(part)) * part / np.linalg.norm(part) for part in parts]))
    point = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()
    along = np.array(directions)
    return {
        "network": np.array(network),
        "directions": along,
        "steps": np.linalg.norm(point) * DISTANCE / (SIDE / 2) * along / np.linalg.norm(along, axis=1)[:, None],
        "distance": np.array(DISTANCE),
        **arrays,
    }


def grid(kind: str, shape: tuple[int, ...]) -> Arrays:
    """Return losses on a grid, in float32: the three-hump camel, or cosines on a bowl, smooth or rough."""
    if kind == "camel":
        losses = three_hump_camel(np.linspace(-2, 2, shape[0])[:, None], np.linspace(-2, 2, shape[1]))
        return {"grid": losses.astype(np.float32).astype(np.float64)}
    axes = np.meshgrid(*[np.linspace(-3, 3, side) for side in shape], indexing="ij")
    points = np.column_stack([axis.reshape(-1) for axis in axes])
    return {"grid": losses_at(points, kind, seed=1).reshape(shape)}


def graph(points: int, dimension: int, k: int) -> Arrays:
    """Return cosines on a bowl at uniform points, joined to their nearest neighbours."""
    places = np.random.default_rng(points).uniform(-3, 3, size=(points, dimension))
    complex = nearest_neighbours(LossSamples(places, losses_at(places, "smooth", seed=1)), k=k)
    return {"values": np.array(complex.vertex_values), "edges": np.array(complex.simplices[1])}


def spectrum(network: str, k: int) -> Arrays:
    """Return a trained network, and how many eigenvalues are asked for."""
    return {"network": np.array(network), "k": np.array(k), **state(network)}


def network(minima: int, passes: int) -> Arrays:
    """Return minima and passes between pairs of them, the first of which join all."""
    rng = np.random.default_rng(0)
    births = rng.random(minima)
    tree = np.column_stack([np.arange(1, minima), [rng.integers(i) for i in range(1, minima)]])
    pairs = rng.integers(minima, size=(passes, 2))
    ends = np.unique(np.sort(np.concatenate([tree, pairs[pairs[:, 0] != pairs[:, 1]]]), axis=1), axis=0)
    return {"births": births, "ends": ends, "barriers": births[ends].max(axis=1) + rng.random(len(ends))}
