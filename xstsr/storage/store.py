r"""Fine fields straight to Zarr: window by window, resumable, and never half-read.

.. code-block:: python

    xstsr.to_zarr(ds, "fine.zarr", s=10, t=3, name="pr", realizations=8)

The store grows in ``fine.zarr.part``, which no reader can open, and takes its name when
all is written. A run may be killed at any moment: the same call with ``resume=True``
goes on, and ends with the same bytes. To a finished store, realizations can be added.
How the folder looks is told in `xstsr.storage.journal`, where the work runs in
`xstsr.execution.cluster`.
"""

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from xstsr.cf.axes import find_axes
from xstsr.cf.coords import dequantify
from xstsr.cf.read import bounds_of
from xstsr.cf.write import to_dataset
from xstsr.display import readable, ticking
from xstsr.errors import CostWarning, PlanError, StoppedError, StoreError, XstsrError
from xstsr.execution.cluster import check_workers, execute
from xstsr.files import refuse_source, sources_of
from xstsr.memory import available_bytes
from xstsr.methods import find_method
from xstsr.methods.devices import current_client
from xstsr.pipeline import Asked, ask, run
from xstsr.planning.stages import of_realizations, settings_of
from xstsr.storage.journal import Journal, described, differences, fingerprint
from xstsr.storage.writer import (
    CALL,
    Target,
    call_of,
    is_store,
    lay_out,
    merge,
    missing_blocks,
    publish,
    write_tasks,
)
from xstsr.typing import Space

READ = ("input", "known")  # what of a call is told by the values of arrays
PIECE = 2**25  # bytes of a field that is not chunked to read at a time
MANY = 1024  # realizations whose numbers share a chunk, so that more can be added


def to_zarr(
    data: xr.DataArray | xr.Dataset,
    path: str | PathLike[str],
    s: Space,
    t: int = 1,
    *,
    name: str = "",
    resume: bool = False,
    overwrite: bool = False,
    progress: bool | Callable[[int, int], object] | None = None,
    **options: Any,
) -> xr.Dataset:
    """Refine a field and write it to a Zarr store, window by window.

    Parameters
    ----------
    data : DataArray or Dataset
        Coarse field, as for `upscale`, in any chunks.
    path : str or path
        The store, a folder that does not exist yet, where all workers see it.
    s, t : int
        Fine cells per coarse cell along each axis, fine steps per coarse step; for
        s also (y, x).
    name : str
        Which variable of a Dataset.
    resume : bool
        Go on with a run that was stopped, if there is one; add realizations to a
        finished store. The other arguments must be those of that run.
    overwrite : bool
        Replace a store that is there, once the new one is complete.
    progress : bool or callable, optional
        True for a bar, False for none, or a function of (done, total) windows; by
        default a bar in a terminal and in Jupyter.
    **options
        As for `upscale`: ``realizations``, ``seed``, ``method``, ``model``, ...

    Returns
    -------
    Dataset
        The finished store, opened lazily.

    Raises
    ------
    XstsrError
        As for `upscale`; or the cluster's workers cannot do the work.
    StoreError
        The target is there, is locked, cannot be written, or holds another run.
    StoppedError
        A full disk or a lost worker stopped the run, which can be resumed.

    Examples
    --------
    >>> import tempfile, xstsr
    >>> coarse = xstsr.open_demo()[["rainfall_amount"]].isel(time=slice(6))
    >>> folder = tempfile.mkdtemp()
    >>> fine = xstsr.to_zarr(
    ...     coarse, folder + "/fine.zarr", 2, 3, name="rainfall_amount", method="linear"
    ... )
    >>> dict(fine.rainfall_amount.sizes)
    {'time': 18, 'y': 96, 'x': 74}
    """
    target = _local(path)
    refuse_source(target, sources_of(data))
    work = Work.of(data, name, (s, t), options)
    journal = Journal.beside(target)

    def first_missing() -> int | None:
        return _check_target(target, journal, work, resume=resume, overwrite=overwrite)

    if first_missing() is None:
        return _open(target)
    _check_means(target, work)
    with journal.held():
        first = first_missing()  # another run may have ended since
        if first is not None:
            if not (resume and journal.exists):
                _begin(journal, work, first)
            _write(journal, work, first, progress)
            _finish(journal, target, work.name, first)
    return _open(target)


@dataclass(frozen=True, eq=False)
class Work:
    """What is to be written."""

    asked: Asked
    source: xr.Dataset
    name: str

    @classmethod
    def of(
        cls,
        data: xr.DataArray | xr.Dataset,
        name: str,
        factors: tuple[Space, int],
        options: dict[str, Any],
    ) -> "Work":
        """Read what is asked for; whatever comes in is lazy from here on."""
        if isinstance(data, xr.DataArray):
            if data.name is None:
                raise XstsrError(
                    f"cannot store a field of dimensions {data.dims} without a name. "
                    'Name it: da.rename("pr").'
                )
            name, data = str(data.name), data.to_dataset()
        bounds_of(data, name)  # refuses a name that is not there
        plain, _ = dequantify(data[name])
        data = data.assign({name: plain if plain.chunks else _in_pieces(plain)})
        asked = ask(data, factors, name=name, **options)
        return cls(asked, data, name)

    @property
    def count(self) -> int | None:
        """Realizations, or None where they are no dimension."""
        asked = self.asked
        return len(asked.job.request.realizations) if asked.keep_realization else None

    @cached_property
    def call(self) -> dict[str, Any]:
        """What makes this work this work, but the input's values; ready for JSON."""
        job, meaning, preview = self.asked.job, self.asked.meaning, self.asked.preview
        request = job.request
        grid = {
            meaning.time_dim: job.time_edges.astype("datetime64[us]"),
            meaning.y_dim: job.y_edges,
            meaning.x_dim: job.x_edges,
        }
        told = {
            "version": version("xstsr"),
            "variable": self.name,
            "kind": meaning.kind,
            "constraint": meaning.constraint,
            "units": meaning.units,
            "time_label": meaning.time_label,
            **{f"grid of {dim}": described(edges) for dim, edges in grid.items()},
            "coarse_shape": list(self.asked.coarse.shape),
            "dtype": str(self.asked.coarse.dtype),
            "factor": list(self.asked.factor),
            **settings_of(self.asked.jobs),
            "conserve": job.mode,
            "chunks": [max(sizes) for sizes in preview.chunks[1:]],
            "realizations": self.count,
        }
        if find_method(request.method).is_stochastic:
            told["seed"] = request.seed
        if request.is_neural:
            told["model"] = request.fingerprint
            told["device"] = request.device.partition(":")[0]
        return told

    @cached_property
    def full_call(self) -> dict[str, Any]:
        """The call with the fingerprint of the input, which is read for it."""
        asked = self.asked
        read = {"input": fingerprint(asked.coarse.data)}
        if asked.known is not None:
            read["known"] = fingerprint(asked.known)
        return self.call | read

    @cached_property
    def whole(self) -> xr.Dataset:
        """The fine field with all that belongs to it; lazy."""
        return self._refined(0)

    def field(self, first: int) -> xr.DataArray:
        """Give the fine field from a realization on; lazy."""
        return (self._refined(first) if first else self.whole)[self.name]

    @cached_property
    def chunks(self) -> tuple[int, ...]:
        """Sizes of the store's chunks: one realization, so that more can be added."""
        field = self.whole[self.name]
        assert field.chunks is not None
        return tuple(
            1 if dim == "realization" and self.count is not None else max(sizes)
            for dim, sizes in zip(field.dims, field.chunks, strict=True)
        )

    def _refined(self, first: int) -> xr.Dataset:
        asked = self.asked
        wanted = asked.job.request.realizations[first:]
        asked = replace(asked, jobs=of_realizations(asked.jobs, wanted))
        made = run(asked)
        return to_dataset(made, self.source, asked.meaning, asked.s, asked.factor[0])


def _in_pieces(plain: xr.DataArray) -> xr.DataArray:
    """Cut along time what is in one piece, so that no file is read as a whole."""
    time = find_axes(plain).time
    steps = max(1, PIECE * plain.sizes[time] // plain.nbytes)
    return plain.chunk(dict.fromkeys(plain.dims, -1) | {time: steps})


def _check_target(
    target: Path, journal: Journal, work: Work, *, resume: bool, overwrite: bool
) -> int | None:
    """Tell from which realization on there is work to do; None if there is none."""
    if not resume:
        _check_free(target, journal, overwrite=overwrite)
        return 0
    there = call_of(target)
    begun = journal.call() if journal.exists else None
    first = begun.pop("first") if begun else 0
    if there is not None and (there == begun or not begun):
        # all is there, or only more realizations are asked for
        _check_same(there, work, target)
        before, now = there["realizations"], work.count
        if before == now or (before and now and now < before):
            shutil.rmtree(journal.folder, ignore_errors=True)  # of a killed run
            return None
        if before and now:
            return int(before)
        raise StoreError(
            f"cannot add realizations to {str(target)!r}: realizations: {before!r} "
            f"there, {now!r} now, and only a store with that dimension can grow. "
            "Choose another target."
        )
    if begun:
        _check_same(begun, work, journal.folder, realizations=True)
        if first and (there is None or there["realizations"] != first):
            raise StoreError(
                f"cannot go on in {str(journal.folder)!r}: it adds to the {first} "
                f"realizations of {str(target)!r}, which is not the store that it was. "
                "Pass overwrite=True (--overwrite) to start again."
            )
    elif target.exists():
        if not overwrite:
            raise StoreError(
                f"cannot resume {str(target)!r}: it exists, and xstsr.to_zarr did not "
                "write it. Choose another target, or pass overwrite=True "
                "(--overwrite)."
            )
        _check_replaceable(target)
    return int(first)


def _check_free(target: Path, journal: Journal, *, overwrite: bool) -> None:
    """Refuse a target that holds something."""
    if overwrite:
        _check_replaceable(target)
        return
    if target.exists():
        raise StoreError(
            f"cannot write {str(target)!r}: it exists. Choose another name, pass "
            "overwrite=True (--overwrite), or resume=True (--resume) to add "
            "realizations."
        )
    if journal.exists:
        raise StoreError(
            f"cannot write {str(target)!r}: {str(journal.folder)!r} holds a run that "
            "was stopped. Pass resume=True (--resume) to go on with it, or "
            "overwrite=True (--overwrite) to start again."
        )


def _check_replaceable(target: Path) -> None:
    """Refuse to remove anything but a store."""
    if target.exists() and not is_store(target):
        raise StoreError(
            f"cannot overwrite {str(target)!r}: it is no Zarr store. Remove it "
            "yourself, or choose another target."
        )


def _check_same(
    before: dict[str, Any], work: Work, where: Path, *, realizations: bool = False
) -> None:
    """Refuse to go on with another call; the input is read only if all else agrees."""
    for whole in (False, True):
        known = {name: before[name] for name in READ if name in before}
        now = work.full_call if whole else work.call | known
        if not realizations:
            now = now | {"realizations": before.get("realizations")}
        told = differences(before, now)
        if told:
            raise StoreError(
                f"cannot resume {str(where)!r} with another call: {'; '.join(told)}. "
                "Call it as before, or choose another target."
            )


def _check_means(target: Path, work: Work) -> None:
    """Look at memory, disk and workers before anything is written."""
    preview = work.asked.preview
    above = next(
        p for p in (target.absolute(), *target.absolute().parents) if p.exists()
    )
    free = shutil.disk_usage(above).free
    notes = []
    if preview.nbytes > free:
        notes.append(
            f"the result takes {readable(preview.nbytes)} before it is compressed, and "
            f"{readable(free)} are free on the disk of {str(target)!r}"
        )
    client = current_client()
    if client is not None:
        device = work.asked.job.request.device
        notes += check_workers(client, above, device, preview.process_bytes)
    elif preview.window_bytes > available_bytes():
        raise PlanError(
            f"cannot upscale {work.name!r}: one window takes "
            f"{readable(preview.window_bytes)} of memory, and "
            f"{readable(available_bytes())} are free. Free some, choose a smaller "
            "region, or use a Dask cluster with larger workers."
        )
    for note in notes:
        warnings.warn(note, CostWarning, stacklevel=3)


def _begin(journal: Journal, work: Work, first: int) -> None:
    """Lay the store out without its values, and write down what is asked for."""
    rest = work.whole.drop_vars(work.name).compute(scheduler="synchronous")
    ds = rest.assign({work.name: work.whole[work.name]})
    ds.attrs[CALL] = json.dumps(work.full_call)
    chunks = {work.name: work.chunks}
    if work.count is not None:
        chunks["realization"] = (MANY,)
    try:
        journal.clear()
        lay_out(journal, ds, chunks)
        journal.begin(work.full_call | {"first": first})
    except OSError as error:
        raise StoreError(
            f"cannot lay out a store in {str(journal.folder)!r}: {error}. Free some "
            "space, or choose another target."
        ) from error


def _write(
    journal: Journal,
    work: Work,
    first: int,
    progress: bool | Callable[[int, int], object] | None,
) -> None:
    """Compute and write what is missing."""
    field = work.field(first)
    target = Target(journal, work.name, work.chunks)
    blocks = missing_blocks(target, field.data, first)
    total = math.prod(field.data.numblocks)
    done = total - len(blocks)
    with ticking(done, total, progress) as tick:

        def finished() -> None:
            nonlocal done
            done += 1
            tick(done, total)

        try:
            if blocks:
                execute(*write_tasks(target, field.data, blocks), finished)
            if missing_blocks(target, field.data, first):
                raise StoreError("chunks that were written are gone from the disk.")
        except StoreError as error:
            done = total - len(missing_blocks(target, field.data, first))
            raise StoppedError(
                f"stopped after {done} of {total} windows: {error} They are kept in "
                f"{str(journal.folder)!r}: pass resume=True (--resume) to go on."
            ) from error


def _finish(journal: Journal, target: Path, name: str, first: int) -> None:
    """Give the store its name, or the finished one its further realizations."""
    try:
        (merge if first else publish)(journal, target, name)
    except OSError as error:
        raise StoppedError(
            f"stopped when all windows were written: {str(target)!r} cannot take its "
            f"place ({error}). They are kept in {str(journal.folder)!r}: pass "
            "resume=True (--resume) to go on."
        ) from error


def _open(target: Path) -> xr.Dataset:
    """Open a finished store."""
    opened: xr.Dataset = xr.open_zarr(target, consolidated=True)
    return opened


def _local(path: str | PathLike[str]) -> Path:
    """Take the path of a folder; stores elsewhere cannot be renamed."""
    text = os.fspath(path)
    if "://" in text:
        raise StoreError(
            f"cannot write to {text!r}: only to folders. Write to a local path, then "
            "copy the finished store."
        )
    if not Path(text).name:
        raise StoreError(
            f"cannot write to {text!r}: it has no name. Name the store, such as "
            '"fine.zarr".'
        )
    return Path(os.path.abspath(text))  # workers may stand in other folders
