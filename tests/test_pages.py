"""The documentation: its code runs, its commands can be given, every public name has its place."""

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import typer
from typer.testing import CliRunner

import topolandscape
from topolandscape.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *sorted(DOCS.glob("*.md"))]
# What the reference lists with its module has no public name.
LAYERS = ("landscape", "topology", "structures", "compare", "study")
# Pages that train networks, draw many samples or compile much.
SLOW = ("README.md", "choosing.md", "compare.md", "morse.md", "studies.md")


def blocks(page, language):
    """Return the fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page):
    """Return what can be given to a shell on a page: indented lines, and those of blocks of bash."""
    indented = re.findall(r"^    ((?:topolandscape|python|make) [^#\n]*)", page.read_text(), re.MULTILINE)
    for line in indented + "".join(blocks(page, "bash")).splitlines():
        if not re.search(r"\b(MODEL|SURFACE|STUDY|RUN|NAME)\b", line):  # what the design says of commands
            yield shlex.split(line)


def with_code(language):
    """Return the pages that have code in a language."""
    pages = [page for page in PAGES if blocks(page, language)]
    return [pytest.param(page, id=page.name, marks=[pytest.mark.slow] * (page.name in SLOW)) for page in pages]


def write_files(page):
    """Write the blocks of a page that begin with the name of a file, and return the others."""
    rest = []
    for block in blocks(page, "python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            Path(name[1]).write_text(block)
        else:
            rest.append(block)
    return rest


@pytest.fixture
def in_a_folder(tmp_path, monkeypatch):
    """Work in a folder of its own, from which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield
    plt.close("all")
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == tmp_path:
            del sys.modules[name]


@pytest.mark.parametrize("page", with_code("python"))
@pytest.mark.usefixtures("one_thread", "in_a_folder")
def test_the_code_of_a_page_runs(page):
    namespace = {}
    for block in write_files(page):
        exec(compile(block, page.name, "exec"), namespace)


@pytest.mark.parametrize("page", with_code("bash"))
@pytest.mark.usefixtures("one_thread", "in_a_folder")
def test_the_commands_of_a_page_run(page):
    write_files(page)
    for line in "".join(blocks(page, "bash")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "topolandscape"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{line}: {result.output}"


def test_every_command_can_be_given():
    """Options are there and take what they are given; scripts and targets of make are there."""
    group = typer.main.get_command(app)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {"topolandscape": 0, "python": 0, "make": 0}
    for page in PAGES:
        for program, *arguments in commands(page):
            known[program] += 1
            if program == "topolandscape":
                name, *rest = arguments
                with group.make_context("topolandscape", [name, *rest], resilient_parsing=True) as context:
                    command = group.get_command(context, name)
                    assert command is not None, f"{page.name}: there is no command {name}"
                    if "--help" not in rest:
                        command.make_context(name, rest, parent=context)
            elif program == "make":
                assert arguments[0] in targets, f"{page.name}: make {arguments[0]}"
            elif arguments[0] != "-m":
                assert (ROOT / arguments[0]).exists(), f"{page.name}: {arguments[0]}"
    assert min(known.values()) > 5


def test_studies_of_pages_can_be_read(tmp_path):
    found = [block for page in PAGES for block in blocks(page, "toml")]
    assert found
    for block in found:
        file = tmp_path / "study.toml"
        file.write_text(block)
        assert len(topolandscape.read_study(file).recipes()) > 1


def public_names():
    """Return the public names as they stand in the stubs."""
    for part in ("", "plot.", "zoo."):
        stub = Path(topolandscape.__file__).parent / part.replace(".", "/") / "__init__.pyi"
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                yield from (part + alias.asname for alias in node.names if alias.asname not in ("plot", "zoo"))


def test_every_public_name_is_in_the_reference():
    listed = re.findall(r"^(?:   |\.\. py:data:: )([\w.]+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    assert len(set(listed)) == len(listed)
    assert set(public_names()) <= set(listed)
    assert {name for name in listed if name.split(".")[0] not in LAYERS} == set(public_names())


def test_the_version_is_the_same_everywhere():
    version = topolandscape.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version
    assert f"\n## {version} " in (ROOT / "CHANGELOG.md").read_text()


def test_every_page_and_picture_that_is_named_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} leads to {target}"


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text()
    pages = {page.stem for page in DOCS.glob("*.md")} | {page.stem for page in DOCS.glob("*.ipynb")}
    assert {name for name in pages - {"index"} if not re.search(rf"^{name}$", index, re.MULTILINE)} == set()


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    """In a kernel of its own, from a copy: what it shows is kept as it is."""
    notebook = tmp_path / "notebook.ipynb"
    notebook.write_text((DOCS / "notebook.ipynb").read_text())
    run = "from nbclient.cli import main; main()"
    subprocess.run([sys.executable, "-c", run, "--inplace", str(notebook)], check=True, cwd=tmp_path, timeout=300)
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
