"""Labels for new values: coordinates, attributes and provenance of a refined field.

Everything that describes cells which are no more is renewed or dropped: bounds, cell
areas, statistics of neighbours, packing, chunk sizes. What describes the quantity, the
projection or other dimensions is kept.
"""

import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import xarray as xr

from xstsr.cf import cell_methods as cm
from xstsr.cf.axes import aux_role, bounds_name
from xstsr.cf.coords import clean, coarsened, eager, refined, requantify
from xstsr.cf.meaning import Meaning
from xstsr.cf.times import encoding_units, from_micros, is_time, to_micros
from xstsr.errors import CFError, GridError
from xstsr.factors import in_words, sides
from xstsr.geometry.cells import refine_edges
from xstsr.geometry.polygons import corners_from_centers
from xstsr.typing import Array, Space

Provenance = Mapping[str, Any]

_CELL_AREA = "cell_area"


def relabel(
    data: Any,
    meaning: Meaning,
    s: Space,
    t: int,
    *,
    realizations: Sequence[int] | None = None,
    provenance: Provenance | None = None,
) -> xr.DataArray:
    """Label the values of a refined field.

    Parameters
    ----------
    data : array, shape ([R], *extra, T * t, Y * sy, X * sx)
        numpy or dask, in the units of the input; lazy data stay lazy.
    meaning : Meaning
        Of the coarse field.
    s : int or tuple of int
        Fine cells per coarse cell along both sides, or along y and x.
    t : int
        Fine steps per coarse step.
    realizations : sequence of int, optional
        Numbers of the realizations along the leading axis; by default there is none.
    provenance : mapping of str to str, int or float, optional
        Written as attributes ``xstsr_<key>`` and into ``history``; the key "operation"
        names what was done ("upscale" if missing), "version" the version of xstsr.

    Returns
    -------
    DataArray
        Dimensions as in the input, "realization" first; quantified if the input was.

    Raises
    ------
    CFError
        The input has a realization dimension already, or its step is unknown and ``t``
        is not 1.
    GridError
        ``data`` has another shape than it should have.
    """
    fine = refined(meaning, s, t)
    settings = {"s": in_words(s), "t": t, **(provenance or {})}
    return _assemble(data, fine, realizations, settings, meaning.statistic)


def relabel_coarse(
    data: Any,
    meaning: Meaning,
    s: Space,
    t: int,
    *,
    provenance: Provenance | None = None,
) -> xr.DataArray:
    """Label the values of a coarsened field: the inverse of `relabel`.

    Parameters
    ----------
    data : array, shape (*extra, T, Y, X)
        Block means (sums over time for amounts) of a field of (T * t, Y * sy, X * sx).
    meaning : Meaning
        Of the fine field.
    s : int or tuple of int
        Fine cells per coarse cell along both sides, or along y and x.
    t : int
        Fine steps per coarse step.
    provenance : mapping, optional
        As in `relabel`; the operation is "coarsen" if not named.

    Returns
    -------
    DataArray
        Dimensions as in the fine field; quantified if it was.

    Raises
    ------
    GridError
        The factors do not divide the fine sizes, or ``data`` has another shape.
    """
    coarse = coarsened(meaning, s, t)
    factors = {"s": in_words(s), "t": t}
    settings = {"operation": "coarsen", **factors, **(provenance or {})}
    # the mean of several points in time is a mean, not a point
    statistic = "mean" if meaning.point and t > 1 else meaning.statistic
    return _assemble(data, coarse, None, settings, statistic)


def _assemble(
    data: Any,
    target: Meaning,
    realizations: Sequence[int] | None,
    settings: Mapping[str, Any],
    statistic: str,
) -> xr.DataArray:
    lead = () if realizations is None else ("realization",)
    if lead and ("realization" in target.dims or "realization" in target.coords):
        raise CFError(
            f"cannot add a dimension 'realization' to {target.name!r}: it has one "
            f"(dimensions {target.dims}). Rename it: "
            'da.rename(realization="driving_realization").'
        )
    axes = (target.time_dim, target.y_dim, target.x_dim)
    dims = (*lead, *target.extra_dims, *axes)
    number = () if realizations is None else (len(realizations),)
    if data.ndim != len(dims) or (*data.shape[-3:], *data.shape[: len(number)]) != (
        *target.shape,
        *number,
    ):
        raise GridError(
            f"cannot label values of shape {data.shape} as {dims}: the last three "
            f"sizes must be {target.shape}. Pass the values on the new grid."
        )
    variable = xr.Variable(dims, data).transpose(*lead, *target.dims)
    coords = dict(target.coords)
    if realizations is not None:
        coords["realization"] = _realization_coord(realizations)
    attrs = _attrs(target, settings, statistic)
    out = xr.DataArray(variable, coords=coords, name=target.name, attrs=attrs)
    mapping = grid_mapping_names(target.grid_mapping)
    if "grid_mapping" not in attrs and mapping and set(mapping) <= set(coords):
        # where decode_coords="all" keeps it, so that xarray lists no crs as coordinate
        out.encoding["grid_mapping"] = target.grid_mapping
    return requantify(out, target.pint_units)


def _realization_coord(realizations: Sequence[int]) -> xr.Variable:
    attrs = {"standard_name": "realization", "units": "1"}
    return xr.Variable("realization", np.array(realizations, np.int32), attrs)


def _attrs(
    target: Meaning,
    settings: Mapping[str, Any],
    statistic: str,
) -> dict[str, Any]:
    attrs = clean(xr.Variable((), 0, dict(target.attrs))).attrs
    attrs = {k: v for k, v in attrs.items() if not k.startswith("xstsr_")}
    names = cm.axis_names(target.time_dim, target.y_dim, target.x_dim)
    attrs["cell_methods"] = cm.write(cm.refined(target.cell_methods, statistic, *names))
    if target.units:
        attrs["units"] = target.units
    mapping = grid_mapping_names(target.grid_mapping)
    if not all(name in target.coords for name in mapping):
        attrs.pop("grid_mapping", None)  # dangling: ds["pr"] leaves the variable behind
    settings = {k: v for k, v in settings.items() if v is not None}
    version = str(settings.get("version") or _version())
    attrs["history"] = extend_history(attrs.get("history"), settings)
    told = {k: v for k, v in settings.items() if k not in ("operation", "version")}
    attrs |= {f"xstsr_{key}": _plain(value) for key, value in told.items()}
    attrs["xstsr_version"] = version
    if target.notes:
        attrs["xstsr_notes"] = ". ".join(target.notes) + "."
    return attrs


def extend_history(before: str | None, settings: Provenance) -> str:
    """Add a line to a ``history`` attribute.

    Parameters
    ----------
    before : str or None
        The attribute so far.
    settings : mapping
        As the provenance of `relabel`.

    Returns
    -------
    str
        A line for each operation, the last one at the end.
    """
    # reproducible builds set the clock: https://reproducible-builds.org/specs
    now = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rest = dict(settings)
    version = rest.pop("version", None) or _version()
    operation = rest.pop("operation", "upscale")
    call = ", ".join(f"{key}={_plain(value)}" for key, value in rest.items())
    line = f"{stamp} xstsr {version}: {operation}({call})"
    return "\n".join(filter(None, [before, line]))


def _version() -> str:
    try:
        return metadata.version("xstsr")
    except metadata.PackageNotFoundError:
        return "unknown"


def _plain(value: object) -> str | int | float:
    """Return a value that netCDF can hold as an attribute."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, np.integer | np.floating):
        number: int | float = value.item()
        return number
    return json.dumps(value, default=str)


def grid_mapping_of(variable: xr.DataArray | xr.Variable) -> str | None:
    """Return the ``grid_mapping`` of a field, from attrs or encoding.

    Parameters
    ----------
    variable : DataArray or Variable
        decode_coords="all" moves the attribute to the encoding.

    Returns
    -------
    str or None
    """
    name = variable.attrs.get("grid_mapping", variable.encoding.get("grid_mapping"))
    return None if name is None else str(name)


def grid_mapping_names(text: str | None) -> list[str]:
    """Return the variables that a ``grid_mapping`` attribute names.

    Parameters
    ----------
    text : str or None
        "crs", or the extended form "crs: x y other: lat lon".

    Returns
    -------
    list of str
    """
    if not text:
        return []
    if ":" not in text:
        return [text.strip()]
    return [word[:-1] for word in text.split() if word.endswith(":")]


def to_dataset(
    fine_da: xr.DataArray, ds_in: xr.Dataset, meaning: Meaning, s: Space, t: int
) -> xr.Dataset:
    """Complete a labelled field to a Dataset that is self-contained in CF terms.

    Parameters
    ----------
    fine_da : DataArray
        From `relabel` (or from `relabel_coarse`, with the coarse meaning, s=1 and t=1).
    ds_in : Dataset
        The input, for its global attributes and its grid mapping variable.
    meaning : Meaning
        Of the coarse field.
    s, t : int
        Factors that lead from ``meaning`` to ``fine_da``; for s also a pair.

    Returns
    -------
    Dataset
        The field, bounds of time, y and x, cell areas in m2, the grid mapping variable,
        and the global attributes with ``Conventions`` and ``history``.

    Raises
    ------
    CFError
        The field has no name, or its step is unknown and ``t`` is not 1.
    """
    if fine_da.name is None:
        raise CFError(
            f"cannot put a field of dimensions {fine_da.dims} without a name into a "
            'Dataset. Name it: da.rename("pr").'
        )
    field = fine_da.copy(deep=False)
    line = str(field.attrs.pop("history", "")).rpartition("\n")[2]
    field.encoding.pop("grid_mapping", None)
    names = [n for n in grid_mapping_names(meaning.grid_mapping) if n in field.coords]
    ds = field.drop_vars(names).to_dataset()
    sy, sx = sides(s)
    edges = {
        meaning.y_dim: refine_edges(meaning.y_edges, sy),
        meaning.x_dim: refine_edges(meaning.x_edges, sx),
    }
    for dim, values in edges.items():
        _add_bounds(ds, ds_in, meaning, dim, values)
    if meaning.step_known and not meaning.point:
        micros = meaning.fine_time_edges(t)
        values = from_micros(micros, meaning.calendar, meaning.resolution)
        _add_bounds(ds, ds_in, meaning, meaning.time_dim, values)
        ds[meaning.time_dim].attrs.pop("xstsr_label", None)
    _add_corners(ds, ds_in, meaning)
    _add_area(ds, str(field.name), meaning, s)
    _add_grid_mapping(ds, ds_in, str(field.name), meaning)
    return complete(ds, ds_in, line, renewed=list(map(str, ds.coords)))


def complete(
    ds: xr.Dataset, ds_in: xr.Dataset, line: str, renewed: Collection[str]
) -> xr.Dataset:
    """Give a result what its input says and what is still true.

    Parameters
    ----------
    ds : Dataset
        The result.
    ds_in : Dataset
        The input.
    line : str
        For the history.
    renewed : collection of str
        Coordinates whose cells are others now.

    Returns
    -------
    Dataset
        ``ds``, with the bounds of the other coordinates and the global attributes.
    """
    for name in [str(n) for n in ds.coords if n in ds_in.variables]:
        before = ds_in.variables[name]
        bounds = bounds_name(before.attrs, before.encoding)
        if bounds in ds_in.variables and name not in renewed:
            ds[bounds] = ds_in.variables[bounds].copy(deep=False)
            ds[name].attrs["bounds"] = bounds
            if is_time(eager(before)):
                ds[name].encoding |= _time_encoding(before, ds_in.variables[bounds])
    ds.attrs = dict(ds_in.attrs) | {"Conventions": _conventions(ds_in.attrs)}
    ds.attrs["history"] = "\n".join(filter(None, [ds_in.attrs.get("history"), line]))
    return ds


def _time_encoding(labels: xr.Variable, bounds: xr.Variable) -> dict[str, Any]:
    """Return an encoding in which labels and bounds are whole numbers."""
    parts = [to_micros(eager(v), "time") for v in (labels, bounds)]
    calendar = parts[0][1]
    micros = np.concatenate([values.ravel() for values, _ in parts])
    return {
        "units": encoding_units(micros, calendar, labels.encoding.get("units")),
        "calendar": calendar or labels.encoding.get("calendar", "standard"),
        "dtype": np.dtype("int64"),
    }


def _add_bounds(
    ds: xr.Dataset, ds_in: xr.Dataset, meaning: Meaning, dim: str, edges: Array
) -> None:
    name = meaning.bounds_names.get(dim, f"{dim}_bnds")
    source = ds_in.variables.get(name)
    last = str(source.dims[-1]) if source is not None and source.ndim == 2 else "bnds"
    pairs = np.stack([edges[:-1], edges[1:]], axis=1)
    ds[name] = xr.Variable((dim, last), pairs, encoding={"_FillValue": None})
    ds[dim].attrs["bounds"] = name


def _add_corners(ds: xr.Dataset, ds_in: xr.Dataset, meaning: Meaning) -> None:
    """Give true latitude and longitude the corners of the cells, if the input does."""
    plane = meaning.y_dim, meaning.x_dim
    flat = {
        aux_role(str(name), coord.variable): str(name)
        for name, coord in ds.coords.items()
        if set(coord.dims) == set(plane) and min(coord.shape) > 1
    }
    if not {"latitude", "longitude"} <= set(flat):
        return
    names = flat["latitude"], flat["longitude"]
    lat, lon = (ds[name].transpose(*plane).values.astype(float) for name in names)
    edges = meaning.y_edges, meaning.x_edges
    # anticlockwise, whichever way the axes run
    is_mirrored = np.prod([e[-1] - e[0] for e in edges]) < 0
    order = [3, 2, 1, 0] if is_mirrored else [0, 1, 2, 3]
    for name, corners in zip(names, corners_from_centers(lat, lon), strict=True):
        before = ds_in.variables[name]
        bounds = bounds_name(before.attrs, before.encoding)
        source = ds_in.variables.get(bounds)
        if bounds and source is not None and source.shape == (*before.shape, 4):
            dims = (*plane, source.dims[-1])
            ds[bounds] = xr.Variable(
                dims,
                corners[..., order].astype(source.dtype),
                encoding={"_FillValue": None},
            )
            ds[name].attrs["bounds"] = bounds


def _add_area(ds: xr.Dataset, field: str, meaning: Meaning, s: Space) -> None:
    attrs = {
        "standard_name": "cell_area",
        "long_name": "area of the grid cells"
        + (" on the plane of the projection" if meaning.geometry == "plane" else ""),
        "units": "m2",
    }
    dims = (meaning.y_dim, meaning.x_dim)
    ds[_CELL_AREA] = xr.Variable(dims, meaning.area(s), attrs, {"_FillValue": None})
    ds[field].attrs["cell_measures"] = f"area: {_CELL_AREA}"


def _add_grid_mapping(
    ds: xr.Dataset, ds_in: xr.Dataset, field: str, meaning: Meaning
) -> None:
    for name in grid_mapping_names(meaning.grid_mapping):
        if name not in ds_in.variables:
            return
        ds[name] = clean(ds_in.variables[name])
        ds[field].attrs["grid_mapping"] = meaning.grid_mapping


def _conventions(attrs: Mapping[str, Any]) -> str:
    # 1.11 is the latest version whose rules are checked offline in the tests
    others = [
        word
        for word in str(attrs.get("Conventions", "")).replace(",", " ").split()
        if not word.startswith(("CF-", "COARDS"))
    ]
    return ", ".join(["CF-1.11", *others])
