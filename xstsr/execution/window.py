r"""One window of work: draw raw samples, then join and conserve them.

`draw` refines one tile of the coarse frames of one window, halo included. `join` blends
what neighbouring windows have drawn for the frames of one chunk, and hands every coarse
cell its water back. Both take the `Job`, a few numbers that say what is asked for, so
that they can run in any thread, process or machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from xstsr.conservation.constraint import conserve
from xstsr.errors import DataError
from xstsr.geometry.cells import refine_edges
from xstsr.methods import find_method
from xstsr.methods.task import Task
from xstsr.planning.job import GAIN_CAP, Job, Tile
from xstsr.planning.tiling import Plan, blend_weights
from xstsr.typing import Array, Constraint


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
    drawn = find_method(request.method).draw(
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
