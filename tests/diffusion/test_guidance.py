"""Guidance: block means met smoothly, dry stays dry, states are shifted."""

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models import SPEC, tiny_model
from xstsr.diffusion.features import refine
from xstsr.diffusion.guidance import guide
from xstsr.diffusion.model import Settings
from xstsr.diffusion.transform import LogTransform, StateTransform

FACTORS = st.sampled_from([(1, 2, 2), (2, 3, 3), (3, 4, 4), (2, 1, 1)])
RAIN = LogTransform()


def fields(factor, seed, cells=(3, 4, 4)):
    """A coarse field with dry and missing cells, and a fine one that misses it."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, *cells), generator=draw) * 5 + 0.2
    coarse[0, 0, 0, 0], coarse[0, -1, -1, -1] = 0.0, torch.nan
    noise = torch.rand(refine(coarse, factor).shape, generator=draw) + 0.5
    fine = torch.nan_to_num(refine(coarse, factor)) * noise * 1.3
    return coarse, fine


def blocks(fine, factor):
    b, t, y, x = fine.shape
    ft, fy, fx = factor
    return fine.reshape(b, t // ft, ft, y // fy, fy, x // fx, fx).mean((2, 4, 6))


def miss(fine, coarse, factor):
    gain = blocks(fine, factor) / coarse
    return float(gain[coarse > 0].log().abs().mean())


@given(factor=FACTORS, seed=st.integers(0, 99))
def test_block_means_come_close_and_dry_cells_stay(factor, seed):
    coarse, fine = fields(factor, seed)
    z = guide(RAIN.forward(fine)[:, None], coarse, factor, RAIN)
    guided = RAIN.inverse(z)[:, 0]
    assert miss(guided, coarse, factor) < 0.35 * miss(fine, coarse, factor)
    assert guided[refine(coarse, factor) == 0].eq(0).all()
    assert bool(torch.isfinite(z).all())


@given(factor=FACTORS, seed=st.integers(0, 99))
def test_more_rounds_come_closer(factor, seed):
    coarse, fine = fields(factor, seed)
    z = RAIN.forward(fine)[:, None]
    few, many = (
        RAIN.inverse(guide(z, coarse, factor, RAIN, rounds=n))[:, 0] for n in (2, 8)
    )
    assert miss(many, coarse, factor) < 0.7 * miss(few, coarse, factor)


def test_a_field_that_agrees_is_left_alone():
    coarse, _ = fields((2, 3, 3), 0)
    fine = torch.nan_to_num(refine(coarse, (2, 3, 3)))
    z = RAIN.forward(fine)[:, None]
    torch.testing.assert_close(guide(z, coarse, (2, 3, 3), RAIN), z)


@given(factor=FACTORS, shift=st.floats(-20, 20))
def test_states_are_shifted(factor, shift):
    known = StateTransform(centre=280.0, width=10.0, units="K")
    coarse = torch.full((1, 2, 3, 3), 285.0)
    fine = refine(coarse, factor) + shift
    z = guide(known.forward(fine)[:, None], coarse, factor, known)
    torch.testing.assert_close(known.inverse(z)[:, 0], refine(coarse, factor))


def test_guided_samples_nearly_conserve():
    coarse = torch.from_numpy(np.random.default_rng(0).gamma(1, 3, (1, 4, 5, 5)))
    coarse, factor, one = coarse.float(), (2, 4, 4), torch.ones(1)
    misses = {}
    for guidance in (0.0, 3.0):
        model = tiny_model(spec=replace(SPEC, settings=Settings(guidance=guidance)))
        condition = model.condition(coarse, factor, one, 5 * one, 60 * one)
        noise = torch.randn(
            (1, 1, 8, 20, 20), generator=torch.Generator().manual_seed(1)
        )
        fine = model.sample(condition, noise)[:, 0]
        misses[guidance] = miss(fine, coarse, factor)
    assert misses[3.0] < 0.2 * misses[0.0]
