"""Weights, accuracies, products, some of the rows: whatever the form."""

import numpy as np
import pytest
import torch
from small_modules import FORMS, near, outputs_at
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from topolandscape import Landscape

ROWS = 60


@pytest.fixture
def weights():
    return torch.rand(ROWS, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


# --------------------------------------------------------------------------------------------------------------
# Weights of rows
# --------------------------------------------------------------------------------------------------------------


LOSSES = {
    "function": F.cross_entropy,
    "module": nn.CrossEntropyLoss(),
    "one a row": lambda outputs, targets: F.cross_entropy(outputs, targets, reduction="none"),
}


@pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name in LOSSES for form in FORMS if (name, form) != ("one a row", "dense")]
)
def test_weights_say_what_a_row_counts(name, form, module, inputs, classes, weights):
    landscape = Landscape.from_module(module, inputs, classes, loss=LOSSES[name], weights=weights, form=form)
    points = near(landscape.point)
    by_row = torch.stack([F.cross_entropy(y, classes, reduction="none") for y in outputs_at(landscape, points, inputs)])
    expected = (by_row * weights).sum(1) / weights.sum()
    np.testing.assert_allclose(landscape.values(points), expected, rtol=1e-12)
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    along = np.random.default_rng(0).normal(size=landscape.dimension)
    step = 1e-6
    slope = (landscape.values(points + step * along) - landscape.values(points - step * along)) / (2 * step)
    np.testing.assert_allclose(gradients @ along, slope, rtol=1e-7, atol=1e-9)


def test_weights_of_whole_numbers_are_repeated_rows(module, inputs, classes):
    counts = torch.arange(ROWS) % 3
    weighted = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, weights=counts)
    rows = torch.arange(ROWS).repeat_interleave(counts)
    repeated = Landscape.from_module(module, inputs[rows], classes[rows], loss=F.cross_entropy)
    points = near(weighted.point)
    np.testing.assert_allclose(weighted.values(points), repeated.values(points), rtol=1e-12)
    np.testing.assert_allclose(weighted.gradients(points)[1], repeated.gradients(points)[1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weighted.accuracies(points)[1], repeated.accuracies(points)[1], rtol=1e-12)


def test_weights_hold_through_batches_streams_and_cuts(module, inputs, classes, weights):
    whole = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, weights=weights)
    cuts = (slice(0, 10), slice(10, 35), slice(35, ROWS))
    parts = [[tensor[cut] for cut in cuts] for tensor in (inputs, classes, weights)]
    several = Landscape.from_module(module, parts[0], parts[1], loss=F.cross_entropy, weights=parts[2])
    loader = DataLoader(TensorDataset(inputs, classes, weights), batch_size=7)
    streamed = Landscape.from_loader(module, loader, loss=F.cross_entropy)
    small = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, weights=weights, memory=5000)
    assert small.engine.count > 1
    points = near(whole.point)
    for landscape in (several, streamed, small):
        np.testing.assert_allclose(landscape.values(points), whole.values(points), rtol=1e-12)
        np.testing.assert_allclose(landscape.accuracies(points)[1], whole.accuracies(points)[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(ROWS - 1), r"weights are shape \(59,\); they need to be a tensor of shape \(60,\)"),
        (torch.zeros(ROWS), "the weights of all rows are 0"),
        (torch.full((ROWS,), -1.0), r"weights\[0\] is -1"),
        (torch.cat([torch.ones(ROWS - 1), torch.tensor([float("nan")])]), r"weights\[59\] is nan"),
        ([torch.ones(ROWS)] * 2, "1 batches of inputs and 1 of targets and 2 of weights"),
    ],
)
def test_bad_weights_are_refused(bad, message, module, inputs, classes):
    with pytest.raises(ValueError, match=message):
        Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, weights=bad)


def test_weights_need_a_loss_of_one_value_a_row(module, inputs, classes):
    def mean_only(outputs, targets):
        return F.cross_entropy(outputs, targets)

    with pytest.raises(ValueError, match="with weights it needs to return 60 values, one a row"):
        Landscape.from_module(module, inputs, classes, loss=mean_only, weights=torch.ones(ROWS))


# --------------------------------------------------------------------------------------------------------------
# Accuracies
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_accuracies_are_the_shares_of_rows_classified_correctly(form, module, inputs, classes):
    landscape = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, form=form, weight_decay=0.1)
    points = near(landscape.point)
    values, accuracies = landscape.accuracies(points)
    right = [(y.argmax(1) == classes).double().mean().item() for y in outputs_at(landscape, points, inputs)]
    np.testing.assert_allclose(accuracies, right, rtol=1e-12)
    np.testing.assert_allclose(values, landscape.values(points), rtol=1e-12)
    assert len(set(right)) > 1


def test_accuracies_of_one_hot_targets(module, inputs, classes):
    by_class = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy)
    one_hot = Landscape.from_module(module, inputs, F.one_hot(classes, 3).double(), loss=F.mse_loss)
    points = near(by_class.point)
    np.testing.assert_allclose(one_hot.accuracies(points)[1], by_class.accuracies(points)[1], rtol=1e-12)


@pytest.mark.parametrize("form", [None, *FORMS[1:]])
def test_accuracies_need_classes(inputs, form):
    for outputs, message in ((2, "accuracy needs whole targets"), (1, "accuracy needs outputs of one score a class")):
        landscape = Landscape.from_module(
            nn.Linear(6, outputs), inputs, torch.zeros(ROWS), loss=lambda y, t: (y[:, 0] - t) ** 2, form=form
        )
        with pytest.raises(ValueError, match=message):
            landscape.accuracies(landscape.point[None])
    with pytest.raises(ValueError, match="made from a function and has no module"):
        Landscape.from_function(lambda x: (x**2).sum(1), 2).accuracies([[0.0, 0.0]])


# --------------------------------------------------------------------------------------------------------------
# Hessian products at many points
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_products_at_many_points_are_those_at_each(form, module, inputs, classes):
    landscape = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy, form=form, weight_decay=0.01)
    points = near(landscape.point, 5)
    vectors = np.random.default_rng(5).normal(size=points.shape)
    products = landscape.hessian_products(points, vectors)
    step = 1e-5
    ahead, behind = (landscape.gradients(points + sign * step * vectors)[1] for sign in (1, -1))
    np.testing.assert_allclose(products, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)
    for point, vector, product in zip(points, vectors, products, strict=True):
        np.testing.assert_allclose(landscape.hessian_products(point, vector[None])[0], product, rtol=1e-10, atol=1e-12)


def test_products_need_as_many_points_as_vectors(module, inputs, classes):
    landscape = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy)
    with pytest.raises(ValueError, match="there are 2 points and 3 vectors"):
        landscape.hessian_products(near(landscape.point, 2), near(landscape.point, 3))


# --------------------------------------------------------------------------------------------------------------
# Some of the rows
# --------------------------------------------------------------------------------------------------------------


def test_some_rows_are_a_landscape_of_these_rows(module, inputs, classes, weights):
    rows = np.array([40, 3, 17, 58])
    index = torch.from_numpy(np.sort(rows))
    for weighting in (None, weights):
        whole = Landscape.from_module(
            module, inputs, classes, loss=F.cross_entropy, weights=weighting, weight_decay=0.1
        )
        part = whole.of_rows(rows)
        alone = Landscape.from_module(
            module,
            inputs[index],
            classes[index],
            loss=F.cross_entropy,
            weights=None if weighting is None else weighting[index],
            weight_decay=0.1,
        )
        points = near(whole.point)
        np.testing.assert_allclose(part.values(points), alone.values(points), rtol=1e-12)
        np.testing.assert_allclose(part.gradients(points)[1], alone.gradients(points)[1], rtol=1e-9, atol=1e-12)
        assert part.rows == 4
        assert part.blocks == whole.blocks


def test_parts_of_the_rows_average_to_the_whole(module, inputs, classes):
    whole = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy)
    order = np.random.default_rng(0).permutation(ROWS)
    points = near(whole.point)
    parts = [whole.of_rows(rows).values(points) for rows in np.split(order, 5)]
    np.testing.assert_allclose(np.mean(parts, axis=0), whole.values(points), rtol=1e-12)


def test_rows_are_found_in_streams_and_batches(module, inputs, classes):
    whole = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy)
    streamed = Landscape.from_loader(
        module, DataLoader(TensorDataset(inputs, classes), batch_size=7), loss=F.cross_entropy
    )
    points = near(whole.point)
    rows = [0, 6, 7, 59, 30]
    np.testing.assert_allclose(streamed.of_rows(rows).values(points), whole.of_rows(rows).values(points), rtol=1e-12)


def test_a_subset_is_seeded_recorded_and_its_noise_measured(module, inputs, classes):
    whole = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy)
    part, same, other = (whole.subset(20, seed=seed) for seed in (0, 0, 1))
    points = near(whole.point)
    assert np.array_equal(part.values(points), same.values(points))
    assert not np.allclose(part.values(points), other.values(points))
    assert (part.description["rows"], part.description["of_rows"], part.description["subset_seed"]) == (20, ROWS, 0)
    noise = part.noise_at(points)
    assert (noise >= np.abs(part.values(points) - whole.values(points)) - 1e-14).all()
    assert part.noise > 1e-3 > whole.noise
    everything = whole.subset(ROWS, seed=3)
    np.testing.assert_allclose(everything.values(points), whole.values(points), rtol=1e-12)
    restricted = part.restricted_to(whole.point, np.eye(whole.dimension)[:2])
    assert restricted.noise > 1e-3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 60], "row 60 does not exist; there are 60"),
        ([-1], "row -1 does not exist"),
        ([2, 5, 2], "row 2 is given twice"),
        ([], "whole numbers, one or more"),
        ([0.5], "rows are float64"),
    ],
)
def test_bad_rows_are_refused(rows, message, module, inputs, classes):
    landscape = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy)
    with pytest.raises(ValueError, match=message):
        landscape.of_rows(rows)


def test_rows_cannot_be_taken_from_what_has_none(module, inputs, classes):
    with pytest.raises(ValueError, match="has no rows to choose from"):
        Landscape.from_function(lambda x: (x**2).sum(1), 2).of_rows([0])
    summed = Landscape.from_module(module, inputs, classes, loss=nn.CrossEntropyLoss(reduction="sum"))
    with pytest.raises(ValueError, match="is not a mean over rows"):
        summed.of_rows([0])
    landscape = Landscape.from_module(module, inputs, classes, loss=F.cross_entropy)
    with pytest.raises(ValueError, match="rows is 61; it needs to be a whole number from 1 to 60"):
        landscape.subset(61, seed=0)
