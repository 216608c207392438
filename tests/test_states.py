"""Models of states: temperature is learnt, refined and conserved additively."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.models import SPEC, tiny_model, write_tiny_model
from tests.strategies import make
from tests.training.test_fit import CONFIG, event, field
from xstsr.diffusion.checkpoint import load_model, read_header, save_model
from xstsr.diffusion.features import features
from xstsr.diffusion.mean import add
from xstsr.diffusion.transform import LogTransform, StateTransform, read_transform
from xstsr.errors import AssumptionWarning, DataError, XstsrError
from xstsr.training import train
from xstsr.training.events import (
    State,
    check_alike,
    decode,
    encode,
    fit_transform,
    load_pack,
    read_events,
    save_pack,
)
from xstsr.training.validation import read_scores

CELSIUS = StateTransform(5.0, 4.0, "degC", "air_temperature")
QUIET = {"say": lambda line: None}


def temperature(seed=0, frames=12, size=48, units="K", centre=280.0):
    """Smooth waves that travel, 5 K high; a corner is missing."""
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(*(np.arange(n) for n in (frames, size, size)), indexing="ij")
    values = np.full(t.shape, centre)
    for _ in range(12):
        ky, kx, w = rng.normal(0, [0.25, 0.25, 0.2])
        wave = np.cos(ky * y + kx * x + w * t + rng.uniform(0, 2 * np.pi))
        values += 5 / math.sqrt(6) * wave
    values[:, :5, :5] = np.nan
    da = field(values.astype(np.float32))
    attrs = {"standard_name": "air_temperature", "units": units}
    return da.rename("tas").assign_attrs(attrs)


def tiny_state_model(folder, transform=CELSIUS):
    path = folder / "state.safetensors"
    save_model(tiny_model(spec=replace(SPEC, transform=transform)), path, {})
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that was trained on temperatures below and above zero."""
    folder = tmp_path_factory.mktemp("run")
    config = replace(CONFIG, mean_steps=40, residual_steps=20, rate=3e-3)
    data = temperature(0, units="degC", centre=0.0)
    judged = temperature(1, units="degC", centre=0.0)
    return train(data, folder, validation=judged, config=config, **QUIET)


@pytest.mark.parametrize("method", ["mean", "diffusion"])
def test_trained_model_refines_and_conserves_temperature(trained, method):
    fine = temperature(2, units="degC", centre=0.0)
    coarse = fine.stsr.coarsen(3, 2)
    made = coarse.stsr.upscale(3, 2, method=method, model=trained)
    assert made.shape == fine.shape
    assert (coarse < -1).any()
    back = made.stsr.coarsen(3, 2)
    assert float(np.abs(back - coarse).max()) < 1e-5
    # missing cells, and no others, are missing
    missing = np.isnan(coarse.values).repeat(2, 0).repeat(3, 1).repeat(3, 2)
    np.testing.assert_array_equal(np.isnan(made.values), missing)


def test_training_makes_the_mean_better_than_linear(trained):
    rows = read_scores(trained.parent / "validation.csv", 999)
    first = [x.rmse_ratio for x in rows[0]]
    assert rows[0][0].stage == "mean"
    assert max(first) < 0.97
    assert all(math.isfinite(x.spread_skill) for x in rows[-1])


def test_card_and_spec_tell_what_the_model_knows(trained):
    card = read_header(trained)["card"]
    assert card["quantity"] == "air_temperature in degC"
    known = load_model(trained).spec.transform
    assert isinstance(known, StateTransform)
    values = temperature(0, units="degC", centre=0.0).values
    assert known.centre == pytest.approx(np.nanmean(values), abs=0.1)
    assert known.width == pytest.approx(np.nanstd(values), rel=0.02)


def test_state_model_refuses_rain(trained):
    with pytest.raises(XstsrError, match=r"'pr' \[mm h-1\].*knows air_temp.*no rain"):
        make().stsr.upscale(2, 2, model=trained)


def test_state_model_refuses_other_units(trained):
    kelvin = temperature()[:4, :8, :8]
    with pytest.raises(XstsrError, match=r"'tas' \[K\].*in 'degC'.*pint\.to\('degC'\)"):
        kelvin.stsr.upscale(2, 2, model=trained)


def test_state_model_takes_other_spellings_of_its_units(tmp_path):
    model = tiny_state_model(tmp_path)
    da = temperature(units="degree_Celsius", centre=0.0)[:4, 8:16, 8:16]
    assert da.stsr.upscale(2, 2, method="mean", model=model).shape == (8, 16, 16)


def test_state_model_warns_of_another_quantity(tmp_path):
    model = tiny_state_model(tmp_path)
    da = temperature(units="degC")[:4, 8:16, 8:16]
    da.attrs["standard_name"] = "sea_surface_temperature"
    with pytest.warns(
        AssumptionWarning, match=r"trained on air_temperature, and 'tas'"
    ):
        da.stsr.upscale(2, 2, method="mean", model=model)


def test_rain_model_refuses_temperature(tmp_path):
    model = write_tiny_model(tmp_path)
    with pytest.raises(XstsrError, match=r"knows precipitation only.*xstsr\.train"):
        temperature()[:4, :8, :8].stsr.upscale(2, 2, model=model)


@given(values=st.lists(st.floats(-90, 60, width=32), min_size=1, max_size=9))
def test_codes_of_states_keep_a_hundred_thousandth_of_their_range(values):
    state = State("degC", "", min(values), max(values))
    values = np.array([*values, np.nan], np.float32)
    back = decode(encode(values, state), state)
    assert back[:-1] == pytest.approx(values[:-1], abs=1e-5 * 150)
    assert np.isnan(back[-1])


def test_pack_of_states_comes_back(tmp_path):
    events = read_events([temperature()])
    save_pack(events, tmp_path / "pack.npz")
    (back,) = load_pack(tmp_path / "pack.npz")
    assert back.state == events[0].state
    assert back.fingerprint == events[0].fingerprint
    assert back.quantity == "air_temperature in K"


def test_width_and_centre_are_those_of_the_data():
    events = read_events([temperature(i) for i in (0, 1)])
    values = np.concatenate([decode(e.codes, e.state).ravel() for e in events])
    fitted = fit_transform(events, LogTransform())
    assert fitted.centre == pytest.approx(np.nanmean(values), abs=0.1)
    assert fitted.width == pytest.approx(np.nanstd(values), rel=0.02)
    assert fitted.units == "K"


def test_states_that_do_not_vary_are_refused(tmp_path):
    plain = make(np.full((8, 40, 40), 280.0), kind="state")
    with pytest.raises(DataError, match=r"all values are about 280 K"):
        train(plain, tmp_path, config=CONFIG)


def test_mixed_quantities_are_refused():
    state = read_events([temperature()])
    celsius = read_events([temperature(units="degC")])
    with pytest.raises(
        DataError, match=r"'event0' is rain, 'tas-0' is air_temperature"
    ):
        check_alike([event(0), *state])
    with pytest.raises(DataError, match=r"in K, 'tas-0' is air_temperature in degC"):
        check_alike([*state, *celsius])


def test_fine_tuning_on_another_quantity_is_refused(tmp_path):
    rain, state = write_tiny_model(tmp_path), tiny_state_model(tmp_path)
    with pytest.raises(DataError, match=r"model knows rain rate.*data are air_temp"):
        train(temperature(), tmp_path / "a", config=CONFIG, start=rain)
    with pytest.raises(DataError, match=r"temperature in degC.*temperature in K"):
        train(temperature(), tmp_path / "a", config=CONFIG, start=state)


def test_fine_tuning_keeps_centre_and_width(tmp_path):
    start = tiny_state_model(tmp_path)
    da = temperature(units="degC", centre=20.0)
    path = train(da, tmp_path / "a", config=CONFIG, start=start, **QUIET)
    assert load_model(path).spec.transform == CELSIUS


@given(st.floats(-100, 100))
def test_state_transform_returns_what_it_was_given(value):
    z = CELSIUS.forward(torch.tensor([value]))
    assert z.item() == pytest.approx((value - 5) / 4, abs=1e-5)
    assert CELSIUS.inverse(z).item() == pytest.approx(value, abs=1e-4)


def test_transforms_come_back_from_their_fields():
    for transform in (LogTransform(), CELSIUS):
        assert read_transform(transform.__dict__) == transform


def test_features_of_states_have_no_dry_cells():
    coarse = torch.tensor([[[[-3.0, 0.0], [torch.nan, 9.0]]]])
    scalars = [torch.tensor([v]) for v in (1.0, 60.0, 600.0)]
    seen = features(coarse, (1, 1, 1), *scalars, CELSIUS)
    assert seen.wet[0, 0, 0].tolist() == [[1, 1], [0, 1]]
    # missing cells stand at the centre; its neighbours are not drawn to zero
    assert seen.rate[0, 0, 0].tolist() == [[-3, 0], [5, 9]]
    assert seen.interpolated[0, 0, 0].tolist() == [[-2, -1.25], [0, 1]]


def test_add_shifts_each_block():
    field = torch.tensor([[[[[1.0, 3.0, 5.0, 5.0]]]]])
    coarse = torch.tensor([[[[-4.0, torch.nan]]]])
    assert add(field, coarse, (1, 1, 2)).flatten().tolist() == [-5, -3, 5, 5]


def test_mean_of_a_state_meets_the_coarse_field():
    model = tiny_model(spec=replace(SPEC, transform=CELSIUS))
    coarse = 10 * torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scalars = [torch.tensor([v]) for v in (1.0, 5.0, 30.0)]
    means = model.condition(coarse, (2, 5, 5), *scalars).means
    blocks = means.rate.reshape(1, 3, 2, 4, 5, 4, 5).mean(dim=(2, 4, 6))
    assert torch.allclose(blocks, coarse, atol=1e-4)
    # one mean: z is its image
    assert torch.allclose(means.z, CELSIUS.forward(means.rate), atol=1e-5)


def test_codes_of_a_constant_state_come_back():
    (known,) = read_events([make(np.full((2, 3, 3), 4.0), kind="state", units="degC")])
    assert (decode(known.codes, known.state) == 4).all()
    assert (encode(np.full(3, np.nan), known.state) == 65535).all()


@given(seed=st.integers(0, 99), s=st.integers(2, 5), t=st.integers(1, 3))
def test_speed_of_the_wind_stays_above_zero_and_keeps_its_mean(seed, s, t):
    rng = np.random.default_rng(seed)
    values = rng.gamma(0.3, 2.0, (4, 3, 5)) * (rng.random((4, 3, 5)) > 0.3)
    coarse = make(values, kind="state", units="m s-1")
    coarse.attrs["standard_name"] = "wind_speed"
    fine = coarse.stsr.upscale(s, t, method="linear")
    assert float(fine.min()) >= 0
    assert fine.stsr.check(coarse).relative < 1e-5
    wrong = (fine - 0.5).assign_attrs(fine.attrs)
    assert float(wrong.stsr.conserve(coarse).min()) >= 0


def test_speed_below_zero_is_refused():
    coarse = make(np.full((2, 3, 3), -1.0), kind="state", units="m s-1")
    coarse.attrs["standard_name"] = "wind_speed"
    with pytest.raises(
        DataError, match=r"cannot be, .* negative rain: the smallest value is -1"
    ):
        coarse.stsr.upscale(2, method="linear")
