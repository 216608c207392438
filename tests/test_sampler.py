"""Samplers against an analytic denoiser: a Gaussian whose posterior mean is known."""

import math

import numpy as np
import pytest
import torch

from xstsr.diffusion.sampler import (
    SAMPLERS,
    dpm_solver_2m,
    heun,
    initial,
    sigmas_karras,
)

MEAN, SPREAD = 0.7, 0.5


def gaussian(x, sigma):
    """E[x0 | x] for x0 ~ N(MEAN, SPREAD^2): (x S^2 + m sigma^2) / (S^2 + sigma^2)."""
    return (x * SPREAD**2 + MEAN * sigma**2) / (SPREAD**2 + sigma**2)


def exact(x, start):
    """The ODE's solution: x - m shrinks from sqrt(S^2 + sigma_max^2) to S."""
    return MEAN + (x - MEAN) * SPREAD / math.sqrt(SPREAD**2 + start**2)


def error(sampler, steps):
    x = torch.linspace(-3, 3, 13, dtype=torch.float64) * 20.0
    sigmas = sigmas_karras(steps, sigma_min=0.01, sigma_max=20.0)
    return float((sampler(gaussian, x, sigmas) - exact(x, 20.0)).abs().max())


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_sampler_converges_to_the_exact_flow(name):
    # the last step, from sigma_min to 0, leaves an error of first order in sigma_min
    assert error(SAMPLERS[name], 200) < 0.05 * SPREAD


@pytest.mark.parametrize(("sampler", "order"), [(dpm_solver_2m, 2), (heun, 2)])
def test_sampler_has_its_order(sampler, order):
    coarse, fine = error(sampler, 20), error(sampler, 40)
    assert coarse / fine > 0.6 * 2**order


def test_dpm_solver_draws_the_distribution():
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    sigmas = sigmas_karras(24, sigma_min=0.02, sigma_max=20.0)
    drawn = dpm_solver_2m(gaussian, initial(noise, sigmas), sigmas)
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.05)


def test_dpm_solver_takes_one_evaluation_a_step():
    seen = []

    def denoise(x, sigma):
        seen.append(sigma)
        return gaussian(x, sigma)

    sigmas = sigmas_karras(6)
    dpm_solver_2m(denoise, torch.ones(3), sigmas)
    assert seen == sigmas[:-1]


def test_sigmas_karras_fall_from_max_to_min_to_zero():
    sigmas = sigmas_karras(9, sigma_min=0.02, sigma_max=30.0)
    assert len(sigmas) == 10
    assert sigmas[0] == pytest.approx(30.0)
    assert sigmas[-2] == pytest.approx(0.02)
    assert sigmas[-1] == 0.0
    assert np.all(np.diff(sigmas) < 0)


def test_sigmas_karras_of_one_step_starts_at_the_top():
    assert sigmas_karras(1, sigma_max=9.0) == [9.0, 0.0]
