"""Pictures: what is drawn where, and that nothing is written by halves."""

import sys

import numpy as np
import pytest
import xarray as xr

from xstsr.errors import DataError, UnitError
from xstsr.plot import RAIN_LEVELS, PlotError, compare

pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")


def _field(shape: tuple[int, ...], spacing: float, units: str = "mm h-1"):
    rng = np.random.default_rng(0)
    metres = {"units": "m"}
    coords = {
        "y": ("y", (np.arange(shape[-2]) + 0.5) * spacing, metres),
        "x": ("x", (np.arange(shape[-1]) + 0.5) * spacing, metres),
    }
    if len(shape) == 3:
        step = np.timedelta64(30 // shape[0], "m")
        coords["time"] = np.datetime64("2015-07-25T12:30", "ns") + step * np.arange(
            shape[0]
        )
    return xr.DataArray(
        rng.gamma(0.5, 4.0, shape),
        dims=("time", "y", "x")[-len(shape) :],
        coords=coords,
        attrs={"units": units},
    )


@pytest.fixture
def panels() -> dict[str, xr.DataArray]:
    return {"coarse": _field((2, 4, 3), 10e3), "fine": _field((6, 40, 30), 1e3)}


def _meshes(figure):
    return [axes.collections[0] for axes in figure.axes[:-1]]


def test_compare_draws_rows_of_times_and_columns_of_panels(panels):
    figure = compare(panels, frames=[0, 2, 3])
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles == ["coarse", "fine"]
    assert len(figure.axes) == 3 * 2 + 1
    # six fine steps on two coarse ones: steps 0 and 2 lie in the first, 3 in the second
    coarse = [mesh.get_array() for mesh in _meshes(figure)[::2]]
    for drawn, index in zip(coarse, (0, 0, 1), strict=True):
        np.testing.assert_array_equal(drawn, panels["coarse"][index])


def test_compare_starts_where_rain_is_heaviest(panels):
    panels["fine"][4] += 100.0
    figure = compare(panels)
    fine = [mesh.get_array() for mesh in _meshes(figure)[1::2]]
    for drawn, index in zip(fine, (3, 4, 5), strict=True):
        np.testing.assert_array_equal(drawn, panels["fine"][index])


def test_rain_panels_share_the_rain_steps(panels):
    figure = compare(panels)
    for mesh in _meshes(figure):
        np.testing.assert_array_equal(mesh.norm.boundaries, RAIN_LEVELS)
    assert figure.axes[-1].get_ylabel() == "mm h-1"


def test_rain_colours_darken_steadily(panels):
    # luminance (ITU-R BT.709) must fall from step to step, for colour-blind readers
    from matplotlib.colors import to_rgb

    from xstsr.plot import _RAIN_COLOURS

    light = [np.dot(to_rgb(c), (0.2126, 0.7152, 0.0722)) for c in _RAIN_COLOURS]
    assert (np.diff(light) < 0).all()
    assert len(_RAIN_COLOURS) == len(RAIN_LEVELS)


def test_other_units_share_the_range_of_all_values():
    low, high = _field((4, 3), 1e3, "K") + 270.0, _field((4, 3), 1e3, "K") + 290.0
    low.attrs = high.attrs = {"units": "K"}
    figure = compare({"low": low, "high": high})
    for mesh in _meshes(figure):
        assert mesh.norm.vmin == pytest.approx(float(low.min()))
        assert mesh.norm.vmax == pytest.approx(float(high.max()))


def test_axes_count_kilometres_from_south_west_corner(panels):
    figure = compare(panels)
    corner = _meshes(figure)[0].get_coordinates()[0, 0]
    far = _meshes(figure)[1].get_coordinates()[-1, -1]
    np.testing.assert_allclose([*corner, *far], [0.0, 0.0, 30.0, 40.0], atol=1e-9)
    assert figure.axes[4].get_xlabel() == "km"


def test_degrees_stay_degrees_and_keep_their_shape():
    field = xr.DataArray(
        np.ones((3, 4)),
        dims=("lat", "lon"),
        coords={
            "lat": ("lat", [59.0, 60.0, 61.0], {"units": "degrees_north"}),
            "lon": ("lon", [10.0, 11.0, 12.0, 13.0], {"units": "degrees_east"}),
        },
    )
    axes = compare({"": field}).axes[0]
    assert axes.get_xlim() == (9.5, 13.5)
    # cos 60 degrees = 1/2: a degree north is drawn twice as long as one east
    assert axes.get_aspect() == pytest.approx(2.0)


def test_one_cell_wide_field_is_drawn():
    assert len(_meshes(compare({"": _field((4, 1), 1e3)}))) == 1


def test_cells_without_data_are_hatched(panels):
    panels["fine"][:, :10] = np.nan
    figure = compare(panels, frames=[0])
    assert figure.axes[0].patch.get_hatch() is None
    assert figure.axes[1].patch.get_hatch() == "////"
    assert _meshes(figure)[1].get_array().mask.sum() == 300


def test_all_missing_field_is_drawn():
    compare({"": _field((4, 3), 1e3, "K") * np.nan})


def test_cftime_rows_are_labelled(panels):
    times = xr.date_range("2000-02-30", periods=6, calendar="360_day", use_cftime=True)
    fine = panels["fine"].assign_coords(time=times)
    figure = compare({"fine": fine}, frames=[1])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["2000-03-01 00:00"]


def test_picture_is_written_whole(panels, tmp_path):
    compare(panels, tmp_path / "fine.png")
    assert (tmp_path / "fine.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["fine.png"]


def test_failed_write_leaves_older_picture(panels, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def fail(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "fine.png").write_bytes(b"older")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        compare(panels, tmp_path / "fine.png")
    assert [path.name for path in tmp_path.iterdir()] == ["fine.png"]
    assert (tmp_path / "fine.png").read_bytes() == b"older"


def test_no_panels_is_an_error():
    with pytest.raises(DataError, match="there are no panels"):
        compare({})


def test_realizations_are_an_error():
    ensemble = _field((4, 3), 1e3).expand_dims(realization=2, time=3)
    with pytest.raises(DataError, match=r"'all'.*\(2, 3, 4, 3\).*realization=0"):
        compare({"all": ensemble})


def test_mixed_units_are_an_error(panels):
    panels["fine"].attrs["units"] = "kg m-2"
    with pytest.raises(UnitError, match=r"mm h-1.*kg m-2.*Convert"):
        compare(panels)


@pytest.mark.parametrize("frames", [[6], [-1], []])
def test_absent_frame_is_an_error(panels, frames):
    with pytest.raises(DataError, match="have frames 0 to 5"):
        compare(panels, frames=frames)


def test_missing_matplotlib_names_the_extra(panels, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match=r"pip install 'xstsr\[plot\]'"):
        compare(panels)
