"""What is known of how quantities are evaluated: the forms that may be used, and the plans that were found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from topolandscape.landscape.quantities import KINDS, Kind


@dataclass(frozen=True)
class Plan:
    """How one kind of quantity is evaluated.

    Attributes
    ----------
    form
        "dense", "wide", "vmap", "loop", "rows" or "numpy".
    chunk
        Vectors that one worker evaluates at once.
    workers
        Threads, or devices.
    rows
        Rows of data in the largest block.
    seconds
        For one vector over all data, as last achieved; NaN before.
    """

    form: str
    chunk: int
    workers: int
    rows: int
    seconds: float = math.nan


class Ways:
    """The forms that may be used for each kind of quantity, and the plans by kind and rows of the largest block.

    Parameters
    ----------
    forms
        Names of the forms, the best first.

    Examples
    --------
    >>> ways = Ways(["wide", "loop"])
    >>> ways.failed("gradients", "wide")
    >>> ways.form("values"), ways.form("gradients"), ways.order("values", None)
    ('wide', 'loop', ['wide', 'loop'])
    """

    def __init__(self, forms: Sequence[str]) -> None:
        self._names: dict[Kind, list[str]] = {kind: list(forms) for kind in KINDS}
        self._only: str | None = None
        self._given: Mapping[Kind, Plan] = {}
        self._found: dict[tuple[Kind, int], Plan] = {}
        self._asked: dict[tuple[Kind, int], int] = {}

    def given(self, plans: Mapping[Kind, Plan]) -> Ways:
        """Return the same forms with plans that are given, for blocks of any size, and none that was found."""
        for kind, plan in plans.items():
            if kind not in KINDS or plan.form not in self._names[kind]:
                raise ValueError(f"there is no form {plan.form!r} of {kind}; there are {', '.join(self.forms())}.")
        ways = Ways([])
        ways._names, ways._only, ways._given = self._names, self._only, dict(plans)
        return ways

    # ---------------------------------------------------------------------------------------------- forms

    def forms(self, kind: Kind = "values") -> list[str]:
        """Return the names of the forms that may be used, the preferred one first."""
        return list(self._names[kind])

    def form(self, kind: Kind) -> str:
        """Return the name of the form in use."""
        plan = self.plan(kind)
        return self.preferred(kind) if plan is None else plan.form

    def preferred(self, kind: Kind) -> str:
        """Return the name of the form that is used as long as none is known to be faster."""
        return self._only or self._names[kind][0]

    def candidates(self, kind: Kind) -> list[str]:
        """Return the names of the forms among which the fastest is searched for."""
        return self.forms(kind) if self._only is None else [self._only]

    @property
    def chosen(self) -> bool:
        """Whether the user chose the form."""
        return self._only is not None

    def only(self, form: str) -> None:
        """Use the form of this name, and others only where they are asked for by name."""
        if form not in self.forms():
            raise ValueError(f"there is no form {form!r}; there are {', '.join(self.forms())}.")
        self._only = form

    def drop(self, form: str) -> None:
        """Never use the form of this name again."""
        self._names = {kind: [name for name in names if name != form] for kind, names in self._names.items()}
        if form == self._only:
            self.only(form)

    def failed(self, kind: Kind, form: str) -> None:
        """Never use a form again for a kind of quantity, nor plans with it."""
        self._names[kind] = [name for name in self._names[kind] if name != form]
        self._found = {key: plan for key, plan in self._found.items() if (key[0], plan.form) != (kind, form)}

    def order(self, kind: Kind, form: str | None) -> list[str]:
        """Return the forms to try, in turn: the one asked for, or the fastest and then the others."""
        names = self._names[kind]
        only = self._given[kind].form if kind in self._given else self._only
        if form is not None or only is not None:
            return [name for name in names if name == (form or only)]
        best = self.form(kind)
        return sorted(names, key=lambda name: name != best)

    # ---------------------------------------------------------------------------------------------- plans

    def plan(self, kind: Kind) -> Plan | None:
        """Return how a kind of quantity is evaluated on the largest blocks; None before its first use."""
        plans = [plan for (planned, _), plan in self._found.items() if planned == kind]
        return max(plans, key=lambda plan: plan.rows, default=self._given.get(kind))

    def given_plan(self, kind: Kind) -> Plan | None:
        """Return the plan that was given for blocks of any size."""
        return self._given.get(kind)

    def found(self, kind: Kind, rows: int) -> Plan | None:
        """Return the plan that was found for blocks of so many rows."""
        return self._found.get((kind, rows))

    def keep(self, kind: Kind, rows: int, plan: Plan) -> Plan:
        """Keep a plan for blocks of so many rows, and return it."""
        self._found[kind, rows] = plan
        return plan

    def took(self, kind: Kind, rows: int, seconds: float) -> None:
        """Note what a vector took, where a plan is kept."""
        plan = self._found.get((kind, rows))
        if plan is not None:
            self._found[kind, rows] = replace(plan, seconds=seconds)

    def halve(self, kind: Kind, plan: Plan, chunk: int) -> None:
        """Take fewer vectors at once from now on, on blocks for which a plan was."""
        known = [key for key, kept in self._found.items() if key[0] == kind and kept.rows == plan.rows]
        self._found |= dict.fromkeys(known or [(kind, plan.rows)], replace(plan, chunk=chunk))

    def asked(self, kind: Kind, rows: int, vectors: int) -> int:
        """Return for how many vectors a kind of quantity was asked without a plan, with so many more."""
        self._asked[kind, rows] = self._asked.get((kind, rows), 0) + vectors
        return self._asked[kind, rows]
