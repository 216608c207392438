r"""Samplers: from white noise to a residual, one function each.

A sampler takes a denoiser :math:`D(x, \sigma)`, the noise levels and
:math:`x = \sigma_{max} \epsilon`, and is deterministic from there. To add one, write a
function of the same form and name it in `SAMPLERS`.

References
----------
.. [1] Karras et al. (2022), arXiv 2206.00364.
.. [2] Lu et al. (2022), DPM-Solver++. arXiv 2211.01095.
"""

import math
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
Sampler = Callable[[Denoise, Tensor, list[float]], Tensor]


def sigmas_karras(
    steps: int, *, sigma_min: float = 0.03, sigma_max: float = 25.0, rho: float = 7.0
) -> list[float]:
    """Noise levels from large to small, then 0 (Karras 2022, eq. 5).

    Parameters
    ----------
    steps : int
        Evaluations; the list has steps + 1 entries.
    sigma_min, sigma_max, rho : float
        Range in units of sigma_data, and how strongly small levels are preferred.
    """
    if steps == 1:
        return [sigma_max, 0.0]
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    ramp = [(high + i / (steps - 1) * (low - high)) ** rho for i in range(steps)]
    return [*ramp, 0.0]


def dpm_solver_2m(denoise: Denoise, x: Tensor, sigmas: list[float]) -> Tensor:
    """Integrate with DPM-Solver++(2M) [2]_: second order, one evaluation a step.

    Parameters
    ----------
    denoise : callable
        (x, sigma) -> expected clean x.
    x : Tensor, shape (B, 1, T, Y, X)
        Noise of standard deviation sigmas[0].
    sigmas : list of float
        Decreasing, the last one 0.

    Returns
    -------
    Tensor, shape of `x`
    """
    before, h_before = None, 0.0
    for sigma, following in pairwise(sigmas):
        clean = denoise(x, sigma)
        if following == 0:
            return clean
        h = math.log(sigma / following)
        target = clean
        if before is not None:
            slope = h / (2 * h_before)
            target = (1 + slope) * clean - slope * before
        x = (following / sigma) * x - math.expm1(-h) * target
        before, h_before = clean, h
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: list[float]) -> Tensor:
    """Integrate with Heun's method [1]_: second order, two evaluations a step.

    Parameters
    ----------
    denoise : callable
        (x, sigma) -> expected clean x.
    x : Tensor, shape (B, 1, T, Y, X)
        Noise of standard deviation sigmas[0].
    sigmas : list of float
        Decreasing, the last one 0.

    Returns
    -------
    Tensor, shape of `x`
    """
    for sigma, following in pairwise(sigmas):
        slope = (x - denoise(x, sigma)) / sigma
        euler = x + (following - sigma) * slope
        if following == 0:
            return euler
        ahead = (euler - denoise(euler, following)) / following
        x = x + (following - sigma) * 0.5 * (slope + ahead)
    return x


SAMPLERS: dict[str, Sampler] = {"dpm-solver++": dpm_solver_2m, "heun": heun}


def initial(noise: Tensor, sigmas: list[float]) -> Tensor:
    """Scale white noise of any shape to the first noise level."""
    return noise * math.sqrt(sigmas[0] ** 2 + 1.0)


__all__ = ["SAMPLERS", "dpm_solver_2m", "heun", "initial", "sigmas_karras"]
