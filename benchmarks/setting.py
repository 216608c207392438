"""With what speed is measured: models, synthetic rain, and rows of figures."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.common import say
from tests.models import write_tiny_model
from xstsr.pipeline import upscale
from xstsr.storage.store import to_zarr

S, T = 10, 3
STEP = np.timedelta64(15, "m")  # of the coarse field; its cells are 10 km
Row = dict[str, str | float]


@dataclass(frozen=True)
class Sizes:
    """How much is measured: coarse cells along a side, coarse frames, repetitions.

    Parameters
    ----------
    cells, frames : int
        Of the field for which methods are compared.
    lengths, sides : tuple of int
        Coarse frames, and coarse cells along a side, over which throughput is compared.
    rounds : int
        Repetitions.
    ancestral : int
        Steps of the paper's sampler that are timed, of 1000.
    """

    cells: int = 12
    frames: int = 16
    lengths: tuple[int, ...] = (10, 100, 1000)
    sides: tuple[int, ...] = (10, 30, 75, 150)
    rounds: int = 2
    ancestral: int = 10


QUICK = Sizes(8, 4, (5, 20), (3, 6), 1, 4)


@dataclass(frozen=True)
class Setting:
    """With what is measured.

    Parameters
    ----------
    model : str
        The model whose cost is reported.
    tiny : str
        A small one, where only what is around the networks counts.
    folder : Path
        For files.
    sizes : Sizes
        How much.
    """

    model: str
    tiny: str
    folder: Path
    sizes: Sizes


def rain(frames: int, cells: int, *, seed: int = 0) -> xr.DataArray:
    """Make a coarse field that is wet everywhere, 10 km and 15 minutes apart."""
    values = np.random.default_rng(seed).gamma(0.5, 2.0, (frames, cells, cells)) + 0.1
    time = np.datetime64("2001-01-01T00:00", "ns") + np.arange(frames) * STEP
    coords: dict[str, Any] = {"time": ("time", time, {"standard_name": "time"})}
    for axis in ("y", "x"):
        attrs = {"standard_name": f"projection_{axis}_coordinate", "units": "km"}
        coords[axis] = (axis, 10.0 * np.arange(cells), attrs)
    attrs = {
        "standard_name": "lwe_precipitation_rate",
        "units": "mm h-1",
        "cell_methods": "time: mean",
    }
    dims = ("time", "y", "x")
    return xr.DataArray(values.astype("float32"), coords, dims, "pr", attrs)


def refine(da: xr.DataArray, model: str, **options: Any) -> xr.DataArray:
    """Upscale on the CPU, with labels as time of left edges."""
    return upscale(da, S, T, model=model, device="cpu", label="left", **options)


def store(da: xr.DataArray, path: Path, model: str, **options: Any) -> None:
    """Upscale straight to a store."""
    to_zarr(
        da,
        path,
        S,
        T,
        model=model,
        device="cpu",
        label="left",
        progress=False,
        **options,
    )


def figure(
    name: str, value: float, low: float | None = None, high: float | None = None
) -> Row:
    """Write a row: a figure, its target and the verdict."""
    say(f"{name}: {value:.3g}")
    if low is None and high is None:
        return {"figure": name, "value": value, "target": "", "verdict": ""}
    low, high = (0.0 if low is None else low), (np.inf if high is None else high)
    target = f"{low:g} or more" if high == np.inf else f"{high:g} or less"
    target = f"{low:g}..{high:g}" if low and high < np.inf else target
    reached = "reached" if low <= value <= high else "missed"
    return {"figure": name, "value": value, "target": target, "verdict": reached}


@contextmanager
def setting(model: str, *, quick: bool) -> Iterator[Setting]:
    """Prepare a folder and the models."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = write_tiny_model(folder)
        yield Setting(
            tiny if quick else model, tiny, folder, QUICK if quick else Sizes()
        )
