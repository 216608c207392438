r"""Events: high-resolution fields held compactly in memory and in one file.

Rates are kept as 16-bit codes of :math:`\log(1 + r / r_0)`, accurate to 2e-4 relative,
states as 16-bit codes between their extremes, so that hours of national radar fit in
memory and travel in one file to machines that cannot read netCDF. Reading CF datasets
is `read_events`' task; nothing else here knows about files of others.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xstsr.cf.coords import dequantify
from xstsr.cf.meaning import Meaning
from xstsr.cf.read import read_meaning
from xstsr.diffusion.checkpoint import atomic_save
from xstsr.diffusion.transform import StateTransform, Transform
from xstsr.errors import AssumptionWarning, DataError
from xstsr.files import open_variable
from xstsr.planning.predictors import Cells, Known
from xstsr.training.predictors import Layer, check_layers, layers_on
from xstsr.typing import Constraint

_UNIT = 0.02  # mm/h; code steps are finer than radar's own below this
_STEPS = 6000.0
_MISSING = np.uint16(65535)
_LARGEST = 65534


@dataclass(frozen=True)
class State:
    """What a state is, and how its codes stand for values.

    Parameters
    ----------
    units, standard_name : str
        From the metadata.
    low, high : float
        Extremes of the event.
    """

    units: str
    standard_name: str
    low: float
    high: float


@dataclass(frozen=True)
class Event:
    """One event on a uniform grid.

    Parameters
    ----------
    name : str
        Where it comes from.
    codes : ndarray, shape (T, Y, X), uint16
        Coded rates, or values of a state.
    spacing_km, step_minutes : float
        Of the grid.
    state : State, optional
        What the values are, if not rates of rain [mm h-1].
    layers : tuple of Layer
        Known fine fields, sorted by name.
    """

    name: str
    codes: np.ndarray
    spacing_km: float
    step_minutes: float
    state: State | None = None
    layers: tuple[Layer, ...] = ()

    @property
    def quantity(self) -> str:
        """What the values are, in words."""
        if self.state is None:
            return "rain"
        return f"{self.state.standard_name or 'a state'} in {self.state.units or '1'}"

    @property
    def constraint(self) -> Constraint:
        """How block means of such fields are met."""
        return "additive" if self.state else "multiplicative"

    def values(
        self,
        at: Sequence[int],
        size: Sequence[int],
        every: Sequence[int] = (1, 1, 1),
    ) -> np.ndarray:
        """Decode a box of rates [mm h-1] or states; float32, `size` over `every`."""
        box = tuple(
            slice(start, start + n, skip)
            for start, n, skip in zip(at, size, every, strict=True)
        )
        return decode(self.codes[box], self.state)

    def known(self, at: Sequence[int], size: Sequence[int]) -> np.ndarray:
        """Cut a box out of the known fields; shape (K, T, Y, X), or one frame."""
        box = tuple(slice(a, a + n) for a, n in zip(at, size, strict=True))
        timed = any(layer.timed for layer in self.layers)
        shape = (box[0].stop - box[0].start if timed else 1, *size[1:])
        found = np.empty((len(self.layers), *shape), np.float32)
        for part, layer in zip(found, self.layers, strict=True):
            part[...] = layer.values[box if layer.timed else (slice(None), *box[1:])]
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the values and the grid; 16 hexadecimal digits."""
        grid = (self.codes.shape, self.spacing_km, self.step_minutes, self.state)
        known = hashlib.sha256(repr(grid).encode())
        known.update(np.ascontiguousarray(self.codes).data)
        for layer in self.layers:
            known.update(str(layer.label).encode())
            known.update(np.ascontiguousarray(layer.values).data)
        return known.hexdigest()[:16]


def read_events(
    sources: Sequence[Path] | Sequence[xr.DataArray],
    name: str | None = None,
    static: Sequence[Known] = (),
    given: Sequence[Known] = (),
) -> list[Event]:
    """Read fine fields as events.

    Parameters
    ----------
    sources : sequence of Path or of DataArray
        NetCDF files, Zarr stores or folders of NetCDF files; or the fields themselves,
        with dims time, y and x: rain in any units, or a state.
    name : str, optional
        The variable of each file; by default the only one with three dimensions.
    static, given : sequence of DataArray or Dataset
        Known fine fields; each event takes those that lie on its cells and steps.

    Raises
    ------
    DataError
        A field has infinite values or nothing but NaN, or no event was found.
    GridError
        No known fields lie on the cells of an event.
    """
    events = []
    for label, da in _fields(sources, name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AssumptionWarning)
            meaning = read_meaning(da)
        plain = dequantify(da)[0].transpose(
            meaning.time_dim, meaning.y_dim, meaning.x_dim
        )
        values = plain.values * meaning.rate_factor[:, None, None]
        _check_values(label, values)
        state = _state(meaning, values)
        spacing, step = meaning.longer_side_km(), meaning.step_minutes
        labels = {dim: plain[dim].values for dim in (meaning.y_dim, meaning.x_dim)}
        cells = Cells(labels, meaning.time_edges, meaning.time_label)
        layers = layers_on(cells, static, given)
        codes = encode(values, state)
        events.append(Event(label, codes, spacing, step, state, layers))
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


def _check_values(label: str, values: np.ndarray) -> None:
    """Refuse infinite values, and fields without any."""
    if np.isinf(values).any():
        raise DataError(
            f"cannot train on {label!r}: it has {int(np.isinf(values).sum())} "
            "infinite values. Mark what is missing: da.where(np.isfinite(da))."
        )
    if np.isnan(values).all():
        raise DataError(
            f"cannot train on {label!r}: all of its {values.size} values are NaN. "
            "Leave it out, or check its _FillValue and scale_factor."
        )


def _state(meaning: Meaning, values: np.ndarray) -> State | None:
    """Describe a state with its extremes; None for rain."""
    if meaning.kind != "state":
        return None
    standard_name = str(meaning.attrs.get("standard_name", ""))
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return State(meaning.units, standard_name, low, high)


def check_alike(events: Sequence[Event]) -> None:
    """Refuse events of several quantities or units.

    Parameters
    ----------
    events : sequence of Event
        For one training run.

    Raises
    ------
    DataError
        They are not all rain, nor all the same state in the same units; or they have
        other known fields.
    """
    check_layers((event.name, event.layers) for event in events)
    known = {event.quantity: event.name for event in events}
    if len(known) > 1:
        told = ", ".join(f"{name!r} is {what}" for what, name in known.items())
        raise DataError(
            f"cannot train on several quantities at once: {told}. Train a model for "
            "each, or convert the units first."
        )


def fit_transform(events: Sequence[Event], known: Transform) -> Transform:
    """Choose the value space of the networks for these events.

    Parameters
    ----------
    events : sequence of Event
        The training data, all of one quantity.
    known : Transform
        The configuration's, which serves rain.

    Returns
    -------
    Transform
        For states, centre and width are the mean and the standard deviation of the
        training data, each event counted alike.

    Raises
    ------
    DataError
        The states do not vary.
    """
    state = events[0].state
    if state is None:
        return known
    means, squares = [], []
    for event in events:
        # every third pixel tells enough
        values = decode(event.codes[:, ::3, ::3], event.state).astype(np.float64)
        means.append(np.nanmean(values))
        squares.append(np.nanmean(values**2))
    centre = float(np.mean(means))
    width = math.sqrt(max(0.0, float(np.mean(squares)) - centre**2))
    if not width > 1e-6 * abs(centre):
        raise DataError(
            f"cannot train on {[e.name for e in events]}: all values are about "
            f"{centre:g} {state.units}. Pass fields that vary."
        )
    return StateTransform(centre, width, state.units, state.standard_name)


def encode(values: np.ndarray, state: State | None = None) -> np.ndarray:
    """Code rates [mm h-1], or a state, of any shape, NaN included, in 16 bits."""
    valid = np.isfinite(values)
    if state is None:
        log = np.log1p(np.where(valid, np.maximum(values, 0), 0) / _UNIT)
        scaled = log * _STEPS
    else:
        width = (state.high - state.low) or 1.0
        scaled = (np.where(valid, values, state.low) - state.low) * (_LARGEST / width)
    codes = np.minimum(np.rint(scaled), _LARGEST).astype(np.uint16)
    return np.where(valid, codes, _MISSING)


def decode(codes: np.ndarray, state: State | None = None) -> np.ndarray:
    """Restore rates [mm h-1], or a state, float32, from codes of any shape."""
    values: np.ndarray
    if state is None:
        values = _UNIT * np.expm1(codes.astype(np.float32) / np.float32(_STEPS))
    else:
        unit = ((state.high - state.low) or 1.0) / _LARGEST
        values = (state.low + unit * codes).astype(np.float32)
    values[codes == _MISSING] = np.nan
    return values


def save_pack(events: Sequence[Event], path: Path) -> None:
    """Write events, of any shapes, to one compressed file."""
    header = [
        [
            e.name,
            e.spacing_km,
            e.step_minutes,
            asdict(e.state) if e.state else None,
            [layer.label for layer in e.layers],
        ]
        for e in events
    ]
    arrays: dict[str, Any] = {f"codes{i}": e.codes for i, e in enumerate(events)}
    for i, event in enumerate(events):
        for j, layer in enumerate(event.layers):
            arrays[f"known{i}_{j}"] = layer.values
    with atomic_save(path) as side, side.open("wb") as file:
        np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)


def load_pack(path: Path) -> list[Event]:
    """Read the events of a pack, of any shapes."""
    try:
        with np.load(path) as pack:
            header = json.loads(str(pack["header"]))
            # packs that were written first have three columns, or four
            whole = [(*row, None, ())[:4] + (*row, (), ())[4:5] for row in header]
            return [
                Event(
                    name,
                    pack[f"codes{i}"],
                    float(spacing),
                    float(step),
                    State(**state) if state else None,
                    tuple(
                        Layer(**known, values=pack[f"known{i}_{j}"])
                        for j, known in enumerate(layers)
                    ),
                )
                for i, (name, spacing, step, state, layers) in enumerate(whole)
            ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"cannot read {str(path)!r} as a pack of training events: {error}. "
            "Make one with `xstsr train --pack FILE --data FILES`."
        ) from error
