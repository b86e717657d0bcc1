"""Make the pictures of the explorer, in headless Chromium: python docs/screenshots.py."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from chromium import DIGITS, RUN, VIEWPORT, launched, served
from playwright.sync_api import Page

from topolandscape.study import Recipe, run

IMAGES = Path(__file__).parent / "images"
PLANE = Recipe(model="mlp:1-2-1,tanh", data="sine_regression", route="sample")


def main() -> None:
    """Draw a run of minima, a slice between them, and a small network by hand."""
    digits = run(DIGITS, RUN)
    plane = run(PLANE, RUN.with_name("explorer_plane"))
    with launched() as browser:
        page = browser.new_page(viewport=VIEWPORT)
        page.set_default_timeout(120_000)
        with_page(page, [digits.path], minima)
        with_page(page, [plane.path, digits.path], by_hand)


def with_page(page: Page, runs: list[Path], draw) -> None:
    """Serve runs, open their page, and draw."""
    with served(*runs) as address:
        page.goto(address)
        page.wait_for_function(
            "() => document.querySelector('#said-here') && document.querySelector('#said-here').textContent"
        )
        draw(page)


def minima(page: Page) -> None:
    """Draw the linked views of a run, and the slice through what belongs to a bar."""
    page.click("tr[data-bar='5'] td")
    slide(page, "place", 60)
    keep(page, "explorer.png", 0)
    page.click("#of-bar")
    sliced(page)
    keep(page, "explorer_slice.png", "#slice-view")


def by_hand(page: Page) -> None:
    """Draw the landscape of a plane, and its network with a weight that is moved."""
    page.click("tr[data-bar='1'] td")
    keep(page, "explorer_plane.png", 0)
    sliced(page)
    page.locator("#slice .nsewdrag").first.click(position={"x": 150, "y": 90})
    page.wait_for_timeout(1000)
    page.click("#descend")
    page.wait_for_function("() => document.querySelector('#said-descent').textContent")
    keep(page, "explorer_descent.png", "#slice-view")
    page.evaluate("dash_clientside.set_props('picked', {data: 5})")
    page.wait_for_function("() => !document.querySelector('#weight').disabled")
    slide(page, "weight", 1.5)
    keep(page, "explorer_network.png", "#network-view")


def sliced(page: Page) -> None:
    """Compute a slice."""
    page.click("#compute")
    page.wait_for_function("() => document.querySelector('#slice .contourlayer .contour')")


def slide(page: Page, name: str, value: float) -> None:
    """Move a slider."""
    page.evaluate(
        "([name, value]) => { const slider = document.getElementById(name);"
        "Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(slider, value);"
        "slider.dispatchEvent(new Event('input', {bubbles: true})); }",
        [name, value],
    )


def keep(page: Page, name: str, at: int | str) -> None:
    """Keep what is seen from the top, or from a view on."""
    page.mouse.move(0, 0)
    if isinstance(at, str):
        page.evaluate(
            "view => { const top = document.querySelector(view).getBoundingClientRect().top;"
            "window.scrollBy(0, top - document.querySelector('header').offsetHeight - 8); }",
            at,
        )
    else:
        page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / name)


if __name__ == "__main__":
    main()
