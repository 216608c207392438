"""Shared fixtures: the hypothesis profiles, the radar archive, laziness."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent

# No deadline: the first call of a torch or dask function is a hundred times slower
# than the next. In CI the examples are the same on every run.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def radar_data() -> Path:
    """The archive of real radar rain beside the repository, or a visible skip."""
    archive = REPOSITORY.parent / "shared" / "data"
    if not archive.is_dir():
        pytest.skip("the radar archive ../shared/data is not on this machine")
    return archive


@contextmanager
def _forbid_dask_compute() -> Iterator[None]:
    import dask

    def refuse(dsk: object, keys: object, **kwargs: object) -> None:
        pytest.fail("dask computed something that had to stay lazy")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def no_compute() -> type[AbstractContextManager[None]]:
    """``with no_compute(): ...`` fails the test the moment dask computes."""
    return _forbid_dask_compute
