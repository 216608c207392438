"""Kill `xstsr upscale` at random moments, go on with it, and compare every byte.

    python -m benchmarks.kills --kills 20 --out benchmarks/kills.md

The process gets SIGKILL, which it can neither see nor delay. After each kill no reader
may find data under the target's name or where the store grows. Then the same command
goes on with ``--resume``; when it has ended, every file of the store but the metadata,
which tell when they were made, is compared with that of a run that nothing disturbed.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import xarray as xr

import xstsr
from xstsr.storage.journal import Journal

OPTIONS = ("-s", "2", "-t", "3", "--realizations", "5", "--seed", "7")


def long_record(path: Path, steps: int) -> None:
    """Write the demo's rain, coarsened, again and again along time."""
    coarse = xstsr.open_demo().rainfall_amount[:30, :30, :30].stsr.coarsen(5, 3)
    several = -(-steps // coarse.sizes["time"])
    values = np.tile(coarse.values, (several, 1, 1))[:steps]
    step = coarse.time.values[1] - coarse.time.values[0]
    time = coarse.time.values[0] + step * np.arange(steps)
    coords = {"time": ("time", time, coarse.time.attrs), "y": coarse.y, "x": coarse.x}
    made = xr.DataArray(values, coords, coarse.dims, attrs=coarse.attrs, name="rain")
    made.to_netcdf(path)


def command(source: Path, target: Path, method: str) -> list[str]:
    """Say what is run, again and again."""
    words = (sys.executable, "-W", "ignore", "-m", "xstsr.cli", "upscale")
    return [*words, str(source), str(target), *OPTIONS, "--method", method, "--resume"]


def files(folder: Path) -> dict[str, bytes]:
    """Read all files but metadata."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".z")
    }


def is_readable(folder: Path) -> bool:
    """Tell whether a reader finds data."""
    for consolidated in (True, False):
        try:
            xr.open_zarr(folder, consolidated=consolidated).close()
            return True
        except (FileNotFoundError, KeyError, ValueError):
            continue
    return False


def moment(target: Path) -> str:
    """Tell in which state a kill left the run."""
    journal = Journal.beside(target)
    if target.exists():
        return "after the store had its name"
    if not journal.exists:
        return "before the store was laid out"
    return "while windows were drawn and written"


def run(folder: Path, method: str, kills: int, steps: int) -> str:
    """Kill and go on, until enough were killed; a table of what was found."""
    source, whole, target = (folder / n for n in ("in.nc", "whole.zarr", "out.zarr"))
    long_record(source, steps)
    started = time.monotonic()
    subprocess.run(command(source, whole, method), check=True)
    usual = time.monotonic() - started
    expected = files(whole)
    chance, when, finished, readable, different = random.Random(0), Counter(), 0, 0, 0
    while True:
        started = time.monotonic()
        process = subprocess.Popen(command(source, target, method))
        try:
            wait = chance.uniform(0.1, 1.0) * usual if when.total() < kills else None
            process.wait(wait)
            # a resumed run, or a machine that is less busy now, takes less
            usual = min(usual, time.monotonic() - started)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            when[moment(target)] += 1
            print(f"{when.total()} of {kills} kills", flush=True)
            usual *= 1.1  # so that it ends where the shortest was too short
        part = Journal.beside(target).folder
        if not target.exists():
            readable += any(is_readable(p) for p in (part, target))
            # for a moment before it gets its name, the store is there whole
            grown = part / "store"
            readable += is_readable(grown) and files(grown) != expected
            continue
        found = files(target)
        different += found.keys() != expected.keys()
        different += sum(found.get(name) != expected[name] for name in expected)
        finished += 1
        shutil.rmtree(target)
        shutil.rmtree(part, ignore_errors=True)
        if when.total() >= kills:
            break
    rows = [
        *((f"killed {told}", count) for told, count in when.items()),
        ("runs that ended and were compared", finished),
        ("files compared in each", len(expected)),
        ("files that differ", different),
        ("times that an unfinished store could be read", readable),
    ]
    table = "\n".join(f"| {told} | {count} |" for told, count in rows)
    head = f"`xstsr upscale {' '.join(OPTIONS)} --method {method}`, {steps} steps"
    return f"# Kills\n\n{head}.\n\n| {when.total()} kills | |\n|---|---|\n{table}\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--method", default="diffusion")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = run(Path(folder), asked.method, asked.kills, asked.steps)
    print(told)
    if asked.out:
        asked.out.write_text(told, encoding="utf-8")
    if "| files that differ | 0 |" not in told or "be read | 0 |" not in told:
        sys.exit("bytes differ, or an unfinished store could be read")


if __name__ == "__main__":
    main()
