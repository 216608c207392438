"""What an upscaling would do, before it is done: the plan as a card."""

from dataclasses import dataclass

from xstsr import cards
from xstsr.meaning import Meaning
from xstsr.memory import available_bytes, readable
from xstsr.methods import NEURAL
from xstsr.plan import BYTES_PER_PIXEL, Span
from xstsr.windows import Job, fields

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
    """

    meaning: Meaning
    job: Job
    itemsize: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the result: (realization, time, y, x)."""
        factor = self.job.request.factor
        fine = [n * f for n, f in zip(self.meaning.shape, factor, strict=True)]
        return (fields(self.job), *fine)

    @property
    def nbytes(self) -> int:
        """Size of the result in bytes."""
        size = self.itemsize
        for n in self.shape:
            size *= n
        return size

    @property
    def window_bytes(self) -> int:
        """Peak memory of one window in bytes: what was drawn, and one evaluation."""
        t, sy, sx = self.job.request.factor
        plan = self.job.plan
        frames = max(w.stop - w.start for w in plan.windows) * t
        drawn = frames * self.shape[0] * self.shape[2] * self.shape[3] * self.itemsize
        tile = _widest(plan.rows) * sy * _widest(plan.columns) * sx * frames
        needs_network = self.job.request.method in NEURAL
        return 3 * drawn + (tile * BYTES_PER_PIXEL if needs_network else 0)

    @property
    def seconds(self) -> float:
        """Rough time on two CPU cores; 0 for methods without a network."""
        request, plan = self.job.request, self.job.plan
        if request.method not in NEURAL:
            return 0.0
        t, sy, sx = request.factor
        frames = sum(w.stop - w.start for w in plan.windows) * t
        rows = sum(r.stop - r.start for r in plan.rows) * sy
        columns = sum(c.stop - c.start for c in plan.columns) * sx
        evaluations = 1 + (self.shape[0] * (request.steps or 8)) * (
            request.method == "diffusion"
        )
        return frames * rows * columns * evaluations / PIXELS_PER_SECOND

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
            ("windows", f"{len(self.job.plan.windows)} in time"),
            ("tiles", f"{len(self.job.plan.rows)} x {len(self.job.plan.columns)}"),
            ("memory", f"{readable(self.window_bytes)} a window"),
            ("free", readable(available_bytes())),
        ]
        if self.seconds:
            told.append(("time", f"about {self.seconds / 60:.2g} min on two CPU cores"))
        return [*told, *(("note", note) for note in m.notes)]

    def __repr__(self) -> str:
        return cards.text(f"Plan for {self.meaning.name!r}", self.lines)

    def _repr_html_(self) -> str:
        return cards.html(f"Plan for {self.meaning.name}", self.lines)


def _widest(spans: tuple[Span, ...]) -> int:
    """Most coarse cells that one span computes."""
    return max(span.stop - span.start for span in spans)
