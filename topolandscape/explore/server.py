"""The live page, served to this machine alone."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from topolandscape.explore import figures
from topolandscape.explore.callbacks import register
from topolandscape.explore.explorer import Explorer
from topolandscape.explore.page import page

PORT = 8050
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Dash writes its settings into the page as scripts; plotly draws by data: and blob: images and workers.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; worker-src 'self' blob:; connect-src 'self'; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


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
