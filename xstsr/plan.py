r"""The plan: which frames and pixels are computed together. Integers only.

Windows lie in absolute time, so that a part of a record is cut as the whole is:

    frames     0  1  2  3 | 4  5  6  7 | 8  9 ...       core = 4
    window 1   .  .  h  h [ 4  5  6  7 ] h  h           halo = 2
                     `-- blended --'                    blend = 1 to either side

A window computes its core and a halo of context on both sides; where two windows
overlap around a boundary, their samples are blended. Nothing here depends on how the
input is chunked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from xstsr.errors import PlanError

BYTES_PER_PIXEL = 600  # measured peak of one evaluation on the CPU, float32
PIXELS = 4_000_000  # fine pixels per network evaluation: about 2.4 GB
TILE_HALO = 48  # fine pixels of context around a tile


@dataclass(frozen=True)
class Span:
    """A range of coarse cells with its halo, clipped to the domain.

    Parameters
    ----------
    start, stop : int
        With the halo.
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
        Tiles in y and x; one each where a window fits as a whole.
    blend : tuple of int
        Coarse cells to either side of a boundary that are blended, in t, y and x.
    """

    windows: tuple[Span, ...]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    blend: tuple[int, int, int]


def make_plan(
    frame_numbers: Sequence[int],
    cells: tuple[int, int],
    factor: tuple[int, int, int],
    *,
    halo: int,
    core: int,
    short_core: int | None = None,
    pixels: int | None = None,
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
    halo, core : int
        Coarse frames of context on each side, and coarse frames of a window's own.
    short_core : int, optional
        Frames of a window's own where windows of `core` frames do not fit.
    pixels : int, optional
        Fine pixels that may be computed together; `PIXELS` by default.
    """
    t, sy, sx = factor
    pixels = pixels or PIXELS
    if short_core and (core + 2 * halo) * t * cells[0] * sy * cells[1] * sx > pixels:
        core = short_core
    if halo and core < 2 * max(1, halo // 2):
        raise PlanError(
            f"cannot blend windows of {core} frames over a halo of {halo}: the core "
            "must hold both blends. Use a shorter context in the recipe."
        )
    frames = (core + 2 * halo) * t
    side = int((pixels / frames) ** 0.5)
    return Plan(
        windows(frame_numbers, core, halo),
        spans(cells[0], sy, side),
        spans(cells[1], sx, side),
        (
            max(1, halo // 2) if halo else 0,
            tile_halo(sy) // 2 or 1,
            tile_halo(sx) // 2 or 1,
        ),
    )


def tile_halo(s: int) -> int:
    """Count the coarse cells of context around a tile at the factor s."""
    return -(-TILE_HALO // s)


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


def chunk_lengths(windows: Sequence[Span], t: int) -> tuple[int, ...]:
    """Cut the fine steps in chunks of one length, the last shorter, as Zarr asks for.

    The first and the last window may be shorter than the others, because windows lie in
    absolute time; chunks of that shape could not be written to a Zarr store.

    Parameters
    ----------
    windows : sequence of Span
        All windows of a record.
    t : int
        Fine steps per coarse frame.

    Examples
    --------
    >>> chunk_lengths(windows(range(6, 14), core=4, halo=1), t=3)
    (12, 12)
    """
    longest = max(w.core_stop - w.core_start for w in windows) * t
    whole, rest = divmod(windows[-1].core_stop * t, longest)
    return (longest,) * whole + ((rest,) if rest else ())


def spans(cells: int, s: int, side: int) -> tuple[Span, ...]:
    """Cut an axis into tiles of at most `side` fine pixels, halo included.

    Parameters
    ----------
    cells, s : int
        Coarse cells along the axis, and the factor.
    side : int
        Fine pixels that fit.

    Examples
    --------
    >>> [(x.start, x.core_start, x.core_stop, x.stop) for x in spans(40, 10, 300)]
    [(0, 0, 20, 25), (15, 20, 40, 40)]
    """
    if cells * s <= side:
        return (Span(0, cells, 0, cells),)
    halo = tile_halo(s)
    fit = side // s - 2 * halo
    if fit < halo:  # a tile's two blends, half a halo each, must not meet
        raise PlanError(
            f"cannot cut {cells} cells of {s} pixels into tiles of {side} pixels: with "
            f"a halo of {halo * s} on each side, a tile takes {3 * halo * s} or more. "
            "Choose a smaller s, or t."
        )
    count = -(-cells // fit)
    ends = [i * cells // count for i in range(count + 1)]
    return tuple(
        Span(max(0, a - halo), min(cells, b + halo), a, b) for a, b in pairwise(ends)
    )


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
