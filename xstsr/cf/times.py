"""Time axes as integers: calendars, cell edges, labels, resolution.

Every time is an ``int64`` count of microseconds since 1970-01-01 00:00 in the axis' own
calendar. ``calendar`` is None for numpy's datetime64 and a cftime calendar otherwise.

What labels stand for, when neither bounds nor the caller says it:

- months, seasons and years are recognised by the calendar: labels on the first day are
  "left", in the middle "mid", on the last day "right" (pandas' month ends);
- labels half a step after midnight-aligned steps (00:30 for hours) are "mid";
- all others are "left": each label is the start of its step.
"""

import cftime
import numpy as np

from xstsr.errors import CFError
from xstsr.geometry.cells import (
    LABELS,
    centers,
    edges_from_labels,
    labels_from_edges,
    refine_edges,
)
from xstsr.typing import Array, Label, Micros

DAY = 86_400_000_000
_EPOCH = "microseconds since 1970-01-01"
_UNITS = {  # largest first: the encoding uses the largest that is exact
    "days": DAY,
    "hours": 3_600_000_000,
    "minutes": 60_000_000,
    "seconds": 1_000_000,
    "milliseconds": 1000,
    "microseconds": 1,
}
_RESOLUTIONS = {"s": 1_000_000, "ms": 1000, "us": 1}
_SLACK = 1e-3  # of a step: times decoded from float days are this well known at least
_MAX_PARTS = 144  # parts of a month that are recognised: up to every 5 hours


def is_time(values: Array) -> bool:
    """Tell whether values are decoded times: datetime64 or cftime objects.

    Parameters
    ----------
    values : ndarray, any shape

    Returns
    -------
    bool
    """
    if values.dtype.kind == "O" and values.size:
        return isinstance(values.flat[0], cftime.datetime)
    return bool(values.dtype.kind == "M")


def to_micros(values: Array, name: str) -> tuple[Micros, str | None]:
    """Convert decoded times to integer microseconds in their own calendar.

    Parameters
    ----------
    values : ndarray, any shape
        datetime64 of any resolution, or cftime objects.
    name : str
        Name of the variable, for messages.

    Returns
    -------
    tuple of ndarray (same shape, int64) and str or None
        Microseconds since 1970-01-01, and the cftime calendar (None for datetime64).

    Raises
    ------
    CFError
        The values are no decoded times, of several calendars, or some are missing.
    """
    if not is_time(values):
        raise CFError(
            f"cannot read the times in {name!r}: dtype {values.dtype} is not decoded. "
            "Open the file with decode_times=True, or use xr.decode_cf(ds)."
        )
    if values.dtype.kind == "O":
        calendars = sorted({str(time.calendar) for time in values.flat})
        if len(calendars) > 1:
            raise CFError(
                f"cannot read the times in {name!r}: they are of several calendars, "
                f"{calendars}. Convert them before they are joined: "
                f"ds.convert_calendar({calendars[0]!r}, use_cftime=True)."
            )
        calendar = calendars[0]
        micros = cftime.date2num(values, _EPOCH, calendar=calendar)
        return np.asarray(micros, dtype=np.int64), calendar
    if np.isnat(values).any():
        raise CFError(
            f"cannot read the times in {name!r}: {int(np.isnat(values).sum())} of them "
            "are missing (NaT). Drop them with da.dropna or da.isel."
        )
    return values.astype("datetime64[us]").astype(np.int64), None


def check_calendars(one: str | None, other: str | None, what: str) -> None:
    """Refuse two calendars, None for datetime64's, that do not agree from 1582 on."""
    usual = (None, "standard", "gregorian", "proleptic_gregorian")
    if one != other and not (one in usual and other in usual):
        raise CFError(
            f"cannot match {what}: they are of the calendars {one or 'standard'!r} and "
            f"{other or 'standard'!r}. Convert one of both with convert_calendar()."
        )


def from_micros(micros: Micros, calendar: str | None, resolution: str = "us") -> Array:
    """Convert integer microseconds back to datetime64 or cftime objects.

    Parameters
    ----------
    micros : ndarray, any shape, int64
        Microseconds since 1970-01-01.
    calendar : str or None
        cftime calendar; None for datetime64.
    resolution : {"s", "ms", "us", "ns"}
        Resolution of the datetime64, the least that is wanted: a finer one is taken
        when these times need it.

    Returns
    -------
    ndarray, same shape
        Decoded times.
    """
    if calendar is not None:
        return np.asarray(cftime.num2date(micros, _EPOCH, calendar=calendar), object)
    fits_ns = bool(np.all(np.abs(micros) < np.iinfo(np.int64).max // 1000))
    if resolution == "ns" and fits_ns:
        return micros.astype("datetime64[us]").astype("datetime64[ns]")
    names = list(_RESOLUTIONS)
    start = names.index(resolution) if resolution in names else 2
    exact = (r for r in names[start:] if not np.any(micros % _RESOLUTIONS[r]))
    return micros.astype("datetime64[us]").astype(f"datetime64[{next(exact)}]")


def encoding_units(micros: Micros, calendar: str | None, like: str | None) -> str:
    """Choose time units in which all given times are whole numbers.

    Parameters
    ----------
    micros : ndarray, any shape, int64
        Labels and edges to be written.
    calendar : str or None
        Calendar of the axis.
    like : str or None
        Units of the source, "days since 1850-01-01", whose reference date is kept.

    Returns
    -------
    str
        For example "minutes since 1850-01-01".
    """
    reference = (like or "").partition(" since ")[2].strip()
    try:
        start = cftime.num2date(
            0, f"seconds since {reference}", calendar or "proleptic_gregorian"
        )
        zero = int(cftime.date2num(start, _EPOCH, calendar=start.calendar))
    except (ValueError, TypeError):
        reference, zero = "1970-01-01", 0
    offset = micros - zero
    unit = next(u for u, size in _UNITS.items() if not np.any(offset % size))
    return f"{unit} since {reference}"


def edges_from_bounds(
    bounds: Micros, labels: Micros, name: str, label: Label | None
) -> tuple[Micros, Label, str | None]:
    """Read contiguous cell edges and the label convention from time bounds.

    Parameters
    ----------
    bounds : ndarray, shape (T, 2), int64
        Microseconds.
    labels : ndarray, shape (T,), int64
        Microseconds, strictly increasing.
    name : str
        Name of the time coordinate, for messages.
    label : {"left", "mid", "right"} or None
        What the caller claims; a contradiction is an error.

    Returns
    -------
    tuple of ndarray (shape (T + 1,)), label, and a note or None

    Raises
    ------
    CFError
        The bounds have another shape, are empty, have gaps, do not hold their labels,
        or contradict ``label``.
    """
    if bounds.shape != (labels.size, 2):
        raise CFError(
            f"cannot use the bounds of {name!r}: their shape is {bounds.shape}, not "
            f"{(labels.size, 2)}. Drop them, or compute them anew."
        )
    width = np.diff(bounds)[:, 0]
    _check_bounds(bounds, labels, width, name)
    edges = np.append(bounds[:, 0], bounds[-1:, 1])
    found: list[Label] = [
        kind
        for kind in LABELS
        if np.all(np.abs(labels - labels_from_edges(edges, kind)) <= width * _SLACK)
    ]
    if label is not None and found and label not in found:
        raise CFError(
            f'cannot read {name!r} with label="{label}": by its bounds the labels are '
            f'"{found[0]}". Leave out label=, or drop the bounds.'
        )
    if found:
        return edges, found[0], None
    note = (
        f"the labels of {name!r} lie inside their bounds but neither at the start, "
        'middle nor end; refined labels are at the middle ("mid")'
    )
    return edges, label or "mid", None if label else note


def _check_bounds(bounds: Micros, labels: Micros, width: Micros, name: str) -> None:
    if np.any(width <= 0):
        i = int(np.argmax(width <= 0))
        raise CFError(
            f"cannot use the bounds of {name!r}: cell {i} is "
            f"{_span(int(width[i]))} wide. "
            'Drop them; for instantaneous data set cell_methods="time: point".'
        )
    gap = bounds[1:, 0] - bounds[:-1, 1]
    bad = np.abs(gap) > width[:-1] * _SLACK
    if np.any(bad):
        i = int(np.argmax(bad))
        step = int(labels[i + 1] - labels[i])
        stale = np.ptp(width) == 0 and np.ptp(np.diff(labels)) == 0
        what = (
            "they are stale" if stale else f"they leave a gap or overlap at index {i}"
        )
        raise CFError(
            f"cannot use the bounds of {name!r}: {what}; cell {i} is "
            f"{_span(int(width[i]))} wide but the next label is {_span(step)} later. "
            "Drop the bounds if they are stale, or select one contiguous part: "
            f"ds.isel({name}=slice(0, {i + 1}))."
        )
    outside = (labels < bounds[:, 0]) | (labels > bounds[:, 1])
    if np.any(outside):
        i = int(np.argmax(outside))
        raise CFError(
            f"cannot use the bounds of {name!r}: label {i} lies outside its bounds, so "
            "they are stale. Drop the bounds, or compute them anew."
        )


def check_increasing(labels: Micros, name: str) -> None:
    """Check that times increase strictly.

    Parameters
    ----------
    labels : ndarray, shape (T,), int64
        Microseconds.
    name : str
        Name of the time coordinate, for messages.

    Raises
    ------
    CFError
        A time occurs twice, or time runs backwards; the message names the index.
    """
    step = np.diff(labels)
    if np.any(step == 0):
        i = int(np.argmax(step == 0))
        raise CFError(
            f"cannot use the time axis {name!r}: the times at index {i} and {i + 1} "
            f"are the same. Remove duplicates: da.drop_duplicates({name!r})."
        )
    if np.any(step < 0):
        i = int(np.argmax(step < 0))
        raise CFError(
            f"cannot use the time axis {name!r}: time runs backwards after index {i}. "
            f"Sort it: da.sortby({name!r})."
        )


def infer_edges(
    labels: Micros, calendar: str | None, name: str, label: Label | None
) -> tuple[Micros, Label]:
    """Infer contiguous cell edges from labels alone (see the rules of this module).

    Parameters
    ----------
    labels : ndarray, shape (T,), int64, T >= 2
        Microseconds, strictly increasing.
    calendar : str or None
        Calendar of the axis.
    name : str
        Name of the time coordinate, for messages.
    label : {"left", "mid", "right"} or None
        What the labels stand for; None infers it.

    Returns
    -------
    tuple of ndarray (shape (T + 1,)) and label

    Raises
    ------
    CFError
        The steps are unequal and not those of a calendar; the message names the index
        and the two steps.
    """
    found = _calendar_edges(labels, calendar, label)
    if found is not None:
        return found
    step = np.diff(labels)
    usual = int(np.sort(step)[(step.size - 1) // 2])
    bad = np.abs(step - usual) > max(usual * _SLACK, 2)
    if not np.any(bad):
        label = label or _guess_label(labels)
        return _snap(edges_from_labels(labels, label)), label
    split = _split_calendar_edges(labels, calendar, label)
    if split is not None:
        return split
    i = int(np.argmax(bad))
    raise CFError(
        f"cannot use the time axis {name!r}: it is irregular at index {i}: a step of "
        f"{_span(int(step[i]))} where the usual step is {_span(usual)}. Fill the gap "
        f"(da.resample({name}=...).asfreq()), select da.isel({name}=slice({i + 1})), "
        "or pass a Dataset with time bounds."
    )


def _guess_label(labels: Micros) -> Label:
    step = (labels[-1] - labels[0]) / (labels.size - 1)
    parts = max(round(DAY / step), 1)
    if step < DAY and abs(DAY / step - parts) > _SLACK:
        return "left"  # the steps do not tile a day, so no midnight anchors them
    grid = min(DAY / parts, DAY)
    start, middle = (labels[0] % grid) / grid, ((labels[0] - step / 2) % grid) / grid
    aligned = min(start, 1 - start) < _SLACK
    return "mid" if min(middle, 1 - middle) < _SLACK and not aligned else "left"


def _snap(edges: Micros) -> Micros:
    # labels of cells like 1 h / 7 are rounded to 1 us, and so are edges found from them
    seconds = np.round(edges / 1e6).astype(np.int64) * 1_000_000
    return np.where(np.abs(edges - seconds) <= 8, seconds, edges)


def _calendar_edges(
    labels: Micros, calendar: str | None, label: Label | None
) -> tuple[Micros, Label] | None:
    """Edges of months, seasons or years, or None if the labels are not such."""
    if labels[1] - labels[0] < 27 * DAY:
        return None
    months = _month_index(labels, calendar)
    steps = np.diff(months)
    if steps[0] < 1 or np.any(steps != steps[0]):
        return None
    n = int(steps[0])
    starts = _month_start(months, calendar)
    into = labels - starts
    if np.all(into == into[0]) and (into[0] == 0 or label in ("left", "right")):
        side = label or "left"
        if side == "mid":
            return None
        shift = 0 if side == "left" else -n
        index = np.append(months + shift, months[-1] + shift + n)
        return _month_start(index, calendar) + into[0], side
    ends = _month_start(months + 1, calendar) - labels
    if label in (None, "right") and np.all((ends <= DAY) & (ends >= 0)):
        index = np.append(months[:1] + 1 - n, months + 1)
        return _month_start(index, calendar), "right"
    index = np.append(months, months[-1] + n) - n // 2
    edges = _month_start(index, calendar)
    near = np.abs(labels - centers(edges)) <= 2 * DAY
    return (edges, "mid") if label in (None, "mid") and np.all(near) else None


def _split_calendar_edges(
    labels: Micros, calendar: str | None, label: Label | None
) -> tuple[Micros, Label] | None:
    """Edges of months split in equal parts: what refining a monthly axis gives."""
    months = _month_index(labels, calendar)
    for parts in range(2, min(labels.size // 2, _MAX_PARTS) + 1):
        n = int(months[parts] - months[0])
        if labels.size % parts or not 1 <= n <= 12:
            continue
        groups = np.arange(labels.size // parts + 1) * n
        for back in range(n + 1):
            start = _month_start(months[0] - back + groups, calendar)
            edges = refine_edges(start, parts)
            for side in LABELS if label is None else (label,):
                if np.array_equal(labels_from_edges(edges, side), labels):
                    return edges, side
    return None


def _month_index(micros: Micros, calendar: str | None) -> Micros:
    if calendar is None:
        month = micros.astype("datetime64[us]").astype("datetime64[M]")
        return month.astype(np.int64) + 1970 * 12
    dates = from_micros(micros, calendar)
    return np.array([d.year * 12 + d.month - 1 for d in dates], dtype=np.int64)


def _month_start(index: Micros, calendar: str | None) -> Micros:
    if calendar is None:
        month = (index - 1970 * 12).astype("datetime64[M]")
        return month.astype("datetime64[us]").astype(np.int64)
    dates = [cftime.datetime(i // 12, i % 12 + 1, 1, calendar=calendar) for i in index]
    return np.asarray(cftime.date2num(dates, _EPOCH, calendar=calendar), np.int64)


def _span(micros: int) -> str:
    """Write a length of time in the largest unit that is exact."""
    unit = next(u for u, size in _UNITS.items() if micros % size == 0)
    count = micros // _UNITS[unit]
    return f"{count} {unit.removesuffix('s') if abs(count) == 1 else unit}"
