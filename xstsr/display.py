"""Text for people: cards of labelled values, progress bars, sizes in bytes.

A bar shows rate and time left in a terminal and in Jupyter, and nowhere else: logs are
not for bars. ``TQDM_DISABLE=1`` in the environment hides all of them.
"""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

Rows = Sequence[tuple[str, str]]
Tick = Callable[[int, int], object]
PATIENCE = 2.0  # seconds that nobody minds to wait without a bar


def text(title: str, rows: Rows) -> str:
    """Write a card as aligned lines.

    Examples
    --------
    >>> print(text("Plan", [("s", "10"), ("windows", "3")]))
    Plan
      s        10
      windows  3
    """
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def html(title: str, rows: Rows) -> str:
    """Write a card as a table."""
    cell = "text-align:left;vertical-align:top;white-space:normal"
    lines = "".join(
        f"<tr><th style='{cell}'>{escape(name)}</th>"
        f"<td style='{cell}'>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<div><b>{escape(title)}</b><table>{lines}</table></div>"


@contextmanager
def ticking(
    done: int,
    total: int,
    progress: bool | Tick | None = None,
    *,
    name: str | None = None,
    patience: float = 0.0,
) -> Iterator[Tick]:
    """Give a function that takes (done, total) each time that a window is finished.

    Parameters
    ----------
    done, total : int
        How many were finished before, and are wanted.
    progress : bool or callable, optional
        True for a bar, False for none, or a function to call in its place; by default
        a bar where someone is looking.
    name : str, optional
        What the bar is called.
    patience : float
        The bar appears after so many seconds, if at all.
    """
    if callable(progress):
        progress(done, total)
        yield progress
        return
    if not (is_watched() if progress is None else progress):
        yield lambda now, total: None
        return
    bar = bar_class()(
        total=total,
        initial=done,
        desc=name,
        unit="window",
        delay=patience,
        smoothing=0.1,
    )
    with bar:
        yield lambda now, _: bar.update(now - bar.n)


def is_watched() -> bool:
    """Tell whether someone is looking: at a terminal, or at a notebook."""
    return sys.stderr.isatty() or _in_jupyter()


def bar_class() -> Any:
    """Choose the bar: tqdm's widget in Jupyter where it can be shown, else its text."""
    with warnings.catch_warnings():
        # text does as well as a widget where ipywidgets is not installed
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm
    return tqdm


def _in_jupyter() -> bool:
    """Tell whether this process is the kernel of a notebook."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return "IPKernelApp" in getattr(get_ipython(), "config", ())


def readable(size: float) -> str:
    """Write a size in bytes for people.

    Examples
    --------
    >>> readable(3_400_000_000)
    '3.17 GiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
