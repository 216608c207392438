"""`xstsr upscale` in pipelines: files, clusters, stops, plans and logs."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result

from tests.strategies import make_dataset
from xstsr.cli import batch, console
from xstsr.cli.main import main
from xstsr.errors import DataError, StoppedError
from xstsr.files import open_files
from xstsr.storage.journal import Journal

OPTIONS = ("--var", "pr", "-s", 2, "-t", 3, "--method", "linear")


def xstsr(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def whole():
    return make_dataset(shape=(100, 3, 4))


@pytest.fixture
def pieces(tmp_path, whole):
    """The record in three files, whose names are not in the order of time."""
    paths = []
    for name, start, stop in (("b", 0, 30), ("c", 30, 31), ("a", 31, 100)):
        paths.append(tmp_path / "in" / f"{name}.nc")
        paths[-1].parent.mkdir(exist_ok=True)
        part = whole.isel(time=slice(start, stop))
        part["time"].encoding["units"] = f"minutes since 2000-0{start % 7 + 1}-01"
        part.to_netcdf(paths[-1])
    return paths


def save(ds: xr.Dataset, path: Path) -> Path:
    ds["time"].encoding["units"] = "minutes since 2000-01-01"
    ds.to_netcdf(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# files


def test_files_are_joined_in_time(pieces, whole):
    joined, name = open_files(pieces)
    assert name == "pr"
    assert joined.pr.chunks is not None
    xr.testing.assert_equal(joined.compute(), whole)


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_pattern_gives_what_the_whole_record_gives(tmp_path, pieces, whole, suffix):
    target = tmp_path / f"out.{suffix}"
    done = xstsr("upscale", tmp_path / "in" / "*.nc", target, *OPTIONS)
    assert done.exit_code == 0, done.output
    expected = whole.stsr.upscale("pr", 2, 3, method="linear")
    with xr.open_dataset(target) as made:
        np.testing.assert_array_equal(made.pr, expected.pr)
        np.testing.assert_array_equal(made.time_bnds, expected.time_bnds)
        assert ("xstsr_call" in made.attrs) == (suffix == "zarr")
    assert names(tmp_path) == ["in", target.name]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ds: ds.isel(lat=slice(2)), r"b\.nc' to .*grid: 2 cells along 'lat'"),
        (lambda ds: ds.assign_coords(lon=ds.lon + 0.5), r"other values of 'lon'"),
        (lambda ds: ds.transpose("lat", ...), r"dimensions are \('lat', 'time', 'lon"),
        (lambda ds: ds.assign(pr=ds.pr.assign_attrs(units="m s-1")), r"units: 'm s-1'"),
        (
            lambda ds: ds.convert_calendar("noleap", use_cftime=True),
            r"calendar: 'noleap', not 'proleptic_gregorian'",
        ),
        (lambda ds: ds.isel(time=slice(0)), r"b\.nc': its variable 'pr' has no times"),
        (
            lambda ds: ds.assign(pr=ds.pr.assign_attrs(standard_name="snowfall_flux")),
            "standard_name: 'snowfall_flux', not",
        ),
        (lambda ds: ds.drop_vars("time_bnds"), "bounds: only one has those of 'time'"),
        (lambda ds: ds, r"b\.nc' to .*one begins at .* do not overlap in time"),
    ],
)
def test_files_that_disagree_are_named_before_anything_is_written(
    tmp_path, whole, change, told
):
    paths = [save(whole, tmp_path / "a.nc"), tmp_path / "b.nc"]
    later = whole.assign_coords(time=whole.time + np.timedelta64(99, "h"))
    save(change(later), paths[1])
    done = xstsr("upscale", *paths, tmp_path / "out.zarr", *OPTIONS)
    assert done.exit_code == 2
    with pytest.raises(DataError, match=told):
        open_files(paths)
    assert names(tmp_path) == ["a.nc", "b.nc"]


def test_files_on_other_projections_or_cells_are_refused(tmp_path):
    one = make_dataset("metres", shape=(4, 3, 5))
    later = one.assign_coords(time=one.time + np.timedelta64(4, "h"))
    later["time_bnds"] = one.time_bnds + np.timedelta64(4, "h")
    moved = later.copy()
    moved["crs"] = later.crs.assign_attrs(false_easting=1.0)
    edges = np.stack([one.x - 500, one.x + 500], axis=1)
    one, cells = (
        ds.assign(x_bnds=(("x", "bnds"), edges + by))
        for ds, by in ((one, 0), (later, 1))
    )
    cells.x.attrs["bounds"] = one.x.attrs["bounds"] = "x_bnds"
    paths = [save(one, tmp_path / "a.nc"), save(moved, tmp_path / "b.nc")]
    with pytest.raises(DataError, match=r"projection: other attributes of 'crs'"):
        open_files(paths)
    with pytest.raises(DataError, match=r"bounds: other values of those of 'x'"):
        open_files([paths[0], save(cells, tmp_path / "c.nc")])


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_source_is_not_replaced(tmp_path, whole, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".nc":
        save(whole, path)
    else:
        whole.to_zarr(path, zarr_format=2)
    done = xstsr("upscale", path, path, *OPTIONS, "--overwrite")
    assert done.exit_code == 2
    assert "it is what is read, and would be lost" in done.stderr
    with xr.open_dataset(path) as kept:
        assert kept.sizes == whole.sizes


def test_full_disk_stops_the_copy_into_a_file(tmp_path, pieces, monkeypatch):
    def no_space(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("xstsr.cli.batch.write", no_space)
        done = xstsr("upscale", *pieces, tmp_path / "o.nc", *OPTIONS)
    assert done.exit_code == 3
    assert "cannot be copied into" in done.stderr
    done = xstsr("upscale", *pieces, tmp_path / "o.nc", *OPTIONS, "--resume")
    assert done.exit_code == 0
    assert (tmp_path / "o.nc").exists()


def test_pattern_without_files_is_refused(tmp_path):
    done = xstsr("upscale", tmp_path / "*.nc", tmp_path / "out.zarr", "-s", 2)
    assert done.exit_code == 2
    assert "matches nothing" in done.stderr


def test_chunks_of_the_input_are_chosen(pieces):
    joined, _ = open_files(pieces[:1], chunks={"time": 7, "lat": 2})
    assert joined.pr.chunks == ((7, 7, 7, 7, 2), (2, 1), (4,))
    with pytest.raises(DataError, match=r"along \['depth'\].*'time', 'lat', 'lon'"):
        open_files(pieces, chunks={"depth": 1})


@pytest.mark.parametrize("text", ["24", "time=all", "time=1=2"])
def test_unreadable_chunks_are_refused(tmp_path, pieces, text):
    done = xstsr("upscale", *pieces, tmp_path / "o.zarr", *OPTIONS, "--chunks", text)
    assert done.exit_code == 2
    assert "is not like time=24,lat=100" in done.stderr


# plans


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path, pieces, no_compute, form):
    command = ("upscale", *pieces, tmp_path / "out.zarr", *OPTIONS, "--dry-run")
    with no_compute():
        done = xstsr(*command, "--chunks", "time=24", *form)
    assert done.exit_code == 0, done.output
    assert "300" in done.stdout
    if form:
        assert json.loads(done.stdout)["shape"] == [1, 300, 6, 8]
    assert names(tmp_path) == ["in"]


# stops


@pytest.fixture
def failing(monkeypatch):
    """Run with a disk that is full after one block."""
    note, count, lock = Journal.note, 0, threading.Lock()

    def fail(self, *block):
        nonlocal count
        with lock:  # the first block is noted before another one fails
            count += 1
            if count > 1:
                raise OSError("No space left on device")
            note(self, *block)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "note", fail)
        yield patch


@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_stopped_run_exits_3_and_goes_on(tmp_path, pieces, whole, failing, suffix):
    target = tmp_path / f"out.{suffix}"
    command = ("upscale", *pieces, target, *OPTIONS)
    done = xstsr(*command)
    assert done.exit_code == 3, done.output
    assert "stopped after 1 of 3 windows" in done.stderr
    assert not target.exists()
    failing.undo()
    refused = xstsr(*command)
    assert refused.exit_code == 2
    assert "holds a run that was stopped. Pass" in refused.stderr
    done = xstsr(*command, "--resume", "--log-format", "json")
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert told[0]["event"] == "progress"
    # another thread may have ended its window after the run was stopped
    assert 1 <= told[0]["done"] < told[0]["total"] == 3
    with xr.open_dataset(target) as made:
        expected = whole.stsr.upscale("pr", 2, 3, method="linear")
        np.testing.assert_array_equal(made.pr, expected.pr)
    assert names(tmp_path) == ["in", target.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_a_run_that_can_be_resumed(
    request, tmp_path, pieces, monkeypatch, number
):
    # a shell that runs us in the background lets us ignore this one
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, usual))
    before = signal.getsignal(signal.SIGTERM)

    def refine(*_, **__):
        os.kill(os.getpid(), number)
        threading.Event().wait(5)

    monkeypatch.setattr(batch, "to_zarr", refine)
    done = xstsr("upscale", *pieces, tmp_path / "out.zarr", *OPTIONS)
    assert done.exit_code == 3
    assert "stopped by a signal while writing" in done.stderr
    assert signal.getsignal(signal.SIGTERM) is before


def test_finished_store_grows_with_resume(tmp_path, pieces):
    command = ("upscale", *pieces, tmp_path / "out.zarr", *OPTIONS[:-1], "rainfarm")
    assert xstsr(*command, "--realizations", 1).exit_code == 0
    assert xstsr(*command, "--realizations", 2).exit_code == 2
    assert xstsr(*command, "--realizations", 2, "--resume").exit_code == 0
    with xr.open_zarr(tmp_path / "out.zarr") as made:
        assert made.sizes["realization"] == 2


# clusters


@pytest.mark.parametrize(
    "pair",
    [("--workers", 2, "--scheduler", "tcp://x:1"), ("--resume", "--overwrite")],
)
def test_options_that_exclude_each_other_are_refused(tmp_path, pieces, pair):
    done = xstsr("upscale", *pieces, tmp_path / "out.zarr", *OPTIONS, *pair)
    assert done.exit_code == 2
    assert "exclude each other" in done.stderr


def test_unreachable_scheduler_exits_2(tmp_path, pieces, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("xstsr.execution.cluster.REACH", 1)
    place = ("--scheduler", "tcp://127.0.0.1:9")
    done = xstsr("upscale", *pieces, tmp_path / "out.zarr", *OPTIONS, *place)
    assert done.exit_code == 2
    assert "cannot reach a Dask scheduler at 'tcp://127.0.0.1:9'" in done.stderr
    assert names(tmp_path) == ["in"]


@pytest.mark.filterwarnings("ignore::UserWarning:distributed")
def test_workers_of_ones_own_write_the_same(tmp_path, pieces, whole):
    pytest.importorskip("distributed")
    done = xstsr("upscale", *pieces, tmp_path / "o.nc", *OPTIONS, "--workers", 1)
    assert done.exit_code == 0, done.output
    with xr.open_dataset(tmp_path / "o.nc") as made:
        expected = whole.stsr.upscale("pr", 2, 3, method="linear")
        np.testing.assert_array_equal(made.pr, expected.pr)


# logs


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("bar", "note: odd\nxstsr: bad\nwrote x\n"),
        ("lines", r"....-..-..T\S+ note: odd\n\S+ error: bad\n\S+ wrote: x\n"),
    ],
)
def test_events_are_told_in_the_form_asked_for(capsys, form, told):
    log = console.Log(form)
    for event, message in (("note", "odd"), ("error", "bad"), ("wrote", "x")):
        log.tell(event, message)
    assert re.fullmatch(told, capsys.readouterr().err)


def test_progress_is_told_now_and_then_with_the_time_left(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    tick = console.Log("json").progress()
    for done in range(20, 101):
        tick(done, 100)
        now += 1.0
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["done"] for line in told] == [20, *range(30, 101, 10)]
    assert told[0]["seconds_left"] is None
    assert told[1]["seconds_left"] == pytest.approx(70)
    assert told[1]["message"] == "30 of 100 windows, 1.2 min left"
    assert console.Log("bar").progress() is None


def test_errors_are_told_as_json_too(tmp_path, pieces):
    (tmp_path / "out.zarr").mkdir()
    command = ("upscale", *pieces, tmp_path / "out.zarr", *OPTIONS)
    done = xstsr(*command, "--log-format", "json")
    assert done.exit_code == 2
    told = json.loads(done.stderr)
    assert (told["event"], "it exists" in told["message"]) == ("error", True)


def test_bar_is_quiet_in_a_pipe(tmp_path, pieces):
    command = ["upscale", *pieces, tmp_path / "out.zarr", *OPTIONS]
    done = subprocess.run(
        [sys.executable, "-m", "xstsr.cli", *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == f"wrote {tmp_path / 'out.zarr'}\n"


def test_signal_message_says_how_to_go_on(tmp_path):
    with (
        pytest.raises(StoppedError, match=r"a\.zarr'.*kept: pass --resume"),
        batch._stoppable(tmp_path / "a.zarr"),
    ):
        raise KeyboardInterrupt
