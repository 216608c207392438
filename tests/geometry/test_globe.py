"""Grids that go round the globe: no seam at the date line, neighbours across poles."""

import warnings
from functools import partial

import dask.array
import numpy as np
import pytest
import torch
import xarray as xr

from tests.models import write_tiny_model
from tests.strategies import make
from xstsr.cf.read import read_meaning
from xstsr.diffusion.noise import normal
from xstsr.errors import AssumptionWarning
from xstsr.geometry.globe import Globe, globe_of, surround
from xstsr.memory import BYTES_PER_PIXEL
from xstsr.methods.recipe import Recipe
from xstsr.methods.task import Reach
from xstsr.pipeline import plan
from xstsr.planning.tiling import make_plan

pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
NEAR = Recipe(beta=0.02, context=1)
GLOBE = Globe(9, 12, (True, True), 0, 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def rain(columns=12, rows=9, frames=4, west=0.0, seed=0):
    """Smooth rain all round the globe, wet everywhere."""
    width, height = 360 / columns, 180 / rows
    lon = west + width * (np.arange(columns) + 0.5)
    lat = 90 - height * (np.arange(rows) + 0.5)
    generator = np.random.default_rng(seed)
    values = generator.gamma(2.0, 1.0, (frames, rows, columns)).astype(np.float32)
    return xr.DataArray(
        values,
        {
            "time": np.datetime64("2001-01-01", "us")
            + np.arange(frames) * np.timedelta64(10, "m"),
            "lat": (
                "lat",
                lat,
                {"units": "degrees_north", "standard_name": "latitude"},
            ),
            "lon": (
                "lon",
                lon,
                {"units": "degrees_east", "standard_name": "longitude"},
            ),
        },
        ("time", "lat", "lon"),
        "pr",
        {"units": "mm h-1", "cell_methods": "time: mean"},
    )


def rolled(da, columns):
    """The same field with so many columns moved from the front to the end."""
    width = float(da.lon[1] - da.lon[0])
    moved = da.roll(lon=-columns, roll_coords=False)
    return moved.assign_coords(lon=da.lon + columns * width)


def up(da, **options):
    return da.stsr.upscale(**({"s": 2, "t": 2} | options))


# where a grid closes


def test_grid_that_goes_round_is_known_by_its_edges():
    lat, lon = np.linspace(-90, 90, 10), np.linspace(0, 360, 13)
    assert globe_of(lat, lon, "sphere") == GLOBE
    assert globe_of(lat, lon, "plane") is None
    assert globe_of(lat, lon[:-1], "sphere") is None
    assert globe_of(lat[1:], lon, "sphere").poles == (False, True)
    assert globe_of(lat[::-1], lon, "sphere").poles == (True, True)


def test_rounded_edges_go_round():
    lon = (np.arange(1441) * 0.25 - 0.125).astype(np.float32).astype(float)
    found = globe_of(np.linspace(90, -90, 722), lon + 1e-5, "sphere")
    assert found.columns == 1440
    assert found.turn == 1439  # the first edge is a column west of the one at 0.125


@pytest.mark.parametrize("west", [-180.0, -90.0, 0.0, 60.0, 300.0])
def test_columns_are_counted_from_greenwich(west):
    edges = west + np.linspace(0, 360, 13)
    found = globe_of(np.linspace(-60, 60, 5), edges, "sphere")
    assert found.turn == west / 30 % 12


def test_surroundings_come_from_the_other_side():
    field = np.arange(9 * 12).reshape(9, 12)
    wide = surround(field, GLOBE, (2, 1), (3, 2))
    assert wide.shape == (12, 17)
    inside = np.pad(field, ((0, 0), (3, 2)), mode="wrap")
    np.testing.assert_array_equal(wide[2:-1], inside)
    # across the pole: half-way round
    np.testing.assert_array_equal(wide[1, 3:-2], np.roll(field[0], 6))
    np.testing.assert_array_equal(wide[0, 3:-2], np.roll(field[1], 6))
    np.testing.assert_array_equal(wide[-1, 3:-2], np.roll(field[-1], 6))


def test_surroundings_are_lazy():
    field = np.arange(9 * 12).reshape(9, 12)
    lazy = surround(dask.array.from_array(field, (4, 5)), GLOBE, (2, 1), (3, 2))
    np.testing.assert_array_equal(lazy, surround(field, GLOBE, (2, 1), (3, 2)))


def test_tiles_reach_beyond_the_ends_of_a_globe():
    near = Reach(1, 8, stride=4)
    cut = make_plan(range(4), (9, 12), (1, 4, 4), near, globe=GLOBE)
    assert [(x.start, x.stop) for x in cut.columns] == [(-2, 14)]
    assert cut.beyond == ((2, 2), (2, 2))
    cut = make_plan(range(4), (9, 12), (1, 4, 4), near, globe=GLOBE, pixels=40_000)
    assert len(cut.columns) > 1
    assert (cut.columns[0].start, cut.columns[-1].stop) == (-2, 14)


def test_surroundings_go_round_once_at_most():
    wide = Reach(1, 100, stride=4)
    cut = make_plan(range(4), (9, 12), (1, 1, 1), wide, globe=GLOBE)
    assert cut.beyond == ((9, 9), (12, 12))


# noise


def test_noise_is_one_field_round_the_globe():
    times = np.arange(3) * 600_000_000
    draw = partial(normal, times, seed=5, globe=GLOBE)
    whole = draw((9, 12))
    around = draw((9, 12 + 7), origin=(0, -3))
    assert torch.equal(around, torch.cat((whole[..., -3:], whole, whole[..., :4]), -1))
    across = draw((2, 12), origin=(-2, 0))
    assert torch.equal(across, whole[:, [1, 0]].roll(6, -1))
    beyond = draw((2, 12), origin=(9, 0))
    assert torch.equal(beyond, whole[:, [8, 7]].roll(6, -1))
    assert torch.equal(whole, normal(times, (9, 12), seed=5))


# whole fields


@pytest.mark.parametrize("method", ["linear", "nearest", "rainfarm"])
@pytest.mark.parametrize("columns", [1, 5, 6])
def test_rolling_the_longitude_rolls_the_result(method, columns):
    da = rain()
    one, other = up(da, method=method), up(rolled(da, columns), method=method)
    xr.testing.assert_allclose(
        other.drop_vars("lon"), rolled(one, 2 * columns).drop_vars("lon"), rtol=2e-6
    )


@pytest.mark.parametrize("method", ["mean", "diffusion", "generator"])
def test_rolling_the_longitude_rolls_what_networks_make(model, method):
    # whole patterns of the network (8 pixels here), so that it sees the same
    da = rain(columns=24)
    options = {"method": method, "model": model, "recipe": NEAR}
    one = up(da, **options)
    other = up(rolled(da, 12), **options)
    moved = rolled(one, 24)
    np.testing.assert_allclose(other.values, moved.values, rtol=2e-3, atol=2e-3)
    apart = np.abs(other.values - one.values).mean()
    assert apart > 100 * np.abs(other.values - moved.values).mean()


@pytest.mark.parametrize("method", ["linear", "diffusion", "rainfarm"])
@pytest.mark.parametrize("pixels", [6_000_000, 120_000])
def test_chunks_do_not_change_a_global_field(model, method, pixels, monkeypatch):
    monkeypatch.setattr("xstsr.planning.tiling.WORKING_SET", BYTES_PER_PIXEL * pixels)
    da = rain(columns=24)
    options = {"method": method}
    options |= {"model": model, "recipe": NEAR} if method == "diffusion" else {}
    now = up(da, **options)
    later = up(da.chunk(time=3, lat=4, lon=5), **options)
    assert later.chunks is not None
    if method == "diffusion":
        columns = plan(da, 2, 2, **options).job.plan.columns
        assert (len(columns) > 1) == (pixels < 6_000_000)
    np.testing.assert_array_equal(later.values, now.values)


@pytest.mark.parametrize("method", ["linear", "diffusion", "generator", "mean"])
def test_global_water_is_kept(model, method):
    da = rain()
    fine = up(da, method=method, **({} if method == "linear" else {"model": model}))
    area = np.diff(np.sin(np.deg2rad(np.linspace(-90, 90, 19))))[:, None]
    held = (fine.values.astype(float) * area).sum(axis=(1, 2)).reshape(-1, 2).mean(1)
    coarse = area.reshape(9, 2).sum(axis=1)[:, None]
    given = (da.values.astype(float) * coarse).sum(axis=(1, 2)) * 2
    np.testing.assert_allclose(held, given, rtol=1e-6)


def test_linear_interpolates_across_the_date_line_and_the_poles():
    da = rain(frames=1)
    fine = up(da, t=1, method="linear", conserve="none").values[0]
    given = da.values[0].astype(float)
    wide = surround(given, GLOBE, (1, 1), (1, 1))
    near = 0.75 * wide[:, 1:-1] + 0.25 * wide[:, :-2]  # the western half of a cell
    expected = 0.75 * near[1:-1] + 0.25 * near[:-2]  # and the northern
    np.testing.assert_allclose(fine[::2, ::2], expected, rtol=1e-5)


def test_half_a_globe_has_ends():
    da = rain().isel(lon=slice(0, 8))
    assert plan(da, 2, 2, method="linear").job.request.globe is None


# cells that are higher than wide


def test_networks_are_told_the_longer_side_of_a_cell():
    north = rain(36, 18).isel(lat=slice(0, 4))  # cells of 10 degrees, from 50 to 90
    found = plan(north, 2, 2, method="linear").job.request
    assert found.spacing_km == pytest.approx(1111.95 / 2, rel=1e-5)
    wide = rain(18, 36).isel(lat=slice(17, 19))  # 20 degrees wide, at the equator
    found = plan(wide, 2, 2, method="linear").job.request
    width = 2 * 1111.95 * np.cos(np.deg2rad(2.5))
    assert found.spacing_km == pytest.approx(width / 2, rel=1e-5)


@pytest.mark.filterwarnings("error")
def test_sides_of_cells_in_a_plane_follow_the_unit():
    heights, widths = read_meaning(make(grid="km", shape=(2, 3, 4))).sides_km
    np.testing.assert_allclose(heights, np.ones(3))
    np.testing.assert_allclose(widths, np.ones(3))


def test_cells_too_narrow_to_be_judged_warn(model):
    da = rain(36, 18)
    with pytest.warns(AssumptionWarning, match="is 11.5 times the shorter one"):
        plan(da, 2, 2, model=model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the longer side")
        plan(da.isel(lat=slice(2, -2)), 2, 2, model=model)  # up to 70 degrees
        plan(da, 2, 2, method="linear")
