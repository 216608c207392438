"""The plan as a Dask graph: the same bits anywhere, small, lazy, and no more work."""

import multiprocessing
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import replace_draw, write_tiny_model
from tests.runs import local_client
from tests.strategies import make, make_dataset
from xstsr.cf.read import read_meaning
from xstsr.conservation.blocks import block_mean, map_blocks
from xstsr.errors import CostWarning, DataError
from xstsr.execution.graph import cut, gather
from xstsr.execution.run import upscale_blocks, upscale_now
from xstsr.methods import METHODS
from xstsr.methods.recipe import Recipe
from xstsr.planning.request import prepare

FRAMES, ROWS, COLUMNS = 110, 4, 5  # three windows and three chunks at t = 3
CHUNKS = [
    -1,
    {"time": 1},
    {"time": 7, "y": 3},
    {"x": 1},
    {"time": (1, 23, 2, 84), "y": 2, "x": (4, 1)},
    {"time": 44, "x": 2},
    {"y": 1, "x": 1},
]
SCHEDULERS = ["synchronous", "threads", "processes", "distributed"]


def rain(frames=FRAMES, *, seed=0, dtype="float32", **options):
    """Intermittent hourly rain that begins in the middle of a window."""
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.gamma(0.5, 2.0, (frames, ROWS, COLUMNS)) - 0.3, 0)
    da = make(values, grid="metres", dtype=dtype, **options)
    return da.assign_coords(time=da.time + np.timedelta64(5, "h"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def client():
    """Two worker processes."""
    with local_client() as client:
        yield client


@pytest.fixture(scope="module")
def pool():
    """Two processes that start once, for Dask's scheduler of that name."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


@pytest.fixture
def compute(request):
    """Compute several lazy fields at once, by the scheduler of that name."""

    def by(scheduler, fields):
        if scheduler == "distributed":
            scheduler = request.getfixturevalue("client")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return dask.compute(*fields, scheduler=scheduler)
        options = {"num_workers": 2} if scheduler == "threads" else {}
        if scheduler == "processes":
            options = {"pool": request.getfixturevalue("pool")}
        return dask.compute(*fields, scheduler=scheduler, **options)

    return by


# the same bits


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_rainfarm_has_the_same_bits_in_any_chunks_on_any_scheduler(compute, scheduler):
    da = rain()
    options = {"method": "rainfarm", "realizations": 2, "seed": 11}
    eager = da.stsr.upscale(3, 2, **options)
    lazy = [da.chunk(c).stsr.upscale(3, 2, **options) for c in CHUNKS]
    for chunks, field in zip(CHUNKS, compute(scheduler, lazy), strict=True):
        np.testing.assert_array_equal(field, eager, err_msg=f"chunks {chunks}")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_diffusion_has_the_same_bits_in_any_chunks_on_any_scheduler(
    compute, model, scheduler
):
    da = rain(23)  # two windows
    options = {"realizations": 2, "seed": 11, "model": model, "device": "cpu"}
    eager = da.stsr.upscale(2, 3, **options)
    chunks = (-1, {"time": 3}, {"time": 5, "x": 2, "y": 1}, {"y": 3}, {"x": 1}, 2)
    lazy = [da.chunk(c).stsr.upscale(2, 3, **options) for c in chunks]
    assert windows_of(da, 3) == 2
    for field in compute(scheduler, lazy):
        np.testing.assert_array_equal(field, eager)


@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_further_dimensions_may_be_chunked_too(method):
    two = xr.concat([rain(), rain(seed=1)], xr.Variable("scenario", ["a", "b"]))
    eager = two.stsr.upscale(2, 3, method=method)
    lazy = two.chunk(scenario=1, time=9).stsr.upscale(2, 3, method=method)
    assert lazy.dims == two.dims
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), eager)


@pytest.mark.parametrize("order", [("x", "y", "time"), ("y", "time", "x")])
def test_dims_in_any_order_have_the_same_bits(order):
    da = rain()
    eager = da.stsr.upscale(2, 3, method="linear")
    lazy = da.transpose(*order).chunk(y=2, time=10).stsr.upscale(2, 3, method="linear")
    assert lazy.dims == order
    values = lazy.transpose(*eager.dims).compute(scheduler="synchronous")
    np.testing.assert_array_equal(values, eager)


@settings(max_examples=12)
@given(
    data=st.data(),
    frames=st.integers(2, 40),
    t=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_linear_has_the_same_bits_in_any_chunks(data, frames, t, dtype):
    da = rain(frames, dtype=dtype)
    chunks = {
        dim: tuple(data.draw(composition(n), label=dim)) for dim, n in da.sizes.items()
    }
    eager = da.stsr.upscale(2, t, method="linear")
    lazy = da.chunk(chunks).stsr.upscale(2, t, method="linear")
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), eager)


@st.composite
def composition(draw, n):
    """Write n as a sum of positive numbers: the chunks of an axis."""
    cuts = draw(st.sets(st.integers(1, n - 1))) if n > 1 else set()
    ends = [0, *sorted(cuts), n]
    return [b - a for a, b in pairwise(ends)]


def test_negative_rain_is_refused_where_it_is_computed():
    da = rain(300)
    da[-1, 1, 1] = -1.5
    lazy = da.chunk(time=8).stsr.upscale(2, 2, method="linear")
    with pytest.raises(DataError, match=r"smallest value is -1\.5"):
        lazy.compute(scheduler="synchronous")
    # a part that does not need the frame is fine
    assert lazy[:10].compute(scheduler="synchronous").shape == (10, 8, 10)


# the graph


def lazy_zeros(frames, rows=4, columns=5, chunk=6):
    """A chunked field that holds no data, so that what is left is the graph."""
    da = make(np.zeros((frames, 1, 1)), grid="metres").isel(y=0, x=0, drop=True)
    data = dask.array.zeros((frames, rows, columns), chunks=chunk, dtype="float32")
    coords = make(shape=(2, rows, columns), grid="metres").coords
    coords = {"time": da.time, "y": coords["y"], "x": coords["x"]}
    attrs = make().attrs
    return xr.DataArray(data, coords, ("time", "y", "x"), name="pr", attrs=attrs)


def windows_of(da, t):
    return len(da.stsr.plan(2, t, method="rainfarm").job.plan.windows)


def units_of(da, s, t, **options):
    """Windows to draw, over all tiles and groups of realizations."""
    return da.stsr.plan(s, t, **options).tasks


@pytest.mark.parametrize("chunk", [-1, (40, 2, 3), (500, 4, 5)])
def test_graph_has_at_most_three_tasks_a_window(chunk):
    options = {"method": "rainfarm", "realizations": 11}
    da = lazy_zeros(2000, chunk=chunk)
    fine = da.stsr.upscale(2, 3, **options)
    ours = len(fine.__dask_graph__()) - len(da.__dask_graph__())
    assert units_of(da, 2, 3, **options) == 3 * 43  # groups of 4, 4 and 3
    assert ours <= 3 * units_of(da, 2, 3, **options)
    (optimised,) = dask.optimize(fine)
    assert len(dict(optimised.__dask_graph__())) <= ours + len(da.__dask_graph__())


def test_one_field_has_at_most_three_tasks_a_window():
    da = lazy_zeros(2000, chunk=-1)
    fine = da.stsr.upscale(2, 3, method="rainfarm")
    ours = len(fine.__dask_graph__()) - len(da.__dask_graph__())
    assert ours <= 3 * windows_of(da, 3)


@pytest.mark.parametrize("frames", [20, 200, 2000])
@pytest.mark.parametrize("rows", [4, 2000])
def test_graph_is_small(frames, rows):
    """20 kB and 2 kB a window, and the edges of the cells."""
    options = {"method": "rainfarm", "realizations": 50}
    da = lazy_zeros(frames, rows, chunk=-1)
    fine = da.stsr.upscale(2, 3, **options)
    size = len(pickle.dumps(dict(fine.__dask_graph__())))
    edges = 8 * (frames + rows + 5 + 3)
    assert size - edges < 20_000 + 2_000 * units_of(da, 2, 3, **options)


def test_graph_is_as_small_for_a_model(model):
    da = lazy_zeros(400, chunk=100)
    fine = da.stsr.upscale(2, 3, model=model, device="cpu")
    size = len(pickle.dumps(dict(fine.__dask_graph__())))
    assert size < 20_000 + 2_000 * windows_of(da, 3)


def test_graph_has_the_same_keys_when_it_is_built_again():
    options = {"method": "rainfarm", "seed": 3}
    first, second = (
        rain().chunk(time=8).stsr.upscale(2, 3, **options) for _ in range(2)
    )
    assert first.data.name == second.data.name
    assert set(first.__dask_graph__()) == set(second.__dask_graph__())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"method": "linear"},
        {"conserve": "window"},
        {"recipe": Recipe(0.01, 3, taper=0.2)},
        {"realizations": 2},
        {"t": 2},
        {"s": 3},
    ],
)
def test_other_requests_share_no_results(change):
    """Were keys the same, a cluster would hand out the result of another request."""
    da = rain().chunk(time=8)
    usual = {"s": 2, "t": 3, "method": "rainfarm", "seed": 3}
    one, other = da.stsr.upscale(**usual), da.stsr.upscale(**usual | change)
    ours = [
        {k for k in field.__dask_graph__() if str(k).startswith(("xstsr", "('xstsr"))}
        for field in (one, other)
    ]
    assert ours[0]
    assert not ours[0] & ours[1]
    together = dask.compute(one, other, scheduler="synchronous")
    alone = other.compute(scheduler="synchronous")
    np.testing.assert_array_equal(together[1], alone)


def test_result_has_equal_chunks_of_a_window():
    """Zarr wants equal ones; the plan alone tells them, not the input's chunks."""
    fields = [
        rain().chunk(c).stsr.upscale(2, 3, method="rainfarm", realizations=6)
        for c in ({"time": 2}, {"y": 1, "x": 2})
    ]
    assert fields[0].chunks == fields[1].chunks
    lead, lengths, *space = fields[0].chunks
    assert (lead, *space) == ((4, 2), (2 * ROWS,), (2 * COLUMNS,))
    assert lengths == (144, 144, 42)  # 48 frames of three
    assert isinstance(fields[0].data._meta, np.ndarray)


# laziness


def test_nothing_is_computed_by_building(no_compute):
    da = rain().chunk(time=4, y=2)
    with no_compute():
        fine = da.stsr.upscale(2, 3, method="rainfarm", realizations=2)
        back = fine.stsr.coarsen(2, 3)
        part = fine.sel(time=slice("2001-01-01T06", "2001-01-02"))
        again = back.stsr.upscale(4, method="linear")
        da.stsr.plan(2, 3, method="linear")
        repr(fine)
    assert all(field.chunks for field in (fine, back, part, again))


def test_dataset_with_lazy_bounds_is_not_computed(no_compute):
    ds = make_dataset("rotated", shape=(8, 3, 4)).chunk(time=2)
    with no_compute():
        fine = ds.stsr.upscale("pr", 2, 2, method="linear")
        back = fine.stsr.coarsen("pr", 2, 2)
    assert all(field.pr.chunks for field in (fine, back))
    np.testing.assert_allclose(back.pr, ds.pr, rtol=1e-6)


def test_lazy_negative_values_are_not_looked_for(no_compute):
    with no_compute():
        (rain().chunk(time=4) - 1).assign_attrs(rain().attrs).stsr.upscale(
            2, 2, method="linear"
        )


@pytest.fixture
def calls(monkeypatch):
    """First time of every window that is drawn, as hours from the start of 2001."""
    found = []
    linear = METHODS["linear"].draw
    start = np.datetime64("2001-01-01", "us").astype(int)

    def counted(task):
        found.append(int((task.times[0] - start) // 3_600_000_000))
        return linear(task)

    replace_draw(monkeypatch, "linear", counted)
    return found


def test_every_window_is_drawn_once(calls):
    da = rain().chunk(time=3)
    fine = da.stsr.upscale(2, 3, method="linear")
    fine.compute(scheduler="synchronous")
    windows = windows_of(da, 3)
    assert len(calls) == len(set(calls)) == windows
    calls.clear()
    rain().stsr.upscale(2, 3, method="linear")
    assert len(calls) == windows


@pytest.mark.parametrize("chunk", [0, 4, 8])
def test_time_slice_draws_only_the_windows_that_it_needs(calls, chunk):
    da = rain(432)
    fine = da.chunk(time=3).stsr.upscale(2, 3, method="linear")
    plan = da.stsr.plan(2, 3, method="linear").job.plan
    ends = np.cumsum([0, *fine.chunks[0]])
    assert len(ends) == 10
    whole = da.stsr.upscale(2, 3, method="linear")
    calls.clear()
    first, last = ends[chunk : chunk + 2]
    part = fine.isel(time=slice(first, last)).compute(scheduler="synchronous")
    needed = [
        w
        for w in plan.windows
        if 3 * (w.core_start - 1) < last and 3 * (w.core_stop + 1) > first
    ]
    assert 2 <= len(needed) <= 4
    assert sorted(calls) == [5 + w.start for w in needed]
    np.testing.assert_array_equal(part, whole[first:last])


def test_each_chunk_is_read_once_and_only_where_it_is_needed():
    da = rain(480)
    read = []

    def loud(block, block_info=None):
        read.append(block_info[0]["array-location"][0])
        return block

    chunked = da.chunk(time=10)
    data = dask.array.map_blocks(loud, chunked.data, dtype=da.dtype, meta=da.data[:0])
    fine = chunked.copy(data=data).stsr.upscale(2, 3, method="linear")
    fine[:30].compute(scheduler="synchronous")
    assert len(read) == len(set(map(tuple, read)))
    assert max(stop for _, stop in read) <= 120
    read.clear()
    fine.compute(scheduler="synchronous")
    assert sorted(start for start, _ in read) == list(range(0, 480, 10))


def test_extreme_time_slices_give_the_bits_of_the_whole():
    da = rain(60)
    whole = da.stsr.upscale(2, 3, method="rainfarm", seed=1)
    lazy = da.chunk(time=5).stsr.upscale(2, 3, method="rainfarm", seed=1)
    for part in (slice(0, 1), slice(179, 180), slice(53, 60), slice(0, 180, 17)):
        values = lazy[part].compute(scheduler="synchronous")
        np.testing.assert_array_equal(values, whole[part])


# map_blocks and coarsen


@settings(max_examples=40)
@given(
    data=st.data(),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    factor=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
)
def test_map_blocks_of_any_chunks_equals_eager(data, cells, factor):
    shape = (2, *(n * f for n, f in zip(cells, factor, strict=True)))
    fine = np.random.default_rng(0).normal(size=shape)
    chunks = tuple(tuple(data.draw(composition(n))) for n in shape)

    def average(block, place):
        """A mean that also looks up where it is, as weights do."""
        assert [p.stop - p.start for p in place] == list(block.shape[-3:])
        assert all(p.start % f == 0 for p, f in zip(place, factor, strict=True))
        spots = np.ix_(*(np.arange(p.start, p.stop) for p in place))
        return block_mean(block + sum(100.0 * i for i in spots), factor)

    lazy = map_blocks(average, dask.array.from_array(fine, chunks), factor)
    assert lazy.shape == (2, *cells)
    eager = map_blocks(average, fine, factor)
    np.testing.assert_allclose(lazy.compute(scheduler="synchronous"), eager, 1e-13)


def test_map_blocks_keeps_chunks_that_hold_whole_blocks():
    fine = dask.array.zeros((12, 6, 6), chunks=(6, 3, 6), dtype="float32")
    means = map_blocks(lambda block, _: block_mean(block, (3, 3, 3)), fine, (3, 3, 3))
    assert means.chunks == ((2, 2), (1, 1), (2,))
    assert means.dtype == np.float32


def test_map_blocks_merges_chunks_smaller_than_a_block():
    fine = dask.array.ones((12, 4, 4), chunks=(1, 1, 1))
    means = map_blocks(lambda block, _: block_mean(block, (4, 2, 4)), fine, (4, 2, 4))
    assert means.chunks == ((1, 1, 1), (1, 1), (1,))
    np.testing.assert_array_equal(means.compute(scheduler="synchronous"), 1.0)


@settings(max_examples=25)
@given(
    data=st.data(),
    kind=st.sampled_from(["rate", "amount", "state"]),
    step=st.sampled_from([3_600_000_000, "month"]),
    s=st.integers(1, 3),
    t=st.integers(1, 4),
)
def test_coarsen_of_any_chunks_equals_eager(data, kind, step, s, t):
    rng = np.random.default_rng(1)
    values = rng.gamma(0.5, 2.0, (2 * t, 2 * s, 3 * s))
    values[rng.random(values.shape) < 0.2] = np.nan
    fine = make(values, kind=kind, step=step, dtype="float64")
    if fine.sizes["time"] < 2 or fine.sizes["lat"] < 2:
        return
    chunks = {d: tuple(data.draw(composition(n))) for d, n in fine.sizes.items()}
    lazy = fine.chunk(chunks).stsr.coarsen(s, t)
    eager = fine.stsr.coarsen(s, t)
    xr.testing.assert_allclose(lazy.compute(scheduler="synchronous"), eager, rtol=1e-12)
    assert lazy.attrs.keys() == eager.attrs.keys()


@pytest.mark.parametrize("mode", ["cell", "window", "none"])
def test_upscale_blocks_and_upscale_now_are_one_function(mode):
    da = rain(110, dtype="float64")
    meaning = read_meaning(da)
    job = prepare(meaning, 2, 3, method="rainfarm", realizations=2, conserve=mode)
    values = np.stack([da.values, 2 * da.values])
    now = upscale_now(job, values)
    later = upscale_blocks(job, dask.array.from_array(values, chunks=(1, 4, 2, 2)))
    assert now.shape == later.shape == (2, 2, 330, 2 * ROWS, 2 * COLUMNS)
    np.testing.assert_array_equal(later.compute(scheduler="synchronous"), now)


# the input's chunks


def test_very_many_chunks_are_told(monkeypatch):
    monkeypatch.setattr("xstsr.execution.run.MANY_CHUNKS", 100)
    da = rain(60).chunk(time=1, y=2, x=2)
    with pytest.warns(CostWarning, match=r"takes \d{3} chunks of the input.*\d+ times"):
        da.stsr.upscale(2, 3, method="linear")


def test_chunk_that_fills_the_memory_is_told(monkeypatch):
    monkeypatch.setattr("xstsr.execution.run.available_bytes", lambda: 10_000)
    with pytest.warns(CostWarning, match=r"chunk of the input takes 8\.59 KiB of mem"):
        rain().chunk(-1).stsr.upscale(2, 3, method="linear")


@given(data=st.data(), shape=st.tuples(*[st.integers(1, 9)] * 4))
def test_gather_cuts_what_is_asked_for(data, shape):
    """Any box of any chunks, for fields with a further dimension."""
    values = np.arange(np.prod(shape)).reshape(shape)
    chunks = tuple(tuple(data.draw(composition(n))) for n in shape)
    ends = [np.cumsum(sizes) for sizes in chunks]
    at = data.draw(st.integers(0, shape[0] - 1))
    box = []
    for n in shape[1:]:
        start = data.draw(st.integers(0, n - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, n))))
    keys, *rest = cut("source", ends, (at,), box)
    array = dask.array.from_array(values, chunks)
    blocks = [
        [[array.blocks[key[1:]].compute(scheduler="sync") for key in row] for row in p]
        for p in keys
    ]
    np.testing.assert_array_equal(gather(blocks, *rest), values[(at, *box)])
