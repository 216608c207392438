r"""Conservative overlap weights between two grids, as arrays.

A value on the target grid is the mean over the parts of source cells inside its cell:

.. math::
    v_t = \frac{\sum_s W_{ts} m_s v_s}{\sum_s W_{ts} m_s}, \qquad
    W_{ts} = \frac{|s \cap t|}{|t|}

with :math:`m_s` = 1 where a source value is known and 0 where it is missing. Rows of W
add up to the part of the target cell that the source covers: 1 inside. So constants are
kept, and so is the integral over every region that both grids tile.

For two rectilinear grids on one surface W is a product of two small matrices, one for
each axis; on the sphere that of y measures sines of latitude. Any other pair of grids
has one sparse matrix: from polygons, from xesmf, or from a weight file.

Not here: labels, projections, files. Those are in `xstsr.regridding.grid`,
`xstsr.regridding.frontend` and `xstsr.regridding.weight_files`.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from xstsr.errors import GridError
from xstsr.geometry.polygons import Shared, shared_areas
from xstsr.typing import Array, Floats, Geometry, Ints

Shape = tuple[int, int]
Steps = Callable[[Floats], Floats]

_SNAP = 1e-9  # of a cell: edges nearer than this are the same edge
_CONDA = "conda install -c conda-forge xesmf esmpy"


@dataclass(frozen=True, eq=False)
class Weights:
    """Overlap weights of two grids: one sparse matrix, cells in C order."""

    matrix: Any
    """Sparse, shape (target cells, source cells); rows add up to 1 or less."""
    source_shape: Shape
    """Rows and columns of the source grid."""
    target_shape: Shape
    """Rows and columns of the target grid."""

    @cached_property
    def covered(self) -> Floats:
        """Return the part of each target cell that is covered, shape (Y, X)."""
        return self.product(np.ones(self.source_shape))

    def product(self, field: Floats) -> Floats:
        """Multiply one field, shape of the source, by the weights."""
        flat: Floats = self.matrix @ field.ravel()
        return flat.reshape(self.target_shape)

    def full(self) -> "Weights":
        """Return the weights as one matrix of shape (targets, sources): these."""
        return self


@dataclass(frozen=True, eq=False)
class AxisWeights:
    """Overlap weights of two rectilinear grids: a matrix for each axis."""

    y: Any
    """Sparse, shape (target rows, source rows)."""
    x: Any
    """Sparse, shape (target columns, source columns)."""

    @property
    def source_shape(self) -> Shape:
        """Return the shape (Y, X) of the source grid."""
        return self.y.shape[1], self.x.shape[1]

    @property
    def target_shape(self) -> Shape:
        """Return the shape (Y, X) of the target grid."""
        return self.y.shape[0], self.x.shape[0]

    @cached_property
    def covered(self) -> Floats:
        """Return the part of each target cell that is covered, shape (Y, X)."""
        rows, columns = (np.asarray(m.sum(axis=1)).ravel() for m in (self.y, self.x))
        covered: Floats = rows[:, None] * columns
        return covered

    def product(self, field: Floats) -> Floats:
        """Multiply one field, shape of the source, by the weights."""
        if self.y.shape[0] * field.shape[1] <= field.shape[0] * self.x.shape[0]:
            return _times(self.y @ field, self.x)
        made: Floats = self.y @ _times(field, self.x)
        return made

    def full(self) -> Weights:
        """Return the weights as one matrix, shape (target cells, source cells)."""
        from scipy import sparse

        matrix = sparse.csr_array(sparse.kron(self.y, self.x))
        return Weights(matrix, self.source_shape, self.target_shape)


AnyWeights = Weights | AxisWeights


def link(part: Floats, row: Ints, column: Ints, shape: Shape) -> Any:
    """Put weights into a sparse matrix; several of one pair are added up.

    Parameters
    ----------
    part : ndarray, shape (N,)
        Weights.
    row, column : ndarray, shape (N,)
        Numbers of target and source cells.
    shape : tuple of int
        How many of each there are.

    Returns
    -------
    sparse matrix
        In rows, as products need it.
    """
    from scipy import sparse  # late, for it takes a tenth of a second

    return sparse.coo_array((part, (row, column)), shape).tocsr()


def means(weights: AnyWeights, field: Array, min_valid: float) -> Array:
    """Average fields over the cells of the target grid.

    Parameters
    ----------
    weights : Weights or AxisWeights
        Of the two grids.
    field : ndarray, shape (..., Y, X)
        On the source grid; NaN is missing.
    min_valid : float
        Part of a target cell, 0..1, that known source cells must cover; else the
        result is NaN. At 0 any part will do.

    Returns
    -------
    ndarray, shape (..., Y', X')
        Means over the known parts, in the dtype of ``field``, computed in float64.
    """
    lead = field.shape[:-2]
    flat = field.reshape(-1, *field.shape[-2:])
    made = np.empty((len(flat), *weights.target_shape), field.dtype)
    for i, values in enumerate(flat):
        made[i] = _mean(weights, values.astype(np.float64, copy=False), min_valid)
    return made.reshape(*lead, *weights.target_shape)


def _mean(weights: AnyWeights, values: Floats, min_valid: float) -> Floats:
    known = ~np.isnan(values)
    covered = weights.covered
    if not known.all():
        covered = weights.product(known.astype(np.float64))
        values = np.where(known, values, 0.0)
    enough = covered > max(min_valid, _SNAP) - _SNAP
    total = weights.product(values)
    mean: Floats = np.divide(
        total, covered, out=np.full_like(total, np.nan), where=enough
    )
    return mean


def _times(field: Floats, x: Any) -> Floats:
    """Multiply along the last axis."""
    made: Floats = field @ x.T
    return made


def axis_weights(
    source: tuple[Floats, Floats], target: tuple[Floats, Floats], geometry: Geometry
) -> AxisWeights:
    """Build the overlap weights of two rectilinear grids on one surface.

    Parameters
    ----------
    source, target : tuple of ndarray, shapes (Y + 1,) and (X + 1,)
        Edges of y and x, each in either direction: degrees, where longitudes repeat
        every 360, or lengths in one unit.
    geometry : {"sphere", "plane"}
        Where both grids lie.

    Returns
    -------
    AxisWeights

    Raises
    ------
    GridError
        The grids have no area in common.

    Examples
    --------
    Three cells from 0 to 9 into two from 1 to 9, and the one row that both have:

    >>> row = np.array([0.0, 1.0])
    >>> weights = axis_weights(
    ...     (row, np.array([0.0, 3, 6, 9])), (row, np.array([1.0, 5, 9])), "plane"
    ... )
    >>> weights.x.toarray().tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]
    """
    on_sphere = geometry == "sphere"
    y = _axis(source[0], target[0], _sine_steps if on_sphere else np.diff)
    x = _axis(source[1], target[1], np.diff, periodic=on_sphere)
    if not y.nnz or not x.nnz:
        name, i = ("y", 0) if not y.nnz else ("x", 1)
        raise _no_overlap(name, source[i], target[i])
    return AxisWeights(y, x)


def cells_in_polygons(
    u: Floats, v: Floats, y_edges: Floats, x_edges: Floats, geometry: Geometry
) -> Shared:
    """Find the areas that polygons share with the cells of any rectilinear grid.

    Parameters
    ----------
    u, v : ndarray, shape (P, K)
        Corners of P polygons: longitude in degrees and sine of latitude without jumps
        (see `xstsr.geometry.polygons.unwrap`), or lengths in the plane of the grid.
    y_edges, x_edges : ndarray, shapes (Y + 1,) and (X + 1,)
        Edges of the grid, in either direction: degrees, or lengths.
    geometry : {"sphere", "plane"}
        Where the grid lies.

    Returns
    -------
    polygon, cell : ndarray, shape (N,)
        Numbers of polygons and cells; a pair may come twice.
    area : ndarray, shape (N,)
        Degrees of longitude times sine of latitude, or lengths squared.
    """
    lines_v = np.sin(np.deg2rad(y_edges)) if geometry == "sphere" else y_edges
    lines_u, lines_v = np.sort(x_edges), np.sort(lines_v)
    turns = [0.0]
    if geometry == "sphere":
        turns = _turns(u, lines_u) if np.isfinite(u).any() else []
    found = [shared_areas(u + turn, v, lines_u, lines_v) for turn in turns]
    none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    polygon, cell, area = map(np.concatenate, zip(none, *found, strict=True))
    rows, columns = lines_v.size - 1, lines_u.size - 1
    row, column = np.divmod(cell, columns)
    row = rows - 1 - row if y_edges[0] > y_edges[-1] else row
    column = columns - 1 - column if x_edges[0] > x_edges[-1] else column
    return polygon, row * columns + column, area


def xesmf_weights(
    source: Mapping[str, Floats], target: Mapping[str, Floats]
) -> Weights:
    """Let xesmf find the overlap weights of two curvilinear grids.

    Cells are polygons of great circles there, so that a box of latitudes and longitudes
    is not quite what it is here.

    Parameters
    ----------
    source, target : mapping of str to ndarray
        "lat" and "lon" of the cells, shape (Y, X), and "lat_b" and "lon_b" of their
        corners, shape (Y + 1, X + 1), all in degrees.

    Returns
    -------
    Weights

    Raises
    ------
    GridError
        xesmf or the esmpy below it cannot be imported.
    """
    xesmf = _import_xesmf()
    regridder = xesmf.Regridder(dict(source), dict(target), "conservative")
    links = regridder.weights.data
    row, column = np.asarray(links.coords)
    rows, columns = source["lat"].shape, target["lat"].shape
    matrix = link(np.asarray(links.data), row, column, links.shape)
    return Weights(matrix, rows, columns)


def _import_xesmf() -> ModuleType:
    """Import xesmf, whose esmpy may be missing or broken."""
    try:
        importlib.import_module("esmpy")
        return importlib.import_module("xesmf")
    # an esmpy outside its conda environment fails with KeyError("ESMFMKFILE")
    except (ImportError, KeyError, OSError, RuntimeError) as error:
        raise GridError(
            "cannot regrid from one curvilinear grid to another without xesmf, which "
            f"cannot be imported ({type(error).__name__}: {error}). Install it with "
            f"`{_CONDA}` (esmpy is not on PyPI; environment.yml has both); or go to a "
            'regular grid, da.stsr.regrid("0.1 degrees"); or pass weights= with a file '
            "that ESMF_RegridWeightGen, cdo gencon or ncremap has written."
        ) from error


def _axis(
    source: Floats, target: Floats, steps: Steps, *, periodic: bool = False
) -> Any:
    """Find which part of each target cell lies in each source cell, along one axis."""
    shape = target.size - 1, source.size - 1
    rising, cells = np.sort(source), np.sort(target)
    parts, rows, columns = [], [], []
    for turn in _turns(rising, cells) if periodic else [0.0]:
        moved = _snapped(rising + turn, cells)
        ends = max(moved[0], cells[0]), min(moved[-1], cells[-1])
        cuts = np.unique(np.concatenate([moved, cells]))
        cuts = cuts[(cuts >= ends[0]) & (cuts <= ends[1])]
        middles = (cuts[:-1] + cuts[1:]) / 2
        rows.append(np.searchsorted(cells, middles) - 1)
        columns.append(np.searchsorted(moved, middles) - 1)
        parts.append(steps(cuts) / steps(cells)[rows[-1]])
    if not parts:
        return link(np.zeros(0), np.zeros(0, int), np.zeros(0, int), shape)
    row, column = np.concatenate(rows), np.concatenate(columns)
    row = shape[0] - 1 - row if target[0] > target[-1] else row
    column = shape[1] - 1 - column if source[0] > source[-1] else column
    return link(np.concatenate(parts), row, column, shape)


def _sine_steps(latitudes: Floats) -> Floats:
    """Differences of the sines of increasing latitudes, to the last digit."""
    low, high = np.deg2rad(latitudes[:-1]), np.deg2rad(latitudes[1:])
    steps: Floats = 2 * np.cos((low + high) / 2) * np.sin((high - low) / 2)
    return steps


def _turns(source: Floats, target: Floats) -> list[float]:
    """Full circles that bring longitudes to where others are."""
    first = np.floor((target.min() - np.nanmax(source)) / 360.0) + 1
    last = np.ceil((target.max() - np.nanmin(source)) / 360.0) - 1
    return [360.0 * k for k in range(int(first), int(last) + 1)]


def _snapped(edges: Floats, cells: Floats) -> Floats:
    """Move edges onto those that they mean: 359.9 - 360 is not quite -0.1."""
    noise = _SNAP * min(np.diff(edges).min(), np.diff(cells).min())
    after = np.clip(np.searchsorted(cells, edges), 1, cells.size - 1)
    low, high = cells[after - 1], cells[after]
    near = np.where(edges - low < high - edges, low, high)
    return np.where(np.abs(near - edges) <= noise, near, edges)


def _no_overlap(axis: str, source: Floats, target: Floats) -> GridError:
    return GridError(
        f"cannot regrid: source and target have no area in common. Along {axis} the "
        f"source spans {source.min():g} to {source.max():g}, the target "
        f"{target.min():g} to {target.max():g}. Choose a target inside the source."
    )
