"""The loss of a network as a pure function of one flat parameter vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from topolandscape.landscape.making import Device, Options, in_memory, maker_of, of_function, of_module, read_anew
from topolandscape.landscape.noise import differences, probes
from topolandscape.landscape.parts import Parts, on_rows, restricted
from topolandscape.landscape.plans import Plan
from topolandscape.landscape.points import as_float64, read_point, read_points
from topolandscape.landscape.pure import Loss
from topolandscape.landscape.quantities import KINDS, Kind
from topolandscape.landscape.tasks import Tasks
from topolandscape.landscape.trials import WORTH_SEARCHING
from topolandscape.structures import Floats


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

    def __init__(self, parts: Parts) -> None:
        self.engine = parts.engine
        self.dimension = parts.dimension
        self.description: Mapping[str, Any] = MappingProxyType(dict(parts.description))
        self.subspace = parts.subspace
        self.point = parts.point
        self.blocks = parts.blocks
        self.rows: int | None = parts.description.get("rows")
        self.tasks: Tasks | None = None
        self._parts = parts

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
        options = Options(loss, weight_decay, parameters, device, dtype, memory, form)
        return cls(of_module("module", module, in_memory(inputs, targets, weights), options))

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
        options = Options(loss, weight_decay, parameters, device, dtype, memory, form)
        return cls(of_module("loader", module, read_anew(loader), options))

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
        return cls(of_function(function, dimension))

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
        start = read_point(origin, self.dimension, "origin")
        rows = read_points(directions, self.dimension, "directions")
        return Landscape(restricted(self._parts, start, rows))

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
        plain = {kind: {"form": plan.form, "chunk": plan.chunk, "rows": plan.rows} for kind, plan in own.items()}
        engine = self.engine.planned(own)  # type: ignore[arg-type]
        return Landscape(replace(self._parts, engine=engine, description={**self.description, "plans": plain}))

    def shared_by(self, tasks: Tasks) -> Landscape:
        """Return the same landscape, whose work is done by others, as `on_workers` makes it.

        Parameters
        ----------
        tasks
            Whoever does it.

        Returns
        -------
        Landscape
            What is worth less than a task is done here.
        """
        shared = Landscape(replace(self._parts, engine=self.engine.shared_by(tasks, self.description)))
        shared.tasks = tasks
        return shared

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell how to make the landscape anew in another process: of its module, its data and its loss."""
        return _made_anew, (*maker_of(self._parts), dict(self.description))

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
        return Landscape(on_rows(self._parts, rows))

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
        whole = self._parts.known_data().rows
        if not isinstance(rows, (int, np.integer)) or not 1 <= rows <= whole:
            raise ValueError(f"rows is {rows!r}; it needs to be a whole number from 1 to {whole}.")
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed is {seed!r}; it needs to be a whole number, 0 or more, so that it can be recorded.")
        part = on_rows(self._parts, np.random.default_rng(seed).choice(whole, int(rows), replace=False))
        return Landscape(replace(part, description={**part.description, "subset_seed": int(seed)}))

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
        return self.engine.values(
            read_points(points, self.dimension, empty=True), subspace=self.subspace, progress=progress
        )

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
        return self.engine.values_of(
            [read_points(part, self.dimension, empty=True) for part in parts], subspace=self.subspace
        )

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
        return self.engine.gradients(
            read_points(points, self.dimension, empty=True), subspace=self.subspace, progress=progress
        )

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
        rows = read_points(points, self.dimension, empty=True)
        self._parts.known_model()
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
        rows = read_points(vectors, self.dimension, "vectors", empty=True)
        where = as_float64(point, "point")
        if where.ndim != 2:
            at = read_point(where, self.dimension)[None]
        else:
            at = read_points(where, self.dimension, "point", empty=True)
            if len(at) != len(rows):
                raise ValueError(
                    f"there are {len(at)} points and {len(rows)} vectors; give one point, or as many of each."
                )
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
        return differences(self._parts, read_points(points, self.dimension, empty=True))

    @cached_property
    def noise(self) -> float:
        """Largest spread of repeated evaluation at one point, by `noise_at` the module's own point and near it."""
        center = np.zeros(self.dimension) if self.point is None else self.point
        return float(self.noise_at(probes(center, 5)).max())

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
        at = read_point(point, self.dimension)
        if self.subspace is not None:
            at = self.subspace.parameters(at[None])[0]
        return self._parts.known_model().at(at)

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
        model = self._parts.known_model()
        shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
        for block in model.blocks:
            if shapes.get(block.name) != block.shape:
                raise ValueError(
                    f"parameter {block.name!r} of the module has shape {shapes.get(block.name)}, that of the landscape "
                    f"{block.shape}; give a module of the same architecture."
                )
        return model.flat(module)

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


def _made_anew(maker: Callable[..., Parts], arguments: tuple[Any, ...], description: Mapping[str, Any]) -> Landscape:
    """Return the landscape that another process had; it is evaluated in the ways that were planned there."""
    landscape = Landscape(maker(*arguments))
    if "plans" in description:
        landscape = landscape.planned(description["plans"])
    return Landscape(replace(landscape._parts, description=description))
