"""Training: what is drawn, what is fitted, and that a stopped run goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xstsr
from tests.models import SPEC, tiny_model, write_tiny_model
from tests.strategies import make
from xstsr.diffusion.checkpoint import load_model
from xstsr.diffusion.features import Features
from xstsr.errors import CheckpointError, DataError, XstsrError
from xstsr.training import train
from xstsr.training.events import (
    Event,
    decode,
    encode,
    load_pack,
    read_events,
    save_pack,
)
from xstsr.training.loop import Config, Run, fit_power_law, importance, warm_start
from xstsr.training.patches import (
    HELD_OUT_S,
    HELD_OUT_T,
    Draw,
    block_means,
    draw_batch,
    draw_factor,
)
from xstsr.training.train import read_config

DRAW = Draw(
    s=(2, 3), t=(1, 2), pixels=4000, side=16, cells=4, frames=(4,), coarsening=(1, 2)
)
CONFIG = Config(spec=SPEC, draw=DRAW, mean_steps=3, residual_steps=4, warmup=2)


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


@given(step=st.integers(0, 10**6))
def test_draw_batch_is_a_function_of_seed_and_step(step):
    events = [event(0), event(1)]
    a, b = (draw_batch(events, 5, step, DRAW) for _ in range(2))
    assert a.factor == b.factor
    assert torch.equal(a.fine.nan_to_num(), b.fine.nan_to_num())
    t, s, _ = a.factor
    assert a.fine.shape[1] % t == a.fine.shape[2] % s == 0
    assert a.coarse.shape[1:] == (
        a.fine.shape[1] // t,
        a.fine.shape[2] // s,
        a.fine.shape[3] // s,
    )


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
    whole = Run(CONFIG, tmp_path / "whole")
    whole.go(events, report=lambda line: None)
    for stop in (2, 3, 5, None):  # 3: between the stages
        part = Run(CONFIG, tmp_path / "parts")
        part.go(events, until=stop, report=lambda line: None)
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, part.average.state_dict()[name]), name


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


def test_train_refuses_temperatures(tmp_path):
    da = make(kind="state")
    with pytest.raises(DataError, match=r"it is a state in 'K'.*rain only"):
        train([da], tmp_path)


def test_train_refuses_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="no field was found"):
        read_events([])


def test_train_refuses_events_too_small_for_the_crops(tmp_path):
    small = field(np.ones((4, 8, 8), np.float32))
    with pytest.raises(DataError, match="no event holds a crop"):
        train([small], tmp_path, config=CONFIG, say=lambda line: None)


def test_config_is_read_from_toml(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(
        "residual_steps = 7\n[draw]\ns = [2, 4]\n[spec.mean]\nblocks = 1\n"
        '[card]\ntitle = "small"\n'
    )
    config, card = read_config(path)
    assert card == {"title": "small"}
    assert config.residual_steps == 7
    assert config.draw.s == (2, 4)
    assert config.spec.mean.blocks == 1
    assert config.mean_steps == Config().mean_steps


def test_config_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("residual_steps: 7")
    with pytest.raises(XstsrError, match=r"bad\.toml.*Write it in TOML"):
        read_config(path)


def test_config_of_the_default_model_is_the_default():
    path = Path(xstsr.__file__).parent / "training" / "default.toml"
    config, card = read_config(path)
    assert config == Config()
    assert card["spacing_km"] == [0.9, 4.0]


def test_config_with_an_unknown_name_is_refused(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("[draw]\nfactor = 3\n")
    with pytest.raises(XstsrError, match=r"\['factor'\].*a Draw has"):
        read_config(path)


def test_events_are_read_from_the_archive(radar_data):
    events = read_events(
        [radar_data / "val" / "mrms_us_southeast_20190610_001deg_6min.nc"]
    )
    assert events[0].step_minutes == pytest.approx(6.0)
    assert events[0].spacing_km == pytest.approx(1.05, abs=0.02)


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
