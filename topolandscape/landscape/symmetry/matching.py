"""Copies brought together: by their weights, or by what their units answer to inputs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from topolandscape.landscape.directions import Seed
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.symmetry.balance import balance, unbalance
from topolandscape.landscape.symmetry.elements import (
    CONVOLUTIONS,
    TRANSPOSED,
    Arrays,
    Group,
    Place,
    Symmetry,
    act_on,
    arrays_of,
    entries_of,
    first_of,
    pairs_of,
    pieces_of,
    points_of,
)
from topolandscape.structures import Floats, Integers

# Sweeps of coordinate descent; a handful is usual.
MATCHING_SWEEPS = 100


def align(symmetry: Symmetry, points: ArrayLike, references: ArrayLike, *, seed: Seed) -> Floats:
    """Return the copies of points that lie nearest to some references, by weight matching.

    Parameters
    ----------
    symmetry
        Of the landscape of the points.
    points, references
        Shape (dimension,) or (n, dimension): one reference for each point, one for all, or one point for all
        references.
    seed
        Orders in which the groups are gone through. A whole number or a numpy Generator.

    Returns
    -------
    float64 array
        One copy for each pair, (n, dimension), or (dimension,) if there is only one of either.

    Notes
    -----
    Ainsworth, Hayase and Srinivasa (2022), "Git Re-Basin": one group after the other is permuted so that the inner
    product with the reference is largest, a linear assignment, until nothing changes. Signs are chosen together with
    the permutation: units i and j gain the absolute value of their inner product. Scales: both are brought to the
    balanced form of `canonical`, matched there, and the copy given the scales of the reference. Of two starts the
    better one is taken: the point as it is, and the groups matched one after the other from the inputs on, by the
    weights from those that are done. The second one finds every copy of the reference in general position.

    With one group that has each parameter on one axis only (one hidden layer) no copy is nearer in the balanced form,
    and so, without scales, none at all. With more it is a local optimum, which depends on the seed; finding the best
    one is NP-hard. Where a parameter has the same units on both axes, so is matching one group; it is then matched as
    if one axis stood still, and left if that is no gain. Never is the balanced copy further away than the balanced
    point.

    O(p h + h^3) for each pair and sweep, p being the parameters and h the units of a group; a few sweeps.

    Examples
    --------
    >>> from topolandscape.landscape.pure import Block
    >>> from topolandscape.landscape.symmetry import Scaling
    >>> places = Place("in", 0, 0, 1), Place("out", 1, 0, 1)
    >>> group = Group("in", 2, True, places, (Scaling("sign", places[:1], places[1:]),))
    >>> blocks = Block("in", slice(0, 4), (2, 2)), Block("out", slice(4, 6), (1, 2))
    >>> align(Symmetry(6, blocks, (group,)), [1, 2, 3, 4, 5, 6], [-3, -4, 1, 2, -6, 5], seed=0).tolist()
    [-3.0, -4.0, 1.0, 2.0, -6.0, 5.0]
    """
    rows, targets, shape = pairs_of(symmetry, points, references, "references")
    orders = _orders(symmetry, seed)

    def aligned(own: Arrays, others: Arrays) -> Floats:
        balance(symmetry, own)
        scales = balance(symmetry, others)
        _match(symmetry, own, others, orders)
        unbalance(symmetry, own, scales)
        return points_of(symmetry, own)

    return np.concatenate([aligned(*part) for part in pieces_of(symmetry, rows, targets)]).reshape(shape)


def align_by_activations(
    landscape: Landscape, symmetry: Symmetry, points: ArrayLike, references: ArrayLike, inputs: Any
) -> Floats:
    """Return the copies of points whose hidden units do on some inputs what those of references do.

    Parameters
    ----------
    landscape
        Of the whole module.
    symmetry
        Of this landscape.
    points, references
        As for `align`.
    inputs
        What the module is called with, as a tensor or an array; a few hundred rows are enough as a rule.

    Returns
    -------
    float64 array
        One copy for each pair, (n, dimension), or (dimension,) if there is only one of either.

    Raises
    ------
    ValueError
        The units of a group are not read by a fully connected or convolutional layer of torch.

    Notes
    -----
    Li, Yosinski, Clune, Lipson and Hopcroft (2016), "Convergent learning"; Ainsworth et al. (2022). Units are
    assigned so that the sum of the correlations of what the next layers read of them is largest, of the absolute
    correlations where signs may change. Every group stands for itself, so this is the best assignment of its kind,
    whatever the depth; but not the nearest copy. Units that are constant on the inputs (dead ones) correlate with
    none, and take the places that are left. Scales, and signs that do not show in what is read, are then chosen by
    the weights as in `align`. Two passes over the inputs for each pair.

    Examples
    --------
    >>> from topolandscape.landscape.pure import Block
    >>> from topolandscape.landscape.symmetry import symmetry_of
    >>> module = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1, bias=False))
    >>> inputs = torch.linspace(-1, 1, 5)[:, None]
    >>> landscape = Landscape.from_module(module, inputs, inputs, loss=torch.nn.functional.mse_loss)
    >>> point, copy = [1.0, 2.0, 0.5, 4.0, 5.0, 6.0], [2.0, -1.0, 4.0, -0.5, 6.0, -5.0]
    >>> align_by_activations(landscape, symmetry_of(landscape), copy, point, inputs).tolist()
    [1.0, 2.0, 0.5, 4.0, 5.0, 6.0]
    """
    rows, targets, shape = pairs_of(symmetry, points, references, "references")
    if tuple(landscape.blocks) != symmetry.blocks:
        raise ValueError(
            "the symmetry is of another landscape: their parameters differ. Use symmetry_of(landscape) of this one."
        )
    own, others = arrays_of(symmetry, rows), arrays_of(symmetry, targets)
    balance(symmetry, own)
    scales = balance(symmetry, others)
    correlations: list[dict[tuple[int, Place], Floats]] = []
    for pair in zip(targets, rows, strict=True):
        theirs, mine = (_activations(landscape, symmetry, point, inputs) for point in pair)
        correlations.append({where: _correlations(theirs[where], mine[where]) for where in mine})
    hidden = []
    for g, group in enumerate(symmetry.groups):
        terms: _Terms = {}
        for place in (place for at, place in correlations[0] if at == g):
            key = tuple(i for i, s in enumerate(group.scalings) if s.signed and place in s.outgoing)
            terms[key] = terms.get(key, 0.0) + np.stack([alike[g, place] for alike in correlations])
        gain, signs = _gain(terms)
        permutations, factors = _assigned(group, gain, signs)
        act_on(own, group, permutations, factors)
        # What does not show in the activations is left to the weights; the rest is held.
        held = tuple(s._replace(kind="scale") if i in signs else s for i, s in enumerate(group.scalings))
        hidden.append(group._replace(permuted=False, scalings=held))
    by_weights = replace(symmetry, groups=tuple(hidden))
    _match(by_weights, own, others, _orders(by_weights, 0))
    unbalance(symmetry, own, scales)
    return points_of(symmetry, own).reshape(shape)


def distance(symmetry: Symmetry, a: ArrayLike, b: ArrayLike, *, seed: Seed) -> float | Floats:
    """Return how far apart points are, modulo symmetry.

    Parameters
    ----------
    symmetry
        Of the landscape of the points.
    a, b
        Shape (dimension,) or (n, dimension), paired as in `align`.
    seed
        As for `align`.

    Returns
    -------
    float or float64 array
        The Euclidean distance of the nearest copies that are found among those in which all scales are balanced; for
        each pair, if there are several.

    Notes
    -----
    Exact with one group that has each parameter on one axis only (one hidden layer): then it is a pseudometric, zero
    for copies. With more layers it is an upper bound, since `align` finds a local optimum.

    Examples
    --------
    >>> from topolandscape.landscape.pure import Block
    >>> from topolandscape.landscape.symmetry import Scaling
    >>> places = Place("in", 0, 0, 1), Place("out", 1, 0, 1)
    >>> group = Group("in", 2, True, places, (Scaling("sign", places[:1], places[1:]),))
    >>> blocks = Block("in", slice(0, 4), (2, 2)), Block("out", slice(4, 6), (1, 2))
    >>> distance(Symmetry(6, blocks, (group,)), [1, 2, 3, 4, 5, 6], [-3, -4, 1, 2, -6, 8], seed=0)
    3.0
    """
    rows, targets, shape = pairs_of(symmetry, a, b, "b")
    orders = _orders(symmetry, seed)

    def between(own: Arrays, others: Arrays) -> Floats:
        balance(symmetry, own)
        balance(symmetry, others)
        _match(symmetry, own, others, orders)
        return np.linalg.norm(points_of(symmetry, own) - points_of(symmetry, others), axis=1)

    lengths = np.concatenate([between(*part) for part in pieces_of(symmetry, rows, targets)])
    return lengths if len(shape) == 2 else float(lengths[0])


# What units i of the reference and j of the point gain, (n, units, units), by the scalings whose signs change it.
_Terms = dict[tuple[int, ...], Floats]


def _orders(symmetry: Symmetry, seed: Seed) -> Integers:
    """Draw the order of the groups in every sweep, the same for all pairs."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(len(symmetry.groups)) for _ in range(MATCHING_SWEEPS)], dtype=np.int64)


def _match(symmetry: Symmetry, own: Arrays, others: Arrays, orders: Integers) -> None:
    """Permute units and change signs of balanced points, in place: the nearer of what two starts lead to."""
    forward = {name: array.copy() for name, array in own.items()}
    _match_forward(symmetry, forward, others)
    for arrays in (own, forward):
        _descend(symmetry, arrays, others, orders)
    _take_nearer(own, forward, others)


def _match_forward(symmetry: Symmetry, own: Arrays, others: Arrays) -> None:
    """Match group after group from the inputs on, in place, by the weights from groups that are done."""
    pending = list(range(len(symmetry.groups)))
    while pending:
        settled = {
            g: [place for place in symmetry.groups[g].places if _alone(symmetry, g, place, pending)] for g in pending
        }
        g = first_of(pending, settled, own)
        pending.remove(g)
        group = symmetry.groups[g]
        if settled[g]:
            act_on(own, group, *_assigned(group, *_gain(_terms(own, others, group._replace(places=tuple(settled[g]))))))


def _alone(symmetry: Symmetry, g: int, place: Place, pending: Sequence[int]) -> bool:
    """Return whether no other group that is pending, nor this one on another axis, changes the parameter."""
    return all(
        other.name != place.name or (h == g and other.axis == place.axis)
        for h in pending
        for other in symmetry.groups[h].places
    )


def _descend(symmetry: Symmetry, own: Arrays, others: Arrays, orders: Integers) -> None:
    """Match one group after the other, in place, until none is better off by itself."""
    going = np.arange(len(own[symmetry.blocks[0].name]))
    for order in orders:
        part, target = ({name: array[going] for name, array in arrays.items()} for arrays in (own, others))
        improved = np.zeros(len(going), dtype=bool)
        for g in order:
            improved |= _improve(part, target, symmetry.groups[g])
        for name, array in part.items():
            own[name][going] = array
        going = going[improved]
        if len(going) == 0:
            return


def _improve(own: Arrays, others: Arrays, group: Group) -> NDArray[np.bool_]:
    """Match one group, in place, given all others; return for which pairs (n,) that was a gain."""
    trial = {place.name: own[place.name].copy() for place in group.places}
    act_on(trial, group, *_assigned(group, *_gain(_terms(own, others, group))))
    # Where a parameter has the units on both axes the gain is not what the assignment adds up, and may be a loss.
    return _take_nearer(own, trial, others)


def _take_nearer(own: Arrays, trial: Arrays, others: Arrays) -> NDArray[np.bool_]:
    """Take the parameters of a trial, in place, where it is nearer; return where (n,). Norms must agree."""
    before, after = (sum(_products(arrays[name], others[name]) for name in trial) for arrays in (own, trial))
    size = sum(_products(own[name], own[name]) + _products(others[name], others[name]) for name in trial)
    better = np.asarray(after - before > 1e-12 * size)
    for name in trial:
        own[name][better] = trial[name][better]
    return better


def _products(one: Floats, other: Floats) -> Floats:
    """Return inner products, (n,)."""
    return np.einsum("ni,ni->n", one.reshape(len(one), -1), other.reshape(len(other), -1))


def _terms(own: Arrays, others: Arrays, group: Group) -> _Terms:
    """Return the inner products of the entries of units."""
    terms: _Terms = {}
    for place in group.places:
        key = tuple(i for i, s in enumerate(group.scalings) if s.signed and place in s.incoming + s.outgoing)
        mine, theirs = (entries_of(arrays, place, group.units) for arrays in (own, others))
        terms[key] = terms.get(key, 0.0) + theirs @ mine.transpose(0, 2, 1)
    return terms


def _gain(terms: _Terms) -> tuple[Floats, dict[int, Floats]]:
    """Return what each pair of units gains with its best signs, (n, units, units), and these, for each scaling.

    All signs are tried of scalings that occur in one term.
    """
    together: list[set[int]] = []
    for key in terms:
        joined = set(key).union(*(other for other in together if other & set(key)))
        together = [other for other in together if not other & joined] + ([joined] if joined else [])
    gain, signs = np.array(terms.get((), 0.0)), dict[int, Floats]()
    for members in together:
        best: Any = -np.inf
        for flips in itertools.product((1.0, -1.0), repeat=len(members)):
            flip = dict(zip(members, flips, strict=True))
            total = sum(
                math.prod(flip[i] for i in key) * term for key, term in terms.items() if members.intersection(key)
            )
            better = total > best
            best = np.where(better, total, best)
            signs |= {i: np.where(better, flip[i], signs.get(i, 1.0)) for i in members}
        gain = gain + best
    return gain, signs


def _assigned(group: Group, gain: Floats, signs: dict[int, Floats]) -> tuple[Integers, Floats]:
    """Return permutations (n, units) and factors (n, scalings, units) of the largest gain."""
    n, units, _ = gain.shape
    permutations = np.tile(np.arange(units), (n, 1))
    if group.permuted:
        permutations = np.stack([linear_sum_assignment(own, maximize=True)[1] for own in gain])
    factors = np.ones((n, len(group.scalings), units))
    for i, sign in signs.items():
        factors[:, i] = np.take_along_axis(sign, permutations[:, :, None], axis=2)[:, :, 0]
    return permutations, factors


def _activations(
    landscape: Landscape, symmetry: Symmetry, point: Floats, inputs: Any
) -> dict[tuple[int, Place], Floats]:
    """Return what layers read of the units of each group, (samples, units), by the place where they read it."""
    module = landscape.module_at(point)
    readers = [(g, p) for g, group in enumerate(symmetry.groups) for p in group.places if _reads(module, p)]
    for g, group in enumerate(symmetry.groups):
        if all(g != reading for reading, _ in readers):
            raise ValueError(
                f"the units of {group.name} are read by no fully connected or convolutional layer of torch, so their "
                "activations cannot be seen. Use align()."
            )
    read: dict[str, list[Tensor]] = {place.name: [] for _, place in readers}
    for name, calls in read.items():

        def keep(layer: nn.Module, arguments: tuple[Any, ...], calls: list[Tensor] = calls) -> None:
            tensor = arguments[0] if isinstance(layer, nn.Linear) else arguments[0].movedim(1, -1)
            calls.append(tensor.reshape(-1, tensor.shape[-1]).detach().cpu().double())

        module.get_submodule(name.rpartition(".")[0]).register_forward_pre_hook(keep)
    weight = next(module.parameters())
    tensor = torch.as_tensor(inputs, device=weight.device)
    with torch.no_grad():
        module(tensor.to(weight.dtype) if tensor.is_floating_point() else tensor)

    def of_units(g: int, place: Place) -> Floats:
        units = symmetry.groups[g].units
        columns = torch.cat(read[place.name])[:, place.start : place.start + units * place.repeats]
        return columns.reshape(-1, units, place.repeats).movedim(1, -1).reshape(-1, units).numpy()

    return {(g, place): of_units(g, place) for g, place in readers}


def _reads(module: nn.Module, place: Place) -> bool:
    """Return whether the units at a place are what a layer reads."""
    owner, _, parameter = place.name.rpartition(".")
    layer = module.get_submodule(owner)
    return (
        parameter == "weight"
        and isinstance(layer, (nn.Linear, *CONVOLUTIONS))
        and place.axis == (0 if type(layer) in TRANSPOSED else 1)
    )


def _correlations(one: Floats, other: Floats) -> Floats:
    """Return the correlations of columns; those of constant ones are zero."""
    columns = []
    for array in (one, other):
        centered = array - array.mean(axis=0)
        norms = np.linalg.norm(centered, axis=0)
        alive = norms > 1e-12 * np.linalg.norm(array, axis=0)
        columns.append(np.divide(centered, norms, out=np.zeros_like(centered), where=alive))
    return columns[0].T @ columns[1]
