"""Runs of `to_zarr` for processes that are killed, and clusters to run on."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
import zarr.storage

from tests.strategies import make
from xstsr.cf.units import registry
from xstsr.storage.store import to_zarr

# what a run would import late, so that processes forked from here start at once
LATE = (dask.array, zarr.storage, registry(), xr.backends.list_engines())

FACTORS = (2, 3)
CALL = {"method": "rainfarm", "realizations": 6, "seed": 5}


def rain(frames: int = 120, rows: int = 3, columns: int = 4) -> xr.DataArray:
    """Intermittent hourly rain that begins in the middle of a window.

    With `CALL` it makes six blocks: three chunks of time, realizations 0-3 and 4-5.
    """
    rng = np.random.default_rng(0)
    values = np.maximum(rng.gamma(0.5, 2.0, (frames, rows, columns)) - 0.3, 0)
    da = make(values, grid="metres")
    return da.assign_coords(time=da.time + np.timedelta64(5, "h")).chunk(time=100)


def grow(path: str, scheduler: str, frames: int = 120, **call: object) -> None:
    """Write a store, or go on with it."""
    with dask.config.set(scheduler=scheduler, num_workers=2):
        to_zarr(rain(frames), path, *FACTORS, **CALL | {"resume": True} | call)


@contextmanager
def local_client(workers: int = 2, **options: object) -> Iterator[object]:
    """Worker processes of one thread each, or a visible skip where none can start."""
    distributed = pytest.importorskip("distributed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",
                **{"memory_limit": "4GiB"} | options,
            )
            client = distributed.Client(cluster)
        except (OSError, RuntimeError, TimeoutError) as error:
            pytest.skip(f"no local cluster can start here: {error}")
        try:
            yield client
        finally:
            client.close()
            cluster.close()
