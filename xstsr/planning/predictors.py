"""Known fine fields, found by name and by place: what a model needs besides the coarse.

Static ones, such as orography, are fields of y and x alone; given ones, such as rain
that was refined first, have times too, and perhaps realizations. They may cover more
than is refined and run in the other direction; but they lie on the same cells and
steps, which is checked, for a network would take a shifted mountain for a true one.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.cf.axes import find_axes
from xstsr.cf.meaning import Meaning
from xstsr.cf.read import bounds_of, read_meaning
from xstsr.cf.times import check_calendars, edges_from_bounds, is_time, to_micros
from xstsr.cf.units import same_units
from xstsr.errors import AssumptionWarning, DataError, GridError, XstsrError
from xstsr.geometry.cells import centers, refine_edges
from xstsr.methods import find_method
from xstsr.methods.task import Request
from xstsr.typing import Array, Label

if TYPE_CHECKING:
    import dask.array

Known: TypeAlias = xr.DataArray | xr.Dataset
REALIZATION = "realization"
LABEL = "xstsr_label"  # attribute of time: which part of a step its labels are
_SLACK = 0.05  # of a cell: labels that were rounded are still the same labels


@dataclass(frozen=True, eq=False)
class Cells:
    """The fine cells and steps on which known fields are to lie.

    Parameters
    ----------
    labels : mapping of str to ndarray
        Dims y and x with their labels, in this order.
    time_edges : ndarray, shape (T + 1,), int64
        Edges of the fine steps [us since 1970].
    time_label : str
        Which part of a step its label is, where a known field does not say it.
    calendar : str or None
        As in `Meaning`.
    """

    labels: Mapping[str, NDArray[Any]]
    time_edges: NDArray[np.int64]
    time_label: Label
    calendar: str | None = None

    @classmethod
    def of(cls, meaning: Meaning, factor: tuple[int, int, int]) -> "Cells":
        """Split coarse cells and steps."""
        t, sy, sx = factor
        labels = {
            meaning.y_dim: centers(refine_edges(meaning.y_edges, sy)),
            meaning.x_dim: centers(refine_edges(meaning.x_edges, sx)),
        }
        edges = meaning.fine_time_edges(t)
        return cls(labels, edges, meaning.time_label, meaning.calendar)


@dataclass(frozen=True, eq=False)
class Found:
    """A known field on fine cells.

    Parameters
    ----------
    values : Variable
        Dims (realization, time, y, x), float32, lazy if the field is; one realization
        or one time where it does not change.
    units : str
        Of the values.
    is_rain : bool
        Whether they are rates of rain [mm h-1].
    """

    values: xr.Variable
    units: str
    is_rain: bool = False


def check_stages(
    static: Known | None, given: Known | None, factors: Sequence[tuple[int, ...]]
) -> None:
    """Refuse known fields where there are several stages.

    Raises
    ------
    XstsrError
        The fields lie on the grid of the last stage, and every stage needs its own.
    """
    if len(factors) > 1 and not (static is None and given is None):
        raise XstsrError(
            f"cannot use known fields with the stages {list(factors)} (t, sy, sx): the "
            "grid between them has none. Choose factors that the model takes at once, "
            "or upscale twice."
        )


def known_for(
    static: Known | None, given: Known | None, request: Request, meaning: Meaning
) -> "Array | dask.array.Array | None":
    """Find the known fields that a model needs, on the fine grid.

    Parameters
    ----------
    static, given : DataArray, Dataset or None
        What the user gave.
    request : Request
        Method, model, factor and realizations.
    meaning : Meaning
        Of the coarse field.

    Returns
    -------
    array, shape (G, K, T t or 1, Y sy, X sx), float32, or None
        In the order of the model's `ModelSpec.known`, for each realization or one for
        all; lazy if a field is. None for methods and models that need none.

    Raises
    ------
    XstsrError
        A field is given and not needed, or needed and not given, or in other units, or
        for other realizations.
    GridError
        A field does not lie on the fine grid.
    """
    needed = needed_by(request.method, request.model)
    known = fields_of(static, given)
    _check_names(known, needed, request, meaning)
    if not needed:
        return None
    if None in known:
        known = {str(needed[0]["name"]): known[None]}
    cells = Cells.of(meaning, request.factor)
    found = []
    for field in needed:
        da = known[field["name"]]
        one = on_cells(da, cells, timed=bool(field["timed"]))
        _check_units(da, one, field, request.model)
        found.append(one.values)
    count = max(values.sizes[REALIZATION] for values in found)
    if count not in (1, len(request.realizations)):
        raise XstsrError(
            f"cannot draw {len(request.realizations)} realizations of "
            f"{meaning.name!r} given {count} of {sorted(known)}. Pass "
            f"realizations={count}, or choose one: given.isel(realization=0)."
        )
    sizes = dict(found[0].sizes) | {
        dim: max(values.sizes[dim] for values in found) for dim in (REALIZATION, "time")
    }
    whole = [
        values.squeeze(
            [d for d in (REALIZATION, "time") if values.sizes[d] == 1]
        ).set_dims(sizes)
        for values in found
    ]
    fields = xr.Variable.concat(whole, dim="field")
    stacked: Array = fields.transpose(REALIZATION, "field", ...).data
    return stacked


def needed_by(method: str, model: str | PathLike[str]) -> Sequence[Mapping[str, Any]]:
    """List the known fields of a model's spec, as its header has them."""
    if not find_method(method).is_neural:
        return ()
    from xstsr.diffusion.checkpoint import read_header

    fields: Sequence[Mapping[str, Any]] = read_header(model)["spec"].get("known", ())
    return fields


def fields_of(*sources: Known | None) -> dict[Any, xr.DataArray]:
    """Give known fields by their names; the name of a DataArray may be None."""
    fields: dict[Any, xr.DataArray] = {}
    for source in sources:
        if isinstance(source, xr.DataArray):
            fields[source.name] = source
        elif isinstance(source, xr.Dataset):
            names = [n for n in source.data_vars if source[n].ndim >= 2]
            names = [n for n in names if not str(n).endswith("_bnds")]
            fields |= {n: _with_label(source, n) for n in names}
        elif source is not None:
            raise XstsrError(
                f"cannot use static or given={source!r}: it is a "
                f"{type(source).__name__}. Pass a DataArray, or a Dataset with one "
                "variable for each field."
            )
    return fields


def _with_label(ds: xr.Dataset, name: Any) -> xr.DataArray:
    """Take a field, and with it which part of a step its labels are, from bounds."""
    da: xr.DataArray = ds[name]
    for dim, bounds in bounds_of(ds, name).items():
        if is_time(da[dim].values) and is_time(bounds):
            labels, _ = to_micros(da[dim].values, dim)
            _, side, _ = edges_from_bounds(to_micros(bounds, dim)[0], labels, dim, None)
            attrs = {LABEL: side} | da[dim].attrs
            da = da.assign_coords({dim: da[dim].assign_attrs(attrs)})
    return da


def on_cells(da: xr.DataArray, cells: Cells, *, timed: bool) -> Found:
    """Cut the cells and steps out of a known field.

    Parameters
    ----------
    da : DataArray
        Two horizontal axes and, if timed, times and perhaps realizations; others have
        one label.
    cells : Cells
        What to cut out.
    timed : bool
        Whether the field has a value for every step.

    Returns
    -------
    Found

    Raises
    ------
    DataError
        The field has more dimensions, or no numbers.
    GridError
        Its cells or steps are not those of the fine grid, or do not cover it.
    """
    axes = find_axes(da, needs_time=timed)
    own = [axes.y, axes.x]
    if timed:
        own = [*([REALIZATION] if REALIZATION in da.dims else []), axes.time, *own]
    single = [d for d in da.dims if d not in own and da.sizes[d] == 1]
    flat = da.squeeze(single, drop=True)
    if set(flat.dims) != set(own) or flat.dtype.kind not in "iuf":
        raise DataError(
            f"cannot use {da.name!r} as a known field: it has the dimensions "
            f"{dict(da.sizes)} and holds {da.dtype}. Pass numbers of y and x alone, "
            "da.isel(time=0), as static=, and with time as given=."
        )
    for (dim, wanted), name in zip(cells.labels.items(), (axes.y, axes.x), strict=True):
        east_west = axes.geometry == "sphere" and name == axes.x
        turns = (0, 360, -360) if east_west else (0,)
        places = _places(flat[name].values, wanted, turns)
        if places is None:
            raise GridError(
                f"cannot use {da.name!r} as a known field: along {name!r} it has "
                f"{_told(flat[name].values)}, and the fine grid has {_told(wanted)} "
                f"along {dim!r}. Put it on the fine grid first: "
                'field.stsr.regrid(coarse.stsr.upscale(s, t, method="nearest")).'
            )
        flat = flat.isel({name: places})
    units = str(da.attrs.get("units", ""))
    found = Found(flat.transpose(*own).variable, units)
    if timed:
        found = _in_time(flat.transpose(*own), cells)
    plain = found.values
    lead = [1] * (2 - (plain.ndim - 2))
    values = plain.data.reshape(*lead, *plain.shape).astype(np.float32)
    dims = (REALIZATION, "time", *cells.labels)
    return Found(xr.Variable(dims, values), found.units, found.is_rain)


def _in_time(da: xr.DataArray, cells: Cells) -> Found:
    """Cut the steps out of a given field; rain becomes a rate."""
    time = find_axes(da).time
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        told = da[time].attrs.get(LABEL, cells.time_label)
        meaning = read_meaning(da, label=told)
    check_calendars(
        meaning.calendar, cells.calendar, f"given={da.name!r} and the field"
    )
    wanted = cells.time_edges
    first = int(np.searchsorted(meaning.time_edges, wanted[0]))
    steps = slice(first, first + wanted.size - 1)
    if not np.array_equal(meaning.time_edges[first : steps.stop + 1], wanted):
        raise GridError(
            f"cannot use given={da.name!r}: along {meaning.time_dim!r} it has "
            f"{_steps(meaning.time_edges)}, and the fine grid has {_steps(wanted)}. "
            "Refine both by the same t, from the same coarse times."
        )
    rain = meaning.kind != "state"
    cut = da.isel({meaning.time_dim: steps}).variable
    if rain:
        factors = meaning.rate_factor[steps].astype(np.float32)
        rates = cut * xr.Variable((meaning.time_dim,), factors)
        return Found(rates, "mm h-1", is_rain=True)
    return Found(cut, meaning.units)


def _check_names(
    known: Mapping[Any, xr.DataArray],
    needed: Sequence[Mapping[str, Any]],
    request: Request,
    meaning: Meaning,
) -> None:
    """Refuse fields that are not needed, and miss those that are."""
    model = f"the model {request.model!r}"
    if not needed and known:
        taker = model if request.is_neural else f"method={request.method!r}"
        raise XstsrError(
            f"cannot use static or given={list(known)}: {taker} takes no known fields. "
            "Leave them out, or train a model with them: xstsr.train(fine, static=...)."
        )
    missing = [f["name"] for f in needed if f["name"] not in known]
    if missing and not (len(known) == len(needed) == 1 and None in known):
        what = ", ".join(
            f"{'given' if f['timed'] else 'static'}={f['name']!r} [{f['units'] or '1'}]"
            for f in needed
        )
        raise XstsrError(
            f"cannot upscale {meaning.name!r}: {model} needs {what} on the fine grid, "
            f"and {missing} are not among {list(known)}. Pass a DataArray or Dataset "
            "with these names."
        )


def _check_units(
    da: xr.DataArray, found: Found, field: Mapping[str, Any], model: str
) -> None:
    """Refuse a field in other units than the model was trained with."""
    if found.is_rain == field["logged"] and same_units(found.units, field["units"]):
        return
    units = field["units"] or "1"
    raise XstsrError(
        f"cannot use {da.name!r} [{found.units or '1'}]: the model {model!r} was "
        f"trained with it in {units!r}. Convert it: "
        f"da.pint.quantify().pint.to({units!r}).pint.dequantify()."
    )


def _places(
    own: NDArray[Any], wanted: NDArray[Any], turns: Sequence[int]
) -> NDArray[np.intp] | None:
    """Find consecutive labels among others, in either direction; None without."""
    step = np.abs(np.diff(own)).min() if own.size > 1 else 1.0
    same_way = own.size < 2 or (own[-1] - own[0]) * (wanted[-1] - wanted[0]) >= 0
    for turn in turns:
        first = int(np.abs(own + turn - wanted[0]).argmin())
        places = first + np.arange(wanted.size) * (1 if same_way else -1)
        if places.min() < 0 or places.max() >= own.size:
            continue
        if np.abs(own[places] + turn - wanted).max() <= _SLACK * step:
            return places
    return None


def _steps(edges: NDArray[np.int64]) -> str:
    """Say which steps there are.

    Examples
    --------
    >>> _steps(np.array([0, 60_000_000, 120_000_000]))
    '2 steps of 1 min from 1970-01-01T00:00'
    """
    length, first = float(np.diff(edges)[0]) / 6e7, np.datetime64(int(edges[0]), "us")
    start = np.datetime_as_string(first, unit="m")
    return f"{edges.size - 1} steps of {length:g} min from {start}"


def _told(labels: NDArray[Any]) -> str:
    """Say which labels there are.

    Examples
    --------
    >>> _told(np.array([1.0, 1.5, 2.0]))
    '3 labels from 1 to 2'
    """
    return f"{labels.size} labels from {labels[0]:.6g} to {labels[-1]:.6g}"
