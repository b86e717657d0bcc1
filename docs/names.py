"""How the names of the package are shown and found in the documentation."""

from __future__ import annotations

import ast
import functools
import inspect
import pydoc
import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

import topolandscape

_PACKAGE = Path(topolandscape.__file__).parent
PUBLIC = {
    alias.asname: ".".join(["topolandscape", *part])
    for part in (["plot"], ["zoo"], [])  # the package's own names win
    for node in ast.parse(_PACKAGE.joinpath(*part, "__init__.pyi").read_text()).body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
"""The module of every public name."""

# What stands in reference.md under its module has no public name, but a page.
_LISTED = re.findall(
    r"^   ((?:landscape|topology|compare|structures|study)\.\S+)$",
    Path(__file__).with_name("reference.md").read_text(),
    re.M,
)
OTHERS = {line.rpartition(".")[2]: f"topolandscape.{line}" for line in _LISTED}
_FOREIGN = {"Axes", "Axes3D", "DataFrame", "Fraction", "PathLike", "_NounType"}  # of others, or of type checkers alone


class _Written(str):
    """An annotation that shows itself as it stands in the source."""

    __repr__ = str.__str__


def _as_written(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Show signatures with their types as they stand in the source, where evaluated ones fill lines."""
    if not callable(thing):
        return None
    found = inspect.signature(thing)
    module = sys.modules[thing.__module__]

    def written(annotation: Any) -> _Written:
        choices = getattr(module, str(annotation), None)
        return _Written(f"Literal{list(get_args(choices))}" if get_origin(choices) is Literal else annotation)

    def default(value: Any) -> Any:
        """Leave out what has no short way to be written: functions, and what is made for each."""
        long = value is not inspect.Parameter.empty and repr(value).startswith("<")
        return _Written("...") if long else value

    parameters = [
        parameter.replace(annotation=written(parameter.annotation), default=default(parameter.default))
        for parameter in found.parameters.values()
        if parameter.name != "self"
    ]
    text = str(found.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    return text, None if what == "class" else found.return_annotation


@functools.cache
def _words() -> set[str]:
    """Return the parameters of all public functions, and what public classes have: words that docstrings may quote."""
    known = set()
    for name in (*(f"{module}.{name}" for name, module in PUBLIC.items()), *OTHERS.values()):
        thing = pydoc.locate(name)
        members = [getattr(thing, member, None) for member in vars(thing)] if isinstance(thing, type) else []
        known |= set(dir(thing)) if isinstance(thing, type) else set()
        for function in (thing, *members):
            if inspect.isfunction(function) or inspect.ismethod(function) or isinstance(function, type):
                known |= set(inspect.signature(function).parameters)
    return known


def _types() -> set[str]:
    """Return the names of types that stand in signatures and have no page: aliases, and types of others."""
    package = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "topolandscape"]
    return _FOREIGN.union(*map(vars, package))


def _resolved(app: Sphinx, env: BuildEnvironment, node: nodes.Element, content: nodes.Element) -> nodes.Element | None:
    """Lead from where a public name is defined to where it is documented; known words that are no page stay words."""
    name = node["reftarget"].rpartition(".")[2]
    for target in (f"topolandscape.{node['reftarget']}", f"{PUBLIC.get(name)}.{name}", OTHERS.get(name, "")):
        found = env.get_domain("py").objects.get(target)
        if found is not None:
            return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content, target)
    return content if name in (_words() if node["reftype"] == "obj" else _types()) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Show and resolve what autodoc cannot."""
    app.connect("autodoc-process-signature", _as_written)
    app.connect("missing-reference", _resolved)
    return {"parallel_read_safe": True}
