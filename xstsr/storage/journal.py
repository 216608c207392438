"""The journal of a growing store: what was asked for, and what is written.

A store grows in a folder beside its target, ``out.zarr.part``:

================  ====================================================================
``call.json``     what was asked for; written when all else is in place
``journal/``      one file for each process that writes, a line for each finished block
``store/``        the Zarr store, which no reader can open: its root metadata are in
``root/``         until all is written
``lock``          held by who writes
================  ====================================================================

A line is written once the chunks that it names are safe on disk, so that a process may
be killed at any moment: what has no line is computed again. The values of the input are
known again by their fingerprint, the same in any chunks.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from xstsr.errors import StoreError
from xstsr.typing import Array

if TYPE_CHECKING:
    import dask.array

PART = ".part"
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Journal:
    """A growing store's folder.

    Parameters
    ----------
    folder : Path
        ``out.zarr.part``.
    """

    folder: Path

    @classmethod
    def beside(cls, target: Path) -> "Journal":
        """Name the folder in which the store of that name grows."""
        return cls(target.with_name(target.name + PART))

    @property
    def target(self) -> Path:
        """Where the store will be."""
        return self.folder.with_name(self.folder.name.removesuffix(PART))

    @property
    def store(self) -> Path:
        """The Zarr store inside."""
        return self.folder / "store"

    @property
    def root(self) -> Path:
        """Where the store's root metadata wait."""
        return self.folder / "root"

    @property
    def exists(self) -> bool:
        """Whether there is a store that can be gone on with.

        A run that is killed once its store has its name leaves the call alone behind.
        """
        return (self.folder / "call.json").is_file() and self.store.is_dir()

    def call(self) -> dict[str, Any]:
        """Read what was asked for."""
        path = self.folder / "call.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise StoreError(
                f"cannot read {str(path)!r}: {error}. Remove {str(self.folder)!r} and "
                "start again."
            ) from error
        return found

    def clear(self) -> None:
        """Make room for another run; what says that there is one goes first."""
        (self.folder / "call.json").unlink(missing_ok=True)
        for part in self.folder.iterdir():
            if part.is_dir():
                shutil.rmtree(part)
            elif part.name != "lock":
                part.unlink()

    def _refuse_strangers(self) -> None:
        """Refuse a folder with anything in it that no run has left."""
        own = ("call.json", "call-*.json", "journal", "store", "root", "lock")
        there = self.folder.iterdir()
        strange = sorted(p.name for p in there if not any(map(p.match, own)))
        if strange:
            raise StoreError(
                f"cannot grow a store in {str(self.folder)!r}: the folder holds "
                f"{strange[:3]}, which no run has written. Choose another target, or "
                "move the folder away."
            )

    def begin(self, call: Mapping[str, Any]) -> None:
        """Write what was asked for, whole or not at all."""
        (self.folder / "journal").mkdir(exist_ok=True)
        side = self.folder / f"call-{uuid4().hex}.json"
        side.write_text(json.dumps(call, indent=1), encoding="utf-8")
        sync(side)
        side.replace(self.folder / "call.json")

    def note(self, block: str, sizes: Mapping[str, int | None]) -> None:
        """Write down that a block is finished, with the sizes of its files.

        Parameters
        ----------
        block : str
            Its name.
        sizes : mapping of str to int or None
            Bytes of each of its chunks; None for one that holds no data and no file.
        """
        # begun on a line of its own: a full disk may have cut the one before
        line = "\n" + json.dumps({"block": block, "sizes": dict(sizes)}) + "\n"
        with _LOCK, open(_own_file(self.folder, os.getpid()), "a") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def finished(self) -> dict[str, dict[str, int | None]]:
        """Read which blocks are finished, with the sizes of their files."""
        found = {}
        for path in sorted((self.folder / "journal").glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    found[entry["block"]] = entry["sizes"]
                except (json.JSONDecodeError, KeyError, TypeError):
                    continue  # torn when its process was killed: not finished
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, which is made if need be, against others that would write.

        Raises
        ------
        StoreError
            Another process holds it, it cannot be made, or others use its name.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._refuse_strangers()
            number = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR)
        except OSError as error:
            raise StoreError(
                f"cannot write in {str(self.folder.parent)!r}: {error}. Choose a "
                "folder that you may write to."
            ) from error
        try:
            _lock(number, self.folder)
            try:
                yield
            finally:
                if [path.name for path in self.folder.glob("*")] == ["lock"]:
                    shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            os.close(number)


def sync(path: Path) -> None:
    """Wait until a file or folder is safe on disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in which points two calls differ.

    Examples
    --------
    >>> differences({"seed": 1, "s": 2}, {"seed": 3, "s": 2})
    ['seed: 1 there, 3 now']
    """
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
        for key in [*now, *(key for key in before if key not in now)]
        if before.get(key) != now.get(key)
    ]


@lru_cache(maxsize=16)
def _own_file(folder: Path, process: int) -> Path:
    """Name this process's own file, so that no two write to one."""
    return folder / "journal" / f"{process}-{uuid4().hex}.jsonl"


def _lock(number: int, folder: Path) -> None:
    """Lock an open file; the system gives it back when its process ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # who held it before may have finished, and removed the file
        if not os.path.samestat(os.fstat(number), os.stat(folder / "lock")):
            raise FileNotFoundError("it has just finished")
    except OSError as error:
        raise StoreError(
            f"cannot write to {str(folder)!r}: another process is writing to it "
            f"({error}). Wait for it, or choose another target."
        ) from error


def fingerprint(values: "Array | dask.array.Array") -> str:
    """Sum up a scrambled number for each value and its place.

    Not meant to withstand an attack: only to tell data apart. NaN counts as one value,
    whatever its bits, and so does zero of either sign. Lazy data are read once, chunk
    by chunk.

    Parameters
    ----------
    values : numpy or dask array of floats, any shape

    Returns
    -------
    str
        16 hexadecimal digits.

    Examples
    --------
    >>> fingerprint(np.array([1.0, 2.0])) == fingerprint(np.array([2.0, 1.0]))
    False
    """
    if isinstance(values, np.ndarray):
        return f"{_sum(values, (0,) * values.ndim, values.shape):016x}"
    import dask.array

    shape = values.shape

    def part(block: Array, block_info: Any = None) -> Array:
        corner = tuple(start for start, _ in block_info[0]["array-location"])
        total = _sum(block, corner, shape)
        return np.full((1,) * block.ndim, total, np.uint64)

    parts = dask.array.map_blocks(
        part, values, dtype=np.uint64, chunks=tuple((1,) * n for n in values.numblocks)
    )
    return f"{int(np.asarray(parts.compute()).sum(dtype=np.uint64)):016x}"


def _sum(block: Array, corner: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Sum over one block that lies at `corner` of an array of this shape."""
    strides = np.cumprod([1, *shape[:0:-1]], dtype=np.uint64)[::-1]  # in C order
    total = 0
    row = np.arange(block.shape[-1], dtype=np.uint64)
    # two axes at a time, so that little is held besides the block
    for at in np.ndindex(block.shape[:-2]):
        place = row + np.uint64(corner[-1])
        for axis, i in enumerate(at):
            place = place + np.uint64(corner[axis] + i) * strides[axis]
        if block.ndim > 1:
            rows = np.arange(block.shape[-2], dtype=np.uint64) + np.uint64(corner[-2])
            place = place + (rows * strides[-2])[:, None]
        total += int(_scramble(_bits(block[at]) ^ _scramble(place)).sum())
    return total % 2**64


def _bits(values: Array) -> Array:
    """Take floats for unsigned integers."""
    plain = np.where(np.isnan(values), np.nan, values + 0.0).astype(values.dtype)
    size = values.dtype.itemsize
    return plain.view(f"u{size}").astype(np.uint64)


def _scramble(x: Array) -> Array:
    """Mix 64 bits so that each depends on all (the finalizer of SplitMix64)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = x ^ (x >> np.uint64(31))
    return mixed


def described(edges: Array) -> str:
    """Tell edges apart: by what people see in them, and by all their values.

    Parameters
    ----------
    edges : ndarray, shape (N + 1,)
        Of cells or steps.

    Returns
    -------
    str
        How many cells, both ends, and the fingerprint.
    """
    ends = " to ".join(str(edges[i]) for i in (0, -1))
    digest = fingerprint(edges.astype(np.float64))
    return f"{edges.size - 1} cells, {ends} ({digest})"
