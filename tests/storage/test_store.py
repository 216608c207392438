"""Stores: what is asked for, whole or not at all, and resumed with the same bytes."""

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xstsr
from benchmarks.kills import files, is_readable
from tests.cli.test_batch import names
from tests.models import write_tiny_model
from tests.runs import CALL, FACTORS, grow, rain
from tests.strategies import make, make_dataset
from xstsr.errors import (
    CostWarning,
    DataError,
    PlanError,
    StoppedError,
    StoreError,
    XstsrError,
)
from xstsr.storage import store, writer
from xstsr.storage.journal import Journal, differences, fingerprint
from xstsr.storage.store import _local, to_zarr

LINEAR = {"method": "linear"}


class Killed(BaseException):
    """What no one catches, for moments at which a process cannot be killed exactly."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store that nothing disturbed."""
    path = tmp_path_factory.mktemp("whole") / "fine.zarr"
    to_zarr(rain(), path, *FACTORS, **CALL)
    return path


def assert_same_bytes(folder: Path, other: Path) -> None:
    ours, theirs = files(folder), files(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def assert_closed(target: Path, finished: Path) -> None:
    """No reader finds an unfinished store, neither by its name nor where it grows."""
    journal = Journal.beside(target)
    assert not target.exists()
    assert not any(map(is_readable, [journal.folder, journal.root]))
    if is_readable(journal.store):  # for a moment before it gets its name
        assert_same_bytes(journal.store, finished)


# what is written


def test_store_holds_what_upscale_gives(finished):
    with xr.open_zarr(finished) as fine:
        expected = rain().stsr.upscale(*FACTORS, **CALL).compute()
        np.testing.assert_array_equal(fine.pr, expected)
        xr.testing.assert_equal(fine.pr.time, expected.time)
        assert fine.pr.encoding["chunks"] == (1, 144, 6, 8)
        assert fine.realization.values.tolist() == list(range(6))
        assert "history" in fine.attrs
    assert [path.name for path in finished.parent.iterdir()] == ["fine.zarr"]


def test_store_is_complete_in_cf_terms(tmp_path):
    ds = make_dataset("rotated", shape=(30, 3, 4)).chunk(time=7)
    made = to_zarr(ds, tmp_path / "a.zarr", 2, 3, name="pr", **LINEAR)
    expected = ds.stsr.upscale("pr", 2, 3, **LINEAR).compute()
    del made.attrs["history"], expected.attrs["history"], made.attrs["xstsr_call"]
    xr.testing.assert_identical(made.compute(), expected)


def test_field_in_memory_is_written_too(tmp_path):
    da = make(shape=(5, 3, 4))
    made = to_zarr(da, tmp_path / "a.zarr", 2, **LINEAR)
    np.testing.assert_array_equal(made.pr, da.stsr.upscale(2, **LINEAR))
    assert made.pr.dims == da.dims


@pytest.mark.parametrize("order", [("x", "time", "height", "y"), ("height", "y")])
def test_dims_in_any_order_and_further_ones(tmp_path, order):
    da = xr.concat([rain(), 2 * rain()], xr.Variable("height", [2.0, 10.0]))
    da = da.assign_attrs(rain().attrs).transpose(*order, ...)
    call = {"method": "rainfarm", "realizations": 5}
    made = to_zarr(da, tmp_path / "a.zarr", 2, 3, **call)
    assert made.pr.dims == ("realization", *da.dims)
    np.testing.assert_array_equal(made.pr, da.stsr.upscale(2, 3, **call).compute())


def test_quantified_field_is_written_with_its_unit(tmp_path):
    pytest.importorskip("pint_xarray")
    from xstsr.cf.units import registry

    plain = make(shape=(5, 3, 4))
    da = plain.pint.quantify({"lat": None, "lon": None}, unit_registry=registry())
    made = to_zarr(da, tmp_path / "a.zarr", 2, **LINEAR)
    np.testing.assert_array_equal(made.pr, plain.stsr.upscale(2, **LINEAR))
    assert made.pr.attrs["units"] in ("mm h-1", "mm/h")


def test_missing_data_stay_missing(tmp_path):
    """Chunks without any data have no files, and count as written all the same."""
    da = rain().compute()
    da[:] = np.nan
    da[60:] = 1.0
    call = {"method": "nearest", "resume": True}
    made = to_zarr(da, tmp_path / "a.zarr", 2, 3, **call)
    np.testing.assert_array_equal(made.pr, da.stsr.upscale(2, 3, method="nearest"))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
@pytest.mark.parametrize("chunks", [{"time": 7, "y": 2}, -1])
def test_bytes_do_not_depend_on_chunks_and_scheduler(
    tmp_path, finished, scheduler, chunks
):
    if scheduler == "processes" and chunks == -1:
        pytest.skip("one chunking shows it")
    workers = 1 if scheduler == "processes" else 2
    with dask.config.set(scheduler=scheduler, num_workers=workers):
        to_zarr(rain().chunk(chunks), tmp_path / "a.zarr", *FACTORS, **CALL)
    assert_same_bytes(tmp_path / "a.zarr", finished)


def test_models_draw_into_stores(tmp_path):
    call = {"realizations": 2, "model": write_tiny_model(tmp_path), "device": "cpu"}
    made = to_zarr(rain(), tmp_path / "a.zarr", 2, 3, **call)
    np.testing.assert_array_equal(made.pr, rain().stsr.upscale(2, 3, **call).compute())
    told = json.loads(made.attrs["xstsr_call"])
    assert (told["device"], len(told["model"])) == ("cpu", 64)


def test_progress_is_told_to_whoever_asks(tmp_path):
    told = []
    call = LINEAR | {"progress": lambda done, total: told.append((done, total))}
    to_zarr(rain(), tmp_path / "a.zarr", 2, 3, **call)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (None, False)])
def test_bar_is_quiet_where_no_one_looks(tmp_path, capsys, progress, shown):
    to_zarr(rain(), tmp_path / "a.zarr", 2, 3, progress=progress, **LINEAR)
    assert ("3/3" in capsys.readouterr().err) == shown


# what is refused, before anything is written


def test_existing_target_is_refused(finished):
    before = files(finished)
    with pytest.raises(StoreError, match=r"fine\.zarr': it exists.*resume=True"):
        to_zarr(rain(), finished, *FACTORS, **CALL)
    assert files(finished) == before


def test_existing_target_is_replaced_when_all_is_written(tmp_path):
    to_zarr(rain(), tmp_path / "a.zarr", 1, **LINEAR)
    (tmp_path / "a.zarr" / "older").touch()
    to_zarr(rain(), tmp_path / "a.zarr", 2, overwrite=True, **LINEAR)
    assert not (tmp_path / "a.zarr" / "older").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("resume", [True, False])
def test_only_stores_are_replaced(tmp_path, resume):
    """A slip of the pen must not remove a folder of other things."""
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "mine").touch()
    call = LINEAR | {"overwrite": True, "resume": resume}
    with pytest.raises(StoreError, match=r"overwrite .*papers': it is no Zarr store"):
        to_zarr(rain(), tmp_path / "papers", 2, **call)
    assert [path.name for path in tmp_path.iterdir()] == ["papers"]


CHANGES = [
    ({"seed": 6}, r"seed: 5 there, 6 now"),
    ({"s": 3}, r"factor: \[3, 2, 2\] there, \[3, 3, 3\] now"),
    ({"t": 2}, r"factor: .* now"),
    ({"method": "linear", "realizations": None}, r"method: 'rainfarm' there"),
    ({"conserve": "none"}, r"conserve: 'cell' there, 'none' now"),
    ({"recipe": xstsr.Recipe(0.5, 3, 1.0)}, r"f: None there, 'Taper\(.* now"),
    ({"label": "right"}, r"time_label: 'left' there, 'right' now; grid"),
    ({"realizations": None}, r"realizations: 6 there, None now"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_resume_with_another_call_is_refused(finished, change, told):
    before = files(finished)
    call = {"s": FACTORS[0], "t": FACTORS[1], **CALL, "resume": True} | change
    with pytest.raises(StoreError, match=told):
        to_zarr(rain(), finished, **call)
    assert files(finished) == before
    assert not Journal.beside(finished).folder.exists()


def test_resume_with_another_model_is_refused(tmp_path):
    models = [write_tiny_model(tmp_path, seed) for seed in (0, 1)]
    call = {"device": "cpu", "resume": True}
    to_zarr(rain(), tmp_path / "a.zarr", 2, 3, model=models[0], **call)
    with pytest.raises(StoreError, match=r"model: '\w{64}' there, '\w{64}' now\. Call"):
        to_zarr(rain(), tmp_path / "a.zarr", 2, 3, model=models[1], **call)
    call["model"] = models[0]
    for change, told in (
        ({"steps": 2}, "steps: 3 there, 2 now"),
        ({"sampler": "heun"}, r"sampler: 'dpm-solver\+\+' there, 'heun' now"),
        ({"recipe": xstsr.Recipe(0.5, 3)}, r"beta: .* there, 0\.5 now"),
        ({"method": "mean"}, "method: 'diffusion' there, 'mean' now"),
    ):
        with pytest.raises(StoreError, match=told):
            to_zarr(rain(), tmp_path / "a.zarr", 2, 3, **call | change)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (lambda da: (da + 1e-6).assign_attrs(da.attrs), r"call: input: '\w{16}' there"),
        (
            lambda da: da.isel(time=slice(-1)),
            r"grid of time: '120 cells, 2001-01-01T05.*'119 cells",
        ),
        (lambda da: da.assign_coords(x=da.x + 1), r"call: grid of x: '4 cells, "),
        (lambda da: da.assign_attrs(units="mm d-1"), r"units: 'mm h-1' there, 'mm d"),
        (lambda da: da.astype("float64"), r"dtype: 'float32' there, 'float64' now"),
    ],
)
def test_resume_with_other_input_is_refused(finished, other, told):
    with pytest.raises(StoreError, match=told):
        to_zarr(other(rain()), finished, *FACTORS, **CALL, resume=True)


def test_resume_of_a_store_of_others_is_refused(tmp_path):
    rain().to_dataset().to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=True)
    with pytest.raises(StoreError, match=r"cannot resume.*did not write it"):
        to_zarr(rain(), tmp_path / "a.zarr", 2, resume=True, **LINEAR)


def test_unnamed_field_is_refused(tmp_path):
    with pytest.raises(XstsrError, match=r"without a name.*da\.rename"):
        to_zarr(make().rename(None), tmp_path / "a.zarr", 2)


def test_unknown_variable_is_refused(tmp_path):
    with pytest.raises(XstsrError, match=r"cannot find the variable 'tas'.*'pr'"):
        to_zarr(make_dataset(), tmp_path / "a.zarr", 2, name="tas")


def test_urls_are_refused():
    with pytest.raises(StoreError, match=r"'s3://bucket/a.zarr': only to folders"):
        to_zarr(make(), "s3://bucket/a.zarr", 2, **LINEAR)


def test_work_without_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("xstsr.storage.store.available_bytes", lambda: 1000)
    with pytest.raises(PlanError, match=r"one window takes .* KiB .* larger workers"):
        to_zarr(rain(), tmp_path / "a.zarr", 2, **LINEAR)
    assert list(tmp_path.iterdir()) == []


def test_small_disk_is_told(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("xstsr.storage.store.shutil.disk_usage", lambda path: usage)
    with pytest.warns(CostWarning, match=r"1e\+03 B are free on the disk"):
        to_zarr(rain(), tmp_path / "a.zarr", 2, **LINEAR)


def test_target_in_use_is_refused(tmp_path):
    journal = Journal.beside(tmp_path / "a.zarr")
    with journal.held(), pytest.raises(StoreError, match="another process is writing"):
        to_zarr(rain(), tmp_path / "a.zarr", 2, **LINEAR)
    to_zarr(rain(), tmp_path / "a.zarr", 2, **LINEAR)  # given back


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write in .*file'.*you may write"):
        to_zarr(rain(), tmp_path / "file" / "a.zarr", 2, **LINEAR)


def test_folder_of_others_is_left_alone(tmp_path):
    folder = tmp_path / "a.zarr.part"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(StoreError, match=r"holds \['thesis\.tex'\], which no run"):
            to_zarr(rain(), tmp_path / "a.zarr", 2, **LINEAR, **options)
    assert names(folder) == ["thesis.tex"]


def test_what_is_read_is_not_replaced(tmp_path):
    rain().to_dataset(name="pr").to_zarr(tmp_path / "a.zarr", zarr_format=2)
    options = {"name": "pr", "overwrite": True, **LINEAR}
    with (
        xr.open_zarr(tmp_path / "a.zarr") as ds,
        pytest.raises(DataError, match=r"a\.zarr': it is what is read"),
    ):
        to_zarr(ds, tmp_path / "a.zarr", 2, **options)


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_target_without_a_name_is_refused(path):
    with pytest.raises(StoreError, match="it has no name"):
        to_zarr(rain(), path, 2, **LINEAR)


def test_relative_target_is_known_to_workers_in_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = _local("out/a.zarr")
    assert target == tmp_path / "out" / "a.zarr"
    assert Journal.beside(target).folder.is_absolute()


def test_field_in_one_piece_is_read_in_pieces(monkeypatch):
    """A file that was opened without chunks is not read as a whole."""
    monkeypatch.setattr(store, "PIECE", rain().nbytes // 3)
    work = store.Work.of(rain().compute(), "", FACTORS, dict(CALL))
    assert work.source[work.name].chunksizes["time"] == (40, 40, 40)


def test_disk_that_fills_when_all_is_written_stops_and_is_resumed(
    tmp_path, monkeypatch, finished
):
    with monkeypatch.context() as patch:
        patch.setattr(writer.shutil, "copyfile", no_space)
        with pytest.raises(StoppedError, match=r"all windows were written.*No space"):
            to_zarr(rain(), tmp_path / "a.zarr", *FACTORS, **CALL)
    assert not (tmp_path / "a.zarr").exists()
    to_zarr(rain(), tmp_path / "a.zarr", *FACTORS, resume=True, **CALL)
    assert_same_bytes(tmp_path / "a.zarr", finished)


def no_space(*_):
    raise OSError(28, "No space left on device")


def mounted(folder: Path, options: str) -> None:
    """Mount a file system in memory, or a visible skip: it takes privileges."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode()}")


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    mounted(folder, "size=256k")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def read_only_disk(tmp_path):
    folder = tmp_path / "disk"
    mounted(folder, "size=256k,ro")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_read_only_disk_is_refused(read_only_disk):
    with pytest.raises(StoreError, match=r"cannot write in .*Read-only file system"):
        to_zarr(rain(), read_only_disk / "a.zarr", 2, **LINEAR)


# what stops a run


def test_full_disk_stops_and_is_resumed(tiny_disk, tmp_path, finished):
    """The real thing: a file system without room, and then with more."""
    with (
        pytest.warns(CostWarning, match="256 KiB are free on the disk"),
        pytest.raises(StoppedError, match=r"stopped after \d of 6.*No space left"),
    ):
        to_zarr(rain(), tiny_disk / "a.zarr", *FACTORS, **CALL)
    assert not (tiny_disk / "a.zarr").exists()
    subprocess.run(["mount", "-o", "remount,size=8m", str(tiny_disk)], check=True)
    told = []
    to_zarr(
        *(rain(), tiny_disk / "a.zarr", *FACTORS),
        **CALL | {"resume": True, "progress": lambda *now: told.append(now)},
    )
    assert told[0][0] > 0
    assert_same_bytes(tiny_disk / "a.zarr", finished)


def test_limit_on_the_size_of_files_stops_and_is_resumed(tmp_path, finished):
    """As by a quota; in a process of its own, for limits cannot be raised again."""
    pytest.importorskip("resource")
    code = (
        "import resource, sys; from tests.runs import grow\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (14_000, 14_000))\n"
        "grow(sys.argv[1], 'synchronous')\n"
    )
    target = tmp_path / "a.zarr"
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1
    assert "StoppedError: stopped after" in done.stderr
    assert "File too large" in done.stderr
    grow(str(target), "synchronous")
    assert_same_bytes(target, finished)


@pytest.mark.parametrize("at", [0, 2, 5])
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_failed_write_stops_and_is_resumed(
    tmp_path, finished, monkeypatch, at, scheduler
):
    target, count, lock = tmp_path / "a.zarr", 0, threading.Lock()
    note = Journal.note

    def fail(self, block, sizes):
        nonlocal count
        with lock:  # what is counted is noted before another one fails
            count += 1
            if count > at:
                raise OSError(errno.ENOSPC, "No space left on device")
            note(self, block, sizes)

    with dask.config.set(scheduler=scheduler, num_workers=2):
        monkeypatch.setattr(Journal, "note", fail)
        with pytest.raises(StoppedError, match=rf"after {at} of 6.*--resume.*go on"):
            to_zarr(rain(), target, *FACTORS, **CALL)
        monkeypatch.undo()
        with pytest.raises(StoreError, match=r"holds a run that was stopped.*--resume"):
            to_zarr(rain(), target, *FACTORS, **CALL)
        assert_closed(target, finished)
        to_zarr(rain(), target, *FACTORS, **CALL, resume=True)
    assert_same_bytes(target, finished)


def test_error_in_the_data_leaves_what_was_written(tmp_path):
    da = rain(300).compute()
    da[-1, 1, 1] = -1.0
    target = tmp_path / "a.zarr"
    with (
        pytest.raises(XstsrError, match=r"negative rain: the smallest value is -1"),
        dask.config.set(scheduler="synchronous"),
    ):
        to_zarr(da.chunk(time=50), target, 2, 3, **LINEAR)
    assert not target.exists()
    assert Journal.beside(target).exists


# damage


def stopped(target: Path, monkeypatch, at: int) -> Journal:
    """A run that was stopped after some blocks."""
    write = writer.write_block
    count = 0

    def fail(*task):
        nonlocal count
        count += 1
        if count > at:
            raise StoreError("enough")
        write(*task)

    with monkeypatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(writer, "write_block", fail)
        with pytest.raises(StoppedError, match="enough"):
            to_zarr(rain(), target, *FACTORS, **CALL)
    return Journal.beside(target)


def damage_journal(journal):
    (path,) = (journal.folder / "journal").iterdir()
    path.write_text(path.read_text()[:-9])


def lose_chunk(journal):
    next((journal.store / "pr").glob("[0-9]*")).unlink()


def cut_chunk(journal):
    path = next((journal.store / "pr").glob("[0-9]*"))
    path.write_bytes(path.read_bytes()[:10])


def leave_torn_files(journal):
    (journal.store / "pr" / "0.0.0.partial").write_bytes(b"half")
    (journal.store / "pr" / "5.2.0.0").write_bytes(b"half")


@pytest.mark.parametrize(
    "damage", [damage_journal, lose_chunk, cut_chunk, leave_torn_files]
)
def test_damage_is_mended(tmp_path, finished, monkeypatch, damage):
    journal = stopped(tmp_path / "a.zarr", monkeypatch, 4)
    assert len(journal.finished()) == 4
    damage(journal)
    grow(str(tmp_path / "a.zarr"), "synchronous")
    assert_same_bytes(tmp_path / "a.zarr", finished)


def test_unreadable_call_is_told(tmp_path, monkeypatch):
    journal = stopped(tmp_path / "a.zarr", monkeypatch, 1)
    (journal.folder / "call.json").write_text("{")
    with pytest.raises(StoreError, match=r"call\.json.*Remove .*a\.zarr\.part"):
        to_zarr(rain(), tmp_path / "a.zarr", 2, resume=True, **LINEAR)


def test_other_call_cannot_go_on_with_a_stopped_run(tmp_path, monkeypatch):
    stopped(tmp_path / "a.zarr", monkeypatch, 1)
    with pytest.raises(StoreError, match=r"realizations: 6 there, 7 now"):
        grow(str(tmp_path / "a.zarr"), "synchronous", realizations=7)


def test_overwrite_starts_again(tmp_path, monkeypatch):
    stopped(tmp_path / "a.zarr", monkeypatch, 5)
    made = to_zarr(rain(), tmp_path / "a.zarr", 2, 3, overwrite=True, **LINEAR)
    np.testing.assert_array_equal(
        made.pr, rain().stsr.upscale(2, 3, **LINEAR).compute()
    )


@pytest.mark.parametrize("moment", [0, 4, 9, 14, 19])
def test_run_killed_while_it_is_laid_out_starts_again(
    tmp_path, finished, monkeypatch, moment
):
    """Files on the way to the first block and beyond fail to be written or renamed."""
    target, count = tmp_path / "a.zarr", 0

    def failing(name):
        function = getattr(Path, name)

        def fail(self, *args):
            nonlocal count
            count += 1
            if count > moment:
                raise Killed("at this moment")
            return function(self, *args)

        return fail

    with monkeypatch.context() as patch:
        for name in ("write_bytes", "replace"):
            patch.setattr(Path, name, failing(name))
        with pytest.raises(Killed, match="at this moment"):
            grow(str(target), "synchronous")
    assert_closed(target, finished)
    grow(str(target), "synchronous")
    assert_same_bytes(target, finished)


# more realizations


@pytest.mark.parametrize("before", [1, 3, 4, 5])
def test_realizations_may_be_added(tmp_path, finished, before):
    target = tmp_path / "a.zarr"
    grow(str(target), "synchronous", realizations=before)
    few = xr.open_zarr(target)
    grow(str(target), "synchronous")
    assert_same_bytes(target, finished)
    # who opened the store before sees what was there
    np.testing.assert_array_equal(few.pr, xr.open_zarr(finished).pr[:before])
    assert json.loads(xr.open_zarr(target).attrs["xstsr_call"])["realizations"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_realizations_are_not_added_to_another_store(tmp_path, monkeypatch):
    target = tmp_path / "a.zarr"
    grow(str(target), "synchronous", realizations=3)

    def fail(*_):
        raise Killed("at this moment")

    with monkeypatch.context() as patch:
        patch.setattr(store, "execute", fail)
        with pytest.raises(Killed, match="at this moment"):
            grow(str(target), "synchronous")
    shutil.rmtree(target)
    with pytest.raises(StoreError, match=r"adds to the 3 realizations of .*a\.zarr'"):
        grow(str(target), "synchronous")
    grow(str(target), "synchronous", resume=False, overwrite=True)


def test_fewer_realizations_are_there_already(tmp_path, finished, monkeypatch):
    monkeypatch.setattr(store, "execute", lambda *_: pytest.fail("computes"))
    made = to_zarr(
        rain(), finished, *FACTORS, **CALL | {"realizations": 2}, resume=True
    )
    assert made.sizes["realization"] == 6
    to_zarr(rain(), finished, *FACTORS, **CALL, resume=True)


@pytest.mark.parametrize("moment", [0, 3, *range(6, 14), 99])
def test_reader_sees_the_old_or_the_new_store(tmp_path, monkeypatch, moment):
    """Killed at any moment while realizations are moved in."""
    da, target = rain(), tmp_path / "a.zarr"
    call = {"method": "rainfarm", "resume": True}
    expected = da.stsr.upscale(2, 3, method="rainfarm", realizations=4).compute()
    to_zarr(da, target, 2, 3, realizations=2, **call)
    count = 0

    def counted(self, other, replace=Path.replace):
        nonlocal count
        count += target in Path(other).parents
        if count > moment:
            raise Killed("at this moment")
        return replace(self, other)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted)
        killed = False
        try:
            to_zarr(da, target, 2, 3, realizations=4, **call)
        except Killed:
            killed = True
    assert not is_readable(Journal.beside(target).store)
    found = xr.open_zarr(target)
    n = found.sizes["realization"]
    assert n in (2, 4)
    assert found.realization.values.tolist() == list(range(n))
    np.testing.assert_array_equal(found.pr, expected[:n])
    again = to_zarr(da, target, 2, 3, realizations=4, **call)
    np.testing.assert_array_equal(again.pr, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    assert killed == (moment < count)


@pytest.mark.parametrize("step", ["copyfile", "rename", "rmtree"])
def test_run_killed_while_it_is_published_is_finished(
    tmp_path, finished, monkeypatch, step
):
    target = tmp_path / "a.zarr"

    def fail(*_, **__):
        raise Killed("at this moment")

    with monkeypatch.context() as patch:
        if step == "rename":
            patch.setattr(Path, "rename", fail)
        else:
            patch.setattr(writer.shutil, step, fail)
        with pytest.raises(Killed, match="at this moment"):
            grow(str(target), "synchronous")
    assert target.exists() == (step == "rmtree")
    assert is_readable(Journal.beside(target).store) == (step == "rename")
    if step != "rmtree":
        assert_closed(target, finished)
    grow(str(target), "synchronous")
    assert_same_bytes(target, finished)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


KILLS = int(os.environ.get("XSTSR_KILLS", "4"))  # `make kills` has twenty


def test_run_killed_again_and_again_ends_with_the_same_bytes(tmp_path, finished):
    """SIGKILL at random moments; nothing half-written is ever read as data."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.runs"])
    chance, kills, amid, longest = random.Random(1), 0, 0, 1.0
    target, before = tmp_path / "a.zarr", 0
    while kills < KILLS or amid < 1:
        scheduler = chance.choice(["synchronous", "threads"])
        process = context.Process(target=grow, args=(str(target), scheduler))
        process.start()
        process.join(chance.uniform(0.1, longest))
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)  # nothing else stops it
        if target.exists():
            assert_same_bytes(target, finished)
            shutil.rmtree(target)  # and another one
            continue
        assert_closed(target, finished)
        written = len(Journal.beside(target).finished())
        amid += 0 < written < 6
        longest *= 1.0 if written > before else 1.5  # on a slow machine
        before = written
    grow(str(target), "synchronous")
    assert_same_bytes(target, finished)


def test_store_removed_after_its_run_was_killed_is_made_again(tmp_path, finished):
    """The folder beside it is what a kill leaves between the name and the end."""
    target = tmp_path / "a.zarr"
    rest = Journal.beside(target).folder
    (rest / "journal").mkdir(parents=True)
    (rest / "call.json").write_text(json.dumps(writer.call_of(finished) | {"first": 0}))
    grow(str(target), "synchronous")
    assert_same_bytes(target, finished)
    assert not rest.exists()


# fingerprints and journals


@settings(max_examples=30)
@given(data=st.data(), dtype=st.sampled_from(["float16", "float32", "float64"]))
def test_fingerprint_does_not_depend_on_chunks(data, dtype):
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 4))
    rng = np.random.default_rng(0)
    values = rng.normal(size=shape).astype(dtype)
    values[rng.random(shape) < 0.2] = np.nan
    chunks = data.draw(st.tuples(*[st.integers(1, n) for n in shape]))
    lazy = dask.array.from_array(values, chunks)
    assert fingerprint(lazy) == fingerprint(values)


@settings(max_examples=30)
@given(data=st.data())
def test_fingerprint_tells_any_change(data):
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    values = np.random.default_rng(0).normal(size=shape)
    at = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    other = values.copy()
    other[at] = data.draw(st.sampled_from([0.0, np.nan, np.inf, 1e-300, -other[at]]))
    assert fingerprint(other) != fingerprint(values)
    if values.size > 1:
        rolled = np.roll(values.ravel(), 1).reshape(shape)
        assert fingerprint(rolled) != fingerprint(values)


def test_fingerprint_counts_every_nan_and_zero_as_one():
    strange = np.array([np.nan, -0.0])
    strange.view(np.uint64)[0] += 7
    assert np.isnan(strange[0])
    assert fingerprint(strange) == fingerprint(np.array([np.nan, 0.0]))


def test_differences_name_what_is_new_and_what_is_gone():
    told = differences({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5})
    assert told == [
        "c: 3 there, 4 now",
        "d: None there, 5 now",
        "a: 1 there, None now",
    ]
