"""The explorer in a real browser: kept and live pages, what is chosen, computed, stopped and saved."""

import json
import re
from contextlib import ExitStack

import chromium as browsers
import numpy as np
import pytest
from explored_runs import minima_run, plane_run, surface_run

from topolandscape.explore import write_page
from topolandscape.explore.live import live, recipe_of
from topolandscape.explore.model import explored
from topolandscape.explore.places import point

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("dash", reason="Dash is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(browsers.CHROMIUM is None, reason="there is no Chromium on this machine"),
]
RUN_VIEWS = ("bars", "tree", "diagram", "path", "histogram")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("explored")


@pytest.fixture(scope="module")
def minima(folder):
    return minima_run(folder / "minima")


@pytest.fixture(scope="module")
def plane(folder):
    return plane_run(folder / "plane")


@pytest.fixture(scope="module")
def surface(folder):
    (folder / "surface").mkdir()
    return surface_run(folder / "surface")


@pytest.fixture(scope="module")
def chromium():
    with browsers.launched() as browser:
        yield browser


@pytest.fixture
def page(chromium):
    """Open a page on which nothing may go wrong, and which may ask no other host."""
    opened = chromium.new_page(viewport=browsers.VIEWPORT)
    opened.set_default_timeout(60_000)
    wrong = []
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: None if is_near(request.url) else wrong.append(f"asked {request.url}"))
    yield opened
    opened.close()
    assert wrong == []


def is_near(url):
    return url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:"))


@pytest.fixture(scope="module")
def served():
    """Start the command line's own server for some arguments; return the address of its page."""
    with ExitStack() as servers:
        one_thread = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        yield lambda *arguments: servers.enter_context(browsers.served(*arguments, **one_thread))


@pytest.fixture(scope="module")
def of_minima(served, minima):
    return served(minima.path)


def wait(page, script, argument=None):
    """Wait until a script gives something true."""
    return page.wait_for_function(script, arg=argument)


def traces(page, name):
    """Return the traces of a view."""
    return page.evaluate(f"document.querySelector('#{name} .js-plotly-plot').data")


def over(page, name):
    """Return the colours in which something is drawn over a view."""
    drawn = [trace for trace in traces(page, name) if trace.get("meta") == "over"]
    return {(trace.get("line") or trace["marker"])["color"] for trace in drawn}


def choose(page, bar):
    page.click(f'tr[data-bar="{bar}"] td')
    wait(page, "bar => document.querySelector('tr[aria-selected=true]').dataset.bar == bar", bar)


def slide(page, name, value):
    """Move a slider as a hand does."""
    page.evaluate(
        "([name, value]) => { const slider = document.getElementById(name);"
        "Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(slider, value);"
        "slider.dispatchEvent(new Event('input', {bubbles: true})); }",
        [name, value],
    )


def click_mark(page, name, choice):
    """Click with the mouse on the first point of a view that a script chooses, among its traces and their points."""
    page.locator(f"#{name}").scroll_into_view_if_needed()
    x, y = page.evaluate(
        "([name, choice]) => { const plot = document.querySelector(`#${name} .js-plotly-plot`);"
        "const axes = plot._fullLayout, box = plot.getBoundingClientRect(), chosen = eval(choice);"
        "for (const trace of plot.data) for (let i = 0; i < (trace.x || []).length; i++)"
        "  if (chosen(trace, i)) return [box.x + axes.xaxis._offset + axes.xaxis.d2p(trace.x[i]),"
        "                                box.y + axes.yaxis._offset + axes.yaxis.d2p(trace.y[i])]; }",
        [name, choice],
    )
    page.mouse.move(x - 3, y - 3)
    page.mouse.move(x, y, steps=3)
    page.wait_for_timeout(150)
    page.mouse.click(x, y)


def save(page, name, kind):
    """Save a view; return the contents of the file."""
    with page.expect_download() as saving:
        page.select_option(f'select[data-view="{name}"]', kind)
    assert saving.value.suggested_filename == f"{name}.{kind}"
    with open(saving.value.path(), "rb") as stream:
        return stream.read()


# ------------------------------------------------------------------------------------------------- kept pages


def test_a_kept_page_shows_a_run_and_links_its_views(page, minima, folder):
    run = explored(minima)
    page.goto(f"file://{write_page(minima, folder / 'minima.html')}")
    for name in RUN_VIEWS:
        assert page.locator(f"#{name} .main-svg").first.is_visible()
        assert traces(page, name)
    assert page.locator("tbody tr").count() == len(run.code)
    ending = np.flatnonzero(~run.code.essential).tolist()
    first, last = ending[0], ending[-1]
    assert page.get_attribute("tr[aria-selected=true]", "data-bar") == str(first)

    # A click in the barcode marks the bar in all views, and the lower minimum that it meets.
    choice = f"(trace, i) => trace.meta === 'bars' && trace.name === 'birth' && trace.customdata[i][0] === {last}"
    click_mark(page, "bars", choice)
    wait(page, "bar => document.querySelector('tr[aria-selected=true]').dataset.bar == bar", last)
    for name in ("bars", "tree", "diagram"):
        assert "#D55E00" in over(page, name)
    assert "#009E73" in over(page, "tree")
    assert max(traces(page, "path")[0]["y"]) == pytest.approx(run.code.death[last], rel=1e-5)

    # The slider walks the path from one end to the other.
    curve = traces(page, "path")[0]
    for share, place in ((0, 0), (100, -1)):
        slide(page, "place", share)
        assert traces(page, "path")[-1]["y"] == [pytest.approx(curve["y"][place])]
    assert page.inner_text("#said-place").startswith(f"loss {curve['y'][-1]:.5g}"[:8])

    # Bars that are too short are hidden in all views.
    slide(page, "shortest", 100)
    assert page.locator("tbody tr").count() == 2
    assert page.inner_text("#said-shortest").startswith(f"2 of {len(run.code)} bars of length")
    births = next(trace for trace in traces(page, "bars") if trace.get("name") == "birth")
    assert sum(value is not None for value in births["y"]) == 2
    slide(page, "shortest", 0)

    # Keys go from bar to bar, and the address says which.
    page.click("h1")
    page.keyboard.press("ArrowUp")
    before = page.evaluate("location.hash")
    page.reload()
    assert page.evaluate("location.hash") == before
    assert f"bar={page.get_attribute('tr[aria-selected=true]', 'data-bar')}" in before


def test_a_kept_page_shows_both_degrees_and_the_landscape(page, surface, folder):
    run = explored(surface)
    page.goto(f"file://{write_page(surface, folder / 'surface.html')}")
    assert {trace["name"] for trace in traces(page, "bars")} >= {"degree 0", "degree 1"}
    field = traces(page, "landscape")[0]
    np.testing.assert_allclose(np.array(field["customdata"]).T.ravel(), run.samples.values)
    bar = int(np.flatnonzero((run.code.dim == 0) & ~run.code.essential)[0])
    choose(page, bar)
    ways = [trace for trace in traces(page, "landscape") if trace.get("meta") == "over" and trace["mode"] == "lines"]
    assert len(ways) == 1
    start = run.samples.points[run.code.birth_vertex[bar]]
    assert [ways[0]["x"][0], ways[0]["y"][0]] == start.tolist()
    loops = int(np.flatnonzero(run.code.dim == 1)[0])
    choose(page, loops)
    assert "#D55E00" in over(page, "bars")


def test_views_are_saved_as_pictures_and_data(page, minima, folder):
    run = explored(minima)
    page.goto(f"file://{write_page(minima, folder / 'saved.html')}")
    assert save(page, "bars", "png").startswith(b"\x89PNG")
    assert b"<svg" in save(page, "tree", "svg")
    lines = save(page, "diagram", "csv").decode().splitlines()
    assert lines[0] == "trace,x,y,z,bar"
    rows = {int(line.split(",")[4]): float(line.split(",")[1]) for line in lines if line.startswith("degree 0")}
    assert rows == {row: run.code.birth[row] for row in range(len(run.code))}
    assert json.loads(save(page, "path", "json"))["data"][0]["y"]
    table = save(page, "table", "csv").decode().splitlines()
    assert table[0].startswith("bar,minimum,birth,death")
    assert len(table) == len(run.code) + 1


# ------------------------------------------------------------------------------------------------- live pages


def ready(page, address):
    page.goto(address)
    wait(page, "() => document.querySelector('#said-here') && document.querySelector('#said-here').textContent")


def compute(page):
    page.click("#compute")
    wait(page, "() => document.querySelector('#said-job').textContent === 'done'")
    wait(page, "() => (document.querySelector('#slice .js-plotly-plot') || {data: []}).data.length > 0")


def loss_here(page):
    return float(re.search(r"loss (\S+?)(,|$)", page.inner_text("#said-here")).group(1))


def test_the_slider_of_a_path_moves_the_network(page, of_minima, minima):
    at = live(recipe_of(minima), minima, explored(minima))
    ready(page, of_minima)
    for name in (*RUN_VIEWS, "prediction", "network", "weights"):
        assert traces(page, name)
    (bar,) = np.flatnonzero(~at.run.code.essential)[:1].tolist()
    choose(page, bar)
    wait(page, "() => document.querySelector('#path .js-plotly-plot').data.length > 2")
    before = traces(page, "prediction")[0]["z"]
    slide(page, "place", 40)
    expected = at.landscape.values([point(at, {"path": [bar, 0.4]})])[0]
    wait(page, "text => document.querySelector('#said-here').textContent.startsWith(text)", f"loss {expected:.4g}"[:9])
    assert loss_here(page) == pytest.approx(expected, rel=1e-4)
    assert traces(page, "prediction")[0]["z"] != before


def test_a_slice_is_computed_walked_and_descended(page, of_minima, minima):
    at = live(recipe_of(minima), minima, explored(minima))
    ready(page, of_minima)
    compute(page)
    field = traces(page, "slice")[0]
    losses = np.array(field["customdata"])
    assert losses.shape == (41, 41)
    minimum = json.loads(page.evaluate("new URLSearchParams(location.hash.slice(1)).get('base')"))
    said = {"through": [minimum, {"random": 1}, {"random": 2}], "reach": 0.5}
    corner = point(at, {"plane": said, "xy": [field["x"][0], field["y"][40]]})
    assert losses[40, 0] == pytest.approx(at.landscape.values([corner])[0], rel=1e-6)

    # A click is a place, from which one descends.
    page.locator("#slice").scroll_into_view_if_needed()
    box = page.locator("#slice .nsewdrag").first.bounding_box()
    page.mouse.click(box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"])
    wait(page, "() => document.querySelector('#slice .js-plotly-plot').data.some(trace => trace.name === 'here')")
    here = next(trace for trace in traces(page, "slice") if trace.get("name") == "here")
    place = point(at, {"plane": said, "xy": [here["x"][0], here["y"][0]]})
    wait(
        page,
        "text => document.querySelector('#said-here').textContent.startsWith(text)",
        f"loss {at.landscape.values([place])[0]:.4g}"[:8],
    )
    page.click("#descend")
    wait(page, "() => document.querySelector('#said-descent').textContent.startsWith('down from')")
    wait(page, "() => document.querySelector('#slice .js-plotly-plot').data.some(trace => trace.name === 'descent')")
    high, low = map(float, re.findall(r"[\d.e-]+\d", page.inner_text("#said-descent"))[:2])
    assert low < high
    track = next(trace for trace in traces(page, "slice") if trace.get("name") == "descent")
    assert [track["x"][0], track["y"][0]] == [pytest.approx(here["x"][0]), pytest.approx(here["y"][0])]

    page.click("text=3-D")
    wait(page, "() => document.querySelector('#slice .js-plotly-plot').data[0].type === 'surface'")
    assert save(page, "slice", "csv").decode().count("\n") > 41 * 41

    # The address brings all of it back.
    address = page.url
    page.goto("about:blank")
    ready(page, address)
    wait(
        page,
        "() => document.querySelector('#slice .js-plotly-plot') && "
        "document.querySelector('#slice .js-plotly-plot').data.some(trace => trace.type === 'surface')",
    )
    assert loss_here(page) == pytest.approx(at.landscape.values([place])[0], rel=1e-4)


def test_a_slice_goes_through_what_belongs_to_a_bar(page, of_minima, minima):
    run = explored(minima)
    ready(page, of_minima)
    (bar,) = np.flatnonzero(~run.code.essential)[:1].tolist()
    choose(page, bar)
    page.click("#of-bar")
    compute(page)
    names = {trace.get("name") for trace in traces(page, "slice") if trace.get("mode") == "markers+text"}
    assert {f"minimum {run.code.birth_vertex[bar]}", f"pass of bar {bar}"} < names
    assert len(names) == 3


def test_a_path_is_bent_between_two_points(page, of_minima, minima):
    at = live(recipe_of(minima), minima, explored(minima))
    ready(page, of_minima)
    assert page.locator("#between").is_hidden()
    page.click("#connect")
    wait(page, "() => document.querySelector('#wrong').textContent.includes('random is a direction; choose points')")
    assert page.locator("#between").is_hidden()
    (bar,) = np.flatnonzero(~at.run.code.essential)[:1].tolist()
    choose(page, bar)
    page.click("#of-bar")
    compute(page)
    page.click("#connect")
    wait(page, "() => document.querySelector('#said-between').textContent.startsWith('at most')")
    wait(page, "() => document.querySelector('#between .js-plotly-plot')?.data?.length === 4")
    assert page.inner_text("#wrong") == ""
    barrier, straight = map(float, re.findall(r"\d[\d.e-]*", page.inner_text("#said-between")))
    assert barrier <= straight
    _, ends, top, segment = traces(page, "between")
    first, second = at.landscape.values(
        [point(at, {"minimum": int(at.run.code.birth_vertex[bar])}), point(at, {"pass": bar})]
    )
    assert ends["y"] == [pytest.approx(first), pytest.approx(second)]
    assert top["y"][0] - max(ends["y"]) == pytest.approx(barrier, abs=1e-4)
    assert max(segment["y"]) - max(ends["y"]) == pytest.approx(straight, abs=1e-4)

    # Its shadow on the slice joins the two marks.
    wait(page, "() => document.querySelector('#slice .js-plotly-plot').data.some(trace => trace.name === 'path')")
    drawn = {trace.get("name"): trace for trace in traces(page, "slice")}
    for name, place in ((f"minimum {at.run.code.birth_vertex[bar]}", 0), (f"pass of bar {bar}", -1)):
        for axis in ("x", "y"):
            assert drawn["path"][axis][place] == pytest.approx(drawn[name][axis][0], abs=1e-6)
    assert save(page, "between", "csv").startswith(b"trace,x,y")


def test_what_cannot_be_computed_is_said(page, of_minima):
    ready(page, of_minima)
    page.fill("#reach", "1000")
    page.keyboard.press("Tab")
    page.click("#compute")
    wait(page, "() => document.querySelector('#wrong').textContent.includes('the reach is 1000')")
    assert page.inner_text("#said-job") == "failed"


DATA = """
import numpy as np

def load():
    inputs = np.linspace(-2, 2, 30_000, dtype=np.float32)[:, None]
    return inputs, np.sin(3 * inputs)
"""


@pytest.fixture(scope="module")
def of_network(served, folder):
    """Serve a small network on so many rows of data that a fine slice takes half a minute."""
    (folder / "data.py").write_text(DATA)
    return served("mlp:1-2-1,tanh", f"{folder / 'data.py'}:load")


def test_a_weight_is_picked_and_moved(page, of_network):
    ready(page, of_network)
    assert page.locator("#kept").is_hidden()
    before, curve = loss_here(page), traces(page, "prediction")[0]["y"]
    click_mark(page, "network", "(trace, i) => trace.customdata && trace.customdata[i] === 4 && trace.x[i] > 1")
    wait(page, "() => document.querySelector('#said-weight').textContent.startsWith('linear2.weight[0, 0]')")
    slide(page, "weight", 2.5)
    wait(page, "() => document.querySelector('#said-weight').textContent.endsWith('2.500')")
    wait(page, "before => !document.querySelector('#said-here').textContent.startsWith(before)", f"loss {before:.6g}")
    assert traces(page, "prediction")[0]["y"] != curve
    assert '"4":2.5' in page.evaluate("new URLSearchParams(location.hash.slice(1)).get('moved')")
    page.click("#unmove")
    wait(page, "before => document.querySelector('#said-here').textContent.startsWith(before)", f"loss {before:.6g}")


def test_a_slice_is_stopped(page, of_network):
    ready(page, of_network)
    page.click("#side")
    page.click("text='161'")
    page.click("#compute")
    wait(page, "() => Number(document.querySelector('#progress').value) > 0")
    page.click("#stop")
    wait(page, "() => document.querySelector('#said-job').textContent === 'stopped'")
    assert traces(page, "slice") == []
    assert page.inner_text("#wrong") == ""


def test_a_path_that_is_stopped_is_drawn(page, of_network):
    ready(page, of_network)
    page.evaluate("dash_clientside.set_props('moved', {data: {'0': 4, '4': -3}})")
    page.evaluate("dash_clientside.set_props('second', {value: '{\"start\": 0}'})")
    wait(page, "() => location.hash.includes('moved')")
    page.click("#connect")
    page.click("#stop")  # once there is something to stop
    wait(page, "() => document.querySelector('#said-job').textContent === 'stopped'")
    wait(page, "() => document.querySelector('#between .js-plotly-plot')?.data?.length === 4")
    _, _, top, segment = traces(page, "between")
    assert top["y"][0] <= max(segment["y"])
    assert page.inner_text("#wrong") == ""


def test_runs_stand_beside_one_another_and_are_changed(page, served, minima, plane, surface):
    ready(page, served(plane.path, minima.path, surface.path))
    wait(page, "() => document.querySelectorAll('#compare .xtick text').length == 4")
    names = [text.strip() for text in page.locator("#compare .xtick text").all_text_contents()]
    assert names == ["mlp:1-2-1,tanh", "mlp:2-2-1,tanh", "camel", "camel (H1)"]
    assert page.locator("#landscape").is_visible()
    page.click("#run")
    page.click("[role=listbox] >> text=mlp:2-2-1,tanh")
    wait(page, "() => document.querySelector('#about').textContent.startsWith('MinimaNetwork')")
    assert page.locator("#landscape").is_hidden()
    wait(page, "() => document.querySelector('#said-status').textContent.includes('9 parameters')")

    # Of a run whose model is not there the views are only read.
    page.click("#run")
    page.click("[role=listbox] >> text=camel")
    page.wait_for_selector("text=nothing new can be computed: the losses were computed by another program")
    assert page.locator("#live").is_hidden()
    choose(page, 1)
    assert "#D55E00" in over(page, "bars")
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    wait(page, "() => document.querySelector('tr[aria-selected=true]')?.dataset.bar == 1")
    wait(page, "() => document.querySelector('#about').textContent.startsWith('LossSamples(3721')")
