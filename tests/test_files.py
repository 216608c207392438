"""Files of the command line: opened with care, written whole or not at all."""

import numpy as np
import pytest
import xarray as xr

from xstsr.errors import DataError
from xstsr.files import check_target, open_variable, write


@pytest.fixture
def dataset() -> xr.Dataset:
    values = np.arange(24.0).reshape(2, 3, 4)
    return xr.Dataset({"pr": (("time", "y", "x"), values), "crs": ((), 0)})


def _names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_written_dataset_reads_back(dataset, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write(dataset, path)
    back, name = open_variable(path)
    assert name == "pr"
    assert back["pr"].chunks is not None
    xr.testing.assert_equal(back.compute(), dataset)
    assert _names(tmp_path) == [path.name]
    back.close()


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_overwrite_replaces_what_was_there(dataset, tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    write(dataset, path)
    write(dataset + 1, path, overwrite=True)
    with xr.open_dataset(path) as back:
        assert back["pr"].sum() == dataset["pr"].sum() + 24
    assert _names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_failed_write_leaves_target_as_it_was(dataset, tmp_path, suffix):
    def fail(block):
        raise RuntimeError("lost power")

    path = tmp_path / f"out{suffix}"
    write(dataset, path)
    broken = dataset.chunk(time=1)
    broken["pr"] = broken["pr"].copy(
        data=broken["pr"].data.map_blocks(fail, dtype=float, meta=np.empty((0, 0, 0)))
    )
    with pytest.raises(RuntimeError, match="lost power"):
        write(broken, path, overwrite=True)
    assert _names(tmp_path) == [path.name]
    with xr.open_dataset(path) as back:
        xr.testing.assert_equal(back.load(), dataset)


def test_missing_folders_are_made(dataset, tmp_path):
    write(dataset, tmp_path / "a" / "b" / "out.nc")
    assert (tmp_path / "a" / "b" / "out.nc").is_file()


def test_existing_target_is_refused(dataset, tmp_path):
    (tmp_path / "out.nc").touch()
    with pytest.raises(DataError, match=r"out\.nc.*it exists.*--overwrite"):
        write(dataset, tmp_path / "out.nc")


def test_other_suffix_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"suffix is '\.tif'.*\.zarr"):
        check_target(tmp_path / "out.tif")


@pytest.mark.parametrize(
    "content", [b"no netCDF", b"\x89HDF\r\n\x1a\n half of it", b""]
)
def test_unreadable_file_is_named(tmp_path, content):
    path = tmp_path / "bad.nc"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*bad\.nc.*complete NetCDF"):
        open_variable(path)


def test_truncated_file_is_named(dataset, tmp_path):
    path = tmp_path / "half.nc"
    dataset.to_netcdf(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot read .*half\.nc"):
        open_variable(path)


def test_absent_variable_is_named(dataset, tmp_path):
    dataset.to_netcdf(tmp_path / "in.nc")
    with pytest.raises(DataError, match=r"it has no 'tas'.*\['pr'\].*--var"):
        open_variable(tmp_path / "in.nc", "tas")


def test_several_variables_need_a_name(dataset, tmp_path):
    dataset.assign(tas=dataset["pr"]).to_netcdf(tmp_path / "in.nc")
    with pytest.raises(DataError, match=r"no variable was named.*\['pr', 'tas'\]"):
        open_variable(tmp_path / "in.nc")
    assert open_variable(tmp_path / "in.nc", "tas")[1] == "tas"
