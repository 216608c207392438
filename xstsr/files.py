"""Files in and out for the command line: opened lazily, written whole or not at all.

Resumable writing of large results is another matter: see `xstsr.store`.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import xarray as xr

from xstsr.errors import DataError

__all__ = ["beside", "check_target", "open_fields", "open_variable", "write"]


def open_variable(path: Path, name: str | None = None) -> tuple[xr.Dataset, str]:
    """Open a NetCDF file or a Zarr store and find the variable to work on.

    Parameters
    ----------
    path : Path
        What `xarray.open_dataset` can open.
    name : str, optional
        The variable. Default: the only one with three dimensions or more.

    Returns
    -------
    dataset, name : the Dataset, backed by dask, and the variable's name.

    Raises
    ------
    DataError : the file cannot be read, or it is not clear which variable is meant.
    """
    dataset = open_fields(path)
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


def open_fields(path: Path) -> xr.Dataset:
    """Open a NetCDF file or a Zarr store lazily.

    Parameters
    ----------
    path : Path
        What `xarray.open_dataset` can open.

    Raises
    ------
    DataError : the file cannot be read.
    """
    try:
        return xr.open_dataset(path, chunks={})
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise DataError(
            f"cannot read {str(path)!r}: {first}. Pass a complete NetCDF file or Zarr "
            "store."
        ) from error


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
    with beside(path) as new:
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


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` that takes its place once what is written is whole.

    Parameters
    ----------
    path : Path
        A file or a folder, new or old; folders above it are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:12]
    new = path.with_name(f".{path.stem}-{mark}{path.suffix}")
    old = path.with_name(f".{path.stem}-{mark}-old{path.suffix}")
    try:
        yield new
        # a directory cannot be replaced by rename: move the old one away first
        if path.is_dir():
            path.rename(old)
        new.replace(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        for rest in (new, old):
            if rest.is_dir():
                shutil.rmtree(rest)
            else:
                rest.unlink(missing_ok=True)
