"""Samplers against an analytic denoiser: a Gaussian whose posterior mean is known."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.models import EVERY, SPEC, tiny_model
from xstsr.diffusion.model import Settings
from xstsr.diffusion.noise import normal
from xstsr.diffusion.sampler import (
    SAMPLERS,
    Schedule,
    ddpm,
    dpm_solver_2m,
    find_sampler,
    heun,
    initial,
    sigmas_karras,
    sigmas_linear,
)
from xstsr.errors import XstsrError

MEAN, SPREAD = 0.7, 0.5
FLOW = (dpm_solver_2m, heun)
SCHEDULE = Schedule(sigma_min=0.02, sigma_max=20.0)


def gaussian(x, sigma):
    """E[x0 | x] for x0 ~ N(MEAN, SPREAD^2): (x S^2 + m sigma^2) / (S^2 + sigma^2)."""
    return (x * SPREAD**2 + MEAN * sigma**2) / (SPREAD**2 + sigma**2)


def exact(x, start):
    """The flow's solution: x - m shrinks from sqrt(S^2 + sigma_max^2) to S."""
    return MEAN + (x - MEAN) * SPREAD / math.sqrt(SPREAD**2 + start**2)


def error(sampler, count):
    x = torch.linspace(-3, 3, 13, dtype=torch.float64) * 20.0
    sigmas = sigmas_karras(count, sigma_min=0.01, sigma_max=20.0)
    return float((sampler(gaussian, x, sigmas) - exact(x, 20.0)).abs().max())


def white(draw, size=200):
    return normal(np.arange(1), (size, size), seed=3, draw=draw)


@pytest.mark.parametrize("sampler", FLOW)
def test_flow_solver_converges_to_the_exact_flow(sampler):
    # the last step, from sigma_min to 0, leaves an error of first order in sigma_min
    assert error(sampler, 200) < 0.05 * SPREAD


@pytest.mark.parametrize("sampler", FLOW)
def test_flow_solver_has_second_order(sampler):
    coarse, fine = error(sampler, 20), error(sampler, 40)
    assert coarse / fine > 0.6 * 2**2


@pytest.mark.parametrize(
    ("name", "steps"), [("dpm-solver++", 24), ("heun", 47), ("ddpm", 300)]
)
def test_sampler_draws_the_distribution(name, steps):
    sampler = SAMPLERS[name]
    sigmas = sampler.sigmas(steps, SCHEDULE)
    drawn = sampler.integrate(gaussian, initial(white(0), sigmas), sigmas, white)
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(drawn.std()) == pytest.approx(SPREAD, rel=0.05)


def test_ddpm_variance_follows_its_closed_form():
    # x - m is multiplied by k = r + (1 - r) S^2 / (S^2 + sigma^2), and noise of the
    # variance sigma'^2 (1 - r) is added; the last level shrinks x - m to
    # S^2 / (S^2 + sigma^2) of it
    sigmas = sigmas_linear(20)
    variance = sigmas[0] ** 2 + 1
    for sigma, following in pairwise(sigmas[:-1]):
        r = (following / sigma) ** 2
        k = r + (1 - r) * SPREAD**2 / (SPREAD**2 + sigma**2)
        variance = k**2 * variance + following**2 * (1 - r)
    variance *= (SPREAD**2 / (SPREAD**2 + sigmas[-2] ** 2)) ** 2
    drawn = ddpm(gaussian, initial(white(0), sigmas), sigmas, white)
    assert float(drawn.var()) == pytest.approx(variance, rel=0.03)
    assert variance < 0.9 * SPREAD**2  # 20 steps are too few: the limit is far


def test_ddpm_equals_the_textbook_form():
    """Ho et al. (2020), eq. 6 and 7, on the state that keeps its variance."""
    beta = np.linspace(1e-4, 0.02, 1000)
    kept = np.cumprod(1 - beta)
    before = np.append(1.0, kept[:-1])
    x = np.linspace(-2, 2, 5)
    draws = np.random.default_rng(0).normal(size=(1000, 5))
    start = torch.from_numpy(x / math.sqrt(kept[-1]))
    for n in reversed(range(1000)):
        clean = gaussian(x / math.sqrt(kept[n]), math.sqrt((1 - kept[n]) / kept[n]))
        mean = (
            math.sqrt(before[n]) * beta[n] * clean
            + math.sqrt(1 - beta[n]) * (1 - before[n]) * x
        ) / (1 - kept[n])
        spread = math.sqrt(beta[n] * (1 - before[n]) / (1 - kept[n]))
        x = mean + spread * draws[999 - n]

    def fresh(step):
        return torch.from_numpy(draws[step - 1])

    drawn = ddpm(gaussian, start, sigmas_linear(1000), fresh)
    assert drawn.numpy() == pytest.approx(x, rel=1e-6)


def test_ddpm_without_fresh_noise_is_refused():
    with pytest.raises(XstsrError, match=r"fresh=None: every step needs noise"):
        ddpm(gaussian, torch.ones(3), sigmas_linear(4))


@pytest.mark.parametrize(
    ("name", "steps", "taken"),
    [
        *(("dpm-solver++", 6, 6), ("heun", 7, 7), ("heun", 8, 7), ("ddpm", 6, 6)),
        *((name, sampler.least, sampler.least) for name, sampler in SAMPLERS.items()),
    ],
)
def test_steps_are_evaluations(name, steps, taken):
    seen = []

    def denoise(x, sigma):
        seen.append(sigma)
        return gaussian(x, sigma)

    sampler = SAMPLERS[name]
    sigmas = sampler.sigmas(steps, SCHEDULE)
    sampler.integrate(denoise, torch.ones(3), sigmas, lambda step: torch.zeros(3))
    assert len(seen) == taken == sampler.used(steps)
    assert len(sigmas) >= 3
    assert sorted(set(seen), reverse=True) == sigmas[:-1]


def test_sigmas_karras_fall_from_max_to_min_to_zero():
    sigmas = sigmas_karras(9, sigma_min=0.02, sigma_max=30.0)
    assert len(sigmas) == 10
    assert sigmas[0] == pytest.approx(30.0)
    assert sigmas[-2] == pytest.approx(0.02)
    assert sigmas[-1] == 0.0
    assert np.all(np.diff(sigmas) < 0)


@pytest.mark.parametrize(
    ("beta_end", "largest", "median"),
    # what the paper's four settings amount to: sqrt((1 - abar) / abar)
    [(0.010, 12.6, 1.6), (0.015, 44, 2.4), (0.020, 157, 3.4), (0.035, 7200, 9.2)],
)
def test_sigmas_linear_are_those_of_the_papers_schedules(beta_end, largest, median):
    sigmas = sigmas_linear(1000, beta_end=beta_end)
    assert sigmas[0] == pytest.approx(largest, rel=0.01)
    assert np.median(sigmas[:-1]) == pytest.approx(median, rel=0.02)
    assert sigmas[-2] == pytest.approx(0.01, rel=1e-3)  # the first beta is 1e-4


def test_sigmas_linear_of_few_steps_are_levels_of_the_thousand():
    whole, few = sigmas_linear(1000), sigmas_linear(8)
    assert few[0] == whole[0]
    assert set(few) <= set(whole)
    assert np.all(np.diff(few) < 0)


@pytest.mark.parametrize(
    ("name", "steps", "told"),
    [
        ("dpm-solver++", 1, r"steps=1: 'dpm-solver\+\+'.* 2 times or more.*steps=4"),
        ("ddpm", 1, r"steps=1: 'ddpm' .* 2 times or more.*method='mean'"),
        ("heun", 2, r"steps=2: 'heun' .* 3 times or more"),
        (
            "ddpm",
            1001,
            r"steps=1001: 'ddpm' has 1000 noise levels.*steps=1000",
        ),
        ("euler", 8, r"sampler='euler'.*'ddpm', 'dpm-solver\+\+', 'heun'"),
    ],
)
def test_what_a_sampler_cannot_take_is_refused(name, steps, told):
    with pytest.raises(XstsrError, match=told):
        find_sampler(name, steps)
    with pytest.raises(XstsrError, match=told):
        draw_by(name, steps)


def draw_by(name, steps):
    model = tiny_model()
    one = torch.ones(1)
    condition = model.condition(torch.ones(1, 1, 2, 2), (2, 4, 4), one, one, one)
    noise = torch.zeros(1, 1, 2, 8, 8)
    return model.sample(condition, noise, steps=steps, sampler=name)


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_model_samples_as_its_settings_say(name):
    model = tiny_model(spec=replace(SPEC, settings=Settings(steps=5, sampler=name)))
    coarse = torch.tensor([[[[0.5, 2.0], [1.0, 0.0]]]])
    one = torch.ones(1)
    condition = model.condition(coarse, (2, 4, 4), one, 5 * one, 30 * one)

    def draw(seed):
        def fresh(step):
            noise = normal(np.arange(2), (8, 8), seed=seed, draw=step)
            return noise[None, None]

        return model.sample(condition, fresh(0), fresh=fresh)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert draw(1)[..., 4:, 4:].eq(0).all()  # dry stays dry


def test_generator_draws_in_one_evaluation_and_keeps_nearly_the_coarse_field():
    model = tiny_model(spec=replace(SPEC, generator=SPEC.denoiser))
    coarse = torch.tensor([[[[0.5, 2.0], [1.0, 0.0]]]])
    one = torch.ones(1)
    condition = model.condition(coarse, (2, 4, 4), one, 5 * one, 30 * one)
    noise = [normal(np.arange(2), (8, 8), seed=seed)[None, None] for seed in (1, 2)]
    inverse = model.spec.transform.inverse
    first, second = (inverse(model.generate(condition, n)) for n in noise)
    assert torch.equal(first, inverse(model.generate(condition, noise[0])))
    assert not torch.equal(first, second)
    assert first[..., 4:, 4:].eq(0).all()  # dry stays dry
    means = first[0, 0].reshape(2, 2, 4, 2, 4).mean(dim=(0, 2, 4))
    torch.testing.assert_close(means, coarse[0, 0], rtol=0.15, atol=0.02)


def test_generator_needs_the_mean_only_where_the_amplitude_is_changed(monkeypatch):
    model = tiny_model(spec=replace(SPEC, generator=SPEC.denoiser))
    one = torch.ones(1)
    condition = model.condition(torch.ones(1, 1, 2, 2), (2, 4, 4), one, one, one)
    noise = normal(np.arange(2), (8, 8), seed=1)[None, None]

    def draw(amplitude):
        return model.generate(condition, noise, amplitude)

    usual, wide = draw(1.0), draw(1.5)
    mean = condition.means.z
    inner = (wide - mean).std() / (usual - mean).std()
    assert 1.2 < inner < 1.8
    monkeypatch.setattr(model.mean, "forward", None)
    condition = model.condition(torch.ones(1, 1, 2, 2), (2, 4, 4), one, one, one)
    assert torch.equal(draw(1.0), usual)
    with pytest.raises(TypeError, match="not callable"):
        draw(1.5)


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_diffusion_never_asks_the_generator(steps):
    model = tiny_model(spec=EVERY)
    one = torch.ones(1)
    condition = model.condition(torch.ones(1, 1, 2, 2), (2, 4, 4), one, one, one)
    noise = normal(np.arange(2), (8, 8), seed=1)[None, None]
    without = tiny_model().sample(condition, noise, steps=steps)
    assert torch.equal(model.sample(condition, noise, steps=steps), without)


def test_generating_without_a_generator_is_refused():
    model = tiny_model()
    one = torch.ones(1)
    condition = model.condition(torch.ones(1, 1, 2, 2), (2, 4, 4), one, one, one)
    with pytest.raises(XstsrError, match=r"in one evaluation.*no generator.*train one"):
        model.generate(condition, torch.zeros(1, 1, 2, 8, 8))
