r"""Training examples: random events, places, factors, spacings and steps.

One example is a crop of a high-resolution event, averaged to a random spacing and step;
the coarse field is its block mean. So one model meets every factor at many physical
scales, and learns what the spacing and the step mean.

Examples are a pure function of (seed, step of training, rank of the process): a resumed
run sees the same, and processes that train together see others.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xstsr.errors import DataError
from xstsr.training.config import Draw
from xstsr.training.events import Event
from xstsr.typing import Factor

_CANDIDATES = (
    6  # places looked at for each crop: rain is rare, and dry crops teach little
)


@dataclass(frozen=True)
class Batch:
    """A batch of examples of one factor.

    Parameters
    ----------
    fine : Tensor, shape (B, T t, Y s, X s)
        Rates [mm h-1] or states, NaN where there are no data.
    coarse : Tensor, shape (B, T, Y, X)
        Their block means; NaN where less than half of a block has data.
    factor : tuple of int
        (t, s, s).
    spacing, step : Tensor, shape (B,)
        Fine spacing [km] and step [min].
    known : Tensor, shape (B, K, T t, Y s, X s), optional
        Known fine fields, in their units; one frame where none changes.
    """

    fine: Tensor
    coarse: Tensor
    factor: Factor
    spacing: Tensor
    step: Tensor
    known: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Copy to a device."""
        return Batch(
            self.fine.to(device),
            self.coarse.to(device),
            self.factor,
            self.spacing.to(device),
            self.step.to(device),
            None if self.known is None else self.known.to(device),
        )


def draw_factor(rng: np.random.Generator, draw: Draw) -> Factor:
    """Draw (t, s, s), small s somewhat more often, never the identity."""
    weight = np.array([1 / math.sqrt(s) for s in draw.s])
    while True:
        s = int(rng.choice(draw.s, p=weight / weight.sum()))
        t = int(rng.choice(draw.t))
        if (s, t) != (1, 1) or {*draw.s, *draw.t} == {1}:
            return t, s, s


def draw_batch(
    events: Sequence[Event], seed: int, step: int, draw: Draw, rank: int = 0
) -> Batch:
    """Draw the batch of one training step.

    Parameters
    ----------
    events : sequence of Event
        What to draw from; each event is as likely as the next.
    seed, step, rank : int
        Together they fix the batch.
    draw : Draw
        Factors and sizes.

    Raises
    ------
    DataError
        No event is large enough, or none has data in half of a crop.
    """
    rng = np.random.default_rng([seed, step, rank] if rank else [seed, step])
    factor, frames, side = _draw_size(events, rng, draw)
    count = max(1, round(draw.pixels / (side * side * frames)))
    crops: list[np.ndarray] = []
    under: list[np.ndarray] = []
    spacings: list[float] = []
    steps: list[float] = []
    misses = 0
    while len(crops) < count:
        event = events[int(rng.integers(len(events)))]
        found = _crop(event, frames, side, rng, draw)
        if found is None:
            misses += 1
            _check_misses(misses, events, (frames, side, side))
            continue
        crop, known, m, k = found
        turns, flipped = int(rng.integers(4)), bool(rng.integers(2))
        crops.append(_turn(crop, turns, flipped))
        under.append(_turn(known, turns, flipped))
        spacings.append(event.spacing_km * m)
        steps.append(event.step_minutes * k)
    fine = torch.from_numpy(np.stack(crops))
    return Batch(
        fine,
        block_means(fine, factor),
        factor,
        torch.tensor(spacings, dtype=torch.float32),
        torch.tensor(steps, dtype=torch.float32),
        torch.from_numpy(np.stack(under)) if under[0].size else None,
    )


def possible_factors(events: Sequence[Event], draw: Draw) -> list[tuple[int, int]]:
    """List the factors (s, t) of a draw for which some event holds a crop.

    Parameters
    ----------
    events : sequence of Event
        What to draw from.
    draw : Draw
        Factors and sizes.

    Raises
    ------
    DataError
        There are none.
    """
    asked = [(s, t) for s in draw.s for t in draw.t if (s, t) != (1, 1)] or [(1, 1)]
    frames = min(draw.frames)
    found = [(s, t) for s, t in asked if crop_size(events, (t, s, s), frames, draw)]
    if not found:
        shapes = {e.name: e.codes.shape for e in events}
        raise DataError(
            f"cannot draw training examples: the events have {shapes} (time, y, x), "
            f"and the smallest factors, s={min(draw.s)} and t={min(draw.t)}, need two "
            f"coarse steps and {draw.cells} coarse cells a side. Use larger events, or "
            "smaller factors or cells in the configuration's [draw]."
        )
    return found


def crop_size(
    events: Sequence[Event], factor: Factor, frames: int, draw: Draw
) -> tuple[int, int] | None:
    """Find the frames and pixels a side of the crops of a factor.

    Where no event holds the crop that is wanted, the largest one that an event holds;
    None where none has two coarse steps and the least number of coarse cells.

    Parameters
    ----------
    events : sequence of Event
        What to draw from.
    factor : tuple of int
        (t, s, s).
    frames : int
        Fine frames that are wanted, about.
    draw : Draw
        Sizes.
    """
    t, s, _ = factor
    cells = draw.cells if s > 1 else 1
    frames = t * max(2, round(frames / t))
    side = s * max(round(draw.side / s), cells)
    fitting = []
    for event in events:
        length, *plane = event.codes.shape
        size = (min(frames, length // t * t), min(side, min(plane) // s * s))
        if size[0] >= 2 * t and size[1] >= cells * s:
            fitting.append(size)
    return max(fitting, key=lambda size: size[0] * size[1] ** 2, default=None)


def _draw_size(
    events: Sequence[Event], rng: np.random.Generator, draw: Draw
) -> tuple[Factor, int, int]:
    """Draw a factor and a number of frames for which there is an event."""
    while True:
        factor = draw_factor(rng, draw)
        size = crop_size(events, factor, int(rng.choice(draw.frames)), draw)
        if size is not None:
            return factor, *size
        possible_factors(events, draw)


def _check_misses(
    misses: int, events: Sequence[Event], size: tuple[int, int, int]
) -> None:
    """Give up where no event can ever fill a crop."""
    if misses > 100 * len(events):
        raise DataError(
            f"cannot draw training examples: in {misses} trials no crop of {size} "
            f"(time, y, x) had data in half of it, in {[e.name for e in events]}. Use "
            "events with fewer gaps, or smaller factors, side and frames in the "
            "configuration's [draw]."
        )


def block_means(fine: Tensor, factor: Factor) -> Tensor:
    """Average blocks over their valid pixels; NaN where less than half are valid.

    Parameters
    ----------
    fine : Tensor, shape (B, T t, Y s, X s)
    factor : tuple of int

    Returns
    -------
    Tensor, shape (B, T, Y, X)
    """
    b, t, y, x = fine.shape
    ft, fy, fx = factor
    blocks = fine.reshape(b, t // ft, ft, y // fy, fy, x // fx, fx)
    share = torch.isfinite(blocks).to(fine.dtype).mean(dim=(2, 4, 6))
    mean = torch.nan_to_num(blocks).mean(dim=(2, 4, 6)) / share.clamp(min=0.5)
    return torch.where(share >= 0.5, mean, torch.nan)


def _crop(
    event: Event, frames: int, side: int, rng: np.random.Generator, draw: Draw
) -> tuple[np.ndarray, np.ndarray, int, int] | None:
    """Cut one crop, the wettest of a few places more often; None if it has no data.

    With it come the known fields of its place, shape (K, frames, side, side), and the
    numbers of pixels and frames that were averaged.

    The preference is by the mean rain of the whole crop, which the coarse field holds
    too: it depends on what the network is given, not on what it has to tell, so the
    conditional distribution that it learns is not biased by it.
    """
    total, height, width = event.codes.shape
    m = int(
        rng.choice(
            [m for m in draw.coarsening if m * side <= min(height, width)] or [1]
        )
    )
    k = int(rng.choice([k for k in draw.stride if k * frames <= total] or [1]))
    if m * side > min(height, width) or k * frames > total:
        return None
    places, scores = [], []
    for _ in range(_CANDIDATES):
        at = [
            int(rng.integers(n - size + 1))
            for n, size in zip(
                event.codes.shape, (k * frames, m * side, m * side), strict=True
            )
        ]
        # strides that no factor shares, so that the sum is that of the coarse field
        look = event.values(at, (k * frames, m * side, m * side), every=(2, 7, 7))
        valid = float(np.isfinite(look).mean())
        places.append(at)
        # the same everywhere for states, which teach as much in one place as in another
        rain = 0.0 if event.state else float(np.nan_to_num(look).mean())
        scores.append(0.01 + math.sqrt(rain) if valid >= 0.5 else 0.0)
    if not sum(scores):
        return None
    at = places[int(rng.choice(_CANDIDATES, p=np.array(scores) / sum(scores)))]
    whole = event.values(at, (k * frames, m * side, m * side))
    known = event.known(at, (k * frames, m * side, m * side))
    return _average(whole, k, m), _average(known, k, m), m, k


def _average(values: np.ndarray, k: int, m: int) -> np.ndarray:
    """Average k frames, or keep a single one, and m x m pixels; NaN without values."""
    if k == m == 1:
        return values
    *lead, t, y, x = values.shape
    k = min(k, t)
    blocks = values.reshape(*lead, t // k, k, y // m, m, x // m, m)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # blocks without data are NaN
        mean: np.ndarray = np.nanmean(blocks, axis=(-5, -3, -1))
    return mean


def _turn(crop: np.ndarray, turns: int, flipped: bool) -> np.ndarray:
    """Turn and flip a square crop: the networks are to prefer no direction."""
    crop = np.rot90(crop, turns, axes=(-2, -1))
    if flipped:
        crop = crop[..., ::-1]
    return np.ascontiguousarray(crop, dtype=np.float32)
