"""The functions by name, as they are written in the literature.

Functions of one coordinate are given by their critical points. Functions of two coordinates that are no sum of such
are given by their minima, their saddles and the minima that each saddle joins. Critical points solve grad f = 0 in
30 digits and are rounded to float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from topolandscape.structures import Floats
from topolandscape.zoo.known import (
    Function,
    KnownFunction,
    elder_rule,
    losses_at,
    scalar_linear,
    separable_sum,
    two_weights,
)


def _line(
    name: str, function: Function, low: float, high: float, critical: Sequence[float], source: str
) -> KnownFunction:
    """Return a function of one coordinate from its critical points: minimum, maximum, minimum, ... in turn."""
    points = np.array(critical)[:, None]
    minima, maxima = points[::2], points[1::2]
    heights = losses_at(function, maxima)
    bars = elder_rule(losses_at(function, minima), [(loss, i, i + 1) for i, loss in enumerate(heights)])
    return KnownFunction(name, function, np.array([low]), np.array([high]), {0: bars}, minima, maxima, source)


def _plane(
    name: str,
    function: Function,
    box: tuple[ArrayLike, ArrayLike],
    minima: ArrayLike,
    saddles: ArrayLike,
    joins: Sequence[tuple[int, int]],
    source: str,
    loops: Sequence[tuple[int, tuple[float, float]]] = (),
) -> KnownFunction:
    """Return a function of two coordinates.

    `joins` gives for each saddle the minima at the ends of its descent, `loops` each saddle that closes a loop with
    the maximum that fills it.
    """
    minima, saddles = np.array(minima, dtype=np.float64), np.array(saddles, dtype=np.float64).reshape(-1, 2)
    passes = losses_at(function, saddles)
    components = elder_rule(losses_at(function, minima), [(a, i, j) for a, (i, j) in zip(passes, joins, strict=True)])
    holes = [(passes[saddle], losses_at(function, np.array([maximum]))[0]) for saddle, maximum in loops]
    low, high = (np.array(corner, dtype=np.float64) for corner in box)
    return KnownFunction(name, function, low, high, {0: components, 1: tuple(holes)}, minima, saddles, source)


# --------------------------------------------------------------------------------------------------------------
# The functions, one coordinate
# --------------------------------------------------------------------------------------------------------------

_SCHWEFEL_OFFSET = 418.9828872724338


def _even(*critical: float) -> list[float]:
    """Return critical points together with their mirror images, from left to right."""
    return sorted({sign * point + 0.0 for point in critical for sign in (-1, 1)})


def _levy_first(points: Floats) -> Floats:
    w = 1 + (points[:, 0] - 1) / 4
    return np.sin(np.pi * w) ** 2 + (w - 1) ** 2 * (1 + 10 * np.sin(np.pi * w + 1) ** 2)


def _levy_last(points: Floats) -> Floats:
    w = 1 + (points[:, 0] - 1) / 4
    return (w - 1) ** 2 * (1 + np.sin(2 * np.pi * w) ** 2)


_quartic = _line(
    "quartic",
    lambda points: points[:, 0] ** 4 - points[:, 0] ** 2 + 0.1 * points[:, 0],
    -1.5,
    1.5,
    [-0.730893103186221393, 0.050253826762553026, 0.680639276423668367],
    "worked out for this package",
)
_cosine = _line(
    "cosine_1d",
    lambda points: np.cos(2 * np.pi * points[:, 0]),
    0.0,
    2.0,
    [0.5, 1.0, 1.5],
    "worked out for this package",
)
_rastrigin = _line(
    "rastrigin_1d",
    lambda points: 10 + points[:, 0] ** 2 - 10 * np.cos(2 * np.pi * points[:, 0]),
    -2.2,
    2.2,
    _even(0.0, 0.502546036554674632, 0.994958637652334795, 1.50764073187035838, 1.98991223370854956),
    "Rastrigin (1974)",
)
_schwefel = _line(
    "schwefel_1d",
    lambda points: _SCHWEFEL_OFFSET - points[:, 0] * np.sin(np.sqrt(np.abs(points[:, 0]))),
    -500.0,
    500.0,
    [
        -500.0,  # on the boundary
        *_even(
            5.23919930019552463,
            25.8774173476186852,
            65.547865090151542,
            124.829356420215269,
            203.814252648894463,
            302.524935611911784,
            420.968746359982027,
        ),
    ],
    "Schwefel (1981)",
)
_levy_terms = (
    _line(
        "levy, first coordinate",
        _levy_first,
        -9.0,
        9.0,
        [
            -8.24455466546494497,
            -6.49619942830806529,
            -4.20543498571820366,
            -2.70531604038687073,
            1.0,
            2.76886045185379347,
            3.79108219045050982,
            6.10905880881923784,
            7.72308215079046126,
        ],
        "Levy and Montalvo (1985)",
    ),
    _line(
        "levy, last coordinate",
        _levy_last,
        -9.0,
        9.0,
        [
            -8.9590233206079378,
            -8.08947537044240069,
            -6.94845227848751894,
            -6.11456345727140507,
            -4.93028625061024399,
            -4.15884309099756503,
            -2.89064960846171329,
            -2.25666221867780709,
            1.0,
            4.25666221867780709,
            4.89064960846171329,
            6.15884309099756503,
            6.93028625061024399,
            8.11456345727140507,
            8.94845227848751894,
        ],
        "Levy and Montalvo (1985)",
    ),
)

# --------------------------------------------------------------------------------------------------------------
# The functions, two coordinates
# --------------------------------------------------------------------------------------------------------------


def _three_hump_camel(points: Floats) -> Floats:
    x, y = points[:, 0], points[:, 1]
    return (2 - 1.05 * x**2 + x**4 / 6) * x**2 + x * y + y**2


def _six_hump_camel(points: Floats) -> Floats:
    x, y = points[:, 0], points[:, 1]
    return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2


def _himmelblau(points: Floats) -> Floats:
    x, y = points[:, 0], points[:, 1]
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def _rosenbrock(points: Floats) -> Floats:
    x, y = points[:, 0], points[:, 1]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _ackley(points: Floats) -> Floats:
    distance = np.sqrt((points**2).mean(axis=1))
    waves = np.cos(2 * np.pi * points).mean(axis=1)
    return 20 + np.e - 20 * np.exp(-0.2 * distance) - np.exp(waves)


def _mueller_brown(points: Floats) -> Floats:
    x, y = points[:, 0], points[:, 1]
    wells = (
        (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
        (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
        (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
        (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
    )
    terms = [
        depth * np.exp(a * (x - x0) ** 2 + b * (x - x0) * (y - y0) + c * (y - y0) ** 2)
        for depth, a, b, c, x0, y0 in wells
    ]
    return np.sum(terms, axis=0)


def _ackley_points() -> dict[str, list[tuple[float, float]]]:
    """Return the critical points of Ackley's function around its centre: images of four under the square's symmetry."""
    side, corner = 0.952166545950171668, 0.968477658707724377
    inner, outer, along, top = 0.625780616856463801, 0.577412535278214638, 0.874762038875344152, 0.673096520110737701
    quarters = ((1, 0), (0, 1), (-1, 0), (0, -1))  # (cosine, sine) of the four turns

    def turned(x: float, y: float) -> list[tuple[float, float]]:
        return [(c * x - s * y + 0.0, s * x + c * y + 0.0) for c, s in quarters]

    return {
        "minima": [(0.0, 0.0), *turned(side, 0.0), *turned(corner, corner)],
        "saddles": [*turned(inner, 0.0), *turned(along, outer), *turned(outer, along)],
        "maxima": turned(top, top),
    }


def _build() -> dict[str, KnownFunction]:
    ackley = _ackley_points()
    turns = range(4)
    planes = [
        _plane(
            "three_hump_camel",
            _three_hump_camel,
            ([-2, -2], [2, 2]),
            [(0, 0), (1.74755234583028892, -0.873776172915144449), (-1.74755234583028892, 0.873776172915144449)],
            [(1.07054229182365997, -0.535271145911829987), (-1.07054229182365997, 0.535271145911829987)],
            [(0, 1), (0, 2)],
            "Dixon and Szego (1978)",
        ),
        _plane(
            "six_hump_camel",
            _six_hump_camel,
            ([-2, -1.1], [2, 1.1]),
            [
                (0.0898420131003180624, -0.712656403020739633),
                (-0.0898420131003180624, 0.712656403020739633),
                (1.70360671496998085, -0.796083568672625119),
                (-1.70360671496998085, 0.796083568672625119),
                (1.60710475292019723, 0.568651454884131371),
                (-1.60710475292019723, -0.568651454884131371),
            ],
            [
                (0, 0),
                (1.10920533680478645, -0.768268092509539842),
                (-1.10920533680478645, 0.768268092509539842),
                (1.63806798418977856, 0.22867406904439407),
                (-1.63806798418977856, -0.22867406904439407),
                (1.29607026716710918, 0.605084388038658497),
                (-1.29607026716710918, -0.605084388038658497),
            ],
            [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (1, 4), (0, 5)],
            "Dixon and Szego (1978)",
            [(5, (1.23022987651665263, 0.16233458445899497)), (6, (-1.23022987651665263, -0.16233458445899497))],
        ),
        _plane(
            "himmelblau",
            _himmelblau,
            ([-5, -5], [5, 5]),
            [
                (3, 2),
                (3.58442834033049174, -1.84812652696440355),
                (-2.80511808695274485, 3.13131251825057297),
                (-3.77931025337774689, -3.28318599128616941),
            ],
            [
                (3.38515418360702094, 0.0738518798377492877),
                (0.0866775045553963518, 2.88425470117477611),
                (-3.07302575076438961, -0.0813530442879675116),
                (-0.127961346730680066, -1.95371498024457643),
            ],
            [(0, 1), (0, 2), (2, 3), (1, 3)],
            "Himmelblau (1972)",
            [(3, (-0.270844590667347613, -0.923038556479981463))],
        ),
        _plane(
            "mueller_brown",
            _mueller_brown,
            ([-1.5, -0.2], [1.2, 2.0]),
            [
                (-0.558223634633024277, 1.44172584180466866),
                (0.62349940493087651, 0.0280377585286856657),
                (-0.0500108229982060578, 0.466694104871972088),
            ],
            [(0.212486582000662007, 0.292988325107367765), (-0.822001558732732097, 0.624312802814871361)],
            [(1, 2), (0, 2)],
            "Müller and Brown (1979)",
        ),
        _plane("rosenbrock", _rosenbrock, ([-2, -1], [2, 3]), [(1, 1)], [], [], "Rosenbrock (1960)"),
        _plane(
            "ackley",
            _ackley,
            ([-1.5, -1.5], [1.5, 1.5]),
            ackley["minima"],
            ackley["saddles"],
            [(0, 1 + t) for t in turns] + [(1 + t, 5 + t) for t in turns] + [(1 + (t + 1) % 4, 5 + t) for t in turns],
            "Ackley (1987)",
            [(8 + t, ackley["maxima"][t]) for t in turns],
        ),
    ]
    lines = [_quartic, _cosine, _rastrigin, _schwefel]
    sums = [
        separable_sum(_cosine, _cosine, name="egg_carton"),
        separable_sum(_rastrigin, _rastrigin, name="rastrigin_2d"),
        separable_sum(_schwefel, _schwefel, name="schwefel_2d"),
        separable_sum(*_levy_terms, name="levy"),
    ]
    networks = [
        replace(two_weights(1), name="two_weights"),
        replace(scalar_linear(2, a=1.0, c=1.5, gamma=0.2), name="scalar_linear"),
    ]
    return {known.name: known for known in [*lines, *planes, *sums, *networks]}


functions: Mapping[str, KnownFunction] = MappingProxyType(_build())
"""Functions by name; see `KnownFunction`. More are made by `separable_sum`, `two_weights` and `scalar_linear`."""
