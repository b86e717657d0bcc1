"""What the network does at one point, as figures and words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from topolandscape.explore import network_figures as drawn
from topolandscape.explore.figures import Figure, thinned
from topolandscape.explore.layers import chain, names_of
from topolandscape.explore.live import SMALL, Live, accuracy_at, along_weights, losses_at, outputs_at
from topolandscape.explore.places import point
from topolandscape.structures import Floats

_ROWS = 2000  # of the data on which a prediction is drawn
_SIDE = 60  # points along each input


class Look(NamedTuple):
    """A network at a point.

    Parameters
    ----------
    said
        Its loss and accuracy, in a line.
    prediction
        What it makes of the data.
    network
        Its weights; None where it is no chain of a few linear layers.
    weights
        The loss along each of them; None where there are many.
    """

    said: str
    prediction: Figure
    network: Figure | None
    weights: Figure | None


def look(at: Live, said: Mapping[str, Any], *, picked: int | None = None, reach: float = 1.0) -> Look:
    """Return what a network does at a point.

    Parameters
    ----------
    at
        The network.
    said
        The point, as for `topolandscape.explore.places.point`.
    picked
        Number of a parameter that is marked.
    reach
        How far weights are moved, both ways.

    Returns
    -------
    Look
    """
    where = point(at, said)
    loss, accuracy = float(losses_at(at, where[None])[0]), accuracy_at(at, where)
    words = f"loss {loss:.6g}" + ("" if accuracy is None else f", accuracy {100 * accuracy:.2f}%")
    network = weights = None
    if len(where) <= SMALL:
        names = names_of(at.landscape)
        layers = chain(at.landscape)
        network = None if layers is None else drawn.network(layers, where, names, picked=picked)
        weights = drawn.along_weights(*along_weights(at, where, reach), where, names, picked=picked)
    return Look(words, prediction(at, where), network, weights)


def prediction(at: Live, where: Floats) -> Figure:
    """Return the figure of a prediction that fits the data: over one or two inputs, or against the targets."""
    import torch

    inputs, targets = (np.asarray(torch.as_tensor(part).detach().cpu()) for part in at.given.data)
    rows = thinned(len(inputs), _ROWS)
    inputs, targets = inputs[rows], targets[rows]
    of_classes = not np.issubdtype(targets.dtype, np.floating) and targets.ndim == 1
    if inputs.ndim == 2 and inputs.shape[1] == 1:
        places = np.linspace(inputs.min(), inputs.max(), 4 * _SIDE, dtype=inputs.dtype)
        outputs = outputs_at(at, where, places[:, None])
        return drawn.curve(inputs[:, 0], targets.reshape(len(targets), -1), places, outputs)
    if inputs.ndim == 2 and inputs.shape[1] == 2:
        low, high = inputs.min(axis=0), inputs.max(axis=0)
        border = 0.08 * (high - low)
        x, y = (np.linspace(a, b, _SIDE, dtype=inputs.dtype) for a, b in zip(low - border, high + border, strict=True))
        grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        outputs = outputs_at(at, where, grid)
        first = targets.reshape(len(targets), -1)[:, 0]
        return drawn.field(inputs, first, x, y, outputs, of_classes=of_classes and outputs.shape[1] > 1)
    outputs = outputs_at(at, where, inputs)
    if of_classes and outputs.shape[1] > 1:
        return drawn.confusion(targets, outputs)
    flat = targets.reshape(len(targets), -1).astype(np.float64)
    return drawn.against_targets(flat, outputs[:, : flat.shape[1]])
