"""A user's module and loss, or function, as a pure function of one flat vector."""

from __future__ import annotations

import copy
import difflib
import fnmatch
import functools
import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from topolandscape.landscape.batching import Engine
from topolandscape.landscape.data import ROWS_TRIED, Batch, Data, count_rows, digest, map_tensors, shapes
from topolandscape.landscape.forms import Form, Looped, NumpyRows, Rows
from topolandscape.landscape.machine import out_of_memory, randomness_kept
from topolandscape.structures import Floats

Loss = Callable[[Any, Any], Tensor]


class Block(NamedTuple):
    """The entries of the flat vector that belong to one parameter of a module."""

    name: str
    entries: slice
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Model:
    """A copy of the user's module that nobody else holds, and which of its parameters vary."""

    module: nn.Module
    blocks: tuple[Block, ...]
    trainable: frozenset[str]

    def flat(self, module: nn.Module) -> Floats:
        """Return the varying parameters of a module as a flat vector."""
        parameters = dict(module.named_parameters())
        return np.concatenate(
            [parameters[b.name].detach().cpu().double().reshape(-1).numpy() for b in self.blocks], dtype=np.float64
        )

    def named(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the entries of a flat vector as the parameters that they are."""
        # Split at once: the derivative of each slice alone would be a vector of full length.
        parts = torch.split(vector, [block.entries.stop - block.entries.start for block in self.blocks])
        return {block.name: part.view(block.shape) for block, part in zip(self.blocks, parts, strict=True)}

    def at(self, vector: Floats) -> nn.Module:
        """Return a module with the parameters of a flat vector."""
        module = copy.deepcopy(self.module)
        parameters = dict(module.named_parameters())
        with torch.no_grad():
            for name, values in self.named(torch.tensor(vector)).items():
                parameters[name].copy_(values)
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in self.trainable)
        return module


def varying_parameters(module: nn.Module, parameters: str | Sequence[str] | None) -> dict[str, nn.Parameter]:
    """Return the parameters that vary, by their first name, in the order of the module."""
    named = dict(module.named_parameters())
    first = {id(parameter): name for name, parameter in named.items()}
    names = {alias: first[id(p)] for alias, p in module.named_parameters(remove_duplicate=False)}
    if not names:
        raise ValueError(f"the module {type(module).__name__} has no parameters; nothing can vary.")
    if parameters is None:
        chosen = {name: p for name, p in named.items() if p.is_floating_point()}
        if not chosen:
            raise ValueError(
                f"no parameter of the module {type(module).__name__} is of floating type; nothing can vary."
            )
    else:
        wanted: set[str] = set()
        for pattern in [parameters] if isinstance(parameters, str) else parameters:
            found = fnmatch.filter(names, pattern)
            if not found:
                near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or list(names)[:3]
                raise ValueError(
                    f"parameters={pattern!r} names none of the {len(names)} parameters of the module; there is "
                    f"{', '.join(map(repr, near))}."
                )
            wanted.update(names[alias] for alias in found)
        chosen = {name: p for name, p in named.items() if name in wanted}
        if not chosen:
            raise ValueError("parameters is empty; name at least one parameter, or leave it out to vary all.")
    for name, parameter in chosen.items():
        if nn.parameter.is_lazy(parameter):
            raise ValueError(f"parameter {name!r} has no shape yet; call the module once on some inputs before.")
        if not parameter.is_floating_point():
            raise TypeError(
                f"parameter {name!r} is {parameter.dtype}; only real floating numbers can vary. Leave it out of "
                "`parameters`."
            )
    return chosen


def chosen_devices(
    device: str | torch.device | Sequence[str | torch.device] | None, parameter: Tensor
) -> list[torch.device]:
    """Return the devices of the workers: those asked for, or that of a parameter.

    A processor comes once for each thread, an accelerator twice: so it computes while other vectors are on their way.
    Accelerators come with their number, since which one is meant by none differs between threads.
    """
    if device is None:
        asked: list[str | torch.device] = [parameter.device]
    else:
        asked = [device] if isinstance(device, (str, torch.device)) else list(device)
    if not asked:
        raise ValueError("device is an empty list; name at least one device, or leave it out.")
    found = []
    for name in asked:
        try:
            found.append(torch.empty(0, device=torch.device(name)).device)
        except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
            there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
            raise ValueError(
                f"device {str(name)!r} cannot be used ({str(error).splitlines()[0]}); there is {', '.join(there)}."
            ) from error
    if len(found) == 1 and found[0].type == "cpu":
        return found * torch.get_num_threads()
    return found * 2 if all(device.type == "cuda" for device in found) else found


def chosen_dtype(dtype: str | torch.dtype | None, parameter: Tensor) -> torch.dtype:
    """Return the floating type asked for, or that of a parameter."""
    if dtype is None:
        return parameter.dtype
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}; it needs to be a floating type such as torch.float32 or torch.float64.")
    return found


def copied(
    module: nn.Module, chosen: Mapping[str, nn.Parameter], device: torch.device, dtype: torch.dtype | None
) -> Model:
    """Return a copy of a module on its device and in its precision."""
    trainable = frozenset(name for name, parameter in module.named_parameters() if parameter.requires_grad)
    try:
        own = copy.deepcopy(module)
    except Exception as error:
        raise TypeError(
            f"the module {type(module).__name__} cannot be copied ({str(error).splitlines()[0]}). A hook or an "
            "attribute holds a tensor with a history; for weight_norm use torch.nn.utils.parametrizations."
        ) from error
    own = own.to(device)
    if dtype is not None:
        own = own.to(dtype)
    for parameter in own.parameters():
        parameter.grad = None
        parameter.requires_grad_(False)
    ends = np.cumsum([0] + [parameter.numel() for parameter in chosen.values()]).tolist()
    blocks = tuple(
        Block(name, slice(start, end), tuple(parameter.shape))
        for (name, parameter), (start, end) in zip(chosen.items(), itertools.pairwise(ends), strict=True)
    )
    return Model(own, blocks, trainable)


@dataclass(frozen=True, eq=False)
class PureLoss:
    """The loss of a block of data as a function of one flat vector.

    Parameters
    ----------
    model
        The module and its varying parameters.
    score
        The mean loss of outputs, targets and weights, in float64.
    overwrites
        Whether the module changes its inputs, which are then copied.
    additive
        Whether the loss is a mean over rows, so that blocks of rows may be summed.
    """

    model: Model
    score: Score
    overwrites: bool
    additive: bool = True

    def __call__(self, vector: Tensor, batch: Batch) -> Tensor:
        """Return the mean loss of a block."""
        inputs, targets, weights = batch
        return self.score(self.outputs(vector, inputs), targets, weights)

    def scored(self, vector: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a block and the share of rows classified correctly."""
        inputs, targets, weights = batch
        outputs = self.outputs(vector, inputs)
        return self.score(outputs, targets, weights), share_right(outputs, targets, weights)

    def outputs(self, vector: Tensor, inputs: Any) -> Any:
        """Return what the network makes of inputs."""
        if self.overwrites:
            inputs = map_tensors(inputs, torch.clone)
        return functional_call(self.model.module, self.model.named(vector), (inputs,))

    def copied_to(self, device: torch.device) -> PureLoss:
        """Return the same for another thread, since a call exchanges the parameters of the module."""
        module = copy.deepcopy(self.model.module).to(device)
        return replace(self, model=replace(self.model, module=module), score=self.score.copied_to(device))


def pure_loss(model: Model, loss: Loss, vector: Tensor, data: Data) -> PureLoss:
    """Return the loss of a block of data as a pure function.

    It is tried out on the first rows; where these alone do not fit the loss, on the whole first block.
    """
    few = map_tensors(data.first, lambda tensor: tensor[:ROWS_TRIED])
    try:
        function = _fitting(model, loss, vector, few)
    except ValueError:
        few = data.first
        function = _fitting(model, loss, vector, few)
    # Whether it is a mean over rows is a property of the loss, whatever the rows count.
    few = (*few[:2], None)
    rows = count_rows(few)
    if rows < 2:
        return function
    cut = max(1, rows // 3)
    try:
        parts = [
            map_tensors(few, lambda tensor: tensor[:cut]),
            map_tensors(few, lambda tensor: tensor[cut:]),
        ]
        mean = sum(float(function(vector, part)) * count_rows(part) for part in parts) / rows
        whole = float(function(vector, few))
    except Exception as error:
        if out_of_memory(error):
            raise
        return replace(function, additive=False)
    same = agree(np.array([whole]), np.array([mean]), vector.dtype).all()
    return replace(function, additive=bool(same) or not math.isfinite(whole))


def _fitting(model: Model, loss: Loss, vector: Tensor, batch: Batch) -> PureLoss:
    """Return the pure function of a module and a loss; raise saying what does not fit."""
    inputs, targets = map_tensors(batch[:2], torch.clone)
    before = {name: digest(buffer) for name, buffer in model.module.named_buffers()}
    intact = digest(inputs)
    try:
        outputs = functional_call(model.module, model.named(vector), (inputs,))
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"the module {type(model.module).__name__} cannot take inputs of shape {shapes(inputs)}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    changed = [name for name, buffer in model.module.named_buffers() if digest(buffer) != before[name]]
    if changed:
        raise RuntimeError(
            "the loss is not a function of the parameters: every evaluation changes the module's buffers "
            f"({', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''}). Call module.eval() before (batch norm "
            "in train mode follows the data)."
        )
    overwrites = digest(inputs) != intact

    problem: Exception | None = None
    for exact in (True, False):
        score = Score.of(loss, exact=exact, device=vector.device, by_row=batch[2] is not None)
        try:
            with warnings.catch_warnings():
                # Squared errors of (n, 1) outputs and (n,) targets would be taken between all pairs of rows.
                warnings.filterwarnings("error", message="Using a target size")
                score(outputs, targets, batch[2])
        except Exception as error:
            if out_of_memory(error):
                raise
            problem = problem or error
            continue
        return PureLoss(model, score, overwrites)
    raise ValueError(
        f"the loss {name_of(loss)} cannot take outputs of shape {shapes(outputs)} with targets of shape "
        f"{shapes(targets)}: {str(problem).splitlines()[0]}"
    ) from problem


def in_float64(model: Model, loss: Loss, point: Floats, data: Data, engine: Engine) -> Engine | None:
    """Return an engine that evaluates the network in float64, or None where the module or the device cannot."""
    try:
        with randomness_kept(engine.device), torch.inference_mode(False), torch.enable_grad():
            exact = Model(copy.deepcopy(model.module).double(), model.blocks, model.trainable)
            vector = torch.tensor(point, device=engine.device)
            inputs, targets, weights = data.first
            function = pure_loss(
                exact, loss, vector, replace(data, first=(map_tensors(inputs, _double), targets, weights))
            )
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


def doubled(blocks: Iterable[tuple[float, Batch]]) -> Iterator[tuple[float, Batch]]:
    """Yield blocks with their inputs in float64."""
    for share, (inputs, targets, weights) in blocks:
        yield share, (map_tensors(inputs, _double), targets, weights)


@dataclass(frozen=True, eq=False)
class Score:
    """The mean loss of outputs and targets, a float64 scalar.

    Parameters
    ----------
    loss
        The user's loss.
    exact
        Whether outputs and targets are converted to float64 before.
    by_row
        Whether the loss must give one value a row, since rows have weights.
    """

    loss: Loss
    exact: bool
    by_row: bool

    @classmethod
    def of(cls, loss: Loss, *, exact: bool, device: torch.device, by_row: bool) -> Score:
        """Return the score of a user's loss, which is copied where it is a module."""
        if isinstance(loss, nn.Module):
            loss = copy.deepcopy(loss).to(device).requires_grad_(False)
            loss = loss.double() if exact else loss
            if by_row and getattr(loss, "reduction", None) == "mean":
                vars(loss)["reduction"] = "none"
        elif by_row and _reduces(loss):
            loss = functools.partial(loss, **{"reduction": "none"})
        return cls(loss, exact, by_row)

    def copied_to(self, device: torch.device) -> Score:
        """Return the same for another thread."""
        if not isinstance(self.loss, nn.Module):
            return self
        return replace(self, loss=copy.deepcopy(self.loss).to(device))

    def __call__(self, outputs: Any, targets: Any, weights: Tensor | None = None) -> Tensor:
        """Return the mean over the rows, by their weights where there are any."""
        if self.exact:
            outputs, targets = map_tensors(outputs, _double), map_tensors(targets, _double)
        value = self.loss(outputs, targets)
        if not isinstance(value, Tensor):
            raise TypeError(f"it returned a {type(value).__name__}; it needs to return a tensor.")
        rows = count_rows(targets)
        one_a_row = value.shape[:1] == (rows,)
        if self.by_row and not one_a_row:
            raise ValueError(
                f"it returned shape {tuple(value.shape)}; with weights it needs to return {rows} values, one a row."
            )
        if value.numel() != 1 and not one_a_row:
            raise ValueError(f"it returned shape {tuple(value.shape)}; it needs to return a scalar, or {rows} values.")
        if not self.by_row or weights is None:
            return value.double().mean()
        by_row = value.double().reshape(rows, -1).mean(1)
        return (by_row * weights).sum() / weights.sum()


def _reduces(loss: Loss) -> bool:
    """Return whether a function takes reduction="none", as torch's losses do."""
    try:
        return "reduction" in inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return False


def share_right(outputs: Any, targets: Any, weights: Tensor | None) -> Tensor:
    """Return the share of rows whose largest output is that of the right class, a float64 scalar."""
    if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor) or outputs.ndim < 2 or outputs.shape[1] < 2:
        raise ValueError(
            f"accuracy needs outputs of one score a class, (rows, classes); there are outputs of {shapes(outputs)}."
        )
    if targets.shape == outputs.shape:
        targets = targets.argmax(1)
    elif targets.shape != outputs.shape[:1] + outputs.shape[2:] or targets.is_floating_point():
        raise ValueError(
            f"accuracy needs whole targets (rows,), one class a row; there are outputs of {shapes(outputs)} and "
            f"targets of {shapes(targets)}."
        )
    right = (outputs.argmax(1) == targets).double().reshape(len(targets), -1).mean(1)
    return right.mean() if weights is None else (right * weights).sum() / weights.sum()


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def function_form(function: Callable[[Any], Any], dimension: int) -> Form:
    """Find out by trial whether a function takes numpy arrays or torch tensors."""
    n = 3 if dimension == 2 else 2  # not the dimension: a function of the transpose must show
    probe = np.random.default_rng(0).uniform(0.1, 0.9, (n, dimension))
    problems: list[Exception] = []
    results: list[Any] = []
    with warnings.catch_warnings(), randomness_kept(torch.device("cpu")), torch.enable_grad():
        warnings.simplefilter("ignore")
        # A numpy function that is given a tensor raises, since this one requires gradients; else it might
        # return a tensor of which the history is lost.
        for argument in (probe.copy(), torch.tensor(probe, requires_grad=True)):
            try:
                results.append(function(argument))
            except Exception as error:
                problems.append(error)
                results.append(None)
    by_array, by_tensor = results
    torch_works = isinstance(by_tensor, Tensor) and tuple(by_tensor.shape) == (n,)
    numpy_works = by_array is not None and not isinstance(by_array, Tensor) and np.shape(by_array) == (n,)
    same = torch_works and numpy_works and np.allclose(by_array, by_tensor.detach().numpy(), equal_nan=True)
    if torch_works and ((same and by_tensor.requires_grad) or not numpy_works):
        return Rows(function)
    if numpy_works:
        return NumpyRows(function)
    for result in results:
        if result is not None:
            got = (
                f"shape {tuple(np.shape(result))}"
                if isinstance(result, (Tensor, np.ndarray))
                else type(result).__name__
            )
            raise ValueError(
                f"the function returned {got} for points of shape {probe.shape}; it needs to return shape ({n},), one "
                "value a row."
            )
    raise ValueError(
        f"the function takes neither a numpy array of shape {probe.shape} ({str(problems[0]).splitlines()[0]}) nor "
        f"a torch tensor ({str(problems[1]).splitlines()[0]}); it needs to take one of them."
    ) from problems[0]


def name_of(function: Any) -> str:
    """Return what a function or a module is called, without addresses."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    if isinstance(function, nn.Module):
        return " ".join(repr(function).split())
    return getattr(function, "__name__", type(function).__name__)


def agree(a: Floats, b: Floats, dtype: torch.dtype) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return where two evaluations are the same but for rounding."""
    tolerance = max(1000 * torch.finfo(dtype).eps, 1e-9)
    size = np.nanmax(np.abs(np.where(np.isfinite(a), a, 0.0)))
    return np.isclose(a, b, rtol=tolerance, atol=tolerance * size, equal_nan=True)
