"""Measure what upscaling costs, and judge every figure by its target.

    python -m benchmarks.speed          # under ten minutes on two idle cores
    python -m benchmarks.speed --quick  # a minute, with a tiny model: does it run?

Every figure is a ratio within this run. What is compared is timed in turn, and the best
of several counts. The rain is synthetic: cost depends on where it rains, not on how.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import torch
import xarray as xr
from xarray.backends.netCDF4_ import NetCDF4ArrayWrapper

from benchmarks.clock import (
    Stopwatch,
    convolution_peak,
    in_turn,
    machine,
    peak_bytes,
)
from benchmarks.common import report, say, signature, table
from tests.models import write_tiny_model
from xstsr import blockwriter, graph, methods, windows
from xstsr.diffusion import model as networks
from xstsr.diffusion.checkpoint import load_model, shared_model
from xstsr.diffusion.denoiser import Condition
from xstsr.diffusion.network import SpaceTimeUNet
from xstsr.files import open_variable
from xstsr.memory import readable
from xstsr.pipeline import plan, upscale
from xstsr.store import to_zarr

S, T = 10, 3
STEP = np.timedelta64(15, "m")  # of the coarse field; its cells are 10 km
REST = "graph, metadata and the rest"
STAGES = {
    "reading": [(NetCDF4ArrayWrapper, "__getitem__"), (graph, "gather")],
    "features": [(networks, "features"), (Condition, "__init__")],
    "network": [(SpaceTimeUNet, "forward")],
    "noise": [(methods, "_noise")],
    "sampler and guidance": [(networks.Model, "sample")],
    "blending": [(windows, "_blend")],
    "constraint": [(windows, "_conserve")],
    "writing": [(blockwriter, "write_block")],
}
AROUND = ("reading", "features", "blending", "constraint", "writing", REST)
Row = dict[str, str | float]


@dataclass(frozen=True)
class Sizes:
    """How much is measured: coarse cells along a side, coarse frames, repetitions.

    Parameters
    ----------
    cells, frames : int
        Of the field for which methods are compared.
    lengths, sides : tuple of int
        Coarse frames, and coarse cells along a side, over which throughput is compared.
    rounds : int
        Repetitions.
    ancestral : int
        Steps of the paper's sampler that are timed, of 1000.
    """

    cells: int = 12
    frames: int = 16
    lengths: tuple[int, ...] = (10, 100, 1000)
    sides: tuple[int, ...] = (10, 30, 75, 150)
    rounds: int = 2
    ancestral: int = 10


QUICK = Sizes(8, 4, (5, 20), (3, 6), 1, 4)


@dataclass(frozen=True)
class Setting:
    """With what is measured.

    Parameters
    ----------
    model : str
        The model whose cost is reported.
    tiny : str
        A small one, where only what is around the networks counts.
    folder : Path
        For files.
    sizes : Sizes
        How much.
    """

    model: str
    tiny: str
    folder: Path
    sizes: Sizes


def rain(frames: int, cells: int, *, seed: int = 0) -> xr.DataArray:
    """Make a coarse field that is wet everywhere, 10 km and 15 minutes apart."""
    values = np.random.default_rng(seed).gamma(0.5, 2.0, (frames, cells, cells)) + 0.1
    time = np.datetime64("2001-01-01T00:00", "ns") + np.arange(frames) * STEP
    coords: dict[str, Any] = {"time": ("time", time, {"standard_name": "time"})}
    for axis in ("y", "x"):
        attrs = {"standard_name": f"projection_{axis}_coordinate", "units": "km"}
        coords[axis] = (axis, 10.0 * np.arange(cells), attrs)
    attrs = {
        "standard_name": "lwe_precipitation_rate",
        "units": "mm h-1",
        "cell_methods": "time: mean",
    }
    dims = ("time", "y", "x")
    return xr.DataArray(values.astype("float32"), coords, dims, "pr", attrs)


def refine(da: xr.DataArray, model: str, **options: Any) -> xr.DataArray:
    """Upscale on the CPU, with labels as time of left edges."""
    return upscale(da, S, T, model=model, device="cpu", label="left", **options)


# the network


def network_figures(given: Setting) -> Iterator[Row]:
    """Set one evaluation against the fastest convolutions of this machine."""
    # loads hundreds of MB, which must not count for the memory of child processes
    from torch.utils.flop_counter import FlopCounterMode

    sizes = given.sizes
    model = shared_model(given.model, "cpu")
    da = rain(sizes.frames, 2 * sizes.cells)
    coarse = torch.as_tensor(da.values)[None]
    one = torch.ones(1)
    with torch.inference_mode():
        known = model.condition(coarse, (T, S, S), one, 5 * one, 60 * one)
        x = torch.randn(known.means.z.shape)
        with FlopCounterMode(display=False) as counted:
            model.denoiser(x, one, known)
        ways = {"network": lambda: model.denoiser(x, one, known)}
        peaks, seconds = [], []
        for _ in range(sizes.rounds + 1):
            peaks.append(convolution_peak(sizes.rounds))
            seconds.append(in_turn(ways, 1)["network"])
    speed = counted.get_total_flops() / min(seconds)
    yield figure("network's share of the convolution peak", speed / max(peaks), low=0.5)
    yield figure("convolution peak [GFLOP/s]", max(peaks) / 1e9)
    pixels = x.numel()
    yield figure("floating-point operations a pixel", speed * min(seconds) / pixels)
    yield figure("evaluations a second", 1 / min(seconds))
    yield figure("million pixel-evaluations a second", 1e-6 * pixels / min(seconds))


# the pipeline around it


def stage_figures(given: Setting) -> tuple[list[Row], list[Row]]:
    """Share the time of reading, upscaling and writing a file among the stages."""
    sizes, source = given.sizes, given.folder / "coarse.nc"
    da = rain(12 * sizes.frames, sizes.cells)
    da.to_dataset().to_netcdf(source)
    runs = []
    for k in range(sizes.rounds):
        watch = Stopwatch(REST)
        ds, name = open_variable(source)
        with dask.config.set(scheduler="synchronous"), watch.run(STAGES):
            field = ds[name].chunk(time=sizes.frames)
            store(field, given.folder / f"{k}.zarr", given.model)
        runs.append(dict(watch.seconds))
    best = min(runs, key=lambda seconds: sum(seconds.values()))
    whole = sum(best.values())
    shares: list[Row] = [
        {"stage": stage, "share of the time": best.get(stage, 0.0) / whole}
        for stage in (*STAGES, REST)
    ]
    around = sum(best.get(stage, 0.0) for stage in AROUND) / whole
    told = "pipeline around the network, of the time"
    return shares, [figure(told, around, high=0.15)]


def store(da: xr.DataArray, path: Path, model: str, **options: Any) -> None:
    """Upscale straight to a store."""
    to_zarr(
        da,
        path,
        S,
        T,
        model=model,
        device="cpu",
        label="left",
        progress=False,
        **options,
    )


# against others


def rival_figures(given: Setting) -> Iterator[Row]:
    """Time the samplers and the baselines for the same output."""
    sizes, model = given.sizes, given.model
    da = rain(sizes.frames, sizes.cells)
    ways: dict[str, Callable[[], Any]] = {
        "default": lambda: refine(da, model),
        "4 steps": lambda: refine(da, model, steps=4),
        "mean": lambda: refine(da, model, method="mean"),
        "RainFARM": lambda: refine(da, model, method="rainfarm"),
    }
    if (pysteps := pysteps_rainfarm(da)) is not None:
        ways["pysteps"] = pysteps
    for name, steps in (("heun", 18), ("ddpm", sizes.ancestral)):
        changed = with_sampler(given, name)
        ways[name] = lambda c=changed, n=steps: refine(da, c, steps=n)
    refine(da[:2], model, steps=2)  # loads the model
    best = in_turn(ways, sizes.rounds)
    usual, farm = best["default"], best["RainFARM"]
    yield figure("default steps over RainFARM", usual / farm, high=20)
    yield figure("4 steps over RainFARM", best["4 steps"] / farm)
    yield figure("`mean` over RainFARM", best["mean"] / farm)
    if pysteps is not None:
        yield figure("default steps over pysteps' RainFARM", usual / best["pysteps"])
    yield figure("Heun's 18 evaluations over default steps", best["heun"] / usual)
    whole = best["mean"] + (best["ddpm"] - best["mean"]) * 1000 / sizes.ancestral
    told = (
        f"the paper's 1000 steps over default steps ({sizes.ancestral} timed, scaled)"
    )
    yield figure(told, whole / usual, low=200)
    told = "the paper's 1000 steps over 4 steps (scaled)"
    yield figure(told, whole / best["4 steps"])


def with_sampler(given: Setting, sampler: str) -> str:
    """Write the model with another sampler; returns its path."""
    from benchmarks.recipe import with_settings

    path = given.folder / f"{sampler}.safetensors"
    steps = load_model(given.model).spec.settings.steps
    with_settings(given.model, path, sampler, steps)
    return str(path)


def pysteps_rainfarm(da: xr.DataArray) -> Callable[[], object] | None:
    """Draw the same output with pysteps, frame by frame; None where it is missing."""
    try:
        from pysteps.downscaling import rainfarm
    except ImportError:
        say("pysteps is not installed: its RainFARM is left out")
        return None
    frames = np.repeat(da.values.astype(float), T, axis=0)
    return lambda: [rainfarm.downscale(frame, ds_factor=S) for frame in frames]


# dry fields


def dry_figures(given: Setting) -> Iterator[Row]:
    """Compare fields of which a tenth is wet with wet ones."""
    cells, few = given.sizes.cells // 2, {"steps": 2}
    first = plan(rain(400, cells), S, T, model=given.model, label="left").job.plan
    core = first.windows[1].core_stop - first.windows[1].core_start
    wet = rain(10 * core, cells)
    number = xr.DataArray(np.arange(10 * core), dims="time")
    # the first frames of a window reach into the one before
    partly = wet.where((number >= 4 * core + 1) & (number < 5 * core - 1), 0.0)
    yield dry_figure("one window of ten is wet", given, given.model, partly, wet, few)
    wet = rain(4, given.sizes.sides[-1])
    spans = plan(wet, S, T, model=given.tiny, label="left").job.plan
    tiles = len(spans.rows) * len(spans.columns)
    if tiles < 4:  # in a quick run
        return
    row, column = (x[len(x) // 2] for x in (spans.rows, spans.columns))
    partly = xr.zeros_like(wet)
    place = (
        slice(None),
        slice(row.core_start, row.core_stop),
        slice(column.core_start, column.core_stop),
    )
    partly[place] = wet[place]
    told = f"one tile of {tiles} is wet (tiny model)"
    yield dry_figure(told, given, given.tiny, partly, wet, few)


def dry_figure(
    name: str,
    given: Setting,
    model: str,
    partly: xr.DataArray,
    wet: xr.DataArray,
    options: dict[str, Any],
) -> Row:
    """Time a partly wet field over a wet one."""
    best = in_turn(
        {
            "partly": lambda: refine(partly, model, **options),
            "wet": lambda: refine(wet, model, **options),
        },
        given.sizes.rounds,
    )
    return figure(f"{name}, over all wet", best["partly"] / best["wet"], high=0.25)


# how cost grows


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
        peak_bytes("benchmarks.speed", "--child", given.tiny, str(n), str(sizes.cells))
        for n in (20 * sizes.frames, 200 * sizes.frames)
    )
    told = f"peak memory of a 10 times longer record (short: {readable(short)})"
    yield figure(told, long / short, high=1.1)
    if sizes == QUICK:
        return
    large = peak_bytes(
        "benchmarks.speed", "--child", given.model, "40", "200", "--one-tile"
    )
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
    whole = rain(24 * sizes.frames // 4, sizes.cells // 2).chunk(time=24)
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


# the report


def figure(
    name: str, value: float, low: float | None = None, high: float | None = None
) -> Row:
    """Write a row: a figure, its target and the verdict."""
    say(f"{name}: {value:.3g}")
    if low is None and high is None:
        return {"figure": name, "value": value, "target": "", "verdict": ""}
    low, high = (0.0 if low is None else low), (np.inf if high is None else high)
    target = f"{low:g} or more" if high == np.inf else f"{high:g} or less"
    target = f"{low:g}..{high:g}" if low and high < np.inf else target
    reached = "reached" if low <= value <= high else "missed"
    return {"figure": name, "value": value, "target": target, "verdict": reached}


@contextmanager
def setting(model: str, *, quick: bool) -> Iterator[Setting]:
    """Prepare a folder and the models."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = write_tiny_model(folder)
        yield Setting(
            tiny if quick else model, tiny, folder, QUICK if quick else Sizes()
        )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/speed.md"))
    parser.add_argument("--model", default="default", help="name or path")
    parser.add_argument("--quick", action="store_true", help="a tiny model and field")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--one-tile", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        model, frames, cells = given.child
        child(model, int(frames), int(cells), one_tile=given.one_tile)
        return
    with report(given.out) as parts, setting(given.model, quick=given.quick) as chosen:
        parts.append(
            f"# Speed\n\nModel {signature(chosen.model)} at (s, t) = ({S}, {T}), on "
            f"{machine()}. Ratios within one run, timed in turn, best of "
            f"{chosen.sizes.rounds}. Made by `make speed`.\n"
        )
        shares, around = stage_figures(chosen)
        rows = [*network_figures(chosen), *around]
        for measure in (
            rival_figures,
            dry_figures,
            growth_figures,
            memory_figures,
            process_figures,
        ):
            rows += measure(chosen)
        parts += [table(rows), "## Share of each stage\n", table(shares)]


if __name__ == "__main__":
    main()
