"""The package as a whole: what importing it costs, and its public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import topolandscape

HEAVY = ("torch", "matplotlib", "gudhi", "ripser", "sklearn", "numba", "scipy", "pandas", "networkx")


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_importing_is_quick_and_loads_nothing_heavy():
    seconds = "import time; start = time.perf_counter(); import topolandscape; print(time.perf_counter() - start)"
    assert min(float(python(seconds)) for _ in range(3)) < 0.6
    loaded = python("import topolandscape, sys; print(*sys.modules)").split()
    assert [name for name in HEAVY if name in loaded] == []


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "sys.argv = ['topolandscape', 'barcode', '--help']\n"
        "from topolandscape.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    print(*sys.modules)"
    )
    loaded = python(code).splitlines()[-1].split()
    assert [name for name in HEAVY if name in loaded] == []


def public_names():
    tree = ast.parse(Path(topolandscape.__file__).with_suffix(".pyi").read_text())
    return [alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]


def test_every_public_name_is_there():
    assert len(public_names()) > 30
    for name in public_names():
        assert getattr(topolandscape, name) is not None
    assert set(public_names()) <= set(dir(topolandscape))
    with pytest.raises(AttributeError, match="nothing"):
        topolandscape.nothing  # noqa: B018


def test_every_public_function_says_what_it_does():
    without = [
        name
        for name in public_names()
        if callable(getattr(topolandscape, name)) and ">>>" not in (getattr(topolandscape, name).__doc__ or "")
    ]
    assert set(without) <= {"FilteredComplex", "MergeTree", "Trajectories", "Subspace"}
