"""Directives of the documentation: claims with what was measured of them, and what the command line says of itself."""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.testing import CliRunner

from topolandscape.cli import app

RESULTS = Path(__file__).parent / "examples" / "results"


class Claims(SphinxDirective):
    """The claims of one paper, with what every example measured of them: ``{claims} Nguyen (2019``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Read the results that `make gallery` keeps, and set them as a table."""
        files = sorted(RESULTS.glob("*.json"))
        found = claims_of(self.arguments[0], files)
        if not found:
            raise self.error(f"no result in {RESULTS} is of {self.arguments[0]!r}; see the sources of its claims.")
        for file in files:
            self.env.note_dependency(str(file))
        return self.parse_text_to_nodes("\n".join(found))


def claims_of(source: str, files: list[Path]) -> list[str]:
    """Return the rows of a table of the claims whose source begins so, with its heads; nothing where there are none."""
    rows = [
        f"| {claim['says']} | {claim['measured']} | **{claim['verdict']}** | `{file.stem}` |".replace(
            "|Kendall|", r"\|Kendall\|"
        )
        for file in files
        for claim in json.loads(file.read_text())["claims"]
        if any(part.startswith(source) for part in claim["source"].split("; "))
    ]
    return ["| claim | measured | | example |", "|---|---|---|---|", *rows] if rows else []


class CommandHelp(SphinxDirective):
    """What ``topolandscape COMMAND --help`` prints: ``{command-help} barcode``, or without a name that of all."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Set the help as it stands in a terminal."""
        text = help_of(*self.arguments)
        return [nodes.literal_block(text, text, language="none")]


def help_of(*command: str) -> str:
    """Return what a command prints when it is asked for help, 100 columns wide."""
    return CliRunner().invoke(app, [*command, "--help"], prog_name="topolandscape", terminal_width=100).stdout.strip()


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Add the directives to Sphinx."""
    sphinx.add_directive("claims", Claims)
    sphinx.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
