"""Factors beyond the model's, in two stages: water, noise, chunks, labels."""

import warnings
from dataclasses import replace

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xstsr
from tests.models import SPEC, tiny_model, write_tiny_model
from tests.strategies import cf_dataarrays, make, make_dataset
from xstsr.cf.read import read_meaning
from xstsr.diffusion.checkpoint import save_model
from xstsr.diffusion.transform import StateTransform
from xstsr.errors import AssumptionWarning, FactorError, PlanError
from xstsr.methods.recipe import Recipe, Taper
from xstsr.planning.stages import chain, plan_stages

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is more than the model refines at once"),
    pytest.mark.filterwarnings("ignore:the fine grid lies beyond"),
]
FACTORS = (4, 8)  # in time beyond 6, so that small fields do


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def rain():
    values = np.random.default_rng(8).gamma(0.4, 2.0, (5, 3, 4))
    values[values < 0.2] = 0.0
    values[:, 1, 1] = np.nan
    return make(values, grid="metres", label="mid")


def same(a, b):
    xr.testing.assert_identical(a.drop_attrs(), b.drop_attrs())


# property


@settings(max_examples=15, deadline=None)
@given(
    da=cf_dataarrays(kinds=("rate", "amount")),
    s=st.sampled_from((1, 2, 4, (2, 6), (26, 2))),
    t=st.sampled_from((8, 9, 10)),
)
def test_two_stages_keep_the_water_of_every_cell(model, da, s, t):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        fine = da.stsr.upscale(s, t, model=model)
    receipt = fine.stsr.check(da)
    assert receipt.relative < 1e-5
    assert receipt.lost == 0
    assert float(fine.fillna(0).min()) >= 0


@pytest.mark.parametrize("method", ["diffusion", "mean"])
def test_methods_with_networks_take_two_stages(rain, model, method):
    fine = rain.stsr.upscale(*FACTORS, method=method, model=model)
    assert fine.shape == (40, 12, 16)
    assert fine.stsr.check(rain).relative < 1e-5
    assert fine.isnull().sum() == 40 * 16


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "y": 2, "x": 3}])
@pytest.mark.parametrize("realizations", [None, 2])
def test_two_stages_have_the_same_bits_in_any_chunks(rain, model, chunks, realizations):
    call = {"model": model, "realizations": realizations}
    with dask.config.set(scheduler=_refuse):
        lazy = rain.chunk(chunks).stsr.upscale(*FACTORS, **call)
    now = rain.stsr.upscale(*FACTORS, **call)
    same(lazy.compute(scheduler="synchronous"), now)
    assert lazy.attrs.keys() == now.attrs.keys()


def _refuse(*args, **kwargs):
    pytest.fail("building the graph computed something")


def test_realizations_do_not_depend_on_how_many_there_are(rain, model):
    more = rain.stsr.upscale(*FACTORS, model=model, realizations=3)
    few = rain.stsr.upscale(*FACTORS, model=model, realizations=1)
    np.testing.assert_allclose(more[:1], few, rtol=1e-4, atol=1e-6)
    one = rain.stsr.upscale(*FACTORS, model=model)
    np.testing.assert_allclose(few[0], one, rtol=1e-4, atol=1e-6)
    assert not np.allclose(more[0], more[1], equal_nan=True)


def test_part_of_a_record_is_refined_as_in_the_whole(model):
    values = np.random.default_rng(4).gamma(0.5, 2.0, (40, 2, 2))
    da = make(values, grid="metres", label="mid")
    recipe = Recipe(beta=0.02, context=3)  # sees little, so that the ends are near
    call = {"model": model, "recipe": recipe}
    whole = da.stsr.upscale(2, 8, **call)
    part = da[7:33].stsr.upscale(2, 8, **call)
    a, b = part[8 * 8 : -8 * 8], whole[15 * 8 : 25 * 8]
    # networks take another number of frames at a time, which rounds in another way
    xr.testing.assert_allclose(a.drop_attrs(), b.drop_attrs(), rtol=1e-4, atol=1e-5)


def test_second_stage_goes_on_from_the_first_with_other_noise(rain, model):
    first, second = rain.stsr.plan(*FACTORS, model=model, realizations=2).jobs
    assert (first.request.factor, second.request.factor) == ((2, 2, 2), (4, 2, 2))
    assert first.request.seed != second.request.seed
    assert first.request.realizations == second.request.realizations == (0, 1)
    fine = rain.stsr.upscale(*FACTORS, model=model, realizations=2)
    between = rain.stsr.upscale(2, 2, model=model, realizations=2)
    for k in range(2):
        assert fine[k].stsr.check(between[k]).relative < 1e-5
        assert fine[k].stsr.check(between[1 - k]).relative > 0.01


def test_states_keep_their_means_in_two_stages(tmp_path):
    transform = StateTransform(280.0, 4.0, "K", "air_temperature")
    path = tmp_path / "state.safetensors"
    save_model(tiny_model(spec=replace(SPEC, transform=transform)), path, {})
    values = np.random.default_rng(2).normal(280, 5, (3, 3, 5))
    da = make(values, kind="state", dtype="float64", label="mid")
    fine = da.stsr.upscale(2, 8, model=path)
    assert float(fine.std()) > float(da.std())
    np.testing.assert_allclose(fine.stsr.coarsen(2, 8), da, rtol=1e-9)


def test_windows_of_the_first_stage_keep_their_total(rain, model):
    full = rain.fillna(0.3).assign_attrs(rain.attrs)
    fine = full.stsr.upscale(*FACTORS, model=model, conserve="window")
    assert fine.stsr.check(full).relative > 1e-3
    np.testing.assert_allclose(fine.mean(), full.mean(), rtol=1e-5)
    assert "conserve=window" in fine.attrs["history"]
    free = full.stsr.upscale(*FACTORS, model=model, conserve="none")
    assert abs(float(free.mean() / full.mean()) - 1) > 1e-3


# closed form


def test_labels_and_history_are_those_of_one_refinement(rain, model):
    fine = rain.stsr.upscale(*FACTORS, model=model, seed=5)
    once = rain.stsr.upscale(*FACTORS, method="nearest")
    for name in once.coords:
        assert fine[name].identical(once[name]), name
    assert (fine.attrs["xstsr_s"], fine.attrs["xstsr_t"]) == FACTORS
    assert fine.attrs["xstsr_seed"] == 5
    assert "\n" not in fine.attrs["history"]
    assert "upscale(s=4, t=8, method=diffusion" in fine.attrs["history"]


def test_datasets_are_complete(model):
    ds = make_dataset("rotated")
    fine = ds.stsr.upscale("pr", 2, 9, model=model)
    once = ds.stsr.upscale("pr", 2, 9, method="nearest")
    assert set(fine.variables) == set(once.variables)
    for name in ("time_bnds", "rlat_bnds", "cell_area", "lat"):
        assert fine[name].identical(once[name])


def test_plan_counts_both_stages(rain, model):
    preview = rain.stsr.plan(*FACTORS, model=model, realizations=3)
    assert preview.shape == (3, 40, 12, 16)
    assert preview.nbytes == 4 * 3 * 40 * 12 * 16
    assert preview.held_bytes == preview.nbytes + 4 * 3 * 10 * 6 * 8
    told = preview.to_dict()
    assert told["factor"] == {"s": 4, "t": 8}
    assert told["stages"] == [[2, 2, 2], [4, 2, 2]]
    lines = dict(preview.lines)
    assert lines["factor"] == "s=2, t=2 then s=2, t=4"
    first, second = preview.jobs
    assert preview.tasks == len(first.plan.windows) + 3 * len(second.plan.windows)
    parts = [replace(preview, jobs=(job,)).seconds for job in preview.jobs]
    assert preview.seconds == pytest.approx(sum(parts))
    lazy = rain.chunk(time=2).stsr.upscale(*FACTORS, model=model, realizations=3)
    assert lazy.chunks == preview.chunks


def test_recipe_is_shared_out(rain, model):
    rule = Recipe.for_factors(4, 8, step=60.0)
    asked = replace(rule, beta=1.5 * rule.beta, taper=Taper(0.9))
    first, second = rain.stsr.plan(*FACTORS, model=model, recipe=asked).jobs
    assert first.request.recipe.amplitude(2, 2) == pytest.approx(1.5)
    assert second.request.recipe.amplitude(2, 4) == pytest.approx(1.5)
    assert not first.request.recipe.taper
    assert second.request.recipe.taper == Taper(0.9)


def test_model_that_knows_more_takes_one_stage(rain, tmp_path):
    path = tmp_path / "daily.safetensors"
    save_model(tiny_model(), path, {"s": [4], "t": [8]})
    assert len(rain.stsr.plan(4, 8, model=str(path)).jobs) == 1
    assert len(rain.stsr.plan(4, 9, model=str(path)).jobs) == 2


def test_methods_without_networks_and_instants_take_one_stage(rain, model):
    assert len(rain.stsr.plan(50, 12, method="rainfarm").jobs) == 1
    instants = rain.assign_attrs(cell_methods="time: point")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preview = instants.stsr.plan(2, 12, model=model)
    assert len(preview.jobs) == 1
    assert preview.shape == (1, 49, 6, 8)


def test_instants_are_refined_in_two_stages_in_space(model):
    da = make(shape=(3, 2, 2), cell_methods="time: point", dtype="float64")
    fine = da.stsr.upscale(26, 2, model=model)
    assert fine.shape == (5, 52, 52)
    np.testing.assert_allclose(fine[::2].stsr.coarsen(26), da, rtol=1e-9)


def test_stages_can_be_chosen(rain):
    meaning = read_meaning(rain)
    jobs = chain(meaning, [(1, 2, 2), (3, 1, 1), (2, 5, 5)], method="linear")
    assert [job.plan.frames for job in jobs] == [5, 5, 15]
    assert len({job.request.seed for job in jobs}) == 3
    assert plan_stages(meaning, (6, 10, 10), method="linear")[0].plan.frames == 5


# stores


def test_store_grows_by_realizations_of_two_stages(tmp_path, rain, model):
    path, call = tmp_path / "fine.zarr", {"model": model, "progress": False}
    xstsr.to_zarr(rain, path, *FACTORS, realizations=1, **call)
    grown = xstsr.to_zarr(rain, path, *FACTORS, realizations=2, resume=True, **call)
    made = rain.stsr.upscale(*FACTORS, model=model, realizations=2)
    np.testing.assert_allclose(grown.pr, made, rtol=1e-4, atol=1e-6)
    assert grown.stsr.check("pr", rain.to_dataset()).relative < 1e-5


# warnings and errors


def test_two_stages_warn_and_say_which(rain, model):
    told = r"s=4, t=8 is more than .* s=2, t=2 and then s=2, t=4"
    with pytest.warns(AssumptionWarning, match=told):
        rain.stsr.plan(*FACTORS, model=model)


@pytest.mark.parametrize(("s", "t", "near"), [(29, 1, "28 or 30"), (2, 7, "6 or 8")])
def test_primes_beyond_the_model_name_the_nearest_factors(rain, model, s, t, near):
    with pytest.raises(FactorError, match=f"Choose {near} instead"):
        rain.stsr.upscale(s, t, model=model)
    assert rain.stsr.upscale(s, t, method="linear").stsr.check(rain).relative < 1e-5


def test_absurd_factors_are_refused(rain, model):
    with pytest.raises(FactorError, match=r"s=100000: .* Choose 625 instead"):
        rain.stsr.upscale(100_000, model=model)
    with pytest.raises(PlanError, match=r"cannot upscale in memory.* TiB of it"):
        rain.stsr.upscale(625, 36, model=model, realizations=1000)
