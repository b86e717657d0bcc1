"""What a study computes: runs of every combination of some settings, each from every seed."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from topolandscape.files import bytes_in_file
from topolandscape.structures.arrays import settle
from topolandscape.study.measures import CHEAP, MEASURES
from topolandscape.study.recipe import Recipe

_FIELDS = {own.name: own for own in fields(Recipe)}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_MOST_RUNS = 100_000
_AXES = ("learning_rate", "batch", "weight_decay")  # what is like a temperature, the usual one first


@dataclass(frozen=True, eq=False)
class Study:
    """Runs of every combination of some settings, to be compared.

    Parameters
    ----------
    settings
        By the names of the fields of a `Recipe`: a value, or a list of values that are varied. ``model`` and ``data``
        are needed. Runs that differ only in ``seed`` form a group, and groups are compared.
    measures
        Of the trained minima, beside the scores of the barcode: names of ``topolandscape.study.MEASURES``. Not given:
        the cheap ones on the route ``minima``, none on the route ``sample``.
    load, temperature
        Names of varied settings that become the axes of a phase plot: one like a load (the size of the network, the
        data), one like a temperature (learning rate, mini-batch, weight decay). Not given: ``model`` and the first of
        ``learning_rate``, ``batch`` and ``weight_decay``, where they are varied.

    Raises
    ------
    WrongStudy
        A ValueError: a name or a value is not allowed. It says what is, and what was probably meant.

    Examples
    --------
    >>> study = Study({"model": ["mlp:64-8-10", "mlp:64-16-10"], "data": "digits", "seed": [0, 1, 2], "minima": 6})
    >>> len(study.recipes()), study.varied
    (6, ('model',))
    """

    settings: Mapping[str, Any]
    _: KW_ONLY
    measures: tuple[str, ...] | None = None
    load: str | None = None
    temperature: str | None = None
    varied: tuple[str, ...] = field(init=False)
    """Names of the settings, without the seed, that have more than one value."""

    def __post_init__(self) -> None:
        """Check every name, every value and every combination."""
        values = {name: _values_of(name, given) for name, given in self.settings.items()}
        for name in ("model", "data"):
            if name not in values:
                raise ValueError(f"there is no {name}; a study needs a model and data.")
        varied = tuple(name for name, some in values.items() if len(some) > 1 and name != "seed")
        settle(self, settings=MappingProxyType(values), varied=varied)
        if (runs := math.prod(map(len, values.values()))) > _MOST_RUNS:
            raise ValueError(f"the study has {runs} runs; at most {_MOST_RUNS} are possible. Vary fewer settings.")
        _check_names(values)
        recipes = self.recipes()
        route = values.get("route", (Recipe.route,))
        if self.measures is None:
            settle(self, measures=CHEAP if "sample" not in route else ())
        measures = (self.measures,) if isinstance(self.measures, str) else tuple(self.measures or ())
        for name in measures:
            if name not in MEASURES:
                raise _wrong("measures", name, f"there is no measure {name!r}; {_meant(name, MEASURES)}")
        if measures and "sample" in route:
            raise _wrong("measures", None, "measures are of trained minima, and the route is sample; leave them out.")
        settle(self, measures=measures)
        for axis, usual in (("load", ("model",)), ("temperature", _AXES)):
            chosen = getattr(self, axis)
            if chosen is None:
                settle(self, **{axis: next((name for name in usual if name in self.varied), None)})
            elif chosen not in self.varied:
                there = ", ".join(self.varied) or "none"
                raise _wrong(
                    axis, None, f"{axis} is {chosen!r}; it needs to be a setting that is varied, here {there}."
                )
        names = [folder_name(recipe) for recipe in recipes]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two runs of the study are the same ({twice}); give every value once.")

    def recipes(self) -> tuple[Recipe, ...]:
        """Return what each run computes, group by group, in the order of the settings and their values."""
        names = [*(name for name in self.settings if name != "seed"), *(["seed"] if "seed" in self.settings else [])]
        combinations = product(*(self.settings[name] for name in names))
        return tuple(self._recipe(dict(zip(names, values, strict=True))) for values in combinations)

    def _recipe(self, options: Mapping[str, Any]) -> Recipe:
        try:
            return Recipe(**options)
        except ValueError as error:
            # The setting without which nothing would be wrong.
            for name in options:
                if name not in ("model", "data"):
                    try:
                        Recipe(**{other: value for other, value in options.items() if other != name})
                    except ValueError:
                        continue
                    raise _wrong(name, options[name], str(error)) from None
            raise

    def __repr__(self) -> str:
        """Return one line: how many runs, what is varied."""
        seeds = len(self.settings.get("seed", (0,)))
        varied = ", ".join(f"{len(self.settings[name])} of {name}" for name in self.varied) or "nothing"
        return f"Study({len(self.recipes())} runs; varied: {varied}; {seeds} seed{'s' * (seeds != 1)})"


def read_study(path: str | Path) -> Study:
    r"""Return the study that a TOML file describes.

    Parameters
    ----------
    path
        The file. Its keys are the settings of `Study`, and ``measures``, ``load`` and ``temperature``. Files that it
        names (``file.py:function``) are looked for where the program was started.

    Raises
    ------
    ValueError
        Something in the file is not allowed; the message says in which line, what is, and what was probably meant.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "study.toml")
    ...     _ = file.write_text('model = ["mlp:2-2-1", "mlp:2-3-1"]\ndata = "teacher_student"\nseed = [0, 1]')
    ...     read_study(file)
    Study(4 runs; varied: 2 of model; 2 seeds)
    """
    try:
        text = bytes_in_file(path).decode()
        given = tomllib.loads(text)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text; a study is a TOML file.") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply; a study is a table of settings, and lists of values.") from None
    except tomllib.TOMLDecodeError as error:
        said, _, where = str(error).partition(" (at ")
        line = re.search(r"line (\d+)", where)
        place = f", line {line[1]}" if line else f", line {len(text.splitlines())}"
        raise ValueError(f"{path}{place}: this is not TOML: {said[0].lower()}{said[1:]}.") from None
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"{path} cannot be read: {error}.") from None
    others = {name: given.pop(name) for name in ("measures", "load", "temperature") if name in given}
    try:
        if "measures" in others:
            others["measures"] = _texts("measures", others["measures"])
        return Study(given, **others)
    except ValueError as error:
        if not isinstance(error, WrongStudy):
            raise ValueError(f"{path}: {error}") from None
        line_number = _line(text, error.name, error.value)
        raise ValueError(f"{path}, line {line_number}: {error}") from None


def folder_name(recipe: Recipe) -> str:
    """Return the name of the folder of one run, which tells it from every run of other settings."""
    digest = hashlib.sha256(json.dumps(recipe.settings(), sort_keys=True).encode()).hexdigest()
    return f"{recipe.folder_name()}_{digest[:8]}"


def group_names(settings: Sequence[Mapping[str, Any]]) -> tuple[list[str], tuple[str, ...]]:
    """Return for each run the name of its group, and the names of the settings by which groups differ.

    Runs whose settings differ only in the seed are one group, which is called by what it differs in from others.

    Parameters
    ----------
    settings
        Of each run.

    Examples
    --------
    >>> runs = [{"model": "a", "batch": batch, "seed": seed} for batch in (16, 32) for seed in (0, 1)]
    >>> group_names(runs)
    (['batch 16', 'batch 16', 'batch 32', 'batch 32'], ('batch',))
    """
    names = dict.fromkeys(name for own in settings for name in own if name != "seed")
    varied = tuple(name for name in names if len({json.dumps(own.get(name)) for own in settings}) > 1)
    shown = varied or tuple(name for name in ("model",) if name in names)

    def called(own: Mapping[str, Any]) -> str:
        words = (
            str(own.get(name)) if name in ("model", "data") else f"{name.replace('_', ' ')} {own.get(name)}"
            for name in shown
        )
        return ", ".join(words) or "runs"

    return [called(own) for own in settings], varied


# --------------------------------------------------------------------------------------------------------------
# What is allowed
# --------------------------------------------------------------------------------------------------------------


class WrongStudy(ValueError):
    """What is wrong with a setting of a study, and which value it is about; None: all, or the name itself."""

    name: str
    value: Any


def _wrong(name: str, value: Any, message: str) -> WrongStudy:
    error = WrongStudy(message)
    error.name, error.value = name, value
    return error


def _meant(name: str, allowed: Iterable[str]) -> str:
    """Return what was probably meant, or what is allowed."""
    near = difflib.get_close_matches(name, allowed, n=2)
    return f"did you mean {' or '.join(near)}?" if near else f"allowed are {', '.join(allowed)}."


def _values_of(name: str, given: Any) -> tuple[Any, ...]:
    """Return the values of a setting, checked one by one."""
    if name == "checkpoints":
        raise _wrong(
            name, None, "checkpoints belong to one model; give them to `topolandscape barcode`, and compare its runs."
        )
    if name not in _FIELDS:
        raise _wrong(
            name, None, f"there is no setting {name!r}; {_meant(name, [n for n in _FIELDS if n != 'checkpoints'])}"
        )
    values = tuple(given) if isinstance(given, (list, tuple, range)) else (given,)
    if not values:
        raise _wrong(name, None, f"{name} is an empty list; give at least one value.")
    return tuple(_checked(name, value) for value in values)


def _checked(name: str, value: Any) -> Any:
    """Return a value of the type of a setting."""
    allowed = [kind for kind in _kinds(get_type_hints(Recipe)[name]) if kind is not type(None)]
    choices = [word for kind in allowed if get_origin(kind) is Literal for word in get_args(kind)]
    if choices:
        if value not in choices:
            near = difflib.get_close_matches(str(value), choices, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise _wrong(name, value, f"{name} is {value!r}; it must be one of {', '.join(choices)}.{hint}")
        return value
    (kind,) = allowed
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise _wrong(name, None, f"{name} is too large a number.") from None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(name, value, f"{name} is {value!r}; it needs to be {_WORDS[kind]}, or a list of such.")
    return value


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    return (hint,) if hint in _WORDS or get_origin(hint) is Literal else get_args(hint)


def _texts(name: str, given: Any) -> tuple[str, ...]:
    values = given if isinstance(given, list) else [given]
    for value in values:
        if not isinstance(value, str):
            raise _wrong(name, value, f"{name} holds {value!r}; it needs to be a list of names.")
    return tuple(values)


def _check_names(values: Mapping[str, Sequence[Any]]) -> None:
    """Raise for a model or data that the zoo does not have; the user's files are run later."""
    from topolandscape import zoo

    for name, make in (("model", zoo.network), ("data", zoo.dataset)):
        for value in values[name]:
            if ".py:" not in value:
                try:
                    make(value)
                except ValueError as error:
                    raise _wrong(name, value, str(error)) from None


def _line(text: str, name: str, value: Any) -> int:
    """Return the number of the line at which a file gives a value of a setting."""
    lines = text.splitlines()
    key = re.compile(rf"""\s*\[?["']?{re.escape(name)}["']?\s*[=\]]""")
    first = next((i for i, line in enumerate(lines) if key.match(line)), 0)
    if value is None:
        return first + 1
    said = value if isinstance(value, str) else json.dumps(value, default=str)
    written = re.compile(rf"(?<![\w.]){re.escape(said)}(?![\w.])")
    for i in range(first, len(lines)):
        if i > first and re.match(r"\s*[\w\"'-]+\s*=", lines[i]):
            break
        if written.search(lines[i]):
            return i + 1
    return first + 1
