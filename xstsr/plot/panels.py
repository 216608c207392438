"""Fields side by side, on one colour scale."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.errors import DataError
from xstsr.plot.maps import Place, place_of
from xstsr.plot.series import Series, load, read, read_alike, thinned
from xstsr.plot.style import (
    INK,
    TITLE,
    WIDTH,
    Scale,
    colour_bar,
    draw_field,
    new_figure,
    note,
    rain_scale,
    robust_scale,
    save,
)
from xstsr.typing import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEFAULT_FRAMES = 3
_WRAP = 4  # panels in a row, where there is only one row
_SIDES = 1.6  # inches that labels and the colour bar take
_GAP = 0.1  # inches between panels
_TALLEST = 4.5  # inches
_RAIN = ("mm h-1", "mm d-1")


@dataclass(frozen=True, eq=False)
class Column:
    """What is drawn under one title: a field for each row.

    Parameters
    ----------
    title : str
    series : Series
        Where the fields come from.
    fields : ndarray, shape (rows, Y, X)
        In the units of the series.
    """

    title: str
    series: Series
    fields: Floats


def compare(
    fine: xr.DataArray,
    coarse: xr.DataArray,
    truth: xr.DataArray | None = None,
    *,
    realizations: int = 3,
    frames: Sequence[int] | None = None,
    path: str | Path | None = None,
) -> "Figure":
    """Draw coarse, mean, some realizations and the truth side by side.

    One colour scale for all: rain in fixed steps of mm h-1 (mm d-1 where steps are half
    a day or longer), whatever the units are; other quantities over the range of what is
    drawn. On the map's projection where the field has a grid mapping and cartopy is
    installed. Cells without data are grey and hatched.

    Parameters
    ----------
    fine : DataArray
        From `xstsr.upscale`; with or without ``realization`` and time.
    coarse : DataArray
        What was refined.
    truth : DataArray, optional
        What should have come out.
    realizations : int
        How many to draw; the mean is that of all there are.
    frames : sequence of int, optional
        Which steps of ``fine`` to draw, a row for each. Default: up to three in the
        wettest coarse step.
    path : str or Path, optional
        Write the picture there, in the format of the suffix (.png, .pdf, .svg).

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError
        Empty fields, dimensions besides time, y, x and realization, absent frames.
    UnitError
        The fields cannot share a scale.
    PlotError
        Matplotlib is not installed, or ``path`` cannot be written.

    Examples
    --------
    >>> import xstsr
    >>> truth = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> coarse = truth.stsr.coarsen(s=5, t=3)
    >>> fine = coarse.stsr.upscale(s=5, t=3, method="rainfarm", realizations=4)
    >>> figure = fine.stsr.plot.compare(coarse, truth)
    >>> [axes.get_title() for axes in figure.axes[1:3]]
    ['mean of 4', 'realization 0']
    """
    coarse_series = read(coarse, "coarse")
    series = {"coarse": coarse_series, "fine": read(fine, "fine", coarse_series.units)}
    if truth is not None:
        series["truth"] = read(truth, "truth", coarse_series.units)
    moments = _moments(series["fine"], coarse_series, frames)
    columns = _ensemble_columns(series, moments, realizations)
    return _drawn(columns, series["fine"], moments, path)


def side_by_side(
    panels: Mapping[str, xr.DataArray],
    path: str | Path | None = None,
    frames: Sequence[int] | None = None,
) -> "Figure":
    """Draw any fields side by side: a column for each, a row for each time.

    Parameters
    ----------
    panels : mapping of title to DataArray
        Over the same area and period; the grids and time steps may differ.
    path : str or Path, optional
        Write the picture there, in the format of the suffix (.png, .pdf, .svg).
    frames : sequence of int, optional
        Which time steps to draw, counted on the panel with the most of them.
        Default: up to three about the wettest.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError
        No panels, empty ones or ones of several realizations, absent frames.
    UnitError
        The panels cannot share a colour scale.
    PlotError
        Matplotlib is not installed, or ``path`` cannot be written.

    Examples
    --------
    >>> import xstsr
    >>> truth = xstsr.open_demo().rainfall_amount[:6, :40, :30]
    >>> coarse = truth.stsr.coarsen(s=5, t=3)
    >>> smooth = coarse.stsr.upscale(s=5, t=3, method="linear")
    >>> figure = side_by_side({"linear": smooth, "truth": truth}, frames=[4])
    >>> [axes.get_title() for axes in figure.axes]
    ['linear', 'truth', '']
    """
    series = read_alike(dict(panels))
    for title, one in series.items():
        if one.realizations > 1:
            raise DataError(
                f"cannot draw {title!r}: it holds {one.realizations} realizations. "
                "Select one with .isel(realization=0)."
            )
    clock = max(series.values(), key=lambda one: one.steps)
    rough = min(series.values(), key=lambda one: one.steps)
    moments = _moments(clock, rough, frames)
    arrays = load([one.at(m)[0] for one in series.values() for m in moments])
    columns = [
        Column(title, one, np.stack(arrays[i * len(moments) : (i + 1) * len(moments)]))
        for i, (title, one) in enumerate(series.items())
    ]
    return _drawn(columns, clock, moments, path)


def _moments(clock: Series, rough: Series, frames: Sequence[int] | None) -> list[int]:
    """Choose what to draw: the frames asked for, or those of the wettest rough step."""
    if frames is None:
        return [clock.moment(frame) for frame in _wettest_frames(clock, rough)]
    wrong = [frame for frame in frames if not 0 <= frame < clock.steps]
    if wrong or not len(frames):
        raise DataError(
            f"cannot draw frames {list(frames)!r}: there are frames 0 to "
            f"{clock.steps - 1}. Choose at least one of these."
        )
    return [clock.moment(frame) for frame in frames]


def _wettest_frames(clock: Series, rough: Series) -> list[int]:
    """Up to three steps of ``clock`` in, or about, the wettest step of ``rough``."""
    if clock.steps <= _DEFAULT_FRAMES:
        return list(range(clock.steps))
    over = [dim for dim in rough.data.dims if dim != rough.meaning.time_dim]
    means = np.nan_to_num(load([rough.data.mean(over)])[0])
    middle = rough.moment(int(means.argmax()))
    inside = [
        step
        for step in range(clock.steps)
        if rough.step_at(clock.moment(step)) == rough.step_at(middle)
    ]
    if len(inside) < _DEFAULT_FRAMES:
        first = clock.step_at(middle) - _DEFAULT_FRAMES // 2
        first = min(max(first, 0), clock.steps - _DEFAULT_FRAMES)
        return list(range(first, first + _DEFAULT_FRAMES))
    return [inside[0], inside[len(inside) // 2], inside[-1]]


def _ensemble_columns(
    series: Mapping[str, Series], moments: list[int], realizations: int
) -> list[Column]:
    """Load coarse, mean, realizations and truth at the moments."""
    rows = len(moments)
    arrays = load([one.at(moment) for one in series.values() for moment in moments])
    coarse, fine = np.stack(arrays[:rows]), np.stack(arrays[rows : 2 * rows])
    columns = [Column("coarse", series["coarse"], coarse[:, 0])]
    names = series["fine"].data["realization"].values.tolist()
    if len(names) > 1:
        columns.append(
            Column(f"mean of {len(names)}", series["fine"], fine.mean(axis=1))
        )
    for index, name in enumerate(names[: max(realizations, 0)]):
        title = f"realization {name}" if len(names) > 1 else "fine"
        columns.append(Column(title, series["fine"], fine[:, index]))
    if "truth" in series:
        truth = np.stack(arrays[2 * rows :])
        columns.append(Column("truth", series["truth"], truth[:, 0]))
    return columns


def scale_for(columns: Sequence[Column]) -> Scale:
    """Choose one colour scale for everything that is drawn."""
    units = columns[0].series.units
    if units in _RAIN:
        return rain_scale(units)
    return robust_scale((column.fields for column in columns), units)


def _drawn(
    columns: list[Column], clock: Series, moments: list[int], path: str | Path | None
) -> "Figure":
    grid = Grid(columns, clock, len(moments))
    for row in range(len(moments)):
        grid.draw(row)
    grid.finish([clock.step_at(moment) for moment in moments])
    save(grid.figure, path)
    return grid.figure


class Grid:
    """Axes in rows of times and columns of fields, and what is drawn in them.

    A single row of many fields is wrapped, so that they stay large enough.

    Parameters
    ----------
    columns : list of Column
        What is drawn.
    clock : Series
        Whose steps the rows are, and whose cells say where.
    rows : int
        Number of times.
    across : int, optional
        Fields in a row, where there is one time; by default what fits.
    width : float
        Inches.
    """

    def __init__(
        self,
        columns: list[Column],
        clock: Series,
        rows: int,
        across: int | None = None,
        width: float = WIDTH,
    ) -> None:
        self.columns, self.clock, self.rows = columns, clock, rows
        self.place: Place = place_of(clock.meaning)
        self.scale = scale_for(columns)
        self.notes: set[str] = set()
        across = across or (len(columns) if len(columns) <= _WRAP or rows > 1 else 0)
        across = across or -(-len(columns) // 2)
        self.shape = (rows if rows > 1 else -(-len(columns) // across), across)
        tall, wide = self.place.shape
        side = ((width - _SIDES) / across - _GAP) / wide
        titles = 1 if rows > 1 else self.shape[0]
        height = self.shape[0] * (min(side, _TALLEST) * tall + _GAP)
        self.figure = new_figure(height + 0.2 * titles + 0.75, width)
        self.axes: NDArray[Any] = self.figure.subplots(
            *self.shape, squeeze=False, subplot_kw={"projection": self.place.projection}
        )
        for spare in self.axes.flat[rows * len(columns) :]:
            spare.remove()
        self.meshes: list[Any] = []

    def draw(self, row: int) -> None:
        """Draw the fields of one row."""
        across = self.shape[1]
        for index, column in enumerate(self.columns):
            place = row * len(self.columns) + index
            axes = self.axes.flat[place]
            y, x = self.place.edges(column.series.meaning)
            values, y, x, width = thinned(column.fields[row], y, x)
            if width > 1:
                self.notes.add(f"means of {width} x {width} cells are shown")
            if not np.isfinite(values).all():
                self.notes.add("hatched: no data")
            self.meshes.append(draw_field(axes, values, y, x, self.scale))
            is_lowest = place + across >= self.rows * len(self.columns)
            self.place.prepare(axes, outer=(place % across == 0, is_lowest))
            if row == 0:
                axes.set_title(column.title, fontsize=TITLE, color=INK)

    def finish(self, steps: list[int]) -> None:
        """Write the times, the colour bar and the notes."""
        periods = [self.clock.period(step) for step in steps]
        dates = {date for date, _ in periods}
        if len(steps) == 1:
            self.title(steps[0])
        else:
            same_day = len(dates) == 1 and all(hours for _, hours in periods)
            self._write_title(*(dates if same_day else ()))
            for axes, (date, hours) in zip(self.axes[:, 0], periods, strict=True):
                _row_label(axes, hours if same_day else f"{date} {hours}")
        kept = np.array([axes for axes in self.axes.flat if axes.figure is not None])
        colour_bar(self.figure, kept, self.meshes[0], self.scale)
        note(self.figure, "; ".join(sorted(self.notes)))

    def title(self, step: int) -> None:
        """Write what is drawn, and when, above everything."""
        self._write_title(*self.clock.period(step))

    def _write_title(self, *when: str) -> None:
        title = "  ".join(part for part in (self.clock.label, *when) if part)
        self.figure.suptitle(title, fontsize=TITLE + 0.5, color=INK)


def _row_label(axes: Any, text: str) -> None:
    """Write a row's time upright at the left of its first axes."""
    axes.annotate(
        text.strip(),
        xy=(0.0, 0.5),
        xycoords=axes.yaxis.label if axes.get_ylabel() else "axes fraction",
        # a map's labels of latitude are no y label: their width is known roughly
        xytext=(-4 if axes.get_ylabel() else -44, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        rotation=90,
        fontsize=8,
        color=INK,
    )
