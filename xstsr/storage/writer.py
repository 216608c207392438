"""Blocks of a Dask array into a growing Zarr store, and the store's publication.

A block is what one task computes; it fills whole chunks of the store. Whichever process
computes it writes it, and notes it in the journal when its files are safe on disk. The
root metadata come last, and one rename gives the store its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from xstsr.errors import StoreError
from xstsr.storage.journal import Journal, sync
from xstsr.typing import Array

if TYPE_CHECKING:
    import dask.array


import json
import shutil
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr
    from zarr.core.buffer import Buffer


Corner = tuple[int, ...]
Blocks = Mapping[Corner, tuple[Corner, Corner]]
CALL = "xstsr_call"  # attribute of a finished store: what was asked for, as JSON
METADATA = (".zarray", ".zattrs")
ROOT = (".zattrs", ".zmetadata", ".zgroup")


@dataclass(frozen=True)
class Target:
    """A variable of a growing store.

    Parameters
    ----------
    journal : Journal
        Of the store.
    name : str
        The variable.
    chunks : tuple of int
        Sizes of its chunks.
    """

    journal: Journal
    name: str
    chunks: tuple[int, ...]

    def files(self, start: Sequence[int], shape: Sequence[int]) -> list[str]:
        """Name the chunks that a block fills.

        Examples
        --------
        >>> Target(Journal(None), "pr", (1, 6)).files((2, 12), (2, 4))
        ['2.2', '3.2']
        """
        numbers = (
            range(a // c, -(-(a + n) // c))
            for a, n, c in zip(start, shape, self.chunks, strict=True)
        )
        return [".".join(map(str, at)) for at in product(*numbers)]


def missing_blocks(target: Target, field: "dask.array.Array", shift: int) -> Blocks:
    """Find the blocks that the journal does not hold.

    Parameters
    ----------
    target : Target
        Where they go.
    field : dask array
        What is to be written.
    shift : int
        Where the field begins along the store's first axis.

    Returns
    -------
    mapping
        From a block's place among the others to its start and shape in the store.
    """
    ends = [np.cumsum([0, *sizes]) for sizes in field.chunks]
    finished = target.journal.finished()
    found = {}
    for at in np.ndindex(field.numblocks):
        shape = tuple(sizes[i] for i, sizes in zip(at, field.chunks, strict=True))
        start = tuple(int(e[i]) for i, e in zip(at, ends, strict=True))
        start = (start[0] + shift, *start[1:])
        sizes = finished.get(_name(start))
        if sizes is None or not _are_there(target, sizes, shift):
            found[at] = (start, shape)
    return found


def write_tasks(
    target: Target, field: "dask.array.Array", blocks: Blocks
) -> tuple[Mapping[Any, Any], list[Any]]:
    """Make a graph that writes blocks, and the keys to ask for.

    Parameters
    ----------
    target : Target
        Where they go.
    field : dask array
        Whose blocks they are.
    blocks : mapping
        From `missing_blocks`.
    """
    from dask.highlevelgraph import HighLevelGraph

    # a name of its own for each run: a cluster must not take it for one that is done
    name = f"xstsr-write-{uuid4().hex}"
    place = f"xstsr-target-{name}"
    layer: dict[Any, Any] = {place: target}
    for at, (start, shape) in blocks.items():
        layer[(name, *at)] = (write_block, place, start, shape, (field.name, *at))
    inputs: Any = [field]
    graph = HighLevelGraph.from_collections(name, layer, inputs)
    keys = [(name, *at) for at in blocks]
    return field.__dask_optimize__(graph, keys), keys


def write_block(target: Target, start: Corner, shape: Corner, block: Array) -> None:
    """Write one block and note it in the journal; a task.

    Parameters
    ----------
    target : Target
        Where it goes.
    start, shape : tuple of int
        Its place in the store.
    block : ndarray
        Its values.

    Raises
    ------
    StoreError
        It cannot be written.
    """
    import zarr

    folder = target.journal.store / target.name
    try:
        array = zarr.open_array(str(folder), mode="r+", zarr_format=2)
        region = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
        array[region] = block
        sizes: dict[str, int | None] = {}
        for chunk in target.files(start, shape):
            path = folder / chunk
            if path.exists():  # one without any data has no file
                sync(path)
            sizes[chunk] = path.stat().st_size if path.exists() else None
        sync(folder)
        target.journal.note(_name(start), sizes)
    except OSError as error:
        raise StoreError(
            f"cannot write to {str(folder)!r}: {error}. Free some space, or see to it "
            "that every worker can write there."
        ) from error


def _name(start: Corner) -> str:
    """Name a block by its place in the store, whatever the others are."""
    return ".".join(map(str, start))


def _are_there(target: Target, sizes: Mapping[str, int | None], shift: int) -> bool:
    """Tell whether the files of a finished block are as they were written."""
    folders = [target.journal.store / target.name]
    if shift:  # some may have moved to where the others are
        folders.append(target.journal.target / target.name)
    for chunk, size in sizes.items():
        paths = [folder / chunk for folder in folders]
        found = [path.stat().st_size for path in paths if path.exists()]
        if size is not None and found != [size]:
            return False
    return True


def lay_out(
    journal: Journal, ds: "xr.Dataset", chunks: Mapping[str, tuple[int, ...]]
) -> None:
    """Write a store's metadata and all that is not lazy; its root metadata apart.

    Parameters
    ----------
    journal : Journal
        Of the store.
    ds : Dataset
        What the store will hold.
    chunks : mapping of str to tuple of int
        Sizes of the chunks of some variables.
    """
    from zarr.storage import MemoryStore

    files: dict[str, Buffer] = {}
    # format 3 has no consolidated metadata, and xarray warns when they lack
    ds.to_zarr(
        MemoryStore(files),
        compute=False,
        zarr_format=2,
        consolidated=True,
        encoding={name: {"chunks": sizes} for name, sizes in chunks.items()},
    )
    for name, content in files.items():
        path = journal.store / name
        if name in ROOT:
            path = journal.root / name.removeprefix(".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.to_bytes())
        sync(path)


def is_store(path: Path) -> bool:
    """Tell whether a folder is a Zarr group or array, of either format."""
    names = (".zgroup", ".zarray", "zarr.json")
    return any((path / name).is_file() for name in names)


def call_of(target: Path) -> dict[str, Any] | None:
    """Read what a finished store was asked for; None where there is no such store."""
    try:
        attrs = json.loads((target / ".zattrs").read_text(encoding="utf-8"))
        found: dict[str, Any] = json.loads(attrs[CALL])
    except (OSError, KeyError, json.JSONDecodeError):
        return None
    return found


def publish(journal: Journal, target: Path, name: str) -> None:
    """Give a complete store its root metadata and its name.

    Parameters
    ----------
    journal : Journal
        Of the store.
    target : Path
        Its name; what is there makes room.
    name : str
        The variable that was written.
    """
    for torn in (journal.store / name).glob("*.partial"):
        torn.unlink()
    for part in ROOT:  # from here on it can be read, and all of it is there
        shutil.copyfile(journal.root / part[1:], journal.store / part)
    sync(journal.store)
    if target.exists():
        target.rename(target.with_name(f".{target.name}-{uuid4().hex[:12]}-old"))
    journal.store.rename(target)
    sync(target.parent)
    replaced = target.parent.glob(f".{escape(target.name)}-*-old")
    for rest in (journal.folder, *replaced):
        shutil.rmtree(rest, ignore_errors=True)


def merge(journal: Journal, target: Path, name: str) -> None:
    """Move further realizations into a finished store; its metadata change last.

    Until then a reader sees the store as it was, for files that no metadata name are
    nothing to it.

    Parameters
    ----------
    journal : Journal
        Of the further realizations.
    target : Path
        The finished store.
    name : str
        The variable that was written.
    """
    for entry in journal.finished().values():
        for chunk in entry:
            source = journal.store / name / chunk
            if source.exists():
                source.replace(target / name / chunk)
    sync(target / name)
    # a chunk holds the numbers of many: readers of the old metadata take the first
    numbers = (journal.store / "realization").glob("[0-9]*")
    renewed = [f"realization/{path.name}" for path in sorted(numbers)]
    renewed += [f"{v}/{m}" for v in (name, "realization") for m in METADATA]
    # readers look at the one file that holds all metadata, `call_of` at the last one
    sources = {path: journal.store / path for path in renewed}
    sources |= {path: journal.root / path[1:] for path in (".zmetadata", ".zattrs")}
    for path, source in sources.items():
        side = target / f"{path}.partial"
        shutil.copyfile(source, side)
        sync(side)
        side.replace(target / path)
    sync(target)
    shutil.rmtree(journal.folder, ignore_errors=True)
