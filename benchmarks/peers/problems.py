"""What ours and the peers are given alike: trained networks with their data, and functions that count their calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from topolandscape.zoo import functions

if TYPE_CHECKING:
    from torch import Tensor, nn


def trained(network: np.ndarray, state: dict[str, np.ndarray]) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network of the zoo in a given state, in eval mode, and all 1797 rows of digits."""
    import torch

    from topolandscape import zoo

    module = zoo.network(str(network), seed=0)
    module.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    data = zoo.dataset("digits")
    inputs = torch.tensor(np.concatenate([data.inputs, data.test_inputs]))
    targets = torch.tensor(np.concatenate([data.targets, data.test_targets]))
    return module.eval(), inputs, targets


class Counted:
    """A function of the zoo that counts the points at which it is evaluated.

    A gradient counts as 2 d + 1 points, d being the number of coordinates: what central differences take.
    """

    def __init__(self, name: np.ndarray) -> None:
        self.known = functions[str(name)]
        self.calls = 0
        # Differences of fourth order, which are exact enough for searches that take differences of gradients.
        steps = np.array([-2.0, -1.0, 1.0, 2.0])[:, None] * 1e-4 * (self.known.high - self.known.low)[:, None, None]
        self._aside = steps * np.eye(self.known.dimension)[:, None, :]
        self._weights = np.array([1.0, -8.0, 8.0, -1.0]) / 12e-4 / (self.known.high - self.known.low)[:, None]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the losses of points (n, d); an array is needed, so that nobody gets gradients for nothing."""
        if not isinstance(points, np.ndarray):
            raise TypeError("an array is needed.")
        self.calls += len(points)
        return self.known.function(points)

    def at(self, point: np.ndarray) -> float:
        """Return the loss of one point (d,)."""
        return float(self(point[None])[0])

    def gradient_at(self, point: np.ndarray) -> np.ndarray:
        """Return the gradient at one point (d,)."""
        d = self.known.dimension
        self.calls += 2 * d
        losses = self.known.function((point + self._aside).reshape(-1, d)).reshape(d, 4)
        return (self._weights * losses).sum(axis=1)
