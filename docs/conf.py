"""Sphinx configuration: make docs."""

import os
from importlib.metadata import version as installed

import sphinx_autosummary_accessors

import xstsr  # noqa: F401  (registers the accessors that the reference lists)

project = "xstsr"
author = "the xstsr developers"
copyright = "2026, the xstsr developers"
release = installed("xstsr")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autosummary_accessors",
    "sphinx_design",
]
templates_path = [sphinx_autosummary_accessors.templates_path]
exclude_patterns = ["_build", "jupyter_execute"]
# names in single backticks are linked where they are ours
default_role = "py:obj"
# references of docstrings are sources, which the text need not cite
suppress_warnings = ["ref.footnote"]

autosummary_generate = True
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_in_temp = True
nb_output_stderr = "remove"
nb_merge_streams = True

# bars have no place on a page
os.environ["TQDM_DISABLE"] = "1"

html_theme = "pydata_sphinx_theme"
html_title = "xstsr"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
