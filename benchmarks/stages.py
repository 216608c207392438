"""Measure what it costs to refine in two stages, and which two are best.

    python -m benchmarks.stages ../shared/data/val

The same box is refined at once, though the factor may be beyond the model's, and in two
stages in different ways. Small boxes, few realizations: the differences count.
"""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from benchmarks.common import (
    Event,
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
from xstsr.evaluation.protocol import Protocol, boxes
from xstsr.execution.run import refine
from xstsr.factors import said
from xstsr.planning.stages import chain
from xstsr.typing import Factor
from xstsr.verification.table import score_table

SPLITS: dict[tuple[int, int], tuple[tuple[Factor, ...], ...]] = {
    (20, 6): (
        ((6, 20, 20),),
        ((2, 4, 4), (3, 5, 5)),
        ((3, 5, 5), (2, 4, 4)),
        ((2, 2, 2), (3, 10, 10)),
        ((3, 10, 10), (2, 2, 2)),
    ),
    (40, 6): (
        ((6, 40, 40),),
        ((2, 5, 5), (3, 8, 8)),
        ((3, 8, 8), (2, 5, 5)),
        ((2, 2, 2), (3, 20, 20)),
        ((3, 20, 20), (2, 2, 2)),
    ),
}
SHOWN = (
    "fair_crps",
    "spread_skill",
    "q99.9_ratio",
    "wet_area_ratio",
    "log_spectral_distance",
    "temporal_spectral_distance",
    "lag1_correlation_error",
    "largest_residual",
)
Row = dict[str, str | float]


def score(
    box: xr.DataArray, s: int, t: int, parts: tuple[Factor, ...], protocol: Protocol
) -> dict[str, float]:
    """Coarsen a box, refine it stage by stage, and score the realizations."""
    coarse = coarsen(box, s, t)
    known, meaning = read_meaning(coarse), read_meaning(box)
    jobs = chain(
        known,
        parts,
        method="diffusion",
        model=protocol.model,
        realizations=protocol.realizations,
        steps=protocol.steps,
    )
    values = coarse.transpose(*known.core_dims).values
    made = np.asarray(refine(jobs, values, keep_realization=True))
    weights = meaning.step_hours()[:, None, None] * meaning.area()
    return score_table(
        made * meaning.rate_factor[:, None, None],
        box.values * meaning.rate_factor[:, None, None],
        values * known.rate_factor[:, None, None],
        (t, s, s),
        weights,
    )


def compare(events: list[Event], protocol: Protocol) -> Iterator[Row]:
    """Score every way to split every factor, at each event."""
    for (s, t), splits in SPLITS.items():
        for name, da in events:
            box = boxes(da, s, t, protocol)[0].load()
            for parts in splits:
                way = ", then ".join(map(said, parts))
                found = score(box, s, t, parts, protocol)
                say(f"{name}: {way}: fair CRPS {found['fair_crps']:.4f}")
                row: Row = {"event": short(name), "factor": f"{s}x{t}", "stages": way}
                yield row | {n: found[n] for n in SHOWN}


def summary(rows: list[Row]) -> str:
    """Divide the fair CRPS of each way by that of all at once; geometric means."""
    first = {(r["event"], r["factor"]): r["fair_crps"] for r in reversed(rows)}
    lines = []
    for way in dict.fromkeys(str(row["stages"]) for row in rows):
        ratios = [
            float(r["fair_crps"]) / float(first[r["event"], r["factor"]])
            for r in rows
            if r["stages"] == way
        ]
        mean = float(np.exp(np.log(ratios).mean()))
        lines.append({"stages": way, "fair CRPS over that at once": mean})
    return table(lines)


def main() -> None:
    """Run the command."""
    parser = arguments(__doc__, data="val", out="stages.md", realizations=4)
    parser.add_argument("--side", type=int, default=160, help="pixels along a box")
    parser.add_argument("--frames", type=int, default=24, help="fine frames of a box")
    given = parser.parse_args()
    protocol = protocol_of(given)
    events = open_events(given.data)
    with report(given.out) as parts:
        rows = list(compare(events, protocol))
        parts.append(
            f"# Refining in stages, on `{given.data.name}/`\n\nModel "
            f"{signature(given.model)}, {given.realizations} realizations, a box of "
            f"about {given.side} pixels and {given.frames} frames per event.\n"
        )
        parts.append(table(rows))
        parts.append(summary(rows))


if __name__ == "__main__":
    main()
