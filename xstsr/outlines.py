"""Outlines of grid cells as polygons, as arrays.

Straight lines of one map are curves on another, so outlines have points between their
corners. Neighbours share them: no gaps, no overlaps.
"""

import numpy as np
from numpy.typing import NDArray

from xstsr.errors import GridError
from xstsr.geometry.cells import lat_lon, unit_vectors

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Pair = tuple[Floats, Floats]


def boxes(y_ends: Floats, x_ends: Floats, parts: int) -> Pair:
    """Outline rectangular cells.

    Parameters
    ----------
    y_ends, x_ends : ndarray, shape (P, 2)
        Both edges of each cell in y and in x, in any unit.
    parts : int
        Pieces of each side.

    Returns
    -------
    tuple of ndarray, shapes (P, 4 * parts)
        y and x of the points: along the first edge in y, then on round the cell.

    Examples
    --------
    >>> y, x = boxes(np.array([[0.0, 1.0]]), np.array([[4.0, 6.0]]), 1)
    >>> y.tolist(), x.tolist()
    ([[0.0, 0.0, 1.0, 1.0]], [[4.0, 6.0, 6.0, 4.0]])
    """
    (y, back_y), (x, back_x) = (_there_and_back(e, parts) for e in (y_ends, x_ends))
    first_y, last_y, first_x, last_x = (
        np.repeat(ends[:, k : k + 1], parts, axis=1)
        for ends in (y_ends, x_ends)
        for k in (0, 1)
    )
    return (
        np.concatenate([first_y, y, last_y, back_y], axis=1),
        np.concatenate([x, last_x, back_x, first_x], axis=1),
    )


def _there_and_back(ends: Floats, parts: int) -> Pair:
    """Points from one end to the other and back, each way without the last.

    Neighbours run along their common side in opposite directions over the same points.
    """
    share = np.arange(parts + 1) / parts
    points = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * share
    return points[:, :-1], points[:, :0:-1]


def great_circles(lat: Floats, lon: Floats, parts: int) -> Pair:
    """Outline cells with four corners on the sphere.

    Parameters
    ----------
    lat, lon : ndarray, shape (P, 4)
        Corners in degrees, in order.
    parts : int
        Pieces of each side, which is part of a great circle.

    Returns
    -------
    tuple of ndarray, shapes (P, 4 * parts)
        Latitudes and longitudes of the points.
    """
    corners = unit_vectors(lat, lon)[:, :, None]
    share = np.arange(parts)[:, None] / parts
    points = corners + (np.roll(corners, -1, axis=1) - corners) * share
    lats, lons = lat_lon(points.reshape(len(corners), -1, 3), lon)
    return lats, lons


def corners_from_centers(lat: Floats, lon: Floats) -> Pair:
    """Find the corners of curvilinear cells half-way between their centres.

    Parameters
    ----------
    lat, lon : ndarray, shape (Y, X), Y and X >= 2
        Centres in degrees.

    Returns
    -------
    tuple of ndarray, shapes (Y, X, 4)
        Latitudes and longitudes of the corners, in order round each cell; outer cells
        reach as far outwards as inwards.

    Raises
    ------
    GridError
        An axis has a single cell.
    """
    if min(lat.shape) < 2:
        raise GridError(
            f"cannot find the corners of curvilinear cells of shape {lat.shape}: each "
            "axis needs two cells or more. Pass a Dataset with bounds of latitude and "
            "longitude, of shape (y, x, 4)."
        )
    vectors = unit_vectors(lat, lon)
    for axis in (0, 1):
        v = np.moveaxis(vectors, axis, 0)
        v = np.concatenate([[2 * v[0] - v[1]], v, [2 * v[-1] - v[-2]]])
        vectors = np.moveaxis((v[:-1] + v[1:]) / 2, 0, axis)
    lats, lons = lat_lon(vectors, lon)
    return _round_cells(lats), _round_cells(lons)


def _round_cells(corners: Floats) -> Floats:
    """From corners of a grid, (Y + 1, X + 1), to those of its cells, (Y, X, 4)."""
    a, b, c, d = (
        corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]
    )  # fmt: skip
    return np.stack([a, b, c, d], axis=-1)


def corners_of_grid(corners: Floats) -> Floats:
    """Return the corners that cells share: the inverse of finding each cell's own.

    Parameters
    ----------
    corners : ndarray, shape (Y, X, 4)
        Latitudes or longitudes of the corners, in order round each cell.

    Returns
    -------
    ndarray, shape (Y + 1, X + 1)

    Raises
    ------
    GridError
        The corners of neighbours are not the same.
    """
    rows, columns, _ = corners.shape
    shared = np.empty((rows + 1, columns + 1))
    shared[:-1, :-1] = corners[..., 0]
    shared[:-1, -1] = corners[:, -1, 1]
    shared[-1, :-1] = corners[-1, :, 3]
    shared[-1, -1] = corners[-1, -1, 2]
    away = np.abs((_round_cells(shared) - corners + 180.0) % 360.0 - 180.0)
    if np.nanmax(away) > 1e-3:
        at = np.unravel_index(int(np.nanargmax(away)), away.shape)[:2]
        place = tuple(int(k) for k in at)
        raise GridError(
            f"cannot use the corners of the curvilinear cells: those of cell {place} "
            f"and its neighbours are {np.nanmax(away):g} degrees apart. Pass bounds "
            "whose vertices go round each cell in the same order, as CF says."
        )
    return shared


def near(lat: Floats, lon: Floats, other_lat: Floats, other_lon: Floats) -> Bools:
    """Tell which places may lie within a region.

    Projections say nothing sensible of places far from where they are made for.

    Parameters
    ----------
    lat, lon : ndarray, any shape
        Places in degrees.
    other_lat, other_lon : ndarray, any shape
        Cell centres of the region.

    Returns
    -------
    ndarray of bool, shape of ``lat``
        Whether a place is in a circle round the region that is somewhat too large.
    """
    middle_lat, middle_lon, far = circle(other_lat, other_lon)
    middle = unit_vectors(np.array(middle_lat), np.array(middle_lon))
    away = np.rad2deg(np.arccos(np.clip(unit_vectors(lat, lon) @ middle, -1, 1)))
    inside: Bools = away < 1.25 * far + 5
    return inside


def circle(lat: Floats, lon: Floats) -> tuple[float, float, float]:
    """Draw a circle round places on the sphere.

    Parameters
    ----------
    lat, lon : ndarray, any shape
        Places in degrees; NaN is left out.

    Returns
    -------
    tuple of float
        Latitude and longitude of its middle, the direction of the mean place, and its
        radius: 180 where places lie all round the globe. All in degrees.

    Examples
    --------
    >>> circle(np.array([40.0, 50.0, 60.0]), np.array([9.0, 9.0, 9.0]))
    (50.0, 9.0, 10.0)
    """
    vectors = unit_vectors(lat, lon).reshape(-1, 3)
    mean = np.nanmean(vectors, axis=0)
    length = float(np.linalg.norm(mean))
    if length < 0.1:
        return 0.0, float(np.nanmean(lon)), 180.0
    cosine = np.nanmin(vectors @ mean) / length
    far = float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
    middle_lat, middle_lon = lat_lon(mean, np.zeros(1))
    return float(middle_lat), float(middle_lon), far
