r"""The plan: which frames and pixels are computed together. Integers only.

Windows lie in absolute time, so that a part of a record is cut as the whole is:

    frames     0  1  2  3 | 4  5  6  7 | 8  9 ...       core = 4
    window 1   .  .  h  h [ 4  5  6  7 ] h  h           halo = 2
                        `-- blended --'                 blend = 1 to either side

A window computes its core and a halo of context on both sides; where two windows
overlap around a boundary, their samples are blended. Frames that do not fit as a whole
are cut into tiles of equal cores. Their halo begins where a pixel of the network's
lowest level does, and is so wide that a tile gives what the whole frame would: tiles
need no blend.

How long windows and how large tiles are is chosen so that little is computed twice.
Nothing here depends on how the input is chunked, on the length of the record or on the
machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from xstsr.errors import PlanError
from xstsr.geometry.globe import Ends, Globe
from xstsr.methods.task import Reach

WORKING_SET = 3_200_000_000  # bytes that a network takes at once, about


LENGTHS = (18, 27, 36, 45, 54, 72, 90, 108, 144)  # fine frames of a window's own
MOST_SIDE = 1024  # fine pixels of a tile's own along one axis
GROUP = 4  # realizations that one task draws: they share the conditional mean
GROUP_PIXELS = 16_000_000  # fine pixels that one task gives, over all realizations

# whether an axis goes on before its first cell, and after its last
Open = tuple[bool, bool]
SHUT: Open = (False, False)


@dataclass(frozen=True)
class Span:
    """A range of coarse cells with its halo, clipped to the domain.

    Parameters
    ----------
    start, stop : int
        With the halo. Where an axis closes on itself, they lie beyond its ends.
    core_start, core_stop : int
        Without.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int

    @property
    def core(self) -> slice:
        """The core, counted from the start of the halo."""
        return slice(self.core_start - self.start, self.core_stop - self.start)


@dataclass(frozen=True)
class Plan:
    """How a field is cut.

    Parameters
    ----------
    windows : tuple of Span
        In time.
    rows, columns : tuple of Span
        Tiles in y and x; one each where a frame fits as a whole.
    blend : int
        Coarse frames to either side of a window's boundary that are blended.
    length : int
        Coarse frames of a chunk of the result.
    group : int
        Realizations of a chunk.
    """

    windows: tuple[Span, ...]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    blend: int
    length: int
    group: int = GROUP

    @property
    def frames(self) -> int:
        """Coarse frames of the whole record."""
        return self.windows[-1].core_stop

    @property
    def chunks(self) -> list[range]:
        """Coarse frames of each chunk of the result, all of one length but the last.

        The first and the last window may be shorter than the others, because windows
        lie in absolute time; chunks of that shape could not be written to Zarr.

        Examples
        --------
        >>> halves = windows(range(6, 14), core=4, halo=1)
        >>> Plan(halves, (), (), blend=1, length=4).chunks
        [range(0, 4), range(4, 8)]
        """
        starts = range(0, self.frames, self.length)
        return [range(a, min(a + self.length, self.frames)) for a in starts]

    @property
    def beyond(self) -> tuple[Ends, Ends]:
        """Cells before the first and after the last that tiles reach, in y and x."""
        return _beyond(self.rows), _beyond(self.columns)

    def owners(self, frames: range) -> range:
        """Windows that own some of these coarse frames."""
        return self._between(frames, 0)

    def sources(self, frames: range) -> range:
        """Windows that have a say in these coarse frames: owners and who blends in."""
        return self._between(frames, self.blend)

    def _between(self, frames: range, more: int) -> range:
        found = [
            i
            for i in _near(self.windows, frames)
            if self.windows[i].core_start - more < frames.stop
            and self.windows[i].core_stop + more > frames.start
        ]
        return range(found[0], found[-1] + 1)

    @property
    def tiles(self) -> Iterator[tuple[int, int]]:
        """Pairs of row and column, along the rows first."""
        return ((r, c) for r in range(len(self.rows)) for c in range(len(self.columns)))


def make_plan(
    frame_numbers: Sequence[int],
    cells: tuple[int, int],
    factor: tuple[int, int, int],
    reach: Reach,
    *,
    pixels: int | None = None,
    globe: Globe | None = None,
) -> Plan:
    """Cut a field into windows and tiles.

    Parameters
    ----------
    frame_numbers : sequence of int
        Absolute number of each coarse frame: its time over the step.
    cells : tuple of int
        (Y, X), coarse cells of a frame.
    factor : tuple of int
        (t, sy, sx).
    reach : Reach
        What a method needs to see.
    pixels : int, optional
        Fine pixels that may be computed together; by default those that the working
        set holds.
    globe : Globe, optional
        How the axes close on themselves.
    """
    poles, around = (globe.poles, (True, True)) if globe else (SHUT, SHUT)
    closed = poles, around
    most = pixels or WORKING_SET // reach.bytes_per_pixel
    core, down, across = _choose(cells, factor, reach, most, closed)
    t, sy, sx = factor
    found = windows(frame_numbers, core, reach.frames)
    length = min(core, found[-1].core_stop)
    kept = length * t * min(down, cells[0]) * sy * min(across, cells[1]) * sx
    return Plan(
        found,
        tiles(cells[0], sy, down, reach, poles),
        tiles(cells[1], sx, across, reach, around),
        reach.blend,
        length,
        max(1, min(GROUP, GROUP_PIXELS // kept)),
    )


def windows(frame_numbers: Sequence[int], core: int, halo: int) -> tuple[Span, ...]:
    """Group frames into windows at multiples of `core` in absolute time.

    Examples
    --------
    >>> [w.core_start for w in windows(range(6, 14), core=4, halo=1)]
    [0, 2, 6]
    """
    count = len(frame_numbers)
    found = []
    for _, members in groupby(range(count), key=lambda i: frame_numbers[i] // core):
        own = list(members)
        first, last = own[0], own[-1] + 1
        found.append(Span(max(0, first - halo), min(count, last + halo), first, last))
    return tuple(found)


def tiles(
    cells: int, s: int, pitch: int, reach: Reach, open_ends: Open = SHUT
) -> tuple[Span, ...]:
    """Cut an axis into tiles of `pitch` cells, the last one shorter.

    Parameters
    ----------
    cells, s : int
        Coarse cells along the axis, and the factor.
    pitch : int
        Coarse cells of a tile's own.
    reach : Reach
        Of the method; a halo begins at a multiple of its stride.
    open_ends : tuple of bool
        Whether there is more before the first cell, and after the last: the axis
        closes on itself.

    Examples
    --------
    >>> near = Reach(frames=2, pixels=30, stride=16)
    >>> [(x.start, x.core_start, x.core_stop, x.stop) for x in tiles(40, 10, 16, near)]
    [(0, 0, 16, 19), (13, 16, 32, 35), (29, 32, 40, 40)]
    """
    if reach.pixels is None or (pitch >= cells and not any(open_ends)):
        return (Span(0, cells, 0, cells),)
    halo = -(-reach.pixels // s)
    # once round and no further
    lowest, highest = (cells * is_open for is_open in open_ends)
    found = []
    for first in range(0, cells, pitch):
        last = min(first + pitch, cells)
        aligned = max(-lowest, first - halo) * s // reach.stride * reach.stride
        start = max(-lowest, -(-aligned // s))
        found.append(Span(start, min(cells + highest, last + halo), first, last))
    return tuple(found)


def computed(span: Span, s: int, reach: Reach) -> int:
    """Count the fine pixels along an axis that a network computes for a tile.

    Examples
    --------
    >>> computed(Span(13, 35, 16, 32), 10, Reach(2, 30, stride=16))
    224
    """
    first = span.start * s // reach.stride * reach.stride
    return -(-(span.stop * s - first) // reach.stride) * reach.stride


def blend_weights(span: Span, n: int, blend: int, cells: int) -> list[float]:
    """Weight of a span's result for each of its fine cells, halo included.

    At an inner boundary two neighbours weigh a half each; `blend` coarse cells away
    only the owner counts. Over all spans of an axis the weights add up to one.

    Parameters
    ----------
    span : Span
        Whose weights.
    n : int
        The factor along the axis.
    blend : int
        Coarse cells to either side of a boundary that are blended.
    cells : int
        Coarse cells of the whole axis: its ends are no boundaries.

    Examples
    --------
    >>> blend_weights(Span(0, 4, 0, 3), n=1, blend=1, cells=6)
    [1.0, 1.0, 0.75, 0.25]
    """
    weights = []
    for i in range(span.start * n, span.stop * n):
        inside = [i + 0.5 - span.core_start * n] if span.core_start > 0 else []
        inside += [span.core_stop * n - i - 0.5] if span.core_stop < cells else []
        depth = min(inside, default=float("inf"))
        reach = 2 * blend * n
        weights.append(min(1.0, max(0.0, 0.5 + depth / reach)) if reach else 1.0)
    return weights


def _beyond(spans: Sequence[Span]) -> Ends:
    """Count the cells before the first and after the last that tiles reach."""
    cells = spans[-1].core_stop
    return max(-x.start for x in spans), max(x.stop - cells for x in spans)


def _near(found: Sequence[Span], frames: range) -> range:
    """Find the windows around some frames by bisection."""
    low, high = 0, len(found)
    while low < high:
        middle = (low + high) // 2
        if found[middle].core_stop <= frames.start:
            low = middle + 1
        else:
            high = middle
    last = low
    while last < len(found) and found[last].core_start < frames.stop:
        last += 1
    return range(max(0, low - 1), min(len(found), last + 1))


@lru_cache(maxsize=64)
def _choose(
    cells: tuple[int, int],
    factor: tuple[int, int, int],
    reach: Reach,
    pixels: int,
    closed: tuple[Open, Open],
) -> tuple[int, int, int]:
    """Choose frames, rows and columns of a window's own: least is computed twice."""
    t, sy, sx = factor
    down = _pitches(cells[0], sy, reach, closed[0])
    across = _pitches(cells[1], sx, reach, closed[1])
    found = []
    for length in LENGTHS:
        core = max(length // t, 2 * reach.blend, 1)
        frames = (core + 2 * reach.frames) * t
        for rows, height, row_cells in down:
            fitting = [way for way in across if frames * height * way[1] <= pixels]
            if fitting:
                columns, width, column_cells = min(
                    fitting, key=lambda way: (way[2], -way[1])
                )
                cost = frames * row_cells * column_cells / core
                found.append((cost, -core, -min(width, height), rows, columns))
    if found:
        _, core, _, rows, columns = min(found)
        return -core, rows, columns
    if reach.pixels is None:  # whole frames, however large
        return max(LENGTHS[0] // t, 2 * reach.blend, 1), *cells
    raise PlanError(
        f"cannot cut {cells[0]} x {cells[1]} cells into tiles with s={sy}, t={t}: one "
        f"cell and its surroundings take more than {pixels} pixels. Choose a smaller "
        "s, or t."
    )


def _pitches(
    cells: int, s: int, reach: Reach, open_ends: Open
) -> list[tuple[int, int, int]]:
    """Ways to cut an axis: (cells of a tile, its width in pixels, pixels of all).

    Only those are kept that compute less than every narrower one, or that compute as
    little with tiles that are a third wider.
    """
    (frame,) = tiles(cells, s, cells, reach, open_ends)
    whole = computed(frame, s, reach)
    ways = [(cells, whole, whole)]
    if reach.pixels is not None:
        for pitch in range(1, min(cells, -(-MOST_SIDE // s))):
            cut = tiles(cells, s, pitch, reach, open_ends)
            sizes = [computed(x, s, reach) for x in cut]
            ways.append((pitch, max(sizes), sum(sizes)))
    ways.sort(key=lambda way: (way[1], way[2], -way[0]))
    best: list[tuple[int, int, int]] = []
    for way in ways:
        pitch, width, total = way
        _, narrower, least = best[-1] if best else (0, 0, total + 1)
        fewer = pitch == cells or 3 * width >= 4 * narrower
        if total < least or (total == least and fewer):
            best.append(way)
    return best
