"""How alike trained networks are: what they give, and how well a trained curve connects them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike

from topolandscape.landscape.data import ROWS_AT_ONCE
from topolandscape.landscape.descent import descend
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.passes import straight_paths
from topolandscape.landscape.points import read_points
from topolandscape.structures import Floats

Of = Literal["loss", "error"]


# --------------------------------------------------------------------------------------------------------------
# What networks give
# --------------------------------------------------------------------------------------------------------------


def network_outputs(landscape: Landscape, points: ArrayLike, inputs: Any) -> Floats:
    """Return what the network makes of inputs at each of many parameter vectors.

    Parameters
    ----------
    landscape
        Of a module.
    points
        Shape (m, dimension).
    inputs
        A tensor or an array, one row a sample.

    Returns
    -------
    float64 array
        Shape (m, rows, ...): for classes one score each, before the loss makes probabilities of them.

    Raises
    ------
    ValueError
        The landscape is of a function.

    Examples
    --------
    >>> module = torch.nn.Linear(1, 1)
    >>> inputs, targets = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)
    >>> landscape = Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.mse_loss)
    >>> network_outputs(landscape, [[2.0, 0.5], [0.0, 1.0]], inputs).tolist()
    [[[2.5], [6.5]], [[1.0], [1.0]]]
    """
    rows = read_points(points, landscape.dimension, "points")
    return np.stack([_outputs(landscape.module_at(row), torch.as_tensor(inputs)) for row in rows])


def _outputs(module: torch.nn.Module, inputs: torch.Tensor) -> Floats:
    """Return what a module makes of inputs, as many rows at once as fit the caches."""
    parameter = next(module.parameters())
    given = inputs.to(parameter.device, parameter.dtype if inputs.is_floating_point() else None)
    with torch.no_grad():
        # Some modules change what they are given.
        parts = [module(part.clone()).double().cpu().numpy() for part in torch.split(given, ROWS_AT_ONCE)]
    return np.concatenate(parts)


def linear_cka(features: Sequence[ArrayLike] | Floats) -> Floats:
    """Return the linear centred kernel alignment between each two of some sets of features of the same rows.

    Parameters
    ----------
    features
        For each network what a layer of it gives, shape (rows, features); layers may differ in width.

    Returns
    -------
    float64 array
        Symmetric, shape (m, m), between 0 and 1; 1 where features agree but for a rotation, a shift and a common
        factor. NaN where they are the same for all rows.

    Raises
    ------
    ValueError
        Features have not as many rows each, or are not finite.

    Notes
    -----
    ``|X^T Y|^2 / (|X^T X| |Y^T Y|)`` with Frobenius norms and columns shifted to mean 0 (Kornblith, Norouzi, Lee and
    Hinton 2019, "Similarity of neural network representations revisited").

    Examples
    --------
    >>> features = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    >>> linear_cka([features, 5 * features[:, ::-1] + 1]).round(9).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    centred: list[Floats] = []
    for i, given in enumerate(features):
        array = np.asarray(given, dtype=np.float64)
        array = array.reshape(len(array), -1)
        if centred and len(array) != len(centred[0]):
            raise ValueError(f"features[{i}] has {len(array)} rows, features[0] {len(centred[0])}; give the same rows.")
        if not np.isfinite(array).all():
            raise ValueError(f"features[{i}] is not finite everywhere; leave out networks that diverged.")
        centred.append(array - array.mean(axis=0))
    m = len(centred)
    products = np.empty((m, m))
    for i in range(m):
        for j in range(i, m):
            products[i, j] = products[j, i] = np.linalg.norm(centred[i].T @ centred[j])
    with np.errstate(invalid="ignore"):
        return products**2 / np.outer(np.diag(products), np.diag(products))


def disagreement(outputs: ArrayLike) -> Floats:
    """Return the share of rows to which two networks give different classes, for each two of some networks.

    Parameters
    ----------
    outputs
        One score a class, shape (m, rows, classes).

    Returns
    -------
    float64 array
        Symmetric, shape (m, m), between 0 and 1.

    Raises
    ------
    ValueError
        The outputs have another shape, or there is one class.

    Examples
    --------
    >>> disagreement([[[1.0, 0.0], [0.0, 1.0]], [[3.0, 2.0], [1.0, 0.0]]]).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    scores = np.asarray(outputs, dtype=np.float64)
    if scores.ndim != 3 or scores.shape[2] < 2:
        raise ValueError(f"outputs have shape {scores.shape}; they need to be (networks, rows, two classes or more).")
    classes = scores.argmax(axis=2)
    return (classes[:, None] != classes[None]).mean(axis=2)


# --------------------------------------------------------------------------------------------------------------
# How well they are connected
# --------------------------------------------------------------------------------------------------------------


def bezier_paths(
    landscape: Landscape,
    starts: ArrayLike,
    ends: ArrayLike,
    k: int = 21,
    *,
    steps: int = 500,
    learning_rate: float = 0.01,
    batch: int | None = None,
    seed: int | np.random.Generator,
    progress: bool | None = None,
) -> Floats:
    """Return points on quadratic Bezier curves, each trained for a low mean loss along it.

    Parameters
    ----------
    landscape
        Any.
    starts, ends
        Shape (b, dimension).
    k
        Points a curve, with the ends; 3 or more.
    steps, learning_rate
        Of Adam, which moves the middle control points; each step takes one gradient a curve.
    batch
        Rows of a mini-batch, drawn anew for each step, the same for all curves; None: all rows.
    seed
        Of the places on the curves at which these gradients are taken, and of mini-batches: a whole number or a numpy
        Generator.
    progress
        None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

    Returns
    -------
    float64 array
        Shape (b, k, dimension), at equal steps of the curves' parameter; the first and last are the ends themselves.

    Raises
    ------
    ValueError
        Mini-batches are asked for of a landscape without data, or of more rows than there are.

    Notes
    -----
    ``(1 - u)^2 start + 2 u (1 - u) middle + u^2 end`` with u drawn uniformly for each step and curve (Garipov,
    Izmailov, Podoprikhin, Vetrov and Wilson 2018, "Loss surfaces, mode connectivity, and fast ensembling of DNNs");
    the middle begins halfway. All curves are trained at once. What is low is the mean along a curve, not its highest
    loss: for passes use `topolandscape.lower_paths`.

    A landscape has one set of running statistics of batch norm, those of its module; Garipov et al. set them anew at
    each point of a curve, which is another function.

    Examples
    --------
    A ring of minima, whose middle is left aside:

    >>> ring = Landscape.from_function(lambda x: ((x**2).sum(1) - 1) ** 2, 2)
    >>> paths = bezier_paths(ring, [[1.0, 0.0]], [[-0.6, 0.8]], steps=200, seed=0, progress=False)
    >>> bool(ring.values(paths[0]).max() < ring.values([[0.2, 0.4]])[0] / 5)
    True
    """
    first, middle, last = (part.copy() for part in straight_paths(starts, ends, 3).swapaxes(0, 1))
    # `descend` asks for gradients only.
    curves = cast(Landscape, _Curves(landscape, batch, np.random.default_rng(seed)))
    points = np.concatenate([first, middle, last], axis=1)
    found = descend(curves, points, steps=steps, learning_rate=learning_rate, progress=progress)
    middle = _controls(found.ends)[1]
    u = np.linspace(0.0, 1.0, k)[None, :, None]
    return np.asarray(_on_curve(first[:, None], middle[:, None], last[:, None], u))


class _Curves:
    """The landscape of Bezier curves: a point is the three control points of one, and only the middle one moves."""

    tasks = None

    def __init__(self, landscape: Landscape, batch: int | None, rng: np.random.Generator) -> None:
        self.landscape, self.batch, self.rng = landscape, batch, rng

    def gradients(self, points: Floats, *, progress: bool | None = None) -> tuple[Floats, Floats]:
        """Return losses and gradients at one place, drawn at random, on each curve."""
        u = self.rng.uniform(size=(len(points), 1))
        seen = self.landscape
        if self.batch is not None:
            seen = seen.subset(self.batch, seed=int(self.rng.integers(2**63)))
        values, gradients = seen.gradients(_on_curve(*_controls(points), u), progress=progress)
        still = np.zeros_like(gradients)
        return values, np.concatenate([still, 2 * u * (1 - u) * gradients, still], axis=1)


def _controls(points: Floats) -> tuple[Floats, Floats, Floats]:
    first, middle, last = np.split(points, 3, axis=1)
    return first, middle, last


def _on_curve(first: Floats, middle: Floats, last: Floats, u: Floats) -> Floats:
    return (1 - u) ** 2 * first + 2 * u * (1 - u) * middle + u**2 * last


def mode_connectivity(landscape: Landscape, paths: ArrayLike, *, of: Of = "loss") -> Floats:
    """Return how well paths connect their ends: below 0 over a barrier, above 0 where the ends could be lower.

    Parameters
    ----------
    landscape
        Any.
    paths
        Shape (b, k, dimension), for example of `bezier_paths`.
    of
        ``"loss"``; or ``"error"``: the share of rows that are classified wrongly, as in the paper, where it is in per
        cent.

    Returns
    -------
    float64 array
        Shape (b,): the mean of the two ends less the loss where it differs most from that mean. NaN where a loss is
        not finite.

    Notes
    -----
    Equation 4 of Yang, Hodgkinson, Theisen, Zou, Gonzalez, Ramchandran and Mahoney (2021), "Taxonomizing local versus
    global structure in neural network loss landscapes", which takes 5 points of a Bezier curve; more can only take it
    further from 0. `topolandscape.compare.barriers_above_mean` is the same barrier with the other sign, and on paths
    that were bent until their highest loss was lowest.

    Examples
    --------
    >>> well = Landscape.from_function(lambda x: (x[:, 0] ** 2 - 1) ** 2, 1)
    >>> mode_connectivity(well, [[[-1.0], [0.0], [1.0]]]).tolist()
    [-1.0]
    >>> mode_connectivity(Landscape.from_function(lambda x: x[:, 0] ** 2, 1), [[[-1.0], [0.0], [1.0]]]).tolist()
    [1.0]
    """
    if of not in get_args(Of):
        raise ValueError(f"of is {of!r}; it needs to be one of {', '.join(get_args(Of))}.")
    points = np.asarray(paths, dtype=np.float64)
    if points.ndim != 3 or points.shape[1] < 3:
        raise ValueError(f"paths have shape {points.shape}; they need to be (b, k, dimension), k at least 3.")
    b, k, p = points.shape
    if of == "loss":
        losses = landscape.values(points.reshape(b * k, p), progress=False)
    else:
        losses = 1 - landscape.accuracies(points.reshape(b * k, p), progress=False)[1]
    losses = losses.reshape(b, k)
    below = (losses[:, :1] + losses[:, -1:]) / 2 - losses
    furthest = below[np.arange(b), np.abs(below).argmax(axis=1)]
    return np.where(np.isfinite(losses).all(axis=1), furthest, np.nan)
