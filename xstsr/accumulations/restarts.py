"""Where accumulated sums began anew, and the increments between them.

They begin anew with each forecast, at regular intervals, or where values fall. What
falls by less than packed values can differ is rounding, not a restart.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from xstsr.cf.coords import eager
from xstsr.cf.meaning import HOUR
from xstsr.cf.times import DAY, check_increasing, is_time, to_micros
from xstsr.cf.units import hours_per, is_readable
from xstsr.errors import AssumptionWarning, CFError, DataError, UnitError
from xstsr.typing import Array, Bools, Floats, Micros

_LEADS = ("step", "forecast_period", "lead", "lead_time", "leadtime")

_STARTS = ("forecast_reference_time", "time", "initial_time", "init_time")

_SPAN = re.compile(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*$")


_PACKING = 2.0**-12  # of the greatest value: 16 bits are off by 2**-15 at most


@dataclass(frozen=True, eq=False)
class Series:
    """Sums along one time axis, and where they began anew."""

    sums: xr.Variable
    """Plain values, with `dim` among the dimensions."""
    dim: str
    """Time, at the end of each step."""
    labels: Micros
    """Ends of the steps, shape (T,)."""
    calendar: str | None
    """As in `xstsr.cf.times`."""
    begins: Bools
    """Whether a step began with a restart, shape (T,)."""
    first: int
    """When the first step began, if it began with a restart."""
    told: str
    """What was known of restarts, for the history."""
    gone: tuple[str, ...] = ()
    """Dimensions of the input that time has taken the place of."""

    @property
    def edges(self) -> Micros:
        """Edges of the steps whose amounts are known."""
        return np.append([self.first], self.labels) if self.begins[0] else self.labels

    @property
    def segments(self) -> list[slice]:
        """Steps from restart to restart."""
        ends = np.unique([0, *np.flatnonzero(self.begins), self.labels.size])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]


@dataclass(frozen=True)
class Jitter:
    """How far sums may fall by rounding."""

    given: float | None = None
    """In the units of the sums; None finds it from the values."""
    least: float = 0.0
    """Where it is found, the least that is allowed for."""

    def allowed(self, greatest: Floats) -> Floats:
        """Return how far sums may fall whose greatest value is this."""
        found = np.maximum(_PACKING * greatest, self.least)
        return found if self.given is None else np.full_like(found, self.given)


def read_series(
    plain: xr.DataArray, resets: str | Sequence[Any] | None, rounding: Jitter | None
) -> Series:
    """Read sums along time or along forecast steps, and where they began anew.

    Parameters
    ----------
    plain : DataArray
        Sums at the end of each step, without pint units.
    resets : str, sequence of times or None
        As in `xstsr.accumulations.amounts.deaccumulate`.
    rounding : Jitter or None
        What is no restart; None for sums that may fall.

    Returns
    -------
    Series

    Raises
    ------
    CFError, DataError
        As in `xstsr.accumulations.amounts.deaccumulate`.
    """
    lead = _lead_dim(plain)
    if lead is None:
        return _along_time(plain, resets, rounding)
    if resets is not None:
        raise CFError(
            f"cannot use resets={resets!r} with {plain.name!r}: along {lead!r} it "
            "counts from the start of each forecast. Leave resets out."
        )
    return _of_forecasts(plain, lead)


def _of_forecasts(plain: xr.DataArray, lead: str) -> Series:
    """Read steps of one forecast, or of several that follow each other."""
    start = _start(plain, lead)
    zero, calendar = to_micros(np.atleast_1d(eager(start.variable)), str(start.name))
    ahead = _micros_ahead(plain[lead])
    check_increasing(ahead, lead)
    sums = plain.variable
    if ahead[0] < 0 or (ahead[0] == 0 and ahead.size == 1):
        raise CFError(
            f"cannot use the forecast steps in {lead!r}: they begin {ahead[0] / HOUR:g}"
            " hours after the start. Pass steps that end after it."
        )
    if ahead[0] == 0:
        sums, ahead = sums.isel({lead: slice(1, None)}), ahead[1:]
    late = np.flatnonzero(zero[1:] != zero[:-1] + ahead[-1])
    if late.size:
        i, hours = int(late[0]), (zero[late[0] + 1] - zero[late[0]]) / HOUR
        raise CFError(
            f"cannot join the forecasts along {start.name!r}: number {i + 1} begins "
            f"{hours:g} hours after the one before, whose steps end after "
            f"{ahead[-1] / HOUR:g}. Select one, da.isel({start.name}=0), or the steps "
            f"up to the next start, da.sel({lead}=slice(None, ...))."
        )
    first = (*start.dims, lead)
    others = [d for d in sums.dims if d not in first]
    flat = sums.transpose(*first, *others)
    size, rest = zero.size * ahead.size, flat.shape[len(first) :]
    together = xr.Variable(("time", *others), flat.data.reshape(size, *rest))
    dims = ["time" if d == lead else d for d in sums.dims if d not in start.dims]
    begins = np.zeros((zero.size, ahead.size), bool)
    begins[:, 0] = True
    return Series(
        together.transpose(*dims),
        "time",
        (zero[:, None] + ahead).ravel(),
        calendar,
        begins.ravel(),
        int(zero[0]),
        "each forecast",
        tuple(map(str, first)),
    )


def _along_time(
    plain: xr.DataArray, resets: str | Sequence[Any] | None, rounding: Jitter | None
) -> Series:
    """Read sums along a time axis, and find where they began anew."""
    dim = _time_dim(plain)
    labels, calendar = to_micros(eager(plain[dim].variable), dim)
    check_increasing(labels, dim)
    known = Series(
        plain.variable, dim, labels, calendar, np.zeros(labels.size, bool), 0, ""
    )
    if isinstance(resets, str):
        begins, first = restarts_every(labels, _span(resets), dim)
        return replace(known, begins=begins, first=first, told=resets)
    if resets is not None:
        times, other = to_micros(np.asarray(resets), "resets")
        if other != calendar:
            raise CFError(
                f"cannot use resets= of the calendar {other or 'standard'!r}: {dim!r} "
                f"has {calendar or 'standard'!r}. Pass times of that calendar, such as "
                f"da[{dim!r}].values[[0, 24]]."
            )
        begins, first = restarts_at(labels, times, dim)
        return replace(known, begins=begins, first=first, told=f"{times.size} times")
    if plain.chunks is not None or rounding is None:
        why = "chunked" if rounding else "signed"
        raise DataError(
            f"cannot look for restarts in {plain.name!r}: its values are {why}. Pass "
            'resets=, such as resets="24 hours", or load them first: da.load().'
        )
    sums = plain.transpose(dim, ...).values
    begins, every = find_restarts(sums, labels, rounding)
    every_text = f"every {every / HOUR:g} hours" if every else "where values fall"
    count = int(begins.sum())
    warnings.warn(
        f"accumulation in {plain.name!r} is taken to begin anew {every_text}, "
        f"{count} times; to say otherwise pass resets=.",
        AssumptionWarning,
        stacklevel=6,
    )
    first = int(2 * labels[0] - labels[1]) if labels.size > 1 else 0
    return replace(known, begins=begins, first=first, told=f"found {every_text}")


def _lead_dim(da: xr.DataArray) -> str | None:
    """Find the dimension of forecast steps, if there is one."""
    for dim in map(str, da.dims):
        if dim not in da.coords:
            continue
        coord = da.coords[dim]
        standard_name = coord.attrs.get("standard_name")
        timed = coord.dtype.kind == "m" or "units" in coord.attrs
        if standard_name == "forecast_period" or (dim in _LEADS and timed):
            return dim
    return None


def _start(da: xr.DataArray, lead: str) -> xr.DataArray:
    """Find when forecasts began: a scalar, or along a dimension of its own."""
    times = {n: c for n, c in da.coords.items() if is_time(eager(c.variable))}
    by_name: dict[str, xr.DataArray] = {str(n): c for n, c in times.items()}
    standard = [
        c
        for c in by_name.values()
        if c.attrs.get("standard_name") == "forecast_reference_time"
    ]
    named = [by_name[n] for n in _STARTS if n in by_name]
    found = [c for c in (*standard, *named) if c.ndim < 2 and lead not in c.dims]
    if found:
        return found[0]
    raise CFError(
        f"cannot find when the forecast along {lead!r} began: there is no coordinate "
        "forecast_reference_time. Add it: da.assign_coords(forecast_reference_time="
        'np.datetime64("2026-01-01")).'
    )


def _micros_ahead(coord: xr.DataArray) -> Micros:
    values = eager(coord.variable)
    if values.dtype.kind == "m":
        return values.astype("timedelta64[us]").astype(np.int64)
    units = str(coord.attrs.get("units", ""))
    ahead = np.round(values.astype(np.float64) * hours_per(units) * HOUR)
    return ahead.astype(np.int64)


def _time_dim(da: xr.DataArray) -> str:
    for dim in map(str, da.dims):
        if dim in da.coords and is_time(eager(da[dim].variable)):
            return dim
    raise CFError(
        f"cannot find the time axis of {da.name!r} among its dimensions {da.dims}. "
        "Open the file with decode_times=True, or give forecast steps the name "
        '"step" and units of time.'
    )


def _span(text: str) -> int:
    """Read an interval in microseconds."""
    match = _SPAN.match(text)
    micros = 0
    if match and is_readable(match[2]):
        try:
            micros = round(float(match[1]) * hours_per(match[2]) * HOUR)
        except (UnitError, ValueError):
            micros = 0
    if micros <= 0:
        raise CFError(
            f'cannot read resets={text!r}: it is an interval, such as "24 hours" or '
            '"12 h", or a list of times.'
        )
    return micros


def increments(
    sums: Array, *, from_zero: bool, jitter: Jitter | None
) -> tuple[Array, float]:
    """Return what sums between two restarts grew by in each step.

    Parameters
    ----------
    sums : ndarray, shape (T, ...)
        At the end of each step; NaN is missing.
    from_zero : bool
        Whether the first step began with the restart; else its increment is unknown and
        left out.
    jitter : Jitter or None
        None lets sums fall, and repairs nothing.

    Returns
    -------
    tuple of ndarray (shape (T, ...) or (T - 1, ...)) and float
        Increments in the dtype of ``sums``, missing where one of both sums is; and how
        far sums fell that were repaired.

    Raises
    ------
    DataError
        Sums fall by more than jitter.

    Examples
    --------
    >>> increments(np.array([1.0, 3.0, 2.99, 4.0]), from_zero=True, jitter=Jitter(0.1))
    (array([1., 2., 0., 1.]), 0.01)
    """
    values = sums.astype(np.float64)
    if from_zero:
        values = np.concatenate([np.zeros_like(values[:1]), values])
    missing, fell = np.isnan(values), 0.0
    if jitter is not None:
        so_far = np.fmax.accumulate(values, axis=0)
        falls = _greatest(so_far - values)
        fell = float(falls.max(initial=0.0))
        allowed = float(
            jitter.allowed(_greatest(values).max(initial=0.0, keepdims=True))[0]
        )
        if fell > allowed:
            raise _falling(fell, int(np.argmax(falls)) - from_zero, allowed)
        values = so_far
    grown = np.diff(values, axis=0)
    grown[missing[1:] | missing[:-1]] = np.nan
    return grown.astype(sums.dtype), fell


def find_restarts(
    sums: Array, labels: Micros, jitter: Jitter
) -> tuple[Bools, int | None]:
    """Find where accumulation began anew, from where sums fall.

    Falls tell some restarts; those between them where it was dry follow, because
    restarts come at one interval: each day, if all found are whole days apart.

    Parameters
    ----------
    sums : ndarray, shape (T, ...)
        At the end of each step.
    labels : ndarray, shape (T,), int64
        Ends of the steps in microseconds.
    jitter : Jitter
        What is no restart.

    Returns
    -------
    tuple of ndarray of bool (shape (T,)) and int or None
        Whether a step began with a restart, and the interval in microseconds if it is
        known.

    Raises
    ------
    DataError
        Sums fall so often that they are none.
    """
    falls = _greatest((sums[:-1] - sums[1:]).astype(np.float64))
    found = np.flatnonzero(falls > jitter.allowed(_greatest(sums[:-1])))
    begins = np.zeros(labels.size, bool)
    begins[found + 1] = True
    if found.size < 2:
        return begins, None
    restarts = labels[found]
    step = int(np.median(np.diff(labels)))
    every = int(np.gcd.reduce(np.diff(restarts)))
    every = DAY if every % DAY == 0 else every
    if every <= step:
        raise DataError(
            f"cannot find when accumulation began anew: values fall after "
            f"{found.size} of {labels.size} times, at no regular interval. They are "
            "amounts of each step already, which need nothing of this (as ERA5's "
            'hourly "tp"); or pass resets=, such as resets="24 hours".'
        )
    starts = np.concatenate([[2 * labels[0] - labels[1]], labels[:-1]])
    return (starts - restarts[0]) % every == 0, every


def restarts_every(labels: Micros, every: int, name: str) -> tuple[Bools, int]:
    """Tell which steps begin with a restart, for restarts at one interval.

    Parameters
    ----------
    labels : ndarray, shape (T,), int64
        Ends of the steps in microseconds.
    every : int
        Interval in microseconds, counted from midnight.
    name : str
        Name of the time axis, for messages.

    Returns
    -------
    tuple of ndarray of bool (shape (T,)) and int
        Whether a step began with a restart, and when the first step began if so.

    Raises
    ------
    CFError
        A restart falls between two times.
    """
    last = (labels - 1) // every * every
    inside = np.flatnonzero(last[1:] > labels[:-1])
    if inside.size:
        raise _between(name, int(inside[0]), labels)
    step = labels[1] - labels[0] if labels.size > 1 else labels[0] - last[0]
    begins = np.concatenate([[labels[0] - last[0] <= step], last[1:] == labels[:-1]])
    return begins, int(last[0])


def restarts_at(labels: Micros, times: Micros, name: str) -> tuple[Bools, int]:
    """Tell which steps begin with a restart, for restarts at given times.

    Parameters
    ----------
    labels : ndarray, shape (T,), int64
        Ends of the steps in microseconds.
    times : ndarray, shape (N,), int64
        Restarts.
    name : str
        Name of the time axis, for messages.

    Returns
    -------
    tuple of ndarray of bool (shape (T,)) and int
        Whether a step began with a restart, and when the first step began if so.

    Raises
    ------
    CFError
        A restart falls between two times.
    """
    inside = times[(times > labels[0]) & (times < labels[-1]) & ~np.isin(times, labels)]
    if inside.size:
        raise _between(name, int(np.searchsorted(labels, inside[0])) - 1, labels)
    before = times[times < labels[0]]
    first = int(before.max()) if before.size else int(labels[0])
    begins = np.concatenate([[bool(before.size)], np.isin(labels[:-1], times)])
    return begins, first


def _greatest(values: Array) -> Floats:
    """Return the greatest known value of each step, shape (T,); 0 at least."""
    others = tuple(range(1, values.ndim))
    greatest: Floats = np.fmax.reduce(values, axis=others, initial=0.0)
    return greatest.astype(np.float64)


def _falling(fell: float, step: int, allowed: float) -> DataError:
    return DataError(
        f"cannot turn sums into amounts: they fall by {fell:.3g} before step {step} "
        f"after a restart, and rounding explains {allowed:.3g}. If accumulation begins "
        'anew there pass resets=, such as resets="24 hours"; if the file is packed '
        f"more coarsely pass jitter={1.01 * fell:.3g}; if amounts may be negative, as "
        "of heat, pass signed=True."
    )


def _between(name: str, step: int, labels: Micros) -> CFError:
    ends = [
        np.datetime64(int(t), "us").astype("datetime64[s]")
        for t in labels[step : step + 2]
    ]
    return CFError(
        f"cannot use resets=: accumulation would begin anew between two times of "
        f"{name!r}, {ends[0]} and {ends[1]}. Pass the interval that the data have, "
        'such as resets="24 hours", or restarts at times of the axis.'
    )
