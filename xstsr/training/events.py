r"""Events: high-resolution fields held compactly in memory and in one file.

Rates are kept as 16-bit codes of :math:`\log(1 + r / r_0)`, accurate to 2e-4 relative,
so that hours of national radar fit in memory and travel in one file to machines that
cannot read netCDF. Reading CF datasets is `read_events`' task; nothing else here knows
about files of others.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xstsr import cf
from xstsr.errors import DataError
from xstsr.files import open_variable
from xstsr.meaning import AssumptionWarning

_UNIT = 0.02  # mm/h; code steps are finer than radar's own below this
_STEPS = 6000.0
_MISSING = np.uint16(65535)


@dataclass(frozen=True)
class Event:
    """One event on a uniform grid.

    Parameters
    ----------
    name : str
        Where it comes from.
    codes : ndarray, shape (T, Y, X), uint16
        Coded rates.
    spacing_km, step_minutes : float
        Of the grid.
    """

    name: str
    codes: np.ndarray
    spacing_km: float
    step_minutes: float

    def rates(
        self,
        at: Sequence[int],
        size: Sequence[int],
        every: Sequence[int] = (1, 1, 1),
    ) -> np.ndarray:
        """Decode a box of rates [mm h-1]; float32, shape `size` over `every`."""
        box = tuple(
            slice(start, start + n, skip)
            for start, n, skip in zip(at, size, every, strict=True)
        )
        return decode(self.codes[box])


def read_events(
    sources: Sequence[Path] | Sequence[xr.DataArray], name: str | None = None
) -> list[Event]:
    """Read fine fields as events.

    Parameters
    ----------
    sources : sequence of Path or of DataArray
        NetCDF files, Zarr stores or folders of NetCDF files; or the fields themselves,
        with dims time, y and x and any units of rain.
    name : str, optional
        The variable of each file; by default the only one with three dimensions.

    Raises
    ------
    DataError
        A field has infinite values, or no event was found.
    """
    events = []
    for label, da in _fields(sources, name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)
            meaning = cf.read(da)
        if meaning.kind == "state":
            raise DataError(
                f"cannot train on {label!r}: it is a {meaning.kind} in "
                f"{meaning.units!r}, and the networks know rain only. Pass rates or "
                "amounts of water."
            )
        plain = cf.strip(da)[0].transpose(
            meaning.time_dim, meaning.y_dim, meaning.x_dim
        )
        rates = plain.values * meaning.rate_factor[:, None, None]
        if np.isinf(rates).any():
            raise DataError(
                f"cannot train on {label!r}: it has {int(np.isinf(rates).sum())} "
                "infinite values. Mark what is missing: da.where(np.isfinite(da))."
            )
        spacing, step = meaning.spacing_km, meaning.step_minutes
        events.append(Event(label, encode(rates), spacing, step))
    if not events:
        raise DataError(
            f"cannot train on {[str(s) for s in sources]}: no field was found there. "
            "Pass NetCDF files, or folders that hold some."
        )
    return events


def _fields(
    sources: Sequence[Path] | Sequence[xr.DataArray], name: str | None
) -> Iterator[tuple[str, xr.DataArray]]:
    """Open every field in turn, with a label."""
    for i, source in enumerate(sources):
        if isinstance(source, xr.DataArray):
            yield f"{source.name}-{i}", source
            continue
        folder = Path(source)
        files = sorted(folder.glob("*.nc")) if folder.is_dir() else []
        for path in files or [folder]:
            dataset, variable = open_variable(path, name)
            yield path.stem, dataset[variable]


def encode(rates: np.ndarray) -> np.ndarray:
    """Code rates [mm h-1] of any shape, NaN included, in 16 bits."""
    valid = np.isfinite(rates)
    log = np.log1p(np.where(valid, np.maximum(rates, 0), 0) / _UNIT)
    codes = np.minimum(np.rint(log * _STEPS), 65534).astype(np.uint16)
    return np.where(valid, codes, _MISSING)


def decode(codes: np.ndarray) -> np.ndarray:
    """Restore rates [mm h-1], float32, from codes of any shape."""
    rates: np.ndarray = _UNIT * np.expm1(codes.astype(np.float32) / np.float32(_STEPS))
    rates[codes == _MISSING] = np.nan
    return rates


def save_pack(events: Sequence[Event], path: Path) -> None:
    """Write events, of any shapes, to one compressed file."""
    header = [[e.name, e.spacing_km, e.step_minutes] for e in events]
    arrays: dict[str, Any] = {f"codes{i}": e.codes for i, e in enumerate(events)}
    side = path.with_name(path.name + ".part")
    with side.open("wb") as file:
        np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)
    side.replace(path)


def load_pack(path: Path) -> list[Event]:
    """Read the events of a pack, of any shapes."""
    try:
        with np.load(path) as pack:
            header = json.loads(str(pack["header"]))
            return [
                Event(name, pack[f"codes{i}"], float(spacing), float(step))
                for i, (name, spacing, step) in enumerate(header)
            ]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"cannot read {str(path)!r} as a pack of training events: {error}. "
            "Make one with `xstsr train --pack FILE --data FILES`."
        ) from error
