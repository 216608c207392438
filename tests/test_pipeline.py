"""Upscaling end to end: water, meaning, chunks, seams, and what is refused."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xstsr
from tests.models import NEURAL, STOCHASTIC, tiny_model, write_tiny_model
from tests.strategies import cf_dataarrays, factors, make
from xstsr.diffusion.checkpoint import save_model
from xstsr.errors import (
    AssumptionWarning,
    CFError,
    CheckpointError,
    CostWarning,
    DataError,
    FactorError,
    PlanError,
    UnitError,
    XstsrError,
)
from xstsr.memory import BYTES_PER_PIXEL
from xstsr.methods import METHODS, neural

ALL = tuple(METHODS)
pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def rain(frames=6, rows=5, columns=4, *, seed=0, dtype="float32", **options):
    """Intermittent hourly rain with its metadata."""
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.gamma(0.5, 2.0, (frames, rows, columns)) - 0.3, 0)
    return make(values.astype(dtype), units="mm h-1", grid="metres", **options)


def assert_same_water(fine, coarse, s, t):
    """Coarsening gives the coarse field back: the promise of conserve="cell"."""
    dtype = coarse.dtype
    back = fine.stsr.coarsen(s, t).transpose(*fine.dims).values
    given = coarse.transpose(*[d for d in fine.dims if d in coarse.dims]).values
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    least = float(np.nanmax(np.abs(given), initial=0)) * 1e-30
    np.testing.assert_allclose(
        back, np.broadcast_to(given, back.shape), tolerance, least
    )


@settings(max_examples=40)
@given(
    da=cf_dataarrays(),
    factor=factors(),
    method=st.sampled_from(sorted({*ALL} - {*NEURAL})),
)
def test_any_field_keeps_its_water(da, factor, method):
    s, t = factor
    if da.attrs.get("standard_name") == "air_temperature" and method == "rainfarm":
        method = "linear"
    fine = da.stsr.upscale(s, t, method=method)
    assert fine.dims == da.dims
    assert fine.dtype == da.dtype
    assert fine.attrs.get("units") == da.attrs.get("units")
    if da.attrs.get("standard_name") != "air_temperature":
        assert float(fine.min(skipna=True)) >= 0 or bool(fine.isnull().all())
        assert_same_water(fine, da, s, t)


@settings(max_examples=25)
@given(
    da=cf_dataarrays(kinds=("rate", "amount")),
    s=st.sampled_from([1, 2, 3, 5, 7, 11]),
    t=st.integers(1, 6),
    method=st.sampled_from(NEURAL),
)
def test_any_rain_keeps_its_water_through_the_networks(model, da, s, t, method):
    fine = da.stsr.upscale(s, t, method=method, model=model)
    assert_same_water(fine, da, s, t)
    assert float(fine.min(skipna=True)) >= 0 or bool(fine.isnull().all())
    dry, missing = da == 0, da.isnull()
    for mask, test in ((dry, lambda v: v == 0), (missing, np.isnan)):
        spread = mask
        for dim, n in zip(da.dims, fine.shape, strict=True):
            spread = spread.isel(
                {dim: np.repeat(np.arange(da.sizes[dim]), n // da.sizes[dim])}
            )
        assert test(fine.values[spread.values]).all()


@pytest.mark.parametrize("method", ALL)
def test_factor_one_is_the_identity(model, method):
    da = rain()
    fine = da.stsr.upscale(1, 1, method=method, model=model)
    np.testing.assert_array_equal(fine, da)
    assert fine.time.equals(da.time)


@pytest.mark.parametrize("method", ALL)
def test_amount_and_rate_give_the_same_water(model, method):
    rate = rain(label="left")
    amount = (rate * 1.0).assign_attrs(
        units="mm",
        cell_methods="time: sum",
        standard_name="lwe_thickness_of_precipitation_amount",
    )
    a = rate.stsr.upscale(3, 4, method=method, model=model)
    b = amount.stsr.upscale(3, 4, method=method, model=model)
    np.testing.assert_allclose(b, a / 4, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 5, "x": 2}, {"y": 3}, -1])
def test_any_chunks_give_the_same_bits(model, method, chunks):
    da = rain(frames=23, dtype="float64")
    options = {"method": method, "model": model}
    if method in STOCHASTIC:
        options["realizations"] = 2
    eager = da.stsr.upscale(2, 3, **options)
    lazy = da.chunk(chunks).stsr.upscale(2, 3, **options)
    assert lazy.chunks is not None
    np.testing.assert_array_equal(eager, lazy.compute(scheduler="threads"))


def test_lazy_input_is_not_computed(model, no_compute):
    da = rain().chunk(time=2)
    with no_compute():
        fine = da.stsr.upscale(4, 2, realizations=2, model=model)
        fine.stsr.coarsen(4, 2)
    assert fine.chunks is not None


def test_graph_carries_no_weights(model):
    import pickle

    da = rain(frames=48).chunk(time=8)
    fine = da.stsr.upscale(3, 3, model=model)
    graph = dict(fine.__dask_graph__())
    assert len(pickle.dumps(graph)) < 300_000


@pytest.mark.parametrize("method", STOCHASTIC)
def test_realization_does_not_depend_on_how_many_there_are(model, method):
    da = rain()
    few = da.stsr.upscale(3, 2, realizations=2, method=method, model=model)
    many = da.stsr.upscale(3, 2, realizations=5, method=method, model=model)
    np.testing.assert_allclose(few, many[:2], rtol=1e-5, atol=1e-6)
    assert many.realization.values.tolist() == [0, 1, 2, 3, 4]
    assert not np.allclose(many[0], many[1])


def test_one_realization_is_the_first(model):
    da = rain()
    one = da.stsr.upscale(3, 2, model=model)
    several = da.stsr.upscale(3, 2, realizations=2, model=model)
    np.testing.assert_array_equal(one, several[0])


def test_seed_fixes_the_field(model):
    da = rain()
    a, b, c = (da.stsr.upscale(3, 2, seed=n, model=model) for n in (4, 4, 5))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize("method", [*NEURAL, "linear", "rainfarm"])
def test_time_slice_of_the_result_is_the_result_of_the_slice(model, method):
    """Away from the cut: beyond the halo of the windows."""
    da = rain(frames=60, rows=3, columns=3)
    options = {"method": method, "model": model}
    whole = da.stsr.upscale(2, 6, **options)
    part = da.isel(time=slice(11, None)).stsr.upscale(2, 6, **options)
    beyond = 6 * 12
    np.testing.assert_allclose(
        part[beyond:], whole[6 * 11 + beyond :], rtol=1e-4, atol=1e-5
    )


def test_windows_leave_no_seam(model):
    """A steady field has no jumps at the windows' boundaries."""
    da = rain(frames=1, rows=4, columns=4)
    steady = rain(frames=36, rows=4, columns=4)
    steady[:] = da.values
    fine = steady.stsr.upscale(2, 6, method="mean", model=model)
    jumps = np.abs(np.diff(fine.values, axis=0)).mean(axis=(1, 2))
    every = np.arange(1, fine.sizes["time"]) % 6 == 0
    boundary = np.arange(1, fine.sizes["time"]) % 36 == 0
    assert jumps[boundary].mean() < 1.1 * jumps[every & ~boundary].max()


def test_dims_stay_in_their_order(model):
    da = rain().transpose("x", "time", "y")
    fine = da.stsr.upscale(2, 2, realizations=3, model=model)
    assert fine.dims == ("realization", "x", "time", "y")
    straight = rain().stsr.upscale(2, 2, realizations=3, model=model)
    np.testing.assert_array_equal(fine.transpose(*straight.dims), straight)


@pytest.mark.parametrize("method", STOCHASTIC)
def test_further_dimensions_are_kept_and_drawn_apart(model, method):
    two = xr.concat([rain(), rain()], xr.Variable("scenario", ["a", "b"]))
    fine = two.stsr.upscale(2, 2, method=method, model=model)
    assert fine.dims == two.dims
    assert fine.scenario.values.tolist() == ["a", "b"]
    assert not np.allclose(fine[0], fine[1])
    alone = rain().stsr.upscale(2, 2, method=method, model=model)
    np.testing.assert_array_equal(fine[0], alone)


def test_output_says_how_it_was_made(model):
    fine = rain().stsr.upscale(3, 2, seed=7, model=model)
    assert "upscale(s=3, t=2" in fine.attrs["history"]
    assert fine.attrs["xstsr_seed"] == 7
    assert "sha256" in fine.attrs["xstsr_model"]
    assert fine.attrs["cell_methods"] == "time: mean area: mean"


def test_dataset_comes_back_with_bounds(model):
    ds = rain().to_dataset(name="pr")
    out = ds.stsr.upscale("pr", 3, 2, model=model)
    for dim in ("time", "y", "x"):
        assert out[dim].attrs["bounds"] in out.variables
    np.testing.assert_array_equal(out.pr, ds.pr.stsr.upscale(3, 2, model=model))
    back = out.stsr.coarsen("pr", 3, 2)
    np.testing.assert_allclose(back.pr, ds.pr, rtol=1e-5)


def test_mode_window_keeps_the_total_and_none_keeps_nothing(model):
    da = rain(frames=4)
    options = {"model": model, "seed": 3}
    window = da.stsr.upscale(3, 2, conserve="window", **options)
    raw = da.stsr.upscale(3, 2, conserve="none", **options)
    assert float(window.mean()) == pytest.approx(float(da.mean()), rel=1e-5)
    assert float(window.stsr.check(da).relative) > 1e-3
    assert float(raw.mean()) != pytest.approx(float(da.mean()), rel=1e-3)


def test_recipe_changes_the_spread_and_the_taper(model):
    da = rain()
    rule = xstsr.Recipe.for_factors(4, 2, step=60.0)
    wide = xstsr.Recipe(3 * rule.beta, rule.context)
    tapered = xstsr.Recipe(rule.beta, rule.context, taper=0.5)
    fields = [
        da.stsr.upscale(4, 2, realizations=6, recipe=r, model=model)
        for r in (rule, wide, tapered)
    ]
    spread = [float(f.std("realization").mean()) for f in fields]
    assert spread[1] > spread[0]
    wet = [float((f > 0.05).mean()) for f in fields]
    assert wet[2] < wet[0]
    assert_same_water(fields[2], da, 4, 2)


def test_tiles_agree_with_the_whole(model, monkeypatch):
    """A domain cut into tiles differs little from the same domain in one piece."""
    da = rain(frames=2, rows=40, columns=40)
    options = {"method": "mean", "model": model}
    whole = da.stsr.upscale(8, 1, **options)
    monkeypatch.setattr(
        "xstsr.planning.tiling.WORKING_SET", BYTES_PER_PIXEL * 28 * 224 * 224
    )
    preview = da.stsr.plan(8, 1, **options)
    assert len(preview.job.plan.rows) > 1
    tiled = da.stsr.upscale(8, 1, **options)
    np.testing.assert_allclose(tiled, whole, rtol=1e-4, atol=1e-5)


def test_tiles_of_the_bundled_model_agree_with_the_whole(monkeypatch):
    """To a hundredth of what one realization differs from another, away from cuts."""
    da = rain(frames=2, rows=40, columns=40)
    call = {"method": "generator", "device": "cpu"}
    drawn = da.stsr.upscale(8, 1, realizations=2, **call)
    monkeypatch.setattr(
        "xstsr.planning.tiling.WORKING_SET", BYTES_PER_PIXEL * 15 * 224 * 224
    )
    plan = da.stsr.plan(8, 1, **call).job.plan
    assert len(plan.rows) > 1
    tiled = da.stsr.upscale(8, 1, **call)
    apart = float(drawn.std("realization").mean())
    error = ((tiled - drawn[0]) ** 2).values
    far = np.ones(320, bool)
    for cut in (8 * row.core_start for row in plan.rows[1:]):
        far[cut - 16 : cut + 16] = False
    assert 0.8 < far.mean() < 1
    assert np.sqrt(error[:, far][:, :, far].mean()) < 0.01 * apart
    assert np.sqrt(error.mean()) < 0.1 * apart


def test_networks_run_where_it_rains(model, monkeypatch):
    """Of the tiles of a field only the wet ones cost, and skipping changes no bit."""
    da = xr.zeros_like(rain(frames=2, rows=26, columns=26))
    da[:, 3:6, 20:23] = 2.0
    options = {"model": model, "steps": 2}
    monkeypatch.setattr(
        "xstsr.planning.tiling.WORKING_SET", BYTES_PER_PIXEL * 28 * 112 * 112
    )
    plan = da.stsr.plan(8, 1, **options).job.plan
    drawn = []
    condition = neural._condition

    def counted(task):
        drawn.append(task.origin)
        return condition(task)

    monkeypatch.setattr(neural, "_condition", counted)
    skipped = da.stsr.upscale(8, 1, **options)
    assert len(drawn) <= 0.25 * len(list(plan.tiles))
    monkeypatch.setattr(neural, "_is_settled", lambda task: False)
    whole = da.stsr.upscale(8, 1, **options)
    assert len(drawn) > len(list(plan.tiles))
    np.testing.assert_array_equal(skipped, whole)


def test_plan_tells_without_computing(model, no_compute):
    da = rain().chunk(time=2)
    with no_compute():
        preview = da.stsr.plan(10, 3, realizations=4, model=model)
    assert preview.shape == (4, 18, 50, 40)
    assert preview.nbytes == 4 * 18 * 50 * 40 * 4
    assert "0.1 km, 20 min" in repr(preview)
    assert "<table>" in preview._repr_html_()


def test_check_finds_what_is_wrong():
    da = rain()
    fine = da.stsr.upscale(2, 2, method="linear")
    assert fine.stsr.check(da).relative < 1e-6
    fine[0] *= 1.01
    receipt = fine.stsr.check(da)
    assert 0.001 < receipt.relative < 0.01
    assert "largest residual" in repr(receipt)
    assert "<table>" in receipt._repr_html_()
    assert receipt.rms <= receipt.largest


def test_conserve_makes_any_field_agree():
    da = rain(dtype="float64")
    fine = da.stsr.upscale(3, 2, method="nearest")
    rng = np.random.default_rng(0)
    foreign = fine * rng.gamma(1.0, 1.0, fine.shape)
    foreign.attrs = fine.attrs
    made = foreign.stsr.conserve(da)
    assert_same_water(made, da, 3, 2)
    assert "conserve" in made.attrs["history"]


def test_conserve_refuses_other_kinds():
    da = rain()
    fine = da.stsr.upscale(2, 2, method="nearest")
    amount = da.assign_attrs(
        units="mm",
        cell_methods="time: sum",
        standard_name="lwe_thickness_of_precipitation_amount",
    )
    with pytest.raises(XstsrError, match=r"cannot compare .*rate.*amount"):
        fine.stsr.conserve(amount)


BAD = [
    ({"s": 0}, FactorError, r"s=0: a factor is a whole number"),
    ({"s": 2.5}, FactorError, r"s=2\.5"),
    ({"t": True}, FactorError, r"t=True"),
    ({"s": "4"}, FactorError, r"s='4'"),
    ({"method": "cubic"}, XstsrError, r"method='cubic'.*\['diffusion', 'generator'"),
    ({"conserve": "all"}, XstsrError, r"conserve='all': choose 'cell'"),
    ({"realizations": 0}, XstsrError, r"realizations=0"),
    ({"realizations": 1.5}, XstsrError, r"realizations=1\.5"),
    ({"seed": -1}, XstsrError, r"seed=-1: it is a whole number of 0 or more"),
    ({"steps": 0}, XstsrError, r"steps=0"),
    ({"steps": 0}, XstsrError, r"steps=0: it is a whole number of 1 or more"),
    ({"device": "cuda:9"}, XstsrError, r"device='cuda:9'.*sees \d GPUs"),
    ({"device": "gpu"}, XstsrError, r"device='gpu': there is no such kind"),
    ({"model": "none/such"}, CheckpointError, r"model 'none/such'"),
    ({"realizations": 4, "method": "mean"}, XstsrError, r"realizations=4.*'mean'"),
]


@pytest.mark.parametrize(("options", "error", "told"), BAD)
def test_wrong_option_is_refused(model, options, error, told):
    with pytest.raises(error, match=told):
        rain().stsr.upscale(**{"s": 2, "t": 2, "model": model} | options)


def test_negative_rain_is_refused(model):
    da = rain()
    da[0, 0, 0] = -0.5
    with pytest.raises(DataError, match=r"smallest value is -0\.5"):
        da.stsr.upscale(2, 2, model=model)
    with pytest.raises(DataError, match=r"smallest value is -0\.5"):
        da.chunk(time=1).stsr.upscale(2, 2, model=model).compute()


def test_rainfarm_refuses_states():
    da = make(np.full((2, 2, 2), 280.0), kind="state", name="tas")
    with pytest.raises(XstsrError, match=r"'tas' \[K\].*'rainfarm'.*draws rain"):
        da.stsr.upscale(2, 1, method="rainfarm")


def test_temperature_is_refused_by_the_networks_only(model):
    da = make(kind="state")
    with pytest.raises(XstsrError, match=r"knows precipitation only.*method='linear'"):
        da.stsr.upscale(2, 2, model=model)
    assert da.stsr.upscale(2, 2, method="linear").shape == (8, 6, 10)


def test_result_too_large_for_memory_is_refused(model, monkeypatch):
    monkeypatch.setattr("xstsr.pipeline.available_bytes", lambda: 1000)
    with pytest.raises(PlanError, match=r"KiB of it the result.*da\.chunk"):
        rain().stsr.upscale(10, 3, model=model)
    with pytest.warns(CostWarning, match=r"one window of 'pr' takes .* MiB"):
        rain().chunk(time=1).stsr.upscale(10, 3, model=model)


def test_factor_beyond_the_card_warns_for_the_networks_only(tmp_path):
    known, silent = tmp_path / "known.safetensors", tmp_path / "silent.safetensors"
    save_model(tiny_model(), known, {"s": [2, 3, 9], "t": [1, 2]})
    save_model(tiny_model(), silent, {})
    da = rain(2, 2, 2)
    with pytest.warns(AssumptionWarning, match=r"s=26, t=1 is more than the model"):
        da.stsr.upscale(26, 1, method="mean", model=str(silent))
    for s, t, told in (
        (10, 1, r"seen: s=10, trained with s from 2 to 9"),
        (1, 2, r"seen: s=1, trained with s from 2 to 9"),
        (2, 3, r"seen: t=3, trained with t from 1 to 2"),
    ):
        with pytest.warns(AssumptionWarning, match=told):
            da.stsr.upscale(s, t, method="mean", model=known)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # between those of the card, and where there is none
        da.stsr.upscale(5, 2, method="mean", model=known, label="left")
        da.stsr.upscale(25, 1, method="mean", model=silent, label="left")
        da.stsr.upscale(26, 1, method="nearest", label="left")


def test_grid_beyond_training_warns(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(tiny_model(), path, {"spacing_km": [1, 4], "step_minutes": [5, 36]})
    with pytest.warns(AssumptionWarning, match=r"0\.5 km, trained with 1 to 4 km"):
        rain(2, 2, 2).stsr.upscale(2, 6, model=path)
    with pytest.warns(AssumptionWarning, match=r"60 min, trained with 5 to 36 min"):
        rain(2, 2, 2).stsr.upscale(1, 1, method="mean", model=path)


@pytest.mark.parametrize("method", ALL)
def test_infinite_values_are_refused(model, method):
    da = rain()
    da[0, 0, 0] = np.inf
    with pytest.raises(DataError, match="1 values are infinite"):
        da.stsr.upscale(2, 2, method=method, model=model)
    with pytest.raises(DataError, match="1 values are infinite"):
        da.chunk(time=1).stsr.upscale(2, 2, method=method, model=model).compute()


def test_changed_model_is_refused_when_the_work_is_done(tmp_path):
    path = write_tiny_model(tmp_path)
    lazy = rain().chunk(time=2).stsr.upscale(2, 2, model=path)
    write_tiny_model(tmp_path, seed=1).replace("tiny1", "tiny0")
    (tmp_path / "tiny1.safetensors").replace(path)
    with pytest.raises(CheckpointError, match="its file has changed"):
        lazy.compute()


def test_model_may_be_a_path(model):
    da = rain()
    a = da.stsr.upscale(2, 2, model=Path(model))
    np.testing.assert_array_equal(a, da.stsr.upscale(2, 2, model=model))


def test_unreadable_metadata_are_refused():
    with pytest.raises(UnitError, match="sum 5min"):
        rain().assign_attrs(units="sum 5min").stsr.upscale(2, 2, method="linear")
    with pytest.raises(CFError, match="time"):
        rain().isel(time=0, drop=True).stsr.upscale(2, 2, method="linear")


def test_nothing_warns_when_everything_is_said(model):
    ds = rain().stsr.upscale(2, 2, method="nearest").to_dataset(name="pr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds.stsr.upscale("pr", 2, 2, label="left", model=model)
