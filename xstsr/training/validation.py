r"""Validation: scores in physical units on crops that stay the same for a whole run.

The crops are drawn once, from a fixed seed and for a few fixed factors. The mean is
judged by its RMSE over that of conserving linear interpolation; once there is a
denoiser, also a small ensemble by its fair CRPS over that of the better of nearest and
linear, and by its spread over its skill. Errors are averaged over the crops of a factor
before they are divided, so that a dry crop does no harm.

Everything here is a function of (weights, crops): validating changes no training.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xstsr.conservation.constraint import conserve
from xstsr.diffusion.checkpoint import atomic_save, save_model
from xstsr.diffusion.model import Model
from xstsr.diffusion.noise import normal
from xstsr.errors import DataError
from xstsr.methods import baselines
from xstsr.planning.job import GAIN_CAP
from xstsr.training.config import Draw
from xstsr.training.events import Event
from xstsr.training.loop import STAGES, Run
from xstsr.training.losses import condition_inputs
from xstsr.training.patches import Batch, crop_size, draw_batch, possible_factors
from xstsr.typing import Array, Constraint
from xstsr.verification.scores import fair_crps, ratio, rmse_of_mean, spread_skill

FACTORS = ((4, 2), (10, 3), (25, 6))  # (s, t) that are judged, where they are trained
REALIZATIONS, STEPS = 4, 4
_CROPS = 4  # per factor, at most; one for each event
_SEED = 0


@dataclass(frozen=True)
class Case:
    """One crop that is judged, with the errors of the baselines.

    Parameters
    ----------
    batch : Batch
        A batch of one.
    number : int
        Tells its noise from that of the others.
    linear_rmse, linear_crps, nearest_crps : float
        Of conserving interpolation and of nearest, in the unit of the field.
    """

    batch: Batch
    number: int
    linear_rmse: float
    linear_crps: float
    nearest_crps: float


@dataclass(frozen=True)
class Score:
    """What a model reaches at one factor.

    Parameters
    ----------
    step : int
        Steps of training so far.
    stage : str
        ``"mean"``, ``"residual"`` or ``"generator"``.
    s, t : int
        The factor.
    rmse_ratio : float
        RMSE of the mean over that of conserving linear.
    crps_ratio, spread_skill : float
        Of the ensemble; NaN in the mean stage.
    """

    step: int
    stage: str
    s: int
    t: int
    rmse_ratio: float
    crps_ratio: float = math.nan
    spread_skill: float = math.nan


def draw_cases(events: Sequence[Event], draw: Draw) -> list[Case]:
    """Draw the crops that a whole run is judged on.

    Parameters
    ----------
    events : sequence of Event
        Validation data; each gives a crop per factor, up to four events.
    draw : Draw
        How the training's examples are drawn.

    Raises
    ------
    DataError
        No event holds a crop, or what they hold is too plain to judge anything.
    """
    still = replace(
        draw, pixels=1, frames=(min(draw.frames),), coarsening=(1,), stride=(1,)
    )
    cases: list[Case] = []
    for j, (s, t) in enumerate(_judged_factors(events, draw)):
        factor = replace(still, s=(s,), t=(t,))
        fitting = [e for e in events if crop_size([e], (t, s, s), 1, factor)]
        for i in range(min(len(fitting), _CROPS)):
            batch = draw_batch([fitting[(i + j) % len(fitting)]], _SEED, i, factor)
            cases.append(_with_baselines(batch, len(cases), events[0].constraint))
    if not any(case.linear_rmse > 0 for case in cases):
        raise DataError(
            f"cannot validate on {[e.name for e in events]}: the field is uniform in "
            f"all {len(cases)} crops. Pass events with more rain."
        )
    return cases


@torch.no_grad()
def judge(
    model: Model,
    cases: Sequence[Case],
    step: int,
    precision: Callable[[], AbstractContextManager[object]],
    stage: str,
) -> list[Score]:
    """Score a model on fixed crops.

    Parameters
    ----------
    model : Model
        The averaged weights.
    cases : sequence of Case
        From `draw_cases`.
    step : int
        Steps of training so far.
    precision : callable
        Gives the context to compute in, as in training.
    stage : str
        The last one that was trained: the ensemble is drawn by its network.

    Returns
    -------
    list of Score
        One for each factor.
    """
    model.eval()
    by_factor: dict[tuple[int, int], list[tuple[Case, list[float]]]] = {}
    for case in cases:
        t, s, _ = case.batch.factor
        with precision():
            mean, ensemble = _predict(model, case, stage)
        truth = case.batch.fine[0].numpy()
        errors = [rmse_of_mean(mean, truth)]
        if ensemble is not None:
            errors += [fair_crps(ensemble, truth), spread_skill(ensemble, truth)]
        by_factor.setdefault((s, t), []).append((case, errors))
    return [
        Score(step, stage, s, t, *_ratios(judged))
        for (s, t), judged in by_factor.items()
    ]


def summary(scores: Sequence[Score]) -> tuple[int, float]:
    """Say how good a model is: the smaller, the better.

    A model with a trained denoiser is better than any without, and one with a trained
    generator than both; among equals, the geometric mean over the factors of the CRPS
    ratio, or of the RMSE ratio, counts.
    """
    stage = scores[0].stage
    ratios = [x.rmse_ratio if stage == "mean" else x.crps_ratio for x in scores]
    logs = [math.log(r) for r in ratios if r > 0]  # NaN: all crops of a factor are dry
    return -STAGES.index(stage), math.exp(sum(logs) / len(logs)) if logs else math.inf


def read_scores(path: Path, until: int) -> list[list[Score]]:
    """Read the scores of every validation of a run, up to a step.

    Parameters
    ----------
    path : Path
        ``validation.csv``; it need not exist.
    until : int
        Later ones are left out: the run goes on from this step.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            Score(int(a), b, int(c), int(d), float(e), float(f), float(g))
            for a, b, c, d, e, f, g in list(csv.reader(file))[1:]
        ]
    steps = sorted({row.step for row in rows if row.step <= until})
    return [[row for row in rows if row.step == step] for step in steps]


def write_scores(path: Path, scores: Sequence[Sequence[Score]]) -> None:
    """Write the scores of every validation, one line for each factor."""
    with (
        atomic_save(path) as side,
        side.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([f.name for f in fields(Score)])
        writer.writerows(
            [f"{v:.6g}" if isinstance(v, float) else v for v in astuple(row)]
            for rows in scores
            for row in rows
        )


class Judge:
    """Validate a run now and then, and keep its best averaged weights.

    Parameters
    ----------
    cases : sequence of Case
        From `draw_cases`.
    folder : Path
        Of the run: ``validation.csv`` and ``best.safetensors`` are written there.
    card : callable
        Gives the model card of the run for its scores.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        folder: Path,
        card: Callable[[Sequence[Score]], Mapping[str, Any]],
    ) -> None:
        self.cases = cases
        self.scores = folder / "validation.csv"
        self.best = folder / "best.safetensors"
        self.card = card

    def __call__(self, run: Run) -> None:
        """Score the run; write the scores, and its weights if none were better.

        Raises
        ------
        CheckpointError
            There is no space; what was written before is as it was.
        """
        past = read_scores(self.scores, run.step - 1)
        now = judge(
            run.average,
            self.cases,
            run.step,
            run.fabric.autocast,
            run.trained,
        )
        if all(summary(now) < summary(scores) for scores in past):
            save_model(run.average, self.best, self.card(now))
        write_scores(self.scores, [*past, now])

    def last(self, step: int) -> list[Score]:
        """Give the scores of a step, if it was validated."""
        past = read_scores(self.scores, step)
        return past[-1] if past and past[-1][0].step == step else []


def _judged_factors(events: Sequence[Event], draw: Draw) -> list[tuple[int, int]]:
    """Choose the factors to judge: the usual ones, or the smallest and the largest."""
    possible = sorted(possible_factors(events, draw), key=lambda f: f[0] ** 2 * f[1])
    usual = [f for f in FACTORS if f in possible]
    return usual or sorted({possible[0], possible[-1]})


def _with_baselines(batch: Batch, number: int, constraint: Constraint) -> Case:
    """Judge the baselines on a crop, once and for all."""
    coarse, truth = batch.coarse[0].numpy(), batch.fine[0].numpy()
    linear = baselines.linear(coarse, batch.factor)[None]
    linear = _conserved(linear, batch, constraint)
    nearest = baselines.nearest(coarse, batch.factor)[None]
    return Case(
        batch,
        number,
        rmse_of_mean(linear, truth),
        fair_crps(linear, truth),
        fair_crps(nearest, truth),
    )


def _predict(model: Model, case: Case, stage: str) -> tuple[Array, Array | None]:
    """Estimate the mean, and draw an ensemble; shapes (1 or R, T, Y, X)."""
    device = model.sigma_data.coefficients.device
    batch = case.batch.to(device)
    condition = model.condition(
        batch.coarse, batch.factor, *condition_inputs(batch), known=batch.known
    )
    transform = model.spec.transform
    constraint = transform.constraint
    mean = condition.means.rate[:, 0].cpu().numpy()
    if stage == "mean":
        return _conserved(mean, case.batch, constraint), None
    frames, rows, columns = mean.shape[1:]

    def noise(realization: int, draw: int = 0) -> Tensor:
        white = normal(
            np.arange(frames),
            (rows, columns),
            seed=0,
            realization=realization,
            stream=case.number,
            draw=draw,
            device=device,
        )
        return white[None, None]

    def draw(realization: int) -> Tensor:
        white = noise(realization)
        if stage == "generator":
            return transform.inverse(model.generate(condition, white))
        fresh = partial(noise, realization)
        return model.sample(condition, white, steps=STEPS, fresh=fresh)

    drawn = [draw(r) for r in range(REALIZATIONS)]
    ensemble = torch.cat(drawn)[:, 0].cpu().numpy()
    return (
        _conserved(mean, case.batch, constraint),
        _conserved(ensemble, case.batch, constraint),
    )


def _conserved(raw: Array, batch: Batch, constraint: Constraint) -> Array:
    """Make raw fields, shape (R, T, Y, X), agree with the coarse one, as `upscale`."""
    return np.asarray(
        conserve(
            raw,
            batch.coarse.numpy(),
            batch.factor,
            constraint=constraint,
            gain_cap=GAIN_CAP,
        )
    )


def _ratios(judged: Sequence[tuple[Case, list[float]]]) -> list[float]:
    """Divide the errors of a factor's crops by the baselines'."""
    cases, errors = [c for c, _ in judged], np.array([e for _, e in judged])
    ratios = [ratio(errors[:, 0].mean(), fmean(c.linear_rmse for c in cases))]
    if errors.shape[1] > 1:
        linear = fmean(c.linear_crps for c in cases)
        nearest = fmean(c.nearest_crps for c in cases)
        known = errors[np.isfinite(errors[:, 2]), 2]
        ratios.append(ratio(errors[:, 1].mean(), min(linear, nearest)))
        ratios.append(float(known.mean()) if known.size else math.nan)
    return ratios
