"""Progress with rate and time left, where someone is looking.

A bar in a terminal and in Jupyter, and nothing elsewhere: logs are not for bars.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Tick = Callable[[int, int], object]


@contextmanager
def ticking(done: int, total: int, progress: bool | Tick | None) -> Iterator[Tick]:
    """Give a function that takes (done, total) each time that a window is finished.

    Parameters
    ----------
    done, total : int
        How many were finished before, and are wanted.
    progress : bool or callable, optional
        True for a bar, False for none, or a function to call in its place; by default
        a bar where someone is looking.
    """
    if callable(progress):
        progress(done, total)
        yield progress
        return
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # a notebook without ipywidgets has no bar, and need not hear of it each time
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    in_notebook = "notebook" in tqdm.__mro__[1].__module__
    hidden = None if progress is None and not in_notebook else progress is False
    bar: Any = tqdm(
        total=total, initial=done, unit="window", disable=hidden, smoothing=0.1
    )
    with bar:
        yield lambda now, _: bar.update(now - bar.n)
