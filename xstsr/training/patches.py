r"""Training examples: random events, places, factors, spacings and steps.

One example is a crop of a high-resolution event, averaged to a random spacing and step;
the coarse field is its block mean. So one model meets every factor at many physical
scales, and learns what the spacing and the step mean.

Examples are a pure function of (seed, step of training): a resumed run sees the same.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xstsr.diffusion.features import Factor
from xstsr.errors import DataError
from xstsr.training.events import Event

HELD_OUT_S = (7, 13, 20)  # never trained on: "any factor" is to be shown, not said
HELD_OUT_T = (5,)
_CANDIDATES = (
    6  # places looked at for each crop: rain is rare, and dry crops teach little
)


@dataclass(frozen=True)
class Draw:
    """How examples are drawn.

    Parameters
    ----------
    s, t : tuple of int
        Factors to train on.
    pixels : int
        Fine pixels per batch, about.
    side : int
        Fine pixels along a crop, about; large factors take `cells` coarse cells.
    cells : int
        Least number of coarse cells along a crop.
    frames : tuple of int
        Numbers of fine frames to draw from, about.
    coarsening, stride : tuple of int
        Factors by which the event is first averaged in space and in time.
    """

    s: tuple[int, ...] = tuple(s for s in range(1, 26) if s not in HELD_OUT_S)
    t: tuple[int, ...] = tuple(t for t in range(1, 7) if t not in HELD_OUT_T)
    pixels: int = 240_000
    side: int = 96
    cells: int = 6
    frames: tuple[int, ...] = (12, 12, 12, 18)
    coarsening: tuple[int, ...] = (1, 1, 1, 1, 2, 2, 3, 4)
    stride: tuple[int, ...] = (1, 1, 1, 2, 2, 3, 6)


@dataclass(frozen=True)
class Batch:
    """A batch of examples of one factor.

    Parameters
    ----------
    fine : Tensor, shape (B, T t, Y s, X s)
        Rates [mm h-1], NaN where there are no data.
    coarse : Tensor, shape (B, T, Y, X)
        Their block means; NaN where less than half of a block has data.
    factor : tuple of int
        (t, s, s).
    spacing, step : Tensor, shape (B,)
        Fine spacing [km] and step [min].
    """

    fine: Tensor
    coarse: Tensor
    factor: Factor
    spacing: Tensor
    step: Tensor


def draw_factor(rng: np.random.Generator, draw: Draw) -> Factor:
    """Draw (t, s, s), small s somewhat more often, never the identity."""
    weight = np.array([1 / math.sqrt(s) for s in draw.s])
    while True:
        s = int(rng.choice(draw.s, p=weight / weight.sum()))
        t = int(rng.choice(draw.t))
        if (s, t) != (1, 1) or (draw.s, draw.t) == ((1,), (1,)):
            return t, s, s


def draw_batch(events: Sequence[Event], seed: int, step: int, draw: Draw) -> Batch:
    """Draw the batch of one training step.

    Parameters
    ----------
    events : sequence of Event
        What to draw from; each event is as likely as the next.
    seed, step : int
        Together they fix the batch.
    draw : Draw
        Factors and sizes.
    """
    rng = np.random.default_rng([seed, step])
    factor = draw_factor(rng, draw)
    t, s, _ = factor
    side = s * max(round(draw.side / s), draw.cells if s > 1 else 1)
    frames = t * max(2, round(int(rng.choice(draw.frames)) / t))
    count = max(1, round(draw.pixels / (side * side * frames)))
    crops: list[np.ndarray] = []
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
        crop, m, k = found
        crops.append(_turn(crop, rng))
        spacings.append(event.spacing_km * m)
        steps.append(event.step_minutes * k)
    fine = torch.from_numpy(np.stack(crops))
    return Batch(
        fine,
        block_means(fine, factor),
        factor,
        torch.tensor(spacings, dtype=torch.float32),
        torch.tensor(steps, dtype=torch.float32),
    )


def _check_misses(
    misses: int, events: Sequence[Event], size: tuple[int, int, int]
) -> None:
    """Give up where no event can ever fill a crop."""
    if misses > 100 * len(events):
        shapes = {e.name: e.codes.shape for e in events}
        raise DataError(
            f"cannot draw training examples: no event holds a crop of {size} (time, y, "
            f"x) with data in half of it; they have {shapes}. Use longer or larger "
            "events, or smaller factors, side and frames in the configuration's [draw]."
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
) -> tuple[np.ndarray, int, int] | None:
    """Cut one crop, the wettest of a few places more often; None if it has no data.

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
        look = event.rates(at, (k * frames, m * side, m * side), every=(2, 7, 7))
        valid = float(np.isfinite(look).mean())
        places.append(at)
        rain = float(np.nan_to_num(look).mean())
        scores.append(0.01 + math.sqrt(rain) if valid >= 0.5 else 0.0)
    if not sum(scores):
        return None
    at = places[int(rng.choice(_CANDIDATES, p=np.array(scores) / sum(scores)))]
    whole = event.rates(at, (k * frames, m * side, m * side))
    return _average(whole, k, m), m, k


def _average(rates: np.ndarray, k: int, m: int) -> np.ndarray:
    """Average k frames and m x m pixels; NaN where no pixel is valid."""
    if k == m == 1:
        return rates
    t, y, x = rates.shape
    blocks = rates.reshape(t // k, k, y // m, m, x // m, m)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # blocks without data are NaN
        mean: np.ndarray = np.nanmean(blocks, axis=(1, 3, 5))
    return mean


def _turn(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn and flip a square crop: rain has no preferred direction."""
    crop = np.rot90(crop, int(rng.integers(4)), axes=(1, 2))
    if rng.integers(2):
        crop = crop[:, :, ::-1]
    return np.ascontiguousarray(crop, dtype=np.float32)
