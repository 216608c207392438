"""What all pictures share: colours, units that are shown, figures, writing.

Matplotlib comes with the extra ``plot`` and is imported only when something is drawn;
nothing is drawn through pyplot, so no global state changes. Figures are eight inches
wide with text of seven points or more, so that they can be read at 800 pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xstsr.atomic import atomic_write
from xstsr.errors import DataError, XstsrError
from xstsr.typing import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure


class PlotError(XstsrError):
    """A picture cannot be drawn or written: something is not installed or allowed.

    Examples
    --------
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:3, :9, :9]
    >>> rain.stsr.plot.compare(rain, path=f"{xstsr.__file__}/is/no/folder.png")
    Traceback (most recent call last):
        ...
    xstsr.plot.style.PlotError: cannot write '...folder.png': ... Choose a folder ...
    """


RAIN_LEVELS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Limits of the colours of rain, in mm h-1. Below the first it is dry (white)."""

DAILY_LEVELS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0)
"""Limits of the colours of rain where steps are half a day or longer, in mm d-1."""

# lightness falls steadily, so that the colour-blind and grey prints keep the order
RAIN_COLOURS = (
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
# Okabe and Ito's colours, which colour-blind readers tell apart, by what they stand for
LINE_STYLES: dict[str, dict[str, Any]] = {
    "truth": {"color": "black", "linestyle": "-", "linewidth": 1.8},
    "coarse": {"color": "#7f7f7f", "linestyle": (0, (4, 2)), "linewidth": 1.4},
    "diffusion": {"color": "#0072b2", "linestyle": "-", "linewidth": 1.8},
    "generator": {"color": "#0072b2", "linestyle": (0, (4, 1)), "linewidth": 1.5},
    "mean": {"color": "#56b4e9", "linestyle": (0, (5, 1)), "linewidth": 1.3},
    "rainfarm": {"color": "#d55e00", "linestyle": (0, (3, 1, 1, 1)), "linewidth": 1.3},
    "linear": {"color": "#009e73", "linestyle": (0, (1, 1)), "linewidth": 1.5},
    "nearest": {"color": "#cc79a7", "linestyle": (0, (6, 2, 1, 2)), "linewidth": 1.3},
}
INK, FRAME, ACCENT = "#333333", "#9a9a9a", "#0072b2"
_MISSING_FACE, _MISSING_LINE = "#ececec", "#c4c4c4"
TITLE, LABEL, SMALL = 9.0, 8.5, 7.5  # points
WIDTH = 8.0  # inches
DPI = 200
_SHOWN = 100  # pixels per inch in a notebook, drawn twice as fine


@dataclass(frozen=True)
class Scale:
    """Which colours stand for which values.

    Parameters
    ----------
    colours : Colormap
    norm : Normalize
    units : str
        Of the values.
    ticks : tuple of float, optional
        What the colour bar marks; by default what matplotlib chooses.
    extend : str
        On which sides values lie beyond the colours.
    """

    colours: "Colormap"
    norm: "Normalize"
    units: str
    ticks: tuple[float, ...] = ()
    extend: str = "neither"


def rain_scale(units: str) -> Scale:
    """Colour rain in fixed steps, so that any two pictures can be compared."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    levels = DAILY_LEVELS if units == "mm d-1" else RAIN_LEVELS
    colours = ListedColormap(list(RAIN_COLOURS[:-1])).with_extremes(
        under="white", over=RAIN_COLOURS[-1]
    )
    norm = BoundaryNorm(levels, len(levels) - 1)
    return Scale(colours, norm, units, levels, "both")


def robust_scale(
    fields: Iterable[Floats], units: str, least: float | None = None
) -> Scale:
    """Colour all values but the outermost in a thousand, which one pixel could set.

    Parameters
    ----------
    fields : iterable of ndarray, any shape
        What will be drawn; NaN where there is nothing.
    units : str
        Of the values.
    least : float, optional
        Where the colours start, if that is known.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    values = np.concatenate([field[np.isfinite(field)] for field in fields])
    if not values.size:
        return Scale(colormaps["viridis"], Normalize(0.0, 1.0), units)
    lowest, low, high, highest = np.quantile(values, (0.0, 0.001, 0.999, 1.0))
    if least is not None:
        low, high = min(least, lowest), high if high > least else least + 1.0
    if high <= low:
        low, high = lowest - 0.5, highest + 0.5
    sides = {(True, True): "both", (True, False): "min", (False, True): "max"}
    extend = sides.get((bool(lowest < low), bool(highest > high)), "neither")
    return Scale(colormaps["viridis"], Normalize(low, high), units, extend=extend)


def symmetric_scale(field: Floats, units: str) -> Scale:
    """Colour gains and losses alike on both sides of zero.

    Parameters
    ----------
    field : ndarray, any shape
        What will be drawn; NaN where there is nothing.
    units : str
        Of the values.
    """
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    largest = float(np.abs(field[np.isfinite(field)]).max(initial=0.0)) or 1.0
    return Scale(colormaps["PuOr_r"], Normalize(-largest, largest), units)


def require_matplotlib() -> None:
    """Say which extra to install if pictures cannot be drawn.

    Raises
    ------
    PlotError
        Matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise PlotError(
            f"cannot draw a picture: {error}. Type: pip install 'xstsr[plot]'"
        ) from error


def new_figure(height: float, width: float = WIDTH) -> "Figure":
    """Make an empty figure whose parts make room for each other.

    Parameters
    ----------
    height, width : float
        Inches.

    Raises
    ------
    PlotError
        Matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(
        w_pad=0.04, h_pad=0.04, wspace=0.0, hspace=0.0, compress=True
    )
    return _picture()(figsize=(width, height), layout=layout, dpi=DPI)


@lru_cache(maxsize=1)
def _picture() -> "type[Figure]":
    """Make the kind of figure that notebooks show without pyplot."""
    from matplotlib.figure import Figure

    class Picture(Figure):
        """A figure that shows itself in Jupyter, 100 pixels to the inch."""

        def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
            buffer = BytesIO()
            self.savefig(buffer, format="png", dpi=2 * _SHOWN)
            width, height = (round(side * _SHOWN) for side in self.get_size_inches())
            return buffer.getvalue(), {"width": width, "height": height}

    return Picture


def draw_field(
    axes: "Axes", field: Floats, y: Floats, x: Floats, scale: Scale
) -> "Any":
    """Draw one field; where it has no data the ground is grey and hatched.

    Parameters
    ----------
    axes : Axes
    field : ndarray, shape (Y, X)
    y, x : ndarray, shapes (Y + 1,) and (X + 1,)
        Cell edges in the units of the axes.
    scale : Scale

    Returns
    -------
    matplotlib QuadMesh
    """
    values = np.ma.masked_invalid(field)
    if values.mask.any():
        axes.set_facecolor(_MISSING_FACE)
        axes.patch.set(hatch="////", edgecolor=_MISSING_LINE, linewidth=0.0)
    mesh = axes.pcolormesh(
        x, y, values, cmap=scale.colours, norm=scale.norm, rasterized=True
    )
    tidy(axes)
    return mesh


def tidy(axes: "Axes") -> None:
    """Give axes thin grey frames and small dark labels."""
    axes.tick_params(
        which="both",
        length=2.5,
        width=0.6,
        color=FRAME,
        labelcolor=INK,
        labelsize=SMALL,
    )
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color=FRAME)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=LABEL, color=INK)


def colour_bar(figure: "Figure", axes: Any, mesh: Any, scale: Scale) -> None:
    """Draw what the colours stand for, beside the axes (one, or an array of them)."""
    several = np.size(axes) > 1
    bar = figure.colorbar(
        mesh,
        ax=axes,
        extend=scale.extend,
        shrink=0.9 if several else 1.0,
        aspect=26 if several else 16,
        pad=0.02,
    )
    power, told = _power_of_ten(scale)
    bar.set_label(told, fontsize=LABEL, color=INK)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value / power:g}")
    if scale.ticks:
        bar.set_ticks(list(scale.ticks))
    bar.ax.tick_params(length=0, labelsize=SMALL, labelcolor=INK)
    bar.outline.set(linewidth=0.6, edgecolor=FRAME)


def _power_of_ten(scale: Scale) -> tuple[float, str]:
    """Find what to divide ticks by, so that they are short, and say so in the units."""
    limits = (scale.norm.vmin or 0.0, scale.norm.vmax or 0.0)
    largest = max(abs(limit) for limit in limits)
    exponent = int(np.floor(np.log10(largest))) if largest else 0
    if -3 <= exponent <= 4:
        return 1.0, scale.units
    return 10.0**exponent, f"$10^{{{exponent}}}$ {scale.units}"


def note(figure: "Figure", text: str) -> None:
    """Write a small line under everything, if there is something to say."""
    if text:
        figure.supxlabel(text, x=0.01, ha="left", fontsize=7, color="#666666")


def save(figure: "Figure", path: str | Path | None) -> None:
    """Write beside ``path`` first, then rename: nobody sees half a picture.

    Parameters
    ----------
    figure : Figure
    path : str or Path, optional
        The suffix says the format: .png, .pdf, .svg and more. None writes nothing.

    Raises
    ------
    PlotError
        The folder cannot be written to, or is none.
    DataError
        The suffix is that of no format.
    """
    if path is None:
        return
    path = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise DataError(
            f"cannot write a picture to {str(path)!r}: its suffix is {path.suffix!r}. "
            f"Name one of {', '.join(sorted(formats))}."
        )
    try:
        with atomic_write(path) as new:
            figure.savefig(new, bbox_inches="tight", pad_inches=0.06)
    except OSError as error:
        raise PlotError(
            f"cannot write {str(path)!r}: {error.strerror or error}. Choose a folder "
            "that you may write to."
        ) from error
