"""Architectures by name, and the seed paper's network of five weights."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from topolandscape.zoo.datasets import dataset

GRAMMAR = """\
mlp:64-16-10[,ACTIVATION][,nobias][,bn]          fully connected: inputs - hidden widths - outputs
linear:64-16-10[,nobias]                         the same without activation: a deep linear network
conv:1x8x8-8-16-10[,ACTIVATION][,nobias][,bn][,flatten]
                                                 channels x height x width - channels of 3x3 convolutions - outputs
ACTIVATION is relu (unless given), tanh, gelu, linear or quadratic."""


class Quadratic(nn.Module):
    """The activation x^2."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the squares."""
        return inputs**2


_ACTIVATIONS: dict[str, Callable[[], nn.Module] | None] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "linear": None,
    "quadratic": Quadratic,
}
_OPTIONS = {
    "mlp": (*_ACTIVATIONS, "nobias", "bn"),
    "linear": ("nobias",),
    "conv": (*_ACTIVATIONS, "nobias", "bn", "flatten"),
}
_LARGEST = 10**9  # parameters


def network(name: str, *, seed: int | None = None) -> nn.Module:
    """Return a new network of a named architecture.

    Parameters
    ----------
    name
        ``mlp:64-16-10``, ``mlp:64-16-10,tanh``, ``linear:64-16-10``, ``conv:1x8x8-8-16-10``, ...; see Notes.
    seed
        Seed of the initial weights; torch's own random state is left as it was. None: draw from that state.

    Returns
    -------
    torch.nn.Module
        In float32, initialised as torch does it, in training mode. It takes one flat row of inputs a sample.

    Notes
    -----
    Kind, sizes, then options in any order::

        mlp:64-16-10[,ACTIVATION][,nobias][,bn]
        linear:64-16-10[,nobias]
        conv:1x8x8-8-16-10[,ACTIVATION][,nobias][,bn][,flatten]

    ACTIVATION is relu (unless given), tanh, gelu, linear or quadratic; ``nobias`` leaves out all biases, ``bn`` puts
    batch norm before each activation (call ``.eval()`` before its loss is taken as a landscape). ``linear`` is
    ``mlp`` without activation. ``conv`` has 3x3 convolutions with padding 1, of 8 and 16 channels here, then the mean
    over the image (with ``flatten`` all its pixels) and a linear layer to 10 outputs.

    Examples
    --------
    >>> network("mlp:64-16-10,tanh", seed=0)
    Sequential(
      (linear1): Linear(in_features=64, out_features=16, bias=True)
      (tanh1): Tanh()
      (linear2): Linear(in_features=16, out_features=10, bias=True)
    )
    """
    kind, sizes, options = _parse(name)
    activation = next(
        (option for option in options if option in _ACTIVATIONS), "linear" if kind == "linear" else "relu"
    )
    build = _convolutional if kind == "conv" else _fully_connected
    try:
        with torch.device("meta"):  # no memory is taken
            parameters = sum(part.numel() for part in build(sizes, activation, options).parameters())
    except (RuntimeError, TypeError, OverflowError):  # more than torch can count
        parameters = 2**63
    if parameters > _LARGEST:
        raise ValueError(f"the network {name!r} has {parameters:.2g} parameters; at most {_LARGEST:.0g} are possible.")
    with nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        return build(sizes, activation, options)


def _layers_after(i: int, activation: str, norm: nn.Module | None) -> list[tuple[str, nn.Module]]:
    make = _ACTIVATIONS[activation]
    layers = [] if norm is None else [(f"norm{i}", norm)]
    return layers if make is None else [*layers, (f"{activation}{i}", make())]


def _fully_connected(sizes: Sequence[Sequence[int]], activation: str, options: Sequence[str]) -> nn.Module:
    widths = [size[0] for size in sizes]
    bias = "nobias" not in options
    layers: list[tuple[str, nn.Module]] = []
    for i, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        layers.append((f"linear{i}", nn.Linear(inputs, outputs, bias=bias)))
        if i < len(widths) - 1:
            layers += _layers_after(i, activation, nn.BatchNorm1d(outputs) if "bn" in options else None)
    return nn.Sequential(OrderedDict(layers))


def _convolutional(sizes: Sequence[Sequence[int]], activation: str, options: Sequence[str]) -> nn.Module:
    image, *channels, outputs = sizes
    widths = [image[0], *(size[0] for size in channels)]
    bias = "nobias" not in options
    layers: list[tuple[str, nn.Module]] = [("rows", nn.Flatten()), ("image", nn.Unflatten(1, tuple(image)))]
    for i, (inside, outside) in enumerate(pairwise(widths), start=1):
        layers.append((f"conv{i}", nn.Conv2d(inside, outside, kernel_size=3, padding=1, bias=bias)))
        layers += _layers_after(i, activation, nn.BatchNorm2d(outside) if "bn" in options else None)
    features = widths[-1]
    if "flatten" in options:
        features *= image[1] * image[2]
    else:
        layers.append(("mean", nn.AdaptiveAvgPool2d(1)))
    layers += [("features", nn.Flatten()), ("linear", nn.Linear(features, outputs[0], bias=bias))]
    return nn.Sequential(OrderedDict(layers))


def _parse(name: str) -> tuple[str, list[list[int]], list[str]]:
    """Return kind, sizes and options of a name, or say which part of it is wrong."""
    kind, _, rest = name.partition(":")
    text, *options = rest.split(",")
    if kind not in _OPTIONS:
        near = difflib.get_close_matches(kind, _OPTIONS, n=2, cutoff=0.5)
        hint = f"Did you mean {' or '.join(f'{k}:{rest}' for k in near)}? " if near and rest else ""
        raise ValueError(f"there is no network {name!r}. {hint}A network is named as in\n{GRAMMAR}")
    sizes = [_size(part, i, kind, name) for i, part in enumerate(text.split("-"))]
    fewest = 3 if kind == "conv" else 2
    if len(sizes) < fewest:
        raise ValueError(
            f"the network {name!r} has {len(sizes)} size(s); {kind} needs at least {fewest}, as in\n{GRAMMAR}"
        )
    for option in options:
        if option not in _OPTIONS[kind]:
            near = difflib.get_close_matches(option, _OPTIONS[kind], n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise ValueError(
                f"the network {name!r} has the option {option!r}; those of {kind} are {', '.join(_OPTIONS[kind])}{hint}"
            )
    named = [option for option in options if option in _ACTIVATIONS]
    if len(named) > 1:
        raise ValueError(f"the network {name!r} has the activations {' and '.join(named)}; give one.")
    return kind, sizes, options


def _size(part: str, place: int, kind: str, name: str) -> list[int]:
    numbers = part.split("x")
    is_image = kind == "conv" and place == 0
    if len(numbers) != (3 if is_image else 1) or not all(n.isascii() and n.isdigit() and int(n) > 0 for n in numbers):
        needed = "channels x height x width, as in 1x8x8" if is_image else "a positive whole number"
        raise ValueError(f"size {place + 1} of the network {name!r} is {part!r}; it needs to be {needed}.")
    return [int(n) for n in numbers]


# --------------------------------------------------------------------------------------------------------------
# Five weights on a grid
# --------------------------------------------------------------------------------------------------------------


class GridLandscape(NamedTuple):
    """A loss as a function of few weights, and the grid on which its barcode is published.

    Parameters
    ----------
    function
        Maps points (n, d), a tensor or an array, to losses, a tensor (n,).
    low, high
        Corners of the grid, d numbers each.
    shape
        Points along each coordinate; rows of the grid are counted in row-major order.
    """

    function: Callable[[Tensor | NDArray], Tensor]  # type: ignore[type-arg]
    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...]


def one_two_one_relu() -> GridLandscape:
    """Return the loss of the seed paper's 1-2-1 ReLU network on its grid of 2,160,000 points.

    The network is v1 relu(1.5 x + b1) + v2 relu(1.5 x + b2) + c and the coordinates are (b1, b2, v1, v2, c); the loss
    is the mean squared error on ``dataset("sine_regression")``, in float32.

    Returns
    -------
    GridLandscape
        Evaluate it in parts: a point takes 50 intermediate numbers a neuron.

    References
    ----------
    Barannikov, Korotin, Oganesyan, Emtsev and Burnaev (2019), "Barcodes as summary of loss function topology".

    Examples
    --------
    >>> landscape = one_two_one_relu()
    >>> landscape.shape
    (30, 36, 20, 10, 10)
    >>> landscape.function(torch.zeros(1, 5))
    tensor([6.7183])
    """
    data = dataset("sine_regression")
    inputs, targets = torch.tensor(data.inputs[:, 0]), torch.tensor(data.targets[:, 0])

    def loss(points: Tensor | NDArray) -> Tensor:  # type: ignore[type-arg]
        weights = points if isinstance(points, Tensor) else torch.tensor(points)
        b1, b2, v1, v2, c = weights.to(torch.float32).T[:, :, None]
        outputs = v1 * torch.relu(1.5 * inputs + b1) + v2 * torch.relu(1.5 * inputs + b2) + c
        return ((outputs - targets) ** 2).mean(dim=1)

    return GridLandscape(
        function=loss,
        low=(2.2, -4.0, -2.0, 1.1, -1.5),
        high=(8.0, 3.0, -0.2, 2.0, -0.6),
        shape=(30, 36, 20, 10, 10),
    )
