"""``da.stsr`` shows how a field was understood, and computes nothing."""

import numpy as np
import pytest
import xarray as xr

import xstsr
from tests.models import tiny_model
from tests.strategies import HOUR, make, make_dataset
from xstsr.diffusion.card import model_card
from xstsr.diffusion.checkpoint import save_model
from xstsr.display import readable
from xstsr.errors import CheckpointError


def text_of(accessor):
    return repr(accessor)


def test_field_is_described_in_words():
    da = make(shape=(4, 6, 8), grid="metres", step=3 * HOUR, calendar="noleap")
    lines = dict(
        line.strip().split("  ", 1) for line in text_of(da.stsr).splitlines()[1:]
    )
    lines = {label: value.strip() for label, value in lines.items()}
    assert lines["quantity"] == "rate of water [mm h-1]"
    assert lines["dimensions"] == "time 4, y 6, x 8"
    assert lines["grid"] == "1 km, 180 min"
    assert lines["calendar"] == "noleap"
    assert lines["time labels"] == "left of the step"
    assert lines["period"] == "2001-01-01 00:00 to 2001-01-01 12:00"
    assert lines["data"] == "in memory"


def test_sizes_are_those_that_upscale_would_give():
    da = make(shape=(4, 6, 8), grid="metres")
    text = text_of(da.stsr)
    plan = da.stsr.plan(10, 3, realizations=16, method="rainfarm")
    assert "upscale(s=10, t=3, realizations=16)" in text
    assert readable(plan.nbytes) in text
    assert "0.1 km, 20 min" in text


def test_lazy_field_stays_lazy(no_compute):
    da = make(shape=(4, 6, 8), grid="metres").chunk(time=2, x=4)
    with no_compute():
        assert "lazy, 2 x 1 x 2 chunks" in text_of(da.stsr)
        assert "lazy" in da.stsr._repr_html_()


def test_assumptions_are_shown_and_do_not_warn():
    da = make(cell_methods=None)
    assert "note" in text_of(da.stsr)


def test_instants_are_called_so():
    da = make(cell_methods="time: point")
    assert "value at a point in time, a rate [mm h-1]" in text_of(da.stsr)


@pytest.mark.parametrize("data", [np.ones((2, 3)), np.ones((2, 3, 4))])
def test_field_that_cannot_be_read_says_why(data):
    text = text_of(xr.DataArray(data).stsr)
    assert "cannot be refined" in text
    assert "cannot find" in text


def test_html_card_says_the_same():
    da = make(grid="metres")
    page = da.stsr._repr_html_()
    assert "rate of water [mm h-1]" in page
    assert page.count("<tr>") == len(text_of(da.stsr).splitlines()) - 1


def test_dataset_lists_the_fields_that_can_be_refined():
    ds = make_dataset("metres", shape=(2, 3, 4))
    ds["strange"] = (("a", "b", "c"), np.ones((1, 2, 3)))
    text = text_of(ds.stsr)
    assert "ds.stsr.upscale('pr', s=10, t=3)" in text
    assert "rate [mm h-1], 1 km, 60 min" in text
    assert "strange  cannot be refined: cannot find" in text
    assert "time_bnds" not in text
    assert "'pr'" in ds.stsr._repr_html_().replace("&#x27;", "'")


def test_dataset_without_fields_says_so():
    assert "none at all" in text_of(xr.Dataset().stsr)
    assert "variables: 'a'" in text_of(xr.Dataset({"a": 1}).stsr)


def test_recipe_shows_what_its_numbers_do():
    recipe = xstsr.Recipe.for_factors(10, 3, step=180.0)
    text = str(recipe)
    assert "0.02, the amplitude of the noise" in text
    assert "5 coarse frames" in text
    assert "none, before conservation" in text
    assert "5 coarse frames" in recipe._repr_html_()
    assert "Taper(" in str(xstsr.Recipe(0.02, 5, taper=0.5))


def test_model_card_tells_what_the_header_holds(tmp_path):
    path = tmp_path / "mine.safetensors"
    card = {"spacing_km": [0.5, 2.0], "training steps": {"mean": 3}, "title": "<b>"}
    save_model(tiny_model(), path, card)
    found = model_card(path)
    assert dict(found.lines) == {
        "spacing_km": "0.5, 2",
        "training steps": "mean 3",
        "title": "<b>",
        "methods": "mean, diffusion",
        "steps": "3",
        "sampler": "dpm-solver++",
    }
    assert "0.5, 2" in repr(found)
    assert "&lt;b&gt;" in found._repr_html_()


def test_model_card_of_nothing_is_an_error():
    with pytest.raises(CheckpointError, match=r"cannot find the model 'other'"):
        model_card("other")
