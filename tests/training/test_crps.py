"""The generator's loss: smallest for draws that are distributed as the truth."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scoringrules import crps_ensemble
from torch.nn import functional

from xstsr.training import crps
from xstsr.training.crps import crps_loss

SHAPE = (4, 1, 6, 32, 32)


def noise(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth(x):
    """Blobs with unit variance in each pixel."""
    blurred = functional.avg_pool3d(x, (1, 3, 3), 1, (0, 1, 1), count_include_pad=False)
    return blurred / blurred.std()


def test_loss_of_single_pixels_is_the_fair_crps():
    first, second, truth = (noise(i, (64, 1, 1, 1, 1)) for i in range(3))
    found = crps_loss(first, second, truth, torch.ones_like(truth))
    ensemble = torch.stack((first, second), -1).squeeze().numpy()
    expected = crps_ensemble(truth.squeeze().numpy(), ensemble, estimator="fair")
    assert float(found) == pytest.approx(expected.mean(), rel=1e-5)


@given(st.floats(-5, 5))
def test_draws_that_hit_the_truth_cost_nothing(value):
    field = value + noise(0)
    weight = torch.ones_like(field)
    assert float(crps_loss(field, field, field, weight)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale", [0.5, 1.5], ids=["too narrow", "too wide"])
def test_wrong_spread_costs_more(scale):
    first, second, truth = noise(0), noise(1), noise(2)
    weight = torch.ones_like(truth)
    right = crps_loss(first, second, truth, weight)
    assert crps_loss(scale * first, scale * second, truth, weight) > 1.01 * right


def test_blobs_cost_more_than_the_right_grain():
    first, second, truth = noise(0), noise(1), noise(2)
    weight = torch.ones_like(truth)
    right = crps_loss(first, second, truth, weight)
    blobs = crps_loss(smooth(first), smooth(second), truth, weight)
    assert blobs > 1.05 * right


def test_flicker_costs_more_than_persistence():
    still = [noise(i, (4, 1, 1, 32, 32)).expand(SHAPE) for i in range(3)]
    weight = torch.ones(SHAPE)
    right = crps_loss(*still, weight)
    assert crps_loss(noise(4), noise(5), still[2], weight) > 1.05 * right


def test_pixels_without_weight_do_not_count():
    first, second, truth = noise(0), noise(1), noise(2)
    weight = torch.ones_like(truth)
    weight[..., 8:16] = 0
    before = crps_loss(first, second, truth, weight)
    first[..., 8:16] += 100
    assert float(crps_loss(first, second, truth, weight)) == pytest.approx(
        float(before), rel=1e-5
    )


def test_every_scale_counts():
    pixels = {p for _, p in crps.POOLS}
    for size in pixels:
        # a checkerboard of blocks: a mistake at one scale alone
        board = (np.indices((32, 32)) // size).sum(0) % 2 * 2.0 - 1
        wrong = torch.as_tensor(board, dtype=torch.float32).expand(SHAPE)
        truth, weight = torch.zeros(SHAPE), torch.ones(SHAPE)
        assert crps_loss(wrong, wrong, truth, weight) > 0.2
