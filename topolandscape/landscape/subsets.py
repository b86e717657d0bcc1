"""The same points, with the loss on some of the rows of the data."""

from __future__ import annotations

import numpy as np

from topolandscape.landscape.directions import Seed, whole_number
from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats, LossSamples


def values_on_subsets(
    landscape: Landscape,
    samples: LossSamples,
    *,
    seed: Seed,
    rows: int | None = None,
    repetitions: int = 20,
    progress: bool | None = None,
) -> Floats:
    """Return the losses of samples on random subsets of the rows of the data.

    `data_band` reads from them how far the bars may be from those of the expected loss.

    Parameters
    ----------
    landscape
        Of a module on data in memory, with all its parameters: the one that was sampled, or of which a subspace was.
    samples
        Points of it.
    seed
        A whole number or a numpy Generator.
    rows
        Rows of a subset, drawn without replacement. None: half of all.
    repetitions
        How many subsets.
    progress
        None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    float64 array
        Shape (repetitions, n), with the weight decay of the landscape.

    Raises
    ------
    ValueError
        The landscape has no rows to choose from, or not so many, or the samples are of another one.

    Notes
    -----
    Half-samples (McCarthy 1969): the mean over half of N rows differs from that over all by as much, in variance, as
    that over N independent rows from its expectation.

    Examples
    --------
    >>> import torch
    >>> from topolandscape.landscape.grids import sample_grid
    >>> module = torch.nn.Linear(1, 1, bias=False)
    >>> inputs, targets = torch.ones(4, 1), torch.tensor([[1.0], [1.0], [3.0], [3.0]])
    >>> landscape = Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.mse_loss)
    >>> samples = sample_grid(landscape, low=0, high=4, shape=3)
    >>> samples.values.tolist(), values_on_subsets(landscape, samples, seed=0, rows=1, repetitions=2).tolist()
    ([5.0, 1.0, 5.0], [[9.0, 1.0, 1.0], [1.0, 1.0, 9.0]])
    """
    if landscape.rows is None:
        raise ValueError(
            "this landscape is of a function, and has no rows to choose from; give one of a module on data."
        )
    whole_number(repetitions, "repetitions")
    rows = max(1, landscape.rows // 2) if rows is None else rows
    points = samples.parameters()
    seeds = np.random.default_rng(seed).integers(2**63, size=repetitions)
    return np.array([landscape.subset(rows, seed=int(s)).values(points, progress=progress) for s in seeds])
