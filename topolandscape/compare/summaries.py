"""What is said of a barcode or a merge tree in few numbers, or in one curve."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.compare.scores import to_score
from topolandscape.structures import Barcode, Floats, Integers, MergeTree


def summary(barcode: Barcode, *, tree: MergeTree | None = None, min_persistence: float = 0.0) -> dict[str, float]:
    """Return the numbers by which barcodes of minima are compared, by their names: a row of a table.

    Parameters
    ----------
    barcode
        Its bars of degree 0 are summed up.
    tree
        The merge tree of the same samples or network; None: there is no ``smad``.
    min_persistence
        Leave out shorter bars, for example those within twice the noise of the losses. `smad` is that of all minima.

    Returns
    -------
    dict
        ``bars``, ``endless_bars``: how many there are, and how many of them never end; ``lowest_birth``;
        ``longest_bar``, of those that end; `total_persistence`; `persistent_entropy`; `to_score`; `smad`. NaN where
        there is no such number: the lowest birth of no bars, the score where several bars never end.

    Examples
    --------
    >>> code = Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0), (2.0, 4.0)])
    >>> {name: round(value, 3) for name, value in summary(code).items()}  # doctest: +NORMALIZE_WHITESPACE
    {'bars': 3, 'endless_bars': 1, 'lowest_birth': 0.0, 'longest_bar': 2.0, 'total_persistence': 4.0,
     'persistent_entropy': 0.693, 'to_score': 2.0}
    """
    code = barcode.filter(dim=0, min_persistence=min_persistence)
    endless = int(code.essential.sum())
    result = {
        "bars": len(code),
        "endless_bars": endless,
        "lowest_birth": float(code.birth.min()) if len(code) else math.nan,
        "longest_bar": float(_lengths(code, 0).max(initial=0.0)),
        "total_persistence": total_persistence(code),
        "persistent_entropy": persistent_entropy(code),
        "to_score": to_score(code) if len(code) and endless <= 1 else math.nan,
    }
    return result if tree is None else result | {"smad": smad(tree)}


def total_persistence(barcode: Barcode, *, p: float = 1.0, dim: int = 0) -> float:
    """Return the sum of the p-th powers of the lengths of the bars that end.

    Parameters
    ----------
    barcode
        Any.
    p
        Power, above 0. The larger, the less short bars count.
    dim
        Degree of the bars.

    Returns
    -------
    float
        0.0 where no bar ends.

    Raises
    ------
    ValueError
        `p` is not above 0.

    References
    ----------
    Cohen-Steiner, Edelsbrunner, Harer and Mileyko (2010), "Lipschitz functions have L_p-stable persistence".

    Examples
    --------
    >>> code = Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0), (2.0, 5.0)])
    >>> total_persistence(code), total_persistence(code, p=2)
    (5.0, 13.0)
    """
    if not p > 0:
        raise ValueError(f"p is {p}; a power above 0 is needed. How many bars there are is len(barcode).")
    return float((_lengths(barcode, dim) ** p).sum())


def persistent_entropy(barcode: Barcode, *, dim: int = 0) -> float:
    """Return the entropy of the lengths of the bars that end, each as a share of their sum.

    Parameters
    ----------
    barcode
        Any.
    dim
        Degree of the bars.

    Returns
    -------
    float
        In nats: 0.0 for one bar or none, log b for b bars of the same length. The scale of the loss does not count.

    References
    ----------
    Chintakunta, Gentimis, Gonzalez-Diaz, Jimenez and Krim (2015), "An entropy-based persistence barcode".

    Examples
    --------
    >>> round(persistent_entropy(Barcode.from_pairs([(0.0, 1.0), (5.0, 6.0), (2.0, 4.0)])) / math.log(2), 6)
    1.5
    """
    lengths = _lengths(barcode, dim)
    shares = lengths[lengths > 0] / lengths.sum() if lengths.any() else lengths[:0]
    return float(-(shares @ np.log(shares))) + 0.0  # no -0.0


def smad(tree: MergeTree) -> float:
    """Return the saddle-minimum average distance: how far above its minima the next saddle lies, on average.

    Each minimum counts with the climb to the saddle at which its basin meets another one, whichever of the two is
    lower. A bar goes on to the saddle where a lower minimum is met, so lengths of bars are no less than these climbs.

    Parameters
    ----------
    tree
        A merge tree. Divide by the range of the losses to compare landscapes of different ones, as the authors do.

    Returns
    -------
    float
        0.0 where there are no saddles. A minimum that is alone in its component does not count.

    References
    ----------
    The authors of Landscaper (2026), arXiv:2602.07135.

    Examples
    --------
    Minima at 0, 1 and 2; the last two meet at 3, and the lowest at 5:

    >>> nodes = [0, 1, 2, 3, 4]
    >>> smad(MergeTree(nodes, nodes, [0.0, 1.0, 2.0, 3.0, 5.0], [4, 3, 3, 4, -1], [1] * 5, [0, 1, 2, 1, 0]))
    2.6666666666666665
    """
    joined = np.flatnonzero(tree.is_leaf & (tree.parent >= 0))
    return float((tree.value[tree.parent[joined]] - tree.value[joined]).mean()) if len(joined) else 0.0


def betti_curve(barcode: Barcode, losses: ArrayLike, *, dim: int = 0) -> Integers:
    """Return how many classes there are at each of some losses: in degree 0, components of the sublevel set.

    Parameters
    ----------
    barcode
        Any.
    losses
        Shape (q,).
    dim
        Degree of the bars.

    Returns
    -------
    int64 array
        Bars [birth, death) that hold each loss, shape (q,).

    Examples
    --------
    >>> betti_curve(Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0)]), [-1, 0, 1, 2, 3])
    array([0, 1, 2, 2, 1])
    """
    bars, at = barcode.filter(dim=dim), np.asarray(losses, dtype=np.float64)
    born, dead = (np.searchsorted(np.sort(ends), at, side="right") for ends in (bars.birth, bars.death))
    return (born - dead).astype(np.int64)


def persistence_landscapes(barcode: Barcode, losses: ArrayLike, *, n: int = 5, dim: int = 0) -> Floats:
    """Return the first persistence landscapes at some losses: curves that can be averaged over barcodes.

    Over each bar that ends stands a tent, whose top lies above the middle of the bar and is half as high as the bar is
    long; the k-th landscape is at each loss the k-th highest tent.

    Parameters
    ----------
    barcode
        Any.
    losses
        At equal distances and increasing, shape (q,).
    n
        How many landscapes.
    dim
        Degree of the bars.

    Returns
    -------
    float64 array
        In units of the loss, shape (n, q).

    Raises
    ------
    ValueError
        The losses are not at equal distances.

    References
    ----------
    Bubenik (2015), "Statistical topological data analysis using persistence landscapes"; computed by gudhi, whose
    factor of the square root of 2 is taken out.

    Examples
    --------
    >>> persistence_landscapes(Barcode.from_pairs([(0.0, 4.0), (1.0, 3.0)]), [0, 1, 2, 3, 4], n=2).round(6).tolist()
    [[0.0, 1.0, 2.0, 1.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0]]
    """
    from gudhi.representations.vector_methods import Landscape

    at = _even(losses, "losses")
    tool = Landscape(num_landscapes=n, resolution=len(at), sample_range=[at[0], at[-1]], keep_endpoints=True)
    flat = tool.fit_transform([_ending(barcode, dim)])
    return np.asarray(flat).reshape(n, len(at)) / math.sqrt(2)


def persistence_image(
    barcode: Barcode, births: ArrayLike, lengths: ArrayLike, *, bandwidth: float, dim: int = 0
) -> Floats:
    """Return the persistence image: bars that end as Gaussian spots in the plane of birth and length.

    Parameters
    ----------
    barcode
        Any.
    births, lengths
        Where the pixels lie, at equal distances and increasing, shapes (q,) and (r,).
    bandwidth
        Standard deviation of a spot, in units of the loss.
    dim
        Degree of the bars.

    Returns
    -------
    float64 array
        Shape (r, q), a row for each length. A spot weighs as much as its bar is long, so that bars without length
        leave none and the image is stable.

    Raises
    ------
    ValueError
        The pixels are not at equal distances, or the bandwidth is not above 0.

    References
    ----------
    Adams et al. (2017), "Persistence images: a stable vector representation of persistent homology"; computed by gudhi.

    Examples
    --------
    >>> image = persistence_image(Barcode.from_pairs([(1.0, 3.0)]), [0, 1, 2], [1, 2], bandwidth=0.5)
    >>> (image / image.max()).round(3).tolist()
    [[0.018, 0.135, 0.018], [0.135, 1.0, 0.135]]
    """
    from gudhi.representations.vector_methods import PersistenceImage

    if not 0 < bandwidth < math.inf:
        raise ValueError(
            f"bandwidth is {bandwidth}; it needs to be above 0, a standard deviation in units of the loss."
        )
    x, y = _even(births, "births"), _even(lengths, "lengths")
    bars = _ending(barcode, dim)
    if len(bars) == 0:
        return np.zeros((len(y), len(x)))
    tool = PersistenceImage(
        bandwidth=bandwidth,
        weight=lambda point: point[1],
        resolution=[len(x), len(y)],
        im_range=[x[0], x[-1], y[0], y[-1]],
    )
    return np.asarray(tool.fit_transform([bars])).reshape(len(y), len(x))


def _ending(barcode: Barcode, dim: int) -> Floats:
    """Return births and deaths of the bars that end, a fresh array (b, 2)."""
    bars = barcode.filter(dim=dim)
    return np.column_stack([bars.birth, bars.death])[~bars.essential]


def _lengths(barcode: Barcode, dim: int) -> Floats:
    return np.diff(_ending(barcode, dim), axis=1)[:, 0]


def _even(values: ArrayLike, name: str) -> Floats:
    """Return values that are at equal distances, as gudhi takes them."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not array[1] > array[0]:
        raise ValueError(
            f"{name} have shape {array.shape}; two or more are needed, increasing, as from numpy.linspace."
        )
    if not np.allclose(array, np.linspace(array[0], array[-1], len(array)), rtol=0, atol=1e-6 * (array[1] - array[0])):
        raise ValueError(f"{name} are not at equal distances; take numpy.linspace(low, high, n).")
    return array
