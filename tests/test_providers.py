"""Small fields with the metadata that real archives write, from end to end.

Kilograms are counted here from the bounds that are written, not by the package's own
areas: a wrong edge anywhere shows.
"""

import json
import warnings
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr

from xstsr.errors import AssumptionWarning

RADIUS = 6_371_007.2
NORTH = {"standard_name": "latitude", "units": "degrees_north"}
EAST = {"standard_name": "longitude", "units": "degrees_east"}


@dataclass
class Provider:
    """A Dataset, and what a person who knows the archive knows of it."""

    ds: xr.Dataset
    name: str
    edges: dict[str, np.ndarray]  # of time, y and x, in this order
    label: str
    to_mm: float  # mm h-1 per unit of a rate, mm per unit of an amount
    statistic: str = "mean"
    metres: float | None = None  # of a unit of length; None on the sphere
    warning: str | None = None
    factor: tuple[int, int] = (2, 2)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def field(self) -> xr.DataArray:
        return self.ds[self.name]


def rain(*shape, seed=0):
    """Intermittent rain of some mm h-1, float32 as archives have it."""
    rng = np.random.default_rng(seed)
    return np.maximum(rng.gamma(0.5, 2.0, shape) - 0.3, 0).astype("float32")


def hours(first, count, step, unit="m"):
    """Edges of `count` steps from a date."""
    start = np.datetime64(first, "ns")
    return start + np.timedelta64(1, unit) * (step * np.arange(count + 1))


def pairs(edges):
    return np.stack([edges[:-1], edges[1:]], axis=1)


def regular(first, step, count):
    """Edges of cells around labels, rounded as decimals are."""
    return np.round(first + step * (np.arange(count + 1) - 0.5), 9)


def middles(edges):
    return np.round((edges[:-1] + edges[1:]) / 2, 9)


def era5(name, values, attrs, warning, to_mm, statistic):
    """A file of the Climate Data Store since 2024: valid_time, at the end of hours."""
    time = hours("2020-06-01T00", values.shape[0], 60)
    lat, lon = regular(50.0, -0.25, 5), regular(5.0, 0.25, 4)
    dims = ("valid_time", "latitude", "longitude")
    attrs = {"GRIB_dataType": "fc", "GRIB_missingValue": 3.4e38, **attrs}
    ds = xr.Dataset(
        {name: (dims, values, attrs | {"standard_name": "unknown"})},
        {
            "number": ((), 0, {"standard_name": "realization", "units": "1"}),
            "valid_time": (dims[0], time[1:], {"standard_name": "time"}),
            "latitude": (dims[1], middles(lat), NORTH | {"stored_direction": "down"}),
            "longitude": (dims[2], middles(lon), EAST),
            "expver": (dims[0], np.full(values.shape[0], "0001")),
        },
        {"Conventions": "CF-1.7", "GRIB_centre": "ecmf"},
    )
    edges = {"valid_time": time, "latitude": lat, "longitude": lon}
    return Provider(ds, name, edges, "right", to_mm, statistic, warning=warning)


def era5_tp():
    attrs = {
        "GRIB_paramId": 228,
        "GRIB_stepType": "accum",
        "long_name": "Total precipitation",
        "units": "m",
    }
    return era5("tp", rain(6, 5, 4) / 1000, attrs, "end of their steps", 1000, "sum")


def era5_mtpr():
    attrs = {
        "GRIB_paramId": 235055,
        "GRIB_stepType": "avg",
        "long_name": "Mean total precipitation rate",
        "units": "kg m**-2 s**-1",
    }
    values = rain(6, 5, 4) / 3600
    told = "taken for a mean over each step|at the end of their steps"
    return era5("mtpr", values, attrs, told, 3600, "mean")


def sums_of(amounts, per):
    """Add up amounts from one restart to the next, in 16 bits of each field's range."""
    parts = np.split(amounts, range(per, len(amounts), per))
    sums = np.concatenate([np.cumsum(part, axis=0) for part in parts])
    step = sums.max(axis=(1, 2), keepdims=True) / (2**16 - 1)
    return (np.round(sums / step) * step).astype("float32")


def era5_land_sums():
    """Hours of a day and a quarter, in m: the sum of a day stands at its midnight."""
    amounts = rain(30, 5, 4).astype(float) / 1000
    known = era5("tp", sums_of(amounts, 24), ERA5_SUMS, None, 1000, "sum")
    return known.ds, amounts, list(known.edges.values())


ERA5_SUMS = {
    "GRIB_paramId": 228,
    "GRIB_stepType": "accum",
    "long_name": "Total precipitation",
    "units": "m",
}


def ifs_sums():
    """One forecast from GRIB: steps from the start on, a scalar time, valid_time."""
    amounts = rain(6, 5, 4).astype(float) / 1000
    start, steps = np.datetime64("2024-05-06T12", "ns"), np.arange(7) * 3
    ahead = steps * np.timedelta64(1, "h").astype("timedelta64[ns]")
    lat, lon = regular(50.0, -0.4, 5), regular(5.0, 0.4, 4)
    sums = np.concatenate([np.zeros((1, 5, 4), "float32"), sums_of(amounts, 6)])
    period = {"standard_name": "forecast_period", "long_name": "time since reference"}
    reference = {"standard_name": "forecast_reference_time"}
    valid = {"standard_name": "time"}
    ds = xr.Dataset(
        {"tp": (("step", "latitude", "longitude"), sums, dict(ERA5_SUMS))},
        {
            "number": ((), 0, {"standard_name": "realization", "units": "1"}),
            "time": ((), start, reference),
            "step": ("step", ahead, period),
            "surface": ((), 0.0, {"units": "1", "long_name": "level"}),
            "latitude": ("latitude", middles(lat), NORTH),
            "longitude": ("longitude", middles(lon), EAST),
            "valid_time": ("step", start + ahead, valid),
        },
        {"Conventions": "CF-1.7", "GRIB_centre": "ecmf"},
    )
    return ds, amounts, [start + ahead, lat, lon]


def seasonal_sums():
    """Months ahead: sums at the end of each day since the start, in m."""
    amounts = 24 * rain(8, 5, 4).astype(float) / 1000
    start, days = np.datetime64("2024-05-01", "ns"), np.arange(1, 9)
    lat, lon = regular(50.0, -1.0, 5), regular(5.0, 1.0, 4)
    ahead = {
        "standard_name": "forecast_period",
        "long_name": "time since forecast_reference_time",
        "units": "hours",
    }
    dims = ("forecast_reference_time", "forecast_period")
    valid = start + days * np.timedelta64(24, "h").astype("timedelta64[ns]")
    ds = xr.Dataset(
        {
            "tp": (
                (*dims, "latitude", "longitude"),
                sums_of(amounts, 8)[None],
                ERA5_SUMS,
            )
        },
        {
            "forecast_reference_time": (
                dims[:1],
                [start],
                {"standard_name": "forecast_reference_time"},
            ),
            "forecast_period": (dims[1:], 24 * days, ahead),
            "valid_time": (dims, valid[None], {"standard_name": "time"}),
            "latitude": ("latitude", middles(lat), NORTH),
            "longitude": ("longitude", middles(lon), EAST),
        },
        {"Conventions": "CF-1.7", "GRIB_centre": "ecmf"},
    )
    return ds, amounts, [np.concatenate([[start], valid]), lat, lon]


SUMS = {f.__name__: f for f in (era5_land_sums, ifs_sums, seasonal_sums)}


def amounts_of(which):
    """What an archive of sums holds once they are amounts."""
    ds, amounts, edges = SUMS[which]()
    resets = "24 hours" if which == "era5_land_sums" else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'tp' falls by up to", AssumptionWarning)
        made = ds.stsr.deaccumulate("tp", resets=resets)
    named = dict(zip(made.tp.dims, edges, strict=True))
    return Provider(made, "tp", named, "right", 1000, "sum"), amounts


def era5_land():
    return amounts_of("era5_land_sums")[0]


def ifs():
    return amounts_of("ifs_sums")[0]


def seasonal():
    return amounts_of("seasonal_sums")[0]


def cmip6():
    """Daily, noleap, over the end of February, on a Gaussian grid with bounds."""
    days = [(2, 27), (2, 28), (3, 1), (3, 2), (3, 3)]
    time = np.array([cftime.DatetimeNoLeap(2004, m, d) for m, d in days])
    noon = time[:-1] + np.timedelta64(12, "h").astype(object)
    lat = np.array([40.0, 42.79, 45.59, 48.37])
    lon = regular(0.0, 2.8125, 4)
    attrs = {
        "standard_name": "precipitation_flux",
        "long_name": "Precipitation",
        "comment": "includes both liquid and solid phases",
        "units": "kg m-2 s-1",
        "cell_methods": "area: time: mean",
        "cell_measures": "area: areacella",
        "history": "2019-08-05T00:00:00Z altered by CMOR",
    }
    ds = xr.Dataset(
        {
            "pr": (("time", "lat", "lon"), rain(4, 3, 4) / 86400, attrs),
            "time_bnds": (("time", "bnds"), pairs(time)),
            "lat_bnds": (("lat", "bnds"), pairs(lat)),
            "lon_bnds": (("lon", "bnds"), pairs(lon)),
        },
        {
            "time": ("time", noon, {"standard_name": "time", "bounds": "time_bnds"}),
            "lat": ("lat", (lat[1:] + lat[:-1]) / 2, NORTH | {"bounds": "lat_bnds"}),
            "lon": ("lon", middles(lon), EAST | {"bounds": "lon_bnds"}),
        },
        {"Conventions": "CF-1.7 CMIP-6.2", "variant_label": "r1i1p1f1"},
    )
    edges = {"time": time, "lat": lat, "lon": lon}
    return Provider(ds, "pr", edges, "mid", 3600, factor=(3, 2))


def imerg():
    """Half-hours in the Julian calendar, (time, lon, lat), labelled at the start."""
    minutes = "minutes since 2015-08-01"
    time = cftime.num2date(30 * np.arange(6), minutes, calendar="julian")
    lat, lon = regular(9.95, 0.1, 4), regular(-179.95, 0.1, 5)
    attrs = {
        "DimensionNames": "time,lon,lat",
        "Units": "mm/hr",
        "units": "mm/hr",
        "CodeMissingValue": "-9999.9",
        "LongName": "Complete merged microwave-infrared precipitation estimate",
    }
    ds = xr.Dataset(
        {
            "precipitation": (("time", "lon", "lat"), rain(5, 5, 4), attrs),
            "time_bnds": (("time", "nv"), pairs(time)),
            "lat_bnds": (("lat", "latv"), pairs(lat)),
            "lon_bnds": (("lon", "lonv"), pairs(lon)),
        },
        {
            "time": (
                "time",
                time[:-1],
                {"standard_name": "time", "bounds": "time_bnds", "axis": "T"},
            ),
            "lat": ("lat", middles(lat), NORTH | {"bounds": "lat_bnds", "axis": "Y"}),
            "lon": ("lon", middles(lon), EAST | {"bounds": "lon_bnds", "axis": "X"}),
        },
    )
    warning = "no cell_methods in time"
    edges = {"time": time, "lat": lat, "lon": lon}
    return Provider(
        ds, "precipitation", edges, "left", 1.0, warning=warning, factor=(5, 3)
    )


def e_obs():
    """Daily sums in mm without cell_methods: CF says that an amount is a sum."""
    time = hours("1950-01-01", 5, 1, "D")
    lat, lon = regular(47.05, 0.1, 4), regular(6.95, 0.1, 4)
    attrs = {
        "standard_name": "thickness_of_rainfall_amount",
        "long_name": "rainfall",
        "units": "mm",
    }
    values = 24 * rain(5, 4, 4)
    values[:, 0, 0] = np.nan  # sea
    ds = xr.Dataset(
        {"rr": (("time", "latitude", "longitude"), values, attrs)},
        {
            "time": ("time", time[:-1], {"standard_name": "time"}),
            # as in the file: 47.04986, not 47.05, would be another grid
            "latitude": ("latitude", middles(lat) + 1e-12, NORTH | {"axis": "Y"}),
            "longitude": ("longitude", middles(lon) - 1e-12, EAST | {"axis": "X"}),
        },
    )
    edges = {"time": time, "latitude": lat, "longitude": lon}
    return Provider(ds, "rr", edges, "left", 1.0, "sum", factor=(2, 4))


def chirps():
    """Days of rain in mm/day, with labels in single precision, from the south."""
    time = hours("2015-07-01", 4, 1, "D")
    lat, lon = regular(9.975, 0.05, 4), regular(38.025, 0.05, 5)
    attrs = {
        "units": "mm/day",
        "standard_name": "convective precipitation rate",
        "long_name": "Climate Hazards group InfraRed Precipitation with Stations",
        "time_step": "day",
        "geostatial_lat_min": -50.0,
        "geostatial_lat_max": 50.0,
    }
    dims = ("time", "latitude", "longitude")
    ds = xr.Dataset(
        {"precip": (dims, 24 * rain(4, 4, 5), attrs)},
        {
            "time": ("time", time[:-1], {"standard_name": "time", "axis": "T"}),
            "latitude": (dims[1], np.float32(middles(lat)), NORTH | {"axis": "Y"}),
            "longitude": (dims[2], np.float32(middles(lon)), EAST | {"axis": "X"}),
        },
        {"Conventions": "CF-1.6", "title": "CHIRPS Version 2.0"},
    )
    edges = {"time": time, "latitude": lat, "longitude": lon}
    warning = "no cell_methods in time"
    return Provider(ds, "precip", edges, "left", 1 / 24, warning=warning, factor=(5, 6))


def flat_lat_lon(rows, columns, *dims):
    lat, lon = np.meshgrid(
        50 + 0.045 * np.arange(rows), 9 + 0.07 * np.arange(columns), indexing="ij"
    )
    return {"lat": (dims, lat, NORTH), "lon": (dims, lon, EAST)}


def projected(y, x, unit):
    axes = {}
    for dim, edges in (("y", y), ("x", x)):
        attrs = {"standard_name": f"projection_{dim}_coordinate", "units": unit}
        axes[dim] = (dim, middles(edges), attrs)
    return axes


def hyras():
    """Daily sums from 06 to 06 UTC on an equal-area projection in metres."""
    time = hours("2010-07-01T06", 4, 1, "D")
    y, x = regular(2_962_500.0, 5000.0, 3), regular(4_022_500.0, 5000.0, 4)
    attrs = {
        "standard_name": "precipitation_amount",
        "long_name": "Daily Precipitation Sum",
        "units": "mm",
        "cell_methods": "time: sum",
        "grid_mapping": "crs_HYRAS",
    }
    crs = {
        "grid_mapping_name": "lambert_azimuthal_equal_area",
        "latitude_of_projection_origin": 52.0,
        "longitude_of_projection_origin": 10.0,
        "false_easting": 4_321_000.0,
        "false_northing": 3_210_000.0,
        "epsg_code": "EPSG:3035",
    }
    label = time[:-1] + np.timedelta64(12, "h")
    ds = xr.Dataset(
        {
            "pr": (("time", "y", "x"), 24 * rain(4, 3, 4), attrs),
            "time_bnds": (("time", "bnds"), pairs(time)),
            "crs_HYRAS": ((), np.int32(0), crs),
        },
        {
            "time": ("time", label, {"standard_name": "time", "bounds": "time_bnds"}),
            **projected(y, x, "m"),
            **flat_lat_lon(3, 4, "y", "x"),
        },
        {"Conventions": "CF-1.6", "title": "gridded precipitation"},
    )
    edges = {"time": time, "y": y, "x": x}
    return Provider(ds, "pr", edges, "mid", 1.0, "sum", 1.0, factor=(5, 3))


def mrms():
    """Rates every two minutes, from GRIB: north first, longitudes up to 360."""
    time = hours("2024-05-06T22:00", 6, 2)
    lat, lon = regular(36.995, -0.01, 4), regular(262.005, 0.01, 5)
    attrs = {
        "GRIB_shortName": "unknown",
        "long_name": "Radar Precipitation Rate",
        "standard_name": "unknown",
        "units": "mm/hr",
    }
    ds = xr.Dataset(
        {"PrecipRate": (("time", "latitude", "longitude"), rain(6, 4, 5), attrs)},
        {
            "time": ("time", time[:-1], {"standard_name": "time"}),
            "latitude": ("latitude", middles(lat), NORTH),
            "longitude": ("longitude", middles(lon), EAST),
            "heightAboveSea": ((), 0.0),
        },
    )
    edges = {"time": time, "latitude": lat, "longitude": lon}
    warning = "no cell_methods in time"
    return Provider(ds, "PrecipRate", edges, "left", 1.0, warning=warning)


def radar_composite():
    """Five-minute sums on a polar stereographic grid in km, labelled at the end."""
    time = hours("2010-08-26T04:00", 6, 5)
    y, x = regular(-3650.5, -1.0, 4), regular(0.5, 1.0, 4)
    attrs = {
        "standard_name": "precipitation_amount",
        "units": "kg m-2",
        "cell_methods": "time: sum (interval: 5 minutes)",
        "grid_mapping": "projection",
    }
    crs = {
        "grid_mapping_name": "polar_stereographic",
        "straight_vertical_longitude_from_pole": 0.0,
        "latitude_of_projection_origin": 90.0,
        "standard_parallel": 60.0,
    }
    values = rain(6, 4, 4) / 12
    values[:, :, 3] = np.nan  # out of range
    ds = xr.Dataset(
        {
            "rain": (("time", "y", "x"), values, attrs),
            "time_bnds": (("time", "nv"), pairs(time)),
            "projection": ((), np.int32(0), crs),
        },
        {
            "time": (
                "time",
                time[1:],
                {"standard_name": "time", "bounds": "time_bnds"},
            ),
            **projected(y, x, "km"),
        },
    )
    edges = {"time": time, "y": y, "x": x}
    return Provider(ds, "rain", edges, "right", 1.0, "sum", 1000.0, factor=(4, 5))


def euro_cordex():
    """Daily means on a rotated pole, years of 360 days, with true coordinates."""
    dates = [(1, 29), (1, 30), (2, 1), (2, 2), (2, 3)]
    time = np.array([cftime.Datetime360Day(2050, m, d) for m, d in dates])
    noon = time[:-1] + np.timedelta64(12, "h").astype(object)
    rlat, rlon = regular(-3.355, 0.11, 3), regular(-8.305, 0.11, 4)
    attrs = {
        "standard_name": "precipitation_flux",
        "long_name": "Precipitation",
        "units": "kg m-2 s-1",
        "cell_methods": "time: mean",
        "grid_mapping": "rotated_pole",
    }
    crs = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 39.25,
        "grid_north_pole_longitude": -162.0,
    }
    ds = xr.Dataset(
        {
            "pr": (("time", "rlat", "rlon"), rain(4, 3, 4) / 86400, attrs),
            "time_bnds": (("time", "bnds"), pairs(time)),
            "rotated_pole": ((), b"", crs),
        },
        {
            "time": ("time", noon, {"standard_name": "time", "bounds": "time_bnds"}),
            "rlat": (
                "rlat",
                middles(rlat),
                {"standard_name": "grid_latitude", "units": "degrees"},
            ),
            "rlon": (
                "rlon",
                middles(rlon),
                {"standard_name": "grid_longitude", "units": "degrees"},
            ),
            **flat_lat_lon(3, 4, "rlat", "rlon"),
            "height": ((), 2.0, {"units": "m", "standard_name": "height"}),
        },
        {"Conventions": "CF-1.4", "driving_model_id": "HadGEM2-ES"},
    )
    edges = {"time": time, "rlat": rlat, "rlon": rlon}
    return Provider(ds, "pr", edges, "mid", 3600)


PROVIDERS = {
    f.__name__: f
    for f in (
        era5_tp,
        era5_mtpr,
        era5_land,
        ifs,
        seasonal,
        cmip6,
        imerg,
        e_obs,
        chirps,
        hyras,
        mrms,
        radar_composite,
        euro_cordex,
    )
}


@cache
def upscaled(which):
    """The provider and its refined Dataset; what must be warned of is, and no more."""
    known = PROVIDERS[which]()
    s, t = known.factor

    def run():
        return known.ds.stsr.upscale(known.name, s, t, method="linear")

    if known.warning is None:
        return known, run()
    with pytest.warns(AssumptionWarning, match=known.warning):
        return known, run()


def lengths(edges):
    """Hours of the steps between times of either kind."""
    steps = np.diff(edges)
    if steps.dtype.kind == "m":
        return steps / np.timedelta64(1, "h")
    return np.array([step.total_seconds() / 3600 for step in steps])


def kilograms(values, known, edges):
    """Water in kg of values of shape (T, Y, X) on cells with these edges."""
    time, y, x = edges
    depth = values.astype(float) * known.to_mm
    if known.statistic != "sum":
        depth = depth * lengths(time)[:, None, None]
    if known.metres is None:
        sines = np.abs(np.diff(np.sin(np.deg2rad(y))))
        area = RADIUS**2 * sines[:, None] * np.abs(np.diff(np.deg2rad(x)))
    else:
        area = np.abs(np.diff(y))[:, None] * np.abs(np.diff(x)) * known.metres**2
    return float(np.nansum(depth * area))


def written_edges(fine, known):
    """Edges from the bounds variables of a Dataset, which must telescope."""
    found = []
    for dim in known.edges:
        bounds = fine[fine[dim].attrs["bounds"]].values
        np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1])
        found.append(np.append(bounds[:, 0], bounds[-1:, 1]))
    return found


def in_order(field, known):
    return field.transpose(*known.edges).values


every = pytest.mark.parametrize("which", sorted(PROVIDERS))


@every
def test_water_is_kept_to_the_kilogram(which):
    known, fine = upscaled(which)
    before = kilograms(in_order(known.field, known), known, known.edges.values())
    edges = written_edges(fine, known)
    after = kilograms(in_order(fine[known.name], known), known, edges)
    assert before > 0
    assert after == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize("which", sorted(SUMS))
def test_amounts_of_sums_hold_the_same_kilograms(which):
    """To the rounding of 16 bits, counted from the rain that was added up."""
    known, amounts = amounts_of(which)
    dim = next(iter(known.edges))
    bounds = known.ds[known.ds[dim].attrs["bounds"]].values
    np.testing.assert_array_equal(bounds, pairs(known.edges[dim]))
    found = kilograms(in_order(known.field, known), known, known.edges.values())
    expected = kilograms(amounts, known, known.edges.values())
    assert found == pytest.approx(expected, rel=5e-5)
    np.testing.assert_allclose(
        known.field, amounts, atol=amounts.sum(axis=0).max() / 2**15
    )
    assert float(known.field.min()) >= 0


@every
def test_every_coarse_edge_recurs_among_the_fine_ones(which):
    known, fine = upscaled(which)
    s, t = known.factor
    written = written_edges(fine, known)
    for edges, fine_edges, n in zip(
        known.edges.values(), written, (t, s, s), strict=True
    ):
        assert fine_edges.size == (edges.size - 1) * n + 1
        if edges.dtype.kind == "f":
            np.testing.assert_allclose(fine_edges[::n], edges, atol=1e-8)
        else:
            np.testing.assert_array_equal(fine_edges[::n], edges)


@every
def test_labels_stand_for_the_same_part_of_their_steps(which):
    known, fine = upscaled(which)
    edges = written_edges(fine, known)[0]
    time = fine[next(iter(known.edges))].values
    half = np.diff(edges) / 2
    expected = {"left": edges[:-1], "mid": edges[:-1] + half, "right": edges[1:]}
    np.testing.assert_array_equal(time, expected[known.label])


@every
def test_attributes_are_those_of_a_refined_field(which):
    known, fine = upscaled(which)
    before, after = known.field.attrs, fine[known.name].attrs
    assert after["cell_methods"] == f"time: {known.statistic} area: mean"
    assert after["units"] == before["units"]
    named = before.get("standard_name", "unknown").replace(" ", "_")
    assert after.get("standard_name") == (named if named != "unknown" else None)
    assert after.get("long_name") == before.get("long_name")
    assert after["cell_measures"] == "area: cell_area"
    assert after.get("grid_mapping") == before.get("grid_mapping")
    if "grid_mapping" in before:
        assert (
            fine[before["grid_mapping"]].attrs == known.ds[before["grid_mapping"]].attrs
        )
    s, t = known.factor
    assert (after["xstsr_s"], after["xstsr_t"]) == (s, t)
    assert f"upscale(s={s}, t={t}" in fine.attrs["history"]
    assert fine.attrs["Conventions"].startswith("CF-1.11")
    stale = {"ancillary_variables", "missing_value", "GRIB_missingValue"}
    assert not stale & set(after)


@every
def test_dims_and_dtype_stay(which):
    known, fine = upscaled(which)
    assert fine[known.name].dims == known.field.dims
    assert fine[known.name].dtype == np.float32
    assert np.nanmin(fine[known.name]) >= 0


@every
def test_missing_cells_stay_missing(which):
    known, fine = upscaled(which)
    s, t = known.factor
    gone = np.isnan(in_order(known.field, known))
    spread = gone.repeat(t, 0).repeat(s, 1).repeat(s, 2)
    np.testing.assert_array_equal(np.isnan(in_order(fine[known.name], known)), spread)


@every
def test_cell_areas_add_up_to_the_region(which):
    known, fine = upscaled(which)
    _, y, x = known.edges.values()
    ones = Provider(known.ds, known.name, known.edges, "left", 1.0, "sum", known.metres)
    whole = kilograms(np.ones((1, y.size - 1, x.size - 1)), ones, ([0, 1], y, x))
    assert float(fine.cell_area.sum()) == pytest.approx(whole, rel=1e-9)
    assert fine.cell_area.attrs["units"] == "m2"


@every
def test_coarsening_gives_the_archive_back(which):
    known, fine = upscaled(which)
    s, t = known.factor
    back = fine.stsr.coarsen(known.name, s, t)
    assert back[known.name].dims == known.field.dims
    np.testing.assert_allclose(back[known.name], known.field, rtol=2e-6)
    for dim in known.edges:
        given = known.ds[dim].values
        if given.dtype.kind == "f":
            np.testing.assert_allclose(back[dim], given, atol=1e-6)
        else:
            np.testing.assert_array_equal(back[dim], given)


@every
@pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
def test_receipt_counts_the_same_kilograms(which):
    """By DataArrays, which have no bounds: the label is all that must be said."""
    known = PROVIDERS[which]()
    s, t = known.factor
    fine = known.field.stsr.upscale(s, t, method="linear", label=known.label)
    receipt = fine.stsr.check(known.field, label=known.label)
    lines = dict(receipt.lines)
    counted = float(lines["water in"].split()[0])
    expected = kilograms(in_order(known.field, known), known, known.edges.values())
    # edges half-way between Gaussian latitudes are not quite those of the archive
    assert counted == pytest.approx(expected, rel=1e-2 if which == "cmip6" else 1e-5)
    assert float(lines["water out"].split()[0]) == pytest.approx(counted, rel=2e-6)
    assert receipt.relative < 1e-6
    assert receipt.lost == 0


def test_true_coordinates_are_refined_where_there_are_any():
    for which in ("hyras", "euro_cordex"):
        known, fine = upscaled(which)
        s, _ = known.factor
        dims = list(known.edges)[1:]
        assert fine.lat.dims == fine.lon.dims == tuple(dims)
        # steps of 0.045 and 0.07 degrees, in s parts
        rise = np.diff(fine.lat.values, axis=0)
        np.testing.assert_allclose(rise, 0.045 / s, rtol=1e-2)
        np.testing.assert_allclose(
            np.diff(fine.lon.values, axis=1), 0.07 / s, rtol=1e-2
        )


def test_coordinates_that_cannot_be_refined_are_dropped_with_a_note():
    known, fine = upscaled("era5_tp")
    assert "expver" in known.ds.coords
    assert "expver" not in fine.variables
    assert "'expver'" in fine.tp.attrs["xstsr_notes"]
    assert "number" in fine.coords


def test_instantaneous_radar_stays_instantaneous():
    known = mrms()
    fine = known.ds.stsr.upscale(
        known.name, 2, 2, method="linear", cell_methods="time: point"
    )
    assert fine.PrecipRate.attrs["cell_methods"] == "time: point area: mean"
    assert "bounds" not in fine.time.attrs
    assert "time_bnds" not in fine.variables
    np.testing.assert_array_equal(fine.time.values[::2], known.ds.time.values)


def test_packing_of_the_archive_is_not_inherited():
    known = cmip6()
    known.ds["pr"].encoding = {
        "scale_factor": 1e-6,
        "add_offset": 0.0,
        "dtype": "int16",
        "chunksizes": (1, 3, 4),
        "original_shape": (4, 3, 4),
    }
    fine = known.ds.stsr.upscale("pr", 2, 2, method="linear")
    assert not {"scale_factor", "add_offset", "chunksizes"} & set(fine.pr.encoding)
    assert (
        "cell_measures"
        not in known.ds["pr"].stsr.upscale(2, method="linear", label="mid").attrs
    )


def test_calendars_and_reference_dates_are_kept():
    for which, calendar in (
        ("cmip6", "noleap"),
        ("euro_cordex", "360_day"),
        ("imerg", "julian"),
    ):
        _, fine = upscaled(which)
        assert fine.time.values[0].calendar == calendar
        assert fine.time.encoding["calendar"] == calendar


# what the archives' own metadata lack, and no result can make up for
FAULTS = {
    "imerg": "variable precipitation",
    "hyras": 'Units "mm" for variable pr',
    "mrms": "variable heightAboveSea",
    "euro_cordex": "height: vertical coordinates",
}


@every
@pytest.mark.filterwarnings("ignore")
def test_results_are_compliant_but_for_the_faults_of_the_archive(which, tmp_path):
    runner = pytest.importorskip(
        "compliance_checker.runner", reason="compliance-checker is not installed"
    )
    runner.CheckSuite.load_all_available_checkers()
    known, fine = upscaled(which)
    results = {"fine": fine}
    if known.metres is None:
        results["regridded"] = fine.stsr.regrid(known.name, "0.2 degrees")
    if f"{which}_sums" in SUMS:
        results["amounts"] = known.ds
    for name, ds in results.items():
        path, report = tmp_path / f"{name}.nc", tmp_path / f"{name}.json"
        ds.to_netcdf(path)
        runner.ComplianceChecker.run_checker(
            str(path),
            ["cf:1.11"],
            0,
            "strict",
            output_filename=str(report),
            output_format="json",
        )
        found = json.loads(report.read_text(encoding="utf-8"))["cf:1.11"]
        errors = [m for p in found["high_priorities"] for m in p["msgs"]]
        fault = FAULTS.get(which)
        assert not [m for m in errors if fault is None or fault not in m], errors
