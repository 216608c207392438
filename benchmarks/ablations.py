"""Train small models that each lack one thing, and measure what it was worth.

    python -m benchmarks.ablations                          # go on where it was stopped
    python -m benchmarks.ablations --variants base,attention

All variants have a million weights and take the same number of steps on the same
examples, from scratch; they are scored on events that none has seen. What is done is
kept in ``runs/ablations``: a stopped command goes on, a finished variant is not
trained again.

Nothing in the package can be switched off for this: a variant replaces one function
while it trains and while it is scored. The base model from another seed tells how much
is chance.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from benchmarks.common import (
    DATA,
    Event,
    arguments,
    geometric_mean,
    open_events,
    protocol_of,
    report,
    say,
    short,
    table,
)
from xstsr.conservation.balance import coarsen
from xstsr.diffusion.checkpoint import fingerprint, load_model, read_header
from xstsr.diffusion.denoiser import SigmaData
from xstsr.diffusion.features import Features, refine, scalars_of
from xstsr.diffusion.network import Architecture, SpaceTimeUNet
from xstsr.errors import AssumptionWarning
from xstsr.evaluation.protocol import (
    BASELINES,
    Protocol,
    parse_factors,
    ratios,
    score_events,
)
from xstsr.methods.recipe import Recipe
from xstsr.training import train
from xstsr.training.config import Config, Draw
from xstsr.typing import Factor

FACTORS = "4x2,10x3,25x6,7x1"
SPECIAL = (10, 3)
SMALL = Architecture(widths=(24, 48, 64, 96), blocks=1, embedding=64)
# without attention, as many weights in the convolutions instead
PLAIN = replace(SMALL, widths=(24, 50, 74, 116), temporal=(), window=0)
EXAMPLES = Draw(pixels=120_000)
AVERAGE = ((3, 8, 8), 1.6, 10.0)  # a common factor (t, s, s), spacing [km], step [min]


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Leave everything as it is."""
    yield


@contextlib.contextmanager
def one_frame() -> Iterator[None]:
    """Let attention see one coarse frame."""
    rule = Recipe.for_factors

    def for_factors(cls: type[Recipe], s: float, t: int, *, step: float) -> Recipe:
        return replace(rule(s, t, step=step), context=1)

    with patch.object(Recipe, "for_factors", classmethod(for_factors)):
        yield


@contextlib.contextmanager
def unconstrained() -> Iterator[None]:
    """Take the multiplicative layer out of the mean network; dry cells stay dry."""

    def multiply(weight: Tensor, coarse: Tensor, factor: Factor) -> Tensor:
        wet = (torch.nan_to_num(coarse) > 0).to(weight.dtype)
        return weight * refine(wet, factor)[:, None]

    with patch("xstsr.diffusion.mean.multiply", multiply):
        yield


@contextlib.contextmanager
def one_sigma() -> Iterator[None]:
    """Give every setting the residual's width at one common setting."""
    power_law = SigmaData.forward

    def forward(self: SigmaData, scalars: Tensor) -> Tensor:
        factor, spacing, step = AVERAGE
        common = scalars_of(factor, torch.tensor([spacing]), torch.tensor([step]))
        return power_law(self, common.to(scalars).expand_as(scalars))

    with patch.object(SigmaData, "forward", forward):
        yield


@contextlib.contextmanager
def no_spacing() -> Iterator[None]:
    """Hide the spacing and the step from both networks."""
    run = SpaceTimeUNet.forward

    def forward(
        self: SpaceTimeUNet, maps: Tensor, scalars: Tensor, features: Features
    ) -> Tensor:
        known = torch.ones_like(scalars)
        known[:, 2:4] = 0  # log spacing and log step
        return run(self, maps, scalars * known, features)

    with patch.object(SpaceTimeUNet, "forward", forward):
        yield


@dataclass(frozen=True)
class Variant:
    """One thing left out.

    Parameters
    ----------
    told : str
        What it lacks, in words.
    without : callable
        Gives the context in which it is trained and scored.
    architecture : Architecture
        Of both networks.
    draw : Draw
        Its training examples.
    seed : int
        Of weights, examples and noise.
    """

    told: str
    without: Callable[[], AbstractContextManager[None]] = whole
    architecture: Architecture = SMALL
    draw: Draw = EXAMPLES
    seed: int = 0

    def config(self, mean_steps: int, residual_steps: int) -> Config:
        """Give all numbers of its training."""
        spec = replace(
            Config().spec, mean=self.architecture, denoiser=self.architecture
        )
        return Config(
            spec=spec,
            draw=self.draw,
            mean_steps=mean_steps,
            residual_steps=residual_steps,
            seed=self.seed,
        )


VARIANTS = {
    "base": Variant("nothing"),
    "seed": Variant("nothing, from another seed", seed=1),
    "attention": Variant("attention over time and space", architecture=PLAIN),
    "context": Variant("context: L is one frame", one_frame),
    "constraint": Variant("the constraint in the mean network", unconstrained),
    "sigma": Variant("sigma_data of each factor: one for all", one_sigma),
    "spacing": Variant("conditioning on spacing and step", no_spacing),
    "specialist": Variant(
        f"all factors but {SPECIAL[0]}x{SPECIAL[1]}",
        draw=replace(EXAMPLES, s=SPECIAL[:1], t=SPECIAL[1:]),
    ),
}


def judged_events(folder: Path) -> list[Event]:
    """Open the events, and the longest of them at twice the spacing and step too."""
    events = open_events(folder)
    name, da = max(events, key=lambda event: event[1].sizes["time"])
    return [*events, (f"{short(name)}-coarser", coarsen(da, 2, 2))]


def scored(
    path: Path, made_by: str, events: list[Event], protocol: Protocol, factors: str
) -> xr.Dataset:
    """Score once: what was scored before in the same way is read back."""
    if path.exists():
        with xr.open_dataset(path) as kept:
            if kept.attrs.get("made_by") == made_by:
                return kept.load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        scores = score_events(events, parse_factors(factors), protocol, say)
    scores.attrs["made_by"] = made_by
    path.parent.mkdir(parents=True, exist_ok=True)
    scores.to_netcdf(path)
    return scores


def trained(name: str, data: Path, given: Any) -> str | None:
    """Train a variant, or go on; its model's path, or None if it was stopped."""
    variant, folder = VARIANTS[name], given.folder / name
    config = variant.config(given.mean_steps, given.residual_steps)
    say(f"{name}: without {variant.told}")
    with variant.without():
        path = train(data, folder, config=config, minutes=given.minutes, say=say)
    steps = sum(read_header(path)["card"]["training steps"].values())
    total = config.mean_steps + config.residual_steps
    if steps < total:
        say(f"{name}: stopped at step {steps} of {total}; the same command goes on")
        return None
    return str(path)


def row_of(
    name: str, path: str, scores: xr.Dataset, base: xr.Dataset
) -> dict[str, str | float]:
    """Write a variant's row: size, cost, and each factor over the base model."""
    model = load_model(path)
    row: dict[str, str | float] = {
        "without": VARIANTS[name].told,
        "weights": f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M",
        "training": ", ".join(read_header(path)["card"]["cost"].values()),
    }
    crps = ratios(scores) / ratios(base)
    for factor in base.factor.values:
        told = "-"
        if factor in scores.factor.values:
            spread = scores.spread_skill.sel({"factor": factor, "method": "diffusion"})
            change = 100 * (geometric_mean(crps.sel(factor=factor)) - 1)
            told = f"{change:+.1f} %, {float(spread.mean()):.2f}"
        row[str(factor)] = told
    row["all"] = f"{100 * (geometric_mean(crps) - 1):+.1f} %"
    return row


def detail(name: str, scores: xr.Dataset) -> list[dict[str, str | float]]:
    """List a variant's figures by event and factor."""
    crps = ratios(scores)
    own = scores.sel({"method": "diffusion"})
    return [
        {
            "without": VARIANTS[name].told,
            "event": short(str(e.item())),
            "factor": str(f.item()),
            "CRPS / best baseline": float(crps.sel(event=e, factor=f)),
            "spread/skill": float(own.spread_skill.sel(event=e, factor=f)),
            "q99.9 ratio": float(own["q99.9_ratio"].sel(event=e, factor=f)),
            "RMSE of mean": float(
                scores.rmse.sel({"event": e, "factor": f, "method": "mean"})
            ),
        }
        for e in scores.event
        for f in scores.factor
    ]


def run(names: list[str], given: Any) -> Mapping[str, tuple[str, xr.Dataset]]:
    """Train and score the variants; those that are finished, with model and scores."""
    events = judged_events(given.data)
    protocol = protocol_of(given, model="default")
    how = (
        f"{given.data.name} {given.factors} {given.realizations} {given.steps} "
        f"{given.side} {given.frames}"
    )
    baselines = scored(
        given.folder / "baselines.nc",
        how,
        events,
        replace(protocol, methods=BASELINES),
        given.factors,
    )
    found = {}
    for name in names:
        path = trained(name, given.train, given)
        if path is None:
            continue
        is_special = name == "specialist"
        factors = "x".join(map(str, SPECIAL)) if is_special else given.factors
        own = replace(protocol, methods=("diffusion", "mean"), model=path)
        with VARIANTS[name].without():
            scores = scored(
                given.folder / name / "scores.nc",
                f"{how} {factors} {fingerprint(path)}",
                events,
                own,
                factors,
            )
        alike = baselines.sel(factor=scores.factor)
        found[name] = (path, xr.concat([scores, alike], "method"))
    return found


def main() -> None:
    """Run the command."""
    parser = arguments(__doc__, data="val", out="ablations.md", realizations=8)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--train", type=Path, default=DATA / "train")
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--mean-steps", type=int, default=500)
    parser.add_argument("--residual-steps", type=int, default=1000)
    parser.add_argument(
        "--minutes",
        type=float,
        default=np.inf,
        help="of training per variant, then go on",
    )
    parser.add_argument("--factors", default=FACTORS, help="SxT, between commas")
    parser.add_argument("--side", type=int, default=120, help="pixels along a box")
    parser.add_argument("--frames", type=int, default=12, help="fine frames of a box")
    given = parser.parse_args()
    names = given.variants.split(",")
    if unknown := sorted(set(names) - set(VARIANTS)):
        parser.error(f"no variants {unknown}: choose from {sorted(VARIANTS)}")
    with report(given.out) as parts:
        found = run(names, given)
        parts.append(
            f"# Ablations, on `{given.data.name}/`\n\nSmall models, each trained from "
            f"scratch for {given.mean_steps} + {given.residual_steps} steps on "
            f"`{given.train.name}`, {given.realizations} realizations. For each "
            "factor: fair CRPS over the base model's, as a difference, and "
            "spread/skill. Made by `make ablations`.\n"
        )
        if "base" in found:
            base = found["base"][1]
            parts.append(
                table([row_of(n, path, s, base) for n, (path, s) in found.items()])
            )
        if found:
            parts.append("## By event and factor\n")
            parts.append(
                table([r for n, (_, s) in found.items() for r in detail(n, s)])
            )


if __name__ == "__main__":
    main()
