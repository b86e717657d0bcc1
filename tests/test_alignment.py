"""Copies of a network by symmetry are brought together, and what does not fit is refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from symmetric_networks import NETWORKS, Gained, Narrow, drawn, elements, known, landscape_of, mlp, with_statistics
from torch import nn

from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.minima import descend, initial_points
from topolandscape.landscape.symmetry import (
    Element,
    align,
    align_by_activations,
    apply,
    canonical,
    distance,
    random_element,
    symmetry_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# ------------------------------------------------------------------------------------------------------------
# Copies brought together
# ------------------------------------------------------------------------------------------------------------


SHALLOW = ["tanh", "tanh without biases", "relu", "relu without biases", "identity", "sigmoid", "64-16-10", "x^2"]
DEEP = [
    *("three layers of tanh", "two layers of relu", "no activation", "convolutions and flattening", "depthwise"),
    *("residual, tanh", "residual, relu", "a weight with the same units on both axes", "the same with scales"),
    *("small ResNet, tanh", "small ResNet, relu", "concatenation", "layer norm", "written by hand"),
    *("written with functions", "one layer twice", "batch norm by the batch"),
]


@given(name=st.sampled_from(SHALLOW + DEEP), seed=st.integers(0, 10**6))
def test_copies_have_one_normal_form(name, seed):
    _, symmetry = known(name)
    (point,) = drawn(known(name)[0], seed)
    copy = apply(symmetry, point, random_element(symmetry, seed))
    form, other = canonical(symmetry, np.stack([point, copy]))
    np.testing.assert_allclose(other, form, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SHALLOW + DEEP)
def test_the_normal_form_is_a_copy_of_which_nothing_is_left_to_change(name):
    landscape, symmetry = known(name)
    points = 0.7 * drawn(landscape, 1, 3)
    forms = canonical(symmetry, points)
    np.testing.assert_allclose(landscape.values(forms), landscape.values(points), rtol=1e-11)
    np.testing.assert_allclose(canonical(symmetry, forms), forms, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(canonical(symmetry, points[1]), forms[1], rtol=1e-12)


def test_the_normal_form_of_a_small_network():
    """Unit 0 turns its sign, since -3 is the largest of (2, -3, 1); then (-2, 3, -1) comes before (1, 0, 4)."""
    _, symmetry = known("one unit")
    landscape = landscape_of(lambda: mlp(2, 2, 1), (2,))
    symmetry = symmetry_of(landscape)
    point = [2.0, -3.0, 1.0, 0.0, 1.0, 4.0, 5.0, 6.0, 7.0]
    np.testing.assert_array_equal(canonical(symmetry, point), [-2.0, 3.0, 1.0, 0.0, -1.0, 4.0, -5.0, 6.0, 7.0])


@pytest.mark.parametrize("name", ["two layers of relu", "no activation", "the same with scales", "depthwise"])
def test_the_balanced_form_has_the_least_norm_of_all_scales(name):
    """Its norm agrees with that found by a general optimiser, and no unit has more coming in than going out."""
    landscape, symmetry = known(name)
    (point,) = drawn(landscape, 2)

    def squared_norm(logs):
        parts = np.split(np.exp(logs), np.cumsum([g.units * len(g.scalings) for g in symmetry.groups])[:-1])
        factors = [
            np.where([[s.kind != "sign"] for s in group.scalings], part.reshape(len(group.scalings), -1), 1.0)
            for group, part in zip(symmetry.groups, parts, strict=True)
        ]
        element = Element(tuple(np.arange(group.units) for group in symmetry.groups), tuple(factors))
        return float(np.sum(apply(symmetry, point, element) ** 2))

    size = sum(group.units * len(group.scalings) for group in symmetry.groups)
    best = minimize(squared_norm, np.zeros(size), tol=1e-12)
    assert np.sum(canonical(symmetry, point) ** 2) == pytest.approx(best.fun, rel=1e-8)
    assert best.fun < 0.95 * np.sum(point**2)


def test_units_that_feed_each_other_are_balanced():
    """In x + relu(W x) with large W = (0, a; b, 0) both scales changed at once by the rule for one turn in circles."""
    landscape = landscape_of(lambda: Narrow(nn.ReLU, width=2), (3,))
    symmetry = symmetry_of(landscape)
    point = 1e-6 * drawn(landscape, 0)[0]
    weight = next(block.entries for block in landscape.blocks if block.name == "middle.weight")
    point[weight] = 0.0, 100.0, 1.0, 0.0
    form = canonical(symmetry, point)
    np.testing.assert_allclose(np.sort(form[weight]), [0, 0, 10, 10], rtol=1e-6)


@pytest.mark.parametrize("name", SHALLOW + DEEP)
def test_a_copy_is_brought_back(name):
    """With one hidden layer always; in deeper networks, where the optimum is a local one, at these points."""
    landscape, symmetry = known(name)
    points = drawn(landscape, 3, 4)
    copies = np.stack([apply(symmetry, point, random_element(symmetry, i)) for i, point in enumerate(points)])
    back = align(symmetry, copies, points, seed=0)
    if any(scaling.scaled for group in symmetry.groups for scaling in group.scalings):
        np.testing.assert_allclose(back, points, rtol=1e-9, atol=1e-10)
    else:
        np.testing.assert_array_equal(back, points)
    np.testing.assert_allclose(distance(symmetry, copies, points, seed=0), 0, atol=1e-9)


@given(name=st.sampled_from(["tanh", "relu", "identity", "64-16-10"]), seed=st.integers(0, 10**6))
def test_with_one_hidden_layer_a_copy_is_always_brought_back(name, seed):
    landscape, symmetry = known(name)
    (point,) = drawn(landscape, seed)
    copy = apply(symmetry, point, random_element(symmetry, seed))
    np.testing.assert_allclose(align(symmetry, copy, point, seed=seed), point, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("make", [lambda: mlp(2, 3, 2), lambda: mlp(2, 2, 2, norm=nn.BatchNorm1d), lambda: Gained(3)])
@pytest.mark.parametrize("seed", range(5))
def test_with_one_hidden_layer_no_copy_is_nearer(make, seed):
    """All 48 copies of three tanh units; all 32 of two with batch norm, which have two signs each."""
    landscape = landscape_of(make, (2,), weight_decay=0.1)
    symmetry = symmetry_of(landscape)
    point, reference = drawn(landscape, seed, 2)
    copies = np.stack([apply(symmetry, point, element) for element in elements(symmetry)])
    nearest = copies[np.linalg.norm(copies - reference, axis=1).argmin()]
    np.testing.assert_array_equal(align(symmetry, point, reference, seed=0), nearest)
    assert distance(symmetry, point, reference, seed=0) == pytest.approx(np.linalg.norm(nearest - reference), rel=1e-12)


def test_the_distance_of_one_hidden_layer_is_a_metric_of_copies():
    for name in ("tanh", "relu"):
        landscape, symmetry = known(name)
        points = drawn(landscape, 4, 6)
        copies = np.stack([apply(symmetry, point, random_element(symmetry, i)) for i, point in enumerate(points)])
        table = np.array([distance(symmetry, points, point, seed=0) for point in points])
        np.testing.assert_allclose(table, table.T, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(
            table, np.array([distance(symmetry, points, copy, seed=1) for copy in copies]), rtol=1e-9, atol=1e-9
        )
        assert (table[:, None] <= table[:, :, None] + table[None] + 1e-9).all()
        assert table[~np.eye(6, dtype=bool)].min() > 0.1


@pytest.mark.parametrize("name", ["three layers of tanh", "residual, tanh"])
def test_no_single_change_brings_an_aligned_copy_nearer(name):
    """None of all exchanges of two units and of all changes of one sign."""
    landscape, symmetry = known(name)
    points, references = drawn(landscape, 9, 20), drawn(landscape, 10, 20)
    aligned = align(symmetry, points, references, seed=0)
    reached = np.linalg.norm(aligned - references, axis=1)
    for g, group in enumerate(symmetry.groups):
        for i, j in itertools.combinations_with_replacement(range(group.units), 2):
            element = random_element(symmetry, 0)
            permutations = [np.arange(h.units) for h in symmetry.groups]
            factors = [np.ones_like(own) for own in element.factors]
            permutations[g][[i, j]] = j, i
            factors[g][:, i] = -1 if i == j else 1
            other = apply(symmetry, aligned, Element(tuple(permutations), tuple(factors)))
            assert (np.linalg.norm(other - references, axis=1) >= reached - 1e-9).all()


@pytest.mark.parametrize("name", DEEP)
def test_an_aligned_copy_is_a_copy_and_never_further_away(name):
    landscape, symmetry = known(name)
    points, references = 0.7 * drawn(landscape, 5, 20), 0.7 * drawn(landscape, 6, 20)
    aligned = align(symmetry, points, references, seed=0)
    np.testing.assert_allclose(landscape.values(aligned), landscape.values(points), rtol=1e-10)
    if not any(scaling.scaled for group in symmetry.groups for scaling in group.scalings):
        after = np.linalg.norm(aligned - references, axis=1)
        np.testing.assert_allclose(distance(symmetry, points, references, seed=0), after)
        assert (after <= np.linalg.norm(points - references, axis=1)).all()


def test_pairs_do_not_depend_on_one_another(monkeypatch):
    landscape, symmetry = known("three layers of tanh")
    points, references = drawn(landscape, 7, 5), drawn(landscape, 8, 5)
    together = align(symmetry, points, references, seed=3)
    monkeypatch.setattr("topolandscape.landscape.symmetry.elements.NUMBERS_AT_ONCE", 2 * landscape.dimension)
    np.testing.assert_array_equal(align(symmetry, points, references, seed=3), together)
    for point, reference, one in zip(points, references, together, strict=True):
        np.testing.assert_array_equal(align(symmetry, point, reference, seed=3), one)
    np.testing.assert_array_equal(align(symmetry, points, references[0], seed=3)[0], together[0])
    np.testing.assert_array_equal(align(symmetry, points[0], references, seed=3)[0], together[0])
    assert align(symmetry, points[:1], references[0], seed=3).shape == (1, landscape.dimension)


@pytest.mark.parametrize(
    "name", [*(name for name in SHALLOW if name != "x^2"), *(name for name in DEEP if name not in ("written by hand",))]
)
def test_a_copy_is_brought_back_by_its_activations(name):
    """Whatever the depth, if no two units are dead."""
    landscape, symmetry = known(name)
    point = landscape.point
    copy = apply(symmetry, point, random_element(symmetry, 0))
    inputs = 5 * np.random.default_rng(0).normal(size=(60, *NETWORKS[name][1]))
    back = align_by_activations(landscape, symmetry, copy, point, inputs)
    np.testing.assert_allclose(back, point, rtol=1e-9, atol=1e-10)


def test_activations_match_units_that_do_the_same():
    """Two relu units that agree on positive inputs are told apart only by their weights, and the other way round."""
    module = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False)).double()
    inputs = torch.tensor([[-2.0], [-1.0], [1.0], [3.0]], dtype=torch.float64)
    landscape = Landscape.from_module(module, inputs, inputs, loss=F.mse_loss, weight_decay=0.1)
    symmetry = symmetry_of(landscape)
    # Unit 0 of the reference reads positive inputs. By the weights out of it, it is unit 0 of the point.
    reference, point = [0.1, -0.1, 5.0, -5.0], [-0.1, 0.1, 5.0, -5.0]
    assert align(symmetry, point, reference, seed=0).tolist() == point
    swapped = align_by_activations(landscape, symmetry, point, reference, inputs)
    assert swapped.tolist() == [0.1, -0.1, -5.0, 5.0]


def test_activations_choose_signs():
    """By the weights out of it, the sign of a tanh unit agrees; by what it does, it does not."""
    module = mlp(1, 1, 1, bias=False).double()
    inputs = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    landscape = Landscape.from_module(module, inputs, inputs, loss=F.mse_loss)
    symmetry = symmetry_of(landscape)
    assert align(symmetry, [-0.1, 5.0], [0.1, 5.0], seed=0).tolist() == [-0.1, 5.0]
    assert align_by_activations(landscape, symmetry, [-0.1, 5.0], [0.1, 5.0], inputs).tolist() == [0.1, -5.0]


def test_activations_are_compared_without_their_means():
    """Unit 0 of the reference follows the first input, far from zero; unit 1 of the point does, near zero."""
    module = mlp(2, 2, 1, activation=None).double()
    inputs = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    landscape = Landscape.from_module(module, inputs, inputs[:, :1], loss=F.mse_loss, weight_decay=0.1)
    reference = [1.0, 0.0, 0.0, 1.0, 10.0, 0.1, 1.0, 1.0, 0.0]
    point = [0.0, 1.0, 1.0, 0.0, 10.0, 0.1, 1.0, 1.0, 0.0]
    aligned = align_by_activations(landscape, symmetry_of(landscape), point, reference, inputs)
    assert aligned.tolist() == [1.0, 0.0, 0.0, 1.0, 0.1, 10.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("method", ["weights", "activations"])
def test_the_segment_to_an_aligned_copy_is_lower(method):
    """Trained networks: on average over pairs, and against the plain segment."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 2))
    targets = np.tanh(inputs[:, :1] - inputs[:, 1:]) + 0.5 * np.tanh(2 * inputs[:, :1] * inputs[:, 1:])
    module = mlp(2, 8, 1).double()
    landscape = Landscape.from_module(module, inputs, targets, loss=F.mse_loss, weight_decay=1e-3)
    symmetry = symmetry_of(landscape)
    ends = descend(landscape, initial_points(landscape, 5, seed=0), steps=300, learning_rate=0.03).ends
    pairs = np.array(list(itertools.combinations(range(5), 2)))
    points, references = ends[pairs[:, 0]], ends[pairs[:, 1]]
    if method == "weights":
        aligned = align(symmetry, points, references, seed=0)
    else:
        aligned = align_by_activations(landscape, symmetry, points, references, inputs)
    np.testing.assert_allclose(landscape.values(aligned), landscape.values(points), rtol=1e-12)

    def barriers(starts):
        at = np.linspace(0, 1, 11)[:, None, None]
        losses = landscape.values((starts + at * (references - starts)).reshape(-1, landscape.dimension)).reshape(
            11, -1
        )
        return losses.max(axis=0) - losses[[0, -1]].max(axis=0)

    assert barriers(aligned).mean() < 0.7 * barriers(points).mean()


# ------------------------------------------------------------------------------------------------------------
# What does not fit
# ------------------------------------------------------------------------------------------------------------


def test_elements_of_other_symmetries_are_refused():
    landscape, symmetry = known("tanh")
    _, other = known("relu")
    units, ones = np.arange(4), np.ones((1, 4))
    for element, problem in [
        (Element((), ()), "0 permutations"),
        (Element((np.zeros(4, dtype=int),), (ones,)), "each one once"),
        (Element((np.arange(3),), (ones,)), "4 units"),
        (Element((units,), (np.ones(4),)), r"shape \(4,\)"),
        (Element((units,), (2 * ones,)), "1 or -1"),
        (Element((units,), (np.nan * ones,)), "1 or -1"),
    ]:
        with pytest.raises(ValueError, match=problem):
            apply(symmetry, landscape.point, element)
    for factors, problem in [(-ones, "positive"), (0 * ones, "positive"), (np.inf * ones, "positive")]:
        with pytest.raises(ValueError, match=problem):
            apply(other, landscape.point, Element((units,), (factors,)))
    still = symmetry_of(landscape_of(lambda: mlp(3, 4, 2, norm=with_statistics([0.0] * 4, [1.0, 2.0, 3.0, 4.0])), (3,)))
    with pytest.raises(ValueError, match="stay where they are"):
        apply(still, drawn(landscape, 0)[0][:1].repeat(still.dimension), Element((units[::-1],), (np.ones((2, 4)),)))


def test_points_that_do_not_fit_are_refused():
    landscape, symmetry = known("tanh")
    point = landscape.point
    with pytest.raises(ValueError, match="points have shape"):
        canonical(symmetry, point[:-1])
    with pytest.raises(ValueError, match="references have shape"):
        align(symmetry, point, point[:-1], seed=0)
    with pytest.raises(ValueError, match="b have shape"):
        distance(symmetry, point, point[:-1], seed=0)
    with pytest.raises(ValueError, match=r"points\[0, 0\] is nan"):
        align(symmetry, point * np.nan, point, seed=0)
    with pytest.raises(ValueError, match="3 points and 2 references"):
        align(symmetry, drawn(landscape, 0, 3), drawn(landscape, 0, 2), seed=0)


def test_activations_that_cannot_be_seen_are_refused():
    landscape, symmetry = known("written by hand")
    with pytest.raises(ValueError, match="Use align"):
        align_by_activations(landscape, symmetry, landscape.point, landscape.point, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="another landscape"):
        align_by_activations(landscape, known("tanh")[1], np.zeros(26), np.zeros(26), np.zeros((2, 3)))


def test_units_without_weights_are_left_as_they_are():
    """Nothing goes into unit 0, nothing out of unit 1: their scales have no best value."""
    landscape = landscape_of(lambda: mlp(1, 2, 1, activation=nn.ReLU, bias=False), (1,))
    symmetry = symmetry_of(landscape)
    point = [0.0, 2.0, 3.0, 0.0]
    np.testing.assert_array_equal(canonical(symmetry, point), point)
    np.testing.assert_array_equal(align(symmetry, [2.0, 0.0, 0.0, 3.0], point, seed=0), point)
    with torch.random.fork_rng():
        assert distance(symmetry, np.zeros(4), np.zeros(4), seed=0) == 0


def test_a_symmetry_says_what_it_holds():
    assert repr(known("two layers of relu")[1]) == (
        "Symmetry(4 units of 0: permutations, scales; 5 units of 2: permutations, scales)"
    )
    assert repr(known("one layer")[1]) == "Symmetry(none found)"
