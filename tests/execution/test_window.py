"""One window of work: factors, weights, reach, blending, and the water handed back."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import replace_draw
from tests.strategies import HOUR, make, make_dataset, month_edges
from xstsr.cf.read import bounds_of, read_meaning
from xstsr.conservation.blocks import block_mean, refine
from xstsr.errors import DataError
from xstsr.execution.graph import surroundings
from xstsr.execution.run import upscale_blocks, upscale_now
from xstsr.execution.window import check_values, draw, join, needed, say
from xstsr.geometry.cells import areas_m2, refine_edges
from xstsr.methods import baselines
from xstsr.methods.recipe import Recipe
from xstsr.methods.task import Reach
from xstsr.planning.job import Job, Tile
from xstsr.planning.request import prepare
from xstsr.planning.tiling import Plan, Span, tiles, windows

START = int(month_edges(1, None)[0])  # 2001-01-01, where `make` begins
ONLY = Tile(0, 0, 0, 0)


def job_of(da, s=2, t=1, **options) -> Job:
    """The job of an upscaling, by a baseline."""
    return prepare(read_meaning(da), s, t, **{"method": "linear"} | options)


def edges_of(da) -> np.ndarray:
    return read_meaning(da).time_edges


def run(job, da) -> np.ndarray:
    """All windows of a field of (T, Y, X); gives (R, T t, Y sy, X sx)."""
    return upscale_now(job, da.values)


def cut(job, first, frames, *, core, halo) -> Job:
    """The same job in other windows; the record starts at frame number `first`."""
    return recut(job, range(first, first + frames), core=core, halo=halo)


def recut(job, numbers, *, core, halo) -> Job:
    """The same job in windows over such frames, blended over half a halo."""
    found = windows(numbers, core, halo)
    blend = max(1, halo // 2) if halo else 0
    length = min(core, len(numbers))
    plan = Plan(found, job.plan.rows, job.plan.columns, blend, length)
    return replace(job, plan=plan)


def whole_weights(job, da):
    """Weights of the whole domain."""
    t, y, x = (n * f for n, f in zip(da.shape, job.request.factor, strict=True))
    found = job.weights(edges_of(da), job.plan.rows[0], job.plan.columns[0])
    return np.broadcast_to(found, (t, y, x))


def use(monkeypatch, job, function) -> Job:
    """The same job with a method of our own; raw values go through unchanged."""
    replace_draw(monkeypatch, job.request.method, function)
    return replace(job, mode="none")


def clock(task):
    """A function of absolute time and place alone, the same in any window or tile."""
    hours = (task.times - START) / HOUR
    rows = task.origin[0] + np.arange(task.shape[1])
    columns = task.origin[1] + np.arange(task.shape[2])
    field = hours[:, None, None] + 0.01 * rows[:, None] + 1e-4 * columns
    return field[None].astype(np.float32)


def clock_of_the_record(da, s, t):
    hours = (refine_edges(edges_of(da), t)[:-1] - START) / HOUR
    rows, columns = (0.01 * np.arange(da.sizes[d] * s) for d in da.dims[1:])
    return hours[:, None, None] + rows[:, None] + 0.01 * columns


def states(frames, rows=2, columns=3, **options):
    """A state: without clipping and dry cells, raw values come out as they are."""
    return make(shape=(frames, rows, columns), kind="state", **options)


def blocks_of(values, *, coarse, taper=0.0):
    """Join one coarse cell of 2 by 2 pixels whose raw values are given."""
    ds = make_dataset("metres", values=np.full((1, 2, 2), coarse), dtype="float64")
    meaning = read_meaning(ds["pr"], bounds=bounds_of(ds, "pr"))
    recipe = Recipe(0.01, 3, taper)
    job = prepare(meaning, 2, 1, method="nearest", recipe=recipe)
    raw = np.ones((1, 1, 4, 4))
    raw[..., :2, :2] = np.reshape(values, (2, 2))
    fine = join(job, range(1), ONLY, {0: raw}, ds["pr"].values)
    return fine[0, 0, :2, :2].ravel().tolist()


# closed form


@pytest.mark.parametrize(
    ("kind", "units", "step", "factor"),
    [
        ("rate", "kg m-2 s-1", 3 * HOUR, 3600.0),  # 1 kg m-2 is 1 mm
        ("rate", "m s-1", HOUR, 3.6e6),
        ("rate", "mm d-1", HOUR, 1 / 24),
        ("amount", "mm", 3 * HOUR, 1 / 3),  # over three hours
        ("amount", "m", 3 * HOUR, 1000 / 3),
        ("amount", "kg m-2", HOUR // 2, 2.0),
        ("state", "K", 3 * HOUR, 1.0),
    ],
)
def test_to_rate_gives_millimetres_per_hour(kind, units, step, factor):
    da = make(kind=kind, units=units, step=step)
    found = job_of(da).to_rate(edges_of(da))
    assert found.shape == (4, 1, 1)
    np.testing.assert_allclose(found, factor, rtol=1e-14)


@pytest.mark.parametrize(
    ("calendar", "february"), [(None, 28), ("noleap", 28), ("360_day", 30)]
)
def test_to_rate_of_monthly_amounts_knows_each_month(calendar, february):
    da = make(kind="amount", units="mm", step="month", calendar=calendar)
    january = 30 if calendar == "360_day" else 31
    found = job_of(da).to_rate(edges_of(da)).ravel()
    assert found[:2] == pytest.approx([1 / (24 * january), 1 / (24 * february)])


def test_weights_are_sines_times_step_lengths():
    # rows 60..30 and 30..0 degrees: areas as sin 60 - sin 30 = 0.3660 to 0.5;
    # January and February 2001: lengths as 31 to 28. Their mean is one.
    da = make(shape=(2, 2, 2), step="month", label="left")
    da = da.assign_coords(lat=("lat", [45.0, 15.0], da.lat.attrs))
    weights = whole_weights(job_of(da, s=1), da)
    area = np.array([np.sqrt(0.75) - 0.5, 0.5])
    length = np.array([31.0, 28.0])
    expected = (length / 29.5)[:, None] * (area / area.mean())
    np.testing.assert_allclose(weights[:, :, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(weights[:, :, 1], expected, rtol=1e-12)


def test_weights_lie_on_the_fine_grid():
    da = make(shape=(3, 2, 5))
    job = job_of(da, s=4, t=2)
    weights = whole_weights(job, da)
    assert weights.shape == (6, 8, 20)
    fine = areas_m2(
        refine_edges(job.y_edges, 4), refine_edges(job.x_edges, 4), "sphere"
    )
    np.testing.assert_allclose(weights[3] / weights[3, 0, 0], fine / fine[0, 0], 1e-12)


def test_weights_do_not_know_the_unit_of_length():
    metres, kilometres = make(grid="metres"), make(grid="km")
    np.testing.assert_allclose(
        whole_weights(job_of(metres), metres),
        whole_weights(job_of(kilometres), kilometres),
        rtol=1e-12,
    )


@pytest.mark.parametrize("values", [[0.0, 1.0], [-0.0], [np.nan, 2.0], [np.nan], []])
def test_check_values_lets_rain_pass(values):
    check_values(np.array(values), "multiplicative")


def test_check_values_tells_the_smallest_value():
    values = np.array([1.0, -0.25, np.nan, -0.125], np.float32)
    with pytest.raises(DataError, match=r"smallest value is -0\.25.*da\.clip\(min=0\)"):
        check_values(values, "multiplicative")
    check_values(values, "additive")


@pytest.mark.parametrize("constraint", ["multiplicative", "additive"])
def test_check_values_counts_infinities(constraint):
    with pytest.raises(DataError, match=r"2 values are infinite.*isfinite"):
        check_values(np.array([1.0, np.inf, -np.inf, np.nan]), constraint)


def test_draw_refuses_negative_rain_but_not_negative_degrees():
    cold = states(3) - 300
    cold.attrs = states(3).attrs
    job = job_of(cold)
    assert draw(job, cold.values, 0, ONLY).min() < 0
    wrong = make(-np.ones((3, 2, 3)))
    with pytest.raises(DataError, match="smallest value is -1"):
        draw(job_of(wrong), wrong.values, 0, ONLY)


def test_window_has_a_say_in_its_core_and_what_is_blended():
    # frames 0..9 in cores of 4, halo 2, blend 1: the window of the frames 4..7 speaks
    # for 3..8
    plan = cut(job_of(states(10), t=3), 0, 10, core=4, halo=2).plan
    assert plan.blend == 1
    assert [say(plan, i) for i in range(3)] == [range(5), range(3, 9), range(7, 10)]


def test_window_without_a_halo_has_a_say_in_its_core():
    plan = cut(job_of(states(10), t=2), 0, 10, core=5, halo=0).plan
    assert [say(plan, i) for i in range(2)] == [range(5), range(5, 10)]


def test_chunk_needs_the_windows_that_own_it_or_blend_into_it():
    # windows 0..1, 2..5, 6..9 and chunks 0..3, 4..7, 8..9, with one frame of blending
    job = cut(job_of(states(10)), 2, 10, core=4, halo=2)
    assert job.plan.chunks == [range(4), range(4, 8), range(8, 10)]
    found = [needed(job, frames) for frames in job.plan.chunks]
    assert [frames for frames, _ in found] == job.plan.chunks
    assert [list(windows) for _, windows in found] == [[0, 1], [1, 2], [2]]


def test_chunk_needs_whole_windows_whose_total_is_kept():
    job = cut(job_of(states(10), conserve="window"), 2, 10, core=4, halo=2)
    found = [needed(job, frames)[0] for frames in job.plan.chunks]
    assert found == [range(6), range(2, 10), range(6, 10)]


def test_fields_are_counted_and_grouped():
    job = job_of(make(shape=(7, 2, 2)), method="rainfarm", realizations=5)
    assert job.count == 5
    assert job.groups == [slice(0, 4), slice(4, 5)]
    assert job_of(make(shape=(7, 2, 2))).count == 1


def test_draw_gives_rates_of_the_frames_within_reach():
    # 6 mm in 3 hours are 2 mm h-1
    da = make(np.full((8, 2, 2), 6.0), kind="amount", units="mm", step=3 * HOUR)
    job = cut(job_of(da, s=3, t=2), 0, 8, core=3, halo=2)
    window = job.plan.windows[1]
    assert window == Span(1, 8, 3, 6)
    raw = draw(job, da.values[window.start : window.stop], 1, ONLY)
    assert raw.shape == (1, (3 + 2) * 2, 6, 6)
    np.testing.assert_allclose(raw, 2.0, rtol=1e-6)


def test_boundary_is_blended_in_equal_shares(monkeypatch):
    # Windows that say 0 and 1, t = 2, blend 1: the second's share of the two frames on
    # either side of the boundary is 1/8, 3/8, 5/8, 7/8.
    def number(task):
        window = int(task.times[-1] > START + 6 * HOUR)
        return np.full((1, *task.shape), float(window))

    da = states(8, dtype="float64")
    job = use(monkeypatch, job_of(da, s=1, t=2), number)
    fine = run(cut(job, 0, 8, core=4, halo=2), da)[0, :, 0, 0]
    expected = [0, 0, 0, 0, 0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(fine, expected, atol=1e-12)


def test_middle_of_three_windows_is_blended_on_both_sides(monkeypatch):
    # halo 4, blend 2, core 4: a window is blended as a whole. Told 0, 1 and 2, the
    # middle one's frames are at depths 0.5, 1.5 from either end, of 4: its own share is
    # 5/8, 7/8, 7/8, 5/8, and the rest is the nearer neighbour's.
    def number(task):
        centre = (task.times[0] + task.times[-1]) / 2 - START
        return np.full((1, *task.shape), float(np.searchsorted([4, 7], centre / HOUR)))

    da = states(12, dtype="float64")
    job = cut(use(monkeypatch, job_of(da, s=1), number), 0, 12, core=4, halo=4)
    assert job.plan.windows == (
        Span(0, 8, 0, 4),
        Span(0, 12, 4, 8),
        Span(4, 12, 8, 12),
    )
    assert job.plan.blend == 2
    fine = run(job, da)[0, :, 0, 0]
    middle = [5 / 8, 7 / 8, 1 + 1 / 8, 1 + 3 / 8]
    np.testing.assert_allclose(fine[4:8], middle, atol=1e-12)
    np.testing.assert_allclose(fine[[0, 1, 10, 11]], [0, 0, 2, 2], atol=1e-12)


def test_join_applies_the_taper_before_the_water_is_handed_back():
    # taper 1: [0.5, 1, 3, 5] becomes [0, 0, 2, 4], mean 1.5; for 3 mm h-1 twice that
    tapered = blocks_of([0.5, 1, 3, 5], coarse=3.0, taper=1.0)
    assert tapered == pytest.approx([0, 0, 4, 8])


def test_join_caps_the_gain_and_shares_the_rest_among_wet_pixels():
    # mean 1, so the gain for 10 mm h-1 would be 10; capped at 8 it leaves 2 mm h-1,
    # shared as x / (x + 1) = [0, 0, 1/2, 3/4], whose mean is 0.3125
    capped = blocks_of([0, 0, 1, 3], coarse=10.0)
    assert capped == pytest.approx([0, 0, 8 + 2 * 1.6, 24 + 2 * 2.4])
    assert np.mean(capped) == pytest.approx(10.0)


def test_join_leaves_gains_below_the_cap_alone():
    assert blocks_of([0, 0, 1, 3], coarse=8.0) == pytest.approx([0, 0, 8, 24])


@pytest.mark.parametrize(("coarse", "expected"), [(0.0, 0.0), (np.nan, np.nan)])
def test_join_keeps_dry_and_missing_cells(coarse, expected):
    np.testing.assert_array_equal(
        blocks_of([0, 1, 1, 3], coarse=coarse), [expected] * 4
    )


def test_join_returns_amounts_of_fine_steps():
    # 6 mm in three hours are 2 mm in each of three steps, whatever the raw amplitude
    da = make(np.full((2, 2, 2), 6.0), kind="amount", units="mm", step=3 * HOUR)
    job = job_of(da, s=2, t=3)
    raw = np.full((1, 6, 4, 4), 17.0)
    fine = join(job, range(2), ONLY, {0: raw}, da.values)
    assert fine.dtype == np.float32
    np.testing.assert_allclose(fine, 2.0, rtol=1e-6)


def test_months_are_split_in_proportion_to_time():
    # 310 mm in January, 280 in February: 10 mm a day in both, whose halves are equal
    values = np.array([310.0, 280.0, 310.0])[:, None, None] * np.ones((1, 2, 2))
    da = make(values, kind="amount", units="mm", step="month", dtype="float64")
    fine = run(job_of(da, s=1, t=2), da)[0, :, 0, 0]
    np.testing.assert_allclose(fine, [155, 155, 140, 140, 155, 155], rtol=1e-12)


def test_mode_window_keeps_the_total_of_each_window():
    rng = np.random.default_rng(1)
    da = make(rng.gamma(0.5, 2.0, (8, 2, 2)), grid="metres", dtype="float64")
    job = cut(job_of(da, s=2, conserve="window"), 0, 8, core=4, halo=2)
    fine = run(job, da)[0]
    for frames in (slice(0, 4), slice(4, 8)):
        assert fine[frames].mean() == pytest.approx(da.values[frames].mean())
    assert not np.allclose(block_mean(fine, (1, 2, 2)), da, rtol=1e-3)


# properties


@settings(max_examples=40)
@given(
    first=st.integers(-9, 9),
    frames=st.integers(2, 26),
    t=st.integers(1, 6),
    halo=st.integers(0, 6),
    more=st.integers(0, 6),
)
def test_blending_returns_what_all_windows_agree_on(first, frames, t, halo, more):
    """The weights are a partition of unity, for partial windows at both ends too."""
    with pytest.MonkeyPatch.context() as patch:
        da = states(frames, dtype="float64")
        job = use(patch, job_of(da, s=1, t=t), clock)
        job = cut(job, first, frames, core=max(halo, 1) + more + halo % 2, halo=halo)
        fine = run(job, da)[0]
    np.testing.assert_allclose(fine, clock_of_the_record(da, 1, t), atol=1e-5)


@settings(max_examples=25)
@given(
    n=st.integers(2, 30),
    t=st.integers(1, 4),
    calendar=st.sampled_from([None, "noleap"]),
)
def test_blending_of_unequal_months_returns_what_all_agree_on(n, t, calendar):
    """Frame numbers of months repeat and skip: windows have a frame more or less."""
    with pytest.MonkeyPatch.context() as patch:
        da = states(n, dtype="float64", step="month", calendar=calendar)
        job = use(patch, job_of(da, s=1, t=t), clock)
        edges = edges_of(da)
        step = int(np.median(np.diff(edges)))
        numbers = [int(edge) // step for edge in edges[:-1]]
        job = recut(job, numbers, core=3, halo=2)
        fine = run(job, da)[0]
    assert job.plan.frames == n
    expected = clock_of_the_record(da, 1, t)
    np.testing.assert_allclose(fine, expected, rtol=1e-6, atol=1e-3)


@settings(max_examples=25)
@given(
    rows=st.integers(2, 30),
    columns=st.integers(2, 30),
    pitch=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    s=st.sampled_from((4, 7, 12)),
    stride=st.sampled_from((1, 8, 64)),
)
def test_tiles_put_everything_in_its_place(rows, columns, pitch, s, stride):
    """Each pixel comes from one tile, and tiles know where they lie."""
    calls = []

    def counted(task):
        calls.append(task.origin)
        return clock(task)

    with pytest.MonkeyPatch.context() as patch:
        replace_draw(patch, "linear", counted)
        da = states(1, rows, columns)
        job = job_of(da, s, conserve="none")
        near = Reach(0, 12, stride=stride)
        down = tiles(rows, s, pitch[0], near)
        across = tiles(columns, s, pitch[1], near)
        job = replace(job, plan=replace(job.plan, rows=down, columns=across))
        fine = run(job, da)[0]
        lazy = da.chunk(lat=2).data
        later = upscale_blocks(job, lazy).compute(scheduler="synchronous")
    assert len(calls) == 2 * len(down) * len(across)
    np.testing.assert_allclose(fine, clock_of_the_record(da, s, 1), atol=1e-4)
    np.testing.assert_array_equal(later[0], fine)


@settings(max_examples=20)
@given(order=st.permutations(range(4)), t=st.integers(1, 3))
def test_realizations_do_not_depend_on_their_order(order, t):
    rng = np.random.default_rng(0)
    da = make(rng.gamma(0.5, 2.0, (5, 2, 3)), grid="metres", dtype="float64")
    job = job_of(da, t=t, method="rainfarm", realizations=4, seed=3)
    mixed = replace(job, request=replace(job.request, realizations=tuple(order)))
    np.testing.assert_array_equal(run(mixed, da), run(job, da)[list(order)])


def test_further_fields_are_drawn_with_their_own_stream(monkeypatch):
    def stream(task):
        return np.full((1, *task.shape), float(task.stream))

    da = states(9, dtype="float64")
    job = cut(use(monkeypatch, job_of(da, t=2), stream), 0, 9, core=4, halo=2)
    three = np.stack([da.values] * 3)
    fine = upscale_now(job, three)
    assert fine.shape == (1, 3, 18, 4, 6)
    for i in range(3):
        np.testing.assert_array_equal(fine[:, i], float(i))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["rate", "amount", "state"])
@pytest.mark.parametrize("method", ["linear", "nearest", "rainfarm"])
def test_dtype_is_kept_now_and_later(dtype, kind, method):
    da = make(shape=(5, 2, 3), kind=kind, dtype=dtype, grid="metres")
    # RainFARM is for rain
    options = {"method": "linear" if kind == "state" else method}
    fine = da.stsr.upscale(2, 2, **options)
    assert fine.dtype == dtype
    lazy = da.chunk(time=2).stsr.upscale(2, 2, **options)
    assert lazy.dtype == dtype
    assert lazy.compute(scheduler="synchronous").dtype == dtype


@pytest.mark.parametrize("units", ["K", "degC"])
def test_states_keep_their_means_below_zero_too(units):
    rng = np.random.default_rng(2)
    values = rng.normal(0, 5, (5, 3, 4)) + (273.15 if units == "K" else 0)
    da = make(values, kind="state", units=units, grid="metres", dtype="float64")
    fine = da.stsr.upscale(3, 2, method="linear")
    np.testing.assert_allclose(block_mean(fine.values, (2, 3, 3)), values, atol=1e-10)
    if units == "degC":
        assert float(fine.min()) < -5


@settings(max_examples=20)
@given(
    method=st.sampled_from(["linear", "rainfarm"]),
    kind=st.sampled_from(["rate", "amount"]),
    t=st.integers(1, 4),
    frames=st.integers(2, 30),
    taper=st.sampled_from([0.0, 0.3]),
)
def test_months_in_several_windows_keep_their_water(method, kind, t, frames, taper):
    rng = np.random.default_rng(frames)
    values = np.maximum(rng.gamma(0.5, 2.0, (frames, 2, 2)) - 0.3, 0)
    da = make(values, kind=kind, step="month", dtype="float64", grid="metres")
    job = job_of(da, s=2, t=t, method=method, recipe=Recipe(0.01, 3, taper))
    assert len(job.plan.windows) >= frames * t // 144
    fine = run(job, da)[0]
    length = np.diff(refine_edges(edges_of(da), t)).astype(float)[:, None, None]
    if kind == "rate":
        got = block_mean(fine, (t, 2, 2), length)
    else:
        got = block_mean(fine, (t, 2, 2)) * t
    np.testing.assert_allclose(got, values, rtol=1e-12)
    assert fine.min() >= 0


# oracles


def whole_record(da, s, t, method, **noise):
    """What a method gives for the record in one piece, dry where that is dry."""
    if method == "linear":
        raw = baselines.linear(da.values, (t, s, s))
    else:
        steps = refine_edges(edges_of(da), t)[:-1]
        raw = baselines.rainfarm(da.values, (t, s, s), steps=steps, **noise)
    return np.where(refine(da.values, (t, s, s)) == 0, 0.0, raw)


@pytest.mark.parametrize("t", [1, 3, 5])
def test_linear_over_windows_is_linear_over_the_record(t):
    rng = np.random.default_rng(0)
    values = np.maximum(rng.gamma(0.5, 2.0, (300 // t, 3, 3)) - 0.3, 0)
    da = make(values, grid="metres", dtype="float64")
    job = job_of(da, s=2, t=t, conserve="none")
    assert len(job.plan.windows) > 2
    expected = whole_record(da, 2, t, "linear")
    np.testing.assert_allclose(run(job, da)[0], expected, atol=1e-12)


@pytest.mark.parametrize("t", [1, 3])
def test_rainfarm_over_windows_is_rainfarm_over_the_record(t):
    rng = np.random.default_rng(0)
    values = np.maximum(rng.gamma(0.5, 2.0, (300 // t, 3, 3)) - 0.3, 0)
    da = make(values, grid="metres", dtype="float64")
    job = job_of(da, s=2, t=t, method="rainfarm", seed=5, conserve="none")
    assert len(job.plan.windows) > 2
    expected = whole_record(da, 2, t, "rainfarm", seed=5, realization=0)
    np.testing.assert_allclose(run(job, da)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("mode", ["cell", "window", "none"])
@pytest.mark.parametrize("length", [3, 4, 11])
def test_windows_one_by_one_give_the_whole(mode, length):
    """`draw` and `join` by hand, neighbours included, are what `upscale` does."""
    rng = np.random.default_rng(4)
    da = make(rng.gamma(0.5, 2.0, (11, 2, 3)), grid="metres", dtype="float64")
    job = cut(job_of(da, s=2, t=2, conserve=mode), 3, 11, core=4, halo=2)
    usual = run(job, da)
    job = replace(job, plan=replace(job.plan, length=length))
    drawn = {
        i: draw(job, da.values[surroundings(job, i, ONLY)], i, ONLY)
        for i in range(len(job.plan.windows))
    }
    pieces = []
    for frames in job.plan.chunks:
        wanted, sources = needed(job, frames)
        parts = {i: drawn[i] for i in sources}
        coarse = da.values[wanted.start : wanted.stop]
        pieces.append(join(job, frames, ONLY, parts, coarse))
    assert len(pieces) == -(-11 // length)
    whole = np.concatenate(pieces, axis=1)
    np.testing.assert_array_equal(whole, run(job, da))
    # chunks are joined apart, and hold what any other chunks hold
    np.testing.assert_allclose(whole, usual, rtol=1e-12)


def test_upscale_of_several_fields_is_that_of_each():
    rng = np.random.default_rng(5)
    one, two = (
        make(rng.gamma(0.5, 2.0, (20, 2, 3)), grid="metres", dtype="float64")
        for _ in range(2)
    )
    both = xr.concat([one, two], xr.Variable("height", [2.0, 10.0]))
    fine = both.stsr.upscale(2, 3, method="linear")
    for field, alone in zip(fine, (one, two), strict=True):
        np.testing.assert_array_equal(field, alone.stsr.upscale(2, 3, method="linear"))
