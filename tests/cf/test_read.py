"""Tests for xstsr.cf.read: meaning in, labels out."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings

from tests.strategies import (
    AMOUNTS,
    CALENDARS,
    GRIDS,
    HOUR,
    MINUTE,
    RATES,
    cf_dataarrays,
    factors,
    make,
    make_dataset,
    time_edges,
)
from xstsr.cf.coords import coarsened, dequantify
from xstsr.cf.read import area, bounds_of, factors_between, length, read_meaning
from xstsr.cf.times import DAY
from xstsr.cf.write import relabel, relabel_coarse, to_dataset
from xstsr.errors import AssumptionWarning, CFError, DataError, GridError, UnitError


def read(da, **options):
    """Read a field whose metadata leave nothing to assume."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_meaning(da, **options)


def fine(da, s, t, **options):
    """Label zeros as the refined field of ``da``."""
    meaning = read(da)
    n_time, ny, nx = meaning.shape
    extra = tuple(da.sizes[d] for d in meaning.extra_dims)
    values = np.zeros((*extra, n_time * t, ny * s, nx * s), "float32")
    return relabel(values, meaning, s, t, **options)


def complete(ds, s, t, **options):
    """Refine a Dataset's rain with zeros, completely."""
    meaning = read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))
    n_time, ny, nx = meaning.shape
    values = np.zeros((n_time * t, ny * s, nx * s), "float32")
    out = relabel(values, meaning, s, t, **options)
    return to_dataset(out, ds, meaning, s, t)


# --- closed form: kinds and factors


@pytest.mark.parametrize("units", RATES)
def test_rate_is_read_in_any_unit(units):
    meaning = read(make(kind="rate", units=units))
    per_mm_h = {"kg m-2 s-1": 3600, "m s**-1": 3.6e6, "mm d-1": 1 / 24}
    factor = per_mm_h.get(units, 1 / 24 if "day" in units else 1)
    assert meaning.kind == "rate"
    assert meaning.units == units
    np.testing.assert_allclose(meaning.rate_factor, [factor] * 4, rtol=1e-14)


@pytest.mark.parametrize("units", AMOUNTS)
def test_amount_over_three_hours_is_a_third_per_hour(units):
    meaning = read(make(kind="amount", units=units, step=3 * HOUR))
    millimetres = 1000 if units == "m" else 1
    assert meaning.kind == "amount"
    np.testing.assert_allclose(meaning.rate_factor, [millimetres / 3] * 4)
    # a fine step of one hour holds its amount per hour
    np.testing.assert_allclose(meaning.fine_rate_factor(3), [millimetres] * 12)


def test_monthly_amount_knows_unequal_months():
    meaning = read(make(kind="amount", step="month"))
    np.testing.assert_allclose(
        length(meaning), np.array([31, 28, 31, 30]) * 24, rtol=1e-15
    )
    np.testing.assert_allclose(meaning.rate_factor * length(meaning), 1)


def test_state_is_left_in_its_units():
    meaning = read(make(kind="state"))
    assert meaning.kind == "state"
    assert meaning.statistic == "mean"
    assert meaning.rate_factor.tolist() == [1.0] * 4


def test_amount_without_cell_methods_is_a_sum_as_cf_says():
    meaning = read(make(kind="amount", cell_methods=None))
    assert meaning.kind == "amount"
    assert meaning.statistic == "sum"


def test_rate_without_cell_methods_warns_and_is_a_mean():
    da = make(cell_methods=None)
    with pytest.warns(AssumptionWarning, match=r"time: mean.*cell_methods=") as seen:
        meaning = read_meaning(da)
    assert seen[0].filename == __file__
    assert meaning.kind == "rate"
    assert not meaning.point
    assert any("time: mean" in note for note in meaning.notes)


def test_state_without_cell_methods_warns_and_is_a_mean():
    with pytest.warns(AssumptionWarning, match=r"'pr' has no cell_methods in time"):
        assert read_meaning(make(kind="state", cell_methods=None)).statistic == "mean"


def test_cell_methods_argument_overrides_attribute():
    meaning = read(make(cell_methods="time: mean"), cell_methods="time: point")
    assert meaning.point
    assert meaning.statistic == "point"


def test_point_labels_are_at_the_start_so_that_coarse_times_recur():
    da = make(kind="state", cell_methods="time: point", label="mid")
    meaning = read(da)
    assert meaning.time_label == "left"
    out = fine(da, 1, 3)
    assert np.array_equal(out.time[::3], da.time)
    assert out.cell_methods == "time: point area: mean"


@pytest.mark.parametrize(
    ("name", "units", "kind"),
    [
        ("pr", "kg m-2 s-1", "rate"),
        ("pr", "mm", "amount"),
        ("precipitation", "mm/hr", "rate"),
        ("rr", "mm", "amount"),
        ("tp", "m", "amount"),
        ("TP", "mm", "amount"),
    ],
)
@pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
def test_well_known_names_need_no_standard_name(name, units, kind):
    da = make(name=name, units=units)
    da.attrs = {"units": units, "standard_name": "unknown"}
    assert read_meaning(da).kind == kind


def test_attributes_override_well_known_names():
    da = make(kind="state", name="tp", units="m s-1")
    da.attrs["standard_name"] = "wind_speed"
    assert read(da).kind == "state"


def test_era5_precipitation_is_labelled_at_the_end():
    da = make(kind="amount", name="tp", units="m")
    with pytest.warns(AssumptionWarning, match=r"end of their steps .label=.right"):
        assert read_meaning(da).time_label == "right"
    assert read(da, label="left").time_label == "left"


@pytest.mark.parametrize(("name", "units"), [("tp", "m"), ("rr", "mm")])
def test_well_known_names_may_lack_units(name, units):
    da = make(kind="amount", name=name)
    del da.attrs["units"]
    with pytest.warns(AssumptionWarning, match="has no units and is taken for"):
        meaning = read_meaning(da, label="left")
    assert meaning.units == units
    assert relabel(da.values, meaning, 1, 1).attrs["units"] == units


def test_long_name_of_rain_is_enough():
    da = make(name="RR", units="mm")
    da.attrs = {
        "units": "mm",
        "long_name": "Hourly rainfall",
        "cell_methods": "time: sum",
    }
    assert read(da).kind == "amount"


@pytest.mark.parametrize(
    ("units", "methods"), [("mm h-1", "time: mean"), ("m", "time: sum")]
)
def test_unmistakable_units_are_taken_for_rain_with_a_warning(units, methods):
    da = make(name="q")
    da.attrs = {"units": units, "cell_methods": methods}
    with pytest.warns(AssumptionWarning, match="taken for precipitation by its"):
        assert read_meaning(da).kind != "state"


def test_mean_of_a_length_without_a_name_is_a_state():
    da = make(name="depth")
    da.attrs = {"units": "m", "cell_methods": "time: mean"}
    assert read(da).kind == "state"


def test_field_without_units_is_a_state():
    da = make(name="index")
    da.attrs = {"cell_methods": "time: mean"}
    assert read(da).units == ""
    assert "units" not in fine(da, 1, 1).attrs


def test_stale_standard_name_warns_when_cell_methods_agree_with_units():
    da = make(kind="amount")
    da.attrs["standard_name"] = "precipitation_flux"
    with pytest.warns(AssumptionWarning, match=r"taken for an amount. Correct"):
        assert read_meaning(da).kind == "amount"


# --- closed form: axes, geometry, labels


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_are_recognised_in_any_order(grid):
    da = make(grid=grid).transpose(..., "time")
    meaning = read(da)
    assert (meaning.time_dim, meaning.y_dim, meaning.x_dim) == make(grid=grid).dims
    assert meaning.geometry == ("plane" if grid in ("metres", "km") else "sphere")
    assert meaning.shape == (4, 3, 5)


@pytest.mark.parametrize("grid", ["metres", "km"])
def test_kilometre_cells_have_a_spacing_of_one(grid):
    meaning = read(make(grid=grid))
    assert meaning.spacing_km == pytest.approx(1.0)
    np.testing.assert_allclose(area(meaning, 2), np.full((6, 10), 250_000.0))
    assert meaning.step_minutes == 60


def test_global_longitude_wraps():
    lon = ("lon", np.arange(0, 360, 30.0), {"units": "degrees_east"})
    da = make(shape=(2, 3, 12)).assign_coords(lon=lon)
    assert read(da).wraps
    assert not read(make()).wraps


def test_latitude_edges_end_at_the_poles():
    lat = ("lat", np.array([90.0, 0.0, -90.0]), {"standard_name": "latitude"})
    meaning = read(make().assign_coords(lat=lat))
    assert meaning.y_edges.tolist() == [90, 45, -45, -90]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("downwards", [True, False])
def test_rows_at_the_poles_are_half_cells_when_refined_too(dtype, downwards):
    rows = np.linspace(90, -90, 13)[:: 1 if downwards else -1].astype(dtype)
    lat = ("lat", rows, {"standard_name": "latitude", "units": "degrees_north"})
    da = make(shape=(2, 13, 5)).assign_coords(lat=lat)
    out = fine(da, 3, 1)
    # a half cell of 7.5 degrees in three, then cells of 15 degrees in three
    ends = np.abs(read(out).y_edges[:5])
    np.testing.assert_allclose(ends, [90, 87.5, 85, 82.5, 77.5], atol=1e-5)
    back = relabel_coarse(np.zeros(da.shape), read(out), 3, 1)
    assert back.lat.equals(da.lat)


def test_refined_unequal_cells_need_no_bounds_and_no_warning():
    da = make().assign_coords(lat=("lat", [50.0, 49.0, 40.0], make().lat.attrs))
    with pytest.warns(AssumptionWarning, match="varies"):
        meaning = read_meaning(da)
    out = relabel(np.zeros((4, 15, 25)), meaning, 5, 1)
    again = read(out)
    np.testing.assert_allclose(again.y_edges[::5], meaning.y_edges, rtol=1e-14)
    assert factors_between(again, meaning) == (5, 1)


def test_decoded_times_need_no_attributes():
    da = make().rename(time="valid")
    da.valid.attrs.clear()
    assert read(da).time_dim == "valid"
    assert fine(da, 1, 2).valid.attrs == {"standard_name": "time", "axis": "T"}


def test_names_alone_are_noted():
    da = make()
    da.lat.attrs.clear()
    da.lon.attrs.clear()
    meaning = read(da)
    assert any("'lat' is recognised by its name alone" in n for n in meaning.notes)
    out = fine(da, 2, 1)
    assert out.lat.attrs == {
        "standard_name": "latitude",
        "units": "degrees_north",
        "axis": "Y",
    }


@pytest.mark.parametrize(
    ("dims", "units", "standard_name"),
    [
        (("y", "x"), "km", "projection_y_coordinate"),
        (("rlat", "rlon"), "degrees", "grid_latitude"),
    ],
)
def test_short_names_with_units_are_recognised(dims, units, standard_name):
    da = make(grid="km").rename(dict(zip(("y", "x"), dims, strict=True)))
    for dim in dims:
        da[dim].attrs = {"units": units}
    assert read(da).shape == (4, 3, 5)
    assert fine(da, 2, 1)[dims[0]].attrs["standard_name"] == standard_name


def test_axis_attribute_names_any_dimension():
    da = make(grid="metres").rename(y="northing", x="easting", time="date")
    for dim, axis in (("northing", "Y"), ("easting", "X")):
        da[dim].attrs = {"axis": axis, "units": "m"}
    assert read(da).y_dim == "northing"


def test_projection_coordinates_without_units_are_metres():
    da = make(grid="metres")
    for dim in ("y", "x"):
        del da[dim].attrs["units"]
    assert read(da).spacing_km == pytest.approx(1.0)


@pytest.mark.parametrize("units", ["degrees_north", "degree_north", "degreesN"])
def test_degrees_north_without_a_standard_name_is_latitude(units):
    da = make().rename(lat="nav_lat_1d", lon="nav_lon_1d")
    da["nav_lat_1d"].attrs = {"units": units}
    da["nav_lon_1d"].attrs = {"units": "degree_E"}
    assert read(da).y_dim == "nav_lat_1d"


def test_extra_dimensions_are_kept_apart():
    da = make().expand_dims(height=[2.0, 10.0]).transpose("time", "lat", "height", ...)
    da["height"].attrs = {"standard_name": "height", "units": "m"}
    meaning = read(da)
    assert meaning.extra_dims == ("height",)
    out = relabel(np.zeros((3, 2, 12, 6, 10)), meaning, 2, 3, realizations=range(3))
    assert out.dims == ("realization", "time", "lat", "height", "lon")
    assert out.height.attrs["standard_name"] == "height"


@pytest.mark.parametrize("label", ["left", "mid", "right"])
def test_bounds_give_edges_and_label(label):
    ds = make_dataset(label=label, step="month")
    meaning = read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))
    assert meaning.time_label == label
    assert np.array_equal(meaning.time_edges, time_edges(4, "month", None))
    assert meaning.notes == ()


def test_labels_without_bounds_are_noted_but_do_not_warn():
    meaning = read(make())
    assert meaning.time_label == "left"
    assert any('"left"' in note and "label=" in note for note in meaning.notes)
    assert read(make(), label="infer").time_label == "left"


@pytest.mark.parametrize("downwards", [True, False])
@pytest.mark.parametrize("swapped", [True, False])
def test_latitude_bounds_are_read_in_either_order(downwards, swapped):
    da = make(grid="lat_lon" if downwards else "lat_lon_up")
    half = 0.125 * (1 if swapped else -1)
    bounds = np.stack([da.lat.values + half, da.lat.values - half], axis=1)
    meaning = read(da, bounds={"lat": bounds})
    assert np.all(np.diff(meaning.y_edges) < 0) == downwards
    np.testing.assert_allclose(meaning.y_edges, read(da).y_edges)


def test_bounds_of_reads_encoding_and_lazy_bounds(no_compute):
    ds = make_dataset().chunk()
    ds["time"].attrs.pop("bounds")
    ds["time"].encoding["bounds"] = "time_bnds"
    with no_compute():
        bounds = bounds_of(ds, "pr")
    assert bounds["time"].shape == (4, 2)


def test_bounds_of_ignores_a_dangling_name():
    ds = make_dataset().drop_vars("time_bnds")
    assert bounds_of(ds, "pr") == {}


def test_bounds_of_unequal_steps_are_refined():
    da = make(shape=(3, 3, 5)).isel(time=[0, 1, 2])
    minutes = np.array([0, 10, 30, 60], "timedelta64[m]")
    edges = np.datetime64("2001-01-01", "ns") + minutes
    da = da.assign_coords(time=("time", edges[:-1], da.time.attrs))
    meaning = read(da, bounds={"time": np.stack([edges[:-1], edges[1:]], axis=1)})
    out = relabel(np.zeros((6, 3, 5)), meaning, 1, 2)
    assert "xstsr_label" not in out.time.attrs
    assert np.array_equal(out.time[::2], da.time)


def test_single_rate_keeps_its_time():
    da = make(shape=(1, 3, 5))
    meaning = read(da)
    assert not meaning.step_known
    assert any("one time and no bounds" in note for note in meaning.notes)
    out = fine(da, 4, 1)
    assert np.array_equal(out.time, da.time)
    ds = to_dataset(out, da.to_dataset(), meaning, 4, 1)
    assert "bounds" not in ds.time.attrs


def test_single_amount_with_bounds_can_be_split():
    ds = make_dataset(kind="amount", shape=(1, 3, 5), step=DAY)
    assert complete(ds, 2, 24).sizes["time"] == 24


# --- properties


@given(cf_dataarrays(), factors())
@settings(max_examples=40)
def test_refined_labels_lead_back_to_coarse_labels(da, factor):
    s, t = factor
    meaning = read(da)
    out = fine(da, s, t)
    assert out.dims == da.dims
    again = read(out)
    assert factors_between(again, meaning) == (s, t)
    back = relabel_coarse(np.zeros(meaning.shape), again, s, t)
    for dim in ("time", meaning.y_dim, meaning.x_dim):
        assert np.array_equal(back[dim], da[dim])
        assert back[dim].dtype.kind == da[dim].dtype.kind


@given(cf_dataarrays(), factors())
@settings(max_examples=20)
def test_fine_steps_and_areas_add_up(da, factor):
    s, t = factor
    meaning = read(da)
    steps = length(meaning, t).reshape(-1, t).sum(axis=1)
    np.testing.assert_allclose(steps, length(meaning), rtol=1e-14)
    n_time, ny, nx = meaning.shape
    areas = area(meaning, s).reshape(ny, s, nx, s).sum(axis=(1, 3))
    np.testing.assert_allclose(areas, area(meaning), rtol=1e-9)
    assert n_time == da.sizes["time"]


@given(cf_dataarrays())
@settings(max_examples=20)
def test_factors_of_one_keep_coordinates_bitwise(da):
    out = fine(da, 1, 1)
    for name in da.coords:
        assert out[name].dtype == da[name].dtype
        assert np.array_equal(out[name], da[name])


# --- labels out


def test_right_labels_survive_without_bounds():
    ds = make_dataset(label="right")
    out = complete(ds, 2, 3)
    assert "xstsr_label" not in out.time.attrs
    meaning = read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))
    da = relabel(np.zeros((12, 6, 10)), meaning, 2, 3)
    again = read(da)
    assert again.time_label == "right"
    back = relabel_coarse(np.zeros(meaning.shape), again, 2, 3)
    assert np.array_equal(back.time, ds.time)


def test_time_resolution_grows_only_as_needed():
    da = make(resolution="s")
    assert fine(da, 1, 3).time.dtype == "datetime64[s]"
    assert fine(da, 1, 7).time.dtype == "datetime64[us]"
    assert fine(make(resolution="ns"), 1, 7).time.dtype == "datetime64[ns]"


def test_time_encoding_holds_fine_steps():
    da = make(step=DAY)
    da.time.encoding = {
        "units": "days since 1850-01-01",
        "calendar": "proleptic_gregorian",
        "dtype": np.dtype("int32"),
        "chunksizes": (1,),
    }
    encoding = fine(da, 1, 3).time.encoding
    assert encoding == {
        "units": "hours since 1850-01-01",
        "calendar": "proleptic_gregorian",
        "dtype": np.dtype("int64"),
    }


def test_float32_labels_are_read_as_decimals():
    da = make()
    da = da.assign_coords(lat=("lat", da.lat.values.astype("f4") + np.float32(0.1)))
    da.lat.attrs["units"] = "degrees_north"
    meaning = read(da)
    assert meaning.y_edges.tolist() == [50.225, 49.975, 49.725, 49.475]
    assert fine(da, 5, 1).lat.dtype == np.float32
    assert fine(da, 25, 1).lat.values[0] == pytest.approx(50.22, abs=1e-6)
    # a thousandth of a degree is less than a thousand steps of float32
    assert fine(da, 250, 1).lat.dtype == np.float64


def test_stale_attributes_and_encoding_are_dropped():
    da = make()
    da.attrs |= {
        "cell_measures": "area: areacella",
        "ancillary_variables": "quality",
        "valid_max": 3.0,
        "grid_mapping": "crs",
        "GRIB_Nx": 5,
        "GRIB_paramId": 228,
        "long_name": "rain",
        "xstsr_seed": 3,
    }
    da.lat.attrs |= {"bounds": "lat_bnds", "actual_range": [49.5, 50.0]}
    da.time.attrs["bounds"] = "time_bnds"
    da.encoding = {"dtype": "int16", "scale_factor": 0.1, "chunksizes": (1, 3, 5)}
    out = fine(da, 2, 2)
    assert set(out.attrs) == {
        "GRIB_paramId",
        "cell_methods",
        "history",
        "long_name",
        "standard_name",
        "units",
        "xstsr_notes",
        "xstsr_s",
        "xstsr_t",
        "xstsr_version",
    }
    assert out.encoding == {}
    assert "bounds" not in {*out.lat.attrs, *out.time.attrs}
    assert "actual_range" not in out.lat.attrs


def test_provenance_is_written_as_netcdf_can_hold_it(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    da = make()
    da.attrs["history"] = "before"
    provenance = {
        "version": "9.9",
        "method": "mean",
        "seed": np.int64(7),
        "nested": {"a": [1]},
        "flag": True,
        "beta": np.float32(0.5),
        "nothing": None,
    }
    out = fine(da, 10, 3, provenance=provenance)
    call = 's=10, t=3, method=mean, seed=7, nested={"a": [1]}, flag=true, beta=0.5'
    line = f"1970-01-01T00:00:00Z xstsr 9.9: upscale({call})"
    assert out.attrs["history"] == f"before\n{line}"
    assert out.attrs["xstsr_seed"] == 7
    assert out.attrs["xstsr_flag"] == "true"
    assert "xstsr_nothing" not in out.attrs
    assert out.attrs["xstsr_version"] == "9.9"


def test_version_is_unknown_where_xstsr_is_not_installed(monkeypatch):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert fine(make(), 1, 1).attrs["xstsr_version"] == "unknown"


def test_cell_methods_are_written_explicitly():
    assert fine(make(), 2, 2).cell_methods == "time: mean area: mean"
    assert fine(make(kind="amount"), 2, 2).cell_methods == "time: sum area: mean"
    da = make(cell_methods="area: time: mean where land (interval: 5 minutes)")
    assert fine(da, 2, 2).cell_methods == "time: mean area: mean where land"


def test_coarsening_points_in_time_gives_a_mean():
    da = make(kind="state", cell_methods="time: point")
    meaning = read(da)
    out = relabel_coarse(np.zeros((2, 3, 5)), meaning, 1, 2)
    assert out.cell_methods == "time: mean area: mean"
    assert "coarsen(s=1, t=2)" in out.history


def test_realizations_lead_and_are_labelled():
    out = fine(make(), 2, 1, realizations=None)
    assert "realization" not in out.dims
    meaning = read(make())
    out = relabel(np.zeros((2, 4, 6, 10)), meaning, 2, 1, realizations=[3, 5])
    assert out.dims[0] == "realization"
    assert out.realization.dtype == np.int32
    assert out.realization.values.tolist() == [3, 5]
    assert out.realization.attrs == {"standard_name": "realization", "units": "1"}


def test_scalar_coordinates_stay_and_others_are_dropped_with_a_note():
    da = make().assign_coords(
        height=2.0,
        season=("time", ["DJF"] * 4),
        zone=("lat", [1, 2, 3]),
        orography=(("lat", "lon"), np.zeros((3, 5))),
    )
    out = fine(da, 1, 3)
    assert {"height", "zone", "orography"} <= set(out.coords)
    assert "season" not in out.coords
    assert "'season' lies along refined dimensions" in out.attrs["xstsr_notes"]
    assert not {"zone", "orography"} & set(fine(da, 2, 1).coords)


def test_rotated_latitudes_are_refined_on_the_sphere():
    da = make(grid="rotated")
    da = da.assign_coords(lat=(("rlon", "rlat"), da.lat.values.T, da.lat.attrs))
    out = fine(da, 3, 1)
    assert out.lat.dims == ("rlon", "rlat")
    assert out.lon.dims == ("rlat", "rlon")
    np.testing.assert_allclose(out.lon[1::3, 1::3], da.lon, atol=1e-9)
    back = relabel_coarse(np.zeros(da.shape), read(out), 3, 1)
    np.testing.assert_allclose(back.lon, da.lon, atol=1e-4)


def test_single_row_drops_flat_latitudes():
    da = make(grid="rotated")
    one = da.isel(rlat=slice(0, 1))
    meaning = read_meaning(one, bounds={"rlat": np.array([[-3.055, -2.945]])})
    out = relabel(np.zeros((4, 2, 10)), meaning, 2, 1)
    assert "lat" not in out.coords


def test_labelling_is_lazy(no_compute):
    import dask.array

    da = make(grid="rotated").chunk(time=1)
    with no_compute():
        meaning = read_meaning(da)
        values = dask.array.zeros((12, 6, 10), chunks=(3, -1, -1))
        out = relabel(values, meaning, 2, 3)
    assert out.chunks is not None


def test_crs_coordinate_is_kept_where_it_was():
    ds = make_dataset("metres").set_coords("crs")
    out = fine(ds.pr, 2, 1)
    assert out.attrs["grid_mapping"] == "crs"
    assert "GeoTransform" not in out.crs.attrs
    lone = ds.pr * 1
    del lone.attrs["grid_mapping"]
    out = fine(lone, 2, 1)
    assert out.encoding == {"grid_mapping": "crs"}


def test_grid_mapping_names_reads_the_extended_form():
    from xstsr.cf.write import grid_mapping_names

    assert grid_mapping_names("crs: x y wgs: lat lon") == ["crs", "wgs"]
    assert grid_mapping_names(None) == []


# --- quantified


def test_quantified_input_comes_back_quantified():
    pytest.importorskip("pint_xarray")
    from xstsr.cf.units import registry

    plain = make(units="kg m-2 s-1")
    da = plain.pint.quantify({"lat": None, "lon": None}, unit_registry=registry())
    meaning = read(da)
    assert meaning.units == "kg m-2 s-1"
    assert meaning.rate_factor[0] == 3600
    out = relabel(np.zeros((4, 6, 10), "f4"), meaning, 2, 1)
    assert out.data.units == registry().Unit("kg m-2 s-1")
    assert "units" not in out.attrs
    assert read(out).units == "kg m-2 s-1"
    assert dequantify(plain) == (plain, None)


def test_quantified_coordinates_are_read_too():
    pytest.importorskip("pint_xarray")
    from xstsr.cf.units import registry

    plain = make(units="mm h-1")
    meaning = read(plain.pint.quantify(unit_registry=registry()))
    assert np.array_equal(meaning.y_edges, read(plain).y_edges)


def test_foreign_registry_is_kept():
    pint = pytest.importorskip("pint")
    ureg = pint.UnitRegistry(force_ndarray_like=True)
    plain = make()
    da = plain.copy(data=ureg.Quantity(plain.values, "mm / hour"))
    del da.attrs["units"]
    meaning = read(da)
    assert meaning.rate_factor[0] == 1
    assert isinstance(fine(da, 1, 1).data, ureg.Quantity)


# --- Dataset


@pytest.mark.parametrize("grid", ["lat_lon", "metres", "rotated"])
@pytest.mark.parametrize("calendar", CALENDARS)
def test_dataset_has_telescoping_bounds(grid, calendar):
    ds = make_dataset(grid, calendar=calendar)
    out = complete(ds, 5, 6)
    for dim in out.pr.dims:
        bounds = out[out[dim].attrs["bounds"]].values
        assert np.array_equal(bounds[1:, 0], bounds[:-1, 1])
        low, high = bounds.min(axis=1), bounds.max(axis=1)
        assert np.all((low <= out[dim].values) & (out[dim].values <= high))
    assert np.array_equal(out.time_bnds[::6, 0], ds.time_bnds[:, 0])
    assert out.pr.attrs["cell_measures"] == "area: cell_area"
    np.testing.assert_allclose(out.cell_area.sum(), area(read(ds.pr)).sum())
    assert out.attrs["Conventions"] == "CF-1.11, ACDD-1.3"
    assert out.attrs["title"] == "rain"
    assert out.attrs["history"].startswith("made\n")
    assert "history" not in out.pr.attrs
    assert ("crs" in out) == (grid != "lat_lon")


def test_dataset_leaves_its_input_alone():
    ds = make_dataset("metres").set_coords("crs")
    before = ds.copy(deep=True)
    meaning = read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))
    out = relabel(np.zeros((4, 6, 10)), meaning, 2, 1)
    kept = out.copy(deep=True)
    done = to_dataset(out, ds, meaning, 2, 1)
    xr.testing.assert_identical(ds, before)
    xr.testing.assert_identical(out, kept)
    assert "crs" in done.data_vars
    assert "GeoTransform" not in done.crs.attrs


def test_dataset_keeps_names_of_bounds():
    ds = make_dataset().rename(time_bnds="time_bounds", bnds="nv")
    ds["time"].attrs["bounds"] = "time_bounds"
    assert complete(ds, 2, 2).time_bounds.dims == ("time", "nv")


def test_dataset_without_its_grid_mapping_has_no_dangling_name():
    ds = make_dataset("metres").drop_vars("crs")
    assert "grid_mapping" not in complete(ds, 2, 1).pr.attrs


def test_coarse_dataset_is_complete_too():
    ds = make_dataset(kind="amount")
    meaning = read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))
    coarse = coarsened(meaning, 1, 2)
    out = relabel_coarse(np.zeros((2, 3, 5)), meaning, 1, 2)
    done = to_dataset(out, ds, coarse, 1, 1)
    assert np.array_equal(done.time_bnds[:, 0], ds.time_bnds[::2, 0])
    assert np.array_equal(done.time_bnds[:, 1], ds.time_bnds[1::2, 1])
    assert done.pr.cell_methods == "time: sum area: mean"


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf", "zarr"])
@pytest.mark.parametrize("calendar", [None, "noleap"])
@pytest.mark.filterwarnings("ignore")
def test_dataset_survives_files(tmp_path, engine, calendar):
    if engine == "h5netcdf":
        pytest.importorskip("h5py")
    out = complete(make_dataset("rotated", calendar=calendar), 2, 3)
    path = tmp_path / "out"
    if engine == "zarr":
        out.to_zarr(path, zarr_format=2)
        back = xr.open_zarr(path)
    else:
        out.to_netcdf(path, engine=engine)
        back = xr.open_dataset(path, engine=engine)
    with back:
        xr.testing.assert_equal(back.load(), out)
        assert back.time.encoding["units"] == "minutes since 1970-01-01"
        assert back.pr.attrs == out.pr.attrs
        assert back.time.attrs == out.time.attrs


@pytest.mark.parametrize(
    ("grid", "calendar", "step", "kind"),
    [
        ("lat_lon", None, HOUR, "rate"),
        ("lat_lon_up", "360_day", "month", "amount"),
        ("metres", "standard", 10 * MINUTE, "amount"),
        ("km", None, DAY, "state"),
        ("rotated", "noleap", "month", "rate"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_dataset_passes_the_compliance_checker(tmp_path, grid, calendar, step, kind):
    runner = pytest.importorskip("compliance_checker.runner")
    units = {"rate": "kg m-2 s-1", "amount": "mm", "state": "K"}[kind]
    ds = make_dataset(grid, calendar=calendar, step=step, kind=kind, units=units)
    path, report = tmp_path / "out.nc", tmp_path / "report.txt"
    out = complete(ds, 3, 3, provenance={"seed": 0, "method": "mean"})
    out.to_netcdf(path)
    runner.CheckSuite.load_all_available_checkers()
    _, errors = runner.ComplianceChecker.run_checker(
        str(path), ["cf:1.11"], 0, "strict", output_filename=str(report)
    )
    text = report.read_text()
    assert not errors
    assert "Errors" not in text, text


# --- bad input


def test_unknown_label_raises():
    with pytest.raises(CFError, match=r"label='start': it is one of \['left'"):
        read_meaning(make(), label="start")


def test_empty_field_raises():
    with pytest.raises(DataError, match=r"'pr': it is empty, with sizes \{'time': 0"):
        read_meaning(make().isel(time=slice(0)))


@pytest.mark.parametrize("dtype", ["int16", "complex64", "bool"])
def test_other_dtypes_raise(dtype):
    with pytest.raises(DataError, match=rf"dtype is {dtype}.*astype\(\"float32\"\)"):
        read_meaning(make().astype(dtype))


def test_packed_values_raise():
    da = make()
    da.attrs |= {"scale_factor": 0.1, "_FillValue": -9.0}
    with pytest.raises(DataError, match=r"\['scale_factor', '_FillValue'\].*mask_and"):
        read_meaning(da)


def test_climatology_bounds_raise():
    da = make()
    da.time.attrs["climatology"] = "climatology_bnds"
    with pytest.raises(CFError, match="climatology bounds 'climatology_bnds'"):
        read_meaning(da)


def test_single_amount_raises():
    with pytest.raises(CFError, match=r"amount 'pr': 'time' has one time.*Dataset"):
        read_meaning(make(kind="amount", shape=(1, 3, 5)))


def test_single_rate_cannot_be_split():
    meaning = read(make(shape=(1, 3, 5)))
    with pytest.raises(CFError, match=r"single time of 'pr' into 3 steps.*Use t=1"):
        relabel(np.zeros((3, 3, 5)), meaning, 1, 3)


def test_missing_time_dimension_raises():
    with pytest.raises(CFError, match=r"da\.expand_dims\('time'\)"):
        read_meaning(make().isel(time=0))
    with pytest.raises(CFError, match=r"da\.expand_dims\(time=\[np\.datetime64"):
        read_meaning(make().isel(time=0, drop=True))
    undecoded = make().assign_coords(time=np.arange(4))
    undecoded.time.attrs["units"] = "hours since 2001-01-01"
    with pytest.raises(CFError, match=r"'time' is not decoded.*decode_cf"):
        read_meaning(undecoded)
    undecoded.time.attrs["standard_name"] = "time"
    with pytest.raises(CFError, match=r"'time': dtype int64 is not decoded"):
        read_meaning(undecoded)


def test_forecast_start_is_no_time_axis():
    da = make()
    da.time.attrs["standard_name"] = "forecast_reference_time"
    with pytest.raises(CFError, match="cannot find the time axis"):
        read_meaning(da)


def test_dimension_without_coordinate_is_no_axis():
    da = make().expand_dims(number=2)
    da = da.expand_dims(depth=[1.0])
    assert read(da).extra_dims == ("depth", "number")


def test_missing_spatial_axis_raises():
    with pytest.raises(CFError, match=r"cannot find the y axis \(latitude.*two horiz"):
        read_meaning(make().isel(lat=0, drop=True))
    with pytest.raises(CFError, match=r"cannot find the x axis .*standard_name"):
        read_meaning(make().drop_vars("lon"))


def test_curvilinear_grid_raises():
    da = make(grid="rotated").drop_vars(["rlat", "rlon"])
    da.lat.attrs.clear()
    with pytest.raises(CFError, match=r"\['lat', 'lon'\] are two-dimensional.*regrid"):
        read_meaning(da)


def test_latitude_along_another_dimension_raises():
    da = make().assign_coords(row=("lat", np.arange(3))).swap_dims(lat="row")
    with pytest.raises(CFError, match=r"swap_dims\(\{'row': 'lat'\}\)"):
        read_meaning(da)


def test_two_dimensions_of_one_role_raise():
    da = make().expand_dims(lat2=[1.0, 2.0])
    da["lat2"].attrs["standard_name"] = "latitude"
    with pytest.raises(CFError, match=r"\['lat2', 'lat'\] of 'pr' is the Y axis"):
        read_meaning(da)


def test_contradicting_axis_attributes_raise():
    da = make()
    da.lat.attrs["axis"] = "X"
    with pytest.raises(CFError, match=r"axis 'X' and standard_name 'latitude'.*= 'Y'"):
        read_meaning(da)


def test_mixed_axes_raise():
    da = make()
    da.lon.attrs = {"standard_name": "projection_x_coordinate", "units": "m"}
    with pytest.raises(GridError, match=r"'lat' and 'lon' together.*'degrees_north'"):
        read_meaning(da)


@pytest.mark.parametrize("units", ["", "radian", "nonsense"])
def test_unknown_axis_units_raise(units):
    da = make(grid="metres")
    da.y.attrs = {"axis": "Y", "units": units}
    with pytest.raises(
        GridError, match=r"cannot use the axis 'y': its units are .*\"m\""
    ):
        read_meaning(da)


def test_latitude_in_radians_raises():
    da = make()
    da.lat.attrs["units"] = "radian"
    with pytest.raises(GridError, match=r"'lat': its units are 'radian'.*degrees"):
        read_meaning(da)


def test_single_row_raises():
    with pytest.raises(GridError, match=r"along 'lat': it has one label, 50.*bounds"):
        read_meaning(make().isel(lat=slice(0, 1)))


def test_labels_that_are_no_numbers_raise():
    da = make().assign_coords(lat=("lat", [1.0, np.nan, 2.0], make().lat.attrs))
    with pytest.raises(GridError, match=r"'lat': its labels are not finite numbers"):
        read_meaning(da)


@pytest.mark.parametrize(
    ("lon", "match"),
    [
        ([0, 1, 1, 2, 3], r"not strictly monotone at index 1 \(1, then 1\).*sortby"),
        ([178, 179, -180, -179, -178], r"index 1 \(179, then -180\).*% 360"),
        ([0, 90, 180, 270, 360], r"span 450 degrees.*slice\(0, -1\)"),
    ],
)
def test_bad_longitudes_raise(lon, match):
    attrs = {"standard_name": "longitude"}
    da = make().assign_coords(lon=("lon", np.array(lon, float), attrs))
    with pytest.raises(GridError, match=match):
        read_meaning(da)


def test_latitude_beyond_the_pole_raises():
    da = make()
    da = da.assign_coords(lat=da.lat + 50)
    da.lat.attrs["standard_name"] = "latitude"
    with pytest.raises(GridError, match=r"latitude 100 is beyond the pole"):
        read_meaning(da)


def test_unequal_spacing_warns():
    da = make().assign_coords(lat=("lat", [50.0, 49.0, 40.0], make().lat.attrs))
    with pytest.warns(AssumptionWarning, match="varies from 1 to 9"):
        assert read_meaning(da).y_edges.tolist() == [50.5, 49.5, 44.5, 35.5]


def test_stale_spatial_bounds_raise():
    da = make()
    bounds = np.stack([da.lat + 0.125, da.lat - 0.125], axis=1)
    every_other = da.isel(lat=slice(None, None, 2))
    with pytest.raises(GridError, match=r"stale at index 0, where cell 50 has bounds"):
        read_meaning(every_other, bounds={"lat": bounds[::2]})
    with pytest.raises(GridError, match="stale at index 0"):
        read_meaning(da, bounds={"lat": bounds + 3})
    with pytest.raises(GridError, match=r"shape is \(3, 2\), not \(2, 2\)"):
        read_meaning(every_other, bounds={"lat": bounds})


@pytest.mark.parametrize("statistic", ["maximum", "minimum", "variance", "median"])
def test_other_statistics_raise(statistic):
    with pytest.raises(CFError, match=rf"say 'time: {statistic}'.*pass cell_methods="):
        read_meaning(make(cell_methods=f"time: {statistic}"))


@pytest.mark.parametrize(
    ("methods", "match"),
    [
        ("time: mean within days time: mean over years", "'within' or 'over' describe"),
        ("time: mean time: sum", r"several statistics over time, \['mean', 'sum'\]"),
        ("area: maximum time: mean", "cell_methods say 'maximum' over area"),
        ("time: sum", r"'time: sum' but units 'mm h-1' are those of a rate"),
        ("mean", "not of the form 'name: method'"),
    ],
)
def test_unusable_cell_methods_raise(methods, match):
    with pytest.raises(CFError, match=match):
        read_meaning(make(cell_methods=methods))


@pytest.mark.parametrize("methods", ["time: mean", "time: point"])
def test_amount_that_is_no_sum_raises(methods):
    with pytest.raises(CFError, match=r"units 'mm' are those of an amount.*time: sum"):
        read_meaning(make(kind="amount", cell_methods=methods))


def test_sum_of_another_quantity_raises():
    with pytest.raises(CFError, match=r"sums are split only for water.*Divide"):
        read_meaning(make(kind="state", cell_methods="time: sum"))


@pytest.mark.parametrize("flag", ["flag_values", "flag_meanings", "flag_masks"])
def test_categorical_field_raises(flag):
    da = make()
    da.attrs[flag] = "dry wet"
    with pytest.raises(CFError, match=f"{flag} say that it is categorical"):
        read_meaning(da)


def test_direction_raises():
    da = make(kind="state")
    da.attrs["standard_name"] = "wind_from_direction"
    with pytest.raises(
        CFError, match=r"'wind_from_direction' is a direction.*eastward"
    ):
        read_meaning(da)


def test_standard_name_against_units_raises():
    da = make(kind="amount", cell_methods=None)
    da.attrs["standard_name"] = "precipitation_flux"
    with pytest.raises(CFError, match=r"'precipitation_flux' is a rate but units 'mm'"):
        read_meaning(da)


def test_ambiguous_units_raise():
    da = make(name="u")
    for units in ("m s-1", "m"):
        da.attrs = {"units": units}
        with pytest.raises(CFError, match=rf"what 'u' is: units '{units}' fit.*Set da"):
            read_meaning(da)


def test_rain_in_other_units_raises():
    da = make()
    da.attrs["units"] = "K"
    with pytest.raises(UnitError, match="units 'K' are neither"):
        read_meaning(da)
    da.attrs["units"] = "mm/3h"
    with pytest.raises(UnitError, match="cannot read the units 'mm/3h'"):
        read_meaning(da)
    del da.attrs["units"]
    with pytest.raises(UnitError, match=r"'pr': it has no units.*Set da\.attrs"):
        read_meaning(da)


def test_irregular_times_raise_unless_bounds_explain_them():
    ds = make_dataset(shape=(6, 3, 5), label="left").isel(time=[0, 1, 2, 4, 5])
    with pytest.raises(CFError, match="irregular at index 2"):
        read_meaning(ds.pr)
    with pytest.raises(CFError, match="gap or overlap at index 2"):
        read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))


def test_duplicated_and_backward_times_raise():
    with pytest.raises(CFError, match="index 0 and 1 are the same"):
        read_meaning(make().isel(time=[0, 0, 1]))
    with pytest.raises(CFError, match="time runs backwards after index 0"):
        read_meaning(make().isel(time=slice(None, None, -1)))


def test_unknown_variable_raises():
    with pytest.raises(CFError, match=r"variable 'tp' in the Dataset; it has \['pr'"):
        bounds_of(make_dataset(), "tp")


def test_grids_that_do_not_nest_raise():
    coarse = read(make())
    with pytest.raises(GridError, match=r"grid of \(time, y, x\) \(4, 7, 5\)"):
        factors_between(read(make(shape=(4, 7, 5))), coarse)
    shifted = read(make().assign_coords(time=make().time + np.timedelta64(20, "m")))
    with pytest.raises(GridError, match=r"along 'time': edge 0 is .*label="):
        factors_between(shifted, coarse)


def test_coarsening_that_does_not_divide_raises():
    with pytest.raises(GridError, match=r"'lon' of size 5 by 3.*slice\(0, 3\)"):
        coarsened(read(make()), 3, 2)


def test_second_realization_dimension_raises():
    da = make().expand_dims(realization=[0, 1])
    meaning = read(da)
    with pytest.raises(CFError, match=r"'realization' to 'pr': it has one.*rename"):
        relabel(np.zeros((2, 2, 4, 3, 5)), meaning, 1, 1, realizations=[0, 1])
    assert relabel(np.zeros((2, 4, 3, 5)), meaning, 1, 1).dims[0] == "realization"


@pytest.mark.parametrize("shape", [(4, 3, 5), (12, 6, 9), (1, 12, 6, 10)])
def test_values_of_another_shape_raise(shape):
    meaning = read(make())
    with pytest.raises(
        GridError, match=r"cannot label values of shape .*\(12, 6, 10\)"
    ):
        relabel(np.zeros(shape), meaning, 2, 3)


def test_field_without_a_name_makes_no_dataset():
    ds = make_dataset()
    meaning = read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))
    out = relabel(ds.pr.values, meaning, 1, 1).rename(None)
    with pytest.raises(CFError, match=r"without a name.*da\.rename"):
        to_dataset(out, ds, meaning, 1, 1)


def test_import_is_light():
    code = (
        "import sys, xstsr.cf.read\n"
        "heavy = {'torch', 'dask', 'pint', 'cf_xarray', 'pint_xarray'}\n"
        "sys.exit(sorted(heavy & set(sys.modules)) or 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_region_across_greenwich_is_told_how_to_come_together():
    lon = np.array([357.5, 358.5, 359.5, 0.5, 1.5])
    remedy = r"assign_coords\(lon=\(da\['lon'\] \+ 180\) % 360 - 180\)"
    da = make(shape=(4, 3, 5)).assign_coords(lon=("lon", lon, make().lon.attrs))
    with pytest.raises(GridError, match=remedy):
        read_meaning(da)
    with pytest.raises(GridError, match=rf"over half the globe lies.*{remedy}.sortby"):
        read_meaning(da.sortby("lon"))
    mended = da.assign_coords(lon=(da.lon + 180) % 360 - 180)
    mended.lon.attrs = da.lon.attrs
    assert read_meaning(mended).x_edges.tolist() == [-3, -2, -1, 0, 1, 2]


@pytest.mark.parametrize(
    ("step_type", "statistic", "label"),
    [("avg", "mean", "right"), ("instant", "point", "left")],
)
def test_grib_step_type_tells_the_statistic_and_the_label(step_type, statistic, label):
    da = make(kind="state", cell_methods=None, label="right")
    da.attrs["GRIB_stepType"] = step_type
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        meaning = read_meaning(da)
    assert (meaning.statistic, meaning.time_label) == (statistic, label)


def test_sums_of_states_from_grib_are_refused():
    """ERA5's radiation [J m-2] and evaporation [m] are sums over each hour."""
    da = make(kind="state", units="J m-2", cell_methods=None, name="ssrd")
    da.attrs |= {"GRIB_stepType": "accum", "standard_name": "unknown"}
    with pytest.raises(CFError, match=r"'time: sum', and sums.*deaccumulate"):
        read_meaning(da)
    da.attrs["GRIB_stepType"] = "max"
    with pytest.raises(CFError, match="GRIB_stepType says 'time: maximum'"):
        read_meaning(da)


@pytest.mark.parametrize("name", ["cp", "lsp", "sf", "mcpr", "avg_lsprate"])
def test_other_rain_of_era5_ends_at_its_labels(name):
    amount = len(name) < 4
    choices = {"kind": "amount", "units": "m"} if amount else {"units": "kg m-2 s-1"}
    da = make(name=name, label="right", **choices)
    with pytest.warns(AssumptionWarning, match="ERA5 .* at the end of their steps"):
        assert read_meaning(da).time_label == "right"


@pytest.mark.parametrize(
    ("standard_name", "constraint"),
    [
        ("air_temperature", "additive"),
        ("eastward_wind", "additive"),
        ("tendency_of_specific_humidity", "additive"),
        ("surface_upward_latent_heat_flux", "additive"),
        ("wind_speed", "multiplicative"),
        ("specific_humidity", "multiplicative"),
        ("surface_downwelling_shortwave_flux_in_air", "multiplicative"),
        ("cloud_area_fraction", "multiplicative"),
        ("surface_snow_amount", "multiplicative"),
    ],
)
def test_what_has_no_values_below_zero_is_known_by_name(standard_name, constraint):
    da = make(kind="state", units="1").assign_attrs(standard_name=standard_name)
    assert read_meaning(da).constraint == constraint
