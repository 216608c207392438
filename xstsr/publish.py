"""From a growing store to a finished one: root metadata last, and one rename."""

import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

from xstsr.journal import Journal, sync

CALL = "xstsr_call"  # attribute of a finished store: what was asked for, as JSON
METADATA = (".zarray", ".zattrs")
ROOT = (".zgroup", ".zattrs")


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
    _complete_metadata(journal)
    for torn in (journal.store / name).glob("*.partial"):
        torn.unlink()
    sync(journal.store)
    if target.exists():
        target.rename(target.with_name(f".{target.name}-{uuid4().hex[:12]}-old"))
    journal.store.rename(target)
    sync(target.parent)
    for rest in (journal.folder, *target.parent.glob(f".{target.name}-*-old")):
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
    _complete_metadata(journal)
    for entry in journal.finished().values():
        for chunk in entry:
            source = journal.store / name / chunk
            if source.exists():
                source.replace(target / name / chunk)
    sync(target / name)
    # one chunk holds the numbers of all: readers of the old metadata take the first
    renewed = ["realization/0"]
    renewed += [f"{v}/{m}" for v in (name, "realization") for m in METADATA]
    # readers look at the one file that holds all metadata, `call_of` at the last one
    for path in [*renewed, ".zmetadata", ".zattrs"]:
        side = target / f"{path}.partial"
        shutil.copyfile(journal.store / path, side)
        sync(side)
        side.replace(target / path)
    sync(target)
    shutil.rmtree(journal.folder, ignore_errors=True)


def _complete_metadata(journal: Journal) -> None:
    """Give a store its root metadata, and one file that holds all of them."""
    import zarr

    for part in ROOT:
        shutil.copyfile(journal.root / part[1:], journal.store / part)
    zarr.consolidate_metadata(str(journal.store), zarr_format=2)
