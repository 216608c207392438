"""Static fine fields: they reach the networks at their places, and are of use there."""

import json
from dataclasses import replace

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from tests.models import SPEC, replace_draw, tiny_model, write_tiny_model
from tests.strategies import make
from tests.training.test_fit import CONFIG, DRAW, field
from xstsr.cli.main import main
from xstsr.diffusion.checkpoint import load_model, read_header, save_model
from xstsr.diffusion.features import KnownField, known_maps
from xstsr.errors import DataError, GridError, StoreError, XstsrError
from xstsr.evaluation.protocol import Protocol
from xstsr.memory import BYTES_PER_PIXEL
from xstsr.planning.predictors import check_stages
from xstsr.storage.store import to_zarr
from xstsr.training import train
from xstsr.training.events import (
    check_alike,
    load_pack,
    read_events,
    save_pack,
)
from xstsr.training.losses import warm_start
from xstsr.training.patches import draw_batch
from xstsr.training.predictors import fit_known

OROG = KnownField("orog", "m", 500.0, 300.0)
LAND = KnownField("sftlf", "%", 50.0, 40.0)
QUIET = {"say": lambda line: None}
pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that needs two static fields."""
    spec = replace(SPEC, known=(OROG, LAND))
    return write_tiny_model(tmp_path_factory.mktemp("model"), spec=spec)


@pytest.fixture
def probe(monkeypatch):
    """A method that gives the first static field, as it reaches the networks."""

    def shown(task):
        return np.broadcast_to(task.known[0, 0, 0], (1, *task.shape)).astype(np.float32)

    replace_draw(monkeypatch, "mean", shown)
    return {"method": "mean", "conserve": "none"}


def rain(frames=4, rows=6, columns=5, **options):
    values = np.random.default_rng(0).gamma(0.5, 2.0, (frames, rows, columns))
    return make(values, **{"grid": "metres"} | options)


def beneath(da, s, margin=0):
    """Orography and land on the fine grid, and so many pixels beyond it."""
    fine = da.isel(time=0, drop=True)
    place = {}
    for dim in fine.dims:
        step = float(da[dim][1] - da[dim][0]) / s
        first = float(da[dim][0]) - ((s - 1) / 2 + margin) * step
        count = da.sizes[dim] * s + 2 * margin
        place[dim] = (dim, first + step * np.arange(count), da[dim].attrs)
    shape = [len(coord[1]) for coord in place.values()]
    rng = np.random.default_rng(1)
    values = {"orog": rng.gamma(2, 300, shape), "sftlf": rng.uniform(0, 100, shape)}
    units = {"orog": "m", "sftlf": "%"}
    return xr.Dataset(
        {
            k: (fine.dims, v.astype("float32"), {"units": units[k]})
            for k, v in values.items()
        },
        place,
    )


def test_static_maps_are_normalised_and_the_same_in_every_frame():
    values = torch.tensor([[[500.0, 800.0, torch.nan]], [[50.0, 10.0, torch.inf]]])
    values = values[None, :, None]
    maps = known_maps((OROG, LAND), values, 2)
    assert maps.shape == (1, 2, 2, 1, 3)
    for frame in (0, 1):
        assert maps[0, :, frame, 0].tolist() == [[0, 1, 0], [0, -1, 0]]


def test_static_maps_come_after_those_of_the_coarse_field():
    plain, needy = tiny_model(), tiny_model(spec=replace(SPEC, known=(OROG,)))
    coarse = torch.ones(1, 2, 2, 2)
    scalars = [torch.tensor([v]) for v in (1.0, 5.0, 30.0)]
    orog = torch.arange(36.0).reshape(1, 1, 1, 6, 6)
    seen = needy.look(coarse, (2, 3, 3), *scalars, known=orog).maps
    assert torch.equal(seen[:, :7], plain.look(coarse, (2, 3, 3), *scalars).maps)
    for frame in range(4):
        assert torch.allclose(seen[0, 7, frame], (orog[0, 0, 0] - 500) / 300)


def test_networks_use_static_fields(model):
    da = rain()
    under = beneath(da, 3)
    other = under.assign(orog=under.orog[::-1].variable)
    for method in ("mean", "diffusion"):
        one, two = (
            da.stsr.upscale(3, 2, method=method, model=model, static=static)
            for static in (under, other)
        )
        assert float(abs(one - two).max()) > 1e-3
        # whatever lies beneath, the water is that of the coarse field
        assert one.stsr.check(da).relative < 1e-6


@given(
    s=st.sampled_from((1, 2, 5)),
    margin=st.integers(0, 3),
    grid=st.sampled_from(("metres", "lat_lon", "lat_lon_up", "rotated")),
    flips=st.sets(st.sampled_from((0, 1))),
    chunks=st.none() | st.integers(1, 9),
    lazy=st.booleans(),
)
@settings(max_examples=30)
def test_static_field_reaches_its_pixels(model, s, margin, grid, flips, chunks, lazy):
    da = rain(grid=grid)
    under = beneath(da, s, margin)
    with pytest.MonkeyPatch.context() as patch:
        replace_draw(
            patch,
            "mean",
            lambda task: np.broadcast_to(task.known[0, 0, 0], (1, *task.shape)),
        )
        turned = under.isel({under.orog.dims[i]: slice(None, None, -1) for i in flips})
        turned = turned.transpose(*reversed(turned.orog.dims))
        turned = turned if chunks is None else turned.chunk(chunks)
        fine = (da.chunk(time=1) if lazy else da).stsr.upscale(
            s, 2, method="mean", conserve="none", model=model, static=turned
        )
        assert (fine.chunks is not None) == lazy
        fine = fine.compute(scheduler="synchronous")
    inner = slice(margin, -margin or None)
    for frame in fine.values:
        np.testing.assert_array_equal(frame, under.orog.values[inner, inner])


@pytest.mark.parametrize("lazy", [False, True])
def test_tiles_get_their_own_part(model, probe, monkeypatch, lazy):
    da = rain(frames=2, rows=40, columns=30)
    under = beneath(da, 8).chunk(y=50, x=70)
    monkeypatch.setattr(
        "xstsr.planning.tiling.WORKING_SET", BYTES_PER_PIXEL * 28 * 224 * 224
    )
    source = da.chunk(time=1, y=7) if lazy else da
    preview = source.stsr.plan(8, 1, model=model, static=under, **probe)
    assert len(preview.job.plan.rows) * len(preview.job.plan.columns) > 1
    fine = source.stsr.upscale(8, 1, model=model, static=under, **probe)
    for frame in fine.values:
        np.testing.assert_array_equal(frame, under.orog.values)


@pytest.mark.parametrize("method", ["mean", "diffusion"])
def test_any_chunks_of_the_static_field_give_the_same_bits(model, method):
    da = rain(frames=8)
    under = beneath(da, 3)
    options = {"method": method, "model": model}
    now = da.stsr.upscale(3, 2, static=under, **options)
    for source, static in (
        (da, under.chunk(y=4, x=5)),
        (da.chunk(time=3), under),
        (da.chunk(time=1, y=2), under.chunk(y=7)),
    ):
        made = source.stsr.upscale(3, 2, static=static, **options)
        with dask.config.set(scheduler="threads", num_workers=2):
            np.testing.assert_array_equal(made, now)


def test_lazy_static_field_is_not_computed(model, no_compute):
    da = rain()
    under = beneath(da, 3).chunk(y=4)
    with no_compute():
        fine = da.chunk(time=2).stsr.upscale(3, 2, model=model, static=under)
    assert fine.shape == (8, 18, 15)


def test_longitudes_may_be_counted_from_either_meridian(model, probe):
    da = rain(grid="lat_lon")
    under = beneath(da, 2)
    east = under.assign_coords(lon=under.lon + 360)
    fine = da.stsr.upscale(2, 1, model=model, static=east, **probe)
    np.testing.assert_array_equal(fine[0], under.orog)


def test_single_field_needs_no_name_and_one_time_is_none(tmp_path, probe):
    model = write_tiny_model(tmp_path, spec=replace(SPEC, known=(OROG,)))
    da = rain()
    orog = beneath(da, 2).orog.expand_dims(time=da.time[:1]).rename(None)
    fine = da.stsr.upscale(2, 1, model=model, static=orog, **probe)
    np.testing.assert_array_equal(fine[0], orog[0])


def test_units_may_be_spelt_otherwise(model):
    da = rain(2, 2, 2)
    under = beneath(da, 2)
    under.orog.attrs["units"] = "metres"
    assert da.stsr.upscale(2, 1, model=model, static=under).shape == (2, 4, 4)


def test_evaluation_hands_static_fields_on(model):
    fine = rain(frames=4, rows=12, columns=12)
    under = beneath(fine, 1, margin=2)
    made = fine.stsr.evaluate(
        3, 2, methods=("mean", "linear"), model=model, static=under
    )
    assert set(made.scores.method.values) == {"mean", "linear"}
    assert Protocol().static is None


@pytest.mark.parametrize(
    ("method", "told"), [("diffusion", "the model 'default'"), ("linear", "method=")]
)
def test_static_field_that_is_not_needed_is_refused(method, told):
    da = rain(grid="lat_lon")
    with pytest.raises(
        XstsrError, match=rf"\['orog', 'sftlf'\]: {told}.*takes no known"
    ):
        da.stsr.upscale(2, 1, method=method, static=beneath(da, 2))


def test_static_field_that_lacks_is_told(model):
    da = rain()
    with pytest.raises(
        XstsrError, match=r"needs static='orog' \[m\], static='sftlf' \[%\].*among"
    ):
        da.stsr.upscale(2, 1, model=model)
    with pytest.raises(XstsrError, match=r"\['sftlf'\] are not among \['orog'\]"):
        da.stsr.upscale(2, 1, model=model, static=beneath(da, 2).orog)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x.isel(y=slice(1, None)),
        lambda x: x.assign_coords(x=x.x + 250.0),
        lambda x: x.coarsen(x=2).mean(),
        lambda x: x.isel(x=slice(None, None, 2)),
    ],
    ids=["too small", "shifted", "coarse", "every other"],
)
def test_static_field_on_another_grid_is_refused(model, spoil):
    da = rain(rows=6, columns=6)
    under = spoil(beneath(da, 2))
    under = under.assign(
        {
            k: v.assign_attrs(units=u)
            for (k, v), u in zip(under.items(), "m%", strict=True)
        }
    )
    with pytest.raises(GridError, match=r"'orog'.*labels from.*fine grid.*regrid"):
        da.stsr.upscale(2, 1, model=model, static=under)


def test_remedy_for_another_grid_works(model):
    da = rain(rows=6, columns=6)
    rough = beneath(da, 5, margin=3)
    units = {name: v.attrs["units"] for name, v in rough.items()}
    grid = da.stsr.upscale(2, 1, method="nearest")
    under = xr.Dataset(
        {n: v.stsr.regrid(grid).assign_attrs(units=units[n]) for n, v in rough.items()}
    )
    assert da.stsr.upscale(2, 1, model=model, static=under).shape == grid.shape


def test_static_field_in_other_units_is_refused(model):
    da = rain()
    under = beneath(da, 2)
    under.orog.attrs["units"] = "km"
    with pytest.raises(XstsrError, match=r"'orog' \[km\].*in 'm'.*pint\.to\('m'\)"):
        da.stsr.upscale(2, 1, model=model, static=under)


@pytest.mark.parametrize(
    ("static", "error", "told"),
    [
        ("orog.nc", XstsrError, r"given='orog\.nc'.*is a str"),
        (lambda x: x.expand_dims(level=3), DataError, r"'level': 3.*isel"),
        (lambda x: x.astype("datetime64[s]"), DataError, r"holds datetime64"),
    ],
)
def test_what_is_no_static_field_is_refused(model, static, error, told):
    da = rain()
    given = static(beneath(da, 2)) if callable(static) else static
    with pytest.raises(error, match=told):
        da.stsr.upscale(2, 1, model=model, static=given)


def test_store_keeps_to_its_static_field(model, tmp_path):
    da = rain(frames=30)
    under = beneath(da, 2)
    options = {"method": "mean", "model": model}
    made = to_zarr(da, tmp_path / "fine.zarr", 2, 2, static=under, **options)
    np.testing.assert_array_equal(
        made.pr, da.stsr.upscale(2, 2, static=under, **options)
    )
    again = to_zarr(
        da, tmp_path / "fine.zarr", 2, 2, static=under, resume=True, **options
    )
    assert again.sizes == made.sizes
    with pytest.raises(StoreError, match=r"known: '\w+' there, '\w+' now"):
        to_zarr(
            da, tmp_path / "fine.zarr", 2, 2, static=under + 1, resume=True, **options
        )


def test_header_tells_what_is_needed_and_old_ones_need_nothing(model, tmp_path):
    assert [f["name"] for f in read_header(model)["spec"]["known"]] == [
        "orog",
        "sftlf",
    ]
    assert load_model(model).spec.known == (OROG, LAND)
    path = tmp_path / "old.safetensors"
    save_model(tiny_model(), path, {})
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["xstsr"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["spec"]["known"]
    save_file(weights, path, metadata={"xstsr": json.dumps(header)})
    assert load_model(path).spec == SPEC


# training


def waves(rng, shape, length, count):
    """Waves of about one length [pixels] in all directions that travel slowly."""
    t, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    total = np.zeros(shape)
    for _ in range(count):
        angle, k = rng.uniform(0, 2 * np.pi), 2 * np.pi / length * rng.uniform(0.8, 1.3)
        phase = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.2) * t
        total += np.cos(k * (np.cos(angle) * y + np.sin(angle) * x) + phase)
    return total / np.sqrt(count / 2)


def country(parts=4, side=48):
    """Hills of 6 km, by which coarse cells of 4 km do not tell the sides."""
    hills = waves(np.random.default_rng(0), (1, side, parts * side), 6, 14)[0]
    orog = field(np.zeros((1, side, parts * side)))[0].drop_vars("time")
    orog = orog.copy(data=(500 + 300 * hills).astype("float32")).rename("orog")
    orog.attrs = {"units": "m", "standard_name": "surface_altitude"}
    return orog


def storm(orog, part, frames=8, side=48):
    """Wide rain over a part of the country, more of it on the hills."""
    under = orog[:, part * side : (part + 1) * side]
    wet = waves(np.random.default_rng(10 + part), (frames, side, side), 60, 14) + 0.5
    rates = 4 * np.maximum(wet, 0) * np.exp(0.7 * (under.values - 500) / 300)
    return field(rates.astype("float32")).assign_coords(x=under.x)


def test_model_that_knows_the_hills_beats_one_that_does_not(tmp_path):
    """Three storms to learn from, and a fourth over hills that it has never seen."""
    orog = country()
    draw = replace(DRAW, s=(4,), t=(2,), side=24, coarsening=(1,), stride=(1,))
    config = replace(
        CONFIG,
        draw=draw,
        mean_steps=40,
        residual_steps=3,
        rate=1e-2,
        precision="32-true",
    )
    storms, truth = [storm(orog, part) for part in range(3)], storm(orog, 3)
    coarse = truth.stsr.coarsen(4, 2)
    errors = {}
    for name, static in (("with", {"static": orog}), ("without", {})):
        path = train(storms, tmp_path / name, config=config, **static, **QUIET)
        made = coarse.stsr.upscale(4, 2, method="mean", model=path, **static)
        errors[name] = float(np.sqrt(((made - truth) ** 2).mean()))
        drawn = coarse.stsr.upscale(4, 2, model=path, **static)
        assert drawn.stsr.check(coarse).relative < 1e-6
    linear = coarse.stsr.upscale(4, 2, method="linear")
    errors["linear"] = float(np.sqrt(((linear - truth) ** 2).mean()))
    assert errors["with"] < 0.7 * min(errors["without"], errors["linear"])


def events_over(orog):
    return read_events([storm(orog, part) for part in (0, 2)], static=[orog])


def test_events_take_what_lies_beneath_them():
    orog = country()
    for event, part in zip(events_over(orog), (0, 2), strict=True):
        (layer,) = event.layers
        assert (layer.name, layer.units) == ("orog", "m")
        np.testing.assert_array_equal(
            layer.values[0], orog.values[:, part * 48 : (part + 1) * 48]
        )


def test_events_choose_among_static_fields_by_place():
    orog = country()
    west, east = orog[:, :60], orog[:, 90:]
    events = read_events(
        [storm(orog, 0), storm(orog, 3)], static=[west.to_dataset(), east]
    )
    np.testing.assert_array_equal(events[1].layers[0].values[0], orog.values[:, 144:])
    with pytest.raises(GridError, match=r"'orog'.*102 labels.*48 labels from 48000"):
        read_events([storm(orog, 1)], static=[orog[:, 90:]])


def test_crops_turn_with_what_lies_beneath_them():
    """Rain that equals its hills everywhere does so in every crop of any coarsening."""
    orog = country()
    values = np.broadcast_to(np.maximum(orog.values, 0) / 50, (8, *orog.shape))
    events = read_events([field(values.astype("float32"))], static=[orog.clip(min=0)])
    draw = replace(DRAW, coarsening=(1, 2, 3), stride=(1, 2))
    for step in range(12):
        batch = draw_batch(events, 0, step, draw)
        assert batch.known.shape == (len(batch.fine), 1, 1, *batch.fine.shape[-2:])
        for frame in range(batch.fine.shape[1]):
            assert torch.allclose(
                batch.fine[:, frame], batch.known[:, 0, 0] / 50, rtol=1e-2, atol=1e-2
            )


def test_batches_without_static_fields_have_none():
    events = read_events([storm(country(), 0)])
    batch = draw_batch(events, 0, 0, DRAW)
    assert batch.known is None
    assert batch.to(torch.device("cpu")).known is None


def test_warm_start_takes_over_what_the_mean_made_of_the_hills():
    model = tiny_model(spec=replace(SPEC, known=(OROG,)))
    warm_start(model)
    mean = model.mean.network.enter.weight
    assert torch.equal(model.denoiser.network.enter.weight[:, 4 : 4 + 32], mean)
    assert model.denoiser.network.enter.weight[:, 36:].eq(0).all()


def test_centre_and_width_are_those_of_the_events():
    events = events_over(country())
    values = np.concatenate([e.layers[0].values for e in events])
    (found,) = fit_known(event.layers for event in events)
    assert (found.name, found.units) == ("orog", "m")
    assert found.centre == pytest.approx(float(values.mean()), rel=1e-5)
    assert found.width == pytest.approx(float(values.std()), rel=1e-5)


def test_pack_takes_static_fields_along(tmp_path):
    events = events_over(country())
    save_pack(events, tmp_path / "pack.npz")
    back = load_pack(tmp_path / "pack.npz")
    for one, two in zip(events, back, strict=True):
        assert one.fingerprint == two.fingerprint
        assert two.layers[0].name == "orog"


def test_fingerprint_knows_the_static_field():
    orog = country()
    fingerprints = {
        read_events([storm(orog, 0)], static=static)[0].fingerprint
        for static in ([], [orog], [orog + 1])
    }
    assert len(fingerprints) == 3


def test_static_field_from_a_file(tmp_path):
    orog = country()
    orog.to_netcdf(tmp_path / "orog.nc")
    config = replace(CONFIG, mean_steps=2, residual_steps=0)
    path = train(
        storm(orog, 0),
        tmp_path / "run",
        validation=storm(orog, 1),
        static=tmp_path / "orog.nc",
        config=config,
        **QUIET,
    )
    assert [f["name"] for f in read_header(path)["spec"]["known"]] == ["orog"]


def test_uniform_static_field_is_refused():
    orog = country()
    flat = (0 * orog).assign_attrs(orog.attrs)
    with pytest.raises(DataError, match=r"'orog': its 2304 values are all 0\."):
        fit_known(e.layers for e in read_events([storm(orog, 0)], static=[flat]))


def test_static_field_without_a_name_is_refused():
    orog = country()
    with pytest.raises(DataError, match=r"has no name.*rename\(\"orog\"\)"):
        read_events([storm(orog, 0)], static=[orog.rename(None)])


def test_events_with_other_static_fields_are_refused():
    orog = country()
    with pytest.raises(
        DataError, match=r"'rain-1' has \[\{'name': 'orog', 'units': 'm'"
    ):
        check_alike([*read_events([storm(orog, 1)]), *events_over(orog)])


def test_fine_tuning_needs_the_same_static_fields(model, tmp_path):
    orog = country()
    with pytest.raises(DataError, match=r"'sftlf'.*and \[\('orog', 'm'\)\] are given"):
        train(storm(orog, 0), tmp_path, static=orog, start=model, config=CONFIG)


def test_missing_part_of_a_static_field_counts_as_its_mean(tmp_path):
    spec = replace(SPEC, known=(OROG,))
    model = write_tiny_model(tmp_path, spec=spec)
    da = rain(2, 3, 3)
    orog = beneath(da, 2).orog
    gaps, filled = orog.where(orog < 600), orog.where(orog < 600, 500.0)
    one, two = (
        da.stsr.upscale(2, 1, model=model, static=x.assign_attrs(units="m"))
        for x in (gaps, filled)
    )
    np.testing.assert_array_equal(one, two)


def test_command_line_takes_static_fields(tmp_path):
    orog, config = country(), tmp_path / "small.toml"
    config.write_text(
        "mean_steps = 2\nresidual_steps = 0\nwarmup = 1\nfit_batches = 2\n"
        "[draw]\ns = [2]\nt = [1]\npixels = 2000\nside = 16\ncells = 4\nframes = [4]\n"
        + "".join(
            f"[spec.{part}]\nwidths = [8, 16]\nblocks = 1\ntemporal = [1]\n"
            for part in ("mean", "denoiser")
        )
    )
    rain = storm(orog, 0)
    coarse = rain.stsr.coarsen(2, 1)
    for name, da in (("orog", orog), ("rain", rain), ("coarse", coarse)):
        da.to_netcdf(tmp_path / f"{name}.nc")
    files = {n: str(tmp_path / f"{n}.nc") for n in ("orog", "rain", "coarse", "fine")}
    run = CliRunner()
    model = str(tmp_path / "run" / "model.safetensors")
    known = [f"--model={model}"]
    for command in (
        ["train", files["rain"], f"--config={config}", f"--out={tmp_path / 'run'}"],
        ["upscale", files["coarse"], files["fine"], "-s2", "--method=mean", *known],
    ):
        done = run.invoke(main, [*command, "--static", files["orog"]])
        assert done.exit_code == 0, done.output
    with xr.open_dataset(files["fine"]) as fine:
        np.testing.assert_allclose(
            fine.rain.stsr.coarsen(2, 1), coarse, rtol=1e-4, atol=1e-6
        )


def test_known_fields_and_two_stages_do_not_go_together():
    with pytest.raises(XstsrError, match=r"stages \[\(1, 5, 5\), \(1, 6, 6\)\].*twice"):
        check_stages(make(), None, [(1, 5, 5), (1, 6, 6)])
    check_stages(None, None, [(1, 5, 5), (1, 6, 6)])
    check_stages(make(), None, [(1, 5, 5)])
