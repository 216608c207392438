"""What the two stages minimise, and what is fitted between them.

Both losses take a batch and give one number. All weights depend on what the network is
given, never on what it has to tell, so that the minimum is the conditional mean, or the
conditional distribution.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from xstsr.diffusion.denoiser import Condition, loss_weight
from xstsr.diffusion.features import Features
from xstsr.diffusion.mean import multiply
from xstsr.diffusion.model import Model
from xstsr.diffusion.transform import StateTransform
from xstsr.errors import DataError
from xstsr.methods.recipe import Recipe
from xstsr.training.config import Config
from xstsr.training.crps import crps_loss
from xstsr.training.patches import Batch

_DRIZZLE = 0.1  # mm/h
_ENOUGH = 500  # pixels, or half of a small crop, to take a residual's variance from


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
    States have one mean, that of z.
    """
    transform = model.spec.transform
    seen = model.look(
        batch.coarse, batch.factor, *condition_inputs(batch), known=batch.known
    )
    means = model.mean(seen, batch.coarse, batch.factor)
    rate, valid = _target(batch, seen.wet, transform.rest)
    error_z = (means.z - transform.forward(rate)) ** 2 / model.sigma_data(seen.scalars)
    if isinstance(transform, StateTransform):
        return _average(error_z, valid)
    error_rate = (means.rate - rate) ** 2 / (seen.rate + 0.2)
    of_z = _average(error_z, valid * importance(seen, config.emphasis))
    return of_z + config.rain_weight * _average(error_rate, valid)


def importance(seen: Features, emphasis: float) -> Tensor:
    """Weight of each pixel's error of z, from its interpolated rain; any shape."""
    return (seen.rate + _DRIZZLE) ** emphasis


def residual_loss(
    model: Model, batch: Batch, config: Config, step: int, rank: int = 0
) -> Tensor:
    """Denoising loss of Karras et al. (2022) on the normalised residual."""
    condition, residual, valid = residual_of(model, batch)
    draw = _random(config.seed, step, rank)
    t, s, _ = batch.factor
    centre = config.sigma_mean + config.sigma_slope * math.log(s * math.sqrt(t))
    spread = config.sigma_spread * torch.randn(len(residual), generator=draw)
    sigma = (centre + spread).exp().to(residual.device)
    noise = torch.randn(residual.shape, generator=draw).to(residual.device)
    level = sigma[:, None, None, None, None]
    clean = model.denoiser(residual + level * noise, sigma, condition)
    error = loss_weight(level) * (clean - residual) ** 2
    if isinstance(model.spec.transform, StateTransform):
        return _average(error, valid)
    return _average(error, valid * importance(condition.features, config.emphasis))


def generator_loss(
    model: Model, batch: Batch, config: Config, step: int, rank: int = 0
) -> Tensor:
    """Fair CRPS of two draws of the generator, as z and as what the user will get.

    Fields of z tell drizzle from dry; rates, which have passed through the constraint,
    are what is scored in the end. Both are brought to the size of the residual, so that
    all factors count alike.
    """
    condition = model.condition(
        batch.coarse, batch.factor, *condition_inputs(batch), known=batch.known
    )
    transform, seen = model.spec.transform, condition.features
    truth, valid = _target(batch, seen.wet, transform.rest)
    draw = _random(config.seed, step, rank)
    first, second = (
        model.generate(
            condition, torch.randn(truth.shape, generator=draw).to(truth.device)
        )
        for _ in range(2)
    )
    width = model.sigma_data(seen.scalars)
    weight = valid
    if not isinstance(transform, StateTransform):
        weight = valid * importance(seen, config.emphasis)
    of_z = crps_loss(
        first / width, second / width, transform.forward(truth) / width, weight
    )
    if isinstance(transform, StateTransform):
        return of_z

    def kept(z: Tensor) -> Tensor:
        return multiply(transform.inverse(z), batch.coarse, batch.factor)

    size = width * (seen.rate + _DRIZZLE)
    of_rates = crps_loss(kept(first) / size, kept(second) / size, truth / size, weight)
    return of_z + of_rates


def _random(seed: int, step: int, rank: int) -> torch.Generator:
    """Random numbers of one step of one process."""
    number = seed * 1_000_003 + step + rank * 100_000_007
    return torch.Generator().manual_seed(number)


@torch.no_grad()
def residual_of(model: Model, batch: Batch) -> tuple[Condition, Tensor, Tensor]:
    """Normalised residual of a batch, with its condition and its valid pixels."""
    condition = model.condition(
        batch.coarse, batch.factor, *condition_inputs(batch), known=batch.known
    )
    transform = model.spec.transform
    rate, valid = _target(batch, condition.features.wet, transform.rest)
    z = transform.forward(rate)
    width = model.sigma_data(condition.features.scalars)
    return condition, (z - condition.means.z) * valid / width, valid


@torch.no_grad()
def fit_sigma_data(model: Model, batches: Iterator[Batch]) -> Tensor:
    """Fit ln sigma_data to the residuals of the mean network by least squares.

    Parameters
    ----------
    model : Model
        With a trained mean.
    batches : iterator of Batch
        Examples.

    Returns
    -------
    Tensor, shape (5,)
        Coefficients of `SigmaData`.

    Raises
    ------
    DataError
        No example holds enough to tell.
    """
    rows, targets = [], []
    for batch in batches:
        condition, residual, valid = residual_of(model, batch)
        scalars = condition.features.scalars
        spread = residual * model.sigma_data(scalars)
        count = valid.sum(dim=(1, 2, 3, 4))
        variance = (spread**2 * valid).sum(dim=(1, 2, 3, 4)) / count.clamp(min=1)
        wet = (count > min(_ENOUGH, valid[0].numel() // 2)) & (variance > 0)
        rows.append(scalars[wet].double().cpu())
        targets.append(variance[wet].double().cpu())
    if not sum(map(len, rows)):
        raise DataError(
            f"cannot fit the spread of the residual: none of {len(rows)} batches holds "
            "an example with rain enough. Train on wetter events, or larger crops."
        )
    return fit_power_law(torch.cat(rows), torch.cat(targets))


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
        c0, then c. On average over the examples, the fitted variance is theirs. Where
        the scalars do not vary, the smallest coefficients that fit.
    """
    x = torch.cat((torch.ones_like(scalars[:, :1]), scalars), dim=1)
    fit: Tensor = torch.linalg.lstsq(x, 0.5 * variance.log()[:, None]).solution[:, 0]
    # the mean of the logarithm lies below the logarithm of the mean: shift
    fit[0] += 0.5 * torch.log((variance / (2 * (x @ fit)).exp()).mean())
    return fit


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
            noisy = model.denoiser.network.architecture.fold**2
            value.zero_()
            value[:, noisy : noisy + given.shape[1]].copy_(given)
            value[:, :noisy].normal_(std=given.std())
        elif name == "embed.0.weight":  # before the noise level
            value[:, : given.shape[1]].copy_(given)


def _target(batch: Batch, wet: Tensor, rest: float) -> tuple[Tensor, Tensor]:
    """Fine values without NaN, and where they count; shapes (B, 1, T, Y, X)."""
    fine = batch.fine[:, None]
    return torch.nan_to_num(fine, nan=rest), torch.isfinite(fine).to(fine.dtype) * wet


def _average(error: Tensor, valid: Tensor) -> Tensor:
    """Mean of an error over valid pixels."""
    return (error * valid).sum() / valid.sum().clamp(min=1.0)
