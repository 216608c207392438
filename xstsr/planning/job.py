"""The work of one stage: what every window must know, and nothing labelled.

A `Job` travels to any thread, process or machine; a `Tile` says which piece is meant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xstsr.cf.meaning import HOUR, Meaning
from xstsr.cf.units import to_mm, to_mm_per_hour
from xstsr.errors import XstsrError
from xstsr.geometry.cells import refine_edges, side_lengths
from xstsr.methods import find_method
from xstsr.methods.task import Request
from xstsr.planning.tiling import Plan, Span, make_plan
from xstsr.typing import Array, Constraint, Geometry, Kind, Mode

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
        return (
            len(request.realizations)
            if find_method(request.method).is_stochastic
            else 1
        )

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


def result_chunks(job: Job, extra: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Tell the sizes of the result's chunks along each axis.

    Parameters
    ----------
    job : Job
        What is asked for.
    extra : sequence of int
        Sizes of the further dimensions, each of whose fields is a chunk of its own.

    Returns
    -------
    tuple of tuples of int
        Along (R, *E, T t, Y sy, X sx).
    """
    t, sy, sx = job.request.factor
    return (
        tuple(g.stop - g.start for g in job.groups),
        *((1,) * n for n in extra),
        tuple(len(frames) * t for frames in job.plan.chunks),
        *(
            tuple((span.core_stop - span.core_start) * n for span in spans)
            for spans, n in ((job.plan.rows, sy), (job.plan.columns, sx))
        ),
    )


def make_job(meaning: Meaning, request: Request, mode: Mode) -> Job:
    """Plan the work: everything that a window must know, and nothing labelled.

    Parameters
    ----------
    meaning : Meaning
        Of the coarse field.
    request : Request
        What is asked for.
    mode : str
        What is conserved.
    """
    if mode not in ("cell", "window", "none"):
        raise XstsrError(
            f"cannot conserve={mode!r}: choose 'cell' (every coarse cell and step), "
            "'window' (every time window) or 'none'."
        )
    if mode == "window" and meaning.point:
        raise XstsrError(
            f"cannot conserve={mode!r} of {meaning.name!r}: its values are "
            "instantaneous (time: point), and instants have no total over time. Choose "
            "'cell' or 'none', or say what they are: cell_methods='time: mean'."
        )
    return Job(
        request=request,
        plan=make_windows(meaning, request),
        kind=meaning.kind,
        constraint=meaning.constraint,
        unit=_unit(meaning),
        mode=mode,
        time_edges=meaning.time_edges,
        y_edges=meaning.y_edges,
        x_edges=meaning.x_edges,
        geometry=meaning.geometry,
    )


def make_windows(meaning: Meaning, request: Request) -> Plan:
    """Cut the record into windows with the context that the method needs."""
    step = int(np.median(np.diff(meaning.time_edges)))
    numbers = [int(edge) // step for edge in meaning.time_edges[:-1]]
    return make_plan(
        numbers,
        meaning.shape[1:],
        request.factor,
        find_method(request.method).reach(request),
        globe=request.globe,
    )


def _unit(meaning: Meaning) -> float:
    """Find mm h-1 per unit of a rate, mm per unit of an amount, 1 for a state."""
    if meaning.kind == "amount":
        return to_mm(meaning.units)
    return to_mm_per_hour(meaning.units) if meaning.kind == "rate" else 1.0
