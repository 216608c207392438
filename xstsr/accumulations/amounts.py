"""Accumulations since a forecast's start, turned into amounts or rates of each step.

ECMWF's forecasts and ERA5-Land count rain (and radiation, evaporation) from a start on:
values grow until the next start. What fell in a step is the difference::

    value        .  .:  .:| ::|      .  .: |
    label     01 02 03 ... 24 | 01 02 ...        restart at 24, the last label before
    amount    v1 v2-v1 ...    | v1 v2-v1         labels at the end of their steps

Other archives need nothing of this: ERA5's hourly ``tp`` is that of each hour.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from xstsr.accumulations.restarts import Jitter, Series, increments, read_series
from xstsr.cf import cell_methods as cm
from xstsr.cf.coords import clean, dequantify, requantify
from xstsr.cf.read import check_field
from xstsr.cf.times import encoding_units, from_micros
from xstsr.cf.units import is_readable, per_second, to_mm
from xstsr.cf.write import (
    complete,
    extend_history,
    grid_mapping_names,
    grid_mapping_of,
)
from xstsr.errors import AssumptionWarning, CFError, DataError, UnitError
from xstsr.typing import Array

_LITTLE_MM = 0.05  # a region's greatest value may be less than that of its file
_RATES = {
    "precipitation_amount": "precipitation_flux",
    "rainfall_amount": "rainfall_flux",
    "snowfall_amount": "snowfall_flux",
    "lwe_thickness_of_precipitation_amount": "lwe_precipitation_rate",
    "lwe_thickness_of_snowfall_amount": "lwe_snowfall_rate",
    "thickness_of_rainfall_amount": "rainfall_rate",
}
_DEFAULTS: dict[str, Any] = {
    "resets": None,
    "jitter": None,
    "rate": False,
    "signed": False,
}


def deaccumulate(
    da: xr.DataArray,
    *,
    resets: str | Sequence[Any] | None = None,
    jitter: float | None = None,
    rate: bool = False,
    signed: bool = False,
) -> xr.DataArray:
    """Turn values accumulated since a start into the amounts of each step.

    Parameters
    ----------
    da : DataArray
        Along a time axis, or along forecast steps (``step``, ``forecast_period``) from
        one start or from starts that follow each other. Chunked input stays lazy; time
        is one chunk from restart to restart.
    resets : str or sequence of times, optional
        When accumulation begins anew: every so often since midnight (``"24 hours"`` for
        ERA5-Land), or at given times. By default at each forecast's start, or, along a
        time axis, where values fall; chunked values cannot be searched.
    jitter : float, optional
        How far a sum may fall by rounding, in its units; by default 2**-12 of the
        greatest value between two restarts, or 0.05 mm of water if that is more.
    rate : bool
        Whether to divide by the length of each step: J m-2 become J m-2 s-1.
    signed : bool
        Whether amounts may be negative, like fluxes of heat. Then nothing is repaired,
        and restarts must be known.

    Returns
    -------
    DataArray
        Along ``time``, labelled at the end of each step, as ``time: sum`` (``time:
        mean`` for a rate). The first value of a series whose start is unknown is left
        out: when its accumulation began is unknown.

    Raises
    ------
    CFError
        There is no time axis; starts or restarts do not fit the times.
    DataError
        Values fall by more than jitter, or at no regular times: they are amounts
        already, or of another kind; or values are chunked and restarts unknown.

    Warns
    -----
    AssumptionWarning
        How far values fell that were repaired, and which restarts were found.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> hours = np.datetime64("2020-06-01T22", "ns") + np.arange(5) * np.timedelta64(
    ...     1, "h"
    ... )
    >>> land = xr.DataArray(
    ...     [7.0, 7.5, 8.0, 0.25, 0.5],
    ...     {"time": hours},
    ...     name="tp",
    ...     attrs={"units": "mm"},
    ... )
    >>> deaccumulate(land, resets="24 hours").values.tolist()
    [0.5, 0.5, 0.25, 0.25]
    """
    return _deaccumulate(da, resets, jitter, rate, signed)[0]


def deaccumulate_dataset(ds: xr.Dataset, name: str, **options: Any) -> xr.Dataset:
    """Turn one accumulated variable of a Dataset into amounts; see `deaccumulate`.

    Returns
    -------
    Dataset
        The variable with bounds of time, and of what else had some.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> period = {"standard_name": "forecast_period", "units": "hours"}
    >>> forecast = xr.Dataset(
    ...     {"tp": ("step", [0.5, 2.0], {"units": "mm"})},
    ...     {"step": ("step", [6, 12], period), "time": np.datetime64("2026-11-01")},
    ... )
    >>> made = deaccumulate_dataset(forecast, "tp")
    >>> made.tp.values.tolist(), made.time_bnds.dt.hour.values.tolist()
    ([0.5, 1.5], [[0, 6], [6, 12]])
    """
    if name not in ds.data_vars:
        raise CFError(
            f"cannot find the variable {name!r} in the Dataset; it has "
            f"{sorted(map(str, ds.data_vars))}. Pass one of these."
        )
    settings: dict[str, Any] = _DEFAULTS | options
    field, series = _deaccumulate(ds[name], **settings)
    line = str(field.attrs.pop("history")).rpartition("\n")[2]
    named = grid_mapping_of(ds[name])
    mapping = [n for n in grid_mapping_names(named) if n in ds.variables]
    field.encoding.pop("grid_mapping", None)
    out = field.drop_vars(mapping, errors="ignore").to_dataset()
    edges, dim = from_micros(series.edges, series.calendar, "ns"), series.dim
    pairs = np.stack([edges[:-1], edges[1:]], axis=1)
    out[f"{dim}_bnds"] = xr.Variable((dim, "bnds"), pairs)
    out[dim].attrs["bounds"] = f"{dim}_bnds"
    del out[dim].attrs["xstsr_label"]
    for crs in mapping:
        out[crs] = clean(ds.variables[crs])
        out[name].attrs["grid_mapping"] = named
    return complete(out, ds, line, renewed=[dim])


def _deaccumulate(
    da: xr.DataArray,
    resets: str | Sequence[Any] | None,
    jitter: float | None,
    rate: bool,
    signed: bool,
) -> tuple[xr.DataArray, Series]:
    check_field(da)
    plain, pint_units = dequantify(da)
    rounding = None if signed else Jitter(_checked(jitter), _little(plain))
    series = read_series(plain, resets, rounding)
    if series.edges.size < 2:
        raise CFError(
            f"cannot find an amount in {da.name!r}: {series.dim!r} has one time and it "
            "is unknown when its accumulation began. Pass two times or more, or "
            'resets=, such as resets="24 hours".'
        )
    amounts = _amounts(series, rounding, da.name)
    if rate:
        seconds = xr.Variable(series.dim, np.diff(series.edges) / 1e6)
        amounts = (amounts / seconds).astype(plain.dtype).transpose(*amounts.dims)
    out = _label(plain, amounts, series, rate)
    if rate and pint_units is not None:
        pint_units = pint_units / pint_units._REGISTRY.second
    return requantify(out, pint_units), series


def _checked(jitter: object) -> float | None:
    """Refuse a jitter that is no length of a fall."""
    if jitter is None:
        return None
    if isinstance(jitter, Real) and 0 <= float(jitter) < np.inf:
        return float(jitter)
    raise DataError(
        f"cannot use jitter={jitter!r}: it is how far sums may fall by rounding, in "
        "their units, and not below zero. Pass a number such as jitter=1e-6, or leave "
        "it out."
    )


def _amounts(series: Series, rounding: Jitter | None, name: object) -> xr.Variable:
    """Difference each segment, now or, for chunked values, later."""
    dim, dims = series.dim, series.sums.dims
    sums = series.sums.transpose(dim, ...)
    pieces, falls = [], [0.0]
    for steps in series.segments:
        piece = sums.isel({dim: steps})
        rule = partial(
            increments, from_zero=bool(series.begins[steps.start]), jitter=rounding
        )
        if series.sums.chunks is None:
            grown, fell = rule(np.asarray(piece.values))
            falls.append(fell)
            pieces.append(xr.Variable(piece.dims, grown))
        else:
            pieces.append(_later(rule, piece, dim))
    if max(falls) > 0:
        warnings.warn(
            f"{name!r} falls by up to {max(falls):.3g} between restarts, as rounding "
            "in its file explains; the greatest value so far was taken instead.",
            AssumptionWarning,
            stacklevel=5,
        )
    whole: xr.Variable = xr.Variable.concat(pieces, dim)
    return whole.transpose(*dims)


def _later(rule: Any, piece: xr.Variable, dim: str) -> xr.Variable:
    """Difference one segment lazily: one chunk of time from restart to restart."""
    one = piece.chunk({dim: -1})
    size = piece.sizes[dim] - (not rule.keywords["from_zero"])

    def first_of(block: Array) -> Array:
        grown: Array = rule(block)[0]
        return grown

    chunks = ((size,), *one.data.chunks[1:])
    return xr.Variable(
        one.dims, one.data.map_blocks(first_of, dtype=one.dtype, chunks=chunks)
    )


def _label(
    plain: xr.DataArray, amounts: xr.Variable, series: Series, rate: bool
) -> xr.DataArray:
    """Label amounts at the end of their steps."""
    dim, edges = series.dim, series.edges
    coords: dict[Any, xr.Variable] = {}
    for name, coord in plain.coords.items():
        if not set(map(str, coord.dims)) & {dim, *series.gone}:
            new = "forecast_reference_time" if name == "time" else name
            coords[new] = clean(coord.variable)
        elif coord.dims == (dim,) and not series.gone:
            last = slice(plain.sizes[dim] - edges.size + 1, None)
            coords[name] = clean(coord.variable.isel({dim: last}))
    for coord in coords.values():
        if coord.dtype.kind == "f":
            coord.encoding["_FillValue"] = None  # CF wants none in coordinates
    attrs = coords[dim].attrs if dim in coords else {}
    values = from_micros(edges[1:], series.calendar, "ns")
    attrs = {"standard_name": "time", "axis": "T"} | attrs | {"xstsr_label": "right"}
    encoding = {
        "units": encoding_units(edges, series.calendar, None),
        "calendar": series.calendar or "standard",
        "dtype": np.dtype("int64"),
    }
    coords[dim] = xr.Variable(dim, values, attrs, encoding)
    out = xr.DataArray(amounts, coords, name=plain.name, attrs=_attrs(plain, rate))
    settings = {"operation": "deaccumulate", "resets": series.told, "rate": rate}
    out.attrs["history"] = extend_history(plain.attrs.get("history"), settings)
    if "grid_mapping" in plain.encoding:
        out.encoding["grid_mapping"] = plain.encoding["grid_mapping"]
    return out


def _attrs(plain: xr.DataArray, rate: bool) -> dict[str, Any]:
    """Attributes of amounts, or of rates."""
    attrs = dict(clean(xr.Variable((), 0, dict(plain.attrs))).attrs)
    text = str(attrs.get("cell_methods", ""))
    methods = cm.parse(text) if text.strip() else ()
    others = tuple(m for m in methods if "time" not in m.names)
    time = cm.CellMethod(("time",), "mean" if rate else "sum")
    attrs["cell_methods"] = cm.write((time, *others))
    if not rate:
        return attrs
    units = str(attrs.get("units", ""))
    if not units or not is_readable(units):
        raise UnitError(
            f"cannot make a rate of {plain.name!r}: its units are {units!r}. Set "
            'da.attrs["units"], for example "m" or "J m-2".'
        )
    attrs["units"] = per_second(units)
    standard_name = str(attrs.get("standard_name", ""))
    named = standard_name.removeprefix("integral_wrt_time_of_")
    if standard_name.endswith("_amount"):
        named = _RATES.get(standard_name, "")
    attrs["standard_name"] = named
    return {k: v for k, v in attrs.items() if v != ""}


def _little(da: xr.DataArray) -> float:
    """How little water counts as rounding, in the units of the field."""
    try:
        return _LITTLE_MM / to_mm(str(da.attrs.get("units", "")))
    except UnitError:
        return 0.0
