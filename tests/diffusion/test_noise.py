"""The noise is a pure function of seed, realization, time and place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from xstsr.diffusion.noise import key_of, normal, philox4x32

STEP = 300_000_000  # 5 min in us


@pytest.mark.parametrize(
    ("word", "key", "expected"),
    [
        # the known answers that the authors of Philox publish with Random123
        (0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0xFFFFFFFF, 0xFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_gives_the_published_answers(word, key, expected):
    counter = torch.full((4, 1), word, dtype=torch.int64)
    assert philox4x32(counter, (key, key))[:, 0].tolist() == list(expected)


def test_philox_of_pi_gives_the_published_answer():
    counter = torch.tensor([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344])
    words = philox4x32(counter[:, None], (0xA4093822, 0x299F31D0))
    expected = [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]
    assert words[:, 0].tolist() == expected


@given(
    y=st.integers(-50, 50),
    x=st.integers(-50, 50),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    first=st.integers(0, 3),
)
def test_normal_of_a_tile_is_that_of_the_whole(y, x, rows, columns, first):
    times = np.arange(4) * STEP - STEP  # before 1970 too
    whole = normal(times, (120, 120), seed=3, origin=(-60, -60))
    tile = normal(times[first:], (rows, columns), seed=3, origin=(y, x))
    cut = whole[first:, y + 60 : y + 60 + rows, x + 60 : x + 60 + columns]
    assert torch.equal(tile, cut)


def test_normal_is_standard_normal():
    values = normal(np.arange(16) * STEP, (128, 128), seed=1).flatten().numpy()
    assert stats.kstest(values, "norm").pvalue > 0.01
    assert np.isfinite(values).all()


def test_normal_neighbours_are_uncorrelated():
    field = normal(np.arange(8) * STEP, (128, 128), seed=5)
    for axis in (0, 1, 2):
        here, there = field.narrow(axis, 0, 7), field.narrow(axis, 1, 7)
        r = np.corrcoef(here.flatten(), there.flatten())[0, 1]
        assert abs(r) < 4 / np.sqrt(here.numel())


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 2},
        {"seed": 1, "realization": 1},
        {"seed": 1, "stream": 1},
        {"seed": 1, "draw": 1},
    ],
)
def test_normal_of_another_field_is_independent(other):
    times = np.arange(4) * STEP
    a = normal(times, (64, 64), seed=1).flatten()
    b = normal(times, (64, 64), **other).flatten()
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.numel())


def test_key_of_tells_seed_and_realization_apart():
    assert (
        len({key_of(a, b, c) for a in range(4) for b in range(4) for c in (0, 1)}) == 32
    )
