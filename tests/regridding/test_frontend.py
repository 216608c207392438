"""Labelled regridding: targets of every kind, labels out, bad input."""

import numpy as np
import pytest
import xarray as xr

import xstsr
from tests.strategies import make, make_dataset
from xstsr.errors import AssumptionWarning, CFError, DataError, GridError
from xstsr.geometry.cells import EARTH_RADIUS_M
from xstsr.geometry.projections import crs_of_mapping, local_crs, read_crs, transform
from xstsr.regridding.frontend import make_weights
from xstsr.regridding.grid import Grid, read_grid
from xstsr.regridding.overlap import (
    cell_areas,
    grid_spacing_km,
    weights_between,
)
from xstsr.regridding.targets import read_spacing, target_grid

NORTH = {"standard_name": "latitude", "units": "degrees_north"}
EAST = {"standard_name": "longitude", "units": "degrees_east"}
POLE = {
    "grid_mapping_name": "rotated_latitude_longitude",
    "grid_north_pole_latitude": 39.25,
    "grid_north_pole_longitude": -162.0,
}


def globe(y, x, values=None, **choices):
    """A Dataset on cells with these edges, with bounds of everything."""
    shape = (2, len(y) - 1, len(x) - 1)
    if values is None:
        values = np.random.default_rng(0).gamma(0.5, 2.0, shape)
    ds = make_dataset(values=values, dtype="float64", **choices)
    for dim, edges, attrs in (("lat", y, NORTH), ("lon", x, EAST)):
        edges = np.asarray(edges, float)
        middles = (edges[:-1] + edges[1:]) / 2
        ds = ds.assign_coords({dim: (dim, middles, attrs | {"bounds": f"{dim}_bnds"})})
        pairs = np.stack([edges[:-1], edges[1:]], axis=1)
        ds[f"{dim}_bnds"] = ((dim, "bnds"), pairs)
    return ds


def region(step=1.0, rows=20, columns=30, south=40.0, west=0.0):
    y = south + step * np.arange(rows + 1)
    return globe(y, west + step * np.arange(columns + 1))


def rotated():
    """Cells of 0.2 degrees on a rotated pole over Europe."""
    ds = make_dataset("rotated", shape=(2, 30, 40), dtype="float64")
    for dim, start in (("rlat", -3.0), ("rlon", -4.0)):
        values = np.round(start + 0.2 * np.arange(ds.sizes[dim]), 9)
        ds = ds.assign_coords({dim: (dim, values, ds[dim].attrs)})
    return ds.drop_vars(["lat", "lon"])


def curvilinear(ds=None):
    """The same cells, known by two-dimensional latitude and longitude alone."""
    ds = rotated() if ds is None else ds
    lat, lon = read_grid(ds, "pr").lat_lon()
    flat = ds.drop_vars(["rlat", "rlon", "crs"]).rename(rlat="j", rlon="i")
    del flat.pr.attrs["grid_mapping"]
    return flat.assign_coords(lat=(("j", "i"), lat, NORTH), lon=(("j", "i"), lon, EAST))


def water(ds, covered=1.0):
    """Value times area, of the first time."""
    return float((ds.pr[0] * ds.cell_area * covered).sum())


def received(ds, target):
    """What the covered parts of a target receive, over what the source holds."""
    source = read_grid(ds, "pr")
    grid, _ = target_grid(target, source, None)
    given = ds.pr.values[0].astype(float)
    kept = weights_between(source, grid).product(given) * cell_areas(grid)
    return kept.sum() / (given * cell_areas(source)).sum()


# rectilinear to rectilinear


def test_nested_grid_gives_what_coarsen_gives():
    ds = globe(np.linspace(60, 30, 13), np.linspace(-10, 14, 25))
    coarse = ds.stsr.coarsen("pr", 3)
    ours = ds.stsr.regrid("pr", coarse)
    np.testing.assert_allclose(ours.pr, coarse.pr, rtol=1e-13)
    np.testing.assert_array_equal(ours.lat, coarse.lat)
    np.testing.assert_allclose(ours.cell_area, coarse.cell_area, rtol=1e-12)


def test_same_grid_gives_the_same_bits():
    da = make(np.random.default_rng(0).random((2, 4, 5)))
    np.testing.assert_array_equal(da.stsr.regrid(da).values, da.values)


def test_planes_in_other_units_are_one_plane():
    fine = make(shape=(2, 8, 8), grid="metres", dtype="float64")
    blocks = fine.coarsen(y=4, x=4).mean()
    km = blocks.assign_coords(
        {d: (d, blocks[d].values / 1000, fine[d].attrs | {"units": "km"}) for d in "yx"}
    )
    found = fine.stsr.regrid(km)
    np.testing.assert_allclose(found, blocks, rtol=1e-13)
    assert found.x.attrs["units"] == "km"


def test_global_water_is_kept_across_the_date_line_and_the_poles():
    ds = globe(np.linspace(90, -90, 37), np.linspace(0, 360, 73))
    target = globe(np.linspace(-90, 90, 24), np.linspace(-180, 180, 50))
    same = ds.stsr.regrid("pr", ds)
    made = ds.stsr.regrid("pr", target)
    assert water(made) == pytest.approx(water(same), rel=1e-13)
    assert made.pr.notnull().all()


def test_half_rows_at_the_poles_are_half_rows():
    """721 rows in small: labels from 90 to -90, so that the outer cells are halves."""
    lat = ("lat", np.linspace(90, -90, 19), NORTH)
    lon = ("lon", np.arange(0.0, 360, 10), EAST)
    da = make(np.random.default_rng(0).random((1, 19, 36)), dtype="float64")
    ds = da.assign_coords(lat=lat, lon=lon).to_dataset()
    made = ds.stsr.regrid("pr", "20 degrees")
    assert made.pr.shape == (1, 9, 18)
    np.testing.assert_array_equal(made.lat, np.arange(80.0, -81, -20))
    assert water(made) == pytest.approx(water(ds.stsr.regrid("pr", ds)), rel=1e-13)


def test_spacing_in_degrees_starts_at_its_multiples():
    da = region(0.7).pr
    made = da.stsr.regrid("1.5 degrees", min_valid=0.0)
    assert float(made.lat[0]) == 39.75
    assert float(made.lon[0]) == 0.75
    part = da.isel(lat=slice(3, None)).stsr.regrid("1.5 degrees")
    assert set(part.lat.values) <= set(made.lat.values)
    assert made.lat.attrs.items() <= da.lat.attrs.items()


def test_spacing_on_a_plane_keeps_plane_names_and_projection():
    ds = make_dataset("metres", shape=(2, 12, 9))
    made = ds.stsr.regrid("pr", "2.5 km")
    assert made.pr.dims == ("time", "y", "x")
    assert np.all(np.diff(made.y) == -2500)  # north first, as before
    assert made.crs.attrs["grid_mapping_name"] == "lambert_azimuthal_equal_area"
    assert "GeoTransform" not in made.crs.attrs
    assert received(ds, "2.5 km") == pytest.approx(1.0, rel=1e-12)


def test_amounts_rates_and_states_are_all_means_over_area():
    values = np.random.default_rng(0).random((2, 4, 6)) + 1
    for kind in ("rate", "amount", "state"):
        da = make(values, kind=kind, dtype="float64")
        made = da.stsr.regrid("0.5 degrees", min_valid=0.0)
        np.testing.assert_allclose(made.mean(), values.mean(), rtol=0.2)
        assert made.attrs["units"] == da.attrs["units"]
        assert made.attrs["cell_methods"] == f"{da.attrs['cell_methods']} area: mean"


# one surface to another


@pytest.mark.parametrize("step", [0.25, 2.8])
def test_local_grid_in_km_keeps_water_and_constants(step):
    ds = region(step, rows=round(15 / step), columns=round(20 / step))
    assert received(ds, "30 km") == pytest.approx(1.0, abs=1e-6)
    constant = ds.assign(pr=ds.pr * 0 + 3.0).stsr.regrid("pr", "30 km")
    known = constant.pr.values[~np.isnan(constant.pr.values)]
    np.testing.assert_allclose(known, 3.0, rtol=1e-14)
    np.testing.assert_allclose(constant.cell_area, 9e8)
    assert constant.pr.dims == ("time", "y", "x")
    assert constant.crs.attrs["grid_mapping_name"] == "lambert_azimuthal_equal_area"
    assert constant.lat.dims == constant.lon.dims == ("y", "x")
    assert abs(float(constant.lat.mean()) - (40 + step * round(15 / step) / 2)) < 1


def test_local_grid_agrees_with_points_drawn_from_its_cells():
    """Ten thousand points of a target cell, each looked up in the source."""
    ds = region(0.5, rows=12, columns=16)
    made = ds.stsr.regrid("pr", "70 km")
    crs = read_crs(made.crs.attrs["crs_wkt"])
    rng = np.random.default_rng(0)
    row, column = 4, 5
    x = float(made.x[column]) + rng.uniform(-35e3, 35e3, 10_000)
    y = float(made.y[row]) + rng.uniform(-35e3, 35e3, 10_000)
    lon, lat = transform(x, y, crs, None)
    points = xr.Dataset({"lat": ("p", lat), "lon": ("p", lon)})
    drawn = ds.pr[0].sel(lat=points.lat, lon=points.lon, method="nearest")
    error = float(drawn.std()) / 100
    assert float(made.pr[0, row, column]) == pytest.approx(
        float(drawn.mean()), abs=4 * error
    )


def test_projection_by_code_has_its_own_spacing_and_labels():
    ds = region(0.5)
    made = ds.stsr.regrid("pr", "EPSG:3035", spacing="50 km")
    assert np.all(made.x % 50_000 == 25_000)
    assert made.crs.attrs["grid_mapping_name"] == "lambert_azimuthal_equal_area"
    lon, lat = transform(*np.meshgrid(made.x, made.y), read_crs("EPSG:3035"), None)
    np.testing.assert_allclose(made.lat, lat)
    np.testing.assert_allclose(made.lon, lon)
    own = ds.pr.stsr.regrid("EPSG:3035")
    assert np.diff(own.x)[0] == pytest.approx(47_000)  # in two digits
    assert "EPSG:3035, 47 km" in own.attrs["history"]


def test_projection_shows_its_area_of_use_of_a_global_field():
    ds = globe(np.linspace(90, -90, 37), np.linspace(0, 360, 73))
    made = ds.pr.stsr.regrid("EPSG:3035", spacing="500 km")
    assert 40 < made.lat.mean() < 60
    assert made.sizes["x"] * 500 < 10_000
    assert made.notnull().all()


def test_geographic_code_is_a_grid_in_degrees():
    made = region().pr.stsr.regrid("EPSG:4326", spacing="2 degrees")
    np.testing.assert_array_equal(made.lat, np.arange(41.0, 60, 2))
    assert made.dims == ("time", "lat", "lon")
    projected = make_dataset("metres", shape=(2, 40, 40))
    back = projected.stsr.regrid("pr", "0.1 degrees")
    assert back.pr.dims == ("time", "lat", "lon")
    assert back.lat.attrs["standard_name"] == "latitude"
    assert received(projected, "0.1 degrees") == pytest.approx(1.0, rel=5e-3)


def test_projection_in_feet_is_measured_in_feet():
    """EPSG:2225 is in US survey feet, of 1200/3937 m."""
    ds = region(0.25, rows=12, columns=12, south=39.0, west=-123.0)
    made = ds.stsr.regrid("pr", "EPSG:2225", spacing="30 km")
    np.testing.assert_allclose(np.diff(made.x), 30_000 * 3937 / 1200)
    np.testing.assert_allclose(made.cell_area, 9e8, rtol=1e-9)
    lon, lat = transform(
        *(a * 1200 / 3937 for a in np.meshgrid(made.x, made.y)),
        read_crs("EPSG:2225"),
        None,
    )
    np.testing.assert_allclose(made.lat, lat)
    assert 39 < float(made.lat.mean()) < 42
    np.testing.assert_allclose(made.lon, lon)


def test_rotated_pole_is_placed_by_its_grid_mapping():
    """The rotated origin is the point opposite to the pole: 18 E, 50.75 N."""
    lat, lon = read_grid(rotated(), "pr").lat_lon()
    at = 15, 20  # rlat 0, rlon 0
    assert (lat[at], lon[at]) == pytest.approx((50.75, 18.0))
    ds = rotated()
    made = ds.stsr.regrid("pr", "0.25 degrees")
    assert received(ds, "0.25 degrees") == pytest.approx(1.0, abs=1e-6)
    # and back onto it
    back = made.stsr.regrid("pr", ds)
    assert back.pr.dims == ("time", "rlat", "rlon")
    assert back.pr.attrs["grid_mapping"] == "crs"
    assert back.crs.attrs["grid_mapping_name"] == POLE["grid_mapping_name"]
    inner = slice(3, -3)
    np.testing.assert_allclose(
        back.pr[:, inner, inner], ds.pr[:, inner, inner], rtol=0.05, atol=0.02
    )


@pytest.mark.parametrize("target", ["0.25 degrees", "25 km"])
def test_curvilinear_grid_agrees_with_the_surface_it_came_from(target):
    ds, flat = rotated(), curvilinear()
    expected = ds.stsr.regrid("pr", target)
    found = flat.stsr.regrid("pr", expected)
    np.testing.assert_allclose(found.pr, expected.pr, rtol=1e-4, atol=1e-4)
    assert received(flat, target) == pytest.approx(1.0, abs=1e-6)


def test_curvilinear_target_receives_means_and_bounds():
    ds, flat = region(0.25, 60, 120), curvilinear()
    made = ds.stsr.regrid("pr", flat)
    assert made.pr.dims == ("time", "j", "i")
    expected = ds.stsr.regrid("pr", rotated())
    np.testing.assert_allclose(made.pr, expected.pr, rtol=1e-3)
    assert made.lat.attrs["bounds"] == "lat_bnds"
    assert made.lat_bnds.shape == (*flat.lat.shape, 4)
    np.testing.assert_allclose(made.cell_area, expected.cell_area, rtol=1e-3)


def test_corners_are_read_from_bounds_in_any_order_of_dimensions():
    flat = curvilinear()
    grid = read_grid(flat)
    lat, lon = grid.corners
    flat["lat_v"], flat["lon_v"] = (("j", "i", "nv"), lat), (("j", "i", "nv"), lon)
    flat.lat.attrs["bounds"], flat.lon.attrs["bounds"] = "lat_v", "lon_v"
    expected = flat.stsr.regrid("pr", "0.5 degrees")
    turned = flat.transpose("time", "i", "j", ...)
    turned["lon"] = turned.lon.transpose("j", "i")
    found = turned.stsr.regrid("pr", expected)
    np.testing.assert_allclose(found.pr, expected.pr, rtol=1e-12)


def test_pole_inside_projected_cells_is_covered():
    cap = globe(np.linspace(90, 70, 11), np.linspace(0, 360, 37))
    flat = cap.stsr.regrid("pr", "100 km")
    pole = flat.pr[0].where(flat.lat > 85)
    assert pole.notnull().sum() == (flat.lat > 85).sum()
    assert received(cap, "100 km") == pytest.approx(1.0, abs=1e-5)
    # and from the plane, where one cell or a corner holds the pole, to the globe
    around = flat.stsr.regrid("pr", "2 degrees")
    assert around.lon.size == 180
    top = around.pr[0].sel(lat=89)
    assert top.notnull().all()
    ones = flat.assign(pr=flat.pr.fillna(0) * 0 + 2).stsr.regrid("pr", around)
    np.testing.assert_allclose(ones.pr.sel(lat=slice(90, 80)), 2.0, rtol=1e-13)


def test_region_across_the_date_line_is_one_region():
    ds = region(0.5, rows=20, columns=40, west=170.0)
    assert received(ds, "50 km") == pytest.approx(1.0, abs=1e-6)
    plane = ds.stsr.regrid("pr", "50 km")
    back = plane.stsr.regrid("pr", "1 degrees")
    assert back.lon.size < 40
    assert back.pr.notnull().sum() > 0.8 * 2 * 10 * 20


def test_far_cells_do_not_fold_onto_a_plane():
    """The antipode of a plane's middle is everywhere on it, if it is let in."""
    ds = globe(np.linspace(-90, 90, 37), np.linspace(0, 360, 73))
    ds["pr"] = ds.pr * 0 + (ds.lat > 0) * 1.0
    here = ds.sel(lat=slice(40, 60), lon=slice(0, 30)).stsr.regrid("pr", "100 km")
    made = ds.stsr.regrid("pr", here)
    np.testing.assert_allclose(made.pr, 1.0, rtol=1e-12)


# labels and laziness


def test_dataset_comes_out_complete():
    ds = region()
    made = ds.stsr.regrid("pr", "2.5 degrees")
    assert {"lat_bnds", "lon_bnds", "time_bnds", "cell_area"} <= set(made.variables)
    for dim in ("time", "lat", "lon"):
        bounds = made[made[dim].attrs["bounds"]].values
        np.testing.assert_array_equal(bounds[1:, 0], bounds[:-1, 1])
    assert made.pr.attrs["cell_measures"] == "area: cell_area"
    assert "regrid(target=2.5 degrees, min_valid=0.5)" in made.attrs["history"]
    assert made.attrs["title"] == ds.attrs["title"]
    assert made.attrs["Conventions"] == "CF-1.11, ACDD-1.3"


def test_grid_mapping_of_latitudes_and_longitudes_stays():
    ds = region()
    ds["wgs84"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    ds["pr"].attrs["grid_mapping"] = "wgs84"
    made = ds.stsr.regrid("pr", "2 degrees")
    assert made.pr.attrs["grid_mapping"] == "wgs84"
    assert made.wgs84.attrs == ds.wgs84.attrs


def test_array_comes_out_without_dangling_names():
    da = region().pr.assign_attrs(
        cell_measures="area: areacella", grid_mapping="crs", valid_range=[0, 1]
    )
    made = da.stsr.regrid("2 degrees")
    assert set(made.attrs) == {
        "standard_name",
        "units",
        "cell_methods",
        "history",
    }
    assert all("bounds" not in c.attrs for c in made.coords.values())
    local = da.stsr.regrid("100 km")
    assert local.encoding["grid_mapping"] == "crs"
    assert set(local.coords) == {"time", "y", "x", "lat", "lon", "crs"}


def test_labels_in_time_keep_their_side():
    coarse = make(shape=(4, 4, 6), label="right")
    told = coarse.assign_coords(
        time=("time", coarse.time.values, {"xstsr_label": "right"})
    )
    made = told.stsr.regrid("0.5 degrees")
    assert made.time.attrs["xstsr_label"] == "right"


def test_extra_dimensions_and_their_coordinates_stay():
    da = (
        region().pr.expand_dims(realization=[3, 4]).transpose("lat", "realization", ...)
    )
    da = da.assign_coords(height=2.0, station=("lat", np.arange(20)))
    made = da.stsr.regrid("2 degrees")
    assert made.dims == ("lat", "realization", "time", "lon")
    assert float(made.height) == 2.0
    assert "station" not in made.coords
    np.testing.assert_array_equal(made.realization, [3, 4])
    one = da.isel(realization=0, drop=True).stsr.regrid("2 degrees")
    np.testing.assert_array_equal(made.isel(realization=0, drop=True), one)


def test_field_without_time_is_regridded():
    orography = region().pr[0].drop_vars("time").rename("orog")
    orography.attrs = {"standard_name": "surface_altitude", "units": "m"}
    made = orography.stsr.regrid("2 degrees")
    assert made.dims == ("lat", "lon")
    assert made.attrs["cell_methods"] == "area: mean"


def test_cell_methods_over_area_are_kept_and_written_once():
    da = region().pr.assign_attrs(cell_methods="area: time: mean")
    assert da.stsr.regrid("2 degrees").attrs["cell_methods"] == "area: time: mean"
    peak = region().pr.assign_attrs(cell_methods="time: maximum")
    made = peak.stsr.regrid("2 degrees")
    assert made.attrs["cell_methods"] == "time: maximum area: mean"


@pytest.mark.parametrize("target", ["2 degrees", "150 km"])
def test_chunked_input_stays_lazy(target, no_compute):
    da = region().pr
    chunked = da.chunk(time=1, lat=7, lon=11)
    with no_compute():
        lazy = chunked.stsr.regrid(target)
    assert lazy.chunks[0] == (1, 1)
    np.testing.assert_array_equal(lazy.compute(), da.stsr.regrid(target))
    ds = region().chunk(time=1)
    with no_compute():
        assert ds.stsr.regrid("pr", target).pr.chunks is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantified_input_comes_back_quantified():
    pytest.importorskip("pint_xarray")
    da = region().pr
    from xstsr.cf.units import registry

    quantified = da.pint.quantify({"lat": None, "lon": None}, unit_registry=registry())
    made = quantified.stsr.regrid("2 degrees")
    assert f"{made.data.units:cf}" == "mm h-1"
    np.testing.assert_array_equal(
        made.pint.dequantify().values, da.stsr.regrid("2 degrees").values
    )


def test_missing_cells_are_missing_above_the_threshold():
    ds = region()
    ds["pr"] = ds.pr.where(ds.lon > 5)
    half = ds.stsr.regrid("pr", "2 degrees").pr  # lon 4..6 is half known
    assert half.sel(lon=5).notnull().all()
    assert half.sel(lon=3).isnull().all()
    strict = ds.stsr.regrid("pr", "2 degrees", min_valid=0.6).pr
    assert strict.sel(lon=5).isnull().all()


def test_functions_and_accessors_agree():
    ds = region()
    np.testing.assert_array_equal(
        xstsr.regrid(ds.pr, "2 degrees"), ds.stsr.regrid("pr", "2 degrees").pr
    )


# bad input


@pytest.mark.parametrize("min_valid", [-0.1, 1.5, float("nan")])
def test_threshold_outside_0_to_1_is_refused(min_valid):
    with pytest.raises(GridError, match=rf"min_valid={min_valid!r}: it is the part"):
        region().pr.stsr.regrid("1 degrees", min_valid=min_valid)


@pytest.mark.parametrize("target", [10, None, 0.25])
def test_target_of_another_kind_is_refused(target):
    with pytest.raises(GridError, match=rf"cannot regrid to {target}: a target is"):
        region().pr.stsr.regrid(target)


@pytest.mark.parametrize("text", ["10 parsnips", "0 km", "1.2.3 km", "5 K", "nan km"])
def test_spacing_that_is_none_is_refused(text):
    with pytest.raises(GridError, match=r"cannot read the (spacing|projection)"):
        region().pr.stsr.regrid(text)
    with pytest.raises(GridError, match=f"cannot read the spacing {text!r}"):
        read_spacing(text)
    with pytest.raises(GridError, match="cannot read the spacing 5"):
        region().pr.stsr.regrid("EPSG:3035", spacing=5)


@pytest.mark.parametrize("text", ["EPSG:999999", "+proj=marble", "mars"])
def test_unknown_projection_is_refused(text):
    with pytest.raises(
        GridError, match=rf"cannot read the projection '{text.replace('+', '.')}'"
    ):
        region().pr.stsr.regrid(text)


def test_rotated_pole_as_a_projection_is_refused():
    crs = crs_of_mapping(POLE)
    with pytest.raises(GridError, match="cannot lay a grid on the rotated pole"):
        region().pr.stsr.regrid(crs, spacing="1 degrees")


def test_cells_that_overlap_or_are_empty_are_refused():
    ds = globe(np.linspace(-90, 90, 19), np.linspace(0, 370, 38))
    with pytest.raises(GridError, match="its cells span 370 degrees, so some overlap"):
        ds.stsr.regrid("pr", "5 degrees")
    empty = region()
    empty["lat_bnds"][3, 1] = empty.lat_bnds[3, 0]
    with pytest.raises(GridError, match="bounds of 'lat': they are stale at index 3"):
        region().stsr.regrid("pr", empty)


def test_spacing_of_another_kind_is_refused():
    with pytest.raises(GridError, match=r"its coordinates are lengths. Pass .*10 km"):
        region().pr.stsr.regrid("EPSG:3035", spacing="1 degrees")
    with pytest.raises(GridError, match=r"its coordinates are angles. Pass .*0.25 deg"):
        region().pr.stsr.regrid("EPSG:4326", spacing="10 km")


def test_second_spacing_is_refused():
    with pytest.raises(GridError, match="spacing='5 km' with the target '10 km'"):
        region().pr.stsr.regrid("10 km", spacing="5 km")
    with pytest.raises(GridError, match="with the target Dataset, which has its own"):
        region().pr.stsr.regrid(region(), spacing="5 km")


def test_globe_on_one_plane_is_refused():
    ds = globe(np.linspace(-90, 90, 19), np.linspace(0, 360, 37))
    with pytest.raises(GridError, match=r'180 degrees from its middle.*"0.9 degrees"'):
        ds.pr.stsr.regrid("100 km")
    with pytest.raises(GridError, match=r"on 'unknown': it is made for another region"):
        ds.pr.stsr.regrid("+proj=laea +lat_0=50 +lon_0=10", spacing="100 km")


def test_projection_of_another_region_is_refused():
    south = region(south=-60.0)
    with pytest.raises(GridError, match=r"cannot show the source \(latitudes -59.5"):
        south.pr.stsr.regrid("EPSG:3035", spacing="50 km")


def test_uneven_division_of_the_globe_is_refused():
    ds = globe(np.linspace(-90, 90, 19), np.linspace(0, 360, 37))
    with pytest.raises(GridError, match=r'cells of 7 degrees.*Use "7.05882 degrees"'):
        ds.pr.stsr.regrid("7 degrees")


def test_too_many_cells_are_refused():
    with pytest.raises(GridError, match=r"to 2000000 x 3000000 cells: that is more"):
        region().pr.stsr.regrid("0.00001 degrees")


def test_regions_apart_are_refused():
    with pytest.raises(GridError, match=r"no area in common\. Along y"):
        region().pr.stsr.regrid(region(south=0.0))
    local = region(south=0.0).pr.stsr.regrid("100 km")
    with pytest.raises(GridError, match=r"The source is at 40\.5 to 59\.5 N, 0\.5 to"):
        region().pr.stsr.regrid(local)


def test_curvilinear_source_and_far_target_are_refused():
    with pytest.raises(GridError, match="source and target have no area in common"):
        curvilinear().stsr.regrid("pr", region(south=-60.0, west=170.0))


def test_weights_that_cannot_be_read_are_refused(tmp_path):
    links = make_weights(region(), "2 degrees")
    (tmp_path / "w.nc").write_text("gridtype = lonlat")
    for weights in (5, tmp_path / "w.nc", tmp_path / "none.nc"):
        with pytest.raises(GridError, match=r"cannot read weights=.*make_weights"):
            region().stsr.regrid("pr", "2 degrees", weights=weights)
    with pytest.raises(GridError, match="weights: they have no links"):
        region().stsr.regrid("pr", "2 degrees", weights=links.isel(n_s=slice(0)))


def test_plane_without_projection_cannot_leave_it():
    da = make(grid="metres", shape=(2, 6, 6))
    with pytest.raises(GridError, match=r"cannot place the source grid along \('y'"):
        da.stsr.regrid("0.1 degrees")
    with pytest.raises(GridError, match="cannot place the target grid"):
        region().pr.stsr.regrid(da)
    assert da.stsr.regrid("2 km").dims == ("time", "y", "x")


def test_plane_without_projection_is_taken_for_that_of_the_target():
    ds = make_dataset("metres", shape=(2, 6, 6))
    with pytest.warns(AssumptionWarning, match="the source grid has no grid mapping"):
        made = ds.pr.drop_vars("crs", errors="ignore").stsr.regrid(ds)
    np.testing.assert_array_equal(made, ds.pr)


def test_plane_without_projection_is_placed_by_latitudes_and_longitudes():
    ds = make_dataset("metres", shape=(2, 12, 12), dtype="float64")
    lat, lon = read_grid(ds, "pr").lat_lon()
    bare = ds.pr.assign_coords(
        lat=(("y", "x"), lat, NORTH), lon=(("y", "x"), lon, EAST)
    )
    expected = ds.stsr.regrid("pr", "0.05 degrees")
    found = bare.stsr.regrid(expected)
    np.testing.assert_allclose(found, expected.pr, rtol=5e-3)


def test_grid_mapping_that_makes_no_sense_is_refused():
    ds = make_dataset("metres")
    ds.crs.attrs = {"grid_mapping_name": "marble"}
    with pytest.raises(GridError, match="cannot read the grid mapping 'marble'"):
        ds.stsr.regrid("pr", "2 km")
    ds.crs.attrs = {"crs_wkt": "PROJCRS[nothing]"}
    with pytest.raises(GridError, match="cannot read the grid mapping 'crs_wkt'"):
        ds.stsr.regrid("pr", "2 km")


def test_bounds_of_another_shape_are_refused():
    flat = curvilinear()
    flat["lat_v"] = (("j", "i", "nv"), np.zeros((30, 40, 3)))
    flat["lon_v"] = flat["lat_v"]
    flat.lat.attrs["bounds"], flat.lon.attrs["bounds"] = "lat_v", "lon_v"
    with pytest.raises(
        GridError, match=r"bounds of 'lat': their shape is \(30, 40, 3\)"
    ):
        flat.stsr.regrid("pr", "1 degrees")


def test_two_curvilinear_grids_need_xesmf(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "esmpy", None)
    with pytest.raises(GridError, match="conda install -c conda-forge xesmf esmpy"):
        curvilinear().stsr.regrid("pr", curvilinear())


def test_dimension_named_as_one_of_the_target_is_refused():
    da = region().pr.expand_dims(x=[1, 2])
    with pytest.raises(
        GridError, match=r"its dimensions \['x'\] are named as.*da.rename"
    ):
        da.stsr.regrid("100 km")


def test_unknown_variable_is_refused():
    with pytest.raises(CFError, match="cannot find the variable 'tas'"):
        region().stsr.regrid("tas", "1 degrees")


def test_grid_without_axes_is_refused():
    nothing = xr.DataArray(np.zeros((2, 3)), dims=("a", "b"))
    with pytest.raises(CFError, match="cannot find the y axis"):
        nothing.stsr.regrid("1 degrees")
    with pytest.raises(CFError, match="cannot find the y axis"):
        region().pr.stsr.regrid(nothing)


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"flag_values": [0, 1]}, "cannot average 'pr': flag_values say"),
        ({"standard_name": "wind_from_direction"}, "is a direction"),
        ({"cell_methods": "area: sum"}, "cell_methods say 'sum' over area"),
    ],
)
def test_quantity_without_a_mean_over_area_is_refused(attrs, text):
    with pytest.raises(CFError, match=text):
        region().pr.assign_attrs(attrs).stsr.regrid("1 degrees")


def test_whole_numbers_are_refused():
    with pytest.raises(DataError, match="its dtype is int64"):
        region().pr.astype(int).stsr.regrid("1 degrees")


# pieces


def test_spacing_is_that_of_a_median_cell():
    assert grid_spacing_km(read_grid(make_dataset("metres"), "pr")) == 1.0
    by_corners = grid_spacing_km(read_grid(curvilinear()))
    assert by_corners == pytest.approx(0.2 * 111.2, rel=1e-3)


def test_areas_of_a_curvilinear_globe_add_up():
    """Cells of 5 degrees, with great circles for parallels, still tile the sphere."""
    lat, lon = np.meshgrid(
        np.arange(-87.5, 90, 5), np.arange(2.5, 360, 5), indexing="ij"
    )
    low, high = np.array([-2.5, -2.5, 2.5, 2.5]), np.array([-2.5, 2.5, 2.5, -2.5])
    grid = Grid("j", "i", {}, corners=(lat[..., None] + low, lon[..., None] + high))
    assert cell_areas(grid).sum() == pytest.approx(
        4 * np.pi * EARTH_RADIUS_M**2, rel=1e-6
    )


def test_local_projection_keeps_areas():
    crs = local_crs(47.0, 8.0)
    lon, lat = np.array([8.0, 9.0, 8.0]), np.array([47.0, 47.0, 48.0])
    x, y = transform(lon, lat, None, crs)
    assert (x[0], y[0]) == pytest.approx((0, 0), abs=1e-6)
    assert y[2] == pytest.approx(EARTH_RADIUS_M * np.deg2rad(1), rel=1e-4)
    assert np.isnan(transform(np.array([8.0]), np.array([95.0]), None, crs)).all()


def test_weights_of_links_hold_all_that_other_tools_ask_for():
    links = make_weights(region(), "2 degrees")
    assert links.sizes == {
        "n_s": links.sizes["n_s"],
        "n_a": 600,
        "n_b": 150,
        "src_grid_rank": 2,
        "dst_grid_rank": 2,
    }
    np.testing.assert_array_equal(links.src_grid_dims, [30, 20])
    np.testing.assert_allclose(
        links.S.groupby(links.row).sum(), links.frac_b, rtol=1e-12
    )
    assert links.row.min() == links.col.min() == 1
