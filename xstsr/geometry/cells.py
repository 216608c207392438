"""Cells of a rectilinear grid: edges, labels, areas and spacing, as arrays.

Notation: an axis of N cells has N + 1 ``edges`` and N ``labels``. Time edges are
``int64`` microseconds, so that they telescope exactly; space edges are ``float64`` in
the coordinate's own unit. Both may run downwards (latitude often does).

Not here: attributes, dimension names, calendars. Those are in `xstsr.cf.read` and
`xstsr.cf.times`.
"""

import numpy as np

from xstsr.errors import GridError
from xstsr.factors import sides
from xstsr.typing import Array, Floats, Geometry, Label, Space

LABELS: tuple[Label, ...] = ("left", "mid", "right")
EARTH_RADIUS_M = 6_371_007.2  # radius of the sphere of WGS 84's area (Moritz, 2000)


def refine_edges(edges: Array, n: int) -> Array:
    """Split every cell into ``n`` equal parts; the coarse edges are kept bit for bit.

    Parameters
    ----------
    edges : ndarray, shape (N + 1,)
        Coarse edges: integers (microseconds) or floats (coordinate units).
    n : int
        Fine cells per coarse cell, 1 or more.

    Returns
    -------
    ndarray, shape (N * n + 1,)
        Fine edges with ``result[::n] == edges``, same dtype as ``edges``.

    Examples
    --------
    >>> refine_edges(np.array([0, 10, 30]), 2).tolist()
    [0, 5, 10, 20, 30]
    """
    start, width, k = edges[:-1, None], np.diff(edges)[:, None], np.arange(n)
    # b0 + (b1 - b0) * k // n in integers: each part is within 1 us of the others
    step = width * k // n if edges.dtype.kind == "i" else width * (k / n)
    return np.append((start + step).ravel(), edges[-1:])


def centers(edges: Array) -> Array:
    """Return the middle of every cell, rounded down for integer edges.

    Parameters
    ----------
    edges : ndarray, shape (N + 1,)
        Edges in any unit.

    Returns
    -------
    ndarray, shape (N,)
        Middles in the same unit and dtype.
    """
    half = np.diff(edges) // 2 if edges.dtype.kind == "i" else np.diff(edges) / 2
    middles: Array = edges[:-1] + half
    return middles


def labels_from_edges(edges: Array, label: Label) -> Array:
    """Return the left edge, the middle or the right edge of every cell.

    Parameters
    ----------
    edges : ndarray, shape (N + 1,)
        Edges in the order of the axis; "left" is the first edge of a cell.
    label : {"left", "mid", "right"}
        The convention of the labels.

    Returns
    -------
    ndarray, shape (N,)
        Labels in the unit and dtype of ``edges``.
    """
    if label == "mid":
        return centers(edges)
    return edges[:-1].copy() if label == "left" else edges[1:].copy()


def edges_from_labels(labels: Array, label: Label) -> Array:
    """Find the edges of contiguous cells from their labels.

    Parameters
    ----------
    labels : ndarray, shape (N,), N >= 2
        Strictly monotone labels.
    label : {"left", "mid", "right"}
        What the labels stand for. "mid" puts the edges half-way between labels.

    Returns
    -------
    ndarray, shape (N + 1,)
        Edges; the unknown outermost cell repeats the width of its neighbour.

    Raises
    ------
    GridError
        There are fewer than two labels, so that no width is known.
    """
    if labels.size < 2:
        raise GridError(
            f"cannot find cell edges from {labels.size} label(s): the width of a cell "
            "is unknown. Pass bounds, or at least two labels."
        )
    step = np.diff(labels)
    if label == "left":
        return np.append(labels, labels[-1:] + step[-1:])
    if label == "right":
        return np.append(labels[:1] - step[:1], labels)
    inner = centers(labels)
    return np.concatenate(
        [2 * labels[:1] - inner[:1], inner, 2 * labels[-1:] - inner[-1:]]
    )


def edges_from_centers(labels: Array) -> Array:
    """Find cell edges half-way between the centres of a rectilinear axis.

    Parameters
    ----------
    labels : ndarray, shape (N,), N >= 2
        Strictly monotone cell centres.

    Returns
    -------
    ndarray, shape (N + 1,)
        Edges; the outermost cells reach as far outwards as inwards.

    Raises
    ------
    GridError
        There are fewer than two labels.
    """
    return edges_from_labels(labels, "mid")


def edges_from_parts(labels: Floats, noise: float) -> Floats | None:
    """Find the edges of cells that were split in equal parts, from the parts' centres.

    A regular axis is one cell in N parts. Refining an axis whose cells are not equal (a
    Gaussian grid, half cells at the poles) gives groups of equal parts; edges half-way
    between labels would be wrong wherever two groups meet::

        |      .      |      .      |   .   |   .   |
               a             b          c       d       b to c: not half-way

    Parameters
    ----------
    labels : ndarray, shape (N,), N >= 2
        Strictly monotone cell centres.
    noise : float
        How far labels may be off by rounding, in their unit.

    Returns
    -------
    ndarray, shape (N + 1,), or None
        Edges, for the largest parts that fit; None if none do.
    """
    for n in range(labels.size, 1, -1):
        if labels.size % n:
            continue
        groups = labels.reshape(-1, n)
        width = (groups[:, -1] - groups[:, 0]) / (n - 1)
        even = groups[:, :1] + width[:, None] * np.arange(n)
        start, stop = groups[:, 0] - width / 2, groups[:, -1] + width / 2
        gaps = start[1:] - stop[:-1]
        if np.all(np.abs(groups - even) <= noise) and np.all(np.abs(gaps) <= noise):
            edges = np.concatenate([start[:1], start[1:] - gaps / 2, stop[-1:]])
            return refine_edges(edges, n)
    return None


def tidy(values: Floats, noise: float) -> Floats:
    """Round to the fewest decimals that all values have but for rounding.

    Parameters
    ----------
    values : ndarray, shape (N,)
        Edges or labels in one unit.
    noise : float
        How far values may be off, in their unit.

    Returns
    -------
    ndarray, shape (N,)
        The values as they are where they have no fewer decimals than the noise.

    Examples
    --------
    >>> tidy(np.array([50.1, 50.2]) - 0.3, noise=1e-13).tolist()
    [49.8, 49.9]
    """
    digits, wide = 0, 8 * noise  # decimals that noise alone has would mean nothing
    while 10.0**-digits > wide:
        rounded = np.round(values, digits)
        if np.all(np.abs(rounded - values) <= noise):
            return rounded
        digits += 1
    return values


def areas_sphere(y_edges_deg: Floats, x_edges_deg: Floats) -> Floats:
    """Return the area of latitude-longitude cells on the unit sphere.

    Their sum over the globe is 4 pi. Also right for the rotated coordinates of a
    rotated pole, since a rotation keeps areas.

    Parameters
    ----------
    y_edges_deg : ndarray, shape (Y + 1,)
        Latitude edges in degrees, either direction, within -90..90.
    x_edges_deg : ndarray, shape (X + 1,)
        Longitude edges in degrees.

    Returns
    -------
    ndarray, shape (Y, X)
        Areas in steradian, positive; times the radius squared gives m2.
    """
    heights, widths = side_lengths(y_edges_deg, x_edges_deg, "sphere")
    return heights[:, None] * widths


def areas_plane(y_edges: Floats, x_edges: Floats) -> Floats:
    """Return the area of cells in a plane.

    Parameters
    ----------
    y_edges, x_edges : ndarray, shapes (Y + 1,) and (X + 1,)
        Edges in one unit of length.

    Returns
    -------
    ndarray, shape (Y, X)
        Areas in that unit squared, positive.
    """
    heights, widths = side_lengths(y_edges, x_edges, "plane")
    return heights[:, None] * widths


def side_lengths(
    y_edges: Floats, x_edges: Floats, geometry: Geometry
) -> tuple[Floats, Floats]:
    """Return the two factors of cell areas, one for each row and one for each column.

    Cells that differ in width by no more than the rounding of their edges count as
    equally wide. Weights of fine cells are then the same to 1e-15, whether their edges
    came from a coarse grid, from bounds or from labels; else at 350 degrees east a cell
    of 0.002 degrees would be known to 3e-11 only.

    Parameters
    ----------
    y_edges, x_edges : ndarray, shapes (Y + 1,) and (X + 1,)
        Edges in degrees (sphere) or in units of length (plane).
    geometry : {"sphere", "plane"}
        Where the cells lie.

    Returns
    -------
    tuple of ndarray, shapes (Y,) and (X,)
        Their outer product is the area: in steradian, or in that unit squared.
    """
    heights, widths = _cell_widths(y_edges), _cell_widths(x_edges)
    if geometry == "plane":
        return heights, widths
    # sin b - sin a = 2 cos((a + b) / 2) sin((b - a) / 2), which loses no digits
    middles = np.deg2rad((y_edges[:-1] + y_edges[1:]) / 2)
    rows = 2 * np.cos(middles) * np.sin(np.deg2rad(heights) / 2)
    return rows, np.deg2rad(widths)


def _cell_widths(edges: Floats) -> Floats:
    widths = np.abs(np.diff(edges))
    rounding = 4 * np.spacing(np.max(np.abs(edges)))
    jumps = np.flatnonzero(np.abs(np.diff(widths)) > rounding) + 1
    runs = np.split(widths, jumps)
    return np.concatenate([np.full(run.size, run.mean()) for run in runs])


def areas_m2(
    y_edges: Floats, x_edges: Floats, geometry: Geometry, metres_per_unit: float = 1.0
) -> Floats:
    """Return cell areas in square metres, on the sphere or in the plane.

    Parameters
    ----------
    y_edges, x_edges : ndarray, shapes (Y + 1,) and (X + 1,)
        Edges in degrees (sphere) or in units of length (plane).
    geometry : {"sphere", "plane"}
        Where the cells lie.
    metres_per_unit : float
        Length of the coordinate unit in m; only for the plane.

    Returns
    -------
    ndarray, shape (Y, X)
        Areas in m2, positive.
    """
    if geometry == "sphere":
        return areas_sphere(y_edges, x_edges) * EARTH_RADIUS_M**2
    return areas_plane(y_edges, x_edges) * metres_per_unit**2


def spacing_km(
    y_edges: Floats,
    x_edges: Floats,
    geometry: Geometry = "sphere",
    metres_per_unit: float = 1.0,
) -> float:
    """Return one representative cell spacing: the root of the median cell area.

    Parameters
    ----------
    y_edges, x_edges : ndarray, shapes (Y + 1,) and (X + 1,)
        Edges in degrees (sphere) or in units of length (plane).
    geometry : {"sphere", "plane"}
        Where the cells lie.
    metres_per_unit : float
        Length of the coordinate unit in m; only for the plane.

    Returns
    -------
    float
        Spacing in km: the geometric mean of a median cell's two sides.
    """
    areas = areas_m2(y_edges, x_edges, geometry, metres_per_unit)
    return float(np.sqrt(np.median(areas)) / 1000)


def refine_2d(lat: Array, lon: Array, s: Space) -> tuple[Floats, Floats]:
    """Refine two-dimensional latitude and longitude on the sphere.

    Unit vectors are interpolated bilinearly between cell centres (extrapolated in the
    outer half cells) and put back on the sphere, so poles and the date line are no
    special case.

    Parameters
    ----------
    lat, lon : ndarray, shape (Y, X), Y and X >= 2
        Cell centres in degrees.
    s : int or tuple of int
        Fine cells per coarse cell along both sides, or along y and x; 1 or more.

    Returns
    -------
    tuple of ndarray, shape (Y * sy, X * sx) each
        Fine latitude and longitude in degrees, longitudes in the range of ``lon``
        (0..360 or -180..180).

    Raises
    ------
    GridError
        An axis has a single cell, so that the direction to a neighbour is unknown.
    """
    if min(lat.shape) < 2:
        raise GridError(
            f"cannot refine two-dimensional latitude and longitude of shape "
            f"{lat.shape}: each axis needs two cells or more. Drop these coordinates."
        )
    vectors = unit_vectors(lat, lon)
    for axis, factor in enumerate(sides(s)):
        vectors = _interpolate(vectors, factor, axis)
    return lat_lon(vectors, lon)


def coarsen_2d(lat: Array, lon: Array, s: Space) -> tuple[Floats, Floats]:
    """Average two-dimensional latitude and longitude over blocks, on the sphere.

    Parameters
    ----------
    lat, lon : ndarray, shape (Y * sy, X * sx)
        Fine cell centres in degrees.
    s : int or tuple of int
        Fine cells per coarse cell along both sides, or along y and x.

    Returns
    -------
    tuple of ndarray, shape (Y, X) each
        The direction of the mean unit vector of each block, in degrees, longitudes in
        the range of ``lon``.
    """
    sy, sx = sides(s)
    ny, nx = lat.shape[0] // sy, lat.shape[1] // sx
    blocks = unit_vectors(lat, lon).reshape(ny, sy, nx, sx, 3)
    return lat_lon(blocks.mean(axis=(1, 3)), lon)


def unit_vectors(lat: Array, lon: Array) -> Floats:
    """Turn degrees, of any shape, into vectors along a further axis of length 3."""
    phi, lam = np.deg2rad(lat.astype(float)), np.deg2rad(lon.astype(float))
    return np.stack(
        [np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1
    )


def lat_lon(vectors: Floats, like: Array) -> tuple[Floats, Floats]:
    """Turn vectors of any length into degrees, longitudes in the range of others.

    Parameters
    ----------
    vectors : ndarray, shape (..., 3)
        From the middle of the Earth.
    like : ndarray, any shape
        Longitudes [degrees].

    Returns
    -------
    tuple of ndarray, each of shape (...)
        Latitudes and longitudes [degrees].
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    lat, lon = np.rad2deg(np.arctan2(z, np.hypot(x, y))), np.rad2deg(np.arctan2(y, x))
    return lat, lon % 360 if np.nanmax(like) > 180 else lon


def _interpolate(vectors: Floats, factor: int, axis: int) -> Floats:
    # coarse centre i is at index i, so fine centre k is at (k + 1/2) / factor - 1/2
    size = vectors.shape[axis]
    at = (np.arange(size * factor) + 0.5) / factor - 0.5
    below = np.clip(np.floor(at).astype(int), 0, size - 2)
    weight = np.expand_dims(at - below, tuple(i for i in range(3) if i != axis))
    low, high = vectors.take(below, axis), vectors.take(below + 1, axis)
    between: Floats = low + (high - low) * weight
    return between
