"""Messages on standard error, and what is typed: files, patterns, sizes of chunks."""

import glob
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

Form = Literal["bar", "lines", "json"]
PACE = 10.0  # seconds between two lines on progress, at least


@dataclass
class Log:
    """How to tell what happens.

    Parameters
    ----------
    form : str
        ``"bar"``: plain messages, and a bar where someone is looking; ``"lines"``: a
        line with the time for each event; ``"json"``: the same as an object a line.
    """

    form: Form = "bar"

    def tell(self, event: str, message: str, **facts: object) -> None:
        """Tell one event.

        Parameters
        ----------
        event : str
            Its kind: ``"note"``, ``"error"``, ``"progress"``, ``"wrote"``.
        message : str
            For people.
        **facts
            For machines, as further keys of the object.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        line = {
            "bar": f"{_TITLES.get(event, '')}{message}",
            "lines": f"{now} {event}: {message}",
            "json": json.dumps(
                {"time": now, "event": event, "message": message, **facts}
            ),
        }[self.form]
        click.echo(line, err=True)

    def progress(self) -> Callable[[int, int], None] | None:
        """Give a function of (done, total) windows; None for the usual bar."""
        if self.form == "bar":
            return None
        begun: list[tuple[float, int]] = []
        told = -PACE

        def tick(done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            begun.append((now, done))
            del begun[1:]
            if now - told < PACE and done < total:
                return
            told = now
            start, before = begun[0]
            rate = (done - before) / (now - start) if done > before else None
            left = (total - done) / rate if rate else None
            message = f"{done} of {total} windows"
            if left:
                message += f", {left / 60:.2g} min left"
            self.tell("progress", message, done=done, total=total, seconds_left=left)

        return tick


_TITLES = {"note": "note: ", "error": "xstsr: ", "wrote": "wrote "}


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
