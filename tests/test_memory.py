"""How much memory there is, and how to say it."""

import builtins
import io
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xstsr import memory
from xstsr.display import readable
from xstsr.memory import available_bytes, evaluation_bytes, keep_freed_memory


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "0 B"),
        (1023, "1.02e+03 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (2**20, "1 MiB"),
        (3_400_000_000, "3.17 GiB"),
        (2**40, "1 TiB"),
        (5 * 2**50, "5.12e+03 TiB"),
    ],
)
def test_readable_takes_the_unit_that_fits(size, told):
    assert readable(size) == told


@given(st.integers(0, 2**60))
def test_readable_is_right_to_three_digits(size):
    number, unit = readable(size).split()
    factor = 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)
    assert float(number) * factor == pytest.approx(size, rel=5.1e-3)
    assert unit == "TiB" or float(number) <= 1024


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No control groups and no limits but those that a test makes."""
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "none")
    monkeypatch.setattr(memory, "_limit_bytes", list)


def pretend(monkeypatch, text):
    """Let /proc/meminfo hold a text, or, if None, not exist."""
    original = builtins.open

    def opened(path, *args, **kwargs):
        if path != "/proc/meminfo":
            return original(path, *args, **kwargs)
        if text is None:
            raise FileNotFoundError(path)
        return io.StringIO(text)

    monkeypatch.setattr(builtins, "open", opened)


def test_available_bytes_reads_what_linux_tells(monkeypatch):
    pretend(monkeypatch, "MemTotal:  900 kB\nMemFree: 5 kB\nMemAvailable:   123 kB\n")
    assert available_bytes() == 123 * 1024


@pytest.mark.parametrize("text", [None, "MemTotal: 900 kB\n"])
def test_available_bytes_takes_half_of_all_where_linux_tells_nothing(monkeypatch, text):
    pretend(monkeypatch, text)
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert available_bytes() == 4096 * 500


def test_available_bytes_guesses_where_no_one_tells(monkeypatch):
    pretend(monkeypatch, None)

    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    assert available_bytes() == 8 * 2**30


def test_available_bytes_guesses_on_windows(monkeypatch):
    pretend(monkeypatch, None)
    monkeypatch.delattr(os, "sysconf")
    assert available_bytes() == 8 * 2**30


def test_available_bytes_is_plausible_here():
    assert 2**20 < available_bytes() < 2**50


def group(folder, names, limit, usage, cache):
    """Write the files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, usage), strict=True):
        (folder / name).write_text(f"{value}\n")
    (folder / "memory.stat").write_text(
        f"anon 5\ninactive_file {cache}\ntotal_inactive_file {cache}\n"
    )


V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")
V2 = ("memory.max", "memory.current")


def member(monkeypatch, tmp_path, line):
    (tmp_path / "cgroup").write_text(f"5:cpuset:/elsewhere\n{line}\n")
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "fs")
    pretend(monkeypatch, "MemAvailable: 1000000 kB\n")


@pytest.mark.parametrize(
    ("line", "names", "root"),
    [("0::/job/step", V2, "fs"), ("4:memory:/job/step", V1, "fs/memory")],
)
def test_available_bytes_heeds_the_tightest_control_group(
    monkeypatch, tmp_path, line, names, root
):
    member(monkeypatch, tmp_path, line)
    # the step may have all, its job 50 MB of which 30 are taken and 4 only cache
    group(tmp_path / root / "job/step", names, "max", 30_000_000, 4_000_000)
    group(tmp_path / root / "job", names, 50_000_000, 30_000_000, 4_000_000)
    assert available_bytes() == 24_000_000


def test_available_bytes_heeds_the_limit_of_a_container(monkeypatch, tmp_path):
    """Whose group has the path of the host, which it cannot see."""
    member(monkeypatch, tmp_path, "0::/kubepods/pod7/abc")
    group(tmp_path / "fs", V2, 9_000_000, 2_000_000, 0)
    assert available_bytes() == 7_000_000


def test_available_bytes_is_never_negative(monkeypatch, tmp_path):
    member(monkeypatch, tmp_path, "0::/full")
    group(tmp_path / "fs/full", V2, 1000, 2000, 0)
    assert available_bytes() == 0


def test_groups_without_a_limit_limit_nothing(monkeypatch, tmp_path):
    member(monkeypatch, tmp_path, "0::/free")
    group(tmp_path / "fs/free", V2, "max", 2000, 0)
    assert available_bytes() == 1_024_000_000


def test_available_bytes_heeds_the_limit_of_the_process():
    """In a process of its own, because limits cannot be raised again."""
    code = (
        "import resource; from xstsr.memory import available_bytes\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
        "print(available_bytes())"
    )
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert 0 < int(done.stdout) < 2**31


def test_evaluation_takes_more_for_more_pixels():
    per_pixel = (evaluation_bytes(3_000_000) - evaluation_bytes(1_000_000)) / 2e6
    assert 100 < per_pixel < 1000
    assert evaluation_bytes(0) > 0


FAULTS = """
import resource, sys
import numpy as np
from xstsr.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones(400_000)  # 3.2 MB, too little for the huge pages that numpy asks for
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = faults()
print(keep_freed_memory(), usual, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc has mallopt")
def test_memory_that_was_freed_is_used_again():
    """As in a worker of `distributed`, which gives all of it back by default."""
    told = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env=os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    if told[0] == "False":
        pytest.skip("this C library has no mallopt")
    usual, kept = int(told[1]), int(told[2])
    if usual < 10_000:
        pytest.skip(f"the system gives {usual} large pages, whatever is asked for")
    assert kept < usual / 4  # the first block is still cleared


def test_memory_is_given_back_where_no_one_can_be_told_to_keep_it(monkeypatch):
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not keep_freed_memory()
    keep_freed_memory.cache_clear()
