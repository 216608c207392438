"""Write a file or a folder whole, or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` that takes its place once what is written is whole.

    Parameters
    ----------
    path : Path
        A file or a folder, new or old; folders above it are made.

    Yields
    ------
    Path
        What to write. If that fails, the target stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex[:12]
    new = path.with_name(f".{path.stem}-{mark}{path.suffix}")
    old = path.with_name(f".{path.stem}-{mark}-old{path.suffix}")
    try:
        yield new
        # a directory cannot be replaced by rename: move the old one away first
        if path.is_dir():
            path.rename(old)
        new.replace(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        for rest in (new, old):
            if rest.is_dir():
                shutil.rmtree(rest)
            else:
                rest.unlink(missing_ok=True)
