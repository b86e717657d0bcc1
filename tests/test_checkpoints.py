"""Checkpoints: what training loops save, and what is none."""

from __future__ import annotations

import json
import logging
import pickle
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topolandscape.files import bytes_in_file
from topolandscape.landscape.checkpoints import checkpoints
from topolandscape.landscape.loss import Landscape


def module(seed=0, width=5):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Linear(width, 2)).eval()


@pytest.fixture
def landscape():
    return Landscape.from_module(module(), torch.randn(8, 3), torch.arange(8) % 2, loss=F.cross_entropy)


def flat(trained):
    return torch.cat([part.detach().reshape(-1) for part in trained.parameters()]).double().numpy()


def test_modules_and_states_are_read_with_all_their_wrappings(landscape):
    trained = [module(seed) for seed in range(1, 8)]
    state = [part.state_dict() for part in trained]
    sources = [
        trained[0],
        state[1],
        {"epoch": 3, "state_dict": state[2], "optimizer": {"lr": 0.1}},
        {"model": state[3]},
        {f"module.{name}": part for name, part in state[4].items()},
        {"model_state_dict": {f"_orig_mod.module.{name}": part for name, part in state[5].items()}},
        {"model": trained[6]},
    ]
    rows = checkpoints(landscape, sources)
    np.testing.assert_array_equal(rows, np.stack([flat(part) for part in trained]))
    np.testing.assert_array_equal(checkpoints(landscape, {"one": state[1]}), rows[1:2])
    np.testing.assert_array_equal(landscape.point_of(landscape.module_at(rows[3])), rows[3])


def test_names_of_the_module_that_look_like_wrappings_stay():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 1)

        def forward(self, inputs):
            return self.net(inputs)

    wrapped = Wrapped()
    landscape = Landscape.from_module(wrapped, torch.zeros(2, 2), torch.zeros(2, 1), loss=F.mse_loss)
    np.testing.assert_array_equal(checkpoints(landscape, [wrapped.state_dict()])[0], flat(wrapped))


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch_are_read(landscape, tmp_path, legacy):
    trained = module(3)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    rows = checkpoints(landscape, {"a.pt": bytes_in_file(tmp_path / "a.pt")})
    np.testing.assert_array_equal(rows[0], flat(trained))


def as_safetensors(state):
    """Return a state in the format of safetensors: eight bytes of length, a header in JSON, the numbers."""
    header, numbers = {}, b""
    for name, tensor in state.items():
        part = tensor.float().contiguous().numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [len(numbers), len(numbers) + len(part)],
        }
        numbers += part
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def test_files_of_safetensors_are_read(landscape):
    pytest.importorskip("safetensors")
    trained = module(3)
    np.testing.assert_array_equal(checkpoints(landscape, [as_safetensors(trained.state_dict())])[0], flat(trained))
    with pytest.raises(ValueError, match=r"sources\[0\] cannot be read as safetensors"):
        checkpoints(landscape, [as_safetensors(trained.state_dict())[:60]])


def test_safetensors_is_asked_for_when_it_is_missing(landscape, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ImportError, match=r"sources\[0\] is in the format of safetensors, which is not installed"):
        checkpoints(landscape, [as_safetensors(module().state_dict())])


class Hostile:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (print, ("this must not be printed",))


def test_nothing_in_a_file_is_run(landscape, tmp_path, capsys):
    torch.save({"state_dict": Hostile()}, tmp_path / "a.pt")
    for data in ((tmp_path / "a.pt").read_bytes(), pickle.dumps(Hostile(), protocol=2)):
        with pytest.raises(ValueError, match=r"a\.pt holds more than tensors and plain values"):
            checkpoints(landscape, {"a.pt": data})
    assert capsys.readouterr().out == ""


def test_only_what_varies_is_taken_and_other_differences_are_named(caplog):
    trained = module(1)
    inputs, targets = torch.randn(8, 3), torch.arange(8) % 2
    landscape = Landscape.from_module(module(), inputs, targets, loss=F.cross_entropy, parameters="3.*")
    with caplog.at_level(logging.WARNING):
        (row,) = checkpoints(landscape, {"b.pt": trained})
    np.testing.assert_array_equal(row, flat(trained[3]))
    assert "b.pt has other values of '0.weight', '0.bias' than the landscape" in caplog.text
    caplog.clear()
    whole = Landscape.from_module(module(), inputs, targets, loss=F.cross_entropy)
    trained[1].running_mean += 1
    with caplog.at_level(logging.WARNING):
        checkpoints(whole, [trained])
    assert "'1.running_mean'" in caplog.text


def without(state, name):
    return {key: part for key, part in state.items() if key != name}


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (lambda: module(width=6), ValueError, r"'0.weight' in c.pt has shape \(6, 3\), in the landscape's .* \(5, 3\)"),
        (lambda: without(module().state_dict(), "3.bias"), ValueError, "c.pt has no '3.bias', which the landscape's"),
        (lambda: nn.Sequential(nn.Linear(3, 2)), ValueError, "'0.weight' in c.pt has shape|c.pt has no"),
        (lambda: nn.Bilinear(2, 2, 2), ValueError, "c.pt has 'weight', 'bias', which the landscape's module has not"),
        (lambda: module().state_dict() | {"3.bias": torch.full((2,), torch.nan)}, ValueError, "'3.bias' in c.pt holds"),
        (lambda: {"lr": 0.1, "epoch": 3}, TypeError, "c.pt is no state of a module: it holds keys 'lr', 'epoch'"),
        (lambda: {}, TypeError, "c.pt is no state of a module"),
        (lambda: 7, TypeError, "c.pt is no state of a module: it holds a int"),
        (lambda: b"", ValueError, "c.pt is not a checkpoint, or is damaged"),
        (lambda: b"no checkpoint at all", ValueError, "c.pt"),
        (lambda: b"PK\x03\x04 cut short", ValueError, "c.pt is not a checkpoint, or is damaged"),
    ],
)
def test_what_is_no_checkpoint_is_refused_by_name(landscape, source, error, message):
    with pytest.raises(error, match=message):
        checkpoints(landscape, {"good": module(), "c.pt": source()})


def test_bad_calls_are_refused(landscape, tmp_path):
    for single in (module(), module().state_dict(), {"model": module().state_dict()}, b"PK"):
        with pytest.raises(TypeError, match="sources is a single checkpoint"):
            checkpoints(landscape, single)
    with pytest.raises(ValueError, match="sources are empty"):
        checkpoints(landscape, [])
    with pytest.raises(ValueError, match="give the landscape of a module"):
        checkpoints(Landscape.from_function(lambda x: x.sum(1), 2), [module()])
    with pytest.raises(ValueError, match="is a folder"):
        bytes_in_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        bytes_in_file(tmp_path / "missing.pt")
