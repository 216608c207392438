"""Files in and out for the command line: opened lazily, written whole or not at all.

Resumable writing of large results is another matter: see `xstsr.storage.store`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr

from xstsr.atomic import atomic_write
from xstsr.cf.axes import find_axes
from xstsr.cf.read import bounds_of
from xstsr.cf.write import grid_mapping_names, grid_mapping_of
from xstsr.errors import DataError

Chunks = Mapping[str, int]
_SAME = ("units", "standard_name", "cell_methods")


def open_files(
    paths: Sequence[Path], name: str | None = None, chunks: Chunks | None = None
) -> tuple[xr.Dataset, str]:
    """Open files that hold one variable of one grid, one after the other in time.

    Parameters
    ----------
    paths : sequence of Path
        In any order.
    name : str, optional
        The variable. Default: the only one with three dimensions or more.
    chunks : mapping of str to int, optional
        Steps and cells of a piece. Default: as the files are stored.

    Returns
    -------
    dataset, name : the Dataset, backed by dask, and the variable's name.

    Raises
    ------
    DataError : a file cannot be read, it is not clear which variable is meant, or files
        disagree on the grid, the units or the calendar, or overlap in time.
    """
    opened = [(path, *open_variable(path, name, chunks)) for path in paths]
    first_path, first, name = opened[0]
    if len(opened) == 1:
        return first, name
    time = find_axes(first[name]).time
    for path, dataset, found in opened:
        if not dataset.sizes.get(time) or time not in dataset.coords:
            raise DataError(
                f"cannot join {str(path)!r}: its variable {found!r} has no times along "
                f"{time!r}. Leave the file out, or make it complete."
            )
    for path, dataset, found in opened[1:]:
        told = _differences(first[name], dataset[found], time)
        told = told or _differences_of_cells(first, dataset, name, time)
        if told:
            raise DataError(
                f"cannot join {str(path)!r} to {str(first_path)!r}: {'; '.join(told)}. "
                "Pass files of one variable on one grid."
            )
    opened.sort(key=lambda item: item[1][time].values[0])
    for (before, left, _), (after, right, _) in pairwise(opened):
        last, next_one = left[time].values[-1], right[time].values[0]
        if last >= next_one:
            raise DataError(
                f"cannot join {str(after)!r} to {str(before)!r}: one begins at "
                f"{next_one}, and the other ends at {last}. Pass files that do not "
                "overlap in time."
            )
    joined = xr.concat(
        [dataset for _, dataset, _ in opened],
        time,
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
        combine_attrs="override",
    )
    return joined, name


def open_variable(
    path: Path, name: str | None = None, chunks: Chunks | None = None
) -> tuple[xr.Dataset, str]:
    """Open a NetCDF file or a Zarr store and find the variable to work on.

    Parameters
    ----------
    path : Path
        What `xarray.open_dataset` can open.
    name : str, optional
        The variable. Default: the only one with three dimensions or more.
    chunks : mapping of str to int, optional
        Steps and cells of a piece. Default: as the file is stored.

    Returns
    -------
    dataset, name : the Dataset, backed by dask, and the variable's name.

    Raises
    ------
    DataError : the file cannot be read, or it is not clear which variable is meant.
    """
    dataset = open_fields(path, chunks)
    fields = [str(v) for v in dataset.data_vars if dataset[v].ndim >= 3]
    if name is None and len(fields) == 1:
        return dataset, fields[0]
    if name is None or name not in dataset.data_vars:
        asked = "no variable was named" if name is None else f"it has no {name!r}"
        raise DataError(
            f"cannot choose what to read from {str(path)!r}: {asked}, and its "
            f"variables with three dimensions or more are {fields}. Name one with "
            "--var."
        )
    return dataset, name


def open_fields(path: Path, chunks: Chunks | None = None) -> xr.Dataset:
    """Open a NetCDF file or a Zarr store lazily.

    Parameters
    ----------
    path : Path
        What `xarray.open_dataset` can open.
    chunks : mapping of str to int, optional
        Steps and cells of a piece. Default: as the file is stored.

    Raises
    ------
    DataError : the file cannot be read, or has no such dimension.
    """
    try:
        dataset = xr.open_dataset(path, chunks=dict(chunks or {}))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(
            f"cannot read {str(path)!r}: {first}. Pass a complete NetCDF file or Zarr "
            "store."
        ) from error
    unknown = sorted(set(chunks or ()) - set(map(str, dataset.sizes)))
    if unknown:
        raise DataError(
            f"cannot chunk {str(path)!r} along {unknown}: its dimensions are "
            f"{list(map(str, dataset.sizes))}. Name some of these."
        )
    return dataset


def write(dataset: xr.Dataset, path: Path, *, overwrite: bool = False) -> None:
    """Write a Dataset beside its target, then rename it: whole or not at all.

    Parameters
    ----------
    dataset : Dataset
        Lazy data are computed chunk by chunk.
    path : Path
        ``*.zarr`` for a Zarr store, ``*.nc`` for a NetCDF file.
    overwrite : bool
        Replace what is there, once the new one is complete.

    Raises
    ------
    DataError : another suffix, or the target exists.
    """
    check_target(path, overwrite=overwrite)
    with atomic_write(path) as new:
        if path.suffix == ".nc":
            dataset.to_netcdf(new, engine="netcdf4")
        else:
            # format 3 has no consolidated metadata, and xarray warns when they lack
            dataset.to_zarr(new, zarr_format=2, consolidated=True)


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a target that cannot be written, before the work and not after it.

    Parameters
    ----------
    path : Path
        ``*.zarr`` or ``*.nc``.
    overwrite : bool
        Allow that the target exists.

    Raises
    ------
    DataError : another suffix, or the target exists.
    """
    if path.suffix not in (".zarr", ".nc"):
        raise DataError(
            f"cannot write {str(path)!r}: its suffix is {path.suffix!r}. Name a .zarr "
            "store or a .nc file."
        )
    if path.exists() and not overwrite:
        raise DataError(
            f"cannot write {str(path)!r}: it exists. Remove it, choose another name or "
            "pass --overwrite."
        )


def refuse_source(target: Path, sources: Sequence[Path]) -> None:
    """Refuse to replace what is read.

    Parameters
    ----------
    target : Path
        What is to be written.
    sources : sequence of Path
        What is read.

    Raises
    ------
    DataError : the target is one of the sources.
    """
    if target.resolve() in {path.resolve() for path in sources}:
        raise DataError(
            f"cannot write {str(target)!r}: it is what is read, and would be lost. "
            "Choose another target."
        )


def sources_of(data: xr.DataArray | xr.Dataset) -> list[Path]:
    """List the files that data are read from, as far as xarray tells."""
    variables = data.variables.values() if isinstance(data, xr.Dataset) else ()
    told = (item.encoding.get("source") for item in (data, *variables))
    return [Path(text) for text in dict.fromkeys(told) if isinstance(text, str)]


def _differences(first: xr.DataArray, other: xr.DataArray, time: str) -> list[str]:
    """Say in what two fields differ that ought to follow each other in time."""
    pairs: list[tuple[str, object, object]] = [("variable", first.name, other.name)]
    for key in _SAME:
        pairs.append((key, first.attrs.get(key), other.attrs.get(key)))
    if first.dims != other.dims:
        return [f"dimensions are {other.dims}, not {first.dims}"]
    told = [f"{key}: {now!r}, not {was!r}" for key, was, now in pairs if was != now]
    kinds = [type(da[time].values.flat[0]).__name__ for da in (first, other)]
    calendars = [da[time].dt.calendar for da in (first, other)]
    if calendars[0] != calendars[1] or kinds[0] != kinds[1]:
        told.append(f"calendar: {calendars[1]!r}, not {calendars[0]!r}")
    for dim in first.dims:
        sizes = first.sizes[dim], other.sizes[dim]
        if dim != time and sizes[0] != sizes[1]:
            told.append(f"grid: {sizes[1]} cells along {dim!r}, not {sizes[0]}")
    if told:
        return told
    fixed = [str(key) for key, c in first.coords.items() if time not in c.dims]
    return [
        f"grid: other values of {key!r}"
        for key in fixed
        if key not in other.coords
        or not np.array_equal(first[key].values, other[key].values)
    ]


def _differences_of_cells(
    first: xr.Dataset, other: xr.Dataset, name: str, time: str
) -> list[str]:
    """Say in what projection and bounds differ, which are variables of their own."""
    told = []
    for one in grid_mapping_names(grid_mapping_of(first[name])):
        if one in first and not (one in other and first[one].attrs == other[one].attrs):
            told.append(f"projection: other attributes of {one!r}")
    bounds = [bounds_of(dataset, name) for dataset in (first, other)]
    for dim in {**bounds[0], **bounds[1]}:
        if not all(dim in found for found in bounds):
            told.append(f"bounds: only one has those of {dim!r}")
        elif dim != time and not np.array_equal(bounds[0][dim], bounds[1][dim]):
            told.append(f"bounds: other values of those of {dim!r}")
    return told
