"""Measure whether the windows in which a record is computed show in the result.

    python -m benchmarks.seams ../shared/data/val

Windows lie at multiples of a fixed length in absolute time. The same record is upscaled
again and again with its clock put forward, so that each boundary between two coarse
steps is a window's edge in some runs and not in others. The figure is the mean jump
there as an edge over the mean jump at the same place otherwise: 1 is seamless. What
lies at a boundary by chance is in both.
"""

import numpy as np
import xarray as xr

from benchmarks.common import (
    arguments,
    open_events,
    protocol_of,
    report,
    say,
    short,
    signature,
    table,
)
from xstsr.cf.read import read_meaning
from xstsr.conservation.balance import coarsen
from xstsr.evaluation.protocol import Protocol, boxes, parse_factors
from xstsr.pipeline import plan, upscale

TARGET = (0.95, 1.1)
LONGEST = 200  # coarse frames: no window has so many of its own


def jumps(fine: xr.DataArray, t: int) -> np.ndarray:
    """Mean |difference| across each boundary of coarse steps, shape (T - 1,)."""
    time = read_meaning(fine).time_dim
    steps = abs(fine.diff(time)).mean([d for d in fine.dims if d != time])
    return np.asarray(steps.values[t - 1 :: t])


def put_forward(coarse: xr.DataArray, steps: int) -> xr.DataArray:
    """Put the clock of a field forward by whole steps."""
    meaning = read_meaning(coarse)
    step = np.median(np.diff(meaning.time_edges)).astype("timedelta64[us]")
    time = coarse[meaning.time_dim] + steps * step
    return coarse.assign_coords({meaning.time_dim: time})


def edges(coarse: xr.DataArray, s: int, t: int, model: str) -> np.ndarray:
    """Tell which boundaries are those of windows, shape (T - 1,)."""
    windows = plan(coarse, s, t, model=model).job.plan.windows
    found = np.zeros(windows[-1].core_stop - 1, bool)
    found[[w.core_start - 1 for w in windows[1:]]] = True
    return found


def clocks(
    coarse: xr.DataArray, s: int, t: int, model: str, runs: int
) -> dict[int, np.ndarray]:
    """Choose by how many steps to put the clock forward, with the edges that it gives.

    Runs whose first edge lies at different boundaries, spread over the record, and one
    without an edge where there is one.
    """
    first: dict[int, tuple[int, np.ndarray]] = {}
    whole: dict[int, np.ndarray] = {}
    for k in range(LONGEST):
        found = edges(put_forward(coarse, k), s, t, model)
        if found.any():
            first.setdefault(int(found.argmax()), (k, found))
        else:
            whole = whole or {k: found}
    places = sorted(first)
    chosen = np.linspace(0, len(places) - 1, min(runs, len(places))).astype(int)
    return whole | dict(first[places[i]] for i in chosen)


def seam(da: xr.DataArray, s: int, t: int, protocol: Protocol, runs: int) -> float:
    """Compare jumps at boundaries that are a window's edge with the same elsewhere."""
    (box,) = boxes(da, s, t, protocol)
    coarse = coarsen(box.load(), s, t)
    seen = clocks(coarse, s, t, protocol.model, runs)
    jump = np.array(
        [
            jumps(
                upscale(
                    put_forward(coarse, k),
                    s,
                    t,
                    realizations=protocol.realizations,
                    model=protocol.model,
                    steps=protocol.steps,
                ),
                t,
            )
            for k in seen
        ]
    )
    edge = np.array(list(seen.values()))
    both = edge.any(axis=0) & ~edge.all(axis=0)
    jump, edge = jump[:, both], edge[:, both]
    at_edges = (jump * edge).sum(axis=0) / edge.sum(axis=0)
    elsewhere = (jump * ~edge).sum(axis=0) / (~edge).sum(axis=0)
    return float(at_edges.sum() / elsewhere.sum())


def main() -> None:
    """Run the command."""
    parser = arguments(__doc__, data="val", out="seams.md", realizations=8)
    parser.add_argument("--factors", default="4x2,10x3,25x6,7x1")
    parser.add_argument("--side", type=int, default=200, help="pixels along a box")
    parser.add_argument("--runs", type=int, default=8, help="of each record")
    given = parser.parse_args()
    protocol = protocol_of(given, frames=10**6)  # the whole record
    with report(given.out) as parts:
        rows: list[dict[str, str | float]] = []
        for name, da in open_events(given.data):
            for s, t in parse_factors(given.factors):
                found = seam(da, s, t, protocol, given.runs)
                say(f"{name} ({s}, {t}): {found:.3f}")
                rows.append({"event": short(name), "factor": f"{s}x{t}", "seam": found})
        low, high = TARGET
        misses = [row for row in rows if not low <= float(row["seam"]) <= high]
        verdict = f"missed in {len(misses)} of {len(rows)}" if misses else "reached"
        parts.append(
            f"# Seams between windows on `{given.data.name}/`\n\nModel "
            f"{signature(given.model)}, {given.realizations} realizations. The jump "
            "across a boundary of two coarse steps where two windows meet, over the "
            "jump at the same boundary where none do. Made by `make seams`.\n"
        )
        parts.append(table(rows))
        parts.append(f"Target {low:g}..{high:g}: {verdict}.\n")


if __name__ == "__main__":
    main()
