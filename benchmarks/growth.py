"""How cost grows: with length, size and processes, and how memory does.

Parts of `make speed`, which imports them; as a command, what it runs in a process of
its own to measure its memory.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dask
import torch
import xarray as xr

from benchmarks.clock import in_turn, peak_bytes
from benchmarks.common import say
from benchmarks.setting import QUICK, Row, S, Setting, T, figure, rain, refine, store
from xstsr.display import readable
from xstsr.pipeline import plan


def growth_figures(given: Setting) -> Iterator[Row]:
    """Compare the time of a fine pixel over lengths and sizes."""
    sizes, model = given.sizes, given.model
    fields = {f"{n} steps": rain(n, 10) for n in sizes.lengths}
    yield from flat_figure(fields, model, sizes.rounds)
    fields = {f"{S * n} x {S * n} pixels": rain(10, n) for n in sizes.sides}
    yield from flat_figure(fields, model, 1)


def flat_figure(
    fields: dict[str, xr.DataArray], model: str, rounds: int
) -> Iterator[Row]:
    """Tell the time of a pixel in each field over that in the first."""
    refine(next(iter(fields.values()))[:2], model)
    ways = {name: lambda da=da: refine(da, model) for name, da in fields.items()}
    best = in_turn(ways, rounds)
    first, *others = fields
    usual = best[first] / fields[first].size
    for name in others:
        told = f"time of a pixel: {name} over {first}"
        ratio = best[name] / fields[name].size / usual
        yield figure(told, ratio, low=0.8, high=1.2)


# memory and processes


def memory_figures(given: Setting) -> Iterator[Row]:
    """Compare the peak memory of long and short records, and take a large frame."""
    sizes = given.sizes
    short, long = (
        peak_bytes("benchmarks.growth", given.tiny, str(n), str(sizes.cells))
        for n in (20 * sizes.frames, 200 * sizes.frames)
    )
    told = f"peak memory of a 10 times longer record (short: {readable(short)})"
    yield figure(told, long / short, high=1.1)
    if sizes == QUICK:
        return
    large = peak_bytes("benchmarks.growth", given.model, "40", "200", "--one-tile")
    told = "peak memory of 2000 x 2000 pixels, full windows, by tiles [GiB]"
    yield figure(told, large / 2**30, high=4.0)


def child(model: str, frames: int, cells: int, *, one_tile: bool) -> None:
    """Upscale a lazy field to a store: what `memory_figures` runs in a process."""
    da = rain(1, cells).isel(time=0, drop=True)
    time = rain(frames, 1).time
    chunk = {"time": 24, "y": -1, "x": -1}
    lazy = da.expand_dims(time=time).chunk(chunk)
    if one_tile:
        spans = plan(lazy, S, T, model=model, label="left", device="cpu").job.plan
        row, column = (x[len(x) // 2] for x in (spans.rows, spans.columns))
        own = lazy.isel(
            time=slice(spans.windows[0].core_stop - 2),
            y=slice(row.core_start, row.core_stop),
            x=slice(column.core_start, column.core_stop),
        )
        lazy = own.reindex_like(lazy, fill_value=0.0).assign_attrs(da.attrs)
        lazy = lazy.assign_coords(lazy.coords | {d: rain(1, cells)[d] for d in "yx"})
    with (
        tempfile.TemporaryDirectory() as folder,
        dask.config.set(scheduler="synchronous"),
    ):
        store(lazy, Path(folder) / "fine.zarr", model, steps=2)


def process_figures(given: Setting) -> Iterator[Row]:
    """Compare two processes of one thread with one process of two threads."""
    from dask.distributed import LocalCluster

    sizes, model = given.sizes, given.model
    # several windows for each process, so that they end together
    whole = rain(24 * sizes.frames, sizes.cells // 2).chunk(time=24)
    threads = torch.get_num_threads()
    if threads != 2:
        say(f"two processes are compared with {threads} threads, not with two")

    def here() -> None:
        with dask.config.set(scheduler="synchronous"):
            refine(whole, model, steps=2).compute()

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as two,
        two.get_client() as client,
    ):

        def there() -> None:
            client.compute(refine(whole, model, steps=2)).result()

        there()  # imports torch and loads the model
        here()
        best = in_turn({"one": here, "two": there}, sizes.rounds)
    told = "throughput of two processes over that of one"
    yield figure(told, best["one"] / best["two"], low=0.9)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("frames", type=int)
    parser.add_argument("cells", type=int)
    parser.add_argument("--one-tile", action="store_true")
    given = parser.parse_args()
    child(given.model, given.frames, given.cells, one_tile=given.one_tile)
