"""Small complexes of every kind, and what the definitions say of gradient fields on them."""

from functools import cache
from itertools import combinations

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from topolandscape.structures import GridComplex, SimplicialComplex
from topolandscape.topology.complexes import expand, freudenthal, lower_star, with_edge_values

LEVELS = {
    "ties": st.integers(-2, 2).map(float),
    "no ties": st.floats(-1e3, 1e3, allow_nan=False),
    "ties and never": st.sampled_from([-1.0, 0.0, 1.0, 2.0, np.inf]),
}
SHAPES = [(2,), (9,), (1, 5), (4, 1, 3), (3, 4), (2, 2, 2), (3, 2, 3), (2, 2, 2, 2), (2, 3, 1, 2, 2)]


@st.composite
def values(draw, count):
    return draw(st.lists(LEVELS[draw(st.sampled_from(sorted(LEVELS)))], min_size=count, max_size=count))


@st.composite
def cubes(draw):
    shape = draw(st.sampled_from(SHAPES))
    return GridComplex(np.array(draw(values(int(np.prod(shape))))).reshape(shape))


@st.composite
def simplices(draw):
    """Draw a lower-star complex, one with raised edges, a flag complex, or one in which any simplex comes late."""
    n = draw(st.integers(1, 7))
    size = draw(st.integers(2, min(4, n))) if n > 1 else 1
    rows = draw(st.lists(st.permutations(range(n)).map(lambda p: p[:size]), min_size=1, max_size=9))
    complex = lower_star(rows, draw(values(n)))
    if complex.dimension == 0:
        return complex
    kind = draw(st.sampled_from(["lower star", "raised edges", "flag", "late"]))
    if kind in ("raised edges", "flag"):
        complex = with_edge_values(complex, draw(values(len(complex.simplices[1]))))
    if kind == "flag":
        complex = expand(complex, max_dim=draw(st.integers(1, 3)))
    return late(complex, draw(st.randoms(use_true_random=False))) if kind == "late" else complex


def late(complex, random):
    """Return a complex whose simplices enter some time after their facets."""
    entered = {(v,): value for v, value in enumerate(complex.vertex_values.tolist())}
    for rows in complex.simplices[1:]:
        for simplex in map(tuple, rows.tolist()):
            facets = combinations(simplex, len(simplex) - 1)
            entered[simplex] = max(entered[f] for f in facets) + random.choice([0.0, 0.0, 0.5, np.inf])
    return SimplicialComplex(
        complex.simplices, [[entered[tuple(s)] for s in rows.tolist()] for rows in complex.simplices]
    )


def freudenthal_of(complex):
    return freudenthal(complex) if complex.grid.ndim < 4 else complex


complexes = st.one_of(cubes(), simplices())


def cells_with_facets(complex):
    """Return value, and facets with incidence, of every cell by its number."""
    if isinstance(complex, SimplicialComplex):
        listed = [tuple(s) for rows in complex.simplices for s in rows.tolist()]
        number = {s: i for i, s in enumerate(listed)}
        entered = np.concatenate(complex.values).tolist()
        facets = [{number[s[:i] + s[i + 1 :]]: (-1) ** i for i in range(len(s))} if len(s) > 1 else {} for s in listed]
        return entered, facets, [len(s) - 1 for s in listed]
    shape = tuple(2 * n - 1 for n in complex.grid.shape)
    entered, facets, dimension = [], [], []
    for cell in np.ndindex(*shape):
        corners = tuple(slice(c // 2, (c + 1) // 2 + 1) for c in cell)
        entered.append(float(complex.grid[corners].max()))
        odd = [axis for axis, c in enumerate(cell) if c % 2]
        sides = {}
        for place, axis in enumerate(odd):
            for side in (-1, 1):
                facet = list(cell)
                facet[axis] += side
                sides[int(np.ravel_multi_index(facet, shape))] = side * (-1) ** place
        facets.append(sides)
        dimension.append(len(odd))
    return entered, facets, dimension


def partners(field):
    """Return the number of the partner of every cell, its own where it is critical, -1 for never."""
    if isinstance(field.complex, SimplicialComplex):
        return field.partner.tolist()
    shape = [2 * n - 1 for n in field.complex.grid.shape if n > 1]
    strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    result = []
    for cell, code in enumerate(field.partner.tolist()):
        step = strides[code // 2 % 4] if code < 16 else 0
        result.append(-1 if code == 255 else cell + (step if code % 2 else -step))
    return result


def assert_is_gradient(field, *, together=True):
    """Pairs are of a cell and its facet, enter together unless turned, and V-paths never close (Forman 1998)."""
    entered, facets, dimension = cells_with_facets(field.complex)
    partner = partners(field)
    graph = nx.DiGraph()
    for cell, other in enumerate(partner):
        assert (other == -1) == np.isinf(entered[cell])
        if other in (-1, cell):
            continue
        assert partner[other] == cell
        assert entered[other] == entered[cell] or not together
        if other > cell and dimension[other] > dimension[cell]:
            assert cell in facets[other]
        if dimension[other] > dimension[cell]:
            graph.add_edge(cell, other)
            graph.add_edges_from((other, facet) for facet in facets[other] if facet != cell)
        else:
            assert other in facets[cell]
    assert nx.is_directed_acyclic_graph(graph)


def counted_paths(field):
    """Return {(higher, lower): (number, signed sum)} of critical cells by their numbers, from the definition."""
    _, facets, dimension = cells_with_facets(field.complex)
    partner = partners(field)

    @cache
    def below(cell):
        """Return the ends of V-paths that go down from a cell."""
        ends = {}
        for facet, sign in facets[cell].items():
            if partner[facet] == cell:
                continue
            if partner[facet] == facet:
                further, sign = {facet: (1, 1)}, sign
            elif dimension[partner[facet]] > dimension[facet]:
                larger = partner[facet]
                further = below(larger)
                sign *= -facets[larger][facet]
            else:
                continue
            for end, (number, signed) in further.items():
                before = ends.get(end, (0, 0))
                ends[end] = (before[0] + number, before[1] + sign * signed)
        return ends

    return {(cell, end): count for cell in field.critical.tolist() for end, count in below(cell).items()}


def numbers(morse, complex):
    """Return the numbers of the rows of a Morse complex, as in GradientField."""
    if isinstance(complex, GridComplex):
        return morse.cell
    return morse.cell + np.cumsum([0, *map(len, complex.simplices)])[morse.index]


def euler_characteristic(complex):
    entered, _, dimension = cells_with_facets(complex)
    return sum((-1) ** k for k, value in zip(dimension, entered, strict=True) if np.isfinite(value))


def bars(code):
    """Return every column of a barcode, in one order."""
    columns = [getattr(code, name).tolist() for name in code.columns if name != "size"]
    return sorted(zip(*columns, strict=True))


def unknown_top(complex):
    return isinstance(complex, SimplicialComplex) and complex.flag and complex.dimension > 0
