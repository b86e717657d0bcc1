"""Landscapes of functions, and landscapes on a subspace of another."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from small_modules import MODULES, ROWS, TASKS, camel

from topolandscape.landscape.loss import Landscape

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


@pytest.fixture
def inputs():
    return torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(1))


# --------------------------------------------------------------------------------------------------------------
# Functions
# --------------------------------------------------------------------------------------------------------------


def test_numpy_and_torch_functions_have_one_set_of_derivatives():
    by_numpy = Landscape.from_function(lambda x: np.cos(x[:, 0]) * np.exp(x[:, 1]) + x[:, 2] ** 3, 3)
    by_torch = Landscape.from_function(lambda x: torch.cos(x[:, 0]) * torch.exp(x[:, 1]) + x[:, 2] ** 3, 3)
    assert (by_numpy.description["takes"], by_torch.description["takes"]) == ("numpy", "torch")
    points = np.random.default_rng(0).uniform(-2, 2, (10, 3))
    x, y, z = points.T
    values = np.cos(x) * np.exp(y) + z**3
    gradients = np.stack([-np.sin(x) * np.exp(y), np.cos(x) * np.exp(y), 3 * z**2], axis=1)
    hessian = np.zeros((3, 3))
    hessian[:2, :2] = np.exp(y[0]) * np.array([[-np.cos(x[0]), -np.sin(x[0])], [-np.sin(x[0]), np.cos(x[0])]])
    hessian[2, 2] = 6 * z[0]
    vectors = np.array([[1.0, 0, 0], [1.0, -2.0, 3.0], [0.0, 0.0, 0.0]])
    for landscape, first, second in ((by_numpy, 1e-9, 1e-6), (by_torch, 1e-14, 1e-13)):
        np.testing.assert_allclose(landscape.values(points), values, rtol=1e-14)
        np.testing.assert_allclose(landscape.gradients(points)[1], gradients, rtol=first, atol=first)
        products = landscape.hessian_products(points[0], vectors)
        np.testing.assert_allclose(products, vectors @ hessian, rtol=second, atol=second)
        assert landscape.point is None
        assert landscape.noise <= 1e-14


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_function_of_both_is_taken_as_torch_unless_they_differ(dimension):
    assert Landscape.from_function(lambda x: (x**2).sum(1), dimension).description["takes"] == "torch"
    # std() has n - 1 in torch and n in numpy: the documented first choice holds.
    both = Landscape.from_function(lambda x: x.std(1) if x.shape[1] > 1 else np.abs(x[:, 0]), dimension)
    assert both.description["takes"] == "numpy"
    assert (
        Landscape.from_function(lambda x: torch.zeros(len(x)), dimension).gradients(np.ones((1, dimension)))[1].sum()
        == 0
    )
    assert Landscape.from_function(lambda x: np.zeros(len(x)), dimension).values(np.ones((2, dimension))).tolist() == [
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("function", "dimension", "error", "message"),
    [
        (
            lambda x: x,
            2,
            ValueError,
            r"returned shape \(3, 2\) for points of shape \(3, 2\); it needs to return shape \(3,\)",
        ),
        (lambda x: x[:1, 0], 3, ValueError, r"returned shape \(1,\)"),
        (lambda x: x.sum(), 2, ValueError, r"returned"),
        (lambda x: "loss", 2, ValueError, r"returned str"),
        (lambda x: x[:, 7], 2, ValueError, r"takes neither a numpy array of shape \(3, 2\) \(index 7"),
        (lambda x: np.random.random(len(x)), 2, RuntimeError, r"two evaluations at one point gave"),  # noqa: NPY002
        (lambda x: np.abs(x[:, 0]) + random.random(), 2, RuntimeError, r"two evaluations at one point gave"),
        (lambda x: x[:, 0] - x[:, 0].mean(), 2, RuntimeError, r"one point alone gave .* treats each row for itself"),
        (3, 2, TypeError, r"function is a int"),
        (camel, 0, ValueError, r"dimension is 0"),
        (camel, 2.5, ValueError, r"dimension is 2.5"),
    ],
)
def test_bad_functions_are_refused(function, dimension, error, message):
    with pytest.raises(error, match=message):
        Landscape.from_function(function, dimension)


# --------------------------------------------------------------------------------------------------------------
# Restrictions
# --------------------------------------------------------------------------------------------------------------


def test_restriction_is_the_landscape_on_a_subspace(inputs):
    loss, targets = TASKS["classes"]
    landscape = Landscape.from_module(MODULES["tanh"][0]().double(), inputs, targets, loss=loss, weight_decay=0.1)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(4, landscape.dimension))
    plane = landscape.restricted_to(landscape.point, directions)
    inner_origin, inner = rng.normal(size=4), rng.normal(size=(2, 4))
    nested = plane.restricted_to(inner_origin, inner)
    coordinates = rng.normal(size=(7, 2))
    points = landscape.point + (inner_origin + coordinates @ inner) @ directions
    assert (plane.dimension, nested.dimension) == (4, 2)
    np.testing.assert_allclose(nested.subspace.parameters(coordinates), points, rtol=1e-12)
    values, gradients = landscape.gradients(points)
    np.testing.assert_allclose(nested.values(coordinates), values, rtol=1e-11)
    np.testing.assert_allclose(
        nested.gradients(coordinates)[1], gradients @ (inner @ directions).T, rtol=1e-9, atol=1e-11
    )
    vectors = rng.normal(size=(3, 2))
    lifted = landscape.hessian_products(points[0], vectors @ inner @ directions)
    np.testing.assert_allclose(
        nested.hessian_products(coordinates[0], vectors), lifted @ (inner @ directions).T, rtol=1e-8, atol=1e-9
    )
    np.testing.assert_array_equal(nested.module_at([0.5, 1.0])[0].weight.shape, (3, 6))
    assert nested.point is None
    assert nested.blocks == ()
    assert landscape.subspace is None


def test_restrictions_and_rows_are_evaluated_as_planned(inputs):
    loss, targets = TASKS["classes"]
    landscape = Landscape.from_module(MODULES["tanh"][0]().double(), inputs, targets, loss=loss)
    plan = {"form": "loop", "chunk": 2, "rows": ROWS}
    points = landscape.point + 0.1 * np.random.default_rng(0).normal(size=(5, landscape.dimension))
    for of in (lambda whole: whole.restricted_to(whole.point, points), lambda whole: whole.of_rows([0, 3, 4])):
        part = of(landscape)
        coordinates = points[:, : part.dimension]
        for planned in (part.planned({"values": plan}), of(landscape.planned({"values": plan}))):
            assert (planned.engine.plan().form, planned.engine.plan().chunk) == ("loop", 2)
            assert planned.description["plans"] == {"values": plan}
            np.testing.assert_allclose(planned.values(coordinates), part.values(coordinates), rtol=1e-12)


@pytest.mark.parametrize(
    ("origin", "directions", "message"),
    [
        ([0.0], [[1.0, 0.0]], r"origin has shape \(1,\); it needs shape \(2,\)"),
        ([0.0, 0.0], [1.0, 0.0], r"directions have shape \(2,\)"),
        ([0.0, 0.0], np.zeros((0, 2)), "directions are empty"),
        ([0.0, np.nan], [[1.0, 0.0]], r"origin\[1\] is nan"),
    ],
)
def test_bad_restrictions_are_refused(origin, directions, message):
    with pytest.raises(ValueError, match=message):
        Landscape.from_function(camel, 2).restricted_to(origin, directions)


# --------------------------------------------------------------------------------------------------------------
# Bad input
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros(2), r"points have shape \(2,\); they need shape \(n, 2\). For a single one write point\[None\]"),
        (np.zeros((4, 3)), r"points have shape \(4, 3\); they need shape \(n, 2\)"),
        ([[0.0, 0.0], [0.0, np.nan]], r"points\[1, 1\] is nan"),
        ([[np.inf, 0.0]], r"points\[0, 0\] is inf"),
        ([["a", "b"]], "points cannot be read"),
    ],
)
def test_bad_points_are_refused(points, message):
    landscape = Landscape.from_function(camel, 2)
    with pytest.raises(ValueError, match=message):
        landscape.values(points)
    with pytest.raises(ValueError, match=message):
        landscape.gradients(points)


def test_no_points_have_no_losses():
    landscape = Landscape.from_function(camel, 2)
    assert landscape.values(np.zeros((0, 2))).shape == (0,)
    assert landscape.gradients(torch.zeros(0, 2))[1].shape == (0, 2)


def test_functions_have_no_module():
    with pytest.raises(ValueError, match="has no module"):
        Landscape.from_function(camel, 2).module_at([0.0, 0.0])
