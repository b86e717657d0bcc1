"""The parameters of a network as the weights and biases of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from topolandscape.structures import Integers

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape


class Layer(NamedTuple):
    """A linear layer by the numbers of its parameters.

    Parameters
    ----------
    weights
        From each input, a column, to each output, a row: numbers of parameters, (outputs, inputs).
    biases
        Numbers of the biases, (outputs,); empty where there are none.
    """

    weights: Integers
    biases: Integers


def chain(landscape: Landscape) -> list[Layer] | None:
    """Return the layers of a network that is a chain of linear layers, as far as its parameters tell; else None.

    Examples
    --------
    >>> import torch
    >>> from topolandscape.landscape.loss import Landscape
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1))
    >>> landscape = Landscape.from_module(
    ...     module, torch.zeros(1, 1), torch.zeros(1, 1), loss=torch.nn.functional.mse_loss
    ... )
    >>> [layer.weights.tolist() for layer in chain(landscape)]
    [[[0], [1]], [[4, 5]]]
    """
    layers: list[Layer] = []
    for block in landscape.blocks:
        numbers = np.arange(landscape.dimension)[block.entries].reshape(block.shape)
        if len(block.shape) == 2:
            if layers and len(layers[-1].weights) != block.shape[1]:
                return None
            layers.append(Layer(numbers, np.empty(0, np.int64)))
        elif len(block.shape) == 1 and layers and len(layers[-1].weights) == block.shape[0]:
            if len(layers[-1].biases):
                return None
            layers[-1] = layers[-1]._replace(biases=numbers)
        else:
            return None
    return layers or None


def names_of(landscape: Landscape) -> list[str]:
    """Return the name of every parameter: that of its block, and its place in it."""
    return [
        f"{block.name}[{', '.join(map(str, place))}]" for block in landscape.blocks for place in np.ndindex(block.shape)
    ]
