r"""The training loop: first the conditional mean, then the residual denoiser.

Both stages take the same random examples. Between them, sigma_data(s, t, spacing, step)
is fitted to the residuals of the mean, and the denoiser's U-Net starts from the mean's
weights. A run can be stopped at any step and goes on from its state file; each step
depends on (seed, step) alone, so the result is that of an undisturbed run.
"""

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from xstsr.diffusion.denoiser import Condition, loss_weight
from xstsr.diffusion.features import Features, features
from xstsr.diffusion.model import Model, ModelSpec
from xstsr.diffusion.network import FOLD
from xstsr.recipe import Recipe
from xstsr.training.events import Event
from xstsr.training.patches import Batch, Draw, draw_batch

Report = Callable[[str], None]
_DRIZZLE = 0.1  # mm/h


@dataclass(frozen=True)
class Config:
    """All numbers of a training run.

    Parameters
    ----------
    spec : ModelSpec
        What to train.
    draw : Draw
        How examples are drawn.
    mean_steps, residual_steps : int
        Length of the two stages.
    rate, floor : float
        Learning rate of AdamW at its peak, and the share of it that is left at the end.
    warmup : int
        Steps until the peak.
    decay : float
        Of the exponential moving average of the weights.
    rain_weight : float
        Weight of the mean rain rate's loss beside that of the mean of z.
    emphasis : float
        Errors of z count by (rate + 0.1 mm/h) to this power: at 0 drizzle, which is
        nearly everywhere, takes most of the training; at 1 cloudbursts do. The rate
        is the interpolated coarse one, so that the minimum stays where it was.
    sigma_mean, sigma_slope, sigma_spread : float
        ln sigma ~ N(mean + slope ln(s sqrt t), spread): large factors hold large
        structures, which only large noise hides.
    seed : int
        Of weights, examples and noise.
    """

    spec: ModelSpec = field(default_factory=ModelSpec)
    draw: Draw = field(default_factory=Draw)
    mean_steps: int = 1000
    residual_steps: int = 4300
    rate: float = 1e-3
    floor: float = 0.02
    warmup: int = 100
    decay: float = 0.998
    rain_weight: float = 0.2
    emphasis: float = 0.5
    sigma_mean: float = -0.6
    sigma_slope: float = 0.3
    sigma_spread: float = 1.5
    seed: int = 0


def condition_inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Fine spacing, fine step and temporal reach of a batch; each of shape (B,)."""
    t, s, _ = batch.factor
    reach = [
        Recipe.for_factors(s, t, step=float(m) * t).reach(float(m) * t)
        for m in batch.step
    ]
    return batch.spacing, batch.step, torch.tensor(reach, device=batch.step.device)


def mean_loss(model: Model, batch: Batch, config: Config) -> Tensor:
    """Loss of both conditional means over the valid pixels of wet coarse cells.

    Squared errors of z are weighted by 1 / sigma_data, so that small factors count,
    those of the rate by the inverse of the interpolated rate, about its variance; all
    weights depend on the input alone, so the minimum is still the conditional mean.
    """
    transform = model.spec.transform
    seen = features(batch.coarse, batch.factor, *condition_inputs(batch), transform)
    means = model.mean(seen, batch.coarse, batch.factor)
    rate, valid = _target(batch, seen.wet)
    error_z = (means.z - transform.forward(rate)) ** 2 / model.sigma_data(seen.scalars)
    error_rate = (means.rate - rate) ** 2 / (seen.rate + 0.2)
    of_z = _average(error_z, valid * importance(seen, config.emphasis))
    return of_z + config.rain_weight * _average(error_rate, valid)


def importance(seen: Features, emphasis: float) -> Tensor:
    """Weight of each pixel's error of z, from its interpolated rate; any shape."""
    return (seen.rate + _DRIZZLE) ** emphasis


def residual_loss(model: Model, batch: Batch, config: Config, step: int) -> Tensor:
    """Denoising loss of Karras et al. (2022) on the normalised residual."""
    condition, residual, valid = residual_of(model, batch)
    draw = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    t, s, _ = batch.factor
    centre = config.sigma_mean + config.sigma_slope * math.log(s * math.sqrt(t))
    spread = config.sigma_spread * torch.randn(len(residual), generator=draw)
    sigma = (centre + spread).exp().to(residual.device)
    noise = torch.randn(residual.shape, generator=draw).to(residual.device)
    level = sigma[:, None, None, None, None]
    clean = model.denoiser(residual + level * noise, sigma, condition)
    error = loss_weight(level) * (clean - residual) ** 2
    return _average(error, valid * importance(condition.features, config.emphasis))


@torch.no_grad()
def residual_of(model: Model, batch: Batch) -> tuple[Condition, Tensor, Tensor]:
    """Normalised residual of a batch, with its condition and its valid pixels."""
    condition = model.condition(batch.coarse, batch.factor, *condition_inputs(batch))
    rate, valid = _target(batch, condition.features.wet)
    z = model.spec.transform.forward(rate)
    width = model.sigma_data(condition.features.scalars)
    return condition, (z - condition.means.z) * valid / width, valid


@torch.no_grad()
def fit_sigma_data(model: Model, batches: Iterator[Batch]) -> None:
    """Fit ln sigma_data to the residuals of the mean network by least squares."""
    rows, targets = [], []
    for batch in batches:
        condition, residual, valid = residual_of(model, batch)
        scalars = condition.features.scalars
        spread = residual * model.sigma_data(scalars)
        count = valid.sum(dim=(1, 2, 3, 4))
        variance = (spread**2 * valid).sum(dim=(1, 2, 3, 4)) / count.clamp(min=1)
        wet = (count > 500) & (variance > 0)
        rows.append(scalars[wet].double().cpu())
        targets.append(variance[wet].double().cpu())
    fit = fit_power_law(torch.cat(rows), torch.cat(targets))
    model.sigma_data.coefficients.copy_(fit)


def fit_power_law(scalars: Tensor, variance: Tensor) -> Tensor:
    """Fit ln sigma = c0 + c . scalars by least squares.

    Parameters
    ----------
    scalars : Tensor, shape (N, 4)
        log s, log t, log spacing, log step.
    variance : Tensor, shape (N,)
        Of the residuals of each example.

    Returns
    -------
    Tensor, shape (5,)
        c0, then c. On average over the examples, the fitted variance is theirs.
    """
    x = torch.cat((torch.ones_like(scalars[:, :1]), scalars), dim=1)
    fit: Tensor = torch.linalg.lstsq(x, 0.5 * variance.log()[:, None]).solution[:, 0]
    # the mean of the logarithm lies below the logarithm of the mean: shift
    fit[0] += 0.5 * torch.log((variance / (2 * (x @ fit)).exp()).mean())
    return fit


class Run:
    """One training run with its state on disk.

    Parameters
    ----------
    config : Config
        All numbers.
    folder : Path
        Where `state.pt` lies.
    device : str
        Where to train.
    start : Model, optional
        What to fine-tune; by default the weights start at random.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        device: str = "cpu",
        start: Model | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.folder = folder
        self.device = torch.device(device)
        self.fine_tunes = start is not None
        fresh = Model(config.spec) if start is None else copy.deepcopy(start)
        self.model = fresh.requires_grad_(True).to(self.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.step = 0
        self.optimizer = self._fresh_optimizer()
        self.state = folder / "state.pt"
        if self.state.exists():
            self._load()

    @property
    def total(self) -> int:
        """Steps of both stages."""
        return self.config.mean_steps + self.config.residual_steps

    @property
    def in_mean_stage(self) -> bool:
        """Whether the conditional mean is being trained."""
        return self.step < self.config.mean_steps

    def go(
        self,
        events: Sequence[Event],
        *,
        minutes: float = math.inf,
        until: int | None = None,
        every: int = 50,
        report: Report = print,
    ) -> None:
        """Train to the end, or for some minutes, or until a step; save the state.

        Parameters
        ----------
        events : sequence of Event
            What to train on.
        minutes : float
            Stop after so long.
        until : int, optional
            Stop after this step.
        every : int
            Steps between two reports.
        report : callable
            Takes a line ``step,stage,loss,seconds a step``.
        """
        end, shown, losses = time.monotonic() + 60 * minutes, time.monotonic(), []
        last = self.total if until is None else min(until, self.total)
        while self.step < last and time.monotonic() < end:
            batch = draw_batch(events, self.config.seed, self.step, self.config.draw)
            losses.append(self.advance(_to(batch, self.device)))
            if self.step == self.config.mean_steps:
                self._change_stage(events)
            if self.step % every == 0 or self.step == last:
                pace = (time.monotonic() - shown) / len(losses)
                stage = "mean" if self.in_mean_stage else "residual"
                report(
                    f"{self.step},{stage},{sum(losses) / len(losses):.5f},{pace:.3f}"
                )
                shown, losses = time.monotonic(), []
            if self.step % (4 * every) == 0:
                self.save()
        self.save()

    def advance(self, batch: Batch) -> float:
        """Take one step on one batch; returns the loss."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        with self._precision():
            if self.in_mean_stage:
                loss = mean_loss(self.model, batch, self.config)
            else:
                loss = residual_loss(self.model, batch, self.config, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._trained().parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        self._track()
        return float(loss.detach())

    def save(self) -> None:
        """Write the state to a side file, then put it in place."""
        self.folder.mkdir(parents=True, exist_ok=True)
        side = self.state.with_suffix(".part")
        torch.save(
            {
                "step": self.step,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
            side,
        )
        side.replace(self.state)

    def _load(self) -> None:
        state = torch.load(self.state, map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer = self._fresh_optimizer()
        self.optimizer.load_state_dict(state["optimizer"])

    def _trained(self) -> nn.Module:
        """Return the network of this stage."""
        return self.model.mean if self.in_mean_stage else self.model.denoiser

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self._trained().parameters(), lr=self.config.rate, betas=(0.9, 0.99)
        )

    def _learning_rate(self) -> float:
        """Warm up, then fall along a cosine to the floor, in each stage anew."""
        c = self.config
        stage = c.mean_steps if self.in_mean_stage else c.residual_steps
        at = self.step if self.in_mean_stage else self.step - c.mean_steps
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, at / max(1, stage))))
        return (
            c.rate * min(1.0, (at + 1) / c.warmup) * (c.floor + (1 - c.floor) * cosine)
        )

    def _track(self) -> None:
        """Update the moving average of the weights, faster at first."""
        at = (
            self.step
            if self.step <= self.config.mean_steps
            else self.step - self.config.mean_steps
        )
        decay = min(self.config.decay, (1 + at) / (10 + at))
        mean, own = self.average.state_dict(), self.model.state_dict()
        with torch.no_grad():
            for name, value in own.items():
                mean[name].lerp_(value, 1 - decay)

    def _change_stage(self, events: Sequence[Event]) -> None:
        """Keep the averaged mean, fit sigma_data, and start a new denoiser from it."""
        self.model.mean.load_state_dict(self.average.mean.state_dict())
        self.model.eval()
        with self._precision():
            fit_sigma_data(
                self.model,
                (
                    _to(
                        draw_batch(events, self.config.seed + 1, i, self.config.draw),
                        self.device,
                    )
                    for i in range(64)
                ),
            )
        if not self.fine_tunes:
            warm_start(self.model)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = self._fresh_optimizer()

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


@torch.no_grad()
def warm_start(model: Model) -> None:
    """Start the denoiser's U-Net from the mean's, where their shapes agree.

    The channels that only the denoiser has start at zero weight.
    """
    source = model.mean.network.state_dict()
    target = model.denoiser.network.state_dict()
    for name, value in target.items():
        given = source.get(name)
        if given is None or name.startswith("leave.2"):
            continue
        if given.shape == value.shape:
            value.copy_(given)
        elif name == "enter.weight":  # behind the noisy residual's channels
            value.zero_()
            value[:, FOLD**2 : FOLD**2 + given.shape[1]].copy_(given)
            value[:, : FOLD**2].normal_(std=given.std())
        elif name == "embed.0.weight":  # before the noise level
            value[:, : given.shape[1]].copy_(given)


def _target(batch: Batch, wet: Tensor) -> tuple[Tensor, Tensor]:
    """Fine rates without NaN, and where they count; shapes (B, 1, T, Y, X)."""
    fine = batch.fine[:, None]
    return torch.nan_to_num(fine), torch.isfinite(fine).to(fine.dtype) * wet


def _average(error: Tensor, valid: Tensor) -> Tensor:
    """Mean of an error over valid pixels."""
    return (error * valid).sum() / valid.sum().clamp(min=1.0)


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(
        batch.fine.to(device),
        batch.coarse.to(device),
        batch.factor,
        batch.spacing.to(device),
        batch.step.to(device),
    )
