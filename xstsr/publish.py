"""From a layout to a finished store: root metadata last, and one rename."""

import json
import shutil
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from xstsr.storage.journal import Journal, sync

if TYPE_CHECKING:
    import xarray as xr
    from zarr.core.buffer import Buffer

CALL = "xstsr_call"  # attribute of a finished store: what was asked for, as JSON
METADATA = (".zarray", ".zattrs")
ROOT = (".zattrs", ".zmetadata", ".zgroup")


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
