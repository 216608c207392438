"""Which device runs a network, one network at a time, within its memory.

One network runs at a time in a process, with all the cores that the process was given,
so that Dask's threads and torch's do not multiply, and so that a process needs the
memory of one evaluation, however many threads it has. A GPU is also shared out between
processes. Networks never fail for want of memory while there is less to ask of them.
"""

import contextlib
import multiprocessing
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from xstsr.errors import CostWarning, PlanError, XstsrError
from xstsr.memory import (
    keep_freed_memory,
)

if TYPE_CHECKING:
    from distributed import Client

FILL = 0.8  # share of a GPU's free memory that a batch may take


@contextlib.contextmanager
def turn(device: str) -> Iterator[None]:
    """Wait for a device, and use it alone.

    Parameters
    ----------
    device : str
        As torch names it.

    Raises
    ------
    PlanError
        It ran out of memory, and there was nothing left to halve.
    """
    name = _full_name(device)
    if name == "cpu":
        keep_freed_memory()
    with _lock(name):
        share = _threads(cores()) if name == "cpu" else _among_processes(name)
        with share:
            try:
                yield
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise PlanError(
                    f"cannot refine a window on device={device!r}: its memory does not "
                    f"hold one realization ({str(error).splitlines()[0]}). Free some "
                    "of it, or pass another device."
                ) from error


def in_batches(count: int, size: int, run: Callable[[slice], object]) -> None:
    """Work through a number of items in batches, halved where memory runs out.

    Parameters
    ----------
    count : int
        Items in all.
    size : int
        Items to try together, 1 or more.
    run : callable
        Takes the slice of items of one batch.

    Raises
    ------
    MemoryError, RuntimeError
        A batch of one item does not fit either.
    """
    start = 0
    while start < count:
        stop = min(start + size, count)
        if _fits(run, slice(start, stop)):
            start = stop
            continue
        size = (stop - start) // 2
        warnings.warn(
            f"memory ran out with {stop - start} realizations at a time: going on with "
            f"{size}",
            CostWarning,
            stacklevel=3,
        )


def batch_size(device: str, count: int, bytes_each: int) -> int:
    """Choose how many items to work on together.

    One on the CPU, where more take more memory and no less time; on a GPU, as many as
    its free memory holds.

    Parameters
    ----------
    device : str
        As torch names it.
    count : int
        Items in all.
    bytes_each : int
        Memory that one takes.
    """
    if not _full_name(device).startswith("cuda"):
        return 1
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(count, int(FILL * free) // bytes_each))


def cores() -> int | None:
    """Count the cores that this process was given; None where it has all of them.

    A worker of `distributed` was given as many as it has threads. Another child of
    `multiprocessing` has siblings that it does not know, and takes one.
    """
    if "distributed.worker" in sys.modules:
        from distributed import get_worker

        with contextlib.suppress(ValueError):  # not in a task of a worker
            return int(get_worker().state.nthreads)
    return 1 if multiprocessing.parent_process() is not None else None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on the host or on a GPU."""
    if isinstance(error, MemoryError):
        return True
    told = str(error)
    # torch has a class of its own for GPUs, but not in all versions, nor for the host
    return isinstance(error, RuntimeError) and (
        "out of memory" in told or "can't allocate memory" in told
    )


def _fits(run: Callable[[slice], object], part: slice) -> bool:
    """Run a batch; tell if it can be tried again with less."""
    try:
        run(part)
        return True
    except (MemoryError, RuntimeError) as error:
        if part.stop - part.start == 1 or not is_out_of_memory(error):
            raise
    # out of the handler, so that the failed batch is no longer held by its traceback
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def _full_name(device: str) -> str:
    """Name a device by kind and number: "cuda" is "cuda:0" where that is current."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{torch.cuda.current_device()}"


@lru_cache(maxsize=64)
def _lock(name: str) -> threading.RLock:
    """One lock for each device of this process."""
    return threading.RLock()


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads, and restore what it used before."""
    import torch

    before = torch.get_num_threads()
    if count is None or count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _among_processes(name: str) -> Iterator[None]:
    """Hold a GPU alone among the processes of this machine, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    import torch

    card = torch.cuda.get_device_properties(name)
    mark = getattr(card, "uuid", name.replace(":", ""))
    path = Path(tempfile.gettempdir()) / f"xstsr-gpu-{mark}.lock"
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
        yield


def choose_device(device: str | None) -> str:
    """Name the device to run networks on: a GPU where there is one."""
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise XstsrError(
            f"cannot run on device={device!r}: there is no such kind. Pass 'cpu', "
            "'cuda' or 'cuda:1'."
        ) from error
    if wanted.type != "cuda" or current_client() is not None:
        return device  # a cluster's workers are asked before they write
    count = torch.cuda.device_count()
    if (wanted.index or 0) >= count:
        raise XstsrError(
            f"cannot run on device={device!r}: this torch ({torch.__version__}) sees "
            f"{count} GPUs. Pass device='cpu', or install a CUDA build of torch."
        )
    return device


def current_client() -> "Client | None":
    """Return the client that Dask would use, if any."""
    if "distributed" not in sys.modules:
        return None
    import dask.base

    get = dask.base.get_scheduler()
    client = getattr(get, "__self__", None)
    return client if type(client).__name__ == "Client" else None


def count_gpus() -> int:
    """Count the GPUs that torch sees in this process."""
    import torch

    return int(torch.cuda.device_count())
