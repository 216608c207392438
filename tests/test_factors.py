"""Factors in space and time: unequal ones, ones of 1, and how they are written."""

import json
import warnings

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import xstsr
from tests.models import write_tiny_model
from tests.strategies import cf_dataarrays, make, make_dataset
from xstsr.cf.read import bounds_of, read_meaning
from xstsr.cli.main import main
from xstsr.errors import AssumptionWarning, FactorError, StoreError
from xstsr.factors import (
    from_words,
    in_words,
    parse_space,
    read_factor,
    stages,
)
from xstsr.geometry.cells import coarsen_2d, refine_2d
from xstsr.methods import METHODS

PAIRS = st.tuples(st.sampled_from((1, 2, 3, 5, 7)), st.sampled_from((1, 2, 4, 10)))
# of unequal factors; one test is about the warning itself
knowing = pytest.mark.filterwarnings("ignore:the fine grid lies beyond")
ONES = ((1, 1), (1, 4), (3, 1))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def rain():
    values = np.random.default_rng(5).gamma(0.4, 2.0, (6, 4, 3))
    values[values < 0.2] = 0.0
    values[:, 0, 0] = np.nan
    return make(values, grid="metres", label="mid")


# property


@settings(max_examples=60, deadline=None)
@given(
    da=cf_dataarrays(),
    s=PAIRS,
    t=st.integers(1, 5),
    method=st.sampled_from(("linear", "nearest", "rainfarm")),
)
def test_unequal_factors_keep_water_grid_and_calendar(da, s, t, method):
    assume(method != "rainfarm" or read_meaning(da).kind != "state")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumptionWarning)
        fine = da.stsr.upscale(s, t, method=method)
        meaning = read_meaning(da)
    time, y, x = meaning.core_dims
    assert [fine.sizes[d] // da.sizes[d] for d in (time, y, x)] == [t, *s]
    assert fine.attrs["xstsr_s"] == in_words(s)
    receipt = fine.stsr.check(da)
    assert receipt.relative < 1e-5
    assert receipt.lost == 0
    back = fine.stsr.coarsen(s, t)
    assert (back[time].values == da[time].values).all()
    for dim in (y, x):
        np.testing.assert_allclose(back[dim], da[dim], rtol=0, atol=2e-5)
    np.testing.assert_allclose(back.transpose(*da.dims), da, rtol=1e-5, atol=1e-30)


@given(s=PAIRS, t=st.integers(1, 3), grid=st.sampled_from(("lat_lon", "rotated")))
def test_bounds_and_areas_of_unequal_factors_tile_the_coarse_cells(s, t, grid):
    ds = make_dataset(grid)
    fine = ds.stsr.upscale("pr", s, t, method="nearest")
    meaning = read_meaning(ds.pr, bounds=bounds_of(ds, "pr"))
    for dim, n, edges in zip(
        (meaning.y_dim, meaning.x_dim),
        s,
        (meaning.y_edges, meaning.x_edges),
        strict=True,
    ):
        bounds = fine[f"{dim}_bnds"].values
        assert (bounds[::n, 0] == edges[:-1]).all()
        assert (bounds[1:, 0] == bounds[:-1, 1]).all()
        assert np.ptp(bounds[:, 1] - bounds[:, 0]) < 1e-9
    blocks = fine.cell_area.values.reshape(3, s[0], 5, s[1]).sum(axis=(1, 3))
    np.testing.assert_allclose(blocks, meaning.area(), rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_two_equal_factors_are_one(rain, model, method):
    pair, one = (
        rain.stsr.upscale(s, 2, method=method, model=model) for s in ((3, 3), 3)
    )
    xr.testing.assert_identical(pair.drop_attrs(), one.drop_attrs())
    assert pair.attrs["xstsr_s"] == one.attrs["xstsr_s"] == 3


@knowing
@pytest.mark.parametrize("method", METHODS)
def test_first_factor_is_that_of_y_whatever_the_order_of_the_axes(rain, model, method):
    fine = rain.stsr.upscale((2, 5), 2, method=method, model=model)
    assert dict(fine.sizes) == {"time": 12, "y": 8, "x": 15}
    assert fine.stsr.check(rain).relative < 1e-5
    turned = rain.transpose("x", "time", "y")
    again = turned.stsr.upscale((2, 5), 2, method=method, model=model)
    xr.testing.assert_equal(again.transpose(*fine.dims), fine)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("s", "t"), ONES)
@pytest.mark.parametrize("conserve", ["cell", "window"])
def test_factors_of_one_work_with_every_method(rain, model, method, s, t, conserve):
    fine = rain.stsr.upscale(s, t, method=method, model=model, conserve=conserve)
    assert fine.shape == (6 * t, 4 * s, 3 * s)
    if conserve == "cell":
        assert fine.stsr.check(rain).relative < 1e-5
    lazy = rain.chunk(time=2).stsr.upscale(
        s, t, method=method, model=model, conserve=conserve
    )
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), fine)


@pytest.mark.parametrize("conserve", ["cell", "window", "none"])
@pytest.mark.parametrize("method", sorted({*METHODS} - {"rainfarm"}))
def test_one_by_one_is_the_identity(rain, model, method, conserve):
    same = rain.stsr.upscale(1, 1, method=method, model=model, conserve=conserve)
    np.testing.assert_allclose(same, rain, rtol=1e-6)
    for name in rain.coords:
        assert (same[name].values == rain[name].values).all()


def test_one_by_one_is_the_identity_for_every_realization(rain, model):
    fine = rain.stsr.upscale(1, realizations=3, model=model, conserve="none")
    np.testing.assert_allclose(fine, rain.expand_dims(realization=3), rtol=1e-6)
    fine = rain.stsr.upscale(1, method="rainfarm")
    np.testing.assert_allclose(fine, rain, rtol=1e-6)


@pytest.mark.parametrize("s", [(1, 4), (3, 1), (2, 5)])
def test_true_coordinates_are_refined_along_each_axis(s):
    ds = make_dataset("rotated")
    lat, lon = ds.lat.values, ds.lon.values
    fine = refine_2d(lat, lon, s)
    assert fine[0].shape == (lat.shape[0] * s[0], lat.shape[1] * s[1])
    for values, known in zip(coarsen_2d(*fine, s), (lat, lon), strict=True):
        # the mean of extrapolated directions is off by the curvature of a cell
        np.testing.assert_allclose(values, known, atol=1e-3)
    labelled = ds.pr.stsr.upscale(s, method="nearest")
    np.testing.assert_allclose(labelled.lat, fine[0])


# networks


def test_networks_warn_of_unequal_factors_and_others_do_not(rain, model):
    with pytest.warns(AssumptionWarning, match=r"s = 2 x 4, trained with equal"):
        fine = rain.stsr.upscale((2, 4), 2, model=model, realizations=2)
    assert fine.stsr.check(rain).relative < 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rain.stsr.upscale((2, 4), 2, method="rainfarm", label="mid")


@knowing
def test_networks_are_told_one_factor_and_the_longer_side(rain, model):
    request = rain.stsr.plan((4, 9), 2, model=model).job.request
    equal = rain.stsr.plan(6, 2, model=model).job.request
    assert request.factor == (2, 4, 9)
    assert request.spacing_km == pytest.approx(equal.spacing_km * 6 / 4)
    assert request.recipe == equal.recipe


@knowing
def test_chunks_do_not_matter_for_unequal_factors(rain, model):
    whole = rain.stsr.upscale((2, 5), 2, model=model, realizations=2)
    for chunks in ({"time": 1}, {"time": 4, "y": 3, "x": 1}):
        lazy = rain.chunk(chunks).stsr.upscale((2, 5), 2, model=model, realizations=2)
        np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), whole)


# what users hold


def test_plan_tells_unequal_factors(rain):
    preview = rain.stsr.plan((2, 8), 3, method="linear")
    assert preview.shape == (1, 18, 8, 24)
    assert dict(preview.lines)["factor"] == "s=2 x 8, t=3"
    told = preview.to_dict()
    assert told["factor"] == {"s": "2 x 8", "t": 3}
    assert told["fine"]["shape"] == [18, 8, 24]
    assert told["fine"]["spacing_km"] == told["coarse"]["spacing_km"] / 4
    assert dict(rain.stsr.plan(5, method="linear").lines)["factor"] == "s=5, t=1"


def test_history_tells_unequal_factors_once(rain):
    fine = rain.stsr.upscale((2, 8), 3, method="linear")
    assert fine.attrs["history"].count("\n") == 0
    assert "upscale(s=2 x 8, t=3, method=linear" in fine.attrs["history"]
    conserved = fine.stsr.conserve(rain)
    assert "conserve(s=2 x 8, t=3)" in conserved.attrs["history"]
    np.testing.assert_allclose(conserved, fine, rtol=1e-6)


def test_evaluation_takes_unequal_factors():
    values = np.random.default_rng(1).gamma(0.5, 2.0, (6, 20, 24))
    da = make(values, grid="metres", label="mid")
    methods = ("rainfarm", "linear")
    done = da.stsr.evaluate((5, 3), 2, methods=methods, realizations=3)
    assert done.s == (5, 3)
    assert done.where.startswith("s=5 x 3, t=2 (3.87 km to 1 km")
    assert done.table["rainfarm"]["largest_residual"] < 1e-5
    protocol = xstsr.evaluation.report.Protocol(
        methods=methods, realizations=3, side=12, frames=4
    )
    found = xstsr.evaluation.report.evaluate_events(
        [("made", da)], [((5, 3), 2), (2, 1)], protocol, say=lambda _: None
    )
    assert found.scores.factor.values.tolist() == ["5x3x2", "2x1"]
    assert [one.s for one in found.evaluations] == [(5, 3), 2]


def test_store_holds_unequal_factors(tmp_path, rain):
    path = tmp_path / "fine.zarr"
    call = {"method": "rainfarm", "realizations": 2, "progress": False}
    stored = xstsr.to_zarr(rain, path, (2, 5), 3, **call)
    made = rain.stsr.upscale((2, 5), 3, method="rainfarm", realizations=2)
    np.testing.assert_array_equal(stored.pr, made)
    assert stored.cell_area.shape == (8, 15)
    call["realizations"] = 3
    grown = xstsr.to_zarr(rain, path, (2, 5), 3, resume=True, **call)
    np.testing.assert_array_equal(grown.pr[:2], made)
    with pytest.raises(StoreError, match=r"factor: \[3, 2, 5\] there, \[3, 5, 2"):
        xstsr.to_zarr(rain, path, (5, 2), 3, resume=True, **call)


@pytest.mark.parametrize(("text", "sizes"), [("2,5", [6, 8, 15]), ("3", [6, 12, 9])])
def test_command_line_takes_one_factor_or_two(tmp_path, rain, text, sizes):
    source, target = tmp_path / "coarse.nc", tmp_path / "fine.nc"
    rain.to_dataset().to_netcdf(source)
    call = [str(source), "-s", text, "--method", "linear"]
    done = CliRunner().invoke(main, ["plan", *call, "--json"])
    assert json.loads(done.stdout)["shape"] == [1, *sizes]
    done = CliRunner().invoke(main, ["upscale", call[0], str(target), *call[1:]])
    assert done.exit_code == 0, done.output
    with xr.open_dataset(target) as fine:
        assert list(fine.pr.shape) == sizes


# closed form and errors


def test_command_line_refuses_three_factors(tmp_path, rain):
    source = tmp_path / "coarse.nc"
    rain.to_dataset().to_netcdf(source)
    done = CliRunner().invoke(main, ["plan", str(source), "-s", "2,5,3"])
    assert done.exit_code == 2
    assert "cannot read the factor '2,5,3'" in done.stderr


@pytest.mark.parametrize("text", ["a", "2,", "1,2,3", "2.5", "5x10"])
def test_text_that_is_no_factor_is_refused(text):
    with pytest.raises(FactorError, match="one whole number, 10, or those of y and x"):
        parse_space(text)


@pytest.mark.parametrize("s", [(2, 0), (2, 2.5), (1, 2, 3), [2, 3], (2, True), "5,10"])
def test_pairs_that_are_no_factors_are_refused(rain, s):
    with pytest.raises(FactorError, match=r"cannot use s=.*s=\(5, 10\) for y and x"):
        rain.stsr.upscale(s, method="linear")


@given(s=PAIRS, t=st.integers(1, 6))
def test_words_are_read_back(s, t):
    _, *pair = read_factor(s, t)
    told = from_words(in_words(s))
    assert told == (pair[0] if pair[0] == pair[1] else tuple(pair))


@given(t=st.integers(1, 40), sy=st.integers(1, 700), sx=st.integers(1, 700))
def test_stages_are_within_the_limits_and_give_the_whole(t, sy, sx):
    try:
        parts = stages((t, sy, sx), (6, 25))
    except FactorError:
        primes = [max(_primes(n), default=1) for n in (t, sy, sx)]
        too_large = t > 36 or max(sy, sx) > 625
        none = not all(
            any(n % a == 0 and n // a <= most for a in range(1, most + 1))
            for n, most in ((t, 6), (sy, 25), (sx, 25))
        )
        assert none or too_large or primes[0] > 6 or max(primes[1:]) > 25
        return
    assert np.prod(parts, axis=0).tolist() == [t, sy, sx]
    assert all(part[0] <= 6 and max(part[1:]) <= 25 for part in parts)
    assert (len(parts) == 1) == (t <= 6 and max(sy, sx) <= 25)


def _primes(n):
    return [
        p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))
    ]


@pytest.mark.parametrize(
    ("factor", "told"),
    [
        ((1, 29, 29), r"s=29.*29 is no product.*Choose 28 or 30 instead"),
        ((1, 10, 31), r"s=31.*Choose 30 or 32"),
        ((7, 10, 10), r"t=7: .* at most 6 times.*Choose 6 or 8"),
        (
            (1, 10**9, 5),
            r"s=1000000000.*Choose 625 instead, or method='rainfarm' or 'linear'",
        ),
    ],
)
def test_factors_that_cannot_be_split_name_the_nearest_that_can(factor, told):
    with pytest.raises(FactorError, match=told):
        stages(factor, (6, 25))
