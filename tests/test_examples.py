"""The examples of the gallery: each runs in its small form, and finds what is proved."""

import json
import runpy
import sys
from pathlib import Path

import gallery
import pytest
from matplotlib.figure import Figure

EXAMPLES = Path(gallery.__file__).parent
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "gallery")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_example_finds_what_is_proved(name, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--output", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    claims = json.loads((tmp_path / f"{name}.json").read_text())["claims"]
    assert claims
    assert {claim["says"]: claim["verdict"] for claim in claims if claim["proved"]} == {
        claim["says"]: "holds" for claim in claims if claim["proved"]
    }
    assert all(claim["says"] in (tmp_path / f"{name}.md").read_text() for claim in claims)
    assert (tmp_path / f"{name}.png").stat().st_size > 0


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_page_says_what_was_measured(name):
    """Every claim stands in the gallery as it was measured in full, with its script and its picture."""
    page = gallery.PAGE.read_text()
    kept = json.loads((EXAMPLES / "results" / f"{name}.json").read_text())
    assert not kept["quick"]
    assert f"python docs/examples/{name}.py" in page
    assert f"](images/{name}.png)" in page
    table = (EXAMPLES / "results" / f"{name}.md").read_text().split("\n\n")[0]
    assert table in page


def test_the_claims_of_the_page_are_those_of_the_last_run():
    page = "Why?\n\n    python docs/examples/cats.py\n\n| old |\n\n![Cats](images/cats.png)\n"
    assert gallery.with_claims(page, "cats", "| new |") == page.replace("old", "new")
    assert gallery.with_claims(page, "dogs", "| new |") == page


def test_scores_that_lie_apart_are_told_apart():
    low, high = [1.0, 2.0, 3.0, 4.0, 5.0], [11.0, 12.0, 13.0, 14.0, 15.0]
    fall, rise, same = gallery.compared({"fall": (high, low), "rise": (low, high), "same": (low, low[::-1])})
    assert [gallery.is_lower(row) for row in (fall, rise, same)] == [True, False, None]
    assert fall["p"] == pytest.approx(2 / 252)  # of all ways to divide ten, the two that part them
    assert fall["corrected"] == pytest.approx(3 * 2 / 252)
    assert fall["shift"] == -rise["shift"] == 10


def test_an_outcome_is_kept_in_three_files(monkeypatch, tmp_path):
    claim = gallery.Claim("Cats | dogs.", "nobody (2000)", "1 of 2", None)

    def example(quick):
        return gallery.Outcome([claim], {"Legs": [{"animal": "cat", "legs": 4}]}, Figure())

    monkeypatch.setattr(sys, "argv", ["example", "--output", str(tmp_path)])
    gallery.main(example)
    name = Path(__file__).stem
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.{end}" for end in ("json", "md", "png")]
    assert (tmp_path / f"{name}.md").read_text() == (
        "| claim | source | measured |  |\n| --- | --- | --- | --- |\n"
        "| Cats \\| dogs. | nobody (2000) | 1 of 2 | **not decided** |\n\n"
        "Legs\n\n| animal | legs |\n| --- | --: |\n| cat | 4 |\n"
    )
