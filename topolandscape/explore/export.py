"""A page in one file: the views of a run, linked, without a server."""

from __future__ import annotations

import json
import os
from html import escape
from importlib.resources import files
from pathlib import Path

from topolandscape.explore.model import explored
from topolandscape.explore.views import views
from topolandscape.files import Run
from topolandscape.files.whole import write

TITLES = {
    "bars": "Barcode",
    "tree": "Merge tree",
    "diagram": "Persistence diagram",
    "table": "Minima",
    "path": "Loss along the path of the bar",
    "landscape": "Landscape",
    "histogram": "Losses",
}
"""The views of a run, in their order, and what stands above each."""


def write_page(run: Run, path: str | os.PathLike[str]) -> Path:
    """Write a page that shows a run, in one file that needs no other and no network.

    Parameters
    ----------
    run
        A finished run.
    path
        File to write.

    Returns
    -------
    Path
        The file, of about 5 MB, most of which is plotly's JavaScript. It shows the barcode, merge tree, diagram,
        table, losses, the loss along the path of each bar and, of one and two coordinates, the landscape; a bar that
        is chosen in one is marked in all.

    Raises
    ------
    ImportError
        plotly is not installed.
    FileNotFoundError, ValueError
        The run is not finished, or damaged.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from topolandscape.study import run_surface
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/surface.npy", [0.0, 2.0, 1.0])
    ...     page = write_page(run_surface(f"{folder}/surface.npy", f"{folder}/run"), f"{folder}/page.html")
    ...     page.read_text()[:15]
    '<!DOCTYPE html>'
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ImportError(
            "a page needs plotly, which is not installed; run: pip install 'topolandscape[explore]'"
        ) from None
    shown = views(explored(run))
    # In a script element "<" may end the data, or hide its end; as \u003c it is the same text.
    data = json.dumps(shown, allow_nan=False).replace("<", "\\u003c")
    names = [name for name in TITLES if name in {"table", "path", *shown["figures"]}]
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(shown['name'])}</title><style>{asset('page.css')}</style></head><body>",
        f'<header><h1>{escape(shown["name"])}</h1><label>shortest bar <input id="shortest" type="range" min="0" '
        'max="100" step="1" value="0"></label><span id="said-shortest" role="status"></span>'
        f'<span class="about">{escape(shown["about"])}</span></header><main class="views">',
        *(_view(name, alone=name == names[-1] and len(names) % 3 == 1) for name in names),
        f'</main><script type="application/json" id="views">{data}</script>',
        f"<script>{get_plotlyjs()}</script><script>{asset('linked.js')}</script><script>{asset('kept.js')}</script>",
        "</body></html>\n",
    ]
    path = Path(path)
    write(path, "\n".join(parts).encode())
    return path


def asset(name: str) -> str:
    """Return the text of a file that goes with the pages."""
    return (files("topolandscape.explore") / "assets" / name).read_text(encoding="utf-8")


def _view(name: str, *, alone: bool) -> str:
    kinds = ("csv", "json") if name == "table" else ("png", "svg", "csv", "json")
    menu = "".join(f'<option value="{kind}">{kind.upper()}</option>' for kind in kinds)
    save = (
        f'<select class="save" data-view="{name}" aria-label="save {TITLES[name]}"><option value="">save</option>'
        f"{menu}</select>"
    )
    slider = (
        '<div class="controls"><label>place <input id="place" type="range" min="0" max="100" step="1" value="0">'
        '</label><span id="said-place" role="status"></span></div>'
    )
    body = (
        f'<div class="table" id="{name}"></div>'
        if name == "table"
        else f'<div class="figure" id="{name}"><div class="plot"></div></div>'
    )
    head = f'<div class="head"><h2>{TITLES[name]}</h2>{save}</div>'
    return (
        f'<section class="view{" whole" if alone else ""}" aria-label="{TITLES[name]}">{head}'
        f"{slider if name == 'path' else ''}{body}</section>"
    )
