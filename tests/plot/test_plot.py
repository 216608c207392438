"""Pictures: what is drawn where, in which units, and that nothing is half written."""

import inspect
import sys

import cf_xarray.units
import numpy as np
import pint_xarray  # noqa: F401
import pytest
import xarray as xr

from tests.strategies import DAY, make, make_dataset
from xstsr import plot
from xstsr.accessor import PlotAccessor
from xstsr.errors import CFError, DataError, GridError, UnitError
from xstsr.plot import RAIN_LEVELS, PlotError, compare, side_by_side
from xstsr.plot.series import read, thinned

pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")


def rain(shape=(4, 6, 8), seed=0, **choices):
    values = np.random.default_rng(seed).gamma(0.5, 4.0, shape)
    return make(values, **({"grid": "metres"} | choices))


def refined(coarse, s=3, t=2, realizations=4):
    return coarse.stsr.upscale(s, t, method="rainfarm", realizations=realizations)


def meshes(figure):
    drawn = [axes.collections[0] for axes in figure.axes if axes.collections]
    return [mesh for mesh in drawn if mesh.get_array() is not None][: len(drawn) - 1]


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def words(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


# what stands where


def test_compare_has_a_column_for_each_field():
    coarse = rain()
    fine = refined(coarse)
    figure = compare(fine, coarse, fine[0])
    assert titles(figure) == [
        "coarse",
        "mean of 4",
        "realization 0",
        "realization 1",
        "realization 2",
        "truth",
    ]
    # three rows of six, and the colour bar
    assert len(figure.axes) == 3 * 6 + 1


def test_mean_is_that_of_all_realizations():
    coarse = rain()
    fine = refined(coarse, realizations=5)
    drawn = meshes(compare(fine, coarse, frames=[3], realizations=2))
    assert len(drawn) == 4
    np.testing.assert_allclose(
        drawn[1].get_array(), fine[:, 3].mean("realization"), 1e-5
    )


def test_rows_show_the_wettest_coarse_step():
    coarse = rain((4, 6, 8), label="left")
    coarse[2] += 100.0
    figure = compare(refined(coarse, t=3), coarse)
    times = [text for text in words(figure) if "\N{EN DASH}" in text]
    # steps of an hour from midnight: the third one, in thirds
    expected = {"02:00\N{EN DASH}02:20", "02:20\N{EN DASH}02:40"}
    assert expected < set(times)
    for mesh in meshes(figure)[::5][:3]:
        np.testing.assert_allclose(mesh.get_array(), coarse[2])


def test_coarse_frame_is_the_one_that_holds_at_the_time():
    panels = {
        "coarse": rain((2, 4, 4), step=2 * 3_600_000_000),
        "fine": rain((4, 8, 8)),
    }
    drawn = meshes(side_by_side(panels, frames=[0, 2, 3]))
    for mesh, index in zip(drawn[::2], (0, 1, 1), strict=True):
        np.testing.assert_array_equal(mesh.get_array(), panels["coarse"][index])


def test_single_frame_is_drawn_in_two_rows_of_panels():
    coarse = rain()
    figure = compare(refined(coarse)[:, 3], coarse[1])
    rows = {round(axes.get_subplotspec().rowspan.start) for axes in figure.axes[:-1]}
    assert rows == {0, 1}
    assert any("2001-01-01" in text for text in words(figure))


def test_field_without_any_time_is_drawn():
    figure = side_by_side({"": rain()[0].drop_vars("time")})
    assert len(meshes(figure)) == 1
    assert not any("1970" in text for text in words(figure))


def test_single_amount_of_unknown_length_keeps_its_unit():
    amount = rain(kind="amount", units="mm").isel(time=1)
    figure = side_by_side({"": amount})
    assert figure.axes[-1].get_ylabel() == "mm"
    np.testing.assert_array_equal(meshes(figure)[0].get_array(), amount)


def test_one_realization_has_no_mean():
    coarse = rain()
    assert titles(compare(refined(coarse, realizations=None), coarse)) == [
        "coarse",
        "fine",
    ]


def test_lazy_fields_give_the_same_picture(no_compute):
    coarse = rain()
    fine = refined(coarse)
    eager = meshes(compare(fine, coarse))
    lazy = meshes(compare(fine.chunk(time=2), coarse.chunk(time=1)))
    for one, other in zip(eager, lazy, strict=True):
        np.testing.assert_array_equal(one.get_array(), other.get_array())
    with no_compute():
        read(fine.chunk(time=2), "fine")


def test_only_what_is_drawn_is_computed():
    seen = []
    coarse = rain((6, 4, 4))

    def count(block, block_info=None):
        seen.append(block_info[0]["chunk-location"])
        return block

    lazy = coarse.chunk(time=1)
    lazy = lazy.copy(data=lazy.data.map_blocks(count, dtype=lazy.dtype))
    side_by_side({"": lazy}, frames=[4])
    assert seen == [(4, 0, 0)]


# units and colours


def test_amounts_and_rates_are_drawn_as_rates():
    rate = rain(units="mm h-1")
    amount = rain(kind="amount", units="mm", step=1_800_000_000)
    drawn = meshes(side_by_side({"rate": rate, "amount": amount}, frames=[0]))
    # 30 minutes: an amount in mm is half the rate in mm h-1; the middle of the first
    # hour is where the second half of it starts
    np.testing.assert_allclose(drawn[1].get_array(), 2 * amount[1], rtol=1e-6)


def test_rain_panels_share_the_rain_steps():
    figure = compare(refined(rain()), rain())
    for mesh in meshes(figure):
        np.testing.assert_array_equal(mesh.norm.boundaries, RAIN_LEVELS)
    assert figure.axes[-1].get_ylabel() == "mm h-1"


def test_daily_rain_is_shown_per_day():
    coarse = rain(step=DAY, calendar="noleap", units="kg m-2 s-1") * 1e-5
    coarse.attrs = rain(units="kg m-2 s-1").attrs
    figure = side_by_side({"": coarse}, frames=[1])
    assert figure.axes[-1].get_ylabel() == "mm d-1"
    np.testing.assert_allclose(
        meshes(figure)[0].get_array(), coarse[1] * 86400, rtol=1e-6
    )
    assert "2001-01-02" in figure.get_suptitle()


def test_rain_colours_darken_steadily():
    # luminance (ITU-R BT.709) must fall from step to step, for colour-blind readers
    from matplotlib.colors import to_rgb

    from xstsr.plot.style import RAIN_COLOURS

    light = [np.dot(to_rgb(c), (0.2126, 0.7152, 0.0722)) for c in RAIN_COLOURS]
    assert (np.diff(light) < 0).all()
    assert len(RAIN_COLOURS) == len(RAIN_LEVELS)


def test_one_pixel_does_not_set_the_colours_of_a_state():
    values = np.random.default_rng(0).uniform(270, 290, (1, 60, 60))
    values[0, 5, 5] = 5000.0
    figure = side_by_side({"": make(values, kind="state", grid="metres")[0]})
    (mesh,) = meshes(figure)
    assert 269 < mesh.norm.vmin < 271
    assert 289 < mesh.norm.vmax < 291


def test_quantified_fields_are_drawn():
    da = rain()
    units = cf_xarray.units.units
    quantified = da.pint.quantify(dict.fromkeys(da.coords), unit_registry=units)
    drawn = meshes(side_by_side({"": quantified}, frames=[1]))
    np.testing.assert_array_equal(drawn[0].get_array(), da[1])


# where it lies


def test_axes_count_kilometres_from_south_west_corner():
    coarse = rain((4, 6, 8))
    figure = side_by_side({"coarse": coarse, "fine": refined(coarse)[0]}, frames=[0])
    first, second = meshes(figure)
    # 6 by 8 cells of a kilometre; y runs downwards
    corners = np.sort(first.get_coordinates()[[0, -1], [0, -1]], axis=0)
    np.testing.assert_allclose(corners, [[0, 0], [8, 6]], atol=1e-9)
    corners = np.sort(second.get_coordinates()[[0, -1], [0, -1]], axis=0)
    np.testing.assert_allclose(corners, [[0, 0], [8, 6]], atol=1e-9)
    assert figure.axes[0].get_xlabel() == "x [km]"


def test_degrees_stay_degrees_and_keep_their_shape():
    field = xr.DataArray(
        np.ones((3, 4)),
        dims=("lat", "lon"),
        coords={
            "lat": ("lat", [59.0, 60.0, 61.0], {"units": "degrees_north"}),
            "lon": ("lon", [10.0, 11.0, 12.0, 13.0], {"units": "degrees_east"}),
        },
        attrs={"units": "mm h-1"},
    )
    axes = side_by_side({"": field}).axes[0]
    assert axes.get_xlim() == (9.5, 13.5)
    # cos 60 degrees = 1/2: a degree north is drawn twice as long as one east
    assert axes.get_aspect() == pytest.approx(2.0)
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "longitude [°E]",
        "latitude [°N]",
    )


@pytest.mark.parametrize("grid", ["metres", "rotated"])
def test_grid_mapping_gives_a_map(grid):
    pytest.importorskip("cartopy", reason="cartopy draws maps")
    from cartopy.mpl.gridliner import Gridliner
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    ds = make_dataset(grid=grid, shape=(2, 6, 8))
    on_map = ds.pr.assign_coords(crs=ds.crs)
    figure = side_by_side({"": on_map}, frames=[0])
    axes = figure.axes[0]
    assert hasattr(axes, "projection")
    (mesh,) = meshes(figure)
    # cells lie on the projection's own axes: 6 by 8 of a kilometre, or of 0.11 degrees
    size = {"metres": 1000.0, "rotated": 0.11}[grid]
    extent = np.ptp(mesh.get_coordinates(), axis=(0, 1))
    np.testing.assert_allclose(extent, [8 * size, 6 * size], rtol=1e-6)
    FigureCanvasAgg(figure).draw()
    (graticule,) = (a for a in axes.get_children() if isinstance(a, Gridliner))
    assert graticule.left_label_artists
    assert graticule.bottom_label_artists


def test_unreadable_grid_mapping_leaves_plain_axes():
    pytest.importorskip("cartopy", reason="cartopy draws maps")
    ds = make_dataset(grid="metres")
    strange = xr.Variable((), 0, {"grid_mapping_name": "of_my_own"})
    axes = side_by_side({"": ds.pr.assign_coords(crs=strange)}, frames=[0]).axes[0]
    assert not hasattr(axes, "projection")


# what is missing, dry, or too much


def test_cells_without_data_are_hatched_and_noted():
    coarse = rain()
    coarse[:, :2] = np.nan
    figure = side_by_side({"full": rain(), "gaps": coarse}, frames=[0])
    assert figure.axes[0].patch.get_hatch() is None
    assert figure.axes[1].patch.get_hatch() == "////"
    assert meshes(figure)[1].get_array().mask.sum() == 16
    assert "hatched: no data" in words(figure)


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("kind", ["rate", "state"])
def test_empty_looking_fields_are_drawn(tmp_path, value, kind):
    field = make(np.full((4, 6, 8), value), kind=kind, grid="metres")
    side_by_side({"a": field}, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_huge_field_is_thinned_with_a_note():
    figure = side_by_side({"": rain((1, 1100, 30))[0]})
    assert meshes(figure)[0].get_array().shape == (366, 10)
    assert "means of 3 x 3 cells are shown" in words(figure)


def test_thinning_averages_what_is_known():
    field = np.array([[1.0, np.nan, 5.0, 7.0], [3.0, np.nan, 5.0, 7.0]])
    made, y, x, n = thinned(field, np.arange(3.0), np.arange(5.0), most=2)
    np.testing.assert_array_equal(made, [[2.0, 6.0]])
    np.testing.assert_array_equal(y, [0, 2])
    np.testing.assert_array_equal(x, [0, 2, 4])
    assert n == 2


def test_fields_of_few_cells_are_left_alone():
    field = np.ones((3, 4))
    assert thinned(field, np.arange(4.0), np.arange(5.0))[0] is field


# writing


def test_picture_is_written_whole(tmp_path):
    side_by_side({"": rain()}, tmp_path / "new" / "fine.png")
    folder = tmp_path / "new"
    assert (folder / "fine.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in folder.iterdir()] == ["fine.png"]


def test_failed_write_leaves_older_picture(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def fail(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "fine.png").write_bytes(b"older")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(PlotError, match=r"fine\.png.*disk full.*Choose a folder"):
        side_by_side({"": rain()}, tmp_path / "fine.png")
    assert [path.name for path in tmp_path.iterdir()] == ["fine.png"]
    assert (tmp_path / "fine.png").read_bytes() == b"older"


def test_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PlotError, match="Choose a folder that you may write to"):
        side_by_side({"": rain()}, tmp_path / "file" / "fine.png")


def test_unknown_format_names_the_known():
    with pytest.raises(DataError, match=r"'\.abc'.*png"):
        side_by_side({"": rain()}, "fine.abc")


def test_figure_shows_itself_in_a_notebook():
    """No magic command and no pyplot are needed."""
    data, size = side_by_side({"": rain()})._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert size["width"] == 800
    # the width of a PNG is at byte 16
    assert int.from_bytes(data[16:20], "big") == 1600


def test_drawing_leaves_pyplot_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    side_by_side({"": rain()})
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


# what is refused


def test_no_panels_is_an_error():
    with pytest.raises(DataError, match="there are no panels"):
        side_by_side({})


def test_realizations_side_by_side_are_an_error():
    with pytest.raises(DataError, match=r"'all'.*4 realizations.*realization=0"):
        side_by_side({"all": refined(rain())})


def test_further_dimensions_are_named():
    field = rain().expand_dims(height=3)
    with pytest.raises(DataError, match=r"'height'.*\[3\].*\.isel\(height=0\)"):
        compare(field, rain())


def test_empty_field_is_an_error():
    with pytest.raises(DataError, match=r"'fine'.*it is empty"):
        compare(rain()[:0], rain())


def test_array_is_an_error():
    with pytest.raises(DataError, match="it is ndarray, not a DataArray"):
        compare(np.ones((3, 4)), rain())


def test_field_without_space_is_an_error():
    with pytest.raises(CFError, match="cannot find the y axis"):
        compare(rain()[:, 0, 0], rain())


def test_single_cell_says_what_is_missing():
    with pytest.raises(GridError, match=r"has one label.*Pass more cells"):
        side_by_side({"": rain((2, 1, 1))})


def test_rain_and_temperature_share_no_scale():
    with pytest.raises(UnitError, match=r"'warm'.*'K'.*'mm h-1'.*Convert"):
        side_by_side({"wet": rain(), "warm": make(kind="state", grid="metres")})


@pytest.mark.parametrize("frames", [[8], [-1], []])
def test_absent_frame_is_an_error(frames):
    with pytest.raises(DataError, match="there are frames 0 to 7"):
        compare(refined(rain()), rain(), frames=frames)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotError, match=r"pip install 'xstsr\[plot\]'"):
        side_by_side({"": rain()})


# the accessor


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compare", ("coarse", "truth")),
        ("animate", ("rain.gif",)),
        ("spectra", ("coarse", "truth")),
        ("rank_histogram", ("truth",)),
        ("spread", ("truth",)),
        ("receipt", ("coarse",)),
    ],
)
def test_accessor_passes_everything_on(monkeypatch, name, arguments):
    """Each method of ``da.stsr.plot`` is the function of its name."""
    options = {
        p.name: object()
        for p in inspect.signature(getattr(PlotAccessor, name)).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    assert options
    seen = {}
    monkeypatch.setattr(plot, name, lambda *a, **k: seen.update(a=a, k=k))
    da = rain()
    getattr(da.stsr.plot, name)(*arguments, **options)
    assert seen["a"][0] is da
    assert seen["a"][1:] == arguments
    assert seen["k"] == options
