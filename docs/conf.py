"""Sphinx configuration: pip install -e '.[docs]' && sphinx-build docs docs/_build."""

from importlib.metadata import version as installed

project = "xstsr"
author = "the xstsr developers"
copyright = "2026, the xstsr developers"
release = installed("xstsr")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_autosummary_accessors",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute"]
nitpicky = True

autosummary_generate = True
autodoc_typehints = "none"
napoleon_google_docstring = False
myst_enable_extensions = ["colon_fence", "dollarmath"]
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 120

intersphinx_mapping = {
    "dask": ("https://docs.dask.org/en/stable", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "python": ("https://docs.python.org/3", None),
    "torch": ("https://docs.pytorch.org/docs/stable", None),
    "xarray": ("https://docs.xarray.dev/en/stable", None),
}

html_theme = "pydata_sphinx_theme"
html_title = "xstsr"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
