"""Work in the background of the explorer, and who may ask for it."""

import threading

import pytest
from explored_runs import surface_run

from topolandscape.explore.explorer import Explorer
from topolandscape.explore.jobs import Jobs, Stopped
from topolandscape.explore.server import application, is_own

pytest.importorskip("plotly.graph_objects", reason="plotly is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def surface(tmp_path_factory):
    return surface_run(tmp_path_factory.mktemp("surface"))


# ------------------------------------------------------------------------------------------------- jobs


def test_a_job_is_stopped_and_the_next_one_runs():
    jobs, begun = Jobs(), threading.Event()

    def endless(report):
        while True:
            begun.set()
            report(0.5)

    first = jobs.start(endless)
    second = jobs.start(lambda report: "done")
    assert begun.wait(10)
    assert jobs.job(first).state == "running"
    assert jobs.job(second).state == "waiting"
    jobs.stop(first)
    assert jobs.wait(first).state == "stopped"
    assert jobs.wait(second).result == "done"
    assert jobs.job(99) is None


def test_what_a_stopped_job_had_is_kept():
    jobs, begun = Jobs(), threading.Event()

    def counting(report):
        count = 0
        try:
            while True:
                report(0.5)
                count += 1
                begun.set()
        except Stopped:
            return count

    number = jobs.start(counting)
    assert begun.wait(10)
    jobs.stop(number)
    job = jobs.wait(number)
    assert job.state == "stopped"
    assert job.result > 0


def test_a_job_that_fails_says_why():
    jobs = Jobs()

    def failing(report):
        raise ValueError("two\nlines")

    job = jobs.wait(jobs.start(failing))
    assert (job.state, job.message) == ("failed", "two lines")


# ------------------------------------------------------------------------------------------------- who may ask


@pytest.mark.parametrize(
    ("host", "origin", "method", "own"),
    [
        ("127.0.0.1:8050", None, "GET", True),
        ("localhost:1", "http://localhost:1", "POST", True),
        ("[::1]:8050", "http://[::1]:8050", "POST", True),
        ("127.0.0.1:8050", None, "POST", False),
        ("127.0.0.1:8050", "null", "POST", False),
        ("127.0.0.1:8050", "http://localhost:8050", "POST", False),
        ("127.0.0.1:8050", "http://127.0.0.1:3000", "POST", False),
        ("127.0.0.1:8050", "https://evil.example", "GET", False),
        ("evil.example", None, "GET", False),
        ("evil.example:8050", "http://evil.example:8050", "POST", False),
        ("127.0.0.1.evil.example:8050", None, "GET", False),
        ("evil.example@127.0.0.1", "http://evil.example@127.0.0.1", "POST", False),
        ("[", None, "GET", False),
        ("", None, "GET", False),
        (None, None, "GET", False),
    ],
)
def test_only_the_page_itself_may_ask(host, origin, method, own):
    assert is_own(host, origin, method) is own


@pytest.fixture(scope="module")
def client(surface):
    pytest.importorskip("dash", reason="Dash is not installed")
    return application(Explorer([surface])).server.test_client()


def test_requests_of_others_are_refused(client):
    own = {"Host": "127.0.0.1:8050"}
    assert client.get("/", headers=own).status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403
    body = {"json": {"output": "x.data", "inputs": []}}
    assert client.post("/_dash-update-component", headers=own, **body).status_code == 403
    other = own | {"Origin": "https://evil.example"}
    assert client.post("/_dash-update-component", headers=other, **body).status_code == 403
    policy = client.get("/", headers=own).headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/manifest.json",
        "/assets/../server.py",
        "/assets/%2e%2e/server.py",
        "/assets/../../../pyproject.toml",
        "/_dash-component-suites/dash/../../../../etc/passwd",
        "/_dash-component-suites/topolandscape/cli.py",
        "/camel.npy",
    ],
)
def test_no_file_is_served_but_those_of_the_page(client, path):
    answer = client.get(path, headers={"Host": "127.0.0.1:8050"})
    # Dash answers any other address with the page itself.
    assert answer.status_code >= 400 or b"_dash-config" in answer.data


def test_the_page_asks_no_other_host(client):
    text = client.get("/", headers={"Host": "127.0.0.1:8050"}).get_data(as_text=True)
    assert "https://" not in text
    assert 'src="http' not in text
