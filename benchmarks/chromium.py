"""The explorer as a user has it: served by the command line, and seen in headless Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from topolandscape.study import Recipe

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DIGITS = Recipe(model="mlp:64-16-10,tanh", data="digits", weight_decay=1e-3, minima=16, evaluations=150_000)
RUN = Path("runs") / "explorer_digits"
"""Where a run of that recipe is kept, made once: it is measured, and it is in the pictures."""
VIEWPORT: Any = {"width": 1280, "height": 800}


@contextmanager
def launched() -> Iterator[Any]:
    """Start Chromium, with three-dimensional pictures drawn by the processor; give Playwright's browser."""
    from playwright.sync_api import sync_playwright

    flags = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextmanager
def served(*arguments: Any, **environment: str) -> Iterator[str]:
    """Serve what `topolandscape explore` is given, on a port that is free; give the address of its page."""
    code = "from topolandscape.cli import main; main()"
    command = [sys.executable, "-c", code, "explore", *map(str, arguments), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            yield found.group()
        finally:
            process.terminate()
            process.wait(20)
