"""What the commands of this folder share: events, the model's name, tables.

Each command is run from the repository's root, as ``python -m benchmarks.skill``.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xstsr.diffusion.checkpoint import fingerprint
from xstsr.evaluation.protocol import Protocol
from xstsr.files import open_variable

DATA = Path("../shared/data")
Event = tuple[str, xr.DataArray]


def arguments(
    doc: str, *, data: str, out: str, realizations: int
) -> argparse.ArgumentParser:
    """Declare what every command takes."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "data", nargs="?", type=Path, default=DATA / data, help="folder of NetCDF files"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / out)
    parser.add_argument("--model", default="default", help="name or path")
    parser.add_argument("--realizations", type=int, default=realizations)
    parser.add_argument("--steps", type=int, help="network evaluations")
    return parser


def protocol_of(given: argparse.Namespace, **others: Any) -> Protocol:
    """Take from the command line what it has in common with a protocol."""
    names = [field.name for field in fields(Protocol) if field.name in given]
    return Protocol(**{name: getattr(given, name) for name in names} | others)


def open_events(folder: Path) -> list[Event]:
    """Open every NetCDF file of a folder, lazily, as (name, field)."""
    events = []
    for path in sorted(folder.glob("*.nc")):
        dataset, name = open_variable(path)
        events.append((path.stem, dataset[name]))
    if not events:
        sys.exit(f"no NetCDF files in {str(folder)!r}: pass a folder that holds some")
    return events


def short(name: str) -> str:
    """Shorten an event's name to source, place and day: its first three words."""
    return "_".join(name.split("_")[:3])


def signature(model: str) -> str:
    """Name a model with the start of its hash."""
    return f"`{Path(model).stem}` (sha256 {fingerprint(model)[:12]})"


def geometric_mean(ratios: xr.DataArray) -> float:
    """Average ratios: the logarithm's mean, without what is missing."""
    return float(np.exp(np.log(ratios).mean()))


def table(rows: Sequence[Mapping[str, str | float]]) -> str:
    """Write rows as a Markdown table, numbers with three digits."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        cells = (
            value if isinstance(value, str) else f"{value:.3g}"
            for value in row.values()
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def say(line: str) -> None:
    """Tell how far a command is, beside its output."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def report(path: Path) -> Iterator[list[str]]:
    """Gather paragraphs of a report; write and print it at the end."""
    start = time.monotonic()
    parts: list[str] = []
    yield parts
    minutes = (time.monotonic() - start) / 60
    parts.append(f"Took {minutes:.1f} minutes.\n")
    text = "\n".join(parts)
    path.write_text(text, encoding="utf-8")
    print(text)
