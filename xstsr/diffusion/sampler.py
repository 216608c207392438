r"""Samplers: from white noise to a residual, one function each.

A sampler takes a denoiser :math:`D(x, \sigma)`, noise levels that fall to 0, and
:math:`x` of the first level. The two solvers of the probability flow are deterministic
from there; the ancestral one draws fresh noise at every step. To add a sampler, write a
function of the same form and enter it in `SAMPLERS` with its noise levels.

``steps`` counts evaluations of the denoiser, for every sampler: they are the cost.

References
----------
.. [1] Karras et al. (2022), Elucidating the design space of diffusion-based generative
   models. arXiv 2206.00364.
.. [2] Lu et al. (2022), DPM-Solver++. arXiv 2211.01095.
.. [3] Ho et al. (2020), Denoising diffusion probabilistic models. arXiv 2006.11239.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul

from torch import Tensor

from xstsr.errors import XstsrError

Denoise = Callable[[Tensor, float], Tensor]
Fresh = Callable[[int], Tensor]  # white noise for step 1, 2, ..., of the shape of x
Integrate = Callable[[Denoise, Tensor, list[float], Fresh | None], Tensor]

BETA_START, LENGTH = 1e-4, 1000  # of the linear schedule of Ho et al. and the paper


@dataclass(frozen=True)
class Schedule:
    """The numbers that fix the noise levels, in units of sigma_data.

    Parameters
    ----------
    sigma_min, sigma_max, rho : float
        Range of the levels of Karras et al., and how strongly small ones are preferred.
    beta_end : float
        Where the linear schedule of the ancestral sampler ends. The paper's larger beta
        for larger factors is in sigma_data already, so one number serves them all.
    """

    sigma_min: float = 0.03
    sigma_max: float = 80.0
    rho: float = 7.0
    beta_end: float = 0.02


@dataclass(frozen=True)
class Sampler:
    """One way from noise to a residual.

    Parameters
    ----------
    integrate : callable
        (denoiser, x, noise levels, fresh noise) -> residual.
    levels : callable
        (count, schedule) -> so many noise levels from large to small, then 0.
    evaluations : int
        Evaluations of the denoiser at each level; at the last one there is one.
    most : int, optional
        Most evaluations that the levels allow.
    """

    integrate: Integrate
    levels: Callable[[int, Schedule], list[float]]
    evaluations: int = 1
    most: int | None = None

    @property
    def least(self) -> int:
        """Fewest evaluations: two levels, for one gives the mean of all samples."""
        return self.evaluations + 1

    def used(self, steps: int) -> int:
        """Count the evaluations, of those allowed, that whole levels take."""
        return steps - (steps - 1) % self.evaluations

    def sigmas(self, steps: int, schedule: Schedule) -> list[float]:
        """Choose the noise levels, then 0, for so many evaluations."""
        return self.levels((steps - 1) // self.evaluations + 1, schedule)


def sigmas_karras(
    count: int, *, sigma_min: float = 0.03, sigma_max: float = 80.0, rho: float = 7.0
) -> list[float]:
    """Noise levels from large to small, then 0 (Karras 2022, eq. 5).

    Parameters
    ----------
    count : int
        Levels above 0, one or more; a single one is `sigma_max`.
    sigma_min, sigma_max, rho : float
        As in `Schedule`.

    Returns
    -------
    list of float, shape (count + 1,)
    """
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    last = max(count - 1, 1)
    ramp = [(high + i / last * (low - high)) ** rho for i in range(count)]
    return [*ramp, 0.0]


def sigmas_linear(count: int, *, beta_end: float = 0.02) -> list[float]:
    r"""Noise levels of the paper's linear schedule [3]_, from large to small, then 0.

    Its 1000 betas rise from 1e-4 to `beta_end`; with :math:`\bar\alpha_n = \prod_{i \le
    n} (1 - \beta_i)`, the state :math:`\sqrt{\bar\alpha} (x_0 + \sigma \epsilon)` has
    the noise level :math:`\sigma = \sqrt{(1 - \bar\alpha) / \bar\alpha}`.

    Parameters
    ----------
    count : int
        Levels above 0, spread evenly over the 1000 with the largest among them.
    beta_end : float
        Last beta. The paper's 0.010, 0.015, 0.020 and 0.035 start at 12.6, 44, 157 and
        7200 times the scale of the data.

    Returns
    -------
    list of float, shape (count + 1,)
    """
    assert count <= LENGTH
    slope = (beta_end - BETA_START) / (LENGTH - 1)
    kept = list(accumulate((1 - BETA_START - slope * i for i in range(LENGTH)), mul))
    places = [round((i + 1) * LENGTH / count) - 1 for i in range(count)]
    return [*(math.sqrt((1 - kept[p]) / kept[p]) for p in reversed(places)), 0.0]


def dpm_solver_2m(
    denoise: Denoise, x: Tensor, sigmas: list[float], fresh: Fresh | None = None
) -> Tensor:
    """Integrate with DPM-Solver++(2M) [2]_: second order, one evaluation a level.

    Parameters
    ----------
    denoise : callable
        (x, sigma) -> expected clean x.
    x : Tensor, shape (B, 1, T, Y, X)
        Noise of standard deviation sigmas[0].
    sigmas : list of float
        Decreasing, the last one 0.
    fresh : callable, optional
        Not used: the flow is deterministic.

    Returns
    -------
    Tensor, shape of `x`
    """
    before, h_before = x, math.inf  # no slope to add at the first level
    for sigma, following in pairwise(sigmas[:-1]):
        clean = denoise(x, sigma)
        h = math.log(sigma / following)
        slope = h / (2 * h_before)
        target = (1 + slope) * clean - slope * before
        x = (following / sigma) * x - math.expm1(-h) * target
        before, h_before = clean, h
    return denoise(x, sigmas[-2])


def heun(
    denoise: Denoise, x: Tensor, sigmas: list[float], fresh: Fresh | None = None
) -> Tensor:
    """Integrate with Heun's method [1]_: second order, 2 n - 1 evaluations of n levels.

    Parameters
    ----------
    denoise : callable
        (x, sigma) -> expected clean x.
    x : Tensor, shape (B, 1, T, Y, X)
        Noise of standard deviation sigmas[0].
    sigmas : list of float
        Decreasing, the last one 0.
    fresh : callable, optional
        Not used: the flow is deterministic.

    Returns
    -------
    Tensor, shape of `x`
    """
    for sigma, following in pairwise(sigmas[:-1]):
        slope = (x - denoise(x, sigma)) / sigma
        euler = x + (following - sigma) * slope
        ahead = (euler - denoise(euler, following)) / following
        x = x + (following - sigma) * 0.5 * (slope + ahead)
    return denoise(x, sigmas[-2])  # an Euler step down to 0 gives this


def ddpm(
    denoise: Denoise, x: Tensor, sigmas: list[float], fresh: Fresh | None = None
) -> Tensor:
    r"""Sample ancestrally [3]_, as the paper does: fresh noise at every level.

    With :math:`x` free of the factor :math:`\sqrt{\bar\alpha}`, the posterior of the
    next state given :math:`x` and the clean :math:`x_0 = D(x, \sigma)` is

    .. math:: x' \sim N\big(x_0 + r (x - x_0),\; \sigma'^2 (1 - r)\big),
              \qquad r = \sigma'^2 / \sigma^2.

    Converges with the first order of the step, so that it takes tens of evaluations
    where the solvers take eight.

    Parameters
    ----------
    denoise : callable
        (x, sigma) -> expected clean x.
    x : Tensor, shape (B, 1, T, Y, X)
        Noise of standard deviation sigmas[0].
    sigmas : list of float
        Decreasing, the last one 0.
    fresh : callable
        White noise of the shape of `x` for step 1, 2, ...

    Returns
    -------
    Tensor, shape of `x`

    Raises
    ------
    XstsrError
        There is no fresh noise.
    """
    if fresh is None:
        raise XstsrError(
            f"cannot sample ancestrally with fresh={fresh!r}: every step needs noise "
            "of its own. Pass a function of the step that gives it."
        )
    for i, (sigma, following) in enumerate(pairwise(sigmas[:-1]), start=1):
        clean = denoise(x, sigma)
        r = (following / sigma) ** 2
        x = clean + r * (x - clean) + following * math.sqrt(1 - r) * fresh(i)
    return denoise(x, sigmas[-2])


def initial(noise: Tensor, sigmas: list[float]) -> Tensor:
    """Scale white noise of any shape to the first level, the data's own variance too.

    Parameters
    ----------
    noise : Tensor, shape (B, 1, T, Y, X)
        White noise.
    sigmas : list of float
        Noise levels in units of sigma_data.
    """
    return noise * math.sqrt(sigmas[0] ** 2 + 1.0)


def find_sampler(name: str, steps: int) -> Sampler:
    """Find a sampler that can take so many evaluations of the denoiser.

    Parameters
    ----------
    name : str
        A name in `SAMPLERS`.
    steps : int
        Evaluations of the denoiser.

    Raises
    ------
    XstsrError
        There is none of this name, or it takes fewer or more evaluations.
    """
    if name not in SAMPLERS:
        raise XstsrError(
            f"cannot sample with sampler={name!r}: choose one of {sorted(SAMPLERS)}."
        )
    sampler = SAMPLERS[name]
    if steps < sampler.least:
        raise XstsrError(
            f"cannot sample with steps={steps}: {name!r} evaluates the denoiser "
            f"{sampler.least} times or more, for from pure noise one evaluation gives "
            "the mean of all realizations. Pass steps=4 or more, or method='mean'."
        )
    if sampler.most is not None and steps > sampler.most:
        raise XstsrError(
            f"cannot sample with steps={steps}: {name!r} has {sampler.most} noise "
            f"levels. Pass steps={sampler.most} or fewer."
        )
    return sampler


def _karras(count: int, schedule: Schedule) -> list[float]:
    return sigmas_karras(
        count,
        sigma_min=schedule.sigma_min,
        sigma_max=schedule.sigma_max,
        rho=schedule.rho,
    )


SAMPLERS: dict[str, Sampler] = {
    "dpm-solver++": Sampler(dpm_solver_2m, _karras),
    "heun": Sampler(heun, _karras, evaluations=2),
    "ddpm": Sampler(
        ddpm,
        lambda count, schedule: sigmas_linear(count, beta_end=schedule.beta_end),
        most=LENGTH,
    ),
}
