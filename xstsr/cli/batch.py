"""The work behind ``xstsr upscale``: files in, one store or file out, resumable."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from xstsr.errors import StoppedError, StoreError
from xstsr.files import check_target, write
from xstsr.storage.journal import Journal
from xstsr.storage.store import to_zarr
from xstsr.storage.writer import CALL


def refine_into(
    dataset: xr.Dataset,
    name: str,
    target: Path,
    *,
    resume: bool,
    overwrite: bool,
    progress: Callable[[int, int], object] | None,
    **call: Any,
) -> xr.Dataset:
    """Refine a variable and write it, whole or not at all.

    A NetCDF file has one writer: the field grows in a hidden Zarr store beside it,
    which is copied into the file in the end.

    Parameters
    ----------
    dataset : Dataset
        With the coarse field.
    name : str
        The variable.
    target : Path
        ``*.zarr`` or ``*.nc``.
    resume, overwrite : bool
        As for `to_zarr`.
    progress : callable, optional
        As for `to_zarr`.
    **call
        Factors and options of `upscale`.

    Returns
    -------
    Dataset
        What was written, opened lazily.

    Raises
    ------
    StoppedError
        A signal, a full disk or a lost worker stopped the run, which can be resumed.
    """
    check_target(target, overwrite=overwrite or (resume and target.suffix == ".zarr"))
    call |= {"name": name, "progress": progress}
    with _stoppable(target):
        if target.suffix == ".zarr":
            return to_zarr(dataset, target, resume=resume, overwrite=overwrite, **call)
        grown = hidden_store(target)
        if Journal.beside(grown).exists and not (resume or overwrite):
            raise StoreError(
                f"cannot write {str(target)!r}: {str(grown)!r} holds a run that was "
                "stopped. Pass --resume to go on with it, or --overwrite to start "
                "again."
            )
        made = to_zarr(dataset, grown, resume=resume, overwrite=not resume, **call)
        with made:
            del made.attrs[CALL]
            try:
                write(made, target, overwrite=overwrite)
            except (OSError, RuntimeError) as error:  # netCDF4 raises either
                raise StoppedError(
                    f"stopped when all windows were written: they cannot be copied "
                    f"into {str(target)!r} ({error}). They are kept in {str(grown)!r}: "
                    "pass --resume to go on."
                ) from error
        shutil.rmtree(grown)
    return xr.open_dataset(target, chunks={})


def hidden_store(target: Path) -> Path:
    """Name the store in which a NetCDF file grows."""
    return target.with_name(f".{target.name}.zarr")


@contextmanager
def _stoppable(target: Path) -> Iterator[None]:
    """Take Ctrl-C, and the signal of batch systems, as a stop that can be resumed."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if here else None
    try:
        yield
    except KeyboardInterrupt as error:
        raise StoppedError(
            f"stopped by a signal while writing {str(target)!r}. What was written is "
            "kept: pass --resume to go on."
        ) from error
    finally:
        if here:
            signal.signal(signal.SIGTERM, before)
