"""Measure how long one waits for the explorer: for its first picture, for a slice, for a run of a million points.

    python benchmarks/explorer.py [--repeat 3]

Drives the page in headless Chromium. Prints one table and keeps it in benchmarks/results/explorer.md; numbers and
environment go to explorer.json beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from chromium import CHROMIUM, DIGITS, RUN, VIEWPORT, launched, served
from environment import environment, keep
from playwright.sync_api import Page

from topolandscape.explore import write_page
from topolandscape.files import Run
from topolandscape.study import run, run_surface

RESULTS = Path(__file__).parent / "results"
FIRST, SLICE, CHOICE = 3.0, 2.0, 1.0  # seconds that are wanted
ALL_DRAWN = "() => ['bars', 'tree', 'diagram', 'path'].every(id => document.querySelector(`#${id} .main-svg .trace`))"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how long one waits for the explorer.")
    parser.add_argument("--repeat", type=int, default=3, help="times of each, of which the median counts")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for explorer.json and explorer.md")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("there is no Chromium on this machine; install it (apt-get install chromium).")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = measured(run(DIGITS, RUN, progress=False), million(folder), folder, arguments.repeat)
    record = {"environment": environment("topolandscape", "dash", "plotly", "playwright"), "rows": rows}
    record["settings"] = {"repeat": arguments.repeat, "load": os.getloadavg()}
    keep(arguments.output, "explorer", record, markdown(record))
    print(markdown(record))


def million(folder: Path) -> Run:
    """Return a run of a noisy surface of 1000 x 1000 points."""
    x = np.linspace(-3, 3, 1000)
    smooth = np.cos(5 * x)[:, None] + np.cos(4 * x) + 0.1 * (x[:, None] ** 2 + x**2) + 3
    np.save(folder / "million.npy", smooth + 0.05 * np.random.default_rng(0).normal(size=smooth.shape))
    return run_surface(folder / "million.npy", folder / "million")


def measured(digits: Run, points: Run, folder: Path, repeat: int) -> list[dict[str, Any]]:
    """Return one row for each wait, in seconds."""
    waits: dict[tuple[str, float | None], list[float]] = {}
    with launched() as browser:
        for _ in range(repeat):
            for name, seconds, target in (
                *waits_of_digits(browser, digits),
                *waits_of_million(browser, points, folder),
            ):
                waits.setdefault((name, target), []).append(seconds)
    return [
        {"wait": name, "seconds": statistics.median(seconds), "target": target, "all": seconds}
        for (name, target), seconds in waits.items()
    ]


def waits_of_digits(browser: Any, digits: Run) -> Iterator[tuple[str, float, float | None]]:
    """Yield the waits of a run of 16 minima of 64-16-10 on digits."""
    begun = time.perf_counter()
    with served(digits.path) as address, closing(browser.new_page(viewport=VIEWPORT)) as page:
        yield "the command, until the page can be asked for", time.perf_counter() - begun, None
        begun = time.perf_counter()
        page.goto(address)
        page.wait_for_function(ALL_DRAWN)
        yield "16 minima: the page, until all of its pictures are drawn", time.perf_counter() - begun, FIRST
        page.wait_for_function("() => document.querySelector('#said-here').textContent")
        yield "41 x 41 slice of 64-16-10 on digits, the first", slice_of(page), SLICE
        page.click("tr[data-bar='1']")
        page.fill("#reach", "0.4")
        page.keyboard.press("Tab")
        page.wait_for_timeout(500)
        yield "41 x 41 slice, another one", slice_of(page), SLICE


def slice_of(page: Page) -> float:
    """Return how long it is from the click until a slice is drawn."""
    page.evaluate("() => { for (const plot of document.querySelectorAll('#slice .contourlayer *')) plot.remove(); }")
    begun = time.perf_counter()
    page.click("#compute")
    page.wait_for_function("() => document.querySelector('#slice .contourlayer .contour')")
    return time.perf_counter() - begun


def waits_of_million(browser: Any, points: Run, folder: Path) -> Iterator[tuple[str, float, float | None]]:
    """Yield the waits of a run of a million points."""
    begun = time.perf_counter()
    page_file = write_page(points, folder / "page.html")
    yield "1,000,000 points: a page is written", time.perf_counter() - begun, None
    with closing(browser.new_page(viewport=VIEWPORT)) as page:
        begun = time.perf_counter()
        page.goto(f"file://{page_file}")
        page.wait_for_function(ALL_DRAWN.replace(", 'path'", ""))
        yield "1,000,000 points: it is opened, until all of its pictures are drawn", time.perf_counter() - begun, None
        begun = time.perf_counter()
        page.click("tr[data-bar='5']")
        page.wait_for_function("() => document.querySelector('tr[aria-selected=true]').dataset.bar == 5")
        yield "1,000,000 points: a bar is chosen, until it is marked in all", time.perf_counter() - begun, CHOICE


@contextmanager
def closing(page: Page) -> Iterator[Page]:
    """Give a page, and close it."""
    page.set_default_timeout(120_000)
    yield page
    page.close()


def markdown(record: dict[str, Any]) -> str:
    """Return a table."""
    lines = ["| wait | seconds | wanted |", "|---|---:|---:|"]
    for row in record["rows"]:
        target = "" if row["target"] is None else f"below {row['target']:g}"
        lines.append(f"| {row['wait']} | {row['seconds']:.2f} | {target} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
