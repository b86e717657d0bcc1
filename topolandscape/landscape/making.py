"""From a module and its data, or a plain function, to the parts of a landscape."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from topolandscape.landscape.batching import Engine
from topolandscape.landscape.data import Batch, Batches, Data, batches, cut, digest, map_tensors, read
from topolandscape.landscape.dense import Dense
from topolandscape.landscape.forms import Form, Looped, Vmapped
from topolandscape.landscape.machine import memory_budget, out_of_memory, randomness_kept
from topolandscape.landscape.noise import check_repeatable
from topolandscape.landscape.parts import Parts
from topolandscape.landscape.pure import (
    Loss,
    Model,
    PureLoss,
    chosen_devices,
    chosen_dtype,
    copied,
    doubled,
    function_form,
    name_of,
    pure_loss,
    varying_parameters,
)
from topolandscape.landscape.stacked import NotWide
from topolandscape.landscape.wide import Wide
from topolandscape.structures import Floats

Device = str | torch.device | Sequence[str | torch.device] | None


@dataclass(frozen=True, eq=False)
class Options:
    """How the loss of a module is made; see `topolandscape.Landscape.from_module`."""

    loss: Loss
    weight_decay: float
    parameters: str | Sequence[str] | None
    device: Device
    dtype: str | torch.dtype | None
    memory: int | None
    form: str | None


def of_function(function: Callable[[Any], Any], dimension: int) -> Parts:
    """Return the parts of a landscape of a plain function; see `topolandscape.Landscape.from_function`."""
    if not callable(function):
        raise TypeError(f"function is a {type(function).__name__}; it needs to be callable.")
    if not isinstance(dimension, (int, np.integer)) or dimension < 1:
        raise ValueError(f"dimension is {dimension!r}; it needs to be a whole number, 1 or more.")
    dimension = int(dimension)
    form = function_form(function, dimension)
    engine = Engine([form], lambda: [(1.0, None)])
    description = {
        "kind": "function",
        "function": name_of(function),
        "parameters": dimension,
        "takes": "numpy" if form.name == "numpy" else "torch",
        "dtype": "float64",
        "device": "cpu",
    }
    check_repeatable(engine, np.zeros(dimension), cure="Give a function that draws no random numbers.")
    return Parts(engine, dimension, description, (function, dimension))


def of_module(kind: str, module: nn.Module, data: Batches, options: Options) -> Parts:
    """Return the parts of a landscape of a module.

    Parameters
    ----------
    kind
        "module": the data are kept in memory; "loader": they are read anew at each evaluation.
    module
        Network.
    data
        Gives (inputs, targets, weights or None) batches, always the same.
    options
        As given by the user.
    """
    loss, weight_decay, dtype = options.loss, options.weight_decay, options.dtype
    if not isinstance(module, nn.Module):
        raise TypeError(f"module is a {type(module).__name__}; it needs to be a torch.nn.Module (an instance).")
    if not callable(loss):
        raise TypeError(f"loss is a {type(loss).__name__}; it needs to be called with (outputs, targets).")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay is {weight_decay}; it needs to be a number, 0 or more.")
    chosen = varying_parameters(module, options.parameters)
    devices = chosen_devices(options.device, next(iter(chosen.values())))
    where = devices[0]
    tf32 = dtype == "tf32"
    precision = chosen_dtype(torch.float32 if tf32 else dtype, next(iter(chosen.values())))
    budget = memory_budget(where) if options.memory is None else int(options.memory)

    with randomness_kept(where), torch.inference_mode(False), torch.enable_grad():
        model = copied(module, chosen, where, precision if dtype is not None else None)
        point = model.flat(module)
        vector = torch.tensor(point).to(where, precision)
        known = read(data, streamed=kind == "loader", device=where, dtype=precision)
        function = pure_loss(model, loss, vector, known)
        known = replace(known, additive=function.additive)
        if known.additive:
            known = cut(known, function, vector, budget // devices.count(where))
        elif known.count > 1:
            raise ValueError(
                f"the loss {name_of(loss)} is not a mean over rows, so {known.count} batches cannot be combined. "
                'Use reduction="mean" or "none", or give the data as one batch.'
            )
    engine = Engine(
        _forms(function, loss),
        known.blocks,
        count=known.count,
        dtype=precision,
        devices=devices,
        decay=float(weight_decay),
        memory=budget,
        spare=lambda device: _forms(function.copied_to(device), loss),
        dimension=len(point),
        streamed=known.streamed,
        tf32=tf32,
        cudnn=not any(isinstance(part, nn.RNNBase) for part in model.module.modules()),
        uncut=known.uncut,
    )
    if options.form is not None:
        engine.only(options.form)
    exact = None if precision == torch.float64 else _in_float64(model, loss, point, known, engine)
    description = {
        "kind": kind,
        "module": type(module).__name__,
        "parameters": len(point),
        "names": [block.name for block in model.blocks],
        "rows": known.rows,
        "loss": name_of(loss),
        "weight_decay": float(weight_decay),
        "dtype": "tf32" if tf32 else str(precision).removeprefix("torch."),
        "device": ", ".join(dict.fromkeys(device.type for device in devices)),
        "state": digest(module.state_dict()),
        "data": known.digest,
    } | ({} if options.form is None else {"form": options.form})
    check_repeatable(
        engine, point, cure="Call module.eval() before (dropout and the like draw random numbers in train mode)."
    )
    point.flags.writeable = False
    # To be made again on whichever device of that type another process has.
    given = kind, data if known.streamed else None, replace(options, device=where.type)
    return Parts(engine, len(point), description, given, model, point, exact=exact, data=known)


def in_memory(inputs: Any, targets: Any, weights: Any) -> Batches:
    """Return what gives the batches of data in memory."""
    parts_in, parts_out = batches(inputs), batches(targets)
    counting = [None] * len(parts_in) if weights is None else batches(weights)
    if not len(parts_in) == len(parts_out) == len(counting):
        also = "" if weights is None else f" and {len(counting)} of weights"
        raise ValueError(
            f"there are {len(parts_in)} batches of inputs and {len(parts_out)} of targets{also}; give as many of each."
        )
    return functools.partial(iter, list(zip(parts_in, parts_out, counting, strict=True)))


def read_anew(loader: Iterable[Any]) -> Batches:
    """Return what gives the batches of a loader."""
    if isinstance(loader, Iterator):
        raise TypeError(
            f"the loader is a {type(loader).__name__}, which can be gone through once; it is needed at every "
            "evaluation. Give a DataLoader, or a list of batches."
        )
    return functools.partial(_batches_of, loader)


def _batches_of(loader: Iterable[Any]) -> Iterator[Batch]:
    for index, batch in enumerate(loader):
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise TypeError(
                f"batch {index} of the loader is a {type(batch).__name__}"
                f"{f' of {len(batch)}' if isinstance(batch, (tuple, list)) else ''}; it needs to be a pair "
                "(inputs, targets). Wrap the data set so that it gives pairs."
            )
        yield batch[0], batch[1], batch[2] if len(batch) == 3 else None


def maker_of(parts: Parts) -> tuple[Callable[..., Parts], tuple[Any, ...]]:
    """Return the function, and its arguments, that make the parts of a landscape again in another process."""
    if parts.given is None:
        raise TypeError(
            "this landscape is of some rows or of a few directions, and only a whole one can be sent to another "
            "process; send that, and take the part of it there."
        )
    if parts.model is None or parts.point is None:
        return of_function, parts.given
    kind, data, options = parts.given
    if data is None:
        kept = [batch for _, batch in parts.known_data().batches()]
        data = functools.partial(iter, map_tensors(kept, Tensor.cpu))
    return of_module, (kind, parts.model.at(parts.point).cpu(), data, options)


def _forms(function: PureLoss, loss: Loss) -> list[Form]:
    """Return the ways of evaluating a loss, the best first."""
    forms: list[Form] = [Vmapped(function, function.scored), Looped(function, function.scored)]
    with suppress(NotWide):
        forms.insert(0, Wide(function.model, loss, function.score, function, additive=True))
    with suppress(NotWide):
        forms.insert(0, Dense(function.model, loss))
    return forms


def _in_float64(model: Model, loss: Loss, point: Floats, data: Data, engine: Engine) -> Engine | None:
    """Return an engine that evaluates the network in float64, or None where the module or the device cannot."""
    try:
        with randomness_kept(engine.device), torch.inference_mode(False), torch.enable_grad():
            exact = Model(copy.deepcopy(model.module).double(), model.blocks, model.trainable)
            vector = torch.tensor(point, device=engine.device)
            ((_, first),) = doubled([(1.0, data.first)])
            function = pure_loss(exact, loss, vector, replace(data, first=first))
    except Exception as error:
        if out_of_memory(error):
            raise
        return None
    return Engine(
        [Looped(function)],
        lambda: doubled(data.blocks()),
        count=data.count,
        devices=engine.devices,
        decay=engine.decay,
        memory=engine.memory,
        streamed=data.streamed,
        cudnn=engine.cudnn,
    )
