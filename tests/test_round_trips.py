"""The water balance of whole Datasets: through files, units, calendars and masks."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis.extra import numpy as hnp

from tests.strategies import (
    AMOUNTS,
    CALENDARS,
    DAY,
    GRIDS,
    HOUR,
    MINUTE,
    RATES,
    make,
    time_edges,
)
from xstsr.cf.read import read_meaning
from xstsr.cf.times import from_micros, to_micros
from xstsr.cf.units import registry
from xstsr.geometry.cells import LABELS

pytestmark = pytest.mark.filterwarnings("ignore::xstsr.errors.AssumptionWarning")
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


@st.composite
def complete_datasets(draw: Callable) -> xr.Dataset:
    """Draw rain or a state with bounds of time, y and x, maybe chunked.

    Cells are equal or not, also single ones; labels are anywhere in a step.
    """
    kind = draw(st.sampled_from(("rate", "amount", "state")))
    shape = tuple(draw(st.integers(1, n)) for n in (4, 3, 3))
    values = draw(hnp.arrays("f8", shape, elements=st.floats(2**-10, 50, width=32)))
    if kind == "state":
        values += 250
    else:
        values = np.where(draw(hnp.arrays(bool, shape)), values, 0)
    if draw(st.booleans()):
        values = np.where(draw(hnp.arrays(bool, shape)), np.nan, values)
    step = draw(st.sampled_from((5 * MINUTE, HOUR, 3 * HOUR, DAY, "month")))
    calendar = draw(st.sampled_from(CALENDARS))
    units = {"rate": RATES, "amount": AMOUNTS, "state": ("K",)}[kind]
    da = make(
        values,
        kind=kind,
        units=draw(st.sampled_from(units)),
        grid=draw(st.sampled_from(GRIDS)),
        step=step,
        calendar=calendar,
        label=draw(st.sampled_from(LABELS)),
        dtype=draw(st.sampled_from(("float32", "float64"))),
    )
    ds = da.transpose(*draw(st.permutations(da.dims))).to_dataset()
    edges = time_edges(shape[0], step, calendar)
    _add(ds, "time", from_micros(edges, calendar, "ns"))
    for dim in da.dims[1:]:
        _add(ds, str(dim), _space_edges(draw, ds[dim].values))
    sizes = st.fixed_dictionaries(dict.fromkeys(da.dims, st.integers(1, 3)))
    chunks = draw(st.none() | sizes)
    return ds if chunks is None else ds.chunk(chunks)


def _space_edges(draw: Callable, labels: np.ndarray) -> np.ndarray:
    """Edges of cells of some decimals, near the labels and in their direction."""
    sign = -1 if labels.size > 1 and labels[1] < labels[0] else 1
    widths = [draw(st.sampled_from((0.05, 0.1, 0.25, 0.4))) for _ in labels]
    widths = widths if draw(st.booleans()) else widths[:1] * labels.size
    return np.round(labels[0] + sign * np.cumsum([0, *widths]), 9)


def _add(ds: xr.Dataset, dim: str, edges: np.ndarray) -> None:
    """Give an axis bounds, and in space labels at their middle."""
    if dim != "time":
        middles = np.round((edges[:-1] + edges[1:]) / 2, 9)
        ds[dim] = (dim, middles, ds[dim].attrs)
    ds[f"{dim}_bnds"] = ((dim, "bnds"), np.stack([edges[:-1], edges[1:]], axis=1))
    ds[dim].attrs["bounds"] = f"{dim}_bnds"


def through_file(ds: xr.Dataset, engine: str) -> xr.Dataset:
    """Write and read a Dataset back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out"
        if engine.startswith("zarr"):
            ds.to_zarr(path, zarr_format=int(engine[4:]), consolidated=False)
            return xr.open_zarr(path, consolidated=False).load()
        ds.to_netcdf(path, engine=engine)
        with xr.open_dataset(path, engine=engine) as back:
            return back.load()


def assert_same_field(back: xr.Dataset, ds: xr.Dataset) -> None:
    """Assert the values to the tolerance of their type, labels and bounds exactly."""
    given_ = ds.pr.load()
    rtol = TOLERANCE[str(given_.dtype)]
    assert back.pr.dims == given_.dims
    assert back.pr.dtype == given_.dtype
    assert back.pr.attrs["units"] == given_.attrs["units"]
    np.testing.assert_allclose(back.pr.values, given_.values, rtol=rtol)
    for dim in given_.dims:
        for name in (dim, f"{dim}_bnds"):
            one, other = back[name].values, ds[name].values
            if dim == "time":
                one, other = to_micros(one, name)[0], to_micros(other, name)[0]
            np.testing.assert_array_equal(one, other, err_msg=name)


factors = st.tuples(st.integers(1, 25), st.integers(1, 6))
methods = st.sampled_from(("linear", "nearest", "rainfarm"))


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf", "zarr2", "zarr3"])
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=15)
@given(ds=complete_datasets(), factor=factors, method=methods)
def test_coarsening_the_file_gives_back_the_input(engine, ds, factor, method):
    if engine == "h5netcdf":
        pytest.importorskip("h5py", reason="h5py is not installed")
    s, t = factor
    is_state = ds.pr.attrs["units"] == "K"
    method = "linear" if is_state else method
    out = ds.stsr.upscale("pr", s, t, method=method)
    fine = through_file(out, engine)
    assert fine.pr.attrs["cell_methods"] == out.pr.attrs["cell_methods"]
    if not is_state:
        assert not np.any(fine.pr.values < 0)
    missing = ds.pr.isnull().transpose("time", ...).values
    missing = missing.repeat(t, 0).repeat(s, 1).repeat(s, 2)
    np.testing.assert_array_equal(np.isnan(fine.pr.transpose("time", ...)), missing)
    back = through_file(fine.stsr.coarsen("pr", s, t), engine)
    assert_same_field(back, ds)


# Through plain DataArrays: edges must be found again from labels

GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(12)[0]))
LATITUDES = {
    "quarter degrees": 50 - 0.25 * np.arange(5),
    "twelfths": 50 - np.arange(5) / 12,
    "rows at the poles": np.linspace(90, -90, 13),
    "global": np.linspace(-82.5, 82.5, 12),
    "Gaussian": GAUSSIAN,
    "unequal": np.array([50.0, 49.0, 40.0, 39.5, 37.0]),
    "hundredths near the pole": 89.995 - 0.01 * np.arange(5),
}


@pytest.mark.parametrize("latitudes", LATITUDES)
@pytest.mark.parametrize("west", [-5.0, 359.0])
@pytest.mark.parametrize("s", [2, 3, 7, 25])
def test_coarsening_the_array_gives_back_the_input(latitudes, west, s):
    lat = LATITUDES[latitudes]
    lon = west + 0.05 * np.arange(4)
    rng = np.random.default_rng(s)
    for kind in ("float64", "float32"):
        da = make(rng.gamma(0.5, 2, (2, lat.size, 4)), dtype=kind).assign_coords(
            lat=("lat", lat.astype(kind), {"units": "degrees_north"}),
            lon=("lon", lon.astype(kind), {"units": "degrees_east"}),
        )
        back = da.stsr.upscale(s, method="rainfarm").stsr.coarsen(s)
        np.testing.assert_allclose(back, da, rtol=TOLERANCE[kind])
        if latitudes not in ("Gaussian", "unequal"):  # else labels are no middles
            rtol = 2e-7 if kind == "float32" else 1e-15
            np.testing.assert_allclose(back.lat, da.lat, rtol=rtol)


@pytest.mark.parametrize(
    "latitudes", ["quarter degrees", "rows at the poles", "global"]
)
def test_decimal_labels_come_back_bit_for_bit(latitudes):
    lat = ("lat", LATITUDES[latitudes], {"units": "degrees_north"})
    lon = ("lon", np.round(359 + 0.05 * np.arange(4), 2), {"units": "degrees_east"})
    da = make(shape=(2, lat[1].size, 4)).assign_coords(lat=lat, lon=lon)
    for s in (2, 3, 7, 11, 25):
        back = da.stsr.upscale(s, method="nearest").stsr.coarsen(s)
        assert back.lat.equals(da.lat)
        assert back.lon.equals(da.lon)


# Quantified


@pytest.mark.parametrize("units", ["kg m-2 s-1", "mm h-1", "m s-1"])
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
@pytest.mark.filterwarnings("ignore")
def test_quantified_rain_stays_quantified(units, lazy):
    pytest.importorskip("pint_xarray")
    plain = make(units=units, dtype="float64")
    da = plain.chunk(time=2) if lazy else plain
    quantified = da.pint.quantify({"lat": None, "lon": None}, unit_registry=registry())
    fine = quantified.stsr.upscale(3, 2, method="linear")
    back = fine.stsr.coarsen(3, 2)
    made = fine.stsr.conserve(quantified)
    unit = registry().Unit(units)
    assert {fine.pint.units, back.pint.units, made.pint.units} == {unit}
    expected = plain.stsr.upscale(3, 2, method="linear")
    np.testing.assert_array_equal(fine.pint.magnitude, expected)
    np.testing.assert_allclose(back.pint.magnitude, plain, rtol=1e-12)
    np.testing.assert_allclose(made.pint.magnitude, expected, rtol=1e-12)
    assert fine.stsr.check(quantified).relative < 1e-12


# What is conserved


@settings(max_examples=15)
@given(
    values=hnp.arrays("f8", (160, 2, 3), elements=st.floats(0, 20, width=16)),
    factor=factors,
)
@example(values=np.zeros((160, 2, 3)), factor=(2, 2))
def test_mode_window_keeps_the_water_of_every_window(values, factor):
    s, t = factor
    da = make(values, dtype="float64")
    options = {"method": "linear", "conserve": "window"}
    fine = da.stsr.upscale(s, t, **options)
    windows = da.stsr.plan(s, t, **options).job.plan.windows
    assert len(windows) > 1
    coarse_water = (da * read_meaning(da).area()).sum(("lat", "lon")).values
    fine_water = (fine * read_meaning(fine).area()).sum(("lat", "lon")).values / t
    for window in windows:
        first, last = window.core_start, window.core_stop
        found = fine_water[first * t : last * t].sum()
        np.testing.assert_allclose(found, coarse_water[first:last].sum(), rtol=1e-10)


def test_mode_none_is_the_bare_method_without_water_where_it_is_dry():
    values = np.zeros((3, 3, 3))
    values[:, 1, 1] = 9.0
    fine = make(values).stsr.upscale(3, 1, method="linear", conserve="none")
    assert float(fine.where(fine > 0).count()) == 3 * 9
    assert float(fine.max()) == 9.0
    assert float(fine.stsr.check(make(values)).largest) > 1


# Partly missing cells, and the receipt


@pytest.mark.parametrize("kind", ["rate", "amount", "state"])
def test_partly_missing_cells_carry_all_their_water(kind):
    rng = np.random.default_rng(0)
    coarse = make(1 + rng.gamma(1, 2, (2, 2, 3)), kind=kind, dtype="float64")
    fine = coarse.stsr.upscale(4, 2, method="linear")
    kept = rng.random(fine.shape) > 0.5
    kept[:2, :4, :4] = False  # a block without any pixel
    made = fine.where(kept).assign_attrs(fine.attrs).stsr.conserve(coarse)
    np.testing.assert_array_equal(made.notnull(), kept)
    back = made.stsr.coarsen(4, 2)
    assert int(back.isnull().sum()) == 1
    found, given_ = back.values.ravel()[1:], coarse.values.ravel()[1:]
    np.testing.assert_allclose(found, given_, rtol=1e-12)
    receipt = made.stsr.check(coarse)
    assert receipt.lost == 1
    assert receipt.relative < 1e-12


@pytest.mark.parametrize(
    ("units", "kind", "depth", "unit"),
    [
        ("mm h-1", "rate", 3.0, "mm"),
        ("kg m-2 s-1", "rate", 3 * 3600.0, "kg m-2"),
        ("m", "amount", 1000.0, "mm"),
        ("kg m-2", "amount", 1.0, "kg m-2"),
    ],
)
def test_receipt_tells_residuals_as_depth_of_water(units, kind, depth, unit):
    """One cell of one step gets a hundredth of a unit too much; steps of 3 hours."""
    da = make(
        np.ones((2, 2, 2)), kind=kind, units=units, step=3 * HOUR, dtype="float64"
    )
    fine = da.stsr.upscale(2, 3, method="nearest")
    fine[:3, :2, :2] += 0.01 if kind == "rate" else 0.01 / 3
    receipt = fine.stsr.check(da)
    water = receipt.dataset.water
    assert water.attrs["units"] == unit
    assert water.dims == ("time", "lat", "lon")
    np.testing.assert_allclose(water[0, 0, 0], 0.01 * depth, rtol=1e-9)
    np.testing.assert_allclose(water.values.ravel()[1:], 0, atol=1e-12 * depth)
    np.testing.assert_allclose(receipt.largest, 0.01)
    np.testing.assert_allclose(receipt.rms, 0.01 / 8**0.5)
    text, card = repr(receipt), receipt._repr_html_()
    for told in (f"{0.01 * depth:.3g} {unit}", "largest residual", "rms residual"):
        assert told in text
        assert told in card


def test_receipt_of_a_state_tells_no_water():
    da = make(kind="state")
    receipt = da.stsr.upscale(2, method="linear").stsr.check(da)
    assert "water" not in receipt.dataset
    assert "kg" not in repr(receipt)
    assert receipt.largest < 1e-4


def test_receipt_of_realizations_has_them_apart():
    da = make(dtype="float64")
    fine = da.stsr.upscale(2, realizations=3, method="rainfarm")
    receipt = fine.stsr.check(da)
    assert receipt.dataset.residual.dims == ("realization", "time", "lat", "lon")
    assert receipt.dataset.water.sizes["realization"] == 3


def test_whole_datasets_are_refined_lazily(no_compute):
    da = make(shape=(9, 3, 5))
    ds = da.to_dataset()
    for dim, edges in (
        ("lat", read_meaning(da).y_edges),
        ("lon", read_meaning(da).x_edges),
    ):
        _add(ds, dim, edges)
    ds = ds.chunk(time=2, lat=1)
    with no_compute():
        fine = ds.stsr.upscale("pr", 3, 2, method="linear")
        coarse = fine.stsr.coarsen("pr", 3, 2)
    assert fine.pr.chunks is not None
    assert coarse.pr.chunks is not None
