"""Grids to go to: like another field's, of a spacing, or on a projection.

Cells of a spacing begin at its multiples (latitudes at those counted from the pole), so
that two regions of one field come out on grids that fit together.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import xarray as xr

from xstsr.cf.units import metres_per
from xstsr.errors import GridError
from xstsr.geometry.cells import centers
from xstsr.geometry.polygons import circle, unwrap
from xstsr.geometry.projections import is_crs, local_crs, metres_per_unit, read_crs
from xstsr.regridding.grid import Grid, Pair, read_grid
from xstsr.regridding.overlap import (
    batches,
    grid_spacing_km,
    outline,
    unplaced,
)
from xstsr.typing import Floats, Geometry

KM_PER_DEGREE = 111.2
_SPACING = re.compile(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([^0-9\s].*)$", re.IGNORECASE)
_DEGREES = {
    **dict.fromkeys(("degree", "degrees", "deg", "°"), 1.0),
    **dict.fromkeys(("arcmin", "arcminute", "arcminutes"), 1 / 60),
    **dict.fromkeys(("arcsec", "arcsecond", "arcseconds"), 1 / 3600),
}
_FAR = 45.0  # degrees: there a local grid is off by 8 % in length
_MOST = 2**30  # cells


def target_grid(target: Any, source: Grid, spacing: str | None) -> tuple[Grid, str]:
    """Find the grid that a user means.

    Parameters
    ----------
    target : DataArray, Dataset, str or pyproj.CRS
        As in `xstsr.regrid`.
    source : Grid
        Of the field that goes there.
    spacing : str or None
        Of a projection's cells.

    Returns
    -------
    tuple of Grid and str
        The grid, and its name for the history.

    Raises
    ------
    GridError
        The target or the spacing cannot be read, or does not fit the source.
    """
    if isinstance(target, xr.DataArray | xr.Dataset):
        _refuse_spacing(target, spacing)
        grid = read_grid(target)
        rows, columns = grid.shape
        return grid, f"{rows} x {columns} {grid.y_dim} {grid.x_dim}"
    if isinstance(target, str) and _SPACING.match(target):
        _refuse_spacing(target, spacing)
        size, is_angle = read_spacing(target)
        grid = _in_degrees(source, size) if is_angle else _in_metres(source, size)
        return grid, target
    if not (isinstance(target, str) or is_crs(target)):
        raise GridError(
            f"cannot regrid to {target!r}: a target is a DataArray or Dataset with the "
            'grid, a spacing with its unit ("10 km", "0.25 degrees"), or a projection '
            '("EPSG:3035").'
        )
    crs = read_crs(target)
    if crs.is_derived and crs.is_geographic:
        raise GridError(
            f"cannot lay a grid on the rotated pole {crs.name!r}: nothing tells where "
            "it begins. Pass a field that lies on the rotated grid as the target."
        )
    text = spacing or _own_spacing(source, is_angle=crs.is_geographic)
    size, is_angle = read_spacing(text)
    if is_angle != crs.is_geographic:
        raise GridError(
            f"cannot use spacing={text!r} with {crs.name!r}: its coordinates are "
            f"{'angles' if crs.is_geographic else 'lengths'}. Pass "
            f'spacing="{"0.25 degrees" if crs.is_geographic else "10 km"}".'
        )
    grid = _in_degrees(source, size) if is_angle else _on_plane(source, size, crs)
    return grid, f"{crs.to_string() if is_crs(target) else target}, {text}"


def read_spacing(text: object) -> tuple[float, bool]:
    """Read a spacing with its unit.

    Parameters
    ----------
    text : object
        A str such as "10 km", "2500 m", "0.25 degrees", "30 arcmin".

    Returns
    -------
    tuple of float and bool
        Metres, or degrees and True.

    Raises
    ------
    GridError
        It has no unit, another unit, or is not above zero.

    Examples
    --------
    >>> read_spacing("10 km"), read_spacing("30 arcmin")
    ((10000.0, False), (0.5, True))
    """
    match = _SPACING.match(text) if isinstance(text, str) else None
    try:
        number, unit = (match[1], match[2].strip()) if match else ("", "")
        is_angle = unit.lower() in _DEGREES
        size = float(number) * (
            _DEGREES[unit.lower()] if is_angle else metres_per(unit)
        )
    except ValueError:
        size, is_angle = 0.0, False
    if not size > 0:
        raise GridError(
            f"cannot read the spacing {text!r}: it is a number above zero with a unit "
            'of length or of angle, such as "10 km" or "0.25 degrees".'
        )
    return size, is_angle


def _refuse_spacing(target: Any, spacing: str | None) -> None:
    if spacing is not None:
        what = repr(target) if isinstance(target, str) else type(target).__name__
        raise GridError(
            f"cannot use spacing={spacing!r} with the target {what}, which has its own."
            " Leave it out, or pass a projection as the target."
        )


def _own_spacing(source: Grid, *, is_angle: bool) -> str:
    """Spacing of the source in two digits, for the surface of the target."""
    km = grid_spacing_km(source)
    return f"{km / KM_PER_DEGREE:.2g} degrees" if is_angle else f"{km:.2g} km"


def _in_degrees(source: Grid, size: float) -> Grid:
    """Cells of true latitude and longitude that hold the source."""
    true = source.has_surface and source.crs is None
    if true:
        y, x = cast(Pair, source.edges)
    else:
        y, x = _lat_lon_extent(source)
    # whole cells from pole to pole, where the size allows it
    south = -90.0 if abs(180 / size - round(180 / size)) < 1e-9 else 0.0
    lat = south + _multiples(y.min() - south, y.max() - south, size)
    lat = np.clip(np.round(lat, 9), -90.0, 90.0)
    if np.ptp(x) < 360 - 1e-3:
        lon = _multiples(x.min(), x.max(), size)
    else:
        count = round(360 / size)
        if abs(count * size - 360) > 1e-6:
            raise GridError(
                f"cannot cut the globe into cells of {size:g} degrees: 360 is no "
                f'multiple of it. Use "{360 / max(count, 1):.6g} degrees".'
            )
        first = round(float(x.min()) / size)
        lon = np.round(np.arange(first, first + count + 1) * size, 9)
    dims = source.dims if true else ("lat", "lon")
    attrs = {
        dim: dict(source.coords[dim].attrs)
        if true
        else {"standard_name": word, "units": f"degrees_{compass}", "axis": axis}
        for dim, word, compass, axis in zip(
            dims, ("latitude", "longitude"), ("north", "east"), "YX", strict=True
        )
    }
    mapping = source.mapping if true else None
    return _rectilinear(source, dims, attrs, (lat, lon), mapping=mapping)


def _in_metres(source: Grid, size: float) -> Grid:
    """Square cells: on the source's plane, or on one around its middle."""
    if source.edges is None or source.geometry == "sphere":
        lat, lon, far = circle(*_places(source))
        if far > _FAR:
            raise GridError(
                f"cannot lay one plane under a field that reaches {far:.0f} degrees "
                f"from its middle ({lat:.3g} N, {lon:.3g} E): beyond {_FAR:g} degrees "
                "lengths are too far off. Select a region, or give the spacing in "
                f'degrees: "{size / 1000 / KM_PER_DEGREE:.2g} degrees".'
            )
        return _on_plane(source, size, local_crs(round(lat, 2), round(lon, 2)))
    size /= source.metres
    edges = [_multiples(e.min(), e.max(), size) for e in source.edges]
    attrs = {dim: dict(source.coords[dim].attrs) for dim in source.dims}
    return _rectilinear(
        source,
        source.dims,
        attrs,
        (edges[0], edges[1]),
        metres=source.metres,
        crs=source.crs,
        mapping=source.mapping,
    )


def _on_plane(source: Grid, size: float, crs: Any) -> Grid:
    """Square cells on a projection that hold what it shows of the source."""
    plane = Grid("y", "x", {}, geometry="plane", crs=crs, metres=metres_per_unit(crs))
    lat, lon = _places(source)
    shown = np.ones(lat.shape, bool)
    use = crs.area_of_use
    if use is not None:
        width = (use.east - use.west) % 360 or 360
        shown = ((lon - use.west) % 360 <= width) & (lat >= use.south)
        shown &= lat <= use.north
    elif circle(lat, lon)[2] > 90:
        shown[:] = False
    ends = []
    for cells in batches(shown):
        y, x = outline(source, cells, plane)
        good = np.all(np.isfinite(y) & np.isfinite(x), axis=1)
        if good.any():
            ends.append([f(a[good]) for a in (y, x) for f in (np.min, np.max)])
    if not ends:
        raise GridError(
            f"cannot show the source (latitudes {lat.min():.4g} to {lat.max():.4g}, "
            f"longitudes {lon.min():.4g} to {lon.max():.4g}) on {crs.name!r}: it is "
            "made for another region, or for a smaller one. Select a region, or choose "
            "another projection."
        )
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    size /= plane.metres
    edges = _multiples(low[0], high[1], size), _multiples(low[2], high[3], size)
    attrs = {
        dim: {
            "standard_name": f"projection_{dim}_coordinate",
            "units": str(crs.axis_info[0].unit_name) if plane.metres != 1 else "m",
            "axis": dim.upper(),
        }
        for dim in ("y", "x")
    }
    mapping = ("crs", xr.Variable((), np.int32(0), crs.to_cf()))
    return _rectilinear(
        source,
        ("y", "x"),
        attrs,
        edges,
        metres=plane.metres,
        crs=crs,
        mapping=mapping,
    )


def _rectilinear(
    source: Grid,
    dims: tuple[str, str],
    attrs: Mapping[str, Mapping[str, Any]],
    edges: Pair,
    **surface: Any,
) -> Grid:
    """Label cells; rows run as the source's do."""
    rows, columns = (e.size - 1 for e in edges)
    if rows * columns > _MOST:
        raise GridError(
            f"cannot regrid to {rows} x {columns} cells: that is more than {_MOST:.0e}."
            " Choose a larger spacing, or a smaller region."
        )
    y, x = edges
    if source.edges is not None and source.edges[0][0] > source.edges[0][-1]:
        y = y[::-1]
    coords = {
        dim: xr.Variable(dim, np.round(centers(e), 9), dict(attrs[dim]))
        for dim, e in zip(dims, (y, x), strict=True)
    }
    geometry: Geometry = "plane" if "metres" in surface else "sphere"
    grid = Grid(*dims, coords, edges=(y, x), geometry=geometry, **surface)
    places = grid.lat_lon() if grid.crs is not None else None
    if places is None:
        return grid
    names = (("lat", "latitude", "north"), ("lon", "longitude", "east"))
    flat = {
        name: xr.Variable(
            dims, values, {"standard_name": word, "units": f"degrees_{compass}"}
        )
        for (name, word, compass), values in zip(names, places, strict=True)
    }
    return replace(grid, coords=coords | flat)


def _places(source: Grid) -> Pair:
    """Latitudes and longitudes of the cells, which must be known."""
    places = source.lat_lon()
    if places is None:
        raise unplaced("source", source)
    return places


def _lat_lon_extent(source: Grid) -> Pair:
    """Least and greatest latitude and longitude of the cells of a grid on a plane."""
    lat, lon = _places(source)
    _, middle, _ = circle(lat, lon)
    ends = []
    for cells in batches(np.isfinite(lat + lon)):
        y, x = outline(source, cells, None)
        good = np.all(np.isfinite(y) & np.isfinite(x), axis=1)
        u, v = unwrap(x[good], np.sin(np.deg2rad(y[good])))
        u -= 360.0 * np.round((u.mean(axis=1, keepdims=True) - middle) / 360.0)
        ends.append([f(a) for a in (v, u) for f in (np.min, np.max)])
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    extent = np.rad2deg(np.arcsin(np.clip([low[0], high[1]], -1, 1)))
    if high[3] - low[2] >= 360 - 1e-3:
        return extent, np.array([-180.0, 180.0])
    return extent, np.array([low[2], high[3]])


def _multiples(low: float, high: float, size: float) -> Floats:
    """Multiples of a size from the last below to the first above."""
    first, last = np.floor(low / size + 1e-6), np.ceil(high / size - 1e-6)
    return np.round(np.arange(first, last + 1) * size, 9)
