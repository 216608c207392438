"""The water balance of labelled fields: coarsen, conserve, check, in numbers."""

import json
from itertools import pairwise

import cftime
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xstsr
from tests.strategies import HOUR, cf_dataarrays, factors, make, make_dataset
from xstsr.errors import FactorError, GridError, XstsrError
from xstsr.geometry.cells import EARTH_RADIUS_M

AMOUNT = {
    "units": "mm",
    "cell_methods": "time: sum",
    "standard_name": "lwe_thickness_of_precipitation_amount",
}


def two_zones(values, **options):
    """Cells of 30 degrees: rows 60-30 and 30-0 north, columns from 0 east.

    A row's area is R^2 (sin 60 - sin 30) pi / 6 or R^2 (sin 30 - sin 0) pi / 6: as
    (sqrt(3) - 1) / 2 = 0.3660 to 0.5. Of both, the northern has the share 0.42265.
    """
    da = make(np.asarray(values, float), dtype="float64", **options)
    lat = 45.0 - 30.0 * np.arange(da.sizes["lat"])
    lon = 15.0 + 30.0 * np.arange(da.sizes["lon"])
    return da.assign_coords(
        lat=("lat", lat, da.lat.attrs), lon=("lon", lon, da.lon.attrs)
    )


NORTH = (np.sqrt(3) - 1) / np.sqrt(3)  # 0.42265 of the area of both rows
AREAS = EARTH_RADIUS_M**2 * np.pi / 6 * np.array([(np.sqrt(3) - 1) / 2, 0.5])


def disturbed(fine, seed=0):
    """The same grid with other water."""
    rng = np.random.default_rng(seed)
    factors = rng.gamma(1.0, 1.0, fine.shape).astype(fine.dtype)
    return fine.copy(data=fine.values * factors)


# coarsen: closed form


def test_coarsen_weighs_rows_by_their_area():
    # 4 mm h-1 in the north, 1 in the south: 1 + 3 * 0.42265
    da = two_zones([[[4, 4], [1, 1]]] * 2)
    coarse = da.stsr.coarsen(2)
    assert coarse.shape == (2, 1, 1)
    np.testing.assert_allclose(coarse, 1 + 3 * NORTH, rtol=1e-14)
    assert coarse.lat.item() == 30.0
    assert coarse.lon.item() == 30.0


def test_coarsen_in_a_plane_is_the_plain_mean():
    da = make(np.arange(16.0).reshape(1, 4, 4), grid="metres")
    coarse = da.stsr.coarsen(2)
    np.testing.assert_allclose(coarse[0], [[2.5, 4.5], [10.5, 12.5]])


@pytest.mark.parametrize(
    ("calendar", "expected"),
    # 1 mm h-1 in January, 4 in February: 1 + 3 * 28 / 59, and a half of each
    [(None, 1 + 3 * 28 / 59), ("noleap", 1 + 3 * 28 / 59), ("360_day", 2.5)],
)
def test_coarsen_of_monthly_rates_weighs_by_days(calendar, expected):
    values = np.array([1.0, 4.0, 1.0, 1.0])[:, None, None] * np.ones((1, 2, 2))
    da = make(values, step="month", calendar=calendar, dtype="float64", label="left")
    coarse = da.stsr.coarsen(1, 2)
    np.testing.assert_allclose(coarse[0], expected, rtol=1e-14)
    np.testing.assert_allclose(coarse[1], 1.0, rtol=1e-14)


def test_coarsen_of_monthly_amounts_sums_without_weights():
    values = np.array([100.0, 40.0, 10.0, 20.0])[:, None, None] * np.ones((1, 2, 2))
    da = make(values, kind="amount", step="month", dtype="float64", label="left")
    coarse = da.stsr.coarsen(1, 2)
    np.testing.assert_allclose(coarse[:, 0, 0], [140.0, 30.0], rtol=1e-14)
    assert coarse.attrs["cell_methods"] == "time: sum area: mean"
    months = coarse.time.values.astype("datetime64[M]").astype(str).tolist()
    assert months == ["2001-01", "2001-03"]


def test_coarsen_of_amounts_averages_in_space_and_sums_in_time():
    da = two_zones([[[4, 4], [1, 1]]] * 2, kind="amount", units="mm")
    coarse = da.stsr.coarsen(2, 2)
    np.testing.assert_allclose(coarse, 2 * (1 + 3 * NORTH), rtol=1e-14)


def test_coarsen_leaves_missing_pixels_out():
    # the north's western pixel is missing: areas a, b, b with a = 0.366, b = 0.5
    a, b = AREAS / AREAS.sum()
    da = two_zones([[[np.nan, 4], [1, 1]], [[np.nan, np.nan], [np.nan, np.nan]]])
    coarse = da.stsr.coarsen(2)
    assert coarse[0].item() == pytest.approx((4 * a + 2 * b) / (a + 2 * b), rel=1e-14)
    assert np.isnan(coarse[1].item())


def test_coarsen_of_states_is_a_mean_in_time_too():
    da = two_zones([[[280, 280]], [[284, 286]]], kind="state")
    da = xr.concat([da, da.assign_coords(lat=da.lat - 30)], "lat")
    np.testing.assert_allclose(da.stsr.coarsen(2, 2).values.ravel(), [282.5])


@pytest.mark.parametrize("label", ["left", "mid", "right"])
def test_coarsen_keeps_what_labels_stand_for(label):
    da = make(shape=(6, 2, 2), label=label, grid="metres")
    coarse = da.stsr.coarsen(1, 3, label=label)
    start = np.datetime64("2001-01-01T00:00")
    shift = {"left": 0, "mid": 90, "right": 180}[label]
    expected = start + np.timedelta64(1, "m") * (shift + 180 * np.arange(2))
    np.testing.assert_array_equal(coarse.time.values, expected)


def test_coarsen_keeps_further_dimensions_and_realizations():
    da = make(np.random.default_rng(0).gamma(0.5, 2.0, (4, 2, 2)), dtype="float64")
    both = xr.concat([da, 3 * da], xr.Variable("realization", [0, 1]))
    both.attrs = da.attrs
    coarse = both.transpose("lat", "realization", "time", "lon").stsr.coarsen(2, 2)
    assert coarse.dims == ("lat", "realization", "time", "lon")
    assert coarse.realization.values.tolist() == [0, 1]
    alone = da.stsr.coarsen(2, 2)
    np.testing.assert_allclose(
        coarse.isel(realization=0).values.ravel(), alone.values.ravel()
    )
    np.testing.assert_allclose(
        coarse.isel(realization=1).values.ravel(), 3 * alone.values.ravel()
    )


def test_coarsen_dataset_uses_unequal_bounds():
    # steps of 1 and 3 hours: only bounds tell. 4 and 0 mm h-1 make 1 mm h-1
    ds = make_dataset("metres", values=np.full((2, 2, 2), 4.0), dtype="float64")
    ds["pr"][1] = 0.0
    edges = ds.time_bnds.values[0, 0] + np.timedelta64(1, "h") * np.array([0, 1, 4])
    ds["time_bnds"] = ("time", "bnds"), np.stack([edges[:-1], edges[1:]], axis=1)
    ds = ds.assign_coords(time=("time", edges[:-1], ds.time.attrs))
    coarse = ds.stsr.coarsen("pr", 1, 2)
    np.testing.assert_allclose(coarse.pr, 1.0, rtol=1e-14)
    np.testing.assert_array_equal(coarse.time_bnds.values, edges[[[0, 2]]])


def test_coarsen_dataset_tells_the_area_of_each_cell():
    ds = two_zones([[[4, 4], [1, 1]]] * 2).to_dataset()
    coarse = ds.stsr.coarsen("pr", 2)
    assert coarse.cell_area.item() == pytest.approx(2 * AREAS.sum(), rel=1e-12)
    assert coarse.pr.attrs["cell_measures"] == "area: cell_area"
    np.testing.assert_allclose(coarse.lat_bnds.values, [[60.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(coarse.lon_bnds.values, [[0.0, 60.0]], atol=1e-12)


def test_coarsen_writes_its_history():
    coarse = make(shape=(4, 2, 4)).stsr.coarsen(2, 2)
    assert coarse.attrs["history"].endswith(": coarsen(s=2, t=2)")
    assert coarse.attrs["xstsr_s"] == coarse.attrs["xstsr_t"] == 2


# conserve


def test_conserve_scales_by_weight_of_area():
    # Rows 90-60, 60-30, 30-0 and 0-30 south, as 0.1340, 0.3660, 0.5 and 0.5 by area.
    # Where every second row is dry, 1 mm h-1 of the pair falls on the other alone:
    # 0.5 / 0.3660 = 1.3660 and 1 / 0.5 = 2.
    fine = two_zones(np.ones((2, 4, 4)))
    fine = fine.assign_coords(lat=fine.lat + 30)
    coarse = fine.stsr.coarsen(2)
    raw = fine.copy(data=np.zeros(fine.shape))
    raw[:, 1::2] = 17.0
    made = raw.stsr.conserve(coarse)
    rows = [0, (np.sqrt(3) + 1) / 2, 0, 2]
    np.testing.assert_allclose(made[0, :, 0], rows, rtol=1e-12)


def test_conserve_shifts_states_by_their_residual():
    coarse = make(np.full((2, 2, 2), 280.0), kind="state", grid="metres")
    fine = coarse.stsr.upscale(2, method="nearest")
    raw = fine.copy(data=fine.values.copy())
    raw[:, 0, 0] += 8.0  # its cell is 2 K too warm
    made = raw.stsr.conserve(coarse)
    np.testing.assert_allclose(made[0, :2, :2], [[286, 278], [278, 278]])
    np.testing.assert_allclose(made[0, 2:, 2:], 280)


def test_conserve_takes_fields_in_different_units():
    coarse = make(np.full((2, 2, 2), 3.6), units="mm h-1", grid="metres")
    fine = coarse.stsr.upscale(2, 2, method="nearest")
    raw = disturbed(fine).assign_attrs(
        units="kg m-2 s-1", standard_name="precipitation_flux"
    )
    made = raw.stsr.conserve(coarse)
    assert made.attrs["units"] == "kg m-2 s-1"
    # 3.6 mm h-1 are 1e-3 kg m-2 s-1
    np.testing.assert_allclose(made.stsr.coarsen(2, 2), 1e-3, rtol=1e-6)


def test_conserve_of_a_rate_by_an_amount_is_refused():
    coarse = make(grid="metres")
    fine = coarse.stsr.upscale(2, method="nearest")
    amount = coarse.assign_attrs(AMOUNT)
    with pytest.raises(XstsrError, match=r"'pr' \(rate.*with 'pr' \(amount"):
        fine.stsr.conserve(amount)


@pytest.mark.parametrize("verb", ["conserve", "check"])
def test_states_of_two_units_are_not_compared(verb):
    coarse = make(np.full((2, 2, 2), 280.0), kind="state", grid="metres")
    fine = coarse.stsr.upscale(2, method="nearest")
    celsius = (coarse - 273.15).assign_attrs(coarse.attrs | {"units": "degC"})
    with pytest.raises(XstsrError, match=r"\[K\].*\[degC\].*one unit"):
        getattr(fine.stsr, verb)(celsius)


@pytest.mark.parametrize("verb", ["conserve", "check"])
def test_coarse_field_with_realizations_is_refused(verb):
    coarse = make(grid="metres")
    fine = coarse.stsr.upscale(2, method="nearest")
    several = coarse.expand_dims(realization=2)
    with pytest.raises(XstsrError, match=r"further dimensions \('realization',\)"):
        getattr(fine.stsr, verb)(several)


@pytest.mark.parametrize("verb", ["conserve", "check"])
def test_grids_that_do_not_match_are_refused(verb):
    coarse = make(grid="metres")
    fine = coarse.stsr.upscale(2, 2, method="nearest")
    elsewhere = coarse.assign_coords(x=coarse.x + 500)
    with pytest.raises(GridError, match=r"along 'x': edge 0 is -500\.0 .* 0\.0"):
        getattr(fine.stsr, verb)(elsewhere)
    with pytest.raises(GridError, match=r"\(8, 6, 10\).*\(3, 3, 5\)"):
        getattr(fine.stsr, verb)(coarse[:3])
    with pytest.raises(GridError, match="not whole multiples"):
        getattr(coarse.stsr, verb)(fine)


def test_conserve_keeps_dims_dtype_name_and_appends_history():
    coarse = make(grid="metres").rename("rain")
    fine = coarse.stsr.upscale(2, 2, method="rainfarm", realizations=3, conserve="none")
    turned = fine.transpose("x", "realization", "time", "y")
    made = turned.stsr.conserve(coarse)
    assert made.dims == turned.dims
    assert (made.dtype, made.name) == (fine.dtype, "rain")
    assert made.attrs["history"].startswith(fine.attrs["history"])
    assert made.attrs["history"].endswith(": conserve(s=2, t=2)")
    for realization in made.transpose("realization", ...):
        assert realization.stsr.check(coarse).relative < 1e-6


def test_conserve_carries_water_past_missing_pixels():
    coarse = make(np.full((2, 2, 2), 2.0), grid="metres", dtype="float64")
    fine = coarse.stsr.upscale(2, method="nearest")
    fine[0, 0, :2] = np.nan
    made = disturbed(fine).stsr.conserve(coarse)
    np.testing.assert_array_equal(np.isnan(made), np.isnan(fine))
    np.testing.assert_allclose(made.stsr.coarsen(2), coarse, rtol=1e-12)


def test_conserve_empties_blocks_that_are_dry_or_missing():
    coarse = make(np.full((2, 2, 2), 2.0), grid="metres", dtype="float64")
    coarse[0, 0, 0], coarse[0, 1, 1] = 0.0, np.nan
    fine = disturbed(make(np.ones((2, 2, 2)), grid="metres", dtype="float64"))
    made = fine.stsr.upscale(2, method="nearest").stsr.conserve(coarse)
    np.testing.assert_array_equal(made[0, :2, :2], 0.0)
    assert np.isnan(made[0, 2:, 2:]).all()


def test_conserve_stays_lazy(no_compute):
    coarse = make(grid="metres").chunk(time=2)
    with no_compute():
        fine = coarse.stsr.upscale(2, 2, method="nearest")
        made = fine.stsr.conserve(coarse)
    assert made.chunks is not None
    eager = fine.compute(scheduler="synchronous").stsr.conserve(
        coarse.compute(scheduler="synchronous")
    )
    np.testing.assert_allclose(made.compute(scheduler="synchronous"), eager)


# the receipt


def test_receipt_counts_kilograms():
    # 2 mm h-1 during two hours on four cells of 1 km2: 2 * 2 * 4e6 kg
    coarse = make(np.full((2, 2, 2), 2.0), grid="metres")
    fine = coarse.stsr.upscale(2, method="nearest")
    fine[0, 0, 0] += 1.0  # 1 mm h-1 more on 0.25 km2 during one hour: 2.5e5 kg
    lines = dict(fine.stsr.check(coarse).lines)
    assert lines["water in"] == "1.6e+07 kg"
    assert lines["water out"] == "1.625e+07 kg"
    assert lines["largest residual"] == "0.25 mm h-1"
    assert lines["largest relative residual"] == "1.2e-01"
    assert lines["cells"] == "8 with data"


@pytest.mark.parametrize(
    ("kind", "units", "value", "step", "depth"),
    [
        ("rate", "kg m-2 s-1", 1e-3, HOUR, 3.6),  # mm in one step
        ("rate", "mm d-1", 24.0, 3 * HOUR, 3.0),
        ("amount", "m", 0.002, 3 * HOUR, 2.0),
        ("amount", "kg m-2", 5.0, 24 * HOUR, 5.0),
    ],
)
def test_receipt_counts_the_same_water_in_any_units(kind, units, value, step, depth):
    values = np.full((3, 2, 2), value)
    coarse = two_zones(values, kind=kind, units=units, step=step)
    receipt = coarse.stsr.upscale(2, 3, method="nearest").stsr.check(coarse)
    kilograms = 3 * depth * 2 * AREAS.sum()
    found = float(dict(receipt.lines)["water in"].split()[0])
    assert found == pytest.approx(kilograms, rel=1e-5)
    assert dict(receipt.lines)["water out"] == dict(receipt.lines)["water in"]
    assert receipt.relative < 1e-12


def test_receipt_of_months_counts_their_days():
    # 1 mm d-1 on 4 km2 in January and February: 59 mm
    coarse = make(
        np.ones((2, 2, 2)), units="mm d-1", step="month", grid="metres", label="left"
    )
    receipt = coarse.stsr.upscale(2, 2, method="nearest").stsr.check(coarse)
    assert dict(receipt.lines)["water in"] == "2.36e+08 kg"


def test_receipt_tells_root_mean_square_and_largest():
    # residuals 1 and 0 in two of eight cells: rms = sqrt(1 / 8), relative to 4 mm h-1
    coarse = make(np.full((2, 2, 2), 4.0), grid="metres", dtype="float64")
    fine = coarse.stsr.upscale(3, method="nearest")
    fine[1, :3, :3] -= 1.0
    receipt = fine.stsr.check(coarse)
    assert receipt.largest == pytest.approx(1.0)
    assert receipt.rms == pytest.approx(np.sqrt(1 / 8))
    assert receipt.relative == pytest.approx(0.25)
    assert receipt.dataset.residual[1, 0, 0].item() == pytest.approx(-1.0)
    assert receipt.dataset.residual.attrs["units"] == "mm h-1"
    np.testing.assert_array_equal(receipt.dataset.time, coarse.time)
    np.testing.assert_allclose(receipt.dataset.area, 1e6)


def test_receipt_counts_what_a_lost_block_held():
    coarse = make(np.ones((2, 2, 2)), grid="metres")
    fine = coarse.stsr.upscale(2, method="nearest")
    fine[0, :2, :2] = np.nan
    receipt = fine.stsr.check(coarse)
    assert receipt.lost == 1
    lines = dict(receipt.lines)
    assert (lines["water in"], lines["water out"]) == ("8e+06 kg", "7e+06 kg")
    assert lines["cells without fine data"] == "1"


def test_receipt_does_not_count_cells_that_were_missing():
    coarse = make(np.ones((2, 2, 2)), grid="metres")
    coarse[0, 0, 0] = np.nan
    receipt = coarse.stsr.upscale(2, method="linear").stsr.check(coarse)
    assert receipt.lost == 0
    lines = dict(receipt.lines)
    assert (lines["cells"], lines["water in"]) == ("7 with data", "7e+06 kg")
    assert receipt.largest < 1e-6


def test_receipt_averages_realizations():
    coarse = make(np.ones((2, 2, 2)), grid="metres")
    fine = coarse.stsr.upscale(2, method="nearest")
    several = xr.concat([fine, 3 * fine], xr.Variable("realization", [0, 1]))
    several.attrs = fine.attrs
    receipt = several.stsr.check(coarse)
    assert receipt.dataset.residual.dims == ("realization", "time", "y", "x")
    assert dict(receipt.lines)["water out"] == "1.6e+07 kg"
    assert receipt.largest == pytest.approx(2.0)


def test_receipt_of_states_tells_no_water():
    coarse = make(kind="state", grid="metres")
    receipt = coarse.stsr.upscale(2, method="linear").stsr.check(coarse)
    assert "water in" not in dict(receipt.lines)
    assert receipt.meaning.units == "K"


def test_receipt_of_dry_and_of_missing_fields_is_zero():
    for value in (0.0, np.nan):
        coarse = make(np.full((2, 2, 2), value), grid="metres")
        receipt = coarse.stsr.upscale(2, method="nearest").stsr.check(coarse)
        assert receipt.relative == 0.0
        assert dict(receipt.lines)["water in"] == "0 kg"


def test_receipt_is_a_card_in_text_and_html():
    coarse = make(np.ones((2, 2, 2)), grid="metres").rename("a<b")
    receipt = coarse.stsr.upscale(2, method="nearest").stsr.check(coarse)
    text, page = repr(receipt), receipt._repr_html_()
    assert text.splitlines()[0] == "Mass receipt of 'a<b'"
    for label, value in receipt.lines:
        assert f"  {label}" in text
        assert value in text
        assert f"{label}</th>" in page
    assert "a<b" not in page
    assert "a&lt;b" in page


def test_check_accepts_dims_in_any_order():
    coarse = make(grid="metres", dtype="float64")
    fine = coarse.stsr.upscale(3, 2, method="linear")
    turned = fine.transpose("x", "time", "y").stsr.check(
        coarse.transpose("y", "x", "time")
    )
    assert turned.relative < 1e-12
    assert json.dumps(turned.largest)


def test_check_and_conserve_take_the_label_of_both():
    coarse = make(shape=(4, 2, 2), grid="metres", label="right")
    fine = coarse.stsr.upscale(2, 2, method="nearest", label="right")
    assert fine.stsr.check(coarse, label="right").relative < 1e-6
    assert fine.stsr.conserve(coarse, label="right").shape == fine.shape
    plain = fine.copy()
    plain.time.attrs.pop("xstsr_label", None)
    with pytest.raises(GridError, match="say what time labels stand for with label="):
        plain.stsr.check(coarse)


# properties


@settings(max_examples=30)
@given(da=cf_dataarrays(kinds=("rate", "amount")), factor=factors())
def test_coarsen_undoes_nearest_and_conserve_repairs_any_field(da, factor):
    s, t = factor
    fine = da.stsr.upscale(s, t, method="nearest")
    tolerance = 1e-5 if da.dtype == np.float32 else 1e-11
    np.testing.assert_allclose(fine.stsr.coarsen(s, t), da, tolerance)
    made = disturbed(fine).stsr.conserve(da)
    assert made.stsr.check(da).relative < tolerance
    np.testing.assert_array_equal(np.isnan(made), np.isnan(fine))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 99),
    grid=st.sampled_from(["lat_lon", "lat_lon_up", "rotated", "km"]),
    kind=st.sampled_from(["rate", "amount", "state"]),
    step=st.sampled_from([HOUR, "month"]),
    factors=st.sampled_from([(2, 1, 3, 2), (3, 2, 2, 1), (2, 2, 2, 3)]),
)
def test_coarsen_in_two_steps_is_coarsen_in_one(seed, grid, kind, step, factors):
    s1, t1, s2, t2 = factors
    shape = (2 * t1 * t2, 2 * s1 * s2, 2 * s1 * s2)
    values = np.random.default_rng(seed).gamma(0.5, 2.0, shape)
    da = make(values, kind=kind, grid=grid, step=step, dtype="float64", label="left")
    one = da.stsr.coarsen(s1 * s2, t1 * t2)
    two = da.stsr.coarsen(s1, t1).stsr.coarsen(s2, t2)
    np.testing.assert_allclose(two, one, rtol=1e-9)
    for dim in one.dims[1:]:
        np.testing.assert_allclose(two[dim], one[dim], atol=1e-8)
    np.testing.assert_array_equal(two.time, one.time)


@settings(max_examples=20)
@given(da=cf_dataarrays(kinds=("rate", "amount"), missing=False), factor=factors())
def test_coarsen_loses_no_kilogram(da, factor):
    """Refined by linear interpolation, then coarsened by the same factors."""
    s, t = factor
    fine = da.stsr.upscale(s, t, method="linear")
    receipt = fine.stsr.check(da)
    water = [
        float(dict(receipt.lines)[f"water {way}"].split()[0]) for way in ("in", "out")
    ]
    assert water[1] == pytest.approx(water[0], rel=1e-5)


# oracles and errors


def test_coarsen_of_hours_agrees_with_resample():
    rng = np.random.default_rng(0)
    da = make(rng.gamma(0.5, 2.0, (48, 2, 2)), grid="metres", dtype="float64")
    days = da.stsr.coarsen(1, 24)
    np.testing.assert_allclose(days, da.resample(time="1D").mean(), rtol=1e-12)
    amount = da.assign_attrs(AMOUNT)
    sums = amount.stsr.coarsen(1, 24)
    np.testing.assert_allclose(sums, da.resample(time="1D").sum(), rtol=1e-12)


def test_coarsen_in_space_agrees_with_xarray_weighted():
    rng = np.random.default_rng(0)
    da = make(rng.gamma(0.5, 2.0, (2, 6, 8)), dtype="float64")
    coarse = da.stsr.coarsen(2)
    edges = np.concatenate([da.lat + 0.125, da.lat[-1:] - 0.125])
    area = [np.sin(np.deg2rad(a)) - np.sin(np.deg2rad(b)) for a, b in pairwise(edges)]
    weights = xr.DataArray(area, dims="lat")
    top = (da * weights).coarsen(lat=2, lon=2).sum()
    bottom = (xr.ones_like(da) * weights).coarsen(lat=2, lon=2).sum()
    np.testing.assert_allclose(coarse, top / bottom, rtol=1e-12)


@pytest.mark.parametrize(
    ("s", "t", "error", "told"),
    [
        (2, 3, GridError, r"cannot coarsen 'time' of size 4 by 3.*slice\(0, 3\)"),
        (3, 1, GridError, r"cannot coarsen 'x' of size 4 by 3.*slice\(0, 3\)"),
        (0, 1, FactorError, r"s=0: a factor is a whole number"),
        (2, 1.5, FactorError, r"t=1\.5: a factor is a whole number"),
    ],
)
def test_coarsen_refuses_factors_that_do_not_fit(s, t, error, told):
    with pytest.raises(error, match=told):
        make(shape=(4, 6, 4), grid="metres").stsr.coarsen(s, t)


def test_public_functions_are_those_of_the_accessor():
    coarse = make(grid="metres")
    fine = coarse.stsr.upscale(2, 2, method="nearest")
    np.testing.assert_array_equal(xstsr.coarsen(fine, 2, 2), fine.stsr.coarsen(2, 2))
    np.testing.assert_array_equal(
        xstsr.conserve(fine, coarse), fine.stsr.conserve(coarse)
    )
    assert xstsr.check(fine, coarse).lines == fine.stsr.check(coarse).lines


def test_coarsen_of_a_calendar_of_360_days_stays_in_it():
    da = make(shape=(60, 2, 2), step=24 * HOUR, calendar="360_day", grid="metres")
    months = da.stsr.coarsen(1, 30)
    first = cftime.datetime(2001, 1, 1, calendar="360_day")
    assert months.time.values[0] == first
    assert months.time.values[1] == first.replace(month=2)
