"""The kernel of convolution gives the numbers of plain torch, and so do its first and second derivatives."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck
from torch.nn import functional as F

from topolandscape.landscape.kernels import convolution

INF, NAN = math.inf, math.nan
TILE = {torch.float32: 32, torch.float64: 16}  # rows, where registers hold 64 bytes; a multiple of those elsewhere

pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def relative(got, expected):
    """Return the largest difference in units of the largest number."""
    got, expected = got.detach(), expected.detach()
    return float((got - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


def looped(x, weight, bias, **options):
    """Return the convolution by torch, one vector after the other."""
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(options["stride"]) - 1]
    x = x.expand(len(weight), *x.shape[1:])
    biases = [None] * len(weight) if bias is None else bias
    results = [convolve(x[v].movedim(-1, 0), weight[v], biases[v], **options) for v in range(len(weight))]
    return torch.stack(results).movedim(1, -1)


def draw(count, inputs, outputs, positions, kernel, rows, *, groups=1, shared=False, dtype=torch.float64, seed=0):
    """Return x, weight and bias that require gradients."""
    shapes = (
        (1 if shared else count, inputs, *positions, rows),
        (count, outputs, inputs // groups, *kernel),
        (count, outputs),
    )
    rng = generator(seed)
    return tuple(torch.randn(shape, generator=rng, dtype=dtype).requires_grad_() for shape in shapes)


def options(stride=None, padding=None, dilation=None, groups=1, dimensions=2):
    return {
        "stride": stride or (1,) * dimensions,
        "padding": padding or (0,) * dimensions,
        "dilation": dilation or (1,) * dimensions,
        "groups": groups,
    }


def derivatives(function, x, weight, bias, seed=1):
    """Return the outputs, their gradients along one direction, and the gradients of those along another."""
    rng = generator(seed)
    outputs = function(x, weight, bias)
    along = torch.randn(outputs.shape, generator=rng, dtype=outputs.dtype).requires_grad_()
    first = grad(outputs, (x, weight, bias), along, create_graph=True)
    directions = [torch.randn(part.shape, generator=rng, dtype=part.dtype) for part in first]
    mixed = sum((part * direction).sum() for part, direction in zip(first, directions, strict=True))
    return (outputs.detach(), *(part.detach() for part in first), *grad(mixed, (x, weight, along)))


GEOMETRIES = {
    "3x3": (((8, 8), (3, 3), 4, 8), options(padding=(1, 1))),
    "one channel": (((8, 8), (3, 3), 1, 8), options(padding=(1, 1))),
    "no padding": (((5, 6), (3, 2), 3, 5), options()),
    "stride": (((9, 8), (3, 3), 2, 4), options(stride=(2, 3), padding=(1, 1))),
    "stride beyond the kernel": (((9, 8), (2, 1), 2, 3), options(stride=(3, 4))),
    "dilation": (((9, 8), (3, 2), 2, 4), options(dilation=(2, 3), padding=(2, 1))),
    "groups": (((6, 5), (3, 3), 6, 9), options(groups=3, padding=(1, 1))),
    "depthwise": (((6, 5), (3, 3), 5, 5), options(groups=5, padding=(1, 1))),
    "1x1": (((4, 3), (1, 1), 7, 6), options()),
    "1x1 with stride": (((5, 4), (1, 1), 3, 6), options(stride=(2, 2))),
    "padding wider than the kernel": (((2, 3), (2, 2), 2, 2), options(padding=(3, 2))),
    "kernel of the whole": (((4, 4), (4, 4), 3, 2), options()),
    "line": (((11,), (4,), 3, 5), options(stride=(2,), padding=(3,), dilation=(2,), dimensions=1)),
    "volume": (((4, 5, 3), (2, 3, 2), 2, 3), options(stride=(1, 2, 1), padding=(1, 0, 1), dimensions=3)),
}


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolution_and_its_derivatives_are_those_of_torch(name, shared):
    (positions, kernel, inputs, outputs), settings = GEOMETRIES[name]
    arguments = draw(3, inputs, outputs, positions, kernel, 37, groups=settings["groups"], shared=shared)
    got = derivatives(lambda *a: convolution(*a, **settings), *arguments)
    expected = derivatives(lambda *a: looped(*a, **settings), *arguments)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        assert relative(one, other) < 1e-12


@pytest.mark.parametrize("name", ["3x3", "stride", "groups", "volume"])
def test_convolution_in_float32_differs_by_rounding_only(name):
    (positions, kernel, inputs, outputs), settings = GEOMETRIES[name]
    arguments = draw(2, inputs, outputs, positions, kernel, 70, groups=settings["groups"], dtype=torch.float32)
    got = derivatives(lambda *a: convolution(*a, **settings), *arguments)
    along = got[0].dtype
    assert along == torch.float32

    # The same directions, in float64.
    rng = generator(1)
    doubled = [a.detach().double().requires_grad_() for a in arguments]
    outputs = looped(*doubled, **settings)
    along = torch.randn(outputs.shape, generator=rng).double().requires_grad_()
    first = grad(outputs, doubled, along, create_graph=True)
    mixed = sum((part * torch.randn(part.shape, generator=rng).double()).sum() for part in first)
    expected = (outputs, *first, *grad(mixed, (doubled[0], doubled[1], along)))
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == torch.float32
        assert relative(one.double(), other) < 2e-6


@given(st.data())
@settings(max_examples=200)
def test_convolution_is_that_of_torch_for_any_geometry(data):
    dimensions = data.draw(st.integers(1, 3))

    def numbers(low, high):
        return data.draw(st.tuples(*[st.integers(low, high)] * dimensions))

    kernel, stride, dilation, padding = numbers(1, 3), numbers(1, 3), numbers(1, 2), numbers(0, 2)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    positions = tuple(data.draw(st.integers(low, low + 3)) for low in least)
    groups = data.draw(st.integers(1, 3))
    inputs, outputs = (groups * data.draw(st.integers(1, 5)) for _ in range(2))
    count, rows = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2, 15, 16, 17, 33, 64, 65, 80]))
    shared = data.draw(st.booleans())
    settings = options(stride, padding, dilation, groups, dimensions)

    arguments = draw(count, inputs, outputs, positions, kernel, rows, groups=groups, shared=shared)
    got = derivatives(lambda *a: convolution(*a, **settings), *arguments)
    expected = derivatives(lambda *a: looped(*a, **settings), *arguments)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_passes_gradcheck_twice(groups, shared):
    settings = options(stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=groups)
    arguments = draw(2, 2, 4, (3, 4), (2, 2), 3, groups=groups, shared=shared)
    assert gradcheck(lambda *a: convolution(*a, **settings), arguments)
    assert gradgradcheck(lambda *a: convolution(*a, **settings), arguments)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_three_maps_are_derivatives_of_one_trilinear_form(name):
    (positions, kernel, inputs, outputs), settings = GEOMETRIES[name]
    x, weight, _ = draw(2, inputs, outputs, positions, kernel, 50, groups=settings["groups"])
    result = convolution(x, weight, None, **settings)
    along = torch.randn(result.shape, generator=generator(3), dtype=result.dtype)
    x_bar, weight_bar = grad(result, (x, weight), along)
    form = (along * result).sum()
    torch.testing.assert_close((x_bar * x).sum(), form, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close((weight_bar * weight).sum(), form, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dtype", TILE)
def test_a_row_does_not_depend_on_the_rows_beside_it(dtype):
    settings = options(padding=(1, 1))
    rows = 4 * TILE[dtype] + 5
    x, weight, bias = (a.detach() for a in draw(2, 3, 5, (4, 4), (3, 3), rows, dtype=dtype))
    whole = convolution(x, weight, bias, **settings)
    for number in (1, TILE[dtype] - 1, TILE[dtype], TILE[dtype] + 1, 2 * TILE[dtype], rows - 1):
        part = convolution(x[..., :number], weight, bias, **settings)
        assert torch.equal(part, whole[..., :number])
        assert torch.equal(convolution(x[..., -number:], weight, bias, **settings), whole[..., -number:])


def test_a_vector_does_not_depend_on_the_vectors_beside_it():
    settings = options(padding=(1, 1))
    x, weight, bias = draw(4, 3, 5, (4, 4), (3, 3), 40, dtype=torch.float32)
    whole = derivatives(lambda *a: convolution(*a, **settings), x, weight, bias)
    for v in range(4):
        own = [a.detach()[v : v + 1].requires_grad_() for a in (x, weight, bias)]
        assert torch.equal(convolution(*own, **settings), whole[0][v : v + 1])


def test_a_row_that_is_not_finite_leaves_the_others_alone():
    settings = options(padding=(1, 1))
    x, weight, bias = (a.detach() for a in draw(1, 2, 3, (4, 4), (3, 3), 40))
    before = convolution(x, weight, bias, **settings)
    x[0, 0, 1, 1, 7] = NAN
    x[0, 1, 2, 2, 39] = INF
    after = convolution(x, weight, bias, **settings)
    expected = looped(x, weight, bias, **settings)
    assert torch.equal(after.isnan(), expected.isnan())
    assert torch.equal(after.isinf(), expected.isinf())
    kept = [row for row in range(40) if row not in (7, 39)]
    assert torch.equal(after[..., kept], before[..., kept])


def test_padding_is_zeros_whatever_the_weights():
    x, weight, _ = (a.detach() for a in draw(1, 1, 1, (3, 3), (3, 3), 20))
    weight[0, 0, 0, 0, 0] = INF
    result = convolution(x, weight, None, **options(padding=(1, 1)))
    assert result[0, 0, 0].isfinite().all()
    assert not result[0, 0, 1:, 1:].isfinite().any()


def test_tensors_that_are_not_contiguous():
    settings = options(padding=(1, 1), stride=(2, 1))
    x, weight, bias = (a.detach() for a in draw(2, 3, 4, (5, 4), (3, 3), 40))
    expected = derivatives(
        lambda *a: convolution(*a, **settings), *(a.clone().requires_grad_() for a in (x, weight, bias))
    )
    strided = (
        x.movedim(-1, 0).contiguous().movedim(0, -1).requires_grad_(),
        weight.transpose(1, 3).contiguous().transpose(1, 3).requires_grad_(),
        bias.T.contiguous().T.requires_grad_(),
    )
    assert not any(a.is_contiguous() for a in strided)
    for one, other in zip(derivatives(lambda *a: convolution(*a, **settings), *strided), expected, strict=True):
        assert torch.equal(one, other)

    leaf = x.clone().requires_grad_()
    (expanded,) = grad(convolution(leaf, weight, bias, **settings).sum(), leaf)  # its gradient has strides of 0
    (plain,) = grad(looped(leaf, weight, bias, **settings).sum(), leaf)
    assert relative(expanded, plain) < 1e-12


def test_only_the_gradients_that_are_needed():
    settings = options(padding=(1, 1))
    x, weight, bias = draw(2, 2, 3, (4, 4), (3, 3), 20)
    result = convolution(x.detach(), weight, bias.detach(), **settings)
    assert relative(grad(result.sum(), weight)[0], grad(looped(x, weight, bias, **settings).sum(), weight)[0]) < 1e-12
    with torch.no_grad():
        assert not convolution(x, weight, bias, **settings).requires_grad


@pytest.mark.parametrize(("count", "rows"), [(0, 5), (2, 0)])
def test_nothing_gives_nothing(count, rows):
    arguments = draw(count, 2, 3, (4, 4), (3, 3), rows)
    result = convolution(*arguments, **options(padding=(1, 1)))
    assert result.shape == (count, 3, 4, 4, rows)
    for argument, gradient in zip(arguments, grad(result.sum(), arguments), strict=True):
        assert torch.equal(gradient, torch.zeros_like(argument))


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("name", ["3x3", "stride", "groups", "line", "volume"])
def test_other_dtypes_take_torch(name, shared):
    (positions, kernel, inputs, outputs), settings = GEOMETRIES[name]
    arguments = draw(3, inputs, outputs, positions, kernel, 9, groups=settings["groups"], shared=shared)
    coarse = [a.detach().bfloat16().requires_grad_() for a in arguments]
    fine = [a.detach().double().requires_grad_() for a in coarse]
    got, expected = convolution(*coarse, **settings), convolution(*fine, **settings)
    assert got.dtype == torch.bfloat16
    assert relative(got.double(), expected) < 2e-2
    for one, other in zip(grad(got.sum(), coarse), grad(expected.sum(), fine), strict=True):
        assert relative(one.double(), other) < 5e-2


def test_threads_give_what_one_thread_gives():
    settings = options(padding=(1, 1))
    tasks = [draw(2, 3, 4, (5, 5), (3, 3), 50, seed=seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda a: derivatives(lambda *b: convolution(*b, **settings), *a), tasks))
    for task, result in zip(tasks, results, strict=True):
        for one, other in zip(derivatives(lambda *b: convolution(*b, **settings), *task), result, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("shapes", "changed", "error", "message"),
    [
        (((2, 3, 4, 5), (2, 4, 3, 3, 3), (2, 4)), {}, ValueError, "2 dimensions needs"),
        (((3, 3, 4, 4, 5), (2, 4, 3, 3, 3), (2, 4)), {}, ValueError, r"x of shape \(3, 3, 4, 4, 5\)"),
        (((2, 3, 4, 4, 5), (2, 4, 2, 3, 3), (2, 4)), {}, ValueError, "3 inputs"),
        (((2, 4, 4, 4, 5), (2, 3, 2, 3, 3), (2, 3)), {"groups": 2}, ValueError, "multiple of the groups"),
        (((2, 3, 4, 4, 5), (2, 4, 3, 3, 3), (4,)), {}, ValueError, r"bias of shape \(4,\)"),
        (((2, 3, 4, 4, 5), (2, 4, 3, 5, 3), (2, 4)), {}, ValueError, "must fit"),
        (((2, 3, 0, 4, 5), (2, 4, 3, 1, 1), (2, 4)), {"padding": (1, 1)}, ValueError, "no size may be 0"),
        (((2, 0, 4, 4, 5), (2, 4, 0, 1, 1), (2, 4)), {}, ValueError, "no size may be 0"),
        (((2, 3, 4, 4, 5), (2, 4, 3, 3, 3), (2, 4)), {"stride": (0, 1)}, ValueError, "1 or more"),
        (((2, 3, 4, 4, 5), (2, 4, 3, 3, 3), (2, 4)), {"padding": (0, -1)}, ValueError, "0 or more"),
        (((2, 3, 4, 4, 5), (2, 4, 3, 3, 3), (2, 4)), {"padding": (1,)}, ValueError, "one number for each"),
    ],
)
def test_convolution_says_what_does_not_fit(shapes, changed, error, message):
    with pytest.raises(error, match=message):
        convolution(*map(torch.zeros, shapes), **(options() | changed))


def test_convolution_wants_one_dtype():
    x, weight, bias = (a.detach() for a in draw(1, 1, 1, (3, 3), (3, 3), 4))
    with pytest.raises(TypeError, match="weight in torch"):
        convolution(x, weight.float(), bias, **options())
    with pytest.raises(TypeError, match="bias in torch"):
        convolution(x, weight, bias.float(), **options())
