"""The race: its processes, its checks, and that ours does every kind of its work; the peers are not needed."""

import json
from importlib import import_module

import contest
import correctness
import homology
import numpy as np
import ours
import pytest
import race
import rows
import works
from peers import install

from topolandscape.structures import GridComplex
from topolandscape.zoo import functions

pytestmark = pytest.mark.usefixtures("one_thread")
INF = np.inf


@pytest.fixture(scope="module")
def plane():
    return works.plane("mlp:64-1-10")


def test_every_entrant_is_there():
    raced = [entrant for row in rows.rows() for entrant in row.entrants]
    for entrant in (*raced, *correctness.ENGINES, *correctness.DEGREES, *correctness.ROUTES):
        module, function = entrant.function.split(".")
        assert callable(getattr(import_module(module), function))
        assert entrant.environment in (contest.OURS, *install.ENVIRONMENTS)
    keys = [row.key for row in rows.rows()]
    assert len(set(keys)) == len(keys)
    assert all(row.entrants[0].environment == contest.OURS for row in rows.rows())


def test_entrants_run_in_turn_and_say_what_went_wrong():
    entrants = [
        contest.Entrant("scipy", contest.OURS, "homology.scipy_grid"),
        contest.Entrant("cripser", "homology", "homology.no_such_engine"),
        contest.Entrant("lacking", contest.OURS, "homology.no_such_engine"),
    ]
    grid = np.array([[0.0, 3.0, 1.0], [4.0, 5.0, 2.0]])
    found = contest.contest(entrants, {"grid": grid}, repeat=2, patience=60)
    assert sorted(found["scipy"].answer["bars"].tolist()) == [[0, INF], [1, 3]]
    assert len(found["scipy"].seconds) == 2
    assert found["scipy"].peak > 10e6
    assert found["cripser"].error is not None
    assert found["lacking"].error.startswith("AttributeError")
    assert found["lacking"].best is None


def test_pieces_are_done_one_by_one():
    pieces = {"good/grid": np.zeros((2, 2)), "bad/graph": np.zeros((2, 2))}
    found = contest.contest(
        [contest.Entrant("scipy", contest.OURS, "homology.scipy_grid")], pieces, repeat=0, patience=60
    )
    assert found["scipy"].answer["good/bars"].tolist() == [[0, INF]]
    assert "TypeError" in str(found["scipy"].answer["bad/error"])


def test_plane_is_that_of_the_module(plane):
    answer = ours.plane_and_tree(**plane)()
    answers = {"ours": answer, "one step off": answer | {"losses": np.roll(answer["losses"], 1, 1)}}
    words = rows.check_plane(plane, answers)
    assert words["ours"].startswith("to ")
    assert "right at" in words["one step off"]
    assert rows.check_whole(plane, {"ours": answer})["ours"].endswith(f"{len(answer['bars'])} bars")


def test_engines_agree_on_grids_and_graphs():
    work = works.grid("rough", (13, 11))
    flat = {"topolandscape": ours.bars_of_grid(**work)(), "with its tree": ours.tree_of_grid(**work)()}
    flat |= {"gudhi cubical": homology.gudhi_cubical(**work)(), "gudhi 2-D": homology.gudhi_fast_2d(**work)()}
    flat |= {"ripser": homology.ripser_grid(**work)(), "scipy": homology.scipy_grid(**work)()}
    assert all(words.endswith("to the bit") for words in rows.check_bars(work, flat).values())
    assert "**no**" in rows.check_bars(work, flat | {"wrong": {"bars": flat["ripser"]["bars"][1:]}})["wrong"]

    work = works.graph(300, 3, 8)
    graph = {"topolandscape": ours.bars_of_graph(**work)(), "with its tree": ours.tree_of_graph(**work)()}
    graph |= {"gudhi simplex tree": homology.gudhi_graph(**work)()}
    assert all(words.endswith("to the bit") for words in rows.check_bars(work, graph).values())


def test_bars_of_a_network_follow_the_elder_rule():
    work = works.network(12, 20)
    answer = ours.tree_of_network(**work)()
    late = {"bars": answer["bars"] + [0, 0.1], "spacing": np.array(0.1)}
    words = rows.check_network(work, {"ours": answer, "late": late})
    assert words["ours"] == "to the bit"
    assert words["late"].startswith("to 1e-01 (levels 1e-01")


def test_minima_and_saddles_are_counted():
    answers = {"all": ours.critical_points(np.array("three_hump_camel"))()}
    answers["two"] = {name: array[:2] if name == "minima" else array for name, array in answers["all"].items()}
    answers["other"] = answers["all"] | {"saddles": np.array([[0.5, 0.5]])}
    words = rows.check_search("three_hump_camel", {}, answers)
    assert "3 of 3 minima, 2 of 2 saddles; bars to" in words["all"]
    assert "2 of 3 minima" in words["two"]
    assert "0 of 2 saddles and 1 others" in words["other"]


def test_bars_are_matched_whatever_their_order():
    exact = np.array([[0.0, INF], [1.0, 2.0], [1.5, 2.0]])
    assert rows.distance_of_bars(exact[::-1], exact) == 0
    assert rows.distance_of_bars(exact + np.array([[0, 0], [0, 0.25], [0, 0]]), exact) == 0.25
    assert rows.distance_of_bars(exact[:2], exact) == INF
    assert rows.distance_of_bars(np.array([[0.0, 5.0], [1.0, 2.0], [1.5, 2.0]]), exact) == INF


def test_spectrum_is_that_of_the_whole_hessian():
    work = works.spectrum("mlp:64-1-10", 2)
    values = ours.highest(**work)()["values"]
    words = rows.check_spectrum("highest", work, {"ours": {"values": values}, "wrong": {"values": values + 1}})
    right, wrong = (float(words[who].rsplit(" ", 1)[1]) for who in ("ours", "wrong"))
    assert right < 1e-4 < wrong


def test_truths_are_those_of_the_engines():
    for truth in correctness.truths():
        assert homology.sorted_bars(ours.merge(truth.grid)()["bars"]).tolist() == truth.bars[0].tolist()
        if len(truth.bars) > 1:
            answer = ours.degrees_morse(truth.grid)()
            assert correctness.judged(answer, {f"bars_{k}": bars for k, bars in truth.bars.items()}) == "exact"
    assert GridComplex(correctness.truths()[0].grid).dimension == 2


def test_verdicts():
    exact = {"bars": np.array([[0.0, INF], [1.0, 2.0]])}
    assert correctness.judged({"bars": exact["bars"]}, exact) == "exact"
    assert correctness.judged({"bars": exact["bars"] + [[0, 0], [0, 1e-3]]}, exact) == "1e-03"
    assert correctness.judged({"bars": exact["bars"][:1]}, exact) == "**no**: 1 for 2 bars"
    assert correctness.judged({"error": "refused"}, exact) == "error: refused"


def test_routes_to_the_bars_of_a_function():
    exact = {"bars": np.array(functions["quartic"].bars[0])}
    for route in ("sampled_grid", "refined", "critical_points"):
        error = correctness.judged(getattr(ours, route)(np.array("quartic"))(), exact)
        assert float(error) < 1e-3, route


def test_a_row_is_written_down(tmp_path, monkeypatch):
    row = rows.Row(
        "tiny", "tiny grid", lambda: works.grid("rough", (5, 4)), (rows.ours("tree_of_grid"),), rows.check_bars
    )
    monkeypatch.setattr(race, "rows", lambda: [row])
    monkeypatch.setattr("sys.argv", ["race.py", "--only", "tiny", "--repeat", "1", "--output", str(tmp_path)])
    race.main()
    (line,) = json.loads((tmp_path / "race.json").read_text())["rows"]
    assert line["ratio"] == 1
    assert line["answer"].endswith("to the bit")
    assert "| tiny grid | topolandscape |" in (tmp_path / "race.md").read_text()
