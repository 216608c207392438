"""Training: what is drawn, what is fitted, and that a stopped run goes on."""

import io
import json
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.models import SPEC, tiny_model, write_tiny_model
from xstsr.diffusion.checkpoint import load_model, read_header
from xstsr.diffusion.features import Features
from xstsr.errors import AssumptionWarning, CheckpointError, DataError
from xstsr.training import train
from xstsr.training.config import HELD_OUT_S, HELD_OUT_T, Config, Draw
from xstsr.training.events import (
    Event,
    decode,
    encode,
    load_pack,
    read_events,
    save_pack,
)
from xstsr.training.loop import Run, append
from xstsr.training.losses import fit_power_law, importance, warm_start
from xstsr.training.patches import block_means, crop_size, draw_batch, draw_factor

DRAW = Draw(
    s=(2, 3), t=(1, 2), pixels=4000, side=16, cells=4, frames=(4,), coarsening=(1, 2)
)
DRAWS_AT_ONCE = replace(SPEC, generator=SPEC.denoiser)
CONFIG = Config(
    spec=SPEC, draw=DRAW, mean_steps=3, residual_steps=4, warmup=2, fit_batches=6
)


def event(seed=0, frames=12, size=60):
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(frames, size, size)).cumsum(0).cumsum(1) / 6
    rates = np.maximum(smooth, 0).astype(np.float32)
    rates[:, :3] = np.nan
    return Event(f"event{seed}", encode(rates), 1.0, 5.0)


def field(rates, minutes=5):
    frames, rows, columns = rates.shape
    start = np.datetime64("2020-01-01", "ns")
    step = np.timedelta64(minutes, "m")
    return xr.DataArray(
        rates,
        {
            "time": start + step * np.arange(frames),
            "y": ("y", np.arange(rows) * 1000.0, {"units": "m", "axis": "Y"}),
            "x": ("x", np.arange(columns) * 1000.0, {"units": "m", "axis": "X"}),
        },
        ("time", "y", "x"),
        "rain",
        {"units": "mm h-1", "cell_methods": "time: mean", "standard_name": RATE},
    )


RATE = "rainfall_rate"


@given(st.lists(st.floats(0, 300, width=32), min_size=1, max_size=20))
def test_codes_keep_rates_to_half_a_thousandth(rates):
    rates = np.array(rates, np.float32)
    assert decode(encode(rates)) == pytest.approx(rates, rel=5e-4, abs=1e-5)


def test_codes_keep_missing_values_and_clip_negative_ones():
    back = decode(encode(np.array([np.nan, -0.1, 0.0], np.float32)))
    assert np.isnan(back[0])
    assert back[1:].tolist() == [0.0, 0.0]


def test_pack_comes_back(tmp_path):
    save_pack([event(0), event(1)], tmp_path / "pack.npz")
    back = load_pack(tmp_path / "pack.npz")
    assert [e.name for e in back] == ["event0", "event1"]
    assert np.array_equal(back[1].codes, event(1).codes)
    assert back[0].spacing_km == 1.0


def test_damaged_pack_is_refused(tmp_path):
    (tmp_path / "pack.npz").write_bytes(b"not a pack")
    with pytest.raises(DataError, match=r"pack\.npz.*xstsr train --pack"):
        load_pack(tmp_path / "pack.npz")


def test_draw_factor_leaves_out_what_is_held_out():
    rng = np.random.default_rng(0)
    drawn = [draw_factor(rng, Draw()) for _ in range(2000)]
    assert not {s for _, s, _ in drawn} & set(HELD_OUT_S)
    assert not {t for t, _, _ in drawn} & set(HELD_OUT_T)
    assert (1, 1, 1) not in drawn
    assert {s for _, s, _ in drawn} == set(range(1, 26)) - set(HELD_OUT_S)


@given(step=st.integers(0, 10**6), rank=st.integers(0, 3))
def test_draw_batch_is_a_function_of_seed_step_and_rank(step, rank):
    events = [event(0), event(1)]
    a, b = (draw_batch(events, 5, step, DRAW, rank) for _ in range(2))
    assert a.factor == b.factor
    assert torch.equal(a.fine.nan_to_num(), b.fine.nan_to_num())
    t, s, _ = a.factor
    assert a.fine.shape[1] % t == a.fine.shape[2] % s == 0
    assert a.coarse.shape[1:] == (
        a.fine.shape[1] // t,
        a.fine.shape[2] // s,
        a.fine.shape[3] // s,
    )


def test_processes_draw_different_batches():
    a, b = (draw_batch([event(0), event(1)], 5, 0, DRAW, rank) for rank in (0, 1))
    assert a.fine.shape != b.fine.shape or not torch.equal(a.fine, b.fine)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((12, 60, 60), (4, 16)),  # what is asked for
        ((12, 15, 60), (4, 14)),  # whole cells of the narrow side
        ((3, 60, 60), (3, 16)),  # fewer steps
        ((1, 60, 60), None),  # less than two steps
        ((12, 7, 60), None),  # less than four cells
    ],
)
def test_crops_shrink_to_what_events_hold(shape, size):
    small = Event("small", np.zeros(shape, np.uint16), 1.0, 5.0)
    assert crop_size([small], (1, 2, 2), 4, DRAW) == size


def test_block_means_leave_out_missing_pixels():
    fine = torch.tensor([[[[1.0, 3.0, torch.nan, torch.nan]]]])
    assert block_means(fine, (1, 1, 2))[0, 0, 0, 0] == 2.0
    assert torch.isnan(block_means(fine, (1, 1, 2))[0, 0, 0, 1])
    half = block_means(fine, (1, 1, 4))
    assert half.item() == 2.0


def test_fit_power_law_finds_the_exponents():
    draw = torch.Generator().manual_seed(0)
    scalars = torch.randn(200, 4, generator=draw, dtype=torch.float64)
    true = torch.tensor([-1.0, 0.5, 0.25, 0.0, -0.3], dtype=torch.float64)
    log_sigma = true[0] + scalars @ true[1:]
    assert torch.allclose(fit_power_law(scalars, (2 * log_sigma).exp()), true)


def test_fit_power_law_matches_the_mean_variance():
    draw = torch.Generator().manual_seed(0)
    scalars = torch.randn(500, 4, generator=draw, dtype=torch.float64)
    noise = torch.randn(500, generator=draw, dtype=torch.float64)
    variance = (2 * scalars[:, 0] + noise).exp()
    fit = fit_power_law(scalars, variance)
    modelled = (2 * (fit[0] + scalars @ fit[1:])).exp()
    assert float((variance / modelled).mean()) == pytest.approx(1.0)


def test_warm_start_takes_over_the_means_network():
    model = tiny_model()
    warm_start(model)
    mean, residual = (n.network.state_dict() for n in (model.mean, model.denoiser))
    assert torch.equal(
        mean["down.0.blocks.0.space.weight"], residual["down.0.blocks.0.space.weight"]
    )
    # 4 folded channels of noise, then the 28 of the features
    assert torch.equal(residual["enter.weight"][:, 4:32], mean["enter.weight"])
    assert residual["enter.weight"][:, 32:].eq(0).all()
    assert torch.equal(residual["embed.0.weight"][:, :4], mean["embed.0.weight"])


def test_stopped_run_ends_with_the_same_bits(tmp_path):
    events = [event(0), event(1)]
    config = replace(CONFIG, spec=DRAWS_AT_ONCE, generator_steps=3)
    whole = Run(config, tmp_path / "whole")
    whole.go(events, report=lambda line: None)
    for stop in (2, 3, 5, 7, 8, None):  # 3 and 7: between the stages
        part = Run(config, tmp_path / "parts")
        part.go(events, until=stop, report=lambda line: None)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, part.average.state_dict()[name]), name


def test_stages_follow_each_other_and_each_trains_one_network(tmp_path):
    events = [event(0)]
    config = replace(CONFIG, spec=DRAWS_AT_ONCE, generator_steps=2)
    run = Run(config, tmp_path)
    parts = {"mean": "mean", "residual": "denoiser", "generator": "generator"}
    for stage, steps in (("mean", 3), ("residual", 4), ("generator", 2)):
        assert run.stage == stage
        trained = [n for n, p in run.model.named_parameters() if p.requires_grad]
        assert {n.partition(".")[0] for n in trained} == {parts[stage]}
        run.go(events, until=run.step + steps, report=lambda line: None)
        assert run.steps[stage] == steps
    assert run.step == run.total == 9


def test_generator_learns_to_draw(tmp_path):
    losses = []
    config = replace(
        CONFIG,
        spec=DRAWS_AT_ONCE,
        mean_steps=20,
        residual_steps=0,
        generator_steps=60,
        rate=3e-3,
    )
    run = Run(config, tmp_path)
    run.go([event(0)], every=20, report=lambda line: losses.append(line.split(",")[2]))
    assert float(losses[-1]) < float(losses[1])


def test_fine_tuning_adds_a_generator_and_leaves_the_rest(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    old = train([da], tmp_path / "old", config=CONFIG, say=lambda line: None)
    only = replace(CONFIG, mean_steps=0, residual_steps=0, generator_steps=2)
    new = train(da, tmp_path / "new", config=only, start=old, say=lambda line: None)
    before, after = load_model(old).state_dict(), load_model(new).state_dict()
    added = {name for name in after if name not in before}
    assert {name.partition(".")[0] for name in added} == {"generator"}
    assert all(torch.equal(after[name], before[name]) for name in before)
    card = read_header(new)["card"]
    assert card["training steps"] == {"mean": 3, "residual": 4, "generator": 2}
    assert card["training data"] == ["rain-0"]
    assert card["cost before fine-tuning"] == read_header(old)["card"]["cost"]
    coarse = da[:4, :9, :9].stsr.coarsen(3, 2)
    fine = coarse.stsr.upscale(3, 2, method="generator", model=new)
    assert fine.shape == (4, 9, 9)
    assert card["methods"] == ["mean", "diffusion", "generator"]
    told = (
        r"'generator' and the model .* \['mean', 'diffusion'\] alone.*generator_steps"
    )
    with pytest.raises(CheckpointError, match=told):
        coarse.stsr.upscale(3, 2, method="generator", model=old)


def test_progress_is_shown_in_a_terminal_and_nowhere_else(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for kind in (io.StringIO, Terminal):
        screen = kind()
        monkeypatch.setattr("sys.stderr", screen)
        run = Run(CONFIG, tmp_path / kind.__name__)
        run.go([event(0)], report=lambda line: None)
        assert ("7/7" in screen.getvalue()) == screen.isatty()


def test_training_lowers_the_loss(tmp_path):
    losses = []
    config = replace(CONFIG, mean_steps=60, residual_steps=0, rate=3e-3)
    run = Run(config, tmp_path)
    run.go([event(0)], every=20, report=lambda line: losses.append(line.split(",")[2]))
    assert float(losses[-1]) < float(losses[0])


def test_train_writes_a_model_that_upscales(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    path = train([da], tmp_path, config=CONFIG, say=lambda line: None)
    model = load_model(str(path))
    assert model.spec == SPEC
    fine = da[:4, :8, :8].stsr.coarsen(2, 2).stsr.upscale(2, 2, model=str(path))
    assert fine.shape == (4, 8, 8)
    assert (tmp_path / "log.csv").read_text()


def test_train_goes_on_only_with_the_same_settings(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    train([da], tmp_path, config=CONFIG, say=lambda line: None)
    with pytest.raises(CheckpointError, match=r"\['rate'\] were \[0\.001\]"):
        train([da], tmp_path, config=replace(CONFIG, rate=1.0))


def test_train_goes_on_only_with_the_same_data(tmp_path):
    first, second = (field(decode(event(i).codes)[:, 3:]) for i in (0, 1))
    train([first], tmp_path, config=CONFIG, say=lambda line: None)
    with pytest.raises(CheckpointError, match=r"other data than .*'rain-1'\]"):
        train([first, second], tmp_path, config=CONFIG)
    with pytest.raises(CheckpointError, match=r"other data than \['rain-0'\]"):
        train([second], tmp_path, config=CONFIG)


def test_train_goes_on_with_settings_from_before_there_were_others(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    train([da], tmp_path, config=CONFIG, say=lambda line: None)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    for name in ("data", "precision", "validate_every"):
        del settings[name]
    path.write_text(json.dumps(settings))
    train([da], tmp_path, config=CONFIG)


def test_run_stopped_in_the_mean_stage_gives_the_mean_alone(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    config = replace(CONFIG, mean_steps=10_000)
    with pytest.warns(AssumptionWarning, match=r'serves method="mean" only'):
        path = train(da, tmp_path, config=config, minutes=0.01, say=lambda line: None)
    coarse = da[:4, :8, :8].stsr.coarsen(2, 2)
    assert coarse.stsr.upscale(2, 2, method="mean", model=path).shape == (4, 8, 8)
    with pytest.raises(
        CheckpointError, match=r"trained for \['mean'\] alone.*residual_s"
    ):
        coarse.stsr.upscale(2, 2, model=path)


def test_full_disk_leaves_the_last_state(tmp_path):
    """A limit on the size of files stands for the disk."""
    run = Run(CONFIG, tmp_path)
    run.save()
    before = run.state.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"cannot write .*state\.pt.*space"):
            run.save()
        with pytest.raises(CheckpointError, match=r"cannot write .*log\.csv.*space"):
            append(tmp_path / "log.csv", "0" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run.state.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_card_tells_what_was_drawn_and_what_it_cost(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    said = {"title": "small", "spacing_km": [0, 99]}
    path = train(da, tmp_path, config=CONFIG, card=said, say=lambda line: None)
    card = read_header(path)["card"]
    drawn = [draw_batch(read_events([da]), 0, i, DRAW) for i in range(7)]
    assert card["title"] == "small"
    assert card["quantity"] == "rain rate in mm h-1"
    assert card["training data"] == ["rain-0"]
    assert card["training steps"] == {"mean": 3, "residual": 4}
    assert card["methods"] == ["mean", "diffusion"]
    assert card["s"] == sorted({b.factor[1] for b in drawn})
    assert card["t"] == sorted({b.factor[0] for b in drawn})
    for key, name in (("spacing_km", "spacing"), ("step_minutes", "step")):
        every = torch.cat([getattr(b, name) for b in drawn]).tolist()
        assert card[key] == pytest.approx([min(every), max(every)], abs=1e-3)
    fit = load_model(path).sigma_data.coefficients
    assert [*card["ln sigma_data"].values()] == pytest.approx(fit.tolist(), abs=1e-4)
    ((device, hours),) = card["cost"].items()
    assert device.startswith("cpu with")
    assert hours.endswith(" h")


def test_record_survives_a_stop(tmp_path):
    events = [event(0), event(1)]
    for stop in (2, 5):
        run = Run(CONFIG, tmp_path)
        run.go(events, until=stop, report=lambda line: None)
    drawn = [draw_batch(events, 0, i, DRAW).factor for i in range(5)]
    assert run.record.factors == {(s, t) for t, s, _ in drawn}
    again = Run(CONFIG, tmp_path).record
    assert again.to_dict() == run.record.to_dict()


def test_s_and_t_make_a_specialist(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    path = train(da, tmp_path, config=CONFIG, s=4, t=[2], say=lambda line: None)
    card = read_header(path)["card"]
    assert (card["s"], card["t"]) == ([4], [2])
    assert json.loads((tmp_path / "config.json").read_text())["draw.s"] == [4]


def test_fine_tuning_starts_from_the_given_weights(tmp_path):
    da = field(decode(event(0).codes)[:, 3:])
    start = write_tiny_model(tmp_path)
    still = replace(CONFIG, rate=0.0)
    path = train([da], tmp_path / "a", config=still, start=start, say=lambda line: None)
    tuned, before = load_model(path), load_model(start)
    assert tuned.spec == before.spec
    for name, value in before.denoiser.state_dict().items():
        assert torch.equal(tuned.denoiser.state_dict()[name], value), name
    with pytest.raises(CheckpointError, match=r"\['start'\] were"):
        train([da], tmp_path / "a", config=replace(still, spec=before.spec))


@given(emphasis=st.sampled_from([0.0, 0.5, 1.0]))
def test_emphasis_weighs_errors_by_the_interpolated_rate(emphasis):
    rate = torch.tensor([0.0, 0.9]).view(1, 1, 1, 1, 2)
    blank = torch.zeros(1)
    seen = Features(blank, blank, rate, blank)
    weight = importance(seen, emphasis).flatten()
    assert float(weight[1] / weight[0]) == pytest.approx(10**emphasis, rel=1e-5)


def test_train_refuses_infinite_data(tmp_path):
    rates = np.ones((4, 8, 8), np.float32)
    rates[0, 0, 0] = np.inf
    with pytest.raises(DataError, match="has 1 infinite values"):
        train([field(rates)], tmp_path)


def test_train_refuses_fields_without_values(tmp_path):
    with pytest.raises(DataError, match=r"rain-0.*all of its 256 values are NaN"):
        train(field(np.full((4, 8, 8), np.nan, np.float32)), tmp_path)


def test_train_refuses_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no field was found"):
        read_events([])


def test_train_refuses_events_too_small_for_any_crop(tmp_path):
    small = field(np.ones((4, 7, 7), np.float32))
    with pytest.raises(DataError, match=r"\(4, 7, 7\).*s=2 and t=1.*4 coarse cells"):
        train([small], tmp_path, config=CONFIG)


def test_train_leaves_out_factors_that_need_larger_events(tmp_path):
    rates = decode(event(0).codes)[:4, 3:14, :11]
    with pytest.warns(AssumptionWarning, match=r"not trained: s=\[3\], for no event"):
        path = train([field(rates)], tmp_path, config=CONFIG, say=lambda line: None)
    assert read_header(path)["card"]["s"] == [2]


def test_train_refuses_events_that_are_mostly_missing(tmp_path):
    rates = np.full((4, 40, 40), np.nan, np.float32)
    rates[:, :6, :6] = 1.0
    with pytest.raises(DataError, match=r"in 101 trials no crop.*data in half.*rain-0"):
        train([field(rates)], tmp_path, config=CONFIG)


def test_train_refuses_dry_events(tmp_path):
    dry = field(np.zeros((4, 40, 40), np.float32))
    with pytest.raises(DataError, match="none of 6 batches holds"):
        train([dry], tmp_path, config=CONFIG, say=lambda line: None)


def test_events_are_read_from_the_archive(radar_data):
    events = read_events(
        [radar_data / "val" / "mrms_us_southeast_20190610_001deg_6min.nc"]
    )
    assert events[0].step_minutes == pytest.approx(6.0)
    assert events[0].spacing_km == pytest.approx(1.112, abs=0.001)


def test_crops_are_preferred_by_what_the_coarse_field_holds():
    """Equal block means, one half uniform, the other all in one pixel of 36."""
    rates = np.ones((4, 48, 96), np.float32)
    rates[:, :, 48:] = 0
    rates[:, ::6, 48::6] = 36
    texture = Event("two", encode(rates), 1.0, 5.0)
    draw = replace(DRAW, s=(6,), t=(1,), side=24, pixels=24 * 24 * 4, coarsening=(1,))
    spiky = [
        float((draw_batch([texture], 0, i, draw).fine == 0).float().mean()) > 0.5
        for i in range(300)
    ]
    assert 0.4 < np.mean(spiky) < 0.6
