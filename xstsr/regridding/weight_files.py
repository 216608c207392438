"""Weights that other tools have written, as arrays: ESMF, xesmf, NCO, SCRIP, CDO.

Two layouts are in use, with cells numbered from 1, longitude fastest:

================  ===================  ================================================
Written by        Layout               Links, and what is known of the grids
================  ===================  ================================================
ESMF, NCO         ``row, col, S``      ``src_grid_dims, yc_a, xc_a, frac_b`` and others
xesmf             ``row, col, S``      nothing else
SCRIP, CDO        ``dst_address, src_  ``src_grid_dims, src_grid_center_lat,
                  address, remap_      dst_grid_frac`` and others
                  matrix``
================  ===================  ================================================

Weights come normalised by the area of the target cell or by the part of it that the
source covers; here rows always add up to that part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xstsr.errors import GridError
from xstsr.regridding.weights import Shape, Weights, link
from xstsr.typing import Array, Floats

_ESMF = {
    "row": "row",
    "col": "col",
    "values": "S",
    "source_dims": "src_grid_dims",
    "target_dims": "dst_grid_dims",
    "source_lat": "yc_a",
    "source_lon": "xc_a",
    "target_lat": "yc_b",
    "target_lon": "xc_b",
    "covered": "frac_b",
}
_SCRIP = {
    "row": "dst_address",
    "col": "src_address",
    "values": "remap_matrix",
    "source_dims": "src_grid_dims",
    "target_dims": "dst_grid_dims",
    "source_lat": "src_grid_center_lat",
    "source_lon": "src_grid_center_lon",
    "target_lat": "dst_grid_center_lat",
    "target_lon": "dst_grid_center_lon",
    "covered": "dst_grid_frac",
}
_AWAY = 1e-3  # degrees, or of a cell: files hold centres in float32, areas by chords


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two grids, as far as it is known."""

    shape: Shape
    """Rows and columns."""
    lat: Floats | None = None
    """Latitudes of the cell centres in degrees, shape (Y, X)."""
    lon: Floats | None = None
    """Longitudes of the cell centres in degrees, shape (Y, X)."""


def read_weights(
    variables: Mapping[str, Array], units: Mapping[str, str], source: Side, target: Side
) -> Weights:
    """Read overlap weights from the variables of a weight file.

    Parameters
    ----------
    variables : mapping of str to ndarray
        Of the file, by name, in either layout.
    units : mapping of str to str
        Units of the variables that have any: centres may be in radians.
    source, target : Side
        The grids for which the file must have been made.

    Returns
    -------
    Weights

    Raises
    ------
    GridError
        The layout is unknown, the weights are of second order or count area twice, or
        they were made for other grids.
    """
    names = next((n for n in (_ESMF, _SCRIP) if n["values"] in variables), None)
    if names is None or not {names["row"], names["col"]} <= set(variables):
        raise GridError(
            f"cannot read weights from the variables {sorted(variables)}: there are "
            "neither row, col, S (ESMF, xesmf, NCO) nor dst_address, src_address, "
            "remap_matrix (SCRIP, CDO). Pass a file made by ESMF_RegridWeightGen, "
            "`cdo gencon`, `ncremap` or xstsr.regridding.frontend.make_weights."
        )
    found = {key: variables[n] for key, n in names.items() if n in variables}
    for word, side in (("source", source), ("target", target)):
        in_degrees = {
            part: _degrees(found[f"{word}_{part}"], units.get(names[f"{word}_{part}"]))
            for part in ("lat", "lon")
            if f"{word}_{part}" in found
        }
        _check_side(word, side, found.get(f"{word}_dims"), in_degrees)
    return Weights(_matrix(found, source, target), source.shape, target.shape)


def _matrix(found: Mapping[str, Array], source: Side, target: Side) -> Any:
    if not found["row"].size:
        raise GridError(
            "cannot use these weights: they have no links, so that the grids have "
            "nothing in common. Make them anew from this field and this target."
        )
    values = np.asarray(found["values"], float).reshape(found["row"].size, -1)
    if values.shape[1] > 1:
        raise GridError(
            f"cannot use weights with {values.shape[1]} numbers for each link: they "
            "are of second order. Make them of first order: `cdo gencon`, or "
            "`ESMF_RegridWeightGen --method conserve`."
        )
    row, col = (np.asarray(found[k], np.int64) - 1 for k in ("row", "col"))
    sizes = int(np.prod(target.shape)), int(np.prod(source.shape))
    for word, at, size in (("target", row, sizes[0]), ("source", col, sizes[1])):
        if at.size and not 0 <= at.min() <= at.max() < size:
            raise _another(
                word, f"it has a cell {at.max() + 1} (or 0)", f"{size} cells"
            )
    total = np.bincount(row, values[:, 0], sizes[0])
    covered = np.asarray(found.get("covered", np.minimum(total, 1.0)), float).ravel()
    if covered.max(initial=0.0) > 1 + _AWAY:
        i = int(np.argmax(covered))
        raise GridError(
            f"cannot use these weights: those of target cell {i + 1} add up to "
            f"{covered[i]:.4g}, so that parts are counted twice. Make them anew, with "
            "another tool or with xstsr.regridding.frontend.make_weights."
        )
    rate = np.divide(covered, total, out=np.zeros_like(total), where=total > 0)
    return link(values[:, 0] * rate[row], row, col, sizes)


def _degrees(values: Array, units: str | None) -> Floats:
    in_radians = str(units or "").lower().startswith("rad")
    angles: Floats = np.asarray(values, float).ravel()
    return np.rad2deg(angles) if in_radians else angles


def _check_side(
    word: str, side: Side, dims: Array | None, centers: Mapping[str, Floats]
) -> None:
    """Refuse a file that was made for another grid than the one at hand."""
    if dims is not None and dims.size == 2:
        shape = tuple(int(n) for n in dims[::-1])  # longitude first, as in Fortran
        if shape != side.shape:
            raise _another(word, f"its (y, x) shape is {shape}", str(side.shape))
    if side.lat is None or side.lon is None or len(centers) < 2:
        return
    lat, lon = side.lat.ravel(), side.lon.ravel()
    if centers["lat"].size != lat.size:
        raise _another(word, f"it has {centers['lat'].size} cells", f"{lat.size}")
    # a degree of longitude shrinks towards the poles
    turned = (centers["lon"] - lon + 180.0) % 360.0 - 180.0
    away = np.hypot(centers["lat"] - lat, turned * np.cos(np.deg2rad(lat)))
    if np.nanmax(away) > _AWAY:
        i = int(np.nanargmax(away))
        theirs = f"{centers['lat'][i]:.6g} N {centers['lon'][i]:.6g} E"
        ours = f"{lat[i]:.6g} N {lon[i]:.6g} E"
        raise _another(word, f"its cell {i + 1} is at {theirs}", f"{ours} here")


def _another(word: str, theirs: str, ours: str) -> GridError:
    return GridError(
        f"cannot use these weights: they were made for another {word} grid; {theirs}, "
        f"not {ours}. Check the direction of latitude and the order of dimensions, or "
        "make the file anew from this field and this target."
    )
