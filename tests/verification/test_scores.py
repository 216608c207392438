"""Tests for the xstsr.verification.scores and xstsr.verification.spatial modules."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xstsr.conservation.constraint import block_mean, conserve, refine
from xstsr.errors import DataError
from xstsr.verification import scores, spatial, spectra
from xstsr.verification import table as tables
from xstsr.verification.spectra import ring_power

nan = np.nan


def one_pixel(*values):
    """An ensemble of one pixel and one step, shape (M, 1, 1, 1)."""
    return np.array(values, float).reshape(-1, 1, 1, 1)


@pytest.fixture
def event():
    """Skewed rain with dry and missing pixels: ensemble (5, 6, 20, 21) and truth."""
    rng = np.random.default_rng(0)
    fields = np.maximum(np.exp(rng.normal(0, 1.5, (6, 6, 20, 21))) - 1, 0)
    fields[-1, :, 2, 3:6] = nan
    fields[1, 0, 5, 5] = nan
    return fields[:-1].astype("float32"), fields[-1].astype("float32")


# Closed form


def test_fair_crps_by_hand():
    # mean |x - y| = (1 + 2 + 4) / 3; the sum over i, j of |x_i - x_j| is 2 (1 + 2 + 3),
    # over 2 * 3 * 2 that is 1
    score = scores.fair_crps(one_pixel(1, 2, 4), np.zeros((1, 1, 1)))
    assert score == pytest.approx(7 / 3 - 1)


def test_fair_crps_of_one_field_is_absolute_error():
    assert scores.fair_crps(one_pixel(3), np.full((1, 1, 1), 5.0)) == 2


def test_fair_crps_is_unbiased_in_realizations():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 50, 50))
    few, many = rng.normal(size=(2, 40, 50, 50)), rng.normal(size=(16, 40, 50, 50))
    # The CRPS of a standard normal forecast of itself is 1 / sqrt(pi).
    for ensemble in (few, many):
        score = scores.fair_crps(ensemble, truth)
        assert score == pytest.approx(1 / np.sqrt(np.pi), rel=0.02)


def test_rmse_and_spread_by_hand():
    ensemble, truth = one_pixel(1, 3), np.zeros((1, 1, 1))
    assert scores.rmse_of_mean(ensemble, truth) == 2
    # variance 2, times 3/2, root 3, over 2
    assert scores.spread_skill(ensemble, truth) == pytest.approx(np.sqrt(3) / 2)
    assert scores.spread_skill(ensemble[:1], truth) == 0


def test_spread_skill_of_exchangeable_ensemble_is_one():
    fields = np.random.default_rng(0).normal(size=(5, 20, 40, 40))
    assert scores.spread_skill(fields[1:], fields[0]) == pytest.approx(1, rel=0.02)


def test_rank_histogram_shares_ties():
    truth = np.array([[[0.0, 2.5]]])
    ensemble = np.array([[[[0.0, 1.0]]], [[[0.0, 2.0]]], [[[4.0, 3.0]]]])
    # the first pixel may have rank 0, 1 or 2; the second has rank 2
    expected = [1 / 6, 1 / 6, 1 / 6 + 1 / 2, 0]
    np.testing.assert_allclose(scores.rank_histogram(ensemble, truth), expected)


def test_ring_power_of_a_wave_stands_in_its_ring():
    wave = np.cos(2 * np.pi * 3 * np.arange(16) / 16) * np.ones((16, 1))
    power = ring_power(wave)
    assert power.shape == (8,)
    assert power.argmax() == 2
    np.testing.assert_allclose(np.delete(power, 2), 0, atol=1e-20)


@pytest.mark.parametrize(
    "distance", [spectra.log_spectral_distance, spectra.temporal_spectral_distance]
)
def test_spectral_distances_of_a_tenfold_field_are_two_decades(event, distance):
    _, truth = event
    assert distance(truth[None], truth) == 0
    assert distance(10 * truth[None], truth) == pytest.approx(2, abs=1e-6)
    assert np.isnan(distance(0 * truth[None], truth))


def test_temporal_spectral_distance_needs_four_steps(event):
    ensemble, truth = event
    assert np.isnan(spectra.temporal_spectral_distance(ensemble[:, :3], truth[:3]))


def test_fss_forgives_displacement_within_the_neighbourhood():
    truth, shifted = np.zeros((1, 21, 21)), np.zeros((1, 1, 21, 21))
    truth[0, 10, 10], shifted[0, 0, 10, 11] = 5, 5
    assert spatial.fss(truth[None], truth, 1.0, 1) == 1
    assert spatial.fss(shifted, truth, 1.0, 1) == 0
    # 3 x 3 boxes: each field covers 9 pixels, 6 of them in common: 1 - 6 / 18
    assert spatial.fss(shifted, truth, 1.0, 3) == pytest.approx(2 / 3)
    assert np.isnan(spatial.fss(shifted, truth, 9.0, 3))


def test_fss_leaves_missing_pixels_out():
    truth = np.zeros((1, 5, 5))
    truth[0, 2, 2] = 5
    forecast = truth[None].copy()
    truth[0, 2, 3] = nan
    forecast[0, 0, 2, 3] = 99
    assert spatial.fss(forecast, truth, 1.0, 3) == pytest.approx(1)


def test_quantile_and_wet_area_ratios_by_hand():
    truth = np.arange(101.0).reshape(1, 1, 101)
    ensemble = np.stack([2 * truth, 4 * truth])
    assert scores.quantile_ratio(ensemble, truth, 0.99) == pytest.approx(3)
    assert np.isnan(scores.quantile_ratio(ensemble, 0 * truth, 0.99))
    # 100 of 101 are wet in truth, 50 and 75 at half and a quarter of the threshold
    assert scores.wet_area_ratio(ensemble, truth, 100) == pytest.approx((51 + 76) / 2)


def test_lag1_correlation_error_by_hand():
    steady = np.tile(np.arange(4.0), (3, 1, 1))
    flipping = steady.copy()
    flipping[1] = flipping[1, :, ::-1]
    # correlations 1 and -1
    assert spatial.lag1_correlation_error(flipping[None], steady) == pytest.approx(-2)
    assert np.isnan(spatial.lag1_correlation_error(steady[None, :1], steady[:1]))


def test_seams_by_hand():
    # along x, blocks of 2: jumps 1, 3, 1 against the truth's 1, 2, 1: 3 over 2. Along y
    # nothing changes, which halves all means alike where the factor is 2 as well
    truth = np.tile(np.array([0.0, 1.0, 3.0, 4.0]), (2, 4, 1))
    ensemble = np.tile(np.array([0.0, 1.0, 4.0, 5.0]), (3, 2, 4, 1))
    assert spatial.seam_space(ensemble, truth, (2, 1, 2)) == pytest.approx(1.5)
    assert spatial.seam_space(ensemble, truth, (2, 2, 2)) == pytest.approx(1.5)
    turned = spatial.seam_space(
        ensemble.swapaxes(2, 3), truth.swapaxes(1, 2), (2, 2, 1)
    )
    assert turned == pytest.approx(1.5)
    along_time = spatial.seam_time(ensemble.swapaxes(1, 3), truth.T, (2, 1, 1))
    assert along_time == pytest.approx(1.5)


def test_seams_of_the_truth_are_one_and_of_blocks_infinite(event):
    _, truth = event
    assert spatial.seam_space(truth[None], truth, (2, 5, 7)) == pytest.approx(1)
    assert spatial.seam_time(truth[None], truth, (2, 5, 7)) == pytest.approx(1)
    blocks = refine(block_mean(truth, (2, 5, 7)), (2, 5, 7))[None]
    assert spatial.seam_space(blocks, truth, (2, 5, 7)) == np.inf
    assert spatial.seam_time(blocks, truth, (2, 5, 7)) == np.inf


def test_seams_without_anything_to_compare_are_nan(event):
    ensemble, truth = event
    assert np.isnan(spatial.seam_space(ensemble, truth, (2, 1, 1)))
    assert np.isnan(spatial.seam_space(ensemble, truth, (2, 20, 21)))
    assert np.isnan(spatial.seam_time(ensemble, truth, (1, 5, 7)))
    assert np.isnan(spatial.seam_time(ensemble, 0 * truth, (2, 5, 7)))


def test_seams_leave_missing_pixels_out(event):
    ensemble, truth = event
    marked = ensemble.copy()
    marked[:, np.isnan(truth)] = 1e6
    for seam in (spatial.seam_space, spatial.seam_time):
        expected = seam(ensemble, truth, (2, 5, 7))
        assert seam(marked, truth, (2, 5, 7)) == pytest.approx(expected)


def test_psnr_by_hand():
    truth = np.array([[[10.0, 0.0]]])
    # mse of the mean is (1 + 1) / 2 = 1, so 20 log10(10)
    ensemble = np.stack([truth + 2, truth])
    assert spatial.psnr(ensemble, truth) == pytest.approx(20)
    assert spatial.psnr(truth[None], truth) == np.inf
    assert np.isnan(spatial.psnr(ensemble, 0 * truth))


def test_ssim_of_itself_is_one(event):
    _, truth = event
    assert spatial.ssim(truth[None], truth) == pytest.approx(1)
    assert np.isnan(spatial.ssim(truth[None], 0 * truth))
    assert np.isnan(spatial.ssim(truth[None, :, :6], truth[:, :6]))


def test_largest_residual_is_relative_and_sees_wet_dry_cells():
    fine, coarse = np.array([[[1.0, 3.0, 0.0, 0.0]]]), np.array([[[1.6, 0.0]]])
    assert scores.largest_residual(fine, coarse, (1, 1, 2)) == pytest.approx(0.25)
    fine[..., -1] = 1e-9
    assert scores.largest_residual(fine, coarse, (1, 1, 2)) == np.inf
    assert scores.largest_residual(fine * nan, coarse, (1, 1, 2)) == 0


def test_score_table_holds_every_score(event):
    ensemble, truth = event
    factor, weights = (2, 5, 7), np.linspace(1, 2, 20)[:, None]
    coarse = block_mean(truth, factor, weights)
    ensemble = conserve(ensemble, coarse, factor, weights=weights)
    table = tables.score_table(ensemble, truth, coarse, factor, weights)
    assert list(table) == [
        "fair_crps", "rmse", "spread_skill", "log_spectral_distance",
        "temporal_spectral_distance", "fss_1", "fss_5", "fss_10", "q99_ratio",
        "q99.9_ratio", "wet_area_ratio", "lag1_correlation_error", "seam_space",
        "seam_time", "psnr", "ssim", "largest_residual",
    ]  # fmt: skip
    assert all(type(value) is float and np.isfinite(value) for value in table.values())
    assert table["largest_residual"] < 1e-6
    assert table["fss_1"] == spatial.fss(ensemble, truth, 1.0, 7)


# Properties


@given(st.permutations(range(5)))
def test_scores_ignore_the_order_of_realizations(order):
    fields = np.random.default_rng(0).exponential(size=(6, 4, 8, 8))
    ensemble, truth = fields[1:], fields[0]
    coarse = block_mean(truth, (2, 4, 4))
    table = tables.score_table(ensemble, truth, coarse, (2, 4, 4))
    shuffled = tables.score_table(ensemble[order], truth, coarse, (2, 4, 4))
    assert shuffled == pytest.approx(table, nan_ok=True)


def test_scores_ignore_what_stands_under_missing_truth(event):
    ensemble, truth = event
    other = ensemble.copy()
    other[:, np.isnan(truth)] = 1e6
    coarse = block_mean(truth, (2, 4, 7))
    table = tables.score_table(ensemble, truth, coarse, (2, 4, 7))
    again = tables.score_table(other, truth, coarse, (2, 4, 7))
    del table["largest_residual"], again["largest_residual"]
    assert again == pytest.approx(table, nan_ok=True)


# Oracle


def test_fair_crps_equals_scoringrules(event):
    scoringrules = pytest.importorskip("scoringrules")
    ensemble, truth = event
    valid = ~np.isnan(truth) & ~np.isnan(ensemble).any(axis=0)
    expected = scoringrules.crps_ensemble(
        truth[valid].astype(float),
        ensemble[:, valid].T.astype(float),
        estimator="fair",
    )
    assert scores.fair_crps(ensemble, truth) == pytest.approx(expected.mean(), rel=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_fss_equals_scores():
    oracle = pytest.importorskip("scores.spatial")
    rng = np.random.default_rng(0)
    # A dry border wider than the neighbourhood, where all treatments of edges agree.
    fields = np.pad(
        rng.exponential(2, (2, 1, 12, 12)), ((0, 0), (0, 0), (5, 5), (5, 5))
    )
    forecast, truth = (xr.DataArray(f[0], dims=("y", "x")) for f in fields)
    expected = oracle.fss_2d_single_field(
        forecast.values, truth.values, event_threshold=1.0, window_size=(3, 3),
        zero_padding=True,
    )  # fmt: skip
    assert spatial.fss(fields[:1], fields[1], 1.0, 3) == pytest.approx(float(expected))


def test_ssim_equals_skimage():
    metrics = pytest.importorskip("skimage.metrics")
    fields = np.random.default_rng(0).exponential(size=(2, 1, 20, 30))
    expected = metrics.structural_similarity(
        fields[0, 0], fields[1, 0], data_range=fields[1].max()
    )
    assert spatial.ssim(fields[:1], fields[1]) == pytest.approx(expected, rel=1e-9)


# Errors


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 5), (0, 2, 3, 4)])
def test_scores_shapes_that_disagree_raise(shape):
    with pytest.raises(DataError, match="does not match truth of shape"):
        scores.fair_crps(np.ones(shape), np.ones((2, 3, 4)))


def test_scores_without_valid_pixel_raise():
    with pytest.raises(DataError, match="no pixel of truth"):
        scores.rmse_of_mean(one_pixel(nan, 1), np.ones((1, 1, 1)))


def test_fss_even_width_raises():
    with pytest.raises(DataError, match="width 4 has no centre pixel"):
        spatial.fss(one_pixel(1), np.ones((1, 1, 1)), 1.0, 4)
