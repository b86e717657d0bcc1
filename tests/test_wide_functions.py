"""Functions and methods in the wide form, by their spellings, against the plain loop in float64."""

import math

import numpy as np
import pytest
import torch
from plain_loop import (
    CLASSES,
    IMAGE,
    ROW,
    ROWS,
    Written,
    classes,
    close,
    compare,
    draw,
    loss_of_all,
    parameter,
    settled,
)
from torch import nn
from torch.nn import functional as F

from topolandscape.landscape.layers import RULES
from topolandscape.landscape.stacked import Stacked

pytestmark = pytest.mark.usefixtures("one_thread")

# Of h (rows, 4, 3), which differs from vector to vector, and parameters p (3,), q (4, 3), u (1, 4, 1), m (3, 2).
EXPRESSIONS = {
    "view": lambda s, h: h.view(h.size(0), -1),
    "view of given sizes": lambda s, h: h.view(-1, 2, 6),
    "reshape": lambda s, h: torch.reshape(h, h.shape[:1] + s.q.T.shape),
    "shape of the rest": lambda s, h: h.transpose(1, 2).reshape(h.shape[0], math.prod(h.shape[1:])),
    "view_as": lambda s, h: h.view_as(h.transpose(1, 2)),
    "flatten": lambda s, h: torch.flatten(h, 1),
    "flatten, unflatten": lambda s, h: h.flatten(1, -1).unflatten(-1, (3, -1)),
    "permute": lambda s, h: h.permute(0, 2, 1),
    "permute a tuple": lambda s, h: torch.permute(h, (0, -1, 1)),
    "transpose": lambda s, h: h.transpose(-1, 1) + torch.transpose(h, 2, 1) + h.swapaxes(1, -1) + h.mT,
    "movedim": lambda s, h: h.movedim(1, -1) + torch.movedim(h, (1, 2), (2, 1)),
    "unsqueeze": lambda s, h: h.unsqueeze(-1) + torch.unsqueeze(h, 1).movedim(1, -1) * h[:, :, :, None],
    "squeeze": lambda s, h: h[:, :1].squeeze(1) + h[:, 2:3].squeeze() + h[:, 3:, None].squeeze((1, 2)),
    "index": lambda s, h: h[:, 1] + h[:, -1] + h[..., 0, :] + h[:, 1:3].sum(1),
    "index by several": lambda s, h: h[:, 1:, ::2] + h[:, :-1, [0, 2]] + h[:, None, 0, None, :2].squeeze(1),
    "index by a buffer": lambda s, h: h[:, s.order] + h.index_select(1, s.order),
    "ellipsis and none": lambda s, h: h[..., None, :] + h[:, :, None],
    "slice by a size": lambda s, h: h[:, : h.size(2)] * s.q[: h.size(2)],
    "chunk": lambda s, h: h.chunk(2, 1)[0] * torch.chunk(h, 2, dim=1)[1],
    "split": lambda s, h: torch.split(h, [1, 3], 1)[0] + h.split(1, dim=2)[2],
    "unbind": lambda s, h: torch.stack(h.unbind(2)[::2], -1) + h.unbind(dim=1)[0][:, None, :2],
    "several results": lambda s, h: _sum_of_halves(h),
    "cat": lambda s, h: torch.cat((h, h.new_zeros(h.shape[0], 1, 3), s.u.expand(h.shape[0], 4, 3)), dim=1),
    "cat of constants": lambda s, h: torch.cat([h, torch.zeros_like(h), 2 * torch.ones_like(h[..., :1])], -1),
    "stack": lambda s, h: torch.stack([h, 2 * h], -1) + torch.stack([h, h * h], 1).permute(0, 2, 3, 1),
    "expand": lambda s, h: h[:, :, :1].expand(-1, -1, 5) + h[:, :1, :1].expand(h.size(0), 4, 5) + s.u.expand(-1, 4, 5),
    "expand_as": lambda s, h: s.p.expand_as(h) * h,
    "repeat": lambda s, h: h.repeat(1, 2, 1) + s.q.repeat(2, 1) + s.u.repeat(h.shape[0], 2, 1),
    "flip, roll": lambda s, h: h.flip(1, 2) + torch.flip(h, [-1]) + h.roll(1, 1) + torch.roll(h, (1, 2), (1, 2)),
    "narrow, select": lambda s, h: h.narrow(1, 1, 2) + h.select(-1, 0)[:, 2:, None],
    "sum, mean": lambda s, h: h.sum(1) + h.mean((1,)) + torch.sum(h, dim=1) + h.mean(dim=[1, 2])[:, None],
    "keepdim": lambda s, h: h - h.mean(-1, keepdim=True) + h.sum((1, 2), True) + torch.mean(h, 1, True),
    "amax, amin": lambda s, h: h.amax(1) - h.amin(dim=-1)[:, :3] + torch.amax(h, (1, 2), keepdim=True)[:, 0],
    "max along": lambda s, h: h.max(1)[0] + torch.max(h, dim=1).values + h.min(dim=-1, keepdim=True)[0][:, :3, 0],
    "max of two": lambda s, h: torch.max(h, s.q) + torch.maximum(h, 2 * h) + torch.min(h, -h),
    "variance": lambda s, h: h.var(1) + h.std(dim=1) + h.var(-1, unbiased=False)[:, :3] + torch.var(h, 1, correction=0),
    "norms": lambda s, h: h.norm(dim=1) + h.norm(2, -1)[:, :3] + torch.linalg.vector_norm(h, dim=1),
    "normalize": lambda s, h: F.normalize(h, dim=-1) + F.normalize(h),
    "logsumexp": lambda s, h: h.logsumexp(1) + torch.logsumexp(h, (1, 2))[:, None],
    "cumsum, prod": lambda s, h: (
        h.cumsum(1) + torch.cumsum(h, -1) + h.prod(1, keepdim=True) + h.diff(dim=1).sum(1)[:, None]
    ),
    "softmax": lambda s, h: h.softmax(1) + F.softmax(h, dim=-1) + torch.log_softmax(h, -1) + F.softmin(h, dim=1),
    "glu": lambda s, h: F.glu(h, dim=1),
    "parameter statistics": lambda s, h: h * s.q.mean() + s.q.sum(0) - s.p.max() + s.m.flatten()[0] + s.q.std(),
    "arithmetic": lambda s, h: (2 - h) * h / (3 + h.square()) + h**2 - -h + 1 / (2 + h * h),
    "with parameters": lambda s, h: (h + s.p) * s.q - s.u + s.p / (2 + s.q**2),
    "methods": lambda s, h: h.add(s.p).mul(s.q).sub(1, alpha=2).div(3).pow(2).neg().abs().clamp(min=0.1, max=4.0),
    "functions": lambda s, h: torch.add(h, s.p, alpha=2) + torch.mul(s.q, h) + torch.sub(h, 1) + torch.square(h),
    "elementwise": lambda s, h: h.exp().log1p() + torch.sin(h) * h.cos() + torch.sqrt(h * h + 1).rsqrt() + h.erf(),
    "where": lambda s, h: (
        torch.where(h > s.p, h, s.q) + h.where(h < 0, 0.1) + (h >= 0).double() + h.masked_fill(h != h, 1)
    ),
    "masked by a buffer": lambda s, h: h.masked_fill(s.order[:3] == 2, -1.0) + torch.lerp(h, s.q, 0.3),
    "sizes": lambda s, h: h * h.size(1) / h.ndim + h.dim() + h.shape[2] // 2 + h.numel() / h.shape[0],
    "matmul": lambda s, h: h @ s.m + torch.matmul(h, s.m) + h.matmul(s.q.T @ s.q @ s.m) + (s.q @ s.m),
    "matmul of a vector": lambda s, h: h @ s.p + torch.matmul(h, s.p),
    "matmul from the left": lambda s, h: s.q.t() @ h + s.q.mT @ h,
    "products of rows": lambda s, h: (
        h @ h.transpose(1, 2) + torch.bmm(h, h.mT) + torch.baddbmm(h @ h.mT, h, h.mT, beta=2)
    ),
    "addmm": lambda s, h: torch.addmm(s.p[:2], h[:, 0], s.m, alpha=2),
    "einsum": lambda s, h: torch.einsum("bij,bkj->bik", h, h) @ torch.einsum("bij,jk->bik", h, s.m),
    "einsum that sums": lambda s, h: torch.einsum("bij,bij,ij->b", h, h, s.q) + torch.einsum("ij->", s.q),
    "pad": lambda s, h: F.pad(h, (1, 2)) + F.pad(h, (1, 2), value=3.0) + F.pad(h, (1, 2), mode="reflect"),
    "pad two": lambda s, h: F.pad(h, (0, 1, 2, 0)),
    "pooling by one": lambda s, h: F.max_pool1d(h, 2) + F.avg_pool1d(h, 2) + F.adaptive_avg_pool1d(h, 1),
    "pooling that overlaps": lambda s, h: F.max_pool1d(h, 2, 1) + F.avg_pool1d(h, 2, 1) + F.adaptive_max_pool1d(h, 2),
    "pooling of images": lambda s, h: (
        F.avg_pool2d(h[:, None], 2) + F.max_pool2d(h[:, None], (2, 1), (2, 2), 0)[..., :1]
    ),
    "odd pooling": lambda s, h: F.avg_pool2d(h[:, None], 3, 2, 1, True, False) + F.lp_pool2d(h[:, None], 2.0, (4, 3)),
    "pooling of parameters": lambda s, h: h + F.interpolate(s.u.reshape(1, 2, 2), scale_factor=2)[0, 0, :, None],
    "adaptive pooling": lambda s, h: (
        F.adaptive_avg_pool2d(h[:, None], (2, None)) + F.adaptive_avg_pool2d(h[:, None], (3, 2))[:, :, :2, :1]
    ),
    "interpolate": lambda s, h: F.interpolate(h, size=5, mode="linear") + F.interpolate(h, scale_factor=2)[..., 1:],
    "shuffles": lambda s, h: F.pixel_shuffle(h[:, :, None], 2) + F.pixel_unshuffle(h[:, None, :, :2], 2)[:, :1, :1],
    "unfold": lambda s, h: F.unfold(h[:, None], 2) + F.fold(F.unfold(h[:, None], 2), (4, 3), 2).flatten(1)[:, :4, None],
    "local response": lambda s, h: F.local_response_norm(h, 2),
    "prelu": lambda s, h: F.prelu(h, s.q[:, 0]),
    "attention": lambda s, h: F.scaled_dot_product_attention(h, 2 * h, h * s.p, scale=0.3, is_causal=True),
    "attention of heads": lambda s, h: F.scaled_dot_product_attention(
        h[:, None], h[:, None], s.q.expand(h.size(0), 1, 4, 3), s.q @ s.q.T
    ),
    "conversions": lambda s, h: (
        h.to(torch.float64) + h.double() + h.type_as(h) + h.to(s.p) + h.detach() + h.clone().contiguous()
    ),
    "nothing but parameters": lambda s, h: F.linear(s.q, s.m.T).sum() + F.layer_norm(s.q, (3,)) + F.relu(s.q) + 0 * h,
    "math": lambda s, h: h / math.sqrt(h.size(-1)) + torch.arange(h.shape[2]) * math.pi,
    "in place": lambda s, h: _changed_in_place(h * 1),
    "in place under the old name": lambda s, h: _changed_and_forgotten(h * 1),
    "in place by an operator, under the old name": lambda s, h: _changed_by_operators(h * 1),
    "in place, then read again": lambda s, h: F.relu(h * 1 + s.p, inplace=True) + h,
}


def _sum_of_halves(h):
    one, two = h.split(2, dim=1)
    low, high = two.chunk(2, dim=1)
    return one + low * high


def _changed_in_place(h):
    h.add_(1).mul_(0.5)
    h += h.detach().cos()
    h *= 2
    h -= 1
    h /= 3
    return h.tanh_()


def _changed_by_operators(h):
    one, copied = h, h.clone()
    h += 1
    two = h
    h *= 2
    h /= copied.square() + 1
    return one * two + h * copied


def _changed_and_forgotten(h):
    h.mul_(3)
    other = h.exp()
    h.add_(2)
    return h + other


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_functions(name):
    torch.manual_seed(0)
    module = Written(
        lambda self, x: EXPRESSIONS[name](self, self.layer(x).view(x.size(0), 4, 3)),
        layer=nn.Linear(6, 12),
        p=parameter(3),
        q=parameter(4, 3),
        u=parameter(1, 4, 1),
        m=parameter(3, 2),
        order=torch.tensor([2, 0, 3, 1]),
    )
    compare(module.double(), ROW, draw(ROWS, seed=4), loss_of_all)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_pooling_of_any_geometry(dimensions, seed):
    """Entries are small whole numbers, so that many are equal: the gradient must go where torch sends it."""
    rng = np.random.default_rng([dimensions, seed])
    size = tuple(rng.integers(4, 8, dimensions).tolist())
    x = torch.tensor(rng.integers(-2, 3, (2, 3, *size, ROWS)), dtype=torch.float64).requires_grad_()
    kernel, stride = (tuple(rng.integers(1, 4, dimensions).tolist()) for _ in range(2))
    padding = tuple(int(rng.integers(0, taps // 2 + 1)) for taps in kernel)
    ceil, outputs = bool(rng.integers(2)), tuple(rng.integers(1, 4, dimensions).tolist())
    dilation = 1 if ceil else int(rng.integers(1, 3))
    if any(dilation * (taps - 1) >= whole for taps, whole in zip(kernel, size, strict=True)):
        dilation = 1
    divisor = {} if dimensions == 1 or seed % 2 else {"divisor_override": 3}
    calls = {
        "max_pool": {
            "kernel_size": kernel,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "ceil_mode": ceil,
        },
        "avg_pool": {"kernel_size": kernel, "padding": padding, "ceil_mode": ceil, "count_include_pad": seed > 5}
        | divisor,
        "adaptive_max_pool": {"output_size": outputs},
        "adaptive_avg_pool": {"output_size": outputs},
    }
    for name, options in calls.items():
        function = getattr(F, f"{name}{dimensions}d")
        rows_first = x.movedim(-1, 1).flatten(0, 1)
        expected = function(rows_first, **options).unflatten(0, (2, ROWS)).movedim(1, -1)
        found = RULES[function](Stacked(x, rows=True), **options).tensor
        close(found.detach(), expected.detach())
        bar, along = draw(*found.shape, seed=seed).requires_grad_(), draw(*x.shape, seed=seed)
        slopes = [torch.autograd.grad(value, x, bar, create_graph=True)[0] for value in (found, expected)]
        close(slopes[0].detach(), slopes[1].detach())
        close(*(torch.autograd.grad(slope, bar, along)[0] for slope in slopes))
        assert torch.equal(RULES[function](Stacked(x.detach(), rows=True), **options).tensor, found.detach())


def test_weight_norm_against_differences():
    # Torch's own second derivative of its fused weight norm is wrong, so products are compared with differences.
    torch.manual_seed(0)
    module = settled(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 3)))
    _, wide, vectors = compare(module, ROW, classes(), F.cross_entropy, twice=False)
    directions, data = draw(*vectors.shape, seed=2), (ROW, classes())
    ahead, behind = (wide.gradients(vectors + step * directions, data)[1] for step in (1e-5, -1e-5))
    close(wide.products(vectors, directions, data), (ahead - behind) / 2e-5, 1e-7)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("size", [2, (3, 4), (4, 1)])
def test_the_same_padding_of_even_kernels(size):
    module = nn.Sequential(nn.Conv2d(2, CLASSES, size, padding="same", dilation=(1, 3)), nn.Flatten())
    compare(module.double(), IMAGE, draw(ROWS, seed=6), loss_of_all)
