"""How much memory there is, and how much the work takes."""

import ctypes
import os
import sys
from functools import lru_cache
from pathlib import Path

PROCESS = 420 * 2**20  # measured: Python with xarray, Dask and torch
EVALUATION = 60 * 2**20  # measured: what a network takes for the smallest window
# measured peaks on the CPU, float32: of sampling by diffusion, and in one evaluation
BYTES_PER_PIXEL, BYTES_PER_PIXEL_AT_ONCE = 290, 130
KEPT = 256 * 2**20  # of freed memory, for what is needed next
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's mallopt(3)
_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def evaluation_bytes(pixels: int, per_pixel: int = BYTES_PER_PIXEL) -> int:
    """Tell the peak memory of a network and its input for so many fine pixels."""
    return EVALUATION + per_pixel * pixels


def available_bytes() -> int:
    """Return the memory that can be had now, in bytes; a guess where no one tells.

    The least of what the machine has free, what the control groups of this process
    leave (containers, batch jobs) and what its own limit (``ulimit -v``) does.
    """
    return max(0, min([_machine_bytes(), *_group_bytes(), *_limit_bytes()]))


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let this process keep up to `KEPT` bytes of freed memory; tell if it does.

    Networks ask for the same large blocks again and again. By default the C library
    hands each of them back to the system, which clears its pages before it gives it
    out again: a fourth of the time of an evaluation, and half of it in workers of
    `distributed`, whose environment asks for that.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return False
    return all(mallopt(option, KEPT) for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))


def _machine_bytes() -> int:
    """Memory that the machine has free."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


def _group_bytes() -> list[int]:
    """Memory that each control group around this process leaves to it."""
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names = ("memory.max", "memory.current", "inactive_file")
            roots = [_CGROUPS, _CGROUPS / "unified"]
        elif "memory" in controllers.split(","):
            names = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
            roots = [_CGROUPS / "memory"]
        else:
            continue
        for root in roots:
            group = root / path.lstrip("/")
            # inside a container the path is that of the host, and the root is its own
            found += [
                _left(at, *names)
                for at in (group, *group.parents)
                if at.is_relative_to(root)
            ]
    return [left for left in found if left is not None]


def _left(group: Path, limit: str, usage: str, cache: str) -> int | None:
    """Memory that one control group leaves; None where it sets no limit."""
    try:
        most, used = ((group / name).read_text().strip() for name in (limit, usage))
        stat = (group / "memory.stat").read_text()
    except OSError:
        return None
    if not most.isdigit():  # "max"
        return None
    kept = dict(line.split()[:2] for line in stat.splitlines())
    return int(most) - int(used) + int(kept.get(cache, 0))


def _limit_bytes() -> list[int]:
    """Memory that the limit on the address space of this process leaves."""
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY:
            return []
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return [most - pages * resource.getpagesize()]
    except (ImportError, OSError):  # Windows, macOS
        return []
