"""The methods of refinement: one function of a task each, found by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import NEURAL, STOCHASTIC, tiny_model, write_tiny_model
from xstsr.diffusion.checkpoint import fingerprint
from xstsr.errors import CheckpointError, XstsrError
from xstsr.methods import METHODS, Method, baselines, devices, find_method, neural
from xstsr.methods.recipe import Recipe
from xstsr.methods.task import Reach, Request, Task

HOUR = 3_600_000_000
RECIPE = Recipe(0.01, 3)
PLACES = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def request_for(method, factor=(2, 3, 3), model="default", **changes):
    usual = Request(
        method, factor, 1.0, 30.0, RECIPE, model=model, **{"seed": 1} | changes
    )
    if method in NEURAL:
        return replace(usual, fingerprint=fingerprint(model))
    return usual


def rain(frames=3, rows=4, columns=5, seed=0):
    rng = np.random.default_rng(seed)
    return np.maximum(rng.gamma(0.5, 2.0, (frames, rows, columns)) - 0.3, 0)


def task_of(request, coarse=None, **place):
    coarse = rain() if coarse is None else coarse
    times = np.arange(coarse.shape[0] * request.factor[0]) * (HOUR // 2)
    return Task(request, coarse, times, **place)


def run(task):
    return METHODS[task.request.method].draw(task)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_method_gives_its_realizations_on_the_fine_grid(name, model):
    count = (0, 1, 5) if name in STOCHASTIC else (0,)
    task = task_of(request_for(name, model=model, realizations=count))
    fine = run(task)
    assert task.shape == (6, 12, 15)
    assert fine.shape == (len(count), 6, 12, 15)
    assert np.isfinite(fine).all()
    assert fine.min() >= 0


@pytest.mark.parametrize("name", sorted(METHODS))
def test_method_leaves_its_task_alone(name, model):
    coarse = rain()
    kept = coarse.copy()
    run(task_of(request_for(name, model=model), coarse))
    np.testing.assert_array_equal(coarse, kept)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_method_gives_the_same_bits_again(name, model):
    task = task_of(request_for(name, model=model))
    np.testing.assert_array_equal(run(task), run(task))


@pytest.mark.parametrize("name", ["diffusion", "rainfarm", "linear", "nearest"])
def test_dry_field_stays_dry(name, model):
    task = task_of(request_for(name, model=model), np.zeros((3, 4, 5)))
    np.testing.assert_array_equal(run(task), 0.0)


def test_dry_field_needs_no_network(monkeypatch):
    """Cost grows with the wet area: not even the model is loaded."""
    monkeypatch.setattr(neural, "_condition", lambda task: pytest.fail("not dry"))
    request = Request("diffusion", (1, 2, 2), 1.0, 60.0, RECIPE, (0, 1))
    np.testing.assert_array_equal(run(task_of(request, np.zeros((2, 3, 3)))), 0.0)


@settings(max_examples=12)
@given(
    wet=st.lists(st.tuples(*(st.integers(0, n - 1) for n in (4, 5, 6))), max_size=6),
    missing=st.lists(
        st.tuples(*(st.integers(0, n - 1) for n in (4, 5, 6))), max_size=9
    ),
    name=st.sampled_from(NEURAL),
)
def test_skipping_the_dry_changes_no_bit(model, wet, missing, name):
    """Whatever else is wet: what a task keeps may be dry, missing, or within reach."""
    coarse = np.zeros((4, 5, 6))
    for place in wet:
        coarse[place] = 1 + sum(place)
    for place in missing:
        coarse[place] = np.nan
    kept = (slice(1, 3), slice(1, 4), slice(2, 5))
    fine = (slice(None), *(slice(2 * k.start, 2 * k.stop) for k in kept))
    request = request_for(name, (2, 2, 2), model=model, realizations=(0, 3))
    task = task_of(request, coarse, kept=kept)
    usual = run(task)[fine]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural, "_is_settled", lambda task: False)
        whole = run(task)[fine]
    np.testing.assert_array_equal(usual, whole)


def test_nearest_repeats_each_value():
    fine = run(task_of(request_for("nearest"), np.arange(4.0).reshape(1, 2, 2)))[0]
    assert fine[0, ::3, ::3].tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert np.ptp(fine[:, :3, :3]) == 0


def test_linear_is_the_baseline():
    request = request_for("linear", (3, 2, 2))
    coarse = rain()
    expected = baselines.linear(coarse, (3, 2, 2))
    np.testing.assert_array_equal(run(task_of(request, coarse))[0], expected)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_noise_differs_by_seed_realization_stream_and_time(name, model):
    request = request_for(name, model=model)
    task = task_of(request, 1 + rain())
    others = [
        replace(task, request=replace(request, seed=2)),
        replace(task, request=replace(request, realizations=(1,))),
        replace(task, stream=1),
        replace(task, times=task.times + HOUR * 24),
    ]
    usual = run(task)
    for other in others:
        assert not np.allclose(run(other), usual, rtol=1e-3)


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize(("seed", "realization"), [(2**63, 0), (0, 2**31 - 1)])
def test_large_numbers_are_seeds_too(name, model, seed, realization):
    request = request_for(name, model=model, seed=seed, realizations=(realization,))
    usual = request_for(name, model=model)
    coarse = 1 + rain()
    a, b = run(task_of(request, coarse)), run(task_of(usual, coarse))
    assert np.isfinite(a).all()
    assert not np.allclose(a, b)


@settings(max_examples=15)
@given(order=st.permutations(range(4)), name=st.sampled_from(STOCHASTIC))
def test_realizations_may_be_drawn_in_any_order(model, order, name):
    request = request_for(name, model=model, realizations=(0, 1, 2, 3))
    sorted_fields = run(task_of(request))
    mixed = run(task_of(replace(request, realizations=tuple(order))))
    np.testing.assert_array_equal(mixed, sorted_fields[list(order)])


def test_noise_of_a_tile_is_that_of_its_place(model):
    """A tile's origin moves its noise, which is a function of absolute pixels."""
    request = request_for("diffusion", (1, 2, 2), model=model)
    coarse = np.ones((1, 3, 3))
    here, there = (
        run(task_of(request, coarse, origin=origin)) for origin in ((0, 0), (6, 0))
    )
    assert not np.allclose(here, there)


def test_steps_change_the_sample_but_not_its_law(model):
    request = request_for("diffusion", model=model)
    few, many = (run(task_of(replace(request, steps=n), 1 + rain())) for n in (2, 12))
    assert not np.array_equal(few, many)
    assert few.mean() == pytest.approx(many.mean(), rel=0.5)


def test_beta_of_zero_leaves_nothing_to_chance(model):
    silent = replace(request_for("diffusion", model=model), recipe=Recipe(0.0, 3))
    first, second = (
        run(task_of(replace(silent, seed=seed), 1 + rain())) for seed in (1, 2)
    )
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_networks_hear_of_spacing_step_and_factor(model):
    request = request_for("mean", model=model)
    usual = run(task_of(request))
    for change in ({"spacing_km": 8.0}, {"step_minutes": 300.0}):
        assert not np.allclose(run(task_of(replace(request, **change))), usual)


def test_networks_leave_no_gradient_behind(model):
    for name in NEURAL:
        run(task_of(request_for(name, model=model)))
    assert torch.is_grad_enabled()
    assert not any(p.requires_grad for p in tiny_model().parameters())


def test_changed_model_file_is_refused(tmp_path):
    path = write_tiny_model(tmp_path)
    request = request_for("mean", model=path)
    stale = replace(request, fingerprint="0" * 64)
    with pytest.raises(
        CheckpointError, match=r"has changed since.*sha256 000000000000"
    ):
        run(task_of(stale))
    assert np.isfinite(run(task_of(request))).all()


def test_rainfarm_has_its_context_where_it_is_blended():
    """What is blended, one frame, must have the whole context of the method."""
    reach = METHODS["rainfarm"].reach(request_for("rainfarm"))
    assert reach.frames > baselines.RAINFARM_HALO
    assert reach.pixels is None


@pytest.mark.parametrize("name", ["cubic", "", "Linear", "find_method"])
def test_unknown_method_is_refused_with_the_known_ones(name):
    with pytest.raises(XstsrError, match=rf"method='{name}': choose one of \['diff"):
        find_method(name)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_known_method_is_accepted(name):
    assert find_method(name) is METHODS[name]


def test_new_method_needs_one_entry(monkeypatch):
    """A function in the table is all that a method takes, and what it looks at."""
    from tests.strategies import make

    half = Method(
        lambda task: baselines.nearest(task.coarse, task.request.factor)[None] * 0.5,
        lambda request: Reach(0, 0),
    )
    monkeypatch.setitem(METHODS, "half", half)
    da = make(np.full((2, 2, 2), 4.0), grid="metres")
    raw = da.stsr.upscale(2, method="half", conserve="none")
    np.testing.assert_allclose(raw, 2.0)
    assert raw.attrs["xstsr_method"] == "half"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", ""])
def test_unknown_device_is_refused(device):
    with pytest.raises(XstsrError, match=rf"device='{device}'.*'cuda:1'"):
        devices.choose_device(device)


def test_missing_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.choose_device("cuda:0") == "cuda:0"
    with pytest.raises(XstsrError, match=r"device='cuda:1'.*sees 1 GPUs.*'cpu'"):
        devices.choose_device("cuda:1")


def test_gpus_of_a_cluster_are_left_to_its_workers(monkeypatch):
    """The machine that asks may have none."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(devices, "current_client", lambda: "a client")
    assert devices.choose_device("cuda") == "cuda"


@pytest.mark.parametrize(("there", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_device_is_a_gpu_where_there_is_one(monkeypatch, there, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert devices.choose_device(None) == chosen
    assert devices.choose_device("cpu") == "cpu"
