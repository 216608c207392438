"""What grid a field lies on: its surface, its cells, their places and labels.

A grid is rectilinear on a surface (true latitude and longitude, a rotated pole, or the
plane of a projection), or curvilinear: known by the corners of its cells alone.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import xarray as xr

from xstsr.cf.axes import aux_role, bounds_name, find_axes, space_edges
from xstsr.cf.coords import clean, eager
from xstsr.cf.write import grid_mapping_names, grid_mapping_of
from xstsr.errors import AssumptionWarning, CFError, GridError
from xstsr.geometry.cells import areas_m2
from xstsr.geometry.polygons import corners_from_centers
from xstsr.geometry.projections import crs_of_mapping, transform
from xstsr.typing import Array, Floats, Geometry

Pair = tuple[Floats, Floats]
Labelled = xr.DataArray | xr.Dataset


@dataclass(frozen=True, eq=False)
class Grid:
    """A horizontal grid: cells on a surface, and their labels."""

    y_dim: str
    """Dimension of the rows."""
    x_dim: str
    """Dimension of the columns."""
    coords: Mapping[str, xr.Variable]
    """Coordinates along either dimension, y first."""
    edges: Pair | None = None
    """Cell edges of y and x on the surface; None where the grid is curvilinear."""
    geometry: Geometry = "sphere"
    """Whether the surface has angles or lengths."""
    metres: float = 1.0
    """Length of the unit of lengths in metres; 1 on the sphere."""
    rotated: bool = False
    """Whether angles are those of a rotated pole."""
    crs: Any = None
    """Projection or rotated pole; None for true latitude and longitude, or unknown."""
    corners: Pair | None = None
    """Latitudes and longitudes of the corners, (Y, X, 4), where the surface is unknown.
    """
    mapping: tuple[str, xr.Variable] | None = None
    """Name of the grid mapping variable, and the variable."""
    bounds_names: Mapping[str, str] = field(default_factory=dict)
    """Names of bounds variables, by coordinate."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return the shape (Y, X): numbers of rows and columns."""
        if self.edges is not None:
            return self.edges[0].size - 1, self.edges[1].size - 1
        rows, columns, _ = cast(Pair, self.corners)[0].shape
        return rows, columns

    @property
    def dims(self) -> tuple[str, str]:
        """Return the dimensions of y and x, in the order of `shape`."""
        return self.y_dim, self.x_dim

    @property
    def has_surface(self) -> bool:
        """Tell whether the latitudes and longitudes of the edges are known."""
        true = self.geometry == "sphere" and not self.rotated
        return self.edges is not None and (true or self.crs is not None)

    def lat_lon(self) -> Pair | None:
        """Return the cells' latitudes and longitudes, shape (Y, X), if known."""
        if self.has_surface:
            labels = (np.asarray(self.coords[d].values, float) for d in self.dims)
            y, x = np.meshgrid(*labels, indexing="ij")
            return self.to_lat_lon(y, x)
        flat = flat_lat_lon(self.coords)
        if len(flat) < 2:
            return None
        lat, lon = (
            eager(self.coords[flat[word]].transpose(*self.dims)).astype(float)
            for word in ("latitude", "longitude")
        )
        return lat, lon

    def to_lat_lon(self, y: Floats, x: Floats) -> Pair:
        """Turn coordinates on the surface into latitudes and longitudes, any shape."""
        if self.crs is None:
            return y, x
        lon, lat = transform(x * self.metres, y * self.metres, self.crs, None)
        return lat, lon

    def from_lat_lon(self, lat: Floats, lon: Floats) -> Pair:
        """Turn latitudes and longitudes into coordinates on the surface, any shape."""
        if self.crs is None:
            return lat, lon
        x, y = transform(lon, lat, None, self.crs)
        return y / self.metres, x / self.metres

    def areas(self) -> Floats:
        """Return the areas of the cells of a rectilinear grid in m2, shape (Y, X)."""
        y, x = cast(Pair, self.edges)
        return areas_m2(y, x, self.geometry, self.metres)


def read_grid(data: Labelled, name: str | None = None) -> Grid:
    """Read on which grid a field lies, or the fields of a Dataset.

    Parameters
    ----------
    data : DataArray or Dataset
        With axes of shape (Y,) and (X,), or latitude and longitude of (Y, X). Bounds
        and the grid mapping are taken from a Dataset, or from coordinates.
    name : str, optional
        Variable of the Dataset; by default its coordinates alone are read.

    Returns
    -------
    Grid

    Raises
    ------
    CFError, GridError
        There are no horizontal axes, or they describe no grid; the text says what to
        type.

    Warns
    -----
    AssumptionWarning
        Cells of unequal size are known by their labels alone.
    """
    da = data if isinstance(data, xr.DataArray) else _field(data, name)
    flat = flat_lat_lon({str(n): c.variable for n, c in da.coords.items()})
    try:
        axes = find_axes(da, needs_time=False)
    except (CFError, GridError):
        if len(flat) < 2:
            raise
        return _curvilinear(data, da, flat)
    dims = (axes.y, axes.x)
    mapping = _mapping(data, da)
    angles = axes.geometry == "sphere"
    rotated = angles and _is_rotated(da[axes.y])
    crs = crs_of_mapping(mapping[1].attrs) if mapping else None
    crs = None if angles and not rotated else crs
    lost = crs is None and (rotated or not angles)
    edges = [
        _edges(da[dim], axes.geometry, role, _bounds(data, dim))
        for dim, role in zip(dims, ("Y", "X"), strict=True)
    ]
    return Grid(
        *dims,
        _coords(da, dims),
        edges=(edges[0], edges[1]),
        geometry=axes.geometry,
        metres=axes.metres_per_unit,
        rotated=rotated,
        crs=crs,
        corners=_corners(data, da, dims, flat) if lost and len(flat) == 2 else None,
        mapping=mapping,
        bounds_names=_names_of_bounds(data, dims),
    )


def flat_lat_lon(coords: Mapping[str, xr.Variable]) -> dict[str, str]:
    """Find true latitude and longitude of shape (Y, X).

    Parameters
    ----------
    coords : mapping of str to Variable

    Returns
    -------
    dict of str to str
        Names by "latitude" and "longitude".
    """
    return {
        role: name
        for name, variable in coords.items()
        if variable.ndim == 2 and (role := aux_role(name, variable))
    }


def _field(ds: xr.Dataset, name: str | None) -> xr.DataArray:
    """Take a variable, or one without values that has all coordinates."""
    if name is None:
        empty = np.broadcast_to(np.float32(0), tuple(ds.sizes.values()))
        return xr.DataArray(empty, ds.coords, tuple(ds.sizes))
    if name not in ds.data_vars:
        raise CFError(
            f"cannot find the variable {name!r} in the Dataset; it has "
            f"{sorted(map(str, ds.data_vars))}. Pass one of these."
        )
    return ds[name]


def _curvilinear(data: Labelled, da: xr.DataArray, flat: Mapping[str, str]) -> Grid:
    y, x = map(str, da[flat["latitude"]].dims)
    return Grid(
        y,
        x,
        _coords(da, (y, x)),
        corners=_corners(data, da, (y, x), flat),
        mapping=_mapping(data, da),
        bounds_names=_names_of_bounds(data, tuple(flat.values())),
    )


def _corners(
    data: Labelled, da: xr.DataArray, dims: tuple[str, str], flat: Mapping[str, str]
) -> Pair:
    """Find the corners of cells from bounds of shape (y, x, 4), or from centres."""
    names = flat["latitude"], flat["longitude"]
    bounds = [_bounds(data, name) for name in names]
    lat, lon = (
        eager(da[name].variable.transpose(*dims)).astype(np.float64) for name in names
    )
    if bounds[0] is None or bounds[1] is None:
        return corners_from_centers(lat, lon)
    turned = da[names[0]].dims != dims
    found = [np.swapaxes(b, 0, 1) if turned else b for b in bounds if b is not None]
    for name, corners in zip(names, found, strict=True):
        if corners.shape != (*lat.shape, 4):
            raise GridError(
                f"cannot use the bounds of {name!r}: their shape is {corners.shape}, "
                f"not {(*lat.shape, 4)}. Drop them, or compute them anew."
            )
    return found[0].astype(np.float64), found[1].astype(np.float64)


def _edges(
    coord: xr.DataArray, geometry: Geometry, role: str, bounds: Array | None
) -> Floats:
    edges, note = space_edges(coord, geometry, "Y" if role == "Y" else "X", bounds)
    if note:
        warnings.warn(f"{note}.", AssumptionWarning, stacklevel=5)
    return edges


def _coords(da: xr.DataArray, dims: tuple[str, str]) -> dict[str, xr.Variable]:
    """Coordinates along the dimensions, cleaned: their cells are described anew."""
    along = {
        str(name): clean(coord.variable)
        for name, coord in da.coords.items()
        if coord.dims and set(map(str, coord.dims)) <= set(dims)
    }
    return {d: along[d] for d in dims if d in along} | along


def _bounds(data: Labelled, name: str) -> Array | None:
    coord = data[name]
    found = bounds_name(coord.attrs, coord.encoding)
    if found is None or not isinstance(data, xr.Dataset) or found not in data.variables:
        return None
    return eager(data.variables[found])


def _names_of_bounds(data: Labelled, names: tuple[str, ...]) -> dict[str, str]:
    found = {n: bounds_name(data[n].attrs, data[n].encoding) for n in names}
    return {n: bounds for n, bounds in found.items() if bounds}


def _mapping(data: Labelled, da: xr.DataArray) -> tuple[str, xr.Variable] | None:
    """Find the grid mapping: the one that is named, or the only one that there is."""
    named = grid_mapping_of(da)
    variables = {str(n): c.variable for n, c in da.coords.items()}
    if isinstance(data, xr.Dataset):
        variables |= {str(n): v for n, v in data.variables.items()}
    names = grid_mapping_names(named) or [
        name
        for name, v in variables.items()
        if {"grid_mapping_name", "crs_wkt", "spatial_ref"} & set(v.attrs)
    ]
    known = [(name, clean(variables[name])) for name in names if name in variables]
    return known[0] if known and (named or len(known) == 1) else None


def _is_rotated(coord: xr.DataArray) -> bool:
    standard_name = str(coord.attrs.get("standard_name", ""))
    by_name = not standard_name and str(coord.name).lower() in ("rlat", "grid_latitude")
    return standard_name == "grid_latitude" or by_name
