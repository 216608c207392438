"""Bad input through the public call: every item says what, where and what to type."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xstsr
from tests.strategies import DAY, HOUR, make, make_dataset
from xstsr.errors import (
    AssumptionWarning,
    CFError,
    CostWarning,
    DataError,
    FactorError,
    GridError,
    PlanError,
    UnitError,
    XstsrError,
)

nan = float("nan")


def said(**attrs: Any) -> xr.DataArray:
    """Rain with other attributes; None removes one."""
    da = make()
    da.attrs = {k: v for k, v in (da.attrs | attrs).items() if v is not None}
    return da


def at_hours(*hours: float) -> xr.DataArray:
    """Rain with labels at these hours."""
    da = make(shape=(len(hours), 3, 5))
    minutes = np.round(np.array(hours) * 60).astype("timedelta64[m]")
    return da.assign_coords(time=np.datetime64("2001-01-01", "ns") + minutes)


def latitudes(*values: float) -> xr.DataArray:
    attrs = {"standard_name": "latitude", "units": "degrees_north"}
    return make(shape=(4, len(values), 5)).assign_coords(
        lat=("lat", np.array(values), attrs)
    )


def negative(da: xr.DataArray) -> xr.DataArray:
    return da.where(da > 0.5, -0.25)


def nameless(da: xr.DataArray) -> xr.DataArray:
    del da.attrs["standard_name"]
    return da


def with_nat() -> xr.DataArray:
    da = make()
    times = da.time.values.copy()
    times[2] = np.datetime64("NaT")
    return da.assign_coords(time=("time", times, da.time.attrs))


def undecoded() -> xr.DataArray:
    attrs = {"standard_name": "time", "units": "hours since 2001-01-01"}
    return make().assign_coords(time=("time", np.arange(4), attrs))


ITEMS: dict[str, tuple[Callable[[], xr.DataArray], type[XstsrError], str]] = {
    # time
    "irregular": (
        lambda: at_hours(0, 1, 2, 4, 5),
        CFError,
        r"'time': it is irregular at index 2: a step of 2 hours where the usual step "
        r"is 1 hour.*isel\(time=slice\(3\)\).*time bounds",
    ),
    "irregular at the start": (
        lambda: at_hours(0, 3, 4, 5),
        CFError,
        r"irregular at index 0: a step of 3 hours",
    ),
    "duplicated times": (
        lambda: at_hours(0, 1, 1, 2),
        CFError,
        r"index 1 and 2 are the same.*drop_duplicates\('time'\)",
    ),
    "backwards": (
        lambda: make().isel(time=slice(None, None, -1)),
        CFError,
        r"time runs backwards after index 0.*da\.sortby\('time'\)",
    ),
    "missing time": (
        with_nat,
        CFError,
        r"times in 'time': 1 of them are missing \(NaT\).*dropna",
    ),
    "times not decoded": (
        undecoded,
        CFError,
        r"'time': dtype int64 is not decoded.*decode_times=True",
    ),
    "no time": (
        lambda: make().isel(time=0, drop=True),
        CFError,
        r"cannot find the time axis of 'pr' among.*expand_dims\(time=",
    ),
    "climatology": (
        lambda: said(cell_methods="time: mean within years time: mean over years"),
        CFError,
        r"describe a climatology.*Refine the data it was made from",
    ),
    "an amount without step length": (
        lambda: make(kind="amount", shape=(1, 3, 5)),
        CFError,
        r"amount 'pr': 'time' has one time and no bounds.*ds\.stsr\.upscale",
    ),
    "a rate without step length": (
        lambda: make(shape=(1, 3, 5)),
        CFError,
        r"cannot split the single time of 'pr' into 3 steps.*Use t=1",
    ),
    # space
    "one spatial axis": (
        lambda: make().isel(lat=0, drop=True),
        CFError,
        r"cannot find the y axis .* of 'pr' among its dimensions \('time', 'lon'\)",
    ),
    "no spatial axis": (
        lambda: make().isel(lat=0, lon=0, drop=True),
        CFError,
        r"cannot find the y axis .* among its dimensions \('time',\).*standard_name",
    ),
    "a number": (
        lambda: make().isel(time=0, lat=0, lon=0, drop=True),
        CFError,
        r"cannot find the time axis of 'pr' among its dimensions \(\)",
    ),
    "axes without coordinates": (
        lambda: make().drop_vars(["lat", "lon"]),
        CFError,
        r"cannot find the y axis .*two horizontal axes with one-dimensional coord",
    ),
    "curvilinear": (
        lambda: make(grid="rotated").drop_vars(["rlat", "rlon"]),
        CFError,
        r"\['lat', 'lon'\] are two-dimensional.*assign_coords.*regrid",
    ),
    "one row": (
        lambda: make().isel(lat=[1]),
        GridError,
        r"cell size along 'lat': it has one label, 49\.75, and no bounds",
    ),
    "duplicated latitudes": (
        lambda: latitudes(50, 49, 49, 48),
        GridError,
        r"'lat': it is not strictly monotone at index 1 \(49, then 49\).*sortby",
    ),
    "latitudes out of order": (
        lambda: latitudes(50, 48, 49, 47),
        GridError,
        r"'lat': it is not strictly monotone at index 1 \(48, then 49\)",
    ),
    "latitude missing": (
        lambda: latitudes(50, nan, 48),
        GridError,
        r"'lat': its labels are not finite numbers",
    ),
    "beyond the pole": (
        lambda: latitudes(80, 90, 100),
        GridError,
        r"latitude 100 is beyond the pole.*units \"m\"",
    ),
    # meaning
    "unknown units": (
        lambda: said(units="mm/3h"),
        UnitError,
        r"cannot read the units 'mm/3h'\. Write CF units.*attrs\[\"units\"\]",
    ),
    "no units": (
        lambda: said(units=None),
        UnitError,
        r"'pr': it has no units.*Set da\.attrs\[\"units\"\], for example",
    ),
    "units of another quantity": (
        lambda: said(units="K"),
        UnitError,
        r"units 'K' are neither those of a water rate nor of a water amount",
    ),
    "an amount said to be a mean": (
        lambda: said(units="mm", standard_name=None),
        CFError,
        r"'time: mean' but units 'mm' are those of an amount.*cell_methods=\"time: sum",
    ),
    "a rate said to be a sum": (
        lambda: said(cell_methods="time: sum"),
        CFError,
        r"'time: sum' but units 'mm h-1' are those of a rate.*=\"time: mean\"",
    ),
    "units against standard name": (
        lambda: said(standard_name="precipitation_amount", cell_methods=None),
        CFError,
        r"'precipitation_amount' is an amount but units 'mm h-1' are those of a rate",
    ),
    "maximum": (
        lambda: said(cell_methods="time: maximum"),
        CFError,
        r"cell_methods say 'time: maximum'.*Refine the data it was made from",
    ),
    "variance over area": (
        lambda: said(cell_methods="time: mean area: variance"),
        CFError,
        r"cell_methods say 'variance' over area.*\"area: mean\"",
    ),
    "malformed cell_methods": (
        lambda: said(cell_methods="averaged"),
        CFError,
        r"cannot read cell_methods 'averaged'.*'name: method'",
    ),
    "categorical": (
        lambda: said(flag_values=[0, 1], flag_meanings="dry wet"),
        CFError,
        r"flag_meanings and flag_values say that it is categorical",
    ),
    "directional": (
        lambda: said(standard_name="wind_from_direction", units="degree"),
        CFError,
        r"'wind_from_direction' is a direction.*eastward and northward",
    ),
    "unclear": (
        lambda: make(name="u").assign_attrs(units="m s-1").pipe(nameless),
        CFError,
        r"cannot tell what 'u' is: units 'm s-1' fit precipitation and other",
    ),
    # values
    "complex": (
        lambda: make().astype("complex64"),
        DataError,
        r"'pr': its dtype is complex64, not a floating-point type.*astype\(\"float32",
    ),
    "integer": (lambda: make().astype("int16"), DataError, r"its dtype is int16"),
    "boolean": (lambda: make() > 1, DataError, r"its dtype is bool"),
    "objects": (lambda: make().astype(object), DataError, r"its dtype is object"),
    "packed": (
        lambda: said(scale_factor=0.1),
        DataError,
        r"\['scale_factor'\] say that its values are still packed.*mask_and_scale",
    ),
    "no times": (
        lambda: make().isel(time=slice(0)),
        DataError,
        r"'pr': it is empty, with sizes \{'time': 0, 'lat': 3, 'lon': 5\}.*selection",
    ),
    "no rows": (lambda: make().isel(lat=slice(0)), DataError, r"'lat': 0"),
    "negative rain": (
        lambda: negative(make()),
        DataError,
        r"negative rain: the smallest value is -0\.25.*da\.clip\(min=0\)",
    ),
    "infinite": (
        lambda: make().where(make() > 0, np.inf),
        DataError,
        r"1 values are infinite.*np\.isfinite",
    ),
}


@pytest.mark.parametrize("item", ITEMS)
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
def test_bad_field_is_refused(item, lazy):
    build, error, told = ITEMS[item]
    da = build()
    if lazy:
        da = da.chunk()
    with pytest.raises(error, match=told) as raised:
        # what only the values tell comes when they are computed
        da.stsr.upscale(2, 3, method="linear").compute(scheduler="synchronous")
    message = str(raised.value)
    assert message.startswith("cannot ")
    assert len(message) < 450


# coarsen and plan do not look at values, and a single time can be coarsened in space
METADATA = [item for item in ITEMS if item not in ("negative rain", "infinite")]


@pytest.mark.parametrize("item", METADATA)
@pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
def test_plan_refuses_the_same_metadata(item):
    build, error, told = ITEMS[item]
    with pytest.raises(error, match=told):
        build().stsr.plan(2, 3, method="linear")


@pytest.mark.parametrize("item", [i for i in METADATA if i[:6] != "a rate"])
def test_coarsen_refuses_the_same_metadata(item):
    build, error, told = ITEMS[item]
    with pytest.raises(error, match=told):
        build().stsr.coarsen(1, 1)


@pytest.mark.parametrize("value", [0, -1, 2.0, 2.5, nan, True, "4", None, (2, 2, 2)])
@pytest.mark.parametrize("name", ["s", "t"])
def test_bad_factor_is_refused(name, value):
    factors = {"s": 2, "t": 2, name: value}
    told = re.escape(f"{name}={value!r}: a factor is a whole number of 1 or more")
    with pytest.raises(FactorError, match=told):
        make().stsr.upscale(**factors, method="linear")


def test_numpy_integers_are_good_factors():
    fine = make().stsr.upscale(np.int64(2), np.uint8(3), method="linear")
    assert fine.shape == (12, 6, 10)
    assert fine.attrs["xstsr_s"] == 2


# Datasets


def _stale(dim: str) -> xr.Dataset:
    """Every other step or row, with the bounds of the whole."""
    ds = make_dataset(shape=(6, 6, 5))
    edges = 50.125 - 0.25 * np.arange(7)
    ds["lat_bnds"] = (("lat", "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
    ds["lat"].attrs["bounds"] = "lat_bnds"
    return ds.isel({dim: slice(None, None, 2)})


DATASETS = {
    "stale time bounds": (
        lambda: _stale("time"),
        CFError,
        r"bounds of 'time': they are stale; cell 0 is 1 hour wide but the next label "
        r"is 2 hours later\. Drop the bounds",
    ),
    "stale latitude bounds": (
        lambda: _stale("lat"),
        GridError,
        r"bounds of 'lat': they are stale at index 0, where cell 50 has bounds "
        r"\[50\.125, 49\.875\].*drop_vars",
    ),
    "bounds of another day": (
        lambda: make_dataset().assign_coords(time=make().time + np.timedelta64(1, "D")),
        CFError,
        r"label 0 lies outside its bounds, so they are stale",
    ),
    "a gap": (
        lambda: make_dataset(shape=(6, 3, 5)).isel(time=[0, 1, 3, 4, 5]),
        CFError,
        r"leave a gap or overlap at index 1.*isel\(time=slice\(0, 2\)\)",
    ),
    "no such variable": (
        lambda: make_dataset().rename(pr="rain"),
        CFError,
        r"cannot find the variable 'pr' in the Dataset; it has \['rain'",
    ),
}


@pytest.mark.parametrize("item", DATASETS)
@pytest.mark.parametrize("verb", ["upscale", "coarsen", "plan"])
def test_bad_dataset_is_refused(item, verb):
    build, error, told = DATASETS[item]
    ds = build()
    if item == "bounds of another day":
        ds.time.attrs["bounds"] = "time_bnds"
    options = {} if verb == "coarsen" else {"method": "linear"}
    with pytest.raises(error, match=told):
        getattr(ds.stsr, verb)("pr", 1, 1, **options)


def test_label_against_bounds_is_refused():
    with pytest.raises(CFError, match=r'label="left": by its bounds .* "mid"'):
        make_dataset().stsr.upscale("pr", 2, 2, method="linear", label="left")


def test_bounds_repair_what_labels_cannot_tell():
    """A single amount, and steps that are unequal."""
    one = make_dataset(kind="amount", shape=(1, 3, 5), step=DAY)
    assert one.stsr.upscale("pr", 2, 4, method="linear").sizes["time"] == 4
    edges = np.datetime64("2001-01-01", "ns") + np.array([0, 1, 3, 6]) * np.timedelta64(
        HOUR, "us"
    )
    ds = make(shape=(3, 3, 5), kind="amount", dtype="float64").to_dataset()
    ds["time"] = ("time", edges[:-1], {"bounds": "time_bnds"})
    ds["time_bnds"] = (("time", "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
    with pytest.raises(CFError, match="irregular at index 1"):
        ds.pr.stsr.upscale(2, 2, method="linear")
    fine = ds.stsr.upscale("pr", 2, 2, method="linear")
    np.testing.assert_allclose(fine.stsr.coarsen("pr", 2, 2).pr, ds.pr, rtol=1e-12)


# What can be repaired is repaired, and said

WARNED = {
    "rate without cell_methods": (
        lambda: said(cell_methods=None),
        r"'pr' has no cell_methods.*taken for a mean.*pass cell_methods=",
    ),
    "state without cell_methods": (
        lambda: make(kind="state", cell_methods=None),
        r"'pr' has no cell_methods in time; it is taken for a mean",
    ),
    "ERA5 precipitation": (
        lambda: make(kind="amount", name="tp"),
        r"taken for ERA5 total precipitation, whose labels are at the end",
    ),
    "unnamed rain": (
        lambda: said(standard_name=None).rename("q"),
        r"'q' has no standard_name and is taken for precipitation by its units",
    ),
    "unequal latitudes": (
        lambda: latitudes(50, 49, 40),
        r"spacing of 'lat' varies from 1 to 9; cell edges are taken half-way",
    ),
    "stale standard name": (
        lambda: said(standard_name="precipitation_amount"),
        r"agree with the units, so it is taken for a rate",
    ),
}


@pytest.mark.parametrize("item", WARNED)
def test_what_is_assumed_is_said(item):
    build, told = WARNED[item]
    with pytest.warns(AssumptionWarning, match=told) as seen:
        fine = build().stsr.upscale(2, 2, method="linear")
    assert seen[0].filename == __file__
    assert re.search(told, fine.attrs["xstsr_notes"])


# Memory


def test_eager_input_too_large_is_refused_with_figure_and_remedy(monkeypatch):
    monkeypatch.setattr("xstsr.pipeline.available_bytes", lambda: 50_000)
    with pytest.raises(
        PlanError, match=r"cannot upscale in memory: 'pr' takes .* KiB.*da\.chunk"
    ):
        make().stsr.upscale(10, 3, method="linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CostWarning)
        make().chunk(time=1).stsr.upscale(10, 3, method="linear")


def test_input_is_left_as_it_was():
    da = make().assign_attrs(history="made")
    before = da.copy(deep=True)
    xstsr.upscale(da, 2, 2, method="linear")
    xr.testing.assert_identical(da, before)
    ds = make_dataset("rotated")
    before = ds.copy(deep=True)
    ds.stsr.upscale("pr", 2, 2, method="linear")
    ds.stsr.coarsen("pr", 1, 2)
    xr.testing.assert_identical(ds, before)
