"""Variables that belong together: one is drawn given another, realization by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import SPEC, replace_draw, write_tiny_model
from tests.strategies import HOUR, make, make_dataset
from tests.test_states import temperature
from tests.training.test_fit import CONFIG, DRAW, field
from xstsr.diffusion.checkpoint import read_header
from xstsr.diffusion.features import KnownField, known_maps
from xstsr.diffusion.transform import StateTransform
from xstsr.errors import CFError, DataError, GridError, XstsrError
from xstsr.memory import BYTES_PER_PIXEL
from xstsr.storage.store import to_zarr
from xstsr.training import train
from xstsr.training.events import load_pack, read_events, save_pack
from xstsr.training.patches import draw_batch

RAIN = KnownField("pr", "mm h-1", 1.0, 2.0, timed=True, logged=True)
WIND = KnownField("uas", "m s-1", 1.0, 2.0, timed=True)
OROG = KnownField("orog", "m", 500.0, 300.0)
KELVIN = StateTransform(280.0, 5.0, "K", "air_temperature")
pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of temperature that needs to be told the rain."""
    spec = replace(SPEC, transform=KELVIN, known=(RAIN,))
    return write_tiny_model(tmp_path_factory.mktemp("model"), spec=spec)


@pytest.fixture(scope="module")
def wind_model(tmp_path_factory):
    transform = StateTransform(0.0, 5.0, "m s-1")
    spec = replace(SPEC, transform=transform)
    return write_tiny_model(tmp_path_factory.mktemp("wind"), spec=spec)


def warm(frames=6, rows=4, columns=5, **options):
    rng = np.random.default_rng(0)
    values = 280 + rng.normal(size=(frames, rows, columns))
    return make(values, kind="state", name="tas", grid="metres", **options)


def wet(s=2, t=2, realizations=None, **options):
    rng = np.random.default_rng(1)
    values = np.maximum(rng.gamma(0.5, 2.0, (6, 4, 5)) - 0.3, 0)
    coarse = make(values, grid="metres", **options)
    choices = {"method": "rainfarm", "realizations": realizations}
    return coarse.stsr.upscale(s, t, label=options.get("label", "left"), **choices)


def test_rain_is_seen_as_a_logarithm_in_its_own_frame():
    rain = torch.tensor([0.0, 0.1 * (np.e**3 - 1), torch.nan]).reshape(1, 1, 3, 1, 1)
    maps = known_maps((RAIN,), rain, 3)
    assert maps.flatten().tolist() == pytest.approx([-0.5, 1.0, 0.0], abs=1e-6)


@given(
    realizations=st.none() | st.integers(1, 3),
    chunks=st.none() | st.integers(1, 5),
    lazy=st.booleans(),
    amount=st.booleans(),
    label=st.sampled_from(("left", "right")),
)
@settings(max_examples=20)
def test_each_realization_is_told_its_own_rain(
    model, realizations, chunks, lazy, amount, label
):
    """Also where windows are cut, and whatever unit the rain is in."""
    coarse = warm(label=label)
    kind = {"kind": "amount", "units": "mm"} if amount else {}
    rain = wet(realizations=realizations, label=label, **kind)
    rates = rain * 2 if amount else rain  # mm in half an hour
    told = rain if chunks is None else rain.chunk(chunks)
    with pytest.MonkeyPatch.context() as patch:
        replace_draw(patch, "diffusion", lambda task: task.known[:, 0])
        made = (coarse.chunk(time=2) if lazy else coarse).stsr.upscale(
            2, 2, model=model, given=told, conserve="none", realizations=realizations,
            label=label,
        )  # fmt: skip
        np.testing.assert_allclose(made, rates, rtol=1e-6)


def test_windows_and_tiles_are_told_their_part(model, monkeypatch):
    """A record of many windows, and a plane of several tiles."""
    rng = np.random.default_rng(1)
    values = rng.gamma(0.5, 2.0, (60, 40, 30))
    coarse = make(values + 270, kind="state", name="tas", grid="metres", step=HOUR)
    rain = make(values, grid="metres", step=HOUR).stsr.upscale(4, 1, method="nearest")
    replace_draw(monkeypatch, "diffusion", lambda task: task.known[:, 0])
    monkeypatch.setattr(
        "xstsr.planning.tiling.WORKING_SET", BYTES_PER_PIXEL * 28 * 112 * 112
    )
    options = {"model": model, "given": rain, "conserve": "none"}
    plan = coarse.stsr.plan(4, 1, **options).job.plan
    assert len(plan.windows) > 1
    assert len(plan.rows) * len(plan.columns) > 1
    made = coarse.stsr.upscale(4, 1, **options)
    np.testing.assert_allclose(made, rain, rtol=1e-5)


def test_same_rain_for_all_is_that_rain_for_each(model):
    coarse, rain = warm(), wet()
    each = rain.expand_dims(realization=3)
    one, all_ = (
        coarse.stsr.upscale(2, 2, model=model, given=r, realizations=3)
        for r in (rain, each)
    )
    np.testing.assert_allclose(one, all_, atol=2e-4)
    assert float(one.std("realization").mean()) > 1e-3
    assert one.stsr.check(coarse).relative < 1e-6


def test_other_rain_gives_other_warmth(model):
    coarse, rain = warm(), wet(realizations=2)
    made = [
        coarse.stsr.upscale(2, 2, model=model, given=rain.isel(realization=i))
        for i in (0, 1)
    ]
    assert float(abs(made[0] - made[1]).max()) > 1e-3


def test_static_and_given_fields_go_together(tmp_path, monkeypatch):
    spec = replace(SPEC, transform=KELVIN, known=(OROG, RAIN))
    model = write_tiny_model(tmp_path, spec=spec)
    coarse, rain = warm(), wet(realizations=2)
    orog = rain[0, 0].drop_vars(["time", "realization"]).rename("orog") * 100
    orog.attrs = {"units": "m"}
    options = {"static": orog, "given": rain, "realizations": 2, "model": model}
    assert coarse.stsr.upscale(2, 2, **options).shape == rain.shape
    replace_draw(monkeypatch, "diffusion", lambda task: task.known[:, 0])
    made = coarse.stsr.upscale(2, 2, conserve="none", **options)
    for one in made.values.reshape(-1, *orog.shape):
        np.testing.assert_array_equal(one, orog)


def test_variables_have_noise_of_their_own(wind_model):
    """The same numbers as two components: not the same draws of them."""
    east = make(np.ones((3, 8, 8)), kind="state", name="uas", units="m s-1")
    north = east.rename("vas")
    drawn = [
        x.stsr.upscale(3, 2, model=wind_model, conserve="none") - 1
        for x in (east, north)
    ]
    again = east.stsr.upscale(3, 2, model=wind_model, conserve="none") - 1
    np.testing.assert_array_equal(drawn[0], again)
    u, v = (x.values.ravel() for x in drawn)
    assert not np.allclose(u, v, atol=1e-3)


def test_dataset_with_bounds_is_told_too(model):
    ds = make_dataset(
        grid="metres", label="right", kind="state", name="tas",
        values=np.full((4, 3, 5), 280.0),
    )  # fmt: skip
    rain = make_dataset(grid="metres", label="right").stsr.upscale(
        "pr", 2, 2, method="linear"
    )
    made = ds.stsr.upscale("tas", 2, 2, model=model, given=rain[["pr"]])
    assert made.tas.shape == rain.pr.shape


def test_store_is_told_too(model, tmp_path):
    coarse, rain = warm(), wet(realizations=3).chunk(time=3)
    options = {"model": model, "realizations": 3}
    made = to_zarr(coarse, tmp_path / "a.zarr", 2, 2, given=rain, **options)
    now = coarse.stsr.upscale(2, 2, given=rain, **options)
    np.testing.assert_array_equal(made.tas, now)
    # a store whose rain was the same for all can grow
    one, grown = rain.isel(realization=0), tmp_path / "b.zarr"
    for count, resume in ((1, False), (3, True)):
        options |= {"realizations": count, "given": one}
        made = to_zarr(coarse, grown, 2, 2, resume=resume, **options)
    np.testing.assert_array_equal(made.tas, coarse.stsr.upscale(2, 2, **options))


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (
            lambda r: r.isel(time=slice(2, None)),
            GridError,
            r"10 steps of 30 min from .*12 steps",
        ),
        (lambda r: r.isel(time=slice(None, None, 2)), GridError, r"6 steps of 60 min"),
        (lambda r: r.isel(x=slice(1, None)), GridError, r"along 'x' it has 9 labels"),
        (lambda r: r.isel(time=0, drop=True), XstsrError, r"time axis"),
        (lambda r: r.expand_dims(height=2), DataError, r"'height': 2.*given="),
        (
            lambda r: r.rename("rain"),
            XstsrError,
            r"needs given='pr' \[mm h-1\].*'rain'",
        ),
        (
            lambda r: r.assign_attrs(units="m s-1", standard_name="eastward_wind"),
            XstsrError,
            r"'pr' \[m s-1\].*in 'mm h-1'",
        ),
        (
            lambda r: r.expand_dims(realization=3),
            XstsrError,
            r"2 realizations.*given 3",
        ),
    ],
)
def test_rain_that_does_not_fit_is_refused(model, change, error, told):
    with pytest.raises(error, match=told):
        warm().stsr.upscale(2, 2, model=model, given=change(wet()), realizations=2)


def test_mean_takes_one_realization_of_the_rain(model):
    with pytest.raises(XstsrError, match=r"1 realizations.*given 2.*realization=0"):
        warm().stsr.upscale(2, 2, model=model, method="mean", given=wet(realizations=2))


# training


def pair(seed=0):
    """Temperature that says how much it rains, pixel by pixel."""
    tas = temperature(seed).clip(min=280)
    rain = field((tas.values - 280) / 4)
    return tas, rain.rename("pr")


def test_crops_of_both_are_of_one_place_and_time():
    tas, rain = pair()
    events = read_events([tas], given=[rain])
    (layer,) = events[0].layers
    assert (layer.name, layer.units, layer.timed, layer.is_rain) == (
        "pr",
        "mm h-1",
        True,
        True,
    )
    draw = replace(DRAW, coarsening=(1, 2), stride=(1, 2))
    for step in range(10):
        batch = draw_batch(events, 0, step, draw)
        assert batch.known.shape == (len(batch.fine), 1, *batch.fine.shape[1:])
        gap = (batch.fine - 280) / 4 - batch.known[:, 0]
        assert float(gap.nan_to_num().abs().max()) < 1e-3


def test_pack_takes_both_along(tmp_path):
    tas, rain = pair()
    events = read_events([tas], given=[rain])
    save_pack(events, tmp_path / "pack.npz")
    (back,) = load_pack(tmp_path / "pack.npz")
    assert back.fingerprint == events[0].fingerprint
    assert back.layers[0].label == events[0].layers[0].label


def test_training_learns_from_the_rain(tmp_path):
    tas, rain = pair()
    config = replace(
        CONFIG, mean_steps=40, residual_steps=4, rate=1e-2, precision="32-true"
    )
    path = train(tas, tmp_path, given=rain, config=config, say=lambda line: None)
    (known,) = read_header(path)["spec"]["known"]
    assert (known["name"], known["timed"], known["logged"]) == ("pr", True, True)
    truth, told = pair(3)
    coarse = truth.stsr.coarsen(3, 2)
    made = coarse.stsr.upscale(3, 2, model=path, method="mean", given=told)
    linear = coarse.stsr.upscale(3, 2, method="linear")
    errors = [float(((x - truth) ** 2).mean()) ** 0.5 for x in (made, linear)]
    assert errors[0] < 0.8 * errors[1]


def test_given_field_at_other_times_is_refused():
    tas, rain = pair()
    later = rain.assign_coords(time=rain.time + np.timedelta64(1, "D"))
    with pytest.raises(
        GridError, match=r"given='pr'.*from 2020-01-02T00:00, and.*2020-01-01"
    ):
        read_events([tas], given=[later])


def test_given_field_says_itself_which_steps_it_has(model):
    """Its own labels and bounds count, not those of the field that is refined."""
    coarse = warm(label="left")
    rain = wet(label="right")
    expected = coarse.stsr.upscale(2, 2, model=model, given=wet(), label="left")
    made = coarse.stsr.upscale(2, 2, model=model, given=rain, label="left")
    np.testing.assert_array_equal(made, expected)
    bare = rain.copy()
    bare.time.attrs.pop("xstsr_label")
    edges = np.stack([bare.time - np.timedelta64(30, "m"), bare.time], axis=1)
    ds = bare.to_dataset().assign(time_bnds=(("time", "bnds"), edges))
    ds.time.attrs["bounds"] = "time_bnds"
    made = coarse.stsr.upscale(2, 2, model=model, given=ds, label="left")
    np.testing.assert_array_equal(made, expected)
    with pytest.raises(GridError, match=r"it has .* and the fine grid has"):
        coarse.stsr.upscale(2, 2, model=model, given=bare, label="left")


def test_given_field_of_another_calendar_is_refused(model):
    rain = wet().convert_calendar("noleap", use_cftime=True)
    with pytest.raises(CFError, match="cannot match given='pr' and the field"):
        warm().stsr.upscale(2, 2, model=model, given=rain, label="left")
