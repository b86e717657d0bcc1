"""The tables of the benchmarks are what their scripts write of the numbers beside them."""

import importlib
import json
import os
from pathlib import Path

import pytest

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


@pytest.mark.parametrize("record", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_table_is_what_its_script_writes(record):
    before = dict(os.environ)
    script = importlib.import_module(record.stem.split("-")[0])
    assert os.environ == before  # which numba reads whenever it compiles
    assert record.with_suffix(".md").read_text() == script.markdown(json.loads(record.read_text()))


def test_every_table_has_its_numbers():
    assert {path.stem for path in RESULTS.glob("*.md")} == {path.stem for path in RESULTS.glob("*.json")}
