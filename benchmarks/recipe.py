"""Measure what beta, L and f do, and what the samplers cost.

    python -m benchmarks.recipe ../shared/data/val

Each number of the recipe is varied alone, around the rule that is the default. Small
boxes, few realizations: the differences count, not the values.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

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
from xstsr.evaluation.protocol import Protocol, boxes, parse_factors, score_methods
from xstsr.methods.recipe import Recipe, Taper, taper_rule

FACTORS = "4x2,10x3,25x6"
SAMPLERS = (
    ("dpm-solver++", 2),
    ("dpm-solver++", 4),
    ("dpm-solver++", 8),
    ("dpm-solver++", 18),
    ("heun", 9),
    ("heun", 17),
    ("ddpm", 32),
    ("ddpm", 128),
)
SAMPLED_AT = (10, 3)
Row = dict[str, str | float]
Variants = Mapping[str, Recipe]


def rule(da: xr.DataArray, s: int, t: int) -> Recipe:
    """Give the default recipe for a fine field."""
    return Recipe.for_factors(s, t, step=read_meaning(da).step_minutes * t)


def betas(base: Recipe) -> Variants:
    """Vary the amplitude of the noise."""
    return {
        f"{x:g} x rule": replace(base, beta=x * base.beta) for x in (0.5, 1, 1.5, 2)
    }


def contexts(base: Recipe) -> Variants:
    """Vary the coarse frames that see each other."""
    found = {"1 frame": 1, "rule / 2": max(1, base.context // 2), "rule": base.context}
    return {
        f"{name} (L = {frames})": replace(base, context=frames)
        for name, frames in found.items()
    }


def tapers(base: Recipe, s: int, t: int) -> Variants:
    """Vary the function before conservation."""
    paper = taper_rule(s, t)
    return {
        "none": base,
        f"the paper's, of {paper.reference:g} mm/h": replace(base, taper=paper),
        "the paper's, of 100 mm/h": replace(base, taper=taper_rule(s, t, 100.0)),
        "less 0.1 mm/h": replace(base, taper=0.1),
        "power 0.9": replace(base, taper=Taper(power=0.9)),
    }


def scores_of(box: xr.DataArray, s: int, t: int, protocol: Protocol) -> xr.Dataset:
    """Score samples of one box, with the mean absolute error of single realizations."""
    errors = []

    def watch(
        method: str, fine: xr.DataArray, coarse: xr.DataArray, truth: xr.DataArray
    ) -> None:
        errors.append(float(np.abs(fine.values - truth.values).mean()))

    scores = score_methods(box, s, t, protocol=protocol, watch=watch)
    return scores.isel({"method": 0}).assign(mean_absolute_error=errors[0])


def compare(
    events: list[tuple[Event, tuple[int, int]]],
    vary: Mapping[str, tuple[str, ...]],
    protocol: Protocol,
) -> Iterator[tuple[str, list[Row]]]:
    """Score all variants of each kind, at each event and factor."""
    made = {
        "beta": lambda base, s, t: betas(base),
        "L": lambda base, s, t: contexts(base),
        "f": tapers,
    }
    known: dict[tuple[str, int, int, Recipe], xr.Dataset] = {}
    for kind, shown in vary.items():
        rows: list[Row] = []
        for (name, da), (s, t) in events:
            box = boxes(da, s, t, protocol)[0].load()
            base = rule(box, s, t)
            for label, recipe in made[kind](base, s, t).items():
                key = (name, s, t, recipe)
                if key not in known:
                    say(f"{kind}: {name} ({s}, {t}), {label}")
                    used = replace(protocol, recipe=recipe)
                    known[key] = scores_of(box, s, t, used)
                found = known[key]
                row: Row = {"event": short(name), "factor": f"{s}x{t}", kind: label}
                rows.append(row | {n: float(found[n]) for n in shown})
        yield kind, rows


def compare_samplers(events: list[Event], protocol: Protocol) -> list[Row]:
    """Score the generator, and every sampler with some numbers of evaluations."""
    s, t = SAMPLED_AT
    ways = [("generator", 1, replace(protocol, methods=("generator",)))]
    ways += [
        (name, n, replace(protocol, sampler=name, steps=n)) for name, n in SAMPLERS
    ]
    rows: list[Row] = []
    for name, steps, used in ways:
        for event, da in events:
            say(f"sampler: {event} ({s}, {t}), {name} {steps}")
            found = scores_of(boxes(da, s, t, protocol)[0].load(), s, t, used)
            row: Row = {"event": short(event), "sampler": name}
            rows.append(
                row
                | {"evaluations": steps}
                | {n: float(found[n]) for n in SHOWN["sampler"]}
            )
    return rows


SHOWN = {
    "beta": ("spread_skill", "fair_crps", "q99.9_ratio"),
    "L": ("fair_crps", "lag1_correlation_error", "temporal_spectral_distance"),
    "f": (
        "q99.9_ratio",
        "fair_crps",
        "mean_absolute_error",
        "wet_area_ratio",
        "seam_space",
    ),
    "sampler": (
        "fair_crps",
        "spread_skill",
        "log_spectral_distance",
        "temporal_spectral_distance",
        "lag1_correlation_error",
        "q99.9_ratio",
    ),
}
TITLES = {
    "beta": "## beta, the amplitude of the noise\n",
    "L": "## L, the coarse frames of context\n",
    "f": (
        "## f, the taper before conservation\n\n"
        "`mean_absolute_error` is that of single realizations [mm h-1].\n"
    ),
    "sampler": f"## Samplers at {SAMPLED_AT[0]}x{SAMPLED_AT[1]}\n",
}


def main() -> None:
    """Run the command."""
    parser = arguments(__doc__, data="val", out="recipe.md", realizations=4)
    parser.add_argument("--factors", default=FACTORS, help="SxT, between commas")
    parser.add_argument("--side", type=int, default=96, help="pixels along a box")
    parser.add_argument("--frames", type=int, default=24, help="fine frames of a box")
    parser.add_argument(
        "--only",
        default=",".join(SHOWN),
        help="which tables, between commas; all by default",
    )
    given = parser.parse_args()
    protocol = protocol_of(given, methods=("diffusion",))
    events = open_events(given.data)
    cases = [(e, f) for e in events for f in parse_factors(given.factors)]
    wanted = given.only.split(",")
    with report(given.out) as parts:
        parts.append(
            f"# What the recipe does, on `{given.data.name}/`\n\nModel "
            f"{signature(given.model)}, {given.realizations} realizations, a box of "
            f"about {given.side} x {given.side} pixels of each event. Made by "
            "`make recipe`.\n"
        )
        vary = {kind: SHOWN[kind] for kind in ("beta", "L", "f") if kind in wanted}
        for kind, rows in compare(cases, vary, protocol):
            parts += [TITLES[kind], table(rows)]
        if "sampler" in wanted:
            rows = compare_samplers(events, protocol)
            parts += [TITLES["sampler"], table(rows)]


if __name__ == "__main__":
    main()
