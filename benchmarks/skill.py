"""Score the model on events it has never seen, and judge every figure by its target.

    python -m benchmarks.skill ../shared/data/test --out benchmarks/skill.md

The folder decides what is read: test/ to report, val/ to choose.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from benchmarks.common import (
    arguments,
    geometric_mean,
    open_events,
    protocol_of,
    report,
    say,
    short,
    signature,
    table,
)
from xstsr.evaluation.protocol import (
    BASELINES,
    markdown,
    parse_factors,
    ratios,
    score_events,
)

FACTORS = "4x2,10x3,25x6,7x1,13x5,1x3"
Cases = xr.DataArray  # one value for each event and factor


@dataclass(frozen=True)
class Figure:
    """A figure with its target, for every event and factor.

    Parameters
    ----------
    name : str
        What it is called.
    of : callable
        Takes the scores and gives the cases.
    low, high : float
        Where it should lie.
    """

    name: str
    of: Callable[[xr.Dataset], Cases]
    low: float
    high: float

    @property
    def target(self) -> str:
        """The range in words."""
        if self.low == -np.inf:
            return f"{self.high:g} or less"
        return f"{self.low:g}..{self.high:g}"

    def judge(self, scores: xr.Dataset) -> dict[str, str]:
        """Write the row of verdicts for this figure."""
        cases = self.of(scores)
        found = {
            f"{short(str(e.item()))} {f.item()}": float(cases.sel(event=e, factor=f))
            for e in cases.event
            for f in cases.factor
        }
        found = {case: value for case, value in found.items() if not np.isnan(value)}
        values = found.values()
        return {
            "figure": self.name,
            "target": self.target,
            "range": f"{min(values):.3g}..{max(values):.3g}" if found else "none",
            "verdict": verdict(found, self.low, self.high),
        }


def of_diffusion(score: str) -> Callable[[xr.Dataset], Cases]:
    """Give a function that picks a score of the diffusion model."""
    return lambda scores: scores[score].sel({"method": "diffusion"}, drop=True)


def over_baselines(
    score: str, method: str = "diffusion", over: Sequence[str] = BASELINES
) -> Callable[[xr.Dataset], Cases]:
    """Give a function that divides a method's score by the best baseline's."""
    return lambda scores: ratios(scores, over, score=score, method=method)


def largest_residual(scores: xr.Dataset) -> Cases:
    """Take the larger residual of the two methods with networks."""
    both: Cases = scores.largest_residual.sel({"method": ["diffusion", "mean"]})
    return both.max("method")


FIGURES = (
    Figure(
        "fair CRPS over the best baseline", over_baselines("fair_crps"), -np.inf, 0.82
    ),
    Figure("spread/skill", of_diffusion("spread_skill"), 0.85, 1.15),
    Figure("q99.9 ratio", of_diffusion("q99.9_ratio"), 0.85, 1.2),
    Figure("wet-area ratio", of_diffusion("wet_area_ratio"), 0.85, 1.2),
    Figure(
        "log-spectral distance in space over the best baseline's",
        over_baselines("log_spectral_distance"),
        -np.inf,
        1.0,
    ),
    Figure(
        "log-spectral distance in time over the best baseline's",
        over_baselines("temporal_spectral_distance"),
        -np.inf,
        1.0,
    ),
    Figure(
        "RMSE of `mean` over the best baseline's",
        over_baselines("rmse", "mean"),
        -np.inf,
        1.0,
    ),
    Figure("largest relative cell residual", largest_residual, -np.inf, 1e-5),
    Figure("seams in space", of_diffusion("seam_space"), 0.95, 1.1),
    Figure("seams in time", of_diffusion("seam_time"), 0.95, 1.1),
)
GEOMETRIC_MEAN = 0.68  # of the fair CRPS over the best baseline


def verdict(found: dict[str, float], low: float, high: float) -> str:
    """Say whether all cases lie in a range; if not, which miss it and by how much."""
    if not found:
        return "not measured"
    misses = {
        case: value - high if value > high else value - low
        for case, value in found.items()
        if not low <= value <= high
    }
    if not misses:
        return "reached"
    told = ", ".join(
        f"{case} by {miss:+.2g}"
        for case, miss in sorted(misses.items(), key=lambda item: -abs(item[1]))
    )
    return f"missed in {len(misses)} of {len(found)}: {told}"


def judge_mean(scores: xr.Dataset) -> dict[str, str]:
    """Write the row of verdicts for the geometric mean of all CRPS ratios."""
    cases = ratios(scores)
    mean = geometric_mean(cases)
    by_event = [f"{geometric_mean(cases.sel(event=e)):.3g}" for e in cases.event]
    return {
        "figure": "the same, geometric mean (range: of each event)",
        "target": f"{GEOMETRIC_MEAN:g} or less",
        "range": ", ".join(by_event),
        "verdict": verdict({f"{mean:.3f}": mean}, -np.inf, GEOMETRIC_MEAN),
    }


def by_case(scores: xr.Dataset) -> list[dict[str, str | float]]:
    """List the figures of every event and factor."""
    figures = {
        "CRPS / best": over_baselines("fair_crps"),
        "without RainFARM": over_baselines("fair_crps", over=("linear", "nearest")),
        **{figure.name: figure.of for figure in FIGURES[1:]},
    }
    cases = {name: of(scores) for name, of in figures.items()}
    return [
        {
            "event": short(str(e.item())),
            "factor": str(f.item()),
            **{n: float(c.sel(event=e, factor=f)) for n, c in cases.items()},
        }
        for e in scores.event
        for f in scores.factor
    ]


def main() -> None:
    """Run the command."""
    parser = arguments(__doc__, data="test", out="skill.md", realizations=8)
    parser.add_argument("--factors", default=FACTORS, help="SxT, between commas")
    parser.add_argument("--side", type=int, default=200, help="pixels along a box")
    parser.add_argument("--frames", type=int, default=12, help="fine frames of a box")
    parser.add_argument("--boxes", type=int, default=1, help="boxes of an event")
    given = parser.parse_args()
    protocol = protocol_of(given)
    with report(given.out) as parts:
        scores = score_events(
            open_events(given.data), parse_factors(given.factors), protocol, say
        )
        parts.append(
            f"# Skill on `{given.data.name}/`\n\nModel {signature(given.model)}, "
            f"{given.realizations} realizations; of each event the wettest fully "
            f"covered boxes, {given.boxes} of about {given.side} x {given.side} pixels "
            f"and up to {given.frames} frames. Made by `make skill`.\n"
        )
        parts.append(markdown(scores))
        parts.append("## Figures of `diffusion` by event and factor\n")
        parts.append(table(by_case(scores)))
        parts.append("## Verdicts\n")
        first, *others = (figure.judge(scores) for figure in FIGURES)
        parts.append(table([first, judge_mean(scores), *others]))


if __name__ == "__main__":
    main()
