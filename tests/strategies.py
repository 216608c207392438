"""Hypothesis strategies and builders of fields with CF metadata.

`make` builds one field from plain choices; `cf_dataarrays` draws the choices. What is
built is what files hold: labels exactly where cells are, units that fit the quantity.
"""

from collections.abc import Callable

import cftime
import hypothesis.strategies as st
import numpy as np
import xarray as xr
from hypothesis.extra import numpy as hnp

from xstsr.cf.times import DAY, from_micros
from xstsr.geometry.cells import LABELS, labels_from_edges, refine_edges

HOUR = 3_600_000_000
MINUTE = 60_000_000
CALENDARS = (None, "standard", "noleap", "360_day")
RATES = ("kg m-2 s-1", "mm h-1", "mm/h", "m s**-1", "mm d-1", "mm day-1")
AMOUNTS = ("mm", "m", "kg m-2", "kg m**-2")
GRIDS = ("lat_lon", "lat_lon_up", "lon_360", "metres", "km", "rotated")
STANDARD_NAMES = {  # by kind, and by mass (True) or depth (False)
    ("rate", True): "precipitation_flux",
    ("rate", False): "lwe_precipitation_rate",
    ("amount", True): "precipitation_amount",
    ("amount", False): "lwe_thickness_of_precipitation_amount",
    ("state", False): "air_temperature",
}


def month_edges(n: int, calendar: str | None) -> np.ndarray:
    """Edges of ``n`` months from January 2001, shape (n + 1,), microseconds."""
    if calendar is None:
        months = np.arange(np.datetime64("2001-01"), np.datetime64("2001-01") + n + 1)
        return months.astype("datetime64[us]").astype(np.int64)
    dates = [
        cftime.datetime(2001 + i // 12, i % 12 + 1, 1, calendar=calendar)
        for i in range(n + 1)
    ]
    epoch = "microseconds since 1970-01-01"
    return np.asarray(cftime.date2num(dates, epoch, calendar=calendar), np.int64)


def time_edges(n: int, step: int | str, calendar: str | None) -> np.ndarray:
    """Edges of ``n`` steps of ``step`` microseconds (or "month") from 2001-01-01."""
    if step == "month":
        return month_edges(n, calendar)
    return month_edges(1, calendar)[0] + np.arange(n + 1, dtype=np.int64) * int(step)


def _axis(start: float, step: float, n: int) -> np.ndarray:
    return np.round(start + step * np.arange(n), 9)


def space_coords(grid: str, ny: int, nx: int) -> dict[str, tuple]:
    """Coordinates of a grid by name, y first."""
    if grid in ("metres", "km"):
        step, unit = (1000.0, "m") if grid == "metres" else (1.0, "km")
        return {
            axis: (
                axis,
                _axis(start, step * sign, n),
                {"standard_name": f"projection_{axis}_coordinate", "units": unit},
            )
            for axis, start, sign, n in (("y", 40 * step, -1, ny), ("x", 0.0, 1, nx))
        }
    if grid == "rotated":
        y = ("rlat", _axis(-3.0, 0.11, ny), {"standard_name": "grid_latitude"})
        x = ("rlon", _axis(2.0, 0.11, nx), {"standard_name": "grid_longitude"})
        coords = {"rlat": y, "rlon": x}
        for _, _, attrs in coords.values():
            attrs["units"] = "degrees"
        lat, lon = np.meshgrid(48 + y[1], 10 + 1.5 * x[1], indexing="ij")
        coords["lat"] = (("rlat", "rlon"), lat, _lat_attrs("latitude", "north"))
        coords["lon"] = (("rlat", "rlon"), lon, _lat_attrs("longitude", "east"))
        return coords
    up = grid == "lat_lon_up"
    west = 350.0 if grid == "lon_360" else -5.0
    step = 0.25 if grid != "lon_360" else 0.05
    return {
        "lat": (
            "lat",
            _axis(50, step if up else -step, ny),
            _lat_attrs("latitude", "north"),
        ),
        "lon": ("lon", _axis(west, step, nx), _lat_attrs("longitude", "east")),
    }


def _lat_attrs(word: str, compass: str) -> dict[str, str]:
    return {"standard_name": word, "units": f"degrees_{compass}"}


def make(
    values: np.ndarray | None = None,
    *,
    shape: tuple[int, int, int] = (4, 3, 5),
    kind: str = "rate",
    units: str | None = None,
    cell_methods: str | None = "",
    grid: str = "lat_lon",
    step: int | str = HOUR,
    calendar: str | None = None,
    label: str = "left",
    resolution: str = "ns",
    dtype: str = "float32",
    name: str = "pr",
) -> xr.DataArray:
    """Build a field of shape (T, Y, X); ``cell_methods=""`` writes the usual ones."""
    if values is None:
        values = np.linspace(0, 2, int(np.prod(shape))).reshape(shape)
    n_time, ny, nx = values.shape
    usual_units = {"rate": "mm h-1", "amount": "mm", "state": "K"}[kind]
    standard_name = STANDARD_NAMES[kind, "kg" in (units or usual_units)]
    usual_methods = "time: sum" if kind == "amount" else "time: mean"
    edges = time_edges(n_time, step, calendar)
    labels = from_micros(labels_from_edges(edges, label), calendar, resolution)
    coords = {"time": ("time", labels, {"standard_name": "time"})}
    space = space_coords(grid, ny, nx)
    attrs = {"standard_name": standard_name, "units": units or usual_units}
    if cell_methods is not None:
        attrs["cell_methods"] = cell_methods or usual_methods
    dims = ("time", *list(space)[:2])
    return xr.DataArray(
        values.astype(dtype), dims=dims, coords=coords | space, name=name, attrs=attrs
    )


def make_dataset(
    grid: str = "lat_lon", label: str = "mid", **choices: object
) -> xr.Dataset:
    """Build a Dataset with time bounds, and a grid mapping where there is one."""
    da = make(grid=grid, label=label, **choices)
    step, calendar = choices.get("step", HOUR), choices.get("calendar")
    edges = from_micros(time_edges(da.sizes["time"], step, calendar), calendar, "ns")
    ds = da.to_dataset()
    ds["time_bnds"] = (("time", "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
    ds["time"].attrs["bounds"] = "time_bnds"
    mapping = {
        "rotated": {
            "grid_mapping_name": "rotated_latitude_longitude",
            "grid_north_pole_latitude": 39.25,
            "grid_north_pole_longitude": -162.0,
        },
        "metres": {
            "grid_mapping_name": "lambert_azimuthal_equal_area",
            "latitude_of_projection_origin": 52.0,
            "longitude_of_projection_origin": 10.0,
            "false_easting": 0.0,
            "false_northing": 0.0,
            "earth_radius": 6371000.0,
            "GeoTransform": "0 1000 0 0 0 -1000",
        },
    }.get(grid)
    if mapping:
        ds["crs"] = ((), np.int32(0), mapping)
        ds[da.name].attrs["grid_mapping"] = "crs"
    ds.attrs = {"Conventions": "CF-1.8, ACDD-1.3", "title": "rain", "history": "made"}
    return ds


def factors() -> st.SearchStrategy[tuple[int, int]]:
    """Draw (s, t), primes included."""
    return st.tuples(st.sampled_from((1, 2, 3, 4, 5, 7, 10)), st.integers(1, 6))


@st.composite
def cf_dataarrays(
    draw: Callable,
    *,
    kinds: tuple[str, ...] = ("rate", "amount", "state"),
    grids: tuple[str, ...] = GRIDS,
    calendars: tuple[str | None, ...] = CALENDARS,
    dtypes: tuple[str, ...] = ("float32", "float64"),
    missing: bool = True,
) -> xr.DataArray:
    """Draw a field of shape (T, Y, X), T from 2 to 5, Y and X from 2 to 4.

    Values are zero, or from a thousandth to some tens of mm h-1; ``missing`` sometimes
    sets cells to NaN, for all times or for single ones.
    """
    kind, calendar = draw(st.sampled_from(kinds)), draw(st.sampled_from(calendars))
    shape = (draw(st.integers(2, 5)), draw(st.integers(2, 4)), draw(st.integers(2, 4)))
    wet = draw(hnp.arrays(bool, shape))
    rain = draw(hnp.arrays("float64", shape, elements=st.floats(2**-10, 50, width=32)))
    values = np.where(wet, rain, 0.0) if kind != "state" else rain + 250
    if missing and draw(st.booleans()):
        values = np.where(draw(hnp.arrays(bool, shape)), np.nan, values)
    step = draw(st.sampled_from((10 * MINUTE, HOUR, 3 * HOUR, DAY, "month")))
    da = make(
        values,
        kind=kind,
        units=draw(
            st.sampled_from({"rate": RATES, "amount": AMOUNTS}.get(kind, ("K",)))
        ),
        grid=draw(st.sampled_from(grids)),
        step=step,
        calendar=calendar,
        label=draw(st.sampled_from(("left", "mid"))),
        resolution=draw(st.sampled_from(("s", "us", "ns"))),
        dtype=draw(st.sampled_from(dtypes)),
    )
    return da.transpose(*draw(st.permutations(da.dims)))


def split_labels(edges: np.ndarray, t: int, label: str) -> np.ndarray:
    """Labels of every cell split in ``t``, in microseconds."""
    assert label in LABELS
    return labels_from_edges(refine_edges(edges, t), label)
