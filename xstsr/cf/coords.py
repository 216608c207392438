"""Coordinates of new cells, instants between others, and plain data from lazy ones.

A coordinate keeps its label convention, dtype and attributes as far as they stay true.
Two-dimensional true latitude and longitude are renewed on the sphere; other coordinates
along refined dimensions cannot be, and are dropped with a note.

A mean or a sum over a step can be split; a snapshot cannot. Between two snapshots the
coarse field is interpolated linearly in time, and each one, given or interpolated, is
then refined in space alone. So T snapshots become (T - 1) t + 1, every t-th at a time
that was given; nothing is added beyond the last.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from xstsr.cf.axes import aux_role, rounding
from xstsr.cf.meaning import Meaning
from xstsr.cf.quantity import normalise_standard_name
from xstsr.cf.times import encoding_units, from_micros, infer_edges, to_micros
from xstsr.cf.units import registry
from xstsr.errors import CFError, GridError
from xstsr.factors import sides
from xstsr.geometry.cells import (
    centers,
    coarsen_2d,
    labels_from_edges,
    refine_2d,
    refine_edges,
    tidy,
)
from xstsr.typing import Array, Floats, Label, Space

LatLon = Callable[[Array, Array, Space], tuple[Floats, Floats]]

# attributes that describe the coarse cells, the packing or other variables' cells
_STALE = frozenset(
    {
        "bounds",
        "climatology",
        "cell_measures",
        "ancillary_variables",
        "coordinates",
        "actual_range",
        "valid_range",
        "valid_min",
        "valid_max",
        "missing_value",
        "GeoTransform",
        "xstsr_label",
    }
)
_GRIB_KEPT = frozenset({"GRIB_paramId", "GRIB_shortName", "GRIB_name"})


def refined(meaning: Meaning, s: Space, t: int) -> Meaning:
    """Return what a refined field means.

    Parameters
    ----------
    meaning : Meaning
        Of the coarse field.
    s : int or tuple of int
        Fine cells per coarse cell along both sides, or along y and x.
    t : int
        Fine steps per coarse step.

    Returns
    -------
    Meaning
        With fine edges and coordinates; notes say which coordinates were dropped.

    Raises
    ------
    CFError
        The step is unknown and ``t`` is not 1.
    """
    sy, sx = sides(s)
    fine = replace(
        meaning,
        time_edges=meaning.fine_time_edges(t),
        y_edges=refine_edges(meaning.y_edges, sy),
        x_edges=refine_edges(meaning.x_edges, sx),
    )
    return _with_coords(fine, s, t, refine_2d)


def coarsened(meaning: Meaning, s: Space, t: int) -> Meaning:
    """Return what a coarsened field means: the inverse of `refined`.

    Parameters
    ----------
    meaning : Meaning
        Of the fine field.
    s : int or tuple of int
        Fine cells per coarse cell along both sides, or along y and x.
    t : int
        Fine steps per coarse step.

    Returns
    -------
    Meaning
        With coarse edges and coordinates.

    Raises
    ------
    GridError
        The factors do not divide the fine sizes.
    """
    sy, sx = sides(s)
    for dim, size, n in zip(meaning.core_dims, meaning.shape, (t, sy, sx), strict=True):
        if size % n:
            raise GridError(
                f"cannot coarsen {dim!r} of size {size} by {n}: it does not divide. "
                f"Select a multiple: da.isel({dim}=slice(0, {size - size % n}))."
            )
    coarse = replace(
        meaning,
        time_edges=meaning.time_edges[::t],
        y_edges=meaning.y_edges[::sy],
        x_edges=meaning.x_edges[::sx],
    )
    return _with_coords(coarse, s, t, coarsen_2d)


def _with_coords(target: Meaning, s: Space, t: int, lat_lon: LatLon) -> Meaning:
    """Renew the coordinates, which are still those of the source, for new edges."""
    old = target.coords
    (time_dim, y, x), (sy, sx) = target.core_dims, sides(s)
    coords = {
        time_dim: _time_coord(target, old[time_dim], t),
        y: _space_coord(old[y], target.y_edges, sy, target, "y"),
        x: _space_coord(old[x], target.x_edges, sx, target, "x"),
    }
    changed = {
        dim for dim, n in zip((time_dim, y, x), (t, sy, sx), strict=True) if n != 1
    }
    flat = _flat_lat_lon(target) if {y, x} & changed else {}
    if len(flat) == 2:
        coords |= _renewed_flat(target, flat, s, lat_lon)
    rest = {name: variable for name, variable in old.items() if name not in coords}
    lost = [name for name, variable in rest.items() if changed & set(variable.dims)]
    coords |= {name: clean(rest[name]) for name in rest if name not in lost}
    notes = tuple(
        f"the coordinate {name!r} lies along refined dimensions and was dropped"
        for name in lost
    )
    return replace(target, coords=coords, notes=(*target.notes, *notes))


def _flat_lat_lon(meaning: Meaning) -> dict[str, str]:
    """Names of two-dimensional true latitude and longitude, by their meaning."""
    plane = {meaning.y_dim, meaning.x_dim}
    return {
        role: name
        for name, variable in meaning.coords.items()
        if set(variable.dims) == plane
        and min(variable.shape) > 1
        and (role := aux_role(name, variable))
    }


def _renewed_flat(
    target: Meaning, flat: Mapping[str, str], s: Space, lat_lon: LatLon
) -> dict[str, xr.Variable]:
    dims = (target.y_dim, target.x_dim)
    names = flat["latitude"], flat["longitude"]
    lat, lon = (target.coords[name].transpose(*dims) for name in names)
    renewed = {}
    for name, values in zip(names, lat_lon(eager(lat), eager(lon), s), strict=True):
        old = target.coords[name]
        attrs, encoding = clean(old).attrs, {"_FillValue": None}
        new = xr.Variable(dims, values.astype(old.dtype), attrs, encoding)
        renewed[name] = new.transpose(*old.dims)
    return renewed


def _time_coord(target: Meaning, old: xr.Variable, t: int) -> xr.Variable:
    labels = labels_from_edges(target.time_edges, target.time_label)
    attrs = {"standard_name": "time", "axis": "T"} | clean(old).attrs
    if t == 1:
        values = old.values
        labels, _ = to_micros(values, target.time_dim)
    else:
        values = from_micros(labels, target.calendar, target.resolution)
    if _inferred(labels, target) not in (None, target.time_label):
        # without bounds, a reader would take the labels for something else
        attrs["xstsr_label"] = target.time_label
    exact = np.concatenate([labels, target.time_edges])
    units = encoding_units(exact, target.calendar, old.encoding.get("units"))
    calendar = target.calendar or old.encoding.get("calendar", "standard")
    encoding = {"units": units, "calendar": calendar, "dtype": np.dtype("int64")}
    return xr.Variable(old.dims, values, attrs, encoding)


def _inferred(labels: Array, target: Meaning) -> Label | None:
    if labels.size < 2:
        return None
    try:
        return infer_edges(labels, target.calendar, target.time_dim, None)[1]
    except CFError:  # unequal steps, which only bounds can tell
        return None


def _space_coord(
    old: xr.Variable, edges: Floats, s: int, target: Meaning, axis: str
) -> xr.Variable:
    attrs = _space_attrs(str(old.dims[0]), target, axis) | clean(old).attrs
    encoding = {"_FillValue": None}
    if s == 1:
        return xr.Variable(old.dims, old.values, attrs, encoding)
    finest = float(np.min(np.abs(np.diff(edges))))
    labels = tidy(centers(edges), min(rounding(old.values), 1e-3 * finest))
    if axis == "y" and target.geometry == "sphere":
        labels = _polar(labels, edges)
    # float32 must hold the labels to a thousandth of a cell
    short = finest > 1e3 * float(np.spacing(np.float32(np.max(np.abs(labels)))))
    dtype = old.dtype if old.dtype == np.float32 and short else np.float64
    return xr.Variable(old.dims, labels.astype(dtype), attrs, encoding)


def _polar(labels: Floats, edges: Floats) -> Floats:
    """Label half cells at the poles by the pole, as grids with rows there do."""
    widths = np.abs(np.diff(edges))
    for end, inner in ((0, 1), (-1, -2)) if labels.size > 1 else ():
        is_pole = abs(edges[end]) > 90 - 1e-3 * widths[end]
        if is_pole and abs(2 * widths[end] / widths[inner] - 1) < 1e-3:
            labels[end] = np.copysign(90.0, edges[end])
    return labels


def _space_attrs(dim: str, target: Meaning, axis: str) -> dict[str, str]:
    """Return what an axis recognised without attributes should have said."""
    attrs = {"axis": axis.upper()}
    if target.geometry == "plane":
        return {"standard_name": f"projection_{axis}_coordinate", "units": "m"} | attrs
    word, compass = ("latitude", "north") if axis == "y" else ("longitude", "east")
    if dim.lower().startswith("r"):
        return {"standard_name": f"grid_{word}", "units": "degrees"} | attrs
    return {"standard_name": word, "units": f"degrees_{compass}"} | attrs


def clean(variable: xr.Variable) -> xr.Variable:
    """Copy a variable without stale attributes and without encoding."""
    attrs = {
        k: v
        for k, v in variable.attrs.items()
        if k not in _STALE and (not k.startswith("GRIB_") or k in _GRIB_KEPT)
    }
    if "standard_name" in attrs:
        attrs["standard_name"] = normalise_standard_name(str(attrs["standard_name"]))
    if attrs.get("standard_name") == "unknown":  # what cfgrib writes for none
        del attrs["standard_name"]
    clean = variable.copy(deep=False)
    clean.attrs, clean.encoding = attrs, {}
    return clean


def dequantify(da: xr.DataArray) -> tuple[xr.DataArray, Any]:
    """Turn a pint-quantified DataArray into a plain one with a units attribute.

    Parameters
    ----------
    da : DataArray
        Quantified or not; lazy data stay lazy.

    Returns
    -------
    tuple of DataArray and pint unit
        The plain field and its unit, None if it was plain already; see `requantify`.
    """
    data: Any = da.variable._data
    if not hasattr(data, "_REGISTRY"):
        return da, None
    import pint_xarray  # noqa: F401  (registers the accessor)

    registry()  # registers the format "cf"
    text = f"{data.units:cf}"
    plain: xr.DataArray = da.pint.dequantify()
    return plain.assign_attrs(units=text), data.units


def requantify(da: xr.DataArray, pint_units: object) -> xr.DataArray:
    """Quantify a plain DataArray again: the inverse of `dequantify`.

    Parameters
    ----------
    da : DataArray
        Plain field in the units of ``pint_units``; lazy data stay lazy.
    pint_units : pint unit or None
        None returns the field as it is.

    Returns
    -------
    DataArray
    """
    if pint_units is None:
        return da
    unit: Any = pint_units
    out = da.copy(data=unit._REGISTRY.Quantity(da.data, unit))
    out.attrs.pop("units", None)
    return out


def eager(variable: xr.Variable) -> Array:
    """Return the values of a coordinate, which may be lazy.

    The synchronous scheduler keeps small coordinates off the workers.

    Parameters
    ----------
    variable : Variable
        Of any shape.

    Returns
    -------
    ndarray, same shape
    """
    data: Any = variable._data
    if hasattr(data, "dask"):
        return np.asarray(data.compute(scheduler="synchronous"))
    return np.asarray(variable.values)


def interpolate_instants(
    da: xr.DataArray, meaning: Meaning, t: int
) -> tuple[xr.DataArray, Meaning]:
    """Interpolate snapshots in time.

    Parameters
    ----------
    da : DataArray
        Snapshots, T of them; chunked input stays lazy.
    meaning : Meaning
        Theirs.
    t : int
        Fine steps per coarse step.

    Returns
    -------
    tuple of DataArray and Meaning
        (T - 1) t + 1 snapshots, plain, with time, y and x last, and their meaning.

    Raises
    ------
    CFError
        There is a single snapshot, and ``t`` is not 1.
    """
    plain, _ = dequantify(da)
    data = plain.transpose(*meaning.extra_dims, *meaning.core_dims).data
    first, second = data[..., :-1, :, :], data[..., 1:, :, :]
    parts = [first] + [
        first * data.dtype.type(1 - j / t) + second * data.dtype.type(j / t)
        for j in range(1, t)
    ]
    steps = np.stack(parts, axis=-3)
    *lead, frames, _, rows, columns = steps.shape
    steps = steps.reshape(*lead, frames * t, rows, columns)
    values = np.concatenate([steps, data[..., -1:, :, :]], axis=-3)
    known = _until_the_last(refined(meaning, 1, t), frames * t + 1, t)
    dims = (*meaning.extra_dims, *meaning.core_dims)
    return xr.DataArray(values, dims=dims, name=da.name), known


def _until_the_last(fine: Meaning, frames: int, t: int) -> Meaning:
    """Drop what lies beyond the last snapshot, and say what was done."""
    coords = {
        name: variable.isel({fine.time_dim: slice(frames)}, missing_dims="ignore")
        for name, variable in fine.coords.items()
    }
    for name, variable in coords.items():
        variable.encoding = fine.coords[name].encoding
    note = (
        "values are instantaneous: between them the coarse field was interpolated "
        f"linearly to {t} times as many steps, and refined in space alone"
    )
    edges = fine.time_edges[: frames + 1]
    return replace(fine, time_edges=edges, coords=coords, notes=(*fine.notes, note))
