"""Networks of many kinds for 8x8 images, beside those that the zoo names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import topolandscape as tl


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inside, outside, 1, stride=stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs."""
        return torch.relu(self.layers(inputs) + self.shortcut(inputs))


class Transformer(nn.Module):
    """An encoder layer over the eight lines of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.position = nn.Parameter(0.1 * torch.randn(8, 16))
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.out = nn.Linear(16, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs."""
        return self.out(self.encoder(self.embed(inputs.unflatten(1, (8, 8))) + self.position).mean(1))


class Recurrent(nn.Module):
    """A recurrent network over the eight lines of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = nn.RNN(8, 16, batch_first=True)
        self.out = nn.Linear(16, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs."""
        return self.out(self.lines(inputs.unflatten(1, (8, 8)))[0][:, -1])


def _image(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), *layers)


_OWN = {
    "MLP with layer norm": lambda: nn.Sequential(
        nn.Linear(64, 32),
        nn.LayerNorm(32),
        nn.GELU(),
        nn.Linear(32, 32),
        nn.LayerNorm(32),
        nn.GELU(),
        nn.Linear(32, 10),
    ),
    "LeNet": lambda: _image(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(64, 32),
        nn.Tanh(),
        nn.Linear(32, 10),
    ),
    "VGG": lambda: _image(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    ),
    "ResNet with batch norm": lambda: _image(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Residual(8, 8, 1),
        Residual(8, 16, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ),
    "transformer": Transformer,
    "RNN": Recurrent,
}
NETWORKS = ("mlp:64-16-10", "mlp:64-32-32-10", "mlp:64-128-128-10", "conv:1x8x8-8-8-8-10", *_OWN)


def network(name: str) -> nn.Module:
    """Return a network by its name here or in the zoo, in eval mode."""
    if name not in _OWN:
        return tl.zoo.network(name, seed=0).eval()
    torch.manual_seed(0)
    return _OWN[name]().eval()


def landscape(name: str, data: str = "digits", *, weight_decay: float = 0.0) -> tl.Landscape:
    """Return the landscape of a network on the training rows of a data set with classes."""
    rows = tl.zoo.dataset(data)
    module = network(name)
    freeze_norms(module, torch.from_numpy(rows.inputs), torch.from_numpy(rows.targets))
    return tl.Landscape.from_module(module, rows.inputs, rows.targets, loss=cross_entropy, weight_decay=weight_decay)


def freeze_norms(module: nn.Module, inputs: Tensor, targets: Tensor, *, steps: int = 100) -> None:
    """Fix what batch norm subtracts and divides by: mean and variance of all rows, in the network trained for a while.

    A new network divides by 1, so that its layers would not be normalised at all. All minima share the same numbers:
    with those of each parameter vector's own the loss of a row would depend on the other rows.
    """
    norms = [part for part in module.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))]
    if not norms:
        return
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all that is seen: one pass
    with torch.no_grad():
        module(inputs)
    module.eval()
