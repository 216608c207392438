"""Bars appear where someone is looking, in notebooks too, and nowhere else."""

import io
import sys

import numpy as np
import pytest

from tests.strategies import make
from xstsr import pipeline
from xstsr.display import is_watched, ticking


class Terminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Put a terminal in the place of stderr, with someone impatient before it."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(pipeline, "PATIENCE", 0.0)
    return screen


def field():
    return make(np.random.default_rng(0).gamma(0.5, 4.0, (6, 8, 8)), grid="metres")


def test_nobody_looks_at_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not is_watched()


def test_bar_in_a_terminal_counts_windows(monkeypatch):
    screen = terminal(monkeypatch)
    assert is_watched()
    with ticking(1, 4, name="diffusion") as tick:
        tick(2, 4)
        tick(4, 4)
    assert "diffusion" in screen.getvalue()
    assert "4/4" in screen.getvalue()


def test_bar_that_is_unwanted_stays_away(monkeypatch):
    screen = terminal(monkeypatch)
    with ticking(0, 4, False) as tick:
        tick(4, 4)
    assert screen.getvalue() == ""


def test_quick_work_shows_no_bar(monkeypatch):
    screen = terminal(monkeypatch)
    with ticking(0, 2, patience=60.0) as tick:
        tick(1, 2)
        tick(2, 2)
    assert screen.getvalue() == ""


def test_bar_reaches_its_end_in_memory(monkeypatch):
    screen = terminal(monkeypatch)
    field().stsr.upscale(2, 2, method="rainfarm", realizations=5)
    done, total = screen.getvalue().split("|")[-1].split()[0].split("/")
    assert done == total
    assert "rainfarm" in screen.getvalue()


def test_lazy_work_draws_no_bar(monkeypatch):
    screen = terminal(monkeypatch)
    lazy = field().chunk(time=2).stsr.upscale(2, 2, method="nearest")
    lazy.compute()
    assert screen.getvalue() == ""


NOTEBOOK = """
import sys
import warnings
warnings.simplefilter("error")  # of ipywidgets, too
sys.modules |= {"ipywidgets": None}
import numpy as np
import xarray as xr
import xstsr, xstsr.pipeline
xstsr.pipeline.PATIENCE = 0.0
truth = xstsr.open_demo().rainfall_amount[:6, :20, :20]
truth.stsr.evaluate(s=5, t=3, realizations=2, methods=("rainfarm", "linear"))
"""


def test_evaluation_in_a_notebook_shows_a_bar_for_each_method(tmp_path):
    """Also where ipywidgets is not installed."""
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    cell = nbformat.v4.new_code_cell(NOTEBOOK)
    book = nbformat.v4.new_notebook(cells=[cell])
    folder = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(book, timeout=300, resources=folder).execute()
    outputs = book.cells[0].outputs
    bars = "".join(output.get("text", "") for output in outputs)
    assert "rainfarm: 100%" in bars
    assert "linear: 100%" in bars
    # and the evaluation is a card
    (card,) = (output.data for output in outputs if "data" in output)
    assert {"text/html", "text/plain"} <= set(card)
