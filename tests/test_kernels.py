"""The kernels of losses give the numbers of plain torch, or of exact arithmetic, and so do their derivatives."""

import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn import functional as F

from topolandscape.landscape.kernels import cross_entropy, squared_error

INF, NAN = math.inf, math.nan

pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# --------------------------------------------------------------------------------------------------------------
# Cross-entropy
# --------------------------------------------------------------------------------------------------------------


def plain_cross_entropy(outputs, targets, weights=None):
    """Return the mean by torch in float64, one vector after the other."""
    rows = torch.stack([F.cross_entropy(own.T.double(), targets, reduction="none") for own in outputs])
    return rows.mean(1) if weights is None else (rows * weights).sum(1) / weights.sum()


def classes(count, number, rows, *, scale=4.0, dtype=torch.float64, seed=0):
    """Return outputs, targets and weights."""
    rng = generator(seed)
    outputs = (scale * torch.randn(count, number, rows, generator=rng, dtype=torch.float64)).to(dtype)
    weights = torch.rand(rows, generator=rng, dtype=torch.float64)
    return outputs, torch.randint(number, (rows,), generator=rng), weights


def exact_cross_entropy(outputs, target):
    """Return the loss of one row in exact arithmetic, rounded to 40 digits."""
    with localcontext() as context:
        context.prec = 60
        exact = [Decimal(float(output)) for output in outputs]
        others = sum((value - exact[target]).exp() for k, value in enumerate(exact) if k != target)
        if others > Decimal("1e-20"):
            return (1 + others).ln()
        return others - others**2 / 2 + others**3 / 3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 255, 256, 257, 900])
@pytest.mark.parametrize("number", [1, 2, 10])
def test_cross_entropy_is_that_of_torch(number, rows, weighted):
    outputs, targets, weights = classes(3, number, rows)
    weights = weights if weighted else None
    outputs.requires_grad_()
    got, expected = cross_entropy(outputs, targets, weights), plain_cross_entropy(outputs, targets, weights)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-15)
    along = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(grad(got, outputs, along), grad(expected, outputs, along), rtol=1e-12, atol=1e-15)


def test_cross_entropy_of_float32_outputs():
    outputs, targets, weights = classes(3, 10, 700, dtype=torch.float32)
    outputs.requires_grad_()
    got, expected = cross_entropy(outputs, targets, weights), plain_cross_entropy(outputs, targets, weights)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=0)
    (slope,), (plain,) = grad(got.sum(), outputs), grad(expected.sum(), outputs)
    assert slope.dtype == torch.float32
    torch.testing.assert_close(slope, plain, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_passes_gradcheck_twice(weighted):
    outputs, targets, weights = classes(2, 3, 4, scale=1.0)
    weights = weights if weighted else None
    outputs.requires_grad_()
    assert gradcheck(lambda o: cross_entropy(o, targets, weights), outputs)
    assert gradgradcheck(lambda o: cross_entropy(o, targets, weights), outputs)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 1e-12), (torch.float64, 1e-12)])
def test_hessian_products_keep_their_digits_where_the_loss_is_tiny(dtype, accuracy):
    rng = generator(5)
    outputs = torch.randn(1, 4, 6, generator=rng, dtype=torch.float64).to(dtype)
    outputs[:, 0] += 20.0
    targets = torch.zeros(6, dtype=torch.int64)
    direction = torch.randn(outputs.shape, generator=rng, dtype=torch.float64).to(dtype)

    leaf = outputs.clone().requires_grad_()
    (slope,) = grad(cross_entropy(leaf, targets).sum(), leaf, create_graph=True)
    (got,) = grad((slope * direction).sum(), leaf)

    # The Hessian of a row is sum over pairs of classes k < l of p_k p_l (e_k - e_l)(e_k - e_l)^T: nothing cancels.
    p = outputs.double().softmax(1)
    expected = torch.zeros_like(p)
    for k, m in itertools.combinations(range(4), 2):
        pull = p[:, k] * p[:, m] * (direction[:, k].double() - direction[:, m].double()) / 6
        expected[:, k] += pull
        expected[:, m] -= pull
    rounding = {torch.float32: 1e-6, torch.float64: accuracy}[dtype]
    torch.testing.assert_close(got.double(), expected, rtol=rounding, atol=0)
    assert expected.abs().max() < 1e-8


@pytest.mark.parametrize("gap", [0.0, 1.0, 10.0, 27.5, 40.0, 80.0, 300.0])
@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 1e-8), (torch.float64, 1e-14)])
def test_tiny_losses_keep_their_digits(dtype, accuracy, gap):
    outputs, _, _ = classes(1, 5, 40, scale=1.5, dtype=dtype)
    outputs[:, 2] += gap
    for row in range(outputs.shape[2]):
        own = outputs[:, :, row : row + 1]
        expected = float(exact_cross_entropy(own[0, :, 0].tolist(), 2))
        # Outputs in float64 differ by a rounded number.
        allowed = accuracy + (gap * 2e-16 if dtype == torch.float64 else 0)
        assert float(cross_entropy(own, torch.tensor([2]))) == pytest.approx(expected, rel=allowed, abs=0)


@given(
    st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=6).flatmap(
        lambda row: st.tuples(st.just(row), st.integers(0, len(row) - 1))
    )
)
def test_cross_entropy_of_a_row_is_exact_to_rounding(case):
    row, target = case
    expected = float(exact_cross_entropy(row, target))
    for dtype, accuracy in ((torch.float32, 1e-8), (torch.float64, 5e-14)):
        outputs = torch.tensor(row, dtype=dtype).view(1, -1, 1)
        assert float(cross_entropy(outputs, torch.tensor([target]))) == pytest.approx(expected, rel=accuracy, abs=0)


def test_gradients_keep_their_digits_where_the_loss_is_tiny():
    outputs = torch.tensor([[[30.0], [0.0], [-5.0]]], requires_grad=True)
    (slope,) = grad(cross_entropy(outputs, torch.tensor([0])).sum(), outputs)
    others = [math.exp(-30), math.exp(-35)]
    np.testing.assert_allclose(slope[0, :, 0].numpy(), [-sum(others), *others], rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize(
    "row",
    [
        [NAN, 0.0, 1.0],
        [0.0, NAN, 1.0],
        [2.0, 1.0, NAN],
        [NAN, NAN, NAN],
        [INF, 0.0, 1.0],
        [0.0, 1.0, INF],
        [INF, INF, 0.0],
        [INF, -INF, 0.0],
        [NAN, INF, -INF],
        [-INF, 0.0, 1.0],
        [0.0, 1.0, -INF],
        [-INF, -INF, 1.0],
        [-INF, -INF, -INF],
        [3e38, -3e38, 0.0],
        [1e4, 0.0, -1e4],
    ],
)
def test_outputs_that_are_not_finite_as_in_torch(row, target, dtype):
    beside = [[0.5, -1.0, 2.0]]
    outputs = torch.tensor([[*beside, *beside], [row, *beside]], dtype=dtype).transpose(1, 2).requires_grad_()
    targets = torch.tensor([target, 1])
    got, expected = cross_entropy(outputs, targets), plain_cross_entropy(outputs, targets)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=0, equal_nan=True)

    (slope,), (plain,) = grad(got.sum(), outputs), grad(expected.sum(), outputs)
    assert torch.isfinite(slope[0]).all()
    assert torch.isfinite(slope[1, :, 1]).all()
    torch.testing.assert_close(slope, plain, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-7, equal_nan=True)


def test_cross_entropy_of_tensors_that_are_not_contiguous():
    outputs, targets, weights = classes(3, 4, 50)
    strided = outputs.movedim(-1, 0).contiguous().movedim(0, -1)
    apart = torch.stack([targets, targets], 1)[:, 0], torch.stack([weights, weights], 1)[:, 0]
    assert not any(a.is_contiguous() for a in (strided, *apart))
    assert torch.equal(cross_entropy(strided, *apart), cross_entropy(outputs, targets, weights))


def test_cross_entropy_in_other_dtypes():
    outputs, targets, weights = classes(2, 5, 30, scale=1.0)
    coarse = outputs.bfloat16().requires_grad_()
    fine = coarse.detach().double().requires_grad_()
    got, expected = cross_entropy(coarse, targets, weights), cross_entropy(fine, targets, weights)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=0)
    (slope,), (plain,) = grad(got.sum(), coarse), grad(expected.sum(), fine)
    assert slope.dtype == torch.bfloat16
    torch.testing.assert_close(slope.double(), plain, rtol=1e-2, atol=1e-6)

    tiny = torch.tensor([[[40.0], [0.0]]], dtype=torch.bfloat16)
    assert float(cross_entropy(tiny, torch.tensor([0]))) == pytest.approx(math.exp(-40), rel=1e-13, abs=0)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ([0, 1, 3], ValueError, r"targets\[2\] is 3; with 3 classes"),
        ([0, -1, 3], ValueError, r"targets\[1\] is -1"),
        ([0, 1, 2**40], ValueError, r"targets\[2\] is 1099511627776"),
        ([0, -100, 1], NotImplementedError, r"targets\[1\] is -100"),
        ([0, 1], ValueError, "3 rows"),
        ([0.0, 1.0, 2.0], ValueError, "int64"),
        ([[0], [1], [2]], ValueError, r"shape \(3, 1\)"),
    ],
)
def test_targets_that_are_no_classes(targets, error, message):
    with pytest.raises(error, match=message):
        cross_entropy(torch.zeros(2, 3, 3), torch.tensor(targets))


@pytest.mark.parametrize(
    ("shape", "weights", "message"),
    [
        ((2, 3), None, r"shape \(2, 3\)"),
        ((2, 0, 3), None, r"shape \(2, 0, 3\)"),
        ((2, 3, 0), None, "no rows"),
        ((2, 3, 3), [1.0, 2.0], r"weights of shape \(2,\)"),
    ],
)
def test_cross_entropy_says_what_does_not_fit(shape, weights, message):
    targets = torch.zeros(shape[-1], dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        cross_entropy(torch.zeros(shape), targets, None if weights is None else torch.tensor(weights))


# --------------------------------------------------------------------------------------------------------------
# Squared error
# --------------------------------------------------------------------------------------------------------------


def values(count, shape, rows, dtype=torch.float64):
    """Return outputs, targets and weights."""
    rng = generator()
    outputs = torch.randn(count, *shape, rows, generator=rng, dtype=dtype)
    targets = torch.randn(rows, *shape, generator=rng, dtype=dtype)
    return outputs, targets, torch.rand(rows, generator=rng, dtype=torch.float64)


def plain_squared_error(outputs, targets, weights=None):
    """Return the mean by torch in float64, one vector after the other."""
    rows = torch.stack([(own.movedim(-1, 0).double() - targets.double()).square() for own in outputs])
    rows = rows.flatten(2).mean(2) if rows.ndim > 2 else rows
    return rows.mean(1) if weights is None else (rows * weights).sum(1) / weights.sum()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("shape", "rows"), [((), 9), ((1,), 1), ((3,), 300), ((2, 3, 4), 17)])
def test_squared_error_is_that_of_torch(shape, rows, dtype, weighted):
    outputs, targets, weights = values(3, shape, rows, dtype)
    weights = weights if weighted else None
    outputs.requires_grad_()
    got, expected = squared_error(outputs, targets, weights), plain_squared_error(outputs, targets, weights)
    assert got.dtype == torch.float64
    rounding = {torch.float32: 1e-6, torch.float64: 1e-13, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(got, expected, rtol=rounding, atol=0)
    along = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    (slope,), (plain,) = grad(got, outputs, along), grad(expected, outputs, along)
    assert slope.dtype == dtype
    torch.testing.assert_close(slope, plain, rtol=rounding, atol=rounding)


def test_losses_without_gradients_are_the_same():
    outputs, targets, weights = classes(3, 4, 300)
    assert torch.equal(
        cross_entropy(outputs, targets, weights), cross_entropy(outputs.requires_grad_(), targets, weights)
    )
    with torch.no_grad():
        assert not cross_entropy(outputs, targets).requires_grad
    outputs, targets, weights = values(3, (2,), 300)
    assert torch.equal(
        squared_error(outputs, targets, weights), squared_error(outputs.requires_grad_(), targets, weights)
    )
    with torch.no_grad():
        assert not squared_error(outputs, targets).requires_grad


@pytest.mark.parametrize("count", [0, 1])
def test_losses_of_no_vectors(count):
    outputs, targets, _ = classes(count, 4, 5)
    assert cross_entropy(outputs.requires_grad_(), targets).shape == (count,)
    outputs, targets, _ = values(count, (2,), 5)
    assert squared_error(outputs.requires_grad_(), targets).shape == (count,)


@pytest.mark.parametrize("shape", [(), (2,), (2, 2)])
def test_squared_error_passes_gradcheck_twice(shape):
    outputs, targets, weights = values(2, shape, 3)
    outputs.requires_grad_()
    assert gradcheck(lambda o: squared_error(o, targets, weights), outputs)
    assert gradgradcheck(lambda o: squared_error(o, targets, weights), outputs)


def test_squared_error_is_summed_in_float64():
    outputs = torch.full((1, 1, 100_000), 0.1)
    assert float(squared_error(outputs, torch.zeros(100_000, 1))) == pytest.approx(
        float(outputs[0, 0, 0]) ** 2, rel=1e-12
    )


@pytest.mark.parametrize("bad", [NAN, INF])
def test_squared_error_of_outputs_that_are_not_finite(bad):
    outputs, targets, _ = values(2, (3,), 40)
    outputs[1, 2, 17] = bad
    got = squared_error(outputs, targets)
    torch.testing.assert_close(got, plain_squared_error(outputs, targets), equal_nan=True)
    assert math.isfinite(got[0])
    assert not math.isfinite(got[1])


def test_squared_error_takes_differences_in_the_dtype_of_the_outputs():
    outputs = torch.tensor([[[1.0]]])
    assert float(squared_error(outputs, torch.tensor([[1.0 + 1e-9]], dtype=torch.float64))) == 0.0


@pytest.mark.parametrize(
    ("outputs", "targets", "weights", "message"),
    [
        ((2, 3, 5), (5, 4), None, r"targets of shape \(5, 4\)"),
        ((2, 1, 5), (5,), None, r"targets of shape \(5,\)"),
        ((2, 3, 5), (3, 5), None, r"targets of shape \(3, 5\)"),
        ((5,), (5,), None, r"outputs of shape \(5,\)"),
        ((2, 3, 0), (0, 3), None, "one entry at least"),
        ((2, 0, 3), (3, 0), None, "one entry at least"),
        ((2, 3, 5), (5, 3), (4,), r"weights of shape \(4,\)"),
    ],
)
def test_squared_error_says_what_does_not_fit(outputs, targets, weights, message):
    with pytest.raises(ValueError, match=message):
        squared_error(torch.zeros(outputs), torch.zeros(targets), None if weights is None else torch.ones(weights))
