"""Turns on a device: one at a time, within its memory, whatever the batch."""

import multiprocessing
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.models import write_tiny_model
from tests.strategies import make
from xstsr.diffusion.model import Model
from xstsr.errors import CostWarning, PlanError
from xstsr.methods import devices, neural
from xstsr.methods.devices import batch_size, cores, in_batches, is_out_of_memory, turn


@pytest.fixture
def model(tmp_path):
    return write_tiny_model(tmp_path)


def rain():
    rng = np.random.default_rng(0)
    values = np.maximum(rng.gamma(0.5, 2.0, (5, 4, 5)) - 0.3, 0)
    return make(values, grid="metres")


# batches


def run_in(batches, limit, error):
    """A batch that runs out of memory beyond a limit."""

    def run(part):
        batches.append((part.start, part.stop))
        if part.stop - part.start > limit:
            raise error

    return run


OUT = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"),
]


@pytest.mark.parametrize("error", OUT)
def test_batches_are_halved_where_memory_runs_out(error):
    done = []
    with pytest.warns(CostWarning, match=r"ran out with 8 realiz.*: going on with 4"):
        in_batches(11, 8, run_in(done, 4, error))
    assert done == [(0, 8), (0, 4), (4, 8), (8, 11)]


def test_batches_are_halved_again_and_again():
    done = []
    with pytest.warns(CostWarning) as told:
        in_batches(5, 5, run_in(done, 1, MemoryError()))
    assert done == [(0, 5), (0, 2), *((i, i + 1) for i in range(5))]
    assert len(told) == 2


def test_batch_of_one_cannot_be_halved():
    with pytest.raises(MemoryError, match="one is too large"):
        in_batches(3, 1, run_in([], 0, MemoryError("one is too large")))


def test_other_errors_are_not_tried_again():
    done = []
    with pytest.raises(RuntimeError, match="shapes differ"):
        in_batches(4, 4, run_in(done, 0, RuntimeError("shapes differ")))
    assert done == [(0, 4)]


def test_batches_that_fit_are_left_alone():
    done = []
    in_batches(7, 3, run_in(done, 3, MemoryError()))
    assert done == [(0, 3), (3, 6), (6, 7)]


@pytest.mark.parametrize("error", OUT)
def test_lack_of_memory_is_told_from_other_errors(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_cpu_draws_one_at_a_time():
    assert batch_size("cpu", 100, 1) == 1


@pytest.mark.parametrize(
    ("device", "free", "expected"),
    [("cuda", 10_000, 8), ("cuda:1", 100, 1), ("cuda", 10**9, 20)],
)
def test_gpu_draws_as_many_as_its_free_memory_holds(
    monkeypatch, device, free, expected
):
    """The contract with torch; no GPU is needed to keep it."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda d: (free, 10**12))
    assert batch_size(device, 20, 1000) == expected


@pytest.mark.parametrize("size", [2, 3, 5])
def test_realizations_do_not_depend_on_the_batch(model, monkeypatch, size):
    da, options = rain(), {"realizations": 4, "model": model, "device": "cpu"}
    usual = da.stsr.upscale(2, 3, **options)
    monkeypatch.setattr(neural, "batch_size", lambda *_: size)
    batched = da.stsr.upscale(2, 3, **options)
    scale = float(usual.std())
    np.testing.assert_allclose(batched, usual, rtol=0, atol=1e-5 * scale)


def test_diffusion_goes_on_with_half_where_memory_runs_out(model, monkeypatch):
    da, options = rain(), {"realizations": 4, "model": model, "device": "cpu"}
    usual = da.stsr.upscale(2, 3, **options)
    sample, asked = Model.sample, []

    def scarce(self, condition, noise, **rest):
        asked.append(len(noise))
        if len(noise) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample(self, condition, noise, **rest)

    monkeypatch.setattr(neural, "batch_size", lambda *_: 4)
    monkeypatch.setattr(Model, "sample", scarce)
    with pytest.warns(CostWarning, match="with 4 realizations.*going on with 2"):
        found = da.stsr.upscale(2, 3, **options)
    assert asked == [4, 2, 2]
    np.testing.assert_allclose(found, usual, rtol=0, atol=1e-5 * float(usual.std()))


def test_one_realization_too_large_is_refused_with_advice(model, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB\nmore")

    monkeypatch.setattr(Model, "sample", fail)
    told = r"does not hold one realization \(CUDA out of memory. Tried 9 GiB\)\. Free"
    with pytest.raises(PlanError, match=told):
        rain().stsr.upscale(2, 3, model=model, device="cpu")


# turns


def test_one_network_runs_at_a_time():
    running, most = 0, 0

    def work():
        nonlocal running, most
        with turn("cpu"):
            running += 1
            most = max(most, running)
            time.sleep(0.01)
            running -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_devices_do_not_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(devices, "_among_processes", lambda name: turn("cpu"))
    entered = threading.Event()

    def there():
        with turn("cuda:1"):
            entered.set()

    with devices._lock("cuda:0"):
        thread = threading.Thread(target=there)
        thread.start()
        assert entered.wait(5)
        thread.join()


@pytest.mark.parametrize("fails", [False, True])
def test_threads_of_torch_are_those_given_and_then_restored(monkeypatch, fails):
    before = torch.get_num_threads()
    monkeypatch.setattr(devices, "cores", lambda: before + 2)
    try:
        with turn("cpu"):
            assert torch.get_num_threads() == before + 2
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert torch.get_num_threads() == before


def test_threads_of_torch_are_left_alone_in_a_process_of_ones_own():
    assert cores() is None
    before = torch.get_num_threads()
    with turn("cpu"):
        assert torch.get_num_threads() == before


def test_child_process_takes_one_core():
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(cores) == 1


def test_worker_takes_the_cores_of_its_threads(monkeypatch):
    worker = SimpleNamespace(state=SimpleNamespace(nthreads=3))
    fake = SimpleNamespace(get_worker=lambda: worker)
    monkeypatch.setitem(sys.modules, "distributed", fake)
    monkeypatch.setitem(sys.modules, "distributed.worker", fake)
    assert cores() == 3


def hold(path, entered, leave):
    """Hold the lock of a pretended GPU in another process."""
    import tempfile

    tempfile.tempdir = path
    torch.cuda.get_device_properties = lambda name: SimpleNamespace(uuid="abc")
    with devices._among_processes("cuda:0"):
        entered.set()
        leave.wait(20)


def test_gpu_is_shared_out_between_processes(tmp_path, monkeypatch):
    """The lock that is held while a GPU is used; the GPU is pretended."""
    fcntl = pytest.importorskip("fcntl")
    context = multiprocessing.get_context("spawn")
    entered, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), entered, leave))
    process.start()
    assert entered.wait(60)
    (path,) = tmp_path.iterdir()
    assert path.name == "xstsr-gpu-abc.lock"
    with path.open("a") as file:
        with pytest.raises(BlockingIOError, match="unavailable"):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        leave.set()
        process.join()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
