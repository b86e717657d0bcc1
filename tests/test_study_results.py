"""Studies: what is measured of their runs, and what is said of it."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from finished_runs import SMALL, finished
from scipy.stats import kendalltau, spearmanr
from typer.testing import CliRunner

import topolandscape as tl
import topolandscape.study.comparison as comparison
from topolandscape.cli import app
from topolandscape.files import Run
from topolandscape.structures import MinimaNetwork
from topolandscape.study import MEASURES
from topolandscape.study.measures import scores
from topolandscape.study.report import _factor, _picture
from topolandscape.study.statistics import correlations, differences, interval

INF = float("inf")

pytestmark = pytest.mark.usefixtures("one_thread")


# --------------------------------------------------------------------------------------------------------------
# What is measured
# --------------------------------------------------------------------------------------------------------------


def test_scores_of_a_run(tmp_path):
    run = finished(tmp_path, [(0.0, INF), (1.0, 3.0), (1.5, 2.0), (2.0, 2.0)], errors=[0.1, 0.2, 0.3, 0.4])
    row = scores(run)
    assert row["minima"] == 4
    assert row["mean_bar"] == pytest.approx((2 + 0.5 + 0) / 3)
    assert row["longest_bar"] == 2
    assert row["total_persistence"] == pytest.approx(2.5)
    assert row["lowest_loss"] == 0
    assert row["test_error"] == pytest.approx(0.25)
    assert row["generalisation_gap"] == pytest.approx(0)
    assert np.isnan(row["relative_bar"])
    run.once("ceiling", lambda: 4.0)
    assert scores(run)["relative_bar"] == pytest.approx(row["mean_bar"] / 4)


def test_a_minimum_met_on_the_way_ends_bars_and_has_none_of_its_own(tmp_path):
    bars = [(1.0, 3.0), (1.5, 2.0), (2.0, 2.0), (1.9, 5.0), (0.5, INF)]
    row = scores(finished(tmp_path, bars, trained=3))
    assert row["minima"] == 3
    assert row["mean_bar"] == pytest.approx((2 + 0.5 + 0) / 3)
    assert row["to_score"] == pytest.approx((2 + 0.5) / 2)


def test_measures_are_those_of_the_trained_minima(tmp_path, monkeypatch):
    """Against the functions themselves, at the minima that the run holds."""
    plans = {k: {"form": "wide", "chunk": 16, "rows": 1} for k in ("values", "gradients", "products", "accuracies")}
    monkeypatch.setattr("topolandscape.study.runs._plans", lambda landscape, route: plans)
    settings = SMALL | {"model": "mlp:2-3-2,tanh", "data": "two_moons", "minima": 3, "seed": 0, "weight_decay": 1e-2}
    result = tl.run_study(tl.Study(settings, measures=tuple(MEASURES)), tmp_path, progress=False)
    (row,), (run,) = result.rows, result.runs
    network = run.load("network", MinimaNetwork)
    points = network.minima.points[: network.trained]
    data = tl.zoo.dataset("two_moons")
    import torch

    def landscape(inputs, targets):
        module = tl.zoo.network("mlp:2-3-2,tanh", seed=0)
        return tl.Landscape.from_module(
            module, inputs, targets, loss=torch.nn.functional.cross_entropy, weight_decay=1e-2
        )

    train, test = landscape(data.inputs, data.targets), landscape(data.test_inputs, data.test_targets)
    apart = [np.linalg.norm(points[i] - points[j]) for i in range(len(points)) for j in range(i)]
    assert row["distance"] == pytest.approx(np.mean(apart))
    assert row["test_loss"] == pytest.approx(test.values(points).mean(), rel=1e-5)
    assert row["train_error"] == pytest.approx(1 - train.accuracies(points)[1].mean())
    assert row["test_error"] == pytest.approx(1 - test.accuracies(points)[1].mean())
    assert row["generalisation_gap"] == pytest.approx(row["test_error"] - row["train_error"])
    hessians = [np.linalg.eigvalsh(h) for h in tl.landscape.curvature.hessians(train, points)]
    assert row["hessian_top"] == pytest.approx(np.mean([h[-1] for h in hessians]), rel=1e-3)
    assert row["hessian_trace"] == pytest.approx(np.mean([h.sum() for h in hessians]), rel=0.1)
    classes = tl.network_outputs(test, points, data.test_inputs).argmax(2)
    different = [(classes[i] != classes[j]).mean() for i in range(len(points)) for j in range(i)]
    assert row["disagreement"] == pytest.approx(np.mean(different))
    assert 0 < row["cka"] <= 1
    assert -1 <= row["mode_connectivity"] <= 1


def test_unfinished_and_unknown_runs(tmp_path):
    Run.create(tmp_path / "begun", {"seed": 0})
    with pytest.raises(FileNotFoundError, match="has no barcode: the run is unfinished"):
        tl.compare_runs([tmp_path / "begun"])
    with pytest.raises(FileNotFoundError, match="there is no run at"):
        tl.compare_runs([tmp_path / "nothing"])
    finished(tmp_path / "one", [(0.0, INF), (1.0, 3.0)])
    with pytest.raises(ValueError, match="is given twice; give it once"):
        tl.compare_runs([tmp_path / "one", tmp_path / "begun" / ".." / "one"])


# --------------------------------------------------------------------------------------------------------------
# What it says
# --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_groups(tmp_path):
    """Make groups a and b alike, c with far longer bars, and bars that rise with the error of their minimum."""
    folders = []
    rng = np.random.default_rng(0)
    for model, length in (("a", 1.0), ("b", 1.0), ("c", 5.0)):
        for seed in range(5):
            births = np.array([0.0, 0.5, 0.6])
            lengths = length * (1 + 0.1 * rng.random(2))
            bars = list(zip(births, np.r_[INF, births[1:] + lengths], strict=True))
            errors = np.r_[0.01, lengths / 10]
            folders.append(tmp_path / f"{model}{seed}")
            finished(folders[-1], bars, model=model, seed=seed, errors=errors)
    return folders


def test_groups_are_told_apart_where_they_differ(three_groups):
    result = tl.compare_runs(three_groups)
    assert result.groups == ("a",) * 5 + ("b",) * 5 + ("c",) * 5
    found = {(d.one, d.other): d for d in differences(result, "mean_bar")}
    # Of the 252 ways to divide ten runs two are as extreme.
    assert found["a", "c"].p == pytest.approx(2 / 252)
    assert found["a", "c"].corrected == pytest.approx(3 * 2 / 252)
    assert found["a", "c"].effect == -1
    assert -5 < found["a", "c"].shift.low < -4 < found["a", "c"].shift.high < -3.5
    assert found["a", "b"].corrected > 0.05
    assert [(d.one, d.other) for d in differences(result, "mean_bar", against="first")] == [("a", "b"), ("a", "c")]
    said = tl.study.report.verdict(result)
    means = {group: result.of_group(group, "mean_bar").mean() for group in "ab"}
    best, other = sorted(means, key=means.get)
    assert said == (
        f"lowest mean bar: {best}, lower than that of c (p < 0.05 after correction), "
        f"not told apart from that of {other}"
    )
    alone = tl.study.report.verdict(tl.compare_runs(three_groups[4:6]))
    assert re.fullmatch(r"lowest mean bar: (a|b), not compared with that of (a|b)", alone)


def test_correlations_are_those_of_scipy(three_groups):
    result = tl.compare_runs(three_groups)
    found = {(c.name, c.over): c for c in correlations(result)}
    bars, errors = ([row[name] for row in result.rows] for name in ("mean_bar", "test_error"))
    one = found["mean_bar", "runs"]
    assert (one.n, one.spearman, one.kendall) == pytest.approx(
        (15, spearmanr(bars, errors).statistic, kendalltau(bars, errors).statistic)
    )
    # Each bar is in proportion to the error of its minimum; the one that never ends does not count.
    own = found["bar of a minimum", "minima of a"]
    assert (own.n, own.spearman, own.kendall) == pytest.approx((10, 1, 1))
    assert ("lowest_loss", "runs") not in found  # the same for all


def test_four_runs_in_order_prove_little(tmp_path):
    """One of the 24 orders, and its reverse."""
    for seed in range(4):
        finished(tmp_path / f"{seed}", [(0.0, INF), (1.0, 2.0 + seed)], seed=seed, errors=[0.1, 0.1 + seed / 100])
    (one,) = (c for c in correlations(tl.compare_runs(sorted(tmp_path.iterdir()))) if c.name == "mean_bar")
    assert (one.spearman, one.spearman_p, one.kendall_p) == pytest.approx((1, 2 / 24, 2 / 24))


def test_an_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [interval(rng.normal(1, 2, 5)) for _ in range(2000)]
    covered = [one.low <= 1.0 <= one.high for one in found]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


class Tags(HTMLParser):
    """All tags of a page, and what they refer to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]


def test_the_report_needs_nothing_else(three_groups, tmp_path):
    run = finished(tmp_path / "bad", [(0.0, INF), (1.0, 9.0)], model="<script>alert(1)</script>")
    result = tl.compare_runs([*three_groups, run.path])
    written = tl.write_report(result, tmp_path / "out")
    assert [path.name for path in written] == ["report.html", "table.csv", "table.tex", "picture.png"]
    text = written[0].read_text()
    page = Tags(text)
    assert "script" not in page.tags
    assert [source[:22] for source in page.sources] == ["data:image/png;base64,"]
    assert not re.search(r"https?://|url\(|@import", text)
    assert 'name="viewport"' in text
    assert "lowest mean bar: " in text.lower()
    rows = list(csv.DictReader(written[1].read_text().splitlines()))
    assert len(rows) == 16
    assert float(rows[0]["mean_bar"]) == result.rows[0]["mean_bar"]
    table = written[2].read_text()
    assert table.count(r"\\") == 5
    assert re.search(r"^a & 5 & .*\$1\.0\d+ \\pm 0\.0\d+\$", table, re.MULTILINE)
    assert tl.study.report._tex_number("4.2e-05 ± 1e+06") == r"4.2 \cdot 10^{-5} \pm 1 \cdot 10^{6}"
    assert written[3].read_bytes()[:4] == b"\x89PNG"
    frame = result.table()
    assert frame["mean_bar"].tolist() == [row["mean_bar"] for row in result.rows]
    assert list(frame.columns) == list(result.columns())


def test_phases_are_means_over_seeds(tmp_path):
    folders = []
    for model in ("a", "b"):
        for batch in (10, 20):
            for seed in (0, 1):
                length = batch + seed + (100 if model == "b" else 0)
                folders.append(tmp_path / f"{model}{batch}{seed}")
                finished(folders[-1], [(0.0, INF), (1.0, 1.0 + length)], model=model, seed=seed, batch=batch)
    result = tl.compare_runs(folders)
    assert set(result.varied) == {"model", "batch"}
    assert tl.study.report._phases(result, "mean_bar") is None  # only a study says which axis is which
    known = comparison.StudyResult(result.groups, result.runs, result.varied, load="model", temperature="batch")
    (ax,) = tl.study.report._phases(known, "mean_bar").axes[:1]
    assert [text.get_text() for text in ax.texts] == ["10.5", "110", "20.5", "120"]
    assert "phases.png" in [path.name for path in tl.write_report(known, tmp_path / "out")]


def test_the_command_compares_runs(three_groups, tmp_path):
    invoke = CliRunner().invoke
    folders = [str(folder) for folder in three_groups]
    result = invoke(app, ["compare", *folders, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert re.split(r"  +", lines[0]) == ["group", "runs", "mean bar", "longest bar", "train error", "test error"]
    assert all(re.search(r"^[abc] +5 +\d\.\d+ ± ", line) for line in lines[1:4])
    assert any(line.startswith("a - c ") and "0.0079" in line and "-1.00" in line for line in lines)
    printed = json.loads(invoke(app, ["compare", *folders, "--out", str(tmp_path / "out"), "--json"]).stdout)
    assert printed["groups"]["a"]["runs"] == 5
    assert len(printed["differences"]) == 3
    assert printed["runs"][0]["hessian_top"] is None
    wrong = invoke(app, ["compare", *folders, "--score", "cka"])
    assert (wrong.exit_code, wrong.stderr.splitlines()[-1][:42]) == (1, "topolandscape: cka is not known of any run")
    assert invoke(app, ["compare", "study.toml", folders[0]]).exit_code == 2
    assert invoke(app, ["compare", folders[0], "--forecast"]).exit_code == 2


@pytest.mark.parametrize(
    ("models", "factor", "values"),
    [
        (["mlp:64-8-10,tanh", "mlp:64-32-10,tanh"], "width", [8, 32]),
        (["conv:1x8x8-4-10", "conv:1x8x8-4-4-4-10"], "depth", [1, 3]),
        (["mlp:64-8-8-10", "mlp:64-16-16-10", "mlp:64-32-32-10"], "width", [8, 16, 32]),
        (["mlp:64-8-10,tanh", "mlp:64-32-10"], None, None),
        (["mlp:64-8-10", "mlp:64-16-16-10"], None, None),
        (["mlp:64-16-8-10", "mlp:64-16-16-10"], None, None),
        (["linear:64-8-10", "mlp:64-16-10"], None, None),
        (["net.py:wide", "net.py:narrow"], None, None),
    ],
)
def test_what_is_varied_as_a_number(models, factor, values, tmp_path):
    runs = tuple(finished(tmp_path / str(i), [(0.0, INF), (1.0, 2.0)], model=name) for i, name in enumerate(models))
    found = _factor(tl.StudyResult(tuple(models), runs, ("model",)))
    assert found == (None if factor is None else (factor, dict(zip(models, values, strict=True))))


def test_a_number_that_is_varied_is_an_axis(tmp_path):
    runs, groups = [], []
    for decay in (1e-3, 1e-2, 1e-1):
        for seed in range(3):
            bars = [(0.0, INF), (1.0, 2.0 + seed - np.log10(decay))]
            runs.append(finished(tmp_path / f"{decay} {seed}", bars, seed=seed, weight_decay=decay))
            groups.append(f"weight_decay {decay}")
    result = tl.StudyResult(tuple(groups), tuple(runs), ("weight_decay",))
    _, lower = _picture(result, "mean_bar").axes
    assert (lower.get_xlabel(), lower.get_xscale()) == ("weight decay", "log")
    (curve,) = (line for line in lower.lines if line.get_label() == "mean bar")
    np.testing.assert_allclose(curve.get_xdata(), [1e-3, 1e-2, 1e-1])
    np.testing.assert_allclose(curve.get_ydata(), [5.0, 4.0, 3.0])  # 1 + mean seed - log10(decay)
