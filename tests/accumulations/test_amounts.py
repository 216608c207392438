"""Sums since a forecast's start become amounts of each step."""

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xstsr
from xstsr.accumulations.restarts import Jitter, find_restarts, increments
from xstsr.cf.read import read_meaning
from xstsr.cf.units import hours_per, per_second, registry
from xstsr.errors import AssumptionWarning, CFError, DataError, UnitError

HOUR = np.timedelta64(1, "h").astype("timedelta64[ns]")
NORTH = {"standard_name": "latitude", "units": "degrees_north"}
EAST = {"standard_name": "longitude", "units": "degrees_east"}


def rain(steps, seed=0):
    """Intermittent amounts in m, float64, on 3 by 4 cells."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.gamma(0.4, 2.0, (steps, 3, 4)) - 0.8, 0) / 1000


def space():
    return {
        "latitude": ("latitude", [50.0, 49.75, 49.5], NORTH),
        "longitude": ("longitude", [5.0, 5.25, 5.5, 5.75], EAST),
    }


def summed(amounts, per, first=0):
    """Add up amounts, beginning anew every `per` steps; `first` have gone before."""
    sums = np.empty_like(amounts)
    for i, amount in enumerate(amounts):
        anew = i == 0 or (i + first) % per == 0
        sums[i] = amount if anew else sums[i - 1] + amount
    return sums


def along_time(sums, start="2020-06-01T00", step=1, units="m", dim="valid_time"):
    """As ERA5-Land: labels at the end of hours, sums since midnight."""
    time = np.datetime64(start, "ns") + step * HOUR * np.arange(1, len(sums) + 1)
    attrs = {"units": units, "long_name": "Total precipitation"}
    coords = {dim: (dim, time, {"standard_name": "time"}), **space()}
    dims = (dim, "latitude", "longitude")
    return xr.DataArray(sums, coords, dims, "tp", attrs)


def forecast(sums, steps, start="2020-06-01T12"):
    """As cfgrib gives one forecast: step, and a scalar time."""
    zero, ahead = np.datetime64(start, "ns"), np.asarray(steps) * HOUR
    coords = {
        "time": ((), zero, {"standard_name": "forecast_reference_time"}),
        "step": ("step", ahead, {"standard_name": "forecast_period"}),
        "valid_time": ("step", zero + ahead, {"standard_name": "time"}),
        "number": ((), 0),
        **space(),
    }
    dims = ("step", "latitude", "longitude")
    return xr.DataArray(sums, coords, dims, "tp", {"units": "m"})


quiet = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")

# closed form


def test_amounts_are_what_sums_grew_by():
    da = along_time(summed(rain(48), 24))
    made = da.stsr.deaccumulate(resets="24 hours")
    assert made.dims == da.dims
    np.testing.assert_allclose(made, rain(48), atol=1e-15)
    np.testing.assert_array_equal(made.valid_time, da.valid_time)
    assert made.attrs["cell_methods"] == "time: sum"
    assert made.attrs["units"] == "m"
    assert "deaccumulate(resets=24 hours, rate=false)" in made.attrs["history"]


def test_first_sum_of_an_unknown_start_is_left_out():
    """From 07:00 on the first label is a sum over seven hours."""
    da = along_time(summed(rain(30), 24, first=6), start="2020-06-01T06")
    made = da.stsr.deaccumulate(resets="24 hours")
    np.testing.assert_allclose(made, rain(30)[1:], atol=1e-15)
    assert made.valid_time.values[0] == np.datetime64("2020-06-01T08")


def test_restarts_at_given_times():
    """A restart before the first label makes the first step whole, however long."""
    sums = np.array([3.0, 4.0, 1.0, 1.5])[:, None, None] * np.ones((4, 3, 4))
    da = along_time(sums, units="mm")
    hour = da.valid_time.values
    made = da.stsr.deaccumulate(resets=[hour[0] - 3 * HOUR, hour[1]])
    np.testing.assert_allclose(made[:, 0, 0], [3.0, 1.0, 1.0, 0.5])
    late = da.stsr.deaccumulate(resets=[hour[1]])
    np.testing.assert_allclose(late[:, 0, 0], [1.0, 1.0, 0.5])
    ds = da.to_dataset().stsr.deaccumulate("tp", resets=[hour[0] - 3 * HOUR, hour[1]])
    assert ds.valid_time_bnds.values[0, 0] == hour[0] - 3 * HOUR


def test_falls_tell_restarts_also_where_it_was_dry():
    """Of four nights two are seen; the others follow, for restarts are a day apart."""
    amounts = rain(96)
    amounts[24:48] = 0.0  # dry: the sum before the second night falls, that after not
    with pytest.warns(AssumptionWarning, match=r"begin anew every 24 hours, 4 times"):
        made = along_time(summed(amounts, 24)).stsr.deaccumulate()
    np.testing.assert_allclose(made, amounts, atol=1e-15)


def test_one_fall_is_one_restart():
    with pytest.warns(AssumptionWarning, match="begin anew where values fall, 1 times"):
        made = along_time(summed(rain(30), 24)).stsr.deaccumulate()
    np.testing.assert_allclose(made, rain(30)[1:], atol=1e-15)


def test_restarts_of_other_intervals_are_found():
    """Forecasts of twelve hours, joined by someone else."""
    with pytest.warns(AssumptionWarning, match="every 12 hours, 5 times"):
        made = along_time(summed(rain(60), 12)).stsr.deaccumulate()
    np.testing.assert_allclose(made, rain(60), atol=1e-15)


def test_jitter_is_repaired_by_the_greatest_sum_so_far():
    """A plateau that rounding shakes gives no rain; cutting at zero would."""
    sums = np.array([1.0, 5.0, 4.99, 5.0, 4.98, 6.0])[:, None, None] * np.ones(
        (6, 3, 4)
    )
    da = along_time(sums, units="mm")
    with pytest.warns(AssumptionWarning, match=r"'tp' falls by up to 0\.02 between"):
        made = da.stsr.deaccumulate(resets="24 hours")
    np.testing.assert_allclose(made[:, 0, 0], [1, 4, 0, 0, 0, 1], atol=1e-12)
    assert float(made[:, 0, 0].sum()) == pytest.approx(6.0)


@given(st.integers(0, 1000), st.sampled_from([12, 14, 16]))
@quiet
def test_packing_costs_no_more_than_its_own_rounding(seed, bits):
    """Each field in some bits of its own greatest value, as GRIB holds it."""
    sums = summed(rain(48, seed), 24)
    scale = sums.max(axis=(1, 2), keepdims=True) / (2**bits - 1) + 1e-30
    packed = along_time(np.round(sums / scale) * scale)
    made = packed.stsr.deaccumulate(resets="24 hours")
    assert float(made.min()) >= 0
    for day in (slice(0, 24), slice(24, 48)):
        total, given_total = (
            made[day].sum("valid_time"),
            rain(48, seed)[day].sum(axis=0),
        )
        np.testing.assert_allclose(total, given_total, atol=float(scale.max()))


def test_missing_sums_make_both_neighbours_missing():
    sums = summed(rain(24), 24)
    sums[5, 1, 2] = np.nan
    made = along_time(sums).stsr.deaccumulate(resets="24 hours")
    gone = np.isnan(made.values)
    assert gone[5:7, 1, 2].all()
    assert gone.sum() == 2


def test_rates_are_amounts_over_the_length_of_steps():
    da = forecast(np.cumsum(rain(4), axis=0), [6, 12, 24, 48])
    made = da.stsr.deaccumulate(rate=True)
    seconds = np.array([6, 6, 12, 24])[:, None, None] * 3600.0
    np.testing.assert_allclose(made, rain(4) / seconds, atol=1e-18)
    assert made.attrs["units"] == "m s-1"
    assert made.attrs["cell_methods"] == "time: mean"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("precipitation_amount", "precipitation_flux"),
        ("lwe_thickness_of_precipitation_amount", "lwe_precipitation_rate"),
        ("canopy_water_amount", None),
        (
            "integral_wrt_time_of_surface_net_downward_shortwave_flux",
            "surface_net_downward_shortwave_flux",
        ),
    ],
)
def test_rates_are_named_as_rates(before, after):
    da = along_time(summed(rain(24), 24)).assign_attrs(standard_name=before)
    made = da.stsr.deaccumulate(resets="24 hours", rate=True)
    assert made.attrs.get("standard_name") == after


def test_signed_amounts_are_left_as_they_are():
    """Evaporation and heat: sums fall because amounts are negative."""
    amounts = rain(24) - 0.001
    da = along_time(summed(amounts, 24)).assign_attrs(units="J m-2")
    made = da.stsr.deaccumulate(resets="24 hours", signed=True, rate=True)
    np.testing.assert_allclose(made, amounts / 3600, atol=1e-15)
    assert made.attrs["units"] == "J m-2 s-1"


def test_months_without_leap_days_restart_at_midnight_too():
    """noleap: the day after 28 February is 1 March."""
    da = along_time(summed(rain(8), 4, first=0), step=6)
    times = cftime.num2date(
        6 * np.arange(1, 9), "hours since 2004-02-28", calendar="noleap"
    )
    da = da.assign_coords(valid_time=("valid_time", times, {"standard_name": "time"}))
    made = da.to_dataset().stsr.deaccumulate("tp", resets="1 day")
    np.testing.assert_allclose(made.tp, rain(8), atol=1e-15)
    assert made.valid_time.values[-1] == cftime.DatetimeNoLeap(2004, 3, 2)
    assert made.valid_time_bnds.values[0, 0] == cftime.DatetimeNoLeap(2004, 2, 28)


# forecasts


def test_forecast_steps_become_times_with_bounds():
    steps = [0, 6, 12, 24, 48]
    sums = np.concatenate([np.zeros((1, 3, 4)), np.cumsum(rain(4), axis=0)])
    ds = forecast(sums, steps).to_dataset().stsr.deaccumulate("tp")
    assert ds.tp.dims == ("time", "latitude", "longitude")
    np.testing.assert_allclose(ds.tp, rain(4), atol=1e-15)
    edges = np.datetime64("2020-06-01T12", "ns") + np.asarray(steps) * HOUR
    np.testing.assert_array_equal(ds.time, edges[1:])
    expected = np.stack([edges[:-1], edges[1:]], axis=1)
    np.testing.assert_array_equal(ds.time_bnds, expected)
    assert ds.forecast_reference_time.values == edges[0]
    assert set(ds.coords) == {
        "time", "latitude", "longitude", "number", "forecast_reference_time"
    }  # fmt: skip


def test_steps_in_hours_are_read_as_steps():
    """The Climate Data Store's netCDF, where decode_timedelta is off."""
    da = forecast(np.cumsum(rain(3), axis=0), [24, 48, 72])
    attrs = {"standard_name": "forecast_period", "units": "hours"}
    numbers = da.rename(step="forecast_period", time="forecast_reference_time")
    numbers = numbers.assign_coords(
        forecast_period=("forecast_period", [24, 48, 72], attrs)
    )
    np.testing.assert_array_equal(
        numbers.stsr.deaccumulate().values, da.stsr.deaccumulate().values
    )


def joined(amounts, starts, per):
    """Forecasts from several starts, as (time, step)."""
    parts = [
        forecast(
            np.cumsum(amounts[i * per : (i + 1) * per], axis=0), range(1, per + 1), s
        )
        for i, s in enumerate(starts)
    ]
    return xr.concat(parts, "time", coords=["valid_time"], compat="equals")


def test_forecasts_that_follow_each_other_become_one_series():
    amounts = rain(36)
    starts = ["2020-06-01T06", "2020-06-01T18", "2020-06-02T06"]
    da = joined(amounts, starts, 12).transpose("latitude", "time", "step", "longitude")
    made = da.stsr.deaccumulate()
    assert made.dims == ("latitude", "time", "longitude")
    np.testing.assert_allclose(made.transpose("time", ...), amounts, atol=1e-15)
    assert np.all(np.diff(made.time) == HOUR)
    ds = da.to_dataset().stsr.deaccumulate("tp")
    np.testing.assert_array_equal(ds.time_bnds[1:, 0], ds.time_bnds[:-1, 1])


def test_ensemble_of_forecasts_keeps_its_numbers():
    da = forecast(np.cumsum(rain(3), axis=0), [24, 48, 72]).drop_vars("number")
    both = xr.concat([da, 2 * da], xr.Variable("number", [0, 1]), coords="minimal")
    made = both.stsr.deaccumulate()
    assert made.dims == ("number", "time", "latitude", "longitude")
    np.testing.assert_allclose(made[1], 2 * rain(3), atol=1e-15)


# whatever holds them


@pytest.mark.parametrize("chunks", [1, 7, 24])
def test_chunked_sums_stay_lazy(no_compute, chunks):
    da = along_time(summed(rain(60), 24))
    with no_compute():
        lazy = da.chunk(valid_time=chunks, latitude=2).stsr.deaccumulate(resets="1 day")
    assert lazy.chunks[0] == (24, 24, 12)
    np.testing.assert_array_equal(lazy.compute(), da.stsr.deaccumulate(resets="1 day"))
    steps = forecast(np.cumsum(rain(4), axis=0), [6, 12, 18, 24])
    with no_compute():
        later = steps.chunk(step=1).stsr.deaccumulate(rate=True)
    np.testing.assert_array_equal(later.compute(), steps.stsr.deaccumulate(rate=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantified_sums_come_back_quantified():
    pytest.importorskip("pint_xarray")
    da = along_time(summed(rain(24), 24))
    quantified = da.pint.quantify(
        {"latitude": None, "longitude": None}, unit_registry=registry()
    )
    made = quantified.stsr.deaccumulate(resets="24 hours", rate=True)
    assert f"{made.data.units:cf}" == "m s-1"
    np.testing.assert_allclose(made.data.magnitude, rain(24) / 3600, atol=1e-18)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_and_further_coordinates_stay(dtype):
    da = along_time(summed(rain(24), 24).astype(dtype))
    da = da.assign_coords(expver=("valid_time", ["0001"] * 24), height=2.0)
    made = da.stsr.deaccumulate(resets="24 hours")
    assert made.dtype == dtype
    assert made.expver.dims == ("valid_time",)
    assert float(made.height) == 2.0


def test_result_is_read_as_amounts_at_the_end_of_steps():
    made = along_time(summed(rain(24), 24)).stsr.deaccumulate(resets="24 hours")
    tp = read_meaning(made)
    assert (tp.kind, tp.time_label) == ("amount", "right")
    named = read_meaning(
        made.rename("rainfall").assign_attrs(standard_name="rainfall_amount")
    )
    assert (named.kind, named.time_label) == ("amount", "right")


def test_dataset_keeps_bounds_mapping_and_attributes():
    ds = along_time(summed(rain(24), 24)).to_dataset().assign_attrs(title="land")
    ds["crs"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    ds["tp"].attrs["grid_mapping"] = "crs"
    ds["lat_b"] = (("latitude", "nv"), np.array([[50.1, 49.9]] * 3))
    ds.latitude.attrs["bounds"] = "lat_b"
    made = ds.stsr.deaccumulate("tp", resets="24 hours")
    assert {"lat_b", "crs", "valid_time_bnds"} <= set(made.variables)
    assert made.tp.attrs["grid_mapping"] == "crs"
    assert made.attrs["title"] == "land"
    assert "deaccumulate(" in made.attrs["history"]
    assert "xstsr_label" not in made.valid_time.attrs


def test_functions_and_accessors_agree():
    da = along_time(summed(rain(24), 24))
    np.testing.assert_array_equal(
        xstsr.deaccumulate(da, resets="24 h"), da.stsr.deaccumulate(resets="24 h")
    )


# bad input


def test_amounts_are_no_sums():
    """ERA5's hourly tp: falls after every other hour."""
    da = along_time(rain(48))
    with pytest.raises(DataError, match=r"at no regular interval. They are amounts"):
        da.stsr.deaccumulate()
    with pytest.raises(DataError, match=r"they fall by .* before step \d+ after a"):
        da.stsr.deaccumulate(resets="24 hours")


def test_fall_that_rounding_does_not_explain_is_refused():
    sums = summed(rain(24), 24)
    sums[10] -= 0.002
    da = along_time(sums)
    with pytest.raises(DataError, match=r"before step 10 .*pass jitter=0\.002"):
        da.stsr.deaccumulate(resets="24 hours")
    with pytest.warns(AssumptionWarning, match="falls by up to 0.002"):
        da.stsr.deaccumulate(resets="24 hours", jitter=0.0021)
    with pytest.raises(DataError, match="before step 10"):
        da.chunk(valid_time=6).stsr.deaccumulate(resets="24 hours").compute()


def test_restarts_of_chunked_or_signed_values_must_be_told():
    da = along_time(summed(rain(24), 24))
    with pytest.raises(DataError, match=r"values are chunked. Pass resets="):
        da.chunk().stsr.deaccumulate()
    with pytest.raises(DataError, match=r"values are signed. Pass resets="):
        da.stsr.deaccumulate(signed=True)


def test_restart_between_two_times_is_refused():
    da = along_time(summed(rain(8), 8), start="2020-06-01T01", step=5)
    with pytest.raises(
        CFError, match=r"'valid_time', 2020-06-01T21.* and 2020-06-02T02"
    ):
        da.stsr.deaccumulate(resets="24 hours")
    with pytest.raises(CFError, match=r"2020-06-01T06:00:00 and 2020-06-01T11:00:00"):
        da.stsr.deaccumulate(resets=[np.datetime64("2020-06-01T08")])


@pytest.mark.parametrize("resets", ["daily", "5 parsnips", "0 h", "3 mm", "1.2.3 h"])
def test_interval_that_is_none_is_refused(resets):
    with pytest.raises(CFError, match=f"cannot read resets={resets!r}"):
        along_time(rain(4)).stsr.deaccumulate(resets=resets)


def test_restarts_of_another_calendar_are_refused():
    with pytest.raises(CFError, match="calendar 'noleap': 'valid_time' has 'standard'"):
        along_time(rain(4)).stsr.deaccumulate(
            resets=[cftime.DatetimeNoLeap(2020, 6, 1)]
        )


def test_restarts_of_forecasts_are_their_starts():
    with pytest.raises(
        CFError, match="resets='1 day' with 'tp': along 'step' it counts"
    ):
        forecast(rain(2), [1, 2]).stsr.deaccumulate(resets="1 day")


def test_forecasts_that_overlap_are_refused():
    da = joined(rain(24), ["2020-06-01T06", "2020-06-01T12"], 12)
    with pytest.raises(CFError, match=r"number 1 begins 6 hours after .*end after 12"):
        da.stsr.deaccumulate()


def test_forecast_without_a_start_is_refused():
    da = forecast(rain(2), [1, 2]).drop_vars(["time", "valid_time"])
    with pytest.raises(
        CFError, match="cannot find when the forecast along 'step' began"
    ):
        da.stsr.deaccumulate()


@pytest.mark.parametrize("steps", [[0], [-6, 6]])
def test_steps_before_the_start_are_refused(steps):
    with pytest.raises(CFError, match=r"they begin -?[06] hours after the start"):
        forecast(rain(len(steps)), steps).stsr.deaccumulate()


def test_single_sum_of_an_unknown_start_is_refused():
    da = along_time(rain(1))
    with pytest.raises(CFError, match="'valid_time' has one time and it is unknown"):
        da.stsr.deaccumulate(resets=[np.datetime64("2030-01-01")])
    with (
        pytest.warns(AssumptionWarning, match="begin anew"),
        pytest.raises(CFError, match="'valid_time' has one time and it is unknown"),
    ):
        da.stsr.deaccumulate()
    made = da.stsr.deaccumulate(resets="1 hour")
    np.testing.assert_array_equal(made, da)


@pytest.mark.parametrize("jitter", ["x", -1, np.nan, np.inf])
def test_jitter_that_is_no_fall_is_refused(jitter):
    with pytest.raises(DataError, match=rf"jitter={jitter!r}: it is how far sums"):
        along_time(rain(3)).stsr.deaccumulate(resets="1 hour", jitter=jitter)


def test_field_without_time_is_refused():
    da = xr.DataArray(np.zeros((2, 2)), dims=("a", "b"), name="tp")
    with pytest.raises(CFError, match="cannot find the time axis of 'tp'"):
        da.stsr.deaccumulate()


def test_rate_without_units_is_refused():
    da = along_time(summed(rain(4), 4))
    for units in ("", "parsnips"):
        with pytest.raises(UnitError, match=f"its units are '{units}'"):
            da.assign_attrs(units=units).stsr.deaccumulate(resets="1 day", rate=True)


def test_unknown_variable_is_refused():
    ds = along_time(rain(4)).to_dataset()
    with pytest.raises(CFError, match="cannot find the variable 'ssrd'"):
        ds.stsr.deaccumulate("ssrd")


def test_units_of_time_are_read():
    assert hours_per("days") == 24
    assert per_second("kg m-2") == "kg m-2 s-1"
    with pytest.raises(UnitError, match="cannot use 'm' as a unit of time"):
        hours_per("m")


# arrays


@given(st.integers(0, 1000), st.booleans())
def test_increments_add_up_to_the_last_sum(seed, from_zero):
    sums = np.cumsum(rain(12, seed), axis=0)
    grown, fell = increments(sums, from_zero=from_zero, jitter=Jitter(0.0))
    first = 0.0 if from_zero else sums[0]
    np.testing.assert_allclose(grown.sum(axis=0), sums[-1] - first, atol=1e-15)
    assert fell == 0.0


def test_dry_sums_have_no_restart():
    labels = np.arange(1, 49) * 3_600_000_000
    begins, every = find_restarts(np.zeros((48, 3)), labels, Jitter())
    assert not begins.any()
    assert every is None
