"""The pictures of a trust report, one by one and as a page."""

from collections.abc import Sequence
from io import BytesIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from xstsr.plot.curves import (
    draw_exceedance,
    draw_ranks,
    draw_spatial,
    draw_spread_error,
    draw_temporal,
)
from xstsr.plot.panels import Column, Grid
from xstsr.plot.style import DPI, INK, SMALL, WIDTH, new_figure
from xstsr.verification.diagnostics import PROBABILITIES, Curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

_HALF, _TALL = WIDTH / 2, 3.1  # inches, one curve
CAPTIONS = (
    "Flat is reliable. A U is too narrow an ensemble, a hump too wide a one.",
    "On the diagonal the realizations differ by as much as they err.",
    "Beyond the coarse grid's end, detail should have the truth's power.",
    "The same in time: too much power flickers, too little freezes.",
    "Extremes at the right: how heavy is the heaviest share of the rain?",
)
_MARGIN = 40  # pixels
_HEAD_LINE, _LINE = 0.21, 0.142  # inches, a line of text


def example_figure(columns: Sequence[Column], across: int, width: float) -> "Figure":
    """Draw fields of one moment.

    Parameters
    ----------
    columns : sequence of Column
        One field each; the last one says where and when.
    across : int
        How many in a row.
    width : float
        Inches.
    """
    grid = Grid(list(columns), columns[-1].series, 1, across, width)
    grid.draw(0)
    grid.finish([0])
    return grid.figure


def curve_figures(curves: Curves) -> dict[str, "Figure"]:
    """Draw ranks, spread and error, spectra and exceedance, each as a figure.

    Parameters
    ----------
    curves : Curves

    Returns
    -------
    dict of caption to Figure
        The caption says what to look for.
    """
    drawn = {caption: new_figure(_TALL, _HALF) for caption in CAPTIONS}
    axes = [figure.subplots() for figure in drawn.values()]
    draw_ranks(axes[0], curves.ranks)
    draw_spread_error(axes[1], curves.spread, curves.error, curves.units)
    draw_spatial(axes[2], curves.space, curves.units, limit=curves.limits[0])
    draw_temporal(axes[3], curves.time, curves.units, limit=curves.limits[1])
    draw_exceedance(axes[4], PROBABILITIES, curves.exceedance, curves.units)
    return drawn


def text_figure(title: str, lines: Sequence[str]) -> "Figure":
    """Write a heading and lines of fixed width as a figure.

    Parameters
    ----------
    title : str
        Wrapped.
    lines : sequence of str
        Kept as they are.
    """
    head = wrap(title, 92)
    below = 0.06 + (len(head) + 0.5) * _HEAD_LINE
    height = below + len(lines) * _LINE + 0.2
    figure = new_figure(height)
    figure.set_layout_engine("none")
    style: dict[str, Any] = {
        "va": "top",
        "ha": "left",
        "color": INK,
        "linespacing": 1.35,
    }
    figure.text(0.03, 1 - 0.06 / height, "\n".join(head), fontsize=10.5, **style)
    figure.text(
        0.03,
        1 - below / height,
        "\n".join(lines),
        fontsize=SMALL,
        family="monospace",
        **style,
    )
    return figure


def stacked(rows: Sequence[Sequence["Figure"]]) -> "Image":
    """Put figures below each other, and those of a row side by side.

    Parameters
    ----------
    rows : sequence of sequence of Figure

    Returns
    -------
    PIL Image
    """
    from PIL import Image

    made = [[Image.open(BytesIO(png(figure))) for figure in row] for row in rows]
    height = sum(max(image.height for image in row) for row in made)
    page = Image.new("RGB", (round(WIDTH * DPI) + 2 * _MARGIN, height), "white")
    top = 0
    for row in made:
        left = _MARGIN
        for image in row:
            page.paste(image, (left, top))
            left += image.width
        top += max(image.height for image in row)
    return page


def png(figure: "Figure", dpi: int = DPI) -> bytes:
    """Draw a figure as the bytes of a PNG, without any date or version in it."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
