"""How much memory there is, and how to say it."""

import builtins
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xstsr.memory import available_bytes, readable


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
