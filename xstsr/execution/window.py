r"""One window of work: draw raw samples, then join and conserve them.

`draw` refines one tile of the coarse frames of one window, halo included. `join` blends
what neighbouring windows have drawn for the frames of one chunk, and hands every coarse
cell its water back. Both take the `Job`, a few numbers that say what is asked for, so
that they can run in any thread, process or machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from xstsr.cf.meaning import HOUR, Constraint, Kind
from xstsr.conservation.constraint import conserve
from xstsr.errors import DataError
from xstsr.geometry.cells import Geometry, refine_edges, side_lengths
from xstsr.methods import METHODS, STOCHASTIC, Request, Task
from xstsr.planning.tiling import Plan, Span, blend_weights

Array = np.ndarray
Mode = Literal["cell", "window", "none"]
GAIN_CAP = (
    8.0  # a pixel's largest gain; the rest of the water goes to its wet neighbours
)


class Tile(NamedTuple):
    """Where a piece of work lies, apart from time.

    Parameters
    ----------
    group : int
        Which realizations: `Job.realizations` tells.
    stream : int
        Which of the fields along further dimensions.
    row, column : int
        Which tile of the plan.
    """

    group: int
    stream: int
    row: int
    column: int


@dataclass(frozen=True, eq=False)
class Job:
    """All that a window needs to know besides its own frames.

    Parameters
    ----------
    request : Request
        Method, factor, seed and the like.
    plan : Plan
        Windows, tiles and blending.
    kind : str
        ``"rate"``, ``"amount"`` or ``"state"``.
    constraint : str
        ``"multiplicative"`` where no value may be negative, else ``"additive"``.
    unit : float
        mm h-1 per unit of a rate, mm per unit of an amount, 1 for a state.
    mode : str
        What is conserved: ``"cell"``, ``"window"`` or ``"none"``.
    time_edges : ndarray, shape (T + 1,), int64
        Edges of the coarse frames [us since 1970].
    y_edges, x_edges : ndarray, shape (Y + 1,) and (X + 1,)
        Coarse cell edges.
    geometry : str
        ``"sphere"`` or ``"plane"``.
    """

    request: Request
    plan: Plan
    kind: Kind
    constraint: Constraint
    unit: float
    mode: Mode
    time_edges: Array
    y_edges: Array
    x_edges: Array
    geometry: Geometry

    @property
    def count(self) -> int:
        """Fields that the job gives per input field."""
        request = self.request
        return len(request.realizations) if request.method in STOCHASTIC else 1

    @property
    def groups(self) -> list[slice]:
        """Ranges of realizations that are drawn together."""
        n = self.plan.group
        return [slice(a, min(a + n, self.count)) for a in range(0, self.count, n)]

    def edges(self, frames: range) -> Array:
        """Time edges of a range of coarse frames; shape (n + 1,)."""
        return self.time_edges[frames.start : frames.stop + 1]

    def to_rate(self, edges: Array) -> Array:
        """Factors from values to mm h-1 for steps with these edges; shape (T, 1, 1)."""
        if self.kind == "state":
            return np.ones((edges.size - 1, 1, 1))
        hours = np.diff(edges)[:, None, None] / HOUR
        is_amount = self.kind == "amount"
        return np.divide(self.unit, hours if is_amount else np.ones_like(hours))

    def weights(self, edges: Array, row: Span, column: Span) -> Array:
        """Area times step length of a tile's fine cells.

        Parameters
        ----------
        edges : ndarray, shape (T + 1,), int64
            Of the coarse frames.
        row, column : Span
            The tile, whose core counts.

        Returns
        -------
        ndarray, shape (T t, Y sy, X sx), or (1, Y sy, X sx) where steps are equal
        """
        t, sy, sx = self.request.factor
        heights, widths = side_lengths(
            refine_edges(self.y_edges, sy),
            refine_edges(self.x_edges, sx),
            self.geometry,
        )
        down = heights[row.core_start * sy : row.core_stop * sy]
        across = widths[column.core_start * sx : column.core_stop * sx]
        area: Array = (down / down.mean())[:, None] * (across / across.mean())
        length = np.diff(refine_edges(edges, t)).astype(np.float64)
        if np.all(length == length[0]):
            length = length[:1]
        weights: Array = (length / length.mean())[:, None, None] * area
        return weights


def draw(
    job: Job, coarse: Array, window: int, tile: Tile, known: Array | None = None
) -> Array:
    """Refine one tile of one window with its halo, raw: not blended, not conserved.

    Parameters
    ----------
    job : Job
        What is asked for.
    coarse : ndarray, shape (T, Y, X)
        The frames and cells of window and tile with their halos, in the user's units,
        NaN where there are no data.
    window : int
        Which window of the plan.
    tile : Tile
        Which realizations, field and tile.
    known : ndarray, shape (G, K, T t or 1, Y sy, X sx), optional
        Known fine fields of window and tile with their halos.

    Returns
    -------
    ndarray, shape (R, n, Y sy, X sx), float32 or float64
        Rates [mm h-1] (or states) of the tile's own pixels, in the n fine frames of
        which the window has a `say`.
    """
    check_values(coarse, job.constraint)
    request, plan = job.request, job.plan
    span, row, column = plan.windows[window], plan.rows[tile.row], plan.columns[tile[3]]
    t, sy, sx = request.factor
    edges = job.edges(range(span.start, span.stop))
    spoken = say(plan, window)
    kept = (
        slice(spoken.start - span.start, spoken.stop - span.start),
        row.core,
        column.core,
    )
    drawn = METHODS[request.method](
        Task(
            replace(request, realizations=request.realizations[job.groups[tile.group]]),
            coarse * job.to_rate(edges),
            refine_edges(edges, t)[:-1],
            (row.start * sy, column.start * sx),
            tile.stream,
            kept,
            known,
        )
    )
    fine = (
        slice(k.start * n, k.stop * n)
        for k, n in zip(kept, request.factor, strict=True)
    )
    # a copy, so that the halo is given back
    return np.ascontiguousarray(drawn[:, *fine])


def join(
    job: Job,
    frames: range,
    tile: Tile,
    drawn: Mapping[int, Array],
    coarse: Array,
) -> Array:
    """Blend what windows have drawn for one chunk of the result, and conserve.

    Parameters
    ----------
    job : Job
        What is asked for.
    frames : range
        Coarse frames of the chunk.
    tile : Tile
        Which realizations, field and tile.
    drawn : mapping of int to ndarray
        What `draw` gave for the windows that `needed` names.
    coarse : ndarray, shape (n, Y, X)
        The frames that `needed` tells, of the tile's own cells, in the user's units.

    Returns
    -------
    ndarray, shape (R, T t, Y sy, X sx), of the dtype of `coarse`
        In the user's units.
    """
    t = job.request.factor[0]
    parts = []
    for piece in _pieces(job, frames):
        first = piece.start - needed(job, frames)[0].start
        values = coarse[first : first + len(piece)]
        fine = _conserve(job, _blend(job, drawn, piece), values, piece, tile)
        low, high = max(frames.start, piece.start), min(frames.stop, piece.stop)
        parts.append(fine[:, (low - piece.start) * t : (high - piece.start) * t])
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def needed(job: Job, frames: range) -> tuple[range, range]:
    """Coarse frames and windows that the chunk of these frames is made of."""
    if job.mode == "window":
        windows = [job.plan.windows[i] for i in job.plan.owners(frames)]
        frames = range(windows[0].core_start, windows[-1].core_stop)
    return frames, job.plan.sources(frames)


def say(plan: Plan, window: int) -> range:
    """Coarse frames of which a window has a say: its own, and those it blends into."""
    span = plan.windows[window]
    return range(
        max(0, span.core_start - plan.blend, span.start),
        min(plan.frames, span.core_stop + plan.blend, span.stop),
    )


def check_values(coarse: Array, constraint: Constraint) -> None:
    """Refuse infinite values, and negative ones where none may be."""
    if np.isinf(coarse).any():
        raise DataError(
            f"cannot upscale: {int(np.isinf(coarse).sum())} values are infinite. Mark "
            "what is missing first: da.where(np.isfinite(da))."
        )
    lowest = np.fmin.reduce(coarse, axis=None, initial=0.0)
    if constraint == "multiplicative" and lowest < 0:
        raise DataError(
            "cannot upscale values that cannot be, such as negative rain: the smallest "
            f"value is {float(lowest):g}. Set small negative values to zero first, for "
            "example da.clip(min=0)."
        )


def _pieces(job: Job, frames: range) -> Sequence[range]:
    """Ranges of frames that are conserved together."""
    if job.mode != "window":
        return [frames]
    windows = (job.plan.windows[i] for i in job.plan.owners(frames))
    return [range(w.core_start, w.core_stop) for w in windows]


def _conserve(job: Job, raw: Array, coarse: Array, frames: range, tile: Tile) -> Array:
    """Hand the water of some coarse frames back; values in the user's units."""
    edges = job.edges(frames)
    row, column = job.plan.rows[tile.row], job.plan.columns[tile.column]
    rates = coarse.astype(np.float64) * job.to_rate(edges)
    fine = conserve(
        raw.astype(coarse.dtype, copy=False),
        rates[None],
        job.request.factor,
        weights=job.weights(edges, row, column),
        mode=job.mode,
        constraint=job.constraint,
        taper=job.request.recipe.tapered if job.request.recipe.taper else None,
        gain_cap=GAIN_CAP,
    )
    if job.kind != "state":
        edges = refine_edges(edges, job.request.factor[0])
        fine /= job.to_rate(edges).astype(fine.dtype)
    return np.asarray(fine)


def _blend(job: Job, drawn: Mapping[int, Array], frames: range) -> Array:
    """Average what several windows drew for some coarse frames, by their weights."""
    plan, t = job.plan, job.request.factor[0]
    first, last = frames.start * t, frames.stop * t
    any_one = next(iter(drawn.values()))
    shape = (any_one.shape[0], last - first, *any_one.shape[2:])
    total = np.zeros(shape, any_one.dtype)
    mass = np.zeros(last - first)
    for window in plan.sources(frames):
        span, start = plan.windows[window], say(plan, window).start * t
        weights = np.array(blend_weights(span, t, plan.blend, plan.frames))
        low = max(first, start)
        high = min(last, start + drawn[window].shape[1])
        w = weights[low - span.start * t : high - span.start * t]
        mass[low - first : high - first] += w
        share = w.astype(total.dtype)[:, None, None]
        total[:, low - first : high - first] += (
            share * drawn[window][:, low - start : high - start]
        )
    total /= mass.astype(total.dtype)[:, None, None]
    return total
