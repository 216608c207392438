"""CF metadata in and out: read what a field means, label a refined field.

`read_meaning` turns a DataArray into a `Meaning` or says why it cannot; `relabel`,
`relabel_coarse` and `to_dataset` in `xstsr.cf.write` go back from arrays to labelled
fields. Values are never touched here, and nothing lazy is computed but coordinates.

How labels without bounds are read is in `xstsr.cf.times`; what kind of quantity a field
is, in `xstsr.cf.quantity`; which dimension is which, in `xstsr.cf.axes`.
"""

import sys
import warnings
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.cf.axes import Axes, bounds_name, find_axes, space_edges
from xstsr.cf.cell_methods import axis_names
from xstsr.cf.coords import dequantify, eager
from xstsr.cf.meaning import HOUR, Meaning
from xstsr.cf.quantity import Quantity, classify, known_label
from xstsr.cf.times import (
    check_calendars,
    check_increasing,
    edges_from_bounds,
    infer_edges,
    to_micros,
)
from xstsr.cf.write import (
    grid_mapping_of,
)
from xstsr.errors import AssumptionWarning, CFError, DataError, GridError
from xstsr.factors import space_of
from xstsr.geometry.cells import LABELS
from xstsr.typing import Array, Label, Space


class _Notes(NamedTuple):
    """What was assumed, which warns, and what was inferred, which does not."""

    assumed: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()


def read_meaning(
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
        Time and two horizontal axes in any order; numpy, dask or pint-quantified.
    cell_methods : str, optional
        Overrides the attribute: "time: mean", "time: sum" or "time: point".
    label : {"left", "mid", "right", "infer"}, optional
        Which part of a step its label is. By default the bounds tell, else the rules
        of `xstsr.cf.times`: "mid" for hours labelled at 00:30, "left" at 00:00.
    bounds : mapping of str to ndarray, shape (N, 2), optional
        Cell bounds by coordinate name (see `bounds_of`); a DataArray cannot carry them.

    Returns
    -------
    Meaning

    Raises
    ------
    CFError, GridError, UnitError, DataError
        The metadata are missing, ambiguous or contradictory; the axes describe no
        grid; the units are not those of the quantity; the field is empty, packed or
        not of a floating-point type. The text says what to type.

    Warns
    -----
    AssumptionWarning
        Something that matters was missing; the text (and ``notes``) says what to do.
    """
    side = _check_label(label)
    check_field(da)
    da, pint_units = dequantify(da)
    axes = find_axes(da)
    _refuse_climatology(da, axes.time)
    quantity = _classify(da, axes, cell_methods)
    bounds = bounds or {}
    time, time_notes = _read_time(da, axes.time, quantity, side, bounds.get(axes.time))
    space, space_notes = _read_space(da, axes, bounds)
    assumed = (*quantity.assumptions, *space_notes.assumed, *time_notes.assumed)
    for text in assumed:
        warnings.warn(f"{text}.", AssumptionWarning, stacklevel=_callers() + 1)
    return Meaning(
        **_describe(da, axes),
        **time,
        **space,
        kind=quantity.kind,
        point=quantity.point,
        units=quantity.units,
        cell_methods=quantity.cell_methods,
        notes=(*assumed, *axes.notes, *time_notes.inferred),
        pint_units=pint_units,
    )


def area(meaning: Meaning, s: Space = 1) -> NDArray[np.float64]:
    """Return the areas of the fine cells.

    Parameters
    ----------
    meaning : Meaning
        Of the coarse field.
    s : int or tuple of int
        Fine cells per coarse cell along both sides, or along y and x.

    Returns
    -------
    ndarray, shape (Y * sy, X * sx)
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


def factors_between(fine: Meaning, coarse: Meaning) -> tuple[Space, int]:
    """Find the factors that lead from a coarse grid to a fine one.

    Parameters
    ----------
    fine, coarse : Meaning
        Of two fields over the same region and period.

    Returns
    -------
    tuple of int
        ``(s, t)``; s is a pair where y and x differ.

    Raises
    ------
    GridError
        The cells of the fine grid do not split those of the coarse one evenly.
    CFError
        The calendars differ.
    """
    sizes = [(f, c, f // c) for f, c in zip(fine.shape, coarse.shape, strict=True)]
    t, sy, sx = (ratio for *_, ratio in sizes)
    if any(f != c * ratio or not ratio for f, c, ratio in sizes):
        raise GridError(
            f"cannot match a fine grid of (time, y, x) {fine.shape} with a coarse one "
            f"of {coarse.shape}: the sizes are not whole multiples. Select the "
            "same region and period of both."
        )
    pairs = (
        (fine.time_edges[::t], coarse.time_edges, fine.time_dim),
        (fine.y_edges[::sy], coarse.y_edges, fine.y_dim),
        (fine.x_edges[::sx], coarse.x_edges, fine.x_dim),
    )
    check_calendars(fine.calendar, coarse.calendar, "the fine and the coarse times")
    for a, b, dim in pairs:
        off = np.abs(a - b) > 1e-3 * float(np.min(np.abs(np.diff(b))))
        if np.any(off):
            i = int(np.argmax(off))
            raise GridError(
                f"cannot match the fine and the coarse grid along {dim!r}: edge {i} is "
                f"{a[i]} on one and {b[i]} on the other. Select the same region and "
                "period, or say what time labels stand for with label=."
            )
    return space_of((t, sy, sx)), t


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


def check_field(da: xr.DataArray) -> None:
    """Check that a field has floating-point values that are decoded.

    Parameters
    ----------
    da : DataArray
        Its values are not looked at.

    Raises
    ------
    DataError
        It is empty, packed or not of a floating-point type.
    """
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


def _describe(da: xr.DataArray, axes: Axes) -> dict[str, Any]:
    """Return the fields of `Meaning` that are copied from the input."""
    named = (axes.time, axes.y, axes.x)
    return {
        "name": None if da.name is None else str(da.name),
        "dims": tuple(map(str, da.dims)),
        "time_dim": axes.time,
        "y_dim": axes.y,
        "x_dim": axes.x,
        "extra_dims": tuple(str(dim) for dim in da.dims if dim not in named),
        "grid_mapping": _grid_mapping(da),
        "bounds_names": _bounds_names(da),
        "attrs": dict(da.attrs),
        "coords": {str(name): coord.variable for name, coord in da.coords.items()},
    }


def _read_space(
    da: xr.DataArray, axes: Axes, bounds: Mapping[str, Array]
) -> tuple[dict[str, Any], _Notes]:
    """Return the fields of `Meaning` that describe the horizontal."""
    geometry = axes.geometry
    y_edges, y_note = space_edges(da[axes.y], geometry, "Y", bounds.get(axes.y))
    x_edges, x_note = space_edges(da[axes.x], geometry, "X", bounds.get(axes.x))
    fields = {
        "y_edges": y_edges,
        "x_edges": x_edges,
        "geometry": geometry,
        "metres_per_unit": axes.metres_per_unit,
    }
    return fields, _Notes(assumed=tuple(filter(None, (y_note, x_note))))


def _read_time(
    da: xr.DataArray,
    dim: str,
    quantity: Quantity,
    label: Label | None,
    bounds: Array | None,
) -> tuple[dict[str, Any], _Notes]:
    """Return the fields of `Meaning` that describe time."""
    values = da[dim].values
    labels, calendar = to_micros(values, dim)
    check_increasing(labels, dim)
    fields: dict[str, Any] = {
        "calendar": calendar,
        "resolution": "us" if calendar else np.datetime_data(values.dtype)[0],
        "step_known": True,
    }
    notes = _Notes()
    if bounds is not None and not quantity.point:
        micros, own = to_micros(np.asarray(bounds), f"bounds of {dim}")
        check_calendars(own, calendar, f"the bounds of {dim!r} and its labels")
        edges, side, note = edges_from_bounds(micros, labels, dim, label)
        notes = _Notes(inferred=(note,) if note else ())
    elif labels.size == 1:
        edges, note = _single_step(da.name, int(labels[0]), dim, quantity)
        side, fields["step_known"] = "left", False
        notes = _Notes(inferred=(note,))
    else:
        if label is None:
            label, notes = _hinted_label(da, dim, quantity)
        edges, side = infer_edges(labels, calendar, dim, label)
        if label is None:
            notes = _Notes(inferred=(_inferred_label(dim, side),))
    return fields | {"time_edges": edges, "time_label": side}, notes


def _inferred_label(dim: str, side: Label) -> str:
    return (
        f'the labels of {dim!r} are taken for the "{side}" of their steps, for there '
        "are no bounds; label= says otherwise"
    )


def _hinted_label(
    da: xr.DataArray, dim: str, quantity: Quantity
) -> tuple[Label | None, _Notes]:
    """Return the label that something but bounds or the caller tells, if any."""
    if quantity.point:
        return "left", _Notes()  # so that every coarse time is also a fine time
    hint = _check_label(da[dim].attrs.get("xstsr_label"))
    known, source = known_label(str(da.name), da.attrs, quantity.kind)
    if hint or known is None:
        return hint, _Notes()
    text = (
        f"{da.name!r} is taken for {source}, whose labels are at the end of their "
        f'steps (label="{known}"). To say otherwise pass label='
    )
    return known, _Notes(assumed=(text,))


def _single_step(
    name: object, at: int, dim: str, quantity: Quantity
) -> tuple[NDArray[np.int64], str]:
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
    return np.array([at, at + HOUR], dtype=np.int64), note


def _grid_mapping(da: xr.DataArray) -> str | None:
    name = grid_mapping_of(da)
    if name is not None:
        return name
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
