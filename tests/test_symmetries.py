"""Symmetries of space and time: what a change of the input must do to the result.

No number here comes from an implementation. A field upside down gives the result
upside down; twice the rain gives twice the rain; tomorrow's rain is refined as today's.
"""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.models import NEURAL, STOCHASTIC, write_tiny_model
from tests.strategies import HOUR, cf_dataarrays, make
from xstsr.cf.times import DAY
from xstsr.conservation.blocks import block_mean, block_sum, refine
from xstsr.conservation.constraint import conserve
from xstsr.methods import baselines

BASELINES = {"linear": baselines.linear, "nearest": baselines.nearest}
FACTOR = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
QUIET = ("linear", "nearest")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@st.composite
def rains(draw, most=4):
    """Rain rates of shape (T, Y, X), some dry, some missing."""
    shape = tuple(draw(st.integers(1, most)) for _ in range(3))
    rate = st.one_of(st.just(0.0), st.floats(2**-10, 50, width=32), st.just(np.nan))
    return draw(hnp.arrays("float64", shape, elements=rate))


def field(frames=7, rows=4, columns=5, *, seed=0, **options):
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.gamma(0.5, 2.0, (frames, rows, columns)) - 0.3, 0)
    return make(values, **{"dtype": "float64"} | options)


def same(a, b, rtol=1e-12):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)


# baselines on arrays


@given(coarse=rains(), factor=FACTOR, axis=st.sampled_from([-3, -2, -1]))
@pytest.mark.parametrize("name", QUIET)
def test_baseline_of_a_mirror_image_is_the_mirror_image(name, coarse, factor, axis):
    refined = BASELINES[name]
    mirrored = refined(np.flip(coarse, axis), factor)
    same(mirrored, np.flip(refined(coarse, factor), axis), 1e-10)


@given(coarse=rains(), factor=FACTOR)
@pytest.mark.parametrize("name", QUIET)
def test_baseline_of_a_transposed_field_is_transposed(name, coarse, factor):
    refined = BASELINES[name]
    turned = refined(coarse.transpose(0, 2, 1), (factor[0], factor[2], factor[1]))
    same(turned, refined(coarse, factor).transpose(0, 2, 1), 1e-10)


@given(coarse=rains(), factor=FACTOR, power=st.integers(-20, 20))
@pytest.mark.parametrize("name", QUIET)
def test_baseline_is_linear_in_the_rain(name, coarse, factor, power):
    refined = BASELINES[name]
    scaled = refined(coarse * 2.0**power, factor)
    np.testing.assert_array_equal(scaled, refined(coarse, factor) * 2.0**power)


@given(first=rains(), factor=FACTOR)
@pytest.mark.parametrize("name", QUIET)
def test_baseline_of_a_sum_is_the_sum(name, first, factor):
    refined = BASELINES[name]
    second = np.where(
        np.isnan(first), np.nan, np.arange(first.size).reshape(first.shape)
    )
    both = refined(first + second, factor)
    same(both, refined(first, factor) + refined(second, factor), 1e-9)


@given(coarse=rains(), a=FACTOR, b=FACTOR)
def test_nearest_in_two_steps_is_nearest_in_one(coarse, a, b):
    once = baselines.nearest(coarse, tuple(m * n for m, n in zip(a, b, strict=True)))
    np.testing.assert_array_equal(
        baselines.nearest(baselines.nearest(coarse, a), b), once
    )


@given(value=st.floats(0, 100, width=32), factor=FACTOR, frames=st.integers(1, 4))
@pytest.mark.parametrize("name", QUIET)
def test_baseline_of_a_constant_is_constant(name, value, factor, frames):
    coarse = np.full((frames, 2, 3), value)
    np.testing.assert_array_equal(
        BASELINES[name](coarse, factor), np.full_like(refine(coarse, factor), value)
    )


@settings(max_examples=20)
@given(power=st.integers(-6, 6), seed=st.integers(0, 99), t=st.integers(1, 3))
def test_rainfarm_scales_with_the_rain(power, seed, t):
    """Its noise multiplies, and the slopes do not depend on the unit."""
    coarse = field(4, 3, 3, seed=seed).values
    steps = np.arange(4 * t) * HOUR
    usual, scaled = (
        baselines.rainfarm(c, (t, 2, 2), seed=seed, realization=0, steps=steps)
        for c in (coarse, coarse * 2.0**power)
    )
    same(scaled, usual * 2.0**power, 1e-5)


# block means


@given(fine=rains(most=2), factor=FACTOR)
def test_refine_is_the_adjoint_of_block_sum(fine, factor):
    """Sum(refine(c) * x) is sum(c * block_sum(x)) for any c and x."""
    fine = np.nan_to_num(refine(fine, factor))
    fine = fine * np.random.default_rng(1).normal(size=fine.shape)
    coarse = np.random.default_rng(0).normal(
        size=[n // f for n, f in zip(fine.shape, factor, strict=True)]
    )
    left = np.sum(refine(coarse, factor) * fine)
    right = np.sum(coarse * block_sum(fine, factor))
    assert left == pytest.approx(right, rel=1e-9, abs=1e-9)


@given(a=FACTOR, b=FACTOR, seed=st.integers(0, 99))
def test_block_mean_of_block_means_is_one_block_mean(a, b, seed):
    """With weights the outer mean is weighted by the inner sums of weights."""
    rng = np.random.default_rng(seed)
    both = tuple(m * n for m, n in zip(a, b, strict=True))
    fine = rng.normal(size=[2 * n for n in both])
    weights = rng.uniform(0.5, 2.0, fine.shape)
    inner = block_mean(fine, a, weights)
    outer = block_mean(inner, b, block_sum(np.ones_like(fine), a, weights))
    same(outer, block_mean(fine, both, weights), 1e-10)


@settings(max_examples=60)
@given(
    coarse=rains(),
    factor=FACTOR,
    seed=st.integers(0, 99),
    weighted=st.booleans(),
    taper=st.sampled_from([None, np.sqrt, lambda x: (x - 0.3).clip(0)]),
    cap=st.sampled_from([None, 8.0, 1.0, 0.1]),
    threshold=st.sampled_from([0.0, 0.2]),
    dry=st.floats(0, 1),
)
def test_every_combination_of_options_keeps_every_block(
    coarse, factor, seed, weighted, taper, cap, threshold, dry
):
    rng = np.random.default_rng(seed)
    shape = refine(coarse, factor).shape
    raw = np.where(rng.random(shape) < dry, 0.0, rng.lognormal(0, 3, shape))
    weights = rng.uniform(0.1, 3.0, shape) if weighted else None
    fine = conserve(
        raw,
        coarse,
        factor,
        weights=weights,
        taper=taper,
        gain_cap=cap,
        threshold=threshold,
    )
    np.testing.assert_allclose(block_mean(fine, factor, weights), coarse, rtol=1e-11)
    assert np.nanmin(fine, initial=0.0) >= 0.0


@given(coarse=rains(), factor=FACTOR, axis=st.sampled_from([-3, -2, -1]))
@pytest.mark.parametrize("constraint", ["multiplicative", "additive"])
def test_conserve_of_a_mirror_image_is_the_mirror_image(
    constraint, coarse, factor, axis
):
    raw = np.random.default_rng(0).gamma(0.5, 2.0, refine(coarse, factor).shape)
    options = {"constraint": constraint}
    if constraint == "multiplicative":
        options["gain_cap"] = 8.0
    usual = conserve(raw, coarse, factor, **options)
    flipped = conserve(np.flip(raw, axis), np.flip(coarse, axis), factor, **options)
    np.testing.assert_allclose(flipped, np.flip(usual, axis), rtol=1e-9, atol=1e-9)


# labelled fields


@pytest.mark.parametrize("method", QUIET)
@pytest.mark.parametrize("dim", ["lat", "lon"])
@pytest.mark.parametrize("conserved", ["cell", "window", "none"])
def test_field_upside_down_gives_the_result_upside_down(method, dim, conserved):
    da = field()
    options = {"method": method, "conserve": conserved}
    usual = da.stsr.upscale(3, 2, **options)
    flipped = da.isel({dim: slice(None, None, -1)}).stsr.upscale(3, 2, **options)
    back = flipped.isel({dim: slice(None, None, -1)})
    same(back, usual, 1e-10)
    same(back[dim], usual[dim], 1e-10)


@settings(max_examples=15)
@given(da=cf_dataarrays(), data=st.data(), method=st.sampled_from(QUIET))
def test_order_of_dims_does_not_matter(da, data, method):
    order = data.draw(st.permutations(da.dims))
    usual = da.stsr.upscale(2, 2, method=method)
    turned = da.transpose(*order).stsr.upscale(2, 2, method=method)
    assert turned.dims == tuple(order)
    xr.testing.assert_identical(
        turned.transpose(*usual.dims).drop_attrs(), usual.drop_attrs()
    )


@settings(max_examples=15)
@given(
    power=st.integers(-8, 8),
    method=st.sampled_from(QUIET),
    t=st.integers(1, 4),
    conserved=st.sampled_from(["cell", "window", "none"]),
)
def test_twice_the_rain_gives_twice_the_rain(power, method, t, conserved):
    da = field(20, 2, 3)
    options = {"method": method, "conserve": conserved}
    more = da.copy(data=da.values * 2.0**power).stsr.upscale(2, t, **options)
    same(more, da.stsr.upscale(2, t, **options) * 2.0**power)


@pytest.mark.parametrize("days", [-40, 1, 365])
@pytest.mark.parametrize("t", [1, 2, 5])
@pytest.mark.parametrize("method", QUIET)
def test_rain_of_another_day_is_refined_alike(method, days, t):
    """Windows lie elsewhere in the record then, which must not show."""
    da = field(50, 2, 3, grid="metres")
    later = da.assign_coords(time=da.time + np.timedelta64(days, "D"))
    usual = da.stsr.upscale(2, t, method=method)
    moved = later.stsr.upscale(2, t, method=method)
    same(moved, usual, 1e-10)
    np.testing.assert_array_equal(moved.time, usual.time + np.timedelta64(days, "D"))


@pytest.mark.parametrize("cut", [(3, None), (0, 30), (11, 41)])
@pytest.mark.parametrize("method", QUIET)
def test_part_of_a_record_is_refined_as_in_the_whole(method, cut):
    da = field(50, 2, 3, grid="metres")
    whole = da.stsr.upscale(2, 3, method=method)
    part = da.isel(time=slice(*cut)).stsr.upscale(2, 3, method=method)
    inner = part.isel(time=slice(3, -3))
    same(inner, whole.sel(time=inner.time), 1e-10)


@settings(max_examples=20)
@given(
    s=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    t=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    grid=st.sampled_from(["lat_lon", "km", "rotated"]),
    kind=st.sampled_from(["rate", "amount", "state"]),
    label=st.sampled_from(["left", "mid"]),
)
def test_nearest_twice_is_nearest_once(s, t, grid, kind, label):
    da = field(3, 2, 3, grid=grid, kind=kind, label=label)
    once = da.stsr.upscale(s[0] * s[1], t[0] * t[1], method="nearest")
    twice = da
    for space, time in zip(s, t, strict=True):
        twice = twice.stsr.upscale(space, time, method="nearest")
    same(twice, once, 1e-10)
    np.testing.assert_array_equal(twice.time, once.time)
    for dim in once.dims[1:]:
        same(twice[dim], once[dim], 1e-9)


def test_space_first_or_time_first_is_all_one_for_nearest():
    da = field()
    space_first = da.stsr.upscale(3, method="nearest").stsr.upscale(
        1, 4, method="nearest"
    )
    time_first = da.stsr.upscale(1, 4, method="nearest").stsr.upscale(
        3, method="nearest"
    )
    same(space_first, time_first)


@pytest.mark.parametrize("method", QUIET)
def test_unit_of_the_rain_does_not_matter(method):
    """The same water as 1 mm h-1, 1 mm in an hour, or 1 / 3600 kg m-2 s-1."""
    rate = field(grid="metres")
    flux = make(rate.values / 3600, units="kg m-2 s-1", grid="metres", dtype="float64")
    amount = make(rate.values, kind="amount", grid="metres", dtype="float64")
    usual = rate.stsr.upscale(2, 4, method=method)
    same(flux.stsr.upscale(2, 4, method=method) * 3600, usual)
    same(amount.stsr.upscale(2, 4, method=method) * 4, usual)


@pytest.mark.parametrize("calendar", [None, "noleap", "360_day"])
@pytest.mark.parametrize("step", [HOUR, DAY])
def test_calendar_does_not_matter_for_equal_steps(calendar, step):
    da = field(6, 2, 3, step=step, calendar=calendar)
    usual = field(6, 2, 3, step=step).stsr.upscale(2, 3, method="linear")
    same(da.stsr.upscale(2, 3, method="linear"), usual)


# the networks


def test_dry_cells_stay_dry_in_any_surroundings(model):
    """Dry, missing or wet neighbours: a dry cell has no water to give."""
    da = field(4, 5, 5, seed=3, grid="metres", dtype="float32")
    for around in (0.0, 30.0, np.nan):
        da[:] = around
        da[:, 2, 2] = 0.0
        fine = da.stsr.upscale(4, 2, method="diffusion", realizations=2, model=model)
        np.testing.assert_array_equal(fine[..., 8:12, 8:12], 0.0)


def test_far_dry_cells_may_as_well_be_missing(model):
    """Locality: nothing is normalised over space."""
    da = field(3, 4, 14, seed=1, grid="metres", dtype="float32")
    da[:, :, 3:] = 0.0
    usual = da.stsr.upscale(8, 2, model=model)
    unseen = da.copy(data=da.values.copy())
    unseen[:, :, 10:] = np.nan
    masked = unseen.stsr.upscale(8, 2, model=model)
    assert np.isnan(masked[..., 80:]).all()
    np.testing.assert_allclose(masked[..., :24], usual[..., :24], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", NEURAL)
def test_field_does_not_feel_another_far_away(model, method):
    da = field(3, 4, 14, seed=1, grid="metres", dtype="float32")
    other = da.copy(data=da.values.copy())
    other[:, :, 11:] *= 5.0
    one, two = (x.stsr.upscale(8, 2, method=method, model=model) for x in (da, other))
    np.testing.assert_allclose(two[..., :24], one[..., :24], rtol=1e-4, atol=1e-5)
    assert not np.allclose(two[..., 96:], 5 * one[..., 96:], rtol=1e-3)


@pytest.mark.parametrize("method", STOCHASTIC)
def test_no_realization_is_special(model, method):
    """Each is as far from the mean of the others as any; none repeats another."""
    da = field(6, 5, 5, seed=2, grid="metres", dtype="float32")
    options = {"realizations": 6, "method": method, "model": model}
    if method == "rainfarm":
        options.pop("model")
    fine = da.stsr.upscale(4, 2, **options).values
    distances = []
    for k in range(6):
        others = np.delete(fine, k, axis=0)
        distances.append(np.sqrt(np.mean((fine[k] - others.mean(axis=0)) ** 2)))
        assert min(np.abs(fine[k] - other).max() for other in others) > 0.01
    assert max(distances) < 1.5 * min(distances)


def test_ensemble_keeps_the_water_in_every_realization(model):
    da = field(5, 3, 4, seed=4, grid="metres", dtype="float32")
    fine = da.stsr.upscale(5, 3, realizations=4, model=model)
    for realization in fine:
        np.testing.assert_allclose(
            block_mean(realization.values, (3, 5, 5)), da, rtol=1e-5, atol=1e-6
        )


def test_networks_take_dims_in_any_order(model):
    da = field(4, 3, 4, seed=5, grid="metres", dtype="float32")
    usual = da.stsr.upscale(3, 2, model=model, seed=2)
    turned = da.transpose("x", "y", "time").stsr.upscale(3, 2, model=model, seed=2)
    np.testing.assert_array_equal(turned.transpose(*usual.dims), usual)


def test_networks_refine_amounts_of_any_unit_alike(model):
    rate = field(4, 3, 4, seed=6, grid="metres", dtype="float32")
    metres = make(
        rate.values / 1000, kind="amount", units="m", grid="metres", dtype="float32"
    )
    usual = rate.stsr.upscale(3, 2, model=model)
    found = metres.stsr.upscale(3, 2, model=model) * 2000
    np.testing.assert_allclose(found, usual, rtol=1e-3, atol=1e-4)
