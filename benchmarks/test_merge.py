"""Components and their bars: our merge sweep beside other programs, on the same complexes.

    pytest benchmarks --benchmark-only
    TOPOLANDSCAPE_MAX_SIZE=1e5 pytest benchmarks --benchmark-only

Every answer is checked before it is timed.
"""

import os

import numpy as np
import pytest
from cases import DEFAULT_MAX_SIZE, ENGINES, applies, case, names, warm_up
from peers.homology import sorted_bars

CASES = names(float(os.environ.get("TOPOLANDSCAPE_MAX_SIZE", DEFAULT_MAX_SIZE)))


@pytest.fixture(scope="module", autouse=True)
def compiled():
    warm_up()


@pytest.mark.parametrize(
    ("kind", "landscape", "size", "engine"),
    [(*name, engine) for name in CASES for engine in ENGINES if applies(engine, name[0], name[2])],
)
def test_merge(benchmark, kind, landscape, size, engine):
    drawn = case(kind, landscape, size)
    run = ENGINES[engine](drawn)
    answer = run()
    assert np.array_equal(sorted_bars(answer), drawn.reference)
    benchmark.group = f"{drawn.name}, {drawn.n} vertices"
    benchmark.extra_info.update(engine=engine, vertices=drawn.n, edges=len(drawn.edges), bars=len(answer))
    benchmark.pedantic(run, rounds=3, iterations=1)
