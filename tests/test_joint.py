"""Several variables at once: each is drawn given those before it."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from tests.models import SPEC, write_tiny_model
from tests.planning.test_predictors_given import KELVIN, OROG, RAIN, warm, wet
from tests.strategies import make
from xstsr.errors import GridError, XstsrError
from xstsr.joint import upscale_together

pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
CALL = {"realizations": 3, "label": "left", "seed": 4}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of rain, and one of temperature that needs to be told the rain."""
    folder = tmp_path_factory.mktemp("models")
    given_rain = replace(SPEC, transform=KELVIN, known=(RAIN,))
    return {
        "pr": write_tiny_model(folder, seed=1),
        "tas": write_tiny_model(folder, seed=2, spec=given_rain),
    }


def both(**options):
    rain = np.maximum(np.random.default_rng(1).gamma(0.5, 2.0, (6, 4, 5)) - 0.3, 0)
    pr = make(rain, grid="metres", **options)
    return xr.Dataset({"pr": pr, "tas": warm()})


@pytest.mark.parametrize("chunks", [None, 2])
def test_each_is_told_those_before_it(models, chunks):
    ds = both() if chunks is None else both().chunk(time=chunks)
    fine = ds.stsr.upscale_together(models, 2, 2, **CALL)
    rain = both().pr.stsr.upscale(2, 2, model=models["pr"], **CALL)
    drawn = both().tas.stsr.upscale(2, 2, model=models["tas"], given=rain, **CALL)
    np.testing.assert_array_equal(fine.pr, rain)
    np.testing.assert_array_equal(fine.tas, drawn)
    assert fine.pr.dims == fine.tas.dims == ("realization", "time", "y", "x")
    assert {"time_bnds", "cell_area"} <= {*fine.variables}
    assert not (ds.chunks and fine.tas.chunks is None)  # lazy stays lazy


def test_both_keep_their_means(models):
    ds = both()
    fine = upscale_together(ds, models, 2, 2, **CALL)
    for name in models:
        receipt = fine[name].stsr.check(ds[name], label="left")
        assert receipt.largest < 1e-5 * float(abs(ds[name]).max())
        assert fine[name].attrs["units"] == ds[name].attrs["units"]


def test_history_tells_of_each(models):
    ds = both().assign_attrs(history="made")
    lines = upscale_together(ds, models, 2, **CALL).attrs["history"].splitlines()
    assert lines.count("made") == 1
    for model in ("tiny1", "tiny2"):
        assert sum(model in line for line in lines) == 1


def test_choices_may_be_options_of_their_own(models):
    ds, call = both(), CALL | {"label": "left"}
    choices = {"pr": {"method": "rainfarm"}, "tas": models["tas"]}
    fine = upscale_together(ds, choices, 2, 2, **call)
    rain = ds.pr.stsr.upscale(2, 2, method="rainfarm", **call)
    np.testing.assert_array_equal(fine.pr, rain)
    drawn = ds.tas.stsr.upscale(2, 2, model=models["tas"], given=rain, **call)
    np.testing.assert_array_equal(fine.tas, drawn)


@pytest.mark.parametrize("named", [True, False])
def test_fields_from_elsewhere_go_to_the_models_that_need_them(tmp_path, named):
    hills = replace(SPEC, known=(OROG,))
    told = replace(SPEC, transform=KELVIN, known=(RAIN,))
    models = {"tas": write_tiny_model(tmp_path, seed=3, spec=told)}
    rain, ds = wet(), both()
    fine = upscale_together(ds, models, 2, 2, given=rain, label="left")
    expected = ds.tas.stsr.upscale(2, 2, model=models["tas"], given=rain, label="left")
    np.testing.assert_array_equal(fine.tas, expected)
    models = {"pr": write_tiny_model(tmp_path, seed=4, spec=hills), **models}
    orog = xr.zeros_like(rain.isel(time=0, drop=True)).rename("orog" if named else None)
    orog.attrs = {"units": "m"}
    fine = upscale_together(ds, models, 2, 2, static=orog, label="left")
    rain = ds.pr.stsr.upscale(2, 2, model=models["pr"], static=orog, label="left")
    np.testing.assert_array_equal(fine.pr, rain)


def test_order_is_that_of_the_models(models):
    backwards = {name: models[name] for name in ("tas", "pr")}
    with pytest.raises(XstsrError, match=r"'tas' before \['pr'\].*Name \['pr'\] first"):
        upscale_together(both(), backwards, 2, 2, **CALL)


def test_what_is_needed_and_nowhere_is_missed(models):
    with pytest.raises(XstsrError, match=r"needs.*given='pr'"):
        upscale_together(both(), {"tas": models["tas"]}, 2, 2, **CALL)


def test_no_variable_is_refused():
    with pytest.raises(XstsrError, match=r"models=\{\}: no variable is named"):
        upscale_together(both(), {}, 2)
    with pytest.raises(XstsrError, match=r"models='pr': no variable is named"):
        upscale_together(both(), "pr", 2)


def test_labels_of_other_steps_are_refused():
    """ERA5's rain is that of the hour before its label, and wind that of its label."""
    ds = both()
    ds["pr"].attrs |= {"GRIB_stepType": "avg"}
    choices = {name: {"method": "linear"} for name in ds.data_vars}
    with pytest.raises(GridError, match=r"labels of 'tas' stand for other time_bnds"):
        upscale_together(ds, choices, 2, 1)


def test_variables_at_other_times_are_refused():
    """Snapshots are interpolated in time, and have fewer fine steps than means."""
    ds = both()
    ds["tas"] = ds.tas.assign_attrs(cell_methods="time: point")
    choices = {name: {"method": "linear"} for name in ds.data_vars}
    with pytest.raises(
        GridError, match=r"grids .*'time': 12.*'time': 11.* are not one"
    ):
        upscale_together(ds, choices, 2, 2, label="left")
