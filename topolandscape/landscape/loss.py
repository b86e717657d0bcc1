"""The loss of a network as a pure function of one flat parameter vector."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from topolandscape.landscape.batching import KINDS, WORTH_SEARCHING, Engine, Kind, Plan, spread
from topolandscape.landscape.data import ROWS_AT_ONCE, Batches, Data, batches, cut, digest, map_tensors, read, selected
from topolandscape.landscape.dense import Dense
from topolandscape.landscape.forms import Form, Looped, Vmapped
from topolandscape.landscape.machine import memory_budget, out_of_memory, randomness_kept
from topolandscape.landscape.pure import (
    Block,
    Loss,
    Model,
    PureLoss,
    agree,
    chosen_devices,
    chosen_dtype,
    copied,
    doubled,
    function_form,
    in_float64,
    name_of,
    pure_loss,
    varying_parameters,
)
from topolandscape.landscape.tasks import Tasks
from topolandscape.landscape.wide import NotWide, Wide
from topolandscape.structures import Floats, Subspace

Device = str | torch.device | Sequence[str | torch.device] | None


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
    rows
        Number of rows of the data; None for functions.
    engine
        How it is evaluated: form, vectors and rows at once, speed, share of the machine's peak (``engine.report()``);
        see `topolandscape.landscape.batching.Engine`.
    tasks
        Whoever does descents, polishing and paths instead of this process; None, but for `on_workers`.

    Notes
    -----
    The loss is the mean over the rows of the data, weighted where weights are given, plus ``weight_decay * |theta|^2``,
    theta being the parameters that vary. The network is evaluated in its own precision; the loss of its outputs is
    precise to float64 rounding or, by compiled kernels, to that of the outputs, and sums over data are in float64.
    A gradient of the penalty is ``2 weight_decay theta``: torch's optimizers call half of our number
    ``weight_decay``.

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
        model: Model | None = None,
        point: Floats | None = None,
        subspace: Subspace | None = None,
        exact: Engine | None = None,
        data: Data | None = None,
        whole: Landscape | None = None,
    ) -> None:
        self.engine = engine
        self.dimension = dimension
        self.description: Mapping[str, Any] = MappingProxyType(dict(description))
        self.subspace = subspace
        self.point = point
        if point is not None:
            point.flags.writeable = False
        self.blocks: tuple[Block, ...] = model.blocks if model is not None and subspace is None else ()
        self.rows: int | None = description.get("rows")
        self.tasks: Tasks | None = None
        self._given: tuple[Any, ...] | None = None  # of what it was made, as `_from_batches` takes it
        self._model = model
        self._exact = exact
        self._data = data
        self._whole = whole

    # ---------------------------------------------------------------------------------------------- making

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        inputs: Any,
        targets: Any,
        *,
        loss: Loss,
        weights: Any = None,
        weight_decay: float = 0.0,
        parameters: str | Sequence[str] | None = None,
        device: Device = None,
        dtype: str | torch.dtype | None = None,
        memory: int | None = None,
        form: str | None = None,
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
        weights
            What each row counts, shape (rows,), or a list of them, one entry a batch; None: all the same. The loss is
            then ``sum w l / sum w``, and needs to give one value a row, or to take ``reduction="none"`` as torch's do.
        weight_decay
            Factor of the squared norm of the varying parameters, added to the loss.
        parameters
            Names of the parameters that vary, or patterns such as ``"layer.*"``; the others stay fixed. None: all of
            floating type, also those that do not require gradients. A parameter with two names counts once.
        device, dtype
            Where and in which precision the network is evaluated; None: as the module is. Several devices, as a list,
            share out the points. The type ``"tf32"`` is float32 with products of tensor cores, and ``"bfloat16"`` all
            in that type; `noise` then says what they cost.
        memory
            Bytes that an evaluation may take besides points and results; None: 128 MiB on a processor, an eighth of
            an accelerator's memory. Data are cut into blocks of rows where one evaluation needs more.
        form
            ``"wide"``, ``"vmap"`` or ``"loop"``: evaluate in this way, so that a run repeats to the bit also on another
            machine; None: the fastest, found out by short trials.

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
        parts_in, parts_out = batches(inputs), batches(targets)
        counting = [None] * len(parts_in) if weights is None else batches(weights)
        if not len(parts_in) == len(parts_out) == len(counting):
            also = "" if weights is None else f" and {len(counting)} of weights"
            raise ValueError(
                f"there are {len(parts_in)} batches of inputs and {len(parts_out)} of targets{also}; give as many of "
                "each."
            )
        parts = list(zip(parts_in, parts_out, counting, strict=True))
        return cls._from_batches(
            "module", module, lambda: parts, loss, weight_decay, parameters, device, dtype, memory, form
        )

    @classmethod
    def from_loader(
        cls,
        module: nn.Module,
        loader: Iterable[Any],
        *,
        loss: Loss,
        weight_decay: float = 0.0,
        parameters: str | Sequence[str] | None = None,
        device: Device = None,
        dtype: str | torch.dtype | None = None,
        memory: int | None = None,
        form: str | None = None,
    ) -> Landscape:
        """Return the landscape of a module on data that are read anew at each evaluation.

        Parameters
        ----------
        module, loss, weight_decay, parameters, device, dtype, memory, form
            As for `from_module`.
        loader
            Gives (inputs, targets) or (inputs, targets, weights) batches, the same ones in the same order each time it
            is gone through: a ``torch.utils.data.DataLoader`` with ``shuffle=False``, or a list of them. Gone through
            twice here, to see that it does.

        Returns
        -------
        Landscape
            Every evaluation goes through the data once, whatever the number of points; the next batch is read while
            one is in use.

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

        def parts() -> Iterator[tuple[Any, Any, Any]]:
            for index, batch in enumerate(loader):
                if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
                    raise TypeError(
                        f"batch {index} of the loader is a {type(batch).__name__}"
                        f"{f' of {len(batch)}' if isinstance(batch, (tuple, list)) else ''}; it needs to be a pair "
                        "(inputs, targets). Wrap the data set so that it gives pairs."
                    )
                yield batch[0], batch[1], batch[2] if len(batch) == 3 else None

        return cls._from_batches("loader", module, parts, loss, weight_decay, parameters, device, dtype, memory, form)

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
        landscape = cls(engine, dimension, description=description)
        landscape._given = function, dimension
        landscape._check_repeatable(_probes(np.zeros(dimension)), cure="Give a function that draws no random numbers.")
        return landscape

    @classmethod
    def _from_batches(
        cls,
        kind: str,
        module: nn.Module,
        parts: Batches,
        loss: Loss,
        weight_decay: float,
        parameters: str | Sequence[str] | None,
        device: Device,
        dtype: str | torch.dtype | None,
        memory: int | None,
        form: str | None,
    ) -> Landscape:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module is a {type(module).__name__}; it needs to be a torch.nn.Module (an instance).")
        if not callable(loss):
            raise TypeError(f"loss is a {type(loss).__name__}; it needs to be called with (outputs, targets).")
        if not (math.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"weight_decay is {weight_decay}; it needs to be a number, 0 or more.")
        chosen = varying_parameters(module, parameters)
        devices = chosen_devices(device, next(iter(chosen.values())))
        where = devices[0]
        tf32 = dtype == "tf32"
        precision = chosen_dtype(torch.float32 if tf32 else dtype, next(iter(chosen.values())))

        budget = memory_budget(where) if memory is None else int(memory)
        with randomness_kept(where), torch.inference_mode(False), torch.enable_grad():
            model = copied(module, chosen, where, precision if dtype is not None else None)
            point = model.flat(module)
            vector = torch.tensor(point).to(where, precision)
            data = read(parts, streamed=kind == "loader", device=where, dtype=precision)
            function = pure_loss(model, loss, vector, data)
            data = replace(data, additive=function.additive)
            if data.additive:
                data = cut(data, function, vector, budget // devices.count(where))
            elif data.count > 1:
                raise ValueError(
                    f"the loss {name_of(loss)} is not a mean over rows, so {data.count} batches cannot be combined. "
                    'Use reduction="mean" or "none", or give the data as one batch.'
                )
        engine = Engine(
            _forms(function, loss),
            data.blocks,
            count=data.count,
            dtype=precision,
            devices=devices,
            decay=float(weight_decay),
            memory=budget,
            spare=lambda device: _forms(function.copied_to(device), loss),
            dimension=len(point),
            streamed=data.streamed,
            tf32=tf32,
            cudnn=not any(isinstance(part, nn.RNNBase) for part in model.module.modules()),
            uncut=data.uncut,
        )
        if form is not None:
            engine.only(form)
        plain = precision == torch.float64
        exact = None if plain else in_float64(model, loss, point, data, engine)

        description = {
            "kind": kind,
            "module": type(module).__name__,
            "parameters": len(point),
            "names": [block.name for block in model.blocks],
            "rows": data.rows,
            "loss": name_of(loss),
            "weight_decay": float(weight_decay),
            "dtype": "tf32" if tf32 else str(precision).removeprefix("torch."),
            "device": ", ".join(dict.fromkeys(device.type for device in devices)),
            "state": digest(module.state_dict()),
            "data": data.digest,
        } | ({} if form is None else {"form": form})
        landscape = cls(engine, len(point), description=description, model=model, point=point, exact=exact, data=data)
        read_anew = parts if data.streamed else None
        landscape._given = kind, read_anew, loss, weight_decay, parameters, where.type, dtype, memory, form
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
            data=self._data,
            whole=None if self._whole is None else self._whole.restricted_to(origin, directions),
        )

    def plans(self, kinds: Sequence[Kind] = KINDS) -> dict[str, dict[str, str | int]]:
        """Return how kinds of quantities are evaluated fastest, as short trials near the module's own point tell.

        Parameters
        ----------
        kinds
            Those that are asked for; what the module or its loss does not have is left out.

        Returns
        -------
        dict
            For `planned`; empty for functions, for which there is one way.

        Examples
        --------
        >>> module = torch.nn.Linear(2, 1)
        >>> landscape = Landscape.from_module(
        ...     module, torch.zeros(3, 2), torch.ones(3, 1), loss=torch.nn.functional.mse_loss
        ... )
        >>> sorted(landscape.plans(["values", "accuracies"]))
        ['values']
        """
        if self.point is None:
            return {}
        points = np.tile(self.point, (WORTH_SEARCHING, 1))
        for kind in kinds:
            with suppress(*((ValueError,) if kind == "accuracies" else ())):  # no classes
                getattr(self.engine, kind)(*(points,) * (2 if kind == "products" else 1))
        known = {kind: self.engine.plan(kind) for kind in kinds}
        return {
            kind: {"form": plan.form, "chunk": plan.chunk, "rows": plan.rows}
            for kind, plan in known.items()
            if plan is not None
        }

    def planned(self, plans: Mapping[str, Mapping[str, Any]]) -> Landscape:
        """Return the same landscape, evaluated in ways that are given and not searched for, so that it repeats itself.

        Losses differ by rounding from form to form, and from one number of vectors or rows at once to another, so that
        training, which amplifies the last bit, repeats only where all are the same.

        Parameters
        ----------
        plans
            For kinds of quantities (``"values"``, ``"accuracies"``, ``"gradients"``, ``"products"``) the form and the
            number of vectors and rows at once, as ``engine.plan(kind)`` tells what was found to be best.

        Returns
        -------
        Landscape
            Its description has the plans.

        Examples
        --------
        >>> module = torch.nn.Linear(2, 1)
        >>> landscape = Landscape.from_module(
        ...     module, torch.zeros(3, 2), torch.ones(3, 1), loss=torch.nn.functional.mse_loss
        ... )
        >>> landscape.planned({"values": {"form": "loop", "chunk": 1, "rows": 3}}).engine.plan("values").form
        'loop'
        """
        own = {
            kind: Plan(plan["form"], plan["chunk"], len(self.engine.devices), plan["rows"])
            for kind, plan in plans.items()
        }
        other = copy.copy(self)
        other.engine = self.engine.planned(own)  # type: ignore[arg-type]
        plain = {kind: {"form": plan.form, "chunk": plan.chunk, "rows": plan.rows} for kind, plan in own.items()}
        other.description = MappingProxyType({**self.description, "plans": plain})
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell how to make the landscape anew in another process: of its module, its data and its loss."""
        if self._given is None:
            raise TypeError(
                "this landscape is of some rows or of a few directions, and only a whole one can be sent to another "
                "process; send that, and take the part of it there."
            )
        given: tuple[Any, ...] = self._given
        if self._model is not None and self.point is not None:
            # To whichever device of that type the other process has.
            kind, read_anew, *options = given
            known = [] if read_anew is not None else [batch for _, batch in self._known_data().batches()]
            given = (kind, self._model.at(self.point).cpu(), read_anew, map_tensors(known, Tensor.cpu), *options)
        return _made_anew, (given, dict(self.description))

    def of_rows(self, rows: ArrayLike) -> Landscape:
        """Return the landscape of the same loss on some rows of the data.

        Parameters
        ----------
        rows
            Their numbers, counted through all batches; each at most once, in any order. They are read into memory.

        Returns
        -------
        Landscape
            Cheap to make: nothing is checked again. Its `noise` includes the difference from the loss on all rows.

        Raises
        ------
        ValueError
            There are no data, or a row does not exist or is given twice, or the loss is not a mean over rows.

        Examples
        --------
        >>> module = torch.nn.Linear(1, 1)
        >>> landscape = Landscape.from_module(
        ...     module, torch.zeros(4, 1), torch.arange(4.0)[:, None], loss=torch.nn.functional.mse_loss
        ... )
        >>> landscape.of_rows([1, 3]).values([[0.0, 0.0]])
        array([5.])
        """
        data = self._known_data()
        chosen = np.asarray(rows)
        if chosen.ndim != 1 or len(chosen) == 0 or not np.issubdtype(chosen.dtype, np.integer):
            raise ValueError(
                f"rows are {chosen.dtype} of shape {chosen.shape}; they need to be whole numbers, one or more."
            )
        chosen = np.sort(chosen.astype(np.int64))
        if chosen[0] < 0 or chosen[-1] >= data.rows:
            wrong = chosen[0] if chosen[0] < 0 else chosen[-1]
            raise ValueError(f"row {wrong} does not exist; there are {data.rows}, counted from 0.")
        if (twice := np.flatnonzero(np.diff(chosen) == 0)).size:
            raise ValueError(f"row {chosen[twice[0]]} is given twice; give weights where a row counts more.")
        if not data.additive:
            raise ValueError(f"the loss {self.description['loss']} is not a mean over rows, so none can be left out.")
        blocks = selected(data, chosen, ROWS_AT_ONCE if self.engine.device.type == "cpu" else None)
        exact = None if self._exact is None else self._exact.on(lambda: doubled(blocks), len(blocks))
        part = Landscape(
            self.engine.on(lambda: blocks, len(blocks)),
            self.dimension,
            description={**self.description, "rows": len(chosen), "of_rows": data.rows},
            model=self._model,
            point=self.point,
            subspace=self.subspace,
            exact=exact,
            whole=self,
        )
        part.blocks = self.blocks
        return part

    def subset(self, rows: int, *, seed: int) -> Landscape:
        """Return the landscape of the same loss on randomly chosen rows of the data.

        Parameters
        ----------
        rows
            How many.
        seed
            A whole number. It is recorded in the description.

        Returns
        -------
        Landscape
            As from `of_rows`: its `noise` is at least the difference from the loss on all rows, at and near the
            module's own point.

        Examples
        --------
        >>> inputs, targets = torch.zeros(100, 1), torch.arange(100.0)[:, None]
        >>> module = torch.nn.Linear(1, 1)
        >>> landscape = Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.mse_loss)
        >>> landscape.subset(10, seed=0)
        Landscape(Linear, 2 parameters, mse_loss of 10 rows, float32 on cpu)
        """
        whole = self._known_data().rows
        if not isinstance(rows, (int, np.integer)) or not 1 <= rows <= whole:
            raise ValueError(f"rows is {rows!r}; it needs to be a whole number from 1 to {whole}.")
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed is {seed!r}; it needs to be a whole number, 0 or more, so that it can be recorded.")
        chosen = np.random.default_rng(seed).choice(whole, int(rows), replace=False)
        part = self.of_rows(chosen)
        part.description = MappingProxyType({**part.description, "subset_seed": int(seed)})
        return part

    def _known_data(self) -> Data:
        if self._data is None:
            raise ValueError(
                "this landscape is of a function or of some rows, and has no rows to choose from; choose from the "
                "landscape of all data."
            )
        return self._data

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

    def values_of(self, parts: Sequence[ArrayLike]) -> Iterator[tuple[int, Floats]]:
        """Yield the losses at points that come in parts: the number of a part, and its losses (n,), when known.

        Parameters
        ----------
        parts
            Points, each of shape (n, dimension).

        Yields
        ------
        tuple
            In the order of the parts; on workers in that of arrival.

        Examples
        --------
        >>> landscape = Landscape.from_function(lambda x: np.abs(x[:, 0]), 1)
        >>> list(landscape.values_of([[[-2.0]], [[3.0]]]))
        [(0, array([2.])), (1, array([3.]))]
        """
        return self.engine.values_of([_points(part, self.dimension) for part in parts], subspace=self.subspace)

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

    def accuracies(self, points: ArrayLike, *, progress: bool | None = None) -> tuple[Floats, Floats]:
        """Return the losses and the shares of rows classified correctly, from one pass through the network.

        Parameters
        ----------
        points, progress
            As for `values`.

        Returns
        -------
        tuple of float64 arrays
            Values (n,), and shares (n,) between 0 and 1: of the rows, by their weights, of which the largest output is
            that of the right class.

        Raises
        ------
        ValueError
            The outputs are not one score a class, or the targets not classes.

        Examples
        --------
        >>> module = torch.nn.Linear(1, 2)
        >>> inputs, targets = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 0])
        >>> landscape = Landscape.from_module(module, inputs, targets, loss=torch.nn.functional.cross_entropy)
        >>> landscape.accuracies([[1.0, -1.0, 0.0, 0.0]])[1]
        array([0.5])
        """
        rows = _points(points, self.dimension)
        self._known_model()
        return self.engine.accuracies(rows, subspace=self.subspace, progress=progress)

    def hessian_products(self, point: ArrayLike, vectors: ArrayLike, *, progress: bool | None = None) -> Floats:
        """Return the Hessian at one point, or at one point for each vector, times many vectors.

        Parameters
        ----------
        point
            Shape (dimension,); or one for each vector, (n, dimension).
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
        rows = _points(vectors, self.dimension, "vectors")
        where = _float64(point, "point")
        at = _points(where if where.ndim == 2 else [_array(point, "point")], self.dimension, "point")
        if where.ndim == 2 and len(at) != len(rows):
            raise ValueError(f"there are {len(at)} points and {len(rows)} vectors; give one point, or as many of each.")
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
            network is of lower precision and can be converted, in float64; and, on some rows of the data, from the loss
            on all rows.

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
        if self._whole is not None:
            ways.append(self._whole.values(rows, progress=False))
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
            if not agree(first, other, self.engine.dtype).all():
                index = int(np.argmin(agree(first, other, self.engine.dtype)))
                raise RuntimeError(
                    f"the loss is not a function of the parameters: two evaluations at one point gave {first[index]:g} "
                    f"and {other[index]:g}. {cure}"
                )
        for form in self.engine.forms():
            try:
                together = self.engine.values(points, form=form)
            except Exception as error:
                if form == plain or out_of_memory(error):
                    raise
                self.engine.drop(form)
                continue
            same = agree(first, together, self.engine.dtype)
            if same.all():
                continue
            if form == plain:
                index = int(np.argmin(same))
                raise RuntimeError(
                    f"the loss is not a function of the parameters: one point alone gave {first[index]:g}, among "
                    f"others {together[index]:g}. Give a function that treats each row for itself."
                )
            self.engine.drop(form)

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

    def _known_model(self) -> Model:
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


def _made_anew(given: tuple[Any, ...], description: Mapping[str, Any]) -> Landscape:
    """Return the landscape that another process had; it is evaluated in the ways that were planned there."""
    if len(given) == 2:
        landscape = Landscape.from_function(*given)
    else:
        kind, module, read_anew, known, *options = given
        landscape = Landscape._from_batches(kind, module, read_anew or (lambda: known), *options)
    if "plans" in description:
        landscape = landscape.planned(description["plans"])
    landscape.description = MappingProxyType(dict(description))
    return landscape


def _forms(function: PureLoss, loss: Loss) -> list[Form]:
    """Return the ways of evaluating a loss, the best first."""
    forms: list[Form] = [Vmapped(function, function.scored), Looped(function, function.scored)]
    with suppress(NotWide):
        forms.insert(0, Wide(function.model, loss, function.score, function, additive=True))
    with suppress(NotWide):
        forms.insert(0, Dense(function.model, loss))
    return forms


# --------------------------------------------------------------------------------------------------------------
# Points
# --------------------------------------------------------------------------------------------------------------


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
