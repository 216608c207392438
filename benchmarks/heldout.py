"""Compare factors that were never trained on with the trend of those that were.

    python -m benchmarks.heldout ../shared/data/test

The fair CRPS over that of the best baseline is found at many factors on one place of
each event. A polynomial of the second degree in (log s, log t) is fitted, event by
event, to the logarithm of the ratio at the trained factors; the held-out ones
(s = 7, 13, 20 and t = 5) are compared with it. How far a trained factor lies from the
fit to the others is printed beside: a held-out factor can be told from the trend no
better than that.
"""

from collections.abc import Sequence

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
from xstsr.evaluation.protocol import (
    Protocol,
    boxes,
    parse_factors,
    ratios,
    score_methods,
)
from xstsr.training.config import HELD_OUT_S, HELD_OUT_T

# a line along s, a line along t, and the corners that fix the cross term
FACTORS = (
    "4x3,5x3,6x3,7x3,8x3,10x3,12x3,13x3,14x3,17x3,20x3,22x3,25x3,"
    "10x1,10x2,10x4,10x5,10x6,4x1,4x6,5x5,7x5,13x5,16x5,20x5,25x1,25x6"
)
WITHIN = 0.03
Factor = tuple[int, int]
Trend = tuple[dict[Factor, float], dict[Factor, float]]  # held out, trained


def is_held_out(factor: Factor) -> bool:
    """Tell whether a factor (s, t) was kept from training."""
    return factor[0] in HELD_OUT_S or factor[1] in HELD_OUT_T


def terms(factors: Sequence[Factor]) -> np.ndarray:
    """Give the terms of the trend for each factor, shape (N, 6)."""
    s, t = np.log(np.array(factors, float)).T
    return np.stack((np.ones_like(s), s, t, s * s, s * t, t * t), axis=1)


def deviations(factors: Sequence[Factor], ratio: Sequence[float]) -> Trend:
    """Compare ratios with the trend of the trained factors.

    Parameters
    ----------
    factors : sequence of (s, t)
        Trained and held out.
    ratio : sequence of float
        CRPS ratio at each.

    Returns
    -------
    dict, dict
        Relative deviation of each held-out factor from the trend, and of each trained
        one from the trend of the other trained ones.
    """
    x, y = terms(factors), np.log(np.array(ratio))
    trained = np.array([not is_held_out(f) for f in factors])
    held: dict[Factor, float] = {}
    left_out: dict[Factor, float] = {}
    for i, factor in enumerate(factors):
        kept = trained.copy()
        kept[i] = False
        fit = np.linalg.lstsq(x[kept], y[kept], rcond=None)[0]
        (left_out if trained[i] else held)[factor] = float(np.expm1(y[i] - x[i] @ fit))
    return held, left_out


def crps_ratios(
    name: str, da: xr.DataArray, factors: Sequence[Factor], protocol: Protocol
) -> list[float]:
    """Score one place of an event at every factor: fair CRPS over the best baseline."""
    # the same place for all, from which each factor trims less than a cell
    (box,) = boxes(da, 1, 1, protocol)
    box = box.load()
    found = []
    for s, t in factors:
        scores = score_methods(box, s, t, protocol=protocol)
        found.append(float(ratios(scores)))
        say(f"{name} ({s}, {t}): {found[-1]:.4f}")
    return found


def rows(
    factors: Sequence[Factor],
    ratio: dict[str, list[float]],
    trend: dict[str, Trend],
) -> list[dict[str, str | float]]:
    """List every factor: the ratio and its deviation from the trend, by event."""
    listed: list[dict[str, str | float]] = []
    for i, (s, t) in enumerate(factors):
        is_held = is_held_out((s, t))
        row: dict[str, str | float] = {
            "factor": f"{s}x{t}",
            "trained": "no" if is_held else "yes",
        }
        for name in ratio:
            off = trend[name][0 if is_held else 1][s, t]
            row[f"{short(name)}: ratio"] = ratio[name][i]
            row[f"{short(name)}: off the trend"] = f"{100 * off:+.1f} %"
        listed.append(row)
    return listed


def judged(
    trend: dict[str, Trend],
) -> list[str]:
    """Say for each event, and for all, how far the held-out factors are off."""
    told = []
    for name, (held, left_out) in trend.items():
        usual = np.sqrt(np.mean(np.square(list(left_out.values()))))
        worst = max(held, key=lambda f: held[f])
        told.append(
            f"- {short(name)}: held-out factors are off by "
            f"{100 * np.mean(list(held.values())):+.1f} % on average and by "
            f"{100 * held[worst]:+.1f} % at worst ({worst[0]}x{worst[1]}); trained "
            f"ones scatter by {100 * usual:.1f} %."
        )
    pooled = {
        f: float(np.mean([held[f] for held, _ in trend.values()]))
        for f in next(iter(trend.values()))[0]
    }
    misses = {f: off for f, off in pooled.items() if off > WITHIN}
    listed = ", ".join(f"{s}x{t} {100 * off:+.1f} %" for (s, t), off in misses.items())
    verdict = f"missed at {listed}" if misses else "reached"
    told.append(
        f"- Target, mean of the events: at most {100 * WITHIN:g} % above the trend: "
        f"{verdict}."
    )
    return told


def main() -> None:
    """Run the command."""
    parser = arguments(__doc__, data="test", out="heldout.md", realizations=4)
    parser.add_argument("--factors", default=FACTORS, help="SxT, between commas")
    parser.add_argument("--side", type=int, default=208, help="pixels along a box")
    parser.add_argument("--frames", type=int, default=24, help="fine frames of a box")
    given = parser.parse_args()
    factors = parse_factors(given.factors)
    protocol = protocol_of(
        given, methods=("diffusion", "rainfarm", "linear", "nearest")
    )
    events = open_events(given.data)
    with report(given.out) as parts:
        parts.append(
            f"# Factors never trained on, on `{given.data.name}/`\n\nModel "
            f"{signature(given.model)}, {given.realizations} realizations. Fair CRPS "
            "over the best baseline, and its deviation from the trend over the trained "
            "factors; for those, from the trend over the others. Made by "
            "`make heldout`.\n"
        )
        ratio = {n: crps_ratios(n, da, factors, protocol) for n, da in events}
        trend = {n: deviations(factors, r) for n, r in ratio.items()}
        parts.append(table(rows(factors, ratio, trend)))
        parts.append("\n".join(judged(trend)) + "\n")


if __name__ == "__main__":
    main()
