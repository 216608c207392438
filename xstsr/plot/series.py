"""Fields made ready for drawing: plain, in the units that are shown, by moment.

Rain is shown as a rate, amounts too, because steps of different lengths must share one
colour scale: mm h-1, or mm d-1 where steps are half a day or longer. Other quantities
are shown in their own unit.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import xarray as xr

from xstsr.cf.axes import find_axes
from xstsr.cf.coords import dequantify
from xstsr.cf.meaning import Meaning
from xstsr.cf.read import read_meaning
from xstsr.cf.times import from_micros, is_time
from xstsr.errors import AssumptionWarning, CFError, DataError, UnitError
from xstsr.typing import Floats

REALIZATION = "realization"
MOST_CELLS = 500  # along a side: more than the pixels of a panel
_HALF_DAY = 720.0  # minutes
_DAY_UNITS, _HOUR_UNITS = "mm d-1", "mm h-1"
_NO_TIME = np.datetime64("1970-01-01", "ns")


@dataclass(frozen=True, eq=False)
class Series:
    """A field that can be drawn at any moment.

    Parameters
    ----------
    data : DataArray, dims (realization, time, y, x)
        Plain values in ``units``; lazy where the input was.
    meaning : Meaning
        Of the input.
    units : str
        That are shown.
    has_time : bool
        Whether the input had a time at all.
    """

    data: xr.DataArray
    meaning: Meaning
    units: str
    has_time: bool = True

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return self.meaning.shape[0]

    @property
    def realizations(self) -> int:
        """Number of realizations; 1 where the input had no such dimension."""
        return int(self.data.sizes[REALIZATION])

    @property
    def label(self) -> str:
        """What is drawn, in words."""
        attrs = self.meaning.attrs
        words = attrs.get("long_name") or attrs.get("standard_name")
        return str(words or self.meaning.name or "").replace("_", " ")

    def moment(self, step: int) -> int:
        """Middle of a step in microseconds."""
        edges = self.meaning.time_edges
        return int((int(edges[step]) + int(edges[step + 1])) // 2)

    def step_at(self, moment: int) -> int:
        """Find the step that holds at a moment, or the nearest."""
        edges = self.meaning.time_edges
        step = int(np.searchsorted(edges, moment, side="right")) - 1
        return min(max(step, 0), self.steps - 1)

    def at(self, moment: int) -> xr.DataArray:
        """Give the fields of a moment, dims (realization, y, x)."""
        return self.data[:, self.step_at(moment)]

    def period(self, step: int) -> tuple[str, str]:
        """Date and time of day of a step, from start to end; empty without a time."""
        if not self.has_time:
            return "", ""
        meaning = self.meaning
        edges = meaning.time_edges[step : step + 2]
        times = xr.DataArray(from_micros(edges, meaning.calendar))
        start, end = times.dt.strftime("%Y-%m-%d %H:%M").values
        (date, begins), (last, ends) = str(start).split(), str(end).split()
        if (begins, ends) == ("00:00", "00:00"):
            return date, "" if meaning.step_minutes <= 1440 else f"to {last}"
        if meaning.point or not meaning.step_known:
            return date, begins
        return date, f"{begins}\N{EN DASH}{ends}"


def read(da: xr.DataArray, title: str, units: str | None = None) -> Series:
    """Make a field ready for drawing.

    Parameters
    ----------
    da : DataArray
        Dims y and x, perhaps time, perhaps one more: the realizations. In memory, lazy
        or pint-quantified.
    title : str
        What to call it in messages.
    units : str, optional
        Of another field that shares the colour scale; by default its own choice.

    Returns
    -------
    Series

    Raises
    ------
    DataError
        Not a DataArray, empty, or with more dimensions.
    UnitError
        It cannot be shown in ``units``.
    CFError
        Its metadata do not tell which axes are which.
    """
    if not isinstance(da, xr.DataArray):
        raise DataError(
            f"cannot draw {title!r}: it is {type(da).__name__}, not a DataArray. "
            'Select a variable: ds["pr"].'
        )
    if not da.size:
        raise DataError(
            f"cannot draw {title!r}: it is empty, with sizes {dict(da.sizes)}. Select "
            "at least one cell and time."
        )
    timed, has_time = _with_time(dequantify(da)[0])
    meaning = _meaning(timed)
    factor, shown = _shown(meaning, title, units, has_time)
    data = _with_realizations(timed, meaning, title) * xr.DataArray(
        factor, dims=meaning.time_dim
    )
    ordered = data.transpose(REALIZATION, *meaning.core_dims)
    return Series(ordered, meaning, shown, has_time)


def read_alike(fields: dict[str, xr.DataArray]) -> dict[str, Series]:
    """Make several fields ready for one colour scale, the first one's.

    Raises
    ------
    DataError, UnitError, CFError
        As `read`; or there are no fields.
    """
    if not fields:
        raise DataError(
            f"cannot draw {fields!r}: there are no panels. Pass at least one title "
            "with its DataArray."
        )
    made: dict[str, Series] = {}
    for title, field in fields.items():
        first = next(iter(made.values()), None)
        made[title] = read(field, title, first.units if first else None)
    return made


def load(fields: Sequence[xr.DataArray]) -> list[Floats]:
    """Bring fields to memory, all at once, so that shared work is done once."""
    values: Sequence[Any] = [field.data for field in fields]
    if any(field.chunks is not None for field in fields):
        from dask.base import compute

        values = compute(*values)
    return [np.asarray(value, dtype=np.float64) for value in values]


def thinned(
    values: Floats, y: Floats, x: Floats, most: int = MOST_CELLS
) -> tuple[Floats, Floats, Floats, int]:
    """Average blocks of cells where there are more than a picture can show.

    Parameters
    ----------
    values : ndarray, shape (..., Y, X)
        NaN where there is nothing.
    y, x : ndarray, shapes (Y + 1,) and (X + 1,)
        Edges.
    most : int
        Cells along a side.

    Returns
    -------
    tuple of values, y, x and the width of a block; the rest at the far ends is cut off

    Examples
    --------
    >>> import numpy as np
    >>> field, y, x, width = thinned(np.eye(4), np.arange(5.0), np.arange(5.0), most=2)
    >>> field, y, width
    (array([[0.5, 0. ], [0. , 0.5]]), array([0., 2., 4.]), 2)
    """
    rows, columns = values.shape[-2:]
    n = -(-max(rows, columns) // most)
    if n == 1:
        return values, y, x, 1
    height, width = max(1, rows // n), max(1, columns // n)
    tall, wide = min(n, rows), min(n, columns)
    kept = values[..., : height * tall, : width * wide]
    blocks = kept.reshape(*values.shape[:-2], height, tall, width, wide)
    known = np.isfinite(blocks)
    count = known.sum(axis=(-3, -1))
    total = np.where(known, blocks, 0.0).sum(axis=(-3, -1))
    mean = np.where(count, total / np.maximum(count, 1), np.nan)
    return mean, y[::tall][: height + 1], x[::wide][: width + 1], n


def _with_time(da: xr.DataArray) -> tuple[xr.DataArray, bool]:
    """Give a single field its time back as a dimension, or one that is not shown."""
    try:
        find_axes(da)
    except CFError:
        scalars = [n for n, c in da.coords.items() if not c.ndim and is_time(c.values)]
        if scalars:
            return da.expand_dims(scalars[0]), True
        if "time" not in da.coords and "time" not in da.dims:
            return da.expand_dims(time=[_NO_TIME]), False
    return da, True


def _meaning(da: xr.DataArray) -> Meaning:
    """Read the metadata, also those of a single step of unknown length."""
    with warnings.catch_warnings():
        # what is assumed was told when the field was refined, or will be
        warnings.simplefilter("ignore", AssumptionWarning)
        try:
            return read_meaning(da)
        except CFError:
            time = find_axes(da).time
            if da.sizes[time] != 1:
                raise
            # an amount over nobody knows how long cannot be refined, but can be drawn
            label = da[time].values
            hour: Any = timedelta(hours=1)
            if label.dtype.kind == "M":
                hour = np.timedelta64(1, "h")
            later = da.assign_coords({time: label + hour})
            meaning = read_meaning(xr.concat([da, later], time))
            edges = meaning.time_edges[:2]
            return replace(meaning, time_edges=edges, step_known=False)


def _shown(
    meaning: Meaning, title: str, units: str | None, has_time: bool
) -> tuple[Floats, str]:
    """Choose the units that are shown, and the factors to them, shape (T,)."""
    is_rain = meaning.kind == "rate" or (
        meaning.kind == "amount" and has_time and meaning.step_known
    )
    own = meaning.units
    if is_rain and units in (_DAY_UNITS, _HOUR_UNITS):
        own = units
    elif is_rain:
        long = meaning.step_minutes >= _HALF_DAY and meaning.step_known and has_time
        own = _DAY_UNITS if long else _HOUR_UNITS
    if units is not None and own != units:
        raise UnitError(
            f"cannot draw {title!r} on one colour scale with the others: it is shown "
            f"in {own!r} and they in {units!r}. Convert it to their unit first."
        )
    if not is_rain:
        return np.ones(meaning.shape[0]), own
    return meaning.rate_factor * (24.0 if own == _DAY_UNITS else 1.0), own


def _with_realizations(da: xr.DataArray, meaning: Meaning, title: str) -> xr.DataArray:
    extra = meaning.extra_dims
    if not extra:
        return da.expand_dims(REALIZATION)
    if len(extra) == 1 and (extra[0] == REALIZATION or da.sizes[extra[0]] == 1):
        return da if extra[0] == REALIZATION else da.rename({extra[0]: REALIZATION})
    others = [dim for dim in extra if dim != REALIZATION]
    raise DataError(
        f"cannot draw {title!r}: besides time, y and x it has {others} with sizes "
        f"{[da.sizes[dim] for dim in others]}. Select one of each: "
        f".isel({others[0]}=0)."
    )
