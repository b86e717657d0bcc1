"""The live page, served to this machine alone."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from topolandscape.explore import figures
from topolandscape.explore.callbacks import register
from topolandscape.explore.jobs import Job, Jobs
from topolandscape.explore.live import Live, live, recipe_of
from topolandscape.explore.model import Explored, explored
from topolandscape.explore.page import page
from topolandscape.files import Run
from topolandscape.study.recipe import Recipe

PORT = 8050
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Dash writes its settings into the page as scripts; plotly draws by data: and blob: images and workers.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; worker-src 'self' blob:; connect-src 'self'; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Explorer:
    """What one page shows: runs that were read, or a model alone, and what is computed for it.

    Python files that runs name are run only where these are trusted.

    Attributes
    ----------
    runs
        What was read of each run; empty for a model alone.
    jobs
        What is computed in the background.
    """

    def __init__(self, runs: Sequence[Run] = (), recipe: Recipe | None = None, *, trusted: bool = False) -> None:
        self._folders = list(runs)
        self._trusted = trusted
        self._recipe = recipe
        self._loads: dict[int, Job] = {}
        self._lock = threading.Lock()
        self.runs: list[Explored] = [explored(run) for run in runs]
        self.jobs = Jobs()

    @property
    def names(self) -> list[str]:
        """What the runs are called, each by its folder where several are called alike."""
        if self._recipe is not None:
            return [f"{self._recipe.model} on {self._recipe.data}"]
        names = [run.name for run in self.runs]
        if len(set(names)) == len(names):
            return names
        return [folder.path.name for folder in self._folders]

    def load(self, number: int) -> Job:
        """Begin to load the network of a run, once; return how far that is."""
        with self._lock:
            if number not in self._loads:
                job = self.jobs.job(self.jobs.start(lambda report: self._live(number)))
                assert job is not None
                self._loads[number] = job
            return self._loads[number]

    def live(self, number: int) -> Live:
        """Return the network of a run.

        Raises
        ------
        ValueError
            It is not loaded yet, or cannot be.
        """
        job = self.load(number)
        if job.state != "done":
            raise ValueError(job.message or "the model is still loading.")
        return job.result

    def _live(self, number: int) -> Live:
        if self._recipe is not None:
            return live(self._recipe)
        folder = self._folders[number]
        return live(recipe_of(folder), folder, self.runs[number], trusted=self._trusted)


def serve(
    explorer: Explorer,
    *,
    port: int = PORT,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve the page of an explorer on the loopback address, until it is interrupted.

    Parameters
    ----------
    explorer
        What it shows.
    port
        0: any that is free.
    ready
        Called with the address of the page once it can be asked for.

    Raises
    ------
    ImportError
        Dash is not installed.
    OSError
        The port is in use.
    """
    app = application(explorer)
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((_LOOPBACK[0], port))
        except OSError as error:
            raise OSError(
                f"port {port} is in use or not allowed ({error.strerror}); give another with --port."
            ) from None
        listening.listen(128)
        server = make_server(_LOOPBACK[0], port, app.server, threaded=True, fd=listening.fileno())
        ready(f"http://{_LOOPBACK[0]}:{listening.getsockname()[1]}/")
        server.serve_forever()


def application(explorer: Explorer) -> Any:
    """Return the Dash application of an explorer; requests that are not of its own page are refused."""
    try:
        import dash
    except ImportError:
        raise ImportError(
            "exploring needs Dash, which is not installed; run: pip install 'topolandscape[explore]'"
        ) from None
    compared = None
    if len(explorer.runs) > 1:
        codes = {name: run.code for name, run in zip(explorer.names, explorer.runs, strict=True)}
        compared = figures.bars(codes)
    app = dash.Dash(
        "topolandscape.explore",
        title="topolandscape",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        assets_ignore=r"kept\.js",
        serve_locally=True,
        compress=False,
    )
    app.layout = page(explorer.names, compared=compared)
    _guard(app.server)
    register(app, explorer)
    return app


# --------------------------------------------------------------------------------------------------------------
# Who may ask
# --------------------------------------------------------------------------------------------------------------


def is_own(host: str | None, origin: str | None, method: str) -> bool:
    """Tell whether a request comes from the page itself.

    Parameters
    ----------
    host, origin
        Headers of the request.
    method
        ``GET``, ``POST``, ...

    Returns
    -------
    bool
        False where the host is not the loopback address by one of its names, as after DNS rebinding; where another
        page asks (its origin is not the host); and where anything is sent without an origin.

    Examples
    --------
    >>> is_own("127.0.0.1:8050", "http://127.0.0.1:8050", "POST"), is_own("evil.example:8050", None, "GET")
    (True, False)
    """
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if host is None or "@" in host or name not in _LOOPBACK:
        return False
    return origin == f"http://{host}" if origin is not None else method in ("GET", "HEAD")


def _guard(server: Any) -> None:
    import flask

    @server.before_request
    def refuse() -> Any:
        asked = flask.request
        if not is_own(asked.headers.get("Host"), asked.headers.get("Origin"), asked.method):
            return flask.Response("this page answers only itself, on this machine.\n", 403, mimetype="text/plain")
        return None

    @server.after_request
    def protect(response: Any) -> Any:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response
