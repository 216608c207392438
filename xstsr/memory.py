"""How much memory there is, and how to say it."""

import os


def available_bytes() -> int:
    """Return the memory that can be had now, in bytes; a guess where no one tells."""
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


def readable(size: float) -> str:
    """Write a size in bytes for people.

    Examples
    --------
    >>> readable(3_400_000_000)
    '3.2 GiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
