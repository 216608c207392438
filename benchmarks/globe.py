"""Measure whether a global field shows where its grid closes, and keeps its water.

    python -m benchmarks.globe

Red-noise rain on the whole globe, alike from cell to cell also across the date line and
the poles, is upscaled again and again with its first column at another meridian. The
figure for longitude is the mean jump across a meridian where the grid begins over the
mean jump across the same meridian where it does not: 1 is seamless. That for the poles
is the mean jump between opposite pixels there, over the mean jump where the rows around
the pole are upscaled as the inside of a grid. The same is done as if the grid had ends.
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks.common import report, say, signature, table
from xstsr.cf.read import read_meaning
from xstsr.errors import AssumptionWarning
from xstsr.execution.run import upscale_now
from xstsr.geometry.globe import surround
from xstsr.pipeline import Asked, ask, run
from xstsr.planning.job import make_job

TARGET = (0.95, 1.1)
WATER = 1e-6
AROUND = 20  # coarse rows to either side of a pole that lies inside a grid
FIRST = 37.0  # degrees: a meridian of no importance, where the first run begins


@dataclass(frozen=True)
class Case:
    """What is upscaled, and how."""

    degrees: float
    method: str
    s: int
    closed: bool


def red_noise(rows: int, columns: int, frames: int, seed: int = 0) -> np.ndarray:
    """Draw red noise that is as smooth across the poles as anywhere, unit variance.

    The plane that is covered when one walks on across the poles holds each place twice:
    row -1, column x is row 0, column x + X / 2.
    """
    white = np.random.default_rng(seed).standard_normal((frames, 2 * rows, columns))
    k = np.hypot(
        np.fft.fftfreq(2 * rows)[:, None], np.fft.rfftfreq(columns)
    )  # cycles per cell
    red = np.fft.irfft2(np.fft.rfft2(white) * (k + 0.01) ** -1.5, s=white.shape[1:])
    twin = np.roll(red[:, ::-1], columns // 2, axis=-1)
    both: np.ndarray = (red + twin)[:, rows:]
    both -= both.mean()
    return both / both.std()


def rain(degrees: float, frames: int) -> xr.DataArray:
    """Make global rain of a given spacing, hourly; half of it is dry."""
    rows, columns = round(180 / degrees), round(360 / degrees)
    values = np.maximum(np.exp(red_noise(rows, columns, frames)) - 1.0, 0.0)
    time = np.datetime64("2001-01-01", "us") + np.arange(frames) * np.timedelta64(
        1, "h"
    )
    lat = 90 - degrees * (np.arange(rows) + 0.5)
    lon = degrees * (np.arange(columns) + 0.5)
    return xr.DataArray(
        values.astype(np.float32),
        {
            "time": time,
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
        ("time", "lat", "lon"),
        "pr",
        {"units": "mm h-1", "cell_methods": "time: mean"},
    )


def turned(da: xr.DataArray, columns: int) -> xr.DataArray:
    """Begin a global field some columns further east."""
    lon = da.lon + columns * (da.lon[1] - da.lon[0])
    moved = da.roll(lon=-columns, roll_coords=False)
    return moved.assign_coords(lon=lon.assign_attrs(da.lon.attrs))


def with_ends(asked: Asked) -> Asked:
    """Forget that the grid closes."""
    request = replace(asked.job.request, globe=None)
    job = make_job(asked.meaning, request, asked.job.mode)
    return replace(asked, jobs=(job,))


def meridians(fine: np.ndarray, s: int) -> np.ndarray:
    """Mean |difference| across the western edge of every coarse column, shape (X,)."""
    jump: np.ndarray = abs(fine - np.roll(fine, 1, axis=-1)).mean(axis=(0, 1))
    return jump[::s]


def opposite(fine: np.ndarray, row: int) -> float:
    """Mean |difference| between pixels half-way round, in a row at a pole."""
    half = fine.shape[-1] // 2
    return float(abs(fine[:, row] - np.roll(fine[:, row], half, axis=-1)).mean())


def inside(asked: Asked) -> float:
    """Mean |difference| across both poles where they lie inside a grid.

    Rows around a pole, with those that lie across it, are upscaled as if they were an
    ordinary grid; their areas are right all the same.
    """
    globe = asked.job.request.globe
    values = asked.coarse.values
    edges = asked.meaning.y_edges
    n = min(AROUND, globe.rows)
    north, south = edges[: n + 1], edges[-n - 1 :]
    caps = (
        (np.append(north[::-1], north[1:]), (n, 0), slice(0, 2 * n)),
        (np.append(south, south[-2::-1]), (0, n), slice(-2 * n, None)),
    )
    jumps = []
    for y_edges, beyond, rows in caps:
        cap = surround(values, globe, beyond, (0, 0))[:, rows]
        ring = replace(globe, rows=2 * n, poles=(False, False))
        job = make_job(
            replace(asked.meaning, y_edges=y_edges),
            replace(asked.job.request, globe=ring),
            asked.job.mode,
        )
        fine = upscale_now(job, cap)[0]
        middle = fine.shape[1] // 2
        jumps.append(abs(fine[:, middle] - fine[:, middle - 1]).mean())
    return float(np.mean(jumps))


def lost(fine: np.ndarray, da: xr.DataArray, s: int) -> float:
    """Find the largest relative change of the global water of a step."""
    meaning = read_meaning(da)
    given = (da.values.astype(np.float64) * meaning.area()).sum(axis=(1, 2))
    kept = (fine.astype(np.float64) * meaning.area(s)).sum(axis=(1, 2))
    return float(abs(kept / given - 1).max())


def measure(
    da: xr.DataArray, case: Case, runs: int, model: str, steps: int | None
) -> dict[str, str | float]:
    """Upscale with the first column at several meridians, and compare."""
    start = round(FIRST / case.degrees)
    begin = (start + np.arange(runs) * (da.sizes["lon"] // runs)) % da.sizes["lon"]
    jump, at_poles, water = [], [], []
    for columns in begin:
        given = turned(da, int(columns))
        asked = ask(given, (case.s, 1), method=case.method, model=model, steps=steps)
        fine = run(asked if case.closed else with_ends(asked)).values
        jump.append(np.roll(meridians(fine, case.s), columns))
        at_poles.append([(opposite(fine, 0) + opposite(fine, -1)) / 2, inside(asked)])
        water.append(lost(fine, given, case.s))
        say(f"{case}: begun at column {columns}")
    there = np.array(jump)[:, begin]
    seam = np.diag(there).sum()
    elsewhere = (there.sum(axis=0) - np.diag(there)).sum() / (runs - 1)
    return {
        "grid": f"{case.degrees:g} deg",
        "s": str(case.s),
        "method": case.method,
        "taken for": "a globe" if case.closed else "a field with ends",
        "date line": float(seam / elsewhere),
        "poles": float(np.divide(*np.sum(at_poles, axis=0))),
        "water": max(water),
    }


def cases(spacings: Sequence[float], s: int) -> Iterator[Case]:
    """List what is measured."""
    for method, degrees in product(("diffusion", "linear"), spacings):
        for closed in (True, False):
            yield Case(degrees, method, s, closed)


def verdict(rows: list[dict[str, str | float]]) -> str:
    """Judge the fields that were taken for a globe."""
    low, high = TARGET
    missed = [
        f"{row['method']} at {row['grid']}"
        for row in rows
        if row["taken for"] == "a globe"
        and not (
            all(low <= float(row[name]) <= high for name in ("date line", "poles"))
            and float(row["water"]) <= WATER
        )
    ]
    return f"missed by {', '.join(missed)}" if missed else "reached"


def frames_of(case: Case, given: argparse.Namespace) -> int:
    """Give coarse grids more frames than the finest."""
    return round(given.frames * case.degrees / min(given.degrees))


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / "globe.md")
    parser.add_argument("--model", default="default", help="name or path")
    parser.add_argument("--steps", type=int, help="network evaluations")
    parser.add_argument(
        "--degrees", type=float, nargs="+", default=[1.0, 0.25], help="spacings"
    )
    parser.add_argument("-s", type=int, default=2, help="factor")
    parser.add_argument("--runs", type=int, default=3, help="of each field")
    parser.add_argument(
        "--frames",
        type=int,
        default=6,
        help="of the finest grid; coarser ones have as many more as they have fewer "
        "columns, so that poles are judged by as many pairs of pixels",
    )
    given = parser.parse_args()
    # the model warns: it knows no spacing of 50 km
    warnings.simplefilter("ignore", AssumptionWarning)
    with report(given.out) as parts:
        rows = [
            measure(
                rain(case.degrees, frames_of(case, given)),
                case,
                given.runs,
                given.model,
                given.steps,
            )
            for case in cases(given.degrees, given.s)
        ]
        low, high = TARGET
        parts.append(
            "# Where a global grid closes\n\nModel "
            f"{signature(given.model)}. Jumps across the date line and the poles over "
            "those elsewhere, and the largest relative change of the global water. "
            "Made by `make globe`.\n"
        )
        parts.append(table(rows))
        parts.append(
            f"Target for a globe {low:g}..{high:g}, water {WATER:g}: {verdict(rows)}.\n"
        )


if __name__ == "__main__":
    main()
