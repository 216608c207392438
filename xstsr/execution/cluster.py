"""Where the graph is computed: this process, its children, or a Dask cluster.

The scheduler is the one that Dask would choose: that of a `distributed.Client`, else
the one configured, else threads. A cluster is looked at before anything is written.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xstsr.errors import StoreError, XstsrError
from xstsr.methods.devices import count_gpus, current_client

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 60.0  # seconds to wait for workers where none are left
LOOK = 2.0  # seconds between looks
REACH = 10  # seconds to wait for a scheduler


def execute(
    graph: Mapping[Any, Any], keys: Sequence[Any], done: Callable[[], object]
) -> None:
    """Compute some keys of a graph for their effects.

    Parameters
    ----------
    graph : mapping
        Tasks by key.
    keys : sequence
        What is wanted.
    done : callable
        Called each time that one of these is finished.

    Raises
    ------
    StoreError
        Workers were lost, or a child process was.
    """
    client = current_client()
    if client is not None:
        with _aside():
            _execute_there(client, graph, keys, done)
        return
    import dask.base
    import dask.threaded
    from dask.callbacks import Callback

    wanted = set(keys)

    def finished(key: Any, *_: object) -> None:
        if key in wanted:
            done()

    get = dask.base.get_scheduler() or dask.threaded.get
    try:
        with Callback(posttask=finished):
            get(graph, list(keys))
    except BrokenProcessPool as error:
        raise StoreError(f"a worker process was lost ({error}).") from error


def check_workers(
    client: "Client", folder: Path, device: str, needed_bytes: int
) -> list[str]:
    """Make sure that every worker can do the work; say what might go wrong.

    Parameters
    ----------
    client : Client
        Of the cluster.
    folder : Path
        Where workers write.
    device : str
        Where networks run.
    needed_bytes : int
        Memory that a worker takes.

    Returns
    -------
    list of str
        Warnings.

    Raises
    ------
    XstsrError
        There is no worker, or one lacks the package, the folder or the GPU, or has
        another version.
    """
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise XstsrError(
            f"cannot compute on the cluster at {_address(client)}: it has no workers "
            f"after {PATIENCE:g} s. Start some: dask worker {_address(client)}."
        ) from error
    here = version("xstsr")
    for worker, found in _ask(client, version, "xstsr").items():
        if found != here:
            got = "no xstsr" if isinstance(found, BaseException) else f"xstsr {found}"
            raise XstsrError(
                f"cannot compute on the worker {worker}: it has {got}, and this is "
                f"xstsr {here}. Install the same version there."
            )
    for worker, found in _ask(client, os.path.isdir, str(folder)).items():
        if found is not True:
            raise XstsrError(
                f"cannot write from the worker {worker}: it does not see the folder "
                f"{str(folder)!r}. Choose a target on a file system that all share."
            )
    if device.startswith("cuda"):
        for worker, found in _ask(client, count_gpus).items():
            if not isinstance(found, int) or found < 1:
                raise XstsrError(
                    f"cannot run on device={device!r} on the worker {worker}: it sees "
                    f"{found} GPUs. Pass device='cpu', or start workers with GPUs."
                )
    limits = [limit for limit in _ask(client, _memory_limit).values() if limit]
    least = min(limits, default=needed_bytes)
    if least >= needed_bytes:
        return []
    return [
        f"a worker takes about {needed_bytes / 2**30:.2g} GiB, and one may have "
        f"{least / 2**30:.2g} GiB only"
    ]


def _memory_limit(dask_worker: Any) -> int:
    """Memory that a worker may have; 0 where nothing limits it."""
    return int(dask_worker.memory_manager.memory_limit or 0)


@contextmanager
def cluster(workers: int | None, address: str | None) -> "Iterator[Client | None]":
    """Use a Dask cluster of one's own or of others, if asked for.

    Parameters
    ----------
    workers : int, optional
        Worker processes to start on this machine, which share its cores and memory.
    address : str, optional
        Of a scheduler that runs.

    Raises
    ------
    XstsrError
        `distributed` is missing, or the scheduler cannot be reached.
    """
    if workers is None and address is None:
        yield None
        return
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise XstsrError(
            f"cannot use workers={workers!r} or scheduler={address!r}: {error}. "
            "Install it: pip install 'xstsr[distributed]'."
        ) from error
    if address is not None:
        try:
            client = Client(address, timeout=REACH)
        except (OSError, TimeoutError, ValueError) as error:
            raise XstsrError(
                f"cannot reach a Dask scheduler at {address!r}: {error}. Check the "
                "address, which looks like tcp://host:8786."
            ) from error
        with client:
            yield client
        return
    assert workers is not None
    threads = max(1, _cores() // workers)
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=threads, dashboard_address=":0"
        ) as local,
        Client(local) as client,
    ):
        yield client


def _execute_there(
    client: "Client",
    graph: Mapping[Any, Any],
    keys: Sequence[Any],
    done: Callable[[], object],
) -> None:
    """Compute on a cluster, and see to it that someone is working."""
    from distributed import KilledWorker, as_completed
    from distributed.client import FutureCancelledError
    from distributed.comm.core import CommClosedError

    futures = client.get(graph, list(keys), sync=False)
    waiting, left, seen = as_completed(futures), len(futures), time.monotonic()
    try:
        while left:
            for future in waiting.next_batch(block=False):
                # what went well is on disk; its value, on a worker that was lost since,
                # would be waited for in vain
                if future.status in ("error", "cancelled"):
                    future.result()
                done()
                left -= 1
            now = time.monotonic()
            if now - seen > LOOK and not _is_alone(client):
                seen = now
            if now - seen > LOOK + PATIENCE:
                raise StoreError(
                    f"the cluster at {_address(client)} has had no workers for "
                    f"{PATIENCE:g} s."
                )
            time.sleep(0.02)
    except (KilledWorker, FutureCancelledError, CommClosedError) as error:
        raise StoreError(
            f"the cluster lost its workers or its scheduler ({error!r})."
        ) from error
    finally:
        client.cancel(futures)


@contextmanager
def _aside() -> Iterator[None]:
    """Leave the threads of a worker whose task this is: it waits for others of them."""
    from distributed import get_worker, rejoin, secede

    try:
        get_worker()
    except ValueError:  # not in a task
        yield
        return
    secede()
    try:
        yield
    finally:
        rejoin()


def _is_alone(client: "Client") -> bool:
    """Tell whether no worker is left, or no scheduler."""
    if client.status != "running":
        raise StoreError(f"the scheduler at {_address(client)} was lost.")
    return not client.nthreads()


def _ask(client: "Client", function: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """Call a function on every worker; an error is an answer too."""
    found: dict[str, Any] = client.run(function, *args, on_error="return")
    return found


def _address(client: "Client") -> str:
    """Where the scheduler is."""
    return str(getattr(client.scheduler, "address", "?"))


def _cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
