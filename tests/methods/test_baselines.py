"""Tests for the xstsr.methods.baselines module."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from xstsr.conservation.constraint import block_mean, conserve, refine
from xstsr.errors import DataError, FactorError
from xstsr.methods import baselines
from xstsr.methods.baselines import RAINFARM_HALO, linear, nearest, rainfarm, slopes
from xstsr.verification.spectra import ring_power

nan = np.nan


def start_times(coarse, t):
    """Fine-step start times in microseconds, five minutes apart."""
    return np.arange(coarse.shape[-3] * t, dtype=np.int64) * 300_000_000


@pytest.fixture
def rain():
    """Correlated coarse rain with dry and missing cells, shape (12, 20, 24)."""
    rng = np.random.default_rng(3)
    noise = np.cumsum(rng.normal(size=(12, 20, 24)), axis=0)
    kernel = np.hypot(np.fft.fftfreq(20)[:, None], np.fft.fftfreq(24))
    kernel[0, 0] = 1
    field = np.fft.ifft2(np.fft.fft2(noise) / kernel).real
    coarse = np.maximum(field / field.std(), 0).astype("float32")
    coarse[:, 3:5, 7] = nan
    assert 0.2 < (coarse == 0).mean() < 0.8
    return coarse


factors = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))


# Closed form


def test_nearest_is_block_constant():
    coarse = np.array([[[1.0, nan]]])
    np.testing.assert_array_equal(nearest(coarse, (2, 1, 2)), [[[1, 1, nan, nan]]] * 2)


def test_linear_interpolates_between_centres():
    # Centres at 1 and 3, pixels at 0.5, 1.5, 2.5, 3.5: held beyond the centres.
    coarse = np.array([[[0.0, 4.0]]])
    np.testing.assert_allclose(linear(coarse, (1, 1, 2)), [[[0, 1, 3, 4]]])
    np.testing.assert_allclose(
        linear(coarse.reshape(2, 1, 1), (2, 1, 1)).ravel(), [0, 1, 3, 4]
    )


def test_linear_leaves_missing_neighbours_out():
    coarse = np.array([[[0.0, 4.0, nan, 8.0]]])
    expected = [[[0, 1, 3, 4, nan, nan, 8, 8]]]
    np.testing.assert_allclose(linear(coarse, (1, 1, 2)), expected)


def test_temporal_kernel_has_the_power_law():
    kernel = baselines._temporal_kernel(2.0, 20)
    power = np.abs(np.fft.rfft(kernel)) ** 2
    np.testing.assert_allclose(power[2] / power[8], 4.0**2, rtol=1e-9)
    np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-12)


@pytest.mark.parametrize("shape", [(64, 64), (63, 50), (1, 9)])
def test_spatial_filter_gives_unit_variance(shape):
    spatial = baselines._spatial_filter(shape, 2.5)
    white = np.random.default_rng(0).standard_normal((200, *shape))
    noise = np.fft.irfft2(np.fft.rfft2(white) * spatial, s=shape)
    np.testing.assert_allclose(noise.var(), 1, rtol=0.1)
    np.testing.assert_allclose(noise.mean(axis=(1, 2)), 0, atol=1e-6)


def test_slopes_finds_both_power_laws():
    # Frames with |k|^-3, changing as a random walk: spectrum w^-2.
    rng = np.random.default_rng(1)
    k = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64))
    k[0, 0] = np.inf
    white = np.cumsum(rng.standard_normal((40, 64, 64)), axis=0)
    field = np.fft.ifft2(np.fft.fft2(white) * k**-1.5).real
    alpha, beta = slopes(field)
    assert alpha.shape == beta.shape == (40,)
    np.testing.assert_allclose(alpha, 3, atol=0.3)
    np.testing.assert_allclose(np.mean(beta), 2, atol=0.2)


@pytest.mark.parametrize("coarse", [np.zeros((5, 16, 16)), np.ones((1, 2, 2))])
def test_slopes_fall_back_where_nothing_is_seen(coarse):
    alpha, beta = slopes(coarse)
    assert (alpha == baselines.DEFAULT_ALPHA).all()
    assert (beta == baselines.DEFAULT_BETA).all()


# Properties


@given(factors)
def test_linear_keeps_range_and_missing_cells(factor):
    rng = np.random.default_rng(0)
    coarse = rng.exponential(size=(2, 3, 4, 3)).astype("float32")
    coarse[rng.random(coarse.shape) < 0.3] = nan
    fine = linear(coarse, factor)
    assert fine.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(fine), np.isnan(refine(coarse, factor)))
    assert np.nanmin(fine) >= np.nanmin(coarse) * (1 - 1e-6)
    assert np.nanmax(fine) <= np.nanmax(coarse) * (1 + 1e-6)


@given(factors)
def test_rainfarm_keeps_dry_missing_and_water(factor):
    rng = np.random.default_rng(0)
    coarse = rng.exponential(size=(2, 3, 4, 3)).astype("float32")
    coarse[rng.random(coarse.shape) < 0.3] = nan
    coarse[rng.random(coarse.shape) < 0.3] = 0
    raw = rainfarm(coarse, factor, seed=1, realization=0,
                   steps=start_times(coarse, factor[0]))  # fmt: skip
    assert raw.dtype == np.float32
    blocks = refine(coarse, factor)
    np.testing.assert_array_equal(np.isnan(raw), np.isnan(blocks))
    np.testing.assert_array_equal(raw[blocks == 0], 0)
    assert (raw[blocks > 0] > 0).all()
    means = block_mean(conserve(raw, coarse, factor), factor)
    np.testing.assert_allclose(means, coarse, rtol=1e-6)


@pytest.mark.parametrize("t", [1, 2, 3])
def test_rainfarm_window_with_halo_gives_the_whole(rain, t):
    steps = start_times(rain, t)
    options = {"seed": 7, "realization": 2}
    whole = rainfarm(rain, (t, 3, 3), steps=steps, **options)
    for first, last in [(0, 4), (3, 7), (5, 6), (8, 12)]:
        a, b = max(first - RAINFARM_HALO, 0), min(last + RAINFARM_HALO, len(rain))
        window = rainfarm(rain[a:b], (t, 3, 3), steps=steps[a * t : b * t], **options)
        inner = window[(first - a) * t : (last - a) * t]
        np.testing.assert_array_equal(inner, whole[first * t : last * t])


def test_rainfarm_noise_follows_seed_and_realization(rain):
    steps = start_times(rain, 2)

    def draw(seed, realization):
        return rainfarm(
            rain, (2, 2, 2), seed=seed, realization=realization, steps=steps
        )

    one = draw(0, 0)
    np.testing.assert_array_equal(one, draw(0, 0))
    np.testing.assert_array_equal(draw(-1, 0), draw(2**64 - 1, 0))
    for other in (draw(1, 0), draw(0, 1)):
        wet = one > 0
        assert abs(np.corrcoef(np.log(one[wet] / other[wet]), one[wet])[0, 1]) < 1
        assert not np.array_equal(one, other)


def test_rainfarm_steeper_beta_changes_more_slowly():
    coarse = np.ones((12, 16, 16))
    steps = start_times(coarse, 3)

    def lag1(beta):
        g = np.log(rainfarm(coarse, (3, 4, 4), seed=0, realization=0, steps=steps,
                            alpha=2.0, beta=beta)) + 0.5  # fmt: skip
        np.testing.assert_allclose(g.var(), 1, rtol=0.15)
        return np.mean(g[1:] * g[:-1])

    rough, middle, smooth = lag1(0.0), lag1(1.5), lag1(3.0)
    assert abs(rough) < 0.15
    assert rough < middle < smooth


# Oracle


def test_linear_equals_scipy_where_nothing_is_missing():
    coarse = np.random.default_rng(0).random((3, 4, 5))
    factor = (2, 3, 5)
    centres = [np.arange(n) + 0.5 for n in coarse.shape]
    fine = [
        np.clip((np.arange(n * f) + 0.5) / f, 0.5, n - 0.5)
        for n, f in zip(coarse.shape, factor, strict=True)
    ]
    expected = RegularGridInterpolator(centres, coarse)(
        np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1)
    )
    np.testing.assert_allclose(linear(coarse, factor), expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_rainfarm_has_the_spectrum_of_pysteps(monkeypatch):
    monkeypatch.setenv("PYSTEPSRC", "")
    theirs = pytest.importorskip(
        "pysteps.downscaling.rainfarm", reason="pysteps is not installed"
    )
    coarse, alpha = np.ones((30, 16, 16)), 2.4
    raw = rainfarm(coarse, (1, 4, 4), seed=0, realization=0,
                   steps=start_times(coarse, 1), alpha=alpha, beta=0.0)  # fmt: skip
    ours = conserve(raw, coarse, (1, 4, 4))
    np.random.seed(0)  # noqa: NPY002  pysteps knows only the global generator
    others = [theirs.downscale(frame, 4, alpha=alpha) for frame in coarse]
    power = np.mean([ring_power(frame) for frame in ours], axis=0)
    expected = np.mean([ring_power(frame) for frame in others], axis=0)
    # Both lose the scales of the coarse grid to conservation and agree beyond them.
    np.testing.assert_allclose(power[8:], expected[8:], rtol=0.25)
    k = np.log(np.arange(12, 33))
    slope = np.polyfit(k, np.log(power[11:]), 1)[0]
    np.testing.assert_allclose(
        slope, np.polyfit(k, np.log(expected[11:]), 1)[0], atol=0.2
    )


# Errors


def test_linear_integer_field_raises():
    with pytest.raises(DataError, match=r"shape \(2, 2, 2\) and dtype int"):
        linear(np.ones((2, 2, 2), int), (1, 2, 2))


def test_nearest_malformed_factor_raises():
    with pytest.raises(FactorError, match=r"factor \(1, 0, 2\) is not"):
        nearest(np.ones((2, 2, 2)), (1, 0, 2))


@pytest.mark.parametrize("steps", [np.arange(3), np.arange(4.0)])
def test_rainfarm_steps_that_do_not_fit_raise(steps):
    with pytest.raises(DataError, match="4 fine steps need one integer each"):
        rainfarm(np.ones((2, 4, 4)), (2, 2, 2), seed=0, realization=0, steps=steps)
