"""The loss of a network as a pure function of one flat parameter vector."""

from __future__ import annotations

import copy
import difflib
import fnmatch
import functools
import hashlib
import itertools
import math
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import functional_call

from topolandscape.landscape.batching import (
    Engine,
    Form,
    Function,
    Looped,
    NumpyRows,
    Rows,
    Vmapped,
    bytes_allocated,
    memory_budget,
    out_of_memory,
    randomness_kept,
    spread,
)
from topolandscape.structures import Floats, Subspace

Loss = Callable[[Any, Any], Tensor]
Pairs = Callable[[], Iterable[tuple[Any, Any]]]

# Rows on which a loss is tried out; fewer than a large data set has, so that trying cannot exhaust the memory.
ROWS_TRIED = 64


class Block(NamedTuple):
    """The entries of the flat vector that belong to one parameter of a module."""

    name: str
    entries: slice
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Model:
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
        return {block.name: vector[block.entries].view(block.shape) for block in self.blocks}

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


class Landscape:
    """A loss as a function of a flat parameter vector, evaluated at many vectors at once.

    Made by `from_module`, `from_loader` or `from_function`, which refuse a loss that is not a function; and, of few
    dimensions, by `restricted_to`. The module is copied: it stays as it is, and what happens to it later changes
    nothing here.

    Attributes
    ----------
    dimension
        Number of coordinates of a point: parameters, or directions of a restriction.
    point
        The module's own parameters, read-only float64 array (dimension,); None for functions and restrictions.
    subspace
        Where the points of a restriction live in the space of parameter vectors; None: the whole space.
    blocks
        (name, entries, shape) of every varying parameter, in the order of the flat vector; empty for functions and
        restrictions.
    description
        What was evaluated, ready for JSON; with fingerprints of the module's state and of the data.
    engine
        How it is evaluated: see `topolandscape.landscape.batching.Engine`.

    Notes
    -----
    The loss is the mean over the rows of the data plus ``weight_decay * |theta|^2``, theta being the parameters that
    vary. The network is evaluated in its own precision; outputs are converted to float64 before the loss, if the loss
    can take them, and sums over data are in float64. A gradient of the penalty is ``2 weight_decay theta``: torch's
    optimizers call half of our number ``weight_decay``.

    Examples
    --------
    >>> module = torch.nn.Linear(2, 1)
    >>> inputs, targets = torch.zeros(3, 2), torch.ones(3, 1)
    >>> landscape = Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.mse_loss)
    >>> landscape
    Landscape(Linear, 3 parameters, mse_loss of 3 rows, float32 on cpu)
    >>> landscape.values([[0.0, 0.0, 0.0], [5.0, 5.0, 3.0]])
    array([1., 4.])
    """

    def __init__(
        self,
        engine: Engine,
        dimension: int,
        *,
        description: Mapping[str, Any],
        model: _Model | None = None,
        point: Floats | None = None,
        subspace: Subspace | None = None,
        exact: Engine | None = None,
    ) -> None:
        self.engine = engine
        self.dimension = dimension
        self.description: Mapping[str, Any] = MappingProxyType(dict(description))
        self.subspace = subspace
        self.point = point
        if point is not None:
            point.flags.writeable = False
        self.blocks: tuple[Block, ...] = model.blocks if model is not None and subspace is None else ()
        self._model = model
        self._exact = exact

    # ---------------------------------------------------------------------------------------------- making

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        inputs: Any,
        targets: Any,
        *,
        loss: Loss,
        weight_decay: float = 0.0,
        parameters: str | Sequence[str] | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        memory: int | None = None,
    ) -> Landscape:
        """Return the landscape of a module on data in memory.

        Parameters
        ----------
        module
            Network; copied, in the mode (train or eval) in which it is.
        inputs, targets
            Tensors or arrays of as many rows; or lists of them, one entry a batch. Floating inputs are converted to
            `dtype`.
        loss
            Called with (outputs, targets); returns the mean over rows, or one value a row, which are then averaged.
        weight_decay
            Factor of the squared norm of the varying parameters, added to the loss.
        parameters
            Names of the parameters that vary, or patterns such as ``"layer.*"``; the others stay fixed. None: all of
            floating type, also those that do not require gradients. A parameter with two names counts once.
        device, dtype
            Where and in which precision the network is evaluated; None: as the module is.
        memory
            Bytes that the evaluation of a chunk may take; None: 32 MiB on a processor, an eighth of an accelerator's
            memory. Data are cut into blocks of rows where one evaluation needs more.

        Returns
        -------
        Landscape
            Of as many dimensions as there are numbers in the varying parameters.

        Raises
        ------
        ValueError
            The data are empty or do not fit the module or the loss; a name or a device is unknown.
        RuntimeError
            The loss is not a function of the parameters: dropout or batch norm in train mode, random numbers.

        Examples
        --------
        Only the last layer varies:

        >>> module = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        >>> landscape = Landscape.from_module(
        ...     module,
        ...     torch.zeros(4, 2),
        ...     torch.tensor([0, 1, 2, 0]),
        ...     loss=torch.nn.functional.cross_entropy,
        ...     parameters="2.*",
        ... )
        >>> landscape.dimension
        27
        """
        parts_in, parts_out = _batches(inputs), _batches(targets)
        if len(parts_in) != len(parts_out):
            raise ValueError(
                f"there are {len(parts_in)} batches of inputs and {len(parts_out)} of targets; give as many of each."
            )
        pairs = list(zip(parts_in, parts_out, strict=True))
        return cls._from_pairs("module", module, lambda: pairs, loss, weight_decay, parameters, device, dtype, memory)

    @classmethod
    def from_loader(
        cls,
        module: nn.Module,
        loader: Iterable[Any],
        *,
        loss: Loss,
        weight_decay: float = 0.0,
        parameters: str | Sequence[str] | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        memory: int | None = None,
    ) -> Landscape:
        """Return the landscape of a module on data that are read anew at each evaluation.

        Parameters
        ----------
        module, loss, weight_decay, parameters, device, dtype, memory
            As for `from_module`.
        loader
            Gives (inputs, targets) batches, the same ones in the same order each time it is gone through: a
            ``torch.utils.data.DataLoader`` with ``shuffle=False``, or a list of pairs. Gone through twice here, to
            see that it does.

        Returns
        -------
        Landscape
            Every evaluation goes through the data once, whatever the number of points.

        Raises
        ------
        TypeError
            The loader can be gone through only once, or gives something else than pairs.
        RuntimeError
            The data change from pass to pass.

        Examples
        --------
        >>> data = torch.utils.data.TensorDataset(torch.zeros(5, 2), torch.ones(5, 1))
        >>> loader = torch.utils.data.DataLoader(data, batch_size=2)
        >>> Landscape.from_loader(torch.nn.Linear(2, 1), loader, loss=torch.nn.MSELoss())
        Landscape(Linear, 3 parameters, MSELoss() of 5 rows, float32 on cpu)
        """
        if isinstance(loader, Iterator):
            raise TypeError(
                f"the loader is a {type(loader).__name__}, which can be gone through once; it is needed at every "
                "evaluation. Give a DataLoader, or a list of batches."
            )

        def pairs() -> Iterator[tuple[Any, Any]]:
            for index, batch in enumerate(loader):
                if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                    raise TypeError(
                        f"batch {index} of the loader is a {type(batch).__name__}"
                        f"{f' of {len(batch)}' if isinstance(batch, (tuple, list)) else ''}; it needs to be a pair "
                        "(inputs, targets). Wrap the data set so that it gives pairs."
                    )
                yield batch[0], batch[1]

        return cls._from_pairs("loader", module, pairs, loss, weight_decay, parameters, device, dtype, memory)

    @classmethod
    def from_function(cls, function: Callable[[Any], Any], dimension: int) -> Landscape:
        """Return the landscape of a plain function.

        Parameters
        ----------
        function
            Maps a float64 numpy array, or a float64 torch tensor, of shape (n, dimension) to (n,), each row for
            itself. Which of the two it takes is tried out. Gradients of a torch function are by autograd, those of a
            numpy function by central differences (good to about 1e-10 of its size).
        dimension
            Number of coordinates.

        Returns
        -------
        Landscape
            Its `point` is None.

        Raises
        ------
        ValueError
            The function takes neither, or returns another shape.
        RuntimeError
            Two evaluations at one point differ.

        Examples
        --------
        >>> landscape = Landscape.from_function(lambda x: (x**2).sum(1), 2)
        >>> landscape.gradients([[1.0, 2.0]])
        (array([5.]), array([[2., 4.]]))
        """
        if not callable(function):
            raise TypeError(f"function is a {type(function).__name__}; it needs to be callable.")
        if not isinstance(dimension, (int, np.integer)) or dimension < 1:
            raise ValueError(f"dimension is {dimension!r}; it needs to be a whole number, 1 or more.")
        dimension = int(dimension)
        form = _function_form(function, dimension)
        engine = Engine([form], lambda: [(1.0, None)])
        description = {
            "kind": "function",
            "function": _name(function),
            "parameters": dimension,
            "takes": "numpy" if form.name == "numpy" else "torch",
            "dtype": "float64",
            "device": "cpu",
        }
        landscape = cls(engine, dimension, description=description)
        landscape._check_repeatable(_probes(np.zeros(dimension)), cure="Give a function that draws no random numbers.")
        return landscape

    @classmethod
    def _from_pairs(
        cls,
        kind: str,
        module: nn.Module,
        pairs: Pairs,
        loss: Loss,
        weight_decay: float,
        parameters: str | Sequence[str] | None,
        device: str | torch.device | None,
        dtype: str | torch.dtype | None,
        memory: int | None,
    ) -> Landscape:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module is a {type(module).__name__}; it needs to be a torch.nn.Module (an instance).")
        if not callable(loss):
            raise TypeError(f"loss is a {type(loss).__name__}; it needs to be called with (outputs, targets).")
        if not (math.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"weight_decay is {weight_decay}; it needs to be a number, 0 or more.")
        chosen = _chosen(module, parameters)
        where = _device(device, next(iter(chosen.values())))
        precision = _dtype(dtype, next(iter(chosen.values())))

        budget = memory_budget(where) if memory is None else int(memory)
        with randomness_kept(where), torch.inference_mode(False), torch.enable_grad():
            model = _copied(module, chosen, where, precision if dtype is not None else None)
            point = model.flat(module)
            data = _read(pairs, streamed=kind == "loader", device=where, dtype=precision)
            function, additive = _pure(model, loss, torch.tensor(point).to(where, precision), data)
            if additive:
                data = _cut(data, function, torch.tensor(point).to(where, precision), budget)
            elif data.count > 1:
                raise ValueError(
                    f"the loss {_name(loss)} is not a mean over rows, so {data.count} batches cannot be combined. Use "
                    'reduction="mean" or "none", or give the data as one batch.'
                )
        engine = Engine(
            [Vmapped(function), Looped(function)],
            data.blocks,
            count=data.count,
            dtype=precision,
            device=where,
            decay=float(weight_decay),
            memory=budget,
        )
        exact = None if precision == torch.float64 else _in_float64(model, loss, point, data, engine)

        description = {
            "kind": kind,
            "module": type(module).__name__,
            "parameters": len(point),
            "names": [block.name for block in model.blocks],
            "rows": data.rows,
            "loss": _name(loss),
            "weight_decay": float(weight_decay),
            "dtype": str(precision).removeprefix("torch."),
            "device": str(where),
            "state": _digest(module.state_dict()),
            "data": data.digest,
        }
        landscape = cls(engine, len(point), description=description, model=model, point=point, exact=exact)
        landscape._check_repeatable(
            _probes(point), cure="Call module.eval() before (dropout and the like draw random numbers in train mode)."
        )
        return landscape

    def restricted_to(self, origin: ArrayLike, directions: ArrayLike) -> Landscape:
        """Return the landscape on the affine subspace ``origin + coordinates @ directions``.

        Parameters
        ----------
        origin
            A point of this landscape, shape (dimension,).
        directions
            One direction a row, shape (d, dimension). A restriction of a restriction is composed.

        Returns
        -------
        Landscape
            Of d dimensions; its `subspace` leads back to parameter vectors.

        Examples
        --------
        >>> landscape = Landscape.from_function(lambda x: (x**2).sum(1), 3)
        >>> line = landscape.restricted_to([1.0, 0.0, 0.0], [[0.0, 1.0, 1.0]])
        >>> line.values([[0.0], [2.0]])
        array([1., 9.])
        """
        (start,) = _points([_array(origin, "origin")], self.dimension, "origin")
        rows = _points(directions, self.dimension, "directions")
        if len(rows) == 0:
            raise ValueError("directions are empty; a restriction needs at least one direction.")
        if self.subspace is not None:
            start = self.subspace.parameters(start[None])[0]
            rows = rows @ self.subspace.directions
        return Landscape(
            self.engine,
            len(rows),
            description={**self.description, "directions": len(rows)},
            model=self._model,
            subspace=Subspace(start, rows),
            exact=self._exact,
        )

    # ---------------------------------------------------------------------------------------------- evaluating

    def values(self, points: ArrayLike, *, progress: bool | None = None) -> Floats:
        """Return the losses at many points.

        Parameters
        ----------
        points
            Shape (n, dimension).
        progress
            None: a bar after one second when stderr is a terminal; True: also elsewhere; False: never.

        Returns
        -------
        float64 array
            Losses (n,), as they are: NaN and infinite ones are neither dropped nor changed.

        Examples
        --------
        >>> Landscape.from_function(lambda x: np.abs(x[:, 0]), 1).values([[-2.0], [3.0]])
        array([2., 3.])
        """
        return self.engine.values(_points(points, self.dimension), subspace=self.subspace, progress=progress)

    def gradients(self, points: ArrayLike, *, progress: bool | None = None) -> tuple[Floats, Floats]:
        """Return the losses (n,) and their gradients (n, dimension) at many points.

        Parameters
        ----------
        points, progress
            As for `values`.

        Returns
        -------
        tuple of float64 arrays
            Values (n,) and gradients (n, dimension).

        Examples
        --------
        >>> Landscape.from_function(lambda x: torch.exp(x).sum(dim=1), 1).gradients([[0.0]])
        (array([1.]), array([[1.]]))
        """
        return self.engine.gradients(_points(points, self.dimension), subspace=self.subspace, progress=progress)

    def hessian_products(self, point: ArrayLike, vectors: ArrayLike, *, progress: bool | None = None) -> Floats:
        """Return the Hessian at one point times many vectors.

        Parameters
        ----------
        point
            Shape (dimension,).
        vectors
            One a row, shape (n, dimension).
        progress
            As for `values`.

        Returns
        -------
        float64 array
            Products, one a row, shape (n, dimension).

        Examples
        --------
        >>> landscape = Landscape.from_function(lambda x: (x**3).sum(1), 2)
        >>> landscape.hessian_products([1.0, 2.0], [[1.0, 0.0], [0.0, 1.0]])
        array([[ 6.,  0.],
               [ 0., 12.]])
        """
        (at,) = _points([_array(point, "point")], self.dimension, "point")
        rows = _points(vectors, self.dimension, "vectors")
        return self.engine.products(at, rows, subspace=self.subspace, progress=progress)

    def noise_at(self, points: ArrayLike) -> Floats:
        """Return how much repeated evaluations differ at each of some points.

        Parameters
        ----------
        points
            Shape (n, dimension).

        Returns
        -------
        float64 array
            Largest difference (n,) between evaluating the point alone, among others, by a plain loop, and, where the
            network is of lower precision and can be converted, in float64.

        Examples
        --------
        >>> Landscape.from_function(lambda x: (x**2).sum(1), 2).noise_at([[1.0, 2.0]])
        array([0.])
        """
        rows = _points(points, self.dimension)
        together = functools.partial(self.engine.values, rows, subspace=self.subspace)
        ways = [together(), together(chunk=2), together(chunk=1), together(form=self.engine.plainest)]
        if self._exact is not None:
            # Repeated float32 evaluations can agree to the last bit and still be off by their rounding.
            ways.append(self._exact.values(rows, subspace=self.subspace))
        return spread(ways)

    @functools.cached_property
    def noise(self) -> float:
        """Largest spread of repeated evaluation at one point, by `noise_at` the module's own point and near it."""
        center = np.zeros(self.dimension) if self.point is None else self.point
        return float(self.noise_at(_probes(center, count=5)).max())

    def _check_repeatable(self, points: Floats, *, cure: str) -> None:
        """Raise when the loss is not a function; take the plain form when the fast one disagrees with it."""
        plain = self.engine.plainest
        evaluations = []
        for seed in range(3):
            # Seeded differently each time: what draws random numbers cannot draw the same ones again.
            with randomness_kept(self.engine.device, seed=seed):
                evaluations.append(self.engine.values(points, form=plain, chunk=1))
        first = evaluations[0]
        for other in evaluations[1:]:
            if not _agree(first, other, self.engine.dtype).all():
                index = int(np.argmin(_agree(first, other, self.engine.dtype)))
                raise RuntimeError(
                    f"the loss is not a function of the parameters: two evaluations at one point gave {first[index]:g} "
                    f"and {other[index]:g}. {cure}"
                )
        together = self.engine.values(points)
        agree = _agree(first, together, self.engine.dtype)
        if not agree.all() and self.engine.form() != plain:
            self.engine.drop(self.engine.form())
        elif not agree.all():
            index = int(np.argmin(agree))
            raise RuntimeError(
                f"the loss is not a function of the parameters: one point alone gave {first[index]:g}, among others "
                f"{together[index]:g}. Give a function that treats each row for itself."
            )

    # ---------------------------------------------------------------------------------------------- modules

    def module_at(self, point: ArrayLike) -> nn.Module:
        """Return a copy of the module with the parameters of a point.

        Parameters
        ----------
        point
            Shape (dimension,).

        Returns
        -------
        torch.nn.Module
            Shares nothing with the module that was given, nor with the landscape.

        Examples
        --------
        >>> module = torch.nn.Linear(1, 1)
        >>> landscape = Landscape.from_module(
        ...     module, torch.ones(2, 1), torch.ones(2, 1), loss=torch.nn.functional.mse_loss
        ... )
        >>> landscape.module_at([2.0, 0.5])(torch.ones(1, 1)).item()
        2.5
        """
        (at,) = _points([_array(point, "point")], self.dimension, "point")
        if self.subspace is not None:
            at = self.subspace.parameters(at[None])[0]
        return self._known_model().at(at)

    def point_of(self, module: nn.Module) -> Floats:
        """Return the varying parameters of a module of the same architecture as a flat vector, (parameters,).

        Parameters
        ----------
        module
            For example a copy, trained from another seed.

        Returns
        -------
        float64 array
            A point of the whole landscape (not of a restriction).

        Examples
        --------
        >>> module = torch.nn.Linear(1, 1)
        >>> landscape = Landscape.from_module(
        ...     module, torch.ones(2, 1), torch.ones(2, 1), loss=torch.nn.functional.mse_loss
        ... )
        >>> landscape.point_of(landscape.module_at([2.0, 0.5]))
        array([2. , 0.5])
        """
        model = self._known_model()
        shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
        for block in model.blocks:
            if shapes.get(block.name) != block.shape:
                raise ValueError(
                    f"parameter {block.name!r} of the module has shape {shapes.get(block.name)}, that of the landscape "
                    f"{block.shape}; give a module of the same architecture."
                )
        return model.flat(module)

    def _known_model(self) -> _Model:
        if self._model is None:
            raise ValueError(
                "this landscape was made from a function and has no module; make it with Landscape.from_module()."
            )
        return self._model

    def __repr__(self) -> str:
        """Return one line: what is evaluated, on what, of how many dimensions."""
        said = self.description
        within = f", {self.dimension} direction{'s' * (self.dimension != 1)}" if self.subspace is not None else ""
        count = f"{said['parameters']} parameter{'s' * (said['parameters'] != 1)}{within}"
        if said["kind"] == "function":
            return f"Landscape({said['function']}, {count})"
        decay = f" + {said['weight_decay']:g} |theta|^2" if said["weight_decay"] else ""
        return (
            f"Landscape({said['module']}, {count}, {said['loss']} of {said['rows']} rows{decay}, "
            f"{said['dtype']} on {said['device']})"
        )


# --------------------------------------------------------------------------------------------------------------
# Modules and losses
# --------------------------------------------------------------------------------------------------------------


def _chosen(module: nn.Module, parameters: str | Sequence[str] | None) -> dict[str, nn.Parameter]:
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


def _device(device: str | torch.device | None, parameter: Tensor) -> torch.device:
    if device is None:
        return parameter.device
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ValueError(
            f"device {str(device)!r} cannot be used ({str(error).splitlines()[0]}); there is {', '.join(there)}."
        ) from error
    return where


def _dtype(dtype: str | torch.dtype | None, parameter: Tensor) -> torch.dtype:
    if dtype is None:
        return parameter.dtype
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype is {dtype!r}; it needs to be a floating type such as torch.float32 or torch.float64.")
    return found


def _copied(
    module: nn.Module, chosen: Mapping[str, nn.Parameter], device: torch.device, dtype: torch.dtype | None
) -> _Model:
    trainable = frozenset(name for name, parameter in module.named_parameters() if parameter.requires_grad)
    try:
        copied = copy.deepcopy(module)
    except Exception as error:
        raise TypeError(
            f"the module {type(module).__name__} cannot be copied ({str(error).splitlines()[0]}). A hook or an "
            "attribute holds a tensor with a history; for weight_norm use torch.nn.utils.parametrizations."
        ) from error
    copied = copied.to(device)
    if dtype is not None:
        copied = copied.to(dtype)
    for parameter in copied.parameters():
        parameter.grad = None
        parameter.requires_grad_(False)
    ends = np.cumsum([0] + [parameter.numel() for parameter in chosen.values()]).tolist()
    blocks = tuple(
        Block(name, slice(start, end), tuple(parameter.shape))
        for (name, parameter), (start, end) in zip(chosen.items(), itertools.pairwise(ends), strict=True)
    )
    return _Model(copied, blocks, trainable)


def _pure(model: _Model, loss: Loss, vector: Tensor, data: _Data) -> tuple[Function, bool]:
    """Return the loss of one block of data as a pure function, and whether it is a mean over rows.

    It is tried out on the first rows; where these alone do not fit the loss, on the whole first block.
    """
    few = _map(data.first, lambda tensor: tensor[:ROWS_TRIED])
    try:
        function = _fitting(model, loss, vector, few)
    except ValueError:
        few = data.first
        function = _fitting(model, loss, vector, few)
    rows = _rows(few)
    if rows < 2:
        return function, True
    cut = max(1, rows // 3)
    try:
        parts = [
            _map(few, lambda tensor: tensor[:cut]),
            _map(few, lambda tensor: tensor[cut:]),
        ]
        mean = sum(float(function(vector, part)) * _rows(part) for part in parts) / rows
        whole = float(function(vector, few))
    except Exception as error:
        if out_of_memory(error):
            raise
        return function, False
    return function, bool(_agree(np.array([whole]), np.array([mean]), vector.dtype).all()) or not math.isfinite(whole)


def _fitting(model: _Model, loss: Loss, vector: Tensor, block: tuple[Any, Any]) -> Function:
    """Return the pure function of a module and a loss that fit each other; raise saying what does not fit."""
    inputs, targets = _map(block, torch.clone)
    before = {name: _digest(buffer) for name, buffer in model.module.named_buffers()}
    intact = _digest(inputs)
    try:
        outputs = functional_call(model.module, model.named(vector), (inputs,))
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"the module {type(model.module).__name__} cannot take inputs of shape {_shapes(inputs)}: "
            f"{str(error).splitlines()[0]}"
        ) from error
    changed = [name for name, buffer in model.module.named_buffers() if _digest(buffer) != before[name]]
    if changed:
        raise RuntimeError(
            "the loss is not a function of the parameters: every evaluation changes the module's buffers "
            f"({', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''}). Call module.eval() before (batch norm "
            "in train mode follows the data)."
        )
    overwrites = _digest(inputs) != intact

    problem: Exception | None = None
    for exact in (True, False):
        score = _scored(loss, exact=exact, device=vector.device)
        try:
            with warnings.catch_warnings():
                # Squared errors of (n, 1) outputs and (n,) targets would be taken between all pairs of rows.
                warnings.filterwarnings("error", message="Using a target size")
                score(outputs, targets)
        except Exception as error:
            if out_of_memory(error):
                raise
            problem = problem or error
            continue

        def function(vector: Tensor, block: tuple[Any, Any], score: Loss = score) -> Tensor:
            inputs, targets = block
            if overwrites:
                inputs = _map(inputs, torch.clone)
            outputs = functional_call(model.module, model.named(vector), (inputs,))
            return score(outputs, targets)

        return function
    raise ValueError(
        f"the loss {_name(loss)} cannot take outputs of shape {_shapes(outputs)} with targets of shape "
        f"{_shapes(targets)}: {str(problem).splitlines()[0]}"
    ) from problem


def _in_float64(model: _Model, loss: Loss, point: Floats, data: _Data, engine: Engine) -> Engine | None:
    """Return an engine that evaluates the network in float64, or None where the module or the device cannot."""

    def blocks() -> Iterator[tuple[float, Any]]:
        for weight, (inputs, targets) in data.blocks():
            yield weight, (_map(inputs, _double), targets)

    try:
        with randomness_kept(engine.device), torch.inference_mode(False), torch.enable_grad():
            exact = _Model(copy.deepcopy(model.module).double(), model.blocks, model.trainable)
            vector = torch.tensor(point, device=engine.device)
            first = (_map(data.first[0], _double), data.first[1])
            function, _ = _pure(exact, loss, vector, replace(data, first=first))
    except Exception as error:
        if out_of_memory(error):
            raise
        return None
    return Engine(
        [Looped(function)], blocks, count=data.count, device=engine.device, decay=engine.decay, memory=engine.memory
    )


def _scored(loss: Loss, *, exact: bool, device: torch.device) -> Loss:
    """Return the mean loss of outputs and targets, a float64 scalar; `exact`: computed in float64."""
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss).to(device).requires_grad_(False)
        loss = loss.double() if exact else loss

    def score(outputs: Any, targets: Any) -> Tensor:
        if exact:
            outputs, targets = _map(outputs, _double), _map(targets, _double)
        value = loss(outputs, targets)
        if not isinstance(value, Tensor):
            raise TypeError(f"it returned a {type(value).__name__}; it needs to return a tensor.")
        rows = _rows(targets)
        if value.numel() != 1 and value.shape[:1] != (rows,):
            raise ValueError(f"it returned shape {tuple(value.shape)}; it needs to return a scalar, or {rows} values.")
        return value.double().mean()

    return score


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


# --------------------------------------------------------------------------------------------------------------
# Data
# --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Data:
    """Blocks of (inputs, targets) with their share of the rows, read again at each evaluation."""

    blocks: Callable[[], Iterable[tuple[float, Any]]]
    count: int
    rows: int
    digest: str
    first: tuple[Any, Any]


def _read(pairs: Pairs, *, streamed: bool, device: torch.device, dtype: torch.dtype) -> _Data:
    """Go through the data: check them, count the rows, and see that a second pass gives the same."""

    def converted(pair: tuple[Any, Any]) -> tuple[Any, Any]:
        def as_input(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        def as_target(tensor: Tensor) -> Tensor:
            whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
            return tensor.to(device, torch.int64 if whole else None)

        inputs, targets = _map(pair, lambda tensor: tensor.detach() if streamed else tensor.detach().clone())
        return _map(inputs, as_input), _map(targets, as_target)

    digests, rows, kept = [], [], []
    for index, pair in enumerate(pairs()):
        length = _checked_rows(pair, index if streamed else None)
        digests.append(_digest(pair))
        rows.append(length)
        if not streamed or index == 0:
            kept.append(converted(pair))
    total = sum(rows)
    if total == 0:
        raise ValueError("the data are empty; a loss needs at least one row of inputs and targets.")
    digest = hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()
    if not streamed:
        blocks = [(length / total, pair) for length, pair in zip(rows, kept, strict=True)]
        return _Data(lambda: blocks, len(blocks), total, digest, kept[0])

    again = [_digest(pair) for pair in pairs()]
    if again != digests:
        index = next(
            (i for i, (a, b) in enumerate(zip(digests, again, strict=False)) if a != b), min(len(again), len(rows))
        )
        raise RuntimeError(
            f"the loss is not a function of the parameters: batch {index} of the loader changed from one pass to the "
            f"next ({len(digests)} and {len(again)} batches). Use shuffle=False, and no random augmentation."
        )

    def stream() -> Iterator[tuple[float, Any]]:
        seen = 0
        for pair in pairs():
            block = converted(pair)
            seen += _rows(block)
            yield _rows(block) / total, block
        if seen != total:
            raise RuntimeError(f"the loader gave {seen} rows, but {total} when the landscape was made; make it anew.")

    return _Data(stream, len(rows), total, digest, kept[0])


def _cut(data: _Data, function: Function, vector: Tensor, memory: int) -> _Data:
    """Cut data in memory into blocks of rows, so that one evaluation on a block fits the memory budget."""
    few = _map(data.first, lambda tensor: tensor[:ROWS_TRIED])
    row = bytes_allocated(lambda: function(vector, few)) / _rows(few)
    largest = max(1, int(memory / max(1.0, row)))
    blocks = data.blocks()
    if not isinstance(blocks, list) or all(_rows(pair) <= largest for _, pair in blocks):
        return data
    pieces = []
    for _, pair in blocks:
        number = math.ceil(_rows(pair) / largest)
        bounds = np.linspace(0, _rows(pair), number + 1).astype(int).tolist()
        for start, end in itertools.pairwise(bounds):
            part = _map(pair, operator.itemgetter(slice(start, end)))
            pieces.append(((end - start) / data.rows, part))
    return _Data(lambda: pieces, len(pieces), data.rows, data.digest, data.first)


def _batches(data: Any) -> list[Tensor]:
    """Return the batches of an argument: its entries when it is a list of tensors or arrays, else itself."""
    if isinstance(data, (list, tuple)) and data and all(isinstance(part, (Tensor, np.ndarray)) for part in data):
        return [part if isinstance(part, Tensor) else torch.tensor(part) for part in data]
    if isinstance(data, Tensor):
        return [data]
    try:
        return [torch.tensor(np.asarray(data))]
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"the data are a {type(data).__name__}; give tensors, arrays or lists of them ({error})."
        ) from error


def _checked_rows(pair: tuple[Any, Any], batch: int | None) -> int:
    where = "" if batch is None else f"batch {batch}: "
    counts = []
    for name, part in zip(("inputs", "targets"), pair, strict=True):
        leaves = _leaves(part)
        if not leaves:
            raise TypeError(f"{where}{name} are a {type(part).__name__}; they need to be a tensor.")
        if leaves[0].ndim == 0:
            raise ValueError(f"{where}{name} have no dimensions; they need one entry a row.")
        counts.append(len(leaves[0]))
    if counts[0] != counts[1]:
        raise ValueError(
            f"{where}inputs have {counts[0]} rows and targets {counts[1]}; give one target for each input."
        )
    return counts[0]


def _map(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested tuples, lists and mappings with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _map(part, change) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_map(part, change) for part in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_map(part, change) for part in value)
    return value


def _leaves(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def _rows(value: Any) -> int:
    return len(_leaves(value)[0])


def _shapes(value: Any) -> str:
    """Return the shapes and types of what goes in or comes out, for messages."""
    return (
        " and ".join(f"{tuple(tensor.shape)} ({str(tensor.dtype).removeprefix('torch.')})" for tensor in _leaves(value))
        or type(value).__name__
    )


def _digest(value: Any) -> str:
    """Return a fingerprint of the tensors in nested containers: shapes, types and bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in _leaves(value):
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if len(flat) else b"")
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------------------
# Functions and points
# --------------------------------------------------------------------------------------------------------------


def _function_form(function: Callable[[Any], Any], dimension: int) -> Form:
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


def _name(function: Any) -> str:
    """Return what a function or a module is called, without addresses."""
    if isinstance(function, functools.partial):
        return _name(function.func)
    if isinstance(function, nn.Module):
        return " ".join(repr(function).split())
    return getattr(function, "__name__", type(function).__name__)


def _array(value: ArrayLike, name: str) -> Floats:
    """Return one point, (dimension,), as float64."""
    array = _float64(value, name)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; it needs one dimension.")
    return array


def _float64(value: Any, name: str) -> Floats:
    if isinstance(value, Tensor):
        value = value.detach().cpu().double().numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} cannot be read as an array of float64: {error}") from None


def _points(points: Any, dimension: int, name: str = "points") -> Floats:
    """Return points, (n, dimension), as float64; raise when they are something else."""
    array = _float64(points, name)
    if array.ndim != 2:
        raise ValueError(
            f"{name} have shape {array.shape}; they need shape (n, {dimension}). For a single one write point[None]."
        )
    if array.shape[1] != dimension:
        raise ValueError(
            f"{name} have {array.shape[1]} coordinates each, the landscape {dimension}; give as many. "
            "For a few directions use landscape.restricted_to()."
        )
    finite = np.isfinite(array)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(f"{name}[{row}, {column}] is {array[row, column]}; coordinates must be finite. Drop that row.")
    return array


def _probes(center: Floats, count: int = 3) -> Floats:
    """Return points to try out: the center, and others near it."""
    probes = np.tile(center, (count, 1))
    probes[1:] += 0.1 * np.random.default_rng(0).standard_normal(probes[1:].shape)
    return probes


def _agree(a: Floats, b: Floats, dtype: torch.dtype) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return where two evaluations are the same but for rounding."""
    tolerance = max(1000 * torch.finfo(dtype).eps, 1e-9)
    size = np.nanmax(np.abs(np.where(np.isfinite(a), a, 0.0)))
    return np.isclose(a, b, rtol=tolerance, atol=tolerance * size, equal_nan=True)
