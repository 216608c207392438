"""Clusters: the same bytes, one model a worker, and workers that are looked at."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from tests.models import write_tiny_model
from tests.runs import CALL, FACTORS, local_client, rain
from tests.storage.test_store import assert_same_bytes
from xstsr.errors import CostWarning, StoppedError, XstsrError
from xstsr.execution import cluster as clusters
from xstsr.execution.cluster import check_workers, cluster
from xstsr.methods.devices import current_client
from xstsr.storage.journal import Journal
from xstsr.storage.store import to_zarr

FRAMES = 470  # twenty blocks, so that a run can be met halfway
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:distributed")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store of this process alone."""
    path = tmp_path_factory.mktemp("whole") / "fine.zarr"
    to_zarr(rain(FRAMES), path, *FACTORS, **CALL)
    return path


@pytest.fixture(scope="module")
def client():
    with local_client() as client:
        yield client


def test_store_has_the_same_bytes_from_a_cluster(client, tmp_path, finished):
    assert current_client() is client
    told = []
    call = CALL | {"progress": lambda *now: told.append(now)}
    to_zarr(rain(FRAMES), tmp_path / "a.zarr", *FACTORS, **call)
    assert_same_bytes(tmp_path / "a.zarr", finished)
    assert told == [(n, 20) for n in range(21)]


def write_in_a_task(target):
    for _ in range(2):
        to_zarr(rain(FRAMES), target, *FACTORS, overwrite=True, **CALL)


def test_task_of_the_only_worker_can_write(tmp_path, finished):
    """It waits for tasks that need its own thread."""
    with local_client(1) as client:
        future = client.submit(write_in_a_task, tmp_path / "a.zarr", pure=False)
        future.result(timeout=120)
    assert_same_bytes(tmp_path / "a.zarr", finished)


def loads():
    """How often this process has loaded a model."""
    from xstsr.diffusion.checkpoint import _load

    return _load.cache_info().misses


def test_each_worker_loads_the_model_once(client, tmp_path):
    call = {"realizations": 5, "model": write_tiny_model(tmp_path), "device": "cpu"}
    client.restart()
    made = to_zarr(rain(200), tmp_path / "a.zarr", 2, 3, **call)
    assert set(client.run(loads).values()) <= {0, 1}
    eager = rain(200).compute().stsr.upscale(2, 3, **call)
    np.testing.assert_array_equal(made.pr, eager)


def test_torch_takes_the_threads_of_its_worker(client):
    from xstsr.methods.devices import cores

    assert client.submit(cores, pure=False).result() == 1


def kill_one(client, journal):
    """Kill a worker once some blocks are written."""
    while len(journal.finished()) < 3:
        time.sleep(0.01)
    pid = next(iter(client.run(os.getpid).values()))
    os.kill(pid, signal.SIGKILL)


def test_lost_worker_is_replaced(tmp_path, finished):
    target = tmp_path / "a.zarr"
    with local_client() as client:
        killer = threading.Thread(
            target=kill_one, args=(client, Journal.beside(target))
        )
        killer.start()
        to_zarr(rain(FRAMES), target, *FACTORS, **CALL)
        killer.join()
    assert_same_bytes(target, finished)


def assert_stops(target, told, kill, *args):
    """Kill something while the store is written: the run ends with a message."""
    killer = threading.Thread(target=kill, args=args)
    killer.start()
    with pytest.raises(StoppedError, match=told):
        to_zarr(rain(FRAMES), target, *FACTORS, **CALL)
    killer.join()


def test_lost_workers_without_a_nanny_stop_the_run(tmp_path, finished, monkeypatch):
    """No one starts another: the run ends with a message and can be resumed."""
    monkeypatch.setattr(clusters, "PATIENCE", 1.0)
    monkeypatch.setattr(clusters, "LOOK", 0.2)
    target = tmp_path / "a.zarr"
    with local_client(0) as client:
        command = [sys.executable, "-m", "dask", "worker", client.scheduler.address]
        worker = subprocess.Popen(
            [*command, "--no-nanny", "--nthreads", "1", "--no-dashboard"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.DEVNULL,
        )
        client.wait_for_workers(1)
        told = r"after \d+ of 20.*(no workers for|lost its workers).*--resume"
        assert_stops(target, told, kill_one, client, Journal.beside(target))
        worker.wait()
    assert not target.exists()
    to_zarr(rain(FRAMES), target, *FACTORS, **CALL, resume=True)
    assert_same_bytes(target, finished)


def test_lost_scheduler_stops_the_run(tmp_path, finished):
    """A scheduler and a worker of their own; the scheduler is killed halfway."""
    from dask import config
    from distributed import Client

    target, file = tmp_path / "a.zarr", str(tmp_path / "scheduler.json")
    options = {
        "env": os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        "stderr": subprocess.DEVNULL,
    }
    command, quiet = [sys.executable, "-m", "dask"], ["--no-dashboard"]
    scheduler = subprocess.Popen(
        [*command, "scheduler", "--scheduler-file", file, "--port=0", *quiet],
        **options,
    )
    worker = subprocess.Popen(
        [*command, "worker", "--scheduler-file", file, "--no-nanny", *quiet],
        **options,
    )

    def kill():
        while len(Journal.beside(target).finished()) < 3:
            time.sleep(0.01)
        scheduler.kill()

    with (
        config.set({"distributed.comm.timeouts.connect": "5s"}),
        Client(scheduler_file=file, timeout=60) as client,
    ):
        client.wait_for_workers(1, timeout=60)
        told = r"after \d+ of 20.*scheduler.*lost.*--resume|lost.*scheduler.*--resume"
        assert_stops(target, told, kill)
    worker.kill()
    for process in (worker, scheduler):
        process.wait()
    assert not target.exists()
    to_zarr(rain(FRAMES), target, *FACTORS, **CALL, resume=True)
    assert_same_bytes(target, finished)


# workers that cannot do the work: answers of a stand-in, for all are alike here


def answering(**answers):
    """A client whose workers answer as told, by the name of the question."""

    def run(function, *args, on_error):
        assert on_error == "return"
        return {"tcp://there": answers.get(function.__name__)}

    usual = {"version": "0.1.0", "isdir": True, "_memory_limit": 0, "count_gpus": 1}
    answers = usual | answers
    return SimpleNamespace(
        run=run,
        wait_for_workers=lambda n, timeout: None,
        scheduler=SimpleNamespace(address="tcp://x"),
    )


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"version": "0.0.9"}, r"tcp://there: it has xstsr 0\.0\.9, and this is xstsr"),
        ({"version": ModuleNotFoundError()}, r"tcp://there: it has no xstsr.*Install"),
        ({"isdir": False}, r"tcp://there: it does not see the folder '/data'.*share"),
        ({"count_gpus": 0}, r"device='cuda' on the worker tcp://there: it sees 0 GPUs"),
    ],
)
def test_workers_that_lack_something_are_named(tmp_path, answers, told):
    with pytest.raises(XstsrError, match=told):
        check_workers(answering(**answers), Path("/data"), "cuda", 1000)


def test_workers_with_little_memory_are_told(tmp_path):
    found = check_workers(answering(_memory_limit=2**30), tmp_path, "cpu", 3 * 2**30)
    assert found == ["a worker takes about 3 GiB, and one may have 1 GiB only"]
    assert check_workers(answering(), tmp_path, "cuda", 3 * 2**30) == []


def test_real_workers_are_asked_the_same(client, tmp_path):
    assert check_workers(client, tmp_path, "cpu", 2**30) == []
    (note,) = check_workers(client, tmp_path, "cpu", 2**40)
    assert note == "a worker takes about 1e+03 GiB, and one may have 4 GiB only"
    with pytest.raises(XstsrError, match=r"does not see the folder .*gone"):
        check_workers(client, tmp_path / "gone", "cpu", 1)


def test_store_tells_of_workers_with_little_memory(client, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "xstsr.storage.store.check_workers", lambda *_: ["little memory"]
    )
    with pytest.warns(CostWarning, match="little memory"):
        to_zarr(rain(60), tmp_path / "a.zarr", 2, method="linear")


def test_cluster_without_workers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "PATIENCE", 0.5)
    with (
        local_client(0) as client,
        pytest.raises(XstsrError, match=r"no workers after 0\.5 s.*dask worker tcp://"),
    ):
        check_workers(client, tmp_path, "cpu", 1)


# clusters of one's own


def test_no_cluster_is_used_unless_asked_for():
    with cluster(None, None) as client:
        assert client is None


def test_cluster_of_ones_own_is_used_and_closed():
    with cluster(1, None) as client:
        assert current_client() is client
        assert len(client.nthreads()) == 1
    assert client.status == "closed"


def test_running_scheduler_is_used(client):
    with cluster(None, client.scheduler.address) as other:
        assert current_client() is other
        assert other is not client


def test_unreachable_scheduler_is_refused(monkeypatch):
    monkeypatch.setattr(clusters, "REACH", 1)
    with (
        pytest.raises(XstsrError, match=r"cannot reach .* at 'tcp://127\.0\.0\.1:9'"),
        cluster(None, "tcp://127.0.0.1:9"),
    ):
        pass


def test_missing_distributed_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(XstsrError, match=r"workers=2 .*pip install 'xstsr\[distributed"),
        cluster(2, None),
    ):
        pass


def test_result_of_a_cluster_is_opened_lazily(client, tmp_path):
    made = to_zarr(rain(60), tmp_path / "a.zarr", 2, 3, method="linear")
    assert isinstance(made, xr.Dataset)
    assert made.pr.chunks is not None
