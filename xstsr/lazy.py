r"""The plan as a Dask graph: three tasks a window, whatever the model's size.

For each window one task gathers the coarse frames, one draws, one joins with what the
neighbours drew. The model travels by name; workers load it once per process.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xstsr.plan import Span, chunk_lengths
from xstsr.windows import Job, draw, fields, join

if TYPE_CHECKING:
    import dask.array

Array = np.ndarray


def upscale_blocks(
    job: Job, coarse: "dask.array.Array", edges: Array
) -> "dask.array.Array":
    """Refine a chunked coarse field lazily.

    Parameters
    ----------
    job : Job
        What is asked for.
    coarse : dask array, shape (E, T, Y, X)
        In the user's units, chunked in any way.
    edges : ndarray, shape (T + 1,), int64
        Time edges [us].

    Returns
    -------
    dask array, shape (R, E, T t, Y sy, X sx)
        Chunked in time as `xstsr.plan.chunk_lengths` says.
    """
    import dask.array
    from dask.delayed import delayed

    windows = job.plan.windows
    shared = delayed(job, pure=True, traverse=False)
    sampling = delayed(draw, pure=True)
    joining = delayed(_join_indexed, pure=True)
    frames = [_delayed_frames(coarse, w.start, w.stop) for w in windows]
    drawn = [
        sampling(shared, frames[i], edges[w.start : w.stop + 1], w)
        for i, w in enumerate(windows)
    ]
    t, sy, sx = job.request.factor
    extra, _, y, x = coarse.shape
    blocks = []
    for i, w in enumerate(windows):
        near = range(max(0, i - 1), min(len(windows), i + 2))
        fine = joining(
            shared,
            [windows[j] for j in near],
            [drawn[j] for j in near],
            frames[i],
            edges[w.core_start : w.core_stop + 1],
            w,
        )
        length = (w.core_stop - w.core_start) * t
        shape = (fields(job), extra, length, y * sy, x * sx)
        blocks.append(dask.array.from_delayed(fine, shape, dtype=coarse.dtype))
    fine_blocks: dask.array.Array = dask.array.concatenate(blocks, axis=2)
    even: dask.array.Array = fine_blocks.rechunk({2: chunk_lengths(windows, t)})
    return even


def upscale_now(job: Job, coarse: Array, edges: Array) -> Array:
    """Refine a field in memory, window by window; as `upscale_blocks`, same bits.

    Parameters
    ----------
    job : Job
        What is asked for.
    coarse : ndarray, shape (E, T, Y, X)
        In the user's units.
    edges : ndarray, shape (T + 1,), int64
        Time edges [us].

    Returns
    -------
    ndarray, shape (R, E, T t, Y sy, X sx)
    """
    t, sy, sx = job.request.factor
    extra, frames, y, x = coarse.shape
    fine = np.empty((fields(job), extra, frames * t, y * sy, x * sx), coarse.dtype)
    windows = job.plan.windows
    drawn: dict[int, Array] = {}
    for i, w in enumerate(windows):
        for j in range(max(0, i - 1), min(len(windows), i + 2)):
            if j not in drawn:
                v = windows[j]
                drawn[j] = draw(
                    job, coarse[:, v.start : v.stop], edges[v.start : v.stop + 1], v
                )
        near = [j for j in (i - 1, i, i + 1) if j in drawn]
        fine[:, :, w.core_start * t : w.core_stop * t] = join(
            job,
            [(windows[j], drawn[j]) for j in near],
            coarse[:, w.core_start : w.core_stop],
            edges[w.core_start : w.core_stop + 1],
            w,
        )
        drawn.pop(i - 1, None)
    return fine


def map_blocks(
    average: Callable[[Array, Sequence[slice]], Array],
    fine: "Array | dask.array.Array",
    factor: tuple[int, int, int],
) -> "Array | dask.array.Array":
    """Reduce blocks of a field in memory or in chunks.

    Parameters
    ----------
    average : callable
        Takes a piece, shape (..., n t, m sy, k sx), and the slices where it lies.
    fine : array, shape (..., T t, Y sy, X sx)
        numpy or dask; chunks are merged until each holds whole blocks.
    factor : tuple of int
        (t, sy, sx).

    Returns
    -------
    array, shape (..., T, Y, X), of the dtype of `fine`
    """
    if isinstance(fine, np.ndarray):
        whole = [slice(0, n) for n in fine.shape[-3:]]
        return average(fine, whole).astype(fine.dtype)
    import dask.array

    aligned, coarse = _aligned(fine, factor)

    def piece(block: Array, block_info: Any = None) -> Array:
        place = block_info[0]["array-location"][-3:]
        return average(block, [slice(*p) for p in place]).astype(block.dtype)

    means: dask.array.Array = dask.array.map_blocks(
        piece, aligned, dtype=fine.dtype, chunks=(*fine.chunks[:-3], *coarse)
    )
    return means


def map_pairs(
    rule: Callable[[Array, Array, Sequence[slice]], Array],
    fine: "Array | dask.array.Array",
    coarse: "Array | dask.array.Array",
    factor: tuple[int, int, int],
) -> "Array | dask.array.Array":
    """Apply a rule to the blocks of a fine field and the cells of a coarse one.

    Parameters
    ----------
    rule : callable
        Takes a fine piece, shape (..., n t, m sy, k sx), its coarse cells, shape
        (n, m, k), and the slices where the fine piece lies.
    fine : array, shape (..., T t, Y sy, X sx)
        numpy or dask.
    coarse : array, shape (T, Y, X)
        numpy or dask.
    factor : tuple of int
        (t, sy, sx).

    Returns
    -------
    array, of the shape and dtype of `fine`; lazy if one of both is
    """
    if isinstance(fine, np.ndarray) and isinstance(coarse, np.ndarray):
        whole = [slice(0, n) for n in fine.shape[-3:]]
        return rule(fine, coarse, whole).astype(fine.dtype)
    import dask.array

    aligned, chunks = _aligned(dask.array.asanyarray(fine), factor)

    def piece(block: Array, cells: Array, block_info: Any = None) -> Array:
        place = block_info[0]["array-location"][-3:]
        return rule(block, cells, [slice(*p) for p in place]).astype(block.dtype)

    matched = dask.array.asanyarray(coarse).rechunk(tuple(chunks))
    made: dask.array.Array = dask.array.map_blocks(
        piece, aligned, matched, dtype=fine.dtype, chunks=aligned.chunks
    )
    return made


def _aligned(
    fine: "dask.array.Array", factor: tuple[int, int, int]
) -> "tuple[dask.array.Array, list[tuple[int, ...]]]":
    """Rechunk to whole blocks; also the chunks of the coarse field."""
    chunks = [
        _whole_blocks(c, f) for c, f in zip(fine.chunks[-3:], factor, strict=True)
    ]
    coarse = [tuple(n // f for n in c) for c, f in zip(chunks, factor, strict=True)]
    return fine.rechunk((*fine.chunks[:-3], *chunks)), coarse


def _whole_blocks(chunks: tuple[int, ...], factor: int) -> tuple[int, ...]:
    """Keep chunks that hold whole blocks; else cut equal ones, the last shorter.

    Examples
    --------
    >>> _whole_blocks((2, 6, 4), 2), _whole_blocks((4, 4, 4), 3)
    ((2, 6, 4), (3, 3, 3, 3))
    """
    if not any(n % factor for n in chunks):
        return chunks
    length = max(max(chunks) // factor, 1) * factor
    whole, rest = divmod(sum(chunks), length)
    return (length,) * whole + ((rest,) if rest else ())


def _delayed_frames(coarse: "dask.array.Array", start: int, stop: int) -> Any:
    """Gather the frames of one window in one task."""
    from dask.delayed import delayed

    part = coarse[:, start:stop]
    part = part.rechunk(part.shape)
    # not optimised here: fused, each window would read its source chunks anew
    (block,) = part.to_delayed(optimize_graph=False).ravel()
    return delayed(np.asarray, pure=True)(block)


def _join_indexed(
    job: Job,
    spans: Sequence[Span],
    drawn: Sequence[Array],
    frames: Array,
    edges: Array,
    window: Span,
) -> Array:
    """Join a window from delayed parts; `frames` hold its halo too."""
    return join(
        job,
        list(zip(spans, drawn, strict=True)),
        frames[:, window.core],
        edges,
        window,
    )
