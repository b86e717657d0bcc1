"""Loss planes by landscaper and loss-landscapes, as their documentation says; merge trees by landscaper."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from problems import trained
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters

Array = np.ndarray
Run = Callable[[], dict[str, Array]]


def _as_parameters(vector: Array, module: torch.nn.Module) -> list[torch.Tensor]:
    flat = torch.tensor(vector, dtype=torch.float32)
    sizes = [p.numel() for p in module.parameters()]
    return [part.view_as(p).clone() for part, p in zip(flat.split(sizes), module.parameters(), strict=True)]


def landscaper(network: Array, directions: Array, steps: Array, distance: Array, **state: Array) -> Run:
    """One evaluation on all rows a point; torch's own choice of threads."""
    from landscaper import LossLandscape

    module, inputs, targets = trained(network, state)
    along = [_as_parameters(direction, module) for direction in directions]

    def loss(model: torch.nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
        return cross_entropy(model(data[0]), data[1]).item()

    def run() -> dict[str, Array]:
        made = LossLandscape.compute(
            module, (inputs, targets), along, loss, steps=41, distance=float(distance), dim=2, device="cpu"
        )
        return {"losses": made.loss}

    return run


def landscaper_tree(grid: Array) -> Run:
    """Its merge tree, and the persistences that it draws as a barcode; bars are read off the tree."""
    from landscaper import LossLandscape

    def run() -> dict[str, Array]:
        made = LossLandscape(grid, [np.arange(side, dtype=float) for side in grid.shape])
        tree = made.get_sublevel_tree()
        persistences = made.get_persistence()
        names = {node: row for row, node in enumerate(tree.nodes)}
        return {
            "node_values": np.array(list(tree.nodes.values()), dtype=float),
            "node_edges": np.array([(names[a], names[b]) for a, b in tree.edges]).reshape(-1, 2),
            "persistences": np.array(list(persistences.values()), dtype=float),
        }

    return run


def landscaper_plane_and_tree(network: Array, directions: Array, steps: Array, distance: Array, **state: Array) -> Run:
    make = landscaper(network, directions, steps, distance, **state)

    def run() -> dict[str, Array]:
        losses = make()["losses"]
        return {"losses": losses, **landscaper_tree(losses)()}

    return run


def loss_landscapes(network: Array, directions: Array, steps: Array, distance: Array, **state: Array) -> Run:
    """Its plane through three models: the corner of the plane, and the ends of its two sides."""
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    module, inputs, targets = trained(network, state)
    start = torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy() - 20 * steps.sum(axis=0)
    corners = []
    for vector in (start, start + 41 * steps[0], start + 41 * steps[1]):
        corner = trained(network, state)[0]
        vector_to_parameters(torch.tensor(vector, dtype=torch.float32), corner.parameters())
        corners.append(corner)
    metric = Loss(cross_entropy, inputs, targets)

    def run() -> dict[str, Array]:
        return {"losses": loss_landscapes.planar_interpolation(*corners, metric, steps=41, deepcopy_model=True)}

    return run
