"""The experiments beside the benchmarks: their own arithmetic, and that each runs from its options to its files."""

import json
import sys
from itertools import permutations
from types import SimpleNamespace

import claims
import networks
import numpy as np
import passes
import pytest
import torch
from scipy.stats import mannwhitneyu

import topolandscape as tl


def test_bars_follow_the_elder_rule():
    lengths, rows = passes.bars(np.array([0.0, 3.0, 2.0]), np.array([[0, 1], [0, 2], [1, 2]]), np.array([6.0, 10, 5]))
    assert sorted(zip(lengths.tolist(), rows.tolist(), strict=True)) == [(2.0, 2), (4.0, 0)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_plain_string_reaches_a_known_saddle(momentum):
    valley = tl.Landscape.from_function(lambda x: 10 * (x.norm(dim=1) - 1) ** 2 + 0.1 * (1 - x[:, 0] ** 2), 2)
    start = tl.bent_paths([[-1.0, 0.0]], [[1.0, 0.0]], 15, by=0.3, seed=0)
    steps = passes.string_steps(valley, start, momentum, step=0.01)
    for _ in range(1000):
        paths = next(steps)
    assert valley.values(paths[0]).max() == pytest.approx(0.1, abs=2e-3)
    spacing = np.linalg.norm(np.diff(paths[0], axis=0), axis=1)
    assert spacing == pytest.approx(spacing.mean(), rel=0.02)


def test_negative_curvatures_are_counted(monkeypatch):
    factors = torch.tensor([-2.0, -1e-3, 0.0, 1.0, 5.0], dtype=torch.float64)
    landscape = tl.Landscape.from_function(lambda x: x**2 @ factors, 5)
    assert passes.negative_curvatures(landscape, np.ones((2, 5))) == [2, 2]
    monkeypatch.setattr(passes, "LARGEST_HESSIAN", 4)
    monkeypatch.setattr(passes, "LOWEST", 3)
    assert passes.negative_curvatures(landscape, np.ones((1, 5))) == [2]


def test_stopwatch_stands_still_in_pauses(monkeypatch):
    now = iter(range(100))
    clock = SimpleNamespace(perf_counter=lambda: float(next(now)), process_time=lambda: 2.0 * next(now))
    monkeypatch.setattr(passes, "time", clock)
    watch = passes.Stopwatch(tl.Landscape.from_function(lambda x: x[:, 0] ** 2, 1))
    assert watch.landscape.engine is watch.unwatched.engine
    watch.pausing(lambda: [next(now) for _ in range(10)])
    watch.landscape.gradients([[1.0]])
    # Every look at either clock is a second, on two processors.
    assert (watch.in_the_engine, watch.processors_in_the_engine) == (2, 4)
    assert watch.gradients_at == [8.0]


def test_trend_of_two_groups_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    for n, m in ((5, 5), (3, 6), (1, 4)):
        one, other = rng.normal(0.5, size=n), rng.normal(size=m)
        expected = mannwhitneyu(one, other, alternative="greater", method="exact").pvalue
        assert claims.falling([one, other]) == pytest.approx(expected, rel=1e-12)


def test_trend_of_three_groups_counts_all_orders():
    values = np.array([3.0, 0.5, 2.0, 1.0, 2.5, 0.0])

    def pairs(order):
        groups = np.split(np.array(order), [2, 3])
        return sum((groups[i][:, None] > groups[j]).sum() for i, j in ((0, 1), (0, 2), (1, 2)))

    counts = np.array([pairs(order) for order in permutations(values)])
    expected = (counts >= pairs(values)).mean()
    assert claims.falling(np.split(values, [2, 3])) == pytest.approx(expected, rel=1e-12)


def test_verdicts():
    high, low = np.arange(10.0, 15), np.arange(5.0)
    assert claims.verdict([high, low])[1] == "holds"
    assert claims.verdict([low, high])[1] == "does not hold"
    assert claims.verdict([low, low + 0.5])[1] == "not decided"
    assert claims.verdict([0 * low, 0 * low])[1] == "not decided: there are no bars"


def test_norms_are_frozen_at_the_statistics_of_all_rows():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    inputs, targets = 5 + torch.randn(50, 3), torch.arange(50) % 2
    networks.freeze_norms(module, inputs, targets, steps=3)
    with torch.no_grad():
        normed = module[1](module[0](inputs))
    assert not module.training
    shift, scale = module[1].bias, module[1].weight
    torch.testing.assert_close(normed.mean(dim=0), shift.data, atol=1e-4, rtol=0)
    torch.testing.assert_close(normed.std(dim=0), scale.data.abs(), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_passes_runs_from_options_to_files(monkeypatch, tmp_path):
    options = ["--model", "mlp:2-3-2,tanh", "--data", "two_moons", "--minima", "4", "--seconds", "0.5"]
    options += ["--long", "0.6"]
    monkeypatch.setattr(sys, "argv", ["passes.py", *options, "--output", str(tmp_path), "--pictures", str(tmp_path)])
    passes.main()
    case = json.loads((tmp_path / "passes.json").read_text())["cases"]["mlp:2-3-2,tanh"]
    assert [row["method"] for row in case["rows"]] == [*passes.METHODS, passes.LONG]
    by_method = {row["method"]: row for row in case["rows"]}
    for name in ("plain string, momentum 0.9", "plain string, momentum 0.98"):
        curve = np.array(by_method[name]["curve"])
        assert (np.diff(curve[:, 0]) > 0).all()
        assert (np.diff(curve[:, 1]) <= 0).all()
    for row in case["rows"]:
        assert row["sum"] == pytest.approx(row["curve"][-1][1], rel=1e-6, abs=1e-9)
        assert 0 < row["in_the_engine"] < 1
        assert 0 < row["processors_in_the_engine"] < 1
    assert all(f"| {name} |" in (tmp_path / "passes.md").read_text() for name in passes.METHODS)
    assert (tmp_path / "passes.png").stat().st_size > 0


@pytest.mark.slow
def test_the_search_is_shown_at_half_of_its_time():
    rounds = [[1.0, 6.0, 0.0, 10.0], [1.5, 5.0, 1.0, 20.0], [3.0, 4.0, 2.0, 30.0]]
    (line,) = passes.half_way({"method": "search", "bars": 2, "curve": rounds}, 4)
    assert [cell.strip() for cell in line.split("|")][1:6] == ["search, half the time", "5", "2.5", "", "1.5"]
    assert "1 of 2" in line
    assert passes.half_way({"method": "string", "curve": [[1.0, 6.0]]}, 4) == []


@pytest.mark.slow
def test_claims_runs_and_computes_nothing_twice(monkeypatch, tmp_path):
    compared = claims.CLAIMS[-1]
    small = {
        name: claims.Setting("mlp:64-2-10,tanh", decay, claims.annealed)
        for name, decay in zip(compared.settings, (0.0, 1e-3), strict=True)
    }
    monkeypatch.setattr(claims, "SETTINGS", small)
    monkeypatch.setattr(claims, "CLAIMS", (compared,))
    monkeypatch.setattr(claims, "PANELS", {"learning rate": compared})
    options = ["--seeds", "2", "--minima", "2", "--explore", "0", "--training", "0.05"]
    monkeypatch.setattr(sys, "argv", ["claims.py", *options, "--output", str(tmp_path), "--pictures", str(tmp_path)])
    claims.main()
    results = json.loads((tmp_path / "claims.json").read_text())["results"]
    assert {name: list(found) for name, found in results.items()} == {name: ["0", "1"] for name in small}
    shares = np.bincount(tl.zoo.dataset("digits").targets) / len(tl.zoo.dataset("digits").targets)
    ceiling = -(shares * np.log(shares)).sum()
    for found in (found for seeds in results.values() for found in seeds.values()):
        # Of two minima the higher has the only bar.
        higher = 2 * found["mean_loss"] - found["lowest_loss"]
        assert found["mean_bar"] == pytest.approx(found["highest_death"] * ceiling - higher, abs=1e-9)
        assert found["to_score"] == pytest.approx(found["mean_bar"] / (ceiling - found["lowest_loss"]), abs=1e-9)
    table = (tmp_path / "claims.md").read_text()
    assert all(claim.words in table for claim in claims.CLAIMS)
    monkeypatch.setattr(claims, "measured", lambda *_, **__: pytest.fail("computed again"))
    claims.main()
    assert (tmp_path / "claims.md").read_text() == table
