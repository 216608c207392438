"""Independent tools agree: iris, xarray, xclim, the IOOS compliance checker.

A tool that is not installed is a skip that says so. pysteps' RainFARM and scipy's
interpolation are compared with ours in test_baselines.
"""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import DAY, HOUR, MINUTE, make, make_dataset
from xstsr.cf.read import bounds_of, read_meaning
from xstsr.cf.units import to_mm, to_mm_per_hour

GRIDS = ["lat_lon", "lat_lon_up", "lon_360", "metres", "rotated"]


def noise(shape, seed=0):
    return np.random.default_rng(seed).gamma(0.5, 2.0, shape)


# iris


def _iris_cube(iris, data, y, x):
    """A cube of (lat, lon) with bounds, from edges."""
    coords = []
    for name, edges in (("latitude", y), ("longitude", x)):
        middles, bounds = (
            (edges[:-1] + edges[1:]) / 2,
            np.stack([edges[:-1], edges[1:]]),
        )
        coords.append(
            iris.coords.DimCoord(middles, name, units="degrees", bounds=bounds.T)
        )
    pairs = [(coord, i) for i, coord in enumerate(coords)]
    return iris.cube.Cube(np.ma.masked_invalid(data), dim_coords_and_dims=pairs)


@pytest.fixture(scope="module")
def iris():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in ("analysis", "coords", "cube"):
            pytest.importorskip(
                f"iris.{module}", reason="scitools-iris is not installed"
            )
        return sys.modules["iris"]


@pytest.mark.parametrize("grid", ["lat_lon", "lat_lon_up", "lon_360"])
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.filterwarnings("ignore")
def test_coarsen_equals_area_weighted_iris(iris, grid, missing):
    values = noise((1, 12, 20))
    if missing:
        values[0, 2:7, 3:9] = np.nan
    da = make(values, grid=grid, dtype="float64")
    ours = da.stsr.coarsen(4)
    fine, coarse = read_meaning(da), read_meaning(ours)
    source = _iris_cube(iris, values[0], fine.y_edges, fine.x_edges)
    target = _iris_cube(iris, ours.values[0], coarse.y_edges, coarse.x_edges)
    theirs = source.regrid(target, iris.analysis.AreaWeighted(mdtol=1)).data
    assert np.ma.count(theirs) == ours.notnull().sum()
    # iris subtracts sines of edges: 1e-16 over the 1e-3 that a cell spans
    np.testing.assert_allclose(theirs.filled(np.nan), ours[0], rtol=1e-11)


@pytest.mark.filterwarnings("ignore")
def test_coarsen_of_a_global_grid_equals_iris(iris):
    """Rows at the poles are half cells; latitude runs downwards."""
    lat = ("lat", np.linspace(90, -90, 37), {"units": "degrees_north"})
    lon = ("lon", np.arange(0, 360, 15.0), {"units": "degrees_east"})
    coarse = make(noise((1, 37, 24)), dtype="float64")
    coarse = coarse.assign_coords(lat=lat, lon=lon)
    fine = coarse.stsr.upscale(3, method="rainfarm")
    edges = read_meaning(fine), read_meaning(coarse)
    source, target = (
        _iris_cube(iris, da.values[0], m.y_edges, m.x_edges)
        for da, m in zip((fine, coarse), edges, strict=True)
    )
    theirs = source.regrid(target, iris.analysis.AreaWeighted()).data
    np.testing.assert_allclose(theirs, coarse[0], rtol=1e-11)


# xarray


@settings(max_examples=25)
@given(
    s=st.sampled_from([1, 2, 3, 5, 7]),
    t=st.integers(1, 6),
    kind=st.sampled_from(["rate", "amount", "state"]),
    grid=st.sampled_from(["metres", "km"]),
    chunks=st.sampled_from([None, 1, 3]),
)
def test_coarsen_equals_xarray_where_cells_are_equal(s, t, kind, grid, chunks):
    da = make(noise((2 * t, 2 * s, 3 * s)), kind=kind, grid=grid, dtype="float64")
    blocks = da.coarsen(time=t).sum() if kind == "amount" else da.coarsen(time=t).mean()
    expected = blocks.coarsen(y=s, x=s).mean()
    ours = da.chunk(x=chunks).stsr.coarsen(s, t) if chunks else da.stsr.coarsen(s, t)
    np.testing.assert_allclose(ours, expected, rtol=1e-13)
    # the corner of a block has its middle where xarray averages the coordinates
    np.testing.assert_allclose(ours.y, expected.y, rtol=1e-14, atol=1e-9)
    np.testing.assert_allclose(ours.x, expected.x, rtol=1e-14, atol=1e-9)


def test_months_are_weighted_by_their_days():
    """xarray's weighted mean, with the days that the calendar says."""
    da = make(noise((12, 2, 2)), calendar="noleap", step="month", dtype="float64")
    days = da.time.dt.days_in_month.astype(float)
    expected = (da * days).coarsen(time=3).sum() / days.coarsen(time=3).sum()
    np.testing.assert_allclose(da.stsr.coarsen(1, 3), expected, rtol=1e-13)


# xclim

XCLIM = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, xarray as xr
from xclim.core.units import amount2rate, convert_units_to

asked = json.load(sys.stdin)
def field(values, units, name, times=None):
    coords = {} if times is None else {"time": np.array(times, "datetime64[ns]")}
    attrs = {"units": units, "standard_name": name}
    return xr.DataArray(values, coords, ("time",), attrs=attrs)
told = {}
for units, name, target in asked["units"]:
    one = convert_units_to(field([1.0], units, name), target, "hydro")
    told[units] = float(one[0])
name = "lwe_thickness_of_precipitation_amount"
da = field(asked["amounts"], "mm", name, asked["times"])
told["rates"] = convert_units_to(amount2rate(da), "mm/h", "hydro").values.tolist()
print(json.dumps(told))
"""
FLUX, RATE = "precipitation_flux", "lwe_precipitation_rate"
THICKNESS = "lwe_thickness_of_precipitation_amount"
UNITS = [
    ("kg m-2 s-1", FLUX, "mm/h"),
    ("kg m-2 d-1", FLUX, "mm/h"),
    ("mm h-1", RATE, "mm/h"),
    ("mm/h", RATE, "mm/h"),
    ("mm d-1", RATE, "mm/h"),
    ("mm day-1", RATE, "mm/h"),
    ("m s-1", RATE, "mm/h"),
    ("m s**-1", RATE, "mm/h"),
    ("m", THICKNESS, "mm"),
    ("cm", THICKNESS, "mm"),
    ("mm", THICKNESS, "mm"),
    ("kg m-2", "precipitation_amount", "mm"),
]


def test_units_equal_those_of_xclim():
    """In a process of its own: xclim replaces pint's application registry."""
    found = subprocess.run(
        [sys.executable, "-c", "import importlib.util as u, sys\n"
         "sys.exit(u.find_spec('xclim') is None)"],
        check=False,
    )  # fmt: skip
    if found.returncode:
        pytest.skip("xclim is not installed")
    monthly = make(noise((6, 2, 2)), kind="amount", step="month", dtype="float64")
    asked = {
        "units": UNITS,
        "amounts": monthly[:, 0, 0].values.tolist(),
        "times": monthly.time.values.astype(str).tolist(),
    }
    done = subprocess.run(
        [sys.executable, "-c", XCLIM],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    for units, _, target in UNITS:
        ours = to_mm(units) if target == "mm" else to_mm_per_hour(units)
        assert ours == pytest.approx(theirs[units], rel=1e-12), units
    rates = monthly[:, 0, 0] * read_meaning(monthly).rate_factor
    np.testing.assert_allclose(rates, theirs["rates"], rtol=1e-12)


# IOOS compliance checker


def _with_bounds(ds: xr.Dataset) -> xr.Dataset:
    """Give the horizontal axes bounds as well."""
    meaning = read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))
    for dim, edges in (
        (meaning.y_dim, meaning.y_edges),
        (meaning.x_dim, meaning.x_edges),
    ):
        ds[f"{dim}_bnds"] = ((dim, "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
        ds[dim].attrs["bounds"] = f"{dim}_bnds"
    return ds


@pytest.mark.parametrize(
    ("grid", "calendar", "step", "kind", "units"),
    [
        ("lat_lon", None, HOUR, "rate", "kg m-2 s-1"),
        ("metres", None, 10 * MINUTE, "amount", "mm"),
        ("rotated", "360_day", DAY, "state", "K"),
        ("lon_360", "noleap", "month", "rate", "mm d-1"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_results_pass_the_compliance_checker(
    tmp_path, grid, calendar, step, kind, units
):
    runner = pytest.importorskip(
        "compliance_checker.runner", reason="compliance-checker is not installed"
    )
    runner.CheckSuite.load_all_available_checkers()
    choices = {"calendar": calendar, "step": step, "kind": kind, "units": units}
    ds = _with_bounds(make_dataset(grid, shape=(4, 4, 6), **choices))
    options = {"method": "linear"} if kind == "state" else {
        "method": "rainfarm", "realizations": 2, "seed": 3}  # fmt: skip
    results = {
        "upscaled": ds.stsr.upscale("pr", 3, 2, **options),
        "coarsened": ds.stsr.coarsen("pr", 2, 2),
    }
    for name, out in results.items():
        path, report = tmp_path / f"{name}.nc", tmp_path / f"{name}.txt"
        out.to_netcdf(path)
        _, failed = runner.ComplianceChecker.run_checker(
            str(path), ["cf:1.11"], 0, "strict", output_filename=str(report)
        )
        text = report.read_text(encoding="utf-8")
        assert not failed, text
        assert "Errors" not in text, text
