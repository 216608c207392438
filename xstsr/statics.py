"""Static fine fields, found by name and by place: what a model needs besides rain.

Orography, the share of land, roughness: fields of y and x alone on the fine grid. They
may cover more than is refined, and run in the other direction; but they lie on the same
cells, which is checked, for a network would take a shifted mountain for a true one.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xstsr.cf_axes import find_axes
from xstsr.errors import DataError, GridError, XstsrError
from xstsr.grid import centers, refine_edges
from xstsr.knowledge import same_units
from xstsr.meaning import Meaning
from xstsr.methods import NEURAL, Request

if TYPE_CHECKING:
    import dask.array

Array = np.ndarray
Static: TypeAlias = xr.DataArray | xr.Dataset
_SLACK = 0.05  # of a cell: labels that were rounded are still the same labels


def static_for(
    static: Static | None, request: Request, meaning: Meaning
) -> "Array | dask.array.Array | None":
    """Find the static fields that a model needs, on the fine grid.

    Parameters
    ----------
    static : DataArray, Dataset or None
        What the user gave.
    request : Request
        Method, model and factor.
    meaning : Meaning
        Of the coarse field.

    Returns
    -------
    array, shape (K, Y sy, X sx), float32, or None
        In the order of the model's `ModelSpec.static`; lazy if a field is. None for
        methods and models that need none.

    Raises
    ------
    XstsrError
        A field is given and not needed, or needed and not given, or in other units.
    GridError
        A field does not lie on the fine grid.
    """
    needed = _needed(request)
    model = f"the model {request.model!r}"
    if not needed:
        if static is None:
            return None
        taker = model if request.method in NEURAL else f"method={request.method!r}"
        raise XstsrError(
            f"cannot use static={sorted(fields_of(static))}: {taker} takes no static "
            "fields. Leave static out, or train a model with them: "
            "xstsr.train(fine, static=static)."
        )
    known = {} if static is None else fields_of(static)
    if len(known) == len(needed) == 1 and None in known:
        known = {str(needed[0]["name"]): known[None]}
    if missing := [f["name"] for f in needed if f["name"] not in known]:
        what = ", ".join(f"{f['name']!r} [{f['units'] or '1'}]" for f in needed)
        raise XstsrError(
            f"cannot upscale {meaning.name!r}: {model} needs the static fields {what} "
            f"on the fine grid, and {missing} are not among {list(known)}. Pass a "
            "DataArray or Dataset with these names: static=orog."
        )
    y, x = (
        centers(refine_edges(edges, n))
        for edges, n in zip(
            (meaning.y_edges, meaning.x_edges), request.factor[1:], strict=True
        )
    )
    found = []
    for field in needed:
        da = known[field["name"]]
        _check_units(da, field, model)
        found.append(on_cells(da, {meaning.y_dim: y, meaning.x_dim: x}))
    stacked: Array = xr.Variable.concat(found, dim="static").data
    return stacked


def fields_of(static: Static) -> dict[Any, xr.DataArray]:
    """Give static fields by their names; the name of a DataArray may be None."""
    if isinstance(static, xr.DataArray):
        return {static.name: static}
    if isinstance(static, xr.Dataset):
        return {n: static[n] for n in static.data_vars if static[n].ndim >= 2}
    raise XstsrError(
        f"cannot use static={static!r}: it is a {type(static).__name__}. Pass a "
        "DataArray, or a Dataset with one variable for each field."
    )


def on_cells(da: xr.DataArray, labels: Mapping[str, NDArray[Any]]) -> xr.Variable:
    """Cut the cells with these labels out of a static field.

    Parameters
    ----------
    da : DataArray
        Two horizontal axes; others have one label.
    labels : mapping of str to ndarray
        Dims y and x of the fine grid with their labels, in this order.

    Returns
    -------
    Variable
        Dims (y, x) of the fine grid, float32, lazy if the field is.

    Raises
    ------
    DataError
        The field has more dimensions, or no numbers.
    GridError
        Its cells are not those of the fine grid, or do not cover it.
    """
    axes = find_axes(da, needs_time=False)
    single = [d for d in da.dims if d not in (axes.y, axes.x) and da.sizes[d] == 1]
    flat = da.squeeze(single, drop=True)
    if flat.ndim != 2 or flat.dtype.kind not in "iuf":
        raise DataError(
            f"cannot use {da.name!r} as a static field: it has the dimensions "
            f"{dict(da.sizes)} and holds {da.dtype}. Pass numbers of y and x alone: "
            "da.isel(time=0)."
        )
    for (dim, wanted), own in zip(labels.items(), (axes.y, axes.x), strict=True):
        turns = (0, 360, -360) if axes.geometry == "sphere" and own == axes.x else (0,)
        places = _places(flat[own].values, wanted, turns)
        if places is None:
            raise GridError(
                f"cannot use {da.name!r} as a static field: along {own!r} it has "
                f"{_told(flat[own].values)}, and the fine grid has {_told(wanted)} "
                f"along {dim!r}. Put it on the fine grid first: "
                'static.stsr.regrid(coarse.stsr.upscale(s, t, method="nearest")).'
            )
        flat = flat.isel({own: places})
    plain: xr.Variable = flat.transpose(axes.y, axes.x).variable.astype(np.float32)
    return xr.Variable(tuple(labels), plain.data)


def _needed(request: Request) -> Sequence[Mapping[str, Any]]:
    """List the static fields of the model's spec."""
    if request.method not in NEURAL:
        return ()
    from xstsr.diffusion.checkpoint import read_header

    fields: Sequence[Mapping[str, Any]] = read_header(request.model)["spec"].get(
        "static", ()
    )
    return fields


def _check_units(da: xr.DataArray, field: Mapping[str, Any], model: str) -> None:
    """Refuse a field in other units than the model was trained with."""
    units = str(da.attrs.get("units", ""))
    if not same_units(units, field["units"]):
        raise XstsrError(
            f"cannot use the static field {da.name!r} [{units or '1'}]: {model} was "
            f"trained with it in {field['units'] or '1'!r}. Convert it: "
            f"da.pint.quantify().pint.to({field['units'] or '1'!r}).pint.dequantify()."
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


def _told(labels: NDArray[Any]) -> str:
    """Say which labels there are.

    Examples
    --------
    >>> _told(np.array([1.0, 1.5, 2.0]))
    '3 labels from 1 to 2'
    """
    return f"{labels.size} labels from {labels[0]:.6g} to {labels[-1]:.6g}"
