"""The demo: a field that is known, coarsened, upscaled and compared."""

import re
import sys

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

from xstsr.cli.demo import Choices, compute, run, scores
from xstsr.cli.main import main
from xstsr.data import open_demo
from xstsr.errors import DataError

QUICK = Choices(s=5, t=3, beyond=2, realizations=2, method="rainfarm")


@pytest.fixture(scope="module")
def trial():
    return compute(open_demo(), "rainfall_amount", QUICK)


def test_grids_are_those_of_the_story(trial):
    # 31 x 48 x 37 steps and cells of 5 min and 2 km, cut to 30 x 45 x 35
    assert trial.truth.shape == (30, 45, 35)
    assert trial.coarse.shape == (10, 9, 7)
    assert trial.fine.shape == (2, 30, 90, 70)
    assert trial.compared.shape == (2, 30, 45, 35)
    np.testing.assert_allclose(np.diff(trial.coarse["x"]), 10_000.0)
    np.testing.assert_allclose(np.diff(trial.fine["x"]), 1_000.0)
    np.testing.assert_allclose(trial.compared["x"], trial.truth["x"])
    np.testing.assert_array_equal(trial.compared["time"], trial.truth["time"])


def test_coarse_steps_are_quarters_from_half_past(trial):
    half_past = np.datetime64("2015-07-25T12:30")
    expected = half_past + 15 * np.arange(10) * np.timedelta64(1, "m")
    np.testing.assert_array_equal(trial.coarse["time"], expected)
    assert trial.label == "left"


def test_coarse_cells_hold_sums_over_time_of_means_over_area(trial):
    expected = trial.truth.coarsen(time=3).sum().coarsen(y=5, x=5).mean()
    np.testing.assert_allclose(trial.coarse, expected, rtol=1e-12)
    rates = trial.rates(trial.coarse)
    np.testing.assert_allclose(rates, 4 * trial.coarse)
    assert rates.attrs["units"] == "mm h-1"


def test_receipt_is_balanced(trial):
    assert trial.receipt().relative < 1e-5


def test_scores_name_ensemble_and_baselines(trial):
    found = scores(trial)
    assert list(found) == ["rainfarm", "linear", "nearest"]
    truth = trial.truth * 12
    # the block means repeated: nearest must score exactly their absolute error
    repeated = np.kron(
        truth.coarsen(time=3, y=5, x=5).mean().to_numpy(), np.ones((3, 5, 5))
    )
    error = np.abs(repeated - truth.to_numpy()).mean()
    assert found["nearest"] == pytest.approx(error, rel=1e-5)


def test_run_reports_and_writes_both_results(tmp_path):
    lines: list[str] = []
    run(None, None, tmp_path / "out", QUICK, say=lines.append)
    report = "\n".join(lines)
    assert re.search(r"coarse +10 km, 15 min +10 x 9 x 7\n", report)
    assert re.search(r"fine +1 km, 5 min +2 x 30 x 90 x 70\n", report)
    assert "Mass receipt of 'rainfall_amount'" in report
    assert re.search(r"rainfarm +0\.\d+\n +linear +0\.\d+ +ratio \d\.\d\d\n", report)
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["fine.png", "fine.zarr"]
    with xr.open_zarr(tmp_path / "out" / "fine.zarr") as fine:
        assert fine["rainfall_amount"].dims == ("realization", "time", "y", "x")
        assert fine["rainfall_amount"].attrs["units"] == "kg m-2"
        assert "time_bnds" in fine.variables
        assert "crs" in fine.variables


def test_own_file_goes_back_to_its_own_grid(tmp_path):
    open_demo().isel(time=slice(6)).to_netcdf(tmp_path / "mine.nc")
    done = CliRunner().invoke(
        main,
        f"demo {tmp_path}/mine.nc -s 4 -t 2 --realizations 2 --method rainfarm "
        f"--var rainfall_amount --out {tmp_path}/out".split(),
    )
    assert done.exit_code == 0, done.output
    assert "2 x 6 x 48 x 36" in done.output
    assert (tmp_path / "out" / "fine.zarr").is_dir()


def test_missing_matplotlib_costs_only_the_picture(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    lines: list[str] = []
    run(None, None, tmp_path, QUICK, say=lines.append)
    assert "pip install 'xstsr[plot]'" in lines[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["fine.zarr"]


def test_too_large_factors_are_an_error():
    with pytest.raises(DataError, match=r"shape \(31, 48, 37\) by t=32, s=5.*smaller"):
        compute(open_demo(), "rainfall_amount", Choices(s=5, t=32))


def test_field_with_heights_is_an_error():
    ds = open_demo()
    ds["rainfall_amount"] = ds["rainfall_amount"].expand_dims(height=2)
    with pytest.raises(
        DataError, match=r"dims are \('height', 'time', 'y', 'x'\), more"
    ):
        compute(ds, "rainfall_amount", QUICK)
