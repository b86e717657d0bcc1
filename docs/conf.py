"""Settings of the documentation: make docs."""

import sys
from pathlib import Path

import topolandscape

sys.path.append(str(Path(__file__).parent))
from names import PUBLIC

project = "topolandscape"
author = "The topolandscape developers"
copyright = f"2026, {author}"
version = release = topolandscape.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_nb",
    "names",
    "directives",
]
templates_path = ["_templates"]
exclude_patterns = ["_templates", "examples/results"]

html_theme = "furo"
html_title = f"topolandscape {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False

nb_execution_mode = "off"  # what the notebook shows is kept in it: jupyter execute --inplace docs/notebook.ipynb
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_type_aliases = {name: name for name in ("Floats", "Integers", "Booleans")}  # of properties
numpydoc_show_class_members = False
# Where letters have no case, `Barcode` and `barcode` are one file.
autosummary_filename_map = {
    f"topolandscape.{name}": f"topolandscape.{name}-class"
    for name in PUBLIC
    if name[0].isupper() and name.lower() in PUBLIC
}

nitpicky = True
default_role = "py:obj"  # words in single backticks, see names.py
# What other packages document is not looked up: the build needs no network.
nitpick_ignore_regex = [(r"py:.*", r"(torch|nn|np|npt|matplotlib|os|pathlib|collections|typing|numpy|fractions)\..*")]
