"""The demo's radar sequence: facts of the file, and what its metadata must say."""

import hashlib
from importlib.resources import files
from pathlib import Path

import cf_xarray
import numpy as np
import pyproj
import pytest
import xarray as xr

from xstsr.data import open_demo

assert cf_xarray  # registers .cf


@pytest.fixture(scope="module")
def demo() -> xr.Dataset:
    return open_demo()


def test_file_is_the_one_credited():
    folder = files("xstsr.data")
    digest = hashlib.sha256((folder / "openmrg_rad.nc").read_bytes()).hexdigest()
    attribution = (folder / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert digest in attribution
    assert "CC BY-SA 4.0" in attribution


def test_open_demo_keeps_values(demo):
    with xr.open_dataset(Path(str(files("xstsr.data") / "openmrg_rad.nc"))) as raw:
        np.testing.assert_array_equal(demo["rainfall_amount"], raw["rainfall_amount"])
    # summed by hand from the file: 2580.78 mm over cells and frames, at most 13.7 mm/h
    assert demo["rainfall_amount"].sum() == pytest.approx(2580.7809724890285)
    assert demo["rainfall_amount"].max() * 12 == pytest.approx(13.7043, abs=1e-4)
    assert demo["rainfall_amount"].notnull().all()


def test_open_demo_has_frames_and_cells(demo):
    assert demo["rainfall_amount"].dims == ("time", "y", "x")
    assert demo["rainfall_amount"].shape == (31, 48, 37)


def test_grid_is_uniform_two_kilometres(demo):
    np.testing.assert_allclose(np.diff(demo["x"]), 2000.0, rtol=1e-12)
    np.testing.assert_allclose(np.diff(demo["y"]), 2000.0, rtol=1e-12)


def test_latitudes_and_longitudes_project_onto_grid(demo):
    crs = pyproj.CRS.from_cf(demo["crs"].attrs)
    forward = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = forward.transform(
        demo["lon"].astype("float64"), demo["lat"].astype("float64")
    )
    # float32 degrees resolve 0.4 m at 58 degrees north
    np.testing.assert_allclose(x, np.broadcast_to(demo["x"], x.shape), atol=0.5)
    np.testing.assert_allclose(
        y, np.broadcast_to(demo["y"].data[:, None], y.shape), atol=0.5
    )
    assert (demo["lat"].diff("y") > 0).all()
    assert 57.2 < demo["lat"].min() < demo["lat"].max() < 58.1


def test_intervals_start_at_labels_and_touch(demo):
    bounds = demo["time_bnds"].data
    np.testing.assert_array_equal(bounds[:, 0], demo["time"])
    np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1])
    assert bounds[0, 0] == np.datetime64("2015-07-25T12:30")
    assert bounds[-1, 1] == np.datetime64("2015-07-25T15:05")


def test_metadata_are_cf(demo):
    rain = demo["rainfall_amount"]
    assert rain.attrs["standard_name"] == "rainfall_amount"
    assert rain.attrs["units"] == "kg m-2"
    assert rain.attrs["cell_methods"] == "time: sum area: mean"
    assert demo.cf.axes == {"T": ["time"], "Y": ["y"], "X": ["x"]}
    assert demo.cf.bounds == {"T": ["time_bnds"], "time": ["time_bnds"]}
    assert demo.cf.grid_mapping_names == {"polar_stereographic": ["crs"]}


def test_field_keeps_grid_mapping(demo):
    field = demo["rainfall_amount"]
    assert field.encoding["grid_mapping"] in field.coords


def test_dataset_round_trips_through_netcdf(demo, tmp_path):
    demo.to_netcdf(tmp_path / "demo.nc")
    with xr.open_dataset(tmp_path / "demo.nc", decode_coords="all") as back:
        xr.testing.assert_equal(back.load().reset_coords("time_bnds"), demo)
        assert back["rainfall_amount"].attrs["units"] == "kg m-2"
    with xr.open_dataset(tmp_path / "demo.nc", decode_cf=False) as stored:
        assert stored["rainfall_amount"].attrs["coordinates"].split() == ["lat", "lon"]
        assert stored["rainfall_amount"].attrs["grid_mapping"] == "crs"
        assert "coordinates" not in stored.attrs
        assert all("_FillValue" not in stored[name].attrs for name in demo.coords)
