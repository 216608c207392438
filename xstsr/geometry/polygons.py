r"""Areas that polygons share with the cells of a rectilinear grid, as arrays.

The area of a polygon inside a cell is found as a font renderer finds how much of a
pixel a glyph covers. Each edge of the polygon is cut at the grid's lines, and each part
of it has an area on its right, in its own cell and in all cells further right::

    v +-------+-------+-------+
      |    ___|_______|_______|     a part of height dv at mean u covers
      |   /   |       |       |     (right side of its cell - u) dv there,
      +--/----+-------+-------+     and width times dv in each cell on its right
         u                    u

Summed with the sign of dv round the polygon, what lies right of it cancels. Nothing is
sampled: for straight edges the areas are exact, whatever the shape and orientation.

Straight lines of one map are curves on another, so outlines of cells have points
between their corners. Neighbours share them: no gaps, no overlaps.

Not here: projections and what a grid is. Those are in `xstsr.regridding.grid`.
"""

import numpy as np

from xstsr.errors import GridError
from xstsr.geometry.cells import lat_lon, unit_vectors
from xstsr.typing import Bools, Floats, Ints

Shared = tuple[Ints, Ints, Floats]

_BATCH = 2**19  # corners at a time: some 100 MB
Pair = tuple[Floats, Floats]


def shared_areas(u: Floats, v: Floats, u_edges: Floats, v_edges: Floats) -> Shared:
    """Find the areas that polygons share with the cells of a grid.

    Parameters
    ----------
    u, v : ndarray, shape (P, K)
        Corners of P polygons, in order, either way round. Polygons with a corner that
        is not finite share nothing.
    u_edges, v_edges : ndarray, shapes (X + 1,) and (Y + 1,)
        Cell edges, strictly increasing, in the units of the corners.

    Returns
    -------
    polygon : ndarray, shape (N,)
        Number of a polygon.
    cell : ndarray, shape (N,)
        Number of a cell: row times X plus column.
    area : ndarray, shape (N,)
        What both share, positive. A polygon's areas add up to its own where the grid
        covers it.

    Examples
    --------
    A triangle over two cells:

    >>> edges = np.array([0.0, 1.0, 2.0])
    >>> _, cell, area = shared_areas(
    ...     np.array([[0.0, 2.0, 0.0]]), np.array([[0.0, 0.0, 1.0]]), edges, edges[:2]
    ... )
    >>> cell.tolist(), area.tolist()
    ([0, 1], [0.75, 0.25])
    """
    finite = np.flatnonzero(np.all(np.isfinite(u) & np.isfinite(v), axis=1))
    size = max(_BATCH // u.shape[1], 1)
    found = [
        _shared(batch, u[batch], v[batch], u_edges, v_edges)
        for batch in np.split(finite, range(size, finite.size, size))
    ]
    polygon, cell, area = zip(*found, strict=True)
    return np.concatenate(polygon), np.concatenate(cell), np.concatenate(area)


def polygon_areas(u: Floats, v: Floats) -> Floats:
    """Return the areas of polygons.

    Parameters
    ----------
    u, v : ndarray, shape (P, K)
        Corners in order, either way round.

    Returns
    -------
    ndarray, shape (P,)
        Positive, in the product of the units of ``u`` and ``v``.
    """
    u, v = u - u[:, :1], v - v[:, :1]
    after_u, after_v = np.roll(u, -1, axis=1), np.roll(v, -1, axis=1)
    areas: Floats = np.abs((u * after_v - after_u * v).sum(axis=1)) / 2
    return areas


def unwrap(u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Make polygons whole that cross the date line or hold a pole.

    Parameters
    ----------
    u : ndarray, shape (P, K)
        Longitudes of the corners in degrees, in any range.
    v : ndarray, shape (P, K)
        Sines of their latitudes.

    Returns
    -------
    tuple of ndarray, shapes (P, K + 3)
        Longitudes without jumps. A polygon round a pole is closed along that pole, as
        it is on a map; to the others their first corner is added three times.
    """
    steps = np.diff(u, axis=1, append=u[:, :1])
    steps = (steps + 180.0) % 360.0 - 180.0
    whole = u[:, :1] + np.concatenate(
        [np.zeros_like(u[:, :1]), np.cumsum(steps, axis=1)], axis=1
    )
    turns = np.round((whole[:, -1:] - whole[:, :1]) / 360.0)
    first, last = whole[:, :1], whole[:, :1] + 360.0 * turns
    pole = np.copysign(1.0, v.mean(axis=1, keepdims=True))
    end = np.where(turns != 0, pole, v[:, :1])
    return (
        np.concatenate([whole[:, :-1], last, last, first], axis=1),
        np.concatenate([v, v[:, :1], end, end], axis=1),
    )


def _shared(
    polygon: Ints, u: Floats, v: Floats, u_edges: Floats, v_edges: Floats
) -> Shared:
    """Cut the edges of some polygons at the grid's lines and add up what they cover."""
    rows, columns = v_edges.size - 1, u_edges.size - 1
    us, vs = (np.stack([a, np.roll(a, -1, axis=1)]).reshape(2, -1) for a in (u, v))
    owner = np.repeat(np.arange(len(u)), u.shape[1])
    part, row, vs, us = _cut(vs, us, v_edges)
    inside = (row >= 0) & (row < rows) & (vs[0] != vs[1])
    owner, row = owner[part][inside], row[inside]
    part, column, us, vs = _cut(us[:, inside], vs[:, inside], u_edges)
    rise = vs[1] - vs[0]
    middle = np.clip(us.mean(axis=0), u_edges[0], u_edges[-1])
    column = np.clip(column, 0, columns - 1)
    own = rise * (u_edges[column + 1] - middle)
    strip = owner[part] * rows + row[part]
    strip, column, area = _sweep(strip, column, own, rise, np.diff(u_edges))
    row = strip % rows
    whole = np.diff(v_edges)[row] * np.diff(u_edges)[column]
    real = area > 1e-10 * whole  # less is rounding where edges meet
    cell = row * columns + column
    return polygon[strip // rows][real], cell[real], area[real]


def _cut(a: Floats, b: Floats, lines: Floats) -> tuple[Ints, Ints, Floats, Floats]:
    """Cut segments where their first coordinate crosses lines.

    Segments run from ``(a[0], b[0])`` to ``(a[1], b[1])``; so do their parts, of which
    the first result says whose they are, the second between which lines, from -1 on.
    """
    low, high = a.min(axis=0), a.max(axis=0)
    first = np.searchsorted(lines, low, "right")
    last = np.maximum(np.searchsorted(lines, high, "left"), first)
    which, within = _ragged(last - first + 1)
    place = first[which] + within
    ends = np.concatenate([[-np.inf], lines, [np.inf]])
    cut = np.stack(
        [np.maximum(low[which], ends[place]), np.minimum(high[which], ends[place + 1])]
    )
    cut = np.where(a[0, which] <= a[1, which], cut, cut[::-1])
    run = np.where(low == high, 1.0, a[1] - a[0])
    slope = (b[1] - b[0]) / run
    other = b[0, which] + (cut - a[0, which]) * slope[which]
    # a segment along a line is not cut, and keeps both its ends
    return (
        which,
        place - 1,
        cut,
        np.where(low[which] == high[which], b[:, which], other),
    )


def _sweep(
    strip: Ints, column: Ints, own: Floats, rise: Floats, widths: Floats
) -> tuple[Ints, Ints, Floats]:
    """Add up, from left to right, what parts of edges cover in each row of cells."""
    order = np.argsort(strip, kind="stable")
    strip, column, own, rise = strip[order], column[order], own[order], rise[order]
    new = np.flatnonzero(np.diff(strip, prepend=-1))
    if not new.size:
        return strip, column, own
    least = np.minimum.reduceat(column, new)
    lengths = np.maximum.reduceat(column, new) - least + 1
    offsets = np.cumsum(lengths) - lengths
    group = np.repeat(np.arange(new.size), np.diff(new, append=strip.size))
    at = offsets[group] + column - least[group]
    size = int(lengths.sum())
    cover = np.bincount(at, rise, size)
    before = np.cumsum(cover) - cover
    which, within = _ragged(lengths)
    before -= before[offsets][which]
    columns = least[which] + within
    area = np.abs(np.bincount(at, own, size) + before * widths[columns])
    return strip[new][which], columns, area


def _ragged(lengths: Ints) -> tuple[Ints, Ints]:
    """Return the group of each item and its place there, for groups of such lengths."""
    which = np.repeat(np.arange(lengths.size), lengths)
    starts = np.cumsum(lengths) - lengths
    return which, np.arange(which.size) - starts[which]


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
