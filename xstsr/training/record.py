"""What a run has seen and cost so far, noted as it happens.

The run saves its `Record` with its state; `xstsr.training.card` turns it into a part of
the model card.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from xstsr.training.patches import Batch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Range = tuple[float, float]
_NOTHING = (math.inf, -math.inf)


@dataclass
class Record:
    """Examples that were drawn, and what they have cost.

    Parameters
    ----------
    factors : set of (s, t)
        Factors that were trained on.
    spacing_km, step_minutes : tuple of float
        Least and largest fine spacing and step.
    seconds : dict
        Wall time by device.
    """

    factors: set[tuple[int, int]] = field(default_factory=set)
    spacing_km: Range = _NOTHING
    step_minutes: Range = _NOTHING
    seconds: dict[str, float] = field(default_factory=dict)
    _device: str = ""
    _since: float = 0.0

    def start(self, device: torch.device, processes: int) -> None:
        """Start the clock of a leg of the run."""
        self._device = _name(device)
        if processes > 1:
            self._device = f"{processes} x {self._device}"
        self._since = time.monotonic()

    def pause(self) -> None:
        """Count the time until now."""
        if self._device:
            now = time.monotonic()
            spent = self.seconds.get(self._device, 0.0) + now - self._since
            self.seconds[self._device], self._since = spent, now

    def note(self, batch: Batch) -> None:
        """Note the examples of a batch."""
        t, s, _ = batch.factor
        self.factors.add((s, t))
        self.spacing_km = _wider(self.spacing_km, batch.spacing.tolist())
        self.step_minutes = _wider(self.step_minutes, batch.step.tolist())

    def share(self, fabric: "Fabric") -> None:
        """Take in what the other processes have noted; all of them must call this."""
        own = self.to_dict()
        for rank in range(fabric.world_size):
            theirs = Record.from_dict(fabric.broadcast(own, src=rank))
            self.factors |= theirs.factors
            self.spacing_km = _wider(self.spacing_km, theirs.spacing_km)
            self.step_minutes = _wider(self.step_minutes, theirs.step_minutes)

    def to_dict(self) -> dict[str, Any]:
        """Give plain lists and numbers, to be saved."""
        return {
            "factors": sorted(map(list, self.factors)),
            "spacing_km": list(self.spacing_km),
            "step_minutes": list(self.step_minutes),
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Record":
        """Restore what `to_dict` gave; an empty mapping gives an empty record."""
        return cls(
            {(s, t) for s, t in saved.get("factors", ())},
            tuple(saved.get("spacing_km", _NOTHING)),
            tuple(saved.get("step_minutes", _NOTHING)),
            dict(saved.get("seconds", {})),
        )


def _name(device: torch.device) -> str:
    """Name a device as people know it."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} with {torch.get_num_threads()} threads"


def _wider(known: Range, ends: Sequence[float]) -> Range:
    """Widen a range to hold another."""
    return min(known[0], *ends), max(known[1], *ends)
