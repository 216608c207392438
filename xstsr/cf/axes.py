"""Which dimension is time, y and x, and where the cells of each end.

Axes are found by the ``axis`` attribute, then the standard name, then units and dtype,
and last by the well-known names of `NAMES`; never by position.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from xstsr.cf.times import is_time
from xstsr.cf.units import metres_per
from xstsr.errors import CFError, GridError, UnitError
from xstsr.geometry.cells import edges_from_centers, edges_from_parts, tidy
from xstsr.typing import Array, Floats, Geometry

Role = Literal["T", "Y", "X"]

AXES: dict[str, Role] = {"T": "T", "Y": "Y", "X": "X"}
STANDARD_NAMES: dict[str, Role] = {
    "time": "T",
    "latitude": "Y",
    "grid_latitude": "Y",
    "projection_y_coordinate": "Y",
    "longitude": "X",
    "grid_longitude": "X",
    "projection_x_coordinate": "X",
}
NAMES: dict[str, Role] = {
    "lat": "Y",
    "latitude": "Y",
    "rlat": "Y",
    "lon": "X",
    "longitude": "X",
    "rlon": "X",
}
# the six spellings of CF-1.11, section 4.1 and 4.2
_COMPASS = re.compile(r"degrees?_?((?P<y>north|N)|(?P<x>east|E))$")
_SLACK = 1e-2  # of a cell: how far bounds may be from telescoping (float32 files)


@dataclass(frozen=True)
class Axes:
    """The three axes of a field, and the surface on which it lies."""

    time: str
    y: str
    x: str
    geometry: Geometry
    metres_per_unit: float
    notes: tuple[str, ...]


def find_axes(da: xr.DataArray, *, needs_time: bool = True) -> Axes:
    """Find the time, y and x dimensions of a field.

    Parameters
    ----------
    da : DataArray
        Field with a one-dimensional coordinate along each of the three.
    needs_time : bool
        If not, the time axis of a field that has none is named "".

    Returns
    -------
    Axes

    Raises
    ------
    CFError
        An axis is missing, cannot be recognised, is claimed twice, or its attributes
        contradict each other.
    GridError
        The two horizontal axes are not of one kind, or in units that are not supported.
    """
    roles: dict[Role, list[str]] = {"T": [], "Y": [], "X": []}
    notes: list[str] = []
    for dim in da.dims:
        role, by_name = _role(da, str(dim))
        if role is not None:
            roles[role].append(str(dim))
        if by_name:
            notes.append(f"{dim!r} is recognised by its name alone")
    if needs_time and not roles["T"]:
        raise _no_time(da)
    missing: list[Role] = [role for role in ("Y", "X") if not roles[role]]
    if missing:
        raise _no_space(da, missing[0])
    for role, found in roles.items():
        if len(found) > 1 and (needs_time or role != "T"):
            raise CFError(
                f"cannot tell which of the dimensions {found} of {da.name!r} is the "
                f'{role} axis. Set the attribute axis="{role}" on one of them, and '
                "another axis (or none) on the others."
            )
    y, x = roles["Y"][0], roles["X"][0]
    geometry, metres = _surface(da, y, x)
    time = roles["T"][0] if roles["T"] else ""
    return Axes(time, y, x, geometry, metres, tuple(notes))


def _role(da: xr.DataArray, dim: str) -> tuple[Role | None, bool]:
    """Return the role of a dimension, and whether its name alone says it."""
    if dim not in da.coords:
        return None, False
    coord = da.coords[dim]
    by_axis = AXES.get(str(coord.attrs.get("axis", "")).upper())
    standard_name = str(coord.attrs.get("standard_name", ""))
    by_standard_name = STANDARD_NAMES.get(standard_name)
    if by_axis and by_standard_name and by_axis != by_standard_name:
        raise CFError(
            f"cannot use the dimension {dim!r}: its attributes contradict each other, "
            f"axis {by_axis!r} and standard_name {standard_name!r}. Correct one: "
            f'da[{dim!r}].attrs["axis"] = {by_standard_name!r}.'
        )
    if by_axis or by_standard_name:
        return by_axis or by_standard_name, False
    if standard_name:
        return None, False  # something else, such as height or a forecast's start
    if is_time(coord.values):
        return "T", False
    units = str(coord.attrs.get("units", ""))
    by_compass = _COMPASS.match(units)
    if by_compass:
        return ("Y" if by_compass["y"] else "X"), False
    by_name = NAMES.get(dim.lower())
    if by_name is None and dim.lower() in ("x", "y") and _is_length(units):
        by_name = "X" if dim.lower() == "x" else "Y"
    return by_name, by_name is not None


def _no_time(da: xr.DataArray) -> CFError:
    what = f"cannot find the time axis of {da.name!r} among its dimensions {da.dims}"
    for name, coord in da.coords.items():
        units = str(coord.attrs.get("units", ""))
        if " since " in units and coord.dims:
            return CFError(
                f"{what}: {name!r} is not decoded (units {units!r}). Open the file "
                "with decode_times=True, or use xr.decode_cf(ds)."
            )
        if not coord.dims and is_time(coord.values):
            return CFError(
                f"{what}: {name!r} is a scalar. Make it a dimension: "
                f"da.expand_dims({name!r})."
            )
    return CFError(
        f"{what}. Give it one with decoded times: "
        'da.expand_dims(time=[np.datetime64("2026-01-01T00:00")]).'
    )


def _no_space(da: xr.DataArray, role: Role) -> CFError:
    word = "latitude" if role == "Y" else "longitude"
    letter = role.lower()
    what = (
        f"cannot find the {letter} axis ({word} or projection_{letter}_coordinate) of "
        f"{da.name!r} among its dimensions {da.dims}"
    )
    flat = [n for n, c in da.coords.items() if c.ndim == 2 and _is_lat_lon(str(n), c)]
    if flat:
        return CFError(
            f"{what}: {sorted(map(str, flat))} are two-dimensional. Add the grid's own "
            'coordinates, da.assign_coords(x=("x", ...), y=("y", ...)) with units "m" '
            "or degrees, or regrid first: da.stsr.regrid(target)."
        )
    for name, coord in da.coords.items():
        if coord.ndim == 1 and name not in da.dims and _is_lat_lon(str(name), coord):
            return CFError(
                f"{what}: {name!r} lies along {coord.dims[0]!r}. Make it the "
                f"dimension: da.swap_dims({{{coord.dims[0]!r}: {name!r}}})."
            )
    return CFError(
        f"{what}. Refining needs two horizontal axes with one-dimensional coordinates; "
        f'name yours by da[dim].attrs["standard_name"] = "{word}" (with units '
        f'"degrees") or "projection_{letter}_coordinate" (with units "m").'
    )


def _is_lat_lon(name: str, coord: xr.DataArray) -> bool:
    return aux_role(name, coord.variable) is not None


def aux_role(name: str, variable: xr.Variable) -> str | None:
    """Tell whether a coordinate is true latitude or longitude.

    Parameters
    ----------
    name : str
        Name of the coordinate.
    variable : Variable
        The coordinate; its shape does not matter.

    Returns
    -------
    "latitude", "longitude" or None
    """
    standard_name = str(variable.attrs.get("standard_name", ""))
    by_compass = _COMPASS.match(str(variable.attrs.get("units", "")))
    for word, short, group in (("latitude", "lat", "y"), ("longitude", "lon", "x")):
        by_name = not standard_name and name.lower() in (word, short, f"x{short}")
        if standard_name == word or by_name or (by_compass and by_compass[group]):
            return word
    return None


def _is_length(units: str) -> bool:
    try:
        return bool(units) and metres_per(units) > 0
    except UnitError:
        return False


def _surface(da: xr.DataArray, y: str, x: str) -> tuple[Geometry, float]:
    """Tell whether both axes are angles or lengths, and how long their unit is."""
    (kind_y, unit_y), (kind_x, unit_x) = _kind(da, y), _kind(da, x)
    if (kind_y, unit_y) != (kind_x, unit_x):
        raise GridError(
            f"cannot use the axes {y!r} and {x!r} together: one is in "
            f"{da[y].attrs.get('units')!r}, the other in {da[x].attrs.get('units')!r}. "
            "Give both in degrees, or both in the same unit of length."
        )
    return kind_y, unit_y


def _kind(da: xr.DataArray, dim: str) -> tuple[Geometry, float]:
    attrs = da[dim].attrs
    standard_name, units = (
        str(attrs.get("standard_name", "")),
        str(attrs.get("units", "")),
    )
    if units.lower().startswith("degree"):
        return "sphere", 1.0
    angular = standard_name.endswith(("latitude", "longitude"))
    if not units and (angular or (not standard_name and dim.lower() in NAMES)):
        return "sphere", 1.0
    if not units and standard_name.startswith("projection_"):
        return "plane", 1.0  # metres are its canonical unit
    if angular or not _is_length(units):
        raise GridError(
            f"cannot use the axis {dim!r}: its units are {units!r}. Set "
            f'da[{dim!r}].attrs["units"] to "degrees", "m" or "km".'
        )
    return "plane", metres_per(units)


def space_edges(
    coord: xr.DataArray, geometry: Geometry, role: Role, bounds: Array | None
) -> tuple[Floats, str | None]:
    """Find the cell edges of a horizontal axis, from its bounds or its labels.

    Parameters
    ----------
    coord : DataArray, shape (N,)
        Cell centres.
    geometry : {"sphere", "plane"}
        On the sphere, edges end at the poles.
    role : {"Y", "X"}
        Which axis it is.
    bounds : ndarray, shape (N, 2), or None
        Bounds, in either order within a cell.

    Returns
    -------
    tuple of ndarray (shape (N + 1,)) and a note or None

    Raises
    ------
    GridError
        The labels are not finite and monotone, a single one has no bounds, the grid
        goes beyond a pole or round the globe more than once, or the bounds are stale.
    """
    dim = str(coord.dims[0])
    labels = decimal(coord.values, dim)
    _check_monotone(labels, dim)
    if bounds is not None:
        edges, note = _edges_from_bounds(np.asarray(bounds, float), labels, dim), None
    elif labels.size < 2:
        raise GridError(
            f"cannot find the cell size along {dim!r}: it has one label, {labels[0]:g}"
            ", and no bounds. Pass more cells, or a Dataset with bounds."
        )
    else:
        edges, note = _edges_from_labels(labels, rounding(coord.values), dim)
    if geometry == "sphere":
        edges = _check_globe(labels, edges, dim, role)
    return edges, note


def decimal(values: Array, dim: str) -> Floats:
    """Read coordinate values as float64, float32 at their shortest decimal.

    A label of 50.1 stored in float32 is 50.0999985; its neighbours' edges and all fine
    labels would inherit the noise.

    Parameters
    ----------
    values : ndarray, shape (N,)
        Coordinate values.
    dim : str
        Name of the axis, for messages.

    Returns
    -------
    ndarray, shape (N,)

    Raises
    ------
    GridError
        The values are not finite numbers.
    """
    if values.dtype.kind not in "iuf" or not np.all(np.isfinite(values)):
        raise GridError(
            f"cannot use the axis {dim!r}: its labels are not finite numbers (dtype "
            f"{values.dtype}). Assign coordinates: da.assign_coords({dim}=...)."
        )
    if values.dtype.itemsize < 8 and values.dtype.kind == "f":
        return np.array([float(str(v)) for v in values])
    return values.astype(np.float64)


def rounding(values: Array) -> float:
    """Return how far coordinate values may be off by the rounding of their type.

    Parameters
    ----------
    values : ndarray, shape (N,)
        Edges or labels, as they were stored.

    Returns
    -------
    float
        Four units in the last place of the largest, in the unit of the values.
    """
    largest = np.max(np.abs(values))
    return 4 * float(
        np.spacing(largest if values.dtype.kind == "f" else float(largest))
    )


def _check_monotone(labels: Floats, dim: str) -> None:
    step = np.diff(labels)
    if np.all(step > 0) or np.all(step < 0):
        return
    turn = step * np.sign(np.median(step)) <= 0
    i = int(np.argmax(turn))
    remedy = f"da.sortby({dim!r}).drop_duplicates({dim!r})"
    if np.any(np.abs(step) > 180) and np.all(np.diff(labels % 360) > 0):
        remedy = f"da.assign_coords({dim}=da[{dim!r}] % 360)"
    elif np.any(np.abs(step) > 180) and np.all(np.diff((labels + 180) % 360) > 0):
        remedy = f"da.assign_coords({dim}=(da[{dim!r}] + 180) % 360 - 180)"
    raise GridError(
        f"cannot use the axis {dim!r}: it is not strictly monotone at index {i} "
        f"({labels[i]:g}, then {labels[i + 1]:g}). Repair it: {remedy}."
    )


def _edges_from_bounds(bounds: Floats, labels: Floats, dim: str) -> Floats:
    if bounds.shape != (labels.size, 2):
        raise GridError(
            f"cannot use the bounds of {dim!r}: their shape is {bounds.shape}, not "
            f"{(labels.size, 2)}. Drop them, or compute them anew."
        )
    # some files write (south, north) for each cell even where latitude runs downwards
    downwards = labels.size > 1 and labels[1] < labels[0]
    bounds = np.sort(bounds, axis=1)[:, :: -1 if downwards else 1]
    width = np.abs(np.diff(bounds)[:, 0])
    gap = np.zeros(labels.size, bool)
    gap[:-1] = np.abs(bounds[1:, 0] - bounds[:-1, 1]) > _SLACK * width[:-1]
    low, high = bounds.min(axis=1), bounds.max(axis=1)
    outside = (labels < low - _SLACK * width) | (labels > high + _SLACK * width)
    bad = gap | outside | (width == 0)
    if np.any(bad):
        i = int(np.argmax(bad))
        raise GridError(
            f"cannot use the bounds of {dim!r}: they are stale at index {i}, where "
            f"cell {labels[i]:g} has bounds {bounds[i].tolist()} that do not hold it "
            "or do not meet the next. Drop them (ds.drop_vars), or compute them anew."
        )
    return np.append(bounds[:, 0], bounds[-1, 1])


def _check_globe(labels: Floats, edges: Floats, dim: str, role: Role) -> Floats:
    if role == "Y":
        if np.any(np.abs(labels) > 90):
            raise GridError(
                f"cannot use the axis {dim!r}: latitude "
                f"{labels[np.argmax(np.abs(labels))]:g} is beyond the pole. Correct "
                'it, or set units "m" if it is a projected coordinate.'
            )
        return np.clip(edges, -90.0, 90.0)
    extent, cell = abs(edges[-1] - edges[0]), float(np.min(np.abs(np.diff(edges))))
    if labels.size > 2 and np.max(np.abs(np.diff(labels))) > 180:
        raise GridError(
            f"cannot use the axis {dim!r}: over half the globe lies between two of its "
            "longitudes. Bring the two parts of the region together: "
            f"da.assign_coords({dim}=(da[{dim!r}] + 180) % 360 - 180).sortby({dim!r})."
        )
    if extent > 360 + 0.5 * cell:
        raise GridError(
            f"cannot use the axis {dim!r}: its cells span {extent:g} degrees, so some "
            f"overlap. Remove the cyclic column: da.isel({dim}=slice(0, -1))."
        )
    return edges


def _edges_from_labels(
    labels: Floats, noise: float, dim: str
) -> tuple[Floats, str | None]:
    edges = edges_from_parts(labels, noise)
    if edges is not None:
        return tidy(edges, noise), None
    step = np.abs(np.diff(labels))
    note = None
    if step.max() > 1.5 * step.min():
        note = (
            f"the spacing of {dim!r} varies from {step.min():g} to {step.max():g}; "
            "cell edges are taken half-way between labels. To say otherwise pass a "
            "Dataset with bounds"
        )
    return tidy(edges_from_centers(labels), noise), note


def bounds_name(attrs: Mapping[str, Any], encoding: Mapping[str, Any]) -> str | None:
    """Return the name of a coordinate's bounds variable, from attrs or encoding.

    Parameters
    ----------
    attrs, encoding : mapping
        Of the coordinate; decode_coords="all" moves the attribute to the encoding.

    Returns
    -------
    str or None
    """
    name = attrs.get("bounds", encoding.get("bounds"))
    return None if name is None else str(name)
