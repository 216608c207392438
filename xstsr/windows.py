r"""One window of work: draw raw samples, then join and conserve them.

`draw` refines the coarse frames of one window, halo included, tile by tile. `join`
blends what neighbouring windows have drawn for the same frames, and hands every coarse
cell its water back. Both take the `Job`, a few numbers that say what is asked for, so
that they can run in any thread, process or machine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xstsr.conserve import conserve
from xstsr.errors import DataError
from xstsr.grid import Geometry, areas_m2, refine_edges
from xstsr.meaning import HOUR, Kind
from xstsr.methods import METHODS, NEURAL, STOCHASTIC, Request, Task
from xstsr.plan import Plan, Span, blend_weights

Array = np.ndarray
Mode = Literal["cell", "window", "none"]
GAIN_CAP = (
    8.0  # a pixel's largest gain; the rest of the water goes to its wet neighbours
)


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
    unit : float
        mm h-1 per unit of a rate, mm per unit of an amount, 1 for a state.
    mode : str
        What is conserved: ``"cell"``, ``"window"`` or ``"none"``.
    y_edges, x_edges : ndarray, shape (Y + 1,) and (X + 1,)
        Coarse cell edges.
    geometry : str
        ``"sphere"`` or ``"plane"``.
    metres_per_unit : float
        Of the edges, in a plane.
    """

    request: Request
    plan: Plan
    kind: Kind
    unit: float
    mode: Mode
    y_edges: Array
    x_edges: Array
    geometry: Geometry
    metres_per_unit: float

    @property
    def frames(self) -> int:
        """Coarse frames of the whole record."""
        return self.plan.windows[-1].core_stop

    def to_rate(self, edges: Array) -> Array:
        """Factors from values to mm h-1 for steps with these edges; shape (T, 1, 1)."""
        if self.kind == "state":
            return np.ones((edges.size - 1, 1, 1))
        hours = np.diff(edges)[:, None, None] / HOUR
        is_amount = self.kind == "amount"
        return np.divide(self.unit, hours if is_amount else np.ones_like(hours))

    def weights(self, edges: Array) -> Array:
        """Area times step length of fine cells; shape (T t, Y sy, X sx)."""
        t, sy, sx = self.request.factor
        area = areas_m2(
            refine_edges(self.y_edges, sy),
            refine_edges(self.x_edges, sx),
            self.geometry,
            self.metres_per_unit,
        )
        length = np.diff(refine_edges(edges, t)).astype(np.float64)
        weights: Array = (length / length.mean())[:, None, None] * (area / area.mean())
        return weights


def draw(job: Job, coarse: Array, edges: Array, window: Span) -> Array:
    """Refine one window with its halo, raw: neither blended nor conserved.

    Parameters
    ----------
    job : Job
        What is asked for.
    coarse : ndarray, shape (E, T, Y, X)
        The window's frames in the user's units, NaN where there are no data.
    edges : ndarray, shape (T + 1,), int64
        Their time edges [us].
    window : Span
        Which frames they are.

    Returns
    -------
    ndarray, shape (R, E, n, Y sy, X sx), float32 or float64
        Rates [mm h-1] (or states) of the n fine frames that `reach` tells.
    """
    rates = coarse * job.to_rate(edges)
    check_values(coarse, job.kind)
    keep = reach(job, window)
    fields = [
        _draw_field(job, field, refine_edges(edges, job.request.factor[0])[:-1], i)
        for i, field in enumerate(rates)
    ]
    return np.stack([field[:, keep] for field in fields], axis=1)


def join(
    job: Job,
    parts: Sequence[tuple[Span, Array]],
    coarse: Array,
    edges: Array,
    window: Span,
) -> Array:
    """Blend what windows have drawn for one window's core, and conserve.

    Parameters
    ----------
    job : Job
        What is asked for.
    parts : sequence of (Span, ndarray)
        The window itself and its neighbours, in order of time, with what `draw` gave.
    coarse : ndarray, shape (E, T, Y, X)
        The core's frames in the user's units.
    edges : ndarray, shape (T + 1,), int64
        Their time edges [us].
    window : Span
        Which frames they are.

    Returns
    -------
    ndarray, shape (R, E, T t, Y sy, X sx), of the dtype of `coarse`
        In the user's units.
    """
    t = job.request.factor[0]
    raw = _blend(job, parts, window).astype(coarse.dtype, copy=False)
    rates = coarse.astype(np.float64) * job.to_rate(edges)
    fine = conserve(
        raw,
        rates[None],
        job.request.factor,
        weights=job.weights(edges),
        mode=job.mode,
        constraint="additive" if job.kind == "state" else "multiplicative",
        taper=job.request.recipe.tapered if job.request.recipe.taper else None,
        gain_cap=GAIN_CAP,
    )
    if job.kind != "state":
        fine /= job.to_rate(refine_edges(edges, t)).astype(fine.dtype)
    return np.asarray(fine)


def reach(job: Job, window: Span) -> slice:
    """Fine frames, from the window's start, for which it has a say."""
    t, blend = job.request.factor[0], job.plan.blend[0]
    first = max(0, window.core_start - blend) if window.core_start else 0
    last = min(job.frames, window.core_stop + blend)
    last = min(last, window.stop)
    return slice(
        (max(first, window.start) - window.start) * t, (last - window.start) * t
    )


def fields(job: Job) -> int:
    """Count the fields that a job gives per input field."""
    request = job.request
    return len(request.realizations) if request.method in STOCHASTIC else 1


def check_values(coarse: Array, kind: Kind) -> None:
    """Refuse infinite values, and negative amounts of water."""
    if np.isinf(coarse).any():
        raise DataError(
            f"cannot upscale: {int(np.isinf(coarse).sum())} values are infinite. Mark "
            "what is missing first: da.where(np.isfinite(da))."
        )
    lowest = np.fmin.reduce(coarse, axis=None, initial=0.0)
    if kind != "state" and lowest < 0:
        raise DataError(
            f"cannot upscale negative rain: the smallest value is {float(lowest):g}. "
            "Set small negative values to zero first, for example da.clip(min=0)."
        )


def _draw_field(job: Job, coarse: Array, times: Array, stream: int) -> Array:
    """Refine one (T, Y, X) field tile by tile, and blend the tiles."""
    request, plan = job.request, job.plan
    method = METHODS[request.method]
    _, sy, sx = request.factor
    if request.method not in NEURAL or len(plan.rows) * len(plan.columns) == 1:
        return method(Task(request, coarse, times, (0, 0), stream))
    t, y, x = (n * f for n, f in zip(coarse.shape, request.factor, strict=True))
    whole = np.zeros((fields(job), t, y, x), np.float32)
    for row, column, weight in _tiles(job, coarse.shape):
        part = coarse[:, row.start : row.stop, column.start : column.stop]
        origin = (row.start * sy, column.start * sx)
        drawn = method(Task(request, part, times, origin, stream))
        place = (
            slice(row.start * sy, row.stop * sy),
            slice(column.start * sx, column.stop * sx),
        )
        whole[..., place[0], place[1]] += weight * drawn
    return whole


def _tiles(job: Job, shape: tuple[int, ...]) -> Iterator[tuple[Span, Span, Array]]:
    """Walk over tiles with the blending weights of their fine pixels."""
    _, sy, sx = job.request.factor
    _, blend_y, blend_x = job.plan.blend
    for row in job.plan.rows:
        down = np.array(blend_weights(row, sy, blend_y, shape[1]), np.float32)
        for column in job.plan.columns:
            across = np.array(blend_weights(column, sx, blend_x, shape[2]), np.float32)
            yield row, column, down[:, None] * across


def _blend(job: Job, parts: Sequence[tuple[Span, Array]], window: Span) -> Array:
    """Average what several windows drew for the core of one, by their weights."""
    t, blend = job.request.factor[0], job.plan.blend[0]
    first, last = window.core_start * t, window.core_stop * t
    shape = list(parts[0][1].shape)
    shape[2] = last - first
    total = np.zeros(shape, parts[0][1].dtype)
    mass = np.zeros(last - first)
    for span, drawn in parts:
        weights = np.array(blend_weights(span, t, blend, job.frames))
        kept = reach(job, span)
        start = span.start * t + kept.start
        low, high = max(first, start), min(last, start + drawn.shape[2])
        if low >= high:
            continue
        w = weights[low - span.start * t : high - span.start * t]
        mass[low - first : high - first] += w
        share = w.astype(total.dtype)[:, None, None]
        total[:, :, low - first : high - first] += (
            share * drawn[:, :, low - start : high - start]
        )
    total /= mass.astype(total.dtype)[:, None, None]
    return total
