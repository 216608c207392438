"""What ``da.stsr`` shows by itself: how a field was understood, and what could be made.

Nothing is computed; lazy data stay lazy.
"""

import warnings
from dataclasses import dataclass

import xarray as xr

from xstsr import display
from xstsr.cf.meaning import Meaning
from xstsr.cf.read import bounds_of, read_meaning
from xstsr.cf.times import from_micros
from xstsr.display import readable
from xstsr.errors import AssumptionWarning, XstsrError

EXAMPLES = ((5, 3, 1), (10, 3, 1), (10, 3, 16))  # s, t, realizations
_KINDS = {"rate": "rate of water", "amount": "amount of water in each step"}
Rows = list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Portrait:
    """How a field, or every field of a Dataset, was understood.

    Prints as text and shows as a card in Jupyter.

    Parameters
    ----------
    title : str
        Of the card.
    lines : list of (str, str)
        Labels and values.
    """

    title: str
    lines: Rows

    def __repr__(self) -> str:
        return display.text(self.title, self.lines)

    def _repr_html_(self) -> str:
        return display.html(self.title, self.lines)


def of_field(da: xr.DataArray) -> Portrait:
    """Describe one field; where it cannot be read, say why and what to do.

    Parameters
    ----------
    da : DataArray
        Any.

    Examples
    --------
    >>> import xstsr
    >>> print(of_field(xstsr.open_demo().rainfall_amount).lines[0][1])
    amount of water in each step [kg m-2]
    """
    title = f"xstsr on {da.name!r}"
    try:
        meaning = _read(da)
    except XstsrError as error:
        return Portrait(title, [("cannot be refined", str(error))])
    return Portrait(title, [*_understood(da, meaning), *_sizes(da, meaning)])


def of_dataset(ds: xr.Dataset) -> Portrait:
    """Describe the fields of a Dataset that could be refined.

    Parameters
    ----------
    ds : Dataset
        Any.
    """
    lines: Rows = []
    for name, da in ds.data_vars.items():
        if da.ndim < 3:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AssumptionWarning)
                meaning = read_meaning(da, bounds=bounds_of(ds, str(name)))
        except XstsrError as error:
            lines.append((str(name), f"cannot be refined: {error}"))
        else:
            known = f"{meaning.kind} [{meaning.units}], {_grid(meaning)}"
            lines.append((str(name), f"{known}: ds.stsr.upscale({name!r}, s=10, t=3)"))
    if not lines:
        names = ", ".join(map(repr, ds.data_vars)) or "none at all"
        lines.append(
            ("fields", f"none has three dimensions or more; variables: {names}")
        )
    return Portrait("xstsr on a Dataset", lines)


def _read(da: xr.DataArray) -> Meaning:
    """Read a meaning; its assumptions are shown, and need not be told as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        return read_meaning(da)


def _understood(da: xr.DataArray, meaning: Meaning) -> Rows:
    kind = _KINDS.get(meaning.kind, "mean of a state")
    if meaning.point:
        kind = "value at a point in time" + (
            ", a rate" if meaning.kind == "rate" else ""
        )
    sizes = ", ".join(f"{dim} {da.sizes[dim]}" for dim in da.dims)
    first, last = from_micros(meaning.time_edges[[0, -1]], meaning.calendar)
    chunks = da.chunks and " x ".join(str(len(sizes)) for sizes in da.chunks)
    rows = [
        ("quantity", f"{kind} [{meaning.units}]"),
        ("dimensions", sizes),
        ("grid", _grid(meaning)),
        ("projection", meaning.grid_mapping or _no_mapping(meaning)),
        ("period", f"{_time(first)} to {_time(last)}"),
        ("time labels", f"{meaning.time_label} of the step"),
        ("calendar", meaning.calendar or "standard"),
        ("data", f"lazy, {chunks} chunks" if chunks else "in memory"),
        ("size", readable(da.dtype.itemsize * da.size)),
    ]
    return [*rows, *(("note", note) for note in meaning.notes)]


def _sizes(da: xr.DataArray, meaning: Meaning) -> Rows:
    """Estimate what `upscale` would give for some factors."""
    frames = meaning.shape[0]
    rows = []
    for s, t, realizations in EXAMPLES:
        steps = frames * t - (t - 1 if meaning.point else 0)
        size = da.dtype.itemsize * da.size // frames * steps * s * s * realizations
        asked = f"s={s}, t={t}" + (f", {realizations=}" if realizations > 1 else "")
        told = f"{readable(size)}, {meaning.spacing_km / s:.3g} km"
        minutes = meaning.step_minutes / t
        rows.append((f"upscale({asked})", f"{told}, {minutes:.4g} min"))
    return rows


def _grid(meaning: Meaning) -> str:
    return f"{meaning.spacing_km:.3g} km, {meaning.step_minutes:.4g} min"


def _no_mapping(meaning: Meaning) -> str:
    on_sphere = meaning.geometry == "sphere"
    return "latitude and longitude" if on_sphere else "a plane, not named"


def _time(value: object) -> str:
    text = str(value).replace("T", " ")
    return text[:16]
