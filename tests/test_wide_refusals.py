"""The wide form says what it does not know."""

import numpy as np
import pytest
import torch
from plain_loop import (
    ROW,
    ROWS,
    SEQUENCE,
    Plain,
    Recurrent,
    Written,
    _with_hook,
    classes,
    close,
    draw,
    landscape_of,
    loss_of_all,
    parameter,
    settled,
)
from torch import nn
from torch.nn import functional as F

from topolandscape.landscape.wide import NotWide, Wide

pytestmark = pytest.mark.usefixtures("one_thread")


def test_outputs_that_depend_on_no_varying_parameter():
    module = Written(lambda self, x: F.linear(x, self.weight), weight=torch.ones(3, 6), other=parameter(2))
    plain = Plain(module.double(), F.cross_entropy)
    wide = Wide(plain.model, F.cross_entropy, F.cross_entropy, plain.at)
    values, gradients = wide.gradients(plain.near(), (ROW, classes()))
    close(values, plain.at(plain.own, (ROW, classes())).expand(3))
    assert gradients.shape == (3, 2)
    assert not gradients.any()
    assert not wide.products(plain.near(), plain.near(), (ROW, classes())).any()


def control_flow(self, x):
    out = self.layer(x)
    return out if out.sum() > 0 else -out


def read_by_another_name(self, x):
    hidden = self.layer(x)
    part = hidden[:, :2]
    hidden.relu_()
    return part


# Refused when made: modules that cannot be traced, or call what has no rule.
REFUSED = {
    "control flow": (lambda: Written(control_flow, layer=nn.Linear(6, 3)), ROW),
    "RNN": (Recurrent, SEQUENCE),
    "batch norm in train mode": (lambda: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)).train(), ROW),
    "batch norm without statistics": (lambda: nn.BatchNorm1d(6, track_running_stats=False), ROW),
    "dropout in train mode": (lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout()).train(), ROW),
    "attention in train mode": (lambda: nn.TransformerEncoderLayer(4, 2, 4, batch_first=True).train(), SEQUENCE),
    "rows second": (lambda: nn.TransformerEncoderLayer(4, 2, 4), SEQUENCE),
    "hooks of what is not traced": (lambda: _with_hook(nn.BatchNorm1d(6), lambda *_: None), ROW),
    "changed under another name": (lambda: Written(read_by_another_name, layer=nn.Linear(6, 4)), ROW),
    "unknown function": (lambda: Written(lambda self, x: self.layer(x).sort(1)[0], layer=nn.Linear(6, 3)), ROW),
    "random": (lambda: Written(lambda self, x: self.layer(x) + torch.randn_like(x), layer=nn.Linear(6, 6)), ROW),
    "number of rows": (lambda: Written(lambda self, x: self.layer(x) * len(x), layer=nn.Linear(6, 6)), ROW),
}
# Refused at the first evaluation.
OVER_ROWS = {
    "sum over rows": lambda h: h - h.mean(0),
    "sum over all": lambda h: h * h.sum(),
    "largest of all": lambda h: h / h.max(),
    "softmax over rows": lambda h: h.softmax(0),
    "cumulative sum over rows": lambda h: h.cumsum(0),
    "flip of rows": lambda h: h.flip(0),
    "flip of all": lambda h: h.flip(1, 0),
    "roll of all": lambda h: h.roll(1),
    "first row": lambda h: h + h[0],
    "some rows": lambda h: h + h[:1],
    "indices apart": lambda h: h.view(-1, 2, 3, 1)[:, [0, 1], :, 0],
    "rows by a mask": lambda h: h[torch.arange(h.shape[0]) > 0],
    "products of rows": lambda h: h @ h.T,
    "products from the left": lambda h: torch.ones(1, ROWS).double() @ h,
    "einsum over rows": lambda h: torch.einsum("bi,bj->ij", h, h),
    "einsum that moves rows": lambda h: torch.einsum("bi->ib", h),
    "rows taken apart": lambda h: h.view(-1, 3),
    "rows joined": lambda h: h.flatten(),
    "rows moved": lambda h: h.transpose(0, 1),
    "rows permuted": lambda h: h.permute(1, 0),
    "rows repeated": lambda h: h.repeat(2, 1),
    "rows side by side": lambda h: torch.cat([h, h]),
    "rows split": lambda h: h.split(1)[0],
    "a dimension before the rows": lambda h: h.unsqueeze(0),
    "rows against columns": lambda h: h[:, :, None] + h,
    "rows padded": lambda h: F.pad(h, (0, 0, 0, 1)),
    "norm over rows": lambda h: F.normalize(h, dim=0),
    "layer norm over rows": lambda h: F.layer_norm(h, (ROWS, 6)),
    "batch norm": lambda h: F.batch_norm(h, None, None, training=True),
    "dropout": lambda h: F.dropout(h),
    "convolution along rows": lambda h: F.conv1d(h, torch.ones(6, 6, 1).double()),
    "instance norm without rows": lambda h: nn.InstanceNorm1d(7)(h),
    "instance norm of an image without rows": lambda h: nn.InstanceNorm2d(7)(h.view(-1, 2, 3)),
    "embedding of what differs": lambda h: F.embedding(h.argmax(1), torch.ones(6, 2).double()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_made(name):
    make, _ = REFUSED[name]
    module = make()
    if "train" not in name:
        module.eval()
    plain = Plain(module.double(), F.cross_entropy)
    with pytest.raises(NotWide):
        Wide(plain.model, F.cross_entropy, F.cross_entropy, plain.at)


@pytest.mark.parametrize("name", OVER_ROWS)
def test_refused_when_evaluated(name):
    module = Written(lambda self, x: OVER_ROWS[name](self.layer(x)), layer=nn.Linear(6, 6)).double()
    plain = Plain(module, loss_of_all)
    wide = Wide(plain.model, loss_of_all, loss_of_all, plain.at)
    with pytest.raises(NotWide):
        wide.values(plain.near(), (ROW, draw(ROWS)))


def test_a_landscape_takes_another_form_where_this_is_not_known():
    torch.manual_seed(0)
    over_rows = Written(lambda self, x: self.layer(x) - self.layer(x).mean(0), layer=nn.Linear(6, 3)).double()
    for module, inputs in ((settled(Recurrent()), SEQUENCE), (over_rows, ROW)):
        landscape = landscape_of(module, inputs)
        assert landscape.engine.form() != "wide"
        points = landscape.point + 0.3 * np.random.default_rng(1).normal(size=(5, landscape.dimension))
        np.testing.assert_allclose(landscape.values(points), landscape.engine.values(points, form="loop"), rtol=1e-12)
