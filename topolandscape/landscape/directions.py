"""Along what to look: directions of a subspace, random ones, principal ones, or through given points."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.points import read_point, read_points
from topolandscape.structures import Floats

Normalisation = Literal["filter", "layer", "none"]
Seed = int | np.random.Generator


def affine_span(points: ArrayLike) -> tuple[Floats, Floats]:
    """Return an origin and orthonormal directions of the affine subspace through some points.

    Parameters
    ----------
    points
        Shape (d + 1, p), none of them in the span of the others.

    Returns
    -------
    tuple of float64 arrays
        Origin (p,), the first point; directions (d, p), by Gram and Schmidt: the k-th point lies in the first k - 1.

    Examples
    --------
    >>> origin, directions = affine_span([[1.0, 1.0, 0.0], [3.0, 1.0, 0.0], [4.0, 5.0, 0.0]])
    >>> directions.tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    array = read_points(points, None, "points")
    if len(array) < 2:
        raise ValueError(f"there are {len(array)} points; a subspace needs at least two.")
    steps = array[1:] - array[0]
    directions: list[Floats] = []
    for index, step in enumerate(steps):
        rest = step
        for _ in range(2):  # twice is enough for orthogonality to rounding (Kahan; Parlett 1980)
            for direction in directions:
                rest = rest - (rest @ direction) * direction
        length = float(np.linalg.norm(rest))
        if not length > 1e-9 * max(float(np.linalg.norm(step)), 1e-6 * float(np.abs(array).max())):
            what = "is the same as the first" if index == 0 else "lies in the span of the points before it"
            what = "lies on one line with the two before it" if index == 1 else what
            raise ValueError(
                f"points[{index + 1}] {what}: its distance from there is {length:.3g}. Give points in general position."
            )
        directions.append(rest / length + 0.0)
    return array[0].copy(), np.array(directions)


def random_directions(
    landscape: Landscape,
    n: int,
    *,
    seed: Seed,
    at: ArrayLike | None = None,
    normalisation: Normalisation = "filter",
    ignore_vectors: bool = True,
) -> Floats:
    """Draw random directions, scaled like the weights of a network.

    Parameters
    ----------
    landscape
        Of a module (for ``normalisation="none"`` any).
    n
        Number of directions.
    seed
        A whole number or a numpy Generator.
    at
        Point whose weights give the scale, (dimension,); None: the module's own.
    normalisation
        ``"filter"``: each row of a weight (the weights into one neuron or one channel) gets the norm of that row of
        `at`. ``"layer"``: each parameter gets the norm of that parameter. ``"none"``: standard normal numbers.
    ignore_vectors
        Directions do not move biases and other parameters of one axis (scales and shifts of norms), as in Li et al.;
        False: each of these gets the norm that it has in `at`. Does not concern ``"none"``.

    Returns
    -------
    float64 array
        One direction a row, shape (n, dimension). Rows of weights that are zero stay zero.

    Notes
    -----
    Li, Xu, Taylor, Studer and Goldstein (2018), "Visualizing the loss landscape of neural nets".

    Examples
    --------
    >>> import torch
    >>> landscape = Landscape.from_module(
    ...     torch.nn.Linear(2, 3), torch.zeros(4, 2), torch.zeros(4, 3), loss=torch.nn.functional.mse_loss
    ... )
    >>> directions = random_directions(landscape, 2, seed=0)
    >>> weights, drawn = landscape.point[:6].reshape(3, 2), directions[0, :6].reshape(3, 2)
    >>> bool(np.allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(weights, axis=1)))
    True
    """
    directions = np.random.default_rng(seed).standard_normal((whole_number(n, "n"), landscape.dimension))
    if normalisation == "none":
        return directions
    if normalisation not in ("filter", "layer"):
        raise ValueError(f"normalisation is {normalisation!r}; it needs to be filter, layer or none.")
    if not landscape.blocks:
        raise ValueError(
            f'normalisation="{normalisation}" needs the parameters of a module, which a function or a restriction has '
            'not. Use normalisation="none", or the landscape before its restriction.'
        )
    scale = landscape.point if at is None else read_point(at, landscape.dimension, "at")
    assert scale is not None
    for block in landscape.blocks:
        whole = len(block.shape) < 2
        if whole and ignore_vectors:
            directions[:, block.entries] = 0.0
            continue
        filters = 1 if whole or normalisation == "layer" else block.shape[0]
        drawn = directions[:, block.entries].reshape(len(directions), filters, -1)
        wanted = np.linalg.norm(scale[block.entries].reshape(filters, -1), axis=1)
        drawn *= (wanted / np.linalg.norm(drawn, axis=2))[:, :, None]
        directions[:, block.entries] = drawn.reshape(len(directions), -1)
    return directions


def principal_directions(
    points: ArrayLike, n: int, *, center: Literal["last", "mean"] = "last"
) -> tuple[Floats, Floats, Floats]:
    """Return the principal directions of a trajectory.

    Parameters
    ----------
    points
        Parameter vectors, recorded during training, shape (k, p).
    n
        Number of directions.
    center
        ``"last"``: differences from the last point, where training ended (Li et al. 2018); ``"mean"``: from the mean,
        the usual principal component analysis.

    Returns
    -------
    tuple of float64 arrays
        Origin (p,); orthonormal directions (n, p), the one of largest share first; share of the sum of squares that
        each explains, (n,). Signs are such that the largest entry of a direction is positive.

    Examples
    --------
    >>> origin, directions, shares = principal_directions([[0, 3], [0, 2], [0, 1]], 1)
    >>> origin.tolist(), directions.tolist(), shares.tolist()
    ([0.0, 1.0], [[0.0, 1.0]], [1.0])
    """
    array = read_points(points, None, "points")
    if center not in ("last", "mean"):
        raise ValueError(f"center is {center!r}; it needs to be last or mean.")
    origin = array[-1].copy() if center == "last" else array.mean(axis=0)
    _, extent, axes = np.linalg.svd(array - origin, full_matrices=False)
    rank = int((extent > 1e-12 * max(float(extent[0]), 1e-300)).sum())
    if whole_number(n, "n") > rank:
        raise ValueError(f"{n} directions were asked for, but the {len(array)} points extend in {rank}; ask for fewer.")
    return origin, signed(axes[:n]), extent[:n] ** 2 / (extent**2).sum()


def signed(directions: Floats) -> Floats:
    """Turn each direction so that its largest entry is positive."""
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return directions * signs[:, None] + 0.0


def unit(directions: Floats) -> Floats:
    """Return vectors (m, p) of length 1; those of no length as they are."""
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    return directions / np.where(length > 0, length, 1.0)


def whole_number(number: int, name: str, least: int = 1) -> int:
    """Return a whole number; raise when it is none, or too small."""
    if not isinstance(number, (int, np.integer)) or number < least:
        raise ValueError(f"{name} is {number!r}; it needs to be a whole number, {least} or more.")
    return int(number)
