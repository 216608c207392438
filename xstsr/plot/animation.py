"""Moving pictures: GIF with what matplotlib brings, MP4 with imageio-ffmpeg."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.atomic import atomic_write
from xstsr.errors import DataError
from xstsr.plot.panels import Column, Grid
from xstsr.plot.series import Series, load, read, thinned
from xstsr.plot.style import PlotError

MOST_FRAMES = 200
_DPI = 110
_BLOCK = 16  # pixels: sides of a video are multiples
Picture = NDArray[np.uint8]


def animate(
    fine: xr.DataArray,
    path: str | Path,
    *,
    coarse: xr.DataArray | None = None,
    truth: xr.DataArray | None = None,
    realizations: int = 2,
    fps: float = 5.0,
) -> Path:
    """Write the fields as a moving picture, one frame per fine step.

    The coarse field, some realizations and the truth run side by side on one colour
    scale, as in `xstsr.plot.compare`. Of more than 200 steps, every second, third, ...
    is shown, and the picture says so.

    Parameters
    ----------
    fine : DataArray
        From `xstsr.upscale`.
    path : str or Path
        ``*.gif``, or ``*.mp4`` where imageio-ffmpeg is installed.
    coarse, truth : DataArray, optional
        What was refined, and what should have come out.
    realizations : int
        How many to show.
    fps : float
        Fine steps per second.

    Returns
    -------
    Path
        Where the picture is.

    Raises
    ------
    DataError
        The suffix is another, ``fps`` or ``realizations`` are not positive; else as
        `xstsr.plot.compare`.
    UnitError
        The fields cannot share a scale.
    PlotError
        What draws or writes is not installed, or ``path`` cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import xstsr
    >>> rain = xstsr.open_demo().rainfall_amount[:3, :40, :30]
    >>> with TemporaryDirectory() as folder:
    ...     rain.stsr.plot.animate(f"{folder}/rain.gif").suffix
    '.gif'
    """
    path = Path(path)
    write = _writer(path)
    if not (fps > 0 and realizations >= 1):
        raise DataError(
            f"cannot animate {realizations!r} realizations at {fps!r} frames a second: "
            "both must be positive. Try realizations=2, fps=5."
        )
    first = coarse if coarse is not None else fine
    units = read(first, "fine").units
    series = {"fine": read(fine, "fine", units)}
    for name, field in (("coarse", coarse), ("truth", truth)):
        if field is not None:
            series[name] = read(field, name, units)
    clock = series["fine"]
    every = -(-clock.steps // MOST_FRAMES)
    steps = range(0, clock.steps, every)
    columns = _columns(series, [clock.moment(step) for step in steps], realizations)
    pictures = _Pictures(columns, clock, steps, every)
    try:
        with atomic_write(path) as new:
            write(new, pictures, fps)
    except OSError as error:
        raise PlotError(
            f"cannot write {str(path)!r}: {error.strerror or error}. Choose a folder "
            "that you may write to."
        ) from error
    return path


class _Pictures:
    """The frames of an animation, drawn one after the other on the same axes."""

    def __init__(
        self, columns: list[Column], clock: Series, steps: range, every: int
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self.columns, self.clock, self.steps = columns, clock, steps
        self.grid = Grid(columns, clock, 1)
        if every > 1:
            self.grid.notes.add(f"every {every}th step is shown")
        self.grid.draw(0)
        self.grid.finish([0])
        figure = self.grid.figure
        figure.set_dpi(_DPI)
        width, height = (_whole_blocks(side) for side in figure.get_size_inches())
        figure.set_size_inches(width, height)
        self.canvas: Any = FigureCanvasAgg(figure)
        # the layout of the first frame holds for all, or the panels would tremble
        figure.draw_without_rendering()
        figure.set_layout_engine("none")

    def __iter__(self) -> Iterator[Picture]:
        for index, step in enumerate(self.steps):
            for column, mesh in zip(self.columns, self.grid.meshes, strict=True):
                place = self.grid.place.edges(column.series.meaning)
                values, *_ = thinned(column.fields[index], *place)
                mesh.set_array(np.ma.masked_invalid(values))
            self.grid.title(step)
            self.canvas.draw()
            yield np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


def _columns(
    series: dict[str, Series], moments: list[int], realizations: int
) -> list[Column]:
    """Load what is shown, shape (steps, Y, X) each."""
    fine = series["fine"]
    names = fine.data["realization"].values.tolist()[:realizations]
    picked = [
        (f"realization {name}" if fine.realizations > 1 else "fine", fine, index)
        for index, name in enumerate(names)
    ]
    if "coarse" in series:
        picked.insert(0, ("coarse", series["coarse"], 0))
    if "truth" in series:
        picked.append(("truth", series["truth"], 0))
    arrays = load([one.at(m)[k] for _, one, k in picked for m in moments])
    count = len(moments)
    return [
        Column(title, one, np.stack(arrays[i * count : (i + 1) * count]))
        for i, (title, one, _) in enumerate(picked)
    ]


def _whole_blocks(inches: float) -> float:
    """Round a side so that its pixels fill whole blocks of a video."""
    return round(inches * _DPI / _BLOCK) * _BLOCK / _DPI


def _writer(path: Path) -> Callable[[Path, "_Pictures", float], None]:
    """Choose how to write, before anything is drawn."""
    suffix = path.suffix.lower()
    if suffix == ".gif":
        return _write_gif
    if suffix != ".mp4":
        raise DataError(
            f"cannot animate to {str(path)!r}: its suffix is {path.suffix!r}. Name a "
            ".gif or an .mp4 file."
        )
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise PlotError(
            f"cannot write {str(path)!r}: {error}. Type: pip install 'xstsr[video]', "
            "or name a .gif file."
        ) from error
    return _write_mp4


def _write_gif(path: Path, pictures: "_Pictures", fps: float) -> None:
    from PIL import Image

    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette(pictures.grid.scale.colours))
    first, *rest = (
        Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
        for picture in pictures
    )
    first.save(
        path,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=round(1000 / fps),
        loop=0,
    )


def _palette(colours: Any) -> list[int]:
    """Choose 256 colours: those that mean something, and greys for the rest.

    One palette for all frames, which no frame alone could give: a colour must mean the
    same rain throughout.
    """
    own = colours(np.linspace(0.0, 1.0, min(colours.N, 190)))
    ends = [colours.get_under(), colours.get_over()]
    greys = np.linspace(0.0, 1.0, 254 - len(own))[:, None] * np.ones(3)
    chosen = np.vstack([own[:, :3], np.asarray(ends)[:, :3], greys])
    flat: list[int] = np.rint(255 * chosen).astype(int).ravel().tolist()
    return flat


def _write_mp4(path: Path, pictures: "_Pictures", fps: float) -> None:
    from imageio_ffmpeg import write_frames

    size = pictures.canvas.get_width_height()
    writer: Any = write_frames(str(path), size, fps=fps, macro_block_size=1)
    writer.send(None)  # starts the generator
    for picture in pictures:
        writer.send(picture.tobytes())
    writer.close()
