"""Data sets that come with a package already needed, or are drawn from a seed: nothing is downloaded."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from topolandscape.structures import Floats


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and targets for training and for testing, ready for a network.

    Parameters
    ----------
    name
        Its name.
    inputs, test_inputs
        float32, one flat row a sample, (n, n_inputs).
    targets, test_targets
        Classes, int64 (n,), or numbers, float32 (n, n_outputs).
    loss
        Name of the function in `torch.nn.functional` that fits the targets: ``"cross_entropy"``, or ``"mse"`` for
        ``mse_loss``.
    optimum
        For a teacher's data set the teacher's weights, in the order in which torch keeps them: the loss vanishes
        there. Else None.
    """

    # The arrays stay writable, unlike those of the nouns: torch.from_numpy warns of read-only ones.
    name: str
    inputs: NDArray[np.float32]
    targets: NDArray[Any]
    test_inputs: NDArray[np.float32]
    test_targets: NDArray[Any]
    loss: Literal["cross_entropy", "mse"]
    optimum: Floats | None = None

    @property
    def n_inputs(self) -> int:
        """Numbers that go into the network for one sample."""
        return self.inputs.shape[1]

    @property
    def n_outputs(self) -> int:
        """Numbers that come out: classes, or columns of the targets."""
        return int(self.targets.max()) + 1 if self.loss == "cross_entropy" else self.targets.shape[1]

    def __repr__(self) -> str:
        """Return one line: sizes and loss."""
        return (
            f"Dataset({self.name}: {len(self.inputs)} to train, {len(self.test_inputs)} to test, "
            f"{self.n_inputs} inputs, {self.n_outputs} outputs, {self.loss})"
        )


def dataset(name: str, *, seed: int = 0) -> Dataset:
    """Return a named data set.

    Parameters
    ----------
    name
        ``digits`` (8x8 images as 64 numbers), ``iris``, ``breast_cancer``, ``two_moons``, ``circles``,
        ``teacher_student`` or ``sine_regression``.
    seed
        Seed of the split into training and test samples, and of what is drawn.

    Returns
    -------
    Dataset
        One fifth of the samples are for testing, the same part of every class. Inputs are shifted and scaled to mean
        0 and standard deviation 1 over the training samples; a column that is constant there is 0 everywhere.

    Notes
    -----
    ``teacher_student``: 200 normal inputs (and 50 to test), and the outputs of a tanh network 2-3-1 with normal
    weights; nothing is scaled, so ``mlp:2-3-1,tanh`` reaches loss 0 at ``optimum``.

    ``sine_regression``: the 50 points of Barannikov et al. (2019), "Barcodes as summary of loss function topology",
    as they stand. There is nothing to test on, and `seed` changes nothing.

    Examples
    --------
    >>> dataset("digits")
    Dataset(digits: 1437 to train, 360 to test, 64 inputs, 10 outputs, cross_entropy)
    """
    if name not in _MAKERS:
        near = difflib.get_close_matches(name, DATASETS, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"there is no data set {name!r}; the data sets are {', '.join(DATASETS)}.{hint}")
    return _MAKERS[name](name, seed)


def _classes(name: str, seed: int) -> Dataset:
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    if name == "two_moons":
        inputs, targets = datasets.make_moons(n_samples=500, noise=0.15, random_state=seed)
    elif name == "circles":
        inputs, targets = datasets.make_circles(n_samples=500, noise=0.1, factor=0.5, random_state=seed)
    else:
        inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    train, test, targets, test_targets = train_test_split(
        inputs, targets.astype(np.int64), test_size=0.2, stratify=targets, random_state=seed
    )
    mean = train.mean(axis=0)
    scale = np.where(np.ptp(train, axis=0) > 0, train.std(axis=0), np.inf)  # a constant column becomes 0
    train, test = (((part - mean) / scale).astype(np.float32) for part in (train, test))
    return Dataset(name, train, targets, test, test_targets, "cross_entropy")


def _teacher_student(name: str, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    w1, b1, w2, b2 = (rng.normal(size=shape) for shape in ((3, 2), (3,), (1, 3), (1,)))
    inputs = rng.normal(size=(250, 2)).astype(np.float32)
    targets = (np.tanh(inputs @ w1.T + b1) @ w2.T + b2).astype(np.float32)
    optimum = np.concatenate([w1.ravel(), b1, w2.ravel(), b2])
    return Dataset(name, inputs[:200], targets[:200], inputs[200:], targets[200:], "mse", optimum)


def _sine_regression(name: str, seed: int) -> Dataset:
    rng = np.random.RandomState(6)  # the published numbers come from this generator
    sizes = rng.normal(size=2)
    rng.normal(size=2)  # drawn by the authors and not used
    constant = rng.normal()
    x = np.linspace(-np.pi, np.pi, 50)
    y = constant + sum(s * (np.sin(j * x) + np.cos(j * x)) for j, s in enumerate(sizes, start=1))
    none = np.zeros((0, 1), dtype=np.float32)
    return Dataset(name, x[:, None].astype(np.float32), y[:, None].astype(np.float32), none, none.copy(), "mse")


_MAKERS: dict[str, Callable[[str, int], Dataset]] = {
    "digits": _classes,
    "iris": _classes,
    "breast_cancer": _classes,
    "two_moons": _classes,
    "circles": _classes,
    "teacher_student": _teacher_student,
    "sine_regression": _sine_regression,
}
DATASETS = tuple(_MAKERS)
"""Names of the data sets."""
