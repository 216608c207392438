"""What an upscaling would do, before it is done: the plan as a card."""

import math
from dataclasses import dataclass
from typing import Any

from xstsr import cards
from xstsr.graph import result_chunks
from xstsr.meaning import Meaning
from xstsr.memory import PROCESS, available_bytes, evaluation_bytes, readable
from xstsr.methods import NEURAL
from xstsr.plan import Span
from xstsr.windows import Job

COPIES = 5  # measured peak of drawing, blending and conserving, in chunks
PIXELS_PER_SECOND = 700_000  # one evaluation on two CPU cores, float32; order of size


@dataclass(frozen=True, eq=False)
class Preview:
    """What was inferred from the metadata, and what the work will take.

    Prints as text and shows as a card in Jupyter.

    Parameters
    ----------
    meaning : Meaning
        What the coarse field means.
    job : Job
        What would be done.
    itemsize : int
        Bytes per value.
    extra : tuple of int
        Sizes of the further dimensions.

    Examples
    --------
    >>> import xstsr
    >>> coarse = xstsr.open_demo().rainfall_amount[:6, :40, :30].stsr.coarsen(5, 3)
    >>> preview = coarse.stsr.plan(5, 3, realizations=4, method="rainfarm")
    >>> preview.shape, preview.nbytes
    ((4, 6, 40, 30), 230400)
    """

    meaning: Meaning
    job: Job
    itemsize: int
    extra: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: (realization, further dimensions, time, y, x)."""
        factor = self.job.request.factor
        fine = [n * f for n, f in zip(self.meaning.shape, factor, strict=True)]
        return (self.job.count, *self.extra, *fine)

    @property
    def nbytes(self) -> int:
        """Size of the result in bytes."""
        return self.itemsize * math.prod(self.shape)

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the result's chunks along each dimension, if the input is chunked.

        The dimensions are those of `shape`.
        """
        return result_chunks(self.job, self.extra)

    @property
    def chunk_bytes(self) -> int:
        """Size of the largest chunk in bytes."""
        return self.itemsize * math.prod(max(sizes) for sizes in self.chunks)

    @property
    def tasks(self) -> int:
        """Windows to draw, over all tiles, groups of realizations and fields."""
        plan = self.job.plan
        fields = len(self.job.groups) * math.prod(self.extra)
        return fields * len(plan.windows) * len(plan.rows) * len(plan.columns)

    @property
    def tile(self) -> tuple[int, int, int]:
        """Largest fine shape (time, y, x) that a method sees at once."""
        plan = self.job.plan
        cells = (_widest(spans) for spans in (plan.windows, plan.rows, plan.columns))
        t, y, x = (n * f for n, f in zip(cells, self.job.request.factor, strict=True))
        return t, y, x

    @property
    def device_bytes(self) -> int:
        """Memory that one realization takes on the device of the network."""
        if self.job.request.method not in NEURAL:
            return 0
        return evaluation_bytes(math.prod(self.tile))

    @property
    def window_bytes(self) -> int:
        """Peak of the host's memory for one window: what is drawn, and the network."""
        fields = max(self.chunks[0])
        drawn = 4 * fields * math.prod(self.tile)
        on_host = self.job.request.device == "cpu"
        return drawn + COPIES * self.chunk_bytes + self.device_bytes * on_host

    @property
    def process_bytes(self) -> int:
        """Peak memory of a process that refines one window after the other."""
        return PROCESS + self.window_bytes

    @property
    def seconds(self) -> float:
        """Rough time on two CPU cores; 0 for methods without a network."""
        request, plan = self.job.request, self.job.plan
        if request.method not in NEURAL:
            return 0.0
        cells = (
            sum(span.stop - span.start for span in spans)
            for spans in (plan.windows, plan.rows, plan.columns)
        )
        pixels = math.prod(n * f for n, f in zip(cells, request.factor, strict=True))
        drawn = self.shape[0] if request.method == "diffusion" else 0
        means = len(self.job.groups)
        evaluations = math.prod(self.extra) * (means + drawn * (request.steps or 0))
        return pixels * evaluations / PIXELS_PER_SECOND

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What the card says, as pairs of label and value."""
        m, request = self.meaning, self.job.request
        t, s, _ = request.factor
        told = [
            ("quantity", f"{m.kind} [{m.units}]"),
            ("coarse grid", f"{m.spacing_km:.3g} km, {m.step_minutes:.4g} min"),
            ("fine grid", f"{m.spacing_km / s:.3g} km, {m.step_minutes / t:.4g} min"),
            ("time labels", f"{m.time_label} of the step"),
            ("calendar", m.calendar or "standard"),
            ("method", request.method),
            ("context", f"{request.recipe.context} coarse frames"),
            ("result", f"{self.shape} {readable(self.nbytes)}"),
            ("chunks", self._chunks()),
            ("windows", f"{len(self.job.plan.windows)} in time"),
            ("tiles", f"{len(self.job.plan.rows)} x {len(self.job.plan.columns)}"),
            ("memory", f"{readable(self.process_bytes)} a process"),
            ("free", readable(available_bytes())),
        ]
        if self.seconds:
            told.append(("time", f"about {self.seconds / 60:.2g} min on two CPU cores"))
        return [*told, *(("note", note) for note in m.notes)]

    def to_dict(self) -> dict[str, Any]:
        """Return what the card says, and more, as plain numbers, strings and lists.

        Returns
        -------
        dict
            Ready for JSON; sizes in bytes, spacing in km, steps in minutes.
        """
        m, request, plan = self.meaning, self.job.request, self.job.plan
        t, s, _ = request.factor
        return {
            "name": m.name,
            "kind": m.kind,
            "units": m.units,
            "point": m.point,
            "calendar": m.calendar or "standard",
            "time_label": m.time_label,
            "factor": {"s": s, "t": t},
            "method": request.method,
            "conserve": self.job.mode,
            "realizations": list(request.realizations),
            "coarse": _grid(m, 1, 1),
            "fine": _grid(m, s, t),
            "shape": list(self.shape),
            "bytes": self.nbytes,
            "chunks": [list(sizes) for sizes in self.chunks],
            "chunk_bytes": self.chunk_bytes,
            "windows": len(plan.windows),
            "tiles": [len(plan.rows), len(plan.columns)],
            "tasks": self.tasks,
            "window_bytes": self.window_bytes,
            "process_bytes": self.process_bytes,
            "device_bytes": self.device_bytes,
            "free_bytes": available_bytes(),
            "seconds": self.seconds,
            "notes": list(m.notes),
        }

    def _chunks(self) -> str:
        count = math.prod(len(sizes) for sizes in self.chunks)
        size = tuple(max(sizes) for sizes in self.chunks)
        return f"{count} of {size} {readable(self.chunk_bytes)}, if lazy"

    def __repr__(self) -> str:
        return cards.text(f"Plan for {self.meaning.name!r}", self.lines)

    def _repr_html_(self) -> str:
        return cards.html(f"Plan for {self.meaning.name}", self.lines)


def _grid(meaning: Meaning, s: int, t: int) -> dict[str, Any]:
    """Shape (time, y, x), spacing and step of a grid, refined by s and t."""
    shape = [n * f for n, f in zip(meaning.shape, (t, s, s), strict=True)]
    spacing, step = meaning.spacing_km / s, meaning.step_minutes / t
    return {"shape": shape, "spacing_km": spacing, "step_minutes": step}


def _widest(spans: tuple[Span, ...]) -> int:
    """Most coarse cells that one span computes."""
    return max(span.stop - span.start for span in spans)
