"""The nouns: copied when made, read-only afterwards, and refused with a message that says what is needed."""

import sys
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topolandscape.structures import (
    Barcode,
    GridComplex,
    LossSamples,
    MergeTree,
    PathProfile,
    SimplicialComplex,
    Subspace,
)


def fields_of_a_tree():
    """Two minima at 0 and 1 that meet at 3, and a third one, at 2, that stays alone."""
    return {
        "simplex": np.array([0, 2, 3, 0]),
        "vertex": np.array([0, 2, 3, 1]),
        "value": np.array([0.0, 1.0, 2.0, 3.0]),
        "parent": np.array([3, 3, -1, -1]),
        "size": np.array([1, 1, 1, 3]),
        "basin": np.array([0, 0, 1, 2]),
    }


def fields_of_a_barcode():
    return {
        "dim": np.array([0, 0, 1, 0]),
        "birth": np.array([1.0, 0.0, 2.0, 0.5]),
        "death": np.array([1.5, np.inf, 4.0, 2.5]),
        "birth_simplex": np.array([7, 3, 4, 5]),
        "death_simplex": np.array([2, -1, 1, 0]),
        "birth_vertex": np.array([7, 3, 6, 5]),
        "death_vertex": np.array([8, -1, 9, 6]),
        "size": np.array([2, 10, 0, 4]),
    }


# --------------------------------------------------------------------------------------------------------------
# At the boundary
# --------------------------------------------------------------------------------------------------------------


MAKERS = {
    LossSamples: lambda: {"points": np.zeros((2, 3)), "values": np.arange(2.0)},
    Subspace: lambda: {"origin": np.zeros(3), "directions": np.ones((2, 3))},
    GridComplex: lambda: {"grid": np.arange(6.0).reshape(2, 3)},
    MergeTree: fields_of_a_tree,
    Barcode: fields_of_a_barcode,
}


@pytest.mark.parametrize("noun", MAKERS, ids=lambda noun: noun.__name__)
def test_arrays_are_copied_and_read_only(noun):
    given_arrays = MAKERS[noun]()
    made = noun(**given_arrays)
    before = {name: getattr(made, name).copy() for name in given_arrays}
    for name, array in given_arrays.items():
        array += 1  # the noun has its own
        assert np.array_equal(getattr(made, name), before[name])
        with pytest.raises(ValueError, match="read-only"):
            getattr(made, name)[...] = 0
        with pytest.raises(AttributeError, match="cannot assign"):
            setattr(made, name, array)


def test_simplices_and_values_are_copied_and_read_only():
    edges, entered = np.array([[0, 1]]), np.array([1.0])
    complex = SimplicialComplex([[[0], [1]], edges], [[0.0, 1.0], entered])
    edges[:], entered[:] = 7, 7.0
    assert complex.simplices[1].tolist() == [[0, 1]]
    assert complex.values[1].tolist() == [1.0]
    for array in (*complex.simplices, *complex.values):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("noun", [noun for noun in MAKERS if noun is not Subspace], ids=lambda noun: noun.__name__)
def test_provenance_is_copied_and_read_only(noun):
    facts = {"seed": 0}
    made = noun(**MAKERS[noun](), provenance=facts)
    facts["seed"] = 1
    assert isinstance(made.provenance, MappingProxyType)
    assert made.provenance["seed"] == 0
    with pytest.raises(TypeError, match="does not support item assignment"):
        made.provenance["seed"] = 2


def test_arrays_are_c_ordered_and_of_one_type():
    samples = LossSamples(np.asfortranarray(np.ones((3, 2), dtype=np.float32)), np.arange(3))
    assert samples.points.flags.c_contiguous
    assert (samples.points.dtype, samples.values.dtype) == (np.float64, np.float64)
    reversed_grid = GridComplex(np.arange(6.0).reshape(2, 3)[:, ::-1])
    assert reversed_grid.vertex_values.tolist() == [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LossSamples([["a"]], [0.0]), TypeError, r"points holds <U1, which cannot be read as float64"),
        (lambda: GridComplex([["a", "b"]]), TypeError, "grid holds <U1"),
        (lambda: SimplicialComplex([[[0.0], [1.0]]], [[0.0, 1.0]]), TypeError, r"simplices\[0\] holds float64; it ne"),
        (lambda: SimplicialComplex([[[False]]], [[0.0]]), TypeError, r"holds bool; it needs integers"),
        (lambda: Barcode(**fields_of_a_barcode() | {"size": np.zeros(4)}), TypeError, "size holds float64"),
        (lambda: MergeTree(**fields_of_a_tree() | {"parent": np.zeros(4)}), TypeError, "parent holds float64"),
    ],
)
def test_wrong_types_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --------------------------------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"points": [0.0, 1.0], "values": [0.0, 1.0]}, r"points has shape \(2,\); it needs 2 dimension"),
        ({"points": [[0.0]], "values": [[0.0]]}, r"values has shape \(1, 1\); it needs 1 dimension"),
        ({"points": np.zeros((0, 2)), "values": []}, "no points were given; samples need at least one"),
        ({"points": [[0.0], [1.0]], "values": [0.0]}, "values has 1 entries, but there are 2 points"),
        ({"points": [[0.0], [np.nan]], "values": [0.0, 1.0]}, r"points\[1\] is \[nan\]; coordinates must be finite"),
        ({"points": [[np.inf], [0.0]], "values": [0.0, 1.0]}, r"points\[0\] is \[inf\]"),
        ({"points": np.zeros((6, 2)), "values": np.zeros(6), "shape": (2, 4)}, r"shape \(2, 4\) has 8 points in 2"),
        ({"points": np.zeros((6, 2)), "values": np.zeros(6), "shape": (6,)}, "6 points in 1 dimensions, got 6 in 2"),
        (
            {"points": [[0.0, 1.0]], "values": [0.0], "subspace": Subspace(np.zeros(3), np.ones((1, 3)))},
            "points have 2 coordinates, but the subspace has 1 directions",
        ),
    ],
)
def test_samples_that_do_not_fit_together(fields, message):
    with pytest.raises(ValueError, match=message):
        LossSamples(**fields)


def test_directions_need_the_length_of_the_origin():
    with pytest.raises(ValueError, match="directions have 2 parameters each and the origin 3"):
        Subspace(np.zeros(3), np.ones((1, 2)))


def test_losses_that_are_not_finite_are_kept_and_named():
    samples = LossSamples([[0.0], [1.0], [2.0], [3.0]], [np.nan, 1.0, np.inf, -np.inf], noise=1)
    assert samples.nonfinite.tolist() == [0, 2, 3]
    assert np.isnan(samples.values[0])
    assert isinstance(samples.noise, float)
    assert repr(samples) == "LossSamples(4 points, 1 dimension, losses 1 to 1, 3 not finite)"
    assert (
        repr(LossSamples([[0.0, 0.0]], [np.nan])) == "LossSamples(1 points, 2 dimensions, no finite loss, 1 not finite)"
    )
    assert len(samples) == 4


def test_parameters_lead_back_from_a_subspace():
    rng = np.random.default_rng(0)
    subspace = Subspace(rng.normal(size=7), rng.normal(size=(2, 7)))
    samples = LossSamples(rng.normal(size=(5, 2)), np.zeros(5), subspace=subspace)
    by_hand = [
        [
            subspace.origin[j] + sum(samples.points[i, axis] * subspace.directions[axis, j] for axis in range(2))
            for j in range(7)
        ]
        for i in range(5)
    ]
    assert np.allclose(samples.parameters(), by_hand, rtol=0, atol=1e-14)
    assert np.allclose(samples.parameters([3, 1]), [by_hand[3], by_hand[1]], rtol=0, atol=1e-14)
    assert np.allclose(samples.parameters(slice(2)), by_hand[:2], rtol=0, atol=1e-14)
    assert np.array_equal(subspace.parameters([[0.0, 0.0]]), subspace.origin[None])
    coordinates = np.linalg.lstsq(subspace.directions.T, (samples.parameters() - subspace.origin).T, rcond=None)[0].T
    assert np.allclose(coordinates, samples.points)


def test_without_a_subspace_coordinates_are_parameters():
    samples = LossSamples([[0.0, 5.0], [1.0, 6.0]], [0.0, 1.0])
    assert samples.parameters([1]).tolist() == [[1.0, 6.0]]


# --------------------------------------------------------------------------------------------------------------
# Merge trees
# --------------------------------------------------------------------------------------------------------------


def test_a_merge_tree_tells_minima_from_saddles():
    tree = MergeTree(**fields_of_a_tree())
    assert tree.is_leaf.tolist() == [True, True, True, False]
    assert len(tree) == 4
    assert repr(tree) == "MergeTree(3 minima, 1 saddles, 2 components)"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": np.zeros(3, dtype=int)}, "size has 3 entries, but there are 4 nodes"),
        ({"parent": np.array([3, 3, -1, 4])}, "must be a node that enters no earlier"),
        ({"value": np.array([0.0, 4.0, 2.0, 3.0])}, "must be a node that enters no earlier"),
        ({"parent": np.array([3, -1, -1, -1])}, "node 3 has 1 children; a minimum has none and a saddle two"),
        ({"parent": np.array([3, 3, 3, -1])}, "node 3 has 3 children"),
        ({"value": np.array([1.0, 0.0, 2.0, 3.0])}, "minima first, by value"),
        ({"parent": np.array([2, 2, -1, -1]), "value": np.array([0.0, 1.0, 2.0, 2.0])}, "numbered as they enter"),
        ({"parent": np.array([3, -1, -1, 3])}, "children before parents"),
    ],
)
def test_what_is_no_merge_tree(changed, message):
    with pytest.raises(ValueError, match=message):
        MergeTree(**fields_of_a_tree() | changed)


# --------------------------------------------------------------------------------------------------------------
# Barcodes
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"death": np.array([0.5, np.inf, 4.0, 2.5])}, r"bar 0 is \[1.0, 0.5\); a birth is finite and no death comes"),
        ({"birth": np.array([1.0, np.nan, 2.0, 0.5])}, r"bar 1 is \[nan, inf\)"),
        ({"birth": np.array([1.0, -np.inf, 2.0, 0.5])}, r"bar 1 is \[-inf, inf\)"),
        ({"death": np.array([1.5, np.inf, 4.0, np.nan])}, r"bar 3 is \[0.5, nan\)"),
        ({"dim": np.array([0, 0])}, "dim has 2 entries, but there are 4 bars"),
        ({"size": np.zeros((4, 1), dtype=int)}, r"size has shape \(4, 1\)"),
    ],
)
def test_what_is_no_barcode(changed, message):
    with pytest.raises(ValueError, match=message):
        Barcode(**fields_of_a_barcode() | changed)


def test_bars_stand_by_degree_then_length_then_birth_then_row():
    code = Barcode(**fields_of_a_barcode())
    assert code.birth_simplex.tolist() == [3, 5, 7, 4]
    assert code.persistence.tolist() == [np.inf, 2.0, 0.5, 2.0]
    assert code.essential.tolist() == [True, False, False, False]
    assert code.size.tolist() == [10, 4, 2, 0]  # every column follows
    ties = fields_of_a_barcode() | {"dim": np.zeros(4, dtype=int), "death": np.array([2.0, 1.0, 3.0, 1.5])}
    assert Barcode(**ties).birth.tolist() == [0.0, 0.5, 1.0, 2.0]
    ties |= {"birth": np.zeros(4), "death": np.ones(4)}
    assert Barcode(**ties).birth_simplex.tolist() == [3, 4, 5, 7]


@st.composite
def columns_and_order(draw):
    """Draw the columns of a barcode with many ties, and another order of its bars."""
    bars = draw(st.integers(1, 7))
    column = st.lists(st.integers(0, 2), min_size=bars, max_size=bars)
    columns = {name: np.array(draw(column)) for name in Barcode.columns}
    birth = columns["birth"].astype(float)
    never = np.array(draw(st.lists(st.booleans(), min_size=bars, max_size=bars)))
    columns |= {"birth": birth, "death": np.where(never, np.inf, birth + columns["death"])}
    return columns, draw(st.permutations(range(bars)))


@given(columns_and_order())
def test_the_order_of_bars_does_not_depend_on_the_order_of_the_input(drawn):
    columns, order = drawn
    columns["birth_simplex"] = np.arange(len(order))  # every bar is born of another simplex
    one = Barcode(**columns)
    other = Barcode(**{name: column[list(order)] for name, column in columns.items()})
    for name in Barcode.columns:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@given(columns_and_order())
def test_the_order_of_bars_is_complete_even_where_several_are_born_of_one_vertex(drawn):
    """In a grid several bars of one degree are born at one vertex; they may end at one loss, at different vertices."""
    columns, order = drawn
    columns["death_simplex"] = np.arange(len(order))
    one = Barcode(**columns)
    other = Barcode(**{name: column[list(order)] for name, column in columns.items()})
    for name in Barcode.columns:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_from_pairs_knows_births_and_deaths_only():
    code = Barcode.from_pairs([(1.0, 3.0), (0.0, np.inf)], dim=1)
    assert code.dim.tolist() == [1, 1]
    assert code.birth.tolist() == [0.0, 1.0]
    assert code.birth_simplex.tolist() == code.death_vertex.tolist() == [-1, -1]
    assert code.size.tolist() == [0, 0]
    empty = Barcode.from_pairs([])
    assert len(empty) == 0
    assert repr(empty) == "Barcode(0 bars: none; 0 essential)"


def test_filter_keeps_what_passes_every_condition():
    code = Barcode(**fields_of_a_barcode(), provenance={"seed": 1})
    assert code.filter(dim=0).birth.tolist() == [0.0, 0.5, 1.0]
    assert code.filter(dim=2).birth.tolist() == []
    assert code.filter(min_persistence=2.0).birth.tolist() == [0.0, 0.5, 2.0]
    assert code.filter(min_size=4).birth.tolist() == [0.0, 0.5, 2.0]  # the loop has no size and stays
    assert code.filter(min_size=5, dim=0).birth.tolist() == [0.0]
    assert code.filter(max_bars=2).birth.tolist() == [0.0, 0.5]
    assert code.filter(max_bars=2, min_size=3, dim=0).birth.tolist() == [0.0, 0.5]
    assert code.filter(max_bars=1, dim=1).birth.tolist() == [2.0]
    assert code.filter(max_bars=0).birth.tolist() == []
    assert code.filter(max_bars=9).birth.tolist() == code.birth.tolist()
    assert code.filter(min_persistence=1.0).provenance == {"seed": 1}
    assert len(code) == 4


def test_filter_takes_the_longest_bars_of_all_degrees():
    code = Barcode(**fields_of_a_barcode() | {"death": np.array([1.5, np.inf, 9.0, 2.5])})
    assert code.filter(max_bars=2).birth.tolist() == [0.0, 2.0]


def test_to_gudhi_has_the_form_of_gudhi():
    code = Barcode(**fields_of_a_barcode())
    assert code.to_gudhi() == [(1, (2.0, 4.0)), (0, (0.0, np.inf)), (0, (0.5, 2.5)), (0, (1.0, 1.5))]


def test_to_persim_has_one_array_a_degree():
    first, second = Barcode(**fields_of_a_barcode()).to_persim()
    assert first.tolist() == [[0.0, np.inf], [0.5, 2.5], [1.0, 1.5]]
    assert second.tolist() == [[2.0, 4.0]]
    empty, loops = Barcode.from_pairs([(0.0, 1.0)], dim=1).to_persim()
    assert (empty.shape, loops.shape) == ((0, 2), (1, 2))
    [nothing] = Barcode.from_pairs([]).to_persim()
    assert nothing.shape == (0, 2)


def test_to_dataframe_has_one_row_a_bar():
    pandas = pytest.importorskip("pandas")
    code = Barcode(**fields_of_a_barcode())
    frame = code.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == [*Barcode.columns, "persistence"]
    for name in frame.columns:
        assert frame[name].tolist() == getattr(code, name).tolist()


def test_to_dataframe_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        Barcode.from_pairs([]).to_dataframe()


def test_table_shows_the_longest_bars_and_counts_the_rest():
    code = Barcode(**fields_of_a_barcode())
    head, first, *_, last = code.table().splitlines()
    assert head.split() == ["dim", "birth", "death", "persistence", "minimum", "saddle", "size"]
    assert first.split() == ["0", "0", "inf", "inf", "3", "-", "10"]
    assert last.split() == ["1", "2", "4", "2", "6", "9", "-"]
    assert len({len(line.rstrip()) - len(line.split()[-1]) for line in code.table().splitlines()}) == 1  # aligned
    assert str(code) == code.table()
    shortened = code.table(max_rows=2).splitlines()
    assert len(shortened) == 4
    assert shortened[-1] == "... and 2 more bars, none longer than 2"
    unknown = Barcode.from_pairs([(0.0, 1.0)]).table().splitlines()[1]
    assert unknown.split() == ["0", "0", "1", "1", "-", "-", "0"]


def test_repr_counts_by_degree():
    code = Barcode(**fields_of_a_barcode())
    assert repr(code) == "Barcode(4 bars: 3 in degree 0, 1 in degree 1; 1 essential)"
    assert repr(code.filter(dim=1)) == "Barcode(1 bar: 1 in degree 1; 0 essential)"


# --------------------------------------------------------------------------------------------------------------
# Profiles of paths
# --------------------------------------------------------------------------------------------------------------


FIELDS_OF_A_PROFILE = {
    "ends": (2, 0),
    "distances": [0.0, 1.0, 4.0],
    "losses": [0.5, 3.0, 0.0],
    "top": 1.0,
    "word": "path maximum",
}


def test_a_profile_knows_its_length_and_its_highest_loss():
    given = np.array(FIELDS_OF_A_PROFILE["losses"])
    profile = PathProfile(**(FIELDS_OF_A_PROFILE | {"losses": given}))
    given[:] = 9.0
    assert (profile.ends, profile.length, profile.highest) == ((2, 0), 4.0, 3.0)
    assert not profile.losses.flags.writeable
    assert PathProfile(**(FIELDS_OF_A_PROFILE | {"top": 2.5})).highest == 1.5  # between two places
    assert repr(profile) == "PathProfile(minima 2 and 0, length 4, up to 3: path maximum)"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ends": (1, 1)}, r"ends are \(1, 1\); they need to be two different rows"),
        ({"ends": (-1, 0)}, "two different rows"),
        ({"ends": (0, 1, 2)}, "two different rows"),
        ({"distances": [0.0, 1.0]}, "losses has 3 entries, but there are 2 distances"),
        ({"distances": [1.0, 2.0, 3.0]}, "begin with 0"),
        ({"distances": [0.0, 2.0, 1.0]}, "never to decrease"),
        ({"distances": [0.0, 0.0, 0.0]}, "end above 0"),
        ({"distances": [0.0], "losses": [1.0]}, "begin with 0"),
        ({"distances": [0.0, 1.0, np.inf]}, "not finite"),
        ({"losses": [0.0, np.nan, 0.0]}, "not finite"),
        ({"top": 4.5}, "top is at 4.5, but the path is 4 long"),
        ({"top": np.nan}, "top is at nan"),
        ({"word": "saddle"}, "word is 'saddle'; it needs to be one of verified saddle, path maximum, not converged"),
    ],
)
def test_what_is_no_profile(changed, message):
    with pytest.raises(ValueError, match=message):
        PathProfile(**(FIELDS_OF_A_PROFILE | changed))
