"""From the names of a recipe to the landscape of a network on its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topolandscape.files import bytes_in_file, function_in_file, telling_where
from topolandscape.structures import Floats
from topolandscape.study.recipe import Recipe

if TYPE_CHECKING:
    from topolandscape.landscape.loss import Landscape

_LOSSES = {"cross_entropy": "cross_entropy", "mse": "mse_loss"}


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, its data and its loss.

    Parameters
    ----------
    recipe
        Where it comes from.
    module
        The network, in eval mode.
    data, held_out
        Inputs and targets; and others, to test on, or None.
    loss
        Of outputs and targets.
    sources
        Checksums of the user's files.
    """

    recipe: Recipe
    module: Any
    data: tuple[Any, Any]
    held_out: tuple[Any, Any] | None
    loss: Callable[..., Any]
    sources: Mapping[str, str]

    def landscape(self) -> Landscape:
        """Return the landscape of the data."""
        return self._on(self.data)

    def landscape_held_out(self) -> Landscape | None:
        """Return the landscape of the data held out, if there are any."""
        return None if self.held_out is None else self._on(self.held_out)

    def _on(self, data: tuple[Any, Any]) -> Landscape:
        from topolandscape.landscape.loss import Landscape

        recipe = self.recipe
        return Landscape.from_module(
            self.module,
            *data,
            loss=self.loss,
            weight_decay=recipe.weight_decay,
            device=recipe.device,
            dtype=recipe.dtype,
        )


def problem(recipe: Recipe) -> Problem:
    """Return the network, the data and the loss that a recipe names; the user's files are run, with its seed."""
    import torch

    from topolandscape import zoo
    from topolandscape.landscape.machine import randomness_kept

    sources: dict[str, str] = {}

    def user_function(text: str) -> Callable[..., Any]:
        function, sources[text] = function_in_file(text)
        return function

    def made_by(text: str) -> Any:
        # A network or data drawn at random are the same when the run goes on.
        with randomness_kept(torch.device("cpu"), seed=recipe.seed):
            return telling_where(text.rpartition(":")[0], user_function(text))

    if _is_file(recipe.model):
        module = made_by(recipe.model)
        if not isinstance(module, torch.nn.Module):
            raise TypeError(f"{recipe.model} returned a {type(module).__name__}; it must return a torch.nn.Module.")
    else:
        module = zoo.network(recipe.model, seed=recipe.seed)
    if _is_file(recipe.data):
        given = made_by(recipe.data)
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 4):
            raise TypeError(
                f"{recipe.data} returned a {type(given).__name__}"
                f"{f' of {len(given)}' if isinstance(given, (tuple, list)) else ''}; it must return a pair (inputs, "
                "targets), or four with those to test on."
            )
        parts = [part if isinstance(part, torch.Tensor) else np.asarray(part) for part in given]
        whole = not torch.as_tensor(parts[1]).is_floating_point()
        fitting = "cross_entropy" if whole else "mse"
    else:
        data = zoo.dataset(recipe.data)
        parts, fitting = [data.inputs, data.targets, data.test_inputs, data.test_targets], data.loss
    name = recipe.loss or fitting
    if _is_file(name):
        loss = user_function(name)
    elif name in _LOSSES:
        loss = getattr(torch.nn.functional, _LOSSES[name])
    else:
        raise ValueError(f"there is no loss {name!r}; give {', '.join(_LOSSES)}, or file.py:function.")
    held_out = (parts[2], parts[3]) if len(parts) == 4 and len(parts[2]) else None
    return Problem(recipe, module.eval(), (parts[0], parts[1]), held_out, loss, sources)


def trusted_recipe(recipe: Recipe, *, trusted: bool) -> Recipe:
    """Return a recipe that was read from a run, if what it names may be run.

    Parameters
    ----------
    recipe
        From a folder that may be of anybody.
    trusted
        Whether the user vouches for it.

    Raises
    ------
    PermissionError
        It names a Python file, and is not trusted.
    """
    files = [name for name in (recipe.model, recipe.data, recipe.loss or "") if _is_file(name)]
    if files and not trusted:
        raise PermissionError(
            f"the run names {files[0]}, which would be run as a program; if the run is yours, give --trust "
            "(trusted=True)."
        )
    return recipe


def trained_points(landscape: Landscape, recipe: Recipe) -> Floats:
    """Return the parameter vectors in the files of checkpoints that a recipe names, one a row."""
    from topolandscape.landscape.checkpoints import checkpoints

    return checkpoints(landscape, {file: bytes_in_file(file) for file in recipe.checkpoints})


def _is_file(name: str) -> bool:
    return ".py:" in name
