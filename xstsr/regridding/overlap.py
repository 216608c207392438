"""Overlap weights of two `Grid`: by axes, by polygons, or by xesmf.

On one surface rectilinear grids have weights for each axis. Where surfaces differ, the
cells of the coarser grid are outlined on the surface of the other, and their areas
there are exact up to the pieces of the outline. Measured on a plane that is not of
equal area, means are right where its scale hardly changes within a cell.
"""

import warnings
from typing import cast

import numpy as np

from xstsr.errors import AssumptionWarning, GridError
from xstsr.geometry.cells import EARTH_RADIUS_M, spacing_km
from xstsr.geometry.polygons import (
    boxes,
    corners_of_grid,
    great_circles,
    near,
    polygon_areas,
    unwrap,
)
from xstsr.geometry.projections import transform
from xstsr.regridding.grid import Grid, Pair
from xstsr.regridding.weights import (
    AnyWeights,
    Weights,
    axis_weights,
    cells_in_polygons,
    link,
    xesmf_weights,
)
from xstsr.typing import Bools, Floats, Ints

_BATCH = 2**16  # cells outlined at a time: some 100 MB


def weights_between(source: Grid, target: Grid) -> AnyWeights:
    """Find the overlap weights of two grids.

    Parameters
    ----------
    source, target : Grid

    Returns
    -------
    Weights or AxisWeights
        Whose rows add up to the part of a target cell that the source covers.

    Raises
    ------
    GridError
        The grids have nothing in common, cannot be placed on the globe, or are both
        curvilinear and xesmf is not there.
    """
    if _on_one_surface(source, target):
        return axis_weights(_in_metres(source), _in_metres(target), source.geometry)
    for word, grid in (("source", source), ("target", target)):
        if not (grid.has_surface or grid.corners):
            raise unplaced(word, grid)
    if not (source.has_surface or target.has_surface):
        return xesmf_weights(_corner_arrays(source), _corner_arrays(target))
    few = np.prod(source.shape) <= np.prod(target.shape)
    if target.has_surface and (few or not source.has_surface):
        column, row, area, _ = _shared(source, target)
        whole = _measures(target)
    else:
        row, column, area, whole = _shared(target, source)
    if not area.size:
        raise GridError(
            "cannot regrid: source and target have no area in common. The source is "
            f"{_whereabouts(source)}, the target {_whereabouts(target)}. Choose a "
            "target inside the source, or correct its projection."
        )
    shape = whole.size, int(np.prod(source.shape))
    matrix = link(area / whole[row], row, column, shape)
    return Weights(matrix, source.shape, target.shape)


def unplaced(word: str, grid: Grid) -> GridError:
    """Say that nobody knows where on the globe a grid is.

    Parameters
    ----------
    word : str
        "source" or "target".
    grid : Grid
    """
    return GridError(
        f"cannot place the {word} grid along {grid.dims} on the globe: neither its "
        "projection nor latitudes and longitudes are known. Pass a Dataset with a grid "
        "mapping, or add one: da.assign_coords(crs=xr.Variable((), 0, "
        'pyproj.CRS("EPSG:3035").to_cf())).'
    )


def cell_areas(grid: Grid) -> Floats:
    """Return the areas of a grid's cells.

    Parameters
    ----------
    grid : Grid

    Returns
    -------
    ndarray, shape (Y, X)
        Square metres; in the plane of a projection where there is one.
    """
    if grid.edges is not None:
        return grid.areas()
    corners = [c.reshape(-1, 4) for c in cast(Pair, grid.corners)]
    lat, lon = great_circles(corners[0], corners[1], 8)
    u, v = unwrap(lon, np.sin(np.deg2rad(lat)))
    return (np.deg2rad(polygon_areas(u, v)) * EARTH_RADIUS_M**2).reshape(grid.shape)


def grid_spacing_km(grid: Grid) -> float:
    """Return one representative spacing of a grid's cells in km."""
    if grid.edges is not None:
        return spacing_km(*grid.edges, grid.geometry, grid.metres)
    return float(np.sqrt(np.nanmedian(cell_areas(grid))) / 1000)


def outline(grid: Grid, cells: Ints, onto: Grid | None) -> Pair:
    """Outline cells on the surface of another grid.

    Parameters
    ----------
    grid : Grid
        Whose surface or corners are known.
    cells : ndarray, shape (P,)
        Numbers of cells, in C order.
    onto : Grid or None
        Whose surface is known; None is latitude and longitude.

    Returns
    -------
    tuple of ndarray, shapes (P, K)
        y and x on that surface; NaN where it is not defined.
    """
    row, column = np.divmod(cells, grid.shape[1])
    # with these a cell's weights are known to 1e-5
    parts = int(np.clip(np.ceil(grid_spacing_km(grid) / 5), 6, 64))
    if not grid.has_surface:
        lat, lon = (c[row, column] for c in cast(Pair, grid.corners))
        lats, lons = great_circles(lat, lon, parts)
        return onto.from_lat_lon(lats, lons) if onto else (lats, lons)
    y_edges, x_edges = cast(Pair, grid.edges)
    y, x = boxes(_ends(y_edges, row), _ends(x_edges, column), parts)
    if onto is None or onto.crs is None:
        return grid.to_lat_lon(y, x)
    u, v = transform(x * grid.metres, y * grid.metres, grid.crs, onto.crs)
    return v / onto.metres, u / onto.metres


def _ends(edges: Floats, cells: Ints) -> Floats:
    return np.stack([edges[cells], edges[cells + 1]], axis=1)


def batches(cells: Bools) -> list[Ints]:
    """Return the numbers of chosen cells, in parts that fit in memory."""
    chosen = np.flatnonzero(cells)
    return [chosen[i : i + _BATCH] for i in range(0, chosen.size, _BATCH)]


def _shared(grid: Grid, onto: Grid) -> tuple[Ints, Ints, Floats, Floats]:
    """Areas that outlined cells share with those of another grid, and their own."""
    places, region = grid.lat_lon(), onto.lat_lon()
    assert places is not None
    assert region is not None
    y_edges, x_edges = cast(Pair, onto.edges)
    own = np.zeros(int(np.prod(grid.shape)))
    none = np.zeros(0, np.int64)
    found: list[tuple[Ints, Ints, Floats]] = [(none, none, np.zeros(0))]
    for cells in batches(near(*places, *region)):
        v, u = outline(grid, cells, onto)
        if onto.geometry == "sphere":
            u, v = unwrap(u, np.sin(np.deg2rad(v)))
        which, cell, area = cells_in_polygons(u, v, y_edges, x_edges, onto.geometry)
        found.append((cells[which], cell, area))
        own[cells] = polygon_areas(u, v)
    which, cell, area = map(np.concatenate, zip(*found, strict=True))
    return which, cell, area, own


def _on_one_surface(source: Grid, target: Grid) -> bool:
    """Tell whether both are rectilinear in the same coordinates."""
    if source.edges is None or target.edges is None:
        return False
    if (source.geometry, source.rotated) != (target.geometry, target.rotated):
        return False
    if (source.crs is None) == (target.crs is None):
        return bool(source.crs == target.crs)
    lost, grid = ("source", source) if source.crs is None else ("target", target)
    if grid.corners:
        return False
    warnings.warn(
        f"the {lost} grid has no grid mapping; its coordinates along {grid.dims} are "
        "taken for those of the other's projection. To say otherwise add its own.",
        AssumptionWarning,
        stacklevel=4,
    )
    return True


def _in_metres(grid: Grid) -> Pair:
    y, x = cast(Pair, grid.edges)
    return y * grid.metres, x * grid.metres


def _measures(grid: Grid) -> Floats:
    """Areas of a rectilinear grid's cells in the units of `_shared`, flat."""
    y, x = cast(Pair, grid.edges)
    heights = np.abs(np.diff(np.sin(np.deg2rad(y)) if grid.geometry == "sphere" else y))
    return np.outer(heights, np.abs(np.diff(x))).ravel()


def _corner_arrays(grid: Grid) -> dict[str, Floats]:
    """Centres and corners of a curvilinear grid, named as xesmf names them."""
    places = grid.lat_lon()
    assert places is not None
    corners = [corners_of_grid(c) for c in cast(Pair, grid.corners)]
    names = ("lat", "lon", "lat_b", "lon_b")
    return dict(zip(names, (*places, *corners), strict=True))


def _whereabouts(grid: Grid) -> str:
    places = grid.lat_lon()
    assert places is not None
    ends = [f(a) for a in places for f in (np.nanmin, np.nanmax)]
    return "at {:.4g} to {:.4g} N, {:.4g} to {:.4g} E".format(*ends)
