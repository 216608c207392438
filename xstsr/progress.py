"""Progress with rate and time left, where someone is looking.

A bar in a terminal and in Jupyter, and nothing elsewhere: logs are not for bars.
``TQDM_DISABLE=1`` in the environment hides all of them.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Tick = Callable[[int, int], object]

PATIENCE = 2.0  # seconds that nobody minds to wait without a bar


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
