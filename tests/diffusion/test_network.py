"""The networks: any factor, any number of frames, and locality."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import SPEC, TINY, tiny_model
from xstsr.diffusion import network
from xstsr.diffusion.attention import ChannelNorm, TemporalAttention, WindowAttention
from xstsr.diffusion.denoiser import Condition, SigmaData
from xstsr.diffusion.features import CHANNELS, features, interpolate, refine
from xstsr.diffusion.mean import multiply
from xstsr.diffusion.network import ResidualBlock
from xstsr.diffusion.transform import LogTransform

LOG = LogTransform()


def scalar(value):
    return torch.tensor([value])


def rain(*shape, seed=0):
    """Intermittent rain: two thirds of the cells are wet."""
    draw = torch.Generator().manual_seed(seed)
    field = torch.rand(shape, generator=draw) * 6 - 2
    return field.clamp(min=0)


def seen(coarse, factor, origin=(0, 0), reach=30.0):
    return features(
        coarse, factor, scalar(1.0), scalar(5.0), scalar(reach), LOG, origin
    )


@given(
    t=st.integers(1, 6),
    s=st.integers(1, 9),
    frames=st.integers(1, 3),
    cells=st.integers(1, 3),
)
def test_features_lie_on_the_fine_grid(t, s, frames, cells):
    got = seen(rain(1, frames, cells, cells), (t, s, s))
    assert got.maps.shape == (1, CHANNELS, frames * t, cells * s, cells * s)
    assert torch.isfinite(got.maps).all()
    assert got.scalars[0].tolist() == pytest.approx(
        [math.log(s), math.log(t), 0.0, math.log(5.0)]
    )


def test_features_of_missing_cells_are_finite_and_marked():
    coarse = rain(1, 2, 3, 3)
    coarse[0, :, 1, 1] = torch.nan
    maps = seen(coarse, (2, 2, 2)).maps
    assert torch.isfinite(maps).all()
    assert maps[0, 2, :, 2:4, 2:4].eq(0).all()
    assert maps[0, 2].sum() == 4 * 36 - 4 * 4


def test_interpolate_is_exact_for_a_plane_inside():
    x = torch.arange(5.0).expand(1, 3, 5, 5).contiguous()
    fine = interpolate(x, torch.ones_like(x, dtype=torch.bool), (1, 1, 4))
    # centres of quarter cells: -0.375, -0.125, ..., clamped at the outer half cells
    inner = fine[0, 0, 0, 2:-2]
    expected = torch.arange(inner.numel()) * 0.25 + 0.125
    assert torch.allclose(inner, expected)


def test_interpolate_leaves_missing_neighbours_out():
    x = torch.full((1, 1, 1, 3), 2.0)
    valid = torch.tensor([[[[True, False, True]]]])
    fine = interpolate(torch.where(valid, x, 0.0), valid, (1, 1, 5))
    known = fine[fine > 0]
    assert torch.allclose(known, torch.full_like(known, 2.0))


def test_refine_repeats_each_cell():
    fine = refine(torch.tensor([[[[1.0, 2.0]]]]), (1, 2, 2))
    assert fine.tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]


def test_channel_norm_looks_at_one_pixel_alone():
    norm = ChannelNorm(6)
    x = torch.randn(2, 6, 5, 5)
    changed = x.clone()
    changed[:, :, 0, 0] = 9.0
    assert torch.equal(norm(x)[:, :, 1:, 1:], norm(changed)[:, :, 1:, 1:])


def test_fresh_block_is_the_identity():
    x = torch.randn(4, 8, 6, 6)
    assert torch.equal(ResidualBlock(8, 16)(x, torch.randn(2, 16), frames=2), x)


@settings(max_examples=25)
@given(
    samples=st.integers(1, 3),
    frames=st.integers(1, 7),
    length=st.integers(1, 8),
    layout=st.sampled_from((torch.contiguous_format, torch.channels_last)),
)
def test_frames_in_passing_are_refined_as_all_at_once(samples, frames, length, layout):
    draw = torch.Generator().manual_seed(frames)
    block = ResidualBlock(8, 16).requires_grad_(False)
    for parameter in block.parameters():
        parameter.normal_(std=0.3, generator=draw)
    x = torch.randn(samples * frames, 8, 6, 5, generator=draw)
    x, embedded = x.to(memory_format=layout), torch.randn(samples, 16, generator=draw)
    expected = block(x, embedded, frames)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(network, "SLAB", length * x[0].numel())
        refined = block(x.clone(), embedded, frames)
    assert torch.allclose(refined, expected, atol=1e-5)


@pytest.mark.parametrize("slab", [1, 3000, 1 << 21])
def test_network_gives_the_same_with_and_without_gradients(monkeypatch, slab):
    model, factor = tiny_model(), (2, 5, 5)
    coarse, args = rain(2, 3, 4, 3), (torch.ones(2), torch.ones(2), 9 * torch.ones(2))
    x, sigma = torch.randn(2, 1, 6, 20, 15), torch.ones(2)
    expected = model.denoiser(x, sigma, model.condition(coarse, factor, *args))
    monkeypatch.setattr(network, "SLAB", slab)
    with torch.no_grad():
        found = model.denoiser(x, sigma, model.condition(coarse, factor, *args))
    assert torch.allclose(found, expected, atol=1e-5)


def test_temporal_attention_does_not_see_beyond_the_horizon():
    attend = TemporalAttention(8, heads=2).requires_grad_(False)
    attend.out.weight.normal_(generator=torch.Generator().manual_seed(1))
    x = torch.randn(6, 8, 2, 2)
    late = x.clone()
    late[4:] = torch.randn(2, 8, 2, 2)
    a, b = (attend(v, 6, scalar(5.0), scalar(10.0)) for v in (x, late))
    assert torch.equal(a[:2], b[:2])  # 3 or more steps before the change
    assert not torch.allclose(a[2], b[2])  # 2 steps, 10 minutes: seen


def test_temporal_attention_tells_before_from_after():
    attend = TemporalAttention(8, heads=2).requires_grad_(False)
    attend.out.weight.normal_(generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 8, 2, 2)
    there = attend(x, 3, scalar(5.0), scalar(60.0))
    back = attend(x.flip(0), 3, scalar(5.0), scalar(60.0)).flip(0)
    assert not torch.allclose(there, back, atol=1e-4)


@pytest.mark.parametrize("size", [4, 6, 7])
def test_window_attention_stays_within_its_window(size):
    attend = WindowAttention(8, size=4, heads=2).requires_grad_(False)
    attend.out.weight.normal_(generator=torch.Generator().manual_seed(2))
    x = torch.randn(2, 8, size, size)
    changed = x.clone()
    changed[:, :, 0, 0] = torch.randn(2, 8)
    a, b = attend(x), attend(changed)
    assert a.shape == x.shape
    assert torch.equal(a[:, :, 4:], b[:, :, 4:])
    assert not torch.allclose(a[:, :, 3, 3], b[:, :, 3, 3])


@pytest.mark.parametrize("corner", [(4, 8), (3, 2), (1, 7)])
def test_windows_lie_where_they_do_in_the_whole_frame(corner):
    attend = WindowAttention(8, size=4, heads=2).requires_grad_(False)
    attend.out.weight.normal_(generator=torch.Generator().manual_seed(2))
    x = torch.randn(2, 8, 12, 12)
    top, left = corner
    part = attend(x[:, :, top:, left:], corner)
    # windows that are cut off see less: the next whole ones are the same
    down, right = (-(-c // 4) * 4 for c in corner)
    whole = attend(x)[:, :, down:, right:]
    assert torch.allclose(part[:, :, down - top :, right - left :], whole, atol=1e-6)


@settings(max_examples=12)
@given(t=st.integers(1, 4), s=st.integers(1, 7), frames=st.integers(1, 4))
def test_model_serves_every_factor_and_length(t, s, frames):
    model, factor = tiny_model(), (t, s, s)
    coarse = rain(1, frames, 3, 4)
    condition = model.condition(coarse, factor, scalar(1.0), scalar(5.0), scalar(30.0))
    noise = torch.randn(1, 1, frames * t, 3 * s, 4 * s)
    sample = model.sample(condition, noise)
    assert sample.shape == noise.shape
    assert torch.isfinite(sample).all()
    assert (sample >= 0).all()
    assert sample[condition.features.wet == 0].eq(0).all()


def test_model_result_does_not_depend_on_the_tile_beyond_its_reach():
    model, factor = tiny_model(), (1, 4, 4)
    coarse = rain(1, 1, 24, 24)
    args = (scalar(1.0), scalar(5.0), scalar(30.0))
    whole = model.condition(coarse, factor, *args).means.z
    # a tile that starts 9 cells, 36 pixels, into the domain: not a multiple of the 8
    # pixels of an attention window, so the network must align itself
    part = model.condition(coarse[..., 9:, 9:], factor, *args, (36, 36)).means.z
    reach = 24
    inside = whole[..., 36 + reach :, 36 + reach :]
    assert torch.allclose(part[..., reach:, reach:], inside, atol=1e-5)


def test_model_sees_spacing_and_step():
    model, factor = tiny_model(), (2, 3, 3)
    coarse = rain(1, 2, 4, 4)
    usual = model.condition(coarse, factor, scalar(1.0), scalar(5.0), scalar(30.0))
    wide = model.condition(coarse, factor, scalar(4.0), scalar(5.0), scalar(30.0))
    slow = model.condition(coarse, factor, scalar(1.0), scalar(60.0), scalar(360.0))
    for other in (wide, slow):
        assert not torch.allclose(usual.means.z, other.means.z, atol=1e-5)


def test_mean_rate_conserves_every_cell():
    model, factor = tiny_model(), (2, 5, 5)
    coarse = rain(1, 3, 4, 4)
    means = model.condition(
        coarse, factor, scalar(1.0), scalar(5.0), scalar(30.0)
    ).means
    blocks = means.rate.reshape(1, 3, 2, 4, 5, 4, 5).mean(dim=(2, 4, 6))
    assert torch.allclose(blocks, coarse, rtol=1e-5)


def test_multiply_spreads_water_by_weight():
    weight = torch.tensor([[[[[1.0, 3.0]]]]])
    coarse = torch.tensor([[[[4.0]]]])
    assert multiply(weight, coarse, (1, 1, 2)).flatten().tolist() == [2.0, 6.0]


def test_denoiser_returns_its_input_where_there_is_no_noise():
    model, factor = tiny_model(), (1, 3, 3)
    coarse = rain(1, 1, 4, 4) + 0.1
    condition = model.condition(coarse, factor, scalar(1.0), scalar(5.0), scalar(9.0))
    x = torch.randn(1, 1, 1, 12, 12)
    clean = model.denoiser(x, scalar(1e-4), condition)
    assert torch.allclose(clean, x, atol=1e-3)


def test_denoiser_ignores_noise_in_dry_cells():
    model, factor = tiny_model(), (1, 4, 4)
    coarse = rain(1, 1, 6, 6)
    condition = model.condition(coarse, factor, scalar(1.0), scalar(5.0), scalar(9.0))
    x = torch.randn(1, 1, 1, 24, 24)
    other = torch.where(condition.features.wet == 1, x, torch.randn_like(x))
    a, b = (model.denoiser(v, scalar(1.0), condition) for v in (x, other))
    assert torch.equal(a, b)


def test_sigma_data_is_a_power_law():
    sigma = SigmaData()
    sigma.coefficients.copy_(torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5]))
    scalars = torch.log(torch.tensor([[3.0, 2.0, 4.0, 9.0]]))
    assert sigma(scalars).item() == pytest.approx(3 * 4 / 4 * 3)


def test_amplitude_widens_the_spread():
    model, factor = tiny_model(), (2, 4, 4)
    coarse = rain(1, 2, 4, 4) + 0.5
    condition = model.condition(coarse, factor, scalar(1.0), scalar(5.0), scalar(9.0))
    noise = torch.randn(8, 1, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    spread = [
        torch.stack(
            [LOG.forward(model.sample(condition, n, amplitude=a)) for n in noise]
        )
        .std(0)
        .mean()
        for a in (0.5, 1.0)
    ]
    assert spread[1] > 1.3 * spread[0]


@given(st.floats(0, 1e4, width=32))
def test_transform_returns_what_it_was_given(rate):
    back = LOG.inverse(LOG.forward(torch.tensor([rate]))).item()
    assert back == (0.0 if rate < 0.0499 else pytest.approx(rate, rel=1e-4, abs=0.051))


def test_condition_gathers_what_does_not_depend_on_noise():
    model = tiny_model()
    condition = model.condition(
        rain(1, 1, 2, 2), (1, 2, 2), scalar(1.0), scalar(5.0), scalar(9.0)
    )
    assert isinstance(condition, Condition)
    assert condition.maps.shape[1] == CHANNELS + 2
    assert TINY.stride == 4
    assert SPEC.transform == LOG
