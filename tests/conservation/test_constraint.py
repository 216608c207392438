"""Tests for the xstsr.conserve module and the blocks under it."""

import tracemalloc

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xstsr.conservation import blocks
from xstsr.conservation.blocks import block_mean, block_sum, refine, residual
from xstsr.conservation.constraint import conserve
from xstsr.errors import DataError, FactorError

nan = np.nan


def sqrt_taper(x):
    """The paper's f at (10, 1); its slope at zero is infinite."""
    return x**0.5 - 0.01


@st.composite
def problems(draw, dtypes=("float32", "float64")):
    """A raw fine field, its coarse field, factor and weights, with every mishap."""
    factor = (
        draw(st.integers(1, 6)),
        draw(st.sampled_from([1, 2, 3, 5, 7, 13])),
        draw(st.sampled_from([1, 2, 4, 7, 11])),
    )
    cells = tuple(draw(st.integers(1, 3)) for _ in range(3))
    lead = draw(st.sampled_from([(), (1,), (2,), (2, 1)]))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pixels = tuple(n * f for n, f in zip(cells, factor, strict=True))
    fine = np.exp(rng.normal(0, draw(st.sampled_from([0.1, 3.0])), lead + pixels))
    coarse = np.exp(rng.normal(0, 3, lead + cells))
    dry, missing = (
        draw(st.sampled_from([0, 0.3, 0.95, 1])),
        draw(st.sampled_from([0, 0.2])),
    )
    fine[rng.random(fine.shape) < dry] = draw(st.sampled_from([0.0, -1.0]))
    fine[rng.random(fine.shape) < missing] = nan
    coarse[rng.random(coarse.shape) < 0.2] = 0
    coarse[rng.random(coarse.shape) < missing] = nan
    weights = None
    if draw(st.booleans()):
        shape = draw(st.sampled_from([pixels, pixels[1:], (pixels[1], 1)]))
        weights = rng.uniform(0.1, 2, shape)
    return fine.astype(dtype), coarse.astype(dtype), factor, weights


# Closed form


def test_refine_repeats_each_value_over_its_block():
    coarse = np.array([[[1.0, 2.0]]])
    expected = [[[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2]]]
    np.testing.assert_array_equal(refine(coarse, (1, 2, 3)), expected)


@pytest.mark.parametrize("factor", [(1, 1, 1), (1, 1, 3), (2, 1, 1)])
def test_refine_owns_its_result(factor):
    coarse = np.ones((1, 1, 1))
    refine(coarse, factor)[:] = 2
    assert coarse == 1


def test_block_mean_weighs_and_skips_missing():
    fine = np.array([[[1.0, 3.0, nan, 5.0]]])
    # (1*1 + 3*3) / 4 = 2.5; only 5 is valid in the second block
    np.testing.assert_allclose(
        block_mean(fine, (1, 1, 2), np.array([1.0, 3.0, 1.0, 2.0])), [[[2.5, 5.0]]]
    )


def test_block_sum_weighs_and_skips_missing():
    fine = np.array([[[1.0, 3.0, nan, 5.0, nan, nan]]])
    weights = np.array([1.0, 3.0, 1.0, 2.0, 1.0, 1.0])
    np.testing.assert_allclose(block_sum(fine, (1, 1, 2), weights), [[[10, 10, nan]]])


def test_residual_is_mean_less_coarse():
    fine = np.array([[[1.0, 3.0]]], dtype="float32")
    np.testing.assert_allclose(residual(fine, np.array([[[1.5]]]), (1, 1, 2)), 0.5)


def test_conserve_cell_scales_each_block():
    fine, coarse = np.array([[[1.0, 3.0, 2.0, 2.0]]]), np.array([[[4.0, 1.0]]])
    # gains 4/2 and 1/2
    np.testing.assert_allclose(conserve(fine, coarse, (1, 1, 2)), [[[2, 6, 1, 1]]])


def test_conserve_cell_follows_the_weights():
    fine, coarse = np.array([[[1.0, 3.0]]]), np.array([[[5.0]]])
    # weighted mean (3*1 + 1*3) / 4 = 1.5, gain 10/3
    result = conserve(fine, coarse, (1, 1, 2), weights=np.array([3.0, 1.0]))
    np.testing.assert_allclose(result, [[[10 / 3, 10]]])


def test_conserve_window_uses_one_gain():
    fine, coarse = np.array([[[1.0, 3.0, 2.0, 2.0]]]), np.array([[[4.0, 1.0]]])
    # mean of coarse 2.5 over mean of fine 2 = gain 1.25
    result = conserve(fine, coarse, (1, 1, 2), mode="window")
    np.testing.assert_allclose(result, [[[1.25, 3.75, 2.5, 2.5]]])


def test_conserve_window_keeps_dry_and_missing_cells():
    fine = np.array([[[1.0, 1.0, 1.0, 3.0, 1.0, 1.0]]])
    coarse = np.array([[[0.0, 4.0, nan]]])
    # the valid total is (0 + 4) * 2 = 8; wet raw total 4, gain 2
    result = conserve(fine, coarse, (1, 1, 2), mode="window")
    np.testing.assert_allclose(result, [[[0, 0, 2, 6, nan, nan]]])


def test_conserve_window_falls_back_on_coarse_pattern():
    fine, coarse = np.zeros((1, 1, 4)), np.array([[[0.0, 3.0]]])
    result = conserve(fine, coarse, (1, 1, 2), mode="window")
    np.testing.assert_allclose(result, [[[0, 0, 3, 3]]])


def test_conserve_none_clips_and_masks_only():
    fine = np.array([[[-1.0, 4.0, 9.0, 9.0, 2.0, nan]]])
    coarse = np.array([[[5.0, 0.0, 1.0]]])
    result = conserve(fine, coarse, (1, 1, 2), mode="none")
    np.testing.assert_allclose(result, [[[0, 4, 0, 0, 2, nan]]])


def test_conserve_taper_shapes_before_scaling():
    fine, coarse = np.array([[[1.0, 9.0]]]), np.array([[[4.0]]])
    # f = sqrt: 1, 3 with mean 2, gain 2
    result = conserve(fine, coarse, (1, 1, 2), taper=np.sqrt)
    np.testing.assert_allclose(result, [[[2, 6]]])


def test_conserve_taper_that_empties_a_block_is_left_out():
    fine, coarse = np.array([[[0.01, 0.03, 0.0, 5.0]]]), np.array([[[4.0, 1.0]]])
    result = conserve(fine, coarse, (1, 1, 2), taper=lambda x: x - 0.05)
    np.testing.assert_allclose(result, [[[2, 6, 0, 2]]])


def test_conserve_threshold_dries_pixels_but_no_block():
    fine, coarse = np.array([[[0.01, 5.0, 0.01, 0.03]]]), np.array([[[4.0, 1.0]]])
    result = conserve(fine, coarse, (1, 1, 2), threshold=0.05)
    np.testing.assert_allclose(result, [[[0, 8, 0.5, 1.5]]])


def test_conserve_gain_cap_adds_remainder_to_wet_pixels():
    fine, coarse = np.array([[[0.0, 1.0, 2.0, 1.0]]]), np.array([[[5.0]]])
    # m = 1, cap 2: remainder 5 - 2 = 3; b = x/(x+1) = 0, 1/2, 2/3, 1/2, mean 5/12
    expected = [[[0, 2 + 3 * 6 / 5, 4 + 3 * 8 / 5, 2 + 3 * 6 / 5]]]
    np.testing.assert_allclose(conserve(fine, coarse, (1, 1, 4), gain_cap=2), expected)


def test_conserve_additive_shifts_each_block():
    fine, coarse = np.array([[[270.0, 272.0, nan, -5.0]]]), np.array([[[273.0, -7.0]]])
    result = conserve(fine, coarse, (1, 1, 2), constraint="additive")
    np.testing.assert_allclose(result, [[[272, 274, nan, -7]]])
    window = conserve(fine[..., :2], coarse[..., :1], (1, 1, 2), mode="window",
                      constraint="additive")  # fmt: skip
    np.testing.assert_allclose(window, [[[272, 274]]])
    kept = conserve(fine, coarse, (1, 1, 2), mode="none", constraint="additive")
    np.testing.assert_array_equal(kept, fine)


def test_conserve_all_dry_block_becomes_uniform():
    fine, coarse = np.array([[[0.0, -3.0, nan, 0.0]]]), np.array([[[4.0, 1.0]]])
    result = conserve(fine, coarse, (1, 1, 2))
    np.testing.assert_allclose(result, [[[4, 4, nan, 1]]])


def test_conserve_all_missing_block_stays_missing():
    fine, coarse = np.full((1, 1, 2), nan), np.array([[[4.0]]])
    for mode in ("cell", "window", "none"):
        assert np.isnan(conserve(fine, coarse, (1, 1, 2), mode=mode)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("gain_cap", [None, 1.5])
def test_conserve_extreme_raw_values_stay_finite(dtype, gain_cap):
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    fine = np.array([[[tiny, tiny, huge, 1.0, np.inf, 2.0, tiny, huge]]], dtype)
    coarse = np.full((1, 1, 4), 100.0, dtype)
    result = conserve(fine, coarse, (1, 1, 2), gain_cap=gain_cap)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(block_mean(result, (1, 1, 2)), coarse, rtol=1e-6)


def test_conserve_broadcasts_coarse_over_realizations():
    rng = np.random.default_rng(0)
    fine, coarse = rng.random((3, 4, 4, 4)), rng.random((2, 2, 2))
    result = conserve(fine, coarse, (2, 2, 2))
    for one in range(3):
        np.testing.assert_array_equal(
            result[one], conserve(fine[one], coarse, (2, 2, 2))
        )


# Properties


@given(
    problems(),
    st.sampled_from([None, sqrt_taper]),
    st.sampled_from([None, 1.0, 3.0]),
    st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=60)
def test_conserve_cell_meets_every_block(problem, taper, gain_cap, threshold):
    fine, coarse, factor, weights = problem
    result = conserve(fine, coarse, factor, weights=weights, taper=taper,
                      gain_cap=gain_cap, threshold=threshold)  # fmt: skip
    assert result.dtype == fine.dtype
    assert not (result < 0).any()
    dead = np.isnan(fine) | np.isnan(refine(coarse, factor))
    np.testing.assert_array_equal(np.isnan(result), dead)
    assert (result[(refine(coarse, factor) == 0) & ~dead] == 0).all()
    expected = np.where(np.isnan(block_mean(fine, factor)), nan, coarse)
    rtol = 1e-6 if fine.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(block_mean(result, factor, weights), expected, rtol)


@given(problems(), st.sampled_from([None, sqrt_taper]), st.sampled_from([None, 2.0]))
def test_conserve_window_meets_the_total(problem, taper, gain_cap):
    fine, coarse, factor, weights = problem
    result = conserve(fine, coarse, factor, weights=weights, mode="window",
                      taper=taper, gain_cap=gain_cap)  # fmt: skip
    target = np.where(np.isnan(fine), nan, refine(coarse, factor))
    whole = fine.shape[-3:]
    expected = block_mean(target, whole, weights)
    np.testing.assert_allclose(block_mean(result, whole, weights), expected, 1e-6)
    assert (result[target == 0] == 0).all()
    assert not (result < 0).any()


@given(problems(dtypes=("float64",)))
def test_conserve_additive_meets_every_block(problem):
    fine, coarse, factor, weights = problem
    result = conserve(fine, coarse, factor, weights=weights, constraint="additive")
    expected = np.where(np.isnan(block_mean(fine, factor)), nan, coarse)
    scale = np.nanmax(np.abs(fine), initial=1) + np.nanmax(coarse, initial=1)
    np.testing.assert_allclose(
        block_mean(result, factor, weights), expected, 1e-12, 1e-13 * scale
    )


@given(problems(dtypes=("float64",)))
def test_conserve_twice_is_once(problem):
    fine, coarse, factor, weights = problem
    once = conserve(fine, coarse, factor, weights=weights)
    twice = conserve(once, coarse, factor, weights=weights)
    np.testing.assert_allclose(twice, once, rtol=1e-12)


@given(
    problems(dtypes=("float64",)),
    st.sampled_from(["cell", "window", "none"]),
    st.sampled_from(["multiplicative", "additive"]),
    st.sampled_from([None, 2.0]),
)
@settings(max_examples=60)
def test_conserve_numpy_and_torch_agree(problem, mode, constraint, gain_cap):
    fine, coarse, factor, weights = problem
    options = {"mode": mode, "constraint": constraint, "gain_cap": gain_cap,
               "taper": sqrt_taper, "weights": weights}  # fmt: skip
    here = conserve(fine, coarse, factor, **options)
    there = conserve(torch.tensor(fine), torch.tensor(coarse), factor, **options)
    np.testing.assert_allclose(there.numpy(), here, rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(
        block_sum(torch.tensor(fine), factor, weights).numpy(),
        block_sum(fine, factor, weights),
        rtol=1e-12,
        atol=1e-12,
    )


@given(problems(), st.sampled_from([1, 40, 500]))
def test_conserve_is_the_same_for_any_slab(problem, size):
    fine, coarse, factor, weights = problem
    whole = conserve(fine, coarse, factor, weights=weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "SLAB", size)
        np.testing.assert_array_equal(
            conserve(fine, coarse, factor, weights=weights), whole
        )
        means = block_mean(fine, factor, weights)
    np.testing.assert_array_equal(block_mean(fine, factor, weights), means)


@given(problems(dtypes=("float64",)))
def test_block_mean_undoes_refine(problem):
    _, coarse, factor, weights = problem
    means = block_mean(refine(coarse, factor), factor, weights)
    np.testing.assert_allclose(means, coarse, rtol=1e-14)


def test_conserve_leaves_its_inputs_alone():
    fine, coarse = np.array([[[-1.0, nan, 3.0, 1.0]]]), np.array([[[1.0, nan]]])
    before = fine.copy(), coarse.copy()
    conserve(fine, coarse, (1, 1, 2))
    block_mean(fine, (1, 1, 2))
    np.testing.assert_array_equal(fine, before[0])
    np.testing.assert_array_equal(coarse, before[1])


def test_conserve_torch_gradient_matches_finite_differences():
    torch.manual_seed(0)
    fine = torch.rand(2, 2, 4, 4, dtype=torch.float64) + 0.1
    fine.requires_grad_()
    coarse = torch.rand(2, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    for options in ({}, {"gain_cap": 1.0}, {"mode": "window"},
                    {"constraint": "additive"}):  # fmt: skip
        assert torch.autograd.gradcheck(
            lambda x, c, kw=options: conserve(x, c, (2, 2, 2), **kw), (fine, coarse)
        )


def test_conserve_torch_gradient_is_finite_at_dry_and_missing():
    fine = torch.tensor([[[0.0, 2.0, nan, 1.0, 0.0, 0.0, 1.0, 1.0]]])
    fine.requires_grad_()
    coarse = torch.tensor([[[1.0, 2.0, 3.0, nan]]])
    y = conserve(fine, coarse, (1, 1, 2), taper=sqrt_taper, gain_cap=2.0)
    torch.where(torch.isnan(y), 0, y**2).sum().backward()
    assert torch.isfinite(fine.grad).all()


# Oracle


@given(problems(dtypes=("float64",)))
def test_block_mean_equals_xarray_coarsen(problem):
    fine, _, factor, _ = problem
    da = xr.DataArray(fine.reshape(-1, *fine.shape[-3:]), dims=("n", "t", "y", "x"))
    coarsened = da.coarsen(t=factor[0], y=factor[1], x=factor[2])
    means = block_mean(da.values, factor)
    sums = block_sum(da.values, factor)
    valid = ~np.isnan(means)
    np.testing.assert_allclose(
        means[valid], coarsened.construct(
            t=("t", "i"), y=("y", "j"), x=("x", "k")
        ).mean(("i", "j", "k")).values[valid], rtol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(
        sums[valid], coarsened.sum().values[valid], rtol=1e-12, atol=1e-9
    )


# Cost


def test_conserve_makes_no_second_field():
    fine = np.ones((6, 400, 400), "float32")
    coarse = np.ones((2, 40, 40), "float32")
    conserve(fine[:3], coarse[:1], (3, 10, 10))
    tracemalloc.start()
    conserve(fine, coarse, (3, 10, 10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * fine.nbytes


# Errors

FINE, COARSE = np.ones((2, 4, 4)), np.ones((1, 2, 2))


@pytest.mark.parametrize(
    "factor", [(2, 2), (0, 2, 2), (2, 2.0, 2), (True, 2, 2), "abc"]
)
def test_conserve_factor_malformed_raises(factor):
    with pytest.raises(FactorError, match="is not \\(t, sy, sx\\)"):
        conserve(FINE, COARSE, factor)


def test_block_mean_factor_not_dividing_raises():
    with pytest.raises(
        FactorError, match=r"\(2, 3, 2\) does not divide .* \(2, 4, 4\)"
    ):
        block_mean(FINE, (2, 3, 2))


@pytest.mark.parametrize("coarse", [np.ones((1, 2, 3)), np.ones((2, 1, 2, 2))])
def test_conserve_shapes_that_disagree_raise(coarse):
    with pytest.raises(FactorError, match=r"is not .* times coarse of shape"):
        conserve(FINE, coarse, (2, 2, 2))


def test_conserve_leading_axes_that_disagree_raise():
    with pytest.raises(FactorError, match="must broadcast to"):
        conserve(np.ones((3, 2, 4, 4)), np.ones((2, 1, 2, 2)), (2, 2, 2))


def test_refine_too_few_axes_raises():
    with pytest.raises(DataError, match=r"coarse has shape \(2, 2\)"):
        refine(np.ones((2, 2)), (1, 2, 2))


def test_conserve_integer_field_raises():
    with pytest.raises(DataError, match="dtype int64"):
        conserve(FINE.astype(np.int64), COARSE, (2, 2, 2))


def test_conserve_negative_coarse_raises():
    with pytest.raises(DataError, match=r"goes down to -0\.5"):
        conserve(FINE, COARSE * -0.5, (2, 2, 2))


@pytest.mark.parametrize("bad", [0.0, -1.0, nan, np.inf])
def test_conserve_weights_not_positive_raise(bad):
    with pytest.raises(DataError, match="every pixel needs a positive finite one"):
        conserve(FINE, COARSE, (2, 2, 2), weights=np.array([1.0, bad, 1.0, 1.0]))


@pytest.mark.parametrize("module", [np, torch])
def test_conserve_weights_of_wrong_shape_raise(module):
    fine, coarse = module.ones((2, 4, 4)), module.ones((1, 2, 2))
    with pytest.raises(DataError, match=r"weights of shape \(3,\) do not broadcast"):
        conserve(fine, coarse, (2, 2, 2), weights=np.ones(3))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"mode": "total"}, "mode 'total' is unknown"),
        ({"constraint": "softmax"}, "constraint 'softmax' is unknown"),
        ({"gain_cap": 0.0}, "gain_cap 0.0 cannot limit"),
        ({"threshold": -1.0}, "threshold -1.0 is not a rain rate"),
    ],
)
def test_conserve_unknown_option_raises(option, message):
    with pytest.raises(DataError, match=message):
        conserve(FINE, COARSE, (2, 2, 2), **option)
