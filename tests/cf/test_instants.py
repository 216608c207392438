"""Instantaneous fields: interpolated in time, refined in space, area means kept."""

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tests.models import write_tiny_model
from tests.strategies import make, make_dataset
from xstsr.errors import CFError, GridError, XstsrError

POINT = "time: point"


def snapshots(**choices):
    rng = np.random.default_rng(3)
    values = rng.gamma(0.5, 2.0, choices.pop("shape", (4, 3, 5)))
    return make(values, cell_methods=POINT, **choices)


@given(
    s=st.sampled_from([1, 2, 3, 5, (2, 3), (1, 4)]),
    t=st.integers(1, 6),
    calendar=st.sampled_from([None, "noleap", "360_day"]),
    method=st.sampled_from(["linear", "nearest", "rainfarm"]),
)
def test_area_means_recur_at_the_given_times_and_lie_between_them(
    s, t, calendar, method
):
    da = snapshots(calendar=calendar, dtype="float64")
    fine = da.stsr.upscale(s, t, method=method)
    assert fine.sizes["time"] == 3 * t + 1
    assert fine.attrs["cell_methods"] == "time: point area: mean"
    assert fine.attrs["xstsr_t"] == t
    given_times = fine.isel(time=slice(None, None, t))
    assert (given_times.time.values == da.time.values).all()
    np.testing.assert_allclose(given_times.stsr.coarsen(s), da, rtol=1e-12)
    means = fine.stsr.coarsen(s).values
    for j in range(1, t):
        between = da.values[:-1] * (1 - j / t) + da.values[1:] * (j / t)
        np.testing.assert_allclose(means[j::t], between, rtol=1e-12)


def test_check_and_conserve_compare_with_the_interpolated_field():
    da = snapshots()
    fine = da.stsr.upscale(2, 3, method="nearest", conserve="none") * 1.5
    fine.attrs = da.attrs
    assert fine.stsr.check(da).relative == pytest.approx(0.5)
    assert fine.stsr.conserve(da).stsr.check(da).relative < 1e-6
    with pytest.raises(GridError, match="not whole multiples"):
        fine[:-1].stsr.check(da)


def test_missing_snapshots_stay_missing_and_reach_to_their_neighbours():
    da = snapshots()
    da[1, 0, 0] = np.nan
    fine = da.stsr.upscale(1, 2, method="linear")
    assert fine[:, 0, 0].isnull().values.tolist() == [False, *[True] * 3, *[False] * 3]
    assert int(fine.isnull().sum()) == 3


def test_states_are_interpolated_too():
    da = make(kind="state", cell_methods=POINT)
    fine = da.stsr.upscale(1, 4, method="linear")
    np.testing.assert_allclose(fine, da.interp(time=fine.time), rtol=1e-6)


def test_lazy_snapshots_stay_lazy_and_give_the_same_bits(tmp_path):
    model = write_tiny_model(tmp_path)
    da = snapshots(shape=(7, 4, 4))
    with dask.config.set(scheduler=_refuse):
        lazy = da.chunk(time=2).stsr.upscale(2, 3, model=model)
    xr.testing.assert_identical(
        lazy.compute().drop_attrs(), da.stsr.upscale(2, 3, model=model).drop_attrs()
    )


def _refuse(*args, **kwargs):
    pytest.fail("building the graph computed something")


def test_datasets_have_no_time_bounds_and_the_plan_says_what_is_done():
    ds = make_dataset(cell_methods=POINT, label="left")
    fine = ds.stsr.upscale("pr", 2, 3, method="linear")
    assert "time_bnds" not in fine.variables
    assert "bounds" not in fine.time.attrs
    assert fine.sizes["time"] == 10
    assert fine.cell_area.shape == (6, 10)
    assert "xstsr" in fine.attrs["history"]
    assert "interpolated" in fine.pr.attrs["xstsr_notes"]
    preview = ds.stsr.plan("pr", 2, 3, method="linear")
    assert preview.to_dict()["shape"] == [1, 10, 6, 10]
    assert fine.stsr.check("pr", ds).relative < 1e-6
    conserved = fine.stsr.conserve("pr", ds)
    np.testing.assert_allclose(conserved.pr, fine.pr, rtol=1e-6)


def test_a_single_snapshot_cannot_be_split():
    with pytest.raises(CFError, match="cannot split the single time of 'pr' into 3"):
        snapshots(shape=(1, 3, 5)).stsr.upscale(2, 3, method="linear")


def test_instants_have_no_total_over_a_window():
    da = snapshots()
    with pytest.raises(XstsrError, match=r"cannot conserve='window' of 'pr'.*instants"):
        da.stsr.upscale(2, 3, method="linear", conserve="window")
    fine = da.stsr.upscale(
        2, 3, method="linear", conserve="window", cell_methods="time: mean"
    )
    assert fine.sizes["time"] == 12
