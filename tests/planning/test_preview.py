"""The plan as a card: shapes, bytes and notes that come true."""

import json
from html.parser import HTMLParser

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.models import write_tiny_model
from tests.strategies import HOUR, cf_dataarrays, factors, make, make_dataset
from xstsr.cf.read import read_meaning
from xstsr.errors import AssumptionWarning, CFError, FactorError, XstsrError
from xstsr.memory import PROCESS, evaluation_bytes
from xstsr.methods.recipe import Recipe
from xstsr.planning.preview import COPIES, PIXELS_PER_SECOND, PIXELS_PER_SECOND_AT_ONCE

GRIDDED = {"grid": "metres", "method": "linear"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def told(preview):
    return dict(preview.lines)


# closed form


def test_shape_and_bytes_are_those_of_the_fine_grid():
    preview = make(shape=(6, 5, 4)).stsr.plan(10, 3, method="linear")
    assert preview.shape == (1, 18, 50, 40)
    assert preview.nbytes == 18 * 50 * 40 * 4
    assert told(preview)["result"] == "(1, 18, 50, 40) 141 KiB"


def test_realizations_and_further_dimensions_count():
    da = make(shape=(6, 5, 4), dtype="float64")
    da = da.expand_dims(scenario=3, height=2)
    preview = da.stsr.plan(2, 3, method="rainfarm", realizations=7)
    assert preview.shape == (7, 3, 2, 18, 10, 8)
    assert preview.nbytes == 7 * 3 * 2 * 18 * 10 * 8 * 8


def test_realizations_of_other_methods_are_one():
    assert make().stsr.plan(2, method="linear").shape[0] == 1


def test_card_tells_grids_and_steps():
    da = make(grid="km", step=3 * HOUR, shape=(4, 3, 5))
    lines = told(da.stsr.plan(4, 3, method="nearest"))
    assert lines["coarse grid"] == "1 km, 180 min"
    assert lines["fine grid"] == "0.25 km, 60 min"
    assert lines["quantity"] == "rate [mm h-1]"
    assert lines["method"] == "nearest"
    assert lines["time labels"] == "left of the step"
    assert lines["calendar"] == "standard"
    assert lines["tiles"] == "1 x 1"
    assert lines["windows"] == "1 in time"


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_card_tells_the_calendar(calendar):
    assert (
        told(make(calendar=calendar).stsr.plan(2, method="linear"))["calendar"]
        == calendar
    )


@pytest.mark.parametrize("kind", ["rate", "amount", "state"])
def test_card_tells_the_kind(kind):
    preview = make(kind=kind).stsr.plan(2, method="linear")
    assert told(preview)["quantity"].startswith(f"{kind} [")
    assert preview.to_dict()["kind"] == kind


def test_time_is_told_for_networks_only(model):
    da = make(shape=(6, 5, 4))
    assert da.stsr.plan(2, 3, method="linear").seconds == 0.0
    assert "time" not in told(da.stsr.plan(2, 3, method="linear"))
    # one window of 18 by 10 by 8 pixels; one evaluation of the mean, and 5 for each
    # of 4 samples
    pixels = 18 * 10 * 8
    mean = da.stsr.plan(2, 3, method="mean", model=model)
    assert mean.seconds == pytest.approx(pixels / PIXELS_PER_SECOND)
    drawn = da.stsr.plan(2, 3, realizations=4, steps=5, model=model)
    assert drawn.seconds == pytest.approx(21 * pixels / PIXELS_PER_SECOND)
    # six realizations are drawn by two tasks, each with a mean of its own
    more = da.stsr.plan(2, 3, realizations=6, steps=5, model=model)
    assert more.seconds == pytest.approx(32 * pixels / PIXELS_PER_SECOND)
    assert "on two CPU cores" in told(drawn)["time"]


def test_time_of_the_generator_counts_the_mean_where_it_is_needed(tmp_path):
    da, name = make(shape=(6, 5, 4)), write_tiny_model(tmp_path)
    pixels = 18 * 10 * 8
    call = {"method": "generator", "model": name, "realizations": 4}
    drawn = da.stsr.plan(2, 3, **call)
    assert drawn.seconds == pytest.approx(4 * pixels / PIXELS_PER_SECOND_AT_ONCE)
    wide = da.stsr.plan(2, 3, recipe=Recipe(1.0, 3), **call)
    more = wide.seconds - drawn.seconds
    assert more == pytest.approx(pixels / PIXELS_PER_SECOND)


def test_memory_of_a_window_counts_what_is_drawn_and_the_network(model):
    da = make(shape=(6, 5, 4))
    linear = da.stsr.plan(2, 3, method="linear")
    assert linear.window_bytes == (COPIES + 1) * linear.nbytes
    mean = da.stsr.plan(2, 3, method="mean", model=model, device="cpu")
    assert mean.device_bytes == evaluation_bytes(18 * 10 * 8)
    assert mean.window_bytes == linear.window_bytes + mean.device_bytes
    assert mean.process_bytes == mean.window_bytes + PROCESS
    assert linear.device_bytes == 0


def test_memory_of_a_gpu_is_not_the_hosts(model, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    da = make(shape=(6, 5, 4))
    linear = da.stsr.plan(2, 3, method="linear")
    there = da.stsr.plan(2, 3, model=model, device="cuda")
    assert there.window_bytes == linear.window_bytes
    assert there.device_bytes == evaluation_bytes(18 * 10 * 8)


def test_memory_of_a_window_does_not_grow_with_the_realizations():
    da = make(shape=(6, 5, 4))
    few, many = (
        da.stsr.plan(2, 3, method="rainfarm", realizations=n) for n in (4, 400)
    )
    assert few.window_bytes == many.window_bytes
    assert many.tasks == 100 * few.tasks
    assert many.chunks[0] == (4,) * 100


def test_memory_of_a_window_does_not_grow_with_the_frame(model):
    tile, continent = (
        make(shape=(6, n, n), grid="metres").stsr.plan(10, 3, model=model, device="cpu")
        for n in (60, 700)
    )
    assert continent.window_bytes < 1.3 * tile.window_bytes
    assert continent.process_bytes < 4 * 2**30


def test_a_fine_frame_of_2000_by_2000_fits_in_4_gibibytes():
    """By the default model, whose tiles are larger than the tests'."""
    da = make(shape=(200, 200, 200), grid="metres")
    da = da.assign_coords(y=10 * da.y, x=10 * da.x)
    preview = da.stsr.plan(10, 3, realizations=4, device="cpu")
    assert preview.shape == (4, 600, 2000, 2000)
    assert preview.process_bytes < 4 * 2**30
    assert len(preview.job.plan.rows) > 1


def test_memory_of_a_window_does_not_grow_with_the_record():
    days, years = (make(shape=(n, 2, 2)) for n in (200, 2000))
    short, long = (da.stsr.plan(2, 3, method="linear") for da in (days, years))
    assert short.window_bytes == long.window_bytes
    assert long.nbytes == 10 * short.nbytes


def test_notes_of_the_metadata_are_on_the_card():
    da = make(cell_methods=None)
    with pytest.warns(AssumptionWarning, match="no cell_methods in time"):
        preview = da.stsr.plan(2, method="linear")
    notes = [value for label, value in preview.lines if label == "note"]
    assert any("no cell_methods in time" in note for note in notes)
    assert preview.to_dict()["notes"] == notes


def test_dictionary_is_ready_for_json():
    da = make(shape=(6, 5, 4), grid="km", calendar="noleap")
    preview = da.stsr.plan(5, 2, method="rainfarm", realizations=3)
    found = json.loads(json.dumps(preview.to_dict()))
    assert found["factor"] == {"s": 5, "t": 2}
    assert found["shape"] == [3, 12, 25, 20]
    assert found["bytes"] == preview.nbytes
    assert found["coarse"]["shape"] == [6, 5, 4]
    assert found["fine"]["shape"] == [12, 25, 20]
    assert found["fine"]["spacing_km"] == pytest.approx(0.2)
    assert found["fine"]["step_minutes"] == pytest.approx(30)
    assert found["realizations"] == [0, 1, 2]
    assert (found["calendar"], found["method"]) == ("noleap", "rainfarm")
    assert found["conserve"] == "cell"


class Table(HTMLParser):
    """Collect the header cells of a page."""

    def __init__(self):
        super().__init__()
        self.labels, self.inside = [], False

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "th"

    def handle_data(self, data):
        if self.inside:
            self.labels.append(data)
            self.inside = False


def test_card_is_text_and_html():
    preview = make(name="a<b").stsr.plan(2, method="linear")
    assert repr(preview).splitlines()[0] == "Plan for 'a<b'"
    page = preview._repr_html_()
    parser = Table()
    parser.feed(page)
    assert parser.labels == [label for label, _ in preview.lines]
    assert "a&lt;b" in page
    assert len(repr(preview).splitlines()) == len(preview.lines) + 1


# properties


@settings(max_examples=30)
@given(
    da=cf_dataarrays(),
    factor=factors(),
    method=st.sampled_from(["linear", "nearest", "rainfarm"]),
    count=st.sampled_from([None, 3]),
)
def test_plan_tells_what_upscale_does(da, factor, method, count):
    s, t = factor
    assume(method != "rainfarm" or read_meaning(da).kind != "state")
    options = {"method": method}
    if method == "rainfarm":
        options["realizations"] = count
    preview = da.stsr.plan(s, t, **options)
    lazy = da.chunk(-1).stsr.upscale(s, t, **options)
    assert preview.nbytes == lazy.nbytes
    drawn = lazy if "realization" in lazy.dims else lazy.expand_dims("realization")
    lead = [d for d in drawn.dims if d not in da.dims]
    ordered = drawn.transpose(*lead, "time", *make_order(da))
    assert preview.shape == ordered.shape
    assert preview.chunks == ordered.chunks
    assert preview.chunk_bytes <= preview.nbytes


def make_order(da):
    """y before x, whatever the order of the field."""
    y = next(d for d in ("lat", "y", "rlat") if d in da.dims)
    x = next(d for d in ("lon", "x", "rlon") if d in da.dims)
    return y, x


def test_nothing_is_computed(no_compute):
    da = make(shape=(48, 3, 4)).chunk(time=5)
    with no_compute():
        preview = da.stsr.plan(2, 3, method="rainfarm", realizations=2)
        repr(preview)
        preview._repr_html_()
        preview.to_dict()
    assert preview.shape == (2, 144, 6, 8)


def test_plan_of_a_dataset_reads_its_bounds():
    ds = make_dataset("metres", label="right", shape=(5, 3, 4))
    preview = ds.stsr.plan("pr", 2, 3, method="linear")
    assert told(preview)["time labels"] == "right of the step"
    assert preview.shape == (1, 15, 6, 8)


# errors: those of upscale


def test_plan_refuses_what_upscale_refuses():
    da = make()
    with pytest.raises(FactorError, match=r"s=0"):
        da.stsr.plan(0, method="linear")
    with pytest.raises(XstsrError, match=r"method='cubic'"):
        da.stsr.plan(2, method="cubic")
    with pytest.raises(XstsrError, match=r"realizations=3.*'linear'"):
        da.stsr.plan(2, method="linear", realizations=3)
    with pytest.raises(CFError, match="cannot split the single time"):
        da[:1].stsr.plan(2, 2, method="linear")


def test_previews_are_told_apart_by_identity():
    """They hold arrays, whose equality has no single truth value."""
    da = make()
    first, second = (da.stsr.plan(2, method="linear") for _ in range(2))
    assert len({first, second, first}) == 2
