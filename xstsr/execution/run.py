"""Refine a whole field, in memory or as a Dask graph; the same bits.

The graph has three tasks a window, whatever the model's size: one gathers the coarse
frames, one draws; for each chunk of the result one joins what the windows around it
drew. The model travels by name; workers load it once per process.
"""

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xstsr.display import readable
from xstsr.errors import CostWarning
from xstsr.execution.graph import Source, cut, fine_box, own, surroundings, tasks, walk
from xstsr.execution.window import draw, join, needed
from xstsr.geometry.globe import surround
from xstsr.memory import available_bytes
from xstsr.planning.job import Job, Tile, result_chunks
from xstsr.planning.stages import Jobs, of_realizations
from xstsr.typing import Array

if TYPE_CHECKING:
    import dask.array


from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dask.array


MANY_CHUNKS = 500  # of the input in one window: more, and finding them costs


def upscale_blocks(
    job: Job,
    coarse: "dask.array.Array",
    *,
    known: "Array | dask.array.Array | None" = None,
    keep_realization: bool = True,
) -> "dask.array.Array":
    """Refine a chunked coarse field lazily.

    Parameters
    ----------
    job : Job
        What is asked for.
    coarse : dask array, shape (*E, T, Y, X)
        In the user's units, chunked in any way.
    known : array, shape (G, K, T t or 1, Y sy, X sx), optional
        Known fine fields, chunked or not.
    keep_realization : bool
        Whether the result has the axis R; without it, there is one.

    Returns
    -------
    dask array, shape (R, *E, T t, Y sy, X sx)
        Chunked as the plan says.
    """
    import dask.array
    from dask.base import tokenize
    from dask.highlevelgraph import HighLevelGraph

    coarse = _surrounded(job, coarse)
    source = Source(coarse.name, coarse.chunks)
    _warn_of_chunks(job, source, coarse.dtype.itemsize)
    inputs: Any = [coarse]
    beside = None
    if known is not None:
        _, sy, sx = job.request.factor
        inputs.append(_surrounded(job, dask.array.asanyarray(known), sy, sx))
        beside = Source(inputs[1].name, inputs[1].chunks)
    token = tokenize(job, [array.name for array in inputs], keep_realization)
    layer = dict(tasks(job, source, token, beside, keep_realization=keep_realization))
    graph = HighLevelGraph.from_collections(f"xstsr-{token}", layer, inputs)
    chunks = result_chunks(job, coarse.shape[:-3])
    return dask.array.Array(
        graph,
        f"xstsr-{token}",
        chunks if keep_realization else chunks[1:],
        dtype=coarse.dtype,
    )


def upscale_now(
    job: Job,
    coarse: Array,
    known: Array | None = None,
    tick: Callable[[], object] = lambda: None,
) -> Array:
    """Refine a field in memory, window by window; as `upscale_blocks`, same bits.

    Parameters
    ----------
    job : Job
        What is asked for.
    coarse : ndarray, shape (*E, T, Y, X)
        In the user's units.
    known : ndarray, shape (G, K, T t or 1, Y sy, X sx), optional
        Known fine fields.
    tick : callable
        Is called after each window that is drawn.

    Returns
    -------
    ndarray, shape (R, *E, T t, Y sy, X sx)
    """
    *extra, frames, rows, columns = coarse.shape
    t, sy, sx = job.request.factor
    fields = coarse.reshape(-1, frames, rows, columns)
    shape = (job.count, len(fields), frames * t, rows * sy, columns * sx)
    fine = np.empty(shape, coarse.dtype)
    around = _surrounded(job, fields)
    known = None if known is None else _surrounded(job, known, sy, sx)
    for tile in walk(job, len(fields)):
        row, column = job.plan.rows[tile.row], job.plan.columns[tile.column]
        target = fine[
            job.groups[tile.group],
            tile.stream,
            :,
            row.core_start * sy : row.core_stop * sy,
            column.core_start * sx : column.core_stop * sx,
        ]
        _fill(target, job, around[tile.stream], tile, known, tick)
    return fine.reshape(job.count, *extra, *shape[-3:])


def _surrounded(job: Job, field: Any, sy: int = 1, sx: int = 1) -> Any:
    """Lay around a field what tiles reach beyond its ends; numpy or dask.

    A field on the fine grid has `sy` by `sx` cells for each coarse one.
    """
    globe, (down, across) = job.request.globe, job.plan.beyond
    if globe is None or not any((*down, *across)):
        return field
    above, below = (n * sy for n in down)
    left, right = (n * sx for n in across)
    return surround(field, globe.refined(sy, sx), (above, below), (left, right))


def _fill(
    target: Array,
    job: Job,
    coarse: Array,
    tile: Tile,
    known: Array | None,
    tick: Callable[[], object],
) -> None:
    """Refine all windows of one tile into their place; shape (R, T t, y, x)."""
    plan, t = job.plan, job.request.factor[0]
    row, column = plan.rows[tile.row], plan.columns[tile.column]
    (above, _), (left, _) = plan.beyond
    drawn: dict[int, Array] = {}
    for frames in plan.chunks:
        wanted, windows = needed(job, frames)
        drawn = {i: drawn[i] for i in windows if i in drawn}
        for i in windows:
            if i not in drawn:
                window = coarse[surroundings(job, i, tile)]
                beside = None
                if known is not None:
                    groups, *box = fine_box(job, known.shape, i, tile)
                    beside = known[(groups, slice(None), *box)]
                drawn[i] = draw(job, window, i, tile, beside)
                tick()
        place = own(row, above), own(column, left)
        cells = coarse[wanted.start : wanted.stop, *place]
        steps = slice(frames.start * t, frames.stop * t)
        target[:, steps] = join(job, frames, tile, drawn, cells)


def _warn_of_chunks(job: Job, source: Source, itemsize: int) -> None:
    """Say so where the input's chunks cost more than need be."""
    ends = [np.cumsum(sizes) for sizes in source.chunks]
    middle = Tile(0, 0, len(job.plan.rows) // 2, len(job.plan.columns) // 2)
    box = surroundings(job, len(job.plan.windows) // 2, middle)
    keys = cut(source.name, ends, (0,) * (len(ends) - 3), box)[0]
    count = len(keys) * len(keys[0]) * len(keys[0][0])
    frames = box[0].stop - box[0].start
    advice = f"chunk the input by about {frames} times and whole frames"
    largest = math.prod(max(sizes) for sizes in source.chunks) * itemsize
    told = ""
    if count > MANY_CHUNKS:
        told = f"one window takes {count} chunks of the input"
    elif largest > available_bytes() / 4:
        told = f"one chunk of the input takes {readable(largest)} of memory"
    if told:
        warnings.warn(f"{told}: {advice}", CostWarning, stacklevel=9)


def refine(
    jobs: Jobs,
    coarse: "Array | dask.array.Array",
    *,
    keep_realization: bool,
    known: "Array | dask.array.Array | None" = None,
    tick: Callable[[], object] = lambda: None,
) -> "Array | dask.array.Array":
    """Refine a coarse field stage by stage: now in memory, later in chunks.

    Parameters
    ----------
    jobs : tuple of Job
        From `plan_stages`.
    coarse : array, shape (*E, T, Y, X)
        numpy or dask, in the user's units.
    keep_realization : bool
        Whether the result has the axis R; without it, there is one.
    known : array, shape (G, K, T t or 1, Y sy, X sx), optional
        Known fine fields, for a single stage.
    tick : callable
        Is called after each window that is drawn in memory.

    Returns
    -------
    array, shape (R, *E, T t, Y sy, X sx)
        numpy or dask, as the input.
    """
    if not isinstance(coarse, np.ndarray):
        return _later(jobs, coarse, known, keep_realization)
    assert known is None or isinstance(known, np.ndarray)
    fields = upscale_now(jobs[0], coarse, known, tick)
    for job in jobs[1:]:
        *lead, t, y, x = fields.shape
        ft, fy, fx = job.request.factor
        fine = np.empty((*lead, t * ft, y * fy, x * fx), fields.dtype)
        for place, one, field in zip(fine, _each(job), fields, strict=True):
            place[...] = upscale_now(one, field, tick=tick)[0]
        fields = fine
    return fields if keep_realization else fields[0]


def _later(
    jobs: Jobs,
    coarse: "dask.array.Array",
    known: "Array | dask.array.Array | None",
    keep_realization: bool,
) -> "dask.array.Array":
    """Refine stage by stage as a graph; the same bits."""
    import dask.array

    first, *rest = jobs
    keep = keep_realization or bool(rest)
    fields = upscale_blocks(first, coarse, known=known, keep_realization=keep)
    for job in rest:
        parts = zip(_each(job), fields, strict=True)
        fields = dask.array.concatenate([upscale_blocks(*part) for part in parts])
    return fields if keep_realization or not rest else fields[0]


def _each(job: Job) -> Jobs:
    """Give the jobs that draw one realization each."""
    numbers = job.request.realizations
    return tuple(of_realizations((job,), (number,))[0] for number in numbers)
