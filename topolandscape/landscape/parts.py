"""What a landscape is made of; and the parts of its restrictions to some directions, or to some rows of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.landscape.batching import Engine
from topolandscape.landscape.data import ROWS_AT_ONCE, Data, selected
from topolandscape.landscape.pure import Block, Model, doubled
from topolandscape.structures import Floats, Subspace


@dataclass(frozen=True, eq=False)
class Parts:
    """What a landscape is made of.

    Attributes
    ----------
    engine, dimension, description, point, subspace
        As in `topolandscape.Landscape`.
    given
        Of what it was made, so that it can be made again; None: of another landscape.
    model
        The module; None for functions.
    exact
        Evaluates the same in float64, where the engine does not and that can be done.
    data
        From which rows can be chosen.
    whole
        The parts of the landscape of all rows, where this is one of some.
    """

    engine: Engine
    dimension: int
    description: Mapping[str, Any]
    given: tuple[Any, ...] | None = None
    model: Model | None = None
    point: Floats | None = None
    subspace: Subspace | None = None
    exact: Engine | None = None
    data: Data | None = None
    whole: Parts | None = None

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Entries of a point that belong to one parameter of the module."""
        return self.model.blocks if self.model is not None and self.subspace is None else ()

    def known_model(self) -> Model:
        """Return the module; raise where there is none."""
        if self.model is None:
            raise ValueError(
                "this landscape was made from a function and has no module; make it with Landscape.from_module()."
            )
        return self.model

    def known_data(self) -> Data:
        """Return the data; raise where no rows can be chosen."""
        if self.data is None:
            raise ValueError(
                "this landscape is of a function or of some rows, and has no rows to choose from; choose from the "
                "landscape of all data."
            )
        return self.data


def restricted(parts: Parts, origin: Floats, directions: Floats) -> Parts:
    """Return the parts of a landscape on the subspace from a point of it, (p,), along directions, (d, p)."""
    start, rows = origin, directions
    if parts.subspace is not None:
        start = parts.subspace.parameters(origin[None])[0]
        rows = directions @ parts.subspace.directions
    return replace(
        parts,
        dimension=len(rows),
        description={**parts.description, "directions": len(rows)},
        given=None,
        point=None,
        subspace=Subspace(start, rows),
        whole=None if parts.whole is None else restricted(parts.whole, origin, directions),
    )


def on_rows(parts: Parts, rows: ArrayLike) -> Parts:
    """Return the parts of a landscape on some rows of its data; see `topolandscape.Landscape.of_rows`."""
    data = parts.known_data()
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
        raise ValueError(f"the loss {parts.description['loss']} is not a mean over rows, so none can be left out.")
    blocks = selected(data, chosen, ROWS_AT_ONCE if parts.engine.device.type == "cpu" else None)
    return replace(
        parts,
        engine=parts.engine.on(lambda: blocks, len(blocks)),
        description={**parts.description, "rows": len(chosen), "of_rows": data.rows},
        given=None,
        exact=None if parts.exact is None else parts.exact.on(lambda: doubled(blocks), len(blocks)),
        data=None,
        whole=parts,
    )
