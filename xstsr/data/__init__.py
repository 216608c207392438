"""A small real rain sequence that comes with the package.

Its origin, its licence (CC BY-SA 4.0) and what is repaired: ``ATTRIBUTION.md`` here.
"""

from importlib.resources import as_file, files

import numpy as np
import xarray as xr

__all__ = ["open_demo"]

_STEP = np.timedelta64(5, "m")


def open_demo() -> xr.Dataset:
    """Open 31 frames of radar rain over Gothenburg, with metadata repaired to CF.

    Returns
    -------
    Dataset, in memory. ``rainfall_amount`` with dims (time, y, x), shape (31, 48, 37),
    in kg m-2 for each 5 minutes (``time: sum``); ``time_bnds``: an interval starts at
    its label; ``x`` and ``y`` in metres, every 2000 m, both growing; two-dimensional
    ``lat`` and ``lon``; ``crs``: the polar stereographic grid mapping.

    Notes
    -----
    OpenMRG 1.1 (SMHI), CC BY-SA 4.0, doi:10.5281/zenodo.6673750. The values are as in
    the file; ``ATTRIBUTION.md`` beside it says what is repaired and on what evidence.

    References
    ----------
    .. [1] Andersson et al. (2022), Earth Syst. Sci. Data 14, 5411,
       doi:10.5194/essd-14-5411-2022.

    Examples
    --------
    >>> ds = open_demo()
    >>> dict(ds.sizes)
    {'time': 31, 'y': 48, 'x': 37, 'bnds': 2}
    """
    with as_file(files(__name__) / "openmrg_rad.nc") as path:
        raw = xr.load_dataset(path, engine="netcdf4")
    return xr.Dataset(
        {"rainfall_amount": _rain(raw), "time_bnds": _time_bounds(raw)},
        # a coordinate, so that a DataArray taken out keeps its grid mapping
        coords=_coordinates(raw) | {"crs": _grid_mapping(raw)},
        attrs={
            "Conventions": "CF-1.11",
            "title": "Radar rain over Gothenburg, Sweden, 2015-07-25 (OpenMRG 1.1)",
            "institution": "Swedish Meteorological and Hydrological Institute (SMHI)",
            "source": "Swedish operational weather radar composite",
            "references": "doi:10.5281/zenodo.6673750, doi:10.5194/essd-14-5411-2022",
            "history": "xstsr.open_demo: metadata repaired, values as published",
            "license": raw.attrs["license"],
            "comment": "One radar scan at the start of each interval. "
            + raw.attrs["comment"],
        },
    )


def _rain(raw: xr.Dataset) -> xr.Variable:
    # 1 mm of water on 1 m2 weighs 1 kg: "sum 5min" becomes kg m-2 without a factor
    attrs = {
        "standard_name": "rainfall_amount",
        "long_name": "rainfall seen by radar",
        "units": "kg m-2",
        "cell_methods": "time: sum area: mean",
    }
    # xarray then writes crs as the grid mapping, and not also among "coordinates"
    encoding = {"grid_mapping": "crs"}
    values = raw["rainfall_amount"].to_numpy()
    return xr.Variable(("time", "y", "x"), values, attrs, encoding)


def _time_bounds(raw: xr.Dataset) -> xr.Variable:
    start = raw["time"].to_numpy()
    return xr.Variable(("time", "bnds"), np.stack([start, start + _STEP], axis=-1))


def _coordinates(raw: xr.Dataset) -> dict[str, xr.Variable]:
    metres = {"units": "m", "long_name": "distance on the projection plane"}
    # the file's y and longitudes run from north to south, its rain and latitudes not
    y, lon = raw["y"].to_numpy()[::-1], raw["longitudes"].to_numpy()[::-1]
    coords = {
        "time": xr.Variable(
            "time",
            raw["time"].to_numpy(),
            {"standard_name": "time", "axis": "T", "bounds": "time_bnds"},
            {"units": "seconds since 1970-01-01", "calendar": "standard"},
        ),
        "y": xr.Variable(
            "y", y, {"standard_name": "projection_y_coordinate", "axis": "Y", **metres}
        ),
        "x": xr.Variable(
            "x",
            raw["x"].to_numpy(),
            {"standard_name": "projection_x_coordinate", "axis": "X", **metres},
        ),
        "lat": xr.Variable(
            ("y", "x"),
            raw["latitudes"].to_numpy(),
            {"standard_name": "latitude", "units": "degrees_north"},
        ),
        "lon": xr.Variable(
            ("y", "x"),
            lon,
            {"standard_name": "longitude", "units": "degrees_east"},
        ),
    }
    for variable in coords.values():
        # CF: coordinates have no missing values
        variable.encoding["_FillValue"] = None
    return coords


def _grid_mapping(raw: xr.Dataset) -> xr.Variable:
    # GDAL's attributes describe the reversed rows, and repeat the rest
    kept = {
        name: value
        for name, value in raw["crs"].attrs.items()
        if name not in ("spatial_ref", "GeoTransform", "long_name")
    }
    return xr.Variable((), np.int32(0), kept)
