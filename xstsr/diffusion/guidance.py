r"""Guidance: the coarse field has a say in every late step of the sampling.

A sample whose block means miss the coarse field must be corrected at the end, and a
correction by blocks shows their outlines. Here each estimate of the clean field is
corrected instead, as soon as it resembles a sample, and by a *smooth* field: the
logarithm of the gain that each coarse cell needs (or, for states, its shift) is
interpolated between cell centres. What the correction breaks, the denoiser mends in the
steps that follow; little is left for the exact transform at the end.

While the noise is large the estimate is a mean over many fields. The mean of z is not z
of the mean, and correcting it would take spread away: hence `Settings.guidance`, the
noise level below which it is done.
"""

import torch
from torch import Tensor

from xstsr.diffusion.features import interpolate
from xstsr.diffusion.transform import Transform
from xstsr.typing import Factor

ROUNDS = 2  # a smooth correction meets the block means nearly, a second one closely
# where no denoiser mends what is left: as close as eight rounds without over-relaxation
LAST_ROUNDS, OVER = 5, 1.5
CAP = 4.0  # the largest gain of one round; an almost dry block would ask for any


def guide(
    z: Tensor,
    coarse: Tensor,
    factor: Factor,
    transform: Transform,
    rounds: int = ROUNDS,
    relaxation: float = 1.0,
) -> Tensor:
    """Bring the block means of a field close to the coarse field, smoothly.

    Parameters
    ----------
    z : Tensor, shape (B, 1, T t, Y sy, X sx)
        Estimate of the transformed fine field.
    coarse : Tensor, shape (B, T, Y, X)
        What the block means should be; NaN where there are no data.
    factor : tuple of int
        (t, sy, sx).
    transform : Transform
        The value space of `z`.
    rounds : int
        Corrections, one after the other.
    relaxation : float
        Factor on each of them: a smooth correction falls short of what blocks need.

    Returns
    -------
    Tensor, shape of `z`
    """
    correct = _scale if transform.constraint == "multiplicative" else _shift
    given = transform.inverse(z)[:, 0]
    value = given
    is_open = transform.is_open(coarse)
    target = torch.where(is_open, coarse, transform.rest)
    for _ in range(rounds):
        value = correct(value, target, is_open, factor, relaxation)
    # what the transform has set to dry keeps its z, which a gain cannot change
    moved = torch.where(value == given, z[:, 0], transform.forward(value))
    return moved[:, None]


def _scale(
    value: Tensor, target: Tensor, is_open: Tensor, factor: Factor, relaxation: float
) -> Tensor:
    """Multiply by a smooth gain."""
    gain = target / _block_mean(value, factor).clamp(min=1e-6)
    wanted = torch.where(is_open, gain.clamp(1 / CAP, CAP).log() * relaxation, 0.0)
    return value * interpolate(wanted, is_open, factor).exp()


def _shift(
    value: Tensor, target: Tensor, is_open: Tensor, factor: Factor, relaxation: float
) -> Tensor:
    """Add a smooth shift."""
    missing = target - _block_mean(value, factor)
    wanted = torch.where(is_open, missing * relaxation, 0.0)
    return value + interpolate(wanted, is_open, factor)


def _block_mean(value: Tensor, factor: Factor) -> Tensor:
    """Mean of each block; (B, T t, Y sy, X sx) to (B, T, Y, X)."""
    b, t, y, x = value.shape
    ft, fy, fx = factor
    blocks = value.reshape(b, t // ft, ft, y // fy, fy, x // fx, fx)
    # along x first, where values lie side by side
    return blocks.sum(dim=6).sum(dim=(2, 4)) / (ft * fy * fx)
