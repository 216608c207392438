"""Every picture can be read at 800 pixels: no text overlaps, and none is too small.

The pictures that are kept in ``tests/pictures`` were looked at; those drawn now must
look like them. After a change that is meant, draw them anew and look at them:
``python -m tests.test_plot_legible``.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.strategies import make, make_dataset
from xstsr.plot import compare, rank_histogram, receipt, spectra, spread

pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")

KEPT = Path(__file__).parent / "pictures"
_DPI = 60
_TOLERANCE = 6.0  # root mean square of 255: other fonts and versions of matplotlib


def storm(frames=12, side=40, grid="metres"):
    """Build rain bands that move: smooth, wet and dry, the same on every machine."""
    t, y, x = np.meshgrid(
        np.arange(frames), np.arange(side), np.arange(side), indexing="ij"
    )
    waves = np.sin((x - 2 * t) / 3.1) * np.cos((y + t) / 4.7) + np.sin((x + y) / 9.3)
    rain = np.maximum(waves - 0.4, 0.0) ** 2 * 15
    if grid == "metres":
        return make(rain, grid=grid, step=300_000_000)
    ds = make_dataset(grid=grid, values=rain, step=300_000_000)
    return ds.pr


def trial(grid="metres", realizations=6):
    truth = storm(grid=grid)
    coarse = truth.stsr.coarsen(5, 3)
    fine = coarse.stsr.upscale(5, 3, method="rainfarm", realizations=realizations)
    return truth, coarse, fine


def figures(grid="metres", realizations=6):
    """Draw every kind of figure."""
    truth, coarse, fine = trial(grid, realizations)
    # residuals of rounding would differ from machine to machine
    wrong = fine * (1 + 0.02 * np.sin(fine[fine.dims[-1]] / 7.0))
    return {
        "compare": compare(fine, coarse, truth),
        "frame": compare(fine[:, 4], coarse[1], truth[4]),
        "spectra": spectra(fine, coarse, truth),
        "ranks": rank_histogram(fine, truth),
        "spread": spread(fine, truth),
        "spread_in_time": spread(fine),
        "receipt": receipt(wrong.assign_attrs(fine.attrs), coarse),
    }


def pixels(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # a second layout would shift by a pixel
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(float)


def shown_texts(figure):
    """List all text that is drawn, with its box in pixels."""
    from matplotlib.text import Text

    pixels(figure)
    beyond = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.majorTicks, *axis.minorTicks)
        for label in (tick.label1, tick.label2)
        if not within(tick.get_loc(), axis.get_view_interval())
    }
    renderer = figure.canvas.get_renderer()
    return [
        (text, text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in beyond
    ]


def within(value, limits):
    return min(limits) <= value <= max(limits)


def difference(one, other):
    """Compare blocks of 8 by 8 pixels: a shift by one does not matter, colours do."""
    assert one.shape == other.shape
    rows, columns = (n // 8 for n in one.shape[:2])
    cut = (one - other)[: rows * 8, : columns * 8]
    blocks = cut.reshape(rows, 8, columns, 8, 3).mean(axis=(1, 3))
    return np.sqrt(np.mean(blocks**2))


@pytest.fixture(scope="module")
def drawn():
    return figures()


@pytest.fixture(scope="module")
def many():
    return figures("lat_lon", 50)


@pytest.mark.parametrize("which", ["drawn", "many"])
def test_no_text_overlaps_and_all_can_be_read(which, request):
    for name, figure in request.getfixturevalue(which).items():
        assert figure.get_figwidth() <= 8.0
        texts = shown_texts(figure)
        assert len(texts) > 5
        for text, _ in texts:
            # at 800 pixels for 8 inches, 7 points are nearly 10 pixels
            assert text.get_fontsize() >= 7.0, text.get_text()
        for (one, box), (other, rest) in combinations(texts, 2):
            if box.padded(-1).overlaps(rest.padded(-1)):
                told = one.get_text(), other.get_text()
                pytest.fail(f"{name}: {told[0]!r} overlaps {told[1]!r}")


@pytest.mark.parametrize(
    "name",
    ["compare", "frame", "ranks", "receipt", "spectra", "spread", "spread_in_time"],
)
def test_picture_looks_as_it_did(drawn, name):
    from PIL import Image

    with Image.open(KEPT / f"{name}.png") as image:
        then = np.asarray(image.convert("RGB")).astype(float)
    assert difference(pixels(drawn[name]), then) < _TOLERANCE


def test_other_pictures_are_told_apart(drawn):
    """The tolerance is not so wide that anything passes."""
    one, other = pixels(drawn["spread"]), pixels(drawn["spread_in_time"])
    assert difference(one, other) > 3 * _TOLERANCE


if __name__ == "__main__":
    from PIL import Image

    KEPT.mkdir(exist_ok=True)
    for name, figure in figures().items():
        picture = Image.fromarray(pixels(figure).astype(np.uint8))
        picture.save(KEPT / f"{name}.png", optimize=True)
