"""Fields side by side, on one colour scale.

Everything here takes DataArrays with dims ([time], y, x) and gives a matplotlib
figure. Matplotlib comes with the extra ``plot`` and is imported only when something is
drawn; nothing is drawn through pyplot, so no global state changes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.errors import DataError, UnitError, XstsrError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

__all__ = ["RAIN_LEVELS", "PlotError", "compare"]


class PlotError(XstsrError):
    """Matplotlib is not installed."""


RAIN_LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Limits of the colours of rain, in mm h-1. Below the first it is dry (white)."""

# lightness falls steadily, so that the colour-blind and grey prints keep the order
_RAIN_COLOURS = (
    "#d8eef3",
    "#a9d8e6",
    "#6cb8d9",
    "#3a8fc7",
    "#2f63ad",
    "#4b3d97",
    "#5c1f79",
    "#46104f",
    "#1c0520",
)
_RAIN_UNITS = {"mm h-1", "mm/h", "mm/hr", "mm hr-1", "mm h**-1", "mm/hour"}
_MISSING_FACE, _MISSING_LINE = "#ececec", "#c4c4c4"
_INK, _FRAME = "#333333", "#9a9a9a"
_DEFAULT_FRAMES = 3
_SIDE = 2.3  # inches, the longer side of a panel


def compare(
    panels: Mapping[str, xr.DataArray],
    path: str | Path | None = None,
    frames: Sequence[int] | None = None,
) -> "Figure":
    """Draw fields side by side: a column for each panel, a row for each time.

    All share one colour scale: for rain rates (mm h-1) the steps of ``RAIN_LEVELS``,
    else the range of all values. Cells without data are grey and hatched.

    Parameters
    ----------
    panels : mapping of title to DataArray, shape (y, x) or (time, y, x)
        The same units and the same area; the grids and time steps may differ, where
        all cover the same period.
    path : str or Path, optional
        Write the picture there, in the format of the suffix (.png, .pdf, .svg).
        An older file stays whole until the new one is complete.
    frames : sequence of int, optional
        Which time steps to draw, counted on the panel with the most of them.
        Default: three in a row about the one with the highest mean.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    DataError : no panels, not 2 or 3 dims, or a frame that is not there.
    UnitError : the panels differ in units.
    PlotError : matplotlib is not installed.
    """
    units = _common_units(panels)
    clock = max(panels.values(), key=_steps)
    chosen = _chosen_frames(clock, frames)
    columns = {
        title: [_frame(panel, frame, _steps(clock)) for frame in chosen]
        for title, panel in panels.items()
    }
    figure, axes = _figure(columns)
    colours, norm = _colours(units, [field for c in columns.values() for field in c])
    origin = _origin(clock)
    for column, (title, fields) in enumerate(columns.items()):
        axes[0, column].set_title(title, fontsize=9.5, color=_INK, linespacing=1.35)
        for row, field in enumerate(fields):
            mesh = _draw(axes[row, column], field, origin, colours, norm)
    _label(axes, clock, chosen)
    _colour_bar(figure, axes, mesh, units)
    if path is not None:
        _save(figure, Path(path))
    return figure


def _figure(
    columns: Mapping[str, list[xr.DataArray]],
) -> tuple["Figure", NDArray[np.object_]]:
    """Make an empty figure, and its axes of shape (rows, columns)."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise PlotError(
            f"cannot draw a picture: {error}. Type: pip install 'xstsr[plot]'"
        ) from error
    first = next(iter(columns.values()))
    height, width = _aspect(first[0])
    inches = (
        (_SIDE * width + 0.1) * len(columns) + 1.5,
        (_SIDE * height + 0.08) * len(first) + 0.7,
    )
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.0, hspace=0.0)
    figure = Figure(figsize=inches, layout=layout, dpi=160)
    axes = figure.subplots(
        len(first), len(columns), sharex=True, sharey=True, squeeze=False
    )
    return figure, axes


def _common_units(panels: Mapping[str, xr.DataArray]) -> str:
    if not panels:
        raise DataError(
            f"cannot draw {dict(panels)!r}: there are no panels. Pass at least one "
            "title with its DataArray."
        )
    for title, panel in panels.items():
        if panel.ndim not in (2, 3) or not panel.size:
            raise DataError(
                f"cannot draw {title!r}: its shape is {panel.shape} with dims "
                f"{panel.dims}, not (y, x) or (time, y, x). Select one with "
                ".isel(realization=0), say."
            )
    units = {
        title: str(panel.attrs.get("units", "")) for title, panel in panels.items()
    }
    if len(set(units.values())) > 1:
        raise UnitError(
            f"cannot draw on one colour scale: the units are {units}. Convert the "
            "panels to one unit first."
        )
    return next(iter(units.values()))


def _steps(panel: xr.DataArray) -> int:
    return panel.shape[0] if panel.ndim == 3 else 1


def _chosen_frames(clock: xr.DataArray, frames: Sequence[int] | None) -> list[int]:
    steps = _steps(clock)
    if frames is None:
        if steps <= _DEFAULT_FRAMES:
            return list(range(steps))
        means = np.nan_to_num(clock.mean(clock.dims[1:]).to_numpy())
        first = int(means.argmax()) - _DEFAULT_FRAMES // 2
        first = min(max(first, 0), steps - _DEFAULT_FRAMES)
        return list(range(first, first + _DEFAULT_FRAMES))
    wrong = [frame for frame in frames if not 0 <= frame < steps]
    if wrong or not frames:
        raise DataError(
            f"cannot draw frames {list(frames)!r}: the panels have frames 0 to "
            f"{steps - 1}. Choose at least one of these."
        )
    return list(frames)


def _frame(panel: xr.DataArray, frame: int, steps: int) -> xr.DataArray:
    """Give the field, shape (y, x), that holds during ``frame`` of ``steps``."""
    if panel.ndim == 2:
        return panel
    return panel[frame * panel.shape[0] // steps]


def _colours(units: str, fields: list[xr.DataArray]) -> tuple["Colormap", "Normalize"]:
    """Choose colours and what they stand for."""
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize

    if units.strip() not in _RAIN_UNITS:
        values = np.concatenate([np.asarray(field).ravel() for field in fields])
        values = values[np.isfinite(values)]
        low, high = (values.min(), values.max()) if values.size else (0.0, 1.0)
        return colormaps["viridis"], Normalize(float(low), float(high))
    colours = ListedColormap(list(_RAIN_COLOURS[:-1])).with_extremes(
        under="white", over=_RAIN_COLOURS[-1]
    )
    return colours, BoundaryNorm(RAIN_LEVELS, len(RAIN_LEVELS) - 1)


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Halfway points, shape (N + 1,), of ``centres``, shape (N,)."""
    if centres.size == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    inner = (centres[:-1] + centres[1:]) / 2
    first, last = 2 * centres[0] - inner[0], 2 * centres[-1] - inner[-1]
    return np.concatenate([[first], inner, [last]])


def _axis_edges(panel: xr.DataArray, axis: int) -> tuple[NDArray[np.float64], str]:
    """Cell edges along an axis in km where it is in metres or km, and their unit."""
    coordinate = panel[panel.dims[axis]]
    edges = _edges(np.asarray(coordinate, dtype=np.float64))
    units = str(coordinate.attrs.get("units", ""))
    if units in ("m", "metre", "metres", "meter", "meters"):
        return edges / 1000.0, "km"
    return edges, "°" if units.startswith("degree") else units


def _aspect(panel: xr.DataArray) -> tuple[float, float]:
    """Height and width of a panel, the longer one 1."""
    (y, units), (x, _) = _axis_edges(panel, -2), _axis_edges(panel, -1)
    height, width = abs(y[-1] - y[0]), abs(x[-1] - x[0])
    if units == "°":
        width *= float(np.cos(np.deg2rad(y.mean())))
    longer = max(height, width)
    return max(height / longer, 0.4), max(width / longer, 0.4)


def _origin(panel: xr.DataArray) -> tuple[float, float]:
    """Where the axes count from: the south-west corner in km, 0 for degrees."""
    (y, y_units), (x, x_units) = _axis_edges(panel, -2), _axis_edges(panel, -1)
    return (
        float(y.min()) if y_units == "km" else 0.0,
        float(x.min()) if x_units == "km" else 0.0,
    )


def _draw(
    axes: "Axes",
    field: xr.DataArray,
    origin: tuple[float, float],
    colours: "Colormap",
    norm: "Normalize",
) -> "QuadMesh":
    (y, units), (x, _) = _axis_edges(field, -2), _axis_edges(field, -1)
    values = np.ma.masked_invalid(np.asarray(field, dtype=np.float64))
    if values.mask.any():
        axes.set_facecolor(_MISSING_FACE)
        axes.patch.set(hatch="////", edgecolor=_MISSING_LINE, linewidth=0.0)
    mesh = axes.pcolormesh(
        x - origin[1], y - origin[0], values, cmap=colours, norm=norm, rasterized=True
    )
    # a degree of longitude is shorter than one of latitude
    axes.set_aspect(1.0 / np.cos(np.deg2rad(y.mean())) if units == "°" else 1.0)
    axes.tick_params(length=2.5, width=0.6, color=_FRAME, labelcolor=_INK, labelsize=7)
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=_FRAME)
    return mesh


def _label(axes: NDArray[np.object_], clock: xr.DataArray, chosen: list[int]) -> None:
    (_, y_units), (_, x_units) = _axis_edges(clock, -2), _axis_edges(clock, -1)
    for axis in axes[-1]:
        axis.set_xlabel(x_units, fontsize=7.5, color=_INK, labelpad=1.5)
    for row, frame in enumerate(chosen):
        axis = axes[row, 0]
        axis.set_ylabel(y_units, fontsize=7.5, color=_INK, labelpad=1.5)
        if clock.ndim == 3:
            axis.annotate(
                _time_text(clock, frame),
                xy=(0.0, 0.5),
                xycoords=axis.yaxis.label,
                xytext=(-5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                rotation=90,
                fontsize=8.5,
                color=_INK,
            )


def _time_text(clock: xr.DataArray, frame: int) -> str:
    label = clock[clock.dims[0]][frame]
    if not (np.issubdtype(label.dtype, np.datetime64) or label.dtype == object):
        return str(label.item())
    return str(label.dt.strftime("%Y-%m-%d %H:%M").item())


def _colour_bar(
    figure: "Figure", axes: NDArray[np.object_], mesh: "QuadMesh", units: str
) -> None:
    rain = units.strip() in _RAIN_UNITS
    bar = figure.colorbar(
        mesh,
        ax=axes,
        extend="both" if rain else "neither",
        shrink=0.85 if axes.shape[0] > 1 else 1.0,
        aspect=24 if axes.shape[0] > 1 else 14,
        pad=0.015,
    )
    bar.set_label(units, fontsize=8.5, color=_INK)
    if rain:
        bar.set_ticks(list(RAIN_LEVELS), labels=[f"{level:g}" for level in RAIN_LEVELS])
    bar.ax.tick_params(length=0, labelsize=7.5, labelcolor=_INK)
    bar.outline.set(linewidth=0.6, edgecolor=_FRAME)


def _save(figure: "Figure", path: Path) -> None:
    """Write beside ``path`` first, then rename: nobody sees half a picture."""
    beside = path.with_name(f".{path.stem}-{uuid4().hex}{path.suffix}")
    try:
        figure.savefig(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
