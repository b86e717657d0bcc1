"""Numbers by which barcodes and networks of minima are compared: scores, barriers, and losses on a common scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.structures import Barcode, Floats, MinimaNetwork

Aggregate = Literal["mean", "sum", "max"]
# By their names, and by those of torch's functions.
_LOSSES = {"cross_entropy": "cross_entropy", "mse": "mse", "mse_loss": "mse"}


# --------------------------------------------------------------------------------------------------------------
# Bars
# --------------------------------------------------------------------------------------------------------------


def to_score(barcode: Barcode, *, aggregate: Aggregate = "mean") -> float:
    """Return one number for how hard minima are to leave: an aggregate of the lengths of the finite bars of degree 0.

    Barannikov et al. score a minimum by its bar. How they aggregate the bars of a network is not reproduced here word
    for word: the aggregate is ours, so scores are comparable among themselves only, and under the same aggregate.

    Parameters
    ----------
    barcode
        Of minima. `normalised` makes scores of networks with different losses comparable.
    aggregate
        ``"mean"``, ``"sum"`` or ``"max"`` of the lengths. A minimum that is left without climbing has no bar and does
        not count in the mean; ``bar_lengths(barcode, m).mean()`` counts it, but also the bar that never ends.

    Returns
    -------
    float
        0.0 where the only bar is the one that never ends: nothing hinders a descent.

    Raises
    ------
    ValueError
        There is no bar of degree 0, or several never end, so that what it takes to leave their minima is not known.

    Notes
    -----
    Deaths that were found by bending paths are upper bounds; so then are scores.

    References
    ----------
    Barannikov, Voronkova, Trofimov, Korotin, Sotnikov and Burnaev (2020), "Topological obstructions in neural
    networks' learning".

    Examples
    --------
    >>> code = Barcode.from_pairs([(0.0, float("inf")), (1.0, 3.0), (2.0, 6.0)])
    >>> to_score(code), to_score(code, aggregate="sum"), to_score(normalised(code, high=12.0))
    (3.0, 6.0, 0.25)
    """
    if aggregate not in get_args(Aggregate):
        raise ValueError(f"aggregate is {aggregate!r}; it needs to be one of {', '.join(get_args(Aggregate))}.")
    bars = barcode.filter(dim=0)
    endless = int(bars.essential.sum())
    if len(bars) == 0:
        raise ValueError("the barcode has no bar of degree 0; a score needs the bars of minima.")
    if endless > 1:
        raise ValueError(
            f"{endless} bars never end, so nothing is known of what it takes to leave their minima; join the "
            "components first, by paths between minima or by more neighbours."
        )
    lengths = bars.persistence[~bars.essential]
    if len(lengths) == 0:
        return 0.0
    return float({"mean": lengths.mean(), "sum": lengths.sum(), "max": lengths.max()}[aggregate])


def bar_lengths(barcode: Barcode, m: int) -> Floats:
    """Return for each minimum the length of its bar: how far one must climb to reach a lower one.

    Parameters
    ----------
    barcode
        Of a network of minima, or of samples.
    m
        How many minima, or samples, there are: ``len(network)``.

    Returns
    -------
    float64 array
        Row by row, shape (m,). Infinite for a minimum whose bar never ends, 0 for one without a bar.

    Raises
    ------
    ValueError
        A bar does not say at which minimum it is born, or names one that is not there.

    Examples
    --------
    Minima at 0, 3 and 2, joined by passes at 6 (0 and 1), 5 (1 and 2) and 10 (0 and 2):

    >>> from topolandscape.structures import SimplicialComplex
    >>> from topolandscape.topology.persistence import barcode
    >>> graph = SimplicialComplex(([[0], [1], [2]], [[0, 1], [0, 2], [1, 2]]), ([0.0, 3.0, 2.0], [6.0, 10.0, 5.0]))
    >>> bar_lengths(barcode(graph), 3)
    array([inf,  2.,  4.])
    """
    bars = barcode.filter(dim=0)
    if len(bars) and bars.birth_vertex.min() < 0:
        raise ValueError("the barcode does not say at which minima its bars are born; it needs to be computed here.")
    if len(bars) and bars.birth_vertex.max() >= m:
        raise ValueError(
            f"a bar is born at minimum {bars.birth_vertex.max()}, but there are {m}, counted from 0; give the number "
            "of minima of which this is the barcode."
        )
    lengths = np.zeros(m)
    lengths[bars.birth_vertex] = bars.persistence
    return lengths


def normalised(barcode: Barcode, *, high: float, low: float | None = None, high_name: str | None = None) -> Barcode:
    """Return the barcode with its losses mapped so that `low` becomes 0 and `high` becomes 1.

    Parameters
    ----------
    barcode
        Any.
    high
        Loss that becomes 1, for example the `constant_predictor_ceiling` of the data.
    low
        Loss that becomes 0. None: the lowest birth, so that lengths are shares of the range from the lowest minimum
        to `high`; 0.0: losses are shares of `high` itself.
    high_name
        What pictures call `high`, such as "constant predictor"; None: the number.

    Returns
    -------
    Barcode
        With the same minima and saddles; its provenance says what was mapped to 0 and to 1.

    Raises
    ------
    ValueError
        `high` is not above `low`, or one of them is not finite.

    Examples
    --------
    >>> code = Barcode.from_pairs([(0.5, float("inf")), (1.0, 2.0)])
    >>> normalised(code, high=2.5).persistence
    array([inf, 0.5])
    >>> normalised(code, low=0.0, high=2.5).birth
    array([0.2, 0.4])
    """
    low_name = "lowest birth" if low is None else f"{low:g}"
    if low is None:
        if len(barcode) == 0:
            raise ValueError("the barcode has no bars, so no lowest birth; give low.")
        low = float(barcode.birth.min())
    if not (np.isfinite([low, high]).all() and high > low):
        raise ValueError(f"low is {low:g} and high is {high:g}; both need to be finite, and high above low.")
    span = high - low
    names = {"low_name": low_name, "high_name": f"{high:g}" if high_name is None else high_name}
    provenance = dict(barcode.provenance) | {"normalised": {"low": low, "high": high, **names}}
    if "noise" in provenance:
        provenance["noise"] /= span
    return replace(
        barcode, birth=(barcode.birth - low) / span, death=(barcode.death - low) / span, provenance=provenance
    )


# --------------------------------------------------------------------------------------------------------------
# Barriers
# --------------------------------------------------------------------------------------------------------------


def barriers_above_higher(network: MinimaNetwork) -> Floats:
    """Return how far each path of a network climbs above the higher one of its ends.

    This is the barrier of barcodes: were there but the two minima, it would be the length of the higher one's bar.

    Parameters
    ----------
    network
        Minima and the passes found between them.

    Returns
    -------
    float64 array
        0 or more, shape (e,), in the order of `network.ends`. Upper bounds, as the passes are.

    Examples
    --------
    >>> from topolandscape.structures import Minima
    >>> minima = Minima([[0.0], [2.0]], [0.0, 1.0], [0.0, 0.0], [[1.0], [1.0]], [0, 0], ["minimum", "minimum"])
    >>> path = np.array([[0.0], [1.0], [2.0]])
    >>> network = MinimaNetwork(minima, [[0, 1]], [3.0], ["verified saddle"], [[1.0]], [path])
    >>> barriers_above_higher(network), barriers_above_mean(network)
    (array([2.]), array([2.5]))
    """
    return network.barriers - network.minima.values[network.ends].max(axis=1)


def barriers_above_mean(network: MinimaNetwork) -> Floats:
    """Return how far each path of a network climbs above the mean of its ends.

    This is the barrier of mode connectivity, where it is mostly taken on the straight segment; here on the path found.
    It exceeds that above the higher end by half the difference of the ends.

    Parameters
    ----------
    network
        Minima and the passes found between them.

    Returns
    -------
    float64 array
        0 or more, shape (e,), in the order of `network.ends`. Upper bounds, as the passes are.

    References
    ----------
    Ainsworth, Hayase and Srinivasa (2022), "Git Re-Basin: merging models modulo permutation symmetries", definition
    2.2.

    Examples
    --------
    >>> from topolandscape.structures import Minima
    >>> minima = Minima([[0.0], [2.0]], [0.0, 1.0], [0.0, 0.0], [[1.0], [1.0]], [0, 0], ["minimum", "minimum"])
    >>> path = np.array([[0.0], [1.0], [2.0]])
    >>> barriers_above_mean(MinimaNetwork(minima, [[0, 1]], [3.0], ["path maximum"], [[1.0]], [path]))
    array([2.5])
    """
    return network.barriers - network.minima.values[network.ends].mean(axis=1)


# --------------------------------------------------------------------------------------------------------------
# The ceiling
# --------------------------------------------------------------------------------------------------------------


def constant_predictor_ceiling(
    targets: ArrayLike, *, loss: str | Callable[..., Any], weights: ArrayLike | None = None
) -> float:
    """Return the smallest mean loss of a prediction that is the same for all rows.

    Where the last layer is linear with a bias, the loss convex and nothing is added for weight decay, no finite bar of
    degree 0 dies above it: from wherever one stands, shrinking the output weights to zero while moving the bias to the
    best constant never climbs above the start and this loss. A box that leaves that point out can have higher deaths.

    Parameters
    ----------
    targets
        For cross-entropy classes, whole numbers (n,), or their probabilities (n, c); for the squared error numbers,
        shape (n, ...), of which each of a row has a constant of its own.
    loss
        ``"cross_entropy"`` or ``"mse"``, or torch's function of that kind (`torch.nn.functional.cross_entropy` or
        ``mse_loss``), which average over rows, and the squared error also over the numbers of a row.
    weights
        What each row counts, shape (n,); None: all the same.

    Returns
    -------
    float
        For cross-entropy the entropy of the classes in nats; for the squared error the variance, averaged over the
        numbers of a row.

    Raises
    ------
    ValueError
        The loss is another one, or the targets do not fit it.

    Examples
    --------
    >>> round(constant_predictor_ceiling([0, 1, 1, 0], loss="cross_entropy"), 4)
    0.6931
    >>> constant_predictor_ceiling([[1.0, 0.0], [3.0, 0.0]], loss="mse")
    0.5
    """
    kind = _kind(loss)
    given = np.asarray(targets)
    if given.ndim == 0 or given.size == 0:
        raise ValueError(f"targets have shape {given.shape}; they need one entry for each of one or more rows.")
    if not np.issubdtype(given.dtype, np.number) or np.iscomplexobj(given) or not np.isfinite(given).all():
        raise ValueError(f"targets are {given.dtype}, or not all finite; they need to be finite real numbers.")
    shares = _shares(weights, len(given))
    if kind == "mse":
        rows = given.reshape(len(given), -1).astype(np.float64)
        return float((shares @ (rows - shares @ rows) ** 2).mean())
    if given.min() < 0:
        raise ValueError(f"the lowest target is {given.min()}; classes are counted from 0, and probabilities too.")
    if given.ndim == 1 and np.issubdtype(given.dtype, np.integer):
        classes = np.bincount(np.unique(given, return_inverse=True)[1], weights=shares)
    elif given.ndim == 2 and np.issubdtype(given.dtype, np.floating):
        classes = shares @ given
    else:
        raise ValueError(
            f"targets are {given.dtype} of shape {given.shape}; cross-entropy needs classes, whole numbers of shape "
            "(n,), or probabilities of shape (n, c)."
        )
    classes = classes[classes > 0]
    return float(classes @ np.log(classes.sum() / classes))


def _kind(loss: str | Callable[..., Any]) -> str:
    """Return which of the losses known here this is; a function counts only when it is torch's own."""
    name: Any = loss
    if callable(loss):
        name = getattr(loss, "__name__", None) if getattr(loss, "__module__", None) == "torch.nn.functional" else None
    if not isinstance(name, str) or name not in _LOSSES:
        raise ValueError(
            f"the best constant is not known for the loss {loss!r}; known are cross_entropy and mse, by these names "
            "or as torch.nn.functional.cross_entropy and mse_loss."
        )
    return _LOSSES[name]


def _shares(weights: ArrayLike | None, n: int) -> Floats:
    """Return what each row counts, with sum 1."""
    if weights is None:
        return np.full(n, 1 / n)
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (n,):
        raise ValueError(f"weights have shape {given.shape}; they need to be ({n},), one for each row of the targets.")
    if not (np.isfinite(given).all() and given.min() >= 0 and given.sum() > 0):
        raise ValueError("weights need to be finite, 0 or more, and not all 0.")
    return given / given.sum()
