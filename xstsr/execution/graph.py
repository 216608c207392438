"""The tasks of the graph: gather coarse frames, draw a window, join a chunk.

Tasks are plain tuples of a function and its arguments, as Dask takes them, and name the
`Job`, each other's results and the input's chunks by key. Dask itself is not needed to
write them down.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from xstsr.execution.window import draw, join, needed
from xstsr.planning.job import Job, Tile
from xstsr.planning.tiling import Span
from xstsr.typing import Array

Pair = tuple[Any, tuple[Any, ...] | Job]


@dataclass(frozen=True, eq=False)
class Source:
    """The chunks of the coarse field, by name.

    Parameters
    ----------
    name : str
        First part of their keys.
    chunks : tuple of tuples of int
        Sizes along (*E, T, Y, X).
    """

    name: str
    chunks: tuple[tuple[int, ...], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the whole field."""
        return tuple(sum(sizes) for sizes in self.chunks)


def tasks(
    job: Job,
    source: Source,
    token: str,
    known: Source | None = None,
    *,
    keep_realization: bool,
) -> Iterator[Pair]:
    """List the tasks of a graph as pairs of key and task.

    Parameters
    ----------
    job : Job
        What is asked for.
    source : Source
        The coarse field.
    token : str
        What tells these keys from those of other work.
    known : Source, optional
        Known fine fields, with axes (G, K, T t or 1, Y sy, X sx).
    keep_realization : bool
        Whether the chunks have the axis R.

    Yields
    ------
    tuple of key and task
        The chunks of the result have keys ``(f"xstsr-{token}", ...)``.
    """
    plan = job.plan
    named, gathers, draws = (
        f"xstsr-{what}-{token}" for what in ("job", "gather", "draw")
    )
    yield named, job
    ends = [np.cumsum(sizes) for sizes in source.chunks]
    extra = list(np.ndindex(source.shape[:-3]))
    wanted = [(frames, *needed(job, frames)) for frames in plan.chunks]
    for tile in walk(job, len(extra)):
        at, place = tuple(tile), tuple(tile)[1:]
        for i in range(len(plan.windows)):
            key = (gathers, *place, i)
            if tile.group == 0:
                box = surroundings(job, i, tile)
                yield key, (gather, *cut(source.name, ends, extra[tile.stream], box))
            beside = None
            if known is not None:
                beside = _cut_known(job, known, i, tile)
            yield (draws, *at, i), (_draw, named, key, i, at, beside)
        for k, (frames, own, sources) in enumerate(wanted):
            owners = plan.owners(own)
            group = (tile.group,) if keep_realization else ()
            yield (
                (f"xstsr-{token}", *group, *extra[tile.stream], k, *at[2:]),
                (
                    _join,
                    named,
                    (frames.start, frames.stop),
                    at,
                    [sources.start, *((draws, *at, i) for i in sources)],
                    [owners.start, *((gathers, *place, i) for i in owners)],
                    (keep_realization, len(source.chunks) - 3),
                ),
            )


def walk(job: Job, fields: int) -> Iterator[Tile]:
    """Walk over tiles; the windows of one follow each other and share what they drew.

    Parameters
    ----------
    job : Job
        What is asked for.
    fields : int
        How many there are along the further dimensions.
    """
    plan = job.plan
    counts = len(job.groups), fields, len(plan.rows), len(plan.columns)
    return (Tile(*at) for at in product(*map(range, counts)))


def surroundings(job: Job, window: int, tile: Tile) -> tuple[slice, slice, slice]:
    """Frames and cells of a tile of a window, in a field with its `surround`."""
    plan = job.plan
    spans = plan.windows[window], plan.rows[tile.row], plan.columns[tile.column]
    (above, _), (left, _) = plan.beyond
    time, y, x = (
        slice(span.start + more, span.stop + more)
        for span, more in zip(spans, (0, above, left), strict=True)
    )
    return time, y, x


def fine_box(
    job: Job, shape: tuple[int, ...], window: int, tile: Tile
) -> tuple[slice, slice, slice, slice]:
    """Where what is known of a tile of a window lies, with the halo.

    Parameters
    ----------
    job : Job
        What is asked for.
    shape : tuple of int
        (G, K, T t or 1, Y sy, X sx) of the known fine fields.
    window : int
        Which window of the plan.
    tile : Tile
        Which realizations and tile.

    Returns
    -------
    tuple of slice
        Along realizations, time, y and x.
    """
    coarse = surroundings(job, window, tile)
    time, y, x = (
        slice(span.start * n, span.stop * n)
        for span, n in zip(coarse, job.request.factor, strict=True)
    )
    wanted = job.request.realizations[job.groups[tile.group]]
    groups = slice(0, 1) if shape[0] == 1 else slice(wanted[0], wanted[-1] + 1)
    return groups, slice(0, 1) if shape[2] == 1 else time, y, x


def own(span: Span, before: int) -> slice:
    """Cells of a span's own, in a field with so many more cells before the first."""
    return slice(span.core_start + before, span.core_stop + before)


def gather(
    blocks: Sequence[Sequence[Sequence[Array]]],
    lead: tuple[int, ...],
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
) -> Array:
    """Cut one piece out of the chunks that hold it.

    Parameters
    ----------
    blocks : nested sequences of ndarray, shape (*E, t, y, x)
        Chunks along time, y and x.
    lead : tuple of int
        Index along the further dimensions.
    start : tuple of int
        Where the piece begins in the first chunk.
    shape : tuple of int
        (T, Y, X) of the piece.

    Returns
    -------
    ndarray, shape (T, Y, X)
    """
    piece = np.empty(shape, blocks[0][0][0].dtype)
    t = -start[0]
    for plane in blocks:
        y = -start[1]
        for row in plane:
            x = -start[2]
            for block in row:
                corner, sizes = (t, y, x), block.shape[-3:]
                inside = tuple(
                    slice(max(0, a), min(a + n, size))
                    for a, n, size in zip(corner, sizes, shape, strict=True)
                )
                there = [
                    slice(i.start - a, i.stop - a)
                    for i, a in zip(inside, corner, strict=True)
                ]
                piece[inside] = block[lead][tuple(there)]
                x += block.shape[-1]
            y += row[0].shape[-2]
        t += plane[0][0].shape[-3]
    return piece


def cut(
    name: str, ends: Sequence[Array], at: Sequence[int], box: Sequence[slice]
) -> tuple[Any, ...]:
    """Give the arguments of `gather`, with keys for chunks.

    Parameters
    ----------
    name : str
        First part of the keys.
    ends : sequence of ndarray
        Where the chunks end along (*E, T, Y, X).
    at : sequence of int
        Index along the further dimensions.
    box : sequence of slice
        The piece, along time, y and x.
    """
    wanted = [*(slice(i, i + 1) for i in at), *box]
    found, start = [], []
    for stops, span in zip(ends, wanted, strict=True):
        first = int(np.searchsorted(stops, span.start, side="right"))
        last = int(np.searchsorted(stops, span.stop, side="left"))
        found.append(range(first, last + 1))
        start.append(span.start - (int(stops[first - 1]) if first else 0))
    lead = [blocks.start for blocks in found[:-3]]
    planes, rows, columns = found[-3:]
    keys = [[[(name, *lead, i, j, k) for k in columns] for j in rows] for i in planes]
    shape = tuple(span.stop - span.start for span in box)
    return keys, tuple(start[:-3]), tuple(start[-3:]), shape


def _cut_known(job: Job, known: Source, window: int, tile: Tile) -> Any:
    """Give the pieces of the known fields for a draw, as nested lists of tasks."""
    ends = [np.cumsum(sizes) for sizes in known.chunks]
    groups, *box = fine_box(job, known.shape, window, tile)
    return [
        [(gather, *cut(known.name, ends, (g, k), box)) for k in range(known.shape[1])]
        for g in range(groups.start, groups.stop)
    ]


def _draw(
    job: Job, coarse: Array, window: int, tile: tuple[int, ...], known: Any = None
) -> Array:
    """Draw as a task; known fields come as lists of pieces."""
    beside = None if known is None else np.array(known)
    return draw(job, coarse, window, Tile(*tile), beside)


def _join(
    job: Job,
    frames: tuple[int, int],
    at: tuple[int, ...],
    drawn: Sequence[Any],
    gathered: Sequence[Any],
    form: tuple[bool, int],
) -> Array:
    """Join as a task; lists of results begin with the number of their first window.

    The form says whether the result has the axis R, and how many further ones.
    """
    tile, chunk = Tile(*at), range(*frames)
    row, column = job.plan.rows[tile.row], job.plan.columns[tile.column]
    wanted, _ = needed(job, chunk)
    pieces = []
    for i, coarse in enumerate(gathered[1:], gathered[0]):
        window = job.plan.windows[i]
        low = max(wanted.start, window.core_start) - window.start
        high = min(wanted.stop, window.core_stop) - window.start
        pieces.append(coarse[low:high, row.core, column.core])
    parts = dict(enumerate(drawn[1:], drawn[0]))
    fine = join(job, chunk, tile, parts, np.concatenate(pieces))
    keep_realization, further = form
    lead = fine.shape[:1] if keep_realization else ()
    return fine.reshape(*lead, *(1,) * further, *fine.shape[1:])
