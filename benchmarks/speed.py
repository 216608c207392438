"""Measure what upscaling costs, and judge every figure by its target.

    python -m benchmarks.speed          # under ten minutes on two idle cores
    python -m benchmarks.speed --quick  # a minute, with a tiny model: does it run?

Every figure is a ratio within this run. What is compared is timed in turn, and the best
of several counts. The rain is synthetic: cost depends on where it rains, not on how.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import torch
import xarray as xr
from xarray.backends.netCDF4_ import NetCDF4ArrayWrapper

from benchmarks.clock import Stopwatch, convolution_peak, in_turn, machine
from benchmarks.common import report, say, signature, table
from benchmarks.growth import growth_figures, memory_figures, process_figures
from benchmarks.setting import Row, S, Setting, T, figure, rain, refine, setting, store
from xstsr.diffusion import model as networks
from xstsr.diffusion.checkpoint import shared_model
from xstsr.diffusion.denoiser import Condition
from xstsr.diffusion.network import SpaceTimeUNet
from xstsr.execution import graph, window
from xstsr.files import open_variable
from xstsr.methods import neural
from xstsr.pipeline import plan
from xstsr.storage import writer

REST = "graph, metadata and the rest"
STAGES = {
    "reading": [(NetCDF4ArrayWrapper, "__getitem__"), (graph, "gather")],
    "features": [(networks, "features"), (Condition, "__init__")],
    "network": [(SpaceTimeUNet, "forward")],
    "noise": [(neural, "_noise")],
    "sampler and guidance": [(networks.Model, "sample")],
    "blending": [(window, "_blend")],
    "constraint": [(window, "_conserve")],
    "writing": [(writer, "write_block")],
}
AROUND = ("reading", "features", "blending", "constraint", "writing", REST)

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


def stage_figures(given: Setting) -> Iterator[Row]:
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
    around = sum(best.get(stage, 0.0) for stage in AROUND) / whole
    told = "pipeline around the network, of the time"
    yield figure(told, around, high=0.15)
    for stage in (*STAGES, REST):
        yield figure(f"{stage}, of the time", best.get(stage, 0.0) / whole)


# against others


def rival_figures(given: Setting) -> Iterator[Row]:
    """Time the samplers and the baselines for the same output."""
    sizes, model = given.sizes, given.model
    da = rain(sizes.frames, sizes.cells)
    ways: dict[str, Callable[[], Any]] = {
        "default": lambda: refine(da, model),
        "generator": lambda: refine(da, model, method="generator"),
        "4 steps": lambda: refine(da, model, steps=4),
        "mean": lambda: refine(da, model, method="mean"),
        "RainFARM": lambda: refine(da, model, method="rainfarm"),
    }
    if (pysteps := pysteps_rainfarm(da)) is not None:
        ways["pysteps"] = pysteps
    for name, steps in (("heun", 18), ("ddpm", sizes.ancestral)):
        how = {"sampler": name, "steps": steps}
        ways[name] = lambda how=how: refine(da, model, **how)
    refine(da[:2], model, steps=2)  # loads the model
    best = in_turn(ways, sizes.rounds)
    usual, farm = best["default"], best["RainFARM"]
    yield figure("default steps over RainFARM", usual / farm, high=20)
    yield figure("4 steps over RainFARM", best["4 steps"] / farm)
    yield figure("`generator` over RainFARM", best["generator"] / farm)
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


# the report


PARTS = {
    "network": network_figures,
    "stages": stage_figures,
    "rivals": rival_figures,
    "dry": dry_figures,
    "growth": growth_figures,
    "memory": memory_figures,
    "processes": process_figures,
}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/speed.md"))
    parser.add_argument("--model", default="default", help="name or path")
    parser.add_argument("--quick", action="store_true", help="a tiny model and field")
    parser.add_argument(
        "--only", default=",".join(PARTS), help="which parts, between commas"
    )
    given = parser.parse_args()
    with report(given.out) as parts, setting(given.model, quick=given.quick) as chosen:
        parts.append(
            f"# Speed\n\nModel {signature(chosen.model)} at (s, t) = ({S}, {T}), on "
            f"{machine()}. Ratios within one run, timed in turn, best of "
            f"{chosen.sizes.rounds}. Made by `make speed`.\n"
        )
        wanted = given.only.split(",")
        parts.append(table([row for part in wanted for row in PARTS[part](chosen)]))


if __name__ == "__main__":
    main()
