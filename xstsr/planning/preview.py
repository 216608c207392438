"""What an upscaling would do, before it is done: the plan as a card."""

import math
from dataclasses import dataclass
from typing import Any

from xstsr import display
from xstsr.cf.meaning import Meaning
from xstsr.display import readable
from xstsr.factors import in_words, said, sides, size_of, space_of
from xstsr.memory import PROCESS, available_bytes, evaluation_bytes
from xstsr.planning.job import Job, result_chunks
from xstsr.planning.stages import Jobs, factor_of, settings_of
from xstsr.planning.tiling import Span
from xstsr.typing import Space

COPIES = 5  # measured peak of drawing, blending and conserving, in chunks
# one evaluation on two CPU cores, float32, of a diffusion network and of a generator;
# orders of size
PIXELS_PER_SECOND, PIXELS_PER_SECOND_AT_ONCE = 700_000, 3_000_000


@dataclass(frozen=True, eq=False)
class Preview:
    """What was inferred from the metadata, and what the work will take.

    Prints as text and shows as a card in Jupyter.

    Parameters
    ----------
    meaning : Meaning
        What the coarse field means.
    jobs : tuple of Job
        What would be done, stage by stage; mostly there is one.
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
    jobs: Jobs
    itemsize: int
    extra: tuple[int, ...] = ()

    @property
    def job(self) -> Job:
        """The last stage, which makes the result."""
        return self.jobs[-1]

    @property
    def s(self) -> Space:
        """The factor in space, over all stages."""
        return space_of(factor_of(self.jobs))

    @property
    def t(self) -> int:
        """The factor in time, over all stages."""
        return factor_of(self.jobs)[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: (realization, further dimensions, time, y, x)."""
        return self._shape_after(len(self.jobs))

    @property
    def nbytes(self) -> int:
        """Size of the result in bytes."""
        return self.itemsize * math.prod(self.shape)

    @property
    def held_bytes(self) -> int:
        """Size of the results of all stages in bytes."""
        shapes = (self._shape_after(n) for n in range(1, len(self.jobs) + 1))
        return self.itemsize * sum(math.prod(shape) for shape in shapes)

    def _shape_after(self, count: int) -> tuple[int, ...]:
        """Shape of the result of so many stages."""
        factor = factor_of(self.jobs[:count])
        fine = [n * f for n, f in zip(self.meaning.shape, factor, strict=True)]
        return (self.job.count, *self.extra, *fine)

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the result's chunks along each dimension, if the input is chunked.

        The dimensions are those of `shape`.
        """
        return result_chunks(self.job, self.extra)

    @property
    def chunk_bytes(self) -> int:
        """Size of the largest chunk in bytes."""
        return self._chunk_bytes(self.job)

    def _chunk_bytes(self, job: Job) -> int:
        """Size of the largest chunk that a stage makes."""
        chunks = result_chunks(job, self.extra)
        return self.itemsize * math.prod(max(sizes) for sizes in chunks)

    @property
    def tasks(self) -> int:
        """Windows to draw, over tiles, groups of realizations, fields and stages."""
        return math.prod(self.extra) * sum(
            len(job.groups) * math.prod(map(len, _spans(job))) for job in self.jobs
        )

    @property
    def tile(self) -> tuple[int, int, int]:
        """Largest fine shape (time, y, x) that a method sees at once."""
        return max(map(_tile, self.jobs), key=math.prod)

    @property
    def device_bytes(self) -> int:
        """Memory that one realization takes on the device of the network."""
        if not self.job.request.is_neural:
            return 0
        return max(
            evaluation_bytes(math.prod(_tile(job)), job.request.bytes_per_pixel)
            for job in self.jobs
        )

    @property
    def window_bytes(self) -> int:
        """Peak of the host's memory for one window: what is drawn, and the network."""
        on_host = self.job.request.device == "cpu"
        needed = (
            4 * max(result_chunks(job, self.extra)[0]) * math.prod(_tile(job))
            + COPIES * self._chunk_bytes(job)
            for job in self.jobs
        )
        return max(needed) + self.device_bytes * on_host

    @property
    def process_bytes(self) -> int:
        """Peak memory of a process that refines one window after the other."""
        return PROCESS + self.window_bytes

    @property
    def seconds(self) -> float:
        """Rough time on two CPU cores; 0 for methods without a network."""
        return math.prod(self.extra) * sum(map(_seconds, self.jobs))

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What the card says, as pairs of label and value."""
        m = self.meaning
        s, t = size_of(self.s), self.t
        told = [
            ("quantity", f"{m.kind} [{m.units}]"),
            ("coarse grid", f"{m.spacing_km:.3g} km, {m.step_minutes:.4g} min"),
            ("fine grid", f"{m.spacing_km / s:.3g} km, {m.step_minutes / t:.4g} min"),
            ("time labels", f"{m.time_label} of the step"),
            ("calendar", m.calendar or "standard"),
            ("factor", " then ".join(said(j.request.factor) for j in self.jobs)),
            *((key, _short(value)) for key, value in settings_of(self.jobs).items()),
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
        s, t = self.s, self.t
        return {
            "name": m.name,
            "kind": m.kind,
            "units": m.units,
            "point": m.point,
            "calendar": m.calendar or "standard",
            "time_label": m.time_label,
            "factor": {"s": in_words(s), "t": t},
            "stages": [list(job.request.factor) for job in self.jobs],
            **settings_of(self.jobs),
            "conserve": self.jobs[0].mode,
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
        return display.text(f"Plan for {self.meaning.name!r}", self.lines)

    def _repr_html_(self) -> str:
        return display.html(f"Plan for {self.meaning.name}", self.lines)


def _short(value: str | float) -> str:
    """Write a setting for the card."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _grid(meaning: Meaning, s: Space, t: int) -> dict[str, Any]:
    """Shape (time, y, x), spacing and step of a grid, refined by s and t."""
    shape = [n * f for n, f in zip(meaning.shape, (t, *sides(s)), strict=True)]
    spacing, step = meaning.spacing_km / size_of(s), meaning.step_minutes / t
    return {"shape": shape, "spacing_km": spacing, "step_minutes": step}


def _spans(job: Job) -> tuple[tuple[Span, ...], ...]:
    """Windows, rows and columns of a stage."""
    return job.plan.windows, job.plan.rows, job.plan.columns


def _tile(job: Job) -> tuple[int, int, int]:
    """Largest fine shape (time, y, x) of a stage that a method sees at once."""
    cells = map(_widest, _spans(job))
    t, y, x = (n * f for n, f in zip(cells, job.request.factor, strict=True))
    return t, y, x


def _seconds(job: Job) -> float:
    """Rough time of a stage for one field; 0 without a network."""
    request = job.request
    if not request.is_neural:
        return 0.0
    cells = (sum(span.stop - span.start for span in spans) for spans in _spans(job))
    pixels = math.prod(n * f for n, f in zip(cells, request.factor, strict=True))
    evaluations = len(job.groups) * request.needs_mean + job.count * (
        request.steps or 0
    )
    seconds = pixels * evaluations / PIXELS_PER_SECOND
    if request.method == "generator":
        seconds += pixels * job.count / PIXELS_PER_SECOND_AT_ONCE
    return seconds


def _widest(spans: tuple[Span, ...]) -> int:
    """Most coarse cells that one span computes."""
    return max(span.stop - span.start for span in spans)
