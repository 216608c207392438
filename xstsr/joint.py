r"""Several variables at once, each drawn given those before it.

.. math:: p(a, b, c \mid X) = p(a \mid X) \, p(b \mid a, X) \, p(c \mid a, b, X)

A joint distribution is a product of conditional ones, without loss. So variables that
belong together, as rain and temperature do, need no network that draws all of them: a
model for the first, and for each further one a model that sees those before it. Rain
may then come from a model that has seen more rain than there are temperatures.
"""

from collections.abc import Collection, Mapping
from os import PathLike
from typing import Any, TypeAlias

import xarray as xr

from xstsr.errors import GridError, XstsrError
from xstsr.pipeline import upscale_dataset
from xstsr.planning.predictors import Known, fields_of, needed_by
from xstsr.typing import Space

Models: TypeAlias = Mapping[str, str | PathLike[str] | Mapping[str, Any]]


def upscale_together(
    ds: xr.Dataset,
    models: Models,
    s: Space,
    t: int = 1,
    *,
    static: Known | None = None,
    given: Known | None = None,
    **options: Any,
) -> xr.Dataset:
    """Refine several variables of a Dataset, realization by realization together.

    Parameters
    ----------
    ds : Dataset
        With the variables and their bounds, on one grid and at the same times.
    models : mapping of str to str, path or mapping
        The variables in the order in which they are drawn, each with its model, or with
        options of its own as ``{"method": "rainfarm"}``. A model is told those
        variables before it that it was trained with.
    s, t : int
        As for `upscale`.
    static, given : DataArray or Dataset, optional
        Further fields on the fine grid, for the models that were trained with them.
    **options
        As for `upscale`, for all variables: ``realizations``, ``seed``, ...

    Returns
    -------
    Dataset
        The variables with bounds, cell areas and grid mapping of the fine grid.

    Raises
    ------
    XstsrError
        As for `upscale`; or a model needs a variable that is drawn after its own.
    GridError
        The variables do not lie on one fine grid.

    Examples
    --------
    >>> import xstsr
    >>> ds = xstsr.open_demo()[["rainfall_amount"]].isel(time=slice(4))
    >>> ds["again"] = ds.rainfall_amount
    >>> plain = {"method": "linear"}
    >>> both = ds.stsr.upscale_together({"rainfall_amount": plain, "again": plain}, 2)
    >>> [name for name in both if both[name].ndim == 3]
    ['rainfall_amount', 'again']
    """
    if not (models and isinstance(models, Mapping)):
        raise XstsrError(
            f"cannot upscale with models={models!r}: no variable is named with its "
            'model. Name some, as {"pr": "default", "tas": "tas.safetensors"}.'
        )
    drawn: dict[str, xr.Dataset] = {}
    for name, choice in models.items():
        own = choice if isinstance(choice, Mapping) else {"model": choice}
        chosen = {**options, **own}
        model = chosen.get("model", "default")
        needed = needed_by(chosen.get("method", "diffusion"), model)
        later = [f["name"] for f in needed if f["name"] in models.keys() - drawn.keys()]
        if later:
            raise XstsrError(
                f"cannot draw {name!r} before {later}: the model {str(model)!r} needs "
                f"to be told of it. Name {later} first."
            )
        before = [drawn[n][n] for n in drawn]
        told = {
            "static": _among(needed, timed=False, fields=fields_of(static)),
            "given": _among(needed, timed=True, fields=fields_of(given, *before)),
        }
        drawn[name] = upscale_dataset(ds, name, s, t, **chosen, **told)
    return _put_together(list(drawn.values()))


def _among(
    needed: Collection[Mapping[str, Any]],
    *,
    timed: bool,
    fields: Mapping[Any, xr.DataArray],
) -> xr.DataArray | xr.Dataset | None:
    """Choose what a model needs; a field without a name may be all of it."""
    names = [field["name"] for field in needed if field["timed"] == timed]
    found = {name: fields[name] for name in names if name in fields}
    if names and not found and None in fields:
        return fields[None]
    return xr.Dataset(found) if found else None


def _put_together(parts: list[xr.Dataset]) -> xr.Dataset:
    """Make one Dataset of fine ones, whose bounds and areas are the same."""
    _check_bounds(parts)
    try:
        whole: xr.Dataset = xr.merge(parts, join="exact", compat="override")
    except ValueError as error:
        grids = [dict(part.sizes) for part in parts]
        raise GridError(
            f"cannot put the variables together: their fine grids {grids} are not one "
            f"({error}). Upscale each into a Dataset of its own, ds.stsr.upscale(name, "
            "...); or regrid one to the other first."
        ) from error
    lines = [line for p in parts for line in p.attrs.get("history", "").splitlines()]
    attrs = {**parts[0].attrs, "history": "\n".join(dict.fromkeys(lines))}
    return whole.assign_attrs(attrs)


def _check_bounds(parts: list[xr.Dataset]) -> None:
    """Refuse variables whose labels stand for other cells or steps: one has no room."""
    for part in parts[1:]:
        for name in part.data_vars.keys() & parts[0].data_vars.keys():
            if part[name].ndim == 2 and not part[name].equals(parts[0][name]):
                first, other = (next(iter(p.data_vars)) for p in (parts[0], part))
                raise GridError(
                    f"cannot put the variables together: the labels of {other!r} stand "
                    f"for other {name} than those of {first!r}. Upscale each into a "
                    "Dataset of its own, ds.stsr.upscale(name, ...)."
                )
