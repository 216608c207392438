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

Not here: projections and what a grid is. Those are in `xstsr.regridding.grid`.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shared = tuple[Ints, Ints, Floats]

_BATCH = 2**19  # corners at a time: some 100 MB


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
