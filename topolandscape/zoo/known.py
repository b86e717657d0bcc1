"""A function whose minima, saddles and barcode are known, and the ways to new ones.

The bars of a sum of functions, each of its own coordinates, follow from theirs by the rule of Kuenneth; those of a
network of few weights can be worked out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from types import MappingProxyType

import numpy as np

from topolandscape.structures import Floats, LossSamples, grid_points

Bar = tuple[float, float]
Bars = tuple[Bar, ...]
Function = Callable[[Floats], Floats]


@dataclass(frozen=True, eq=False)
class KnownFunction:
    """A function on a box, with the barcode of its sublevel sets.

    Parameters
    ----------
    name
        Its name in `functions`.
    function
        Maps float64 points (n, d) to losses (n,).
    low, high
        Corners of the box, shape (d,).
    bars
        For each degree 0 to d - 1 the bars (birth, death) of positive length, in order of birth, or None where they
        are not known.
    minima
        Minima of the function on the box, those on its boundary included, shape (k, d). Of a connected set of
        minima, one point.
    saddles
        Saddles of index 1 inside the box, shape (s, d).
    source
        Author and year.

    Examples
    --------
    >>> from topolandscape.zoo import functions
    >>> camel = functions["three_hump_camel"]
    >>> camel.bars[0]
    ((0.0, inf), (0.298638442237, 0.877361557763), (0.298638442237, 0.877361557763))
    >>> camel.function(camel.minima).round(6)
    array([0.      , 0.298638, 0.298638])
    """

    name: str
    function: Function
    low: Floats
    high: Floats
    bars: Mapping[int, Bars | None]
    minima: Floats
    saddles: Floats
    source: str

    def __post_init__(self) -> None:
        """Freeze the arrays and check that they are of one dimension."""
        dimension = len(np.asarray(self.low))
        for field in ("low", "high", "minima", "saddles"):
            array = np.array(getattr(self, field), dtype=np.float64)
            if array.shape[-1] != dimension:
                raise ValueError(
                    f"{field} has shape {array.shape}; its points need {dimension} coordinates, as low has."
                )
            array.flags.writeable = False
            object.__setattr__(self, field, array)
        object.__setattr__(self, "bars", MappingProxyType(dict(self.bars)))

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return len(self.low)

    def on_grid(self, shape: Sequence[int]) -> LossSamples:
        """Return the function on a full grid of the box, corners included.

        Parameters
        ----------
        shape
            Points along each coordinate.

        Returns
        -------
        LossSamples
            Rows are in row-major order: the last coordinate runs fastest.

        Examples
        --------
        >>> from topolandscape.zoo import functions
        >>> functions["himmelblau"].on_grid((11, 21))
        LossSamples(231 points, 2 dimensions, losses 0 to 890)
        """
        if len(shape) != self.dimension or min(shape) < 2:
            raise ValueError(
                f"a grid of shape {tuple(shape)} does not fit {self.name}; it needs {self.dimension} number(s), "
                "each at least 2."
            )
        axes = [np.linspace(a, b, n) for a, b, n in zip(self.low, self.high, shape, strict=True)]
        points = grid_points(axes)
        return LossSamples(points, self.function(points), shape=tuple(shape), provenance={"function": self.name})

    def __repr__(self) -> str:
        """Return one line: name, box and number of minima."""
        box = " x ".join(f"[{a:g}, {b:g}]" for a, b in zip(self.low, self.high, strict=True))
        return f"KnownFunction({self.name} on {box}, {len(self.minima)} minima)"


# --------------------------------------------------------------------------------------------------------------
# Bars from critical points, bars of sums
# --------------------------------------------------------------------------------------------------------------


def kuenneth(g: Mapping[int, Bars | None], h: Mapping[int, Bars | None]) -> dict[int, Bars | None]:
    """Return the bars of f(x, y) = g(x) + h(y) from the bars of g and of h.

    A bar [a, b) of g in degree p and a bar [c, e) of h in degree q give [a + c, min(b + c, a + e)) in degree p + q
    and [max(b + c, a + e), b + e) in degree p + q + 1, where they are not empty. On a product grid with the values
    on the vertices this holds for the grid as it stands, in every degree.

    Parameters
    ----------
    g, h
        Bars by degree. None: not known; a degree that is left out has no bars.

    Returns
    -------
    dict
        Bars by degree, in order of birth; None from the first degree on that depends on what is not known.

    References
    ----------
    Polterovich, Shelukhin and Stojisavljevic (2017), "Persistence modules with operators in Morse and Floer theory".

    Examples
    --------
    Two wells times two wells: four minima and one maximum between them.

    >>> well = {0: ((-1.0, math.inf), (-1.0, 1.0))}
    >>> kuenneth(well, well)
    {0: ((-2.0, 0.0), (-2.0, 0.0), (-2.0, 0.0), (-2.0, inf)), 1: ((0.0, 2.0),)}
    """
    top = max(g, default=0) + max(h, default=0) + 1
    found: dict[int, list[Bar]] = {degree: [] for degree in range(top + 1)}
    unknown = min((p for bars in (g, h) for p, known in bars.items() if known is None), default=top + 1)
    for (p, g_bars), (q, h_bars) in product(g.items(), h.items()):
        for (a, b), (c, e) in product(g_bars or (), h_bars or ()):
            found[p + q].append((a + c, min(b + c, a + e)))
            found[p + q + 1].append((max(b + c, a + e), b + e))
    return {
        degree: None if degree >= unknown else tuple(sorted(bar for bar in bars if bar[0] < bar[1]))
        for degree, bars in found.items()
    }


def separable_sum(*functions: KnownFunction, name: str | None = None) -> KnownFunction:
    """Return the sum of functions, each of its own coordinates, on the product of their boxes.

    Parameters
    ----------
    functions
        The terms, in the order of their coordinates.
    name
        Name of the sum; None: the names of the terms joined by " + ".

    Returns
    -------
    KnownFunction
        With the bars of every degree, by `kuenneth`.

    Examples
    --------
    >>> from topolandscape.zoo import functions
    >>> line = functions["quartic"]
    >>> cube = separable_sum(line, line, line)
    >>> cube
    KnownFunction(quartic + quartic + quartic on [-1.5, 1.5] x [-1.5, 1.5] x [-1.5, 1.5], 8 minima)
    >>> [len(cube.bars[degree]) for degree in range(3)]
    [8, 5, 1]
    """
    if not functions:
        raise ValueError("no function was given; a sum needs at least one.")
    result = reduce(_sum_of_two, functions)
    return replace(result, name=name or " + ".join(term.name for term in functions))


def _sum_of_two(g: KnownFunction, h: KnownFunction) -> KnownFunction:
    d = g.dimension
    return KnownFunction(
        name="",
        function=lambda points: g.function(points[:, :d]) + h.function(points[:, d:]),
        low=np.concatenate([g.low, h.low]),
        high=np.concatenate([g.high, h.high]),
        bars=kuenneth(g.bars, h.bars),
        minima=_pairs(g.minima, h.minima),
        saddles=np.concatenate([_pairs(g.saddles, h.minima), _pairs(g.minima, h.saddles)]),
        source=g.source if g.source == h.source else f"{g.source}; {h.source}",
    )


def _pairs(a: Floats, b: Floats) -> Floats:
    return np.hstack([np.repeat(a, len(b), axis=0), np.tile(b, (len(a), 1))])


def elder_rule(births: Sequence[float], passes: Sequence[tuple[float, int, int]]) -> Bars:
    """Return the bars of minima that are joined by passes (loss, minimum, minimum)."""
    component = list(range(len(births)))
    bars = []
    for loss, i, j in sorted(passes):
        if component[i] != component[j]:
            older, younger = sorted((component[i], component[j]), key=lambda k: (births[k], k))
            bars.append((births[younger], loss))
            component = [older if k == younger else k for k in component]
    bars += [(births[k], math.inf) for k in sorted(set(component))]
    return tuple(sorted(bar for bar in bars if bar[0] < bar[1]))


def losses_at(function: Function, points: Floats) -> list[float]:
    """Return losses to the accuracy to which the critical points are written down."""
    return [round(float(loss), 12) + 0.0 for loss in function(points)]  # + 0.0: no negative zero


# --------------------------------------------------------------------------------------------------------------
# Losses of networks with very few weights
# --------------------------------------------------------------------------------------------------------------


def two_weights(m: int) -> KnownFunction:
    """Return the loss of a linear network 1-m-1 on one sample: (1 - sum_i v_i w_i)^2.

    Parameters
    ----------
    m
        Width of the hidden layer. The coordinates are v_1, ..., v_m, w_1, ..., w_m.

    Returns
    -------
    KnownFunction
        On [-2, 2]^(2m). The zero set has two components for m = 1, joined at the origin; for m > 1 it is connected
        and has a hole of dimension m - 1, closed at the origin (a saddle of index m).

    Examples
    --------
    >>> two_weights(1).bars
    mappingproxy({0: ((0.0, 1.0), (0.0, inf)), 1: ()})
    >>> two_weights(2).bars[1]
    ((0.0, 1.0),)
    """
    if m < 1:
        raise ValueError(f"m is {m}; a hidden layer needs at least one neuron.")
    bars: dict[int, Bars] = dict.fromkeys(range(2 * m), ())
    bars[0] = ((0.0, math.inf),)
    bars[m - 1] = tuple(sorted([*bars[m - 1], (0.0, 1.0)]))
    minimum = np.full(2 * m, m**-0.5)
    return KnownFunction(
        name=f"two_weights({m})",
        function=lambda points: (1 - (points[:, :m] * points[:, m:]).sum(axis=1)) ** 2,
        low=np.full(2 * m, -2.0),
        high=np.full(2 * m, 2.0),
        bars=bars,
        minima=np.array([minimum, -minimum] if m == 1 else [minimum]),
        saddles=np.zeros((int(m == 1), 2 * m)),
        source="worked out for this package",
    )


def scalar_linear(n: int, a: float, c: float, gamma: float) -> KnownFunction:
    r"""Return the loss of a deep linear network of width 1 with weight decay.

    With P = w_1 ... w_n the loss is E[(P x - y)^2] + gamma sum_i w_i^2 = P^2 - 2 a P + c + gamma sum_i w_i^2.

    Parameters
    ----------
    n
        Number of weights, at least 2.
    a, c
        E[x y] and E[y^2], where E[x^2] = 1; c is at least a^2.
    gamma
        Strength of the weight decay, above 0.

    Returns
    -------
    KnownFunction
        For n = 2 the origin is a saddle (or, when gamma is at least the size of a, the only minimum). For n > 2 it is a
        minimum of loss c, and there are 2^(n - 1) more where \|w_i\| = b, with b the larger root of
        b^(2n - 2) - \|a\| b^(n - 2) + gamma, as long as there are roots; the smaller root gives the saddles.

    References
    ----------
    Ziyin, Li and Meng (2022), "Exact solutions of a deep linear network".

    Examples
    --------
    >>> scalar_linear(2, a=1.0, c=1.5, gamma=0.2).bars[0]
    ((0.86, 1.5), (0.86, inf))
    """
    if n < 2 or gamma <= 0 or c < a * a:
        raise ValueError(
            f"n is {n}, a {a}, c {c} and gamma {gamma}; n must be at least 2, gamma above 0, and c at least a^2 "
            "(since E[x^2] = 1)."
        )

    def function(points: Floats) -> Floats:
        output = points.prod(axis=1)
        return output**2 - 2 * a * output + c + gamma * (points**2).sum(axis=1)

    slope = np.zeros(2 * n - 1)  # coefficients of b^(2n - 2) - |a| b^(n - 2) + gamma, the highest power first
    slope[0], slope[n] = 1.0, -abs(a)
    slope[-1] += gamma
    roots = np.roots(slope)
    real = np.sort(roots[(np.abs(roots.imag) < 1e-9) & (roots.real > 1e-9)].real)
    real -= np.polyval(slope, real) / np.polyval(np.polyder(slope), real)  # one more Newton step: full precision
    signs = np.array([s for s in product((-1.0, 1.0), repeat=n) if math.prod(s) * a > 0]).reshape(-1, n)
    origin = np.zeros((1, n))
    outer = real[-1:, None, None] * signs
    if len(outer) == 0:
        minima, saddles, joins = origin, np.zeros((0, n)), []
    elif n == 2:
        minima, saddles, joins = outer[0], origin, [(0, 1)]
    else:
        minima, saddles = np.concatenate([origin, outer[0]]), real[0] * signs
        joins = [(0, i + 1) for i in range(len(signs))]
    passes = losses_at(function, saddles)
    bars: dict[int, Bars] = dict.fromkeys(range(n), ())
    bars[0] = elder_rule(losses_at(function, minima), [(p, i, j) for p, (i, j) in zip(passes, joins, strict=True)])
    # From sqrt(a^2 / 4 gamma) on the loss rises along every coordinate, so nothing is born on the boundary.
    reach = 1.5 * max(1.0, math.sqrt(a * a / (4 * gamma)), *real)
    return KnownFunction(
        name=f"scalar_linear({n}, a={a:g}, c={c:g}, gamma={gamma:g})",
        function=function,
        low=np.full(n, -reach),
        high=np.full(n, reach),
        bars=bars,
        minima=minima,
        saddles=saddles,
        source="Ziyin, Li and Meng (2022)",
    )
