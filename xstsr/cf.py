"""CF metadata in and out: read what a field means, label a refined field.

``read`` turns a DataArray into a `Meaning` or says why it cannot; ``relabel``,
``relabel_coarse`` and ``dataset`` (in `xstsr.cf_write`) go back from arrays to labelled
fields. Values are never touched here, and nothing lazy is computed but coordinates.

How labels without bounds are read is in `xstsr.times`; what kind of quantity a field
is, in `xstsr.cf_kind`; which dimension is which, in `xstsr.cf_axes`.
"""

import sys
import warnings
from collections.abc import Mapping
from types import FrameType
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.cell_methods import axis_names
from xstsr.cf_axes import Axes, bounds_name, find_axes, space_edges
from xstsr.cf_coords import coarsened, eager, strip
from xstsr.cf_kind import ALIASES, Quantity, classify
from xstsr.cf_write import dataset, relabel, relabel_coarse
from xstsr.errors import CFError, DataError, GridError
from xstsr.grid import LABELS, Label
from xstsr.meaning import HOUR, AssumptionWarning, Meaning
from xstsr.times import (
    check_increasing,
    edges_from_bounds,
    infer_edges,
    to_micros,
)

__all__ = [
    "AssumptionWarning",
    "Meaning",
    "area",
    "bounds_of",
    "coarsened",
    "dataset",
    "factors_between",
    "length",
    "read",
    "relabel",
    "relabel_coarse",
    "strip",
]

Array = NDArray[Any]


def read(
    da: xr.DataArray,
    *,
    cell_methods: str | None = None,
    label: str | None = None,
    bounds: Mapping[str, Array] | None = None,
) -> Meaning:
    """Read what the metadata of a field mean.

    Parameters
    ----------
    da : DataArray
        Field with time and two horizontal axes, in any order, numpy, dask or
        pint-quantified.
    cell_methods : str, optional
        Overrides the attribute: "time: mean", "time: sum" or "time: point".
    label : {"left", "mid", "right", "infer"}, optional
        Which part of a step its label is. By default the bounds tell; without bounds
        the calendar of months, then "mid" for labels half a step after aligned steps
        (00:30 for hours), else "left".
    bounds : mapping of str to ndarray, shape (N, 2), optional
        Cell bounds by coordinate name (see `bounds_of`); a DataArray cannot carry them.

    Returns
    -------
    Meaning
        Everything that was assumed is in its ``notes``.

    Raises
    ------
    CFError
        Metadata are missing, ambiguous, contradictory, or name a quantity that cannot
        be refined.
    GridError
        The horizontal axes do not describe a grid.
    UnitError
        The units of a water quantity are missing, unknown or of another dimension.
    DataError
        The field is empty, packed, or not of a floating-point type.

    Warns
    -----
    AssumptionWarning
        Something was missing that changes the result; the text says how to give it.
    """
    side = _check_label(label)
    _check_values(da)
    da, pint_units = strip(da)
    bounds = bounds or {}
    axes = find_axes(da)
    _refuse_climatology(da, axes.time)
    quantity = _classify(da, axes, cell_methods)
    time = _read_time(da, axes.time, quantity, side, bounds.get(axes.time))
    y_edges, y_note = space_edges(da[axes.y], axes.geometry, "Y", bounds.get(axes.y))
    x_edges, x_note = space_edges(da[axes.x], axes.geometry, "X", bounds.get(axes.x))
    assumptions = tuple(
        n for n in (*quantity.assumptions, y_note, x_note, time.pop("assumption")) if n
    )
    for assumption in assumptions:
        warnings.warn(f"{assumption}.", AssumptionWarning, stacklevel=_callers() + 1)
    time_note = time.pop("note")
    return Meaning(
        name=None if da.name is None else str(da.name),
        dims=tuple(map(str, da.dims)),
        time_dim=axes.time,
        y_dim=axes.y,
        x_dim=axes.x,
        extra_dims=tuple(
            str(d) for d in da.dims if d not in (axes.time, axes.y, axes.x)
        ),
        kind=quantity.kind,
        point=quantity.point,
        units=quantity.units,
        y_edges=y_edges,
        x_edges=x_edges,
        geometry=axes.geometry,
        metres_per_unit=axes.metres_per_unit,
        cell_methods=quantity.cell_methods,
        grid_mapping=_grid_mapping(da),
        bounds_names=_bounds_names(da),
        attrs=dict(da.attrs),
        coords={str(n): c.variable for n, c in da.coords.items()},
        notes=(*assumptions, *axes.notes, *((time_note,) if time_note else ())),
        pint_units=pint_units,
        **time,
    )


def area(meaning: Meaning, s: int = 1) -> NDArray[np.float64]:
    """Return the areas of the fine cells.

    Parameters
    ----------
    meaning : Meaning
        Of the coarse field.
    s : int
        Fine cells per coarse cell along each side.

    Returns
    -------
    ndarray, shape (Y * s, X * s)
        Areas in m2.
    """
    return meaning.area(s)


def length(meaning: Meaning, t: int = 1) -> NDArray[np.float64]:
    """Return the lengths of the fine steps.

    Parameters
    ----------
    meaning : Meaning
        Of the coarse field.
    t : int
        Fine steps per coarse step.

    Returns
    -------
    ndarray, shape (T * t,)
        Hours.

    Raises
    ------
    CFError
        The step length is unknown and ``t`` is not 1.
    """
    return meaning.step_hours(t)


def bounds_of(ds: xr.Dataset, name: str) -> dict[str, Array]:
    """Collect the cell bounds of a variable's coordinates from its Dataset.

    Parameters
    ----------
    ds : Dataset
        Dataset with bounds variables, named by the attribute (or encoding) ``bounds``.
    name : str
        Name of the data variable.

    Returns
    -------
    dict of str to ndarray, shape (N, 2)
        By coordinate name; for the argument ``bounds`` of `read`.

    Raises
    ------
    CFError
        The Dataset has no such variable.
    """
    if name not in ds:
        raise CFError(
            f"cannot find the variable {name!r} in the Dataset; it has "
            f"{sorted(map(str, ds.data_vars))}. Pass one of these."
        )
    found = {}
    for dim in ds[name].dims:
        coord = ds.variables.get(dim)
        target = coord is not None and bounds_name(coord.attrs, coord.encoding)
        if target and target in ds.variables:
            found[str(dim)] = eager(ds.variables[target])
    return found


def factors_between(fine: Meaning, coarse: Meaning) -> tuple[int, int]:
    """Find the factors that lead from a coarse grid to a fine one.

    Parameters
    ----------
    fine, coarse : Meaning
        Of two fields over the same region and period.

    Returns
    -------
    tuple of int
        ``(s, t)``.

    Raises
    ------
    GridError
        The cells of the fine grid do not split those of the coarse one evenly.
    """
    sizes = [(f, c, f // c) for f, c in zip(fine.shape, coarse.shape, strict=True)]
    t, s, s_x = (ratio for *_, ratio in sizes)
    if any(f != c * ratio or not ratio for f, c, ratio in sizes) or s != s_x:
        raise GridError(
            f"cannot match a fine grid of (time, y, x) {fine.shape} with a coarse one "
            f"of {coarse.shape}: the sizes are not whole multiples, equal in y and x. "
            "Select the same region and period of both."
        )
    pairs = (
        (fine.time_edges[::t], coarse.time_edges, fine.time_dim),
        (fine.y_edges[::s], coarse.y_edges, fine.y_dim),
        (fine.x_edges[::s], coarse.x_edges, fine.x_dim),
    )
    for a, b, dim in pairs:
        off = np.abs(a - b) > 1e-3 * float(np.min(np.abs(np.diff(b))))
        if np.any(off):
            i = int(np.argmax(off))
            raise GridError(
                f"cannot match the fine and the coarse grid along {dim!r}: edge {i} is "
                f"{a[i]} on one and {b[i]} on the other. Select the same region and "
                "period, or say what time labels stand for with label=."
            )
    return s, t


def _callers() -> int:
    """Count the frames of this package above `read`, so that warnings name the user's.

    The argument ``skip_file_prefixes`` would do it, from Python 3.12 on.
    """
    frame: FrameType | None = sys._getframe(1)
    count = 0
    while frame and str(frame.f_globals.get("__name__")).startswith("xstsr"):
        count, frame = count + 1, frame.f_back
    return count


def _check_label(label: str | None) -> Label | None:
    if label is None or label == "infer":
        return None
    for known in LABELS:
        if label == known:
            return known
    raise CFError(
        f"cannot use label={label!r}: it is one of {[*LABELS, 'infer']}. Pass the part "
        "of a step at which its label stands."
    )


def _check_values(da: xr.DataArray) -> None:
    if da.size == 0:
        raise DataError(
            f"cannot use {da.name!r}: it is empty, with sizes {dict(da.sizes)}. Check "
            "the selection that made it."
        )
    if da.dtype.kind != "f":
        raise DataError(
            f"cannot use {da.name!r}: its dtype is {da.dtype}, not a floating-point "
            'type. Convert it: da.astype("float32").'
        )
    packed = [k for k in ("scale_factor", "add_offset", "_FillValue") if k in da.attrs]
    if packed:
        raise DataError(
            f"cannot use {da.name!r}: the attributes {packed} say that its values are "
            "still packed. Open the file with mask_and_scale=True, or use "
            "xr.decode_cf(ds)."
        )


def _refuse_climatology(da: xr.DataArray, dim: str) -> None:
    coord = da[dim]
    name = coord.attrs.get("climatology", coord.encoding.get("climatology"))
    if name is not None:
        raise CFError(
            f"cannot refine {da.name!r}: {dim!r} has climatology bounds {name!r}, "
            "whose steps do not follow each other. Refine the data it was made from."
        )


def _classify(da: xr.DataArray, axes: Axes, cell_methods: str | None) -> Quantity:
    time_names, area_names = axis_names(axes.time, axes.y, axes.x)
    name = None if da.name is None else str(da.name)
    return classify(name, da.attrs, cell_methods, time_names, area_names)


def _read_time(
    da: xr.DataArray,
    dim: str,
    quantity: Quantity,
    label: Label | None,
    bounds: Array | None,
) -> dict[str, Any]:
    """Return the fields of `Meaning` that describe time, a note and an assumption."""
    values = da[dim].values
    labels, calendar = to_micros(values, dim)
    check_increasing(labels, dim)
    out: dict[str, Any] = {
        "calendar": calendar,
        "resolution": "us" if calendar else np.datetime_data(values.dtype)[0],
        "step_known": True,
        "note": None,
        "assumption": None,
    }
    if bounds is not None and not quantity.point:
        micros, _ = to_micros(np.asarray(bounds), f"bounds of {dim}")
        edges, side, out["note"] = edges_from_bounds(micros, labels, dim, label)
        return out | {"time_edges": edges, "time_label": side}
    if labels.size == 1:
        return out | _single_time(da.name, int(labels[0]), dim, quantity, label)
    label = label or _hinted_label(da, dim, quantity, out)
    edges, side = infer_edges(labels, calendar, dim, label)
    if label is None:
        out["note"] = (
            f'the labels of {dim!r} are taken for the "{side}" of their steps, for '
            "there are no bounds; label= says otherwise"
        )
    return out | {"time_edges": edges, "time_label": side}


def _hinted_label(
    da: xr.DataArray, dim: str, quantity: Quantity, out: dict[str, Any]
) -> Label | None:
    if quantity.point:
        return "left"  # so that every coarse time is also a fine time
    hint = _check_label(da[dim].attrs.get("xstsr_label"))
    alias = ALIASES.get(str(da.name).lower())
    if hint or alias is None or alias.label is None or quantity.kind != "amount":
        return hint
    out["assumption"] = (
        f"{da.name!r} is taken for {alias.source}, whose labels are at the end of "
        f'their steps (label="{alias.label}"). To say otherwise pass label='
    )
    return alias.label


def _single_time(
    name: object, at: int, dim: str, quantity: Quantity, label: Label | None
) -> dict[str, Any]:
    if quantity.kind == "amount":
        raise CFError(
            f"cannot refine the amount {name!r}: {dim!r} has one time and no bounds, "
            "so the length of its step is unknown. Pass two times or more, a Dataset "
            "with time bounds (ds.stsr.upscale), or a rate."
        )
    note = (
        f"{dim!r} has one time and no bounds; its step is taken for 1 hour where a "
        "length is needed, and cannot be split"
    )
    edges = np.array([at, at + HOUR], dtype=np.int64)
    side: dict[str, Any] = {"time_edges": edges, "time_label": "left"}
    return side | {"step_known": False, "note": note}


def _grid_mapping(da: xr.DataArray) -> str | None:
    name = da.attrs.get("grid_mapping", da.encoding.get("grid_mapping"))
    if name is not None:
        return str(name)
    # arithmetic drops the encoding, but the scalar coordinate stays
    lone = [
        str(n)
        for n, c in da.coords.items()
        if not c.dims and {"grid_mapping_name", "crs_wkt", "spatial_ref"} & set(c.attrs)
    ]
    return lone[0] if len(lone) == 1 else None


def _bounds_names(da: xr.DataArray) -> dict[str, str]:
    names = {
        str(d): bounds_name(da[d].attrs, da[d].encoding)
        for d in da.dims
        if d in da.coords
    }
    return {dim: name for dim, name in names.items() if name}
