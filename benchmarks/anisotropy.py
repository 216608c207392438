"""Measure how to tell a network that cells are narrower than they are high.

    python -m benchmarks.anisotropy ../shared/data/val

On latitude-longitude grids cells shrink eastwards with the cosine of the latitude; the
network knows one spacing. Radar fields are averaged in y alone, so that their pixels
are `m` times higher than wide, as at acos(1 / m) degrees: 60 for 2, 75.5 for 4. They
are coarsened, and upscaled again in four ways: conditioned on the width of the pixels,
on the root of their area, or on their height; or on an equal-distance grid, for which
`m` cells in x are taken together and the fine pixels are split again.
"""

from dataclasses import replace

import numpy as np
import xarray as xr

from benchmarks.common import (
    arguments,
    geometric_mean,
    open_events,
    report,
    say,
    short,
    signature,
    table,
)
from xstsr.cf.read import read_meaning
from xstsr.conservation.balance import coarsen, conserve
from xstsr.evaluation.protocol import Protocol, boxes, parse_factors
from xstsr.pipeline import ask, run, upscale
from xstsr.verification.table import score_table

SCORES = ("fair_crps", "spread_skill", "log_spectral_distance", "q99.9_ratio")
POWER = {"width": 0.0, "root of area": 0.5, "height": 1.0}  # of m, times the width


def averaged(da: xr.DataArray, dim: str, m: int) -> xr.DataArray:
    """Take cells together along one spatial dimension."""
    wide = da.coarsen({dim: m}, boundary="trim").mean(keep_attrs=True)
    return wide.assign_coords({dim: wide[dim].assign_attrs(da[dim].attrs)})


def wettest(da: xr.DataArray, side: int) -> xr.DataArray:
    """Cut the wettest of the squares that lie side by side."""
    parts = [da[..., i : i + side] for i in range(0, da.shape[-1] - side + 1, side)]
    return max(parts, key=lambda part: float(part.sum()))


def conditioned(
    coarse: xr.DataArray, factor: tuple[int, int], spacing_km: float, protocol: Protocol
) -> xr.DataArray:
    """Upscale as if the fine pixels had this spacing."""
    asked = ask(
        coarse,
        factor,
        realizations=protocol.realizations,
        model=protocol.model,
        steps=protocol.steps,
    )
    request = replace(asked.job.request, spacing_km=spacing_km)
    return run(replace(asked, jobs=(replace(asked.job, request=request),)))


def on_equal_distances(
    coarse: xr.DataArray,
    factor: tuple[int, int],
    m: int,
    spacing_km: float,
    protocol: Protocol,
) -> xr.DataArray:
    """Upscale on a grid of square cells, and split its pixels."""
    s, t = factor
    x = read_meaning(coarse).x_dim
    fine = conditioned(averaged(coarse, x, m), factor, spacing_km, protocol)
    like = upscale(coarse, s, t, method="nearest")
    split = fine.isel({x: np.arange(like.sizes[x]) // m}).assign_coords(like.coords)
    return conserve(split, coarse)


def scored(
    da: xr.DataArray, m: int, factor: tuple[int, int], protocol: Protocol
) -> dict[str, dict[str, float]]:
    """Score every way on one field whose pixels are `m` times higher than wide."""
    s, t = factor
    width = read_meaning(da).spacing_km
    truth = averaged(da, read_meaning(da).y_dim, m)
    truth = wettest(truth, truth.shape[1])
    coarse = coarsen(truth, s, t)
    ways = {
        name: conditioned(coarse, factor, width * m**power, protocol)
        for name, power in POWER.items()
    }
    ways["equal distance"] = on_equal_distances(coarse, factor, m, width * m, protocol)
    ways["linear"] = upscale(coarse, s, t, method="linear").expand_dims("realization")
    return {
        name: score_table(fine.values, truth.values, coarse.values, (t, s, s))
        for name, fine in ways.items()
    }


def main() -> None:
    """Run the command."""
    parser = arguments(__doc__, data="val", out="anisotropy.md", realizations=3)
    parser.add_argument("--factors", default="5x2,10x3")
    parser.add_argument("--heights", default="2,4", help="m: heights over widths")
    parser.add_argument("--side", type=int, default=80, help="pixels along a box")
    parser.add_argument("--frames", type=int, default=12, help="fine frames of a box")
    given = parser.parse_args()
    protocol = Protocol(given.realizations, model=given.model, steps=given.steps)
    with report(given.out) as parts:
        rows: list[dict[str, str | float]] = []
        for name, da in open_events(given.data):
            for m in map(int, given.heights.split(",")):
                for s, t in parse_factors(given.factors):
                    # whole cells of either grid, for every m
                    size = replace(protocol, side=given.side * m, frames=given.frames)
                    box = boxes(da, s * m, t, size)[0].load()
                    found = scored(box, m, (s, t), protocol)
                    base = found.pop("linear")["fair_crps"]
                    say(f"{name} {m} ({s}, {t})")
                    for way, scores in found.items():
                        row: dict[str, str | float] = {
                            "event": short(name),
                            "m": str(m),
                            "factor": f"{s}x{t}",
                            "way": way,
                            "CRPS / linear": scores["fair_crps"] / base,
                        }
                        row |= {key: scores[key] for key in SCORES[1:]}
                        rows.append(row)
        parts.append(
            f"# Cells higher than wide, on `{given.data.name}/`\n\nModel "
            f"{signature(given.model)}, {given.realizations} realizations. Made by "
            "`make anisotropy`.\n"
        )
        parts.append(table(rows))
        means = [
            {"way": way}
            | {f"m = {m}": mean(rows, way, m) for m in given.heights.split(",")}
            for way in dict.fromkeys(str(row["way"]) for row in rows)
        ]
        parts.append("Geometric mean of the CRPS over linear's:\n\n" + table(means))


def mean(rows: list[dict[str, str | float]], way: str, m: str) -> float:
    """Average the first score over events and factors."""
    found = [row["CRPS / linear"] for row in rows if (row["way"], row["m"]) == (way, m)]
    return geometric_mean(xr.DataArray(found))


if __name__ == "__main__":
    main()
