"""What the command line makes of what is typed: files, patterns, sizes of chunks."""

import glob
from collections.abc import Sequence
from pathlib import Path

import click


def find_files(
    ctx: click.Context, param: click.Parameter, names: Sequence[str]
) -> list[Path]:
    """Find files by name or by pattern, which shells do not always expand."""
    found = []
    for name in names:
        matching = [name] if Path(name).exists() else sorted(glob.glob(name))
        if not matching:
            raise click.BadParameter(f"{name!r} does not exist, and matches nothing.")
        found += [Path(path) for path in matching]
    return found


def read_chunks(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> dict[str, int] | None:
    """Read sizes of chunks, as time=24,lat=100."""
    if text is None:
        return None
    try:
        pairs = (part.split("=") for part in text.split(","))
        return {dim.strip(): int(size) for dim, size in pairs}
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not like time=24,lat=100.") from error


def set_form(ctx: click.Context, param: click.Parameter, form: str) -> None:
    """Tell things in this form from here on."""
    ctx.obj.form = form
