"""Trained checkpoints as points of a landscape."""

from __future__ import annotations

import importlib
import io
import logging
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from topolandscape.landscape.loss import Landscape
from topolandscape.structures import Floats

# Under these keys training loops put the state of the module next to that of the optimizer.
_WRAPPINGS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights")
# And these they put before its names: DataParallel, torch.compile, lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")

_log = logging.getLogger(__name__)


def checkpoints(landscape: Landscape, sources: Iterable[Any] | Mapping[str, Any]) -> Floats:
    """Return the parameter vectors of trained checkpoints.

    Parameters
    ----------
    landscape
        Of the whole module.
    sources
        Modules of the same architecture; or their states, as ``state_dict()`` gives them; or the contents of files
        that ``torch.save`` or safetensors wrote, as bytes. Or a mapping of names to these, for messages. States may
        be wrapped as training loops do it: ``{"state_dict": ...}``, ``{"model": ...}``, and names that begin with
        ``module.`` (DataParallel) or ``_orig_mod.`` (torch.compile).

    Returns
    -------
    float64 array
        One parameter vector a row, shape (n, dimension).

    Raises
    ------
    ValueError
        A source is of another architecture, lacks a parameter or has one that is not finite, or cannot be read.
    TypeError
        A source is something else than a module, a state or bytes.

    Notes
    -----
    Files are read with ``weights_only=True``: nothing in them is run. Compressed archives are refused. Only the
    parameters that vary are taken. Where other parts of a state, as the running statistics of batch norm, differ from
    those of the landscape, a warning is logged, since the loss at the point is then not the loss of the checkpoint.

    Examples
    --------
    >>> module = torch.nn.Linear(2, 1)
    >>> landscape = Landscape.from_module(
    ...     module, torch.zeros(3, 2), torch.zeros(3, 1), loss=torch.nn.functional.mse_loss
    ... )
    >>> state = {"epoch": 9, "state_dict": {"module.weight": torch.ones(1, 2), "module.bias": torch.zeros(1)}}
    >>> checkpoints(landscape, [state])
    array([[1., 1., 0.]])
    """
    if landscape.point is None:
        raise ValueError("this landscape is of a function or of a few directions; give the landscape of a module.")
    if isinstance(sources, (nn.Module, bytes)) or (isinstance(sources, Mapping) and _state_in(sources) is not None):
        raise TypeError("sources is a single checkpoint; give a list of them, or a mapping of names to them.")
    named = sources.items() if isinstance(sources, Mapping) else ((f"sources[{i}]", s) for i, s in enumerate(sources))
    own = landscape.module_at(landscape.point).state_dict()
    rows = [_row(landscape, own, _state(source, name), name) for name, source in named]
    if not rows:
        raise ValueError("sources are empty; give at least one checkpoint.")
    return np.stack(rows)


def _row(landscape: Landscape, own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str) -> Floats:
    """Return the varying parameters of a state as a flat vector."""
    while not own.keys() & state.keys():
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    architecture = "Give checkpoints of the architecture of the landscape's module."
    unknown = [key for key in state if key not in own]
    if unknown:
        raise ValueError(f"{name} has {_listed(unknown)}, which the landscape's module has not. {architecture}")
    missing = [block.name for block in landscape.blocks if block.name not in state]
    if missing:
        raise ValueError(f"{name} has no {_listed(missing)}, which the landscape's module has. {architecture}")
    for key, tensor in state.items():
        if tensor.shape != own[key].shape:
            raise ValueError(
                f"{key!r} in {name} has shape {tuple(tensor.shape)}, in the landscape's module "
                f"{tuple(own[key].shape)}. {architecture}"
            )
    vector = np.empty(landscape.dimension)
    for block in landscape.blocks:
        vector[block.entries] = state[block.name].detach().cpu().double().reshape(-1).numpy()
        if not np.isfinite(vector[block.entries]).all():
            raise ValueError(f"{block.name!r} in {name} holds numbers that are not finite; leave the checkpoint out.")
    vary = {block.name for block in landscape.blocks}
    others = [key for key, tensor in own.items() if key in state and key not in vary and tensor.is_floating_point()]
    differing = [key for key in others if not torch.allclose(state[key].detach().to(own[key]), own[key])]
    if differing:
        _log.warning(
            "%s has other values of %s than the landscape, which keeps its own: they do not vary",
            name,
            _listed(differing),
        )
    return vector


def _state(source: Any, name: str) -> dict[str, Tensor]:
    """Return the names and tensors of a source, unwrapped."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        source = _unpacked(bytes(source), name)
    found = source.state_dict() if isinstance(source, nn.Module) else _state_in(source)
    if found is None:
        kind = f"keys {_listed(list(source))}" if isinstance(source, Mapping) else f"a {type(source).__name__}"
        raise TypeError(
            f"{name} is no state of a module: it holds {kind}. Give a module, its state_dict(), or the contents of a "
            "file to which torch.save(module.state_dict(), path) wrote."
        )
    return dict(found)


def _state_in(source: Any) -> Mapping[str, Tensor] | None:
    """Return the mapping of names to tensors in what a training loop saved, or None."""
    if isinstance(source, nn.Module):
        return source.state_dict()
    if not isinstance(source, Mapping) or not source:
        return None
    if all(isinstance(key, str) and isinstance(part, Tensor) for key, part in source.items()):
        return source
    return next((state for key in _WRAPPINGS if (state := _state_in(source.get(key))) is not None), None)


def _unpacked(data: bytes, name: str) -> Any:
    """Return what torch.save or safetensors wrote."""
    if data[8:9] == b"{":  # safetensors: eight bytes of length, then a header in JSON
        try:
            load = importlib.import_module("safetensors.torch").load
        except ImportError:
            raise ImportError(
                f"{name} is in the format of safetensors, which is not installed; install it (pip install "
                "safetensors), or save the checkpoint with torch.save()."
            ) from None
        try:
            return load(data)
        except Exception as error:
            raise ValueError(f"{name} cannot be read as safetensors ({error}); save it again.") from error
    _refuse_compressed(data, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other formats of pickles: what cannot be read is said below
            return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{name} holds more than tensors and plain values, and reading it could run code; save the checkpoint "
            "with torch.save(module.state_dict(), path)."
        ) from error
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name} is not a checkpoint, or is damaged ({said}); give a file of torch.save().") from error


def _refuse_compressed(data: bytes, name: str) -> None:
    """Raise for an archive whose parts announce more than it holds: torch takes memory before it reads them."""
    try:
        announced = sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist())
    except Exception:  # no archive, or a damaged one, of which torch says what is wrong
        return
    if announced > len(data):
        raise ValueError(
            f"{name} announces {announced} bytes and holds {len(data)}; torch.save() compresses nothing: it is "
            "damaged, or made to fill memory."
        )


def _listed(names: list[Any]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
